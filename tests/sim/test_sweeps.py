"""A sweep is `simulate` at every point, ends with the same bits whatever kills it, and loses nothing finished."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import xarray as xr

from quenched.numerics import Mixture, OnlineSGD, Spectrum, TwoLayer, random_state
from quenched.numerics.problem.network import Teacher
from quenched.sim import processes, sweeps
from quenched.sim.backend import get_backend
from quenched.sim.results import DONE, OVERFLOW, StoreError
from quenched.sim.specifications import read_spec
from quenched.sim.sweeps import Sweep, SweepError, sweep
from quenched.sim.training import simulate

MIXTURES = {"xor": Mixture.xor(0.4), "two": Mixture.two_clusters(0.5)}
NETWORKS = [TwoLayer(2, "relu"), TwoLayer(3, "erf")]
TIMES = [0.0, 0.5, 2.0]
# Forty cells, half of them of a tenth of a second or less each, the others shorter.
SPEC = """
D = [50, 60000]
seeds = { first = 3, number = 20 }
t = [0.0, 4.0]
test_samples = 100
mixture = [{ kind = "xor", sigma = 0.4 }]
network = [{ K = 3, activation = "relu" }]
rule = [{ lr = 0.5 }]
"""
COMMAND = [sys.executable, "-c", "from quenched.sim.cli.main import main; main()", "sweep"]


@pytest.fixture
def executor() -> Iterator[Executor]:
    """One thread of this process: an executor like another."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "spec.toml"
    path.write_text(SPEC)
    return path


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The store of a run that nothing disturbs."""
    folder = tmp_path_factory.mktemp("unbroken")
    (folder / "spec.toml").write_text(SPEC)
    with ThreadPoolExecutor(1) as pool:
        sweep(read_spec(folder / "spec.toml"), folder / "store.zarr", executor=pool)
    return contents(folder / "store.zarr")


def contents(store: Path) -> dict[str, bytes]:
    return {path.relative_to(store).as_posix(): path.read_bytes() for path in store.rglob("*") if path.is_file()}


def finished(store: Path) -> int:
    """Cells that are in the store."""
    return sum(path.is_file() and path.suffix != ".partial" for path in (store / "status" / "c").rglob("*"))


def until(condition: Callable[[], bool], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


# --- what is computed


@pytest.mark.parametrize("engine", ["overlaps", "vectors"])
def test_every_point_is_what_simulate_gives(engine: str, tmp_path: Path, executor: Executor) -> None:
    """Bit by bit; a rate at which the weights overflow is a result, not a failure."""
    rules = [OnlineSGD(0.5), OnlineSGD(1e5)]
    settings: dict[str, Any] = {"engine": engine, "test_samples": 40}
    spec = Sweep(MIXTURES, NETWORKS, rules, [20, 30], [5, 1], TIMES, **settings)
    done: list[float] = []
    found = sweep(spec, tmp_path / "s.zarr", executor=executor, progress=done.append)
    assert done == sorted(done)
    assert done[-1] == 1
    assert found.mixture.values.tolist() == ["xor", "two"]
    for (m, mixture), (n, network), D, seed in (
        (m, n, D, seed) for m in MIXTURES.items() for n in enumerate(NETWORKS) for D in (20, 30) for seed in (5, 1)
    ):
        at = found.sel(mixture=m, network=str(n), D=D, seed=seed)
        alone = simulate(mixture, network, rules[0], D, TIMES, [seed], backend="numpy", **settings)
        for name in alone.data_vars:
            values, expected = at[name].isel(rule=0).values, alone[name].values[0]
            np.testing.assert_array_equal(values[tuple(map(slice, expected.shape))], expected)
            assert np.isfinite(values).sum() == expected.size
        assert at.status.values.tolist() == [DONE, OVERFLOW]
        assert 0 <= float(at.diverged_after[1]) <= 2
        assert np.isnan(at.pmse.isel(rule=1)).all()


def test_neurons_that_a_network_does_not_have_have_no_threshold() -> None:
    """Thresholds of rules without them are 0, of neurons that are there."""
    spec = Sweep(
        MIXTURES, [TwoLayer(1, "relu"), TwoLayer(2, "erf")], [OnlineSGD(0.5), OnlineSGD(0.5, bias_lr=0.1)], 20, 1, 1
    )
    b = spec.blank().b.isel(mixture=0, D=0, seed=0, time=0)
    np.testing.assert_array_equal(b.isel(rule=0), [[0.0, np.nan], [0.0, 0.0]])
    assert np.isnan(b.isel(rule=1)).all()


def test_what_a_card_cannot_run_is_refused_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = replace(get_backend("numpy"), name="cupy", kernels=lambda source: pytest.fail(source))
    monkeypatch.setattr(sweeps, "get_backend", lambda name: card)
    spec = Sweep(MIXTURES, NETWORKS, OnlineSGD(0.5, sphere=True), 20, 1, 1.0, engine="vectors")
    with pytest.raises(ValueError, match=r"for vectors on a card .* got sphere=True, as in mixture 'xor'"):
        sweep(spec, tmp_path / "s.zarr", backend="cupy")
    assert not (tmp_path / "s.zarr").exists()


def test_cells_that_differ_in_numbers_are_one_job() -> None:
    """Short ones, of one structure; as many jobs as workers where there are so many cells."""
    rules, mixtures = [OnlineSGD(lr) for lr in (0.1, 0.2, 0.3)], [Mixture.xor(sigma) for sigma in (0.3, 0.5)]
    spec = Sweep(mixtures, NETWORKS, rules, [10, 10**7], 2, TIMES)
    sizes = {1: [12] * 2 + [1] * 24, 3: [4] * 6 + [1] * 24, 50: [1] * 48}
    for workers, expected in sizes.items():
        jobs = sweeps._jobs(spec, spec.cells(), workers, "numpy")
        assert sorted(map(len, jobs), reverse=True) == expected
        assert sorted(map(repr, spec.cells())) == sorted(repr(cell) for job in jobs for cell in job)
        for job in jobs:
            assert len({spec.cell(cell).problem.structure for cell in job}) == 1


def test_seeds_computed_together_overflow_alone(tmp_path: Path, executor: Executor) -> None:
    """A batch in which some seeds overflow: the others are as without them; all start from one state."""
    mixture, network, rule = Mixture.xor(0.5), TwoLayer(2, "relu"), OnlineSGD(8.0)
    options: dict[str, Any] = {"initial": 1, "readout_scale": 2.0, "test_samples": 40}
    seeds = list(range(6))
    spec = Sweep([mixture], [network], [rule], [10], seeds, TIMES, batch=3, **options)
    found = sweep(spec, tmp_path / "s.zarr", executor=executor).squeeze()
    assert set(found.status.values.tolist()) == {DONE, OVERFLOW}
    state = random_state(mixture, network, 10, 1, readout_scale=2.0)
    for seed in seeds:
        if found.status.sel(seed=seed) == DONE:
            alone = simulate(mixture, network, rule, 10, TIMES, [seed], "overlaps", state=state, test_samples=40)
            np.testing.assert_array_equal(found.Q.sel(seed=seed), alone.Q[0])


def test_teachers_come_with_their_overlaps(tmp_path: Path, executor: Executor) -> None:
    mixture = Mixture([[0.0]], teacher=Teacher([[1.0]], [1.0], "relu"))
    options: dict[str, Any] = {"mixtures": {"teacher": mixture}, "engine": "vectors"}
    found = sweep(tiny(**options), tmp_path / "s.zarr", executor=executor).squeeze()
    alone = simulate(mixture, TwoLayer(2, "relu"), OnlineSGD(0.5), 10, TIMES, [0], backend="numpy", test_samples=4)
    np.testing.assert_array_equal(found.R.sel(seed=0), alone.R[0, :, 0])
    stretched = Mixture([[0.0]], [1.0], spectrum=Spectrum([0.5, 1.5]))
    with pytest.raises(ValueError, match="engine must be 'vectors' where inputs have a spectrum, as in mixture 'wide'"):
        tiny(mixtures={"wide": stretched})


def test_cells_may_lack_what_others_have(tmp_path: Path, executor: Executor) -> None:
    """A teacher's overlaps and the mean of another loss, beside cells without: finished all the same, and resumed."""
    taught = Mixture([[1.0], [-1.0]], sigma=0.6, teacher=Teacher([[0.8]], [1.0], "erf"))
    rules = [OnlineSGD(0.5), OnlineSGD(0.5, loss="logistic")]
    grid = Sweep({"labels": Mixture.two_clusters(0.6), "taught": taught}, TwoLayer(2, "erf"), rules, 40, 2, [0.0, 1.0])
    found = sweep(grid, tmp_path / "s.zarr", executor=executor)
    assert (found.status == DONE).all()
    assert found.R.sel(mixture="labels").isnull().all()
    assert found.R.sel(mixture="taught").notnull().all()
    np.testing.assert_array_equal(found.loss.sel(rule="0"), found.pmse.sel(rule="0"))  # l = (phi - y)^2/2
    alone = simulate(grid.mixtures["labels"], TwoLayer(2, "erf"), rules[1], 40, [0.0, 1.0], 2, grid.engine)
    np.testing.assert_allclose(found.loss.sel(mixture="labels", rule="1")[0, 0], alone.loss, rtol=1e-12)
    assert found.identical(sweep(grid, tmp_path / "s.zarr", executor=executor, resume=True))


def test_a_specification_spans_its_lists(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("""
        D = 100
        seeds = [4, 2]
        t = { first = 1, last = 3, number = 3 }
        engine = "vectors"
        batch = 2
        [[mixture]]
        kind = "ring"
        m = [2, 3]
        sigma = [0.3, 0.5]
        [[mixture]]
        kind = "parity"
        name = "long"
        sigma = 0.4
        lengths = [2.0, 1.0]
        [[mixture]]
        kind = "means"
        means = [[1.0], [-1.0]]
        labels = [1, -1]
        [[network]]
        K = 2
        activation = ["relu", "Max(x,0)+x/10"]
        [[rule]]
        lr = 0.1
        second_lr = [0.0, 0.1]
    """)
    spec = read_spec(tmp_path / "a.toml")
    names = [f"ring m={m} sigma={sigma}" for m in (2, 3) for sigma in (0.3, 0.5)]
    assert list(spec.mixtures) == [*names, "long", "means"]
    mixtures, networks, rules, D, seeds = spec.axes()
    assert mixtures[3].to_dict() == Mixture.ring(3, 0.5).to_dict()
    assert mixtures[4].to_dict() == Mixture.parity(0.4, (2.0, 1.0)).to_dict()
    assert mixtures[5].to_dict() == Mixture.two_clusters(1.0).to_dict()
    assert networks == [TwoLayer(2, "relu"), TwoLayer(2, "Max(x,0)+x/10")]
    assert rules == [OnlineSGD(0.1, second_lr=0.0), OnlineSGD(0.1, second_lr=0.1)]
    assert (D, seeds, np.asarray(spec.t).tolist(), spec.engine) == ([100], [4, 2], [1, 2, 3], "vectors")


def test_a_specification_has_losses_and_batches(tmp_path: Path) -> None:
    """They span an axis as any other number of a rule, and every cell says which it was computed with."""
    text = """
        D = 20
        seeds = 2
        t = [0.5]
        mixture = [{ kind = "means", means = [[1.0], [-1.0]], labels = [1, -1] }]
        network = [{ K = 1, activation = "erf" }]
        rule = [{ lr = 0.5, loss = "logistic", batch = [1, 8] }]
    """
    (tmp_path / "a.toml").write_text(text)
    spec = read_spec(tmp_path / "a.toml")
    assert spec.axes()[2] == [OnlineSGD(0.5, loss="logistic", batch=B) for B in (1, 8)]
    found = sweep(spec, tmp_path / "a.zarr", processes=1)
    assert list(found.rule.values) == ["sgd batch=1", "sgd batch=8"]
    (mixture, *_), (network, *_), rules, *_ = spec.axes()
    for rule, name in zip(rules, found.rule.values, strict=True):
        alone = simulate(mixture, network, rule, 20, [0.5], [0, 1], spec.engine, test_samples=spec.test_samples)
        np.testing.assert_array_equal(found.sel(rule=name).pmse.values.squeeze(), alone.pmse.values.squeeze())
    (tmp_path / "b.toml").write_text(text.replace("logistic", "phi*z"))
    with pytest.raises(ValueError, match=r"loss 'phi\*z': 'z' is not understood"):
        read_spec(tmp_path / "b.toml")


# --- what kills it


def start(spec: Path, store: Path, *options: str, processes: int = 1) -> subprocess.Popen[str]:
    workers = [] if "--scheduler" in options else ["--processes", str(processes)]
    command = [*COMMAND, str(spec), "--store", str(store), *workers, *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_killed_at_random_moments_it_resumes_to_the_same_bits(spec: Path, unbroken: dict[str, bytes]) -> None:
    """Three times SIGKILL, each a random while after another cell is finished; the workers end with it."""
    store, rng = spec.with_name("store.zarr"), np.random.default_rng(5)
    for _ in range(3):
        before = finished(store)
        run = start(spec, store, "--resume")
        until(lambda before=before: finished(store) > before)  # type: ignore[misc]
        workers = psutil.Process(run.pid).children(recursive=True)
        time.sleep(rng.uniform(0, 0.1))
        run.kill()
        run.communicate()
        psutil.wait_procs(workers, timeout=30)
        assert not [each for each in workers if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    kept = contents(store)
    assert before < finished(store) < 40, "the last kill came too late to show anything"
    run = start(spec, store, "--resume")
    assert run.wait() == 0
    run.communicate()
    assert contents(store) == unbroken
    stamps = {name: (store / name).stat().st_mtime_ns for name in unbroken}
    assert {name for name in kept if name.startswith("status/c")} <= set(stamps)


def test_a_killed_worker_is_replaced(spec: Path, unbroken: dict[str, bytes]) -> None:
    store = spec.with_name("store.zarr")
    run = start(spec, store, processes=2)
    until(lambda: finished(store) > 0)
    victim = next(each for each in psutil.Process(run.pid).children() if "spawn_main" in " ".join(each.cmdline()))
    victim.kill()
    out, err = run.communicate()
    assert run.returncode == 0, err
    assert "going on with new ones" in err
    assert contents(store) == unbroken
    assert out.splitlines()[-1].split()[-5:-2] == ["60000", "20", "0"]


def test_an_interrupt_says_how_to_go_on(spec: Path, unbroken: dict[str, bytes]) -> None:
    """To the whole group of processes, as a terminal sends it; one line, and nothing lost."""
    store = spec.with_name("store.zarr")
    # a test that runs in the background of a shell inherits an ignored SIGINT; a terminal's child does not
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); " + COMMAND[2]
    command = [*COMMAND[:2], program, "sweep", str(spec), "--store", str(store), "--processes", "1"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    until(lambda: finished(store) > 0)
    os.killpg(run.pid, signal.SIGINT)
    _, err = run.communicate(timeout=30)
    assert run.returncode == 130
    assert err == f"quenched: interrupted; what is finished is in {store}: add --resume to go on\n"
    before = {name: (store / name).stat().st_mtime_ns for name in contents(store) if name.startswith("status/c")}
    assert 0 < len(before) < 40
    with ThreadPoolExecutor(1) as pool:
        sweep(read_spec(spec), store, executor=pool, resume=True)
    assert contents(store) == unbroken
    assert {name: (store / name).stat().st_mtime_ns for name in before} == before  # and nothing was computed twice


def test_workers_that_always_die_end_it(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_begin", os._exit)
    monkeypatch.setattr(sweeps, "_BREAKS", 2)
    with pytest.raises(SweepError, match=r"worker processes die before they finish a cell .* 0 of 40 cells are safe"):
        sweep(read_spec(spec), spec.with_name("store.zarr"), processes=1)


# --- clusters


@contextmanager
def dask(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "dask", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def listens(port: int) -> bool:
    with socket.socket() as other:
        return other.connect_ex(("127.0.0.1", port)) == 0


def test_dask_scheduler_and_workers_one_of_them_killed(spec: Path, unbroken: dict[str, bytes]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address, store = f"tcp://127.0.0.1:{port}", spec.with_name("store.zarr")
    options = ("--nthreads", "1", "--no-dashboard", "--no-nanny")
    with (
        dask("scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"),
        dask("worker", address, *options),
        dask("worker", address, *options) as victim,
    ):
        until(lambda: listens(port))  # a busy machine takes longer to start it than `sweep` waits
        run = start(spec, store, "--scheduler", address)
        until(lambda: finished(store) > 1 or run.poll() is not None)
        victim.kill()
        out, err = run.communicate(timeout=60)
    assert run.returncode == 0, err
    assert "xor" in out
    assert contents(store) == unbroken


def test_a_local_cluster_is_an_executor(spec: Path, unbroken: dict[str, bytes]) -> None:
    from distributed import Client, LocalCluster

    store = spec.with_name("store.zarr")
    with (
        LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        sweep(read_spec(spec), store, executor=client.get_executor(pure=False))
    assert contents(store) == unbroken


def test_a_scheduler_that_is_not_there(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps, "_PATIENCE", 0.3)
    store = spec.with_name("store.zarr")
    with pytest.raises(SweepError, match=r"no Dask scheduler answers at 'tcp://127\.0\.0\.1:9' within 0\.3 s"):
        sweep(read_spec(spec), store, scheduler="tcp://127.0.0.1:9")
    assert not store.exists()


class Failing(ProcessPoolExecutor):
    """Results of another numpy, or none at all."""

    def __init__(self, cause: str) -> None:
        super().__init__(1)
        self.cause = cause

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        from concurrent.futures import Future

        future: Future[Any] = Future()
        values, versions = fn(*args, **kwargs)
        if self.cause == "raises":
            future.set_exception(ArithmeticError("1 + 1 = 3"))
        elif self.cause == "cancels":
            future.cancel()
            future.set_running_or_notify_cancel()
        else:
            future.set_result((values, versions | {"numpy": "1.0"}))
        return future


@pytest.mark.parametrize(
    ("cause", "message"),
    [
        ("raises", r"the cell at mixture 0, .* failed \(ArithmeticError: 1 \+ 1 = 3\)"),
        ("cancels", "cancelled, as when the scheduler dies"),
        ("versions", r"a worker is not like this machine: versions\.numpy is \"1\.0\" there and "),
    ],
)
def test_workers_that_fail_or_differ_are_named(cause: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SweepError, match=message):
        sweep(tiny(), tmp_path / "s.zarr", executor=Failing(cause))


# --- stores


def tiny(**changes: Any) -> Sweep:
    settings: dict[str, Any] = {
        "mixtures": [Mixture.xor(0.4)],
        "networks": [TwoLayer(2, "relu")],
        "rules": [OnlineSGD(0.5)],
        "D": [10],
        "seeds": [0, 1],
        "t": TIMES,
        "test_samples": 4,
    }
    return Sweep(**(settings | changes))


def rewrite(store: Path, change: Callable[[Any], None]) -> None:
    path = store / "zarr.json"
    metadata = json.loads(path.read_text())
    change(metadata["attributes"])
    path.write_text(json.dumps(metadata))


def of_another_version(attributes: Any) -> None:
    versions = json.loads(attributes["versions"]) | {"quenched": "0.0.9"}
    attributes["versions"] = json.dumps(versions)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


CELL = "c/0/0/0/0/1"
DAMAGE: Sequence[tuple[Callable[[Path], object], str]] = [
    (lambda s: rewrite(s, of_another_version), r'versions\.quenched is "0\.0\.9" there and "[\d.]+" here; nothing was'),
    (
        lambda s: rewrite(s, lambda a: a.pop("sweep")),
        "made by another version of quenched: it does not say sweep; nothing",
    ),
    (lambda s: (s / "zarr.json").write_text("{"), "cannot be read as the store of a sweep .JSONDecodeError"),
    (lambda s: (s / "zarr.json").unlink(), "cannot be read as the store of a sweep .FileNotFoundError"),
    (
        lambda s: flip(s / "M" / f"{CELL}/0/0/0"),
        r"cell \[0, 0, 0, 0, 1\] cannot be read .*checksum.*; remove .*status/c",
    ),
    (lambda s: (s / "v" / f"{CELL}/0/0").unlink(), r"cell \[0, 0, 0, 0, 1\] cannot be read .values of v are missing"),
    (lambda s: (s / "pmse" / f"{CELL}/0").write_bytes(b""), r"cell \[0, 0, 0, 0, 1\] cannot be read .*invalid"),
    (lambda s: (s / "time" / "c" / "0").write_bytes(b"?"), "is damaged .*; sweep anew"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE, ids=[message[:40] for _, message in DAMAGE])
def test_a_store_that_is_not_as_it_was_is_refused(
    damage: Callable[[Path], object], message: str, tmp_path: Path, executor: Executor
) -> None:
    store = tmp_path / "s.zarr"
    sweep(tiny(), store, executor=executor)
    whole = contents(store)
    damage(store)
    broken = contents(store)
    with pytest.raises(StoreError, match=message):
        sweep(tiny(), store, executor=executor, resume=True)
    assert contents(store) == broken  # untouched
    if "remove" in message or "cell" in message:  # the advice is good
        (store / "status" / CELL).unlink()
        sweep(tiny(), store, executor=executor, resume=True)
        assert contents(store) == whole


def test_a_store_without_an_attribute_is_of_another_version(tmp_path: Path, executor: Executor) -> None:
    store = tmp_path / "s.zarr"
    sweep(tiny(), store, executor=executor)
    metadata = json.loads((store / "zarr.json").read_text())
    del metadata["attributes"]["versions"], metadata["attributes"]["sweep"]
    (store / "zarr.json").write_text(json.dumps(metadata))
    broken = contents(store)
    with pytest.raises(StoreError, match=r"another version of quenched: it does not say .*sweep") as refused:
        sweep(tiny(), store, executor=executor, resume=True)
    assert "versions" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert contents(store) == broken


def test_a_store_of_another_sweep_is_refused(tmp_path: Path, executor: Executor) -> None:
    store = tmp_path / "s.zarr"
    found = sweep(tiny(), store, executor=executor)
    with pytest.raises(StoreError, match="exists: resume it"):
        sweep(tiny(), store, executor=executor)
    for changes, message in (
        ({"rules": [OnlineSGD(0.4)]}, r"sweep\.rules\.0\.lr is 0\.5 there and 0\.4 here"),
        ({"seeds": [0, 2]}, r"sweep\.seeds\[1\] is 1 there and 2 here"),
        ({"seeds": [0]}, r"sweep\.seeds is \[0, 1\] there and \[0\] here"),
        ({"mixtures": {"x": Mixture.xor(0.4)}}, r"sweep\.mixtures\.0 is there only"),
    ):
        with pytest.raises(StoreError, match=message):
            sweep(tiny(**changes), store, executor=executor, resume=True)
    xr.testing.assert_identical(sweep(tiny(), store, executor=executor, resume=True), found)


def test_a_store_has_one_writer(tmp_path: Path, executor: Executor) -> None:
    refused = []

    def another(_: float) -> None:
        with pytest.raises(StoreError, match="another program is at work on the store"):
            sweep(tiny(), tmp_path / "s.zarr", executor=executor, resume=True)
        refused.append(True)

    sweep(tiny(), tmp_path / "s.zarr", executor=executor, progress=another)
    assert len(refused) == 2
    sweep(tiny(), tmp_path / "s.zarr", executor=executor, resume=True)


def test_an_unwritable_place_is_said(tmp_path: Path, executor: Executor) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot be made: .*choose another place"):
        sweep(tiny(), tmp_path / "file" / "s.zarr", executor=executor)


def test_a_full_disk_loses_nothing(tmp_path: Path, executor: Executor) -> None:
    """After the first cell the system lets no file grow beyond 16 bytes."""
    store = tmp_path / "s.zarr"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(StoreError, match=r"cannot be written \(.*File too large.*what was finished before is safe"):
            sweep(
                tiny(), store, executor=executor,
                progress=lambda _: resource.setrlimit(resource.RLIMIT_FSIZE, (16, limits[1])),
            )  # fmt: skip
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert finished(store) == 1
    found = sweep(tiny(), store, executor=executor, resume=True)
    assert found.equals(sweep(tiny(), tmp_path / "other.zarr", executor=executor))


# --- bad input

GOOD: dict[str, Any] = {
    "D": 10,
    "seeds": [0],
    "t": [1.0],
    "mixture": [{"kind": "xor", "sigma": 0.4}],
    "network": [{"K": 2, "activation": "relu"}],
    "rule": [{"lr": 0.5}],
}
BAD: Sequence[tuple[dict[str, Any], str]] = [
    ({"D": [10, 3]}, "D must be an integer >= 4 = p \\+ K for mixture 'xor' and network 'relu', got 3"),
    ({"D": "ten"}, "D must be an integer >= 1, got 'ten'"),
    ({"D": [10, 10]}, r"D must be one or more different integers, got \[10, 10\]"),
    ({"seeds": [1, 1]}, r"seeds must be one or more different integers, got \[1, 1\]"),
    ({"seeds": {"first": 0, "count": 3}}, "seeds has the unknown 'count'; it may have first, number"),
    ({"seeds": {"first": 0}}, "seeds.number must be an integer >= 1, got None"),
    ({"t": [-1.0]}, "t must be >= 0, got -1"),
    ({"t": [1.0, 1.01]}, "t must increase by a step 1/D = 0.1 or more"),
    ({"t": {"last": 3, "number": 1}}, "t.number must be an integer >= 2, got 1"),
    ({"batch": 2}, "batch must divide the number of seeds, 1, got 2"),
    ({"engine": "gpu"}, "engine must be 'vectors' or 'overlaps', got 'gpu'"),
    ({"rates": [1]}, "spec has the unknown 'rates'"),
    ({"rule": None}, "spec must have rule, got only"),
    ({"rule": 3}, "rule must be a table or tables"),
    ({"rule": [{"lr": -1}]}, "lr must be finite and >= 0, got -1"),
    ({"rule": [{"lr": 0.1}, {"lr": 0.2}]}, "rule must have different names, got 'sgd' twice"),
    ({"rule": [{}]}, "rule 'sgd': .* missing .* 'lr'"),
    ({"network": [{"K": 2, "activation": "__import__('os')"}]}, "__import__"),
    ({"mixture": [{"kind": "moons"}]}, "mixture.kind must be one of xor, .* got 'moons'"),
    ({"mixture": [{"kind": "xor", "sigma": 0.4, "m": 2}]}, "mixture has the unknown 'm'; it may have sigma"),
]


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(each)}" for key, each in value.items()) + "}"
    return "[" + ", ".join(map(toml, value)) + "]" if isinstance(value, list) else json.dumps(value)


@pytest.mark.parametrize(("changes", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_bad_input_is_refused_by_name_and_value(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    given = {key: value for key, value in (GOOD | changes).items() if value is not None}
    path.write_text("\n".join(f"{key} = {toml(value)}" for key, value in given.items()))
    with pytest.raises(ValueError, match=message):
        read_spec(path)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"spec must be a TOML file, got .*No such file"):
        read_spec(tmp_path / "nowhere.toml")
    (tmp_path / "text").write_text("D == 3")
    with pytest.raises(ValueError, match="spec must be a TOML file"):
        read_spec(tmp_path / "text")
    with pytest.raises(ValueError, match="mixtures must hold one or more records"):
        tiny(mixtures={})
    for changed, message in (
        ({"mixtures": ["xor"]}, "mixtures must be a Mixture, got 'xor'"),
        ({"networks": {"one": "relu"}}, "networks must be a TwoLayer, got 'relu'"),
        ({"rules": [0.5]}, "rules must be a LearningRule, got 0.5"),
        ({"networks": None}, "networks must be a sequence of records, got None"),
        ({"rules": OnlineSGD("1 - t"), "t": [0.5, 2.0]}, r"lr must be .* >= 0, got .* at t = 1\.0"),
    ):
        with pytest.raises(ValueError, match=message):
            tiny(**changed)
    with pytest.raises(ValueError, match="scheduler must be None where an executor is given"):
        sweep(tiny(), tmp_path / "s.zarr", executor=Failing(""), scheduler="tcp://127.0.0.1:9")
    with pytest.raises(ValueError, match="processes must be an integer >= 1, got 0"):
        sweep(tiny(), tmp_path / "s.zarr", processes=0)
