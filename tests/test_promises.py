"""What an extension costs: one entry or one file, made here from outside, and seen by all who should know of it."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from scipy.special import ndtr

import quenched.symbolic.learners
from quenched.numerics import Mixture, OnlineSGD, TwoLayer
from quenched.numerics.learners import error_of, learners, register
from quenched.numerics.problem.learner import Learner, Options, Solution, option
from quenched.numerics.problem.named_mixtures import NAMED, NamedMixture, named
from quenched.numerics.typesetting import equations
from quenched.sim import cli, engines, figures, simulate, sweep
from quenched.sim import figures as figures_folder
from quenched.sim.cli import main
from quenched.sim.engines.overlaps import Chain
from quenched.sim.referee.grid import Grid, Variant
from quenched.sim.referee.judge import judge
from quenched.sim.specifications import read_spec
from quenched.symbolic import document, generate, losses
from quenched.symbolic.language import grammar

ROOT = Path(__file__).resolve().parents[1]


def reversed_pair(sigma: float, separation: float = 1.0, scaling: float = 0.0) -> Mixture:
    """Two clusters whose labels are against their first coordinate."""
    return Mixture([[separation], [-separation]], [-1, 1], sigma=sigma, scaling=scaling)


@dataclass(frozen=True)
class CoinOptions(Options):
    """How often the coin says "positive"."""

    heads: float = option(0.5, "Share of positive guesses.")


def coin(mixture: Mixture, options: CoinOptions) -> Solution:
    """Labels are guessed."""
    positive = float(mixture.weights[mixture.labels > 0].sum())
    return Solution(positive * (1 - options.heads) + (1 - positive) * options.heads, 0.0, "arithmetic", {})


class Toy(Chain):
    """An engine of another name."""


FIGURE = """
import xarray as xr
from matplotlib.figure import Figure

def compute(work):
    return {"": xr.Dataset({"power": ("k", work.map(pow, [(2, k) for k in range(3)]))})}

def draw(data):
    figure = Figure()
    figure.subplots().plot(data[""].power)
    return figure

def caption(data):
    return "Powers of 2."

def sentence(data):
    return f"2^2 = {int(data[''].power[2])}."
"""

LEARNER = '''
"""Coins: labels are guessed, whatever the input is."""

from quenched.symbolic.language.notation import Positive, Derived

TITLE = "Coins"
NOTATION = {"heads": "h"}


def coin_error(heads: Positive, weight_plus: Positive) -> Derived:
    """Error of a coin that says "positive" with probability heads, where weight_plus of the labels are."""
    return Derived(weight_plus * (1 - heads) + (1 - weight_plus) * heads)


FORMULAS = (coin_error,)
'''


@pytest.fixture
def extended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """One statement for an activation, a loss, a mixture, a learner and an engine; one file for a figure and a learner.

    The path is that of a folder of the test.
    """
    monkeypatch.setitem(grammar.NAMED, "shifted", "x + 1/2")
    monkeypatch.setitem(grammar.LOSSES, "hyperbolic", "sqrt(1 + (phi - y)**2)")
    monkeypatch.setitem(NAMED, "reversed-pair", NamedMixture(reversed_pair))
    monkeypatch.setattr("quenched.numerics.learners._EXTRA", {})
    register(Learner("coin", coin, CoinOptions(), "No learning at all."))
    monkeypatch.setitem(engines.ENGINES, "toy", f"{__name__}:Toy")
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    for folder, package, text in (
        ("figures", figures_folder, FIGURE),
        ("symbolic", quenched.symbolic.learners, LEARNER),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "toy.py").write_text(text)
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path / folder)])
        monkeypatch.delitem(sys.modules, f"{package.__name__}.toy", raising=False)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["quenched", *arguments])
    for module in ("curve", "problems"):  # their help is made when they are imported
        monkeypatch.delitem(sys.modules, f"quenched.sim.cli.{module}", raising=False)
        monkeypatch.delattr(cli, module, raising=False)  # else `from quenched.sim.cli import ..` finds the old one
    with pytest.raises(SystemExit) as end:
        main.main()
    assert not end.value.code


def test_curve_knows_of_a_mixture_an_activation_a_loss_and_a_learner(
    extended: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    chosen = ["--learner", "oracle", "--learner", "coin", "--learner", "two-layer"]
    network = ["--activation", "shifted", "--K", "1", "--loss", "hyperbolic", "--lr", "0.1", "-t", "0.5"]
    run(monkeypatch, "curve", "--mixture", "reversed-pair", *chosen, *network, "--heads", "0.25", "--sigma", "0.5")
    header, row = (line.split() for line in capfd.readouterr().out.splitlines())
    assert header == ["sigma", "oracle", "coin", "two-layer"]
    assert float(row[1]) == pytest.approx(ndtr(-2.0), rel=1e-11)  # 12 digits are printed
    assert float(row[2]) == 0.5
    assert ndtr(-2.0) < float(row[3]) < 1
    assert error_of("coin", named("reversed-pair", 0.5), learners()["coin"].options).value == 0.5


def test_a_sweep_knows_of_a_mixture_an_activation_a_loss_and_an_engine(extended: Path) -> None:
    """The numbers are those of the same engine by its own name, of the mixture by its means."""
    spec = extended / "grid.toml"
    spec.write_text(
        'D = [20]\nseeds = 2\nt = [0, 1]\nengine = "toy"\ntest_samples = 8\n'
        'mixture = [{ kind = "reversed-pair", sigma = [0.5, 0.6] }]\n'
        'network = [{ K = 1, activation = "shifted" }]\nrule = [{ lr = 0.1, loss = "hyperbolic" }]\n'
    )
    with ThreadPoolExecutor(1) as pool:  # a worker process would not know what only this one has registered
        found = sweep(read_spec(spec), extended / "grid.zarr", executor=pool)
    assert found.mixture.values.tolist() == ["reversed-pair sigma=0.5", "reversed-pair sigma=0.6"]
    network, rule = TwoLayer(1, "x + 1/2"), OnlineSGD(0.1, loss="sqrt(1 + (phi - y)**2)")
    same = simulate(reversed_pair(0.6), network, rule, 20, [0, 1], 2, "overlaps", test_samples=8)
    np.testing.assert_array_equal(found.Q.isel(mixture=1).squeeze(), same.Q.squeeze())


def test_the_referee_knows_of_a_mixture_an_activation_a_loss_and_an_engine(extended: Path) -> None:
    assert "reversed-pair" in Grid().mixtures
    grid = Grid(
        mixtures=("reversed-pair",), activations=("shifted",), K=(1,), D=(50,), seeds=5, times=(0.5,),
        variants=(Variant("shifted", 1, loss="hyperbolic", control=False),), varied=("reversed-pair",),
        bias_D=(20, 40, 80), bias_runs=400.0, power_law=False,
    )  # fmt: skip
    verdict = judge(grid, engine="toy", processes=1)
    assert [cell.mixture for cell in verdict.cells] == 2 * ["reversed-pair"]
    assert [(cell.network, cell.loss) for cell in verdict.cells] == [
        ("shifted, K = 1", "square"), ("shifted, K = 1", "hyperbolic"),
    ]  # fmt: skip
    assert verdict.engine.startswith("toy")
    with pytest.raises(ValueError, match="engine must be 'vectors' or 'overlaps' or 'toy', got 'matrix'"):
        judge(grid, engine="matrix")


def test_reproduce_knows_of_a_figure(
    extended: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert "toy" in figures.figures()
    run(monkeypatch, "reproduce", "toy", "--folder", str(extended / "out"))
    assert capfd.readouterr().out == "toy  2^2 = 4.\n"
    assert xr.load_dataset(extended / "out" / "toy.nc").power.values.tolist() == [1, 2, 4]
    assert "Powers of 2." in (extended / "out" / "figures.md").read_text()


def test_the_document_and_theory_know_of_a_loss_and_a_learner(extended: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of symbolic/learners is a chapter and a file of theory/; a loss is a section and stands in equations."""
    (toy,) = (subject for subject in generate.subjects() if subject.name == "toy")
    monkeypatch.setattr(document, "subjects", lambda: [toy])
    text = document.latex()
    assert "Coins" in text
    assert "labels are guessed, whatever the input is" in text
    (code,) = toy.texts().values()
    scope: dict[str, object] = {}
    exec(code, scope)
    assert scope["coin_error"](0.25, 0.5) == 0.5  # type: ignore[operator]
    assert [formula.name for formula in losses.derivations()][-1] == "hyperbolic"
    shown = str(equations(reversed_pair(0.5), TwoLayer(1, "shifted"), OnlineSGD(0.1, loss="hyperbolic")))
    assert shown.splitlines()[0] == r"l = \sqrt{1 + {\left(\phi - y\right)}^{2}}"


def test_rules_are_fields_of_a_record() -> None:
    """A rule's options are read from the record by sweeps and the command line, not listed again."""
    from quenched.sim import specifications

    assert set(specifications._RULE) == {field.name for field in fields(OnlineSGD)}


ENTRY = '    Elementary("arcsinh", "asinh", ("asinh",), "ctx.asinh"),\n'
SCRIPT = """
from pathlib import Path
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder)]
import quenched
root = Path(quenched.__file__).parent
from quenched.symbolic.language import functions
from quenched.symbolic import generate
subject = generate.Subject.of(functions)
for path, text in subject.texts().items():
    (root / "theory" / path).write_text(text)
from quenched.numerics import *
state = OrderParameters(M=[[0.3], [-0.3]], Q=[[1.0]], v=[0.5])
rate = drift(Mixture.two_clusters(1.0), TwoLayer(1, "asinh(x)"), OnlineSGD(1.0), state)
print(repr(float(rate.v[0])), rate.error)
"""


def test_an_elementary_function_is_one_entry_of_one_table(tmp_path: Path, underived: Path) -> None:
    """asinh, in a copy of the sources: read, derived, generated, compiled; its drift against Gauss-Hermite nodes.

    dv/dt = -E[(v g - y) g] with the fields N(y 0.3, 1): 200 nodes are exact to 1e-12 for a function analytic in a strip
    of width 1; what remains is the stated error of the drift.
    """
    copy = tmp_path / "quenched"
    for layer in ("symbolic", "theory", "numerics", "sim"):
        shutil.copytree(ROOT / layer, copy / layer, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "__init__.py", copy)
    table = copy / "symbolic" / "language" / "functions.py"
    before = '    Elementary("arctan"'
    text = table.read_text()
    assert text.count(before) == 1
    table.write_text(text.replace(before, ENTRY + before))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "QUENCHED_CACHE": str(underived)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", SCRIPT], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    value, error = map(float, done.stdout.split())
    nodes, weights = np.polynomial.hermite_e.hermegauss(200)
    g = np.arcsinh(nodes + 0.3)
    exact = -float((weights / weights.sum()) @ ((0.5 * g - 1) * g))
    assert abs(value - exact) < 5 * error + 1e-9


def test_the_table_of_costs_names_files_that_are_there() -> None:
    """docs/extending.md tells where each entry or file goes."""
    text = (ROOT / "docs" / "extending.md").read_text().partition("## What an extension costs")[2].partition("\n## ")[0]
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| ") and "`" in line]
    kinds = [row[0].strip() for row in rows]
    assert kinds[:4] == ["activation", "elementary function", "mixture", "loss"]
    assert kinds[4:] == ["option of the rule", "learner", "engine", "figure", "verb"]
    for row in rows:
        for path in row[1].split("`")[1::2]:
            place = path.partition("NAME")[0].rstrip("/")
            assert (ROOT / place).exists(), path
