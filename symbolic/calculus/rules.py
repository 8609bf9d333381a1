"""The rules by which averages over jointly normal fields are taken, each with its proof.

Fields x_0, x_1, ... have means m_i, covariances c_ij and the density N(x; m, c).  A form l is a sum of multiples of
fields and a constant; m_l is its mean, c_ll its variance, c_il its covariance with x_i.  H is Heaviside's step, Phi the
normal distribution function, z an independent unit normal variable.  An integrand F is a sum of products of
polynomials, steps, deltas, erf, Phi, exponentials of linear and of negative quadratic forms, sin and cos; its
derivatives d_i F are those of distributions.  No rule inverts a matrix, so that a singular covariance is a limit and no
special case.
"""

from __future__ import annotations

import sympy

from quenched.symbolic.language.notation import Derived, Formula, Step
from quenched.symbolic.language.prose import mathematics

__all__ = ["ORDER", "PART", "STATUS", "TITLE", "derivations"]

TITLE = "Rules"
PART, ORDER = "calculus", 1
STATUS = "Exact identities, for any covariance."

# name, as steps of a derivation cite it -> statements, proof
_RULES = {
    "Stein": (
        ("E[(x_i - m_i) F] = sum_j c_ij E[d_j F]",),
        """The density obeys (x_i - m_i) N = -sum_j c_ij d_j N.  Multiply by F, integrate, and move d_j to F by parts;
        what is left at infinity vanishes, for N decays faster than F grows.  A singular c is the limit of c + epsilon
        (Stein 1981).""",
    ),
    "Price": (
        ("dE[F]/dm_i = E[d_i F]", "dE[F]/dc_ij = E[d_i d_j F],   i != j", "dE[F]/dc_ii = E[d_i d_i F]/2"),
        """The Fourier transform of N is exp(i k.m - k.c k/2).  Its derivatives by m_i and c_ij are multiplications by i
        k_i and -k_i k_j, that is dN/dm_i = -d_i N and dN/dc_ij = d_i d_j N; integrate by parts.  The pair (i, j) stands
        twice in k.c k unless i = j (Price 1958).""",
    ),
    "Conditioning": (
        ("E[delta(l) F] = p_l(0) E[F | l = 0]", "p_l(0) = exp(-m_l^2/(2 c_ll))/sqrt(2 pi c_ll)"),
        """Integrate over l first: delta picks l = 0 out of the density p_l.  The residual x_i - m_i - (c_il/c_ll) (l -
        m_l) has no covariance with l and is normal, so it does not depend on l: given l = 0 the fields are normal, with
        the means m_i - c_il m_l/c_ll and the covariances c_ij - c_il c_jl/c_ll.""",
    ),
    "Tilting": (
        ("E[exp(-l^2/(2 s)) F] = sqrt(2 pi s) E[delta(l + sqrt(s) z) F]", "E[exp(l) F] = exp(m_l + c_ll/2) E'[F]"),
        """Given the fields, sqrt(2 pi s) times the density of l + sqrt(s) z at 0 is exp(-l^2/(2 s)); what follows is
        conditioning on a form with independent noise of variance s.  For the second, complete the square in the
        exponent of N exp(l): the means are m_i + c_il under E'.""",
    ),
    "Smoothing": (
        ("erf(l/sqrt 2) = 2 Phi(l) - 1", "Phi(l) = E_z[H(l + z)]"),
        """Phi(l) is the probability of z < l, by symmetry that of l + z > 0.  An average over the fields and z is one
        over jointly normal fields: a smooth step is a step of l + z, which has the variance c_ll + 1 and the
        covariances of l.""",
    ),
    "Orthant": (
        (
            "E[H(l_1) .. H(l_n)] = Phi_n(h_1, .., h_n; r_12, ..)",
            "h_i = m_i/sqrt(c_ii),   r_ij = c_ij/sqrt(c_ii c_jj)",
            "E[cos l] = cos(m_l) exp(-c_ll/2)",
            "E[sin l] = sin(m_l) exp(-c_ll/2)",
        ),
        """With m_i and c_ij those of the forms, l_i > 0 is (m_i - l_i)/sqrt(c_ii) < h_i, and the left-hand sides are
        unit normal variables of the correlations r_ij.  The waves are the real and the imaginary part of the
        characteristic function, exp(i m_l - c_ll/2).""",
    ),
    "By parts": (
        ("c_00 E[delta^(n)(x_0) G] = E[(x_0 - m_0) delta^(n-1)(x_0) G] - sum_j c_0j E[delta^(n-1)(x_0) d_j G]",),
        """This is Stein's rule for F = delta^(n-1)(x_0) G.  On the right x_0 delta^(n-1)(x_0) is
        -(n - 1) delta^(n-2)(x_0), so that all derivatives of delta there have a lower order.""",
    ),
}


def derivations() -> list[Formula]:
    """A section for each rule."""
    found = []
    for name, (statements, proof) in _RULES.items():
        steps = tuple(Step("Rule", mathematics(line).replace("   ", r"\quad ")) for line in statements)
        found.append(Formula(name, f"*Proof.* {' '.join(proof.split())}", (), Derived(sympy.Integer(0), steps=steps)))
    return found
