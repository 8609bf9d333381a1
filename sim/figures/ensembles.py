"""Figure `ensembles`: success, time to learn and plateaus of SGD over tens of thousands of initial states.

relu networks on XOR start from random weights and are followed by the exact chain at finite D.  Where a card answers,
a cell of the grid has up to 10^5 networks; on a processor the grid is small.  For D beyond the chain's reach (a step
is 1/D of the time) the learning equations follow a few networks whose initial overlaps are those of dimension D.  The
bias of finite D is measured beside it, on the problem of the referee.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from quenched.numerics.oracle import oracle_error
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.provenance import provenance
from quenched.numerics.problem.rules import OnlineSGD
from quenched.numerics.problem.state import without_spectrum
from quenched.numerics.problem.variables import described
from quenched.numerics.two_layer.attractor import path
from quenched.numerics.two_layer.errors import errors
from quenched.numerics.two_layer.fixed_points import binomial_error
from quenched.numerics.two_layer.flow import random_state
from quenched.sim.backend import get_backend
from quenched.sim.drawing.captions import listed, of_network, of_rule, sizes
from quenched.sim.drawing.style import (
    LEVEL,
    PAGE,
    POINT,
    TIME,
    cues,
    key,
    letters,
    log_ticks,
    marker,
    ordered,
    power_of_ten,
    styled,
)
from quenched.sim.engines import find_engine
from quenched.sim.engines.base import Batch, Problem
from quenched.sim.engines.run import Protocol, run
from quenched.sim.engines.states import States
from quenched.sim.processes import Work
from quenched.sim.referee.judge import BIAS, BIASED, STATE_D, bias_at

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Grid", "caption", "compute", "draw", "ensemble", "sentence"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Grid:
    """Networks of `K` neurons in dimensions `D`, `number` of them in a cell or fewer: `steps` at most in all.

    `limits`: dimensions of the initial states of `followed` networks that the equations follow.  `bias_D` and
    `bias_runs`: where the bias is measured, with so many runs.
    """

    K: tuple[int, ...]
    D: tuple[int, ...]
    number: int
    steps: float
    limits: tuple[int, ...]
    followed: int
    bias_D: tuple[int, ...]
    bias_runs: tuple[int, ...]

    def networks(self, K: int, D: int) -> int:
        """How many are run; a step of K neurons costs as K (K + p)."""
        cost = max(1.0, K * (K + 2) / 24)
        return int(min(self.number, max(self.number / 100, self.steps / (T * D * cost))))


MIXTURE, ACTIVATION, RULE, T = Mixture.xor(0.4), "relu", OnlineSGD(1.5), 120.0
TIMES = np.concatenate([[0.0], np.geomspace(0.5, T, 47)])
SAMPLES, LAST = 800, 3  # test samples of a record; records at the end whose mean is the final error
MARGIN = 0.05  # success: a classification error within this of the oracle's at the end
SMALL = Grid((2, 4, 8), (100, 300), 128, 1e9, (10**6,), 6, (100, 300), (2000, 1000))
FULL = Grid(
    (2, 3, 4, 6, 8, 12, 16),
    (100, 1000, 10_000),
    100_000,
    2e10,
    (10**5, 10**7, 10**9),
    48,
    (100, 1000, 10_000),
    (2**22, 2**22, 2**20),
)


def ensemble(K: int, D: int, number: int, backend: str) -> dict[str, Array]:
    """Times of learning and of leaving the plateau (NaN: never), and the final error, of `number` networks.

    Both are the first record with an error below the oracle's plus MARGIN, and halfway from chance to there.
    """
    where = get_backend(backend)
    network = TwoLayer(K, ACTIVATION)
    problem = Problem(MIXTURE, network, RULE, D)
    states = States.random(MIXTURE, network, D, number, seed=K)
    batch = Batch((problem,), np.zeros(number, np.int64), range(number), states, where, "float64")
    steps = sorted({round(t * D) for t in TIMES})
    kind = find_engine("overlaps").on(where)
    found = run(batch, Protocol(kind, steps, -(-SAMPLES // MIXTURE.clusters), False, where.memory()), diverge=True)
    return _times(found.records["classification_error"], np.array(steps) / D)


def _times(error: Array, times: Array) -> dict[str, Array]:
    """From the errors (S, T); a network that has diverged has NaN and never succeeds."""
    target = float(oracle_error(MIXTURE)) + MARGIN
    final = error[:, -LAST:].mean(axis=1)  # a record has the noise of its test samples

    def first(level: float) -> Array:
        below = error <= level
        return np.where(below.any(axis=1), times[below.argmax(axis=1)], np.nan)

    learned = final <= target
    return {
        "final_error": final,
        "learning_time": np.where(learned, first(target), np.nan),
        "exit_time": first((0.5 + target) / 2),
    }


def _followed(K: int, D: int, seed: int) -> Array:
    """Classification error at TIMES by the equations, from the state of a seed in dimension D."""
    network = TwoLayer(K, ACTIVATION)
    start = without_spectrum(random_state(MIXTURE, network, D, seed))
    states = path(MIXTURE, network, RULE, start, TIMES)
    return np.array([errors(MIXTURE, network, state, tolerance=1e-4).classification_error for state in states])


def _bias(D: int, runs: int, backend: str) -> tuple[float, float]:
    """D times the bias of the referee's order parameter, and its standard error."""
    bias, error, _ = bias_at(D, runs, backend)
    return D * bias, D * error


def compute(work: Work) -> dict[str, xr.Dataset]:
    """The full grid where a card answers, the small one elsewhere."""
    backend = get_backend("auto").name
    return study(FULL if backend == "cupy" else SMALL, backend, work)


def study(grid: Grid, backend: str, work: Work) -> dict[str, xr.Dataset]:
    """All of a grid: the ensembles, networks that the equations follow, and the bias."""
    import xarray as xr

    alone = Work(1, work.part(0.0, 0.6).progress, work.journal)  # one process has the card
    jobs = [(K, D, grid.networks(K, D), backend) for K in grid.K for D in grid.D]
    cells = alone.map(ensemble, jobs)
    middle = 4 if 4 in grid.K else grid.K[0]
    tracks = [(middle, D, seed) for D in grid.limits for seed in range(grid.followed)]
    followed = np.array(work.part(0.6, 0.9).map(_followed, tracks)).reshape(len(grid.limits), grid.followed, -1)
    points = [(D, runs, backend) for D, runs in zip(grid.bias_D, grid.bias_runs, strict=True)]
    bias = np.array(Work(1, work.part(0.9, 1.0).progress, work.journal).map(_bias, points))
    shape, dims = (len(grid.K), len(grid.D)), ("K", "D")
    numbers = np.array([job[2] for job in jobs]).reshape(shape)
    success = np.array([np.isfinite(cell["learning_time"]).mean() for cell in cells]).reshape(shape)
    quartiles = [_quantiles(cell["learning_time"]) for cell in cells]
    bins = np.append(TIMES, np.inf)
    exits = [np.histogram(cell["exit_time"], bins)[0] / len(cell["exit_time"]) for cell in cells]
    attributes = provenance(mixture=MIXTURE, activation=ACTIVATION, sgd=RULE, grid=asdict(grid), samples=SAMPLES)
    main = xr.Dataset(
        {
            "networks": (dims, numbers),
            "success": (dims, success),
            "success_error": (dims, np.sqrt(np.maximum(success * (1 - success), 1 / numbers) / numbers)),
            "learning_time": ((*dims, "quantile"), np.reshape(quartiles, (*shape, 3))),
            "exit_probability": ((*dims, "time"), np.reshape(exits, (*shape, len(TIMES)))),
            "oracle": float(oracle_error(MIXTURE)),
        },
        coords={"K": list(grid.K), "D": list(grid.D), "quantile": [0.25, 0.5, 0.75], "time": TIMES},
        attrs=attributes,
    )
    found = [_times(tracked, TIMES) for tracked in followed]
    shares = np.array([np.isfinite(each["learning_time"]).mean() for each in found])
    limit = xr.Dataset(
        {
            "success": ("D", shares),
            "success_error": ("D", binomial_error(shares, grid.followed)),
            "learning_time": (("D", "quantile"), np.array([_quantiles(each["learning_time"]) for each in found])),
        },
        coords={"D": list(grid.limits), "quantile": [0.25, 0.5, 0.75]},
        attrs=attributes | {"K": middle},
    )
    mixture, network, rule, t = BIAS
    measured = xr.Dataset(
        {"bias": ("D", bias[:, 0]), "bias_error": ("D", bias[:, 1])},
        coords={"D": list(grid.bias_D)},
        attrs=provenance(mixture=mixture, network=network, sgd=rule, t=t, component=BIASED, runs=grid.bias_runs),
    )
    return {"": described(main), "limit": described(limit), "bias": described(measured)}


def _within(share: xr.DataArray, error: xr.DataArray) -> Array:
    """Error bars of a probability, which lies between 0 and 1."""
    return np.minimum(error.values, [share.values, 1 - share.values])


def _quantiles(times: Array) -> Array:
    """Quartiles over the networks that learn."""
    learned = times[np.isfinite(times)]
    return np.quantile(learned, (0.25, 0.5, 0.75)) if len(learned) else np.full(3, np.nan)


@styled
def draw(data: Mapping[str, xr.Dataset]) -> Figure:
    """Success against K, time to learn against D, plateau exits in time, the bias against D.

    Nothing is joined by lines where there is nothing in between.
    """
    main, limit, bias = data[""], data["limit"], data["bias"]
    canvas = Figure(figsize=(PAGE, 5.0), layout="constrained")
    (success, time), (exits, deviation) = canvas.subplots(2, 2)
    letters((success, time, exits, deviation))
    sizes_ = dict(zip(main.D.values.tolist(), ordered(main.sizes["D"]), strict=True))
    for i, (D, cue) in enumerate(sizes_.items()):
        cell = main.sel(D=D)
        shift = 0.12 * (i - (len(sizes_) - 1) / 2)
        success.errorbar(cell.K + shift, cell.success, _within(cell.success, cell.success_error), **cue.point)
        one = cell.sel(K=limit.attrs["K"])
        exits.step(main.time[1:], np.cumsum(one.exit_probability)[1:], where="post", **cue.line)
    widths = dict(zip(main.K.values.tolist(), cues(main.sizes["K"]), strict=True))
    for i, (K, cue) in enumerate(widths.items()):
        low, middle, high = main.learning_time.sel(K=K).transpose("quantile", "D").values
        shift = 1.06 ** (i - (len(widths) - 1) / 2)
        time.errorbar(main.D * shift, middle, [middle - low, high - middle], **cue.point)
    cue = widths[limit.attrs["K"]]
    low, middle, high = limit.learning_time.transpose("quantile", "D").values
    filled = cue.point | {"mfc": cue.colour}
    time.errorbar(limit.D, middle, [middle - low, high - middle], **filled)
    share, error = limit.success[-1:], limit.success_error[-1:]
    success.errorbar([limit.attrs["K"] + 0.3], share, _within(share, error), **POINT | {"color": "0.0"})
    deviation.errorbar(bias.D, bias.bias, bias.bias_error, **POINT | {"color": "0.0"})
    deviation.axhline(float(np.average(bias.bias, weights=bias.bias_error**-2.0)), **LEVEL)
    success.set(xlabel="neurons $K$", ylabel=f"probability of success by $t = {T:g}$", ylim=(-0.05, 1.05))
    time.set(xlabel="dimension $D$", ylabel="time of success $t$", xscale="log", ylim=(0, None))
    exits.set(
        xlabel=TIME, ylabel=f"fraction off the plateau, $K = {limit.attrs['K']}$", xscale="log", ylim=(-0.05, 1.05)
    )
    deviation.set(xlabel="dimension $D$", ylabel=f"$D\\times$ bias of {BIASED}", xscale="log")
    for axes in (time, deviation):
        log_ticks(axes.xaxis, (1, 3))
    names = {D: f"chain, $D = {power_of_ten(D)}$" for D in sizes_}
    at = f"equations from states of $D = {power_of_ten(int(limit.D[-1]))}$"
    success.legend(handles=[*(key(c, names[D], line=False) for D, c in sizes_.items()), marker("0.0", at)])
    exits.legend(handles=[key(c, names[D], point=False) for D, c in sizes_.items()])
    learned = [K for K in widths if bool(main.success.sel(K=K).max() > 0)]
    handles = [key(widths[K], f"chain, $K = {K}$", line=False) for K in learned]
    if bool(limit.learning_time.notnull().any()):
        followed = key(cue, f"equations, $K = {limit.attrs['K']}$", line=False)
        followed.set_markerfacecolor(cue.colour)
        handles.append(followed)
    time.legend(handles=handles)
    return canvas


def caption(data: Mapping[str, xr.Dataset]) -> str:
    """Panels, parameters, runs."""
    main, limit, bias = data[""], data["limit"], data["bias"]
    least, most = int(main.networks.min()), int(main.networks.max())
    number = f"{least}" if least == most else f"{least} to {most}"
    mixture, network, rule, t = BIAS
    runs = listed(json.loads(bias.attrs["runs"]))
    grid = json.loads(main.attrs["grid"])
    return (
        f"Two-layer {ACTIVATION} networks on XOR with means of length 1, σ = {MIXTURE.sigma:g}, {of_rule(RULE)}, from "
        "random states, w_k ~ N(0, 1), v_k ~ N(0, 1/K).  Simulation: the exact finite-D chain at D = "
        f"{sizes(main.D.values)}, {number} networks for each K = {listed(main.K.values)} and D, of the stream of seed "
        f"K, errors measured on {SAMPLES} test samples.  Theory: the equations for D → ∞ from {grid['followed']} "
        f"states of dimension {sizes(limit.D.values)} (seeds 0, 1, ..).  The plateau at the start lasts the longer the "
        f"larger D, as ln D: fewer leave it in time.  (a) Fraction whose error is within {MARGIN:g} of the oracle's, "
        f"{float(main.oracle):.4f}, at t = {T:g} (mean of the last {LAST} records), ± standard error, "
        "shifted sideways; (b) time when it first is, median and quartiles of those that succeed; (c) fraction, of "
        f"all, whose error has fallen half way from chance to there, K = {limit.attrs['K']}; (d) D times the bias of "
        f"{BIASED} at t = {t:g}, ± standard error of {runs} runs (seeds 0, 1, ..): {of_network(network)}, on XOR, σ = "
        f"{mixture.sigma:g}, {of_rule(rule)}, all from the state of seed 0 in dimension {STATE_D}; grey: the mean."
    )


def sentence(data: Mapping[str, xr.Dataset]) -> str:
    """How often networks succeed, and how small the bias is known to be."""
    main, bias = data[""], data["bias"]
    last = main.isel(D=-1)
    table = ", ".join(
        f"{float(p):.4f} ± {float(e):.1g} (K = {int(k)})"
        for k, p, e in zip(last.K, last.success, last.success_error, strict=True)
    )
    least = float((bias.bias_error / bias.D).min())
    return (
        f"relu on XOR, sigma = {MIXTURE.sigma}, lr = {RULE.eta:g}, {int(main.networks.sum()):,} networks; at D = "
        f"{int(last.D):,} the probability of success by t = {T:g} is {table}; the bias is known to {least:.1g}."
    )
