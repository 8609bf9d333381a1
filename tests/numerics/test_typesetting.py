"""The equations of a problem as LaTeX: those that the solvers run, without the terms that the problem does not have."""

import ast
import inspect

import pytest
from matplotlib.mathtext import MathTextParser

from quenched.numerics import GradientFlow, Mixture, OnlineSGD, Spectrum, TwoLayer, equations
from quenched.theory import two_layer

XOR, RELU = Mixture.xor(0.5), TwoLayer(4, "relu")
SPECTRAL = Mixture([[1.0], [-1.0]], [1, -1], spectrum=Spectrum([0.5, 1.5]))
PROBLEMS = [
    (XOR, RELU, OnlineSGD(0.1, 0.01)),
    (XOR, RELU, GradientFlow(weight_decay=0.1)),
    (XOR, TwoLayer(2, "erf", 0.5), OnlineSGD(0.1, second_lr=0.0, label_noise=0.3)),
    (SPECTRAL, RELU, OnlineSGD(0.1, 0.01, batch=4, loss="logistic")),
    (XOR, TwoLayer(1, "tanh"), OnlineSGD(0.0, second_lr=0.5)),
]


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("closed", [False, True])
def test_every_line_is_latex(problem, closed: bool) -> None:
    found = equations(*problem, closed=closed)
    parser = MathTextParser("path")
    for line in found.lines:
        parser.parse(f"${line}$")
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
    full = equations(SPECTRAL, RELU, OnlineSGD(0.1, 0.01, batch=4))
    for name in "RQv":
        text = rate(full, name)
        assert text.count(" + ") + text.count(" - ") + 1 == count[f"d{name}"]
    assert r"\frac{{\eta}^{2}}{B}" in rate(full, "Q")
    assert r"\rho_{au}\, s_{u}" in rate(full, "Q")
    isotropic = equations(XOR, RELU, OnlineSGD(0.1, 0.01))
    assert r"\sigma_{a}^2" in rate(isotropic, "Q")
    assert "B" not in rate(isotropic, "Q")
    assert "u" not in rate(isotropic, "Q").replace(r"\mu", "").replace(r"\sum", "")
    flow = rate(equations(XOR, RELU, GradientFlow()), "Q")
    assert flow.count(r"\sum") == count["dQ"] - 2  # neither decay nor noise
    assert "N_" not in flow
    assert rate(equations(XOR, RELU, OnlineSGD(0.1, second_lr=0.0)), "v") == "0"


def test_closed_averages_of_the_activation() -> None:
    lines = equations(XOR, RELU, GradientFlow(), closed=True).lines
    assert r"E[g'(x_0)] = p_{0}" in lines
    assert r"p_{0} = \Phi\left(h_{0}\right)" in lines
    assert r"F_{0,a} = -y_a" in lines
    assert not [line for line in lines if line.startswith("S_")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mixture": None}, "mixture must be a Mixture, got None"),
        ({"closed": "yes"}, "closed must be a bool, got 'yes'"),
    ],
)
def test_wrong_kinds(change, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        equations(**({"mixture": XOR, "network": RELU, "rule": GradientFlow()} | change))
