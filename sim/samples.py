"""Samples: the clusters of those that are drawn from a mixture, and real labelled data.

The latter are arrays X (n, D), `cluster` (n,) and `label` (n,) ±1, ready for `Mixture.from_data`.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from quenched.numerics.problem.mixture import Mixture

__all__ = ["Labelled", "digits", "draw_clusters", "labelled"]

Array = npt.NDArray[np.float64]


class Labelled(NamedTuple):
    """n samples `X` (n, D), the `cluster` each belongs to (n,), and its `label` ±1 (n,)."""

    X: Array
    cluster: npt.NDArray[np.int64]
    label: Array


def draw_clusters(mixture: Mixture, random: np.random.Generator, n: int) -> npt.NDArray[np.int64]:
    """The clusters of n samples, each drawn with its probability P_a: one uniform number a sample.

    >>> draw_clusters(Mixture.xor(1.0), np.random.default_rng(0), 4).tolist()
    [2, 1, 0, 0]
    """
    return np.searchsorted(np.cumsum(mixture.weights)[:-1], random.random(n), side="right")


def digits() -> Labelled:
    """scikit-learn's 1797 handwritten digits of D = 64 pixels, odd (-1) against even (+1), one cluster a digit.

    X is centred pixel by pixel and divided by one number, the root mean square pixel: mean_i X_i = 0,
    mean_ij X_ij^2 = 1.

    >>> X, cluster, label = digits()
    >>> X.shape, len(set(cluster)), round(float((X**2).mean()), 12)
    ((1797, 64), 10, 1.0)
    """
    from sklearn.datasets import load_digits

    images, cluster = load_digits(return_X_y=True)
    X = images - images.mean(axis=0)
    return Labelled(X / np.sqrt((X**2).mean()), cluster, np.where(cluster % 2, -1.0, 1.0))


def labelled(source: str) -> Labelled:
    """`digits`, or the arrays `X`, `cluster` and `label` of an .npz file.

    ValueError names what is missing.

    >>> labelled("nowhere.npz")
    Traceback (most recent call last):
    ...
    ValueError: data must be 'digits' or an .npz file with the arrays X, cluster and label, got 'nowhere.npz'
    """
    if source == "digits":
        return digits()
    path = Path(source)
    if path.suffix != ".npz" or not path.is_file():
        raise ValueError(f"data must be 'digits' or an .npz file with the arrays X, cluster and label, got {source!r}")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"data must be an .npz file as numpy.savez writes it, {source!r} is none")
    with np.load(path) as arrays:
        if missing := {"X", "cluster", "label"} - set(arrays):
            raise ValueError(f"data must hold the arrays X, cluster and label, {source!r} has no {sorted(missing)}")
        try:
            return Labelled(arrays["X"], arrays["cluster"], arrays["label"])
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"data must hold arrays of numbers, {source!r} cannot be read: {error}") from error
