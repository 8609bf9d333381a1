"""Power laws: the linear student exactly, features by their equivalent, exponents of each phase by fits."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import zeta

from quenched.numerics import (
    Densities,
    GradientFlow,
    OnlineSGD,
    PowerLaw,
    TwoLayer,
    compute_frontier,
    fit_exponent,
    integrate,
    linear_mean,
    power_law_floor,
    power_law_problem,
    power_law_risk,
    records_of,
    scaling_exponents,
)
from quenched.sim import simulate
from quenched.theory.scaling import power_laws as theory

SMALL = PowerLaw(0.8, 0.6, inputs=24, features=8, rate=0.3, batch=2, label_noise=0.2)

# --- the linear student


@pytest.mark.parametrize("rule", [None, GradientFlow(0.7, second_lr=0.0)])
def test_the_linear_method_solves_the_equations(rule: GradientFlow | None) -> None:
    """From a state off the teacher, with a readout of -0.8: a hundred tolerances of 1e-9 a step."""
    mixture, _, sgd, _ = power_law_problem(SMALL, 3)
    network, U = TwoLayer(1, "linear", output_scale=1.5), 8
    rng = np.random.default_rng(0)
    A = 0.1 * rng.standard_normal((U, 1, 1)) * mixture.alignment
    Q = A**2 / mixture.alignment + 0.05 * rng.random((U, 1, 1))
    problem = mixture, network, rule or sgd, Densities(A, Q, [-0.8]), [0.1, 1.0, 5.0]
    one = integrate(*problem, rtol=1e-9, atol=1e-12, quantities="pmse")
    other = integrate(*problem, method="linear", quantities="pmse")
    for name in ("pmse", "A_u", "Q_u"):
        np.testing.assert_allclose(other[name], one[name], rtol=1e-7, atol=1e-10, err_msg=name)


def test_runs_scatter_about_the_mean_of_finite_dimension() -> None:
    """z-scores of 400 runs at the dimension of the features, where the equations of D -> infinity are off by 10%.

    A step multiplies the first direction by m = 1 - lr k_1 X, X the mean of two squared normals, with E[X^n] = n!.  At
    rate 0.3, lr k_1 = 0.9, E[m^2] = 0.83 but E[m^4] = 5.5: the mean falls while its variance over runs grows, after 16
    steps to 10^14 times the squared mean, and no number of runs shows the mean.  At rate 0.15 both fall.
    """
    problem, times, seeds = power_law_problem(replace(SMALL, rate=0.15), 1), [0.125, 0.5, 2.0, 8.0], 400
    mean, limit = linear_mean(*problem, times, D=8), integrate(*problem, times, method="linear")
    runs = simulate(problem.mixture, problem.network, problem.rule, 8, times, seeds, state=problem.state)
    for name in ("pmse", "Q", "R"):
        error = runs[name].std("seed", ddof=1) / np.sqrt(seeds)
        z = ((runs[name].mean("seed") - mean[name]) / error).values
        assert np.abs(z).max() < 4, (name, z)
    # the test has the power to tell the limit from the mean
    error = runs.pmse.std("seed", ddof=1) / np.sqrt(seeds)
    assert (np.abs(mean.pmse - limit.pmse) > 4 * error).any()


def test_the_mean_goes_to_the_equations_as_one_over_the_dimension() -> None:
    problem, times = power_law_problem(SMALL, 1), [1.0, 10.0]
    limit = integrate(*problem, times, method="linear").pmse
    gaps = [float(np.abs(linear_mean(*problem, times, D=D).pmse - limit).max()) for D in (800, 1600, 3200)]
    assert gaps[0] / gaps[1] == pytest.approx(2, rel=0.02)
    assert gaps[1] / gaps[2] == pytest.approx(2, rel=0.01)


def test_what_is_no_linear_student_is_refused() -> None:
    mixture, network, rule, state = power_law_problem(SMALL)
    for change, named in (
        ((mixture, TwoLayer(1, "erf"), rule, state), "network must be one linear neuron"),
        ((mixture, network, OnlineSGD(0.1), state), "rule must not train the readout"),
        ((mixture, network, replace(rule, weight_decay=0.1), state), "rule must have the square loss"),
        ((mixture, network, replace(rule, loss="huber"), state), "rule must have the square loss"),
        ((replace(mixture, means=[[1.0]]), network, rule, state), "mixture must be one cluster at the origin"),
        ((replace(mixture, teacher=replace(mixture.teacher, sign=True)), network, rule, state), "linear teacher"),
    ):
        with pytest.raises(ValueError, match=named):
            integrate(*change, [1.0], method="linear")
    with pytest.raises(ValueError, match="does not change in time"):
        integrate(mixture, network, [(rule, 1.0), (replace(rule, lr=0.01), None)], state, [2.0], method="linear")
    with pytest.raises(ValueError, match="rule must be online SGD"):
        linear_mean(mixture, network, GradientFlow(second_lr=0.0), state, [1.0], D=8)


# --- the equivalent of the features


@pytest.mark.parametrize("D", [1, 50, 64, 65, 66, 97, 5000])
def test_sums_over_inputs_are_those_of_the_nodes(D: int) -> None:
    """Powers, and what has its poles next to the axis of j."""
    j, weights = PowerLaw(1.0, 0.5, inputs=max(D, 2)).nodes()
    all_j = np.arange(1, max(D, 2) + 1.0)
    for f in (lambda x: x**-0.3, lambda x: x**-4.0, lambda x: x**-2.0 / (x**-2.0 + 1e-5 * (1 + 2j))):
        assert weights @ f(j) == pytest.approx(f(all_j).sum(), rel=1e-11)


def test_without_features_the_risk_is_that_of_the_inputs() -> None:
    """The contour against the exact solution in the nodes, eight decades of steps: within the error that is stated."""
    law = PowerLaw(0.9, 0.7, inputs=200, rate=0.4, batch=3, label_noise=0.01)
    problem, steps = power_law_problem(law), np.geomspace(1e-1, 1e7, 17)
    exact = 2 * integrate(*problem, steps / 200, method="linear", quantities="pmse").pmse.values + law.label_noise**2
    found = power_law_risk(law, steps)
    assert (np.abs(found.risk - exact) <= found.risk_error + 1e-12).all()
    assert float((found.risk_error / found.risk).max()) < 1e-5
    assert records_of(found)["law"] == law


@pytest.mark.parametrize(("a", "b"), [(1.0, 0.3), (0.9, 1.4), (0.35, 0.7)])
def test_drawn_features_scatter_about_their_equivalent(a: float, b: float) -> None:
    """Relative to it, over the steps and the floor: within four standard errors of 24 draws and a bias of 5/P."""
    P, count = 40, 24
    law, steps = PowerLaw(a, b, inputs=3 * P, features=P), np.array([10.0, 1e3, 1e5])
    found, draws = power_law_risk(law, steps), []
    for seed in range(count):
        problem = power_law_problem(law, seed)
        run = integrate(*problem, steps / P, method="linear", quantities="pmse")
        noise = problem.rule.label_noise**2
        draws.append([*(2 * run.pmse.values + noise) / found.risk.values, noise / power_law_floor(law)])
    error = np.std(draws, axis=0, ddof=1) / np.sqrt(count)
    assert (np.abs(np.mean(draws, axis=0) - 1) < 4 * error + 5 / P).all()


def test_any_dimension_costs_the_same() -> None:
    """P = 10^9: at the end 1/(1 - rate) times the floor, which is that of infinitely many inputs up to their ratio."""
    law = PowerLaw(1.0, 0.25, inputs=10**13, features=10**9)
    found = power_law_risk(law, [1e3, 1e24])
    assert float(found.risk[-1] / found.floor) == pytest.approx(law.gain, rel=1e-4)
    edge = float(np.pi / 2 / law.features) ** 2  # 2 a sin(pi/2a) = 2
    assert theory.edge_equation(law.a, edge) == pytest.approx(law.features, rel=1e-12)
    assert float(found.floor) == pytest.approx(theory.floor_term(law.a, law.b, edge, 1.0), rel=5e-4)


# --- the terms, where each is largest


@pytest.mark.parametrize(
    ("a", "b", "term", "where"),
    [
        (1.0, 0.25, "target", ((10**9, 1e4), (10**12, 1e8))),
        (0.75, 1.5, "noise", ((10**12, 1e4), (10**16, 1e8))),
        (1.25, 0.75, "embedding", ((10**4, 1e8), (10**8, 1e16))),
    ],
)
def test_the_risk_goes_to_its_terms(a: float, b: float, term: str, where: tuple[tuple[int, float], ...]) -> None:
    """Prefactors and powers, at two pairs of P and steps: what the other terms add fades."""
    off = []
    for P, n in where:
        law = PowerLaw(a, b, inputs=100 * P, features=P)
        x = 2 * law.lr * n
        value = {
            "target": theory.target_term(a, b, x, law.gain),
            "noise": theory.noise_term(a, x, law.lr, 1.0, law.source, law.gain),
            "embedding": theory.embedding_term(a, x, P, law.source, law.gain),
        }[term]
        off.append(abs(float(power_law_risk(law, [n]).risk[0]) / value - 1))
    assert off[1] < 0.05, off
    assert off[1] < off[0] / 3, off


# --- exponents


@pytest.mark.parametrize("correction", [0.3, 0.5, 1.0])
@pytest.mark.parametrize("size", [-0.5, 0.2, 2.0])
def test_the_error_of_a_fit_bounds_what_fades(correction: float, size: float) -> None:
    """1 + c x^-w over six decades: it fades threefold between the outer thirds, at w = 0.3 sixteenfold."""
    x = np.geomspace(10, 1e7, 40)
    found = fit_exponent(x, 2 * x**-0.7 * (1 + size * x**-correction))
    assert abs(found.value + 0.7) <= found.error < 30 * abs(found.value + 0.7)


def test_the_statistical_error_is_that_of_the_slope() -> None:
    """Slopes of 400 noisy lines scatter by it, with and without the errors of the points; 4 sigma of a variance."""
    x, rng = np.geomspace(1, 1e3, 20), np.random.default_rng(0)
    relative = np.linspace(0.01, 0.05, 20)
    for given in (True, False):
        z = []
        for _ in range(400):
            y = x**-1.5 * np.exp((relative if given else 0.02) * rng.standard_normal(20))
            fit = fit_exponent(x, y, error=relative * y if given else None)
            z.append((fit.value + 1.5) / fit.statistical)
            assert fit.error >= fit.statistical
        # Student's t with 18 degrees of freedom has the variance 18/16
        assert np.mean(np.square(z)) == pytest.approx(1 if given else 18 / 16, abs=4 * np.sqrt(2 / 400) * 1.2)


@pytest.mark.parametrize("b", [0.0, 0.12, 0.3, 0.45, 0.55, 0.7, 0.9, 1.3, 2.0])
@pytest.mark.parametrize("a", [0.1, 0.2, 0.26, 0.28, 0.31, 0.4, 0.6, 0.8, 1.1, 1.7])
def test_phases_are_the_published_ones(a: float, b: float) -> None:
    """Exponents of loss and size as Paquette, Paquette, Xiao and Pennington (2024) print them for each phase."""
    if a + b <= 0.5:
        with pytest.raises(ValueError, match="b must be > 1/2 - a"):
            scaling_exponents(a, b)
        return
    m = 2 * a + 2 * b - 1
    if b < 0.5:
        phase = "Ia" if a > 0.5 else "Ib"
    elif a > 0.5:
        phase = "II" if b < a else "III"
    else:
        phase = "Ic" if a < 0.25 else "IVb" if a < 1 - 0.5**0.5 else "IVa"
    loss, size = {
        "Ia": lambda: (-m / (2 * a + 1), 1 / (2 * a + 1)),
        "Ib": lambda: (0.5 - a - b, 0.5),
        "Ic": lambda: (a * m / (a * (2 * b - 3) - 2 * b + 1), -m / (2 * (a * (2 * b - 3) - 2 * b + 1))),
        "II": lambda: (-m / (2 * (a + b)), b / (a + b)),
        "III": lambda: ((1 - 4 * a) / (4 * a), 0.5),
        "IVa": lambda: (-a, 0.5),
        "IVb": lambda: ((1 - 2 * a) * m / (2 * (2 * a * b + a - 2 * b)), (a - b) / (2 * a * b + a - 2 * b)),
    }[phase]()
    found = scaling_exponents(a, b)
    assert found.phase == phase
    assert found.compute == pytest.approx(loss, rel=1e-12)
    assert found.optimal_size == pytest.approx(size, rel=1e-12)


@pytest.mark.parametrize(
    ("a", "b", "phase", "last"),
    [
        (1.0, 0.25, "Ia", 16),
        (0.4, 0.3, "Ib", 18),
        (0.2, 1.0, "Ic", 22),
        (1.25, 0.75, "II", 16),
        (0.75, 1.5, "III", 16),
        (0.4, 0.8, "IVa", 26),  # noise meets the floor late: fits between 10^8 and 10^14 are still off by 0.02
    ],
)
def test_fitted_exponents_are_those_of_the_phase(a: float, b: float, phase: str, last: int) -> None:
    """Over the last eight decades of the compute, for the risk and the best size, within the errors of the fits.

    Not IVb, where no compute is large enough: see below.
    """
    known = scaling_exponents(a, b)
    compute = np.geomspace(10.0 ** (last - 8), 10.0**last, 13)
    ends = np.log10(compute[[0, -1]]) * known.optimal_size
    sizes = np.unique(np.geomspace(10 ** (ends[0] - 1.2), 10 ** (ends[1] + 1.8), 28).astype(int))
    found = compute_frontier(PowerLaw(a, b, inputs=400, features=100), sizes.tolist(), compute)
    assert found.interior.all()
    loss = fit_exponent(found.budget, found.risk)
    size = fit_exponent(found.budget, found.optimal_features)
    assert known.phase == phase
    assert abs(loss.value - known.compute) < loss.error < 0.03, loss
    assert abs(size.value - known.optimal_size) < size.error < 0.05, size


@pytest.mark.parametrize(("a", "b"), [(1.0, 0.25), (1.25, 0.75), (0.75, 1.5), (0.4, 0.8)])
def test_exponents_in_steps_and_in_size(a: float, b: float) -> None:
    """In n before P = 10^12 is felt, in P at the floor."""
    known = scaling_exponents(a, b)
    steps = np.geomspace(1e4, 1e9, 21)
    if a > 0.5:  # else lr changes with P
        risk = power_law_risk(PowerLaw(a, b, inputs=4 * 10**12, features=10**12), steps).risk
        time = fit_exponent(steps, risk)
        assert abs(time.value - known.time) < time.error < 0.05, time
    sizes = np.geomspace(1e3, 1e9, 13).astype(int)
    size = fit_exponent(sizes, [power_law_floor(PowerLaw(a, b, inputs=4 * int(P), features=int(P))) for P in sizes])
    assert abs(size.value - known.size) < size.error < 0.05, size


# --- IVb: target and noise meet, and what is of the order of the floor hardly fades


def three_terms(a: float, b: float, f: float, P: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Target, noise and early term at the compute 10^f and P = 10^P, their logarithms, and their powers of f and of P.

    D/P = 4, rate 1/4, and lr of 2a < 1: trace = D^(1 - 2a)/(1 - 2a).  Each is a power of both, of known prefactor.
    """
    source, (target, noise, _, of_lr, _, _, floor) = float(zeta(2 * b)), theory.term_exponents(a, b)
    lr = 0.5 * (1 - 2 * a) * 4 ** (2 * a - 1)  # times P^(2a - 1)
    x = 2 * lr  # times f P^(2a - 2)
    values = [
        theory.target_term(a, b, x, 1.0),
        theory.noise_term(a, x, lr, 1.0, source, 1.0),
        theory.early_term(a, 1.0, 4.0, lr, 1.0, source),
    ]
    of_f = np.array([target, noise, 0.0])
    of_P = of_f * (2 * a - 2) + np.array([0.0, of_lr * (2 * a - 1), floor])
    return np.log(values) + np.log(10) * (of_f * f + of_P * P), of_f, of_P


def local_exponent(a: float, b: float, f: float) -> tuple[float, float]:
    """d log risk/d log f at the best P, which is that at fixed P, and log10 of this P; no float overflows."""

    def shares(P: float) -> np.ndarray:
        logs = three_terms(a, b, f, P)[0]
        weights = np.exp(logs - logs.max())
        return np.asarray(weights / weights.sum())

    _, of_f, of_P = three_terms(a, b, f, 0.0)
    best = brentq(lambda P: float(shares(P) @ of_P), 0.2 * f, 0.9 * f, xtol=1e-13 * f, rtol=1e-15)
    return float(shares(best) @ of_f), float(best)


@pytest.mark.parametrize(
    ("a", "b", "P", "ratio", "rate", "batch"), [(0.27, 0.7, 30, 4, 0.25, 1), (0.28, 1.3, 40, 2, 0.4, 3)]
)
def test_target_noise_and_early_term_are_the_risk(
    a: float, b: float, P: int, ratio: int, rate: float, batch: int
) -> None:
    """Where 1 << x << P^2a: the rest of the risk is the early term, to (x/P^2a)^(1/2a - 1) and 1e-6 of a contour."""
    law, x = PowerLaw(a, b, inputs=ratio * 10**P, features=10**P, rate=rate, batch=batch), 1e9
    risk = float(power_law_risk(law, [x / (2 * law.lr)]).risk[0])
    noise = theory.noise_term(a, x, law.lr, float(batch), law.source, 1.0)
    rest = risk - theory.target_term(a, b, x, 1.0) - noise
    early = theory.early_term(a, float(law.parameters), float(law.inputs), law.lr, float(batch), law.source)
    bound = 1e-6 * risk / early + 10 * (x / 10 ** (2 * a * P)) ** (1 / (2 * a) - 1)
    assert bound < 1e-3
    assert rest == pytest.approx(early, rel=bound)


@pytest.mark.parametrize("f", [26, 100])
def test_the_equivalent_has_the_local_exponent_of_the_terms(f: int) -> None:
    """A decade of the compute about 10^26, where the exponent is off by 0.012, and 10^100: P up to 10^57.

    At 10^26 x = 10^3.6 makes terms off by 2e-3 of the risk, and the exponent by a power of that.
    """
    value, best = local_exponent(0.27, 0.7, f)
    sizes = [int(10**P) for P in np.linspace(best - 1, best + 1, 17)]
    found = compute_frontier(
        PowerLaw(0.27, 0.7, 400, 100), sizes, np.geomspace(10.0 ** (f - 0.5), 10.0 ** (f + 0.5), 7)
    )
    assert found.interior.all()
    fit = fit_exponent(found.budget, found.risk)
    assert fit.value == pytest.approx(value, abs={26: 5e-4, 100: 5e-6}[f])
    assert value == pytest.approx({26: -0.29939, 100: -0.28858}[f], abs=1e-5)  # printed in docs/how_to/power_laws.md


@pytest.mark.parametrize(("a", "b"), [(0.27, 0.7), (0.26, 1.1), (0.285, 0.6)])
def test_exponents_of_iv_b_are_those_of_theory(a: float, b: float) -> None:
    """The distance falls by the power of f that is known, tenfold in 1/|crossover| decades of the compute.

    Three budgets in such steps give the limit by Aitken's rule, to the next order.  The first correction is 10^-5 there
    times ten to a hundred, so that the square of it is at most 10^-3 of it.
    """
    known = scaling_exponents(a, b)
    omega = (4 * a - 1) * (b - 0.5) / (2 * b - a - 2 * a * b)
    assert known.phase == "IVb"
    assert known.crossover == pytest.approx(-omega, rel=1e-9)
    budgets = np.array([5.0, 6.0, 7.0]) / omega
    first, second, third = (local_exponent(a, b, f)[0] for f in budgets)
    assert (second - known.compute) / (first - known.compute) == pytest.approx(0.1, rel=2e-3)
    limit = third - (third - second) ** 2 / (third - 2 * second + first)
    assert limit == pytest.approx(known.compute, abs=abs(third - known.compute) / 100)
    assert 1e-11 < abs(third - known.compute) < 1e-6


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: PowerLaw(1.0, 0.5, inputs=10, features=11), "features must be at most inputs = 10, got 11"),
        (lambda: PowerLaw(1.0, 0.5, inputs=10, rate=1.0), "rate must be below 1"),
        (lambda: power_law_problem(PowerLaw(1.0, 0.5, inputs=10**6, features=10**5)), "at most 2"),
        (lambda: power_law_risk(SMALL, [0.0, 1.0]), "steps must be > 0, got 0.0"),
        (lambda: scaling_exponents(0.8, 0.8), "not on its boundary"),
        (lambda: scaling_exponents(0.25, 0.7), "not on its boundary"),
        (lambda: compute_frontier(SMALL, [2, 3], [10.0]), "features must be six or more"),
        (lambda: compute_frontier(PowerLaw(1.0, 0.5, 10), range(1, 9), [10.0]), "law must have features"),
        (lambda: fit_exponent([1.0, 2.0], [1.0, 1.0]), "window must hold 6 points or more, got 2"),
        (lambda: fit_exponent(np.arange(1.0, 9), -np.ones(8)), "y must be positive, got -1"),
        (lambda: fit_exponent(np.ones(8), np.ones(8)), "x must increase"),
    ],
)
def test_bad_input_is_refused(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]
