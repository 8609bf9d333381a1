"""Networks: the two-layer network that learns, and the teacher that makes labels.

phi(x) = s sum_k v_k g(lambda_k),   lambda_k = w_k·x/sqrt(D),   k = 1..K

Where the mixture has classes the network has an output for each, phi_c(x) = s sum_k v_ck g(lambda_k).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quenched.numerics.problem.checks import (
    Record,
    expression_text,
    finite_array,
    flag,
    integer,
    number,
    real_array,
    records,
    shown,
)

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

    `weights` (m, p): w*_m/sqrt(D) in the coordinates of the mixture's means; `v` (m,): its readout, or (C, m): one for
    each cluster; `activation`: g, which may jump, as "sign(x)" does.  `sign`: the label is the sign of that sum, ±1.
    `field_noise`: the fields are nu_m + field_noise·N(0, 1) instead, independent for each neuron and input, in
    training and in tests; labels are then random given x.  `Teacher.of_clusters` joins one teacher for each cluster.

    For one cluster at the origin, Mixture(np.zeros((1, p)), teacher=Teacher(...)), this is the teacher-student problem
    of Saad and Solla (1995).

    >>> Teacher(weights=[[1.0, 0.0], [0.0, 1.0]], v=[1.0, 1.0], activation="erf").neurons
    2
    """

    weights: Array
    v: Array
    activation: str
    sign: bool = False
    field_noise: float = 0.0

    def __post_init__(self) -> None:
        weights = finite_array("weights", self.weights, (None, None))
        readouts = real_array("v", self.v)
        v = finite_array("v", readouts, (None, None) if readouts.ndim == 2 else (len(weights),))
        if v.shape[-1] != len(weights):
            raise ValueError(f"v must have {len(weights)} readouts like the weights, got shape {v.shape}")
        self._set(weights=weights, v=v, activation=expression_text(self.activation))
        self._set(sign=flag("sign", self.sign), field_noise=number("field_noise", self.field_noise))

    @classmethod
    def absent(cls, p: int) -> Teacher:
        """No teacher of inputs with p coordinates: one of no neurons, whose g nobody asks for."""
        record = cls.__new__(cls)
        record._set(weights=np.zeros((0, p)), v=np.zeros(0), activation="linear", sign=False, field_noise=0.0)
        return record

    @classmethod
    def of_clusters(cls, teachers: Iterable[Teacher]) -> Teacher:
        """One teacher for each cluster, in their order, as one whose neurons are heard in their own cluster only.

        ValueError: they differ in activation, `sign`, `field_noise` or the number p of coordinates, or have readouts
        by cluster themselves.

        >>> one, other = Teacher([[1.0]], [1.0], "erf"), Teacher([[2.0]], [-1.0], "erf")
        >>> Teacher.of_clusters([one, other]).v.tolist()
        [[1.0, 0.0], [0.0, -1.0]]
        """
        each = records("teachers", teachers, (cls,))
        kinds = {(teacher.activation, teacher.sign, teacher.field_noise, teacher.v.ndim) for teacher in each}
        if len(kinds) != 1 or each[0].v.ndim != 1:
            raise ValueError(
                "teachers must be one or more of the same activation, sign and field_noise, with a readout each, got "
                f"{shown(each)}"
            )
        if len(spans := {teacher.weights.shape[1] for teacher in each}) != 1:
            raise ValueError(f"teachers must have weights in the same p coordinates, got p = {sorted(spans)}")
        v = np.zeros((len(each), sum(teacher.neurons for teacher in each)))
        start = 0
        for row, teacher in zip(v, each, strict=True):
            row[start : start + teacher.neurons] = teacher.v
            start += teacher.neurons
        first = each[0]
        weights = np.concatenate([teacher.weights for teacher in each])
        return cls(weights, v, first.activation, first.sign, first.field_noise)

    @property
    def neurons(self) -> int:
        """m, the number of its neurons."""
        return self.v.shape[-1]

    def readouts(self, clusters: int) -> Array:
        """The readout in each cluster, (C, m)."""
        return np.broadcast_to(self.v, (clusters, self.neurons))

    @property
    def latex(self) -> str:
        """The label, for notebooks."""
        noise = f" + {self.field_noise:.4g}\\,\\mathcal N(0, 1)" if self.field_noise else ""
        readout = "v^*_{am}" if self.v.ndim == 2 else "v^*_m"
        total = rf"\sum_m {readout}\, g^*(w^*_m\cdot x/\sqrt D{noise})"
        return rf"\operatorname{{sign}} {total}" if self.sign else total
