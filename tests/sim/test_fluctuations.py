"""Fluctuations at finite D: where they are known in closed form, and the logarithm that they make of a plateau."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import xarray as xr

from quenched.numerics import (
    Mixture,
    OnlineSGD,
    OrderParameters,
    Spectrum,
    Teacher,
    TwoLayer,
    problem_of,
    random_state,
    records_of,
)
from quenched.numerics import fluctuations as covariance
from quenched.numerics.two_layer.fluctuations import components
from quenched.sim import fluctuations as fluctuations_module
from quenched.sim.figures import fluctuations
from quenched.sim.fluctuations import growth_rate, learning_times, log_law, moments, plateau
from quenched.sim.processes import Work
from quenched.sim.training import DivergenceError, simulate

FROZEN = OnlineSGD(0.5, second_lr=0.0)


def test_the_bias_of_a_linear_network_is_that_of_discrete_time() -> None:
    """One linear neuron, v = 1: <A> obeys A <- A - (c/D) (A - A*), c = eta (1 + sigma^2), whatever else fluctuates.

    So D (<A> - A(t)) = D ((1 - c/D)^n - exp(-c t)) (A_0 - A*), and M = ±A.  In D = 4 it is 17 standard errors.
    """
    mixture, D, sigma = Mixture.two_clusters(0.7), 4, 0.7
    state = OrderParameters([[-1.0], [1.0]], [[1.5]], [1.0])
    times = np.array([0.5, 1.0, 3.0])
    found = moments(mixture, TwoLayer(1, "linear"), FROZEN, D, times, range(3000), state)
    c, fixed = 0.5 * (1 + sigma**2), 1 / (1 + sigma**2)
    exact = D * ((1 - c / D) ** (D * times) - np.exp(-c * times)) * (-1 - fixed)
    z = (found.bias.sel(component="M[0,0]") - exact) / found.bias_error.sel(component="M[0,0]")
    assert (np.abs(z) < 4).all()
    assert float(np.abs(exact / found.bias_error.sel(component="M[0,0]")).max()) > 10
    np.testing.assert_allclose(found.bias.sel(component="M[1,0]"), -found.bias.sel(component="M[0,0]"), atol=1e-9)


def test_moments_are_those_of_the_runs_of_simulate() -> None:
    mixture, network, sgd, D = Mixture.xor(0.5), TwoLayer(2, "relu"), OnlineSGD(0.4, 0.1), 20
    state, times = random_state(mixture, network, D, 3), [0.5, 2.0]
    found = moments(mixture, network, sgd, D, times, range(50), state)
    runs = simulate(mixture, network, sgd, D, times, range(50), "overlaps", state=state, test_samples=4)
    x = components(runs.M.values, runs.Q.values, runs.v.values)
    assert problem_of(found).seeds == tuple(range(50))
    assert found.component.values.tolist()[-6:] == ["M[3,1]", "Q[0,0]", "Q[0,1]", "Q[1,1]", "v[0]", "v[1]"]
    for i in range(2):
        np.testing.assert_allclose(found.covariance[i], D * np.cov(x[:, i].T), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(found.theory[i] + found.bias[i] / D, x[:, i].mean(axis=0), atol=1e-12)


def test_seeds_that_are_too_many_for_a_file_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fluctuations_module, "_NAMED", 2)
    state = OrderParameters([[0.0], [0.0]], [[1.0]], [1.0])
    found = moments(Mixture.two_clusters(1.0), TwoLayer(1, "linear"), FROZEN, 9, [1.0], [3, 5, 8], state)
    assert problem_of(found).seeds is None
    assert records_of(found)["runs"] == {"first": 3, "last": 8, "number": 3}


def test_the_error_of_a_covariance_is_its_scatter() -> None:
    """Forty estimates from fifty runs each: their scatter, known to a relative 1/sqrt(80) = 0.11, is what is stated.

    For six entries, each within a factor 1.6, more than four standard errors of the logarithm.
    """
    arguments: tuple[Any, ...] = (Mixture.xor(0.5), TwoLayer(1, "erf"), OnlineSGD(0.4), 50, [1.0])
    state = random_state(*arguments[:2], 50, 3)
    each = [moments(*arguments, range(50 * i, 50 * i + 50), state).isel(time=0) for i in range(40)]
    shown = ["M[0,0]", "Q[0,0]", "v[0]"]
    index = {"component": shown, "component_": shown}
    scatter = np.std([one.covariance.sel(index) for one in each], axis=0, ddof=1)
    stated = np.sqrt(np.mean([one.covariance_error.sel(index) ** 2 for one in each], axis=0))
    assert (np.abs(np.log(scatter / stated)) < np.log(1.6)).all()


CHAINS = {
    "erf": (Mixture.two_clusters(0.7), TwoLayer(2, "erf"), OnlineSGD(0.5, 0.1, label_noise=0.3)),
    "relu, batch": (Mixture.xor(0.5), TwoLayer(2, "relu"), OnlineSGD(0.4, 0.1, batch=2)),
    "logistic": (Mixture.two_clusters(0.7), TwoLayer(2, "erf"), OnlineSGD(0.6, loss="logistic")),
    "teacher": (
        Mixture([[0.3]], sigma=1.0, teacher=Teacher([[1.0]], [1.0], "erf")),
        TwoLayer(2, "erf"),
        OnlineSGD(0.8, second_lr=0.0),
    ),
}


@pytest.mark.parametrize("name", CHAINS)
def test_the_theory_of_fluctuations_is_confirmed_by_the_chain(name: str) -> None:
    """400 runs at D = 500 know an entry to 7 %, and what is left out is of order 1/D: z-scores of some 100 entries.

    A Gaussian leaves five with a probability of 6e-7; the control is the same covariance times two.
    """
    mixture, network, sgd = CHAINS[name]
    state, times = random_state(mixture, network, 50, 3), [0.5, 1.5]
    theory = covariance(mixture, network, sgd, state, times)
    found = moments(mixture, network, sgd, 500, times, range(400), state)
    assert found.component.values.tolist() == theory.component.values.tolist()
    np.testing.assert_allclose(theory.theory, found.theory, rtol=0, atol=1e-7)
    error = np.hypot(found.covariance_error, theory.covariance_error)
    moves = (error > 1e-9).values
    assert moves.mean() > 0.5
    z, doubled = (
        (found.covariance - factor * theory.covariance).values[moves] / error.values[moves] for factor in (1, 2)
    )
    assert np.abs(z).max() < 5
    assert np.abs(doubled).max() > 8


def test_growth_rates_of_linear_networks_are_their_decay() -> None:
    """XOR has nothing linear to learn: dA/dt = -eta v^2 (sigma^2 + 1/2) A.

    Up to the rounding of the differences, 1e-16/1e-4."""
    mixture, network = Mixture.xor(0.6), TwoLayer(1, "linear")
    state = plateau(mixture, network, FROZEN, [0.8])
    assert growth_rate(mixture, network, FROZEN, state) == pytest.approx(-0.5 * 0.64 * (0.36 + 0.5), rel=1e-9)


def test_a_plateau_takes_a_time_that_grows_as_log_d_at_the_rate_of_the_equations() -> None:
    """300 runs at two sizes each: the slope is known to some 6 %."""
    mixture, network = Mixture.three_clusters(0.5), TwoLayer(1, "abs")
    state = plateau(mixture, network, FROZEN, [-1.0])
    rate = growth_rate(mixture, network, FROZEN, state)
    sizes = [30, 1000]
    times = [
        learning_times(mixture, network, FROZEN, D, range(300), state, level=0.4, t=200.0, resolution=0.2)
        for D in sizes
    ]
    slope, error = log_law(xr.DataArray(times, coords={"D": sizes}, dims=("D", "run")))
    assert error < 0.08 / (2 * rate)
    assert abs(slope - 1 / (2 * rate)) < 4 * error


def test_plateaus_with_biases_and_of_a_teacher_are_fixed_points() -> None:
    """An intercept is part of the state, and so are overlaps with a teacher.

    A linear neuron with an intercept: c ends at the mean label, P_+ - P_- = 0.2, and overlaps with the means on an axis
    fall as eta v^2 (sigma^2 + their second moment), 0.4 or 0.6.  Of a linear teacher dA/dt = eta v (1 - v A), at any
    length of its weight, though the second coordinate is nobody's.
    """
    rule = OnlineSGD(0.5, second_lr=0.0, intercept_lr=0.3)
    mixture, network = replace(Mixture.xor(0.6), weights=[0.2, 0.2, 0.3, 0.3]), TwoLayer(1, "linear")
    state = plateau(mixture, network, rule, [0.8])
    assert state.c == pytest.approx(0.2, abs=1e-8)
    assert growth_rate(mixture, network, rule, state) == pytest.approx(-0.5 * 0.64 * (0.36 + 0.4), rel=1e-8)
    taught = Mixture([[0.0, 0.0]], teacher=Teacher([[1.0, 0.0]], [1.0], "linear", field_noise=0.1))
    start = OrderParameters([[0.0], [0.5]], [[1.0]], [0.8])
    assert growth_rate(taught, network, FROZEN, start) == pytest.approx(-0.5 * 0.64, rel=1e-8)
    even = replace(taught, teacher=Teacher([[1.0, 0.0]], [1.0], "abs"))
    assert plateau(even, network, FROZEN, [0.8]).M.tolist() == [[0.0], [0.0]]


def test_what_is_learned_at_the_start_takes_no_time() -> None:
    mixture, network = Mixture.three_clusters(0.5), TwoLayer(1, "abs")
    state = OrderParameters([[0.7], [-0.7], [0.0]], [[0.6]], [-1.0])
    times = learning_times(mixture, network, FROZEN, 50, 3, state, level=0.4, t=1.0)
    np.testing.assert_array_equal(times, 0)


def test_what_does_not_happen_is_said() -> None:
    mixture, network = Mixture.three_clusters(0.5), TwoLayer(1, "abs")
    state = plateau(mixture, network, FROZEN, [-1.0])
    with pytest.raises(
        RuntimeError, match=r"3 of 3 runs have not reached the level 0\.4 by t = 0\.5 at D = 50: raise t"
    ):
        learning_times(mixture, network, FROZEN, 50, range(3), state, level=0.4, t=0.5)
    with pytest.raises(RuntimeError, match=r"there is no plateau: after t = 1 the order parameters still move"):
        plateau(mixture, network, FROZEN, [-1.0], t=1.0)
    linear = TwoLayer(1, "linear")
    with pytest.raises(RuntimeError, match="there is no plateau: by t = 1000 the weights have decayed to 0, Q is"):
        plateau(mixture, linear, OnlineSGD(0.5, 0.1, second_lr=0.0), [0.0])
    biased, spread = OnlineSGD(0.5, bias_lr=0.1), replace(mixture, spectrum=Spectrum([0.5, 1.5]))
    with pytest.raises(DivergenceError, match="overflowed"):
        learning_times(mixture, linear, OnlineSGD(100.0), 10, range(2), state, level=1e300, t=200.0)
    for call, message in (
        (lambda: moments(mixture, network, biased, 10, [1.0], 2, state), "sgd and state must have no biases"),
        (lambda: moments(mixture, network, FROZEN, 10, [1.0], 2, replace(state, c=0.1)), "state must have no biases"),
        (lambda: moments(spread, network, FROZEN, 10, [1.0], 2, state), "mixture must have isotropic inputs"),
        (
            lambda: learning_times(spread, network, FROZEN, 10, 2, state, level=0.5, t=1.0),
            "mixture must have isotropic inputs",
        ),
        (lambda: moments(mixture, network, FROZEN, 10, [1.0], [3], state), r"seeds must be two or more, got \[3\]"),
        (
            lambda: moments(mixture, network, FROZEN, 10, [1.0], [3, 3], state),
            r"seeds must be .* different .* got \[3, 3",
        ),
        (lambda: moments(mixture, network, FROZEN, 10, [-1.0], [3, 4], state), "t must be >= 0, got -1"),
        (
            lambda: learning_times(mixture, network, FROZEN, 50, [1, 1], state, level=0.4, t=0.5),
            r"seeds must be one or more different integers, got \[1, 1\]",
        ),
        (lambda: learning_times(mixture, network, FROZEN, 50, 2, state, level=-1, t=0.5), "level must be .* got -1"),
        (lambda: moments(mixture, network, FROZEN, 1, [1.0], [3, 4], state), "D must be an integer >= 2, got 1"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_the_figure_shows_what_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line of the plateau is the mean in theory; a run is a step of the law; every component is drawn.

    The data are those that the file makes, of small sizes, but for the learning times, in runs and in theory.
    """
    small = {"NETWORK": TwoLayer(1, "erf"), "SIZES": {10: 20, 30: 20}, "SHOWN": {"M[0,0]": "M", "v[0]": "v"}}
    for name, value in (small | {"COUNTS": {10: 2, 30: 3}, "LATEST": 20.0, "POINTS": 2}).items():
        monkeypatch.setattr(fluctuations, name, value)
    data = fluctuations.compute(Work())
    times = data["plateau"].learning_time.copy(data=[[1.0, 3.0, np.nan], [4.0, 6.0, 8.0]])
    data["plateau"] = data["plateau"].assign(learning_time=times)
    D = fluctuations.START_D
    assert json.loads(data["law"].attrs["D"]) == D
    np.testing.assert_allclose(data["law"].learning_time.mean(), json.loads(data["law"].attrs["mean"]), rtol=1e-12)
    law_times = data["law"].learning_time.copy(data=[11.0, 14.0])
    data["law"] = (
        data["law"].assign(learning_time=law_times).assign_attrs(log_slope="2.0", mean="12.5", mean_error="1.5")
    )
    figure = fluctuations.draw(data)
    path, limit, plateau, law = figure.axes
    np.testing.assert_array_equal(path.lines[0].get_ydata(), data["theory"].covariance.values[:, 0, 0])
    np.testing.assert_array_equal(path.lines[1].get_ydata(), data["D10"].covariance.values[1::3, 0, 0])
    assert [text.get_text() for text in limit.get_legend().get_texts()] == ["M", "v"]
    x, y = plateau.lines[0].get_data()
    np.testing.assert_allclose(y, 12.5 + 2 * np.log(x / D))
    shown = [line.get_xdata() for line in law.lines]
    for found, (runs, size) in zip(shown, (([1, 3], 10), ([4, 6, 8], 30), ([11, 14], D)), strict=True):
        np.testing.assert_allclose(found, runs - 2 * np.log(size))
    off = [
        (mean - 12.5 - 2 * np.log(size / D)) / np.hypot(error, 1.5)
        for mean, error, size in ((2, 1, 10), (6, np.sqrt(4 / 3), 30))
    ]
    assert f"within {np.abs(off).max():.1f} standard errors of theory" in fluctuations.sentence(data)
