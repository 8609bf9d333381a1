"""Frozen features and kernels that learn from a teacher: what they see of its labels, and their errors on them.

With inputs x = mean_a + sigma_a g of cluster a and n or P of order D, learners with frozen features answer with a
linear function of x and noise that is independent of it.  What they learn of labels y(x) are the orders 0 and 1 in g,

    c_a = E_a[y],   b_a = E_a[y g]   (E_a[g(nu_m) g] = c_1(nu_m) sigma_a w*_m/|nu_m|, c_1 the Hermite coefficient);

what is left, E_a[y^2] - c_a^2 - |b_a|^2, disturbs them like label noise (El Karoui 2010; Goldt et al. 2021).  Given the
cluster the output is m_a + o_a·g + noise, of variance q_a in all, normal together with the teacher's fields:

    pmse = sum_a P_a [E_a[y^2] - 2 c_a m_a - 2 o_a·b_a + m_a^2 + q_a]/2
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from quenched.numerics.averages.activations import tables, value_averages
from quenched.numerics.lazy.hermite import hermite_orders
from quenched.numerics.lazy.readout import ReadoutErrors
from quenched.numerics.probability.quadrature import randomised
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.step.field_quadrature import pair_tables
from quenched.numerics.two_layer.local_fields import Fields

__all__ = ["LabelMoments", "TaughtOutputs", "check_taught", "label_moments", "sign_errors", "taught_errors"]

Array = npt.NDArray[np.float64]

_TOLERANCE = 1e-6  # standard error of what is sampled, where 2^17 points reach it
_POINTS = 2**17
_SINGULAR = 1e-10  # relative: fields of a smaller spread are functions of the others
_ROUNDING = 1e-13  # relative, of averages in closed form


class LabelMoments(NamedTuple):
    """c_a (C,), b_a (C, p), E_a[y^2] (C,), and the error of an entry."""

    mean: Array
    slope: Array
    square: Array
    error: float

    @property
    def rest(self) -> Array:
        """The variance of what is not linear in x, (C,)."""
        return np.maximum(self.square - self.mean**2 - (self.slope**2).sum(axis=1), 0.0)


class TaughtOutputs(NamedTuple):
    """m_a (C,), o_a (C, p) and q_a (C,) of outputs."""

    mean: Array
    slope: Array
    variance: Array


def check_taught(mixture: Mixture, elsewhere: bool) -> None:
    """ValueError: a teacher in a case that has no formula with one; `elsewhere`: not the limit of n or P of order D."""
    if mixture.spectrum is not None or elsewhere or (mixture.exponents != 0).any():
        raise ValueError(
            "mixture must have isotropic inputs and means of order 1 where a teacher makes the labels, in the limit "
            f"of large D with n or P of order D, got spectrum={mixture.spectrum!r}, scaling={mixture.scaling!r}; there "
            "is no formula at finite D, and none for n or P of order D^2"
        )


class _Taught:
    """The fields of a teacher in each cluster: its law, what it says, and how the fields depend on g."""

    def __init__(self, mixture: Mixture) -> None:
        self.mixture, self.fields = mixture, Fields(mixture, TwoLayer(1, "linear"))
        p = mixture.dimensions
        A, Q, v = self.fields.joined(np.zeros((1, p, 1)), np.zeros((1, 1, 1)), np.zeros(1))
        mean, covariance = self.fields.law(A, Q)
        self.mean, self.covariance, self.v = mean[:, 1:], covariance[:, 1:, 1:], v
        self.along = mixture.sigmas[:, None, None] * self.fields.weights  # (C, m, p): nu = mean + along g

    def labels(self, nu: Array) -> Array:
        """(C, n) of fields (C, n, m)."""
        value, _ = self.fields.evaluate(np.concatenate([np.zeros((*nu.shape[:2], 1)), nu], axis=2))
        return self.fields.said(value, self.v)[1]

    def roots(self) -> Array:
        """Symmetric roots of the covariances."""
        values, vectors = np.linalg.eigh(self.covariance)
        return np.asarray((vectors * np.sqrt(np.maximum(values, 0))[:, None]) @ vectors.swapaxes(1, 2))


def label_moments(mixture: Mixture) -> LabelMoments:
    """Orders 0 and 1 of the labels of a teacher in each cluster, and their squares.

    y = erf(nu/sqrt 2): c_1 = sqrt(2/pi) |w|/sqrt(1 + |w|^2), E y^2 = (2/pi) arcsin(|w|^2/(1 + |w|^2)).

    >>> from quenched.numerics import Teacher
    >>> found = label_moments(Mixture([[0.0]], teacher=Teacher([[2.0]], [1.0], "erf")))
    >>> bool(abs(found.slope[0, 0] - np.sqrt(2 / np.pi) * 2 / np.sqrt(5)) < 1e-14)
    True
    """
    taught = _Taught(mixture)
    if taught.fields.sign:
        return _sampled(taught)
    C, m = taught.mean.shape
    readouts = np.broadcast_to(-taught.fields.s * taught.v[..., 1:], (C, m))
    first, linear, error = np.zeros((C, m)), np.zeros((C, m)), 0.0
    activation = taught.fields.activations[-1]
    spread = np.sqrt(np.maximum(np.einsum("amm->am", taught.covariance), 0))
    for a, n in np.ndindex(C, m):
        if spread[a, n] > 0 and readouts[a, n]:
            found = hermite_orders(activation, taught.mean[a, n], spread[a, n], orders=1)
            first[a, n], linear[a, n] = found.coefficients
            error = max(error, found.error)
        else:
            first[a, n] = taught.fields.evaluate(taught.mean[a, n] * np.ones((1, 1, m + 1)))[0][0, 0, -1]
    slope = np.einsum("am,amp->ap", readouts * linear / np.where(spread > 0, spread, 1), taught.along)
    if value_averages(activation).groups:
        both, off = tables(activation, taught.mean, taught.covariance, 2)["g,g"], _ROUNDING
    else:
        table, errors = pair_tables([activation] * m, taught.mean, taught.covariance, _TOLERANCE**2)
        both, off = table["g,g"], errors["g,g"]
    square = np.einsum("am,amn,an->a", readouts, both, readouts)
    scale = 1 + np.abs(readouts).sum(axis=1).max()
    return LabelMoments((readouts * first).sum(axis=1), slope, square, float((error + off) * scale**2))


def _sampled(taught: _Taught) -> LabelMoments:
    """The same by quasi-Monte Carlo, for the sign of what several neurons say."""
    (C, m), roots = taught.mean.shape, taught.roots()
    regression = np.linalg.pinv(roots, rcond=_SINGULAR, hermitian=True) @ taught.along  # E[g | z] = z regression

    def given(z: Array) -> Array:
        y = taught.labels(taught.mean[:, None] + z @ roots)
        return np.concatenate([y, y**2, *(y[:, :, None] * z).transpose(0, 2, 1)]).T

    result = randomised(given, m, tolerance=_TOLERANCE, seed=0, points=_POINTS)
    mean, square, along = np.split(result.value, [C, 2 * C])
    slope = np.einsum("am,amp->ap", along.reshape(C, m), regression)
    return LabelMoments(mean, slope, square, float(result.error.max()))


def taught_errors(
    mixture: Mixture, moments: LabelMoments, outputs: TaughtOutputs, error: float, method: str
) -> ReadoutErrors:
    """The errors of outputs on the labels of a teacher; `error`: of the outputs, in units of the labels.

    The classification error is that of the signs, P(y phi < 0) + P(y phi = 0)/2: of the normal output given the
    teacher's fields, averaged over these by quasi-Monte Carlo.
    """
    P, (m, o, q) = mixture.weights, outputs
    squares = moments.square - 2 * moments.mean * m - 2 * (o * moments.slope).sum(axis=1) + m**2 + q
    wrong, sampled = sign_errors(mixture, outputs)
    size = 1 + float(np.abs(m).max() + np.sqrt(q.max()))
    # outputs that are off by delta have another sign where |output| < delta: with a probability of at most sqrt(2/pi)
    # delta/spread if their density is normal, whatever the labels are; else for sure or never
    delta, spread = error * size, np.sqrt(q)
    turned = np.divide(delta, spread, out=(np.abs(m) < delta).astype(np.float64), where=spread > delta)
    return ReadoutErrors(
        pmse=float(P @ squares / 2),
        pmse_error=(error + moments.error) * size**2,
        classification_error=float(P @ wrong),
        classification_error_error=sampled + float(P @ turned),
        mean=m,
        variance=q,
        method=method,
    )


def sign_errors(
    mixture: Mixture, outputs: TaughtOutputs, threshold: Callable[[Array], Array] | None = None, noise: float = 0.0
) -> tuple[Array, float]:
    """P(y (phi - threshold(y)) < 0), a tie counting one half, in each cluster (C,), and its standard error over all.

    `threshold`: 0 if None; `noise`: the standard deviation of that of the labels, which are disturbed by it here.
    """
    taught, (m, o, q) = _Taught(mixture), outputs
    roots, fields = taught.roots(), taught.mean.shape[1]
    inverse = np.linalg.pinv(roots, rcond=_SINGULAR, hermitian=True)
    shared = np.einsum("anm,amp,ap->an", inverse, taught.along, o)  # the output is m + shared·z + what is independent
    left = np.sqrt(np.maximum(q - (shared**2).sum(axis=1), 0))

    def given(z: Array) -> Array:
        y = taught.labels(taught.mean[:, None] + z[:, :fields] @ roots)
        y = y + noise * z[:, fields] if noise else y
        output = m[:, None] + shared @ z[:, :fields].T
        output = output if threshold is None else output - threshold(y)
        y = np.sign(y)
        with np.errstate(divide="ignore", invalid="ignore"):
            wrong = np.where(
                left[:, None] > 0, ndtr(-y * output / left[:, None]), np.heaviside(-y * np.sign(output), 0.5)
            )
        return np.vstack([wrong, mixture.weights @ wrong]).T

    found = randomised(given, fields + bool(noise), tolerance=_TOLERANCE, seed=0, points=_POINTS)
    return found.value[:-1], float(found.error[-1])
