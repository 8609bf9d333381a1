"""The house style of all figures: theory is lines, simulation is points with error bars, bounds are dashed.

Object-oriented matplotlib only: no pyplot, no display, no settings left behind.  What tells two things apart is never
colour alone: `cues` gives each its colour, marker and dashes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple, ParamSpec

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

__all__ = [
    "BLUE",
    "ERROR",
    "GREEN",
    "LEVEL",
    "ORANGE",
    "PMSE",
    "POINT",
    "SKY",
    "TIME",
    "Cue",
    "caption",
    "chance",
    "cues",
    "log_ticks",
    "marker",
    "mean_and_error",
    "observable",
    "shades",
    "styled",
]

P = ParamSpec("P")

# Okabe and Ito's colours: distinct under the common forms of colour blindness.
_COLOURS = BLUE, ORANGE, GREEN, PINK, YELLOW, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
_MARKERS = "os^Dv"
_DASHES: tuple[Any, ...] = ("-", (0, (6, 1.5)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (8, 1.5, 1, 1.5, 1, 1.5)))
_STYLE: Any = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": "medium",
    "errorbar.capsize": 2,
    "font.size": 9,
    "grid.color": "0.93",
    "legend.fontsize": "small",
    "legend.frameon": False,
    "lines.linewidth": 1.4,
}
POINT: dict[str, Any] = {"ls": "", "marker": "o", "ms": 3.4, "mfc": "white", "mew": 0.9, "elinewidth": 0.9, "zorder": 3}
LEVEL: dict[str, Any] = {"color": "0.25", "ls": (0, (4, 3)), "lw": 1.2}  # how a bound is drawn
TIME = "time  t = n/D"
ERROR = "classification error"
PMSE = r"pmse  $\frac{1}{2}\langle\Delta^2\rangle$"


class Cue(NamedTuple):
    """What tells one thing from the others: `line` for a curve, `point` for points with error bars."""

    colour: str
    marker: str
    dashes: Any

    @property
    def line(self) -> dict[str, Any]:
        """Arguments of `Axes.plot`."""
        return {"color": self.colour, "ls": self.dashes}

    @property
    def point(self) -> dict[str, Any]:
        """Arguments of `Axes.errorbar`."""
        return POINT | {"color": self.colour, "marker": self.marker}


def cues(n: int) -> list[Cue]:
    """n cues, all different in two ways up to six, and in one at least up to thirty: the cycle of colours, 6, and that
    of markers and dashes, 5, have no common divisor.

    >>> len(set(cues(30))), len({cue.colour for cue in cues(6)})
    (30, 6)
    """
    return [Cue(_COLOURS[i % 6], _MARKERS[i % 5], _DASHES[i % 5]) for i in range(n)]


def shades(n: int) -> list[str]:
    """n colours in an order, from light to dark, for values of one quantity."""
    return [to_hex(colour) for colour in mpl.colormaps["viridis"](np.linspace(0.9, 0, n))]


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """A function that draws, in the house style."""

    @wraps(draw)
    def inner(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with mpl.rc_context(_STYLE):
            return draw(*args, **kwargs)

    return inner


def observable(axes: Axes, run: xr.Dataset, sample: xr.Dataset | None, name: str, cue: Cue, **indices: int) -> None:
    """One component of an observable against time: a line for the theory, points for the runs."""
    axes.plot(run.time, run[name].isel(indices), **cue.line)
    if sample is not None:
        mean, error = mean_and_error(sample[name].isel(indices))
        axes.errorbar(sample.time, mean, error, **cue.point)


def mean_and_error(values: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray | None]:
    """Mean over the seeds and its standard error (one seed has none)."""
    n = values.sizes["seed"]
    return values.mean("seed"), values.std("seed", ddof=1) / np.sqrt(n) if n > 1 else None


def caption(simulation: xr.Dataset) -> str:
    """Dimension and number of the runs, for a legend."""
    n = simulation.sizes["seed"]
    runs = f"simulation, D = {json.loads(simulation.attrs['simulation'])['D']}"
    return runs + (f", mean ± s.e. of {n} runs" if n > 1 else ", one run")


def marker(color: str = "0.3", label: str = "simulation", shape: str = "o") -> Line2D:
    """A point for a legend."""
    return Line2D([], [], color=color, label=label, ls="", marker=shape, ms=3.4, mfc="white", mew=0.9)


def chance(axes: Axes) -> None:
    """A line at the error of a guess."""
    axes.axhline(0.5, color="0.75", lw=0.9)


def log_ticks(axis: Any, subs: tuple[int, ...] = (1, 2, 5)) -> None:
    """Plain numbers on a logarithmic axis."""
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())
