"""The report of the referee: the verdict in Markdown with a figure, and its numbers as NetCDF."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from quenched.numerics.problem.provenance import provenance
from quenched.numerics.problem.variables import described
from quenched.sim.files import save
from quenched.sim.files import write as write_file
from quenched.sim.referee.grid import SIGMA, SPECIFIED
from quenched.sim.referee.judge import BIAS, BIASED, WRONG, Cell, Verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FILES", "caption", "document", "draw", "summary", "write"]

Array = npt.NDArray[np.float64]

FILES = ("report.md", "report.png", "cells.nc", "bias.nc")
_EDGE = 5.0  # of the histogram of z


def write(verdict: Verdict, folder: Path, remarks: Sequence[str] = ()) -> Path:
    """The report as `report.md` with its figure `report.png`, and the cells and the bias as NetCDF; the path of it."""
    import xarray as xr

    columns = {field.name: [getattr(cell, field.name) for cell in verdict.cells] for field in fields(Cell)}
    cells = xr.Dataset({name: ("cell", np.array(values)) for name, values in columns.items()})
    cells["adjusted_p"] = "cell", verdict.adjusted
    cells.attrs = provenance(grid=asdict(verdict.grid), engine=verdict.engine, significance=verdict.significance)
    save(draw(verdict), folder / "report.png", caption(verdict))
    save(described(cells), folder / "cells.nc")
    save(verdict.bias, folder / "bias.nc")
    write_file(folder / "report.md", document(verdict, remarks))
    return folder / "report.md"


def draw(verdict: Verdict) -> Figure:
    """Histogram of all z-scores, p-values of the cells in order, and the bias against D."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator
    from scipy.stats import t

    from quenched.sim.drawing.style import BLUE, DOT, ORANGE, PAGE, POINT, SKY, letters, styled

    @styled
    def drawn() -> Figure:
        bias, seeds, p = verdict.bias, verdict.grid.seeds, [cell.p for cell in verdict.cells]
        figure = Figure(figsize=(PAGE, 2.5), layout="constrained")
        scores, ordered, law = figure.subplots(1, 3)
        letters((scores, ordered, law))
        x = np.linspace(-_EDGE, _EDGE, 201)
        shown = np.clip(verdict.z, x[0], x[-1])
        bins = np.linspace(-_EDGE, _EDGE, 41).tolist()
        scores.hist(shown, bins=bins, density=True, color=SKY, label=f"{len(shown)} numbers that vary")
        scores.plot(x, t.pdf(x, seeds - 1), color="0.0", label=f"Student's t, {seeds - 1} degrees")
        scores.set(xlabel="$z$", ylabel="density", xlim=(-_EDGE, _EDGE), ylim=(0, None))
        scores.set_ylim(0, 1.45 * scores.get_ylim()[1])
        scores.legend(loc="upper right")
        rank = np.arange(1, len(p) + 1)
        limit = f"denied below (Holm, {verdict.significance:g})"
        ordered.plot(rank, np.sort(p), **DOT | {"color": BLUE}, label=f"$p$ of {len(p)} cells")
        ordered.plot(rank, verdict.significance / (len(p) - rank + 1), color=ORANGE, label=limit)
        ordered.set(xlabel="cells, in order", ylabel="$p$", yscale="log")
        ordered.legend(loc="center")
        ordered.xaxis.set_major_locator(MaxNLocator(integer=True))
        D, b, s = bias.D.values.astype(float), bias.attrs["coefficient"], bias.attrs["exponent"]
        fit = rf"fit, $D^{{{s:.4f} \pm {bias.attrs['exponent_error']:.4f}}}$"
        law.plot(D, np.abs(b) * D**s, color=BLUE, label=fit)
        size, error = np.abs(bias.bias.values), bias.bias_error.values
        seen = size > 2 * error
        law.errorbar(D[seen], size[seen], error[seen], **{"color": BLUE, "label": "|bias| of the mean"} | POINT)
        if not seen.all():
            law.plot(D[~seen], 2 * error[~seen], **DOT | {"color": BLUE, "marker": "v"}, label="less than, 2 s.e.")
        law.plot(D, bias.spread, **DOT | {"color": ORANGE, "marker": "s"}, label="fluctuation of a run")
        law.set(xscale="log", yscale="log", xlabel="dimension $D$", ylabel=f"deviation of {BIASED}")
        law.legend(loc="lower left")
        return figure

    return drawn()


def caption(verdict: Verdict) -> str:
    """What the figure shows, with the numbers of the report."""
    compared, beyond = sum(cell.numbers for cell in verdict.cells), int((np.abs(verdict.z) > _EDGE).sum())
    return (
        f"(a) z = (simulation - theory)/(standard error) of the {len(verdict.z)} of {compared} compared numbers that "
        f"vary from run to run ({beyond} beyond ±{_EDGE:g}, drawn at the edge), and the law expected of "
        f"{verdict.grid.seeds} runs.  (b) p-values of the {len(verdict.cells)} cells in order, and the line below "
        f"which Holm's procedure denies them.  (c) Size of the bias of {BIASED} against D with its standard error, the "
        "fitted power of D, and the standard deviation of one run."
    )


def document(verdict: Verdict, remarks: Sequence[str] = ()) -> str:
    """The report in Markdown."""
    lines = [
        "# Theory against simulation",
        "",
        f"**Verdict: {'they agree' if verdict.agrees else 'THEY DISAGREE'}.**  {summary(verdict)}",
        "",
        *(f"- {remark}" for remark in remarks),
        *_conditions(verdict),
        "",
        "![z-scores, p-values and bias](report.png)",
        "",
        caption(verdict),
        "",
        *_limit(verdict),
        "",
        "## Controls",
        "",
        f"The same runs against the equations at {WRONG:g} times the learning rate, or without a batch where runs have "
        "one; all must be denied.",
        "",
        *_table(verdict.controls, None),
        "",
        "## Cells",
        "",
        "The worst number of each cell; p of the cell (Bonferroni over its numbers) and after Holm over all cells; and "
        "the relative deviation that would have been found in half of the numbers.",
        "",
        *_table(verdict.cells, verdict.adjusted),
    ]
    return "\n".join(lines) + "\n"


def _conditions(verdict: Verdict) -> list[str]:
    """What was compared, how it fluctuates, and what it took."""
    grid, S = verdict.grid, verdict.grid.seeds
    versions = json.loads(provenance()["versions"])
    expected = f", expected {(S - 1) / (S - 3):.3f}" if S > 3 else ""
    problems = [
        f"- Grid: {', '.join(grid.mixtures)} (σ = {SIGMA:g}); {', '.join(grid.activations)}; K = {_list(grid.K)}; "
        f"η = {_list(grid.rates)}",
        *_variants(verdict),
    ]
    if grid.problem is not None:
        problems = [f"- Specification: {grid.problem.mixture!r}, {grid.problem.network!r}, {grid.problem.rule!r}"]
    return [
        f"{problems[0]}; D = {_list(grid.D)}; {S} runs per cell (engine: {verdict.engine}), compared at "
        f"t = {_list(grid.times)}.",
        *problems[1:],
        *_elsewhere(verdict),
        f"- {sum(cell.numbers for cell in verdict.cells)} numbers were compared, of which {len(verdict.z)} vary from "
        "run to run.  Mean of their z² over the cells: "
        f"{np.mean([cell.mean_z2 for cell in verdict.cells]):.3f}{expected} where fluctuations are as the standard "
        "errors say.",
        f"- {verdict.seconds[0]:.0f} s by the clock, {verdict.seconds[1]:.0f} s of CPU time; "
        f"{', '.join(f'{name} {version}' for name, version in versions.items())}.",
    ]


def _variants(verdict: Verdict) -> list[str]:
    """The cells of other losses, batches, biases, schedules, frozen parts, spheres, baths, and of teachers."""
    rules = [cell.problem for cell in verdict.cells if cell.problem != cell.network]
    known = [*verdict.grid.mixtures, SPECIFIED]
    mixtures = [cell.mixture for cell in verdict.cells if cell.mixture not in known]
    return [
        f"- {len(found)} cells are of other {kind}: {'; '.join(dict.fromkeys(found))}."
        for kind, found in (("rules", rules), ("mixtures", mixtures))
        if found
    ]


def _elsewhere(verdict: Verdict) -> list[str]:
    """The cells that the engine asked for refuses, and what ran them."""
    others: dict[str, list[str]] = {}
    for cell in verdict.cells:
        if cell.engine.partition(",")[0] != verdict.engine.partition(",")[0]:
            others.setdefault(cell.engine, []).append(f"{cell.mixture}, {cell.problem}")
    return [f"- Ran by {engine}: {'; '.join(dict.fromkeys(cells))}." for engine, cells in others.items()]


def _limit(verdict: Verdict) -> list[str]:
    """The bias against D."""
    bias = verdict.bias
    b, s = (f"{bias.attrs[name]:.4f} ± {bias.attrs[name + '_error']:.4f}" for name in ("coefficient", "exponent"))
    columns = (bias.D.values, bias.bias.values, bias.bias_error.values, bias.spread.values)
    return [
        "## The limit of large D",
        "",
        f"{BIASED} at t = {BIAS[3]:g} of a relu network with K = 2 on XOR (σ = {BIAS[0].sigma:g}, "
        f"η = {BIAS[2].eta:g}).  A run fluctuates by O(1/√D), the mean of many is off by O(1/D).  Fitted: bias = b D^s "
        f"with b = {b}, s = {s}.",
        "",
        "| D | bias | standard error | D · bias | fluctuation of a run | times √D |",
        "|---:|---:|---:|---:|---:|---:|",
        *(
            f"| {D} | {x:+.2e} | {e:.1e} | {D * x:+.4f} ± {D * e:.4f} | {f:.2e} | {math.sqrt(D) * f:.4f} |"
            for D, x, e, f in zip(*columns, strict=True)
        ),
    ]


def summary(verdict: Verdict) -> str:
    """The verdict in a sentence or two."""
    least = float(verdict.adjusted.min())
    s, error = verdict.bias.attrs["exponent"], verdict.bias.attrs["exponent_error"]
    return (
        f"{len(verdict.denied)} of {len(verdict.cells)} cells denied at a family-wise significance of "
        f"{verdict.significance:g} (smallest p after Holm: {least:.3g}); {len(verdict.controls) - len(verdict.missed)} "
        f"of {len(verdict.controls)} controls denied, as they must be; the bias falls as D^({s:.3f} ± {error:.3f})."
    )


def _table(cells: Sequence[Cell], adjusted: Array | None) -> list[str]:
    lines = [
        "| mixture | network | η | D | worst | t | theory | simulation | s.e. | z | p | Holm | resolves |",
        "|---|---|---:|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for i, c in enumerate(cells):
        after = "" if adjusted is None else f"{adjusted[i]:.2g}"
        lines.append(
            f"| {c.mixture} | {c.problem} | {c.lr:g} | {c.D} | {c.worst} | {c.t:g} | {c.theory:.5f} | "
            f"{c.simulation:.5f} | {c.standard_error:.5f} | {c.z:+.2f} | {c.p:.2g} | {after} | {c.resolution:.1%} |"
        )
    return lines


def _list(values: Sequence[Any]) -> str:
    return ", ".join(f"{value:g}" for value in values)
