"""`quenched plot`: the figure of a result file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quenched.sim.cli.options import command

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["NEEDS_ARGUMENTS", "VERB", "read"]

NEEDS_ARGUMENTS = True


def plot(
    files: Annotated[list[Path], typer.Argument(help="NetCDF files of dynamics, curve or fixed-points.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Figure to write (default: beside the first file, .png).")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a figure that exists.")] = False,
) -> None:
    """Draw what a file holds: a learning curve, simulations, errors against noise, a followed solution.

    Theory and simulation of one problem go into one figure, lines and points.

    Example:  quenched plot run.nc
    Example:  quenched plot run.nc run_simulation.nc -o both.pdf
    """
    from quenched.sim.drawing.plot import plot as drawn
    from quenched.sim.files import PICTURES, prepare, save

    results = [read(path) for path in files]
    target = output or files[0].with_suffix(".png")
    prepare("output", [target], PICTURES, force=force)
    save(drawn(*results), target)
    sys.stdout.write(f"wrote {target}\n")


def read(path: Path) -> xr.Dataset:
    """The dataset of a file.  ValueError: there is none."""
    import xarray as xr

    if not path.is_file():
        raise ValueError(f"file must be a NetCDF file, got {str(path)!r}: {'a folder' if path.is_dir() else 'no file'}")
    try:
        return xr.load_dataset(path, engine="h5netcdf")
    except (OSError, ValueError) as error:
        raise ValueError(f"file must be a NetCDF file, got {str(path)!r}: {str(error).splitlines()[0]}") from error


VERB = command(plot)
