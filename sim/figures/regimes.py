"""Figure `regimes`: error against time at three dimensions, the equations and the exact chain.

Means of length D^a make the drift of the overlaps with them D^a times as large: the plateau at the start, of log D
time units at a = 0, takes D^-a log D of them, which at a = 1/2 is some sqrt(D) log D steps.  There a single step
moves the field of a whole cluster by eta v^2 |mean|^2/D of order one, and the equations, which average over steps,
hold for small eta only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.rules import LearningRule, OnlineSGD
from quenched.numerics.two_layer.flow import integrate, random_state
from quenched.sim.drawing.style import ERROR, TIME, chance, cues, marker, observable, styled
from quenched.sim.processes import Work
from quenched.sim.training import simulate

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["compute", "draw", "sentence"]

REGIMES: dict[str, Mixture] = {
    "XOR, low": Mixture.xor(0.5),
    "XOR, crossover": Mixture.xor(0.5, scaling=0.25),
    "XOR, high": Mixture.xor(0.5, scaling=0.5),
    "parity, mixed": Mixture.parity(0.5, scaling=(0.5, 0.0)),
    "three clusters, low": Mixture.three_clusters(0.5),
    "three clusters, crossover": Mixture.three_clusters(0.5, scaling=0.25),
    "three clusters, high": Mixture.three_clusters(0.5, scaling=0.5),
}
DIMENSIONS, NETWORK, SGD, SEEDS = (100, 1000, 10_000), TwoLayer(6, "relu"), OnlineSGD(lr=0.2), range(8)
INITIAL = 5  # seed of the initial states
COLUMNS = 4


def compute(work: Work) -> dict[str, xr.Dataset]:
    """Theory and runs for each regime and dimension."""
    cases = [(name, D) for name in REGIMES for D in DIMENSIONS]
    jobs = [
        (REGIMES[name], NETWORK, SGD, D, np.geomspace(max(1, 0.001 * D) / D, 300, 16), INITIAL, SEEDS)
        for name, D in cases
    ]
    found = work.map(at_dimension, jobs)
    return {
        f"{_stem(name, D)}_{kind}": found[i][j]
        for i, (name, D) in enumerate(cases)
        for j, kind in enumerate(("theory", "simulation"))
    }


def at_dimension(
    mixture: Mixture, network: TwoLayer, sgd: LearningRule, D: int, t: np.ndarray, initial: int, seeds: Sequence[int]
) -> tuple[xr.Dataset, xr.Dataset]:
    """The equations at this D, stiff where the means are long, and the chain, from the same state."""
    state = random_state(mixture, network, D, initial, readout_scale=2.0)
    runs = simulate(mixture, network, sgd, D, t, seeds, engine="overlaps", state=state)
    fine = np.geomspace(t[0], t[-1], 61)
    return integrate(mixture.finite(D), network, sgd, state, fine, method="BDF", rtol=1e-6), runs


def _stem(name: str, D: int) -> str:
    return f"{name.replace(', ', '_').replace(' ', '-')}_D{D}"


@styled
def draw(data: Mapping[str, xr.Dataset]) -> Figure:
    """A panel for each regime, on logarithmic time."""
    rows = -(-len(REGIMES) // COLUMNS)
    figure = Figure(figsize=(2.4 * COLUMNS + 0.4, 2.1 * rows + 0.6), layout="constrained")
    grid = figure.subplots(rows, COLUMNS, squeeze=False, sharex=True, sharey=True).ravel()
    cue = dict(zip(DIMENSIONS, cues(len(DIMENSIONS)), strict=True))
    for axes, name in zip(grid, REGIMES, strict=False):
        chance(axes)
        for D in DIMENSIONS:
            theory, runs = (data[f"{_stem(name, D)}_{kind}"] for kind in ("theory", "simulation"))
            observable(axes, theory, runs, "classification_error", cue[D])
        axes.set(xscale="log", title=name)
    for axes in grid[len(REGIMES) :]:
        axes.set_axis_off()
    for i, axes in enumerate(grid[: len(REGIMES)]):
        if i % COLUMNS == 0:
            axes.set_ylabel(ERROR)
        if i + COLUMNS >= len(REGIMES):
            axes.set_xlabel(TIME)
            axes.tick_params(labelbottom=True)
    legend = [Line2D([], [], **c.line, marker=c.marker, ms=3.4, mfc="white", label=f"D = {D}") for D, c in cue.items()]
    legend += [
        Line2D([], [], color="0.3", label="lines: order-parameter equations"),
        marker(label=f"points: simulation, mean ± s.e. of {len(SEEDS)} runs"),
    ]
    if len(REGIMES) < len(grid):
        grid[-1].legend(handles=legend, loc="center", fontsize="small")
    else:
        figure.legend(handles=legend, loc="outside lower center", ncols=len(legend))
    return figure


def sentence(data: Mapping[str, xr.Dataset]) -> str:
    """The errors at the end, at the largest D."""
    D = DIMENSIONS[-1]
    ends = []
    for name in REGIMES:
        theory, runs = (data[f"{_stem(name, D)}_{kind}"] for kind in ("theory", "simulation"))
        simulated = float(runs.classification_error[:, -1].mean())
        ends.append(f"{name} {float(theory.classification_error[-1]):.4f} ({simulated:.4f})")
    return f"relu, K = {NETWORK.K}, lr = {SGD.lr}: error at t = 300 and D = {D}, theory (chain): {', '.join(ends)}."
