"""Where a result came from: parameters, seeds and package versions, as attributes a netCDF file can hold."""

from __future__ import annotations

import hashlib
import json
import platform
from importlib import metadata
from typing import Any

import numpy as np

__all__ = ["provenance"]

_LARGE = 1000
_PACKAGES = ("quenched", "numpy", "scipy", "numba", "xarray")


def _jsonable(value: Any) -> Any:
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    raise TypeError(f"no JSON form for {type(value).__name__}: {value!r}")


def _short(value: Any) -> Any:
    """Arrays beyond `_LARGE` numbers as shape and digest: an attribute of a file holds 64 kB."""
    if isinstance(value, dict):
        return {name: _short(part) for name, part in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], (list, float)):
        array = np.asarray(value, dtype=np.float64)
        if array.size > _LARGE:
            return {"shape": list(array.shape), "sha256": hashlib.sha256(array.tobytes()).hexdigest()}
    return value


def provenance(**records: Any) -> dict[str, str]:
    """One JSON string per keyword (records through `to_dict`, arrays as lists), and `versions` of the packages.

    Of arrays with more than 1000 numbers, such as an empirical spectrum, it keeps the shape and the SHA-256 digest.

    >>> provenance(seeds=[1, 2])["seeds"]
    '[1, 2]'
    """
    versions = {"python": platform.python_version()} | {name: metadata.version(name) for name in _PACKAGES}
    texts = {name: json.dumps(value, default=_jsonable) for name, value in (records | {"versions": versions}).items()}
    return {
        name: text if len(text) < 4 * _LARGE else json.dumps(_short(json.loads(text))) for name, text in texts.items()
    }
