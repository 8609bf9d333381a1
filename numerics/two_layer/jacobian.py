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
from quenched.theory import two_layer
from quenched.theory.biases import bias_rates, mean_slope_tangent

__all__ = ["drift_tangents"]

Array = NDArray[np.float64]
Tangents = Callable[[Array, Array, Array, Array, Array, Array], tuple[Array, Array, Array]]

_BLOCK = 2**24  # numbers in the largest array at a time


@lru_cache(maxsize=1)
def _equations() -> dict[str, tuple[Any, tuple[str, ...], tuple[str, ...]]]:
    """The tangents of the equations, compiled, with the tables and tangents of tables that they take."""
    tangents = (
        two_layer.step_averages_tangent,
        two_layer.step_noise_tangent,
        two_layer.pull_tangent,
        two_layer.rates_tangent,
        mean_slope_tangent,
    )
    parts = [contraction(function) for function in tangents]
    made = load_compiled("tangents", [part.text for part in parts])
    return {part.name: (getattr(made, part.name), part.tables, part.tangent_tables) for part in parts}


class _Linearised:
    """(A, Q, v, A_z, Q_z, v_z) -> (dA_z, dQ_z, dv_z), with a first index of nodes and a last one of directions."""

    def __init__(self, mixture: Mixture, network: TwoLayer, rule: LearningRule) -> None:
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
        equations, s, K = self.equations, self.equations.fields.s, A.shape[2]
        v, b, c = equations.parts(v)
        biases_z, v_z = v_z[K:], v_z[:K]
        A, Q, v, A_z, Q_z, v_z = self._joined(A, Q, v, A_z, Q_z, v_z)
        M, average, covariance = equations.local_fields(equations.means, equations.rho, A, Q)
        M_z = np.tensordot(equations.means, A_z, axes=(1, 1)).swapaxes(0, 1)
        average_z, covariance_z = M_z.sum(axis=0), np.tensordot(equations.rho, Q_z, axes=1)
        if b is not None:
            average[:, :K] += b
            average_z[:, :K] += biases_z[:-1]
        found = equations.fields.tables(average, covariance, self.limit)
        moved = self._moved(average, covariance, average_z, covariance_z)
        F0, F1, S0, S1, S2 = powers = equations.step.shifted(c or 0.0)
        step = equations.step.first_order(found, v, powers)
        force_z, response_z, readout_z = self._step("step_averages_tangent", F0, F1, v, v_z, found, moved, s)
        noise_z = np.zeros_like(response_z)
        if self.noisy:
            noise_z = self._step("step_noise_tangent", S0, S1, S2, v, v_z, found, moved, s)
        averages_z = force_z, response_z, noise_z, readout_z
        if b is not None:
            slope_z = self._step("mean_slope_tangent", F1, v, v_z, found, moved, s)
            along = equations.step.along_intercept(found, v, c or 0.0, self.noisy)
            averages_z = tuple(
                part + change[..., None] * biases_z[-1] for part, change in zip(averages_z, along[:4], strict=True)
            )
            slope_z = slope_z + along.slope[:, None] * biases_z[-1]
        force_z, response_z, noise_z, readout_z = averages_z
        for part in (step.force, step.response, step.readout, force_z, response_z, readout_z, noise_z):
            part[:, K:] = 0  # a teacher does not learn
        P, rho, shares, mean = equations.constants
        pull = equations.pull(P, rho, step.response)
        pull_z = self.compiled["pull_tangent"][0](P, rho, response_z)
        arrays = (P, rho, shares, mean, M, np.ascontiguousarray(M_z), A, A_z, Q, Q_z, v_z)
        averages = (step.force, force_z, pull, pull_z, noise_z, readout_z)
        dA, dQ, dv = self.compiled["rates_tangent"][0](*arrays, *averages, *equations.parameters)
        changes = dv[:K]
        if b is not None:  # these rates are linear: their tangents are the same functions of tangents
            each = zip(*(np.moveaxis(x, -1, 0) for x in (force_z[:, :K], slope_z, biases_z)), strict=True)
            parts = [bias_rates(P, f, u, x[:-1], float(x[-1]), *equations.biases) for f, u, x in each]
            changes = np.concatenate([changes, np.array([db for db, _ in parts]).T, [[dc for _, dc in parts]]])
        return dA[:, :, :K], dQ[:, :K, :K], changes

    def _moved(self, mean: Array, covariance: Array, mean_z: Array, covariance_z: Array) -> dict[str, Array]:
        """The tangents of the tables, from means, covariances and their directions."""
        activations = self.equations.fields.activations
        first, last = activations[0], activations[-1]
        if first == last:
            return table_tangents(first, mean, covariance, mean_z, covariance_z, self.limit)
        K = activations.count(first)
        return across_tangents(first, last, K, mean, covariance, mean_z, covariance_z, self.limit)

    def _joined(self, A: Array, Q: Array, v: Array, A_z: Array, Q_z: Array, v_z: Array) -> tuple[Array, ...]:
        """With the teacher's neurons, of which only the overlaps with the network's move."""
        fields, K = self.equations.fields, v.shape[0]
        joined = fields.joined(A, Q, v)
        m = joined[2].shape[0] - K
        if m == 0:
            return A, Q, v, A_z, Q_z, v_z
        whole_z = np.pad(Q_z, ((0, 0), (0, m), (0, m), (0, 0)))
        across_z = np.einsum("upkz,mp->ukmz", A_z, fields.weights)
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
