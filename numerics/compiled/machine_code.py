"""`njit`, `inner` and `callback`: numba's compilers with machine code that is kept in the checked cache.

numba's own cache pickles an index and the code into `__pycache__` and loads back whatever lies there.  Here the code of
one function at one signature is one file of `quenched.numerics.compiled.cache`, whose owner and digest are checked
first.  Its name is a digest of all that the code depends on: the text of the modules of the function and of the
compiled functions it calls, constants, signature, processor, versions of numba, LLVM and Python.  A version of numba
whose dispatchers have no place for a cache compiles in each process.
"""

from __future__ import annotations

import hashlib
import pickle
import sys
from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

from quenched.numerics.compiled.cache import place, read, source_of, write

__all__ = ["address", "call", "callback", "inner", "njit"]


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """`numba.njit`, with the machine code in the checked cache.

    numba compiles anew for arrays that may not be written to, such as those of a state.  Here they are taken like the
    rest: callers give a function that writes into an array one of their own.
    """
    import numba

    options["no_cfunc_wrapper"] = True  # functions that are handed to compiled loops are a `callback` each

    def decorate(function: Callable[..., Any]) -> Any:
        made = numba.njit(**options)(function)
        if hasattr(made, "_cache") and hasattr(made, "py_func"):  # neither where NUMBA_DISABLE_JIT is set
            made._cache = _MachineCode(made.py_func)
        if hasattr(made, "_compile_for_args") and hasattr(made, "_insert"):
            made._compile_for_args = _like_the_rest(made, made._compile_for_args)
        return made

    return decorate


def _like_the_rest(made: Any, compiled: Callable[..., Any]) -> Callable[..., Any]:
    """What numba asks for the code of `made` for arguments that it has not met."""
    from numba import types

    def code(*arguments: Any, **named: Any) -> Any:
        kinds = [made.typeof_pyval(argument) for argument in arguments]
        taken = [kind.copy(readonly=False) if isinstance(kind, types.Array) else kind for kind in kinds]
        if named or taken == kinds:
            return compiled(*arguments, **named)
        found = made.compile(tuple(taken))
        made._insert([kind._code for kind in kinds], found)  # so that numba finds it at once the next time
        return found

    return code


def inner(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """`njit` of what compiled functions alone call: no entry from Python, a third of the time to compile."""
    return njit(no_cpython_wrapper=True, **options)


def callback(signature: str, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """`numba.cfunc`, with the machine code in the checked cache; a plain function where NUMBA_DISABLE_JIT is set."""
    import numba
    from numba.core import sigutils
    from numba.core.ccallback import CFunc

    def decorate(function: Any) -> Any:
        if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
            return function
        made = CFunc(function, sigutils.normalize_signature(signature), locals={}, options=options)
        if hasattr(made, "_cache"):
            made._cache = _MachineCode(function)
        made.compile()
        return made

    return decorate


def address(made: Any) -> Any:
    """Where a `callback` of floats is, an argument of `call`; the function itself where NUMBA_DISABLE_JIT is set.

    Whoever keeps the address keeps the callback.
    """
    return getattr(made, "address", made)


def _call(address: Any, numbers: tuple[float, ...]) -> float:
    """call(address, (a, b, ..)) in compiled loops: the float that the callback there makes of floats, and nothing else.

    numba's own type of functions carries Python's lock and errors into each call: twice the time, and more to compile.
    """
    return address(*numbers)


def _typed_call(typing: Any, address: Any, numbers: Any) -> Any:
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils

    if any(kind != types.float64 for kind in numbers):
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        real = ir.DoubleType()
        kind = ir.FunctionType(real, [real] * len(signature.args[1])).as_pointer()
        values = cgutils.unpack_tuple(builder, arguments[1])
        return builder.call(builder.inttoptr(arguments[0], kind), values, attrs=("nounwind", "readnone"))

    return types.float64(address, numbers), generate


def _caller() -> Any:
    import numba
    from numba.extending import intrinsic

    if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
        return _call
    made: Any = intrinsic(_typed_call)
    made.py_func = _call  # what `_reached` looks for
    return made


call = _caller()


class _MachineCode:
    """What numba asks of the cache of one function."""

    def __init__(self, function: FunctionType) -> None:
        self.function = function
        self.cache_path: Path | None = None

    def load_overload(self, signature: Any, target: Any) -> Any:
        """The compiled result for a signature, None if it has to be compiled."""
        from numba.core.compiler import CompileResult

        target.refresh()
        path = self._path(signature, target.codegen())
        content = None if path is None else read(path)
        return None if content is None else CompileResult._rebuild(target, *pickle.loads(content))

    def save_overload(self, signature: Any, result: Any) -> None:
        """Keep a compiled result, unless it holds addresses of this process."""
        from numba.core.serialize import dumps

        path = self._path(signature, result.codegen)
        if path is None or result.library.has_dynamic_globals or not all(lift.can_cache for lift in result.lifted):
            return
        write(path, dumps(result._reduce()))

    def flush(self) -> None:
        """Nothing: the name of a file says all that it depends on."""

    def _path(self, signature: Any, codegen: Any) -> Path | None:
        folder, asked = place("machine"), repr((signature, codegen.magic_tuple()))
        origin = _origin(self.function)
        if folder is None or not origin or " at 0x" in asked:  # a signature that names an object of this process
            return None
        digest = hashlib.sha256(f"{_versions()}\0{origin}\0{asked}".encode()).hexdigest()
        return folder / f"{self.function.__name__}_{digest[:32]}.code"


@cache
def _versions() -> str:
    import llvmlite
    import numba

    settings = [getattr(numba.config, name, None) for name in ("OPT", "BOUNDSCHECK", "DEBUGINFO_DEFAULT")]
    return repr((numba.__version__, llvmlite.__version__, sys.version, settings))


@lru_cache(maxsize=1024)
def _origin(function: FunctionType) -> str:
    """A digest of what a function and the compiled functions that it reaches are made of; "" if that is not known."""
    digest = hashlib.sha256()
    for found in _reached(function):
        text = source_of(found.__module__)
        if not text:
            return ""
        digest.update(f"{found.__module__}.{found.__qualname__}\0".encode() + text)
        for name in sorted(_names(found.__code__)):
            value = found.__globals__.get(name)
            if isinstance(value, (int, float, str, tuple)):
                digest.update(f"{name} = {value!r}\0".encode())
    return digest.hexdigest()


def _reached(function: FunctionType) -> list[FunctionType]:
    """The function, and what the compiled functions are made from that it calls, directly or not."""
    found = [function]
    for caller in found:  # which grows on the way
        for name in sorted(_names(caller.__code__)):
            value = caller.__globals__.get(name)
            for attribute in ("py_func", "__wrapped__"):
                called = getattr(value, attribute, None)
                if isinstance(called, FunctionType) and called not in found:
                    found.append(called)
    return found


def _names(code: CodeType) -> set[str]:
    """Global names and attributes in a code, and in the codes of its comprehensions and inner functions."""
    inner = (part for part in code.co_consts if isinstance(part, CodeType))
    return set(code.co_names).union(*(_names(part) for part in inner))
