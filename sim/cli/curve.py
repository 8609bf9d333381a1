"""`quenched curve`: classification error against noise, for learners by name."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quenched.numerics.learners import learners
from quenched.numerics.problem.learner import Options, option
from quenched.numerics.problem.specification import Specification
from quenched.sim.cli import problems
from quenched.sim.cli.options import Files, command, flag, part
from quenched.sim.cli.terminal import kept, print_table, progress

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["VERB"]


@dataclass(frozen=True)
class Run:
    """Which learners, at which noise levels, and how."""

    learner: tuple[str, ...] = option((), f"{', '.join(learners())}; repeat for more (default: oracle, two-layer).")
    sigma: str = option("0.2:1:9", "Noise levels: FIRST:LAST:NUMBER, or a comma-separated list.")
    scaling: str = option("0", "Means times D^scaling: an exponent, or one per coordinate.")
    processes: int = option(1, "Worker processes.")
    problem: Specification | None = part()

    def of(self, problem: Specification) -> Run:
        """The learners of a specification."""
        return replace(self, problem=problem, learner=tuple(problem.learner or ()))

    def levels(self, given: Collection[str]) -> Any:
        """The noise levels: those of a specification, where it has them."""
        named = None if self.problem is None or "sigma" in given else self.problem.sigma
        return problems.levels("sigma", self.sigma) if named is None else named


def curve(
    problem: Specification | None,
    inputs: problems.Inputs,
    run: Run,
    options: dict[str, Options],
    files: Files,
    given: Collection[str],
) -> None:
    """Classification error against the noise sigma, for the chosen learners.

    Columns: sigma, and the error of each learner: of "oracle", which knows the means, nothing is better; of "two-layer"
    that of the best of several initial states at time t.  The options of a learner have its name in brackets; one that
    no chosen learner has is refused.  What was used for each, defaults included, is said on standard error.  Files:
    .csv and .nc with everything, or a figure.

    Example:  quenched curve --sigma 0.2:1:9 --learner oracle --learner two-layer -o curve.csv -o curve.png
    Example:  quenched curve --sigma 0.5,1 --learner oracle --digits 30
    Example:  quenched curve problem.toml --sigma 0.5,1
    Example:  quenched curve --mixture two-clusters --spectrum power:2,0.1,10 --activation erf -t 100
    Example:  quenched curve --learner random-features --scaling 0.25 --gamma 2 --sigma 0.5:2:7
    Example:  quenched curve --learner kernel --kernel rbf --alpha 2 --learner ntk --scaling 0.25 --sigma 0.5:2:7
    """
    from quenched.sim.error_curve import error_curve
    from quenched.sim.files import DATA, PICTURES, prepare
    from quenched.sim.processes import Work

    inputs.check(given)
    files.check(given)
    prepare("output", files.output, [*DATA, *PICTURES], force=files.force)
    mixture = inputs.build()
    if problem is None or "scaling" in given:
        mixture = replace(mixture, scaling=_exponents(run.scaling))
    if inputs.spectrum is not None:
        mixture = problems.with_spectrum(mixture, inputs.spectrum)
    names = run.learner or (("oracle", "two-layer") if problems.has_oracle(mixture) else ("two-layer",))
    if unknown := [name for name in names if name not in options]:
        raise ValueError(f"learners must be among {', '.join(options)}, got {unknown!r}")
    chosen = {name: options[name] for name in names}
    _check(chosen, options, given)
    with kept("curve", next(iter(files.output), None), files.resume) as journal, progress("curve") as report:
        work = Work(run.processes, report, journal)
        result = error_curve(mixture, run.levels(given), chosen, work)
        _write(result, files.output)
    print_table(["sigma", *chosen], _rows(result))
    for name, used in chosen.items():
        if told := " ".join(_told(used)):
            sys.stderr.write(f"{name}: {told}\n")


def _check(chosen: dict[str, Options], table: dict[str, Options], given: Collection[str]) -> None:
    """ValueError for an option that none of the chosen learners has, and for digits of what has only float64."""
    known = {name for options in chosen.values() for name in _names(options)}
    for name, options in table.items():
        for extra in sorted(_names(options) & set(given) - known):
            raise ValueError(f"{flag(extra)} is an option of the learner {name}: add --learner {name}")
    if "digits" in given and list(chosen) != ["oracle"]:
        raise ValueError("--digits needs --learner oracle alone: all other learners are computed in float64")


def _names(options: Any) -> set[str]:
    """The fields of a record and of the records in it."""
    found: set[str] = set()
    for each in fields(options):
        value = getattr(options, each.name)
        found |= _names(value) if is_dataclass(value) else {each.name}
    return found


def _told(options: Any) -> Iterator[str]:
    """Options as flags: all that say something, of a network and a rule those that are not as always.

    >>> from quenched.numerics import OnlineSGD
    >>> list(_told(OnlineSGD(0.5, second_lr=0.0, frozen=["v", "w1"], sphere=True)))
    ['--lr 0.5', '--second-lr 0.0', '--frozen v', '--frozen w1', '--sphere']
    """
    for each in fields(options):
        value = getattr(options, each.name)
        if is_dataclass(value):
            yield from _told(value)
        elif not isinstance(options, Options) and each.default is not MISSING and value == each.default:
            continue
        elif value is True:
            yield flag(each.name)
        elif value is not None and value is not False:
            yield from (f"{flag(each.name)} {one}" for one in (value if isinstance(value, tuple) else (value,)))


def _rows(result: xr.Dataset) -> list[list[str]]:
    """The table: as many digits as were asked for."""
    texts = result.digits.values[:, None].tolist() if "digits" in result else None
    errors = [[f"{e:.12g}" for e in row] for row in result.classification_error.values.T]
    return [[f"{s:.12g}", *row] for s, row in zip(result.sigma.values, texts or errors, strict=True)]


def _write(result: xr.Dataset, paths: Collection[Path]) -> None:
    """The files; in CSV the error of a learner has its name, and its numerical error the name with _error."""
    from quenched.sim.files import PICTURES, csv_text, save, table, write

    for path in paths:
        if path.suffix.lower() == ".csv":
            header, rows = table(result)
            names = {f"classification_error[{name}]": str(name) for name in result.learner.values}
            names |= {f"classification_error_error[{name}]": f"{name}_error" for name in result.learner.values}
            write(path, csv_text([names.get(column, column) for column in header], rows, result.attrs))
        elif path.suffix.lower() in PICTURES:
            from quenched.sim.drawing import plot

            save(plot.curve(result), path)
        else:
            save(result, path)


def _exponents(text: str) -> Any:
    try:
        exponents = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ValueError(f"scaling must be a number or a comma-separated list, got {text!r}") from error
    return exponents if len(exponents) > 1 else exponents[0]


VERB = command(
    curve,
    inputs=problems.Inputs(),
    run=Run(),
    options={name: learner.options for name, learner in learners().items()},
    files=Files(),
)
