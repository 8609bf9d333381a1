"""The TOML files that describe a sweep."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from quenched.numerics.problem.checks import integer, number
from quenched.numerics.problem.checks import path as checked_path
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.named_mixtures import NAMED
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.rules import OnlineSGD
from quenched.sim.sweeps import Sweep

__all__ = ["read_spec"]

# What a table of the specification may hold, and how deep an array a value is: one level more is an axis of the grid.
_MEANS = {"means": 2, "labels": 1, "weights": 1, "sigma": 0, "scaling": 0}
_NETWORK = {field.name: 0 for field in fields(TwoLayer)}
_RULE = {field.name: int(field.name == "frozen") for field in fields(OnlineSGD)}
_NEEDED = ("mixture", "network", "rule", "D", "seeds", "t")
_OPTIONS = tuple(field.name for field in fields(Sweep))[len(_NEEDED) :]


def read_spec(path: str | os.PathLike[str]) -> Sweep:
    """The sweep that a TOML file describes; nothing in it is evaluated.

        D = [100, 10000]                                  # integers, or { first, number }
        seeds = { first = 0, number = 8 }                 # or the seeds themselves, or how many of them from 0 on
        t = { first = 0, last = 20, number = 5 }          # or the times themselves
        mixture = [{ kind = "xor", sigma = [0.3, 0.5] }]  # a name of named_mixtures, or "means"
        network = [{ K = [2, 4], activation = "relu" }]   # a list where one value is due spans an axis
        rule = [{ lr = 0.5 }, { lr = "0.5/(1 + t)" }]     # or a table, lr = [[0, 0.5], [10, 0.05]]

    Also `engine`, `test_samples`, `initial`, `readout_scale`, `batch` as in `Sweep`.  Each table may
    have a `name`, and may be written as a section [[mixture]].

    ValueError: what cannot be read, is not known or is missing, with its place.
    """
    try:
        given = tomllib.loads(checked_path("path", path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ValueError(f"spec must be a TOML file, got {str(path)!r}: {error}") from error
    _known("spec", given, (*_NEEDED, *_OPTIONS))
    for name in _NEEDED:
        if name not in given:
            raise ValueError(f"spec must have {name}, got only {', '.join(given) or 'nothing'}")
    networks = _records("network", given, lambda table: (TwoLayer, _NETWORK, table.get("activation", "")))
    return Sweep(
        _records("mixture", given, _kind),
        networks,
        _records("rule", given, lambda table: (OnlineSGD, _RULE, "sgd")),
        D=_integers("D", given["D"]),
        seeds=_integers("seeds", given["seeds"]),
        t=_times(given["t"]),
        **{name: given[name] for name in _OPTIONS if name in given},
    )


def _kind(table: Mapping[str, Any]) -> tuple[Callable[..., Any], dict[str, int], str]:
    """The constructor of the mixture of a table, the depths of its values, and its name."""
    kind = table.get("kind")
    if kind == "means":
        return Mixture, _MEANS, kind
    if not isinstance(kind, str) or kind not in NAMED:
        raise ValueError(f"mixture.kind must be one of {', '.join(NAMED)}, means, got {kind!r}")
    return NAMED[kind].build, NAMED[kind].parameters, kind


def _records(
    name: str,
    given: Mapping[str, Any],
    kind: Callable[[Mapping[str, Any]], tuple[Callable[..., Any], dict[str, int], str]],
) -> dict[str, Any]:
    """The records of the tables [[name]], each spanned by its lists, called by what varies in it."""
    tables, found = given[name], {}
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ValueError(f"{name} must be tables [[{name}]], got {tables!r}")
    for table in tables:
        make, depths, title = kind(table)
        _known(name, table, [*depths, "name", *(["kind"] if name == "mixture" else [])])
        axes = {key: _axis(table[key], depth) for key, depth in depths.items() if key in table}
        for values in product(*axes.values()):
            one = dict(zip(axes, values, strict=True))
            varied = [f"{key}={value}" for key, value in one.items() if len(axes[key]) > 1]
            label = " ".join([str(table.get("name", title)), *varied])
            if label in found:
                raise ValueError(f"{name} must have different names, got {label!r} twice: set `name` in its table")
            try:
                found[label] = make(**one)
            except TypeError as error:  # something is missing
                raise ValueError(f"{name} {label!r}: {error}") from error
    return found


def _axis(value: Any, depth: int) -> list[Any]:
    """A value that is an array of `depth` levels, or a list of such values."""
    inner, levels = value, 0
    while isinstance(inner, list) and inner:
        inner, levels = inner[0], levels + 1
    return value if levels == depth + 1 else [value]


def _known(name: str, table: Mapping[str, Any], allowed: Iterable[str]) -> None:
    if unknown := sorted(set(table) - set(allowed)):
        raise ValueError(f"{name} has the unknown {unknown[0]!r}; it may have {', '.join(allowed)}")


def _integers(name: str, value: Any) -> int | Sequence[int]:
    if isinstance(value, dict):
        _known(name, value, ("first", "number"))
        first = integer(f"{name}.first", value.get("first", 0))
        return range(first, first + integer(f"{name}.number", value.get("number"), at_least=1))
    found: int | Sequence[int] = value  # checked by `Sweep`
    return found


def _times(value: Any) -> npt.ArrayLike:
    if isinstance(value, dict):
        _known("t", value, ("first", "last", "number"))
        number_ = integer("t.number", value.get("number"), at_least=2)
        return np.linspace(number("t.first", value.get("first", 0)), number("t.last", value.get("last")), number_)
    times: npt.ArrayLike = value  # checked by `Sweep`
    return times
