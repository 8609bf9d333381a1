"""Figure `asymptotic`: by how much the error at the end of learning exceeds the oracle's: four relu on XOR.

One thing is changed at a time: the learning rate at one weight decay, and the weight decay at one learning rate.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from quenched.numerics.oracle import oracle_error
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.rules import GradientFlow, LearningRule, OnlineSGD
from quenched.numerics.problem.state import OrderParameters
from quenched.sim.drawing.captions import listed, of_network, of_seeds
from quenched.sim.drawing.plot import branch_marks, draw_branch
from quenched.sim.drawing.style import LEVEL, PAGE, PMSE, cues, key, letters, marker, points, styled
from quenched.sim.processes import Work
from quenched.sim.training import simulate

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["caption", "compute", "draw", "sentence"]

MIXTURE, NETWORK = Mixture.xor(0.3), TwoLayer(4, "relu")
DECAY, RATES, DECAYS = 0.01, (0.1, 0.5), (3e-3, 3e-2)  # of both columns; of the first; of the second
RULES: dict[str, LearningRule] = {"flow": GradientFlow(weight_decay=DECAY)}
RULES |= {f"rate{i}": OnlineSGD(lr, DECAY) for i, lr in enumerate(RATES)}
RULES |= {f"decay{i}": OnlineSGD(RATES[-1], decay) for i, decay in enumerate(DECAYS)}
COLUMNS = ("flow", "rate0", "rate1"), ("decay0", "rate1", "decay1")
STATES = range(4)  # seeds of the initial states, at the first noise
SIGMAS = np.linspace(MIXTURE.isotropic_sigma, 1.0, 71)
MARKS = {
    "pitchfork": "stars: pitchforks, where two solutions that mirror each other meet and go on as one",
    "fold": "triangles: folds, where a solution turns back",
}
POINTS = SIGMAS[5::20]  # of the runs
D, TIME, LATER, SEEDS = 1000, 100.0, 11, range(10)  # runs: dimension, length, records averaged from its second half


def compute(work: Work) -> dict[str, xr.Dataset]:
    """The branch of the best fixed point of each rule, and runs of online SGD on it."""
    import xarray as xr

    found = dict(zip(RULES, work.part(0, 0.7).map(branch, [(rule,) for rule in RULES.values()]), strict=True))
    noisy = {name: rule for name, rule in RULES.items() if isinstance(rule, OnlineSGD)}
    jobs = []
    for name, rule in noisy.items():
        for sigma in POINTS.tolist():
            at = found[name].isel(point=int(np.argmin(np.abs(found[name].sigma.values - sigma))))
            jobs.append((sigma, rule, OrderParameters(at.M, at.Q, at.v)))
    runs = work.part(0.7, 1).map(stayed, jobs)
    for i, name in enumerate(noisy):
        part = runs[i * len(POINTS) : (i + 1) * len(POINTS)]
        found[f"{name}_simulation"] = xr.concat(part, xr.Variable("sigma", POINTS), combine_attrs="drop_conflicts")
    return found


def branch(rule: LearningRule) -> xr.Dataset:
    """From the best fixed point that the initial states end in, along sigma."""
    from quenched.numerics.two_layer.continuation import curve
    from quenched.numerics.two_layer.fixed_points import fixed_points

    best = fixed_points(MIXTURE, NETWORK, rule, STATES).isel(solution=0)
    return curve(MIXTURE, NETWORK, rule, "sigma", SIGMAS, OrderParameters(best.M, best.Q, best.v))


def stayed(sigma: float, rule: LearningRule, state: OrderParameters) -> xr.Dataset:
    """Errors of runs that start at a fixed point, by seed, averaged over the second half of their time."""
    times = np.linspace(TIME / 2, TIME, LATER)
    runs = simulate(Mixture.xor(sigma), NETWORK, rule, D, times, SEEDS, engine="overlaps", state=state)
    return runs[["classification_error", "pmse"]].mean("time", keep_attrs=True)


def _label(rule: LearningRule, column: int) -> str:
    """What tells a rule from the others of its column."""
    if column:
        return rf"$\kappa = {rule.weight_decay:g}$"
    return r"$\eta \to 0$" if isinstance(rule, GradientFlow) else rf"$\eta = {rule.eta:g}$"


def _oracle(sigmas: Iterable[float]) -> np.ndarray:
    return np.array([float(oracle_error(Mixture.xor(float(s)))) for s in sigmas])


@styled
def draw(data: Mapping[str, xr.Dataset]) -> Figure:
    """Excess error and pmse against sigma: in the first column the rate is changed, in the second the weight decay."""
    figure = Figure(figsize=(PAGE, 4.6), layout="constrained")
    grid = figure.subplots(2, 2, sharex=True, sharey="row")
    letters(grid.flat)
    looks = dict(zip(RULES, cues(len(RULES)), strict=True))
    shown = {name: _with_excess(data[name]) for name in RULES}
    for j, names in enumerate(COLUMNS):
        for axes, quantity in zip(grid[:, j], ("excess", "pmse"), strict=True):
            for name in names:
                draw_branch(axes, shown[name], "sigma", quantity, looks[name])
                if (runs := data.get(f"{name}_simulation")) is not None:
                    points(axes, runs.sigma, _with_excess(runs)[quantity], looks[name])
        simulated = {name for name in names if f"{name}_simulation" in data}
        handles = [key(looks[name], _label(RULES[name], j), point=name in simulated) for name in names]
        handles += [*branch_marks(shown[name] for name in names), marker("0.3", f"chain, $D = {D}$")]
        grid[0, j].legend(handles=handles, loc="upper left")
        grid[0, j].axhline(0, **LEVEL)
        grid[1, j].set_xlabel(r"noise $\sigma$")
    grid[0, 0].set(ylabel="classification error - oracle", title=rf"weight decay $\kappa = {DECAY:g}$")
    grid[0, 1].set_title(rf"learning rate $\eta = {RATES[-1]:g}$")
    grid[1, 0].set_ylabel(PMSE)
    return figure


def _with_excess(found: xr.Dataset) -> xr.Dataset:
    """With the error above the oracle's at the same sigma."""
    return found.assign(excess=found.classification_error - found.sigma.copy(data=_oracle(found.sigma.values)))


def caption(data: Mapping[str, xr.Dataset]) -> str:
    """Panels, parameters, runs."""
    branches = [data[name] for name in RULES]
    marks = [words for turn, words in MARKS.items() if any(bool(one[turn].any()) for one in branches)]
    thin = [] if all(bool(one.stable.all()) for one in branches) else ["stable solutions full and unstable ones thin"]
    return (
        f"Where learning ends: {of_network(NETWORK)}, on XOR with means of length 1, both layers with weight decay κ; "
        "classification error above the oracle's (top) and half the mean squared error (bottom) at the best of the "
        f"fixed points that {len(STATES)} random states (seeds {STATES[0]} to {STATES[-1]}) lead to at σ = "
        f"{MIXTURE.isotropic_sigma:g}, followed along the noise σ.  Left: online SGD at η = {listed(RATES)} and its "
        f"limit of small rates, gradient flow, κ = {DECAY:g}; right: η = {RATES[-1]:g} at κ = "
        f"{listed(sorted((DECAY, *DECAYS)))}.  Lines are theory for D → "
        f"∞{', '.join(['', *thin])}{'; '.join(['', *marks])}.  Points are simulations: the exact finite-D chain at D = "
        f"{D} started on the line, averaged over t = {TIME / 2:g} to {TIME:g}, in units of D steps, mean ± standard "
        f"error of {of_seeds(SEEDS)}.  Grey: no excess."
    )


def sentence(data: Mapping[str, xr.Dataset]) -> str:
    """The errors at the end of the branches, and how far runs are from them."""
    ends = "; ".join(
        f"{'η → 0' if isinstance(rule, GradientFlow) else f'η = {rule.eta:g}'}, κ = {rule.weight_decay:g}: "
        f"{float(data[name].classification_error[-1]):.6f}"
        for name, rule in RULES.items()
    )
    worst = max(float(data[name].classification_error_error.max()) for name in RULES)
    turns = {
        name: sorted({round(float(s), 3) for s in data[name].sigma.values[data[name].pitchfork.values.astype(bool)]})
        for name in RULES
    }
    met = listed(sorted({s for row in turns.values() for s in row})) or "none"
    return (
        f"at sigma = 1, {ends}; oracle {_oracle(SIGMAS[-1:])[0]:.6f}; numerical errors are at most {worst:.0e}; "
        f"pitchforks at sigma = {met}; runs at D = {D} are within {_off(data):.4f} of the lines."
    )


def _off(data: Mapping[str, xr.Dataset]) -> float:
    """The largest distance in error of a mean of runs from its branch."""
    off = []
    for name in RULES:
        if (runs := data.get(f"{name}_simulation")) is None:
            continue
        for sigma in runs.sigma.values:
            at = data[name].isel(point=int(np.argmin(np.abs(data[name].sigma.values - sigma))))
            off.append(float(np.abs(runs.classification_error.sel(sigma=sigma).mean("seed") - at.classification_error)))
    return max(off)
