"""The kernels of the exact chain: C++ of `chain_step` and `chain_basis`, for given sizes and functions.

A thread runs a replica, its state in registers where they suffice.  What a card compiles is C++ for the host too.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from quenched.numerics.averages.activations import activation_functions, activation_value
from quenched.numerics.averages.losses import loss_functions
from quenched.numerics.compiled.precision import float_source
from quenched.sim.engines import chain_basis
from quenched.sim.engines import chain_step as step
from quenched.sim.translate import PRELUDE, translate, translate_formula

__all__ = ["CIRCLE", "LANES", "Sizes", "chain_source", "pack"]

LANES = 32  # threads that share the test samples of a replica
_UNROLLED = 160  # inner-loop passes of a step: beyond, code is long and registers do not hold the state anyway


class Sizes(NamedTuple):
    """All that a kernel is built for: K, p, clusters C, the teacher's m neurons, B samples and `bath` vectors of a bath
    in a step, and functions by name.

    `biased`: 1 where there are thresholds and an intercept, else 0.
    """

    K: int
    p: int
    C: int
    m: int
    B: int
    bath: int
    activation: str
    loss: str
    teacher: str
    biased: int = 0


_HEAD = """
constexpr long long B = {rows}, samples = {B}, taught = {m};
struct Data {{
    double references[{C} + {m}][{p}], sigmas[{C}], labels[{C}], thresholds[{C}], readout[{C}][{m} > 0 ? {m} : 1];
}};
struct Rule {{
    double freedom, scale, label_noise, sphere, scheduled, rho_c, rate_c, field_noise, sign;
    double first[{K}], second[{K}], rho_b[{K}], rate_b[{K}];
}};
struct Problem {{ Data data; Rule rule; }};
struct Work {{
    double x[{rows}][{p} + {K} + {rows}], c[{rows}][{K}], y[{rows}], rest[{rows}], field[{K}], value[{K}], push[{K}];
    double h[{K}][{K}];
    double h_later[{K}][{rows}], beyond[{K}], inner[{K}], turned[{rows}], rho[{K}], length[{K}], bias[{K}];
}};
typedef const double (*Rates)[5];
struct State {{ word random[2]; double W[{p} + {K}][{K}], v[{K} + {biased} * ({K} + 1)]; Rates rates; }};
"""

CIRCLE = """
INSIDE Two<double, double> circle(double turn) {
    double sine, cosine;
#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
    sincospi(2.0 * turn, &sine, &cosine);
#else
    sine = sin(6.283185307179586 * turn); cosine = cos(6.283185307179586 * turn);
#endif
    return {cosine, sine};
}
"""

_ADVANCE = """
KERNEL advance(long long S, long long start, long long steps, const word* keys, const long long* which,
               const Problem* problems, const double* rates, long long rows, double* W, double* v, long long* good,
               word stream) {
    EACH(s, S) {
        if (good[s] == start) {
            State state;
            state.random[0] = keys[s]; state.random[1] = stream;
            const Problem& problem = problems[which[s]];
            state.rates = (Rates)(rates + which[s] * rows * 5);
            UNROLL
            for (int i = 0; i < (int)(sizeof(state.W) / 8); ++i) (&state.W[0][0])[i] = W[s * (sizeof(state.W) / 8) + i];
            UNROLL
            for (int i = 0; i < (int)(sizeof(state.v) / 8); ++i) state.v[i] = v[s * (sizeof(state.v) / 8) + i];
            good[s] += do_steps(start, steps, state, problem);
            UNROLL
            for (int i = 0; i < (int)(sizeof(state.W) / 8); ++i) W[s * (sizeof(state.W) / 8) + i] = (&state.W[0][0])[i];
            UNROLL
            for (int i = 0; i < (int)(sizeof(state.v) / 8); ++i) v[s * (sizeof(state.v) / 8) + i] = state.v[i];
        }
    }
}
"""

_TEST = """
KERNEL test(long long S, long long record, long long per_cluster, const word* keys, const long long* which,
            const Problem* problems, const double* W, const double* v, double* sums, word stream) {
    EACH(i, S * LANES) {
        const long long s = i / LANES, lane = i % LANES;
        State state;
        Work work;
        state.random[0] = keys[s]; state.random[1] = stream;
        const Problem& problem = problems[which[s]];
        for (int j = 0; j < sizeof(state.W) / 8; ++j) (&state.W[0][0])[j] = W[s * (sizeof(state.W) / 8) + j];
        for (int j = 0; j < sizeof(state.v) / 8; ++j) state.v[j] = v[s * (sizeof(state.v) / 8) + j];
        constexpr int clusters = LENGTH(problem.data.sigmas);
        for (int a = 0; a < clusters; ++a) {
            double square = 0.0, wrong = 0.0, tie = 0.0, charge = 0.0;
            for (long long n = lane; n < per_cluster; n += LANES) {
                const long long number = (record * clusters + a) * per_cluster + n;
                const Two<double, double> found = test_sample(number, a, state, problem, work);
                const double output = found._0, y = found._1;
                square += (output - y) * (output - y);
                wrong += output * y < 0.0 ? 1.0 : 0.0;
                charge += loss(output, y);
                tie += output == 0.0 || (taught > 0 && y == 0.0) ? 1.0 : 0.0;
            }
            double* here = sums + ((s * clusters + a) * 4) * LANES + lane;
            here[0] = square; here[LANES] = wrong; here[2 * LANES] = tie; here[3 * LANES] = charge;
        }
    }
}
"""


@lru_cache(maxsize=64)
def chain_source(sizes: Sizes) -> str:
    """The C++ of the kernels `advance` and, for one sample a step, `test`."""
    K, p, B = sizes.K, sizes.p, sizes.B + sizes.bath
    g, dg = activation_functions(sizes.activation)
    value, slope, _ = loss_functions(sizes.loss)
    formulas = {"g": g, "dg": dg, "loss": value, "slope": slope, "teacher": activation_value(sizes.teacher)}
    unrolled = B * K * (K + p + B) <= _UNROLLED
    return "\n".join(
        [
            PRELUDE,
            f"#define LANES {LANES}",
            '#define UNROLL _Pragma("unroll")' if unrolled else "#define UNROLL",
            "#if !defined(__CUDACC__) && !defined(__CUDACC_RTC__)\n#undef UNROLL\n#define UNROLL\n#endif",
            _HEAD.format(**sizes._asdict(), rows=B),
            CIRCLE,
            *(translate_formula(float_source(function), name) for name, function in formulas.items()),
            _steps(B == 1),
            _ADVANCE,
            _TEST if B == 1 else "",
        ]
    )


@lru_cache(maxsize=2)
def _steps(tests: bool) -> str:
    """The C++ of a step, and of a test sample, for all sizes."""
    names = ["philox", "uniforms", "normals", "chi_square", "draw_counted", "hidden_counted", "label", "said"]
    names += ["local_fields", "inner_products", "absorb", "cluster", "clear", "shifted", "warm", "learn"]
    names += ["squared_length", "lengths", "scale_back", "charge_one", "do_steps"] + ["test_sample"] * tests
    known = vars(chain_basis) | vars(step)
    functions = {name.removesuffix("_counted").removesuffix("_one"): known[name] for name in names}
    constants = {name: value for name, value in vars(step).items() if isinstance(value, np.uint64)}
    return translate(functions, constants, {"circle": step.circle})


def pack(problem: step.Numbers) -> npt.NDArray[np.float64]:
    """The numbers of a problem in the order of the struct `Problem`."""
    readout = problem.data.readout
    readout = readout if readout.size else np.zeros(len(readout))  # no array is empty in C++
    parts: list[Any] = [*problem.data[:-1], readout, *problem.rule]
    return np.concatenate([np.ravel(part) for part in parts])
