"""The figures of `quenched reproduce`: modules of this folder that compute, draw, and say what is seen.

A figure NAME is one file NAME.py with four functions:

    compute(work) -> datasets by name          parameters and seeds are constants at the top of the file
    draw(data) -> a matplotlib Figure          in the house style, `quenched.sim.drawing`
    caption(data) -> what is shown             panels, all parameters, seeds, what is theory and what is simulation
    sentence(data) -> what there is to see     with its numbers

A fifth, `missing() -> str`, names what the figure needs and this machine has not ("": all is there).  Data become
FOLDER/NAME_KEY.nc (NAME.nc where the key is ""), with all parameters in the attributes, pictures FOLDER/NAME.pdf and
FOLDER/NAME.png.  All of them hold caption and sentence; FOLDER/figures.md shows the figures of the folder with them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from quenched.sim.files import prepare, save
from quenched.sim.journal import Journal
from quenched.sim.processes import Work

__all__ = ["MAIN", "about", "figures", "make", "missing", "picture", "pictures"]

MAIN = ("dynamics", "headline", "digits", "comparison")
"""Those that `quenched reproduce` makes when not told which: five minutes.  All of them take about an hour."""

_PARTS = ("compute", "draw", "caption", "sentence")


def figures() -> list[str]:
    """Names of all figures, the main ones first."""
    folders = import_module("quenched.sim.figures").__path__
    found = {path.stem for folder in folders for path in Path(folder).glob("*.py") if _is_figure(path)}
    return sorted(found, key=lambda name: (name not in MAIN, MAIN.index(name) if name in MAIN else 0, name))


def _is_figure(path: Path) -> bool:
    """Whether it defines the four functions; the text tells, without importing."""
    text = path.read_text(encoding="utf-8")
    return all(f"\ndef {part}(" in text for part in _PARTS)


def missing(figure: str) -> str:
    """What a figure needs that this machine has not; "" if nothing."""
    return str(getattr(_module(figure), "missing", str)())


def about(figure: str) -> str:
    """What a figure shows: the first line of its file.

    >>> about("samples")
    'error against n/D of learners on a fixed training set, theory and training sets.'
    """
    first = str(_module(figure).__doc__).splitlines()[0]
    return first.removeprefix(f"Figure `{figure}`: ")


def picture(folder: Path, figure: str) -> Path:
    """The picture of a figure that is written last: when it is there, all is."""
    return folder / f"{figure}.png"


def pictures(folder: Path, figure: str) -> list[Path]:
    """All pictures of a figure."""
    return [folder / f"{figure}.pdf", picture(folder, figure)]


def make(
    figure: str,
    folder: Path,
    processes: int = 1,
    progress: Callable[[float], None] | None = None,
    *,
    journal: Journal | None = None,
    force: bool = True,
) -> str:
    """Compute one of `figures()` into `folder`; `progress` is called with the fraction done.

    What is finished is kept in `journal`.  Returns what is to be said about it.  ValueError: no such figure, something
    that it needs is missing, or its pictures exist and not `force`.
    """
    from quenched.sim.drawing import captions

    known = figures()
    if figure not in known:
        raise ValueError(f"figure must be one of {', '.join(known)}, got {figure!r}")
    if needed := missing(figure):
        raise ValueError(f"figure must be one that can be made here: {figure!r} needs {needed}")
    prepare("folder", pictures(folder, figure), force=force)
    module = _module(figure)
    work = Work(processes, progress)
    data = module.compute(replace(work, journal=journal))
    sentence = str(module.sentence(data))
    caption = f"{module.caption(data)}\n\n{sentence[:1].upper()}{sentence[1:]}"
    for key, dataset in data.items():
        save(dataset, folder / (f"{figure}_{key}.nc" if key else f"{figure}.nc"), caption)
    drawn = module.draw(data)
    for path in pictures(folder, figure):
        save(drawn, path, caption)
    captions.write_page(folder, [picture(folder, name) for name in known])
    work.report(1.0)
    return sentence


def _module(figure: str) -> Any:
    return import_module(f"quenched.sim.figures.{figure}")
