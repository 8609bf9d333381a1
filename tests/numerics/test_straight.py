"""Functions without loops and branches, handed to LLVM operation by operation: the bits of numba's own compilation."""

import numpy as np
import pytest
from numba import TypingError

from quenched.numerics.compiled import cache
from quenched.numerics.compiled import machine_code as kept

TEXT = """
from math import erf

from numba import njit
from numpy import exp, pi, sqrt

from quenched.numerics.compiled.double_double import remainder, residual
from quenched.numerics.compiled.machine_code import njit as kept
from quenched.numerics.compiled.straight import straight


@njit
def where(condition, x, y):
    return x if condition else y


def formula(a, b):
    c = -(a**2) / (2 * b)
    d_ = remainder((b, 0.0), (a / 3, 0.0), (7, 0.0))
    d = d_[0]
    e = where(a < 1 / 3, c, sqrt(2) * d)
    f_ = residual(d_, (a, 0.0), d_, (b, 0.0))
    return exp(c) / sqrt(pi * b), d - 7 * erf(a), e, b**3 - a**5 / 0.1, b**1.5, 3, f_[0]


by_numba = njit(error_model="numpy")(formula)
written = straight(formula)


@kept(error_model="numpy")
def call(out, a, b):
    written(out, (a, b))
"""


def test_the_bits_are_those_of_numba() -> None:
    made = cache.module(TEXT, "test")
    draw, out = np.random.default_rng(0), np.empty(7)
    for a, b in zip(draw.normal(size=100), draw.gamma(2.0, size=100), strict=True):
        made.call(out, a, b)
        assert out.tolist() == list(made.by_numba(a, b))


def test_machine_code_knows_the_formula_and_what_it_calls() -> None:
    """Two texts that differ in a formula alone, or in a function that a formula calls, have code of their own."""
    texts = TEXT, TEXT.replace("d - 7", "d - 8"), TEXT.replace("x if condition else y", "y if condition else x")
    origins = [kept._origin(cache.module(text, "test").call.py_func) for text in texts]
    assert len(set(origins)) == 3
    reached = {function.__name__ for function in kept._reached(cache.module(TEXT, "test").call.py_func)}
    assert {"typed", "formula", "where", "remainder", "residual", "_sum"} <= reached  # the emitter and the callees


@pytest.mark.parametrize(
    "body", ["a += 1.0\n    return a", "for _ in range(3):\n        a = a * a\n    return a", "return [a]", "b = a"]
)
def test_what_is_no_formula_is_refused(body: str) -> None:
    text = TEXT.partition("def formula")[0] + f"def formula(a, b):\n    {body}\n" + TEXT.partition("by_numba = ")[2]
    with pytest.raises(TypeError, match=r"is no (assignment|expression) of numbers|returns nothing"):
        cache.module(text.replace('njit(error_model="numpy")(formula)\n', ""), "test").call(np.empty(1), 1.0, 2.0)


CALLS = """
from quenched.numerics.compiled.machine_code import call, callback, njit as kept


@callback("float64(float64, float64)", error_model="numpy")
def ratio(x, y):
    return x / y


@kept(error_model="numpy")
def total(there, values):
    found = 0.0
    for x in values:
        found += call(there, (x, 3.0))
    return found


@kept(error_model="numpy")
def of_integers(there):
    return call(there, (1, 2))
"""


def test_a_callback_is_called_at_its_address() -> None:
    """With floats alone: the machine trusts the address, and would take an integer for one."""
    made, values = cache.module(CALLS, "test"), np.random.default_rng(1).normal(size=50)
    expected = 0.0
    for x in values:
        expected += x / 3.0
    assert made.total(kept.address(made.ratio), values) == expected
    assert kept._call(made.ratio.ctypes, (1.0, 4.0)) == 0.25  # what stands for it without the compiler
    with pytest.raises(TypingError, match="call"):
        made.of_integers(kept.address(made.ratio))


def test_arrays_that_may_not_be_written_to_are_no_second_compilation() -> None:
    made, fixed = cache.module(CALLS, "test"), np.array([1.5, -2.25])
    fixed.flags.writeable = False
    there = kept.address(made.ratio)
    known = made.total(there, fixed.copy())
    before = list(made.total.overloads)
    assert made.total(there, fixed) == made.total(there, fixed) == known
    assert list(made.total.overloads) == before
