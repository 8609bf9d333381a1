"""The local fields of a network and its teacher, lambda_k = w_k.x/sqrt(D): which they are, and their law.

A teacher's neurons join those of the network with readouts of the other sign and do not learn: phi - y is then the
output of all of them at the label 0.  Averages are closed forms wherever the algebra finds them, across two activations
too (`quenched.numerics.averages.teacher_averages`); a piecewise linear teacher of a relu network is made of relu
neurons.
"""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from quenched.numerics.averages.activations import (
    FIELD_LIMIT,
    activation_functions,
    activation_value,
    averages,
    tables,
    value_averages,
)
from quenched.numerics.averages.teacher_averages import closes, tables_across
from quenched.numerics.averages.teacher_labels import check_labels, in_terms_of, weighed
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.state import Densities, OrderParameters

__all__ = ["Fields", "densities", "fields"]

Array = NDArray[np.float64]

_PLACES = np.array([1.0, 2.0, 0.5, -1.0, 3.0])  # where most activations have a clear value without rounding
_ASIDE = np.geomspace(0.0137, 40.0, 257)  # and where others are looked at, on both sides
_CLEAR, _FAINT = 0.5, 1e-3  # values of g that are large enough, and too small, to carry an intercept


def densities(mixture: Mixture, state: OrderParameters | Densities) -> Densities:
    """The state in each node, checked; that of weights pointing anywhere if only their overlaps are given."""
    if isinstance(state, OrderParameters):
        return Densities.spread(mixture, state)
    state.check(mixture)
    return state


class Fields:
    """The local fields of a network, the teacher's after its own: means (C, N), covariances (C, N, N), readout (N,).

    Output minus label is s sum_n v_n g_n(lambda_n) - y_a, with y_a = 0 where a teacher makes the labels: with a readout
    (C, N) where it has one for each cluster.  Where labels are the sign of what it says, they are no such sum.
    """

    def __init__(self, mixture: Mixture, network: TwoLayer) -> None:
        check_labels(mixture)
        self.mixture, self.s, self.labels = mixture, network.output_scale, mixture.labels.astype(np.float64)
        self.G = mixture.alignment
        self.activations, self.learning = [network.activation] * network.K, network.K
        teacher, both = in_terms_of(network.activation, mixture.taught)
        same = value_averages(teacher.activation).text == averages(network.activation).text
        self.activations += [network.activation if same else teacher.activation] * teacher.neurons
        self.weights = teacher.weights  # (m, p)
        self.teacher = self.G @ self.weights.T  # (U, p, m)
        self.between = self.weights @ self.teacher  # (U, m, m)
        self.readout, self.sign = -teacher.v / self.s, teacher.sign
        self.hidden = teacher.field_noise**2 * both @ both.T  # (m, m), the covariance of the noise of the fields

    def of_cluster(self, a: int) -> tuple[Fields, NDArray[np.intp]]:
        """The fields that count in cluster a alone, and which of all fields they are."""
        K, part = self.learning, copy(self)
        heard = np.flatnonzero(self.readout[a])
        chosen = np.concatenate([np.arange(K), K + heard])
        part.labels, part.activations = self.labels[a : a + 1], [self.activations[n] for n in chosen]
        part.readout = self.readout[a, heard]
        return part, chosen

    @property
    def closed(self) -> bool:
        """Whether the averages over all fields are in closed form."""
        first, last = self.activations[0], self.activations[-1]
        if self.sign:
            return False
        return bool(averages(first).groups) if first == last else closes(first, last)

    def tables(self, mean: Array, covariance: Array, limit: int = FIELD_LIMIT) -> dict[str, Array]:
        """`averages.tables` over all fields."""
        first, last = self.activations[0], self.activations[-1]
        if first == last:
            return tables(first, mean, covariance, limit)
        return tables_across(first, last, self.activations.count(first), mean, covariance, limit)

    def joined(self, A: Array, Q: Array, v: Array) -> tuple[Array, Array, Array]:
        """A (U, p, N), Q (U, N, N) and v (N,), or (C, N), with the teacher's neurons."""
        m = self.readout.shape[-1]
        if not m:
            return A, Q, v
        across = A.swapaxes(1, 2) @ self.weights.T  # w_k·Pi_u w*_m/D
        whole = np.concatenate(
            [np.concatenate([Q, across], axis=2), np.concatenate([across.swapaxes(1, 2), self.between], axis=2)], axis=1
        )
        v = v if self.readout.ndim == 1 else np.broadcast_to(v, (len(self.readout), len(v)))
        return np.concatenate([A, self.teacher], axis=2), whole, np.concatenate([v, self.readout], axis=-1)

    def disturbed(self, covariance: Array) -> Array:
        """Covariances (C, N, N) with the noise of the teacher's fields, in place."""
        if self.hidden.any():
            covariance[:, self.learning :, self.learning :] += self.hidden
        return covariance

    def law(self, A: Array, Q: Array) -> tuple[Array, Array]:
        """Means and covariances of the fields of the neurons joined."""
        eigenvalues = self.mixture.eigenvalues
        covariance = np.tensordot(eigenvalues, Q, axes=1)
        return self.mixture.means @ A.sum(axis=0), self.disturbed((covariance + covariance.swapaxes(1, 2)) / 2)

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

    def said(self, value: Array, v: Array) -> tuple[Array, Array]:
        """Output and label (C, n) from the values (C, n, N) of all neurons and their readouts."""
        K, labels = self.learning, self.labels[:, None]
        taught = -self.s * weighed(value[..., K:], v[..., K:])
        return self.s * weighed(value[..., :K], v[..., :K]), np.sign(taught) if self.sign else labels + taught


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


@lru_cache(maxsize=64)
def _constant(activation: str) -> tuple[float, float]:
    """A field at which g is not 0, and its value.  ValueError: none was found."""
    g, _ = activation_functions(activation)
    places = np.concatenate([_PLACES, _ASIDE, -_ASIDE])
    with np.errstate(all="ignore"):  # g may overflow, or have a pole, at some of them
        values = np.array([float(g(place)) for place in places])
    sizes = np.where(np.isfinite(values), np.minimum(np.abs(values), _CLEAR), 0.0)
    best = int(np.argmax(sizes))  # the first that is large enough
    if sizes[best] < _FAINT:
        raise ValueError(
            f"state has an intercept c, which errors write as one more neuron, but activation {activation!r} is below "
            f"{_FAINT:g} at all {len(places)} fields tried, from {-_ASIDE[-1]:g} to {_ASIDE[-1]:g}"
        )
    return float(places[best]), float(values[best])
