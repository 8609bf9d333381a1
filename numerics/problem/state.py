"""States: the order parameters that a learning network is described by, and their densities over a spectrum.

M_ak = w_k·mu_a/D,  Q_kl = w_k·w_l/D,  so that the fields lambda given a are N(M_a, sigma_a^2 Q)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar, cast

import numpy as np
import numpy.typing as npt

from quenched.numerics.problem.checks import Record, finite_array, real, real_array, record
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer

__all__ = [
    "Densities",
    "OrderParameters",
    "Velocity",
    "check_fit",
    "matrices",
    "nearest_overlaps",
    "split",
    "with_biases",
    "with_velocity",
    "without_spectrum",
]

Array = npt.NDArray[np.float64]

S = TypeVar("S", bound="OrderParameters | Densities")

# Order parameters are products of floating-point sums, or solutions of an ODE with a relative error near 1e-8:
# semidefiniteness and consistency are asked for up to this fraction of the largest entry.
_ROUNDING = math.sqrt(np.finfo(np.float64).eps)
_LETTERS = ("M", "A", "Q", "v", "b", "c")
_ENTRIES = 36  # numbers of an array that a notebook shows


def nearest_overlaps(A: Array, Q: Array) -> Array:
    """Q with the negative eigenvalues of Q - A^T A set to 0: the nearest overlaps that weights with projections A have.

    A solver knows Q up to an absolute error, which takes Q out of the cone where weights have decayed below it.

    >>> nearest_overlaps(np.zeros((1, 2)), np.diag([1.0, -1e-9])).tolist()
    [[1.0, 0.0], [0.0, 0.0]]
    """
    values, vectors = np.linalg.eigh(Q - A.T @ A)
    return Q if values[0] >= 0 else A.T @ A + (vectors * np.maximum(values, 0)) @ vectors.T


def _readout(v: npt.ArrayLike, K: int | None) -> Array:
    """(K,) of one output, or (c, K) of several."""
    return finite_array("v", v, (None, K) if real_array("v", v).ndim == 2 else (K,))


def check_fit(mixture: Mixture, network: TwoLayer, state: OrderParameters | Densities) -> None:
    """ValueError unless the state has the neurons of the network, and an output for each class of the mixture."""
    if state.K != network.K:
        raise ValueError(f"state must have K = {network.K} neurons like the network, got {state.K}")
    expected = (network.K,) if mixture.classes is None else (mixture.outputs, network.K)
    if state.v.shape != expected:
        outputs = "one output" if mixture.classes is None else f"an output for each of {mixture.outputs} classes"
        raise ValueError(f"state must have v of shape {expected}, {outputs}, got {state.v.shape}")


def split(parameters: Array, K: int) -> tuple[Array, Array | None, float | None]:
    """v, b and c of the vector `parameters` of a state of K neurons; several outputs have v (c, K) alone.

    >>> split(np.array([1.0, 2.0, 0.1, 0.2, 0.3]), 2)
    (array([1., 2.]), array([0.1, 0.2]), 0.3)
    """
    if parameters.ndim == 2 or len(parameters) == K:
        return parameters, None, None
    return parameters[:K], parameters[K:-1], float(parameters[-1])


def matrices(arrays: Mapping[str, Array]) -> str:
    """Arrays as LaTeX for notebooks, letter = matrix to four digits; one of many numbers by its shape."""
    found = []
    for letter, array in arrays.items():
        if array.size > _ENTRIES:
            shape = r" \times ".join(map(str, array.shape))
            found.append(rf"{letter} \in \mathbb R^{{{shape}}}")
            continue
        for index in np.ndindex(array.shape[:-2]):
            rows = r" \\ ".join(" & ".join(f"{x:.4g}" for x in row) for row in np.atleast_2d(array[index]))
            node = "".join(f"_{{{u}}}" for u in index)
            found.append(rf"{letter}{node} = \begin{{pmatrix}} {rows} \end{{pmatrix}}")
    return "$" + r",\quad ".join(found) + "$"


@dataclass(frozen=True, eq=False, repr=False)
class Velocity(Record):
    """The velocities p_k of a network that learns with momentum, w_k <- w_k + p_k/D in a step, by their overlaps.

    `M`: p_k·mu_a/D as the M of the state, (C, K), or p_k·Pi_u e_b/sqrt(D) as its A, (U, p, K); `C` w_k·p_l/D and `U`
    p_k·p_l/D, as Q, (K, K) or in each node (U, K, K); `v`: the velocities of the readout, as v, or where the state has
    biases of v, b and c one after the other, (2K + 1,).

    >>> moving = Velocity(M=[[0.5]], C=[[0.5]], U=[[0.3]], v=[0.0])
    >>> OrderParameters(M=[[1.0]], Q=[[1.0]], v=[1.0], velocity=moving).check(Mixture([[1.0]], [1], sigma=1.0))
    """

    M: Array
    C: Array
    U: Array
    v: Array

    def __post_init__(self) -> None:
        nodes = (None,) * (real_array("M", self.M).ndim == 3)
        for name in ("M", "C", "U"):
            self._set(**{name: finite_array(name, getattr(self, name), (*nodes, None, None))})
        self._set(v=_readout(self.v, None))


class _Learner(Record):
    """What states have beside the overlaps: the readout v, and where there are biases thresholds b and intercept c.

    Those of networks that learn with momentum have a velocity.
    """

    v: Array
    b: Array | None
    c: float | None
    velocity: Velocity | None

    @property
    def _overlaps(self) -> tuple[Array, Array]:
        """M, or A, and Q."""
        raise NotImplementedError

    @property
    def vectors(self) -> tuple[Array, Array, Array]:
        """M (or A) and Q of w_1..w_K, p_1..p_K together, and both `parameters` and their velocities, (2, ..).

        Without velocities: M (or A), Q and `parameters`.
        """
        (first, Q), moving = self._overlaps, self.velocity
        if moving is None:
            return first, Q, self.parameters
        whole = np.block([[Q, moving.C], [moving.C.swapaxes(-1, -2), moving.U]])
        return np.concatenate([first, moving.M], axis=-1), whole, np.stack([self.parameters, moving.v])

    @property
    def both(self) -> Self:
        """Weights and velocities as the weights of 2K neurons, with readouts of 0; the state itself without."""
        if self.velocity is None:
            return self
        (first, Q, _), make = self.vectors, cast(Any, type(self))
        found: Self = make(first, Q, np.zeros(Q.shape[-1]))
        return found

    @classmethod
    def of_vectors(cls, first: Array, Q: Array, parameters: Array, K: int, *, derivative: bool = False) -> Self:
        """The state of K neurons whose `vectors` these are; `derivative`: they are time derivatives."""
        make = cast(Any, cls).derivative if derivative else cast(Any, cls)
        if first.shape[-1] == K:
            return make(first, Q, *split(parameters, K))
        moving = Velocity(first[..., K:], Q[..., :K, K:], Q[..., K:, K:], parameters[1])
        return make(first[..., :K], Q[..., :K, :K], *split(parameters[0], K), moving)

    def _store_velocity(self, velocity: Velocity | Mapping[str, Any] | None, check: bool = True) -> None:
        """Of the shapes of the state, and such that there are weights and velocities with these overlaps."""
        if isinstance(velocity, Mapping):
            velocity = Velocity.from_dict(velocity, "velocity")
        self._set(velocity=None if velocity is None else record("velocity", velocity, Velocity))
        if velocity is None:
            return
        first, Q = self._overlaps
        wanted = {"M": first.shape, "C": Q.shape, "U": Q.shape, "v": self.parameters.shape}
        for name, shape in wanted.items():
            if (found := getattr(velocity, name).shape) != shape:
                raise ValueError(f"velocity must have {name} of shape {shape}, got {found}")
        try:
            _ = self.both if check else None
        except ValueError as error:
            raise ValueError(
                f"velocity must go with the weights, Q standing for [[Q, C], [C^T, U]]: {error}"
            ) from error

    def _store_parameters(self, v: Array, b: npt.ArrayLike | None, c: float | None) -> None:
        """v, and b and c both or neither: the one that is not given is 0."""
        self._set(v=v, b=None, c=None)
        if v.ndim == 2 and (b is not None or c is not None):
            raise ValueError(f"b and c must be left out where v has several outputs, got v of shape {v.shape}")
        if b is not None or c is not None:
            thresholds = np.zeros_like(v) if b is None else finite_array("b", b, v.shape)
            intercept = 0.0 if c is None else real("c", c)
            if not math.isfinite(intercept):
                raise ValueError(f"c must be finite, got {c!r}")
            self._set(b=thresholds, c=intercept)

    @property
    def K(self) -> int:
        """Number of neurons."""
        return self.v.shape[-1]

    @property
    def parameters(self) -> Array:
        """v (K,), or v, b and c one after the other, (2K + 1,), where there are biases: they have equations each."""
        return self.v if self.b is None or self.c is None else np.concatenate([self.v, self.b, [self.c]])

    def arrays(self) -> dict[str, Array]:
        """The fields that there are, as arrays by name."""
        found = {
            name: np.atleast_1d(value) for name, value in vars(self).items() if name in _LETTERS and value is not None
        }
        moving = self.velocity
        return found | ({} if moving is None else {"S": moving.M, "C": moving.C, "U": moving.U, "p": moving.v})

    def to_dict(self) -> dict[str, Any]:
        """The fields; b and c, and the velocity, where there are such."""
        absent = {"b": self.b is None, "c": self.b is None, "velocity": self.velocity is None}
        return {name: value for name, value in super().to_dict().items() if not absent.get(name)}


@dataclass(frozen=True, eq=False, repr=False)
class OrderParameters(_Learner):
    """The state of a two-layer network as the dynamics sees it: M_ak = w_k·mu_a/D, Q_kl = w_k·w_l/D and v_k.

    `M` (C, K), `Q` (K, K) symmetric and positive semi-definite up to rounding (stored exactly symmetric), `v` (K,), or
    (c, K) where there are c outputs, one for each class of the mixture.  `b` (K,) and `c`, both or neither, and of one
    output: thresholds and intercept, lambda_k = w_k·x/sqrt(D) + b_k, phi = .. + c.  `velocity`: of a network that
    learns with momentum; None is at rest.
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
    b: Array | None = None
    c: float | None = None
    velocity: Velocity | None = None

    def __post_init__(self) -> None:
        self._store(self.M, self.Q, self.v, self.b, self.c)
        scale = np.abs(self.Q).max()
        if (asymmetry := np.abs(self.Q - self.Q.T).max()) > _ROUNDING * scale:
            raise ValueError(f"Q must be symmetric, got |Q - Q^T| up to {asymmetry:.6g}")
        Q = (self.Q + self.Q.T) / 2
        if (smallest := np.linalg.eigvalsh(Q)[0]) < -_ROUNDING * scale:
            raise ValueError(f"Q must be positive semi-definite, got the eigenvalue {smallest:.6g}")
        Q.flags.writeable = False
        self._set(Q=Q)
        self._store_velocity(self.velocity)

    @property
    def _overlaps(self) -> tuple[Array, Array]:
        return self.M, self.Q

    def _store(
        self, M: npt.ArrayLike, Q: npt.ArrayLike, v: npt.ArrayLike, b: npt.ArrayLike | None, c: float | None
    ) -> None:
        M = finite_array("M", M, (None, None))
        K = M.shape[1]
        self._set(M=M, Q=finite_array("Q", Q, (K, K)))
        self._store_parameters(_readout(v, K), b, c)

    @classmethod
    def derivative(
        cls,
        M: npt.ArrayLike,
        Q: npt.ArrayLike,
        v: npt.ArrayLike,
        b: npt.ArrayLike | None = None,
        c: float | None = None,
        velocity: Velocity | None = None,
    ) -> Self:
        """The same record for time derivatives dM/dt, dQ/dt, dv/dt, which need not be positive semi-definite.

        >>> OrderParameters.derivative(M=[[1.0]], Q=[[-2.0]], v=[0.0]).Q
        array([[-2.]])
        """
        record = object.__new__(cls)
        record._store(M, Q, v, b, c)
        record._store_velocity(velocity, check=False)
        return record

    def _repr_latex_(self) -> str:
        """M, Q and v as matrices, for notebooks; b and c."""
        return matrices(self.arrays())

    def projections(self, mixture: Mixture, D: float | None = None) -> Array:
        """A (p, K), A_bk = w_k·e_b/sqrt(D): the weights on the basis of the means, M = means A; of least norm.

        D is needed only where the length of the means depends on it (scaling other than 0).  ValueError if no A gives
        this M, or if the joint Gram matrix of weights and means is not positive semi-definite: Q - A^T A >= 0.
        """
        record("mixture", mixture, Mixture)
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
        """ValueError unless real vectors, weights and velocities, with these overlaps exist for this mixture."""
        self.both.projections(mixture, D)


@dataclass(frozen=True, eq=False, repr=False)
class Densities(_Learner):
    """The state where the inputs have a spectrum: the parts of the overlaps that lie along each of its nodes.

    `A` (U, p, K): A_ubk = e_b·Pi_u w_k/sqrt(D) for the basis e_b of the means; `Q` (U, K, K): w_k·Pi_u w_l/D, positive
    semi-definite in each node; `v` (K,), or (c, K) of c outputs; `b` (K,) and `c` as in `OrderParameters`.  Their sums
    over u are the overlaps A and Q; the local fields of cluster a have the covariance sigma_a^2 sum_u rho_au Q_u.
    `velocity` as in `OrderParameters`, in each node.

    >>> Densities(A=[[[0.5]], [[0.5]]], Q=[[[0.5]], [[0.5]]], v=[1.0]).overlaps(Mixture.two_clusters(1.0)).M.ravel()
    array([ 1., -1.])
    """

    A: Array
    Q: Array
    v: Array
    b: Array | None = None
    c: float | None = None
    velocity: Velocity | None = None

    def __post_init__(self) -> None:
        self._store(self.A, self.Q, self.v, self.b, self.c)
        scale = np.abs(self.Q).max()
        if (asymmetry := np.abs(self.Q - self.Q.swapaxes(1, 2)).max()) > _ROUNDING * scale:
            raise ValueError(f"Q must be symmetric in each node, got |Q - Q^T| up to {asymmetry:.6g}")
        if (smallest := np.linalg.eigvalsh(self.Q).min()) < -_ROUNDING * scale:
            raise ValueError(f"Q must be positive semi-definite in each node, got the eigenvalue {smallest:.6g}")
        self._store_velocity(self.velocity)

    @property
    def _overlaps(self) -> tuple[Array, Array]:
        return self.A, self.Q

    def _store(
        self, A: npt.ArrayLike, Q: npt.ArrayLike, v: npt.ArrayLike, b: npt.ArrayLike | None, c: float | None
    ) -> None:
        readout = _readout(v, None)
        K = readout.shape[-1]
        weights = finite_array("A", A, (None, None, K))
        self._set(A=weights, Q=finite_array("Q", Q, (len(weights), K, K)))
        self._store_parameters(readout, b, c)

    @classmethod
    def derivative(
        cls,
        A: npt.ArrayLike,
        Q: npt.ArrayLike,
        v: npt.ArrayLike,
        b: npt.ArrayLike | None = None,
        c: float | None = None,
        velocity: Velocity | None = None,
    ) -> Self:
        """The same record for time derivatives, which need not be positive semi-definite."""
        record = object.__new__(cls)
        record._store(A, Q, v, b, c)
        record._store_velocity(velocity, check=False)
        return record

    @classmethod
    def spread(cls, mixture: Mixture, state: OrderParameters) -> Densities:
        """The densities of weights that point anywhere but for their overlaps with the means, for D -> infinity.

            A_u = G_u A,   Q_u = s_u Q + A^T G_u A - s_u A^T A

        >>> from quenched.numerics import Spectrum
        >>> state = OrderParameters(M=[[0.5], [-0.5]], Q=[[1.0]], v=[1.0])
        >>> mixture = Mixture([[1.0], [-1.0]], [1, -1], spectrum=Spectrum.two_level(0.5, 2.0, fraction=0.25))
        >>> Densities.spread(mixture, state).Q.ravel()
        array([0.75, 0.25])
        """
        record("mixture", mixture, Mixture), record("state", state, OrderParameters)
        A, G = state.both.projections(mixture), mixture.alignment
        _, Q, parameters = state.vectors
        aligned, share = G @ A, mixture.shares[:, None, None]
        return cls.of_vectors(aligned, share * Q + (A.T @ aligned - share * (A.T @ A)), parameters, state.K)

    def _repr_latex_(self) -> str:
        """A, Q in each node and v as matrices, for notebooks; b and c."""
        return matrices(self.arrays())

    def overlaps(self, mixture: Mixture) -> OrderParameters:
        """M, Q and v: the sums over the nodes; the velocity's in the same way."""
        record("mixture", mixture, Mixture)
        A, Q, parameters = self.vectors
        return OrderParameters.of_vectors(mixture.references @ A.sum(axis=0), Q.sum(axis=0), parameters, self.K)

    def check(self, mixture: Mixture) -> None:
        """ValueError unless the state fits the mixture: A of its nodes and coordinates, Q_u large enough for A_u."""
        G = record("mixture", mixture, Mixture).alignment
        if self.A.shape[:2] != G.shape[:2]:
            raise ValueError(f"A must have shape (nodes, p, K) = {(*G.shape[:2], self.K)}, got {self.A.shape}")
        A, Q, _ = self.vectors
        rest = Q - A.swapaxes(1, 2) @ np.linalg.pinv(G, rcond=1e-10, hermitian=True) @ A
        if (smallest := np.linalg.eigvalsh(rest).min()) < -_ROUNDING * np.abs(Q).max():
            raise ValueError(f"Q is too small for A: Q_u - A_u^T G_u^+ A_u has the eigenvalue {smallest:.6g}")


def with_biases(state: S, needed: bool) -> S:
    """The state with thresholds and an intercept of 0 where it has none and they are `needed`.

    >>> with_biases(OrderParameters(M=[[0.0]], Q=[[1.0]], v=[0.5]), True).parameters
    array([0.5, 0. , 0. ])
    """
    if not needed or state.b is not None:
        return state
    moving = state.velocity
    if moving is not None:
        moving = replace(moving, v=np.concatenate([moving.v, np.zeros(state.K + 1)]))
    return replace(state, c=0.0, velocity=moving)


def with_velocity(state: S, needed: bool) -> S:
    """The state at rest where it has no velocity and one is `needed`; without its velocity where none is.

    >>> with_velocity(OrderParameters(M=[[0.0]], Q=[[1.0]], v=[0.5]), True).vectors[1].tolist()
    [[1.0, 0.0], [0.0, 0.0]]
    """
    if not needed or state.velocity is not None:
        return state if needed or state.velocity is None else replace(state, velocity=None)
    first = state.M if isinstance(state, OrderParameters) else state.A
    zero = np.zeros_like(state.Q)
    return replace(state, velocity=Velocity(np.zeros_like(first), zero, zero, np.zeros_like(state.parameters)))


def without_spectrum(state: OrderParameters | Densities) -> OrderParameters:
    """The state, of a problem whose inputs have no spectrum; ValueError: it is one of densities.

    >>> without_spectrum(OrderParameters(M=[[0.0]], Q=[[1.0]], v=[0.5])).K
    1
    """
    if not isinstance(state, OrderParameters):
        raise ValueError(f"state must be OrderParameters, got {type(state).__name__}")
    return state
