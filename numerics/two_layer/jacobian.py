"""The learning equations linearised: how the drift changes along given directions of the state, exactly.

Gradients of the averages of the activations by Price's theorem (`quenched.numerics.averages.table_tangents`), and the
product rule on the averages of a step and on the equations, generated in `quenched.theory.two_layer`.  All are compiled
like those they are derived from, with regressions in doubled precision.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quenched.numerics.averages.activations import FIELD_LIMIT
from quenched.numerics.averages.table_tangents import across_tangents, smooth_across, table_tangents
from quenched.numerics.compiled.compile import contraction, load_compiled
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.rules import LearningRule
from quenched.numerics.two_layer.drift import PATH, Equations
from quenched.numerics.two_layer.step_averages import ClusterTeachers, StepAverages
from quenched.theory import two_layer
from quenched.theory.biases import bias_rates_tangent, mean_slope_tangent

__all__ = ["drift_tangents"]

Array = NDArray[np.float64]
Tangents = Callable[[Array, Array, Array, Array, Array, Array], tuple[Array, Array, Array]]
_Law = tuple[Array, Array, Array, float]  # mean, covariance, v and c
_Moved = tuple[Array, Array, Array, Array | None]  # their tangents; that of c (Z,) where there are biases

_BLOCK = 2**24  # numbers in the largest array at a time
_SHAPES = (
    (1, 0),
    (2, 0),
    (1, 1),
    (2, 1),
    (1, 1),
    (2, 1),
    (0, 1),
)  # fields, and whether along directions, of `_averages`


@lru_cache(maxsize=1)
def _equations() -> dict[str, tuple[Any, tuple[str, ...], tuple[str, ...]]]:
    """The tangents of the equations, compiled, with the tables and tangents of tables that they take."""
    tangents = (
        two_layer.step_averages_tangent,
        two_layer.step_noise_tangent,
        two_layer.pull_tangent,
        two_layer.rates_tangent,
        mean_slope_tangent,
        bias_rates_tangent,
    )
    parts = [contraction(function) for function in tangents]
    made = load_compiled("tangents", [part.text for part in parts])
    return {part.name: (getattr(made, part.name), part.tables, part.tangent_tables) for part in parts}


class _Linearised:
    """(A, Q, v, A_z, Q_z, v_z) -> (dA_z, dQ_z, dv_z), with a first index of nodes and a last one of directions."""

    def __init__(self, mixture: Mixture, network: TwoLayer, rule: LearningRule) -> None:
        rule.require_plain("a Jacobian of the equations")
        self.equations = Equations(mixture, network, rule, PATH, stated=False)
        self.noisy = rule.diffusion
        self.compiled = _equations()
        self.limit = FIELD_LIMIT if self.noisy else 2

    def _step(self, name: str, *arguments: Any) -> Any:
        """A tangent of averages of a step; the tables come last."""
        function, names, moved_names = self.compiled[name]
        *given, found, moved, s = arguments
        return function(*given, *(found[n] for n in names), *(moved[n] for n in moved_names), s)

    def __call__(self, A: Array, Q: Array, v: Array, A_z: Array, Q_z: Array, v_z: Array) -> tuple[Array, Array, Array]:
        equations, K = self.equations, A.shape[2]
        v, b, c = equations.parts(v)
        biases_z, v_z = v_z[K:], v_z[:K]
        A, Q, v, A_z, Q_z, v_z = self._joined(A, Q, v, A_z, Q_z, v_z)
        M, average, covariance = equations.law(A, Q, b)
        M_z = np.tensordot(equations.means, A_z, axes=(1, 1)).swapaxes(0, 1)
        average_z, covariance_z = M_z.sum(axis=0), np.tensordot(equations.rho, Q_z, axes=1)
        if b is not None:
            average_z[:, :K] += biases_z[:-1]
        law = average, covariance, v, c or 0.0
        moved = average_z, covariance_z, v_z, None if b is None else biases_z[-1]
        step = equations.step
        if isinstance(step, ClusterTeachers):
            parts = self._by_cluster(step, law, moved)
        else:
            parts = self._averages(step, law, moved)
        force, response, force_z, response_z, readout_z, noise_z, slope_z = parts
        for part in (force, response, force_z, response_z, readout_z, noise_z):
            part[:, K:] = 0  # a teacher does not learn
        P, rho, shares, mean = equations.constants
        pull = equations.pull(P, rho, response)
        pull_z = self.compiled["pull_tangent"][0](P, rho, response_z)
        arrays = (P, rho, shares, mean, M, np.ascontiguousarray(M_z), A, A_z, Q, Q_z, v_z)
        averages = (force, force_z, pull, pull_z, noise_z, readout_z)
        dA, dQ, dv = self.compiled["rates_tangent"][0](*arrays, *averages, *equations.parameters()[:-1])
        changes = dv[:K]
        if b is not None:
            tangents = P, force_z[:, :K], slope_z, biases_z[:-1], biases_z[-1]
            db, dc = self.compiled["bias_rates_tangent"][0](*tangents, *equations.biases)
            changes = np.concatenate([changes, db, dc[None]])
        return dA[:, :, :K], dQ[:, :K, :K], changes

    def _averages(self, step: StepAverages, law: _Law, moved: _Moved) -> list[Array]:
        """Force and response, and the tangents of force, response, readout, noise and slope."""
        s, (mean, covariance, v, c), (mean_z, covariance_z, v_z, c_z) = step.fields.s, law, moved
        found = step.fields.tables(mean, covariance, self.limit)
        tables_z = self._moved(step.fields.activations, mean, covariance, mean_z, covariance_z)
        F0, F1, S0, S1, S2 = powers = step.shifted(c)
        first = step.first_order(found, v, powers)
        force_z, response_z, readout_z = self._step("step_averages_tangent", F0, F1, v, v_z, found, tables_z, s)
        noise_z, slope_z = np.zeros_like(response_z), np.zeros((len(mean), mean_z.shape[-1]))
        if self.noisy:
            noise_z = self._step("step_noise_tangent", S0, S1, S2, v, v_z, found, tables_z, s)
        averages_z = [force_z, response_z, readout_z, noise_z, slope_z]
        if c_z is not None:
            averages_z[-1] = self._step("mean_slope_tangent", F1, v, v_z, found, tables_z, s)
            along = step.along_intercept(found, v, c, self.noisy)
            changes = along.force, along.response, along.readout, along.noise, along.slope
            averages_z = [part + change[..., None] * c_z for part, change in zip(averages_z, changes, strict=True)]
        return [first.force, first.response, *averages_z]

    def _by_cluster(self, steps: ClusterTeachers, law: _Law, moved: _Moved) -> list[Array]:
        """The same where a teacher has a readout for each cluster."""
        (mean, covariance, v, c), (mean_z, covariance_z, v_z, c_z) = law, moved
        (C, N), Z = mean.shape, mean_z.shape[-1]
        total = [np.zeros((C, *(N,) * fields, *(Z,) * last)) for fields, last in _SHAPES]
        for a, chosen, step in steps.parts:
            places = a, np.ix_(a, chosen), np.ix_(a, chosen, chosen)
            here = mean[places[1]], covariance[places[2]], v[a[0], chosen], c
            contiguous = np.ascontiguousarray
            there = contiguous(mean_z[places[1]]), contiguous(covariance_z[places[2]]), contiguous(v_z[chosen]), c_z
            for whole, (fields, _), part in zip(total, _SHAPES, self._averages(step, here, there), strict=True):
                whole[places[fields]] = part
        return total

    def _moved(
        self, activations: list[str], mean: Array, covariance: Array, mean_z: Array, covariance_z: Array
    ) -> dict[str, Array]:
        """The tangents of the tables, from means, covariances and their directions."""
        first, last = activations[0], activations[-1]
        if first == last:
            return table_tangents(first, mean, covariance, mean_z, covariance_z, self.limit)
        K = activations.count(first)
        return across_tangents(first, last, K, mean, covariance, mean_z, covariance_z, self.limit)

    def _joined(self, A: Array, Q: Array, v: Array, A_z: Array, Q_z: Array, v_z: Array) -> tuple[Array, ...]:
        """With the teacher's neurons, of which only the overlaps with the network's move."""
        fields, K = self.equations.fields, v.shape[0]
        joined = fields.joined(A, Q, v)
        m = joined[2].shape[-1] - K
        if m == 0:
            return A, Q, v, A_z, Q_z, v_z
        whole_z = np.pad(Q_z, ((0, 0), (0, m), (0, m), (0, 0)))
        across_z = np.moveaxis(np.tensordot(A_z, fields.weights, axes=(1, 1)), -1, 2)
        whole_z[:, :K, K:], whole_z[:, K:, :K] = across_z, across_z.swapaxes(1, 2)
        return *joined, np.pad(A_z, ((0, 0), (0, 0), (0, m), (0, 0))), whole_z, np.pad(v_z, ((0, m), (0, 0)))


def drift_tangents(mixture: Mixture, network: TwoLayer, rule: LearningRule) -> Tangents | None:
    """(A, Q, v, A_z, Q_z, v_z) -> tangents of (dA, dQ, dv)/dt; None where the averages of a step are not closed.

    A_z (p, K, Z), Q_z (K, K, Z), v_z (K, Z), or (2K + 1, Z) with biases: directions, as many as there are
    last indices; with a leading index of nodes for A and Q where the inputs have a spectrum.
    """
    linearised = _Linearised(mixture, network, rule)
    activations = linearised.equations.fields.activations
    first, last = activations[0], activations[-1]
    if not linearised.equations.step.closed or not (first == last or smooth_across(first, last)):
        return None
    nodes, p, K = len(mixture.shares), mixture.dimensions, network.K
    step = max(1, _BLOCK // (mixture.clusters * len(activations) ** linearised.limit))

    def tangents(A: Array, Q: Array, v: Array, A_z: Array, Q_z: Array, v_z: Array) -> tuple[Array, Array, Array]:
        parts = []
        for i in range(0, v_z.shape[-1], step):
            z = slice(i, i + step)
            moved = A_z[..., z].reshape(nodes, p, K, -1), Q_z[..., z].reshape(nodes, K, K, -1), v_z[:, z]
            moved_z = (np.ascontiguousarray(x) for x in moved)
            parts.append(linearised(A.reshape(nodes, p, K), Q.reshape(nodes, K, K), v, *moved_z))
        dA, dQ, dv = (np.concatenate(part, axis=-1) for part in zip(*parts, strict=True))
        return dA.reshape(A_z.shape), dQ.reshape(Q_z.shape), dv

    return tangents
