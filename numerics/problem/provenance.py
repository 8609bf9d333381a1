"""Where a result came from: records, seeds and package versions as attributes of a dataset, and back.

An attribute is one JSON text per keyword.  `kinds` names the class of each record, so that `records_of` gives back
what `provenance` was given: a `GradientFlow` and an `OnlineSGD` of lr 1 have the same numbers.  The texts are data:
they come from files of strangers, are parsed as JSON, and only fill the fields of known records, which validate them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import platform
import zlib
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from quenched.numerics.problem.checks import Record, real, shown
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import Teacher, TwoLayer
from quenched.numerics.problem.rules import GradientFlow, OnlineSGD
from quenched.numerics.problem.spectrum import Spectrum
from quenched.numerics.problem.state import Densities, OrderParameters, Velocity
from quenched.numerics.scaling.power_law import PowerLaw

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["provenance", "records_of", "state_at"]

Array = npt.NDArray[np.float64]

KINDS: dict[str, type[Record]] = {
    kind.__name__: kind
    for kind in (Densities, GradientFlow, Mixture, OnlineSGD, OrderParameters, PowerLaw, Spectrum, Teacher, TwoLayer)
}
"""The records that an attribute can name."""

_LARGE = 1000  # numbers of an array from which on a long text packs it
_LONG = 4 * _LARGE  # characters of a text from which on its large arrays are packed
_LIMIT = 60_000  # characters of a packed text: an attribute of an HDF5 file holds 64 kB
_PACKAGES = ("quenched", "numpy", "scipy", "numba", "xarray")
_NEAR = 1e-9  # relative: times closer than this are one


# --- records -> attributes


def provenance(**records: Any) -> dict[str, str]:
    """One JSON text per keyword (records through `to_dict`, arrays as lists), their `kinds`, and package `versions`.

    Arrays with more than 1000 numbers, such as an empirical spectrum, are packed (zlib, base64) beside their shape and
    SHA-256 digest; of those that a file's attribute cannot hold even so, only shape and digest are kept.

    >>> provenance(seeds=[1, 2])["seeds"]
    '[1, 2]'
    """
    kinds = _kinds(records)
    stored = records | ({"kinds": kinds} if kinds else {}) | {"versions": _versions()}
    return {name: _text(value) for name, value in stored.items()}


@cache
def _versions() -> dict[str, str]:
    """Looked up once: it takes longer than many a solution."""
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in _PACKAGES}


def _kinds(value: Any) -> Any:
    """The class of a record; of a mapping, list or other object, those of the records in it, by key; None if none."""
    if isinstance(value, Record):
        if type(value).__name__ in KINDS:
            return type(value).__name__
        value = {each.name: getattr(value, each.name) for each in fields(value) if each.init}
    elif hasattr(value, "to_dict"):
        value = value.to_dict()
    entries = value.items() if isinstance(value, Mapping) else enumerate(value) if type(value) in (list, tuple) else ()
    return {str(key): kind for key, part in entries if (kind := _kinds(part))} or None


def _text(value: Any) -> str:
    text = json.dumps(value, default=_jsonable)
    if len(text) < _LONG:
        return text
    packed = json.dumps(_packed(json.loads(text), keep=True))
    return packed if len(packed) < _LIMIT else json.dumps(_packed(json.loads(text), keep=False))


def _jsonable(value: Any) -> Any:
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    raise TypeError(f"no JSON form for {type(value).__name__}: {value!r}")


def _packed(value: Any, keep: bool) -> Any:
    """Arrays beyond `_LARGE` numbers as shape and digest, and, if `keep`, their compressed bytes."""
    if isinstance(value, dict):
        return {name: _packed(part, keep) for name, part in value.items()}
    if isinstance(value, list) and _numeric(value):
        array = np.asarray(value, dtype="<f8")
        if array.size > _LARGE:
            data = array.tobytes()
            found = {"shape": list(array.shape), "sha256": hashlib.sha256(data).hexdigest()}
            return found | ({"zlib": base64.b64encode(zlib.compress(data, 9)).decode("ascii")} if keep else {})
    elif isinstance(value, list):  # of records, or pairs of them and times
        return [_packed(part, keep) for part in value]
    return value


def _numeric(value: Any) -> bool:
    """Whether nested lists hold numbers of fractions: an array, of which the first entry tells."""
    while isinstance(value, list) and value:
        value = value[0]
    return isinstance(value, float)


# --- attributes -> records


def records_of(dataset: xr.Dataset | Mapping[str, Any]) -> dict[str, Any]:
    """What `provenance` was given, from the attributes of a dataset, or a mapping of them: records, lists, numbers.

    Records are equal to those that the result was computed from.  Attributes that are no JSON stay as they are.

    ValueError: an attribute does not hold the record that it names, or an array too large for a file's attribute.

    >>> attributes = provenance(rule=GradientFlow(weight_decay=0.1), seeds=[1, 2])
    >>> found = records_of(attributes)
    >>> found["rule"], found["seeds"]
    (GradientFlow(weight_decay=0.1), [1, 2])
    """
    attributes = dataset if isinstance(dataset, Mapping) and not hasattr(dataset, "attrs") else _attributes(dataset)
    values = {str(name): _parsed(str(name), text) for name, text in attributes.items()}
    kinds = values.pop("kinds", None)
    if kinds is None:
        kinds = {name: kind for name, value in values.items() if (kind := _older(name, value))}
    if not isinstance(kinds, dict):
        raise ValueError(f"kinds must name the records by attribute, got {shown(kinds)}")
    return {name: _rebuilt(name, value, kinds.get(name)) for name, value in values.items()}


def _rebuilt(name: str, value: Any, kind: Any) -> Any:
    """A value with its records made anew; `kind`: as `_kinds` gave it."""
    if kind is None or value is None:
        return value
    if isinstance(kind, dict):
        if isinstance(value, dict):
            return {key: _rebuilt(f"{name}[{key!r}]", part, kind.get(key)) for key, part in value.items()}
        if isinstance(value, list):
            return [_rebuilt(f"{name}[{i}]", part, kind.get(str(i))) for i, part in enumerate(value)]
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"kinds must name one of {', '.join(KINDS)} for {name}, got {shown(kind)}")
    try:
        return KINDS[kind].from_dict(value)
    except ValueError as error:
        raise ValueError(f"attribute {name} does not hold a {kind}: {error}") from error


def _attributes(dataset: Any) -> Mapping[Any, Any]:
    found = getattr(dataset, "attrs", None)
    if not isinstance(found, Mapping):
        raise ValueError(f"dataset must be a dataset or a mapping of attributes, got {shown(dataset)}")
    return found


def _parsed(name: str, text: Any) -> Any:
    if not isinstance(text, str):
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):  # no JSON, or nested to no end
        return text
    return _unpacked(name, value)


def _unpacked(name: str, value: Any) -> Any:
    """Packed arrays as arrays; ValueError where only a digest was kept, or the data do not have it."""
    if isinstance(value, list) and any(isinstance(part, (dict, list)) for part in value):
        return [_unpacked(name, part) for part in value]
    if not isinstance(value, dict):
        return value
    if "sha256" not in value or "shape" not in value:
        return {key: _unpacked(name, part) for key, part in value.items()}
    shape = value["shape"]
    if not (isinstance(shape, list) and all(isinstance(n, int) and n >= 0 for n in shape)):
        raise ValueError(f"attribute {name!r}: an array must have a shape, got {shown(shape)}")
    if "zlib" not in value:
        raise ValueError(
            f"attribute {name!r} keeps only the shape {shape} and a digest of an array too large for a file's "
            "attribute; make the record anew from what it was made of"
        )
    size = 8 * int(np.prod(shape, dtype=object))
    try:
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(base64.b64decode(value["zlib"], validate=True), size + 1)
    except (ValueError, TypeError, zlib.error) as error:
        raise ValueError(f"attribute {name!r}: an array's data cannot be unpacked ({error})") from error
    if len(data) != size or hashlib.sha256(data).hexdigest() != value["sha256"]:
        raise ValueError(f"attribute {name!r}: an array's data do not have its shape {shape} and digest")
    return np.frombuffer(data, dtype="<f8").reshape(shape)


def _older(name: str, value: Any) -> str | None:
    """The kind of an attribute of a file that names none, as written before there were `kinds`."""
    if not isinstance(value, dict):
        return None
    if name in ("sgd", "rule"):
        return "OnlineSGD" if "label_noise" in value else "GradientFlow"
    if name == "initial_state":
        return "Densities" if "A" in value else "OrderParameters"
    return {"mixture": "Mixture", "network": "TwoLayer"}.get(name)


# --- states


def state_at(dataset: xr.Dataset, t: float | None = None) -> OrderParameters | Densities:
    """The state of a result, at its recorded time `t` where it runs along time: of `integrate`, `simulate`, `curve`, ..

    Densities where the dataset has them, A_u and Q_u; where a teacher makes the labels, M has its overlaps R below the
    means'.  Other dimensions (a seed, a solution) are chosen before: `state_at(runs.isel(seed=0), 10.0)`.

    ValueError: no recorded time is t, a dimension is left to choose, or the dataset holds no state.

    >>> from quenched.numerics import integrate
    >>> start = OrderParameters(M=[[0.0], [0.0]], Q=[[1.0]], v=[1.0])
    >>> run = integrate(Mixture.two_clusters(1.0), TwoLayer(1, "linear"), GradientFlow(), start, [0.0, 1.0])
    >>> state_at(run, 0.0) == start
    True
    """
    spectral = hasattr(dataset, "data_vars") and "A_u" in dataset
    needed = ("A_u", "Q_u", "v") if spectral else ("M", "Q", "v")
    if not hasattr(dataset, "data_vars") or (absent := [name for name in needed if name not in dataset]):
        got = shown(dataset) if not hasattr(dataset, "data_vars") else f"none called {absent[0]}"
        raise ValueError(f"dataset must hold a state, the variables {', '.join(needed)}, got {got}")
    if "time" in dataset.dims:
        dataset = dataset.isel(time=_place(dataset["time"].values, t))
    elif t is not None:
        raise ValueError(f"t must be left out for a dataset without times, got {t!r}")
    own = {"A_u": 3, "Q_u": 3 if spectral else 2, "M": 2, "Q": 2, "v": 1, "R": 2}
    own["v"] += "output" in dataset["v"].dims
    for name in needed:
        if (extra := dataset[name].dims[: max(0, dataset[name].ndim - own[name])]) != ():
            raise ValueError(
                f"dataset must have one state, got {dict(zip(extra, dataset[name].shape, strict=False))}: choose one "
                f"of them first, dataset.isel({extra[0]}=0)"
            )
    biased = "b" in dataset and "c" in dataset
    b, c = (dataset["b"].values if biased else None), (dataset["c"].item() if biased else None)
    moving = _velocity_in(dataset, "A_dot_u" if spectral else "M_dot")
    if spectral:
        return Densities(dataset["A_u"].values, dataset["Q_u"].values, dataset["v"].values, b, c, moving)
    rows = [dataset["M"].values] + ([dataset["R"].values] if "R" in dataset else [])
    return OrderParameters(np.concatenate(rows), dataset["Q"].values, dataset["v"].values, b, c, moving)


def _velocity_in(dataset: xr.Dataset, first: str) -> Velocity | None:
    """The velocity of a state; `first`: the variable of its overlaps with means, NaN in a sweep without."""
    if first not in dataset or np.isnan(dataset[first].values).all():
        return None
    rows = [dataset[first].values] + ([dataset["R_dot"].values] if first == "M_dot" and "R_dot" in dataset else [])
    others = [np.atleast_1d(dataset[name].values) for name in ("b_dot", "c_dot") if name in dataset]
    C, U = ("C", "U") if first == "M_dot" else ("C_u", "U_u")
    v = dataset["v_dot"].values
    return Velocity(
        np.concatenate(rows), dataset[C].values, dataset[U].values, np.concatenate([v, *others]) if others else v
    )


def _place(times: Array, t: float | None) -> int:
    """Where in `times` the time t is."""
    if t is None:
        if len(times) == 1:
            return 0
        raise ValueError(f"t must be one of the {len(times)} recorded times, got None")
    wanted = real("t", t)
    place = int(np.abs(times - wanted).argmin()) if np.isfinite(wanted) else 0
    if not np.isfinite(wanted) or not abs(times[place] - wanted) <= _NEAR * max(1.0, abs(wanted)):
        raise ValueError(f"t must be one of the {len(times)} recorded times, got {t!r}; the nearest is {times[place]}")
    return place
