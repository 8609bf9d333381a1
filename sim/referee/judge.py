"""The referee: theory against simulation over a grid of problems, one verdict, and a report of it.

A cell is one problem at one D: runs from one state are compared with the equations, number by number
(`quenched.sim.referee.compare`).  The p-value of a cell is that of its worst number, times how many there are
(Bonferroni). Over the cells p-values are adjusted after Holm (1979): if theory and simulation agree in truth, some
adjusted p falls below `significance` with at most that probability, however the cells depend on each other.

*Controls* test the power of the referee: they compare the same runs with the equations at learning rates that are a
quarter too large, or in a grid with those of single samples where runs had batches, and must be denied.

The bias <x_D> - x of one order parameter is measured at growing D, until its standard error exceeds it.  It must fall
as 1/D: the equations are then the limit of large D.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from quenched.numerics.course.pieces import Rules, course, joint_mixture, mapped
from quenched.numerics.problem.checks import integer
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.provenance import provenance, records_of
from quenched.numerics.problem.rules import LearningRule, OnlineSGD
from quenched.numerics.problem.schedules import is_constant, scaled
from quenched.numerics.problem.state import Densities, OrderParameters, without_spectrum
from quenched.numerics.two_layer.flow import integrate, random_state
from quenched.sim.backend import Backend, get_backend
from quenched.sim.engines import find_engine
from quenched.sim.fluctuations import moments
from quenched.sim.journal import Journal
from quenched.sim.processes import Work
from quenched.sim.referee.compare import Comparison, compare
from quenched.sim.referee.grid import Case, Grid
from quenched.sim.training import simulate

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["BIAS", "BIASED", "STATE_D", "WRONG", "Cell", "Verdict", "bias_at", "check", "holm", "judge", "power_law"]

Array = npt.NDArray[np.float64]
Report = Callable[[float], None]

_LANES = 64  # simulations side by side on a card: one has too few runs to fill it
STATE_D = 500  # where initial states are drawn
WRONG = 1.25  # times the learning rates, in the controls
BIASED = "Q[1,1]"  # the order parameter whose bias is followed, in the problem
BIAS = Mixture.xor(0.5), TwoLayer(2, "relu"), OnlineSGD(0.5), 5.0  # to this time


@dataclass(frozen=True)
class Cell:
    """What came out of one cell; of a problem that changes in time, its rule is the first.

    `options` are what the rule has beside loss, batch and a rate that stays; `lr` is that of t = 0.  `numbers` were
    compared; `worst` is the one of largest |z|.  `p`: p-value of the cell.  `mean_z2`: mean of z^2, which is
    (S - 1)/(S - 3) where the fluctuations of S runs are as their standard errors say.  `resolution`: the deviation that
    would have been found in half of the numbers, relative to the largest theoretical value of the observable.
    """

    mixture: str
    network: str
    loss: str
    batch: int
    options: str
    lr: float
    D: int
    numbers: int
    worst: str
    t: float
    theory: float
    simulation: float
    standard_error: float
    z: float
    mean_z2: float
    resolution: float
    p: float
    engine: str

    @property
    def problem(self) -> str:
        """The network, and what its rule has beside rates."""
        loss = "" if self.loss == "square" else f", loss {self.loss}"
        batch = "" if self.batch == 1 else f", batch {self.batch}"
        return f"{self.network}{loss}{batch}{f', {self.options}' if self.options else ''}"


@dataclass(frozen=True, eq=False)
class Verdict:
    """Cells, controls, z of all that varies, the cells' p-values after Holm, the bias (D,) and its power of D."""

    grid: Grid
    engine: str
    significance: float
    cells: list[Cell]
    controls: list[Cell]
    z: Array
    adjusted: Array
    bias: xr.Dataset
    seconds: tuple[float, float]  # by the clock, and of all processors together

    @property
    def denied(self) -> list[Cell]:
        """The cells that disagree."""
        return [cell for cell, p in zip(self.cells, self.adjusted, strict=True) if p < self.significance]

    @property
    def missed(self) -> list[Cell]:
        """The controls that were not denied."""
        return [each for each in self.controls if each.p >= self.significance / len(self.controls)]

    @property
    def vanishes(self) -> bool:
        """Whether the bias falls as 1/D, within three standard errors of the exponent."""
        return abs(self.bias.attrs["exponent"] + 1) < 3 * self.bias.attrs["exponent_error"]

    @property
    def agrees(self) -> bool:
        """No cell is denied, every control is, and the bias vanishes."""
        return not self.denied and not self.missed and self.vanishes


def check(grid: Grid, significance: float, processes: int) -> list[Case]:
    """The cases of the grid; ValueError where `judge` cannot do with it."""
    if not 0 < significance < 1:
        raise ValueError(f"significance must lie between 0 and 1, got {significance!r}")
    integer("processes", processes, at_least=1)
    integer("seeds", grid.seeds, at_least=2)
    cases = grid.cases()
    for case, D in product(cases, grid.D):
        integer("D", case.dimension(D), at_least=case.network.K + joint_mixture(case.data).dimensions)
    return cases


def judge(
    grid: Grid,
    *,
    engine: str = "overlaps",
    backend: str = "numpy",
    significance: float = 0.01,
    processes: int = 2,
    progress: Report | None = None,
    journal: Journal | None = None,
) -> Verdict:
    """Simulate and compare every cell of the grid, and follow the bias.

    The equations are solved on `processes` processes, and so are the simulations if the engine is one for any dimension
    and runs on the host; on a card these run side by side from this process.  Another engine runs here, a cell after
    the other, and the bias is then that of NumPy's chain.  Finished parts are kept in `journal`.

    ValueError: bad input.  RuntimeError: a problem cannot be integrated or simulated.
    """
    cases = check(grid, significance, processes)
    large = find_engine(engine).any_dimension
    shared = Work(processes, progress, journal)
    clock = time.perf_counter()
    jobs = _jobs(grid, cases, engine, backend)
    done = _finish(jobs, cases, shared, large, get_backend(backend))
    level = significance / (len(cases) * len(grid.D))
    results = [_judged(grid, case, done, number, level) for number, case in enumerate(cases)]
    points = [done["bias", D][0] for D in grid.bias_D]
    found = [cell for one, _, _ in results for cell in one]
    return Verdict(
        grid,
        _way(engine, backend),
        significance,
        found,
        [control for _, one, _ in results for control in one],
        np.concatenate([z for _, _, z in results]),
        holm(np.array([cell.p for cell in found])),
        _law(grid.bias_D, np.array(points)),
        (time.perf_counter() - clock, sum(spent for _, spent in done.values())),
    )


def _jobs(grid: Grid, cases: Sequence[Case], engine: str, backend: str) -> dict[tuple[str, int], tuple[Any, ...]]:
    """The parts of a verdict by name: the equations of case i, their simulations, and the bias at D."""
    chain = backend if find_engine(engine).any_dimension else "numpy"
    jobs: dict[tuple[str, int], tuple[Any, ...]] = {}
    for i, case in enumerate(cases):
        jobs["theory", i] = grid, case, i * len(grid.D)
    for D in reversed(grid.bias_D):
        jobs["bias", D] = D, max(20, round(grid.bias_runs / D)), chain
    for i, (case, D) in enumerate(product(cases, grid.D)):
        jobs["runs", i] = grid, case, i // len(grid.D) * len(grid.D), case.dimension(D), i, engine, backend
    return jobs


def _finish(
    jobs: dict[tuple[str, int], tuple[Any, ...]], cases: Sequence[Case], work: Work, large: bool, where: Backend
) -> dict[tuple[str, int], tuple[Any, float]]:
    """Do them all, each where it runs well: their results and CPU times."""

    def do(names: Sequence[tuple[str, int]], work: Work) -> dict[tuple[str, int], tuple[Any, float]]:
        return dict(zip(names, work.map(_part, [(name[0], jobs[name]) for name in names]), strict=True))

    first = [("theory", i) for i in _compiling(cases)]
    names = [*first, *(name for name in jobs if name not in first)]
    simulated = [name for name in names if name[0] == "runs" or (large and name[0] == "bias")]
    if large and not where.compiles:
        return do(names, work)
    here = replace(work, processes=_LANES, beside=where.beside) if large else replace(work, processes=1)
    if large:  # all kernels of the card, before any of them runs: to load one, a card waits for those that run
        structures = {each.structure: case for case in cases for each in case.problems(STATE_D)}
        compiling = [(*jobs["runs", 0][-2:], case) for case in structures.values()]
        replace(here, progress=None, journal=None).map(_compile, compiling)
    share = len(simulated) / len(names)
    return do([name for name in names if name not in simulated], work.part(0, 1 - share)) | do(
        simulated, here.part(1 - share, 1)
    )


def holm(p: Array) -> Array:
    """p-values adjusted for their number, step by step from the smallest.

    >>> holm(np.array([0.01, 0.5, 0.02]))
    array([0.03, 0.5 , 0.04])
    """
    order = np.argsort(p)
    steps = np.minimum(1, p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(steps)
    return adjusted


def power_law(x: Array, y: Array, error: Array) -> tuple[float, float, float, float]:
    """b and s of y = b x^s and their standard errors, by weighted least squares; y may be 0 within its errors.

    >>> x = np.array([1.0, 10.0, 100.0])
    >>> b, s, _, _ = power_law(x, -2 / x, np.full(3, 1e-3))
    >>> round(b, 9), round(s, 9)
    (-2.0, -1.0)
    """
    from scipy.optimize import curve_fit

    start = y[0] * x[0], -1.0
    (b, s), covariance = curve_fit(lambda x, b, s: b * x**s, x, y, start, error, absolute_sigma=True)
    b_error, s_error = np.sqrt(np.diag(covariance))
    return float(b), float(s), float(b_error), float(s_error)


def _part(kind: str, job: tuple[Any, ...]) -> tuple[Any, float]:
    """A part of the verdict, and the CPU time it took: of this thread if it runs beside others in this process."""
    alone = threading.current_thread() is threading.main_thread()
    clock = time.process_time if alone else time.thread_time
    parts: dict[str, Callable[..., Any]] = {"theory": _theory, "runs": _runs, "bias": bias_at}
    cpu = clock()
    found = parts[kind](*job)
    return found, clock() - cpu


def _compile(engine: str, backend: str, case: Case) -> None:
    """One step of a case, which compiles and loads all that the others of its structure need."""
    how = _engine(case, engine, backend)
    simulate(case.data, case.network, case.rule, STATE_D, 1 / STATE_D, 2, *how, test_samples=1)


def _compiling(cases: Sequence[Case]) -> list[int]:
    """The first case of each pair of activation and loss.

    Each pair is compiled once and then found on disk.  Workers that start with different pairs compile different code.
    """
    first: dict[tuple[str, str], int] = {}
    for i, case in enumerate(cases):
        first.setdefault((case.network.activation, case.rules[0].loss), i)
    return list(first.values())


def _state(case: Case, number: int) -> OrderParameters | Densities:
    """The initial state of the case whose first cell has this number."""
    return case.start(STATE_D, number)


def _theory(grid: Grid, case: Case, number: int) -> tuple[xr.Dataset, xr.Dataset | None]:
    """The learning curve, at all D, and that of the control if there is one."""
    problem, state = (case.data, case.network), _state(case, number)
    curve = integrate(*problem, case.rule, state, grid.times)
    if not case.control:
        return curve, None
    # the order parameters tell: the classification error, which costs more, is left out
    return curve, integrate(*problem, _wrong(case), state, grid.times, quantities=("pmse",))


def _runs(grid: Grid, case: Case, number: int, D: int, cell: int, engine: str, backend: str) -> xr.Dataset:
    """Simulations of a cell, with seeds of no other."""
    seeds = range(cell * grid.seeds, (cell + 1) * grid.seeds)
    state = _state(case, number)
    samples = None if case.problem is None else case.problem.test_samples
    options: dict[str, Any] = {} if samples is None else {"test_samples": samples}
    how = _engine(case, engine, backend)
    return simulate(case.data, case.network, case.rule, D, grid.times, seeds, *how, state=state, **options)


def _engine(case: Case, engine: str, backend: str) -> tuple[str, str]:
    """Engine and backend of a case: those asked for, or where these refuse it the first on the host that does not."""
    ways = dict.fromkeys([(engine, backend), (engine, "numpy"), ("overlaps", "numpy"), ("vectors", "numpy")])
    problems = case.problems(STATE_D)
    takes = (way for way in ways if find_engine(way[0]).objection(problems, get_backend(way[1])) is None)
    return next(takes, (engine, backend))


def _judged(
    grid: Grid, case: Case, done: dict[tuple[str, int], tuple[Any, float]], number: int, level: float
) -> tuple[list[Cell], list[Cell], Array]:
    """The cells of a case, its control at the last D, and all z."""
    (theory, other), _ = done["theory", number]
    cells, controls, z = [], [], []
    for i in range(len(grid.D)):
        runs, _ = done["runs", number * len(grid.D) + i]
        found = compare(theory.assign_coords(time=runs.time), runs, significance=level)
        about = records_of(runs)["simulation"]
        way = _way(about["engine"], about["backend"])
        cells.append(_cell(case, found, way))
        z.append(_varying(found.table))
        if other is not None and i == len(grid.D) - 1:
            wrong = other.assign_attrs(theory.attrs).assign_coords(time=runs.time)
            controls.append(_cell(case, compare(wrong, runs, significance=level), way))
    return cells, controls, np.concatenate(z)


def _wrong(case: Case) -> Rules:
    """A rule that the runs of the case have to be told from; of several, each."""

    def wrong(rule: LearningRule) -> LearningRule:
        if rule.batch > 1 and case.problem is None:
            return replace(rule, batch=1)
        second = None if rule.second_lr is None else scaled(rule.second_lr, WRONG)
        biases = {name: WRONG * getattr(rule, name) for name in ("bias_lr", "intercept_lr")}
        return replace(rule, lr=scaled(rule.lr, WRONG), second_lr=second, **biases)

    found: Rules = mapped(wrong, case.rule)
    return found


def _options(rule: LearningRule) -> str:
    """What the rule has, in a few words, beside what a cell holds itself."""
    held = {"loss", "batch"} | ({"lr"} if is_constant(rule.lr) else set())
    return ", ".join(words for name, words in rule.words.items() if name not in held)


def _way(engine: str, backend: str) -> str:
    """Engine and backend in a word or two: the chain on the host is the usual one."""
    return engine if (engine, backend) == ("overlaps", "numpy") else f"{engine}, {backend}"


def _cell(case: Case, found: Comparison, engine: str) -> Cell:
    from scipy.special import stdtr

    table, S = found.table, found.seeds
    error = table.standard_error.values
    excess = np.abs(table.simulation.values - table.theory.values) - table.allowance.values
    tail = np.divide(excess, error, out=np.zeros_like(error), where=error > 0).max()
    at = int(np.abs(table.z.values).argmax())
    row = {name: values.values[at] for name, values in table.data_vars.items()}
    scale = table.allowance.values * found.D  # the largest theoretical value of the observable
    shown = (scale > 0) & (error > 0)
    first, pieces = case.rules[0], len(course(case.data, case.rule).pieces)
    return Cell(
        mixture=case.mixture + (f", teacher: {case.teacher}" if case.teacher else ""),
        network=f"{case.network.activation}, K = {case.network.K}",
        loss=first.loss,
        batch=first.batch,
        options=", ".join(filter(None, [_options(first), f"the first of {pieces} pieces" if pieces > 1 else ""])),
        lr=float(first.rates(0.0).eta),
        D=found.D,
        numbers=len(error),
        worst=f"{row['observable']}[{row['index']}]" if row["index"] else str(row["observable"]),
        t=float(row["time"]),
        theory=float(row["theory"]),
        simulation=float(row["simulation"]),
        standard_error=float(row["standard_error"]),
        z=float(row["z"]),
        mean_z2=float((_varying(table) ** 2).mean()),
        resolution=float(np.median(found.threshold * error[shown] / scale[shown])),
        p=float(min(1, len(error) * 2 * stdtr(S - 1, -max(0.0, tail)))),
        engine=engine,
    )


def _varying(table: xr.Dataset) -> Array:
    """z of the numbers that are not the same in all runs and in theory, as the probability of a tie may be."""
    z: Array = table.z.values
    return z[z != 0]


def bias_at(D: int, runs: int, backend: str) -> tuple[float, float, float]:
    """Bias of the followed order parameter at D, its standard error, and the spread of a run."""
    mixture, network, rule, t = BIAS
    state = without_spectrum(random_state(mixture, network, STATE_D, 0))
    found = moments(mixture, network, rule, D, [t], range(runs), state, backend=backend)
    found = found.isel(time=0).sel(component=BIASED)
    spread = math.sqrt(float(found.covariance.sel(component_=BIASED)) / D)
    return float(found.bias) / D, float(found.bias_error) / D, spread


def _law(sizes: Sequence[int], points: Array) -> xr.Dataset:
    """The bias against D and its power law."""
    import xarray as xr

    b, s, b_error, s_error = power_law(np.array(sizes, dtype=np.float64), points[:, 0], points[:, 1])
    mixture, network, rule, t = BIAS
    return xr.Dataset(
        {name: ("D", points[:, i]) for i, name in enumerate(("bias", "bias_error", "spread"))},
        coords={"D": list(sizes)},
        attrs={"coefficient": b, "coefficient_error": b_error, "exponent": s, "exponent_error": s_error}
        | provenance(mixture=mixture, network=network, sgd=rule, t=t, component=BIASED),
    )
