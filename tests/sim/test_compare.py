"""Comparison agrees where theory holds, at the rate it promises, and denies where it does not."""

from typing import Any

import numpy as np
import pytest
import xarray as xr

from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.provenance import provenance
from quenched.numerics.problem.rules import OnlineSGD
from quenched.numerics.two_layer.errors import errors
from quenched.numerics.two_layer.flow import integrate, random_state
from quenched.sim.referee.compare import OBSERVABLES, compare
from quenched.sim.training import simulate

XOR = Mixture.xor(0.5)
RELU = TwoLayer(3, "relu")


@pytest.mark.parametrize(
    ("network", "sgd"),
    [
        (TwoLayer(2, "erf"), OnlineSGD(0.5)),
        (TwoLayer(3, "relu", output_scale=0.7), OnlineSGD(0.4, 0.05, second_lr=0.2, label_noise=0.5)),
    ],
    ids=["erf", "relu, all options"],
)
def test_simulations_agree_with_the_equations_and_not_with_others(network: TwoLayer, sgd: OnlineSGD) -> None:
    D = 400
    state = random_state(XOR, network, D, seed=0)
    runs = simulate(XOR, network, sgd, D, [0.0, 1.0, 4.0], range(24), backend="numpy", state=state, test_samples=2000)
    theory = integrate(XOR, network, sgd, state, runs.time.values)
    found = compare(theory, runs)
    assert found.agrees, found.worst().to_dataframe().to_string()
    assert found.worst().observable.values.tolist() == [name for name in OBSERVABLES if name in theory]

    other = integrate(XOR, network, OnlineSGD(1.15 * sgd.lr), state, runs.time.values)
    with pytest.raises(ValueError, match="theory and simulation must have the same sgd"):
        compare(other, runs)
    assert not compare(other.assign_attrs(theory.attrs), runs).agrees


def synthetic(rng: np.random.Generator, shift: float = 0.0, seeds: int = 8) -> tuple[xr.Dataset, xr.Dataset]:
    """A theory of zeros (M, v) and ones, and runs that scatter about it by 0.1, `shift` standard errors off in pmse."""
    attrs = provenance(mixture=None, network=None, sgd=None, initial_state=None, simulation={"D": 10**9})
    dims: dict[str, tuple[tuple[str, ...], tuple[int, ...]]] = {
        "M": (("cluster", "neuron"), (2, 2)),
        "Q": (("neuron", "neuron_"), (2, 2)),
        "v": (("neuron",), (2,)),
        "pmse": ((), ()),
        "classification_error": ((), ()),
        "tie_probability": ((), ()),
    }
    time = np.arange(3.0)
    exact: dict[str, Any] = {}
    runs: dict[str, Any] = {}
    for name, (names, shape) in dims.items():
        value = np.full((3, *shape), float(name not in ("M", "v")))
        noise = 0.1 * rng.standard_normal((seeds, 3, *shape))
        if name == "pmse":
            noise += shift * 0.1 / np.sqrt(seeds)
        exact[name] = (("time", *names), value)
        runs[name] = (("seed", "time", *names), value + noise)
    exact["classification_error_error"] = ("time", np.zeros(3))
    return (
        xr.Dataset(exact, coords={"time": time}, attrs=attrs),
        xr.Dataset(runs, coords={"time": time, "seed": np.arange(seeds)}, attrs=attrs),
    )


def test_chance_alone_denies_agreement_as_often_as_promised() -> None:
    """36 independent numbers (Q_12 once), significance 0.2: denied with probability 1 - (1 - 0.2/36)^36 = 0.18.

    300 trials: five standard errors are 5 sqrt(0.18 0.82/300) = 0.11.
    """
    rng = np.random.default_rng(0)
    denied = [not compare(*synthetic(rng), significance=0.2).agrees for _ in range(300)]
    assert abs(np.mean(denied) - 0.18) < 0.11


def test_a_shift_beyond_the_threshold_is_found_and_named() -> None:
    rng = np.random.default_rng(1)
    theory, runs = synthetic(rng, shift=40.0)
    found = compare(theory, runs)
    assert not found.agrees
    wrong = found.table.isel(entry=np.flatnonzero(~found.table.agrees.values))
    assert set(wrong.observable.values) == {"pmse"}
    # Student's t with 7 degrees of freedom at 1 - 0.01/(2 36): 6.7 (tables: 5.41 at 0.9995, 7.06 at 0.9999)
    assert 5.41 < found.threshold < 7.06
    # an O(1/D) correction may explain it: the shift is 40 0.1/sqrt(8) = 1.4, in units of 1/D at values of 1
    assert compare(theory, runs, bias=2e9).agrees


def test_what_never_varies_agrees_exactly() -> None:
    theory, runs = synthetic(np.random.default_rng(2))
    runs["M"] = runs["M"] * 0
    runs["Q"] = runs["Q"] * 0 + 1
    found = compare(theory, runs)
    for name in ("M", "Q"):
        assert (found.table.z.values[found.table.observable.values == name] == 0).all()


def test_bad_input_is_refused_by_name_and_value() -> None:
    theory, runs = synthetic(np.random.default_rng(3))
    for call, message in [
        (lambda: compare(theory, runs.isel(seed=[0])), "simulation must hold two seeds or more, got 1"),
        (lambda: compare(theory.isel(time=[0]), runs), "theory must be integrated to the times of the simulation"),
        (lambda: compare(theory, runs, significance=2.0), r"significance must lie between 0 and 1, got 2\.0"),
        (lambda: compare(theory, runs, bias=-1.0), r"bias must be finite and >= 0, got -1\.0"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize("engine", ["vectors", "overlaps"])
def test_the_mean_loss_is_recorded_by_theory_and_engines(engine: str) -> None:
    """At t = 0 the state is exact: the mean over 40 seeds of the losses of 10^4 samples each, within 5 standard errors
    and the error of the theory; a wrong loss, the pmse, is far away.  Later within the limits of `compare`.
    """
    D, logistic = 400, OnlineSGD(0.5, loss="logistic")

    def at_start(runs: xr.Dataset, exact: float, exact_error: float, other: float) -> None:
        loss = runs.loss.isel(time=0)
        error = float(loss.std(ddof=1)) / np.sqrt(40) + exact_error
        assert abs(float(loss.mean()) - exact) < 5 * error
        assert abs(other - exact) > 50 * error

    neuron = TwoLayer(1, "erf")
    state = random_state(XOR, neuron, D, 0)
    theory = integrate(XOR, neuron, logistic, state, [0.0, 1.0])
    runs = simulate(XOR, neuron, logistic, D, [0.0, 1.0], 40, engine, "numpy", state=state)
    at_start(runs, float(theory.loss[0]), float(theory.loss_error[0]), float(theory.pmse[0]))
    found = compare(theory, runs)
    assert found.agrees
    assert "loss" in found.table.observable
    state = random_state(XOR, RELU, D, 0)
    exact = errors(XOR, RELU, state, loss="logistic", quantities="pmse")
    runs = simulate(XOR, RELU, logistic, D, 0.0, 40, engine, "numpy", state=state)
    assert exact.loss is not None
    assert exact.loss_error is not None
    assert exact.loss_error < 2e-5
    at_start(runs, exact.loss, exact.loss_error, exact.pmse)
