"""The derivation as a LaTeX document: a chapter for each module of symbolic/ that takes part, in their order.

A module says by PART and ORDER where it stands; parts and what is told between them are those of `manuscript.front`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import quenched.symbolic
from quenched.symbolic.generate import Subject, subjects
from quenched.symbolic.manuscript.front import PARTS, front
from quenched.symbolic.manuscript.own import own
from quenched.symbolic.manuscript.typeset import Book, Chapter

__all__ = ["book", "latex", "own"]


def _functions(subject: Subject) -> dict[str, str]:
    """Name -> dotted name of the functions of theory/ that come from a module of symbolic/, as their headers say."""
    folder = Path(quenched.symbolic.__path__[0]).parent / "theory"
    sources = {subject.source, subject.source.replace("averages.py", "activations.py")}
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if any(source in text[:400] for source in sources):
            module = "theory." + ".".join(path.relative_to(folder).with_suffix("").parts)
            found |= {
                name: f"{module}.{name}" for name in re.findall(r"^def ([a-zA-Z]\w*)\(", text, flags=re.MULTILINE)
            }
    return found


def book(digits: Mapping[str, str] | None = None) -> Book:
    """The chapters in their order; `digits`: formula -> what its certificate says."""
    order = list(PARTS)
    found = sorted(subjects(), key=lambda subject: (order.index(subject.PART), subject.ORDER, subject.name))
    chapters = [
        Chapter(
            subject.name,
            subject.TITLE,
            subject.docstring,
            [*subject.derivations(), *(f for f in subject.formulas() if f.name not in subject.UNTOLD)],
            subject.NOTATION,
            subject.source,
            subject.PART,
            subject.STATUS,
            _functions(subject),
        )
        for subject in found
    ]
    return Book(chapters, digits)


def latex(digits: Mapping[str, str] | None = None) -> str:
    """Introduction, rules, each derivation with the rules that it applies, tables, index, literature."""
    whole = book(digits)
    return whole.document(front(whole), PARTS)
