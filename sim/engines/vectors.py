"""Online SGD on real D-vectors, in blocks of steps that do not change the rule.

A step multiplies each weight by rho = 1 - eta kappa/D and adds c_j x_j^T for each of its B samples, with coefficients
c_j (K,) that depend on the weights before the step.  Inside a block the field of a later sample i needs only its inner
products with the earlier ones: at each step

    lambda_i <- rho lambda_i + sum_j c_j (x_j·x_i)/sqrt(D)        over the samples j of the step

With an output for each class, c_jk takes sum_c v_ck F_jc for v_k F_j.

Two matrix products per block (X W^T and X X^T) give all that is needed; the steps then run on arrays of a few numbers
per replica, and one more product (C^T X) brings the weights up to date.

With momentum a step moves velocities p_k in the place of the weights, and then these along them: a step after the
other, as it is told.

Rates, and with them rho and c, may differ from step to step (schedules) and from neuron to neuron (frozen ones).  The
vectors xi_k of a bath are K more rows of X in each step, each with a coefficient for its own neuron only.  Weights that
keep their length are scaled back by a factor that follows from the same inner products, and goes into rho and c.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from quenched.numerics.averages.losses import CLASS_LOSSES, loss_functions
from quenched.numerics.problem.state import with_velocity
from quenched.sim.backend import Normals, generator_words, generators, restore_generators
from quenched.sim.engines.base import (
    BATH,
    CLUSTER,
    DATA,
    FRAME,
    HIDDEN,
    NOISE,
    Batch,
    Engine,
    Law,
    Memory,
    Overlaps,
    Plan,
    Problem,
)
from quenched.sim.engines.geometry import Geometry

__all__ = ["BLOCK", "Vectors"]

Array = npt.NDArray[np.float64]

BLOCK = 32  # samples; the Gram matrix of a longer block costs more than the calls it saves
_WIDE = 2**14  # components of all inputs of a step


class Vectors(Engine):
    """Weights W (S, K, D) and readouts v (S, K) of S replicas, trained on samples X (S, n, D), a block at a time.

    Where there are biases, v holds all parameters: v, b and c, (S, 2K + 1).  Where there are velocities, P (S, K, D)
    are those of W and p those of v; of what the rule does not move they are 0.

    With NumPy a replica depends on those beside it by rounding at most: each has its own streams of inputs, clusters
    and label noise.
    """

    card = "quenched.sim.engines.card_vectors:CardVectors"

    def __init__(self, batch: Batch) -> None:
        super().__init__(batch)
        mixtures, self.mixture = batch.mixtures
        self.geometries = [Geometry.of(mixture, batch.problem.D) for mixture in mixtures]
        frames, self.frame = batch.frames
        self.frames = [Geometry.of(mixture, batch.problem.D) for mixture in frames]
        self.means = np.stack([geometry.means for geometry in self.geometries])
        self.scales = np.stack([geometry.scales for geometry in self.geometries])
        classes = batch.problem.mixture.classes is not None
        self.labels = np.stack([mixture.one_hot if classes else mixture.labels for mixture in mixtures])
        self.changes = self._class_changes if classes else self._changes
        self.thresholds = np.stack([np.cumsum(mixture.weights)[:-1] for mixture in mixtures])
        self.v, self.p = batch.array(batch.parameters()), batch.array(batch.velocities())
        self._set_rule()
        self._set_teacher()
        self._prepare()

    def _prepare(self) -> None:
        """Weights with the overlaps of the initial states, and the generators of what is drawn."""
        batch = self.batch
        both, K = self._weights(), batch.problem.network.K
        self.W, self.P = both[:, :K, :], both[:, K:, :]
        self._stop()
        self.normals = batch.backend.normals(batch.seeds, DATA, batch.dtype)
        self.choices = generators(batch.seeds, CLUSTER)
        self.noises = generators(batch.seeds, NOISE)
        self.heat = batch.backend.normals(batch.seeds, BATH, batch.dtype)  # kept where a bath pauses
        self.hidden = generators(batch.seeds, HIDDEN)

    def _weights(self) -> Any:
        """Those of each state in an orientation of its seed, (S, K, D), and after them velocities where there are."""
        places, frames = [self.frames[i] for i in self.frame], generators(self.batch.seeds, FRAME)
        states = [with_velocity(state, self.batch.moving).both for state in self.batch.states]
        each = [place.weights(*one) for place, *one in zip(places, states, frames, strict=True)]
        return self.batch.array(np.stack(each))

    def _stop(self) -> None:
        """No velocities of what the rule does not move: `quenched.numerics.course.momentum.stopped`."""
        if not self.batch.moving:
            return
        first, second, third = self.learning * self.batch.problem.rule.momentum
        beyond = [third, np.full((len(third), 1), float(self.batch.problem.rule.momentum))]
        factor = self.batch.array(np.concatenate([second, *beyond], axis=1)[:, : self.p.shape[-1]])
        self.P = self.batch.array(first)[:, :, None] * self.P
        self.p = (factor if len(self.p.shape) == 2 else factor[:, None, :]) * self.p

    def _set_rule(self) -> None:
        """The numbers of the rule as arrays over replicas, of as many axes as they are used with."""
        batch, numbers = self.batch, self.batch.numbers
        self.g, self.dg = batch.activation()
        if batch.problem.mixture.classes is not None:
            self.charged = CLASS_LOSSES[batch.problem.rule.loss].on(batch.backend.elementwise)
        else:
            self.slope = batch.backend.elementwise(loss_functions(batch.problem.rule.loss)[1])
        self.label_noise = numbers(lambda problem: problem.rule.label_noise)
        self.scale = batch.array(numbers(lambda problem: problem.network.output_scale)[:, None])
        self.learning = numbers(lambda problem: problem.rule.learning(problem.network.K)).swapaxes(0, 1)
        self.constant = self._rates(1) if batch.problem.rule.steady else None
        D, samples = batch.problem.D, batch.problem.rule.batch
        scale, thresholds = numbers(lambda problem: problem.network.output_scale)[:, None], self.learning[2]
        eta_b, kappa_b, eta_c, kappa_c = numbers(lambda problem: problem.rule.biases).T[:, :, None]
        self.rate_b, self.rate_c = (
            batch.array(thresholds * eta_b * scale / (samples * D)),
            batch.array(eta_c / (samples * D)),
        )
        self.rho_b, self.rho_c = batch.array(1 - thresholds * eta_b * kappa_b / D), batch.array(1 - eta_c * kappa_c / D)

    def _rates(self, steps: int) -> tuple[Any, ...]:
        """Of the next steps, (S, steps or 1, K): rates of c and of v, the decays of both, what a bath vector gets, and
        of velocities the part that is lost by friction and that which weights give by decaying.
        """
        batch, D = self.batch, self.batch.problem.D
        now = [problem.rates(self.steps, steps) for problem in batch.problems]
        eta, kappa, eta_v, kappa_v, T, zeta = (
            np.stack([np.broadcast_to(each[i], (steps,)) for each in now])[batch.which][:, :, None] for i in range(6)
        )
        heat = zeta * T if batch.problem.rule.momentum else T
        first, second = (factors[:, None, :] for factors in self.learning[:2])
        scale = batch.numbers(lambda problem: problem.network.output_scale)[:, None, None] / batch.problem.rule.batch
        return tuple(
            batch.array(values)
            for values in (
                -eta * scale / math.sqrt(D) * first,
                eta_v * scale / D * second,
                1 - eta * kappa / D * first,
                1 - eta_v * kappa_v / D * second,
                np.sqrt(2 * eta * heat / D * first),
                zeta / D * np.ones_like(first),
                eta * kappa / D * first,
            )
        )

    def _set_teacher(self) -> None:
        """Its weights and readout, for each replica."""
        teachers = [geometry.mixture.taught for geometry in self.geometries]
        self.directions = np.stack([geometry.teacher for geometry in self.geometries])[self.mixture]
        self.field_noise = np.array([teacher.field_noise for teacher in teachers])[self.mixture]
        if self.batch.problem.teachers:
            self.readouts = np.stack(
                [geometry.mixture.taught.readouts(len(self.labels[0])) for geometry in self.geometries]
            )
            self.teacher = self.batch.label(teachers[0])

    @classmethod
    def plan(cls, problem: Problem, replicas: int, memory: Memory) -> Plan:
        """Vectors of a block, twice, and weights, twice; blocks are cut before replicas are."""
        K, D, B = (1 + problem.rule.momentum) * problem.network.K, problem.D, problem.rule.batch + problem.bath
        memory.check(problem, 2 * (B + K) * D + memory.tests)
        samples = max(B, min(BLOCK, (memory.numbers // D - 2 * K) // 2))
        per_replica = 2 * (samples + K) * D + memory.tests
        return Plan(max(1, min(replicas, memory.numbers // per_replica)), samples // B)

    @classmethod
    def together(cls, problem: Problem, steps: int) -> int:
        """So many that the arithmetic of a step takes longer than calling it."""
        return max(1, _WIDE // problem.D)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Weights, readouts, and the generators of inputs, clusters and label noise."""
        host = self.batch.backend.to_host
        moving = {"P": np.array(host(self.P)), "p": np.array(host(self.p))} if self.batch.moving else {}
        return (super().state() | moving) | {
            "W": np.array(host(self.W)),
            "v": np.array(host(self.v)),
            "normals": self.normals.state(),
            "choices": generator_words(self.choices),
            "noises": generator_words(self.noises),
            "hidden": generator_words(self.hidden),
            "heat": self.heat.state(),
        }

    def restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go on from there, on whichever device; the inputs go on where they were if it is of the same kind."""
        super().restore(arrays)
        self.W, self.v = self.batch.array(arrays["W"]), self.batch.array(arrays["v"])
        if self.batch.moving:
            self.P, self.p = self.batch.array(arrays["P"]), self.batch.array(arrays["p"])
            self._stop()
        self.normals.restore(arrays["normals"])
        restore_generators(self.choices, arrays["choices"])
        restore_generators(self.noises, arrays["noises"])
        restore_generators(self.hidden, arrays["hidden"])
        self.heat.restore(arrays["heat"])

    def inputs(self, cluster: npt.NDArray[np.int64], normals: Normals) -> Any:
        """Inputs x of the given clusters (S, n): the rows of an array (S, n, D)."""
        array, mixture = self.batch.array, self.mixture[:, None]
        X = normals((cluster.shape[1], self.batch.problem.D))
        X *= array(self.scales[mixture, cluster])
        X[:, :, : self.means.shape[2]] += array(self.means[mixture, cluster])
        return X

    def targets(self, X: Any, cluster: npt.NDArray[np.int64]) -> Any:
        """Labels (S, n) of inputs X (S, n, D), with label noise; one-hot ones (S, n, c) where there are classes."""
        if self.batch.problem.teachers:
            seen = self.seen(X)
            if self.field_noise.any():
                drawn = np.stack([hidden.standard_normal(seen.shape[1:]) for hidden in self.hidden])
                seen = seen + self.batch.array(self.field_noise[:, None, None] * drawn)
            y = self.teacher(seen, self.batch.array(self.readouts[self.mixture[:, None], cluster]))
        else:
            y = self.batch.array(self.labels[self.mixture[:, None], cluster])
        if not self.label_noise.any():
            return y
        noise = np.stack([noise.standard_normal(cluster.shape[1]) for noise in self.noises])
        return y + self.batch.array(self.label_noise[:, None] * noise)

    def seen(self, X: Any) -> Any:
        """Local fields of the teacher without their noise, (S, n, m)."""
        directions = self.batch.array(self.directions.swapaxes(1, 2))
        return self.batch.backend.xp.matmul(X[:, :, : directions.shape[1]], directions)

    def advance(self, steps: int) -> None:
        """A block of `steps` steps of B samples."""
        xp, problem = self.batch.backend.xp, self.batch.problem
        B, K = problem.rule.batch, problem.network.K
        chosen = zip(self.choices, self.thresholds[self.mixture], strict=True)
        cluster = np.stack([np.searchsorted(bounds, u.random(steps * B), side="right") for u, bounds in chosen])
        X = self.inputs(cluster, self.normals)
        y = self.targets(X, cluster)
        if problem.bath:
            X = self._with_bath(X, self.heat, steps)
        parts: tuple[Any, ...] = (self.v,)
        if len(self.v.shape) == 2 and self.v.shape[1] > K:
            parts = self.v[:, :K], self.v[:, K:-1], self.v[:, -1:]
        parts, moved = (self._by_velocities if problem.rule.momentum else self._in_a_block)(X, y, parts, steps)
        self.v = xp.concat(parts, axis=1) if len(parts) > 1 else parts[0]
        readout = parts[0] if len(parts[0].shape) == 2 else xp.sum(parts[0], axis=1)
        finite = self.batch.backend.to_host(xp.all(xp.isfinite(readout + moved), axis=1))
        alive = finite & (self.good == self.steps)
        self.steps += steps
        self.good[alive] = self.steps

    def _by_velocities(self, X: Any, y: Any, parts: tuple[Any, ...], steps: int) -> tuple[tuple[Any, ...], Any]:
        """Steps with momentum: what becomes of v, or v, b and c; and a number (S, K) for each weight, finite as it is.

        p <- (1 - zeta/D) p + (the step of x without momentum),     x <- x + p/D,     of weights and parameters x
        """
        xp, D, problem = self.batch.backend.xp, self.batch.problem.D, self.batch.problem
        B, rows, rates = problem.rule.batch, problem.rule.batch + problem.bath, self.constant or self._rates(steps)
        ends = (0, problem.network.K, 2 * problem.network.K, 2 * problem.network.K + 1)
        for step in range(steps):
            rate, rate_v, _, rho_v, kick, lost, decay = (
                each[:, step if each.shape[1] > 1 else 0, :][:, None, :] for each in rates
            )
            x = X[:, step * rows : (step + 1) * rows, :]
            field = xp.matmul(x[:, :B, :], self.W.mT) / math.sqrt(D)
            c, after = self.changes(parts, field, y[:, step * B : (step + 1) * B], (rate, rate_v, rho_v))
            if problem.bath:
                c = xp.concat([c, kick * self.batch.array(np.eye(problem.bath))[None, :, :]], axis=1)
            self.P = self.P - lost.mT * self.P - decay.mT * self.W + xp.matmul(c.mT, x)
            self.W = self.W + self.P / D
            moved = [new - old for new, old in zip(after, parts, strict=True)]
            friction = lost[:, 0, :1] if len(self.p.shape) == 2 else lost[:, :, :1]
            self.p = self.p - friction * self.p + (xp.concat(moved, axis=1) if len(moved) > 1 else moved[0])
            along = [self.p] if len(parts) == 1 else [self.p[:, i:j] for i, j in pairwise(ends)]
            parts = tuple(part + p / D for part, p in zip(parts, along, strict=True))
        return parts, xp.sum(self.P, axis=2)

    def _in_a_block(self, X: Any, y: Any, parts: tuple[Any, ...], steps: int) -> tuple[tuple[Any, ...], Any]:
        """Steps without momentum: what becomes of v, or v, b and c; and the sum (S, K) of all coefficients."""
        xp, root, problem = self.batch.backend.xp, math.sqrt(self.batch.problem.D), self.batch.problem
        B, bath, sphere = problem.rule.batch, problem.bath, problem.rule.sphere
        rows = B + bath
        gram = xp.matmul(X, X.mT) / root
        fields = xp.matmul(X, self.W.mT) / root  # of the samples to come, with the present weights
        squares = xp.sum(self.W * self.W, axis=2)[:, None, :] / root if sphere else None
        increments = xp.empty_like(fields)  # sum_j increments_jk x_j is what the block adds to w_k
        rates = self.constant or self._rates(steps)
        decays: list[Any] = []
        for step in range(steps):
            rate, rate_v, rho, rho_v, kick, _, _ = (
                each[:, step if each.shape[1] > 1 else 0, :][:, None, :] for each in rates
            )
            first = step * rows
            now, later = slice(first, first + rows), slice(first + rows, None)
            samples = fields[:, first : first + B, :], y[:, step * B : (step + 1) * B]
            c, parts = self.changes(parts, *samples, (rate, rate_v, rho_v))
            if bath:
                c = xp.concat([c, kick * self.batch.array(np.eye(bath))[None, :, :]], axis=1)
            if squares is not None:
                back = _scale_back(xp, squares, fields[:, now, :], gram[:, now, now], c, rho)
                rho, c = back * rho, back * c
            for j in range(rows):
                decay = rho if j == 0 else xp.ones_like(rho)
                products = gram[:, later, first + j, None]
                fields[:, later, :] = _carry(fields[:, later, :], products, c[:, j, None, :], decay)
            increments[:, now, :] = c
            decays.append(rho)
        kept = xp.ones_like(decays[0])
        for step in range(steps - 1, -1, -1):
            now = slice(step * rows, (step + 1) * rows)
            increments[:, now, :] = kept * increments[:, now, :]
            kept = kept * decays[step]
        self.W = kept.mT * self.W + xp.matmul(increments.mT, X)
        return parts, xp.sum(increments, axis=1)

    def _with_bath(self, X: Any, heat: Normals, steps: int) -> Any:
        """The inputs (S, steps B, D) with the vectors of the bath after those of each step."""
        xp, (S, _, D), bath = self.batch.backend.xp, X.shape, self.batch.problem.bath
        cold, warm = (xp.reshape(each, (S, steps, -1, D)) for each in (X, heat((steps * bath, D))))
        return xp.reshape(xp.concat([cold, warm], axis=2), (S, -1, D))

    def _changes(
        self, parts: tuple[Any, ...], field: Any, y: Any, rates: tuple[Any, Any, Any]
    ) -> tuple[Any, tuple[Any, ...]]:
        """The coefficients c (S, B, K) of the samples of a step with these fields and labels.

        And what becomes of `parts`: v (S, K), and where there are biases thresholds (S, K) and intercept (S, 1).
        `rates`: those of c and of v, and the decay of v, (S, 1, K) each.
        """
        xp, (v, *biases), (rate, rate_v, rho_v) = self.batch.backend.xp, parts, rates
        field = field + biases[0][:, None, :] if biases else field
        g, dg = self.g(field), self.dg(field)
        output = self.scale * xp.sum(v[:, None, :] * g, axis=2)
        F = self.slope(output + biases[1] if biases else output, y)[:, :, None]
        c, push = _change(v[:, None, :], F, g, dg, rate, rate_v)
        if biases:
            b, b0 = biases
            b = self.rho_b * b - self.rate_b * v * xp.sum(F * dg, axis=1)
            biases = [b, self.rho_c * b0 - self.rate_c * xp.sum(F, axis=1)]
        return c, (rho_v[:, 0, :] * v - xp.sum(push, axis=1), *biases)

    def _class_changes(
        self, parts: tuple[Any, ...], field: Any, y: Any, rates: tuple[Any, Any, Any]
    ) -> tuple[Any, tuple[Any, ...]]:
        """The same of v (S, c, K) and one-hot labels (S, B, c)."""
        xp, g, (v,), (rate, rate_v, rho_v) = self.batch.backend.xp, self.g(field), parts, rates
        phi = self.scale[:, :, None] * xp.matmul(g, v.mT)
        F = self.charged.slopes(phi, y, xp)
        return rate * xp.matmul(F, v) * self.dg(field), (rho_v * v - rate_v * xp.matmul(F.mT, g),)

    def overlaps(self) -> Overlaps:
        """Of the weights with all references, with each other, and the readouts."""
        xp, D, host = self.batch.backend.xp, self.batch.problem.D, self.batch.backend.to_host
        references = np.stack([geometry.references for geometry in self.frames])[self.frame]
        moving = self.batch.moving
        W, v = (xp.concat([self.W, self.P], axis=1), xp.stack([self.v, self.p], axis=1)) if moving else (self.W, self.v)
        A = host(W[:, :, : references.shape[2]]).astype(np.float64) / math.sqrt(D)
        Q = host(xp.matmul(W, W.mT)).astype(np.float64) / D
        return Overlaps(references @ A.swapaxes(1, 2), (Q + Q.swapaxes(1, 2)) / 2, host(v).astype(np.float64))

    def law(self) -> Law:
        """From the weights and the teacher's, together (S, N, D): the same matrix in each cluster if isotropic."""
        xp, D, host = self.batch.backend.xp, self.batch.problem.D, self.batch.backend.to_host
        W, means = self.W / math.sqrt(D), self.means[self.mixture]
        if self.batch.problem.teachers:
            known = np.zeros((*self.directions.shape[:2], D))
            known[:, :, : self.directions.shape[2]] = self.directions
            W = xp.concat([W, self.batch.array(known)], axis=1)
        scales = self.scales[self.mixture]
        if scales.shape[2] == 1:
            gram = host(xp.matmul(W, W.mT)).astype(np.float64)
            covariances = scales[:, :, :, None] ** 2 * gram[:, None]
        else:
            parts = [W * self.batch.array(scales[:, a, None, :]) for a in range(scales.shape[1])]
            covariances = np.stack([host(xp.matmul(part, part.mT)).astype(np.float64) for part in parts], axis=1)
        K, m = self.batch.problem.network.K, self.batch.problem.teachers
        covariances[:, :, K:, K:] += (self.field_noise**2)[:, None, None, None] * np.eye(m)
        A = host(W[:, :, : means.shape[2]]).astype(np.float64)
        centres = means @ A.swapaxes(1, 2)
        centres[:, :, :K] = self.batch.shifted(centres[:, :, :K], host(self.v).astype(np.float64))
        return Law(centres, covariances)

    def fields(self, normals: Normals, per_cluster: int, steps: int) -> Any:
        """Local fields (S, C, n, N) of inputs drawn as vectors."""
        xp, root, problem = self.batch.backend.xp, math.sqrt(self.batch.problem.D), self.batch.problem
        parts, room = [], steps * problem.rule.batch
        for a in range(problem.mixture.clusters):
            for start in range(0, per_cluster, room):
                cluster = np.full((len(self.good), min(room, per_cluster - start)), a)
                X = self.inputs(cluster, normals)
                field = self.batch.shifted(xp.matmul(X, self.W.mT) / root, self.v)
                if problem.teachers:
                    seen = self.seen(X)
                    if self.field_noise.any():
                        seen = seen + self.batch.array(self.field_noise[:, None, None]) * normals(seen.shape[1:])
                    field = xp.concat([field, seen], axis=2)
                parts.append(field)
        return xp.reshape(xp.concat(parts, axis=1), (len(self.good), -1, per_cluster, parts[0].shape[2]))


def _change(v: Any, slope: Any, g: Any, dg: Any, rate: Any, rate_v: Any) -> tuple[Any, Any]:
    """The coefficients c_k of the samples of a step, and what each of them takes from v."""
    return rate * v * slope * dg, rate_v * slope * g


def _scale_back(xp: Any, squares: Any, fields: Any, gram: Any, c: Any, rho: Any) -> Any:
    """|w_k|/|w_k + dw_k| after a step to rho w + sum_j c_j x_j, (S, 1, K), from inner products over sqrt(D)."""
    crossed = xp.sum(c * fields, axis=1)[:, None, :]
    added = xp.sum(c * xp.matmul(gram, c), axis=1)[:, None, :]
    grown = rho * rho * squares + 2 * rho * crossed + added
    return xp.sqrt(
        xp.where(grown > 0, squares, xp.ones_like(squares)) / xp.where(grown > 0, grown, xp.ones_like(grown))
    )


def _carry(fields: Any, gram: Any, c: Any, decay: Any) -> Any:
    """The fields of the samples to come, after a step."""
    return decay * fields + gram * c
