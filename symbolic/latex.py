"""Derivations as LaTeX."""

from __future__ import annotations

import sympy

__all__ = ["latex"]

# Arguments have names that read well in code; on paper they are one letter.
_LETTERS = {
    "separation": "r",
    "first_length": "m_{1}",
    "second_length": "m_{2}",
    "weight": "P",
    "weight_plus": "P_{+}",
    "weight_minus": "P_{-}",
    "weight_centre": "P_{0}",
    "weight_outer": "P_{1}",
    "inner_mean": "m_{x}",
    "outer_mean": "m_{y}",
    "outer": "y",
    "lower": "a",
    "upper": "b",
    "reach": r"\ell",
    "threshold": r"\tau",
}


def latex(expression: sympy.Expr) -> str:
    r"""An expression in math mode, long argument names shortened.

    >>> latex(sympy.Symbol("separation") / sympy.Symbol("sigma"))
    '\\frac{r}{\\sigma}'
    """
    names = {s: _LETTERS[s.name] for s in expression.free_symbols if s.name in _LETTERS}
    return str(sympy.latex(expression, symbol_names=names))
