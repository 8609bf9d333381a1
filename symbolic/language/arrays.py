"""Equations that are polynomials in indexed arrays: their tangents, and the functions of `theory/two_layer.py`.

Along directions z of the state, each array X that depends on it has a tangent X_z with one more index, and the product
rule gives the tangent of an equation.
"""

from __future__ import annotations

import textwrap
from typing import Any

import sympy
from sympy import Idx, IndexedBase

from quenched.symbolic.language import emit

__all__ = ["equations_text", "tangent", "tangents_text"]

_DIRECTION = Idx("z")


def tangent(expression: sympy.Expr, fixed: frozenset[str] = frozenset({"P", "y", "sigma2", "T"})) -> sympy.Expr:
    """The product rule on a polynomial in indexed arrays: X_z[.., z] for each array but the `fixed` ones.

    >>> i, k = Idx("i"), Idx("k")
    >>> tangent(IndexedBase("Q")[k, i] * IndexedBase("v")[i] ** 2)
    2*Q[k, i]*v[i]*v_z[i, z] + Q_z[k, i, z]*v[i]**2
    """
    total = sympy.Integer(0)
    for term in sympy.Add.make_args(sympy.expand(expression)):
        for factor in sympy.Mul.make_args(term):
            base, exponent = factor.as_base_exp()
            if isinstance(base, sympy.Indexed) and str(base.base) not in fixed:
                moved = IndexedBase(f"{base.base}_z")[(*base.indices, _DIRECTION)]
                total += term / base * exponent * moved
    return total


def equations_text(equations: Any) -> str:
    """The functions of `theory/two_layer.py`."""

    def head(name: str, arrays: str, scalars: str, result: str) -> str:
        kinds = {"averages": "Mapping[str, NDArray[float64]]"}
        parameters = [f"{a}: {kinds.get(a, 'NDArray[float64]')}" for a in arrays.split()]
        parameters += [f"{c}: float" for c in scalars.split()]
        inside = textwrap.fill(", ".join(parameters), 116, initial_indent="    ", subsequent_indent="    ")
        return f"def {name}(\n{inside}\n) -> {result}:\n"

    def load(*expressions: sympy.Expr) -> str:
        bases = {str(f.base) for e in expressions for f in e.atoms(sympy.Indexed)}
        needed = [p for p in equations.patterns if p.replace(",", "_") in bases]
        return "".join(f'    {p.replace(",", "_")} = averages["{p}"]\n' for p in needed)

    def total(expression: sympy.Expr, output: str) -> str:
        return f"(\n        {emit.einsum(expression, output, '        ')}\n    )\n"

    def three(expressions: tuple[sympy.Expr, sympy.Expr, sympy.Expr], node: str = "") -> str:
        dR, dQ = (total(e, node + pair) for e, pair in zip(expressions, ("bk", "kl"), strict=False))
        return f"    dR = {dR}    dQ = {dQ}    dv = {total(expressions[2], 'k')}    return dR, dQ, dv"

    array, triple = "NDArray[float64]", "tuple[NDArray[float64], NDArray[float64], NDArray[float64]]"
    scalars = "eta kappa eta_v kappa_v s"
    force, square = (emit.code(moment) for moment in equations.moments)
    names = ("force", "curvature", "coupling", "readout")
    step = tuple(getattr(equations.responses, name) for name in names)
    parts = [
        head("flow", "P y sigma2 T M R Q v averages", scalars, triple)
        + '''    """Gradient flow of R_bk = w_k.r_b/sqrt(D), Q_kl = w_k.w_l/D, v_k: first order in the learning rates.

    P, y, sigma2 (C,): weights, labels, variances of the clusters; M (C, K): overlaps of their means with the weights;
    R (B, K), T (C, B): overlaps of reference vectors r_b with the weights and with the means (for the means themselves
    R = M, dR = dM); averages["dg,g"][a, k, i] = E_a[g'(lambda_k) g(lambda_i)], and so on; s: output scale.
    """
'''
        + load(*equations.flow)
        + three(equations.flow),
        head("diffusion", "P y sigma2 v averages", "eta s Delta", array)
        + '''    """What the noise of single samples adds to dQ_kl/dt: second order in eta; Delta: label noise."""
'''
        + load(equations.diffusion)
        + f"    dQ: NDArray[float64] = {total(equations.diffusion, 'kl')}    return dQ",
        head("sampled_flow", "P force lambda_ nu g dg R Q v", scalars, triple)
        + '''    """`flow` as an average over samples n of the local fields, for any activation.

    P, force (N,): weights of the samples, dl/dphi; lambda_, g, dg (N, K): lambda_k, g(lambda_k), g'(lambda_k);
    nu (N, B): r_b.x; the rest as in `flow`.
    """
'''
        + three(equations.sampled_flow),
        head("sampled_diffusion", "P sigma2 square dg v", "eta s", array)
        + '''    """`diffusion` as an average over samples; square (N,): (dl/dphi)^2; sigma2 (N,): their variance."""
'''
        + f"    dQ: NDArray[float64] = {total(equations.sampled_diffusion, 'kl')}    return dQ",
        head("moments", "phi y", "Delta", "tuple[NDArray[float64], NDArray[float64]]")
        + f'''    """dl/dphi and its square at output phi and label y, averaged over the label noise."""
    force = {force}
    square = {square}
    return force, square''',
        head("responses", "y v averages", "s", f"tuple[{array}, {array}, {array}, {array}]")
        + '''    """Averages of one step in each cluster: force, curvature, coupling, readout.

    force_ak = E_a[dl/dlambda_k]; E_a[d^2 l/(dlambda_k dlambda_l)] = curvature_ak delta_kl + coupling_akl;
    readout_ak = E_a[dl/dv_k].
    """
'''
        + load(*step)
        + "".join(f"    {n} = {total(e, 'akl' if n == 'coupling' else 'ak')}" for n, e in zip(names, step, strict=True))
        + "    return force, curvature, coupling, readout",
        head("response_noise", "y v averages", "s Delta", array)
        + '''    """noise_akl = E_a[dl/dlambda_k dl/dlambda_l], with label noise Delta."""
'''
        + load(equations.responses.noise)
        + f"    noise: NDArray[float64] = {total(equations.responses.noise, 'akl')}    return noise",
        head("spectral_flow", "P rho T M R Q v force response readout", "eta kappa eta_v kappa_v", triple)
        + '''    """`flow` in each node u of the spectrum of the inputs.

    rho (C, U): eigenvalue in cluster a along the directions of node u; T (U, C, B), M (U, C, K), R (U, B, K),
    Q (U, K, K): the parts of the overlaps that lie along them; force (C, K), response (C, K, K), readout (C, K): the
    averages of one step, `responses`.
    """
'''
        + three(equations.node, "u"),
        head("spectral_diffusion", "P rho share noise", "eta", array)
        + '''    """`diffusion` in each node; share (U,): the fraction of all directions that it has."""
'''
        + f"    dQ: NDArray[float64] = {total(equations.node_diffusion, 'ukl')}    return dQ",
        head("risk", "P y v averages", "s", "float")
        + '''    """Average loss E[(phi - y)^2]/2 of the network's output."""
'''
        + load(equations.risk)
        + f"    value: float = {total(equations.risk, '')}    return value",
    ]
    return "\n\n\n".join(parts)


def tangents_text(equations: Any) -> str:
    """The functions of the exact Jacobian: tangents of the equations along directions z of the state."""

    def function(
        name: str, arrays: str, scalars: str, outputs: dict[str, tuple[sympy.Expr, str]], docstring: str
    ) -> str:
        result = "NDArray[float64]" if len(outputs) == 1 else f"tuple[{', '.join(['NDArray[float64]'] * len(outputs))}]"
        tables = ("averages", "averages_z")
        parameters = [
            f"{a}: {'Mapping[str, NDArray[float64]]' if a in tables else 'NDArray[float64]'}" for a in arrays.split()
        ]
        parameters += [f"{c}: float" for c in scalars.split()]
        inside = textwrap.fill(", ".join(parameters), 116, initial_indent="    ", subsequent_indent="    ")
        moved = {key: (tangent(value), indices) for key, (value, indices) in outputs.items()}
        bases = {str(f.base) for value, _ in moved.values() for f in value.atoms(sympy.Indexed)}
        lines = [f"def {name}(\n{inside}\n) -> {result}:", f'    """{docstring}"""']
        for pattern in equations.patterns:
            array = pattern.replace(",", "_")
            lines += [f'    {array} = averages["{pattern}"]'] if array in bases else []
            lines += [f'    {array}_z = averages_z["{pattern}"]'] if f"{array}_z" in bases else []
        for key, (value, indices) in moved.items():
            kind = ": NDArray[float64]" if len(outputs) == 1 else ""
            lines.append(f"    {key}_z{kind} = (\n        {emit.einsum(value, indices + 'z', '        ')}\n    )")
        lines.append(f"    return {', '.join(f'{key}_z' for key in moved)}")
        return "\n".join(lines)

    dR, dQ, dv = equations.flow
    functions = (
        function(
            "flow_tangent",
            "P y sigma2 T M M_z R R_z Q Q_z v v_z averages averages_z",
            "eta kappa eta_v kappa_v s",
            {"dR": (dR, "bk"), "dQ": (dQ, "kl"), "dv": (dv, "k")},
            "Tangent of `two_layer.flow` along directions z, the last index of all that ends in _z.",
        ),
        function(
            "diffusion_tangent",
            "P y sigma2 v v_z averages averages_z",
            "eta s Delta",
            {"dQ": (equations.diffusion, "kl")},
            "Tangent of `two_layer.diffusion`.",
        ),
    )
    return "\n\n\n".join(functions)
