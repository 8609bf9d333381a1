"""Figure `layers`: what is trained, and how lazily: relu on XOR.

Left: both layers, the first alone, the second alone (random features with K features), from one state.  Others: a
network with the output scale s and learning rates divided by s^2, from neurons in pairs that cancel: its function
moves at the same speed whatever s, and its weights by 1/s.  As s grows the linearised network is left, its tangent
kernel, which on XOR at this signal-to-noise ratio knows no better than chance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from quenched.numerics.oracle import oracle_error
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.provenance import provenance
from quenched.numerics.problem.rules import OnlineSGD
from quenched.numerics.problem.state import OrderParameters, without_spectrum
from quenched.numerics.problem.variables import described
from quenched.numerics.two_layer.flow import integrate, random_state
from quenched.sim.drawing.captions import of_network, of_seeds
from quenched.sim.drawing.style import (
    ERROR,
    LEVEL,
    PAGE,
    TIME,
    Cue,
    chance,
    cues,
    key,
    letters,
    log_ticks,
    observable,
    points,
    styled,
)
from quenched.sim.processes import Work
from quenched.sim.training import simulate

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["caption", "compute", "draw", "paired_state", "sentence"]

MIXTURE, D, T = Mixture.xor(0.4), 1000, 200.0
NETWORK = TwoLayer(8, "relu")
INITIAL, PAIRED, SEEDS = 3, 1, range(10)  # seeds of the initial states, of one with pairs, of runs
RULES = {
    "both layers": OnlineSGD(0.5),
    "first layer": OnlineSGD(0.5, second_lr=0.0),
    "second layer": OnlineSGD(0.0, second_lr=0.5),
}
SCALES, LINES = np.array([1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 16.0]), np.geomspace(1.0, 16.0, 17)  # of runs, of theory


def paired_state(mixture: Mixture, network: TwoLayer, D: int, seed: int, readout_scale: float = 1.0) -> OrderParameters:
    """Random weights in pairs of equal neurons with opposite readouts, so that phi = 0; K must be even.

    >>> mixture, network = Mixture.xor(0.5), TwoLayer(4, "relu", output_scale=10.0)
    >>> from quenched.numerics import errors
    >>> round(errors(mixture, network, paired_state(mixture, network, 1000, seed=0)).pmse, 10)
    0.5
    """
    if network.K % 2:
        raise ValueError(f"network must have an even number of neurons, got K = {network.K}")
    narrow = replace(network, K=network.K // 2)
    half = without_spectrum(random_state(mixture, narrow, D, seed, readout_scale=readout_scale))
    return OrderParameters(np.tile(half.M, 2), np.tile(half.Q, (2, 2)), np.concatenate([half.v, -half.v]))


def compute(work: Work) -> dict[str, xr.Dataset]:
    """Theory and runs for each rule and for each output scale."""
    state = random_state(MIXTURE, NETWORK, D, INITIAL)
    rules = [(NETWORK, rule, state) for rule in RULES.values()]
    theory = work.part(0, 0.5).map(followed, rules + [_scaled(s) for s in LINES.tolist()])
    runs = work.part(0.5, 1).map(trained, rules + [_scaled(s) for s in SCALES.tolist()])
    data: dict[str, xr.Dataset] = {}
    for name, line, found in zip(RULES, theory, runs, strict=False):
        data |= {f"{name.split()[0]}_theory": line, f"{name.split()[0]}_simulation": found}
    return data | {
        "lazy_theory": _ends(LINES, theory[len(RULES) :], ()),
        "lazy_simulation": _ends(SCALES, runs[len(RULES) :], ("seed",)),
    }


def _scaled(s: float) -> tuple[TwoLayer, OnlineSGD, OrderParameters]:
    """Network, rule and state of an output scale."""
    network = replace(NETWORK, output_scale=s)
    return network, OnlineSGD(RULES["both layers"].eta / s**2), paired_state(MIXTURE, network, D, PAIRED)


def _ends(scales: np.ndarray, found: list[xr.Dataset], dims: tuple[str, ...]) -> xr.Dataset:
    """Errors at the end, and how far Q moves, by output scale."""
    import xarray as xr

    moved = [np.abs(run.Q.isel(time=-1) - run.Q.isel(time=0)).mean(("neuron", "neuron_")).values for run in found]
    parts = {name: [run[name].isel(time=-1).values for run in found] for name in ("classification_error", "pmse")}
    attrs = provenance(
        mixture=MIXTURE, network=NETWORK, D=D, t=T, lr=f"{RULES['both layers'].eta:g}/scale^2", initial_seed=PAIRED
    )
    values = {name: (("scale", *dims), np.array(each)) for name, each in (parts | {"movement": moved}).items()}
    coords = {"scale": scales} | {dim: found[0][dim].values for dim in dims}
    return described(xr.Dataset(values, coords=coords, attrs=attrs))


def followed(network: TwoLayer, sgd: OnlineSGD, state: OrderParameters) -> xr.Dataset:
    """The equations."""
    return integrate(MIXTURE, network, sgd, state, np.linspace(0, T, 61))


def trained(network: TwoLayer, sgd: OnlineSGD, state: OrderParameters) -> xr.Dataset:
    """The exact chain."""
    return simulate(MIXTURE, network, sgd, D, np.linspace(0, T, 16), SEEDS, engine="overlaps", state=state)


@styled
def draw(data: Mapping[str, xr.Dataset]) -> Figure:
    """Error against time by what is trained; final error and movement of Q by output scale."""
    oracle = float(oracle_error(MIXTURE))
    figure = Figure(figsize=(PAGE, 2.3), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    letters((left, middle, right))
    look = dict(zip(RULES, cues(len(RULES)), strict=True))
    for name, cue in look.items():
        theory, runs = (data[f"{name.split()[0]}_{kind}"] for kind in ("theory", "simulation"))
        observable(left, theory, runs, "classification_error", cue)
    handles = [key(cue, name) for name, cue in look.items()]
    left.set(xlabel=TIME, ylabel=ERROR, title="what is trained")
    left.legend(handles=[*handles, Line2D([], [], label="oracle", **LEVEL)], loc=(0.46, 0.3))
    theory, runs, cue = data["lazy_theory"], data["lazy_simulation"], Cue("0.0", "o", "-")
    for axes, name, label in (
        (middle, "classification_error", ERROR),
        (right, "movement", r"mean $|Q_{kl}(t) - Q_{kl}(0)|$"),
    ):
        axes.plot(theory.scale, theory[name], **cue.line)
        points(axes, runs.scale, runs[name], cue)
        axes.set(xlabel="output scale $s$", ylabel=label, xscale="log", xlim=(0.9, 18))
        log_ticks(axes.xaxis, (1, 2, 4))
    for axes in (left, middle):
        axes.axhline(oracle, **LEVEL)
        chance(axes)
        axes.set_ylim(0, 0.54)
    middle.set_title(rf"  from features to lazy, $t = {T:g}$")
    right.set(yscale="log", title=rf"  movement, $t = {T:g}$")
    return figure


def caption(data: Mapping[str, xr.Dataset]) -> str:
    """Panels, parameters, runs."""
    rate = RULES["both layers"].eta
    moved = data["lazy_simulation"].movement.mean("seed").isel(scale=-1)
    above = float(moved / data["lazy_theory"].movement.interp(scale=moved.scale))
    return (
        f"What is trained, and how lazily: {of_network(NETWORK)}, on XOR with means of length 1, σ = "
        f"{MIXTURE.sigma:g}, online SGD.  (a) Both layers (η = {rate:g}), the first alone, the second alone (K random "
        f"features), from one random state of seed {INITIAL}, w_k ~ N(0, 1), v_k ~ N(0, 1/K).  (b, c) The output is "
        f"multiplied by s and η = {rate:g}/s^2, from neurons in pairs that cancel (seed {PAIRED}): classification "
        f"error, and mean change of the overlaps Q_kl, at t = {T:g}.  Lines are theory, the equations for D → ∞; "
        f"points are simulations, the exact finite-D chain at D = {D}, mean ± standard error of {of_seeds(SEEDS)} from "
        f"the same state.  Grey band: oracle; thin line: chance.  In (c) the last point, s = {float(moved.scale):g}, "
        f"is at {above:.2g} times the line: the less overlaps move, the more of it is the fluctuation of a run, of "
        "order D^(-1/2)."
    )


def sentence(data: Mapping[str, xr.Dataset]) -> str:
    """The errors at the end, and how far the overlaps move."""
    ends = [f"{name} {float(data[f'{name.split()[0]}_theory'].classification_error[-1]):.4f}" for name in RULES]
    lazy = data["lazy_theory"]
    error, moved = lazy.classification_error, lazy.movement
    return (
        f"error at t = {T:g} {', '.join(ends)}; from phi = 0 it is {float(error[0]):.4f} at output scale 1 and "
        f"{float(error[-1]):.4f} at {LINES[-1]:g}, where the overlaps move {float(moved[-1] / moved[0]):.4f} times as "
        "far."
    )
