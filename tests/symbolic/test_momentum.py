"""The derivation of momentum: what is left of a step as D grows, and as the friction grows after it."""

import pytest
import sympy

from quenched.symbolic.calculus.increments import B, D, U, a, eta, k, l, rho, share, u
from quenched.symbolic.learners import momentum, two_layer
from quenched.symbolic.learners.two_layer import P, noise


def test_positions_move_along_velocities() -> None:
    found = momentum.rates()
    C, S, p = momentum.C, momentum.S, momentum.p
    assert found["R"] == S[u, two_layer.b, k]
    assert sympy.expand(found["Q"] - C[u, k, l] - C[u, l, k]) == 0
    assert found["v"] == p[momentum.o]


@pytest.mark.parametrize(("name", "order"), [("U", 0), ("C", -1), ("Q", -2)])
def test_the_noise_of_samples_heats_velocities_alone(name: str, order: int) -> None:
    """The term of |x|^2, which has rho: D^0 in U, and smaller by 1/D for each velocity that is replaced by a weight."""
    heated = [term for term in sympy.Add.make_args(momentum.increments()[name]) if term.has(rho[a, u])]
    assert len(heated) == 1
    assert sympy.degree(heated[0] * D**2, D) == order + 2
    limit = momentum.rates()[name]
    assert limit.has(noise) == (name == "U")
    if name == "U":
        heat = P[a] * eta[k] * eta[l] * noise[a, k, l] * rho[a, u] * share[u] / B
        assert sympy.expand(limit.coeff(noise[a, k, l]) * noise[a, k, l] - heat) == 0


def test_a_large_friction_is_plain_sgd_at_the_rate_over_it() -> None:
    """With the noise, of second order in the rate, and the bath."""
    plain, found = two_layer.equations(), momentum.overdamped()
    assert sympy.expand(found["R"] - plain.dR) == 0
    assert sympy.expand(found["Q"] - plain.dQ) == 0
    assert found["v"] == momentum.drive[momentum.o]


def test_the_force_on_velocities_is_that_of_the_plain_rule() -> None:
    """dS/dt + zeta S is dR/dt without momentum, and of dC_kl/dt the terms of w_k.p_l are half of dQ_kl/dt."""
    plain, found, zeta = two_layer.equations(), momentum.rates(), momentum.zeta
    assert sympy.expand(found["S"] + zeta * momentum.S[u, two_layer.b, k] - plain.dR) == 0
    half = found["C"] + zeta * momentum.C[u, k, l] - U[u, k, l]
    other = half.subs({k: l, l: k}, simultaneous=True).subs(momentum.Q[u, l, k], momentum.Q[u, k, l])
    rest = sympy.expand(plain.dQ - half - other)
    assert all(term.has(noise) or term.has(momentum.T) for term in sympy.Add.make_args(rest))
