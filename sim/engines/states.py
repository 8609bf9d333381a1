"""Many initial states as arrays, for ensembles too large to be lists of records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import numpy.typing as npt

from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.state import OrderParameters

__all__ = ["States"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class States(Sequence[OrderParameters]):
    """States of S networks on their chain's coordinates: `W` (S, p + K, K), A over L^T, and `v` (S, K).

    `references` (R, p): M = references A.  Q = W^T W is positive semi-definite by construction.
    """

    W: Array
    v: Array
    references: Array

    def __post_init__(self) -> None:
        if self.W.ndim != 3 or self.v.shape != (len(self.W), self.W.shape[2]):
            shapes = f"{self.W.shape} and {self.v.shape}"
            raise ValueError(f"W and v must have shapes (S, p + K, K) and (S, K), got {shapes}")

    @classmethod
    def random(cls, mixture: Mixture, network: TwoLayer, D: int, number: int, seed: int) -> States:
        """States of `number` networks with the law of `random_state`: w ~ N(0, 1), v ~ N(0, 1/K).

        >>> states = States.random(Mixture.xor(0.5), TwoLayer(2, "relu"), 10**6, 3, seed=0)
        >>> len(states), bool(abs(states[1].Q - np.eye(2)).max() < 0.01)
        (3, True)
        """
        random, p, K = np.random.default_rng(seed), mixture.dimensions, network.K
        if p + K > D:
            raise ValueError(f"D must be at least p + K = {p + K}, got {D}")
        W = np.zeros((number, p + K, K))
        W[:, :p] = random.standard_normal((number, p, K))
        upper = np.triu(random.standard_normal((number, K, K)), 1)
        lengths = np.sqrt(random.chisquare(D - p - np.arange(K), (number, K)))
        W[:, p:] = upper + lengths[:, :, None] * np.eye(K)
        return cls(W / np.sqrt(D), random.standard_normal((number, K)) / np.sqrt(K), mixture.references_at(D))

    def __len__(self) -> int:
        return len(self.v)

    @overload
    def __getitem__(self, at: int) -> OrderParameters: ...

    @overload
    def __getitem__(self, at: slice) -> States: ...

    def __getitem__(self, at: int | slice) -> OrderParameters | States:
        W, v = self.W[at], self.v[at]
        if isinstance(at, slice):
            return States(W, v, self.references)
        Q = W.T @ W
        return OrderParameters(self.references @ W[: self.references.shape[1]], (Q + Q.T) / 2, v)
