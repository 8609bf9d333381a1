"""The figures of `quenched reproduce`: the digits as a whole, and the one learning rule that is written there."""

import sys
from dataclasses import fields, replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from quenched.numerics import GradientFlow, OnlineSGD, TwoLayer, bayes_error, records_of
from quenched.sim import figures
from quenched.sim import figures as sim_figures
from quenched.sim.cli import main
from quenched.sim.drawing import captions
from quenched.sim.figures import headline, possible
from quenched.sim.figures.digits import on_images
from quenched.sim.processes import Work


def test_one_step_on_an_image_is_the_learning_rule() -> None:
    # All images are the same one, so that the step and the error after it do not depend on which are drawn.
    rng = np.random.default_rng(0)
    D, K, y = 4, 3, 1.0
    x, W, v = rng.standard_normal(D), rng.standard_normal((K, D)), rng.standard_normal(K)
    sgd = OnlineSGD(lr=0.3, second_lr=0.7)
    run = on_images(np.tile(x, (5, 1)), np.full(5, y), TwoLayer(K, "relu"), sgd, np.array([1 / D]), (W, v), [0])

    field = W @ x / np.sqrt(D)
    delta = v @ np.maximum(field, 0) - y
    W_after = W - 0.3 / np.sqrt(D) * np.outer(v * delta * (field > 0), x)
    v_after = v - 0.7 / D * delta * np.maximum(field, 0)
    output = v_after @ np.maximum(W_after @ x / np.sqrt(D), 0)
    # the same few dozen operations in another order
    assert run.pmse.item() == pytest.approx((output - y) ** 2 / 2, rel=1e-13)
    assert run.classification_error.item() == float(output < 0)


REFUSED = {
    "weight_decay": 0.1,
    "second_weight_decay": 0.1,
    "label_noise": 0.1,
    "loss": "logistic",
    "batch": 2,
    "bias_lr": 0.1,
    "intercept_lr": 0.1,
    "frozen": ("v",),
    "sphere": True,
    "temperature": 0.1,
    "lr": "1/(1 + t)",
    "bias_decay": 0.1,
    "intercept_decay": 0.1,
    "second_lr": "1/(1 + t)",
    "friction": 1.0,
}


def test_what_is_not_done_to_images_is_refused() -> None:
    """Any option of the rule but constant rates of the layers, the flow, a scaled output."""
    assert set(REFUSED) == {field.name for field in fields(OnlineSGD)}
    network, rest = TwoLayer(1, "relu"), (np.array([0.0]), (np.ones((1, 4)), np.ones(1)), [0])
    rules = [replace(OnlineSGD(0.1), **{name: value}) for name, value in REFUSED.items()]
    for rule in [*rules, GradientFlow()]:
        with pytest.raises(ValueError, match="sgd must be OnlineSGD with constant lr and second_lr alone"):
            on_images(np.ones((5, 4)), np.ones(5), network, rule, *rest)
    with pytest.raises(ValueError, match="network must have output_scale 1 for images, got 2"):
        on_images(np.ones((5, 4)), np.ones(5), replace(network, output_scale=2.0), OnlineSGD(0.1), *rest)


def test_the_runs_of_the_headline_have_the_dimension_of_the_caption(monkeypatch: pytest.MonkeyPatch) -> None:
    options = replace(headline.OPTIONS, D=60, t=0.2, starts=1, rtol=1e-3)
    monkeypatch.setattr(headline, "OPTIONS", options)
    monkeypatch.setattr(headline, "SIGMAS", np.array([0.4, 0.5, 0.6]))
    data = headline.compute(Work())
    assert records_of(data["simulation"])["simulation"]["D"] == 60
    assert "chain at D = 60 from the best state" in headline.caption(data)


def test_the_digits_figure_shows_what_covariances_matter(tmp_path: Path) -> None:
    sentence = figures.make("digits", tmp_path)
    names = ("theory_isotropic", "theory_shared", "theory_full", "mixture", "images")
    ends = {
        name: float(xr.load_dataset(tmp_path / f"digits_{name}.nc").classification_error.isel(time=-1).mean())
        for name in names
    }
    # isotropic clusters are too easy by far; with the covariances of the images the theory comes close to them
    assert ends["images"] > 1.5 * ends["theory_isotropic"]
    for name in ("theory_shared", "theory_full"):
        assert abs(ends[name] - ends["images"]) < abs(ends["theory_isotropic"] - ends["images"]) / 2
    # O(1/D) of the scale 1/2 of an error, eigenvalues reach 27 times their mean: few directions carry the noise
    assert abs(ends["mixture"] - ends["theory_full"]) < 0.5 / 64 * 4
    assert f"{ends['images']:.4f} on held-out images" in sentence
    assert (tmp_path / "digits.png").read_bytes().startswith(b"\x89PNG")


def test_the_figure_of_what_is_possible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small version: nothing beats the Bayes-optimal error, and AMP is at it; the network arrives later on XOR."""
    small = {"ALPHAS": np.geomspace(0.1, 300.0, 9), "FEW": np.array([2.0]), "POINTS": np.array([0.15, 2.0]), "D": 300}
    small |= {"SEEDS": range(4), "STATES": range(1, 2), "SIGMAS": np.array([0.5, 0.9]), "ITERATIONS": 25}
    small["TIMES"] = np.sort([*small["ALPHAS"], *small["FEW"]])
    for name, value in (small | {"PHASE": np.geomspace(0.02, 20.0, 5)}).items():
        monkeypatch.setattr(possible, name, value)
    curves = {name: (solve, small["FEW" if name == possible.BEST else "ALPHAS"].tolist())
              for name, (solve, _) in possible.CURVES.items()}  # fmt: skip
    monkeypatch.setattr(possible, "CURVES", curves)
    sentence = figures.make("possible", tmp_path)
    theory, amp, phase = (xr.load_dataset(tmp_path / f"possible_{key}.nc") for key in ("theory", "amp", "phase"))
    errors = theory.classification_error.sel(alpha=small["ALPHAS"])
    best = errors.sel(learner=possible.BAYES)
    assert bool((errors >= best - 1e-6).where(errors.notnull(), True).all())
    assert bool((best >= theory.oracle - 1e-9).all())
    for task, mixture in possible.TASKS.items():
        exact = bayes_error(mixture, 2.0).classification_error
        found = amp.classification_error.sel(task=task, alpha=2.0)
        # four standard errors of four seeds, and O(1/D) at a slope of 10
        assert abs(float(found.mean()) - exact) < 4 * float(found.std(ddof=1)) / 2 + 10 / 300
    assert (
        float(phase.classification_error.sel(sigma=0.9)[0])
        == 0.5
        > float(phase.classification_error.sel(sigma=0.5)[-1])
    )
    assert "below alpha = 0.259 nothing can be learned" in sentence
    assert (tmp_path / "possible.png").read_bytes().startswith(b"\x89PNG")


TOY = """
import xarray as xr
from matplotlib.figure import Figure

def compute(work):
    values = work.map(pow, [(2, k) for k in range(3)])
    return {"": xr.Dataset({"power": ("k", values)})}

def draw(data):
    figure = Figure()
    figure.subplots().plot(data[""].power)
    return figure

def caption(data):
    return "Powers of 2 (theory): α, no runs."

def sentence(data):
    return f"two squared is {int(data[''].power[2])}."
"""


def test_a_figure_is_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A module beside the others is listed, computed, drawn and kept, by name."""
    (tmp_path / "toy.py").write_text(TOY)
    monkeypatch.setattr(sim_figures, "__path__", [*sim_figures.__path__, str(tmp_path)])
    assert figures.figures()[:4] == list(figures.MAIN)
    assert "toy" in figures.figures()
    monkeypatch.setattr(sys, "argv", ["quenched", "reproduce", "toy", "--folder", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as end:
        main.main()
    monkeypatch.delitem(sys.modules, "quenched.sim.figures.toy")
    assert not end.value.code
    assert capfd.readouterr().out == "toy  two squared is 4.\n"
    names = ["figures.md", "toy.nc", "toy.pdf", "toy.png"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    data = xr.load_dataset(tmp_path / "out" / "toy.nc")
    assert data.power.values.tolist() == [1, 2, 4]
    # caption and sentence are in the data, in both pictures and on the page, which links them
    told = "Powers of 2 (theory): α, no runs.\n\nTwo squared is 4."
    page, pdf = ((tmp_path / "out" / name).read_bytes() for name in ("figures.md", "toy.pdf"))
    assert data.attrs["caption"] == told == captions.read(tmp_path / "out" / "toy.png")
    assert f"## toy\n\n[![toy](toy.png)](toy.pdf)\n\n{told}\n" in page.decode()
    assert "α, no runs".encode("utf-16-be") in pdf
    assert b"CreationDate" not in pdf


def test_a_figure_that_lacks_something_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of all of them, with the reason; asked for by name it is refused."""
    (tmp_path / "galaxies.py").write_text(TOY + "\ndef missing():\n    return 'a telescope'\n")
    monkeypatch.setattr(sim_figures, "__path__", [*sim_figures.__path__, str(tmp_path)])
    monkeypatch.setattr(figures, "figures", lambda: ["galaxies"])
    asked = ["all", "galaxies"]  # beside "all" a name changes nothing
    monkeypatch.setattr(sys, "argv", ["quenched", "reproduce", *asked, "--folder", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as end:
        main.main()
    assert not end.value.code
    assert capfd.readouterr().out == "galaxies  is left out: it needs a telescope\n"
    with pytest.raises(ValueError, match=r"figure must be one that can be made here: 'galaxies' needs a telescope"):
        figures.make("galaxies", tmp_path / "out")


def test_mnist_is_made_where_its_files_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUENCHED_MNIST", str(tmp_path))
    assert not figures.missing("mnist")
    with pytest.raises(ValueError, match="data must be a folder of files NAME-images-idx3-ubyte"):
        figures.make("mnist", tmp_path)
    monkeypatch.delenv("QUENCHED_MNIST")
    monkeypatch.setenv("QUENCHED_REFDATA", str(tmp_path))
    assert "QUENCHED_MNIST" in figures.missing("mnist")
    (tmp_path / "mnist_t10k").mkdir()
    assert not figures.missing("mnist")


def test_resume_leaves_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "digits.png").write_bytes(b"done")
    assert captions.read(tmp_path / "digits.png") is None  # no picture, no caption
    monkeypatch.setattr(sys, "argv", ["quenched", "reproduce", "digits", "--folder", str(tmp_path), "--resume"])
    with pytest.raises(SystemExit) as end:
        main.main()
    assert not end.value.code
    assert "digits  is there" in capfd.readouterr().out
    assert (tmp_path / "digits.png").read_bytes() == b"done"


def test_every_figure_has_its_parts() -> None:
    assert len(figures.figures()) == 16
    for name in figures.figures():
        module = import_module(f"quenched.sim.figures.{name}")
        assert module.__doc__.startswith(f"Figure `{name}`: ")
        assert all(getattr(module, part).__doc__ for part in ("draw", "caption", "sentence", "compute"))


def test_an_unknown_figure_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"figure must be one of dynamics, headline, .* got 'cats'"):
        figures.make("cats", tmp_path)
