"""The example of the README runs as it stands there."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_example_runs_and_comes_close_to_the_oracle(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    exec(compile(example, "README.md", "exec"), {})
    errors, oracle = capsys.readouterr().out.splitlines()
    theory, simulation = map(float, errors.split())
    best = float(re.search(r"value=([\d.]+)", oracle)[1])
    assert best < theory < best + 0.02  # what SGD noise and the end at t = 120 leave
    # D = 500: the O(1/D) bias, and four standard errors of the mean over five runs with a spread of some 0.005
    assert abs(simulation - theory) < 1 / 500 + 4 * 0.005 / 5**0.5
