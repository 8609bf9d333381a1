"""Equations in indexed arrays: their tangents, and their text, in which a sum over repeated indices is an `einsum`.

Along directions z of the state, each array X that depends on it has a tangent X_z with one more index, and the product
rule gives the tangent of an equation.

The text reads as the equations do, and is a specification of loops: `quenched.numerics.compiled.contractions` compiles
it as such; NumPy and mpmath numbers in object arrays run it as it is.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import sympy
from sympy import Idx, IndexedBase

from quenched.symbolic.language.emit import WIDTH, code, comment
from quenched.symbolic.language.unicode import line

__all__ = ["array_function", "einsum", "tangent"]

_TABLES = "Mapping[str, NDArray[float64]]"
_ARRAY = "NDArray[float64]"
_DIRECTION = Idx("z")


def tangent(
    expression: sympy.Expr, fixed: frozenset[str] = frozenset(), moving: Sequence[sympy.Symbol] = ()
) -> sympy.Expr:
    """The product rule on a polynomial in indexed arrays: X_z[.., z] for each array but the `fixed` ones.

    `moving`: numbers c that change, too, by c_z[z].

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
    return total + sympy.Add(*(expression.diff(c) * IndexedBase(f"{c}_z")[_DIRECTION] for c in moving))


def einsum(expression: sympy.Expr, output: str, indent: str) -> str:
    r"""A sum of products of indexed arrays; indices outside `output` are summed.

    An array with the indices of the output may divide a term; a ValueError names another one.

    >>> from sympy import Idx, IndexedBase
    >>> i, k = Idx("i"), Idx("k")
    >>> einsum(-2 * IndexedBase("Q")[k, i] * IndexedBase("v")[i] + IndexedBase("u")[k], "k", " ")
    '-2*einsum("ki,i->k", Q, v)\n + u'
    >>> einsum(IndexedBase("Q")[k, k] / IndexedBase("u")[k], "k", "")
    'einsum("kk->k", Q)/u'
    """
    lines = []
    for term in sorted(sympy.Add.make_args(expression), key=sympy.default_sort_key):
        scalar, operands, below = sympy.Integer(1), [], ""
        for factor in sympy.Mul.make_args(term):
            base, exponent = factor.as_base_exp()
            if not isinstance(base, sympy.Indexed):
                scalar *= factor
            elif exponent.is_Integer and exponent > 0:
                operands += [base] * int(exponent)
            elif exponent == -1 and "".join(map(str, base.indices)) == output:
                below += f"/{base.base}"
            else:
                raise ValueError(f"expression must be a sum of products of arrays, got the factor {factor}")
        if not operands and not below:
            lines.append(code(scalar))
            continue
        operands.sort(key=str)
        subscripts = ",".join("".join(str(index) for index in o.indices) for o in operands)
        arrays = ", ".join(str(o.base) for o in operands)
        product = arrays if subscripts == output else f'einsum("{subscripts}->{output}", {arrays})'
        product = product + below if operands else f"1{below}"
        prefix = code(scalar)
        lines.append(product if prefix == "1" else f"-{product}" if prefix == "-1" else f"{prefix}*{product}")
    text = f"\n{indent}+ ".join(lines)
    return text.replace("+ -", "- ")


def array_function(
    name: str,
    parameters: str,
    outputs: Mapping[str, tuple[sympy.Expr, str]],
    docstring: str,
    patterns: Sequence[str] = (),
    meanings: Mapping[str, str] | None = None,
    inner: Mapping[str, tuple[sympy.Expr, str]] | None = None,
) -> str:
    """Source of a function of arrays and, after a semicolon in `parameters`, numbers; it returns its `outputs`.

    An output is an expression and its free indices; so is an `inner` array, which later ones read: it is not returned,
    and has no formula above.  `patterns` name entries of the tables `averages` (and of their
    tangents `averages_z`) that expressions spell with _ for the comma; I is unity.  `meanings` say what a parameter
    is, its shape first; a tangent X_z has that of X and one more index, and no formula above it.
    """
    arrays, _, scalars = (part.split() for part in parameters.partition(";"))
    written = {**(inner or {}), **outputs}
    given = [f"    {a}: {_TABLES if a.startswith('averages') else _ARRAY}," for a in arrays]
    given += [f"    {c}: float," for c in scalars]
    told = [_meaning(parameter, meanings or {}) for parameter in (*arrays, *scalars)]
    inside = "\n".join(f"{line}  # {meaning}" if meaning else line for line, meaning in zip(given, told, strict=True))
    printed = line({})
    above = [
        part
        for key, (value, indices) in outputs.items()
        if not key.endswith("_z")
        for part in comment(f"{key}{'_' if indices else ''}{indices} = {printed(value)}")
    ]
    kinds = [_ARRAY if indices else "float" for _, indices in outputs.values()]
    result = kinds[0] if len(kinds) == 1 else f"tuple[{', '.join(kinds)}]"
    lines = [*above, f"def {name}(\n{inside}\n) -> {result}:", textwrap.indent(f'"""{docstring}"""', "    ")]
    indexed = {f for value, _ in written.values() for f in value.atoms(sympy.Indexed)}
    bases = {str(f.base) for f in indexed}
    named = [(pattern.replace(",", "_") + suffix, pattern, suffix) for pattern in patterns for suffix in ("", "_z")]
    lines += [f'    {array} = averages{suffix}["{pattern}"]' for array, pattern, suffix in named if array in bases]
    if "I" in bases:
        lines.append(f"    I = eye(len({_of_the_size_of_unity(indexed, arrays)}))")
    for key, (value, indices) in written.items():
        kind = f": {kinds[0]}" if len(written) == 1 else ""
        total = einsum(value, indices, " " * 8)
        short = f"    {key}{kind} = {total}"
        lines.append(
            short if len(short) <= WIDTH and "\n" not in total else f"    {key}{kind} = (\n        {total}\n    )"
        )
    return "\n".join([*lines, f"    return {', '.join(outputs)}"])


def _of_the_size_of_unity(indexed: set[sympy.Indexed], arrays: Sequence[str]) -> str:
    """The first parameter that has an index of I and no other one."""
    ranges = {index for f in indexed if str(f.base) == "I" for index in f.indices}
    vectors = {str(f.base) for f in indexed if len(f.indices) == 1 and f.indices[0] in ranges}
    for array in arrays:
        if array in vectors:
            return array
    raise ValueError(f"parameters must have a vector with an index of I, which says its size, got {' '.join(arrays)}")


def _meaning(parameter: str, meanings: Mapping[str, str]) -> str:
    """That of a parameter, or of the array whose tangent it is."""
    if parameter in meanings or not parameter.endswith("_z"):
        return meanings.get(parameter, "")
    shape, _, _ = meanings.get(parameter.removesuffix("_z"), "").partition(")")
    return f"{shape.rstrip(',')}, Z)" if shape else ""
