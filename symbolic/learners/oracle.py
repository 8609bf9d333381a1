"""Oracle: the error of the Bayes rule on an isotropic Gaussian mixture with known means.

    x | a ~ N(mean_a, sigma^2 I),   label y_a = ±1,   weight P_a
    rule:   yhat(x) = sign S(x),    S(x) = sum_a y_a P_a exp[(mean_a·x - |mean_a|^2/2)/sigma^2]
    error:  sum_a P_a P(yhat != y_a | a)

A mixture is given as data, a list of clusters.  S is formed and factorised by sympy; where each factor depends on one
coordinate only, its real zeros cut space into boxes, and the Gaussian integral over a box is a product of Phi.  Where S
does not factorise, two formulas serve a numerical solver: S along a line as an exponential sum, and the mass of a
cluster on a piece of that line.  All errors are homogeneous of degree one in the weights, which need not sum to 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product

import sympy

from quenched.symbolic import mixtures
from quenched.symbolic.calculus.normal import Phi, density
from quenched.symbolic.language.latex import in_letters
from quenched.symbolic.language.notation import Derived, Positive, Real, Step
from quenched.symbolic.mixtures import Cluster

__all__ = [
    "FORMULAS",
    "NOTATION",
    "ORDER",
    "PART",
    "STATUS",
    "TITLE",
    "discriminant",
    "factorised_error",
    "parity",
    "radial_discriminant",
    "slice_mass",
    "three_clusters",
    "xor",
]

TITLE = "Oracle error"
PART, ORDER = "errors", 1
STATUS = "Exact at any D."
NOTATION = {
    "separation": "r",
    "first_length": "m_{1}",
    "second_length": "m_{2}",
    "weight": "P",
    "weight_plus": "P_{+}",
    "weight_minus": "P_{-}",
    "weight_centre": "P_{0}",
    "weight_outer": "P_{1}",
    "inner_mean": "m_{x}",
    "outer_mean": "m_{y}",
    "outer": "y",
    "lower": "a",
    "upper": "b",
    "reach": r"\ell",
    "threshold": r"\tau",
    "distance_squared": "d^{2}",
    "dimension": "n_{x}",
}
latex = in_letters(NOTATION)


@dataclass(frozen=True)
class _Cuts:
    """Where one factor of S changes sign along its coordinate: ascending thresholds, and the sign beyond the last."""

    thresholds: tuple[sympy.Expr, ...]
    sign: int
    definitions: tuple[tuple[sympy.Symbol, sympy.Expr], ...] = ()
    steps: tuple[Step, ...] = ()


def _sign(expression: sympy.Expr) -> int:
    if expression.is_positive is None:
        raise ValueError(f"the sign of {expression} is not decided by the assumptions on its symbols")
    return 1 if expression.is_positive else -1


def _ratio_to_centre(cluster: Cluster, x: Sequence[sympy.Symbol], sigma: sympy.Symbol) -> sympy.Expr:
    """Density of a cluster at x over that of a cluster at the origin: the exponential of a linear function of x."""
    ratio = sympy.prod(
        density(xi - mi, sigma**2) / density(xi, sigma**2) for xi, mi in zip(x, cluster.mean, strict=True)
    )
    return sympy.expand(sympy.powsimp(ratio))


def _cuts(factor: sympy.Expr, x: sympy.Symbol) -> _Cuts:
    """Solve a polynomial with one or two positive roots in E = exp(k x) for x.

    Binomial a E^n + c: x = log(-c/a)/(n k).  Quadratic a E^2 + b E + c with c/a > 0: it vanishes where
    sqrt(a/c) E + sqrt(c/a)/E = 2 cosh(..) = 2 R, R = -(b/a)/(2 sqrt(c/a)); for R <= 1 it keeps its sign.
    """
    (E,) = (generator for generator in sympy.Poly(factor).gens if generator.has(x))
    k = E.exp.coeff(x)
    polynomial = sympy.Poly(factor, E)
    if not k.is_positive:
        raise ValueError(f"the sign beyond the last threshold needs a growing exponential, got {E}")
    name = latex(x)
    if len(polynomial.terms()) == 2:
        (n, a), (_, c) = ((monomial[0], value) for monomial, value in polynomial.terms())
        zero = sympy.log(-c / a) / (n * k)
        steps: tuple[Step, ...] = (Step("Zero", rf"{name} = {latex(zero)}"),)
        if zero == 0:
            return _Cuts((zero,), _sign(a), (), steps)
        threshold = sympy.Symbol("threshold", real=True)
        return _Cuts((threshold,), _sign(a), ((threshold, zero),), steps)
    a, b, c = polynomial.all_coeffs()
    centre = sympy.expand_log(sympy.log(sympy.simplify(c / a))) / (2 * k)
    log_R = sympy.expand_log(sympy.log(sympy.powsimp(-(b / a) / (2 * sympy.sqrt(c / a)))))
    reach = sympy.Symbol("reach", nonnegative=True)
    threshold = sympy.Symbol("threshold", nonnegative=True)
    # arccosh(exp(l)) in terms of l, which stays finite where R overflows
    inverse = reach + sympy.log(1 + sympy.sqrt(1 - sympy.exp(-2 * reach)))
    if sympy.simplify((sympy.exp(inverse) + sympy.exp(-inverse)) / 2 - sympy.exp(reach)) != 0:
        raise AssertionError("the logarithmic form of arccosh is wrong")
    steps = (
        Step("Hyperbolic form", rf"{latex(factor)} = 0 \iff \cosh\Bigl({latex(k * x)}\Bigr) = R"),
        Step("Zeros", rf"{name} = \pm {latex(1 / k)} \operatorname{{arcosh}} R,\quad \log R = {latex(log_R)}"),
        Step("Logarithmic form", r"\operatorname{arcosh} e^\ell = \ell + \log\bigl(1 + \sqrt{1 - e^{-2\ell}}\bigr)"),
        Step(
            "No zeros", r"R \le 1 \implies S \text{ keeps its sign: } \ell = \max(0, \log R) = 0 \text{ and } \tau = 0"
        ),
    )
    definitions = ((reach, sympy.Max(0, log_R)), (threshold, inverse / k))
    return _Cuts((centre - threshold, centre + threshold), _sign(a), definitions, steps)


def _mass(lower: sympy.Expr, upper: sympy.Expr, mean: sympy.Expr, sigma: sympy.Expr) -> sympy.Expr:
    """P(lower < x < upper) for x ~ N(mean, sigma^2), in the form whose terms are small where the probability is."""
    if lower == -sympy.oo and upper == sympy.oo:
        return sympy.Integer(1)
    if lower == -sympy.oo:
        return Phi((upper - mean) / sigma)
    if upper == sympy.oo:
        return Phi((mean - lower) / sigma)
    if mean.is_negative:  # reflection x -> -x
        lower, upper, mean = -upper, -lower, -mean
    return Phi((upper - mean) / sigma) - Phi((lower - mean) / sigma)


def factorised_error(clusters: Sequence[Cluster], sigma: sympy.Symbol, x: Sequence[sympy.Symbol]) -> Derived:
    """Error of the Bayes rule of a mixture whose S factorises into functions of one coordinate each."""
    name = ", ".join(latex(xi) for xi in x)
    S = sum(c.label * c.weight * _ratio_to_centre(c, x, sigma) for c in clusters)
    rule = (
        r"\sum_a y_a P_a \exp\Bigl[\Bigl(\mathrm{mean}_a\cdot x - \tfrac12 |\mathrm{mean}_a|^2\Bigr)\Big/\sigma^2\Bigr]"
    )
    steps = [
        Step("Bayes rule", rf"\hat y = \operatorname{{sign}} S({name}),\quad S({name}) = {rule}"),
        Step("Cluster means", rf"S({name}) = {latex(sympy.powsimp(S))}"),
    ]
    factorised = sympy.factor(S)
    steps.append(Step("Factorisation", rf"S({name}) = {latex(factorised)}"))

    cuts: dict[sympy.Symbol, _Cuts] = {}
    sign = 1
    for factor in sympy.Mul.make_args(factorised):
        coordinates = [xi for xi in x if factor.has(xi)]
        if factor.is_positive or not coordinates:
            sign *= _sign(factor)
        elif len(coordinates) > 1 or coordinates[0] in cuts:
            raise ValueError(f"the discriminant has no single factor per coordinate: {factorised}")
        else:
            cuts[coordinates[0]] = _cuts(factor, coordinates[0])
            sign *= cuts[coordinates[0]].sign

    error: sympy.Expr = sympy.Integer(0)
    whole = _Cuts((), 1)
    edges = [(-sympy.oo, *cuts.get(xi, whole).thresholds, sympy.oo) for xi in x]
    for cell in product(*(range(len(e) - 1) for e in edges)):
        crossings = sum(len(e) - 2 - i for e, i in zip(edges, cell, strict=True))  # thresholds between cell and +oo
        label = sign * (-1) ** crossings
        box = [list(pairwise(e))[i] for e, i in zip(edges, cell, strict=True)]
        for c in clusters:
            if c.label != label:
                error += c.weight * sympy.prod(
                    _mass(low, high, m, sigma) for (low, high), m in zip(box, c.mean, strict=True)
                )
    for cut in cuts.values():
        steps += cut.steps
    definitions = sum((cut.definitions for cut in cuts.values()), ())
    steps.append(Step("Gaussian integral over the cells of the wrong label", rf"\varepsilon = {latex(error)}"))
    return Derived(error, definitions, tuple(steps))


def two_clusters(separation: Positive, sigma: Positive, weight_plus: Positive, weight_minus: Positive) -> Derived:
    """Oracle error of two clusters: means ±separation e1, labels ±1, weights weight_plus and weight_minus."""
    clusters = mixtures.two_clusters(separation, weight_plus, weight_minus)
    return factorised_error(clusters, sigma, sympy.symbols("x_1:2", real=True))


def three_clusters(separation: Positive, sigma: Positive, weight_centre: Positive, weight_outer: Positive) -> Derived:
    """Oracle error of three clusters: +1 at the origin, -1 at ±separation e1 with half of weight_outer each.

    Label +1 on |x1| < threshold = (sigma^2/separation) arccosh(R), log R = log(weight_centre/weight_outer)
    + separation^2/(2 sigma^2); reach = max(0, log R), so that for R <= 1 the label is -1 everywhere.
    """
    clusters = mixtures.three_clusters(separation, weight_centre, weight_outer)
    return factorised_error(clusters, sigma, sympy.symbols("x_1:2", real=True))


def parity(first_length: Positive, second_length: Positive, sigma: Positive) -> Derived:
    """Oracle error of four equal clusters at ±first_length e1 ± second_length e2, labels the products of the signs."""
    return factorised_error(mixtures.parity(first_length, second_length), sigma, sympy.symbols("x_1:3", real=True))


def xor(separation: Positive, sigma: Positive) -> Derived:
    """Oracle error of XOR: labels -1 at ±separation e1 and +1 at ±separation e2, equal weights."""
    x = sympy.Matrix(sympy.symbols("x_1:3", real=True))
    u = sympy.Matrix(sympy.symbols("u_1:3", real=True))
    rotation = sympy.Matrix([[1, 1], [1, -1]]) / sympy.sqrt(2)
    clusters = [replace(c, mean=tuple(rotation * sympy.Matrix(c.mean))) for c in mixtures.xor(separation)]
    step = Step("Rotation (isotropic noise is invariant)", rf"{latex(u)} = {latex(rotation)} {latex(x)}")
    outcome = factorised_error(clusters, sigma, tuple(u))
    return Derived(outcome.value, outcome.definitions, (step, *outcome.steps))


def discriminant(weight: Positive, inner_mean: Real, outer_mean: Real, outer: Real, sigma: Positive) -> Derived:
    """(rate, log c): the term c exp(rate·x) that a cluster of a mixture contributes to S.

    The mixture has means (inner_mean, outer_mean) in the plane; x is the inner coordinate and `outer` the other one:
    S(x) = sum_a y_a c_a exp(rate_a x) up to a positive factor which all clusters share.
    """
    x = sympy.Symbol("x", real=True)
    along = _ratio_to_centre(Cluster((inner_mean,), weight, 1), (x,), sigma)
    across = density(outer - outer_mean, sigma**2) / density(sympy.Integer(0), sigma**2)
    exponent = sympy.collect(sympy.expand(sympy.expand_log(sympy.log(along), force=True)), x)
    rate = exponent.coeff(x)
    constant = sympy.log(weight) + exponent.coeff(x, 0) + sympy.expand_log(sympy.log(across), force=True)
    joint = weight * density(x - inner_mean, sigma**2) * density(outer - outer_mean, sigma**2)
    steps = (
        Step("Bayes rule", rf"S(x, {latex(outer)}) = \sum_a y_a\, {latex(joint)}"),
        Step("Shared factor", rf"S(x, {latex(outer)}) \propto \sum_a y_a \exp\Bigl[{latex(rate * x + constant)}\Bigr]"),
    )
    return Derived((rate, constant), steps=steps)


def slice_mass(
    weight: Positive, inner_mean: Real, outer_mean: Real, outer: Real, lower: Real, upper: Real, sigma: Positive
) -> Derived:
    """Weight of a cluster, per unit of the outer coordinate, on the piece (lower, upper) of the inner coordinate.

    Its integral over `outer` is the probability of that region; a difference of Phi loses digits if lower > inner_mean.
    """
    x = sympy.Symbol("x", real=True)
    inner = _mass(lower, upper, inner_mean, sigma)
    joint = weight * density(x - inner_mean, sigma**2) * density(outer - outer_mean, sigma**2)
    step = Step("Gaussian integral", rf"\int_{{{latex(lower)}}}^{{{latex(upper)}}} {latex(joint)}\, dx")
    return Derived(weight * density(outer - outer_mean, sigma**2) * inner, steps=(step,))


def radial_discriminant(weight: Positive, distance_squared: Real, sigma: Positive, dimension: Positive) -> Derived:
    """(rate, log c): the term c exp(rate·u) of an isotropic cluster with its own sigma, in S.

    u = |x_perp|^2 is the squared distance of x from the span of the means, distance_squared = |x_par - mean_a|^2 within
    it, dimension that of x: |x - mean_a|^2 = distance_squared + u, and the density holds sigma^-dimension.
    """
    u = sympy.Symbol("u", nonnegative=True)
    one = density(sympy.Integer(0), sigma**2)
    if sympy.simplify(density(sympy.sqrt(distance_squared + u), sigma**2) / one - sympy.exp(
        -(distance_squared + u) / (2 * sigma**2)
    )) != 0:  # fmt: skip
        raise AssertionError("the density does not depend on the squared distance alone")
    exponent = sympy.expand(-(distance_squared + u) / (2 * sigma**2))
    scale = -dimension * sympy.log(sigma)  # one factor 1/sigma a direction, (2 pi)^(-1/2) being shared
    if sympy.simplify(sympy.log(one * sympy.sqrt(2 * sympy.pi)) + sympy.log(sigma)) != 0:
        raise AssertionError("the density of one direction does not fall like 1/sigma")
    rate = exponent.coeff(u)
    constant = sympy.log(weight) + scale + exponent.coeff(u, 0)
    steps = (
        Step("Pythagoras", r"|x - \mathrm{mean}_a|^2 = |x_\parallel - \mathrm{mean}_a|^2 + u,\quad u = |x_\perp|^2"),
        Step("Product of densities", r"\prod_{i=1}^{n_x} (2\pi\sigma_a^2)^{-1/2} \propto e^{-n_x\log\sigma_a}"),
        Step("Exponential sum in u", rf"S(u) \propto \sum_a y_a \exp\Bigl[{latex(rate * u + constant)}\Bigr]"),
        Step(
            "Law of u",
            r"u/\sigma_a^2 \mid a \sim \chi^2_{n_x - p},\quad p = \dim\operatorname{span}\{\mathrm{mean}_a\}",
        ),
    )
    return Derived((rate, constant), steps=steps)


FORMULAS = (two_clusters, three_clusters, xor, parity, discriminant, slice_mass, radial_discriminant)
