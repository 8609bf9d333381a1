"""The Gaussian calculus for anyone's integrand: E[f(x, y, z, w)] over up to four jointly normal fields.

`average` gives the value at a mean and a covariance, from the closed form where the rules of
`quenched.symbolic.calculus.gaussian` find one (Stein, Conditioning, Tilting, Smoothing, Orthant), else by quadrature;
`closed_form` the formula itself.  Both derive on first use, in a process of their own, and keep what was derived.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from types import ModuleType
from typing import Any

from quenched.numerics.averages.gaussian_law import GaussianLaw, entries, exact
from quenched.numerics.averages.multiprecision import closed_form_values
from quenched.numerics.compiled.cache import derived_module
from quenched.numerics.compiled.precision import context
from quenched.numerics.problem.checks import Record, digit_count, expression_text, integer, shown
from quenched.symbolic.language.grammar import INTEGRAND, canonical, syntax_tree

__all__ = ["ClosedForm", "GaussianAverage", "average", "closed_form"]

_FLOAT = 15  # digits that a float holds
_PLACES = {name: place % 4 for place, name in enumerate(INTEGRAND.variables)}


@dataclass(frozen=True, eq=False, repr=False)
class GaussianAverage(Record):
    """E[integrand]: value, an estimate of its absolute error, how it was found, and by which rules.

    value and error are floats up to 15 digits, mpmath numbers beyond.  method: "closed form", or the quadrature and, in
    `reason`, why there is no closed form.
    """

    integrand: str
    value: Any
    error: Any
    method: str
    rules: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, eq=False, repr=False)
class ClosedForm(Record):
    """E[integrand] as a formula: lines "name = expression" of plain text and of LaTeX, the last the average itself.

    Fields x0 .. x3, means m0 .., covariances c00, c01, ..; Phi, Phi2 .. Phi4 are normal probabilities,
    limits first, then correlations (`quenched.numerics.probability.normal`).
    """

    integrand: str
    text: str
    latex: str
    rules: tuple[str, ...]

    @property
    def expression(self) -> str:
        """The right side of the last line: the average, in what the lines before it define.

        >>> closed_form("sign(x)*sign(y)", mean=[0, 0]).expression
        '2*asin(c01/(sqrt(c00)*sqrt(c11)))/pi'
        """
        return self.text.rpartition(" = ")[2]


class _Renamed(ast.NodeTransformer):
    """Fields by their numbers; those in `fixed` are numbers."""

    def __init__(self, fixed: dict[int, Fraction]) -> None:
        self.fixed, self.used = fixed, set[int]()

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id not in _PLACES:
            return node
        place = _PLACES[node.id]
        if place in self.fixed:
            value = self.fixed[place]
            number: ast.expr = ast.Constant(abs(value.numerator))
            if value < 0:
                number = ast.UnaryOp(ast.USub(), number)
            return number if value.denominator == 1 else ast.BinOp(number, ast.Div(), ast.Constant(value.denominator))
        self.used.add(place)
        return ast.Name(f"x{place}", ast.Load())


def _written(text: str, fixed: dict[int, Fraction]) -> tuple[str, tuple[int, ...]]:
    """The text in x0 .. x3, canonical, and which of them are in it."""
    renamed = _Renamed(fixed)
    tree = renamed.visit(syntax_tree(text, "eval"))
    return canonical(ast.unparse(tree), INTEGRAND), tuple(sorted(renamed.used))


def average(integrand: str, mean: Any, covariance: Any, *, digits: int = 15, seed: int = 0) -> GaussianAverage:
    """E[integrand] over fields x, y, z, w (or x0 .. x3) ~ N(mean, covariance), to `digits` digits.

    integrand: an expression of the functions of an activation, such as "erf(x)*Max(y, 0)".  mean: one number a field,
    at most four; covariance: a matrix, or its upper triangle, row by row.  Numbers are integers, floats at their exact
    value, fractions, or texts such as "0.1", which are exact.  `seed` is of quasi-Monte Carlo, where three or four
    fields have no closed form.

    A field without variance is its mean.  Any other singular covariance is the limit of regular ones, which matters
    where the integrand jumps on the set that carries the law.

    ValueError: what cannot be read, a covariance that is none, an integrand that is not real where fields fall, or that
    grows as fast as the Gaussian decays.  RuntimeError: quadrature does not converge.

    >>> found = average("Max(x, 0)*Max(y, 0)", mean=[0, 0], covariance=[1, 0.5, 1], digits=30)
    >>> print(found.value)                                              # 1/6 + sqrt(3)/(4 pi)
    0.304498890522114679044498291245
    >>> found.method, found.rules
    ('closed form', ('Orthant', 'Conditioning', 'Stein'))
    """
    text = expression_text(integrand, INTEGRAND)
    law, digits, seed = GaussianLaw.read(mean, covariance), digit_count("digits", digits), integer("seed", seed)
    n = len(law.means)
    fixed = {i: law.means[i] for i in range(n) if not law.covariance[i][i]}
    written, used = _written(text, fixed)
    if used and used[-1] >= n:
        raise ValueError(
            f"mean must have an entry for each field: integrand {text!r} has field number {used[-1] + 1}, "
            f"got {shown(mean)}"
        )
    found = _derived(written)
    count = 1 + max(used, default=0)
    if hasattr(found, "average"):
        value, error = _closed(found, law.of(used, count, Fraction(1)), digits)
        return GaussianAverage(text, _rounded(value, digits), _rounded(error, digits), "closed form", found.RULES)
    from quenched.numerics.averages.average_quadrature import integrated

    value, error, method = integrated(found.integrand, law.of(used, count, Fraction(0)), text, digits, seed)
    return GaussianAverage(text, _rounded(value, digits), _rounded(error, digits), method, (), found.REASON)


@lru_cache(maxsize=256)
def _derived(written: str) -> ModuleType:
    return derived_module("average", written, "--average")


def _rounded(value: Any, digits: int) -> Any:
    return float(value) if digits <= _FLOAT else context(digits).mpf(value)


def _closed(found: ModuleType, law: GaussianLaw, digits: int) -> tuple[Any, Any]:
    """The closed form with more and more digits, until two of them agree to those that are asked for.

    What remains of a difference bounds the error; a value below it is 0.
    """
    before: Any = None
    for extra in (1, 8, 40):
        value = closed_form_values(found.average, law.means, law.covariance, digits + extra)
        if before is not None:
            error = max(abs(value - before), abs(value) * context(digits + 5).mpf(10) ** -digits)
            if error <= abs(value) * context(digits + 5).mpf(10) ** (1 - digits):
                return value, error
        before = value
    return (value, error) if abs(value) > error else (0 * value, error)


def closed_form(integrand: str, mean: Any = None, covariance: Any = None) -> ClosedForm:
    """The formula for E[integrand], in the means m0 .. and covariances c00, c01, .. or at numbers.

    mean: a list of numbers, or of None for symbols; covariance: the upper triangle, row by row, likewise; left out,
    they are symbols.  ValueError: there is no closed form, with the reason; the covariance in numbers is singular.

    >>> closed_form("erf(x)*Max(y, 0)", mean=[0, 0]).text
    'E[erf(x0)*Max(0, x1)] = c01/(sqrt(pi)*sqrt(2*c00 + 1))'
    >>> closed_form("Max(x, 0)*Max(y, 0)", [0, 0], [1, "1/2", 1]).expression
    'sqrt(3)/(4*pi) + 1/6'
    """
    text = expression_text(integrand, INTEGRAND)
    written, used = _written(text, {})
    n = 1 + max(used, default=0)
    mean = None if mean is None else entries("mean", mean)
    count = n if mean is None else len(mean)
    if count < n:
        raise ValueError(f"mean must have {n} entries or more, one for each field of {text!r}, got {shown(mean)}")
    first = _symbols("mean", mean, [f"m{i}" for i in range(count)])
    if covariance is not None and not any(_is_symbol(entry, "c") for entry in entries("covariance", covariance)):
        law = GaussianLaw.read([0] * count, covariance)
        covariance = [law.covariance[i][j] for i in range(count) for j in range(i, count)]
    names = [f"c{i}{j}" for i in range(count) for j in range(i, count)]
    upper = [c for c, name in zip(_symbols("covariance", covariance, names), names, strict=True) if int(name[2]) < n]
    found = derived_module("closed form", written, "--closed-form", ",".join(first[:n]), ",".join(upper))
    return ClosedForm(text, found.CLOSED_FORM, found.LATEX, found.RULES)


def _is_symbol(entry: Any, letter: str) -> bool:
    return entry is None or (isinstance(entry, str) and entry.startswith(letter))


def _symbols(name: str, value: Any, symbols: list[str]) -> list[str]:
    """Entries as the derivation reads them: rational numbers, or symbols where there are none."""
    if value is None:
        return symbols
    given = entries(name, value)
    if len(given) != len(symbols):
        raise ValueError(f"{name} must be a list of {len(symbols)} entries ({', '.join(symbols)}), got {shown(value)}")
    return [
        s if v is None or (isinstance(v, str) and v == s) else str(exact(name, v))
        for v, s in zip(given, symbols, strict=True)
    ]
