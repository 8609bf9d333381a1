"""Figure `dynamics`: theory and simulation against time, relu networks with K = 4 and K = 8 neurons on XOR."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from quenched.numerics.oracle import oracle_error
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.rules import LearningRule, OnlineSGD
from quenched.numerics.problem.schedules import rate_text
from quenched.numerics.two_layer.flow import integrate, random_state
from quenched.sim.drawing import plot
from quenched.sim.drawing.captions import listed, of_rule, of_seeds
from quenched.sim.processes import Work
from quenched.sim.training import simulate

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["caption", "compute", "draw", "sentence"]

MIXTURE, SGD, D, T = Mixture.xor(0.4), OnlineSGD(lr=0.5), 1000, 120.0
SEEDS, CLUSTERS = range(5), (0, 2)  # clusters: whose overlaps are shown
CASES = {8: 3, 4: 8}  # K: seed of the initial state; from these the network succeeds, and not by a hair


def compute(work: Work) -> dict[str, xr.Dataset]:
    """Theory, and simulations that start from the same order parameters, for each K."""
    jobs = [(MIXTURE, TwoLayer(K, "relu"), SGD, D, T, initial, SEEDS) for K, initial in CASES.items()]
    found = dict(zip(CASES, work.map(learning_curve, jobs), strict=True))
    return {f"K{K}_{kind}": found[K][i] for K in sorted(CASES) for i, kind in enumerate(("theory", "simulation"))}


def learning_curve(
    mixture: Mixture, network: TwoLayer, sgd: LearningRule, D: int, t: float, initial: int, seeds: Sequence[int]
) -> tuple[xr.Dataset, xr.Dataset]:
    """The equations at 61 times, and runs of the same problem from the same state at 25."""
    state = random_state(mixture, network, D, initial)
    theory = integrate(mixture, network, sgd, state, np.linspace(0, t, 61))
    return theory, simulate(mixture, network, sgd, D, np.linspace(0, t, 25), seeds, state=state)


def draw(data: Mapping[str, xr.Dataset]) -> Figure:
    """A column for each K, every second of the four clusters."""
    titles = {K: rf"$K = {K}$ relu, $\sigma = {MIXTURE.sigma:g}$, $\eta = {rate_text(SGD.lr)}$" for K in sorted(CASES)}
    theory, runs = ({title: data[f"K{K}_{kind}"] for K, title in titles.items()} for kind in ("theory", "simulation"))
    return plot.dynamics(theory, runs, float(oracle_error(MIXTURE)), clusters=CLUSTERS)


def caption(data: Mapping[str, xr.Dataset]) -> str:
    """Panels, parameters, runs."""
    starts = " and ".join(f"{CASES[K]} (K = {K})" for K in sorted(CASES))
    return (
        f"Learning XOR, four clusters at ±e1 (label -1) and ±e2 (+1), σ = {MIXTURE.sigma:g}, by two-layer relu "
        f"networks with K = {listed(sorted(CASES))} (from the left), both layers trained by {of_rule(SGD)}, time in "
        "units of D steps.  From the top: half the mean squared error; the classification error, grey band: the "
        "oracle, which knows the means; the overlaps M_ak = w_k·m_a/√D of every neuron k with the means m_a of "
        f"clusters {listed(a + 1 for a in CLUSTERS)} (those of the others are their negatives); the squared norms Q_kk "
        "= |w_k|^2/D of every neuron.  Lines are theory, the equations for D → ∞; points are simulations of vectors at "
        f"D = {D}, mean ± standard error of {of_seeds(SEEDS)}, all from the order parameters of one random state, of "
        f"seed {starts}, w_k ~ N(0, 1), v_k ~ N(0, 1/K)."
    )


def sentence(data: Mapping[str, xr.Dataset]) -> str:
    """The errors at the end."""
    final = [
        f"{float(data[f'K{K}_theory'].classification_error[-1]):.4f} (simulated "
        f"{float(data[f'K{K}_simulation'].classification_error[:, -1].mean()):.4f}) for K = {K}"
        for K in sorted(CASES)
    ]
    return (
        f"relu on XOR, sigma = {MIXTURE.sigma}, lr = {rate_text(SGD.lr)}: error at t = {T:g} {', '.join(final)}; "
        f"oracle {float(oracle_error(MIXTURE)):.4f}."
    )
