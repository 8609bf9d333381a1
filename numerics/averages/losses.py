"""The losses, read from one place: value, slope and curvature of a loss by its name or its expression in phi and y.

The formulas are those of `quenched.theory.losses`, or of a module derived on first use for an expression.  Those of
several outputs are functions of one output and of a sum over all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from quenched.numerics.compiled.cache import derived_module
from quenched.numerics.compiled.compile import callbacks
from quenched.symbolic.language.grammar import LOSS, expression
from quenched.theory import losses as theory

__all__ = [
    "CLASS_LOSSES",
    "ClassLoss",
    "check_minimised",
    "coefficients",
    "compiled_loss",
    "compiled_value",
    "convex_loss",
    "kinks",
    "loss",
    "loss_functions",
    "noise_rule",
    "noisy_slope",
]

Array = npt.NDArray[np.float64]

_OUTPUTS = np.sinh(np.linspace(-12, 12, 2000))  # +-8e4, dense around 0, where properties of a loss are looked for
_JUMP = 1e-7  # of slope or curvature, relative to 1 + their size: smaller ones are none
_LARGE = 1e150  # slopes whose products are no numbers
_NOISE_NODES = 40  # Gauss-Hermite nodes over the label noise


def loss(name: str) -> theory.Loss:
    """The generated functions of a loss, derived on first use if it is an expression.

    >>> loss("square").text
    '(phi - y)**2/2'
    """
    return theory.LOSSES[name] if name in theory.LOSSES else _derived(expression(name, LOSS))


@lru_cache(maxsize=64)
def _derived(text: str) -> theory.Loss:
    found: theory.Loss = derived_module("loss", text, "--loss").LOSSES["custom"]
    return found


def loss_functions(name: str) -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    """l, dl/dphi and d^2l/dphi^2 (away from kinks) as ufunc expressions of phi and y, on NumPy or CuPy arrays.

    >>> value, slope, curvature = loss_functions("logistic")
    >>> float(slope(0.0, 1.0)), float(curvature(0.0, -1.0)), float(value(-1000.0, 1.0))
    (-0.5, 0.25, 1000.0)
    """
    found = loss(name)
    return found.value, found.slope, found.curvature


@lru_cache(maxsize=64)
def compiled_loss(name: str) -> Any:
    """dl/dphi of two numbers phi and y as a numba `cfunc`, an argument of compiled loops.

    >>> compiled_loss("square").ctypes(2.0, -1.0)
    3.0
    """
    (slope,) = callbacks("loss", (loss(name).slope,))
    return slope


@lru_cache(maxsize=64)
def compiled_value(name: str) -> Any:
    """l(phi, y) likewise.

    >>> compiled_value("square").ctypes(2.0, 0.0)
    2.0
    """
    (value,) = callbacks("loss", (loss(name).value,))
    return value


class ClassLoss(NamedTuple):
    """A loss of several outputs phi_c at a one-hot label y_c: functions of one output and of a sum over all of them.

    term: (phi_c, top) -> what an output adds to the sum `total`, top being the largest output; value: (output of the
    right class, top, total) -> l; slope: (phi_c, y_c, top, total) -> dl/dphi_c.  All are ufunc expressions.
    """

    term: Callable[..., Any]
    value: Callable[..., Any]
    slope: Callable[..., Any]

    def on(self, elementwise: Callable[[Callable[..., Any]], Callable[..., Any]]) -> ClassLoss:
        """The same of the functions that `elementwise` makes, such as those of another array library."""
        return ClassLoss(*map(elementwise, self))

    def slopes(self, phi: Any, y: Any, xp: Any = np) -> Any:
        """dl/dphi_c (.., c) of outputs and labels (.., c), arrays of the module `xp`.

        >>> CLASS_LOSSES["cross-entropy"].slopes(np.array([1e4, 1e4, 0.0]), np.array([1.0, 0.0, 0.0])).tolist()
        [-0.5, 0.5, 0.0]
        """
        top = xp.max(phi, axis=-1, keepdims=True)
        return self.slope(phi, y, top, xp.sum(self.term(phi, top), axis=-1, keepdims=True))

    def values(self, phi: Any, y: Any, xp: Any = np) -> Any:
        """l (..) likewise.

        >>> float(CLASS_LOSSES["cross-entropy"].values(np.array([700.0, -700.0]), np.array([0.0, 1.0])))
        1400.0
        """
        top = xp.max(phi, axis=-1)
        return self.value(xp.sum(phi * y, axis=-1), top, xp.sum(self.term(phi, top[..., None]), axis=-1))


CLASS_LOSSES: dict[str, ClassLoss] = {
    "cross-entropy": ClassLoss(theory.cross_entropy_term, theory.cross_entropy_value, theory.cross_entropy_slope)
}
"""The losses of several outputs by name: those of `quenched.symbolic.language.grammar.CLASS_LOSSES`."""


def coefficients(name: str, y: Array, noise: float = 0.0) -> tuple[Array, ...]:
    """L0, L1, L2, F0, F1, S0, S1, S2, each (C,): coefficients of loss, slope and its square in phi at the labels y.

    ValueError: the loss is not of degree 2 in phi, `loss(name).coefficients` is None.
    """
    found = loss(name).coefficients
    if found is None:
        raise ValueError(f"loss {name!r} is not a polynomial of degree 2 in phi: its averages do not close")
    return tuple(np.ascontiguousarray(np.broadcast_to(c, y.shape), dtype=np.float64) for c in found(y, noise))


def noise_rule(noise: float, count: int = _NOISE_NODES) -> Array:
    """Nodes and weights (2, n) of an average over `noise`·N(0, 1): one node at 0 where there is none."""
    if noise == 0:
        return np.array([[0.0], [1.0]])
    nodes, weights = np.polynomial.hermite_e.hermegauss(count)
    return np.stack([noise * nodes, weights / weights.sum()])


def noisy_slope(name: str, noise: float) -> Callable[[Array, Array], tuple[Array, Array]]:
    """(phi, y) -> dl/dphi and its square averaged over the label noise `noise`·N(0, 1).

    Of a polynomial by its moments; otherwise by Gauss-Hermite quadrature, for losses without kinks.
    """
    found = loss(name)
    if found.moments is not None:
        moments = found.moments
        return lambda phi, y: moments(phi, y, noise)  # type: ignore[return-value]
    rule = noise_rule(noise).T

    def averaged(phi: Array, y: Array) -> tuple[Array, Array]:
        first = second = np.zeros(())
        for node, weight in rule:
            slope = np.asarray(found.slope(phi, y + node))
            first, second = first + weight * slope, second + weight * slope**2
        return first, second

    return averaged


@lru_cache(maxsize=64)
def convex_loss(name: str) -> bool:
    """Whether the loss rises again at large margins; ValueError if its slope falls anywhere."""
    _, slope, _ = loss_functions(name)
    phi = _OUTPUTS
    rising = True
    for y in (1.0, -1.0):
        with np.errstate(all="ignore"):
            slopes = np.broadcast_to(slope(phi, y), phi.shape).astype(float)
        finite = np.isfinite(slopes)
        drop = np.diff(slopes[finite])
        size = np.maximum(np.abs(slopes[finite][1:]), np.abs(slopes[finite][:-1]))
        if (drop < -1e-12 * size - 1e-300).any():
            at = phi[finite][int(np.argmin(drop))]
            raise ValueError(
                f"loss must be convex in phi, got {name!r}, whose slope falls at phi = {at:.3g}, y = {y:g}"
            )
        rising = rising and bool(y * slopes[finite][-1 if y > 0 else 0] > 1e-12)
    return rising


def check_minimised(name: str, ridge: float, intercept: bool) -> None:
    """ValueError: a convex loss by which no weights are the best, or those that are 0.

    A loss is least at the output 0 if its slope changes sign there at both labels, as it does for one that is
    homogeneous and never negative.  It is unbounded below if its slope does not vanish at large margins; a ridge bounds
    the weights then, and nothing the intercept.
    """
    _, slope, _ = loss_functions(name)
    idle, unbounded = True, False
    for y in (1.0, -1.0):
        with np.errstate(all="ignore"):
            below, above, high = (y * float(slope(y * phi, y)) for phi in (-1e-12, 1e-12, _OUTPUTS[-1]))
        idle = idle and below <= 0 <= above
        unbounded = unbounded or high < -1e-6
    if idle:
        raise ValueError(
            f"loss must charge an output of 0 more than another, got {name!r}, which no weights lower: w = 0 is a "
            "minimiser at any ridge"
        )
    if unbounded and (ridge == 0 or intercept):
        what = "the weights, and a ridge > 0" if ridge == 0 else "the intercept, and intercept=False"
        raise ValueError(f"loss must be bounded below, got {name!r}: nothing bounds {what} would")


@lru_cache(maxsize=64)
def kinks(name: str, y: float) -> Array:
    """Where the loss has a kink or its slope has one, at the label y: rows of phi, slope below, slope above, (K, 3).

    Between two outputs of a grid that slope and curvature do not join smoothly the interval is halved, towards the half
    that joins worse, down to neighbouring floats.

    >>> kinks("hinge", 1.0).tolist(), kinks("logistic", 1.0).tolist()
    ([[1.0, -1.0, 0.0]], [])
    """
    _, slope, curvature = loss_functions(name)

    def seen(function: Callable[..., Any], phi: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.broadcast_to(np.asarray(function(phi, y), dtype=np.float64), phi.shape)

    def gap(a: Array, b: Array) -> Array:
        ends = seen(curvature, a), seen(curvature, b)
        joined = np.abs(seen(slope, b) - seen(slope, a) - (ends[0] + ends[1]) / 2 * (b - a))
        return np.nan_to_num(np.abs(ends[1] - ends[0]) + joined / np.maximum(b - a, 1e-300))

    with np.errstate(all="ignore"):
        small = np.all([np.abs(seen(f, _OUTPUTS)) < _LARGE for f in (slope, curvature)], axis=0)
    grid = _OUTPUTS[small]  # a kink beyond is none that floats can tell
    a, b = grid[:-1].copy(), grid[1:].copy()
    for _ in range(70):
        middle = (a + b) / 2
        left = gap(a, middle) > gap(middle, b)
        inside = (a < middle) & (middle < b)
        a, b = np.where(inside & ~left, middle, a), np.where(inside & left, middle, b)
    below, above = a - 4 * np.spacing(np.abs(a) + 1), b + 4 * np.spacing(np.abs(b) + 1)
    slopes, curvatures = ((seen(f, below), seen(f, above)) for f in (slope, curvature))
    jumps = [np.abs(high - low) > _JUMP * (1 + np.abs(low) + np.abs(high)) for low, high in (slopes, curvatures)]
    found = jumps[0] | jumps[1]
    at_a = seen(slope, a)
    on_a = (at_a != slopes[0]) | (a == np.round(a))  # a value between the two, or a round number, is the kink itself
    rows = np.stack([np.where(on_a, a, b), np.where(jumps[0], slopes[0], at_a), np.where(jumps[0], slopes[1], at_a)])
    return np.ascontiguousarray(rows.T[found]) + 0.0  # no -0
