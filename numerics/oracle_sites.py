"""The sites of an oracle problem: the distinct means of a mixture in units of sigma, with signed weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from quenched.numerics.probability.exponential_sums import Numbers
from quenched.numerics.problem.mixture import Mixture
from quenched.theory import oracle

__all__ = ["Sites", "at_least", "reduced", "turned"]

Array = npt.NDArray[Any]

_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Sites:
    """Distinct means (n, dimensions) in units of sigma, with signed weights (n,): label times weight."""

    means: Array
    weights: Array

    @property
    def labels(self) -> Array:
        """+1 or -1 of each, (n,)."""
        return np.where(self.weights > 0, 1, -1)

    @property
    def dimensions(self) -> int:
        """Of the span of the means."""
        return self.means.shape[1]

    def rough(self) -> Sites:
        """In float64."""
        return Sites(self.means.astype(float), self.weights.astype(float))

    def of(self, label: int) -> tuple[Array, Array]:
        """Means and positive weights of one label."""
        chosen = self.labels == label
        return self.means[chosen], self.weights[chosen] * label


def reduced(mixture: Mixture, sigma: Any, numbers: Numbers) -> tuple[Sites, Any]:
    """The sites of a mixture, and the error that is made whatever the rule: the smaller label's weight at each mean."""
    scale = np.abs(mixture.means - mixture.means[0]).max()
    gaps = np.abs(mixture.means[:, None] - mixture.means).max(axis=2)
    site = (gaps <= 16 * _EPS * scale).argmax(axis=1)  # means that differ by rounding are the first of them
    weights = numbers.array(mixture.weights)
    weights = weights / weights.sum()
    distinct = np.unique(site)
    plus, minus = (
        np.array([weights[(site == i) & (mixture.labels == label)].sum() for i in distinct], dtype=weights.dtype)
        for label in (1, -1)
    )
    signed = plus - minus
    means = numbers.array(mixture.means[distinct[signed != 0]]) / sigma
    signed = signed[signed != 0]
    if (signed > 0).any() and (signed < 0).any():
        means = _coordinates(means, numbers)
    return Sites(means, signed), np.minimum(plus, minus).sum()


def _coordinates(means: Array, numbers: Numbers) -> Array:
    """Coordinates of points (n, p) in their affine span."""
    rest = means - means[0]
    scale = np.abs(rest).max()
    columns: list[Array] = []
    while len(columns) < means.shape[1]:  # Gram-Schmidt; the farthest remaining point gives the next direction
        lengths = (rest * rest).sum(axis=1)
        farthest = lengths.argmax()
        if lengths[farthest] <= (64 * _EPS * scale) ** 2:
            break
        direction = rest[farthest] / numbers.sqrt(lengths[farthest])
        columns.append(rest @ direction)
        rest = rest - columns[-1][:, None] * direction
    return np.stack(columns, axis=1)


def turned(sites: Sites, numbers: Numbers) -> Sites:
    """The sites rotated so that lines along the first axis cut D's zero set few times and never touch it far out.

    What matters is the order of the labels along the axis, which changes where the axis is normal to the difference of
    two means of opposite label.  Of the sectors between those angles that are not much narrower than the widest, take
    the middle of the one with fewest label changes.
    """
    (plus, _), (minus, _) = sites.of(1), sites.of(-1)
    difference = (plus[:, None] - minus).reshape(-1, 2).astype(float)
    normal = np.sort(np.arctan2(difference[:, 0], -difference[:, 1]) % math.pi)
    width = np.diff(normal, append=normal[0] + math.pi)
    wide = width > width.max() / 8
    angles = (normal + width / 2)[wide]
    along = np.stack([np.cos(angles), np.sin(angles)], axis=1) @ sites.means.astype(float).T
    labels = sites.labels[np.argsort(along, axis=1)]
    changes = (labels[:, 1:] != labels[:, :-1]).sum(axis=1)
    best = np.lexsort([-width[wide], changes])[0]
    cosine = numbers.number(math.cos(angles[best]))
    sine = numbers.sqrt(1 - cosine * cosine) * (1 if math.sin(angles[best]) > 0 else -1)
    return Sites(sites.means @ numbers.array([[cosine, -sine], [sine, cosine]]), sites.weights)


def at_least(sites: Sites, numbers: Numbers) -> Any:
    """A lower bound of the error: that of the worst pair of opposite labels, the others left out."""
    (plus, p), (minus, m) = sites.of(1), sites.of(-1)
    difference = plus[:, None] - minus
    half = numbers.sqrt((difference * difference).sum(axis=2)) / 2
    one = numbers.number(1.0)
    return numbers.formula(oracle.two_clusters)(half, one, p[:, None], m).max()
