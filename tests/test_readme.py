"""The example of the README runs as it stands there, and its lists are those of the tables."""

import re
from pathlib import Path

import pytest

from quenched.sim.cli.main import verbs
from quenched.symbolic.language.grammar import BUILTIN, LOSSES, NAMED

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


def test_every_name_that_a_user_may_write_is_there() -> None:
    """Activations, losses and verbs; a new entry of their tables is told of here."""
    for name in (*BUILTIN, *NAMED, *LOSSES):
        assert f"`{name}`" in README, name
    for verb in verbs():
        assert f"`{verb}" in README or f"quenched {verb}" in README, verb
