"""Classification error against noise, for several learners of `quenched.numerics.learners` on one mixture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from quenched.numerics.learners import learners
from quenched.numerics.problem.checks import noise_levels, record
from quenched.numerics.problem.learner import Options, Solution
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.provenance import provenance
from quenched.numerics.problem.variables import described
from quenched.sim.processes import Work

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["error_curve"]


def error_curve(
    mixture: Mixture,
    sigmas: npt.ArrayLike,
    chosen: str | Sequence[str] | Mapping[str, Options | None] = ("oracle", "two-layer"),
    work: Work | None = None,
) -> xr.Dataset:
    """Error of each learner on `mixture` with its sigma replaced by each of `sigmas` (n,), in their order.

    `chosen`: the name of a learner, or names, or a mapping from names to options (None: the defaults), for instance
    {"oracle": None, "two-layer": TwoLayerOptions(network=TwoLayer(8, "relu"), starts=4)}.
    `work`: processes, progress, journal.

    Returns a dataset: classification_error and its numerical error classification_error_error (learner, sigma), the
    text that a legend adds to a name, `caption` (learner), and what the learners report beside, such as final_error and
    final_pmse (sigma, initial) of "two-layer" or the digits (sigma) of "oracle"; its attributes hold all parameters.

    ValueError: an unknown learner, no sigma, or what a learner refuses.
    """
    import xarray as xr

    record("mixture", mixture, Mixture)
    noise = noise_levels("sigmas", sigmas)
    table, chosen = learners(), (chosen,) if isinstance(chosen, str) else chosen
    if not isinstance(chosen, (Sequence, Mapping)):
        raise ValueError(f"learners must be names, or a mapping from names to options, got {chosen!r}")
    if not chosen or (unknown := [name for name in chosen if name not in table]):
        raise ValueError(f"learners must be among {', '.join(table)}, got {unknown if chosen else list(chosen)!r}")
    given = chosen if isinstance(chosen, Mapping) else dict.fromkeys(chosen)
    options = {name: table[name].options if own is None else own for name, own in given.items()}
    mixtures = [replace(mixture, sigma=float(sigma)) for sigma in noise]
    for name, own in options.items():
        if not isinstance(own, type(table[name].options)):
            raise ValueError(f"options must be {type(table[name].options).__name__} for {name!r}, got {own!r}")
    jobs = [(table[name].solve, m, options[name]) for name in options for m in mixtures]
    found = (work or Work()).map(_solved, jobs)
    rows = [found[i : i + len(noise)] for i in range(0, len(found), len(noise))]
    methods = {name: row[0].method for name, row in zip(options, rows, strict=True)}
    dims = ("learner", "sigma")
    result = xr.Dataset(
        {
            "classification_error": (dims, np.array([[each.value for each in row] for row in rows])),
            "classification_error_error": (dims, np.array([[each.error for each in row] for row in rows])),
        },
        coords={
            "learner": list(options),
            "sigma": noise,
            "caption": ("learner", [each.caption for each in options.values()]),
        },
        attrs=provenance(mixture=mixture, learners=options, methods=methods),
    )
    for row in rows:
        for name in row[0].parts:
            result[name] = xr.concat([each.parts[name] for each in row], result.sigma)
    return described(result)


def _solved(solve: Callable[[Mixture, Any], Solution], mixture: Mixture, options: Options) -> Solution:
    """One point of the curve: a job whose name says the learner."""
    return solve(mixture, options)
