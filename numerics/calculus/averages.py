"""Averages of an activation over the local fields, as tables over clusters and neurons.

The formulas are those of `quenched.theory.activations` (or, for an activation that is not there, of a module derived on
first use).  This module compiles them: the text of the generated functions, with Phi_n taken from
`quenched.numerics.calculus.orthant` and the regressions done in doubled precision, is compiled once and kept in the
user's cache (`quenched.numerics.calculus.cache`).  A table entry whose indices coincide, E[g'(lambda_1) g(lambda_1)],
is the average over the one field that is left.
"""

from __future__ import annotations

import ast
import logging
from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import combinations, product
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quenched.numerics.calculus.cache import derived_module, module
from quenched.numerics.calculus.coincident_fields import TINY, consistent, distinct, relative_error
from quenched.numerics.calculus.precision import float_source
from quenched.numerics.problem.checks import expression_text
from quenched.theory import activations as theory
from quenched.theory.functions import FUNCTIONS

__all__ = [
    "FIELD_LIMIT",
    "ORTHANT_ERROR",
    "PAIR_ERROR",
    "activation_functions",
    "activation_value",
    "averages",
    "compiled_activation",
    "compiled_functions",
    "compiled_text",
    "constant_field_factor",
    "expanded",
    "fix_constant_fields",
    "patterns",
    "piecewise_linear",
    "step_error",
    "tables",
    "value_averages",
]

Array = NDArray[np.float64]

PARALLEL = 1 - 4e-16  # two fields of a larger correlation are parallel; it is known up to rounding
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
    name = expression_text(activation)
    return theory.ACTIVATIONS[name] if name in theory.ACTIVATIONS else _derived(name)


@lru_cache(maxsize=64)
def _derived(activation: str) -> theory.Averages:
    """The averages of an expression that a user wrote."""
    derived = derived_module("activation", activation)
    if derived.SAME:
        return theory.ACTIVATIONS[derived.SAME]
    found: theory.Averages = derived.ACTIVATIONS["custom"]
    if not found.groups:
        logging.getLogger(__name__).warning(
            "activation %s: its averages have no closed form; quasi-Monte Carlo is used, and its error reported",
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


# --- compilation
# --------------------------------------------------------------------------------------------------------------

_PRELUDE = '''"""Compiled form of averages, written by quenched.numerics.calculus.averages."""

from math import erf, erfc
from numpy import cos, exp, pi, sin, sqrt
from numba import njit
from quenched.numerics.calculus.compile import njit as kept
from quenched.numerics.calculus.double_double import minus, over, plus, remainder, residual, times
from quenched.numerics.calculus.orthant import Phi, Phi2, Phi3, Phi4


@njit(error_model="numpy")
def Phi2_of_pair(h, k, r):
    return Phi2(h, k, r if abs(r) < {parallel} else (1.0 if r > 0.0 else -1.0))


@njit(error_model="numpy")
def raised(m0, m1, c00, c01, c11):
    """Factor on the variances of two fields: above 1 if they are parallel up to rounding, but not exactly.

    Each is then a different function of the other, on a scale below that of rounding; independent noise of relative
    variance 2^-50 makes them fields of one law again, at a cost of 1e-8.
    """
    if c01 * c01 < (1.0 - 2e-15) * (c00 * c11):
        return 1.0
    a, b = (c01, 0.0), (c00, 0.0)
    if residual((c11, 0.0), a, a, b)[0] == 0.0 and residual((m1, 0.0), a, (m0, 0.0), b)[0] == 0.0:
        return 1.0
    return max(1.0, abs(c01) / sqrt(c00 * c11)) * (1.0 + {noise})


'''
_FILL = """
@kept(error_model="numpy", nogil=True)
def fill_{label}(mean, covariance, subsets, out):
    for a in range(mean.shape[0]):
        for s in range(subsets.shape[0]):
            {indices} = subsets[s]{before}
            values = {function}(
                {means},
                {covariances},
            )
            for o, value in enumerate(values):
                out[a, s, o] = value
"""
_RAISE = """
            factor = raised(
                mean[a, i], mean[a, j], covariance[a, i, i], covariance[a, i, j], covariance[a, j, j]
            )"""


_PAIRWISE: dict[type[ast.operator], str] = {ast.Add: "plus", ast.Sub: "minus", ast.Mult: "times", ast.Div: "over"}


class _DoubledRegression(ast.NodeTransformer):
    """Carry regressions (`residual`, `remainder`) as pairs (value, rounding error), named `..._`; all else uses the
    value.

    A field that nearly lies in the span of others leaves a residual as small as the rounding errors of its covariance:
    what the next regression divides by must still be right to several digits.  So must c - c^2/(c + 1) of a wide field,
    and the distance of a mean from a kink, which standardised limits h = (mean - kink)/sqrt(variance) divide by it.
    """

    def __init__(self) -> None:
        self.pairs: set[str] = set()

    def _pair(self, node: ast.expr) -> ast.expr:
        if isinstance(node, ast.Name) and node.id in self.pairs:
            return ast.Name(node.id + "_", ast.Load())
        if isinstance(node, ast.BinOp) and type(node.op) in _PAIRWISE:
            name = _PAIRWISE[type(node.op)]
            return ast.Call(ast.Name(name, ast.Load()), [self._pair(node.left), self._pair(node.right)], [])
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            zero: ast.expr = ast.Tuple([ast.Constant(0.0), ast.Constant(0.0)], ast.Load())
            return ast.Call(ast.Name("minus", ast.Load()), [zero, self._pair(node.operand)], [])
        return ast.Tuple([node, ast.Constant(0.0)], ast.Load())

    @staticmethod
    def _value(pair: ast.expr) -> ast.expr:
        return ast.Subscript(pair, ast.Constant(0), ast.Load())

    def visit_Assign(self, node: ast.Assign) -> Any:
        call = node.value
        if isinstance(call, ast.BinOp) and isinstance(call.op, ast.Div) and _is_root(call.right):
            if any(isinstance(name, ast.Name) and name.id in self.pairs for name in ast.walk(call.left)):
                call.left = self._value(self._pair(call.left))
            return node
        if not (
            isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in ("residual", "remainder")
        ):
            return node
        (target,) = node.targets
        assert isinstance(target, ast.Name)
        call.args = [self._pair(argument) for argument in call.args]
        self.pairs.add(target.id)
        pair = ast.Assign([ast.Name(target.id + "_", ast.Store())], call)
        value = ast.Assign([target], self._value(ast.Name(target.id + "_", ast.Load())))
        return [pair, value]

    def visit_Return(self, node: ast.Return) -> ast.Return:
        """All elements as floats: the compiler wants tuples of one type."""
        assert isinstance(node.value, ast.Tuple)
        node.value.elts = [ast.Call(ast.Name("float", ast.Load()), [element], []) for element in node.value.elts]
        return node


def _is_root(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "sqrt"


def compiled_text(groups: Mapping[str, tuple[int, Callable[..., Any]]]) -> str:
    """A module with fill_LABEL(mean, covariance, subsets, out) for functions of n fields, {label: (n, function)}."""
    parts = [_PRELUDE.format(parallel=PARALLEL, noise=2.0**-50)]
    for label, (n, function) in groups.items():
        tree = ast.parse(float_source(function))
        definition = tree.body[0]
        assert isinstance(definition, ast.FunctionDef)
        definition.returns = None
        for argument in definition.args.args:
            argument.annotation = None
        definition.decorator_list = [ast.parse('njit(error_model="numpy")', mode="eval").body]
        definition.body = definition.body[1:]  # the docstring
        _DoubledRegression().visit(tree)
        if n == 2:
            for node in ast.walk(tree):
                if isinstance(node, ast.Name) and node.id == "Phi2":
                    node.id = "Phi2_of_pair"
        parts.append(ast.unparse(ast.fix_missing_locations(tree)) + "\n\n")
        index = "ijkl"[:n]
        variance = "covariance[a, {0}, {0}]" + (" * factor" if n == 2 else "")
        entries = [(p, q) for x, p in enumerate(index) for q in index[x:]]
        parts.append(
            _FILL.format(
                label=label,
                indices=", ".join(index) + ("," if n == 1 else ""),
                function=function.__name__,
                means=", ".join(f"mean[a, {i}]" for i in index),
                covariances=", ".join(variance.format(p) if p == q else f"covariance[a, {p}, {q}]" for p, q in entries),
                before=_RAISE if n == 2 else "",
            )
        )
    return "\n".join(parts)


@lru_cache(maxsize=64)
def _compiled(activation: str) -> ModuleType:
    """The compiled module of an activation: fill_1 .. fill_4."""
    groups = {str(n): (n, function) for n, function in enumerate(value_averages(activation).groups, start=1)}
    return module(compiled_text(groups), "averages")


_SCALAR = (
    '''"""Compiled form of functions of numbers, written by quenched.numerics.calculus.averages."""

from numpy import pi
from numba import njit
from quenched.numerics.calculus.compile import callback
'''
    + "".join(function.compiled for function in FUNCTIONS.values())
    + "\n\n"
)


@lru_cache(maxsize=64)
def compiled_activation(activation: str) -> tuple[Any, Any]:
    """g and g' of one number as numba's C callbacks: arguments of compiled loops, which need not be compiled anew.

    >>> g, dg = compiled_activation("relu")
    >>> g.ctypes(-2.0), dg.ctypes(0.0)
    (0.0, 0.5)
    """
    found = averages(activation)
    g, dg = compiled_functions(found.g, found.dg)
    return g, dg


def compiled_functions(*functions: Callable[..., Any]) -> list[Any]:
    """Generated functions of numbers as numba's C callbacks."""
    sources = []
    for function in functions:
        arguments = ", ".join(["float64"] * function.__code__.co_argcount)
        sources.append(f'@callback("float64({arguments})", error_model="numpy")\n{float_source(function)}')
    compiled = module(_SCALAR + "\n\n".join(sources), "functions")
    return [getattr(compiled, function.__name__) for function in functions]


# --- tables
# -------------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def _gather(
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
    places = value_averages(activation).places[:limit]
    return sorted({layout for index in places for layout in index if "*" not in layout and _canonical(layout)})


def _canonical(layout: str) -> bool:
    """Highest derivatives first: each table once."""
    orders = ["g", "dg", "ddg"]
    degrees = [orders.index(factor) for factor in layout.split(",")]
    return degrees == sorted(degrees, reverse=True)


def tables(activation: str, mean: Array, covariance: Array, limit: int = FIELD_LIMIT) -> dict[str, Array]:
    """Averages of products of g, g', g'' for every choice of neurons.

    For fields lambda | a ~ N(mean[a], covariance[a]), mean (C, K) and covariance (C, K, K), the table "dg,g" has
    entries [a, k, i] = E_a[g'(lambda_k) g(lambda_i)], and so on for the averages of up to `limit` factors that the
    learning equations contain.  Singular covariances are allowed.
     Formulas: `quenched.theory.activations`, derived in symbolic/activations.py.
    """
    mean, covariance = (np.ascontiguousarray(part, dtype=np.float64) for part in (mean, covariance))
    kept, place = distinct(mean, covariance)
    if len(kept) < len(place):
        merged = tables(activation, mean[:, kept], covariance[:, kept[:, None], kept], limit)
        return {pattern: expanded(table, place) for pattern, table in merged.items()}
    clusters, K = mean.shape
    compiled = _compiled(activation)
    subsets, widths, gather = _gather(activation, K, limit)
    mean, given, regular = consistent(mean, covariance)
    flat = []
    for n, (members, width) in enumerate(zip(subsets, widths, strict=True), start=1):
        out = np.empty((clusters, len(members), width))
        if len(members):
            getattr(compiled, f"fill_{n}")(mean, given if n < 3 else regular, members, out)
        flat.append(out.reshape(clusters, -1))
    values = np.concatenate(flat, axis=1)
    found = {
        pattern: values[:, index].reshape((clusters,) + (K,) * (pattern.count(",") + 1))
        for pattern, index in gather.items()
    }
    if "dg,dg" in found:
        fix_constant_fields(found, constant_field_factor(activation, mean, covariance))
    return found


def constant_field_factor(activation: str, mean: Array, covariance: Array) -> Array:
    """What turns E[g'^2] of a field without variance, a limit of small ones, into g'(m)^2, for each field.

    At a kink g' is the mean of both sides; a small variance takes either, and E[g'^2] is the mean of both squares.
    """
    constant = np.einsum("akk->ak", covariance) == 0
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
    found: Mapping[str, Array], mean: Array, covariance: Array, output: Array, labels: Array, limit: int
) -> float:
    """Error of the averages of one step, from tables of up to `limit` factors: it grows with the state.

    Relative to the sizes of what is averaged, as root mean squares: lambda, g and g' of each field, the residual
    phi - y of at most |y| + sum_k |output_k| g_k, and push_k = output_k g'_k (phi - y).  mean (C, K), covariance
    (C, K, K), output (K,) = s v, labels (C,).
    """
    relative = (ORTHANT_ERROR if limit > 2 else PAIR_ERROR) + relative_error(mean, covariance)
    g, dg = (np.sqrt(np.maximum(np.einsum("akk->ak", found[f"{f},{f}"]), 0)) for f in ("g", "dg"))
    field = np.sqrt(np.einsum("akk->ak", covariance) + mean**2).max()
    residual = np.abs(labels) + g @ np.abs(output)
    push = (np.abs(output) * dg).max() * residual.max()
    return float(relative * max(1.0, push * max(1.0, field, push), residual.max() * g.max()))


def expanded(table: Array, place: NDArray[np.int64]) -> Array:
    """The table (C, K, ..) of all fields from that of the distinct ones (`coincident_fields.distinct`)."""
    return table[np.ix_(np.arange(len(table)), *[place] * (table.ndim - 1))]
