"""Options of the command line from records: a field is a flag, with its default, its type and its help.

A verb is a function of records and a few plain arguments.  `command` gives it the flat signature that typer reads, and
puts what comes back into the records, so that what a record refuses is refused with the name of the option.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import typer

from quenched.numerics.problem.learner import Options, option
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.rules import LearningRule
from quenched.numerics.problem.specification import Specification
from quenched.sim.cli.terminal import Interrupted, interruption
from quenched.symbolic.language.grammar import BUILTIN, LOSSES, NAMED

__all__ = ["HELP", "LOSS_NAMES", "Files", "command", "flag", "part", "refuse"]

_FLAGS = {"K": ["--K"], "D": ["--D"], "t": ["--time", "-t"], "output": ["--output", "-o"]}
LOSS_NAMES = ", ".join(LOSSES)
HELP = {
    "K": "Number of neurons.",
    "activation": f"{', '.join([*BUILTIN, *NAMED])}, or an expression in x.",
    "output_scale": "Factor s on the output; lazy for large s.",
    "lr": "Learning rate eta: a number, an expression in t, or a table t:value,t:value.",
    "second_lr": "Learning rate of the second layer (default: as of the first).",
    "weight_decay": "Weight decay kappa, as --lr.",
    "second_weight_decay": "Decay of the second layer (default: as of the first).",
    "label_noise": "Standard deviation of the noise on training labels.",
    "bias_lr": "Learning rate of thresholds of the neurons (0: none).",
    "bias_decay": "Decay of the thresholds.",
    "intercept_lr": "Learning rate of an intercept of the output (0: none).",
    "intercept_decay": "Decay of the intercept.",
    "loss": f"{LOSS_NAMES}, or an expression in phi and y.",
    "batch": "Fresh samples a step.",
    "frozen": "What does not learn: w (first layer), v (readout), w3, v3, 3 (both of neuron 3); repeat for more.",
    "sphere": "Scale each weight back to its length after a step.",
    "friction": "Momentum beta = 1 - zeta/D of this friction zeta; a number, or in time like lr (default: none).",
    "temperature": "Temperature T of a bath on the first layer; a number, or in time like lr.",
}
"""Fields of records of numerics, which know nothing of a command line."""

_SPEC = Annotated[
    Path | None,
    typer.Argument(help="Specification of the problem: a TOML file, or the .nc of a result; flags override it."),
]
_PLAIN = (bool, int, float, str, Path)


@dataclass(frozen=True)
class Files:
    """Where results go."""

    output: tuple[Path, ...] = option((), "File to write; the suffix says the format; repeat for more.")
    force: bool = option(False, "Overwrite files that exist.")
    resume: bool = option(False, "Go on from what an interrupted run has finished.")

    def check(self, given: Collection[str]) -> None:
        """ValueError for --force without a file."""
        if "force" in given and not {"output", "plot"} & set(given):
            raise ValueError("--force is of files: add --output")


@dataclass(frozen=True)
class _Leaf:
    """A field that is a flag; `several`: it is a tuple."""

    name: str
    kind: Any
    several: bool
    default: Any
    text: str


def part() -> Any:
    """A field of a record of options that a specification fills, and no flag."""
    return field(default=None, metadata={"flag": False})


def flag(name: str) -> str:
    """How an option is written.

    >>> flag("second_lr"), flag("t")
    ('--second-lr', '--time')
    """
    return _FLAGS.get(name, [f"--{name.replace('_', '-')}"])[0]


def refuse(given: Collection[str], one: str, others: Collection[str], reason: str) -> None:
    """ValueError where the option `one` and one of the `others` are given together."""
    for other in others:
        if one in given and other in given:
            raise ValueError(f"{flag(other)} does not go together with {flag(one)}: {reason}")


def command(function: Callable[..., None], *, changing: bool = False, **records: Any) -> Callable[..., None]:
    """`function`, whose arguments in `records` are records, as a function of the fields of these records.

    `records`: for each argument its default record, or a mapping of records by name, that share options of one name.
    An argument called `given` gets the names of the options that are on the command line.

    With an argument called `problem` the verb takes a specification: a file, read into that argument (None: there is
    none).  The records then start from it (`_adopted`), and flags override what it says.  `changing`: whether the verb
    takes a problem that changes in time.
    """
    flat: dict[str, inspect.Parameter] = {}
    hints = get_type_hints(function, include_extras=True)
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name == "given":
            continue
        if parameter.name == "problem":
            flat["spec"] = parameter.replace(name="spec", annotation=_SPEC, default=None)
            continue
        if parameter.name not in records:
            flat[parameter.name] = parameter.replace(annotation=hints[parameter.name])
            continue
        record = records[parameter.name]
        for one in _flags(record if isinstance(record, Mapping) else {"": record}):
            if one.name in flat:
                raise TypeError(f"{function.__name__} has two options called {one.name}")
            flat[one.name] = one

    def run(ctx: typer.Context, **values: Any) -> None:
        given = {name for name in flat if (source := ctx.get_parameter_source(name)) and source.name == "COMMANDLINE"}
        problem, takes = None, "problem" in inspect.signature(function).parameters
        if takes and values["spec"] is not None:
            from quenched.sim.specifications import read_problem

            problem = read_problem(values["spec"])
            problem.need("mixture")
            if not changing:
                problem.constant(f"quenched {ctx.info_name}")
        chosen = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items() if name in given}
        arguments = {
            name: {key: _rebuilt(_adopted(each, problem, key), chosen) for key, each in record.items()}
            if isinstance(record, Mapping)
            else _rebuilt(_adopted(record, problem), chosen)
            for name, record in records.items()
        }
        arguments |= {name: value for name, value in values.items() if name in inspect.signature(function).parameters}
        if takes:
            arguments["problem"] = problem
        if "given" in inspect.signature(function).parameters:
            arguments["given"] = given
        try:
            function(**arguments)
        except BaseException as error:
            stop = interruption(error)
            if stop is None:
                raise
            sys.stderr.write("; ".join(["quenched: interrupted", *getattr(stop, "__notes__", ())]) + "\n")
            raise typer.Exit(stop.status if isinstance(stop, Interrupted) else 130) from None

    context = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    ordered = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in flat.values()]
    run.__signature__ = inspect.Signature([context, *ordered])  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in [context, *ordered]}
    run.__doc__, run.__name__ = function.__doc__, function.__name__
    return run


def _flags(records: Mapping[str, Any]) -> list[inspect.Parameter]:
    """The flags of all these records; one that several have is one flag."""
    found: dict[str, list[tuple[str, _Leaf]]] = {}
    for title, record in records.items():
        for leaf in _leaves(record):
            found.setdefault(leaf.name, []).append((title, leaf))
    parameters = []
    for name, owners in found.items():
        (_, leaf), *others = owners
        alike = all(other.default == leaf.default for _, other in others)
        shown: bool | str = bool(leaf.default) or leaf.default == 0
        if not alike:
            shown = ", ".join(f"{title} {other.default}" for title, other in owners)
        about = "; ".join(title for title, _ in owners if title)
        text = f"{leaf.text}  [{about}]" if about else leaf.text
        kind: Any = list[leaf.kind] if leaf.several else leaf.kind  # type: ignore[name-defined]
        default = (list(leaf.default) if leaf.several else leaf.default) if alike else None
        # a switch that is off has no --no-: there is nothing to switch off
        declared = _FLAGS.get(name) or ([flag(name)] if leaf.kind is bool and not leaf.default else [])
        annotation: Any = Annotated[kind | None, typer.Option(*declared, help=text, show_default=shown)]
        if leaf.kind is bool:
            annotation = Annotated[bool, typer.Option(*declared, help=text, show_default=bool(leaf.default))]
        parameters.append(
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        )
    return parameters


def _leaves(record: Any) -> Iterator[_Leaf]:
    """The fields of a record and of the records in it that a flag can set."""
    hints = get_type_hints(type(record))
    for each in fields(record):
        value = getattr(record, each.name)
        if not each.init or not each.metadata.get("flag", True):
            continue
        if is_dataclass(value):
            yield from _leaves(value)
            continue
        kind, several = _kind(hints[each.name])
        if kind is not None:
            text = each.metadata.get("help") or HELP.get(each.name, "")
            yield _Leaf(each.name, kind, several, value, text)


def _kind(annotation: Any) -> tuple[Any, bool]:
    """The plain type of a field, None if it has none, and whether the field is a tuple of them."""
    if get_origin(annotation) in (Union, UnionType):
        inner = [each for each in get_args(annotation) if each is not NoneType]
        if str in inner:  # of several kinds, that which the record reads from a text
            return str, False
        return _kind(inner[0]) if len(inner) == 1 else (None, False)
    if get_origin(annotation) is tuple and get_args(annotation)[1:] == (...,):
        return _kind(get_args(annotation)[0])[0], True
    return (annotation, False) if annotation in _PLAIN else (None, False)


def _rebuilt(record: Any, values: Mapping[str, Any]) -> Any:
    """The record with the given values in the place of its defaults."""
    if isinstance(record, tuple):  # rules, one after the other
        for name in sorted({each.name for rule, _ in record for each in fields(rule)} & set(values)):
            raise ValueError(f"{flag(name)} does not go together with the {len(record)} rules of the specification")
        return record
    changes: dict[str, Any] = {}
    for each in fields(record):
        if not each.init and each.name in values:
            kind = type(record).__name__
            raise ValueError(f"{flag(each.name)} does not go together with the {kind} of the specification")
        if not each.init or not each.metadata.get("flag", True):
            continue
        old = getattr(record, each.name)
        if is_dataclass(old):
            changes[each.name] = _rebuilt(old, values)
        elif each.name in values:
            changes[each.name] = values[each.name]
    return replace(record, **changes)


def _adopted(record: Any, problem: Specification | None, learner: str = "") -> Any:
    """The record as a specification has it: the network, the rule, or what the record's own method `of` takes from it.

    The options of a learner are those of the specification; where it does not name the learner, they adopt what it has.
    """
    if problem is None:
        return record
    if isinstance(record, TwoLayer):
        return problem.network or record
    if isinstance(record, LearningRule):
        return problem.rule or record
    if not isinstance(record, Options):
        return record.of(problem) if hasattr(record, "of") else record
    return (problem.learner or {}).get(learner) or problem.lend(record)
