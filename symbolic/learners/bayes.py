r"""Bayes-optimal learning: what n = alpha D labelled samples of a mixture with unknown means can teach at all.

    x | a ~ N(mean_a, sigma^2),  mean_a = sum_k A_ak v_k,  v_k ~ N(0, 1/D) per component,   k = 1..K

A, the weights, the labels of the clusters and sigma are known; the v_k are not, and of a sample only its label is.  The
means have the Gram matrix A A^T as D -> infinity, the same for a spherical prior.  The posterior mean has the overlaps
Q_kl = vhat_k.v_l, at which the free energy per dimension, less that of pure noise, is -phi, with

    phi = extr { 1/2 [tr Lam - log det(1 + Lam)] - 1/2 tr(Lam Q) + alpha sum_y P_y Psi_y(Q) }
    Psi_y = sum_(a0 in y) p(a0|y) E log sum_(a in y) p(a|y) exp(h_a)
    h_a = A_a.Q A_a0/sigma^2 - A_a.Q A_a/(2 sigma^2) + x_a,    x ~ N(0, A Q A^T/sigma^2)

and the saddle point Q = Lam (1 + Lam)^-1, Lam = (alpha/sigma^2) sum_y P_y E[<A><A>^T], <A> the posterior mean of A_a
given h and the label.  Where there are several solutions, the one of the least free energy is what can be learned; the
one that is reached from Q = 0 is what algorithms such as message passing learn.
"""

from __future__ import annotations

import sympy
from sympy import Integer, Rational, Symbol, exp, log

from quenched.symbolic.calculus.gaussian import GaussianAlgebra
from quenched.symbolic.calculus.replica import channel_limit, common_part, heat, pairing_limit, saddle
from quenched.symbolic.language.latex import in_letters
from quenched.symbolic.language.notation import Derived, Formula, Positive, Real, Step

__all__ = ["FORMULAS", "NOTATION", "ORDER", "PART", "STATUS", "TITLE", "derivations"]

TITLE = "Bayes-optimal learning"
PART, ORDER = "replica", 1
STATUS = "Replica symmetric; potentials of this kind were proved by Lelarge and Miolane 2019."
NOTATION = {
    "lam": r"\Lambda",
    "second_moment": "S",
    "weight": "P",
    "cross": "k_{a0}",
    "own": "k_{aa}",
    "field": "x_{a}",
    "k_1": r"\tilde k_{aa}",
    "x_0": r"\tilde x_{a}",
    "growth": "g",
    "power": "l",
}
latex = in_letters(NOTATION)
HALF = Rational(1, 2)


def exponent(cross: Real, own: Real, field: Real) -> Derived:
    """h_a, the log likelihood ratio of cluster a against pure noise, averaged over what is unknown of the means.

    cross = A_a.Q A_a0/sigma^2, own = A_a.Q A_a/sigma^2, field = x_a.  With a tilde: the part of the means that the
    estimate leaves open, of overlap 1 - Q.
    """
    unknown, u = Symbol("k_1", nonnegative=True), Symbol("x_0", real=True)
    law = GaussianAlgebra((u,), (Integer(0),), ((unknown,),), printed=latex)
    average = sympy.powsimp(law.average(exp(u)) * exp(field + cross - (own + unknown) / 2))
    value = sympy.expand(log(average), force=True)
    value = sympy.simplify(sympy.expand_log(value, force=True))
    if sympy.simplify(value - (cross - own / 2 + field)) != 0:
        raise AssertionError(f"the averaged likelihood ratio is exp({value})")
    ratio = r"\mathrm{mean}_a\cdot x/\sigma^2 - |\mathrm{mean}_a|^2/(2\sigma^2)"
    steps = (
        Step("Likelihood ratio", rf"{ratio} = {latex(field + cross + u - (own + unknown) / 2)}"),
        Step("Average over the unknown part of the means", rf"E\, e^{{{latex(u)}}} = {latex(law.average(exp(u)))}"),
    )
    return Derived(cross - own / 2 + field, steps=steps)


def _posterior_prior() -> tuple[sympy.Expr, tuple[Step, ...]]:
    """E log of the integral over one component v ~ N(0, 1) seen with signal-to-noise ratio lam, v0 the true one."""
    lam, v, g = Symbol("lam", positive=True), Symbol("v", real=True), Symbol("g", real=True)
    inside = -(1 + lam) * v**2 / 2 + g * v
    (best,) = sympy.solve(inside.diff(v), v)
    gaussian = sympy.simplify(inside.subs(v, best)) - log(1 + lam) / 2
    x = Symbol("x_0", real=True)  # g = lam v0 + sqrt(lam) xi
    law = GaussianAlgebra((x,), (Integer(0),), ((lam**2 + lam,),), printed=latex)
    square = law.average(x**2) / g**2
    value = sympy.simplify(sympy.expand(gaussian * 1).coeff(g, 2) * square * g**2 - log(1 + lam) / 2)
    steps = (
        Step("One component of the means", rf"\log\int Dv\, e^{{-\Lambda v^2/2 + g v}} = {latex(gaussian)}"),
        Step("Planted field", rf"g = \Lambda v_0 + \sqrt\Lambda\,\xi:\quad E = {latex(value)}"),
    )
    return value, steps


def prior(lam: Positive) -> Derived:
    """(lam - log(1 + lam))/2, summed over the eigenvalues of Lam: the prior's term in phi."""
    value, steps = _posterior_prior()
    return Derived(value.subs(Symbol("lam", positive=True), lam), steps=steps)


def overlap(lam: Positive) -> Derived:
    """Q = Lam (1 + Lam)^-1, eigenvalue by eigenvalue."""
    Q = Symbol("Q", positive=True)
    potential = prior(lam).value - lam * Q / 2
    value, step = saddle(potential, lam, Q)
    return Derived(sympy.factor(value), steps=(step,))


def pair(lam: Positive, Q: Positive) -> sympy.Expr:
    """-lam Q/2, summed over eigenvalues: the conjugate pair's term in phi."""
    return -lam * Q / 2


def _nishimori() -> tuple[Step, ...]:
    """dPsi = 1/2 sum_ab E[pi_a pi_b] dk_ab, proved for two clusters of any weights and any Gram matrix k(t).

    The fields of a sample of cluster a0 have the density of those of pure noise, N(-k_aa/2, k), times exp(x_a0): so
    all averages are taken over pure noise, with the factor p_a0 exp(x_a0).
    """
    t = Symbol("t", real=True)
    x = sympy.symbols("x_1:3", real=True)
    p = sympy.symbols("p_1:3", positive=True)
    k = sympy.Matrix(2, 2, lambda a, c: sympy.Function(f"k_{min(a, c) + 1}{max(a, c) + 1}")(t))
    base = [-k[a, a] / 2 for a in range(2)]
    total = sum(p[a] * exp(x[a]) for a in range(2))
    gain: sympy.Expr = Integer(0)
    inverse = k.inv()
    for a0 in range(2):
        means = [base[a] + k[a, a0] for a in range(2)]
        exponents = []
        for centre in (means, base):
            gap = sympy.Matrix([x[a] - centre[a] for a in range(2)])
            exponents.append(-(gap.T * inverse * gap)[0] / 2)
        if sympy.simplify(exponents[0] - exponents[1] - x[a0]) != 0:
            raise AssertionError("a sample's density over that of noise is not exp(x_a0)")
        gain += p[a0] * exp(x[a0]) * heat(log(total), x, means, k, t)
    pi = [p[a] * exp(x[a]) / total for a in range(2)]
    wanted = sum(pi[a] * pi[c] * k[a, c].diff(t) for a in range(2) for c in range(2)) / 2
    if sympy.simplify(gain - total * wanted) != 0:
        raise AssertionError("the derivative of the channel average is not that of the Nishimori identity")
    return (
        Step(
            "Tilting",
            r"N(x; k_{\cdot a_0} - \tfrac12 k_{\cdot\cdot}, k) = e^{x_{a_0}} N(x; -\tfrac12 k_{\cdot\cdot}, k)",
        ),
        Step(
            "Heat equation",
            r"d\Psi = \sum_{a_0} p_{a_0} E_{a_0}\bigl[\pi_a\,dk_{a a_0} - \tfrac12 \pi_a\pi_c\,dk_{ac}\bigr]",
        ),
        Step(
            "Nishimori identity",
            r"d\Psi = \tfrac12 E[\pi_a\pi_c]\,dk_{ac},\quad \pi_a = p_a e^{h_a}/\textstyle\sum_c p_c e^{h_c}",
        ),
    )


def conjugate(alpha: Positive, sigma: Positive, weight: Positive, second_moment: Real) -> Derived:
    """The term of a label in Lam: weight = P_y, second_moment = E[<A_k><A_l>] over its samples."""
    Q, lam = Symbol("Q", positive=True), Symbol("lam", positive=True)
    channel = sympy.Function("Psi")(Q)
    slope = HALF * second_moment * (Q / sigma**2).diff(Q)  # dPsi = 1/2 E[pi_a pi_c] dk_ac, k_ac = A_a Q A_c/sigma^2
    potential = -lam * Q / 2 + alpha * weight * channel
    (value,) = sympy.solve(potential.diff(Q), lam)
    value = value.subs(channel.diff(Q), slope)
    steps = (
        *_nishimori(),
        Step(
            "Derivative by Q",
            rf"\Lambda = \frac{{\alpha}}{{\sigma^2}} P_y E[\langle A\rangle\langle A\rangle^T] = {latex(value)}",
        ),
    )
    return Derived(value, steps=steps)


def critical_alpha(sigma: Positive, growth: Positive) -> Derived:
    """The alpha beyond which Q = 0 is unstable, where all labels have the mean 0.

    growth: the largest eigenvalue of the map Q -> sum_y P_y C_y Q C_y, C_y = sum_(a in y) p(a|y) A_a A_a^T.
    """
    epsilon, alpha, Q = sympy.symbols("epsilon alpha Q", positive=True)
    x = sympy.symbols("x_1:3", real=True)
    p, A = sympy.symbols("p", positive=True), sympy.symbols("A", real=True)
    weights, means = (p, 1 - p), ((1 - p) * A, -p * A)  # two clusters of mean 0
    total = sum(w * exp(epsilon * field) for w, field in zip(weights, x, strict=True))
    average = sum(w * mean * exp(epsilon * field) for w, mean, field in zip(weights, means, x, strict=True)) / total
    first = sympy.simplify(average.diff(epsilon).subs(epsilon, 0))
    covariance = sympy.Matrix(2, 2, lambda a, c: means[a] * means[c] * Q / sigma**2)
    law = GaussianAlgebra(fields := sympy.symbols("x_0:2", real=True), (0, 0), covariance.tolist(), printed=latex)
    second = sympy.simplify(law.average(sympy.expand(first.subs(dict(zip(x, fields, strict=True))) ** 2)))
    C = sum(w * mean**2 for w, mean in zip(weights, means, strict=True))
    if sympy.simplify(second - C**2 * Q / sigma**2) != 0:
        raise AssertionError("the posterior mean does not grow like C Q C")
    lam = conjugate(alpha, sigma, Integer(1), growth * Q / sigma**2).value
    response = overlap(Symbol("lam", positive=True)).values[0]
    slope = response.diff(Symbol("lam", positive=True)).subs(Symbol("lam", positive=True), 0)
    (value,) = sympy.solve(slope * lam - Q, alpha)
    steps = (
        Step(
            "First order in the fields",
            r"\langle A\rangle = \sum_a p_a A_a x_a,\quad E[\langle A\rangle\langle A\rangle^T] = C Q C/\sigma^2",
        ),
        Step("Growth of a small Q", rf"\Lambda = {latex(lam)},\quad Q = \Lambda + O(\Lambda^2)"),
    )
    return Derived(value, steps=steps)


def two_clusters(alpha: Positive, sigma: Positive) -> Derived:
    """Q where every label has one cluster, of means ±1 (closed form, for reading and for tests)."""
    lam = conjugate(alpha, sigma, Integer(1), Integer(1)).value
    value = sympy.factor(overlap(Symbol("lam", positive=True)).values[0].subs(Symbol("lam", positive=True), lam))
    return Derived(value, steps=(Step("One cluster for each label", r"\langle A\rangle = A"),))


def opposite_means(power: Positive, field: Real) -> Derived:
    """The integrand of dPsi/dl where a label has the means ±A, l = power = A^2 Q/sigma^2, at h = ±field.

    Psi = E log cosh(l + sqrt(l) z) - l/2: half of E tanh^2 = E tanh (closed form, for reading and for tests).
    """
    slope = heat(log(sympy.cosh(field)) - power / 2, [field], [power], sympy.Matrix([[power]]), power)
    wanted = sympy.tanh(field) - sympy.tanh(field) ** 2 / 2
    if sympy.simplify((slope - wanted).rewrite(exp)) != 0:
        raise AssertionError(f"the slope is {slope}")
    steps = (
        Step("Heat equation", rf"d\Psi/dl = E\bigl[{latex(wanted)}\bigr]"),
        Step("Nishimori identity", r"E\tanh = E\tanh^2"),
    )
    return Derived(sympy.tanh(field) / 2, steps=steps)


def _replicated_prior(value: sympy.Expr) -> tuple[Step, ...]:
    """The integral over one component of n + 1 replicas, and its limit, which must be that of the planted field."""
    lam, n = Symbol("lam", positive=True), Symbol("n")
    for size in range(2, 6):  # n + 1 replicas, v_r ~ N(0, 1), with the weight exp(lam sum_(r<s) v_r v_s)
        precision = sympy.Matrix(size, size, lambda r, s: 1 if r == s else -lam)
        if sympy.expand(precision.det() - (1 + lam) ** (size - 1) * (1 - (size - 1) * lam)) != 0:
            raise AssertionError(f"the determinant is wrong for {size} replicas")
    logarithm = -(n * log(1 + lam) + log(1 - n * lam)) / 2
    limit = logarithm.diff(n).subs(n, 0)
    if sympy.simplify(limit - value) != 0:
        raise AssertionError(f"the replicas give {limit}, the planted field {value}")
    return (
        Step(
            "Entropy of the overlaps",
            r"\int \prod_{r=0}^n Dv_r\, e^{\Lambda\sum_{r<s} v_r v_s} = "
            r"\bigl[(1 + \Lambda)^n (1 - n\Lambda)\bigr]^{-1/2}",
        ),
        Step("Limit n to 0", rf"\tfrac1n\log \to {latex(limit)}"),
    )


def _state_evolution() -> tuple[Step, ...]:
    """The derivatives of the potential by Lam and by Q, one eigenvalue and one label."""
    lam, Q, alpha, sigma, weight, S = (
        Symbol(name, positive=True) for name in ("lam", "Q", "alpha", "sigma", "weight", "second_moment")
    )
    forward, backward = overlap(lam).value, conjugate(alpha, sigma, weight, S).value
    return (
        Step("Saddle point in the conjugate", rf"\partial\phi/\partial\Lambda = 0:\quad {latex(Q)} = {latex(forward)}"),
        Step(
            "Saddle point in the overlap",
            rf"\partial\phi/\partial Q = 0:\quad {latex(lam)} = \sum_y {latex(backward)},\quad "
            r"S = E[\langle A\rangle\langle A\rangle^T]",
        ),
        Step(
            "State evolution",
            r"Q^{t+1} = \Lambda^t(1 + \Lambda^t)^{-1},\quad \Lambda^t = \frac{\alpha}{\sigma^2}\sum_y P_y "
            r"E[\langle A\rangle\langle A\rangle^T](Q^t):\ \text{its fixed points are the saddle points}",
        ),
        Step(
            "Error",
            r"\text{a new input sees the means at } A\hat v,\ \hat v_k\cdot\hat v_l = Q_{kl}:\ "
            r"\text{the oracle error at the Gram matrix } A Q A^T",
        ),
    )


def derivations() -> list[Formula]:
    """The replica computation, from the posterior to the potential and its saddle point."""
    lam, Q, n = Symbol("lam", positive=True), Symbol("Q", positive=True), Symbol("n")
    value, prior_steps = _posterior_prior()
    pairing = -pairing_limit(Integer(0), lam * Q, n + 1, n)
    if sympy.expand(pairing - pair(lam, Q)) != 0:
        raise AssertionError(f"the conjugate pairs give {pairing}")
    steps = (
        Step(
            "Replicated partition function",
            r"Z = \int \prod_k Dv_k \prod_i "
            r"\frac{\sum_{a\in y_i} p_a N(x_i; \mathrm{mean}_a, \sigma^2)}{N(x_i; 0, \sigma^2)},"
            r"\quad E[Z^n] = \int \text{ over } n + 1 \text{ replicas, the true means being one of them}",
        ),
        Step(
            "Disorder average",
            r"\text{given } Q^{rs}_{kl} = v^r_k\cdot v^s_l,\ \text{the fields } v^r_k\cdot x/\sigma^2 "
            r"\text{ are Gaussian with the covariance } Q^{rs}/\sigma^2 \text{; the samples are independent}",
        ),
        Step(
            "Order parameters",
            r"1 = \int dQ\,d\Lambda\; e^{-\sum_{r<s}\Lambda^{rs}_{kl}(D Q^{rs}_{kl} - D v^r_k\cdot v^s_l)}:\ "
            r"\text{the components of the } v^r \text{ are independent, the exponent is } D \text{ times a function}",
        ),
        Step(
            "Replica symmetry",
            r"Q^{rs} = Q\ (r \ne s),\quad Q^{rr} = 1,\quad \Lambda^{rs} = \Lambda,\quad "
            r"\text{the true means like any replica (Nishimori)}",
        ),
        Step("Conjugate pairs", rf"-\tfrac1n\tfrac{{n(n+1)}}2\Lambda Q \to {latex(pairing)}"),
        *_replicated_prior(value),
        *prior_steps,
        common_part(Integer(1), Q),
        *exponent(*sympy.symbols("cross own field", real=True)).steps,
        channel_limit(),
        Step(
            "Channel",
            r"\tfrac1n\log E_{a_0,x}\Bigl[\prod_{r=1}^n\sum_{a\in y} p_a e^{h_a^r}\Bigr] \to "
            r"\Psi_y = \sum_{a_0} p_{a_0} E\log\sum_{a\in y} p_a e^{h_a}",
        ),
        Step(
            "Potential",
            rf"\phi = \operatorname{{extr}} \sum \Bigl[{latex(value - lam * Q / 2)}\Bigr] + \alpha\sum_y P_y \Psi_y(Q)",
        ),
        *_state_evolution(),
    )
    docstring = (
        "From the posterior to the potential: replicas of the posterior, their overlaps, n to 0; its saddle point.  "
        "k_ac = A_a.Q A_c/sigma^2 is the covariance of the fields x_a; a tilde marks the same of 1 - Q."
    )
    return [Formula("replica_computation", docstring, (), Derived(value - lam * Q / 2, steps=steps))]


FORMULAS = (exponent, prior, overlap, pair, conjugate, critical_alpha, two_clusters, opposite_means)
