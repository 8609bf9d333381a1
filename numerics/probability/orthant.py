"""Multivariate normal probabilities as compiled scalar kernels: Phi, Phi2, Phi3, Phi4.

    Phi_n(h_1..h_n; R) = P(z_1 < h_1, .., z_n < h_n),   z ~ N(0, R),  R_ii = 1.

Limits may be infinite; R may be singular (equal, opposite or linearly dependent fields) and may carry rounding noise:
|r| slightly above 1 counts as 1.  A NaN argument gives NaN.  Limits beyond 38 in size count as infinite (the
probability left out is below 1e-314).

Largest absolute error seen, over thousands of matrices, and time on one core (`benchmarks/normal.py`):

            regular R          singular or nearly: rank 2, rank 3, equal and opposite fields, and within 1e-1..1e-12
    Phi2    3e-16  50-75 ns    3e-16                                                140 ns
    Phi3    2e-13  1.7 us      5e-10 (within 1e-8 of rank 2), 1e-11 (rank 2)        3-5 us
    Phi4    7e-12  8.5 us      1e-9 (four fields equal within 1e-8), 2e-12 (rank 2) 20-30 us

Everything rests on Plackett's identity,

    d Phi_n / d r_ij = phi2(h_i, h_j; r_ij) Phi_{n-2}(the other z_k < h_k | z_i = h_i, z_j = h_j):

- Phi2: integrate over r from 0, in tau = tan(asin(r)/2), where the integrand has no square root; near |r| = 1 two of
  Owen's T functions instead.
- Phi3, Phi4: keep the correlations inside the blocks {1, 2} and {3, 4}, multiply the cross ones by s and integrate over
  s from 0 (independent blocks) to 1, by adaptive Gauss-Kronrod in u, s = 1 - u^3.

R. L. Plackett, Biometrika 41 (1954) 351; D. B. Owen, Ann. Math. Stat. 27 (1956) 1075.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from quenched.numerics.compiled.machine_code import inner, njit
from quenched.numerics.probability.gauss_kronrod import GAUSS, KRONROD, NODES

__all__ = ["Phi", "Phi2", "Phi2_of_pair", "Phi3", "Phi4", "fill_Phi2", "fill_Phi3", "fill_Phi4"]

Array = npt.NDArray[np.float64]
Two = tuple[float, float]
Four = tuple[float, float, float, float]
Six = tuple[float, float, float, float, float, float]

_PARALLEL = 1.0 - 4e-16  # two fields of a larger correlation are parallel; it is known up to rounding
_FAR = 38.0  # Phi(-38) < 1e-314
_NEGLIGIBLE = 9.0  # Phi(-9) = 1e-19: below the rounding of the integrals
_EQUAL = 1.0 - 5e-16  # |r| above this is |r| = 1 in Phi3 and Phi4; changes them by less than 5e-9
_TOLERANCE = 1e-12  # error estimate at which an interval of the outer integral is accepted
_DEEPEST = 20  # bisections of the outer integral: down to panels of length 1e-18 in s

# Gauss-Legendre rules for Phi2 and the |r| up to which their error is below 4e-16 (seen against 150 nodes for all
# |h|, |k| < 6).  Multiples of four, the width of a vector register.
_X8, _W8 = np.polynomial.legendre.leggauss(8)  # |r| <= 0.5
_X12, _W12 = np.polynomial.legendre.leggauss(12)  # |r| <= 0.75
_X16, _W16 = np.polynomial.legendre.leggauss(16)  # |r| <= 0.9
_X24, _W24 = np.polynomial.legendre.leggauss(24)  # |r| <= 0.96; its positive half serves Owen's T


@njit(error_model="numpy")
def Phi(h: float) -> float:
    """Standard normal distribution function, erfc(-h/sqrt 2)/2."""
    return 0.5 * math.erfc(-h * math.sqrt(0.5))


# ---------------------------------------------------------------------------------------------------------- Phi2


@njit(error_model="numpy", inline="always")
def _exp(x: float) -> float:
    """exp(x) for x <= 0, absolute error below 1e-16, in operations that a loop does four at a time; libm's is not.

    exp(x) = 2^n exp(x - n log 2): the exponent bits, and Taylor's polynomial of degree 12.
    """
    x = max(x, -700.0)
    n = math.floor(x * 1.4426950408889634 + 0.5)
    x -= n * 0.6931471805599453
    p = 1.0 / 479001600
    p = p * x + 1.0 / 39916800
    p = p * x + 1.0 / 3628800
    p = p * x + 1.0 / 362880
    p = p * x + 1.0 / 40320
    p = p * x + 1.0 / 5040
    p = p * x + 1.0 / 720
    p = p * x + 1.0 / 120
    p = p * x + 1.0 / 24
    p = p * x + 1.0 / 6
    p = p * x + 0.5
    p = p * x + 1.0
    p = p * x + 1.0
    return np.int64(np.float64(p).view(np.int64) + (np.int64(n) << 52)).view(np.float64)


@inner(error_model="numpy", fastmath={"reassoc", "contract"})
def _plackett(h: float, k: float, tau: float, x: Array, w: Array) -> float:
    """Phi2 - Phi Phi: the integral of phi2(h, k; r) dr from r = 0.

    In r = 2 t/(1 + t^2), dr/sqrt(1 - r^2) = 2 dt/(1 + t^2), the integrand is an exponential of a rational function.
    """
    total, half = 0.0, 0.5 * tau
    squares, product = h * h + k * k, 4.0 * h * k
    for n in range(x.size):
        t = half * (1.0 + x[n])
        plus, minus = 1.0 + t * t, 1.0 - t * t
        total += w[n] * _exp((product * t - squares * plus) * plus / (2.0 * minus * minus)) / plus
    return total * half / math.pi


@njit(error_model="numpy", fastmath={"reassoc", "contract"})
def _owen(h: float, b: float) -> float:
    """Owen's T(h, b/h) = (1/2 pi) int_0^{b/h} exp(-h^2 (1 + x^2)/2)/(1 + x^2) dx; b and h not both zero.

    For |b| > |h| the reflection T(h, a) + T(ah, 1/a) = [Phi(-h) + Phi(-ah)]/2 - Phi(-h) Phi(-ah) (h, a > 0) keeps the
    range of integration inside [0, 1], where twelve nodes give 3e-16.
    """
    far, near = abs(b), abs(h)
    reflect = far > near
    if not reflect:
        far, near = near, far
    ratio = near / far
    total = 0.0
    for n in range(12, 24):
        y = ratio * _X24[n]
        y = 1.0 + y * y
        total += _W24[n] * _exp(-0.5 * far * far * y) / y
    total *= ratio / (2.0 * math.pi)
    if reflect:
        p, q = Phi(-near), Phi(-far)
        total = 0.5 * (p + q) - p * q - total
    return total if (h < 0.0) == (b < 0.0) else -total


@inner(error_model="numpy")
def _phi2_near_one(h: float, k: float, r: float) -> float:
    """Phi2 for 0 < r < 1 near 1.  1 - r and k - h are exact or nearly so, hence k - r h is taken from them."""
    spread = math.sqrt((1.0 - r) * (1.0 + r))
    if h == 0.0 and k == 0.0:
        return 0.25 + math.atan2(r, spread) / (2.0 * math.pi)
    value = 0.5 * (Phi(h) + Phi(k))
    value -= _owen(h, ((k - h) + (1.0 - r) * h) / spread) + _owen(k, ((h - k) + (1.0 - r) * k) / spread)
    return value if (h < 0.0) == (k < 0.0) else value - 0.5


@njit(error_model="numpy")
def Phi2(h: float, k: float, r: float) -> float:
    """P(z1 < h, z2 < k) at correlation r; error below 1e-15, also within rounding of r = 1 and r = -1."""
    if math.isnan(h) or math.isnan(k) or math.isnan(r):
        return math.nan
    if h < -_FAR or k < -_FAR:
        return 0.0
    if h > _FAR:
        return Phi(k)
    if k > _FAR:
        return Phi(h)
    size = abs(r)
    if size <= 0.96:
        tau = r / (1.0 + math.sqrt(1.0 - r * r))
        if size <= 0.5:
            integral = _plackett(h, k, tau, _X8, _W8)
        elif size <= 0.75:
            integral = _plackett(h, k, tau, _X12, _W12)
        elif size <= 0.9:
            integral = _plackett(h, k, tau, _X16, _W16)
        else:
            integral = _plackett(h, k, tau, _X24, _W24)
        return Phi(h) * Phi(k) + integral
    if r >= 1.0:
        return Phi(min(h, k))
    if r > 0.0:
        return _phi2_near_one(h, k, r)
    if r <= -1.0:
        return max(0.0, Phi(h) - Phi(-k))
    return Phi(h) - _phi2_near_one(h, -k, -r)


@inner(error_model="numpy")
def Phi2_of_pair(h: float, k: float, r: float) -> float:
    """Phi2 of two fields, which are parallel where their correlation is 1 or -1 up to rounding."""
    return Phi2(h, k, r if abs(r) < _PARALLEL else (1.0 if r > 0.0 else -1.0))


# ---------------------------------------------------------------------------------------------------- Phi3, Phi4


@inner(error_model="numpy", inline="always")
def _minus(q: float, b: float, p: float) -> float:
    """q - b p, without loss when b is near 1 and q near p, or b near -1 and q near -p."""
    if b > 0.5:
        return (q - p) + (1.0 - b) * p
    if b < -0.5:
        return (q + p) - (1.0 + b) * p
    return q - b * p


@inner(error_model="numpy", inline="always")
def _standardised(numerator: float, variance: float) -> float:
    """numerator/sqrt(variance); a variance that is zero, or negative by rounding, makes it a step."""
    if variance > 0.0:
        return numerator / math.sqrt(variance)
    return math.copysign(math.inf, numerator) if numerator != 0.0 else 0.0


@inner(error_model="numpy")
def _pair_rate(h: Four, inside: Two, cross: Four, s: float, lost: float) -> float:
    """2 pi p phi2(h_i, h_j; s p) Phi2(z_k < h_k, z_l < h_l | z_i = h_i, z_j = h_j), h = (h_i, h_k, h_j, h_l).

    Blocks {i, k} and {j, l} with the correlations (b, c) `inside`; `cross` ones s times (p, q, w, t) = ij, kj, il, kl;
    lost = 1 - s^2.  In terms of the residuals z_k - b z_i and z_l - c z_j, whose covariances with z_j, z_i and each
    other are s g_k, s g_l and s m, and with d = 1 - s^2 p^2, the conditional law given (i, j) times d has variances
    (1 - b^2) d - s^2 g_k^2, (1 - c^2) d - s^2 g_l^2 and covariance s (m d + s^2 p g_k g_l).
    """
    (hi, hk, hj, hl), (b, c), (p, q, w, t) = h, inside, cross
    if p == 0.0:
        return 0.0
    sign, open_p = math.copysign(1.0, p), (1.0 - p) * (1.0 + p)
    d = open_p + lost * p * p
    gap = hi - sign * hj
    density = p * math.exp(-(gap * gap / (2.0 * d) + sign * hi * hj / (1.0 + s * abs(p)))) / math.sqrt(d)
    if abs(density) < 1e-18:
        return 0.0
    open_b, open_c = (1.0 - b) * (1.0 + b), (1.0 - c) * (1.0 + c)
    gk, gl = _minus(q, b, p), _minus(w, c, p)
    # Written as (value at s = 1) + (1 - s^2) (positive): no cancellation as s -> 1 in a singular matrix.
    vk = max(0.0, open_b * open_p - gk * gk) + lost * (open_b * p * p + gk * gk)
    vl = max(0.0, open_c * open_p - gl * gl) + lost * (open_c * p * p + gl * gl)
    ak = _standardised(d * _minus(hk, b, hi) - s * gk * (hj - s * p * hi), d * vk)
    al = _standardised(d * _minus(hl, c, hj) - s * gl * (hi - s * p * hj), d * vl)
    if ak < -_NEGLIGIBLE or al < -_NEGLIGIBLE:
        return 0.0
    if ak > _NEGLIGIBLE:
        return density * Phi(al)
    if al > _NEGLIGIBLE:
        return density * Phi(ak)
    m = _minus(_minus(t, b, w), c, gk)
    rho = s * (m * d + s * s * p * gk * gl) / math.sqrt(vk * vl) if vk * vl > 0.0 else 0.0
    return density * Phi2(ak, al, min(1.0, max(-1.0, rho)))


@njit(error_model="numpy")
def _rate(u: float, h: Four, r: Six) -> float:
    """-2 pi dPhi4/du on the path that multiplies the cross correlations r13, r14, r23, r24 by s = 1 - u^3."""
    (h1, h2, h3, h4), (r12, r13, r14, r23, r24, r34) = h, r
    open_s = u * u * u
    s, lost = 1.0 - open_s, open_s * (2.0 - open_s)
    return 3.0 * u * u * (
        _pair_rate((h1, h2, h3, h4), (r12, r34), (r13, r23, r14, r24), s, lost)
        + _pair_rate((h1, h2, h4, h3), (r12, r34), (r14, r24, r13, r23), s, lost)
        + _pair_rate((h2, h1, h3, h4), (r12, r34), (r23, r13, r24, r14), s, lost)
        + _pair_rate((h2, h1, h4, h3), (r12, r34), (r24, r14, r23, r13), s, lost)
    )  # fmt: skip


@inner(error_model="numpy")
def _cross_integral(h: Four, r: Six) -> float:
    """Phi4(R) - Phi4(R without cross correlations): adaptive Gauss-Kronrod over u in [0, 1].

    Where R is singular the integrand has features like exp(-c/(1 - s)) and sqrt(1 - s) at s = 1, which s = 1 - u^3
    spreads out.  The dyadic intervals [index, index + 1] 2^-level are visited from left to right: no stack is needed.
    """
    # A cross correlation within eps of 1 makes a feature of width eps in s that nodes can miss: bisect down to it.
    nearest = max(max(abs(r[1]), abs(r[2])), max(abs(r[3]), abs(r[4])))  # r13, r14, r23, r24
    graded = -math.log2((1.0 - nearest) * 1e5) / 3.0
    total, level, index = 0.0, 0, 0
    while index >> level == 0:
        half = 0.5 / (1 << level)
        centre = (2 * index + 1) * half
        kronrod = KRONROD[0] * _rate(centre, h, r)
        gauss = 0.0
        for n in range(1, 11):
            x = half * NODES[n]
            f = _rate(centre - x, h, r)
            f += _rate(centre + x, h, r)
            kronrod += KRONROD[n] * f
            gauss += GAUSS[n] * f
        # The error of Kronrod's rule is about the 3/2 power of its distance from Gauss's.
        converged = (10.0 * half * abs(kronrod - gauss)) ** 1.5 <= _TOLERANCE and (index > 0 or level >= graded)
        if converged or level == _DEEPEST:
            total += half * kronrod
            index += 1
            while level > 0 and index & 1 == 0:
                index >>= 1
                level -= 1
        else:
            index <<= 1
            level += 1
    return total / (2.0 * math.pi)


@njit(error_model="numpy")
def Phi3(h1: float, h2: float, h3: float, r12: float, r13: float, r23: float) -> float:
    """P(z1 < h1, z2 < h2, z3 < h3): Phi4 without its fourth field."""
    if not (abs(h1) < _FAR and abs(h2) < _FAR and abs(h3) < _FAR):
        if not (h1 == h1 and h2 == h2 and h3 == h3):
            return math.nan
        if min(h1, h2, h3) < -_FAR:
            return 0.0
        if h1 > _FAR:
            return Phi2(h2, h3, r23)
        if h2 > _FAR:
            return Phi2(h1, h3, r13)
        if h3 > _FAR:
            return Phi2(h1, h2, r12)
    if not (r12 == r12 and r13 == r13 and r23 == r23):
        return math.nan
    # The strongest correlation becomes r12.
    if abs(r13) >= abs(r12) and abs(r13) >= abs(r23):
        h2, h3, r12, r13 = h3, h2, r13, r12
    elif abs(r23) >= abs(r12):
        h1, h3, r12, r23 = h3, h1, r23, r12
    if r12 > _EQUAL:
        return Phi2(h1, h3, r13) if h1 < h2 else Phi2(h2, h3, r23)
    if r12 < -_EQUAL:
        return max(0.0, Phi2(h1, h3, r13) - Phi2(-h2, h3, r13)) if h1 > -h2 else 0.0
    value = Phi2(h1, h2, r12) * Phi(h3) + _cross_integral((h1, h2, h3, math.inf), (r12, r13, 0.0, r23, 0.0, 0.0))
    return min(1.0, max(0.0, value))


@njit(error_model="numpy")
def Phi4(
    h1: float, h2: float, h3: float, h4: float,
    r12: float, r13: float, r14: float, r23: float, r24: float, r34: float,
) -> float:  # fmt: skip
    """P(z1 < h1, z2 < h2, z3 < h3, z4 < h4)."""
    if not (abs(h1) < _FAR and abs(h2) < _FAR and abs(h3) < _FAR and abs(h4) < _FAR):
        if not (h1 == h1 and h2 == h2 and h3 == h3 and h4 == h4):
            return math.nan
        if min(h1, h2, h3, h4) < -_FAR:
            return 0.0
        if h1 > _FAR:
            return Phi3(h2, h3, h4, r23, r24, r34)
        if h2 > _FAR:
            return Phi3(h1, h3, h4, r13, r14, r34)
        if h3 > _FAR:
            return Phi3(h1, h2, h4, r12, r14, r24)
        if h4 > _FAR:
            return Phi3(h1, h2, h3, r12, r13, r23)
    if not (r12 == r12 and r13 == r13 and r14 == r14 and r23 == r23 and r24 == r24 and r34 == r34):
        return math.nan
    # Of the three ways to pair the fields, the one with the weakest strongest cross correlation becomes {1, 2}, {3, 4};
    # it holds the strongest correlation of all inside a block.
    a, b, c = max(abs(r12), abs(r34)), max(abs(r13), abs(r24)), max(abs(r14), abs(r23))
    if max(a, b) < min(max(a, c), max(b, c)):  # pair {1, 4}, {2, 3}: exchange 2 and 4
        h2, h4, r12, r14, r23, r34 = h4, h2, r14, r12, r34, r23
    elif max(a, c) < max(b, c):  # pair {1, 3}, {2, 4}: exchange 2 and 3
        h2, h3, r12, r13, r24, r34 = h3, h2, r13, r12, r34, r24
    if abs(r34) > abs(r12):  # exchange the blocks
        h1, h2, h3, h4, r12, r14, r23, r34 = h3, h4, h1, h2, r34, r23, r14, r12
    if r12 > _EQUAL:
        return Phi3(h1, h3, h4, r13, r14, r34) if h1 < h2 else Phi3(h2, h3, h4, r23, r24, r34)
    if r12 < -_EQUAL:
        below = Phi3(-h2, h3, h4, r13, r14, r34)
        return max(0.0, Phi3(h1, h3, h4, r13, r14, r34) - below) if h1 > -h2 else 0.0
    value = Phi2(h1, h2, r12) * Phi2(h3, h4, r34) + _cross_integral((h1, h2, h3, h4), (r12, r13, r14, r23, r24, r34))
    return min(1.0, max(0.0, value))


# ------------------------------------------------------------------------------------------------- of many arguments


@njit(error_model="numpy", nogil=True)
def fill_Phi2(limits, correlations, out):  # type: ignore[no-untyped-def]
    """Phi2 of each row of limits (n, 2) and correlations (n, 1), into out (n,)."""
    for i in range(len(out)):
        out[i] = Phi2(limits[i, 0], limits[i, 1], correlations[i, 0])


@njit(error_model="numpy", nogil=True)
def fill_Phi3(limits, correlations, out):  # type: ignore[no-untyped-def]
    """Phi3 of each row of limits (n, 3) and correlations (n, 3): 12, 13, 23."""
    for i in range(len(out)):
        h, r = limits[i], correlations[i]
        out[i] = Phi3(h[0], h[1], h[2], r[0], r[1], r[2])


@njit(error_model="numpy", nogil=True)
def fill_Phi4(limits, correlations, out):  # type: ignore[no-untyped-def]
    """Phi4 of each row of limits (n, 4) and correlations (n, 6): 12, 13, 14, 23, 24, 34."""
    for i in range(len(out)):
        h, r = limits[i], correlations[i]
        out[i] = Phi4(h[0], h[1], h[2], h[3], r[0], r[1], r[2], r[3], r[4], r[5])
