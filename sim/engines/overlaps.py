"""Online SGD in any dimension at a cost that does not depend on it: the exact Markov chain of the order parameters.

With isotropic noise an input matters only through its components along the weights and means, and its length.  Let
e_1..e_p be a basis of the means, f_1..f_K an orthonormal basis beside it built from the weights one after the other,
and f_{K+1} the direction of what is left of the input of cluster a:

    w_k/sqrt(D) = sum_b A_bk e_b + sum_{j<=k} L_kj f_j
    x = mean_a + sigma_a (sum_b z_b e_b + sum_{j<=K} z_j f_j + chi f_{K+1})

z are p + K standard normals, and chi^2 is a chi-square number of D - p - K degrees of freedom: NumPy's gamma generator,
from two degrees on the rejection method of Marsaglia and Tsang (2000), which is exact and as fast for any number of
them.  A step adds c_k x to rho w_k/sqrt(D), rho = 1 - eta kappa/D, so that

    A_bk <- rho A_bk + c_k x_b     and     L_k <- the row rho L_k + c_k u of K + 1 numbers,  u = x on f_1..f_{K+1}.

Rotations of the basis bring L back to lower-triangular form, a row at a time.  With u_> = (u_{j+1}, .., u_{K+1}), row j
is a f_j + c_j u_>, a = rho L_jj + c_j u_j; the rotation in the plane of f_j and u_> that leaves it on the first has

    l = ±sqrt(a^2 + c_j^2 |u_>|^2),   cos = a/l >= 0,   sin/|u_>| = c_j/l = s

and makes of the rows k > j, with q = rho L_kj + c_k u_j and h = sum_{i>j} L_ki u_i,

    L_kj <- cos q + s (c_k |u_>|^2 + rho h),   c_k <- cos c_k - s q - rho h s^2/(1 + cos).

What is left of them, rho L_ki (i > j) and c_k u_>, has the old form in the rotated basis.  O(K (K + p)) for one step.

The chain has the law of SGD on D-vectors exactly, up to rounding.  Its increments are O(1/D) and rounded to nearest:
of their 16 digits log10(D) are lost, without bias.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
import numpy.typing as npt

from quenched.numerics.calculus.averages import compiled_activation
from quenched.numerics.calculus.compile import njit
from quenched.numerics.problem.state import OrderParameters
from quenched.sim.backend import generators
from quenched.sim.engines.geometry import root
from quenched.sim.training import CHAIN

if TYPE_CHECKING:
    from quenched.sim.training import Problem

__all__ = ["Overlaps"]

Array = npt.NDArray[np.float64]

_CALL = 2**20  # steps of all seeds together between two looks at them: about 0.2 s


class Overlaps:
    """The states W (p + K, K), the columns of A over those of L^T, and v (K,) of S seeds, each with its own generator.

    Seeds run in parallel on NUMBA_NUM_THREADS threads (all cores by default); the numbers that a seed gets depend on
    nothing but the seed.
    """

    def __init__(self, problem: Problem, seeds: Sequence[int], states: Sequence[OrderParameters]) -> None:
        mixture, sgd, D = problem.mixture, problem.sgd, problem.D
        self.problem = problem
        self.means = np.ascontiguousarray(mixture.at(D))
        self.p = mixture.dimensions
        self.random = generators(seeds, CHAIN)
        known = {state: _coordinates(state.projections(mixture, D), state.Q) for state in set(states)}
        self.W = np.array([known[state] for state in states], order="C")
        self.v = np.array([state.v for state in states])
        scale = problem.network.output_scale
        self.parameters: tuple[Any, ...] = (
            (self.means, mixture.sigmas.copy(), mixture.labels.copy(), np.cumsum(mixture.weights)[:-1]),
            float(D - self.p - problem.network.K),
            (scale, sgd.label_noise),
            (1 - sgd.eta * sgd.kappa / D, sgd.eta * scale / D, 1 - sgd.eta_v * sgd.kappa_v / D, sgd.eta_v * scale / D),
            *compiled_activation(problem.network.activation),
        )

    @staticmethod
    def plan(problem: Problem, seeds: int, numbers: int, per_cluster: int) -> tuple[int, int]:
        """Seeds per batch and steps per call of `advance`: memory goes to the test samples."""
        tests = 4 * per_cluster * problem.mixture.clusters * problem.network.K
        problem.fits(tests, numbers)
        batch = min(seeds, numbers // tests)
        return batch, max(1, _CALL // batch)

    def advance(self, steps: int) -> npt.NDArray[np.bool_]:
        """Do `steps` steps; which seeds are still finite, (S,)."""
        threads = min(numba.config.NUMBA_NUM_THREADS, len(self.random))  # type: ignore[attr-defined]

        def run(first: int) -> None:
            for i in range(first, len(self.random), threads):
                _advance(steps, self.random[i], self.W[i], self.v[i], *self.parameters)

        if threads == 1:
            run(0)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(run, range(threads)))
        return np.isfinite(self.W).all(axis=(1, 2)) & np.isfinite(self.v).all(axis=1)

    def overlaps(self) -> tuple[Array, Array, Array]:
        """M (S, C, K), Q (S, K, K) and v (S, K)."""
        M = self.means @ self.W[:, : self.p]
        Q = self.W.swapaxes(1, 2) @ self.W
        return M, (Q + Q.swapaxes(1, 2)) / 2, self.v.copy()


def _coordinates(A: Array, Q: Array) -> Array:
    """A (p, K) over L^T (K, K), with L lower triangular and L L^T = Q - A^T A, which may be singular."""
    return np.concatenate([A, np.linalg.qr(root(Q - A.T @ A), mode="r")])


@njit(nogil=True, error_model="numpy")
def _advance(
    steps: int,
    random: np.random.Generator,
    W: Array,
    v: Array,
    mixture: tuple[Array, Array, Array, Array],
    freedom: float,
    output: tuple[float, float],
    rates: tuple[float, float, float, float],
    g: Any,
    dg: Any,
) -> None:
    """`steps` steps of the chain, in place, in the notation of the module."""
    means, sigmas, labels, thresholds = mixture
    scale, label_noise = output
    rho, rate, rho_v, rate_v = rates
    K = len(v)
    p = len(W) - K
    x = np.empty(p + K)
    beyond = np.empty(K)  # |u_>|^2 after f_j
    h = np.empty((K, K))  # h[j, k]
    field, value, c = np.empty(K), np.empty(K), np.empty(K)
    for _ in range(steps):
        chosen, a = random.random(), 0
        while a < len(thresholds) and chosen >= thresholds[a]:
            a += 1
        y = labels[a] + label_noise * random.standard_normal() if label_noise else labels[a]
        for i in range(p + K):
            x[i] = sigmas[a] * random.standard_normal()
        for b in range(p):
            x[b] += means[a, b]
        rest = sigmas[a] ** 2 * random.chisquare(freedom)

        field[:] = 0.0
        for j in range(K - 1, -1, -1):
            u = x[p + j]
            beyond[j] = rest
            rest += u * u
            for k in range(j, K):
                h[j, k] = field[k]
                field[k] += W[p + j, k] * u
        for b in range(p):
            for k in range(K):
                field[k] += W[b, k] * x[b]

        delta = -y
        for k in range(K):
            value[k] = g(field[k])
            delta += scale * v[k] * value[k]
        for k in range(K):
            c[k] = -rate * delta * v[k] * dg(field[k])
            v[k] = rho_v * v[k] - rate_v * delta * value[k]

        for b in range(p):
            for k in range(K):
                W[b, k] = rho * W[b, k] + c[k] * x[b]
        for j in range(K):
            L = W[p + j]  # column j of L
            u = x[p + j]
            first = rho * L[j] + c[j] * u
            length = math.copysign(math.sqrt(first**2 + c[j] ** 2 * beyond[j]), first)
            cos, s = (first / length, c[j] / length) if length else (1.0, 0.0)
            turn, rest = s**2 / (1 + cos), beyond[j]
            L[j] = length
            for k in range(j + 1, K):
                q = rho * L[k] + c[k] * u
                outside = rho * h[j, k]
                L[k] = cos * q + s * (c[k] * rest + outside)
                c[k] = cos * c[k] - s * q - turn * outside
