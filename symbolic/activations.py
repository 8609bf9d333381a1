"""The activations, and every average of them that the learning equations ask for.

An activation is one entry of `BUILTIN` in `symbolic.grammar`: a name and an expression in x.  `symbolic.two_layer` says
which averages its equations contain (E[g' g], E[g' g' g g], ...); here each is taken over n = 1 .. 4 distinct fields,
with the coincidences of indices that occur: where two factors sit on the same neuron, they multiply within one field.
All averages over the same n fields form one generated function, so that they share their orthant probabilities.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, permutations, product
from typing import Any

import mpmath
import sympy

from quenched.symbolic.calculus.gaussian import GaussianAlgebra, NoClosedForm, derivative, fields
from quenched.symbolic.language.grammar import BUILTIN
from quenched.symbolic.language.latex import latex
from quenched.symbolic.language.notation import Derived, Step
from quenched.symbolic.language.parse import VARIABLE, parse
from quenched.symbolic.learners.two_layer import AVERAGES, slots

__all__ = ["BUILTIN", "Activation", "Group", "group_symbols", "layouts", "screen"]

FIELD_LIMIT = 4  # an average over more distinct fields needs orthant probabilities of more than four


def layouts(n: int) -> Iterator[str]:
    """How the factors of the needed averages distribute over n distinct fields, each layout once.

    >>> list(layouts(1))[:6], list(layouts(4))[0]
    (['ddg', 'dg', 'g', 'ddg*g', 'dg*dg', 'dg*g'], 'dg,dg,g,g')
    """
    seen = set()
    for pattern in AVERAGES:
        factors = slots(pattern)
        for places in product(range(n), repeat=len(factors)):
            if set(places) != set(range(n)):
                continue
            layout = ",".join(
                "*".join(sorted(f for f, place in zip(factors, places, strict=True) if place == i)) for i in range(n)
            )
            if layout not in seen:
                seen.add(layout)
                yield layout


def group_symbols(n: int) -> tuple[tuple[sympy.Symbol, ...], list[list[sympy.Symbol]]]:
    """Means m0 .. and covariances c00, c01, .. of n fields."""
    means = tuple(sympy.Symbol(f"m{i}", real=True) for i in range(n))
    names = [[f"c{min(i, j)}{max(i, j)}" for j in range(n)] for i in range(n)]
    covariance = [
        [sympy.Symbol(name, **({"positive": True} if i == j else {"real": True})) for j, name in enumerate(row)]
        for i, row in enumerate(names)
    ]
    return means, covariance


_PIECEWISE = (sympy.Max, sympy.Min, sympy.Abs, sympy.Heaviside, sympy.sign)


@dataclass(frozen=True)
class Group:
    """The averages over n fields: `derived.values[index[layout]]` is that of a layout such as "dg*g,g"."""

    n: int
    arguments: tuple[sympy.Symbol, ...]
    index: dict[str, int]
    derived: Derived


@dataclass(frozen=True)
class Activation:
    """An activation g, its derivatives as distributions, and the averages of their products.

    >>> Activation("relu", "Max(x, 0)").derivatives["dg"]
    Heaviside(x)
    """

    name: str
    text: str

    @cached_property
    def expression(self) -> sympy.Expr:
        """g(x)."""
        return parse(self.text)

    @cached_property
    def derivatives(self) -> dict[str, sympy.Expr]:
        """g, g' and g'', with H(0) = 1/2 where a delta meets a step."""
        first = derivative(self.expression, VARIABLE)
        return {"g": self.expression, "dg": first, "ddg": derivative(first, VARIABLE)}

    def curvature(self) -> tuple[sympy.Expr, tuple[tuple[str, str], ...]]:
        """g'' away from the kinks of g, and the kinks: (position, jump of g') as exact numbers in text."""
        regular = sympy.Integer(0)
        jumps: list[tuple[str, str]] = []
        for part in sympy.Add.make_args(self.derivatives["ddg"]):
            deltas = [f for f in sympy.Mul.make_args(part) if isinstance(f, sympy.DiracDelta)]
            if not deltas:
                regular += part
                continue
            (position,) = sympy.solve(deltas[0].args[0], VARIABLE)
            size = part / deltas[0] / sympy.Abs(deltas[0].args[0].diff(VARIABLE))
            exact, jump = (str(n if n.is_Rational else n.evalf(50)) for n in (position, size))
            jumps.append((exact, jump))
        return regular, tuple(jumps)

    def integrand(self, layout: str) -> sympy.Expr:
        """The product of factors that a layout stands for, in the fields x0, x1, ..."""
        parts = layout.split(",")
        result = sympy.Integer(1)
        for x, part in zip(fields(len(parts)), parts, strict=True):
            factors = part.split("*")
            together = sympy.Mul(*(self.derivatives[f] for f in factors))
            if "ddg" in factors and len(factors) > 1 and together.has(sympy.DiracDelta):
                together = _at_support(together)
            result *= together.subs(VARIABLE, x)
        return result

    def group(self, n: int) -> Group:
        """All averages over n fields; raises `NoClosedForm` if one of them has none."""
        means, covariance = group_symbols(n)
        variables = fields(n)
        algebra = GaussianAlgebra(variables, means, covariance)
        index: dict[str, int] = {}
        values: list[sympy.Expr] = []
        titles: list[Step] = []
        for layout in layouts(n):
            value = algebra.reduce(self.integrand(layout))
            if value not in values:
                values.append(value)
            index[layout] = values.index(value)
            titles.append(Step("Result", rf"E\left[{latex(self.integrand(layout))}\right] = {latex(value)}"))
        triangle = tuple(covariance[i][j] for i in range(n) for j in range(i, n))
        derived = Derived(tuple(values), tuple(algebra.definitions), (*algebra.steps, *titles))
        return Group(n, (*means, *triangle), index, derived)

    def kinks(self) -> tuple[tuple[sympy.Expr, ...], tuple[tuple[sympy.Expr, sympy.Expr], ...]] | None:
        """If g is piecewise linear: where it bends, and (slope, intercept) of each piece from left to right."""
        if self.expression.atoms(sympy.Function) - self.expression.atoms(*_PIECEWISE):
            return None
        bends: set[sympy.Expr] = set()
        for atom in self.expression.atoms(*_PIECEWISE):
            differences = (
                [atom.args[0]]
                if len(atom.args) == 1
                else [
                    p - q
                    for p, q in permutations(atom.args, 2)
                    if sympy.default_sort_key(p) < sympy.default_sort_key(q)
                ]
            )
            for difference in differences:
                if difference.has(sympy.Max, sympy.Min, sympy.Abs) or not sympy.Poly(difference, VARIABLE).is_linear:
                    return None
                bends.update(sympy.solve(difference, VARIABLE))
        points = sorted(bends)
        inside = [points[0] - 1, *((p + q) / 2 for p, q in pairwise(points)), points[-1] + 1] if points else [0]
        pieces = []
        for point in inside:
            local = self._near(point)
            if local is None:
                return None
            pieces.append(local)
        return tuple(points), tuple(pieces)

    def _near(self, point: sympy.Expr) -> tuple[sympy.Expr, sympy.Expr] | None:
        """(slope, intercept) of g around a point, if it is linear there."""
        smooth = self.expression.replace(
            lambda e: isinstance(e, (sympy.Max, sympy.Min)),
            lambda e: (max if isinstance(e, sympy.Max) else min)(e.args, key=lambda p: p.subs(VARIABLE, point)),
        )
        smooth = smooth.replace(sympy.Abs, lambda p: p * sympy.sign(p.subs(VARIABLE, point)))
        smooth = smooth.replace(sympy.sign, lambda p: sympy.sign(p.subs(VARIABLE, point)))
        smooth = smooth.replace(
            lambda e: isinstance(e, sympy.Heaviside), lambda e: sympy.Heaviside(e.args[0].subs(VARIABLE, point))
        )
        if not smooth.is_polynomial(VARIABLE) or sympy.degree(smooth, VARIABLE) > 1:
            return None
        return sympy.expand(smooth).coeff(VARIABLE, 1), smooth.subs(VARIABLE, 0)


def screen(activation: Activation) -> None:
    """Refuse, with the reason, what has no equations: g and g' must be finite, real and square-integrable.

    Square-integrable under every Gaussian, that is: log|g| must grow more slowly than x^2, g may have no pole, and no
    jump either (g' would be a delta).
    """
    g, dg = activation.expression, activation.derivatives["dg"]
    if not g.has(VARIABLE):
        raise ValueError(f"activation {activation.text!r} is a constant: nothing to learn")
    if dg.has(sympy.DiracDelta):
        raise ValueError(f"activation {activation.text!r} jumps: its derivative {dg} is not square-integrable")
    ctx = mpmath.mp.clone()
    ctx.dps = 20
    grid = [ctx.mpf(i) / 16 for i in range(-640, 641)]
    for label, function in (("g", g), ("g'", dg)):
        compiled = sympy.lambdify(VARIABLE, function, modules=["mpmath", {"Heaviside": _heaviside}])
        for point in grid:
            try:
                value = compiled(point)
            except (ZeroDivisionError, ValueError, OverflowError):
                value = ctx.nan
            if not ctx.isfinite(value) or ctx.im(value) != 0:
                raise ValueError(
                    f"activation {activation.text!r}: {label} = {function} is not finite and real at x = {point}"
                )
        for end in (ctx.mpf(10) ** 6, -(ctx.mpf(10) ** 6)):
            size = abs(compiled(end))
            if size and ctx.log(size) / end**2 > 1e-4:
                raise ValueError(
                    f"activation {activation.text!r}: {label} = {function} grows like exp(c x^2) or faster and is not "
                    "square-integrable under a Gaussian of large variance"
                )
    for power in g.atoms(sympy.Pow):
        if power.exp.is_negative:
            base = sympy.lambdify(VARIABLE, power.base, modules=["mpmath", {"Heaviside": _heaviside}])
            signs = {ctx.sign(base(point)) for point in grid}
            if len(signs) > 1:
                raise ValueError(
                    f"activation {activation.text!r}: {power.base} vanishes somewhere and {power} has a pole"
                )


def _heaviside(x: Any, half: Any = 0.5) -> Any:
    return half if x == 0 else int(x > 0)


def _at_support(expression: sympy.Expr) -> sympy.Expr:
    """f(x) delta(x - a) = f(a) delta(x - a) with H(0) = 1/2, for each term of a product with g''."""
    result = sympy.Integer(0)
    for part in sympy.Add.make_args(sympy.expand(expression)):
        support = [f for f in sympy.Mul.make_args(part) if isinstance(f, sympy.DiracDelta)]
        if len(support) > 1:
            raise NoClosedForm(f"{part}: the product of two deltas")
        if support:
            (root,) = sympy.solve(support[0].args[0], VARIABLE)
            part = (part / support[0]).subs(VARIABLE, root) * support[0]
        result += part
    return result
