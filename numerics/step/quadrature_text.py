"""The source of averages of one step over one or two local fields by adaptive quadrature.

With lambda = M + L z, L lower triangular, the average over z_0 is an integral of averages over z_1 given z_0.  Both are
sums over panels, which end where an activation has a kink; a panel is bisected until Gauss-Kronrod rules of 10 and 21
points agree (R. Piessens et al., QUADPACK, 1983, whose estimate of the error of the finer rule is used).  Kinks of the
loss and steep slopes are found by bisection.  Where loss and both activations are smooth, the trapezoidal rule is
tried first.  `quenched.numerics.step.field_quadrature` compiles the source, once for all losses and activations.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from quenched.numerics.compiled.machine_code import inner
from quenched.numerics.probability.gauss_kronrod import COEFFICIENTS, ENDS, GAUSS, KRONROD, NODES

__all__ = [
    "FORCE",
    "REACH",
    "RULE",
    "Functions",
    "adaptive_text",
    "beyond_text",
    "component_count",
    "panel_ends",
    "quadrature_text",
]

Array = NDArray[np.float64]

_INNER = 0.03  # of the tolerance, of a panel of an inner integral, times its weight in the outer one
_STEP_LENGTH, _COARSEST = 0.125, 8  # the finest step of the trapezoidal rule, in standard deviations; the first one
_NEAR = 7.5  # standard deviations: where the integrand times exp(-28) is negligible there, points beyond are left out
_LEFT_OUT = 0.01  # of the tolerance: what is beyond may be that large
REACH = 9.5  # standard deviations: exp(-45) of the weight is outside
_NEGLIGIBLE = 1e-21  # weight of a sample that is left out: averages of powers may have 10^6 times their size there
_LEVELS = 40  # bisections of a panel, after which it is accepted with its error


class Functions(NamedTuple):
    """What is averaged: the addresses of dl/dphi of a loss, and of g and g' of each field.

    A loss of several outputs has a `term` as well (`quenched.numerics.averages.losses.ClassLoss`).
    """

    slope: Any
    term: Any
    g_0: Any
    dg_0: Any
    g_1: Any
    dg_1: Any


# panel(lower, upper, fine, coarse, size, ...) sums both rules; integrate(...) bisects.  Written once for each level.
_ADAPTIVE = '''
@njit(error_model="numpy")
def sentinel_{level}(x, share, values, data, noise, by):
    """A sum of the integrands of all averages, with the normal density: it has the kinks and steps of each of them."""
    density = exp(-x * x / 2) / sqrt(2 * pi)
    {remember_end}
    value_{level}(x, values, data, noise, by)
    total = 0.0
    for c in range({components}):
        total += (1.0 + {golden} * c) * values[c]
    return density * total


@njit(error_model="numpy")
def panel_{level}(lower, upper, fine, coarse, size, data, noise, by):
    """Both rules on one panel, with the normal density; `size` is the fine one of the absolute values.

    The error of inner integrals, and what a kink or step that both rules miss alike may amount to, as in
    `quenched.numerics.probability.quadrature`.
    """
    half = (upper - lower) / 2
    middle = lower + half
    fine[:] = 0.0
    coarse[:] = 0.0
    size[:] = 0.0
    values, seen = empty({components}), zeros(21)
    error = 0.0
    for j in range(21):
        n = j if j < 11 else 20 - j
        x = middle - half * NODES[n] if j < 11 else middle + half * NODES[n]
        density = half * exp(-x * x / 2) / sqrt(2 * pi)
        weight_fine = density * KRONROD[n]
        if weight_fine * {scale} < {negligible}:
            continue
        weight_coarse = density * GAUSS[n // 2] if n % 2 == 1 else 0.0
        {remember}
        error += weight_fine * value_{level}(x, values, data, noise, by)
        for c in range({components}):
            fine[c] += weight_fine * values[c]
            size[c] += weight_fine * abs(values[c])
            coarse[c] += weight_coarse * values[c]
            seen[j] += density / half * (1.0 + {golden} * c) * values[c]
    middle_part, last, largest, low_end, high_end = 0.0, 0.0, 0.0, 0.0, 0.0
    for k in range(9):
        coefficient = 0.0
        for j in range(21):
            coefficient += COEFFICIENTS[k, j] * seen[j]
        if k < 4:
            middle_part = max(middle_part, abs(coefficient))
        else:
            last = max(last, abs(coefficient))
    for j in range(21):
        low_end += ENDS[0, j] * seen[j]
        high_end += ENDS[1, j] * seen[j]
        largest = max(largest, abs(seen[j]))
    inside, share = half * (1 - 1e-12), {unseen} * half
    nearest = max(0.0, max(lower, -upper))
    if exp(-nearest * nearest / 2) * half * {scale} < {negligible}:
        return error, 0.0
    at_low = sentinel_{level}(middle - inside, share, values, data, noise, by)
    at_high = sentinel_{level}(middle + inside, share, values, data, noise, by)
    off = max(abs(low_end - at_low), abs(high_end - at_high))
    largest = max(largest, max(abs(at_low), abs(at_high)))
    last = last if last > 1e-13 * largest else 0.0
    off = off if off > 1e-12 * largest else 0.0
    fall = min(1.0, last / middle_part) if middle_part > 0.0 else 1.0
    return error, half * max(5.0 * last * min(fall, 20.0 * fall * fall), {unseen} * off)


@njit(error_model="numpy")
def integrate_{level}(total, ends, data, noise, by):
    """The integral over all panels between sorted `ends`, into `total`; its error."""
    lowers, uppers, depths = empty(64 + len(ends)), empty(64 + len(ends)), empty(64 + len(ends))
    count = len(ends) - 1
    for n in range(count):
        lowers[n], uppers[n], depths[n] = ends[n], ends[n + 1], 0.0
    fine, coarse, size = empty({components}), empty({components}), empty({components})
    total[:] = 0.0
    error = 0.0
    while count:
        count -= 1
        lower, upper, depth = lowers[count], uppers[count], depths[count]
        inner, gap = panel_{level}(lower, upper, fine, coarse, size, data, noise, by)
        rounding = gap <= 1e-14 * size.sum()
        for c in range({components}):
            difference = abs(fine[c] - coarse[c])
            if size[c] > 0.0:
                difference = min(difference, size[c] * (200.0 * difference / size[c]) ** 1.5)
            rounding = rounding and difference <= 1e-14 * size[c]
            gap = max(gap, difference)
        if rounding or gap * {scale} <= {share} * data[15] or depth >= {levels}:
            error += gap + inner
            for c in range({components}):
                total[c] += fine[c]
            continue
        middle = (lower + upper) / 2
        lowers[count], uppers[count], depths[count] = lower, middle, depth + 1.0
        lowers[count + 1], uppers[count + 1], depths[count + 1] = middle, upper, depth + 1.0
        count += 2
    return error

'''
FORCE = '''
@njit(error_model="numpy")
def force(phi, target, noise, by):
    """F and F^2, averaged over the label noise."""
    first, second = 0.0, 0.0
    for r in range(noise.shape[1]):
        slope = call(by.slope, (phi, target + noise[0, r]))
        first += noise[1, r] * slope
        second += noise[1, r] * slope * slope
    return first, second
'''
RULE = f"""
NODES, KRONROD, GAUSS = array({NODES[::-1].tolist()}), array({KRONROD[::-1].tolist()}), array({GAUSS[-2::-2].tolist()})
COEFFICIENTS, ENDS = array({COEFFICIENTS[[4, 5, 6, 7, 11, 12, 13, 14, 15]].tolist()}), array({ENDS.tolist()})
"""
_STEP = '''
from quenched.numerics.step.quadrature_text import panel_ends


{levels}

@kept(error_model="numpy", nogil=True)
def step(by, kinks, smooth, mean, L, weight, label, offset, y, noise, tolerance, found):
    """Fill found (C, components) with the averages in each cluster; the largest error of one."""
    worst = 0.0
    data = zeros({size} + len(kinks[{last}]))
    data[15], data[16] = tolerance, offset
    for n in range(len(kinks[{last}])):
        data[{size} + n] = kinks[{last}][n]
    cuts = empty(len(kinks[0]) + {last} * len(kinks[{last}]))
    for a in range(mean.shape[0]):
        {load}
        data[14] = y[a]
        cuts[:] = 2 * {reach}
        {place}
        worst = max(worst, beyond(found[a], {reach}, data, noise, by))
        {smooth}
        if L[a, 0, 0] > 0.0 or {N} == 2:
            worst = max(worst, integrate_outer(found[a], panel_ends(cuts), data, noise, by))
        else:
            value_outer(0.0, found[a], data, noise, by)
    return worst
'''
# data: means 0-1, L 2-5 by rows, weights 6-7, label weights 8-9, of the outer field z, g, g' 10-12 and the weight of
# the inner integral 13; label or class 14; tolerance 15; offset of the output 16; from 17 on readouts of several
# outputs, by rows, and the kinks of the last field
_VALUE = """
@njit(error_model="numpy")
def value_{level}(x, values, data, noise, by):
    {charged}
    {values}
    return 0.0
"""
# What a loss that grows exponentially has where the quadrature does not look.
_BEYOND = """
@njit(error_model="numpy")
def beyond(values, edge, data, noise, by):
    # the largest average over what is `edge` standard deviations away, as the integrand there says
    largest = 0.0
    for n in range({directions}):
        angle = 2 * pi * n / {directions}
        x = edge * cos(angle)
        {outer}value_{level}({inner}, values, data, noise, by)
        for c in range({components}):
            largest = max(largest, abs(values[c]))
    return {measure} * exp(-edge * edge / 2) * largest
"""
# For two fields and smooth activations: exp(-2 pi d/h) is the error of the trapezoidal rule of step h for integrands
# that are analytic within d of the real line, so that the change from step 2 h is the root of it.
_TRAPEZOIDAL = """
DENSITY = {step} * exp(-0.5 * ({step} * arange({reach})) ** 2) / sqrt(2 * pi)


@njit(error_model="numpy")
def lattice(stride, between, radius, total, size, values, data, noise, by):
    # add the points whose indices are multiples of stride; those of 2 stride are already there if `between`
    last = int(radius / {step}) // stride * stride
    for i in range(-last, last + 1, stride):
        x = {step} * i
        field = data[0] + data[2] * x
        data[10], data[11], data[12] = x, call(by.g_0, (field,)), call(by.dg_0, (field,))
        apart = 2 * stride if between and i % (2 * stride) == 0 else stride
        first = stride if apart > stride else 0
        most = int(sqrt(max(0.0, radius * radius - x * x)) / {step})
        for j in range(-((most + first) // apart) * apart + first, most + 1, apart):
            weight = DENSITY[abs(i)] * DENSITY[abs(j)]
            value_inner({step} * j, values, data, noise, by)
            for c in range({components}):
                total[c] += weight * values[c]
                size[c] += weight * abs(values[c])


@njit(error_model="numpy")
def trapezoidal(total, radius, tolerance, data, noise, by):
    # the integral over both fields within a radius, into `total`, with steps that are halved; its error
    values, coarse, sums, size = empty({components}), empty({components}), zeros({components}), zeros({components})
    stride, error = {coarsest}, 1e300
    lattice(stride, False, radius, sums, size, values, data, noise, by)
    while stride > 1 and error > tolerance:
        for c in range({components}):
            coarse[c] = stride * stride * sums[c]
        stride //= 2
        lattice(stride, True, radius, sums, size, values, data, noise, by)
        error = 0.0
        for c in range({components}):
            total[c] = stride * stride * sums[c]
            whole = stride * stride * size[c]
            if whole > 0.0:
                error = max(error, whole * (10.0 * (total[c] - coarse[c]) / whole) ** 2 + 1e-15 * whole)
    return error
"""
_OUTER = """
@njit(error_model="numpy")
def value_outer(x, values, data, noise, by):
    field = data[0] + data[2] * x
    data[10], data[11], data[12] = x, call(by.g_0, (field,)), call(by.dg_0, (field,))
    if data[5] == 0.0:
        return value_inner(0.0, values, data, noise, by)
    return integrate_inner(values, panel_ends((data[{size}:] - data[1] - data[4] * x) / data[5]), data, noise, by)
"""


@inner(error_model="numpy")
def panel_ends(cuts: Array) -> Array:
    """Panel ends, sorted: the cuts within reach, the middle unless a cut is near it, and where the density is small."""
    ends = np.empty(len(cuts) + 5)
    ends[0], ends[1], ends[2], ends[3] = -REACH, -4.0, 4.0, REACH
    count = 4
    central = True
    for cut in cuts:
        if abs(cut) < REACH:
            ends[count] = cut
            count += 1
            central = central and abs(cut) > 2.0
    if central:
        ends[count] = 0.0
        count += 1
    for n in range(4, count):  # sorted in: a library's sort takes seconds to compile
        here = ends[n]
        while n > 0 and ends[n - 1] > here:
            ends[n] = ends[n - 1]
            n -= 1
        ends[n] = here
    return ends[:count]


def component_count(N: int, outputs: int = 0) -> int:
    """The number of averages over N fields, of a loss of several outputs where there are such."""
    return N + N * (outputs or 1) + N * N + N * (N + 1) // 2 + (outputs == 0)


def _fields(N: int) -> list[str]:
    """Lines that set z_n, g_n and dg_n of a sample."""
    last = N - 1
    fields = [f"field = data[{last}] + data[{2 + 3 * last}] * x" + (" + data[4] * data[10]" if N == 2 else "")]
    fields.append(f"z{last}, g{last}, dg{last} = x, call(by.g_{last}, (field,)), call(by.dg_{last}, (field,))")
    if N == 2:
        fields.append("z0, g0, dg0 = data[10], data[11], data[12]")
    return fields


def _sample(level: str, N: int) -> str:
    """The values F g'_n, F g_n, F g'_n z_m and F^2 g'_n g'_m (n <= m), F of one sample, n and m over the fields."""
    each = range(N)
    phi = " + ".join([*(f"data[{6 + n}] * g{n}" for n in each), "data[16]"])
    target = " + ".join(["data[14]", *(f"data[{8 + n}] * g{n}" for n in each)])
    values = [f"F * dg{n}" for n in each] + [f"F * g{n}" for n in each]
    values += [f"F * dg{n} * z{m}" for n in each for m in each]
    values += [f"square * dg{n} * dg{m}" for n in each for m in each if n <= m]
    values.append("F")
    return _value(level, [*_fields(N), f"F, square = force({phi}, {target}, noise, by)"], values)


def _class_sample(level: str, N: int, outputs: int) -> str:
    """The values push_n, F_c g_n, push_n z_m and push_n push_m (n <= m) of one sample, push_n = g'_n sum_c F_c v_cn."""
    each, lines = range(N), _fields(N)
    readout = [[f"data[{17 + c * N + n}]" for n in each] for c in range(outputs)]
    phi = [f"phi{c}" for c in range(outputs)]
    lines += [
        f"{p} = " + " + ".join(f"{v} * g{n}" for n, v in enumerate(row)) for p, row in zip(phi, readout, strict=True)
    ]
    lines.append(f"top = max({', '.join(phi)})")
    lines.append("total = " + " + ".join(f"call(by.term, ({p}, top))" for p in phi))
    for c, p in enumerate(phi):
        lines.append(f"F{c} = call(by.slope, ({p}, 1.0 if data[14] == {float(c)} else 0.0, top, total))")
    for n in each:
        lines.append(f"push{n} = dg{n} * (" + " + ".join(f"F{c} * {row[n]}" for c, row in enumerate(readout)) + ")")
    values = [f"push{n}" for n in each] + [f"F{c} * g{n}" for c in range(outputs) for n in each]
    values += [f"push{n} * z{m}" for n in each for m in each]
    return _value(level, lines, values + [f"push{n} * push{m}" for n in each for m in each if n <= m])


def _value(level: str, lines: list[str], values: list[str]) -> str:
    """The function that fills the values of one sample."""
    return _VALUE.format(
        level=level,
        charged="\n    ".join(lines),
        values="\n    ".join(f"values[{c}] = {value}" for c, value in enumerate(values)),
    )


def adaptive_text(level: str, components: int) -> str:
    """`integrate_{level}(total, ends, data, noise, by)` of `value_{level}`, over the panels of `panel_ends`.

    It takes the tolerance from data[15]; the inner level the weight of its integral from data[13].
    """
    inner = level == "inner"
    return _ADAPTIVE.format(
        level=level,
        components=components,
        share=_INNER if inner else 1.0,
        scale="data[13]" if inner else "1.0",
        remember="" if inner else "data[13] = weight_fine",
        remember_end="" if inner else "data[13] = share * density",
        unseen=repr(2 * (1 - float(NODES[-1]))),
        golden=0.6180339887498949,
        levels=_LEVELS,
        negligible=_NEGLIGIBLE,
    )


def beyond_text(N: int, components: int) -> str:
    """The function of what is beyond an edge."""
    outer = "field = data[0] + data[2] * x\n        "
    outer += "data[10], data[11], data[12] = x, call(by.g_0, (field,)), call(by.dg_0, (field,))\n        "
    return _BEYOND.format(
        directions=2 if N == 1 else 16,
        outer="" if N == 1 else outer,
        level="outer" if N == 1 else "inner",
        inner="x" if N == 1 else "edge * sin(angle)",
        components=components,
        measure=repr(2 / math.sqrt(2 * math.pi)) if N == 1 else "edge",
    )


def _loaded(N: int, outputs: int) -> list[str]:
    """Lines that put the numbers of a cluster into `data`."""
    load = [f"data[{n}] = mean[a, {n}]" for n in range(N)]
    load += [f"data[{2 + 2 * n + m}] = L[a, {n}, {m}]" for n in range(N) for m in range(N)]
    if outputs:
        load += [f"data[{17 + c * N + n}] = weight[{c}, {n}]" for c in range(outputs) for n in range(N)]
    else:
        load += [f"data[{6 + n}], data[{8 + n}] = weight[{n}], label[{n}]" for n in range(N)]
    return load


def _cuts(N: int) -> list[str]:
    """Lines that put the kinks of a cluster into `cuts`, those of the second field where its law is sharp."""
    place = ["if L[a, 0, 0] > 0.0:", "    for n in range(len(kinks[0])):"]
    place.append("        cuts[n] = (kinks[0][n] - mean[a, 0]) / L[a, 0, 0]")
    if N == 2:  # where the kink of the second field crosses the centre of its law, if that is sharp
        place += ["if L[a, 1, 1] < abs(L[a, 1, 0]):", "    for n in range(len(kinks[1])):"]
        place.append("        cuts[len(kinks[0]) + n] = (kinks[1][n] - mean[a, 1]) / L[a, 1, 0]")
    return place


def quadrature_text(N: int, outputs: int = 0) -> str:
    """The source of `step`, for N fields of functions `by` (`Functions`); `outputs`: of a loss of as many.

    Of the numbers that `step` takes, `kinks` are N arrays, where g or g' of a field jumps, and `smooth` says whether
    neither they nor the slope of the loss do.
    """
    components, size = component_count(N, outputs), 17 + outputs * N
    first = "outer" if N == 1 else "inner"
    sample = _class_sample(first, N, outputs) if outputs else FORCE + _sample(first, N)
    levels = [RULE, sample, adaptive_text("outer", components), beyond_text(N, components)]
    attempt: list[str] = []
    if N == 2:
        levels[2:2] = [adaptive_text("inner", components), _OUTER.format(size=size)]
        reach = int(REACH / _STEP_LENGTH) + 1
        levels.append(_TRAPEZOIDAL.format(step=_STEP_LENGTH, reach=reach, coarsest=_COARSEST, components=components))
        attempt = [
            "if smooth:",
            f"    near = beyond(found[a], {_NEAR}, data, noise, by)",
            f"    radius = {_NEAR} if near <= {_LEFT_OUT} * tolerance else {REACH}",
            "    error = trapezoidal(found[a], radius, tolerance, data, noise, by)",
            "    if error <= tolerance:",
            f"        worst = max(worst, error + (near if radius == {_NEAR} else 0.0))",
            "        continue",
        ]
    return _STEP.format(
        reach=REACH,
        negligible=_NEGLIGIBLE,
        N=N,
        last=N - 1,
        size=size,
        smooth="\n        ".join(attempt),
        levels="\n\n".join(levels),
        load="\n        ".join(_loaded(N, outputs)),
        place="\n        ".join(_cuts(N)),
    )
