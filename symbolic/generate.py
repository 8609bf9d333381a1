"""`quenched derive`: write `theory/`, compare it with what is there, or tell the whole derivation as a document."""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Callable
from functools import cache
from pathlib import Path

import sympy

from quenched.symbolic import activations, losses
from quenched.symbolic.calculus import gradients, normal
from quenched.symbolic.calculus.gaussian import NoClosedForm
from quenched.symbolic.language import emit
from quenched.symbolic.language.notation import Derived, derived, specification_symbols
from quenched.symbolic.language.parse import parse
from quenched.symbolic.learners import kernel_ridge, oracle, random_features, teachers, two_layer

__all__ = [
    "activation_module",
    "check",
    "gradient_module",
    "latex",
    "modules",
    "rules",
    "user_activation",
    "user_gradients",
    "user_loss",
    "user_teacher",
    "write",
]

_FIELDS = ("one field", "two fields", "three fields", "four fields")


def _docstring(module: object) -> str:
    return (module.__doc__ or "").strip().splitlines()[0]


# --- the generated modules, one for each symbolic module that declares formulas
# ---------------------------------------------


def _normal() -> str:
    body = "\n\n\n".join(emit.function(specification) for specification in normal.FORMULAS)
    extra = "GAUSS = tuple(zip(*leggauss(64), strict=True))"
    return emit.header("symbolic/calculus/normal.py", _docstring(normal), body, extra)


def _oracle() -> str:
    body = "\n\n\n".join(emit.function(specification) for specification in oracle.FORMULAS)
    return emit.header("symbolic/learners/oracle.py", _docstring(oracle), body)


def _random_features() -> str:
    body = "\n\n\n".join(emit.function(specification) for specification in random_features.FORMULAS)
    return emit.header("symbolic/learners/random_features.py", _docstring(random_features), body)


_KERNEL = '''class Kernel(NamedTuple):
    """A kernel F(N, N', u) of N = |x|^2/D, N' = |x'|^2/D, u = x.x'/D; its functions take these and its parameter.

    value is F; jet returns (F, F_u, F_uu, F_N', F_uN', F_NN').  meaning of the parameter, and its default: None where
    there is no parameter, or no default.
    """

    text: str
    value: Callable[..., float]
    jet: Callable[..., tuple[float, ...]]
    meaning: str | None
    default: float | None'''


def _kernel_ridge() -> str:
    parts, entries = [_KERNEL], []
    for kernel in kernel_ridge.KERNELS.values():
        name = kernel.name.replace(":", "_")
        for suffix, title, outcome in (
            ("", f"F = {kernel.text}", kernel_ridge.value(kernel)),
            ("_jet", f"F, F_u, F_uu, F_N', F_uN', F_NN' for F = {kernel.text}", kernel_ridge.jet(kernel)),
        ):
            parts.append(
                emit.function(
                    name=name + suffix, arguments=kernel_ridge.ARGUMENTS, docstring=f"{title}.", outcome=outcome
                )
            )
        meaning = f'"{kernel.meaning}"' if kernel.meaning else None
        members = (f'"{kernel.text}"', name, f"{name}_jet", meaning, kernel.default)
        lines = "".join(f"        {member},\n" for member in members)
        entries.append(f'    "{kernel.name}": Kernel(\n{lines}    ),')
    parts.append("KERNELS: dict[str, Kernel] = {\n" + "\n".join(entries) + "\n}")
    parts += [emit.function(specification) for specification in kernel_ridge.FORMULAS]
    return emit.header("symbolic/learners/kernel_ridge.py", _docstring(kernel_ridge), "\n\n\n".join(parts))


def _two_layer() -> str:
    body = "\n\n\n".join(text for text in two_layer.functions())
    return emit.header("symbolic/learners/two_layer.py", _docstring(two_layer), body)


_LOSS = '''class Loss(NamedTuple):
    """A loss l: value, slope F = dl/dphi and curvature d^2l/dphi^2 (away from kinks), as functions of phi and y.

    moments: (phi, y, Delta) -> F and F^2 averaged over the label noise Delta N(0, 1) on y, for a polynomial.
    coefficients: (y, Delta) -> the coefficients of phi^n in l (n = 0, 1, 2), in F (0, 1) and in F^2 (0, 1, 2), the
    latter two averaged over the label noise, for a polynomial of degree 2 in phi.
    invariant: whether l depends on phi - y alone.
    """

    text: str
    value: Callable[..., float]
    slope: Callable[..., float]
    curvature: Callable[..., float]
    moments: Callable[..., tuple[float, ...]] | None
    coefficients: Callable[..., tuple[float, ...]] | None
    invariant: bool'''


def loss_module(table: dict[str, str], docstring: str, source: str) -> str:
    """A module with the given losses (name -> text) and the table `LOSSES` of them."""
    phi, y, Delta = losses.OUTPUT, losses.LABEL, losses.NOISE
    parts, entries = [_LOSS], []
    for name, text in table.items():
        loss = losses.Loss(name, text)
        members = [f'"{text}"']
        titles = {"value": "l(phi, y)", "slope": "dl/dphi", "curvature": "d^2l/dphi^2 away from kinks"}
        for label, title in titles.items():
            found = getattr(loss, label)
            shape = "" if found.has(phi) else " + 0*phi"
            signature = f"def {name}_{label}(phi: float, y: float) -> float:"
            value = emit.wrap(f"    return {emit.code(found)}{shape}")
            parts.append(f'{signature}\n    """{title} for l = {text}."""\n{value}')
            members.append(f"{name}_{label}")
        for label, title, arguments in (
            ("moments", "F and F^2 averaged over the label noise", (phi, y, Delta)),
            ("coefficients", "Of phi^n in l, and in F and F^2 averaged over the label noise,", (y, Delta)),
        ):
            found = getattr(loss, label)
            members.append(f"{name}_{label}" if found else "None")
            if found:
                outcome = Derived(found)
                title = f"{title} for l = {text}."
                parts.append(
                    emit.function(name=f"{name}_{label}", arguments=arguments, docstring=title, outcome=outcome)
                )
        members.append(str(loss.invariant))
        lines = "".join(f"        {member},\n" for member in members)
        entries.append(f'    "{name}": Loss(\n{lines}    ),')
    parts.append("LOSSES: dict[str, Loss] = {\n" + "\n".join(entries) + "\n}")
    return emit.header(source, docstring, "\n\n\n".join(parts))


def _losses() -> str:
    return loss_module(losses.BUILTIN, _docstring(losses), "symbolic/losses.py")


def user_loss(text: str) -> str:
    """The module of one loss that a user wrote, its entry named "custom"."""
    loss = losses.Loss("custom", text)
    text = str(loss.expression)  # as sympy writes it: what a user typed never reaches generated code
    return loss_module({"custom": text}, f"The loss {text}.", "a loss given by the user")


@cache
def _groups(name: str, text: str) -> tuple[activations.Group, ...]:
    activation = activations.Activation(name, text)
    return tuple(activation.group(n) for n in range(1, activations.FIELD_LIMIT + 1))


def _activation(name: str, text: str) -> tuple[str, str]:
    """The functions of one activation and its entry in `ACTIVATIONS`, without averages if they do not close."""
    activation = activations.Activation(name, text)
    x = sympy.Symbol("x", real=True)
    parts = []
    curvature, jumps = activation.curvature()
    shapes = (("g", "g(x)", activation.expression), ("dg", "g'(x)", activation.derivatives["dg"]))
    for label, title, expression in (*shapes, ("ddg", "g''(x) away from the kinks", curvature)):
        # adding 0 x keeps the shape of the argument where the derivative is a constant
        p, q = expression.as_numer_denom()
        constant = f"{emit.code(expression)} + 0*x" if q == 1 else f"({emit.code(p)} + 0*x)/{emit.code(q)}"
        source = emit.code(expression) if expression.has(x) else constant
        parts.append(f'def {name}_{label}(x: float) -> float:\n    """{title} for g = {text}."""\n    return {source}')
    entries = []
    try:
        closed = _groups(name, text)
    except NoClosedForm:
        closed = ()
    for group in closed:
        layouts = ["; ".join(k for k, v in group.index.items() if v == i) for i in range(len(group.derived.values))]
        docstring = (
            f"Averages of g = {text} over {_FIELDS[group.n - 1]}: {{g, g', g''}} products in the order\n\n"
            + "\n".join(f"    {layout}" for layout in layouts)
        )
        outcome = Derived(group.derived.values, group.derived.definitions)
        parts.append(
            emit.function(name=f"{name}_{group.n}", arguments=group.arguments, docstring=docstring, outcome=outcome)
        )
        pairs = ", ".join(f'"{k}": {v}' for k, v in group.index.items())
        entries.append(
            textwrap.fill(f"{{{pairs}}}", emit.WIDTH - 1, initial_indent=" " * 12, subsequent_indent=" " * 13)
        )
    kinks = activation.kinks()
    pieces = "None"
    if kinks is not None:
        points, linear = kinks
        pieces = repr((tuple(float(p) for p in points), tuple((float(m), float(c)) for m, c in linear)))
    groups = ", ".join(f"{name}_{group.n}" for group in closed)
    members = [f'"{text}"', f"{name}_g", f"{name}_dg", f"{name}_ddg", repr(jumps), pieces, f"({groups})"]
    lines = "".join(f"        {member},\n" for member in members)
    places = "".join(f"{index},\n" for index in entries)
    entry = f'    "{name}": Averages(\n{lines}        (\n{places}        ),\n    ),'
    return "\n\n\n".join(parts), entry


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


def _gradient_functions(name: str, text: str) -> tuple[list[str], str]:
    """The gradients of the averages of one activation and its entry in `GRADIENTS`; none if they do not close."""
    activation = activations.Activation(name, text)
    try:
        closed = _groups(name, text)
    except NoClosedForm:
        closed = ()
    functions = []
    for group in closed:
        names = ", ".join(str(symbol) for symbol in group.arguments)
        docstring = (
            f"Derivatives of the averages of g = {text} over {_FIELDS[group.n - 1]}.\n\n"
            f"Of each of `{name}_{group.n}`, with respect to {names}."
        )
        outcome = gradients.gradient(activation, group)
        outcome = Derived(outcome.values, outcome.definitions)
        title = f"{name}_{group.n}_gradient"
        functions.append(emit.function(name=title, arguments=group.arguments, docstring=docstring, outcome=outcome))
    listing = ", ".join(f"{name}_{group.n}_gradient" for group in closed)
    return functions, f'    "{name}": ({listing}),'


def gradient_module(table: dict[str, str], docstring: str, source: str, functions: tuple[str, ...] = ()) -> str:
    """A module with the gradients of the averages of the given activations and the table `GRADIENTS` of them."""
    parts, entries = list(functions), []
    for name, text in table.items():
        found, entry = _gradient_functions(name, text)
        parts += found
        entries.append(entry)
    listing = "\n".join(entries)
    parts.append(f"GRADIENTS: dict[str, tuple[Callable[..., tuple[float, ...]], ...]] = {{\n{listing}\n}}")
    return emit.header(source, docstring, "\n\n\n".join(parts))


def user_gradients(text: str) -> str:
    """The same for one activation that a user wrote, "custom"."""
    text = str(parse(activations.NAMED.get(text, text)))
    return gradient_module({"custom": text}, f"Gradients of the averages of {text}.", "an activation given by the user")


def _gradients() -> str:
    functions = gradients.tangent_functions()
    return gradient_module(activations.BUILTIN, _docstring(gradients), "symbolic/calculus/gradients.py", functions)


def activation_module(table: dict[str, str], docstring: str, source: str) -> str:
    """A module with the averages of the given activations (name -> text) and the table `ACTIVATIONS` of them."""
    functions, entries = zip(*(_activation(name, text) for name, text in table.items()), strict=True)
    listing = "\n".join(entries)
    body = "\n\n\n".join([_TABLE, *functions, f"ACTIVATIONS: dict[str, Averages] = {{\n{listing}\n}}"])
    return emit.header(source, docstring, body)


def user_activation(text: str) -> str:
    """The module of one activation that a user wrote, its entry named "custom"; ValueError if it has no equations."""
    # from here on the expression as sympy writes it: what a user typed (comments, quotes) never reaches generated code
    text = str(parse(activations.NAMED.get(text, text)))
    activations.screen(activations.Activation("custom", text))
    docstring = f"The averages of the activation {text}."
    return activation_module({"custom": text}, docstring, "an activation given by the user")


_ACROSS = '''class Across(NamedTuple):
    """Averages over fields of two activations: groups[i] returns those over kinds[i] fields of each."""

    kinds: tuple[tuple[int, int], ...]
    groups: tuple[Callable[..., tuple[float, ...]], ...]
    places: tuple[dict[str, int], ...]'''


def user_teacher(student: str, teacher: str) -> str:
    """The module of the averages across two activations, without functions if they do not close."""
    texts = [str(parse(_text_of(text))) for text in (student, teacher)]
    one, other = (activations.Activation("custom", text) for text in texts)
    for activation in (one, other):
        activations.screen(activation)
    functions, names, places = [], [], []
    try:
        groups = {kind: teachers.across(one, other, *kind) for kind in teachers.KINDS}
    except NoClosedForm:
        groups = {}
    for (students, taught), group in groups.items():
        names.append(f"across_{students}_{taught}")
        outcome = Derived(group.derived.values, group.derived.definitions)
        docstring = f"Averages over {students} fields of g = {texts[0]} and {taught} of g = {texts[1]}."
        functions.append(emit.function(name=names[-1], arguments=group.arguments, docstring=docstring, outcome=outcome))
        pairs = ", ".join(f'"{k}": {v}' for k, v in group.index.items())
        places.append(textwrap.fill(f"{{{pairs}}},", emit.WIDTH, initial_indent=" " * 8, subsequent_indent=" " * 9))
    listing = "\n".join(places)
    members = ", ".join(names) + ("," if names else "")
    table = f"ACROSS = Across(\n    {tuple(groups)!r},\n    ({members}),\n    (\n{listing}\n    ),\n)"
    docstring = f"Averages across the activations {texts[0]} and, of a teacher, {texts[1]}."
    return emit.header("two activations given by the user", docstring, "\n\n\n".join([_ACROSS, *functions, table]))


def _text_of(name: str) -> str:
    """The expression of an activation that has a name."""
    return activations.BUILTIN.get(name, activations.NAMED.get(name, name))


def _activations() -> str:
    return activation_module(activations.BUILTIN, _docstring(activations), "symbolic/activations.py")


_MODULES: dict[str, Callable[[], str]] = {
    "activations.py": _activations,
    "oracle.py": _oracle,
    "random_features.py": _random_features,
    "gradients.py": _gradients,
    "kernel_ridge.py": _kernel_ridge,
    "losses.py": _losses,
    "normal.py": _normal,
    "two_layer.py": _two_layer,
}


def modules() -> dict[str, str]:
    """The text of every file of `theory/`, by name."""
    init = (
        '"""The formulas, as derived in quenched.symbolic.\n\nGenerated by `quenched derive`; do not edit.\n"""\n\n'
        "__all__: list[str] = []\n"
    )
    return {"__init__.py": init, **{name: build() for name, build in _MODULES.items()}}


def write(folder: Path) -> list[str]:
    """Write the generated files into `folder`, remove others there; the names of those that changed."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = modules()
    changed = []
    for path in sorted(folder.glob("*.py")):
        if path.name not in texts:
            path.unlink()
            changed.append(path.name)
    for name, text in texts.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            changed.append(name)
    return changed


def check(folder: Path) -> list[str]:
    """What differs between `folder` and a fresh derivation: one message with a unified diff for each file."""
    texts = modules()
    messages = []
    present = {path.name for path in folder.glob("*.py")}
    for name in sorted(present | set(texts)):
        old = (folder / name).read_text(encoding="utf-8") if name in present else ""
        new = texts.get(name, "")
        if old == new:
            continue
        state = "missing" if name not in present else "extra" if name not in texts else "stale"
        diff = "".join(
            difflib.unified_diff(old.splitlines(True), new.splitlines(True), f"theory/{name}", f"derived/{name}")
        )
        messages.append(f"{state}: theory/{name}\n{diff}")
    return messages


def rules(activation: str | None = None) -> dict[str, tuple[str, ...]]:
    """The rules behind each formula, in the order of their first use: of all that is generated, or one activation."""
    if activation is None:
        table = activations.BUILTIN
        steps = {f.__name__: derived(f).steps for f in (*normal.FORMULAS, *oracle.FORMULAS, *random_features.FORMULAS)}
        steps |= {f"kernels.{f.__name__}": derived(f).steps for f in kernel_ridge.FORMULAS}
        steps |= dict.fromkeys(("rates", "step_averages", "step_noise", "risk"), two_layer.equations().steps)
    else:
        table, steps = {activation: str(parse(activations.NAMED.get(activation, activation)))}, {}
    steps |= {f"{name}_{g.n}": g.derived.steps for name, text in table.items() for g in _groups(name, text)}
    return {
        name: tuple(dict.fromkeys(step.rule for step in line if step.rule != "Result")) for name, line in steps.items()
    }


# --- the document
# ---------------------------------------------------------------------------------------------------------


def latex() -> str:
    """The derivation as a LaTeX document: definitions, each rule applied, each result, in order."""
    from quenched.symbolic.language.latex import document

    chapters = []
    for title, module in (("Normal probabilities", normal), ("Oracle error", oracle)):
        formulas = [(f.__name__, f.__doc__ or "", specification_symbols(f), derived(f)) for f in module.FORMULAS]
        chapters.append((title, module.__doc__ or "", formulas))
    equations = two_layer.equations()
    learning = Derived((equations.dR, equations.dQ, equations.dv), steps=equations.steps)
    lazy = [(f.__name__, f.__doc__ or "", specification_symbols(f), derived(f)) for f in random_features.FORMULAS]
    field = (sympy.Symbol("rho", real=True), sympy.Symbol("sigma", positive=True))
    orders = [
        (
            f"orders_{name}",
            f"(psi_0, psi_1, psi_2, E psi^2) of psi = {text}.",
            field,
            random_features.coefficients(parse(text), *field),
        )
        for name, text in activations.BUILTIN.items()
    ]
    chapters.append(("Random features", random_features.__doc__ or "", [*orders, *lazy]))
    table = [(k.name, k.text, kernel_ridge.ARGUMENTS, kernel_ridge.value(k)) for k in kernel_ridge.KERNELS.values()]
    ridge = [(f.__name__, f.__doc__ or "", specification_symbols(f), derived(f)) for f in kernel_ridge.FORMULAS]
    chapters.append(("Kernels", kernel_ridge.__doc__ or "", [*table, *ridge]))
    chapters.append(("Two-layer network", two_layer.__doc__ or "", [("drift", "", (), learning)]))
    groups = []
    for name, text in activations.BUILTIN.items():
        for group in _groups(name, text):
            title = f"g = {text}, {_FIELDS[group.n - 1]}"
            groups.append((f"{name}_{group.n}", title, group.arguments, group.derived))
    chapters.append(("Averages of the activations", activations.__doc__ or "", groups))
    return document(chapters)
