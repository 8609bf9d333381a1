"""What labels do in the saddle point of empirical risk: those of clusters, and those that a teacher makes.

The channel averages of `quenched.numerics.saddle.empirical_risk` are over the learner's field w and the label.  A
cluster has one label.  A teacher's label depends on the input: on its fields nu, which are normal together with w
(derived in symbolic/learners/erm_teachers.py).  Two cases have averages of their own:

1. the square loss and any teacher: the moments E[y], E[y g] and E[y^2] are all that enters;
2. any loss and labels y = sign(nu), nu one field in each cluster: each label is weighted with its probability given w.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from quenched.numerics.averages.losses import loss_functions
from quenched.numerics.averages.teacher_labels import simplified
from quenched.numerics.lazy.taught import LabelMoments, TaughtOutputs, check_taught, label_moments, sign_errors
from quenched.numerics.probability.normal import normal_probability
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.saddle.proximal import Channel, proximal_averages, proximal_moves
from quenched.theory import erm
from quenched.theory import erm_teachers as generated

__all__ = ["ClusterLabels", "Labels", "Output", "TaughtLabels", "labels_of"]

Array = npt.NDArray[np.float64]

theory: Any = erm  # ufunc expressions: they take arrays where their signature says float
erm_teachers: Any = generated

_SQUARE_ERROR, _HINGE_ERROR = 2e-15, 2e-12  # of closed averages, relative; those of the hinge cancel up to V^2 eps
_CANCELS = 0.02  # V/sqrt(1 + q) below which the closed averages of the hinge loss, differences over V^2, are not used
_ORTHANT = 1e-14  # error of a normal probability of two fields


class Output(NamedTuple):
    """The learner's field given the cluster: means m_a + b (C,), sqrt(q), and weights v (p,) along the coordinates."""

    means: Array
    spread: float
    v: Array


class Errors(NamedTuple):
    """P(y w < 0), P(y prox < 0) and E[(y - w)^2] in each cluster (C,); the numerical error of a probability."""

    wrong: Array
    missed: Array
    squares: Array
    error: float


class Labels(Protocol):
    """The labels of n samples: averages over them."""

    @property
    def moments(self) -> LabelMoments:
        """Orders 0 and 1 of the labels in g, and E[y^2]: all that the square loss asks for."""
        ...

    def channel(self, loss: str, V: float, output: Output) -> Channel:
        """The averages of the move in each cluster."""
        ...

    def errors(self, loss: str, V: float, output: Output) -> Errors:
        """Errors of signs, on fresh samples and on those of training, and squared errors on fresh ones."""
        ...


@dataclass(frozen=True, eq=False)
class ClusterLabels:
    """One label y_a = ±1 in each cluster, (C,), of inputs with p coordinates along the means."""

    y: Array
    p: int

    @property
    def moments(self) -> LabelMoments:
        """Nothing depends on g."""
        return LabelMoments(self.y, np.zeros((len(self.y), self.p)), self.y**2, 0.0)

    def channel(self, loss: str, V: float, output: Output) -> Channel:
        """Closed averages for the square and the hinge loss, adaptive ones otherwise."""
        y, means, s = self.y, output.means, output.spread
        if loss == "square":
            found, error = theory.square(V, y, means, s**2), _SQUARE_ERROR
        elif loss == "hinge" and _CANCELS * math.sqrt(1 + s**2) < V:
            of_margin, *others = theory.hinge(V, y * means, s)
            found, error = [y * of_margin, *others], _HINGE_ERROR
        else:
            return proximal_averages(loss, y, V, means, s)
        move, squared, slope, envelope = (np.broadcast_to(part, y.shape) for part in found)
        return Channel(move, squared, slope, envelope, error)

    def errors(self, loss: str, V: float, output: Output) -> Errors:
        """Tails of the normal field."""
        y, (means, s, _) = self.y, output
        wrong, missed = theory.classification_error(y, means, s), theory.training_error(
            V, y, means, s, _at_zero(loss, y)
        )  # fmt: skip
        return Errors(wrong, missed, (y - means) ** 2 + s**2, 0.0)


class HalfSpaces(NamedTuple):
    """y = sign(nu_a), nu_a ~ N(level_a, power_a) in cluster a, Cov(w, nu_a) = along_a.v: (C,), (C, p) and (C,)."""

    level: Array
    along: Array
    power: Array


@dataclass(frozen=True, eq=False)
class TaughtLabels:
    """Labels of the teacher of a mixture, in training with the noise `noise`·N(0, 1): moments, or half-spaces too."""

    mixture: Mixture
    clean: LabelMoments
    spaces: HalfSpaces | None
    noise: float

    @property
    def moments(self) -> LabelMoments:
        """Those of the labels of training."""
        return self.clean._replace(square=self.clean.square + self.noise**2)

    def _square(self, V: float, output: Output, moments: LabelMoments) -> tuple[Array, ...]:
        """theory.square in each cluster."""
        along = self.mixture.sigmas[:, None] * moments.slope
        found = erm_teachers.square(V, moments.mean, moments.square, along @ output.v, output.means, output.spread**2)
        return tuple(np.broadcast_to(part, output.means.shape) for part in found)

    def channel(self, loss: str, V: float, output: Output) -> Channel:
        """Closed averages for the square loss, adaptive ones otherwise."""
        if loss == "square" or self.spaces is None:
            moments = self.moments
            move, squared, slope, envelope = self._square(V, output, moments)
            along = self.mixture.sigmas[:, None] * moments.slope
            return Channel(move, squared, slope, envelope, _SQUARE_ERROR + moments.error, -slope, along)
        (level, along, power), s = self.spaces, output.spread
        with np.errstate(divide="ignore", invalid="ignore"):  # of labels that are constant in a cluster
            covariance = along @ output.v
            law = np.array(erm_teachers.label_law(s**2, level, power, covariance))
            density, means, variance = erm_teachers.border(output.means, s**2, level, power, covariance)
        law[1, power == 0] = 0.0
        turns = power > 0
        C = len(level)
        y = np.repeat([1.0, -1.0], C)
        both = proximal_moves(loss, y, V, np.tile(output.means, 2), np.full(2 * C, s), (y * np.tile(law, 2)).T)
        move, squared, regressed, envelope = (part[:C] + part[C:] for part in both[:4])
        response, error = np.zeros(C), both.error
        if turns.any():
            there = np.repeat([1.0, -1.0], turns.sum())
            at = proximal_moves(loss, there, V, np.tile(means[turns], 2), np.sqrt(np.tile(variance[turns], 2)))
            response[turns] = density[turns] * (at.move[: turns.sum()] - at.move[turns.sum() :])
            error += at.error
        slope = erm_teachers.move_slope(s**2, regressed, covariance, response)
        return Channel(move, squared, slope, envelope, error, response, along)

    def errors(self, loss: str, V: float, output: Output) -> Errors:
        """Normal probabilities of two fields for half-spaces, quasi-Monte Carlo over the teacher's fields otherwise."""
        squares = self._square(0.0, output, self.clean)[1]
        if self.spaces is not None and self.noise == 0:
            found = [self._disagreement(y, V * _at_zero(loss, np.array(y)), output) for y in (1.0, -1.0)]
            wrong, missed = np.sum(found, axis=0)
            return Errors(wrong, missed, squares, _ORTHANT)
        sigma = self.mixture.sigmas[:, None]
        outputs = TaughtOutputs(output.means, sigma * output.v, np.full(len(squares), output.spread**2))
        wrong, error = sign_errors(self.mixture, outputs)
        missed, _ = sign_errors(self.mixture, outputs, lambda y: V * _at_zero(loss, y), self.noise)
        return Errors(wrong, missed, squares, error)

    def _disagreement(self, y: float, threshold: Array, output: Output) -> tuple[Array, Array]:
        """P(y nu > 0, y w < 0), and P(y nu > 0, y (w - threshold) < 0), in each cluster."""
        if self.spaces is None:
            raise ValueError("spaces must be given, got None")
        level, along, power = self.spaces
        s, root = output.spread, np.sqrt(power)
        with np.errstate(divide="ignore", invalid="ignore"):
            h = np.where(power > 0, y * level / root, np.sign(y * level) * np.inf)
            r = np.where(power > 0, -np.clip(along @ output.v / (s * root), -1, 1), 0.0)
        h = np.clip(h, -40.0, 40.0)  # where the normal distribution function is 0 or 1
        wrong, missed = (
            np.asarray(normal_probability([h, -y * (output.means - shift) / s], [r])) for shift in (0.0, threshold)
        )
        return wrong, missed


def _at_zero(loss: str, y: Array) -> Array:
    """The slope of the loss at the output 0."""
    return np.broadcast_to(loss_functions(loss)[1](np.zeros(np.shape(y)), y), np.shape(y))


def _half_spaces(mixture: Mixture) -> HalfSpaces | None:
    """The labels of a teacher as signs of one field in each cluster, where they are that."""
    teacher = simplified(mixture.taught)
    v = teacher.readouts(mixture.clusters)
    if teacher.sign or teacher.activation != "sign(x)" or not ((np.abs(v) == 1).sum(axis=1) == 1).all():
        return None
    if ((v != 0).sum(axis=1) != 1).any():
        return None
    weights, sigma = v @ teacher.weights, mixture.sigmas  # sign(-nu) = -sign(nu)
    along = sigma[:, None] ** 2 * weights
    power = sigma**2 * (weights**2).sum(axis=1) + teacher.field_noise**2
    level = (weights * mixture.means).sum(axis=1)
    return HalfSpaces(level, along, power) if ((power > 0) | (level != 0)).all() else None


def labels_of(mixture: Mixture, loss: str, noise: float = 0.0) -> Labels:
    """The labels of a mixture for a learner with this loss; `noise`: the standard deviation of that of training labels.

    ValueError: noise, or a teacher that does not say sign(nu) of one field, for another loss than the square one; what
    `check_taught` refuses.

    >>> from quenched.numerics import Teacher
    >>> made = labels_of(Mixture([[0.0]], teacher=Teacher([[2.0]], [1.0], "erf", sign=True)), "logistic")
    >>> made.moments.square.tolist(), round(float(made.moments.slope[0, 0] ** 2 * np.pi / 2), 12)
    ([1.0], 1.0)
    """
    if noise and loss != "square":
        raise ValueError(
            f"label_noise must be 0 for loss={loss!r}, whose averages over noisy labels have no formula here, got "
            f"{noise}; the square loss has one, and a teacher's field_noise turns signs for any loss"
        )
    if mixture.teacher is None:
        labels = ClusterLabels(mixture.labels.astype(np.float64), mixture.dimensions)
        return labels if not noise else TaughtLabels(mixture, labels.moments, None, noise)
    check_taught(mixture, elsewhere=False)
    spaces = _half_spaces(mixture)
    if spaces is None and loss != "square":
        raise ValueError(
            f"loss must be 'square' for labels of this teacher, got {loss!r}: other losses have a formula for the sign "
            f"of one field in each cluster, sign=True with one neuron or linear ones, got {mixture.teacher!r}"
        )
    return TaughtLabels(mixture, label_moments(mixture), spaces, noise)
