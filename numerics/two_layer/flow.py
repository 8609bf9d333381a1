"""Learning curves: the order-parameter equations integrated in time, and random states to start from.

The state (M, Q, v) is integrated as A (p, K), the upper triangle of Q - A^T A, and v, with A_bk = w_k·e_b/sqrt(D) the
projections of the weights on the coordinates of the means: M = means A keeps the linear relations between the means
exact (four XOR clusters have two independent ones), and Q - A^T A >= 0 belongs to what is outside their span.  Inputs
with a spectrum have such a state in each node.  Velocities of a rule with momentum are K more vectors beside weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from quenched.numerics.averages.activations import piecewise_linear
from quenched.numerics.course.initial import frames, random_state
from quenched.numerics.course.linear import LinearStudent
from quenched.numerics.course.momentum import stopped, velocity_variables
from quenched.numerics.course.pieces import Course, Mixtures, Piece, Rules, course
from quenched.numerics.problem.checks import (
    FINEST,
    choice,
    function,
    increasing_times,
    record,
    tolerance,
)
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.provenance import provenance
from quenched.numerics.problem.schedules import rate_text
from quenched.numerics.problem.state import Densities, OrderParameters, check_fit, with_biases, with_velocity
from quenched.numerics.problem.variables import describing
from quenched.numerics.two_layer.drift import check_lengths, drift_arrays
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

_METHODS = ("DOP853", "RK45", "RK23", "Radau", "BDF", "linear")

# Tolerances are kept above rounding errors: this many times the largest that a coordinate can be.  Otherwise the step
# size of a run with growing weights collapses long before it blows up.
_ROUNDING = 1e-13
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
    mixture: Mixtures,
    network: TwoLayer,
    rule: Rules,
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
    "linear": the solution by an eigendecomposition, of one linear neuron taught by a linear teacher on one centred
    cluster (`quenched.numerics.course.linear`), where tolerances have no part.
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
    Where the rule has momentum (from rest, unless the state has a velocity), C and U (time, neuron, neuron_) are the
    overlaps w_k.p_l/D and p_k.p_l/D of its velocities, and `M_dot` is the velocity of M, and so on.
    A list of pairs (mixture, until) in place of the mixture, or (rule, until) in place of the rule, is a problem that
    changes in time, while the network stays: `quenched.numerics.course.pieces`.  The state then has the overlaps with
    the means of all different mixtures, as `random_state` of that list has, and M and R do.  These mixtures are the
    tasks: errors get a dimension `task`, as the error on each of them is known all along; `learned` (time) is the one
    that is learned from this time on, `task_of` (cluster) the one that a cluster belongs to, and
    where there are teachers `task_of_teacher` (teacher) the one that a neuron of theirs belongs to.

    Gradient flow takes a relu neuron of the wrong sign to weights 0 in finite time.  It has no direction there, outputs
    0, and is held; the attribute `solver` names such neurons and their times under "vanished".

    ValueError: the means grow with D (scaling other than 0: the equations of that limit differ), no weights have the
    overlaps of `state`, one that a sphere keeps has length 0, or `t` is not increasing.  IntegrationError: the solution
    blows up or a tolerance is too loose.

    One linear neuron with a frozen readout of 1 on two clusters: dA/dt = 1 - 2 A, A = (1 - exp(-2 t))/2.

    >>> from quenched.numerics import GradientFlow
    >>> start = OrderParameters(M=[[0.0], [0.0]], Q=[[0.0]], v=[1.0])
    >>> rule, mixture = GradientFlow(second_lr=0.0), Mixture.two_clusters(1.0)
    >>> run = integrate(mixture, TwoLayer(1, "linear"), rule, start, [1.0])
    >>> round(float(run.M.max()), 6), round((1 - math.exp(-2)) / 2, 6)
    (0.432332, 0.432332)
    """
    import xarray as xr

    plan = course(mixture, rule)
    record("network", network, TwoLayer)
    record("state", state, (OrderParameters, Densities)), function("progress", progress)
    rtol, atol = tolerance("rtol", rtol, at_least=FINEST), tolerance("atol", atol, positive=False)
    times = increasing_times("t", t)
    plan.check_charged()
    for task in plan.tasks:
        if (task.exponents != 0).any():
            raise ValueError(
                f"scaling must be 0: these equations are for means of length O(1), got scaling={task.scaling!r}; "
                "simulate treats it at finite D"
            )
    check_fit(plan.joint, network, state)
    choice("method", method, _METHODS)
    asked = asked_quantities(quantities)
    plan.check_until(times[-1])
    trajectory = (
        _linear(plan, network, state) if method == "linear" else _Trajectory(plan, network, state, method, rtol, atol)
    )
    states = trajectory.at(times, progress)
    return xr.Dataset(
        *_variables(plan, network, times, states, asked),
        attrs=provenance(
            mixture=mixture,
            network=network,
            sgd=rule,
            initial_state=state,
            solver={"method": method, "rtol": rtol, "atol": atol, "evaluations": trajectory.evaluations}
            | ({"vanished": sorted(trajectory.vanished.items())} if trajectory.vanished else {}),
        ),
    )


def _linear(plan: Course, network: TwoLayer, state: OrderParameters | Densities) -> LinearStudent:
    """The solution where the equations are linear, one piece of them."""
    if len(plan.pieces) > 1:
        raise ValueError(
            f"method='linear' is for a problem that does not change in time, got {len(plan.pieces)} pieces"
        )
    return LinearStudent(plan.joint, network, plan.pieces[0].rule, densities(plan.joint, state))


def _variables(
    plan: Course, network: TwoLayer, times: Array, states: Sequence[Densities], asked: frozenset[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Variables and coordinates of a trajectory."""
    joint = plan.joint
    totals = [s.overlaps(joint) for s in states]
    M = np.stack([s.M for s in totals])
    variables: dict[str, Any] = {
        "M": (("time", "cluster", "neuron"), M[:, : joint.clusters]),
        "Q": (("time", "neuron", "neuron_"), np.stack([s.Q for s in totals])),
        "v": (readout_dims(joint), np.stack([s.v for s in totals])),
    }
    if states[0].b is not None:
        variables["b"] = (("time", "neuron"), np.stack([s.b for s in totals if s.b is not None]))
        variables["c"] = (("time",), np.array([s.c for s in totals]))
    if joint.teacher is not None:
        variables["R"] = (("time", "teacher", "neuron"), M[:, joint.clusters :])
    if joint.spectrum is not None:
        variables |= {
            "A_u": (("time", "node", "coordinate", "neuron"), np.stack([s.A for s in states])),
            "Q_u": (("time", "node", "neuron", "neuron_"), np.stack([s.Q for s in states])),
            "eigenvalue": (("cluster", "node"), np.concatenate([task.eigenvalues for task in plan.tasks])),
            "share": (("node",), joint.shares),
        }
    if states[0].velocity is not None:
        variables |= velocity_variables(joint, states, totals, readout_dims(joint))
    losses = {piece.rule.loss for piece in plan.pieces}
    charged = None if losses == {"square"} or len(losses) > 1 else losses.pop()
    seen = totals if joint.spectrum is None else states
    measured = [
        _recorded(task, network, [plan.seen(i, s) for s in seen], asked, charged) for i, task in enumerate(plan.tasks)
    ]
    coordinates: dict[str, Any] = {"time": times}
    if len(plan.tasks) == 1:
        variables |= {name: ("time", np.array(values, dtype=np.float64)) for name, values in measured[0].items()}
    else:
        for name in measured[0]:
            variables[name] = ("time", "task"), np.array([each[name] for each in measured], dtype=np.float64).T
        coordinates |= plan.labels(times)
    return variables, coordinates


def _recorded(
    mixture: Mixture,
    network: TwoLayer,
    states: Sequence[OrderParameters | Densities],
    asked: frozenset[str],
    charged: str | None,
) -> dict[str, list[float]]:
    """The errors of each state by their names, and its mean loss, `charged` by a loss other than the square."""
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
        plan: Course,
        network: TwoLayer,
        state: OrderParameters | Densities,
        method: str,
        rtol: float,
        atol: float,
    ) -> None:
        import scipy.integrate

        mixture = plan.joint
        self.plan, self.mixture, self.network, self.atol, self.evaluations = plan, mixture, network, atol, 0
        self.solver = partial(getattr(scipy.integrate, method), rtol=rtol, atol=atol)
        self.as_overlaps = mixture.spectrum is None and isinstance(state, OrderParameters)
        self.known = rtol, atol
        self.vanished: dict[int, float] = {}
        self.inverse = np.linalg.pinv(mixture.alignment, rcond=1e-10, hermitian=True)
        begin = with_biases(densities(mixture, state), any(piece.rule.biased for piece in plan.pieces))
        check_lengths(plan.pieces[0].rule, begin)
        self.biased = begin.b is not None
        begin = with_velocity(begin, any(piece.rule.momentum for piece in plan.pieces))
        A, _, v = begin.vectors
        self.coordinates = Coordinates(A.shape[1], A.shape[2], len(A), None if v.ndim == 1 else v.shape)
        self.start = self._packed(begin)
        self._take(plan.pieces[0])

    def _packed(self, state: Densities) -> Array:
        """The coordinates of a state."""
        A, Q, v = state.vectors
        return self.coordinates.pack(A, Q - A.swapaxes(1, 2) @ (self.inverse @ A), v)

    def _take(self, piece: Piece) -> None:
        """The equations of a piece."""
        rule = self.rule = piece.rule
        self.derivative = drift_arrays(self.plan.tasks[piece.task], self.network, rule)
        K = self.network.K
        self.still = K if self.coordinates.K > K and not rule.momentum else None  # beyond: velocities that stay 0
        # the slope of relu at 0 depends on the side: a neuron that shrinks to 0 gets there, and has no direction there;
        # one with a threshold is on one side of it
        quiet = not rule.diffusion and rule.temperature == 0 and not (self.biased or rule.momentum)
        self.vanishing = quiet and _vanishes(self.network.activation)

    def unpack(self, y: Array) -> tuple[Array, Array, Array]:
        """A, Q and v, or all parameters of the state."""
        A, W, v = self.coordinates.unpack(y)
        return A, W + A.swapaxes(1, 2) @ (self.inverse @ A), v

    def rate(self, t: float, y: Array) -> Array:
        """dy/dt; NaN for a trial step too far, so that its error estimate is NaN and it is rejected."""
        if not np.abs(y).max() < _OVERFLOW:
            return np.full_like(y, np.nan)
        A, Q, v = self.unpack(y)
        if (K := self.still) is None:
            dA, dQ, dv = self.derivative(A, Q, v, min(t, self.latest))
        else:
            dA, dQ, dv = (np.zeros_like(each) for each in (A, Q, v))
            dA[..., :K], dQ[..., :K, :K], dv[0] = self.derivative(A[..., :K], Q[..., :K, :K], v[0], min(t, self.latest))
        held = list(self.vanished)
        dA[..., held], dQ[..., held], dQ[..., held, :] = 0, 0, 0
        moved = dA.swapaxes(1, 2) @ (self.inverse @ A)
        return self.coordinates.pack(dA, dQ - moved - moved.swapaxes(1, 2), dv)

    def at(self, times: Array, progress: Callable[[float], None] | None) -> list[Densities]:
        """The states at these times; raises IntegrationError."""
        states: list[Densities] = []
        y, end = self.start, times[-1]
        for piece in self.plan.pieces:
            if piece.since > 0 and piece.since >= end:
                break
            self._take(piece)
            if self.coordinates.K > self.network.K:
                A, Q, v = self.unpack(y)
                y = self._packed(stopped(Densities.of_vectors(A, Q, v, self.network.K, derivative=True), piece.rule))
            last = min(end, piece.until)
            cuts = [t for t in piece.rule.breaks if piece.since < t < last]
            for since, until in pairwise([piece.since, *cuts, last]):
                self.latest = float(np.nextafter(until, since))  # where a rate jumps at the end, it has not jumped yet
                y = self._along(since, until, y, states, times, progress)
        return states

    def _along(
        self,
        since: float,
        until: float,
        y: Array,
        states: list[Densities],
        times: Array,
        progress: Callable[[float], None] | None,
    ) -> Array:
        """The coordinates at the end of a stretch on which the equations are smooth in t; states on the way."""
        remedy = "end before this time, or add weight_decay if it is unstable"
        if self.rule.diffusion:
            lr = rate_text(self.rule.lr)
            remedy = f"lower lr (now {lr}) or add weight_decay if it is unstable, or end before this time"
        # A trial step of an unstable run may overflow: the state is looked at after each step.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            if not np.isfinite(self.rate(since, y)).all():  # no first step is short enough: solvers look for ever
                raise self._failure((since, y), times[-1], "the rates are not finite there", "start elsewhere")
            solver = self.solver(self.rate, since, y, until)
            good = since, y
            steps, before = 0, since
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
        return np.asarray(solver.y)

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
            found = Densities.of_vectors(A, Q, v, self.network.K)
            found.check(self.mixture)
        except ValueError as error:
            cause = f"no weights have the overlaps found ({error})"
            raise self._failure(good, end, cause, "lower rtol and atol") from error
        return found

    def _failure(self, good: tuple[float, Array], end: float, cause: str, remedy: str) -> IntegrationError:
        # derivative(): not validated, as rounding near an overflow can break semidefiniteness
        A, Q, v = self.unpack(good[1])
        last: OrderParameters | Densities = Densities.of_vectors(A, Q, v, self.network.K, derivative=True)
        if self.as_overlaps:
            M = self.mixture.references @ A[0]
            last = OrderParameters.of_vectors(M, Q[0], v, self.network.K, derivative=True)
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
