r"""The rules by which a replica-symmetric potential is differentiated, as sympy functions that know their derivatives.

A potential is an expression in order parameters, their conjugates and channel averages.  Two kinds of average occur.

*Moreau envelope* of a loss l that stays abstract, at the local field w ~ N(mean, variance):

    M(V, w) = min_h [(h - w)^2/(2V) + l(h)],   reached at h = prox(V, w),   f = (prox - w)/V
    dM/dw = -f,  dM/dV = -f^2/2    (envelope theorem: only the explicit dependence counts)
    d/dmean E[M] = E[M'] = -E[f],  d/dvariance E[M] = E[M'']/2 = -E[f']/2

*Heat equation*: for any function F of fields x ~ N(m(t), c(t)),

    d/dt E[F] = E[ sum_i m_i' dF/dx_i + 1/2 sum_ij c_ij' d^2F/dx_i dx_j ]

*Replicas*.  What is symmetric in n replicas is computed or checked at n = 1 .. 4, read at any n, continued to 0.

`Envelope` is E[M] as a function of V, mean and variance, `Move` E[f], `SquaredMove` E[f^2], `MoveSlope` E[f'].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import sympy

from quenched.symbolic.language.latex import in_letters
from quenched.symbolic.language.notation import Step

__all__ = [
    "LETTERS",
    "Envelope",
    "Move",
    "MoveSlope",
    "SquaredMove",
    "channel_limit",
    "common_part",
    "envelope_theorem",
    "heat",
    "pairing_limit",
    "replica_limit",
    "saddle",
]


LETTERS = {
    "Vh": r"\hat V",
    "qh": r"\hat q",
    "mh": r"\hat m",
    "mh_1": r"\hat m_1",
    "mh_2": r"\hat m_2",
    "ridge": r"\lambda",
    "share": "s",
    "lam": r"\Lambda",
}
"""What order parameters and their conjugates are called on paper."""

latex = in_letters(LETTERS)


class _Average(sympy.Function):
    """E[`letter`] at w ~ N(mean, variance), printed with the index of the cluster whose mean m_a + b it has."""

    nargs = 3  # V, mean, variance
    letter = ""

    def _latex(self, printer: sympy.printing.latex.LatexPrinter) -> str:
        clusters = [s.name.partition("_")[2] for s in self.args[1].free_symbols if s.name.startswith("m_")]
        return f"E{'_' * len(clusters)}{''.join(clusters)}[{self.letter}]"


class Move(_Average):
    """E[f], f = (prox - w)/V."""

    letter = "f"


class SquaredMove(_Average):
    """E[f^2]."""

    letter = "f^2"


class MoveSlope(_Average):
    """E[df/dw]."""

    letter = "f'"


class Envelope(_Average):
    """E[M], with the derivatives that the module's docstring states."""

    letter = r"\mathcal M"

    def fdiff(self, argindex: int = 1) -> sympy.Expr:
        """The derivative by V, mean or variance."""
        if argindex == 1:
            return -SquaredMove(*self.args) / 2
        if argindex == 2:
            return -Move(*self.args)
        return -MoveSlope(*self.args) / 2


def envelope_theorem() -> tuple[Step, ...]:
    """dM/dw = -f and dM/dV = -f^2/2 for an abstract loss, from the stationarity of the minimum.

    The total derivative is the partial one plus (dh/dw) times the slope in h, which vanishes at the minimum.
    """
    V = sympy.Symbol("V", positive=True)
    w, h, f = sympy.symbols("w h f", real=True)
    loss, prox = sympy.Function("l"), sympy.Function("p")
    inside = (h - w) ** 2 / (2 * V) + loss(h)
    stationary = {loss(h).diff(h): -(h - w) / V}
    steps = [Step("Moreau envelope", rf"\mathcal M(V, w) = \min_h \Bigl[{latex(inside)}\Bigr]")]
    for x, expected in ((w, -f), (V, -(f**2) / 2)):
        implicit = inside.diff(h).subs(stationary) * prox(w, V).diff(x)
        total = (inside.diff(x) + implicit).subs(h, w + V * f)
        if sympy.simplify(total - expected) != 0:
            raise AssertionError(f"the envelope theorem gives {total} for the derivative by {x}")
        steps.append(Step("Envelope theorem", rf"\partial \mathcal M/\partial {latex(x)} = {latex(expected)}"))
    return tuple(steps)


def heat(
    function: sympy.Expr,
    fields: Sequence[sympy.Symbol],
    means: Sequence[sympy.Expr],
    covariance: sympy.Matrix,
    t: sympy.Symbol,
) -> sympy.Expr:
    """The integrand whose average is d/dt E[function], for fields of means m(t) and covariance c(t).

    >>> x, t = sympy.symbols("x t")
    >>> heat(x**4, [x], [t], sympy.Matrix([[2 * t]]), t)
    4*x**3 + 12*x**2
    """
    total = sympy.diff(function, t)
    for i, x in enumerate(fields):
        total += sympy.diff(means[i], t) * sympy.diff(function, x)
        for j, y in enumerate(fields):
            total += sympy.diff(covariance[i, j], t) * sympy.diff(function, x, y) / 2
    return total


def saddle(
    potential: sympy.Expr, by: sympy.Symbol, unknown: sympy.Symbol, printed: Callable[[sympy.Expr], str] = latex
) -> tuple[sympy.Expr, Step]:
    """`unknown` from d potential/d `by` = 0, in which it stands linearly."""
    equation = sympy.expand(sympy.diff(potential, by))
    slope = equation.coeff(unknown)
    if slope == 0 or slope.has(unknown):
        raise ValueError(f"the derivative by {by} is not linear in {unknown}: {equation}")
    value = sympy.simplify(-(equation - slope * unknown) / slope)
    return value, Step(f"Derivative by {by}", f"{printed(unknown)} = {printed(value)}")


def replica_limit(diagonal: sympy.Expr, off_diagonal: sympy.Expr) -> tuple[sympy.Expr, Step]:
    """lim_(n -> 0) (log det Q)/n of Q_rs = `diagonal` where r = s, `off_diagonal` elsewhere.

    Its determinant (d - o)^(n-1) (d + (n - 1) o) is checked at n = 1 .. 4 and then read at any n.
    """
    n = sympy.Symbol("n")
    gap = diagonal - off_diagonal
    for size in range(1, 5):
        matrix = sympy.Matrix(size, size, lambda r, s: diagonal if r == s else off_diagonal)
        if sympy.simplify(matrix.det() - gap ** (size - 1) * (gap + size * off_diagonal)) != 0:
            raise AssertionError(f"the determinant of the symmetric matrix is wrong at n = {size}")
    logarithm = (n - 1) * sympy.log(gap) + sympy.log(gap + n * off_diagonal)
    limit = sympy.simplify(sympy.diff(logarithm, n).subs(n, 0))
    told = sympy.expand(sympy.expand_log(limit, force=True))
    return limit, Step("Limit n to 0", rf"\frac 1n \log\det Q \to {latex(told)}")


def common_part(diagonal: sympy.Expr, off_diagonal: sympy.Expr) -> Step:
    """A symmetric quadratic form in n replicas as one of each and one of their sum, checked at n = 1 .. 4.

    By E exp(sqrt(o) xi sum_r t_r) = exp(o (sum_r t_r)^2/2) the latter is a Gaussian xi that all replicas share, given
    which they are independent (Hubbard and Stratonovich).
    """
    for size in range(1, 5):
        t = sympy.symbols(f"t_1:{size + 1}", real=True)
        form = sum((diagonal if r == s else off_diagonal) * t[r] * t[s] / 2 for r in range(size) for s in range(size))
        split = (diagonal - off_diagonal) * sum(x**2 for x in t) / 2 + off_diagonal * sum(t) ** 2 / 2
        if sympy.expand(form - split) != 0:
            raise AssertionError(f"the quadratic form does not split at n = {size}")
    xi, total = sympy.symbols("xi T", real=True)
    spread = sympy.Symbol("o", positive=True)
    gaussian = sympy.exp(sympy.sqrt(spread) * xi * total - xi**2 / 2) / sympy.sqrt(2 * sympy.pi)
    linear = sympy.simplify(sympy.integrate(gaussian, (xi, -sympy.oo, sympy.oo)))
    if sympy.simplify(sympy.log(linear).expand(force=True) - spread * total**2 / 2) != 0:
        raise AssertionError(f"the average over the shared field is {linear}")
    own, shared = sympy.simplify(diagonal - off_diagonal), sympy.simplify(off_diagonal)
    return Step(
        "One shared field",
        r"\tfrac12\sum_{rs} C_{rs} t_r t_s = "
        rf"\tfrac12 \Bigl({latex(own)}\Bigr)\sum_r t_r^2 + "
        rf"\tfrac12 \Bigl({latex(shared)}\Bigr)\bigl(\sum_r t_r\bigr)^2",
    )


def channel_limit() -> Step:
    """lim_(n -> 0) (log E[Z^n])/n = E[log Z], for a Z of two values and any probabilities."""
    n, p = sympy.Symbol("n"), sympy.Symbol("p", positive=True)
    Z = sympy.symbols("Z_1:3", positive=True)
    limit = sympy.log(p * Z[0] ** n + (1 - p) * Z[1] ** n).diff(n).subs(n, 0)
    if sympy.simplify(limit - p * sympy.log(Z[0]) - (1 - p) * sympy.log(Z[1])) != 0:
        raise AssertionError(f"the limit is {limit}")
    return Step("Replica trick", r"\lim_{n\to 0}\tfrac1n\log E[Z^n] = E[\log Z]")


def pairing_limit(diagonal: sympy.Expr, off_diagonal: sympy.Expr, replicas: sympy.Expr, n: sympy.Symbol) -> sympy.Expr:
    """lim_(n -> 0) of 1/n times the sum over r <= s: `diagonal` of each replica, `off_diagonal` of each pair.

    `replicas`: their number in terms of n, n + 1 where the truth is one of them; the value at n = 0 is dropped.

    >>> n, a, b = sympy.symbols("n a b")
    >>> pairing_limit(a, b, n, n), pairing_limit(sympy.Integer(0), b, n + 1, n)
    (a - b/2, b/2)
    """
    total = replicas * diagonal + replicas * (replicas - 1) / 2 * off_diagonal
    return sympy.expand(total.diff(n).subs(n, 0))
