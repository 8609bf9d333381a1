"""Approximate message passing (AMP) on samples of a mixture whose means are unknown: the Bayes-optimal problem.

    x_i = A_(a_i) v^T + sigma z_i,  i = 1 .. n = alpha D,   v (D, p) of components N(0, 1/D),  A (C, p) = mixture.means

The samples' labels y_i are known, their clusters a_i are not, nor is v.  An iteration, from the estimate vhat (D, p):

    B   = [X vhat - û' (1 + Lam')^-1]/sigma^2,       K = vhat^T vhat
    h_ia = A_a.B_i - A_a.K A_a/(2 sigma^2),          pi_ia = p(a|y_i) exp(h_ia)/sum_c p(c|y_i) exp(h_ic)
    û_i = sum_a pi_ia A_a
    b   = [X^T û - vhat C]/sigma^2,                  C = sum_i Cov_pi_i[A]
    vhat <- b (1 + Lam)^-1/D,                        Lam = û^T û/(sigma^2 D)

where û' and Lam' are those of the iteration before (0 at first).  The memory of both fields (Onsager terms) is derived
in symbolic/learners/amp.py, h is the exponent of the Bayes-optimal channel.  As D -> infinity the overlaps vhat^T v and
vhat^T vhat follow `quenched.numerics.amp.state_evolution` iteration by iteration.

A new x gets the label of the larger weight sum_(a in y) P_a exp(h_a) at the field vhat^T x/sigma^2.  Given vhat, the
field vhat^T x is exactly normal in each cluster, with the mean vhat^T v A_a and the covariance sigma^2 K: test samples
are drawn there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from quenched.numerics.amp import SpectralWeights, spectral_weights
from quenched.numerics.bayes import Evolution, evolution_of
from quenched.numerics.problem.checks import choice, function, integer, number, record, seed_numbers
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.provenance import provenance
from quenched.numerics.problem.variables import describing
from quenched.sim.backend import Backend, generators, get_backend
from quenched.sim.engines.base import CLUSTER, DATA, TEST
from quenched.sim.samples import draw_clusters
from quenched.theory import amp, bayes

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["STARTS", "Samples", "simulate_amp"]

Array = npt.NDArray[np.float64]

theory: Any = bayes  # ufunc expressions: they take arrays where their signature says float
passing: Any = amp

STARTS = ("informed", "random", "spectral")
MEANS, START = 110, 111  # the uses that the random stream of a seed is put to, beside those of sim.engines
_MOST_NUMBERS = 2**34  # of X: 128 GB
_MOST_ITERATIONS = 10_000
_MOST_TESTS = 10**8
_CONVERGED = 1e-6  # residual of an eigenvector over its eigenvalue
_ROWS = 4096  # of X that are made at a time
_LOOK = 10  # Lanczos steps between two looks at the residual


@dataclass(frozen=True, eq=False)
class Samples:
    """The training set of one seed: X (n, D), the clusters of the samples (n,), and what is to be found, v (D, p).

    Arrays are those of the backend, but for `cluster`.
    """

    mixture: Mixture
    evolution: Evolution
    backend: Backend
    X: Any
    cluster: npt.NDArray[np.int64]
    v: Any

    @classmethod
    def draw(cls, mixture: Mixture, evolution: Evolution, D: int, seed: int, backend: Backend) -> Samples:
        """n = round(alpha D) samples of the seed."""
        n, xp = round(evolution.alpha * D), backend.xp
        cluster = draw_clusters(mixture, generators([seed], CLUSTER)[0], n)
        v = backend.normals([seed], MEANS, "float64")((D, evolution.p))[0, :, :] / D**0.5
        X = backend.normals([seed], DATA, "float64")((n, D))[0, :, :]
        X *= evolution.sigma
        for rows in (slice(start, min(start + _ROWS, n)) for start in range(0, n, _ROWS)):
            X[rows, :] += xp.matmul(xp.asarray(mixture.means[cluster[rows]]), xp.matrix_transpose(v))
        return cls(mixture, evolution, backend, X, cluster, v)

    @property
    def D(self) -> int:
        """Input dimension."""
        return int(self.X.shape[1])

    @cached_property
    def means(self) -> Any:
        """A (C, p)."""
        return self.backend.xp.asarray(self.mixture.means)

    @cached_property
    def log_shares(self) -> Any:
        """log p(a|y_i), -infinity where the label of cluster a is not y_i, (n, C)."""
        labels, weights = self.mixture.labels, self.mixture.weights
        rows = np.full((len(labels), len(labels)), -np.inf)
        for a, y in enumerate(labels):
            same = labels == y
            rows[a, same] = np.log(weights[same] / weights[same].sum())
        return self.backend.xp.asarray(rows[self.cluster])

    def host(self, array: Any) -> Array:
        """On the host."""
        return np.asarray(self.backend.to_host(array), dtype=np.float64)

    def product(self, one: Any, other: Any) -> Array:
        """one^T other, (p, p), on the host."""
        xp = self.backend.xp
        return self.host(xp.matmul(xp.matrix_transpose(one), other))

    def posterior(self, B: Any, K: Array) -> tuple[Any, Array]:
        """û = <A> (n, p) of the samples at fields B (n, p), and sum_i Cov_i[A] (p, p)."""
        xp, A = self.backend.xp, self.mixture.means
        own = xp.asarray(np.einsum("ak,kl,al->a", A, K, A) / self.evolution.sigma**2)
        h = theory.exponent(0.0, own, xp.matmul(B, xp.matrix_transpose(self.means))) + self.log_shares
        weights = xp.exp(h - xp.max(h, axis=1, keepdims=True))
        weights = weights / xp.sum(weights, axis=1, keepdims=True)
        average = xp.matmul(weights, self.means)
        second = A.T @ (self.host(xp.sum(weights, axis=0))[:, None] * A)
        return average, second - self.product(average, average)

    def iteration(self, vhat: Any, memory: Any) -> tuple[Any, Any]:
        """The next vhat, and the next memory û (1 + Lam)^-1."""
        xp, sigma = self.backend.xp, self.evolution.sigma
        B = passing.field(xp.matmul(self.X, vhat), memory, sigma)
        average, covariance = self.posterior(B, self.product(vhat, vhat))
        # sum_i û_i û_i^T/D is alpha sum_y P_y E[<A><A>^T]
        lam = np.asarray(theory.conjugate(1.0, sigma, 1.0, self.product(average, average) / self.D))
        inverse = xp.asarray(np.linalg.inv(np.eye(len(lam)) + lam))
        product = xp.matmul(xp.matrix_transpose(self.X), average)
        b = passing.field(product, xp.matmul(vhat, xp.asarray(covariance)), sigma)
        return xp.matmul(b, inverse) / self.D, xp.matmul(average, inverse)

    # --- where it starts

    def informed(self, seed: int, overlap: float) -> tuple[Any, Any]:
        """What a noisy look at v gives: vhat^T v = vhat^T vhat = overlap, independent of the samples."""
        noise = self._random(seed) * (overlap * (1 - overlap)) ** 0.5
        return overlap * self.v + noise, self._no_memory

    def random(self, seed: int, overlap: float) -> tuple[Any, Any]:
        """Knows nothing: vhat^T vhat = overlap, vhat^T v of order D^-1/2."""
        return overlap**0.5 * self._random(seed), self._no_memory

    def spectral(self, seed: int, overlap: float) -> tuple[Any, Any]:
        """Leading eigenvectors of sum_i w_y_i x_i x_i^T, by axis; vhat^T vhat = overlap."""
        xp = self.backend.xp
        how: SpectralWeights = spectral_weights(self.mixture)
        label = np.searchsorted(np.unique(self.mixture.labels), self.mixture.labels)[self.cluster]
        first = self._random(seed)
        columns: list[Any] = [None] * self.evolution.p
        for group in how.groups:
            weights = xp.asarray(how.weights[label, group[0]][:, None])
            found = self._leading(weights, len(group), first[:, group[0] : group[0] + 1])
            for i, k in enumerate(group):
                columns[k] = found[:, i : i + 1]
        e = xp.concat(columns, axis=1)
        uhat = xp.matmul(self.X, e) * xp.asarray(how.weights[label])
        turn = xp.asarray(overlap**0.5 * how.axes.T)
        return xp.matmul(e, turn), xp.matmul(uhat, turn)

    @property
    def _no_memory(self) -> Any:
        return self.backend.xp.zeros((self.X.shape[0], self.evolution.p), dtype=self.X.dtype)

    def _random(self, seed: int) -> Any:
        return self.backend.normals([seed], START, "float64")((self.D, self.evolution.p))[0, :, :] / self.D**0.5

    def _leading(self, weights: Any, count: int, start: Any) -> Any:
        """The `count` leading eigenvectors (D, count) of X^T diag(weights) X: Lanczos, fully orthogonalised."""
        xp = self.backend.xp
        basis, images = start / xp.linalg.vector_norm(start), None
        while True:
            image = xp.matmul(xp.matrix_transpose(self.X), weights * xp.matmul(self.X, basis[:, -1:]))
            images = image if images is None else xp.concat([images, image], axis=1)
            rest = image
            for _ in range(2):
                rest = rest - xp.matmul(basis, xp.matmul(xp.matrix_transpose(basis), rest))
            size, scale = (float(xp.linalg.vector_norm(each)) for each in (rest, image))
            steps = int(basis.shape[1])
            ended = steps == self.D or size <= _CONVERGED**2 * scale
            if steps >= count and (ended or steps % _LOOK == 0):
                values, vectors = np.linalg.eigh(self.product(basis, images))
                # the residual of a Ritz pair is what leaves the basis: its last coefficient times `size`
                if ended or size * np.abs(vectors[-1, -count:]).max() <= _CONVERGED * values[-count]:
                    return xp.matmul(basis, xp.asarray(np.ascontiguousarray(vectors[:, : -count - 1 : -1])))
            basis = xp.concat([basis, rest / size], axis=1)


def _wrong(mixture: Mixture, M: Array, K: Array, normals: Array) -> float:
    """The classification error of the estimate, on as many test fields from each cluster as there are `normals`."""
    A, sigma = mixture.means, mixture.isotropic_sigma
    values, vectors = np.linalg.eigh(K)
    noise = sigma * normals @ (vectors * np.sqrt(np.maximum(values, 0.0))).T
    own = np.einsum("ak,kl,al->a", A, K, A) / sigma**2
    positive = mixture.labels > 0
    error = 0.0
    for a, (weight, label) in enumerate(zip(mixture.weights.tolist(), mixture.labels.tolist(), strict=True)):
        h = np.asarray(theory.exponent(0.0, own, (noise + M @ A[a]) @ A.T / sigma**2))
        terms = mixture.weights * np.exp(h - h.max(axis=1, keepdims=True))
        lead = label * (terms[:, positive].sum(axis=1) - terms[:, ~positive].sum(axis=1))
        error += weight * float(np.mean(lead < 0) + np.mean(lead == 0) / 2)
    return error


@describing
def simulate_amp(
    mixture: Mixture,
    alpha: float,
    D: int,
    seeds: int | Sequence[int],
    iterations: int = 30,
    start: str = "random",
    overlap: float = 0.1,
    backend: str | Backend = "auto",
    test_samples: int = 10_000,
    progress: Callable[[float], None] | None = None,
) -> xr.Dataset:
    """AMP on n = round(alpha D) samples in dimension D, each seed with its own means and samples.

    `start`: "informed", a noisy look at v from outside the samples, of the overlap `overlap`, from which
    `state_evolution` starts; "random", a random vector; "spectral", the leading eigenvectors of weighted sums of
    x_i x_i^T, where the means of each label average to 0.  The last two have the squared norm `overlap`, and find v up
    to a symmetry of the mixture, such as the signs in XOR: `norms` and errors do not change under it.

    `backend`: "numpy", "cupy", or "auto".  A seed runs after the other, and does not depend on the others.
    `test_samples`: number of test fields, as many from each cluster.  `progress` is called with the fraction done.

    Returns a dataset with dimensions seed, iteration (0: the start), direction, direction_: overlaps vhat^T v, norms
    vhat^T vhat, and classification_error.

    ValueError: as `bayes_error`; a D with less than one sample, or more than memory holds; a start that does not exist,
    or not for this mixture.

    >>> dict(simulate_amp(Mixture.two_clusters(1.0), alpha=4.0, D=100, seeds=2, iterations=3).sizes)
    {'seed': 2, 'iteration': 4, 'direction': 1, 'direction_': 1}
    """
    import xarray as xr

    record("mixture", mixture, Mixture)
    evolution = evolution_of(mixture, alpha)
    D = integer("D", D, at_least=max(2, evolution.p))
    if not 1 <= evolution.alpha * D <= _MOST_NUMBERS / D:
        raise ValueError(
            f"alpha must give from 1 to 2^34/D = {_MOST_NUMBERS / D:g} samples n = alpha D, got alpha = {alpha:g} at "
            f"D = {D}"
        )
    names, iterations = seed_numbers(seeds), integer("iterations", iterations, at_least=1, at_most=_MOST_ITERATIONS)
    choice("start", start, STARTS)
    overlap = number("overlap", overlap, positive=True, at_most=1.0)
    tests = -(-integer("test_samples", test_samples, at_least=1, at_most=_MOST_TESTS) // mixture.clusters)
    function("progress", progress)
    if start == "spectral":
        spectral_weights(mixture)
    where = get_backend(backend)
    p = evolution.p
    M, K = np.empty((2, len(names), iterations + 1, p, p))
    errors = np.empty((len(names), iterations + 1))
    for s, seed in enumerate(names):
        samples = Samples.draw(mixture, evolution, D, seed, where)
        vhat, memory = getattr(samples, start)(seed, overlap)
        normals = generators([seed], TEST)[0].standard_normal((tests, p))
        for t in range(iterations + 1):
            if t:
                vhat, memory = samples.iteration(vhat, memory)
            M[s, t], K[s, t] = samples.product(vhat, samples.v), samples.product(vhat, vhat)
            errors[s, t] = _wrong(mixture, M[s, t], K[s, t], normals)
        if progress is not None:
            progress((s + 1) / len(names))
    attributes = provenance(
        mixture=mixture,
        amp={"alpha": evolution.alpha, "start": start, "overlap": overlap},
        simulation={"D": D, "backend": where.name, "test_samples": tests * mixture.clusters},
        seeds=names,
    )
    axes = ("seed", "iteration", "direction", "direction_")
    return xr.Dataset(
        {"overlaps": (axes, M), "norms": (axes, K), "classification_error": (axes[:2], errors)},
        {"seed": names, "iteration": np.arange(iterations + 1)},
        attributes,
    )
