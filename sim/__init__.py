"""Experiments against the theory: simulations of the learning rules, comparison, figures, the command line."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quenched.sim.amp import simulate_amp
    from quenched.sim.drawing.plot import plot
    from quenched.sim.kernel_ridge import simulate_kernel, simulate_lazy
    from quenched.sim.random_features import simulate_features
    from quenched.sim.referee.compare import compare
    from quenched.sim.specifications import read_problem, read_spec
    from quenched.sim.sweeps import Sweep, sweep
    from quenched.sim.training import simulate

__all__ = [
    "Sweep",
    "compare",
    "plot",
    "read_problem",
    "read_spec",
    "simulate",
    "simulate_amp",
    "simulate_features",
    "simulate_kernel",
    "simulate_lazy",
    "sweep",
]

_HOME = {
    "Sweep": "sweeps",
    "compare": "referee.compare",
    "plot": "drawing.plot",
    "read_problem": "specifications",
    "read_spec": "specifications",
    "simulate": "training",
    "simulate_amp": "amp",
    "simulate_features": "random_features",
    "simulate_kernel": "kernel_ridge",
    "simulate_lazy": "kernel_ridge",
    "sweep": "sweeps",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
