"""Labels that a teacher makes: what they are of its fields, whether they vary, and teachers in simpler terms.

y = sum_m v_am g(nu_m) in cluster a, or the sign of that, with fields nu ~ N(W mean_a, W C_a W^T + field_noise^2 1).
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from quenched.numerics.averages.activations import activation_value, averages, piecewise_linear, value_averages
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import Teacher

__all__ = ["check_labels", "in_terms_of", "simplified", "weighed"]

Array = npt.NDArray[np.float64]

_N = r"\d+(?:\.\d+)?"
# Odd functions that rise, times and at multiples of x, as the canonical text of an activation writes them.
_INSIDE = rf"(?:{_N}\*)?(?:sqrt\({_N}\)\*)?x(?:/{_N}|/sqrt\({_N}\))?"
_RISING = re.compile(rf"(?:{_N}\*)?(?:(?:erf|tanh|atan|sinh)\({_INSIDE}\)|x\*\*\d*[13579])")
_INPUTS, _REACH = 2048, (1.0, 3.0)  # draws of the fields of each cluster, times these
_SAME = 1e-12  # relative: labels that differ by less differ by rounding


def weighed(value: Array, v: Array) -> Array:
    """sum_n value_..n v_n of values (C, n, N), with readouts (N,) or, one row per cluster, (C, N)."""
    return np.asarray(value @ v if v.ndim == 1 else np.matmul(value, v[:, :, None])[..., 0])


def simplified(teacher: Teacher) -> Teacher:
    """The same labels; the sign of one field, or of a linear combination of them, as a neuron with g = sign(x).

    >>> made = simplified(Teacher([[5.0], [10.0]], [0.6, 0.8], "linear", sign=True, field_noise=0.5))
    >>> made.activation, made.weights.ravel().tolist(), made.v.tolist(), made.sign
    ('sign(x)', [11.0], [1.0], False)
    """
    if not teacher.sign or not teacher.neurons:
        return teacher
    if teacher.activation == "linear":
        # the noise of sum_m v_m nu_m is |v| field_noise: fields in units of |v|
        rows = np.atleast_2d(teacher.v)
        lengths = np.linalg.norm(rows, axis=1)
        weights = rows / np.where(lengths > 0, lengths, 1)[:, None] @ teacher.weights
        heard = (lengths > 0).astype(np.float64)
        return replace(
            teacher,
            weights=weights,
            v=heard if teacher.v.ndim == 1 else np.diag(heard),
            activation="sign(x)",
            sign=False,
        )
    if teacher.neurons == 1 and _has_the_sign_of_x(teacher.activation):
        return replace(teacher, v=np.sign(teacher.v), activation="sign(x)", sign=False)
    return teacher


def _has_the_sign_of_x(activation: str) -> bool:
    """Whether sign g(x) = sign x is proved: of a line bent at 0, or of a known function.  Values would prove nothing.

    >>> [_has_the_sign_of_x(g) for g in ("erf", "leaky_relu", "sign(x)", "relu", "he3")]
    [True, True, True, False, False]
    """
    if (pieces := piecewise_linear(activation)) is None:
        return _RISING.fullmatch(value_averages(activation).text) is not None
    kinks, slopes, intercepts = pieces
    rises, jumps = slopes[[0, -1]], intercepts[[0, -1]] * [-1, 1]  # on the left and on the right of 0
    one_bend = len(kinks) <= 1 and not kinks.any()
    return bool(one_bend and (rises >= 0).all() and (jumps >= 0).all() and (rises + jumps > 0).all())


def in_terms_of(activation: str, teacher: Teacher) -> tuple[Teacher, Array]:
    """The same teacher, made of relu neurons if the network is: a bent line is a relu(x) - b relu(-x).

    And B (m, n): how its fields depend on n independent numbers of field noise.
    """
    teacher = simplified(teacher)
    unit = np.eye(teacher.neurons)
    if not teacher.neurons or averages(activation) is not averages("relu"):
        return teacher, unit
    if (pieces := piecewise_linear(teacher.activation)) is None:
        return teacher, unit
    kinks, slopes, intercepts = pieces
    if kinks.any() or intercepts.any():
        return teacher, unit
    v = np.concatenate([slopes[-1] * teacher.v, -slopes[0] * teacher.v], axis=-1)
    used = np.atleast_2d(v).any(axis=0)
    weights, both = (np.concatenate([one, -one])[used] for one in (teacher.weights, unit))
    return replace(teacher, weights=weights, v=v[..., used], activation="relu"), both


@lru_cache(maxsize=64)
def check_labels(mixture: Mixture) -> None:
    """ValueError: labels by a teacher that are one and the same, of which there is nothing to learn.

    They are made for 4096 draws of the fields in each cluster, half of them three times as far from the mean.
    """
    teacher = mixture.teacher
    if teacher is None:
        return
    g, random = activation_value(teacher.activation), np.random.default_rng(0)
    spread = np.einsum("mp,au,upq,nq->amn", teacher.weights, mixture.eigenvalues, mixture.alignment, teacher.weights)
    spread = spread + teacher.field_noise**2 * np.eye(teacher.neurons)
    values, vectors = np.linalg.eigh(spread)
    root = vectors * np.sqrt(np.maximum(values, 0))[:, None]
    z = random.standard_normal((_INPUTS, teacher.neurons))
    fields = (mixture.means @ teacher.weights.T)[:, None] + np.concatenate([s * z for s in _REACH]) @ root.swapaxes(
        1, 2
    )
    terms = np.asarray(g(fields)) * teacher.readouts(mixture.clusters)[:, None]
    y = terms.sum(axis=2)
    y = np.where(np.abs(y) <= _SAME * np.abs(terms).sum(axis=2), 0.0, y)
    if teacher.sign:
        y = np.sign(y)
    if np.ptp(y) <= _SAME * np.abs(terms).sum(axis=2).max(initial=0.0):
        raise ValueError(
            f"teacher must make labels that differ, got {teacher!r}, whose label is {y.flat[0]:g} on each of {y.size} "
            "inputs"
        )
