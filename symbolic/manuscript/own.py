"""The document of what a user brings: an activation and a loss, and the learning equations that follow from them.

It has the same steps as the document of the package.  Where the loss is of degree 2 in the output and the averages of
the activation have a closed form, they are printed for one and two fields; otherwise it says what solvers average.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from importlib import metadata

import sympy

from quenched.symbolic import averages, user
from quenched.symbolic.activations import Activation, screen
from quenched.symbolic.calculus.steps import NoClosedForm
from quenched.symbolic.language.grammar import LOSS, canonical, expression
from quenched.symbolic.language.latex import latex
from quenched.symbolic.language.notation import Derived, Formula, Step
from quenched.symbolic.language.parse import VARIABLE, parse
from quenched.symbolic.learners import two_layer
from quenched.symbolic.losses import LABEL, OUTPUT, Loss
from quenched.symbolic.manuscript.typeset import Book, Chapter

__all__ = ["own"]

_FRONT = """From the update rule to the equations of the order parameters, on Gaussian mixtures in high dimension.  Each
line names the rule that led to it; `quenched derive --latex` writes the document that proves the rules and explains
symbols and conventions.  R_ubk = w_k.Pi_u r_b/D and Q_ukl = w_k.Pi_u w_l/D are overlaps of weights w_k and reference
vectors r_b in node u of the spectrum; M_uak is the part of E_a[lambda_k] in node u.  P_a and y_a are weights and labels
of the clusters, v_k readouts, s the output scale, eta and kappa learning rates and decays, B samples in a step."""

_OPEN = """What the rates ask for.  The loss is no polynomial of degree 2 in phi, so these averages do not open into
averages of products of the activation.  Solvers take them by quadrature over the fields where these are few, and by
quasi-Monte Carlo with an error estimate otherwise."""

_SAMPLED = (
    "The averages of this activation have no closed form: solvers sample them, by quasi-Monte Carlo with an error."
)


def _activation(activation: Activation) -> Chapter:
    """g and its derivatives, as distributions where g has kinks."""
    steps = [Step("Definition", f"g(x) = {latex(activation.expression)}")]
    for order, left in ((1, "g'(x)"), (2, "g''(x)")):
        found = activation.derivatives["d" * order + "g"]
        steps.append(Step("Derivative", f"{left} = {latex(found)}"))
    told = "The derivatives are those of distributions: a kink of g is a jump of g' and a delta in g''."
    kinks = [point for point, _ in activation.kinks()]
    told += f"  Kinks of g: at {', '.join(kinks)}." if kinks else "  g is smooth."
    shape = Formula("definition", told, (VARIABLE,), Derived(sympy.Integer(0), steps=tuple(steps)))
    return Chapter("activation", "Activation", "", [replace(shape, arguments=())], part="own")


def _loss(loss: Loss) -> Chapter:
    lines = (("l", loss.value), (r"dl/d\phi", loss.slope), (r"d^2l/d\phi^2", loss.curvature))
    steps = tuple(
        Step("Derivative" if n else "Definition", f"{left} = {latex(f)}") for n, (left, f) in enumerate(lines)
    )
    told = "Value, slope and curvature away from kinks, in a form that does not overflow."
    return Chapter("loss", "Loss", "", [Formula("slope", told, (), Derived(sympy.Integer(0), steps=steps))], part="own")


def _equations(loss: Loss) -> Chapter:
    """Step by step; with sums over neurons for a loss of degree 2, else with averages as they are defined."""
    if loss.coefficients:
        expression_ = loss.expression
        formulas = two_layer.derivation(
            two_layer.equations(
                lambda output, label: expression_.subs({OUTPUT: output, LABEL: label}, simultaneous=True)
            )
        )
    else:
        slope = latex(loss.slope)
        push = rf"\operatorname{{push}}_k = \left({slope}\right) s\,v_k\,g'(\lambda_k)"
        defined = (
            (r"\operatorname{force}_{ak}", r"E_a[\operatorname{push}_k]"),
            (r"\operatorname{response}_{akl}", r"E_a[\partial\,\operatorname{push}_k/\partial\lambda_l]"),
            (r"\operatorname{noise}_{akl}", r"E_a[\operatorname{push}_k\,\operatorname{push}_l]"),
            (r"\operatorname{readout}_{ak}", rf"E_a\left[\left({slope}\right) s\,g(\lambda_k)\right]"),
        )
        steps = tuple(Step("Averages of one step", f"{left} = {right}") for left, right in defined)
        formulas = two_layer.derivation(two_layer.quadratic())
        places = {formula.name: n for n, formula in enumerate(formulas)}
        first, last = places["update"], places["step_averages"]
        gradient = Derived(sympy.Integer(0), steps=(Step("Gradient", push),))
        formulas[first] = replace(formulas[first], outcome=gradient)
        formulas[last] = replace(formulas[last], docstring=_OPEN, outcome=Derived(sympy.Integer(0), steps=steps))
    formulas = [formula for formula in formulas if formula.name != "on_sphere"]
    told = inspect.cleandoc(two_layer.__doc__ or "")
    return Chapter("equations", "The learning equations", told, formulas, part="own")


def _averages(activation: Activation) -> Chapter:
    """Over one and two fields; those over three and four are derived alike, and printed by `quenched derive`."""
    try:
        groups = [activation.group(n) for n in (1, 2)]
    except NoClosedForm:
        return Chapter("averages", "Averages", _SAMPLED, [], part="own")
    names = ("one_field", "two_fields")
    formulas = [replace(averages.formula(activation, g), name=name) for name, g in zip(names, groups, strict=True)]
    told = """Fields x_i have means m_i and covariances c_ij; m_(1|0) and c_(11|0) are given x_0 = 0.  d_0 is the
density of x_0 at 0, p_01 = E[H(x_0) H(x_1)], e_01 = E[x_0 x_1] and e_(0|p1) = E[x_0 H(x_1)], with H or Phi as the
activation has it.  Averages over three and four fields follow by the same rules: `quenched derive --activation` prints
them."""
    return Chapter("averages", "Averages", told, formulas, part="own", flowing=True)


def own(activation: str, loss: str, digits: Mapping[str, str] | None = None) -> str:
    """The LaTeX document; `digits`: what certificates say of the averages over n fields, by `NAME_n`."""
    text, loss_text = str(parse(activation)), expression(loss, LOSS)
    g = Activation("custom", text)
    screen(g)
    if g.jumps:
        raise ValueError(f"activation {activation!r} jumps: it has no learning equations, only averages as a teacher")
    user.screen_loss(loss_text)
    l = Loss("custom", loss_text)
    name, known = canonical(activation), digits or {}
    told = {field: known[f"{name}_{n}"] for n, field in ((1, "one_field"), (2, "two_fields")) if f"{name}_{n}" in known}
    book = Book([_activation(g), _loss(l), _equations(l), _averages(g)], told)
    heading = rf"Learning equations of $g(x) = {latex(g.expression)}$ under the loss $l = {latex(l.expression)}$"
    version = rf"\texttt{{quenched}} {metadata.version('quenched')}"
    front = rf"{{\Large {heading}\par}}\smallskip {version}" + "\n\n\\small\n" + book.prose(_FRONT)
    return book.document(front, {"own": ("", "")}, margin=20)
