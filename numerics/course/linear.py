"""One linear neuron on one centred cluster, taught by a linear teacher: its learning equations are linear, and solved.

With c = s v and the error vector c w - w*, w* = sum_m v*_m w*_m, of squared length D S_u and overlaps D r_ub along the
nodes u of the spectrum, of variance rho_u and share s_u, the square loss gives

    dr_ub/dt = -eta c^2 rho_u r_ub,
    dS_u/dt  = -2 eta c^2 rho_u S_u + (eta^2 c^4/B) s_u rho_u (sum_v rho_v S_v + label noise^2)          (D -> infinity)

as the equations of `quenched.theory.two_layer` do.  In S_u/sqrt(s_u) the matrix is symmetric, a diagonal and a
projector, so that one eigendecomposition gives all times, however different the time scales are.

At finite D the mean over samples is closed as well, as inputs are Gaussian: E[(Delta x)^2] = rho E[Delta^2] + 2 (rho
e)^2 for an error e along a direction of variance rho.  With g_u = eta c^2 rho_u/D a step of a batch B does

    r_ub <- (1 - g_u) r_ub,   S_u <- (1 - 2 g_u + (1 + 1/B) g_u^2) S_u + (eta c^2/B) s_u g_u (sum_v rho_v S_v + noise^2)

exactly: the mean of runs of `simulate` at any D, to which no correction of order 1/D is left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from quenched.numerics.problem.checks import increasing_times, integer, record
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.provenance import provenance
from quenched.numerics.problem.rules import LearningRule
from quenched.numerics.problem.state import Densities, OrderParameters
from quenched.numerics.problem.variables import describing

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["LinearStudent", "linear_mean"]

Array = npt.NDArray[np.float64]


class LinearStudent:
    """The solution from `state` on: of the equations, or with D the mean over runs in that dimension.

    ValueError: the problem is not of this kind, with the argument that makes it another.
    """

    def __init__(
        self, mixture: Mixture, network: TwoLayer, rule: LearningRule, state: Densities, D: int | None = None
    ) -> None:
        _check(mixture, network, rule, state)
        self.D, self.readout = D, state.v
        self.evaluations, self.vanished = 0, dict[int, float]()  # as trajectories of other methods have them
        self.c = network.output_scale * float(state.v[0])
        self.rho, share = mixture.eigenvalues[0], mixture.shares
        taught = mixture.taught
        self.w = taught.v @ taught.weights  # w*/sqrt(D), (p,)
        self.G = mixture.alignment
        self.r = self.c * state.A[:, :, 0] - self.G @ self.w
        self.size = self.w @ self.G @ self.w
        S = self.c**2 * state.Q[:, 0, 0] - 2 * self.c * (state.A[:, :, 0] @ self.w) + self.size
        eta, noise, B = rule.eta * self.c**2, rule.label_noise**2, rule.batch
        self.root = np.sqrt(share)
        drive = self.root * self.rho  # of S/root
        if D is None:
            decay, fed = -2 * eta * self.rho, eta**2 / B * drive
            self.slope = -eta * self.rho
        else:
            step = eta * self.rho / D
            decay, fed = -2 * step + (1 + 1 / B) * step**2, eta**2 / (B * D) * drive
            self.slope = -step
        if not rule.diffusion:
            fed = np.zeros_like(drive)
        matrix = np.diag(decay) + fed[:, None] * drive
        self.values, self.vectors = np.linalg.eigh(matrix)
        self.start = self.vectors.T @ (S / self.root)
        self.source = self.vectors.T @ (fed * noise)

    def errors(self, t: float) -> tuple[Array, Array]:
        """S (U,) and r (U, p) at time t, at finite D after round(t D) steps."""
        if self.D is None:
            with np.errstate(over="ignore"):
                grown, moved = np.expm1(self.values * t), np.exp(self.slope * t)
            limit = t
        else:
            n = round(t * self.D)
            with np.errstate(over="ignore", divide="ignore"):
                # (1 + a)^n - 1 where a is small against 1; a >= -1 as squares stay positive
                grown, moved = np.expm1(n * np.log1p(np.maximum(self.values, -1.0))), (1 + self.slope) ** n
            limit = float(n)
        safe = np.where(self.values == 0, 1.0, self.values)
        added = np.where(self.values == 0, limit, grown / safe)
        S = self.root * (self.vectors @ (self.start * (1 + grown) + self.source * added))
        return np.maximum(S, 0.0), self.r * moved[:, None]

    def state(self, t: float) -> Densities:
        """The state at time t; at finite D means of A and Q."""
        S, r = self.errors(t)
        if not np.isfinite(S).all():
            raise OverflowError(f"the risk of a linear student is infinite at t = {t:g}: lower lr")
        A = (r + self.G @ self.w) / self.c
        Q = (S + 2 * self.c * (A @ self.w) - self.size) / self.c**2
        return Densities(A[:, :, None], np.maximum(Q, 0.0)[:, None, None], self.readout)

    def at(self, times: Sequence[float] | Array, progress: Callable[[float], None] | None = None) -> list[Densities]:
        """The states at these times."""
        found = []
        for t in times:
            found.append(self.state(float(t)))
            if progress is not None:
                progress(float(t))
        return found


def _check(mixture: Mixture, network: TwoLayer, rule: LearningRule, state: Densities) -> None:
    """ValueError unless the equations are linear."""
    if mixture.clusters != 1 or mixture.means.any():
        raise ValueError(f"mixture must be one cluster at the origin for a linear student, got {mixture!r}")
    taught = mixture.teacher
    if taught is None or taught.activation != "linear" or taught.sign or taught.field_noise or taught.v.ndim != 1:
        raise ValueError(f"mixture must have a linear teacher without noise at its fields, got {taught!r}")
    if network.K != 1 or network.activation != "linear":
        raise ValueError(f"network must be one linear neuron, got {network!r}")
    plain = rule.steady and not (rule.sphere or rule.biased or rule.momentum or rule.scheduled["temperature"])
    if not plain or rule.loss != "square" or rule.scheduled["kappa"] or rule.learning(1)[0][0] == 0:
        raise ValueError(
            "rule must have the square loss and a constant rate alone, no decay, sphere, bath, momentum or biases, for "
            f"a linear student, got {rule!r}"
        )
    if rule.learning(1)[1][0] and rule.scheduled["eta_v"]:
        raise ValueError(f"rule must not train the readout of a linear student: frozen=('v',), got {rule!r}")
    if state.b is not None or state.v[0] == 0:
        raise ValueError(f"state must have a readout other than 0 and no biases for a linear student, got {state!r}")


@describing
def linear_mean(
    mixture: Mixture,
    network: TwoLayer,
    rule: LearningRule,
    state: OrderParameters | Densities,
    t: npt.ArrayLike,
    D: int,
) -> xr.Dataset:
    """The mean over runs of a linear student in dimension D, exact: what `simulate` scatters about, without limits.

    `mixture`: one cluster at the origin with a linear teacher, and any spectrum; `network`: one linear neuron; `rule`:
    square loss, a constant rate, the readout frozen; `t`: increasing times, one unit being D steps; `state`: densities,
    or overlaps, which are spread over the nodes as for D -> infinity.

    Returns a dataset along time, with `step` = round(t D): pmse, without label noise, Q and R, of which the mean over
    samples is taken.  ValueError: the problem is not of this kind.

    At lr = D the first step on one direction of variance 1 is w = y x/x, off by (1 - x^2) w*: E[(1 - x^2)^2] = 2.

    >>> from quenched.numerics import GradientFlow, OnlineSGD, Teacher
    >>> mixture = Mixture([[0.0]], teacher=Teacher([[1.0]], [1.0], "linear"))
    >>> start = OrderParameters(M=[[0.0], [0.0]], Q=[[0.0]], v=[1.0])
    >>> run = linear_mean(mixture, TwoLayer(1, "linear"), OnlineSGD(1.0, frozen=("v",)), start, [0.0, 1.0], D=1)
    >>> (2 * run.pmse.values).round(12).tolist()
    [1.0, 2.0]
    """
    import xarray as xr

    record("mixture", mixture, Mixture), record("network", network, TwoLayer), record("rule", rule, LearningRule)
    record("state", state, (OrderParameters, Densities))
    times, size = increasing_times("t", t), integer("D", D, at_least=1)
    begin = Densities.spread(mixture, state) if isinstance(state, OrderParameters) else state
    begin.check(mixture)
    if not rule.diffusion:
        raise ValueError(f"rule must be online SGD at finite D, got {rule!r}")
    student = LinearStudent(mixture, network, rule, begin, size)
    states = student.at(times)
    totals = [each.overlaps(mixture) for each in states]
    pmse = [float(student.rho @ student.errors(float(time))[0]) / 2 for time in times]
    return xr.Dataset(
        {
            "pmse": ("time", np.array(pmse)),
            "Q": (("time", "neuron", "neuron_"), np.stack([each.Q for each in totals])),
            "R": (("time", "teacher", "neuron"), np.stack([each.M[1:] for each in totals])),
        },
        {"time": times, "step": ("time", np.rint(times * size).astype(np.int64))},
        provenance(mixture=mixture, network=network, sgd=rule, initial_state=state, D=size),
    )
