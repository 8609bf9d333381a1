"""The equations where inputs have a spectrum, or a network makes the labels: densities of the overlaps over nodes.

The right-hand sides are `responses` and `spectral_flow` of `quenched.theory.two_layer`, derived in
symbolic/learners/two_layer.py.  A step enters by averages over the local fields of each cluster, whose covariances are
sums over the nodes; with these known the equations of a node are linear in its densities.

A teacher's neurons join those of the network with readouts of the other sign and do not learn: phi - y is then the
output of all of them at the label 0.  Averages are closed forms wherever the algebra finds them, across two activations
too (`quenched.numerics.calculus.teacher_averages`); piecewise linear teachers of relu networks are made of relu
neurons.  Otherwise the averages of one step are sampled, the response as

    response_a = E_a[push z^T] L_a^+,   lambda = M_a + L_a z,   z ~ N(0, 1),   L_a^2 the covariance of the fields,

which is Stein's lemma once more and needs no second derivative of g.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quenched.numerics.calculus.averages import (
    FIELD_LIMIT,
    activation_functions,
    activation_value,
    averages,
    piecewise_linear,
    step_error,
    tables,
    value_averages,
)
from quenched.numerics.calculus.precision import bind
from quenched.numerics.calculus.quadrature import randomised
from quenched.numerics.calculus.teacher_averages import closes, tables_across
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import Teacher, TwoLayer
from quenched.numerics.problem.rules import OnlineSGD
from quenched.numerics.problem.state import Densities, OrderParameters
from quenched.theory import two_layer

__all__ = ["Fields", "SpectralEquations", "densities", "fields"]

Array = NDArray[np.float64]
Derivatives = tuple[Array, Array, Array]

_MANY = 16  # nodes from which on contractions are worth planning
_contract = {"einsum": partial(np.einsum, optimize=True)}
_planned_flow = bind(two_layer.spectral_flow, _contract)
_planned_diffusion = bind(two_layer.spectral_diffusion, _contract)


def densities(mixture: Mixture, state: OrderParameters | Densities) -> Densities:
    """The state in each node, checked; that of weights pointing anywhere if only their overlaps are given."""
    if isinstance(state, OrderParameters):
        return Densities.spread(mixture, state)
    state.check(mixture)
    return state


def _in_terms_of(activation: str, teacher: Teacher) -> Teacher:
    """The same teacher made of relu neurons, if the network is: a bent line is a relu(x) - b relu(-x)."""
    if averages(activation) is not averages("relu") or (pieces := piecewise_linear(teacher.activation)) is None:
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
        self.activations = [network.activation] * network.K
        teacher = mixture.teacher
        if teacher is not None:
            teacher = _in_terms_of(network.activation, teacher)
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

    def joined(self, A: Array, Q: Array, v: Array) -> Derivatives:
        """A (U, p, N), Q (U, N, N) and v (N,) with the teacher's neurons."""
        if self.mixture.teacher is None:
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
    """The local fields of a state: their description, means (C, N), covariances (C, N, N) and readout (N,)."""
    description = Fields(mixture, network)
    if isinstance(state, OrderParameters) and mixture.spectrum is None and mixture.teacher is None:
        return description, state.M, mixture.sigmas[:, None, None] ** 2 * state.Q, state.v
    parts = densities(mixture, state)
    A, Q, v = description.joined(parts.A, parts.Q, parts.v)
    return description, *description.law(A, Q), v


class SpectralEquations:
    """(A, Q, v) in every node -> derivatives, their error and the method."""

    def __init__(
        self, mixture: Mixture, network: TwoLayer, sgd: OnlineSGD, tolerance: float, seed: int, points: int, narrow: int
    ) -> None:
        self.mixture, self.network, self.sgd = mixture, network, sgd
        self.fields = Fields(mixture, network)
        self.sampling: dict[str, Any] = {"tolerance": tolerance, "seed": seed, "points": points}
        self.labels = mixture.labels.astype(np.float64)
        self.eigenvalues, self.shares = mixture.eigenvalues, mixture.shares
        self.T = mixture.means @ self.fields.G  # mean_a·Pi_u e_b, (U, C, p)
        self.narrow = len(self.fields.activations) <= narrow
        many = len(self.shares) >= _MANY
        self.flow = _planned_flow if many else two_layer.spectral_flow
        self.diffusion = _planned_diffusion if many else two_layer.spectral_diffusion

    def __call__(self, A: Array, Q: Array, v: Array) -> tuple[Derivatives, float, str]:
        """dA (U, p, K), dQ (U, K, K) and dv (K,), the error of an entry, and the method."""
        K, P, sgd = self.network.K, self.mixture.weights, self.sgd
        A, Q, v = self.fields.joined(A, Q, v)
        (force, response, noise, readout), error, method = self._step(*self.fields.law(A, Q), v)
        # a teacher does not learn
        force[:, K:], response[:, K:], readout[:, K:] = 0, 0, 0
        M = self.mixture.means @ A
        rates = sgd.eta, sgd.kappa, sgd.eta_v, sgd.kappa_v
        dA, dQ, dv = self.flow(P, self.eigenvalues, self.T, M, A, Q, v, force, response, readout, *rates)
        if sgd.diffusion:
            dQ = dQ + self.diffusion(P, self.eigenvalues, self.shares, noise, sgd.eta)
        return (dA[:, :, :K], dQ[:, :K, :K], dv[:K]), error, method

    def _step(self, M: Array, covariance: Array, v: Array) -> tuple[tuple[Array, Array, Array, Array], float, str]:
        """Force (C, N), response (C, N, N), noise (C, N, N) and readout (C, N) of a step."""
        s, diffusion = self.network.output_scale, self.sgd.diffusion
        noise = np.zeros_like(covariance)
        if not self.fields.closed or (diffusion and not self.narrow):
            return self._sampled(M, covariance, v)
        found = self.fields.tables(M, covariance, FIELD_LIMIT if diffusion else 2)
        force, curvature, response, readout = two_layer.responses(self.labels, v, found, s)
        diagonal = np.einsum("akk->ak", response)
        diagonal += curvature
        if diffusion:
            noise = two_layer.response_noise(self.labels, v, found, s, self.sgd.label_noise)
        error = step_error(found, M, covariance, s * v, self.labels, FIELD_LIMIT if diffusion else 2)
        return (force, response, noise, readout), error, "closed form"

    def _sampled(self, M: Array, covariance: Array, v: Array) -> tuple[tuple[Array, Array, Array, Array], float, str]:
        C, N = M.shape
        s = self.network.output_scale
        values, vectors = np.linalg.eigh(covariance)
        spread = np.sqrt(np.maximum(values, 0))
        root = (vectors * spread[:, None, :]) @ vectors.swapaxes(1, 2)

        def block(z: Array) -> Array:
            field = M[:, None] + z @ root  # (C, n, N)
            value, slope = self.fields.evaluate(field)
            force, square = two_layer.moments(s * (value @ v), self.labels[:, None], self.sgd.label_noise)
            push = s * v * force[:, :, None] * slope
            pushed = s * v * np.sqrt(square)[:, :, None] * slope
            parts = [
                push.sum(axis=1),
                push.swapaxes(1, 2) @ z,
                pushed.swapaxes(1, 2) @ pushed,
                s * (force[:, None] @ value)[:, 0],
            ]
            return np.concatenate([part.ravel() for part in parts])[None]

        result = randomised(block, N, **self.sampling)
        cuts = np.cumsum([C * N, C * N * N, C * N * N])
        force, response, noise, readout = np.split(result.value, cuts)
        inverse = np.linalg.pinv(root, rcond=1e-8, hermitian=True)
        shape = (C, N, N)
        steps = force.reshape(C, N), response.reshape(shape) @ inverse, noise.reshape(shape), readout.reshape(C, N)
        return steps, float(result.error.max()), "quasi-Monte Carlo"
