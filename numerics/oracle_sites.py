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

__all__ = ["Sites", "at_least", "overlap_bounds", "reduced", "separated", "turned"]

Array = npt.NDArray[Any]

_EPS = float(np.finfo(np.float64).eps)
_DIRECTIONS = 800  # tried for lines across space: 4 degrees apart
_TURNS = 180  # tried for the planes of these lines


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


def _merged(mixture: Mixture, numbers: Numbers) -> tuple[Array, Array, Any]:
    """The first cluster of each distinct mean and sigma, signed weights, and the weight of the wrong label there."""
    scale = np.abs(mixture.means - mixture.means[0]).max()
    same = np.abs(mixture.means[:, None] - mixture.means).max(axis=2) <= 16 * _EPS * scale  # means differ by rounding
    site = (same & (mixture.sigmas[:, None] == mixture.sigmas)).argmax(axis=1)
    weights = numbers.array(mixture.weights)
    weights = weights / weights.sum()
    distinct = np.unique(site)
    plus, minus = (
        np.array([weights[(site == i) & (mixture.labels == label)].sum() for i in distinct], dtype=weights.dtype)
        for label in (1, -1)
    )
    signed = plus - minus
    return distinct[signed != 0], signed[signed != 0], np.minimum(plus, minus).sum()


def reduced(mixture: Mixture, sigma: Any, numbers: Numbers) -> tuple[Sites, Any]:
    """The sites of a mixture, and the error that is made whatever the rule: the smaller label's weight at each mean."""
    chosen, signed, contested = _merged(mixture, numbers)
    means = numbers.array(mixture.means[chosen]) / sigma
    if (signed > 0).any() and (signed < 0).any():
        means = _coordinates(means, numbers)
    return Sites(means, signed), contested


def separated(mixture: Mixture, numbers: Numbers) -> tuple[Sites, Array, Any]:
    """The sites of a mixture with a sigma each, in units of the smallest; those sigmas; the error whatever the rule."""
    chosen, signed, contested = _merged(mixture, numbers)
    sigmas = numbers.array(mixture.sigmas[chosen])
    smallest = sigmas.min(initial=numbers.number(np.inf)) if len(sigmas) else numbers.number(1.0)
    means = _coordinates(numbers.array(mixture.means[chosen]) / smallest, numbers) if len(chosen) else np.empty((0, 0))
    return Sites(means, signed), sigmas / smallest, contested


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
    return np.stack(columns, axis=1) if columns else means[:, :0]


def turned(sites: Sites, numbers: Numbers) -> Sites:
    """The sites rotated so that lines along the first axis cut D's zero set few times and never touch it far out.

    What matters is the order of the labels along the axis, which changes where the axis is normal to the difference of
    two means of opposite label.  In a plane, of the sectors between those angles that are not much narrower than the
    widest, take the middle of the one with fewest label changes.  In space, of directions all over the sphere take
    that of fewest label changes, and of those the one that keeps the means farthest apart; the last axis is as far as
    it can be from the normals of the boundary, so that no sheet of it is parallel to the planes across that axis.
    """
    if sites.dimensions == 1:
        return sites
    return _turned_in_plane(sites, numbers) if sites.dimensions == 2 else _turned_in_space(sites, numbers)


def _turned_in_space(sites: Sites, numbers: Numbers) -> Sites:
    means = sites.means.astype(float)
    k = np.arange(_DIRECTIONS) + 0.5
    height, angle = k / _DIRECTIONS, k * math.pi * (1 + math.sqrt(5))  # a Fibonacci lattice on the half sphere
    radius = np.sqrt(1 - height**2)
    axes = np.stack([radius * np.cos(angle), radius * np.sin(angle), height], axis=1)
    along = axes @ means.T
    order = np.argsort(along, axis=1)
    changes = np.diff(sites.labels[order], axis=1) != 0
    gaps = np.diff(np.take_along_axis(along, order, axis=1), axis=1)
    narrowest = np.where(changes, gaps, np.inf).min(axis=1)
    first = axes[np.lexsort([-narrowest, changes.sum(axis=1)])[0]]
    (plus, _), (minus, _) = sites.rough().of(1), sites.rough().of(-1)
    normals = (plus[:, None] - minus).reshape(-1, 3)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    across = np.linalg.svd(first[None])[2][1:]  # two directions normal to the first axis
    turn = np.linspace(0, math.pi, _TURNS, endpoint=False)
    lasts = np.stack([np.cos(turn), np.sin(turn)], axis=1) @ across
    last = lasts[np.abs(lasts @ normals.T).max(axis=1).argmin()]
    basis: list[Array] = []
    for vector in (first, np.cross(last, first), last):
        exact = numbers.array(vector)
        for other in basis:
            exact = exact - (exact @ other) * other
        basis.append(exact / numbers.sqrt(exact @ exact))
    return Sites(sites.means @ np.stack(basis, axis=1), sites.weights)


def _turned_in_plane(sites: Sites, numbers: Numbers) -> Sites:
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


def overlap_bounds(sites: Sites, sigmas: Array, D: int) -> tuple[float, float]:
    """Logarithms of a lower and an upper bound of the error of isotropic clusters with a sigma each, in D dimensions.

    With B = int sqrt(f g) of two clusters of opposite label, and w and v their weights,
    B^2/(w + v) <= int min(f, g) <= B (Cauchy and Schwarz for the lower): the worst pair's, and the sum of all.
    """
    logs = []
    rough, s = sites.rough(), sigmas.astype(float)
    for i in np.flatnonzero(rough.weights > 0):
        for j in np.flatnonzero(rough.weights < 0):
            square = s[i] ** 2 + s[j] ** 2
            w, v = float(rough.weights[i]), -float(rough.weights[j])
            distance = float(((rough.means[i] - rough.means[j]) ** 2).sum())
            log_B = math.log(w * v) / 2 + D / 2 * math.log(2 * s[i] * s[j] / square) - distance / (4 * square)
            logs.append((2 * log_B - math.log(w + v), log_B))
    return max(low for low, _ in logs), max(high for _, high in logs) + math.log(len(logs))
