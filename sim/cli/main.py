"""The command `quenched`: thin verbs over the packages, one file of this folder each.

A verb NAME is a module NAME.py with a constant VERB, a function made by `options.command`; its docstring is its help.
Verbs are found by looking into the folder, and imported when they are asked for.

Results go to standard output and to files, progress to standard error.  A bad value prints one line and exits 2; a
result that is not as it should be (stale code, theory against simulation) exits 1; Ctrl-C exits 130.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from importlib import import_module, metadata
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from quenched.sim.cli.terminal import INTERRUPTED, interruptible

__all__ = ["app", "main", "verbs"]

_UsageError: Any = typer.BadParameter.__base__
_ORDER = (
    "dynamics",
    "curve",
    "fixed-points",
    "sweep",
    "validate",
    "verify",
    "reproduce",
    "plot",
    "show",
    "average",
    "derive",
    "cite",
    "cache",
)


def verbs() -> list[str]:
    """Names of all verbs."""
    found = {
        path.stem.replace("_", "-")
        for folder in import_module("quenched.sim.cli").__path__
        for path in Path(folder).glob("*.py")
        if "\nVERB = " in path.read_text(encoding="utf-8")
    }
    return sorted(found, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name))


class _Verbs(TyperGroup):
    """The verbs of this folder."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names, in the order of the help."""
        return verbs()

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The verb of this name, None if there is none."""
        if cmd_name not in verbs():
            return None
        module = import_module(f"quenched.sim.cli.{cmd_name.replace('-', '_')}")
        single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        single.command(cmd_name, no_args_is_help=getattr(module, "NEEDS_ARGUMENTS", False))(module.VERB)
        command = typer.main.get_command(single)
        command.name = cmd_name
        return command


app = typer.Typer(
    cls=_Verbs,
    help="Learning curves of neural networks on Gaussian mixtures: derived, solved, simulated, compared.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"quenched {metadata.version('quenched')}\n")
        raise typer.Exit


@app.callback()
def _every_verb(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before the verb."""


def main() -> None:
    """Entry point of the command `quenched`; always ends in SystemExit."""
    try:
        with interruptible():
            status = app(prog_name="quenched", standalone_mode=False)
    except _UsageError as error:
        status = _usage(error)
    except typer.Abort:
        sys.stderr.write("quenched: interrupted\n")
        status = INTERRUPTED[0]
    except ValueError as error:
        _complain(error)
        status = 2
    except (RuntimeError, OSError) as error:
        _complain(error)
        status = 1
    except MemoryError as error:
        _complain(MemoryError(f"the problem is too large for the memory of this machine: {error}"))
        status = 1
    if status in INTERRUPTED:  # all is said and kept: on a busy machine the teardown of Python takes seconds
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status or 0)


def _usage(error: Any) -> int:
    """One line on what typer refuses, with the value, which it leaves out; the help of a verb without its arguments."""
    if error.__class__.__name__ == "NoArgsIsHelpError":
        error.show()
        return int(error.exit_code)
    reason = getattr(error.__cause__, "errors", None)  # of pydantic, which knows the value
    value = f", got {reason()[0]['input']!r}" if reason else ""
    asked = re.match(r"No such command '(.*)'", error.format_message())
    near = difflib.get_close_matches(asked[1], verbs(), 1) if asked else []
    value += f", did you mean {near[0]!r}?" if near else ""
    verb = error.ctx.command_path if error.ctx is not None else "quenched"
    _complain(ValueError(f"{error.format_message().rstrip('.')}{value} (see {verb} --help)"))
    return int(error.exit_code)


def _complain(error: Exception) -> None:
    text = " ".join(str(error).split("\n"))
    sys.stderr.write("; ".join([f"quenched: {text}", *getattr(error, "__notes__", ())]) + "\n")
