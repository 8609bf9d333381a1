r"""Approximate message passing for the mixture of unknown means, and the spectral estimate that it can start from.

    x_i = A_(a_i) v^T + sigma z_i,  v (D, p) of components N(0, 1/D),  i = 1 .. n = alpha D,   of a_i the label is known

Belief propagation sends along each pair (i, j) what the sample i and the component j of v know without each other:
Gaussian fields B of the samples and b of the components, by the central limit theorem.  A message differs from the
estimate of its sender by one term of order D^-1/2; with the messages replaced by estimates, these terms add up to
memory (Onsager terms).  An estimate is a function f of its field: û_i = <A> under p(a|y_i) exp(A_a.B_i - A_a.K A_a/(2
sigma^2)), K = vhat^T vhat, and vhat_j = b_j (1 + Lam)^-1/D, Lam = û^T û/(sigma^2 D): the averages of the Bayes-optimal
potential, one sample at a time.
"""

from __future__ import annotations

import sympy
from sympy import Integer, Symbol

from quenched.symbolic.calculus.gaussian import GaussianAlgebra
from quenched.symbolic.language.latex import in_letters
from quenched.symbolic.language.notation import Derived, Positive, Real, Step

__all__ = ["FORMULAS", "NOTATION", "ORDER", "PART", "STATUS", "TITLE"]

TITLE = "Approximate message passing"
PART, ORDER = "replica", 4
STATUS = "State evolution is exact as D grows for messages of this kind (Bayati and Montanari 2011)."
NOTATION = {"product": "r", "memory": "m", "power": "c", "lam": r"\Lambda", "uhat": r"\hat u", "vhat": r"\hat v"}
latex = in_letters(NOTATION)


def field(product: Real, memory: Real, sigma: Positive) -> Derived:
    """The field of a sample, or of a component of v, from the estimates of all others.

    Of sample i: product = (X vhat)_i, memory = û'_i (1 + Lam')^-1, û' and Lam' of the iteration before.  Of component
    j: product = (X^T û)_j, memory = sum_i vhat_j Cov_i[A], vhat of the iteration before.
    """
    x, uhat, vhat, slope, total = sympy.symbols("x uhat vhat g G", real=True)
    b = Symbol("b", real=True)
    estimate = sympy.Function("f")  # of a field: û(B), or vhat(b), of slope g
    without = estimate(b - x * uhat / sigma**2).series(x, 0, 2).removeO().doit()
    without = without.subs(estimate(b).diff(b), slope).subs(estimate(b), vhat)
    sent = sympy.expand(x * without / sigma**2)  # to the sample, or component, that the message goes to
    if sympy.simplify(sent.coeff(x, 1) - vhat / sigma**2) != 0 or sent.coeff(x, 3) != 0:
        raise AssertionError(f"a message is not the estimate less a term of its receiver: {sent}")
    # Sum over the senders: x^2 averages to sigma^2, up to O(1/D); slopes add up to G
    onsager = sent.coeff(x, 2) * sigma**2
    value = product / sigma**2 + onsager.subs(slope, total)
    (wanted,) = sympy.solve(value - (product - memory) / sigma**2, memory)
    if sympy.simplify(wanted - total * uhat) != 0:
        raise AssertionError(f"the memory is {wanted}")
    steps = (
        Step(
            "Messages",
            rf"\hat v_{{j \to i}} = f(b_j - x_{{ij}} \hat u_i/\sigma^2) = {latex(without)} + O(x^2),\quad g = f'(b_j)",
        ),
        Step("Sum over the senders", r"\sum_j x_{ij}^2 g_j \to \sigma^2 G,\quad G = \textstyle\sum_j g_j"),
        Step("Onsager term", r"B_i = \textstyle\sum_j x_{ij} \hat v_{j\to i}/\sigma^2 "
             rf"= {latex((product - memory) / sigma**2)},\quad m = {latex(wanted)}"),
        Step("Slopes", r"\hat v = b\,(1 + \Lambda)^{-1}/D:\ G = (1 + \Lambda)^{-1};\qquad "
             r"\hat u = \langle A\rangle:\ g_i = \langle AA^T\rangle - \langle A\rangle\langle A\rangle^T"),
    )  # fmt: skip
    return Derived((product - memory) / sigma**2, steps=steps)


def spectral_weight(power: Positive, sigma: Positive) -> Derived:
    """w = C/(sigma^2 + C), where û = w X vhat: the weight of a sample's x x^T in the matrix of the spectral estimate.

    Where the means of a label average to 0, û = C B + O(B^2), C = sum_a p(a|y) A_a A_a^T; power is an eigenvalue of C.
    The fixed points of linear message passing are then eigenvectors of X^T diag(w) X.
    """
    epsilon, B = Symbol("epsilon", positive=True), Symbol("B", real=True)
    p, A = Symbol("p", positive=True), Symbol("A", real=True)
    weights, means = (p, 1 - p), ((1 - p) * A, -p * A)  # two clusters of mean 0, and of any weights
    terms = [w * sympy.exp(epsilon * mean * B) for w, mean in zip(weights, means, strict=True)]
    average = sum(mean * term for mean, term in zip(means, terms, strict=True)) / sum(terms)
    covariance = sum(w * mean**2 for w, mean in zip(weights, means, strict=True))
    if sympy.simplify(average.diff(epsilon).subs(epsilon, 0) - covariance * B) != 0 or average.subs(epsilon, 0) != 0:
        raise AssertionError("the posterior mean of a weak field is not C B")
    product, memory = sympy.symbols("product memory", real=True)  # Lam -> 0 with vhat: the memory is û itself
    linear = power * field(product, memory, sigma).values[0]
    (solved,) = sympy.solve(linear - memory, memory)
    value = sympy.factor(solved / product)
    steps = (
        Step("First order in the field", r"\hat u = C B + O(B^2),\quad C = \textstyle\sum_a p(a|y) A_a A_a^T"),
        Step("The memory is the estimate itself", rf"{latex(memory)} = \hat u = {latex(linear)}"),
        Step("Weight", rf"\hat u = w X\hat v,\quad w = {latex(value)}"),
    )
    return Derived(value, steps=steps)


def spectral_overlap(alpha: Positive, sigma: Positive, power: Positive) -> Derived:
    """(e.v)^2 of the leading eigenvector e of alpha D samples of means ±A v, A^2 = power; negative below threshold.

    Message passing with the linear estimate û = B has the eigenvectors of X^T X as its fixed points, the Onsager
    terms being multiples of û and vhat; its state evolution, normalised, gives their overlap.
    """
    m, z = Symbol("m", positive=True), Symbol("z", real=True)  # m = e.v, the planted mean is +A
    A = sympy.sqrt(power)
    law = GaussianAlgebra((z,), (Integer(0),), ((Integer(1),),), printed=latex)
    B = m * A / sigma**2 + z / sigma  # |e| = 1
    signal = alpha * law.average(sympy.expand(A * B)) / sigma**2
    noise = alpha * law.average(sympy.expand(B**2)) / sigma**2
    square = Symbol("q", positive=True)
    equation = sympy.expand((signal**2 - m**2 * (signal**2 + noise)) / m**2).subs(m, sympy.sqrt(square))
    (value,) = sympy.solve(equation, square)
    value = sympy.simplify(value)
    threshold = sympy.solve(value, alpha)
    if threshold != [sigma**4 / power**2]:
        raise AssertionError(f"the spectral threshold {threshold} is not where Q = 0 becomes unstable")
    steps = (
        Step("Linear estimate", rf"\hat u = B = {latex(B)}"),
        Step("State evolution", rf"b = {latex(signal)}\, v + z \sqrt{{{latex(sympy.factor(noise))}}}"),
        Step("Normalised fixed point", rf"m^2 = {latex(value)},\quad \alpha_c = {latex(threshold[0])}"),
    )
    return Derived(value, steps=steps)


FORMULAS = (field, spectral_weight, spectral_overlap)
