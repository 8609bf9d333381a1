"""The figures of `quenched reproduce`: modules of this folder that compute, draw, and say in a sentence what is seen.

A figure NAME is one file NAME.py with three functions:

    compute(work) -> datasets by name          parameters and seeds are constants at the top of the file
    draw(data) -> a matplotlib Figure
    sentence(data) -> what there is to see

Its data become FOLDER/NAME_KEY.nc (NAME.nc where the key is ""), with all parameters in the attributes, and its picture
FOLDER/NAME.png.
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

__all__ = ["MAIN", "figures", "make", "picture"]

MAIN = ("dynamics", "headline", "digits", "comparison")
"""Those that `quenched reproduce` makes when not told which: five minutes.  All of them take about an hour."""

_PARTS = ("compute", "draw", "sentence")


def figures() -> list[str]:
    """Names of all figures, the main ones first."""
    folders = import_module("quenched.sim.figures").__path__
    found = {path.stem for folder in folders for path in Path(folder).glob("*.py") if _is_figure(path)}
    return sorted(found, key=lambda name: (name not in MAIN, MAIN.index(name) if name in MAIN else 0, name))


def _is_figure(path: Path) -> bool:
    """Whether it defines the three functions; the text tells, without importing."""
    text = path.read_text(encoding="utf-8")
    return all(f"\ndef {part}(" in text for part in _PARTS)


def picture(folder: Path, figure: str) -> Path:
    """Where the picture of a figure goes."""
    return folder / f"{figure}.png"


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

    What is finished is kept in `journal`.  Returns what is to be said about it.  ValueError: no such figure, or its
    picture exists and not `force`.
    """
    known = figures()
    if figure not in known:
        raise ValueError(f"figure must be one of {', '.join(known)}, got {figure!r}")
    prepare("folder", [picture(folder, figure)], force=force)
    module: Any = import_module(f"quenched.sim.figures.{figure}")
    work = Work(processes, progress)
    data = module.compute(replace(work, journal=journal))
    for key, dataset in data.items():
        save(dataset, folder / (f"{figure}_{key}.nc" if key else f"{figure}.nc"))
    save(module.draw(data), picture(folder, figure))
    work.report(1.0)
    return str(module.sentence(data))
