"""Simulations over a grid of mixtures x networks x learning rules x D x seeds, on all cores or a cluster, never lost.

A cell of the grid is one problem with one seed (or `batch` of them).  Cells that differ in numbers only and take little
time alone are run together, as one batch of an engine: a job.  Jobs are computed by any `concurrent.futures.Executor`,
and the program that started them writes each cell to a Zarr store (`quenched.sim.results`).  A cell depends on nothing
but its parameters (with engine "vectors", on the cells beside it by rounding at most), so whatever kills a run, the
resumed one ends with the same bits.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Executor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, fields
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from quenched.numerics.averages.activations import activation_functions
from quenched.numerics.problem.checks import (
    function,
    increasing_times,
    integer,
    number,
    path,
    record,
    records,
    seed_numbers,
)
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.provenance import provenance
from quenched.numerics.problem.rules import LearningRule
from quenched.numerics.problem.variables import described
from quenched.numerics.two_layer.flow import random_state
from quenched.sim.backend import Backend, get_backend
from quenched.sim.engines import find_engine
from quenched.sim.engines.base import Batch, Engine, Problem
from quenched.sim.engines.run import Protocol, run
from quenched.sim.processes import local_processes
from quenched.sim.results import DONE, OVERFLOW, UNFINISHED, Index, Store, difference
from quenched.sim.training import step_counts

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Sweep", "SweepError", "sweep"]

Values = dict[str, npt.NDArray[Any]]

_DIMS = ("mixture", "network", "rule", "D", "seed")
_OBSERVABLES: dict[str, tuple[str, ...]] = {
    "pmse": (),
    "classification_error": (),
    "tie_probability": (),
    "M": ("cluster", "neuron"),
    "Q": ("neuron", "neuron_"),
    "v": ("neuron",),
}
_BREAKS = 3  # pools of processes that may die in a row without one cell finished in between
_PATIENCE = 10  # seconds that a scheduler has to answer


class SweepError(RuntimeError):
    """A sweep had to stop; what was finished is in its store."""


class _Cell(NamedTuple):
    """A problem and the seeds that it is run with."""

    problem: Problem
    seeds: list[int]


class _Task(NamedTuple):
    """What is done with every cell, as in `Sweep`; `loss`: whether the mean of one is asked for."""

    engine: str
    t: npt.NDArray[np.float64]
    test_samples: int
    initial: int | None
    readout_scale: float
    backend: str
    loss: bool


@dataclass(frozen=True, eq=False)
class Sweep:
    """What a sweep computes: `simulate` at every point of mixtures x networks x rules x D x seeds, at the times `t`.

    `mixtures`, `networks`, `rules`: records by name, or a list of them (named 0, 1, ..), or one; `D`: one or more;
    `seeds`, `engine`, `test_samples` as in `simulate`.  A seed starts from `random_state(mixture, network, D, seed,
    readout_scale=...)`; if `initial` is given, all start from the state of that seed.  `batch`: how many seeds are
    one cell, in the store as a whole or not at all.

    ValueError: what `simulate` would refuse at a point of the grid.

    >>> from quenched.numerics import OnlineSGD
    >>> Sweep([Mixture.xor(0.4)], [TwoLayer(4, "relu")], [OnlineSGD(0.5)], D=[100, 5], seeds=[0], t=[1.0])
    Traceback (most recent call last):
    ...
    ValueError: D must be an integer >= 6 = p + K for mixture '0' and network '0', got 5
    """

    mixtures: Mapping[str, Mixture] | Sequence[Mixture]
    networks: Mapping[str, TwoLayer] | Sequence[TwoLayer]
    rules: Mapping[str, LearningRule] | Sequence[LearningRule]
    D: int | Sequence[int]
    seeds: int | Sequence[int]
    t: npt.ArrayLike
    engine: str = "overlaps"
    test_samples: int = 10_000
    initial: int | None = None
    readout_scale: float = 1.0
    batch: int = 1

    def __post_init__(self) -> None:
        mixtures: dict[str, Mixture] = _named("mixtures", self.mixtures, Mixture)
        networks: dict[str, TwoLayer] = _named("networks", self.networks, TwoLayer)
        rules: dict[str, LearningRule] = _named("rules", self.rules, LearningRule)
        times = increasing_times("t", self.t)
        checked: dict[str, Any] = {
            "mixtures": mixtures,
            "networks": networks,
            "rules": rules,
            "D": _dimensions(self.D),
            "seeds": seed_numbers(self.seeds),
            "t": times,
            "test_samples": integer("test_samples", self.test_samples, at_least=1),
            "initial": None if self.initial is None else integer("initial", self.initial),
            "readout_scale": number("readout_scale", self.readout_scale),
            "batch": integer("batch", self.batch, at_least=1),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        kind = find_engine(self.engine)
        *_, dimensions, seeds = self.axes()
        if len(seeds) % self.batch:
            raise ValueError(f"batch must divide the number of seeds, {len(seeds)}, got {self.batch}")
        for D in dimensions:
            step_counts(times, D)
            for (m, mixture), (n, network) in product(mixtures.items(), networks.items()):
                if (least := mixture.dimensions + network.K) > D:
                    raise ValueError(
                        f"D must be an integer >= {least} = p + K for mixture {m!r} and network {n!r}, got {D}"
                    )
        for network in networks.values():
            activation_functions(network.activation)
        for rule in rules.values():
            rule.check_until(float(times[-1]))
        self.place(kind, "numpy")

    def place(self, kind: type[Engine], backend: str | Backend) -> Backend:
        """Where this engine runs all of the grid.  ValueError: it, or its form there, cannot run a point of it."""
        _, networks, rules, dimensions, _ = self.axes()
        points: dict[str, list[Problem]] = {
            name: [Problem(mixture, network, rule, dimensions[0]) for network, rule in product(networks, rules)]
            for name, mixture in _named("mixtures", self.mixtures, Mixture).items()
        }
        replicas = math.prod(len(axis) for axis in self.axes())
        where = kind.place(backend, [each for problems in points.values() for each in problems], replicas)
        for name, problems in points.items():
            if reason := kind.objection(problems, where):
                raise ValueError(f"{reason}, as in mixture {name!r}")
        return where

    def to_dict(self) -> dict[str, Any]:
        """All of it, for `provenance`: the records stay records, of which it keeps the kind."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def axes(self) -> tuple[list[Mixture], list[TwoLayer], list[LearningRule], list[int], list[int]]:
        """The values along mixture, network, rule, D and seed."""
        mixtures: dict[str, Mixture] = _named("mixtures", self.mixtures, Mixture)
        networks: dict[str, TwoLayer] = _named("networks", self.networks, TwoLayer)
        rules: dict[str, LearningRule] = _named("rules", self.rules, LearningRule)
        records = list(mixtures.values()), list(networks.values()), list(rules.values())
        return *records, _dimensions(self.D), seed_numbers(self.seeds)

    def cells(self) -> list[Index]:
        """Where the cells are: a slice of length one in each dimension, of length `batch` in that of the seeds."""
        *outer, seeds = (len(values) for values in self.axes())
        corners = product(*map(range, outer), range(0, seeds, self.batch))
        return [
            (*(slice(i, i + 1) for i in corner[:-1]), slice(corner[-1], corner[-1] + self.batch)) for corner in corners
        ]

    def cell(self, at: Index) -> _Cell:
        """What is computed there."""
        axes: Iterable[Sequence[Any]] = self.axes()
        (mixture,), (network,), (rule,), (D,), seeds = (axis[place] for axis, place in zip(axes, at, strict=True))
        return _Cell(Problem(mixture, network, rule, D), list(seeds))

    def task(self, backend: str) -> _Task:
        """What is done with every cell, and where."""
        start = self.initial, self.readout_scale
        return _Task(self.engine, np.asarray(self.t), self.test_samples, *start, backend, self._charged)

    @property
    def _charged(self) -> bool:
        """Whether a rule has another loss than the square."""
        return any(rule.loss != "square" for rule in self.axes()[2])

    def blank(self) -> xr.Dataset:
        """The dataset of the results before anything is known."""
        import xarray as xr

        mixtures, networks, rules, D, seeds = self.axes()
        shape = tuple(len(values) for values in self.axes())
        times, K = np.asarray(self.t), max(network.K for network in networks)
        sizes = {"cluster": max(mixture.clusters for mixture in mixtures), "neuron": K, "neuron_": K}
        sizes["output"] = max(mixture.outputs for mixture in mixtures)
        several = {"v": ("output", "neuron")} if any(mixture.classes is not None for mixture in mixtures) else {}
        variables: dict[str, Any] = {
            name: ((*_DIMS, "time", *dims), np.full((*shape, len(times), *(sizes[dim] for dim in dims)), np.nan))
            for name, dims in (_OBSERVABLES | several).items()
        }
        if any(rule.biased for rule in rules):  # those of the other rules are 0
            known = np.array([np.nan if rule.biased else 0.0 for rule in rules])[:, None, None, None]
            c = known + np.zeros((*shape, len(times)))
            there = np.arange(K) < np.array([network.K for network in networks])[:, None, None, None, None, None]
            variables["b"] = (*_DIMS, "time", "neuron"), np.where(there, c[..., None], np.nan)
            variables["c"] = (*_DIMS, "time"), c
        variables |= self._velocities(sizes, variables)
        if self._charged:
            variables["loss"] = (*_DIMS, "time"), np.full((*shape, len(times)), np.nan)
        if most := max(mixture.taught.neurons for mixture in mixtures):
            shape_R = (*shape, len(times), most, K)
            variables["R"] = (*_DIMS, "time", "teacher", "neuron"), np.full(shape_R, np.nan)
        variables["diverged_after"] = _DIMS, np.full(shape, np.nan)
        variables["status"] = _DIMS, np.full(shape, UNFINISHED, np.int8)
        names = {
            dim: (dim, np.array(list(records), dtype=object))
            for dim, records in zip(_DIMS, (self.mixtures, self.networks, self.rules), strict=False)
        }
        labels = {
            "time": times,
            "D": D,
            "seed": seeds,
            "K": ("network", [network.K for network in networks]),
            "lr": ("rule", [float(rule.rates(0.0).eta) for rule in rules]),  # at the start, where it changes
        }
        return described(xr.Dataset(variables, coords=names | labels, attrs=provenance(sweep=self)))

    def present(self) -> dict[str, npt.NDArray[np.bool_]]:
        """Of a variable that not every cell has, where it is: R has no entry where there is no teacher."""
        taught = np.array([mixture.taught.neurons > 0 for mixture in self.axes()[0]])[:, None, None, None, None]
        moving = np.array([rule.momentum for rule in self.axes()[2]])[:, None, None]
        names = ("M_dot", "C", "U", "v_dot", "b_dot", "c_dot")
        return {"R": taught, "R_dot": taught & moving} | dict.fromkeys(names, moving)

    def _velocities(self, sizes: Mapping[str, int], known: Mapping[str, Any]) -> dict[str, Any]:
        """The variables of velocities, where rules have such; NaN where a rule has none; of biases 0 where they are."""
        mixtures, _, rules, _, _ = self.axes()
        if not any(rule.momentum for rule in rules):
            return {}
        output = ("output",) if any(mixture.classes is not None for mixture in mixtures) else ()
        dims = {"M_dot": ("cluster", "neuron"), "C": ("neuron", "neuron_"), "U": ("neuron", "neuron_")}
        dims |= {"v_dot": (*output, "neuron")}
        if teachers := max(mixture.taught.neurons for mixture in mixtures):
            dims["R_dot"], sizes = ("teacher", "neuron"), {**sizes, "teacher": teachers}
        shape = known["pmse"][1].shape
        found = {
            name: ((*_DIMS, "time", *given), np.full((*shape, *(sizes[dim] for dim in given)), np.nan))
            for name, given in dims.items()
        }
        for name in {"b", "c"} & set(known):
            axes, values = known[name]
            moving = np.array([rule.momentum for rule in rules]).reshape(-1, *[1] * (values.ndim - 3))
            found[f"{name}_dot"] = axes, np.where(moving, values, np.nan)
        return found


def sweep(
    spec: Sweep,
    store: str | os.PathLike[str],
    *,
    executor: Executor | None = None,
    scheduler: str | None = None,
    processes: int | None = None,
    backend: str = "auto",
    resume: bool = False,
    progress: Callable[[float], None] | None = None,
) -> xr.Dataset:
    """Compute what `spec` asks for, put each cell into the Zarr store at `store` as it finishes, and return all of it.

    Cells are computed by `executor`; or by the Dask cluster whose scheduler is at the address `scheduler`; or by
    `processes` processes of this machine (None: one per core), for which a script must start its work under
    ``if __name__ == "__main__"``.  With `backend` "cupy" one process has the card; "auto" takes a card where one
    answers on this machine and there are enough cells for it.  With `resume` a store that exists is completed.
    `progress` is called with the fraction done of the steps that were left to do.

    The dataset has the dimensions mixture, network, rule, D, seed, time, cluster, neuron, neuron_ (NaN where a problem
    has fewer clusters or neurons than another) and holds what `simulate` records; `status` (1: done, 2: the weights
    overflowed) and, for those that did, the last good time `diverged_after`.

    ValueError: bad input.  StoreError: the store exists, is another sweep's or another version's, is damaged or cannot
    be written.  SweepError: no scheduler answers, or workers die or fail.  After these, KeyboardInterrupt or SIGKILL,
    what is finished is in the store and `resume` goes on from there.

    >>> from concurrent.futures import ThreadPoolExecutor
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from quenched.numerics import OnlineSGD
    >>> grid = Sweep([Mixture.xor(0.4)], [TwoLayer(1, "erf")], [OnlineSGD(0.1), OnlineSGD(0.5)], D=50, seeds=2, t=[0.5])
    >>> with TemporaryDirectory() as folder, ThreadPoolExecutor(1) as pool:
    ...     dict(sweep(grid, Path(folder) / "grid.zarr", executor=pool).pmse.sizes)
    {'mixture': 1, 'network': 1, 'rule': 2, 'D': 1, 'seed': 2, 'time': 1}
    """
    record("spec", spec, Sweep)
    place_of_store = path("store", store)
    function("progress", progress)
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise ValueError(f"executor must be an Executor or None, got {executor!r}")
    if executor is not None and scheduler is not None:
        raise ValueError(f"scheduler must be None where an executor is given, got {scheduler!r}")
    workers = (os.cpu_count() or 1) if processes is None else integer("processes", processes, at_least=1)
    if executor is not None or scheduler is not None:
        backend = "numpy" if backend == "auto" else backend
    where = spec.place(find_engine(spec.engine), backend if backend == "auto" else get_backend(backend))
    workers = workers if where.name == "numpy" else 1
    with ExitStack() as stack:
        given = executor if scheduler is None else stack.enter_context(_cluster(scheduler))
        chunks = dict.fromkeys(_DIMS[:-1], 1) | {"seed": spec.batch}
        place = Store(place_of_store, spec.blank(), chunks, resume, spec.present())
        stack.callback(place.close)
        cells = spec.cells()
        status, dimensions = place.status(cells), spec.axes()[3]

        def steps(cell: Index) -> int:  # up to a factor
            return dimensions[cell[3].start]

        # Long cells first: when the end is near, the workers that are still busy will not be for long.
        todo = [cell for cell in cells if (status[cell] == UNFINISHED).any()]
        todo.sort(key=steps, reverse=True)
        whole, done, chances = sum(map(steps, todo)), 0, _BREAKS
        while todo:
            try:
                with local_processes(workers) if given is None else nullcontext(given) as pool:
                    for cell, values in _results(pool, spec, _jobs(spec, todo, workers, where.name), where.name):
                        place.write(cell, values)
                        todo.remove(cell)
                        chances, done = _BREAKS, done + steps(cell)
                        if progress is not None:
                            progress(done / whole)
            except BrokenProcessPool as error:
                chances -= 1
                if given is not None or not chances:
                    raise SweepError(
                        f"worker processes die before they finish a cell ({error}): out of memory (then use fewer "
                        "processes), or started by a script without `if __name__ == '__main__'`; "
                        f"{len(cells) - len(todo)} of {len(cells)} cells are safe in {store}"
                    ) from error
                logging.getLogger(__name__).warning("a worker process died: going on with new ones")
        return place.read()


def _jobs(spec: Sweep, cells: Sequence[Index], workers: int, backend: str) -> list[list[Index]]:
    """The cells in jobs: those of one structure together, as many as run faster so, and enough jobs for the workers."""
    kind, together = find_engine(spec.engine).on(get_backend(backend)), defaultdict(list)
    for cell in cells:
        together[spec.cell(cell).problem.structure].append(cell)
    jobs = []
    for group in together.values():
        problem = spec.cell(group[0]).problem
        size = kind.together(problem, step_counts(spec.t, problem.D)[-1]) // spec.batch
        size = max(1, min(size, -(-len(group) // workers)))
        jobs += [group[i : i + size] for i in range(0, len(group), size)]
    return jobs


def _results(
    pool: Executor, spec: Sweep, jobs: Sequence[Sequence[Index]], backend: str
) -> Iterator[tuple[Index, Values]]:
    """Cells and their values as they finish; SweepError at the first job that fails."""
    here, task = json.loads(provenance()["versions"]), spec.task(backend)
    futures = {pool.submit(_compute, [spec.cell(cell) for cell in job], task): job for job in jobs}
    try:
        for future in as_completed(list(futures)):
            job = futures.pop(future)
            try:
                error = future.exception()
            except CancelledError:
                error = RuntimeError("cancelled, as when the scheduler dies")
            if isinstance(error, BrokenProcessPool):
                raise error
            if error is not None:
                point = ", ".join(f"{dim} {each.start}" for dim, each in zip(_DIMS, job[0], strict=True))
                beside = f" (or one of the {len(job) - 1} beside it)" if len(job) > 1 else ""
                raise SweepError(
                    f"the cell at {point}{beside} failed ({type(error).__name__}: {error}); what was finished before "
                    "it is in the store: resume (--resume) when the cause is gone"
                ) from error
            values, there = future.result()
            if differs := difference(there, here, "versions"):
                raise SweepError(
                    f"a worker is not like this machine: {differs}; install the same and resume (--resume)"
                )
            yield from zip(job, values, strict=True)
    finally:
        for future in futures:
            future.cancel()


def _compute(cells: Sequence[_Cell], task: _Task) -> tuple[list[Values], dict[str, str]]:
    """Values (seed, ...) of each of the cells of a job, and the versions of the packages that computed them."""
    sizes = [len(cell.seeds) for cell in cells]
    states = [
        random_state(problem.mixture, problem.network, problem.D, start, readout_scale=task.readout_scale)
        for problem, seeds in cells
        for start in (seeds if task.initial is None else [task.initial] * len(seeds))
    ]
    problem, backend = cells[0].problem, get_backend(task.backend)
    replicas = Batch(
        tuple(cell.problem for cell in cells),
        np.repeat(np.arange(len(cells)), sizes),
        [seed for cell in cells for seed in cell.seeds],
        states,
        backend,
        "float64",
    )
    steps = step_counts(task.t, problem.D)
    per_cluster = -(-task.test_samples // problem.mixture.clusters)
    protocol = Protocol(find_engine(task.engine).on(backend), steps, per_cluster, False, backend.memory())
    found = run(replicas, protocol, diverge=True)
    lost = found.good < steps[-1]
    values: Values = {"diverged_after": np.where(lost, found.good / problem.D, np.nan)}
    for name, recorded in found.records.items():
        recorded[lost] = np.nan
        values[name] = recorded
    if task.loss:  # of the square loss the mean is the pmse
        values.setdefault("loss", values["pmse"])
    values["status"] = np.where(lost, OVERFLOW, DONE).astype(np.int8)
    cuts = np.cumsum(sizes)[:-1]
    parts = {name: np.split(whole, cuts) for name, whole in values.items()}
    found_cells = [{name: part[i] for name, part in parts.items()} for i in range(len(cells))]
    return found_cells, json.loads(provenance()["versions"])


@contextmanager
def _cluster(address: str) -> Iterator[Executor]:
    """The Dask cluster whose scheduler is at `address`."""
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        raise SweepError(f"a scheduler needs the extra quenched[cluster]: {error}") from error
    try:
        client = Client(address, timeout=_PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        raise SweepError(
            f"no Dask scheduler answers at {address!r} within {_PATIENCE} s ({error}); start one with `dask scheduler` "
            "and workers with `dask worker ADDRESS`, or leave it out to use the cores of this machine"
        ) from error
    with client:
        if not client.scheduler_info()["workers"]:
            logging.getLogger(__name__).warning("the scheduler at %s has no workers yet: waiting for them", address)
        yield client.get_executor(pure=False)


def _named(name: str, given: Any, kind: type[Any]) -> dict[str, Any]:
    """Records of a kind by name; those of a list, or a single one, are numbered."""
    if isinstance(given, Mapping):
        found = {str(label): record(name, each, kind) for label, each in given.items()}
    else:
        listed = [given] if isinstance(given, kind) else records(name, given, kind)
        found = {str(i): each for i, each in enumerate(listed)}
    if not found:
        raise ValueError(f"{name} must hold one or more records, got {given!r}")
    return found


def _dimensions(values: Any) -> list[int]:
    """Different dimensions, or a single one."""
    listed = isinstance(values, Iterable) and not isinstance(values, str)
    found = [integer("D", value, at_least=1) for value in (values if listed else [values])]
    if not found or len(set(found)) < len(found):
        raise ValueError(f"D must be one or more different integers, got {found}")
    return found
