"""The derivation of the learning equations: from another rule follow other equations, and no formula is rewritten."""

import numpy as np
import sympy

from quenched.symbolic.calculus.increments import B, D, I, T, eta, growth, inner_product, kappa, on_sphere
from quenched.symbolic.learners.two_layer import (
    AVERAGES,
    P,
    equations,
    eta_v,
    kappa_v,
    noise,
    quadratic,
    s,
    v,
    y,
)
from quenched.symbolic.losses import LABEL, NOISE, OUTPUT, Loss
from quenched.theory import two_layer


def test_the_averages_are_those_of_the_theory():
    assert AVERAGES == ("ddg", "dg", "g", "ddg,g", "dg,dg", "dg,g", "g,g", "dg,dg,g", "dg,dg,g,g")


def test_the_noise_of_samples_is_second_order_and_falls_with_the_batch():
    found = equations()
    k, l, o = (sympy.Idx(name) for name in "klo")
    second = sympy.expand(found.dQ).coeff(eta[k], 1).coeff(eta[l], 1)
    assert second.has(noise)
    rest = sympy.expand(found.dQ - eta[k] * eta[l] * second)
    assert not rest.has(noise)
    assert sympy.simplify(second.diff(B) + second / B) == 0
    one = sympy.Symbol("one")
    for rate, names in ((found.dR, (eta[k],)), (rest, (eta[k], eta[l])), (found.dv, (eta_v[o],))):
        scaled = sympy.expand(rate.subs({name: one * name for name in names}, simultaneous=True))
        assert sympy.Poly(scaled, one).monoms() == [(1,)]


def test_a_bath_heats_each_weight_alone_and_a_sphere_keeps_its_length():
    """dQ_kl/dt has 2 eta_k T on the diagonal, shared among the nodes; scaled back, the diagonal does not move."""
    found = equations()
    k, u = sympy.Idx("k"), sympy.Idx("u")
    assert sympy.expand(found.dQ).coeff(T, 1) == 2 * eta[k] * sympy.IndexedBase("share")[u] * I[k, sympy.Idx("l")]
    assert not found.dR.has(T)
    assert not found.dv.has(T)
    (_, held), (_, grown) = on_sphere(), growth()
    Q, squared, fraction = (sympy.IndexedBase(name) for name in ("Q", "squared", "growth"))
    diagonal = held.subs(sympy.Idx("l"), k).subs(fraction[k], grown)
    assert sympy.expand(diagonal.subs(squared[k], Q[u, k, k])) == 0  # of one node


def test_weights_scaled_back_move_as_the_generated_rates_say():
    """Weights of two nodes, moved by e dw and scaled back: differences in e leave e^2/6 f''', less than 1e-8 here."""
    rng = np.random.default_rng(5)
    w, dw, r = rng.normal(size=(2, 3, 6)), rng.normal(size=(2, 3, 6)), rng.normal(size=(2, 2, 6))

    def overlaps(e, back):
        moved = w + e * dw
        if back:
            moved *= np.sqrt((w**2).sum(axis=(0, 2)) / (moved**2).sum(axis=(0, 2)))[:, None]
        return np.einsum("ukx,ubx->ubk", moved, r) / 6, np.einsum("ukx,ulx->ukl", moved, moved) / 6

    def rates(back):
        return [(up - down) / 2e-5 for up, down in zip(overlaps(1e-5, back), overlaps(-1e-5, back), strict=True)]

    for found, expected in zip(two_layer.on_sphere(*overlaps(0, False), *rates(False)), rates(True), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8)


def test_a_vector_of_the_bath_is_as_long_as_itself_alone():
    one, share = sympy.Integer(1), sympy.IndexedBase("share")[sympy.Idx("u")]
    for name in ("xi_k", "xi_l"):
        assert inner_product({name: one}, {name: one}) == D * share
    assert inner_product({"xi_k": one}, {"xi_l": one}) == D * share * I[sympy.Idx("k"), sympy.Idx("l")]


def test_label_noise_only_heats():
    """Noise of the label adds Delta^2 s^2 v_k v_l E[g'_k g'_l] to the noise of a step, and nothing else."""
    step = equations().step
    assert not any(part.has(NOISE) for part in (step.force, step.response, step.readout))
    extra = sympy.expand(step.noise).coeff(NOISE, 2)
    (average,) = [f for f in extra.atoms(sympy.Indexed) if str(f.base) == "dg_dg"]
    _, k, l = average.indices
    assert extra == s**2 * v[k] * v[l] * average


def test_decay_acts_on_each_layer_alone():
    found = equations()
    assert found.dR.has(kappa)
    assert found.dQ.has(kappa)
    assert not found.dR.has(kappa_v)
    assert found.dv.has(kappa_v)
    assert not found.dv.has(kappa)


def test_any_quadratic_loss_is_the_generated_form():
    """The coefficients of a loss in the form for all losses of degree 2 give the equations derived from that loss."""
    for text in ("(phi - y)**2/2", "(1 - y*phi)**2/2", "-y*phi"):
        loss = Loss("one", text)
        direct = equations(lambda output, target, loss=loss: loss.expression.subs({OUTPUT: output, LABEL: target})).step
        names = [sympy.IndexedBase(name) for name in ("L0", "L1", "L2", "F0", "F1", "S0", "S1", "S2")]
        for name in ("force", "response", "noise", "readout", "risk"):
            found = getattr(quadratic().step, name)
            (a,) = {f.indices[0] for f in found.atoms(sympy.Indexed) if str(f.base)[0] in "LFS"}
            for array, value in zip(names, loss.coefficients, strict=True):
                found = found.subs(array[a], value.subs(LABEL, y[a]))
            assert sympy.expand(found - getattr(direct, name)) == 0


def test_polynomial_losses_need_no_new_formula():
    correlation = equations(lambda output, target: -output * target)
    assert "dg,g" not in correlation.step.patterns  # a loss linear in the output does not see it
    assert correlation.step.patterns == ("ddg", "dg", "g", "dg,dg")
    quartic = equations(lambda output, target: (output - target) ** 4 / 4)
    assert max(len(pattern.split(",")) for pattern in quartic.step.patterns) == 8  # g' g' and six g


def test_risk_is_the_average_loss():
    risk = equations().step.risk
    (a,) = {f.indices[0] for f in risk.atoms(sympy.Indexed) if str(f.base) == "P"}
    assert risk.subs(s, 0) == P[a] * y[a] ** 2 / 2
