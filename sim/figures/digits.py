"""Figure `digits`: odd against even digits, the equations on mixtures fitted with ever more of the covariance, and SGD.

All start from the same weights.  The D = 64 directions of the images are few: SGD on samples of a mixture is off
its equations by O(1/D), points beside the line of "full".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from quenched.numerics.averages.activations import activation_functions
from quenched.numerics.oracle import oracle_error
from quenched.numerics.problem.from_data import estimate
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.provenance import provenance
from quenched.numerics.problem.rules import LearningRule, OnlineSGD
from quenched.numerics.problem.variables import described
from quenched.numerics.two_layer.flow import integrate
from quenched.sim.figures import plot
from quenched.sim.processes import Work
from quenched.sim.samples import digits
from quenched.sim.training import simulate

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["compute", "draw", "on_images", "sentence"]

NETWORK, SGD, T, SEEDS = TwoLayer(4, "relu"), OnlineSGD(lr=0.1), 100.0, range(10)
CAPTIONS = {
    "theory_isotropic": "theory, isotropic clusters",
    "theory_shared": "theory, one covariance for all clusters",
    "theory_full": "theory, one for each, projected on commuting ones",
    "mixture": "SGD on samples of the latter, D = 64",
    "images": "SGD on the images, error on held-out images",
}


def compute(work: Work) -> dict[str, xr.Dataset]:
    """The equations for three fits, runs on samples of the last, and on the images."""
    return dict(zip(CAPTIONS, work.map(_one, [(name,) for name in CAPTIONS]), strict=True))


def _one(name: str) -> xr.Dataset:
    data = digits()
    D, times = data.X.shape[1], np.linspace(0, T, 21)
    rng = np.random.default_rng(0)
    W, v = rng.standard_normal((NETWORK.K, D)), rng.standard_normal(NETWORK.K) / np.sqrt(NETWORK.K)
    if name == "images":
        return on_images(data.X, data.label, NETWORK, SGD, times, (W, v), SEEDS)
    how = {
        "theory_isotropic": {},
        "theory_shared": {"covariance": "shared"},
    }.get(name, {"covariance": "full", "shrinkage": "ledoit-wolf", "project": True})
    fit = estimate(*data, **how)
    mixture, state = Mixture(**fit.arguments), fit.state(W, v)
    if name == "mixture":
        return simulate(mixture, NETWORK, SGD, D, times, SEEDS, state=state)
    found = integrate(mixture, NETWORK, SGD, state, T * np.linspace(0, 1, 51) ** 2)
    oracle = oracle_error(mixture)
    return found.assign_attrs(
        discarded=float(mixture.law.discarded),
        oracle=float(oracle.value),
        oracle_error=oracle.error,
    )


def on_images(
    X: np.ndarray,
    label: np.ndarray,
    network: TwoLayer,
    sgd: LearningRule,
    times: np.ndarray,
    weights: tuple[np.ndarray, np.ndarray],
    seeds: Sequence[int],
) -> xr.Dataset:
    """SGD from `weights`, W (K, D) and v (K,), on images drawn with replacement from four fifths of X (n, D).

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
        w, u = (part.copy() for part in weights)
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
    return described(
        xr.Dataset(
            {"pmse": (("seed", "time"), errors[0]), "classification_error": (("seed", "time"), errors[1])},
            coords={"seed": list(seeds), "time": times},
            attrs=provenance(network=network, sgd=sgd, seeds=list(seeds), data="scikit-learn digits, odd against even"),
        )
    )


def draw(data: Mapping[str, xr.Dataset]) -> Figure:
    """pmse and error against time, beside the oracle error of the mixtures with covariances."""
    levels = {
        f"oracle, {kind}": (data[f"theory_{name}"].attrs["oracle"], data[f"theory_{name}"].attrs["oracle_error"])
        for name, kind in (("shared", "one covariance"), ("full", "one for each"))
    }
    return plot.comparison({CAPTIONS[name]: data[name] for name in CAPTIONS}, levels)


def sentence(data: Mapping[str, xr.Dataset]) -> str:
    """The errors at the end."""
    oracles = [
        f"{found['oracle']:.5f} ± {found['oracle_error']:.0e}"
        for found in (data[name].attrs for name in CAPTIONS if name.startswith("theory"))
    ]
    final = {name: float(run.classification_error.isel(time=-1).mean()) for name, run in data.items()}
    return (
        f"odd against even, relu, K = {NETWORK.K}: error at t = {T:g} {final['theory_isotropic']:.4f} in theory with "
        f"isotropic clusters, {final['theory_shared']:.4f} with a shared covariance, {final['theory_full']:.4f} with "
        f"one for each (of whose squared norm {data['theory_full'].attrs['discarded']:.0%} does not commute and is "
        f"left out); {final['mixture']:.4f} on samples of that mixture, {final['images']:.4f} on held-out images.  The "
        f"oracle of these mixtures errs on {', '.join(oracles)}."
    )
