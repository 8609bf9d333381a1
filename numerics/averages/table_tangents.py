"""How the tables of averages change along directions of the means and covariances of the fields, exactly.

The gradients are those of `quenched.theory.gradients`, by Price's theorem (symbolic/calculus/gradients.py), of the
averages over the fields of one activation and of those across a network and its teacher.  A teacher's fields alone do
not change.

Where two fields are parallel, averages have kinks as functions of the angle between them.  Covariances are therefore
raised by 2^-51 on the diagonal, which rounds off kinks on a scale of 1e-8 in the angle: the tangent is then the mean of
those on both sides, to 1e-8.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quenched.numerics.averages.activations import FIELD_LIMIT, index_sets
from quenched.numerics.averages.coincident_fields import regularised
from quenched.numerics.averages.teacher_averages import closes, scatter
from quenched.numerics.compiled.cache import derived_module
from quenched.numerics.compiled.compile import load_compiled, scalar_function
from quenched.numerics.problem.checks import expression_text
from quenched.symbolic.language.grammar import expression
from quenched.theory import gradients as theory

__all__ = ["across_tangents", "smooth_across", "table_tangents"]

Array = NDArray[np.float64]
Gradient = Callable[..., tuple[float, ...]]

_FILL = """
@kept(error_model="numpy", nogil=True)
def tangent_{label}(mean, covariance, subsets, mean_z, covariance_z, out):
    gradient = empty({size})
    for a in range(mean.shape[0]):
        for s in range(subsets.shape[0]):
            {indices} = subsets[s]
            {function}(
                gradient,
                (
                    {arguments},
                ),
            )
            for o in range(out.shape[2]):
                for z in range(out.shape[3]):
                    out[a, s, o, z] = (
                        {terms}
                    )
"""


def _gradients(activation: str) -> tuple[Gradient, ...]:
    """The generated gradients of an activation, derived on first use if it is not a built-in."""
    name = expression_text(activation)
    return theory.GRADIENTS[name] if name in theory.GRADIENTS else _derived(name)


@lru_cache(maxsize=64)
def _derived(activation: str) -> tuple[Gradient, ...]:
    found: tuple[Gradient, ...] = derived_module("gradients", expression(activation), "--gradients").GRADIENTS["custom"]
    return found


@lru_cache(maxsize=64)
def _across(student: str, teacher: str) -> dict[tuple[int, int], Gradient]:
    """The gradients of the averages across so many fields of each; none if they are not in closed form."""
    one, other = (expression(expression_text(activation)) for activation in (student, teacher))
    module = derived_module("across", one, "--teacher", other, "--gradients")
    found: dict[tuple[int, int], Gradient] = module.GRADIENTS
    return found


def _loops(function: Gradient, label: str, n: int, fixed: int = 0) -> list[str]:
    """The text of tangent_LABEL over n fields, of which the last `fixed` do not change, and of what it calls."""
    text, size = scalar_function(function)
    index = "ijkl"[:n]
    pairs = [(p, q) for x, p in enumerate(index) for q in index[x:]]
    arguments = [f"mean[a, {i}]" for i in index] + [f"covariance[a, {p}, {q}]" for p, q in pairs]
    moving = index[: n - fixed]
    moved = [f"mean_z[a, {i}, z]" for i in moving]
    moved += [f"covariance_z[a, {p}, {q}, z]" for p, q in pairs if p in moving]
    fill = _FILL.format(
        label=label,
        size=size,
        indices=", ".join(index) + ("," if n == 1 else ""),
        function=function.__name__,
        arguments=", ".join(arguments),
        terms=" + ".join(f"gradient[{len(moved)} * o + {t}] * {term}" for t, term in enumerate(moved)),
    )
    return [text, fill]


@lru_cache(maxsize=64)
def _compiled(activation: str, n: int) -> Any:
    """The compiled tangent over n fields."""
    made = load_compiled("gradients", _loops(_gradients(activation)[n - 1], str(n), n))
    return getattr(made, f"tangent_{n}")


@lru_cache(maxsize=64)
def _compiled_across(student: str, teacher: str, kind: tuple[int, int]) -> Any:
    """The compiled tangent over so many fields of each."""
    label = f"{kind[0]}_{kind[1]}"
    loops = _loops(_across(student, teacher)[kind], label, sum(kind), kind[1])
    return getattr(load_compiled("teacher_gradients", loops), f"tangent_{label}")


def smooth_across(student: str, teacher: str) -> bool:
    """Whether the averages across the two and their gradients are in closed form."""
    return closes(student, teacher) and bool(_across(student, teacher))


def table_tangents(
    activation: str, mean: Array, covariance: Array, mean_z: Array, covariance_z: Array, limit: int = FIELD_LIMIT
) -> dict[str, Array]:
    """How the tables of averages (`averages.tables`) change along directions z of means and covariances.

    mean_z (C, K, Z), covariance_z (C, K, K, Z) symmetric in its neurons; the tables have Z as an additional last index.
    """
    clusters, K = mean.shape
    directions = mean_z.shape[-1]
    subsets, widths, gather = index_sets(activation, K, limit)
    mean, covariance, mean_z, covariance_z = (
        np.ascontiguousarray(x, dtype=np.float64) for x in (mean, covariance, mean_z, covariance_z)
    )
    regular = regularised(covariance)
    flat = []
    for n, (members, width) in enumerate(zip(subsets, widths, strict=True), start=1):
        out = np.empty((clusters, len(members), width, directions))
        if len(members):
            _compiled(activation, n)(mean, regular, members, mean_z, covariance_z, out)
        flat.append(out.reshape(clusters, -1, directions))
    values = np.concatenate(flat, axis=1)
    return {
        pattern: values[:, index].reshape((clusters,) + (K,) * (pattern.count(",") + 1) + (directions,))
        for pattern, index in gather.items()
    }


def across_tangents(
    student: str, teacher: str, K: int, mean: Array, covariance: Array, mean_z: Array, covariance_z: Array, limit: int
) -> dict[str, Array]:
    """The same for `teacher_averages.tables_across`: N fields, the first K of the network, the rest of its teacher.

    mean_z (C, N, Z), covariance_z (C, N, N, Z), 0 where a teacher's neurons are alone.
    """
    clusters, N, directions = mean_z.shape
    sets, entries = scatter(student, teacher, K, N - K, limit)
    mean, covariance, mean_z, covariance_z = (
        np.ascontiguousarray(x, dtype=np.float64) for x in (mean, covariance, mean_z, covariance_z)
    )
    regular = regularised(covariance)
    flat = []
    for kind, (members, width) in sets.items():
        out = np.empty((clusters, len(members), width, directions))
        if len(members):
            _compiled_across(student, teacher, kind)(mean, regular, members, mean_z, covariance_z, out)
        flat.append(out.reshape(clusters, -1, directions))
    values = np.concatenate(flat, axis=1)
    own = mean[:, :K], covariance[:, :K, :K], mean_z[:, :K], covariance_z[:, :K, :K]
    found = {}
    for pattern, inside in table_tangents(student, *own, limit).items():
        targets, sources = entries[pattern]
        factors = inside.ndim - 2
        table = np.zeros((clusters, N**factors, directions))
        table[:, targets] = values[:, sources]
        table = table.reshape((clusters,) + (N,) * factors + (directions,))
        table[(slice(None),) + (slice(K),) * factors] = inside
        found[pattern] = table
    return found
