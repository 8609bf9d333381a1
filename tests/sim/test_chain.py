"""The chain of the order parameters has the law of SGD on real vectors at every D, and the ODE as its limit."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numba
import numpy as np
import pytest
import xarray as xr
from scipy.special import softmax
from scipy.stats import ks_2samp

from quenched.numerics.averages.activations import activation_functions, compiled_activation
from quenched.numerics.averages.losses import loss_functions
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import Teacher, TwoLayer
from quenched.numerics.problem.rules import OnlineSGD
from quenched.numerics.problem.state import OrderParameters
from quenched.numerics.two_layer.flow import integrate, random_state
from quenched.sim.backend import generators, get_backend
from quenched.sim.engines import overlaps
from quenched.sim.engines.base import CHAIN, Batch, Problem
from quenched.sim.engines.chain_step import Numbers
from quenched.sim.engines.overlaps import Chain
from quenched.sim.referee.compare import compare
from quenched.sim.training import DivergenceError, simulate
from quenched.theory.activations import ACTIVATIONS

XOR = Mixture.xor(0.5)
RELU = TwoLayer(3, "relu")
SGD = OnlineSGD(0.3)
UNEQUAL = Mixture([[1.0, 0.5], [-1.0, 0.5], [0.3, 0.0]], [1, -1, 1], [0.2, 0.3, 0.5], sigma=[0.5, 1.0, 0.7])
ALL_OPTIONS = OnlineSGD(0.8, 0.1, second_lr=0.4, second_weight_decay=0.3, label_noise=0.4)
Case = tuple[Mixture, TwoLayer, OnlineSGD, int]
CASES: dict[str, Case] = {
    "relu": (XOR, TwoLayer(4, "relu"), OnlineSGD(1.0), 40),
    "all options": (UNEQUAL, TwoLayer(3, "relu", output_scale=0.5), ALL_OPTIONS, 7),
    "erf": (Mixture.ring(3, 0.7), TwoLayer(2, "erf"), OnlineSGD(2.0, weight_decay=0.2), 6),
    "no room beyond the weights": (XOR, TwoLayer(2, "leaky_relu"), OnlineSGD(0.5), 4),
    "an expression, high SNR": (
        Mixture.two_clusters(1.0, scaling=0.25),
        TwoLayer(1, "x*exp(-x**2/2)"),
        OnlineSGD(2.0),
        3,
    ),
}
BATCHES = OnlineSGD(0.8, 0.1, label_noise=0.4, batch=3)
TEACHER = Mixture(
    [[0.5, 0.0], [-0.5, 0.3]], sigma=[0.8, 0.6], teacher=Teacher([[0.0, 1.0], [1.0, 0.5]], [1.0, -0.5], "relu")
)
SIGNS = replace(
    TEACHER, teacher=Teacher([[0.0, 1.0], [1.0, 0.5]], [[1.0, -0.5], [0.0, 0.7]], "relu", sign=True, field_noise=0.8)
)
CASES |= {
    "batches": (UNEQUAL, TwoLayer(3, "relu"), BATCHES, 12),
    "batches without room": (XOR, TwoLayer(2, "erf"), OnlineSGD(1.0, batch=3), 5),
    "teacher": (TEACHER, TwoLayer(2, "erf"), OnlineSGD(0.5, label_noise=0.2), 8),
    "signs of two teachers": (SIGNS, TwoLayer(2, "erf"), OnlineSGD(0.5, label_noise=0.2, batch=2), 9),
    "logistic": (XOR, TwoLayer(2, "relu"), OnlineSGD(1.0, loss="logistic", batch=2), 8),
}
SCHEDULES = OnlineSGD(
    "0.8/(1 + t)", [(0, 0.2), (0.5, 0.2), (0.5, 0.6)], second_lr="0:0.3, 1:0.1", label_noise=0.3, frozen=("w1", "v0")
)
CASES |= {
    "schedules, frozen parts": (UNEQUAL, TwoLayer(3, "relu"), SCHEDULES, 8),
    "sphere": (XOR, TwoLayer(3, "relu"), OnlineSGD(0.8, 0.1, sphere=True, batch=2), 9),
    "bath": (UNEQUAL, TwoLayer(3, "relu"), OnlineSGD("1/(1 + t)", 0.2, temperature=0.5, frozen=("w2",)), 12),
    "bath on a sphere, batches, without room": (
        XOR,
        TwoLayer(2, "erf"),
        OnlineSGD(0.5, temperature="0.2 + t", sphere=True, batch=2),
        6,
    ),
}
CLASSES = Mixture(UNEQUAL.means, weights=UNEQUAL.weights, sigma=UNEQUAL.sigma, classes=[1, 0, 1])
CROSS_ENTROPY = OnlineSGD(0.8, 0.1, second_lr=0.4, second_weight_decay=0.3, loss="cross-entropy")
ALL_RULES = OnlineSGD(
    "0.8/(1 + t)", 0.1, loss="cross-entropy", batch=2, frozen=("w1", "v0"), sphere=True, temperature=0.5
)
CASE = pytest.mark.parametrize(("mixture", "network", "sgd", "D"), CASES.values(), ids=CASES.keys())


def engine(mixture: Mixture, network: TwoLayer, sgd: OnlineSGD, D: int, states: Sequence[OrderParameters]) -> Chain:
    which, backend = np.zeros(len(states), np.int64), get_backend("numpy")
    return Chain(Batch((Problem(mixture, network, sgd, D),), which, range(len(states)), states, backend, "float64"))


# --- one step is the rule on vectors


def step_on_vectors(
    mixture: Mixture, network: TwoLayer, sgd: OnlineSGD, D: int, run: Chain, random: np.random.Generator, n: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """M, Q and v after a step as theory.md writes it, from the state of `run` and for the inputs that it will draw.

    The vectors have the coordinates that any of them uses: p, and K + B (or D - p) in a random orientation.  Beyond the
    weights, sample b has normals along what earlier ones have brought, and the root of a chi-square along one more.
    """
    p, K, v = mixture.dimensions, network.K, run.overlaps().v[0]
    A, L = run.W[0, :p].copy(), run.W[0, p:].T.copy()
    bath = K if sgd.temperature != 0 else 0
    room = min(K + sgd.batch + bath, D - p)
    f = np.linalg.qr(np.random.default_rng(0).standard_normal((room, room)))[0]
    w = np.sqrt(D) * np.hstack([A.T, L @ f[:K]])
    g, dg = activation_functions(network.activation)
    s, targets = network.output_scale, mixture.labels if mixture.classes is None else mixture.classes
    now, (first, second, _) = sgd.rates(n / D), sgd.learning(K)
    w_new, v_new = w - now.eta * now.kappa / D * first[:, None] * w, v - now.eta_v * now.kappa_v / D * second * v

    def normals(b: int) -> np.ndarray:
        z = random.standard_normal(p + K)
        length = [np.sqrt(random.chisquare(D - p - K - b))] if K + b < room else []
        z = np.concatenate([z, random.standard_normal(min(b, room - K)), length])
        return np.concatenate([z[:p], z[p:] @ f[: len(z) - p]])

    for b in range(sgd.batch):
        a = int(np.sum(np.cumsum(mixture.weights)[:-1] <= random.random()))
        y = targets[a] + (sgd.label_noise * random.standard_normal() if sgd.label_noise else 0.0)
        x = mixture.sigmas[a] * normals(b)
        x[:p] += mixture.at(D)[a]
        if (teacher := mixture.teacher) is not None:
            hidden = [random.standard_normal() if teacher.field_noise else 0.0 for _ in range(teacher.neurons)]
            seen = teacher.weights @ x[:p] + teacher.field_noise * np.array(hidden)
            said = teacher.readouts(mixture.clusters)[a] @ activation_functions(teacher.activation)[0](seen)
            y += np.sign(said) if teacher.sign else said
        field = w @ x / np.sqrt(D)
        if mixture.classes is None:
            F = loss_functions(sgd.loss)[1](s * v @ g(field), y) / sgd.batch
        else:
            F = (softmax(s * v @ g(field)) - np.eye(len(v))[int(y)]) / sgd.batch
        w_new = w_new - now.eta / np.sqrt(D) * s * np.outer(first * np.dot(F, v) * dg(field), x)
        v_new = v_new - now.eta_v / D * s * second * np.multiply.outer(F, g(field))
    for k in range(bath):
        random.random()  # where a sample chooses its cluster
        w_new[k] += np.sqrt(2 * now.eta * now.temperature / D) * first[k] * normals(sgd.batch + k)
    if sgd.sphere:
        w_new *= (np.linalg.norm(w, axis=1) / np.linalg.norm(w_new, axis=1))[:, None]
    return mixture.references_at(D) @ w_new[:, :p].T / np.sqrt(D), w_new @ w_new.T / D, v_new


def in_the_span(K: int) -> OrderParameters:
    A = np.random.default_rng(1).standard_normal((2, K))
    return OrderParameters(XOR.means @ A, A.T @ A, np.linspace(-1, 1, K))


OPPOSITE = OrderParameters(np.zeros((4, 3)), np.outer([1, -1, 2], [1, -1, 2]), [0.5, 1.0, -1.0])
STEPS = {
    **{name: (case, None) for name, case in CASES.items()},
    "batches at D = 10^9": ((UNEQUAL, TwoLayer(8, "relu"), BATCHES, 10**9), None),
    "D = 10^9": ((UNEQUAL, TwoLayer(8, "relu"), ALL_OPTIONS, 10**9), None),
    "weights in the span of the means": ((XOR, RELU, SGD, 10), in_the_span(3)),
    "parallel weights": ((XOR, RELU, SGD, 10), OPPOSITE),
    "frozen layers": ((XOR, RELU, OnlineSGD(0.0, second_lr=0.0), 10), OPPOSITE),
    "classes": ((CLASSES, TwoLayer(2, "erf", output_scale=0.7), CROSS_ENTROPY, 12), None),
    "classes in batches": ((CLASSES, TwoLayer(3, "relu"), replace(CROSS_ENTROPY, batch=3), 7), None),
    "classes, schedules, frozen parts, a sphere and a bath": ((CLASSES, TwoLayer(3, "relu"), ALL_RULES, 12), None),
}


@pytest.mark.parametrize(("case", "state"), STEPS.values(), ids=STEPS.keys())
def test_a_step_is_the_rule_on_vectors(case: Case, state: OrderParameters | None) -> None:
    """Up to the rounding of sums of p + K products of numbers of the size of Q, some (p + K) eps < 1e-14.

    At D = 10^9 a step changes Q by some 1e-9, which is right to five digits then.
    """
    state = random_state(*case[:2], case[3], 3) if state is None else state
    run = engine(*case, [state])
    for exact, found in zip((state.M, state.Q, state.v), run.overlaps(), strict=True):
        np.testing.assert_allclose(found[0], exact, rtol=0, atol=2e-14 * max(1, np.abs(exact).max()))
    random = generators([0], CHAIN)[0]
    for n in range(5):
        vectors = step_on_vectors(*case, run, random, n)
        run.advance(1)
        for exact, found in zip(vectors, run.overlaps(), strict=True):
            np.testing.assert_allclose(found[0], exact, rtol=0, atol=2e-14 * max(1, np.abs(exact).max()))


@pytest.mark.parametrize("activation", [*ACTIVATIONS, "x*exp(-x**2/2)"])
def test_compiled_activations_are_the_generated_ones(activation: str) -> None:
    """To the last few digits of exp and erf, which libraries round differently; kinks included."""
    x = np.linspace(-3, 3, 49)
    for compiled, function in zip(compiled_activation(activation), activation_functions(activation), strict=True):
        np.testing.assert_allclose([compiled.ctypes(each) for each in x], function(x), rtol=1e-14, atol=1e-14)


# --- the law


def coordinates(M: np.ndarray, Q: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The state of each seed as one row of numbers."""
    return np.hstack([M.reshape(len(M), -1), Q[:, *np.triu_indices(Q.shape[1])], v])


def smallest_p_value(one: np.ndarray, other: np.ndarray) -> float:
    """Kolmogorov-Smirnov on each coordinate and, for what they do jointly, on 20 random directions; Bonferroni.

    What a rule keeps, frozen weights and lengths, varies by rounding: such coordinates are equal to 1e-12.
    """
    spread = other.std(axis=0)
    moving = spread > 1e-12 * np.abs(other).max()
    np.testing.assert_allclose(one[:, ~moving], other[:, ~moving], rtol=0, atol=1e-12 * np.abs(other).max())
    axes = np.hstack([np.eye(moving.sum()), np.random.default_rng(0).standard_normal((moving.sum(), 20))])
    one, other = ((sample[:, moving] / spread[moving]) @ axes for sample in (one, other))
    return min(1.0, axes.shape[1] * min(float(ks_2samp(a, b).pvalue) for a, b in zip(one.T, other.T, strict=True)))


# Seeds per engine.  At this level the Kolmogorov-Smirnov distance of two samples of n must exceed 0.066: a coordinate
# whose mean is off by 0.25 of its standard deviation is found with probability 0.99.
N, LEVEL, TIME = 3000, 0.001 / len(CASES), 2.0


@CASE
def test_the_law_is_that_of_vectors(mixture: Mixture, network: TwoLayer, sgd: OnlineSGD, D: int) -> None:
    """The false alarm rate is below 0.001 for all cases together.

    The power is shown by chains that are wrong: with |x|^2 of as many degrees of freedom as if the input had D more
    components beyond the weights rather than D - p - K; at the smallest dimensions by a single one too many.
    """
    state = random_state(mixture, network, D, 0)
    options: dict[str, Any] = {"backend": "numpy", "state": state, "test_samples": 1}
    vectors = simulate(mixture, network, sgd, D, [TIME], range(N), **options)
    M, Q, v = (vectors[name].values[:, 0] for name in ("M", "Q", "v"))
    on_vectors = coordinates(
        np.concatenate([M, vectors.R.values[:, 0]], axis=1) if mixture.teacher is not None else M, Q, v
    )

    def p_value(too_many: int) -> float:
        run = engine(mixture, network, sgd, D, [state] * N)
        data, rule = run.parameters[0]
        run.parameters = [Numbers(data, rule._replace(freedom=rule.freedom + too_many))]
        run.advance(round(TIME * D))
        assert (run.good == round(TIME * D)).all()
        return smallest_p_value(coordinates(*run.overlaps()), on_vectors)

    assert p_value(0) > LEVEL
    if D < 10:
        assert p_value(mixture.dimensions + network.K) < LEVEL / 1000


def test_random_states_and_errors_are_those_of_vectors() -> None:
    """The same random state for the same seed; errors on test samples agree in their distribution."""
    arguments: tuple[Any, ...] = (XOR, RELU, SGD, 20, [0.0, 2.0])
    one, other = (
        simulate(*arguments, range(1000), engine, backend="numpy", test_samples=100)
        for engine in ("overlaps", "vectors")
    )
    for name in ("M", "Q", "v"):
        np.testing.assert_allclose(one[name].isel(time=0), other[name].isel(time=0), rtol=0, atol=1e-13)
    for name in ("pmse", "classification_error", "tie_probability"):
        assert ks_2samp(one[name].isel(time=1), other[name].isel(time=1)).pvalue > 1e-3 / 3


# --- the limit of large D


def test_the_limit_is_the_ode_and_fluctuations_are_of_order_one_over_root_d() -> None:
    """D Cov of the state does not depend on D: its trace, a sum of variances that n seeds give to a relative sqrt(2/n)
    at most, agrees within 5 standard errors between D = 10^3 and 10^5.  At D = 10^6 a single run is then within 6
    standard deviations of the ODE, with a bias of O(1/D) that is a thousandth of them.
    """
    network, sgd, times = TwoLayer(2, "erf"), OnlineSGD(0.5, 0.05), [0.5, 1.0]
    state = random_state(XOR, network, 500, 0)
    ode = integrate(XOR, network, sgd, state, times)
    variances = {}
    for D, n in ((10**3, 400), (10**5, 40), (10**6, 1)):
        runs = simulate(XOR, network, sgd, D, times, range(n), "overlaps", state=state, test_samples=1000)
        sample = np.stack([coordinates(*(runs[name].values[:, i] for name in ("M", "Q", "v"))) for i in (0, 1)])
        if n > 1:
            variances[D] = D * sample.var(axis=1, ddof=1)
            comparison = compare(ode, runs, significance=1e-3)
            assert comparison.agrees, comparison.worst()
    for few, many in zip(variances[10**3].sum(axis=1), variances[10**5].sum(axis=1), strict=True):
        assert abs(np.log(many / few)) < 5 * np.sqrt(2 / 400 + 2 / 40)
    exact = np.stack([coordinates(*(ode[name].values[[i]] for name in ("M", "Q", "v"))) for i in (0, 1)])
    assert (np.abs(sample - exact)[:, 0] < 6 * np.sqrt(variances[10**3] / 10**6)).all()


# --- seeds


def identical(one: xr.Dataset, other: xr.Dataset) -> None:
    for name in one.data_vars:
        np.testing.assert_array_equal(one[name], other[name], err_msg=str(name))


def test_a_seed_gives_the_same_bits_whatever_runs_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments: tuple[Any, ...] = (UNEQUAL, RELU, ALL_OPTIONS, 50, [0.5, 3.0])
    seeds = [7, 3, 11, 2, 5]
    together = simulate(*arguments, seeds, "overlaps", test_samples=30)
    for threads, steps in ((1, 2**20), (2, 7), (5, 100)):
        monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", threads)
        monkeypatch.setattr(overlaps, "_CALL", steps)
        identical(together, simulate(*arguments, seeds, "overlaps", test_samples=30))
        identical(together, simulate(*arguments, seeds, "overlaps", test_samples=30, memory=2880))  # a seed at a time
        for seed in (11, 3):
            identical(together.sel(seed=[seed]), simulate(*arguments, [seed], "overlaps", test_samples=30))


def test_diverging_weights_raise() -> None:
    with pytest.raises(DivergenceError, match=r"seeds \[1, 2\] overflowed after t = .* lower lr \(now 1000\)"):
        simulate(XOR, RELU, OnlineSGD(1000), 30, [50.0], [1, 2], "overlaps")


def test_an_initial_state_that_overflows_has_done_no_steps() -> None:
    """exp(-y phi) at y phi = -10^5, give or take 10^4: the first gradient is infinite, the last good time 0."""
    state = OrderParameters([[-1e5], [1e5]], [[1.0001e10]], [1.0])
    rule = OnlineSGD(0.1, loss="exponential")
    for name in ("overlaps", "vectors"):
        with pytest.raises(DivergenceError, match=r"seeds \[1\] overflowed after t = 0;") as caught:
            simulate(Mixture.two_clusters(0.1), TwoLayer(1, "linear"), rule, 30, 1.0, [1], name, "numpy", state=state)
        assert caught.value.t == 0


def run(**changes: Any) -> Callable[[], object]:
    settings: dict[str, Any] = {"D": 30, "t": [1.0], "seeds": [1], "engine": "overlaps"} | changes
    return lambda: simulate(XOR, RELU, SGD, **settings)


BAD: Sequence[tuple[Callable[[], object], str]] = [
    (run(D=4), "D must be an integer >= 5, got 4"),
    (run(t=[-1.0]), r"t must be >= 0, got -1\.0"),
    (run(seeds=[]), r"seeds must be one or more integers >= 0, got none"),
    (run(seeds=[4, 1, 4]), r"seeds must be one or more different integers, got \[4, 1, 4\]"),
    (run(test="vectors"), "test must be 'fields' with engine='overlaps', got 'vectors'"),
    (run(dtype="float32"), "dtype must be 'float64' with engine='overlaps', got 'float32'"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[message[:50] for _, message in BAD])
def test_bad_input_is_refused_by_name_and_value(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
