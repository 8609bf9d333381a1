"""The figures of `quenched reproduce`: what is computed, at which parameters, from which seeds.

Each figure is one function that writes its data (NetCDF, with all parameters in the attributes) and its picture (PNG)
into a folder, and returns in a sentence what there is to see.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from quenched.numerics.oracle import oracle_error
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.provenance import provenance
from quenched.numerics.problem.rules import OnlineSGD
from quenched.numerics.problem.state import OrderParameters
from quenched.numerics.two_layer.flow import integrate, random_state
from quenched.sim.error_curve import error_curve, in_processes
from quenched.sim.figures import asymptotic, lazy_methods, plot, studies, width
from quenched.sim.fluctuations import growth_rate, learning_times, log_law, moments, plateau
from quenched.sim.training import simulate

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["FIGURES", "MAIN", "make"]

Report = Callable[[float], None]


def make(figure: str, folder: Path, processes: int = 1, progress: Report | None = None) -> str:
    """Compute one of `FIGURES` into `folder`; `progress` is called with the fraction done.

    Returns what is to be said about it.  ValueError: no such figure.
    """
    if figure not in FIGURES:
        raise ValueError(f"figure must be one of {', '.join(FIGURES)}, got {figure!r}")
    folder.mkdir(parents=True, exist_ok=True)
    return FIGURES[figure](folder, processes, progress or (lambda fraction: None))


def _dynamics(folder: Path, processes: int, progress: Report) -> str:
    """Theory and simulation against time: relu networks with K = 4 and K = 8 neurons on XOR, one initial state each."""
    mixture, sgd, D, t = Mixture.xor(0.4), OnlineSGD(lr=0.5), 1000, 120.0
    cases = {8: 3, 4: 8}  # K: seed of the initial state; from these the network succeeds, and not by a hair
    jobs = [(mixture, TwoLayer(K, "relu"), sgd, D, t, initial, range(8)) for K, initial in cases.items()]
    curves = dict(zip(cases, in_processes(_learning_curve, jobs, processes, progress), strict=True))
    theory, simulation = ({f"K = {K}": curves[K][i] for K in sorted(curves)} for i in (0, 1))
    for K, (line, points) in curves.items():
        _store(line, folder / f"dynamics_K{K}_theory.nc")
        _store(points, folder / f"dynamics_K{K}_simulation.nc")
    oracle = float(oracle_error(mixture))
    plot.save(plot.dynamics(theory, simulation, oracle, clusters=[0, 2]), folder / "dynamics.png")
    final = [
        f"{float(line.classification_error[-1]):.4f} (simulated "
        f"{float(simulation[title].classification_error[:, -1].mean()):.4f}) for {title}"
        for title, line in theory.items()
    ]
    return (
        f"relu on XOR, sigma = {mixture.sigma}, lr = {sgd.lr}: error at t = {t:g} {', '.join(final)}; "
        f"oracle {oracle:.4f}."
    )


def _learning_curve(
    mixture: Mixture, network: TwoLayer, sgd: OnlineSGD, D: int, t: float, initial: int, seeds: Sequence[int]
) -> tuple[xr.Dataset, xr.Dataset]:
    """Theory, and simulations that start from the same order parameters."""
    state = random_state(mixture, network, D, initial)
    theory = integrate(mixture, network, sgd, state, np.linspace(0, t, 61))
    return theory, simulate(mixture, network, sgd, D, np.linspace(0, t, 25), seeds, state=state)


def _headline(folder: Path, processes: int, progress: Report) -> str:
    """Final error against noise: a relu network with K = 4 neurons on XOR, beside the oracle.

    The readout starts large, v_k ~ N(0, 4): from a small one the plateau lasts ten times longer at sigma = 1.
    """
    network, sgd, D, t, readout_scale = TwoLayer(4, "relu"), OnlineSGD(lr=0.1), 500, 800.0, 4.0
    theory = error_curve(
        Mixture.xor(1.0),
        np.linspace(0.2, 1.0, 9),
        network=network,
        sgd=sgd,
        t=t,
        D=D,
        initial=range(12),
        readout_scale=readout_scale,
        rtol=1e-7,
        processes=processes,
        progress=lambda fraction: progress(fraction / 4),
    )
    some = theory.isel(sigma=slice(2, None, 2))
    best = some.initial[some.final_error.argmin("initial")]
    jobs = []
    for sigma, seed in zip(some.sigma.values, best.values, strict=True):
        mixture = Mixture.xor(sigma)
        state = random_state(mixture, network, D, int(seed), readout_scale=readout_scale)
        jobs.append((mixture, network, sgd, D, [t], range(5), state))
    runs = in_processes(_simulate, jobs, processes, lambda fraction: progress((1 + 3 * fraction) / 4))
    simulation = _concat([run.isel(time=0) for run in runs], some.sigma)
    _store(theory, folder / "headline_theory.nc")
    _store(simulation, folder / "headline_simulation.nc")
    plot.save(plot.curve(theory, simulation), folder / "headline.png")
    stuck = float((theory.final_error > theory.classification_error.sel(learner="two-layer") + 0.05).mean())
    return (
        f"relu, K = {network.K}, on XOR, lr = {sgd.lr}, t = {t:g}: the curve is the best of {theory.sizes['initial']} "
        f"initial states for each sigma; {stuck:.0%} of all runs end 0.05 or more above it, stuck or still on the way."
    )


def _simulate(
    mixture: Mixture,
    network: TwoLayer,
    sgd: OnlineSGD,
    D: int,
    t: Sequence[float],
    seeds: Sequence[int],
    state: OrderParameters,
) -> xr.Dataset:
    return simulate(mixture, network, sgd, D, t, seeds, state=state)


def _concat(runs: Sequence[xr.Dataset], sigma: xr.DataArray) -> xr.Dataset:
    import xarray as xr

    return xr.concat(runs, sigma, combine_attrs="drop_conflicts")


def _fluctuations(folder: Path, processes: int, progress: Report) -> str:
    """Variances of the order parameters times D, which converge, and the time that a plateau takes, which does not.

    Left: relu, K = 2, on XOR, all runs from one state.  The plateau: |x|, K = 2, with a fixed readout, where M = 0 is
    a fixed point and only the fluctuations of finite D lead away from it.
    """
    import xarray as xr

    mixture, network, sgd = Mixture.xor(0.4), TwoLayer(2, "relu"), OnlineSGD(lr=0.5)
    state, times = random_state(mixture, network, 1000, 1), np.linspace(0.5, 10, 20)
    assert isinstance(state, OrderParameters)
    sizes = {10: 16_000, 30: 8000, 100: 4000, 1000: 2000, 10_000: 1000}
    found = {}
    for i, (D, runs) in enumerate(sizes.items()):
        found[D] = moments(mixture, network, sgd, D, times, range(runs), state)
        progress((i + 1) / 9)
        _store(found[D], folder / f"fluctuations_D{D}.nc")

    noise, even, frozen = Mixture.xor(0.5), TwoLayer(2, "abs"), OnlineSGD(lr=0.5, second_lr=0.0)
    flat = plateau(noise, even, frozen, [1.0, -1.0])
    rate = growth_rate(noise, even, frozen, flat)
    counts = {100: 1000, 1000: 600, 10_000: 200, 100_000: 40}
    learning = xr.DataArray(
        np.full((len(counts), max(counts.values())), np.nan), coords={"D": list(counts)}, dims=("D", "run"), name="time"
    )
    for i, (D, runs) in enumerate(counts.items()):
        learning[i, :runs] = learning_times(noise, even, frozen, D, range(runs), flat, level=0.5, t=200.0)
        progress((i + 6) / 9)
    result = learning.to_dataset().assign_attrs(
        provenance(mixture=noise, network=even, sgd=frozen, initial_state=flat, growth_rate=rate)
    )
    _store(result, folder / "fluctuations_plateau.nc")
    shown = {"M[0,0]": "$M_{11}$", "Q[0,0]": "$Q_{11}$", "Q[0,1]": "$Q_{12}$", "v[0]": "$v_1$"}
    plot.save(plot.fluctuations(found, shown, result, rate), folder / "fluctuations.png")
    slope, error = log_law(learning)
    return (
        f"D Var of relu networks converges; on the plateau of |x| networks the learning time grows by {slope:.3f} ± "
        f"{error:.3f} per unit of ln D, {1 / (2 * rate):.3f} by the growth rate of the equations."
    )


def _store(dataset: xr.Dataset, path: Path) -> None:
    dataset.to_netcdf(path, engine="h5netcdf")


FIGURES: dict[str, Callable[[Path, int, Report], str]] = (
    {
        "dynamics": _dynamics,
        "headline": _headline,
        "fluctuations": _fluctuations,
    }
    | studies.FIGURES
    | lazy_methods.FIGURES
    | asymptotic.FIGURES
    | width.FIGURES
)
"""Every figure, by name."""

MAIN = ("dynamics", "headline", "digits", "comparison")
"""Those that `quenched reproduce` makes when not told which: five minutes.  All of them take about an hour."""
