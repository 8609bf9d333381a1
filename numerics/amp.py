"""State evolution of approximate message passing (AMP), iteration by iteration, on a Gaussian mixture of unknown means.

The problem is that of `quenched.numerics.bayes`: means A v^T, v (D, p) of components N(0, 1/D), n = alpha D samples of
which the label is known.  `quenched.sim.simulate_amp` runs AMP on samples; its estimate vhat has, as D -> infinity, the
overlaps vhat^T v = vhat^T vhat = Q_t, where

    Q_(t+1) = Lam_t (1 + Lam_t)^-1,   Lam_t = (alpha/sigma^2) sum_y P_y E[<A><A>^T] at Q_t

is one iteration of the map whose fixed points `bayes_error` finds.  Iterated from Q = 0+ it ends where AMP ends that
knows nothing at its start: in a hard phase that is short of what the posterior knows.

The spectral estimate belongs to the linear part of AMP around vhat = 0, which exists where the means of each label
average to 0.  Directions that no label's samples tell apart are columns of one eigenspace (`spectral_weights`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from quenched.numerics.bayes import Evolution, error_at, evolution_of
from quenched.numerics.problem.checks import integer, number
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.provenance import provenance
from quenched.numerics.problem.variables import describing
from quenched.theory import amp as generated

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["SpectralWeights", "spectral_overlaps", "spectral_weights", "state_evolution"]

Array = npt.NDArray[np.float64]

theory: Any = generated  # ufunc expressions: they take arrays where their signature says float

_MOST_ITERATIONS = 10_000
_SAME = 1e-10  # relative to the largest covariance of a label


@describing
def state_evolution(mixture: Mixture, alpha: float, iterations: int, overlap: float = 0.1) -> xr.Dataset:
    """The overlaps Q_t of AMP at n = alpha D, D -> infinity, for t = 0 .. iterations, from Q_0 = overlap·1.

    Returns a dataset with dimensions iteration, direction, direction_: overlaps (vhat^T v) and norms (vhat^T vhat),
    which agree, classification_error of the labels that vhat predicts, and its numerical error.  What it is compared
    with is `simulate_amp(..., start="informed")` at the same overlap.

    ValueError: as `bayes_error`; overlap outside (0, 1]; iterations < 1.

    >>> run = state_evolution(Mixture.two_clusters(1.0), alpha=2.0, iterations=1)
    >>> print(f"{run.overlaps[1, 0, 0]:.6f}")       # alpha/(alpha + sigma^2), reached at once
    0.666667
    """
    import xarray as xr

    evolution = evolution_of(mixture, alpha)
    iterations = integer("iterations", iterations, at_least=1, at_most=_MOST_ITERATIONS)
    overlap = number("overlap", overlap, positive=True, at_most=1.0)
    path = [overlap * np.eye(evolution.p)]
    for _ in range(iterations):
        path.append(evolution.unpacked(evolution(evolution.packed(path[-1]))))
    value, error = np.array([error_at(mixture, Q) for Q in path]).T
    Q = ("iteration", "direction", "direction_"), np.stack(path)
    return xr.Dataset(
        {
            "overlaps": Q,
            "norms": Q,
            "classification_error": ("iteration", value),
            "classification_error_error": ("iteration", error),
        },
        {"iteration": np.arange(iterations + 1)},
        provenance(mixture=mixture, amp={"alpha": evolution.alpha, "start": "informed", "overlap": overlap}),
    )


class SpectralWeights(NamedTuple):
    """What the spectral estimate needs to know of a mixture.

    `axes` (p, p): orthonormal columns, in which the covariances C_y of all labels' means are diagonal; `powers`
    (labels, p): their diagonals; `weights` (labels, p): of a sample's outer product x x^T in the matrix whose leading
    eigenvector estimates v along the axis; `groups`: axes with the same weights, which share a matrix.
    """

    axes: Array
    powers: Array
    weights: Array
    groups: tuple[tuple[int, ...], ...]


def spectral_weights(mixture: Mixture) -> SpectralWeights:
    """The linear part of AMP at vhat = 0: û = C_y B, whose fixed points are eigenvectors of sum_i w_y x_i x_i^T.

    w_y = C_y (sigma^2 + C_y)^-1, axis by axis (`quenched.theory.amp.spectral_weight`).

    ValueError: a label's means do not average to 0, so that something is learned at first order; covariances of the
    labels' means that do not commute.
    """
    evolution = evolution_of(mixture, 1.0)
    if not all(label.centred for label in evolution.labels):
        raise ValueError(
            "mixture must have means that average to 0 within each label for a spectral start, got "
            f"{[(label.shares @ label.means).tolist() for label in evolution.labels]}: take start='random', which "
            "learns at once"
        )
    covariances = np.stack([label.covariance for label in evolution.labels])
    # one generic combination has the eigenvectors that all share
    _, axes = np.linalg.eigh(np.tensordot(np.sqrt(np.arange(2.0, 2 + len(covariances))), covariances, axes=1))
    turned = axes.T @ covariances @ axes
    powers = np.diagonal(turned, axis1=1, axis2=2).copy()
    scale = float(np.abs(turned).max())
    if np.abs(turned - powers[:, :, None] * np.eye(evolution.p)).max() > _SAME * scale:
        raise ValueError(
            "mixture must have covariances of its labels' means that commute for a spectral start, got "
            f"{covariances.tolist()}: take start='random'"
        )
    weights = np.asarray(theory.spectral_weight(powers, evolution.sigma))
    groups: list[tuple[int, ...]] = []
    for k in range(evolution.p):
        for i, group in enumerate(groups):
            if np.abs(weights[:, k] - weights[:, group[0]]).max() <= _SAME:
                groups[i] = (*group, k)
                break
        else:
            groups.append((k,))
    return SpectralWeights(axes, powers, weights, tuple(groups))


def spectral_overlaps(mixture: Mixture, alpha: float) -> Array:
    """(e_k.v_k)^2 (p,) of the spectral estimate along each axis, 0 below the threshold.

    Each axis must be told by the samples of one label, as in XOR, where the threshold is alpha = 2 sigma^4.

    ValueError: as `bayes_error` and `spectral_weights`; an axis that two labels tell.

    >>> spectral_overlaps(Mixture.xor(1.0), 4.0)        # (1 - alpha_c/alpha)/(1 + 2 sigma^2/alpha)
    array([0.33333333, 0.33333333])
    """
    evolution: Evolution = evolution_of(mixture, alpha)
    powers = spectral_weights(mixture).powers
    if ((powers > _SAME * powers.max()).sum(axis=0) != 1).any():
        raise ValueError(
            f"mixture must have axes that one label each varies along, got the variances {powers.tolist()}"
        )
    told = powers.argmax(axis=0)
    shares = np.array([evolution.labels[y].weight for y in told])
    found = theory.spectral_overlap(evolution.alpha * shares, evolution.sigma, powers.max(axis=0))
    return np.maximum(np.asarray(found), 0.0)
