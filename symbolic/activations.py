"""The activations, and every average of them that the learning equations ask for.

An activation is one entry of `BUILTIN` in `symbolic.grammar`: a name and an expression in x.  `symbolic.two_layer` says
which averages its equations contain (E[g' g], E[g' g' g g], ...); here each is taken over n = 1 .. 4 distinct fields,
with the coincidences of indices that occur: where two factors sit on the same neuron, they multiply within one field.
All averages over the same n fields form one generated function, so that they share their orthant probabilities.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import combinations, pairwise, product
from typing import Any

import mpmath
import sympy

from quenched.symbolic.calculus.forms import Term, expand
from quenched.symbolic.calculus.gaussian import GaussianAlgebra, fields
from quenched.symbolic.calculus.steps import KINKS, NoClosedForm, Pieces, derivative, in_steps, is_zero, pieces
from quenched.symbolic.language.grammar import BUILTIN, DERIVED, NAMED
from quenched.symbolic.language.latex import latex
from quenched.symbolic.language.notation import Derived, Step
from quenched.symbolic.language.parse import VARIABLE, parse
from quenched.symbolic.learners.two_layer import AVERAGES, slots

__all__ = [
    "BUILTIN",
    "NAMED",
    "Activation",
    "Group",
    "group_symbols",
    "layouts",
    "screen",
    "screen_poles",
    "screen_values",
]

logger = logging.getLogger("quenched.symbolic")

_SECONDS = 2.5e-3  # per unit of cost: to derive and, mostly, to compile; fitted to twenty activations
_LONG, _TOO_LONG = 60.0, 720.0  # seconds; announced before it starts, and sampled instead
_SILENCE = 5.0  # seconds between two words about how far a long derivation is
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
    def pieces(self) -> Pieces | None:
        """The smooth formulas of g between its kinks; None where those are not known as exact numbers."""
        try:
            return pieces(self.expression, VARIABLE)
        except NoClosedForm:
            return None

    @cached_property
    def derivatives(self) -> dict[str, sympy.Expr]:
        """g, g' and g'', with H(0) = 1/2 where a delta meets a step.

        Where the kinks are not known as exact numbers, they are the derivatives that sympy takes of Max, |.| and sign.
        """
        if self.pieces is None:
            first = self.expression.diff(VARIABLE)
            return {"g": self.expression, "dg": first, "ddg": first.diff(VARIABLE)}
        first = derivative(self.expression, VARIABLE)
        try:
            second = derivative(first, VARIABLE)
        except NoClosedForm:  # infinite at a kink
            second = first.diff(VARIABLE)
        return {"g": self.expression, "dg": first, "ddg": second}

    @property
    def jumps(self) -> bool:
        """Whether g has a jump, so that g' is a delta."""
        return any(self.derivatives["dg"].atoms(sympy.DiracDelta))

    def evaluated(self, order: int) -> sympy.Expr:
        """The derivative of an order as code evaluates it: finite at each number, the mean of both sides at a kink.

        A formula that may overflow, or has no value, beyond its piece is evaluated within it: exp(Min(x, 0)) left of 0.
        """
        if order == 0:
            return self.expression
        found = self.pieces
        if found is None:
            return _without_deltas(self.expression.diff(VARIABLE, order))
        slopes = [value.diff(VARIABLE, order) for value in found.values]
        if len(slopes) == 1:
            return sympy.expand(slopes[0])
        if all(slope.is_polynomial(VARIABLE) for slope in slopes):
            changes = zip(pairwise(slopes), found.points, strict=True)
            steps = [(right - left) * sympy.Heaviside(VARIABLE - point) for (left, right), point in changes]
            return sympy.expand(sympy.Add(slopes[0], *steps))
        sides = zip(pairwise(slopes), found.points, strict=True)
        if any(not side.subs(VARIABLE, point).is_finite for pair, point in sides for side in pair):
            return _without_deltas(self.expression.diff(VARIABLE, order))
        total = sympy.Integer(0)
        for slope, low, high in zip(slopes, (None, *found.points), (*found.points, None), strict=True):
            inside = VARIABLE if low is None else sympy.Max(VARIABLE, low)
            inside = inside if high is None else sympy.Min(inside, high)
            within = 1 if low is None else sympy.Heaviside(VARIABLE - low)
            within = within if high is None else within - sympy.Heaviside(VARIABLE - high)
            total += within * slope.subs(VARIABLE, inside)
        return total

    def builtin(self) -> str:
        """The name whose averages are checked in, if it is the same function, or ''."""
        if self.pieces is None:
            return ""
        own = in_steps(self.expression, VARIABLE)
        known = {name: text for name, text in (*BUILTIN.items(), *NAMED.items()) if name not in DERIVED}
        return next((name for name, text in known.items() if in_steps(parse(text), VARIABLE) == own), "")

    def kinks(self) -> tuple[tuple[str, str], ...]:
        """Where g changes its formula and by how much g' jumps there, as exact numbers in text.

        Where those are not known, the kinks in |x| <= 40, to 50 digits.
        """
        if self.pieces is None:
            return _located_kinks(self.expression, self.evaluated(1))
        changes = zip(self.pieces.points, pairwise(self.pieces.values), strict=True)
        jumps = [(point, (right - left).diff(VARIABLE).subs(VARIABLE, point)) for point, (left, right) in changes]
        if not all(jump.is_finite for _, jump in jumps):
            return _located_kinks(self.expression, self.evaluated(1))
        return tuple((_digits(point), "0" if is_zero(jump) else _digits(jump)) for point, jump in jumps)

    def integrand(self, layout: str) -> sympy.Expr:
        """The product of factors that a layout stands for, in the fields x0, x1, ..."""
        parts = layout.split(",")
        result = sympy.Integer(1)
        for x, part in zip(fields(len(parts)), parts, strict=True):
            factors = part.split("*")
            together = sympy.Mul(*(self.derivatives[f] for f in factors))
            result *= in_steps(together, VARIABLE).subs(VARIABLE, x)
        return result

    def seconds(self, n: int) -> float:
        """About how long the averages over n fields take on first use, to a factor of three.

        Each layout costs the product over its fields of the terms there, weighted by what a rule makes of them: degree
        + 1 by Stein's, two by a step or a shift, three by a wave, which products multiply.
        """

        @cache
        def cost(part: str) -> float:
            return sum(_cost(term) for term in expand(self.integrand(part), fields(1)))

        return _SECONDS * sum(math.prod(map(cost, layout.split(","))) for layout in layouts(n))

    def groups(self, limit: int = FIELD_LIMIT) -> tuple[Group, ...]:
        """All averages over 1 .. `limit` fields; raises `NoClosedForm` if one of them has none, or takes too long.

        Of a g that jumps, those of g and of products of g.  What takes more than a minute is announced to the logger
        `quenched.symbolic`, which then hears how far it is.
        """
        if self.jumps:
            return self.group(1, ["g", "g*g"]), self.group(2, ["g,g"])
        total = sum(self.seconds(n) for n in range(1, limit + 1))
        if total > _TOO_LONG:
            needed = _duration(total)
            logger.warning("the averages of %s in closed form would take about %s: they are sampled", self.text, needed)
            raise NoClosedForm(f"{self.text}: its averages would take about {needed} to derive and compile")
        if total > _LONG:
            logger.info("the averages of %s take about %s to derive and compile", self.text, _duration(total))
        return tuple(self.group(n, announce=total > _LONG) for n in range(1, limit + 1))

    def group(self, n: int, needed: Sequence[str] = (), announce: bool = False) -> Group:
        """All averages over n fields, or those `needed`; raises `NoClosedForm` if one of them has none."""
        means, covariance = group_symbols(n)
        variables = fields(n)
        algebra = GaussianAlgebra(variables, means, covariance)
        index: dict[str, int] = {}
        place: dict[sympy.Expr, int] = {}
        needed = needed or list(layouts(n))
        said = time.monotonic()
        for done, layout in enumerate(needed):
            value = algebra.reduce(self.integrand(layout))
            index[layout] = place.setdefault(value, len(place))
            if announce and time.monotonic() - said > _SILENCE:
                logger.info("%d of %d averages over %d fields derived", done + 1, len(needed), n)
                said = time.monotonic()
        triangle = tuple(covariance[i][j] for i in range(n) for j in range(i, n))
        steps = (*algebra.steps, *self._results(index, tuple(place), n))
        derived = Derived(tuple(place), tuple(algebra.definitions), steps)
        return Group(n, (*means, *triangle), index, derived)

    def _results(self, index: Mapping[str, int], values: Sequence[sympy.Expr], n: int) -> list[Step]:
        """The averages in brackets, those of one value together; numbers, which say nothing, are left out."""
        found = []
        if n == 1:
            shapes = zip(("g", "g'", "g''"), ("g", "dg", "ddg"), strict=True)
            found = [Step("Result", rf"{left}(x) = {latex(self.derivatives[key])}") for left, key in shapes]
        for place, value in enumerate(values):
            if not value.is_number:
                brackets = [_bracket(layout) for layout, at in index.items() if at == place]
                found.append(Step("Result", " = ".join([*brackets, latex(value)])))
        return found

    def lines(self) -> tuple[tuple[sympy.Expr, ...], tuple[tuple[sympy.Expr, sympy.Expr], ...]] | None:
        """If g is piecewise linear: where it bends, and (slope, intercept) of each piece from left to right."""
        if self.pieces is None:
            return None
        found = []
        for value in self.pieces.values:
            if not value.is_polynomial(VARIABLE) or sympy.degree(value, VARIABLE) > 1:
                return None
            found.append((sympy.expand(value).coeff(VARIABLE, 1), value.subs(VARIABLE, 0)))
        return self.pieces.points, tuple(found)


def _bracket(layout: str) -> str:
    r"""An average on paper.

    >>> _bracket("dg*dg,g")
    "\\langle (g'_{0})^{2}\\,g_{1} \\rangle"
    """
    primes = {"ddg": "''", "dg": "'", "g": ""}
    factors = []
    for i, part in enumerate(layout.split(",")):
        names = part.split("*")
        for name, prime in primes.items():
            if count := names.count(name):
                factors.append(rf"g{prime}_{{{i}}}" if count == 1 else rf"(g{prime}_{{{i}}})^{{{count}}}")
    inside = r"\,".join(factors)
    return rf"\langle {inside} \rangle"


def _cost(term: Term) -> float:
    """Of reducing the average of one product."""
    degree = sum(n for _, n in term.powers)
    doubled = bool(term.steps) + len(term.softs) + (term.shift is not None)
    return float((1 + degree) * 2**doubled * (3 if term.wave else 1))


def _duration(seconds: float) -> str:
    """Rounded.

    >>> _duration(40), _duration(200)
    ('40 seconds', '3 minutes')
    """
    return f"{seconds:.0f} seconds" if seconds < 100 else f"{seconds / 60:.0f} minutes"


def _digits(number: sympy.Expr) -> str:
    return str(number if number.is_Rational else number.evalf(50))


def _located_kinks(expression: sympy.Expr, slope: sympy.Expr) -> tuple[tuple[str, str], ...]:
    """Sign changes of the arguments of kinks, found on a grid, where g' jumps by more than rounding."""
    ctx = mpmath.mp.clone()
    ctx.dps = 60
    grid, found = _grid(ctx), []
    for kink in expression.atoms(*KINKS):
        several = isinstance(kink, (sympy.Max, sympy.Min))
        for argument in [p - q for p, q in combinations(kink.args, 2)] if several else [kink.args[0]]:
            compiled = _compiled(argument, ctx)
            values = [ctx.sign(compiled(x)) for x in grid]
            found += [x for x, value in zip(grid, values, strict=True) if value == 0]
            changes = zip(pairwise(grid), pairwise(values), strict=True)
            brackets = [ends for ends, signs in changes if signs[0] * signs[1] < 0]
            found += [ctx.findroot(compiled, ends, solver="anderson") for ends in brackets]
    side, dg = ctx.mpf(10) ** -40, _compiled(slope, ctx)
    jumps = [(x, dg(x + side) - dg(x - side)) for x in sorted({ctx.nstr(x, 50): x for x in found}.values())]
    return tuple((ctx.nstr(x, 50), ctx.nstr(jump, 50)) for x, jump in jumps if abs(jump) > 1e-20)


def _without_deltas(expression: sympy.Expr) -> sympy.Expr:
    """Away from the kinks."""
    return expression.replace(sympy.DiracDelta, lambda *_: sympy.Integer(0))


def screen(activation: Activation) -> None:
    """Refuse, with the reason, what is no activation: g and g' must be finite, real and square-integrable.

    Square-integrable under every Gaussian, that is: log|g| must grow more slowly than x^2, and g may have no pole.  Of
    a g with jumps, whose g' is a delta, this is asked of g alone: it has no learning equations, but may make labels or
    random features.
    """
    g = activation.expression
    if not g.has(VARIABLE):
        raise ValueError(f"activation {activation.text!r} is a constant: nothing to learn")
    checked = [("g", g)]
    if not activation.jumps:
        checked.append(("g'", activation.evaluated(1)))
    subject = f"activation {activation.text!r}"
    for label, function in checked:
        screen_values(subject, label, function)
    screen_poles(subject, g)


def screen_values(subject: str, label: str, function: sympy.Expr, variable: sympy.Symbol = VARIABLE) -> None:
    """ValueError unless a function is finite and real on a grid, and of slow growth beyond."""
    ctx = _twenty_digits()
    compiled = _compiled(function.subs(variable, VARIABLE), ctx)
    for point in _grid(ctx):
        try:
            value = compiled(point)
        except (ZeroDivisionError, ValueError, OverflowError):
            value = ctx.nan
        if not ctx.isfinite(value) or ctx.im(value) != 0:
            raise ValueError(f"{subject}: {label} = {function} is not finite and real at {variable} = {point}")
    for end in (ctx.mpf(10) ** 6, -(ctx.mpf(10) ** 6)):
        size = abs(compiled(end))
        if not ctx.isfinite(size) or (size and ctx.log(size) / end**2 > 1e-4):
            raise ValueError(
                f"{subject}: {label} = {function} grows like exp(c {variable}^2) or faster and is not "
                "square-integrable under a Gaussian of large variance"
            )


def screen_poles(subject: str, function: sympy.Expr, variable: sympy.Symbol = VARIABLE) -> None:
    """ValueError where what is divided by changes its sign, between two points of the grid."""
    ctx = _twenty_digits()
    for power in function.atoms(sympy.Pow):
        if power.exp.is_negative:
            base = _compiled(power.base.subs(variable, VARIABLE), ctx)
            signs = {ctx.sign(base(point)) for point in _grid(ctx)}
            if len(signs) > 1:
                raise ValueError(f"{subject}: {power.base} vanishes somewhere and {power} has a pole")


def _twenty_digits() -> Any:
    ctx = mpmath.mp.clone()
    ctx.dps = 20
    return ctx


def _grid(ctx: Any) -> list[Any]:
    return [ctx.mpf(i) / 16 for i in range(-640, 641)]


def _compiled(function: sympy.Expr, ctx: Any) -> Callable[[Any], Any]:
    """In mpmath.  Exponentials beyond exp(1e30) count as infinite or 0: mpmath would write out their exponents."""

    def exponential(t: Any) -> Any:
        return ctx.exp(t) if abs(t) < 1e30 else ctx.inf if t > 0 else ctx.zero

    def heaviside(t: Any, half: float = 0.5) -> float:
        return half if t == 0 else float(t > 0)

    own = {
        "exp": exponential,
        "cosh": lambda t: (exponential(t) + exponential(-t)) / 2,
        "sinh": lambda t: ctx.sinh(t) if abs(t) < 1 else (exponential(t) - exponential(-t)) / 2,
        "Heaviside": heaviside,
    }
    names = ("atan", "cos", "erf", "erfc", "log", "mpf", "pi", "sign", "sin", "sqrt", "tanh")
    other = {name: getattr(ctx, name) for name in names}  # of this precision
    return sympy.lambdify(VARIABLE, function, modules=[own, other, "mpmath"])
