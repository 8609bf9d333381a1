"""Deterministic equivalents of resolvents: the fixed points that random features and kernels share, solved by Newton.

* `FeatureResolvent`: A(f) of features that differ by their components f along the means;
* `SampleResolvent`: r_g of samples in G groups whose kernel has channels of many directions.

Both come from leaving one feature (sample) out: what the others leave of its variance is a number that does not
depend on the one left out, to leading order in the dimension.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.linalg import null_space

__all__ = ["FeatureResolvent", "SampleResolvent"]

Array = npt.NDArray[np.float64]

_EPS = float(np.finfo(np.float64).eps)


class FeatureResolvent:
    """1/A = noise + sum over channel sets of B·(1 + S)^-1 B, S = ratio E[B B^T A]: A (n,) at nodes with weights w.

    `channels`: pairs (ratio, B (n, c)); `start`: a guess of all S.  The equation is iterated, which converges from A of
    no other features; where that is slow, by Newton's method.
    """

    def __init__(
        self,
        weights: Array,
        noise: Array,
        channels: Sequence[tuple[float, Array]],
        start: Sequence[Array] | None = None,
    ) -> None:
        self.weights, self.noise, self.channels = weights, noise, channels
        self._pairs = [np.triu_indices(B.shape[1]) for _, B in channels]
        self._outer = np.concatenate(
            [ratio * B[:, i] * B[:, j] for (ratio, B), (i, j) in zip(channels, self._pairs, strict=True)], axis=1
        )
        self.S = [np.zeros((B.shape[1], B.shape[1])) for _, B in channels] if start is None else list(start)
        gap = np.inf
        for _ in range(500):
            self._resolve()
            step: Array = self._outer.T @ (weights * self.A) - self._flat(self.S)
            largest = 1 + max(np.abs(s).max() for s in self.S)
            size = float(np.abs(step).max() / largest)
            # (1 + S)^-1 has a rounding error of its condition number
            if size < 1e-14 or (size >= gap and size < 1e-12 + 8 * math.ulp(largest)):
                return
            if size > 0.2 * gap:  # slow
                jacobian = (self._outer * (weights * self.A**2)[:, None]).T @ self._seen_pairs()
                if np.abs(np.linalg.eigvals(jacobian)).max() < 1:  # Newton's step is the sum of all those to come
                    step = np.asarray(np.linalg.solve(np.eye(len(step)) - jacobian, step), dtype=np.float64)
            self.S, gap = self._moved(step), size
        raise RuntimeError(
            f"the resolvent of the features did not converge in 500 steps (the last was {gap:.1e}): their "
            "covariance is nearly singular; raise ridge"
        )

    def _resolve(self) -> None:
        inverse = [np.linalg.inv(np.eye(len(s)) + s) for s in self.S]
        self.seen = [B @ K for (_, B), K in zip(self.channels, inverse, strict=True)]  # (1 + S)^-1 B, (n, c)
        self.A = 1 / sum(
            ((B * seen).sum(axis=1) for (_, B), seen in zip(self.channels, self.seen, strict=True)), start=self.noise
        )

    def _flat(self, S: Sequence[Array]) -> Array:
        """The upper triangles of symmetric matrices, one after another."""
        return np.concatenate([s[pair] for s, pair in zip(S, self._pairs, strict=True)])

    def _moved(self, step: Array) -> list[Array]:
        """S plus the matrices of which `step` has the upper triangles."""
        moved, end = [s.copy() for s in self.S], 0
        for s, (i, j) in zip(moved, self._pairs, strict=True):
            s[i, j] += step[end : end + len(i)]
            s[j, i] = s[i, j]
            end += len(i)
        return moved

    def _seen_pairs(self) -> Array:
        """-d(1/A)/dS, (n, all upper triangles)."""
        parts = [v[:, i] * v[:, j] * (2.0 - (i == j)) for v, (i, j) in zip(self.seen, self._pairs, strict=True)]
        return np.concatenate(parts, axis=1)

    def responses(self, changes: Array) -> Array:
        """dA (n, j) for explicit changes (n, j) of 1/A, with all S following."""
        seen, weighted = self._seen_pairs(), self._outer * (self.weights * self.A**2)[:, None]
        dS = np.linalg.solve(np.eye(seen.shape[1]) - weighted.T @ seen, -weighted.T @ changes)
        return -(self.A**2)[:, None] * (changes - seen @ dS)


class SampleResolvent:
    """The resolvent of samples in G groups of weights P_g: 1/r_g = zeta_g + sum over channels of ratio sum_i M_gi,gi.

    M = W (1 + nu diag(P r) W)^-1.  A channel is (W (G, k, G, k), ratio, nu): directions in sets of k, W the kernel of a
    set; ratio sum_i W_gi,gi is the trace of its kernel on a sample, and nu the number of samples, in the same units.

    `free`: the channel whose first feature is a constant with an intercept, W + t 1 1^T on it as t -> infinity;
    RuntimeError unless nu > ratio, where a sample is left to learn from.
    """

    def __init__(
        self, zeta: Array, channels: Sequence[tuple[Array, float, float]], P: Array, free: int | None = None
    ) -> None:
        self.P, self.zeta, self._free = P, zeta, free
        self.channels = [(W if W.ndim == 4 else W[:, None, :, None], ratio, nu) for W, ratio, nu in channels]
        # x = 1/r: the right-hand side is concave and increasing in x, so that Newton's steps from above, where the
        # channels see no samples, descend to the largest fixed point
        x = zeta + sum(ratio * _trace(W) for W, ratio, _ in self.channels)
        if free is not None:
            x = self._above(x)
        step = np.inf
        for _ in range(200):
            M = [self._seen(W, nu, x, i == free) for i, (W, _, nu) in enumerate(self.channels)]
            excess = zeta + sum(ratio * _trace(m) for m, (_, ratio, _) in zip(M, self.channels, strict=True)) - x
            self._squares = [
                ratio * nu * (m**2).sum(axis=(1, 3)) for m, (_, ratio, nu) in zip(M, self.channels, strict=True)
            ]
            jacobian = sum(self._squares) * (P / x**2) - np.eye(len(x))
            change = np.linalg.solve(jacobian, -excess)
            before, step = step, float(np.abs(change / x).max())
            if step < 4 * _EPS or (step < 1e-10 and step >= before):
                break
            x = np.maximum(x + change, zeta)
        else:
            raise RuntimeError(
                f"the resolvent of the kernel did not converge (last step {step:.1e}): its matrix is nearly singular; "
                "raise ridge"
            )
        self.r, self.M, self.step, self._back = 1 / x, M, step, -jacobian

    def _above(self, x: Array) -> Array:
        """A start above the fixed point with an intercept, from one above it without.

        The intercept takes the average over samples out of the constants, which leaves at most four times the largest
        of them, and adds 1/(nu sum P/x) <= max x/nu.
        """
        W, ratio, nu = self.channels[self._free or 0]
        if nu <= ratio:
            raise RuntimeError(f"an intercept needs more than one sample, got {nu / ratio:g}")
        largest = float(np.max(x)) + 4 * ratio * float(np.max(_trace(W)))
        return np.full_like(x, largest / (1 - ratio / nu))

    def _seen(self, W: Array, nu: float, x: Array, free: bool) -> Array:
        G, k = W.shape[:2]
        flat = W.reshape(G * k, G * k)
        samples = np.repeat(nu * self.P / x, k)
        M = _with_intercept(flat, samples, k) if free else np.linalg.solve(np.eye(G * k) + flat * samples, flat)
        return ((M + M.T) / 2).reshape(W.shape)

    def variance(self, residual: Array) -> Array:
        """Output variances (G,) of all channels for residuals of E2 = `residual` (G,).

        c_i is r times what the other samples leave of y_i: in group g the squares of all c_i add up to
        n P r^2 (E2 + variance), which M shows to a fresh input on every direction.
        """
        squares: Array = sum(self._squares)
        driven: Array = np.linalg.solve(self._back.T, self.P * residual * self.r**2)
        return driven @ squares


def _with_intercept(W: Array, samples: Array, k: int) -> Array:
    """(diag(samples) + (W + t u u^T)^-1)^-1 as t -> infinity, u = 1 on every k-th feature, the constants.

    In the variables times sqrt(samples) it is u^ u^^T along u, and W (1 + W)^-1 of what is orthogonal to u.
    """
    root = np.sqrt(samples)
    u = np.where(np.arange(len(W)) % k == 0, root, 0.0)
    u /= np.linalg.norm(u)
    N = null_space(u[None, :])
    rest = N.T @ (root[:, None] * W * root) @ N
    inner = np.linalg.solve(np.eye(len(rest)) + rest, rest)
    found: Array = (np.outer(u, u) + N @ inner @ N.T) / root[:, None] / root
    return found


def _trace(W: Array) -> Array:
    """sum_i W_gi,gi of an array (G, k, G, k)."""
    found: Array = np.einsum("gigi->g", W)
    return found
