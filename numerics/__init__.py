"""Solvers on the generated formulas: problem records, drift, integration in time, errors, the oracle.

Names are imported on first use, so that `import quenched.numerics` stays fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

# Not lazy: a module that shares its function's name would take its place when imported first.
from quenched.numerics.errors import errors

if TYPE_CHECKING:
    from quenched.numerics.continuation import curve
    from quenched.numerics.dynamics import drift
    from quenched.numerics.features import random_features_error
    from quenched.numerics.flow import integrate, random_state
    from quenched.numerics.kernel_ridge import kernel_error
    from quenched.numerics.oracle import oracle_error
    from quenched.numerics.records import (
        Densities,
        GradientFlow,
        Mixture,
        OnlineSGD,
        OrderParameters,
        Spectrum,
        Teacher,
        TwoLayer,
    )
    from quenched.numerics.stationary import fixed_point, fixed_points

__all__ = [
    "Densities",
    "GradientFlow",
    "Mixture",
    "OnlineSGD",
    "OrderParameters",
    "Spectrum",
    "Teacher",
    "TwoLayer",
    "curve",
    "drift",
    "errors",
    "fixed_point",
    "fixed_points",
    "integrate",
    "kernel_error",
    "oracle_error",
    "random_features_error",
    "random_state",
]

_HOME = {
    "Densities": "records",
    "GradientFlow": "records",
    "Mixture": "records",
    "OnlineSGD": "records",
    "OrderParameters": "records",
    "Spectrum": "spectrum",
    "Teacher": "records",
    "TwoLayer": "records",
    "curve": "continuation",
    "drift": "dynamics",
    "fixed_point": "stationary",
    "fixed_points": "stationary",
    "integrate": "flow",
    "kernel_error": "kernel_ridge",
    "oracle_error": "oracle",
    "random_features_error": "features",
    "random_state": "flow",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
