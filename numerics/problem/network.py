"""Networks: the two-layer network that learns, and the teacher that makes labels.

phi(x) = s sum_k v_k g(lambda_k),   lambda_k = w_k·x/sqrt(D),   k = 1..K

Where the mixture has classes the network has an output for each, phi_c(x) = s sum_k v_ck g(lambda_k).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quenched.numerics.problem.checks import Record, expression_text, finite_array, integer, number

__all__ = ["Teacher", "TwoLayer"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class TwoLayer(Record):
    """The network phi(x) = s sum_k v_k g(w_k·x/sqrt(D)) with K neurons, s = `output_scale`.

    `activation` names g: a built-in ("erf" is erf(x/sqrt 2), "relu", "linear", ...) or an expression in x, which is
    kept as `quenched.symbolic.language.grammar` prints it.  A mixture with classes gives it as many outputs.

    >>> TwoLayer(K=0, activation="relu")
    Traceback (most recent call last):
    ...
    ValueError: K must be an integer >= 1, got 0
    """

    K: int
    activation: str
    output_scale: float = 1.0

    def __post_init__(self) -> None:
        K = integer("K", self.K, at_least=1)
        scale = number("output_scale", self.output_scale, positive=True)
        self._set(K=K, activation=expression_text(self.activation), output_scale=scale)

    def _repr_latex_(self) -> str:
        """The network's function, for notebooks."""
        scale = "" if self.output_scale == 1 else f"{self.output_scale:.4g}\\, "
        return (
            rf"$\phi(x) = {scale}\sum_{{k=1}}^{{{self.K}}} v_k\, g(w_k\cdot x/\sqrt D),\quad "
            rf"g = \texttt{{{self.activation}}}$"
        )


@dataclass(frozen=True, eq=False, repr=False)
class Teacher(Record):
    """Labels made by a network: y = sum_m v_m g(nu_m), nu_m = w*_m·x/sqrt(D), in place of a label per cluster.

    `weights` (m, p): w*_m/sqrt(D) in the coordinates of the mixture's means; `v` (m,): its readout; `activation`: g.
    For one cluster at the origin, Mixture(np.zeros((1, p)), teacher=Teacher(...)), this is the teacher-student problem
    of Saad and Solla (1995).

    >>> Teacher(weights=[[1.0, 0.0], [0.0, 1.0]], v=[1.0, 1.0], activation="erf").neurons
    2
    """

    weights: Array
    v: Array
    activation: str

    def __post_init__(self) -> None:
        weights = finite_array("weights", self.weights, (None, None))
        v = finite_array("v", self.v, (len(weights),))
        self._set(weights=weights, v=v, activation=expression_text(self.activation))

    @classmethod
    def absent(cls, p: int) -> Teacher:
        """No teacher of inputs with p coordinates: one of no neurons, whose g nobody asks for."""
        record = cls.__new__(cls)
        record._set(weights=np.zeros((0, p)), v=np.zeros(0), activation="linear")
        return record

    @property
    def neurons(self) -> int:
        """m, the number of its neurons."""
        return self.v.shape[0]
