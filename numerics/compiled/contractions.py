"""Sums over indices, written as `einsum` in generated text, as loops.

An output is one nest of loops over its free indices; inside, a term is a nest of sums, each factor taken at the depth
where all its indices are known:  sum_ij v_i v_j T_akij = sum_i v_i (sum_j v_j T_akij).  Where the last index is a
direction z, all that does not depend on z is summed first, and the loop over z is the innermost.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

__all__ = ["Contraction"]

_UNITY = "I"


class _Term:
    """scalar * prod of factors (array, indices), divided by the entries of arrays in `below`."""

    def __init__(self, scalar: str, factors: list[tuple[str, str]], below: list[tuple[str, str]]) -> None:
        self.scalar, self.factors, self.below = scalar, factors, below


def _split(node: ast.expr, sign: str = "") -> list[tuple[str, ast.expr]]:
    """The terms of a sum with their signs."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub)):
        right = "-" if isinstance(node.op, ast.Sub) else ""
        return _split(node.left, sign) + _split(node.right, right)
    return [(sign, node)]


def _product(node: ast.expr) -> tuple[list[ast.expr], str]:
    """The factors of a * b * c, the sign of -a taken out."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        left, sign = _product(node.left)
        return [*left, node.right], sign
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return [node.operand], "-"
    return [node], ""


def _named(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def _is_einsum(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "einsum"


class Contraction:
    """A generated function of arrays: `text` with loops, `tables` the names of the tables that are its arguments.

    Where the generated function takes `averages`, the loops take the arrays `averages["dg,g"]`, .. that it reads, after
    the other arrays; tables are named "dg,g", their tangents the same in `tangent_tables`.
    """

    def __init__(self, definition: ast.FunctionDef, annotations: Mapping[str, Any]) -> None:
        self.name = definition.name
        self.tables: tuple[str, ...] = ()
        self.tangent_tables: tuple[str, ...] = ()
        self.arrays = {name for name, kind in annotations.items() if str(kind).startswith("NDArray")} - {"return"}
        self.sizes: dict[str, str] = {}
        given = [argument.arg for argument in definition.args.args if not argument.arg.startswith("averages")]
        read: list[tuple[str, str]] = []
        lines: list[str] = []
        assigned = [statement.value for statement in definition.body if isinstance(statement, ast.Assign)]
        used = {name.id for value in assigned for name in ast.walk(value) if isinstance(name, ast.Name)}
        for statement in definition.body:
            match statement:
                case ast.Assign(targets=[ast.Name(id="I")]):
                    continue
                case ast.Assign(targets=[target], value=ast.Subscript(value=ast.Name(id=source), slice=pattern)):
                    name, kind = ast.unparse(target), str(ast.literal_eval(pattern))
                    read.append((name, source))
                    self.arrays.add(name)
                    if source == "averages":
                        self.tables += (kind,)
                    else:
                        self.tangent_tables += (kind,)
                case (
                    ast.Assign(targets=[target], value=value) | ast.AnnAssign(target=target, value=ast.expr() as value)
                ):
                    name = ast.unparse(target)
                    lines += self._output(name, value)
                    if name in used:  # by what comes after it
                        lines.append(f"    {name} = {name}_sum")
                        self.arrays.add(name)
                case ast.Return():
                    lines.append("    " + self._result(statement))
                case _:
                    raise ValueError(f"{self.name}: {ast.unparse(statement)} is no contraction")
        scalars = [name for name in given if name not in self.arrays]
        arrays = [name for name in given if name in self.arrays]
        named = [name for name, source in read if source == "averages"]
        named += [name for name, source in read if source != "averages"]
        decorator = '@kept(error_model="numpy", nogil=True, fastmath={"reassoc", "contract", "nsz"})'
        head = f"{decorator}\ndef {self.name}({', '.join([*arrays, *named, *scalars])}):"
        self.text = "\n".join([head, *lines]) + "\n"

    @staticmethod
    def _result(statement: ast.Return) -> str:
        names = ast.unparse(statement.value) if statement.value is not None else ""
        return "return " + ", ".join(f"{name}_sum" for name in names.strip("()").replace(" ", "").split(","))

    def _term(self, sign: str, node: ast.expr, output: str) -> _Term:
        below = []
        while isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and _named(node.right) in self.arrays:
            below.append((_named(node.right), output))
            node = node.left
        parts, minus = _product(node)
        sign = "-" if (sign == "-") != (minus == "-") else ""
        last = parts.pop()
        if isinstance(last, ast.Call) and _is_einsum(last):
            subscripts, *arrays = last.args
            indices = str(ast.literal_eval(subscripts)).partition("->")[0].split(",")
            factors = [(ast.unparse(a), i) for a, i in zip(arrays, indices, strict=True)]
        elif isinstance(last, ast.Name) and last.id in self.arrays:
            factors = [(last.id, output)]
        elif below or not output:  # of a number, a term of numbers alone
            parts, factors = [*parts, last], []
        else:
            raise ValueError(f"{self.name}: {ast.unparse(node)} is no product of numbers and arrays")
        scalar = "*".join(f"({ast.unparse(part)})" for part in parts) or "1.0"
        return _Term(sign + scalar, factors, below)

    def _output(self, target: str, value: ast.expr) -> list[str]:
        pieces = _split(value)
        spelled = [n for n in ast.walk(value) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
        output = str(spelled[0].value).partition("->")[2]
        terms = [self._term(sign, node, output) for sign, node in pieces]
        for term in terms:
            for array, indices in term.factors:
                if array != _UNITY:
                    for axis, index in enumerate(indices):
                        self.sizes.setdefault(index, f"{array}.shape[{axis}]")
        total = f"{target}_sum"
        lines = [f"    {target}_{n} = {term.scalar}" for n, term in enumerate(terms)]
        if not output:
            lines.append(f"    {total} = 0.0")
        else:
            shape = ", ".join(self.sizes[index] for index in output)
            lines.append(f"    {total} = zeros(({shape},))")
        directed = output.endswith("z")
        free = output[:-1] if directed else output
        indent = "    "
        for index in free:
            lines.append(f"{indent}for {index} in range({self.sizes[index]}):")
            indent += "    "
        entry = f"{total}[{', '.join(output)}]" if output else total
        for n, term in enumerate(terms):
            body = _Nest(self.sizes, term.factors, free, f"{target}_{n}", term.below)
            lines += body.directed(indent, entry) if directed else body.plain(indent, entry)
        return lines


class _Nest:
    """The loops of one term, inside those over the free indices."""

    def __init__(
        self,
        sizes: Mapping[str, str],
        factors: list[tuple[str, str]],
        free: str,
        scalar: str,
        below: list[tuple[str, str]],
    ) -> None:
        self.sizes, self.free, self.scalar = sizes, free, scalar
        self.below = "".join(f"/{self._entry(*factor)}" for factor in below)
        self.guards = [f"{i[0]} == {i[1]}" for array, i in factors if array == _UNITY]
        self.factors = [(array, i) for array, i in factors if array != _UNITY]

    def _entry(self, array: str, indices: str) -> str:
        return f"{array}[{', '.join(indices)}]"

    def _guarded(self, indent: str) -> tuple[list[str], str]:
        if not self.guards:
            return [], indent
        return [f"{indent}if {' and '.join(self.guards)}:"], indent + "    "

    def _sum(self, factors: list[tuple[str, str]], known: str, indent: str, name: str) -> tuple[list[str], str]:
        """Lines that leave the sum over all indices that are not known in a variable, and the expression of it."""
        here = [self._entry(a, i) for a, i in factors if set(i) <= set(known)]
        rest = [(a, i) for a, i in factors if not set(i) <= set(known)]
        if not rest:
            return [], "*".join(here) or "1.0"
        # the widest array decides the order, so that its last index is the innermost
        widest = max(rest, key=lambda factor: len(factor[1]))[1]
        index = next(i for i in widest if i not in known)
        inner, value = self._sum(rest, known + index, indent + "    ", name + index)
        lines = [f"{indent}{name} = 0.0", f"{indent}for {index} in range({self.sizes[index]}):", *inner]
        lines.append(f"{indent}    {name} += {value}")
        return lines, "*".join([*here, name])

    def plain(self, indent: str, entry: str) -> list[str]:
        """Add the term to an entry of the output."""
        lines, indent = self._guarded(indent)
        inner, value = self._sum(self.factors, self.free, indent, "t_")
        return [*lines, *inner, f"{indent}{entry} += {self.scalar}*{value}{self.below}"]

    def directed(self, indent: str, entry: str) -> list[str]:
        """Add the term for all directions z, which one factor depends on."""
        lines, indent = self._guarded(indent)
        (moved,) = [factor for factor in self.factors if "z" in factor[1]]
        still = [factor for factor in self.factors if "z" not in factor[1]]
        known = self.free
        for index in moved[1][:-1]:
            if index not in known:
                lines.append(f"{indent}for {index} in range({self.sizes[index]}):")
                indent, known = indent + "    ", known + index
        inner, value = self._sum(still, known, indent, "t_")
        lines += [*inner, f"{indent}c_ = {self.scalar}*{value}", f"{indent}for z in range({self.sizes['z']}):"]
        return [*lines, f"{indent}    {entry} += c_*{self._entry(*moved)}{self.below}"]
