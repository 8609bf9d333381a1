"""Averages of one step over one or two local fields by quadrature, for any loss and activation.

The quadrature is compiled once, loss and activations are functions that it calls.  Two sources: that of
`quenched.numerics.step.cells_text`, integrals over the output, for two piecewise linear activations and a loss of one
output; otherwise that of `quenched.numerics.step.quadrature_text`, integrals over one field or both.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache, partial
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quenched.numerics.averages.activations import compiled_activation, piecewise_linear, value_averages
from quenched.numerics.averages.losses import CLASS_LOSSES, compiled_loss, loss, noise_rule
from quenched.numerics.averages.losses import kinks as loss_kinks
from quenched.numerics.compiled.compile import callbacks, load_compiled
from quenched.numerics.compiled.machine_code import address
from quenched.numerics.step.cells_text import cells_text
from quenched.numerics.step.quadrature_text import Functions, component_count, quadrature_text

__all__ = ["ClassQuadrature", "FieldQuadrature", "kink_places", "pair_tables", "triangles"]

Array = NDArray[np.float64]

_ALONG, _BOTH = 1e-11, 1e-9  # tolerance of a panel of integrals over one variable and over two, of one output
_USELESS = 1e-4  # an error, relative to 1 + the largest average, at which averages say nothing


@lru_cache(maxsize=64)
def _compiled(loss_name: str, activations: tuple[str, ...], outputs: int = 0) -> Any:
    """The quadrature over one field of each of the activations; a class loss has as many `outputs`."""
    kinks = tuple(kink_places(name) for name in activations)
    smooth = outputs > 0 or not any(len(loss_kinks(loss_name, y)) for y in (1.0, -1.0))
    step = load_compiled("field_quadrature", [quadrature_text(len(activations), outputs)]).step
    return partial(step, _functions(loss_name, activations, outputs), kinks, smooth and not any(map(len, kinks)))


@lru_cache(maxsize=64)
def _compiled_cells(loss_name: str, activations: tuple[str, ...]) -> Any:
    """The integrals over the output of two piecewise linear fields; None for other activations."""
    pieces = tuple(found for name in activations if (found := piecewise_linear(name)) is not None)
    if len(pieces) != 2 or len(activations) != 2:
        return None
    labels = (-1.0, 0.0, 1.0) if loss(loss_name).invariant else (-1.0, 1.0)  # 0 where a teacher makes them
    rows = [(y, float(row[0])) for y in labels for row in loss_kinks(loss_name, y)]
    step = load_compiled("field_quadrature", [cells_text()]).step
    return partial(step, _functions(loss_name, activations), pieces, np.array(rows).reshape(-1, 2))


def _functions(loss_name: str, activations: tuple[str, ...], outputs: int = 0) -> Functions:
    """Slope of the loss, g and g' of the fields; of one field twice."""
    if outputs:
        charged = CLASS_LOSSES[loss_name]
        term, slope = callbacks("loss", (charged.term, charged.slope))
    else:
        term = slope = compiled_loss(loss_name)
    found = slope, term, *compiled_activation(activations[0]), *compiled_activation(activations[-1])
    return Functions(*map(address, found))


def kink_places(activation: str) -> Array:
    """Where g or g' jumps.

    >>> kink_places("relu").tolist()
    [0.0]
    """
    return np.array([float(Fraction(position)) for position, _ in value_averages(activation).jumps])


def triangles(covariance: Array) -> Array:
    """L (C, N, N), lower triangular, with L L^T the covariances of one or two fields, which may be singular."""
    L = np.zeros_like(covariance)
    L[:, 0, 0] = np.sqrt(np.maximum(covariance[:, 0, 0], 0))
    if L.shape[1] == 2:
        L[:, 1, 0] = covariance[:, 1, 0] / np.where(L[:, 0, 0] > 0, L[:, 0, 0], 1)
        L[:, 1, 1] = np.sqrt(np.maximum(covariance[:, 1, 1] - L[:, 1, 0] ** 2, 0))
    return L


class FieldQuadrature:
    """Averages of one step over one or two fields, of which the first `learning` belong to the network."""

    def __init__(self, loss_name: str, activations: list[str], learning: int, labels: Array, noise: float) -> None:
        self.loss_name, names = loss_name, tuple(activations)
        self.step: Any = None
        self.tolerance = _ALONG
        self.joined = len(names) == learning or loss(loss_name).invariant  # phi - y is then the output of all fields
        if self.joined:
            self.step = _compiled_cells(loss_name, names)
        if self.step is None:
            self.step, self.tolerance = _compiled(loss_name, names), (_ALONG, _BOTH)[len(names) - 1]
        self.learning, self.labels, self.noise = learning, labels, noise_rule(noise)
        exact = noise == 0 or loss(loss_name).moments is not None
        self.fewer = None if exact else noise_rule(noise, 3 * self.noise.shape[1] // 4)

    def __call__(
        self, mean: Array, covariance: Array, output: Array, offset: float = 0.0
    ) -> tuple[tuple[Array, ...], Array, float]:
        """E[F g'_n], E[F g_n], E[F g'_n z_m], E[F^2 g'_n g'_m], E[F]; L (C, N, N) with lambda = mean + L z; an error.

        output (N,): s v_n, of which those of a teacher have the other sign; `offset`: the intercept of the output.
        """
        C, N = mean.shape
        L = triangles(covariance)
        taught = (np.arange(N) >= self.learning) & (not self.joined)
        found = np.empty((C, component_count(N)))
        weight, label = np.where(taught, 0.0, output), np.where(taught, -output, 0.0)
        error = self.step(mean, L, weight, label, offset, self.labels, self.noise, self.tolerance, found)
        if not error <= _USELESS * (1 + np.abs(found).max()):
            raise ValueError(
                f"loss {self.loss_name!r} grows too fast for outputs that spread by {self._spread(L, weight):.3g}: its "
                "averages come from inputs rarer than 1e-15; take a smaller lr or readout, or a bounded activation"
            )
        if self.fewer is not None:  # what the rule over the label noise is off by: its difference to a shorter one
            other = np.empty_like(found)
            self.step(mean, L, weight, label, offset, self.labels, self.fewer, self.tolerance, other)
            error += float(np.abs(other - found).max())
        return (*_split(found[:, :-1], N, N), found[:, -1]), L, float(error)

    def _spread(self, L: Array, weight: Array) -> float:
        """Readouts times the deviations of the fields, the largest over clusters."""
        return float(np.sqrt(((weight[:, None] * L).sum(axis=1) ** 2).sum(axis=1).max()))


class ClassQuadrature:
    """The same of a loss of several outputs: `classes` (C,) of the clusters."""

    def __init__(self, loss_name: str, activations: Sequence[str], classes: NDArray[np.int64], outputs: int) -> None:
        self.step = _compiled(loss_name, tuple(activations), outputs)
        self.classes = classes.astype(np.float64)

    def __call__(self, mean: Array, covariance: Array, output: Array) -> tuple[tuple[Array, ...], Array, float]:
        """E[push_n], E[F_c g_n] (C, outputs K), E[push_n z_m] and E[push_n push_m], L and an error, as above.

        output (outputs, K): s v_cn.
        """
        C, N = mean.shape
        L = triangles(covariance)
        found = np.empty((C, component_count(N, len(output))))
        weight, none = np.ascontiguousarray(output), noise_rule(0.0)
        error = self.step(mean, L, weight, np.zeros(N), 0.0, self.classes, none, (_ALONG, _BOTH)[N - 1], found)
        return _split(found, N, output.size), L, float(error)


def _split(found: Array, N: int, readouts: int) -> tuple[Array, ...]:
    """The averages that `step` has filled in, the last as a symmetric matrix."""
    C = len(found)
    force, readout, along, upper = np.split(found, np.cumsum([N, readouts, N * N]), axis=1)
    square = np.empty((C, N, N))
    square[(slice(None), *np.triu_indices(N))] = upper
    square.swapaxes(1, 2)[(slice(None), *np.triu_indices(N))] = upper
    return force, readout, along.reshape(C, N, N), square


def pair_tables(
    activations: Sequence[str], mean: Array, covariance: Array, tolerance: float
) -> tuple[dict[str, Array], dict[str, float]]:
    """The tables "g", "dg" and "g,g" of fields N(mean (C, N), covariance (C, N, N)), and the error of an entry of each.

    Averages over one field each, and over each pair of fields: those of a step whose slope is 1, -y at y = -1, or g of
    one of the fields.  `tolerance`: of a panel of the averages over pairs.
    """
    C, N = mean.shape
    first, slope, both = np.empty((C, N)), np.empty((C, N)), np.empty((C, N, N))
    errors = {"g": 0.0, "dg": 0.0, "g,g": 0.0}
    for name in dict.fromkeys(activations):
        (chosen,) = np.nonzero(np.array(activations) == name)
        fields = mean[:, chosen].reshape(-1, 1), covariance[:, chosen, chosen].reshape(-1, 1, 1)
        found, error = _averaged((name,), *fields, 0.0, -1.0, _ALONG)
        slope[:, chosen], first[:, chosen] = found[:, 0].reshape(C, -1), found[:, 1].reshape(C, -1)
        squares, square_error = _averaged((name,), *fields, 1.0, 0.0, _ALONG)
        both[:, chosen, chosen] = squares[:, 1].reshape(C, -1)
        for pattern, value in (("g", error), ("dg", error), ("g,g", square_error)):
            errors[pattern] = max(errors[pattern], value)
    kinds: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for k, m in combinations(range(N), 2):
        kinds.setdefault((activations[k], activations[m]), []).append((k, m))
    for kind, pairs in kinds.items():
        index = np.array(pairs)
        fields = mean[:, index].reshape(-1, 2), covariance[:, index[:, :, None], index[:, None]].reshape(-1, 2, 2)
        found, error = _averaged(kind, *fields, 1.0, 0.0, tolerance)
        k, m = index.T
        both[:, k, m] = both[:, m, k] = found[:, 3].reshape(C, -1)
        errors["g,g"] = max(errors["g,g"], error)
    return {"g": first, "dg": slope, "g,g": both}, errors


def _averaged(
    activations: tuple[str, ...], mean: Array, covariance: Array, weight: float, y: float, tolerance: float
) -> tuple[Array, float]:
    """E[F g'_n] and E[F g_n] and more, as `_sample` orders them, with F = weight g_0 - y, and the largest error."""
    N = len(activations)
    mean, covariance = np.ascontiguousarray(mean), np.ascontiguousarray(covariance)
    found = np.empty((len(mean), component_count(N)))
    weights = np.array([weight, 0.0])[:N]
    labels, step = np.full(len(mean), y), _compiled_cells("square", activations) or _compiled("square", activations)
    error = step(mean, triangles(covariance), weights, np.zeros(N), 0.0, labels, noise_rule(0.0), tolerance, found)
    return found, float(error)
