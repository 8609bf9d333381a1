"""Solvers on the generated formulas: problem records, drift, integration in time, errors, the oracle.

Names are imported on first use, so that `import quenched.numerics` stays fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quenched.numerics.amp import state_evolution
    from quenched.numerics.averages.gaussian_average import average, closed_form
    from quenched.numerics.bayes import bayes_error
    from quenched.numerics.course.linear import linear_mean
    from quenched.numerics.erm import erm_error
    from quenched.numerics.kernel_ridge import kernel_error
    from quenched.numerics.oracle import oracle_error
    from quenched.numerics.problem.mixture import Mixture
    from quenched.numerics.problem.network import Teacher, TwoLayer
    from quenched.numerics.problem.provenance import records_of, state_at
    from quenched.numerics.problem.rules import GradientFlow, LearningRule, OnlineSGD
    from quenched.numerics.problem.specification import Specification, problem_of
    from quenched.numerics.problem.spectrum import Spectrum
    from quenched.numerics.problem.state import Densities, OrderParameters
    from quenched.numerics.random_features import random_features_error
    from quenched.numerics.random_features_erm import kernel_erm_error, random_features_erm_error
    from quenched.numerics.scaling.equivalent import power_law_floor, power_law_risk
    from quenched.numerics.scaling.exponents import compute_frontier, fit_exponent, scaling_exponents
    from quenched.numerics.scaling.power_law import PowerLaw, power_law_problem
    from quenched.numerics.two_layer.continuation import curve
    from quenched.numerics.two_layer.drift import drift
    from quenched.numerics.two_layer.errors import errors, errors_many
    from quenched.numerics.two_layer.exit_times import Threshold, exit_time, pointing_anywhere
    from quenched.numerics.two_layer.fixed_points import fixed_point, fixed_points
    from quenched.numerics.two_layer.flow import integrate, random_state
    from quenched.numerics.two_layer.fluctuations import fluctuations
    from quenched.numerics.typesetting import equations

__all__ = [
    "Densities",
    "GradientFlow",
    "LearningRule",
    "Mixture",
    "OnlineSGD",
    "OrderParameters",
    "PowerLaw",
    "Specification",
    "Spectrum",
    "Teacher",
    "Threshold",
    "TwoLayer",
    "average",
    "bayes_error",
    "closed_form",
    "compute_frontier",
    "curve",
    "drift",
    "equations",
    "erm_error",
    "errors",
    "errors_many",
    "exit_time",
    "fit_exponent",
    "fixed_point",
    "fixed_points",
    "fluctuations",
    "integrate",
    "kernel_erm_error",
    "kernel_error",
    "linear_mean",
    "oracle_error",
    "pointing_anywhere",
    "power_law_floor",
    "power_law_problem",
    "power_law_risk",
    "problem_of",
    "random_features_erm_error",
    "random_features_error",
    "random_state",
    "records_of",
    "scaling_exponents",
    "state_at",
    "state_evolution",
]

_HOME = {
    "Densities": "problem.state",
    "GradientFlow": "problem.rules",
    "LearningRule": "problem.rules",
    "Mixture": "problem.mixture",
    "OnlineSGD": "problem.rules",
    "OrderParameters": "problem.state",
    "PowerLaw": "scaling.power_law",
    "Specification": "problem.specification",
    "Spectrum": "problem.spectrum",
    "Teacher": "problem.network",
    "Threshold": "two_layer.exit_times",
    "TwoLayer": "problem.network",
    "average": "averages.gaussian_average",
    "bayes_error": "bayes",
    "closed_form": "averages.gaussian_average",
    "compute_frontier": "scaling.exponents",
    "curve": "two_layer.continuation",
    "drift": "two_layer.drift",
    "equations": "typesetting",
    "erm_error": "erm",
    "errors": "two_layer.errors",
    "errors_many": "two_layer.errors",
    "exit_time": "two_layer.exit_times",
    "fit_exponent": "scaling.exponents",
    "fixed_point": "two_layer.fixed_points",
    "fixed_points": "two_layer.fixed_points",
    "fluctuations": "two_layer.fluctuations",
    "integrate": "two_layer.flow",
    "kernel_erm_error": "random_features_erm",
    "kernel_error": "kernel_ridge",
    "linear_mean": "course.linear",
    "oracle_error": "oracle",
    "pointing_anywhere": "two_layer.exit_times",
    "power_law_floor": "scaling.equivalent",
    "power_law_problem": "scaling.power_law",
    "power_law_risk": "scaling.equivalent",
    "problem_of": "problem.specification",
    "random_features_erm_error": "random_features_erm",
    "random_features_error": "random_features",
    "random_state": "two_layer.flow",
    "records_of": "problem.provenance",
    "scaling_exponents": "scaling.exponents",
    "state_at": "problem.provenance",
    "state_evolution": "amp",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
