"""The equations of the order parameters: time derivatives of the overlaps in each node of the spectrum.

The right-hand sides are those of `quenched.theory.two_layer`, derived in symbolic/learners/two_layer.py: linear in the
overlaps, with the averages of one step (`quenched.numerics.two_layer.step_averages`) as coefficients.  Inputs without a
spectrum have one node.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quenched.numerics.compiled.compile import contraction, load_compiled
from quenched.numerics.problem.checks import integer, number, record
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.rules import LearningRule, Rates
from quenched.numerics.problem.state import (
    Densities,
    OrderParameters,
    check_fit,
    matrices,
    split,
    with_biases,
    with_velocity,
)
from quenched.numerics.two_layer.local_fields import Fields, densities
from quenched.numerics.two_layer.step_averages import CLOSED_FORM_NEURONS, Averages, Sampling, step_averages
from quenched.theory import two_layer
from quenched.theory.biases import bias_rates
from quenched.theory.momentum import momentum_rates, velocity_rates

__all__ = [
    "CLOSED_FORM_NEURONS",
    "PATH",
    "DensityDrift",
    "Drift",
    "Equations",
    "check_lengths",
    "drift",
    "drift_arrays",
]

Array = NDArray[np.float64]
Derivatives = tuple[Array, Array, Array]
Parameters = tuple[Array, Array, float, float, float, float]  # of the generated `rates`, as they are at a time

PATH = Sampling(0.0, 0, 2**15)
"""Sampling along a trajectory: always the same points, so that the equations stay smooth."""

_POINTS = 2**17  # at most, for one state


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Drift(OrderParameters):
    """dM/dt, dQ/dt and dv/dt, of biases db/dt and dc/dt, and how exact they are, by `error` and `method`.

    `method` is "closed form": the error is the scale of the rounding of the averages, an estimate, neither a bound nor
    a standard error (`averages.activations.step_error`); "quadrature": the quadrature's estimate; or it says what was
    sampled: the error is the largest standard error of an entry.
    """

    error: float
    method: str

    @classmethod
    def of(cls, rates: Derivatives, error: float, method: str, K: int) -> Drift:
        """The record of derivatives of the `vectors` of a state, which need not be positive semi-definite."""
        record = cls.of_vectors(*rates, K, derivative=True)
        record._set(error=error, method=method)
        return record

    def _repr_latex_(self) -> str:
        """The rates as matrices, for notebooks."""
        return matrices({rf"\dot {name}": array for name, array in self.arrays().items()})


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class DensityDrift(Densities):
    """The same for densities: dA_u/dt, dQ_u/dt in each node and dv/dt, with `error` and `method` as in `Drift`."""

    error: float
    method: str

    @classmethod
    def of(cls, rates: Derivatives, error: float, method: str, K: int) -> DensityDrift:
        """The record of derivatives of the `vectors` of a state, which need not be positive semi-definite."""
        dA, dQ, moved = rates
        record = cls.of_vectors(dA, (dQ + dQ.swapaxes(1, 2)) / 2, moved, K, derivative=True)
        record._set(error=error, method=method)
        return record

    def _repr_latex_(self) -> str:
        """The rates in each node as matrices, for notebooks."""
        return matrices({rf"\dot {name}": array for name, array in self.arrays().items()})


@lru_cache(maxsize=1)
def _compiled() -> Any:
    """`local_fields`, `pull`, `rates` and `on_sphere` of `two_layer`, `bias_rates` and `momentum_rates`, compiled."""
    functions = two_layer.local_fields, two_layer.pull, two_layer.rates, two_layer.on_sphere, bias_rates, momentum_rates
    return load_compiled("equations", [contraction(function).text for function in functions])


class Equations:
    """(A (U, p, K), Q (U, K, K), v) -> their time derivatives, an error and a method, for one problem.

    v: the `parameters` of a state, (K,), (c, K) of c outputs, or (2K + 1,) with thresholds and intercept.  Of a rule
    with momentum all three are those of weights and velocities together, the `vectors` of a state.
    The error of closed forms takes time to state: it is NaN unless `stated`.
    """

    def __init__(
        self, mixture: Mixture, network: TwoLayer, rule: LearningRule, sampling: Sampling, *, stated: bool = True
    ) -> None:
        if np.any(mixture.exponents != 0):
            raise ValueError(
                "scaling: the equations hold for means of order 1, got means growing as "
                f"D^{mixture.exponents.tolist()}; use a mixture with scaling=0, or simulate at finite D"
            )
        mixture.check_charged(rule.loss)
        self.fields = Fields(mixture, network)
        self.step = step_averages(self.fields, rule, sampling, stated)
        compiled = _compiled()
        self.local_fields, self.pull, self.rates = compiled.local_fields, compiled.pull, compiled.rates
        self.on_sphere, self.bias_rates = compiled.on_sphere if rule.sphere else None, compiled.bias_rates
        self.momentum_rates = compiled.momentum_rates
        self.P, self.means, self.rho = mixture.weights, mixture.means, np.ascontiguousarray(mixture.eigenvalues)
        mean = np.ascontiguousarray(mixture.means @ self.fields.G)  # mean_a·Pi_u e_b, (U, C, p)
        self.constants = self.P, self.rho, np.ascontiguousarray(mixture.shares), mean
        self.rule, self.stated, self.batch = rule, stated, float(rule.batch) if rule.diffusion else math.inf
        teachers = (0, len(self.fields.activations) - network.K)  # do not learn
        first, second, self.thresholds = rule.learning(network.K)
        self.learning = np.pad(first, teachers), np.pad(np.tile(second, mixture.outputs), teachers)
        self.steady = self._parameters(rule.rates(0.0)) if rule.steady else None
        self.biased, self.biases = rule.biased, rule.biases

    def _parameters(self, now: Rates) -> Parameters:
        """eta (N,), eta_v (one for each readout), kappa, kappa_v, B and T as the generated `rates` takes them."""
        first, second = self.learning
        decays = float(now.kappa), float(now.kappa_v)
        return now.eta * first, now.eta_v * second, *decays, self.batch, float(now.temperature)

    def parameters(self, t: float = 0.0) -> Parameters:
        """The same at a time.  ValueError: a rate is negative there."""
        return self.steady or self._parameters(self.rule.rates(t))

    def __call__(self, A: Array, Q: Array, v: Array, t: float = 0.0) -> tuple[Derivatives, float, str]:
        """dA/dt, dQ/dt and dv/dt at time t, the error of an entry, and how the averages were had."""
        K, parameters, whole = self.fields.learning, self.parameters(t), (A, Q, v)
        if self.rule.momentum:
            A, Q, v = (np.ascontiguousarray(each) for each in (A[:, :, :K], Q[:, :K, :K], v[0]))
        shape = v.shape
        v, b, c = self.parts(v)
        learned = v.size
        A, Q, v = self.fields.joined(A, Q, v)
        M, average, covariance = self.law(A, Q, b)
        # the network's own readouts, the same in each cluster of a teacher
        decaying = v.ravel() if len(shape) == 2 else v if v.ndim == 1 else v[0]

        def rates(step: Averages) -> Derivatives:
            force, response, noise, readout, slope = step
            averages = force, self.pull(self.P, self.rho, response), noise, readout
            dA, dQ, dv = self.rates(*self.constants, M, A, Q, decaying, *averages, *parameters)
            dA, dQ = dA[:, :, :K], dQ[:, :K, :K]
            moved = dv[:learned] if b is not None or len(shape) == 1 else dv.reshape(shape)
            if self.on_sphere is not None:
                dA, dQ = self.on_sphere(A[:, :, :K], Q[:, :K, :K], dA, dQ)
            if b is not None:
                db, dc = self.bias_rates(self.P, force[:, :K], slope, b, c or 0.0, *self.biases)
                moved = np.concatenate([moved, self.thresholds * db, [dc]])
            return self._with_momentum(whole, moved, (M, A, Q), averages, t) if self.rule.momentum else (dA, dQ, moved)

        largest = self._amplification(A, Q, parameters) if self.stated else 1.0
        return self._follow(average, covariance, v, c, rates, largest)

    def _with_momentum(
        self, whole: Derivatives, drive: Array, joined: Derivatives, averages: tuple[Array, ...], t: float
    ) -> Derivatives:
        """The rates of the `vectors` of a state, `whole`, by the averages of a step; `drive`: those of its parameters
        without momentum; `joined`: M, A and Q with the teacher's weights, which have no velocity.
        """
        K, (M, A, Q), (force, pull, noise, _) = self.fields.learning, joined, averages
        first, Gram, (_, p) = whole
        more, (eta, _, kappa, _, B, T) = len(self.fields.activations) - K, self.parameters(t)
        S = np.pad(first[:, :, K:], ((0, 0), (0, 0), (0, more)))
        C, U = (np.pad(part, ((0, 0), (0, more), (0, more))) for part in (Gram[:, :K, K:], Gram[:, K:, K:]))
        C[:, K:, :K] = self.fields.weights @ S[:, :, :K]  # w*_m.Pi_u p_k/D
        arrays, friction = (M, self.means @ S, A, S, Q, C, U), float(self.rule.rates(t).friction)
        dS, dQ, dC, dU = self.momentum_rates(*self.constants, *arrays, force, pull, noise, eta, kappa, friction, B, T)
        dQ, dC, dU = (part[:, :K, :K] for part in (dQ, dC, dU))
        moved = np.concatenate([S[:, :, :K], dS[:, :, :K]], axis=2)
        return moved, np.block([[dQ, dC], [dC.swapaxes(1, 2), dU]]), np.stack([p, velocity_rates(p, drive, friction)])

    def _amplification(self, A: Array, Q: Array, parameters: Parameters) -> float:
        """By how much an error of the averages grows in the rates."""
        eta, eta_v, _, _, B, _ = parameters
        heating = float(eta.max()) ** 2 * float(self.rho.max()) if math.isfinite(B) else 0.0
        largest = max(1.0, 2 * float(eta.max()), float(eta_v.max()), heating, self.rule.bias_lr, self.rule.intercept_lr)
        if self.on_sphere is None:
            return largest
        K = self.fields.learning
        lengths = np.sqrt(_squares(Q[:, :K, :K]))  # |A_k| <= |w_k|, |Q_kl| <= |w_k||w_l|
        return largest * float(1 + max(1.0, lengths.max()) / lengths.min() ** 2 * max(1.0, lengths.max()))

    def parts(self, parameters: Array) -> tuple[Array, Array | None, float | None]:
        """v, b and c of the parameters of a state.  ValueError: biases learn, and the state has none."""
        if self.biased and len(parameters) == self.fields.learning:
            raise ValueError(f"v must hold v, b and c, {2 * len(parameters) + 1} numbers, where biases learn")
        return split(parameters, self.fields.learning)

    def law(self, A: Array, Q: Array, b: Array | None) -> tuple[Array, Array, Array]:
        """`local_fields` of `theory.two_layer`, with the thresholds b (K,) and the noise of a teacher's fields."""
        M, average, covariance = self.local_fields(self.means, self.rho, A, Q)
        if b is not None:
            average[:, : self.fields.learning] += b
        return M, average, self.fields.disturbed(covariance)

    def pulls(self, A: Array, Q: Array, v: Array) -> Array:
        """pull (U, K, K) of `theory.two_layer`: how a weight moves along the weights, where no mean has a component."""
        K = self.fields.learning
        v, b, c = self.parts(v)
        A, Q, v = self.fields.joined(A, Q, v)
        _, average, covariance = self.law(A, Q, b)
        parts, _, _ = self._follow(
            average, covariance, v, c, lambda step: (self.pull(self.P, self.rho, step.response),)
        )
        return parts[0][:, :K, :K]

    def _follow(
        self,
        average: Array,
        covariance: Array,
        v: Array,
        c: float | None,
        outcome: Callable[[Averages], tuple[Array, ...]],
        largest: float = 1.0,
    ) -> tuple[Any, float, str]:
        """What linearly follows from the averages of a step, its error, and how they were had."""
        if (found := self.step.exact(average, covariance, v, c or 0.0)) is not None:
            step, error, method = found
            return outcome(step), error * largest, method
        shapes: list[tuple[int, ...]] = []

        def flat(step: Averages) -> Array:
            parts = outcome(step)
            shapes[:] = [part.shape for part in parts]
            return np.concatenate([part.ravel() for part in parts])

        values, errors, method = self.step.sampled(average, covariance, v, flat, c or 0.0, largest)
        cuts = np.cumsum([math.prod(shape) for shape in shapes])[:-1]
        parts = tuple(part.reshape(s) for part, s in zip(np.split(values, cuts), shapes, strict=True))
        return parts, float(errors.max()), method


def _squares(Q: Array) -> Array:
    """Q_kk (K,) of the parts Q_u (U, K, K)."""
    return np.asarray(Q.diagonal(axis1=1, axis2=2).sum(axis=0))


def check_lengths(rule: LearningRule, state: Densities) -> None:
    """ValueError: a weight of length 0, which a rule with a sphere cannot scale back.

    It is asked of states that are given: along a trajectory rates that are not a number make an integrator step less.
    """
    if rule.sphere and not (squares := _squares(state.Q)).all():
        lengths = f"state must have weights of length > 0 where sphere=True scales them back, got Q_kk = {squares}"
        raise ValueError(lengths)


def drift_arrays(
    mixture: Mixture, network: TwoLayer, rule: LearningRule, *, seed: int = 0
) -> Callable[..., Derivatives]:
    """The equations as a function (A, Q, v, t=0) -> (dA, dQ, dv)/dt on arrays, without checks: for integrators.

    The time matters where the rule has schedules.

    A (p, K) holds the overlaps of the weights with the orthonormal basis in which the mixture's means are given, so
    that M = means A; Q (K, K); v (K,), (c, K) of c outputs, or the `parameters` (2K + 1,) of a state with biases.
    Where the inputs have a spectrum of U nodes, A (U, p, K) and Q (U, K, K) are the parts in each.  Of a rule with
    momentum the three are the `vectors` of a state: A (p, 2K), Q (2K, 2K) and (2, ..).  Where sampling is
    needed, the same 2^15 quasi-random points (`seed`) serve every state.
    Raises ValueError for a mixture whose means grow with D (scaling other than 0).
    """
    equations = Equations(mixture, network, rule, PATH._replace(seed=seed), stated=False)
    nodes, p, K = len(mixture.shares), mixture.dimensions, (1 + rule.momentum) * network.K

    def evaluate(A: Array, Q: Array, v: Array, t: float = 0.0) -> Derivatives:
        (dA, dQ, dv), _, _ = equations(A.reshape(nodes, p, K), Q.reshape(nodes, K, K), v, t)
        return dA.reshape(A.shape), dQ.reshape(Q.shape), dv

    return evaluate


def drift(
    mixture: Mixture,
    network: TwoLayer,
    rule: LearningRule,
    state: OrderParameters | Densities,
    *,
    t: float = 0.0,
    tolerance: float = 1e-6,
    seed: int = 0,
) -> Drift | DensityDrift:
    """Time derivatives of the order parameters under a learning rule, D -> infinity, one unit of time being D steps.

        dM_ak/dt = D E[delta w_k].mu_a / D,    dQ_kl/dt = D E[delta (w_k.w_l)] / D,    dv_k/dt = D E[delta v_k]

    to leading order in 1/D, with the rates that the rule has at time `t`.  The record also has `error` and `method`:
    closed forms where loss and activation allow but for the noise of more than 12 neurons; otherwise quadrature over
    one or two fields, and randomised quasi-Monte Carlo (`seed`) over more, refined until the standard error of every
    entry is below `tolerance` or 2^17 points are spent; where that misses the tolerance, a warning of the logger says
    by how much.
    Source: `quenched.theory.two_layer`, derived in symbolic/learners/two_layer.py from the update rule.  Raises
    ValueError if state and problem do not fit together.

    Where the inputs have a spectrum, the rates are those of the densities (`DensityDrift`); a state given by its
    overlaps alone is spread over the nodes as weights without preferred directions are (`Densities.spread`).  Where the
    rule has momentum, those of the velocity are the `velocity` of the record: `quenched.theory.momentum`.

    >>> from quenched.numerics.problem.rules import OnlineSGD
    >>> mixture, network = Mixture.two_clusters(sigma=1.0), TwoLayer(K=1, activation="linear")
    >>> state = OrderParameters(M=[[0.0], [0.0]], Q=[[1.0]], v=[0.5])
    >>> rate = drift(mixture, network, OnlineSGD(lr=1.0), state)
    >>> rate.Q.round(12).tolist(), rate.v.round(12).tolist()  # -2 v^2 Q + v^2 (v^2 Q + 1) and -v Q
    ([[-0.1875]], [-0.5])
    """
    record("mixture", mixture, Mixture), record("network", network, TwoLayer), record("rule", rule, LearningRule)
    record("state", state, (OrderParameters, Densities))
    tolerance, seed = number("tolerance", tolerance), integer("seed", seed)
    check_fit(mixture, network, state)
    start = with_velocity(with_biases(densities(mixture, state), rule.biased), rule.momentum)
    check_lengths(rule, start)
    rates, error, method = Equations(mixture, network, rule, Sampling(tolerance, seed, _POINTS))(
        *start.vectors, number("t", t)
    )
    if "Monte Carlo" in method and not error <= tolerance:
        logging.getLogger(__name__).warning(
            "drift of %d neurons: the standard error of an entry is %.2g after %d points, not the tolerance %g; it is "
            "in the record as `error`: ask for tolerance=%.0e, or average over seeds",
            *(state.K, error, _POINTS, tolerance, 1.5 * error),
        )
    if mixture.spectrum is None and isinstance(state, OrderParameters):
        dA, dQ, dv = rates
        return Drift.of((mixture.references @ dA[0], (dQ[0] + dQ[0].T) / 2, dv), error, method, state.K)
    return DensityDrift.of(rates, error, method, state.K)
