"""The learning equations of a problem as LaTeX: what the solvers run, read from the generated code itself.

Generated functions are sums of products: numbers, names, `einsum` of arrays over named indices, and a few elementary
functions.  Their syntax trees are written as formulas here, so that a notebook shows the code that is executed and no
second version of it.  Terms that a problem does not have are left out: those with a rate or a weight decay of 0, the
noise of samples under gradient flow, the nodes of a spectrum where the inputs have none.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from quenched.numerics.averages.activations import averages
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.rules import LearningRule
from quenched.symbolic.language.grammar import CLASS_LOSSES, LOSS, expression, syntax_tree
from quenched.theory import two_layer
from quenched.theory.biases import bias_rates, mean_slope, shifted
from quenched.theory.losses import LOSSES
from quenched.theory.momentum import momentum_rates, velocity_rates

__all__ = ["LearningEquations", "equations"]

# How the names of generated code are written.
_SYMBOLS = {
    "eta": r"\eta",
    "kappa": r"\kappa",
    "eta_v": r"\eta_{v}",
    "kappa_v": r"\kappa_v",
    "friction": r"\zeta",
    "eta_b": r"\eta_b",
    "kappa_b": r"\kappa_b",
    "eta_c": r"\eta_c",
    "kappa_c": r"\kappa_c",
    "slope": "u",
    "rho": r"\rho",
    "share": "s",
    "mean": r"\mu",
    "force": "f",
    "noise": "N",
    "readout": "r",
    "response": "G",
    "pull": r"\Gamma",
    "Delta": r"\Delta",
    "I": r"\delta",
    "growth": r"\gamma",
    "squared": "q",
    "dR": r"\dot R",
    "dQ": r"\dot Q",
    "dR_held": r"\dot R^{|w|}",
    "dQ_held": r"\dot Q^{|w|}",
    "F0_c": "F_{0}^{c}",
    "S0_c": "S_{0}^{c}",
    "S1_c": "S_{1}^{c}",
    "pi": r"\pi",
    "inf": r"\infty",
}
_RATES = {"dR": "R", "dQ": "Q", "dv": "v", "db": "b", "dc": "c", "dS": "S", "dC": "C", "dU": "U", "dp": "p"}
"""Time derivatives."""
_SHARED = ("eta", "eta_v")  # rates, which all neurons share unless some are frozen
_COEFFICIENTS = {
    3: "F_{0,a}",
    4: "F_{1,a}",
    5: "S_{0,a}",
    6: "S_{1,a}",
    7: "S_{2,a}",
}  # of phi^n in dl/dphi, (dl/dphi)^2
_AVERAGES = {"ddg": "g''", "dg": "g'", "g": "g"}
_DEFINITIONS = {
    "force": r"f_{ak} = E_a\!\left[\frac{\partial l}{\partial \lambda_k}\right]",
    "response": r"G_{akn} = E_a\!\left[\frac{\partial^2 l}{\partial \lambda_k \partial \lambda_n}\right]",
    "noise": r"N_{akl} = E_a\!\left[\frac{\partial l}{\partial \lambda_k} \frac{\partial l}{\partial \lambda_l}\right]",
    "readout": r"r_{ak} = E_a\!\left[\frac{\partial l}{\partial v_k}\right]",
    "slope": r"u_{a} = E_a\!\left[\frac{\partial l}{\partial \phi}\right]",
}  # the averages of a step
_VELOCITIES = (
    r"S_{bk} = p_k \cdot r_b / D,\; C_{kl} = w_k \cdot p_l / D,\; U_{kl} = p_k \cdot p_l / D",
    r"\frac{dR_{bk}}{dt} = S_{bk}",
)
_CLASS_LOSSES = {"cross-entropy": r"\log \sum_{c} e^{\phi_{c}} - \sum_{c} y_{c}\, \phi_{c}"}


@dataclass(frozen=True)
class LearningEquations:
    """Formulas as LaTeX, one a line: `print` shows the source, a notebook the typeset formulas."""

    lines: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(self.lines)

    def _repr_latex_(self) -> str:
        """All lines, aligned at their first equality sign."""
        rows = (line.replace(" = ", " &= ", 1) for line in self.lines)
        return "$$\\begin{aligned}\n" + " \\\\\n".join(rows) + "\n\\end{aligned}$$"


def equations(mixture: Mixture, network: TwoLayer, rule: LearningRule, *, closed: bool = False) -> LearningEquations:
    r"""The equations that learning follows for D -> infinity: averages of one step, and the rates of R, Q and v.

    R_bk = w_k·r_b/D are the overlaps with reference vectors r_b, M_ak = w_k·mu_a/D among them; of a rule with momentum
    S_bk are those of velocities p_k, V_ak among them, p^v the velocities of v, and g^v what moves them.  `closed`: also
    the averages of a step in terms of those of the activation, and these in closed form, over one and two fields, where
    there is one.  Raises ValueError for an argument of another kind, and for `closed` where a teacher makes the labels.

    >>> from quenched.numerics import GradientFlow
    >>> print(equations(Mixture.xor(0.5), TwoLayer(4, "relu"), GradientFlow()).lines[-1])
    \frac{dv_{k}}{dt} = -\eta_{v} \sum_{a} P_{a}\, r_{ak}
    """
    for name, value, kind in (
        ("mixture", mixture, Mixture),
        ("network", network, TwoLayer),
        ("rule", rule, LearningRule),
        ("closed", closed, bool),
    ):
        if not isinstance(value, kind):
            raise ValueError(f"{name} must be a {kind.__name__}, got {value!r}")
    if closed and mixture.teacher is not None:
        raise ValueError(
            "closed must be False where a teacher makes the labels, got True: the sums of closed averages run over its "
            "neurons, too, and are written for those of the network"
        )
    mixture.check_charged(rule.loss)
    values: dict[str, Any] = dict(rule.scheduled)
    values |= dict(zip(("eta_b", "kappa_b", "eta_c", "kappa_c"), rule.biases, strict=True))
    values |= {"T": values.pop("temperature"), "B": rule.batch, "s": network.output_scale}
    gone = {name for name, value in values.items() if value == 0}
    first = "eta" not in gone
    asked = {
        "force": first or "eta_b" not in gone,
        "response": first,
        "noise": first and rule.diffusion,
        "readout": "eta_v" not in gone,
        "slope": "eta_c" not in gone,
    }  # whether a rate that is not 0 has it
    gone |= {name for name, needed in asked.items() if not needed} | (set() if asked["noise"] else {"S0_c", "S1_c"})
    ones = {name for name, value in values.items() if value == 1 and name in ("B", "s")}
    nodes = mixture.spectrum is not None
    symbols = ({} if nodes else {"rho": r"\sigma^2"}) | ({"eta_b": r"\eta_{b,k}"} if rule.frozen else {})
    writer = _Writer(gone, ones | (set() if nodes else {"share"}), symbols, nodes, shared=not rule.frozen)
    writer.readout = "k" if mixture.classes is None else "ck"
    definitions = [line for name, line in _DEFINITIONS.items() if asked[name]]
    if mixture.classes is not None:
        definitions = [line.replace("r_{ak}", "r_{ack}").replace("v_k", "v_{ck}") for line in definitions]
    lines = [rf"l = {_loss(rule)}", *definitions, *writer.function(two_layer.pull)]
    if rule.momentum:
        lines += _with_momentum(writer, rule, nodes)
    else:
        lines += writer.function(two_layer.rates)
        if rule.sphere:
            lines += writer.function(two_layer.on_sphere)
        if rule.biased:
            lines += writer.function(bias_rates)
    if closed:
        lines += _closed_step(writer, rule, asked["noise"])
        lines += _closed_averages(network.activation)
    return LearningEquations(tuple(dict.fromkeys(lines)))  # averages over one and two fields share variables


def _with_momentum(writer: _Writer, rule: LearningRule, nodes: bool) -> list[str]:
    """The rates of overlaps with velocities; what v, b and c are moved by, g, and their velocities p."""
    lines = [line.replace("_{bk}", "_{ubk}").replace("_{kl}", "_{ukl}") if nodes else line for line in _VELOCITIES]
    lines += writer.function(momentum_rates)
    parameters: dict[str, Callable[..., Any]] = {"v": two_layer.rates}
    parameters |= {"b": bias_rates, "c": bias_rates} if rule.biased else {}
    writer.gone |= {"dR", "dQ"}
    for letter, function in parameters.items():
        writer.symbols |= {f"d{letter}": f"g^{{{letter}}}", "drive": f"g^{{{letter}}}", "p": f"p^{{{letter}}}"}
        writer.rates = {"dp": f"p^{{{letter}}}"}
        others = {f"d{x}" for x in "vbc" if x != letter}
        writer.gone |= others
        lines += writer.function(function)
        index = "" if letter == "c" else writer.readout if letter == "v" else "k"
        moved = writer.function(velocity_rates, free=index)
        lines += [
            rf"\frac{{d{writer.indexed(letter, index)}}}{{dt}} = {writer.indexed(f'p^{{{letter}}}', index)}",
            *moved,
        ]
        writer.gone -= others
    writer.gone -= {"dR", "dQ"}
    return lines


def _loss(rule: LearningRule) -> str:
    if rule.loss in CLASS_LOSSES:
        return _CLASS_LOSSES[rule.loss]
    text = expression(rule.loss, LOSS)
    return _Writer(set(), set(), {"phi": r"\phi"}, True).term(syntax_tree(text, "eval").body)


def _closed_step(writer: _Writer, rule: LearningRule, noisy: bool) -> list[str]:
    """The averages of a step by those of the activation, of a loss of degree 2 in the output."""
    if rule.loss not in LOSSES or (coefficients := LOSSES[rule.loss].coefficients) is None:
        return []
    known = {place: name for place, name in _COEFFICIENTS.items() if noisy or name.startswith("F")}
    lines = _Writer(set() if rule.label_noise else {"Delta"}, set(), {"y": "y_a"}, True).function(coefficients, known)
    if rule.biased:  # the coefficients at the output phi + c stand for those at phi
        lines += writer.function(shifted, free="a")
        writer.symbols |= {name: writer.symbols[f"{name}_c"] for name in ("F0", "S0", "S1")}
    for part in (two_layer.step_averages, two_layer.step_noise, mean_slope):
        lines += writer.function(part)
    return lines


def _closed_averages(activation: str) -> list[str]:
    """The averages of an activation over one and two fields, with the variables that they share."""
    found = averages(activation)
    writer = _Writer(set(), set(), {}, True)
    lines = []
    for function, places in list(zip(found.groups, found.places, strict=True))[:2]:
        names: dict[int, str] = {}
        for layout, place in places.items():
            names.setdefault(place, _average(layout))
        lines += writer.function(function, names)
    return lines


def _average(layout: str) -> str:
    """E[..] of a layout such as dg*g,g."""
    factors = [
        f"{_AVERAGES[factor]}(x_{i})" for i, field in enumerate(layout.split(",")) for factor in field.split("*")
    ]
    return "E[" + r"\, ".join(factors) + "]"


class _Writer:
    """Syntax trees of generated code as LaTeX.

    `gone`: names that are 0; `ones`: names that are 1; `symbols`: names written otherwise; `nodes`: whether the index u
    of nodes is written; `shared`: whether rates are those of all neurons; `readout`: what the index o of readout
    weights is.
    """

    readout = "k"
    rates: Mapping[str, str] = _RATES  # what is the time derivative of what

    def __init__(
        self, gone: set[str], ones: set[str], symbols: Mapping[str, str], nodes: bool, *, shared: bool = False
    ) -> None:
        self.gone, self.ones, self.symbols, self.nodes = gone, ones, _SYMBOLS | dict(symbols), nodes
        self.shared = set(_SHARED) if shared else set()
        self.arrays: set[str] = set()  # of the function that is written
        self.free = ""  # the indices of what is written: those of an array outside of an `einsum`

    def function(
        self, function: Callable[..., Any], outcomes: Mapping[int, str] | None = None, free: str = ""
    ) -> list[str]:
        """One line for each assignment and, if `outcomes` names them, each element of the result.

        `free`: the indices of an assignment that has no `einsum` to say them.
        """
        tree = syntax_tree(textwrap.dedent(inspect.getsource(function))).body[0]
        self.arrays = {name for name, kind in function.__annotations__.items() if "NDArray" in str(kind)}
        lines = []
        for node in ast.walk(tree):
            if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                if isinstance(target, ast.Name) and not isinstance(node.value, ast.Subscript):
                    lines += self._line(target.id, node.value, free)
            elif isinstance(node, ast.Return) and outcomes is not None and isinstance(node.value, ast.Tuple):
                lines += [f"{name} = {self.sum(node.value.elts[place])}" for place, name in outcomes.items()]
        return lines

    def _line(self, name: str, value: ast.expr, free: str) -> list[str]:
        if _callee(value) == "eye" or name in self.gone:
            return []
        self.free = next((_output(call) for call in ast.walk(value) if _callee(call) == "einsum"), free)
        moving, text = self.rates.get(name), self.sum(value)
        self.arrays |= {name} if self.free else set()
        written = self.indexed(moving or self.name(name), self.free)
        if moving:
            return [rf"\frac{{d{written}}}{{dt}} = {text}"]
        return [f"{written} = {text}"] if text != "0" else []

    # --- expressions

    def sum(self, node: ast.expr) -> str:
        """A sum without its terms that are 0."""
        terms: dict[tuple[str, int], int] = {}
        for sign, part in _terms(node):
            if {name.id for name in ast.walk(part) if isinstance(name, ast.Name)} & self.gone:
                continue
            text = self.term(part)
            flipped = text.startswith("-")
            text, sign = (text[1:], -sign) if flipped else (text, sign)
            terms[text, sign] = terms.get((text, sign), 0) + 1
        found = ""
        for (text, sign), count in terms.items():
            before = ("-" if sign < 0 else "") if not found else f" {'-' if sign < 0 else '+'} "
            found += before + (f"{count} {text}" if count > 1 else text)
        return found or "0"

    def term(self, node: ast.expr, inside: bool = False) -> str:
        """A product, quotient, power, function, name or number; `inside`: a sum gets brackets."""
        match node:
            case ast.UnaryOp(op=ast.USub()):
                text = "-" + self.term(node.operand, True)
                return rf"\left({text}\right)" if inside else text
            case ast.BinOp(op=ast.Add() | ast.Sub()):
                return rf"\left({self.sum(node)}\right)" if inside else self.sum(node)
            case ast.BinOp(op=ast.Mult()):
                parts = [self.term(factor, True) for factor in _factors(node) if not self._is_one(factor)]
                return _product([part for part in parts if part != "1"])
            case ast.BinOp(op=ast.Div()):
                below = [factor for factor in _factors(node.right) if not self._is_one(factor)]
                if not below:
                    return self.term(node.left, inside)
                return rf"\frac{{{self.term(node.left)}}}{{{_product([self.term(part, True) for part in below])}}}"
            case ast.BinOp(op=ast.Pow()):
                return f"{{{self.term(node.left, True)}}}^{{{self.term(node.right)}}}"
            case ast.Call():
                return self._call(node)
            case ast.Name():
                return self.indexed(self.name(node.id), self.free if node.id in self.arrays else "")
            case ast.Constant():
                return str(node.value)
        raise ValueError(f"generated code is written as LaTeX where it is sums and products, got {ast.dump(node)}")

    def _is_one(self, node: ast.expr) -> bool:
        while isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
            node = node.left
        return isinstance(node, ast.Name) and node.id in self.ones

    def _call(self, node: ast.Call) -> str:
        name = _callee(node)
        if name == "einsum":
            return self._contraction(node)
        arguments = [self.term(argument) for argument in node.args]
        match name:
            case "sqrt":
                return rf"\sqrt{{{arguments[0]}}}"
            case "exp":
                return rf"e^{{{arguments[0]}}}"
            case "ratio":
                return rf"\frac{{{arguments[0]}}}{{{arguments[1]}}}"
            case "residual":  # a mean given one more field
                return rf"{arguments[0]} - \frac{{{arguments[1]}\, {arguments[2]}}}{{{arguments[3]}}}"
            case "remainder":  # a variance given one more field
                return rf"{arguments[0]} - \frac{{{arguments[1]}^2}}{{{arguments[2]}}}"
        written = rf"\Phi_{{{name[3:]}}}" if name.startswith("Phi") else rf"\operatorname{{{name}}}"
        return written.removesuffix("_{}") + rf"\left({', '.join(arguments)}\right)"

    def _contraction(self, node: ast.Call) -> str:
        inputs, output = _subscripts(node)
        operands = [(operand, index) for operand, index in zip(node.args[1:], inputs, strict=True)]
        named = [operand.id if isinstance(operand, ast.Name) else "" for operand, _ in operands]
        factors = [
            self.indexed(self._operand(operand), index)
            for (operand, index), name in zip(operands, named, strict=True)
            if name not in self.ones | self.shared
        ]
        rates = [self.name(name) for name in named if name in self.shared]
        before = f"{{{rates[0]}}}^{{{len(rates)}}} " if len(rates) > 1 else f"{rates[0]} " if rates else ""
        summed = dict.fromkeys(i for index in inputs for i in index if i not in output and (self.nodes or i != "u"))
        return before + (rf"\sum_{{{','.join(summed)}}} " if summed else "") + r"\, ".join(factors)

    def _operand(self, node: ast.expr) -> str:
        """An array of an `einsum`, whose indices come after it."""
        return self.name(node.id) if isinstance(node, ast.Name) else self.term(node)

    def indexed(self, text: str, indices: str) -> str:
        kept = (indices if self.nodes else indices.replace("u", "")).replace("o", self.readout)
        base, power, exponent = text.partition("^")
        if kept and base.endswith("}") and "_{" in base:
            return f"{base[:-1]},{kept}}}{power}{exponent}"
        return (f"{base}_{{{kept}}}" if kept else base) + power + exponent

    def name(self, name: str) -> str:
        """A symbol; letters followed by digits get these as an index, m1_0 is m_{1|0}; dg_g is E[g' g]."""
        if name in self.symbols:
            return self.symbols[name]
        if all(part in _AVERAGES for part in name.split("_")):
            return rf"\langle {'|'.join(_AVERAGES[part] for part in name.split('_'))} \rangle"
        letters = name.rstrip("0123456789_abcdefpt") or name[0]
        index = name[len(letters) :].strip("_").replace("_", "|")
        return f"{letters}_{{{index}}}" if index else letters


def _callee(node: ast.AST) -> str:
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""


def _subscripts(node: ast.Call) -> tuple[list[str], str]:
    """The indices of the operands and of the result of an `einsum`."""
    inputs, _, output = str(ast.literal_eval(node.args[0])).partition("->")
    return inputs.split(","), output


def _output(node: ast.AST) -> str:
    return _subscripts(node)[1] if isinstance(node, ast.Call) else ""


def _terms(node: ast.expr) -> list[tuple[int, ast.expr]]:
    """The terms of a sum with their signs."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub)):
        sign = 1 if isinstance(node.op, ast.Add) else -1
        return _terms(node.left) + [(sign * inner, part) for inner, part in _terms(node.right)]
    return [(1, node)]


def _factors(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        return _factors(node.left) + _factors(node.right)
    return [node]


def _product(parts: list[str]) -> str:
    """Factors side by side; a sign stays in front."""
    if not parts:
        return "1"
    return " ".join(part[6:-7] if i == 0 and part.startswith(r"\left(-") else part for i, part in enumerate(parts))
