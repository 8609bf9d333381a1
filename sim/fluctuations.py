"""Fluctuations about the learning curve at finite D, from many runs of the exact chain.

With x = (M, Q, v) the solution of the equations for D -> infinity, a run in dimension D has

    x_D = x + xi/sqrt(D) + O(1/D),    <x_D> = x + b/D + O(1/D^2),    Cov(x_D) = Sigma/D + O(1/D^2)

`moments` measures the bias b and the covariance Sigma as functions of t; the theory of Sigma is
`quenched.numerics.fluctuations`.

On a plateau the fluctuations are what learning starts from.  Where M = 0 is a fixed point at which M grows at the rate
lambda (`growth_rate`), runs leave it when exp(lambda t)/sqrt(D) is of order 1:

    t_learn = ln(D)/(2 lambda) + a random number whose law does not depend on D + o(1)

`learning_times` measures it; the theory of its law is `quenched.numerics.exit_time`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from quenched.numerics.problem.checks import integer, number, record, records, seed_numbers
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.provenance import provenance, state_at
from quenched.numerics.problem.rules import LearningRule
from quenched.numerics.problem.state import OrderParameters, without_spectrum
from quenched.numerics.problem.variables import described
from quenched.numerics.two_layer.drift import Drift, drift
from quenched.numerics.two_layer.exit_times import Threshold
from quenched.numerics.two_layer.flow import integrate
from quenched.numerics.two_layer.fluctuations import component_names, components
from quenched.sim.backend import Backend, get_backend
from quenched.sim.engines import find_engine
from quenched.sim.engines.base import Batch, Overlaps, Problem
from quenched.sim.training import step_counts

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["growth_rate", "learning_times", "log_law", "moments", "plateau"]

Array = npt.NDArray[np.float64]
Report = Callable[[float], None]

_BATCH = 4096  # runs at a time
_ON_A_CARD = 2**18
_NAMED = 5000  # seeds that are named one by one: an attribute of an HDF5 file holds 64 kB
_STILL = 1e-8  # a plateau: the largest time derivative there, relative to Q


def moments(
    mixture: Mixture,
    network: TwoLayer,
    sgd: LearningRule,
    D: int,
    t: npt.ArrayLike,
    seeds: int | Sequence[int],
    state: OrderParameters,
    *,
    backend: str = "numpy",
    progress: Report | None = None,
) -> xr.Dataset:
    """Bias D (<x_D> - x) and covariance D Cov(x_D) of the order parameters over the runs `seeds`, all from `state`.

    Components are M_ak, Q_kl with k <= l, and v_k.  Returns a dataset with the dimensions time, component, component_:
    theory x, bias and its standard error bias_error, covariance and its standard error covariance_error from n
    independent runs, the root of (E[d_i^2 d_j^2] - E[d_i d_j]^2)/n with d = x_D - x.  The chain runs on `backend`.

    Its attributes name the `seeds`, or where a file cannot hold them all, the first, the last and how many `runs`.

    ValueError: bad input, inputs with a spectrum, biases, fewer than two seeds.  DivergenceError: weights overflow.
    """
    import xarray as xr

    steps = step_counts(t, D)
    if sgd.biased or state.b is not None:
        raise ValueError("sgd and state must have no biases: they are not among the components")
    if len(names := seed_numbers(seeds)) < 2:
        raise ValueError(f"seeds must be two or more, got {names}")
    times = np.array(steps) / D
    problem = _problem(mixture, network, sgd, D)
    curve = integrate(mixture, network, sgd, state, times)
    theory = components(*(curve[name].values for name in ("M", "Q", "v")))
    n, (T, dim) = len(names), theory.shape
    first, second, fourth = np.zeros((T, dim)), np.zeros((T, dim, dim)), np.zeros((T, dim, dim))
    where = get_backend(backend)
    together = _BATCH if where.name == "numpy" else _ON_A_CARD
    for start in range(0, n, together):
        chosen = names[start : start + together]
        for i, overlaps in enumerate(_runs(problem, steps, chosen, [state] * len(chosen), where)):
            M, Q, v = overlaps
            d = components(M[:, : mixture.clusters], Q, v) - theory[i]
            first[i] += d.sum(axis=0)
            second[i] += d.T @ d
            fourth[i] += (d**2).T @ d**2
            if progress is not None:
                progress((start + len(chosen) * steps[i] / max(1, steps[-1])) / n)
    mean, product, square = first / n, second / n, fourth / n
    covariance = (product - mean[:, :, None] * mean[:, None, :]) * n / (n - 1)
    variances = np.diagonal(covariance, axis1=1, axis2=2)
    label = component_names(mixture.clusters, network.K)
    return described(
        xr.Dataset(
            {
                "theory": (("time", "component"), theory),
                "bias": (("time", "component"), D * mean),
                "bias_error": (("time", "component"), D * np.sqrt(np.maximum(variances, 0) / n)),
                "covariance": (("time", "component", "component_"), D * covariance),
                "covariance_error": (
                    ("time", "component", "component_"),
                    D * np.sqrt(np.maximum(square - product**2, 0) / n),
                ),
            },
            coords={"time": times, "component": label, "component_": label},
            attrs=provenance(mixture=mixture, network=network, sgd=sgd, initial_state=state, D=D, **_named(names)),
        )
    )


def learning_times(
    mixture: Mixture,
    network: TwoLayer,
    sgd: LearningRule,
    D: int,
    seeds: int | Sequence[int],
    state: OrderParameters | Sequence[OrderParameters],
    *,
    level: float | Threshold,
    t: float,
    resolution: float = 0.25,
    progress: Report | None = None,
) -> Array:
    """When each run has learned: the first time that every neuron has an overlap |M_ak| >= `level`, (seeds,).

    `level` may be a `Threshold` with another observable.  Runs start from `state`, or from one for each seed (such as
    those of `pointing_anywhere`), are looked at every `resolution`, and in between the observable is taken as linear: 0
    where the state is past it.

    ValueError: bad input.  RuntimeError: some runs have not learned by time `t`.
    """
    stride = max(1, round(number("resolution", resolution, positive=True) * D))
    looks = math.ceil(number("t", t, positive=True) * D / stride)
    names = seed_numbers(seeds)
    if not isinstance(level, Threshold):
        level = Threshold(number("level", level, positive=True, at_most=math.inf))
    states = [state] * len(names) if isinstance(state, OrderParameters) else records("state", state, OrderParameters)
    if len(states) != len(names):
        raise ValueError(f"state must be one, or one for each of {len(names)} seeds, got {len(states)}")
    before = level.above(*(np.stack([getattr(one, name) for one in states]) for name in ("M", "Q", "v")))
    found = np.where(before >= 0, 0.0, np.nan)
    steps = [stride * (i + 1) for i in range(looks)]
    problem = _problem(mixture, network, sgd, D)
    for stop, overlaps in zip(steps, _runs(problem, steps, names, states, get_backend("numpy")), strict=True):
        above = level.above(*overlaps)
        new = np.isnan(found) & (above >= 0)
        found[new] = (stop - stride * above[new] / (above - before)[new]) / D
        before = above
        if progress is not None:
            progress(stop / steps[-1])
        if not np.isnan(found).any():
            return found
    raise RuntimeError(
        f"{int(np.isnan(found).sum())} of {len(names)} runs have not reached the level {level.level:g} by t = {t:g} at "
        f"D = {D}: raise t, or lower the level"
    )


def _named(seeds: Sequence[int]) -> dict[str, Any]:
    """The seeds as an attribute that a file can hold."""
    if len(seeds) <= _NAMED:
        return {"seeds": seeds}
    return {"runs": {"first": seeds[0], "last": seeds[-1], "number": len(seeds)}}


def _problem(mixture: Mixture, network: TwoLayer, rule: LearningRule, D: int) -> Problem:
    """What the chain runs; ValueError: it does not, or the components that are followed are those of one output."""
    record("mixture", mixture, Mixture).check_signs()
    problem = Problem(mixture, network, rule, integer("D", D, at_least=mixture.dimensions + network.K))
    if mixture.spectrum is not None:
        raise ValueError(f"mixture must have isotropic inputs, got the spectrum {mixture.spectrum}")
    return problem


def plateau(
    mixture: Mixture, network: TwoLayer, sgd: LearningRule, v: npt.ArrayLike, *, t: float = 1000.0
) -> OrderParameters:
    """The state that weights without any overlap with the means end in, M = 0, from Q = 1 and the readout `v`.

    Overlaps with the weights of a teacher, and biases where some learn, start at 0, too.

    RuntimeError: it still moves after time t, has found the means (M = 0 is then no fixed point), or has decayed to 0.
    """
    K = network.K
    start = OrderParameters(np.zeros((len(mixture.references), K)), np.eye(K), np.asarray(v, dtype=np.float64))
    state = without_spectrum(state_at(integrate(mixture, network, sgd, start, [t])))
    rate = _drift(mixture, network, sgd, state)
    speed = max(float(np.abs(each).max()) for each in rate.arrays().values())
    if (length := np.abs(state.Q).max()) < _STILL:
        raise RuntimeError(f"there is no plateau: by t = {t:g} the weights have decayed to 0, Q is {length:.3g}")
    if speed > _STILL * length:
        raise RuntimeError(f"there is no plateau: after t = {t:g} the order parameters still move at {speed:.3g}")
    return state


def growth_rate(mixture: Mixture, network: TwoLayer, sgd: LearningRule, state: OrderParameters) -> float:
    """lambda, the largest real part of the eigenvalues of d(dA/dt)/dA at `state`: the rate at which overlaps grow.

    A (r, K) are the projections of the weights on the span of the means and a teacher's weights; all else stays.
    Derivatives are central differences of `drift`, whose error, of second order in 1e-4, is about 1e-8 of lambda.
    """
    references, h = mixture.references, 1e-4
    span = np.linalg.svd(references)[2][: np.linalg.matrix_rank(references)]  # beyond it there is nothing to overlap
    references, A = references @ span.T, span @ state.projections(mixture)

    def rate(change: Array) -> Array:
        found = _drift(mixture, network, sgd, replace(state, M=references @ (A + change)))
        return np.asarray(np.linalg.lstsq(references, found.M, rcond=None)[0]).ravel()

    unit = np.eye(A.size).reshape(-1, *A.shape)
    jacobian = np.stack([(rate(h * e) - rate(-h * e)) / (2 * h) for e in unit], axis=1)
    return float(np.linalg.eigvals(jacobian).real.max())


def _drift(mixture: Mixture, network: TwoLayer, rule: LearningRule, state: OrderParameters) -> Drift:
    """The rates; ValueError: the inputs have a spectrum."""
    found = drift(mixture, network, rule, state)
    if not isinstance(found, Drift):
        raise ValueError(f"mixture must have isotropic inputs, got the spectrum {mixture.spectrum}")
    return found


def log_law(times: xr.DataArray) -> tuple[float, float]:
    """Slope of the mean learning time (D, run) against ln D, and its standard error; NaN stands for no run.

    >>> import xarray as xr
    >>> slope, error = log_law(xr.DataArray([[1.0, 3.0], [4.0, 6.0]], coords={"D": [1, 100]}, dims=("D", "run")))
    >>> round(slope * math.log(100), 12)
    3.0
    """
    number = times.notnull().sum("run")
    x, y = np.log(times.D.values), times.mean("run").values
    w = (number / times.var("run", ddof=1)).values
    centre = (w * x).sum() / w.sum()
    spread = (w * (x - centre) ** 2).sum()
    return float((w * (x - centre) * y).sum() / spread), float(1 / np.sqrt(spread))


def _runs(
    problem: Problem, steps: Sequence[int], seeds: Sequence[int], states: Sequence[OrderParameters], backend: Backend
) -> Iterator[Overlaps]:
    """The chain of all seeds, each from its state, after each of the step counts."""
    for one in {id(state): state for state in states}.values():
        one.check(problem.mixture, problem.D)
    kind, which = find_engine("overlaps").on(backend), np.zeros(len(seeds), np.int64)
    run = kind(Batch((problem,), which, seeds, states, backend, "float64"))
    for before, stop in pairwise([0, *steps]):
        with np.errstate(over="ignore", invalid="ignore"):  # looked at just below
            run.advance(stop - run.steps)
        run.require_finite()
        _, overlaps = run.observe(before)
        run.require_finite()
        yield overlaps
