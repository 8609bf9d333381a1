"""The local fields of a network and its teacher, lambda_k = w_k.x/sqrt(D): which they are, and their law.

A teacher's neurons join those of the network with readouts of the other sign and do not learn: phi - y is then the
output of all of them at the label 0.  Averages are closed forms wherever the algebra finds them, across two activations
too (`quenched.numerics.averages.teacher_averages`); a piecewise linear teacher of a relu network is made of relu
neurons.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from quenched.numerics.averages.activations import (
    FIELD_LIMIT,
    activation_functions,
    activation_value,
    averages,
    piecewise_linear,
    tables,
    value_averages,
)
from quenched.numerics.averages.teacher_averages import closes, tables_across
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import Teacher, TwoLayer
from quenched.numerics.problem.state import Densities, OrderParameters

__all__ = ["Fields", "densities", "fields"]

Array = NDArray[np.float64]

_PLACES = np.array([1.0, 2.0, 0.5, -1.0, 3.0])


def densities(mixture: Mixture, state: OrderParameters | Densities) -> Densities:
    """The state in each node, checked; that of weights pointing anywhere if only their overlaps are given."""
    if isinstance(state, OrderParameters):
        return Densities.spread(mixture, state)
    state.check(mixture)
    return state


def _in_terms_of(activation: str, teacher: Teacher) -> Teacher:
    """The same teacher made of relu neurons, if the network is: a bent line is a relu(x) - b relu(-x)."""
    if not teacher.neurons or averages(activation) is not averages("relu"):
        return teacher
    if (pieces := piecewise_linear(teacher.activation)) is None:
        return teacher
    kinks, slopes, intercepts = pieces
    if kinks.any() or intercepts.any():
        return teacher
    v = np.concatenate([slopes[-1] * teacher.v, -slopes[0] * teacher.v])
    used = v != 0
    return Teacher(np.concatenate([teacher.weights, -teacher.weights])[used], v[used], "relu")


class Fields:
    """The local fields of a network, the teacher's after its own: means (C, N), covariances (C, N, N), readout (N,).

    Output minus label is s sum_n v_n g_n(lambda_n) - y_a, with y_a = 0 where a teacher makes the labels.
    """

    def __init__(self, mixture: Mixture, network: TwoLayer) -> None:
        self.mixture, self.s = mixture, network.output_scale
        self.G = mixture.alignment
        self.activations, self.learning = [network.activation] * network.K, network.K
        teacher = _in_terms_of(network.activation, mixture.taught)
        same = value_averages(teacher.activation).text == averages(network.activation).text
        self.activations += [network.activation if same else teacher.activation] * teacher.neurons
        self.weights = teacher.weights  # (m, p)
        self.teacher = self.G @ self.weights.T  # (U, p, m)
        self.between = self.weights @ self.teacher  # (U, m, m)
        self.readout = -teacher.v / self.s

    @property
    def closed(self) -> bool:
        """Whether the averages over all fields are in closed form."""
        first, last = self.activations[0], self.activations[-1]
        return bool(averages(first).groups) if first == last else closes(first, last)

    def tables(self, mean: Array, covariance: Array, limit: int = FIELD_LIMIT) -> dict[str, Array]:
        """`averages.tables` over all fields."""
        first, last = self.activations[0], self.activations[-1]
        if first == last:
            return tables(first, mean, covariance, limit)
        return tables_across(first, last, self.activations.count(first), mean, covariance, limit)

    def joined(self, A: Array, Q: Array, v: Array) -> tuple[Array, Array, Array]:
        """A (U, p, N), Q (U, N, N) and v (N,) with the teacher's neurons."""
        if not len(self.readout):
            return A, Q, v
        across = A.swapaxes(1, 2) @ self.weights.T  # w_k·Pi_u w*_m/D
        whole = np.concatenate(
            [np.concatenate([Q, across], axis=2), np.concatenate([across.swapaxes(1, 2), self.between], axis=2)], axis=1
        )
        return np.concatenate([A, self.teacher], axis=2), whole, np.concatenate([v, self.readout])

    def law(self, A: Array, Q: Array) -> tuple[Array, Array]:
        """Means and covariances of the fields of the neurons joined."""
        eigenvalues = self.mixture.eigenvalues
        covariance = np.tensordot(eigenvalues, Q, axes=1)
        return self.mixture.means @ A.sum(axis=0), (covariance + covariance.swapaxes(1, 2)) / 2

    def evaluate(self, field: Array) -> tuple[Array, Array]:
        """g_n and g_n' of fields (..., N); a teacher with another g does not learn, and its g_n' is left 0."""
        first, last = self.activations[0], self.activations[-1]
        learning = self.activations.count(first)
        g, dg = activation_functions(first)
        value, slope = np.empty_like(field), np.zeros_like(field)
        value[..., :learning], slope[..., :learning] = g(field[..., :learning]), dg(field[..., :learning])
        if first != last:
            value[..., learning:] = activation_value(last)(field[..., learning:])
        return value, slope


def fields(
    mixture: Mixture, network: TwoLayer, state: OrderParameters | Densities
) -> tuple[Fields, Array, Array, Array]:
    """The local fields of a state: their description, means (C, N), covariances (C, N, N) and readout (N,).

    Thresholds are in the means.  An intercept is one more neuron of the network: without weights, and with a threshold.
    """
    K, thresholds, v = network.K, np.zeros(network.K) if state.b is None else state.b, state.v
    if state.c:
        field, value = _constant(network.activation)
        network, thresholds = replace(network, K=K + 1), np.append(thresholds, field)
        v = np.append(v, state.c / (network.output_scale * value))
    description, more = Fields(mixture, network), network.K - K
    if isinstance(state, OrderParameters) and mixture.spectrum is None and mixture.teacher is None:
        Q = np.pad(state.Q, ((0, more), (0, more)))
        return description, np.pad(state.M, ((0, 0), (0, more))) + thresholds, mixture.sigmas[:, None, None] ** 2 * Q, v
    parts = densities(mixture, state)
    A, Q = np.pad(parts.A, ((0, 0), (0, 0), (0, more))), np.pad(parts.Q, ((0, 0), (0, more), (0, more)))
    A, Q, v = description.joined(A, Q, v)
    means, covariances = description.law(A, Q)
    means[:, : network.K] += thresholds
    return description, means, covariances, v


def _constant(activation: str) -> tuple[float, float]:
    """A field at which g is not 0, and its value."""
    g, _ = activation_functions(activation)
    values = np.asarray(g(_PLACES), dtype=np.float64)
    largest = int(np.argmax(np.minimum(np.abs(values), 1)))
    return float(_PLACES[largest]), float(values[largest])
