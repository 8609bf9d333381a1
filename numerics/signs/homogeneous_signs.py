"""The sign of a network of three or four homogeneous piecewise linear neurons, such as relu: exact probabilities.

On each set of fields of given signs e_k, with u_k = e_k lambda_k > 0, the output is linear, phi = sum_k c_k u_k.  Where
phi < 0 is a polyhedral cone, and every one with up to four neurons is a sum and difference of cones with as many faces
as there are fields; the normal probability of such a cone is an orthant probability of its forms, Phi_3 or Phi_4.  With
p positive and q negative coefficients,

    q = 0            nothing
    p = 0            all u > 0
    q = 1            u_k > 0 but for that of the negative coefficient, which phi < 0 implies
    p = 1            all u > 0, less the cone with phi > 0 in place of the positive one
    p = q = 2        a1 + a2 < b3 + b4 with a, b = |c| u is, according to the sign of b3 - a1,
                     {a1, a2, b3 - a1, b4 > 0} less the part of it with a2 > b3 - a1 + b4,
                     and {b3, a2, a1 - b3, b4 - a2 - a1 + b3 > 0}
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quenched.numerics.compiled.machine_code import njit
from quenched.numerics.probability.normal import normal_probability

__all__ = ["cone_signs"]

Array = NDArray[np.float64]

# errors of Phi3 and Phi4 (probability.normal), where the smallest eigenvalue of the correlations is above or below
_REGULAR, _SINGULAR, _NEARLY = 1e-11, 1e-8, 1e-6


def cone_signs(
    weights: Array, labels: Array, mean: Array, covariance: Array, v: Array, slopes: Array
) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """P(y phi < 0) + P(phi = 0)/2 and P(phi = 0), and bounds on their errors.

    Fields lambda | a ~ N(mean[a], covariance[a]), mean (C, n), n = 3 or 4; phi = sum_k v_k g(lambda_k), with slopes
    (2,) of g left and right of 0.  None where a form does not vary, so that no density exists.

    Three independent relu, unit readouts: the output is never negative, and 0 if all are off, with probability 1/8.

    >>> one, zero, identity = np.ones(1), np.zeros((1, 3)), np.eye(3)[None]
    >>> (wrong, tie), _ = cone_signs(one, one, zero, identity, np.ones(3), np.array([0.0, 1.0]))
    >>> round(wrong, 12), round(tie, 12)
    (0.0625, 0.125)
    """
    total, error = np.zeros(2), np.zeros(2)  # of the wrong sign, of ties
    for y in (-1.0, 1.0):
        chosen = labels == y
        if not chosen.any():
            continue
        sign, flat, forms = _cones(y * v, slopes)
        if not len(sign):
            continue
        found = _probabilities(forms, mean[chosen], covariance[chosen])
        if found is None:
            return None
        signs = np.stack([sign * (1 - flat / 2), flat])
        value, bound = (part @ weights[chosen] for part in found)
        total += signs @ value
        error += np.abs(signs) @ bound
    (wrong, tie), (wrong_error, tie_error) = total.tolist(), error.tolist()
    return (wrong, tie), (wrong_error, tie_error)


@njit(error_model="numpy", nogil=True)
def _cones(v, slopes):  # type: ignore[no-untyped-def]
    """Cones that add up to phi < 0, and those where phi = 0: signs (N,), whether phi = 0 there (N,), forms (N, n, n).

    A cone is where all its forms of the fields, its rows, are positive.
    """
    n = v.size
    sign, flat, forms = np.ones(3 * 2**n), np.zeros(3 * 2**n), np.zeros((3 * 2**n, n, n))
    c, above, below, count = np.empty(n), np.empty(n, np.int64), np.empty(n, np.int64), 0
    for pattern in range(2**n):
        p = q = 0
        u = np.zeros((n, n))  # u_k as forms of the fields
        output = np.zeros(n)
        for k in range(n):
            side = 1.0 if (pattern >> (n - 1 - k)) & 1 else -1.0
            c[k] = v[k] * side * (slopes[1] if side > 0.0 else slopes[0])
            u[k, k] = side
            output[k] = c[k] * side
            if c[k] > 0.0:
                above[p] = k
                p += 1
            elif c[k] < 0.0:
                below[q] = k
                q += 1
        if q == 0 and p > 0:
            continue
        if q < 2 or p < 2:
            forms[count] = u
            flat[count] = 1.0 if p == 0 and q == 0 else 0.0
            if q == 1 and p > 0:
                forms[count, below[0]] = -output
            count += 1
            if q > 1 and p == 1:
                forms[count], sign[count] = u, -1.0
                forms[count, above[0]] = output
                count += 1
            continue
        a1, a2 = c[above[0]] * u[above[0]], c[above[1]] * u[above[1]]
        b3, b4 = -c[below[0]] * u[below[0]], -c[below[1]] * u[below[1]]
        gap = b3 - a1
        first, second, third = forms[count], forms[count + 1], forms[count + 2]
        first[0], first[1], first[2], first[3] = a1, a2, gap, b4
        second[0], second[1], second[2], second[3] = a1, gap, b4, a2 - gap - b4
        third[0], third[1], third[2], third[3] = b3, a2, -gap, b4 + gap - a2
        sign[count + 1] = -1.0
        count += 3
    return sign[:count], flat[:count], forms[:count]


def _probabilities(forms: Array, mean: Array, covariance: Array) -> tuple[Array, Array] | None:
    """P(all forms > 0) and a bound on its error, (N, C) for N cones and C laws; None if a form does not vary."""
    forms = forms / np.linalg.norm(forms, axis=2, keepdims=True)
    means = mean @ forms.swapaxes(1, 2)  # (N, C, n)
    C = forms[:, None] @ covariance @ forms[:, None].swapaxes(2, 3)
    variance = np.einsum("cakk->cak", C)
    if (variance <= 1e-14 * np.einsum("akk->a", covariance)[:, None]).any():
        return None
    spread = np.sqrt(variance)
    R = np.clip(C / (spread[..., :, None] * spread[..., None, :]), -1, 1)
    i, j = np.triu_indices(forms.shape[1], 1)
    value = normal_probability(np.moveaxis(means / spread, 2, 0), np.moveaxis(R[..., i, j], 2, 0))
    lowest = np.linalg.eigvalsh(R)[..., 0]
    return np.asarray(value), np.where(lowest > _NEARLY, _REGULAR, _SINGULAR)
