r"""Empirical risk minimisation: a linear classifier with a convex loss and a ridge, at n = alpha D samples.

    min_(w, b)  sum_i l(w.x_i/sqrt(D) + b, y_i) + (ridge/2)|w|^2,     x | a ~ N(mean_a, Omega), Omega = sum_u rho_u Pi_u

Replica theory gives the minimum per dimension as the extremum of one potential in the order parameters
m_a = mean_a.w/sqrt(D), q = w.Omega w/D, the intercept b, the susceptibility V and the conjugates:

    E/D = extr { mh.m - Vh q/2 + qh V/2 + alpha sum_a P_a E[M_a]
                 - sum_u [s_u rho_u qh + mh.G_u mh]/(2(ridge + rho_u Vh)) }

M_a is the Moreau envelope M(V, w) = min_h [(h - w)^2/(2V) + l(h, y_a)], averaged over the local field
w ~ N(m_a + b, q); prox is the h of the minimum, s_u the share of directions in node u of the spectrum, and
G_u = (mean_a.Pi_u mean_b).  All equations below are derivatives of E/D.  The loss stays abstract, and enters by the
averages of its move f = (prox - w)/V alone: E[f], E[f^2] and E[f'], with f' = df/dw.

Two losses have closed averages: the square loss, with a quadratic equation for V and linear ones for the rest, and the
hinge loss, in normal distribution functions.  Source: Mignacco, Krzakala, Lu, Urbani and Zdeborova (2020).
"""

from __future__ import annotations

import sympy
from sympy import Heaviside, Integer, Max, Rational, Symbol, log, sqrt

from quenched.symbolic.calculus.gaussian import GaussianAlgebra, fields
from quenched.symbolic.calculus.normal import density
from quenched.symbolic.calculus.replica import (
    LETTERS,
    Envelope,
    Move,
    MoveSlope,
    SquaredMove,
    channel_limit,
    common_part,
    envelope_theorem,
    pairing_limit,
    replica_limit,
    saddle,
)
from quenched.symbolic.language.latex import in_letters
from quenched.symbolic.language.notation import Derived, Formula, Positive, Real, Step
from quenched.symbolic.losses import Loss

__all__ = ["FORMULAS", "NOTATION", "ORDER", "PART", "STATUS", "TITLE", "derivations", "potential"]

TITLE = "Empirical risk minimisation"
PART, ORDER = "replica", 2
STATUS = "Replica symmetric; proved for convex losses by Loureiro and others 2021."
NOTATION = LETTERS | {
    "weight": "P",
    "squared": "f_{2}",
    "move": "f",
    "slope": "f'",
    "envelope": "M",
    "length": "L",
    "drive": "d",
    "margin": r"\mu",
    "spread": "s",
    "mean": r"\mu",
    "variance": "q",
    "slope_at_zero": "l'(0)",
    "label": "y",
    "pairing": "p",
    "scale": "s",
}
latex = in_letters(NOTATION)

HALF = Rational(1, 2)
V, q, Vh, qh, alpha, ridge, rho, share = sympy.symbols("V q Vh qh alpha ridge rho share", positive=True)
m = sympy.symbols("m_1:3", real=True)
mh = sympy.symbols("mh_1:3", real=True)
P = sympy.symbols("P_1:3", positive=True)
G11, G12, G22, b = sympy.symbols("G_11 G_12 G_22 b", real=True)
G = sympy.Matrix([[G11, G12], [G12, G22]])


def potential() -> sympy.Expr:
    """E/D for two clusters and one node; sums over more of them have the same terms."""
    pairing = sum(hat * each for hat, each in zip(mh, m, strict=True)) - Vh * q / 2 + qh * V / 2
    channel = alpha * sum(p * Envelope(V, each + b, q) for p, each in zip(P, m, strict=True))
    hats = sympy.Matrix(mh)
    prior = -(share * rho * qh + (hats.T * G * hats)[0]) / (2 * (ridge + rho * Vh))
    return pairing + channel + prior


def conjugates(alpha: Positive, weight: Positive, move: Real, squared: Positive, slope: Real) -> Derived:
    """(mh_a, qh, Vh) of a cluster: its own mh_a, and its terms in qh and Vh, from the averages of its move."""
    phi = potential()
    found = [saddle(phi, m[0], mh[0]), saddle(phi, V, qh), saddle(phi, q, Vh)]
    symbols = {Move: move, SquaredMove: squared, MoveSlope: slope}
    values = []
    for value, _ in found:
        own = value.subs(P[1], 0)  # the term of the first cluster
        for kind, symbol in symbols.items():
            own = own.replace(kind, lambda *_, symbol=symbol: symbol)
        values.append(own.subs(P[0], weight))
    return Derived(tuple(values), steps=(Step("Potential", latex(phi)), *(step for _, step in found)))


def overlaps(
    ridge: Positive, rho: Positive, share: Positive, Vh: Positive, qh: Positive, drive: Real, length: Real
) -> Derived:
    """(V, q, m_a) of a node of the spectrum: its terms in V, q and m_a.

    drive = (G_u mh)_a and length = mh.G_u mh.
    """
    phi = potential()
    found = [saddle(phi, qh, V), saddle(phi, Vh, q), saddle(phi, mh[0], m[0])]
    hats = sympy.Matrix(mh)
    field, quadratic = (G * hats)[0], sympy.expand((hats.T * G * hats)[0])
    (solved,) = sympy.solve(quadratic - length, G22)
    values = [sympy.simplify(value.subs(G22, solved)) for value, _ in found]
    (solved,) = sympy.solve(field - drive, G11)
    values[2] = sympy.simplify(found[2][0].subs(G11, solved))
    return Derived(tuple(sympy.factor(value) for value in values), steps=tuple(step for _, step in found))


def node_energy(
    ridge: Positive, rho: Positive, share: Positive, Vh: Positive, qh: Positive, length: Real
) -> sympy.Expr:
    """The term of a node of the spectrum in E/D."""
    return -(share * rho * qh + length) / (2 * (ridge + rho * Vh))


def cluster_energy(alpha: Positive, weight: Positive, pairing: Real, envelope: Real) -> sympy.Expr:
    """The terms of a cluster in E/D: pairing = mh_a m_a."""
    return pairing + alpha * weight * envelope


def pair_energy(V: Positive, q: Positive, Vh: Positive, qh: Positive) -> sympy.Expr:
    """The term of the conjugate pairs in E/D."""
    return qh * V / 2 - Vh * q / 2


def training_loss(V: Positive, envelope: Real, squared: Positive) -> Derived:
    """E[l(prox)]: the loss of a training sample of the cluster, which is the envelope without its quadratic part."""
    w, h, f = sympy.symbols("w h f", real=True)
    quadratic = ((h - w) ** 2 / (2 * V)).subs(h, w + V * f)
    step = Step("Without the quadratic part", rf"l(\mathrm{{prox}}) = \mathcal M - {latex(quadratic)}")
    return Derived(envelope - quadratic.subs(f, sqrt(squared)), steps=(step,))


def classification_error(label: Real, mean: Real, spread: Positive) -> Derived:
    """P(y w < 0) of a cluster: mean = m_a + b, spread = sqrt(q)."""
    u = Symbol("x_0", real=True)
    law = GaussianAlgebra((u,), (-label * mean,), ((spread**2,),), printed=latex)
    return Derived(law.average(Heaviside(u, HALF)), steps=(Step("Orthant", r"P(-y w > 0) = \Phi(-y \mu/s)"),))


def training_error(V: Positive, label: Real, mean: Real, spread: Positive, slope_at_zero: Real) -> Derived:
    """P(y prox < 0) of a cluster: slope_at_zero is the slope of the loss at the output 0, mean and spread as above.

    The proximal operator rises with w, and reaches 0 at w = V l'(0).
    """
    w, h = sympy.symbols("w h", real=True)
    slope = sympy.Function("l'")(h)
    (zero,) = sympy.solve(((h - w) / V + slope).subs(h, 0), w)
    outcome = classification_error(label, mean - zero.subs(slope.subs(h, 0), slope_at_zero), spread)
    step = Step("Zero of the proximal operator", f"w = {latex(zero)}")
    return Derived(outcome.value, outcome.definitions, (step, *outcome.steps))


# --- the square loss


def _square_move() -> sympy.Expr:
    """f of l = (h - y)^2/2, from its stationarity."""
    w, f = sympy.symbols("w f", real=True)
    slope = Loss("square", "(phi - y)**2/2").slope.subs({Symbol("phi", real=True): w + V * f})
    (value,) = sympy.solve(f + slope, f)
    return value


def square(V: Positive, y: Real, mean: Real, variance: Positive) -> Derived:
    """(E[f], E[f^2], E[f'], E[M]) of the square loss, x_0 the local field w ~ N(mean, variance)."""
    (x,) = fields(1)
    f = _square_move().subs({Symbol("V", positive=True): V, Symbol("w", real=True): x, Symbol("y", real=True): y})
    law = GaussianAlgebra((x,), (mean,), ((variance,),), printed=latex)
    value = V * f**2 / 2 + (x + V * f - y) ** 2 / 2
    found = [sympy.factor(law.average(sympy.expand(part))) for part in (f, f**2, f.diff(x), value)]
    return Derived(tuple(found), steps=(Step("Stationarity", f"f = {latex(f)}"),))


def square_susceptibility(alpha: Positive, ridge: Positive, sigma: Positive) -> Derived:
    """V of the square loss and isotropic noise sigma: the positive root of a quadratic, without cancellation."""
    Vs = Symbol("V", positive=True)
    slope = _square_move().diff(Symbol("w", real=True))
    value = saddle(potential(), Symbol("qh", positive=True), Vs)[0].subs({
        Symbol("rho", positive=True): sigma**2, Symbol("share", positive=True): 1,
        Symbol("Vh", positive=True): -alpha * slope,
    })  # fmt: skip
    equation = sympy.expand(sympy.numer(sympy.together(value - Vs)))
    a, B, c = (sympy.expand(-coefficient) for coefficient in sympy.Poly(equation, Vs).all_coeffs())  # a V^2 + B V + c
    linear, far, gap = (Symbol(name, real=True) for name in ("linear", "far", "gap"))
    root = sqrt(B**2 - 4 * a * c)
    # root + B is root + |B| or -4 a c/(root + |B|), whichever adds up numbers of one sign
    nearer = sympy.Piecewise((far, linear > 0), (-4 * a * c / far, True))
    plain = -2 * c / (root + B)
    if sympy.simplify(equation.subs(Vs, plain)) != 0 or sympy.simplify((root + B) * (root - B) + 4 * a * c) != 0:
        raise AssertionError("the root does not solve the equation for V")
    definitions = ((linear, B), (far, sqrt(linear**2 - 4 * a * c) + sympy.Abs(linear)), (gap, nearer))
    steps = (Step("Equation for V", f"{latex(equation)} = 0"), Step("Positive root", f"V = {latex(plain)}"))
    return Derived(-2 * c / gap, definitions, steps)


# --- the hinge loss


def _hinge() -> tuple[sympy.Symbol, dict[str, sympy.Expr], tuple[Step, ...]]:
    """f, f^2, f', M of l = max(0, 1 - h) at the margin u: a move by V up to the kink, onto the kink, or none.

    The pieces are checked where each holds: f = -l'(u + V f) off the kink, -f between the slopes on it, and M' = -f.
    """
    (x,) = fields(1)  # x = -u, so that small probabilities are not one minus others
    u = -x
    below, above = Heaviside(x + 1 - V, HALF), Heaviside(x + 1, HALF)
    far, onto = Integer(1), (1 - u) / V
    pieces = {
        "move": below * (far - onto) + above * onto,
        "squared": below * (far - onto**2) + above * onto**2,
        "slope": (below - above) / V,
        "envelope": below * (1 - u - V * HALF - onto**2 * V / 2) + above * onto**2 * V / 2,
    }
    for u_value in (Rational(-3, 2), Rational(3, 4), Rational(5, 2)):  # at V = 1: far below, onto the kink, above
        at = {V: Integer(1), x: -u_value}
        f = pieces["move"].subs(at)
        h = u_value + f
        slopes = (-1, 0) if h == 1 else ((-1, -1) if h < 1 else (0, 0))
        value = (h - u_value) ** 2 / 2 + Max(0, 1 - h)
        slope = -pieces["envelope"].diff(x).replace(sympy.DiracDelta, lambda *_: Integer(0)).subs(at)
        same = (pieces["squared"].subs(at) - f**2, pieces["envelope"].subs(at) - value, slope + f)
        if not slopes[0] <= -f <= slopes[1] or any(sympy.simplify(gap) != 0 for gap in same):
            raise AssertionError(f"the proximal operator of the hinge loss is wrong at u = {u_value}")
    steps = (
        Step("Off the kink", r"f = 1 \text{ for } u < 1 - V,\quad f = 0 \text{ for } u > 1"),
        Step("On the kink", rf"f = {latex(onto)} \text{{ for }} 1 - V < u < 1"),
    )
    return x, pieces, steps


def hinge(V: Positive, margin: Real, spread: Positive) -> Derived:
    """(E[f], E[f^2], E[f'], E[M]) of the hinge loss at u = y w ~ N(margin, spread^2), f in units of the label.

    The field of the average is x_0 = -u.
    """
    x, pieces, steps = _hinge()
    law = GaussianAlgebra((x,), (-margin,), ((spread**2,),), printed=latex)
    outcome = law.derived(*(sympy.expand(piece) for piece in pieces.values()))
    return Derived(outcome.value, outcome.definitions, (*steps, *outcome.steps))


# --- separability


def shortfall(scale: Positive, margin: Real) -> Derived:
    """E[max(0, scale xi - margin)^2], xi ~ N(0, 1): 1/alpha* is its least average over the clusters.

    The data are separable below alpha*, where at ridge -> 0 the norm diverges and every loss that falls with the margin
    becomes the constraint h > 0: M = max(0, -u)^2/(2V), u = y w.  In units in which the weights off the means have the
    norm 1, v is their part along the means.  The saddle point for q says 1 = alpha E[max(0, -u)^2] at
    u ~ N(y (mean_a.v + b), 1 + |v|^2), and those for v and b that this is stationary.
    """
    (x,) = fields(1)
    law = GaussianAlgebra((x,), (-margin,), ((scale**2,),), printed=latex)
    outcome = law.derived(sympy.expand(x**2) * Heaviside(x, HALF))
    constraint = Step("Constraint", r"\mathcal M = \max(0, -u)^2/(2V),\quad f = \max(0, -u)/V")
    balance = Step("Saddle point for q", r"q - |v|^2 = V^2\,\hat q = \alpha\, E[\max(0, -u)^2]")
    *definitions, (_, value) = outcome.definitions
    return Derived(value, tuple(definitions), (constraint, balance, *outcome.steps))


# --- the replica computation, told


def _prior() -> Step:
    """The integral over one weight, completed to a square."""
    w, g = sympy.symbols("w g", real=True)
    exponent = -(ridge + rho * Vh) * w**2 / 2 + g * w
    (best,) = sympy.solve(exponent.diff(w), w)
    value = sympy.simplify(exponent.subs(w, best))
    x = Symbol("x_0", real=True)
    hat = Symbol("mh", real=True)
    law = GaussianAlgebra((x,), (hat,), ((rho * qh,),), printed=latex)
    average = sympy.simplify(law.average(sympy.expand(value.subs(g, x))))
    if sympy.simplify(average - (rho * qh + hat**2) / (2 * (ridge + rho * Vh))) != 0:
        raise AssertionError(f"the average over the weights is {average}")
    return Step("Weights", rf"\max_w \Bigl[{latex(exponent)}\Bigr] = {latex(value)},\quad E_g = {latex(average)}")


def _pairs() -> Step:
    """The conjugate pairs of n symmetric replicas, n -> 0 and beta -> infinity: the first terms of the potential."""
    beta, n = Symbol("beta", positive=True), Symbol("n")
    conjugate, hat = (beta**2 * qh - beta * Vh) / 2, Symbol("mh", real=True)
    mean = Symbol("m", real=True)
    overlaps_part = pairing_limit(conjugate * (q + V / beta), beta**2 * qh * q, n, n)
    total = sympy.expand((overlaps_part + pairing_limit(beta * hat * mean, Integer(0), n, n)) / beta)
    value = sympy.limit(total, beta, sympy.oo)
    if sympy.expand(value - (hat * mean - Vh * q / 2 + qh * V / 2)) != 0:
        raise AssertionError(f"the conjugate pairs give {value}")
    return Step(
        "Conjugate pairs",
        rf"\frac1{{\beta n}}\Bigl[\sum_{{r\le s}}\hat Q_{{rs}}Q_{{rs}} + \sum_r \hat m^r m^r\Bigr] \to {latex(value)}",
    )


def _own_field() -> Step:
    """What a replica's field has of its own, of variance V/beta, as the quadratic term of the envelope."""
    beta, h, w = Symbol("beta", positive=True), Symbol("h", real=True), Symbol("w", real=True)
    exponent = sympy.expand_log(log(density(h - w, V / beta)), force=True)
    rate = sympy.limit(-exponent / beta, beta, sympy.oo)
    if sympy.simplify(rate - (h - w) ** 2 / (2 * V)) != 0:
        raise AssertionError(f"the density falls at the rate {rate}")
    return Step("A replica's own field", rf"N(h; w, V/\beta) \sim e^{{-\beta \left[{latex(rate)}\right]}}")


def _saddle_point() -> tuple[Step, ...]:
    """All derivatives of the potential, of two clusters and one node."""
    found = [(V, qh), (q, Vh), (m[0], mh[0]), (qh, V), (Vh, q), (mh[0], m[0])]
    return tuple(saddle(potential(), by, unknown)[1] for by, unknown in found)


def derivations() -> list[Formula]:
    """The replica computation, from the partition function to the potential and its saddle point."""
    beta, Q = Symbol("beta", positive=True), Symbol("q", positive=True)
    limit, step = replica_limit(Q + V / beta, Q)
    steps = (
        Step(
            "Replicated partition function",
            r"Z^n = \int \prod_{r=1}^n dw_r\,db_r\, \exp\Bigl[-\beta \sum_r \Bigl(\sum_i l(h_i^r, y_i) + "
            r"\tfrac{\lambda}{2}|w_r|^2\Bigr)\Bigr],\quad h_i^r = w_r\cdot x_i/\sqrt D + b_r",
        ),
        Step(
            "Disorder average",
            r"E\,e^{-\beta\sum_r l(h^r, y)} \text{ with } h^r \mid a \sim N(m_a^r + b_r, Q_{rs}),\quad "
            r"m_a^r = \mathrm{mean}_a\cdot w_r/\sqrt D,\ Q_{rs} = w_r\cdot\Omega w_s/D;\ "
            r"\text{the samples are independent}",
        ),
        Step(
            "Order parameters",
            r"1 = \int dQ\,d\hat Q\,dm\,d\hat m\; e^{-\sum_{r\le s}\hat Q_{rs}(D Q_{rs} - w_r\cdot\Omega w_s) - "
            r"\sum_{ra}\hat m_a^r(D m_a^r - \sqrt D\, \mathrm{mean}_a\cdot w_r)}",
        ),
        Step(
            "Replica symmetry",
            r"Q_{rs} = q + \delta_{rs} V/\beta,\quad \hat Q_{rr} = \tfrac12(\beta^2\hat q - \beta\hat V),\quad "
            r"\hat Q_{r<s} = \beta^2\hat q,\quad m_a^r = m_a,\quad \hat m_a^r = \beta\hat m_a",
        ),
        _pairs(),
        step,
        common_part(Q + V / beta, Q),
        _own_field(),
        channel_limit(),
        Step(
            "Channel",
            r"\tfrac1n\log E\Bigl[\prod_r e^{-\beta l(h^r)}\Bigr] \to E_w\log\int dh\, "
            r"e^{-\beta[(h - w)^2/(2V) + l(h)]} \to -\beta\,E_w\,\mathcal M(V, w),\quad w\sim N(m_a + b, q)",
        ),
        *envelope_theorem(),
        common_part(beta**2 * rho * qh - beta * rho * Vh, beta**2 * rho * qh),
        _prior(),
        Step("Potential", rf"E/D = \operatorname{{extr}}\, {latex(potential())}"),
        Step("Intercept", rf"\sum_a \hat m_a = 0 \text{{ from }} {latex(potential().diff(b))} = 0"),
        *_saddle_point(),
        Step(
            "State evolution",
            r"(V, q, m, b) \to (\hat V, \hat q, \hat m) \to (V, q, m, b):\ "
            r"\text{its fixed points are the saddle points}",
        ),
    )
    docstring = (
        "From the partition function at inverse temperature beta to the potential: replicas, disorder average, "
        "symmetric ansatz, n to 0, beta to infinity; then its saddle point."
    )
    return [Formula("replica_computation", docstring, (), Derived(limit, steps=steps))]


FORMULAS = (
    conjugates,
    overlaps,
    node_energy,
    cluster_energy,
    pair_energy,
    training_loss,
    classification_error,
    training_error,
    square,
    square_susceptibility,
    hinge,
    shortfall,
)
