"""What a sample of the exact chain is charged: by one output, or by one for each class.

`quenched.sim.engines.chain_step` is the step.  `charge` has two forms, of which the arguments choose: that of one
output keeps to what `quenched.sim.translate` knows, that of several runs on the host alone.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import types
from numba.extending import overload

from quenched.numerics.compiled.machine_code import inner
from quenched.sim.engines.chain_basis import Work

__all__ = ["Rule", "charge", "charge_one", "charge_several", "readouts", "shifted"]

Array = npt.NDArray[np.float64]


class Rule(NamedTuple):
    """The numbers of the rule that stay: `freedom` = D - p - K; what of w_k, `first` (K,), and of v, `second`, learns.

    `first` and `second` are 0 for what is frozen and 1 for the rest; of several outputs `second` is (c K,), by rows.
    `sphere` and `scheduled` are 1 where weights keep their length and where rates differ from step to step.  Thresholds
    and intercept have the decays `rho_b` (K,) and `rho_c` of a step and the rates `rate_b` (K,) and `rate_c`.  Of the
    teacher: the noise of its fields, and whether labels are the sign of what it says, 1 or 0.
    """

    freedom: float
    scale: float
    label_noise: float
    sphere: float
    scheduled: float
    rho_c: float
    rate_c: float
    field_noise: float
    sign: float
    first: Array
    second: Array
    rho_b: Array
    rate_b: Array


def charge(b: int, work: Work, v: Array, rule: Rule, rate: float, g: Any, dg: Any, slope: Any) -> float:
    """What sample b is charged at a `rate` of the weights: its coefficients c_bk, and its part of the push of v.

    Returns a number that is finite where all of them are.
    """
    raise NotImplementedError("compiled code only")


@overload(charge, jit_options={"error_model": "numpy", "forceinline": True})
def _charge(b: Any, work: Any, v: Any, rule: Any, rate: Any, g: Any, dg: Any, slope: Any) -> Any:
    """By a slope dl/dphi, or where there are several outputs by a tuple of their number and functions of each."""

    def one(b: Any, work: Any, v: Any, rule: Any, rate: Any, g: Any, dg: Any, slope: Any) -> Any:
        return charge_one(b, work, v, rule, rate, g, dg, slope)

    def several(b: Any, work: Any, v: Any, rule: Any, rate: Any, g: Any, dg: Any, slope: Any) -> Any:
        return charge_several(b, work, v, rule, rate, g, dg, slope)

    return several if isinstance(slope, types.BaseTuple) else one


def readouts(K: int, v: Array, slope: Any) -> int:
    """The number of readouts among the parameters v: K, or all of them where there are several outputs."""
    raise NotImplementedError("compiled code only")


@overload(readouts, jit_options={"error_model": "numpy", "forceinline": True})
def _readouts(K: Any, v: Any, slope: Any) -> Any:
    def one(K: Any, v: Any, slope: Any) -> Any:
        return K

    def several(K: Any, v: Any, slope: Any) -> Any:
        return len(v)

    return several if isinstance(slope, types.BaseTuple) else one


@inner(nogil=True, error_model="numpy", forceinline=True)
def charge_one(b: int, work: Work, v: Array, rule: Rule, rate: float, g: Any, dg: Any, slope: Any) -> float:
    """Of one output; the slope of the loss takes the place of the label."""
    K = len(work.field)
    output = shifted(v, work.field) if len(v) > K else 0.0
    size = 0.0
    for k in range(K):
        work.value[k] = g(work.field[k])
        output += rule.scale * v[k] * work.value[k]
        size += abs(work.field[k])
    F = slope(output, work.y[b])
    for k in range(K):
        along = F * v[k] * dg(work.field[k])
        work.c[b, k] = -rate * rule.first[k] * along
        work.push[k] += F * work.value[k]
        work.bias[k] += along
    work.y[b] = F
    return size + F


@inner(nogil=True, error_model="numpy", forceinline=True)
def charge_several(b: int, work: Work, v: Array, rule: Rule, rate: float, g: Any, dg: Any, slope: Any) -> float:
    """Of an output for each class, where y is the number of the class; on the host only.

    slope: the number of outputs, `ClassLoss.term` and `ClassLoss.slope`.
    """
    outputs, term, gradient = slope  # numba warns of tuples that begin with a function
    K = len(work.field)
    F = np.zeros(outputs)
    top = -math.inf
    size = 0.0
    for k in range(K):
        work.value[k] = g(work.field[k])
        size += abs(work.field[k])
    for o in range(len(F)):
        for k in range(K):
            F[o] += rule.scale * v[o * K + k] * work.value[k]
        top = max(top, F[o])
    total = 0.0
    for o in range(len(F)):
        total += term(F[o], top)
    for o in range(len(F)):
        F[o] = gradient(F[o], 1.0 if o == work.y[b] else 0.0, top, total)
        size += abs(F[o])
    for k in range(K):
        back = 0.0
        for o in range(len(F)):
            back += F[o] * v[o * K + k]
            work.push[o * K + k] += F[o] * work.value[k]
        work.c[b, k] = -rate * rule.first[k] * back * dg(work.field[k])
    return size


@inner(nogil=True, error_model="numpy", forceinline=True)
def shifted(v: Array, field: Array) -> float:
    """Add the thresholds to the local fields; returns the intercept."""
    K = len(field)
    for k in range(K):
        field[k] += v[K + k]
    return v[2 * K]
