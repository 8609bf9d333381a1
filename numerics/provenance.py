"""Where a result came from: parameters, seeds and package versions, as attributes a netCDF file can hold."""

from __future__ import annotations

import json
import platform
from importlib import metadata
from typing import Any

import numpy as np

__all__ = ["provenance"]

_PACKAGES = ("quenched", "numpy", "scipy", "numba", "xarray")


def _jsonable(value: Any) -> Any:
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    raise TypeError(f"no JSON form for {type(value).__name__}: {value!r}")


def provenance(**records: Any) -> dict[str, str]:
    """One JSON string per keyword (records through `to_dict`, arrays as lists), and `versions` of the packages.

    >>> provenance(seeds=[1, 2])["seeds"]
    '[1, 2]'
    """
    versions = {"python": platform.python_version()} | {name: metadata.version(name) for name in _PACKAGES}
    return {name: json.dumps(value, default=_jsonable) for name, value in (records | {"versions": versions}).items()}
