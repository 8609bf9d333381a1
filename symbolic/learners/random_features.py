r"""Random features: the readout of P fixed random features at its population minimum, as D -> infinity.

    z_i = psi(u_i),  u_i = f_i·x/sqrt(D),  |f_i|^2 = D;   w = (Cov z + lambda 1)^-1 E[y z],  z centred
    x | a ~ N(mean_a, sigma^2 1),  label y_a, weight P_a;   psi_j(rho) = E psi^(j)(rho + sigma g)

Given the cluster, rho_a = f·mean_a/sqrt(D) is the mean of the field u, and the feature is a sum of Hermite orders

    z = sum_j sigma^j/j! psi_j(rho_a) He_j(g_u):   order 0 the class mean, order 1 linear in x, order 2 quadratic, ...

Features differ only by their components f ~ N(0, 1_k) along the means, so that the covariance of the features is

    bulk: order 1, in D directions, and order 2, in (D-1)(D+2)/2 traceless ones, each with weights that depend on f; all
          higher orders are noise of its own for each feature, for f_i·f_j/D is of order D^-1/2;
    spikes: what has few directions: class means, and orders 1 and 2 along the means and along |x|^2.

The bulk has a diagonal deterministic equivalent A(f) (start of the derivation: one feature seen by all others, and the
average over its Gaussian f),

    1/A = lambda + noise + B·(1 + S)^-1 B + H·(1 + S_2)^-1 H,   S = (P/D) E[B B^T A],   S_2 likewise

and spikes Z enter by Woodbury: Gamma = P E[Z Z^T A], beta = (1 + Gamma)^-1 eta, outputs Gamma beta.  Everything below
is this with the powers of D counted: what diverges is projected out, what vanishes is dropped, the rest is solved.

>>> power_counting(sympy.Rational(1, 4))["class mean, order 2"]
0
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sympy
from sympy.polys.matrices import DomainMatrix

from quenched.symbolic.calculus.gaussian import GaussianAlgebra, fields
from quenched.symbolic.calculus.normal import Phi, Phi2, density
from quenched.symbolic.calculus.steps import derivative
from quenched.symbolic.language.latex import latex
from quenched.symbolic.language.notation import Derived, Positive, Real, Step
from quenched.symbolic.language.parse import VARIABLE

__all__ = ["FORMULAS", "Cluster", "coefficients", "mehler", "outputs", "power_counting"]

D, gamma, lam, A = sympy.symbols("D gamma lambda A", positive=True)
T_ = sympy.Symbol("T", positive=True)
half, quarter = sympy.Rational(1, 2), sympy.Rational(1, 4)
psi = [sympy.Symbol(f"psi_{j}", real=True) for j in range(4)]


# --- Hermite orders
# ---------------------------------------------------------------------------------------------------


def coefficients(expression: sympy.Expr, rho: sympy.Expr, sigma: sympy.Expr, orders: int = 2) -> Derived:
    """psi_0 .. psi_orders and E psi^2 of psi(x) = expression, x ~ N(rho, sigma^2), by the Gaussian algebra.

    Orders are averages of derivatives of psi, as distributions; where those are not functions any more, Price's theorem
    takes over: psi_j+1 = d psi_j/d rho.

    >>> rho, sigma = sympy.Symbol("rho", real=True), sympy.Symbol("sigma", positive=True)
    >>> coefficients(VARIABLE**2, rho, sigma).explicit()
    (rho**2 + sigma**2, 2*rho, 2, rho**4 + 6*rho**2*sigma**2 + 3*sigma**4)
    """
    (x,) = fields(1)
    algebra = GaussianAlgebra((x,), (rho,), ((sigma**2,),))
    averaged = [expression, derivative(expression, VARIABLE)]
    averaged.append(derivative(averaged[1], VARIABLE))
    outcome = algebra.derived(*(e.subs(VARIABLE, x) for e in (*averaged, expression**2)))
    values = [_tidy(value) for value in outcome.explicit()]
    orders_ = values[:3]
    while len(orders_) <= orders:
        orders_.append(_tidy(sympy.diff(orders_[-1], rho)))
    names = [rf"\psi_{j}({latex(rho)})" for j in range(orders + 1)]
    found = (*orders_[: orders + 1], values[3])
    steps = [Step("Price", rf"\psi_{{j+1}}(\rho) = \partial_\rho \psi_j(\rho),\quad \psi = {latex(expression)}")]
    steps += [Step("Average", f"{n} = {latex(v)}") for n, v in zip((*names, r"E[\psi^2]"), found, strict=True)]
    return Derived(found, steps=tuple(steps))


def _tidy(expression: sympy.Expr) -> sympy.Expr:
    """Simplified; exponents are brought to the square they are, which alone cannot overflow."""
    result = sympy.simplify(expression.doit())
    result = result.replace(
        lambda e: isinstance(e, (sympy.exp, Phi, Phi2)),
        lambda e: e.func(*(sympy.factor(sympy.simplify(a)) for a in e.args)),
    )
    factors = sympy.Mul.make_args(result)
    rest = sympy.Mul(*(f for f in factors if not isinstance(f, sympy.exp)))
    rest = sympy.factor(sympy.simplify(rest)) if len(factors) > 1 else sympy.expand(rest)
    return rest * sympy.Mul(*(f for f in factors if isinstance(f, sympy.exp)))


def mehler(expression: sympy.Expr, rhos: Sequence[sympy.Expr], sigma: sympy.Expr, orders: int) -> sympy.Expr:
    """Cov(psi(u_i), psi(u_j)) of two features of overlap r = f_i·f_j/D to order r^orders:

    sum_j (sigma^2 r)^j/j! psi_j(rho_i) psi_j(rho_j): each d/dr of the average brings down sigma^2 and a derivative of
    either factor (Price).

    >>> s, r = sympy.Symbol("sigma", positive=True), sympy.Symbol("r", real=True)
    >>> sympy.expand(mehler(VARIABLE**2, (0, 0), s, 2))         # He_2 alone
    2*r**2*sigma**4
    """
    r, rho = sympy.symbols("r rho", real=True)
    orders_ = coefficients(expression, rho, sigma, orders).values[:-1]
    first, second = ([value.subs(rho, given) for value in orders_] for given in rhos)
    return sympy.Add(*((sigma**2 * r) ** j / sympy.factorial(j) * first[j] * second[j] for j in range(1, orders + 1)))


def shifted_erf(rho: Real, sigma: Positive, shift: Real) -> Derived:
    """(psi_0, psi_1, psi_2, E psi^2) of psi(x) = erf((x + shift)/sqrt 2): an activation with odd and even parts."""
    return coefficients(sympy.erf((VARIABLE + shift) / sympy.sqrt(2)), rho, sigma)


def hermite_orders(psi_0: Real, psi_1: Real, psi_2: Real, square: Real, sigma: Positive) -> Derived:
    """(linear, quadratic, higher): standard deviations of a feature's orders 1 and 2, variance of all orders beyond.

    linear = k_1 = sigma psi_1, quadratic = k_2 = sigma^2 psi_2/sqrt 2, higher = E psi^2 - psi_0^2 - k_1^2 - k_2^2.
    """
    (g,) = fields(1)
    law = GaussianAlgebra((g,), (0,), ((1,),))
    sizes = [sigma**j * p / sympy.factorial(j) for j, p in enumerate((psi_0, psi_1, psi_2))]
    norms = [sympy.sqrt(law.average(he**2)) for he in (sympy.Integer(1), g, g**2 - 1)]
    steps = [Step("Hermite expansion", r"\psi(\rho + \sigma g) = \sum_j \frac{\sigma^j}{j!} \psi_j(\rho) He_j(g)")]
    steps += [Step("Orthogonality", rf"\sqrt{{E[He_{j}^2]}} = {latex(n)}") for j, n in enumerate(norms)]
    between = r"\sum_{j \ge 1} \frac{(\sigma^2 r)^j}{j!} \psi_j(\rho_i) \psi_j(\rho_k),\quad r = f_i\cdot f_k/D"
    steps.append(Step("Mehler: Price in r", rf"\mathrm{{Cov}}[z_i, z_k] = {between}"))
    zeroth, linear, quadratic = (size * norm for size, norm in zip(sizes, norms, strict=True))
    return Derived((linear, quadratic, square - zeroth**2 - linear**2 - quadratic**2), steps=tuple(steps))


# --- spikes and powers of D
# -------------------------------------------------------------------------------------------


def quadratic_directions(D: Positive) -> Derived:
    """Directions of order 2 in D dimensions: symmetric matrices without trace."""
    value = sympy.factor(D * (D + 1) / 2 - 1)
    return Derived(value, steps=(Step("Count", rf"\tfrac12 D(D+1) - 1 = {latex(value)}"),))


def spikes(
    centred: Real, linear: Real, quadratic: Real, first: Real, second: Real, weight: Positive, D: Positive
) -> Derived:
    """Amplitudes of a feature on the spikes of one cluster: (mean, along, norm, same, mixed).

    mean: of its class mean less the average over clusters, `centred`; along: noise along mean direction i; norm: the
    fluctuation of |x|^2; same and mixed: order 2 along the means, in x_i^2 and in x_i x_j.  `linear`, `quadratic`:
    k_1(f), k_2(f) of the cluster (`hermite_orders`); first, second: components f_i and f_j; weight: P_a.
    """
    u, gi, gj = fields(3)  # the field of the feature, the noise along two directions of the means
    overlap = [c / sympy.sqrt(D) for c in (first, second)]
    law = GaussianAlgebra((u, gi, gj), (0, 0, 0), ((1, *overlap), (overlap[0], 1, 0), (overlap[1], 0, 1)))
    order = {1: linear * u, 2: quadratic * (u**2 - 1) / sympy.sqrt(2)}
    along = law.average(order[1] * gi)
    mixed = law.average(order[2] * gi * gj)
    square = law.average(order[2] * (gi**2 - 1) / sympy.sqrt(2))
    # the unit direction of |x|^2 is sum_t (g_t^2 - 1)/sqrt(2 D), and sum_t f_t^2 = D
    norm = sympy.simplify(square / first**2 * D / sympy.sqrt(D))
    same = sympy.factor(square - norm / sympy.sqrt(D))
    steps = (
        Step("Projection on noise", rf"E[z\, g_i] = {latex(along)},\quad E[z\, g_i g_j] = {latex(mixed)}"),
        Step("Projection on a square", rf"E[z\, (g_i^2 - 1)/\sqrt 2] = {latex(square)}"),
        Step("Sum over all directions, |f|^2 = D", rf"E[z \sum_t (g_t^2 - 1)/\sqrt{{2D}}] = {latex(norm)}"),
        Step("Square along a mean, less its share of the norm", latex(same)),
    )
    columns = [sympy.sqrt(weight) * value for value in (centred, along, norm, same, mixed)]
    return Derived(tuple(columns), steps=steps)


def power_counting(exponent: sympy.Expr, features: int = 1) -> dict[str, sympy.Expr]:
    """The exponent of D of each spike's Gamma = P amplitude^2 A, and of S = P/directions of each channel.

    Means have lengths of order D^exponent, there are P ~ D^features features, and A is of order 1.  Above 0 a spike is
    fit exactly and a channel resolved; at 0 it survives; below it vanishes from the limit (a channel: becomes noise).
    """
    P, rho = D**features, D ** (exponent - half)
    amplitudes = {f"class mean, order {j}": rho**j for j in range(1, 5)}
    amplitudes |= {
        "noise along the means": D**-half,
        "noise along the means, gate": rho * D**-half,
        "norm": D**-half,
        "order 2 along the means": 1 / D,
    }
    size = {name: P * amplitude**2 for name, amplitude in amplitudes.items()}
    size |= {"linear channels": P / D, "quadratic channels": P / D**2}
    return {name: sympy.powsimp(s).as_coeff_exponent(D)[1] for name, s in size.items()}


def _counted(exponent: sympy.Expr, features: int = 1) -> tuple[Step, ...]:
    """The power counting of one scaling as steps of a derivation."""
    verdict = {1: "diverges", 0: "survives", -1: "vanishes"}
    found = power_counting(exponent, features)
    lines = {
        sign: r",\allowbreak\ ".join(
            rf"\text{{{name}}}\ (D^{{{latex(e)}}})" for name, e in found.items() if sympy.sign(e) == sign
        )
        for sign in verdict
    }
    title = rf"|\mathrm{{mean}}| \sim D^{{{latex(exponent)}}},\ P \sim D^{{{features}}}"
    scaling = Step("Scaling", title)
    return (scaling, *(Step(f"Power counting: {verdict[sign]}", line) for sign, line in lines.items() if line))


@dataclass(frozen=True)
class Cluster:
    """One Gaussian: coordinates of its mean in units of D^exponent, weight, label."""

    mean: tuple[sympy.Expr, ...]
    weight: sympy.Expr
    label: int


def outputs(
    clusters: Sequence[Cluster], sigma: sympy.Expr, exponent: sympy.Expr, response: sympy.Expr, features: int = 1
) -> tuple[sympy.Expr, ...]:
    """Mean outputs m_a of a mixture from the spikes at finite D, where A is constant (means of order below sqrt D).

    To second order in f the columns of Z are vectors z in the basis 1, f_i, (f_i^2 - 1)/sqrt 2, f_i f_j; with
    M = sum of z z^T over all spikes, outputs are P A z_a·(1 + P A M)^-1 sum_b P_b y_b z_b.  `response`: gamma A, where
    P = gamma D for features = 1 and gamma D^2/2 for features = 2.  Rational functions of x = D^(-1/4): no limit yet.
    """
    k = len(clusters[0].mean)
    f = fields(k)
    law = GaussianAlgebra(f, (0,) * k, sympy.eye(k).tolist())
    basis = [sympy.Integer(1), *f, *(x**2 - 1 for x in f), *(f[i] * f[j] for i in range(k) for j in range(i + 1, k))]
    norms = [law.average(sympy.expand(b**2)) for b in basis]
    PA = response / _x**4 if features == 1 else response / (2 * _x**8)

    def vector(amplitude: sympy.Expr) -> sympy.Matrix:
        overlaps = [law.average(sympy.expand(amplitude * b)) for b in basis]
        return sympy.Matrix([sympy.expand(o / n) for o, n in zip(overlaps, norms, strict=True)])

    rho = [_x ** (2 - 4 * exponent) * sum(x * m for x, m in zip(f, c.mean, strict=True)) for c in clusters]
    orders = [psi[1] * r + psi[2] * r**2 / 2 for r in rho]  # psi_0 is the same in all clusters
    average = sum(c.weight * n for c, n in zip(clusters, orders, strict=True))
    means = [vector(n - average) for n in orders]
    M = sympy.zeros(len(basis), len(basis))
    for c, mean, r in zip(clusters, means, rho, strict=True):
        columns = [(sympy.Integer(1), mean), (half, vector(sigma**2 * psi[2] * _x**2))]
        for i, x in enumerate(f):
            columns.append((sympy.Integer(1), vector(sigma * (psi[1] + psi[2] * r) * x * _x**2)))
            columns.append((half, vector(sigma**2 * psi[2] * (x**2 - 1) * _x**4)))
            columns += [(sympy.Integer(1), vector(sigma**2 * psi[2] * x * y * _x**4)) for y in f[i + 1 :]]
        for factor, z in columns:
            M += c.weight * factor * z * z.T
    metric = sympy.diag(*norms)
    target = sum((c.weight * c.label * z for c, z in zip(clusters, means, strict=True)), sympy.zeros(len(basis), 1))
    matrix, right = sympy.eye(len(basis)) + PA * M * metric, PA * target
    system = DomainMatrix.from_Matrix(matrix.row_join(right)).to_field()  # one field for both sides
    n = len(basis)
    solution = system.extract(list(range(n)), list(range(n))).lu_solve(system.extract(list(range(n)), [n])).to_Matrix()
    return tuple(sympy.cancel((z.T * metric * solution)[0]) for z in means)


_x = sympy.Symbol("x", positive=True)  # D^(-1/4)


def _limit(expression: sympy.Expr) -> sympy.Expr:
    """D -> infinity of a rational function of x = D^(-1/4): the ratio of its lowest orders."""
    lowest = []
    for part in sympy.fraction(sympy.cancel(expression)):
        polynomial = sympy.Poly(part, _x)
        ((degree,), value) = polynomial.terms()[-1]
        lowest.append((degree, value))
    (above, a), (below, b) = lowest
    if a == 0 or above > below:
        return sympy.Integer(0)
    if above < below:
        raise ValueError(f"{expression} grows with D")
    return sympy.factor(a / b)


def _two_clusters(length: sympy.Expr) -> list[Cluster]:
    return [Cluster((s * length,), half, s) for s in (1, -1)]


def _three_clusters(length: sympy.Expr) -> list[Cluster]:
    return [*(Cluster((s * length,), quarter, -1) for s in (1, -1)), Cluster((sympy.Integer(0),), half, 1)]


def _xor(length: sympy.Expr) -> list[Cluster]:
    zero = sympy.Integer(0)
    first, second = ([Cluster(p, quarter, y) for p in pair] for pair, y in (
        ([(length, zero), (-length, zero)], -1), ([(zero, length), (zero, -length)], 1)))  # fmt: skip
    return [*first, *second]


# --- the resolvent where all features are alike
# -----------------------------------------------------------------------


def _resolvent_equation(gamma: sympy.Expr, r: sympy.Expr) -> tuple[sympy.Expr, sympy.Poly]:
    """The equation of the resolvent in T and r, and the polynomial in T that it asks to vanish."""
    k1, kst = sympy.symbols("k_1 k_*", positive=True)
    equation = lam + kst**2 + k1**2 / (1 + gamma * k1**2 * A) - 1 / A
    scaled = sympy.simplify(equation.subs(A, T_ / (gamma * k1**2)).subs(lam, r * k1**2 - kst**2) / k1**2)
    polynomial = sympy.Poly(sympy.numer(sympy.together(scaled)), T_)
    return scaled, polynomial * sympy.sign(polynomial.LC().subs({gamma: 1, r: 1}))


def marchenko_pastur(gamma: Positive, r: Positive) -> Derived:
    """T(gamma, r), the positive root of gamma/T = r + 1/(1 + T): the resolvent of one set of channels.

    With P = gamma D features and means of order below sqrt D, A does not depend on f; T = gamma k_1^2 A and
    r = (lambda + k*^2)/k_1^2, where k*^2 is the variance of all orders beyond the first.
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
        *_counted(sympy.Integer(0)),
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

    With S = sum P v v^T the covariance of the cluster centres v_a = mean_a - average, phi = sum P_a y_a v_a and
    u = (1 + gain S)^-1 phi: m_a = gain v_a·u, q = spread |u|^2.  `ridge_slope`: lambda dT/dlambda.
    """
    s, phi = sympy.symbols("s varphi", positive=True)  # an eigenvalue of S, the component of phi along its vector
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
    mean = _limit(outputs(_two_clusters(m), sigma, sympy.Integer(0), T / (sigma * psi[1]) ** 2)[0])
    tau = sympy.factor(mean / (1 - mean))
    if sympy.simplify(tau - t * m**2 / sigma**2) != 0:
        raise AssertionError("two clusters do not have the signal t m^2/sigma^2")
    xor = [_limit(value) for value in outputs(_xor(m), sigma, sympy.Integer(0), T / (sigma * psi[1]) ** 2)]
    steps = (
        *_counted(sympy.Integer(0)),
        Step(
            "Along an eigenvector of S", rf"\Gamma = {latex(total)},\quad u \propto {latex(sympy.simplify(beta / phi))}"
        ),
        Step("Shrinkage", rf"m_a = \frac{{t}}{{\sigma^2}} v_a\cdot u,\quad t = {latex(t)}"),
        Step("Two clusters at distance m: signal", rf"S^2 = {latex(tau)}"),
        Step("XOR: outputs", rf"m_a = {latex(sympy.Matrix([xor]))}"),
    )
    return Derived((t / sigma**2, spread.subs(slope, ridge_slope)), steps=steps)


# --- the crossover, means of length D^(1/4)
# ---------------------------------------------------------------------------


def crossover(response: Positive, ridge_slope: Real, quadratic: Real, sigma: Positive) -> Derived:
    """Means V_a D^(1/4): (tensor, norm, and lambda d/dlambda of both), the weights of the Gram matrix of class means

        G_ab = tensor (V_a·V_b)^2 + norm |V_a|^2 |V_b|^2,   centred with P.

    With tau = k_2^2 response, response = gamma A = T/k_1^2: tensor = tau/sigma^4 from order 2 in V_a·f, and
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
        *_counted(quarter),
        Step("Class means to second order", rf"P A\,E[z_a z_b]_{{\mathrm{{traceless}}}} = {latex(tensor)}"),
        Step("Norm spike", rf"\tau = P A z_{{norm}}^2 = {latex(tau)},\quad P A z_a z_b |_{{|x|^2}} = {latex(bare)}"),
        Step("Woodbury", rf"G_{{ab}} = {latex(tensor)} + {latex(norm)}"),
    )
    values = [sympy.factor(tensor / inner**2), sympy.factor(norm / (lengths[0] * lengths[1]))]
    slopes = [sympy.factor(ridge_slope * sympy.diff(value, response)) for value in values]
    return Derived((*values, *slopes), steps=steps)


def crossover_xor(response: Positive, quadratic: Real, length: Positive, sigma: Positive) -> Derived:
    """S^2 = (m/sigma)^4 tau/2 of XOR with means of length m D^(1/4) at lambda = 0; the error is Phi(-S)."""
    return _crossover_signal(_xor(length), response, quadratic, sigma)


def crossover_three_clusters(response: Positive, quadratic: Real, length: Positive, sigma: Positive) -> Derived:
    """S^2 = (m/sigma)^4 [tau + tau/(2 (1 + tau))]/4 of three clusters, outer means of length m D^(1/4), lambda = 0."""
    return _crossover_signal(_three_clusters(length), response, quadratic, sigma)


def _crossover_signal(
    clusters: Sequence[Cluster], response: sympy.Expr, quadratic: sympy.Expr, sigma: sympy.Expr
) -> Derived:
    mean = _limit(outputs(clusters, sigma, quarter, response)[-1])  # a cluster of label +1
    S2 = sympy.simplify((mean / (1 - mean)).subs(psi[2], sympy.sqrt(2) * quadratic / sigma**2))
    S2 = sympy.factor(S2)
    return Derived(S2, steps=(Step("Woodbury at finite D, then the limit", rf"S^2 = m/(1 - m) = {latex(S2)}"),))


# --- gates: means of length sqrt(D)
# -----------------------------------------------------------------------------------


def gates(psi_plus: Real, psi_minus: Real, var_plus: Real, var_minus: Real, sigma: Positive) -> Derived:
    """Means ±sqrt(D) m1 e1 ± m2 e2: (even, odd, noise) of a feature with component f1 along e1.

    psi_±: psi_1(±m1 f1); var_±: Var psi(±m1 f1 + sigma g).  even, odd = sigma (psi_+ ± psi_-)/2 are its two channels,
    noise is what order 1 leaves of its variance:

        1/A = lambda + noise + even^2/(1 + s_e) + odd^2/(1 + s_o),   s_e,o = gamma E[channel^2 A].
    """
    turn = sympy.Matrix([[1, 1], [1, -1]]) / sympy.sqrt(2)  # the two signs of m1 f1, each of weight 1/2
    channels = turn * sympy.Matrix([psi_plus, psi_minus]) * sigma / sympy.sqrt(2)
    noise = ((var_plus - (sigma * psi_plus) ** 2) + (var_minus - (sigma * psi_minus) ** 2)) / 2
    even, odd = (sympy.factor(c) for c in channels)
    steps = (
        *_counted(half),
        Step("Channels of the two signs", r"B = \sigma(\psi_+, \psi_-)/\sqrt 2"),
        Step("Even and odd in f_1: S is diagonal", rf"\beta = {latex(sympy.Matrix([even, odd]))}"),
        Step("Order 2 has D^2/2 directions for P = gamma D features: noise", rf"C = {latex(noise)}"),
    )
    return Derived((even, odd, noise), steps=steps)


def gate_signal(odd: Positive, second_length: Positive, sigma: Positive) -> Derived:
    """(tau, dtau/dodd): the signal of the label, the product of two signs, through the odd gates; odd = s_o.

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
    """The four channels of XOR with means of length sqrt(D): (E_1 + E_2)/2, (E_1 - E_2)/2, O_1/sqrt 2, O_2/sqrt 2.

    E_i, O_i: even and odd part in f_i of sigma psi_1(m f_i).  S is diagonal in them, by reflection of either axis and
    exchange of the two.
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
    """XOR with means of length sqrt(D): (d, z_norm, z_along), the spikes even in f_1 and f_2, odd under their exchange.

    mean_i, quadratic_i: even parts in f_i of psi_0(m f_i) and k_2(m f_i); odd_i: odd part of sigma psi_1(m f_i).  With
    <p, q> = gamma E[p q A], D tau_3 = D [<d,d> - <d,z> (1 + <z,z>)^-1 <z,d>]; pmse = 1/(2 (1 + D tau_3)).
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
    return Derived(values, steps=(*_counted(half), *steps))


# --- as many features as pairs of coordinates
# -------------------------------------------------------------------------


def quadratic_features(T: Positive, ridge_slope: Real, length: Positive, sigma: Positive) -> Derived:
    """P = gamma_2 D^2/2 features, XOR with means of length m: (theta, bulk) of the output theta s(x) + sqrt(bulk) g.

    s(x) = (x_2^2 - x_1^2)/2 for labels -1 at ±m e_1 and +1 at ±m e_2.  T = T(gamma_2, r) with
    r = (lambda + k_3^2)/k_2^2, k_3^2 the variance of all orders beyond the second; `ridge_slope`: lambda dT/dlambda.
    """
    m, s2 = length, sigma**2
    g1, g2 = fields(2)
    law = GaussianAlgebra((g1, g2), (0, 0), ((1, 0), (0, 1)))
    s = ((m + sigma * g2) ** 2 - (sigma * g1) ** 2) / 2
    d = law.average(sympy.expand(s))
    d = sympy.factor(d)
    variance = sympy.factor(sympy.expand(law.average(sympy.expand(s**2)) - d**2))
    theta = d / (d**2 + variance + s2**2 / T)
    k2 = sigma**2 * psi[2] / sympy.sqrt(2)
    exact = _limit(outputs(_xor(m), sigma, sympy.Integer(0), T / k2**2, features=2)[-1])
    if sympy.simplify(exact - theta * d) != 0:
        raise AssertionError("Woodbury on the order 2 disagrees with regression on s(x)")
    bulk = theta**2 * s2**2 * (T + ridge_slope) / T**2
    steps = (
        *_counted(sympy.Integer(0), features=2),
        Step(
            "The readout sees s(x)", rf"E[s \mid y = 1] = {latex(d)},\quad \mathrm{{Var}}[s \mid y] = {latex(variance)}"
        ),
        Step("Woodbury at finite D, then the limit", rf"m = {latex(sympy.factor(exact))} = \theta\,E[s]"),
        Step("Bulk: all other directions of order 2", rf"Q_b = {latex(bulk)}"),
    )
    return Derived((sympy.simplify(theta), sympy.simplify(bulk)), steps=steps)


def quadratic_error(along: Real, theta: Positive, bulk: Positive, length: Positive, sigma: Positive) -> Derived:
    """Density over `along` of the error of the output theta s(x) + sqrt(bulk) g on XOR; its integral is the error.

    s(x) = p q with p, q = (x_2 ± x_1)/sqrt 2 ~ N(m/sqrt 2, sigma^2), independent; `along` is p, q and g are integrated.
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
    shifted_erf,
    hermite_orders,
    quadratic_directions,
    spikes,
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
