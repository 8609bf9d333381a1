"""The TOML files that describe a problem, or a sweep over many; nothing in them is evaluated.

    D = 1000                                          # input dimension
    t = { first = 0, last = 120, number = 61 }        # or a list of times, or one time
    seeds = { first = 0, number = 8 }                 # or a list of seeds, or how many of them from 0 on
    initial = 8                                       # seed of the initial state, or [state] with M, Q, v
    mixture = { kind = "xor", sigma = 0.4 }           # a name of named_mixtures, "means" or "data"
    network = { K = 4, activation = "relu" }
    rule = { lr = 0.5 }                               # fields of OnlineSGD, or kind = "gradient-flow"; a rate that
                                                      # changes is "0.5/(1 + t)", or a table [[0, 0.5], [10, 0.05]]

One file describes one problem for every verb (`read_problem`).  A list where one value is due spans an axis, which only
a sweep has (`read_spec`): sigma = [0.3, 0.5], or several tables [[mixture]].

Tables with `until` follow each other in time: the problem changes at these times, and the last table may leave it out.

    mixture = [{ kind = "two-clusters", sigma = 0.5, until = 10 }, { kind = "xor", sigma = 0.5 }]
    rule = [{ lr = 0.5, until = 30 }, { lr = 0.05 }]

A power law makes mixture, network, rule and state by itself, from features of the seed `draw`:

    power_law = { a = 1.25, b = 0.75, inputs = 400, features = 100 }
    draw = 0
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from quenched.numerics.problem.checks import LEFT_OUT, choice, integer, integers, number
from quenched.numerics.problem.checks import path as checked_path
from quenched.numerics.problem.learner import Options
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.named_mixtures import NAMED
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.rules import GradientFlow, LearningRule, OnlineSGD
from quenched.numerics.problem.specification import Specification, problem_of
from quenched.numerics.problem.state import Densities, OrderParameters
from quenched.numerics.problem.texts import spectrum, taught
from quenched.numerics.scaling.power_law import PowerLaw
from quenched.sim.samples import from_data
from quenched.sim.sweeps import Sweep

__all__ = ["read_problem", "read_spec"]

# What a table of the specification may hold, and how deep an array a value is: one level more is an axis of the grid.
_MEANS = {"means": 2, "labels": 1, "weights": 1, "sigma": 0, "scaling": 0, "classes": 1}
_DATA = {"data": 0, "covariance": 0, "shrinkage": 0, "project": 0, "sigma": 0}
_MORE = {"spectrum": 0, "teacher": 0}  # of any mixture
_NETWORK = {field.name: 0 for field in fields(TwoLayer)}
_TABLE = -1  # of what is a number, or a table of pairs (t, value)
_RATES = dict.fromkeys(("lr", "weight_decay", "second_lr", "second_weight_decay", "temperature"), _TABLE)
_RULE = {field.name: 0 for field in fields(OnlineSGD)} | {"frozen": 1} | _RATES
_FLOW = {field.name: _RULE[field.name] for field in fields(GradientFlow) if field.init}
_NEEDED = ("mixture", "network", "rule", "D", "seeds", "t")
_OPTIONS = tuple(field.name for field in fields(Sweep))[len(_NEEDED) :]
_PARTS = tuple(field.name for field in fields(Specification))
_Kind = tuple[Callable[..., Any], dict[str, int], str]


# --- files


def read_problem(path: str | os.PathLike[str]) -> Specification:
    """The one problem that a file describes: TOML as at the top of this module, or a NetCDF file of a result.

    Beside the keys shown there: `readout_scale` of the initial state; `engine` and `test_samples` of simulations;
    `sigma`, the noise levels of an error curve, and tables [[learner]] with the `kind` and the options of its learners;
    one that has a network takes network, rule, last time, D and initial state of the file where its table has none.
    A mixture may have a `spectrum`, "mp:0.5" or { law = "mp:0.5", directions = 500 } or { eigenvalues = [..], .. }, and
    a `teacher`, "erf:2" or { weights = [..], v = [..], activation = ".." }.  Only `mixture` is needed, or `power_law`.

    ValueError: what cannot be read, is not known, is missing, or has several values, with its place.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     place = Path(folder) / "problem.toml"
    ...     _ = place.write_text('mixture = { kind = "xor", sigma = 0.4 }')
    ...     read_problem(place).mixture == Mixture.xor(0.4)
    True
    """
    place = checked_path("path", path)
    if place.suffix.lower() == ".nc":
        import xarray as xr

        try:
            return problem_of(xr.load_dataset(place, engine="h5netcdf"))
        except OSError as error:
            raise ValueError(f"spec must be a file of a result, got {str(path)!r}: {error}") from error
    given = _parsed(path)
    _known("spec", given, _PARTS)
    if not {"mixture", "power_law"} & set(given):
        raise ValueError(f"spec must have mixture, got only {', '.join(given) or 'nothing'}")
    parts: dict[str, Any] = {name: given[name] for name in ("readout_scale", "engine", "test_samples") if name in given}
    parts |= {name: _in_time(name, given) for name in ("mixture", "network", "rule") if name in given}
    if "power_law" in given:
        parts["power_law"] = PowerLaw.from_dict(given["power_law"], "power_law")
    for name in ("D", "initial", "draw"):
        if name in given:
            values = integers(name, given[name])
            if len(values) > 1:
                raise ValueError(_several(name, f"{values}"))
            parts[name] = values[0]
    if "seeds" in given:
        seeds = _integers("seeds", given["seeds"])
        parts["seeds"] = range(integer("seeds", seeds, at_least=1)) if isinstance(seeds, int) else seeds
    parts |= {name: _levels(name, given[name]) for name in ("t", "sigma") if name in given}
    if "state" in given:
        state = given["state"]
        kind: Any = Densities if isinstance(state, dict) and "A" in state else OrderParameters
        parts["state"] = kind.from_dict(state, "state")
    if "learner" in given:
        known = Specification(**parts)
        parts["learner"] = dict(_learner(table, known) for table in _tables("learner", given["learner"]))
    return Specification(**parts)


def read_spec(path: str | os.PathLike[str]) -> Sweep:
    """The sweep that a TOML file describes, as at the top of this module with lists for axes.

        D = [100, 10000]
        mixture = [{ kind = "xor", sigma = [0.3, 0.5] }]  # a list where one value is due spans an axis
        network = [{ K = [2, 4], activation = "relu" }]

    Also `engine`, `test_samples`, `initial`, `readout_scale`, `batch` as in `Sweep`.  Each table may have a `name`, and
    may be written as a section [[mixture]].

    ValueError: what cannot be read, is not known or is missing, with its place.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> text = '''
    ... D = 100
    ... seeds = 2
    ... t = [0.5]
    ... mixture = { kind = "xor", sigma = [0.3, 0.4] }
    ... network = { K = [1, 2], activation = "erf" }
    ... rule = { lr = 0.5 }
    ... '''
    >>> with TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "grid.toml").write_text(text)
    ...     len(read_spec(Path(folder) / "grid.toml").cells())
    8
    """
    given = _parsed(path)
    _known("spec", given, (*_NEEDED, *_OPTIONS))
    for name in _NEEDED:
        if name not in given:
            raise ValueError(f"spec must have {name}, got only {', '.join(given) or 'nothing'}")
    return Sweep(
        _records("mixture", given),
        _records("network", given),
        _records("rule", given),
        D=_integers("D", given["D"]),
        seeds=_integers("seeds", given["seeds"]),
        t=_levels("t", given["t"]),
        **{name: given[name] for name in _OPTIONS if name in given},
    )


def _parsed(path: str | os.PathLike[str]) -> dict[str, Any]:
    try:
        return tomllib.loads(checked_path("path", path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ValueError(f"spec must be a TOML file, got {str(path)!r}: {error}") from error


# --- tables


def _mixture_kind(table: Mapping[str, Any]) -> _Kind:
    """The constructor of the mixture of a table, the depths of its values, and its name."""
    kind = table.get("kind")
    if kind == "means":
        return _dressed(Mixture), _MEANS | _MORE, kind
    if kind == "data":
        return _dressed(from_data), _DATA | _MORE, kind
    if not isinstance(kind, str) or kind not in NAMED:
        raise ValueError(f"mixture.kind must be one of {', '.join(NAMED)}, means, data, got {kind!r}")
    return _dressed(NAMED[kind].build), NAMED[kind].parameters | _MORE, kind


def _dressed(build: Callable[..., Mixture]) -> Callable[..., Mixture]:
    """The constructor, for which spectrum and teacher may be texts."""

    def built(**values: Any) -> Mixture:
        law, teacher = values.pop("spectrum", None), values.pop("teacher", None)
        if not (teacher is None or isinstance(teacher, (str, dict))):
            raise ValueError(f"teacher must be a text such as 'erf:2' or a table of weights and v, got {teacher!r}")
        if teacher is not None and "labels" in values:
            raise ValueError(f"labels must be left out where a teacher makes them, got {values['labels']!r}")
        made: dict[str, Any] = {"teacher": teacher} if isinstance(teacher, dict) else {}
        if build is Mixture and isinstance(teacher, str):  # whose weights come after the means
            values["labels"] = np.ones(len(np.atleast_1d(values.get("means", [0.0]))))
        found = Mixture(**values, **made) if build is Mixture else build(**values)
        if law is not None:
            if found.spectrum is not None:
                raise ValueError(f"spectrum={law!r} and the covariance of the data are two answers to one question")
            found = replace(found, spectrum=_spectrum(law))
        if made and found.teacher is None:
            found = replace(found, labels=LEFT_OUT, **made)
        return taught(found, teacher) if isinstance(teacher, str) else found

    return built


def _spectrum(given: Any) -> Any:
    """A spectrum from the text of a law, a table of a law and its directions, or a table of eigenvalues."""
    if isinstance(given, dict) and "law" in given:
        _known("spectrum", given, ("law", "directions"))
        directions = given.get("directions")
        return spectrum(given["law"], None if directions is None else integer("directions", directions, at_least=1))
    return spectrum(given) if isinstance(given, str) else given


def _network_kind(table: Mapping[str, Any]) -> _Kind:
    return TwoLayer, _NETWORK, table.get("activation", "")


def _rule_kind(table: Mapping[str, Any]) -> _Kind:
    kind = table.get("kind", "sgd")
    if kind not in ("sgd", "gradient-flow"):
        raise ValueError(f"rule.kind must be sgd or gradient-flow, got {kind!r}")
    return (OnlineSGD, _RULE, kind) if kind == "sgd" else (GradientFlow, _FLOW, kind)


_KINDS: dict[str, Callable[[Mapping[str, Any]], _Kind]] = {
    "mixture": _mixture_kind,
    "network": _network_kind,
    "rule": _rule_kind,
}


def _tables(name: str, given: Any) -> list[dict[str, Any]]:
    tables = [given] if isinstance(given, dict) else given
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise ValueError(f"{name} must be a table or tables [[{name}]], got {given!r}")
    return tables


def _records(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The records of the tables [[name]], each spanned by its lists, called by what varies in it."""
    found: dict[str, Any] = {}
    for table in _tables(name, given[name]):
        if "until" in table and name != "network":
            raise ValueError(f"{name} must not change in time here, got a table with until = {table['until']!r}")
        make, depths, title = _KINDS[name](table)
        _known(name, table, [*depths, "name", *(["kind"] if name != "network" else [])])
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


def _one(name: str, given: Mapping[str, Any]) -> Any:
    """The one record of a table."""
    found = _records(name, given)
    if len(found) > 1:
        raise ValueError(_several(name, "; ".join(found)))
    return next(iter(found.values()))


def _in_time(name: str, given: Mapping[str, Any]) -> Any:
    """The record of a table, or pairs of one and its end of tables with `until`."""
    tables = _tables(name, given[name])
    if name == "network" or not any("until" in table for table in tables):
        return _one(name, given)
    pairs = []
    for table in tables:
        rest = {key: value for key, value in table.items() if key != "until"}
        pairs.append((_one(name, {name: rest}), table.get("until")))
    return pairs


def _several(name: str, got: str) -> str:
    return f"{name} must have one value in the specification of a problem, got {got}: a grid is for `quenched sweep`"


def _learner(table: dict[str, Any], problem: Specification) -> tuple[str, Options]:
    """The name and the options of a learner, those of the problem where its own table does not say others."""
    from quenched.numerics.learners import learners

    kind = choice("learner.kind", table.get("kind"), learners())
    usual = problem.lend(learners()[kind].options)
    known = [each.name for each in fields(usual) if each.init]
    _known(f"learner {kind}", table, ["kind", *known])
    values: dict[str, Any] = {}
    for name in set(known) & set(table):
        default, value = getattr(usual, name), table[name]
        if is_dataclass(default):
            part = "rule" if isinstance(default, LearningRule) else "network"
            value = _one(part, {part: value})
        values[name] = tuple(value) if isinstance(value, list) else value
    return kind, replace(usual, **values)


# --- values


def _axis(value: Any, depth: int) -> list[Any]:
    """A value that is an array of `depth` levels, or a list of such values.

    Where a number is due, a list in a list is one value for each cluster: sigma = [[0.3, 0.5]].  Of a rate it is a
    table, lr = [[0, 0.5], [10, 0.05]].
    """
    inner, levels = value, 0
    while isinstance(inner, list) and inner:
        inner, levels = inner[0], levels + 1
    axes = {0: (1, 2), _TABLE: (1, 3)}.get(depth, (depth + 1,))
    return value if levels in axes else [value]


def _known(name: str, table: Mapping[str, Any], allowed: Iterable[str]) -> None:
    if unknown := sorted(set(table) - set(allowed)):
        raise ValueError(f"{name} has the unknown {unknown[0]!r}; it may have {', '.join(allowed)}")


def _integers(name: str, value: Any) -> int | Sequence[int]:
    if isinstance(value, dict):
        _known(name, value, ("first", "number"))
        first = integer(f"{name}.first", value.get("first", 0))
        return range(first, first + integer(f"{name}.number", value.get("number"), at_least=1))
    found: int | Sequence[int] = value  # checked by the record
    return found


def _levels(name: str, value: Any) -> npt.ArrayLike:
    if isinstance(value, dict):
        _known(name, value, ("first", "last", "number"))
        number_ = integer(f"{name}.number", value.get("number"), at_least=2)
        first, last = number(f"{name}.first", value.get("first", 0)), number(f"{name}.last", value.get("last"))
        return np.linspace(first, last, number_)
    levels: npt.ArrayLike = [value] if isinstance(value, (int, float)) else value  # checked by the record
    return levels
