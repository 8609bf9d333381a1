"""Errors of a two-layer network from its order parameters: pmse, classification error, probability of a tie, loss.

    pmse = 1/2 sum_a P_a E_a[(phi - y_a)^2],   classification error = P(y phi < 0) + P(phi = 0)/2,
    phi = s sum_k v_k g(lambda_k),   lambda | a ~ N(M_a, C_a),   C_a = sigma_a^2 Q for isotropic inputs

The pmse needs averages of one and two fields: `averages.tables`, adaptive quadrature where g has none in closed form,
quasi-Monte Carlo where those are many.  The sign of phi needs all fields: `quenched.numerics.signs.output_signs`.

The mean of another loss, E[l(phi, y)], is closed where l is of degree 2 in phi and so is the pmse; otherwise it is an
integral over the fields: adaptive quadrature where they have one direction, quasi-Monte Carlo with its standard error.

Where clusters have classes the network has an output phi_c for each, the error is that of the largest one
(`quenched.numerics.signs.largest_output`), and the pmse 1/2 E[sum_c (phi_c - y_c)^2] with the one-hot label y_c.

Where a teacher makes the labels, its neurons join those of the network for the pmse, and the classification error is
that of the signs, P(phi phi* < 0) + P(phi phi* = 0)/2, sampled.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from quenched.numerics.averages.losses import CLASS_LOSSES, coefficients, loss_functions
from quenched.numerics.averages.losses import loss as loss_table
from quenched.numerics.probability.quadrature import adaptive, randomised
from quenched.numerics.problem.checks import (
    Result,
    digit_count,
    expression_text,
    integer,
    number,
    record,
    records,
    shown,
)
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.state import Densities, OrderParameters, check_fit
from quenched.numerics.signs.largest_output import largest_output
from quenched.numerics.signs.output_signs import Law, Sampling, Signs, counted, padded, signs, square_root
from quenched.numerics.step.field_quadrature import pair_tables
from quenched.numerics.two_layer.local_fields import Fields, fields
from quenched.symbolic.language.grammar import RULE_LOSS
from quenched.theory import two_layer

__all__ = ["QUANTITIES", "Errors", "asked_quantities", "errors", "errors_many"]

Array = npt.NDArray[np.float64]

QUANTITIES = ("pmse", "classification_error")
"""What `errors` can be asked for; the tie probability comes with the classification error."""

_ROUNDING = 1e-13  # relative, of averages over two fields
_PAIRS = 400  # fields of all clusters times fields, up to which averages over pairs are integrated, not sampled
_SHARE = 1e-5  # of the tolerance, asked of those averages
_BEYOND = 1e-9  # probability of what sampled points of fields are not trusted to have seen
_HEAVY = 1e-2  # share of a mean loss beyond the reach from which on the mean is not known
_PANELS = np.stack([np.arange(-12, 12, 2), np.arange(-10, 14, 2)], axis=1)  # of a normal variable
_NOT_ASKED = Signs(np.nan, np.nan, np.nan, np.nan, "not asked for")


@dataclass(frozen=True, repr=False)
class Errors(Result):
    """Errors of a network on a mixture.

    `pmse`: half the mean square error.  `classification_error`: P(y phi < 0) + P(phi = 0)/2.  `tie_probability`:
    P(phi = 0).  Of classes: the probability that another output is the largest, where m are the largest by 1 - 1/m, and
    of m > 1.  `classification_error_error`, `tie_probability_error`, `pmse_error`: their numerical errors.  `method`
    says how the classification error was computed and what its error is: "exact", a bound; "adaptive quadrature", the
    quadrature's estimate; "randomised quasi-Monte Carlo", a standard error.  What was not asked for is NaN.  `loss`,
    `loss_error`: the mean of the loss that was named, E[l(phi, y)] at the labels without noise; None if none was.
    """

    pmse: float
    classification_error: float
    tie_probability: float
    classification_error_error: float
    tie_probability_error: float
    pmse_error: float
    method: str
    loss: float | None = None
    loss_error: float | None = None


def errors(
    mixture: Mixture,
    network: TwoLayer,
    state: OrderParameters | Densities,
    *,
    tolerance: float = 1e-5,
    seed: int = 0,
    points: int | None = None,
    digits: int | None = None,
    quantities: Sequence[str] = QUANTITIES,
    loss: str | None = None,
) -> Errors:
    """Errors on fresh samples of `mixture` of the network whose order parameters are `state`.

    Q of rank one is exact: certified by interval arithmetic where g is smooth, whatever multiple or close zeros the
    output has.  Rank two takes adaptive quadrature to a fraction 1e-4 of `tolerance`; three or four neurons whose g is
    linear on either side of 0, such as relu, are exact at any rank.  Else, from rank three on, quasi-Monte Carlo with a
    fixed `seed` stops when the standard error of the classification error is below `tolerance`, or after `points`
    lines, 2^14 by default (2^12 for activations that are not piecewise linear, where a line costs more), and reports
    what it has.

    `quantities`: ("pmse",) leaves out the classification error, which costs more.  `loss`: a name or an expression in
    phi and y, of which the mean is found as well.

    With `digits`, the pmse is an mpmath number of as many digits (of an activation with closed forms), and so are the
    other two where one field decides the sign of phi (one neuron, or linear ones); elsewhere these stay float64, with
    their errors.

    ValueError: `state` does not fit mixture and network, tolerance <= 0, seed < 0, points < 1 or digits < 1, a quantity
    that is not one.

    A single linear neuron along the mean of two clusters is the oracle, Phi(-1/sigma):

    >>> state = OrderParameters(M=[[1.0], [-1.0]], Q=[[1.0]], v=[1.0])
    >>> round(errors(Mixture.two_clusters(2.0), TwoLayer(1, "linear"), state).classification_error, 15)
    0.308537538725987
    """
    sampling = Sampling(
        number("tolerance", tolerance, positive=True),
        integer("seed", seed),
        points if points is None else integer("points", points, at_least=1),
    )
    _check_problem(mixture, network, state)
    asked, charged = asked_quantities(quantities), _loss_text(loss)
    if digits is not None:
        digits = digit_count("digits", digits)
        special = mixture.spectrum is not None or mixture.teacher is not None or mixture.classes is not None
        if special or isinstance(state, Densities):
            raise ValueError(f"digits={digits} needs isotropic clusters with a label each; leave it out for float64")
        if state.b is not None:
            raise ValueError(f"digits={digits} needs a state without b and c; leave it out for float64")
        found = _errors(mixture, network, state, sampling, asked, charged)
        return _precise(mixture, network, state, found, digits, asked)
    return _errors(mixture, network, state, sampling, asked, charged)


def errors_many(
    mixture: Mixture,
    network: TwoLayer,
    states: Iterable[OrderParameters | Densities],
    *,
    tolerance: float = 1e-5,
    seed: int = 0,
    points: int | None = None,
    quantities: Sequence[str] = QUANTITIES,
    loss: str | None = None,
) -> list[Errors]:
    """`errors` of each of many states, such as those of a learning curve; all share their quasi-random points.

    >>> states = [OrderParameters(M=[[m], [-m]], Q=[[1.0]], v=[1.0]) for m in (0.0, 1.0)]
    >>> [round(e.pmse, 6) for e in errors_many(Mixture.two_clusters(0.5), TwoLayer(1, "linear"), states)]
    [0.625, 0.125]
    """
    sampling = Sampling(
        number("tolerance", tolerance, positive=True),
        integer("seed", seed),
        points if points is None else integer("points", points, at_least=1),
    )
    record("mixture", mixture, Mixture), record("network", network, TwoLayer)
    asked, chosen = asked_quantities(quantities), records("states", states, (OrderParameters, Densities))
    charged = _loss_text(loss)
    return [_errors(mixture, network, state, sampling, asked, charged) for state in chosen]


def _loss_text(loss: str | None) -> str | None:
    return None if loss is None else expression_text(loss, RULE_LOSS)


def _check_problem(mixture: Mixture, network: TwoLayer, state: OrderParameters | Densities) -> None:
    record("mixture", mixture, Mixture), record("network", network, TwoLayer)
    record("state", state, (OrderParameters, Densities))


def asked_quantities(quantities: Sequence[str]) -> frozenset[str]:
    """The set of them.  ValueError: none, or one that is not of `QUANTITIES`."""
    given = [quantities] if isinstance(quantities, str) else quantities
    if not isinstance(given, (list, tuple, set, frozenset)) or not all(isinstance(name, str) for name in given):
        raise ValueError(f"quantities must be some of {', '.join(QUANTITIES)}, got {shown(quantities)}")
    asked = frozenset(given)
    if not asked or (wrong := sorted(asked.difference(QUANTITIES))):
        raise ValueError(f"quantities must be some of {', '.join(QUANTITIES)}, got {wrong if asked else quantities!r}")
    return asked


def _errors(
    mixture: Mixture,
    network: TwoLayer,
    state: OrderParameters | Densities,
    sampling: Sampling,
    asked: frozenset[str],
    charged: str | None = None,
) -> Errors:
    if isinstance(state, OrderParameters) and state.M.shape != (expected := (len(mixture.references), network.K)):
        raise ValueError(f"state must have M of shape (clusters, K) = {expected}, got {state.M.shape}")
    check_fit(mixture, network, state)
    if charged is not None:
        mixture.check_charged(charged)
    law, M, C, v = fields(mixture, network, state)
    pmse, pmse_error, slopes = _pmse(law, M, C, v, sampling)
    if "classification_error" not in asked:
        found = _NOT_ASKED
    elif mixture.teacher is not None:
        found = _against_teacher(law, Law(M, C, v, slopes), sampling)
    elif mixture.classes is not None:
        found = largest_output(mixture, network.activation, Law(M, C, v, slopes), sampling)
    else:
        found = signs(mixture, network.activation, Law(M, C, v, slopes), sampling)
    mean_loss = (None, None) if charged is None else _mean_loss(law, Law(M, C, v, slopes), charged, sampling)
    if "pmse" not in asked:
        pmse = pmse_error = np.nan
    probabilities = found.wrong, found.tie, found.wrong_error, found.tie_error
    return Errors(pmse, *probabilities, pmse_error, found.method, *mean_loss)


def _precise(
    mixture: Mixture, network: TwoLayer, state: OrderParameters, found: Errors, digits: int, asked: Collection[str]
) -> Errors:
    """`found` with what can be had to more digits, of the quantities asked for."""
    from quenched.numerics.averages.multiprecision import precise_risk, precise_signs

    rounding = 10.0**-digits
    if "pmse" in asked:
        pmse = precise_risk(mixture, network, state, digits)
        found = replace(found, pmse=pmse, pmse_error=rounding * max(1.0, abs(float(pmse))))
    signs = precise_signs(mixture, network, state, digits) if "classification_error" in asked else None
    if signs is None:
        return found
    wrong, tie = signs
    return replace(
        found,
        classification_error=wrong,
        tie_probability=tie,
        classification_error_error=rounding,
        tie_probability_error=rounding,
        method="exact",
    )


def _pmse(law: Fields, M: Array, C: Array, v: Array, sampling: Sampling) -> tuple[float, float, Array]:
    """The generated risk E[(phi - y)^2]/2, its error, and the slopes E_a[g'] (C, K)."""
    mixture = law.mixture
    outputs = [(v, law.labels)]  # readouts and labels (C,) of each output
    if mixture.classes is not None:
        outputs = list(zip(v, mixture.one_hot.T, strict=True))
    if law.closed or (M.size * M.shape[1] <= _PAIRS and not law.sign):
        uncertain = {"g": 0.0, "g,g": 0.0}
        if law.closed:
            table = law.tables(M, C, limit=2)
        else:
            table, uncertain = pair_tables(law.activations, M, C, _SHARE * sampling.tolerance)
        risks = [_closed_risk(law, table, row, _powers("square", y), uncertain) for row, y in outputs]
        return *(sum(part) for part in zip(*risks, strict=True)), table["dg"]
    roots = padded([square_root(covariance) for covariance in C])

    def given(z: Array) -> Array:
        value, slope = law.evaluate(M[:, None] + z[:, : roots.shape[2]] @ roots.swapaxes(1, 2))  # (C, n, K)
        if mixture.classes is not None:
            charged = ((law.s * (value @ v.T) - mixture.one_hot[:, None]) ** 2).sum(axis=2)
        else:
            output, label = law.said(value, v)
            charged = (output - label) ** 2
        square = mixture.weights @ charged / 2
        return np.column_stack([square, *slope.transpose(0, 2, 1).reshape(-1, len(z))])

    tolerances = np.append(sampling.tolerance, np.full(M.size, np.inf))
    result = randomised(given, max(1, roots.shape[2]), tolerance=tolerances, seed=sampling.seed, points=2**15)
    return float(result.value[0]), float(result.error[0]), result.value[1:].reshape(M.shape)


def _powers(name: str, y: Array) -> tuple[Array, Array, Array]:
    L0, L1, L2, *_ = coefficients(name, y)
    return L0, L1, L2


def _closed_risk(
    law: Fields,
    table: dict[str, Array],
    v: Array,
    powers: tuple[Array, Array, Array],
    uncertain: Mapping[str, float] | None = None,
) -> tuple[float, float]:
    """E[L0 + L1 phi + L2 phi^2] and its error: of rounding, and of averages that are `uncertain`; L_n (C,)."""
    sizes = {pattern: np.abs(average) for pattern, average in table.items()}
    L0, L1, L2 = (np.abs(L) for L in powers)
    size = _risk(law, (L0, L1, L2), np.abs(v), sizes)  # all terms added up
    value = _risk(law, powers, v, table)
    if uncertain is None:
        return value, _ROUNDING * size
    errors = {pattern: np.full_like(table[pattern], error) for pattern, error in uncertain.items()}
    return value, _ROUNDING * size + _risk(law, (np.zeros_like(L0), L1, L2), np.abs(v), errors)


def _risk(law: Fields, powers: tuple[Array, Array, Array], v: Array, table: Mapping[str, Array]) -> float:
    """E[L0 + L1 phi + L2 phi^2] with readouts v (N,), or (C, N), one row for each cluster."""
    P, (L0, L1, L2) = law.mixture.weights, powers
    parts = [(slice(None), v)] if v.ndim == 1 else [(slice(a, a + 1), v[a]) for a in range(len(P))]
    return float(
        sum(
            two_layer.risk(P[a], L0[a], L1[a], L2[a], row, {name: entry[a] for name, entry in table.items()}, law.s)
            for a, row in parts
        )
    )


def _mean_loss(law: Fields, fields: Law, name: str, sampling: Sampling) -> tuple[float, float]:
    """E[l(phi, y)] and its error."""
    joined, classes = fields.v, law.mixture.classes is not None
    closed = not classes and law.closed and joined.shape[-1] == law.learning
    if closed and loss_table(name).coefficients is not None:
        table = law.tables(fields.mean, fields.covariance, limit=2)
        return _closed_risk(law, table, joined, _powers(name, law.labels))
    roots = padded([square_root(covariance) for covariance in fields.covariance])

    def given(z: Array) -> Array:
        value, _ = law.evaluate(fields.mean[:, None] + z[:, : roots.shape[2]] @ roots.swapaxes(1, 2))
        if classes:
            charged, y = CLASS_LOSSES[name], law.mixture.one_hot[:, None]
            return np.asarray(law.mixture.weights @ charged.values(law.s * (value @ joined.T), y))
        return np.asarray(law.mixture.weights @ loss_functions(name)[0](*law.said(value, joined)))

    from scipy.special import chdtrc, chdtri

    r = max(1, roots.shape[2])
    if r == 1:
        normal = adaptive(lambda z: given(z[:, None]) * np.exp(-z * z / 2) / np.sqrt(2 * np.pi), _PANELS, 1e-10)
        value, error, reach = normal.value, normal.error + _ROUNDING * abs(normal.value), 12.0
    else:
        result = randomised(given, r, tolerance=sampling.tolerance, seed=sampling.seed, points=2**15)
        value, error, reach = float(result.value), float(result.error), math.sqrt(chdtri(r, _BEYOND))
    # an estimate: the largest value at the reach times the probability beyond, `reach` times for what grows further out
    directions = np.concatenate([np.eye(r), -np.eye(r), np.random.default_rng(0).standard_normal((32, r))])
    shell = reach * directions / np.linalg.norm(directions, axis=1)[:, None]
    beyond = float(np.abs(given(shell)).max()) * float(chdtrc(r, reach**2)) * reach
    if not beyond <= _HEAVY * abs(value):
        raise ValueError(
            f"loss {name!r} grows too fast for these outputs: {beyond:.2g} of its mean {value:.6g} may lie where the "
            f"preactivations are {reach:g} standard deviations off; lower the readout, or ask for another loss"
        )
    return value, error + beyond


def _against_teacher(law: Fields, joined: Law, sampling: Sampling) -> Signs:
    """P(phi phi* < 0) + P(phi phi* = 0)/2 and P(phi phi* = 0)."""
    roots = padded([square_root(covariance) for covariance in joined.covariance])

    def product(z: Array) -> Array:
        value, _ = law.evaluate(joined.mean[:, None] + z[:, : roots.shape[2]] @ roots.swapaxes(1, 2))
        output, label = law.said(value, joined.v)
        return np.asarray(np.sign(output) * np.sign(label))

    return counted(product, law.mixture.weights, max(1, roots.shape[2]), sampling)
