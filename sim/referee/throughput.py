"""How fast the vectors engine runs on the hardware at hand, and how much of the limit that memory sets it reaches.

A block of B steps writes B samples of D components once and reads them three times (fields, Gram matrix, update), and
it reads K weights of D components twice and writes them once.  Whatever else is done, that makes for each step, replica
and dimension at least 4 + 3 K/B numbers to be moved.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.rules import OnlineSGD
from quenched.numerics.two_layer.flow import random_state
from quenched.sim.backend import Backend, get_backend
from quenched.sim.engines.base import Batch, Problem
from quenched.sim.engines.vectors import BLOCK, Vectors

__all__ = ["Speed", "measure"]


@dataclass(frozen=True)
class Speed:
    """`rate`: steps x replicas x D per second; `bandwidth`: bytes per second, of a copy, reads and writes added."""

    backend: str
    device: str
    dtype: str
    D: int
    K: int
    replicas: int
    rate: float
    bandwidth: float

    @property
    def limit(self) -> float:
        """The rate at which memory would be the only concern."""
        return self.bandwidth / (np.dtype(self.dtype).itemsize * (4 + 3 * self.K / BLOCK))

    @property
    def fraction(self) -> float:
        """Of the limit."""
        return self.rate / self.limit

    def sentence(self) -> str:
        """All of it in a sentence."""
        return (
            f"{self.backend} on {self.device}: {self.rate:.3g} steps x replicas x D per second ({self.dtype}, "
            f"D = {self.D}, K = {self.K}, {self.replicas} replicas), {self.fraction:.1%} of what its memory would "
            f"allow at the measured {self.bandwidth / 1e9:.3g} GB/s"
        )


def measure(
    backend: str | Backend = "auto",
    *,
    D: int = 1000,
    K: int = 4,
    replicas: int | None = None,
    dtype: str = "float64",
    seconds: float = 0.5,
) -> Speed:
    """Time the engine for about `seconds`, on XOR with relu; `replicas`: 16 on the host, 1024 on a card if None."""
    where = get_backend(backend)
    number = (16 if where.name == "numpy" else 1024) if replicas is None else replicas
    mixture, network, sgd = Mixture.xor(0.4), TwoLayer(K, "relu"), OnlineSGD(0.3, 0.01)
    state = random_state(mixture, network, D, 0)
    which, problem = np.zeros(number, np.int64), Problem(mixture, network, sgd, D)
    engine = Vectors(Batch((problem,), which, range(number), [state] * number, where, dtype))

    def block() -> None:
        engine.advance(BLOCK)

    source = where.xp.ones(2**24, dtype=where.xp.float64)
    target = where.xp.zeros_like(source)

    def copy() -> None:
        target[:] = source

    rate = BLOCK * number * D / _time(block, where, seconds)
    return Speed(
        where.name, where.device, dtype, D, K, number, rate, 2 * source.size * 8 / _time(copy, where, seconds / 4)
    )


def _time(function: Callable[[], None], where: Backend, seconds: float) -> float:
    """Seconds for a call, once it has been called: the best of rounds that last `seconds` together."""
    function()
    where.synchronize()
    start, best = time.perf_counter(), math.inf
    while time.perf_counter() - start < seconds:
        before = time.perf_counter()
        function()
        where.synchronize()
        best = min(best, time.perf_counter() - before)
    return best
