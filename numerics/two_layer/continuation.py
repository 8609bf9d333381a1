"""Fixed points along a parameter: solution curves, their folds, and the errors on them.

A branch of solutions x(mu) of F(x, mu) = 0 is followed in its arc length s (pseudo-arclength continuation, H. B. Keller
1977): a step along the tangent, then Newton's steps on F = 0 in the plane across it.  They converge at a fold too,
where mu turns around.  Lengths are measured after projection on what F determines, which leaves out families of
equivalent solutions (zero modes).  Wherever the branch passes one of the asked values of mu, the equations are solved
there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from quenched.numerics.problem.checks import choice, finite_array, function, integer, number, record
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.provenance import provenance
from quenched.numerics.problem.rules import LearningRule
from quenched.numerics.problem.state import OrderParameters
from quenched.numerics.problem.variables import describing
from quenched.numerics.two_layer.attractor import attractor, random_overlaps
from quenched.numerics.two_layer.fixed_points import (
    POINTS,
    FixedPoint,
    fitting_guess,
    line_count,
    measured,
    overlaps,
    without_biases,
)
from quenched.numerics.two_layer.stationary import FixedPointError, StationaryEquations
from quenched.numerics.two_layer.symmetry import stabiliser

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["PARAMETERS", "curve"]

Array = npt.NDArray[np.float64]
Problem = tuple[Mixture, TwoLayer, LearningRule]

_RANK = 1e-7  # singular values of (dF/dx, dF/dmu) below this fraction of the largest are zero modes
_STEP = 1e-5  # of central differences in mu, relative to the range asked for
_SMALLEST = 1e-5  # arc length step, relative to the first one, at which a branch is given up
_TURN = 0.9  # cosine between tangents below which a step is repeated at half its length
_SYMMETRIC = (1e-6, 1e-5, 1e-4, 1e-3)  # how well a turning point may obey a symmetry that the branch does not
_TURNS = 10  # turning points after which a branch is left
_CORRECTIONS = 8  # of Newton's method, before the step is halved


def _sigma(problem: Problem, value: float) -> Problem:
    mixture, network, rule = problem
    return replace(mixture, sigma=value), network, rule


def _separation(problem: Problem, value: float) -> Problem:
    mixture, network, rule = problem
    return replace(mixture, means=value * mixture.means), network, rule


def _rule(name: str) -> Callable[[Problem, float], Problem]:
    def change(problem: Problem, value: float) -> Problem:
        mixture, network, rule = problem
        if name not in rule.to_dict():
            raise ValueError(f"parameter {name!r} is none of {type(rule).__name__}")
        return mixture, network, type(rule)(**{**rule.to_dict(), name: value})

    return change


PARAMETERS: dict[str, Callable[[Problem, float], Problem]] = {
    "sigma": _sigma,
    "separation": _separation,
    "lr": _rule("lr"),
    "weight_decay": _rule("weight_decay"),
    "second_lr": _rule("second_lr"),
    "second_weight_decay": _rule("second_weight_decay"),
    "label_noise": _rule("label_noise"),
}
"""What can be varied: the problem at a value of it.  "separation" multiplies the means of the mixture."""


@describing
def curve(
    mixture: Mixture,
    network: TwoLayer,
    rule: LearningRule,
    parameter: str,
    values: npt.ArrayLike,
    guess: OrderParameters | None = None,
    *,
    seed: int = 0,
    t: float = 1e7,
    points: int = POINTS,
    progress: Callable[[float], None] | None = None,
) -> xr.Dataset:
    """The branch of fixed points through `values` of a parameter, from a solution at the first of them.

    `parameter`: one of `PARAMETERS`, a field of the mixture or of the learning rule; "separation" multiplies the means.
    `values` (n,): monotonic.  `guess`: near the solution at values[0]; None: where learning from
    `random_state(..., seed=seed)` ends (`fixed_point`).  `points`: as in `fixed_point`.

    Returns a dataset along `point`, in the order of the branch, with the parameter as a coordinate: M, Q, v, with a
    teacher R, and their state_error; pmse, classification_error, their numerical errors pmse_error and
    classification_error_error, tie_probability; residual, leading (eigenvalue), stable, zero_modes; `fold` and
    `pitchfork`.  There is a point for each value, and one at each turning point, which the last two mark.
    At a fold a solution meets an unstable one and both cease to exist: the branch turns back, with one more point for
    each value that it passes again, until it leaves the range.  At a pitchfork it meets its own mirror image and goes
    on with a symmetry that it did not have.

    ValueError: an unknown parameter, values that are not monotonic or that the problem refuses.  FixedPointError: no
    solution at values[0], or a branch that ends (a kink of the equations, a neuron dying) short of the last value.

    >>> from quenched.numerics import GradientFlow
    >>> network, rule = TwoLayer(1, "linear"), GradientFlow(second_lr=0.0)
    >>> curve(Mixture.two_clusters(1.0), network, rule, "sigma", [1.0, 0.5]).classification_error.values.round(6)
    array([0.158655, 0.02275 ])
    """
    record("mixture", mixture, Mixture), record("network", network, TwoLayer), record("rule", rule, LearningRule)
    without_biases(rule)
    choice("parameter", parameter, PARAMETERS), function("progress", progress)
    time, seed, points = number("t", t, positive=True), integer("seed", seed), line_count(points)
    grid = finite_array("values", values, (None,))
    steps = np.diff(grid)
    if not ((steps > 0).all() or (steps < 0).all()):
        raise ValueError(f"values must increase or decrease throughout, got {grid.tolist()}")
    branch = _Branch((mixture, network, rule), parameter, grid)
    first = branch.system(float(grid[0]))
    if guess is None:
        x = attractor(first, random_overlaps(first.mixture, network, 1000, seed), time)
    else:
        # of a state of the given mixture; at another separation, the weights stay
        A = fitting_guess("guess", guess, first).projections(mixture)
        first.start(OrderParameters(first.mixture.references @ A, guess.Q, guess.v))
        x = first.solve(first.x0)
    branch.origin = first
    found: list[tuple[float, FixedPoint, str]] = []

    def add(mu: float, x: Array, turn: str) -> None:
        found.append((mu, measured(branch.system(mu), x, points), turn))
        if progress is not None:
            progress(min(1.0, len(found) / len(grid)))

    add(float(grid[0]), x, "")
    for mu, at, turn in branch.follow(x):
        add(mu, at, turn)
    return _dataset(found, parameter, grid, mixture=mixture, network=network, sgd=rule)


class _Branch:
    """Solutions as points u = (x, mu/scale) of a curve."""

    def __init__(self, problem: Problem, parameter: str, grid: Array) -> None:
        self.problem, self.change, self.parameter, self.grid = problem, PARAMETERS[parameter], parameter, grid
        self.scale = float(abs(grid[-1] - grid[0])) or 1.0
        self.origin: StationaryEquations | None = None
        self._last: tuple[float, StationaryEquations] | None = None

    def system(self, mu: float) -> StationaryEquations:
        """The equations at a value of the parameter; frozen layers keep their weights."""
        if self._last is None or self._last[0] != mu:
            system = StationaryEquations(*self.change(self.problem, mu))
            if self.origin is not None:
                system.continued(self.origin)
            self._last = mu, system
        return self._last[1]

    def rates(self, u: Array) -> Array:
        """F at a point."""
        try:
            system = self.system(float(u[-1] * self.scale))
        except ValueError:  # outside of what the problem allows, such as sigma < 0
            return np.full(len(u) - 1, np.nan)
        return system.rates(u[:-1])

    def jacobian(self, u: Array) -> Array:
        """(dF/dx, dF/dmu), n rows and n + 1 columns."""
        J = self.system(float(u[-1] * self.scale)).jacobian(u[:-1])
        step = np.zeros_like(u)
        step[-1] = _STEP
        above, below = self.rates(u + step), self.rates(u - step)
        if not np.isfinite(below).all():  # this value of the parameter is not allowed
            below, step = self.rates(u), step / 2
        return np.column_stack([J, (above - below) / (2 * step[-1])])

    @staticmethod
    def split(J: Array) -> tuple[Array, Array]:
        """The pseudo-inverse of J and the direction of the branch: the null vector of J that no zero mode of x gives.

        The null space of J holds the zero modes (z, 0) and one vector more, orthogonal to them, which is the tangent.
        """
        U, s, V = np.linalg.svd(J)
        rank = int((s > _RANK * s[0]).sum())
        inverse = (V[:rank].T / s[:rank]) @ U[:, :rank].T
        null = V[rank:]
        tangent = null.T @ null[:, -1]  # the projection of the direction of mu on the null space
        length = float(np.linalg.norm(tangent))
        if length < 1e-9:  # at a fold the tangent has no component along mu: the last singular vector
            tangent, length = null[-1], 1.0
        return inverse, tangent / length

    def correct(self, u: Array, normal: Array) -> tuple[Array, Array] | None:
        """The solution in the plane through u across `normal`, and the tangent there; None if Newton fails."""
        start = u
        for _ in range(_CORRECTIONS):
            F = self.rates(u)
            if not np.isfinite(F).all():
                return None
            inverse, tangent = self.split(self.jacobian(u))
            step = -inverse @ F
            cosine = float(tangent @ normal)
            if abs(cosine) < 0.1:
                return None
            u = u + step
            u = u - tangent * (float((u - start) @ normal) / cosine)
            if np.abs(step).max() < 1e-9:
                return u, tangent
        return None

    def follow(self, x: Array) -> Any:
        """Points (mu, x, fold) of the branch from a solution at the first value on."""
        grid, scale = self.grid, self.scale
        if len(grid) < 2:
            return
        direction = np.sign(grid[1] - grid[0])
        u = np.append(x, grid[0] / scale)
        _, tangent = self.split(self.jacobian(u))
        tangent *= direction * np.sign(tangent[-1])
        gaps = np.abs(np.diff(grid)) / scale
        first = length = float(gaps[0] / max(abs(tangent[-1]), 1e-3))
        low, high = sorted((grid[0] / scale, grid[-1] / scale))
        turns, before = 0, u
        while turns <= _TURNS:
            result = self.correct(u + length * tangent, tangent)
            turned = 0.0 if result is None else float(abs(result[1] @ tangent))
            if result is None or turned < _TURN:
                length /= 2
                if length < _SMALLEST * first:
                    # so close to a pitchfork, the direction is lost
                    if (beyond := self._beyond(before, u, tangent, gaps)) is None:
                        raise self._end(u)
                    turns += 1
                    yield float(u[-1] * scale), u[:-1], "pitchfork"
                    yield from self._passed(u, beyond[0])
                    before, (u, tangent), length = u, beyond, first
                continue
            new, ahead = result
            ahead = ahead if ahead @ tangent > 0 else -ahead
            if tangent[-1] * ahead[-1] >= 0:
                yield from self._passed(u, new)
                before, u, tangent = u, new, ahead
            else:
                turns += 1
                fold = self._fold(u, tangent, new, ahead)
                yield from self._passed(u, fold)
                if (beyond := self._beyond(u, fold, tangent, gaps)) is not None:
                    yield float(fold[-1] * scale), fold[:-1], "pitchfork"
                    yield from self._passed(fold, beyond[0])
                    before, (u, tangent) = fold, beyond
                else:
                    yield float(fold[-1] * scale), fold[:-1], "fold"
                    yield from self._passed(fold, new)
                    before, u, tangent = fold, new, ahead
            if not low - 1e-12 < u[-1] < high + 1e-12 or abs(u[-1] - grid[-1] / scale) < 1e-12:
                return
            if turned > 0.99:
                length *= 1.5
            # not over many values at once
            length = min(length, 4 * float(gaps.mean()) / max(abs(tangent[-1]), 1e-3))
        raise self._end(u)

    def _end(self, u: Array) -> FixedPointError:
        """Why the branch is not followed further."""
        return FixedPointError(
            f"the branch ends at {self.parameter} = {u[-1] * self.scale:.6g}, short of {self.grid[-1]:g}, or turns in "
            "circles there: where the equations have a kink or the state's rank changes, solutions need not go on; "
            "take other values, or start from the other end",
            self.system(float(u[-1] * self.scale)).state(u[:-1]),
            float(np.abs(self.rates(u)).max()),
        )

    def _beyond(self, before: Array, turn: Array, tangent: Array, gaps: Array) -> tuple[Array, Array] | None:
        """The branch beyond a turning point, and its tangent, if a symmetry is gained there; else None.

        The part of the branch after such a point mirrors that before it, and the symmetric solution goes on.
        """

        def order(u: Array, tolerance: float) -> int:
            system = self.system(float(u[-1] * self.scale))
            return len(stabiliser(system.mixture, system.network, system.state(u[:-1]), tolerance=tolerance))

        if not any(order(turn, tolerance) > order(before, tolerance) for tolerance in _SYMMETRIC):
            return None
        u = turn.copy()
        u[-1] += np.sign(tangent[-1]) * 1e-3 * float(gaps.min())
        try:
            u[:-1] = self.system(float(u[-1] * self.scale)).solve(u[:-1])
        except (FixedPointError, ValueError):
            return None
        _, ahead = self.split(self.jacobian(u))
        return u, ahead * np.sign(ahead[-1]) * np.sign(tangent[-1])

    def _passed(self, start: Array, end: Array) -> Any:
        """The asked values between two points of the branch, solved for exactly."""
        grid, scale = self.grid, self.scale
        one, other = start[-1] * scale, end[-1] * scale
        inside = [v for v in grid if min(one, other) - 1e-13 * scale < v <= max(one, other) + 1e-13 * scale]
        inside = [v for v in inside if abs(v - one) > 1e-12 * scale]
        for value in sorted(inside, reverse=bool(other < one)):
            share = (value - one) / (other - one)
            x = start[:-1] + share * (end[:-1] - start[:-1])
            yield float(value), self.system(float(value)).solve(x), ""

    def _fold(self, u: Array, tangent: Array, new: Array, ahead: Array) -> Array:
        """The turning point between two points of the branch: where its tangent has no component along mu."""
        from scipy.optimize import brentq

        chord = (new - u) / np.linalg.norm(new - u)
        ends = {0.0: (u, tangent), 1.0: (new, ahead)}

        def at(s: float) -> tuple[Array, Array]:
            if s not in ends:
                found = self.correct(u + s * (new - u), chord)
                if found is None:  # at a pitchfork two branches cross and Newton's steps fail: the nearest point serves
                    near = min(ends, key=lambda other: abs(other - s))
                    return ends[near]
                ends[s] = found
            return ends[s]

        def slope(s: float) -> float:
            direction = at(s)[1]
            return float(direction[-1] * np.sign(direction @ chord))

        return at(brentq(slope, 0.0, 1.0, xtol=1e-7))[0]


def _dataset(
    found: list[tuple[float, FixedPoint, str]], parameter: str, grid: Array, mixture: Mixture, **problem: Any
) -> xr.Dataset:
    import xarray as xr

    names = ["pmse", "pmse_error", "classification_error", "classification_error_error", "tie_probability"]
    names += ["residual", "state_error", "leading", "stable", "zero_modes"]
    return xr.Dataset(
        {
            **overlaps("point", mixture, np.stack([f.state.M for _, f, _ in found])),
            "Q": (("point", "neuron", "neuron_"), np.stack([f.state.Q for _, f, _ in found])),
            "v": (("point", "neuron"), np.stack([f.state.v for _, f, _ in found])),
            "fold": ("point", np.array([turn == "fold" for _, _, turn in found])),
            "pitchfork": ("point", np.array([turn == "pitchfork" for _, _, turn in found])),
        }
        | {name: ("point", np.array([getattr(f, name) for _, f, _ in found])) for name in names},
        coords={parameter: ("point", np.array([mu for mu, _, _ in found]))},
        attrs=provenance(mixture=mixture, **problem, parameter=parameter, values=grid, point=found[0][1].attrs),
    )
