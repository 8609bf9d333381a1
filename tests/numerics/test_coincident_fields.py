"""Singular states: repeated, opposite and constant fields; and what is stated about errors, as the state grows."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import erf

from quenched.numerics import Mixture, OnlineSGD, OrderParameters, Teacher, TwoLayer, drift
from quenched.numerics.averages.activations import (
    PAIR_ERROR,
    activation_functions,
    activation_value,
    averages,
    step_error,
    tables,
    value_averages,
)
from quenched.numerics.averages.coincident_fields import consistent, distinct, relative_error
from quenched.numerics.averages.multiprecision import precise_averages
from quenched.numerics.random_features import hermite_orders

pytestmark = pytest.mark.usefixtures("derived_here")

RNG = np.random.default_rng(0)
B = RNG.standard_normal((3, 3))
MEAN, COVARIANCE = RNG.standard_normal(3) * 0.5, B @ B.T / 3 + 0.2 * np.eye(3)
ACTIVATIONS = ["relu", "leaky_relu", "abs", "erf", "Max(x-0.37,0)+0.21*x", "exp(-0.4*x**2)+x/5"]


def chosen(table, index):
    return table[np.ix_(np.arange(len(table)), *[index] * (table.ndim - 1))]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("index", [[0, 0, 1, 2], [1, 0, 1, 2], [0, 1, 1, 1], [2, 2, 1, 1]], ids=str)
def test_repeated_fields_are_coinciding_indices(activation, index):
    """Up to roundings of the covariances, of a few 1e-16 each as products of weights have them."""
    index = np.array(index)
    expected = tables(activation, MEAN[None], COVARIANCE[None])
    wobble = 1 + np.finfo(float).eps * RNG.integers(-1, 2, size=(4, 4))
    covariance = COVARIANCE[np.ix_(index, index)] * (wobble + wobble.T) / 2
    found = tables(activation, MEAN[index][None], covariance[None])
    for pattern, table in expected.items():
        size = max(1.0, np.abs(table).max())
        assert np.abs(found[pattern] - chosen(table, index)).max() < 1e-12 * size, pattern


@pytest.mark.parametrize("slot", range(4))
@pytest.mark.parametrize("value", [0.0, 0.37, 0.8])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_constant_field_is_a_factor(activation, value, slot):
    """E[f(m) F] = f(m) E[F], every factor being that of the field at m: g' at a kink is the mean of both sides."""
    g, dg = activation_functions(activation)
    factors = {"g": float(g(value)), "dg": float(dg(value))}
    free = [k for k in range(4) if k != slot]
    mean, covariance = np.zeros(4), np.zeros((4, 4))
    mean[free], mean[slot], covariance[np.ix_(free, free)] = MEAN, value, COVARIANCE
    found = tables(activation, mean[None], covariance[None])
    rest = tables(activation, MEAN[None], COVARIANCE[None])
    compared = 0
    for pattern, table in found.items():
        parts = pattern.split(",")
        if "ddg" in parts:
            continue
        for place in np.ndindex(table.shape[1:]):
            left = [(f, free.index(k)) for f, k in zip(parts, place, strict=True) if k != slot]
            constant = np.prod([factors[f] for f, k in zip(parts, place, strict=True) if k == slot])
            name = ",".join(f for f, _ in left)
            if len(left) < len(parts) and (not left or name in rest):
                other = rest[name][(0, *(k for _, k in left))] if left else 1.0
                assert abs(table[(0, *place)] - constant * other) < 1e-12 * max(1.0, abs(other))
                compared += 1
    assert compared > 20


def test_drift_with_a_weight_of_zero():
    """dQ_kk of a neuron without weight: eta^2 v^2 g'(0)^2 E[(phi - y)^2], g'(0) = 0.65 being that of the simulation.

    The closed form took E[g'^2] from both sides of the kink, 0.6725.
    """
    text, v, eta = "Max(x,0)*exp(-0.45*x**2)+0.15*x", 0.8, 0.7
    mixture, network = Mixture.two_clusters(sigma=1.0), TwoLayer(1, text)
    found = drift(mixture, network, OnlineSGD(lr=eta), OrderParameters(M=[[0.0], [0.0]], Q=[[0.0]], v=[v]))
    assert abs(found.Q[0, 0] - eta**2 * v**2 * 0.65**2) < 1e-13


def test_opposite_fields_keep_their_digits():
    """relu(x) - relu(-x) = x: of a pair of opposite neurons, one linear one, with a third neuron of its own."""
    mean, covariance = MEAN[[0, 0, 1]] * [1, -1, 1], COVARIANCE[np.ix_([0, 0, 1], [0, 0, 1])]
    covariance *= np.multiply.outer([1, -1, 1], [1, -1, 1])
    found = tables("relu", mean[None], covariance[None])
    linear = MEAN[0]
    assert abs(found["g"][0, 0] - found["g"][0, 1] - linear) < 1e-14
    assert abs(found["g,g"][0, 0, 1]) < 1e-14
    assert abs(found["dg,dg,g"][0, 0, 1, 2]) < 1e-13
    assert abs(found["dg,dg,g,g"][0, 0, 2, 0, 1]) < 1e-13
    assert abs(found["dg,dg,g"][0, 0, 2, 2] + found["dg,dg,g"][0, 1, 2, 2] - found["dg,g"][0, 2, 2]) < 1e-13
    assert relative_error(mean[None], covariance[None]) < 1e-13


@pytest.mark.parametrize(("angle", "limit"), [(1.0, 2), (1e-4, 2), (1e-6, 2), (1.0, 4)])
def test_what_roundings_change_in_averages_over_fields_in_a_plane(angle, limit):
    """Four fields of two weights, of which two are nearly parallel, at covariances that differ by an eps or two.

    A bound for averages over pairs, which do not see that all are singular: 1e-14 where no two are parallel.
    """
    w = np.array([[1.0, 0.0], [np.cos(angle), np.sin(angle)], [-0.3, 1.1], [0.8, -0.7]])
    mean, covariance = w @ [0.3, -0.2], w @ w.T
    stated = relative_error(mean[None], covariance[None], limit)
    expected, random = tables("relu", mean[None], covariance[None], limit), np.random.default_rng(1)
    gap = 0.0
    for _ in range(20):
        wobble = 1 + np.finfo(float).eps * random.integers(-1, 2, size=(4, 4))
        found = tables("relu", mean[None], covariance * (wobble + wobble.T)[None] / 2, limit)
        patterns = [p for p in found if "ddg" not in p]  # of size 1, as those are not where fields are parallel
        gap = max(gap, *(np.abs(found[p] - expected[p]).max() for p in patterns))
    assert gap < stated < (1e-13 if angle == limit - 1 else 1e-7)


def test_only_what_is_the_same_everywhere_is_merged():
    mean = np.array([[0.3, 0.3, -0.3], [0.2, 0.1, -0.2]])
    covariance = np.array([np.outer([1.0, 1, -1], [1, 1, -1])] * 2)
    kept, place = distinct(mean, covariance)
    assert (kept.tolist(), place.tolist()) == ([0, 1, 2], [0, 1, 2])
    _, given, regular = consistent(mean, covariance)
    assert (given[1, 0, 2], given[1, 0, 0]) == (-1.0, 1.0)
    assert regular[1, 0, 2] == -regular[1, 0, 0] == -regular[1, 2, 2]
    assert np.linalg.eigvalsh(regular[0])[0] > -1e-15


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e6])
@pytest.mark.parametrize("activation", ["he3", "relu", "Max(x-0.37,0)+0.21*x"])
def test_errors_grow_with_the_state(activation, scale):
    """Of two fields, to `PAIR_ERROR` of the product of their root mean squares, against 25 digits."""
    mean, covariance = MEAN[:2] * np.sqrt(scale), COVARIANCE[:2, :2] * scale
    found = tables(activation, mean[None], covariance[None], limit=2)
    precise = precise_averages(averages(activation), 2, mean, covariance, 25)
    rms = {f: np.sqrt(np.diagonal(found[f"{f},{f}"][0])) for f in ("g", "dg")}
    for pattern in ("g,g", "dg,g", "dg,dg"):
        one, other = pattern.split(",")
        gap = abs(float(precise[pattern]) - found[pattern][0, 0, 1])
        assert gap <= PAIR_ERROR * rms[one][0] * rms[other][1]
    stated = step_error(found, mean[None], covariance[None], np.ones(2), np.ones(1), 2)
    assert stated >= PAIR_ERROR * (rms["dg"] * rms["g"]).max()


# --- without a closed form, and without a derivative


@pytest.mark.parametrize("text", ["sigmoid(x+0.3)", "softplus(x-0.1)", "Abs(x)**1.2", "Abs(sin(x))"])
def test_sampled_averages_are_within_their_error(text):
    """dv/dt = -eta sum_a P_a E_a[g (v g - y)] by quadrature; five standard errors, of 1e-3 where g' has many jumps."""
    g = activation_value(text)
    assert not averages(text).groups
    kinks = [float(position) for position, _ in averages(text).jumps]
    m, Q, v, eta = 0.4, 1.3, 0.7, 0.5
    mixture = Mixture.two_clusters(sigma=1.0)
    M = mixture.labels[:, None] * m
    found = drift(mixture, TwoLayer(1, text), OnlineSGD(lr=eta), OrderParameters(M=M, Q=[[Q]], v=[v]))
    total = 0.0
    for weight, label, mean in zip(mixture.weights, mixture.labels, M[:, 0], strict=True):

        def integrand(x, label=label, mean=mean):
            return g(x) * (v * g(x) - label) * np.exp(-((x - mean) ** 2) / (2 * Q)) / np.sqrt(2 * np.pi * Q)

        ends = sorted({-12.0, 12.0, *(k for k in kinks if abs(k) < 12)})
        total += weight * sum(quad(integrand, *pair, epsabs=1e-12)[0] for pair in pairwise(ends))
    assert abs(found.v[0] + eta * total) < 5 * found.error + 1e-9
    assert found.error < 1e-3


def test_a_teacher_may_be_a_sign():
    """K = 1 erf student, y = sign(nu): given lambda, E y = erf(E[nu | lambda]/sqrt(2 Var)), all by quadrature."""
    Q, R, v, eta = 1.2, 0.6, 0.9, 0.5
    mixture = Mixture(np.zeros((1, 1)), teacher=Teacher(weights=[[1.0]], v=[1.0], activation="sign(x)"))
    state = OrderParameters(M=[[0.0]], Q=[[Q]], v=[v])
    rate = drift(mixture, TwoLayer(1, "erf"), OnlineSGD(lr=eta), _aligned(mixture, state, R))
    g, dg = activation_functions("erf")

    def average(function):
        def integrand(x):
            taught = erf(R * x / Q / np.sqrt(2 * (1 - R * R / Q)))
            return function(x, taught) * np.exp(-x * x / (2 * Q)) / np.sqrt(2 * np.pi * Q)

        return quad(integrand, -14, 14, epsabs=1e-13)[0]

    dv = -eta * average(lambda x, y: g(x) * (v * g(x) - y))
    dQ = -2 * eta * v * average(lambda x, y: dg(x) * x * (v * g(x) - y))
    dQ += eta**2 * v**2 * average(lambda x, y: dg(x) ** 2 * (v * v * g(x) ** 2 - 2 * v * g(x) * y + 1))
    assert abs(rate.v[0] - dv) < 1e-9
    assert abs(rate.Q.sum() - dQ) < 1e-9


def _aligned(mixture, state, R):
    """The state with overlap R with the teacher, in its one node."""
    from quenched.numerics import Densities

    return Densities(A=np.array([[[R]]]), Q=state.Q[None], v=state.v)


def test_steps_make_random_features_but_do_not_learn():
    found = hermite_orders("sign(x)", 0.0, 1.0)
    assert abs(found[0][1] - np.sqrt(2 / np.pi)) < 1e-12
    assert value_averages("Heaviside(x-0.5)").places == ({"g": 0, "g*g": 0}, {"g,g": 0})
    with pytest.raises(ValueError, match="jumps"):
        averages("sign(x)")
    with pytest.raises(ValueError, match="jumps"):
        drift(
            Mixture.two_clusters(sigma=1.0),
            TwoLayer(1, "sign(x)"),
            OnlineSGD(lr=1.0),
            OrderParameters(M=[[0.4], [-0.4]], Q=[[1.0]], v=[1.0]),
        )


def test_a_built_in_is_the_same_however_it_is_written():
    assert averages("Max(0, x)") is averages("relu")
    assert averages("(x + Abs(x))/2") is averages("relu")
