"""The law of the data: a mixture of Gaussians in high dimension, with labels or classes by cluster or by a teacher.

    x | a ~ N(mu_a/sqrt(D), sigma_a^2 I),  label y_a = ±1,  probability P_a       (D: input dimension, C: clusters)

Named mixtures are class methods of `Mixture`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from quenched.numerics.problem.checks import (
    LEFT_OUT,
    Record,
    finite_array,
    integer,
    moderate_array,
    number,
    one_or_each,
    record,
    shown,
)
from quenched.numerics.problem.network import Teacher
from quenched.numerics.problem.spectrum import Spectrum
from quenched.symbolic.language.grammar import CLASS_LOSSES

__all__ = ["Mixture"]

Array = npt.NDArray[np.float64]

_RING = 5000  # pairs of clusters of a ring at most


_ISOTROPIC = Spectrum(np.ones(1))


def _classes(value: npt.ArrayLike, clusters: int, teacher: Teacher | None) -> npt.NDArray[np.int64]:
    """The class of each cluster, (C,): 0, 1, .., every number up to the largest at least once."""
    if teacher is not None:
        raise ValueError(f"classes must be left out where a teacher makes the labels, got {shown(value)}")
    given = finite_array("classes", value, (clusters,))
    found: npt.NDArray[np.int64] = np.rint(given).astype(np.int64)
    if (wrong := given[(found != given) | (given < 0)]).size:
        raise ValueError(f"classes must be integers >= 0, got {wrong[0]}")
    numbers = np.unique(found)
    if len(numbers) < 2 or (numbers != np.arange(len(numbers))).any():
        raise ValueError(f"classes must be two or more, 0, 1, .., each of a cluster, got {shown(found.tolist())}")
    found.flags.writeable = False
    return found


@dataclass(frozen=True, eq=False, repr=False)
class Mixture(Record):
    """A mixture of C Gaussians with binary labels: x | a ~ N(mu_a/sqrt(D), sigma_a^2 I_D), label y_a.

    `means` (C, p): coordinates of mu_a/sqrt(D) in an orthonormal basis of a p-dimensional space that holds all means,
    in the units of a component of x; `labels` (C,): y_a = ±1; `weights` (C,): P_a > 0, equal if None; `sigma`: noise
    per component of x, one number or one per cluster; `scaling`: the mean vector at dimension D is the coordinates
    times D^scaling, one exponent or one per coordinate (0 low, 1/4 crossover, 1/2 high signal-to-noise ratio).

    `spectrum`: covariances sigma_a^2 rho_au on common eigenvectors instead of sigma_a^2 1.  `teacher`: labels made by a
    network of the input, y = y*(x), instead of by the cluster; `labels` are then left out, and its weights have the
    same p coordinates as the means.  `classes` (C,): numbers 0, 1, .. in place of the labels ±1; the network has an
    output for each class, and `labels` are left out.

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
    labels: Array = LEFT_OUT
    weights: Array = LEFT_OUT
    sigma: float | Array = 1.0
    scaling: float | Array = 0.0
    spectrum: Spectrum | None = None
    teacher: Teacher | None = None
    classes: npt.NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        means = moderate_array("means", self.means, (None, None))
        clusters, dimensions = means.shape
        spectrum, teacher = self._parts(clusters, dimensions)
        classes = None if self.classes is None else _classes(self.classes, clusters, teacher)
        if teacher is None and classes is None:
            labels = finite_array("labels", self.labels, (clusters,))
            if (wrong := labels[np.abs(labels) != 1]).size:
                raise ValueError(f"labels must be +1 or -1, got {wrong[0]}")
        elif self.labels is None or not finite_array("labels", self.labels, (clusters,)).any():
            labels = finite_array("labels", np.zeros(clusters), (clusters,))
        else:
            instead = "a teacher makes them" if classes is None else "clusters have classes"
            raise ValueError(f"labels must be left out where {instead}, got {shown(self.labels)}")
        given = np.full(clusters, 1 / clusters) if self.weights is None else self.weights
        weights = finite_array("weights", given, (clusters,))
        if (wrong := weights[weights <= 0]).size:
            raise ValueError(f"weights must be > 0, got {wrong[0]}")
        if abs(weights.sum() - 1) > 1e-12 * clusters:
            raise ValueError(f"weights must sum to 1, got a sum of {weights.sum()!s}")
        sigma = one_or_each("sigma", self.sigma, clusters, positive=True)
        scaling = one_or_each("scaling", self.scaling, dimensions)
        self._set(means=means, labels=labels, weights=weights, sigma=sigma, scaling=scaling)
        self._set(spectrum=spectrum, teacher=teacher, classes=classes)

    def _parts(self, clusters: int, dimensions: int) -> tuple[Spectrum | None, Teacher | None]:
        """Spectrum and teacher, rebuilt if they came as dictionaries."""
        spectrum = Spectrum.from_dict(self.spectrum, "spectrum") if isinstance(self.spectrum, dict) else self.spectrum
        teacher = Teacher.from_dict(self.teacher, "teacher") if isinstance(self.teacher, dict) else self.teacher
        if spectrum is not None:
            record("spectrum", spectrum, Spectrum)
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
            record("teacher", teacher, Teacher)
            if teacher.weights.shape[1] != dimensions:
                have = teacher.weights.shape[1]
                raise ValueError(f"teacher must have weights of {dimensions} coordinates like the means, got {have}")
            if teacher.v.ndim == 2 and len(teacher.v) != clusters:
                raise ValueError(f"teacher must have a readout for each of {clusters} clusters, got {len(teacher.v)}")
        return spectrum, teacher

    def _shown(self) -> dict[str, Any]:
        """Equal weights and the labels that a teacher or classes replace go without saying."""
        found = super()._shown()
        if np.ptp(self.weights) == 0:
            del found["weights"]
        if self.teacher is not None or self.classes is not None:
            del found["labels"]
        return found

    def _repr_latex_(self) -> str:
        """The law of the inputs and of the labels, for notebooks."""
        covariance = r"\sigma_a^2 \mathbf 1" if self.spectrum is None else r"\sigma_a^2 \sum_u \rho_{au} \Pi_u"
        label = "y_a" if self.teacher is None else self.teacher.latex
        label = label if self.classes is None else rf"c_a \in \{{0 \ldots {self.outputs - 1}\}}"
        levels = ",\\ ".join(f"{s:.4g}" for s in np.unique(self.sigmas))
        return (
            rf"$x \mid a \sim \mathcal N\!\left(\mu_a/\sqrt D,\ {covariance}\right),\quad y = {label},\quad "
            rf"a = 1\ldots{self.clusters},\quad \sigma = {levels}$"
        )

    def check_signs(self, reason: str = "") -> None:
        """ValueError, with the reason, where clusters have classes: what knows the labels ±1 alone."""
        if self.classes is not None:
            raise ValueError(
                f"mixture must have labels +1 or -1 here, got classes={self.classes.tolist()}{reason}: classes are "
                "learned by a two-layer network with loss='cross-entropy', in integrate, drift, errors and simulate"
            )

    def check_charged(self, loss: str) -> None:
        """ValueError unless the loss has as many outputs as the problem."""
        if self.classes is None and loss in CLASS_LOSSES:
            raise ValueError(f"mixture must have classes for loss={loss!r}, which has an output for each, got labels")
        if self.classes is not None and loss not in CLASS_LOSSES:
            known = " or ".join(map(repr, CLASS_LOSSES))
            raise ValueError(
                f"loss must be {known} where clusters have classes, got {loss!r}, which is charged by a label +1 or -1"
            )

    def check_labelled(self) -> None:
        """ValueError unless clusters have their labels ±1 and the means are of order 1."""
        self.check_signs()
        if self.teacher is not None:
            raise ValueError("mixture must have labels by cluster, got a teacher")
        if (self.exponents != 0).any():
            raise ValueError(
                f"mixture must have means of order 1 (scaling 0), got scaling={self.scaling!r}: for one D take "
                "mixture.finite(D)"
            )

    def check_isotropic(self, reason: str = "") -> None:
        """ValueError, with the reason, unless clusters are isotropic and have their labels ±1."""
        self.check_signs()
        if self.spectrum is not None or self.teacher is not None:
            raise ValueError(
                f"mixture must be isotropic with a label for each cluster, got spectrum={self.spectrum!r}, "
                f"teacher={self.teacher!r}{reason}"
            )

    @property
    def clusters(self) -> int:
        """C, the number of clusters."""
        return self.means.shape[0]

    @property
    def dimensions(self) -> int:
        """p, the number of coordinates of the means."""
        return self.means.shape[1]

    @property
    def outputs(self) -> int:
        """The number of outputs that a network needs: one for each class, one for labels ±1 or a teacher's."""
        return 1 if self.classes is None else int(self.classes.max()) + 1

    @property
    def one_hot(self) -> Array:
        """y_ac (C, outputs): 1 where c is the class of cluster a, else 0.

        >>> Mixture.three_classes(0.5).one_hot[1].tolist()
        [0.0, 1.0, 0.0]
        """
        return np.eye(self.outputs)[np.zeros(self.clusters, np.int64) if self.classes is None else self.classes]

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
    def default_dimension(self) -> int:
        """D where none is named: as many as a spectrum has nodes, else 1000."""
        return 1000 if self.spectrum is None else self.spectrum.nodes

    @property
    def law(self) -> Spectrum:
        """The spectrum of the inputs: a single node of eigenvalue 1 if they are isotropic."""
        return self.spectrum or _ISOTROPIC

    @property
    def taught(self) -> Teacher:
        """The teacher: one of no neurons if clusters have their labels."""
        return self.teacher or Teacher.absent(self.dimensions)

    @property
    def eigenvalues(self) -> Array:
        """Variances sigma_a^2 rho_au of each cluster along the directions of each node, (C, U); U = 1 if isotropic."""
        return np.asarray(self.sigmas[:, None] ** 2 * self.law.eigenvalues)

    @property
    def shares(self) -> Array:
        """The share s_u of all directions that each node has, (U,)."""
        return self.law.weights

    @property
    def alignment(self) -> Array:
        """G (U, p, p), how the coordinates of the means are spread over the nodes: `Spectrum`."""
        return self.law.aligned(self.dimensions)

    @property
    def references(self) -> Array:
        """The vectors whose overlaps with the weights are the rows of M: the means, then the teacher's weights."""
        return np.concatenate([self.means, self.taught.weights])

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
        return np.concatenate([self.at(D), self.taught.weights])

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
    def three_classes(cls, sigma: float, separation: float = 1.0, scaling: float | npt.ArrayLike = 0.0) -> Mixture:
        """Classes 0, 1, 2 at the corners of a triangle, the angles 0, 120 and 240 degrees, times `separation`."""
        from scipy.special import cosdg, sindg

        angles = 120.0 * np.arange(3)
        means = np.stack([cosdg(angles), sindg(angles)], axis=1) + 0.0  # -0 -> 0
        return cls._named(means, None, sigma, separation, scaling, classes=np.arange(3))

    @classmethod
    def ring(cls, m: int, sigma: float, separation: float = 1.0, scaling: float | npt.ArrayLike = 0.0) -> Mixture:
        """2m clusters at the angles pi j/m, j = 0..2m-1, with labels -(-1)^j, times `separation`: XOR is m = 2.

        >>> Mixture.ring(2, 0.5).means[:2]
        array([[1., 0.],
               [0., 1.]])
        """
        from scipy.special import cosdg, sindg  # in degrees: exact zeros at the quarter turns

        j = np.arange(2 * integer("m", m, at_least=1, at_most=_RING))
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
        return cls._named(signs * [m1, m2], signs.prod(axis=1), sigma, 1.0, scaling)

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
        identity.  Source: `quenched.numerics.problem.from_data`.

        >>> Mixture.from_data([[2.0, 1.0], [2.0, -1.0], [-2.0, 1.0], [-2.0, -1.0]], [0, 0, 1, 1], [1, 1, -1, -1]).sigma
        1.0
        """
        from quenched.numerics.problem.from_data import estimate

        options: dict[str, Any] = {"covariance": covariance, "shrinkage": shrinkage, "project": project}
        return cls(**estimate(X, cluster, label, **options, centre=centre).arguments)

    @classmethod
    def _named(
        cls,
        means: Array,
        labels: npt.ArrayLike | None,
        sigma: float,
        separation: float,
        scaling: float | npt.ArrayLike,
        weights: npt.ArrayLike | None = None,
        classes: npt.NDArray[np.int64] | None = None,
    ) -> Mixture:
        length = number("separation", separation, positive=True)
        given: dict[str, Any] = {"labels": labels, "weights": weights, "sigma": sigma, "scaling": scaling}
        given["classes"] = classes
        return cls(means * length, **given)
