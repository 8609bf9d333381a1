"""Strict settings for every test: floating-point trouble raises; stored text is compared, never silently rewritten."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update", action="store_true", help="rewrite generated code and stored text instead of comparing"
    )


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


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT
