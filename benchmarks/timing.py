"""What all benchmarks share: processor time of a call, and the machine that it was taken on."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np

PACKAGES = ("quenched", "numpy", "scipy", "numba", "scikit-learn", "mpmath", "neural-tangents", "jax")


def seconds(function: Callable[[], object], budget: float = 0.5, least: int = 3) -> float:
    """CPU seconds per call: the least of the calls that fit into `budget`, `least` of them at least."""
    best, spent, calls = np.inf, 0.0, 0
    while calls < least or spent < budget:
        start = time.process_time()
        function()
        took = time.process_time() - start
        best, spent, calls = min(best, took), spent + took, calls + 1
    return best


def versions() -> str:
    """Python and the packages that matter, those that are not installed said so."""
    found = [f"Python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            found.append(f"{name} not installed")
    return ", ".join(found)


def machine() -> str:
    """Processor, cores and load."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{name}, {os.cpu_count()} cores{load}, {platform.system()}"
