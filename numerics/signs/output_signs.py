"""Probabilities of the sign of a two-layer network, from the law of its fields.

    P(y phi < 0) + P(phi = 0)/2 and P(phi = 0),   phi = sum_k v_k g(lambda_k),   lambda | a ~ N(M_a, C_a)

1. `_distinct`: neurons with the same fields are one, and those that do not count are dropped;
2. `_directions`: lambda = M_a + L_a z, z ~ N(0, 1_r), r the rank of C_a (near a fixed point the dimension of the span
   of the means, however many neurons there are); the first direction is the mean gradient of phi in cluster a;
3. along the first direction the sign changes of phi are found: exactly for piecewise linear g (`piecewise_signs`), with
   interval arithmetic for the others (`smooth_signs`);
4. the other r - 1 directions: none, adaptive quadrature for one, randomised quasi-Monte Carlo for more.  What is
   integrated there is continuous, as one direction is done already.

Three or four neurons whose g is linear on either side of 0 are exact at any rank (`homogeneous_signs`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from quenched.numerics.averages.activations import piecewise_linear
from quenched.numerics.compiled.intervals import NoEnclosure
from quenched.numerics.probability.quadrature import adaptive, randomised
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.signs.cluster_classes import Classes
from quenched.numerics.signs.homogeneous_signs import cone_signs

__all__ = ["Law", "Sampling", "Signs", "counted", "padded", "sampled_signs", "signs", "square_root"]

Array = npt.NDArray[np.float64]

# Eigenvalues of Q below this fraction of the largest are rounding, or what an ODE solver left of a decayed direction.
_RANK = 1e-12
_SINGULAR = 1e-8  # error that Phi3 and Phi4 state for any correlation matrix
_REACH = 38.5  # P(|u| > 38.5) < 1e-323
_SAMPLED_REACH = 8.5  # of lines whose average is sampled: P(|u| > 8.5) = 2e-17
_UNSETTLED = 1e-13  # probability in a cell of a line that may stay open where lines are integrated
_CELLS = 20_000  # of a line at most, if it is all there is
_PLANE_CELLS, _FEW_CELLS = 2_000, 400  # of one of many lines, integrated or sampled
_UNCLEAR = 0.01  # unsettled probability from which on lines are given up
_EVALUATIONS = 60_000  # lines of an adaptive quadrature at most, some 0.3 s
_KINKED = 10  # safety factor on the difference of two rules, which underestimates the error at a kink between nodes
_FIRST = 16  # lines of each of the eight scramblings to begin with
_TURNS = 40  # points at which patterns change that are taken into account
_PANELS = np.array([-38.0, -26, -18, -12, -9, -6, -4, -2, -1, -0.3, 0, 0.3, 1, 2, 4, 6, 9, 12, 18, 26, 38])


@dataclass(frozen=True)
class Law:
    """The law of the fields by cluster: mean (C, K), covariance (C, K, K); readout v (K,), slopes E_a[g'] (C, K)."""

    mean: Array
    covariance: Array
    v: Array
    slopes: Array

    def of(self, clusters: npt.NDArray[np.intp]) -> Law:
        """The law in some clusters."""
        return Law(self.mean[clusters], self.covariance[clusters], self.v, self.slopes[clusters])


@dataclass(frozen=True)
class Sampling:
    """Accuracy asked of a sampled or integrated probability, seed of the points, and their largest number or None."""

    tolerance: float
    seed: int
    points: int | None


@dataclass(frozen=True)
class Signs:
    """P(y phi < 0) + P(phi = 0)/2, P(phi = 0), their numerical errors, and how the first was computed."""

    wrong: float
    tie: float
    wrong_error: float
    tie_error: float
    method: str


@dataclass(frozen=True)
class _Lines:
    """The sign of phi along lines of each cluster: (alpha (C, n, K), beta (C, K), v (C, K)) -> (C, n, 4).

    The last index is P(phi < 0), P(phi = 0), what is unsettled of them, and a number that
    stands for the pattern of signs along the line.  `evaluate` takes `_Limits` as well, one after another.
    """

    evaluate: Callable[..., Array]


@dataclass(frozen=True)
class _Limits:
    """Lines end at |u| = reach; a cell may leave `smallest` open; values are certified or not; cells of a line."""

    reach: float
    smallest: float
    certain: bool
    cells: int


def signs(mixture: Mixture, activation: str, law: Law, sampling: Sampling) -> Signs:
    """The sign of the output of a network whose fields have this law, against the labels of the clusters."""
    pieces = piecewise_linear(activation)
    if pieces is not None and not len(pieces[0]):  # g(x) = slope x + intercept: phi itself is one field
        pieces = (pieces[0], pieces[1], pieces[2] * law.v.sum())
        variance = np.maximum(law.v @ law.covariance @ law.v, 0).reshape(-1, 1, 1)
        law = Law((law.mean @ law.v)[:, None], variance, np.ones(1), law.slopes[:, :1])
    kept, v = _distinct(law)
    if not len(v):
        return Signs(0.5, 1.0, 0.0, 0.0, "exact")
    law = Law(law.mean[:, kept], law.covariance[:, kept[:, None], kept], v, law.slopes[:, kept])
    if (found := _by_cones(mixture, law, pieces)) is not None:
        return found
    try:
        lines = _smooth_lines(activation) if pieces is None else _piecewise_linear_lines(*pieces)
    except NoEnclosure:
        return sampled_signs(mixture, activation, law, sampling)
    classes = Classes.of(mixture, activation, law.mean, law.covariance)
    one = law.of(classes.clusters)
    roots = [_directions(C, v, slope) for C, slope in zip(one.covariance, one.slopes, strict=True)]
    few = sampling if sampling.points else replace(sampling, points=2**12 if pieces is None else 2**14)
    result = _integrated(classes, lines, one, padded(roots), few)
    if result is None:
        return sampled_signs(mixture, activation, law, sampling)
    lost = max(_lost(C, root) for C, root in zip(one.covariance, roots, strict=True))
    result = replace(result, wrong_error=float(result.wrong_error + lost))
    if pieces is not None and 2 < min(root.shape[1] for root in roots) == len(v):
        return _with_ties(result, _all_off(mixture, law, pieces, sampling.seed))
    return result


def _with_ties(result: Signs, found: tuple[float, float] | None) -> Signs:
    return result if found is None else replace(result, tie=found[0], tie_error=found[1])


def _lost(covariance: Array, root: Array) -> float:
    """What probabilities may owe to the rounding of a square root, and to the variance that it leaves out.

    Eigenvalues are known to some eps of the largest, hence the smallest to a relative eps times their ratio; a relative
    change of one spread moves a normal probability by a quarter of it at most.
    """
    if not root.shape[1]:
        return 0.0
    strength = (root**2).sum(axis=0)
    values = np.linalg.svd(root, compute_uv=False) ** 2
    total = float(np.trace(covariance))
    dropped = abs(total - float(strength.sum())) / total
    rounding = 4 * np.finfo(np.float64).eps * len(covariance) * float(values[0] / values[-1])
    return (4 * dropped if dropped > 1e-15 * len(covariance) else 0.0) + (rounding if root.shape[1] > 1 else 0.0)


# --- directions


def padded(roots: Sequence[Array]) -> Array:
    """One array (C, n, r) of matrices with r columns or fewer, r the largest number."""
    rank = max(root.shape[1] for root in roots)
    found = np.zeros((len(roots), len(roots[0]), rank))
    for whole, root in zip(found, roots, strict=True):
        whole[:, : root.shape[1]] = root
    return found


def square_root(Q: Array) -> Array:
    """L (n, r) with Q = L L^T up to rounding, r the rank of Q."""
    values, vectors = np.linalg.eigh(Q)
    kept = values > _RANK * values[-1]
    return np.asarray(vectors[:, kept] * np.sqrt(values[kept]))


def _roots(covariances: Array) -> list[Array]:
    """Square roots of the covariances that differ; those of isotropic clusters of one width are one."""
    different = [covariances[:1], *(c[None] for b, c in pairwise(covariances) if not np.array_equal(b, c))]
    return [square_root(covariance) for covariance in np.concatenate(different)]


def _distinct(law: Law) -> tuple[npt.NDArray[np.intp], Array]:
    """The neurons that count, and their readout: those whose fields agree are one, so that readouts cancel exactly."""
    known = np.hstack([*_roots(law.covariance), law.mean.T])
    agree = np.abs(known[:, None] - known).max(axis=2) <= 1e-13 * np.abs(known).max()
    first = agree.argmax(axis=1)  # of the neurons that agree with this one
    total, size = np.zeros(len(law.v)), np.zeros(len(law.v))
    np.add.at(total, first, law.v)
    np.add.at(size, first, np.abs(law.v))
    kept = np.flatnonzero(np.abs(total) > 1e-15 * size)
    return kept, total[kept]


def _directions(Q: Array, v: Array, slopes: Array) -> Array:
    """L (n, r), Q = L L^T: the first column along the gradient sum_k v_k slopes_k L_k, the rest by their effect on phi.

    The effect of a direction is its column of diag(v) L; the strongest lead, as quasi-Monte Carlo likes it.
    """
    L = square_root(Q)
    if L.shape[1] < 2:
        return L
    for columns in (slice(0, None), slice(1, None)):
        effect = v[:, None] * L[:, columns]
        gradient = slopes @ effect
        if columns.start == 0 and gradient @ gradient > 1e-4 * (slopes**2) @ (effect**2).sum(axis=1):
            turn = np.linalg.qr(gradient[:, None], mode="complete")[0]
        else:  # no gradient on average, or the rest
            turn = np.linalg.svd(effect)[2].T
        L[:, columns] = L[:, columns] @ turn
    return L


# --- integration over lines


def _integrated(classes: Classes, lines: _Lines, law: Law, L: Array, sampling: Sampling) -> Signs | None:
    """The probabilities from those along lines, None if these stay unsettled; the first columns of L (C, n, r)."""
    if L.shape[2] < 2:
        return _on_one_line(classes, lines, law, L)
    if L.shape[2] == 2:
        # outputs that nearly cancel along one direction need not along the other
        return _on_planes(classes, lines, law, L, sampling) or _on_planes(classes, lines, law, L[:, :, ::-1], sampling)

    def given(z: Array) -> Array:
        return _weighted(classes, lines, law, L, z, limits)[:, :3]

    limits = _Limits(_SAMPLED_REACH, _UNSETTLED, False, _FEW_CELLS)
    tolerance = np.array([sampling.tolerance, np.inf, np.inf])
    points = sampling.points or 2**14
    result = randomised(
        given, L.shape[2] - 1, tolerance=tolerance, seed=sampling.seed, points=points, first=_FIRST, joined=True
    )
    (wrong, tie, open_), (error, tie_error, _) = result.value.tolist(), result.error.tolist()
    if open_ > _UNCLEAR:
        return None
    return Signs(wrong, tie, error + open_, tie_error, "randomised quasi-Monte Carlo")


def _weighted(classes: Classes, lines: _Lines, law: Law, L: Array, z: Array, limits: _Limits) -> Array:
    """Wrong, tie, unsettled and pattern of signs (n, 4) given z (n, r - 1) across the lines, sums over clusters."""
    alpha = law.mean[:, None] + z @ L[:, :, 1:].swapaxes(1, 2)
    y, P = classes.labels[:, None], classes.weights
    found = lines.evaluate(alpha, np.ascontiguousarray(L[:, :, 0]), y * law.v, *astuple(limits))
    found[:, :, 0] += found[:, :, 1] / 2
    # patterns of several clusters add up to one
    share = np.stack([classes.surplus, P, P, np.sqrt(2.0 + np.arange(len(P)))], axis=1)
    total = (share[:, None] * found).sum(axis=0)
    total[:, 0] += classes.certain
    return np.asarray(total)


def _on_one_line(classes: Classes, lines: _Lines, law: Law, L: Array) -> Signs:
    """One direction: certain but for the rounding of Phi(-z), which feels z^2 eps, and of the fields."""
    if not L.shape[2]:
        L = np.zeros((*L.shape[:2], 1))
    smallest = 1e-17
    while True:  # in a far tail what may stay open is a fraction of what was found
        limits = _Limits(_REACH, smallest, True, _CELLS)
        wrong, tie, open_, _ = _weighted(classes, lines, law, L, np.zeros((1, 0)), limits)[0]
        if open_ <= 1e-13 * wrong or smallest < 1e-290:
            break
        smallest *= 1e-30
    rounding = 1e-15 * (1 + 2 * abs(np.log(max(wrong, 1e-300)))) + min(4e-12, 4e-16 / max(wrong, 1e-300))
    tie_error = float(open_ + (rounding * tie if 0 < tie < 1 else 0.0))
    return Signs(float(wrong), float(tie), float(open_ + rounding * wrong), tie_error, "exact")


def _on_planes(classes: Classes, lines: _Lines, law: Law, L: Array, sampling: Sampling) -> Signs | None:
    """Two directions: adaptive quadrature over the second, between points at which the pattern of signs changes.

    None where lines stay unsettled.
    """
    ties = 0.0

    def given(z: Array, cells: int = _PLANE_CELLS) -> Array:
        nonlocal ties
        found = _weighted(classes, lines, law, L, z[:, None], _Limits(_REACH, _UNSETTLED, False, cells))
        ties = max(ties, float(found[:, 1].max()))
        return found

    if given(np.linspace(-4, 4, 65), _FEW_CELLS)[:, 2].max() > _UNCLEAR:  # intervals do not tell the sign of outputs
        return None  # that cancel so well, or turn so often
    cuts = np.unique(np.concatenate([_PANELS, _turning_points(lambda z: given(z)[:, 3])]))
    panels = np.stack([cuts[:-1], cuts[1:]], axis=1)

    def integral(component: int) -> tuple[float, float, float]:
        """The integral, the error of the quadrature, and what is unsettled on the lines it took."""

        def density(z: Array) -> Array:
            return np.asarray(given(z)[:, [component, 2]] * np.exp(-(z[:, None] ** 2) / 2) / np.sqrt(2 * np.pi))

        result = adaptive(density, panels, 1e-5 * sampling.tolerance, evaluations=_EVALUATIONS)
        value, open_ = result.value.tolist()
        return value, _KINKED * result.error, open_

    wrong, error, open_ = integral(0)
    tie, tie_error, tie_open = integral(1) if ties else (0.0, 0.0, 0.0)
    return Signs(wrong, tie, error + open_ + 1e-14, tie_error + tie_open, "adaptive quadrature")


def _turning_points(pattern: Callable[[Array], Array]) -> Array:
    """The z at which the pattern of signs along a line changes, and points ever closer to them on both sides.

    A zero that moves through the line within a tiny interval of z, as where outputs nearly cancel, is seen by what it
    leaves behind.  The scan is dense around 0.
    """
    near = np.geomspace(1e-10, 0.1, 28)
    z = np.concatenate([-near[::-1], near, np.linspace(0.1, 9.0, 72)[1:], -np.linspace(0.1, 9.0, 72)[1:]])
    z.sort()
    found = pattern(z)
    (place,) = np.nonzero(found[1:] != found[:-1])
    if not 0 < len(place) <= _TURNS:  # a wild activation: adaptive quadrature finds its own way
        return np.empty(0)
    low, high, at_low = z[place], z[place + 1], found[place]
    for _ in range(40):
        middle = (low + high) / 2
        same = pattern(middle) == at_low
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    steps = np.geomspace(1e-11, 0.1, 11)
    return np.asarray(((low + high) / 2)[:, None] + np.concatenate([-steps, [0.0], steps])).ravel()


def sampled_signs(mixture: Mixture, activation: str, law: Law, sampling: Sampling) -> Signs:
    """Signs counted at quasi-random fields: where g has neither pieces nor an enclosure."""
    from quenched.numerics.averages.activations import activation_functions

    g = activation_functions(activation)[0]
    roots = padded([square_root(covariance) for covariance in law.covariance])

    def product(z: Array) -> Array:
        phi = g(law.mean[:, None] + z[:, : roots.shape[2]] @ roots.swapaxes(1, 2)) @ law.v
        return np.asarray(mixture.labels[:, None] * phi)

    return counted(product, mixture.weights, max(1, roots.shape[2]), sampling)


def counted(product: Callable[[Array], Array], weights: Array, dimension: int, sampling: Sampling) -> Signs:
    """P(product < 0) + P(product = 0)/2 and P(product = 0) by counting; product: normals (n, r) -> (C, n)."""

    def given(z: Array) -> Array:
        found = product(z)
        tie = weights @ (found == 0)
        return np.stack([weights @ (found < 0) + tie / 2, tie], axis=1)

    tolerance = np.array([sampling.tolerance, np.inf])
    result = randomised(given, dimension, tolerance=tolerance, seed=sampling.seed, points=sampling.points or 2**17)
    (wrong, tie), (error, tie_error) = result.value.tolist(), result.error.tolist()
    count = 0.5 / result.evaluations  # stratified points may count a step alike in all scramblings
    return Signs(wrong, tie, error + count, tie_error + count, "randomised quasi-Monte Carlo")


# --- lines, cones and ties of the kinds of activations


def _piecewise_linear_lines(kinks: Array, slopes: Array, intercepts: Array) -> _Lines:
    """Exact probabilities along lines for an activation with these kinks and pieces."""
    from quenched.numerics.signs.piecewise_signs import sign_probabilities

    def evaluate(alpha: Array, beta: Array, v: Array, *_: float) -> Array:
        out = np.empty((*alpha.shape[:2], 4))
        sign_probabilities(alpha, beta, v, kinks, slopes, intercepts, out)
        return out

    return _Lines(evaluate)


def _smooth_lines(activation: str) -> _Lines:
    """Probabilities along lines for an activation with an enclosure; NoEnclosure for others."""
    from quenched.numerics.signs.smooth_signs import compiled_enclosure, sign_probabilities

    functions = compiled_enclosure(activation)

    def evaluate(
        alpha: Array, beta: Array, v: Array, reach: float, smallest: float, certain: bool, cells: int = _CELLS
    ) -> Array:
        return np.asarray(sign_probabilities(alpha, beta, v, *functions, reach, smallest, certain, cells))

    return _Lines(evaluate)


def _by_cones(mixture: Mixture, law: Law, pieces: tuple[Array, Array, Array] | None) -> Signs | None:
    """Exact probabilities for three or four fields in general position, if g is linear on each side of 0; else None."""
    if pieces is None or not 3 <= len(law.v) <= 4 or pieces[0].tolist() != [0.0] or pieces[2].any():
        return None
    if any(root.shape[1] < 3 for root in _roots(law.covariance)):
        return None  # a plane: adaptive quadrature is as exact
    found = cone_signs(mixture.weights, mixture.labels, law.mean, law.covariance, law.v, pieces[1])
    if found is None:
        return None
    (wrong, tie), (error, tie_error) = found
    return Signs(wrong, tie, error, tie_error, "exact")


def _all_off(mixture: Mixture, law: Law, pieces: tuple[Array, Array, Array], seed: int) -> tuple[float, float] | None:
    """P(all neurons on their zero piece) and its error for an activation with one kink, such as relu; else None.

    The orthant probability of a regular Q: Phi_n for up to four neurons, else quasi-Monte Carlo over one neuron after
    the other given that those before it are off (Genz 1992), which is smooth.
    """
    kinks, slopes, intercepts = pieces
    off = (slopes == 0) & (intercepts == 0)
    if len(kinks) != 1 or off.sum() != 1:
        return None
    n, side = law.mean.shape[1], 1 if off[0] else -1
    limits = side * (kinks[0] - law.mean)
    if n <= 4:
        from quenched.numerics.probability.normal import normal_probability

        spread = np.sqrt(np.einsum("akk->ak", law.covariance))
        upper = np.triu_indices(n, 1)
        correlations = (law.covariance / (spread[:, :, None] * spread[:, None, :]))[:, *upper]
        probability = normal_probability((limits / spread).T, correlations.T)
        return float(mixture.weights @ probability), _SINGULAR
    from scipy.special import ndtr, ndtri

    triangles = np.linalg.cholesky(law.covariance)

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

    result = randomised(given, n - 1, tolerance=1e-6, seed=seed, points=2**12)
    return float(result.value), float(result.error)
