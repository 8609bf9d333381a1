"""Formulas in one line of Unicode, for comments over generated code."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import sympy
from sympy.printing.precedence import PRECEDENCE, precedence
from sympy.printing.str import StrPrinter

__all__ = ["letter", "line"]

_GREEK = dict(
    zip(
        [
            "alpha",
            "beta",
            "gamma",
            "delta",
            "epsilon",
            "zeta",
            "eta",
            "theta",
            "kappa",
            "lambda",
            "mu",
            "nu",
            "xi",
            "pi",
            "rho",
            "sigma",
            "tau",
            "phi",
            "chi",
            "psi",
            "omega",
        ],
        "αβγδεζηθκλμνξπρστφχψω",
        strict=True,
    )
) | {"Phi": "Φ", "Gamma": "Γ", "Delta": "Δ", "ell": "ℓ"}
_UP = str.maketrans("0123456789-+/", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ᐟ")
_DOWN = str.maketrans("0123456789-+", "₀₁₂₃₄₅₆₇₈₉₋₊")
_ATOMS = (sympy.Symbol, sympy.Integer, sympy.Function)


def letter(latex: str) -> str:
    r"""A LaTeX letter of a NOTATION in Unicode.

    >>> letter(r"\\sigma'"), letter("m_{1}"), letter("F_{uu}"), letter(r"V\\cdot V'")
    ('σ′', 'm₁', 'F_uu', 'V·V′')
    """
    text = latex.replace(r"\\", "\\").replace(r"\cdot", "·").replace("'", "′").replace("^{2}", "²")
    text = re.sub(r"\\([A-Za-z]+) ?", lambda m: _GREEK.get(m[1], m[1]), text).replace(" ", "")
    return re.sub(r"_\{([^}]*)\}", lambda m: _below(m[1]), text)


def _below(text: str) -> str:
    found = text.translate(_DOWN)
    return f"_{text}" if re.search(r"[A-Za-z]", found) else found


class _Printer(StrPrinter):
    """One line, products by juxtaposition, roots and powers as signs."""

    def __init__(self, letters: Mapping[str, str]) -> None:
        super().__init__()
        self._letters = letters

    def _print_Symbol(self, expr: sympy.Symbol) -> str:
        if expr.name in self._letters:
            return letter(self._letters[expr.name])
        base, _, index = expr.name.partition("_")
        if not index and (numbered := re.fullmatch(r"([A-Za-z]+)(\d+)", base)):
            base, index = numbered[1], numbered[2]
        return _GREEK.get(base, base) + (_below(_GREEK.get(index, index)) if index else "")

    def _print_Pi(self, expr: sympy.Basic) -> str:
        return "π"

    def _print_Abs(self, expr: sympy.Abs) -> str:
        return f"|{self._print(expr.args[0])}|"

    def _print_Function(self, expr: sympy.Function) -> str:
        name = type(expr).__name__
        if numbered := re.fullmatch(r"Phi(\d)", name):
            name = "Φ" + numbered[1].translate(_DOWN)
        return f"{_GREEK.get(name, name)}({', '.join(self._print(argument) for argument in expr.args)})"

    _print_Max = _print_Min = _print_Heaviside = _print_Function

    def _print_Pow(self, expr: sympy.Pow, rational: bool = False) -> str:
        base, exponent = expr.args
        if exponent == sympy.Rational(1, 2):
            return (
                f"√{self._print(base)}" if isinstance(base, _ATOMS) or base is sympy.pi else f"√({self._print(base)})"
            )
        if exponent.is_Rational and exponent < 0:
            return f"1/{self.parenthesize(base**-exponent, PRECEDENCE['Pow'])}"
        power = self._print(exponent)
        raised = power.translate(_UP) if exponent.is_Integer else f"^{self.parenthesize(exponent, PRECEDENCE['Pow'])}"
        return self.parenthesize(base, PRECEDENCE["Pow"]) + raised

    def _print_Mul(self, expr: sympy.Mul) -> str:
        sign, expr = ("-", -expr) if expr.could_extract_minus_sign() else ("", expr)
        if not isinstance(expr, sympy.Mul):
            return sign + self.parenthesize(expr, PRECEDENCE["Mul"])
        above, below = sympy.Integer(1), sympy.Integer(1)
        for factor in expr.args:  # not `fraction`, which would turn exp(-x) over
            base, exponent = factor.as_base_exp()
            if factor.is_Rational:
                above, below = above * factor.p, below * factor.q
            elif isinstance(factor, sympy.Pow) and exponent.is_Rational and exponent < 0:
                below *= base**-exponent
            else:
                above *= factor
        numerator = self._product(above)
        if below == 1:
            return sign + numerator
        denominator = self._product(below)
        whole = isinstance(below, sympy.Mul) or denominator[0] == "-"
        return f"{sign}{numerator}/{f'({denominator})' if whole else denominator}"

    def _product(self, expr: sympy.Expr) -> str:
        if not isinstance(expr, sympy.Mul):
            return self.parenthesize(expr, PRECEDENCE["Mul"] + (0 if precedence(expr) > PRECEDENCE["Add"] else 1))
        return " ".join(self.parenthesize(factor, PRECEDENCE["Mul"]) for factor in expr.as_ordered_factors())


def line(letters: Mapping[str, str]) -> Callable[[sympy.Expr], str]:
    """The function that prints an expression, names as letters.

    >>> s, r = sympy.symbols("sigma separation", positive=True)
    >>> line({"separation": "r"})(sympy.exp(-(r**2) / 2) / sympy.sqrt(2 * sympy.pi * s))
    '√2 exp(-r²/2)/(2 √π √σ)'
    """
    return lambda expression: str(_Printer(letters).doprint(expression))
