r"""The derivation as a document: definitions, each rule applied, each result, in order.

A step is a rule and a line of LaTeX.  Lines are set as text, so that TeX breaks them at relations and sums; what TeX
cannot break, `breakable` opens up: wide parentheses lose their \left and \right, wide fractions become quotients.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import sympy
from sympy.printing.latex import LatexPrinter

from quenched.symbolic.language.notation import Formula, Step

__all__ = ["Chapter", "breakable", "document", "in_letters", "latex"]

Chapter = tuple[str, str, Sequence[Formula], Mapping[str, str]]  # title, docstring of the module, formulas, letters

# --- expressions

_PRIMES = {"g": "g", "dg": "g'", "ddg": "g''"}


class _Printer(LatexPrinter):
    """Averages of the activation are arrays in code, `dg_g[a, k, i]`, and brackets on paper.

    Arguments have names that read well in code; on paper they are one of the `letters`.
    """

    def __init__(self, letters: Mapping[str, str]) -> None:
        super().__init__()
        self._letters = letters

    def _print_Symbol(self, expr: sympy.Symbol, style: str = "plain") -> str:
        if expr.name in self._letters:
            return self._letters[expr.name]
        if intermediate := re.fullmatch(r"([a-z])(\d\w*)", expr.name):  # m1_0: the mean of x1 given that x0 = 0
            return f"{intermediate[1]}_{{{intermediate[2].replace('_', '|')}}}"
        return str(super()._print_Symbol(expr, style))

    def _print_Integer(self, expr: sympy.Integer) -> str:
        power = int(expr).bit_length() - 1
        return f"2^{{{power}}}" if power > 20 and expr == 2**power else str(expr)

    def _print_Indexed(self, expr: sympy.Indexed) -> str:
        name = str(expr.base)
        indices = [self._print(index) for index in expr.indices]
        factors = name.split("_")
        if set(factors) <= set(_PRIMES):
            inside = r"\,".join(f"{_PRIMES[f]}_{{{i}}}" for f, i in zip(factors, indices[1:], strict=True))
            return rf"\langle {inside} \rangle_{{{indices[0]}}}"
        if name == "sigma2":
            return rf"\sigma_{{{indices[0]}}}^{{2}}"
        return rf"{self._print(expr.base.label)}_{{{' '.join(indices)}}}"

    def _print_Function(self, expr: Any, exp: str | None = None) -> str:
        name = type(expr).__name__
        if name in {*_PRIMES, "nu", "lambda"}:  # fields and activations carry an index
            base = _PRIMES.get(name, rf"\{name}")
            text = f"{base}_{{{self._print(expr.args[0])}}}"
            return text if exp is None else rf"{text}^{{{exp}}}"
        return str(super()._print_Function(expr, exp))


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
    for node, after in zip(nodes, [*nodes[1:], None], strict=True):
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


# --- text

_CHARACTERS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"\ensuremath{\pm}",
    "·": r"\ensuremath{\cdot}",
    "≤": r"\ensuremath{\le}",
    "≥": r"\ensuremath{\ge}",
    "→": r"\ensuremath{\to}",
    "∞": r"\ensuremath{\infty}",
    "²": r"\ensuremath{^2}",
} | {c: "\\" + c for c in "#$%&"}


def _escape(text: str) -> str:
    return "".join(_CHARACTERS.get(c, c) for c in text)


def _prose(docstring: str) -> str:
    """A docstring as LaTeX: paragraphs as text, indented lines as code, examples left out."""
    blocks = []
    for block in re.split(r"\n\s*\n", textwrap.dedent("    " + docstring).strip()):
        lines = textwrap.dedent(block).splitlines()
        if not lines or lines[0].startswith(">>>"):
            continue
        if block.startswith("    "):
            blocks.append(
                r"\begin{quote}\small\ttfamily\obeylines\obeyspaces " + _escape("\n".join(lines)) + r"\end{quote}"
            )
        else:
            text = re.sub(r"``?([^`]+)``?", lambda m: "\x00" + m[1] + "\x01", "\n".join(lines))
            blocks.append(_escape(text).replace("\x00", r"\texttt{").replace("\x01", "}"))
    return "\n\n".join(blocks)


# --- the document

_PREAMBLE = r"""\documentclass[11pt]{article}
\usepackage[T1]{fontenc}
\IfFileExists{lmodern.sty}{\usepackage{lmodern}}{}
\usepackage[a4paper,margin=25mm]{geometry}
\usepackage{amsmath,amssymb}
\usepackage[hidelinks]{hyperref}
\setlength{\parindent}{0pt}
\setlength{\parskip}{0.6ex plus 0.3ex}
\setlength{\emergencystretch}{3em}
\relpenalty=50 \binoppenalty=100
\lineskip=4pt \lineskiplimit=4pt
\sloppy
\newcommand{\named}[1]{\textsl{#1:}\enspace}
\newenvironment{rules}{\raggedright}{\par}
\newcommand{\step}{\par\leftskip=0pt\hangindent=2em\hangafter=1 }
\newcommand{\also}{\par\leftskip=1em\hangindent=2em\hangafter=1 }
\title{The derivation of \texttt{quenched}}
\author{}
\date{}
\begin{document}
\maketitle
\tableofcontents"""


_NOTATION = r"""\section*{Notation}
$\Phi_n$: normal distribution functions; $\theta$: Heaviside's step; $\delta$: Dirac's delta; $E$: average over jointly
normal fields $x_i$ of means $m_i$ and covariances $c_{ij}$; $\langle\,\cdots\rangle_a$: average over the fields
$\lambda_k$ in cluster $a$, with $g_k = g(\lambda_k)$; indices that the left-hand side does not have are summed.

Averages are reduced to intermediate quantities, named after what they are. A bar conditions: $m_{1|0}$ and $c_{12|0}$
are moments given $x_0 = 0$; with a $t$, as in $m_{1|t0}$, they are tilted: given that $x_0$ plus an independent normal
variable is 0. $d_0$ is the density of $x_0$ at 0; $h$, $r$ and $p$ are limits, correlations and orthant probabilities,
$p_{01} = E[\theta(x_0)\,\theta(x_1)]$, or the same with $\Phi$ for $\theta$; $e_{0|p1} = E[x_0\,\theta(x_1)]$ and
$e_{01} = E[x_0 x_1]$ are moments with and without steps; $c$ and $s$ mark cosines and sines."""


def _line(text: str) -> str:
    return rf"$\displaystyle {breakable(text)}$"


def _steps(steps: Sequence[Step]) -> list[str]:
    """One paragraph for each step, but the many steps of a reduction to intermediate quantities in flowing text."""
    lines = []
    flowing = len(steps) > 20
    for rule, run in groupby(steps, key=lambda step: step.rule):
        apart = rule == "Result" or not flowing
        formulas = [_line(step.latex) for step in run]
        text = "\n\\also ".join(formulas) if apart else ";\\quad ".join(formulas) + "."
        lines.append((r"\step" if apart else "") + rf"\named{{{_escape(rule)}}}{text}")
    return [r"\step", *lines] if flowing else lines


def _formula(formula: Formula, letters: Mapping[str, str]) -> str:
    latex, outcome, name = in_letters(letters), formula.outcome, _escape(formula.name)
    known = [rf"\texttt{{{_escape(a.name)}}}~$= {latex(a)}$" for a in formula.arguments if a.name in letters]
    told = {step.latex.partition(" = ")[0] for step in outcome.steps}
    definitions = [(symbol, value) for symbol, value in outcome.definitions if latex(symbol) not in told]
    lines = _steps(outcome.steps)
    if formula.arguments and not any(step.rule == "Result" for step in outcome.steps):
        values = outcome.values
        if len(latex(sympy.Tuple(*values))) > 2000:  # no reader follows that: name what repeats
            shared, values = sympy.cse(values, sympy.symbols("a_1:1000"), order="canonical")
            definitions += shared
        result = rf"\mathrm{{{name}}}({', '.join(map(latex, formula.arguments))}) = "
        lines += _steps([Step("Let", f"{latex(symbol)} = {latex(value)}") for symbol, value in definitions])
        lines += _steps([Step("Result", result + r",\quad ".join(map(latex, values)))])
    head = [rf"\subsection{{\texttt{{{name}}}}}", _prose(formula.docstring)]
    if known:
        head.append("In code: " + ", ".join(known) + ".")
    return "\n\n".join([*head, "\\begin{rules}\n" + "\n".join(lines) + "\n\\end{rules}"])


def document(chapters: Iterable[Chapter]) -> str:
    """A LaTeX document (pdflatex) of chapters (title, docstring, formulas, letters)."""
    body = []
    for title, docstring, formulas, letters in chapters:
        body += [rf"\section{{{_escape(title)}}}", _prose(docstring)]
        body += [_formula(formula, letters) for formula in formulas]
    return "\n\n".join([_PREAMBLE, _NOTATION, *body, "\\end{document}\n"])
