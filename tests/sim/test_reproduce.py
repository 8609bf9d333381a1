"""The figures of `quenched reproduce`: the digits as a whole, and the one learning rule that is written there."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from quenched.numerics import OnlineSGD, TwoLayer
from quenched.sim import reproduce


def test_one_step_on_an_image_is_the_learning_rule() -> None:
    # All images are the same one, so that the step and the error after it do not depend on which are drawn.
    rng = np.random.default_rng(0)
    D, K, y = 4, 3, 1.0
    x, W, v = rng.standard_normal(D), rng.standard_normal((K, D)), rng.standard_normal(K)
    sgd = OnlineSGD(lr=0.3, second_lr=0.7)
    run = reproduce._on_images(
        np.tile(x, (5, 1)), np.full(5, y), TwoLayer(K, "relu"), sgd, np.array([1 / D]), W, v, [0]
    )

    field = W @ x / np.sqrt(D)
    delta = v @ np.maximum(field, 0) - y
    W_after = W - 0.3 / np.sqrt(D) * np.outer(v * delta * (field > 0), x)
    v_after = v - 0.7 / D * delta * np.maximum(field, 0)
    output = v_after @ np.maximum(W_after @ x / np.sqrt(D), 0)
    # the same few dozen operations in another order
    assert run.pmse.item() == pytest.approx((output - y) ** 2 / 2, rel=1e-13)
    assert run.classification_error.item() == float(output < 0)


def test_the_digits_figure_shows_the_gap_to_real_images(tmp_path: Path) -> None:
    sentence = reproduce.make("digits", tmp_path)
    theory, mixture, images = (
        xr.load_dataset(tmp_path / f"digits_{name}.nc").classification_error for name in ("theory", "mixture", "images")
    )
    end = float(theory[-1])
    # Theory and simulation differ by O(1/D) times the size of an observable, 1/2 for an error: compare()'s allowance.
    assert abs(float(mixture[:, -1].mean()) - end) < 0.5 / 64
    assert float(images[:, -1].mean()) > 1.5 * end
    assert f"{end:.4f} in theory" in sentence
    assert (tmp_path / "digits.png").read_bytes().startswith(b"\x89PNG")


def test_an_unknown_figure_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"figure must be one of dynamics, headline, .* got 'cats'"):
        reproduce.make("cats", tmp_path)
