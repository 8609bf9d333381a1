"""The risk of the power-law problem by the deterministic equivalent of its features: no features are drawn.

    L(n) = (1/2 pi i) integral of exp(s n) risk_transform(target, degrees, trace, s/(2 lr), lr, batch) ds
    kappa = zeta + (kappa/P) sum_j lambda_j/(lambda_j + kappa)

All poles and cuts are real and negative but for the pole at 0 of what is never learned: the integral goes over a
contour of Talbot's kind around them (Trefethen, Weideman and Schmelzer 2006), whose sum converges as 3.9^-N.  kappa is
followed from large |zeta|, where it is zeta + trace/P, down to each point; of the roots the one with Im kappa/Im zeta >
0 is that of a resolvent, and there is no other such (Silverstein 1995).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from quenched.numerics.problem.checks import increasing_times, record
from quenched.numerics.problem.provenance import provenance
from quenched.numerics.problem.variables import describing
from quenched.numerics.scaling.power_law import PowerLaw
from quenched.theory.scaling.power_laws import risk_transform

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["CONTOURS", "power_law_floor", "power_law_risk", "risk_at"]

Array = npt.NDArray[np.float64]
Complex = npt.NDArray[np.complex128]

CONTOURS = (24, 20)
"""Points of the contours, the better first; the difference of the two is the error."""
_TOLERANCE = 1e-13  # of kappa, relative
_STEP = 0.2  # of zeta on the way down, as a factor
_NEWTON, _HALVINGS = 12, 20


class _Features:
    """Sums over the inputs of a law, and kappa."""

    def __init__(self, law: PowerLaw) -> None:
        j, self.weights = law.nodes()
        self.P = math.inf if law.features is None else float(law.features)  # inf: the inputs themselves
        self.lam = j ** (-2 * law.a)
        self.beta = self.weights * j ** (-2 * law.b)
        self.power = self.beta * self.lam
        self.noise = law.label_noise**2
        self.trace = float(self.weights @ self.lam)

    def degrees(self, kappa: Any) -> Any:
        """sum_j lambda_j/(lambda_j + kappa)."""
        return (self.lam / (self.lam + kappa[..., None])) @ self.weights

    def target(self, kappa: Any) -> Any:
        """sum_j lambda_j beta_j^2 kappa/(lambda_j + kappa) and the label noise."""
        return kappa * ((1 / (self.lam + kappa[..., None])) @ self.power) + self.noise

    def forcing(self, kappa: Complex, zeta: Complex, per_step: float) -> Complex:
        """The target at (times, contour), less C zeta (1 - K) with C = sum_j beta_j^2 over the directions of lambda_j >
        |zeta|, and K = `per_step` (trace - zeta degrees).

        The transform is then less by a constant, that of a peak at no steps, which the risk later does not have.  At
        many steps the constant is nearly all of it: what is left is summed without differences of large numbers.
        """
        shift = kappa * self.degrees(kappa) / self.P  # kappa - zeta
        over = 1 / (self.lam + kappa[..., None])
        fast = self.lam > np.abs(zeta[:, :1])
        slow = np.einsum("tcj,tj->tc", over, np.where(fast, 0.0, self.power))
        error = np.einsum("tcj,tj->tc", over, np.where(fast, self.beta, 0.0))
        kernel = over @ (self.weights * self.lam**2) + shift * (over @ (self.weights * self.lam))
        source = (fast @ self.beta)[:, None]
        found: Complex = source * (shift + zeta * per_step * kernel) - kappa**2 * error + kappa * slow + self.noise
        return found

    def excess(self, kappa: Complex, zeta: Complex) -> tuple[Complex, Complex]:
        """kappa - zeta - kappa degrees/P and its derivative."""
        seen = self.lam / (self.lam + kappa[:, None])
        return kappa - zeta - kappa * (seen @ self.weights) / self.P, 1 - (seen**2 @ self.weights) / self.P

    def root(self, zeta: Complex, guess: Complex) -> Complex | None:
        """kappa at zeta by Newton's method; None where it goes elsewhere than to the root of the resolvent."""
        kappa = guess
        for _ in range(_NEWTON):
            f, slope = self.excess(kappa, zeta)
            step = f / slope
            kappa = kappa - step
            if (np.abs(step) <= _TOLERANCE * np.abs(kappa)).all():
                return kappa if (kappa.imag * zeta.imag > 0).all() else None
        return None

    def kappas(self, zetas: Complex) -> Complex:
        """kappa (times, contour) at zetas, those of increasing times on one ray for each point of the contour."""
        if math.isinf(self.P):
            return zetas
        unit = zetas[0] / np.abs(zetas[0])
        scale = max(float(np.abs(zetas[0]).max()), 10 * float(self.lam[0] + self.trace / self.P))
        at = unit * scale
        kappa, found = at + self.trace / self.P, []
        for zeta in zetas:
            halvings, factor = 0, _STEP
            while True:
                aim = np.maximum(np.abs(zeta), factor * np.abs(at)) * unit
                new = self.root(aim, kappa + (aim - at) / self.excess(kappa, at)[1])
                if new is None:
                    factor, halvings = factor**0.5, halvings + 1
                    if halvings > _HALVINGS:
                        raise RuntimeError(
                            f"kappa was not found at |zeta| = {np.abs(aim).min():.3g} for {self.P:g} features: the "
                            "resolvent's root is not isolated to rounding; ask for fewer steps"
                        )
                    continue
                at, kappa = aim, new
                if (at == np.abs(zeta) * unit).all():
                    break
            found.append(kappa)
        return np.array(found)


def _contour(N: int) -> tuple[Complex, Complex]:
    """Points z = s n of the upper half of the contour, and exp(z) dz/N times 2: the risk is Im of the sum over n."""
    theta = np.pi * (np.arange(N // 2) * 2 + 1) / N
    cot = 1 / np.tan(0.6407 * theta)
    z = N * (-0.4814 + 0.6122 * theta * cot + 0.2645j * theta)
    slope = N * (0.6122 * cot - 0.6122 * 0.6407 * theta / np.sin(0.6407 * theta) ** 2 + 0.2645j)
    return z, 2 / N * np.exp(z) * slope


def risk_at(law: PowerLaw, steps: Array, contours: tuple[int, ...] = CONTOURS) -> tuple[Array, Array]:
    """The risk after `steps` > 0, increasing, and its error: the difference of two contours, and rounding.

    `contours`: numbers of their points, the better first; of a single one the error is that of rounding.
    """
    features, found = _Features(law), []
    for N in contours:
        z, weights = _contour(N)
        zeta: Any = z / (2 * law.lr * steps[:, None])
        kappa = features.kappas(zeta)
        degrees: Any = features.degrees(kappa)
        forcing: Any = features.forcing(kappa, zeta, law.lr / (2 * law.batch))
        transform: Any = risk_transform(forcing, degrees, features.trace, zeta, law.lr, law.batch)
        found.append((transform @ weights).imag / steps)
    # exp(z) <= exp(0.13 N) beside results of order 1 in these units
    rounding = 1e-14 * np.abs(transform * weights).sum(axis=1) / steps
    return found[0], np.abs(found[0] - found[-1]) + rounding


@describing
def power_law_risk(law: PowerLaw, steps: npt.ArrayLike) -> xr.Dataset:
    """The mean square error E[(phi - y)^2] of the power-law problem along one-pass SGD, averaged over its features.

    `steps`: increasing numbers of steps > 0, one or more, which need not be whole: steps are small (the continuous-time
    limit, `integrate`; at finite lr the first directions, of lr lambda_j of order 1, differ).  Returns a dataset along
    `step`: risk, at labels with their noise, risk_error, a bound for the sum over the contour where the latter
    converges geometrically, as it does, and the scalars floor, its limit at small lr and many steps, and lr.  The
    deterministic equivalent itself is exact as P, D -> infinity; features drawn at P differ by a relative order of
    P^(-1/2) in a run and of 1/P on average.

    RuntimeError: kappa was not found.  Source: Paquette, Paquette, Xiao and Pennington (2024), their Volterra equation.

    At the end the risk is 1/(1 - rate) times the floor:

    >>> run = power_law_risk(PowerLaw(1.0, 0.75, inputs=4000, features=1000, rate=0.25), [1e2, 1e10])
    >>> round(float(run.risk[-1] / run.floor), 6)
    1.333333
    """
    import xarray as xr

    record("law", law, PowerLaw)
    times = increasing_times("steps", steps)
    if times[0] <= 0:
        raise ValueError(f"steps must be > 0, got {times[0]!s}")
    risk, error = risk_at(law, times)
    return xr.Dataset(
        {
            "risk": ("step", risk),
            "risk_error": ("step", error),
            "floor": ((), power_law_floor(law)),
            "lr": ((), law.lr),
        },
        {"step": times},
        provenance(law=law),
    )


def power_law_floor(law: PowerLaw) -> float:
    """What the best theta leaves, min E[(phi - y)^2]: sum_j lambda_j beta_j^2 kappa/(lambda_j + kappa) + label noise^2
    at zeta = 0, where sum_j lambda_j/(lambda_j + kappa) = P.

    SGD at a constant rate ends at 1/(1 - rate) times that.

    >>> from quenched.numerics import PowerLaw
    >>> power_law_floor(PowerLaw(1.0, 0.5, inputs=100, features=100)), power_law_floor(PowerLaw(1.0, 0.5, inputs=100))
    (0.0, 0.0)
    """
    from scipy.optimize import brentq

    features = _Features(record("law", law, PowerLaw))
    if law.inputs <= features.P:
        return features.noise

    def missing(log_kappa: float) -> float:
        return float(features.degrees(np.array(np.exp(log_kappa)))) - features.P

    low = np.log(features.lam[-1]) + np.log1p(-features.P / law.inputs) - 1.0
    high = np.log(features.trace / features.P) + 1e-3  # degrees < trace/kappa
    while missing(low) < 0:
        low -= 1.0
    return float(features.target(np.array(np.exp(brentq(missing, low, high, xtol=1e-14, rtol=1e-14)))))
