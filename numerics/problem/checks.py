"""Checks of what callers pass in: each returns the value in its one internal form, or raises a ValueError that names
the argument and the offending value; and `Record`, the base of the frozen records that validate themselves with them.
"""

from __future__ import annotations

import math
from dataclasses import MISSING, fields
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Record", "finite_array", "increasing_times", "integer", "number"]

_FEW = 6  # numbers of an array that are shown


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_dict()
    return value.tolist() if isinstance(value, np.ndarray) else value


def _is_default(default: Any, value: Any) -> bool:
    return default is not MISSING and type(value) is type(default) and bool(np.all(value == default))


def _brief(value: Any) -> str:
    if not isinstance(value, np.ndarray):
        return repr(value)
    if value.size > _FEW:
        return f"{value.shape} numbers"
    text = np.array2string(value, separator=", ", formatter={"float_kind": lambda x: f"{x:g}"})
    return " ".join(text.split())


class Record:
    """What all records share: fields are set once, in validated form, and can be listed; a short `repr`."""

    def __init_subclass__(cls) -> None:
        cls.__repr__ = Record.__repr__  # type: ignore[method-assign]  # before `dataclass` writes one of its own

    def __repr__(self) -> str:
        """The fields that differ from their defaults; of an array beyond six numbers, the shape.

        >>> from quenched.numerics import OnlineSGD, Spectrum
        >>> OnlineSGD(0.1, second_lr=0.0), Spectrum.marchenko_pastur(0.5)
        (OnlineSGD(lr=0.1, second_lr=0.0), Spectrum(eigenvalues=(32,) numbers, weights=(32,) numbers))
        """
        shown = []
        for each in fields(self):  # type: ignore[arg-type]
            value = getattr(self, each.name)
            if each.init and not _is_default(each.default, value):
                shown.append(f"{each.name}={_brief(value)}")
        return f"{type(self).__name__}({', '.join(shown)})"

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def to_dict(self) -> dict[str, Any]:
        """The fields, arrays as nested lists: JSON-able, and enough to rebuild the record."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self) if f.init}  # type: ignore[arg-type]


def finite_array(name: str, value: npt.ArrayLike, shape: tuple[int | None, ...]) -> npt.NDArray[np.float64]:
    """A read-only float64 copy of `value`, finite and of `shape` (None: any length >= 1)."""
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be an array of real numbers, got {value!r}") from error
    if array.ndim != len(shape) or any(
        have != want if want is not None else have < 1 for have, want in zip(array.shape, shape, strict=True)
    ):
        wanted = str(tuple("any" if n is None else n for n in shape)).replace("'", "")
        raise ValueError(f"{name} must have shape {wanted}, got {array.shape}")
    if not np.isfinite(array).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(f"{name} must be finite, got {array[where]} at index {where}")
    array.flags.writeable = False
    return array


def number(name: str, value: Any, *, positive: bool = False) -> float:
    """`value` as a finite float, >= 0 (> 0 if `positive`)."""
    try:
        result = float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a real number, got {value!r}") from error
    if not math.isfinite(result) or result < 0 or (positive and result == 0):
        raise ValueError(f"{name} must be finite and {'> 0' if positive else '>= 0'}, got {value!r}")
    return result


def integer(name: str, value: Any, *, at_least: int = 0) -> int:
    """`value` as an int >= `at_least`; a float or a bool is refused even where its value would do."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < at_least:
        raise ValueError(f"{name} must be an integer >= {at_least}, got {value!r}")
    return int(value)


def increasing_times(name: str, value: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Strictly increasing finite times >= 0, shape (n,), n >= 1."""
    times = finite_array(name, value, (None,))
    if times[0] < 0:
        raise ValueError(f"{name} must be >= 0, got {times[0]}")
    if (later := np.flatnonzero(np.diff(times) <= 0)).size:
        raise ValueError(f"{name} must increase, got {times[later[0] + 1]} after {times[later[0]]}")
    return times
