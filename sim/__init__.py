"""Experiments against the theory: simulations of the learning rules, comparison, figures, the command line."""

from typing import TYPE_CHECKING, Any

# Not lazy: a module that shares its function's name would take its place when imported first.
from quenched.sim.compare import compare

if TYPE_CHECKING:
    from quenched.sim.train import simulate

__all__ = ["compare", "simulate"]


def __getattr__(name: str) -> Any:
    if name != "simulate":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from quenched.sim.train import simulate

    globals()[name] = simulate
    return simulate
