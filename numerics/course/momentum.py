"""Velocities along a course of learning: what stops them, and how a dataset holds them.

A state of a rule with momentum has the overlaps of its velocities p_k (`quenched.numerics.problem.state.Velocity`).
They are kept from one piece of a problem to the next, while what is learned changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.rules import LearningRule
from quenched.numerics.problem.state import Densities, OrderParameters

__all__ = ["stopped", "velocity_variables"]

S = TypeVar("S", bound=OrderParameters | Densities)


def stopped(state: S, rule: LearningRule) -> S:
    """The state with velocities 0 of what the rule does not move: of what is frozen, and of all without momentum.

    >>> from quenched.numerics import OnlineSGD
    >>> from quenched.numerics.problem.state import Velocity
    >>> one = OrderParameters([[1.0]], [[1.0]], [1.0], velocity=Velocity([[1.0]], [[1.0]], [[1.0]], [1.0]))
    >>> found = stopped(one, OnlineSGD(0.1, friction=1.0, frozen="w")).velocity
    >>> found.U.item(), found.v.item()
    (0.0, 1.0)
    """
    if (moving := state.velocity) is None:
        return state
    first, second, third = (float(rule.momentum) * each for each in rule.learning(state.K))
    beyond = [] if state.b is None else [*third, float(rule.momentum)]
    return replace(
        state,
        velocity=replace(
            moving,
            M=moving.M * first,
            C=moving.C * first,
            U=moving.U * first * first[:, None],
            v=moving.v * np.concatenate([second, beyond]),
        ),
    )


def velocity_variables(
    mixture: Mixture, states: Sequence[Densities], totals: Sequence[OrderParameters], readout: tuple[str, ...]
) -> dict[str, Any]:
    """The variables of velocities along a trajectory of `states` and of their sums over the nodes, `totals`.

    X_dot is the velocity of X; C and U are the overlaps of velocities with weights and with each other; A_dot_u, C_u
    and U_u those in each node of a spectrum.  `readout`: the dimensions of v.
    """
    whole, each = ([s.velocity for s in many if s.velocity is not None] for many in (totals, states))
    M, v = np.stack([p.M for p in whole]), np.stack([p.v for p in whole])
    K, pairs = totals[0].K, ("time", "neuron", "neuron_")
    found: dict[str, Any] = {
        "M_dot": (("time", "cluster", "neuron"), M[:, : mixture.clusters]),
        "C": (pairs, np.stack([p.C for p in whole])),
        "U": (pairs, np.stack([p.U for p in whole])),
        "v_dot": (readout, v if totals[0].b is None else v[:, :K]),
    }
    if totals[0].b is not None:
        found |= {"b_dot": (("time", "neuron"), v[:, K:-1]), "c_dot": (("time",), v[:, -1])}
    if mixture.teacher is not None:
        found["R_dot"] = (("time", "teacher", "neuron"), M[:, mixture.clusters :])
    if mixture.spectrum is not None:
        found["A_dot_u"] = (("time", "node", "coordinate", "neuron"), np.stack([p.M for p in each]))
        found |= {f"{x}_u": (("time", "node", *pairs[1:]), np.stack([getattr(p, x) for p in each])) for x in "CU"}
    return found
