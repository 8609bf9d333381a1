"""Figures: labelled axes, every series drawn, error bars of the right size, nothing global touched."""

import sys
from dataclasses import fields, replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_rgb

from quenched.numerics import GradientFlow, Mixture, OnlineSGD, TwoLayer, integrate, random_state
from quenched.numerics.learners import learners
from quenched.numerics.two_layer.learner import TwoLayerOptions
from quenched.sim import plot as plot_any
from quenched.sim import simulate
from quenched.sim.drawing import captions, plot
from quenched.sim.drawing.style import cues, ordered
from quenched.sim.error_curve import error_curve
from quenched.sim.files import save
from quenched.sim.referee import judge as judging

MIXTURE, NETWORK, SGD = Mixture.xor(0.5), TwoLayer(2, "erf"), OnlineSGD(0.3)


@pytest.fixture(scope="module")
def runs() -> tuple[xr.Dataset, xr.Dataset]:
    state, t = random_state(MIXTURE, NETWORK, 50, 0), np.linspace(0, 1, 6)
    simulation = simulate(MIXTURE, NETWORK, SGD, 50, t, [0, 1, 2], state=state, test_samples=100, backend="numpy")
    return integrate(MIXTURE, NETWORK, SGD, state, t), simulation


def test_dynamics(runs: tuple[xr.Dataset, xr.Dataset], tmp_path: Path) -> None:
    theory, simulation = runs
    figure = plot.dynamics({"a": theory, "b": theory}, {"b": simulation}, oracle=0.1, clusters=[0, 2])
    panels = np.array(figure.axes).reshape(4, 2)
    assert all(axes.get_ylabel() for axes in panels[:, 0])
    assert all(axes.get_xlabel() for axes in panels[-1])
    assert [len(axes.containers) for axes in panels[:, 0]] == [0, 0, 0, 0]  # no simulation of "a"
    assert [len(axes.containers) for axes in panels[:, 1]] == [1, 1, 4, 2]  # pmse, error, two clusters x two neurons, Q
    _, _, (bars,) = panels[0, 1].containers[0].lines
    half = [(top[1] - bottom[1]) / 2 for bottom, top in bars.get_segments()]
    expected = simulation.pmse.values.std(axis=0, ddof=1) / np.sqrt(3)
    np.testing.assert_allclose(half, expected, rtol=1e-9, atol=1e-15)  # differences of numbers of order 1
    save(figure, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_one_run_has_no_error_bar(runs: tuple[xr.Dataset, xr.Dataset]) -> None:
    theory, simulation = runs
    figure = plot.dynamics({"a": theory}, {"a": simulation.isel(seed=[0])})
    assert figure.axes[0].containers[0].lines[2] == ()
    assert "one run" in {text.get_text().split(", ")[-1] for text in figure.legends[0].get_texts()}


def test_curve_and_comparison(runs: tuple[xr.Dataset, xr.Dataset], tmp_path: Path) -> None:
    theory, simulation = runs
    chosen = {"oracle": learners()["oracle"].options, "two-layer": TwoLayerOptions(NETWORK, SGD, t=0.5, starts=2)}
    result = error_curve(MIXTURE, [0.4, 0.8], chosen)
    figure = plot.curve(result, xr.concat([simulation.isel(time=-1)] * 2, result.sigma, combine_attrs="override"))
    names = " ".join(text.get_text() for text in figure.legends[0].get_texts())
    assert "oracle" in names
    assert "K = 2 erf, best of 2 starts" in names
    assert "D = 50, mean ± s.e. of 3 runs" in names
    save(
        plot.comparison({"theory": theory, "runs": simulation}, {"level": 0.2, "band": (0.3, 0.01)}),
        tmp_path / "figure.pdf",
    )


def test_nothing_global_is_touched(runs: tuple[xr.Dataset, xr.Dataset]) -> None:
    before = dict(mpl.rcParams)
    plot.dynamics({"a": runs[0]})
    assert dict(mpl.rcParams) == before
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_an_unknown_format_is_named(runs: tuple[xr.Dataset, xr.Dataset], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"plot must end in one of .*png.*, got .*figure\.xyz"):
        save(plot.dynamics({"a": runs[0]}), tmp_path / "figure.xyz")


def test_plot_chooses_by_what_a_dataset_holds(runs: tuple[xr.Dataset, xr.Dataset]) -> None:
    theory, simulation = runs
    assert len(plot_any(theory, simulation).axes) == 4
    assert len(plot_any(theory, simulation).axes[0].containers) == 1
    assert len(plot_any(simulation).axes) == 2
    chosen = {"oracle": learners()["oracle"].options}
    assert plot_any(error_curve(MIXTURE, [0.4, 0.8], chosen)).axes[0].get_xlabel() == r"noise $\sigma$"
    points = {name: ("point", [0.2, 0.3]) for name in ("pmse", "classification_error")}
    flags = {
        name: ("point", [value, False]) for name, value in (("stable", True), ("fold", True), ("pitchfork", False))
    }
    branch = xr.Dataset(points | flags, coords={"lr": ("point", [0.1, 0.2])})
    assert plot_any(branch).axes[0].get_xlabel() == "lr"
    for wrong in ((), (xr.Dataset({"a": 1.0}),), (theory, simulation, simulation)):
        with pytest.raises(ValueError, match=r"results must be datasets along time|simulations must be at most"):
            plot_any(*wrong)


def test_two_cues_tell_things_apart() -> None:
    """Up to six, colour, marker and dashes; up to 42, no two are alike; in an order, colours get darker in grey too."""
    for n in range(2, 43):
        assert len(set(cues(n))) == n
    for few in (cues(6), ordered(6)):
        assert len({c.colour for c in few}) == len({c.marker for c in few}) == len({str(c.dashes) for c in few}) == 6
    grey = [np.dot(to_rgb(cue.colour), [0.299, 0.587, 0.114]) for cue in ordered(6)]
    assert (np.diff(grey) < -0.05).all()


def test_pictures_hold_their_caption_and_no_date(runs: tuple[xr.Dataset, xr.Dataset], tmp_path: Path) -> None:
    for suffix in ("png", "pdf", "svg"):
        for name in ("one", "other"):
            save(plot.dynamics({"a": runs[0]}), tmp_path / f"{name}.{suffix}", "σ = 0.5, no runs")
    assert captions.read(tmp_path / "one.png") == "σ = 0.5, no runs"
    assert "σ = 0.5, no runs" in (tmp_path / "one.svg").read_text()
    assert "σ = 0.5, no runs".encode("utf-16-be") in (tmp_path / "one.pdf").read_bytes()
    # the title tells them apart; the drawings are the same bytes
    pictures = [(tmp_path / f"{name}.png").read_bytes().partition(b"IDAT")[2] for name in ("one", "other")]
    assert pictures[0] == pictures[1]


CHANGED = {
    "weight_decay": "1/(2 + t)",
    "second_lr": 0.1,
    "second_weight_decay": "0:1, 2:0",
    "label_noise": 0.3,
    "lr": ((0.0, 0.5), (2.0, 0.1)),
    "loss": "logistic",
    "batch": 3,
    "bias_lr": 0.2,
    "bias_decay": 0.2,
    "intercept_lr": 0.2,
    "intercept_decay": 0.2,
    "frozen": ("w0", "v1"),
    "sphere": True,
    "temperature": 0.1,
    "friction": 1.0,
}


@pytest.mark.parametrize("kind", [OnlineSGD, GradientFlow])
def test_a_rule_is_told_from_one_with_any_other_field(kind: type[OnlineSGD | GradientFlow]) -> None:
    """In captions and in the tables of the referee, which say beside it the loss, the batch and a rate that stays."""
    assert set(CHANGED) == {field.name for field in fields(OnlineSGD)}
    told = [captions.of_rule(kind(0.5))]
    for field in fields(kind):
        if field.init:
            rule = replace(kind(0.5), **{field.name: CHANGED[field.name]})
            told.append(captions.of_rule(rule))
            if isinstance(rule, OnlineSGD) and field.name not in ("loss", "batch"):
                assert judging._options(rule), field.name
    assert len(set(told)) == len(told)
    assert judging._options(OnlineSGD(0.5)) == ""


def test_a_rate_that_changes_is_drawn_with_its_text() -> None:
    """The attribute is JSON: an expression is a text there, a table a list."""
    for lr, text in (("1/(1 + t)", "1/(1 + t)"), (((0.0, 0.5), (2.0, 0.1)), "0:0.5, 2:0.1"), (0.5, "0.5")):
        found = integrate(MIXTURE, NETWORK, OnlineSGD(lr), random_state(MIXTURE, NETWORK, 50, 0), [0.0, 0.1])
        assert plot_any(found).axes[0].get_title() == f"K = 2, erf, η = {text}"


def test_pitchforks_are_marked_as_such() -> None:
    values = {name: ("point", [0.2, 0.3, 0.25]) for name in ("pmse", "classification_error")}
    flags = {"stable": [True, True, False], "fold": [False] * 3, "pitchfork": [False, True, False]}
    branch = xr.Dataset(values | {k: ("point", v) for k, v in flags.items()}, coords={"lr": ("point", [0.1, 0.2, 0.3])})
    labels = [text.get_text() for text in plot.branches({"a": branch}, "lr").axes[0].get_legend().get_texts()]
    assert labels == ["a", "pitchfork", "thin: unstable"]
