"""Averages of an activation over the local fields, as tables over clusters and neurons.

The formulas are those of `quenched.theory.activations` (or, for an activation that is not there, of a module derived on
first use), compiled by `quenched.numerics.compiled.compile`.  A table entry whose indices coincide,
E[g'(lambda_1) g(lambda_1)], is the average over the one field that is left.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import combinations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quenched.numerics.averages.coincident_fields import TINY, consistent, distinct, relative_error, repeated
from quenched.numerics.compiled.cache import derived_module
from quenched.numerics.compiled.compile import callbacks, load_compiled, scalar_function
from quenched.numerics.compiled.derivation import NoSympyError
from quenched.numerics.problem.checks import expression_text
from quenched.symbolic.language.grammar import expression
from quenched.theory import activations as theory

__all__ = [
    "FIELD_LIMIT",
    "ORTHANT_ERROR",
    "PAIR_ERROR",
    "activation_functions",
    "activation_value",
    "averages",
    "compiled_activation",
    "constant_field_factor",
    "expanded",
    "fill_text",
    "fix_constant_fields",
    "index_sets",
    "patterns",
    "piecewise_linear",
    "step_error",
    "tables",
    "value_averages",
]

Array = NDArray[np.float64]

ORTHANT_ERROR = 1e-10  # of averages over three and four fields, relative to the size of the factors, where regular
PAIR_ERROR = 1e-13  # of averages over one and two fields, likewise
FIELD_LIMIT = 4  # the generated averages reach four distinct neurons


def averages(activation: str) -> theory.Averages:
    """The generated functions of an activation, derived on first use if it is not a built-in, however that is written.

    ValueError: what has no learning equations, a g with jumps included.

    >>> averages("relu").text, averages("Max(0, x)") is averages("relu")
    ('Max(x, 0)', True)
    """
    found = value_averages(activation)
    if found.places and "dg" not in found.places[0]:
        raise ValueError(f"activation {activation!r} jumps: its derivative, a delta, is not square-integrable")
    return found


def value_averages(activation: str) -> theory.Averages:
    """As `averages`; of a g with jumps, which may make labels or random features, those of g without derivatives.

    >>> value_averages("sign(x)").places
    ({'g': 0, 'g*g': 1}, {'g,g': 0})
    """
    return _found(expression_text(activation))


def _checked_in(name: str) -> theory.Averages | None:
    return theory.ACTIVATIONS.get(name) or theory.NAMED.get(name)


@lru_cache(maxsize=64)
def _found(activation: str) -> theory.Averages:
    """The averages of a name, or of an expression that a user wrote."""
    found = _checked_in(activation)
    if found is None or activation in theory.DERIVED:
        try:
            derived = derived_module("activation", expression(activation))
            found = _checked_in(derived.SAME) or derived.ACTIVATIONS["custom"]
        except NoSympyError:
            if found is None:
                raise
    if not found.groups:
        logging.getLogger(__name__).warning(
            "activation %s: its averages have no closed form; they are computed numerically, and the error reported",
            activation,
        )
    return found


def activation_functions(activation: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """g and g' as ufunc expressions: they take and return NumPy or CuPy arrays; g' at a kink is the mean of its sides.

    >>> g, dg = activation_functions("relu")
    >>> float(g(2.0)), float(dg(0.0))
    (2.0, 0.5)
    """
    found = averages(activation)
    return found.g, found.dg


def activation_value(activation: str) -> Callable[..., Any]:
    """g alone, which may have jumps: of a teacher, or of random features.

    >>> float(activation_value("sign(x)")(-2.0))
    -1.0
    """
    return value_averages(activation).g


def piecewise_linear(activation: str) -> tuple[Array, Array, Array] | None:
    """Kinks (n,), slopes (n + 1,) and intercepts (n + 1,) of a piecewise linear activation, else None.

    >>> piecewise_linear("abs")
    (array([0.]), array([-1.,  1.]), array([0., 0.]))
    """
    pieces = value_averages(activation).pieces
    if pieces is None:
        return None
    kinks, lines = pieces
    return np.array(kinks), np.array([m for m, _ in lines]), np.array([c for _, c in lines])


@lru_cache(maxsize=64)
def compiled_activation(activation: str) -> tuple[Any, Any]:
    """g and g' of one number as numba `cfunc`s: arguments of compiled loops, which need not be compiled for each anew.

    >>> g, dg = compiled_activation("relu")
    >>> g.ctypes(-2.0), dg.ctypes(0.0)
    (0.0, 0.5)
    """
    found = value_averages(activation)  # that of a teacher may jump
    g, dg = callbacks("activation", (found.g, found.dg))
    return g, dg


# --- compilation
# --------------------------------------------------------------------------------------------------------------

_FILL = """
@kept(error_model="numpy", nogil=True)
def fill_{label}(mean, covariance, subsets, flat, offset):
    values = empty({size})
    for a in range(mean.shape[0]):
        place = offset
        for s in range(subsets.shape[0]):
            {indices} = subsets[s]{before}
            {function}(
                values,
                (
                    {means},
                    {covariances},
                ),
            )
            for o in range({size}):
                flat[a, place + o] = values[o]
            place += {size}
"""
_RAISE = """
            factor = raised(
                mean[a, i], mean[a, j], covariance[a, i, i], covariance[a, i, j], covariance[a, j, j]
            )"""


def fill_text(groups: Mapping[str, tuple[int, Callable[..., Any]]]) -> list[str]:
    """Functions fill_LABEL(mean, covariance, subsets, flat, offset) for averages over n fields, {label: (n, function)}.

    They write the averages over each index set, one after the other, into flat[a, offset:].
    """
    parts = []
    for label, (n, function) in groups.items():
        text, size = scalar_function(function)
        index = "ijkl"[:n]
        variance = "covariance[a, {0}, {0}]" + (" * factor" if n == 2 else "")
        entries = [(p, q) for x, p in enumerate(index) for q in index[x:]]
        fill = _FILL.format(
            label=label,
            size=size,
            indices=", ".join(index) + ("," if n == 1 else ""),
            function=function.__name__,
            means=", ".join(f"mean[a, {i}]" for i in index),
            covariances=", ".join(variance.format(p) if p == q else f"covariance[a, {p}, {q}]" for p, q in entries),
            before=_RAISE if n == 2 else "",
        )
        parts += [text, fill]
    return parts


@lru_cache(maxsize=64)
def _compiled(activation: str) -> Any:
    """fill_1 .. fill_4, as far as there are averages."""
    groups = {str(n): (n, function) for n, function in enumerate(value_averages(activation).groups, start=1)}
    return load_compiled("averages", fill_text(groups))


# --- tables
# -------------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def index_sets(
    activation: str, K: int, limit: int
) -> tuple[tuple[NDArray[np.int64], ...], tuple[int, ...], dict[str, NDArray[np.int64]]]:
    """Index sets of 1..4 neurons, averages per set, and for each table where its entries stand among all of them."""
    found = value_averages(activation)
    subsets = tuple(
        np.array(list(combinations(range(K), n)), dtype=np.int64).reshape(-1, n) for n in range(1, limit + 1)
    )
    places = found.places[:limit]
    widths = tuple(max(index.values()) + 1 for index in places)
    offsets = np.cumsum([0, *(len(s) * w for s, w in zip(subsets, widths, strict=True))])
    position = [{tuple(row): i for i, row in enumerate(s.tolist())} for s in subsets]
    gather = {}
    for pattern in patterns(activation, limit):
        factors = pattern.split(",")
        targets = []
        for neurons in product(range(K), repeat=len(factors)):
            chosen = sorted(set(neurons))
            n = len(chosen)
            layout = ",".join(
                "*".join(sorted(f for f, k in zip(factors, neurons, strict=True) if k == c)) for c in chosen
            )
            row = position[n - 1][tuple(chosen)]
            targets.append(offsets[n - 1] + row * widths[n - 1] + places[n - 1][layout])
        gather[pattern] = np.array(targets, dtype=np.int64)
    return subsets, widths, gather


def patterns(activation: str, limit: int) -> list[str]:
    """The tables of up to `limit` factors: the layouts in which each factor has a field of its own.

    >>> patterns("relu", 2)
    ['ddg', 'ddg,g', 'dg', 'dg,dg', 'dg,g', 'g', 'g,g']
    """
    return _patterns(value_averages(activation), limit)


def _patterns(found: theory.Averages, limit: int) -> list[str]:
    places = found.places[:limit]
    return sorted({layout for index in places for layout in index if "*" not in layout and _canonical(layout)})


def _canonical(layout: str) -> bool:
    """Highest derivatives first: each table once."""
    orders = ["g", "dg", "ddg"]
    degrees = [orders.index(factor) for factor in layout.split(",")]
    return degrees == sorted(degrees, reverse=True)


@lru_cache(maxsize=256)
def _table_function(activation: str, K: int, limit: int, clusters: int) -> Callable[[Array, Array], dict[str, Array]]:
    """(mean, covariance) -> the tables in the order of `patterns`, each contiguous."""
    subsets, widths, places = index_sets(activation, K, limit)
    compiled = _compiled(activation)
    fills, width = [], 0
    for n, members in enumerate(subsets[:K], start=1):  # averages over more fields than there are are not compiled
        fills.append((getattr(compiled, f"fill_{n}"), n < 3, members, width))
        width += widths[n - 1] * len(members)
    start = width * np.arange(clusters)[:, None]
    index = np.concatenate([(start + place).ravel() for place in places.values()])
    shapes = [(name, (clusters,) + (K,) * (name.count(",") + 1)) for name in places]
    ends = np.cumsum([0, *(math.prod(shape) for _, shape in shapes)]).tolist()
    parts = [(name, slice(*ends[n : n + 2]), shape) for n, (name, shape) in enumerate(shapes)]

    def evaluate(mean: Array, covariance: Array) -> dict[str, Array]:
        means, given, regular = consistent(mean, covariance)
        flat = np.empty((clusters, width))
        for fill, pairs, members, offset in fills:
            fill(means, given if pairs else regular, members, flat, offset)
        entries = flat.take(index)
        return {name: entries[part].reshape(shape) for name, part, shape in parts}

    return evaluate


def tables(activation: str, mean: Array, covariance: Array, limit: int = FIELD_LIMIT) -> dict[str, Array]:
    """Averages of products of g, g', g'' for every choice of neurons.

    For fields lambda | a ~ N(mean[a], covariance[a]), mean (C, K) and covariance (C, K, K), the table "dg,g" has
    entries [a, k, i] = E_a[g'(lambda_k) g(lambda_i)], and so on for the averages of up to `limit` factors that the
    learning equations contain.  Singular covariances are allowed.
    Formulas: `quenched.theory.activations`, derived in symbolic/activations.py.
    """
    mean, covariance = (np.ascontiguousarray(x, dtype=np.float64) for x in (mean, covariance))
    if repeated(mean, covariance):
        kept, place = distinct(mean, covariance)
        merged = tables(activation, mean[:, kept], covariance[:, kept[:, None], kept], limit)
        return {pattern: expanded(table, place) for pattern, table in merged.items()}
    most = min(2 if limit <= 2 else FIELD_LIMIT, len(value_averages(activation).places))
    found = _table_function(activation, mean.shape[1], most, len(mean))(mean, covariance)
    if "dg,dg" in found:
        fix_constant_fields(found, constant_field_factor(activation, mean, covariance))
    return found if limit >= most else {name: found[name] for name in found if name.count(",") < limit}


def constant_field_factor(activation: str, mean: Array, covariance: Array) -> Array:
    """What turns E[g'^2] of a field without variance, a limit of small ones, into g'(m)^2, for each field.

    At a kink g' is the mean of both sides; a small variance takes either, and E[g'^2] is the mean of both squares.
    """
    constant = covariance.diagonal(axis1=1, axis2=2) == 0
    factor = np.ones_like(mean)
    if constant.any():
        found = value_averages(activation)
        at = mean[constant]
        limit = np.broadcast_to(found.groups[0](at, TINY)[found.places[0]["dg*dg"]], at.shape)
        factor[constant] = np.divide(found.dg(at) ** 2, limit, out=np.ones_like(at), where=limit > 0)
    return factor


def fix_constant_fields(found: dict[str, Array], factor: Array) -> None:
    """Multiply E[g'(lambda_k) g'(lambda_k) ..] by `factor` (C, K), in place."""
    diagonal = np.arange(factor.shape[1])
    for pattern, table in found.items():
        if pattern.startswith("dg,dg") and (factor != 1).any():
            table[:, diagonal, diagonal] *= factor.reshape(factor.shape + (1,) * (table.ndim - 3))


def step_error(
    found: Mapping[str, Array], mean: Array, covariance: Array, output: Array, rest: Array, limit: int
) -> float:
    """The scale of the error of the averages of one step, from tables of up to `limit` factors.

    An estimate, neither a bound nor a standard error: rounding and the error of the normal probabilities, as relative
    errors, times the largest of what is averaged: it grows with the state.  Several may add up, or most may cancel.
    Sizes are root mean squares: of lambda, g and g' of each field, of the residual phi - y of at most `rest` + sum_k
    |output_k| g_k, and of push_k = output_k g'_k (phi - y).  mean (C, K), covariance (C, K, K), output (K,) = s v;
    rest (C,): the size of what the residual has beside the fields, such as labels and their noise, and an intercept.
    """
    relative = (ORTHANT_ERROR if limit > 2 else PAIR_ERROR) + relative_error(mean, covariance, limit)
    g, dg = (np.sqrt(np.maximum(np.einsum("akk->ak", found[f"{f},{f}"]), 0)) for f in ("g", "dg"))
    field = np.sqrt(np.einsum("akk->ak", covariance) + mean**2).max()
    residual = rest + g @ np.abs(output)
    push = (np.abs(output) * dg).max() * residual.max()
    return float(relative * max(1.0, push * max(1.0, field, push), residual.max() * max(1.0, g.max())))


def expanded(table: Array, place: NDArray[np.int64]) -> Array:
    """The table (C, K, ..) of all fields from that of the distinct ones (`coincident_fields.distinct`)."""
    return table[np.ix_(np.arange(len(table)), *[place] * (table.ndim - 1))]
