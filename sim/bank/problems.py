"""The package's own way to each result of the bank: from the parameters of a record to a value and its error.

A mixture is written as `{"kind": NAME, "sigma": .., ..}` with the arguments of `Mixture.NAME`, or by its means, labels,
weights; numbers are chosen with few binary digits, so that decimal and binary text are the same number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quenched.numerics import (
    GradientFlow,
    LearningRule,
    Mixture,
    OnlineSGD,
    OrderParameters,
    PowerLaw,
    Spectrum,
    Teacher,
    TwoLayer,
    average,
    bayes_error,
    drift,
    erm_error,
    errors,
    exit_time,
    fixed_point,
    fluctuations,
    integrate,
    kernel_erm_error,
    kernel_error,
    oracle_error,
    power_law_floor,
    power_law_risk,
    random_features_erm_error,
    random_features_error,
    scaling_exponents,
    state_evolution,
)
from quenched.numerics.bayes import critical_alpha, first_order_transition
from quenched.numerics.erm import separability_threshold

__all__ = ["COMPUTED", "mixture"]

Array = NDArray[np.float64]
Number = Any
Parameters = dict[str, Any]

_ROUNDING = 1e-13  # relative, of sums of averages that are right to 1e-14


def mixture(spec: Parameters) -> Mixture:
    """The mixture that a record describes."""
    spec = dict(spec)
    if "ratio" in spec:
        spec["spectrum"] = Spectrum.marchenko_pastur(spec.pop("ratio"))
    kind = spec.pop("kind", None)
    return Mixture(**spec) if kind is None else getattr(Mixture, kind)(**spec)


def _state(spec: Parameters) -> OrderParameters:
    M, Q, v = (np.array(spec[name], float) for name in ("M", "Q", "v"))
    return OrderParameters(M=M, Q=Q, v=v)


def _rule(p: Parameters) -> LearningRule:
    kind = GradientFlow if p.get("flow") else OnlineSGD
    options = {name: p[name] for name in ("second_lr", "weight_decay") if name in p}
    return kind(p.get("lr", 1.0), **options)


def _two_layer(p: Parameters) -> tuple[Mixture, TwoLayer]:
    given = dict(p.get("mixture") or {name: p[name] for name in ("means", "labels", "weights", "sigma") if name in p})
    return mixture(given), TwoLayer(len(p["state"]["v"]), p["activation"])


def _refined(value: Callable[[float], float], coarse: float, fine: float) -> tuple[Number, Number]:
    """The value at the finer of two tolerances, and the distance of the other, at least rounding."""
    found = value(fine)
    return found, max(abs(found - value(coarse)), _ROUNDING * abs(found))


def _average(p: Parameters) -> tuple[Number, Number]:
    found = average(p["integrand"], p["mean"], p["covariance"], digits=30)
    return found.value, found.error


def _oracle(p: Parameters) -> tuple[Number, Number]:
    found = oracle_error(mixture(p["mixture"]), D=p.get("D"), tolerance=1e-13, digits=p.get("digits"))
    return found.value, found.error


def _drift(p: Parameters) -> tuple[Number, Number]:
    problem, network = _two_layer(p)
    name, *place = p["entry"]
    value = float(getattr(drift(problem, network, _rule(p), _state(p["state"])), name)[tuple(place)])
    return value, _ROUNDING * max(1.0, abs(value))


def _errors(p: Parameters) -> tuple[Number, Number]:
    found = errors(*_two_layer(p), _state(p["state"]), tolerance=1e-11)
    return getattr(found, p["quantity"]), getattr(found, f"{p['quantity']}_error")


def _plateau(p: Parameters) -> tuple[Number, Number]:
    K = p["K"]
    learner = Mixture(np.zeros((1, K)), teacher=Teacher(np.eye(K), np.ones(K), "erf"))
    q = 1 / (2 * K - 1)
    M = np.vstack([np.zeros((1, K)), np.full((K, K), (q / K) ** 0.5)])
    state = OrderParameters(M=M, Q=np.full((K, K), q), v=np.ones(K))
    found = errors(learner, TwoLayer(K, "erf"), state, quantities=("pmse",))
    return found.pmse, found.pmse_error


def _fixed_point(p: Parameters) -> tuple[Number, Number]:
    problem, network = _two_layer(p)
    found = fixed_point(problem, network, _rule(p), _state(p["state"]))
    return found.pmse, max(found.pmse_error, 1e-11)


def _integrate(p: Parameters) -> tuple[Number, Number]:
    problem, network = _two_layer(p)

    def pmse(rtol: float) -> float:
        found = integrate(problem, network, _rule(p), _state(p["state"]), [0.0, p["t"]], rtol=rtol, atol=rtol / 10)
        return float(found.pmse[-1])

    return _refined(pmse, 1e-10, 1e-11)


def _fluctuations(p: Parameters) -> tuple[Number, Number]:
    problem, network = _two_layer(p)
    rule = _rule(p)
    if not isinstance(rule, OnlineSGD):
        raise ValueError("fluctuations are of online SGD: leave out flow")
    found = fluctuations(problem, network, rule, _state(p["state"]), [0.0, p["t"]], rtol=1e-9)
    return float(found.covariance[-1, 0, 0]), float(found.covariance_error.max())


def _exit_time(p: Parameters) -> tuple[Number, Number]:
    problem, network = _two_layer(p)
    rule = OnlineSGD(p["lr"], second_lr=p["second_lr"])
    found = exit_time(problem, network, rule, _state(p["state"]), p["D"], threshold=p["level"])
    return found.mean, found.mean_error


def _largest_rate(p: Parameters) -> tuple[Number, Number]:
    """The rate at which the largest eigenvalue of the linearised drift at the teacher is 0, by differences of `drift`.

    In R and S = Q - R^T R >= 0, which is 0 at the teacher: S moves along e_i e_i^T and (e_i + e_j)(e_i + e_j)^T,
    inward.
    """
    from scipy.optimize import brentq

    K = p["K"]
    learner = Mixture(np.zeros((1, K)), teacher=Teacher(np.eye(K), np.ones(K), "erf"))
    network = TwoLayer(K, "erf")
    pairs = [(i, j) for i in range(K) for j in range(i, K)]

    def rates(R: Array, S: Array, eta: float) -> Array:
        state = OrderParameters(M=np.vstack([np.zeros((1, K)), R]), Q=R.T @ R + S, v=np.ones(K))
        found: Any = drift(learner, network, OnlineSGD(eta, second_lr=0.0), state)
        dR = found.M[1:]
        dS = found.Q - R.T @ dR - dR.T @ R
        along = {(i, j): dS[i, j] for i, j in pairs if i != j}
        along |= {(i, i): dS[i, i] - sum(x for pair, x in along.items() if i in pair) for i in range(K)}
        return np.concatenate([dR.ravel(), [along[pair] for pair in pairs]])

    def largest(eta: float, h: float) -> float:
        one, none, columns = np.eye(K), np.zeros((K, K)), []
        for unit in np.eye(K * K).reshape(-1, K, K):
            near, far = (rates(one + s * unit, none, eta) - rates(one - s * unit, none, eta) for s in (h, 2 * h))
            columns.append((8 * near - far) / (12 * h))
        for i, j in pairs:
            axis = one[i] + (one[j] if j != i else 0)
            first, second, third = (rates(one, k * h * np.outer(axis, axis), eta) for k in (1, 2, 3))
            columns.append((18 * first - 9 * second + 2 * third) / (6 * h))
        return float(np.linalg.eigvals(np.array(columns).T).real.max())

    def root(h: float) -> float:
        return float(brentq(largest, 0.99 * p["guess"], 1.01 * p["guess"], args=(h,), xtol=1e-13))

    # differences are off by h^3: the distance of 2 h is seven times that; rounding by that of the drift over h
    h = 1e-4
    found = root(h)
    return found, abs(found - root(2 * h)) + _ROUNDING / h


def _features(p: Parameters) -> tuple[Number, Number]:
    options = {name: p[name] for name in ("D", "features") if name in p}

    def solved(tolerance: float) -> Any:
        return random_features_error(
            mixture(p["mixture"]), p["activation"], p["gamma"], p["ridge"], tolerance=tolerance, **options
        )

    if p.get("quantity") == "rate":
        return _refined(lambda tolerance: solved(tolerance).rate, 1e-7, 1e-9)
    found = solved(1e-9)
    return found.classification_error, found.classification_error_error


def _kernel(p: Parameters) -> tuple[Number, Number]:
    options = {name: p[name] for name in ("D", "samples", "intercept", "stratified") if name in p}
    found = kernel_error(mixture(p["mixture"]), p["kernel"], p["alpha"], p["ridge"], **options)
    return found.classification_error, found.classification_error_error


def _erm(p: Parameters) -> tuple[Number, Number]:
    found = erm_error(mixture(p["mixture"]), p["loss"], p["alpha"], p["ridge"], intercept=p.get("intercept", True))
    return found.classification_error, found.classification_error_error


def _features_erm(p: Parameters) -> tuple[Number, Number]:
    asked = mixture(p["mixture"]), p["activation"], p["loss"], p["alpha"], p["gamma"], p["ridge"]
    found = random_features_erm_error(*asked, label_noise=p.get("label_noise", 0.0))
    name = p.get("quantity", "classification_error")
    return getattr(found, name), getattr(found, f"{name}_error")


def _kernel_erm(p: Parameters) -> tuple[Number, Number]:
    found = kernel_erm_error(mixture(p["mixture"]), p["kernel"], p["loss"], p["alpha"], p["ridge"])
    return found.classification_error, found.classification_error_error


def _bayes(p: Parameters) -> tuple[Number, Number]:
    found = bayes_error(mixture(p["mixture"]), p["alpha"])
    return found.classification_error, found.classification_error_error


def _transition(p: Parameters) -> tuple[Number, Number]:
    found = first_order_transition(mixture(p["mixture"]), p["low"], p["high"], points=12)
    if found is None:
        raise RuntimeError(f"a first-order transition must lie between {p['low']} and {p['high']}")
    return found.informed, 1e-4 * found.informed


def _evolution(p: Parameters) -> tuple[Number, Number]:
    found = state_evolution(mixture(p["mixture"]), p["alpha"], p["iterations"], p["overlap"])
    return float(found.overlaps[-1, 0, 0]), 1e-12


def _law(p: Parameters) -> PowerLaw:
    names = ("a", "b", "inputs", "features", "rate", "batch")
    return PowerLaw(**{name: p[name] for name in names if name in p})


def _power_law_risk(p: Parameters) -> tuple[Number, Number]:
    found = power_law_risk(_law(p), [p["steps"]])
    return float(found.risk[0]), float(found.risk_error[0])


def _power_law_floor(p: Parameters) -> tuple[Number, Number]:
    value = power_law_floor(_law(p))
    return value, 1e-12 * value


COMPUTED: dict[str, Callable[[Parameters], tuple[Number, Number]]] = {
    "average": _average,
    "bayes_error": _bayes,
    "critical_alpha": lambda p: (critical_alpha(mixture(p["mixture"])), 1e-13),
    "drift": _drift,
    "erm_error": _erm,
    "errors": _errors,
    "errors of a committee": _plateau,
    "exit_time": _exit_time,
    "first_order_transition": _transition,
    "fixed_point": _fixed_point,
    "fluctuations": _fluctuations,
    "integrate": _integrate,
    "kernel_erm_error": _kernel_erm,
    "kernel_error": _kernel,
    "largest rate": _largest_rate,
    "oracle_error": _oracle,
    "power_law_floor": _power_law_floor,
    "power_law_risk": _power_law_risk,
    "random_features_erm_error": _features_erm,
    "random_features_error": _features,
    "scaling_exponents": lambda p: (scaling_exponents(p["a"], p["b"]).compute, 1e-14),
    "separability_threshold": lambda p: (separability_threshold(mixture(p["mixture"])), 1e-7),
    "state_evolution": _evolution,
}
"""What a record's `function` stands for."""
