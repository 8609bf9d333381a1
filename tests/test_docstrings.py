"""The examples in the docstrings of every module run and give the answers they state."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = [
    ".".join(("quenched", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    for layer in ("symbolic", "theory", "numerics", "sim")
    for path in sorted((ROOT / layer).rglob("*.py"))
]


@pytest.mark.parametrize("module", MODULES)
def test_examples(module: str) -> None:
    assert doctest.testmod(importlib.import_module(module), optionflags=doctest.ELLIPSIS).failed == 0
