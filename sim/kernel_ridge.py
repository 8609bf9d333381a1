"""Kernel ridge regression with real kernel matrices, and lazy two-layer networks: what the formulas are tested on.

    f(x) = sum_i c_i F(x, x_i),   c = (K + ridge 1)^-1 y,   K_ij = F(x_i, x_j)

with F a function of |x|^2/D, |x'|^2/D and x.x'/D (`quenched.numerics.kernel_ridge`).  Errors are counted on fresh
inputs.  One n x n matrix is kept, made in blocks of rows: 2 GB at n = 16,000.

A two-layer network with output scale s trained at rates of order 1/s^2 moves its weights by O(1/s) only: as s grows its
output stays linear in the change of the weights, and gradient flow on n samples ends at kernel regression with the
network's tangent kernel (Jacot, Gabriel, Hongler 2018).  `simulate_lazy` trains such a network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from quenched.numerics.averages.activations import activation_functions
from quenched.numerics.lazy.kernels import KernelFunctions, kernel_functions
from quenched.numerics.problem.checks import flag, function, integer, number, record, seed_numbers
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.provenance import provenance
from quenched.numerics.problem.variables import described
from quenched.sim.backend import Backend, generators, get_backend
from quenched.sim.engines.base import CLUSTER, DATA, FRAME, TEST
from quenched.sim.samples import draw_clusters
from quenched.sim.training import options_of

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Measuring", "simulate_kernel", "simulate_lazy"]

_ROWS = 512  # of a block of a kernel matrix
_TRAINED = 0.02  # a gradient above this share of the first is no minimum
_EPS = float(np.finfo(np.float64).eps)


class _Problem:
    """A mixture in R^D on a backend."""

    def __init__(self, mixture: Mixture, D: int, backend: Backend, dtype: str) -> None:
        record("mixture", mixture, Mixture).check_isotropic()
        if dtype not in ("float64", "float32"):
            raise ValueError(f"dtype must be 'float64' or 'float32', got {dtype!r}")
        self.mixture, self.backend, self.xp, self.dtype = mixture, backend, backend.xp, dtype
        self.D = integer("D", D, at_least=mixture.dimensions)
        self.means = mixture.at(self.D)

    def array(self, values: npt.ArrayLike) -> Any:
        """`values` as an array of the backend."""
        return self.xp.asarray(np.asarray(values, dtype=self.dtype))

    def clusters(self, seed: int, n: int, stratified: bool = False) -> npt.NDArray[np.int64]:
        """The clusters of n samples, each drawn with its probability, or n P_a of each, rounded."""
        if stratified:
            ends = np.rint(np.cumsum(self.mixture.weights) * n)
            return np.searchsorted(ends, np.arange(n), side="right")
        return draw_clusters(self.mixture, generators([seed], CLUSTER)[0], n)

    def inputs(self, normals: Any, cluster: npt.NDArray[np.int64]) -> Any:
        """Fresh inputs of the given clusters, (n, D)."""
        X = normals((len(cluster), self.D))[0, :, :] * self.array(self.mixture.sigmas[cluster])[:, None]
        p = self.mixture.dimensions
        X[:, :p] = X[:, :p] + self.array(self.means[cluster])
        return X

    def errors(self, seed: int, output: Callable[[Any], Any], per_cluster: int) -> dict[str, Any]:
        """What an output function (n, D) -> (n,) does on `per_cluster` fresh inputs of each cluster."""
        normals = self.backend.normals([seed], TEST, self.dtype)
        outputs = np.empty((self.mixture.clusters, per_cluster))
        for a, row in enumerate(outputs):
            for start in range(0, per_cluster, _ROWS):
                count = min(_ROWS, per_cluster - start)
                X = self.inputs(normals, np.full(count, a))
                row[start : start + count] = self.backend.to_host(output(X))
        y, weights = self.mixture.labels[:, None], self.mixture.weights
        wrong = (y * outputs < 0) + 0.5 * (outputs == 0)
        return {
            "pmse": float(((outputs - y) ** 2).mean(axis=1) @ weights) / 2,
            "classification_error": float(wrong.mean(axis=1) @ weights),
            "mean": outputs.mean(axis=1),
            "variance": outputs.var(axis=1, ddof=1),
        }


def _matrix(problem: _Problem, kernel: KernelFunctions, X: Any, Z: Any, same: bool = False) -> Any:
    """F(x_i, z_j) for rows x_i (n, D) and z_j (m, D); `same`: they are the same rows."""
    xp, D = problem.xp, problem.D
    value = problem.backend.elementwise(kernel.value)
    norms = [xp.sum(rows * rows, axis=1) / D for rows in (X, Z)]
    K = xp.empty((X.shape[0], Z.shape[0]), dtype=X.dtype)
    everyone = xp.arange(Z.shape[0])
    for start in range(0, X.shape[0], _ROWS):
        stop = min(start + _ROWS, X.shape[0])
        N = xp.broadcast_to(norms[0][start:stop, None], (stop - start, Z.shape[0]))
        N_ = xp.broadcast_to(norms[1][None, :], N.shape)
        u = xp.matmul(X[start:stop, :], Z.T) / D
        if same:  # a matrix product rounds x·x differently from the sum of squares
            u = xp.where(everyone[start:stop, None] == everyone[None, :], N, u)
        K[start:stop, :] = value(N, N_, u)
    return K


def _solved(problem: _Problem, K: Any, y: Any, ridge: float, intercept: bool) -> tuple[Any, float]:
    """c and b of (K + ridge) c + b = y, sum c = 0; b = 0 without intercept.  RuntimeError where that is singular."""
    xp, n = problem.xp, K.shape[0]
    for start in range(0, n, _ROWS):
        stop = min(start + _ROWS, n)
        K[start:stop, start:stop] = K[start:stop, start:stop] + ridge * xp.eye(stop - start, dtype=K.dtype)
    if intercept:
        ones = xp.ones((n, 1), dtype=K.dtype)
        K = xp.concat([xp.concat([K, ones], axis=1), xp.concat([ones.T, xp.zeros((1, 1), dtype=K.dtype)], axis=1)])
        y = xp.concat([y, xp.zeros(1, dtype=y.dtype)])
    try:
        c = xp.linalg.solve(K, y[:, None])
        left = float(xp.max(xp.abs(xp.matmul(K, c)[:, 0] - y)))
    except np.linalg.LinAlgError:
        left = math.inf
    if not left < math.sqrt(np.finfo(problem.dtype).eps):  # elimination need not notice
        raise RuntimeError(f"the kernel matrix of {n} samples is singular at ridge = {ridge:g}: raise it")
    return c[:n, 0], float(c[n, 0]) if intercept else 0.0


@dataclass(frozen=True)
class Measuring:
    """Fresh inputs that errors are measured on, and where to compute."""

    test_samples: int = 4000
    backend: str | Backend = "auto"
    dtype: str = "float64"


def simulate_kernel(
    mixture: Mixture,
    kernel: str,
    D: int,
    samples: int,
    seeds: int | Sequence[int],
    ridge: float = 0.0,
    *,
    intercept: bool = False,
    stratified: bool = False,
    progress: Callable[[float], None] | None = None,
    **measuring: Any,
) -> xr.Dataset:
    """Kernel ridge regression on `samples` = n inputs in dimension D, its own for each seed.

    `kernel`: see `quenched.numerics.lazy.kernels.kernel_functions`.  `intercept`: learn f + b, with no penalty on b.
    `stratified`: n P_a samples of each cluster, rounded, not a random number.  `measuring`: the fields of `Measuring`.
    Errors are averages over `test_samples` fresh inputs, as many from each cluster, weighted by P_a; an output of
    exactly 0 counts as half an error.  `backend`, `dtype` as in `simulate`.  `progress` is called with the fraction
    done.

    Returns a dataset with dimensions seed, cluster: pmse, classification_error; mean and variance of the output.

    ValueError: bad input, by name and value.  RuntimeError: a singular kernel matrix.

    >>> found = simulate_kernel(Mixture.two_clusters(0.2), "rbf", D=20, samples=40, seeds=2, ridge=0.1)
    >>> bool(found.classification_error.max() < 0.01)
    True
    """
    intercept, stratified = flag("intercept", intercept), flag("stratified", stratified)
    functions, n = kernel_functions(kernel), integer("samples", samples, at_least=2 if intercept else 1)
    ridge = number("ridge", ridge)
    how = options_of("simulate_kernel", Measuring, measuring)
    problem = _Problem(mixture, D, get_backend(how.backend), how.dtype)

    def learned(seed: int) -> Callable[[Any], Any]:
        cluster = problem.clusters(seed, n, stratified)
        X = problem.inputs(problem.backend.normals([seed], DATA, how.dtype), cluster)
        y = problem.array(mixture.labels[cluster])
        c, b = _solved(problem, _matrix(problem, functions, X, X, same=True), y, ridge, intercept)
        return lambda fresh: problem.xp.matmul(_matrix(problem, functions, fresh, X), c[:, None])[:, 0] + b

    asked = {"kernel": functions.name, "ridge": ridge, "samples": n, "intercept": intercept, "stratified": stratified}
    return _runs(problem, learned, seeds, how.test_samples, asked, progress)


class _Lazy:
    """phi(x) = s sum_k b_k g(w_k.x/sqrt D)/sqrt K from w_k ~ N(0, 1), b_k = ±1, in pairs of opposite b: phi = 0.

    Trained on n samples X, y: all gradients at once, of |phi - y|^2/2 + (ridge s^2/2) |change of the parameters|^2.
    """

    def __init__(self, problem: _Problem, network: TwoLayer, X: Any, y: Any, seed: int, ridge: float) -> None:
        self.problem, self.network, self.X, self.y, self.ridge = problem, network, X, y, ridge
        self.g, self.dg = (problem.backend.elementwise(f) for f in activation_functions(network.activation))
        half = network.K // 2
        random = generators([seed], FRAME)[0]
        W, b = random.standard_normal((half, problem.D)), random.choice([-1.0, 1.0], half)
        self.start = problem.array(np.concatenate([W, W])), problem.array(np.concatenate([b, -b]))

    def _fields(self, W: Any, X: Any) -> Any:
        return self.problem.xp.matmul(X, W.T) / math.sqrt(self.problem.D)

    def output(self, parameters: tuple[Any, Any], X: Any) -> Any:
        """phi of the rows of X, (n,)."""
        W, b = parameters
        values = self.problem.xp.matmul(self.g(self._fields(W, X)), b[:, None])[:, 0]
        return self.network.output_scale / math.sqrt(self.network.K) * values

    def tangent(self) -> Any:
        """The tangent kernel at the start on the samples, over s^2, (n, n)."""
        xp, (W, _), K = self.problem.xp, self.start, self.network.K
        h = self._fields(W, self.X)
        g, dg = self.g(h), self.dg(h)
        inner = xp.matmul(self.X, self.X.T) / self.problem.D
        return (xp.matmul(g, g.T) + inner * xp.matmul(dg, dg.T)) / K

    def gradient(self, parameters: tuple[Any, Any]) -> tuple[Any, Any]:
        """Of the loss over s^2 with respect to (W, b)."""
        xp, (W, b), K, s = self.problem.xp, parameters, self.network.K, self.network.output_scale
        h = self._fields(W, self.X)
        g = self.g(h)
        missing = (s / math.sqrt(K) * xp.matmul(g, b[:, None]) - self.y[:, None]) / (s * math.sqrt(K))
        along = missing * self.dg(h) * b[None, :]
        dW = xp.matmul(along.T, self.X) / math.sqrt(self.problem.D) + self.ridge * (W - self.start[0])
        db = xp.matmul(g.T, missing)[:, 0] + self.ridge * (b - self.start[1])
        return dW, db

    def train(self, tolerance: float) -> tuple[tuple[Any, Any], float]:
        """Gradient descent with momentum; the parameters at the end, and the gradient there over that at the start.

        Rate and momentum are the best for a quadratic loss whose curvatures are the eigenvalues of the tangent kernel,
        which shrink every mode to `tolerance` in the number of steps taken here.  Kinks of the activation add a floor.
        """
        xp = self.problem.xp
        values = np.linalg.eigvalsh(self.problem.backend.to_host(self.tangent()).astype(np.float64)) + self.ridge
        if values[0] <= _EPS * values[-1]:
            raise RuntimeError(
                f"the tangent kernel of {len(values)} samples is singular at ridge = {self.ridge:g}: raise it"
            )
        low, high = math.sqrt(values[0]), math.sqrt(values[-1])
        rate, shrink = (2 / (high + low)) ** 2, (high - low) / (high + low)
        now, velocity = self.start, tuple(xp.zeros_like(p) for p in self.start)
        sizes = []
        for _ in range(math.ceil(math.log(tolerance) / math.log(shrink)) if shrink > 0 else 1):
            slope = self.gradient(now)
            sizes.append(math.sqrt(sum(float(xp.sum(d * d)) for d in slope)))
            velocity = tuple(shrink**2 * v - rate * d for v, d in zip(velocity, slope, strict=True))
            now = now[0] + velocity[0], now[1] + velocity[1]
        left = sizes[-1] / sizes[0]
        if not left < _TRAINED:
            raise RuntimeError(
                f"the network is not trained after {len(sizes)} steps, its gradient went from {sizes[0]:.3g} to "
                f"{sizes[-1]:.3g}: it is not lazy enough; raise output_scale (now {self.network.output_scale:g}) or K "
                f"(now {self.network.K})"
            )
        return now, left


def simulate_lazy(
    mixture: Mixture,
    network: TwoLayer,
    D: int,
    samples: int,
    seeds: int | Sequence[int],
    ridge: float = 0.0,
    *,
    tolerance: float = 1e-6,
    progress: Callable[[float], None] | None = None,
    **measuring: Any,
) -> xr.Dataset:
    """A two-layer network of large `output_scale` s trained on `samples` = n inputs until its gradient vanishes.

        phi(x) = s sum_k v_k g(w_k.x/sqrt D),   v_k = b_k/sqrt K,   w_k ~ N(0, 1_D),  b_k = ±1 at the start

    in pairs of equal w and opposite b, so that phi = 0 at the start, and both layers learn at the same rate: full-batch
    descent on sum_i (phi(x_i) - y_i)^2/2 + (ridge s^2/2) (|w - w_0|^2 + |b - b_0|^2).  As s and K grow it ends at ridge
    regression with the kernel "ntk:ACTIVATION", up to O(1/s) and O(1/K).

    `tolerance`: the fraction of every mode of the linear problem that remains at the end of training.  The other
    arguments and the result are those of `simulate_kernel`, with `gradient` (seed) in addition: the norm of the
    gradient at the end over that at the start.

    ValueError: bad input; an odd K.  RuntimeError: training did not come near a minimum.

    >>> network = TwoLayer(20, "erf", output_scale=10.0)
    >>> found = simulate_lazy(Mixture.two_clusters(0.2), network, D=20, samples=10, seeds=2, ridge=0.1)
    >>> bool(found.classification_error.max() < 0.1)
    True
    """
    n, ridge = integer("samples", samples, at_least=1), number("ridge", ridge)
    if not 0 < (tolerance := number("tolerance", tolerance)) < 1:
        raise ValueError(f"tolerance must lie between 0 and 1, got {tolerance}")
    if record("network", network, TwoLayer).K % 2:
        raise ValueError(f"K must be even, for pairs of opposite neurons, got {network.K}")
    how = options_of("simulate_lazy", Measuring, measuring)
    problem = _Problem(mixture, D, get_backend(how.backend), how.dtype)

    def learned(seed: int) -> Callable[[Any], Any]:
        cluster = problem.clusters(seed, n)
        X = problem.inputs(problem.backend.normals([seed], DATA, how.dtype), cluster)
        lazy = _Lazy(problem, network, X, problem.array(mixture.labels[cluster]), seed, ridge)
        end, left[seed] = lazy.train(tolerance)
        return lambda fresh: lazy.output(end, fresh)

    left: dict[int, float] = {}
    asked = {"network": network, "ridge": ridge, "samples": n, "tolerance": tolerance}
    found = _runs(problem, learned, seeds, how.test_samples, asked, progress)
    found["gradient"] = "seed", [left[seed] for seed in found.seed.values.tolist()]
    return found


def _runs(
    problem: _Problem,
    learned: Callable[[int], Callable[[Any], Any]],
    seeds: int | Sequence[int],
    test_samples: int,
    asked: dict[str, Any],
    progress: Callable[[float], None] | None,
) -> xr.Dataset:
    """The errors of learned(seed), an output function, for all seeds."""
    import xarray as xr

    names = seed_numbers(seeds)
    function("progress", progress)
    per_cluster = -(-integer("test_samples", test_samples, at_least=2) // problem.mixture.clusters)
    records = []
    for done, seed in enumerate(names, 1):
        records.append(problem.errors(seed, learned(seed), max(per_cluster, 2)))
        if progress is not None:
            progress(done / len(names))
    simulation = {"D": problem.D, "backend": problem.backend.name, "dtype": problem.dtype, "test_samples": test_samples}
    return described(
        xr.Dataset(
            {
                name: (("seed", "cluster")[: 1 + np.ndim(records[0][name])], np.stack([r[name] for r in records]))
                for name in records[0]
            },
            coords={"seed": names},
            attrs=provenance(mixture=problem.mixture, simulation=simulation | asked, seeds=names),
        )
    )
