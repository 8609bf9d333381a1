r"""Expressions as LaTeX, in letters, and lines that TeX can break.

Lines of a derivation are set as text, so that TeX breaks them at relations and sums; what TeX
cannot break, `breakable` opens up: wide parentheses lose their \left and \right, wide fractions become quotients.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sympy
from sympy.printing.latex import LatexPrinter

__all__ = ["breakable", "in_letters", "latex"]

# --- expressions

_PRIMES = {"g": "g", "dg": "g'", "ddg": "g''"}


class _Printer(LatexPrinter):
    """Averages of the activation are arrays in code, `dg_g[a, k, i]`, and brackets on paper.

    Arguments have names that read well in code; on paper they are one of the `letters`.
    """

    def __init__(self, letters: Mapping[str, str]) -> None:
        super().__init__({"inv_trig_style": "full"})
        self._letters = letters

    def _print_Symbol(self, expr: sympy.Symbol, style: str = "plain") -> str:
        if expr.name in self._letters:
            return self._letters[expr.name]
        if intermediate := re.fullmatch(r"([a-z])(\d\w*)", expr.name):  # m1_0: the mean of x1 given that x0 = 0
            return f"{intermediate[1]}_{{{intermediate[2].replace('_', '|')}}}"
        printed = str(super()._print_Symbol(expr, style))
        if re.fullmatch(r"[a-z]{3,}(_[a-z]{2,})*", expr.name) and not printed.startswith(
            "\\"
        ):  # a word, no Greek letter
            return rf"\mathrm{{{expr.name.replace('_', ' ')}}}"
        return printed

    def _as_ordered_terms(self, expr: sympy.Expr, order: str | None = None) -> list[sympy.Expr]:
        """Terms of a sum, one without a minus sign first."""
        terms = list(super()._as_ordered_terms(expr, order))
        first = next((n for n, term in enumerate(terms) if not term.could_extract_minus_sign()), 0)
        return [terms[first], *terms[:first], *terms[first + 1 :]]

    def _print_Add(self, expr: sympy.Add, order: str | None = None) -> str:
        return str(super()._print_Add(expr, order)).replace(" + - ", " - ").replace(" - - ", " + ")

    def _print_Mul(self, expr: sympy.Mul) -> str:
        return str(super()._print_Mul(_on_paper(expr)))

    def _print_Heaviside(self, expr: sympy.Expr, exp: str | None = None) -> str:
        return f"H{'' if exp is None else f'^{{{exp}}}'}\\left({self._print(expr.args[0])}\\right)"

    def _print_Integer(self, expr: sympy.Integer) -> str:
        power = int(expr).bit_length() - 1
        return f"2^{{{power}}}" if power > 20 and expr == 2**power else str(expr)

    def _print_Indexed(self, expr: sympy.Indexed) -> str:
        name = str(expr.base)
        if name.endswith("_z"):  # the tangent of an array along a direction, its last index
            return rf"\delta {self._print_Indexed(sympy.IndexedBase(name[:-2])[expr.indices[:-1]])}"
        indices = [self._print(index) for index in expr.indices]
        factors = name.split("_")
        if set(factors) <= set(_PRIMES):
            inside = r"\,".join(f"{_PRIMES[f]}_{{{i}}}" for f, i in zip(factors, indices[1:], strict=True))
            return rf"\langle {inside} \rangle_{{{indices[0]}}}"
        if name == "sigma2":
            return rf"\sigma_{{{indices[0]}}}^{{2}}"
        label = self._print(expr.base.label)
        if own := re.fullmatch(r"(.+)_\{([^{}]*)\}", label):  # eta_v with an index: one subscript
            return rf"{own[1]}_{{{own[2]},{''.join(indices)}}}"
        if re.fullmatch(r"[FSL]\d", name):  # a coefficient has its number as an index
            return rf"{name[0]}_{{{name[1]},{''.join(indices)}}}"
        if len(name) > 1 and label in (name, rf"\mathrm{{{name}}}"):  # a word, and no Greek letter
            label = rf"\operatorname{{{name}}}"  # which keeps its distance from other factors
        if "_{" in label and label.endswith("}"):  # one subscript, of the name and the indices
            return f"{label[:-1]},{''.join(indices)}}}"
        after = "{}" if label.startswith(r"\operatorname") else ""  # a minus after an operator would be a sign
        label = f"{{{label}}}" if "_" in label else label  # eta_v has a subscript already
        return rf"{label}_{{{''.join(indices)}}}{after}"

    def _print_Function(self, expr: Any, exp: str | None = None) -> str:
        name = type(expr).__name__
        if name in {*_PRIMES, "nu", "lambda", "pi", "push"}:  # fields and activations carry an index
            base = _PRIMES.get(name, r"\operatorname{push}" if name == "push" else rf"\{name}")
            text = f"{base}_{{{self._print(expr.args[0])}}}" + ("{}" if name == "push" and exp is None else "")
            return text if exp is None else rf"{text}^{{{exp}}}"
        return str(super()._print_Function(expr, exp))


class _Product(sympy.Function):
    """A product under a root, which sympy would take apart."""

    def _latex(self, printer: LatexPrinter) -> str:
        return str(printer._print(sympy.Mul(*self.args)))


def _on_paper(product: sympy.Mul) -> sympy.Mul:
    r"""The same product with one root in the numerator and one in the denominator, and a minus sign before it.

    sqrt(a) sqrt(b) is sqrt(a b), sqrt(2)/(2 sqrt(pi)) is 1/sqrt(2 pi), (-a - b)/c is -(a + b)/c.

    >>> a, b = sympy.symbols("a b", positive=True)
    >>> latex(sympy.sqrt(2) * b / (2 * sympy.sqrt(sympy.pi) * sympy.sqrt(a)))
    '\\frac{b}{\\sqrt{2 \\pi a}}'
    """
    if product.is_commutative is False:
        return product
    half = sympy.Rational(1, 2)
    roots = [f for f in product.args if isinstance(f, sympy.Pow) and abs(f.exp) == half]
    above = [f.base for f in roots if f.exp == half]
    below = [f.base for f in roots if f.exp == -half]
    rest = [f for f in product.args if f not in roots]
    number = next((f for f in rest if f.is_Rational), sympy.Integer(1))
    for base in [b for b in above if below and b.is_Integer and number.q % b == 0]:
        above.remove(base)
        below.insert(0, base)
        rest = [number * base, *(f for f in rest if f is not number)]
        number *= base
    if max(len(above), len(below)) > 1:
        rest += [_Product(*bases) ** power for bases, power in ((above, half), (below, -half)) if bases]
        product = sympy.Mul(*rest)
    negative = [f for f in product.args if f.is_Add and all(t.could_extract_minus_sign() for t in f.args)]
    if negative and any(not f.is_Number for f in product.args if f is not negative[0]):
        product = sympy.Mul(-1, *(-f if f is negative[0] else f for f in product.args))
    return product


def in_letters(letters: Mapping[str, str]) -> Callable[[sympy.Expr], str]:
    r"""The function that prints an expression in math mode, names as letters.

    >>> latex = in_letters({"separation": "r"})
    >>> latex(sympy.Symbol("separation") / sympy.Symbol("sigma"))
    '\\frac{r}{\\sigma}'
    """

    def printed(expression: sympy.Expr) -> str:
        return str(_Printer(letters).doprint(expression))

    return printed


latex = in_letters({})


# --- line breaking

_TOKEN = re.compile(r"\\[A-Za-z]+\*?|\\.|\s+|.", re.DOTALL)
_SPACES = {r"\,", r"\;", r"\:", r"\!", r"\ ", "~", "&"}


@dataclass
class _Node:
    """A token with its braced arguments, or a pair of delimiters and what they enclose."""

    head: str
    parts: list[list[_Node]]
    close: str = ""

    @property
    def width(self) -> float:
        """In characters, roughly."""
        widths = [_width(part) for part in self.parts]
        if self.close:
            return 2 + widths[0]
        if self.head in (r"\frac", r"\tfrac"):
            return 1 + max(widths)
        if self.head in "^_":
            return 0.7 * sum(widths)
        if self.head.startswith(r"\begin"):
            return 4 * self.head.count("&") + 8
        own = 0.0 if self.head.isspace() or self.head in _SPACES or self.head in ("{", "") else 1.0
        return (3 if self.head == r"\quad" else own) + sum(widths)


def _width(nodes: Iterable[_Node]) -> float:
    return sum(node.width for node in nodes)


def _parse(tokens: Iterator[str], until: str = "") -> list[_Node]:
    nodes: list[_Node] = []
    for token in tokens:
        if token == until:
            break
        if token == r"\left":
            opening = next(tokens)
            body = _parse(tokens, r"\right")
            nodes.append(_Node(opening, [body], next(tokens)))
        elif token == r"\begin":  # a matrix, kept whole
            text = token
            while r"\end{" not in text or not text.endswith("}"):
                text += next(tokens)
            nodes.append(_Node(text, []))
        elif token == "{":
            nodes.append(_Node("{", [_parse(tokens, "}")]))
        else:
            nodes.append(_Node(token, []))
    return _attach(nodes)


_ARGUMENTS = {r"\frac": 2, r"\tfrac": 2, r"\sqrt": 1, r"\operatorname": 1, r"\text": 1, r"\mathrm": 1, "^": 1, "_": 1}


def _attach(nodes: list[_Node]) -> list[_Node]:
    """Give commands and scripts the arguments that follow them."""
    result: list[_Node] = []
    queue = iter(nodes)
    for node in queue:
        if not node.close and not node.parts and (count := _ARGUMENTS.get(node.head, 0)):
            while len(node.parts) < count:
                argument = next(queue)
                if not argument.head.isspace():
                    node.parts.append(argument.parts[0] if argument.head == "{" else [argument])
        result.append(node)
    return result


def _render(nodes: Sequence[_Node], limit: float, within: bool = False) -> str:
    """LaTeX again; `within` opened delimiters, where lines may break after commas."""
    text = ""
    followers = [*nodes[1:], None] if nodes else []
    for node, after in zip(nodes, followers, strict=True):
        if node.close and node.width <= limit:
            text += rf"\left{node.head} {_render(node.parts[0], 1e9)}\right{node.close}"
            if limit < 1e9 and (after is None or after.head not in "^_"):
                text += r"\allowbreak "
        elif node.close:
            opening, closing = ("" if d == "." else d for d in (node.head, node.close))
            text += rf"{opening}\allowbreak {_render(node.parts[0], limit, True)}{closing}"
        elif node.head in (r"\frac", r"\tfrac") and node.width > limit:
            upper, lower = (_render(part, limit, True) for part in node.parts)
            text += rf"\bigl({upper}\bigr)\mathbin{{\big/}}\bigl({lower}\bigr)"
        elif node.head == "{" and node.width > limit:
            text += _render(node.parts[0], limit, within)
        elif node.head == "{":
            text += "{" + _render(node.parts[0], 1e9) + "}"
        elif node.head in ",;" and within:
            text += node.head + r"\allowbreak "
        else:
            text += node.head + "".join("{" + _render(part, 1e9) + "}" for part in node.parts)
    return text


def breakable(line: str, limit: float = 60) -> str:
    r"""The same formula, its unbreakable parts no wider than about `limit` characters.

    >>> breakable(r"\frac{a + b}{c}"), breakable(r"\frac{a + b}{c}", limit=2)
    ('\\frac{a + b}{c}', '\\bigl(a + b\\bigr)\\mathbin{\\big/}\\bigl(c\\bigr)')
    """
    return _render(_parse(iter(_TOKEN.findall(line))), limit)
