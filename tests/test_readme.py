"""The example of the README runs as it stands there; the lists of README and docs/ are those of the tables."""

import re
from pathlib import Path

import pytest

from quenched.sim.cli.main import verbs
from quenched.symbolic.language.grammar import BUILTIN, LOSSES, NAMED

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
HOW_TO = {
    name: (ROOT / "docs" / "how_to" / f"{name}.md").read_text(encoding="utf-8") for name in ("activation", "loss")
}


def test_the_example_runs_and_comes_close_to_the_oracle(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(example.splitlines()) <= 15
    exec(compile(example, "README.md", "exec"), {})
    errors, oracle = capsys.readouterr().out.splitlines()
    theory, simulation = map(float, errors.split())
    best = float(re.search(r"value=([\d.]+)", oracle)[1])
    assert best < theory < best + 0.02  # what SGD noise and the end at t = 120 leave
    # D = 500: the O(1/D) bias, and four standard errors of the mean over five runs with a spread of some 0.005
    assert abs(simulation - theory) < 1 / 500 + 4 * 0.005 / 5**0.5


def test_every_name_that_a_user_may_write_is_there() -> None:
    """Activations and losses on the pages on how to use them, verbs in the README; a new entry is told of there."""
    for name in (*BUILTIN, *NAMED):
        assert f"`{name}`" in HOW_TO["activation"], name
    for name in LOSSES:
        assert f"`{name}`" in HOW_TO["loss"], name
    for verb in verbs():
        assert f"`{verb}`" in README or f"quenched {verb}" in README, verb


def test_the_readme_leads_to_files_that_are_there() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)", README)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link
