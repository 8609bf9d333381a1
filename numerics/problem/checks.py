"""Checks of what callers pass in: each returns the value in its one internal form, or raises a ValueError that names
the argument and the offending value; and `Record`, the base of the frozen records that validate themselves with them.

Every public function calls them before it computes.  Wrong kinds are refused even where Python would convert them:
texts and booleans are no numbers, imaginary parts and masked entries are not dropped.  A single number is taken where a
sequence of them is meant, `seeds=1`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
import numpy.typing as npt

from quenched.symbolic.language.grammar import ACTIVATION, Grammar, canonical

__all__ = [
    "FINEST",
    "LEFT_OUT",
    "Record",
    "choice",
    "digit_count",
    "expression_text",
    "finite_array",
    "flag",
    "function",
    "group_names",
    "increasing_times",
    "integer",
    "integers",
    "moderate_array",
    "noise_levels",
    "number",
    "one_or_each",
    "path",
    "real",
    "real_array",
    "record",
    "records",
    "seed_numbers",
    "shown",
    "tolerance",
]

Array = npt.NDArray[np.float64]
T = TypeVar("T")

LEFT_OUT: Any = None
"""The default of a field that validation fills in: whatever the field's type is, never seen once the record is made."""

_LARGEST = 2**63 - 1  # of integers: what an array of them holds
FINEST = 100 * float(np.finfo(float).eps)  # the relative tolerance below which steppers of scipy do not go
_MOST = 10**6  # entries of a sequence of integers: more seeds than any run can use
_HUGE = 1e60  # of a number: its fifth power is still finite, averages of it do not overflow
_SHOWN = 200  # characters of a value in a message
_ENTRIES = 16  # numbers of an array that a repr spells out
_SEARCHED = 10**5  # entries of nested lists that are looked at one by one, for booleans


def shown(value: Any) -> str:
    """The value as messages show it: its repr on one line, cut where it is long."""
    text = " ".join(repr(value).split()) if not isinstance(value, str) else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_dict()
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return value.tolist() if isinstance(value, np.ndarray) else value


def _comparable(value: Any) -> Any:
    """Hashable, and equal for equal values: an array by its shape and its bytes, with -0 as 0."""
    return (value.shape, (value + 0.0).tobytes()) if isinstance(value, np.ndarray) else value


def _brief(value: Any) -> str:
    """A value in a record's repr: numbers to six digits, arrays of more than `_ENTRIES` numbers by their shape."""
    if isinstance(value, np.ndarray):
        if value.size > _ENTRIES:
            return f"array{value.shape}"
        return np.array2string(value, separator=", ", formatter={"float_kind": _brief}, max_line_width=10**6).replace(
            "\n", ""
        )
    return f"{value:.6g}" if isinstance(value, float) else repr(value)


class Record:
    """What all records share: fields are set once, in validated form, can be listed, compare by value, and show
    themselves in one line: `@dataclass(frozen=True, eq=False, repr=False)`.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]  # every child is a dataclass

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _values(self) -> dict[str, Any]:
        """The fields that the record is made from."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.init}

    def to_dict(self) -> dict[str, Any]:
        """The fields, arrays and tables as nested lists: JSON-able, and enough to rebuild the record."""
        return {name: _plain(value) for name, value in self._values().items()}

    @classmethod
    def from_dict(cls, values: Any, name: str = "") -> Self:
        """The record of which `to_dict` gave these values; `name`: of the argument that holds them, for messages.

        ValueError: they are no fields of this record, or values that it refuses.
        """
        argument = f"{name}: " if name else ""
        known = [f.name for f in fields(cls) if f.init]
        if not isinstance(values, Mapping) or (strange := [name for name in values if name not in known]):
            got = f"the field {strange[0]!r}" if isinstance(values, Mapping) else shown(values)
            raise ValueError(f"{argument}{cls.__name__} must be made of the fields {', '.join(known)}, got {got}")
        needed = [f.name for f in fields(cls) if f.init and f.default is MISSING and f.default_factory is MISSING]
        if missing := [name for name in needed if name not in values]:
            got = ", ".join(map(str, values)) or "none"
            raise ValueError(f"{argument}{cls.__name__} needs the field {missing[0]!r}, got {got}")
        return cls(**values)

    def _shown(self) -> dict[str, Any]:
        """The fields that the repr names: those that differ from their defaults."""
        defaults = {f.name: f.default for f in fields(self)}
        return {
            name: value
            for name, value in self._values().items()
            if value is not None and (isinstance(value, np.ndarray) or value != defaults[name])
        }

    def __repr__(self) -> str:
        """One line: the kind and its fields, but for those at their defaults; long arrays by their shape."""
        return f"{type(self).__name__}({', '.join(f'{name}={_brief(value)}' for name, value in self._shown().items())})"

    def _key(self) -> tuple[Any, ...]:
        return type(self), *(_comparable(value) for value in self._values().values())

    def __eq__(self, other: object) -> bool:
        """Of the same kind and equal in every field, arrays entry by entry."""
        return self._key() == other._key() if isinstance(other, Record) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())


class Result:
    """What solved numbers share: a repr in one line, each with its numerical error, X_error, beside it.

    `@dataclass(frozen=True, repr=False)`; fields of `field(repr=False)` are left out, as are those that are None.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def __repr__(self) -> str:
        """The kind and its fields: numbers to six digits, their errors to two."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.repr}
        errors = {name: f"{name}_error" for name in values} | {"value": "error"}
        beside = {error for name, error in errors.items() if name in values and error in values}
        parts = []
        for name, value in values.items():
            if value is None or name in beside:
                continue
            error = values.get(errors[name])
            parts.append(f"{name}={_brief(value)}" + ("" if error is None else f" ± {float(error):.2g}"))
        return f"{type(self).__name__}({', '.join(parts)})"


# --- text


def expression_text(value: Any, grammar: Grammar = ACTIVATION) -> str:
    """`value` as a name of the grammar or the canonical print of an expression: all that any code ever holds of it.

    >>> expression_text("Max(x,0)")
    'Max(x, 0)'
    >>> expression_text("x # y")
    Traceback (most recent call last):
    ...
    ValueError: activation 'x # y': '#' at character 3 is not understood...
    """
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{grammar.kind} must be {grammar.wanted}, got {value!r}")
    return canonical(str(value), grammar)


# --- arrays


def finite_array(name: str, value: npt.ArrayLike, shape: tuple[int | None, ...]) -> Array:
    """A read-only float64 copy of `value`, finite and of `shape` (None: any length >= 1)."""
    array = real_array(name, value)
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


def moderate_array(name: str, value: npt.ArrayLike, shape: tuple[int | None, ...]) -> Array:
    """As `finite_array`, of numbers up to 1e60 in size: of what a person states, as against what a solver blows up."""
    array = finite_array(name, value, shape)
    if (large := np.abs(array) > _HUGE).any():
        where = tuple(int(i) for i in np.argwhere(large)[0])
        raise ValueError(f"{name} must be at most {_HUGE:g} in size, got {array[where]} at index {where}")
    return array


def real_array(name: str, value: npt.ArrayLike) -> Array:
    """A float64 copy; ValueError where that would read texts or booleans as numbers, or drop parts of them."""
    if isinstance(value, np.ndarray) and value.dtype == np.float64 and not isinstance(value, np.ma.MaskedArray):
        return value.copy()  # what solvers pass on: nothing to look for
    if np.ma.is_masked(value):
        raise ValueError(f"{name} must have no masked entries: fill or drop them, got {shown(value)}")
    try:
        array = np.asarray(value)
        if array.dtype.kind == "O" and all(_is_real(entry) for entry in array.flat):
            array = array.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name} must be an array of real numbers, got {shown(value)}") from error
    if array.dtype.kind not in "iuf" or (isinstance(value, (list, tuple)) and _holds_a_boolean(value, array.size)):
        raise ValueError(f"{name} must be an array of real numbers, got {shown(value)}")
    return np.array(array, dtype=np.float64)


def one_or_each(name: str, value: npt.ArrayLike, n: int, *, positive: bool = False) -> float | Array:
    """One finite number for all of n, or an array (n,) of them; > 0 if `positive`."""
    given = real_array(name, value)
    if given.ndim == 0:
        return number(name, float(given), positive=True) if positive else float(finite_array(name, given, ()))
    array = finite_array(name, given, (n,))
    if positive and (wrong := array[array <= 0]).size:
        raise ValueError(f"{name} must be > 0, got {wrong[0]}")
    return array


def _is_real(value: Any) -> bool:
    """Whether this is a number that float() reads without losing a part of it."""
    wrong = (str, bytes, bytearray, bool, np.bool_, complex, np.complexfloating, np.ndarray)
    return hasattr(value, "__float__") and not isinstance(value, wrong) and value is not np.ma.masked


def _holds_a_boolean(value: Any, size: int) -> bool:
    """Whether a nested list has booleans among its numbers, which NumPy converts."""
    if isinstance(value, (list, tuple)):
        return size <= _SEARCHED and any(_holds_a_boolean(entry, size) for entry in value)
    return isinstance(value, (bool, np.bool_))


def increasing_times(name: str, value: npt.ArrayLike) -> Array:
    """Strictly increasing finite times >= 0, shape (n,), n >= 1; one number is one time."""
    given: Any = [value] if _is_real(value) else value
    times = finite_array(name, given, (None,))
    if times[0] < 0:
        raise ValueError(f"{name} must be >= 0, got {times[0]}")
    if (later := np.flatnonzero(np.diff(times) <= 0)).size:
        raise ValueError(f"{name} must increase, got {times[later[0] + 1]} after {times[later[0]]}")
    return times


def noise_levels(name: str, value: npt.ArrayLike) -> Array:
    """Noise levels (n,), all > 0."""
    levels = finite_array(name, value, (None,))
    if (wrong := levels[levels <= 0]).size:
        raise ValueError(f"{name} must be > 0, got {wrong[0]:g}")
    return levels


def group_names(name: str, value: npt.ArrayLike, n: int) -> npt.NDArray[Any]:
    """Names (n,) of the group of each of n samples: integers, texts or finite numbers."""
    if np.ma.is_masked(value):
        raise ValueError(f"{name} must have no masked entries: fill or drop them, got {shown(value)}")
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} must have shape ({n},), got {shown(value)}") from error
    if array.shape != (n,):
        raise ValueError(f"{name} must have shape ({n},), got {array.shape}")
    if array.dtype.kind == "O":
        kinds = {type(entry) for entry in array.tolist()}
        if len(kinds) != 1 or not kinds <= {str, int, float}:
            raise ValueError(f"{name} must be integers or texts throughout, got {shown(value)}")
        array = np.array(array.tolist())
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"{name} must name a group for every sample, got {array[~np.isfinite(array)][0]}")
    if array.dtype.kind not in "biufUS":
        raise ValueError(f"{name} must be integers or texts, got {shown(value)}")
    return array


# --- numbers


def number(name: str, value: Any, *, positive: bool = False, at_most: float = _HUGE) -> float:
    """`value` as a finite float, >= 0 (> 0 if `positive`) and <= `at_most`."""
    result = real(name, value)
    if not math.isfinite(result) or result < 0 or (positive and result == 0) or result > at_most:
        bound = f" and <= {at_most:g}" if at_most != _HUGE or math.inf > result > _HUGE else ""
        raise ValueError(f"{name} must be finite and {'> 0' if positive else '>= 0'}{bound}, got {shown(value)}")
    return result


def real(name: str, value: Any) -> float:
    """`value` as a float of either sign; a text, a boolean or an array of several numbers is refused."""
    scalar = value[()] if isinstance(value, np.ndarray) and value.ndim == 0 else value
    try:
        if not _is_real(scalar) or np.ma.is_masked(scalar) or bool(getattr(scalar, "ndim", False)):
            raise TypeError(f"not a number: {type(value).__name__}")
        return float(scalar)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name} must be a real number, got {shown(value)}") from error


def tolerance(name: str, value: Any, *, positive: bool = True, at_least: float = 0.0) -> float:
    """A relative or absolute tolerance: a finite number between 0 and 1, > 0 if `positive`, and >= `at_least`.

    >>> tolerance("rtol", float("nan"))
    Traceback (most recent call last):
    ...
    ValueError: rtol must be finite and > 0 and <= 1, got nan
    """
    found = number(name, value, positive=positive, at_most=1.0)
    if found < at_least:
        raise ValueError(f"{name} must be >= {at_least:g}, what float64 can resolve, got {shown(value)}")
    return found


def integer(name: str, value: Any, *, at_least: int = 0, at_most: int = _LARGEST) -> int:
    """`value` as an int >= `at_least`, <= `at_most`; a float or a bool is refused even where its value would do."""
    scalar = value[()] if isinstance(value, np.ndarray) and value.ndim == 0 else value
    if isinstance(scalar, bool) or not isinstance(scalar, (int, np.integer)) or scalar < at_least:
        raise ValueError(f"{name} must be an integer >= {at_least}, got {shown(value)}")
    if scalar > at_most:
        raise ValueError(f"{name} must be an integer <= {at_most}, got {shown(value)}")
    return int(scalar)


def digit_count(name: str, value: Any) -> int:
    """Decimal digits asked of multiprecision arithmetic: an integer from 1 to 1000, where minutes become hours."""
    return integer(name, value, at_least=1, at_most=1000)


def records(name: str, value: Any, kinds: type[T] | tuple[type[Any], ...]) -> list[Any]:
    """`value` as a list of records of these kinds; a mapping or a text is no sequence of them."""
    if isinstance(value, (str, bytes, bytearray, Mapping, np.ndarray)) or not isinstance(value, Iterable):
        raise ValueError(f"{name} must be a sequence of records, got {shown(value)}")
    return [record(name, entry, kinds) for entry in value]


def integers(
    name: str, value: Any, *, at_least: int = 0, at_most: int = _LARGEST, most: int = _MOST
) -> tuple[int, ...]:
    """One or more integers, of a sequence or alone, each >= `at_least`, <= `at_most`; no more than `most` of them.

    >>> integers("seeds", 3), integers("seeds", range(2))
    ((3,), (0, 1))
    """
    if isinstance(value, (int, np.integer)) or (isinstance(value, np.ndarray) and value.ndim == 0):
        return (integer(name, value, at_least=at_least, at_most=at_most),)
    if isinstance(value, (str, bytes, bytearray, Mapping)) or not isinstance(value, Iterable):
        raise ValueError(f"{name} must be one or more integers >= {at_least}, got {shown(value)}")
    if np.ma.is_masked(value):
        raise ValueError(f"{name} must have no masked entries: fill or drop them, got {shown(value)}")
    entries: list[int] = []
    for entry in value:
        if len(entries) == most:
            raise ValueError(f"{name} must be at most {most} integers, got more: {shown(value)}")
        entries.append(integer(name, entry, at_least=at_least, at_most=at_most))
    if not entries:
        raise ValueError(f"{name} must be one or more integers >= {at_least}, got none")
    return tuple(entries)


def seed_numbers(seeds: int | Iterable[int]) -> list[int]:
    """Different seeds; a number n stands for 0, 1, .., n - 1.

    >>> seed_numbers(3), seed_numbers([7, 1])
    ([0, 1, 2], [7, 1])
    """
    if isinstance(seeds, (int, np.integer)):
        return list(range(integer("seeds", seeds, at_least=1, at_most=_MOST)))
    names = list(integers("seeds", seeds))
    if len(set(names)) < len(names):
        raise ValueError(f"seeds must be one or more different integers, got {names}")
    return names


# --- the rest


def record(name: str, value: Any, kind: type[T] | tuple[type[T], ...]) -> T:
    """`value`, which must be an instance of `kind`.

    >>> record("seed", "1", int)
    Traceback (most recent call last):
    ...
    ValueError: seed must be an int, got '1'
    """
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kinds):
        wanted = " or ".join(f"{'an' if k.__name__[0] in 'aeiouAEIOU' else 'a'} {k.__name__}" for k in kinds)
        raise ValueError(f"{name} must be {wanted}, got {shown(value)}")
    return value


def choice(name: str, value: Any, options: Collection[str]) -> str:
    """`value`, which must be one of the texts `options`."""
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"{name} must be one of {', '.join(options)}, got {shown(value)}")
    return value


def path(name: str, value: Any) -> Path:
    """`value`, a text or a path, as a path.

    >>> path("store", None)
    Traceback (most recent call last):
    ...
    ValueError: store must be a path, got None
    """
    if not isinstance(value, (str, os.PathLike)) or not isinstance(os.fspath(value), str) or "\0" in os.fspath(value):
        raise ValueError(f"{name} must be a path, got {shown(value)}")
    return Path(value)


def flag(name: str, value: Any) -> bool:
    """`value` as a bool; numbers and texts are refused."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name} must be True or False, got {shown(value)}")
    return bool(value)


def function(name: str, value: Callable[..., T] | None) -> Callable[..., T] | None:
    """`value`, which must be a function or None."""
    if value is not None and not callable(value):
        raise ValueError(f"{name} must be a function or None, got {shown(value)}")
    return value
