"""Ctrl-C and SIGTERM: the command and its workers end, say what is kept, and --resume ends with the same numbers.

How long it takes is not measured here (benchmarks are apart): a test waits as long as it must.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import xarray as xr

from quenched.sim.cli.terminal import Interrupted, interruption, keeping
from quenched.sim.processes import Work

COMMAND = [sys.executable, "-c", "from quenched.sim.cli.main import main; main()"]
SMALL = ["--K", "2", "--activation", "erf", "--learner", "two-layer", "--starts", "1"]
PATIENCE = 120.0  # seconds until a test gives up: a busy machine is no failure

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


def until(condition: Callable[[], bool], process: "subprocess.Popen[str] | None" = None) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.02)


def started(*arguments: str, cwd: Path) -> "subprocess.Popen[str]":
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    return subprocess.Popen([*COMMAND, *arguments], cwd=cwd, **options)  # type: ignore[call-overload,no-any-return]


@pytest.fixture
def finished(run: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A run that nobody interrupts: in this process."""
    monkeypatch.chdir(tmp_path)

    def done(*arguments: str) -> None:
        assert run(*arguments) == 0

    return done


def living(group: int) -> bool:
    """Whether a process of the group is left that is no zombie."""
    listed = subprocess.run(["ps", "-eo", "pgid=,stat="], capture_output=True, text=True, check=True).stdout
    rows = (line.split() for line in listed.splitlines())
    return any(int(pgid) == group and not stat.startswith("Z") for pgid, stat in rows)


def test_where_all_is_done_nothing_is_left(tmp_path: Path, finished: Callable[..., None]) -> None:
    finished("curve", *SMALL, "-t", "1", "--processes", "2", "-o", "c.nc", "--sigma", "0.5")
    assert [path.name for path in tmp_path.iterdir()] == ["c.nc"]


@pytest.mark.parametrize(
    ("number", "to_all", "processes"),
    [(signal.SIGINT, True, "2"), (signal.SIGTERM, False, "2"), (signal.SIGINT, True, "1")],
    ids=["ctrl-c", "sigterm", "ctrl-c, one process"],
)
def test_curve_stops_and_goes_on(number: signal.Signals, to_all: bool, processes: str, tmp_path: Path) -> None:
    """Jobs of the oracle are short, those of the network so long that the signal comes before their end.

    A terminal signals all of its processes, `kill` one.
    """
    long = ["curve", *SMALL, "-t", "1e9", "--processes", processes, "-o", "c.nc"]
    kept = tmp_path / "c.nc.unfinished"
    process = started("curve", "--learner", "oracle", *long[1:], "--sigma", "0.5,0.6", cwd=tmp_path)
    until(lambda: len(list(kept.glob("*.json"))) == 2, process)  # of the oracle
    (os.killpg if to_all else os.kill)(process.pid, number)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + number
    assert "quenched: interrupted" in said
    assert "Traceback" not in said
    until(lambda: not living(process.pid))
    assert not (tmp_path / "c.nc").exists()
    assert len(list(kept.glob("*.json"))) == 2


def test_what_is_kept_is_used(tmp_path: Path, finished: Callable[..., None]) -> None:
    """Finished jobs of an interrupted run, marked by hand, come out of the resumed one."""
    arguments = ["curve", "--sigma", "0.5,0.6", "--learner", "oracle", "--learner", "two-layer", *SMALL[:4]]
    arguments += ["--starts", "1", "-t", "1e9", "-o", "c.nc"]
    process = started(*arguments, cwd=tmp_path)
    kept = tmp_path / "c.nc.unfinished"
    until(lambda: len(list(kept.glob("*.json"))) == 2, process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE)
    assert "is in c.nc.unfinished: add --resume to go on" in said or "add --resume" in said
    for path in kept.glob("*.json"):
        text = path.read_text()
        path.write_text(text.replace('"value": 0.', '"value": 1.'))
    only = ["curve", "--sigma", "0.5,0.6", "--learner", "oracle", "-o", "c.nc", "--resume"]
    finished(*only)
    assert (xr.load_dataset(tmp_path / "c.nc").classification_error > 1).all()
    assert not kept.exists()


def test_a_simulation_goes_on_to_the_same_bits(tmp_path: Path, finished: Callable[..., None]) -> None:
    arguments = ["dynamics", "--K", "2", "--activation", "erf", "--D", "300", "-t", "40", "--simulate", "--seeds", "2"]
    finished(*arguments, "-o", "whole.nc")
    process = started(*arguments, "-o", "part.nc", cwd=tmp_path)
    until((tmp_path / "part.nc.unfinished" / "simulation.nc").exists, process)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE)
    if process.returncode == 0:  # it was faster than the signal
        return
    finished(*arguments, "-o", "part.nc", "--resume")
    for name in ("", "_simulation"):
        assert xr.load_dataset(tmp_path / f"part{name}.nc").identical(xr.load_dataset(tmp_path / f"whole{name}.nc"))
    assert not (tmp_path / "part.nc.unfinished").exists()


def test_a_failed_job_ends_those_that_run(tmp_path: Path) -> None:
    """The others would sleep for an hour."""
    with pytest.raises(ValueError, match="sleep length must be non-negative"):
        Work(2).map(time.sleep, [(3600.0,), (-1.0,)])


def test_an_exception_that_compiled_code_drops_is_raised_again(tmp_path: Path) -> None:
    """The signal comes while C calls back into Python, where an exception is lost; the loop after it is then ended."""
    code = """
import ctypes, os, signal, sys, time
from quenched.sim.cli.terminal import Interrupted, interruptible
call = ctypes.CFUNCTYPE(None)
@call
def back():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.01)
try:
    with interruptible():
        back()
        while True:
            time.sleep(0.01)
except Interrupted as stop:
    sys.exit(stop.status)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (130, "")


def test_a_call_that_never_returns_is_cut_off() -> None:
    """Compiled code that does not look at signals: the thread ends the process."""
    code = """
import hashlib, os, signal, threading
from quenched.sim.cli.terminal import interruptible
with interruptible():
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # half an hour in C
"""
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 128 + signal.SIGTERM
    assert "interrupted in a long calculation" in done.stderr


def test_fixed_points_go_on(tmp_path: Path, finished: Callable[..., None]) -> None:
    """Each initial state is a job; the resumed run ends with the same bits."""
    small = ["fixed-points", "--K", "2", "--activation", "erf", "--sigma", "0.5"]
    finished(*small, "--seeds", "4", "-o", "whole.nc")
    process = started(*small, "--seeds", "1000", "-o", "part.nc", cwd=tmp_path)
    kept = tmp_path / "part.nc.unfinished"
    until(lambda: len(list(kept.glob("*.json"))) >= 4, process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert re.search(r"\(\d+ parts\) is in part\.nc\.unfinished: add --resume to go on", said)
    finished(*small, "--seeds", "4", "-o", "part.nc", "--resume")
    assert xr.load_dataset(tmp_path / "part.nc").identical(xr.load_dataset(tmp_path / "whole.nc"))


def test_what_compiled_code_makes_of_an_interruption_is_one() -> None:
    """A call that returns with an exception set is a SystemError, of which that is the cause; notes reach it."""
    stop = Interrupted(signal.SIGTERM)
    with pytest.raises(Interrupted) as found, keeping(lambda: "kept"):
        raise SystemError("returned a result with an exception set") from stop
    assert found.value is stop
    assert stop.__notes__ == ["kept"]
    assert interruption(ValueError("of another kind")) is None
    with pytest.raises(RuntimeError) as failed, keeping(lambda: None):
        raise RuntimeError("nothing is kept, and nothing is said about it")
    assert not hasattr(failed.value, "__notes__")
