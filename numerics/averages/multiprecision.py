"""Averages and risk at any precision: the generated formulas under mpmath, singular covariances included.

The formulas divide by variances that are left after regression.  Where a covariance is singular those vanish; it is
then made positive definite by a relative jitter of 10^(-2d), which moves averages by at most about its square root
(Phi_2 near correlation 1), and evaluated with 3d digits, of which the cancellations leave d.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import combinations, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quenched.numerics.averages.activations import averages
from quenched.numerics.compiled.precision import bind, context, mp_array, mp_namespace
from quenched.numerics.probability.normal import normal_probability
from quenched.numerics.problem.checks import integer
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.state import OrderParameters
from quenched.theory import activations as theory
from quenched.theory import two_layer

__all__ = ["average_namespace", "closed_form_values", "precise_averages", "precise_risk", "precise_signs"]

_INDEFINITE = 1e-10  # relative; an eigenvalue below minus this is not rounding of float64 entries


@lru_cache(maxsize=16)
def _contexts(digits: int) -> tuple[Any, Any]:
    """For the algebra, and for normal probabilities; kept, because a context remembers its quadrature nodes."""
    return context(3 * digits + 30), context(digits + 8)


def average_namespace(ctx: Any, narrow: Any) -> dict[str, Any]:
    """What the generated averages call: mpmath's functions, Phi_n to the digits of `narrow`, regression unrounded.

    A correlation that exceeds 1 in size, as quotients of nearly vanishing variances may by rounding, counts as ±1.
    """

    def probability(n: int) -> Callable[..., Any]:
        def evaluate(*arguments: Any) -> Any:
            limits = [narrow.mpf(h) for h in arguments[:n]]
            correlations = [narrow.mpf(max(-1, min(1, r))) for r in arguments[n:]]
            return ctx.mpf(normal_probability(limits, correlations, ctx=narrow))

        return evaluate

    return mp_namespace(ctx) | {
        "Phi2": probability(2),
        "Phi3": probability(3),
        "Phi4": probability(4),
        "residual": lambda a, b, c, d: a - b * c / d,
        "remainder": lambda a, b, d: max(4 * ctx.eps * a, a - b * b / d),
    }


def precise_averages(
    activation: theory.Averages, n: int, mean: Sequence[Any] | NDArray[Any], covariance: Any, digits: int
) -> dict[str, Any]:
    """Every average over n <= 4 fields of the given means (n,) and covariance (n, n), layout -> mpf.

    `digits` are relative to the size of the factors, sqrt(E f0^2 E f1^2 ..) for E[f0 f1 ..].  Arguments are taken at
    their exact value.  ValueError: no closed form, or a covariance that is indefinite by more than rounding.

    >>> values = precise_averages(averages("relu"), 2, [0, 0], [[1, 0.5], [0.5, 1]], 30)
    >>> print(values["dg,dg"])                              # 1/4 + arcsin(1/2)/(2 pi)
    0.333333333333333333333333333333
    """
    if not activation.groups:
        raise ValueError(f"activation {activation.text!r}: its averages have no closed form to evaluate")
    digits = integer("digits", digits, at_least=1)
    values = closed_form_values(activation.groups[n - 1], mean, covariance, digits)
    ctx = context(digits)
    return {layout: ctx.mpf(values[place]) for layout, place in activation.places[n - 1].items()}


def closed_form_values(function: Callable[..., Any], mean: Any, covariance: Any, digits: int) -> Any:
    """A generated function of means and covariances (upper triangle, row by row), at any law, to about `digits`."""
    wide, narrow = _contexts(digits)
    n = len(mean)
    regular = _regularised(wide, mp_array(wide, covariance), wide.mpf(10) ** (-2 * digits - 8))
    bound = bind(function, average_namespace(wide, narrow))
    return bound(*mp_array(wide, mean), *(regular[i, j] for i in range(n) for j in range(i, n)))


def _regularised(ctx: Any, covariance: Any, jitter: Any) -> Any:
    """The covariance with its lowest relative eigenvalue raised to `jitter`, and vanishing variances made tiny."""
    regular, n = covariance.copy(), len(covariance)
    largest = max(regular[i, i] for i in range(n)) or ctx.one
    for i in range(n):
        regular[i, i] = regular[i, i] or largest * jitter**4
    scale = [ctx.sqrt(regular[i, i]) for i in range(n)]
    correlation = ctx.matrix(n)
    for i in range(n):
        for j in range(n):
            correlation[i, j] = regular[i, j] / (scale[i] * scale[j])
    lowest = min(ctx.eigsy(correlation, eigvals_only=True)) if n > 1 else ctx.one
    if lowest < -_INDEFINITE:
        raise ValueError(
            f"covariance must be positive semidefinite, got {np.asarray(covariance, dtype=np.float64).tolist()}"
        )
    if lowest < jitter:
        for i in range(n):
            regular[i, i] *= 1 + jitter - lowest
    return regular


def precise_risk(mixture: Mixture, network: TwoLayer, state: OrderParameters, digits: int) -> Any:
    """pmse = E[(phi - y)^2]/2 to `digits` digits (of 1/2 + the same of phi^2 alone), as an mpf.

    Numbers in the records are taken at their exact binary value; Q may be singular.  Formula: theory.two_layer.risk.

    >>> state = OrderParameters(M=[[0.0], [0.0]], Q=[[1.0]], v=[1.0])
    >>> print(precise_risk(Mixture.two_clusters(1.0), TwoLayer(1, "erf"), state, 30))   # 1/2 + arcsin(1/2)/pi
    0.666666666666666666666666666667
    """
    found, (ctx, _) = averages(network.activation), _contexts(digits)
    K, C = network.K, mixture.clusters
    exact: Mapping[str, Any] = {name: mp_array(ctx, getattr(state, name)) for name in ("M", "Q", "v")}
    variances = mp_array(ctx, mixture.sigmas) ** 2
    g, g_g = np.empty((C, K), dtype=object), np.empty((C, K, K), dtype=object)
    for a in range(C):
        mean, covariance = exact["M"][a], variances[a] * exact["Q"]
        for k in range(K):
            one = precise_averages(found, 1, mean[[k]], covariance[k : k + 1, k : k + 1], digits + 5)
            g[a, k], g_g[a, k, k] = one["g"], one["g*g"]
        for k, l in combinations(range(K), 2):
            pair = [k, l]
            two = precise_averages(found, 2, mean[pair], covariance[np.ix_(pair, pair)], digits + 5)
            g_g[a, k, l] = g_g[a, l, k] = two["g,g"]
    risk = bind(two_layer.risk, {"float": ctx.mpf})
    y, half = mp_array(ctx, mixture.labels), mp_array(ctx, np.full(C, 0.5))
    value = risk(
        mp_array(ctx, mixture.weights),
        y * y * half,
        -y,
        half,
        exact["v"],
        {"g": g, "g,g": g_g},
        ctx.mpf(network.output_scale),
    )
    return context(digits).mpf(value)


def precise_signs(mixture: Mixture, network: TwoLayer, state: OrderParameters, digits: int) -> tuple[Any, Any] | None:
    """P(y phi < 0) + P(phi = 0)/2 and P(phi = 0) as mpf, where one field decides the sign of phi; else None.

    That is one neuron, or any number of linear ones, of a piecewise linear activation: the sign of phi then changes at
    the kinks and at the zeros of the pieces, and the probabilities are sums of Phi.

    >>> state = OrderParameters(M=[[1.0], [-1.0]], Q=[[1.0]], v=[1.0])
    >>> wrong, tie = precise_signs(Mixture.two_clusters(2.0), TwoLayer(1, "linear"), state, 30)
    >>> print(wrong)                                                     # Phi(-1/2)
    0.308537538725986896362295389392
    """
    pieces = averages(network.activation).pieces
    if pieces is None or (network.K > 1 and pieces[0]):
        return None
    ctx = context(digits + 10)
    M, Q, v = (mp_array(ctx, getattr(state, name)) for name in ("M", "Q", "v"))
    kinks, lines = ([_exact(ctx, x) for x in pieces[0]], [(_exact(ctx, m), _exact(ctx, c)) for m, c in pieces[1]])
    if network.K > 1:  # sum_k v_k (slope lambda_k + intercept): one field, of readout 1
        ((slope, intercept),) = lines
        M, Q, v, lines = M @ v, v @ Q @ v, ctx.one, [(slope, intercept * sum(v))]
    else:
        M, Q, v = M[:, 0], Q[0, 0], v[0]
    wrong = tie = ctx.zero
    for P, y, sigma, mean in zip(mixture.weights, mixture.labels, mixture.sigmas, M, strict=True):
        spread = ctx.mpf(float(sigma)) * ctx.sqrt(Q)

        def below(x: Any, mean: Any = mean, spread: Any = spread) -> Any:
            return ctx.ncdf((x - mean) / spread) if spread else ctx.mpf((1 + ctx.sign(x - mean)) / 2)

        for (low, high), (slope, intercept) in zip(pairwise([-ctx.inf, *kinks, ctx.inf]), lines, strict=True):
            zero = [-intercept / slope] if slope and low < -intercept / slope < high else []
            for left, right in pairwise([low, *zero, high]):
                inside = right - 1 if ctx.isinf(left) else left + 1 if ctx.isinf(right) else (left + right) / 2
                sign = ctx.sign(v * (slope * (ctx.zero if ctx.isinf(inside) else inside) + intercept)) * int(y)
                mass = ctx.mpf(float(P)) * (below(right) - below(left))
                wrong += mass * (1 if sign < 0 else ctx.mpf(0.5) if sign == 0 else 0)
                tie += mass * int(sign == 0)
    ctx = context(digits)
    return ctx.mpf(wrong), ctx.mpf(tie)


def _exact(ctx: Any, number: float) -> Any:
    """A decimal of the activation's text, such as 1/100, which its float only rounds."""
    fraction = Fraction(number).limit_denominator(10**9)
    return ctx.mpf(fraction.numerator) / fraction.denominator if float(fraction) == number else ctx.mpf(number)
