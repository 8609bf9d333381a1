r"""The notation of docstrings as typeset mathematics: "alpha D samples" becomes "$\alpha D$ samples".

Docstrings are read in terminals, and write mathematics in ASCII: E_a[push_k f], sum_(a in y), D^(-1/2), |x|^2, w_k.x,
x <- y.  `prose` finds such runs between words and sets them.  A token is mathematics if it is a Greek name or a single
letter, or has a sign that words do not have; operators and numbers are, where they join such tokens.  What stands in
backticks is code or, if the document has it, a reference; indented lines are displayed.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import Any

__all__ = ["GREEK", "escape", "mathematics", "prose"]

# fmt: off
GREEK = frozenset((
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu", "xi",
    "pi", "rho", "sigma", "tau", "phi", "chi", "psi", "omega", "Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi",
    "Sigma", "Phi", "Psi", "Omega", "varphi",
))
# fmt: on
_TEX_FUNCTIONS = frozenset(("log", "exp", "det", "min", "max", "sin", "cos", "tanh", "cosh", "sum", "prod"))
_WRITTEN = {"Max": "max", "Min": "min", "Abs": "abs", "arccosh": "arcosh"}  # functions by other names
_FUNCTIONS = (
    _TEX_FUNCTIONS
    | set(_WRITTEN)
    | {"tr", "Tr", "Var", "Cov", "erf", "sign", "extr", "prox", "He", "log1p", "diag", "sqrt"}
)
_HATS = {"Vh": "V", "qh": "q", "mh": "m", "vhat": "v", "uhat": "u", "yhat": "y", "û": "u"}
_WORDS = {"Lam": r"\Lambda", "lam": r"\Lambda", "infinity": r"\infty "}
_SIGNS = {
    "<-": r"\leftarrow ",
    "->": r"\to ",
    "<=": r"\le ",
    ">=": r"\ge ",
    "!=": r"\ne ",
    "...": r"\ldots ",
    "..": r"\ldots ",
    "±": r"\pm ",
    "·": r"\cdot ",
    "×": r"\times ",
    "∞": r"\infty ",
    "²": "^{2}",
    "≤": r"\le ",
    "≥": r"\ge ",
    "→": r"\to ",
    "~": r"\sim ",
    "{": r"\{",
    "}": r"\}",
    "*": r"\,",
    "%": r"\%",
    "#": r"\#",
    "&": r"\&",
    "$": r"\$",
    "\\": r"\backslash ",
}
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
    **{c: rf"\ensuremath{{{_SIGNS[c].strip()}}}" for c in "±·×∞²≤≥→"},
    "û": r"\^u",
} | {c: "\\" + c for c in "#$%&"}


def escape(text: str) -> str:
    """Text that TeX prints as it stands; two hyphens stay two."""
    return "".join(_CHARACTERS.get(c, c) for c in text).replace("--", "-{}-")


# --- ASCII notation as LaTeX

_NAME = r"[A-Za-zû]+"
_TOKEN = re.compile(rf"(log1p|{_NAME})(\d+)?('*)|<-|->|<=|>=|!=|\.\.\.?|\d+(?:\.\d+)?|\s+|.", re.DOTALL)


_DECIMAL = re.compile(r"(\d+(?:\.\d+)?)e(-?\d+)(?![\w.])")  # 1e-4


def _closing(text: str, start: int) -> int:
    """The place after the bracket that closes the one at `start`; -1 if none does."""
    depth = 0
    for place in range(start, len(text)):
        depth += (text[place] in "([{") - (text[place] in ")]}")
        if depth == 0:
            return place + 1
    return -1


def _is_differential(name: str) -> bool:
    """dphi, dt, dVh: a d and what it is of."""
    return name[0] == "d" and len(name) > 1 and (name[1:] in GREEK or len(name) == 2 or name[1:] in _HATS)


def _name(name: str, letters: Mapping[str, str]) -> str:
    if name in letters:
        return letters[name]
    if name in _HATS:
        return rf"\hat {_HATS[name]}"
    if name in _WORDS:
        return _WORDS[name]
    if name in GREEK:
        return rf"\{name}"
    if name in _FUNCTIONS:
        name = _WRITTEN.get(name, name)
        return rf"\{name}" if name in _TEX_FUNCTIONS else rf"\operatorname{{{name}}}"
    if name == "in":
        return r"\in "
    if _is_differential(name):
        return rf"d{_name(name[1:], {})}"
    return name if len(name) == 1 else rf"\mathrm{{{name}}}"


def _script(text: str, start: int, letters: Mapping[str, str]) -> tuple[str, int]:
    """What a sub- or superscript at `start` holds, and where it ends."""
    if text[start : start + 1] in ("(", "{") and (end := _closing(text, start)) > 0:
        held = text[start + 1 : end - 1]
        order = text[start] == "(" and text[start - 1] == "^" and re.fullmatch(r"[a-z](?:[-+]\d)?", held)
        return mathematics(f"({held})" if order else held, letters), end  # the order of a derivative keeps its brackets
    if text[start : start + 1] == "*":
        return "*", start + 1
    power = r"-\d/\d+|-?(?:\d+n?(?![a-z])|\d+|[A-Za-z]\w*)"  # x^2l is x^2 l
    found = re.match(power if text[start - 1] == "^" else r"\w+", text[start:])
    if not found:
        return "", start
    inner = found[0]
    if re.fullmatch(r"[a-z]+\d*", inner) and inner not in GREEK | {name for name in letters if len(name) < 4}:
        inner = re.sub(r"\d", r"\g<0>", inner)  # indices side by side: ak, a0
        return (inner if len(inner) < 5 else rf"\mathrm{{{inner}}}"), start + found.end()
    return mathematics(inner.replace("_", " "), letters), start + found.end()


def _is_word(name: str, after: str, letters: Mapping[str, str]) -> bool:
    """A word of the language within a formula: "Phi_n(the others)"."""
    known = GREEK | _FUNCTIONS | set(_HATS) | set(_WORDS) | set(letters) | {"in"}
    plain = re.fullmatch(r"[a-z]{2,}", name) and name not in known and not _is_differential(name)
    return bool(plain) and after not in ("_", "[", "(")


def mathematics(text: str, letters: Mapping[str, str] | None = None) -> str:
    r"""A formula in the notation of docstrings, in math mode; `letters`: names that have one on paper.

    >>> mathematics("E_a[push_k x]/sqrt(D) <- sum_(a in y) A_a.w^-1/2")
    'E_{a}[\\operatorname{push}_{k} x]/\\sqrt{D} \\leftarrow  \\sum_{a \\in  y} A_{a}\\cdot w^{-1/2}'
    """
    letters, result, place, text = letters or {}, "", 0, text.replace("**", "^")
    while place < len(text):
        if (whole := re.match(r"[A-Za-z]\w*", text[place:])) and "_" in whole[0] and whole[0] in letters:
            result += " " + letters[whole[0]]
            place += whole.end()
            continue
        if (decimal := _DECIMAL.match(text, place)) and not result[-1:].isalnum():
            result += rf"{decimal[1]}\cdot 10^{{{decimal[2]}}}".removeprefix(r"1\cdot ")
            place = decimal.end()
            continue
        found: Any = _TOKEN.match(text, place)  # which takes any character
        token, place = found[0], found.end()
        if found[1] == "sqrt" and text[place : place + 1] == "(" and (end := _closing(text, place)) > 0:
            result += rf"\sqrt{{{mathematics(text[place + 1 : end - 1], letters)}}}"
            place = end
        elif found[1] == "sqrt" and (number := re.match(r" (\d+|[a-z]+)", text[place:])):
            result += rf"\sqrt{{{mathematics(number[1], letters)}}}"
            place += number.end()
        elif found[1] and _is_word(found[0], text[place : place + 1], letters):
            words = re.match(r"[a-z]{2,}(?:,? +[a-z]{3,}(?![\w(\[]))*", text[found.start() :])
            told = words[0] if words else token
            result += r"\ " if place > 0 and result.endswith(" ") and not result.endswith(r"\ ") else ""
            told += " " if words and text[found.start() + len(told) :][:1].isspace() else ""
            result += rf"\text{{{told}}}"
            place = found.start() + len(told)
        elif found[1]:
            digits = f"_{{{found[2]}}}" if found[2] and found[1] != "log" else found[2] or ""
            indexed = len(found[1]) > 1 and text[place : place + 1] == "_"  # a word with an index keeps its distance
            joint = " " if re.search(r"\\[A-Za-z]+$", result) else ""
            result += (
                joint
                + _name(found[1], {} if indexed else letters).replace(
                    r"\mathrm{" if indexed else "\n", r"\operatorname{"
                )
                + found[3]
                + digits
            )
        elif token in "_^":
            script, place = _script(text, place, letters)
            apart = "{}" if re.search(rf"{re.escape(token)}\{{[^{{}}]*\}}$", result) else ""  # x_1 of index i
            result += f"{apart}{token}{{{script}}}"
        elif token == "|" and text[place - 2 : place + 1] == " | ":
            result += r"\mid "
        elif token == "*" and re.search(r"[\w)\]}]$", result) and not re.match(r"\s*[\w(\\]", text[place:]):
            result += "^{*}"  # theta*: a star, and no product
        elif token == "." and re.search(r"[\w)\]'>}]$", result) and re.match(r"[A-Za-z(û]", text[place:]):
            result += r"\cdot "
        elif token == "<" and (held := re.match(r"([^<>=\s](?:[^<>=]*[^<>=\s])?)>", text[place:])):
            result += rf"\langle {mathematics(held[1], letters)}\rangle "
            place += held.end()
        else:
            result += _SIGNS.get(token, " " if token.isspace() else token)
    return result


# --- runs of mathematics between words

_OPERATOR = re.compile(r"[=+\-/|~<>×·*{]|<-|->|<=|>=|!=|≤|≥|→")
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?(?:/\d+)?")
_STRONG = re.compile(r"[_^=<>|±·×∞²≤≥→û~+]|^\w'+$|\w'+[\[(/,]|\w'+ |\(\w'*\)|!!|^-\w")
_ARTICLES = ("a", "A", "I")
_Piece = tuple[str, str, str]  # kind, text, punctuation after it


def _tokens(text: str, letters: Mapping[str, str]) -> Iterator[str]:
    """Words with the brackets that they open: "F(N, N', u)" and "(D - 1)" are one."""
    place = 0
    while place < len(text):
        end = place
        if text[place].isspace():
            while end < len(text) and text[end].isspace():
                end += 1
        while end < len(text) and not text[end].isspace() and not text[place].isspace():
            closing = _closing(text, end) if text[end] in "([" else 0
            held, after = text[end + 1 : closing - 1], text[closing : closing + 1]
            whole = (
                closing > 0
                and "\x00" not in held
                and (end > place or _is_formula(held, letters) or (after != "" and after in "^|/") or text[end] == "[")
            )
            if closing and not whole and end == place:
                end += 1
                break  # a bracket of the sentence
            end = closing if whole else end + 1
        yield text[place:end]
        place = end


def _is_formula(text: str, letters: Mapping[str, str]) -> bool:
    """Mathematics alone: no word."""
    kinds = [_kind(word, letters) for word in re.split(r"[\s,;]+", text) if word]
    return "strong" in kinds and "text" not in kinds


def _kind(token: str, letters: Mapping[str, str]) -> str:
    """What a token is: strong is mathematics by itself, text is none, the others are where they join such tokens."""
    core = token.strip("()[],;:")
    if _OPERATOR.fullmatch(token):
        return "operator"
    if "\x00" in token or (not core and token != "}"):
        return "text"
    if core in _ARTICLES:
        return "article"
    if core in ("infinity", "...", "..", "") or _NUMBER.fullmatch(core):
        return "number"
    if core in _FUNCTIONS:
        return "function"
    bare = core.rstrip("'*")
    if bare in GREEK or bare in _HATS or bare in _WORDS or (re.fullmatch(r"[A-Za-z]\d*'*|\d+[A-Za-z]", core)):
        return "strong"
    if core in letters:
        return "strong" if "_" in core else "letter"
    if re.fullmatch(r"[a-z]+'?/(?:[A-Z]|sqrt\(.*)", core) or re.search(r"\*\*|\b\w\*\w", core):
        return "strong"
    if token[0] == "(" and _closing(token, 0) == len(token) and _is_formula(token[1:-1], letters):
        return "strong"
    if _STRONG.search(core) and not re.fullmatch(r"[A-Za-z]{3,}'s?", core):
        return "strong"
    names = re.findall(_NAME, core)
    if re.search(r"[-+/.(\[]", core) and names and all(_known(name, letters) for name in names):
        return "strong"
    if (called := re.match(rf"({_NAME})[(\[]", core)) and _known(called[1], {}):
        return "strong"
    called = re.fullmatch(r"[a-z]+\((.*,.*)\)[,;:]?", token)
    if called and _is_formula(called[1], letters):
        return "strong"
    return "text"


def _known(name: str, letters: Mapping[str, str]) -> bool:
    known = GREEK | _FUNCTIONS | set(_HATS) | set(_WORDS) | set(letters)
    return len(name) == 1 or name in known or _is_differential(name)


def _stops(token: str) -> tuple[str, str]:
    """A token without the punctuation of the sentence after it."""
    stop = len(token)
    while stop and (token[stop - 1] in ",;:" or (token[stop - 1] == "." and not token[:stop].endswith(".."))):
        stop -= 1
    while stop and token[stop - 1] == ")" and token[:stop].count(")") > token[:stop].count("("):
        stop -= 1
        while stop and token[stop - 1] in ",;:.":
            stop -= 1
    return token[:stop], token[stop:]


def _said_once(latex: str) -> str:
    """A formula without "X = X", which is what becomes of "linear = k_1" where `linear` has the letter k_1."""
    return re.sub(r"(^|, | = )([^=,]*[^=,\s]) = \2(?= = |,|$)", r"\1\2", latex)


def _typeset(text: str, letters: Mapping[str, str], shown: bool) -> str:
    """One paragraph, its mathematics set; `shown`: a displayed line, where words next to operators are formulas."""
    tokens = [("", "", token) if token.isspace() else (*_stops(token), "") for token in _tokens(text, letters)]
    pieces: list[_Piece] = []
    for core, after, space in tokens:
        if space:
            pieces.append(("space", " ", ""))
        elif mixed := re.fullmatch(r"([A-Zn])-([a-z]{3,}\S*)", core):
            pieces += [("strong", mixed[1], ""), ("text", f"-{mixed[2]}", after)]
        else:
            pieces.append((_kind(core, letters), core, after) if core else ("text", after, ""))
    if shown:
        pieces = _shown_words(pieces)
    result, place = "", 0
    while place < len(pieces):
        end = _run(pieces, place, result)
        if end == place:
            result += escape("".join(pieces[place][1:]))
            place += 1
        else:
            formula = "".join(core + after for _, core, after in pieces[place : end - 1]) + pieces[end - 1][1]
            style = r"\displaystyle " if shown else ""
            result += f"${style}{_said_once(mathematics(formula, letters).strip())}$" + escape(pieces[end - 1][2])
            place = end
    return result


def _shown_words(pieces: list[_Piece]) -> list[_Piece]:
    """In a displayed line a word next to an operator is part of the formula."""
    places = [n for n, piece in enumerate(pieces) if piece[0] != "space"]
    found = list(pieces)
    for before, place, after in zip([-1, *places], places, [*places[1:], -1], strict=False):
        kind, core, stop = pieces[place]
        beside = (before >= 0 and pieces[before][0] == "operator" and not pieces[before][2]) or (
            after >= 0 and pieces[after][0] == "operator" and not stop
        )
        if kind in ("letter", "text") and beside and re.fullmatch(r"[a-z]+", core):
            found[place] = ("strong", core, stop)
    return found


def _run(pieces: list[_Piece], start: int, before: str) -> int:
    """Where the formula that starts at a piece ends; `start` if none does."""
    kind, core, after = pieces[start]
    follows = [p for p in pieces[start + 1 : start + 6] if p[0] != "space"]
    if kind in ("text", "space"):
        return start
    if kind == "article":
        alone = after[:1] == "," or re.search(r"(?:cluster|clusters|index|given|label|of the vector)\s$", before)
        own = follows and (follows[0][0] == "operator" or follows[0][1].startswith(core + "_"))
        own = own or (core == "A" and follows and follows[0][1].startswith("A^"))
        if alone and not own:
            return start + 1
        if not own or after:
            return start
    if kind == "letter" and (after or not follows or follows[0][0] != "operator"):
        return start
    if kind in ("number", "function", "operator") and (after or not follows or follows[0][0] in ("text", "article")):
        return start
    end, strong, place, joined = start, False, start, True
    while place < len(pieces):
        kind, core, after = pieces[place]
        if kind == "text" or (kind in ("article", "letter") and not joined and core != "I" and place > start):
            break  # a letter after a number is a factor: "x = 2 lr steps"
        if kind != "space":
            strong = strong or kind in ("strong", "letter") or (kind == "article" and place == start)
            if kind != "operator" and kind != "function":
                end = place + 1
            joined = kind == "operator" or (kind == "number" and strong)
            if after:
                end = place + 1 if kind != "operator" else end
                break
        place += 1
    return end if strong and end > start else start


# --- docstrings

Reference = Callable[[str], str]


def _code(name: str) -> str:
    return rf"\texttt{{{escape(name)}}}"


_VARIABLE = re.compile(r"(?<![\w\\^/.])(?:([A-Za-z]{2,})\w*_[a-z]{4,}|[a-z]{3,}_)(?![\w^/*(\[])")
"""Names of a program that stand in a sentence without backticks: classification_error, the dimension neuron_."""


def _inline(text: str, letters: Mapping[str, str], reference: Reference, shown: bool = False) -> str:
    held: list[str] = []

    def hold(latex: str) -> str:
        held.append(latex)
        return f"\x00{len(held) - 1}\x00"

    text = re.sub(r"``?([^`]+)``?", lambda m: hold(reference(m[1])), text)
    text = re.sub(r"(?<![\w/])[\w/]+\.py\b", lambda m: hold(reference(m[0])), text)
    text = _VARIABLE.sub(
        lambda m: m[0] if m[0] in letters or (m[1] and _known(m[1], {})) else hold(reference(m[0])), text
    )
    text = re.sub(r"\s*\\cite\{[\w,-]+\}", lambda m: hold("~" + m[0].strip()), text)
    text = re.sub(r"(?<![\w*])\*([A-Za-z][^*\n]*)\*(?!\w)", lambda m: hold(rf"\emph{{{escape(m[1])}}}"), text)
    return re.sub("\x00(\\d+)\x00", lambda m: held[int(m[1])], _typeset(text, letters, shown))


def _shown(lines: list[str], letters: Mapping[str, str], reference: Reference) -> str:
    """Displayed lines; what two spaces set apart stays apart."""
    rows = []
    for line in lines:
        parts = [part for part in re.split(r"\s{2,}", line.strip()) if part]
        text = ""
        for part in parts:
            joint = re.match(r"=|sum", part) and not text.endswith((",", ";"))
            text += (" " if joint else r"\qquad ") * bool(text) + _inline(part, letters, reference, shown=True)
        rows.append(text)
    return "\\begin{display}\n" + "\\\\\n".join(rows) + "\n\\end{display}"


def prose(docstring: str, letters: Mapping[str, str] | None = None, reference: Reference = _code) -> str:
    r"""A docstring as LaTeX: paragraphs, displayed lines, lists; examples left out.

    >>> print(prose("With n = alpha D samples, w_k moves."))
    With $n = \alpha D$ samples, $w_{k}$ moves.
    """
    letters, blocks = letters or {}, []
    for block in re.split(r"\n\s*\n", inspect.cleandoc(docstring)):
        lines = textwrap.dedent(block).splitlines()
        if not lines or not block.strip() or lines[0].startswith(">>>"):
            continue
        if re.match(r"\* ", lines[0]):
            items = re.split(r"^\* ", "\n".join(lines), flags=re.MULTILINE)[1:]
            told = (_inline(re.sub(r"\s+", " ", item).strip(), letters, reference) for item in items)
            blocks.append("\\begin{itemize}\n" + "\n".join(rf"\item {item}" for item in told) + "\n\\end{itemize}")
        elif block.startswith("    "):
            blocks.append(_shown(lines, letters, reference))
        else:
            blocks.append(_inline(" ".join(lines), letters, reference))
    return "\n\n".join(blocks)
