"""Fixed points of the order-parameter equations: from a guess or from random states, their stability, errors, basins.

A fixed point solves F(x) = 0, F the drift in units of the larger learning rate (`stationary`).  Its residual is
computed anew and must be below 1e-10.  Without a guess, the flow is followed from a random state to its end
(`attractor`).

Eigenvalues that vanish belong to families of fixed points with one and the same function: a relu network without decay
can trade w_k -> c w_k against v_k -> v_k/c, and neurons with parallel weights can share a readout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from quenched.numerics.problem.checks import Result, function, integer, number, record, seed_numbers, tolerance
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.provenance import provenance
from quenched.numerics.problem.rules import LearningRule
from quenched.numerics.problem.state import OrderParameters
from quenched.numerics.problem.variables import describing
from quenched.numerics.two_layer.attractor import attractor, random_overlaps
from quenched.numerics.two_layer.drift import drift
from quenched.numerics.two_layer.errors import Errors, errors
from quenched.numerics.two_layer.stationary import RESIDUAL, FixedPointError, StationaryEquations, fitting_biases
from quenched.numerics.two_layer.symmetry import equivalent, orbits

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "POINTS",
    "FixedPoint",
    "Learning",
    "binomial_error",
    "end_of_learning",
    "fitting_guess",
    "fixed_point",
    "fixed_points",
    "line_count",
    "measured",
    "overlaps",
    "without_biases",
]

Array = npt.NDArray[np.float64]

POINTS = 2**17
"""Lines for the classification error: a standard error below 1e-6 for four relu."""

_TOLERANCE = 5e-7  # standard error of the classification error
_DEAD = 1e-4  # of the largest |v_k| |w_k|: neurons below have no effect
_MOST_LINES = 2**30  # for the classification error: hours


@dataclass(frozen=True, eq=False, repr=False)
class FixedPoint(Result):
    """A solution of the stationary equations.

    `state`: M, Q, v.  `residual`: the largest rate there, in units of the larger learning rate.  `state_error`: bound
    on the error of the state, from the residual and the error of the averages, by the smallest nonzero singular value
    of the Jacobian.  `eigenvalues`: of the linearised dynamics, per unit of time, by falling real part, without the
    `zero_modes`, which are counted.  `pmse`, `classification_error`, `tie_probability`; `pmse_error` and
    `classification_error_error` are the numerical errors, which include the effect of `state_error`.  `attrs`: where
    it comes from.
    """

    state: OrderParameters
    residual: float
    state_error: float
    eigenvalues: npt.NDArray[np.complex128]
    zero_modes: int
    pmse: float
    pmse_error: float
    classification_error: float
    classification_error_error: float
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


# --- one


def fixed_point(
    mixture: Mixture,
    network: TwoLayer,
    rule: LearningRule,
    guess: OrderParameters | None = None,
    *,
    seed: int = 0,
    D: int = 1000,
    t: float = 1e7,
    points: int = POINTS,
) -> FixedPoint:
    """A fixed point of the learning equations near `guess`, stable or not.

    From a guess by Newton's steps; where they lead nowhere, by pseudo-transient continuation, and last by the flow from
    the guess, whose end is stable.  Without a guess, the flow is followed from `random_state(mixture, network, D,
    seed)` until all rates are small, or to the time `t` in units of 1/lr.  A layer whose rate is 0 keeps the weights of
    the guess.  `points`: lines by which the classification error is sampled where it must be (`errors`).

    ValueError: `guess` does not fit, the means grow with D, the inputs have a spectrum, or no fixed point can exist.
    FixedPointError: none was found; the message says what to try.

    Two clusters and a linear neuron, v = 1: the weight is that of linear regression, 1/(1 + sigma^2) along the mean.

    >>> from quenched.numerics import GradientFlow
    >>> mixture, network = Mixture.two_clusters(sigma=2.0), TwoLayer(K=1, activation="linear")
    >>> guess = OrderParameters(M=[[1.0], [-1.0]], Q=[[1.0]], v=[1.0])
    >>> found = fixed_point(mixture, network, GradientFlow(second_lr=0.0), guess)
    >>> found.state.M.round(12).tolist(), found.stable, found.eigenvalues.real.round(9).tolist()
    ([[0.2], [-0.2]], True, [-5.0, -8.0])
    """
    points, time = line_count(points), number("t", t, positive=True)
    seed, D = integer("seed", seed), integer("D", D, at_least=1)
    system = StationaryEquations(
        record("mixture", mixture, Mixture), record("network", network, TwoLayer), record("rule", rule, LearningRule)
    )
    if guess is None:
        x = attractor(system, random_overlaps(mixture, network, D, seed), time)
    else:
        x = _from_guess(system, fitting_guess("guess", guess, system), time)
    return measured(system, x, points, guess=guess, seed=seed if guess is None else None)


def fitting_guess(name: str, guess: OrderParameters, system: StationaryEquations) -> OrderParameters:
    """The guess, with biases where they learn.

    ValueError, which names it: it has not the clusters (and teacher) of the mixture and the neurons of the network, or
    it has biases that do not learn.
    """
    record(name, guess, OrderParameters)
    if guess.M.shape != (expected := (len(system.mixture.references), system.network.K)):
        rows = "clusters" if system.mixture.teacher is None else "clusters + teacher neurons"
        raise ValueError(f"{name} must have M of shape ({rows}, K) = {expected}, got {guess.M.shape}")
    return fitting_biases(name, guess, system.rule)


def without_biases(rule: LearningRule) -> None:
    """ValueError: the rule has biases, which solutions are not told apart by, nor followed with."""
    if rule.biased:
        raise ValueError(
            f"rule must have bias_lr = 0 and intercept_lr = 0, got {rule.bias_lr:g} and {rule.intercept_lr:g}: take "
            "`fixed_point` from each state, which solves for them too"
        )


def line_count(points: int) -> int:
    """`points`, within what hours of sampling can use."""
    return integer("points", points, at_least=1, at_most=_MOST_LINES)


def _from_guess(system: StationaryEquations, guess: OrderParameters, t: float) -> Array:
    """By Newton, then by pseudo-transient continuation, then at the end of the flow."""
    system.start(guess)
    try:
        return system.solve(system.x0)
    except FixedPointError as failure:
        if (x := system.relax(system.x0)) is not None:
            return x
        try:
            return attractor(system, guess, t)
        except FixedPointError as other:
            raise FixedPointError(
                f"{failure}. Pseudo-transient steps from the guess do not converge either, nor does the flow: {other}",
                other.state,
                other.residual,
            ) from failure


def measured(system: StationaryEquations, x: Array, points: int, **origin: Any) -> FixedPoint:
    """The record of a solution x; `origin`: what it was found from."""
    J, state = system.jacobian(x), system.state(x)
    rates = drift(system.mixture, system.network, system.rule, state)
    residual = float(np.abs(system.rates(x)).max(initial=0.0))
    # in closed form the error is that of orthant probabilities, which enter at second order in the rates
    rounding = rates.error * (system.unit if rates.method == "closed form" else 1 / system.unit)
    state_error = system.accuracy(J, residual + rounding)
    eigenvalues, zero_modes = system.modes(x, J)
    found = _errors(system.mixture, system.network, state, points)
    return FixedPoint(
        state=state,
        residual=residual,
        state_error=state_error,
        eigenvalues=eigenvalues,
        zero_modes=zero_modes,
        pmse=found.pmse,
        pmse_error=found.pmse_error + state_error,
        classification_error=found.classification_error,
        classification_error_error=found.classification_error_error + state_error,
        tie_probability=found.tie_probability,
        attrs=provenance(
            mixture=system.mixture,
            network=system.network,
            sgd=system.rule,
            origin=origin,
            solver={"method": "Newton, trust region", "residual": RESIDUAL, "points": points},
        ),
    )


def _errors(mixture: Mixture, network: TwoLayer, state: OrderParameters, points: int) -> Errors:
    """Errors of a state; of clusters that its symmetries exchange, one stands for all."""
    plain = mixture.teacher is None and state.b is None  # symmetries are those of networks without biases
    found = orbits(mixture, network, state) if plain else []
    if len(found) in (0, mixture.clusters):
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


# --- many


def binomial_error(fraction: npt.ArrayLike, n: int) -> Array:
    """Error of a fraction of n trials: the standard deviation of the probability given them, its prior uniform.

    That of a beta law, sqrt(q (1 - q)/(n + 3)) with q = (n fraction + 1)/(n + 2): not 0 where all trials agree.

    >>> binomial_error([0.5, 1.0], 2).round(3).tolist()
    [0.224, 0.194]
    """
    q = (n * np.asarray(fraction, dtype=np.float64) + 1) / (n + 2)
    return np.sqrt(q * (1 - q) / (n + 3))


@describing
def fixed_points(
    mixture: Mixture,
    network: TwoLayer,
    rule: LearningRule,
    seeds: int | Iterable[int],
    *,
    start: Callable[[int], OrderParameters] | None = None,
    D: int = 1000,
    t: float = 1e7,
    gains: tuple[float, float] = (0.1, 0.9),
    points: int = POINTS,
    mapped: Callable[..., Iterable[FixedPoint | None]] | None = None,
) -> xr.Dataset:
    """The fixed points that learning ends in from many random states, and how often it ends in each.

    From `start(seed)`, by default `random_state(mixture, network, D, seed)`, for each seed (a number n stands for 0, 1,
    .., n - 1): the flow, then Newton (`fixed_point`).  Solutions are one where they are the same function up to the
    symmetries of the mixture and of the activation (`symmetry.equivalent`).  `mapped` does the seeds: `map` (None), or
    that of an executor, or another that takes a function and its arguments in turn.

    Returns a dataset along `solution`, the best first: M, Q, v of its first copy, and R, the overlaps with a teacher;
    pmse, classification_error and their numerical errors pmse_error, classification_error_error; residual, leading
    (eigenvalue), zero_modes, `seed` of the first copy; basin, the fraction of seeds, and basin_error, its error
    (`binomial_error`); `dead`, the neurons without effect, and `kind`.  The kinds follow the gain
    (chance - error)/(chance - oracle): "unspecialised" below gains[0], "good" from gains[1] on, else "partial"; chance
    is the error of the best constant.  Where a teacher makes the labels, these errors are pmse, that of the oracle 0.
    Along `initial` (the seeds): `reached`, the number of the solution, -1 where none was found; their fraction is
    `unfinished`.

    One linear neuron ends at the oracle of two clusters, Phi(-1/sigma):

    >>> from quenched.numerics import GradientFlow
    >>> found = fixed_points(Mixture.two_clusters(1.0), TwoLayer(1, "linear"), GradientFlow(second_lr=0.0), seeds=2)
    >>> round(found.classification_error.item(), 6), found.basin.item()
    (0.158655, 1.0)
    """
    import xarray as xr

    record("mixture", mixture, Mixture), record("network", network, TwoLayer), record("rule", rule, LearningRule)
    function("start", start), function("mapped", mapped)
    names, size = seed_numbers(seeds), integer("D", D, at_least=1)
    time, points = number("t", t, positive=True), line_count(points)
    levels = _levels(gains)
    without_biases(rule)
    system = StationaryEquations(mixture, network, rule)  # refuses what has no fixed points
    draw = start or (lambda seed: random_overlaps(mixture, network, size, seed))
    states = [fitting_guess(f"start({seed})", draw(seed), system) for seed in names]
    jobs = [
        Learning(mixture, network, rule, state, seed, time, points) for seed, state in zip(names, states, strict=True)
    ]
    found: list[tuple[FixedPoint, int]] = []
    reached = np.full(len(names), -1)
    for i, end in enumerate((mapped or map)(end_of_learning, jobs)):
        if end is not None:
            reached[i] = _number(mixture, network, end, names[i], found)
    judged = "classification_error" if mixture.teacher is None else "pmse"
    order = sorted(range(len(found)), key=lambda j: getattr(found[j][0], judged))
    rank = np.full(len(found) + 1, -1)  # the last entry serves -1
    rank[order] = range(len(found))
    reached = rank[reached]
    fraction = np.array([(reached == j).mean() for j in range(len(found))])
    return xr.Dataset(
        _columns(mixture, network, [found[j] for j in order], levels)
        | {
            "basin": ("solution", fraction),
            "basin_error": ("solution", binomial_error(fraction, len(names))),
            "reached": ("initial", reached),
            "unfinished": float((reached < 0).mean()),
        },
        coords={"initial": list(names)},
        attrs=provenance(
            mixture=mixture,
            network=network,
            sgd=rule,
            start={"D": size, "given": start is not None},
            t=time,
            kinds_of_solutions={"unspecialised": levels[0], "good": levels[1]},
        ),
    )


def _levels(gains: tuple[float, float]) -> tuple[float, float]:
    if not isinstance(gains, (tuple, list)) or len(gains) != 2:
        raise ValueError(f"gains must be two numbers between 0 and 1, got {gains!r}")
    low, high = (tolerance("gains", level, positive=False) for level in gains)
    if low > high:
        raise ValueError(f"gains must increase, got {gains!r}")
    return low, high


@dataclass(frozen=True, eq=False)
class Learning:
    """Learning from `state`, which `seed` has drawn, for the time `t` at most; `points`: as in `fixed_point`."""

    mixture: Mixture
    network: TwoLayer
    rule: LearningRule
    state: OrderParameters
    seed: int
    t: float
    points: int


def end_of_learning(job: Learning) -> FixedPoint | None:
    """The fixed point that learning ends in; None if it does not come to rest at one."""
    system = StationaryEquations(job.mixture, job.network, job.rule)
    try:
        x = attractor(system, job.state, job.t)
    except FixedPointError:  # counted: `unfinished`
        return None
    return measured(system, x, job.points, seed=job.seed)


def _number(
    mixture: Mixture, network: TwoLayer, end: FixedPoint, seed: int, found: list[tuple[FixedPoint, int]]
) -> int:
    """The number of a solution among `found`, where it is put if it is new."""
    for number_, (known, _) in enumerate(found):
        if equivalent(mixture, network, known.state, end.state):
            return number_
    found.append((end, seed))
    return len(found) - 1


def _columns(
    mixture: Mixture, network: TwoLayer, solutions: list[tuple[FixedPoint, int]], levels: tuple[float, float]
) -> dict[str, Any]:
    """The variables along `solution`."""
    chance, least = _bounds(mixture)

    def kind(point: FixedPoint) -> str:
        error = point.classification_error if mixture.teacher is None else point.pmse
        gain = (chance - error) / (chance - least) if chance > least else 0.0
        return "good" if gain >= levels[1] else "unspecialised" if gain < levels[0] else "partial"

    rows, K = len(mixture.references), network.K
    points = [point for point, _ in solutions]
    names = ("pmse", "pmse_error", "classification_error", "classification_error_error", "residual", "leading")
    columns = {name: ("solution", [getattr(point, name) for point in points]) for name in (*names, "zero_modes")}
    return {
        **overlaps("solution", mixture, np.array([point.state.M for point in points]).reshape(-1, rows, K)),
        "Q": (("solution", "neuron", "neuron_"), np.array([point.state.Q for point in points]).reshape(-1, K, K)),
        "v": (("solution", "neuron"), np.array([point.state.v for point in points]).reshape(-1, K)),
        **columns,
        "dead": ("solution", [_dead(point.state) for point in points]),
        "kind": ("solution", [kind(point) for point in points]),
        "seed": ("solution", [seed for _, seed in solutions]),
    }


def _bounds(mixture: Mixture) -> tuple[float, float]:
    """Errors of the best constant and of the best there is; with a teacher, half the variance of its labels and 0."""
    if mixture.teacher is not None:
        from quenched.numerics.lazy.taught import label_moments

        moments, P = label_moments(mixture), mixture.weights
        return float(P @ moments.square - (P @ moments.mean) ** 2) / 2, 0.0
    from quenched.numerics.oracle import oracle_error

    chance = min(float(mixture.weights[mixture.labels == y].sum()) for y in (-1, 1))
    return chance, float(oracle_error(mixture))


def overlaps(along: str, mixture: Mixture, M: Array) -> dict[str, Any]:
    """The variables M of the means and, where there is one, R of a teacher, from the overlaps (n, R, K) of both."""
    C = mixture.clusters
    found: dict[str, Any] = {"M": ((along, "cluster", "neuron"), M[:, :C])}
    return found if mixture.teacher is None else found | {"R": ((along, "teacher", "neuron"), M[:, C:])}


def _dead(state: OrderParameters) -> int:
    """Neurons whose |v_k| |w_k| is below `_DEAD` of the largest."""
    size = np.abs(state.v) * np.sqrt(np.maximum(np.diag(state.Q), 0))
    return int((size <= _DEAD * max(1e-300, float(size.max()))).sum())
