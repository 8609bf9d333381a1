"""The order-parameter equations of online SGD: time derivatives of M, Q and v.

The right-hand sides are those of `quenched.theory.two_layer`, derived in symbolic/learners/two_layer.py: a gradient
flow, which contains averages over one and two neurons, and the diffusion of Q by the noise of single samples, with
averages over up to four.  They are fed with the exact averages of the activation.  What does not close, and the
diffusion of networks so wide that K^4/24 orthant probabilities per cluster are too many, is averaged over samples of
the local fields instead, by randomised quasi-Monte Carlo, O(N K^2), with its error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from quenched.numerics.calculus.averages import (
    FIELD_LIMIT,
    activation_functions,
    averages,
    step_error,
    tables,
)
from quenched.numerics.calculus.precision import bind
from quenched.numerics.calculus.quadrature import randomised
from quenched.numerics.problem.checks import integer, number, record
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.rules import LearningRule, OnlineSGD
from quenched.numerics.problem.state import Densities, OrderParameters
from quenched.numerics.two_layer.step_averages import SpectralEquations, densities
from quenched.theory import two_layer

__all__ = ["CLOSED_FORM_NEURONS", "DensityDrift", "Drift", "drift", "drift_arrays", "is_spectral"]

Array = NDArray[np.float64]
Derivatives = tuple[Array, Array, Array]

CLOSED_FORM_NEURONS = 12
"""Up to this width the diffusion is exact; beyond, its averages over four distinct neurons cost more than sampling."""

_PATH_POINTS = 2**15  # along a trajectory: always the same ones, so that the equations stay smooth

_contract = {"einsum": partial(np.einsum, optimize=True)}  # pairwise, by matrix products: pays for large arrays
_wide_flow = bind(two_layer.flow, _contract)
_sampled_flow = bind(two_layer.sampled_flow, _contract)
_sampled_diffusion = bind(two_layer.sampled_diffusion, _contract)


@dataclass(frozen=True, eq=False)
class Drift(OrderParameters):
    """dM/dt, dQ/dt and dv/dt, and how exact they are: `error` bounds or estimates that of every entry.

    `method` is "closed form" (error: that of the normal probabilities) or says what was sampled (error: the largest
    standard error of an entry).
    """

    error: float
    method: str

    @classmethod
    def of(cls, rates: Derivatives, error: float, method: str) -> Drift:
        """The record of derivatives, which need not be positive semi-definite."""
        record = cls.derivative(*rates)
        assert isinstance(record, cls)
        record._set(error=error, method=method)
        return record


@dataclass(frozen=True, eq=False)
class DensityDrift(Densities):
    """The same for densities: dA_u/dt, dQ_u/dt in each node and dv/dt, with `error` and `method` as in `Drift`."""

    error: float
    method: str

    @classmethod
    def of(cls, rates: Derivatives, error: float, method: str) -> DensityDrift:
        """The record of derivatives, which need not be positive semi-definite."""
        dA, dQ, dv = rates
        record = cls.derivative(dA, (dQ + dQ.swapaxes(1, 2)) / 2, dv)
        assert isinstance(record, cls)
        record._set(error=error, method=method)
        return record


def _refuse_growing_means(mixture: Mixture) -> None:
    if np.any(mixture.exponents != 0):
        raise ValueError(
            f"scaling: the equations hold for means of order 1, got means growing as D^{mixture.exponents.tolist()}; "
            "use a mixture with scaling=0, or simulate at finite D"
        )


class _Equations:
    """(A, Q, v) -> derivatives and their error, for one problem: exact where it can be, sampled where it must."""

    def __init__(
        self, mixture: Mixture, network: TwoLayer, sgd: OnlineSGD, tolerance: float, seed: int, points: int
    ) -> None:
        _refuse_growing_means(mixture)
        self.mixture, self.network, self.sgd = mixture, network, sgd
        self.clusters = (mixture.weights, mixture.labels.astype(np.float64), mixture.sigmas**2)
        self.first_order = (sgd.eta, sgd.kappa, sgd.eta_v, sgd.kappa_v, network.output_scale)
        self.sampling = {"tolerance": tolerance, "seed": seed, "points": points}
        self.closed = bool(averages(network.activation).groups)
        self.narrow = network.K <= CLOSED_FORM_NEURONS

    def __call__(self, A: Array, Q: Array, v: Array) -> tuple[Derivatives, float, str]:
        if not self.closed:
            return self._sampled(A, Q, v, flow=True)
        means, variances = self.mixture.means, self.clusters[2]
        M = means @ A
        exact = self.narrow and self.sgd.diffusion
        limit = FIELD_LIMIT if exact else 2
        found = tables(self.network.activation, M, variances[:, None, None] * Q, limit)
        flow = two_layer.flow if self.narrow else _wide_flow
        dA, dQ, dv = flow(*self.clusters, means, M, A, Q, v, found, *self.first_order)
        sgd, s = self.sgd, self.network.output_scale
        error = step_error(found, M, variances[:, None, None] * Q, s * v, self.clusters[1], limit)
        error *= max(1.0, 2 * sgd.eta, sgd.eta_v, sgd.eta**2 * float(variances.max()) if sgd.diffusion else 0.0)
        if not sgd.diffusion:
            return (dA, dQ, dv), error, "closed form"
        if exact:
            dQ = dQ + two_layer.diffusion(*self.clusters, v, found, sgd.eta, s, sgd.label_noise)
            return (dA, dQ, dv), error, "closed form"
        (_, diffusion, _), sampled, _ = self._sampled(A, Q, v, flow=False)
        return (dA, dQ + diffusion, dv), error + sampled, "closed form, diffusion by quasi-Monte Carlo"

    def _sampled(self, A: Array, Q: Array, v: Array, flow: bool) -> tuple[Derivatives, float, str]:
        """Averages over the p coordinates of the means and the K residual fields of a sample, in every cluster."""
        mixture, sgd, s = self.mixture, self.sgd, self.network.output_scale
        g, dg = activation_functions(self.network.activation)
        p, K = A.shape
        values, vectors = np.linalg.eigh(Q - A.T @ A)
        # the symmetric root keeps neurons that are nearly independent on a coordinate each, which the points cover best
        root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
        noise = mixture.sigmas[:, None, None]

        def block(z: Array) -> Array:
            n = len(z)
            nu = (mixture.means[:, None, :] + noise * z[:, :p]).reshape(-1, p)
            fields = nu @ A + (noise * (z[:, p:] @ root)).reshape(-1, K)
            weights, labels, variances = (np.repeat(part, n) for part in self.clusters)
            activity, slope = g(fields), dg(fields)
            force, square = two_layer.moments(s * (activity @ v), labels, sgd.label_noise)
            if sgd.diffusion:
                dQ = _sampled_diffusion(weights / n, variances, square, slope, v, sgd.eta, s)
            else:
                dQ = np.zeros((K, K))
            if not flow:
                return n * dQ.ravel()[None]  # the mean over this block, as its sum
            dA, dQ_flow, dv = _sampled_flow(weights / n, force, fields, nu, activity, slope, A, Q, v, *self.first_order)
            return n * np.concatenate([dA.ravel(), (dQ_flow + dQ).ravel(), dv])[None]

        result = randomised(block, p + K, **self.sampling)  # type: ignore[arg-type]
        if not flow:
            result_dQ = result.value.reshape(K, K)
            return (np.zeros_like(A), result_dQ, np.zeros_like(v)), float(result.error.max()), "quasi-Monte Carlo"
        dA, dQ, dv = np.split(result.value, [p * K, p * K + K * K])
        return (dA.reshape(p, K), dQ.reshape(K, K), dv), float(result.error.max()), "quasi-Monte Carlo"


def drift_arrays(
    mixture: Mixture, network: TwoLayer, sgd: OnlineSGD, *, seed: int = 0
) -> Callable[[Array, Array, Array], Derivatives]:
    """The equations as a function (A, Q, v) -> (dA, dQ, dv)/dt on arrays, without checks: for integrators.

    A (p, K) holds the overlaps of the weights with the orthonormal basis in which the mixture's means are given, so
    that M = means A; Q (K, K); v (K,).  Where sampling is needed, the same 2^15 quasi-random points (`seed`) serve
    every state.  Where the inputs have a spectrum or a teacher makes the labels, A (U, p, K) and Q (U, K, K) are the
    densities over the nodes instead.  Raises ValueError for a mixture whose means grow with D (scaling other than 0).
    """
    if is_spectral(mixture):
        spectral = _spectral(mixture, network, sgd, 0.0, seed, _PATH_POINTS)
        return lambda A, Q, v: spectral(A, Q, v)[0]
    equations = _Equations(mixture, network, sgd, 0.0, seed, _PATH_POINTS)
    return lambda A, Q, v: equations(A, Q, v)[0]


def is_spectral(mixture: Mixture) -> bool:
    """Whether the equations are those of densities: the inputs have a spectrum, or a teacher makes the labels."""
    return mixture.spectrum is not None or mixture.teacher is not None


def _spectral(
    mixture: Mixture, network: TwoLayer, sgd: OnlineSGD, tolerance: float, seed: int, points: int
) -> SpectralEquations:
    _refuse_growing_means(mixture)
    return SpectralEquations(mixture, network, sgd, tolerance, seed, points, CLOSED_FORM_NEURONS)


def drift(
    mixture: Mixture,
    network: TwoLayer,
    sgd: OnlineSGD,
    state: OrderParameters | Densities,
    *,
    tolerance: float = 1e-6,
    seed: int = 0,
) -> Drift | DensityDrift:
    """Time derivatives of the order parameters under online SGD, D -> infinity, one unit of time being D steps.

        dM_ak/dt = D E[delta w_k].mu_a / D,    dQ_kl/dt = D E[delta (w_k.w_l)] / D,    dv_k/dt = D E[delta v_k]

    to leading order in 1/D.  The record also has `error` and `method`: closed forms up to K = 12; the diffusion of
    wider networks, and all of it for activations without closed forms, by randomised quasi-Monte Carlo (`seed`),
    refined until the standard error of every entry is below `tolerance` or 2^17 points are spent.  Source:
    `quenched.theory.two_layer`, derived in symbolic/learners/two_layer.py from the SGD rule.  Raises ValueError if
    state and problem do not fit together.

    Where the inputs have a spectrum, the rates are those of the densities (`DensityDrift`); a state given by its
    overlaps alone is spread over the nodes as weights without preferred directions are (`Densities.spread`).

    >>> mixture, network = Mixture.two_clusters(sigma=1.0), TwoLayer(K=1, activation="linear")
    >>> state = OrderParameters(M=[[0.0], [0.0]], Q=[[1.0]], v=[0.5])
    >>> rate = drift(mixture, network, OnlineSGD(lr=1.0), state)
    >>> rate.Q.round(12).tolist(), rate.v.round(12).tolist()  # -2 v^2 Q + v^2 (v^2 Q + 1) and -v Q
    ([[-0.1875]], [-0.5])
    """
    record("mixture", mixture, Mixture), record("network", network, TwoLayer), record("sgd", sgd, LearningRule)
    record("state", state, (OrderParameters, Densities))
    tolerance, seed = number("tolerance", tolerance), integer("seed", seed)
    if state.K != network.K:
        raise ValueError(f"state must have K = {network.K} neurons like the network, got {state.K}")
    if is_spectral(mixture) or isinstance(state, Densities):
        start = densities(mixture, state)
        spectral = _spectral(mixture, network, sgd, tolerance, seed, 2**17)
        rates, error, method = spectral(start.A, start.Q, start.v)
        found = DensityDrift.of(rates, error, method)
        if mixture.spectrum is None and isinstance(state, OrderParameters):
            return Drift.of((mixture.references @ found.A[0], found.Q[0], found.v), error, method)
        return found
    equations = _Equations(mixture, network, sgd, tolerance, seed, 2**17)
    (dA, dQ, dv), error, method = equations(state.projections(mixture), state.Q, state.v)
    return Drift.of((mixture.means @ dA, (dQ + dQ.T) / 2, dv), error, method)
