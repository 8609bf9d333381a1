"""ruff, as a test: the rules and the reason for each stand in pyproject.toml."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    "arguments", [["check", "--no-cache"], ["format", "--no-cache", "--diff"]], ids=["lint", "layout"]
)
def test_ruff(arguments: list[str]) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "ruff", *arguments, "."], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, f"`make format` repairs layout and imports\n{run.stdout}{run.stderr}"
