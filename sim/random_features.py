"""Given random features at finite D and P: the law of their output, and what SGD and ridge regression on samples reach.

    z_i = psi(f_i·x/sqrt(D)),   f_i uniform on the sphere |f_i|^2 = D,   i = 1 .. P,   output w·(z - E z)

Given the features, the mean and the variance of the output of a readout w, and with them its pmse, follow from the mean
and the covariance of z in each cluster, and these are exact sums (Mehler): with r_ij = f_i·f_j/D and the Hermite
coefficients c_k of each feature,

    Cov_a[z_i, z_j] = sum_k>0 c_k(rho_ia) c_k(rho_ja) r_ij^k   for i != j,   Var_a z_i,   rho_ia = f_i·mean_a/sqrt(D)

where r_ij is of order D^-1/2, so that few orders suffice; what is left out is bounded and reported.  Nothing is sampled
but the features, and the training set where there is one; where a teacher makes the labels, errors are counted on fresh
inputs.  Matrices are made in blocks of rows; one P x P matrix and its Cholesky factor are kept, 4 GB at P = 16,000.

Losses other than the square one are minimised by the alternating direction method of multipliers: the outputs h_s are
variables of their own, moved by the proximal operator of the loss, and tied to the readout by multipliers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from quenched.numerics.averages.activations import activation_value
from quenched.numerics.averages.losses import check_minimised, convex_loss
from quenched.numerics.lazy.hermite import hermite_orders
from quenched.numerics.lazy.taught import check_taught
from quenched.numerics.problem.checks import (
    expression_text,
    flag,
    function,
    increasing_times,
    integer,
    number,
    real,
    record,
    seed_numbers,
    shown,
)
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.provenance import provenance
from quenched.numerics.problem.variables import described
from quenched.numerics.saddle.proximal import proximal_points
from quenched.sim.backend import Backend, generators, get_backend
from quenched.sim.engines.base import CLUSTER, DATA, HIDDEN, NOISE, TEST
from quenched.sim.samples import draw_clusters, draw_labels
from quenched.sim.training import options_of
from quenched.symbolic.language.grammar import LOSS

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Features", "Training", "simulate_features"]

Array = npt.NDArray[np.float64]

FEATURES, TEST_HIDDEN = 100, 101  # uses that the random stream of a seed is put to, beside those of sim.engines
_ROWS = 512  # of a block of a P x P matrix
_STEPS = 64  # samples of SGD whose inner products are formed together
_TAIL = 1e-7  # largest entry of a covariance that its Mehler sum may leave out
_ORDERS = 40
_RELAXED = 1.6  # of a step of the alternating directions, at most 2
_LEFT, _ROUNDS = 1e-8, 20_000  # what the constraint and the slope may be off, relative; rounds until then
_BALANCE = 10  # rounds after which the penalty is set anew
_OPTIONS: dict[str, tuple[str, ...]] = {
    "population": (),
    "samples": ("samples", "loss", "label_noise"),
    "sgd": ("t", "lr", "decay"),
}
"""The readouts, and the options of `Training` that one of them alone has."""


class Features:
    """P random features of one seed, with their exact moments on a mixture.

    `mean` (P, C): E_a z; `average` (P,): E z.  Arrays are those of the backend.
    """

    def __init__(
        self, mixture: Mixture, activation: str, D: int, P: int, seed: int, backend: Backend, dtype: str
    ) -> None:
        self.mixture, self.backend, self.D, self.P, self.dtype = mixture, backend, D, P, dtype
        self.xp = xp = backend.xp
        F = backend.normals([seed], FEATURES, dtype)((P, D))[0, :, :]
        self.F = F * xp.reshape(1 / xp.sqrt(xp.sum(F * F, axis=1)), (P, 1))  # f_i/sqrt(D)
        self.psi = backend.elementwise(activation_value(activation))
        self.means = mixture.at(D)
        rho = backend.to_host(self.F[:, : mixture.dimensions]).astype(np.float64) @ self.means.T
        overlap = min(0.9, (1 + 2 * math.sqrt(math.log(P + 1))) / math.sqrt(D))  # of the closest pair, roughly
        self.orders = min(_ORDERS, math.ceil(math.log(_TAIL) / math.log(overlap)))
        per_cluster = [hermite_orders(activation, rho[:, a], s, self.orders) for a, s in enumerate(mixture.sigmas)]
        coefficients = np.stack([c.coefficients for c in per_cluster], axis=2)  # (orders + 1, P, C)
        self._tail = max(float(c.higher.max()) for c in per_cluster)
        variance = np.stack([c.square - c.coefficients[0] ** 2 for c in per_cluster], axis=1)
        self.coefficients, self.variance = self.array(coefficients), self.array(variance)
        self.mean = self.coefficients[0, :, :]
        self.weights = self.array(mixture.weights)
        self.average = xp.sum(self.mean * self.weights, axis=1)
        self.truncation = 0.0

    def array(self, values: npt.ArrayLike) -> Any:
        """`values` as an array of the backend."""
        return self.xp.asarray(np.asarray(values, dtype=self.dtype))

    @property
    def centred(self) -> Any:
        """E_a z - E z, (P, C)."""
        return self.mean - self.xp.reshape(self.average, (self.P, 1))

    def _blocks(self) -> Any:
        """Rows start .. stop of r_ij with zeros for i = j, and where those are."""
        xp, everyone = self.xp, self.xp.arange(self.P)
        for start in range(0, self.P, _ROWS):
            stop = min(start + _ROWS, self.P)
            same = xp.reshape(everyone[start:stop], (stop - start, 1)) == xp.reshape(everyone, (1, self.P))
            r = xp.matmul(self.F[start:stop, :], self.F.T)
            r = xp.where(same, xp.zeros_like(r), r)
            self.truncation = max(self.truncation, self._tail * float(xp.max(xp.abs(r))) ** (self.orders + 1))
            yield start, stop, r, same

    def covariance(self) -> Any:
        """Cov z over the whole mixture, (P, P)."""
        xp, c = self.xp, self.coefficients
        total = xp.empty((self.P, self.P), dtype=c.dtype)
        weighted, centred = c * self.weights, self.centred
        variance = xp.reshape(xp.sum(self.variance * self.weights, axis=1), (1, self.P))
        for start, stop, r, same in self._blocks():
            block = xp.zeros_like(r)
            for k in range(self.orders, 0, -1):  # Horner
                block = (block + xp.matmul(weighted[k, start:stop, :], c[k, :, :].T)) * r
            block = xp.where(same, variance, block)
            total[start:stop, :] = block + xp.matmul(centred[start:stop, :] * self.weights, centred.T)
        return total

    def outputs(self, w: Any) -> tuple[Array, Array]:
        """Means and variances of the output of readouts w (P, n) in each cluster, (n, C)."""
        xp, C, n = self.xp, self.mixture.clusters, w.shape[1]
        mean = xp.matmul(w.T, self.centred)
        variance = xp.matmul((w * w).T, self.variance)
        for start, stop, r, _ in self._blocks():
            power = r
            for k in range(1, self.orders + 1):
                ahead = xp.reshape(w[:, :, None] * self.coefficients[k, :, None, :], (self.P, n * C))
                product = xp.sum(ahead[start:stop, :] * xp.matmul(power, ahead), axis=0)
                variance = variance + xp.reshape(product, (n, C))
                power = power * r
        return self.backend.to_host(mean).astype(np.float64), self.backend.to_host(variance).astype(np.float64)

    def population(self, ridge: float) -> Any:
        """(Cov z + ridge)^-1 E[y (z - E z)], (P, 1), by Cholesky."""
        xp = self.xp
        matrix = self.covariance()
        for start in range(0, self.P, _ROWS):
            stop = min(start + _ROWS, self.P)
            matrix[start:stop, start:stop] = matrix[start:stop, start:stop] + ridge * xp.eye(
                stop - start, dtype=matrix.dtype
            )
        target = xp.matmul(self.centred, xp.reshape(self.weights * self.array(self.mixture.labels), (-1, 1)))
        return self._solve(matrix, target, ridge)

    def _solve(self, matrix: Any, target: Any, ridge: float) -> Any:
        """Cholesky, and substitution in blocks: the standard has no triangular solver.  RuntimeError if singular."""
        xp = self.xp
        try:
            L = xp.linalg.cholesky(matrix)
        except np.linalg.LinAlgError as error:
            raise RuntimeError(
                f"the covariance of {self.P} features in {self.D} dimensions is singular at ridge = {ridge:g}: raise it"
            ) from error
        n = matrix.shape[0]
        edges = [(start, min(start + _ROWS, n)) for start in range(0, n, _ROWS)]
        x = xp.asarray(target, copy=True)
        for i, j in edges:
            known = x[i:j, :] - xp.matmul(L[i:j, :i], x[:i, :]) if i else x[i:j, :]
            x[i:j, :] = xp.linalg.solve(L[i:j, i:j], known)
        for i, j in reversed(edges):
            known = x[i:j, :] - xp.matmul(L[j:, i:j].T, x[j:, :]) if j < n else x[i:j, :]
            x[i:j, :] = xp.linalg.solve(L[i:j, i:j].T, known)
        return x

    def samples(
        self, normals: Any, choices: np.random.Generator, n: int, hidden: np.random.Generator | None = None
    ) -> tuple[Any, Any]:
        """Centred features (n, P) of n fresh inputs and their labels (n,); `hidden`: of the noise of teacher fields."""
        return self.seen(normals, draw_clusters(self.mixture, choices, n), hidden)

    def seen(self, normals: Any, cluster: npt.NDArray[np.int64], hidden: np.random.Generator | None) -> tuple[Any, Any]:
        """The same of given clusters (n,)."""
        mixture, p = self.mixture, self.mixture.dimensions
        X = normals((len(cluster), self.D))[0, :, :] * self.array(mixture.sigmas[cluster])[:, None]
        X[:, :p] = X[:, :p] + self.array(self.means[cluster])
        Z = self.psi(self.xp.matmul(X, self.F.T)) - self.average
        return Z, self.array(draw_labels(mixture, cluster, self.backend.to_host(X[:, :p]), hidden))

    def training_set(self, n: int, seed: int, label_noise: float = 0.0) -> tuple[Any, Any]:
        """The n samples of a seed, with label_noise·N(0, 1) on the labels."""
        normals = self.backend.normals([seed], DATA, self.dtype)
        Z, y = self.samples(normals, generators([seed], CLUSTER)[0], n, generators([seed], HIDDEN)[0])
        if label_noise:
            y = y + self.array(label_noise * generators([seed], NOISE)[0].standard_normal(n))
        return Z, y

    def measured(self, w: Any, b: float, seed: int, count: int) -> tuple[Array, Array]:
        """pmse and classification error of readouts w (P, n) and intercept b, `count` fresh inputs of each cluster."""
        normals, hidden = self.backend.normals([seed], TEST, self.dtype), generators([seed], TEST_HIDDEN)[0]
        squares, wrong = np.zeros(w.shape[1]), np.zeros(w.shape[1])
        for a, weight in enumerate(self.mixture.weights.tolist()):
            for start in range(0, count, _ROWS):
                Z, y = self.seen(normals, np.full(min(_ROWS, count - start), a), hidden)
                output = self.backend.to_host(self.xp.matmul(Z, w)).astype(np.float64) + b
                label = self.backend.to_host(y).astype(np.float64)[:, None]
                margin = np.sign(label) * np.sign(output)
                squares += weight / count * ((output - label) ** 2).sum(axis=0) / 2
                wrong += weight / count * np.where(margin == 0, 0.5, margin < 0).sum(axis=0)
        return squares, wrong

    def minimise(self, data: tuple[Any, Any], loss: str, ridge: float, intercept: bool) -> tuple[Any, float]:
        """argmin_(w, b) sum_s l(w·z_s + b, y_s)/n + ridge |w|^2/2 on samples (Z, y): w (P, 1) and b.

        With the singular values of Z, centred where there is an intercept, a round costs two products with
        n x min(n, P) numbers for any penalty.  RuntimeError: it is not found after 20,000 rounds.
        """
        Z, y = (self.backend.to_host(part).astype(np.float64) for part in data)
        n, centre = len(y), Z.mean(axis=0) if intercept else np.zeros(self.P)
        U, values, Vt = np.linalg.svd(Z - centre, full_matrices=False)
        held, penalty = n * ridge, 1.0
        h, u, fit = np.zeros(n), np.zeros(n), np.zeros(n)
        for count in range(1, _ROUNDS + 1):
            before, target = h, h - u
            level = float(target.mean()) if intercept else 0.0
            along = U.T @ target
            fit = U @ (values**2 / (values**2 + held / penalty) * along) + level
            relaxed = _RELAXED * fit + (1 - _RELAXED) * h
            h = proximal_points(loss, y, 1 / penalty, relaxed + u)
            u = u + relaxed - h
            off, moved = float(np.linalg.norm(fit - h)), float(np.linalg.norm(h - before))
            size, slope = max(float(np.linalg.norm(h)), 1.0), max(float(np.linalg.norm(u)), 1e-300)
            if off <= _LEFT * size and moved <= _LEFT * slope:
                break
            if count % _BALANCE == 0:  # both shrink alike: a larger penalty ties h to the readout more closely
                factor = math.sqrt((off / size + 1e-300) / (moved / slope + 1e-300))
                factor = min(max(factor, 0.2), 5.0) if not 0.5 < factor < 2 else 1.0
                penalty, u = penalty * factor, u / factor
        else:
            raise RuntimeError(
                f"the minimum of the {loss!r} loss was not found: after {_ROUNDS} rounds outputs are off by "
                f"{off / size:.3g}; raise the ridge (now {ridge:g})"
            )
        w = Vt.T @ (values / (values**2 + held / penalty) * along)
        return self.array(w[:, None]), level - float(centre @ w)

    def ridge(self, n: int, ridge: float, seed: int, intercept: bool, label_noise: float = 0.0) -> tuple[Any, float]:
        """Ridge regression on n samples, argmin_(w, b) sum_s (w·z_s + b - y_s)^2/n + ridge |w|^2: w (P, 1) and b."""
        xp = self.xp
        Z, y = self.training_set(n, seed, label_noise)
        y = xp.reshape(y, (n, 1))
        centre, level = xp.zeros_like(Z[0, :]), 0.0
        if intercept:  # b = mean(y - w·z): what is left is the problem without it, of samples around their mean
            centre, level = xp.mean(Z, axis=0), float(xp.mean(y))
            Z, y = Z - centre, y - level
        if n < self.P:
            inner = xp.matmul(Z, Z.T) / n + ridge * xp.eye(n, dtype=Z.dtype)
            w = xp.matmul(Z.T, self._solve(inner, y / n, ridge))
        else:
            w = self._solve(xp.matmul(Z.T, Z) / n + ridge * xp.eye(self.P, dtype=Z.dtype), xp.matmul(Z.T, y) / n, ridge)
        return w, level - float(xp.matmul(centre, w[:, 0]))

    def sgd(self, steps: Sequence[int], lr: float, decay: float, ridge: float, seed: int) -> Any:
        """Readouts (P, len(steps)) of online SGD on the half squared loss after so many steps, from 0.

        w <- w - eta_s/P [(w·z - y) z + ridge w] with one fresh sample a step, eta_s = lr/(1 + s/(decay D)).
        """
        xp = self.xp
        normals = self.backend.normals([seed], DATA, self.dtype)
        choices, hidden = generators([seed], CLUSTER)[0], generators([seed], HIDDEN)[0]
        w = xp.zeros((self.P, 1), dtype=self.F.dtype)
        now, found = 0, []
        for stop in steps:
            while now < stop:
                n = min(_STEPS, stop - now)
                Z, y = self.samples(normals, choices, n, hidden)
                eta = lr / (1 + (now + np.arange(n)) / (decay * self.D)) / self.P
                shrink = 1 - eta * ridge
                gram = self.backend.to_host(xp.matmul(Z, Z.T)).astype(np.float64)
                field = self.backend.to_host(xp.matmul(Z, w))[:, 0].astype(np.float64)
                label = self.backend.to_host(y).astype(np.float64)
                moved = np.zeros(n)  # w = prod(shrink) w + sum_s moved_s z_s
                for s in range(n):
                    step = eta[s] * (label[s] - field[s])
                    moved[:s] *= shrink[s]
                    moved[s] = step
                    field[s + 1 :] = shrink[s] * field[s + 1 :] + step * gram[s, s + 1 :]
                w = float(np.prod(shrink)) * w + xp.matmul(Z.T, xp.reshape(self.array(moved), (n, 1)))
                now += n
            found.append(w)
        return xp.concat(found, axis=1)


@dataclass(frozen=True)
class Training:
    """How `simulate_features` finds the readout, and where it computes; an option of another readout is refused.

    `readout`: "population", the minimum of the mean square error on the whole mixture plus ridge |w|^2; "samples", the
    minimum of sum_s l(w·z_s + b, y_s)/n + ridge |w|^2/2 on `samples` = n inputs, where l is the `loss`, convex, and
    labels have `label_noise`·N(0, 1) in training with the square loss; "sgd", online SGD from w = 0, recorded after
    round(t D) steps for each of `t`, at the learning rate lr/(1 + t/decay): with a finite decay it ends at the
    population minimum.  `intercept`: the first two have a constant beside the features, which the ridge does not hold.
    `test_samples`: fresh inputs, where a teacher makes the labels.
    """

    readout: str = "population"
    samples: int | None = None
    t: npt.ArrayLike | None = None
    lr: float = 0.5
    decay: float = np.inf
    intercept: bool = False
    loss: str = "square"
    label_noise: float = 0.0
    test_samples: int = 4000
    backend: str | Backend = "auto"
    dtype: str = "float64"

    def __post_init__(self) -> None:
        if self.dtype not in ("float64", "float32"):
            raise ValueError(f"dtype must be 'float64' or 'float32', got {self.dtype!r}")
        if self.readout not in _OPTIONS:
            raise ValueError(f"readout must be 'population', 'samples' or 'sgd', got {self.readout!r}")
        for owner, names in _OPTIONS.items():
            for each in (each for each in fields(self) if each.name in names):
                value, default = getattr(self, each.name), cast("float | None", each.default)
                given = value is not None if default is None else not np.array_equal(value, default)
                if owner != self.readout and given:
                    raise ValueError(f"{each.name} must be left out but for readout={owner!r}, got {shown(value)}")
                if owner == self.readout and value is None:
                    raise ValueError(f"{each.name} must be given for readout={owner!r}, got None")
        if flag("intercept", self.intercept) and self.readout == "sgd":
            raise ValueError("intercept must be False for readout='sgd', whose readout has none, got True")
        object.__setattr__(self, "loss", expression_text(self.loss, LOSS))
        noise = number("label_noise", self.label_noise)
        integer("test_samples", self.test_samples, at_least=1)
        if self.readout == "samples":
            integer("samples", self.samples, at_least=2 if self.intercept else 1)
            if self.loss != "square":
                convex_loss(self.loss)
                if noise:
                    raise ValueError(
                        f"label_noise must be 0 for loss={self.loss!r}, which labels ±1 charge, got {noise}"
                    )
        if self.readout == "sgd":
            number("lr", self.lr, positive=True)
            if not real("decay", self.decay) > 0:
                raise ValueError(f"decay must be > 0, got {self.decay!r}")

    def steps(self, D: int) -> list[int]:
        """When SGD is looked at; none for the other readouts."""
        if self.readout != "sgd" or self.t is None:
            return []
        return [round(time * D) for time in increasing_times("t", self.t).tolist()]

    def check(self, mixture: Mixture, ridge: float) -> None:
        """ValueError: a mixture that is not isotropic, or what has no minimum or no formula."""
        if record("mixture", mixture, Mixture).teacher is None:
            mixture.check_isotropic()
        else:
            check_taught(mixture, elsewhere=False)
            if self.readout == "population":
                raise ValueError(
                    "readout must be 'samples' or 'sgd' where a teacher makes the labels, got 'population': E[y z] "
                    "has no formula at finite D"
                )
        if self.readout == "samples" and self.loss != "square":
            check_minimised(self.loss, ridge, self.intercept)
            if not ridge > 0:
                raise ValueError(f"ridge must be > 0 for loss={self.loss!r} on given features, got {ridge:g}")

    def train(self, features: Features, seed: int, ridge: float) -> tuple[Any, float]:
        """Readouts (P, n), n = 1 but for SGD, and the intercept."""
        if self.readout == "sgd":
            return features.sgd(self.steps(features.D), self.lr, self.decay, ridge, seed), 0.0
        if self.readout == "samples" and self.samples is not None:
            if self.loss == "square":
                return features.ridge(self.samples, ridge, seed, self.intercept, self.label_noise)
            data = features.training_set(self.samples, seed)
            if bool(features.xp.any(features.xp.abs(data[1]) != 1)):
                raise ValueError(f"loss must be 'square' for labels other than +1 and -1, got {self.loss!r}")
            return features.minimise(data, self.loss, ridge, self.intercept)
        mixture = features.mixture
        return features.population(ridge), float(mixture.weights @ mixture.labels) if self.intercept else 0.0

    def to_dict(self) -> dict[str, Any]:
        """What the attributes of a dataset keep."""
        found: dict[str, Any] = {
            "readout": self.readout,
            "samples": self.samples,
            "intercept": self.intercept,
            "dtype": self.dtype,
        }
        found |= {"lr": self.lr, "decay": str(self.decay)} if self.readout == "sgd" else {}
        found |= {"loss": self.loss} if self.loss != "square" else {}
        return found | ({"label_noise": self.label_noise} if self.label_noise else {})


def simulate_features(
    mixture: Mixture,
    activation: str,
    D: int,
    P: int,
    seeds: int | Sequence[int],
    ridge: float = 0.0,
    *,
    progress: Callable[[float], None] | None = None,
    **training: Any,
) -> xr.Dataset:
    """Errors of P random features of an activation in dimension D, for each seed its own features.

    `training`: the fields of `Training`: readout ("population", "samples" or "sgd"), samples, loss, label_noise, t, lr,
    decay, intercept, test_samples, and backend, dtype as in `simulate`.  Given features and readout, means and
    variances of the output and the pmse are exact, from Mehler sums.  The classification error is that of a Gaussian
    output in each cluster, which it has for P of order D as both grow, and not for P of order D^2, where its part of
    order two has few directions.  Where a teacher makes the labels (readouts "samples" and "sgd") both errors are
    averages over `test_samples` fresh inputs, as many from each cluster, whose labels have the noise of the teacher's
    fields and no other.  `progress` is called with the fraction done.

    Returns a dataset with dimensions seed, cluster, and time with "sgd": pmse, classification_error, mean, variance;
    `truncation` (seed): the largest entry that a covariance leaves out.

    ValueError: bad input, by name and value.  RuntimeError: a singular covariance.

    Two clusters far apart are told by almost any features:

    >>> found = simulate_features(Mixture.two_clusters(0.2), "erf", D=20, P=40, seeds=2, ridge=0.1)
    >>> bool(found.classification_error.max() < 0.01)
    True
    """
    import xarray as xr

    how, ridge = options_of("simulate_features", Training, training), number("ridge", ridge)
    how.check(mixture, ridge)
    function("progress", progress)
    D, P = integer("D", D, at_least=mixture.dimensions), integer("P", P, at_least=1)
    names = seed_numbers(seeds)
    steps, chosen = how.steps(D), get_backend(how.backend)
    records = []
    for done, seed in enumerate(names, 1):
        features = Features(mixture, activation, D, P, seed, chosen, how.dtype)
        w, b = how.train(features, seed, ridge)
        mean, variance = features.outputs(w)
        mean = mean + b
        if mixture.teacher is None:
            tails = ndtr(-mixture.labels * mean / np.sqrt(np.maximum(variance, np.finfo(np.float64).tiny)))
            pmse, wrong = ((mixture.labels - mean) ** 2 + variance) @ mixture.weights / 2, tails @ mixture.weights
        else:
            pmse, wrong = features.measured(w, b, seed, -(-how.test_samples // mixture.clusters))
        found = {"pmse": pmse, "classification_error": wrong, "mean": mean, "variance": variance}
        records.append(
            {name: value if steps else value[0] for name, value in found.items()} | {"truncation": features.truncation}
        )
        if progress is not None:
            progress(done / len(names))
    time = ("time",) if steps else ()
    dims = {"mean": (*time, "cluster"), "variance": (*time, "cluster"), "truncation": ()}
    simulation = {"D": D, "P": P, "backend": chosen.name} | how.to_dict()
    return described(
        xr.Dataset(
            {
                name: (("seed", *dims.get(name, time)), np.stack([record[name] for record in records]))
                for name in records[0]
            },
            coords={"seed": names} | ({"time": np.array(steps) / D} if steps else {}),
            attrs=provenance(
                mixture=mixture,
                activation=activation,
                ridge=ridge,
                simulation=simulation,
                seeds=names,
            ),
        )
    )
