"""The page of the reference bank: how to use it, and all records, a table for each subject."""

from __future__ import annotations

from itertools import groupby

from quenched.sim.bank.records import Entry, bank

__all__ = ["page"]

_SUBJECTS = {
    "average": "Gaussian averages",
    "oracle": "Oracle errors",
    "drift": "Learning equations of two-layer networks",
    "error": "Errors of two-layer networks",
    "fixed-point": "Fixed points",
    "dynamics": "Dynamics",
    "rate": "Largest learning rates",
    "features": "Random features",
    "kernel": "Kernels",
    "erm": "Convex learners and separability",
    "bayes": "Bayes-optimal learning",
    "amp": "Message passing",
    "power-law": "Power laws of linear students",
}

_HEAD = """# Reference bank

Numbers to test other programs against, {count} of them, each with an independent check that anyone can repeat. They are
one file of JSON, `bank.json`, which comes with the package:

    quenched verify --file                 # where it is
    quenched verify                        # all IDs and values
    quenched verify oracle/xor erm         # recompute an ID, or a subject: the package, and the independent route
    quenched verify --all                  # all of them: minutes; exit code 1 where one disagrees
    quenched cite bayes/xor-threshold      # BibTeX of what a result rests on

A record has these members:

| member | what |
|---|---|
| `id` | subject/name |
| `quantity`, `equation` | what the number is, and the formula or principle it comes from |
| `conventions` | units and scalings of this subject |
| `parameters` | the problem, in numbers of few binary digits, or fractions as text |
| `value` | decimal text |
| `error` | a bound on the distance of `value` from the number, by the better of both routes |
| `function`, `method` | how the package finds it |
| `source`, `derivation` | a key of the literature (`quenched cite`), the module that derives it |
| `check` | `route`: the name of the independent route; `says`: what it does; numbers it needs |
| `slow` | true where the package takes seconds: a record without it is quick |

The independent routes are in `sim/bank/by_*.py`. They use neither `theory/` nor the solvers, but for limits in D and
for a second derivation of the same number, where `says` names it; all share with the solvers the nodes of
Gauss-Legendre and contexts of mpmath. Averages have 30 digits, other records as many as the two routes support: digits
beyond the error of the check, which `quenched verify` prints, are the package's alone. Where the check is a simulation
value and error are those of the theory, and the check has four standard errors.

The value, the package and the route agree where they differ by less than the sum of their errors.
"""


def _row(entry: Entry) -> str:
    cells = [f"`{entry.id}`", entry.quantity, f"`{entry.value}`", entry.error, entry.equation, entry.check["says"]]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def page() -> str:
    """The page, in Markdown."""
    lines = [_HEAD.format(count=len(bank()))]
    for subject, group in groupby(bank(), key=lambda entry: entry.subject):
        entries = list(group)
        conventions = dict.fromkeys(entry.conventions for entry in entries)
        lines += [f"## {_SUBJECTS[subject]}", "", *(f"{text[0].upper()}{text[1:]}." for text in conventions), ""]
        lines += ["| ID | quantity | value | error | equation | independent check |", "|---|---|---|---|---|---|"]
        lines += [*map(_row, entries), ""]
    return "\n".join(lines)
