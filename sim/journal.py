"""What a computation has finished, on disk: so that an interrupted command goes on from there with --resume.

A journal is a folder with one file for each finished job, called by the digest of the function, its arguments and the
versions of the packages: what another problem, another option or another version has left is not found.  Files are
JSON, arrays in base64, so that values come back with the same bits and nothing is executed to read them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from quenched.numerics.problem.provenance import provenance
from quenched.sim.files import replace

__all__ = ["Journal", "decode", "encode"]

_MARK = "__kind__"
_PART = re.compile(r"[0-9a-f]{40}\.json")  # names of files


@dataclass
class Journal:
    """The journal in the folder `place`; what is there already is used if `resume`."""

    place: Path
    resume: bool = False
    kept: int = 0
    found: int = 0
    _used: set[Path] = field(default_factory=set)
    _broken: bool = False

    def key(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Path:
        """The file of a job."""
        about = [encode(function), encode(arguments), provenance()["versions"]]
        return self.place / f"{hashlib.sha256(json.dumps(about).encode()).hexdigest()[:40]}.json"

    def read(self, key: Path) -> tuple[Any] | None:
        """The value of a finished job in a tuple; None if it is not there, or unreadable (it is then computed anew)."""
        if not self.resume or not key.exists():
            return None
        try:
            value = decode(json.loads(key.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError) as error:
            logging.getLogger(__name__).warning("%s cannot be read (%s): computed anew", key, error)
            return None
        self.found += 1
        self._used.add(key)
        return (value,)

    def write(self, key: Path, value: Any) -> None:
        """Keep the value of a finished job.  A disk without room does not end the run: it is said once."""
        if self._broken:
            return
        try:
            self.place.mkdir(parents=True, exist_ok=True)
            self._used.add(key)
            replace(key, json.dumps(encode(value)).encode())
        except OSError as error:
            self._say(error)
            return
        self.kept += 1

    def file(self, name: str) -> Path | None:
        """A file of this journal that something else writes, such as the checkpoint of a simulation.

        One that is there already is removed unless the journal is resumed.  None where nothing can be kept.
        """
        path = self.place / name
        if self._broken:
            return None
        try:
            self.place.mkdir(parents=True, exist_ok=True)
            if not self.resume:
                path.unlink(missing_ok=True)
        except OSError as error:
            self._say(error)
            return None
        self._used.add(path)
        return path

    def _say(self, error: OSError) -> None:
        self._broken = True
        logging.getLogger(__name__).warning("nothing more can be kept in %s: %s", self.place, error)

    def sentence(self) -> str | None:
        """What is kept, and how to go on; None if nothing is."""
        if any(path.exists() for path in list(self._used)):
            return f"what is finished ({self.kept + self.found} parts) is in {self.place}: add --resume to go on"
        return None

    def leave(self) -> None:
        """The command ends early: what is kept stays, an empty folder does not."""
        if self.place.is_dir() and not any(self.place.iterdir()):
            self.place.rmdir()

    def close(self, *, whole: bool = False) -> None:
        """All is done: remove what was kept; the `whole` journal also what earlier commands left, with other options.

        A folder that many commands share is never removed as a whole: another one may be at work.
        """
        for path in self._used:
            path.unlink(missing_ok=True)
        if whole and self.place.is_dir():
            for path in self.place.iterdir():
                if _PART.fullmatch(path.name):
                    path.unlink(missing_ok=True)
        self.leave()


def encode(value: Any) -> Any:
    """`value` in JSON: numbers, text, arrays, datasets, records, functions (by name), and lists, tuples, dicts of them.

    >>> decode(encode((1, [np.arange(2.0)], {"a": None})))
    (1, [array([0., 1.])], {'a': None})
    """
    import xarray as xr

    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (list, tuple, range)):
        items = [encode(each) for each in value]
        return items if isinstance(value, list) else {_MARK: "tuple", "items": items}
    if isinstance(value, dict):
        return {_MARK: "dict", "items": [[encode(k), encode(v)] for k, v in value.items()]}
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "OUT":
            return {_MARK: "texts", "shape": value.shape, "items": value.ravel().tolist()}
        data = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
        return {_MARK: "array", "dtype": value.dtype.str, "shape": value.shape, "data": data}
    if isinstance(value, xr.DataArray):
        name = value.name if value.name is None else str(value.name)
        return {_MARK: "variable", "name": name, "of": encode(value.to_dataset(name="value"))}
    if isinstance(value, xr.Dataset):
        variables = [
            [str(name), list(map(str, v.dims)), encode(v.values), encode(v.attrs), name in value.coords]
            for name, v in value.variables.items()
        ]
        return {_MARK: "dataset", "variables": variables, "attrs": encode(value.attrs)}
    if is_dataclass(value) and not isinstance(value, type):
        parts = {f.name: encode(getattr(value, f.name)) for f in fields(value) if f.init}
        return {_MARK: "record", "class": _name(type(value)), "fields": parts}
    if callable(value) and hasattr(value, "__qualname__"):
        return {_MARK: "function", "name": _name(value)}
    raise TypeError(f"no form for {type(value).__name__}: {value!r}")


def decode(value: Any) -> Any:
    """What `encode` made, but for functions; of records, only those of this package."""
    import xarray as xr

    if isinstance(value, list):
        return [decode(each) for each in value]
    if not isinstance(value, dict):
        return value
    match value[_MARK]:
        case "tuple":
            return tuple(decode(each) for each in value["items"])
        case "dict":
            return {decode(k): decode(v) for k, v in value["items"]}
        case "texts":
            return np.array(value["items"], dtype=object).reshape(value["shape"])
        case "array":
            flat = np.frombuffer(base64.b64decode(value["data"]), dtype=np.dtype(value["dtype"]))
            return flat.reshape(value["shape"]).copy()
        case "variable":
            return decode(value["of"])["value"].rename(value["name"])
        case "dataset":
            parts: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
            for name, dims, values, attrs, coordinate in value["variables"]:
                parts[coordinate][name] = (dims, decode(values), decode(attrs))
            return xr.Dataset(*parts, decode(value["attrs"]))
        case "record":
            module, _, name = value["class"].partition(":")
            if module.partition(".")[0] != "quenched":
                raise ValueError(f"record must be one of quenched, got {value['class']!r}")
            parameters = {key: decode(each) for key, each in value["fields"].items()}
            return _record(getattr(import_module(module), name), parameters)
    raise ValueError(f"unknown kind {value[_MARK]!r}")


def _record(make: Any, parameters: dict[str, Any]) -> Any:
    """An instance of a dataclass; ValueError for anything else, which is not called."""
    if not isinstance(make, type) or not is_dataclass(make):
        raise ValueError(f"record must be a dataclass, got {make!r}")
    return make(**parameters)


def _name(thing: Any) -> str:
    return f"{thing.__module__}:{thing.__qualname__}"
