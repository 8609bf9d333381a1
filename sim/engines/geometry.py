"""Where a mixture lies in R^D: the coordinates that simulations use.

Isotropic noise knows no directions but the means: they, and a teacher's weights, lie along the first p axes.  Where the
inputs have a spectrum the axes are its eigenvectors, those of node 0 first; in each node the components of the means
come on its first axes, F_u of `quenched.numerics.two_layer.flow.frames`, and it takes a whole number D s_u of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.state import Densities, OrderParameters
from quenched.numerics.two_layer.flow import frames
from quenched.numerics.two_layer.local_fields import densities

__all__ = ["Geometry", "root"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Geometry:
    """Coordinates of a mixture in R^D.

    `references` (R, d): the vectors `mixture.references` on the first d axes, d = p or, with a spectrum, d = D; the
    first C of them are the means.  `scales` (C, 1) or (C, D): the standard deviation of x along each axis.
    """

    mixture: Mixture
    D: int
    references: Array
    scales: Array
    directions: tuple[Array, ...] = ()
    counts: tuple[int, ...] = ()

    @classmethod
    def of(cls, mixture: Mixture, D: int) -> Geometry:
        """ValueError: a node of the spectrum would have no whole number of directions."""
        references = mixture.references_at(D)
        if mixture.spectrum is None:
            return cls(mixture, D, references, mixture.sigmas[:, None])
        counts = mixture.spectrum.multiplicities(D)
        directions = frames(mixture, counts)
        placed = np.zeros((len(references), D))
        start = 0
        for F, count in zip(directions, counts, strict=True):
            placed[:, start : start + F.shape[1]] = references @ F
            start += int(count)
        scales = np.sqrt(np.repeat(mixture.eigenvalues, counts, axis=1))
        return cls(mixture, D, placed, scales, tuple(directions), tuple(counts.tolist()))

    @property
    def means(self) -> Array:
        """The means of the clusters, (C, d)."""
        return self.references[: self.mixture.clusters]

    @property
    def teacher(self) -> Array:
        """The teacher's weights over sqrt(D), (m, d)."""
        return self.references[self.mixture.clusters :]

    def weights(self, state: OrderParameters | Densities, random: np.random.Generator) -> Array:
        """Weights (K, D) with exactly the overlaps of `state`, in each node, in a random orientation.

        Isotropic: W/sqrt(D) = [A^T, R^{1/2} F] with R = Q - A^T A and K orthonormal rows F (K, D - p).
        """
        if self.mixture.spectrum is None:
            if not isinstance(state, OrderParameters):
                raise ValueError(f"state must be OrderParameters without a spectrum, got {type(state).__name__}")
            A = state.projections(self.mixture, self.D)
            frame = random.standard_normal((self.D - len(A), state.K))
            residual = root(state.Q - A.T @ A) @ np.linalg.qr(frame)[0].T
            return math.sqrt(self.D) * np.concatenate([A.T, residual], axis=1)
        parts = densities(self.mixture, state)
        blocks = []
        for A, Q, F, count in zip(parts.A, parts.Q, self.directions, self.counts, strict=True):
            inside = np.linalg.lstsq(F, A, rcond=None)[0] if F.shape[1] else np.zeros((0, parts.K))
            free = count - F.shape[1]
            values, vectors = np.linalg.eigh(Q - inside.T @ inside)
            kept = min(free, parts.K)
            rest = vectors[:, parts.K - kept :] * np.sqrt(np.maximum(values[parts.K - kept :], 0))  # eigenvalues ascend
            if (left := values[: parts.K - kept]).size and left.max() > 1e-8 * np.trace(parts.Q.sum(axis=0)):
                raise ValueError(
                    f"state has Q of a rank that {count} directions of a node cannot have (eigenvalue {left.max():.3g} "
                    "left over): draw it with random_state at this D, or choose a larger D"
                )
            frame = np.linalg.qr(random.standard_normal((free, kept)))[0]
            blocks.append(np.concatenate([inside.T, rest @ frame.T], axis=1))
        return math.sqrt(self.D) * np.concatenate(blocks, axis=1)


def root(Q: Array) -> Array:
    """The symmetric square root of positive semi-definite matrices (..., K, K); eigenvalues below 0 are rounding."""
    values, vectors = np.linalg.eigh(Q)
    return (vectors * np.sqrt(np.maximum(values, 0))[..., None, :]) @ vectors.swapaxes(-1, -2)
