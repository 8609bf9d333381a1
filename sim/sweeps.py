"""Simulations over a grid of mixtures x networks x learning rules x D x seeds, on all cores or a cluster, never lost.

A cell of the grid is one problem with one seed (or `batch` of them).  Cells are computed by any
`concurrent.futures.Executor`, and the program that started them writes each to a Zarr store (`quenched.sim.results`) as
it finishes.  A cell depends on nothing but its parameters, so whatever kills a run, the resumed one ends with the same
bits.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Executor, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, fields
from itertools import product
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from quenched.numerics.calculus.averages import activation_functions
from quenched.numerics.problem.checks import increasing_times, integer, number
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.provenance import provenance
from quenched.numerics.problem.rules import OnlineSGD
from quenched.numerics.two_layer.flow import random_state
from quenched.sim.backend import get_backend
from quenched.sim.results import DONE, OVERFLOW, UNFINISHED, Index, Store, difference
from quenched.sim.training import DivergenceError, Problem, simulate, step_counts

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Sweep", "SweepError", "local_processes", "read_spec", "sweep"]

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


@dataclass(frozen=True, eq=False)
class Sweep:
    """What a sweep computes: `simulate` at every point of mixtures x networks x rules x D x seeds, at the times `t`.

    `mixtures`, `networks`, `rules`: records by name, or a list of them (named 0, 1, ..); `engine`, `test_samples` as in
    `simulate`.  A seed starts from `random_state(mixture, network, D, seed, readout_scale=...)`; if `initial` is given,
    all start from the state of that seed.  `batch`: seeds computed together as one cell, faster with engine "vectors".

    ValueError: what `simulate` would refuse at a point of the grid.

    >>> Sweep([Mixture.xor(0.4)], [TwoLayer(4, "relu")], [OnlineSGD(0.5)], D=[100, 5], seeds=[0], t=[1.0])
    Traceback (most recent call last):
    ...
    ValueError: D must be an integer >= 6 = p + K for mixture '0' and network '0', got 5
    """

    mixtures: Mapping[str, Mixture] | Sequence[Mixture]
    networks: Mapping[str, TwoLayer] | Sequence[TwoLayer]
    rules: Mapping[str, OnlineSGD] | Sequence[OnlineSGD]
    D: Sequence[int]
    seeds: Sequence[int]
    t: npt.ArrayLike
    engine: str = "overlaps"
    test_samples: int = 10_000
    initial: int | None = None
    readout_scale: float = 1.0
    batch: int = 1

    def __post_init__(self) -> None:
        mixtures: dict[str, Mixture] = _named("mixtures", self.mixtures)
        networks: dict[str, TwoLayer] = _named("networks", self.networks)
        rules: dict[str, OnlineSGD] = _named("rules", self.rules)
        times = increasing_times("t", self.t)
        checked: dict[str, Any] = {
            "mixtures": mixtures,
            "networks": networks,
            "rules": rules,
            "D": _different("D", self.D, 1),
            "seeds": _different("seeds", self.seeds, 0),
            "t": times,
            "test_samples": integer("test_samples", self.test_samples, at_least=1),
            "initial": None if self.initial is None else integer("initial", self.initial),
            "readout_scale": number("readout_scale", self.readout_scale),
            "batch": integer("batch", self.batch, at_least=1),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        if self.engine not in ("vectors", "overlaps"):
            raise ValueError(f"engine must be 'vectors' or 'overlaps', got {self.engine!r}")
        for name, mixture in mixtures.items():
            if self.engine == "overlaps" and (mixture.spectrum is not None or mixture.teacher is not None):
                raise ValueError(f"engine must be 'vectors' for mixture {name!r}: it has a spectrum or a teacher")
        if len(self.seeds) % self.batch:
            raise ValueError(f"batch must divide the number of seeds, {len(self.seeds)}, got {self.batch}")
        for D in self.D:
            step_counts(times, D)
            for (m, mixture), (n, network) in product(mixtures.items(), networks.items()):
                if (least := mixture.dimensions + network.K) > D:
                    raise ValueError(
                        f"D must be an integer >= {least} = p + K for mixture {m!r} and network {n!r}, got {D}"
                    )
        for network in networks.values():
            activation_functions(network.activation)
        for mixture, network, rule in product(mixtures.values(), networks.values(), rules.values()):
            Problem(mixture, network, rule, self.D[0], get_backend("numpy"), "float64")

    def to_dict(self) -> dict[str, Any]:
        """All of it, JSON-able."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in ("mixtures", "networks", "rules"):
            found[name] = {key: record.to_dict() for key, record in found[name].items()}
        return found | {"t": found["t"].tolist()}

    def axes(self) -> tuple[list[Mixture], list[TwoLayer], list[OnlineSGD], list[int], list[int]]:
        """The values along mixture, network, rule, D and seed."""
        assert isinstance(self.mixtures, Mapping)
        assert isinstance(self.networks, Mapping)
        assert isinstance(self.rules, Mapping)
        records = list(self.mixtures.values()), list(self.networks.values()), list(self.rules.values())
        return *records, list(self.D), list(self.seeds)

    def cells(self) -> list[Index]:
        """Where the cells are: a slice of length one in each dimension, of length `batch` in that of the seeds."""
        *outer, seeds = (len(values) for values in self.axes())
        corners = product(*map(range, outer), range(0, seeds, self.batch))
        return [
            (*(slice(i, i + 1) for i in corner[:-1]), slice(corner[-1], corner[-1] + self.batch)) for corner in corners
        ]

    def blank(self) -> xr.Dataset:
        """The dataset of the results before anything is known."""
        import xarray as xr

        mixtures, networks, rules, D, seeds = self.axes()
        shape = tuple(len(values) for values in self.axes())
        times, K = np.asarray(self.t), max(network.K for network in networks)
        sizes = {"cluster": max(mixture.clusters for mixture in mixtures), "neuron": K, "neuron_": K}
        variables: dict[str, Any] = {
            name: ((*_DIMS, "time", *dims), np.full((*shape, len(times), *(sizes[dim] for dim in dims)), np.nan))
            for name, dims in _OBSERVABLES.items()
        }
        if teachers := [mixture.teacher.neurons for mixture in mixtures if mixture.teacher is not None]:
            shape_R = (*shape, len(times), max(teachers), K)
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
            "lr": ("rule", [rule.lr for rule in rules]),
        }
        return xr.Dataset(variables, coords=names | labels, attrs=provenance(sweep=self))


def sweep(
    spec: Sweep,
    store: str | os.PathLike[str],
    *,
    executor: Executor | None = None,
    scheduler: str | None = None,
    processes: int | None = None,
    resume: bool = False,
    progress: Callable[[float], None] | None = None,
) -> xr.Dataset:
    """Compute what `spec` asks for, put each cell into the Zarr store at `store` as it finishes, and return all of it.

    Cells are computed by `executor`; or by the Dask cluster whose scheduler is at the address `scheduler`; or by
    `processes` processes of this machine (None: one per core), for which a script must start its work under
    ``if __name__ == "__main__"``.  With `resume` a store that exists is completed.  `progress` is called with the
    fraction done of the steps that were left to do.

    The dataset has the dimensions mixture, network, rule, D, seed, time, cluster, neuron, neuron_ (NaN where a problem
    has fewer clusters or neurons than another) and holds what `simulate` records; `status` (1: done, 2: the weights
    overflowed) and, for those that did, the last good time `diverged_after`.

    ValueError: bad input.  StoreError: the store exists, is another sweep's or another version's, is damaged or cannot
    be written.  SweepError: no scheduler answers, or workers die or fail.  After these, KeyboardInterrupt or SIGKILL,
    what is finished is in the store and `resume` goes on from there.
    """
    if executor is not None and scheduler is not None:
        raise ValueError(f"scheduler must be None where an executor is given, got {scheduler!r}")
    workers = (os.cpu_count() or 1) if processes is None else integer("processes", processes, at_least=1)
    cells = spec.cells()

    def steps(cell: Index) -> int:  # up to a factor
        return spec.D[cell[3].start]

    with ExitStack() as stack:
        given = executor if scheduler is None else stack.enter_context(_cluster(scheduler))
        place = Store(Path(store), spec.blank(), dict.fromkeys(_DIMS[:-1], 1) | {"seed": spec.batch}, resume)
        stack.callback(place.close)
        status = place.status(cells)
        # Long cells first: when the end is near, the workers that are still busy will not be for long.
        todo = sorted((cell for cell in cells if (status[cell] == UNFINISHED).any()), key=steps, reverse=True)
        whole, done, chances = sum(map(steps, todo)), 0, _BREAKS
        while todo:
            try:
                with local_processes(workers) if given is None else nullcontext(given) as pool:
                    for cell, values in _results(pool, spec, todo):
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


def _results(pool: Executor, spec: Sweep, cells: Sequence[Index]) -> Iterator[tuple[Index, Values]]:
    """Cells and their values as they finish; SweepError at the first that fails."""
    here = json.loads(provenance()["versions"])
    futures = {pool.submit(_cell, *_arguments(spec, cell)): cell for cell in cells}
    try:
        for future in as_completed(list(futures)):
            cell = futures.pop(future)
            try:
                error = future.exception()
            except CancelledError:
                error = RuntimeError("cancelled, as when the scheduler dies")
            if isinstance(error, BrokenProcessPool):
                raise error
            if error is not None:
                point = ", ".join(f"{dim} {each.start}" for dim, each in zip(_DIMS, cell, strict=True))
                raise SweepError(
                    f"the cell at {point} failed ({type(error).__name__}: {error}); what was finished before it is in "
                    "the store: resume (--resume) when the cause is gone"
                ) from error
            values, there = future.result()
            if differs := difference(there, here, "versions"):
                raise SweepError(
                    f"a worker is not like this machine: {differs}; install the same and resume (--resume)"
                )
            yield cell, values
    finally:
        for future in futures:
            future.cancel()


def _arguments(spec: Sweep, cell: Index) -> tuple[Any, ...]:
    """What `_cell` needs to compute a cell."""
    axes: Iterable[Sequence[Any]] = spec.axes()
    (mixture,), (network,), (rule,), (D,), seeds = (axis[at] for axis, at in zip(axes, cell, strict=True))
    options = {"engine": spec.engine, "test_samples": spec.test_samples}
    return mixture, network, rule, D, spec.t, seeds, spec.initial, spec.readout_scale, options


def _cell(
    mixture: Mixture,
    network: TwoLayer,
    rule: OnlineSGD,
    D: int,
    t: npt.NDArray[np.float64],
    seeds: Sequence[int],
    initial: int | None,
    readout_scale: float,
    options: Mapping[str, Any],
) -> tuple[Values, dict[str, str]]:
    """Values (seed, ...) of one cell, and the versions of the packages that computed them."""
    from threadpoolctl import threadpool_limits

    def run(names: Sequence[int]) -> Values:
        starts = names if initial is None else [initial] * len(names)
        states = [random_state(mixture, network, D, start, readout_scale=readout_scale) for start in starts]
        with np.errstate(over="ignore", invalid="ignore"):  # looked at just below
            data = simulate(mixture, network, rule, D, t, names, backend="numpy", state=states, **options)
        values = {str(name): variable.values for name, variable in data.data_vars.items()}
        finite = np.isfinite(values["pmse"]).all(axis=1)
        if lost := [name for name, good in zip(names, finite, strict=True) if not good]:
            raise DivergenceError(lost, float(t[-1]), rule.lr)
        return values | {"diverged_after": np.full(len(names), np.nan), "status": np.full(len(names), DONE, np.int8)}

    def overflow(error: DivergenceError) -> Values:
        return {"diverged_after": np.array([error.t]), "status": np.array([OVERFLOW], np.int8)}

    versions = json.loads(provenance()["versions"])
    with threadpool_limits(1):  # one core a cell: and sums are cut up in the same way everywhere
        try:
            return run(seeds), versions
        except DivergenceError as error:
            if len(seeds) == 1:
                return overflow(error), versions
        parts = []
        for seed in seeds:  # of those that were computed together, find out which
            try:
                parts.append(run([seed]))
            except DivergenceError as error:
                parts.append(overflow(error))
    whole = max(parts, key=len)
    return {
        name: np.concatenate([part[name] if name in part else np.full_like(values, np.nan) for part in parts])
        for name, values in whole.items()
    }, versions


# --- executors


@contextmanager
def local_processes(n: int) -> Iterator[Executor]:
    """Processes that start afresh (forking one that has threads can deadlock), and end when this one ends or hangs up.

    They hold the end of a line that closes with this process, however that dies.
    """
    context = get_context("spawn")
    theirs, ours = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(n, context, _begin, (theirs,))
    try:
        yield pool
    finally:  # on the way out of an interrupt, cells half done are not waited for
        ours.close()
        pool.shutdown(cancel_futures=True)
        theirs.close()


def _begin(line: Connection) -> None:
    """In a new process: one core, no opinion of Ctrl-C, and the end with the end of the line."""
    os.environ["NUMBA_NUM_THREADS"] = "1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        try:
            line.recv()
        except (EOFError, OSError):
            os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


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


# --- the specification


def _named(name: str, records: Any) -> dict[str, Any]:
    """Records by name; those of a list are numbered."""
    found = dict(records) if isinstance(records, Mapping) else {str(i): each for i, each in enumerate(records)}
    if not found:
        raise ValueError(f"{name} must hold one or more records, got {records!r}")
    return found


def _different(name: str, values: Iterable[Any], least: int) -> list[int]:
    found = [integer(name, value, at_least=least) for value in values]
    if not found or len(set(found)) < len(found):
        raise ValueError(f"{name} must be one or more different integers, got {found}")
    return found


# What a table of the specification may hold, and how deep an array a value is: one level more is an axis of the grid.
_MIXTURE = {"sigma": 0, "separation": 0, "scaling": 0}
_MIXTURES: dict[str, tuple[Callable[..., Mixture], dict[str, int]]] = {
    "xor": (Mixture.xor, _MIXTURE),
    "two-clusters": (Mixture.two_clusters, _MIXTURE),
    "three-clusters": (Mixture.three_clusters, _MIXTURE),
    "ring": (Mixture.ring, {"m": 0} | _MIXTURE),
    "parity": (Mixture.parity, {"sigma": 0, "lengths": 1, "scaling": 1}),
    "means": (Mixture, {"means": 2, "labels": 1, "weights": 1, "sigma": 0, "scaling": 0}),
}
_NETWORK = {"K": 0, "activation": 0, "output_scale": 0}
_RULE = {"lr": 0, "weight_decay": 0, "second_lr": 0, "second_weight_decay": 0, "label_noise": 0}
_TOP = ("mixture", "network", "rule", "D", "seeds", "t", "engine", "test_samples", "initial", "readout_scale", "batch")


def read_spec(path: str | os.PathLike[str]) -> Sweep:
    """The sweep that a TOML file describes; nothing in it is evaluated.

        D = [100, 10000]                                  # integers, or { first, number }
        seeds = { first = 0, number = 8 }
        t = { first = 0, last = 20, number = 5 }          # or the times themselves
        mixture = [{ kind = "xor", sigma = [0.3, 0.5] }]  # or two-clusters, three-clusters, ring, parity, means
        network = [{ K = [2, 4], activation = "relu" }]   # a list where one value is due spans an axis
        rule = [{ lr = 0.5 }]

    Also `engine`, `test_samples`, `initial`, `readout_scale`, `batch` as in `Sweep`.  Each table may
    have a `name`, and may be written as a section [[mixture]].

    ValueError: what cannot be read, is not known or is missing, with its place.
    """
    try:
        given = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"spec must be a TOML file, got {str(path)!r}: {error}") from error
    _known("spec", given, _TOP)
    for name in ("mixture", "network", "rule", "D", "seeds", "t"):
        if name not in given:
            raise ValueError(f"spec must have {name}, got only {', '.join(given) or 'nothing'}")
    networks = _records("network", given, lambda table: (TwoLayer, _NETWORK, table.get("activation", "")))
    return Sweep(
        _records("mixture", given, _kind),
        networks,
        _records("rule", given, lambda table: (OnlineSGD, _RULE, "sgd")),
        D=_integers("D", given["D"]),
        seeds=_integers("seeds", given["seeds"]),
        t=_times(given["t"]),
        **{name: given[name] for name in _TOP[6:] if name in given},
    )


def _kind(table: Mapping[str, Any]) -> tuple[Callable[..., Any], dict[str, int], str]:
    kind = table.get("kind")
    if not isinstance(kind, str) or kind not in _MIXTURES:
        raise ValueError(f"mixture.kind must be one of {', '.join(_MIXTURES)}, got {kind!r}")
    return *_MIXTURES[kind], kind


def _records(
    name: str,
    given: Mapping[str, Any],
    kind: Callable[[Mapping[str, Any]], tuple[Callable[..., Any], dict[str, int], str]],
) -> dict[str, Any]:
    """The records of the tables [[name]], each spanned by its lists, called by what varies in it."""
    tables, found = given[name], {}
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ValueError(f"{name} must be tables [[{name}]], got {tables!r}")
    for table in tables:
        make, depths, title = kind(table)
        _known(name, table, [*depths, "name", *(["kind"] if name == "mixture" else [])])
        axes = {key: _axis(table[key], depth) for key, depth in depths.items() if key in table}
        for values in product(*axes.values()):
            one = dict(zip(axes, values, strict=True))
            varied = [f"{key}={value}" for key, value in one.items() if len(axes[key]) > 1]
            label = " ".join([str(table.get("name", title)), *varied])
            if label in found:
                raise ValueError(f"{name} must have different names, got {label!r} twice: set `name` in its table")
            try:
                found[label] = make(**one)
            except TypeError as error:  # something is missing
                raise ValueError(f"{name} {label!r}: {error}") from error
    return found


def _axis(value: Any, depth: int) -> list[Any]:
    """A value that is an array of `depth` levels, or a list of such values."""
    inner, levels = value, 0
    while isinstance(inner, list) and inner:
        inner, levels = inner[0], levels + 1
    return value if levels == depth + 1 else [value]


def _known(name: str, table: Mapping[str, Any], allowed: Iterable[str]) -> None:
    if unknown := sorted(set(table) - set(allowed)):
        raise ValueError(f"{name} has the unknown {unknown[0]!r}; it may have {', '.join(allowed)}")


def _integers(name: str, value: Any) -> Sequence[int]:
    if isinstance(value, dict):
        _known(name, value, ("first", "number"))
        first = integer(f"{name}.first", value.get("first", 0))
        return range(first, first + integer(f"{name}.number", value.get("number"), at_least=1))
    return value if isinstance(value, list) else [value]


def _times(value: Any) -> npt.ArrayLike:
    if isinstance(value, dict):
        _known("t", value, ("first", "last", "number"))
        number_ = integer("t.number", value.get("number"), at_least=2)
        return np.linspace(number("t.first", value.get("first", 0)), number("t.last", value.get("last")), number_)
    return value if isinstance(value, list) else [value]
