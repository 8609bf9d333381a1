"""Problems from text: what each specification builds, and what is refused."""

from collections.abc import Callable

import numpy as np
import pytest

from quenched.numerics import Mixture, Spectrum
from quenched.numerics.problem import texts
from quenched.sim.cli import problems
from quenched.sim.samples import from_data


def test_specifications_build_what_they_say() -> None:
    assert problems.mixture("parity", sigma=0.3, separation=2.0).to_dict() == Mixture.parity(0.3, (2.0, 2.0)).to_dict()
    assert problems.mixture().sigma == 0.4
    for text, expected in {
        "mp:0.5": Spectrum.marchenko_pastur(0.5),
        "uniform:0.5,2": Spectrum.uniform(0.5, 2.0),
        "power:2,0.1,10": Spectrum.power_law(2.0, 0.1, 10.0),
        "two-level:0.5,2,0.25": Spectrum.two_level(0.5, 2.0, 0.25),
    }.items():
        assert texts.spectrum(text).to_dict() == expected.to_dict()
    assert texts.spectrum("mp:0.5", directions=50).nodes == 50
    data = from_data("digits", 0.5, "shared")
    assert (data.sigma, data.clusters, data.shares.size) == (0.5, 10, 64)


def test_a_teacher_stands_beside_the_means() -> None:
    taught = texts.taught(texts.with_spectrum(Mixture.xor(0.5), "mp:0.5"), "erf:3")
    assert taught.teacher is not None
    assert taught.references.shape == (7, 5)
    assert (taught.means @ taught.teacher.weights.T == 0).all()
    assert (taught.teacher.weights @ taught.teacher.weights.T == np.eye(3)).all()
    assert taught.spectrum is not None
    assert not taught.labels.any()


@pytest.mark.parametrize("scaling", [0.25, [0.25, 0.5]])
def test_means_beside_a_teacher_grow_as_they_did(scaling: float | list[float]) -> None:
    inputs = Mixture.xor(0.5, scaling=scaling)
    taught = texts.taught(inputs, "erf:2")
    np.testing.assert_array_equal(taught.at(81), np.pad(inputs.at(81), ((0, 0), (0, 2))))
    np.testing.assert_array_equal(taught.references_at(81)[4:], taught.taught.weights)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: problems.mixture("moons"), "mixture must be one of xor, ring:M, .*, got 'moons'"),
        (
            lambda: from_data("digits", covariance="shared", shrinkage="x"),
            "shrinkage takes a number, got 'x'",
        ),
        (
            lambda: texts.spectrum("wigner:1"),
            "spectrum must be one of mp, two-level, uniform, power .* got 'wigner:1'",
        ),
        (lambda: texts.spectrum("uniform:1"), "spectrum uniform takes 2 numbers with commas between them, got '1'"),
        (
            lambda: texts.taught(Mixture.xor(1.0), "erf"),
            "teacher must be ACTIVATION:NEURONS, as in erf:2, got 'erf'",
        ),
        (lambda: texts.taught(Mixture.xor(1.0), "erf:0"), "teacher must be ACTIVATION:NEURONS"),
        (lambda: problems.levels("values", "1:2"), "values must be FIRST:LAST:NUMBER or a comma-separated list"),
        (
            lambda: texts.with_spectrum(from_data("digits", covariance="shared"), "mp:1"),
            "spectrum='mp:1' and the covariance of the data are two answers",
        ),
    ],
)
def test_bad_specifications_are_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
