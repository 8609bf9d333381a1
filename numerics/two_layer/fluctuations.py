"""Fluctuations about the learning curve to order 1/D: the covariance of the order parameters along time.

Runs of online SGD in dimension D, all from one state, scatter about the solution x = (M, Q, v) of the equations by

    Cov(x_D) = Sigma/D + O(1/D^2),    dSigma/dt = J Sigma + Sigma J^T + diffusion,    Sigma(0) = 0

with J the Jacobian of the equations and the diffusion the covariance of what one sample adds, derived in
symbolic/learners/fluctuations.py.  It is integrated beside the equations in the coordinates (A, Q, v) of `flow`.

The diffusion has averages of products of two increments, up to the fourth power of dl/dphi.  They are sums over points
(`sample_points`): of rules that resolve kinks where one or two fields are all, of scrambled Sobol points otherwise.  As
Sigma is linear in the diffusion, it is integrated for several rules at once, and their differences are the error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.integrate import solve_ivp

from quenched.numerics.averages.losses import loss_functions
from quenched.numerics.problem.checks import FINEST, increasing_times, integer, record, tolerance
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.provenance import provenance
from quenched.numerics.problem.rules import OnlineSGD
from quenched.numerics.problem.state import OrderParameters
from quenched.numerics.problem.variables import describing
from quenched.numerics.two_layer.drift import drift_arrays
from quenched.numerics.two_layer.flow import Coordinates, IntegrationError
from quenched.numerics.two_layer.jacobian import drift_tangents
from quenched.numerics.two_layer.local_fields import Fields, densities
from quenched.numerics.two_layer.sample_points import sample_points
from quenched.theory import fluctuations as theory

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["NoisyPath", "check_fluctuating", "component_names", "components", "fluctuations"]

Array = npt.NDArray[np.float64]

_STEP = 1e-5  # of a difference, relative to the size of a coordinate
_SINGULAR = 1e-8  # relative: fields of a smaller spread are functions of the others


@describing
def fluctuations(
    mixture: Mixture,
    network: TwoLayer,
    rule: OnlineSGD,
    state: OrderParameters,
    t: npt.ArrayLike,
    *,
    rtol: float = 1e-6,
    seed: int = 0,
) -> xr.Dataset:
    """Covariance of the order parameters of online SGD times D, D -> infinity, over runs that all start from `state`.

    `t`: increasing times >= 0, one unit being D steps.  `rtol`: relative tolerance per step of the integration.
    `seed`: of the points where averages are sampled.

    Returns a dataset with the dimensions time, component, component_; components are M_ak, Q_kl with k <= l, and v_k,
    as in `quenched.sim.fluctuations.moments`: theory (time, component), the solution of the equations, and covariance,
    lim D Cov(x_D), with covariance_error, how far the averages in the diffusion leave it open, and `rtol` of the
    largest entry for the integration.  With one or two normals, of neurons, a teacher's and label noise, it is a bound:
    the largest difference from a coarser rule.  Beyond, and for losses with kinks beside label noise or two neurons
    with a curved activation, averages are sampled: it is the standard error of the mean of eight sequences, wider by
    1.18 as Student's t is with seven degrees of freedom, or half of what twice the points have changed, if that is
    more.  Where the drift itself is sampled, what that leaves open is not in it.

    ValueError: rules other than `OnlineSGD`, or with schedules, frozen parts, a sphere or a bath; inputs with a
    spectrum, means that grow with D, states without weights.
    IntegrationError: the solution blows up.

    >>> mixture, network = Mixture.two_clusters(sigma=1.0), TwoLayer(K=1, activation="linear")
    >>> state = OrderParameters(M=[[0.5], [-0.5]], Q=[[0.5]], v=[1.0])  # M = A*, the fixed point
    >>> found = fluctuations(mixture, network, OnlineSGD(0.5, second_lr=0.0), state, [1.0])
    >>> M = found.covariance.values[0, :2, :2]
    >>> bool(M[0, 0] > 0 and abs(M[0, 0] + M[0, 1]) < 1e-12)  # the two means are opposite
    True
    """
    import xarray as xr

    check_fluctuating(mixture, network, rule, state)
    times, rtol, seed = increasing_times("t", t), tolerance("rtol", rtol, at_least=FINEST), integer("seed", seed)
    path = NoisyPath(mixture, network, rule, seed)
    found, covariances = path.integrate(state, times, rtol)
    value, error = path.merged(covariances, rtol)
    parts = [path.coordinates.unpack(x) for x in found]
    curve = components(
        np.stack([mixture.means @ A for A, _, _ in parts]), *(np.stack([p[n] for p in parts]) for n in (1, 2))
    )
    names, pair = component_names(mixture.clusters, network.K), ("time", "component", "component_")
    return xr.Dataset(
        {
            "theory": (("time", "component"), curve),
            "covariance": (pair, value),
            "covariance_error": (pair, error),
        },
        coords={"time": times, "component": names, "component_": names},
        attrs=provenance(mixture=mixture, network=network, sgd=rule, initial_state=state, seed=seed),
    )


def check_fluctuating(mixture: Mixture, network: TwoLayer, rule: OnlineSGD, state: OrderParameters) -> None:
    """ValueError: a problem whose fluctuations are not derived, or a state that does not fit it."""
    record("mixture", mixture, Mixture), record("network", network, TwoLayer), record("rule", rule, OnlineSGD)
    record("state", state, OrderParameters)
    rule.require_plain("fluctuations")
    mixture.check_signs()
    if mixture.spectrum is not None:
        raise ValueError(f"mixture must have isotropic inputs, got the spectrum {mixture.spectrum}")
    teacher = mixture.teacher
    if teacher is not None and (teacher.sign or teacher.field_noise or teacher.v.ndim == 2):
        raise ValueError(
            f"mixture must have a teacher without sign, field_noise and readouts by cluster here, got {teacher!r}: "
            "what one sample adds is not averaged over those"
        )
    if rule.biased or state.b is not None:
        raise ValueError("rule and state must have no biases: their fluctuations are not among those derived")
    if state.K != network.K:
        raise ValueError(f"state must have K = {network.K} neurons like the network, got {state.K}")


def components(M: Array, Q: Array, v: Array) -> Array:
    """The order parameters along one last axis: M (.., C, K), the upper triangle of Q (.., K, K), v (.., K)."""
    upper = np.triu_indices(Q.shape[-1])
    return np.concatenate([M.reshape(*M.shape[:-2], -1), Q[..., upper[0], upper[1]], v], axis=-1)


def component_names(C: int, K: int) -> list[str]:
    """What `components` are of C clusters and K neurons."""
    upper = zip(*np.triu_indices(K), strict=True)
    return [
        *(f"M[{a},{k}]" for a in range(C) for k in range(K)),
        *(f"Q[{k},{l}]" for k, l in upper),
        *(f"v[{k}]" for k in range(K)),
    ]


class _Diffusion:
    """(A (p, K), Q (K, K), v (K,)) -> covariance of one step's increments by each of the rules (R, n, n)."""

    def __init__(self, mixture: Mixture, network: TwoLayer, rule: OnlineSGD, seed: int) -> None:
        self.mixture, self.rule, self.fields = mixture, rule, Fields(mixture, network)
        self.labels, self.slope = mixture.labels.astype(np.float64), loss_functions(rule.loss)[1]
        self.coordinates = Coordinates(mixture.dimensions, network.K)
        self.points = sample_points(self.fields, rule, seed)

    def __call__(self, A: Array, Q: Array, v: Array) -> Array:
        """In the coordinates of `Coordinates`."""
        joined_A, joined_Q, joined_v = (x for x in self.fields.joined(A[None], Q[None], v))
        return np.stack([self._by(r, joined_A[0], joined_Q[0], joined_v) for r in range(self.points.count)])

    def _by(self, which: int, A: Array, Q: Array, v: Array) -> Array:
        """By one rule of `points`."""
        rule, mixture, K = self.rule, self.mixture, self.fields.learning
        n = len(self.coordinates.pack(A[:, :K], Q[:K, :K], v[:K]))
        root = self.points.root(Q)
        along = A @ np.linalg.pinv(root, rcond=_SINGULAR)  # nu - mean = sigma along z + a rest
        product_, mean = np.zeros((n, n)), np.zeros(n)
        noise, spread = [], []
        for P, centre, sigma, y in zip(mixture.weights, mixture.means, mixture.sigmas, self.labels, strict=True):
            z, weights = self.points(which, centre @ A, sigma * root, v, float(y))
            inside = z[:, : len(root)]
            lam = centre @ A + sigma * inside @ root
            push, readout = self._slopes(lam, v, y + rule.label_noise * z[:, -1] if rule.label_noise else y)
            moved = theory.sample_increments(
                push,
                readout,
                centre + sigma * inside @ along.T,
                lam[:, :K],
                np.full(len(z), sigma**2),
                np.full(K, rule.eta),
                np.full(K, rule.eta_v),
                float(rule.batch),
            )
            rows = _packed(*moved)
            mean += P * weights @ rows
            product_ += P * (rows * weights[:, None]).T @ rows
            noise.append((push * weights[:, None]).T @ push)
            spread.append(sigma**2 * (np.eye(len(A)) - along @ along.T))
        found = product_ - np.outer(mean, mean)
        rest = theory.unresolved(mixture.weights, np.stack(noise), np.stack(spread), np.full(K, rule.eta))
        size = rest.shape[0] * rest.shape[1]
        found[:size, :size] += rest.reshape(size, size)
        return found / rule.batch

    def _slopes(self, lam: Array, v: Array, y: Array | float) -> tuple[Array, Array]:
        """dl/dlambda_k and dl/dv_k at the fields (n, N) of all neurons."""
        K, s = self.fields.learning, self.fields.s
        value, slope = self.fields.evaluate(lam)
        force = np.asarray(self.slope(s * value[:, :K] @ v[:K], y - s * value[:, K:] @ v[K:]))[:, None]
        return force * s * v[:K] * slope[:, :K], force * s * value[:, :K]


class NoisyPath:
    """The equations of a problem with those of the fluctuations beside them."""

    def __init__(self, mixture: Mixture, network: TwoLayer, rule: OnlineSGD, seed: int) -> None:
        self.mixture, self.network, self.rule = mixture, network, rule
        self.drift = drift_arrays(mixture, network, rule, seed=seed)
        self.tangents = drift_tangents(mixture, network, rule)
        self.diffusion = _Diffusion(mixture, network, rule, seed)
        self.coordinates = self.diffusion.coordinates

    def place(self, state: OrderParameters) -> Array:
        """The coordinates (n,) of a state."""
        start = densities(self.mixture, state)
        return self.coordinates.pack(start.A[0], start.Q[0], start.v)

    def rates(self, x: Array) -> Array:
        """dx/dt (n,)."""
        return self.coordinates.pack(*self.drift(*self.coordinates.unpack(x)))

    def integrate(
        self, state: OrderParameters, times: Array, rtol: float, spread: Array | float = 0.0
    ) -> tuple[Array, Array]:
        """States (T, n) and covariances (T, R, n, n) in the coordinates; `spread` (n, n) is the covariance at t = 0."""
        x = self.place(state)
        n, R = len(x), self.diffusion.points.count
        first = np.broadcast_to(spread, (R, n, n))
        y = np.concatenate([x, first.ravel()])

        def rates(_: float, y: Array) -> Array:
            unpacked, Sigma = self.coordinates.unpack(y[:n]), y[n:].reshape(R, n, n)
            turned = self.jacobian(y[:n]) @ Sigma
            speed = turned + turned.swapaxes(1, 2) + self.diffusion(*unpacked)
            return np.concatenate([self.rates(y[:n]), speed.ravel()])

        if times[-1] == 0:
            return np.repeat(x[None], len(times), axis=0), np.repeat(first[None], len(times), axis=0)
        with np.errstate(over="ignore", invalid="ignore"):  # looked at just below
            found = solve_ivp(rates, (0.0, times[-1]), y, "DOP853", times, rtol=rtol, atol=rtol * 1e-2)
        if not found.success or not np.isfinite(found.y).all():
            last = float(found.t[-1]) if len(found.t) else 0.0
            raise IntegrationError(
                f"the integration stopped after t = {last:.6g} of {times[-1]:.6g}: {found.message}; lower lr or end "
                "before this time",
                last,
                state,
            )
        return found.y[:n].T, found.y[n:].T.reshape(len(times), R, n, n)

    def jacobian(self, x: Array) -> Array:
        """d(dx/dt)/dx (n, n): exact where the averages of a step are closed, otherwise by central differences."""
        unpacked, unit = self.coordinates.unpack(x), np.eye(len(x))
        if self.tangents is not None:
            moved = [np.stack(part, axis=-1) for part in zip(*map(self.coordinates.unpack, unit), strict=True)]
            dA, dQ, dv = self.tangents(*unpacked, *moved)
            return np.stack([self.coordinates.pack(dA[..., z], dQ[..., z], dv[..., z]) for z in range(len(x))], axis=1)
        columns = []
        for e, size in zip(unit, np.maximum(1, np.abs(x)), strict=True):
            h = _STEP * size
            ahead, behind = (self.coordinates.pack(*self.drift(*self.coordinates.unpack(x + s * e))) for s in (h, -h))
            columns.append((ahead - behind) / (2 * h))
        return np.stack(columns, axis=1)

    def merged(self, covariances: Array, rtol: float) -> tuple[Array, Array]:
        """The covariance of the components (T, m, m) and its error, from those by each rule (T, R, n, n)."""
        unit = [self.coordinates.unpack(e) for e in np.eye(covariances.shape[-1])]
        turn = np.stack([components(self.mixture.means @ A, Q, v) for A, Q, v in unit], axis=1)
        each = turn @ covariances @ turn.T
        steps = rtol * np.abs(each).max(axis=(1, 2, 3), keepdims=True)[:, 0]
        value, error = self.diffusion.points.merged(each.swapaxes(0, 1))
        return value, error + steps


def _packed(dR: Array, dQ: Array, dv: Array) -> Array:
    """Rows of increments in the order of `Coordinates`."""
    upper = np.triu_indices(dQ.shape[-1])
    return np.concatenate([dR.reshape(len(dR), -1), dQ[:, upper[0], upper[1]], dv], axis=1)
