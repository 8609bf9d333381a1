"""Random features at their population minimum: errors in every signal-to-noise regime, and at finite D.

    z_i = psi(f_i·x/sqrt(D)),  |f_i|^2 = D,  i = 1 .. P;   output w·(z - E z),  w = (Cov z + ridge 1)^-1 E[y (z - E z)]

is where online SGD on the readout ends.  Given the cluster the output is Gaussian, with mean m_a and variance q_a:
`quenched.numerics.lazy.readout` turns these into errors.

Formulas: `quenched.theory.random_features`, derived in symbolic/learners/random_features.py, which also counts the
powers of D.  Here:

1. `_finite`: the equivalent at finite D and P, all spikes included: for any means in up to three dimensions;
2. `_low`, `_crossover`, `_high`, `_mixed`, `_quadratic`: its limits, where the means grow as D^0, D^(1/4), D^(1/2).

They stand on the Hermite coefficients of the activation (`lazy.hermite`) and on the resolvent A(f) of features that
differ by their components f along the means (`lazy.resolvent`).
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
from scipy.special import ndtr

from quenched.numerics.lazy.grids import refined
from quenched.numerics.lazy.hermite import hermite_orders
from quenched.numerics.lazy.readout import ReadoutErrors
from quenched.numerics.lazy.resolvent import FeatureResolvent
from quenched.numerics.lazy.taught import TaughtOutputs, check_taught, label_moments, taught_errors
from quenched.numerics.probability.quadrature import adaptive
from quenched.numerics.problem import checks
from quenched.numerics.problem.checks import flag, number, record
from quenched.numerics.problem.learner import Learner, Options, Solution, option
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.theory import random_features

__all__ = ["LEARNERS", "RandomFeaturesOptions", "random_features_error"]

Array = npt.NDArray[np.float64]

theory: Any = random_features  # ufunc expressions: they take arrays where their signature says float

_ROUNDING = 1e-13  # relative: a difference of two numbers below this fraction of them is rounding error and counts as 0
_BLIND = 1e-13  # mean outputs below this are rounding error: the features do not tell the labels apart
_SPREAD = 12.0  # standard deviations of the noise that the quadrature of `_quadratic` covers


class _Asked(NamedTuple):
    """Activation, gamma, ridge and tolerance; intercept b = E y, which is 0 without one: features are centred."""

    activation: str
    gamma: float
    ridge: float
    tolerance: float
    b: float


def _measured(
    mixture: Mixture, mean: Array, variance: Array, error: float, method: str, b: float, rate: float | None = None
) -> ReadoutErrors:
    """The record of outputs N(mean_a + b, variance_a), known up to `error`; b where the features see no labels."""
    if np.abs(mean).max() < _BLIND:
        mean, variance = np.zeros_like(mean), np.zeros_like(variance)
    return ReadoutErrors.gaussian(mixture, mean + b, variance, max(error, _BLIND), method, rate)


class _Orders(NamedTuple):
    """Per feature and cluster, (n, C): class mean, standard deviations of orders 1 and 2, variance of those beyond."""

    mean: Array
    linear: Array
    quadratic: Array
    higher: Array
    error: float


def _orders(activation: str, rho: Array, sigmas: Array) -> _Orders:
    """Hermite orders of features whose fields have means rho (n, C)."""
    if (sigmas == sigmas[0]).all():
        c, higher, _, error = hermite_orders(activation, rho, sigmas[0])
        return _Orders(c[0], c[1], c[2], higher, error)
    parts = [hermite_orders(activation, rho[:, a], sigma) for a, sigma in enumerate(sigmas)]
    c = np.stack([part.coefficients for part in parts], axis=2)
    higher = np.stack([part.higher for part in parts], axis=1)
    return _Orders(c[0], c[1], c[2], higher, max(part.error for part in parts))


# --- finite D
# ------------------------------------------------------------------------------------------------------------------


def _coordinates(means: Array) -> Array:
    """Means in the fewest coordinates, as they are where these are three or fewer; ValueError if more are needed."""
    if means.shape[1] <= 3:
        return means
    U, lengths, _ = np.linalg.svd(means, full_matrices=False)
    k = int((lengths > _ROUNDING * lengths[0]).sum())
    if k > 3:
        raise ValueError(
            f"mixture must have means in up to three dimensions, got {k}: averages over the components of the features "
            "along the means would need a grid in all of them; evaluate it on given features, `simulate_features`"
        )
    return U[:, :k] * lengths[:k]


def _finite(mixture: Mixture, asked: _Asked, D: float) -> ReadoutErrors:
    """The unified equivalent: bulk with orders 1 and 2, and all spikes, at dimension D with P = gamma D features."""
    activation, gamma, ridge, tolerance, b = asked
    means = _coordinates(mixture.at(D)) / math.sqrt(D)
    P, weights = gamma * D, mixture.weights
    directions = D, float(theory.quadratic_directions(D))

    start: list[Array] | None = None

    def solve(f: Array, w: Array) -> ReadoutErrors:
        nonlocal start
        n, linear, quadratic, higher, error = _orders(activation, f @ means.T, mixture.sigmas)
        _regular(ridge, higher, [(linear, P, directions[0]), (quadratic, P, directions[1])])
        root = np.sqrt(weights)
        channels = [(P / N, root * c) for N, c in zip(directions, (linear, quadratic), strict=True)]
        bulk = FeatureResolvent(w, ridge + higher @ weights, channels, start)
        start = bulk.S

        # spikes (n, C, columns of a cluster), the class mean first
        k = f.shape[1]
        columns: list[Array] = []
        for i, j in itertools.combinations_with_replacement(range(k), 2):
            mean, along, norm, same, mixed = theory.spikes(
                n - (n @ weights)[:, None], linear, quadratic, f[:, i, None], f[:, j, None], weights, D
            )
            columns += [] if columns else [mean, norm]
            columns += [along, same] if i == j else [mixed]
        m, q = _readout(mixture, bulk, P, np.stack(columns, axis=2), higher)
        return _measured(mixture, m, q, error, f"finite-D equivalent, D = {D:g}, P = {P:g}", b)

    return refined(means, mixture.sigmas, solve, tolerance)


def _readout(mixture: Mixture, bulk: FeatureResolvent, P: float, Z: Array, higher: Array) -> tuple[Array, Array]:
    """m_a and q_a from the bulk and the spikes Z (n, C, c), of which the first of each cluster is its mean.

    Orthogonal factors in place of Gamma: Gamma = R^T R with Q R = sqrt(P w A) Z has entries from D down to 1/D.
    """
    C, weights = mixture.clusters, mixture.weights
    scaled = np.sqrt(P * bulk.weights * bulk.A)[:, None] * Z.reshape(len(Z), -1)
    Q, R = np.linalg.qr(scaled)
    U, s, Vt = np.linalg.svd(R)
    eta = np.zeros((C, Z.shape[2]))
    eta[:, 0] = np.sqrt(weights) * mixture.labels
    excited = Vt @ eta.ravel()
    fitted = (Vt.T @ (s**2 / (1 + s**2) * excited)).reshape(C, -1)  # Gamma beta
    y2 = (Q @ (U @ (s / (1 + s**2) * excited))) ** 2  # P w A (Z beta)^2
    # of 1/A, to the weight of one cluster in the bulk: B·(1 + S)^-1 B = b·(1/P_a + S)^-1 b for B = sqrt(P_a) b
    change = bulk.responses(higher + sum(seen**2 for seen in bulk.seen) / weights)
    variance = -(y2 / bulk.A) @ change + (fitted[:, 1:] ** 2).sum(axis=1) / weights
    return fitted[:, 0] / np.sqrt(weights), variance


def _regular(ridge: float, higher: Array, channels: Sequence[tuple[Array, float, float]]) -> None:
    """ValueError where Cov z + ridge is singular: at ridge 0, more features than directions in which they vary."""
    if ridge > 0 or higher.max() > 0:
        return
    rank = sum(N for size, _, N in channels if np.abs(size).max() > 0)
    P = channels[0][1]
    if rank <= P:
        raise ValueError(
            f"ridge must be > 0, got {ridge}: {P:g} features of this activation vary in {rank:g} directions only, and "
            "their covariance is singular"
        )


# --- the limits
# ----------------------------------------------------------------------------------------------------------------


class _Response(NamedTuple):
    """gamma A of features that are alike, its derivative lambda d/dlambda, and the Hermite coefficients c_0 to c_2."""

    value: float
    slope: float
    coefficients: Array
    higher: float
    error: float


def _response(activation: str, sigma: float, gamma: float, ridge: float, resolved: int) -> _Response:
    """Features without means: order `resolved` has P/gamma directions, those below have few, those beyond are noise."""
    c, higher, square, error = hermite_orders(activation, 0.0, sigma)
    c[np.abs(c) < _ROUNDING * math.sqrt(square)] = (
        0  # by quadrature a coefficient that vanishes by symmetry is rounding
    )
    rest = float(higher + (c[2] ** 2 if resolved == 1 else 0))
    size, noise = float(c[resolved] ** 2), ridge + rest
    if noise <= 0 and (size == 0 or gamma >= 1):
        raise ValueError(
            f"ridge must be > 0, got {ridge}: activation {activation!r} has no noise beyond order {resolved}, and the "
            f"covariance of gamma = {gamma:g} times as many features as there are directions is singular"
        )
    if size == 0:
        return _Response(gamma / noise, -gamma * ridge / noise**2, c, float(higher), error)
    r = np.float64(noise / size)
    with np.errstate(divide="ignore", invalid="ignore"):  # the other branch, at r = 0
        T = float(theory.marchenko_pastur(gamma, r))
    slope = float(theory.marchenko_pastur_slope(T, gamma, r)) * ridge / size
    return _Response(T / size, slope / size, c, float(higher), error)


def _low(mixture: Mixture, asked: _Asked) -> ReadoutErrors:
    """Labels enter by phi = E[y (x - E x)] alone, which is sum P_a y_a v_a where clusters have theirs."""
    sigma, weights = mixture.isotropic_sigma, mixture.weights
    method = "limit, means of order 1"
    found = _response(asked.activation, sigma, asked.gamma, asked.ridge, resolved=1)
    size = float(found.coefficients[1] ** 2)
    gain, spread = theory.low(size * found.value, size * found.slope, sigma)
    v = mixture.means - weights @ mixture.means
    moments = None if mixture.teacher is None else label_moments(mixture)
    S, phi = v.T @ (weights[:, None] * v), (weights * (mixture.labels if moments is None else moments.mean)) @ v
    if moments is not None:
        phi = phi + sigma * weights @ moments.slope
    u = np.linalg.solve(np.eye(len(S)) + gain * S, phi)
    q = np.full(mixture.clusters, spread * (u @ u))
    if moments is None:
        return _measured(mixture, gain * v @ u, q, found.error, method, asked.b)
    outputs = TaughtOutputs(gain * v @ u + asked.b, np.tile(sigma * gain * u, (mixture.clusters, 1)), q)
    return taught_errors(mixture, moments, outputs, found.error, method)


def _crossover(mixture: Mixture, asked: _Asked) -> ReadoutErrors:
    sigma, weights = mixture.isotropic_sigma, mixture.weights
    found = _response(asked.activation, sigma, asked.gamma, asked.ridge, resolved=1)
    tensor, norm, tensor_slope, norm_slope = theory.crossover(found.value, found.slope, found.coefficients[2], sigma)
    centre = np.eye(mixture.clusters) - weights
    inner, lengths = mixture.T**2, np.outer(np.diag(mixture.T), np.diag(mixture.T))
    G, slope = (centre @ (a * inner + b * lengths) @ centre.T for a, b in ((tensor, norm), (tensor_slope, norm_slope)))
    diverging = (centre @ mixture.means).T
    # means that are all one leave rounding, which the relative rcond below would take for a direction
    seen = found.coefficients[1] != 0 and np.abs(diverging).max() > _ROUNDING * np.abs(mixture.means).max()
    N = null_space(diverging if seen else np.zeros_like(diverging), rcond=_ROUNDING * mixture.clusters)
    beta = N @ np.linalg.solve(N.T @ (np.diag(1 / weights) + G) @ N, N.T @ mixture.labels)
    m = mixture.labels - beta / weights
    q = np.full(mixture.clusters, max(0.0, beta @ (G + slope) @ beta))
    return _measured(mixture, m, q, found.error, "limit, means of order D^(1/4)", asked.b)


def _high(mixture: Mixture, asked: _Asked) -> ReadoutErrors:
    """Means of order sqrt(D): class means have Gamma = D g, which fits the labels exactly where it can.

    beta has a part in the null space of g, and the part x/D with g x = eta; the pmse of order 1/D comes from x.
    """
    activation, gamma, ridge, tolerance, b = asked
    means, weights, targets = _coordinates(mixture.means), mixture.weights, mixture.labels - b

    start: list[Array] | None = None

    def solve(f: Array, w: Array) -> ReadoutErrors:
        nonlocal start
        n, linear, quadratic, higher, error = _orders(activation, f @ means.T, mixture.sigmas)
        root, noise = np.sqrt(weights), higher + quadratic**2
        _regular(ridge, noise, [(linear, gamma, 1.0)])
        bulk = FeatureResolvent(w, ridge + noise @ weights, [(gamma, root * linear)], start)
        start = bulk.S
        # theory.spikes at D = 1: those of the class means come times D, those of order 2 along the means vanish
        columns = []
        for i in range(f.shape[1]):
            mean, along, norm, *_ = theory.spikes(
                n - (n @ weights)[:, None], linear, quadratic, f[:, i, None], f[:, i, None], weights, 1.0
            )
            columns += [along] if i else [norm, along]
        scale = np.sqrt(gamma * bulk.weights * bulk.A)[:, None]
        M, Z = scale * mean, scale * np.concatenate(columns, axis=1)
        inner = Z.T @ M
        carried = -np.linalg.solve(np.eye(Z.shape[1]) + Z.T @ Z, inner)  # what the other spikes answer to a class mean
        g = M.T @ M + inner.T @ carried
        values, vectors = np.linalg.eigh((g + g.T) / 2)
        # class means that differ by rounding alone are one: of even features, at opposite means
        rounding = _ROUNDING**2 * float((weights * (scale * n) ** 2).sum())
        kept = values > max(1e-10 * values[-1], rounding)
        eta = root * targets
        components = vectors.T @ eta
        unfit = vectors[:, ~kept] @ components[~kept]
        m, rate = targets - unfit / root, 0.0
        if np.abs(unfit).max() < 1e-8:
            m = targets
            x = vectors[:, kept] @ (components[kept] / values[kept])
            y2 = (M @ x + Z @ (carried @ x)) ** 2  # gamma w A (Z beta)^2, times D
            slope = bulk.responses(np.ones((len(w), 1)))[:, 0] / bulk.A
            rate = 1 / float(y2.sum() + ridge * (y2 @ slope) + ((carried @ x) ** 2).sum())
        return _measured(mixture, m, np.zeros_like(m), error, "limit, means of order D^(1/2)", b, rate)

    return refined(means, mixture.sigmas, solve, tolerance, lambda found: found.rate or found.pmse)


def _mixed(mixture: Mixture, asked: _Asked) -> ReadoutErrors:
    activation, gamma, ridge, tolerance, b = asked
    sigma, (m1, m2) = mixture.isotropic_sigma, np.abs(mixture.means[0])

    def solve(f: Array, w: Array) -> ReadoutErrors:
        c, higher, _, error = hermite_orders(activation, f @ np.array([[m1, -m1]]), sigma)
        even, odd, noise = theory.gates(*(c[1] / sigma).T, *(higher + c[1] ** 2 + c[2] ** 2).T, sigma)
        _regular(ridge, higher + c[2] ** 2, [(c[1], gamma, 1.0)])
        bulk = FeatureResolvent(w, ridge + noise, [(gamma, np.stack([even, odd], axis=1))])
        s_o = gamma * float((w * bulk.A) @ odd**2)
        dA = bulk.responses(np.ones((len(w), 1)))[:, 0]
        tau, slope = theory.gate_signal(s_o, m2, sigma)
        mean, variance = theory.signal(tau, slope * ridge * gamma * float((w * dA) @ odd**2))
        return _measured(
            mixture, mean * mixture.labels, np.full(4, variance), error, "limit, gates: means of order D^(1/2) and 1", b
        )

    return refined(mixture.means[:, :1], mixture.sigmas, solve, tolerance)


def _quadratic(mixture: Mixture, asked: _Asked) -> ReadoutErrors:
    """P = gamma D^2/2 features on XOR with means of order 1."""
    sigma, length = mixture.isotropic_sigma, math.sqrt(mixture.T[0, 0])
    found = _response(asked.activation, sigma, asked.gamma, asked.ridge, resolved=2)
    size = float(found.coefficients[2] ** 2)
    method = "limit, means of order 1, P = gamma D^2/2"
    nothing = np.zeros(4)
    if size == 0:
        return _measured(mixture, nothing, nothing, found.error, method, asked.b)
    theta, bulk = theory.quadratic_features(size * found.value, size * found.slope, length, sigma)
    d, variance = theory.quadratic_moments(length, sigma)
    centre = length / math.sqrt(2)
    reach = _SPREAD * sigma
    cuts = np.unique(np.clip([centre - reach, 0.0, centre + reach], centre - reach, centre + reach))
    edges = np.concatenate([np.linspace(a, b, 9) for a, b in itertools.pairwise(cuts)])
    panels = np.stack([edges[:-1], edges[1:]], axis=1)
    panels = panels[panels[:, 1] > panels[:, 0]]
    integral = adaptive(lambda p: theory.quadratic_error(p, theta, bulk, length, sigma), panels, 1e-10)
    outputs = _measured(
        mixture, theta * d * mixture.labels, np.full(4, bulk + theta**2 * variance), found.error, method, asked.b
    )
    return replace(
        outputs,
        classification_error=integral.value,
        classification_error_error=integral.error + 2 * float(ndtr(-_SPREAD)) + found.error,
    )


def random_features_error(
    mixture: Mixture,
    activation: str,
    gamma: float,
    ridge: float = 0.0,
    *,
    D: float | None = None,
    features: str = "linear",
    intercept: bool = False,
    tolerance: float = 1e-7,
) -> ReadoutErrors:
    """Errors of P = gamma D random features of an activation, their readout at the population minimum.

    Without `D` the limit D -> infinity, by the scaling of the mixture: 0, 1/4, 1/2, or a parity mixture at (1/2, 0).
    With means of order sqrt(D) the limit is 0 or 1/2, and `rate` says how the pmse gets there, 1/(2 (1 + D rate)).
    With `D` the equivalent at finite D, for any means in up to three dimensions, scaling, labels, weights and sigmas;
    it differs from given features by O(1/D), and from the limits by O(1/D), at the crossover by O(D^-1/2).
    features="quadratic": P = gamma D^2/2 on XOR with means of order 1.

    `ridge`: lambda, in units of the variance of a feature.  `intercept`: add a constant b, which is E y, since features
    are centred; without it the output has the mean 0 whatever the labels.  `tolerance`: relative change of the pmse at
    which grids are fine enough.

    ValueError: gamma <= 0, ridge < 0, a singular covariance at ridge 0, means in four dimensions or more, no formula
    for the scaling or the mixture.  RuntimeError: sigma is too small for a grid to resolve.

    Two clusters: linear regression with the noise sigma^2 (1 + T)/T in place of sigma^2.

    >>> found = random_features_error(Mixture.two_clusters(1.0), "relu", gamma=1e9)
    >>> print(f"{found.classification_error:.6f} {ndtr(-1.0):.6f}")  # infinitely many: the oracle
    0.158655 0.158655
    >>> print(f"{random_features_error(Mixture.xor(1.0, scaling=0.5), 'relu', gamma=2.0).rate:.5f}")
    0.13668
    """
    if record("mixture", mixture, Mixture).teacher is None:
        mixture.check_isotropic()
    else:
        check_taught(mixture, D is not None or features != "linear")
    gamma, ridge = number("gamma", gamma, positive=True), number("ridge", ridge)
    accuracy = checks.tolerance("tolerance", tolerance)
    D = None if D is None else number("D", D, positive=True)
    labels = mixture.labels if mixture.teacher is None else label_moments(mixture).mean
    b = float(mixture.weights @ labels) if flag("intercept", intercept) else 0.0
    activation = TwoLayer(1, activation).activation
    if not isinstance(features, str) or features not in ("linear", "quadratic"):
        raise ValueError(f"features must be 'linear' (P = gamma D) or 'quadratic' (P = gamma D^2/2), got {features!r}")
    with np.errstate(under="ignore"):
        found = _chosen(mixture, _Asked(activation, gamma, ridge, accuracy, b), D, features)
    asked = {"activation": activation, "gamma": gamma, "ridge": ridge, "D": D, "features": features}
    return replace(found, problem={"mixture": mixture, **asked, "intercept": bool(intercept)})


def _chosen(mixture: Mixture, asked: _Asked, D: float | None, features: str) -> ReadoutErrors:
    exponents = mixture.exponents
    elsewhere = "with D=..., the equivalent at finite D takes any scaling and any means in up to three dimensions"
    if features == "quadratic":
        if D is not None or (exponents != 0).any() or not _is_xor(mixture):
            raise ValueError(
                "features='quadratic' has a formula for XOR with means of order 1 in the limit of large D only, got "
                f"scaling={mixture.scaling!r}, D={D!r}, means {mixture.means.tolist()}; {elsewhere} and P = gamma D"
            )
        return _quadratic(mixture, asked)
    if D is not None:
        if D < 2:
            raise ValueError(f"D must be >= 2, got {D!r}")
        return _finite(mixture, asked, D)
    if (exponents == 0.5).all():
        return _high(mixture, asked)
    if (mixture.sigmas != mixture.sigmas[0]).any():
        raise ValueError(f"mixture must have one sigma in this limit, got {mixture.sigmas.tolist()}; {elsewhere}")
    if (exponents == 0).all():
        return _low(mixture, asked)
    if (exponents == 0.25).all():
        return _crossover(mixture, asked)
    if exponents.tolist() == [0.5, 0.0] and _is_parity(mixture):
        return _mixed(mixture, asked)
    raise ValueError(
        f"mixture must have scaling 0, 1/4, 1/2, or be parity at (1/2, 0), got scaling={mixture.scaling!r} and means "
        f"{mixture.means.tolist()}: no formula for the limit; {elsewhere}"
    )


def _is_parity(mixture: Mixture) -> bool:
    """Four equal clusters at ±m1 e1 ± m2 e2, the label the product of the signs, or the opposite."""
    means, signs = mixture.means, np.sign(mixture.means)
    if means.shape != (4, 2) or not np.allclose(mixture.weights, 0.25, rtol=1e-12, atol=0):
        return False
    same = np.allclose(np.abs(means), np.abs(means[0]), rtol=1e-12, atol=0)
    distinct = len({tuple(row) for row in signs.tolist()}) == 4 and (signs != 0).all()
    return bool(same and distinct and abs((signs.prod(axis=1) * mixture.labels).sum()) == 4)


def _is_xor(mixture: Mixture) -> bool:
    """Four equal clusters at the corners of a square around the origin, opposite ones with the same label."""
    T = mixture.T
    if mixture.clusters != 4 or not np.allclose(mixture.weights, 0.25, rtol=1e-12, atol=0):
        return False
    pairs = np.outer(mixture.labels, mixture.labels) > 0
    length = T[0, 0]
    wanted = np.where(pairs, np.where(np.eye(4) > 0, length, -length), 0)
    return bool(abs(mixture.labels.sum()) == 0 and np.allclose(T, wanted, rtol=0, atol=1e-12 * length))


# --- as a learner


@dataclass(frozen=True)
class RandomFeaturesOptions(Options):
    """The arguments of `random_features_error`; features_at is its D."""

    activation: str = option("relu", "Activation of the features: a name or an expression in x.")
    gamma: float = option(2.0, "Random features per dimension, P/D.")
    ridge: float = option(0.0, "Ridge of the readout.")
    features_at: float | None = option(None, "Dimension of features and kernels (default: their limit).")
    intercept: bool = option(False, "Give features and kernels an intercept.")

    @property
    def caption(self) -> str:
        """Activation and number of features."""
        return f"{self.activation}, P = {self.gamma:g} D"


def _learned(mixture: Mixture, options: RandomFeaturesOptions) -> Solution:
    """`random_features_error` as a solution."""
    found = random_features_error(
        mixture, options.activation, options.gamma, options.ridge, D=options.features_at, intercept=options.intercept
    )
    return found.solution()


LEARNERS = (
    Learner(
        "random-features",
        _learned,
        RandomFeaturesOptions(),
        "Random features of an activation, their readout at the population minimum.",
    ),
)
