"""The random numbers of the chain, on the host and, translated, on a card.

They come from `draw`, which has two forms.  A NumPy generator draws on the host.  A counter draws the same numbers
everywhere: sample number n of the replica with key s, in stream u, has the blocks
Philox4x32-10(counter = (n, block, u), key = s) of Salmon et al. (2011), and nothing else decides on them.  Philox is
here because cuRAND's has no twin on the host, and its headers do not come with CuPy.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import types
from numba.extending import overload

from quenched.numerics.compiled.machine_code import njit

__all__ = ["Random", "draw", "draw_counted", "philox"]

Array = npt.NDArray[np.float64]
Words = npt.NDArray[np.uint64]
Word = np.uint64
Random = Any  # a generator of NumPy, or Words (key, stream)


def draw(random: Random, number: int, x: Array, b: int, freedom: float, noise: float) -> tuple[float, float, float]:
    """Fill x[b] with the standard normals of sample `number`, the b-th of its step.

    Returns a uniform number that chooses the cluster, the normal of the label noise, where there is `noise`, and a
    chi-square number of `freedom` - b degrees.
    """
    raise NotImplementedError("compiled code only")


@overload(draw, jit_options={"error_model": "numpy", "forceinline": True})
def _draw(random: Any, number: Any, x: Any, b: Any, freedom: Any, noise: Any) -> Any:
    """Which of the two forms."""

    def counted(random: Any, number: Any, x: Any, b: Any, freedom: Any, noise: Any) -> Any:
        return draw_counted(random, number, x, b, freedom, noise)

    def by_numpy(random: Any, number: Any, x: Any, b: Any, freedom: Any, noise: Any) -> Any:
        return draw_numpy(random, x, b, freedom, noise)

    return counted if isinstance(random, types.Array) else by_numpy


@njit(nogil=True, error_model="numpy", forceinline=True)
def draw_numpy(
    random: np.random.Generator, x: Array, b: int, freedom: float, noise: float
) -> tuple[float, float, float]:
    """From the stream of a generator of NumPy."""
    n = len(x[0]) - len(x)
    chosen = random.random()
    disturbed = random.standard_normal() if noise else 0.0
    for i in range(n):
        x[b, i] = random.standard_normal()
    square = random.chisquare(freedom - b) if freedom > b else 0.0
    for i in range(n, n + b):
        x[b, i] = random.standard_normal() if freedom > i - n else 0.0
    return chosen, disturbed, square


@njit(nogil=True, error_model="numpy", forceinline=True)
def draw_counted(
    random: Words, number: int, x: Array, b: int, freedom: float, noise: float
) -> tuple[float, float, float]:
    """From the blocks of a counter: two uniform numbers, then normals in pairs."""
    n = len(x[0]) - len(x)
    chosen, uniform = uniforms(random, number, 0)
    block = 1
    for i in range(0, n + b - 1, 2):
        x[b, i], x[b, i + 1] = normals(random, number, block)
        block += 1
    normal = 0.0
    disturbed = 0.0
    if (n + b) % 2 == 1:
        x[b, n + b - 1], normal = normals(random, number, block)
        block += 1
        if noise != 0.0:
            disturbed, _ = normals(random, number, block)
            block += 1
    else:
        normal, disturbed = normals(random, number, block)
        block += 1
    for i in range(n, n + b):
        if freedom <= i - n:
            x[b, i] = 0.0
    return chosen, disturbed, chi_square(random, number, block, freedom - b, normal, uniform)


@njit(nogil=True, error_model="numpy", forceinline=True)
def chi_square(random: Words, number: int, block: int, freedom: float, normal: float, uniform: float) -> float:
    """A chi-square number by the rejection method of Marsaglia and Tsang (2000), from a first normal and uniform."""
    if freedom <= 0.0:
        return 0.0
    if freedom == 1.0:
        return normal**2
    d = freedom / 2.0 - 1.0 / 3.0
    spread = 1.0 / math.sqrt(9.0 * d)
    cube = (1.0 + spread * normal) ** 3
    while uniform >= 1.0 - 0.0331 * normal**4 or cube <= 0.0:  # the squeeze: most leave here
        if cube > 0.0 and math.log(uniform) < normal**2 / 2.0 + d * (1.0 - cube + math.log(cube)):
            break
        normal, _ = normals(random, number, block)
        uniform, _ = uniforms(random, number, block + 1)
        block += 2
        cube = (1.0 + spread * normal) ** 3
    return 2.0 * d * cube


@njit(nogil=True, error_model="numpy", forceinline=True)
def normals(random: Words, number: int, block: int) -> tuple[float, float]:
    """Two standard normals, by the method of Box and Muller (1958)."""
    one, other = uniforms(random, number, block)
    radius = math.sqrt(-2.0 * math.log(one))
    cos, sin = circle(other)
    return radius * cos, radius * sin


@njit(nogil=True, error_model="numpy", forceinline=True)
def circle(turn: float) -> tuple[float, float]:
    """The point of the unit circle after `turn` turns; a card has a function of its own for it."""
    return math.cos(2.0 * math.pi * turn), math.sin(2.0 * math.pi * turn)


@njit(nogil=True, error_model="numpy", forceinline=True)
def uniforms(random: Words, number: int, block: int) -> tuple[float, float]:
    """Two numbers, uniform on the multiples of 2^-53 in (0, 1]."""
    one, other = philox(random, number, block)
    return float((one >> _11) + _1) * 2.0**-53, float((other >> _11) + _1) * 2.0**-53


_1 = np.uint64(1)
_11 = np.uint64(11)
_32 = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
_ROUND_0 = np.uint64(0xD2511F53)
_ROUND_1 = np.uint64(0xCD9E8D57)
_WEYL_0 = np.uint64(0x9E3779B9)
_WEYL_1 = np.uint64(0xBB67AE85)


@njit(nogil=True, error_model="numpy", forceinline=True)
def philox(random: Words, number: int, block: int) -> tuple[Word, Word]:
    """A block of Philox4x32-10: 128 bits, as two words."""
    key_0 = random[0] & _LOW
    key_1 = random[0] >> _32
    c0 = np.uint64(number) & _LOW
    c1 = np.uint64(number) >> _32
    c2 = np.uint64(block)
    c3 = random[1]
    for _ in range(10):
        one = c0 * _ROUND_0
        other = c2 * _ROUND_1
        c0 = (other >> _32) ^ c1 ^ key_0
        c1 = other & _LOW
        c2 = (one >> _32) ^ c3 ^ key_1
        c3 = one & _LOW
        key_0 = (key_0 + _WEYL_0) & _LOW
        key_1 = (key_1 + _WEYL_1) & _LOW
    return c0 | (c1 << _32), c2 | (c3 << _32)
