"""Certificates: every generated formula against quadrature of the average that defines it.

Points are seeded by the formula's name; the hard ones are the same for all: correlation ±1 and within 1e-8 of it,
repeated and opposite fields, zero variance, means eight standard deviations out, variances of 1e-12 and 1e12 (25 for
oscillating ones).

Digits are -log10(|value - reference|/size), size being the product over the factors g, g', g'' of their largest value
within |mean| + 2 deviations of the origin (a jump of g' counts in full in g', as jump/deviation in g''): where an
average is much smaller than its factors, eight deviations out, they are absolute digits.  Compiled values are meant to
be right to an absolute error; for them sizes below one count as one.

Required are 25 digits of averages over one and two fields and 12 over three and four.  Of compiled ones 11 digits are
required, and 8 where the covariance is singular or within 1e-8 of it: float64 holds it to 1e-16, and an average near a
singular covariance changes by the square root of such a change.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quenched.numerics.averages.activations import activation_functions, averages, tables
from quenched.numerics.averages.defining_average import DIGITS, Point, points, reference, sum_over_pairs
from quenched.numerics.averages.losses import coefficients
from quenched.numerics.averages.multiprecision import precise_averages
from quenched.numerics.compiled.precision import context
from quenched.numerics.probability.quadrature import converged, legendre
from quenched.theory import activations as theory
from quenched.theory import biases, momentum, normal, two_layer

__all__ = ["Certificate", "certify", "certify_equations", "digits", "document"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Certificate:
    """One value at one point: `digits` to which formula and quadrature agree, those `required`, and the latter's error.

    `path`: "mpmath" (the formula at high precision), "compiled" (float64, `averages.tables`) or "numpy".
    """

    formula: str
    layout: str
    point: str
    path: str
    digits: float
    required: float
    reference_error: float


# points that take seconds for two fields
_SLOW = ("random 2", "8 sigma out", "variance", "correlation 1 -", "correlation 5e-9")


def certify(names: Iterable[str] | None = None, quick: bool = False) -> list[Certificate]:
    """Certificates of the averages of activations, built-in names or expressions; None: of every generated formula.

    `quick`: of two fields near correlation ±1, far out, or of extreme scales only relu's; at high precision three and
    four fields at one point each.  ValueError: an activation whose averages have no closed form.
    """
    found: list[Certificate] = []
    for name in theory.ACTIVATIONS if names is None else names:
        activation = averages(name)
        if not activation.groups:
            raise ValueError(f"activation {name!r}: its averages have no closed form, there is nothing to certify")
        centred = all(Fraction(k) == 0 for k, _ in activation.jumps)
        oscillates = re.search(r"\b(sin|cos)\(", activation.text) is not None
        for n in range(1, len(activation.groups) + 1):
            for point in points(name, n, oscillates):
                slow = n == 2 and name != "relu" and point.label.startswith(_SLOW)
                if not (quick and slow) and (centred or n < 3 or not point.planar):
                    found += _certificates(name, activation, n, point, quick)
    return found if names is not None else [*found, *certify_equations()]


def _certificates(name: str, activation: theory.Averages, n: int, point: Point, quick: bool) -> Iterator[Certificate]:
    expected, sizes, error = reference(activation, n, point)
    paths: dict[str, tuple[Mapping[str, Any], float]] = {
        "compiled": (_compiled(name, expected, *point.law()), 8.0 if point.singular else 11.0)
    }
    if n <= 2:
        law = point.law(context(2 * DIGITS[0]))
        paths["mpmath"] = precise_averages(activation, n, *law, DIGITS[0] + 3), 25.0
    elif not quick or point.label == "random 1":
        law = point.law(context(4 * DIGITS[-1]))
        paths["mpmath"] = precise_averages(activation, n, *law, DIGITS[-1] + 1), 12.0
    for path, (values, digits) in paths.items():
        for layout, value in values.items():
            size = sizes[layout] or 1
            gap = abs(value - expected[layout]) / (max(size, 1) if path == "compiled" else size)
            yield Certificate(f"{name}_{n}", layout, point.label, path, _digits(gap), digits, error)


def _digits(gap: Any) -> float:
    return float(-np.log10(max(float(gap), 1e-30)))


def _compiled(name: str, layouts: Iterable[str], mean: Array, covariance: Array) -> dict[str, float]:
    """The averages from the compiled tables: a layout's factors, sorted, name a table, their fields the entry."""
    found = tables(name, mean[None], covariance[None])
    result = {}
    for layout in layouts:
        factors = [(f, i) for i, part in enumerate(layout.split(",")) for f in part.split("*")]
        factors.sort(key=lambda item: ("ddg", "dg", "g").index(item[0]))
        result[layout] = float(found[",".join(f for f, _ in factors)][0][tuple(i for _, i in factors)])
    return result


# --- the other formulas -----------------------------------------------------------------------------------------------


def certify_equations() -> list[Certificate]:
    """Certificates of the normal probabilities and of the learning equations."""
    return [*_normal_certificates(), *_learning_certificates(), *_momentum_certificates()]


def _normal_certificates() -> Iterator[Certificate]:
    """`theory.normal`: probabilities at well-conditioned correlations, against the density summed over the orthant."""
    rng = np.random.default_rng(list(b"normal"))
    for n, function in ((2, normal.Phi2), (3, normal.Phi3), (4, normal.Phi4)):
        loadings = np.eye(n) + 0.4 * rng.uniform(-1, 1, (n, n))
        R = (unit := loadings / np.linalg.norm(loadings, axis=1)[:, None]) @ unit.T
        h, P = rng.uniform(-1, 1, n), np.zeros((4, 4))
        P[:n, :n] = np.linalg.inv(R)

        def rule(order: int, n: int = n, R: Array = R, h: Array = h, P: Array = P) -> Array:
            axes = [legendre(np.linspace(-8.5, limit, 5), order) for limit in h]
            axes += [(np.zeros(1), np.ones(1))] * (4 - n)
            columns = [(w * np.exp(-P[i, i] * z * z / 2))[:, None] for i, (z, w) in enumerate(axes)]
            total = sum_over_pairs(columns, lambda i, j: np.exp(-P[i, j] * np.outer(axes[i][0], axes[j][0])))
            return total.ravel() / np.sqrt(np.linalg.det(2 * np.pi * R))

        expected = converged(rule, [1.0], DIGITS[-1], start=14)
        gap = abs(function(*h, *R[np.triu_indices(n, 1)]) - expected.value[0])
        yield Certificate(f"Phi{n}", "", "random", "numpy", _digits(gap), 12.0, float(expected.error))


_LEARNING = (
    *(("rates", "dR"), ("rates", "dQ"), ("rates", "dv"), ("risk", "")),
    *(("bias_rates", "db"), ("bias_rates", "dc"), ("on_sphere", "dR_held"), ("on_sphere", "dQ_held")),
)  # formulas and their parts


def _learning_certificates() -> Iterator[Certificate]:
    """`theory.two_layer` and `theory.biases`: rates and risk, against averages over a Gauss-Hermite grid of inputs.

    Two neurons, two clusters on a line with a variance each; weights with a component along the means and two across.
    """
    b, c, rates_of_biases = np.array([0.3, -0.2]), 0.25, (0.6, 0.3, 0.8, 0.4)  # eta_b, kappa_b, eta_c, kappa_c
    P, y, sigma2, T = np.array([0.6, 0.4]), np.array([1.0, -1.0]), np.array([0.5, 0.3]), np.array([[0.8], [-0.7]])
    A, L, v = np.array([[0.7, -0.4]]), np.array([[0.6, 0.0], [0.2, 0.5]]), np.array([0.9, -0.6])
    Q = A.T @ A + L @ L.T
    eta, eta_v, kappa, kappa_v = np.array([0.7, 0.4]), np.array([0.5, 0.3]), 0.2, 0.1
    s, noise, batch, bath = 0.8, 0.3, 2.0, 0.3
    rho, share, mean, R = sigma2[:, None], np.ones(1), T[None], A[None]

    def sampled(name: str, order: int) -> tuple[Array, ...]:
        """From the update rule: averages of push x, push push, dl/dv and the loss, no regression."""
        z, w = np.polynomial.hermite_e.hermegauss(order)
        grid = np.stack([axis.ravel() for axis in np.meshgrid(z, z, z)], axis=1)
        weights = np.prod(np.meshgrid(w, w, w), axis=0).ravel() / (2 * np.pi) ** 1.5
        a = np.repeat([0, 1], len(grid))  # cluster of each sample
        x = np.sqrt(sigma2[a])[:, None] * np.tile(grid, (2, 1)) + np.pad(T, ((0, 0), (0, 2)))[a]
        fields = x @ np.vstack([A, L.T])
        g, dg = (function(fields + b) for function in activation_functions(name))
        phi, p = s * (g @ v) + c, P[a] * np.tile(weights, 2)
        force, square = phi - y[a], (phi - y[a]) ** 2 + noise**2
        push = s * v * dg * force[:, None]
        dw = -eta[:, None] * ((p[:, None] * push).T @ np.column_stack([x[:, 0], fields]) + kappa * np.vstack([A, Q]).T)
        heat = (p * sigma2[a] * square)[:, None] * (s * v * dg)
        dQ = dw[:, 1:] + dw[:, 1:].T + np.outer(eta, eta) / batch * (heat.T @ (s * v * dg)) + 2 * bath * np.diag(eta)
        dv = -eta_v * (s * (p * force) @ g + kappa_v * v)
        eta_b, kappa_b, eta_c, kappa_c = rates_of_biases
        db, dc = -eta_b * (p @ push + kappa_b * b), -eta_c * (p @ force + kappa_c * c)
        small = 1e-30j  # of a step; the imaginary part of what it scales back to is a derivative without rounding
        back = np.sqrt(np.diag(Q) / np.diag(Q + small * dQ))
        held = (A[0] + small * dw[:, 0]) * back, (Q + small * dQ) * np.outer(back, back)
        return dw[:, 0], dQ, dv, p @ (phi - y[a]) ** 2 / 2, db, dc, *(part.imag / small.imag for part in held)

    L0, L1, L2, *_ = coefficients("square", y - c, 0.0)  # of phi - y, with c in the label
    *_, F0, F1, S0, S1, S2 = coefficients("square", y, noise)
    F0, S0, S1 = biases.shifted(F0, F1, S0, S1, S2, c)
    for name in ("erf", "he2"):
        M, average, covariance = two_layer.local_fields(T, rho, R, Q[None])
        found = tables(name, average + b, covariance)
        force, response, readout = two_layer.step_averages(F0, F1, v, found, s)
        averages = force, two_layer.pull(P, rho, response), two_layer.step_noise(S0, S1, S2, v, found, s), readout
        dR, dQ, dv = two_layer.rates(
            P, rho, share, mean, M, R, Q[None], v, *averages, eta, eta_v, kappa, kappa_v, batch, bath
        )
        moved = biases.bias_rates(P, force, biases.mean_slope(F0, F1, v, found, s), b, c, *rates_of_biases)
        held = two_layer.on_sphere(R, Q[None], dR, dQ)
        risk = two_layer.risk(P, L0, L1, L2, v, found, s)
        values = (dR[0, 0], dQ[0], dv, risk, *moved, held[0][0, 0], held[1][0])
        for (formula, part), value, rough, expected in zip(
            _LEARNING, values, sampled(name, 36), sampled(name, 44), strict=True
        ):
            error, gap = np.max(abs(rough - expected)), np.max(abs(value - expected))
            yield Certificate(formula, part, f"K = 2, {name}", "compiled", _digits(gap), 10.0, float(error))


def _momentum_certificates() -> Iterator[Certificate]:
    """`theory.momentum`: the rates of velocities, against averages over a Gauss-Hermite grid of inputs.

    Weights and velocities in a space of three dimensions, the first that of the means.
    """
    P, y, T = np.array([0.6, 0.4]), np.array([1.0, -1.0]), np.array([[0.8], [-0.7]])
    sigma2, eta, v = np.array([0.5, 0.3]), np.array([0.7, 0.4]), np.array([0.9, -0.6])
    W = np.array([[0.7, 0.6, 0.0], [-0.4, 0.2, 0.5]])
    V = np.array([[0.3, -0.5, 0.4], [0.6, 0.1, -0.2]])  # the velocities
    kappa, friction, batch, bath = 0.2, 1.3, 2.0, 0.3
    Q, C, U = W @ W.T, W @ V.T, V @ V.T

    def sampled(order: int) -> tuple[Array, ...]:
        """From the update rule: p moves by -eta push x - eta kappa w - friction p and the bath, w by p."""
        z, w = np.polynomial.hermite_e.hermegauss(order)
        grid = np.stack([axis.ravel() for axis in np.meshgrid(z, z, z)], axis=1)
        weights = np.prod(np.meshgrid(w, w, w), axis=0).ravel() / (2 * np.pi) ** 1.5
        a = np.repeat([0, 1], len(grid))
        x = np.sqrt(sigma2[a])[:, None] * np.tile(grid, (2, 1)) + np.pad(T, ((0, 0), (0, 2)))[a]
        g, dg = (function(x @ W.T) for function in activation_functions("erf"))
        push, p = v * dg * ((g @ v) - y[a])[:, None], (P[a] * np.tile(weights, 2))[:, None]
        force = -eta[:, None] * ((p * push).T @ x + kappa * W) - friction * V
        heat = np.outer(eta, eta) / batch * ((p * sigma2[a][:, None] * push).T @ push)
        along = force @ V.T
        dU = along + along.T + heat + 2 * friction * bath * np.diag(eta)
        return force[:, 0], C + C.T, U + W @ force.T, dU

    rho, share, mean, R, S = sigma2[:, None], np.ones(1), T[None], W.T[None, :1], V.T[None, :1]
    M, average, covariance = two_layer.local_fields(T, rho, R, Q[None])
    *_, F0, F1, S0, S1, S2 = coefficients("square", y, 0.0)
    found = tables("erf", average, covariance)
    force, response, _ = two_layer.step_averages(F0, F1, v, found, 1.0)
    pull, noise = two_layer.pull(P, rho, response), two_layer.step_noise(S0, S1, S2, v, found, 1.0)
    overlaps = M, T @ S, R, S, Q[None], C[None], U[None]
    numbers = kappa, friction, batch, bath
    values = momentum.momentum_rates(P, rho, share, mean, *overlaps, force, pull, noise, eta, *numbers)
    values = values[0][:, 0], *values[1:]
    for part, value, rough, expected in zip(("dS", "dQ", "dC", "dU"), values, sampled(36), sampled(44), strict=True):
        error, gap = np.max(abs(rough - expected)), np.max(abs(value[0] - expected))
        yield Certificate("momentum_rates", part, "K = 2, erf", "compiled", _digits(gap), 10.0, float(error))


# --- the document -----------------------------------------------------------------------------------------------------


def digits(records: Sequence[Certificate]) -> dict[str, str]:
    """Formula -> its fewest digits, by how it was evaluated, in words."""
    found = {}
    for formula in dict.fromkeys(r.formula for r in records):
        rows = [r for r in records if r.formula == formula]
        kinds = (
            ("at high precision", [r.digits for r in rows if r.path == "mpmath"]),
            ("in float64", [r.digits for r in rows if r.path != "mpmath" and r.required > 8]),
            ("in float64 where the covariance is singular", [r.digits for r in rows if r.required <= 8]),
        )
        found[formula] = ", ".join(f"{min(values):.1f} digits {kind}" for kind, values in kinds if values)
    return found


def document(records: Sequence[Certificate], rules: Mapping[str, Sequence[str]] | None = None) -> str:
    """The certificates as a Markdown document: per formula its rules and worst digits, then the worst of all.

    `rules`: formula -> names of the rules that its derivation applied.
    """
    lines = [
        "# Certificate of the generated formulas",
        "",
        *__doc__.strip().splitlines(),
        "",
        "The oracle errors of `theory.oracle` are certified by tests/symbolic/test_oracle.py: 27 digits, against the",
        "integral of the smaller posterior.",
        "",
        f"{len(records)} comparisons; {sum(r.digits < r.required for r in records)} below the digits required.",
        "",
        "Fewest digits, and where:",
        "",
        "| formula | rules applied | values | mpmath | float64, regular | float64, singular |",
        "|---|---|---|---|---|---|",
    ]

    def worst(rows: Iterable[Certificate]) -> str:
        row = min(rows, key=lambda r: r.digits, default=None)
        return f"{row.digits:.1f} ({row.layout or 'value'}; {row.point})" if row else "–"

    for formula in dict.fromkeys(r.formula for r in records):
        rows = [r for r in records if r.formula == formula]
        precise = [r for r in rows if r.path == "mpmath"]
        singular = [r for r in rows if r.path != "mpmath" and r.required <= 8]
        regular = [r for r in rows if r.path != "mpmath" and r.required > 8]
        cells = [f"`{formula}`", ", ".join((rules or {}).get(formula, ())), str(len(rows))]
        lines.append(f"| {' | '.join([*cells, worst(precise), worst(regular), worst(singular)])} |")
    lines += ["", "The ten comparisons with the least margin over the digits required:", ""]
    lines += [
        "| formula | average | point | evaluated by | digits | required | error of the quadrature |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in sorted(records, key=lambda r: r.digits - r.required)[:10]:
        cells = [
            f"`{r.formula}`",
            r.layout,
            r.point,
            r.path,
            f"{r.digits:.1f}",
            f"{r.required:g}",
            f"{r.reference_error:.1e}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
