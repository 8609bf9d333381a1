"""The average of any expression over up to four Gaussian fields: what the calculus is for those who bring an integrand.

The fields x0 .. x3 (or x, y, z, w) have means m0 .. and covariances c00, c01, .., which may be numbers.  The rules are
those of `calculus.gaussian`; what they do not close is left to quadrature, with the reason.  The text is read by the
grammar, and goes on only as sympy prints it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import sympy

from quenched.symbolic.activations import group_symbols
from quenched.symbolic.calculus.forms import fields
from quenched.symbolic.calculus.gaussian import GaussianAlgebra
from quenched.symbolic.calculus.normal import Phi2, Phi3
from quenched.symbolic.calculus.steps import NoClosedForm
from quenched.symbolic.language import emit
from quenched.symbolic.language.grammar import INTEGRAND
from quenched.symbolic.language.latex import latex
from quenched.symbolic.language.notation import Derived, Formula
from quenched.symbolic.language.parse import parse

__all__ = ["user_average", "user_closed_form"]

_SOURCE = "an integrand given by the user"
_EXPLICIT = 600  # characters of a closed form in one line; a longer one is told by its intermediate quantities
_RATIONAL = re.compile(r"-?[0-9]{1,2000}(/[0-9]{1,2000})?", re.ASCII)


def _read(text: str) -> tuple[sympy.Expr, int]:
    """The integrand in x0 .. x3, and how many fields there are up to the last one in it."""
    found = parse(text, INTEGRAND)
    places = {name: place % 4 for place, name in enumerate(INTEGRAND.variables)}
    renamed = {symbol: fields(4)[places[symbol.name]] for symbol in found.free_symbols}
    return found.xreplace(renamed), 1 + max((places[symbol.name] for symbol in found.free_symbols), default=0)


def user_average(text: str) -> str:
    """The module of one integrand: `integrand` of the fields, `average` of means and covariances, RULES, REASON.

    Where no closed form is known `average` and RULES are missing, and REASON says why.
    """
    integrand, n = _read(text)
    means, covariance = group_symbols(n)
    written = f"E[{integrand}]"
    parts = [emit.function(Formula("integrand", f"{integrand}.", fields(n), Derived(integrand)))]
    reason = ""
    try:
        outcome = GaussianAlgebra(fields(n), means, covariance).derived(integrand)
        arguments = (*means, *(covariance[i][j] for i in range(n) for j in range(i, n)))
        parts.append(emit.function(Formula("average", f"{written}.", arguments, outcome)))
        parts.append(_rules(outcome.rules))
    except NoClosedForm as error:
        reason = str(error)
    parts.append(f"REASON = {json.dumps(reason)}")
    return emit.header(_SOURCE, f"The average {written}.", "\n\n\n".join(parts))


def user_closed_form(text: str, means: str, covariance: str) -> str:
    """The module that tells E[text] in one expression: CLOSED_FORM and LATEX, lines of text, and RULES.

    `means` and `covariance` (upper triangle, row by row) are entries joined by commas, each a rational number or its
    own symbol, m0 or c01.  ValueError: there is no closed form, or the law is singular.
    """
    integrand, n = _read(text)
    symbols, table = group_symbols(n)
    places = [(i, j) for i in range(n) for j in range(i, n)]
    first = _entries("mean", means, symbols)
    upper = dict(zip(places, _entries("covariance", covariance, [table[i][j] for i, j in places]), strict=True))
    law = [[upper[min(i, j), max(i, j)] for j in range(n)] for i in range(n)]
    try:
        outcome = GaussianAlgebra(fields(n), first, law).derived(integrand)
    except NoClosedForm as error:
        raise ValueError(f"integrand {str(integrand)!r} has no closed form: {error}") from None
    lines = _lines(integrand, outcome)
    if any(expression.has(sympy.zoo, sympy.nan, sympy.oo) for _, expression in lines):
        raise ValueError(
            f"covariance [{covariance}] is singular: its closed form is a limit; leave entries as symbols, "
            "or ask for the value"
        )
    plain = "\n".join(f"{left} = {sympy.sstr(right)}" for left, right in lines)
    tex = "\n".join(f"{_left(left, integrand)} = {latex(right)}" for left, right in lines)
    facts = [f"CLOSED_FORM = {json.dumps(plain)}", f"LATEX = {json.dumps(tex)}"]
    rules = GaussianAlgebra(fields(n), symbols, table).derived(integrand).rules  # numbers take no steps
    return emit.header(_SOURCE, f"The average E[{integrand}].", "\n".join([*facts, _rules(rules)]))


def _rules(rules: Sequence[str]) -> str:
    """The statement that lists them; a polynomial of degree one needs none."""
    listing = ", ".join(json.dumps(rule) for rule in rules or ("Linearity",))
    return f"RULES: tuple[str, ...] = ({listing},)"


def _entries(name: str, text: str, symbols: Sequence[sympy.Symbol]) -> list[sympy.Expr]:
    """Rational numbers, or the symbols themselves where the text has their names."""
    words = text.split(",")
    if len(words) != len(symbols):
        raise ValueError(f"{name} must have {len(symbols)} entries, got {text!r}")
    found = []
    for word, symbol in zip(words, symbols, strict=True):
        if word != symbol.name and not _RATIONAL.fullmatch(word):
            raise ValueError(f"{name} must be made of rational numbers and of {symbol}, got {word!r}")
        over, _, under = word.partition("/")
        found.append(symbol if word == symbol.name else sympy.Rational(int(over), int(under or 1)))
    return found


def _lines(integrand: sympy.Expr, outcome: Derived) -> list[tuple[sympy.Expr | str, sympy.Expr]]:
    """What is equal to what: the average in one line, or its intermediate quantities before it."""
    left = f"E[{integrand}]"
    explicit = outcome.explicit()[0].doit()
    if len(str(explicit)) <= _EXPLICIT:
        value = sympy.simplify(_arcsines(explicit))
        return [(left, value if value.free_symbols else sympy.expand(value))]
    definitions = [(symbol, _arcsines(expression.doit())) for symbol, expression in outcome.definitions]
    return [*definitions, (left, _arcsines(outcome.values[0].doit()))]


def _left(left: sympy.Expr | str, integrand: sympy.Expr) -> str:
    return latex(left) if isinstance(left, sympy.Expr) else rf"\mathbb{{E}}\left[{latex(integrand)}\right]"


def _arcsines(expression: sympy.Expr) -> sympy.Expr:
    """Orthant probabilities of two and three fields of zero limits are arcsines (Sheppard).

    >>> _arcsines(Phi2(0, 0, sympy.Rational(1, 2)))
    1/3
    """
    angles = {
        e: sympy.Rational(1, 2**e.dimension)
        + sympy.Add(*map(sympy.asin, e.args[e.dimension :])) / (2 * sympy.pi * (e.dimension - 1))
        for e in expression.atoms(Phi2, Phi3)
        if not any(e.args[: e.dimension])
    }
    return expression.xreplace(angles)
