"""Figure `regimes`: error against time at three dimensions, the equations and the exact chain, and where they agree.

Means of length D^a make the drift of the overlaps with them D^a times as large: the plateau at the start, of log D
time units at a = 0, takes D^-a log D of them, which at a = 1/2 is some sqrt(D) log D steps.  A single step moves the
field of a whole cluster by eta v^2 |mean|^2/D: nothing at a = 0, D^(-1/2) at a = 1/4, of order one at a = 1/2.  There
the equations, which average over steps, do not hold at a fixed rate as D grows, but for eta -> 0: shown beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.rules import OnlineSGD
from quenched.numerics.two_layer.flow import integrate, random_state
from quenched.sim.drawing.captions import apart, of_network, of_seeds, sizes
from quenched.sim.drawing.style import (
    ERROR,
    PAGE,
    chance,
    key,
    letters,
    marker,
    observable,
    ordered,
    power_of_ten,
    styled,
)
from quenched.sim.processes import Work
from quenched.sim.training import simulate

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Regime", "at_dimension", "caption", "compute", "draw", "sentence"]


class Regime(NamedTuple):
    """A panel: its mixture, its learning rate, and whether the equations hold there at fixed rate as D grows."""

    mixture: Mixture
    lr: float
    holds: bool = True


SIGMA, RATE, SMALL = 0.5, 0.2, 0.01  # noise; learning rates
_XOR, _THREE = Mixture.xor, Mixture.three_clusters
_MIXED = Mixture.parity(SIGMA, scaling=(0.5, 0.0))
REGIMES: dict[str, Regime] = {
    "XOR, $1$": Regime(_XOR(SIGMA), RATE),
    "XOR, $D^{1/4}$": Regime(_XOR(SIGMA, scaling=0.25), RATE),
    "XOR, $D^{1/2}$": Regime(_XOR(SIGMA, scaling=0.5), RATE, holds=False),
    "XOR, $D^{1/2}$, small rate": Regime(_XOR(SIGMA, scaling=0.5), SMALL),
    "three clusters, $1$": Regime(_THREE(SIGMA), RATE),
    "three clusters, $D^{1/4}$": Regime(_THREE(SIGMA, scaling=0.25), RATE),
    "three clusters, $D^{1/2}$": Regime(_THREE(SIGMA, scaling=0.5), RATE, holds=False),
    "three clusters, $D^{1/2}$, small rate": Regime(_THREE(SIGMA, scaling=0.5), SMALL),
    "parity, $D^{1/2}$ and $1$": Regime(_MIXED, RATE, holds=False),
    "parity, $D^{1/2}$ and $1$, small rate": Regime(_MIXED, SMALL),
}
DIMENSIONS, NETWORK, SEEDS = (100, 1000, 10_000), TwoLayer(6, "relu"), range(10)
INITIAL, SCALE = 5, 2.0  # seed of the initial states and scale of their readout
T = 300.0
COLUMNS = 4


def compute(work: Work) -> dict[str, xr.Dataset]:
    """Theory and runs for each regime and dimension, largest first."""
    cases = [(name, D) for D in reversed(DIMENSIONS) for name in REGIMES]
    found = work.map(at_dimension, [(*REGIMES[name][:2], D) for name, D in cases])
    return {
        f"{_stem(name, D)}_{kind}": found[i][j]
        for i, (name, D) in enumerate(cases)
        for j, kind in enumerate(("theory", "simulation"))
    }


def at_dimension(mixture: Mixture, lr: float, D: int) -> tuple[xr.Dataset, xr.Dataset]:
    """The equations at this D, stiff where the means are long, and the chain, from the same state."""
    sgd = OnlineSGD(lr)
    t = np.geomspace(max(1, 0.001 * D) / D, T, 16)
    state = random_state(mixture, NETWORK, D, INITIAL, readout_scale=SCALE)
    runs = simulate(mixture, NETWORK, sgd, D, t, SEEDS, engine="overlaps", state=state)
    fine = np.geomspace(t[0], t[-1], 61)
    return integrate(mixture.finite(D), NETWORK, sgd, state, fine, method="BDF", rtol=1e-6), runs


def _stem(name: str, D: int) -> str:
    """Part of a file's name."""
    plain = name.translate(str.maketrans("", "", "$^{},")).replace("/", "-").replace(" ", "-")
    return f"{plain}_D{D}"


@styled
def draw(data: Mapping[str, xr.Dataset]) -> Figure:
    """A panel for each regime, on logarithmic time; panels where the equations do not hold say so."""
    rows = -(-len(REGIMES) // COLUMNS)
    figure = Figure(figsize=(PAGE, 1.75 * rows), layout="constrained")
    grid = figure.subplots(rows, COLUMNS, squeeze=False, sharex=True, sharey=True).ravel()
    letters(grid[: len(REGIMES)])
    look = dict(zip(DIMENSIONS, ordered(len(DIMENSIONS)), strict=True))
    for axes, (name, regime) in zip(grid, REGIMES.items(), strict=False):
        chance(axes)
        for D, cue in look.items():
            theory, runs = (data[f"{_stem(name, D)}_{kind}"] for kind in ("theory", "simulation"))
            observable(axes, theory, runs, "classification_error", cue)
        task, length = name.split(", ")[:2]
        axes.set(xscale="log", ylim=(-0.02, 0.85))
        axes.set_title(f"{task}, |mean| $=$ {length}", loc="right")
        told = rf"$\eta = {regime.lr:g}$" + ("" if regime.holds else "\nequations do not hold:\nsteps of order one")
        axes.text(0.97, 0.96, told, transform=axes.transAxes, color="0.3", fontsize=7, ha="right", va="top")
        if not regime.holds:
            axes.set_facecolor("0.95")
    for axes in grid[len(REGIMES) :]:
        axes.set_axis_off()
    for i, axes in enumerate(grid[: len(REGIMES)]):
        if i % COLUMNS == 0:
            axes.set_ylabel(ERROR)
        if i + COLUMNS >= len(REGIMES):
            axes.set_xlabel("time $t = n/D$")
            axes.tick_params(labelbottom=True)
    legend = [key(cue, f"$D = {power_of_ten(D)}$") for D, cue in look.items()]
    legend += [Line2D([], [], color="0.3", label="lines: equations"), marker(label="points: chain")]
    if len(REGIMES) < len(grid):
        grid[len(REGIMES)].legend(handles=legend, loc="center left")
    else:
        figure.legend(handles=legend, loc="outside lower center", ncols=len(legend))
    return figure


def caption(data: Mapping[str, xr.Dataset]) -> str:
    """Panels, parameters, runs."""
    return (
        "Classification error against time in units of D steps, for means of the length above each panel (parity: one "
        f"coordinate of each length), σ = {SIGMA:g}: {of_network(NETWORK)}, both layers, online SGD at the η in the "
        f"panel.  Lines are theory: the order-parameter equations with the means of D = {sizes(DIMENSIONS)}; points "
        f"are simulations: the exact finite-D chain at the same D, mean ± standard error of {of_seeds(SEEDS)}; both "
        f"from one random state of seed {INITIAL}, w_k ~ N(0, 1), v_k ~ N(0, {SCALE**2:g}/K).  Grey panels: the "
        "equations do not hold, since with means of length D^(1/2) a step moves the field of a cluster by η v^2 "
        f"|mean|^2/D, of order one at any D; the panel after each has the same problem at η = {SMALL:g}, where they do."
    )


def sentence(data: Mapping[str, xr.Dataset]) -> str:
    """How far theory and runs are apart along the way, at the largest D."""
    D = DIMENSIONS[-1]
    parts = []
    for name, regime in REGIMES.items():
        theory, runs = (data[f"{_stem(name, D)}_{kind}"].classification_error for kind in ("theory", "simulation"))
        off = float(apart(theory, runs, "time", "linear").max())
        plain = name.replace(", small rate", "").replace("$", "").replace("{", "").replace("}", "")
        task, length = plain.split(", ")
        parts.append(f"{task}, |mean| = {length}, η = {regime.lr:g}: {off:.3f} (end {float(runs[:, -1].mean()):.4f})")
    return f"largest distance of lines and points at D = {D} (error at the end): {'; '.join(parts)}."
