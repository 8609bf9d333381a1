"""`quenched cite`: BibTeX of the package, and of what a result rests on."""

from __future__ import annotations

import sys
from importlib import metadata
from typing import Annotated

import typer

from quenched.sim.cli.options import command

__all__ = ["VERB"]

_PAPER = "refinetti2021"  # whose theory the package derives


def cite(
    identities: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID]...", help="Results of the reference bank, or subjects.", show_default=False),
    ] = None,
    literature: Annotated[bool, typer.Option("--all", help="All works that the package rests on.")] = False,
) -> None:
    """Print BibTeX: of the package and the paper whose theory it derives, and of what results of the bank rest on.

    Example:  quenched cite
    Example:  quenched cite bayes/xor-threshold
    Example:  quenched cite --all
    """
    from quenched.sim.bank.records import matching
    from quenched.symbolic.manuscript.literature import LITERATURE, bibtex

    if literature and identities:
        raise ValueError(f"--all does not go together with {identities[0]!r}: it is all of them")
    keys = [_PAPER, *(entry.source for entry in matching(identities or []))]
    sys.stdout.write(_package() + "\n" + bibtex([w.key for w in LITERATURE] if literature else keys))


def _package() -> str:
    """The package as a BibTeX entry, from its metadata."""
    told = metadata.metadata("quenched")
    return (
        "@software{quenched,\n"
        f"  author = {{{{{told['Author']}}}}},\n"
        f"  title = {{quenched: {told['Summary']}}},\n"
        f"  version = {{{told['Version']}}}\n"
        "}\n"
    )


VERB = command(cite)
