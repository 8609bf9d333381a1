"""Strict settings for every test: floating-point trouble raises; stored text is compared, never silently rewritten."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]

# The folder of published data that some tests compare with: without it they are skipped (CONTRIBUTING.md).
os.environ.setdefault("QUENCHED_REFDATA", str(ROOT.parent / "shared" / "refdata"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update", action="store_true", help="rewrite generated code and stored text instead of comparing"
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Processes take whole files, whose tests share what they compile; a notebook has a process of its own anyway."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return nodeid if "/test_notebooks.py" in nodeid else super()._split_scope(nodeid)

    return Scheduling(config, log)


@pytest.fixture
def update(request: pytest.FixtureRequest) -> bool:
    """True where the caller asked for stored text to be rewritten (`pytest --update`)."""
    return bool(request.config.getoption("--update"))


@pytest.fixture(autouse=True)
def floating_point_raises() -> Iterator[None]:
    """Division by zero, overflow and invalid operations raise in every test.

    Underflow to zero is the right value of a normal tail, so it stays silent; a test that wants it too asks for it.
    """
    with np.errstate(divide="raise", over="raise", invalid="raise", under="ignore"):
        yield


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The exit code of `quenched ARGUMENTS`, run in this process."""
    from quenched.sim.cli import main

    def called(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["quenched", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main.main()
        return int(end.value.code or 0)

    return called


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture
def underived(tmp_path: Path) -> Path:
    """A cache of nothing derived, for a process that has to derive; machine code, named by what it is of, is there."""
    from quenched.numerics.compiled.cache import cache_folder

    folder, known = tmp_path / "cache", cache_folder() / "machine"
    folder.mkdir(mode=0o700)
    if known.is_dir():
        shutil.copytree(known, folder / "machine", ignore=shutil.ignore_patterns(".draft-*"))
    return folder


@pytest.fixture
def derived_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not in theory/ is derived in this process, which saves the second or two that another takes to start.

    For tests of what is derived; that another process derives it is tested in tests/numerics/test_cache.py.
    """
    from quenched.symbolic.__main__ import module

    monkeypatch.setattr("quenched.numerics.compiled.cache.derived_text", lambda kind, arguments: module(*arguments))
