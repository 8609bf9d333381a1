"""Errors of a two-layer network from its order parameters: pmse, classification error, probability of a tie.

    pmse = 1/2 sum_a P_a E_a[(phi - y_a)^2],   classification error = P(y phi < 0) + P(phi = 0)/2,
    phi = s sum_k v_k g(lambda_k),   lambda | a ~ N(M_a, sigma_a^2 Q)

The pmse needs averages of one and two fields, which are exact (`averages.tables`).  The sign of phi needs all of them:

1. `_loadings`: lambda = M_a + sigma_a L z with z ~ N(0, 1_r), r the rank of Q (near a fixed point it is the dimension of the
   span of the means, however many neurons there are), the directions sorted by their effect on phi;
2. along the first direction phi changes sign at points that are found exactly (piecewise linear g) or by bracketing;
3. the other r - 1 directions: none, adaptive quadrature for one, randomised quasi-Monte Carlo for more.  What is integrated
   is continuous, one direction being done already.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from quenched.numerics.averages import activation_functions, piecewise_linear, tables
from quenched.numerics.checks import integer, number
from quenched.numerics.quadrature import adaptive, randomised
from quenched.numerics.records import Mixture, OrderParameters, TwoLayer

__all__ = ["Errors", "errors"]

Array = npt.NDArray[np.float64]
Lines = Callable[[Array, Array, Array], Array]

# Eigenvalues of Q below this fraction of the largest are rounding, or what an ODE solver left of a decayed direction:
# fields move by less than 1e-6 of their scale without them, and probabilities, to second order in that, by about 1e-12.
_RANK = 1e-12
_REACH = 9.0  # |u| > 9 has probability 2e-19
_BISECTIONS = 16  # of a bracket no longer than 1/8, before interpolation: 1e-11 left of a smooth output
_RELATIVE = 1e-10  # tolerance of the adaptive quadrature
_ROUNDING = 1e-15


@dataclass(frozen=True)
class Errors:
    """Errors of a network on a mixture.

    `pmse`: half the mean square error.  `classification_error`: P(y phi < 0) + P(phi = 0)/2.  `tie_probability`:
    P(phi = 0).  `error_estimate`: estimated numerical error of the two probabilities (a standard error where `method`,
    the way they were computed, is quasi-Monte Carlo).
    """

    pmse: float
    classification_error: float
    tie_probability: float
    error_estimate: float
    method: str


def errors(
    mixture: Mixture, network: TwoLayer, state: OrderParameters, *, tolerance: float = 1e-6, seed: int = 0
) -> Errors:
    """Errors of the network with order parameters `state` on fresh samples of `mixture` (whose T is not used).

    `tolerance`: standard error asked of quasi-Monte Carlo, which Q of rank three and more takes; it stops after 2^17
    points (K = 8: some 1e-6) and reports what it has.  `seed` fixes its points.  Rank one is exact and rank two good to
    1e-9 whatever the tolerance.

    ValueError: `state` does not fit mixture and network, tolerance <= 0, a seed that is not an integer >= 0.

    A single linear neuron along the mean of two clusters is the oracle, Phi(-1/sigma):

    >>> state = OrderParameters(M=[[1.0], [-1.0]], Q=[[1.0]], v=[1.0])
    >>> errors(Mixture.two_clusters(2.0), TwoLayer(1, "linear"), state).classification_error == ndtr(-0.5)
    True
    """
    if state.M.shape != (mixture.clusters, network.K):
        raise ValueError(
            f"state must have M of shape (clusters, K) = {(mixture.clusters, network.K)}, got {state.M.shape}"
        )
    tolerance, seed = number("tolerance", tolerance, positive=True), integer("seed", seed)
    pmse = _pmse(mixture, network, state)
    pieces = piecewise_linear(network.activation)
    M, Q, v = state.M, state.Q, state.v
    if pieces is not None and not len(pieces[0]):  # g(x) = slope x + intercept: phi is one field
        pieces = (pieces[0], pieces[1], pieces[2] * v.sum())
        M, Q, v = (M @ v)[:, None], np.maximum(v @ Q @ v, 0).reshape(1, 1), np.ones(1)
    M, L, v = _loadings(M, Q, v)
    wrong, tie, error, method = _sign_errors(mixture, _lines(network.activation, pieces), M, L, v, tolerance, seed)
    return Errors(pmse, wrong, tie, error, method)


def _pmse(mixture: Mixture, network: TwoLayer, state: OrderParameters) -> float:
    """1/2 sum_a P_a (s^2 v·E_a[g g] v - 2 s y_a v·E_a[g] + 1)."""
    averages = tables(network.activation, state.M, mixture.sigmas[:, None, None] ** 2 * state.Q)
    v = network.output_scale * state.v
    square = np.einsum("akl,k,l->a", averages["g,g"], v, v)
    return float(mixture.weights @ (square - 2 * mixture.labels * (averages["g"] @ v) + 1) / 2)


def _square_root(Q: Array) -> Array:
    """L (n, r) with Q = L L^T up to rounding, r the rank of Q."""
    values, vectors = np.linalg.eigh(Q)
    kept = values > _RANK * values[-1]
    return np.asarray(vectors[:, kept] * np.sqrt(values[kept]))


def _loadings(M: Array, Q: Array, v: Array) -> tuple[Array, Array, Array]:
    """Means M (C, n), loadings L (n, r), Q = L L^T, and readout v (n,) of the n distinct neurons that count.

    Neurons whose fields agree are one neuron, so that readouts that cancel cancel exactly.  The columns of L are turned
    such that diag(v) L has orthogonal columns of decreasing length: the first direction moves phi most.
    """
    fields = np.hstack([_square_root(Q), M.T])
    agree = np.abs(fields[:, None] - fields).max(axis=2) <= 1e-13 * np.abs(fields).max()
    first = agree.argmax(axis=1)  # of the neurons that agree with this one
    size = np.bincount(first, weights=np.abs(v), minlength=len(v))
    v = np.bincount(first, weights=v, minlength=len(v))
    n = np.flatnonzero(np.abs(v) > 1e-15 * size)
    L = _square_root(Q[np.ix_(n, n)]) if len(n) else np.empty((0, 0))
    turn = np.linalg.svd(v[n, None] * L)[2] if L.size else np.eye(L.shape[1])
    return M[:, n], L @ turn.T, v[n]


def _smooth_lines(g: Callable[[Array], Array], alpha: Array, beta: Array, v: Array) -> Array:
    """P(phi < 0) and P(phi = 0), (lines, 2), for phi = v·g(alpha_i + beta u), u ~ N(0, 1), alpha (lines, n), beta (n,).

    The sign is read on a grid that moves no field by more than 1/4 per step; changes are bisected, then interpolated.
    """
    steps = int(np.ceil(8 * _REACH * max(1.0, np.abs(beta).max())))
    grid = np.linspace(-_REACH, _REACH, steps + 1)
    values = np.empty((len(alpha), len(grid)))
    block = max(1, 200_000 // (len(grid) * len(v)))  # about 2 MB at a time: stays in cache
    for i in range(0, len(alpha), block):
        values[i : i + block] = g(alpha[i : i + block, None] + grid[:, None] * beta) @ v
    signs = np.sign(values)
    line, place = np.nonzero(signs[:, 1:] != signs[:, :-1])
    before, after = signs[line, place], signs[line, place + 1]
    low, high, at_low, at_high = grid[place], grid[place + 1], values[line, place], values[line, place + 1]
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        value = g(alpha[line] + middle[:, None] * beta) @ v
        same = np.sign(value) == before
        low, at_low = np.where(same, middle, low), np.where(same, value, at_low)
        high, at_high = np.where(same, high, middle), np.where(same, at_high, value)
    slope = at_high - at_low
    crosses = (at_low * at_high < 0) & np.isfinite(slope)
    fraction = np.divide(-at_low, slope, out=np.full(len(low), 0.5), where=crosses)
    p = ndtr(low + fraction * (high - low))
    return np.stack(
        [
            np.bincount(line, p * ((before == s) * 1.0 - (after == s)), len(alpha)) + (signs[:, -1] == s)
            for s in (-1, 0)
        ],
        axis=1,
    )


def _lines(activation: str, pieces: tuple[Array, Array, Array] | None) -> Callable[[Array, Array, Array], Array]:
    """The function (alpha, beta, v) -> P(phi < 0), P(phi = 0) per line, for an activation."""
    if pieces is None:
        g = activation_functions(activation)[0]
        return lambda alpha, beta, v: _smooth_lines(g, alpha, beta, v)
    from quenched.numerics.lines import sign_probabilities

    def lines(alpha: Array, beta: Array, v: Array) -> Array:
        out = np.empty((len(alpha), 2))
        sign_probabilities(alpha, beta, v, *pieces, out)
        return out

    return lines


def _sign_errors(
    mixture: Mixture,
    lines: Callable[[Array, Array, Array], Array],
    M: Array,
    L: Array,
    v: Array,
    tolerance: float,
    seed: int,
) -> tuple[float, float, float, str]:
    """P(y phi < 0) + P(phi = 0)/2, P(phi = 0), their numerical error and the method, in the terms of `_loadings`."""
    rank = L.shape[1]
    along, across = (L[:, 0], L[:, 1:]) if rank else (np.zeros(len(v)), L)

    def given(z: Array) -> Array:
        """The two probabilities given the other directions, z (n, rank - 1)."""
        shift = z @ across.T
        wrong, tie = sum(
            P * lines(mean + sigma * shift, sigma * along, y * v).T
            for P, y, sigma, mean in zip(mixture.weights, mixture.labels, mixture.sigmas, M, strict=True)
        )
        return np.stack([wrong + tie / 2, tie], axis=1)

    if rank < 2:
        wrong, tie = given(np.zeros((1, 0)))[0]
        return float(wrong), float(tie), _ROUNDING, "exact"
    if rank == 2:
        edges = np.array([-_REACH, -6, -4, -2, -1, 0, 1, 2, 4, 6, _REACH])
        panels = np.stack([edges[:-1], edges[1:]], axis=1)
        parts = [
            adaptive(lambda z: given(z[:, None])[:, i] * np.exp(-z * z / 2) / np.sqrt(2 * np.pi), panels, _RELATIVE)
            for i in range(2)
        ]
        return parts[0].value, parts[1].value, max(part.error for part in parts), "adaptive quadrature"
    result = randomised(given, rank - 1, tolerance=tolerance, seed=seed)
    return float(result.value[0]), float(result.value[1]), float(result.error.max()), "randomised quasi-Monte Carlo"


def _all_off(mixture: Mixture, M: Array, L: Array, kink: float, side: float) -> float:
    """P(side (lambda_k - kink) < 0 for all k): the orthant probability of up to four distinct neurons."""
    from quenched.numerics import normal

    spread = np.linalg.norm(L, axis=1)
    n = len(spread)
    R = L @ L.T / np.outer(spread, spread)
    Phi = (None, normal.Phi, normal.Phi2, normal.Phi3, normal.Phi4)[n]
    h = side * (kink - M) / (mixture.sigmas[:, None] * spread)
    return float(mixture.weights @ Phi(*h.T, *R[np.triu_indices(n, 1)]))
