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
from quenched.symbolic.calculus.steps import NoClosedForm
from quenched.symbolic.language import emit, grammar
from quenched.symbolic.language.grammar import LOSS, LOSSES, canonical
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
    equations = two_layer.equations()

    def head(name: str, arrays: str, scalars: str, result: str) -> str:
        kinds = {"averages": "Mapping[str, NDArray[float64]]"}
        parameters = [f"{a}: {kinds.get(a, 'NDArray[float64]')}" for a in arrays.split()]
        parameters += [f"{c}: float" for c in scalars.split()]
        inside = textwrap.fill(", ".join(parameters), 116, initial_indent="    ", subsequent_indent="    ")
        return f"def {name}(\n{inside}\n) -> {result}:\n"

    def load(*expressions: sympy.Expr) -> str:
        bases = {str(f.base) for e in expressions for f in e.atoms(sympy.Indexed)}
        needed = [p for p in equations.patterns if p.replace(",", "_") in bases]
        return "".join(f'    {p.replace(",", "_")} = averages["{p}"]\n' for p in needed)

    def total(expression: sympy.Expr, output: str) -> str:
        return f"(\n        {emit.einsum(expression, output, '        ')}\n    )\n"

    def three(expressions: tuple[sympy.Expr, sympy.Expr, sympy.Expr], node: str = "") -> str:
        dR, dQ = (total(e, node + pair) for e, pair in zip(expressions, ("bk", "kl"), strict=False))
        return f"    dR = {dR}    dQ = {dQ}    dv = {total(expressions[2], 'k')}    return dR, dQ, dv"

    array, triple = "NDArray[float64]", "tuple[NDArray[float64], NDArray[float64], NDArray[float64]]"
    scalars = "eta kappa eta_v kappa_v s"
    force, square = (emit.code(moment) for moment in equations.moments)
    names = ("force", "curvature", "coupling", "readout")
    step = tuple(getattr(equations.responses, name) for name in names)
    parts = [
        head("flow", "P y sigma2 T M R Q v averages", scalars, triple)
        + '''    """Gradient flow of R_bk = w_k.r_b/sqrt(D), Q_kl = w_k.w_l/D, v_k: first order in the learning rates.

    P, y, sigma2 (C,): weights, labels, variances of the clusters; M (C, K): overlaps of their means with the weights;
    R (B, K), T (C, B): overlaps of reference vectors r_b with the weights and with the means (for the means themselves
    R = M, dR = dM); averages["dg,g"][a, k, i] = E_a[g'(lambda_k) g(lambda_i)], and so on; s: output scale.
    """
'''
        + load(*equations.flow)
        + three(equations.flow),
        head("diffusion", "P y sigma2 v averages", "eta s Delta", array)
        + '''    """What the noise of single samples adds to dQ_kl/dt: second order in eta; Delta: label noise."""
'''
        + load(equations.diffusion)
        + f"    dQ: NDArray[float64] = {total(equations.diffusion, 'kl')}    return dQ",
        head("sampled_flow", "P force lambda_ nu g dg R Q v", scalars, triple)
        + '''    """`flow` as an average over samples n of the local fields, for any activation.

    P, force (N,): weights of the samples, dl/dphi; lambda_, g, dg (N, K): lambda_k, g(lambda_k), g'(lambda_k);
    nu (N, B): r_b.x; the rest as in `flow`.
    """
'''
        + three(equations.sampled_flow),
        head("sampled_diffusion", "P sigma2 square dg v", "eta s", array)
        + '''    """`diffusion` as an average over samples; square (N,): (dl/dphi)^2; sigma2 (N,): their variance."""
'''
        + f"    dQ: NDArray[float64] = {total(equations.sampled_diffusion, 'kl')}    return dQ",
        head("moments", "phi y", "Delta", "tuple[NDArray[float64], NDArray[float64]]")
        + f'''    """dl/dphi and its square at output phi and label y, averaged over the label noise."""
    force = {force}
    square = {square}
    return force, square''',
        head("responses", "y v averages", "s", f"tuple[{array}, {array}, {array}, {array}]")
        + '''    """Averages of one step in each cluster: force, curvature, coupling, readout.

    force_ak = E_a[dl/dlambda_k]; E_a[d^2 l/(dlambda_k dlambda_l)] = curvature_ak delta_kl + coupling_akl;
    readout_ak = E_a[dl/dv_k].
    """
'''
        + load(*step)
        + "".join(f"    {n} = {total(e, 'akl' if n == 'coupling' else 'ak')}" for n, e in zip(names, step, strict=True))
        + "    return force, curvature, coupling, readout",
        head("response_noise", "y v averages", "s Delta", array)
        + '''    """noise_akl = E_a[dl/dlambda_k dl/dlambda_l], with label noise Delta."""
'''
        + load(equations.responses.noise)
        + f"    noise: NDArray[float64] = {total(equations.responses.noise, 'akl')}    return noise",
        head("spectral_flow", "P rho T M R Q v force response readout", "eta kappa eta_v kappa_v", triple)
        + '''    """`flow` in each node u of the spectrum of the inputs.

    rho (C, U): eigenvalue in cluster a along the directions of node u; T (U, C, B), M (U, C, K), R (U, B, K),
    Q (U, K, K): the parts of the overlaps that lie along them; force (C, K), response (C, K, K), readout (C, K): the
    averages of one step, `responses`.
    """
'''
        + three(equations.node, "u"),
        head("spectral_diffusion", "P rho share noise", "eta", array)
        + '''    """`diffusion` in each node; share (U,): the fraction of all directions that it has."""
'''
        + f"    dQ: NDArray[float64] = {total(equations.node_diffusion, 'ukl')}    return dQ",
        head("risk", "P y v averages", "s", "float")
        + '''    """Average loss E[(phi - y)^2]/2 of the network's output."""
'''
        + load(equations.risk)
        + f"    value: float = {total(equations.risk, '')}    return value",
    ]
    return emit.header("symbolic/learners/two_layer.py", _docstring(two_layer), "\n\n\n".join(parts))


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
    return loss_module(LOSSES, _docstring(losses), "symbolic/losses.py")


def user_loss(text: str) -> str:
    """The module of one loss that a user wrote, its entry named "custom"."""
    text = grammar.expression(text, LOSS)
    return loss_module({"custom": text}, f"The loss {text}.", "a loss given by the user")


@cache
def _groups(name: str, text: str) -> tuple[activations.Group, ...]:
    return activations.Activation(name, text).groups()


def _activation(name: str, text: str) -> tuple[str, str]:
    """The functions of one activation and its entry in `ACTIVATIONS`, without averages if they do not close."""
    activation = activations.Activation(name, text)
    x = sympy.Symbol("x", real=True)
    parts = []
    titles = (("g", "g(x)"), ("dg", "g'(x)"), ("ddg", "g''(x) away from the kinks"))
    for order, (label, title) in enumerate(titles):
        source = emit.code(expression := activation.evaluated(order))
        if not expression.has(x):
            source += " + 0*x"  # keeps the shape of the argument
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
    pieces = "None"
    if (lines := activation.lines()) is not None:
        points, linear = lines
        pieces = repr((tuple(float(p) for p in points), tuple((float(m), float(c)) for m, c in linear)))
    groups = ", ".join(f"{name}_{group.n}" for group in closed)
    members = [f'"{text}"', f"{name}_g", f"{name}_dg", f"{name}_ddg", repr(activation.kinks()), pieces, f"({groups})"]
    listing = "".join(f"        {member},\n" for member in members)
    places = "".join(f"{index},\n" for index in entries)
    entry = f'    "{name}": Averages(\n{listing}        (\n{places}        ),\n    ),'
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
    text = str(parse(text))
    return gradient_module({"custom": text}, f"Gradients of the averages of {text}.", "an activation given by the user")


def _gradients() -> str:
    equations = two_layer.equations()

    def function(
        name: str, arrays: str, scalars: str, outputs: dict[str, tuple[sympy.Expr, str]], docstring: str
    ) -> str:
        result = "NDArray[float64]" if len(outputs) == 1 else f"tuple[{', '.join(['NDArray[float64]'] * len(outputs))}]"
        tables = ("averages", "averages_z")
        parameters = [
            f"{a}: {'Mapping[str, NDArray[float64]]' if a in tables else 'NDArray[float64]'}" for a in arrays.split()
        ]
        parameters += [f"{c}: float" for c in scalars.split()]
        inside = textwrap.fill(", ".join(parameters), 116, initial_indent="    ", subsequent_indent="    ")
        moved = {key: (gradients.tangent(value), indices) for key, (value, indices) in outputs.items()}
        bases = {str(f.base) for value, _ in moved.values() for f in value.atoms(sympy.Indexed)}
        lines = [f"def {name}(\n{inside}\n) -> {result}:", f'    """{docstring}"""']
        for pattern in equations.patterns:
            array = pattern.replace(",", "_")
            lines += [f'    {array} = averages["{pattern}"]'] if array in bases else []
            lines += [f'    {array}_z = averages_z["{pattern}"]'] if f"{array}_z" in bases else []
        for key, (value, indices) in moved.items():
            kind = ": NDArray[float64]" if len(outputs) == 1 else ""
            lines.append(f"    {key}_z{kind} = (\n        {emit.einsum(value, indices + 'z', '        ')}\n    )")
        lines.append(f"    return {', '.join(f'{key}_z' for key in moved)}")
        return "\n".join(lines)

    dR, dQ, dv = equations.flow
    functions = (
        function(
            "flow_tangent",
            "P y sigma2 T M M_z R R_z Q Q_z v v_z averages averages_z",
            "eta kappa eta_v kappa_v s",
            {"dR": (dR, "bk"), "dQ": (dQ, "kl"), "dv": (dv, "k")},
            "Tangent of `two_layer.flow` along directions z, the last index of all that ends in _z.",
        ),
        function(
            "diffusion_tangent",
            "P y sigma2 v v_z averages averages_z",
            "eta s Delta",
            {"dQ": (equations.diffusion, "kl")},
            "Tangent of `two_layer.diffusion`.",
        ),
    )
    return gradient_module(activations.BUILTIN, _docstring(gradients), "symbolic/calculus/gradients.py", functions)


def activation_module(table: dict[str, str], docstring: str, source: str, facts: str = "") -> str:
    """A module with the averages of the given activations (name -> text) and the table `ACTIVATIONS` of them.

    `facts`: further statements at its end.
    """
    functions, entries = zip(*(_activation(name, text) for name, text in table.items()), strict=True)
    listing = "\n".join(entries)
    body = "\n\n\n".join([_TABLE, *functions, f"ACTIVATIONS: dict[str, Averages] = {{\n{listing}\n}}"])
    body += f"\n\n{facts}" if facts else ""
    return emit.header(source, docstring, body)


def user_activation(text: str) -> str:
    """The module of one activation that a user wrote, its entry named "custom"; ValueError if it has no equations.

    SAME names the built-in that is the same function, if one is.  JUMPS says that g has a jump: there are averages of g
    alone then, for teachers and random features.
    """
    # from here on the expression as sympy writes it: nothing that a user typed reaches generated code
    text = str(parse(text))
    activation = activations.Activation("custom", text)
    activations.screen(activation)
    same = activation.builtin()
    facts = f'SAME = "{same}"\nJUMPS = {activation.jumps}'
    if same:
        return emit.header("an activation given by the user", f"The activation {text}.", facts)
    docstring = f"The averages of the activation {text}."
    return activation_module({"custom": text}, docstring, "an activation given by the user", facts)


_ACROSS = '''class Across(NamedTuple):
    """Averages over fields of two activations: groups[i] returns those over kinds[i] fields of each."""

    kinds: tuple[tuple[int, int], ...]
    groups: tuple[Callable[..., tuple[float, ...]], ...]
    places: tuple[dict[str, int], ...]'''


def user_teacher(student: str, teacher: str) -> str:
    """The module of the averages across two activations, without functions if they do not close."""
    texts = [str(parse(text)) for text in (student, teacher)]
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
        steps |= dict.fromkeys(("flow", "diffusion", "risk"), two_layer.equations().steps)
    else:
        table, steps = {canonical(activation): str(parse(activation))}, {}
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
    learning = Derived((*equations.flow, equations.diffusion, equations.risk), steps=equations.steps)
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
