"""The table of learners: what error curves, the command line, figures and the derivation document can ask for by name.

It is made from the modules themselves.  Each module of `quenched.numerics`, and each `learner` module of its folders,
may list its learners in a constant `LEARNERS`; a new one is a new file.

    >>> list(learners())[:2]
    ['oracle', 'two-layer']
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path

from quenched.numerics.problem.learner import Learner, Options, Solution
from quenched.numerics.problem.mixture import Mixture

__all__ = ["error_of", "learners", "register"]

_FIRST = ("oracle", "two-layer")  # head every list, as the default of comparisons
_EXTRA: dict[str, Learner] = {}  # registered from outside this package


@cache
def _table() -> dict[str, Learner]:
    """All learners by name; filled at the first look, since their modules take a while to import."""
    folder, table = Path(__file__).parent, dict[str, Learner]()
    files = sorted({*folder.glob("*.py"), *folder.glob("*/learner.py")} - {folder / "problem" / "learner.py"})
    for path in files:
        if path.stem in ("__init__", Path(__file__).stem):
            continue
        module = import_module(".".join(("quenched.numerics", *path.relative_to(folder).with_suffix("").parts)))
        for learner in getattr(module, "LEARNERS", ()):
            if learner.name in table:
                raise RuntimeError(f"two learners are called {learner.name!r}; one is in {path.name}")
            table[learner.name] = learner
    return {name: table[name] for name in sorted(table, key=lambda name: (name not in _FIRST, name))}


def learners() -> Mapping[str, Learner]:
    """All learners by name, the oracle first."""
    return _table() | _EXTRA


def register(learner: Learner) -> None:
    """Add a learner from outside this package, for this process; one of that name is replaced."""
    _EXTRA[learner.name] = learner


def error_of(name: str, mixture: Mixture, options: Options | None = None) -> Solution:
    """The classification error of the learner of this name on a mixture; None: with its default options.

    ValueError: no such learner, options of another one, or what the learner refuses.

    >>> print(f"{error_of('oracle', Mixture.two_clusters(1.0)).value:.6f}")
    0.158655
    """
    table = learners()
    if name not in table:
        raise ValueError(f"learner must be one of {', '.join(table)}, got {name!r}")
    learner = table[name]
    chosen = learner.options if options is None else options
    if not isinstance(chosen, type(learner.options)):
        raise ValueError(f"options must be {type(learner.options).__name__} for {name!r}, got {chosen!r}")
    return learner.solve(mixture, chosen)
