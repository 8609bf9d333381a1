"""Figure `asymptotic`: the error at the end of learning against noise: four relu on XOR, beside the oracle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from quenched.numerics.oracle import oracle_error
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.rules import GradientFlow, LearningRule, OnlineSGD
from quenched.numerics.problem.state import OrderParameters
from quenched.sim.drawing import plot
from quenched.sim.processes import Work

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["compute", "draw", "sentence", "title"]

MIXTURE, NETWORK = Mixture.xor(0.3), TwoLayer(4, "relu")
RULES: tuple[LearningRule, ...] = (GradientFlow(weight_decay=1e-3), OnlineSGD(0.1, 0.01), OnlineSGD(0.5, 0.01))
SIGMAS = np.linspace(0.3, 1.0, 71)


def compute(work: Work) -> dict[str, xr.Dataset]:
    """The branch of the best fixed point of each rule."""
    found = work.map(branch, [(rule,) for rule in RULES])
    return {str(i): each for i, each in enumerate(found)}


def branch(rule: LearningRule) -> xr.Dataset:
    """From the best fixed point that four initial states end in, along sigma."""
    from quenched.numerics.two_layer.continuation import curve
    from quenched.numerics.two_layer.fixed_points import fixed_points

    best = fixed_points(MIXTURE, NETWORK, rule, range(4)).isel(solution=0)
    return curve(MIXTURE, NETWORK, rule, "sigma", SIGMAS, OrderParameters(best.M, best.Q, best.v))


def title(network: TwoLayer, rule: LearningRule) -> str:
    """Of a branch, in legends."""
    noise = "gradient flow" if isinstance(rule, GradientFlow) else f"η = {rule.lr:g}"
    return f"{network.activation}, K = {network.K}, {noise}, κ = {rule.weight_decay:g}"


def _oracle() -> np.ndarray:
    return np.array([float(oracle_error(Mixture.xor(s))) for s in SIGMAS])


def draw(data: Mapping[str, xr.Dataset]) -> Figure:
    """Error and pmse against sigma."""
    curves = {title(NETWORK, rule): data[str(i)] for i, rule in enumerate(RULES)}
    return plot.branches(curves, "sigma", (SIGMAS, _oracle()))


def sentence(data: Mapping[str, xr.Dataset]) -> str:
    """The errors at the end of the branches."""
    ends = "; ".join(
        f"{title(NETWORK, rule)}: {float(data[str(i)].classification_error[-1]):.6f}" for i, rule in enumerate(RULES)
    )
    worst = max(float(each.classification_error_error.max()) for each in data.values())
    return f"at sigma = 1, {ends}; oracle {_oracle()[-1]:.6f}; numerical errors below {worst:.0e}."
