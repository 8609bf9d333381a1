"""Convex learners on random features and on kernels, from n = alpha D samples of a mixture with means of order 1.

    min_(w, b)  sum_i l(w.(z_i - E z)/sqrt(P) + b, y_i) + (ridge/2)|w|^2,     z_k = psi(f_k.x/sqrt(D)),  P = gamma D

    min_(f, b)  sum_i l(f(x_i) + b, y_i) + (ridge/2)|f|^2,                    f in the space of a kernel, of norm |f|

Features and kernels act as k_1 times the input plus noise of variance k_*^2 (Gaussian equivalence, derived in
symbolic/learners/random_features_erm.py), so that both are saddle points of `quenched.numerics.saddle.empirical_risk`
with weights of their own; a kernel is the limit gamma -> infinity of its features.  For the square loss it is kernel
ridge regression with this ridge.

Labels may come from a teacher.  With n, P and D of one order its linear part is learned, and for the square loss the
rest is noise (symbolic/learners/erm_teachers.py); orders beyond the first take n of order D^2, and are out of scope.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from quenched.numerics.averages.losses import check_minimised, convex_loss
from quenched.numerics.erm import ErmOptions, check_mixture, check_separable, separability_threshold
from quenched.numerics.lazy.hermite import hermite_orders
from quenched.numerics.lazy.kernels import kernel_functions, kernel_names, local_kernel
from quenched.numerics.problem.checks import expression_text, flag, number, record
from quenched.numerics.problem.learner import Learner, Solution, option
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.saddle.empirical_risk import Equations, ErmError, minimiser
from quenched.numerics.saddle.labels import Labels, labels_of
from quenched.symbolic.language.grammar import LOSS
from quenched.theory import kernel_ridge, random_features_erm

__all__ = [
    "LEARNERS",
    "FeatureWeights",
    "KernelErmOptions",
    "RandomFeaturesErmOptions",
    "kernel_erm_error",
    "random_features_erm_curve",
    "random_features_erm_error",
]

Array = npt.NDArray[np.float64]

theory: Any = random_features_erm  # ufunc expressions: they take arrays where their signature says float

_ROUNDING = 1e-12  # relative: a difference of two numbers below this fraction of them is rounding error and counts as 0


@dataclass(frozen=True)
class FeatureWeights:
    """Weights on features k_1 (input)/sigma + k_* noise: linear = k_1^2, higher = k_*^2, ratio = D/P."""

    ridge: float
    linear: float
    higher: float
    ratio: float
    sigma: float

    @property
    def noise_per_sample(self) -> None:
        """None: V of the square loss has no closed form here, and is solved for."""
        return None

    @property
    def _all(self) -> tuple[float, float, float, float]:
        return self.ridge, self.linear, self.higher, self.ratio

    def at_ridge(self, ridge: float) -> FeatureWeights:
        """The same with another ridge."""
        return replace(self, ridge=ridge)

    def _resolvent(self, Vh: float) -> float:
        with np.errstate(divide="ignore", invalid="ignore"):  # of the form that is not taken
            return float(theory.resolvent(np.float64(Vh), self._all))

    def gain(self, Vh: float, p: int) -> Array:
        """K (p, p) = K_11 1: v = K h."""
        return np.eye(p) * theory.overlaps(Vh, 0.0, self.sigma, self._resolvent(Vh), self._all, 1.0, 0.0)[2]

    def overlaps(self, h: Array, qh: float, Vh: float) -> tuple[float, float, Array]:
        """V, q and v (p,)."""
        V, q, v = theory.overlaps(Vh, qh, self.sigma, self._resolvent(Vh), self._all, h, float(h @ h))
        return float(V), float(q), np.asarray(v)

    def energy(self, h: Array, qh: float, Vh: float) -> float:
        """The term of the weights in E/D."""
        return float(theory.weight_energy(Vh, qh, self.sigma, self._resolvent(Vh), self._all, float(h @ h)))

    def separability(self, mixture: Mixture, intercept: bool) -> float:
        """alpha*, below which the features can separate the labels; infinite for a kernel.

        Of features with orders beyond the first, or fewer than inputs: others have no readout at ridge 0.
        """
        if self.ratio == 0:
            return math.inf
        with np.errstate(divide="ignore", invalid="ignore"):
            share = float(theory.separable_share(np.float64(self.linear), self.higher, self.ratio))
        seen = replace(mixture, means=mixture.means * math.sqrt(share), sigma=self.sigma)
        return separability_threshold(seen, intercept=intercept) / self.ratio


# --- what is asked


def _check_inputs(mixture: Mixture) -> float:
    """sigma of isotropic clusters, means of order 1, with both labels or a teacher; ValueError for other mixtures."""
    if record("mixture", mixture, Mixture).teacher is None:
        mixture.check_isotropic()
    check_mixture(mixture)
    return mixture.isotropic_sigma


def _equations(
    mixture: Mixture, labels: Labels, loss: str, alpha: float, weights: FeatureWeights, intercept: bool, learner: str
) -> Equations:
    """The saddle point of checked arguments; ValueError where there is no minimiser, or no convex loss."""
    rising = convex_loss(loss)
    check_minimised(loss, weights.ridge, intercept)
    if weights.ridge == 0:
        if weights.higher == 0 and weights.ratio <= 1:
            raise ValueError(f"ridge must be > 0 for {learner} without orders beyond the first, got 0")
        if rising and alpha * weights.ratio <= 1:
            raise ValueError(f"ridge must be > 0 for {learner} where n <= P fits every sample, got 0")
        check_separable(mixture, loss, rising)
        if not rising and alpha <= (threshold := weights.separability(mixture, intercept)):
            raise ValueError(
                f"ridge must be > 0 below the separability threshold of {learner}, alpha* = {threshold:.6g}, where "
                f"{loss!r} has no minimiser, got 0 at alpha = {alpha:g}"
            )
    return Equations(mixture, labels, loss, alpha, weights, intercept)


def random_features_erm_error(
    mixture: Mixture,
    activation: str,
    loss: str = "logistic",
    alpha: float = 2.0,
    gamma: float = 2.0,
    ridge: float = 1.0,
    *,
    intercept: bool = True,
    label_noise: float = 0.0,
) -> ErmError:
    """Errors of a convex learner on P = gamma D random features of an activation, n = alpha D samples, D -> infinity.

        min_(w, b)  sum_i l(w.(z_i - E z)/sqrt(P) + b, y_i) + (ridge/2)|w|^2,   z_k = psi(f_k.x/sqrt(D)), |f_k|^2 = D

    `mixture`: isotropic with one sigma and means of order 1 (scaling 0).  `loss`: square, logistic, hinge, or a convex
    expression in phi and y.  Features are centred, as in `random_features_error`, to which this comes at
    alpha -> infinity with ridge = alpha lambda/gamma.  At gamma -> infinity it is `kernel_erm_error`.  Corrections are
    of order 1/D.

    Labels are those of the clusters, or of the mixture's teacher: any teacher with the square loss, the sign of one
    field in each cluster (`sign=True` and one neuron, or linear ones) with another.  Its linear part is learned, for
    the square loss the vector sum_m v_m c_1m w*_m, c_1m = E[g'(nu_m)]; what is beyond is noise, and n of order D^2 out
    of scope.  `label_noise`: with the square loss, the standard deviation of Gaussian noise on the labels of training;
    errors are on labels without it.  A teacher's `field_noise` is in both.

    ValueError: alpha or gamma <= 0, ridge < 0, a loss that is not convex, a ridge of 0 where no minimiser exists (below
    the separability threshold of the features, which the message tells), mixtures outside of this, other losses than
    the square one with label noise or with a teacher whose labels are not signs of one field.
    `SaddlePointError`: no solution was found.

    Test error peaks where the features just fit the samples, at a small ridge:

    >>> two = Mixture.two_clusters(1.0)
    >>> [round(random_features_erm_error(two, "relu", "square", 2.0, g, 1e-4).classification_error, 3)
    ...  for g in (0.5, 2.0, 8.0)]
    [0.355, 0.448, 0.286]

    and so it does where a teacher makes the labels:

    >>> from quenched.numerics import Teacher
    >>> taught = Mixture([[0.0]], teacher=Teacher([[1.0]], [1.0], "erf"))
    >>> [round(random_features_erm_error(taught, "relu", "square", 2.0, g, 1e-4).pmse, 3) for g in (0.5, 2.0, 8.0)]
    [0.153, 0.875, 0.037]
    """
    asked = mixture, activation, loss, [alpha], gamma, ridge
    (found,) = random_features_erm_curve(*asked, intercept=intercept, label_noise=label_noise)
    return found


def random_features_erm_curve(
    mixture: Mixture,
    activation: str,
    loss: str,
    alphas: Sequence[float],
    gamma: float = 2.0,
    ridge: float = 1.0,
    *,
    intercept: bool = True,
    label_noise: float = 0.0,
) -> list[ErmError]:
    """`random_features_erm_error` at each alpha, in their order, each from the solution before it."""
    sigma = _check_inputs(mixture)
    activation, loss = TwoLayer(1, activation).activation, expression_text(loss, LOSS)
    gamma, ridge = number("gamma", gamma, positive=True), number("ridge", ridge)
    with np.errstate(under="ignore"):
        (_, slope), higher, _, _ = hermite_orders(activation, 0.0, sigma, orders=1)
    weights = FeatureWeights(ridge, float(slope**2), float(higher), 1 / gamma, sigma)
    if weights.linear + weights.higher == 0:
        raise ValueError(f"activation must vary, got {activation!r}, whose features are constant")
    asked = {"activation": activation, "loss": loss, "gamma": gamma, "ridge": ridge}
    noise = number("label_noise", label_noise)
    labels = labels_of(mixture, loss, noise)
    asked |= {"label_noise": noise} if noise else {}
    seen = mixture
    if not flag("intercept", intercept):  # centred features: so are the inputs that they see
        seen = replace(mixture, means=mixture.means - mixture.weights @ mixture.means)
    found: list[ErmError] = []
    start: Array | None = None
    for each in alphas:
        alpha = number("alpha", each, positive=True)
        equations = _equations(seen, labels, loss, alpha, weights, bool(intercept), f"{gamma:g} D features")
        problem = {"mixture": mixture, "alpha": alpha, "intercept": bool(intercept), **asked}
        error, start = minimiser(equations, start, problem)
        found.append(error)
    return found


def kernel_erm_error(
    mixture: Mixture,
    kernel: str,
    loss: str = "logistic",
    alpha: float = 2.0,
    ridge: float = 1.0,
    *,
    intercept: bool = True,
) -> ErmError:
    """Errors of a kernel machine with a convex loss on n = alpha D samples of a mixture, D -> infinity.

        min_(f, b)  sum_i l(f(x_i) + b, y_i) + (ridge/2)|f|^2,   f = sum_i c_i F(., x_i),  |f|^2 = c.K c

    `mixture`, `loss`: as in `random_features_erm_error`; `kernel`: see `kernel_functions`.  The square loss gives
    `kernel_error`, the hinge loss a support vector machine of C = 1/ridge.  Where F(x, x') > 0 at orthogonal inputs, f
    has a constant of its own, which a ridge of order 1 does not hold: then `intercept` changes nothing.

    ValueError: as `random_features_erm_error`; ridge = 0, where the kernel fits every sample.

    >>> from quenched.numerics import kernel_error
    >>> two = Mixture.two_clusters(1.0)
    >>> found = kernel_erm_error(two, "rbf", "square", alpha=4.0, ridge=0.5).classification_error
    >>> print(f"{found:.8f} {kernel_error(two, 'rbf', 4.0, 0.5).classification_error:.8f}")
    0.19753621 0.19753621
    """
    sigma = _check_inputs(mixture)
    functions, loss = kernel_functions(kernel), expression_text(loss, LOSS)
    alpha, ridge = number("alpha", alpha, positive=True), number("ridge", ridge)
    at = local_kernel(functions, np.zeros((1, 1)), np.array([sigma]))
    channels: Any = kernel_ridge.channels
    w1, w2, rest = (float(w[0, 0]) for w in channels(at.F, at.Fu, at.Fuu, at.diagonal[:, None], sigma, sigma, 0.0))
    scale = float(np.abs(at.diagonal).max())
    linear, higher = (0.0 if w <= _ROUNDING * scale else w for w in (w1, w2 + rest))
    if linear + higher == 0:
        raise ValueError(f"kernel must vary, got {functions.name!r}, which is constant on these inputs")
    free = bool(flag("intercept", intercept)) or abs(float(at.F[0, 0])) > _ROUNDING * scale
    weights = FeatureWeights(ridge, linear, higher, 0.0, sigma)
    equations = _equations(mixture, labels_of(mixture, loss), loss, alpha, weights, free, f"kernel {functions.name!r}")
    asked = {"kernel": functions.name, "loss": loss, "alpha": alpha, "ridge": ridge, "intercept": bool(intercept)}
    return minimiser(equations, None, {"mixture": mixture, **asked})[0]


# --- as learners


@dataclass(frozen=True)
class RandomFeaturesErmOptions(ErmOptions):
    """The arguments of `random_features_erm_error`."""

    activation: str = option("relu", "Activation of the features: a name or an expression in x.")
    gamma: float = option(2.0, "Random features per dimension, P/D.")
    label_noise: float = option(0.0, "Standard deviation of the noise on training labels.")

    @property
    def caption(self) -> str:
        """Activation, loss, numbers of features and samples."""
        return f"{self.activation}, {self.loss}, P = {self.gamma:g} D, n = {self.alpha:g} D"


@dataclass(frozen=True)
class KernelErmOptions(ErmOptions):
    """The arguments of `kernel_erm_error`."""

    kernel: str = option("arccos1", f"One of {kernel_names()}.")

    @property
    def caption(self) -> str:
        """Kernel, loss and number of samples."""
        return f"{self.kernel}, {self.loss}, n = {self.alpha:g} D"


def _on_features(mixture: Mixture, options: RandomFeaturesErmOptions) -> Solution:
    """`random_features_erm_error` as a solution."""
    asked = options.activation, options.loss, options.alpha, options.gamma, options.ridge
    intercept = not options.without_intercept
    return random_features_erm_error(mixture, *asked, intercept=intercept, label_noise=options.label_noise).solution()


def _of_kernel(mixture: Mixture, options: KernelErmOptions) -> Solution:
    """`kernel_erm_error` as a solution."""
    asked = options.kernel, options.loss, options.alpha, options.ridge
    return kernel_erm_error(mixture, *asked, intercept=not options.without_intercept).solution()


LEARNERS = (
    Learner(
        "random-features-erm",
        _on_features,
        RandomFeaturesErmOptions(),
        "Random features whose readout minimises a convex loss and a ridge on n = alpha D samples.",
    ),
    Learner(
        "kernel-erm", _of_kernel, KernelErmOptions(), "A kernel machine with a convex loss and a ridge, n = alpha D."
    ),
)
