"""One step of the exact chain, written once: numba compiles it for the host, `quenched.sim.translate` for a card.

The mathematics is in `quenched.sim.engines.overlaps`, what a step does to the basis in `chain_basis`.  The functions
below keep to what the translation knows: numbers, arrays whose sizes are known when a kernel is built, loops over
ranges, and the functions of `math`.

Random numbers come from `draw`, which has two forms.  A NumPy generator draws on the host.  A counter draws the same
numbers everywhere: sample number n of the replica with key s, in stream u, has the blocks
Philox4x32-10(counter = (n, block, u), key = s) of Salmon et al. (2011), and nothing else decides on them.  Philox is
here because cuRAND's has no twin on the host, and its headers do not come with CuPy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import types
from numba.extending import overload

from quenched.numerics.compiled.machine_code import inner, njit
from quenched.sim.engines.chain_basis import Work, absorb, lengths, local_fields, scale_back
from quenched.sim.engines.chain_charge import Rule, charge, charge_one, readouts, shifted

__all__ = ["Data", "Numbers", "Replica", "Rule", "advance", "advance_plainly", "advance_several", "charge_one"]
__all__ += ["test_sample"]

Array = npt.NDArray[np.float64]
Words = npt.NDArray[np.uint64]
Word = np.uint64
Function = Callable[..., float]
Size = int
Sizes = tuple[int, int, int]
Random = Any  # a generator of NumPy, or Words (key, stream)


class Data(NamedTuple):
    """The data law: `references` (C + m, p), `sigmas`, `labels`, `thresholds` (C,) and the teacher's `readout` (C, m).

    `thresholds` are the cumulative weights of the clusters, the last replaced by infinity.
    """

    references: Array
    sigmas: Array
    labels: Array
    thresholds: Array
    readout: Array


class Numbers(NamedTuple):
    """All of a problem."""

    data: Data
    rule: Rule


class Replica(NamedTuple):
    """Of a replica: its random numbers, W (p + K, K) and v (K,), or v, b and c one after the other, (2K + 1,).

    Of several outputs v (c K,), by rows.  And the rates of its steps, (steps, 5), or (1, 5) if they are constant:
    1 - eta kappa/D, 1 - eta_v kappa_v/D, eta and eta_v times s/(B D), and what a vector of the bath is multiplied by,
    sqrt(2 eta T)/D.
    """

    random: Random
    W: Array
    v: Array
    rates: Array


@njit(nogil=True, error_model="numpy")
def advance(
    start: int,
    steps: int,
    state: Replica,
    problem: Numbers,
    B: Size,
    bath: Size,
    g: Any,
    dg: Any,
    slope: Any,
    teacher: Any,
) -> int:
    """`steps` steps after the first `start`, in place; how many were done before the weights ceased to be finite.

    -1 where the last step of the call before has made them so; 0 where the initial state leaves the numbers.
    """
    return do_steps(start, steps, state, problem, (B + bath, B, problem.data.readout.shape[1]), g, dg, slope, teacher)


@njit(nogil=True, error_model="numpy")
def advance_plainly(
    start: int,
    steps: int,
    state: Replica,
    problem: Numbers,
    B: Size,
    bath: Size,
    g: Any,
    dg: Any,
    slope: Any,
    teacher: Any,
) -> int:
    """The same for B = 1, no bath and no teacher: loops over samples and teachers go, with a third of the time.

    A function of its own, as each takes a quarter of a minute to compile, and most need one of them.
    """
    return do_steps(start, steps, state, problem, (1, 1, 0), g, dg, slope, teacher)


@njit(nogil=True, error_model="numpy")
def advance_several(
    start: int,
    steps: int,
    state: Replica,
    problem: Numbers,
    B: Size,
    bath: Size,
    g: Any,
    dg: Any,
    slope: Any,
    teacher: Any,
) -> int:
    """The same of several outputs, for any B in one, as it takes seconds to compile: `charge_several`."""
    return do_steps(start, steps, state, problem, (B + bath, B, 0), g, dg, slope, teacher)


@inner(nogil=True, error_model="numpy", inline="always")
def do_steps(
    start: int, steps: int, state: Replica, problem: Numbers, sizes: Sizes, g: Any, dg: Any, slope: Any, teacher: Any
) -> int:
    """The same, in the notation of the module `overlaps`; of the B vectors of a step, `samples` are inputs."""
    B, samples, taught = sizes
    W, v, data, rule = state.W, state.v, problem.data, problem.rule
    K = len(W[0])
    work = Work(
        np.zeros((B, len(W) + B)),
        np.empty((B, K)),
        np.empty(B),
        np.empty(B),
        np.empty(K),
        np.empty(K),
        np.empty(readouts(K, v, slope)),
        np.empty((K, K)),
        np.empty((K, B)),
        np.empty(K),
        np.empty(K),
        np.empty(B),
        np.empty(K),
        np.empty(K),
        np.zeros(readouts(K, v, slope)),
    )
    for step in range(steps):
        at = step if rule.scheduled != 0.0 else 0
        total = 0.0
        clear(work)
        for b in range(samples):
            number = (start + step) * B + b
            chosen, noise, square = draw(state.random, number, work.x, b, rule.freedom, rule.label_noise)
            a = cluster(chosen, data)
            work.rest[b] = data.sigmas[a] ** 2 * square
            y = label(work.x, b, a, work.rest[b], data, B) + rule.label_noise * noise
            work.y[b] = y + said(state.random, number, work.x, b, a, problem, taught, teacher)
            local_fields(W, work.x, b, work.field, work.h)
            if not math.isfinite(charge(b, work, v, rule, state.rates[at, 2], g, dg, slope)):
                return step - 1 if start + step > 0 else 0
            total += work.y[b]  # the slope of the loss, which `charge` has left there
        for b in range(samples, B):
            warm(b, b - samples, (start + step) * B + b, state.rates[at, 4], state, rule, work)
        learn(at, total, state, rule, work)
        lengths(W, rule.sphere, work)
        for b in range(B):
            absorb(W, b, B, work)
        scale_back(W, rule.sphere, work)
    return steps


@inner(nogil=True, error_model="numpy", forceinline=True)
def cluster(chosen: float, data: Data) -> int:
    """The cluster that a uniform number chooses."""
    a = 0
    while chosen >= data.thresholds[a]:
        a += 1
    return a


@inner(nogil=True, error_model="numpy", forceinline=True)
def clear(work: Work) -> None:
    """Forget the pushes of the last step."""
    for k in range(len(work.push)):
        work.push[k] = 0.0
        work.bias[k] = 0.0


@inner(nogil=True, error_model="numpy", forceinline=True)
def learn(at: int, total: float, state: Replica, rule: Rule, work: Work) -> None:
    """The step of readouts, thresholds and intercept, and the factors rho of the weights in it; frozen ones stay.

    `total`: the slopes of the loss of the samples, added up.
    """
    v = state.v
    K = len(work.rho)
    for o in range(len(work.push)):
        v[o] = v[o] + rule.second[o] * ((state.rates[at, 1] - 1.0) * v[o] - state.rates[at, 3] * work.push[o])
    for k in range(K):
        work.rho[k] = 1.0 + rule.first[k] * (state.rates[at, 0] - 1.0)
    if len(v) > len(work.push):
        for k in range(K):
            v[K + k] = rule.rho_b[k] * v[K + k] - rule.rate_b[k] * work.bias[k]
        v[2 * K] = rule.rho_c * v[2 * K] - rule.rate_c * total


@inner(nogil=True, error_model="numpy", forceinline=True)
def warm(b: int, neuron: int, number: int, kick: float, state: Replica, rule: Rule, work: Work) -> None:
    """Vector b of a step is one of the bath, for one neuron: standard normals, in the basis that the samples use."""
    _, _, square = draw(state.random, number, work.x, b, rule.freedom, 0.0)
    K = len(work.inner)
    n = len(state.W)
    work.x[b, n + b] = math.sqrt(square)
    work.rest[b] = square
    for k in range(K):
        work.c[b, k] = kick * math.sqrt(rule.first[k]) if k == neuron else 0.0


@inner(nogil=True, error_model="numpy", forceinline=True)
def test_sample(
    number: int, a: int, state: Replica, problem: Numbers, work: Work, taught: Size, g: Any, teacher: Any
) -> tuple[float, float]:
    """Output and label, without noise, of a fresh input of cluster a; B = 1."""
    v, data, rule = state.v, problem.data, problem.rule
    _, _, square = draw(state.random, number, work.x, 0, rule.freedom, 0.0)
    y = label(work.x, 0, a, data.sigmas[a] ** 2 * square, data, 1)
    y += said(state.random, number, work.x, 0, a, problem, taught, teacher)
    local_fields(state.W, work.x, 0, work.field, work.h)
    K = len(work.field)
    output = shifted(v, work.field) if len(v) > K else 0.0
    for k in range(K):
        output += rule.scale * v[k] * g(work.field[k])
    return output, y


@inner(nogil=True, error_model="numpy", forceinline=True)
def label(x: Array, b: int, a: int, square: float, data: Data, B: Size) -> float:
    """Make an input of cluster a of the normals in x[b]: p components, K, and b + 1 beyond.  Returns the label of a."""
    p = len(data.references[0])
    n = len(x[0]) - B
    sigma = data.sigmas[a]
    for i in range(n):
        x[b, i] *= sigma
    for i in range(p):
        x[b, i] += data.references[a, i]
    if B > 1:
        for i in range(n, n + b):
            x[b, i] *= sigma
        x[b, n + b] = math.sqrt(square)
    return data.labels[a]


@inner(nogil=True, error_model="numpy", forceinline=True)
def said(random: Random, number: int, x: Array, b: int, a: int, problem: Numbers, taught: Size, teacher: Any) -> float:
    """What the teacher says of sample `number`, the input x[b] of cluster a."""
    data, rule = problem.data, problem.rule
    p = len(data.references[0])
    y = 0.0
    for m in range(taught):
        seen = 0.0
        for i in range(p):
            seen += data.references[len(data.sigmas) + m, i] * x[b, i]
        if rule.field_noise != 0.0:
            seen += rule.field_noise * hidden(random, number, m)
        y += data.readout[a, m] * teacher(seen)
    if rule.sign != 0.0:
        y = 1.0 if y > 0.0 else -1.0 if y < 0.0 else 0.0
    return y


# --- random numbers
# -------------------------------------------------------------------------------------------------------------------


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


@inner(nogil=True, error_model="numpy", forceinline=True)
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


def hidden(random: Random, number: int, m: int) -> float:
    """The standard normal that disturbs the field of the teacher's neuron m, for sample `number`."""
    raise NotImplementedError("compiled code only")


@overload(hidden, jit_options={"error_model": "numpy", "forceinline": True})
def _hidden(random: Any, number: Any, m: Any) -> Any:
    """Which of the two forms."""

    def counted(random: Any, number: Any, m: Any) -> Any:
        return hidden_counted(random, number, m)

    def by_numpy(random: Any, number: Any, m: Any) -> Any:
        return random.standard_normal()

    return counted if isinstance(random, types.Array) else by_numpy


@inner(nogil=True, error_model="numpy", forceinline=True)
def hidden_counted(random: Words, number: int, m: int) -> float:
    """From blocks of the sample's counter that are far beyond those of `draw_counted`: from number 2^30 on."""
    normal, _ = normals(random, number, 1073741824 + m)
    return normal


@inner(nogil=True, error_model="numpy", forceinline=True)
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


@inner(nogil=True, error_model="numpy", forceinline=True)
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
