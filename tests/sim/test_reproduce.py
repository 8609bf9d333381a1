"""The figures of `quenched reproduce`: the digits as a whole, and the one learning rule that is written there."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from quenched.numerics import OnlineSGD, TwoLayer
from quenched.sim.figures import reproduce
from quenched.sim.figures.digits import on_images


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


def test_the_digits_figure_shows_what_covariances_matter(tmp_path: Path) -> None:
    sentence = reproduce.make("digits", tmp_path)
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


def test_an_unknown_figure_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"figure must be one of dynamics, headline, .* got 'cats'"):
        reproduce.make("cats", tmp_path)
