"""The averages of the activations over jointly normal fields, and their gradients.

For each activation of `quenched.symbolic.activations` the averages over n = 1 .. 4 fields form one function, which
computes what they share once.  By the rules of `quenched.symbolic.calculus.gaussian` they come down to intermediate
quantities, named after what they are: the table of symbols, and the legend of each generated file, explain the names.
Those that are numbers whatever the fields are, such as averages of 0 and 1, are left out.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from functools import cache

import sympy

from quenched.symbolic.activations import BUILTIN, NAMED, Activation, Group
from quenched.symbolic.calculus import gradients
from quenched.symbolic.calculus.steps import NoClosedForm
from quenched.symbolic.language import emit
from quenched.symbolic.language.grammar import DERIVED
from quenched.symbolic.language.notation import Formula
from quenched.symbolic.language.parse import VARIABLE

__all__ = [
    "LEGEND",
    "ORDER",
    "PART",
    "STATUS",
    "TITLE",
    "averages_module",
    "derivations",
    "files",
    "formula",
    "formulas",
    "gradients_module",
]

TITLE = "Averages of the activations"
PART, ORDER = "tables", 1
STATUS = "Exact."

GRADIENTS = ("erf", "linear", "relu")
"""The activations whose gradients are checked in; those of others are derived on first use."""

_FIELDS = ("one field", "two fields", "three fields", "four fields")

_TABLE = '''class Averages(NamedTuple):
    """An activation and its averages: groups[n - 1] returns those over n fields, places[n - 1] says which is where.

    jumps lists where g' jumps and by how much, as exact decimals or fractions; pieces, of a piecewise linear g, has its
    kinks and the (slope, intercept) of each piece.
    """

    text: str
    g: Callable[..., float]
    dg: Callable[..., float]
    ddg: Callable[..., float]
    jumps: tuple[tuple[str, str], ...]
    pieces: tuple[tuple[float, ...], tuple[tuple[float, float], ...]] | None
    groups: tuple[Callable[..., tuple[float, ...]], ...]
    places: tuple[dict[str, int], ...]'''

_LAZY = '''class _Lazy(Mapping[str, {kind}]):
    """By name, from the module of its own, which is loaded when it is first asked for."""

    def __init__(self, *names: str) -> None:
        self._names = names

    def __getitem__(self, name: str) -> {kind}:
        if name not in self._names:
            raise KeyError(name)
        found: {kind} = import_module(f"quenched.theory.{folder}.{{name}}").{table}[name]
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


{table}: Mapping[str, {kind}] = _Lazy(
    {names},
)'''

_FURTHER = '''NAMED: Mapping[str, Averages] = _Lazy({names})
"""Those without averages in closed form, or with long ones: those of `DERIVED` are derived on first use."""

DERIVED: tuple[str, ...] = ({derived})'''
LEGEND = (
    (
        r"m\d",
        "m0, c00, c01",
        "mean and variance of the field x0, covariance of x0 and x1: numbers, or arrays that broadcast",
    ),
    (
        r"[mc]\d+(_\d+)+",
        "m1_0, c12_0",
        "mean of x1, covariance of x1 and x2, given x0 = 0; m2_0_1: given x0 = 0 and x1 = 0",
    ),
    (
        r"[mc]\d+(_t?\d+)*_t\d.*",
        "m1_t0, c12_t0",
        "the same given x0 + z = 0 (tilted), z normal of zero mean, independent",
    ),
    (r"d\d.*", "d0, d1_0, d0t", "density at 0 of x0; of x1 given x0 = 0; of x0 + z"),
    (r"h\d.*", "h0, h1_0", "mean over standard deviation, of x0 (of x0 + z where g is smooth); of x1 given x0 = 0"),
    (r"r\d.*", "r01, r12_0", "correlation of the same two; of x1 and x2 given x0 = 0"),
    (r"p\d.*", "p0, p01, p12_0", "orthant probabilities P(x0 > 0), P(x0 > 0, x1 > 0) (of x0 + z, ..); given x0 = 0"),
    (r"p[cs]\d.*", "pc01, ps01", "E[cos f] and E[sin f] of a form f = a x0 + b x1"),
    (r"e\d+((?!_p).)*", "e0, e001, e12_0", "E[x0], E[x0^2 x1]; E[x1 x2] given x0 = 0"),
    (r"e\d+_p.*", "e0_p01, e01_p2_3", "E[x0 H(x0) H(x1)], E[x0 x1 H(x2)] given x3 = 0; H is Heaviside's step, or Phi"),
    (r"s\d.*", "s0, s00_e1_p2", "averages with delta'(x0); with delta''(x0) x1 H(x2)"),
    (
        r".*\d.*[a-z]\d*",
        "m0_t0a, pc01_2",
        "a letter or number at the end: another of the same kind (variance of z, form f)",
    ),
)
"""Names of variables that match, examples of them, what they are."""

_GRADIENT = "tuple[Gradient, ...]"


def legend(functions: Sequence[str]) -> str:
    """What the variables of generated averages are called after: the lines of those that occur."""
    names = set(re.findall(r"^    (\w+)(?: = |: )", "\n".join(functions), flags=re.M))
    lines = [
        f"    {examples:<17} {meaning}"
        for pattern, examples, meaning in LEGEND
        if any(re.fullmatch(pattern, name) for name in names)
    ]
    head = "An average is written as its factors, field by field: dg*g,g is E[g'(x0) g(x0) g(x1)].  Variables:"
    return "\n".join([head, "", *lines])


@cache
def _groups(name: str, text: str) -> tuple[Group, ...]:
    """The averages over n = 1, 2, .. fields; none if they do not close."""
    try:
        return Activation(name, text).groups()
    except NoClosedForm:
        return ()


def meanings(arguments: Sequence[sympy.Symbol]) -> dict[str, str]:
    """What the arguments of an average are: means, variances and covariances of the fields."""
    found = {}
    for symbol in arguments:
        kind, i, j = symbol.name[0], symbol.name[1], symbol.name[-1]
        found[symbol.name] = f"E[x{i}]" if kind == "m" else f"Var[x{i}]" if i == j else f"Cov[x{i}, x{j}]"
    return found


def _labels(group: Group) -> tuple[str, ...]:
    """The averages that each value of a group stands for."""
    return tuple("; ".join(k for k, v in group.index.items() if v == i) for i in range(len(group.derived.values)))


def formula(activation: Activation, group: Group) -> Formula:
    """The averages over the fields of one group."""
    docstring = f"Averages over {_FIELDS[group.n - 1]} of products of g, g' and g'' for g = {activation.text}."
    fields = ", ".join(f"x{i}" for i in range(group.n))
    above = (f"⟨f⟩ = ∫ f({fields}) N(x; m, c) dx; derived by: {'; '.join(group.derived.rules) or 'linearity'}",)
    return Formula(
        f"{activation.name}_{group.n}",
        docstring,
        group.arguments,
        group.derived,
        meanings(group.arguments),
        _labels(group),
        above,
    )


def formulas(name: str, text: str) -> list[Formula]:
    """The averages of one activation: NAME_1 .. NAME_4."""
    return [formula(Activation(name, text), group) for group in _groups(name, text)]


def _shapes(activation: Activation) -> list[str]:
    """The functions g, g' and g''."""
    found = []
    for order, (label, title) in enumerate((("g", "g(x)"), ("dg", "g'(x)"), ("ddg", "g''(x) away from the kinks"))):
        expression = activation.evaluated(order)
        source = emit.code(expression)
        if not expression.has(VARIABLE):
            source = "0*x" if expression == 0 else f"{source} + 0*x"  # keeps the shape of the argument
        head = f'def {activation.name}_{label}(x: float) -> float:\n    """{title} for g = {activation.text}."""'
        found.append(f"{head}\n    return {source}")
    return found


def _entry(activation: Activation, groups: tuple[Group, ...]) -> str:
    """The record of an activation, its functions, and averages."""
    name = activation.name
    pieces = "None"
    if (lines := activation.lines()) is not None:
        points, linear = lines
        pieces = repr((tuple(float(p) for p in points), tuple((float(m), float(c)) for m, c in linear)))
    places = []
    for group in groups:
        pairs = ", ".join(f'"{k}": {v}' for k, v in group.index.items())
        text = textwrap.fill(f"{{{pairs}}}", emit.WIDTH - 1, initial_indent=" " * 12, subsequent_indent=" " * 13)
        places.append(f"{text},\n")
    listing = "".join(f"{name}_{group.n}, " for group in groups).strip()
    members = [
        f'"{activation.text}"',
        f"{name}_g",
        f"{name}_dg",
        f"{name}_ddg",
        repr(activation.kinks()),
        pieces,
        f"({listing})",
    ]
    return emit.entry(name, "Averages", members, f"        (\n{''.join(places)}        ),")


@cache
def averages_module(name: str, text: str, docstring: str, source: str, facts: str = "") -> str:
    """The module of the averages of one activation; its record is ACTIVATIONS[name]; `facts`: statements at its end."""
    activation = Activation(name, text)
    functions = [emit.function(formula) for formula in formulas(name, text)]
    table = f"ACTIVATIONS: dict[str, Averages] = {{\n{_entry(activation, _groups(name, text))}\n}}"
    body = "\n\n\n".join([*_shapes(activation), *functions, table]) + (f"\n\n{facts}" if facts else "")
    return emit.header(source, docstring, body, legend(functions) if functions else "")


@cache
def functions_module(name: str, text: str, docstring: str, source: str) -> str:
    """The same without averages: g and its derivatives."""
    activation = Activation(name, text)
    table = f"ACTIVATIONS: dict[str, Averages] = {{\n{_entry(activation, ())}\n}}"
    return emit.header(source, docstring, "\n\n\n".join([*_shapes(activation), table]))


@cache
def gradients_module(name: str, text: str, title: str, source: str) -> str:
    """The module of the gradients of the averages of one activation: GRADIENTS[name], empty if they do not close."""
    activation = Activation(name, text)
    functions, names = [], []
    for group in _groups(name, text):
        docstring = f"Derivatives of each value of `{name}_{group.n}`, to each argument in their order."
        outcome = gradients.gradient([activation] * group.n, group)
        names.append(f"{name}_{group.n}_gradient")
        by = "; ".join(("Price", *outcome.rules))
        above = (f"∂⟨f⟩/∂mᵢ = ⟨∂ᵢf⟩, ∂⟨f⟩/∂cᵢⱼ = ⟨∂ᵢ∂ⱼf⟩/(1 + δᵢⱼ); derived by: {by}",)
        told = meanings(group.arguments), _labels(group), above, len(group.arguments)
        functions.append(emit.function(Formula(names[-1], docstring, group.arguments, outcome, *told)))
    table = f'GRADIENTS: dict[str, {_GRADIENT}] = {{\n    "{name}": ({", ".join(names)}),\n}}'
    body = "\n\n\n".join([*functions, table])
    return emit.header(source, title, body, legend(functions) if functions else "")


def _lazy(kind: str, folder: str, table: str, names: Mapping[str, str] | tuple[str, ...]) -> str:
    listing = ", ".join(f'"{name}"' for name in names)
    return _LAZY.format(kind=kind, folder=folder, table=table, names=listing)


def files() -> dict[str, str]:
    """One file for each activation, one for its gradients, and the tables that find them."""
    activations, own = "symbolic/activations.py", "symbolic/averages.py"
    listed = ", ".join(f'"{name}"' for name in NAMED)
    further = _FURTHER.format(names=listed, derived="".join(f'"{name}",' for name in DERIVED))
    table = "\n\n\n".join((_TABLE, _lazy("Averages", "averages", "ACTIVATIONS", BUILTIN) + "\n\n" + further))
    found = {
        "activations.py": emit.header(own, "The activations: name -> their averages over local fields.", table),
        "gradients/__init__.py": emit.header(
            own,
            "Gradients of the averages: name -> those over n fields.",
            f"Gradient = Callable[..., tuple[float, ...]]\n\n\n{_lazy(_GRADIENT, 'gradients', 'GRADIENTS', GRADIENTS)}",
        ),
    }
    for name, text in {**BUILTIN, **NAMED}.items():
        module = functions_module if name in DERIVED else averages_module
        found[f"averages/{name}.py"] = module(name, text, f"The averages of g = {text}.", activations)
    for name in GRADIENTS:
        docstring = f"Gradients of the averages of g = {BUILTIN[name]}."
        found[f"gradients/{name}.py"] = gradients_module(name, BUILTIN[name], docstring, activations)
    return found


def derivations() -> list[Formula]:
    """The averages, for the document."""
    return [formula for name, text in BUILTIN.items() for formula in formulas(name, text)]
