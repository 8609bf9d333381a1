"""States to start from: the order parameters of random weights, drawn without the weights."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from quenched.numerics.course.pieces import Mixtures, joint_mixture
from quenched.numerics.problem.checks import integer, number, record
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.state import Densities, OrderParameters

__all__ = ["frames", "random_state"]

Array = npt.NDArray[np.float64]

_NO_DIRECTION = 1e-12  # smaller squared components of the means along a node are rounding


def random_state(
    mixture: Mixtures,
    network: TwoLayer,
    D: int,
    seed: int,
    *,
    weight_scale: float = 1.0,
    readout_scale: float = 1.0,
) -> OrderParameters | Densities:
    """Order parameters of random weights w_k ~ N(0, a^2 I_D) and readout v_k ~ N(0, b^2/K).

    The scales are a = `weight_scale` and b = `readout_scale`.

    Where the mixture has classes there are as many readouts, v_ck, with the same law.

    Drawn exactly and without D-vectors: A_bk ~ N(0, a^2/D) on the p coordinates of the means, and
    Q = A^T A + (a^2/D) L L^T with L L^T a Wishart matrix of D - p degrees of freedom in Bartlett's form
    (L lower triangular, L_jj^2 ~ chi^2_{D-p-j} for j = 0..K-1, normal below the diagonal).

    Of a list of pairs (mixture, until): M has the overlaps with the means of all different mixtures, then with their
    teachers.

    Where the inputs have a spectrum with a whole number D s_u of directions in each node, the densities are drawn in
    the same way, node by node; the nodes of a quadrature over a law are no directions, and get `Densities.spread`.

    ValueError: D < p + K, where K weights cannot be independent of each other and of the means.

    >>> state = random_state(Mixture.xor(1.0), TwoLayer(3, "relu"), D=10**6, seed=0)
    >>> bool(abs(state.Q - np.eye(3)).max() < 5 / 1000)             # Q = 1 + O(1/sqrt(D))
    True
    """
    mixture = joint_mixture(mixture)
    record("network", network, TwoLayer)
    p, K = mixture.dimensions, network.K
    D = integer("D", D, at_least=p + K)
    variance = number("weight_scale", weight_scale) ** 2 / D
    shape = K if mixture.classes is None else (mixture.outputs, K)
    rng = np.random.default_rng(integer("seed", seed))
    if mixture.spectrum is not None:
        whole = D * mixture.shares
        if np.abs(whole - np.rint(whole)).max() <= 1e-6 and whole.min() > 0.5:
            A, Q = _random_densities(mixture, K, D, variance, rng)
            return Densities(A, Q, rng.standard_normal(shape) * (number("readout_scale", readout_scale) / np.sqrt(K)))
    A = rng.standard_normal((p, K)) * np.sqrt(variance)
    L = _bartlett(D - p, K, rng)
    v = rng.standard_normal(shape) * (number("readout_scale", readout_scale) / np.sqrt(K))
    state = OrderParameters(mixture.references_at(D) @ A, A.T @ A + variance * (L @ L.T), v)
    return state if mixture.spectrum is None else Densities.spread(mixture, state)


def _random_densities(
    mixture: Mixture, K: int, D: int, variance: float, rng: np.random.Generator
) -> tuple[Array, Array]:
    """A (U, p, K) and Q (U, K, K) of random weights, from their components in each node."""
    A, Q = [], []
    counts = mixture.law.multiplicities(D)
    for frame, count in zip(frames(mixture, counts), counts, strict=True):
        inside = rng.standard_normal((frame.shape[1], K))
        free = int(count) - frame.shape[1]
        rest = rng.standard_normal((free, K)) if free < 4 * K else _bartlett(free, K, rng).T
        A.append(frame @ inside)
        Q.append(inside.T @ inside + rest.T @ rest)
    return np.sqrt(variance) * np.stack(A), variance * np.stack(Q)


def _bartlett(freedom: int, K: int, rng: np.random.Generator) -> Array:
    """L (K, K) lower triangular with L L^T a Wishart matrix, freedom >= K."""
    return np.tril(rng.standard_normal((K, K)), -1) + np.diag(np.sqrt(rng.chisquare(freedom - np.arange(K))))


def frames(mixture: Mixture, counts: npt.NDArray[np.int64]) -> list[Array]:
    """F_u (p, r_u) with G_u = F_u F_u^T: the coordinates of the means on r_u orthonormal directions of each node.

    ValueError if r_u is more than the number of its directions, `counts` (U,).
    """
    found = []
    for u, (G, count) in enumerate(zip(mixture.alignment, counts, strict=True)):
        values, vectors = np.linalg.eigh(G)
        kept = values > _NO_DIRECTION
        if kept.sum() > count:
            raise ValueError(
                f"D gives node {u} of the spectrum {count} directions, too few for means that spread over "
                f"{kept.sum()}: take a larger D, or mixture.spectrum.oriented(p, seed)"
            )
        found.append(vectors[:, kept] * np.sqrt(values[kept]))
    return found
