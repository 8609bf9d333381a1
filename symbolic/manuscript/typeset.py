r"""Chapters as LaTeX: prose, derivations in numbered lines, references between them, an index of the results.

Lines are set as text, so that TeX breaks them at relations and sums, with the number of the equation at the end.  What
a docstring has in backticks becomes a reference where the document has a chapter or an equation of that name, and the
rule that a line cites leads to its proof.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import sympy

from quenched.symbolic.language.latex import breakable, in_letters
from quenched.symbolic.language.notation import Formula, Step
from quenched.symbolic.language.prose import GREEK, escape, prose
from quenched.symbolic.manuscript.literature import bibliography, cited

__all__ = ["PREAMBLE", "Book", "Chapter"]

PREAMBLE = r"""\documentclass[11pt]{article}
\usepackage[utf8]{inputenc}
\IfFileExists{lmodern.sty}{\usepackage[T1]{fontenc}\usepackage{lmodern}}{}
\usepackage[a4paper,margin=25mm]{geometry}
\usepackage{amsmath,amssymb,longtable,array}
\usepackage[hidelinks]{hyperref}
\setlength{\parindent}{0pt}
\setlength{\parskip}{0.6ex plus 0.3ex}
\setlength{\emergencystretch}{3em}
\setcounter{tocdepth}{1}
\makeatletter
\renewcommand*\l@section{\@dottedtocline{1}{1.5em}{2.3em}}
\makeatother
\numberwithin{equation}{section}
\relpenalty=50 \binoppenalty=100
\lineskip=4pt \lineskiplimit=4pt
\allowdisplaybreaks
\sloppy
\newcommand{\named}[1]{\textsl{#1:}\enspace}
\newenvironment{rules}{\par\raggedright}{\par}
\newenvironment{display}{\par\medskip\begingroup\leftskip=2em\raggedright\parskip=0pt\lineskip=3pt }%
  {\par\endgroup\medskip}
\newcommand{\step}{\par\leftskip=0pt\hangindent=2em\hangafter=1 }
\newcommand{\also}{\par\leftskip=1em\hangindent=2em\hangafter=1 }
\newcommand{\numbered}[1]{\refstepcounter{equation}\label{#1}\unskip\nobreak\hfill\penalty50\hskip1em\hbox{}%
  \nobreak\hfill\hbox{(\theequation)}{\parfillskip=0pt\par}}
\newcommand{\source}[1]{{\small\raggedright #1\par}}
"""

_REDUCTION = frozenset({"Stein", "Conditioning", "Tilting", "Smoothing", "Orthant", "By parts"})
_FLOWING = 20  # steps: more of a reduction to intermediate quantities are set in flowing text
_LONG = 2000  # characters of a result that no reader follows: what repeats is named
_WRITTEN = {"xor": "XOR", "ntk": "neural tangent kernel of", "erf": "erf", "relu": "relu", "rbf": "RBF"}


@dataclass(frozen=True)
class Chapter:
    """A module of symbolic/ as a chapter: what it says, what it derives, its letters, where it stands in the argument.

    `source` is the path of its module, `functions` name -> dotted name of the generated function.  The lines of a
    `flowing` chapter, the last of a document, are small text without numbers.
    """

    name: str
    title: str
    docstring: str
    formulas: Sequence[Formula]
    letters: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    part: str = ""
    status: str = ""
    functions: Mapping[str, str] = field(default_factory=dict)
    flowing: bool = False


def _label(*names: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", ".".join(names))


def _heading(name: str) -> str:
    if numbered := re.fullmatch(r"([A-Z][a-z]+)(\d)", name):  # Phi2
        return rf"\texorpdfstring{{$\{numbered[1]}_{numbered[2]}$}}{{{name}}}"
    if (last := name.rpartition("_")[2]) in GREEK:
        return rf"{_heading(name[: -len(last) - 1])} \texorpdfstring{{$\{last}$}}{{{last}}}"
    words = [_WRITTEN.get(word, word) for word in re.split(r"[_:]", name)]
    text = " ".join(words)
    return escape(text[0].upper() + text[1:] if words[0] not in _WRITTEN.values() else text)


class Book:
    """The chapters of one document, which may refer to each other; `digits`: what a certificate says of a formula."""

    def __init__(self, chapters: Iterable[Chapter], digits: Mapping[str, str] | None = None) -> None:
        self.chapters = tuple(chapters)
        self._digits = digits or {}
        self._named = {chapter.name: chapter for chapter in self.chapters}
        self._rules = {
            formula.name: _label("sec", chapter.name, formula.name)
            for chapter in self.chapters
            if chapter.part == "calculus"
            for formula in chapter.formulas
        }

    def reference(self, chapter: Chapter | None = None) -> Callable[[str], str]:
        """What a name in backticks becomes: a reference to a chapter or a result, or code."""
        own = {formula.name: formula for formula in chapter.formulas} if chapter else {}

        def found(name: str) -> str:
            last = re.sub(r"\.py$", "", name).replace("/", ".").rpartition(".")[2]
            code = rf"\texttt{{{escape(name)}}}"
            if name in own and chapter:
                kind = "eq" if self._numbered(own[name], chapter) else "sec"
                target = _label(kind, chapter.name, name)
                return rf"{code}~\eqref{{{target}}}" if kind == "eq" else rf"{code} (Section~\ref{{{target}}})"
            if last in self._named and (chapter is None or last != chapter.name):
                kind = "Appendix" if self._named[last].part == "tables" else "Section"
                return rf"{kind}~\ref{{{_label('sec', last)}}}"
            return code

        return found

    def prose(self, text: str, chapter: Chapter | None = None) -> str:
        """A docstring or a text of the same notation, with citations and references."""
        return prose(cited(text), chapter.letters if chapter else {}, self.reference(chapter))

    # -- one derivation

    @staticmethod
    def _numbered(formula: Formula, chapter: Chapter) -> bool:
        """Whether there is an equation to refer to."""
        return bool(formula.outcome.steps or formula.arguments)

    def _rule(self, rule: str) -> str:
        name, colon, rest = rule.partition(":")
        text = prose(name + colon + rest)
        text = rf"\mbox{{{text}}}" if len(rule) < 40 else text
        return rf"\hyperref[{self._rules[name]}]{{{text}}}" if name in self._rules else text

    @staticmethod
    def _apart(steps: Sequence[Step]) -> Callable[[str], bool]:
        """Whether steps of a rule are numbered lines; a long reduction and names for what repeats are flowing text."""
        flowing = {"Let"} | (_REDUCTION if sum(step.rule in _REDUCTION for step in steps) > _FLOWING else set())
        return lambda rule: rule not in flowing

    def _steps(self, steps: Sequence[Step], label: Callable[[], str], numbered: Callable[[str], bool]) -> list[str]:
        """One numbered line for each step that stands apart."""
        lines, before = [], True
        for rule, run in groupby(steps, key=lambda step: step.rule):
            apart = numbered(rule)
            formulas = [rf"$\displaystyle {breakable(step.latex)}$" for step in run]
            if apart:
                text = "\n\\also ".join(rf"{formula}\numbered{{{label()}}}" for formula in formulas)
            else:
                text = ";\\quad ".join(formulas) + "."
            lines.append((r"\step" if apart or before else "") + rf"\named{{{self._rule(rule)}}}{text}")
            before = apart
        return lines

    def told(self, formula: Formula, chapter: Chapter) -> list[Step]:
        """The steps of a formula, with what its value is named after and its result."""
        latex, outcome = in_letters(chapter.letters), formula.outcome
        steps = list(outcome.steps)
        if not formula.arguments or any(step.rule == "Result" for step in steps):
            return steps
        known = {step.latex.partition(" = ")[0] for step in steps}
        definitions = [(symbol, value) for symbol, value in outcome.definitions if latex(symbol) not in known]
        values = outcome.values
        if len(latex(sympy.Tuple(*values))) > _LONG:
            shared, values = sympy.cse(values, sympy.symbols("a_1:1000"), order="canonical")
            definitions += shared
        steps += [Step("Let", f"{latex(symbol)} = {latex(value)}") for symbol, value in definitions]
        head = rf"\mathrm{{{escape(formula.name)}}}({', '.join(map(latex, formula.arguments))}) = "
        return [*steps, Step("Result", head + r",\quad \allowbreak ".join(map(latex, values)))]

    def _formula(self, formula: Formula, chapter: Chapter) -> str:
        names = (chapter.name, formula.name)
        steps = self.told(formula, chapter)
        apart = (lambda _: False) if chapter.flowing else self._apart(steps)
        counted = sum(1 for step in steps if apart(step.rule))
        places = iter(range(1, counted + 1))

        def label() -> str:
            place = next(places)
            return _label("eq", *names) if place == counted else _label("eq", *names, str(place))

        parts = [rf"\subsection{{{_heading(formula.name)}}}\label{{{_label('sec', *names)}}}"]
        parts += [self._source(formula, chapter)]
        told = self.prose(formula.docstring, chapter)
        proof = formula.docstring.startswith("*Proof")  # which follows what it proves
        parts += [] if proof else [told]
        if known := [a for a in formula.arguments if a.name in chapter.letters]:
            latex = in_letters(chapter.letters)
            names_ = ", ".join(rf"${latex(a)}$ is \texttt{{{escape(a.name)}}}" for a in known)
            parts.append(rf"\source{{In code, {names_}.}}")
        if steps:
            lines = self._steps(steps, label, apart)
            parts.append("\\begin{rules}\n" + "\n".join(lines) + "\n\\end{rules}")
        parts += [told] if proof else []
        return "\n\n".join(part for part in parts if part)

    def _source(self, formula: Formula, chapter: Chapter) -> str:
        """Where the formula is in code, and what its certificate says."""
        told = []
        if formula.name in chapter.functions:
            told.append(rf"Function: \texttt{{{escape(chapter.functions[formula.name])}}}.")
        if formula.name in self._digits:
            told.append(f"Certificate: {escape(self._digits[formula.name])}.")
        return rf"\source{{{' '.join(told)}}}" if told else ""

    def chapter(self, chapter: Chapter) -> str:
        """A section."""
        parts = [rf"\section{{{prose(chapter.title)}}}\label{{{_label('sec', chapter.name)}}}"]
        if chapter.source:
            status = f" {self.prose(chapter.status)}" if chapter.status else ""
            parts.append(rf"\source{{Module: \texttt{{{escape(chapter.source)}}}.{status}}}")
        parts += [self.prose(chapter.docstring, chapter)]
        parts += [r"\footnotesize"] if chapter.flowing else []
        parts += [self._formula(formula, chapter) for formula in chapter.formulas]
        return "\n\n".join(parts)

    # -- the whole

    def index(self) -> str:
        """The results that are functions of the package: name, equation, certificate."""
        rows = []
        for chapter in self.chapters:
            for formula in chapter.formulas:
                if formula.name in chapter.functions and self._numbered(formula, chapter):
                    function = escape(chapter.functions[formula.name]).replace(r"\_", r"\_\allowbreak ")
                    digits = escape(self._digits.get(formula.name, "")) if self._digits else ""
                    equation = rf"\eqref{{{_label('eq', chapter.name, formula.name)}}}"
                    rows.append(rf"\texttt{{{function}}} & {equation} & {digits} \\")
        head = r"function & equation & " + ("digits" if self._digits else "") + r" \\ \hline \endhead"
        table = "\n".join([r"\begin{longtable}{@{}p{9.5cm}ll@{}}", head, *rows, r"\end{longtable}"])
        return "\\section{Index of results}\n\n{\\small\n" + table + "\n}" if rows else ""

    def document(self, front: str, parts: Mapping[str, tuple[str, str]], margin: int = 25) -> str:
        """The LaTeX document: what stands before, the parts (name -> title, introduction); its margin in mm."""
        body = [front]
        for name, (title, introduction) in parts.items():
            if chosen := [chapter for chapter in self.chapters if chapter.part == name]:
                appendix = name == "tables"
                body += [r"\appendix\footnotesize" if appendix else rf"\part{{{prose(title)}}}" if title else ""]
                body += [self.prose(introduction)] if introduction else []
                body += [self.chapter(chapter) for chapter in chosen]
        body += [self.index()]
        text = "\n\n".join(part for part in body if part)
        end = [part for part in (bibliography(text),) if part]
        preamble = PREAMBLE.replace("margin=25mm", f"margin={margin}mm")
        return "\n\n".join([preamble, r"\begin{document}", text, *end, "\\end{document}\n"])
