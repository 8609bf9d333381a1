"""The derivation of the learning equations: from another rule follow other equations, and no formula is rewritten."""

import sympy

from quenched.symbolic.learners.two_layer import (
    AVERAGES,
    P,
    equations,
    eta,
    eta_v,
    kappa,
    kappa_v,
    noise,
    s,
    sigma2,
    v,
    y,
)


def test_the_averages_are_those_of_the_theory():
    assert AVERAGES == ("ddg", "dg", "g", "ddg,g", "dg,dg", "dg,g", "g,g", "dg,dg,g", "dg,dg,g,g")


def test_diffusion_is_second_order_and_flow_first():
    found = equations()
    assert sympy.expand(found.diffusion.coeff(eta, 2) * eta**2 - found.diffusion) == 0
    for rate, name in zip(found.flow, (eta, eta, eta_v), strict=True):
        assert sympy.Poly(sympy.expand(rate), name).degree() == 1


def test_label_noise_only_heats():
    """Noise of the label leaves the flow and adds Delta^2 eta^2 s^2 v_k v_l sigma^2 E[g'_k g'_l] to the diffusion."""
    found = equations()
    assert not any(rate.has(noise) for rate in found.flow)
    extra = sympy.expand(found.diffusion).coeff(noise, 2)
    (average,) = [f for f in extra.atoms(sympy.Indexed) if str(f.base) == "dg_dg"]
    a, k, l = average.indices
    assert extra == eta**2 * s**2 * P[a] * sigma2[a] * v[k] * v[l] * average


def test_decay_acts_on_each_layer_alone():
    dR, dQ, dv = equations().flow
    assert dR.has(kappa)
    assert dQ.has(kappa)
    assert not dR.has(kappa_v)
    assert dv.has(kappa_v)
    assert not dv.has(kappa)


def test_polynomial_losses_need_no_new_formula():
    correlation = equations(lambda output, target: -output * target)
    assert "dg,g" not in correlation.patterns  # a loss linear in the output does not see it
    assert correlation.patterns == ("ddg", "dg", "g", "dg,dg")
    quartic = equations(lambda output, target: (output - target) ** 4 / 4)
    assert max(len(pattern.split(",")) for pattern in quartic.patterns) == 8  # g' g' and six g


def test_risk_is_the_average_loss():
    (a,) = {f.indices[0] for f in equations().risk.atoms(sympy.Indexed) if str(f.base) == "P"}
    assert equations().risk.subs(s, 0) == P[a] * y[a] ** 2 / 2
