"""A named mixture is one entry: its name, parameters and sentence follow from its constructor."""

import numpy as np
import pytest

from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.named_mixtures import NAMED, NamedMixture, named


@pytest.mark.parametrize("name", NAMED)
def test_every_mixture_is_built_described_and_scales_with_its_separation(name: str) -> None:
    one, two = named(name, 0.5), named(name, 0.5, separation=2.0)
    np.testing.assert_array_equal(two.means, 2 * one.means)
    assert one.sigma == 0.5
    assert len(NAMED[name].sentence) > 20
    assert NAMED[name].sentence.endswith(".")
    assert {"sigma", "scaling"} <= set(NAMED[name].parameters)


def test_a_new_mixture_is_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    def line(n: int, sigma: float, separation: float = 1.0, scaling: float = 0.0) -> Mixture:
        """2n clusters on a line, with labels that alternate."""
        means = np.arange(2 * n)[:, None] - (n - 0.5)
        return Mixture(means * separation, (-1.0) ** np.arange(2 * n), sigma=sigma, scaling=scaling)

    monkeypatch.setitem(NAMED, "line", NamedMixture(line, number=("n", 2)))
    assert named("line", 0.3).clusters == 4
    assert named("line:3", 0.3).clusters == 6
    assert NAMED["line"].sentence == "2n clusters on a line, with labels that alternate."
    assert NAMED["line"].parameters == {"n": 0, "sigma": 0, "separation": 0, "scaling": 0}
    with pytest.raises(ValueError, match=r"two-clusters, parity, line:N, got 'disc'"):
        named("disc", 0.3)


@pytest.mark.parametrize(
    ("text", "message"),
    [("xor:3", "mixture xor takes no number, got 'xor:3'"), ("ring:x", "mixture ring takes a whole number after")],
)
def test_numbers_are_refused_where_there_are_none(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        named(text, 0.3)


def test_lengths_are_lists() -> None:
    assert NAMED["parity"].parameters == {"sigma": 0, "lengths": 1, "scaling": 1}
