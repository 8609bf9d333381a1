"""`quenched dynamics`: the learning curve of one network, in theory and by simulation."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from quenched.numerics.course.pieces import Mixtures, Rules, course, joint_mixture, mapped, timed
from quenched.numerics.problem.checks import integer, number
from quenched.numerics.problem.learner import option
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.rules import LearningRule, OnlineSGD
from quenched.numerics.problem.schedules import rate_text
from quenched.numerics.problem.specification import Specification
from quenched.numerics.problem.state import Densities, OrderParameters
from quenched.sim.cli import problems
from quenched.sim.cli.options import Files, command, part, refuse
from quenched.sim.cli.plot import read
from quenched.sim.cli.terminal import kept, print_table, progress

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["VERB"]

_TIMES = 101, 21  # of the curve, and of simulations, where none are named
_ROWS = 5  # of the times, those in the table
_SAVED = 5.0  # seconds between two checkpoints of a simulation


@dataclass(frozen=True)
class Run:
    """How long, from where, and what beside the equations."""

    gradient_flow: bool = option(False, "The limit lr -> 0, in time lr t.")
    t: float = option(120.0, "End, in units of D steps of SGD.")
    D: int | None = option(None, "Input dimension (default: 1000, or that of the covariance of --data).")
    initial: int = option(8, "Seed of the initial state.")
    readout_scale: float = option(1.0, "Initial v_k ~ N(0, scale^2/K).")
    state: Path | None = option(None, "Start where the learning curve of this NetCDF file ends, instead.")
    simulate: bool = option(False, "Add simulations from the same initial state.")
    seeds: int = option(5, "Number of simulations.")
    plot: Path | None = option(None, "Figure to write.")
    problem: Specification | None = part()

    def of(self, problem: Specification) -> Run:
        """What a specification says of time, dimension and initial state."""
        changes: dict[str, Any] = {"problem": problem}
        if problem.t is not None:
            changes["t"] = float(problem.t[-1])
        for name in ("D", "initial", "readout_scale"):
            if (said := getattr(problem, name)) is not None:
                changes[name] = said
        return replace(self, **changes)

    def times(self, given: Collection[str], number: int) -> npt.NDArray[np.float64]:
        """The times of a specification, where it has several; else as many up to the end as are asked for."""
        named = None if self.problem is None or "t" in given else self.problem.t
        return np.linspace(0, self.t, number) if named is None or len(named) == 1 else named

    def names(self, given: Collection[str]) -> Sequence[int]:
        """The seeds of the simulations."""
        if self.problem is None or self.problem.seeds is None or "seeds" in given:
            return range(integer("seeds", self.seeds, at_least=1))
        return self.problem.seeds


def dynamics(
    problem: Specification | None,
    inputs: problems.NoisyInputs,
    network: TwoLayer,
    rule: Rules,
    run: Run,
    files: Files,
    given: Collection[str],
) -> None:
    """Integrate the learning curve of a two-layer network, and simulate it.

    Columns: the time t in units of D steps; pmse, half the mean square error; the classification error, with ties
    counted half.  The last lines are the mean over simulations and the error of the oracle, the least of any rule.
    Where a specification names several mixtures, one after the other: the task that is learned from t on, and both for
    each of the tasks.
    With --output the whole curve is written as .nc or .csv, and that of simulations beside it as STEM_simulation.

    Example:  quenched dynamics
    Example:  quenched dynamics --mixture xor --sigma 0.4 --K 4 --initial 8 --simulate --plot run.png
    Example:  quenched dynamics --state run.nc -o longer.nc
    Example:  quenched dynamics --lr "0.5/(1 + t/50)" --weight-decay 0:0.1,60:0.1,60:0 --simulate
    Example:  quenched dynamics problem.toml --K 8 --simulate
    Example:  quenched dynamics --data digits --covariance shared --lr 0.1 --initial 0 --simulate
    Example:  quenched dynamics --mixture two-clusters --spectrum mp:0.5 --teacher erf:2 --activation erf -o run.csv
    """
    files.check(given)
    _check(inputs, run, given)
    _require_learning([each for each, _ in timed("rule", rule, LearningRule)])  # type: ignore[type-abstract]
    D = None if run.D is None else integer("D", run.D, at_least=1)
    number("t", run.t, positive=True), integer("initial", run.initial)
    times, seeds = run.times(given, _TIMES[0]), run.names(given)
    targets = _prepare(files, run)
    mixture, D = _mixture(inputs, run, D)
    rule = mapped(problems.gradient_flow, rule) if run.gradient_flow else rule
    state = _start(mixture, network, D, run, given)
    asked = _asked(problem, D, run.times(given, _TIMES[1]), seeds)
    if run.simulate:
        _require_simulation(mixture, network, rule, asked)
    with kept("dynamics", next(iter(targets), run.plot), files.resume) as journal:
        from quenched.sim.processes import Work

        with progress("integrating") as report:
            # the rates of a power law are of all sizes
            method = "DOP853" if problem is None or problem.power_law is None else "linear"
            job = mixture, network, rule, state, times, method
            theory = Work(1, report, journal).once(_integrated, *job)
        runs = None
        if run.simulate:
            runs = _simulated((mixture, network, rule), asked, state, journal.file("simulation.nc"))
        oracle = _oracle(mixture)
        _table(theory, runs, oracle)
        _write(theory, runs, oracle, files, run.plot)


def _require_learning(rules: Sequence[LearningRule]) -> None:
    """ValueError: nothing moves, whatever the rule."""
    if all(rule.idle for rule in rules):
        lr = rate_text(rules[0].lr)
        frozen = f" and frozen {','.join(rules[0].frozen)}" if rules[0].frozen else ""
        raise ValueError(f"lr must be > 0 where --second-lr is not given or 0: nothing is learned, got {lr}{frozen}")


def _check(inputs: problems.NoisyInputs, run: Run, given: Collection[str]) -> None:
    """ValueError for options that do not go together."""
    inputs.check(given)
    if run.gradient_flow:
        refuse(given, "gradient_flow", problems.NOISE, "it has no effect at first order in lr")
        refuse(given, "gradient_flow", ("simulate",), "a simulation has steps of finite size")
    refuse(given, "state", ("initial", "readout_scale"), "the state is that of the file")
    if "seeds" in given and not run.simulate:
        raise ValueError("--seeds is the number of simulations: add --simulate")


def _prepare(files: Files, run: Run) -> list[Path]:
    """The data files, made possible, and those of the simulation with them."""
    from quenched.sim.files import DATA, PICTURES, prepare

    data = [path for path in files.output if path.suffix.lower() not in PICTURES]
    simulated = [_beside(path) for path in data] if run.simulate else []
    pictures = [path for path in files.output if path.suffix.lower() in PICTURES]
    prepare("output", [*data, *simulated], DATA, force=files.force)
    prepare("plot", [*([] if run.plot is None else [run.plot]), *pictures], PICTURES, force=files.force)
    return [*data, *pictures]


def _beside(path: Path) -> Path:
    return path.with_stem(f"{path.stem}_simulation")


def _mixture(inputs: problems.NoisyInputs, run: Run, D: int | None) -> tuple[Mixtures, int]:
    """The inputs at their dimension: with a spectrum whose nodes are the directions where they are simulated."""
    if isinstance(inputs.given, tuple):
        size = D or joint_mixture(inputs.given).default_dimension
        return mapped(lambda mixture: _oriented(mixture, size, run.initial), inputs.given), size
    mixture = inputs.build(inputs.sigma)
    D = D or mixture.default_dimension
    if inputs.spectrum is not None:
        mixture = problems.with_spectrum(mixture, inputs.spectrum, D if run.simulate else None)
    if inputs.teacher is not None:
        mixture = problems.taught(mixture, inputs.teacher)
    return _oriented(mixture, D, run.initial), D


def _oriented(mixture: Mixture, D: int, seed: int) -> Mixture:
    """With the directions of the means drawn, where each node of the spectrum is one direction."""
    law = mixture.spectrum
    if law is None or law.alignment is not None or law.nodes != D:
        return mixture
    return replace(mixture, spectrum=law.oriented(mixture.dimensions, seed))


def _start(
    mixture: Mixtures, network: TwoLayer, D: int, run: Run, given: Collection[str]
) -> OrderParameters | Densities:
    from quenched.numerics.problem.provenance import state_at
    from quenched.numerics.two_layer.flow import random_state

    if run.state is not None:
        found = read(run.state)
        return state_at(found, float(found.time[-1]) if "time" in found.dims else None)
    named = None if run.problem is None or {"initial", "readout_scale"} & set(given) else run.problem.state
    if named is not None:
        return named
    return random_state(mixture, network, D, run.initial, readout_scale=run.readout_scale)


def _integrated(
    mixture: Mixtures, network: TwoLayer, rule: Rules, state: OrderParameters | Densities, t: np.ndarray, method: str
) -> xr.Dataset:
    from quenched.numerics.two_layer.flow import integrate

    return integrate(mixture, network, rule, state, t, method=method)


def _simulated(
    problem: tuple[Mixtures, TwoLayer, Rules],
    asked: dict[str, Any],
    state: OrderParameters | Densities,
    checkpoint: Path | None,
) -> xr.Dataset:
    """Simulations, from their last checkpoint on where there is one."""
    from quenched.sim.training import simulate

    with progress("simulating") as report:
        return simulate(
            *problem, **asked, state=state, checkpoint=checkpoint, checkpoint_every=_SAVED, progress=report,
        )  # fmt: skip


def _asked(problem: Specification | None, D: int, t: npt.NDArray[np.float64], seeds: Sequence[int]) -> dict[str, Any]:
    """What is simulated: on vectors, unless a specification names another engine."""
    said = {} if problem is None else {name: getattr(problem, name) for name in ("engine", "test_samples")}
    named = {name: value for name, value in said.items() if value is not None}
    return {"D": D, "t": t, "seeds": seeds, "engine": "vectors"} | named


def _require_simulation(mixture: Mixtures, network: TwoLayer, rule: Rules, asked: dict[str, Any]) -> None:
    """ValueError, before anything is computed, for what cannot be simulated."""
    from quenched.sim.training import SimulationOptions, choose_engine, problems_of, step_counts

    pieces = course(mixture, rule)
    D = integer("D", asked["D"], at_least=pieces.joint.dimensions + network.K)
    step_counts(asked["t"], D)
    problems = problems_of(pieces, network, D)
    choose_engine(asked["engine"], "auto", problems, SimulationOptions(), len(asked["seeds"]))


def _oracle(mixture: Mixtures) -> float | None:
    """Error of the Bayes rule, None where it is not known how to compute it, or where there are several."""
    from quenched.numerics.oracle import oracle_error

    if not isinstance(mixture, Mixture):
        return None
    return float(oracle_error(mixture)) if problems.has_oracle(mixture) else None


def _table(theory: xr.Dataset, runs: xr.Dataset | None, oracle: float | None) -> None:
    tasks = range(theory.sizes.get("task", 0))

    def row(name: str, at: xr.Dataset) -> list[str]:
        pairs = np.stack([np.atleast_1d(at.pmse), np.atleast_1d(at.classification_error)], axis=1)
        return [name, *([str(int(at.learned))] if tasks else []), *(f"{value:.6f}" for value in pairs.ravel())]

    shown = np.unique(np.linspace(0, theory.sizes["time"] - 1, _ROWS).round().astype(int))
    rows = [row(f"{float(theory.time[i]):g}", theory.isel(time=i)) for i in shown]
    if runs is not None:
        end = runs.isel(time=-1)
        rows.append(row(f"{float(end.time):g} simulated", end.mean("seed")))
    if oracle is not None:
        rows.append(["oracle", "", f"{oracle:.6f}"])
    several = ["learned", *(f"{name} {i}" for i in tasks for name in ("pmse", "error"))]
    print_table(["t", *(several if tasks else ["pmse", "classification error"])], rows)


def _write(
    theory: xr.Dataset, runs: xr.Dataset | None, oracle: float | None, files: Files, picture: Path | None
) -> None:
    from quenched.sim.files import PICTURES, save

    pictures = [path for path in files.output if path.suffix.lower() in PICTURES]
    for path in files.output:
        if path not in pictures:
            save(theory, path)
            if runs is not None:
                save(runs, _beside(path))
    if picture is not None or pictures:
        from quenched.sim.drawing import plot

        title = plot.title(theory)
        drawn = plot.dynamics({title: theory}, None if runs is None else {title: runs}, oracle)
        for path in [*([] if picture is None else [picture]), *pictures]:
            save(drawn, path)


VERB = command(
    dynamics,
    changing=True,
    inputs=problems.NoisyInputs(),
    network=TwoLayer(4, "relu"),
    rule=OnlineSGD(0.5),
    run=Run(),
    files=Files(),
)
