"""The power-law problem: a linear target of inputs with a power-law spectrum, learned from random features by SGD.

    y = sum_j beta_j x_j + noise,  j = 1..D,  x_j ~ N(0, lambda_j),  lambda_j = j^(-2a),  beta_j = j^(-b)
    phi(x) = theta·F x,  F (P, D) normal of variance 1/P,   theta <- theta - (lr/B) sum_samples (phi - y) F x

a is the capacity exponent and b the source exponent in the letters of Paquette, Paquette, Xiao and Pennington (2024),
alpha and beta there; in those of Caponnetto and De Vito (2007) and of Bordelon, Atanasov and Pehlevan (2024) the
eigenvalues fall as j^-alpha with alpha = 2a, and lambda_j beta_j^2 as j^-(2a + 2b).

Given F, with F Lambda F^T = U diag(k) U^T, the student sees P inputs U^T F x of variances k_u, labels of the linear
teacher theta*_u = (U^T F Lambda beta)_u/k_u, and the rest of y, which is independent of F x, as noise.  In the units of
the package D = P, the features have the eigenvalues rho_u = P k_u, and w = sqrt(P) theta, t = steps/P.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from quenched.numerics.problem.checks import Record, integer, number, record
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import Teacher, TwoLayer
from quenched.numerics.problem.rules import OnlineSGD
from quenched.numerics.problem.spectrum import Spectrum
from quenched.numerics.problem.state import Densities

__all__ = ["MOST_FEATURES", "PowerLaw", "PowerLawProblem", "power_law_problem"]

Array = npt.NDArray[np.float64]

MOST_FEATURES = 10**100
"""Features, and inputs: their number is one of a sum, which takes 14 nodes a decade."""
_LARGEST = 2**27  # entries of F: 1 GB
_EXACT = 64  # inputs that are summed one by one; the others in blocks
_BLOCK, _ORDER = 1.5, 6  # ratio of the ends of a block, Gauss nodes in it: sums of j^-p to 1e-12


@dataclass(frozen=True, eq=False, repr=False)
class PowerLaw(Record):
    """Eigenvalues j^(-2 `a`), target j^(-`b`), D = `inputs`, P = `features` of them (None: the inputs themselves).

    `rate` = lr tr Lambda/(2 batch) < 1: the learning rate in units of the largest at which the risk stays finite, so
    that lr = 2 batch rate/sum_j j^(-2a) for any D.  `label_noise`: standard deviation of the noise on y, in addition
    to what the features cannot represent.

    ValueError: a <= 0, b < 0, more features than inputs, a rate that is not below 1.

    >>> law = PowerLaw(a=1.0, b=0.5, inputs=10**6, features=100)
    >>> round(law.trace, 5), round(math.pi**2 / 6, 5)
    (1.64493, 1.64493)
    """

    a: float
    b: float
    inputs: int
    features: int | None = None
    rate: float = 0.25
    batch: int = 1
    label_noise: float = 0.0

    def __post_init__(self) -> None:
        D = integer("inputs", self.inputs, at_least=2, at_most=MOST_FEATURES)
        P = None if self.features is None else integer("features", self.features, at_least=1, at_most=MOST_FEATURES)
        if P is not None and P > D:
            raise ValueError(f"features must be at most inputs = {D}, got {P}")
        rate = number("rate", self.rate, positive=True)
        if rate >= 1:
            raise ValueError(f"rate must be below 1, where the risk diverges, got {self.rate!r}")
        self._set(a=number("a", self.a, positive=True, at_most=20.0), b=number("b", self.b, at_most=20.0))
        self._set(inputs=D, features=P, rate=rate, batch=integer("batch", self.batch, at_least=1))
        self._set(label_noise=number("label_noise", self.label_noise))

    @property
    def parameters(self) -> int:
        """The number of weights that learn: P, or D where the student sees the inputs."""
        return self.inputs if self.features is None else self.features

    @property
    def trace(self) -> float:
        """sum_j lambda_j."""
        j, weights = self.nodes()
        return float(weights @ j ** (-2 * self.a))

    @property
    def source(self) -> float:
        """sum_j beta_j^2."""
        j, weights = self.nodes()
        return float(weights @ j ** (-2 * self.b))

    @property
    def lr(self) -> float:
        """The learning rate of a step."""
        return 2 * self.batch * self.rate / self.trace

    @property
    def gain(self) -> float:
        """1/(1 - rate): by how much the noise of SGD raises the risk at late times."""
        return 1 / (1 - self.rate)

    def nodes(self) -> tuple[Array, Array]:
        """Indices j and weights: sums over j of smooth functions are sums over these, a few hundred at any D.

        Beyond the first 64, integers are grouped in blocks [m, 1.5 m), each with the Gauss nodes of its integers.

        >>> j, weights = PowerLaw(1.0, 0.5, inputs=10**6).nodes()
        >>> len(j), abs(float(weights @ j**-2.0) - float(np.sum(np.arange(1, 10**6 + 1.0) ** -2))) < 1e-12
        (208, True)
        """
        first = min(self.inputs, _EXACT)
        points, weights = [np.arange(1, first + 1.0)], [np.ones(first)]
        start = first + 1
        while start <= self.inputs:
            stop = min(max(start + 1, int(_BLOCK * start)), self.inputs + 1)
            x, w = _gauss_of_integers(stop - start)
            points.append(float(start) + x)
            weights.append(w)
            start = stop
        return np.concatenate(points), np.concatenate(weights)


def _gauss_of_integers(number: int) -> tuple[Array, Array]:
    """Nodes and weights of sums over 0..number - 1, exact to degree 11: Gram's polynomials, by Golub and Welsch."""
    order, n = min(number, _ORDER), float(number)
    k = np.arange(1.0, order)
    from scipy.linalg import eigh_tridiagonal

    off = k / 2 * np.sqrt((n**2 - k**2) / (4 * k**2 - 1))
    values, vectors = eigh_tridiagonal(np.full(order, (n - 1) / 2), off)
    return np.asarray(values), np.asarray(n * vectors[0] ** 2)


class PowerLawProblem(NamedTuple):
    """What `integrate`, `simulate`, `compare` and `linear_mean` take, in the order that they take it."""

    mixture: Mixture
    network: TwoLayer
    rule: OnlineSGD
    state: Densities


def power_law_problem(law: PowerLaw, seed: int = 0) -> PowerLawProblem:
    """The problem at features drawn from `seed`: records of the package, D of which is P, from theta = 0.

    The spectrum has a node for each feature, the rule a frozen readout of 1 and as label noise what the features cannot
    represent: the risk E[(phi - y)^2] is 2 pmse + rule.label_noise**2.  In dimension D = m P each eigenvalue stands for
    m directions, and the equations hold as m grows; at m = 1 up to lr k_1, what a step does to the first direction.

    ValueError: P D > 2^27.

    >>> mixture, network, rule, state = power_law_problem(PowerLaw(1.0, 0.5, inputs=40, features=40))
    >>> mixture.spectrum.nodes, rule.label_noise  # as many features as inputs represent any target
    (40, 0.0)
    """
    record("law", law, PowerLaw)
    rng = np.random.default_rng(integer("seed", seed))
    j = np.arange(1, law.inputs + 1.0)
    y = j ** (-law.a - law.b)  # sqrt(lambda_j) beta_j
    P = law.parameters
    if law.features is None:
        k, teacher, rest = j ** (-2 * law.a), j ** (-2 * law.b), 0.0
    else:
        from scipy.linalg import svd

        if P * law.inputs > _LARGEST:
            raise ValueError(f"features times inputs must be at most 2^27 for a matrix, got {P} and {law.inputs}")
        F = rng.standard_normal((P, law.inputs)) / math.sqrt(P)
        _, scales, directions = svd(F * j**-law.a, full_matrices=False)
        along = directions @ y
        k, teacher = scales**2, (along / scales) ** 2
        rest = float(np.sum((y - along @ directions) ** 2)) if law.inputs > P else 0.0
    norm = float(teacher.sum())
    spectrum = Spectrum(P * k, alignment=(teacher / norm)[:, None, None])
    linear = Teacher(np.array([[math.sqrt(norm / P)]]), np.ones(1), "linear")
    noise = math.hypot(law.label_noise, math.sqrt(rest))
    return PowerLawProblem(
        Mixture(np.zeros((1, 1)), spectrum=spectrum, teacher=linear),
        TwoLayer(1, "linear"),
        OnlineSGD(law.lr, label_noise=noise, batch=law.batch, frozen=("v",)),
        Densities(np.zeros((P, 1, 1)), np.zeros((P, 1, 1)), np.ones(1)),
    )
