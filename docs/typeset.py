"""Docstrings and formulas of the site: the notation of docstrings as mathematics, mathematics as MathML.

docstring -> `quenched.symbolic.language.prose` -> LaTeX between dollars -> reStructuredText -> MathML
"""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert

from quenched.symbolic.language.prose import prose

__all__ = ["mathml", "restructured", "setup"]

PUBLIC = {name: package for package in ("quenched.numerics", "quenched.sim") for name in import_module(package).__all__}
"""Public names and the package that has them."""

_PLAIN = {r"\textbackslash{}": "\\", r"\textasciicircum{}": "^", r"\textasciitilde{}": "~", r"\textless{}": "<"}
_PLAIN |= {r"\textgreater{}": ">", r"\textbar{}": "|", r"\^u": "û"} | {"\\" + c: c for c in "#$%&_{}"}
_SPECIAL = re.compile(r"([\\*`|]|_(?=\W|$))")  # what reStructuredText would take for markup
# What the converter does not know, in words that it does.
_OTHER = (
    (r"\begin{aligned}", r"\begin{array}{rl}"),
    (r"\end{aligned}", r"\end{array}"),
    (r"\tfrac", r"\frac"),
    (r"\mathtt", r"\texttt"),
    ("&=", "& ="),
    (r"\lvert", "|"),
    (r"\rvert", "|"),
)
_CLOSING = "|".join(
    (r"\)", r"\]", r"\}", r"\|", *(f"&#x0{c};" for c in ("0029", "005D", "007D", "007C", "2032", "27E9")))
)
# How browsers space signs: a minus after an opening bracket or a relation is near what follows; a slash, near both.
_SPACED = (
    (rf"(<mo[^>]*>(?!{_CLOSING})[^<]*</mo>)<mo>&#x02212;</mo>", r'\1<mo form="prefix">&#x02212;</mo>'),
    ("<mo>&#x0002F;</mo>", '<mo lspace="0" rspace="0">&#x0002F;</mo>'),
    ("<mi>&#x0007E;</mi>", "<mo>&#x0223C;</mo>"),
)


def mathml(latex: str, display: str = "inline") -> str:
    r"""A formula as MathML.

    >>> mathml("x^2").count("<msup>")
    1
    """
    for known, other in _OTHER:
        latex = latex.replace(known, other)
    formula = str(convert(latex.replace("\n", " "), display=display))
    for found, spaced in _SPACED:
        formula = re.sub(found, spaced, formula)
    return formula


def _shown(translator: Any, node: Any) -> None:
    translator.body.append(f'<div class="math">{mathml(node.astext(), "block")}</div>')
    raise nodes.SkipNode


def _inline(translator: Any, node: Any) -> None:
    translator.body.append(mathml(node.astext()))
    raise nodes.SkipNode


# --- docstrings


def _reference(name: str) -> str:
    """What stands in backticks: a link where it is a public name, else code."""
    if name in PUBLIC:
        return f"\x01:py:obj:`{PUBLIC[name]}.{name}`\x01"
    return f"\x01``{name}``\x01"


def _text(latex: str) -> str:
    """LaTeX text of `prose` as reStructuredText."""
    parts = re.split(r"(\$.*?(?<!\\)\$|\x01.*?\x01|\\emph\{.*?\}|\\ensuremath\{[^{}]*\})", latex)
    result = ""
    for part in parts:
        if part.startswith("$"):
            formula = part[1:-1].replace(r"\displaystyle ", "").strip()
            result += f"\\ :math:`{formula}`\\ "
        elif part.startswith("\x01"):
            result += f"\\ {part[1:-1]}\\ "
        elif part.startswith(r"\emph"):
            result += f"\\ *{_words(part[6:-1])}*\\ "
        elif part.startswith(r"\ensuremath"):
            result += f"\\ :math:`{part[12:-1]}`\\ "
        else:
            result += _words(part)
    return result.strip()


def _words(latex: str) -> str:
    for written, plain in _PLAIN.items():
        latex = latex.replace(written, f"\x02{ord(plain)}\x02")
    latex = latex.replace(r"\qquad", "\u2003").replace(r"\ ", " ").replace("~", " ")
    text = re.sub("\x02(\\d+)\x02", lambda found: chr(int(found[1])), latex)
    return _SPECIAL.sub(r"\\\1", text)


def restructured(docstring: str) -> list[str]:
    r"""A docstring as lines of reStructuredText: paragraphs and displayed lines with mathematics, examples as they are.

    >>> restructured("With n = alpha D samples.\n\n>>> 1 + 1\n2")
    ['With \\ :math:`n = \\alpha D`\\  samples.', '', '>>> 1 + 1', '2', '']
    """
    lines: list[str] = []
    for block in re.split(r"\n\s*\n(?!\s*<BLANKLINE>)", inspect.cleandoc(docstring)):
        first = block.strip("\n")
        if first.startswith((">>>", "Traceback")):
            lines += [*first.splitlines(), ""]
            continue
        if block.startswith("    "):  # `prose` takes off what all lines but the first are indented by
            latex = prose(f"-\n-\n\n{block}", reference=_reference).partition("\\begin{display}\n")[2]
            rows = latex.removesuffix("\n\\end{display}").split("\\\\\n")
            lines += [*(f"   | {_text(row)}" for row in rows), ""]
        else:
            lines += [_text(prose(block, reference=_reference).replace("\n", " ")), ""]
    return lines


def _docstring(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    lines[:] = restructured("\n".join(lines))


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_html_math_renderer("mathml", inline_renderers=(_inline, None), block_renderers=(_shown, None))
    app.connect("autodoc-process-docstring", _docstring)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
