r"""Random features: the readout of P fixed random features at its population minimum, as D -> infinity.

    z_i = psi(u_i),  u_i = f_i·x/sqrt(D),  |f_i|^2 = D;   w = (Cov z + lambda 1)^-1 E[y z],  z centred
    x | a ~ N(mean_a, sigma^2 1),  label y_a, weight P_a;   psi_j(rho) = E psi^(j)(rho + sigma g)

Given the cluster, rho_a = f·mean_a/sqrt(D) is the mean of the field u, and the feature is a sum of Hermite orders

    z = sum_j sigma^j/j! psi_j(rho_a) He_j(g),   g = (u - rho_a)/sigma

order 0 is the class mean, order 1 is linear in x, order 2 quadratic, and so on; He_j are Hermite polynomials.

Features differ only by their components f ~ N(0, 1_k) along the means, so that the covariance of the features is

    bulk: order 1, in D directions, and order 2, in (D-1)(D+2)/2 traceless ones, each with weights that depend on f; all
          higher orders are noise of its own for each feature, for f_i·f_j/D is of order D^-1/2;
    spikes: what has few directions: class means, and orders 1 and 2 along the means and along |x|^2.

The bulk has a diagonal deterministic equivalent A(f), which follows when one feature is removed and the average over
its Gaussian f is taken:

    1/A = lambda + noise + B·(1 + J)^-1 B + H·(1 + J_2)^-1 H,   J = (P/D) E[B B^T A],   J_2 likewise

with B = (sqrt(P_a) sigma psi_1(rho_a)) and H = (sqrt(P_a) sigma^2 psi_2(rho_a)/sqrt(2)), one entry a cluster.  Spikes Z
enter by Woodbury: Gamma = P E[Z Z^T A], beta = (1 + Gamma)^-1 Y, outputs Gamma beta, where Y is sqrt(P_a) y_a on the
class means and 0 on the other spikes.  Everything below is this with the powers of D counted: what diverges is
projected out, what vanishes is dropped, the rest is solved.

The orders, the spikes and their powers of D are those of `feature_orders`.

>>> feature_orders.power_counting(sympy.Rational(1, 4))["class mean, order 2"]
0
"""

from __future__ import annotations

from collections.abc import Sequence

import sympy

from quenched.symbolic import mixtures
from quenched.symbolic.activations import BUILTIN
from quenched.symbolic.calculus.gaussian import GaussianAlgebra, fields
from quenched.symbolic.calculus.normal import Phi, density
from quenched.symbolic.language.latex import in_letters
from quenched.symbolic.language.notation import Derived, Formula, Positive, Real, Step
from quenched.symbolic.language.parse import parse
from quenched.symbolic.learners import feature_orders
from quenched.symbolic.learners.feature_orders import half, psi, quarter
from quenched.symbolic.mixtures import Cluster

__all__ = ["FORMULAS", "NOTATION", "ORDER", "PART", "STATUS", "TITLE"]

TITLE = "Random features"
PART, ORDER = "features", 1
STATUS = "Deterministic equivalent: not rigorous, checked against direct evaluation at finite D."
NOTATION = feature_orders.NOTATION | {
    "second_length": "m_{2}",
    "along": "p",
    "response": r"\chi",
    "bulk": "Q_{b}",
    "length": r"\mu",
    "odd": "s_{o}",
    "even": r"\beta_{e}",
    "ridge_slope": r"\lambda T'",
    "var_minus": "v_{-}",
    "var_plus": "v_{+}",
    "psi_minus": r"\psi_{-}",
    "psi_plus": r"\psi_{+}",
    "even_1": "E_{1}",
    "even_2": "E_{2}",
    "odd_1": "O_{1}",
    "odd_2": "O_{2}",
    "mean_1": "n_{1}",
    "mean_2": "n_{2}",
    "quadratic_1": "h_{1}",
    "quadratic_2": "h_{2}",
}
latex = in_letters(NOTATION)

D, gamma, lam, A = sympy.symbols("D gamma lambda A", positive=True)
T_ = sympy.Symbol("T", positive=True)


# --- the resolvent where all features are alike


def _resolvent_equation(gamma: sympy.Expr, r: sympy.Expr) -> tuple[sympy.Expr, sympy.Poly]:
    """The equation of the resolvent in T and r, and the polynomial in T that it asks to vanish."""
    k1, kst = sympy.symbols("k_1 k_*", positive=True)
    equation = lam + kst**2 + k1**2 / (1 + gamma * k1**2 * A) - 1 / A
    scaled = sympy.simplify(equation.subs(A, T_ / (gamma * k1**2)).subs(lam, r * k1**2 - kst**2) / k1**2)
    polynomial = sympy.Poly(sympy.numer(sympy.together(scaled)), T_)
    return scaled, polynomial * sympy.sign(polynomial.LC().subs({gamma: 1, r: 1}))


def marchenko_pastur(gamma: Positive, r: Positive) -> Derived:
    """T(gamma, r), the positive root of gamma/T = r + 1/(1 + T): the resolvent of one set of channels.

    With P = gamma D features and means of order below sqrt(D), A(f) does not depend on f; T = gamma k_1^2 A(f) and
    r = (lambda + k_*^2)/k_1^2, where k_*^2 is the variance of all orders beyond the first.
    """
    scaled, polynomial = _resolvent_equation(gamma, r)
    u = sympy.Symbol("u", real=True)
    root = sympy.Symbol("root", positive=True)
    (positive,) = [s for s in sympy.solve(polynomial, T_) if s.subs({gamma: 2, r: 1}).is_positive]
    discriminant = (gamma - 1 - r) ** 2 + 4 * gamma * r
    known = {u: gamma - 1 - r, root: sympy.sqrt(discriminant)}
    forms = ((root + u) / (2 * r), 2 * gamma / (root - u))  # the second loses no digits where u < 0
    for form in forms:
        if sympy.simplify(form.subs(known) - positive) != 0:
            raise AssertionError("the two forms of T differ from the root")
    steps = (
        *feature_orders.counted(sympy.Integer(0)),
        Step("Resolvent", r"\frac1A = \lambda + k_*^2 + \frac{k_1^2}{1 + \gamma k_1^2 A}"),
        Step("In T and r", rf"{latex(scaled)} = 0 \iff {latex(polynomial.as_expr())} = 0"),
        Step("Positive root", rf"T = {latex(positive)}"),
    )
    definitions = ((u, known[u]), (root, sympy.sqrt(u**2 + 4 * gamma * r)))
    return Derived(sympy.Piecewise((forms[0], u > 0), (forms[1], True)), definitions, steps)


def marchenko_pastur_slope(T: Positive, gamma: Positive, r: Positive) -> Derived:
    """dT/dr at T = T(gamma, r), by differentiating the equation of `marchenko_pastur`; lambda dT/dlambda follows."""
    equation = sympy.factor(_resolvent_equation(gamma, r)[1].as_expr().subs(T_, T))
    slope = sympy.factor(-sympy.diff(equation, r) / sympy.diff(equation, T))
    return Derived(
        slope, steps=(Step("Implicit differentiation", rf"{latex(equation)} = 0 \implies dT/dr = {latex(slope)}"),)
    )


def signal(tau: Real, ridge_slope: Real) -> Derived:
    """(mean, variance): output y·mean and its variance, where the labels excite one spike of Gamma = tau.

    `ridge_slope`: lambda dtau/dlambda.  The classification error is Phi(-S), S = mean/sqrt(variance).
    """
    beta = 1 / (1 + tau)
    variance = beta**2 * (tau + ridge_slope)
    steps = (
        Step("Woodbury", r"\beta = (1 + \tau)^{-1},\quad m = \tau\beta"),
        Step("Cov = G^{-1} - lambda + spikes", r"q = w\cdot\mathrm{Cov}\,w = \beta^2 (\tau + \lambda\,d\tau/d\lambda)"),
        Step("Signal", rf"S = m/\sqrt q = {latex(sympy.simplify(tau * beta / sympy.sqrt(variance)))}"),
    )
    return Derived((tau * beta, variance), steps=steps)


def low(T: Positive, ridge_slope: Real, sigma: Positive) -> Derived:
    """Means of order 1: (gain, spread) = (t/sigma^2, (t + lambda dt/dlambda)/sigma^2), t = T/(1 + T).

    With v_a = mean_a - sum_b P_b mean_b, W = sum_a P_a v_a v_a^T, phi = sum_a P_a y_a v_a and u = (1 + gain·W)^-1 phi:
    m_a = gain·v_a·u, q = spread·|u|^2.  `ridge_slope`: lambda dT/dlambda.
    """
    s, phi = sympy.symbols("s varphi", positive=True)  # an eigenvalue of W, the component of phi along its vector
    total = T / sigma**2 * (s + sigma**2)  # class means and noise along the means: all linear in f
    beta = phi / (1 + total)
    u = phi / (1 + T / (1 + T) / sigma**2 * s)
    t = sympy.simplify(beta * (T / sigma**2) / (u / sigma**2))
    slope = sympy.Symbol("T'")
    noise = (T + slope) / sigma**2 * beta**2 + sigma**2 * (T / sigma**2) ** 2 * beta**2  # bulk, and along the means
    spread = sympy.simplify(noise / u**2)
    dt = sympy.diff(t, T) * slope
    if sympy.simplify(spread - (t + dt) / sigma**2) != 0:
        raise AssertionError("the spread is not (t + lambda dt/dlambda)/sigma^2")
    m = sympy.Symbol("m", positive=True)
    mean = feature_orders.limit(
        feature_orders.outputs(mixtures.two_clusters(m), sigma, sympy.Integer(0), T / (sigma * psi[1]) ** 2)[0]
    )
    tau = sympy.factor(mean / (1 - mean))
    if sympy.simplify(tau - t * m**2 / sigma**2) != 0:
        raise AssertionError("two clusters do not have the signal t m^2/sigma^2")
    xor = [
        feature_orders.limit(value)
        for value in feature_orders.outputs(mixtures.xor(m), sigma, sympy.Integer(0), T / (sigma * psi[1]) ** 2)
    ]
    steps = (
        *feature_orders.counted(sympy.Integer(0)),
        Step(
            "Along an eigenvector of W", rf"\Gamma = {latex(total)},\quad u \propto {latex(sympy.simplify(beta / phi))}"
        ),
        Step("Shrinkage", rf"m_a = \frac{{t}}{{\sigma^2}} v_a\cdot u,\quad t = {latex(t)}"),
        Step("Two clusters at distance m: signal", rf"S^2 = {latex(tau)}"),
        Step("XOR: outputs", rf"m_a = {latex(sympy.Matrix([xor]))}"),
    )
    return Derived((t / sigma**2, spread.subs(slope, ridge_slope)), steps=steps)


# --- the crossover, means of length D^(1/4)


def crossover(response: Positive, ridge_slope: Real, quadratic: Real, sigma: Positive) -> Derived:
    """Means V_a D^(1/4): (tensor, norm, and lambda d/dlambda of both), the weights of the Gram matrix of class means

        G_ab = tensor (V_a·V_b)^2 + norm |V_a|^2 |V_b|^2,   centred with P.

    With tau = k_2^2·response, response = gamma A(f) = T/k_1^2: tensor = tau/sigma^4 from order 2 in V_a·f, and
    norm = tau/(1 + tau)/(2 sigma^4), where 1 + tau is the spike of |x|^2.  `quadratic`: k_2 at rho = 0;
    `ridge_slope`: lambda d response/dlambda.

    The linear spikes diverge: with N the null space of the centred linear Gram matrix,

        beta = N [N^T (1/P + G) N]^-1 N^T y,   m = y - beta/P,   q = beta·(G + lambda dG/dlambda) beta.
    """
    lengths = sympy.symbols("V_aa V_bb", positive=True)
    inner = sympy.Symbol("V_ab", real=True)
    x, y = fields(2)  # f·V_a and f·V_b
    law = GaussianAlgebra((x, y), (0, 0), ((lengths[0], inner), (inner, lengths[1])))
    PA = response * D
    psi_2 = quadratic * sympy.sqrt(2) / sigma**2
    amplitude = [psi_2 * (D**-quarter * field) ** 2 / 2 for field in (x, y)]
    constant = [law.average(a) for a in amplitude]  # their part along |x|^2, the rest is a traceless tensor
    tensor = sympy.expand(PA * law.average((amplitude[0] - constant[0]) * (amplitude[1] - constant[1])))
    tau = sympy.expand(PA * (quadratic / sympy.sqrt(D)) ** 2)
    bare = sympy.expand(PA * constant[0] * constant[1])
    # Woodbury with the norm spikes of all clusters, which are one function of f with weights P_a that add up to 1
    norm = sympy.factor(bare / (1 + tau))
    steps = (
        *feature_orders.counted(quarter),
        Step("Class means to second order", rf"P A\,E[z_a z_b]_{{\mathrm{{traceless}}}} = {latex(tensor)}"),
        Step("Norm spike", rf"\tau = P A z_{{norm}}^2 = {latex(tau)},\quad P A z_a z_b |_{{|x|^2}} = {latex(bare)}"),
        Step("Woodbury", rf"G_{{ab}} = {latex(tensor)} + {latex(norm)}"),
    )
    values = [sympy.factor(tensor / inner**2), sympy.factor(norm / (lengths[0] * lengths[1]))]
    slopes = [sympy.factor(ridge_slope * sympy.diff(value, response)) for value in values]
    return Derived((*values, *slopes), steps=steps)


def crossover_xor(response: Positive, quadratic: Real, length: Positive, sigma: Positive) -> Derived:
    """S^2 = (length/sigma)^4 tau/2 of XOR, means of norm length·D^(1/4), at lambda = 0; the error is Phi(-S).

    Closed form, for reading and for tests.
    """
    return _crossover_signal(mixtures.xor(length), response, quadratic, sigma)


def crossover_three_clusters(response: Positive, quadratic: Real, length: Positive, sigma: Positive) -> Derived:
    """S^2 = (length/sigma)^4 [tau + tau/(2 + 2 tau)]/4 of three clusters, outer norms length·D^(1/4), lambda = 0.

    Closed form, for reading and for tests.
    """
    return _crossover_signal(mixtures.three_clusters(length), response, quadratic, sigma)


def _crossover_signal(
    clusters: Sequence[Cluster], response: sympy.Expr, quadratic: sympy.Expr, sigma: sympy.Expr
) -> Derived:
    mean = feature_orders.limit(feature_orders.outputs(clusters, sigma, quarter, response)[-1])  # a cluster of label +1
    S2 = sympy.simplify((mean / (1 - mean)).subs(psi[2], sympy.sqrt(2) * quadratic / sigma**2))
    S2 = sympy.factor(S2)
    return Derived(S2, steps=(Step("Woodbury at finite D, then the limit", rf"S^2 = m/(1 - m) = {latex(S2)}"),))


# --- gates: means of length sqrt(D)


def gates(psi_plus: Real, psi_minus: Real, var_plus: Real, var_minus: Real, sigma: Positive) -> Derived:
    """Means ±sqrt(D) m1 e1 ± m2 e2: (even, odd, noise) of a feature with component f1 along e1.

    psi_plus and psi_minus are psi_1(±m1 f1), var_plus and var_minus are Var psi(±m1 f1 + sigma g).  The two channels
    are beta_e, beta_o = sigma (psi_plus ± psi_minus)/2, and noise is what order 1 leaves of the variance:

        1/A = lambda + noise + beta_e^2/(1 + s_e) + beta_o^2/(1 + s_o),   s_e = gamma E[beta_e^2 A],  s_o likewise.
    """
    turn = sympy.Matrix([[1, 1], [1, -1]]) / sympy.sqrt(2)  # the two signs of m1 f1, each of weight 1/2
    channels = turn * sympy.Matrix([psi_plus, psi_minus]) * sigma / sympy.sqrt(2)
    noise = ((var_plus - (sigma * psi_plus) ** 2) + (var_minus - (sigma * psi_minus) ** 2)) / 2
    even, odd = (sympy.factor(c) for c in channels)
    steps = (
        *feature_orders.counted(half),
        Step("Channels of the two signs", r"B = \sigma(\psi_+, \psi_-)/\sqrt 2"),
        Step("Even and odd in f_1: J is diagonal", rf"\beta = {latex(sympy.Matrix([even, odd]))}"),
        Step("Order 2 has D^2/2 directions for P = gamma D features: noise", rf"C = {latex(noise)}"),
    )
    return Derived((even, odd, noise), steps=steps)


def gate_signal(odd: Positive, second_length: Positive, sigma: Positive) -> Derived:
    """(tau, dtau/ds_o): the signal of the label, the product of two signs, through the odd gates.

    tau = (m2/sigma)^2 s_o/(1 + s_o); at lambda = 0 the error is Phi(-sqrt tau).
    """
    f = sympy.Symbol("f_2", real=True)
    # functions of f_2 times the odd channel: class mean m2 f_2/sigma, noise along e_2 f_2; E f_2^2 = 1
    label, noise = second_length / sigma, sympy.Integer(1)
    m = sympy.factor(label**2 * odd / (1 + (label**2 + noise**2) * odd))
    tau = sympy.factor(m / (1 - m))
    steps = (
        Step(
            "Odd in f_1 and in f_2",
            rf"z_{{label}} = \frac{{m_2}}{{\sigma}} {latex(f)} \beta_o,\quad z_{{noise}} = {latex(f)} \beta_o",
        ),
        Step("Woodbury", rf"m = {latex(m)},\quad \tau = m/(1 - m) = {latex(tau)}"),
    )
    return Derived((tau, sympy.factor(sympy.diff(tau, odd))), steps=steps)


def xor_channels(even_1: Real, even_2: Real, odd_1: Real, odd_2: Real) -> Derived:
    """The four channels of XOR with means of length m sqrt(D): (E_1 + E_2)/2, (E_1 - E_2)/2, O_1/sqrt 2, O_2/sqrt 2.

    E_i, O_i are the even and the odd part in f_i of sigma psi_1(m f_i).  J is diagonal in the channels, by reflection
    of either axis and exchange of the two.

    Closed form, for reading and for tests.
    """
    b = sympy.Matrix([even_1 + odd_1, even_1 - odd_1, even_2 + odd_2, even_2 - odd_2]) / 2  # sqrt(P_a) = 1/2
    turn = sympy.Matrix([[1, 1, 1, 1], [1, 1, -1, -1], [sympy.sqrt(2), -sympy.sqrt(2), 0, 0],
                         [0, 0, sympy.sqrt(2), -sympy.sqrt(2)]]) / 2  # fmt: skip
    if turn * turn.T != sympy.eye(4):
        raise AssertionError("the change of channels is not orthogonal")
    channels = tuple(sympy.factor(c) for c in turn * b)
    return Derived(channels, steps=(Step("Parity and exchange", rf"\beta = {latex(sympy.Matrix(channels))}"),))


def xor_spikes(
    mean_1: Real, mean_2: Real, quadratic_1: Real, quadratic_2: Real, odd_1: Real, odd_2: Real, f_1: Real, f_2: Real
) -> Derived:
    """XOR, means of length m sqrt(D): (d, z_norm, z_along), the spikes even in f_1 and f_2, odd under their exchange.

    mean_1 and quadratic_1: even parts in f_1 of psi_0(m f_1) and of k_2(m f_1); odd_1: odd part of sigma psi_1(m f_1).
    With <p|q> = gamma E[p q A], tau_3 = <d|d> - <d|z> (1 + <z|z>)^-1 <z|d>; pmse = 1/(2 (1 + D tau_3)).

    Closed form, for reading and for tests.
    """
    exchange = sympy.Matrix([1, -1]) / sympy.sqrt(2)
    pair = sympy.Matrix([1, 1]) / sympy.sqrt(2)  # of the two clusters ±e_i

    def label(first: sympy.Expr, second: sympy.Expr) -> sympy.Expr:
        """The label's combination of a column, sqrt(P_a) times `first` in clusters ±e_1 and `second` in ±e_2."""
        both = sympy.Matrix([pair.dot([first / 2, first / 2]), pair.dot([second / 2, second / 2])])
        return sympy.factor(exchange.dot(both))

    values = (label(mean_1, mean_2), label(quadratic_1, quadratic_2), label(odd_1 * f_1, odd_2 * f_2))
    names = ("d", r"z_{\mathrm{norm}}", r"z_{\mathrm{along}}")
    steps = tuple(Step("Even, odd under exchange", f"{n} = {latex(v)}") for n, v in zip(names, values, strict=True))
    return Derived(values, steps=(*feature_orders.counted(half), *steps))


# --- as many features as pairs of coordinates


def quadratic_features(T: Positive, ridge_slope: Real, length: Positive, sigma: Positive) -> Derived:
    """P = gamma_2 D^2/2 features, XOR with means of order 1: (theta, bulk) of the output theta s(x) + sqrt(bulk) g.

    s(x) = (x_2^2 - x_1^2)/2 for labels -1 at ±length·e_1 and +1 at ±length·e_2.  T = T(gamma_2, r) with
    r = (lambda + k_3^2)/k_2^2, k_3^2 the variance of all orders beyond the second; `ridge_slope`: lambda dT/dlambda.
    """
    m, s2 = length, sigma**2
    d, variance = quadratic_moments(length, sigma).values
    theta = d / (d**2 + variance + s2**2 / T)
    k2 = sigma**2 * psi[2] / sympy.sqrt(2)
    exact = feature_orders.limit(
        feature_orders.outputs(mixtures.xor(m), sigma, sympy.Integer(0), T / k2**2, features=2)[-1]
    )
    if sympy.simplify(exact - theta * d) != 0:
        raise AssertionError("Woodbury on the order 2 disagrees with regression on s(x)")
    bulk = theta**2 * s2**2 * (T + ridge_slope) / T**2
    steps = (
        *feature_orders.counted(sympy.Integer(0), features=2),
        Step(
            "The readout sees s(x)", rf"E[s \mid y = 1] = {latex(d)},\quad \mathrm{{Var}}[s \mid y] = {latex(variance)}"
        ),
        Step("Woodbury at finite D, then the limit", rf"m = {latex(sympy.factor(exact))} = \theta\,E[s]"),
        Step("Bulk: all other directions of order 2", rf"Q_b = {latex(bulk)}"),
    )
    return Derived((sympy.simplify(theta), sympy.simplify(bulk)), steps=steps)


def quadratic_error(along: Real, theta: Positive, bulk: Positive, length: Positive, sigma: Positive) -> Derived:
    """Density over `along` of the error of the output theta s(x) + sqrt(bulk) g on XOR; its integral is the error.

    s(x) = p q with p, q = (x_2 ± x_1)/sqrt 2 ~ N(length/sqrt 2, sigma^2), independent.  p is `along`; the average over
    q and g is taken.
    """
    centre = length / sympy.sqrt(2)
    probability = Phi(-theta * along * centre / sympy.sqrt(theta**2 * along**2 * sigma**2 + bulk))
    value = density(along - centre, sigma**2) * probability
    return Derived(value, steps=(Step("Rotation by 45 degrees", r"s = (x_2 + x_1)(x_2 - x_1)/2 = p q"),
                                 Step("Gaussian given p", latex(value))))  # fmt: skip


def quadratic_moments(length: Positive, sigma: Positive) -> Derived:
    """(mean, variance) of s(x) given the label +1, for the pmse [(1 - theta mean)^2 + bulk + theta^2 variance]/2."""
    g1, g2 = fields(2)
    law = GaussianAlgebra((g1, g2), (0, 0), ((1, 0), (0, 1)))
    s = sympy.expand(((length + sigma * g2) ** 2 - (sigma * g1) ** 2) / 2)
    d = sympy.factor(law.average(s))
    return Derived((d, sympy.factor(sympy.expand(law.average(sympy.expand(s**2)) - d**2))))


FORMULAS = (
    feature_orders.shifted_erf,
    feature_orders.hermite_orders,
    feature_orders.quadratic_directions,
    feature_orders.spikes,
    marchenko_pastur,
    marchenko_pastur_slope,
    signal,
    low,
    crossover,
    crossover_xor,
    crossover_three_clusters,
    gates,
    gate_signal,
    xor_channels,
    xor_spikes,
    quadratic_features,
    quadratic_moments,
    quadratic_error,
)


def _intercept() -> Formula:
    """b = E y, since the features are centred, and the readout that of the labels y - E y, which is that of y."""
    b, first, y, w, c = sympy.symbols("b z y w c", real=True)  # moments: E y = y, E z = z, E[y z] = c, E z^2 = 1
    loss = (1 - 2 * b * y - 2 * w * c + b**2 + 2 * b * w * first + w**2) / 2 + lam * w**2 / 2
    solved = sympy.solve([loss.diff(b).subs(first, 0), loss.diff(w).subs(first, 0)], [b, w])
    if solved[b] != y or sympy.simplify(solved[w] - c / (1 + lam)) != 0:
        raise AssertionError("the intercept changes the readout of centred features")
    steps = (
        Step("Stationarity", r"0 = \partial_b \tfrac12 E(w\cdot(z - Ez) + b - y)^2 = b - Ey"),
        Step("Readout", rf"w = {latex(solved[w])} \text{{ for one feature: the same as at }} b = 0"),
    )
    return Formula("intercept", "The intercept of the population minimum: E y.", (y,), Derived(y, steps=steps))


def derivations() -> list[Formula]:
    """The intercept, and the Hermite orders of the activations that are built in, for the document."""
    field = (sympy.Symbol("rho", real=True), sympy.Symbol("sigma", positive=True))
    orders = [
        Formula(
            f"orders_{name}",
            f"(psi_0, psi_1, psi_2, E psi^2) of psi = {text}.",
            field,
            feature_orders.coefficients(parse(text), *field),
        )
        for name, text in BUILTIN.items()
    ]
    return [_intercept(), *orders]
