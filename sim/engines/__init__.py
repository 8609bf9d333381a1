"""Engines: ways to simulate one learning rule, behind one protocol (`quenched.sim.engines.base`)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quenched.sim.engines.base import Engine

__all__ = ["ENGINES", "find_engine"]

ENGINES: dict[str, str] = {
    "vectors": "quenched.sim.engines.vectors:Vectors",
    "overlaps": "quenched.sim.engines.overlaps:Chain",
}
"""Module and class of each engine; they are loaded on first use."""


def find_engine(name: str) -> type[Engine]:
    """The engine of this name.

    >>> find_engine("matrix")
    Traceback (most recent call last):
    ...
    ValueError: engine must be 'vectors' or 'overlaps', got 'matrix'
    """
    if not isinstance(name, str) or name not in ENGINES:
        raise ValueError(f"engine must be {' or '.join(map(repr, ENGINES))}, got {name!r}")
    module, kind = ENGINES[name].split(":")
    found: type[Engine] = getattr(import_module(module), kind)
    return found
