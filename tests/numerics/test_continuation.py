"""Solution curves: a fold and a pitchfork known in closed form, and agreement with solutions found one by one."""

import json

import numpy as np
import pytest

from quenched.numerics import GradientFlow, Mixture, OnlineSGD, OrderParameters, TwoLayer, curve, fixed_point
from quenched.numerics.two_layer.continuation import _Branch
from quenched.numerics.two_layer.stationary import FixedPointError

XOR = Mixture.xor(0.4)
RELU = TwoLayer(4, "relu")
SGD = OnlineSGD(lr=0.2, weight_decay=0.01)


@pytest.fixture(scope="module")
def start():
    return fixed_point(XOR, RELU, SGD, seed=1)


def test_along_sigma(start):
    """Each point is a fixed point of its own; the errors are good to 1e-6."""
    values = np.linspace(0.4, 0.5, 6)
    found = curve(XOR, RELU, SGD, "sigma", values, start.state)
    np.testing.assert_array_equal(found.sigma, values)
    assert not found.fold.any()
    assert not found.pitchfork.any()
    assert (found.residual < 1e-10).all()
    assert (found.classification_error_error < 1e-6).all()
    assert found.stable.all()
    assert float(found.classification_error[0]) == pytest.approx(start.classification_error, abs=1e-7)
    end = fixed_point(Mixture.xor(0.5), RELU, SGD, seed=1)
    assert float(found.pmse[-1]) == pytest.approx(end.pmse, abs=1e-7)
    assert float(found.classification_error[-1]) == pytest.approx(end.classification_error, abs=1e-7)
    assert json.loads(found.attrs["parameter"]) == "sigma"


def test_separation_is_noise(start):
    """Means times c, noise sigma: the same as means 1, noise sigma/c, with weights times c; decay tells them apart.

    Without decay (second layer frozen, gradient flow, erf of smooth fields) the error depends on sigma/c alone.
    """
    mixture, network = Mixture.two_clusters(1.0), TwoLayer(1, "linear")
    guess = OrderParameters([[0.5], [-0.5]], [[0.25]], [1.0])
    rule = GradientFlow(second_lr=0.0)
    one = curve(mixture, network, rule, "separation", [1.0, 0.8, 0.5], guess)
    other = curve(mixture, network, rule, "sigma", [1.0, 1.25, 2.0], guess)
    np.testing.assert_allclose(one.classification_error, other.classification_error, atol=1e-12)
    np.testing.assert_allclose(one.pmse, other.pmse, atol=1e-12)


def test_fold():
    """g = x^2, K = 2, on XOR: phi = v (lambda_1^2 - lambda_2^2), w_1 and w_2 of length w along the two axes.

    With c = v w^2, E = alpha c^2/2 - beta c + 1/2 + kappa (w^2 + v^2), beta = 1, alpha = E[(x_1^2 - x_2^2)^2] =
    (1 + 2 sigma^2)^2.  Stationary: w^2 = 2 v^2 and (beta - 2 alpha v^3) v = kappa, which has two solutions up to
    kappa = (3/4) beta (beta/(8 alpha))^(1/3) and none beyond.
    """
    network = TwoLayer(2, "quadratic")
    alpha = (1 + 2 * 0.4**2) ** 2
    v = np.roots([-2 * alpha, 0, 0, 1, -0.1]).real.max()
    A = np.sqrt(2) * v * np.eye(2)
    guess = OrderParameters(XOR.means @ A, A.T @ A, [-v, v])
    found = curve(XOR, network, GradientFlow(), "weight_decay", np.linspace(0.1, 0.6, 6), guess)
    fold = found.isel(point=int(found.fold.argmax("point")))
    assert int(found.fold.sum()) == 1
    assert float(fold.weight_decay) == pytest.approx(0.75 * (1 / (8 * alpha)) ** (1 / 3), abs=1e-7)
    assert np.abs(fold.v.values) == pytest.approx(2 * [(1 / (8 * alpha)) ** (1 / 3)], abs=1e-4)
    np.testing.assert_allclose(found.weight_decay[~found.fold.values], [0.1, 0.2, 0.3, 0.3, 0.2, 0.1])
    np.testing.assert_array_equal(found.stable[~found.fold.values], [True] * 3 + [False] * 3)
    for kappa, v in zip(found.weight_decay.values, np.abs(found.v[:, 0].values), strict=True):
        assert (1 - 2 * alpha * v**3) * v == pytest.approx(kappa, abs=1e-8)


def test_pitchfork(start):
    """At sigma = 0.622 the neurons of each class become equally long: eight symmetries instead of two.

    Beyond it the symmetric solution is stable; as a solution at lower sigma it is not.
    """
    found = curve(XOR, RELU, SGD, "sigma", [0.4, 0.6, 0.7], start.state)
    assert found.pitchfork.values.tolist() == [False, False, True, False]
    assert 0.62 < found.sigma[2] < 0.625
    lengths = np.sqrt(np.diag(found.Q[-1].values))
    assert np.ptp(lengths) < 1e-9
    assert bool(found.stable[-1])
    end = found.isel(point=-1)
    back = curve(Mixture.xor(0.7), RELU, SGD, "sigma", [0.7, 0.5], OrderParameters(end.M, end.Q, end.v))
    assert not bool(back.stable[-1])
    assert np.ptp(np.diag(back.Q[-1].values)) < 1e-8


def test_a_branch_that_ends():
    """Decay beyond the largest gain of a neuron, max |E[y relu(u x)]| over directions u: the weights vanish there."""
    first = fixed_point(XOR, RELU, GradientFlow(weight_decay=0.05), seed=1)
    with pytest.raises(FixedPointError, match=r"the branch ends at weight_decay = 0\.17") as caught:
        curve(XOR, RELU, GradientFlow(), "weight_decay", [0.05, 0.15, 0.3], first.state)
    assert np.abs(caught.value.state.Q).max() < 0.01


def test_bad_input_is_named(start):
    with pytest.raises(ValueError, match=r"parameter must be one of sigma, .*, got 'eta'"):
        curve(XOR, RELU, SGD, "eta", [0.1])
    with pytest.raises(ValueError, match=r"values must increase or decrease throughout, got \[0.4, 0.6, 0.5\]"):
        curve(XOR, RELU, SGD, "sigma", [0.4, 0.6, 0.5])
    with pytest.raises(ValueError, match=r"guess must have M of shape \(clusters, K\) = \(4, 3\)"):
        curve(XOR, TwoLayer(3, "relu"), SGD, "sigma", [0.4, 0.5], start.state)
    with pytest.raises(ValueError, match="parameter 'label_noise' is none of GradientFlow"):
        curve(XOR, RELU, GradientFlow(), "label_noise", [0.1, 0.2], start.state)
    with pytest.raises(ValueError, match="sigma must be finite and > 0, got -1"):
        curve(XOR, RELU, SGD, "sigma", [-1.0, 0.5])


def test_a_branch_takes_refusals_of_the_problem_for_its_end_and_no_other_error(monkeypatch):
    """Where a value is not allowed there are no rates; an error in the equations is one."""
    branch = _Branch((Mixture.two_clusters(1.0), TwoLayer(1, "linear"), GradientFlow(second_lr=0.0)), "sigma", [1.0, 2])
    guess = OrderParameters([[0.5], [-0.5]], [[0.25]], [1.0])
    branch.origin = branch.system(1.0)
    branch.origin.start(guess)
    u = np.append(branch.origin.x0, 1.0)
    assert np.isfinite(branch.rates(u)).all()
    assert np.isnan(branch.rates(u * [1.0, -1.0])).all()

    def fail(*_):
        raise ValueError("a mistake")

    monkeypatch.setattr(type(branch.origin), "rates", fail)
    with pytest.raises(ValueError, match="a mistake"):
        branch.rates(u)
