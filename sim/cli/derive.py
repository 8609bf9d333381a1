"""`quenched derive`: theory/ from symbolic/, its check, and documents of the derivation."""

from __future__ import annotations

import sys
from collections.abc import Collection
from pathlib import Path
from typing import Annotated

import typer

from quenched.sim.cli.options import command, flag

__all__ = ["VERB"]


def derive(
    given: Collection[str],
    check: Annotated[
        bool, typer.Option("--check", help="Compare theory/ with a fresh derivation; exit 1 if stale.")
    ] = False,
    latex: Annotated[Path | None, typer.Option(help="Write the derivation as a LaTeX document instead.")] = None,
    activation: Annotated[
        str | None, typer.Option(help="Print what is derived for this expression in x instead; --latex: its equations.")
    ] = None,
    loss: Annotated[str, typer.Option(help="The loss of a document with --activation and --latex.")] = "square",
    certify: Annotated[
        Path | None,
        typer.Option(
            help="Check every formula against quadrature of its definition, write a Markdown table of the digits."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that exist.")] = False,
) -> None:
    """Derive every formula with sympy and write theory/ from them.

    Example:  quenched derive --check
    Example:  quenched derive --activation "x**2 - 2"
    Example:  quenched derive --activation "x**2 - 2" --certify certificate.md
    Example:  quenched derive --activation "x**2 - 2" --loss logistic --latex own.tex
    """
    _one_task(given)
    from quenched.sim.files import prepare, write

    prepare("latex", [] if latex is None else [latex], [".tex"], force=force)
    prepare("certify", [] if certify is None else [certify], [".md"], force=force)
    try:
        from quenched.symbolic import document, user
        from quenched.symbolic import generate as derivation
    except ModuleNotFoundError as error:
        raise RuntimeError(f"derive needs the extra quenched[derive]: {error}") from error

    folder = Path(derivation.__file__).parents[1] / "theory"
    digits: dict[str, str] = {}
    if certify is not None:
        from quenched.numerics.averages import certificate

        rules = derivation.rules() if activation is None else user.rules(activation)
        records = certificate.certify(None if activation is None else [activation])
        write(certify, certificate.document(records, rules))
        digits = certificate.digits(records)
        if failed := [r for r in records if r.digits < r.required]:
            raise RuntimeError(f"{len(failed)} of {len(records)} values have fewer digits than required: see {certify}")
    if latex is not None:
        write(latex, document.latex(digits) if activation is None else document.own(activation, loss, digits))
    if latex is not None or certify is not None:
        return
    if activation is not None:
        sys.stdout.write(user.user_activation(activation, whole=True))
    elif check:
        messages = derivation.check(folder)
        for message in messages:
            sys.stdout.write(message.rstrip("\n") + "\n")
        if messages:
            sys.stdout.write("theory/ is not what symbolic/ derives: run `quenched derive`\n")
            raise typer.Exit(1)
    else:
        for name in derivation.write(folder):
            sys.stdout.write(f"wrote theory/{name}\n")


def _one_task(given: Collection[str]) -> None:
    """ValueError for a check with anything else; a document has the digits of a certificate made with it."""
    asked = [name for name in ("check", "latex", "activation", "certify") if name in given]
    if len(asked) > 1 and asked[0] == "check":
        raise ValueError(f"{flag(asked[0])} does not go together with {flag(asked[1])}: each is a task of its own")
    if "loss" in given and not {"activation", "latex"} <= set(asked):
        raise ValueError("--loss is of a document of your own: add --activation and --latex")
    if "force" in given and not {"latex", "certify"} & set(asked):
        raise ValueError("--force is of files: add --latex or --certify")


VERB = command(derive)
