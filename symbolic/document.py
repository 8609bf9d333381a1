"""The derivation as a LaTeX document: a chapter for each module of symbolic/ that takes part."""

from __future__ import annotations

from quenched.symbolic.generate import subjects
from quenched.symbolic.language.latex import document

__all__ = ["latex"]


def latex() -> str:
    """Definitions, each rule applied, each result, in order."""
    chapters = [
        (subject.TITLE, subject.docstring, [*subject.derivations(), *subject.formulas()], subject.NOTATION)
        for subject in subjects()
    ]
    return document(chapters)
