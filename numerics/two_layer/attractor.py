"""Where the flow of the order parameters ends: followed by implicit methods until it rests, then solved for.

1. The flow is followed until it hardly moves, by BDF with the exact Jacobian: partially specialised states creep along
   nearly flat valleys for times of 1e6.
2. Newton's steps (`stationary`) solve for the fixed point; it must be stable and near.

`path` follows the flow to given times.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from quenched.numerics.problem.checks import increasing_times, record
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.rules import LearningRule
from quenched.numerics.problem.state import OrderParameters, nearest_overlaps, split
from quenched.numerics.two_layer.flow import IntegrationError, random_state
from quenched.numerics.two_layer.stationary import (
    OVERFLOW,
    FixedPointError,
    StationaryEquations,
    VectorField,
    fitting_biases,
)
from quenched.numerics.two_layer.symmetry import homogeneity

__all__ = ["attractor", "path", "random_overlaps"]

Array = npt.NDArray[np.float64]

_SETTLED = 1e-6  # rates, in units of the larger learning rate, at which Newton's steps are tried
_ATTEMPTS = 4  # Newton solutions that are tried, each after the rates have fallen by another factor of 10
_NEAR = 0.3  # relative to the length of the state: the largest distance from the end of the flow to its solution
_STIFF = 220  # unknowns up to which the flow is followed by an implicit method: a step costs their number cubed
_GROWN = 1e3  # growth of the state beyond which the flow counts as divergent
_TOLERANCES = {"rtol": 1e-6, "atol": 1e-8}  # a step: coarse, as the end of the flow is solved for


class _Divergence(ArithmeticError):
    """The Jacobian overflows at the state y at time t."""

    def __init__(self, t: float, y: Array) -> None:
        super().__init__(t, y)
        self.t, self.y = t, y


def random_overlaps(mixture: Mixture, network: TwoLayer, D: int, seed: int) -> OrderParameters:
    """`random_state` of a mixture without a spectrum: overlaps, never densities."""
    return record("state", random_state(mixture, network, D, seed), OrderParameters)


def _rates(field: VectorField, y: Array) -> Array:
    """The drift; NaN beyond overflow, which makes an integrator take a smaller step."""
    return field.rates(*field.coordinates.unpack(y)) if np.abs(y).max() < OVERFLOW else np.full_like(y, np.nan)


def _tangents(field: VectorField, t: float, y: Array) -> Array:
    """The Jacobian of `_rates`."""
    J = field.linear(*field.coordinates.unpack(y), *field.directions)
    if not np.isfinite(J).all():
        raise _Divergence(t, y)
    return J


def _settle(system: StationaryEquations, y: Array, t: float, rate: float) -> tuple[Array, float, bool]:
    """The full state after following the flow until all rates are below `rate` or for the time t, and the time used."""
    from scipy.integrate import solve_ivp

    flow, unit = system.flow, system.unit
    limit = _GROWN * max(1.0, float(np.abs(y).max()))

    def quiet(_: float, y: Array) -> float:
        return float(np.abs(_rates(flow, y)).max() - rate)

    def grown(_: float, y: Array) -> float:
        return limit - float(np.abs(y).max())

    for event in (quiet, grown):
        vars(event)["terminal"] = True
    options: dict[str, Any] = {"method": "RK45"}
    if len(y) <= _STIFF:
        options = {"method": "BDF"}
        if flow.tangents is not None:
            options["jac"] = lambda t, y: _tangents(flow, t, y)
    try:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            run = solve_ivp(lambda _, y: _rates(flow, y), (0, t), y, **_TOLERANCES, events=(quiet, grown), **options)
        end, reached, status = run.y[:, -1], float(run.t[-1]), run.status
    except _Divergence as found:
        end, reached, status = found.y, found.t, -1
    if status < 0 or not np.abs(end).max() < limit:
        A, Q, v = flow.coordinates.unpack(end)
        growth = f"|Q| <= {np.abs(Q).max():.3g} and |v| <= {np.abs(v).max():.3g}, and they grow"
        raise FixedPointError(
            f"the flow does not come to rest: after t = {reached / unit:.3g}, {growth}; lower lr (now "
            f"{system.rule.eta:g}) or add weight_decay",
            OrderParameters.derivative(system.mixture.references @ A, Q, *split(v, system.network.K)),
            float(np.abs(_rates(flow, end)).max()),
        )
    return end, reached, status == 1


def attractor(system: StationaryEquations, state: OrderParameters, t: float) -> Array:
    """The stable fixed point at the end of the flow from `state`, followed for the time t at most, in units of 1/lr.

    Newton's steps start where all rates are below 1e-6.  They may lead away from there, or to a saddle that the flow
    only passes by: then the flow is followed further, to a tenth of the rates.
    """
    coordinates = system.flow.coordinates
    state = fitting_biases("state", state, system.rule)
    y = coordinates.pack(state.projections(system.mixture), state.Q, state.parameters)
    rate, left = _SETTLED, t
    failure: FixedPointError | None = None
    for _ in range(_ATTEMPTS):
        y, used, quiet = _settle(system, y, left, rate)
        left -= used
        A, Q, v = coordinates.unpack(y)
        # a step of the flow has an absolute error, which exceeds the overlaps of weights that have decayed
        reached = OrderParameters(system.mixture.references @ A, nearest_overlaps(A, Q), *split(v, system.network.K))
        failure = None
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
    residual = float(np.abs(system.rates(system.x0)).max(initial=0.0))
    raise failure or FixedPointError(
        f"the flow has not come to rest after t = {t / system.unit:.6g}: rates are up to {residual:.3g}, and the fixed "
        "point next to it is unstable or far away; follow the flow longer (t), or give it as a guess",
        reached,
        residual,
    )


def path(
    mixture: Mixture, network: TwoLayer, rule: LearningRule, state: OrderParameters, times: npt.ArrayLike
) -> list[OrderParameters]:
    """The states at increasing times (n,), t = n/D, of learning from `state` at time 0: `integrate` without errors.

    By LSODA, which turns to an implicit method with the exact Jacobian where the equations are stiff; relative errors
    of 1e-6 a step.  IntegrationError if the solution blows up.
    """
    from scipy.integrate import solve_ivp

    grid = increasing_times("times", times)
    flow = VectorField(mixture, network, rule, 1.0)
    coordinates = flow.coordinates
    state = fitting_biases("state", state, rule)
    start = coordinates.pack(state.projections(mixture), state.Q, state.parameters)
    options: dict[str, Any] = {"method": "RK45"}
    if len(start) <= _STIFF and flow.tangents is not None:
        options = {"method": "LSODA", "jac": lambda _, y: flow.linear(*coordinates.unpack(y), *flow.directions)}
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # LSODA's way to say that it failed
        run = solve_ivp(lambda _, y: _rates(flow, y), (0.0, grid[-1]), start, t_eval=grid, **_TOLERANCES, **options)
    states = []
    for y in run.y.T:
        A, Q, v = coordinates.unpack(y)
        states.append((mixture.references @ A, nearest_overlaps(A, Q), *split(v, network.K)))
    if run.status < 0 or len(states) < len(grid):
        last = float(run.t[-1]) if len(run.t) else 0.0
        raise IntegrationError(
            f"the integration stopped at t = {last:.6g} of {grid[-1]:.6g}: the state blows up; lower lr (now "
            f"{rule.eta:g}) or add weight_decay",
            last,
            OrderParameters.derivative(*states[-1]) if states else state,
        )
    return [OrderParameters(*each) for each in states]
