"""The time that runs spend on a plateau before they leave it, as a random number: its law as D -> infinity.

Let x* be an unstable fixed point of the learning equations, J their Jacobian there, L^T J = Lambda L^T its unstable
part (L^T R = 1, J R = R Lambda; Lambda (m, m), eigenvalues of positive real part), and let `start` lie on a trajectory
that ends in x*.  Runs scatter about it by x_D - x = xi/sqrt(D), Cov(xi) = Sigma(t), dSigma/dt = J Sigma + Sigma J^T +
diffusion (`fluctuations`), and near x* the unstable part of that grows:

    exp(-Lambda t) L^T (x_D - x*)  ->  zeta/sqrt(D),    zeta ~ N(0, S),
    S = exp(-Lambda u) (L^T Sigma(u) L + X) exp(-Lambda^T u),    Lambda X + X Lambda^T = L^T diffusion(x*) L

at any u so late that x(u) = x*; Sigma(u) is had from the adjoint equations, which do not grow.
From there on the noise is small beside the distance, and runs follow the equations: T is the time at which the solution
that is x* + R exp(Lambda t) zeta/sqrt(D) for small distances passes a threshold.
For one direction, S = s^2, from a distance delta to either side the threshold is passed after the times t_+ and t_-:

    T = log(delta sqrt(D)/(s |Z|))/lambda + t_(sign Z),    Z ~ N(0, 1),
    P(T < t) = sum over both signs of Phi(-delta sqrt(D) exp(-lambda (t - t_+-))/s),
    E T = log(D)/(2 lambda) + (log(delta/s) + (gamma + log 2)/2)/lambda + (t_+ + t_-)/2

(gamma = 0.5772.., Euler's).  For several directions, of equal rates or not, T is worked out at scrambled Sobol points
zeta, one solution of the equations each.  Those whose rate is below half of the largest are left out: at the exit they
are of order D^(-(1 - ratio)/2), as fluctuations along stable directions are of order D^(-1/2).

Source: derived here from the order 1/D of symbolic/learners/fluctuations.py; matched asymptotics of the exit from a
saddle point, Yu. Kifer, Israel J. Math. 40 (1981) 74.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.integrate import solve_ivp
from scipy.linalg import expm, schur, solve_continuous_lyapunov
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from quenched.numerics.probability.quadrature import legendre, scrambled_normals
from quenched.numerics.problem.checks import Result, finite_array, flag, integer, real, record, tolerance
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.provenance import provenance
from quenched.numerics.problem.rules import OnlineSGD
from quenched.numerics.problem.state import OrderParameters
from quenched.numerics.two_layer.fluctuations import NoisyPath, check_fluctuating
from quenched.numerics.two_layer.stationary import FixedPointError, StationaryEquations

__all__ = ["ExitTime", "PlateauError", "Threshold", "exit_time", "least_overlap", "pointing_anywhere"]

Array = npt.NDArray[np.float64]
Observable = Callable[[Array, Array, Array], Array]

_UNSTABLE = 1e-6  # of the largest eigenvalue: smaller real parts are zero modes, up to the noise of the Jacobian
_SLOW = 0.5  # of the largest rate: directions that are slower have not grown when runs leave, see the head
_REST = 1e-6  # rates, relative to 1 + |x|, at which the flow counts as being at the fixed point that Newton finds next
_NEAR = 1e-3  # relative: Newton's steps from there must not lead farther
_CLOSE = 0.1  # relative: the growth still to come is that at the plateau, and this has been reached
_EARLY = 0.05  # of the runs may have left by then
_OFFSET = 0.1  # of the fluctuations: what `start` may be off the plateau along its unstable directions
_SMALL = 1e-4  # distance from which the equations are followed, relative to 1 + |x*|; the error is of that order
_COARSE = 10.0  # the same at this many times the distance shows it
_PANELS, _NODES = 16, 6  # of the integral of the diffusion on the way, 1/rate long: exp(-32) is left out; Gauss's nodes
_TIMES = 60.0  # 1/rate: the longest that a solution is followed
_HALF = (np.euler_gamma + math.log(2)) / 2  # -E log |Z|


class PlateauError(RuntimeError):
    """There is no plateau that runs leave by their fluctuations; the message says what was found instead."""


def least_overlap(M: Array, Q: Array, v: Array) -> Array:
    """Of the neuron that overlaps least, the largest |M_ak|: (n,) of M (n, C, K), Q (n, K, K), v (n, K).

    >>> least_overlap(np.array([[[0.5, 0.1], [-0.7, 0.0]]]), np.eye(2)[None], np.ones((1, 2))).tolist()
    [0.1]
    """
    return np.asarray(np.abs(M).max(axis=1).min(axis=1))


@dataclass(frozen=True)
class Threshold:
    """Runs have left a plateau where an observable reaches a level from below.

    `observable`: (M (n, C, K), Q (n, K, K), v (n, K)) -> (n,), of n states at once; rows of M are the clusters,
    then the neurons of a teacher.  By default the overlap |M_ak| of the neuron whose largest one is the least.

    >>> Threshold(0.5).level
    0.5
    """

    level: float
    observable: Observable = least_overlap

    def __post_init__(self) -> None:
        level = float(finite_array("level", real("level", self.level), ()))
        object.__setattr__(self, "level", level)
        if not callable(self.observable):
            raise ValueError(f"observable must be a function, got {self.observable!r}")

    def above(self, M: Array, Q: Array, v: Array) -> Array:
        """Observable - level (n,).  ValueError: the observable is no number for each state."""
        found = np.asarray(self.observable(M, Q, v), dtype=np.float64)
        if found.shape != (len(M),):
            raise ValueError(f"observable must give an array of shape ({len(M)},), got {found.shape}")
        return found - self.level


@dataclass(frozen=True, eq=False, repr=False)
class ExitTime(Result):
    """The law of the exit time of runs in dimension D, in units of D steps, to leading order.

    `rates` (m,): eigenvalues of the equations at the `plateau` that runs leave it by, the largest first; `log_slope`:
    1/(2 Re rates[0]), how the times grow with log D; `variance` (m, m): S, of the fluctuations that leave, with its
    numerical error.  `mean`, its numerical error, and `deviation`, the standard deviation.  `arrival`: when the mean
    trajectory has reached the plateau: the growth still to come is that there to 10 %.  `constants`: (t_+, t_-) of
    the distance `distance` for one direction; for several, the sorted `times` at points of the law of S.  What is left
    out vanishes as D grows.  `attrs`: where it comes from.
    """

    mean: float
    mean_error: float
    deviation: float
    log_slope: float
    D: int
    arrival: float
    rates: npt.NDArray[np.complex128]
    variance: Array = field(repr=False)
    variance_error: Array = field(repr=False)
    distance: float = field(repr=False)
    constants: Array | None = field(repr=False)
    times: Array | None = field(repr=False)
    plateau: OrderParameters = field(repr=False)
    attrs: dict[str, str] = field(repr=False)

    def cdf(self, t: npt.ArrayLike) -> Array:
        """P(T < t)."""
        at = np.asarray(t, dtype=np.float64)
        if self.times is not None:
            return np.asarray(np.searchsorted(self.times, at, side="right") / len(self.times))
        rate, scale = self.rates[0].real, self.distance * math.sqrt(self.D / self.variance[0, 0])
        later = at[..., None] - (self.constants if self.constants is not None else 0.0)
        with np.errstate(over="ignore"):
            return np.asarray(ndtr(-scale * np.exp(-rate * later)).sum(axis=-1))

    def quantile(self, p: float) -> float:
        """The time by which a fraction p of all runs has left.  ValueError: p outside of (0, 1)."""
        p = tolerance("p", p)
        if self.times is not None:
            return float(np.quantile(self.times, p))
        scale = self.distance * math.sqrt(self.D / self.variance[0, 0])
        both = self.constants if self.constants is not None else np.zeros(2)
        middle = math.log(-scale / ndtri(p / 2)) / self.rates[0].real
        low, high = middle + both.min(), middle + both.max()
        if high - low < 1e-12 * (1 + abs(low)):
            return float(low)
        return float(brentq(lambda t: float(self.cdf(t)) - p, low - 1e-9, high + 1e-9, xtol=1e-12))


def exit_time(
    mixture: Mixture,
    network: TwoLayer,
    rule: OnlineSGD,
    start: OrderParameters,
    D: int,
    *,
    threshold: Threshold | float,
    anywhere: bool = False,
    samples: int = 128,
    seed: int = 0,
) -> ExitTime:
    """When runs of online SGD in dimension D leave the plateau that the equations lead to from `start`.

    T = log(D)/(2 lambda) + a random number of order one, by the formulas at the head of
    `quenched.numerics.two_layer.exit_times`: the fluctuations that pass from the start to the plateau's unstable
    directions, and the equations from there to the `threshold`, a `Threshold` or a level of the least overlap.

    The law is that of large D: its correction at finite D vanishes as D grows, is not computed, and `mean_error` does
    not hold it.  Measured for three clusters (sigma = 0.5, one abs neuron, v = -1, lr = 0.5, level 0.4), the mean of
    the law and that of runs with its standard error:

        D = 3000    15.53    15.63 ± 0.07
        D = 300     12.63    12.81 ± 0.08
        D = 100     11.25    10.90 ± 0.11

    There the law is right to 2 % from D = 300 on and to 4 % at 100, on either side.  Elsewhere measure at the D in
    question: `quenched.sim.fluctuations.learning_times`.

    `start`: a plateau (`quenched.sim.fluctuations.plateau`, `fixed_point`), or a state from which the equations lead
    into one, such as a state with its symmetry.  All runs start from it or, with `anywhere`, from weights with its Gram
    matrix Q that point anywhere (`pointing_anywhere`), whose overlaps of order D^(-1/2) count, too.  `samples`: points
    of the law where there are several unstable directions, one solution each.  `seed`: of these points, and of those at
    which averages are sampled.

    Returns an `ExitTime`.  ValueError: what `fluctuations` refuses, overlaps at the start with `anywhere`.
    PlateauError: the equations do not come to rest from `start`, or at a stable fixed point; the start's own overlap
    leads away before fluctuations do, or these before it is reached; a solution from the plateau does not pass the
    threshold, or is past it.

    >>> from quenched.numerics import Mixture, OnlineSGD, TwoLayer
    >>> mixture, network = Mixture.three_clusters(0.2), TwoLayer(K=1, activation="relu")
    >>> start = OrderParameters(M=[[0.0], [0.0], [0.0]], Q=[[25 / 99]], v=[-1.0])  # at rest
    >>> found = exit_time(mixture, network, OnlineSGD(0.5, second_lr=0.0), start, 1000, threshold=0.4)
    >>> bool(found.quantile(0.1) < found.mean < found.quantile(0.9))
    True
    """
    start = record("start", start, OrderParameters)
    check_fluctuating(mixture, network, rule, start)
    D, seed = integer("D", D, at_least=mixture.dimensions + network.K), integer("seed", seed)
    samples, anywhere = integer("samples", samples, at_least=2), flag("anywhere", anywhere)
    limit = (
        threshold
        if isinstance(threshold, Threshold)
        else Threshold(float(finite_array("threshold", real("threshold", threshold), ())))
    )
    path = NoisyPath(mixture, network, rule, seed)
    spread = _anywhere(path, start) if anywhere else 0.0
    saddle = _Saddle(path, start)
    S = saddle.leaving(spread)
    value, error = path.diffusion.points.merged(S)
    saddle.check_offset(value, D)
    found = _one_direction if len(value) == 1 else _several
    law = found(saddle, limit, value, error, D, samples, seed)
    result = ExitTime(
        **law,
        log_slope=1 / (2 * saddle.rates[0].real),
        D=D,
        arrival=saddle.close,
        rates=saddle.rates,
        variance=value,
        variance_error=error,
        plateau=saddle.state(saddle.x),
        attrs=provenance(
            mixture=mixture,
            network=network,
            sgd=rule,
            initial_state=start,
            D=D,
            level=limit.level,
            anywhere=anywhere,
            seed=seed,
        ),
    )
    if result.arrival > 0 and (early := result.quantile(_EARLY)) < result.arrival:
        raise PlateauError(
            f"D must be larger: {_EARLY:.0%} of the runs would have left by t = {early:.4g}, and the plateau is "
            f"reached, for growth within {_CLOSE:.0%}, at t = {result.arrival:.4g}"
        )
    return result


def pointing_anywhere(mixture: Mixture, state: OrderParameters, D: int, seed: int) -> OrderParameters:
    """The state of weights in D dimensions with the Gram matrix Q of `state` that point anywhere, for one seed.

    Their components along a direction are N(0, Q)/sqrt(D), to leading order.  ValueError: bad input.

    >>> from quenched.numerics import Mixture
    >>> state = OrderParameters(M=[[0.0], [0.0]], Q=[[1.0]], v=[1.0])
    >>> made = pointing_anywhere(Mixture.two_clusters(1.0), state, D=10**6, seed=0)
    >>> bool(0 < abs(made.M[0, 0]) < 0.005), made.Q.item()
    (True, 1.0)
    """
    mixture, state = record("mixture", mixture, Mixture), record("state", state, OrderParameters)
    D = integer("D", D, at_least=mixture.dimensions + state.K)
    rng = np.random.default_rng([integer("seed", seed), 77])
    values, vectors = np.linalg.eigh(state.Q)
    A = rng.standard_normal((mixture.dimensions, state.K)) @ ((vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T)
    return OrderParameters(mixture.references @ A / math.sqrt(D), state.Q, state.v)


def _anywhere(path: NoisyPath, start: OrderParameters) -> Array:
    """D Cov of the coordinates of such weights."""
    if np.abs(start.M).max() > 0:
        raise ValueError(f"start must have no overlaps with anywhere=True, got M up to {np.abs(start.M).max():.3g}")
    p, K = path.mixture.dimensions, start.K
    n = len(path.place(start))
    found = np.zeros((n, n))
    found[: p * K, : p * K] = np.kron(np.eye(p), start.Q)
    return found


def _invariant(J: Array, chosen: Callable[[float], bool]) -> tuple[Array, Array, Array]:
    """R, L, Lambda of the eigenvalues whose real parts are chosen: J R = R Lambda, L^T J = Lambda L^T, L^T R = 1."""
    (_, basis, m), (_, dual, _) = (schur(A, sort=lambda re, im=0.0: chosen(re)) for A in (J, J.T))
    R, dual = basis[:, :m], dual[:, :m]
    L = dual @ np.linalg.inv(dual.T @ R).T
    return R, L, L.T @ J @ R


class _Saddle:
    """The fixed point that a start leads to, and its unstable directions."""

    def __init__(self, path: NoisyPath, start: OrderParameters) -> None:
        self.path = path
        self.arrival, self.reached = self._follow(path.place(start))
        self.x = self._fixed(self.reached)
        self.close = 0.0
        J = path.jacobian(self.x)
        values = np.linalg.eigvals(J)
        if (leading := float(values.real.max())) <= _UNSTABLE * float(np.abs(values).max()):
            raise PlateauError(
                f"start must not lead to a stable fixed point, as it does by t = {self.arrival:.6g}: runs do not leave "
                "it"
            )
        self.R, self.L, self.Lambda = _invariant(J, lambda re: re > _SLOW * leading)
        self.falling = _invariant(J, lambda re: re < 0)
        values = np.linalg.eigvals(self.Lambda).astype(np.complex128)
        self.rates = values[np.argsort(-values.real, kind="stable")]

    def _follow(self, x: Array) -> tuple[float, Array]:
        """When and where the flow comes to rest; `way` is how it gets there."""
        path = self.path

        def moving(_: float, y: Array) -> float:
            return float(np.abs(path.rates(y)).max() / (1 + np.abs(y).max()) - _REST)

        if moving(0.0, x) <= 0:
            self.way: Callable[[float], Array] = lambda _: x
            return 0.0, x
        moving.terminal = True  # type: ignore[attr-defined]
        end = 1000.0 / max(path.rule.eta, path.rule.eta_v)
        with np.errstate(over="ignore", invalid="ignore"):
            found = solve_ivp(
                lambda _, y: path.rates(y),
                (0.0, end),
                x,
                "DOP853",
                events=moving,
                dense_output=True,
                rtol=1e-9,
                atol=1e-12,
            )
        if found.status != 1:
            least = min(moving(0.0, y) + _REST for y in found.y.T)
            raise PlateauError(
                f"start must lead to a fixed point: the slowest that the state moves is {least:.3g} of its size per "
                f"unit of time, until t = {found.t[-1]:.6g}; take a start with the plateau's symmetry, or the plateau"
            )
        self.way = found.sol
        return float(found.t[-1]), found.y[:, -1]

    def along(self, t: float) -> Array:
        """The state on the way, and, after the arrival, the linear rest of it, as long again."""
        if t <= self.arrival:
            return self.way(t)
        R, L, Lambda = self.falling
        return np.asarray(self.x + R @ expm(Lambda * (t - self.arrival)) @ (L.T @ (self.reached - self.x)))

    def _fixed(self, x: Array) -> Array:
        """The fixed point beside x."""
        path = self.path
        system = StationaryEquations(path.mixture, path.network, path.rule)
        system.start(self.state(x))
        try:
            A, Q, v = system.arrays(system.solve(system.x0))
        except FixedPointError as failure:
            raise PlateauError(
                f"start must lead to a fixed point: there is none beside where it rests; {failure}"
            ) from failure
        found = path.coordinates.pack(A, Q, v)
        if (gap := np.abs(found - x).max()) > _NEAR * (1 + np.abs(x).max()):
            raise PlateauError(f"start must lead to a fixed point: where the flow rests the next one is {gap:.3g} away")
        return found

    def state(self, x: Array) -> OrderParameters:
        """The order parameters of coordinates."""
        A, Q, v = self.path.coordinates.unpack(x)
        return OrderParameters.derivative(self.path.mixture.references @ A, Q, v)

    def leaving(self, spread: Array | float) -> Array:
        """S (R, m, m), by each of the rules of the diffusion, from the covariance `spread` at the start.

        L^T exp(-Lambda t) propagated from t to late times is exp(-Lambda t) N(t)^T, dN/dt = N Lambda^T - J^T N, so that

            S = N(0)^T spread N(0) + int_0^u exp(-Lambda t) N^T diffusion N exp(-Lambda^T t) dt + what follows at rest.
        """
        path, m, end = self.path, len(self.Lambda), 2 * self.arrival
        last = path.diffusion(*path.coordinates.unpack(self.x))
        rest = np.stack([solve_continuous_lyapunov(self.Lambda, self.L.T @ each @ self.L) for each in last])
        back = expm(-self.Lambda * end)
        found = back @ rest @ back.T
        N0 = self.L
        if end > 0:

            def adjoint_rates(t: float, y: Array) -> Array:
                N = y.reshape(-1, m)
                return np.asarray(N @ self.Lambda.T - path.jacobian(self.along(t)).T @ N).ravel()

            adjoint = solve_ivp(
                adjoint_rates, (end, 0.0), self.L.ravel(), "DOP853", rtol=1e-7, atol=1e-9, dense_output=True
            )
            N0 = adjoint.y[:, -1].reshape(-1, m)

            def apart(y: Array) -> Array:
                return np.asarray(np.abs(y.T - self.L.ravel()).max(axis=-1) / np.abs(self.L).max() - _CLOSE)

            far = np.flatnonzero(apart(adjoint.y) > 0)
            steps = adjoint.t[far[0] - 1 : far[0] + 1] if len(far) else ()
            self.close = float(brentq(lambda t: apart(adjoint.sol(t)), *steps)) if len(far) else 0.0
            panel = 1 / self.rates[0].real
            cuts = np.append(np.arange(0.0, min(end, _PANELS * panel), panel), min(end, _PANELS * panel))
            for t, weight in zip(*legendre(cuts, _NODES), strict=True):
                N = adjoint.sol(t).reshape(-1, m) @ expm(-self.Lambda.T * t)
                found = found + weight * (N.T @ path.diffusion(*path.coordinates.unpack(self.along(t))) @ N)
        found = found + N0.T @ np.broadcast_to(spread, (len(N0), len(N0))) @ N0
        return np.asarray((found + found.swapaxes(1, 2)) / 2)

    def check_offset(self, S: Array, D: int) -> None:
        """PlateauError: the start is off the plateau by more than runs scatter."""
        off = expm(-self.Lambda * self.arrival) @ (self.L.T @ (self.reached - self.x))
        size = math.sqrt(D * float(off @ np.linalg.pinv(S, rcond=1e-10, hermitian=True) @ off))
        if size > _OFFSET:
            raise PlateauError(
                f"start must not leave the plateau by itself: its part along the unstable directions is {size:.3g} "
                f"times the fluctuations at D = {D}"
            )

    def passage(self, distance: Array, limit: Threshold) -> float:
        """When the solution from x* + R distance passes the threshold."""
        path, last = self.path, _TIMES / self.rates[0].real

        def above(_: float, y: Array) -> float:
            A, Q, v = path.coordinates.unpack(y)
            return float(limit.above((path.mixture.references @ A)[None], Q[None], v[None])[0])

        y = self.x + self.R @ distance
        if above(0.0, y) >= 0:
            raise PlateauError(
                f"threshold must be above the plateau: the observable is {above(0.0, y) + limit.level:.6g} there, "
                f"level is {limit.level:g}"
            )
        above.terminal, above.direction = True, 1  # type: ignore[attr-defined]
        with np.errstate(over="ignore", invalid="ignore"):
            found = solve_ivp(lambda _, y: path.rates(y), (0.0, last), y, "DOP853", events=above, rtol=1e-9, atol=1e-12)
        if found.status != 1:
            raise PlateauError(
                f"threshold must be passed on the way from the plateau: until t = {found.t[-1]:.4g} after it, the "
                f"largest that the observable gets is {max(above(0.0, y) for y in found.y.T) + limit.level:.6g}, level "
                f"is {limit.level:g}"
            )
        return float(found.t_events[0][0])


def _one_direction(
    saddle: _Saddle, limit: Threshold, S: Array, S_error: Array, D: int, samples: int, seed: int
) -> dict[str, Any]:
    """The law for one unstable direction."""
    rate, distance = saddle.rates[0].real, _SMALL * (1 + float(np.abs(saddle.x).max()))

    def passages(far: float) -> Array:
        return np.array([saddle.passage(np.array([side * far]), limit) for side in (1, -1)])

    both = passages(distance)
    off = np.abs(passages(_COARSE * distance) + math.log(_COARSE) / rate - both).max() / (_COARSE - 1)
    mean = (math.log(distance) + 0.5 * math.log(D / S[0, 0]) + _HALF) / rate + both.mean()
    return {
        "mean": float(mean),
        "mean_error": float(off + S_error[0, 0] / (2 * S[0, 0] * rate)),
        "deviation": float(math.hypot(math.pi / (math.sqrt(8) * rate), (both[0] - both[1]) / 2)),
        "distance": distance,
        "constants": both,
        "times": None,
    }


def _several(
    saddle: _Saddle, limit: Threshold, S: Array, S_error: Array, D: int, samples: int, seed: int
) -> dict[str, Any]:
    """The law for several of them, at points."""
    distance = _SMALL * (1 + float(np.abs(saddle.x).max()))
    values, vectors = np.linalg.eigh(S)
    points = (
        scrambled_normals(len(S), seed, 0, 0, samples) @ (vectors * np.sqrt(np.maximum(values, 0))).T / math.sqrt(D)
    )
    times = np.empty(samples)
    for i, point in enumerate(points):

        def far(t: float, point: Array = point) -> float:
            return math.log(float(np.linalg.norm(expm(saddle.Lambda * t) @ point)) / distance)

        span = abs(far(0.0)) / saddle.rates[-1].real + 1.0
        begin = brentq(far, -span, span)
        times[i] = begin + saddle.passage(expm(saddle.Lambda * begin) @ point, limit)
    deviation = float(times.std(ddof=1))
    of_variance = float(np.linalg.norm(S_error) / (2 * np.linalg.eigvalsh(S)[-1] * saddle.rates[0].real))
    return {
        "mean": float(times.mean()),
        "mean_error": deviation / math.sqrt(samples) + of_variance,
        "deviation": deviation,
        "distance": distance,
        "constants": None,
        "times": np.sort(times),
    }
