"""Averages over the fields of one label of a mixture whose means are unknown: the channel of Bayes-optimal learning.

The fields of a label span r <= 2 dimensions, and the average over them is a trapezoidal sum.  The posterior weights
are analytic in each coordinate z up to |Im z| = pi/spread, where spread is the largest difference of their rates: no
two terms of their denominator have opposite phases before; a step h makes an error of exp(-2 pi |Im z|/h).  The sums
are compiled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quenched.numerics.compiled.machine_code import njit
from quenched.theory import bayes

__all__ = ["Label"]

Array = npt.NDArray[np.float64]

_EPS = float(np.finfo(np.float64).eps)
# At weak fields <A> is a multiple of z: its square, over its average, is z^2 in the tails, |Im z|^2 within the strip,
# and more near its poles, which lie just outside: up to 1000 as far as 0.9 of the way to them.
_REACH = 8.5  # standard deviations; beyond, in a plane, lie 8e-15 of the average of z^2
_DIGITS = 38.0  # error of a trapezoidal sum: 2 exp(-38) = 6e-17 times the largest size in the strip, of E[<A>^2] 6e-14
_STRIP = 6.0  # half-width of the strip beyond which exp(-z^2/2) costs more than the step gains
_MANY = 3e6  # nodes times clusters squared in one sum
_RANGE = 300.0  # of exponents whose exponentials are multiplied: exp(-600) is a number

_exponent = njit(error_model="numpy")(bayes.exponent)


@njit(error_model="numpy")
def _sums(
    steps: Array, counts: npt.NDArray[np.int64], rates: Array, k: Array, shares: Array, means: Array, free: bool
) -> tuple[Array, float]:
    """E[<A><A>^T] and E log sum_a p(a|y) exp(h_a), the latter if `free`, over samples of each cluster.

    The fields are x_a = rates_a . z with z (2,) on the lattice of `steps` and up to `counts` of them from the origin.
    The parts of h_a of the sample's own cluster are put on by a product of exponentials where these can be formed.
    """
    clusters, p = means.shape
    second, psi, mass = np.zeros((p, p)), 0.0, 0.0
    base, term, own, average = np.empty(clusters), np.empty(clusters), np.zeros((clusters, clusters)), np.empty(p)
    highest = np.zeros(clusters)
    for a0 in range(clusters):
        highest[a0] = k[:, a0].max()
        for a in range(clusters):
            own[a0, a] = shares[a] * math.exp(_exponent(k[a, a0] - highest[a0], 0.0, 0.0))
    together = np.ptp(k) < _RANGE
    for i in range(-counts[0], counts[0] + 1):
        for j in range(-counts[1], counts[1] + 1):
            z0, z1 = steps[0] * i, steps[1] * j
            if z0 * z0 + z1 * z1 > _REACH * _REACH:
                continue
            weight = math.exp(-0.5 * (z0 * z0 + z1 * z1))
            mass += weight
            peak = -math.inf
            for a in range(clusters):
                base[a] = _exponent(0.0, k[a, a], rates[a, 0] * z0 + rates[a, 1] * z1)
                peak = max(peak, base[a])
            if together:
                for a in range(clusters):
                    term[a] = math.exp(base[a] - peak)
            for a0 in range(clusters):
                top, total = peak + highest[a0], 0.0
                if not together:
                    top = -math.inf
                    for a in range(clusters):
                        top = max(top, base[a] + k[a, a0])
                for q in range(p):
                    average[q] = 0.0
                for a in range(clusters):
                    part = term[a] * own[a0, a] if together else shares[a] * math.exp(base[a] + k[a, a0] - top)
                    total += part
                    for q in range(p):
                        average[q] += part * means[a, q]
                scale = weight * shares[a0] / (total * total)
                for q in range(p):
                    for r in range(q, p):
                        second[q, r] += scale * average[q] * average[r]
                if free:
                    psi += weight * shares[a0] * (top + math.log(total))
    for q in range(p):
        for r in range(q):
            second[q, r] = second[r, q]
    return second / mass, psi / mass


@dataclass(frozen=True)
class Label:
    """The clusters of one label: its weight P_y, the weights p(a|y) (c,) and means A (c, p) of its clusters."""

    weight: float
    shares: Array
    means: Array

    @property
    def covariance(self) -> Array:
        """C_y = sum_a p(a|y) A_a A_a^T."""
        return self.means.T @ (self.shares[:, None] * self.means)

    @property
    def centred(self) -> bool:
        """Whether the average of its means vanishes up to rounding."""
        return bool(np.abs(self.shares @ self.means).max() <= 64 * _EPS * np.abs(self.means).max())

    def averages(self, root: Array, sigma: float, *, free: bool = True) -> tuple[Array, float]:
        """E[<A><A>^T] and Psi at Q = root root^T; Psi is 0 if not `free`."""
        fields = self.means @ root / sigma  # x_a = fields_a . z
        rates = fields - self.shares @ fields  # without the field that all share, of average 0
        k = np.ascontiguousarray(fields @ fields.T)
        return _sums(*_lattice(rates), k, self.shares, self.means, free)


def _lattice(rates: Array) -> tuple[Array, npt.NDArray[np.int64], Array]:
    """Steps (2,), counts (2,) and the rates (c, 2) along the axes of a lattice for functions of rates @ z."""
    _, sizes, rows = np.linalg.svd(rates, full_matrices=False)
    axes = rows[sizes > 1e-12 * max(1.0, sizes.max(initial=0.0))] if len(sizes) else rows[:0]
    steps, counts = np.ones(2), np.zeros(2, dtype=np.int64)
    along = np.zeros((len(rates), 2))
    for i, axis in enumerate(axes):
        along[:, i] = rates @ axis
        strip = min(0.9 * math.pi / max(float(np.ptp(along[:, i])), 1e-300), _STRIP)
        steps[i] = 2 * math.pi * strip / (_DIGITS + strip**2 / 2)
        counts[i] = math.ceil(_REACH / steps[i])
    nodes = float(np.prod(2.0 * counts + 1))
    if nodes * len(rates) ** 2 > _MANY:
        raise ValueError(
            f"mixture is too large for quadrature: {nodes:.2g} nodes for {len(rates)} clusters of a label; take a "
            "larger sigma or fewer clusters"
        )
    return steps, counts, along
