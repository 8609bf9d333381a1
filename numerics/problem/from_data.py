"""Mixtures from labelled data: means, noise and, on request, covariances, in the form that the equations need.

    P_a = n_a/n,   mean_a = average of cluster a,   S = sum_i (x_i - mean_a(i)) (x_i - mean_a(i))^T/(n - C) pooled

The trace of S gives sigma^2 = tr S/D.  "isotropic" stops there.  "shared" keeps the eigenvalues of S, "full" those of
each cluster's own S_a, which must commute: the equations live on common eigenvectors.  Covariances of real data do not
commute; on request they are replaced by their diagonals in the eigenbasis of S, and what is lost is reported,
discarded = sum_a P_a |offdiagonal S_a|^2 / sum_a P_a |S_a|^2.

Fewer samples than dimensions leave a covariance with empty directions.  That is refused, unless `shrinkage` mixes in
the identity: (1 - r) S + r sigma^2 1, with a given weight r or "ledoit-wolf" (Ledoit and Wolf 2004).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from quenched.numerics.problem.checks import choice, finite_array, flag, group_names, number
from quenched.numerics.problem.spectrum import Spectrum

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quenched.numerics.problem.state import Densities, OrderParameters

__all__ = ["COVARIANCES", "Fit", "estimate"]

Array = npt.NDArray[np.float64]

COVARIANCES = ("isotropic", "shared", "full")
_COMMUTING = 1e-16  # off-diagonal part of the squared norm: rounding


@dataclass(frozen=True, eq=False)
class Fit:
    """`arguments` of the mixture; `axes` (p, D): its basis e_b in the coordinates of the data; `vectors` (D, D): the
    eigenvectors, a column per node, or None without a spectrum.
    """

    arguments: dict[str, Any]
    axes: Array
    vectors: Array | None

    def state(self, W: npt.ArrayLike, v: npt.ArrayLike) -> OrderParameters | Densities:
        """The order parameters of weights W (K, D), in the coordinates of the data, and readout v (K,)."""
        from quenched.numerics.problem.state import Densities, OrderParameters

        D = self.axes.shape[1]
        w = finite_array("W", W, (None, D)) / math.sqrt(D)
        readout = finite_array("v", v, (len(w),))
        if self.vectors is None:
            return OrderParameters(self.arguments["means"] @ self.axes @ w.T, w @ w.T, readout)
        along, axes = w @ self.vectors, self.axes @ self.vectors
        return Densities(np.einsum("bu,ku->ubk", axes, along), np.einsum("ku,lu->ukl", along, along), readout)


def estimate(
    X: npt.ArrayLike,
    cluster: npt.ArrayLike,
    label: npt.ArrayLike,
    *,
    covariance: str = "isotropic",
    shrinkage: float | str | None = None,
    project: bool = False,
    centre: bool = True,
) -> Fit:
    """The `Mixture` closest to labelled data (see `Mixture.from_data`) and where its coordinates lie in the data's."""
    choice("covariance", covariance, COVARIANCES)
    project, centre = flag("project", project), flag("centre", centre)
    data = finite_array("X", X, (None, None))
    n, D = data.shape
    y = finite_array("label", label, (n,))
    names, member = np.unique(group_names("cluster", cluster, n), return_inverse=True)
    clusters = len(names)
    if n <= clusters:
        raise ValueError(f"X must hold more samples than the {clusters} clusters, got {n}")
    labels = np.array([y[member == a][0] for a in range(clusters)])
    if (wrong := np.flatnonzero(y != labels[member])).size:
        raise ValueError(f"label must be one value per cluster, got both in cluster {names[member[wrong[0]]]}")
    counts = np.bincount(member)
    means = np.stack([data[member == a].mean(axis=0) for a in range(clusters)])
    within = data - means[member]
    variance = float((within**2).sum() / ((n - clusters) * D))
    if variance == 0:
        raise ValueError("X must vary within clusters, got a pooled variance of 0")
    # rounding in the means is relative to their length before the centre is taken away
    rounding = max(means.shape) * np.finfo(np.float64).eps * float(np.linalg.norm(means))
    if centre:
        means = means - data.mean(axis=0)
    U, lengths, basis = np.linalg.svd(means, full_matrices=False)
    p = max(1, int((lengths > rounding).sum()))
    # the sign of a singular vector is arbitrary: make its largest coordinate positive, for reproducible records
    signs = np.sign(basis[range(p), np.abs(basis[:p]).argmax(axis=1)])
    axes = signs[:, None] * basis[:p]
    found = {"means": U[:, :p] * (lengths[:p] * signs), "labels": labels, "weights": counts / n}
    spectrum, vectors = None, None
    if covariance == "isotropic":
        if shrinkage is not None:
            raise ValueError(f"shrinkage is of no use with covariance='isotropic', got {shrinkage!r}")
    else:
        shared = covariance == "shared"
        parts = [within] if shared else [within[member == a] for a in range(clusters)]
        freedom = [n - clusters] if shared else [int(c) - 1 for c in counts]
        spectrum, vectors = _spectrum(
            parts,
            freedom,
            [1.0] if shared else (counts / n).tolist(),
            signs[:, None] * basis[:p],
            variance,
            shrinkage,
            project,
        )
    return Fit(found | {"sigma": math.sqrt(variance), "spectrum": spectrum}, axes, vectors)


def _spectrum(
    parts: Sequence[Array],
    freedom: Sequence[int],
    weights: Sequence[float],
    basis: Array,
    variance: float,
    shrinkage: float | str | None,
    project: bool,
) -> tuple[Spectrum, Array]:
    """One direction per node, the columns of the second array: the eigenvectors of the pooled covariance.

    Eigenvalues are in units of the overall variance.
    """
    D = basis.shape[1]
    covariances, mixed = [], []
    for part, degrees in zip(parts, freedom, strict=True):
        if degrees < D and shrinkage is None:
            raise ValueError(
                f"X must hold more samples: {degrees} degrees of freedom cannot give a covariance in D = {D} "
                "dimensions; pass shrinkage='ledoit-wolf' or a weight between 0 and 1, or another kind of covariance"
            )
        S = part.T @ part / (degrees * variance)
        r = _weight(part, shrinkage)
        covariances.append((1 - r) * S + r * np.trace(S) / D * np.eye(D))
        mixed.append(r)
    pooled = sum(w * S for w, S in zip(weights, covariances, strict=True))
    vectors = np.linalg.eigh(pooled)[1]
    turned = [vectors.T @ S @ vectors for S in covariances]
    diagonals = np.stack([np.diag(S) for S in turned])
    norms = np.array([(S**2).sum() for S in turned])
    lost = np.maximum(norms - (diagonals**2).sum(axis=1), 0)
    discarded = float(weights @ lost / (weights @ norms))
    if len(parts) > 1 and discarded > _COMMUTING * D and not project:
        raise ValueError(
            f"covariance='full' needs covariances that commute, got {discarded:.3g} of their squared norm outside the "
            "common eigenbasis; pass project=True to leave it out (it is then reported), or covariance='shared'"
        )
    components = basis @ vectors  # e_b on the eigenvectors (p, D)
    spectrum = Spectrum(
        np.maximum(diagonals if len(parts) > 1 else diagonals[0], 0),
        alignment=np.einsum("bu,cu->ubc", components, components),
        shrinkage=max(mixed),
        discarded=discarded if len(parts) > 1 else 0.0,
    )
    return spectrum, vectors


def _weight(part: Array, shrinkage: float | str | None) -> float:
    """The weight of the identity."""
    if shrinkage is None:
        return 0.0
    if isinstance(shrinkage, str) and shrinkage == "ledoit-wolf":
        from sklearn.covariance import ledoit_wolf_shrinkage

        return float(ledoit_wolf_shrinkage(part, assume_centered=True))
    if isinstance(shrinkage, str):
        raise ValueError(f"shrinkage must be 'ledoit-wolf' or a weight between 0 and 1, got {shrinkage!r}")
    r = number("shrinkage", shrinkage)
    if r > 1:
        raise ValueError(f"shrinkage must be 'ledoit-wolf' or a weight between 0 and 1, got {shrinkage!r}")
    return r
