"""Laws of quadratic forms in Gaussians: the probability that one is negative, and Gauss nodes of chi-square.

    X = level + sum_j (c_j g_j^2 + s_j g_j) + sqrt(noise) h,   g_j, h ~ N(0, 1)

is the output of a learner that has learned products of coordinates.  Its characteristic function is
exp(i level t - noise t^2/2) prod_j (1 - 2 i c_j t)^(-1/2) exp(-s_j^2 t^2/(2 (1 - 2 i c_j t))).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh_tridiagonal
from scipy.special import gammainc, gammaincc, ndtr

__all__ = ["chi_square_interval", "chi_square_nodes", "probability_below_zero"]

Array = npt.NDArray[np.float64]

_EPS = float(np.finfo(np.float64).eps)
_ROUNDING = 1e-12  # relative: a term below this fraction of the form's standard deviation is rounding error


def chi_square_nodes(D: float, nodes: int) -> tuple[Array, Array]:
    """Gauss quadrature for the chi-square law of D degrees of freedom: nodes and weights (Golub and Welsch 1969).

    >>> x, weights = chi_square_nodes(30.0, 5)
    >>> [round(float(weights @ x**k), 6) for k in (0, 1, 2)]  # E x^2 = D (D + 2)
    [1.0, 30.0, 960.0]
    """
    k, a = np.arange(nodes), D / 2 - 1
    x, vectors = eigh_tridiagonal(2 * k + 1 + a, np.sqrt(k[1:] * (k[1:] + a)))
    return 2 * x, vectors[0] ** 2


def chi_square_interval(lower: Any, upper: Any, D: float, ctx: Any = None) -> Any:
    """P(lower < X < upper), X chi-square of D degrees of freedom; in numbers of the mpmath context `ctx` if given.

    >>> bool(abs(chi_square_interval(1.0, 3.0, 2) - (np.exp(-0.5) - np.exp(-1.5))) < 1e-15)
    True
    """
    if ctx is not None:
        half = ctx.mpf(D) / 2
        return np.frompyfunc(lambda a, b: ctx.gammainc(half, a / 2, b / 2, regularized=True), 2, 1)(lower, upper)
    above = np.asarray(lower) > D  # the tail whose difference loses no digits
    low = gammainc(D / 2, np.asarray(upper) / 2) - gammainc(D / 2, np.asarray(lower) / 2)
    high = gammaincc(D / 2, np.asarray(lower) / 2) - gammaincc(D / 2, np.asarray(upper) / 2)
    return np.where(above, high, low)


def probability_below_zero(curvatures: Array, slopes: Array, level: float, noise: float) -> tuple[float, float]:
    """P(X < 0) + P(X = 0)/2 for X = level + sum_j (c_j g_j^2 + s_j g_j) + sqrt(noise) h, and the error of it.

    1/2 - (1/pi) int_0^inf Im[phi(t)]/t dt with phi the characteristic function (Gil-Pelaez 1951, Imhof 1961); with a
    single curvature an integral over its g, as phi decays slowly.
    """
    from scipy.integrate import quad

    scale = math.sqrt(2 * float(curvatures @ curvatures) + float(slopes @ slopes) + noise)
    if scale <= _ROUNDING * max(abs(level), _EPS):
        return (1.0 if level < 0 else 0.5 if level == 0 else 0.0), 0.0
    curved = np.abs(curvatures) > _ROUNDING * scale
    q = (noise + float(slopes[~curved] @ slopes[~curved])) / scale**2
    c, s, m = curvatures[curved] / scale, slopes[curved] / scale, level / scale
    if len(c) == 0:
        return float(ndtr(-m / math.sqrt(q))), _EPS
    options: dict[str, Any] = {"limit": 1000, "epsabs": 1e-12, "epsrel": 1e-10, "full_output": 1}
    if len(c) == 1:
        spread = math.sqrt(max(q, _EPS**2))

        def chance(g: float) -> float:
            wrong = ndtr(-(m + g * (s[0] + g * c[0])) / spread)
            return float(wrong * math.exp(-g * g / 2) / math.sqrt(2 * math.pi))

        root = np.sqrt(complex(s[0] ** 2 - 4 * c[0] * m))
        cuts = [float(((-s[0] + sign * root) / (2 * c[0])).real) for sign in (1, -1)]
        value, error, *_ = quad(chance, -9, 9, points=[g for g in cuts if abs(g) < 9], **options)
        return value, error + 1e-15

    def integrand(t: float) -> float:
        d = 1 - 2j * c * t
        phase = 1j * m * t - (s**2 * t**2 / d).sum() / 2 - np.log(d).sum() / 2 - q * t**2 / 2
        return float(np.exp(phase).imag / t)

    end = 8.5 / math.sqrt(q) if q > 1e-8 else math.inf  # exp(-q t^2/2) < 1e-15; else a decay like 1/t^2 or faster
    with np.errstate(over="ignore", under="ignore"):
        value, error, *_ = quad(integrand, 0, end, **options)
    return 0.5 - value / math.pi, error / math.pi + 1e-15
