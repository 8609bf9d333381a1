"""What random features see: their Hermite orders, the spikes of few directions, and the powers of D of both.

Given the cluster, a feature z = psi(u) is a sum of Hermite orders of its field (`coefficients`); `spikes` are the
amplitudes of what has few directions, `power_counting` says which of them stay as D grows, and `outputs` takes the
limit: mean outputs at finite D as rational functions of D^(-1/4).
"""

from __future__ import annotations

from collections.abc import Sequence

import sympy
from sympy.polys.matrices import DomainMatrix

from quenched.symbolic.calculus.gaussian import GaussianAlgebra, fields
from quenched.symbolic.calculus.normal import Phi, Phi2
from quenched.symbolic.calculus.steps import derivative
from quenched.symbolic.language.latex import in_letters
from quenched.symbolic.language.notation import Derived, Positive, Real, Step
from quenched.symbolic.language.parse import VARIABLE
from quenched.symbolic.mixtures import Cluster, axes

__all__ = [
    "NOTATION",
    "coefficients",
    "counted",
    "half",
    "hermite_orders",
    "limit",
    "mehler",
    "outputs",
    "power_counting",
    "psi",
    "quadratic_directions",
    "quarter",
    "shifted_erf",
    "spikes",
]

NOTATION = {
    "weight": "P",
    "centred": r"\delta\psi_{0}",
    "first": "f_{i}",
    "linear": "k_{1}",
    "quadratic": "k_{2}",
    "second": "f_{j}",
    "shift": "b",
    "square": r"E[\psi^{2}]",
}
latex = in_letters(NOTATION)

D = sympy.Symbol("D", positive=True)
half, quarter = sympy.Rational(1, 2), sympy.Rational(1, 4)
psi = [sympy.Symbol(f"psi_{j}", real=True) for j in range(4)]


# --- Hermite orders


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
    """(psi_0, psi_1, psi_2, E psi^2) of psi(x) = erf((x + shift)/sqrt 2): an activation with odd and even parts.

    Closed form, for reading and for tests.
    """
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
    """The exponent of D of each spike's Gamma = P amplitude^2 A, and of J = P/directions of each channel.

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


def counted(exponent: sympy.Expr, features: int = 1) -> tuple[Step, ...]:
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


def outputs(
    clusters: Sequence[Cluster], sigma: sympy.Expr, exponent: sympy.Expr, response: sympy.Expr, features: int = 1
) -> tuple[sympy.Expr, ...]:
    """Mean outputs m_a of a mixture from the spikes at finite D, where A is constant (means of order below sqrt D).

    To second order in f the columns of Z are vectors z in the basis 1, f_i, (f_i^2 - 1)/sqrt 2, f_i f_j; with
    M = sum of z z^T over all spikes, outputs are P A z_a·(1 + P A M)^-1 sum_b P_b y_b z_b.  `response`: gamma A, where
    P = gamma D for features = 1 and gamma D^2/2 for features = 2.  Rational functions of x = D^(-1/4): no limit yet.
    """
    k = axes(clusters)
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


def limit(expression: sympy.Expr) -> sympy.Expr:
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
