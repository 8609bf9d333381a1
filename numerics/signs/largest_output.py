"""The class that a network of several outputs names: that of its largest output, phi_c = s sum_k v_ck g(lambda_k).

    error = 1 - sum_a P_a E_a[(c_a is largest)/(number of the largest outputs)],   tie = P(the largest is not alone)

1. Two outputs: the sign of phi_1 - phi_0, by all that is known of signs (`output_signs`).
2. A linear g, up to five outputs: the differences of the outputs are normal, and their common sign is an orthant
   probability, exact.
3. Otherwise outputs are compared at quasi-random fields; the error is a standard error.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from quenched.numerics.averages.activations import activation_functions, piecewise_linear
from quenched.numerics.probability.normal import Phi, normal_probability
from quenched.numerics.probability.quadrature import randomised
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.signs.output_signs import Law, Sampling, Signs, padded, signs, square_root

__all__ = ["largest_output"]

Array = npt.NDArray[np.float64]

_POINTS = 2**15  # as many as sampled averages of a step take
_MOST = 5  # outputs whose differences have an orthant probability in closed form
_ORTHANT = 1e-8  # the largest error of that, where correlations are nearly singular
_CORRELATION = 1e-10  # relative: differences of a smaller spread are constants


def largest_output(mixture: Mixture, activation: str, law: Law, sampling: Sampling) -> Signs:
    """Error and ties of the classes of a mixture, for fields of this law; its readout v is (c, K)."""
    if mixture.classes is None:
        raise ValueError("mixture must have classes, got labels")
    if mixture.outputs == 2:
        two = replace(mixture, labels=mixture.one_hot[:, 1] - mixture.one_hot[:, 0], classes=None)
        return signs(two, activation, replace(law, v=law.v[1] - law.v[0]), sampling)
    pieces = piecewise_linear(activation)
    if pieces is not None and not len(pieces[0]) and mixture.outputs <= _MOST:
        found = _linear(mixture, law, float(pieces[1][0]), float(pieces[2][0]))
        if found is not None:
            return found
    return _compared(mixture, activation, law, sampling)


def _linear(mixture: Mixture, law: Law, slope: float, intercept: float) -> Signs | None:
    """P(phi_c > phi_d for all d != c), differences normal; None where one of them is a constant."""
    wrong = 1.0
    for P, c, mean, covariance in zip(
        mixture.weights, mixture.one_hot.argmax(axis=1), law.mean, law.covariance, strict=True
    ):
        ahead = law.v[c] - np.delete(law.v, c, axis=0)  # (c - 1, K)
        centre = ahead @ (slope * mean + intercept)
        spread = slope**2 * ahead @ covariance @ ahead.T
        size = np.sqrt(np.maximum(spread.diagonal(), 0))
        if size.min() <= _CORRELATION * max(1.0, float(np.abs(centre).max())):
            return None
        correlation = np.clip(spread / np.outer(size, size), -1, 1)
        limits, upper = list(centre / size), correlation[np.triu_indices(len(size), 1)]
        right = Phi(limits[0]) if len(limits) == 1 else normal_probability(limits, list(upper))
        wrong -= float(P * right)
    return Signs(wrong, 0.0, _ORTHANT, 0.0, "exact")


def _compared(mixture: Mixture, activation: str, law: Law, sampling: Sampling) -> Signs:
    """By comparing outputs at quasi-random fields."""
    g, roots = activation_functions(activation)[0], padded([square_root(C) for C in law.covariance])
    rank, own, weights = roots.shape[2], mixture.one_hot[:, None], mixture.weights

    def given(z: Array) -> Array:
        phi = g(law.mean[:, None] + z[:, :rank] @ roots.swapaxes(1, 2)) @ law.v.T  # (C, n, c)
        largest = phi == phi.max(axis=2, keepdims=True)
        number = largest.sum(axis=2)
        right = (largest * own).sum(axis=2) / number
        return np.stack([weights @ (1 - right), weights @ (number > 1)], axis=1)

    tolerance = np.array([sampling.tolerance, np.inf])
    points = sampling.points or _POINTS
    result = randomised(given, max(1, rank), tolerance=tolerance, seed=sampling.seed, points=points)
    (wrong, tie), (error, tie_error) = result.value.tolist(), result.error.tolist()
    count = 0.5 / result.evaluations  # stratified points may count a step alike in all scramblings
    return Signs(wrong, tie, error + count, tie_error + count, "randomised quasi-Monte Carlo")
