"""`quenched show`: what a result file holds, and with which parameters it was made."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from quenched.sim.cli.options import command
from quenched.sim.cli.plot import read
from quenched.sim.cli.terminal import print_table

__all__ = ["NEEDS_ARGUMENTS", "VERB"]

NEEDS_ARGUMENTS = True
_LONG = 100  # characters of a parameter that are shown


def show(
    files: Annotated[list[Path], typer.Argument(help="NetCDF files of any verb.")],
    full: Annotated[bool, typer.Option("--full", help="Show long parameters, such as arrays, in full.")] = False,
) -> None:
    """Say what is in a file: its parameters, its variables with their meaning, units and range.

    Columns: variable, its dimensions, its least and largest value, units, meaning.

    Example:  quenched show run.nc
    """
    for path in files:
        dataset = read(path)
        sizes = ", ".join(f"{dim} {size}" for dim, size in dataset.sizes.items())
        sys.stdout.write(f"{path}: {sizes}\n\n")
        for name, text in dataset.attrs.items():
            for key, value in _parts(str(name), text):
                sys.stdout.write(f"  {key} = {value if full or len(value) <= _LONG else value[:_LONG] + ' ...'}\n")
        sys.stdout.write("\n")
        rows = []
        for name, variable in dataset.variables.items():
            least, largest = _range(variable.values)
            attrs = variable.attrs
            row = [str(name), ", ".join(map(str, variable.dims)), least, largest, attrs.get("units", "")]
            rows.append([*row, attrs.get("long_name", "")])
        print_table(["variable", "dimensions", "least", "largest", "units", "meaning"], rows)


def _parts(name: str, value: Any) -> list[tuple[str, str]]:
    """A parameter, or the fields of one that is a record in JSON."""
    try:
        record = json.loads(value)
    except (TypeError, ValueError):
        return [(name, str(value))]
    if isinstance(record, dict):
        return [(f"{name}.{key}", json.dumps(each)) for key, each in record.items() if each is not None]
    return [(name, json.dumps(record))]


def _range(values: np.ndarray) -> tuple[str, str]:
    if values.dtype.kind not in "fiu" or not values.size or np.isnan(values.astype(float)).all():
        return "", ""
    return f"{np.nanmin(values):.6g}", f"{np.nanmax(values):.6g}"


VERB = command(show)
