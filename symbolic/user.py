"""What is derived when a user asks: averages of an activation that is not checked in, or across two; another loss.

Texts are read by `parse` and from there on as sympy writes them: nothing that a user typed reaches generated code.
"""

from __future__ import annotations

import textwrap
from itertools import pairwise

import sympy

from quenched.symbolic import averages, losses
from quenched.symbolic.activations import Activation, screen, screen_poles, screen_values
from quenched.symbolic.calculus import gradients
from quenched.symbolic.calculus.steps import NoClosedForm, is_zero, pieces
from quenched.symbolic.language import emit
from quenched.symbolic.language.grammar import LOSS, canonical, expression
from quenched.symbolic.language.notation import Formula
from quenched.symbolic.language.parse import parse
from quenched.symbolic.learners import teachers

__all__ = [
    "rules",
    "screen_loss",
    "user_activation",
    "user_gradients",
    "user_loss",
    "user_teacher",
    "user_teacher_gradients",
]

_ACROSS = '''class Across(NamedTuple):
    """Averages over fields of two activations: groups[i] returns those over kinds[i] fields of each."""

    kinds: tuple[tuple[int, int], ...]
    groups: tuple[Callable[..., tuple[float, ...]], ...]
    places: tuple[dict[str, int], ...]'''


def user_activation(name: str, whole: bool = False) -> str:
    """The module of the averages of one activation, "custom"; ValueError if it has no equations.

    SAME names the built-in that is the same function, if one is; its averages are left out then, unless the `whole` is
    asked for.  JUMPS says that g has a jump: there are averages of g
    alone then, for teachers and random features.
    """
    text = str(parse(name))
    activation = Activation("custom", text)
    screen(activation)
    source, same = "an activation given by the user", activation.builtin()
    facts = f'SAME = "{same}"\nJUMPS = {activation.jumps}'
    if same and not whole:
        return emit.header(source, f"The activation {text}.", facts)
    return averages.averages_module("custom", text, f"The averages of the activation {text}.", source, facts)


def user_gradients(name: str) -> str:
    """The module of the gradients of its averages."""
    text = str(parse(name))
    docstring = f"Gradients of the averages of {text}."
    return averages.gradients_module("custom", text, docstring, "an activation given by the user")


def user_loss(text: str) -> str:
    """The module of one loss, "custom"."""
    text = expression(text, LOSS)
    screen_loss(text)
    return losses.loss_module({"custom": text}, f"The loss {text}.", "a loss given by the user")


def screen_loss(text: str) -> None:
    """Refuse, with the reason, what is no loss.

    It must depend on the label, be finite and without jumps, have a finite slope, and not fall faster than a line
    towards minus infinity: descent would run away there.
    """
    loss, phi = losses.Loss("custom", text), losses.OUTPUT
    if not loss.expression.has(losses.LABEL):
        raise ValueError(f"loss {text!r} does not depend on the label y: nothing would be learned")
    for y in (-1, 1):
        value = loss.expression.subs(losses.LABEL, y)
        slope = value.diff(phi).replace(sympy.DiracDelta, lambda *_: sympy.Integer(0))
        subject = f"loss {text!r} at y = {y}"
        screen_values(subject, "l", value, phi)
        screen_values(subject, "dl/dphi", slope, phi)
        screen_poles(subject, value, phi)
        if _jumps(value):
            raise ValueError(f"{subject}: l = {value} jumps, and its slope says nothing of that")
        for end in (1000, -1000):
            near, far = (sympy.sign(end) * slope.subs(phi, end * scale).evalf() for scale in (1, 2))
            if far < 0 and far < 1.5 * near:
                raise ValueError(f"{subject}: l = {value} is unbounded below, and falls ever faster: training diverges")


def _jumps(value: sympy.Expr) -> bool:
    """Whether a function of phi has a jump; where a kink has no place that is known, whether it may have one."""
    phi = losses.OUTPUT
    try:
        found = pieces(value, phi)
    except NoClosedForm:
        return value.diff(phi).has(sympy.DiracDelta)
    changes = zip(found.points, pairwise(found.values), strict=True)
    return any(not is_zero((right - left).subs(phi, point)) for point, (left, right) in changes)


def user_teacher(student: str, teacher: str) -> str:
    """The module of the averages across two activations, without functions if they do not close."""
    texts, one, other = _pair(student, teacher)
    functions, names, places = [], [], []
    try:
        groups = {kind: teachers.across(one, other, *kind) for kind in teachers.KINDS}
    except NoClosedForm:
        groups = {}
    for (students, taught), group in groups.items():
        names.append(f"across_{students}_{taught}")
        docstring = f"Averages over {students} fields of g = {texts[0]} and {taught} of g = {texts[1]}."
        functions.append(emit.function(Formula(names[-1], docstring, group.arguments, group.derived)))
        pairs = ", ".join(f'"{k}": {v}' for k, v in group.index.items())
        places.append(textwrap.fill(f"{{{pairs}}},", emit.WIDTH, initial_indent=" " * 8, subsequent_indent=" " * 9))
    listing, members = "\n".join(places), ", ".join(names) + ("," if names else "")
    table = f"ACROSS = Across(\n    {tuple(groups)!r},\n    ({members}),\n    (\n{listing}\n    ),\n)"
    docstring = f"Averages across the activations {texts[0]} and, of a teacher, {texts[1]}."
    return emit.header("two activations given by the user", docstring, "\n\n\n".join([_ACROSS, *functions, table]))


def user_teacher_gradients(student: str, teacher: str) -> str:
    """The module of the gradients of those averages, of each kind in `teachers.KINDS`; none if one does not close."""
    texts, one, other = _pair(student, teacher)
    functions, rows = [], []
    try:
        for students, taught in teachers.KINDS:
            group = teachers.across(one, other, students, taught)
            outcome = gradients.gradient([one] * students + [other] * taught, group, fixed=taught)
            name = f"across_{students}_{taught}_gradient"
            docstring = f"Derivatives of each value of `across_{students}_{taught}`, to each argument that moves."
            functions.append(emit.function(Formula(name, docstring, group.arguments, outcome)))
            rows.append(f"    {(students, taught)!r}: {name},\n")
    except NoClosedForm:
        functions, rows = [], []
    docstring = f"Gradients of the averages across {texts[0]} and, of a teacher, {texts[1]}."
    body = "\n\n\n".join([*functions, "GRADIENTS = {\n" + "".join(rows) + "}"])
    return emit.header("two activations given by the user", docstring, body)


def _pair(student: str, teacher: str) -> tuple[list[str], Activation, Activation]:
    """Both texts as they are read, and what they say, screened."""
    texts = [str(parse(text)) for text in (student, teacher)]
    one, other = (Activation("custom", text) for text in texts)
    for activation in (one, other):
        screen(activation)
    return texts, one, other


def rules(activation: str) -> dict[str, tuple[str, ...]]:
    """The rules behind the averages of one activation, in the order of their first use."""
    return {
        formula.name: formula.outcome.rules
        for formula in averages.formulas(canonical(activation), str(parse(activation)))
    }
