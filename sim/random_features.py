"""Given random features at finite D and P: the law of their output, and what SGD and ridge regression on samples reach.

    z_i = psi(f_i·x/sqrt(D)),   f_i uniform on the sphere |f_i|^2 = D,   i = 1 .. P,   output w·(z - E z)

Given the features, the mean and the variance of the output of a readout w, and with them its pmse, follow from the mean
and the covariance of z in each cluster, and these are exact sums (Mehler): with r_ij = f_i·f_j/D and the Hermite
coefficients c_k of each feature,

    Cov_a[z_i, z_j] = sum_k>0 c_k(rho_ia) c_k(rho_ja) r_ij^k   for i != j,   Var_a z_i,   rho_ia = f_i·mean_a/sqrt(D)

where r_ij is of order D^-1/2, so that few orders suffice; what is left out is bounded and reported.  Nothing is sampled
but the features, and the training set where there is one.  Matrices are made in blocks of rows; one P x P matrix and
its Cholesky factor are kept, 4 GB at P = 16,000.
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
from quenched.numerics.lazy.hermite import hermite_orders
from quenched.numerics.problem.checks import (
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
from quenched.sim.backend import Backend, generators, get_backend
from quenched.sim.engines.base import CLUSTER, DATA
from quenched.sim.samples import draw_clusters
from quenched.sim.training import options_of

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Features", "Training", "simulate_features"]

Array = npt.NDArray[np.float64]

FEATURES = 100  # the use that the random stream of a seed is put to, beside those of sim.engines
_ROWS = 512  # of a block of a P x P matrix
_STEPS = 64  # samples of SGD whose inner products are formed together
_TAIL = 1e-7  # largest entry of a covariance that its Mehler sum may leave out
_ORDERS = 40
_OPTIONS: dict[str, tuple[str, ...]] = {"population": (), "samples": ("samples",), "sgd": ("t", "lr", "decay")}
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

    def samples(self, normals: Any, choices: np.random.Generator, n: int) -> tuple[Any, Any]:
        """Centred features (n, P) of n fresh inputs and their labels (n,)."""
        mixture = self.mixture
        cluster = draw_clusters(mixture, choices, n)
        X = normals((n, self.D))[0, :, :] * self.array(mixture.sigmas[cluster])[:, None]
        X[:, : mixture.dimensions] = X[:, : mixture.dimensions] + self.array(self.means[cluster])
        Z = self.psi(self.xp.matmul(X, self.F.T)) - self.average
        return Z, self.array(mixture.labels[cluster])

    def ridge(self, n: int, ridge: float, seed: int, intercept: bool) -> tuple[Any, float]:
        """Ridge regression on n samples, argmin_(w, b) sum_s (w·z_s + b - y_s)^2/n + ridge |w|^2: w (P, 1) and b."""
        xp = self.xp
        normals = self.backend.normals([seed], DATA, self.dtype)
        Z, y = self.samples(normals, generators([seed], CLUSTER)[0], n)
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
        normals, choices = self.backend.normals([seed], DATA, self.dtype), generators([seed], CLUSTER)[0]
        w = xp.zeros((self.P, 1), dtype=self.F.dtype)
        now, found = 0, []
        for stop in steps:
            while now < stop:
                n = min(_STEPS, stop - now)
                Z, y = self.samples(normals, choices, n)
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

    `readout`: "population", the minimum of the mean square error on the whole mixture plus ridge |w|^2; "samples",
    ridge regression on `samples` = n inputs; "sgd", online SGD from w = 0, recorded after round(t D) steps for each of
    `t`, at the learning rate lr/(1 + t/decay): with a finite decay it ends at the population minimum.  `intercept`: the
    first two have a constant beside the features, which the ridge does not hold.
    """

    readout: str = "population"
    samples: int | None = None
    t: npt.ArrayLike | None = None
    lr: float = 0.5
    decay: float = np.inf
    intercept: bool = False
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
        if self.readout == "samples":
            integer("samples", self.samples, at_least=2 if self.intercept else 1)
        if self.readout == "sgd":
            number("lr", self.lr, positive=True)
            if not real("decay", self.decay) > 0:
                raise ValueError(f"decay must be > 0, got {self.decay!r}")

    def steps(self, D: int) -> list[int]:
        """When SGD is looked at; none for the other readouts."""
        if self.readout != "sgd" or self.t is None:
            return []
        return [round(time * D) for time in increasing_times("t", self.t).tolist()]

    def train(self, features: Features, seed: int, ridge: float) -> tuple[Any, float]:
        """Readouts (P, n), n = 1 but for SGD, and the intercept."""
        if self.readout == "sgd":
            return features.sgd(self.steps(features.D), self.lr, self.decay, ridge, seed), 0.0
        if self.readout == "samples" and self.samples is not None:
            return features.ridge(self.samples, ridge, seed, self.intercept)
        mixture = features.mixture
        return features.population(ridge), float(mixture.weights @ mixture.labels) if self.intercept else 0.0

    def to_dict(self) -> dict[str, Any]:
        """What the attributes of a dataset keep."""
        found = {"readout": self.readout, "samples": self.samples, "intercept": self.intercept, "dtype": self.dtype}
        return found | ({"lr": self.lr, "decay": str(self.decay)} if self.readout == "sgd" else {})


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

    `training`: the fields of `Training`: readout ("population", "samples" or "sgd"), samples, t, lr, decay, intercept,
    and backend, dtype as in `simulate`.  Given features and readout, means and variances of the output and the pmse are
    exact, from Mehler sums.  The classification error is that of a Gaussian output in each cluster, which it has for
    P of order D as both grow, and not for P of order D^2, where its part of order two has few directions.  `progress`
    is called with the fraction done.

    Returns a dataset with dimensions seed, cluster, and time with "sgd": pmse, classification_error, mean, variance;
    `truncation` (seed): the largest entry that a covariance leaves out.

    ValueError: bad input, by name and value.  RuntimeError: a singular covariance.

    Two clusters far apart are told by almost any features:

    >>> found = simulate_features(Mixture.two_clusters(0.2), "erf", D=20, P=40, seeds=2, ridge=0.1)
    >>> bool(found.classification_error.max() < 0.01)
    True
    """
    import xarray as xr

    record("mixture", mixture, Mixture).check_isotropic()
    function("progress", progress)
    D, P = integer("D", D, at_least=mixture.dimensions), integer("P", P, at_least=1)
    ridge, names = number("ridge", ridge), seed_numbers(seeds)
    how = options_of("simulate_features", Training, training)
    steps, chosen = how.steps(D), get_backend(how.backend)
    records = []
    for done, seed in enumerate(names, 1):
        features = Features(mixture, activation, D, P, seed, chosen, how.dtype)
        w, b = how.train(features, seed, ridge)
        mean, variance = features.outputs(w)
        mean = mean + b
        wrong = ndtr(-mixture.labels * mean / np.sqrt(np.maximum(variance, np.finfo(np.float64).tiny)))
        found = {
            "pmse": ((mixture.labels - mean) ** 2 + variance) @ mixture.weights / 2,
            "classification_error": wrong @ mixture.weights,
            "mean": mean,
            "variance": variance,
        }
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
