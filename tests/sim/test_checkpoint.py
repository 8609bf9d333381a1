"""A simulation that was killed goes on from its checkpoint and ends with the same bits."""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from quenched.numerics import Mixture, OnlineSGD, TwoLayer
from quenched.sim.backend import Backend, get_backend
from quenched.sim.engines import overlaps
from quenched.sim.engines.checkpoint import Checkpoint, CheckpointError
from quenched.sim.training import simulate

MIXTURE, NETWORK, RULE = Mixture.xor([0.5, 0.6, 0.5, 0.6]), TwoLayer(3, "relu"), OnlineSGD(0.4, label_noise=0.3)
TIMES = [0.0, 1.0, 2.0, 3.0]
# The chain; vectors in both precisions, and so little memory that seeds run in batches.
CASES: dict[str, dict[str, Any]] = {
    "overlaps": {"D": 2000, "seeds": [4, 1], "engine": "overlaps", "test_samples": 40},
    "vectors": {"D": 400, "seeds": [4, 1, 7, 2, 3], "memory": 10**6, "test_samples": 400},
    "float32": {"D": 400, "seeds": [4, 1], "dtype": "float32", "test": "vectors", "test_samples": 40},
}


class Interrupted(Exception):
    """Stands in for what ends a program."""


def stopped(file: Path, after: int, **settings: Any) -> None:
    """A run that saves after every call of the engine and ends after so many of them."""
    calls = 0

    def count(_: float) -> None:
        nonlocal calls
        calls += 1
        if calls > after:
            raise Interrupted

    with pytest.raises(Interrupted):
        simulate(MIXTURE, NETWORK, RULE, t=TIMES, checkpoint=file, checkpoint_every=0, progress=count,
                 **({"backend": "numpy"} | settings))  # fmt: skip


@pytest.mark.parametrize("settings", CASES.values(), ids=CASES.keys())
def test_stopped_anywhere_it_goes_on_to_the_same_bits(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also twice, and once more when it is at its end: then without a single step."""
    monkeypatch.setattr(overlaps, "_CALL", 1000)
    whole = simulate(MIXTURE, NETWORK, RULE, t=TIMES, backend="numpy", **settings)
    for after in (0, 1, 2):
        file = tmp_path / f"{after}.nc"
        stopped(file, after, **settings)
        stopped(file, 1, **settings)
        found = simulate(MIXTURE, NETWORK, RULE, t=TIMES, backend="numpy", checkpoint=file, **settings)
        xr.testing.assert_identical(found, whole)
    steps: list[float] = []
    again = simulate(
        MIXTURE, NETWORK, RULE, t=TIMES, backend="numpy", checkpoint=file, progress=steps.append, **settings
    )
    xr.testing.assert_identical(again, whole)
    assert steps == []


SCRIPT = """
from quenched.numerics import Mixture, OnlineSGD, TwoLayer
from quenched.sim import simulate
simulate(Mixture.xor(0.4), TwoLayer(3, "relu"), OnlineSGD(0.5), 100_000, [0.0, 30.0], [0, 1], "overlaps",
         test_samples=40, checkpoint="run.nc", checkpoint_every=0.1)
"""


def test_killed_it_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    """SIGKILL, three times, each a random while after another checkpoint."""
    file, rng = tmp_path / "run.nc", np.random.default_rng(3)
    position = (-1, 0)
    for _ in range(3):
        run = subprocess.Popen([sys.executable, "-c", SCRIPT], cwd=tmp_path)
        before, end = position, time.monotonic() + 60
        while position <= before:
            assert time.monotonic() < end
            assert run.poll() is None, "the run ended before it was killed"
            time.sleep(0.02)
            if file.exists():
                with xr.open_dataset(file, engine="h5netcdf") as saved:
                    position = (int(saved.position[0]), int(saved.position[2]))
        time.sleep(rng.uniform(0, 0.08))
        run.kill()
        run.wait()
    arguments: tuple[Any, ...] = (Mixture.xor(0.4), TwoLayer(3, "relu"), OnlineSGD(0.5), 100_000, [0.0, 30.0], [0, 1])
    found = simulate(*arguments, "overlaps", test_samples=40, checkpoint=file)
    xr.testing.assert_identical(found, simulate(*arguments, "overlaps", test_samples=40))


def of_another_version(file: Path) -> None:
    with xr.open_dataset(file, engine="h5netcdf") as dataset:
        other = dataset.load()
    other["text_versions"] = json.dumps(json.loads(other.text_versions.item()) | {"numpy": "1.0"})
    other.to_netcdf(file, engine="h5netcdf")


@pytest.mark.parametrize(
    ("changes", "damage", "message"),
    [
        ({"seeds": [4, 2]}, None, r"is of another run: seeds\[1\] is 1 there and 2 here"),
        ({"engine": "vectors"}, None, 'is of another run: simulation.engine is "overlaps" there'),
        ({"t": [0.0, 1.0]}, None, r"is of another run: steps is \[0, 40, 80, 120\] there and \[0, 40\] here"),
        ({}, of_another_version, r'is of another run: versions\.numpy is "1\.0" there'),
        ({}, lambda file: file.write_bytes(file.read_bytes()[:1000]), "cannot be read .*; remove it to start anew"),
        ({}, lambda file: file.write_text("no NetCDF"), "cannot be read .*; remove it to start anew"),
        ({"checkpoint": "nowhere/run.nc"}, None, r"cannot be written .*No such file.*choose another place"),
    ],
)
def test_a_checkpoint_that_is_not_this_runs_is_refused(
    changes: dict[str, Any], damage: Callable[[Path], object] | None, message: str, tmp_path: Path
) -> None:
    file = tmp_path / "run.nc"
    settings: dict[str, Any] = {"t": TIMES, "D": 40, "seeds": [4, 1], "engine": "overlaps", "test_samples": 4}
    settings["checkpoint"] = file
    simulate(MIXTURE, NETWORK, RULE, **settings)
    if damage is not None:
        damage(file)
    before = file.read_bytes()
    with pytest.raises(CheckpointError, match=message):
        simulate(MIXTURE, NETWORK, RULE, **(settings | changes))
    assert file.read_bytes() == before


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"t": TIMES, "D": 40, "seeds": [4, 1], "engine": "overlaps", "test_samples": 4}
    file = tmp_path / "run.nc"
    stopped(file, 1, **{name: value for name, value in settings.items() if name != "t"})
    before = file.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(CheckpointError, match=r"cannot be written .*goes on from the last that was"):
            simulate(MIXTURE, NETWORK, RULE, checkpoint=file, checkpoint_every=0, **settings)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert file.read_bytes() == before
    whole = simulate(MIXTURE, NETWORK, RULE, **settings)
    xr.testing.assert_identical(simulate(MIXTURE, NETWORK, RULE, checkpoint=file, **settings), whole)


def test_any_backend_has_checkpoints(tmp_path: Path) -> None:
    """They hold arrays of the host, whatever the engine computes with."""
    numpy = get_backend("numpy")
    other = Backend("other", numpy.xp, numpy.normals, numpy.to_host)
    settings: dict[str, Any] = {"D": 40, "seeds": [1, 5], "test_samples": 4, "backend": other}
    whole = simulate(MIXTURE, NETWORK, RULE, t=TIMES, **settings)
    file = tmp_path / "run.nc"
    stopped(file, 3, **settings)
    xr.testing.assert_identical(simulate(MIXTURE, NETWORK, RULE, t=TIMES, checkpoint=file, **settings), whole)


def test_it_is_due_after_its_seconds(tmp_path: Path) -> None:
    assert Checkpoint(tmp_path / "x", {}, 0.0).due()
    assert not Checkpoint(tmp_path / "x", {}, 60.0).due()
