"""Mixtures with one covariance, as isotropic ones: the means at their Mahalanobis distances.

With the covariance sigma^2 sum_u rho_u Pi_u that all clusters share, x -> sum_u Pi_u x/sqrt(rho_u) makes the noise
isotropic and takes the Gram matrix of the means to means (sum_u G_u/rho_u) means^T.  It exists where every node has
variance; where one has none, clusters whose means differ there are told apart for certain.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from quenched.numerics.problem.mixture import Mixture

__all__ = ["Part", "whitened"]

Array = npt.NDArray[np.float64]

_EPS = float(np.finfo(np.float64).eps)
_NO_VARIANCE = 1e-13  # relative to the largest eigenvalue: what is smaller is the rounding of a covariance
_SAME = 1e-12  # relative to their distances: means that differ by less differ by rounding
_FAR_APART = 80.0  # in units of sigma: clusters at that distance overlap by 1e-350


class Part(NamedTuple):
    """Clusters that overlap: their weight, and the isotropic mixture with the same error.

    `smoother`: that of eigenvalues as large as rounding lets them be, None where that changes nothing.
    """

    share: float
    mixture: Mixture
    smoother: Mixture | None


def whitened(mixture: Mixture) -> list[Part]:
    """Isotropic mixtures whose oracle errors add up to that of the mixture.

    Means are those at the Mahalanobis distances, with the Gram matrix means (sum_u G_u/rho_u) means^T.  Where a node
    has no variance the means either differ, and their clusters are told apart, or it does not count.  Clusters of
    different eigenvalues are told apart as D -> infinity, by quadratic forms of x such as |x|^2/D.
    """
    if mixture.teacher is not None:
        raise ValueError(
            "mixture must have a label per cluster; a teacher's labels are known from x, the best error is 0"
        )
    rows, group = np.unique(mixture.eigenvalues, axis=0, return_inverse=True)
    parts = []
    for i in range(len(rows)):
        chosen = np.flatnonzero(group.ravel() == i)
        share = 1.0 if len(rows) == 1 else float(mixture.weights[chosen].sum())
        parts += [p._replace(share=share * p.share) for p in _of_one_covariance(_only(mixture, chosen, share))]
    return parts


def _only(mixture: Mixture, chosen: npt.NDArray[np.intp], share: float) -> Mixture:
    """The chosen clusters, of one covariance and together of weight `share`, as a mixture."""
    spectrum = mixture.spectrum
    if spectrum is not None and spectrum.eigenvalues.ndim == 2:
        spectrum = replace(spectrum, eigenvalues=spectrum.eigenvalues[chosen[0]])
    return replace(
        mixture,
        means=mixture.means[chosen],
        labels=mixture.labels[chosen],
        weights=mixture.weights[chosen] / share,
        sigma=float(mixture.sigmas[chosen[0]]),
        spectrum=spectrum,
    )


def _of_one_covariance(mixture: Mixture) -> list[Part]:
    """`whitened` where all clusters have the same eigenvalues."""
    spectrum = mixture.spectrum
    if spectrum is None:
        return [Part(1.0, mixture, None)]
    rho = np.atleast_2d(spectrum.eigenvalues)
    rho, G = rho[0], mixture.alignment
    if spectrum.alignment is None and spectrum.harmonic_mean is not None:
        # means that point anywhere feel E[1/rho] of the law itself, which no quadrature in rho gives near rho = 0
        rho, G = np.array([spectrum.harmonic_mean]), np.eye(mixture.dimensions)[None]
    empty = rho <= _NO_VARIANCE * max(rho.max(), float(spectrum.weights @ np.atleast_2d(spectrum.eigenvalues)[0]))
    parts = []
    for group in _told_apart(mixture, G[empty].sum(axis=0), float(_NO_VARIANCE * spectrum.eigenvalues.max())):
        share = float(mixture.weights[group].sum())
        chosen = replace(_only(mixture, group, share), spectrum=None)
        parts.append(Part(share, *_scaled(chosen, rho[~empty], G[~empty])))
    return parts


def _scaled(mixture: Mixture, rho: Array, G: Array) -> tuple[Mixture, Mixture | None]:
    """The means at their Mahalanobis distances, and those at eigenvalues larger by their rounding, if that matters."""

    def moved(rho: Array) -> Mixture:
        if not len(rho):
            return replace(mixture, means=0 * mixture.means)
        values, vectors = np.linalg.eigh(np.einsum("u,upq->pq", 1 / rho, G))
        return replace(mixture, means=mixture.means @ (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T)

    rounding = 16 * _EPS * rho.max(initial=0.0)
    seen = mixture.means - mixture.means[0]
    strength = np.einsum("ap,upq,aq->u", seen, G, seen) / rho
    sensitive = len(rho) > 1 and (strength * rounding / rho).sum() > 16 * _EPS * strength.sum()
    return moved(rho), moved(rho + rounding) if sensitive else None


def _told_apart(mixture: Mixture, G: Array, floor: float) -> list[npt.NDArray[np.intp]]:
    """Clusters in groups whose means agree where there is no variance; G (p, p): how coordinates lie there."""
    values, vectors = np.linalg.eigh(G)
    inside = mixture.means @ (vectors * np.sqrt(np.maximum(values, 0)))
    gaps = np.linalg.norm(inside[:, None] - inside, axis=2)
    scale = np.abs(mixture.means - mixture.means[0]).max()
    apart = gaps > _SAME * scale
    unclear = apart & (gaps < _FAR_APART * mixture.isotropic_sigma * math.sqrt(floor))
    if unclear.any():
        raise ValueError(
            f"mixture has means that differ by {gaps[unclear].min():.3g} where its spectrum has no variance but for "
            f"rounding, at most {mixture.isotropic_sigma**2 * floor:.3g}: whether that tells the clusters apart is not "
            "known; take shrinkage, or leave these directions out"
        )
    first = (~apart).argmax(axis=1)
    return [np.flatnonzero(first == i) for i in np.unique(first)]
