"""`quenched average`: the Gaussian calculus from a shell."""

from __future__ import annotations

import sys
from collections.abc import Collection
from typing import Annotated

import typer

from quenched.sim.cli.options import command, flag

__all__ = ["NEEDS_ARGUMENTS", "VERB"]

NEEDS_ARGUMENTS = True


def average(
    given: Collection[str],
    integrand: Annotated[str, typer.Argument(help="An expression in the fields x, y, z, w (or x0 .. x3).")],
    mean: Annotated[str | None, typer.Option(help="Means of the fields, joined by commas: 0,0.1,1/3.")] = None,
    covariance: Annotated[
        str | None, typer.Option(help="Covariance, joined by commas: the upper triangle, row by row, or all of it.")
    ] = None,
    digits: Annotated[int, typer.Option(help="Digits of the value.")] = 15,
    seed: Annotated[int, typer.Option(help="Seed of quasi-Monte Carlo.")] = 0,
    closed_form: Annotated[
        bool,
        typer.Option("--closed-form", help="Print the formula instead; means and covariances left out are symbols."),
    ] = False,
    latex: Annotated[bool, typer.Option("--latex", help="Print the formula as LaTeX instead.")] = False,
) -> None:
    """Average a function of up to four Gaussian fields: closed form, value, error, the rules applied.

    Numbers are exact: 0.1 is one tenth.  What has no closed form is averaged by quadrature, with its error and the
    reason.  In a formula an entry may be its symbol, m0 or c01.

    Example:  quenched average "Max(x,0)*Max(y,0)" --mean 0,0 --covariance 1,0.5,1
    Example:  quenched average "erf(x)*Max(y,0)" --mean 0,1/3 --covariance 1,0.5,1 --digits 30
    Example:  quenched average "sign(x)*sign(y)" --mean 0,0 --closed-form
    """
    from quenched.numerics import average as gaussian_average
    from quenched.numerics import closed_form as gaussian_closed_form

    if closed_form or latex:
        if other := [name for name in ("digits", "seed") if name in given]:
            raise ValueError(f"{flag(other[0])} is of the value: leave out {flag('latex' if latex else 'closed_form')}")
        found = gaussian_closed_form(integrand, _entries(mean), _entries(covariance))
        if closed_form:
            sys.stdout.write(f"{found.text}\n")
        if latex:
            sys.stdout.write(f"{found.latex}\n")
        return
    if mean is None or covariance is None:
        missing = "mean" if mean is None else "covariance"
        raise ValueError(f"{flag(missing)} is needed for a value; for a formula in symbols add --closed-form")
    value = gaussian_average(integrand, _entries(mean), _entries(covariance), digits=digits, seed=seed)
    sys.stdout.write(f"value   {value.value if digits > 15 else format(value.value, f'.{digits}g')}\n")
    sys.stdout.write(f"error   {float(value.error):.1e}\n")
    sys.stdout.write(f"method  {value.method}\n")
    if value.rules:
        sys.stdout.write(f"rules   {', '.join(value.rules)}\n")
    if value.reason:
        sys.stdout.write(f"reason  {value.reason}\n")


def _entries(text: str | None) -> list[str] | None:
    return None if text is None else [entry.strip(" ") for entry in text.split(",")]


VERB = command(average)
