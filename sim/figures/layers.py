"""Figure `layers`: what is trained, and how lazily: relu on XOR.

Left: both layers, the first alone, the second alone (random features with K features), from one state.  Right: a
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

from quenched.numerics.oracle import oracle_error
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.provenance import provenance
from quenched.numerics.problem.rules import LearningRule, OnlineSGD
from quenched.numerics.problem.state import OrderParameters
from quenched.numerics.problem.variables import described
from quenched.numerics.two_layer.flow import integrate, random_state
from quenched.sim.drawing.style import (
    BLUE,
    ERROR,
    LEVEL,
    POINT,
    TIME,
    chance,
    cues,
    log_ticks,
    mean_and_error,
    observable,
    styled,
)
from quenched.sim.processes import Work
from quenched.sim.training import simulate

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["compute", "draw", "paired_state", "sentence"]

MIXTURE, D, T = Mixture.xor(0.4), 1000, 200.0
NETWORK, LAZY = TwoLayer(8, "relu"), TwoLayer(16, "relu")
RULES = {
    "both layers": OnlineSGD(0.5),
    "first layer": OnlineSGD(0.5, second_lr=0.0),
    "second layer": OnlineSGD(0.0, second_lr=0.5),
}
SCALES = np.array([1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0])


def paired_state(mixture: Mixture, network: TwoLayer, D: int, seed: int, readout_scale: float = 1.0) -> OrderParameters:
    """Random weights in pairs of equal neurons with opposite readouts, so that phi = 0; K must be even.

    >>> mixture, network = Mixture.xor(0.5), TwoLayer(4, "relu", output_scale=10.0)
    >>> from quenched.numerics import errors
    >>> round(errors(mixture, network, paired_state(mixture, network, 1000, seed=0)).pmse, 10)
    0.5
    """
    if network.K % 2:
        raise ValueError(f"network must have an even number of neurons, got K = {network.K}")
    if mixture.spectrum is not None:
        raise ValueError("mixture must have isotropic inputs, got a spectrum")
    half = random_state(mixture, replace(network, K=network.K // 2), D, seed, readout_scale=readout_scale)
    M, Q, v = half.M, half.Q, half.v  # type: ignore[union-attr]  # a state of isotropic inputs has them
    return OrderParameters(np.tile(M, 2), np.tile(Q, (2, 2)), np.concatenate([v, -v]))


def compute(work: Work) -> dict[str, xr.Dataset]:
    """Theory and runs for each rule, runs for each output scale."""
    import xarray as xr

    state = random_state(MIXTURE, NETWORK, D, 3)
    jobs = [("layers", MIXTURE, NETWORK, rule, D, T, state) for rule in RULES.values()]
    for s in SCALES.tolist():
        scaled = replace(LAZY, output_scale=s)
        jobs.append(("lazy", MIXTURE, scaled, OnlineSGD(0.5 / s**2), D, T, paired_state(MIXTURE, scaled, D, 1)))
    found = work.map(trained, jobs)
    lazy = [runs for _, runs in found[len(RULES) :]]
    moved = [np.abs(run.Q.isel(time=-1) - run.Q.isel(time=0)).mean(("neuron", "neuron_")).values for run in lazy]
    interpolation = xr.Dataset(
        {
            "classification_error": (("scale", "seed"), [run.classification_error[:, -1].values for run in lazy]),
            "pmse": (("scale", "seed"), [run.pmse[:, -1].values for run in lazy]),
            "movement": (("scale", "seed"), moved),
        },
        coords={"scale": SCALES},
        attrs=provenance(mixture=MIXTURE, network=LAZY, D=D, t=T, lr="0.5/scale^2", initial_seed=1),
    )
    data = {"lazy": described(interpolation)}
    for name, (theory, runs) in zip(RULES, found, strict=False):
        data |= {f"{name.split()[0]}_simulation": runs} | (
            {} if theory is None else {f"{name.split()[0]}_theory": theory}
        )
    return data


def trained(
    kind: str, mixture: Mixture, network: TwoLayer, sgd: LearningRule, D: int, t: float, state: OrderParameters
) -> tuple[xr.Dataset | None, xr.Dataset]:
    """Theory (for few neurons) and the exact chain."""
    runs = simulate(mixture, network, sgd, D, np.linspace(0, t, 16), range(8), engine="overlaps", state=state)
    return integrate(mixture, network, sgd, state, np.linspace(0, t, 61)) if kind == "layers" else None, runs


@styled
def draw(data: Mapping[str, xr.Dataset]) -> Figure:
    """Left: error against time by what is trained.  Middle and right: final error, movement of Q, by output scale."""
    lazy, oracle = data["lazy"], float(oracle_error(MIXTURE))
    figure = Figure(figsize=(8.6, 3.4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    for cue, name in zip(cues(len(RULES)), RULES, strict=True):
        theory, runs = (data[f"{name.split()[0]}_{kind}"] for kind in ("theory", "simulation"))
        observable(left, theory, runs, "classification_error", cue)
        left.plot([], [], **cue.line, marker=cue.marker, ms=3.4, mfc="white", label=name)
    left.axhline(oracle, label="oracle", **LEVEL)
    left.set(xlabel=TIME, ylabel=ERROR, ylim=(0, 0.54), title="what is trained")
    left.legend(loc="center right")
    for axes, name, label in (
        (middle, "classification_error", ERROR),
        (right, "movement", r"mean $|Q_{kl}(t) - Q_{kl}(0)|$"),
    ):
        mean, error = mean_and_error(lazy[name])
        axes.errorbar(lazy.scale, mean, error, color=BLUE, **{**POINT, "ls": "-"})
        axes.set(xlabel="output scale  s", ylabel=label, xscale="log")
        log_ticks(axes.xaxis, (1, 2, 4))
    middle.axhline(oracle, **LEVEL)
    chance(middle)
    middle.set(ylim=(0, 0.54), title="from feature learning to lazy")
    right.set(yscale="log", title="how far the overlaps move")
    return figure


def sentence(data: Mapping[str, xr.Dataset]) -> str:
    """The errors at the end, and how far the overlaps move."""
    ends = [f"{name} {float(data[f'{name.split()[0]}_theory'].classification_error[-1]):.4f}" for name in RULES]
    error, moved = data["lazy"].classification_error.mean("seed"), data["lazy"].movement.mean("seed")
    return (
        f"relu on XOR, sigma = {MIXTURE.sigma}: error at t = {T:g} {', '.join(ends)}; K = {LAZY.K} from phi = 0: "
        f"{float(error[0]):.4f} at output scale 1, {float(error[-1]):.4f} at {SCALES[-1]:g}, where the overlaps move "
        f"{float(moved[-1] / moved[0]):.3f} times as far."
    )
