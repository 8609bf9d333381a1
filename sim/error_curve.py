"""Classification error against noise, for several learners on one mixture.

What a two-layer network reaches depends on where it starts: with few neurons, many initial states lead to a poor fixed
point.  Its curve is therefore the best of several, and the final error of each is kept beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from quenched.numerics.kernel_ridge import kernel_error
from quenched.numerics.oracle import oracle_error
from quenched.numerics.problem.checks import finite_array, integer
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.provenance import provenance
from quenched.numerics.problem.rules import OnlineSGD
from quenched.numerics.random_features import random_features_error
from quenched.numerics.two_layer.flow import integrate, random_state

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["LEARNERS", "error_curve", "in_processes"]

T = TypeVar("T")

LEARNERS = ("oracle", "two-layer", "random-features", "kernel", "ntk")


def error_curve(
    mixture: Mixture,
    sigmas: npt.ArrayLike,
    learners: Sequence[str] = LEARNERS[:2],
    *,
    network: TwoLayer | None = None,
    sgd: OnlineSGD | None = None,
    t: float = 100.0,
    D: int = 1000,
    initial: Sequence[int] = tuple(range(8)),
    readout_scale: float = 1.0,
    rtol: float = 1e-8,
    digits: int | None = None,
    activation: str = "relu",
    gamma: float = 2.0,
    kernel: str = "arccos1",
    alpha: float = 2.0,
    ridge: float = 0.0,
    features_at: float | None = None,
    processes: int = 1,
    progress: Callable[[float], None] | None = None,
) -> xr.Dataset:
    """Error of each learner on `mixture` with its sigma replaced by each of `sigmas` (n,), in their order.

    "oracle": the Bayes rule with known means.  "two-layer": `network` trained by `sgd` up to time `t` (D -> infinity),
    from the states `random_state(mixture, network, D, seed, readout_scale=...)`, seed in `initial`, of which the one
    with the least error at time t counts.  "random-features": `random_features_error` of gamma D features of
    `activation` with this `ridge`.  "kernel": `kernel_error` of `kernel` and this `ridge` on alpha D samples; "ntk": of
    the neural tangent kernel of `activation`.  These three in the limit D -> infinity, or at D = `features_at`.
    `processes` shares the work; `progress` is called with the fraction done.

    `digits` asks for the oracle alone to that many digits (sigma taken at its binary value): they are in the variable
    digits (learner, sigma), as text.

    Returns a dataset: classification_error and its numerical_error (learner, sigma); with "two-layer" also final_error
    and final_pmse (sigma, initial).

    ValueError: an unknown learner, no sigma or no initial state, a network or a rule left out that is needed.
    """
    import xarray as xr

    noise = finite_array("sigmas", sigmas, (None,))
    if unknown := [learner for learner in learners if learner not in LEARNERS] or not learners:
        raise ValueError(f"learners must be among {', '.join(LEARNERS)}, got {unknown if learners else learners!r}")
    if digits is not None and list(learners) != ["oracle"]:
        raise ValueError(
            f"digits={digits} needs learners=['oracle'], got {list(learners)!r}: the equations of a two-layer "
            "network are integrated in float64"
        )
    seeds = [integer("initial", seed) for seed in initial]
    mixtures = [replace(mixture, sigma=float(sigma)) for sigma in noise]
    error = xr.DataArray(
        np.full((len(learners), len(noise)), np.nan),
        coords={"learner": list(learners), "sigma": noise},
        dims=("learner", "sigma"),
    )
    result = xr.Dataset({"classification_error": error, "numerical_error": error.copy()})
    if "oracle" in learners:
        values = [oracle_error(m, digits=digits) for m in mixtures]
        result.classification_error.loc["oracle"] = [float(v.value) for v in values]
        result.numerical_error.loc["oracle"] = [float(v.error) for v in values]
        if digits is not None:
            result["digits"] = ("learner", "sigma"), [[str(v.value) for v in values]]
    if "two-layer" in learners:
        if network is None or sgd is None or not seeds:
            missing = "network" if network is None else "sgd" if sgd is None else "initial"
            raise ValueError(f"{missing} must be given for the learner 'two-layer', got {locals()[missing]!r}")
        jobs = [(m, network, sgd, t, D, seed, readout_scale, rtol) for m in mixtures for seed in seeds]
        final = np.array(in_processes(_final, jobs, processes, progress)).reshape(len(noise), len(seeds), 3)
        best = final[:, :, 0].argmin(axis=1)
        result = result.assign_coords(initial=seeds)
        result["final_error"] = ("sigma", "initial"), final[:, :, 0]
        result["final_pmse"] = ("sigma", "initial"), final[:, :, 2]
        result.classification_error.loc["two-layer"] = final[range(len(noise)), best, 0]
        result.numerical_error.loc["two-layer"] = final[range(len(noise)), best, 1]
    if "random-features" in learners:
        lazy = [random_features_error(m, activation, gamma, ridge, D=features_at) for m in mixtures]
        result.classification_error.loc["random-features"] = [found.classification_error for found in lazy]
        result.numerical_error.loc["random-features"] = [found.classification_error_error for found in lazy]
    for learner, name in (("kernel", kernel), ("ntk", f"ntk:{activation}")):
        if learner in learners:
            lazy = [kernel_error(m, name, alpha, ridge, D=features_at) for m in mixtures]
            result.classification_error.loc[learner] = [found.classification_error for found in lazy]
            result.numerical_error.loc[learner] = [found.classification_error_error for found in lazy]
    result.attrs = provenance(
        mixture=mixture,
        network=network,
        sgd=sgd,
        t=t,
        D=D,
        initial=seeds,
        readout_scale=readout_scale,
        rtol=rtol,
        features={"activation": activation, "gamma": gamma, "ridge": ridge, "D": features_at},
        kernel={"kernel": kernel, "activation": activation, "alpha": alpha, "ridge": ridge, "D": features_at},
    )
    return result


def _final(
    mixture: Mixture, network: TwoLayer, sgd: OnlineSGD, t: float, D: int, seed: int, readout_scale: float, rtol: float
) -> tuple[float, float, float]:
    """Classification error, its numerical error, and pmse at time t."""
    start = random_state(mixture, network, D, seed, readout_scale=readout_scale)
    end = integrate(mixture, network, sgd, start, [t], rtol=rtol).isel(time=-1)
    return float(end.classification_error), float(end.classification_error_error), float(end.pmse)


def in_processes(
    function: Callable[..., T],
    jobs: Sequence[tuple[Any, ...]],
    processes: int = 1,
    progress: Callable[[float], None] | None = None,
) -> list[T]:
    """[function(*job) for job in jobs], spread over worker processes; `progress` is called with the fraction done."""
    if processes == 1:
        results = []
        for done, job in enumerate(jobs, 1):
            results.append(function(*job))
            if progress is not None:
                progress(done / len(jobs))
        return results
    # Workers start afresh: forking a process that has threads (numba, BLAS) can deadlock.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(function, *job) for job in jobs]
        for done, future in enumerate(as_completed(futures), 1):
            future.result()  # the first failure ends it
            if progress is not None:
                progress(done / len(jobs))
        return [future.result() for future in futures]
