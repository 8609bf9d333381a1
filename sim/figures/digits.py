"""Figure `digits`: odd against even digits, the equations on mixtures fitted with ever more of the covariance, and SGD.

All start from the same weights.  The D = 64 directions of the images are few: SGD on samples of a mixture is off
its equations by O(1/D), points beside the line of "full".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from quenched.sim.drawing import plot
from quenched.sim.drawing.captions import of_network, of_rule, of_seeds
from quenched.sim.processes import Work
from quenched.sim.samples import labelled
from quenched.sim.training import simulate

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Study", "caption", "compute", "draw", "end", "fitted", "on_images", "sentence"]


@dataclass(frozen=True)
class Study:
    """A network on images of `source` (a name or folder that `labelled` knows), called `name`, up to time `t`.

    `shrinkage` is that of the covariance which all clusters share: needed where many pixels never vary.
    """

    name: str
    source: str
    t: float
    network: TwoLayer = TwoLayer(4, "relu")
    rule: OnlineSGD = OnlineSGD(lr=0.1)
    seeds: Sequence[int] = range(10)
    shrinkage: str | None = None


STUDY = Study("scikit-learn's digits", "digits", 100.0)
NAMES = {
    "theory_isotropic": "theory: isotropic clusters",
    "theory_shared": "theory: one covariance for all clusters",
    "theory_full": "theory: one for each, projected on commuting ones",
    "mixture": "SGD on samples of the last mixture",
    "images": "SGD on images, error on held-out images",
}


def compute(work: Work) -> dict[str, xr.Dataset]:
    """The equations for three fits, runs on samples of the last, and on the images."""
    return fitted(work, STUDY)


def fitted(work: Work, study: Study) -> dict[str, xr.Dataset]:
    """The same for any images."""
    return dict(zip(NAMES, work.map(_one, [(name, study) for name in NAMES]), strict=True))


def _one(name: str, study: Study) -> xr.Dataset:
    data = labelled(study.source)
    network, sgd, T, D, times = study.network, study.rule, study.t, data.X.shape[1], np.linspace(0, study.t, 21)
    rng = np.random.default_rng(0)
    W, v = rng.standard_normal((network.K, D)), rng.standard_normal(network.K) / np.sqrt(network.K)
    if name == "images":
        runs = on_images(data.X, data.label, network, sgd, times, (W, v), study.seeds)
        return runs.assign_attrs(data=f"{study.name}, odd against even", images=len(data.X), D=D)
    how = {
        "theory_isotropic": {},
        "theory_shared": {"covariance": "shared", "shrinkage": study.shrinkage},
    }.get(name, {"covariance": "full", "shrinkage": "ledoit-wolf", "project": True})
    fit = estimate(*data, **how)
    mixture, state = Mixture(**fit.arguments), fit.state(W, v)
    if name == "mixture":
        return simulate(mixture, network, sgd, D, times, study.seeds, state=state)
    found = integrate(mixture, network, sgd, state, T * np.linspace(0, 1, 101) ** 2)
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

    ValueError: the rule is not online SGD with constant rates of the two layers and nothing else, or the output is
    scaled: other steps are not written here.
    """
    import xarray as xr

    others = [words for name, words in sgd.words.items() if name not in ("lr", "second_lr")]
    if not isinstance(sgd, OnlineSGD) or others or not sgd.steady:
        raise ValueError(f"sgd must be OnlineSGD with constant lr and second_lr alone for images, got {sgd!r}")
    if network.output_scale != 1:
        raise ValueError(f"network must have output_scale 1 for images, got {network.output_scale:g}")
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
            attrs=provenance(network=network, sgd=sgd, seeds=list(seeds)),
        )
    )


def draw(data: Mapping[str, xr.Dataset]) -> Figure:
    """pmse and error against time, beside the oracle error of the mixtures with covariances."""
    levels = {
        f"oracle, {kind}": (data[f"theory_{name}"].attrs["oracle"], data[f"theory_{name}"].attrs["oracle_error"])
        for name, kind in (("shared", "one covariance"), ("full", "one for each"))
    }
    return plot.comparison({NAMES[name]: data[name] for name in NAMES}, levels)


def caption(data: Mapping[str, xr.Dataset], study: Study = STUDY) -> str:
    """Panels, parameters, runs."""
    images, D = (data["images"].attrs[name] for name in ("images", "D"))
    shrunk = " (shrunk after Ledoit and Wolf)" if study.shrinkage else ""
    return (
        f"A {of_network(study.network)}, learns odd against even digits by {of_rule(study.rule)}: half the mean "
        f"squared error (a) and classification error (b) against time in units of D steps.  {images} images of "
        f"{study.name}, D = {D} pixels, centred and divided by their root mean square.  Lines are theory: the "
        "equations on the Gaussian mixture of ten clusters fitted to the images, with isotropic clusters, with one "
        f"covariance for all{shrunk}, with one for each cluster (shrunk after Ledoit and Wolf, projected on the "
        "eigenvectors of the pooled covariance, so that they commute).  Points are simulations, mean ± standard error "
        f"of {of_seeds(study.seeds)}: SGD on samples of the last mixture (rhombs) at D = {D}, and on four fifths of "
        "the images, drawn with replacement, with errors on the other fifth (triangles).  All start from the same "
        "weights, of seed 0, w_k ~ N(0, 1), v_k ~ N(0, 1/K).  Grey bands: oracle errors of the fitted mixtures; that "
        "of the images is not known."
    )


def sentence(data: Mapping[str, xr.Dataset]) -> str:
    """The errors at the end."""
    return end(data, STUDY)


def end(data: Mapping[str, xr.Dataset], study: Study) -> str:
    """The same for any images."""
    kinds = {"isotropic": "isotropic clusters", "shared": "one covariance", "full": "one for each"}
    oracles = [
        f"{kind} {found['oracle']:.5f} ± {found['oracle_error']:.0e}"
        for kind, found in ((kind, data[f"theory_{name}"].attrs) for name, kind in kinds.items())
    ]
    final = {name: float(run.classification_error.isel(time=-1).mean()) for name, run in data.items()}
    return (
        f"error at t = {study.t:g} {final['theory_isotropic']:.4f} in theory with isotropic clusters, "
        f"{final['theory_shared']:.4f} with a shared covariance, {final['theory_full']:.4f} with one for each (of "
        f"whose squared norm {data['theory_full'].attrs['discarded']:.0%} does not commute and is left out); "
        f"{final['mixture']:.4f} on samples of that mixture, {final['images']:.4f} on held-out images.  The oracle's "
        f"errors: {', '.join(oracles)}."
    )
