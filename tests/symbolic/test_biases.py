"""The derivation of thresholds and intercept: their gradients, and what a shift of the output makes of a loss."""

import sympy

from quenched.symbolic.learners.biases import F0, F1, moves, rates, shifted, slope
from quenched.symbolic.learners.two_layer import P, a, dg, g, k, phi, s, v


def test_gradients_are_those_of_the_output() -> None:
    """phi = s v g(h + b) + c."""
    found = moves()
    assert found == {"lambda": s * v[k] * dg(k), "v": s * g(k), "b": s * v[k] * dg(k), "c": 1}


def test_the_slope_of_the_square_loss_is_output_minus_label() -> None:
    """E_a[phi - y], with phi = s sum_i v_i g_i, where F0 = -y and F1 = 1."""
    y = sympy.Symbol("y")
    found = slope().subs({F0[a]: -y, F1[a]: 1})
    (average,) = [f for f in found.atoms(sympy.Indexed) if str(f.base) == "g"]
    i = average.indices[1]
    assert sympy.expand(found - (s * v[i] * average - y)) == 0


def test_rates_are_gradients_and_decay() -> None:
    """Each is linear in its own rate, and decays at it times its own decay."""
    db, dc = rates()
    for rate, eta, kappa, x in ((db, "eta_b", "kappa_b", "b"), (dc, "eta_c", "kappa_c", "c")):
        eta_, kappa_ = (sympy.Symbol(name, positive=True) for name in (eta, kappa))
        decay = sympy.expand(rate).coeff(kappa_)
        assert str(decay) in (f"-eta_{x}*{x}[k]", f"-{x}*eta_{x}")
        assert sympy.Poly(sympy.expand(rate), eta_).degree() == 1
        assert rate.has(P[a])


def test_a_shifted_loss_is_the_loss_at_the_shifted_output() -> None:
    """F0 + F1 phi and S0 + S1 phi + S2 phi^2 with the coefficients of `shifted`, at phi, and without at phi + c."""
    c = sympy.Symbol("c", real=True)
    plain = {name: sympy.IndexedBase(name)[a] for name in ("F0", "F1", "S0", "S1", "S2")}
    moved = plain | shifted()
    assert set(shifted()) == {"F0", "S0", "S1"}
    for letter, degree in (("F", 1), ("S", 2)):
        at = [
            sum(table[f"{letter}{n}"] * x**n for n in range(degree + 1))
            for table, x in ((moved, phi), (plain, phi + c))
        ]
        assert sympy.expand(at[0] - at[1]) == 0
