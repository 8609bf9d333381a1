"""Independent routes to two-layer networks: a step of SGD averaged by quadrature, known solutions.

`step` takes the update rule as it stands.  Given the cluster the K <= 2 local fields lambda are normal, and so is
nu_b = mu_b.x/sqrt(D) given them; push = v (phi - y) g'(lambda) enters through its averages with nu and lambda.  Panels
of Gauss-Legendre nodes end at the kinks, lambda_k = 0.  No Stein, no Price, no closed form of an average.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from scipy.optimize import brentq, fsolve
from scipy.special import erf, erfinv, ndtr

from quenched.numerics.compiled.precision import context
from quenched.numerics.probability.quadrature import legendre
from quenched.sim.bank.quadratures import Number, Parameters, worse

__all__ = [
    "committee_plateau", "error_rates", "escape", "fluctuation", "largest_rate", "least_squares", "linear_curve",
    "mean_squares", "resting", "specialised", "step",
]  # fmt: skip

Array = NDArray[np.float64]

_ROUNDING = 2e-14  # of sums over some 10^5 nodes in float64, relative to their terms
_PANELS = np.linspace(-9.0, 9.0, 13)
_ORDER = 20

_ACTIVATIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "erf": (lambda x: erf(x / math.sqrt(2)), lambda x: math.sqrt(2 / math.pi) * np.exp(-x * x / 2)),
    "relu": (lambda x: np.maximum(x, 0.0), lambda x: (x > 0).astype(float)),
    "linear": (lambda x: x, np.ones_like),
}


def _nodes(kink: float) -> tuple[Array, Array]:
    """Nodes and weights of a unit normal; panels end at `kink`."""
    cuts = np.union1d(_PANELS, [kink]) if abs(kink) < 9 else _PANELS
    z, w = legendre(cuts, _ORDER)
    return z, w * np.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def _fields(mean: Array, covariance: Array) -> tuple[Array, Array]:
    """Points (n, K) of N(mean, covariance), K = 1 or 2, and weights; panels end where a field is 0."""
    first = math.sqrt(covariance[0, 0])
    z, w = _nodes(-mean[0] / first)
    outer = mean[0] + first * z
    if len(mean) == 1:
        return outer[:, None], w
    slope = covariance[0, 1] / first
    rest = math.sqrt(covariance[1, 1] - slope**2)
    points, weights = [], []
    for x, u, weight in zip(outer, z, w, strict=True):
        centre = mean[1] + slope * u
        inner, v = _nodes(-centre / rest)
        points.append(np.column_stack([np.full(len(inner), x), centre + rest * inner]))
        weights.append(weight * v)
    return np.concatenate(points), np.concatenate(weights)


def _mixture(parameters: Parameters) -> tuple[Array, Array, Array, float]:
    means = np.array(parameters["means"], float)
    labels = np.array(parameters["labels"], float)
    weights = np.array(parameters.get("weights", np.full(len(labels), 1 / len(labels))), float)
    return means, labels, weights, float(parameters["sigma"])


def _rates(parameters: Parameters, M: Array, Q: Array, v: Array) -> tuple[Array, Array, Array]:
    """dM/dt, dQ/dt, dv/dt from the update rule, by averages over the fields."""
    means, y, P, sigma = _mixture(parameters)
    T, eta, kappa = means @ means.T, parameters["lr"], parameters.get("weight_decay", 0.0)
    g, dg = _ACTIVATIONS[parameters["activation"]]
    dM, dQ, dv = -eta * kappa * M, -2 * eta * kappa * Q, -eta * kappa * v
    diffusion = 0.0 if parameters.get("flow") else eta**2
    for a in range(len(y)):
        field, weight = _fields(M[a], sigma**2 * Q)
        delta = g(field) @ v - y[a]
        push = (weight * delta)[:, None] * v * dg(field)
        nu = T[a] + (field - M[a]) @ np.linalg.solve(Q, M.T)
        dM -= eta * P[a] * nu.T @ push
        cross = push.T @ field
        dQ += P[a] * (-eta * (cross + cross.T) + diffusion * sigma**2 * push.T @ (delta[:, None] * v * dg(field)))
        dv -= eta * P[a] * (weight * delta) @ g(field)
    return dM, dQ, dv


def _state(parameters: Parameters) -> tuple[Array, Array, Array]:
    state = parameters["state"]
    return tuple(np.array(state[name], float) for name in ("M", "Q", "v"))  # type: ignore[return-value]


def step(parameters: Parameters) -> tuple[Number, Number]:
    """One entry of the drift, `entry` = (name, indices)."""
    name, *place = parameters["entry"]
    parts = dict(zip(("M", "Q", "v"), _rates(parameters, *_state(parameters)), strict=True))
    return float(parts[name][tuple(place)]), 10 * _ROUNDING


def mean_squares(parameters: Parameters) -> tuple[Number, Number]:
    """pmse = E[(phi - y)^2]/2 of a state."""
    _means, y, P, sigma = _mixture(parameters)
    (M, Q, v), total = _state(parameters), 0.0
    g, _ = _ACTIVATIONS[parameters["activation"]]
    for a in range(len(y)):
        field, weight = _fields(M[a], sigma**2 * Q)
        total += P[a] * float(weight @ (g(field) @ v - y[a]) ** 2) / 2
    return total, _ROUNDING


def error_rates(parameters: Parameters) -> tuple[Number, Number]:
    """P(y phi < 0) + P(phi = 0)/2 of two neurons: Phi in the second field between where phi changes its sign."""
    _means, y, P, sigma = _mixture(parameters)
    M, Q, v = _state(parameters)
    order = np.argsort(np.abs(v))  # the larger weight last: erf has an argument for every height then
    M, Q, v = M[:, order], Q[np.ix_(order, order)], v[order]
    g, _ = _ACTIVATIONS[parameters["activation"]]
    relu, total = parameters["activation"] == "relu", 0.0
    for a in range(len(y)):
        first = sigma * math.sqrt(Q[0, 0])
        z, w = _nodes(-M[a, 0] / first)
        slope = sigma * Q[0, 1] / math.sqrt(Q[0, 0])
        rest = math.sqrt(sigma**2 * Q[1, 1] - slope**2)
        height = -v[0] * g(M[a, 0] + first * z) / v[1]  # phi = v_2 (g(lambda_2) - height)
        border = np.maximum(height, 0.0) if relu else math.sqrt(2) * erfinv(height)
        below = ndtr((border - M[a, 1] - slope * z) / rest)
        if relu:  # g(lambda_2) is never below a negative height, and equal to a height of 0 on lambda_2 <= 0
            tie = np.where(height == 0, below, 0.0)
            below = np.where(height > 0, below, 0.0)
        else:
            tie = np.zeros_like(below)
        negative = below if v[1] > 0 else 1 - below - tie
        wrong = negative if y[a] > 0 else 1 - negative - tie
        total += P[a] * float(w @ (wrong + tie / 2))
    return total, _ROUNDING


def resting(parameters: Parameters) -> tuple[Number, Number]:
    """pmse at the root of the rates near `state`, by MINPACK; the rates are those of `step`."""
    M0, Q0, v0 = _state(parameters)
    K, upper = len(v0), np.triu_indices(len(v0))

    def unpacked(x: Array) -> tuple[Array, Array, Array]:
        Q = np.zeros((K, K))
        Q[upper] = x[M0.size : -K]
        return x[: M0.size].reshape(M0.shape), Q + np.triu(Q, 1).T, x[-K:]

    def rates(x: Array) -> Array:
        dM, dQ, dv = _rates(parameters, *unpacked(x))
        return np.concatenate([dM.ravel(), dQ[upper], dv])

    start = np.concatenate([M0.ravel(), Q0[upper], v0])
    found = fsolve(rates, start, xtol=1e-14)
    if np.abs(rates(found)).max() > 1e-12:
        raise RuntimeError(f"the rates do not vanish near the state: {np.abs(rates(found)).max():.1e}")
    M, Q, v = unpacked(found)
    at = {**parameters, "state": {"M": M, "Q": Q, "v": v}}
    return mean_squares(at)[0], 1e-12


def specialised(parameters: Parameters) -> tuple[Number, Number]:
    """XOR, four relu, one along each mean: pmse at the end of gradient flow with decay kappa of both layers.

    phi = c (|x_2| - |x_1|), c = |w| |v|: linear regression on one number s.  With decay the minimum of the loss and
    kappa/2 (|w|^2 + v^2) a neuron has |w| = |v|, so that c = (E[y s] - 4 kappa)/E[s^2].
    """
    ctx = context(30)
    sigma, kappa = ctx.mpf(parameters["sigma"]), ctx.mpf(parameters["weight_decay"])

    def folded(mean: Any) -> tuple[Any, Any]:
        """E|x| and E x^2 of N(mean, sigma^2)."""
        return 2 * sigma**2 * ctx.npdf(mean, 0, sigma) + mean * ctx.erf(mean / sigma / ctx.sqrt(2)), mean**2 + sigma**2

    (along, square), (across, other) = folded(ctx.one), folded(ctx.zero)
    ys, ss = along - across, square + other - 2 * along * across
    c = (ys - 4 * kappa) / ss
    value = (c * c * ss - 2 * c * ys + 1) / 2
    return value, worse(value, value)


def committee_plateau(parameters: Parameters) -> tuple[Number, Number]:
    """pmse on the symmetric plateau of K = M erf (Saad and Solla 1995): (K/pi) (pi/6 - K arcsin(1/(2K)))."""
    ctx, K = context(30), parameters["K"]
    value = K / ctx.pi * (ctx.pi / 6 - K * ctx.asin(ctx.mpf(1) / (2 * K)))
    return value, worse(value, value)


def least_squares(parameters: Parameters) -> tuple[Number, Number]:
    """pmse at rest of a linear neuron (the misadjustment of LMS): that of linear regression/(1 - eta sigma^2/2)."""
    means, y, P, sigma = _mixture(parameters)
    b = (means.T * P) @ y
    least = (1 - b @ np.linalg.solve((means.T * P) @ means + sigma**2 * np.eye(len(b)), b)) / 2
    return float(least / (1 - parameters["lr"] * sigma**2 / 2)), 1e-15


def linear_curve(parameters: Parameters) -> tuple[Number, Number]:
    """pmse at time t of a linear neuron on two clusters at +-1, v = 1: the exponential of a matrix.

    m, m^2, Q and 1 obey linear equations: dm = -eta ((1 + s) m - 1), dQ = -2 eta (m^2 + s Q - m) + eta^2 s E[Delta^2],
    E[Delta^2] = m^2 + s Q - 2 m + 1, s = sigma^2.
    """
    ctx = context(30)
    s, eta, t = ctx.mpf(parameters["sigma"]) ** 2, ctx.mpf(parameters["lr"]), ctx.mpf(parameters["t"])
    m, Q = ctx.mpf(parameters["state"]["M"][0][0]), ctx.mpf(parameters["state"]["Q"][0][0])
    noise = eta**2 * s
    A = ctx.matrix(
        [
            [-eta * (1 + s), 0, 0, eta],
            [2 * eta, -2 * eta * (1 + s), 0, 0],
            [2 * eta - 2 * noise, -2 * eta + noise, -2 * eta * s + noise * s, noise],
            [0, 0, 0, 0],
        ]
    )
    m, squared, Q, _ = ctx.expm(A * t) * ctx.matrix([m, m * m, Q, 1])
    value = (squared + s * Q - 2 * m + 1) / 2
    return value, worse(value, value)


def fluctuation(parameters: Parameters) -> tuple[Number, Number]:
    """D Var(M) at time t of a linear neuron on two clusters at +-1, v = 1, from its fixed point: Ornstein-Uhlenbeck.

    dC/dt = -2 eta (1 + s) C + eta^2 Var(Delta nu); y Delta and y nu are normal with means m - 1 and 1, variances s Q
    and s, covariance s m; the variance of their product is Isserlis'.
    """
    m, Q, s = parameters["state"]["M"][0][0], parameters["state"]["Q"][0][0], parameters["sigma"] ** 2
    eta, t = parameters["lr"], parameters["t"]
    one, other, both = (m - 1) ** 2 + s * Q, 1 + s, (m - 1) + s * m
    strength = eta**2 * (one * other + 2 * both**2 - 2 * (m - 1) ** 2 - both**2)
    rate = 2 * eta * (1 + s)
    return strength / rate * -math.expm1(-rate * t), 1e-14


def escape(parameters: Parameters) -> tuple[Number, Number]:
    """Mean of log(D)/(2 rate) + .. until one neuron with M = 0 overlaps by `level`, along `direction` d: M = a means d.

    The rates are those of `step`, of a and Q alone.  At rest a is an Ornstein-Uhlenbeck process that grows, its noise
    D d<a^2>/dt = lr^2 E[push^2] ((mean d)^2 + sigma^2), as d.x and lambda are independent; it leaves as normal numbers
    of variance noise/(2 rate), E log |Z| = -(gamma + log 2)/2, times exp(rate t), until the rates take over.
    """
    means, y, P, sigma = _mixture(parameters)
    eta, D = parameters["lr"], parameters["D"]
    g, dg = _ACTIVATIONS[parameters["activation"]]
    (_, Q0, v), along = _state(parameters), means @ np.array(parameters["direction"], float)
    a = int(np.argmax(np.abs(along)))

    def moves(x: Array) -> Array:
        dM, dQ, _ = _rates(parameters, x[0] * along[:, None], np.array([[x[1]]]), v)
        return np.array([dM[a, 0] / along[a], dQ[0, 0]])

    rest = float(brentq(lambda q: moves(np.array([0.0, q]))[1], Q0[0, 0] / 2, 2 * Q0[0, 0], xtol=1e-15, rtol=1e-14))
    near, far = (float(moves(np.array([h, rest]))[0]) / h for h in (1e-3, 2e-3))  # a is odd
    rate = (4 * near - far) / 3
    field, weight = _fields(np.zeros(1), sigma**2 * np.array([[rest]]))
    pushes = [float(weight @ ((v[0] * g(field[:, 0]) - label) * v[0] * dg(field[:, 0])) ** 2) for label in y]
    noise = eta**2 * float(P @ (pushes * (along**2 + sigma**2)))

    def passed(_: float, x: Array) -> float:
        return float(x[0] * np.abs(along).max() - parameters["level"])

    passed.terminal = True  # type: ignore[attr-defined]

    def mean(delta: float) -> float:
        path = solve_ivp(
            lambda _, x: moves(x), (0, 60 / rate), [delta, rest], "DOP853", events=passed, rtol=1e-10, atol=1e-13
        )
        start = math.log(delta) - 0.5 * math.log(noise / (2 * rate) / D) + (np.euler_gamma + math.log(2)) / 2
        return float(start / rate + path.t_events[0][0])

    value = mean(1e-4)
    return value, abs(mean(1e-3) - value) + 1e-8


def largest_rate(parameters: Parameters) -> tuple[Number, Number]:
    """The learning rate beyond which K = M erf lose their teacher, from the integrals of Saad and Solla (1995).

    I_2, I_3, I_4 as printed there; the rates of R and Q are linearised at R = Q = 1 by numerical differentiation, and
    the rate is that at which the largest eigenvalue is 0.
    """
    ctx, K = context(30), parameters["K"]
    places = [(i, j) for i in range(K) for j in range(i, K)]
    size = K * K + len(places)

    def rates(x: Any, eta: Any) -> list[Any]:
        C = ctx.eye(2 * K)
        for i in range(K):
            for n in range(K):
                C[i, K + n] = C[K + n, i] = x[i * K + n]
        for (i, j), value in zip(places, x[K * K :], strict=True):
            C[i, j] = C[j, i] = value
        signs = [(j, -1) for j in range(K)] + [(K + n, 1) for n in range(K)]  # y - phi

        def pull(i: int, l: int) -> Any:
            return sum(sign * _I3(ctx, C, i, l, j) for j, sign in signs)

        def noise(i: int, l: int) -> Any:
            return sum(a * b * _I4(ctx, C, i, l, j, k) for j, a in signs for k, b in signs)

        first = [eta * pull(i, K + n) for i in range(K) for n in range(K)]
        return first + [eta * (pull(i, l) + pull(l, i)) + eta**2 * noise(i, l) for i, l in places]

    rest = [ctx.mpf(i == n) for i in range(K) for n in range(K)] + [ctx.mpf(i == j) for i, j in places]

    def jacobian(eta: Any) -> Any:
        J, h = ctx.matrix(size, size), ctx.mpf(10) ** -8
        for column in range(size):
            up, down = list(rest), list(rest)
            up[column] += h
            down[column] -= h
            for row, (one, other) in enumerate(zip(rates(up, eta), rates(down, eta), strict=True)):
                J[row, column] = (one - other) / (2 * h)
        return J

    first, whole = jacobian(ctx.one), jacobian(2 * ctx.one)  # eta A + eta^2 B
    B = (whole - 2 * first) / 2
    A = first - B

    def largest(eta: Any) -> Any:
        return max(ctx.re(value) for value in ctx.eig(A + eta * B, left=False, right=False))

    guess = ctx.mpf(parameters["guess"])
    return ctx.findroot(largest, (guess * 0.99, guess * 1.01), solver="anderson", tol=1e-24), 1e-13


def _I3(ctx: Any, C: Any, i: int, j: int, k: int) -> Any:
    """<g'(x_i) x_j g(x_k)> of g = erf(x/sqrt 2)."""
    root = ctx.sqrt((1 + C[i, i]) * (1 + C[k, k]) - C[i, k] ** 2)
    return 2 / ctx.pi / root * (C[j, k] * (1 + C[i, i]) - C[i, j] * C[i, k]) / (1 + C[i, i])


def _I4(ctx: Any, C: Any, i: int, j: int, k: int, l: int) -> Any:
    """<g'(x_i) g'(x_j) g(x_k) g(x_l)>."""
    a, b, c = 1 + C[i, i], 1 + C[j, j], C[i, j]
    L4 = a * b - c**2
    L0 = L4 * C[k, l] - C[j, k] * C[j, l] * a - C[i, k] * C[i, l] * b + c * (C[i, k] * C[j, l] + C[i, l] * C[j, k])
    L1 = L4 * (1 + C[k, k]) - C[j, k] ** 2 * a - C[i, k] ** 2 * b + 2 * c * C[i, k] * C[j, k]
    L2 = L4 * (1 + C[l, l]) - C[j, l] ** 2 * a - C[i, l] ** 2 * b + 2 * c * C[i, l] * C[j, l]
    return 4 / ctx.pi**2 / ctx.sqrt(L4) * ctx.asin(L0 / ctx.sqrt(L1 * L2))
