"""The learning equations linearised: how the drift changes along given directions of the state, exactly.

The formulas are those of `quenched.theory.gradients`: gradients of the averages of the activation by Price's theorem,
and the product rule on the equations.  As in `quenched.numerics.calculus.averages`, their text is compiled once, into
the user's cache, with Phi_n of `quenched.numerics.calculus.orthant` and regressions in doubled precision.

Where two fields are parallel, averages have kinks as functions of the angle between them.  Covariances are therefore
raised by 2^-51 on the diagonal, which rounds off kinks on a scale of 1e-8 in the angle: the tangent is then the mean of
those on both sides, to 1e-8.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from functools import lru_cache, partial
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from quenched.numerics.calculus.averages import (
    FIELD_LIMIT,
    PARALLEL,
    _DoubledRegression,
    _gather,
    averages,
    tables,
)
from quenched.numerics.calculus.cache import derived_module, module
from quenched.numerics.calculus.coincident_fields import regularised
from quenched.numerics.calculus.precision import bind, float_source
from quenched.numerics.problem.checks import expression_text
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.rules import OnlineSGD
from quenched.theory import gradients as theory
from quenched.theory import two_layer

__all__ = ["drift_tangents", "table_tangents"]

Array = NDArray[np.float64]
Gradient = Callable[..., tuple[float, ...]]
Tangents = Callable[[Array, Array, Array, Array, Array, Array], tuple[Array, Array, Array]]

_BLOCK = 2**24  # numbers in the largest array at a time

_contract = {"einsum": partial(np.einsum, optimize=True)}
_flow = bind(two_layer.flow_tangent, _contract)
_diffusion = bind(two_layer.diffusion_tangent, _contract)

_PRELUDE = '''"""Compiled form of gradients, written by quenched.numerics.two_layer.jacobian."""

from numpy import cos, empty, exp, pi, sin, sqrt
from math import erf, erfc
from numba import njit
from quenched.numerics.calculus.compile import njit as kept
from quenched.numerics.calculus.double_double import minus, over, plus, remainder, residual, times
from quenched.numerics.calculus.orthant import Phi, Phi2, Phi3, Phi4


@njit(error_model="numpy")
def Phi2_of_pair(h, k, r):
    return Phi2(h, k, r if abs(r) < {parallel} else (1.0 if r > 0.0 else -1.0))


'''
_FILL = """
@kept(error_model="numpy", nogil=True)
def tangent_{n}(mean, covariance, subsets, mean_z, covariance_z, out):
    gradient = empty({size})
    for a in range(mean.shape[0]):
        for s in range(subsets.shape[0]):
            {indices} = subsets[s]
            values = {function}(
                {arguments},
            )
            for o, value in enumerate(values):
                gradient[o] = value
            for o in range(out.shape[2]):
                for z in range(out.shape[3]):
                    out[a, s, o, z] = (
                        {terms}
                    )
"""


def _gradients(activation: str) -> tuple[Gradient, ...]:
    """The generated gradients of an activation, derived on first use if it is not a built-in."""
    name = expression_text(activation)
    return theory.GRADIENTS[name] if name in theory.GRADIENTS else _derived(name)


@lru_cache(maxsize=64)
def _derived(activation: str) -> tuple[Gradient, ...]:
    found: tuple[Gradient, ...] = derived_module("gradients", activation, "--gradients").GRADIENTS["custom"]
    return found


@lru_cache(maxsize=64)
def _compiled(activation: str, n: int) -> ModuleType:
    """The compiled module of the gradients over n fields: tangent_n."""
    function = _gradients(activation)[n - 1]
    tree = ast.parse(float_source(function))
    definition = tree.body[0]
    assert isinstance(definition, ast.FunctionDef)
    definition.returns = None
    for argument in definition.args.args:
        argument.annotation = None
    definition.decorator_list = [ast.parse('njit(error_model="numpy")', mode="eval").body]
    definition.body = definition.body[1:]  # the docstring
    result = definition.body[-1]
    assert isinstance(result, ast.Return)
    assert isinstance(result.value, ast.Tuple)
    size = len(result.value.elts)
    _DoubledRegression().visit(tree)
    for node in ast.walk(tree):
        if n == 2 and isinstance(node, ast.Name) and node.id == "Phi2":
            node.id = "Phi2_of_pair"
    index = "ijkl"[:n]
    pairs = [(p, q) for x, p in enumerate(index) for q in index[x:]]
    arguments = [f"mean[a, {i}]" for i in index] + [f"covariance[a, {p}, {q}]" for p, q in pairs]
    moved = [f"mean_z[a, {i}, z]" for i in index] + [f"covariance_z[a, {p}, {q}, z]" for p, q in pairs]
    fill = _FILL.format(
        n=n,
        size=size,
        indices=", ".join(index) + ("," if n == 1 else ""),
        function=function.__name__,
        arguments=", ".join(arguments),
        terms=" + ".join(f"gradient[{len(moved)} * o + {t}] * {term}" for t, term in enumerate(moved)),
    )
    text = _PRELUDE.format(parallel=PARALLEL) + ast.unparse(ast.fix_missing_locations(tree)) + fill
    return module(text, "gradients")


def table_tangents(
    activation: str, mean: Array, covariance: Array, mean_z: Array, covariance_z: Array, limit: int = FIELD_LIMIT
) -> dict[str, Array]:
    """How the tables of averages (`averages.tables`) change along directions z of means and covariances.

    mean_z (C, K, Z), covariance_z (C, K, K, Z) symmetric in its neurons; the tables have Z as an additional last index.
    """
    clusters, K = mean.shape
    directions = mean_z.shape[-1]
    subsets, widths, gather = _gather(activation, K, limit)
    regular = regularised(covariance)
    mean, mean_z, covariance_z = (np.ascontiguousarray(x, dtype=np.float64) for x in (mean, mean_z, covariance_z))
    flat = []
    for n, (members, width) in enumerate(zip(subsets, widths, strict=True), start=1):
        out = np.empty((clusters, len(members), width, directions))
        if len(members):
            fill = getattr(_compiled(activation, n), f"tangent_{n}")
            fill(mean, regular, members, mean_z, covariance_z, out)
        flat.append(out.reshape(clusters, -1, directions))
    values = np.concatenate(flat, axis=1)
    return {
        pattern: values[:, index].reshape((clusters,) + (K,) * (pattern.count(",") + 1) + (directions,))
        for pattern, index in gather.items()
    }


def drift_tangents(mixture: Mixture, network: TwoLayer, sgd: OnlineSGD) -> Tangents | None:
    """(A, Q, v, A_z, Q_z, v_z) -> tangents of (dA, dQ, dv)/dt; None for an activation without closed forms.

    A_z (p, K, Z), Q_z (K, K, Z), v_z (K, Z): directions, as many as there are last indices.
    """
    if not averages(network.activation).groups:
        return None
    clusters = (mixture.weights, mixture.labels.astype(np.float64), mixture.sigmas**2)
    rates = (sgd.eta, sgd.kappa, sgd.eta_v, sgd.kappa_v, network.output_scale)
    limit = FIELD_LIMIT if sgd.diffusion else 2
    largest = mixture.clusters * network.K ** (4 if sgd.diffusion else 2)

    def block(A: Array, Q: Array, v: Array, A_z: Array, Q_z: Array, v_z: Array) -> tuple[Array, Array, Array]:
        M, M_z = mixture.means @ A, np.einsum("ab,bkz->akz", mixture.means, A_z)
        variance = clusters[2][:, None, None]
        found = tables(network.activation, M, variance * Q, limit)
        moved = table_tangents(network.activation, M, variance * Q, M_z, variance[..., None] * Q_z, limit)
        state = (mixture.means, M, M_z, A, A_z, Q, Q_z, v, v_z)
        small = network.K <= 4
        dA, dQ, dv = (two_layer.flow_tangent if small else _flow)(*clusters, *state, found, moved, *rates)
        if sgd.diffusion:
            noise = (sgd.eta, network.output_scale, sgd.label_noise)
            dQ = dQ + (two_layer.diffusion_tangent if small else _diffusion)(*clusters, v, v_z, found, moved, *noise)
        return dA, dQ, dv

    def tangents(A: Array, Q: Array, v: Array, A_z: Array, Q_z: Array, v_z: Array) -> tuple[Array, Array, Array]:
        step = max(1, _BLOCK // largest)
        parts = [
            block(A, Q, v, A_z[..., i : i + step], Q_z[..., i : i + step], v_z[..., i : i + step])
            for i in range(0, v_z.shape[-1], step)
        ]
        dA, dQ, dv = (np.concatenate(part, axis=-1) for part in zip(*parts, strict=True))
        return dA, dQ, dv

    return tangents
