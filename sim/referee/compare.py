"""Theory against simulation: is each simulated mean where the learning curve says, within its own error bar?

For every recorded number (each time; M_ak, R_mk, Q_kl with k <= l, v_k, b_k and c, of a rule with momentum the same of
its velocities, the errors), over S seeds:

    z = (mean - theory)/SE,    SE^2 = s^2/S + (error of the theory's number)^2,    s: standard deviation over the seeds

Fluctuations between seeds are O(1/sqrt(D)) and are measured by s.  The theory is the limit D -> infinity, from which
the true mean is off by O(1/D): this is allowed for explicitly, as `bias`/D times the largest theoretical value that
the observable takes.  A number agrees if

    |mean - theory| <= c SE + bias/D max|theory|

For message passing the same holds iteration by iteration: `state_evolution` against `simulate_amp`, of the overlaps and
norms of the estimate and its classification error.

Here c is the quantile of Student's t with S - 1 degrees of freedom (s is itself estimated) at which all n numbers
together exceed it with probability `significance` at most (Bonferroni: each at significance/n; true for dependent
numbers too).
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from quenched.numerics.problem.checks import number, record, shown

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["OBSERVABLES", "Comparison", "compare"]

OBSERVABLES = (
    *("M", "R", "Q", "v", "b", "c", "M_dot", "R_dot", "C", "U", "v_dot", "b_dot", "c_dot"),
    *("pmse", "loss", "overlaps", "norms", "classification_error", "tie_probability"),
)
# What theory and simulation record in the same way, and has to be the same for a comparison to mean anything.
_PROBLEM = ("mixture", "network", "sgd", "initial_state", "amp")
# The axis of a theory: the functions of theory and simulation, and what a theory at other points has to do.
_AXES = {
    "time": (
        "integrate",
        "simulate",
        "be integrated to the times of the simulation, simulation.time (multiples of 1/D)",
    ),
    "iteration": ("state_evolution", "simulate_amp", "have as many iterations as the simulation"),
}
# The errors that the theory states of its numbers, beside the next.
_STATED = dict.fromkeys(("classification_error", "tie_probability"), "classification_error_error")
_STATED["loss"] = "loss_error"
# Relative error of an integrated order parameter, from rtol = 1e-8 per step.
_NUMERICAL = 1e-7


@dataclass(frozen=True, eq=False)
class Comparison:
    """What `compare` found.

    `table`: a dataset along `entry` (one recorded number each) with the variables observable, index, time (of message
    passing: the iteration), theory, simulation, standard_error, z, allowance (the O(1/D) term) and agrees, and the
    attributes of the simulation: `problem_of` gives its problem; `threshold`: c.
    """

    table: xr.Dataset
    threshold: float
    significance: float
    seeds: int
    D: int

    @property
    def agrees(self) -> bool:
        """Whether all numbers agree."""
        return bool(self.table.agrees.all())

    def worst(self) -> xr.Dataset:
        """The row of largest |z| of each observable."""
        z, observable = np.abs(self.table.z.values), self.table.observable.values
        rows = [np.flatnonzero(observable == name) for name in OBSERVABLES if name in observable]
        return self.table.isel(entry=[int(row[np.argmax(z[row])]) for row in rows])


def _common(theory: xr.Dataset, simulation: xr.Dataset) -> np.ndarray:
    """The times, or iterations, of both.  ValueError: they are not results of one problem."""
    import xarray as xr

    record("theory", theory, xr.Dataset)
    record("simulation", simulation, xr.Dataset)
    axis = "iteration" if "iteration" in theory.dims else "time"
    solved, simulated, wanted = _AXES[axis]
    if axis not in theory.dims or "seed" in theory.dims:
        found = ", ".join(map(str, theory.dims))
        raise ValueError(f"theory must be a result of `{solved}`, along {axis} alone, got the dimensions {found}")
    if not {axis, "seed"} <= set(simulation.dims):
        found = ", ".join(map(str, simulation.dims))
        raise ValueError(
            f"simulation must be a result of `{simulated}`, along seed and {axis}, got the dimensions {found}"
        )
    for name in _PROBLEM:
        if (one := theory.attrs.get(name)) != (other := simulation.attrs.get(name)):
            raise ValueError(f"theory and simulation must have the same {name}, got {shown(one)} and {shown(other)}")
    if (seeds := simulation.sizes["seed"]) < 2:
        raise ValueError(f"simulation must hold two seeds or more, got {seeds}")
    points: np.ndarray = simulation[axis].values
    if theory[axis].shape != points.shape or not np.allclose(theory[axis].values, points, rtol=1e-12, atol=1e-12):
        raise ValueError(f"theory must {wanted}")
    return points


def compare(theory: xr.Dataset, simulation: xr.Dataset, *, significance: float = 0.01, bias: float = 1.0) -> Comparison:
    """Compare a learning curve of `integrate` with runs of `simulate` from the same state, at the same times.

    Or `state_evolution` with runs of `simulate_amp` from an informed start, at the same iterations.

    `significance`: probability that agreement is denied by chance alone; `bias`: size of the O(1/D) corrections
    allowed for, in units of 1/D times the largest value of the observable.

    ValueError: fewer than two seeds (no standard error), different problems or times, or no D recorded.

    >>> from quenched.numerics import Mixture, OnlineSGD, TwoLayer, integrate, random_state
    >>> from quenched.sim import simulate
    >>> problem = Mixture.two_clusters(1.0), TwoLayer(1, "erf"), OnlineSGD(0.1)
    >>> state = random_state(*problem[:2], D=100, seed=0)
    >>> runs = simulate(*problem, 100, [1.0], 4, "overlaps", state=state)
    >>> compare(integrate(*problem, state, [1.0]), runs).agrees
    True
    """
    import xarray as xr
    from scipy.special import stdtrit

    if not 0 < number("significance", significance) < 1:
        raise ValueError(f"significance must lie between 0 and 1, got {significance!r}")
    bias = number("bias", bias)
    times = _common(theory, simulation)
    seeds, D = simulation.sizes["seed"], int(json.loads(simulation.attrs["simulation"])["D"])
    columns: dict[str, list[np.ndarray]] = {}
    for name in (name for name in OBSERVABLES if name in theory and (name != "loss" or name in simulation)):
        exact, runs = theory[name].values, simulation[name].values
        if name in ("Q", "U", "norms"):  # symmetric: each pair once
            upper = np.triu_indices(exact.shape[-1])
            exact, runs = exact[:, *upper], runs[:, :, *upper]
            index = np.array([f"{k},{l}" for k, l in zip(*upper, strict=True)])
        else:
            index = np.array([",".join(map(str, i)) for i in np.ndindex(exact.shape[1:])])
        exact, runs = exact.reshape(len(times), -1), runs.reshape(seeds, len(times), -1)
        largest = float(np.abs(exact).max())
        numerical = np.full(exact.shape, _NUMERICAL * largest)
        if name in _STATED:
            numerical = np.hypot(numerical, theory[_STATED[name]].values.reshape(len(times), -1))
        mean, spread = runs.mean(axis=0), runs.std(axis=0, ddof=1)
        error = np.hypot(spread / math.sqrt(seeds), numerical)
        difference = mean - exact
        row = {
            "observable": np.full(exact.shape, name),
            "index": np.broadcast_to(index, exact.shape),
            "time": np.broadcast_to(times[:, None], exact.shape),
            "theory": exact,
            "simulation": mean,
            "standard_error": error,
            # an observable that is 0 in every run and in theory agrees
            "z": np.divide(difference, error, out=np.zeros_like(difference), where=error > 0),
            "allowance": np.full(exact.shape, bias / D * largest),
        }
        for column, values in row.items():
            columns.setdefault(column, []).append(values.ravel())
    table = {column: np.concatenate(values) for column, values in columns.items()}
    threshold = float(-stdtrit(seeds - 1, significance / (2 * len(table["z"]))))
    table["agrees"] = (
        np.abs(table["simulation"] - table["theory"]) <= threshold * table["standard_error"] + table["allowance"]
    )
    variables = {column: ("entry", values) for column, values in table.items()}
    at = {"t": json.dumps(times.tolist())} if "time" in theory.dims else {}
    return Comparison(xr.Dataset(variables, attrs=simulation.attrs | at), threshold, significance, seeds, D)
