"""Studies of learning dynamics, as figures of `quenched reproduce`: signal-to-noise regimes, layers, covariances.

Each is one function that writes its data (NetCDF, with all parameters in the attributes) and its picture (PNG) into a
folder, and returns in a sentence what there is to see.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from quenched.numerics.calculus.averages import activation_functions
from quenched.numerics.oracle import oracle_error
from quenched.numerics.problem.from_data import estimate
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.provenance import provenance
from quenched.numerics.problem.rules import OnlineSGD
from quenched.numerics.problem.state import OrderParameters
from quenched.numerics.two_layer.flow import integrate, random_state
from quenched.sim.error_curve import in_processes
from quenched.sim.samples import digits
from quenched.sim.training import simulate

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["FIGURES", "paired_state"]

Report = Callable[[float], None]


# --- signal-to-noise regimes
# --------------------------------------------------------------------------------------------------------------


REGIMES: dict[str, Mixture] = {
    "XOR, low": Mixture.xor(0.5),
    "XOR, crossover": Mixture.xor(0.5, scaling=0.25),
    "XOR, high": Mixture.xor(0.5, scaling=0.5),
    "parity, mixed": Mixture.parity(0.5, scaling=(0.5, 0.0)),
    "three clusters, low": Mixture.three_clusters(0.5),
    "three clusters, crossover": Mixture.three_clusters(0.5, scaling=0.25),
    "three clusters, high": Mixture.three_clusters(0.5, scaling=0.5),
}


def _regimes(folder: Path, processes: int, progress: Report) -> str:
    """Error against time at three dimensions: the equations with the means as they are at D, and the exact chain.

    Means of length D^a make the drift of the overlaps with them D^a times as large: the plateau at the start, of log D
    time units at a = 0, takes D^-a log D of them, which at a = 1/2 is some sqrt(D) log D steps.  There a single step
    moves the field of a whole cluster by eta v^2 |mean|^2/D of order one, and the equations, which average over steps,
    hold for small eta only.
    """
    from quenched.sim.figures import plot

    dimensions, network, sgd, seeds = (100, 1000, 10_000), TwoLayer(6, "relu"), OnlineSGD(lr=0.2), range(8)
    jobs = [
        (mixture, network, sgd, D, np.geomspace(max(1, 0.001 * D) / D, 300, 16), INITIAL, seeds)
        for mixture in REGIMES.values()
        for D in dimensions
    ]
    found = in_processes(_at_dimension, jobs, processes, progress)
    panels: dict[str, dict[str, tuple[xr.Dataset, xr.Dataset]]] = {}
    for index, name in enumerate(REGIMES):
        panels[name] = {}
        for j, D in enumerate(dimensions):
            theory, runs = panels[name][f"D = {D}"] = found[index * len(dimensions) + j]
            stem = f"regimes_{name.replace(', ', '_').replace(' ', '-')}_D{D}"
            _store(theory, folder / f"{stem}_theory.nc")
            _store(runs, folder / f"{stem}_simulation.nc")
    plot.save(plot.panels(panels, columns=4), folder / "regimes.png")
    ends = [
        f"{name} {float(line.classification_error[-1]):.4f} ({float(runs.classification_error[:, -1].mean()):.4f})"
        for name, lines in panels.items()
        for line, runs in [lines[f"D = {dimensions[-1]}"]]
    ]
    return (
        f"relu, K = {network.K}, lr = {sgd.lr}: error at t = 300 and D = {dimensions[-1]}, theory (chain): "
        f"{', '.join(ends)}."
    )


INITIAL = 5  # seed of the initial states of `_regimes`


def _at_dimension(
    mixture: Mixture, network: TwoLayer, sgd: OnlineSGD, D: int, t: np.ndarray, initial: int, seeds: Sequence[int]
) -> tuple[xr.Dataset, xr.Dataset]:
    """The equations at this D, stiff where the means are long, and the chain, from the same state."""
    state = random_state(mixture, network, D, initial, readout_scale=2.0)
    runs = simulate(mixture, network, sgd, D, t, seeds, engine="overlaps", state=state)
    fine = np.geomspace(t[0], t[-1], 61)
    return integrate(mixture.finite(D), network, sgd, state, fine, method="BDF", rtol=1e-6), runs


# --- two layers, one layer, lazy
# ----------------------------------------------------------------------------------------------------------


def paired_state(mixture: Mixture, network: TwoLayer, D: int, seed: int, readout_scale: float = 1.0) -> OrderParameters:
    """Random weights in pairs of equal neurons with opposite readouts, so that phi = 0; K must be even.

    >>> mixture, network = Mixture.xor(0.5), TwoLayer(4, "relu", output_scale=10.0)
    >>> from quenched.numerics import errors
    >>> round(errors(mixture, network, paired_state(mixture, network, 1000, seed=0)).pmse, 10)
    0.5
    """
    if network.K % 2:
        raise ValueError(f"network must have an even number of neurons, got K = {network.K}")
    half = random_state(mixture, replace(network, K=network.K // 2), D, seed, readout_scale=readout_scale)
    assert isinstance(half, OrderParameters)
    return OrderParameters(np.tile(half.M, 2), np.tile(half.Q, (2, 2)), np.concatenate([half.v, -half.v]))


def _layers(folder: Path, processes: int, progress: Report) -> str:
    """What is trained, and how lazily: relu on XOR.

    Left: both layers, the first alone, the second alone (random features with K features), from one state.  Right: a
    network with the output scale s and learning rates divided by s^2, from neurons in pairs that cancel: its function
    moves at the same speed whatever s, and its weights by 1/s.  As s grows the linearised network is left, its tangent
    kernel, which on XOR at this signal-to-noise ratio knows no better than chance.
    """
    import xarray as xr

    from quenched.sim.figures import plot

    mixture, D = Mixture.xor(0.4), 1000
    network, t = TwoLayer(8, "relu"), 200.0
    rules = {
        "both layers": OnlineSGD(0.5),
        "first layer": OnlineSGD(0.5, second_lr=0.0),
        "second layer": OnlineSGD(0.0, second_lr=0.5),
    }
    state = random_state(mixture, network, D, 3)
    scales = np.array([1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0])
    lazy_network = TwoLayer(16, "relu")
    jobs = [("layers", mixture, network, rule, D, t, state) for rule in rules.values()]
    for s in scales.tolist():
        scaled = replace(lazy_network, output_scale=s)
        begin = paired_state(mixture, scaled, D, 1)
        jobs.append(("lazy", mixture, scaled, OnlineSGD(0.5 / s**2), D, t, begin))
    found = in_processes(_trained, jobs, processes, progress)
    layers = {name: (line, runs) for name, (line, runs) in zip(rules, found, strict=False) if line is not None}
    lazy = [runs for _, runs in found[len(rules) :]]
    moved = [np.abs(run.Q.isel(time=-1) - run.Q.isel(time=0)).mean(("neuron", "neuron_")) for run in lazy]
    interpolation = xr.Dataset(
        {
            "classification_error": (("scale", "seed"), [run.classification_error[:, -1].values for run in lazy]),
            "pmse": (("scale", "seed"), [run.pmse[:, -1].values for run in lazy]),
            "movement": (("scale", "seed"), [values.values for values in moved]),
        },
        coords={"scale": scales},
        attrs=provenance(mixture=mixture, network=lazy_network, D=D, t=t, lr="0.5/scale^2", initial_seed=1),
    )
    for name, (theory, runs) in layers.items():
        stem = f"layers_{name.split()[0]}"
        _store(theory, folder / f"{stem}_theory.nc")
        _store(runs, folder / f"{stem}_simulation.nc")
    _store(interpolation, folder / "layers_lazy.nc")
    plot.save(plot.layers(layers, interpolation, float(oracle_error(mixture))), folder / "layers.png")
    ends = [f"{name} {float(theory.classification_error[-1]):.4f}" for name, (theory, _) in layers.items()]
    error = interpolation.classification_error.mean("seed")
    return (
        f"relu on XOR, sigma = {mixture.sigma}: error at t = {t:g} {', '.join(ends)}; K = 16 from phi = 0: "
        f"{float(error[0]):.4f} at output scale 1, {float(error[-1]):.4f} at {scales[-1]:g}, where the overlaps move "
        f"{float(interpolation.movement.mean('seed')[-1] / interpolation.movement.mean('seed')[0]):.3f} times as far."
    )


def _trained(
    kind: str, mixture: Mixture, network: TwoLayer, sgd: OnlineSGD, D: int, t: float, state: OrderParameters
) -> tuple[xr.Dataset | None, xr.Dataset]:
    """Theory (for few neurons) and the exact chain."""
    runs = simulate(mixture, network, sgd, D, np.linspace(0, t, 16), range(8), engine="overlaps", state=state)
    return integrate(mixture, network, sgd, state, np.linspace(0, t, 61)) if kind == "layers" else None, runs


# --- real images
# ----------------------------------------------------------------------------------------------------------


def _digits(folder: Path, processes: int, progress: Report) -> str:
    """Odd against even digits: the equations on mixtures fitted with ever more of the covariance, SGD on the images.

    All start from the same weights.  The D = 64 directions of the images are few: SGD on samples of a mixture is off
    its equations by O(1/D), points beside the line of "full".
    """
    from quenched.sim.figures import plot

    data = digits()
    network, sgd, t = TwoLayer(4, "relu"), OnlineSGD(lr=0.1), 100.0
    D, seeds, times = data.X.shape[1], range(10), np.linspace(0, t, 21)
    rng = np.random.default_rng(0)
    W, v = rng.standard_normal((network.K, D)), rng.standard_normal(network.K) / np.sqrt(network.K)
    fits = {
        "isotropic": estimate(*data),
        "shared": estimate(*data, covariance="shared"),
        "full": estimate(*data, covariance="full", shrinkage="ledoit-wolf", project=True),
    }
    mixtures = {name: Mixture(**fit.arguments) for name, fit in fits.items()}
    runs = {
        f"theory_{name}": integrate(mixtures[name], network, sgd, fit.state(W, v), t * np.linspace(0, 1, 51) ** 2)
        for name, fit in fits.items()
    }
    full = mixtures["full"]
    runs["mixture"] = simulate(full, network, sgd, D, times, seeds, state=fits["full"].state(W, v))
    runs["images"] = _on_images(data.X, data.label, network, sgd, times, W, v, seeds)
    progress(1.0)
    for name, run in runs.items():
        _store(run, folder / f"digits_{name}.nc")
    assert full.spectrum is not None
    captions = {
        "theory_isotropic": "theory, isotropic clusters",
        "theory_shared": "theory, one covariance for all clusters",
        "theory_full": "theory, one for each, projected on commuting ones",
        "mixture": f"SGD on samples of the latter, D = {D}",
        "images": "SGD on the images, error on held-out images",
    }
    plot.save(plot.comparison({captions[name]: run for name, run in runs.items()}), folder / "digits.png")
    final = {name: float(run.classification_error.isel(time=-1).mean()) for name, run in runs.items()}
    return (
        f"odd against even, relu, K = {network.K}: error at t = {t:g} {final['theory_isotropic']:.4f} in theory with "
        f"isotropic clusters, {final['theory_shared']:.4f} with a shared covariance, {final['theory_full']:.4f} with "
        f"one for each (of whose squared norm {full.spectrum.discarded:.0%} does not commute and is left out); "
        f"{final['mixture']:.4f} on samples of that mixture, {final['images']:.4f} on held-out images."
    )


def _on_images(
    X: np.ndarray,
    label: np.ndarray,
    network: TwoLayer,
    sgd: OnlineSGD,
    times: np.ndarray,
    W: np.ndarray,
    v: np.ndarray,
    seeds: Sequence[int],
) -> xr.Dataset:
    """SGD from weights W (K, D) and v (K,) on images drawn with replacement from four fifths of X (n, D).

    The errors are those on the other fifth, by seed; each seed splits and draws anew.
    """
    import xarray as xr

    g, dg = activation_functions(network.activation)
    n, D = X.shape
    steps = np.rint(times * D).astype(int)
    errors = np.empty((2, len(seeds), len(times)))
    for run, seed in zip(errors.swapaxes(0, 1), seeds, strict=True):
        rng = np.random.default_rng(seed)
        test, train = np.split(rng.permutation(n), [n // 5])
        w, u = W.copy(), v.copy()
        for j, (start, stop) in enumerate(zip([0, *steps], steps, strict=False)):
            for i in rng.choice(train, stop - start):
                field = w @ X[i] / np.sqrt(D)
                delta = u @ g(field) - label[i]
                step = sgd.eta / np.sqrt(D) * u * delta * dg(field)
                u = u - sgd.eta_v / D * delta * g(field)
                w -= np.outer(step, X[i])
            output = g(X[test] @ w.T / np.sqrt(D)) @ u
            run[0, j] = ((output - label[test]) ** 2).mean() / 2
            run[1, j] = (output * label[test] < 0).mean() + (output == 0).mean() / 2
    return xr.Dataset(
        {"pmse": (("seed", "time"), errors[0]), "classification_error": (("seed", "time"), errors[1])},
        coords={"seed": list(seeds), "time": times},
        attrs=provenance(network=network, sgd=sgd, seeds=list(seeds), data="scikit-learn digits, odd against even"),
    )


def _store(dataset: xr.Dataset, path: Path) -> None:
    dataset.to_netcdf(path, engine="h5netcdf")


FIGURES: dict[str, Callable[[Path, int, Report], str]] = {
    "regimes": _regimes,
    "layers": _layers,
    "digits": _digits,
}
