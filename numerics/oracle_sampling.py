"""The oracle error in any number of dimensions, clusters with covariances of their own included, by sampling.

    error = E_x[min(S+, S-)/(S+ + S-)],   S± = sum of P_a N(x; mean_a, Omega_a) over the clusters of either label,

the expected weight of the smaller posterior.  x is drawn from each cluster by randomised quasi-Monte Carlo; the error
bar is the standard error.  Only differences of the clusters matter: directions in which all agree are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quenched.numerics.probability.quadrature import randomised
from quenched.numerics.problem.mixture import Mixture

__all__ = [
    "Gaussians",
    "gaussians",
    "label_densities",
    "sampled_error",
    "separate_covariances",
    "single_directions",
]

Array = npt.NDArray[np.float64]

_POINTS = 2**17  # of each cluster, at most
_WORK = 1e8  # coordinates of points in all pairs of clusters, at most: a few seconds
_NO_VARIANCE = 1e-13  # relative to the largest: variances below are the rounding of a covariance


@dataclass(frozen=True)
class Gaussians:
    """Clusters x | a ~ N(mean_a, R_a R_a^T) with labels ±1 and weights.

    `means` (C, p), `roots` (C, p, p) regular, `labels` (C,), `weights` (C,).
    """

    means: Array
    roots: Array
    labels: Array
    weights: Array


def _log_densities(clusters: Gaussians, x: Array) -> Array:
    """log P_a N(x; mean_a, Omega_a) but for the powers of 2 pi, (C, n)."""
    found = []
    for mean, root, weight in zip(clusters.means, clusters.roots, clusters.weights, strict=True):
        z = np.linalg.solve(root, (x - mean).T)
        found.append(np.log(weight) - (z * z).sum(axis=0) / 2 - np.linalg.slogdet(root)[1])
    return np.stack(found)


def _smaller_posterior(clusters: Gaussians, x: Array) -> Array:
    """min(S+, S-)/(S+ + S-) at x (n, p)."""
    logs = _log_densities(clusters, x)
    top = logs.max(axis=0)
    densities = np.exp(logs - top)
    plus, minus = densities[clusters.labels > 0].sum(axis=0), densities[clusters.labels < 0].sum(axis=0)
    return np.asarray(np.minimum(plus, minus) / (plus + minus))


def gaussians(mixture: Mixture) -> Gaussians:
    """The clusters in as many dimensions as their means have coordinates, or their spectrum single directions."""
    if mixture.spectrum is not None:
        return separate_covariances(mixture)
    roots = mixture.sigmas[:, None, None] * np.eye(mixture.dimensions)
    return Gaussians(mixture.means, roots, mixture.labels, mixture.weights)


def label_densities(clusters: Gaussians, x: Array) -> Array:
    """sum of P_a N(x; mean_a, Omega_a) over the clusters of label +1, and of -1, at x (n, p): (2, n).

    >>> one = Gaussians(np.zeros((1, 1)), np.ones((1, 1, 1)), np.array([1]), np.ones(1))
    >>> round(float(label_densities(one, np.zeros((1, 1)))[0, 0] ** -2 / 2), 12)                  # pi
    3.14159265359
    """
    densities = np.exp(_log_densities(clusters, x)) / (2 * np.pi) ** (clusters.means.shape[1] / 2)
    return np.stack([densities[clusters.labels == label].sum(axis=0) for label in (1, -1)])


def sampled_error(clusters: Gaussians, tolerance: float, seed: int = 0) -> tuple[float, float]:
    """The oracle error and its standard error, which is below the relative `tolerance` or that of all points.

    >>> two = Gaussians(np.array([[1.0], [-1.0]]), np.ones((2, 1, 1)), np.array([1, -1]), np.array([0.5, 0.5]))
    >>> value, error = sampled_error(two, 1e-4)
    >>> bool(abs(value - 0.15865525393145707) < 5 * error < 1e-3)             # Phi(-1)
    True
    """
    if len(set(np.sign(clusters.labels).tolist())) < 2:
        return 0.0, 0.0
    p = clusters.means.shape[1]

    def given(z: Array) -> Array:
        total = np.zeros(len(z))
        for mean, root, weight in zip(clusters.means, clusters.roots, clusters.weights, strict=True):
            total += weight * _smaller_posterior(clusters, mean + z @ root.T)
        return total

    C = len(clusters.means)
    points = max(2**11, min(_POINTS, 2 ** int(np.log2(_WORK / (C * C * p)))))
    scale = float(given(np.random.default_rng(seed).standard_normal((256, p))).mean())
    result = randomised(given, p, tolerance=tolerance * scale, seed=seed, points=points)
    return float(result.value), float(result.error)


def single_directions(mixture: Mixture) -> bool:
    """Whether the nodes of the mixture's spectrum are directions, one each: x has as many dimensions as there are."""
    spectrum = mixture.law
    if spectrum.alignment is None or np.ptp(spectrum.weights) > 1e-10:
        return False
    values = np.linalg.eigvalsh(mixture.alignment)
    return values.shape[1] == 1 or bool((values[:, :-1].max(axis=1) <= 1e-10 * np.maximum(values[:, -1], 1e-10)).all())


def separate_covariances(mixture: Mixture) -> Gaussians:
    """Clusters with covariances of their own, in a spectrum of `single_directions`: quadratic discriminants.

    ValueError where variance vanishes for some clusters only.
    """
    rho = mixture.eigenvalues
    values, vectors = np.linalg.eigh(mixture.alignment)
    means = mixture.means @ (vectors[:, :, -1] * np.sqrt(np.maximum(values[:, -1:], 0))).T  # on each direction
    seen = (rho > _NO_VARIANCE * rho.max()).all(axis=0)
    unseen = ~seen & ((rho > _NO_VARIANCE * rho.max()).any(axis=0) | (np.ptp(means, axis=0) > 1e-12 * np.ptp(means)))
    if unseen.any():
        raise ValueError(
            f"mixture has {int(unseen.sum())} directions in which some clusters have no variance and others do, or "
            "means differ: they tell the clusters apart; take shrinkage for an error that is not 0"
        )
    roots = np.sqrt(rho[:, seen])[:, :, None] * np.eye(int(seen.sum()))
    return Gaussians(means[:, seen], roots, mixture.labels, mixture.weights)
