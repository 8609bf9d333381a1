"""Where learning ends: fixed points of the order-parameter equations, their stability, their errors, their basins.

A fixed point solves F(x) = 0, F the drift in units of the larger learning rate.  The unknowns x are

* online SGD: A (p, K), the projections of the weights on the coordinates of the means, the upper triangle of Q, and v;
* `GradientFlow`: A and v.  No noise feeds the weights outside of the span of the means; where they have decayed,
  Q = A^T A, of rank p at most.  What is left of them spans r directions that count as further coordinates of A;

without what a rate of 0 freezes.  They are independent, so that the eigenvalues of J = dF/dx are those of the
linearised dynamics.  Under gradient flow, weights outside of the span obey dw_perp/dt = L w_perp, and their overlaps
grow at the sums of two eigenvalues of L: these belong to the modes too.

1. Without a guess, the flow is followed from a random state until it hardly moves, by an implicit method with J.
2. A trust-region method (scipy) takes Newton's steps with J; steps of least norm where symmetries make J singular.
3. The residual is computed anew and must be below 1e-10.

A neuron of a homogeneous activation that dies, v_k and |w_k| -> 0 in proportion, ends where the equations have a kink:
it is set to 0 and left out of x.  It has been seen to decay in its own direction; others it did not try.

Eigenvalues that vanish belong to families of fixed points with one and the same function: a relu network without decay
can trade w_k -> c w_k against v_k -> v_k/c, and neurons with parallel weights can share a readout.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from quenched.numerics.problem.checks import increasing_times, integer, number
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.provenance import provenance
from quenched.numerics.problem.rules import LearningRule
from quenched.numerics.problem.state import OrderParameters
from quenched.numerics.two_layer.drift import CLOSED_FORM_NEURONS, PATH, Equations, drift, drift_arrays
from quenched.numerics.two_layer.errors import Errors, errors
from quenched.numerics.two_layer.flow import Coordinates, IntegrationError, random_state
from quenched.numerics.two_layer.jacobian import drift_tangents
from quenched.numerics.two_layer.symmetry import equivalent, homogeneity, orbits

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["FixedPoint", "FixedPointError", "binomial_error", "fixed_point", "fixed_points", "path"]

Array = npt.NDArray[np.float64]

_RESIDUAL = 1e-10  # of the drift, in units of the larger learning rate
_STEP = 6e-6  # of central differences: the cube root of the rounding unit
_SETTLED = 1e-6  # rates at which Newton's steps are tried
_ZERO = 1e-6  # eigenvalues below this fraction of the largest are zero modes, up to the noise of the Jacobian
_OUTSIDE = 1e-7  # of Q: smaller eigenvalues of Q - A^T A are what the flow has not decayed yet
_DYING = 1e-2  # of the largest: neurons with smaller v_k and |w_k| where the flow came to rest are about to vanish
_INDEFINITE = 1e-9  # of Q - A^T A, relative to Q: allowed, as its eigenvalues may be 0 up to rounding
_NEAR = 0.3  # of the length of the state: Newton's steps may lead no further away from where the flow came to rest
_TOLERANCE = 5e-7  # standard error of the classification error
_STIFF = 220  # unknowns up to which the flow is followed by an implicit method
_OVERFLOW = 1e50  # products of a few such numbers are still finite
_GROWN = 1e3  # a state that has grown as much has no fixed point ahead
_POINTS = 2**17  # lines for the classification error: a standard error below 1e-6 for four relu


class FixedPointError(RuntimeError):
    """No fixed point was found; `state` is where the search ended, `residual` the largest rate there."""

    def __init__(self, message: str, state: OrderParameters, residual: float) -> None:
        super().__init__(message)
        self.state = state
        self.residual = residual

    def __reduce__(self) -> tuple[type[FixedPointError], tuple[str, OrderParameters, float]]:
        """Processes hand errors on by their arguments."""
        return type(self), (str(self), self.state, self.residual)


@dataclass(frozen=True, eq=False)
class FixedPoint:
    """A solution of the stationary equations.

    `state`: M, Q, v.  `residual`: the largest rate there, in units of the larger learning rate.  `accuracy`: bound on
    the error of the state, from the residual and the error of the averages, by the smallest nonzero singular value of
    the Jacobian.  `eigenvalues`: of the linearised dynamics, per unit of time, by falling real part, without the
    `zero_modes`, which are counted.  `pmse`, `classification_error`, `tie_probability` with `error_estimate` and
    `pmse_error_estimate`, which include the effect of `accuracy`.  `attrs`: where it comes from.
    """

    state: OrderParameters
    residual: float
    accuracy: float
    eigenvalues: npt.NDArray[np.complex128]
    zero_modes: int
    pmse: float
    pmse_error_estimate: float
    classification_error: float
    error_estimate: float
    tie_probability: float
    attrs: dict[str, str] = field(repr=False)

    @property
    def leading(self) -> float:
        """The largest real part of an eigenvalue: the rate of growth of the slowest or most unstable perturbation."""
        return float(self.eigenvalues.real.max(initial=-np.inf))

    @property
    def stable(self) -> bool:
        """Whether all perturbations decay, but for those along zero modes, which stay."""
        return self.leading < 0


def fixed_point(
    mixture: Mixture,
    network: TwoLayer,
    sgd: LearningRule,
    guess: OrderParameters | None = None,
    *,
    seed: int = 0,
    D: int = 1000,
    t: float = 1e7,
    points: int = _POINTS,
) -> FixedPoint:
    """A fixed point of the learning equations near `guess`, stable or not.

    Without a guess, the equations are followed from `random_state(mixture, network, D, seed)` until all rates are
    small, or to the time `t` in units of 1/lr, and the fixed point is the stable one where that ends.  A layer whose
    rate is 0 keeps the weights of the guess.  `points`: lines by which the classification error is sampled where it
    must be (`errors`).

    ValueError: `guess` does not fit, the means grow with D, the inputs have a spectrum or a teacher, or no fixed point
    can exist.  FixedPointError: none was found; the message says what to try.

    Two clusters and a linear neuron, v = 1: the weight is that of linear regression, 1/(1 + sigma^2) along the mean.

    >>> from quenched.numerics import GradientFlow
    >>> mixture, network = Mixture.two_clusters(sigma=2.0), TwoLayer(K=1, activation="linear")
    >>> guess = OrderParameters(M=[[1.0], [-1.0]], Q=[[1.0]], v=[1.0])
    >>> found = fixed_point(mixture, network, GradientFlow(second_lr=0.0), guess)
    >>> found.state.M.round(12).tolist(), found.stable, found.eigenvalues.real.round(9).tolist()
    ([[0.2], [-0.2]], True, [-5.0, -8.0])
    """
    integer("points", points, at_least=1)
    system = _System(mixture, network, sgd)
    if guess is not None:
        if guess.M.shape != (mixture.clusters, network.K):
            expected = (mixture.clusters, network.K)
            raise ValueError(f"guess must have M of shape (clusters, K) = {expected}, got {guess.M.shape}")
        system.start(guess)
        x = system.solve(system.x0)
    else:
        state = _random(mixture, network, integer("D", D), integer("seed", seed))
        x = _attractor(system, state, number("t", t, positive=True))
    return _measured(system, x, points, guess=guess, seed=seed if guess is None else None)


def binomial_error(fraction: npt.ArrayLike, n: int) -> Array:
    """Error of a fraction of n trials: the standard deviation of the probability given them, its prior uniform.

    That of a beta law, sqrt(q (1 - q)/(n + 3)) with q = (n fraction + 1)/(n + 2): not 0 where all trials agree.

    >>> binomial_error([0.5, 1.0], 2).round(3).tolist()
    [0.224, 0.194]
    """
    q = (n * np.asarray(fraction, dtype=np.float64) + 1) / (n + 2)
    return np.sqrt(q * (1 - q) / (n + 3))


def _random(mixture: Mixture, network: TwoLayer, D: int, seed: int) -> OrderParameters:
    state = random_state(mixture, network, D, seed)
    assert isinstance(state, OrderParameters)  # no densities: `_System` takes no mixture with a spectrum
    return state


def _possible(A: Array, Q: Array) -> Array:
    """Q with the negative eigenvalues of Q - A^T A set to 0."""
    values, vectors = np.linalg.eigh(Q - A.T @ A)
    return Q if values[0] >= 0 else A.T @ A + (vectors * np.maximum(values, 0)) @ vectors.T


class _Flow:
    """The drift in units of the larger rate, on (A, Q, v) as one vector, and its tangents."""

    def __init__(self, mixture: Mixture, network: TwoLayer, sgd: LearningRule, unit: float) -> None:
        self.mixture, self.unit, self.K = mixture, unit, network.K
        self.coordinates = Coordinates(mixture.dimensions, network.K)
        self.drift = drift_arrays(mixture, network, sgd)
        self.tangents = drift_tangents(mixture, network, sgd)

    @cached_property
    def directions(self) -> tuple[Array, Array, Array]:
        """A_z, Q_z, v_z of the unit vectors of the coordinates."""
        units = [self.coordinates.unpack(y) for y in np.eye(int(self.coordinates.cuts[-1]) + self.K)]
        A_z, Q_z, v_z = (np.stack(parts, axis=-1) for parts in zip(*units, strict=True))
        return A_z, Q_z, v_z

    def rates(self, A: Array, Q: Array, v: Array) -> Array:
        """The drift."""
        return self.coordinates.pack(*self.drift(A, Q, v)) / self.unit

    def linear(self, A: Array, Q: Array, v: Array, A_z: Array, Q_z: Array, v_z: Array) -> Array:
        """Its tangents along directions z, as columns.

        Taken where weights have these overlaps: of a decayed direction, a step of the flow may leave less than nothing.
        """
        assert self.tangents is not None
        Q = _possible(A, Q)
        columns = zip(*(np.moveaxis(part, -1, 0) for part in self.tangents(A, Q, v, A_z, Q_z, v_z)), strict=True)
        return np.stack([self.coordinates.pack(*column) for column in columns], axis=1) / self.unit


class _System:
    """F(x) = 0 for one problem: unknowns, rates, Jacobian."""

    def __init__(self, mixture: Mixture, network: TwoLayer, sgd: LearningRule) -> None:
        if mixture.spectrum is not None or mixture.teacher is not None:
            raise ValueError(
                f"mixture must be isotropic with labels of its own, got spectrum={mixture.spectrum!r}, "
                f"teacher={mixture.teacher!r}: fixed points are solved for in the overlaps; integrate the densities"
            )
        if sgd.eta == 0 and sgd.eta_v == 0:
            raise ValueError(f"sgd must have a rate other than 0, got lr={sgd.lr}, second_lr={sgd.second_lr}")
        degree = homogeneity(network.activation)
        if degree is not None and sgd.diffusion and sgd.eta > 0 and sgd.eta_v > 0 and sgd.kappa == 0:
            raise ValueError(
                f"sgd: no fixed point exists for {network.activation!r}, which is homogeneous, with lr={sgd.lr} and "
                "weight_decay=0 in the first layer while the second one learns: at rest, the noise of single samples "
                "would have to vanish, and the weights grow without end; set weight_decay > 0, or second_lr=0, or take "
                "the limit GradientFlow()"
            )
        if sgd.diffusion and sgd.eta > 0 and network.K > CLOSED_FORM_NEURONS:
            raise ValueError(
                f"network must have K <= {CLOSED_FORM_NEURONS} for a fixed point of SGD, got K = {network.K}: the "
                "noise of wider ones is sampled and too rough for Newton's steps; take GradientFlow(), exact for all K"
            )
        self.mixture, self.network, self.sgd = mixture, network, sgd
        self.unit = max(sgd.eta, sgd.eta_v)
        self.flow = self.inner = _Flow(mixture, network, sgd, self.unit)
        self.projected = not sgd.diffusion and sgd.eta > 0  # Q is A^T A

    def start(self, state: OrderParameters, *, bury: bool = False) -> None:
        """Frozen layers keep the weights of this state; x0 is where it stands.

        `bury`: neurons of which both layers are nearly 0 are set to 0 and stay there.
        """
        dead = np.zeros(self.network.K, dtype=bool)
        if bury:
            sizes = np.sqrt(np.maximum(np.diag(state.Q), 0)), np.abs(state.v)
            dead = np.logical_and(*(size < _DYING * size.max() for size in sizes))
            alive = np.where(dead, 0.0, 1.0)
            state = OrderParameters(state.M * alive, state.Q * np.outer(alive, alive), state.v * alive)
        A, sgd = state.projections(self.mixture), self.sgd
        Q = _possible(A, state.Q)
        if self.projected:
            values, vectors = np.linalg.eigh(Q - A.T @ A)  # what the weights have outside of the span of the means
            kept = values > _OUTSIDE * np.abs(state.Q).max()
            A = np.concatenate([A, (vectors[:, kept] * np.sqrt(values[kept])).T])
            Q = A.T @ A
            self._extend(int(kept.sum()))
        K = self.network.K
        learns = (sgd.eta > 0, sgd.eta > 0 and not self.projected, sgd.eta_v > 0)
        self.free = np.concatenate(
            [np.full(size, moves) for size, moves in zip((A.size, K * (K + 1) // 2, K), learns, strict=True)]
        )
        gone = dead.astype(np.float64)
        buried = self.inner.coordinates.pack(np.tile(gone, (len(A), 1)), np.maximum.outer(gone, gone), gone)
        self.free &= buried == 0
        self.frozen = self.inner.coordinates.pack(A, Q, state.v)
        self.x0 = self.frozen[self.free]

    def continued(self, other: _System) -> _System:
        """With the unknowns of another system, the same but for its parameters."""
        self.free, self.frozen = other.free, other.frozen
        self._extend(other.inner.mixture.dimensions - other.mixture.dimensions)
        return self

    def _extend(self, extra: int) -> None:
        """Add coordinates along which no mean has a component."""
        if extra:
            means = np.pad(self.mixture.means, ((0, 0), (0, extra)))
            self.inner = _Flow(replace(self.mixture, means=means), self.network, self.sgd, self.unit)
        else:
            self.inner = self.flow

    def arrays(self, x: Array) -> tuple[Array, Array, Array]:
        """A, Q, v."""
        y = self.frozen.copy()
        y[self.free] = x
        A, Q, v = self.inner.coordinates.unpack(y)
        return A, A.T @ A if self.projected else Q, v

    def state(self, x: Array) -> OrderParameters:
        """The order parameters at x."""
        A, Q, v = self.arrays(x)
        return OrderParameters(self.inner.mixture.means @ A, Q, v)

    def rates(self, x: Array) -> Array:
        """F(x); NaN where no weights have these overlaps, which makes the solver take a smaller step."""
        A, Q, v = self.arrays(x)
        outside = not self.projected and np.linalg.eigvalsh(Q - A.T @ A)[0] < -_INDEFINITE * np.abs(Q).max()
        if outside or not np.abs(x).max() < _OVERFLOW:
            return np.full_like(x, np.nan)
        return self.inner.rates(A, Q, v)[self.free]

    def jacobian(self, x: Array) -> Array:
        """dF/dx: generated, or by central differences for an activation without closed forms."""
        if self.inner.tangents is None:
            return self.differences(x)
        A, Q, v = self.arrays(x)
        A_z, Q_z, v_z = (part[..., self.free] for part in self.inner.directions)
        if self.projected:
            product = np.einsum("bkz,bl->klz", A_z, A)
            Q_z = product + product.swapaxes(0, 1)
        return self.inner.linear(A, Q, v, A_z, Q_z, v_z)[self.free]

    def differences(self, x: Array) -> Array:
        """dF/dx by central differences."""
        columns = []
        for i in range(len(x)):
            step = np.zeros_like(x)
            step[i] = _STEP * max(1.0, abs(x[i]))
            above, below = (self.inner.rates(*self.arrays(x + h))[self.free] for h in (step, -step))
            columns.append((above - below) / (2 * step[i]))
        return np.stack(columns, axis=1)

    def solve(self, x: Array) -> Array:
        """The zero of F that Newton's steps reach from x."""
        from scipy.optimize import least_squares

        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            tiny = np.finfo(np.float64).eps
            found = least_squares(self.rates, x, self.jacobian, xtol=tiny, ftol=tiny, gtol=tiny, max_nfev=200)
        best: Array = found.x
        residual = float(np.abs(self.rates(best)).max())
        if not residual <= _RESIDUAL:
            A, Q, v = self.arrays(best) if np.isfinite(residual) else self.inner.coordinates.unpack(self.frozen)
            raise FixedPointError(
                f"no fixed point was found: {found.nfev} steps left rates up to {residual:.3g}, more than "
                f"{_RESIDUAL:g} (|Q| <= {np.abs(Q).max():.3g}, |v| <= {np.abs(v).max():.3g}; state in .state); start "
                "from a guess nearer to one, follow the flow longer (t), or continue a solution from other "
                "parameters with curve",
                OrderParameters.derivative(self.inner.mixture.means @ A, Q, v),
                residual,
            )
        return best

    def outside(self, x: Array) -> Array:
        """Under gradient flow: L (K, K) with dw_perp,k/dt = sum_i L_ki w_perp,i, in units of the larger rate."""
        A, Q, v = self.arrays(x)
        equations = Equations(self.inner.mixture, self.network, self.sgd, PATH)
        if not equations.step.closed:  # a response by regression needs weights that point there
            Q = Q + 1e-8 * np.abs(Q).max() * np.eye(len(v))
        (pull,) = equations.pulls(A[None], Q[None], v)
        return np.asarray(-(self.sgd.eta / self.unit) * (pull + self.sgd.kappa * np.eye(len(v))))

    def modes(self, x: Array, J: Array) -> tuple[npt.NDArray[np.complex128], int]:
        """Eigenvalues of the linearised dynamics, by falling real part, and the number of zero modes."""
        values = np.linalg.eigvals(J).astype(np.complex128)
        if self.projected:
            alone = np.linalg.eigvals(self.outside(x))
            i, j = np.triu_indices(len(alone))
            values = np.concatenate([values, alone[i] + alone[j]])
        moving = np.abs(values) > _ZERO * np.abs(values).max()
        order = np.argsort(-values[moving].real, kind="stable")
        return values[moving][order] * self.unit, int((~moving).sum())


def _settle(system: _System, y: Array, t: float, rate: float) -> tuple[Array, float, bool]:
    """The full state after following the flow until all rates are below `rate` or for the time t, and the time used.

    BDF with the exact Jacobian: partially specialised states creep along nearly flat valleys for times of 1e6.
    """
    from scipy.integrate import solve_ivp

    flow, coordinates, unit = system.flow, system.flow.coordinates, system.unit

    def F(_: float, y: Array) -> Array:
        return flow.rates(*coordinates.unpack(y))

    def quiet(time: float, y: Array) -> float:
        return float(np.abs(F(time, y)).max() - rate)

    limit = _GROWN * max(1.0, float(np.abs(y).max()))

    def grown(_: float, y: Array) -> float:
        return limit - float(np.abs(y).max())

    quiet.terminal = grown.terminal = True  # type: ignore[attr-defined]
    options: dict[str, Any] = {"method": "RK45"}
    if len(y) <= _STIFF:
        options = {"method": "BDF"}
        if flow.tangents is not None:
            options["jac"] = lambda _, y: flow.linear(*coordinates.unpack(y), *flow.directions)
    end, reached, status = y, 0.0, -1
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"), suppress(ValueError):  # NaN in the Jacobian
        run = solve_ivp(F, (0, t), y, rtol=1e-6, atol=1e-8, events=(quiet, grown), **options)
        end, reached, status = run.y[:, -1], float(run.t[-1]), run.status
    if status < 0 or not np.abs(end).max() < limit:
        A, Q, v = coordinates.unpack(end)
        raise FixedPointError(
            f"the flow does not come to rest: after t = {reached / unit:.3g}, |Q| <= {np.abs(Q).max():.3g} and |v| <= "
            f"{np.abs(v).max():.3g}, and they grow; lower lr (now {system.sgd.lr:g}) or add weight_decay",
            OrderParameters.derivative(system.mixture.means @ A, Q, v),
            float(np.abs(F(0.0, end)).max()),
        )
    return end, reached, status == 1


def path(
    mixture: Mixture, network: TwoLayer, sgd: LearningRule, state: OrderParameters, times: npt.ArrayLike
) -> list[OrderParameters]:
    """The states at increasing times (n,), t = n/D, of learning from `state` at time 0: `integrate` without errors.

    By LSODA, which turns to an implicit method with the exact Jacobian where the equations are stiff; relative errors
    of 1e-6 a step.  IntegrationError if the solution blows up.
    """
    from scipy.integrate import solve_ivp

    grid = increasing_times("times", times)
    flow = _Flow(mixture, network, sgd, 1.0)
    coordinates = flow.coordinates

    def F(_: float, y: Array) -> Array:
        return flow.rates(*coordinates.unpack(y)) if np.abs(y).max() < _OVERFLOW else np.full_like(y, np.nan)

    start = coordinates.pack(state.projections(mixture), state.Q, state.v)
    options: dict[str, Any] = {"method": "RK45"}
    if len(start) <= _STIFF and flow.tangents is not None:
        options = {"method": "LSODA", "jac": lambda _, y: flow.linear(*coordinates.unpack(y), *flow.directions)}
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # LSODA's way to say that it failed
        run = solve_ivp(F, (0.0, grid[-1]), start, t_eval=grid, rtol=1e-6, atol=1e-8, **options)
    states = []
    for y in run.y.T:
        A, Q, v = coordinates.unpack(y)
        states.append((mixture.means @ A, _possible(A, Q), v))
    if run.status < 0 or len(states) < len(grid):
        last = float(run.t[-1]) if len(run.t) else 0.0
        raise IntegrationError(
            f"the integration stopped at t = {last:.6g} of {grid[-1]:.6g}: the state blows up; lower lr (now "
            f"{sgd.lr:g}) or add weight_decay",
            last,
            OrderParameters.derivative(*states[-1]) if states else state,
        )
    return [OrderParameters(*each) for each in states]


def _attractor(system: _System, state: OrderParameters, t: float) -> Array:
    """The stable fixed point at the end of the flow from `state`.

    Newton's steps start where all rates are below 1e-6.  They may lead away from there, or to a saddle that the flow
    only passes by: then the flow is followed further, to a tenth of the rates.
    """
    coordinates = system.flow.coordinates
    y = coordinates.pack(state.projections(system.mixture), state.Q, state.v)
    rate, left = _SETTLED, t
    for _ in range(4):
        y, used, quiet = _settle(system, y, left, rate)
        left -= used
        A, Q, v = coordinates.unpack(y)
        reached = OrderParameters(system.mixture.means @ A, Q, v)
        failure: FixedPointError | None = None
        for bury in (False, True) if homogeneity(system.network.activation) else (False,):
            system.start(reached, bury=bury)
            try:
                x = system.solve(system.x0)
            except FixedPointError as error:
                failure = error
                continue
            moved = np.linalg.norm(x - system.x0) / max(1.0, float(np.linalg.norm(system.x0)))
            values, _ = system.modes(x, system.jacobian(x))
            if moved < _NEAR and values.real.max(initial=-np.inf) < 0:
                return x
        if not quiet or left <= 0:
            break
        rate /= 10
    residual = float(np.abs(system.rates(system.x0)).max())
    raise failure or FixedPointError(
        f"the flow has not come to rest after t = {t / system.unit:.6g}: rates are up to {residual:.3g}, and the fixed "
        "point next to it is unstable or far away; follow the flow longer (t), or give it as a guess",
        reached,
        residual,
    )


def _measured(system: _System, x: Array, points: int, **origin: Any) -> FixedPoint:
    """The record of a solution."""
    J, state = system.jacobian(x), system.state(x)
    rates = drift(system.mixture, system.network, system.sgd, state)
    residual = float(np.abs(system.rates(x)).max())
    singular = np.linalg.svd(J, compute_uv=False)
    smallest = float(singular[singular > _ZERO * singular[0]].min())
    # in closed form the error is that of orthant probabilities, which enter at second order in the rates
    rounding = rates.error * (system.unit if rates.method == "closed form" else 1 / system.unit)
    accuracy = (residual + rounding) / smallest
    eigenvalues, zero_modes = system.modes(x, J)
    found = _errors(system.mixture, system.network, state, points)
    return FixedPoint(
        state,
        residual,
        accuracy,
        eigenvalues,
        zero_modes,
        found.pmse,
        found.pmse_error_estimate + accuracy,
        found.classification_error,
        found.error_estimate + accuracy,
        found.tie_probability,
        provenance(
            mixture=system.mixture,
            network=system.network,
            sgd=system.sgd,
            rule=type(system.sgd).__name__,
            origin=origin,
            solver={"method": "Newton, trust region", "residual": _RESIDUAL, "points": points},
        ),
    )


def _errors(mixture: Mixture, network: TwoLayer, state: OrderParameters, points: int) -> Errors:
    """Errors of a state; of clusters that its symmetries exchange, one stands for all."""
    found = orbits(mixture, network, state)
    if len(found) == mixture.clusters:
        return errors(mixture, network, state, tolerance=_TOLERANCE, points=points)
    first = [orbit[0] for orbit in found]
    weights = np.array([mixture.weights[orbit].sum() for orbit in found])
    part = replace(
        mixture,
        means=mixture.means[first],
        labels=mixture.labels[first],
        weights=weights,
        sigma=mixture.sigmas[first],
    )
    return errors(part, network, OrderParameters(state.M[first], state.Q, state.v), tolerance=_TOLERANCE, points=points)


def fixed_points(
    mixture: Mixture,
    network: TwoLayer,
    sgd: LearningRule,
    seeds: Sequence[int],
    *,
    start: Callable[[int], OrderParameters] | None = None,
    D: int = 1000,
    t: float = 1e7,
    good: float = 0.9,
    poor: float = 0.1,
    points: int = _POINTS,
    progress: Callable[[float], None] | None = None,
) -> xr.Dataset:
    """The fixed points that learning ends in from many random states, and how often it ends in each.

    From `start(seed)`, by default `random_state(mixture, network, D, seed)`, for each seed: the flow, then Newton
    (`fixed_point`).  Solutions are one where they are the same function up to the symmetries of the mixture and of the
    activation (`symmetry.equivalent`).

    Returns a dataset along `solution`, the best first: M, Q, v of its first copy; pmse, classification_error and their
    error estimates; residual, leading (eigenvalue), zero_modes, `seed` of the first copy; basin, the fraction of seeds,
    and basin_error, its error (`binomial_error`); `dead`, the neurons without effect, and `kind`.  The kinds follow the
    gain (chance - error)/(chance - oracle): "good" from `good` on, "unspecialised" below `poor`, else "partial"; chance
    is the error of the best constant.  Along `initial` (the seeds): `reached`, the number of the solution, -1 where
    none was found; their fraction is `unfinished`.
    """
    import xarray as xr

    from quenched.numerics.oracle import oracle_error

    names = [integer("seeds", seed) for seed in seeds]
    if not names:
        raise ValueError("seeds must be one or more integers, got none")
    system = _System(mixture, network, sgd)
    draw = start or (lambda seed: _random(mixture, network, D, seed))
    found: list[tuple[FixedPoint, int]] = []
    reached = np.full(len(names), -1)
    for i, seed in enumerate(names):
        try:
            x = _attractor(system, draw(seed), number("t", t, positive=True))
        except FixedPointError:
            x = None
        if x is not None:
            state = system.state(x)
            for number_, (known, _) in enumerate(found):
                if equivalent(mixture, network, known.state, state):
                    reached[i] = number_
                    break
            else:
                reached[i] = len(found)
                found.append((_measured(system, x, points, seed=seed), seed))
        if progress is not None:
            progress((i + 1) / len(names))
    order = sorted(range(len(found)), key=lambda j: found[j][0].classification_error)
    rank = np.full(len(found) + 1, -1)  # the last entry serves -1
    rank[order] = range(len(found))
    reached = rank[reached]
    solutions = [found[j] for j in order]
    fraction = np.array([(reached == j).mean() for j in range(len(solutions))])
    chance = min(float(mixture.weights[mixture.labels == y].sum()) for y in (-1, 1))
    gain_of_oracle = chance - float(oracle_error(mixture))

    def kind(error: float) -> str:
        gain = (chance - error) / gain_of_oracle if gain_of_oracle > 0 else 0.0
        return "good" if gain >= good else "unspecialised" if gain < poor else "partial"

    columns: dict[str, list[Any]] = {
        name: [getattr(point, name) for point, _ in solutions]
        for name in ("pmse", "pmse_error_estimate", "classification_error", "error_estimate", "residual", "leading")
    }
    columns |= {
        "zero_modes": [point.zero_modes for point, _ in solutions],
        "dead": [_dead(point.state) for point, _ in solutions],
        "kind": [kind(point.classification_error) for point, _ in solutions],
        "seed": [seed for _, seed in solutions],
    }
    C, K = mixture.clusters, network.K
    return xr.Dataset(
        {
            "M": (("solution", "cluster", "neuron"), np.array([f.state.M for f, _ in solutions]).reshape(-1, C, K)),
            "Q": (("solution", "neuron", "neuron_"), np.array([f.state.Q for f, _ in solutions]).reshape(-1, K, K)),
            "v": (("solution", "neuron"), np.array([f.state.v for f, _ in solutions]).reshape(-1, K)),
            "basin": ("solution", fraction),
            "basin_error": ("solution", binomial_error(fraction, len(names))),
            "reached": ("initial", reached),
            "unfinished": float((reached < 0).mean()),
        }
        | {name: ("solution", values) for name, values in columns.items()},
        coords={"initial": names},
        attrs=provenance(
            mixture=mixture,
            network=network,
            sgd=sgd,
            rule=type(sgd).__name__,
            start={"D": D, "given": start is not None},
            t=t,
            kinds={"good": good, "poor": poor},
        ),
    )


def _dead(state: OrderParameters) -> int:
    """Neurons whose |v_k| |w_k| is below 1e-4 of the largest."""
    size = np.abs(state.v) * np.sqrt(np.maximum(np.diag(state.Q), 0))
    return int((size <= 1e-4 * max(1e-300, float(size.max()))).sum())
