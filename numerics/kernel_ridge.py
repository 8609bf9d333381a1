"""Kernel ridge regression on n samples of a mixture: errors in every signal-to-noise regime, and at finite D.

    f(x) = sum_i c_i F(x, x_i),   c = (K + ridge 1)^-1 y,   K_ij = F(x_i, x_j)

with F a function of N = |x|^2/D, N' = |x'|^2/D and u = x.x'/D, and n = alpha D or alpha D^2/2 labelled samples.  Given
the cluster the output on a fresh input has mean m_a and variance q_a (`quenched.numerics.lazy.readout`); it is Gaussian
but for n of order D^2.

Formulas: `quenched.theory.kernel_ridge`, derived in symbolic/learners/kernel_ridge.py, whose docstring tells the route.
Here:

1. `kernel_functions`: a kernel from its name;
2. the resolvent r_a of channels of many directions that see C clusters (or groups of them) differently;
3. `lazy.spikes`: the outputs that finitely many features add by Woodbury's identity;
4. `_finite`: both at finite n and D, any means; `_limit`: large D, by the scaling of the means;
5. `_quadratic_finite`, `_quadratic`: n of order D^2, where the products of coordinates along the means are learned too.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.linalg import null_space

from quenched.numerics.lazy.kernels import KernelFunctions, LocalKernel, kernel_functions, kernel_names, local_kernel
from quenched.numerics.lazy.readout import ReadoutErrors
from quenched.numerics.lazy.resolvent import SampleResolvent
from quenched.numerics.lazy.spikes import ROUNDING, coefficients, spiked
from quenched.numerics.lazy.taught import TaughtOutputs, check_taught, label_moments, taught_errors
from quenched.numerics.probability.quadratic_forms import chi_square_nodes, probability_below_zero
from quenched.numerics.problem.checks import flag, number, record
from quenched.numerics.problem.learner import Learner, Options, Solution, option
from quenched.numerics.problem.mixture import Mixture
from quenched.theory import kernel_ridge, random_features

__all__ = ["LEARNERS", "KernelOptions", "TangentOptions", "kernel_error"]

Array = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]

theory: Any = kernel_ridge  # ufunc expressions: they take arrays where their signature says float
marchenko_pastur: Any = random_features.marchenko_pastur

_EPS = float(np.finfo(np.float64).eps)
_LENGTHS = 5  # groups of |x|^2 at n of order D^2
_UNFIT = 1e-8  # a mean output further than this from its label does not fit it
_ELSEWHERE = (
    "with D=... and n = alpha D, the equivalent at finite D takes any scaling, means, weights, labels and sigmas"
)


class _Asked(NamedTuple):
    """alpha, ridge, whether there is an intercept, and whether the clusters have fixed numbers of samples."""

    alpha: float
    ridge: float
    intercept: bool
    stratified: bool


def _regular(kernel: KernelFunctions, zeta: Array, scale: float, ridge: float, rank: float, n: float) -> Array:
    """zeta without rounding below the ridge; ValueError where the kernel matrix of n samples has a lower rank."""
    if ridge == 0 and n >= rank and (zeta < ROUNDING * scale).any():
        raise ValueError(
            f"ridge must be > 0, got {ridge}: kernel {kernel.name!r} has no orders beyond those of rank {rank:g}, and "
            f"its matrix is singular for n = {n:g} (both in units of the number of directions)"
        )
    return np.maximum(zeta, ridge)


# --- the cases
# ----------------------------------------------------------------------------------------------------------------


def _taylor(at: LocalKernel, A: Array, sigmas: Array, D: float) -> Array:
    """theory.taylor as a matrix S (C, p + 2, C, p + 2) between features 1, g_j, xi of clusters at sqrt(D) A (C, p)."""
    C, p = A.shape
    local = [d[:, None, :, None] for d in at[:-1]]
    first = A[:, :, None, None], A.T[None, :, :, None], sigmas[:, None, None, None]
    second = A[None, None], A[:, None, None, :], sigmas[None, None, :, None]
    constant, slope, both, norm, mixed, norms = theory.taylor(local, first, second, np.eye(p)[None, :, None, :], D)
    S = np.zeros((C, p + 2, C, p + 2))
    g = slice(1, p + 1)
    S[:, 0, :, 0], S[:, 0, :, g], S[:, g, :, g] = constant[:, 0, :, 0], slope[:, 0], both
    S[:, 0, :, -1], S[:, g, :, -1], S[:, -1, :, -1] = norm[:, 0, :, 0], mixed[..., 0], norms[:, 0, :, 0]
    S[:, g, :, 0] = S[:, 0, :, g].transpose(1, 2, 0)
    S[:, -1, :, 0] = S[:, 0, :, -1].T
    S[:, -1, :, g] = S[:, g, :, -1].transpose(2, 0, 1)
    return S


def _free(count: int, intercept: bool) -> list[Array]:
    """The directions of an intercept among the constants of `count` clusters or groups: a constant of any size."""
    return [np.ones(count)] if intercept else []


def _finite(mixture: Mixture, kernel: KernelFunctions, n: float, asked: _Asked, D: float) -> ReadoutErrors:
    """Finite n and D: every cluster is a place around which the kernel is expanded; features 1, g_j and xi."""
    ridge, intercept, stratified = asked.ridge, asked.intercept, asked.stratified
    sigmas, P = mixture.sigmas, mixture.weights
    A = mixture.at(D) / math.sqrt(D)
    p = A.shape[1]
    if p + 2 > D:
        raise ValueError(f"D must be >= {p + 2} for means in {p} dimensions, got {D!r}")
    at = local_kernel(kernel, A, sigmas)
    pair = sigmas[:, None], sigmas[None, :]
    w1, w2, rest = theory.channels(at.F, at.Fu, at.Fuu, at.diagonal[:, None], *pair, ridge)
    zeta = np.diag(rest)
    directions = float(random_features.quadratic_directions(D))
    rank = 1 + (D if w1.any() else 0) + (directions if w2.any() else 0)
    zeta = _regular(kernel, zeta, np.abs(at.diagonal).max(), ridge, rank / D, n / D)

    S = _taylor(at, A, sigmas, D)
    # the features along the means are directions too, whose coefficients the samples fit with an error of order 1/n
    channels = [(w1, 1 - p / D, n / D), (w2, 2 * directions / D**2, 2 * n / D**2), (S, 1.0, n)]
    bulk = SampleResolvent(zeta, channels, P, free=2 if intercept else None)
    out = spiked(S, n * P * bulk.r, mixture.labels, _free(len(P), intercept))
    # ... but for the constants, on which only the numbers of samples in the clusters vary: multinomial, not Poisson, or
    # not at all
    each = bulk.M[2][:, :, :, 0] * (bulk.r * (mixture.labels - out.mean))
    counted = n * ((each**2 @ P) if stratified else (each @ P) ** 2).sum(axis=1)
    variance = out.along + bulk.variance(out.residual - counted) - counted
    return ReadoutErrors.gaussian(
        mixture, out.mean, variance, out.error + bulk.step, f"equivalent at D = {D:g}, n = {n:g}"
    )


def _limit(mixture: Mixture, kernel: KernelFunctions, asked: _Asked) -> ReadoutErrors:
    """n = alpha D, D to infinity: places are the distinct means of length sqrt(D), features 1 and g_j (or xi)."""
    alpha, ridge, intercept = asked.alpha, asked.ridge, asked.intercept
    C, sigma, P, exponents = mixture.clusters, mixture.isotropic_sigma, mixture.weights, mixture.exponents
    far, crossover = exponents == 0.5, bool((exponents == 0.25).all())
    A, member = np.unique(mixture.means[:, far], axis=0, return_inverse=True)
    member = member.reshape(-1)
    V = mixture.means[:, ~far]
    at = local_kernel(kernel, A, np.full(len(A), sigma))
    w1, w2, rest = theory.channels(at.F, at.Fu, at.Fuu, at.diagonal[:, None], sigma, sigma, ridge)
    scale = float(np.abs(at.diagonal).max())
    zeta = _regular(kernel, np.diag(rest + w2), scale, ridge, np.linalg.matrix_rank(w1), alpha)
    groups = np.bincount(member, P).astype(np.float64)
    bulk = SampleResolvent(zeta, [(w1, 1.0, alpha)], groups)

    here = np.ix_(member, member)
    values, vectors = np.linalg.eigh(at.F)
    divergent = list(vectors.T[values > ROUNDING * scale][:, member]) + _free(C, intercept)
    p = V.shape[1]
    overlap = V @ V.T
    if crossover:
        S = np.zeros((C, 2, C, 2))
        F, F1, F12 = at.F[0, 0], at.F1[0, 0], at.F12[0, 0]
        spike = theory.norm_spike(F, F1, F1, F12) if F != 0 else F12
        spike = spike if abs(spike) > ROUNDING * (abs(F12) + F1**2) else 0.0
        length = np.diag(overlap)
        constant, norm, norms = theory.crossover(at.Fuu[here], spike, overlap, length[:, None], length, sigma)
        S[:, 0, :, 0], S[:, 1, :, 1] = constant, norms
        S[:, 0, :, 1] = np.broadcast_to(norm, (C, C))
        S[:, 1, :, 0] = S[:, 0, :, 1].T
        if abs(at.Fu[0, 0]) > ROUNDING * scale:
            divergent += list(V.T)
    else:
        S = np.zeros((C, 1 + p, C, 1 + p))
        slopes = at.Fu[here]
        constant, slope, both = theory.low(
            slopes[:, None, :, None], overlap[:, None, :, None], V[:, None, None, :], np.eye(p)[None, :, None, :], sigma
        )
        S[:, 0, :, 0], S[:, 0, :, 1:], S[:, 1:, :, 1:] = constant[:, 0, :, 0], slope[:, 0], both
        S[:, 1:, :, 0] = S[:, 0, :, 1:].transpose(1, 2, 0)
    moments = None if mixture.teacher is None else label_moments(mixture)
    Y = mixture.labels if moments is None else np.column_stack([moments.mean, moments.slope])
    out = spiked(S, alpha * P * bulk.r[member], Y, divergent)
    rest = out.residual if moments is None else out.residual + moments.rest
    residual = np.bincount(member, P * rest) / groups
    variance = out.along + bulk.variance(residual)[member]
    if moments is not None:
        outputs = TaughtOutputs(out.mean, out.slopes, variance)
        return taught_errors(mixture, moments, outputs, out.error + bulk.step, "limit, means of order 1")
    order = "D^(1/4)" if crossover else "1" if not far.any() else "D^(1/2)" if far.all() else "D^(1/2) and 1"
    found = ReadoutErrors.gaussian(mixture, out.mean, variance, out.error + bulk.step, f"limit, means of order {order}")
    if not far.all():
        return found
    unfit = float(np.abs(found.mean - mixture.labels).max())
    labels = np.bincount(member, P * mixture.labels) / groups
    free = _free(len(A), intercept)
    rate = 0.0 if unfit > _UNFIT else _rate(at, A, np.full(len(A), sigma), labels, alpha * groups * bulk.r, bulk, free)
    return replace(found, rate=rate)


def _rate(
    at: LocalKernel,
    A: Array,
    sigmas: Array,
    labels: Array,
    weights: Array,
    bulk: SampleResolvent,
    free: Sequence[Array],
) -> float:
    """lim 1/(2 D pmse) where means of order sqrt(D) are told apart: theory.taylor at D = 1, the constants eliminated.

    The labels are fitted by coefficients F^-1 y on the constants, which also excite the features g_j and xi; what these
    add to the output is of order D^-1/2, and noise to the channels.
    """
    S = _taylor(at, A, sigmas, 1.0)
    N = null_space(np.stack(free)) if len(free) else np.eye(len(A))  # with an intercept coefficients add up to 0
    excited = S[:, 1:, :, 0] @ (N @ np.linalg.pinv(N.T @ at.F @ N, rcond=ROUNDING, hermitian=True) @ N.T)
    rest = S[:, 1:, :, 1:] - np.einsum("gih,hlj->gilj", excited, S[:, 0, :, 1:])
    drive = excited @ labels
    o, _ = coefficients(rest, weights, -drive)
    along = ((o + drive) ** 2).sum(axis=1)
    return 1 / float(bulk.P @ (along + bulk.variance(along)))


class _Products:
    """The features 1, x_j, x_j x_l (j <= l) of the coordinates along the means, means of order 1.

    `gram` (k, k) = E[phi phi^T], `drive` (k,) = E[y phi] over the mixture; `twice` (k - 1 - p,): 1 if j = l, else 2.
    """

    def __init__(self, mixture: Mixture) -> None:
        self.mixture, self.sigma = mixture, mixture.isotropic_sigma
        P, V, p = mixture.weights, mixture.means, mixture.dimensions
        m = [V.reshape(-1, *(p if i == j else 1 for j in range(4))) for i in range(4)]
        c = [
            (np.eye(p) * self.sigma**2).reshape([p if i in pair else 1 for i in range(4)])
            for pair in itertools.combinations(range(4), 2)
        ]
        second, third, fourth = theory.products(*m, *c)
        second, third = second[..., 0, 0], third[..., 0]
        self.j, self.l = j, l = np.triu_indices(p)
        self.twice = np.where(j == l, 1.0, 2.0)
        average = [np.tensordot(P, moment, 1) for moment in (V, second, third, fourth)]
        x, q = slice(1, 1 + p), slice(1 + p, None)
        self.gram = np.ones((1 + p + len(j),) * 2)
        self.gram[0, x], self.gram[0, q] = average[0], average[1][j, l]
        self.gram[x, x], self.gram[x, q] = average[1], average[2][:, j, l]
        self.gram[q, q] = average[3][j[:, None], l[:, None], j, l]
        self.gram = np.triu(self.gram) + np.triu(self.gram, 1).T
        y = P * mixture.labels
        self.drive = np.concatenate([[y.sum()], y @ V, y @ second[:, j, l]])

    def residual(self, o: Array) -> Array:
        """E2 = E[(y - o.phi)^2] of coefficients o (.., k)."""
        found: Array = 1 - 2 * o @ self.drive + ((o @ self.gram) * o).sum(axis=-1)
        return found

    def record(self, o: Array, noise: Array, shares: Array, relative: float, method: str) -> ReadoutErrors:
        """The errors of outputs o_g.phi + sqrt(noise_g) h, which come with the probabilities `shares` (G,)."""
        mixture, sigma, V = self.mixture, self.sigma, self.mixture.means
        p = mixture.dimensions
        quadratic = np.zeros((len(o), p, p))
        quadratic[:, self.j, self.l] = o[:, 1 + p :] / 2
        quadratic = quadratic + quadratic.swapaxes(1, 2)
        linear = o[:, None, 1 : 1 + p] + 2 * V @ quadratic
        level = o[:, :1] + o[:, 1 : 1 + p] @ V.T + np.einsum("aj,gjl,al->ga", V, quadratic, V)
        means = level + sigma**2 * np.trace(quadratic, axis1=1, axis2=2)[:, None]
        along = 2 * sigma**4 * (quadratic**2).sum(axis=(1, 2))[:, None] + sigma**2 * (linear**2).sum(axis=2)
        mean = shares @ means
        found = ReadoutErrors.gaussian(
            mixture, mean, shares @ (along + noise[:, None] + (means - mean) ** 2), relative, method
        )
        curvatures, axes = np.linalg.eigh(quadratic)
        known: dict[tuple[float, ...], tuple[float, float]] = {}  # clusters that are mirror images have one integral
        tails = np.zeros((*means.shape, 2))
        for g, a in np.ndindex(means.shape):
            y = mixture.labels[a]
            c, s, base = y * sigma**2 * curvatures[g], np.abs(sigma * linear[g, a] @ axes[g]), y * level[g, a]
            order = np.lexsort((s, c))
            key = (g, *np.round([*c[order], *s[order], base], 14).tolist())
            if key not in known:
                known[key] = probability_below_zero(c, s, base, float(noise[g]))
            tails[g, a] = known[key]
        wrong, error = shares @ np.tensordot(tails, mixture.weights, (1, 0))
        return replace(found, classification_error=float(wrong), classification_error_error=float(error) + relative)


def _quadratic(mixture: Mixture, kernel: KernelFunctions, asked: _Asked) -> ReadoutErrors:
    """n = alpha D^2/2, D to infinity: ridge regression on the products x_j x_l, free regression on 1 and x."""
    alpha, ridge = asked.alpha, asked.ridge
    products = _Products(mixture)
    sigma, p = products.sigma, mixture.dimensions
    at = local_kernel(kernel, np.zeros((1, 1)), np.array([sigma]))
    _, w2, rest = (
        float(w[0, 0]) for w in theory.channels(at.F, at.Fu, at.Fuu, at.diagonal[:, None], sigma, sigma, ridge)
    )
    scale = abs(float(at.diagonal[0]))
    zeta = float(_regular(kernel, np.array([rest]), scale, ridge, 1 if w2 > ROUNDING * scale else 0, alpha)[0])
    T = V = 0.0
    if w2 > ROUNDING * scale:
        T = float(marchenko_pastur(alpha, zeta / w2))
        V = float(theory.response(T, zeta / w2))
    # the samples resolve 1 and x without penalty, where the kernel has them
    present = [asked.intercept or abs(float(at.F[0, 0])) > ROUNDING * scale] + [
        abs(float(at.Fu[0, 0])) > ROUNDING * scale
    ] * p
    free = np.flatnonzero(present)
    q = np.arange(1 + p, len(products.drive))
    H, d = products.gram, products.drive
    onto = np.linalg.solve(H[free][:, free], H[free][:, q])  # regression of the products on them
    gain = T / (2 * sigma**4) * products.twice
    covariance = H[q][:, q] - H[q][:, free] @ onto
    o = np.zeros(len(d))
    o[q] = np.linalg.solve(np.eye(len(q)) + gain[:, None] * covariance, gain * (d[q] - onto.T @ d[free]))
    o[free] = np.linalg.solve(H[free][:, free], d[free]) - onto @ o[q]
    noise = V * products.residual(o[None, :])
    return products.record(o[None, :], noise, np.ones(1), 8 * _EPS, "limit, means of order 1, n = alpha D^2/2")


def _quadratic_finite(mixture: Mixture, kernel: KernelFunctions, n: float, asked: _Asked, D: float) -> ReadoutErrors:
    """Means of order 1 at finite D and n, of order D^2 at most: orders 1 to 3 of the kernel on spheres.

    Inputs come in groups by their length, nodes of the chi-square law of |x|^2: what regularises a sample, zeta, grows
    with a high power of its length.  The products of coordinates along the means are features; the rest of orders 1 and
    2, and order 3, are channels.
    """
    from scipy.special import roots_gegenbauer

    ridge, intercept = asked.ridge, asked.intercept
    products = _Products(mixture)
    p, q = mixture.dimensions, len(products.twice)
    if p + 2 > D:
        raise ValueError(f"D must be >= {p + 2} for means in {p} dimensions, got {D!r}")
    lengths, shares = chi_square_nodes(D, _LENGTHS)
    N = products.sigma**2 * lengths / D + float(mixture.weights @ (mixture.means**2).sum(axis=1)) / D
    R = np.sqrt(np.outer(N, N))
    t, mass = roots_gegenbauer(64, (D - 2) / 2)  # exact for polynomials of degree 127
    F = np.asarray(kernel.value(N[:, None, None], N[None, :, None], R[:, :, None] * t))
    F = np.broadcast_to(F, (*R.shape, len(t))) * (mass / mass.sum())
    *polynomials, d1, d2, d3 = theory.harmonics(t, D)
    w0 = F.sum(axis=2)
    w1, w2, w3 = (d * F @ P for d, P in zip((d1, d2, d3), polynomials, strict=True))
    diagonal = np.broadcast_to(kernel.value(N, N, N), N.shape)
    rest = ridge + diagonal - np.diag(w0 + w1 + w2 + w3)
    zeta = _regular(kernel, rest, np.abs(diagonal).max(), ridge, math.inf, n)
    # x.x'/(R D) = t, and P_2 has t^2 D/(D - 1)
    orders = [w0, *[w1 / (R * D)] * p, *(w2 * D / (D - 1) / (R * D) ** 2 * times for times in products.twice)]
    L = np.linalg.cholesky(products.gram)  # to features of unit covariance
    seen = np.einsum("ai,agh,aj->gihj", L, np.stack(orders), L)
    drive = np.linalg.solve(L, products.drive)
    channels = [(w1, 1 - p / d1, n / d1), (w2, 1 - q / d2, n / d2), (w3, 1.0, n / d3), (seen, 1.0, n)]
    bulk = SampleResolvent(zeta, channels, shares, free=3 if intercept else None)
    constant = _free(len(N), intercept)  # the first feature in L too
    out, relative = coefficients(seen, n * shares * bulk.r, np.tile(drive, (len(N), 1)), constant)
    o = np.linalg.solve(L.T, out.T).T
    noise = bulk.variance(products.residual(o))
    return products.record(o, noise, shares, relative + bulk.step, f"equivalent at D = {D:g}, n = {n:g}")


def kernel_error(
    mixture: Mixture,
    kernel: str,
    alpha: float,
    ridge: float = 0.0,
    *,
    samples: str = "linear",
    D: float | None = None,
    intercept: bool = False,
    stratified: bool = False,
) -> ReadoutErrors:
    """Errors of kernel ridge regression on n = alpha D samples (x, y) of a mixture.

    Without `D` the limit D -> infinity, by the scaling of the mixture: 0, 1/4, 1/2, or coordinates of 1/2 and 0
    together (such as parity at (1/2, 0)).  With `D` the equivalent at finite n and D, for any means, labels, weights
    and sigmas: it differs from real samples by O(1/D), and from the limits by O(1/D), at the crossover by O(D^-1/2).
    samples="quadratic": n = alpha D^2/2, means of order 1, where the output is not Gaussian; here `D` matters more: at
    D = 50 the limit is off by a tenth and more, the equivalent by 0 to 4 % (more without ridge, near alpha = 1).
    With all means of order sqrt(D) the record has the `rate` at which the pmse goes to 0.

    `kernel`: see `kernel_functions`.  `ridge`: lambda, added to the diagonal of K.  `intercept`: learn f + b, with no
    penalty on b, which adds a constant of infinite size to the kernel.  In the limits most kernels have a constant that
    the ridge does not hold; at finite D and a ridge of order n it does.  `stratified`, at finite D and n = alpha D:
    n P_a samples of each cluster, not a random number.  That is a change of O(1/n) at a ridge of order 1, and a large
    one at a ridge of order n, where the mean label of the samples outweighs what they say about the means.

    ValueError: alpha <= 0, ridge < 0, an unknown kernel, one that is singular at ridge 0 or lacks the derivatives the
    formula needs, no formula for the scaling.

    On XOR with means of order 1 no kernel beats chance with n of order D; with n of order D^2 it comes to the oracle.

    >>> from quenched.numerics import oracle_error
    >>> print(f"{kernel_error(Mixture.xor(0.5), 'rbf', alpha=5.0).classification_error:.6f}")
    0.500000
    >>> xor = Mixture.xor(0.5)
    >>> many = kernel_error(xor, "polynomial:2", alpha=1e6, ridge=1e-6, samples="quadratic")
    >>> print(f"{many.classification_error:.4f} {oracle_error(xor).value:.4f}")
    0.1449 0.1449
    """
    if record("mixture", mixture, Mixture).teacher is None:
        mixture.check_isotropic()
    else:
        check_taught(mixture, D is not None or samples != "linear")
    alpha, ridge = number("alpha", alpha, positive=True), number("ridge", ridge)
    D = None if D is None else number("D", D, positive=True)
    if not isinstance(samples, str) or samples not in ("linear", "quadratic"):
        raise ValueError(f"samples must be 'linear' (n = alpha D) or 'quadratic' (n = alpha D^2/2), got {samples!r}")
    functions = kernel_functions(kernel)
    with np.errstate(under="ignore"):
        asking = _Asked(alpha, ridge, flag("intercept", intercept), flag("stratified", stratified))
        found = _chosen(mixture, functions, asking, samples, D)
    asked = {"kernel": functions.name, "alpha": alpha, "ridge": ridge, "samples": samples, "D": D}
    asked |= {"intercept": bool(intercept), "stratified": bool(stratified)}
    return replace(found, problem={"mixture": mixture, **asked})


def _chosen(mixture: Mixture, kernel: KernelFunctions, asked: _Asked, samples: str, D: float | None) -> ReadoutErrors:
    exponents = mixture.exponents
    if D is not None:
        if samples == "linear":
            return _finite(mixture, kernel, asked.alpha * D, asked, D)
        if (exponents == 0).all() and (mixture.sigmas == mixture.sigmas[0]).all():
            return _quadratic_finite(mixture, kernel, asked.alpha * D**2 / 2, asked, D)
    if (mixture.sigmas != mixture.sigmas[0]).any():
        raise ValueError(f"mixture must have one sigma in this case, got {mixture.sigmas.tolist()}; {_ELSEWHERE}")
    if samples == "quadratic":
        if (exponents != 0).any():
            raise ValueError(
                "samples='quadratic' has a formula for means of order 1 (scaling 0), got "
                f"scaling={mixture.scaling!r}; longer means are learned perfectly from as many samples"
            )
        return _quadratic(mixture, kernel, asked)
    if (exponents == 0.25).all() or np.isin(exponents, (0.0, 0.5)).all():
        return _limit(mixture, kernel, asked)
    raise ValueError(
        "mixture must have scaling 0, 1/4 or 1/2, or coordinates of scaling 1/2 and 0, got "
        f"scaling={mixture.scaling!r}: no formula for the limit; {_ELSEWHERE}"
    )


# --- as learners


@dataclass(frozen=True)
class _RegressionOptions(Options):
    """What both kernels ask; features_at is the D of `kernel_error`."""

    alpha: float = option(2.0, "Samples per dimension, n/D, of kernel regression.")
    ridge: float = option(0.0, "Ridge of the readout.")
    features_at: float | None = option(None, "Dimension of features and kernels (default: their limit).")
    intercept: bool = option(False, "Give features and kernels an intercept.")


@dataclass(frozen=True)
class KernelOptions(_RegressionOptions):
    """The arguments of `kernel_error`."""

    kernel: str = option("arccos1", f"One of {kernel_names()}.")

    @property
    def caption(self) -> str:
        """Kernel and number of samples."""
        return f"{self.kernel}, n = {self.alpha:g} D"


@dataclass(frozen=True)
class TangentOptions(_RegressionOptions):
    """The arguments of `kernel_error`, for the neural tangent kernel of an activation."""

    activation: str = option("relu", "Activation of the tangent kernel.")

    @property
    def kernel(self) -> str:
        """As `kernel_functions` calls it."""
        return f"ntk:{self.activation}"

    @property
    def caption(self) -> str:
        """Activation and number of samples."""
        return f"{self.activation}, n = {self.alpha:g} D"


def _learned(mixture: Mixture, options: KernelOptions | TangentOptions) -> Solution:
    """`kernel_error` as a solution."""
    found = kernel_error(
        mixture, options.kernel, options.alpha, options.ridge, D=options.features_at, intercept=options.intercept
    )
    return found.solution()


LEARNERS = (
    Learner("kernel", _learned, KernelOptions(), "Kernel ridge regression on n = alpha D samples."),
    Learner(
        "ntk", _learned, TangentOptions(), "Kernel ridge regression with the neural tangent kernel of an activation."
    ),
)
