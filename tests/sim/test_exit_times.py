"""The law of the time on a plateau: what it is made of, limits known exactly, runs of the chain, refusals."""

import dataclasses

import numpy as np
import pytest
from scipy.integrate import cumulative_trapezoid, quad, trapezoid
from scipy.interpolate import CubicSpline
from scipy.special import ndtr
from scipy.stats import kstest

from quenched.numerics import (
    GradientFlow,
    Mixture,
    OnlineSGD,
    OrderParameters,
    Threshold,
    TwoLayer,
    exit_time,
    pointing_anywhere,
)
from quenched.numerics.two_layer.exit_times import PlateauError
from quenched.sim.fluctuations import growth_rate, learning_times, plateau

MIXTURE, NETWORK, RULE, LEVEL = Mixture.xor(0.2), TwoLayer(1, "relu"), OnlineSGD(1.0, second_lr=0.0), 0.4
STATE = OrderParameters(np.zeros((4, 1)), [[0.5434782608695652]], [2.0])  # Q = 2/(4 - 8 sigma^2), at rest


@pytest.fixture(scope="module")
def law():
    """At D = 1000."""
    return exit_time(MIXTURE, NETWORK, RULE, STATE, 1000, threshold=LEVEL)


def diffusion(Q: float) -> float:
    """Of A_2 at M = 0, where lambda ~ N(0, sigma^2 Q) knows nothing of x: E[push^2] times E x_2^2 in each cluster."""
    sigma, v, found = 0.2, 2.0, 0.0
    spread = sigma * np.sqrt(Q)
    for mean, y in zip(MIXTURE.means, MIXTURE.labels, strict=True):
        push = v**2 * (v**2 * spread**2 / 2 - 2 * v * y * spread / np.sqrt(2 * np.pi) + 0.5)
        found += 0.25 * push * (mean[1] ** 2 + sigma**2)
    return found


def test_what_leaves_is_an_ornstein_uhlenbeck_process(law) -> None:
    """Of variance diffusion/(2 rate); the rate by differences of the drift of 1e-4, whose square counts with a third
    derivative of some tens.
    """
    rate = growth_rate(MIXTURE, NETWORK, RULE, STATE)
    assert law.rates.real == pytest.approx([rate], rel=1e-6)
    variance = diffusion(STATE.Q.item()) / (2 * rate)
    assert law.variance.item() == pytest.approx(variance, rel=1e-6)
    assert law.log_slope == pytest.approx(1 / (2 * rate), rel=1e-6)


def test_mean_quantiles_and_distribution_are_of_one_law(law) -> None:
    for p in (0.01, 0.3, 0.99):
        assert law.cdf(law.quantile(p)) == pytest.approx(p, abs=1e-9)
    centre = law.quantile(0.5)
    above = quad(lambda t: 1 - float(law.cdf(t)), centre, centre + 40, limit=200)[0]
    below = quad(lambda t: float(law.cdf(t)), centre - 40, centre, limit=200)[0]
    assert law.mean == pytest.approx(centre + above - below, abs=1e-7)
    later = exit_time(MIXTURE, NETWORK, RULE, STATE, 1_000_000, threshold=LEVEL)
    assert later.mean - law.mean == pytest.approx(law.log_slope * np.log(1000), abs=1e-9)
    assert law.mean_error < 1e-3


def test_a_low_threshold_is_passed_as_the_linear_equations_say() -> None:
    """Two directions of equal rates: T < t where either |A_i| = s |Z_i| exp(rate t)/sqrt(D) is above the level.

    A level of 0.01 leaves errors of its square; 64 points of the law, 1.4/8 at their worst.
    """
    means = [[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [0.0, 0.0]]
    mixture = Mixture(means, [1, 1, 1, 1, -1], weights=[0.125] * 4 + [0.5], sigma=0.2)
    state = plateau(mixture, NETWORK, RULE, [1.0])
    found = exit_time(mixture, NETWORK, RULE, state, 10**6, threshold=0.01, samples=64)
    rate, (one, both), (_, other) = found.rates.real[0], *found.variance
    assert found.rates.real == pytest.approx([rate, rate], rel=1e-6)
    assert (abs(both), other) == (pytest.approx(0.0, abs=0.02 * one), pytest.approx(one, rel=0.02))

    def exact(t: np.ndarray) -> np.ndarray:
        return 1 - (1 - 2 * ndtr(-0.01 * 1e3 * np.exp(-rate * t) / np.sqrt(one))) ** 2

    assert kstest(found.times, exact).statistic < 0.08  # of 64 points of a plane that are spread evenly
    centre = found.quantile(0.5)
    mean = centre + quad(lambda t: 1 - exact(t), centre, centre + 60)[0] - quad(exact, centre - 60, centre)[0]
    assert abs(found.mean - mean) < found.mean_error


def test_runs_leave_as_predicted(law) -> None:
    """Mean and law at D = 1000, and the slope; theory with twice the fluctuations must fail.

    150 runs know the mean to 0.055, of which log(2)/rate = 0.43 is eight.  The bias of D = 100 is of order 1/D.
    """
    times = {}
    for D in (100, 1000):
        t = learning_times(MIXTURE, NETWORK, RULE, D, range(150), STATE, level=LEVEL, t=100.0, resolution=0.25)
        times[D] = t
    error = times[1000].std(ddof=1) / np.sqrt(150)
    assert abs(times[1000].mean() - law.mean) < 4 * error + law.mean_error
    assert kstest(times[1000], law.cdf).pvalue > 1e-3
    louder = dataclasses.replace(law, variance=4 * law.variance)
    assert kstest(times[1000], louder.cdf).pvalue < 1e-6
    slope = (times[1000].mean() - times[100].mean()) / np.log(10)
    spread = np.hypot(error, times[100].std(ddof=1) / np.sqrt(150)) / np.log(10)
    assert abs(slope - law.log_slope) < 4 * spread


def test_fluctuations_on_the_way_count_with_the_growth_to_come() -> None:
    """From Q = 0.57 and M = 0: rate(Q) by differences, the diffusion by hand, and dQ/dt = 0.08 - 0.1472 Q.

        S = N^2 (s0^2 + int exp(-2 int_0^t rate) diffusion dt),    N = exp(int_0^inf (rate(Q(t)) - rate) dt)

    1e-5: trapezoids of width 0.002 leave 3e-6, the flow and its adjoint as much.
    """
    start, D = OrderParameters(np.zeros((4, 1)), [[0.57]], [2.0]), 10**15
    t = np.linspace(0, 200, 100_001)
    Q = STATE.Q.item() + (0.57 - STATE.Q.item()) * np.exp(-0.1472 * t)
    grid = np.linspace(0.54, 0.57, 13)
    states = [OrderParameters(STATE.M, [[q]], STATE.v) for q in grid]
    rate = CubicSpline(grid, [growth_rate(MIXTURE, NETWORK, RULE, state) for state in states])(Q)
    growth = cumulative_trapezoid(rate, t, initial=0)
    gain = np.exp(2 * trapezoid(rate - rate[-1], t))
    noise = trapezoid(np.exp(-2 * growth) * diffusion(Q), t)
    for anywhere, first in ((False, 0.0), (True, 0.57)):
        found = exit_time(MIXTURE, NETWORK, RULE, start, D, threshold=LEVEL, anywhere=anywhere)
        assert found.variance.item() == pytest.approx(gain * (first + noise), rel=1e-5)
        assert 0 < found.arrival < found.quantile(0.05)


def test_runs_from_weights_that_point_anywhere_leave_sooner() -> None:
    """At rest, with overlaps of order D^(-1/2) at the start; all from M = 0 leave 0.5 later."""
    D = 500
    found = exit_time(MIXTURE, NETWORK, RULE, STATE, D, threshold=LEVEL, anywhere=True)
    starts = [pointing_anywhere(MIXTURE, STATE, D, seed) for seed in range(150)]
    times = learning_times(MIXTURE, NETWORK, RULE, D, range(150), starts, level=LEVEL, t=100.0, resolution=0.25)
    error = times.std(ddof=1) / np.sqrt(150)
    assert abs(times.mean() - found.mean) < 4 * error + found.mean_error
    together = exit_time(MIXTURE, NETWORK, RULE, STATE, D, threshold=LEVEL)
    assert abs(times.mean() - together.mean) > 5 * error


OFF = OrderParameters([[0.0], [0.0], [0.05], [-0.05]], STATE.Q, STATE.v)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"rule": GradientFlow(second_lr=0.0)}, ValueError, "rule must be an OnlineSGD"),
        ({"D": 2}, ValueError, "D must be"),
        ({"threshold": "high"}, ValueError, "threshold must be a real number"),
        ({"start": OFF, "anywhere": True}, ValueError, "start must have no overlaps with anywhere=True"),
        ({"start": OFF}, PlateauError, "start must not lead to a stable fixed point"),
        ({"threshold": 2.0}, PlateauError, "threshold must be passed on the way from the plateau: until t = "),
        ({"threshold": -1.0}, PlateauError, "threshold must be above the plateau: the observable is 0"),
        ({"threshold": Threshold(0.1, lambda M, Q, v: M)}, ValueError, "observable must give an array of shape"),
        ({"network": TwoLayer(1, "linear")}, PlateauError, "start must not lead to a stable fixed point"),
        ({"start": OrderParameters(STATE.M, [[0.1]], STATE.v)}, PlateauError, "D must be larger"),
        ({"rule": OnlineSGD(1.0)}, ValueError, "rule: no fixed point exists for 'relu'"),
    ],
)
def test_what_is_no_plateau_is_refused(change: dict, error: type[Exception], message: str) -> None:
    given = {"network": NETWORK, "rule": RULE, "start": STATE, "D": 1000, "threshold": LEVEL} | change
    with pytest.raises(error, match=message):
        exit_time(MIXTURE, **given)
