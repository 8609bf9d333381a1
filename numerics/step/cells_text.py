"""The source of averages of one step over two fields of piecewise linear activations, as integrals over the output.

Kinks of the activations cut the plane of the two fields into cells, in which the output is affine.  With lambda =
M + L z and unit vectors e along the output's gradient in z and n across it, z = u e + t n, the slope F of the loss
depends on u alone, and all averages over a cell are made of four integrals over u,

    int Du F p,    int Du F u p,    int Du F d,    int Du F^2 p,    p = int Dt 1,    d = int Dt t  over the chord at u,

Du and Dt with the density of N(0, 1): p is a difference of Phi, d one of densities.  The chord ends at the lines where
a field has a kink; where it changes from one line to another (a corner of the cell), where the loss has a kink, and
around a line that is nearly across e, panels of the adaptive rule of `quenched.numerics.step.quadrature_text` end.
Covariances may be singular, and the output may be constant in a cell.
"""

from __future__ import annotations

from quenched.numerics.step.quadrature_text import FORCE, REACH, RULE, adaptive_text, beyond_text

__all__ = ["cells_text"]

_STEEP = 0.5  # |r_t/r_u| of a line below which panels end on both sides of where it crosses u
_SIDE = 8.0  # how far from there, in units of that ratio: the chord's end crosses its law within
_LINES = 4  # that bound a cell

# data: output at z = 0 and its slope along e 0-1, label 2, and from 3 on for each field its bounds less its mean, and
# its components along e and n; tolerance 15
_CHORD = '''
from numpy import inf
from quenched.numerics.step.quadrature_text import panel_ends


@njit(error_model="numpy")
def value_outer(x, values, data, noise, by):
    """F p, F x p, F d and F^2 p at u = x."""
    low, high = -1e300, 1e300
    for n in range(2):
        from_, to, along, across = data[3 + 4 * n], data[4 + 4 * n], data[5 + 4 * n], data[6 + 4 * n]
        if across == 0.0:
            if along * x < from_ or along * x > to:
                high = low
            continue
        one, two = (from_ - along * x) / across, (to - along * x) / across
        low, high = max(low, min(one, two)), min(high, max(one, two))
    values[:] = 0.0
    if low < high:
        F, square = force(data[0] + data[1] * x, data[2], noise, by)
        inside = Phi(-low) - Phi(-high) if low > 0.0 else Phi(high) - Phi(low)
        values[0], values[1], values[3] = F * inside, F * x * inside, square * inside
        values[2] = F * (exp(-low * low / 2) - exp(-high * high / 2)) / sqrt(2 * pi)
    return 0.0
'''
_CELLS = '''
@njit(error_model="numpy")
def piece(i, pieces, mean, still, g, dg):
    """Ends, slope and intercept of the i-th piece; a field that is always `mean` has a piece of its own."""
    kinks, slopes, intercepts = pieces
    if still:
        slope = call(dg, (mean,))
        return -inf, inf, slope, call(g, (mean,)) - slope * mean
    low = kinks[i - 1] if i > 0 else -inf
    high = kinks[i] if i < len(kinks) else inf
    return low, high, slopes[i], intercepts[i]


@njit(error_model="numpy")
def place_cuts(cuts, data, L, e0, e1, loss_cuts):
    """Where the integrand over u is not smooth, or steep; unused places are left far away."""
    cuts[:] = 2 * {reach}
    count = 0
    for n in range(2):
        along, across = data[5 + 4 * n], data[6 + 4 * n]
        steep = abs(across) < {steep} * abs(along)
        for end in range(2):
            bound = data[3 + 4 * n + end]
            if steep and abs(bound) < inf:
                for side in range(-1, 2):
                    cuts[count] = bound / along + side * {side} * abs(across / along)
                    count += 1
            if n == 0 and abs(bound) < inf and L[0, 0] > 0.0 and L[1, 1] > 0.0:
                for other in range(2):
                    if abs(data[7 + other]) < inf:
                        x = bound / L[0, 0]
                        cuts[count] = e0 * x + e1 * (data[7 + other] - L[1, 0] * x) / L[1, 1]
                        count += 1
    for n in range(len(loss_cuts)):
        if loss_cuts[n, 0] == data[2] and data[1] > 0.0:
            cuts[count] = (loss_cuts[n, 1] - data[0]) / data[1]
            count += 1


@njit(error_model="numpy")
def cell(i, j, mean, L, weight, data, noise, cuts, found, by, pieces, loss_cuts):
    """Add the averages over one cell; their error."""
    still_0, still_1 = L[0, 0] == 0.0, L[1, 0] == 0.0 and L[1, 1] == 0.0
    low_0, high_0, slope_0, at_0 = piece(i, pieces[0], mean[0], still_0, by.g_0, by.dg_0)
    low_1, high_1, slope_1, at_1 = piece(j, pieces[1], mean[1], still_1, by.g_1, by.dg_1)
    at_0, at_1 = at_0 + slope_0 * mean[0], at_1 + slope_1 * mean[1]
    e0 = weight[0] * slope_0 * L[0, 0] + weight[1] * slope_1 * L[1, 0]
    e1 = weight[1] * slope_1 * L[1, 1]
    largest = max(abs(e0), abs(e1))
    if largest > 0.0:
        length = sqrt((e0 / largest) ** 2 + (e1 / largest) ** 2)
        e0, e1, gradient = e0 / largest / length, e1 / largest / length, largest * length
    else:
        e0, e1, gradient = 1.0, 0.0, 0.0
    data[0], data[1] = data[16] + weight[0] * at_0 + weight[1] * at_1, gradient
    data[3], data[4], data[5], data[6] = low_0 - mean[0], high_0 - mean[0], L[0, 0] * e0, -L[0, 0] * e1
    data[7], data[8] = low_1 - mean[1], high_1 - mean[1]
    data[9], data[10] = L[1, 0] * e0 + L[1, 1] * e1, L[1, 1] * e0 - L[1, 0] * e1
    place_cuts(cuts, data, L, e0, e1, loss_cuts)
    total = empty(4)
    error = beyond(total, {reach}, data, noise, by)
    error += integrate_outer(total, panel_ends(cuts), data, noise, by)
    F, along, across, square = total[0], total[1], total[2], total[3]
    z0, z1 = e0 * along - e1 * across, e1 * along + e0 * across
    found[0] += slope_0 * F
    found[1] += slope_1 * F
    found[2] += at_0 * F + slope_0 * (data[5] * along + data[6] * across)
    found[3] += at_1 * F + slope_1 * (data[9] * along + data[10] * across)
    found[4] += slope_0 * z0
    found[5] += slope_0 * z1
    found[6] += slope_1 * z0
    found[7] += slope_1 * z1
    found[8] += slope_0 * slope_0 * square
    found[9] += slope_0 * slope_1 * square
    found[10] += slope_1 * slope_1 * square
    found[11] += F
    steepest = max(abs(slope_0), abs(slope_1))
    first = abs(at_0) + abs(slope_0) * (abs(data[5]) + abs(data[6]))
    second = abs(at_1) + abs(slope_1) * (abs(data[9]) + abs(data[10]))
    return error * max(1.0, max(steepest * max(1.5, steepest), max(first, second)))


@kept(error_model="numpy", nogil=True)
def step(by, pieces, loss_cuts, mean, L, weight, label, offset, y, noise, tolerance, found):
    """Fill found (C, 12) with the averages in each cluster; the largest error of one.  `label` is not used: 0."""
    worst = 0.0
    data, cuts = zeros(17), empty({most} + len(loss_cuts))
    data[15], data[16] = tolerance, offset
    for a in range(mean.shape[0]):
        data[2], error = y[a], 0.0
        found[a] = 0.0
        rows = len(pieces[0][1]) if L[a, 0, 0] > 0.0 else 1
        columns = len(pieces[1][1]) if L[a, 1, 1] > 0.0 or L[a, 1, 0] != 0.0 else 1
        for i in range(rows):
            for j in range(columns):
                error += cell(i, j, mean[a], L[a], weight, data, noise, cuts, found[a], by, pieces, loss_cuts)
        worst = max(worst, error)
    return worst
'''


def cells_text() -> str:
    """The source of `step`, for two fields of functions `by` (`quenched.numerics.step.quadrature_text.Functions`).

    Of the numbers that `step` takes, `pieces` are kinks, slopes and intercepts of each activation; `loss_cuts` label
    and output of each kink of the loss.
    """
    cells = _CELLS.format(reach=REACH, steep=_STEEP, side=_SIDE, most=3 * _LINES + _LINES)
    return "\n\n".join([RULE, FORCE, _CHORD, adaptive_text("outer", 4), beyond_text(1, 4), cells])
