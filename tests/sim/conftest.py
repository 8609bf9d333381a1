"""A card made of the host: the kernels' own source, compiled by the host's C++ compiler, on NumPy arrays."""

from __future__ import annotations

import ctypes
import hashlib
import shutil
import subprocess
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quenched.sim.backend import Backend, Launch, get_backend

COMPILER = shutil.which("g++") or shutil.which("clang++")


@cache
def library(source: str) -> ctypes.CDLL:
    """A shared library of a source."""
    folder = Path(tempfile.gettempdir()) / "quenched-host-card"
    folder.mkdir(exist_ok=True)
    path = folder / f"{hashlib.sha256(source.encode()).hexdigest()[:24]}.so"
    if not path.exists():
        options = ["-x", "c++", "-std=c++17", "-O1", "-ffp-contract=off", "-shared", "-fPIC", "-w"]
        subprocess.run([str(COMPILER), *options, "-o", str(path), "-"], input=source.encode(), check=True)
    return ctypes.CDLL(str(path))


def kernels(source: str) -> Launch:
    """Kernels that run a replica after the other."""
    loaded = library(source)

    def launch(name: str, count: int, *arguments: Any, lanes: int = 1) -> None:
        passed: list[Any] = [ctypes.c_longlong(count)]
        for value in arguments:
            if isinstance(value, np.ndarray):
                assert value.flags.c_contiguous
                passed.append(ctypes.c_void_p(value.ctypes.data))
            elif isinstance(value, (np.uint64, np.int64)):
                passed.append(ctypes.c_longlong(int(value)))
            else:
                passed.append(ctypes.c_double(float(value)))
        getattr(loaded, name)(*passed)

    return launch


@pytest.fixture(scope="session")
def host_card() -> Backend:
    """A backend that calls itself CuPy and is NumPy."""
    if COMPILER is None:
        pytest.skip("no C++ compiler on this machine: the card's source is tested where there is one")
    return replace(get_backend("numpy"), name="cupy", kernels=kernels)


@pytest.fixture(scope="session")
def real_card() -> Backend:
    """The card of this machine; where none answers, the test is skipped, and says so."""
    try:
        return get_backend("cupy")
    except RuntimeError as error:
        pytest.skip(f"no GPU answers: nothing can be run on a card here ({error})")


@pytest.fixture(params=["host", pytest.param("gpu", marks=pytest.mark.gpu)])
def card(request: pytest.FixtureRequest) -> Backend:
    """The kernels run by the host, and by the card of this machine: the same tests for both."""
    found: Backend = request.getfixturevalue("host_card" if request.param == "host" else "real_card")
    return found
