"""The equations of a problem as LaTeX: those that the solvers run, without the terms that the problem does not have."""

import ast
import inspect
import re
from functools import cache

import pytest
from matplotlib.mathtext import MathTextParser

from quenched.numerics import (
    Densities,
    GradientFlow,
    Mixture,
    OnlineSGD,
    OrderParameters,
    Spectrum,
    Teacher,
    TwoLayer,
    drift,
    equations,
    errors,
    oracle_error,
    random_state,
)
from quenched.numerics.averages.losses import CLASS_LOSSES as COMPILED
from quenched.numerics.typesetting import _CLASS_LOSSES
from quenched.symbolic.classes import cross_entropy
from quenched.symbolic.language.grammar import CLASS_LOSSES
from quenched.symbolic.language.latex import latex
from quenched.theory import two_layer

XOR, RELU = Mixture.xor(0.5), TwoLayer(4, "relu")
TAUGHT = Mixture([[0.0]], teacher=Teacher([[1.0]], [1.0], "relu"))
SPECTRAL = Mixture([[1.0], [-1.0]], [1, -1], spectrum=Spectrum([0.5, 1.5]))
PROBLEMS = [
    (XOR, RELU, OnlineSGD(0.1, 0.01)),
    (XOR, RELU, GradientFlow(weight_decay=0.1)),
    (XOR, TwoLayer(2, "erf", 0.5), OnlineSGD(0.1, second_lr=0.0, label_noise=0.3)),
    (SPECTRAL, RELU, OnlineSGD(0.1, 0.01, batch=4, loss="logistic")),
    (XOR, TwoLayer(1, "tanh"), OnlineSGD(0.0, second_lr=0.5)),
    (SPECTRAL, RELU, OnlineSGD("1/(1 + t)", 0.1, frozen=("w0", "v1"), temperature=0.5, sphere=True)),
]


@cache  # problems share most of their lines
def parse(line: str) -> None:
    MathTextParser("path").parse(f"${line}$")


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("closed", [False, True])
def test_every_line_is_latex(problem, closed: bool) -> None:
    found = equations(*problem, closed=closed)
    for line in found.lines:
        parse(line)
    assert found._repr_latex_().count("&=") == len(found.lines)
    assert str(found).splitlines() == list(found.lines)


def terms_of_rates() -> dict[str, int]:
    """The number of terms of each rate in the generated code: one more than its additions."""
    tree = ast.parse(inspect.getsource(two_layer.rates))
    return {
        node.targets[0].id: 1
        + sum(isinstance(op.op, (ast.Add, ast.Sub)) for op in ast.walk(node.value) if isinstance(op, ast.BinOp))
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }


def rate(found, name: str) -> str:
    (line,) = (line for line in found.lines if line.startswith(rf"\frac{{d{name}_"))
    return line.partition(" = ")[2]


def test_all_terms_are_there_and_no_others() -> None:
    count = terms_of_rates()
    full = equations(SPECTRAL, RELU, OnlineSGD(0.1, 0.01, batch=4, temperature=0.2, frozen="w0"))
    for name in "RQv":
        text = rate(full, name)
        assert text.count(" + ") + text.count(" - ") + 1 == count[f"d{name}"]
    assert r"\frac{1}{B} \sum_{a} P_{a}\, \eta_{k}\, \eta_{l}" in rate(full, "Q")
    shared = equations(SPECTRAL, RELU, OnlineSGD(0.1, 0.01, batch=4))
    assert r"\frac{1}{B} {\eta}^{2} \sum" in rate(shared, "Q")
    assert r"-2 \kappa \eta Q_{ukl}" in rate(shared, "Q")  # two terms, alike where neurons share a rate
    assert r"\rho_{au}\, s_{u}" in rate(full, "Q")
    isotropic = equations(XOR, RELU, OnlineSGD(0.1, 0.01))
    assert r"\sigma_{a}^2" in rate(isotropic, "Q")
    assert "B" not in rate(isotropic, "Q")
    assert "u" not in rate(isotropic, "Q").replace(r"\mu", "").replace(r"\sum", "")
    flow = rate(equations(XOR, RELU, GradientFlow()), "Q")
    assert flow.count(r"\sum") == count["dQ"] - 4  # no decay, of either weight, no noise, no bath
    assert "N_" not in flow
    assert rate(equations(XOR, RELU, OnlineSGD(0.1, second_lr=0.0)), "v") == "0"


def test_weights_on_a_sphere_are_scaled_back_by_what_the_generated_code_says() -> None:
    """It has the growth in it, of all nodes, which no caller gives to it."""
    lines = equations(SPECTRAL, RELU, OnlineSGD(0.1, sphere=True)).lines
    assert list(inspect.signature(two_layer.on_sphere).parameters) == ["R", "Q", "dR", "dQ"]
    assert r"q_{k} = \sum_{u} Q_{ukk}" in lines
    assert r"\gamma_{k} = \frac{\sum_{u} \dot Q_{ukk}}{q_{k}}" in lines
    assert r"q_{k} = Q_{kk}" in equations(XOR, RELU, OnlineSGD(0.1, sphere=True)).lines


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize(
    ("rule", "letters"),
    [
        (OnlineSGD(0.1, 0.01, bias_lr=0.1, intercept_lr=0.1), "fGNru"),
        (OnlineSGD(0.0, second_lr=0.1, bias_lr=0.1, intercept_lr=0.1), "fru"),
        (OnlineSGD(0.0, second_lr=0.0, bias_lr=0.1), "f"),
        (OnlineSGD(0.0, second_lr=0.0, intercept_lr=0.1), "u"),
        (OnlineSGD(0.0, second_lr=0.1), "r"),
        (OnlineSGD(0.1, second_lr=0.0), "fGN"),
        (GradientFlow(second_lr=0.0, bias_lr=0.1), "fG"),
    ],
)
def test_each_average_that_a_rate_has_is_defined_and_no_other(rule, letters: str, closed: bool) -> None:
    lines = equations(XOR, RELU, rule, closed=closed).lines
    known = {line[0] for line in lines if re.match(r"[fGNru]_\{a\w*\} = E_a", line)}
    used = {letter for line in lines for letter in re.findall(r"(?<![\w\\])([fGNru])_\{a", line.partition(" = ")[2])}
    assert known == used == set(letters)


def test_closed_averages_of_the_activation() -> None:
    lines = equations(XOR, RELU, GradientFlow(), closed=True).lines
    assert r"E[g'(x_0)] = p_{0}" in lines
    assert r"p_{0} = \Phi\left(\frac{m_{0}}{\sqrt{c_{00}}}\right)" in lines
    assert r"F_{0,a} = -y_a" in lines
    assert not [line for line in lines if line.startswith("S_")]


@pytest.mark.parametrize("rule", [OnlineSGD(0.1, intercept_lr=0.1), GradientFlow(bias_lr=0.1, intercept_lr=0.1)])
def test_closed_averages_are_those_at_an_output_with_its_intercept(rule) -> None:
    """Each F_0, S_0 and S_1 is moved by c before it is used, as the engine does (`biases.shifted`), and u is closed."""
    lines = equations(XOR, RELU, rule, closed=True).lines
    assert r"F_{0,a}^{c} = c F_{1,a} + F_{0,a}" in lines
    assert (r"S_{1,a}^{c} = 2 c S_{2,a} + S_{1,a}" in lines) == rule.diffusion
    assert r"u_{a} = \sum_{i} F_{1,a}\, \langle g \rangle_{ai}\, v_{i} + F_{0,a}^{c}" in lines
    used = "".join(line.partition(" = ")[2] for line in lines if re.match(r"[fGNru]_\{a", line))
    assert used.count("F_{0,a}") == used.count("F_{0,a}^{c}") == 4
    assert used.count("S_{0,a}") == used.count("S_{0,a}^{c}") == used.count("S_{1,a}^{c}") == rule.diffusion
    assert not [line for line in equations(XOR, RELU, OnlineSGD(0.1), closed=True).lines if "^{c}" in line]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mixture": TAUGHT, "closed": True}, "closed must be False where a teacher makes the labels, got True"),
        ({"mixture": None}, "mixture must be a Mixture, got None"),
        ({"closed": "yes"}, "closed must be a bool, got 'yes'"),
    ],
)
def test_wrong_kinds(change, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        equations(**({"mixture": XOR, "network": RELU, "rule": GradientFlow()} | change))


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (OnlineSGD(0.5, 0.1, batch=3), [r"\frac{0.5}{\sqrt{D}}", r"\frac{0.05}{D}", "B = 3", "square"]),
        (OnlineSGD(0.1, second_lr=0.0, label_noise=0.3), [r"\delta v_k = 0", r"0.3\,\mathcal{N}(0, 1)"]),
        (GradientFlow(loss="logistic"), [r"\eta \to 0", "logistic"]),
    ],
)
def test_rules_show_their_step(rule, said: list[str]) -> None:
    found = rule._repr_latex_()
    MathTextParser("path").parse(found)
    assert all(part in found for part in said)
    assert ("B =" in found) == (rule.batch > 1)


def test_states_show_their_matrices() -> None:
    state = OrderParameters([[0.5, 0.25], [-0.5, -0.25]], [[1.0, 0.125], [0.125, 2.0]], [1.0, -1.0])
    matrix = r"\begin{pmatrix} 1 & 0.125 \\ 0.125 & 2 \end{pmatrix}"
    assert f"Q = {matrix}" in state._repr_latex_()
    assert r"v = \begin{pmatrix} 1 & -1 \end{pmatrix}" in state._repr_latex_()
    assert Densities.spread(SPECTRAL, state)._repr_latex_().count("pmatrix") == 2 * (2 + 2 + 1)
    assert r"\dot Q = " in drift(Mixture.two_clusters(1.0), TwoLayer(2, "erf"), OnlineSGD(0.1), state)._repr_latex_()
    wide = random_state(XOR, TwoLayer(8, "relu"), 1000, 0)
    assert r"Q \in \mathbb R^{8 \times 8}" in wide._repr_latex_()


def test_results_show_each_number_with_its_error() -> None:
    """In one line, an error beside its number and nowhere else; what is None or long is left out."""
    state = OrderParameters([[0.5], [-0.5]], [[1.0]], [1.0])
    found = errors(Mixture.two_clusters(1.0), TwoLayer(1, "erf"), state)
    assert repr(found).startswith(f"Errors(pmse={found.pmse:.6g} ± {found.pmse_error:.2g}, classification_error=0.308")
    assert "_error=" not in repr(found).replace("classification_error=", "")
    assert repr(oracle_error(XOR)).startswith(f"OracleError(value={oracle_error(XOR).value:.6g} ± ")
    assert "\n" not in repr(drift(Mixture.two_clusters(1.0), TwoLayer(1, "erf"), OnlineSGD(0.1), state))


def test_losses_of_classes_are_shown_as_they_are_derived() -> None:
    """What `equations` writes for each is sympy's of symbolic/classes.py, but for brackets and the index."""
    derived = latex(cross_entropy()).replace(r"{\left(", " ").replace(r" \right)}", "").replace("_{d=1}^{C}", "_{c}")
    shown = {"cross-entropy": derived.replace("_{d}", "_{c}").replace(r"\phi_{c} y_{c}", r"y_{c}\, \phi_{c}")}
    assert shown == _CLASS_LOSSES
    assert shown.keys() == CLASS_LOSSES.keys() == COMPILED.keys()
