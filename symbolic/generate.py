"""`quenched derive`: write `theory/`, or compare it with what is there.

What is generated is found, not listed: `subjects` goes through the modules of symbolic/ and takes those that follow the
protocol told in `quenched.symbolic`.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType

import quenched.symbolic
import quenched.symbolic.calculus
import quenched.symbolic.language
import quenched.symbolic.learners
from quenched.symbolic.language import emit
from quenched.symbolic.language.notation import Formula, Specification
from quenched.symbolic.language.unicode import line

__all__ = ["Subject", "check", "modules", "rules", "subjects", "write"]

_PACKAGES = (quenched.symbolic.language, quenched.symbolic.calculus, quenched.symbolic, quenched.symbolic.learners)


def _no_text() -> str:
    return ""


def _no_formulas() -> list[Formula]:
    return []


@dataclass(frozen=True)
class Subject:
    """A module of symbolic/ that takes part: what it declares under the names of the protocol."""

    name: str
    source: str
    docstring: str
    TITLE: str
    PART: str = "further"
    ORDER: int = 0
    STATUS: str = ""
    FOLDER: str = ""
    FORMULAS: tuple[Specification, ...] = ()
    UNTOLD: tuple[str, ...] = ()
    NOTATION: Mapping[str, str] = field(default_factory=dict)
    generated: Callable[[], str] = _no_text
    derivations: Callable[[], list[Formula]] = _no_formulas
    files: Callable[[], dict[str, str]] | None = None

    @classmethod
    def of(cls, module: ModuleType) -> Subject:
        """Of a module that has a TITLE."""
        declared = (
            "TITLE",
            "PART",
            "ORDER",
            "STATUS",
            "FOLDER",
            "FORMULAS",
            "UNTOLD",
            "NOTATION",
            "generated",
            "derivations",
            "files",
        )
        found = {name: getattr(module, name) for name in declared if hasattr(module, name)}
        path = module.__name__.removeprefix("quenched.").replace(".", "/") + ".py"
        return cls(module.__name__.rpartition(".")[2], path, (module.__doc__ or "").strip(), **found)

    def formulas(self) -> list[Formula]:
        """Those of FORMULAS, derived."""
        return [self._told(Formula.of(specification)) for specification in self.FORMULAS]

    def _told(self, formula: Formula) -> Formula:
        """With the formula in one line, where it fits in one, and the rules that led to it."""
        printed, outcome = line(self.NOTATION), formula.outcome
        head = f"{formula.name}({', '.join(map(printed, formula.arguments))}) = "
        explicit = head + ", ".join(map(printed, outcome.explicit()))
        let = ", ".join(f"{printed(symbol)} = {printed(value)}" for symbol, value in outcome.definitions)
        shared = head + ", ".join(map(printed, outcome.values)) + (f" with {let}" if let else "")
        texts = [text for text in (explicit, shared) if len(text) <= emit.WIDTH - 2]
        rules = [f"Derived by: {'; '.join(outcome.rules)}"] if outcome.rules else []
        return replace(formula, above=(*texts[:1], *rules))

    def texts(self) -> dict[str, str]:
        """The files of theory/ that come from this module: path -> text."""
        if self.files is not None:
            return self.files()
        parts = [self.generated(), *(emit.function(formula) for formula in self.formulas())]
        body = "\n\n\n".join(part for part in parts if part)
        path = f"{self.FOLDER}/{self.name}.py" if self.FOLDER else f"{self.name}.py"
        return {path: emit.header(self.source, self.docstring.splitlines()[0], body)} if body else {}


def subjects() -> list[Subject]:
    """Every module of symbolic/ and its folders that has a TITLE, folder by folder, by name."""
    found = []
    for package in _PACKAGES:
        for _, name, is_package in sorted(pkgutil.iter_modules(package.__path__), key=lambda entry: entry[1]):
            if not is_package and not name.startswith("_"):
                module = importlib.import_module(f"{package.__name__}.{name}")
                found += [Subject.of(module)] if hasattr(module, "TITLE") else []
    return found


def modules() -> dict[str, str]:
    """The text of every file of `theory/`, by path."""
    texts: dict[str, str] = {}
    for subject in subjects():
        for path, text in subject.texts().items():
            if path in texts:
                raise ValueError(f"theory/{path} comes from {subject.source} and from another module of symbolic/")
            texts[path] = text
    folders = {"": "The formulas, as derived in quenched.symbolic."}
    folders |= {f"{Path(path).parent}/": "" for path in texts if "/" in path}
    for folder, docstring in folders.items():
        texts.setdefault(
            f"{folder}__init__.py", emit.package(docstring or f"{folder[:-1].capitalize()}, one file each.")
        )
    return dict(sorted(texts.items()))


def _present(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*.py"))}


def write(folder: Path) -> list[str]:
    """Write the generated files into `folder`, remove others there; the names of those that changed."""
    texts = modules()
    changed = []
    for name, path in _present(folder).items():
        if name not in texts:
            path.unlink()
            changed.append(name)
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            changed.append(name)
    return changed


def check(folder: Path) -> list[str]:
    """What differs between `folder` and a fresh derivation: one message with a unified diff for each file."""
    texts, present = modules(), _present(folder)
    messages = []
    for name in sorted({*present, *texts}):
        old = present[name].read_text(encoding="utf-8") if name in present else ""
        new = texts.get(name, "")
        if old == new:
            continue
        state = "missing" if name not in present else "extra" if name not in texts else "stale"
        diff = "".join(
            difflib.unified_diff(old.splitlines(True), new.splitlines(True), f"theory/{name}", f"derived/{name}")
        )
        messages.append(f"{state}: theory/{name}\n{diff}")
    return messages


def rules() -> dict[str, tuple[str, ...]]:
    """The rules behind each formula, in the order of their first use; of two formulas of one name the second, too, has
    its module's name before it.
    """
    found: dict[str, tuple[str, ...]] = {}
    for subject in subjects():
        for formula in (*subject.derivations(), *subject.formulas()):
            found[f"{subject.name}.{formula.name}" if formula.name in found else formula.name] = formula.outcome.rules
    return found
