"""Figure `headline`: the final error against noise of a relu network with K = 4 neurons on XOR, beside the oracle.

The readout starts large, v_k ~ N(0, 4): from a small one the plateau lasts ten times longer at sigma = 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.rules import LearningRule, OnlineSGD
from quenched.numerics.problem.state import OrderParameters
from quenched.numerics.two_layer.flow import random_state
from quenched.numerics.two_layer.learner import TwoLayerOptions
from quenched.sim.drawing import plot
from quenched.sim.drawing.captions import of_network, of_rule, of_seeds
from quenched.sim.error_curve import error_curve
from quenched.sim.processes import Work
from quenched.sim.training import simulate

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["caption", "compute", "draw", "sentence"]

MIXTURE = Mixture.xor(1.0)  # at every sigma
OPTIONS = TwoLayerOptions(
    TwoLayer(4, "relu"), OnlineSGD(lr=0.1), t=800.0, D=500, starts=12, readout_scale=4.0, rtol=1e-7
)
SIGMAS = np.linspace(0.2, 1.0, 9)
SEEDS = range(5)


def compute(work: Work) -> dict[str, xr.Dataset]:
    """The curves, and runs at every second sigma from the best initial state there."""
    import xarray as xr

    theory = error_curve(MIXTURE, SIGMAS, {"oracle": None, "two-layer": OPTIONS}, work.part(0, 0.25))
    some = theory.isel(sigma=slice(2, None, 2))
    best = some.initial[some.final_error.argmin("initial")]
    jobs, D = [], OPTIONS.D or MIXTURE.default_dimension
    for sigma, seed in zip(some.sigma.values, best.values, strict=True):
        mixture = replace(MIXTURE, sigma=sigma)
        state = random_state(mixture, OPTIONS.network, D, int(seed), readout_scale=OPTIONS.readout_scale)
        jobs.append((mixture, OPTIONS.network, OPTIONS.rule, D, [OPTIONS.t], SEEDS, state))
    runs = work.part(0.25, 1).map(simulated, jobs)
    simulation = xr.concat([run.isel(time=0) for run in runs], some.sigma, combine_attrs="drop_conflicts")
    return {"theory": theory, "simulation": simulation}


def simulated(
    mixture: Mixture,
    network: TwoLayer,
    rule: LearningRule,
    D: int,
    t: Sequence[float],
    seeds: Sequence[int],
    state: OrderParameters,
) -> xr.Dataset:
    """The exact chain of the order parameters, whose law is that of SGD on vectors."""
    return simulate(mixture, network, rule, D, t, seeds, engine="overlaps", state=state)


def draw(data: Mapping[str, xr.Dataset]) -> Figure:
    """Lines, ticks for each initial state, and points."""
    return plot.curve(data["theory"], data["simulation"])


def caption(data: Mapping[str, xr.Dataset]) -> str:
    """Axes, parameters, runs."""
    return (
        f"Final classification error against the noise σ: {of_network(OPTIONS.network)}, on XOR with means of length "
        f"1, {of_rule(OPTIONS.rule)}, at t = {OPTIONS.t:g}, in units of D steps.  Line: theory, the equations for D → "
        f"∞, the best of {OPTIONS.starts} random states of seeds 0 to {OPTIONS.starts - 1} with w_k ~ N(0, 1) and v_k "
        f"~ N(0, {OPTIONS.readout_scale**2:g}/K) in dimension {OPTIONS.D} at each σ; ticks: all of them; grey band: "
        f"the oracle.  Points: the exact finite-D chain at D = {OPTIONS.D} from the best state, mean ± standard error "
        f"of {of_seeds(SEEDS)}, at every second σ."
    )


def sentence(data: Mapping[str, xr.Dataset]) -> str:
    """How many runs do not come to the best."""
    theory = data["theory"]
    stuck = float((theory.final_error > theory.classification_error.sel(learner="two-layer") + 0.05).mean())
    return (
        f"relu, K = {OPTIONS.network.K}, on XOR, lr = {OPTIONS.rule.lr}, t = {OPTIONS.t:g}: the curve is the best of "
        f"{OPTIONS.starts} initial states for each sigma; {stuck:.0%} of all runs end 0.05 or more above it, stuck or "
        "still on the way."
    )
