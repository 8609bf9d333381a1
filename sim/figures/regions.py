"""Figure `regions`: where the oracle decides for which label, on mixtures in the plane, with its boundary and error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from quenched.numerics.oracle import oracle_error
from quenched.numerics.oracle_sampling import gaussians, label_densities
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.provenance import provenance
from quenched.numerics.problem.spectrum import Spectrum
from quenched.numerics.problem.variables import described
from quenched.sim.drawing.captions import listed
from quenched.sim.drawing.style import BLUE, LETTERS, ORANGE, PAGE, letters, styled
from quenched.sim.processes import Work

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["caption", "compute", "draw", "sentence"]

_AXES = np.array([np.diag([1.0, 0.0]), np.diag([0.0, 1.0])])
_XOR = Mixture.xor(0.5)
_LINE = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]])
MIXTURES = {
    "XOR, sigma 0.5": _XOR,
    "three clusters, sigma 0.5": Mixture(_LINE, np.array([-1.0, -1.0, 1.0]), np.array([0.25, 0.25, 0.5]), 0.5),
    "XOR, sigma 0.4 and 0.8": Mixture(_XOR.means, _XOR.labels, sigma=np.array([0.4, 0.4, 0.8, 0.8])),
    "covariances that cross": Mixture(
        0.3 * _LINE[:2],
        np.array([1.0, -1.0]),
        spectrum=Spectrum(np.array([[1.0, 0.1], [0.1, 1.0]]), alignment=_AXES),
    ),
}
SPAN, POINTS = 2.5, 251
LEVELS = (0.02, 0.1, 0.5)  # of the density, relative to its maximum


def compute(work: Work) -> dict[str, xr.Dataset]:
    """Densities of the two labels on a grid, and the oracle error, for each mixture."""
    import xarray as xr

    axis = np.linspace(-SPAN, SPAN, POINTS)
    x = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    found = work.map(_one, [(mixture, x) for mixture in MIXTURES.values()])
    densities = np.reshape([density for density, _, _ in found], (len(found), 2, POINTS, POINTS))
    axes = {"mixture": list(MIXTURES), "label": [1, -1], "first": axis, "second": axis}
    values = {
        "density": (tuple(axes), densities),
        "classification_error": ("mixture", [value for _, value, _ in found]),
        "classification_error_error": ("mixture", [error for _, _, error in found]),
    }
    attrs = provenance(mixtures=[repr(mixture) for mixture in MIXTURES.values()])
    return {"": described(xr.Dataset(values, axes, attrs))}


def _one(mixture: Mixture, x: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Densities (2, n) of the labels at x (n, 2), the error in the plane and its error."""
    oracle = oracle_error(mixture, D=2 if mixture.spectrum is None else None)
    return label_densities(gaussians(mixture), x), float(oracle.value), oracle.error


@styled
def draw(data: Mapping[str, xr.Dataset]) -> Figure:
    """One panel a mixture: regions shaded by how sure the label is, contours of the density, boundary, means."""
    found = data[""]
    figure = Figure(figsize=(PAGE, 2.3), layout="constrained")
    grid = figure.subplots(1, len(found.mixture), sharex=True, sharey=True)
    letters(grid)
    for axes, name in zip(grid.flat, found.mixture.values, strict=True):
        _panel(axes, found.sel(mixture=name), MIXTURES[str(name)])
    for axes in grid:
        axes.set_xlabel("$x_1$")
    grid[0].set_ylabel("$x_2$")
    handles = [
        Line2D([], [], ls="", marker="o", color=BLUE, mec="white", label="mean, label +1"),
        Line2D([], [], ls="", marker="s", color=ORANGE, mec="white", label="mean, label $-1$"),
        Line2D([], [], color="0.1", lw=1.6, label="boundary"),
        Line2D(
            [],
            [],
            color="0.45",
            lw=0.7,
            label="density: " + ", ".join(f"{100 * level:g} %" for level in LEVELS) + " of its maximum",
        ),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure


def _panel(axes: Axes, found: xr.Dataset, mixture: Mixture) -> None:
    plus, minus = found.density.sel(label=1).values, found.density.sel(label=-1).values
    sure = (plus - minus) / np.maximum(plus + minus, 1e-300)  # from -1 to 1
    shade = 0.12 + 0.43 * np.abs(sure)[:, :, None]
    colour = np.where(sure[:, :, None] > 0, to_rgb(BLUE), to_rgb(ORANGE))
    x = found["first"].values
    axes.grid(False)
    image = 1 - shade * (1 - colour)
    axes.imshow(image.swapaxes(0, 1), origin="lower", extent=(-SPAN, SPAN, -SPAN, SPAN), interpolation="bilinear")
    density = (plus + minus) / (plus + minus).max()
    axes.contour(x, x, density.T, levels=LEVELS, colors="0.45", linewidths=0.7)
    axes.contour(x, x, sure.T, levels=[0.0], colors="0.1", linewidths=1.6)
    for label, shape, face in ((1, "o", BLUE), (-1, "s", ORANGE)):
        means = mixture.means[mixture.labels == label]
        axes.plot(*means.T, ls="", marker=shape, color=face, mec="white", ms=8, mew=0.8)
        for x1, x2 in means:  # the sign of the label, for those who see no colours
            axes.text(x1, x2, "$+$" if label > 0 else "$-$", color="white", ha="center", va="center_baseline", zorder=4)
    axes.set_title(f"{found.mixture.item()}\nerror {found.classification_error.item():.4f}")
    axes.set_aspect("equal")


def caption(data: Mapping[str, xr.Dataset]) -> str:
    """Panels and parameters."""
    named = "; ".join(f"({letter}) {name}" for letter, name in zip(LETTERS, MIXTURES, strict=False))
    return (
        "Where the oracle, which knows means and covariances, decides for the labels + (blue, means as discs) and - "
        f"(orange, squares), on mixtures in the plane: {named}.  All is theory, nothing is sampled.  "
        "Shades: how sure the label is, |p(+|x) - p(-|x)|; thick line: the boundary; thin lines: the density of x at "
        f"{listed(f'{100 * level:g} %' for level in LEVELS)} of its maximum.  The cluster weights are equal but for "
        "three clusters, where the middle one has 1/2.  Covariances that cross: diag(1, 0.1) and diag(0.1, 1), means "
        "at ±0.3 e1.  Above each panel the error of the oracle in the plane."
    )


def sentence(data: Mapping[str, xr.Dataset]) -> str:
    """The errors, and how well they are known."""
    found = data[""]
    errors = ", ".join(
        f"{name} {value:.5f} ± {error:.0e}"
        for name, value, error in zip(
            found.mixture.values,
            found.classification_error.values,
            found.classification_error_error.values,
            strict=True,
        )
    )
    return f"oracle errors in the plane: {errors}."
