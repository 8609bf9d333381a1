"""`straight`: functions of numbers without loops and branches, handed to LLVM operation by operation.

numba infers types and lowers one operation in about a millisecond, and a generated average has thousands of them.
Here all numbers are floats, so that nothing is to be inferred: each operation is numba's own implementation for floats,
found once and emitted as often as it occurs.  The machine code does what numba's would do, to the last bit.
"""

from __future__ import annotations

import ast
import inspect
import operator
from collections.abc import Callable
from typing import Any

from quenched.symbolic.language.grammar import syntax_tree

__all__ = ["straight"]

_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


def straight(function: Callable[..., Any]) -> Any:
    """f(out, (a, b, ..)) for compiled callers: it writes the numbers that function(a, b, ..) returns into out.

    function: assignments and a return of one number or a tuple, of numbers, pairs of numbers and calls of compiled
    functions.  Where NUMBA_DISABLE_JIT is set, the same in Python.
    """
    import numba
    from numba import types
    from numba.extending import intrinsic

    if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]

        def write(out: Any, numbers: tuple[float, ...]) -> None:
            out[:] = function(*numbers)

        return write

    def typed(typing: Any, out: Any, numbers: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            from numba.core import cgutils

            array = context.make_array(signature.args[0])(context, builder, arguments[0])
            given = cgutils.unpack_tuple(builder, arguments[1])
            found = _Emitter(context, builder, function.__globals__).values(_definition(function), given)
            for place, (value, _) in enumerate(found):
                entry = builder.gep(array.data, [context.get_constant(types.intp, place)])
                builder.store(value, entry)
            return context.get_dummy_value()

        return types.void(out, numbers), generate

    written: Any = intrinsic(typed)
    written.py_func = function  # what `machine_code` looks for: the callees are among its names
    return written


def _definition(function: Callable[..., Any]) -> ast.FunctionDef:
    (found,) = syntax_tree(inspect.getsource(function)).body
    if not isinstance(found, ast.FunctionDef):
        raise TypeError(f"{function!r} is not defined by a def statement")
    return found


class _Emitter:
    """Expressions as pairs (value of LLVM, type of numba): a float, a pair of floats, or a truth value."""

    def __init__(self, context: Any, builder: Any, meanings: dict[str, Any]) -> None:
        from numba import types

        self.context, self.builder, self.meanings = context, builder, meanings
        self.number, self.pair = types.float64, types.UniTuple(types.float64, 2)
        self.known: dict[str, tuple[Any, Any]] = {}
        self.implementations: dict[Any, tuple[Any, Any]] = {}

    def values(self, definition: ast.FunctionDef, given: list[Any]) -> list[tuple[Any, Any]]:
        """What the function returns for the arguments."""
        names = [argument.arg for argument in definition.args.args]
        self.known.update(zip(names, [(value, self.number) for value in given], strict=True))
        for statement in definition.body:
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    self.known[name] = self.emit(value)
                case ast.Return(value=ast.Tuple(elts=elements)):
                    return [self.emit(element) for element in elements]
                case ast.Return(value=ast.expr() as value):
                    return [self.emit(value)]
                case _:
                    raise TypeError(f"{definition.name}: {ast.unparse(statement)!r} is no assignment of numbers")
        raise TypeError(f"{definition.name} returns nothing")

    def emit(self, node: ast.expr) -> tuple[Any, Any]:
        """An expression, after what it is made of."""
        match node:
            case ast.Name(id=name) if name in self.known:
                return self.known[name]
            case ast.Name(id=name):
                return self._constant(self.meanings[name])
            case ast.Constant(value=int() | float() as value):
                return self._constant(value)
            case ast.BinOp(left=left, op=ast.Pow(), right=ast.Constant(value=int() as power)):
                return self._power(self.emit(left), power)
            case ast.BinOp(left=left, op=how, right=right) | ast.Compare(left=left, ops=[how], comparators=[right]):
                return self._call(_OPERATORS[type(how)], [self.emit(left), self.emit(right)])
            case ast.UnaryOp(op=how, operand=operand):
                return self._call(_OPERATORS[type(how)], [self.emit(operand)])
            case ast.Call(func=ast.Name(id=name), args=arguments):
                return self._call(self.meanings[name], [self.emit(argument) for argument in arguments])
            case ast.Tuple(elts=[first, second]):
                both = [self.emit(first)[0], self.emit(second)[0]]
                return self.context.make_tuple(self.builder, self.pair, both), self.pair
            case ast.Subscript(value=of, slice=ast.Constant(value=place)):
                return self.builder.extract_value(self.emit(of)[0], place), self.number
        raise TypeError(f"{ast.unparse(node)!r} is no expression of numbers")

    def _constant(self, value: float) -> tuple[Any, Any]:
        return self.context.get_constant(self.number, float(value)), self.number

    def _power(self, base: tuple[Any, Any], power: int) -> tuple[Any, Any]:
        """By squares, as numba does."""
        result = self._constant(1.0)
        while power:
            if power & 1:
                result = self._call(operator.mul, [result, base])
            power >>= 1
            base = self._call(operator.mul, [base, base])
        return result

    def _call(self, function: Any, arguments: list[tuple[Any, Any]]) -> tuple[Any, Any]:
        kinds = tuple(kind for _, kind in arguments)
        if (function, kinds) not in self.implementations:
            typing = self.context.typing_context
            kind = typing.resolve_value_type(function)
            signature = typing.resolve_function_type(kind, kinds, {})
            if signature is None or signature.args != kinds:
                raise TypeError(f"{function!r} takes no arguments of the types {kinds}")
            self.implementations[function, kinds] = self.context.get_function(kind, signature), signature.return_type
        implementation, result = self.implementations[function, kinds]
        return implementation(self.builder, [value for value, _ in arguments]), result
