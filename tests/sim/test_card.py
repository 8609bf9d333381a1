"""The kernels of a card, run on the host from the same source, and compiled for cards where a compiler is found."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quenched.numerics.averages.activations import activation_functions
from quenched.numerics.averages.losses import loss_functions
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import Teacher, TwoLayer
from quenched.numerics.problem.rules import OnlineSGD
from quenched.numerics.problem.spectrum import Spectrum
from quenched.numerics.problem.state import without_spectrum
from quenched.numerics.two_layer.flow import random_state
from quenched.sim.backend import Backend, CardError, get_backend
from quenched.sim.engines import card_vectors, chain_step
from quenched.sim.engines.base import CHAIN, HIDDEN, Batch, Engine, Memory, Problem
from quenched.sim.engines.card_chain import CardChain
from quenched.sim.engines.card_vectors import CardVectors
from quenched.sim.engines.chain_kernels import Sizes, chain_source
from quenched.sim.engines.overlaps import Chain
from quenched.sim.engines.vector_kernels import Block, vector_source
from quenched.sim.training import simulate
from quenched.sim.translate import translate
from quenched.theory.activations import ACTIVATIONS

XOR = Mixture.xor(0.5)
UNEQUAL = Mixture([[1.0, 0.5], [-1.0, 0.5], [0.3, 0.0]], [1, -1, 1], [0.2, 0.3, 0.5], sigma=[0.5, 1.0, 0.7])
TAUGHT = Mixture(
    [[0.5, 0.0], [-0.5, 0.3]], sigma=[0.8, 0.6], teacher=Teacher([[0.0, 1.0], [1.0, 0.5]], [1.0, -0.5], "relu")
)
SIGNS = replace(
    TAUGHT, teacher=Teacher([[0.0, 1.0], [1.0, 0.5]], [[1.0, -0.5], [0.0, 0.7]], "relu", sign=True, field_noise=0.8)
)
SPECTRAL = Mixture([[1.0], [-1.0]], [1, -1], spectrum=Spectrum.two_level(0.5, 2.0, fraction=0.25))
ALL_OPTIONS = OnlineSGD(0.8, 0.1, second_lr=0.4, second_weight_decay=0.3, label_noise=0.4)
BIASED = replace(ALL_OPTIONS, bias_lr=0.7, bias_decay=0.2, intercept_lr=0.9, intercept_decay=0.1)
CHAINS: dict[str, tuple[Mixture, TwoLayer, OnlineSGD, int]] = {
    "relu": (XOR, TwoLayer(4, "relu"), OnlineSGD(0.5), 1000),
    "all options": (UNEQUAL, TwoLayer(3, "erf", output_scale=0.5), ALL_OPTIONS, 7),
    "biases": (UNEQUAL, TwoLayer(3, "erf", output_scale=0.5), replace(BIASED, batch=2), 9),
    "no room beyond the weights": (XOR, TwoLayer(2, "leaky_relu"), OnlineSGD(0.5), 4),
    "one degree of freedom": (XOR, TwoLayer(2, "relu"), OnlineSGD(0.5), 5),
    "an expression": (XOR, TwoLayer(2, "x*exp(-x**2/2)"), OnlineSGD(0.5), 10**6),
    "teacher": (TAUGHT, TwoLayer(2, "erf"), OnlineSGD(0.5, label_noise=0.2), 8),
    "signs of two teachers": (SIGNS, TwoLayer(2, "erf"), BIASED, 8),
    "K = 12": (Mixture.ring(8, 1.0), TwoLayer(12, "relu"), OnlineSGD(0.3), 100),
    "logistic, batches": (XOR, TwoLayer(2, "relu"), OnlineSGD(0.5, batch=3, loss="logistic"), 30),
    "schedules, frozen parts": (
        XOR,
        TwoLayer(2, "erf"),
        OnlineSGD("0.8/(1 + t)", [(0, 0.2), (0.5, 0.6)], frozen=("w1", "v0")),
        20,
    ),
    "bath on a sphere": (
        XOR,
        TwoLayer(2, "relu"),
        OnlineSGD(0.5, 0.1, temperature="0.2 + t", sphere=True, batch=2),
        20,
    ),
}
CHAIN_CASE = pytest.mark.parametrize("case", CHAINS.values(), ids=CHAINS.keys())


def batch(
    case: tuple[Mixture, TwoLayer, OnlineSGD, int], seeds: list[int], backend: Backend, dtype: str = "float64"
) -> Batch:
    mixture, network, rule, D = case
    states = [random_state(mixture, network, D, seed % 1000) for seed in seeds]
    return Batch((Problem(mixture, network, rule, D),), np.zeros(len(seeds), np.int64), seeds, states, backend, dtype)


def on_the_host(case: tuple[Mixture, TwoLayer, OnlineSGD, int], engine: CardChain, seeds: list[int]) -> Chain:
    """The same replicas on the host, with the same counters."""
    host = Chain(batch(case, seeds, get_backend("numpy")))
    host.restore(engine.state())
    return host


# --- the chain


@CHAIN_CASE
def test_the_chain_of_a_card_is_that_of_the_host(case: Any, card: Backend) -> None:
    """The translated source against numba's, with the same random numbers, over 1000 steps.

    Each step rounds sums of some 10 products of numbers of order one; what rounds differently (exp, log, sin of two
    libraries, by an ulp) is carried along by a stable map: 1000 steps times 10 eps is 2e-12.
    """
    seeds = [5, 17, 2**63 + 1]
    engine = CardChain(batch(case, seeds, card))
    host = on_the_host(case, engine, seeds)
    for steps in (1, 3, 996):
        engine.advance(steps), host.advance(steps)
        assert (engine.good == engine.steps).all()
        for found, exact in zip(engine.overlaps(), host.overlaps(), strict=True):
            np.testing.assert_allclose(found, exact, rtol=0, atol=2e-12 * max(1.0, np.abs(exact).max()))


def test_a_seed_has_the_same_bits_whatever_runs_beside_it(card: Backend) -> None:
    """Vectors: their product is a library's, which may sum in another order for another number of matrices."""
    for engine, names in (("overlaps", ("M", "Q", "v", "pmse")), ("vectors", ("M", "Q", "v"))):
        options: Any = {"engine": engine, "backend": card, "test_samples": 100}
        problem = XOR, TwoLayer(2, "relu"), OnlineSGD(0.5), 50, [1.0, 2.0]
        together = simulate(*problem, [3, 8, 5], **options)
        alone = simulate(*problem, [8], **options)
        small = simulate(*problem, [3, 8, 5], memory=60_000, **options)
        for name in names:
            atol = 0.0 if engine == "overlaps" else 1e-12
            np.testing.assert_allclose(together[name].sel(seed=[8]), alone[name], rtol=0, atol=atol)
            np.testing.assert_allclose(together[name], small[name], rtol=0, atol=atol)


@pytest.mark.parametrize("kind", [CardChain, CardVectors])
def test_a_state_goes_to_the_host_and_back(kind: type[Engine], card: Backend) -> None:
    case = XOR, TwoLayer(2, "relu"), OnlineSGD(0.5), 50
    one, other = kind(batch(case, [1, 2], card)), kind(batch(case, [1, 2], card))
    one.advance(70)
    other.restore({name: values.copy() for name, values in one.state().items()})
    one.advance(41), other.advance(41)
    for found, exact in zip(other.overlaps(), one.overlaps(), strict=True):
        np.testing.assert_array_equal(found, exact)


def test_a_checkpoint_on_a_card_ends_with_the_same_bits(card: Backend, tmp_path: Path) -> None:
    for engine in ("overlaps", "vectors"):
        options: Any = {"engine": engine, "backend": card, "test_samples": 100, "memory": 10**6}
        problem = XOR, TwoLayer(2, "relu"), OnlineSGD(0.5), 40, [1.0, 2.0, 3.0], 5
        whole = simulate(*problem, **options)

        class Stop(Exception):
            pass

        def stop(done: float) -> None:
            if done > 0.6:
                raise Stop

        file = tmp_path / f"{engine}.nc"
        with pytest.raises(Stop):
            simulate(*problem, **options, checkpoint=file, checkpoint_every=0.0, progress=stop)
        again = simulate(*problem, **options, checkpoint=file)
        for name in whole:
            np.testing.assert_array_equal(whole[name], again[name])


def test_errors_on_test_samples(card: Backend) -> None:
    """Against samples that NumPy draws: 4000 of them, in two runs of one state, agree to 5 standard errors.

    The errors of a record at step 0 are averages of n independent numbers whose spread is that over the seeds.
    """
    cases = [(UNEQUAL, TwoLayer(3, "erf", output_scale=0.5), "square"), (XOR, TwoLayer(2, "relu"), "logistic")]
    for mixture, network, loss in cases:
        state, rule = random_state(mixture, network, 100, 0), OnlineSGD(0.5, loss=loss)
        found = [
            simulate(mixture, network, rule, 100, 0.0, 64, "overlaps", where, state=state, test_samples=300)
            for where in (card, "numpy")
        ]
        for name in ("pmse", "classification_error", *(["loss"] if loss != "square" else [])):
            one, other = (each[name].values[:, 0] for each in found)
            error = np.sqrt((one.var(ddof=1) + other.var(ddof=1)) / 64)
            assert abs(one.mean() - other.mean()) < 5 * error
            assert 0.5 < one.var() / other.var() < 2  # 64 each: the ratio is within 1 +- 0.25 (one s.e.)


def test_tables_of_rates_fit_into_the_memory_that_is_planned() -> None:
    """4096 problems with schedules had 2^16 rows of 40 bytes each, 10.7 GB."""
    problem = Problem(XOR, TwoLayer(2, "relu"), OnlineSGD("0.5/(1 + t)"), 100)
    for replicas in (1, 4096, 2**23):
        found = CardChain.plan(problem, replicas, Memory(2**33, 8, 0))
        assert found.steps >= 1
        assert found.steps * replicas * 40 < 2**28 or found.steps == 1


@pytest.mark.parametrize("kind", [CardChain, CardVectors])
def test_what_is_seen_to_have_diverged_stays_so(kind: type[Engine], host_card: Backend) -> None:
    engine = kind(batch((XOR, TwoLayer(2, "relu"), OnlineSGD(0.5), 1000), [1, 2], host_card))
    engine.advance(4)
    engine.lose(np.array([False, True]), 2)
    engine.advance(4)
    assert engine.good.tolist() == [8, 2]


def test_divergence_is_that_of_the_replica(card: Backend) -> None:
    """A replica that diverges stops at its own step; the others go on."""
    case = XOR, TwoLayer(2, "he3"), OnlineSGD(3.0), 20
    engine = CardChain(batch(case, list(range(8)), card))
    host = on_the_host(case, engine, list(range(8)))
    with np.errstate(all="ignore"):
        engine.advance(400), host.advance(400)
    assert (engine.good < 400).sum() > 0
    # weights grow by more than 10 times a step before they overflow: what differs by rounding ends within a step
    assert np.abs(engine.good - host.good).max() <= 1


# --- the random numbers


def test_blocks_are_those_of_the_authors() -> None:
    """Known answers for Philox4x32-10 of Random123 (Salmon et al. 2011): zeros, and the digits of pi."""

    def block(counter: tuple[int, int, int, int], key: tuple[int, int]) -> list[int]:
        random = np.array([key[0] | key[1] << 32, counter[3]], dtype=np.uint64)
        words = chain_step.philox(random, np.uint64(counter[0] | counter[1] << 32), np.uint64(counter[2]))
        return [int(word) >> shift & 0xFFFFFFFF for word in words for shift in (0, 32)]

    assert block((0, 0, 0, 0), (0, 0)) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    counter, key = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0)
    assert block(counter, key) == [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]


@pytest.mark.parametrize("freedom", [1, 2, 3, 10, 10**6])
def test_chi_square_numbers(freedom: int) -> None:
    """Against scipy's law, 20,000 numbers: a false alarm has probability 0.001."""
    from scipy.stats import chi2, kstest

    x = np.zeros((1, 4))
    random = np.array([7, CHAIN], dtype=np.uint64)
    found = [chain_step.draw_counted(random, n, x, 0, float(freedom), 1.0) + tuple(x[0]) for n in range(20_000)]
    uniform, noise, square, *normals = np.array(found).T
    assert kstest(square, chi2(freedom).cdf).pvalue > 1e-3
    assert kstest(uniform, "uniform").pvalue > 1e-3
    for normal in (noise, *normals[:3]):
        assert kstest(normal, "norm").pvalue > 1e-3
    rows = np.array([noise, square / freedom, uniform, *normals[:3]])
    correlations = np.corrcoef(rows) - np.eye(len(rows))
    assert np.abs(correlations).max() < 5 / np.sqrt(20_000)


# --- vectors


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("chunk", [16, 1000])
@pytest.mark.parametrize(
    "case",
    [
        (XOR, TwoLayer(2, "relu"), OnlineSGD(0.5), 50),
        (UNEQUAL, TwoLayer(3, "erf", output_scale=0.5), replace(ALL_OPTIONS, batch=3), 40),
        (UNEQUAL, TwoLayer(3, "erf", output_scale=0.5), replace(BIASED, batch=3), 40),
        (SPECTRAL, TwoLayer(2, "erf"), OnlineSGD(0.5, loss="logistic"), 48),
        (TAUGHT, TwoLayer(3, "erf"), OnlineSGD(0.5), 40),
        (SIGNS, TwoLayer(2, "erf"), BIASED, 40),
    ],
    ids=["relu", "all options", "biases", "spectrum", "teacher", "signs of two teachers"],
)
def test_a_block_on_a_card_is_the_rule(
    case: Any, chunk: int, dtype: str, card: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plain SGD on the inputs that the block has drawn; sums of D products, rounded: 1e-12, or 1e-4 in float32.

    32 steps of a stable map: the errors add up, to about 32 sqrt(D) eps.
    """
    monkeypatch.setattr(card_vectors, "_CHUNK", chunk)
    _, network, rule, D = case
    engine = CardVectors(batch(case, [4, 9], card, dtype))
    W, v = np.array(card.to_host(engine.W), dtype=np.float64), np.array(card.to_host(engine.v))
    steps = engine.n // rule.batch
    labels: dict[str, Any] = {}
    launch = engine.kernel
    monkeypatch.setattr(
        engine, "kernel", lambda name, *args, **more: (launch(name, *args, **more), labels.setdefault(name, args))
    )
    engine.advance(steps)
    y = card.to_host(labels["choose"][-3])
    J, d = engine.rows.shape[1], engine.rows.shape[3]
    X = (
        np.array(card.to_host(engine.rows[:, :, : engine.n]), dtype=np.float64)
        .swapaxes(1, 2)
        .reshape(2, engine.n, J * d)[..., :D]
    )
    if engine.batch.problem.teachers:
        taught, cluster = engine.batch.problem.mixture.taught, card.to_host(labels["choose"][-4])
        seen = X[..., :2] @ engine.geometries[0].teacher.T
        for s, n, m in np.ndindex(seen.shape):
            words = np.array([(4, 9)[s], HIDDEN], dtype=np.uint64)
            seen[s, n, m] += taught.field_noise * chain_step.normals(words, n, m)[0]
        said = (activation_functions("relu")[0](seen) * taught.readouts(2)[cluster]).sum(axis=2)
        y = y + (np.sign(said) if taught.sign else said)
    g, dg = activation_functions(network.activation)
    slope = loss_functions(rule.loss)[1]
    K, biases = network.K, np.zeros((2, network.K + 1))
    if rule.biased:
        v, biases = v[:, :K], v[:, K:]
    for s in range(2):
        b, c = biases[s, :K], biases[s, K:]
        for step in range(steps):
            x, now = (
                X[s, step * rule.batch : (step + 1) * rule.batch],
                slice(step * rule.batch, (step + 1) * rule.batch),
            )
            field = x @ W[s].T / np.sqrt(D) + b
            charge = slope(network.output_scale * g(field) @ v[s] + c, y[s, now])
            F = charge[:, None] * network.output_scale / rule.batch
            push = (F * v[s] * dg(field)).T @ x / np.sqrt(D)
            v_push = (F * g(field)).sum(axis=0) / D
            b_push = (F * v[s] * dg(field)).sum(axis=0) / D
            b[:] = (1 - rule.bias_lr * rule.bias_decay / D) * b - rule.bias_lr * b_push
            moved = rule.intercept_lr * charge.sum() / (rule.batch * D)
            c[:] = (1 - rule.intercept_lr * rule.intercept_decay / D) * c - moved
            W[s] = (1 - rule.eta * rule.kappa / D) * W[s] - rule.eta * push
            v[s] = (1 - rule.eta_v * rule.kappa_v / D) * v[s] - rule.eta_v * v_push
    tolerance = 1e-12 if dtype == "float64" else 1e-4
    np.testing.assert_allclose(card.to_host(engine.W), W, rtol=0, atol=tolerance * np.abs(W).max())
    expected = np.concatenate([v, biases], axis=1) if rule.biased else v
    np.testing.assert_allclose(card.to_host(engine.v), expected, rtol=0, atol=tolerance)
    assert (engine.good == steps).all()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("chunk", [16, 1000])
def test_inputs_are_standard_normals(chunk: int, dtype: str, card: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 8 replicas, 32 samples, 43 dimensions, two blocks: each of 12 tests alarms falsely once in 1000."""
    from scipy.stats import kstest

    monkeypatch.setattr(card_vectors, "_CHUNK", chunk)
    mixture = Mixture([[0.0], [0.0]], [1, -1])
    engine = CardVectors(batch((mixture, TwoLayer(1, "erf"), OnlineSGD(0.5), 43), list(range(8)), card, dtype))
    found = []
    for _ in range(2):
        engine.advance(32)
        J, d = engine.rows.shape[1], engine.rows.shape[3]
        rows = card.to_host(engine.rows[:, :, : engine.n]).astype(np.float64)
        found.append(rows.swapaxes(1, 2).reshape(8 * 32, J * d))
        assert (found[-1][:, 43:] == 0).all()
    Z = np.concatenate(found)[:, :43]
    assert kstest(Z.ravel(), "norm").pvalue > 1e-3
    assert kstest((Z**2).sum(axis=1), "chi2", (43,)).pvalue > 1e-3
    assert len(np.unique(Z)) > 0.999 * Z.size
    correlations = np.corrcoef(Z.T) - np.eye(43)
    assert np.abs(correlations).max() < 5 / np.sqrt(len(Z))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    "case",
    [
        (XOR, TwoLayer(2, "relu"), OnlineSGD(0.5), 50),
        (XOR, TwoLayer(3, "relu"), OnlineSGD(0.5), 5),
        (XOR, TwoLayer(20, "relu"), OnlineSGD(0.5, batch=17), 40),
        (TAUGHT, TwoLayer(3, "erf"), OnlineSGD(0.5), 40),
    ],
    ids=["isotropic", "no room beyond the weights", "more rows than samples", "teacher"],
)
def test_weights_begin_with_the_overlaps_of_the_state(case: Any, dtype: str, card: Backend) -> None:
    """In orientations of the seeds, two of which differ: M and Q to the rounding of the precision."""
    mixture, network, _, D = case
    drawn = batch(case, [3, 8], card, dtype)
    state = random_state(mixture, network, D, 3)
    shared = replace(drawn, states=[state, state])
    engine = CardVectors(shared)
    M, Q, v = engine.overlaps()
    tolerance = 100 * float(np.finfo(dtype).eps)
    expected = without_spectrum(state)
    for found, exact in ((M, expected.M), (Q, expected.Q), (v, expected.v)):
        np.testing.assert_allclose(found, np.stack([exact, exact]), rtol=0, atol=tolerance * np.abs(expected.Q).max())
    W = card.to_host(engine.W)
    assert np.abs(W[0] - W[1]).max() > 0.1
    alone = card.to_host(CardVectors(shared.part(slice(1, 2))).W)
    np.testing.assert_array_equal(alone[0], W[1])


def test_vectors_have_the_law_of_the_host(card: Backend) -> None:
    """One initial state, 300 seeds each way: means of M and Q agree to 5 standard errors, variances to a factor 1.6."""
    network = TwoLayer(2, "relu")
    state = random_state(UNEQUAL, network, 30, 0)
    found = [
        simulate(UNEQUAL, network, ALL_OPTIONS, 30, 2.0, 300, "vectors", where, state=state, test_samples=30)
        for where in (card, "numpy")
    ]
    for name in ("M", "Q", "v", "pmse"):
        one, other = (each[name].values for each in found)
        error = np.sqrt((one.var(axis=0) + other.var(axis=0)) / 300)
        assert (np.abs(one.mean(axis=0) - other.mean(axis=0)) < 5 * error).all()
        ratio = one.var(axis=0) / other.var(axis=0)
        assert ((ratio > 1 / 1.6) & (ratio < 1.6)).all()


@pytest.mark.gpu
def test_a_million_replicas_in_one_call(real_card: Backend) -> None:
    """K = 4: mean order parameters against 2000 runs of the host, which agree to 5 standard errors."""
    network = TwoLayer(4, "relu")
    state = random_state(XOR, network, 1000, 0)
    options: Any = {"engine": "overlaps", "state": state, "test_samples": 4}
    many = simulate(XOR, network, OnlineSGD(0.5), 1000, [0.5, 1.0], 10**6, backend=real_card, **options)
    few = simulate(XOR, network, OnlineSGD(0.5), 1000, [0.5, 1.0], 2000, backend="numpy", **options)
    for name in ("M", "Q", "v", "pmse"):
        one, other = many[name].values, few[name].values
        error = np.sqrt(one.var(axis=0) / 10**6 + other.var(axis=0) / 2000)
        assert (np.abs(one.mean(axis=0) - other.mean(axis=0)) < 5 * error).all()


@pytest.mark.gpu
def test_every_activation_and_loss_compiles_on_the_card(real_card: Backend) -> None:
    """And a sweep of 10 steps is that of the host with the same numbers."""
    pairs = [(activation, "square") for activation in (*ACTIVATIONS, "tanh(x)", "Max(x, 0) + sin(x)/3")]
    for activation, loss in [*pairs, ("relu", "logistic")]:
        case = XOR, TwoLayer(2, activation), OnlineSGD(0.1, loss=loss), 100
        engine = CardChain(batch(case, [1, 2], real_card))
        host = on_the_host(case, engine, [1, 2])
        engine.advance(10), host.advance(10)
        for found, exact in zip(engine.overlaps(), host.overlaps(), strict=True):
            np.testing.assert_allclose(found, exact, rtol=0, atol=1e-13 * max(1.0, np.abs(exact).max()))


# --- bad input


def test_no_card() -> None:
    """Kernels run on a card alone; that there is none is said by `test_a_missing_gpu_is_said_plainly`."""
    with pytest.raises(CardError, match="backend must be 'cupy'"):
        get_backend("numpy").kernels("")


def test_refusals(card: Backend) -> None:
    problem = XOR, TwoLayer(2, "relu"), OnlineSGD(0.5), 50, 1.0
    with pytest.raises(ValueError, match=r"memory must be at least .* bytes for one seed at K = 2 and p = 2"):
        simulate(*problem, 1, "overlaps", card, memory=100)
    with pytest.raises(ValueError, match="lower test_samples"):
        simulate(*problem, 1, "vectors", card, memory=1000)
    with pytest.raises(ValueError, match="dtype must be 'float64'"):
        simulate(*problem, 1, "overlaps", card, dtype="float32")
    many = XOR, TwoLayer(2, "relu"), OnlineSGD(0.5, batch=33), 50, 1.0
    with pytest.raises(ValueError, match="batch must be at most 32 on a card"):
        simulate(*many, 1, "vectors", card)


def test_the_language_is_small() -> None:
    """What the translation does not know, it refuses by name."""

    def lists(x: float) -> float:
        return sum([x, x])

    def strange(x: float) -> float:
        return unknown(x)  # type: ignore[name-defined,no-any-return]  # noqa: F821

    with pytest.raises(ValueError, match="lists: cannot translate"):
        translate({"lists": lists}, {})
    with pytest.raises(ValueError, match="unknown function 'unknown'"):
        translate({"strange": strange}, {})


# --- compilers of cards

REGISTERS = {4: 168, 2: 128}  # of a thread, by K: more would leave the card idle
SOURCES = {
    "chain K = 2": chain_source(Sizes(2, 1, 2, 0, 1, 0, "erf", "square", "linear")),
    "chain K = 4": chain_source(Sizes(4, 1, 2, 0, 1, 0, "relu", "square", "linear")),
    "chain K = 16": chain_source(Sizes(16, 8, 8, 0, 1, 0, "relu", "logistic", "linear")),
    "chain with a teacher": chain_source(Sizes(3, 2, 1, 2, 1, 0, "erf", "square", "erf")),
    "chain of batches": chain_source(Sizes(2, 1, 2, 0, 3, 0, "relu", "square", "linear")),
    "chain in a bath": chain_source(Sizes(2, 1, 2, 0, 1, 2, "relu", "square", "linear")),
    "vectors": vector_source(Block(4, 0, 4, 32, 1, 1000, 1, 1000, 1, 2, "double", "relu", "square", "linear")),
    "vectors, float32": vector_source(
        Block(2, 2, 1, 30, 3, 5000, 5, 1000, 5000, 5000, "float", "erf", "square", "erf")
    ),
}


def compiler_report(source: str, target: str, folder: Path) -> str | None:
    """What ptxas says of a source that NVRTC compiles (its wheel needs no driver), or nvcc; None where neither is."""
    try:
        from cupy_backends.cuda.libs import nvrtc

        nvrtc.getVersion()
    except (ImportError, RuntimeError):
        if shutil.which("nvcc") is None:
            return None
        (folder / "kernels.cu").write_text(source)
        options = ["-cubin", f"-arch={target}", "-std=c++17", "-Xptxas", "-v", "-o", "out", "kernels.cu"]
        done = subprocess.run(["nvcc", *options], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stderr
    program = nvrtc.createProgram(source, "kernels.cu", (), ())
    try:
        nvrtc.compileProgram(program, ("--std=c++17", f"-arch={target}", "--ptxas-options=-v"))
    except RuntimeError:
        pytest.fail(nvrtc.getProgramLog(program))
    return str(nvrtc.getProgramLog(program))


@pytest.mark.parametrize("target", ["sm_80", "sm_90"])
@pytest.mark.parametrize("name", SOURCES)
def test_kernels_compile_for_cards(name: str, target: str, tmp_path: Path) -> None:
    """A thread of a small chain lives in registers, and spills no more than two numbers."""
    report = compiler_report(SOURCES[name], target, tmp_path)
    if report is None:
        pytest.skip("neither nvidia-cuda-nvrtc with CuPy nor nvcc is installed: kernels cannot be compiled here")
    registers = [int(number) for number in re.findall(r"Used (\d+) registers", report)]
    assert registers
    if name in ("chain K = 2", "chain K = 4"):
        assert max(map(int, re.findall(r"(\d+) bytes spill stores", report))) <= 16
        assert max(registers) <= REGISTERS[int(name[-1])]
