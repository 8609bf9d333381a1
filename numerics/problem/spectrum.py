"""Spectra of the inputs: eigenvalues of covariances that share their eigenvectors, and where the means lie on them.

The directions of R^D fall into nodes u = 1..U with a share s_u of them each.  Cluster a has the covariance
Omega_a = sigma_a^2 rho_au along those of node u.  An empirical spectrum has one direction per node, U = D and
s_u = 1/D; a law of eigenvalues is represented by the nodes and weights of a Gauss quadrature, so that averages over it
of polynomials in rho up to degree 2U - 1 are exact, or by its quantiles, which a simulation can have as eigenvalues.

The basis e_b in which means are given (`Mixture.means`) is spread over the nodes: with Pi_u the projector on node u,
the alignment is G_u = (e_b·Pi_u e_c), so that mean_a·Pi_u mean_b = (means G_u means^T)_ab.  Directions chosen without
regard to the eigenvectors have G_u = s_u 1 for D -> infinity.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from quenched.numerics.problem.checks import LEFT_OUT, Record, finite_array, flag, integer, number, real, real_array

__all__ = ["Spectrum"]

Array = npt.NDArray[np.float64]

_ROUNDING = 1e-10  # of sums over hundreds of nodes, and of products of orthonormal vectors


@dataclass(frozen=True, eq=False, repr=False)
class Spectrum(Record):
    """Eigenvalues rho_au >= 0 of commuting covariances, Omega_a = sigma_a^2 rho_au on node u.

    `eigenvalues` (U,), shared by all clusters, or (C, U); `weights` (U,): the share s_u of all directions, equal if
    None; `alignment` (U, p, p): G_u, positive semi-definite, sum_u G_u = 1, or None for s_u 1 (means that point
    anywhere).  `shrinkage` and `discarded` say what an estimate from data did: the weight of the identity that was
    mixed in, and the fraction of the squared norm of the covariances that was projected away as they do not commute.
    `harmonic_mean`: 1/E[1/rho] of the law that the nodes stand for, 0 where E[1/rho] diverges; None: that of the nodes.

    ValueError: a negative eigenvalue, weights that do not sum to 1, an alignment that is not one.

    >>> Spectrum([0.5, 1.5]).weights
    array([0.5, 0.5])
    >>> Spectrum([1.0, -0.5])
    Traceback (most recent call last):
    ...
    ValueError: eigenvalues must be >= 0, got -0.5
    """

    eigenvalues: Array
    weights: Array = LEFT_OUT
    alignment: Array | None = None
    shrinkage: float = 0.0
    discarded: float = 0.0
    harmonic_mean: float | None = None

    def __post_init__(self) -> None:
        shape = (None,) if real_array("eigenvalues", self.eigenvalues).ndim == 1 else (None, None)
        eigenvalues = finite_array("eigenvalues", self.eigenvalues, shape)
        if (wrong := eigenvalues[eigenvalues < 0]).size:
            raise ValueError(f"eigenvalues must be >= 0, got {wrong.min()}")
        if not eigenvalues.any(axis=-1).all():
            raise ValueError("eigenvalues must not all be 0: x would have no noise")
        nodes = eigenvalues.shape[-1]
        given = np.full(nodes, 1 / nodes) if self.weights is None else self.weights
        weights = finite_array("weights", given, (nodes,))
        if (wrong := weights[weights <= 0]).size:
            raise ValueError(f"weights must be > 0, got {wrong[0]}")
        if abs(weights.sum() - 1) > _ROUNDING:
            raise ValueError(f"weights must sum to 1, got a sum of {weights.sum()!s}")
        alignment = self.alignment
        if alignment is not None:
            alignment = finite_array("alignment", alignment, (nodes, None, None))
            if (
                alignment.shape[1] != alignment.shape[2]
                or np.abs(alignment - alignment.swapaxes(1, 2)).max() > _ROUNDING
            ):
                raise ValueError(f"alignment must be a symmetric matrix in each node, got shape {alignment.shape}")
            if (gap := np.abs(alignment.sum(axis=0) - np.eye(alignment.shape[1])).max()) > _ROUNDING:
                raise ValueError(f"alignment must sum to the identity over the nodes, got a sum off by {gap:.3g}")
            if (lowest := np.linalg.eigvalsh(alignment).min()) < -_ROUNDING:
                raise ValueError(f"alignment must be positive semi-definite, got the eigenvalue {lowest:.3g}")
        self._set(
            eigenvalues=eigenvalues,
            weights=weights,
            alignment=alignment,
            shrinkage=number("shrinkage", self.shrinkage),
            discarded=number("discarded", self.discarded),
            harmonic_mean=None if self.harmonic_mean is None else number("harmonic_mean", self.harmonic_mean),
        )

    @property
    def nodes(self) -> int:
        """U, the number of nodes."""
        return self.weights.shape[0]

    def aligned(self, p: int) -> Array:
        """G (U, p, p) for p coordinates."""
        if self.alignment is None:
            return np.asarray(self.weights[:, None, None] * np.eye(integer("p", p, at_least=1)))
        return self.alignment

    def oriented(self, p: int, seed: int) -> Spectrum:
        """The same with an explicit alignment: p orthonormal e_b drawn at random in R^U, one direction per node.

        Nodes of equal weight, such as quantiles, have too few directions at D = U to hold p of them each, as the
        alignment of D -> infinity would.

        >>> spectrum = Spectrum.uniform(0.5, 1.5, nodes=100, quantiles=True).oriented(2, seed=0)
        >>> spectrum.alignment.shape, round(float(spectrum.alignment.sum(axis=0).trace()), 12)
        ((100, 2, 2), 2.0)
        """
        rng = np.random.default_rng(integer("seed", seed))
        count = integer("p", p, at_least=1)
        if count > self.nodes or np.ptp(self.weights) > _ROUNDING:
            raise ValueError(
                f"p must be at most the number of nodes, {self.nodes}, which must have equal weights, got {p!r}"
            )
        basis = np.linalg.qr(rng.standard_normal((self.nodes, count)))[0]
        return replace(self, alignment=basis[:, :, None] * basis[:, None, :])

    def multiplicities(self, D: int) -> npt.NDArray[np.int64]:
        """Directions of each node in dimension D, (U,): D s_u, which must be integers.

        >>> Spectrum([0.5, 1.5], weights=[0.25, 0.75]).multiplicities(8)
        array([2, 6])
        """
        number_of = integer("D", D, at_least=1) * self.weights
        whole = np.rint(number_of)
        if (wrong := np.flatnonzero(np.abs(number_of - whole) > 1e-6)).size or whole.min() < 1:
            node = int(wrong[0]) if wrong.size else int(whole.argmin())
            raise ValueError(
                f"D must give every node of the spectrum a whole number of directions, got D = {D} and the share "
                f"{self.weights[node]:.6g} of node {node}; a spectrum from a law in nodes=D quantiles has them"
            )
        return whole.astype(np.int64)

    # --- laws

    @classmethod
    def marchenko_pastur(cls, ratio: float, nodes: int = 32, *, quantiles: bool = False) -> Spectrum:
        """The law of the eigenvalues of X^T X/n for n x D standard normals, D/n = `ratio` (free Poisson), mean 1.

        Gauss nodes by Golub and Welsch: the orthogonal polynomials of the law, its atom at 0 (ratio > 1) included,
        have the recurrence coefficients a_0 = 1, a_j = 1 + ratio, b_j = sqrt(ratio).

        >>> spectrum = Spectrum.marchenko_pastur(0.5, 8)
        >>> round(float(spectrum.weights @ spectrum.eigenvalues**2), 12)    # second moment 1 + ratio
        1.5
        """
        c, n = number("ratio", ratio, positive=True), integer("nodes", nodes, at_least=1)
        diagonal = np.full(n, 1 + c)
        diagonal[0] = 1.0
        if not flag("quantiles", quantiles):
            from scipy.linalg import eigh_tridiagonal

            values, vectors = eigh_tridiagonal(diagonal, np.full(n - 1, math.sqrt(c)))
            # E[1/(x - z)] of the law at z -> 0 is 1/(1 - ratio) for ratio < 1; from ratio = 1 on it diverges
            return cls._quadrature(np.maximum(values, 0), vectors[0] ** 2, max(0.0, 1 - c))
        low, high = (1 - math.sqrt(c)) ** 2, (1 + math.sqrt(c)) ** 2
        # x = (low + high)/2 - (high - low)/2 cos(angle) makes the density smooth at both ends
        middle, half = (low + high) / 2, (high - low) / 2

        def density(angle: Array) -> Array:
            x = middle - half * np.cos(angle)
            safe = np.where(x > 0, x, 1.0)
            edge = 2 / (np.pi * c) if c == 1 else 0.0  # at c = 1 the density times dx/dangle has this limit at 0
            return np.where(x > 0, (half * np.sin(angle)) ** 2 / (2 * np.pi * c * safe), edge)

        return cls._quantiles(
            density, (0.0, np.pi), lambda angle: middle - half * np.cos(angle), n, max(0.0, 1 - 1 / c)
        )

    @classmethod
    def two_level(cls, low: float, high: float, fraction: float) -> Spectrum:
        """A `fraction` of the directions has the eigenvalue `high`, the rest `low`."""
        values = [number("low", low), number("high", high)]
        share = number("fraction", fraction, positive=True)
        if share >= 1:
            raise ValueError(f"fraction must lie between 0 and 1, got {fraction!r}")
        return cls(np.array(values), np.array([1 - share, share]))

    @classmethod
    def uniform(cls, low: float, high: float, nodes: int = 32, *, quantiles: bool = False) -> Spectrum:
        """Eigenvalues uniform between `low` and `high`."""
        first, last, n = *_interval(low, high), integer("nodes", nodes, at_least=1)
        if flag("quantiles", quantiles):
            return cls(first + (last - first) * (np.arange(n) + 0.5) / n)
        x, w = np.polynomial.legendre.leggauss(n)
        mean = (last - first) / math.log(last / first) if first > 0 else 0.0  # E[1/rho] = log(high/low)/(high - low)
        return cls._quadrature(first + (last - first) * (1 + x) / 2, w, mean)

    @classmethod
    def power_law(
        cls, exponent: float, low: float, high: float, nodes: int = 32, *, quantiles: bool = False
    ) -> Spectrum:
        """Density ~ rho^-`exponent` between `low` > 0 and `high`; Gauss-Legendre in log rho, normalised.

        Eigenvalues that fall as k^-a with their rank k have the exponent 1 + 1/a.
        """
        first, last, n = *_interval(low, high), integer("nodes", nodes, at_least=1)
        number("low", low, positive=True)
        power = 1 - real("exponent", exponent)
        if not math.isfinite(power):
            raise ValueError(f"exponent must be finite, got {exponent!r}")
        ends = math.log(first), math.log(last)
        if flag("quantiles", quantiles):
            return cls._quantiles(lambda x: np.exp(power * (x - ends[1])), ends, np.exp, n, 0.0)
        x, w = np.polynomial.legendre.leggauss(n)
        logs = ends[0] + (ends[1] - ends[0]) * (1 + x) / 2
        return cls._quadrature(
            np.exp(logs), w * np.exp(power * (logs - ends[1])), _moment(power, *ends) / _moment(power - 1, *ends)
        )

    @classmethod
    def _quadrature(cls, values: Array, weights: Array, harmonic_mean: float) -> Spectrum:
        """Nodes and weights, normalised; weights that rounding has set to 0 are left out."""
        kept = weights > 0
        return cls(values[kept], weights[kept] / weights[kept].sum(), harmonic_mean=harmonic_mean)

    @classmethod
    def _quantiles(
        cls,
        density: Callable[[Array], Array],
        ends: tuple[float, float],
        value: Callable[[Array], Array],
        n: int,
        atom: float,
    ) -> Spectrum:
        """Quantiles (j + 1/2)/n of value(x), x of the given density beside an atom at 0, each with the weight 1/n."""
        from scipy.interpolate import CubicSpline

        x = np.linspace(*ends, 20_001)
        distribution = CubicSpline(x, density(x)).antiderivative()(x)
        level = (np.arange(n) + 0.5) / n
        levels = np.clip((level - atom) / (1 - atom), 0, 1)
        found = value(np.interp(levels * distribution[-1], distribution, x))
        return cls(np.where(level < atom, 0.0, np.maximum(found, 0)))


def _moment(power: float, low: float, high: float) -> float:
    """The integral of exp(power x) over [low, high], divided by exp(power high)."""
    width = (high - low) * power
    return (high - low) * (-math.expm1(-width) / width if width else 1.0)


def _interval(low: float, high: float) -> tuple[float, float]:
    first, last = number("low", low), number("high", high)
    if last <= first:
        raise ValueError(f"high must be larger than low = {low!r}, got {high!r}")
    return first, last
