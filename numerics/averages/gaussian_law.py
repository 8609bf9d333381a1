"""The law of up to four Gaussian fields in exact numbers: read, checked, and drawn from unit normals.

A number is an integer, a float (its exact binary value), a `Fraction`, or a text such as "0.1" or "1/3", which is exact
where a float is not.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from quenched.numerics.problem.checks import shown

__all__ = ["GaussianLaw", "entries", "exact"]

_TEXT = re.compile(r"[+-]?(\d{1,1100}/\d{1,1100}|(\d{1,1100}\.?\d{0,1100}|\.\d{1,1100})([eE][+-]?\d{1,3})?)", re.ASCII)
_INDEFINITE = 1e-10  # relative; an eigenvalue below minus this is not rounding of float64 entries
_ASYMMETRY = Fraction(1, 10**12)  # relative to the variances
_ROUNDING = Fraction(1, 10**15)
_LARGEST = Fraction(10) ** 300


def exact(name: str, value: Any) -> Fraction:
    """`value` as an exact number of size 1e-300 to 1e300, or 0.

    >>> exact("mean", "0.1"), exact("mean", 0.5), exact("mean", "-2/3")
    (Fraction(1, 10), Fraction(1, 2), Fraction(-2, 3))
    """
    number: Fraction | None = None
    if isinstance(value, str) and _TEXT.fullmatch(value.strip(" ")) and not re.search(r"/0+$", value.strip(" ")):
        number = Fraction(value.strip(" "))
    elif isinstance(value, (int, np.integer, Fraction)) and not isinstance(value, bool):
        number = Fraction(value if isinstance(value, Fraction) else int(value))
    elif isinstance(value, (float, np.floating)) and math.isfinite(value):
        number = Fraction(float(value))
    if number is None or (number and not 1 / _LARGEST <= abs(number) <= _LARGEST):
        raise ValueError(f"{name} must be made of finite real numbers of size 1e-300 to 1e300, got {shown(value)}")
    return number


def entries(name: str, value: Any) -> list[Any]:
    """The members of a list, a tuple or an array, in their order; ValueError: it is none."""
    if isinstance(value, np.ndarray) and not isinstance(value, np.ma.MaskedArray) and value.ndim:
        return list(value)
    if isinstance(value, (list, tuple)):
        return list(value)
    raise ValueError(f"{name} must be a list of numbers, got {shown(value)}")


@dataclass(frozen=True)
class GaussianLaw:
    """Means (n,) and covariance (n, n) of n fields."""

    means: tuple[Fraction, ...]
    covariance: tuple[tuple[Fraction, ...], ...]

    @classmethod
    def read(cls, mean: Any, covariance: Any) -> GaussianLaw:
        """From numbers; the covariance may be a matrix, all its entries or its upper triangle, row by row.

        ValueError: not numbers, another number of them, more than four fields, not symmetric, not positive
        semidefinite.

        >>> GaussianLaw.read([0, 0], [1, "1/2", 1]) == GaussianLaw.read([0, 0], [[1, 0.5], [0.5, 1]])
        True
        """
        means = tuple(exact("mean", entry) for entry in entries("mean", mean))
        n = len(means)
        if not 1 <= n <= 4:
            raise ValueError(f"mean must have 1 to 4 entries, one a field, got {shown(mean)}")
        rows = [
            [exact("covariance", each) for each in row] if isinstance(row, (list, tuple, np.ndarray)) else row
            for row in entries("covariance", covariance)
        ]
        if len(rows) == n and all(isinstance(row, list) and len(row) == n for row in rows):
            full = [list(row) for row in rows]
        else:
            flat = [exact("covariance", entry) for entry in rows if not isinstance(entry, list)]
            upper = [(i, j) for i in range(n) for j in range(i, n)]
            places = upper if len(flat) == len(upper) else [(i, j) for i in range(n) for j in range(n)]
            if len(flat) != len(rows) or len(flat) != len(places):
                raise ValueError(
                    f"covariance must have {len(upper)} entries (upper triangle, row by row) or {n} x {n}, "
                    f"as there are {n} means; got {shown(covariance)}"
                )
            found = dict(zip(places, flat, strict=True))
            full = [[found[(i, j) if (i, j) in found else (j, i)] for j in range(n)] for i in range(n)]
        law = cls(means, tuple(tuple(row) for row in full))
        return law._checked(covariance)

    def _checked(self, given: Any) -> GaussianLaw:
        """Exactly symmetric, and a covariance up to the rounding of float64."""
        n, c = len(self.means), self.covariance
        if negative := [c[i][i] for i in range(n) if c[i][i] < 0]:
            raise ValueError(f"covariance must have variances >= 0, got {float(negative[0])!r} in {shown(given)}")
        for i in range(n):
            for j in range(i):
                if abs(c[i][j] - c[j][i]) > _ASYMMETRY * max(c[i][i], c[j][j]):
                    raise ValueError(f"covariance must be symmetric, got {shown(given)}")
                if c[i][j] and not c[i][i] * c[j][j]:
                    raise ValueError(
                        f"covariance must be positive semidefinite: a field of variance 0 has covariance 0 with all "
                        f"others, got {shown(given)}"
                    )
        symmetric = tuple(tuple((c[i][j] + c[j][i]) / 2 for j in range(n)) for i in range(n))
        law = GaussianLaw(self.means, symmetric)
        lowest = float(np.linalg.eigvalsh(law.correlation()).min())
        if lowest < -_INDEFINITE:
            raise ValueError(
                f"covariance must be positive semidefinite, got {shown(given)}, whose correlation matrix has the "
                f"eigenvalue {lowest:.3g}"
            )
        return law

    def correlation(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """(n, n), with 0 for fields that do not vary."""
        n, c = len(self.means), self.covariance
        found = np.eye(n)
        for i in range(n):
            for j in range(n):
                if i != j and c[i][j]:
                    squared = c[i][j] ** 2 / (c[i][i] * c[j][j])
                    found[i, j] = math.copysign(math.sqrt(min(squared, Fraction(4))), c[i][j])
        return found

    def of(self, kept: Sequence[int], n: int, others: Fraction) -> GaussianLaw:
        """Of n fields: those in `kept` as they are, in the place of the rest independent ones of variance `others`."""
        places = range(n)
        means = tuple(self.means[i] if i in kept else Fraction(0) for i in places)
        rows = tuple(
            tuple(self.covariance[i][j] if {i, j} <= set(kept) else others * int(i == j) for j in places)
            for i in places
        )
        return GaussianLaw(means, rows)

    def loadings(self, ctx: Any) -> list[list[Any]]:
        """L (n, r) with covariance L L^T, in the numbers of `ctx`: the columns of Cholesky's triangle that are not 0.

        The elimination is exact, so that fields which depend on others linearly take no normal of their own.  Of
        entries that float64 has rounded to an indefinite matrix, what is left at 1e-15 of a variance counts as nothing.
        """
        columns = self._eliminated(Fraction(0))
        if columns is None:
            columns = self._eliminated(_ROUNDING) or []
        roots = [ctx.sqrt(ctx.convert(pivot)) for pivot, _ in columns]
        return [
            [ctx.convert(column[i]) * root for root, (_, column) in zip(roots, columns, strict=True)]
            for i in range(len(self.means))
        ]

    def _eliminated(self, threshold: Fraction) -> list[tuple[Fraction, list[Fraction]]] | None:
        """Pivots and columns of L D L^T; None if the matrix is indefinite and the threshold 0."""
        n = len(self.means)
        left = [list(row) for row in self.covariance]
        found = []
        for k in range(n):
            pivot = left[k][k]
            if pivot <= threshold * self.covariance[k][k]:
                if not threshold and any(left[k][k:]):
                    return None
                continue
            column = [Fraction(0)] * k + [left[i][k] / pivot for i in range(k, n)]
            found.append((pivot, column))
            for i in range(k, n):
                for j in range(k, n):
                    left[i][j] -= column[i] * column[j] * pivot
        return found
