"""Figure `mnist`: as `digits`, on images of MNIST, whose files the user has: odd against even, D = 784.

It is made where `QUENCHED_MNIST` names a folder with MNIST's idx files, or `QUENCHED_REFDATA` one that has them in its
folder mnist_t10k.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from quenched.sim.figures import digits
from quenched.sim.figures.digits import Study
from quenched.sim.processes import Work
from quenched.sim.samples import mnist, mnist_folder

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["caption", "compute", "draw", "missing", "sentence"]

T = 20.0


def missing() -> str:
    """What is needed and not there."""
    return "" if mnist_folder() else "MNIST's files: set QUENCHED_MNIST to their folder"


def _study() -> Study:
    return Study("MNIST", str(mnist_folder() or Path()), T, shrinkage="ledoit-wolf")


def compute(work: Work) -> dict[str, xr.Dataset]:
    """The equations for three fits, runs on samples of the last, and on the images.

    ValueError: the folder does not hold MNIST's files.
    """
    study = _study()
    mnist(study.source)  # refuses before anything is computed
    return digits.fitted(work, study)


def draw(data: Mapping[str, xr.Dataset]) -> Figure:
    """pmse and error against time, beside the oracle error of the mixtures with covariances."""
    return digits.draw(data)


def caption(data: Mapping[str, xr.Dataset]) -> str:
    """Panels, parameters, runs."""
    return digits.caption(data, _study())


def sentence(data: Mapping[str, xr.Dataset]) -> str:
    """The errors at the end."""
    return digits.end(data, _study())
