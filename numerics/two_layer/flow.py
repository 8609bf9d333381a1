"""Learning curves: the order-parameter equations integrated in time, and random states to start from.

The state (M, Q, v) is integrated as A (p, K), the upper triangle of Q - A^T A, and v, with A_bk = w_k·e_b/sqrt(D) the
projections of the weights on the coordinates of the means: M = means A keeps the linear relations between the means
exact (four XOR clusters have two independent ones), and Q - A^T A >= 0 belongs to what is outside their span.  Inputs
with a spectrum have such a state in each node.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from quenched.numerics.averages.activations import piecewise_linear
from quenched.numerics.problem.checks import (
    FINEST,
    choice,
    function,
    increasing_times,
    integer,
    number,
    record,
    tolerance,
)
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.provenance import provenance
from quenched.numerics.problem.rules import LearningRule
from quenched.numerics.problem.state import Densities, OrderParameters, check_fit, split, with_biases
from quenched.numerics.problem.variables import describing
from quenched.numerics.two_layer.drift import drift_arrays
from quenched.numerics.two_layer.errors import QUANTITIES, asked_quantities, errors_many
from quenched.numerics.two_layer.local_fields import densities

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Coordinates", "IntegrationError", "frames", "integrate", "random_state"]

Array = npt.NDArray[np.float64]

_RECORDED = {
    "pmse": ("pmse",),
    "classification_error": ("classification_error", "classification_error_error", "tie_probability"),
}
"""What a trajectory holds of each quantity that `errors_many` finds."""

_METHODS = ("DOP853", "RK45", "RK23", "Radau", "BDF")

# Tolerances are kept above rounding errors: this many times the largest that a coordinate can be.  Otherwise the step
# size of a run with growing weights collapses long before it blows up.
_ROUNDING = 1e-13
_NO_DIRECTION = 1e-12  # smaller squared components of the means along a node are rounding
_KNOWN = 100  # tolerances are per step: what a whole trajectory is known to, in units of them
_OVERFLOW = 1e100  # products of a few such numbers are still finite

# After each _PACE steps, a run that at their pace would need more than _MOST_STEPS to its end is given up: those take
# hours at best.
_PACE, _MOST_STEPS = 1000, 10**7


class IntegrationError(RuntimeError):
    """The integration could not go on; `t` and `state` are the last good time and state."""

    def __init__(self, message: str, t: float, state: OrderParameters | Densities) -> None:
        super().__init__(message)
        self.t = t
        self.state = state

    def __reduce__(self) -> tuple[type[IntegrationError], tuple[str, float, OrderParameters | Densities]]:
        """Processes hand errors on by their arguments."""
        return type(self), (str(self), self.t, self.state)


@describing
def integrate(
    mixture: Mixture,
    network: TwoLayer,
    rule: LearningRule,
    state: OrderParameters | Densities,
    t: npt.ArrayLike,
    *,
    rtol: float = 1e-8,
    atol: float = 1e-10,
    method: str = "DOP853",
    quantities: Sequence[str] = QUANTITIES,
    progress: Callable[[float], None] | None = None,
) -> xr.Dataset:
    """M(t), Q(t), v(t) and the errors of online SGD for D -> infinity, from `state` at t = 0.

    `t`: increasing times >= 0, one unit being D steps.  `rtol`, `atol`: tolerance per step of scipy's `method`, an
    explicit Runge-Kutta pair of order 8 by default ("Radau" or "BDF" where very different time scales make it slow).
    `quantities`: ("pmse",) leaves out the classification error, which costs more.  `progress` is called with the time
    reached after each step.

    Returns a dataset with dimensions time, cluster, neuron, neuron_: M (time, cluster, neuron), Q (time, neuron,
    neuron_), v (time, neuron), and along time pmse, classification_error, its numerical error
    classification_error_error, and tie_probability; of a rule with another loss than "square" also the mean loss per
    sample E[l(phi, y)], without label noise, and its loss_error; its attributes hold all inputs as JSON. Where a
    teacher makes the labels, R (time, teacher, neuron) are the overlaps with its weights. Where the mixture has classes
    v is (time, output, neuron), the classification error counts where the largest output is that of another class, and
    the pmse is half the square distance of the outputs from the one-hot label. Where the inputs have a
    spectrum, A_u (time, node, coordinate, neuron) and Q_u (time, node, neuron, neuron_) are the densities, beside the
    eigenvalue (cluster, node) and share (node) of each node; M, Q and R are their sums.

    Where biases learn, or the state has some, b (time, neuron) and c (time) are the thresholds and the intercept.

    Gradient flow takes a relu neuron of the wrong sign to weights 0 in finite time.  It has no direction there, outputs
    0, and is held; the attribute `solver` names such neurons and their times under "vanished".

    ValueError: the means grow with D (scaling other than 0: the equations of that limit differ), no weights have the
    overlaps of `state`, or `t` is not increasing.  IntegrationError: the solution blows up or a tolerance is too loose.

    One linear neuron with a frozen readout of 1 on two clusters: dA/dt = 1 - 2 A, A = (1 - exp(-2 t))/2.

    >>> from quenched.numerics import GradientFlow
    >>> start = OrderParameters(M=[[0.0], [0.0]], Q=[[0.0]], v=[1.0])
    >>> rule, mixture = GradientFlow(second_lr=0.0), Mixture.two_clusters(1.0)
    >>> run = integrate(mixture, TwoLayer(1, "linear"), rule, start, [1.0])
    >>> round(float(run.M.max()), 6), round((1 - math.exp(-2)) / 2, 6)
    (0.432332, 0.432332)
    """
    import xarray as xr

    record("mixture", mixture, Mixture), record("network", network, TwoLayer), record("rule", rule, LearningRule)
    record("state", state, (OrderParameters, Densities)), function("progress", progress)
    rtol, atol = tolerance("rtol", rtol, at_least=FINEST), tolerance("atol", atol, positive=False)
    times = increasing_times("t", t)
    if (mixture.exponents != 0).any():
        raise ValueError(
            f"scaling must be 0: these equations are for means of length O(1), got scaling={mixture.scaling!r}; "
            "simulate treats it at finite D"
        )
    mixture.check_charged(rule.loss)
    check_fit(mixture, network, state)
    choice("method", method, _METHODS)
    asked = asked_quantities(quantities)
    trajectory = _Trajectory(mixture, network, rule, state, method, rtol, atol)
    states = trajectory.at(times, progress)
    totals = [s.overlaps(mixture) for s in states]
    along = _recorded(mixture, network, rule, totals if mixture.spectrum is None else states, asked)
    variables = _variables(mixture, states, totals)
    return xr.Dataset(
        variables | {name: (("time",), np.array(values, dtype=np.float64)) for name, values in along.items()},
        coords={"time": times},
        attrs=provenance(
            mixture=mixture,
            network=network,
            sgd=rule,
            initial_state=state,
            solver={"method": method, "rtol": rtol, "atol": atol, "evaluations": trajectory.evaluations}
            | ({"vanished": sorted(trajectory.vanished.items())} if trajectory.vanished else {}),
        ),
    )


def _variables(
    mixture: Mixture, states: Sequence[Densities], totals: Sequence[OrderParameters]
) -> dict[str, tuple[tuple[str, ...], Array]]:
    """The order parameters along the trajectory; `totals`: those of the states, added up over the nodes."""
    M = np.stack([s.M for s in totals])
    variables: dict[str, tuple[tuple[str, ...], Array]] = {
        "M": (("time", "cluster", "neuron"), M[:, : mixture.clusters]),
        "Q": (("time", "neuron", "neuron_"), np.stack([s.Q for s in totals])),
        "v": (readout_dims(mixture), np.stack([s.v for s in totals])),
    }
    if states[0].b is not None:
        variables["b"] = (("time", "neuron"), np.stack([s.b for s in totals if s.b is not None]))
        variables["c"] = (("time",), np.array([s.c for s in totals]))
    if mixture.teacher is not None:
        variables["R"] = (("time", "teacher", "neuron"), M[:, mixture.clusters :])
    if mixture.spectrum is not None:
        variables |= {
            "A_u": (("time", "node", "coordinate", "neuron"), np.stack([s.A for s in states])),
            "Q_u": (("time", "node", "neuron", "neuron_"), np.stack([s.Q for s in states])),
            "eigenvalue": (("cluster", "node"), mixture.eigenvalues),
            "share": (("node",), mixture.shares),
        }
    return variables


def _recorded(
    mixture: Mixture,
    network: TwoLayer,
    rule: LearningRule,
    states: Sequence[OrderParameters | Densities],
    asked: frozenset[str],
) -> dict[str, list[float]]:
    """The errors of each state by their names, and the mean loss of a rule with another than the square."""
    charged = None if rule.loss == "square" else rule.loss
    measured = errors_many(mixture, network, states, quantities=sorted(asked), loss=charged)
    names = [name for quantity in QUANTITIES if quantity in asked for name in _RECORDED[quantity]]
    names += [] if charged is None else ["loss", "loss_error"]
    return {name: [getattr(e, name) for e in measured] for name in names}


class _Trajectory:
    """The solution from a state on, in the coordinates (A, W, v).

    W_u = Q_u - A_u^T G_u^+ A_u is the Gram matrix of the weights outside the span of the means: where it decays, it
    must not become the difference of two numbers that are each known to a tolerance.
    """

    def __init__(
        self,
        mixture: Mixture,
        network: TwoLayer,
        rule: LearningRule,
        state: OrderParameters | Densities,
        method: str,
        rtol: float,
        atol: float,
    ) -> None:
        import scipy.integrate

        self.mixture, self.rule, self.atol, self.evaluations = mixture, rule, atol, 0
        self.solver = partial(getattr(scipy.integrate, method), rtol=rtol, atol=atol)
        self.as_overlaps = mixture.spectrum is None and isinstance(state, OrderParameters)
        readout = None if mixture.classes is None else state.v.shape
        self.coordinates = Coordinates(mixture.dimensions, network.K, len(mixture.shares), readout)
        self.known = rtol, atol
        # the slope of relu at 0 depends on the side: a neuron that shrinks to 0 gets there, and has no direction there
        self.vanishing = not rule.diffusion and _vanishes(network.activation)
        self.vanished: dict[int, float] = {}
        self.inverse = np.linalg.pinv(mixture.alignment, rcond=1e-10, hermitian=True)
        self.derivative = drift_arrays(mixture, network, rule)
        begin = with_biases(densities(mixture, state), rule.biased)
        inside = begin.A.swapaxes(1, 2) @ (self.inverse @ begin.A)
        self.start = self.coordinates.pack(begin.A, begin.Q - inside, begin.parameters)

    def unpack(self, y: Array) -> tuple[Array, Array, Array]:
        """A, Q and v, or all parameters of the state."""
        A, W, v = self.coordinates.unpack(y)
        return A, W + A.swapaxes(1, 2) @ (self.inverse @ A), v

    def rate(self, _: float, y: Array) -> Array:
        """dy/dt; NaN for a trial step too far, so that its error estimate is NaN and it is rejected."""
        if not np.abs(y).max() < _OVERFLOW:
            return np.full_like(y, np.nan)
        A, Q, v = self.unpack(y)
        dA, dQ, dv = self.derivative(A, Q, v)
        held = list(self.vanished)
        dA[..., held], dQ[..., held], dQ[..., held, :] = 0, 0, 0
        moved = dA.swapaxes(1, 2) @ (self.inverse @ A)
        return self.coordinates.pack(dA, dQ - moved - moved.swapaxes(1, 2), dv)

    def at(self, times: Array, progress: Callable[[float], None] | None) -> list[Densities]:
        """The states at these times; raises IntegrationError."""
        states: list[Densities] = []
        remedy = "end before this time, or add weight_decay if it is unstable"
        if self.rule.diffusion:
            remedy = f"lower lr (now {self.rule.lr:g}) or add weight_decay if it is unstable, or end before this time"
        # A trial step of an unstable run may overflow: the state is looked at after each step.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            solver = self.solver(self.rate, 0.0, self.start, times[-1])
            good = 0.0, self.start
            steps, before = 0, 0.0
            while True:
                reached = int(np.searchsorted(times, solver.t, side="right"))
                if reached > len(states):
                    inside = times[len(states) : reached]
                    path = solver.dense_output() if (inside < solver.t).any() else None
                    for time in inside:
                        y = solver.y if time == solver.t or path is None else path(time)
                        states.append(self._checked(y, good, times[-1]))
                if solver.status == "finished":
                    break
                solver = self._without_vanished(solver)
                good = float(solver.t), solver.y
                lengths = self.coordinates.pack(*self.unpack(solver.y))
                solver.atol = np.maximum(self.atol, _ROUNDING * self.coordinates.scales(lengths))
                try:
                    message = solver.step()
                except ValueError as error:  # an implicit method met a NaN
                    raise self._failure(good, times[-1], str(error), remedy) from error
                if solver.status == "failed" and self._vanished(solver.y, self.atol):
                    continue
                if solver.status == "failed" or not np.abs(solver.y).max() < _OVERFLOW:
                    cause = message or f"the state grew beyond {_OVERFLOW:g}"
                    raise self._failure(good, times[-1], cause, remedy)
                if progress is not None:
                    progress(float(solver.t))
                if (steps := steps + 1) % _PACE == 0:
                    if times[-1] - solver.t > _MOST_STEPS / _PACE * (solver.t - before):
                        cause = f"the last {_PACE} steps went from t = {before:g} to {solver.t:g}"
                        raise self._failure(good, times[-1], cause, f"{remedy}, or try method='Radau'")
                    before = float(solver.t)
        self.evaluations += solver.nfev
        return states

    def _vanished(self, y: Array, length: float) -> list[int]:
        """Neurons of a square length below `length` that are not yet held at 0, where these can vanish."""
        if not self.vanishing:
            return []
        _, Q, _ = self.unpack(y)
        short = np.flatnonzero(np.einsum("ukk->k", Q) < length).tolist()
        return [k for k in short if k not in self.vanished]

    def _without_vanished(self, solver: Any) -> Any:
        """The solver at the same time and state, but for neurons that vanish there: they are 0 from then on.

        Their weights are shorter than weights are known to; or no step is short enough, and Q_kk is below `atol`.
        """
        length = self.atol if solver.status == "failed" else (_KNOWN * self.atol) ** 2
        if not (new := self._vanished(solver.y, length)):
            return solver
        self.evaluations += solver.nfev
        self.vanished |= dict.fromkeys(new, float(solver.t))
        A, Q, v = self.unpack(solver.y)
        A[..., new], Q[..., new], Q[..., new, :] = 0, 0, 0
        rest = self.coordinates.pack(A, Q - A.swapaxes(1, 2) @ (self.inverse @ A), v)
        return self.solver(self.rate, solver.t, rest, solver.t_bound)

    def _checked(self, y: Array, good: tuple[float, Array], end: float) -> Densities:
        """The state, with W >= 0 where it is so to the tolerances, as it is not where W decays."""
        A, W, v = self.coordinates.unpack(y)
        Q = W + A.swapaxes(1, 2) @ (self.inverse @ A)
        rtol, atol = self.known
        values, vectors = np.linalg.eigh(W)
        if values.min() < 0 and values.min() >= -_KNOWN * (rtol * np.abs(Q).max() + atol):
            W = (vectors * np.maximum(values, 0)[:, None, :]) @ vectors.swapaxes(1, 2)
            Q = W + A.swapaxes(1, 2) @ (self.inverse @ A)
        try:
            found = Densities(A, Q, *split(v, Q.shape[-1]))
            found.check(self.mixture)
        except ValueError as error:
            cause = f"no weights have the overlaps found ({error})"
            raise self._failure(good, end, cause, "lower rtol and atol") from error
        return found

    def _failure(self, good: tuple[float, Array], end: float, cause: str, remedy: str) -> IntegrationError:
        # derivative(): not validated, as rounding near an overflow can break semidefiniteness
        A, Q, v = self.unpack(good[1])
        parameters = split(v, Q.shape[-1])
        last: OrderParameters | Densities = Densities.derivative(A, Q, *parameters)
        if self.as_overlaps:
            last = OrderParameters.derivative(self.mixture.references @ A[0], Q[0], *parameters)
        return IntegrationError(
            f"the integration stopped at t = {good[0]:.6g} of {end:.6g}: {cause} (there |Q| <= "
            f"{np.abs(Q).max():.3g}, |v| <= {np.abs(v).max():.3g}; full state in .state); {remedy}",
            good[0],
            last,
        )


def _vanishes(activation: str) -> bool:
    """Whether g(0) = 0 and g has a kink there: a neuron of weights 0 then gives 0 and is pulled in no direction."""
    if (pieces := piecewise_linear(activation)) is None:
        return False
    kinks, slopes, intercepts = pieces
    return len(slopes) > 1 and not kinks.any() and not intercepts.any()


def random_state(
    mixture: Mixture,
    network: TwoLayer,
    D: int,
    seed: int,
    *,
    weight_scale: float = 1.0,
    readout_scale: float = 1.0,
) -> OrderParameters | Densities:
    """Order parameters of random weights w_k ~ N(0, weight_scale^2 I_D) and readout v_k ~ N(0, readout_scale^2/K).

    Where the mixture has classes there are as many readouts, v_ck, with the same law.

    Drawn exactly and without D-vectors: A_bk ~ N(0, weight_scale^2/D) on the p coordinates of the means, and
    Q = A^T A + (weight_scale^2/D) L L^T with L L^T a Wishart matrix of D - p degrees of freedom in Bartlett's form
    (L lower triangular, L_jj^2 ~ chi^2_{D-p-j} for j = 0..K-1, normal below the diagonal).

    Where the inputs have a spectrum with a whole number D s_u of directions in each node, the densities are drawn in
    the same way, node by node; the nodes of a quadrature over a law are no directions, and get `Densities.spread`.

    ValueError: D < p + K, where K weights cannot be independent of each other and of the means.

    >>> state = random_state(Mixture.xor(1.0), TwoLayer(3, "relu"), D=10**6, seed=0)
    >>> bool(abs(state.Q - np.eye(3)).max() < 5 / 1000)             # Q = 1 + O(1/sqrt(D))
    True
    """
    record("mixture", mixture, Mixture), record("network", network, TwoLayer)
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


def readout_dims(mixture: Mixture) -> tuple[str, ...]:
    """The dimensions of v along a trajectory: with an output for each class where there are classes."""
    return ("time", "neuron") if mixture.classes is None else ("time", "output", "neuron")


class Coordinates:
    """(A, Q, v) as one vector: A (p, K) by rows, the upper triangle of Q (K, K), v (K,); A and Q in each of U nodes.

    v may be all `parameters` of a state with biases, (2K + 1,); that of several outputs has the shape `readout`.
    """

    def __init__(self, p: int, K: int, nodes: int | None = None, readout: tuple[int, ...] | None = None) -> None:
        outer = () if nodes is None else (nodes,)
        self.K, self.shape, self.readout = K, (*outer, p, K), readout
        self.upper = np.triu_indices(K)
        self.triangle = (*outer, len(self.upper[0]))
        self.cuts = np.cumsum([math.prod(self.shape), math.prod(self.triangle)])

    def pack(self, A: Array, Q: Array, v: Array) -> Array:
        """The vector of a state."""
        return np.concatenate([A.ravel(), Q[..., *self.upper].ravel(), v.ravel()])

    def unpack(self, y: Array) -> tuple[Array, Array, Array]:
        """The state of a vector."""
        A, triangle, v = np.split(y, self.cuts)
        Q = np.empty((*self.triangle[:-1], self.K, self.K))
        Q[..., *self.upper] = triangle.reshape(self.triangle)
        Q.swapaxes(-1, -2)[..., *self.upper] = triangle.reshape(self.triangle)
        return A.reshape(self.shape), Q, v if self.readout is None else v.reshape(self.readout)

    def scales(self, y: Array) -> Array:
        """The largest that each coordinate can be at these lengths of the weights: |w_k|, |w_k||w_l| and max |v|."""
        _, Q, v = self.unpack(y)
        lengths = np.sqrt(np.abs(np.einsum("...kk->...k", Q)))
        bound = np.broadcast_to(np.abs(v).max(), v.shape)
        products = lengths[..., :, None] * lengths[..., None, :]
        return self.pack(np.broadcast_to(lengths[..., None, :], self.shape), products, bound)
