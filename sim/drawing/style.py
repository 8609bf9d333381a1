"""The house style of all figures: theory is lines, simulation is points with error bars, bounds are grey.

Object-oriented matplotlib only: no pyplot, no display, no settings left behind.  What tells two things apart is never
colour alone: `cues` gives each its colour, marker and dashes, `ordered` the same with colours from light to dark for
the values of one quantity.  Widths are those of journals: `COLUMN` and `PAGE` inches, in which type has 8 points.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
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
    "COLUMN",
    "DOT",
    "ERROR",
    "GREEN",
    "LETTERS",
    "LEVEL",
    "ORANGE",
    "PAGE",
    "PMSE",
    "POINT",
    "SKY",
    "TIME",
    "Cue",
    "caption",
    "chance",
    "cues",
    "house",
    "key",
    "letters",
    "log_ticks",
    "marker",
    "mean_and_error",
    "observable",
    "ordered",
    "points",
    "power_of_ten",
    "styled",
]

P = ParamSpec("P")

# Okabe and Ito's colours: distinct under the common forms of colour blindness.
_COLOURS = BLUE, ORANGE, GREEN, PINK, YELLOW, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
_MARKERS = "os^DvPX"
_DASHES: tuple[Any, ...] = (
    "-",
    (0, (6, 1.6)),
    (0, (3.5, 1.2, 1, 1.2)),
    (0, (1, 1)),
    (0, (7, 1.2, 1, 1.2, 1, 1.2)),
    (0, (3, 1.2)),
    (0, (10, 3)),
)
_STYLE: Any = {
    "axes.axisbelow": True,
    "axes.labelpad": 2.5,
    "axes.linewidth": 0.6,
    "axes.titlepad": 4,
    "axes.titlesize": "medium",
    "errorbar.capsize": 1.5,
    "font.family": "STIXGeneral",
    "font.size": 8,
    "hatch.linewidth": 0.5,
    "legend.fontsize": "small",
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "lines.linewidth": 1.1,
    "mathtext.fontset": "stix",
    "pdf.fonttype": 42,
    "savefig.dpi": 300,
    "xtick.direction": "in",
    "xtick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "xtick.top": True,
    "ytick.direction": "in",
    "ytick.major.width": 0.6,
    "ytick.minor.width": 0.4,
    "ytick.right": True,
}
COLUMN, PAGE = 3.4, 7.0
"""Inches: the widths of a column and of a page of a journal."""
DOT: dict[str, Any] = {"ls": "", "marker": "o", "ms": 3.2, "mfc": "white", "mew": 0.7, "zorder": 3}  # of Axes.plot
POINT: dict[str, Any] = DOT | {"elinewidth": 0.7}  # of Axes.errorbar
LEVEL: dict[str, Any] = {"color": "0.45", "ls": "-", "lw": 2.2, "alpha": 0.6, "zorder": 1.5}  # how a bound is drawn
_SMALL: dict[str, Any] = {name: DOT[name] for name in ("ms", "mfc", "mew")}
LETTERS = "abcdefghijklmnop"  # of panels
TIME = "time $t = n/D$"
ERROR = "classification error"
PMSE = r"pmse $\frac{1}{2}\langle\Delta^2\rangle$"


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

    @property
    def dot(self) -> dict[str, Any]:
        """Arguments of `Axes.plot`, for points without error bars."""
        return DOT | {"color": self.colour, "marker": self.marker}


def cues(n: int) -> list[Cue]:
    """n cues, all different in two ways up to six, and in one at least up to forty-two: the cycle of colours, 6, and
    that of markers and dashes, 7, have no common divisor.

    >>> len(set(cues(42))), len({cue.colour for cue in cues(6)}), len({cue.marker for cue in cues(7)})
    (42, 6, 7)
    """
    return [Cue(_COLOURS[i % 6], _MARKERS[i % 7], _DASHES[i % 7]) for i in range(n)]


def ordered(n: int) -> list[Cue]:
    """n cues in an order, for values of one quantity: colours from light to dark, the last line solid.

    >>> [cue.marker for cue in ordered(3)], ordered(3)[-1].dashes
    (['o', 's', '^'], '-')
    """
    shades = mpl.colormaps["viridis"](np.linspace(0.85, 0, n))
    return [Cue(to_hex(shade), _MARKERS[i % 7], _DASHES[(n - 1 - i) % 7]) for i, shade in enumerate(shades)]


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """A function that draws, in the house style."""

    @wraps(draw)
    def inner(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with house():
            figure = draw(*args, **kwargs)
            figure.draw_without_rendering()  # ticks are made here, with the settings of now
            return figure

    return inner


@contextmanager
def house() -> Iterator[None]:
    """Within, what matplotlib makes has the house style: drawings, and files, whose type is embedded."""
    with mpl.rc_context(_STYLE):
        yield


def observable(axes: Axes, run: xr.Dataset, sample: xr.Dataset | None, name: str, cue: Cue, **indices: int) -> None:
    """One component of an observable against time: a line for the theory, points for the runs."""
    axes.plot(run.time, run[name].isel(indices), **cue.line)
    if sample is not None:
        points(axes, sample.time, sample[name].isel(indices), cue)


def points(axes: Axes, x: Any, runs: xr.DataArray, cue: Cue, label: str | None = None) -> None:
    """Means over the seeds of `runs` at `x`, with their standard errors."""
    mean, error = mean_and_error(runs)
    axes.errorbar(x, mean, error, label=label, **cue.point)


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
    return Line2D([], [], color=color, label=label, ls="", marker=shape, **_SMALL)


def key(cue: Cue, label: str, *, line: bool = True, point: bool = True) -> Line2D:
    """Line and marker of a cue for a legend."""
    shown: dict[str, Any] = {"ls": cue.dashes if line else "", "marker": cue.marker if point else ""}
    return Line2D([], [], color=cue.colour, label=label, **shown, **_SMALL)


def letters(panels: Iterable[Axes]) -> None:
    """(a), (b), (c), .. above the left corners of the panels, which captions refer to."""
    for letter, axes in zip(LETTERS, panels, strict=False):
        axes.set_title(f"({letter})", loc="left")


def chance(axes: Axes) -> None:
    """A line at the error of a guess."""
    axes.axhline(0.5, color="0.8", lw=0.8, zorder=1)


def log_ticks(axis: Any, subs: tuple[int, ...] = (1, 2, 5)) -> None:
    """Plain numbers on a logarithmic axis."""
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def power_of_ten(size: float) -> str:
    """A number as LaTeX: powers of ten as such, from 10^3 on and up to 10^-3.

    >>> power_of_ten(500), power_of_ten(10**4), power_of_ten(1e-5)
    ('500', '10^{4}', '10^{-5}')
    """
    exponent = round(float(np.log10(size)))
    return f"10^{{{exponent}}}" if size == 10.0**exponent and abs(exponent) > 2 else f"{size:g}"
