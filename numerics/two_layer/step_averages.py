"""The averages of one step given the law of the local fields: force, response, noise, readout, slope in each cluster.

    push_k = dl/dlambda_k,  force_ak = E_a[push_k],         response_akn = E_a[d push_k/d lambda_n],
                            noise_akl = E_a[push_k push_l], readout_ak = E_a[dl/dv_k],
                            slope_a = E_a[dl/dphi]

They are had in the first of these ways that applies:

1. closed: a loss of degree 2 in the output, and an activation whose averages the algebra finds; the noise of networks
   wider than `CLOSED_FORM_NEURONS` is sampled, as K^4/24 orthant probabilities per cluster would take longer; of 100
   relu at 2^15 points an entry E[g'_k g'_l (phi - y)^2] has a standard error of 4e-3 of it, and if the part of phi of
   Hermite order <= 1, 2, 4 in each field were averaged exactly, one of 1.5e-3, 7e-4, 5e-4: no control variate of low
   orders reaches 1e-4, as g'_k g'_l jumps;
2. by adaptive quadrature over one or two fields (`quenched.numerics.step.field_quadrature`);
3. by randomised quasi-Monte Carlo, with its standard error.

A network with several outputs has push_k = s g'(lambda_k) sum_c F_c v_ck, F_c = dl/dphi_c, and readouts for each of
them: `ClassAverages`, by quadrature over one or two fields, and sampled over more.

A teacher's neurons are fields like the network's.  For a loss of phi - y they join it with readouts of the other sign,
at the label 0; otherwise they make the label that a sample is charged by.

Where it is not closed, the response is the regression that it stands for: with lambda = M_a + L_a z, z ~ N(0, 1), and
L_a L_a^T the covariance of the fields, E_a[push z^T] L_a^+.  This needs no second derivative of loss or activation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from quenched.numerics.averages.activations import FIELD_LIMIT, step_error
from quenched.numerics.averages.losses import CLASS_LOSSES, coefficients, kinks, loss, noisy_slope
from quenched.numerics.compiled.compile import contraction, load_compiled
from quenched.numerics.probability.quadrature import randomised
from quenched.numerics.problem.rules import LearningRule
from quenched.numerics.step.field_quadrature import ClassQuadrature, FieldQuadrature
from quenched.numerics.two_layer.local_fields import Fields
from quenched.theory import two_layer
from quenched.theory.biases import mean_slope, shifted, shifted_slope

__all__ = [
    "CLOSED_FORM_NEURONS",
    "Averages",
    "ClassAverages",
    "ClusterTeachers",
    "Sampling",
    "StepAverages",
    "step_averages",
]

Array = NDArray[np.float64]
Index = NDArray[np.intp]

CLOSED_FORM_NEURONS = 12
"""Up to this width the noise is closed; beyond, its averages over four distinct neurons cost more than sampling."""

_UNSETTLED = 1e-5  # error of averages by quadrature, relative to 1 + their size, beyond which they are sampled
_MOST_OUTPUTS = 16  # whose quadrature is compiled; its source grows with them
_SINGULAR = 1e-8  # relative: fields of a smaller spread are functions of the others


class Averages(NamedTuple):
    """Force (C, N), response (C, N, N), noise (C, N, N), readout (C, N), or (C, c K) of c outputs, and slope (C,)."""

    force: Array
    response: Array
    noise: Array
    readout: Array
    slope: Array


class Sampling(NamedTuple):
    """How averages are sampled: to a standard error of `tolerance`, or with `points` if that takes more; `seed`."""

    tolerance: float
    seed: int
    points: int


@lru_cache(maxsize=1)
def _closed_forms() -> tuple[tuple[Any, tuple[str, ...]], ...]:
    """`step_averages`, `step_noise` and `mean_slope` compiled, and the tables that they take, in order."""
    parts = [contraction(function) for function in (two_layer.step_averages, two_layer.step_noise, mean_slope)]
    made = load_compiled("step_averages", [part.text for part in parts])
    return tuple((getattr(made, part.name), part.tables) for part in parts)


class StepAverages:
    """(means (C, N), covariances (C, N, N), v (N,)) -> `Averages`, for one problem; N counts a teacher's neurons.

    `c` is the intercept of the output; thresholds are in the means.
    """

    def __init__(self, fields: Fields, rule: LearningRule, sampling: Sampling, stated: bool) -> None:
        self.fields, self.rule, self.sampling, self.stated = fields, rule, sampling, stated
        self.labels = fields.labels
        N, K = len(fields.activations), fields.learning
        joined = N == K or loss(rule.loss).invariant
        self.closed = loss(rule.loss).coefficients is not None and joined and fields.closed
        if self.closed:
            self.coefficients = coefficients(rule.loss, self.labels, rule.label_noise)
        self.noise_closed = N <= CLOSED_FORM_NEURONS
        # where averages are sampled, so is label noise that moments do not average
        polynomial = loss(rule.loss).moments is not None
        kinked = not polynomial and any(len(kinks(rule.loss, y)) for y in (1.0, -1.0))
        self.drawn = rule.label_noise > 0 and not polynomial
        self.slope = noisy_slope(rule.loss, rule.label_noise)
        self.plain = loss(rule.loss).slope
        self.quadrature = None
        if not self.closed and N <= 2 and not (self.drawn and kinked) and not fields.sign:
            self.quadrature = FieldQuadrature(rule.loss, fields.activations, K, self.labels, rule.label_noise)

    def exact(self, mean: Array, covariance: Array, v: Array, c: float = 0.0) -> tuple[Averages, float, str] | None:
        """The averages, their error and method; None where they, or the noise alone, have to be sampled."""
        if self.closed:
            if self.rule.diffusion and not self.noise_closed:
                return None
            found = self.fields.tables(mean, covariance, FIELD_LIMIT if self.rule.diffusion else 2)
            return (
                self._closed(found, v, c, self.rule.diffusion),
                self._error(found, mean, covariance, v, c),
                "closed form",
            )
        if self.quadrature is None:
            return None
        output = self.fields.s * v
        (force, readout, along, square, slope), root, error = self.quadrature(mean, covariance, output, c)
        if error > _UNSETTLED * (1 + np.abs(square).max()):  # label noise too large for its rule
            return None
        error *= float(1 + np.abs(output).max()) ** 2
        response = output[:, None] * along @ np.linalg.pinv(root, rcond=_SINGULAR)
        noise = output[:, None] * output * square
        averages = Averages(output * force, response, noise, self.fields.s * readout, slope)
        return averages, error, "quadrature"

    def sampled(
        self,
        mean: Array,
        covariance: Array,
        v: Array,
        outcome: Callable[[Averages], Array],
        c: float = 0.0,
        largest: float = 1.0,
    ) -> tuple[Array, Array, str]:
        """What linearly follows from the averages, `outcome` (n,), its error and the method.

        The error is standard errors and, if `stated`, that of closed forms, `largest` being what it grows by.
        """
        closed_error = 0.0
        output, N = self.fields.s * v, mean.shape[1]
        root = _root_beside(covariance, self.fields.learning) if self.fields.sign else _root(covariance)
        if self.closed:
            found = self.fields.tables(mean, covariance, 2)
            exact = self._closed(found, v, c, False)
            closed_error = largest * self._error(found, mean, covariance, v, c) if self.stated else 0.0

            def block(z: Array) -> Array:
                _, slope, _, square = self._slopes(mean[:, None] + z @ root, v, c)
                weighed = np.sqrt(square)[:, :, None] * slope
                products = weighed.swapaxes(1, 2) @ weighed / len(z)
                return len(z) * outcome(exact._replace(noise=output[:, None] * output * products))[None]

            method = "closed form, noise by quasi-Monte Carlo"
        else:
            inverse = np.linalg.pinv(root, rcond=_SINGULAR).swapaxes(1, 2)

            def block(z: Array) -> Array:
                n, noise = len(z), self.rule.label_noise * z[:, N] if self.drawn else None
                z = z[:, :N]
                value, slope, force, square = self._slopes(mean[:, None] + z @ root, v, c, noise)
                pushed, weighed = force[:, :, None] * slope, np.sqrt(square)[:, :, None] * slope
                averages = Averages(
                    output * pushed.sum(axis=1) / n,
                    output[:, None] * (pushed.swapaxes(1, 2) @ z / n) @ inverse,
                    output[:, None] * output * (weighed.swapaxes(1, 2) @ weighed / n),
                    self.fields.s * (force[:, None] @ value)[:, 0] / n,
                    force.sum(axis=1) / n,
                )
                return n * outcome(averages)[None]

            method = "quasi-Monte Carlo"
        result = randomised(block, N + self.drawn, **self.sampling._asdict())
        return result.value, result.error + closed_error, method

    def _error(self, found: dict[str, Array], mean: Array, covariance: Array, v: Array, c: float) -> float:
        if not self.stated:
            return math.nan
        rest = np.abs(self.labels) + abs(c) + self.rule.label_noise
        limit = FIELD_LIMIT if self.rule.diffusion and self.noise_closed else 2
        return step_error(found, mean, covariance, self.fields.s * v, rest, limit)

    def shifted(self, c: float) -> tuple[Array, ...]:
        """F0, F1, S0, S1, S2 of the loss at the output phi + c."""
        *_, F0, F1, S0, S1, S2 = self.coefficients
        if c != 0:
            F0, S0, S1 = shifted(F0, F1, S0, S1, S2, c)
        return F0, F1, S0, S1, S2

    def _closed(self, found: dict[str, Array], v: Array, c: float, noisy: bool) -> Averages:
        return self._of(self.shifted(c), found, v, noisy)

    def _of(self, powers: tuple[Array, ...], found: dict[str, Array], v: Array, noisy: bool) -> Averages:
        step = self.first_order(found, v, powers)
        if not noisy:
            return step
        _, (noise, names), _ = _closed_forms()
        return step._replace(noise=noise(*powers[2:], v, *(found[name] for name in names), self.fields.s))

    def first_order(self, found: dict[str, Array], v: Array, powers: tuple[Array, ...]) -> Averages:
        """The averages by their closed forms from tables of averages of the activation, without the noise.

        `powers`: F0, F1, .. as `shifted` gives them.
        """
        (step_averages, names), _, (mean_slope, (g,)) = _closed_forms()
        F0, F1, *_ = powers
        force, response, readout = step_averages(F0, F1, v, *(found[name] for name in names), self.fields.s)
        slope = mean_slope(F0, F1, v, found[g], self.fields.s)
        return Averages(force, response, np.zeros_like(response), readout, slope)

    def along_intercept(self, found: dict[str, Array], v: Array, c: float, noisy: bool) -> Averages:
        """How the averages change with the intercept: they are linear in F0, F1, .., of which F0, S0 and S1 change."""
        _, F1, _, S1, S2 = self.shifted(0.0)
        none = np.zeros_like(F1)
        change = shifted_slope(F1, S1, S2, c)
        return self._of((change[0], none, change[1], change[2], none), found, v, noisy)

    def _slopes(
        self, field: Array, v: Array, c: float, noise: Array | None = None
    ) -> tuple[Array, Array, Array, Array]:
        """g, g', F and F^2 at fields (C, n, N), averaged over the label noise or at the `noise` (n,) that was drawn."""
        value, slope = self.fields.evaluate(field)
        phi, label = self.fields.said(value, v)
        phi = phi + c
        if noise is None:
            return value, slope, *self.slope(phi, label)
        force = np.asarray(self.plain(phi, label + noise))
        return value, slope, force, force**2


class ClassAverages(StepAverages):
    """(means (C, K), covariances (C, K, K), v (c, K)) -> `Averages`, for one problem with an output for each class."""

    def __init__(self, fields: Fields, rule: LearningRule, sampling: Sampling) -> None:
        mixture, self.closed = fields.mixture, False
        self.fields, self.sampling, self.charged = fields, sampling, CLASS_LOSSES[rule.loss]
        self.one_hot = mixture.one_hot[:, None]
        self.by_class: ClassQuadrature | None = None
        if fields.learning <= 2 and mixture.classes is not None and mixture.outputs <= _MOST_OUTPUTS:
            self.by_class = ClassQuadrature(rule.loss, fields.activations, mixture.classes, mixture.outputs)

    def exact(self, mean: Array, covariance: Array, v: Array, c: float = 0.0) -> tuple[Averages, float, str] | None:
        """As of `StepAverages`."""
        if self.by_class is None:
            return None
        (force, readout, along, square), root, error = self.by_class(mean, covariance, self.fields.s * v)
        if error > _UNSETTLED * (1 + np.abs(square).max()):
            return None
        response = along @ np.linalg.pinv(root, rcond=_SINGULAR)
        return Averages(force, response, square, self.fields.s * readout, np.zeros(len(mean))), error, "quadrature"

    def sampled(
        self,
        mean: Array,
        covariance: Array,
        v: Array,
        outcome: Callable[[Averages], Array],
        c: float = 0.0,
        largest: float = 1.0,
    ) -> tuple[Array, Array, str]:
        """As of `StepAverages`, with standard errors alone: there is no closed form."""
        output, root = self.fields.s * v, _root(covariance)
        inverse = np.linalg.pinv(root, rcond=_SINGULAR, hermitian=True)

        def block(z: Array) -> Array:
            n = len(z)
            value, slope = self.fields.evaluate(mean[:, None] + z @ root)
            F = self.charged.slopes(value @ output.T, self.one_hot)  # (C, n, c)
            push = (F @ output) * slope
            averages = Averages(
                push.sum(axis=1) / n,
                (push.swapaxes(1, 2) @ z / n) @ inverse,
                push.swapaxes(1, 2) @ push / n,
                self.fields.s * (F.swapaxes(1, 2) @ value).reshape(len(mean), -1) / n,
                np.zeros(len(mean)),
            )
            return n * outcome(averages)[None]

        result = randomised(block, mean.shape[1], **self.sampling._asdict())
        return result.value, result.error, "quasi-Monte Carlo"


class ClusterTeachers:
    """`StepAverages` where a teacher has a readout for each cluster: each cluster by itself; v is (C, N)."""

    def __init__(self, fields: Fields, rule: LearningRule, sampling: Sampling, stated: bool) -> None:
        self.parts = [
            (np.array([a]), chosen, StepAverages(part, rule, sampling, stated))
            for a in range(fields.mixture.clusters)
            for part, chosen in [fields.of_cluster(a)]
        ]
        self.closed = all(step.closed for _, _, step in self.parts)

    def exact(self, mean: Array, covariance: Array, v: Array, c: float = 0.0) -> tuple[Averages, float, str] | None:
        """The averages, their error and method; None where those of a cluster have to be sampled."""
        total, errors, methods = _nothing(*mean.shape), [], []
        for a, chosen, step in self.parts:
            found = step.exact(*_of_part(a, chosen, mean, covariance, v), c)
            if found is None:
                return None
            _put(total, a, chosen, found[0])
            errors.append(found[1])
            methods.append(found[2])
        return total, float(np.max(errors)), ", ".join(sorted(set(methods)))

    def sampled(
        self,
        mean: Array,
        covariance: Array,
        v: Array,
        outcome: Callable[[Averages], Array],
        c: float = 0.0,
        largest: float = 1.0,
    ) -> tuple[Array, Array, str]:
        """As of `StepAverages`; the error is the sum of those of the clusters."""
        rest = outcome(_nothing(*mean.shape))  # what does not depend on the averages, such as decays
        value, error, methods = rest, np.zeros(()), []
        for a, chosen, step in self.parts:

            def alone(found: Averages, a: Index = a, chosen: Index = chosen) -> Array:
                total = _nothing(*mean.shape)
                _put(total, a, chosen, found)
                return outcome(total)

            law = _of_part(a, chosen, mean, covariance, v)
            if (closed := step.exact(*law, c)) is not None:
                here, off, method = alone(closed[0]), np.asarray(largest * closed[1] if step.stated else 0.0), closed[2]
            else:
                here, off, method = step.sampled(*law, alone, c, largest)
            value, error = value + here - rest, error + off
            methods.append(method)
        return value, error, ", ".join(sorted(set(methods)))


def step_averages(
    fields: Fields, rule: LearningRule, sampling: Sampling, stated: bool
) -> StepAverages | ClusterTeachers:
    """The averages of a step: of classes, or by cluster where a teacher has a readout for each."""
    if fields.mixture.classes is not None:
        return ClassAverages(fields, rule, sampling)
    return (StepAverages if fields.readout.ndim == 1 else ClusterTeachers)(fields, rule, sampling, stated)


def _nothing(C: int, N: int) -> Averages:
    return Averages(np.zeros((C, N)), np.zeros((C, N, N)), np.zeros((C, N, N)), np.zeros((C, N)), np.zeros(C))


def _of_part(a: Index, chosen: Index, mean: Array, covariance: Array, v: Array) -> tuple[Array, Array, Array]:
    """Means, covariances and readouts of the fields that count in a cluster."""
    return mean[np.ix_(a, chosen)], covariance[np.ix_(a, chosen, chosen)], v[a[0], chosen]


def _put(total: Averages, a: Index, chosen: Index, found: Averages) -> None:
    """Write the averages of a cluster where they belong."""
    total.force[np.ix_(a, chosen)], total.readout[np.ix_(a, chosen)] = found.force, found.readout
    total.response[np.ix_(a, chosen, chosen)], total.noise[np.ix_(a, chosen, chosen)] = found.response, found.noise
    total.slope[a] = found.slope


def _root(covariance: Array) -> Array:
    """The symmetric roots: neurons that are nearly independent stay on a coordinate each, which points cover best."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0))[:, None, :]) @ vectors.swapaxes(1, 2))


def _root_beside(covariance: Array, K: int) -> Array:
    """R with R^T R the covariance, in which the last fields, a teacher's, have coordinates of their own.

    As long as their law stays, so do their values at given points, and the signs of them: averages of labels ±1 are
    then smooth functions of what the network is.
    """
    inside = covariance[:, K:, K:]
    root = _root(inside)
    shared = np.linalg.pinv(root, rcond=_SINGULAR, hermitian=True) @ covariance[:, K:, :K]
    found = np.zeros_like(covariance)
    found[:, K:, K:], found[:, K:, :K] = root, shared
    found[:, :K, :K] = _root(covariance[:, :K, :K] - shared.swapaxes(1, 2) @ shared)
    return found
