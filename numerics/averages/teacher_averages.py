"""Averages over the fields of a network and of a teacher with another activation, as tables over all neurons.

Those over fields of one kind are in the tables of its activation.  Those across the two are derived when a pair is used
first (symbolic/learners/teachers.py) and compiled like the others.  What the learning equations of a teacher that does
not learn have no use for, such as E[g*'(nu) g(lambda)], is left 0.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations, product
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quenched.numerics.averages import activations as own
from quenched.numerics.averages.coincident_fields import consistent, distinct
from quenched.numerics.compiled.cache import derived_module
from quenched.numerics.compiled.compile import load_compiled
from quenched.numerics.problem.checks import expression_text
from quenched.symbolic.language.grammar import expression

__all__ = ["closes", "scatter", "tables_across"]

Array = NDArray[np.float64]
Index = NDArray[np.int64]


def _module(student: str, teacher: str) -> Any:
    one, other = (expression(expression_text(activation)) for activation in (student, teacher))
    return derived_module("across", one, "--teacher", other).ACROSS


def closes(student: str, teacher: str) -> bool:
    """Whether all averages over both are in closed form.

    >>> closes("erf", "tanh")
    False
    """
    both = own.averages(student).groups and own.value_averages(teacher).groups
    return bool(both and _module(student, teacher).groups)


@lru_cache(maxsize=64)
def _compiled(student: str, teacher: str) -> ModuleType:
    """The compiled averages across the two."""
    found = _module(student, teacher)
    groups = {f"{s}_{t}": (s + t, function) for (s, t), function in zip(found.kinds, found.groups, strict=True)}
    return load_compiled("teacher_averages", own.fill_text(groups))


@lru_cache(maxsize=64)
def scatter(
    student: str, teacher: str, K: int, m: int, limit: int
) -> tuple[dict[tuple[int, int], tuple[Index, int]], dict[str, tuple[Index, Index]]]:
    """For each kind, index sets of neurons and averages per set; for each table, entries and where they come from."""
    found = _module(student, teacher)
    sets: dict[tuple[int, int], tuple[Index, int]] = {}
    position: dict[tuple[int, ...], tuple[int, dict[str, int]]] = {}
    offset = 0
    for (s, t), places in zip(found.kinds, found.places, strict=True):
        if s + t > limit:
            continue
        chosen = [a + b for a in combinations(range(K), s) for b in combinations(range(K, K + m), t)]
        width = max(places.values()) + 1
        for row, neurons in enumerate(chosen):
            position[neurons] = offset + row * width, places
        sets[s, t] = np.array(chosen, dtype=np.int64).reshape(-1, s + t), width
        offset += len(chosen) * width
    entries: dict[str, tuple[Index, Index]] = {}
    for pattern in own.patterns(student, limit):
        factors = pattern.split(",")
        targets, sources = [], []
        for flat, neurons in enumerate(product(range(K + m), repeat=len(factors))):
            together = tuple(sorted(set(neurons)))
            if together not in position:
                continue
            layout = ",".join(
                "*".join(sorted(f for f, n in zip(factors, neurons, strict=True) if n == c)) for c in together
            )
            start, places = position[together]
            if layout in places:
                targets.append(flat)
                sources.append(start + places[layout])
        entries[pattern] = np.array(targets, dtype=np.int64), np.array(sources, dtype=np.int64)
    return sets, entries


def tables_across(
    student: str, teacher: str, K: int, mean: Array, covariance: Array, limit: int = own.FIELD_LIMIT
) -> dict[str, Array]:
    """The tables of `averages.tables` for N = K + m fields, the first K of the network and the rest of its teacher.

    mean (C, N) and covariance (C, N, N), which may be singular.
    """
    mean, covariance = (np.ascontiguousarray(part, dtype=np.float64) for part in (mean, covariance))
    clusters, N = mean.shape
    kept, place = distinct(mean[:, :K], covariance[:, :K, :K])
    other_kept, other_place = distinct(mean[:, K:], covariance[:, K:, K:])
    if len(kept) + len(other_kept) < N:
        chosen, places = np.concatenate([kept, K + other_kept]), np.concatenate([place, len(kept) + other_place])
        merged = tables_across(
            student, teacher, len(kept), mean[:, chosen], covariance[:, chosen[:, None], chosen], limit
        )
        return {pattern: own.expanded(table, places) for pattern, table in merged.items()}
    sets, entries = scatter(student, teacher, K, N - K, limit)
    compiled = _compiled(student, teacher)
    mean, given, regular = consistent(mean, covariance)
    values = np.empty((clusters, sum(len(members) * width for members, width in sets.values())))
    offset = 0
    for (s, t), (members, width) in sets.items():
        if len(members):  # a function that is not called is not compiled
            fill = getattr(compiled, f"fill_{s}_{t}")
            fill(mean, given if members.shape[1] < 3 else regular, members, values, offset)
        offset += len(members) * width
    taught = own.tables(teacher, mean[:, K:], covariance[:, K:, K:], limit=2)
    factor = np.ones_like(mean)
    factor[:, :K] = own.constant_field_factor(student, mean[:, :K], covariance[:, :K, :K])
    found = {}
    for pattern, inside in own.tables(student, mean[:, :K], covariance[:, :K, :K], limit).items():
        targets, sources = entries[pattern]
        table = np.zeros((clusters, N ** (inside.ndim - 1)))
        table[:, targets] = values[:, sources]
        table = table.reshape((clusters,) + (N,) * (inside.ndim - 1))
        own.fix_constant_fields({pattern: table}, factor)
        table[(slice(None),) + (slice(K),) * (inside.ndim - 1)] = inside
        if pattern in ("g", "g,g"):
            table[(slice(None),) + (slice(K, None),) * (inside.ndim - 1)] = taught[pattern]
        found[pattern] = table
    return found
