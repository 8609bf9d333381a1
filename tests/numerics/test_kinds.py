"""Wrong kinds of argument, for every argument of every public function: a ValueError that names the argument."""

import inspect
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest

import quenched.numerics as numerics
from quenched.numerics import (
    Densities,
    GradientFlow,
    Mixture,
    OnlineSGD,
    OrderParameters,
    PowerLaw,
    Specification,
    Spectrum,
    Teacher,
    TwoLayer,
    Velocity,
    integrate,
)

XOR, NETWORK, RULE = Mixture.xor(0.5), TwoLayer(1, "erf"), GradientFlow(weight_decay=0.1)
STATE = OrderParameters(np.zeros((4, 1)), [[1.0]], [0.5])
X = np.array([[2.0, 1.0], [2.0, -1.0], [-2.0, 1.0], [-2.0, -1.0]])


@cache
def run() -> Any:
    """A dataset: made when it is needed, not when tests are collected, which each worker does."""
    return integrate(XOR, NETWORK, RULE, STATE, [0.0, 1.0])


# What people pass by mistake.
WRONG: dict[str, Any] = {
    "none": None,
    "text": "0.4",
    "no text": "",
    "a text with nan": "nan",
    "bytes": b"1",
    "true": True,
    "a boolean of numpy": np.bool_(True),
    "complex": 1 + 1j,
    "nan": float("nan"),
    "infinity": np.inf,
    "negative": -0.5,
    "a huge integer": 10**400,
    "an object": object(),
    "a class": Mixture,
    "a function": len,
    "a mapping": {},
    "a mapping of something": {"means": 1, "else": 2},
    "a set": {1},
    "an empty list": [],
    "texts": ["a"],
    "numbers as texts": ["1", "2"],
    "booleans": [True, False],
    "imaginary parts": [1j, 2.0],
    "lists of different length": [[1.0], [2.0, 3.0]],
    "a record of another kind": Teacher([[1.0]], [1.0], "erf"),
    "masked entries": np.ma.array([1.0, 2.0], mask=[True, False]),
    "masked": np.ma.masked,
    "an array of texts": np.array(["1", "2"]),
    "a date": np.datetime64("2020-01-01"),
    "an ellipsis": ...,
}
# ... and where it is none.
FITS = {
    "record": set(),
    "rule": set(),
    "records": {"an empty list"},
    "number": set(),
    "real": {"negative"},
    "rate": {"text"},  # an expression in t
    "parts": {"an empty list", "numbers as texts", "a huge integer"},  # of neurons, which are compared with K later
    "integer": set(),
    "integers": {"a set"},
    "array": set(),
    "numbers": {"numbers as texts", "an array of texts"},  # which are exact where floats are not
    "choice": set(),
    "activation": {"text", "a text with nan"},  # texts: what they may say is tests/symbolic/test_parse.py's
    "flag": {"true", "a boolean of numpy"},
    "function": {"none", "a class", "a function"},
    "quantities": set(),
    "dataset": set(),
    "learners": {"a mapping"},
    "name": {"text", "no text", "a text with nan"},  # of an engine: which there are is known to sim
    "attributes": {"a mapping", "a mapping of something"},
}

Call = tuple[Callable[..., Any], dict[str, Any], dict[str, str]]
PROBLEM = {"mixture": "record", "network": "record"}
SPECTRUM = Spectrum([0.5, 1.5])
LAW_OF_POWERS = PowerLaw(1.0, 0.75, inputs=8, features=4)
DENSITIES = Densities([[[0.0], [0.0]]], [[[1.0]]], [0.5])
SHAPE = {"sigma": "number", "separation": "number", "scaling": "real"}
LAW = {"low": "number", "high": "number", "nodes": "integer", "quantiles": "flag"}
RATES = {
    **dict.fromkeys(("lr", "weight_decay", "second_lr", "second_weight_decay", "temperature", "friction"), "rate"),
    "frozen": "parts",
    "sphere": "flag",
    "label_noise": "number",
    "loss": "activation",
    "batch": "integer",
    **dict.fromkeys(("bias_lr", "bias_decay", "intercept_lr", "intercept_decay"), "number"),
}
MIXTURE = {
    "means": "array",
    "labels": "array",
    "weights": "array",
    "sigma": "number",
    "scaling": "real",
    "spectrum": "record",
    "teacher": "record",
    "classes": "array",
}
FROM_DATA = {
    "X": "array",
    "cluster": "array",
    "label": "array",
    "covariance": "choice",
    "shrinkage": "choice",
    "project": "flag",
    "centre": "flag",
}
DATA = {"X": X, "cluster": [0, 0, 1, 1], "label": [1, 1, -1, -1], "covariance": "shared", "shrinkage": 0.5}
FOLLOW = {"seed": "integer", "t": "number", "points": "integer"}
# function: (the function, arguments that it takes, the kind of each argument)
CALLS: dict[str, Call] = {
    "Mixture": (Mixture, {"means": [[1.0], [-1.0]], "labels": [1, -1]}, MIXTURE),
    "Mixture.xor": (Mixture.xor, {"sigma": 0.5}, SHAPE),
    "Mixture.two_clusters": (Mixture.two_clusters, {"sigma": 0.5}, SHAPE),
    "Mixture.three_classes": (Mixture.three_classes, {"sigma": 0.5}, SHAPE),
    "Mixture.three_clusters": (Mixture.three_clusters, {"sigma": 0.5}, SHAPE),
    "Mixture.ring": (Mixture.ring, {"m": 3, "sigma": 0.5}, {"m": "integer", **SHAPE}),
    "Mixture.parity": (Mixture.parity, {"sigma": 0.5}, {"sigma": "number", "lengths": "array", "scaling": "real"}),
    "Mixture.from_data": (Mixture.from_data, DATA, FROM_DATA),
    "Mixture.at": (XOR.at, {"D": 9}, {"D": "number"}),
    "Mixture.finite": (XOR.finite, {"D": 9}, {"D": "number"}),
    "Mixture.references_at": (XOR.references_at, {"D": 9}, {"D": "number"}),
    "LearningRule": (OnlineSGD, {"lr": 0.1}, RATES),  # the base of all rules
    "TwoLayer": (
        TwoLayer,
        {"K": 1, "activation": "erf"},
        {"K": "integer", "activation": "activation", "output_scale": "number"},
    ),
    "Teacher": (
        Teacher,
        {"weights": [[1.0]], "v": [1.0], "activation": "erf"},
        {"weights": "array", "v": "array", "activation": "activation", "sign": "flag", "field_noise": "number"},
    ),
    "OnlineSGD": (OnlineSGD, {"lr": 0.1}, RATES),
    "GradientFlow": (GradientFlow, {}, RATES),
    "Spectrum": (
        Spectrum,
        {"eigenvalues": [0.5, 1.5]},
        {
            "eigenvalues": "array",
            "weights": "array",
            "alignment": "array",
            "shrinkage": "number",
            "discarded": "number",
            "harmonic_mean": "number",
        },
    ),
    "Spectrum.aligned": (SPECTRUM.aligned, {"p": 1}, {"p": "integer"}),
    "Spectrum.oriented": (SPECTRUM.oriented, {"p": 1, "seed": 0}, {"p": "integer", "seed": "integer"}),
    "Spectrum.multiplicities": (SPECTRUM.multiplicities, {"D": 8}, {"D": "integer"}),
    "Spectrum.marchenko_pastur": (
        Spectrum.marchenko_pastur,
        {"ratio": 0.5},
        {"ratio": "number", "nodes": "integer", "quantiles": "flag"},
    ),
    "Spectrum.two_level": (
        Spectrum.two_level,
        {"low": 0.5, "high": 1.5, "fraction": 0.5},
        {"low": "number", "high": "number", "fraction": "number"},
    ),
    "Spectrum.uniform": (Spectrum.uniform, {"low": 0.5, "high": 1.5}, LAW),
    "Spectrum.power_law": (
        Spectrum.power_law,
        {"exponent": 1.5, "low": 0.5, "high": 1.5},
        {"exponent": "real", **LAW},
    ),
    "OrderParameters": (
        OrderParameters,
        {"M": [[1.0]], "Q": [[1.0]], "v": [1.0]},
        {"M": "array", "Q": "array", "v": "array", "b": "array", "c": "real", "velocity": "record"},
    ),
    "OrderParameters.projections": (STATE.projections, {"mixture": XOR}, {"mixture": "record", "D": "number"}),
    "OrderParameters.check": (STATE.check, {"mixture": XOR}, {"mixture": "record", "D": "number"}),
    "Densities": (
        Densities,
        {"A": [[[1.0]]], "Q": [[[1.0]]], "v": [1.0]},
        {"A": "array", "Q": "array", "v": "array", "b": "array", "c": "real", "velocity": "record"},
    ),
    "Velocity": (
        Velocity,
        {"M": [[1.0]], "C": [[1.0]], "U": [[1.0]], "v": [1.0]},
        dict.fromkeys(("M", "C", "U", "v"), "array"),
    ),
    "Densities.spread": (Densities.spread, {"mixture": XOR, "state": STATE}, {"mixture": "record", "state": "record"}),
    "Densities.overlaps": (DENSITIES.overlaps, {"mixture": XOR}, {"mixture": "record"}),
    "Densities.check": (DENSITIES.check, {"mixture": XOR}, {"mixture": "record"}),
    "drift": (
        numerics.drift,
        {"mixture": XOR, "network": NETWORK, "rule": RULE, "state": STATE},
        {**PROBLEM, "rule": "rule", "state": "record", "tolerance": "number", "seed": "integer", "t": "number"},
    ),
    "errors": (
        numerics.errors,
        {"mixture": XOR, "network": NETWORK, "state": STATE},
        {
            **PROBLEM,
            "state": "record",
            "tolerance": "number",
            "seed": "integer",
            "points": "integer",
            "digits": "integer",
            "quantities": "quantities",
            "loss": "activation",
        },
    ),
    "errors_many": (
        numerics.errors_many,
        {"mixture": XOR, "network": NETWORK, "states": [STATE]},
        {
            **PROBLEM,
            "states": "records",
            "tolerance": "number",
            "seed": "integer",
            "points": "integer",
            "quantities": "quantities",
            "loss": "activation",
        },
    ),
    "average": (
        numerics.average,
        {"integrand": "x*y", "mean": [0, 0], "covariance": [1, 0, 1]},
        {"integrand": "activation", "mean": "numbers", "covariance": "array", "digits": "integer", "seed": "integer"},
    ),
    "closed_form": (
        numerics.closed_form,
        {"integrand": "x*y", "mean": [0, 0], "covariance": [1, 0, 1]},
        {"integrand": "activation", "mean": "numbers", "covariance": "array"},
    ),
    "equations": (
        numerics.equations,
        {"mixture": XOR, "network": NETWORK, "rule": RULE},
        {**PROBLEM, "rule": "rule", "closed": "flag"},
    ),
    "fluctuations": (
        numerics.fluctuations,
        {"mixture": XOR, "network": NETWORK, "rule": OnlineSGD(0.1), "state": STATE, "t": [0.1]},
        {
            **PROBLEM,
            "rule": "rule",
            "state": "record",
            "t": "array",
            "rtol": "number",
            "seed": "integer",
        },
    ),
    "exit_time": (
        numerics.exit_time,
        {
            "mixture": Mixture.three_clusters(0.2),
            "network": TwoLayer(1, "relu"),
            "rule": OnlineSGD(0.5, second_lr=0.0),
            "start": OrderParameters(np.zeros((3, 1)), [[25 / 99]], [-1.0]),
            "D": 1000,
            "threshold": 0.4,
        },
        {
            **PROBLEM,
            "rule": "rule",
            "start": "record",
            "D": "integer",
            "threshold": "real",
            "anywhere": "flag",
            "samples": "integer",
            "seed": "integer",
        },
    ),
    "Threshold": (numerics.Threshold, {"level": 0.4}, {"level": "real", "observable": "function"}),
    "pointing_anywhere": (
        numerics.pointing_anywhere,
        {"mixture": XOR, "state": STATE, "D": 100, "seed": 0},
        {"mixture": "record", "state": "record", "D": "integer", "seed": "integer"},
    ),
    "integrate": (
        numerics.integrate,
        {"mixture": XOR, "network": NETWORK, "rule": RULE, "state": STATE, "t": [1.0]},
        {
            **PROBLEM,
            "rule": "rule",
            "state": "record",
            "t": "array",
            "rtol": "number",
            "atol": "number",
            "method": "choice",
            "quantities": "quantities",
            "progress": "function",
        },
    ),
    "random_state": (
        numerics.random_state,
        {"mixture": XOR, "network": NETWORK, "D": 100, "seed": 0},
        {**PROBLEM, "D": "integer", "seed": "integer", "weight_scale": "number", "readout_scale": "number"},
    ),
    "fixed_point": (
        numerics.fixed_point,
        {"mixture": XOR, "network": NETWORK, "rule": RULE, "guess": STATE},
        {**PROBLEM, "rule": "rule", "guess": "record", "D": "integer", **FOLLOW},
    ),
    "fixed_points": (
        numerics.fixed_points,
        {"mixture": XOR, "network": NETWORK, "rule": RULE, "seeds": 1},
        {
            **PROBLEM,
            "rule": "rule",
            "seeds": "integers",
            "start": "function",
            "D": "integer",
            "t": "number",
            "gains": "array",
            "points": "integer",
            "mapped": "function",
        },
    ),
    "curve": (
        numerics.curve,
        {
            "mixture": XOR,
            "network": NETWORK,
            "rule": RULE,
            "parameter": "sigma",
            "values": [0.5, 0.6],
            "guess": STATE,
        },
        {
            **PROBLEM,
            "rule": "rule",
            "parameter": "choice",
            "values": "array",
            "guess": "record",
            **FOLLOW,
            "progress": "function",
        },
    ),
    "bayes_error": (numerics.bayes_error, {"mixture": XOR, "alpha": 2.0}, {"mixture": "record", "alpha": "number"}),
    "state_evolution": (
        numerics.state_evolution,
        {"mixture": XOR, "alpha": 2.0, "iterations": 1},
        {"mixture": "record", "alpha": "number", "iterations": "integer", "overlap": "number"},
    ),
    "erm_error": (
        numerics.erm_error,
        {"mixture": XOR, "loss": "square", "alpha": 2.0, "ridge": 1.0},
        {"mixture": "record", "loss": "activation", "alpha": "number", "ridge": "number", "intercept": "flag"},
    ),
    "oracle_error": (
        numerics.oracle_error,
        {"mixture": XOR},
        {"mixture": "record", "tolerance": "number", "D": "integer", "digits": "integer"},
    ),
    "random_features_error": (
        numerics.random_features_error,
        {"mixture": XOR, "activation": "relu", "gamma": 2.0},
        {
            "mixture": "record",
            "activation": "activation",
            "gamma": "number",
            "ridge": "number",
            "D": "number",
            "features": "choice",
            "intercept": "flag",
            "tolerance": "number",
        },
    ),
    "kernel_error": (
        numerics.kernel_error,
        {"mixture": XOR, "kernel": "rbf", "alpha": 2.0},
        {
            "mixture": "record",
            "kernel": "choice",
            "alpha": "number",
            "ridge": "number",
            "samples": "choice",
            "D": "number",
            "intercept": "flag",
            "stratified": "flag",
        },
    ),
    "random_features_erm_error": (
        numerics.random_features_erm_error,
        {"mixture": XOR, "activation": "relu", "loss": "square", "alpha": 2.0, "gamma": 2.0, "ridge": 1.0},
        {
            "mixture": "record",
            "activation": "activation",
            "loss": "activation",
            "alpha": "number",
            "gamma": "number",
            "ridge": "number",
            "intercept": "flag",
            "label_noise": "number",
        },
    ),
    "kernel_erm_error": (
        numerics.kernel_erm_error,
        {"mixture": XOR, "kernel": "rbf", "loss": "square", "alpha": 2.0, "ridge": 1.0},
        {
            "mixture": "record",
            "kernel": "choice",
            "loss": "activation",
            "alpha": "number",
            "ridge": "number",
            "intercept": "flag",
        },
    ),
    "PowerLaw": (
        PowerLaw,
        {"a": 1.0, "b": 0.5, "inputs": 40},
        {
            **dict.fromkeys(("a", "b", "rate", "label_noise"), "number"),
            **dict.fromkeys(("inputs", "features", "batch"), "integer"),
        },
    ),
    "power_law_problem": (numerics.power_law_problem, {"law": LAW_OF_POWERS}, {"law": "record", "seed": "integer"}),
    "power_law_risk": (
        numerics.power_law_risk,
        {"law": LAW_OF_POWERS, "steps": [1.0]},
        {"law": "record", "steps": "array"},
    ),
    "power_law_floor": (numerics.power_law_floor, {"law": LAW_OF_POWERS}, {"law": "record"}),
    "linear_mean": (
        numerics.linear_mean,
        {**numerics.power_law_problem(LAW_OF_POWERS)._asdict(), "t": [1.0], "D": 4},
        {**PROBLEM, "rule": "rule", "state": "record", "t": "array", "D": "integer"},
    ),
    "fit_exponent": (
        numerics.fit_exponent,
        {"x": np.geomspace(1, 10, 7), "y": np.ones(7)},
        {"x": "array", "y": "array", "error": "array", "window": "array"},
    ),
    "scaling_exponents": (numerics.scaling_exponents, {"a": 1.0, "b": 0.3}, {"a": "number", "b": "number"}),
    "compute_frontier": (
        numerics.compute_frontier,
        {"law": LAW_OF_POWERS, "features": range(2, 9), "compute": [10.0]},
        {"law": "record", "features": "integers", "compute": "array"},
    ),
    "Specification": (
        Specification,
        {"mixture": XOR},
        {
            **PROBLEM,
            "rule": "rule",
            "D": "integer",
            "t": "array",
            "initial": "integer",
            "readout_scale": "number",
            "state": "record",
            "seeds": "integers",
            "engine": "name",
            "test_samples": "integer",
            "sigma": "number",
            "learner": "learners",
            "power_law": "record",
            "draw": "integer",
        },
    ),
    "problem_of": (numerics.problem_of, {"dataset": run}, {"dataset": "attributes"}),
    "records_of": (numerics.records_of, {"dataset": run}, {"dataset": "attributes"}),
    "state_at": (numerics.state_at, {"dataset": run, "t": 1.0}, {"dataset": "dataset", "t": "number"}),
}


def parameters(name: str) -> list[str]:
    return [p for p in inspect.signature(CALLS[name][0]).parameters if p != "self"]


def place(name: str, argument: str) -> str:
    """The rule is called sgd in functions that have not been renamed."""
    return "sgd" if argument == "rule" and "sgd" in parameters(name) else argument


def given(name: str) -> dict[str, Any]:
    """Arguments that the function takes."""
    found = {place(name, argument): value for argument, value in CALLS[name][1].items()}
    return {argument: run() if value is run else value for argument, value in found.items()}


def wrong(name: str) -> Iterator[tuple[str, str]]:
    """Each argument of the function with each label of what is not of its kind."""
    signature = inspect.signature(CALLS[name][0]).parameters
    for argument, kind in CALLS[name][2].items():
        if place(name, argument) not in signature:
            continue  # a field that a rule has not got
        optional = signature[place(name, argument)].default is None
        for label in WRONG:
            if label not in FITS[kind] and not (optional and label == "none"):
                yield place(name, argument), label


def test_the_table_knows_every_argument_of_every_public_function() -> None:
    public = set(numerics.__all__)
    assert public <= {name.partition(".")[0] for name in CALLS}
    for name, (_, given, kinds) in CALLS.items():
        assert set(parameters(name)) <= {place(name, argument) for argument in kinds}, name
        assert {place(name, argument) for argument in given} <= set(parameters(name)), name
    internal = ("to_dict", "arrays", "from_dict", "derivative", "check_labelled", "check_isotropic", "check_signs")
    internal += ("check_charged", "of_vectors")
    for kind in (Mixture, Spectrum, Densities, OrderParameters):
        for name, member in inspect.getmembers(kind, callable):
            if not name.startswith("_") and name not in internal:
                assert f"{kind.__name__}.{name}" in CALLS, f"{kind.__name__}.{name}: {member}"


@pytest.mark.parametrize("name", CALLS)
def test_the_right_kinds_are_taken(name: str) -> None:
    CALLS[name][0](**given(name))


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_kind_is_a_value_error_that_names_the_argument(name: str) -> None:
    """One test a function lists all that fail: there are ten thousand."""
    call, right, failed = CALLS[name][0], given(name), []
    for argument, label in wrong(name):
        try:
            call(**right | {argument: WRONG[label]})
        except Exception as error:  # noqa: BLE001 (listed, whatever it is)
            if not isinstance(error, ValueError) or not re.search(rf"\b{argument}\b", str(error)):
                failed.append(f"{argument} = {label}: {error!r}")
        else:
            failed.append(f"{argument} = {label}: taken")
    assert not failed, "\n".join(failed)


def test_one_number_is_taken_where_a_sequence_is_meant() -> None:
    one, many = (numerics.fixed_points(XOR, NETWORK, RULE, seeds) for seeds in (1, [0]))
    assert one.identical(many.assign_attrs(one.attrs))
    with pytest.raises(ValueError, match="seeds must be one or more different integers"):
        numerics.fixed_points(XOR, NETWORK, RULE, [1, 1])
    assert integrate(XOR, NETWORK, RULE, STATE, 1.0).time.values.tolist() == [1.0]


def test_tolerances_that_float64_cannot_hold_are_refused() -> None:
    """The steppers would take 2.2e-14 instead, in silence."""
    with pytest.raises(ValueError, match=r"rtol must be >= 2\.22045e-14"):
        integrate(XOR, NETWORK, RULE, STATE, 1.0, rtol=1e-15)
    with pytest.raises(ValueError, match=r"rtol must be >= 2\.22045e-14"):
        numerics.fluctuations(XOR, NETWORK, OnlineSGD(0.1), STATE, [1.0], rtol=1e-15)
