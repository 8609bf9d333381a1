"""Python to CUDA C++, for kernels whose source is also compiled by numba: a small language, and no more.

Translated are functions of annotated arguments: numbers (float, int, Word: 64 bits without sign), arrays, records of
arrays, and tuples of numbers as results.  Inside: assignments, `for` over ranges, `while`, `if`, `return`, arithmetic,
and the functions of `math`, and of formulas.  Arrays are C arrays of known sizes, taken by reference, so `len` is
a constant, and with loops unrolled they live in registers.  Arguments annotated `Size`, or `Sizes` for a tuple, are
constants of the module, and `Function` or `Any` stands for functions that the module holds by the same names: none of
them is handed on.

The result is also C++ for the host, where the tests run it.  ValueError: a construct that is not in the language.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from quenched.symbolic.language.grammar import syntax_tree
from quenched.theory.functions import FUNCTIONS

__all__ = ["PRELUDE", "translate", "translate_formula"]

_RENAMED = {"absolute": "fabs", "arccosh": "acosh", "arcsin": "asin", "arctan": "atan"}
_NATIVE = {
    "abs": "fabs",
    "max": "maximum",
    "min": "minimum",
    "copysign": "copysign",
    **{name: _RENAMED.get(name, name) for name in FUNCTIONS},
}
"""The functions of the language, and what they are called in C++: those of generated formulas among them."""

_BASE = r"""
#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define INSIDE __device__ __forceinline__
#define KERNEL extern "C" __global__ void __launch_bounds__(128)
#define EACH(i, n) const long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; if (i < (n))
#else
#include <cmath>
using namespace std;
#define INSIDE static inline
#define KERNEL extern "C" void
#define EACH(i, n) for (long long i = 0; i < (n); ++i)
#endif
typedef unsigned long long word;
template <class A, class B> struct Two { A _0; B _1; };
template <class A, class B, class C> struct Three { A _0; B _1; C _2; };
#define LENGTH(x) ((long long)(sizeof(x) / sizeof((x)[0])))
template <int n> INSIDE double power(double x) {
    if constexpr (n < 0) return 1.0 / power<-n>(x);
    else if constexpr (n == 0) return 1.0;
    else if constexpr (n % 2 == 1) return x * power<n - 1>(x);
    else { const double root = power<n / 2>(x); return root * root; }
}
INSIDE double maximum(double a, double b) { return a != a || a > b ? a : b; }
INSIDE double minimum(double a, double b) { return a != a || a < b ? a : b; }
INSIDE double sign(double x) { return x != x ? x : x > 0.0 ? 1.0 : x < 0.0 ? -1.0 : 0.0; }
"""

_TYPES = {"float": "double", "int": "long long", "Word": "word", "None": "void", "bool": "bool"}
_RANK = ["bool", "long long", "word", "double"]
_DROPPED = ("Size", "Sizes", "Function", "Any")
_BINARY = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.Mod: "%",
    ast.BitAnd: "&",
    ast.BitOr: "|",
    ast.BitXor: "^",
    ast.RShift: ">>",
    ast.LShift: "<<",
}
_COMPARE = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="}


def translate(
    functions: Mapping[str, Callable[..., Any]],
    constants: Mapping[str, Any],
    natives: Mapping[str, Callable[..., Any]] | None = None,
) -> str:
    """C++ of functions that call each other by these names, functions before those that call them.

    `constants`: numbers that they name; `natives`: functions that the module has in C++ of its own.
    """
    trees = []
    for name, function in functions.items():
        trees.append(_tree(function))
        trees[-1].name = name
    known = {tree.name: tree for tree in trees}
    known |= {name: _tree(function) for name, function in (natives or {}).items()}
    return "\n\n".join(_Function(tree, known, constants).text() for tree in trees)


def translate_formula(function: Callable[..., Any] | str, name: str) -> str:
    """C++ of a generated function of numbers, called `name`: its numbers are floats, its body assigns and returns."""
    tree = _tree(function)
    for argument in tree.args.args:
        argument.annotation = ast.Name("float")
    tree.returns = ast.Name("float")
    tree.name = name
    tree = _Floats().visit(tree)
    return _Function(tree, {name: tree}, {"pi": 3.141592653589793}).text()


def _tree(function: Callable[..., Any] | str) -> ast.FunctionDef:
    source = function if isinstance(function, str) else inspect.getsource(getattr(function, "py_func", function))
    tree = syntax_tree(textwrap.dedent(source)).body[0]
    if not isinstance(tree, ast.FunctionDef):
        raise ValueError(f"function must be a plain function, got {type(tree).__name__}")
    return tree


class _Floats(ast.NodeTransformer):
    """Integers as floats, but for exponents."""

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        is_integer = isinstance(node.value, int) and not isinstance(node.value, bool)
        return ast.Constant(float(node.value)) if is_integer else node  # type: ignore[arg-type]

    def visit_BinOp(self, node: ast.BinOp) -> ast.BinOp:
        right = node.right
        whole = isinstance(node.op, ast.Pow) and _integer(right) is not None
        return ast.BinOp(self.visit(node.left), node.op, right if whole else self.visit(right))


def _integer(node: ast.expr) -> int | None:
    """The value of an integer literal."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = _integer(node.operand)
        return None if inner is None else -inner
    return node.value if isinstance(node, ast.Constant) and type(node.value) is int else None


@dataclass
class _Function:
    """One function on its way."""

    tree: ast.FunctionDef
    known: Mapping[str, ast.FunctionDef]
    constants: Mapping[str, Any]
    types: dict[str, str] = field(default_factory=dict)
    scalars: set[str] = field(default_factory=set)  # local numbers, declared at the top
    temporaries: int = 0

    def text(self) -> str:
        templates, parameters = [], []
        for argument in self.tree.args.args:
            kind = self._annotation(argument)
            self.types[argument.arg] = kind
            if kind in _DROPPED:
                continue
            if kind in ("double", "long long", "word", "bool"):
                parameters.append(f"{kind} {argument.arg}")
            else:
                templates.append(f"class T_{argument.arg}")
                parameters.append(f"T_{argument.arg}& {argument.arg}")
        body = [line for statement in self.tree.body for line in self.statement(statement)]
        declared = [f"    {self.types[name]} {name};" for name in sorted(self.scalars)]
        head = f"template <{', '.join(templates)}> " if templates else ""
        signature = f"{head}INSIDE {self.result(self.tree)} {self.tree.name}({', '.join(parameters)}) {{"
        return "\n".join([signature, *declared, *body, "}"])

    @staticmethod
    def _annotation(argument: ast.arg) -> str:
        if argument.annotation is None:
            raise ValueError(f"argument {argument.arg} must have a type")
        name = ast.unparse(argument.annotation)
        return "Any" if name.startswith("tuple") else _TYPES.get(name, name)

    def result(self, tree: ast.FunctionDef) -> str:
        """The C++ type of what a function returns."""
        returns = tree.returns
        if isinstance(returns, ast.Subscript) and isinstance(returns.slice, ast.Tuple):
            parts = [_TYPES[ast.unparse(part)] for part in returns.slice.elts]
            return f"{('Two', 'Three')[len(parts) - 2]}<{', '.join(parts)}>"
        return _TYPES[ast.unparse(returns)] if returns is not None else "void"

    # --- statements

    def statement(self, node: ast.stmt, depth: int = 1) -> list[str]:
        """The lines of a statement."""
        indent = "    " * depth
        match node:
            case ast.Expr(ast.Constant()) | ast.Pass():
                return []
            case ast.Expr(value):
                return [f"{indent}{self.expression(value)[0]};"]
            case ast.Return(None):
                return [f"{indent}return;"]
            case ast.Return(ast.Tuple(parts)):
                return [f"{indent}return {{{', '.join(self.expression(part)[0] for part in parts)}}};"]
            case ast.Return(value) if value is not None:
                return [f"{indent}return {self.expression(value)[0]};"]
            case ast.Break():
                return [f"{indent}break;"]
            case ast.Assign([target], value):
                return [indent + line for line in self.assign(target, value)]
            case ast.AugAssign(target, operator, value):
                both = ast.Assign([target], ast.BinOp(target, operator, value))
                return self.statement(both, depth)
            case ast.If(test, body, orelse):
                lines = [f"{indent}if ({self.expression(test)[0]}) {{", *self.block(body, depth)]
                return [*lines, f"{indent}}} else {{", *self.block(orelse, depth), f"{indent}}}"]
            case ast.While(test, body, []):
                return [f"{indent}while ({self.expression(test)[0]}) {{", *self.block(body, depth), f"{indent}}}"]
            case ast.For(ast.Name(name), ast.Call(ast.Name("range"), limits, []), body, []):
                return [*self.loop(name, limits, indent), *self.block(body, depth), f"{indent}}}"]
        raise ValueError(f"{self.tree.name}: cannot translate {ast.unparse(node)!r}")

    def block(self, body: list[ast.stmt], depth: int) -> list[str]:
        return [line for statement in body for line in self.statement(statement, depth + 1)]

    def loop(self, name: str, limits: list[ast.expr], indent: str) -> list[str]:
        """The head of a loop over a range; a loop over `step` is as long as the caller says, and stays a loop."""
        texts = [self.expression(limit)[0] for limit in limits]
        first, last = ("0", texts[0]) if len(texts) == 1 else (texts[0], texts[1])
        stride = (_integer(limits[2]) or 0) if len(limits) == 3 else 1
        if stride == 0:
            raise ValueError(f"{self.tree.name}: a stride must be an integer other than 0")
        self.types[name] = "long long"
        test = f"{name} {'<' if stride > 0 else '>'} {last}"
        head = f"{indent}for (long long {name} = {first}; {test}; {name} += {stride}) {{"
        return [head] if name == "step" else [f"{indent}UNROLL", head]

    def assign(self, target: ast.expr, value: ast.expr) -> list[str]:
        """An assignment, of one number or of several."""
        if isinstance(target, ast.Tuple):
            return self._several(target.elts, value)
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id[0].isupper():
            self.types[ast.unparse(target)] = value.func.id
            return [f"{value.func.id} {ast.unparse(target)};"]  # a record of arrays, of known sizes
        if isinstance(value, ast.Attribute) and isinstance(target, ast.Name) and target.id not in self.scalars:
            self.types[target.id] = "Array"
            return [f"auto& {target.id} = {self.expression(value)[0]};"]
        text, kind = self.expression(value)
        if isinstance(target, ast.Name) and kind == "long long" and "LENGTH" in text and target.id not in self.types:
            self.types[target.id] = kind
            return [f"constexpr long long {target.id} = {text};"]
        return [f"{self._place(target, kind)} = {text};"]

    def _several(self, targets: list[ast.expr], value: ast.expr) -> list[str]:
        if isinstance(value, ast.Name) and (kind := self.types.get(value.id)) in ("Any", "Sizes"):  # the module's
            self.types |= {ast.unparse(target): "Any" if kind == "Any" else "Size" for target in targets}
            return []
        if isinstance(value, ast.Tuple):
            pairs = zip(targets, value.elts, strict=True)
            return [line for target, part in pairs for line in self.assign(target, part)]
        if not (isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id in self.known):
            raise ValueError(f"{self.tree.name}: cannot take {ast.unparse(value)!r} apart")
        kind = self.result(self.known[value.func.id])
        parts = kind[kind.index("<") + 1 : -1].split(", ")
        self.temporaries += 1
        name = f"found_{self.temporaries}"
        lines = [f"const {kind} {name} = {self.expression(value)[0]};"]
        for i, (target, part) in enumerate(zip(targets, parts, strict=True)):
            if not (isinstance(target, ast.Name) and target.id == "_"):
                lines.append(f"{self._place(target, part)} = {name}._{i};")
        return lines

    def _place(self, target: ast.expr, kind: str) -> str:
        """The text of what is assigned to; a new number is declared."""
        if not isinstance(target, ast.Name):
            return self.expression(target)[0]
        name = target.id
        if name not in self.types:
            self.scalars.add(name)
            self.types[name] = kind
        elif name in self.scalars and _RANK.index(kind) > _RANK.index(self.types[name]):
            raise ValueError(f"{self.tree.name}: {name} was {self.types[name]} and becomes {kind}")
        return name

    # --- expressions

    def expression(self, node: ast.expr) -> tuple[str, str]:
        """The text of an expression, and the type of its value."""
        match node:
            case ast.Constant(bool() as value):
                return str(value).lower(), "bool"
            case ast.Constant(int() as value):
                return str(value), "long long"
            case ast.Constant(float() as value):
                return repr(value), "double"
            case ast.Name(name):
                return self._name(name)
            case ast.Attribute(ast.Name("math"), "pi"):
                return repr(3.141592653589793), "double"
            case ast.Attribute(value, attribute):
                return f"{self.expression(value)[0]}.{attribute}", "double"
            case ast.Subscript(array, index):
                return self._subscript(array, index)
            case ast.BinOp(left, operator, right):
                return self._binary(left, operator, right)
            case ast.UnaryOp(ast.USub(), operand):
                text, kind = self.expression(operand)
                return f"(-{text})", kind
            case ast.UnaryOp(ast.Not(), operand):
                return f"(!{self.expression(operand)[0]})", "bool"
            case ast.BoolOp(operator, values):
                joined = (" && " if isinstance(operator, ast.And) else " || ").join(
                    self.expression(value)[0] for value in values
                )
                return f"({joined})", "bool"
            case ast.Compare(left, [operator], [right]) if type(operator) in _COMPARE:
                return f"({self.expression(left)[0]} {_COMPARE[type(operator)]} {self.expression(right)[0]})", "bool"
            case ast.IfExp(test, one, other):
                (a, first), (b, second) = self.expression(one), self.expression(other)
                return f"({self.expression(test)[0]} ? {a} : {b})", max(first, second, key=_RANK.index)
            case ast.Call(function, arguments, []):
                return self._call(function, arguments)
        raise ValueError(f"{self.tree.name}: cannot translate {ast.unparse(node)!r}")

    def _name(self, name: str) -> tuple[str, str]:
        if name in self.types:
            kind = self.types[name]
            return name, "long long" if kind == "Size" else kind
        if name in self.constants:
            value = self.constants[name]
            return (repr(value), "double") if isinstance(value, float) else (f"{int(value)}ULL", "word")
        raise ValueError(f"{self.tree.name}: unknown name {name!r}")

    def _subscript(self, array: ast.expr, index: ast.expr) -> tuple[str, str]:
        text, kind = self.expression(array)
        places = index.elts if isinstance(index, ast.Tuple) else [index]
        return text + "".join(f"[{self.expression(place)[0]}]" for place in places), (
            "word" if kind in ("Words", "Random") else "double"
        )

    def _binary(self, left: ast.expr, operator: ast.operator, right: ast.expr) -> tuple[str, str]:
        (a, first), (b, second) = self.expression(left), self.expression(right)
        if isinstance(operator, ast.Pow):
            power = _integer(right)
            if isinstance(left, ast.Constant) and left.value == 2.0 and power is not None:
                return repr(2.0**power), "double"
            return (f"pow({a}, {b})" if power is None else f"power<{power}>({a})"), "double"
        if type(operator) not in _BINARY:
            raise ValueError(f"{self.tree.name}: cannot translate {type(operator).__name__}")
        if isinstance(operator, ast.Div):
            return f"((double)({a}) / {b})", "double"
        return f"({a} {_BINARY[type(operator)]} {b})", max(first, second, key=_RANK.index)

    def _call(self, function: ast.expr, arguments: list[ast.expr]) -> tuple[str, str]:
        name = function.attr if isinstance(function, ast.Attribute) else ast.unparse(function)
        if name in self.known:
            callee = self.known[name]
            kinds = [self._annotation(argument) for argument in callee.args.args]
            kept = [a for a, kind in zip(arguments, kinds, strict=True) if kind not in _DROPPED]
            return f"{name}({', '.join(self.expression(a)[0] for a in kept)})", self.result(callee)
        texts = [self.expression(argument)[0] for argument in arguments]
        if name in ("len", "float", "uint64"):
            form, kind = {
                "len": ("LENGTH", "long long"),
                "float": ("(double)", "double"),
                "uint64": ("(word)", "word"),
            }[name]
            return f"{form}({texts[0]})", kind
        if name == "isfinite":
            return f"(fabs({texts[0]}) <= 1.7976931348623157e308)", "bool"
        if self.types.get(name) == "Any" or name in _NATIVE:  # a function of the module, or of the language
            return f"{_NATIVE.get(name, name)}({', '.join(texts)})", "double"
        raise ValueError(f"{self.tree.name}: unknown function {name!r}")


PRELUDE = _BASE + "\n".join(
    translate_formula(function.compiled.removeprefix("@njit\n"), name)
    for name, function in FUNCTIONS.items()
    if function.compiled.startswith("@njit")
)
"""What every source begins with."""
