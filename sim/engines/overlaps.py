"""Online SGD in any dimension at a cost that does not depend on it: the exact Markov chain of the order parameters.

With isotropic noise an input matters only through its components along the weights, the means and a teacher's weights,
and its length.  Let e_1..e_p be a basis of the means and the teacher, f_1..f_K an orthonormal basis beside it built
from the weights one after the other, and f_{K+1} the direction of what is left of the input of cluster a:

    w_k/sqrt(D) = sum_b A_bk e_b + sum_{j<=k} L_kj f_j
    x = mean_a + sigma_a (sum_b z_b e_b + sum_{j<=K} z_j f_j + chi f_{K+1})

z are p + K standard normals, and chi^2 is a chi-square number of D - p - K degrees of freedom: NumPy's gamma generator,
from two degrees on the rejection method of Marsaglia and Tsang (2000), which is exact and as fast for any number of
them.  A step adds c_k x to rho w_k/sqrt(D), rho = 1 - eta kappa/D, so that

    A_bk <- rho A_bk + c_k x_b     and     L_k <- the row rho L_k + c_k u of K + 1 numbers,  u = x on f_1..f_{K+1}.

Rotations of the basis bring L back to lower-triangular form, a row at a time.  With u_> = (u_{j+1}, .., u_{K+1}), row j
is a f_j + c_j u_>, a = rho L_jj + c_j u_j; the rotation in the plane of f_j and u_> that leaves it on the first has

    l = ±sqrt(a^2 + c_j^2 |u_>|^2),   cos = a/l >= 0,   sin/|u_>| = c_j/l = s

and makes of the rows k > j, with q = rho L_kj + c_k u_j and h = sum_{i>j} L_ki u_i,

    L_kj <- cos q + s (c_k |u_>|^2 + rho h),   c_k <- cos c_k - s q - rho h s^2/(1 + cos).

What is left of them, rho L_ki (i > j) and c_k u_>, has the old form in the rotated basis.  O(K (K + p)) for one step.

A step of B samples adds sum_b c_bk x_b, the coefficients all from the weights before it.  What the samples have beyond
the weights is a Gaussian matrix in its QR form: sample b has normals on f_{K+1}..f_{K+b-1} and on f_{K+b} the root of a
chi-square number of D - p - K - b + 1 degrees (Bartlett).  The samples are taken in one after the other; those still to
come are rows in the same basis, that the rotations carry along as they do the rows of L, with c = 0 and rho = 1.

A bath adds sqrt(2 eta T/D) xi_k to each w_k: K more vectors in a step, standard normals all over, that are taken in as
the samples are, each with a coefficient for its own neuron only.  Rates and decays may differ from neuron to neuron
(frozen ones) and from step to step (schedules); weights on a sphere are scaled back, which keeps L triangular.

With an output for each class, c_k takes sum_c F_c v_ck, F_c = dl/dphi_c, for F v_k.

The step itself is `quenched.sim.engines.chain_step`, for the host and for a card.

The chain has the law of SGD on D-vectors exactly, up to rounding.  Its increments are O(1/D) and rounded to nearest:
of their 16 digits log10(D) are lost, without bias.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import numba
import numpy as np
import numpy.typing as npt

from quenched.numerics.averages.activations import compiled_activation
from quenched.numerics.averages.losses import CLASS_LOSSES, compiled_loss
from quenched.numerics.compiled.compile import callbacks
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.state import without_spectrum
from quenched.sim.backend import generator_words, generators, restore_generators
from quenched.sim.engines.base import CHAIN, Batch, Engine, Law, Memory, Overlaps, Plan, Problem, State
from quenched.sim.engines.chain_step import Data, Numbers, Replica, Rule, advance, advance_plainly, advance_several
from quenched.sim.engines.geometry import root
from quenched.sim.engines.states import States

__all__ = ["SCHEDULED", "Chain"]

Array = npt.NDArray[np.float64]

_CALL = 2**20  # steps of all replicas together between two looks at them: about 0.2 s
_SHORT = 2**19  # steps: about 0.1 s
SCHEDULED = 2**16  # steps of a call whose rates differ: they are a table
_MANY = 256  # replicas: a card does a step of any number up to 16,000 in the time of ten on one core


class Chain(Engine):
    """The states W (S, p + K, K), the columns of A over those of L^T, and v (S, K), each with its own random numbers.

    Where there are biases, v holds all parameters: v, b and c, (S, 2K + 1).

    Replicas run in parallel on NUMBA_NUM_THREADS threads (all cores by default); the numbers that one gets depend on
    nothing but its problem, state and seed.
    """

    card = "quenched.sim.engines.card_chain:CardChain"
    any_dimension = True
    accepts: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "test": ("fields",),
        "dtype": ("float64",),
    }

    def __init__(self, batch: Batch) -> None:
        super().__init__(batch)
        self.p = batch.problem.mixture.dimensions
        self.kept: list[Array] = []
        self.W: Any
        self.v: Any
        self.W, self.v = _starts(batch)
        self.parameters = [_parameters(each) for each in batch.problems]
        self._prepare()

    def _prepare(self) -> None:
        """What it takes to run on the host: the generator of each replica, and compiled functions."""
        problem = self.batch.problem
        self.random: Any = generators(self.batch.seeds, CHAIN)
        teacher = problem.mixture.teacher
        g, dg = compiled_activation(problem.network.activation)
        known = g if teacher is None else compiled_activation(teacher.activation)[0]
        slope: Any
        if problem.mixture.classes is None:
            slope = compiled_loss(problem.rule.loss)
        else:
            charged = CLASS_LOSSES[problem.rule.loss]
            slope = problem.mixture.outputs, *callbacks("loss", (charged.term, charged.slope))
        self.functions = g, dg, slope, known

    @classmethod
    def auto(cls, replicas: int) -> str:
        """A card's threads are slow one by one: few replicas are done sooner by a processor."""
        return "auto" if replicas >= _MANY else "numpy"

    @classmethod
    def refuses(cls, problem: Problem) -> str | None:
        """A spectrum: there are then as many order parameters as directions.  Momentum: the basis has no velocities."""
        if problem.rule.momentum:
            return f"engine must be 'vectors' where the rule has a friction, got {problem.rule}"
        spectral = problem.mixture.spectrum is not None
        return "engine must be 'vectors' where inputs have a spectrum" if spectral else super().refuses(problem)

    @classmethod
    def plan(cls, problem: Problem, replicas: int, memory: Memory) -> Plan:
        """Memory goes to the test samples."""
        memory.check(problem, memory.tests)
        replicas = min(replicas, memory.numbers // memory.tests)
        steps = max(1, _CALL // (replicas * (problem.rule.batch + problem.bath)))
        return Plan(replicas, steps if problem.rule.steady else min(steps, SCHEDULED))

    @classmethod
    def together(cls, problem: Problem, steps: int) -> int:
        """A tenth of a second of steps, beside which what it takes to begin and to record is small."""
        return max(1, _SHORT // max(1, steps * (problem.rule.batch + problem.bath)))

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Order parameters and generators."""
        words = generator_words(self.random) if isinstance(self.random, list) else self.random.copy()
        return super().state() | {"W": self.W.copy(), "v": self.v.copy(), "random": words}

    def restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go on from there; where it was on a card, with the random numbers that it would have had there."""
        super().restore(arrays)
        self.W, self.v = np.array(arrays["W"], order="C"), np.array(arrays["v"], order="C")
        if arrays["random"].shape == (len(self.good), 2):
            self.random = np.array(arrays["random"])
            self.random[:, 1] = self.stream(CHAIN)  # of this stage, where it is handed on by another
        else:
            restore_generators(self.random, arrays["random"])

    def advance(self, steps: int) -> None:
        """Do `steps` steps with each replica that is still finite."""
        living = np.flatnonzero(self.good == self.steps)
        threads = max(1, min(numba.config.NUMBA_NUM_THREADS, len(living)))  # type: ignore[attr-defined]
        problem, which, rates = self.batch.problem, self.batch.which, self.rates(steps)
        sizes = problem.rule.batch, problem.bath
        plain = (*sizes, problem.teachers) == (1, 0, 0)
        do = advance_several if problem.mixture.classes is not None else advance_plainly if plain else advance

        def run(first: int) -> None:
            for i in living[first::threads]:
                state = Replica(self.random[i], self.W[i], self.v[i], rates[which[i]])
                numbers = self.parameters[which[i]]
                self.good[i] += do(self.steps, steps, state, numbers, *sizes, *self.functions)

        if threads == 1:
            run(0)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(run, range(threads)))
        self.steps += steps

    def rates(self, steps: int) -> list[Array]:
        """The rates of the next steps for each problem, as `Replica` has them."""
        if not self.kept or not self.batch.problem.rule.steady:
            self.kept = [_rates(problem, self.steps, steps) for problem in self.batch.problems]
        return self.kept

    def overlaps(self) -> Overlaps:
        """M from the columns of A, Q from all of W."""
        return self._overlaps(np.stack([_references(problem) for problem in self.batch.problems])[self.batch.which])

    def _overlaps(self, vectors: Array) -> Overlaps:
        """With these reference vectors (S, R, p)."""
        xp, host = self.batch.backend.xp, self.batch.backend.to_host
        references, W = self.batch.array(vectors), self.W
        M = xp.zeros((len(W), references.shape[1], W.shape[2]), dtype=W.dtype)
        Q = xp.zeros((len(W), W.shape[2], W.shape[2]), dtype=W.dtype)
        # Row by row and element by element: a product of many matrices may sum in another order beside other replicas.
        for i in range(W.shape[1]):
            Q = Q + W[:, i, :, None] * W[:, i, None, :]
            if i < self.p:
                M = M + references[:, :, i, None] * W[:, i, None, :]
        v, classes = np.array(host(self.v)), self.batch.problem.mixture.classes
        return Overlaps(host(M), host(Q), v if classes is None else v.reshape(len(v), -1, W.shape[2]))

    def law(self) -> Law:
        """The covariance is sigma_a^2 times the overlaps of the weights and the teacher's."""
        references = np.stack([data.references for data, _ in self.parameters])[self.batch.which]
        M, Q, v = self._overlaps(references)
        C = self.batch.problem.mixture.clusters
        sigmas = self.batch.numbers(lambda problem: problem.mixture.sigmas)
        teacher = references[:, C:]
        gram = np.concatenate(
            [
                np.concatenate([Q, M[:, C:].swapaxes(1, 2)], axis=2),
                np.concatenate([M[:, C:], teacher @ teacher.swapaxes(1, 2)], axis=2),
            ],
            axis=1,
        )
        known = references[:, :C] @ teacher.swapaxes(1, 2)
        covariances = sigmas[:, :, None, None] ** 2 * gram[:, None]
        K, hidden = Q.shape[1], self.batch.numbers(lambda problem: problem.mixture.taught.field_noise)
        covariances[:, :, K:, K:] += (hidden**2)[:, None, None, None] * np.eye(teacher.shape[1])
        return Law(np.concatenate([self.batch.shifted(M[:, :C], v), known], axis=2), covariances)


def _parameters(problem: Problem) -> Numbers:
    """The numbers of a problem as a step takes them."""
    mixture, rule, D = problem.mixture, problem.rule, problem.D
    references = np.ascontiguousarray(mixture.references_at(D))
    thresholds = np.append(np.cumsum(mixture.weights)[:-1], np.inf)
    known = (mixture.labels if mixture.classes is None else mixture.classes).astype(np.float64)
    data = Data(references, mixture.sigmas.copy(), known, thresholds, np.array(problem.readout, order="C"))
    s, taught = problem.network.output_scale, mixture.taught
    eta_b, kappa_b, eta_c, kappa_c = rule.biases
    first, second, third = rule.learning(problem.network.K)
    options = float(rule.sphere), float(not rule.steady)
    intercept = 1 - eta_c * kappa_c / D, eta_c / (D * rule.batch)
    labels = taught.field_noise, float(taught.sign)
    biases = 1 - third * (eta_b * kappa_b / D), third * (eta_b * s / (D * rule.batch))
    freedom = float(D - mixture.dimensions - problem.network.K)
    parts = first, np.tile(second, mixture.outputs)
    return Numbers(data, Rule(freedom, s, rule.label_noise, *options, *intercept, *labels, *parts, *biases))


def _rates(problem: Problem, first: int, steps: int) -> Array:
    """The rates of steps, (steps, 5) or (1, 5), as `Replica` has them."""
    D, now = problem.D, problem.rates(first, steps)
    scale = problem.network.output_scale / (D * problem.rule.batch)
    decays = 1 - now.eta * now.kappa / D, 1 - now.eta_v * now.kappa_v / D
    return np.stack([*decays, now.eta * scale, now.eta_v * scale, np.sqrt(2 * now.eta * now.temperature) / D], axis=1)


def _references(problem: Problem) -> Array:
    return np.ascontiguousarray(problem.frame.references_at(problem.D))


def _starts(batch: Batch) -> tuple[Array, Array]:
    """W (S, p + K, K) and v (S, K), or (S, c K); replicas may share states."""
    if isinstance(batch.states, States):
        return batch.states.W.copy(), batch.parameters().reshape(len(batch.states), -1)
    mixtures, which = batch.frames
    places: dict[tuple[int, int], int] = {}
    found: list[Array] = []
    index = np.empty(len(batch.states), dtype=np.int64)
    for s, (state, mixture) in enumerate(zip(batch.states, which.tolist(), strict=True)):
        key = id(state), mixture
        if key not in places:
            places[key] = len(found)
            found.append(_start(state, mixtures[mixture], batch.problem.D))
        index[s] = places[key]
    return np.stack(found)[index], batch.parameters().reshape(len(index), -1)


def _start(state: State, mixture: Mixture, D: int) -> Array:
    """A (p, K) over L^T (K, K), with L lower triangular and L L^T = Q - A^T A, which may be singular."""
    overlaps = without_spectrum(state)
    A, Q = overlaps.projections(mixture, D), overlaps.Q
    return np.concatenate([A, np.linalg.qr(root(Q - A.T @ A), mode="r")])
