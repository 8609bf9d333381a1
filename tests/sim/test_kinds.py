"""Wrong kinds of argument of the public functions of sim: a ValueError that names the argument."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quenched.numerics import Mixture, OnlineSGD, TwoLayer, integrate, random_state
from quenched.sim import (
    Sweep,
    compare,
    plot,
    read_problem,
    read_spec,
    simulate,
    simulate_amp,
    simulate_features,
    simulate_kernel,
    simulate_lazy,
    sweep,
)

XOR, NETWORK, RULE = Mixture.xor(0.5), TwoLayer(2, "erf"), OnlineSGD(0.2)
STATE = random_state(XOR, NETWORK, 50, 1)
SPEC = Sweep([XOR], [NETWORK], [RULE], D=[50], seeds=[0], t=[1.0])


@cache
def results() -> dict[str, Any]:
    """What `compare` takes: made when it is needed, not when tests are collected, which each worker does."""
    return {
        "theory": integrate(XOR, NETWORK, RULE, STATE, [0.0, 1.0]),
        "simulation": simulate(XOR, NETWORK, RULE, 50, [0.0, 1.0], 2, "overlaps", state=STATE),
    }


EVER = [None, "0.4", "", b"1", True, np.bool_(True), 1 + 1j, float("nan"), object(), Mixture, {}, [1j], ["a"], ...]
MORE = {
    "record": [0.2, 1, len, [1.0]],
    "count": [0, -1, 1.5, [1, 2], 10**400],
    "seeds": [0, -1, 1.5, [], [1, 1], [0, -1], {1: 2}, 10**12, range(10**12)],
    "number": [-0.5, np.inf, [0.1, 0.2]],
    "times": [-1.0, [], [1.0, 0.0], [[0.0, 1.0]], 1e300],
    "choice": [1, len],
    "activation": [1, len],
    "path": [1, 0.5, ["a"], len],
    "progress": ["bar", 1, [], 0.5],
    "state": [3, 0.1, NETWORK, [STATE, None], [STATE]],
    "executor": [1, "local", True],
    "flag": [0, 1, "yes", 0.5],
}
FITS: dict[str, Callable[[Any], bool]] = {
    "path": lambda value: isinstance(value, str),  # what it names is looked for later
    "progress": lambda value: value is None or callable(value),
    "state": lambda value: value is None,
    "executor": lambda value: value is None,
    "activation": lambda value: value == "0.4",
    "flag": lambda value: isinstance(value, (bool, np.bool_)),
}
EXPERIMENT = {"mixture": XOR, "D": 20, "seeds": 1}
KINDS = {"mixture": "record", "D": "count", "seeds": "seeds", "ridge": "number", "progress": "progress"}
CALLS: dict[Callable[..., Any], tuple[dict[str, Any], dict[str, str]]] = {
    simulate: (
        {"mixture": XOR, "network": NETWORK, "rule": RULE, "D": 50, "t": [0.0, 1.0], "seeds": 2},
        {"mixture": "record", "network": "record", "rule": "record", "D": "count", "t": "times", "seeds": "seeds"}
        | {"engine": "choice", "state": "state", "test": "choice", "test_samples": "count", "progress": "progress"}
        | {"checkpoint_every": "number"},
    ),
    simulate_features: (EXPERIMENT | {"activation": "erf", "P": 5}, KINDS | {"activation": "activation", "P": "count"}),
    simulate_kernel: (
        EXPERIMENT | {"kernel": "ntk:erf", "samples": 5},
        KINDS | {"samples": "count", "intercept": "flag", "stratified": "flag"},
    ),
    simulate_lazy: (
        EXPERIMENT | {"network": TwoLayer(2, "erf", 1.0), "samples": 5},
        KINDS | {"network": "record", "samples": "count", "tolerance": "number"},
    ),
    simulate_amp: (
        EXPERIMENT | {"alpha": 1.0, "iterations": 1},
        {"mixture": "record", "D": "count", "seeds": "seeds", "progress": "progress", "alpha": "number"}
        | {"iterations": "count", "start": "choice", "overlap": "number", "test_samples": "count"},
    ),
    compare: (
        {},  # and `results`
        {"theory": "record", "simulation": "record", "significance": "number", "bias": "number"},
    ),
    sweep: ({"spec": SPEC, "store": "made.zarr"}, {"spec": "record", "executor": "executor", "progress": "progress"}),
    read_problem: ({}, {"path": "path"}),
    read_spec: ({}, {"path": "path"}),
}


@pytest.mark.parametrize(
    ("function", "name"),
    [(f, name) for f, (_, kinds) in CALLS.items() for name in kinds],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_wrong_kinds_are_refused_by_name(
    function: Callable[..., Any], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given, kinds = CALLS[function]
    if function is compare:
        given = results()
    kind = kinds[name]
    for wrong in [*EVER, *MORE[kind]]:
        if kind in FITS and FITS[kind](wrong):
            continue
        with pytest.raises(ValueError, match=name):
            function(**given | {name: wrong})
    assert not any(tmp_path.iterdir())


def test_checkpoints_and_stores_are_paths(tmp_path: Path) -> None:
    given, _ = CALLS[simulate]
    for wrong in (1, True, ["a"], b"x"):
        with pytest.raises(ValueError, match="checkpoint must be a path"):
            simulate(**given, checkpoint=wrong)
        with pytest.raises(ValueError, match="store must be a path"):
            sweep(SPEC, wrong)  # type: ignore[arg-type]


def test_results_of_another_function_are_refused() -> None:
    run, runs = results().values()
    for theory, simulation in ((run, run), (runs, runs), (runs, run)):
        with pytest.raises(ValueError, match="must be a result of"):
            compare(theory, simulation)
    for wrong in (None, "a", 3, {}, [run]):
        with pytest.raises(ValueError, match="results must be"):
            plot(wrong)  # type: ignore[arg-type]
