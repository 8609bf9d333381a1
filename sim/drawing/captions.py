"""What is said below figures: words for parameters, and the page that holds the figures of a folder.

A caption names every parameter, the seeds, the numbers of runs, and says what is theory and what is simulation.  It is
plain text, since it goes into the metadata of pictures and the attributes of datasets too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.rules import GradientFlow, LearningRule
from quenched.sim.drawing.style import power_of_ten
from quenched.sim.files import write

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["PAGE", "apart", "listed", "of_network", "of_rule", "of_seeds", "read", "sizes", "write_page"]

Interpolation = Literal["linear", "nearest", "cubic"]

PAGE = "figures.md"
"""The file that holds all figures of a folder with their captions."""


def listed(values: Iterable[object], last: str = "and") -> str:
    """Numbers or words in a row.

    >>> listed([0.5, 2.0, 8])
    '0.5, 2 and 8'
    """
    words = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
    return f"{', '.join(words[:-1])} {last} {words[-1]}" if len(words) > 1 else "".join(words)


def sizes(values: Iterable[float]) -> str:
    """Dimensions in a row.

    >>> sizes([100, 10**4])
    '100 and 10^4'
    """
    return listed(power_of_ten(value).replace("{", "").replace("}", "") for value in values)


def apart(theory: xr.DataArray, runs: xr.DataArray, along: str, method: Interpolation = "cubic") -> xr.DataArray:
    """Distance of the line `theory` from the mean of `runs` over the seeds, where these are.

    `along`: the coordinate of the line; `method`: how it is interpolated.

    >>> import xarray as xr
    >>> line = xr.DataArray([0.0, 1.0, 4.0, 9.0], {"x": [0.0, 1.0, 2.0, 3.0]}, ("x",))
    >>> runs = xr.DataArray([[6.0, 7.0]], {"x": [2.5], "seed": [0, 1]}, ("x", "seed"))
    >>> round(apart(line, runs, "x").item(), 9)
    0.25
    """
    mean = runs.mean("seed")
    at = theory.interp({along: mean[along].values}, method=method)
    return abs(at.assign_coords({along: mean[along]}) - mean)


def of_seeds(seeds: Sequence[int]) -> str:
    """Number and names of runs.

    >>> of_seeds(range(5)), of_seeds([3])
    ('5 runs (seeds 0 to 4)', 'one run (seed 3)')
    """
    names = list(seeds)
    if len(names) == 1:
        return f"one run (seed {names[0]})"
    row = names == list(range(names[0], names[0] + len(names)))
    return f"{len(names)} runs (seeds {f'{names[0]} to {names[-1]}' if row else listed(names)})"


def of_network(network: TwoLayer) -> str:
    """A network.

    >>> of_network(TwoLayer(4, "relu"))
    'two-layer network, K = 4, relu'
    """
    scale = "" if network.output_scale == 1 else f", output scale {network.output_scale:g}"
    return f"two-layer network, K = {network.K}, {network.activation}{scale}"


def of_rule(rule: LearningRule) -> str:
    """A learning rule; what has its default is not named.

    >>> from quenched.numerics import OnlineSGD
    >>> of_rule(OnlineSGD(0.5)), of_rule(GradientFlow(weight_decay=0.01))
    ('online SGD, η = 0.5', 'gradient flow (η → 0), κ = 0.01')
    >>> of_rule(OnlineSGD("1/(1 + t)", loss="logistic", frozen="v", sphere=True))
    'online SGD, η = 1/(1 + t), loss logistic, frozen v, sphere'
    """
    kind = "gradient flow (η → 0)" if isinstance(rule, GradientFlow) else "online SGD"
    return ", ".join([kind, *rule.words.values()])


def read(picture: Path) -> str | None:
    """The caption in a PNG picture; None where there is none."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(picture) as image:
            return image.info.get("Description")
    except UnidentifiedImageError:  # a file that is no picture has no caption
        return None


def write_page(folder: Path, pictures: Iterable[Path]) -> Path:
    """The page of a folder: the pictures that are there, in order, each with the caption that it holds."""
    parts = ["# Figures", "", "Each with its caption, which the pictures and the data (.nc) hold too."]
    for picture in pictures:
        if picture.exists() and (caption := read(picture)):
            pdf = picture.with_suffix(".pdf").name
            parts += ["", f"## {picture.stem}", "", f"[![{picture.stem}]({picture.name})]({pdf})", "", caption]
    write(folder / PAGE, "\n".join(parts) + "\n")
    return folder / PAGE
