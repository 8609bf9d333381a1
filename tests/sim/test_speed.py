"""Speed is measured as what it says; and the simulations use nothing that CuPy lacks."""

import ast
import inspect
import math
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from quenched.numerics import Mixture, OnlineSGD, TwoLayer
from quenched.sim.backend import get_backend
from quenched.sim.referee.throughput import Speed, measure
from quenched.sim.training import simulate

# What runs on the arrays of a backend.
SOURCES = ("backend.py", "engines/vectors.py", "engines/base.py", "engines/run.py", "referee/throughput.py")


def test_the_limit_is_the_traffic_of_a_block() -> None:
    """K = 4 in blocks of 32: 4 + 12/32 numbers of 8 bytes, 35 bytes; half of it in float32."""
    speed = Speed("numpy", "a host", "float64", 1000, 4, 16, rate=1e8, bandwidth=35e9)
    assert speed.limit == 1e9
    assert speed.fraction == 0.1
    assert Speed("numpy", "a host", "float32", 1000, 4, 16, 1e8, 35e9).limit == 2e9
    assert speed.sentence() == (
        "numpy on a host: 1e+08 steps x replicas x D per second (float64, D = 1000, K = 4, 16 replicas), 10.0% of what "
        "its memory would allow at the measured 35 GB/s"
    )


def test_the_host_is_measured() -> None:
    speed = measure("numpy", D=100, replicas=2, seconds=0.05)
    assert speed.backend == "numpy"
    assert 1e4 < speed.rate < 1e12
    assert 1e7 < speed.bandwidth < 1e13


def uses(name: str, root: Path) -> Iterator[tuple[str, list[str]]]:
    """Dotted names below the variable or attribute `name` in the sources, and the keywords they are called with."""
    for source in SOURCES:
        for node in ast.walk(ast.parse((root / "sim" / source).read_text())):
            keywords, inner = [], node
            if isinstance(node, ast.Call):
                keywords, inner = [each.arg for each in node.keywords if each.arg], node.func
            path: list[str] = []
            while isinstance(inner, ast.Attribute):
                if inner.attr == name and path:
                    yield ".".join(path), keywords
                path.insert(0, inner.attr)
                inner = inner.value
            if isinstance(inner, ast.Name) and inner.id == name and path:
                yield ".".join(path), keywords


def accepts(function: Any, keyword: str) -> bool:
    try:
        return keyword in inspect.signature(function).parameters
    except ValueError:  # compiled: its documentation begins with the signature
        return f"{keyword}=" in (function.__doc__ or "") or f"{keyword}" in (function.__doc__ or "").split("\n")[0]


def test_every_cupy_function_and_keyword_exists(root: Path) -> None:
    """Without a card: the wheel imports on any machine."""
    cupy = pytest.importorskip("cupy", reason="the CuPy wheel is not installed: its names cannot be checked here")
    import array_api_compat.cupy as xp

    spaces: dict[str, ModuleType] = {"xp": xp, "cupy": cupy}
    seen = set()
    for name, space in spaces.items():
        for path, keywords in uses(name, root):
            found: Any = space
            for part in path.split("."):
                found = getattr(found, part)
            for keyword in keywords:
                assert accepts(found, keyword), f"{name}.{path} has no {keyword}"
            seen.add(f"{name}.{path}")
    assert {"xp.matmul", "cupy.random.Philox4x3210", "cupy.fuse", "cupy.cuda.runtime.getDeviceCount"} <= seen
    assert accepts(cupy.random.Generator.standard_normal, "dtype")


def test_fused_arithmetic_is_what_it_was(root: Path) -> None:
    """cupy.fuse traces a function of arithmetic: the functions handed to it hold nothing else."""
    fused = {"_change", "_carry"}
    tree = ast.parse((root / "sim" / "engines" / "vectors.py").read_text())
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    assert {call.args[0].id for call in calls if call.func.id == "fuse"} == fused  # type: ignore[attr-defined]
    allowed = (ast.Return, ast.Tuple, ast.BinOp, ast.Mult, ast.Sub, ast.Add, ast.Name, ast.Load)
    for name in fused:
        for statement in functions[name].body[1:]:  # after the docstring
            assert all(isinstance(node, allowed) for node in ast.walk(statement))


@pytest.mark.gpu
def test_a_card_gives_the_law_of_the_host() -> None:
    """Means over 200 seeds agree within five standard errors."""
    if get_backend("auto").name != "cupy":
        pytest.skip("no GPU answers: nothing can be run on a card here")
    runs = [
        simulate(Mixture.xor(0.4), TwoLayer(2, "relu"), OnlineSGD(0.5), 100, [2.0], range(200), backend=backend)
        for backend in ("cupy", "numpy")
    ]
    for name in ("M", "Q", "v", "pmse"):
        one, other = (run[name].values[:, 0] for run in runs)
        error = np.sqrt((one.var(axis=0, ddof=1) + other.var(axis=0, ddof=1)) / 200)
        assert (np.abs(one.mean(axis=0) - other.mean(axis=0)) < 5 * error).all()
    assert math.isfinite(measure("cupy", seconds=0.2).rate)
