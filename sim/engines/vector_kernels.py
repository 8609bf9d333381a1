"""The kernels of the vectors engine on a card: all of a block but the matrix product.

A block of n samples X and the weights W lie one above the other, (S, J, n + N, d): dimensions in J chunks of d, so that
there are enough matrices for the card, N = K + m rows of weights, a teacher's last.  One product of this array with
itself has the Gram matrix of the samples and their local fields.  A warp does the steps of a replica one after the
other: lane i holds the fields of sample i, and broadcasts its coefficients when its step has come.

Inputs are of the counters of `chain_step`, the key the seed of the replica: a kernel that makes them where they are
needed moves half the memory of one that is given normals, and what a seed gets depends on nothing beside it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from quenched.numerics.averages.activations import activation_functions, activation_value
from quenched.numerics.averages.losses import loss_functions
from quenched.numerics.compiled.precision import float_source
from quenched.sim.engines import chain_step
from quenched.sim.engines.chain_kernels import CIRCLE
from quenched.sim.translate import PRELUDE, translate, translate_formula

__all__ = ["NUMBERS", "Block", "vector_source"]

NUMBERS = 11
"""Of a replica: scale, rate, rate_v, rho, rho_v, noise of labels, of fields; of biases rho_b, rho_c, rate_b, rate_c."""


class Block(NamedTuple):
    """All that the kernels are built for.

    K and m neurons, C clusters, blocks of n samples, B a step; D = J chunks of d; scales of `scaled` components (1 or
    D), means of `placed`; names of the functions; 1 or 0: `sign`, whether labels are the sign of what a teacher says,
    and `biased`, whether there are thresholds and an intercept.
    """

    K: int
    m: int
    C: int
    n: int
    B: int
    D: int
    J: int
    d: int
    scaled: int
    placed: int
    real: str
    activation: str
    loss: str
    teacher: str
    sign: int = 0
    biased: int = 0


_WARP = """
#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define WIDTH 1
#define AT 0
#define WARP(s, S) \\
    const long long s = (blockIdx.x * (long long)blockDim.x + threadIdx.x) / 32; const int lane = threadIdx.x % 32; \\
    if (s < (S))
#define LANES_DO
#define FROM(values, k, source) __shfl_sync(0xffffffffu, (values)[0][k], source)
#define ANY(flag) __any_sync(0xffffffffu, (flag)[0])
#else
#define WIDTH 32
#define AT lane
#define WARP(s, S) for (long long s = 0; s < (S); ++s)
#define LANES_DO for (int lane = 0; lane < 32; ++lane)
#define FROM(values, k, source) (values)[source][k]
static inline bool any_of(const bool* flag) {{
    bool found = false;
    for (int i = 0; i < 32; ++i) found |= flag[i];
    return found;
}}
#define ANY(flag) any_of(flag)
#endif
typedef {real} real;
constexpr int K = {K}, m = {m}, C = {C}, n = {n}, B = {B}, J = {J}, R = n + K + m, NUMBERS = {numbers};
constexpr int BIASED = {biased}, P = K + BIASED * (K + 1);  // v alone, or v, b and c
constexpr long long D = {D}, d = {d}, SCALED = {scaled}, PLACED = {placed}, SIGN = {sign};
"""

_KERNELS = """
// Clusters and labels of n samples: of the counters of the seeds.
KERNEL choose(long long S, long long first, const word* keys, const long long* mixture, const double* thresholds,
              const double* labels, const double* numbers, long long* cluster, double* y, word choice, word noise) {
    EACH(i, S * n) {
        const long long s = i / n, number = first + i % n;
        word random[2] = {keys[s], choice};
        const double chosen = uniforms(random, number, 0)._0;
        const double* bounds = thresholds + mixture[s] * C;
        int a = 0;
        while (chosen >= bounds[a]) ++a;
        cluster[i] = a;
        const double spread = numbers[s * NUMBERS + 5];
        random[1] = noise;
        y[i] = labels[mixture[s] * C + a] + (spread != 0.0 ? spread * normals(random, number, 0)._0 : 0.0);
    }
}

// The standard normals of block `block` of a sample: two of double precision, or four of single.
INSIDE void standard(const word (&random)[2], long long number, long long block, double (&z)[2]) {
    const Two<double, double> pair = normals(random, number, block);
    z[0] = pair._0; z[1] = pair._1;
}
INSIDE void standard(const word (&random)[2], long long number, long long block, float (&z)[4]) {
    const Two<word, word> bits = philox(random, number, block);
    const word words[2] = {bits._0, bits._1};
    for (int i = 0; i < 2; ++i) {
        const float radius = sqrtf(-2.0f * logf(((float)(words[i] & 0xFFFFFFFFULL) + 1.0f) * 2.3283064365386963e-10f));
        const float turn = ((float)(words[i] >> 32) + 0.5f) * 2.3283064365386963e-10f;
        float sine, cosine;
#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
        sincospif(2.0f * turn, &sine, &cosine);
#else
        sine = sinf(6.2831853f * turn); cosine = cosf(6.2831853f * turn);
#endif
        z[2 * i] = radius * cosine; z[2 * i + 1] = radius * sine;
    }
}

// Inputs X: rows of n samples in chunks of d components, 0 beyond D; a warp a row.
KERNEL inputs(long long S, long long first, const word* keys, const long long* mixture, const long long* cluster,
              const real* scales, const real* means, real* X, word stream) {
    EACH(thread, S * J * n * 32) {
        constexpr int PER = sizeof(real) == 8 ? 2 : 4;
        const long long row = thread / 32, i = row % n, chunk = row / n, s = chunk / J, start = chunk % J * d;
        const long long law = mixture[s] * C + cluster[s * n + i];
        const word random[2] = {keys[s], stream};
        real* to = X + (chunk * R + i) * d;
        for (long long c = thread % 32 * PER; c < d; c += 32 * PER) {
            real z[PER];
            standard(random, first + i, (start + c) / PER, z);
            #pragma unroll
            for (int part = 0; part < PER; ++part) {
                const long long q = start + c + part;
                real x = q < D ? scales[law * SCALED + (SCALED > 1 ? q : 0)] * z[part] : (real)0;
                if (q < PLACED) x += means[law * PLACED + q];
                if (c + part < d) to[c + part] = x;
            }
        }
    }
}

// The steps of a block.  `products` (S, J, R, R) is X X^T of samples and weights, in chunks.
KERNEL steps_of_block(long long S, long long start, long long steps, const word* keys, const double* numbers,
                      const double* readout, const long long* cluster, const real* products, const double* labels,
                      double* v, real* increments, double* decay, long long* good, word hidden) {
    WARP(s, S) {
        const double *number = numbers + s * NUMBERS, rho = number[3], root = sqrt((double)D);
        double field[WIDTH][K], c[WIDTH][K], push[WIDTH][K], kept[WIDTH][K], y[WIDTH], readouts[K], power = 1.0;
        double lean[WIDTH][K + 1], thresholds[K], intercept = BIASED ? v[s * P + P - 1] : 0.0;
        bool bad[WIDTH];
        const real* chunks = products + s * J * R * R;
        for (int k = 0; k < K; ++k) {
            readouts[k] = v[s * P + k];
            thresholds[k] = BIASED ? v[s * P + (P > K ? K : 0) + k] : 0.0;
        }
        LANES_DO {
            const int row = lane < n ? lane : 0;
            double seen[K + m];
            for (int k = 0; k < K + m; ++k) {
                seen[k] = 0.0;
                for (int j = 0; j < J; ++j) seen[k] += chunks[(j * R + n + k) * R + row];
                seen[k] /= root;
            }
            for (int k = 0; k < K; ++k) { field[AT][k] = seen[k]; kept[AT][k] = 0.0; }
            y[AT] = labels[s * n + row];
            const word random[2] = {keys[s], hidden};
            double said = 0.0;
            for (int i = 0; i < m; ++i) {
                if (number[6] != 0.0) seen[K + i] += number[6] * normals(random, start * B + row, i)._0;
                said += readout[(s * C + cluster[s * n + row]) * m + i] * teacher(seen[K + i]);
            }
            y[AT] += SIGN ? (said > 0.0 ? 1.0 : said < 0.0 ? -1.0 : 0.0) : said;
        }
        for (int step = 0; step < steps; ++step) {
            LANES_DO {
                double output = 0.0, seen[K];
                for (int k = 0; k < K; ++k) {
                    seen[k] = BIASED ? field[AT][k] + thresholds[k] : field[AT][k];
                    output += readouts[k] * g(seen[k]);
                }
                const double F = slope(BIASED ? number[0] * output + intercept : number[0] * output, y[AT]);
                for (int k = 0; k < K; ++k) {
                    c[AT][k] = number[1] * F * readouts[k] * dg(seen[k]);
                    push[AT][k] = number[2] * F * g(seen[k]);
                    kept[AT][k] = lane / B == step ? c[AT][k] : rho * kept[AT][k];
                    if (BIASED) lean[AT][k] = F * readouts[k] * dg(seen[k]);
                }
                if (BIASED) lean[AT][K] = F;
            }
            for (int k = 0; k < K; ++k) {
                double all = 0.0;
                for (int b = 0; b < B; ++b) all += FROM(push, k, step * B + b);
                readouts[k] = number[4] * readouts[k] - all;
            }
            for (int k = 0; k <= K && BIASED; ++k) {
                double all = 0.0;
                for (int b = 0; b < B; ++b) all += FROM(lean, k, step * B + b);
                if (k < K) thresholds[k] = number[7] * thresholds[k] - number[9] * all;
                else intercept = number[8] * intercept - number[10] * all;
            }
            for (int b = 0; b < B; ++b) {
                const int source = step * B + b;
                LANES_DO {
                    double product = 0.0;
                    for (int j = 0; j < J; ++j) product += chunks[(j * R + source) * R + (lane < n ? lane : 0)];
                    for (int k = 0; k < K; ++k) {
                        const double change = product / root * FROM(c, k, source);
                        field[AT][k] = (b == 0 ? rho : 1.0) * field[AT][k] + change;
                    }
                }
            }
            power *= rho;
        }
        LANES_DO {
            double sum = 0.0;
            for (int k = 0; k < K; ++k) {
                const double mine = lane < steps * B ? kept[AT][k] : 0.0;
                if (lane < n) increments[(s * n + lane) * K + k] = (real)mine;
                sum += mine + readouts[k];
            }
            bad[AT] = !(fabs(sum) <= 1.7976931348623157e308);
        }
        const bool lost = ANY(bad);
        LANES_DO if (lane == 0) {
            for (int k = 0; k < K; ++k) {
                v[s * P + k] = readouts[k];
                if (BIASED) v[s * P + (P > K ? K : 0) + k] = thresholds[k];
            }
            if (BIASED) v[s * P + P - 1] = intercept;
            decay[s] = power;
            if (!lost && good[s] == start) good[s] = start + steps;
        }
    }
}

// W <- rho^steps W + increments^T X, a component a thread.
KERNEL update(long long S, const real* increments, const double* decay, real* X) {
    EACH(i, S * J * d) {
        const long long chunk = i / d, s = chunk / J;
        real* column = X + chunk * R * d + i % d;
        real sums[K];
        for (int k = 0; k < K; ++k) sums[k] = (real)0;
        #pragma unroll 8
        for (int sample = 0; sample < n; ++sample) {
            const real x = column[sample * d];
            for (int k = 0; k < K; ++k) sums[k] += increments[(s * n + sample) * K + k] * x;
        }
        const real power = (real)decay[s];
        for (int k = 0; k < K; ++k) column[(n + k) * d] = power * column[(n + k) * d] + sums[k];
    }
}
"""


@lru_cache(maxsize=64)
def vector_source(block: Block) -> str:
    """The C++ of the kernels `choose`, `inputs`, `steps_of_block` and `update`."""
    g, dg = activation_functions(block.activation)
    formulas = {"g": g, "dg": dg, "slope": loss_functions(block.loss)[1], "teacher": activation_value(block.teacher)}
    constants = {name: value for name, value in vars(chain_step).items() if isinstance(value, np.uint64)}
    functions = {name: getattr(chain_step, name) for name in ("philox", "uniforms", "normals")}
    return "\n".join(
        [
            PRELUDE,
            "#define UNROLL",
            _WARP.format(numbers=NUMBERS, **block._asdict()),
            CIRCLE,
            *(translate_formula(float_source(function), name) for name, function in formulas.items()),
            translate(functions, constants, {"circle": chain_step.circle}),
            _KERNELS,
        ]
    )
