"""The records a problem is stated in: `Mixture`, `TwoLayer`, `OnlineSGD` or its limit `GradientFlow`, and the state
`OrderParameters`.

Conventions (the README lists them; D is the input dimension, C the number of clusters, K of neurons):

    x | a ~ N(mu_a/sqrt(D), sigma_a^2 I),  label y_a = ±1,  probability P_a
    phi(x) = s sum_k v_k g(lambda_k),      lambda_k = w_k·x/sqrt(D)
    M_ak = w_k·mu_a/D,  Q_kl = w_k·w_l/D,  so that lambda given a ~ N(M_a, sigma_a^2 Q)

Records are immutable, validate themselves on construction (`ValueError` names the argument and the offending value)
and turn into JSON-able dictionaries with `to_dict`, from which `Record(**dictionary)` rebuilds them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from quenched.numerics.checks import Record, activation_text, finite_array, integer, number
from quenched.numerics.spectrum import Spectrum

__all__ = ["Densities", "GradientFlow", "Mixture", "OnlineSGD", "OrderParameters", "Spectrum", "Teacher", "TwoLayer"]

Array = npt.NDArray[np.float64]

# Order parameters are products of floating-point sums, or solutions of an ODE with a relative error near 1e-8:
# semidefiniteness and consistency are asked for up to this fraction of the largest entry.
_ROUNDING = math.sqrt(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class Mixture(Record):
    """A mixture of C Gaussians with binary labels: x | a ~ N(mu_a/sqrt(D), sigma_a^2 I_D), label y_a.

    `means` (C, p): coordinates of mu_a/sqrt(D) in an orthonormal basis of a p-dimensional space that holds all means,
    in the units of a component of x; `labels` (C,): y_a = ±1; `weights` (C,): P_a > 0, equal if None; `sigma`: noise
    per component of x, one number or one per cluster; `scaling`: the mean vector at dimension D is the coordinates
    times D^scaling, one exponent or one per coordinate (0 low, 1/4 crossover, 1/2 high signal-to-noise ratio).

    `spectrum`: covariances sigma_a^2 rho_au on common eigenvectors instead of sigma_a^2 1.  `teacher`: labels made by a
    network of the input, y = y*(x), instead of by the cluster; `labels` are then left out, and its weights have the
    same p coordinates as the means.

    >>> Mixture.xor(0.5).T                    # T_ab = mu_a·mu_b/D
    array([[ 1., -1.,  0.,  0.],
           [-1.,  1.,  0.,  0.],
           [ 0.,  0.,  1., -1.],
           [ 0.,  0., -1.,  1.]])
    >>> Mixture([[1.0], [-1.0]], labels=[1, 0])
    Traceback (most recent call last):
    ...
    ValueError: labels must be +1 or -1, got 0.0
    """

    means: Array
    labels: Array = None  # type: ignore[assignment]  # an array once constructed
    weights: Array = None  # type: ignore[assignment]
    sigma: float | Array = 1.0
    scaling: float | Array = 0.0
    spectrum: Spectrum | None = None
    teacher: Teacher | None = None

    def __post_init__(self) -> None:
        means = finite_array("means", self.means, (None, None))
        clusters, dimensions = means.shape
        spectrum, teacher = self._parts(clusters, dimensions)
        if teacher is None:
            labels = finite_array("labels", self.labels, (clusters,))
            if (wrong := labels[np.abs(labels) != 1]).size:
                raise ValueError(f"labels must be +1 or -1, got {wrong[0]}")
        elif self.labels is None or not np.any(self.labels):
            labels = finite_array("labels", np.zeros(clusters), (clusters,))
        else:
            raise ValueError(f"labels must be left out where a teacher makes them, got {self.labels!r}")
        given = np.full(clusters, 1 / clusters) if self.weights is None else self.weights
        weights = finite_array("weights", given, (clusters,))
        if (wrong := weights[weights <= 0]).size:
            raise ValueError(f"weights must be > 0, got {wrong[0]}")
        if abs(weights.sum() - 1) > 1e-12 * clusters:
            raise ValueError(f"weights must sum to 1, got a sum of {weights.sum()!s}")
        sigma: float | Array
        if np.ndim(self.sigma) == 0:
            sigma = number("sigma", self.sigma, positive=True)
        else:
            sigma = finite_array("sigma", self.sigma, (clusters,))
            if (wrong := sigma[sigma <= 0]).size:
                raise ValueError(f"sigma must be > 0, got {wrong[0]}")
        exponents = finite_array("scaling", self.scaling, () if np.ndim(self.scaling) == 0 else (dimensions,))
        scaling = float(exponents) if exponents.ndim == 0 else exponents
        self._set(means=means, labels=labels, weights=weights, sigma=sigma, scaling=scaling)
        self._set(spectrum=spectrum, teacher=teacher)

    def _parts(self, clusters: int, dimensions: int) -> tuple[Spectrum | None, Teacher | None]:
        """Spectrum and teacher, rebuilt if they came as dictionaries."""
        spectrum = Spectrum(**self.spectrum) if isinstance(self.spectrum, dict) else self.spectrum
        teacher = Teacher(**self.teacher) if isinstance(self.teacher, dict) else self.teacher
        if spectrum is not None:
            if not isinstance(spectrum, Spectrum):
                raise ValueError(f"spectrum must be a Spectrum, got {spectrum!r}")
            if spectrum.eigenvalues.ndim == 2 and len(spectrum.eigenvalues) != clusters:
                raise ValueError(
                    f"spectrum must have eigenvalues of {clusters} clusters, got {len(spectrum.eigenvalues)}"
                )
            if spectrum.alignment is not None and spectrum.alignment.shape[1] != dimensions:
                raise ValueError(
                    f"spectrum must have an alignment of {dimensions} coordinates like the means, got "
                    f"{spectrum.alignment.shape[1]}"
                )
        if teacher is not None:
            if not isinstance(teacher, Teacher):
                raise ValueError(f"teacher must be a Teacher, got {teacher!r}")
            if teacher.weights.shape[1] != dimensions:
                have = teacher.weights.shape[1]
                raise ValueError(f"teacher must have weights of {dimensions} coordinates like the means, got {have}")
        return spectrum, teacher

    @property
    def clusters(self) -> int:
        """C, the number of clusters."""
        return self.means.shape[0]

    @property
    def dimensions(self) -> int:
        """p, the number of coordinates of the means."""
        return self.means.shape[1]

    @property
    def sigmas(self) -> Array:
        """sigma_a, shape (C,)."""
        return np.broadcast_to(np.asarray(self.sigma, dtype=np.float64), (self.clusters,))

    @property
    def isotropic_sigma(self) -> float:
        """The noise level that all clusters share; ValueError if they do not."""
        first = float(self.sigmas[0])
        if (self.sigmas != first).any():
            raise ValueError(f"sigma must be the same for all clusters here, got {self.sigmas.tolist()}")
        return first

    @property
    def eigenvalues(self) -> Array:
        """Variances sigma_a^2 rho_au of each cluster along the directions of each node, (C, U); U = 1 if isotropic."""
        rho = np.ones(1) if self.spectrum is None else self.spectrum.eigenvalues
        return np.asarray(self.sigmas[:, None] ** 2 * rho)

    @property
    def shares(self) -> Array:
        """The share s_u of all directions that each node has, (U,)."""
        return np.ones(1) if self.spectrum is None else self.spectrum.weights

    @property
    def alignment(self) -> Array:
        """G (U, p, p), how the coordinates of the means are spread over the nodes: `Spectrum`."""
        return np.eye(self.dimensions)[None] if self.spectrum is None else self.spectrum.aligned(self.dimensions)

    @property
    def references(self) -> Array:
        """The vectors whose overlaps with the weights are the rows of M: the means, then the teacher's weights."""
        return self.means if self.teacher is None else np.concatenate([self.means, self.teacher.weights])

    @property
    def exponents(self) -> Array:
        """The exponent of D of each coordinate, shape (p,)."""
        return np.broadcast_to(np.asarray(self.scaling, dtype=np.float64), (self.dimensions,))

    @property
    def T(self) -> Array:
        """T_ab = mu_a·mu_b/D without the factors D^scaling, shape (C, C)."""
        return self.means @ self.means.T

    def at(self, D: float) -> Array:
        """Mean vectors at dimension D, in the basis of `means`: means · D^scaling, shape (C, p).

        >>> Mixture.two_clusters(1.0, scaling=0.5).at(100).ravel()
        array([ 10., -10.])
        """
        return self.means * number("D", D, positive=True) ** self.exponents

    def finite(self, D: float) -> Mixture:
        """The mixture as it is at dimension D: means · D^scaling as means of scaling 0.

        What the learning equations make of it holds as long as a step moves the local fields little, eta v^2 |mean|^2
        being small against D: up to corrections of O(D^(2 scaling - 1)) for scaling < 1/2.

        >>> Mixture.two_clusters(1.0, scaling=0.25).finite(10**4).means.ravel()
        array([ 10., -10.])
        """
        return replace(self, means=self.at(D), scaling=0.0)

    def references_at(self, D: float) -> Array:
        """`references` at dimension D; a teacher's weights do not scale."""
        return self.at(D) if self.teacher is None else np.concatenate([self.at(D), self.teacher.weights])

    @classmethod
    def xor(cls, sigma: float, separation: float = 1.0, scaling: float | npt.ArrayLike = 0.0) -> Mixture:
        """Labels -1 at ±e1 and +1 at ±e2, times `separation`; equal weights."""
        means = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        return cls._named(means, [-1, -1, 1, 1], sigma, separation, scaling)

    @classmethod
    def two_clusters(cls, sigma: float, separation: float = 1.0, scaling: float | npt.ArrayLike = 0.0) -> Mixture:
        """Labels ±1 at ±e1, times `separation`: linearly separable but for the noise."""
        return cls._named(np.array([[1.0], [-1.0]]), [1, -1], sigma, separation, scaling)

    @classmethod
    def three_clusters(cls, sigma: float, separation: float = 1.0, scaling: float | npt.ArrayLike = 0.0) -> Mixture:
        """Label -1 at ±e1 (weight 1/4 each), times `separation`, and +1 at the origin (weight 1/2)."""
        means = np.array([[1.0], [-1.0], [0.0]])
        return cls._named(means, [-1, -1, 1], sigma, separation, scaling, weights=[0.25, 0.25, 0.5])

    @classmethod
    def ring(cls, m: int, sigma: float, separation: float = 1.0, scaling: float | npt.ArrayLike = 0.0) -> Mixture:
        """2m clusters at the angles pi j/m, j = 0..2m-1, with labels -(-1)^j, times `separation`: XOR is m = 2.

        >>> Mixture.ring(2, 0.5).means[:2]
        array([[1., 0.],
               [0., 1.]])
        """
        from scipy.special import cosdg, sindg  # in degrees: exact zeros at the quarter turns

        j = np.arange(2 * integer("m", m, at_least=1))
        means = np.stack([cosdg(180 * j / m), sindg(180 * j / m)], axis=1) + 0.0  # -0 -> 0
        return cls._named(means, -((-1.0) ** j), sigma, separation, scaling)

    @classmethod
    def parity(
        cls, sigma: float, lengths: tuple[float, float] = (1.0, 1.0), scaling: float | npt.ArrayLike = 0.0
    ) -> Mixture:
        """Means ±m1 e1 ± m2 e2 with (m1, m2) = `lengths`; the label is the product of the two signs.

        Equal lengths give XOR turned by 45 degrees; scaling = (1/2, 0) gives the mixed signal-to-noise regime.
        """
        m1, m2 = (number("lengths", m, positive=True) for m in finite_array("lengths", lengths, (2,)).tolist())
        signs = np.array([[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]])
        return cls(signs * [m1, m2], signs.prod(axis=1), sigma=sigma, scaling=scaling)  # type: ignore[arg-type]

    @classmethod
    def from_data(
        cls,
        X: npt.ArrayLike,
        cluster: npt.ArrayLike,
        label: npt.ArrayLike,
        *,
        covariance: str = "isotropic",
        shrinkage: float | str | None = None,
        project: bool = False,
        centre: bool = True,
    ) -> Mixture:
        """The mixture closest to labelled data: n samples X (n, D), `cluster` (n,) and `label` (n,) ±1.

            P_a = n_a/n,   mean_a = average of cluster a,   sigma^2 = sum_i |x_i - mean_a(i)|^2 / ((n - C) D)

        A row of X is an input x: means and sigma come out in the units of a component of X, the mean vectors
        mu_a/sqrt(D) with their length in D dimensions, on the orthonormal basis (right singular vectors, p = rank)
        of their span.  `centre` subtracts the average of all of X first, as is usual before training.  Clusters are
        in sorted order; all samples of a cluster must have one label.

        `covariance`: "isotropic", an overall noise level only; "shared", the eigenvalues of the pooled covariance and
        where the means lie on its eigenvectors; "full", those of each cluster, which must commute unless `project`
        replaces them by their diagonals in the pooled eigenbasis (`mixture.spectrum.discarded` says what is lost).
        Fewer degrees of freedom than D are refused unless `shrinkage` is given: "ledoit-wolf", or the weight of the
        identity.  Source: `quenched.numerics.estimate`.

        >>> Mixture.from_data([[2.0, 1.0], [2.0, -1.0], [-2.0, 1.0], [-2.0, -1.0]], [0, 0, 1, 1], [1, 1, -1, -1]).sigma
        1.0
        """
        from quenched.numerics.estimate import estimate

        options: dict[str, Any] = {"covariance": covariance, "shrinkage": shrinkage, "project": project}
        return cls(**estimate(X, cluster, label, **options, centre=centre).arguments)

    @classmethod
    def _named(
        cls,
        means: Array,
        labels: npt.ArrayLike,
        sigma: float,
        separation: float,
        scaling: float | npt.ArrayLike,
        weights: npt.ArrayLike | None = None,
    ) -> Mixture:
        length = number("separation", separation, positive=True)
        return cls(means * length, labels, weights, sigma, scaling)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Teacher(Record):
    """Labels made by a network: y = sum_m v_m g(nu_m), nu_m = w*_m·x/sqrt(D), in place of a label per cluster.

    `weights` (m, p): w*_m/sqrt(D) in the coordinates of the mixture's means; `v` (m,): its readout; `activation`: g.
    For one cluster at the origin, Mixture(np.zeros((1, p)), teacher=Teacher(...)), this is the teacher-student problem
    of Saad and Solla (1995).

    >>> Teacher(weights=[[1.0, 0.0], [0.0, 1.0]], v=[1.0, 1.0], activation="erf").neurons
    2
    """

    weights: Array
    v: Array
    activation: str

    def __post_init__(self) -> None:
        weights = finite_array("weights", self.weights, (None, None))
        v = finite_array("v", self.v, (len(weights),))
        self._set(weights=weights, v=v, activation=activation_text(self.activation))

    @property
    def neurons(self) -> int:
        """m, the number of its neurons."""
        return self.v.shape[0]


@dataclass(frozen=True)
class TwoLayer(Record):
    """The network phi(x) = s sum_k v_k g(w_k·x/sqrt(D)) with K neurons, s = `output_scale`.

    `activation` names g: a built-in ("erf" is erf(x/sqrt 2), "relu", "linear", ...) or an expression in x, which is
    kept as `quenched.symbolic.grammar` prints it.

    >>> TwoLayer(K=0, activation="relu")
    Traceback (most recent call last):
    ...
    ValueError: K must be an integer >= 1, got 0
    """

    K: int
    activation: str
    output_scale: float = 1.0

    def __post_init__(self) -> None:
        K = integer("K", self.K, at_least=1)
        scale = number("output_scale", self.output_scale, positive=True)
        self._set(K=K, activation=activation_text(self.activation), output_scale=scale)


@dataclass(frozen=True)
class OnlineSGD(Record):
    """One fresh sample (x, y) per step, half squared loss, Delta = phi(x) - y - `label_noise`·N(0, 1):

        w_k <- w_k - eta/sqrt(D) · s v_k Delta g'(lambda_k) x - (eta kappa/D) w_k
        v_k <- v_k - eta_v/D · s Delta g(lambda_k)            - (eta_v kappa_v/D) v_k

    eta = `lr`, kappa = `weight_decay`, eta_v = `second_lr` and kappa_v = `second_weight_decay` (None: as in the first
    layer).  A rate of 0 freezes a layer.  Both updates use the weights before the step.

    >>> OnlineSGD(lr=0.1, weight_decay=0.01).eta_v
    0.1
    >>> OnlineSGD(lr=-1)
    Traceback (most recent call last):
    ...
    ValueError: lr must be finite and >= 0, got -1
    """

    lr: float
    weight_decay: float = 0.0
    second_lr: float | None = None
    second_weight_decay: float | None = None
    label_noise: float = 0.0

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if value is not None or entry.default is not None:
                self._set(**{entry.name: number(entry.name, value)})

    @property
    def diffusion(self) -> bool:
        """Whether the noise of single samples, of second order in eta, drives Q."""
        return True

    @property
    def eta(self) -> float:
        """Learning rate of the first layer."""
        return self.lr

    @property
    def kappa(self) -> float:
        """Weight decay of the first layer."""
        return self.weight_decay

    @property
    def eta_v(self) -> float:
        """Learning rate of the second layer."""
        return self.lr if self.second_lr is None else self.second_lr

    @property
    def kappa_v(self) -> float:
        """Weight decay of the second layer."""
        return self.weight_decay if self.second_weight_decay is None else self.second_weight_decay


@dataclass(frozen=True)
class GradientFlow(OnlineSGD):
    """The limit eta -> 0 of `OnlineSGD` at fixed eta t: gradient descent on the population risk, without its noise.

        dQ/dt, dM/dt, dv/dt to first order in the rates, as they come; times are in units of D/`lr` steps of SGD

    One unit of time is one unit of eta t if lr = 1, the default; `second_lr` is then the ratio eta_v/eta.  Label noise
    has no effect at first order, and there is no such argument.

    >>> OnlineSGD(lr=0.1).diffusion, GradientFlow().diffusion, GradientFlow(second_lr=0.0).eta_v
    (True, False, 0.0)
    """

    lr: float = 1.0
    label_noise: float = field(default=0.0, init=False)

    @property
    def diffusion(self) -> bool:
        """False: the averages over one and two fields are all that is needed, for any number of neurons."""
        return False


@dataclass(frozen=True, eq=False)
class OrderParameters(Record):
    """The state of a two-layer network as the dynamics sees it: M_ak = w_k·mu_a/D, Q_kl = w_k·w_l/D and v_k.

    `M` (C, K), `Q` (K, K) symmetric and positive semi-definite up to rounding (stored exactly symmetric), `v` (K,).
    Weights with these overlaps exist only if Q is large enough for M: `check(mixture)`.

    >>> state = OrderParameters(M=[[0.5], [-0.5]], Q=[[0.25]], v=[1.0])     # a weight along the mean: w/sqrt(D) = e1/2
    >>> state.check(Mixture.two_clusters(1.0))
    >>> OrderParameters(M=[[0.5], [-0.5]], Q=[[0.2]], v=[1.0]).check(Mixture.two_clusters(1.0))
    Traceback (most recent call last):
    ...
    ValueError: Q is too small for M: Q - A^T A has the eigenvalue -0.05, A the projections on the span of the means
    """

    M: Array
    Q: Array
    v: Array

    def __post_init__(self) -> None:
        self._store(self.M, self.Q, self.v)
        scale = np.abs(self.Q).max()
        if (asymmetry := np.abs(self.Q - self.Q.T).max()) > _ROUNDING * scale:
            raise ValueError(f"Q must be symmetric, got |Q - Q^T| up to {asymmetry:.6g}")
        Q = (self.Q + self.Q.T) / 2
        if (smallest := np.linalg.eigvalsh(Q)[0]) < -_ROUNDING * scale:
            raise ValueError(f"Q must be positive semi-definite, got the eigenvalue {smallest:.6g}")
        Q.flags.writeable = False
        self._set(Q=Q)

    def _store(self, M: npt.ArrayLike, Q: npt.ArrayLike, v: npt.ArrayLike) -> None:
        M = finite_array("M", M, (None, None))
        K = M.shape[1]
        self._set(M=M, Q=finite_array("Q", Q, (K, K)), v=finite_array("v", v, (K,)))

    @classmethod
    def derivative(cls, M: npt.ArrayLike, Q: npt.ArrayLike, v: npt.ArrayLike) -> OrderParameters:
        """The same record for time derivatives dM/dt, dQ/dt, dv/dt, which need not be positive semi-definite.

        >>> OrderParameters.derivative(M=[[1.0]], Q=[[-2.0]], v=[0.0]).Q
        array([[-2.]])
        """
        record: OrderParameters = object.__new__(cls)
        record._store(M, Q, v)
        return record

    @property
    def K(self) -> int:
        """Number of neurons."""
        return self.v.shape[0]

    def projections(self, mixture: Mixture, D: float | None = None) -> Array:
        """A (p, K), A_bk = w_k·e_b/sqrt(D): the weights on the basis of the means, M = means A; of least norm.

        D is needed only where the length of the means depends on it (scaling other than 0).  ValueError if no A gives
        this M, or if the joint Gram matrix of weights and means is not positive semi-definite: Q - A^T A >= 0.
        """
        means = mixture.references if D is None else mixture.references_at(D)
        if D is None and (mixture.exponents != 0).any():
            raise ValueError(f"D must be given where the means depend on it, scaling={mixture.scaling!r}")
        if len(self.M) != len(means):
            rows = "per cluster" if mixture.teacher is None else "per cluster and teacher neuron"
            raise ValueError(f"M must have one row {rows}, {len(means)}, got shape {self.M.shape}")
        A = np.linalg.lstsq(means, self.M, rcond=None)[0]
        if (gap := np.abs(means @ A - self.M).max()) > _ROUNDING * np.abs(self.M).max():
            raise ValueError(f"M is not consistent with the linear relations between the means: off by {gap:.6g}")
        smallest = np.linalg.eigvalsh(self.Q - A.T @ A)[0]
        if smallest < -_ROUNDING * max(np.abs(self.Q).max(), np.abs(A).max() ** 2):
            raise ValueError(
                f"Q is too small for M: Q - A^T A has the eigenvalue {smallest:.6g}, "
                "A the projections on the span of the means"
            )
        return np.asarray(A, dtype=np.float64)

    def check(self, mixture: Mixture, D: float | None = None) -> None:
        """ValueError unless real weight vectors with these overlaps exist for this mixture (see `projections`)."""
        self.projections(mixture, D)


@dataclass(frozen=True, eq=False)
class Densities(Record):
    """The state where the inputs have a spectrum: the parts of the overlaps that lie along each of its nodes.

    `A` (U, p, K): A_ubk = e_b·Pi_u w_k/sqrt(D) for the basis e_b of the means; `Q` (U, K, K): w_k·Pi_u w_l/D, positive
    semi-definite in each node; `v` (K,).  Their sums over u are the overlaps A and Q; the local fields of cluster a
    have the covariance sigma_a^2 sum_u rho_au Q_u.
    """

    A: Array
    Q: Array
    v: Array

    def __post_init__(self) -> None:
        self._store(self.A, self.Q, self.v)
        scale = np.abs(self.Q).max()
        if (asymmetry := np.abs(self.Q - self.Q.swapaxes(1, 2)).max()) > _ROUNDING * scale:
            raise ValueError(f"Q must be symmetric in each node, got |Q - Q^T| up to {asymmetry:.6g}")
        if (smallest := np.linalg.eigvalsh(self.Q).min()) < -_ROUNDING * scale:
            raise ValueError(f"Q must be positive semi-definite in each node, got the eigenvalue {smallest:.6g}")

    def _store(self, A: npt.ArrayLike, Q: npt.ArrayLike, v: npt.ArrayLike) -> None:
        readout = finite_array("v", v, (None,))
        K = len(readout)
        weights = finite_array("A", A, (None, None, K))
        self._set(A=weights, Q=finite_array("Q", Q, (len(weights), K, K)), v=readout)

    @classmethod
    def derivative(cls, A: npt.ArrayLike, Q: npt.ArrayLike, v: npt.ArrayLike) -> Densities:
        """The same record for time derivatives, which need not be positive semi-definite."""
        record: Densities = object.__new__(cls)
        record._store(A, Q, v)
        return record

    @classmethod
    def spread(cls, mixture: Mixture, state: OrderParameters) -> Densities:
        """The densities of weights that point anywhere but for their overlaps with the means, for D -> infinity.

            A_u = G_u A,   Q_u = A^T G_u A + s_u (Q - A^T A)

        >>> state = OrderParameters(M=[[0.5], [-0.5]], Q=[[1.0]], v=[1.0])
        >>> mixture = Mixture([[1.0], [-1.0]], [1, -1], spectrum=Spectrum.two_level(0.5, 2.0, fraction=0.25))
        >>> Densities.spread(mixture, state).Q.ravel()
        array([0.75, 0.25])
        """
        A, G = state.projections(mixture), mixture.alignment
        aligned = G @ A
        residual = mixture.shares[:, None, None] * (state.Q - A.T @ A)
        return cls(aligned, A.T @ aligned + residual, state.v)

    @property
    def K(self) -> int:
        """Number of neurons."""
        return self.v.shape[0]

    def overlaps(self, mixture: Mixture) -> OrderParameters:
        """M, Q and v: the sums over the nodes."""
        return OrderParameters(mixture.references @ self.A.sum(axis=0), self.Q.sum(axis=0), self.v)

    def check(self, mixture: Mixture) -> None:
        """ValueError unless the state fits the mixture: A of its nodes and coordinates, Q_u large enough for A_u."""
        G = mixture.alignment
        if self.A.shape[:2] != G.shape[:2]:
            raise ValueError(f"A must have shape (nodes, p, K) = {(*G.shape[:2], self.K)}, got {self.A.shape}")
        rest = self.Q - self.A.swapaxes(1, 2) @ np.linalg.pinv(G, rcond=1e-10, hermitian=True) @ self.A
        if (smallest := np.linalg.eigvalsh(rest).min()) < -_ROUNDING * np.abs(self.Q).max():
            raise ValueError(f"Q is too small for A: Q_u - A_u^T G_u^+ A_u has the eigenvalue {smallest:.6g}")
