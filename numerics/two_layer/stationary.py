"""The stationary equations F(x) = 0 of a learning problem: unknowns, rates, Jacobian, and their solution.

F is the drift in units of the larger learning rate.  The unknowns x are

* online SGD: A (p, K), the projections of the weights on the coordinates of the means, the upper triangle of Q, and v;
* `GradientFlow`: A and v.  No noise feeds the weights outside of the span of the means; where they have decayed,
  Q = A^T A, of rank p at most.  Weights that have not, span r directions that count as further coordinates of A;

and thresholds and intercept where these learn; without those of a layer with a rate of 0. They are independent, so that
the eigenvalues of J = dF/dx are those of the linearised dynamics. Under gradient flow, weights outside of the span obey
dw_perp/dt = L w_perp, and their overlaps grow at the sums of two eigenvalues of L: these belong to the modes too.

Two solvers: Newton's steps in a trust region (scipy), of least norm where symmetries make J singular; and
pseudo-transient continuation, implicit Euler steps of dx/dt = F whose length grows as the rates fall, which follows the
flow coarsely from where Newton's steps lead nowhere (Kelley and Keyes 1998).

A neuron of a homogeneous activation that dies, v_k and |w_k| -> 0 in proportion, ends where the equations have a kink:
it is set to 0 and left out of x.  It has been seen to decay in its own direction; others it did not try.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.rules import LearningRule
from quenched.numerics.problem.state import OrderParameters, nearest_overlaps, split, with_biases
from quenched.numerics.two_layer.drift import CLOSED_FORM_NEURONS, PATH, Equations, drift_arrays
from quenched.numerics.two_layer.flow import Coordinates
from quenched.numerics.two_layer.jacobian import drift_tangents
from quenched.numerics.two_layer.local_fields import Fields
from quenched.numerics.two_layer.symmetry import homogeneity

__all__ = ["OVERFLOW", "RESIDUAL", "FixedPointError", "StationaryEquations", "VectorField", "fitting_biases"]

Array = npt.NDArray[np.float64]

RESIDUAL = 1e-10
"""Rates at which a state counts as stationary, in units of the larger learning rate."""
OVERFLOW = 1e50
"""States beyond this have rates that overflow: those are products of a few such numbers."""

_STEP = 6e-6  # of central differences: the cube root of the rounding unit
_ZERO = 1e-6  # eigenvalues below this fraction of the largest are zero modes, up to the noise of the Jacobian
_OUTSIDE = 1e-7  # of Q: smaller eigenvalues of Q - A^T A belong to weights that the flow will let decay to 0
_DYING = 1e-2  # of the largest, or of 0.01: neurons with smaller v_k and |w_k| where the flow rests are vanishing
_INDEFINITE = 1e-9  # of Q - A^T A, relative to Q: allowed, as its eigenvalues may be 0 up to rounding
_SMALL = 1e-5  # of Q: the scale of weights that all decay, below which Q is known to an absolute error only
_EVALUATIONS = 200  # of F, by Newton's steps
_VANISHED = 1e-9  # |v_k|, |A_bk| and Q_kk of a neuron that solutions known to the residual cannot tell from 0
_RELAXATIONS = 400  # pseudo-transient steps
_LONGEST = 0.3  # of the length of the state: a longer pseudo-transient step is halved
_GROWN = 1e3  # a state that has grown by this factor has no fixed point ahead
_SHORTEST = 1e-8  # time of a pseudo-transient step, in units of 1/lr, at which it is given up
_SETTLED = 1e-8  # rates from which Newton's steps finish what pseudo-transient ones began


class FixedPointError(RuntimeError):
    """No fixed point was found; `state` is where the search ended, `residual` the largest rate there."""

    def __init__(self, message: str, state: OrderParameters, residual: float) -> None:
        super().__init__(message)
        self.state = state
        self.residual = residual

    def __reduce__(self) -> tuple[type[FixedPointError], tuple[str, OrderParameters, float]]:
        """Processes hand errors on by their arguments."""
        return type(self), (str(self), self.state, self.residual)


class VectorField:
    """The drift in units of `unit`, on (A, Q, v) as one vector, and its tangents."""

    def __init__(self, mixture: Mixture, network: TwoLayer, rule: LearningRule, unit: float) -> None:
        self.mixture, self.unit, self.K = mixture, unit, network.K
        self.parameters = 2 * self.K + 1 if rule.biased else self.K  # v, or v, b and c
        self.coordinates = Coordinates(mixture.dimensions, network.K)
        self.drift = drift_arrays(mixture, network, rule)
        self.tangents = drift_tangents(mixture, network, rule)

    @cached_property
    def directions(self) -> tuple[Array, Array, Array]:
        """A_z, Q_z, v_z of the unit vectors of the coordinates."""
        units = [self.coordinates.unpack(y) for y in np.eye(int(self.coordinates.cuts[-1]) + self.parameters)]
        A_z, Q_z, v_z = (np.stack(parts, axis=-1) for parts in zip(*units, strict=True))
        return A_z, Q_z, v_z

    def rates(self, A: Array, Q: Array, v: Array) -> Array:
        """The drift."""
        return self.coordinates.pack(*self.drift(A, Q, v)) / self.unit

    def linear(self, A: Array, Q: Array, v: Array, A_z: Array, Q_z: Array, v_z: Array) -> Array:
        """Its tangents along directions z, as columns, at the nearest state that weights have.

        ValueError: the averages of this activation have no closed form, and so no tangents.
        """
        if self.tangents is None:
            raise ValueError("the activation has no averages in closed form: take differences of the rates")
        Q = nearest_overlaps(A, Q)
        columns = zip(*(np.moveaxis(part, -1, 0) for part in self.tangents(A, Q, v, A_z, Q_z, v_z)), strict=True)
        return np.stack([self.coordinates.pack(*column) for column in columns], axis=1) / self.unit


class StationaryEquations:
    """F(x) = 0 for one problem."""

    def __init__(self, mixture: Mixture, network: TwoLayer, rule: LearningRule) -> None:
        _refuse(mixture, network, rule)
        self.mixture, self.network, self.rule = mixture, network, rule
        self.unit = max(rule.eta, rule.eta_v, rule.bias_lr, rule.intercept_lr)
        self.flow = self.inner = VectorField(mixture, network, rule, self.unit)
        self.projected = not rule.diffusion and rule.eta > 0  # Q is A^T A

    # --- unknowns

    def start(self, state: OrderParameters, *, bury: bool = False) -> None:
        """Frozen layers keep the weights of this state; x0 is where it stands.

        `bury`: neurons of which both layers are nearly 0 are set to 0 and stay there.
        """
        state = fitting_biases("guess", state, self.rule)
        dead = np.zeros(self.network.K, dtype=bool)
        if bury:
            sizes = np.sqrt(np.maximum(np.diag(state.Q), 0)), np.abs(state.v)
            dead = np.logical_and(*(size < _DYING * max(size.max(), _DYING) for size in sizes))
            alive = np.where(dead, 0.0, 1.0)
            state = replace(state, M=state.M * alive, Q=state.Q * np.outer(alive, alive), v=state.v * alive)
        A, rule = state.projections(self.mixture), self.rule
        Q = nearest_overlaps(A, state.Q)
        if self.projected:
            values, vectors = np.linalg.eigh(Q - A.T @ A)  # what the weights have outside of the span of the means
            kept = values > _OUTSIDE * np.abs(state.Q).max()
            A = np.concatenate([A, (vectors[:, kept] * np.sqrt(values[kept])).T])
            Q = A.T @ A
            self._extend(int(kept.sum()))
        K = self.network.K
        learns = [(A.size, rule.eta > 0), (K * (K + 1) // 2, rule.eta > 0 and not self.projected), (K, rule.eta_v > 0)]
        learns += [(K, rule.bias_lr > 0), (1, rule.intercept_lr > 0)] if rule.biased else []
        self.free = np.concatenate([np.full(size, moves) for size, moves in learns])
        gone = dead.astype(np.float64)
        ends = np.zeros(self.inner.parameters)
        ends[:K] = gone
        buried = self.inner.coordinates.pack(np.tile(gone, (len(A), 1)), np.maximum.outer(gone, gone), ends)
        self.free &= buried == 0
        self.frozen = self.inner.coordinates.pack(A, Q, state.parameters)
        self.x0 = self.frozen[self.free]

    def continued(self, other: StationaryEquations) -> StationaryEquations:
        """With the unknowns of other equations, the same but for their parameters."""
        self.free, self.frozen = other.free, other.frozen
        self._extend(other.inner.mixture.dimensions - other.mixture.dimensions)
        return self

    def _extend(self, extra: int) -> None:
        """Add coordinates along which neither a mean nor a teacher's weight has a component."""
        if extra:
            beside = ((0, 0), (0, extra))
            means, teacher = np.pad(self.mixture.means, beside), self.mixture.teacher
            if teacher is not None:
                teacher = replace(teacher, weights=np.pad(teacher.weights, beside))
            wide = replace(self.mixture, means=means, scaling=np.zeros(means.shape[1]), teacher=teacher)
            self.inner = VectorField(wide, self.network, self.rule, self.unit)
        else:
            self.inner = self.flow

    def arrays(self, x: Array) -> tuple[Array, Array, Array]:
        """A, Q, v."""
        y = self.frozen.copy()
        y[self.free] = x
        A, Q, v = self.inner.coordinates.unpack(y)
        return A, A.T @ A if self.projected else Q, v

    def state(self, x: Array) -> OrderParameters:
        """The order parameters of a solution."""
        A, Q, v = self.arrays(x)
        return OrderParameters(self.inner.mixture.references @ A, Q, *split(v, self.network.K))

    # --- rates and their derivatives

    def rates(self, x: Array) -> Array:
        """F(x); NaN where no weights have these overlaps, which makes the solver take a smaller step."""
        if not np.abs(x).max(initial=0.0) < OVERFLOW:
            return np.full_like(x, np.nan)
        A, Q, v = self.arrays(x)
        if not self.projected and np.linalg.eigvalsh(Q - A.T @ A)[0] < -_INDEFINITE * max(np.abs(Q).max(), _SMALL):
            return np.full_like(x, np.nan)
        return self.inner.rates(A, Q, v)[self.free]

    def jacobian(self, x: Array) -> Array:
        """dF/dx: generated, or by central differences for an activation without closed forms."""
        if not x.size:
            return np.zeros((0, 0))
        if self.inner.tangents is None:
            return self.differences(x)
        A, Q, v = self.arrays(x)
        A_z, Q_z, v_z = (part[..., self.free] for part in self.inner.directions)
        if self.projected:
            product = np.einsum("bkz,bl->klz", A_z, A)
            Q_z = product + product.swapaxes(0, 1)
        return self.inner.linear(A, Q, v, A_z, Q_z, v_z)[self.free]

    def differences(self, x: Array) -> Array:
        """dF/dx by central differences."""
        columns = []
        for i in range(len(x)):
            step = np.zeros_like(x)
            step[i] = _STEP * max(1.0, abs(x[i]))
            above, below = (self.inner.rates(*self.arrays(x + h))[self.free] for h in (step, -step))
            columns.append((above - below) / (2 * step[i]))
        return np.stack(columns, axis=1)

    def outside(self, x: Array) -> Array:
        """Under gradient flow: L (K, K) with dw_perp,k/dt = sum_i L_ki w_perp,i, in units of the larger rate."""
        A, Q, v = self.arrays(x)
        equations = Equations(self.inner.mixture, self.network, self.rule, PATH, stated=False)
        if not equations.step.closed:  # a response by regression needs weights that point there
            Q = Q + 1e-8 * np.abs(Q).max() * np.eye(len(Q))
        pull = equations.pulls(A[None], Q[None], v)
        return np.asarray(-(self.rule.eta / self.unit) * (pull[0] + self.rule.kappa * np.eye(len(Q))))

    def modes(self, x: Array, J: Array) -> tuple[npt.NDArray[np.complex128], int]:
        """Eigenvalues of the linearised dynamics, by falling real part, and the number of zero modes."""
        values = np.linalg.eigvals(J).astype(np.complex128)
        if self.projected:
            alone = np.linalg.eigvals(self.outside(x))
            i, j = np.triu_indices(len(alone))
            values = np.concatenate([values, alone[i] + alone[j]])
        moving = np.abs(values) > _ZERO * np.abs(values).max(initial=0.0)
        order = np.argsort(-values[moving].real, kind="stable")
        return values[moving][order] * self.unit, int((~moving).sum())

    def accuracy(self, J: Array, residual: float) -> float:
        """Bound on the error of a solution with this residual, by the smallest singular value that is not 0."""
        if not J.size:
            return residual  # nothing moves, or all neurons vanish
        singular = np.linalg.svd(J, compute_uv=False)
        return residual / float(singular[singular > _ZERO * singular[0]].min())

    # --- solvers

    def solve(self, x: Array) -> Array:
        """The zero of F that Newton's steps reach from x; FixedPointError if they do not."""
        from scipy.optimize import least_squares

        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            if not np.isfinite(self.rates(x)).all():
                raise self._failure(x, "no step was taken, as the rates are not finite")
            if not x.size:
                return x
            tiny = np.finfo(np.float64).eps
            found = least_squares(self.rates, x, self.jacobian, xtol=tiny, ftol=tiny, gtol=tiny, max_nfev=_EVALUATIONS)
            best: Array = found.x
            if not np.abs(self.rates(best)).max() <= RESIDUAL:
                raise self._failure(best, f"{found.nfev} steps")
            return self._without_vanished(best)

    def _without_vanished(self, x: Array) -> Array:
        """x with neurons that are 0 up to rounding set to 0, where that is a solution too.

        The sign of what rounding leaves of a network that decays to 0 would be taken for its answer.
        """
        A, Q, parameters = self.arrays(x)
        K = self.network.K
        v, rest = parameters[:K], parameters[K:]
        size = np.maximum(np.maximum(np.abs(A).max(axis=0, initial=0.0), np.abs(np.diag(Q))), np.abs(v))
        kept = (size > _VANISHED).astype(np.float64)
        if kept.all():
            return x
        zeroed = self.inner.coordinates.pack(A * kept, Q * np.outer(kept, kept), np.append(v * kept, rest))[self.free]
        if not np.abs(self.rates(zeroed)).max(initial=0.0) <= RESIDUAL:
            return x
        if not np.isfinite(self.jacobian(zeroed)).all():
            raise self._failure(x, "steps to a vanishing neuron, where the equations have a kink,")
        return zeroed

    def _failure(self, x: Array, steps: str) -> FixedPointError:
        residual = float(np.abs(self.rates(x)).max(initial=0.0))
        A, Q, v = self.arrays(x) if np.isfinite(residual) else self.inner.coordinates.unpack(self.frozen)
        return FixedPointError(
            f"no fixed point was found: {steps} left rates up to {residual:.3g}, more than {RESIDUAL:g} (|Q| <= "
            f"{np.abs(Q).max():.3g}, |v| <= {np.abs(v).max():.3g}; state in .state); start from a guess nearer to "
            "one, follow the flow longer (t), or continue a solution from other parameters with curve",
            OrderParameters.derivative(self.inner.mixture.references @ A, Q, *split(v, self.network.K)),
            residual,
        )

    def relax(self, x: Array) -> Array | None:
        """The zero of F that pseudo-transient continuation reaches from x, to `RESIDUAL`; None if it does not.

        (1/time - J) step = F: the implicit Euler step of dx/dt = F, with a time that grows as |F| falls.
        """
        time, F = 1.0, self.rates(x)
        limit = _GROWN * max(1.0, float(np.linalg.norm(x)))
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            for _ in range(_RELAXATIONS):
                size = float(np.linalg.norm(F))
                if size < _SETTLED:
                    break
                if not np.isfinite(size) or np.linalg.norm(x) > limit:
                    return None
                J = self.jacobian(x)
                while (found := self._implicit(x, F, J, time)) is None:
                    time /= 2
                    if time < _SHORTEST:
                        return None
                time *= float(np.clip(size / np.linalg.norm(found[1]), 0.5, 3.0))
                x, F = found
        try:
            return self.solve(x)
        except FixedPointError:
            return None

    def _implicit(self, x: Array, F: Array, J: Array, time: float) -> tuple[Array, Array] | None:
        """State and rates after one implicit Euler step; None if it is too long or leads where no weights are."""
        matrix = np.eye(len(x)) / time - J
        if not np.isfinite(matrix).all() or np.linalg.cond(matrix) > 1 / np.finfo(np.float64).eps:
            return None
        step = np.linalg.solve(matrix, F)
        if np.linalg.norm(step) > _LONGEST * max(1.0, float(np.linalg.norm(x))):
            return None
        rates = self.rates(x + step)
        return (x + step, rates) if np.isfinite(rates).all() else None


def fitting_biases(name: str, state: OrderParameters, rule: LearningRule) -> OrderParameters:
    """The state, with thresholds and an intercept where they learn.  ValueError: it has some that do not."""
    if state.b is not None and not rule.biased:
        raise ValueError(f"{name} has b and c, which this rule leaves as they are: set bias_lr or intercept_lr > 0")
    return with_biases(state, rule.biased)


def _refuse(mixture: Mixture, network: TwoLayer, rule: LearningRule) -> None:
    """ValueError for a problem without stationary equations, or without a solution of them."""
    rule.require_plain("fixed points")
    mixture.check_signs()
    if mixture.spectrum is not None:
        raise ValueError(
            f"mixture must be isotropic, got spectrum={mixture.spectrum!r}: fixed points are solved for in the "
            "overlaps; integrate the densities"
        )
    if rule.eta == 0 and rule.eta_v == 0 and not rule.biased:
        raise ValueError(f"rule must have a rate other than 0, got lr={rule.lr}, second_lr={rule.second_lr}")
    degree = homogeneity(network.activation)
    heated = mixture.teacher is None or rule.label_noise > 0  # else the noise vanishes where a teacher is matched
    if degree is not None and heated and rule.diffusion and rule.eta > 0 and rule.eta_v > 0 and rule.kappa == 0:
        raise ValueError(
            f"rule: no fixed point exists for {network.activation!r}, which is homogeneous, with lr={rule.lr} and "
            "weight_decay=0 in the first layer while the second one learns: at rest, the noise of single samples "
            "would have to vanish, and the weights grow without end; set weight_decay > 0, or second_lr=0, or take "
            "the limit GradientFlow()"
        )
    readout = Fields(mixture, network).readout
    taught = readout.shape[0] if readout.ndim == 1 else int(np.count_nonzero(readout, axis=1).max())
    if rule.diffusion and rule.eta > 0 and network.K + taught > CLOSED_FORM_NEURONS:
        also = f" and {taught} neurons of the teacher in a cluster" if taught else ""
        raise ValueError(
            f"network must have K <= {CLOSED_FORM_NEURONS - taught} for a fixed point of SGD, got K = {network.K}"
            f"{also}: the noise of more neurons is sampled and too rough for Newton's steps; take GradientFlow(), "
            "exact for all K"
        )
