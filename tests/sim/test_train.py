"""The block-wise simulation is online SGD, sample by sample, on any backend, for any batch of seeds."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import array_api_strict
import numpy as np
import pytest
import xarray as xr
from scipy.special import ndtr, softmax

from quenched.numerics.averages.activations import activation_functions
from quenched.numerics.averages.losses import loss_functions
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.rules import GradientFlow, OnlineSGD
from quenched.numerics.problem.state import OrderParameters
from quenched.numerics.two_layer.flow import random_state
from quenched.sim.backend import Backend, HostNormals, generators, get_backend
from quenched.sim.engines.base import BATH, CLUSTER, DATA, FRAME, NOISE
from quenched.sim.engines.geometry import Geometry
from quenched.sim.training import DivergenceError, simulate

XOR = Mixture.xor(0.5)
RELU = TwoLayer(3, "relu")
SGD = OnlineSGD(0.3)
CASES = {
    "plain": (XOR, RELU, SGD),
    "erf": (Mixture.ring(3, 0.7), TwoLayer(2, "erf"), OnlineSGD(0.5, weight_decay=0.2)),
    "all options": (
        Mixture([[1.0, 0.5], [-1.0, 0.5], [0.3, 0.0]], [1, -1, 1], [0.2, 0.3, 0.5], sigma=[0.5, 1.0, 0.7]),
        TwoLayer(4, "relu", output_scale=0.5),
        OnlineSGD(0.4, 0.1, second_lr=0.2, second_weight_decay=0.3, label_noise=0.4),
    ),
    "frozen readout, high SNR": (Mixture.xor(1.0, scaling=0.25), RELU, OnlineSGD(0.1, second_lr=0.0)),
    "logistic": (XOR, TwoLayer(2, "erf"), OnlineSGD(0.6, 0.1, loss="logistic")),
    "batches": (XOR, RELU, OnlineSGD(0.5, 0.1, label_noise=0.3, batch=5)),
    "schedules, frozen parts": (
        XOR,
        RELU,
        OnlineSGD(
            "0.8/(1 + t)", [(0, 0.2), (1.3, 0.2), (1.3, 0.6)], second_lr="0:0.3, 1:0.1", frozen=("w1", "v0"), batch=2
        ),
    ),
    "sphere": (XOR, RELU, OnlineSGD(0.6, 0.1, sphere=True, batch=3)),
    "bath": (XOR, RELU, OnlineSGD("1/(1 + t)", 0.2, temperature=0.5, frozen=("w2",), label_noise=0.3)),
    "bath on a sphere, batches": (XOR, TwoLayer(2, "erf"), OnlineSGD(0.5, temperature="t", sphere=True, batch=2)),
    "classes": (
        Mixture.three_classes(0.6),
        TwoLayer(2, "erf", output_scale=0.7),
        OnlineSGD(0.6, 0.1, second_lr=0.3, second_weight_decay=0.2, loss="cross-entropy", batch=3),
    ),
    "classes, schedules, frozen parts, a sphere and a bath": (
        Mixture.three_classes(0.6),
        TwoLayer(3, "erf"),
        OnlineSGD("1/(1 + t)", 0.1, loss="cross-entropy", batch=2, frozen=("w1", "v0"), sphere=True, temperature=0.5),
    ),
    "batches beyond a block": (XOR, RELU, OnlineSGD(0.5, loss="(phi - y)**4/4", batch=40)),
}


def one_sample_at_a_time(
    mixture: Mixture, network: TwoLayer, sgd: OnlineSGD, D: int, steps: int, seed: int, state: OrderParameters
) -> tuple[np.ndarray, np.ndarray]:
    """The update rule, one step at a time, on the samples that `simulate` draws for this seed."""

    def stream(number: int) -> np.random.Generator:
        return np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=(number,))))

    data, choice, noise, bath = stream(DATA), stream(CLUSTER), stream(NOISE), stream(BATH)
    w, v = Geometry.of(mixture, D).weights(state, generators([seed], FRAME)[0]), state.v.copy()
    g, dg = activation_functions(network.activation)
    s, means = network.output_scale, np.zeros((mixture.clusters, D))
    means[:, : mixture.dimensions] = mixture.at(D)
    first, second, _ = sgd.learning(network.K)
    for n in range(steps):
        now = sgd.rates(n / D)
        dw, dv = -now.eta * now.kappa / D * w, -now.eta_v * now.kappa_v / D * v
        for _ in range(sgd.batch):
            a = int(np.sum(np.cumsum(mixture.weights)[:-1] <= choice.random()))
            x = means[a] + mixture.sigmas[a] * data.standard_normal(D)
            y = mixture.labels[a] + (sgd.label_noise * noise.standard_normal() if sgd.label_noise else 0.0)
            field = w @ x / np.sqrt(D)
            if mixture.classes is None:
                F = loss_functions(sgd.loss)[1](s * v @ g(field), y) / sgd.batch
            else:
                F = (softmax(s * v @ g(field)) - np.eye(len(v))[mixture.classes[a]]) / sgd.batch
            dw = dw - now.eta / np.sqrt(D) * s * np.outer(np.dot(F, v) * dg(field), x)
            dv = dv - now.eta_v / D * s * np.multiply.outer(F, g(field))
        if sgd.temperature != 0:
            dw = dw + np.sqrt(2 * now.eta * now.temperature / D) * bath.standard_normal(w.shape)
        lengths = np.linalg.norm(w, axis=1)
        w, v = w + first[:, None] * dw, v + second * dv
        if sgd.sphere:
            w = w * (lengths / np.linalg.norm(w, axis=1))[:, None]
    return w, v


@pytest.mark.parametrize(("mixture", "network", "sgd"), CASES.values(), ids=CASES.keys())
def test_blocks_are_the_one_sample_rule(mixture: Mixture, network: TwoLayer, sgd: OnlineSGD) -> None:
    """Only rounding differs: about sqrt(D) eps = 2e-15 per step relative to fields of order 1, adding up over 100
    steps to below 1e-12; a factor 100 is left for steps that amplify it."""
    D, t = 40, [0.0, 0.3, 1.1, 2.5]  # records at steps 0, 12, 44, 100: whole blocks of 32 and parts of one
    data = simulate(mixture, network, sgd, D, t, [5], backend="numpy", test_samples=8)
    assert data.step.values.tolist() == [0, 12, 44, 100]
    state = random_state(mixture, network, D, 5)
    for n in data.step.values:
        now = data.isel(seed=0).sel(time=n / D)
        w, v = one_sample_at_a_time(mixture, network, sgd, D, n, 5, state)
        np.testing.assert_allclose(now.Q, w @ w.T / D, rtol=0, atol=1e-10)
        np.testing.assert_allclose(now.M, mixture.at(D) @ w[:, : mixture.dimensions].T / np.sqrt(D), rtol=0, atol=1e-10)
        np.testing.assert_allclose(now.v, v, rtol=0, atol=1e-10)


def same(a: xr.Dataset, b: xr.Dataset, atol: float = 1e-12) -> None:
    for name in a.data_vars:
        np.testing.assert_allclose(a[name], b[name], rtol=0, atol=atol, err_msg=str(name))


def test_a_seed_does_not_depend_on_the_seeds_beside_it_nor_on_the_block() -> None:
    """Up to rounding (see above): `memory` for 1000 numbers allows one seed and 10 samples at a time."""
    arguments: tuple[Any, ...] = (XOR, RELU, OnlineSGD(0.3, label_noise=0.2), 40, [0.5, 2.0])
    together = simulate(*arguments, [7, 3, 11], backend="numpy", test_samples=40)
    cut = simulate(*arguments, [7, 3, 11], backend="numpy", test_samples=40, memory=8000)
    same(together, cut)
    for seed in (11, 3):
        same(together.sel(seed=[seed]), simulate(*arguments, [seed], backend="numpy", test_samples=40))


class StrictNormals(HostNormals):
    def __call__(self, shape: tuple[int, ...]) -> Any:
        return array_api_strict.asarray(super().__call__(shape))


STRICT = Backend(
    "strict",
    array_api_strict,
    lambda seeds, stream, dtype: StrictNormals(generators(seeds, stream), dtype),
    np.asarray,
    lambda f: lambda *x: array_api_strict.asarray(f(*map(np.asarray, x))),
)


@pytest.mark.parametrize("test", ["fields", "vectors"])
@pytest.mark.parametrize(("dtype", "friction"), [("float64", None), ("float32", None), ("float64", 1.5)])
def test_the_program_is_written_in_the_array_api_standard(test: str, dtype: str, friction: float | None) -> None:
    """array-api-strict has nothing beyond the standard, and promotes no dtype; its results are NumPy's.

    Up to rounding, eps sqrt(D) per step, times 45 steps: 5e-14 in float64 and 1.5e-5 in float32.
    """
    mixture, network, sgd = CASES["all options"]
    sgd = replace(sgd, friction=friction)
    runs = [
        simulate(mixture, network, sgd, 30, [0.0, 1.5], [1, 2], backend=b, test=test, test_samples=60, dtype=dtype)
        for b in (STRICT, "numpy")
    ]
    same(*runs, atol=1e-12 if dtype == "float64" else 1e-4)
    assert [json.loads(run.attrs["simulation"])["backend"] for run in runs] == ["strict", "numpy"]


def test_a_number_of_seeds_and_a_single_time() -> None:
    one = simulate(XOR, RELU, SGD, 30, 1.0, 2, backend="numpy", test_samples=4)
    xr.testing.assert_identical(one, simulate(XOR, RELU, SGD, 30, [1.0], [0, 1], backend="numpy", test_samples=4))
    with pytest.raises(TypeError, match=r"simulate has the options state, test, .* got tests"):
        simulate(XOR, RELU, SGD, 30, 1.0, 2, tests=4)  # type: ignore[call-arg]


def test_weights_have_the_overlaps_asked_for() -> None:
    """Also where all weights lie in the span of the means, so that Q - A^T A = 0; eps times sums of D squares."""
    A = np.random.default_rng(0).standard_normal((2, 3))
    singular = OrderParameters(XOR.means @ A, A.T @ A, [1.0, -2.0, 3.0])
    opposite = OrderParameters(np.zeros((4, 3)), np.outer([1, -1, 2], [1, -1, 2]), [0.0, 0.0, 1.0])
    data = simulate(XOR, RELU, SGD, 30, [0.0], [1, 2], backend="numpy", state=[singular, opposite], test_samples=4)
    for seed, state in ((1, singular), (2, opposite)):
        for name in ("M", "Q", "v"):
            np.testing.assert_allclose(data[name].sel(seed=seed).isel(time=0), getattr(state, name), atol=1e-13)


@pytest.mark.parametrize("test", ["fields", "vectors"])
def test_errors_are_those_of_the_mixture(test: str) -> None:
    """One neuron along the mean: lambda ~ N(±r, sigma^2 Q).  linear: error Phi(-r/(sigma sqrt Q)), and pmse =
    (v^2 (r^2 + sigma^2 Q) - 2 v r + 1)/2.  relu, zero mean: output 0 with probability 1/2, error 1/2.

    Each of 20 seeds averages 400 samples; bounds are 5 standard errors from the spread over seeds.
    """
    mixture, seeds = Mixture.two_clusters(1.0, separation=1.5), range(20)
    state = OrderParameters([[0.9], [-0.9]], [[0.5]], [0.7])
    options: dict[str, Any] = {"backend": "numpy", "state": state, "test": test, "test_samples": 400}
    data = simulate(mixture, TwoLayer(1, "linear"), SGD, 25, [0.0], seeds, **options).isel(time=0)
    r, q, v = 0.9, 0.5, 0.7
    for name, exact in {
        "classification_error": float(ndtr(-r / np.sqrt(q))),
        "pmse": (v**2 * (r**2 + q) - 2 * v * r + 1) / 2,
    }.items():
        assert abs(float(data[name].mean()) - exact) < 5 * float(data[name].std(ddof=1)) / np.sqrt(20)
    assert (data.tie_probability == 0).all()

    options["state"] = OrderParameters([[0.0], [0.0]], [[0.5]], [0.7])
    data = simulate(mixture, TwoLayer(1, "relu"), SGD, 25, [0.0], seeds, **options).isel(time=0)
    assert abs(float(data.tie_probability.mean()) - 0.5) < 5 * 0.5 / np.sqrt(20 * 400)
    assert abs(float(data.classification_error.mean()) - 0.5) < 5 * 0.5 / np.sqrt(20 * 400)


def test_diverging_weights_raise_with_the_last_good_time() -> None:
    with pytest.raises(
        DivergenceError, match=r"seeds \[1, 2\] overflowed after t = .* lower lr \(now 1000\)"
    ) as caught:
        simulate(XOR, RELU, OnlineSGD(1000), 30, [50.0], [1, 2], backend="numpy")
    assert caught.value.seeds == [1, 2]
    assert 0 <= caught.value.t < 50


def test_a_run_reports_progress_and_its_origin_and_is_saved(tmp_path: Path) -> None:
    fractions: list[float] = []
    data = simulate(
        XOR, RELU, SGD, 30, [1.0, 2.0], [4, 2], backend="numpy", memory=2400, test_samples=4, progress=fractions.append
    )
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert json.loads(data.attrs["seeds"]) == [4, 2]
    assert Mixture(**json.loads(data.attrs["mixture"])).to_dict() == XOR.to_dict()
    data.to_netcdf(tmp_path / "run.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "run.nc", engine="h5netcdf") as loaded:
        xr.testing.assert_identical(loaded.load(), data)


def run(**changes: Any) -> Callable[[], object]:
    settings: dict[str, Any] = {"D": 30, "t": [1.0], "seeds": [1], "backend": "numpy", "test_samples": 4} | changes
    return lambda: simulate(settings.pop("mixture", XOR), RELU, settings.pop("rule", SGD), **settings)


ONE = OrderParameters(np.zeros((4, 1)), [[1.0]], [1.0])
THREE = OrderParameters(np.zeros((4, 3)), np.eye(3), [1.0] * 3)
BAD: Sequence[tuple[Callable[[], object], str]] = [
    (run(D=4), "D must be an integer >= 5, got 4"),
    (run(D=30.0), r"D must be an integer >= 5, got 30\.0"),
    (run(t=[2.0, 1.0]), r"t must increase, got 1\.0 after 2\.0"),
    (run(t=[1.0, 1.001]), r"t must increase by a step 1/D = 0\.0333333 or more, got 1\.001 after 1\.0"),
    (run(t=[-1.0]), r"t must be >= 0, got -1\.0"),
    (run(t=[]), r"t must have shape \(any,\), got \(0,\)"),
    (run(t=[np.nan]), r"t must be finite, got nan at index \(0,\)"),
    (run(seeds=[]), r"seeds must be one or more integers >= 0, got none"),
    (run(seeds=[1, 1]), r"seeds must be one or more different integers, got \[1, 1\]"),
    (run(seeds=0), "seeds must be an integer >= 1, got 0"),
    (run(seeds="12"), "seeds must be "),
    (run(seeds=[-1]), "seeds must be an integer >= 0, got -1"),
    (run(engine="matrix"), "engine must be 'vectors' or 'overlaps', got 'matrix'"),
    (run(backend="torch"), "backend must be 'auto', 'numpy' or 'cupy', got 'torch'"),
    (run(dtype="float16"), "dtype must be 'float64' or 'float32', got 'float16'"),
    (run(test="theory"), "test must be 'fields' or 'vectors', got 'theory'"),
    (run(test_samples=0), "test_samples must be an integer >= 1, got 0"),
    (run(rule=GradientFlow()), "rule must have steps of finite size, got GradientFlow"),
    (run(memory=0), "memory must be an integer >= 1, got 0"),
    (run(memory=2000), "memory must be at least 2304 bytes for one seed at D = 30, K = 3 .* got room for 2000"),
    (run(memory=2000, engine="overlaps", test_samples=40), "memory must be at least 3840 bytes for one seed at D = 30"),
    (run(checkpoint_every=-1, checkpoint="x"), "checkpoint_every must be finite and >= 0, got -1"),
    (run(state=ONE), "state must have K = 3 neurons like the network, got 1"),
    (run(state=[THREE] * 2), r"state must be one record or one per seed \(1\), got 2"),
    (run(state=THREE, mixture=Mixture.two_clusters(1.0)), r"M must have one row per cluster, 2, got shape \(4, 3\)"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[message[:50] for _, message in BAD])
def test_bad_input_is_refused_by_name_and_value(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_a_missing_gpu_is_said_plainly() -> None:
    if get_backend("auto").name == "cupy":
        pytest.skip("a GPU answers here")
    with pytest.raises(RuntimeError, match="backend='cupy' was asked for, but cannot be used"):
        get_backend("cupy")
