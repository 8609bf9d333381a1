"""Errors of a two-layer network from its order parameters: pmse, classification error, probability of a tie.

    pmse = 1/2 sum_a P_a E_a[(phi - y_a)^2],   classification error = P(y phi < 0) + P(phi = 0)/2,
    phi = s sum_k v_k g(lambda_k),   lambda | a ~ N(M_a, C_a),   C_a = sigma_a^2 Q for isotropic inputs

The pmse needs averages of one and two fields, `averages.tables`, or is sampled where g has none in closed form.  The
sign of phi needs all fields:

1. `_distinct`: neurons with the same fields are one, and those that do not count are dropped;
2. `_directions`: lambda = M_a + L_a z, z ~ N(0, 1_r), r the rank of C_a (near a fixed point the dimension of the span
   of the means, however many neurons there are); the first direction is the mean gradient of phi in cluster a;
3. along the first direction the sign changes of phi are found exactly (piecewise linear g) or by bracketing;
4. the other r - 1 directions: none, adaptive quadrature for one, randomised quasi-Monte Carlo for more.  What is
   integrated there is continuous, as one direction is done already.

Where a teacher makes the labels, its neurons join those of the network for the pmse, and the classification error is
that of the signs, P(phi phi* < 0) + P(phi phi* = 0)/2, sampled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from quenched.numerics.calculus.averages import activation_functions, piecewise_linear
from quenched.numerics.calculus.quadrature import adaptive, randomised
from quenched.numerics.problem.checks import integer, number
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.state import Densities, OrderParameters
from quenched.numerics.two_layer.homogeneous_signs import cone_signs
from quenched.numerics.two_layer.local_fields import Fields, fields
from quenched.theory import two_layer

__all__ = ["Errors", "errors"]

Array = npt.NDArray[np.float64]
Lines = Callable[[Array, Array, Array], Array]  # alpha (n, K), beta (K,), v (K,) -> P(phi < 0), P(phi = 0), (n, 2)

# Eigenvalues of Q below this fraction of the largest are rounding, or what an ODE solver left of a decayed direction:
# fields move by less than 1e-6 of their scale without them, and probabilities, to second order in that, by about 1e-12.
_RANK = 1e-12
_REACH = 9.0  # |u| > 9 has probability 2e-19
_EXACT = 1e-14  # error of a sum of a few normal probabilities
_ROUNDING = 1e-13  # relative, of averages over two fields
_SINGULAR = 1e-8  # error that Phi3 and Phi4 state for any correlation matrix
_STEP = 0.25  # of a field, at most, between the points at which a smooth output is looked at
_TANGENCIES = 1e-8  # largest error seen from zeros between them, He_3 and He_4 included; ten times less for erf
_SMOOTH_REACH = 7.0  # these points end here, where a probability of 3e-12 is left


@dataclass(frozen=True)
class Errors:
    """Errors of a network on a mixture.

    `pmse`: half the mean square error.  `classification_error`: P(y phi < 0) + P(phi = 0)/2.  `tie_probability`:
    P(phi = 0).  `error_estimate`, `tie_error_estimate`, `pmse_error_estimate`: the numerical errors of the
    classification error and of the other two, standard errors where they were sampled; `method`: how the
    classification error was computed.
    """

    pmse: float
    classification_error: float
    tie_probability: float
    error_estimate: float
    tie_error_estimate: float
    pmse_error_estimate: float
    method: str


def errors(
    mixture: Mixture,
    network: TwoLayer,
    state: OrderParameters | Densities,
    *,
    tolerance: float = 1e-6,
    seed: int = 0,
    points: int | None = None,
    digits: int | None = None,
) -> Errors:
    """Errors on fresh samples of `mixture` of the network whose order parameters are `state`.

    Q of rank one is exact, of rank two takes adaptive quadrature to a thousandth of `tolerance`; three or four neurons
    whose g is linear on either side of 0, such as relu, are exact at any rank (`cones`).  Else, from rank three on,
    quasi-Monte Carlo with a fixed `seed` stops when the standard error of the classification error is below
    `tolerance`, or after `points` lines, and reports what it has: the default of 2^14 lines (2^12 for activations that
    are not piecewise linear, where a line costs more) gives some 1e-5, in about 40 ms for eight relu on four clusters.

    With `digits`, the pmse is an mpmath number of as many digits (of an activation with closed forms), and so are the
    other two where one field decides the sign of phi (one neuron, or linear ones); elsewhere these stay float64, with
    their errors.

    ValueError: `state` does not fit mixture and network, tolerance <= 0, seed < 0, points < 1 or digits < 1.

    A single linear neuron along the mean of two clusters is the oracle, Phi(-1/sigma):

    >>> state = OrderParameters(M=[[1.0], [-1.0]], Q=[[1.0]], v=[1.0])
    >>> float(ndtr(-0.5)), errors(Mixture.two_clusters(2.0), TwoLayer(1, "linear"), state).classification_error
    (0.3085375387259869, 0.3085375387259869)
    """
    if isinstance(state, OrderParameters) and state.M.shape != (expected := (len(mixture.references), network.K)):
        raise ValueError(f"state must have M of shape (clusters, K) = {expected}, got {state.M.shape}")
    if state.K != network.K:
        raise ValueError(f"state must have K = {network.K} neurons like the network, got {state.K}")
    tolerance, seed = number("tolerance", tolerance, positive=True), integer("seed", seed)
    points = points if points is None else integer("points", points, at_least=1)
    if digits is not None:
        if mixture.spectrum is not None or mixture.teacher is not None or isinstance(state, Densities):
            raise ValueError(f"digits={digits} needs isotropic clusters with a label each; leave it out for float64")
        return _precise(mixture, network, state, errors(mixture, network, state), integer("digits", digits, at_least=1))
    law, M, Q, v = fields(mixture, network, state)
    pmse, pmse_error, slopes = _pmse(law, M, Q, v, tolerance, seed)
    if mixture.teacher is not None:
        (wrong, tie), (error, tie_error) = _against_teacher(law, M, Q, network.K, v, tolerance, seed, points or 2**17)
        return Errors(pmse, wrong, tie, error, tie_error, pmse_error, "randomised quasi-Monte Carlo")
    pieces = piecewise_linear(network.activation)
    if pieces is not None and not len(pieces[0]):  # g(x) = slope x + intercept: phi itself is one field
        pieces = (pieces[0], pieces[1], pieces[2] * v.sum())
        M, Q, v = (M @ v)[:, None], np.maximum(v @ Q @ v, 0).reshape(-1, 1, 1), np.ones(1)
        slopes = slopes[:, :1]
    kept, v = _distinct(M, Q, v)
    if not len(v):
        return Errors(pmse, 0.5, 1.0, 0.0, 0.0, pmse_error, "exact")
    M, Q, slopes = M[:, kept], Q[:, kept[:, None], kept], slopes[:, kept]
    if (found := _by_cones(mixture, M, Q, v, pieces)) is not None:
        (wrong, tie), (error, tie_error) = found
        return Errors(pmse, wrong, tie, error, tie_error, pmse_error, "exact")
    roots = [_directions(covariance, v, slope) for covariance, slope in zip(Q, slopes, strict=True)]
    L = _padded(roots)
    if points is None:
        points = 2**12 if pieces is None else 2**14
    lines = (
        _smooth_lines(activation_functions(network.activation)[0])
        if pieces is None
        else _piecewise_linear_lines(*pieces)
    )
    (wrong, tie), (error, tie_error), method = _sign_errors(mixture, lines, M, L, v, tolerance, seed, points)
    if pieces is None and L.shape[2] > 1:
        error += _TANGENCIES
    if pieces is not None and 2 < min(root.shape[1] for root in roots) == len(v):
        tie, tie_error = _all_off(mixture, M, Q, *pieces, seed) or (tie, tie_error)
    return Errors(pmse, wrong, tie, error, tie_error, pmse_error, method)


def _precise(mixture: Mixture, network: TwoLayer, state: OrderParameters, found: Errors, digits: int) -> Errors:
    """`found` with what can be had to more digits."""
    from quenched.numerics.calculus.multiprecision import precise_risk, precise_signs

    rounding = 10.0**-digits
    pmse = precise_risk(mixture, network, state, digits)
    found = replace(found, pmse=pmse, pmse_error_estimate=rounding)
    signs = precise_signs(mixture, network, state, digits)
    if signs is None:
        return found
    wrong, tie = signs
    return replace(
        found,
        classification_error=wrong,
        tie_probability=tie,
        error_estimate=rounding,
        tie_error_estimate=rounding,
        method="exact",
    )


def _pmse(law: Fields, M: Array, C: Array, v: Array, tolerance: float, seed: int) -> tuple[float, float, Array]:
    """The generated risk E[(phi - y)^2]/2, its error, and the slopes E_a[g'] (C, K)."""
    mixture, s = law.mixture, law.s
    y = mixture.labels.astype(np.float64)
    if law.closed:
        table, half = law.tables(M, C, limit=2), np.full_like(y, 0.5)
        value = two_layer.risk(mixture.weights, y * y / 2, -y, half, v, table, s)
        sizes = {pattern: np.abs(average) for pattern, average in table.items()}
        size = two_layer.risk(mixture.weights, half, 2 * half, half, np.abs(v), sizes, s)  # all terms added up
        return float(value), _ROUNDING * float(size), table["dg"]
    roots = _padded([_square_root(covariance) for covariance in C])

    def given(z: Array) -> Array:
        value, slope = law.evaluate(M[:, None] + z[:, : roots.shape[2]] @ roots.swapaxes(1, 2))  # (C, n, K)
        square = mixture.weights @ (s * (value @ v) - y[:, None]) ** 2 / 2
        return np.column_stack([square, *slope.transpose(0, 2, 1).reshape(-1, len(z))])

    tolerances = np.append(tolerance, np.full(M.size, np.inf))
    result = randomised(given, max(1, roots.shape[2]), tolerance=tolerances, seed=seed, points=2**15)
    return float(result.value[0]), float(result.error[0]), result.value[1:].reshape(M.shape)


def _against_teacher(
    law: Fields, M: Array, C: Array, K: int, v: Array, tolerance: float, seed: int, points: int
) -> tuple[tuple[float, float], tuple[float, float]]:
    """P(phi phi* < 0) + P(phi phi* = 0)/2 and P(phi phi* = 0), and their errors; the neurons from K on are phi*'s."""
    roots = _padded([_square_root(covariance) for covariance in C])

    def given(z: Array) -> Array:
        value, _ = law.evaluate(M[:, None] + z[:, : roots.shape[2]] @ roots.swapaxes(1, 2))
        signs = np.sign(value[:, :, :K] @ v[:K]) * -np.sign(value[:, :, K:] @ v[K:])
        tie = law.mixture.weights @ (signs == 0)
        return np.stack([law.mixture.weights @ (signs < 0) + tie / 2, tie], axis=1)

    result = randomised(
        given, max(1, roots.shape[2]), tolerance=np.array([tolerance, np.inf]), seed=seed, points=points
    )
    (wrong, tie), (error, tie_error) = result.value.tolist(), result.error.tolist()
    return (wrong, tie), (error, tie_error)


def _padded(roots: Sequence[Array]) -> Array:
    """One array (C, n, r) of matrices with r columns or fewer, r the largest number."""
    rank = max(root.shape[1] for root in roots)
    return np.stack([np.pad(root, ((0, 0), (0, rank - root.shape[1]))) for root in roots])


def _square_root(Q: Array) -> Array:
    """L (n, r) with Q = L L^T up to rounding, r the rank of Q."""
    values, vectors = np.linalg.eigh(Q)
    kept = values > _RANK * values[-1]
    return np.asarray(vectors[:, kept] * np.sqrt(values[kept]))


def _distinct(M: Array, Q: Array, v: Array) -> tuple[npt.NDArray[np.intp], Array]:
    """The neurons that count, and their readout: those whose fields agree are one, so that readouts cancel exactly."""
    known = np.hstack([*(_square_root(covariance) for covariance in Q), M.T])
    agree = np.abs(known[:, None] - known).max(axis=2) <= 1e-13 * np.abs(known).max()
    first = agree.argmax(axis=1)  # of the neurons that agree with this one
    total, size = np.zeros(len(v)), np.zeros(len(v))
    np.add.at(total, first, v)
    np.add.at(size, first, np.abs(v))
    kept = np.flatnonzero(np.abs(total) > 1e-15 * size)
    return kept, total[kept]


def _directions(Q: Array, v: Array, slopes: Array) -> Array:
    """L (n, r), Q = L L^T: the first column along the gradient sum_k v_k slopes_k L_k, the rest by their effect on phi.

    The effect of a direction is its column of diag(v) L; the strongest lead, as quasi-Monte Carlo likes it.
    """
    L = _square_root(Q)
    for columns in (slice(0, None), slice(1, None)):
        effect = v[:, None] * L[:, columns]
        gradient = slopes @ effect
        if columns.start == 0 and gradient @ gradient > 1e-4 * (slopes**2) @ (effect**2).sum(axis=1):
            turn = np.linalg.qr(gradient[:, None], mode="complete")[0]
        else:  # no gradient on average, or the rest
            turn = np.linalg.svd(effect)[2].T
        L[:, columns] = L[:, columns] @ turn
    return L


def _sign_errors(
    mixture: Mixture, lines: Lines, M: Array, L: Array, v: Array, tolerance: float, seed: int, points: int
) -> tuple[tuple[float, float], tuple[float, float], str]:
    """P(y phi < 0) + P(phi = 0)/2 and P(phi = 0), their numerical errors, and the method; L (C, n, r) by cluster."""
    clusters, n, rank = L.shape
    if rank == 0:
        L = np.zeros((clusters, n, 1))

    def given(z: Array) -> Array:
        """The two probabilities (n, 2) given z (n, rank - 1), the other directions."""
        total = np.zeros((len(z), 2))
        for P, y, mean, root in zip(mixture.weights, mixture.labels, M, L, strict=True):
            total += P * lines(mean + z @ root[:, 1:].T, root[:, 0], y * v)
        total[:, 0] += total[:, 1] / 2
        return total

    if rank < 2:
        wrong, tie = given(np.zeros((1, 0)))[0]
        return (float(wrong), float(tie)), (_EXACT, _EXACT), "exact"
    if rank == 2:
        edges = np.array([-_REACH, -6, -4, -2, -1, 0, 1, 2, 4, 6, _REACH])
        panels = np.stack([edges[:-1], edges[1:]], axis=1)

        def integral(component: int) -> tuple[float, float]:
            def density(z: Array) -> Array:
                return given(z[:, None])[:, component] * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)

            result = adaptive(density, panels, 1e-3 * tolerance)
            return result.value, result.error + _EXACT

        (wrong, error), (tie, tie_error) = integral(0), integral(1)
        return (wrong, tie), (error, tie_error), "adaptive quadrature"
    result = randomised(given, rank - 1, tolerance=np.array([tolerance, np.inf]), seed=seed, points=points)
    wrong, tie = result.value.tolist()
    error, tie_error = result.error.tolist()
    return (wrong, tie), (error, tie_error), "randomised quasi-Monte Carlo"


def _by_cones(
    mixture: Mixture, M: Array, Q: Array, v: Array, pieces: tuple[Array, Array, Array] | None
) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """Exact probabilities for three or four fields in general position, if g is linear on each side of 0; else None."""
    if pieces is None or not 3 <= len(v) <= 4 or pieces[0].tolist() != [0.0] or pieces[2].any():
        return None
    if any(_square_root(covariance).shape[1] < 3 for covariance in Q):
        return None  # a plane: adaptive quadrature is as exact
    return cone_signs(mixture.weights, mixture.labels, M, Q, v, pieces[1])


def _all_off(
    mixture: Mixture, M: Array, Q: Array, kinks: Array, slopes: Array, intercepts: Array, seed: int
) -> tuple[float, float] | None:
    """P(all neurons on their zero piece) and its error for an activation with one kink, such as relu; else None.

    The orthant probability of a regular Q: Phi_n for up to four neurons, else quasi-Monte Carlo over one neuron after
    the other given that those before it are off (Genz 1992), which is smooth.
    """
    off = (slopes == 0) & (intercepts == 0)
    if len(kinks) != 1 or off.sum() != 1:
        return None
    n, side = len(M[0]), 1 if off[0] else -1
    limits = side * (kinks[0] - M)
    if n <= 4:
        from quenched.numerics.calculus import normal

        spread = np.sqrt(np.einsum("akk->ak", Q))
        upper = np.triu_indices(n, 1)
        correlations = (Q / (spread[:, :, None] * spread[:, None, :]))[:, *upper]
        probability = (normal.Phi3, normal.Phi4)[n - 3](*(limits / spread).T, *correlations.T)
        return float(mixture.weights @ probability), _SINGULAR
    triangles = np.linalg.cholesky(Q)

    def given(z: Array) -> Array:
        uniform, total = ndtr(z), np.zeros(len(z))
        for P, limit, triangle in zip(mixture.weights, limits, triangles, strict=True):
            chosen = np.empty(z.shape)  # the normals of the neurons so far, drawn from their tails
            here = np.full(len(z), ndtr(limit[0] / triangle[0, 0]))
            product = here.copy()
            for k in range(1, n):
                chosen[:, k - 1] = ndtri(np.maximum(uniform[:, k - 1] * here, 1e-300))
                here = ndtr((limit[k] - chosen[:, :k] @ triangle[k, :k]) / triangle[k, k])
                product *= here
            total += P * product
        return total

    result = randomised(given, n - 1, tolerance=0, seed=seed, points=2**12)
    return float(result.value), float(result.error)


def _piecewise_linear_lines(kinks: Array, slopes: Array, intercepts: Array) -> Lines:
    """Exact probabilities along lines for an activation with these kinks and pieces."""
    from quenched.numerics.two_layer.piecewise_signs import sign_probabilities

    def lines(alpha: Array, beta: Array, v: Array) -> Array:
        out = np.empty((len(alpha), 2))
        sign_probabilities(alpha, beta, v, kinks, slopes, intercepts, out)
        return out

    return lines


def _smooth_lines(g: Callable[[Array], Array]) -> Lines:
    """Probabilities along lines for any activation g: signs on a grid, sign changes bracketed and polished.

    Pairs of changes between two points of the grid are sought where a parabola through three values of one sign says
    that the output may touch zero.
    """

    def lines(alpha: Array, beta: Array, v: Array) -> Array:
        def phi(line: npt.NDArray[np.intp], u: Array) -> Array:
            return np.asarray(g(alpha[line] + u[:, None] * beta) @ v)

        steps = int(np.ceil(2 * _SMOOTH_REACH / _STEP * max(1.0, np.abs(beta).max())))
        grid = np.linspace(-_SMOOTH_REACH, _SMOOTH_REACH, steps + 1)
        values = np.empty((len(alpha), steps + 1))
        block = max(1, 200_000 // (steps * len(v)))  # 2 MB at a time stay in the cache
        for i in range(0, len(alpha), block):
            values[i : i + block] = g(alpha[i : i + block, None] + grid[:, None] * beta) @ v
        signs = np.sign(values)
        # a zero at a single point is not a tie
        lone = (signs[:, 1:-1] == 0) & (signs[:, :-2] != 0) & (signs[:, 2:] != 0)
        signs[:, 1:-1][lone] = signs[:, 2:][lone]

        line, place = np.nonzero(signs[:, 1:] != signs[:, :-1])
        low, high = grid[place], grid[place + 1]
        at_low, at_high = values[line, place], values[line, place + 1]
        before, after = signs[line, place], signs[line, place + 1]

        # parabolas through three values: their vertex, in steps from the middle point, lies in the interval on its side
        middle, curvature = values[:, 1:-1], values[:, 2:] - 2 * values[:, 1:-1] + values[:, :-2]
        slope = (values[:, 2:] - values[:, :-2]) / 2
        same = (signs[:, :-2] == signs[:, 1:-1]) & (signs[:, 1:-1] == signs[:, 2:])
        inward = (middle * curvature > 0) & (np.abs(slope) <= np.abs(curvature)) & (middle * curvature <= slope**2)
        dip, at = np.nonzero(same & inward)
        offset = -slope[dip, at] / curvature[dip, at]
        interval = at + (offset > 0)
        first = np.unique(dip * steps + interval, return_index=True)[1]  # both its ends may have pointed to an interval
        dip, interval, vertex = dip[first], interval[first], (grid[at + 1] + offset * (grid[1] - grid[0]))[first]
        value, outer = phi(dip, vertex), signs[dip, interval]
        found = np.sign(value) == -outer
        dip, interval, vertex, value, outer = (x[found] for x in (dip, interval, vertex, value, outer))
        line = np.concatenate([line, dip, dip])
        low = np.concatenate([low, grid[interval], vertex])
        high = np.concatenate([high, vertex, grid[interval + 1]])
        at_low = np.concatenate([at_low, values[dip, interval], value])
        at_high = np.concatenate([at_high, value, values[dip, interval + 1]])
        before, after = np.concatenate([before, outer, -outer]), np.concatenate([after, -outer, outer])

        p = ndtr(_polished(phi, line, low, high, at_low, at_high, before))
        return np.stack(
            [
                np.bincount(line, p * ((before == s) * 1.0 - (after == s)), len(alpha)) + (signs[:, -1] == s)
                for s in (-1, 0)
            ],
            axis=1,
        )

    return lines


def _polished(
    phi: Callable[[npt.NDArray[np.intp], Array], Array],
    line: npt.NDArray[np.intp],
    low: Array,
    high: Array,
    at_low: Array,
    at_high: Array,
    before: Array,
) -> Array:
    """Where the sign stops being `before`, between low and high, by Ridders' method: 8 steps for a simple zero.

    At the end of an interval of ties, where the output is 0 on one side, it amounts to bisection: 40 steps.
    """
    for _ in range(40 if (at_low * at_high == 0).any() else 8):
        middle = (low + high) / 2
        at_middle = phi(line, middle)
        root = np.sqrt(at_middle**2 - at_low * at_high)
        shift = np.divide(at_middle * before, root, out=np.zeros(len(low)), where=root > 0)
        estimate = middle + (middle - low) * shift
        for u, value in ((middle, at_middle), (estimate, phi(line, estimate))):
            inside = (low < u) & (u < high)
            same = np.sign(value) == before
            low, at_low = np.where(inside & same, u, low), np.where(inside & same, value, at_low)
            high, at_high = np.where(inside & ~same, u, high), np.where(inside & ~same, value, at_high)
    return np.asarray(estimate)
