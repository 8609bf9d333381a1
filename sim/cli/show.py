"""`quenched show`: what a result file holds, or a specification says: parameters, defaults, units, equations."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from quenched.numerics.course.pieces import Course, course
from quenched.numerics.problem.checks import Record
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.specification import Specification
from quenched.numerics.problem.variables import VARIABLES
from quenched.numerics.scaling.power_law import PowerLaw
from quenched.sim.cli.options import HELP, command
from quenched.sim.cli.plot import read
from quenched.sim.cli.terminal import print_table

__all__ = ["NEEDS_ARGUMENTS", "VERB"]

NEEDS_ARGUMENTS = True
_LONG = 100  # characters of a parameter that are shown
_PLACE = re.compile(r"\[\d+\]")  # which of several pieces
_MEANING = {
    "mixture.means": ("mean vectors over sqrt(D), a row a cluster", "1"),
    "mixture.labels": ("labels of the clusters", "1"),
    "mixture.weights": ("probabilities of the clusters", "1"),
    "mixture.scaling": ("exponent a of means that grow as D^a", "1"),
    "mixture.spectrum": ("eigenvalues of the covariances (none: isotropic)", ""),
    "mixture.teacher": ("network that makes the labels (none: the clusters do)", ""),
    "rule.batch": ("fresh samples a step", "1"),
    "rule.loss": ("loss l(phi, y) of a sample", ""),
    "mixture.until": ("time until which it is learned", "D steps"),
    "rule.until": ("time until which it holds", "D steps"),
    "power_law": ("power-law problem (none: another)", ""),
    "power_law.a": ("capacity exponent, variances j^(-2a) of the inputs", "1"),
    "power_law.b": ("source exponent, target j^(-b)", "1"),
    "power_law.inputs": ("number of inputs", "1"),
    "power_law.rate": ("learning rate, in units of the largest of finite risk", "1"),
    "power_law.batch": ("fresh samples a step", "1"),
    "draw": ("seed of the features of the power law", "1"),
    "t": ("recorded times", "D steps"),
    "readout_scale": ("initial v_k ~ N(0, scale^2/K)", "1"),
    "state": ("initial state (none: random weights)", "1"),
    "seeds": ("seeds of simulations", "1"),
    "engine": ("engine of simulations", ""),
    "test_samples": ("samples that errors of a simulation are averaged over", "1"),
}
"""What is not in the table of variables, or is something else there: meaning, units."""


def show(
    files: Annotated[list[Path], typer.Argument(help="Specifications (.toml), or NetCDF files of any verb.")],
    full: Annotated[bool, typer.Option("--full", help="Show long parameters, such as arrays, in full.")] = False,
    toml: Annotated[
        bool, typer.Option("--toml", help="Write the problem as a specification, from which it can be computed again.")
    ] = False,
) -> None:
    """Say what is in a file: its parameters, its variables with their meaning, units and range.

    Columns of a result: variable, its dimensions, its least and largest value, units, meaning.  Columns of a
    specification: part, its value, "default" where the file leaves it out, units, meaning; of a power law its phase and
    exponents; then the equations of learning for D -> infinity, as LaTeX.  A problem that changes in time is shown
    piece by piece.

    Example:  quenched show run.nc
    Example:  quenched show problem.toml
    Example:  quenched show run.nc --toml
    """
    from quenched.sim.specifications import read_problem

    for path in files:
        if toml:
            sys.stdout.write(read_problem(path).toml())
        elif path.suffix.lower() == ".toml":
            _specification(read_problem(path), full)
        else:
            _result(path, full)


def _specification(problem: Specification, full: bool) -> None:
    """Every part of a problem and of its records, and the equations."""
    rows = []
    for name, value, usual, said in _problem_parts(problem):
        text = "none" if value is None else str(value.tolist()) if isinstance(value, np.ndarray) else str(value)
        option = (said, "") if said else None
        plain = _PLACE.sub("", name)
        meaning, units = option or _MEANING.get(plain) or VARIABLES.get(name.rpartition(".")[2], ("", ""))
        meaning = meaning or HELP.get(name.rpartition(".")[2], "")
        short = text if full or len(text) <= _LONG else text[:_LONG] + " ..."
        rows.append([name, short, "default" if usual else "", "" if value is None else units, meaning])
    print_table(["part", "value", "", "units", "meaning"], rows)
    if problem.power_law is not None:
        sys.stdout.write(f"\n{_phase(problem.power_law)}\n")
    if problem.mixture is not None and problem.network is not None and problem.rule is not None:
        _equations(course(problem.mixture, problem.rule), problem.network)


def _equations(pieces: Course, network: TwoLayer) -> None:
    """The equations of each piece, where they differ from those of the one before."""
    from quenched.numerics.typesetting import equations

    before = ""
    for piece in pieces.pieces:
        text = str(equations(pieces.tasks[piece.task], network, piece.rule))
        if len(pieces.pieces) > 1:
            end = "" if math.isinf(piece.until) else f" to {piece.until:g}"
            more = ", the same equations" if text == before else ""
            sys.stdout.write(f"\nfrom t = {piece.since:g}{end}: task {piece.task}, {piece.rule!r}{more}\n")
        sys.stdout.write("" if text == before else f"\n{text}\n")
        before = text


def _phase(law: PowerLaw) -> str:
    """The phase of a power law and its exponents, or why it has none."""
    from quenched.numerics.scaling.exponents import scaling_exponents

    try:
        found = scaling_exponents(law.a, law.b)
    except ValueError as error:
        return f"no phase: {error}"
    return (
        f"phase {found.phase}: the least risk falls with the compute f as f^{found.compute:.6g}, at the best size "
        f"f^{found.optimal_size:.6g}, where {' and '.join(found.terms)} meet"
    )


def _problem_parts(problem: Specification) -> Iterator[tuple[str, Any, bool, str]]:
    """Name and value of each part, whether it is the default, and what the help says of it, if it is an option of a
    learner; the fields of a record one by one.
    """
    for each in fields(problem):
        value = getattr(problem, each.name)
        inner = value if isinstance(value, Mapping) else {each.name: value}
        if isinstance(value, tuple) and value and isinstance(value[0], tuple):  # one after the other
            inner = {f"{each.name}[{i}]": one for i, (one, _) in enumerate(value)}
            for i, (_, until) in enumerate(value):
                yield f"{each.name}[{i}].until", until, until is None, ""
        for name, one in inner.items():
            if not isinstance(one, Record):
                yield name, one, one is None, ""
                continue
            for part in fields(one):
                if part.init:
                    usual = getattr(one, part.name)
                    same = not isinstance(usual, np.ndarray) and bool(usual == part.default)
                    yield f"{name}.{part.name}", usual, same, part.metadata.get("help", "")


def _result(path: Path, full: bool) -> None:
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
