"""`quenched verify`: results of the reference bank, by the package and by an independent route."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quenched.sim.cli.options import command

if TYPE_CHECKING:
    from quenched.sim.bank.records import Verification

__all__ = ["VERB"]


def verify(
    identities: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID]...", help="IDs or subjects; none: list them.", show_default=False),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Verify all of them, which takes minutes.")] = False,
    file: Annotated[bool, typer.Option("--file", help="Print where the file of the bank is.")] = False,
) -> None:
    """Recompute results of the reference bank by an independent route, and by the package; exit 1 where they disagree.

    A line for the value of the bank, for what the package finds now and for the independent route, each with its error,
    and what that route does.  They agree where they differ by less than the sum of their errors.

    Example:  quenched verify
    Example:  quenched verify oracle/xor average/relu-relu
    Example:  quenched verify erm
    Example:  quenched verify --all
    """
    from quenched.sim.bank.records import bank, matching
    from quenched.sim.bank.records import verify as verified

    wanted = identities or []
    if everything and wanted:
        raise ValueError(f"--all does not go together with {wanted[0]!r}: it is all of them")
    if file:
        from importlib.resources import files

        sys.stdout.write(f"{files('quenched.sim.bank').joinpath('bank.json')}\n")
        return
    if not wanted and not everything:
        for entry in bank():
            sys.stdout.write(f"{entry.id:31} {entry.value:>34}  {entry.quantity}\n")
        return
    failed: list[str] = []
    for entry in bank() if everything else matching(wanted):
        start = time.perf_counter()
        found = verified(entry)
        if not found.agrees:
            failed.append(entry.id)
        sys.stdout.write(_told(found, time.perf_counter() - start))
        sys.stdout.flush()
    if failed:
        sys.stdout.write(f"DISAGREE: {', '.join(failed)}\n")
        raise typer.Exit(1)


def _told(found: Verification, seconds: float) -> str:
    """Five lines on one record."""
    from quenched.numerics.compiled.precision import context

    entry, ctx = found.entry, context(50)
    digits = len(entry.value.lstrip("-0.").replace(".", "")) + 2

    def line(name: str, value: Any, error: Any, gap: Any, how: str) -> str:
        text = ctx.nstr(ctx.mpf(value), digits, min_fixed=-4, strip_zeros=False)
        return f"  {name:9} {text:>37} ± {float(error):.0e}  {f'{float(gap):.0e} apart':14}  {how}\n"

    gaps = found.gaps
    return (
        f"{entry.id}: {entry.quantity}\n"
        f"  {'bank':9} {entry.value:>37} ± {float(entry.error):.0e}\n"
        + line("quenched", found.computed, found.computed_error, gaps[0], f"{entry.function}: {entry.method}")
        + line("check", found.checked, found.checked_error, gaps[1], f"{entry.check['route']}: {entry.check['says']}")
        + f"  {'agree' if found.agrees else 'DISAGREE'} ({seconds:.1f} s)\n"
    )


VERB = command(verify)
