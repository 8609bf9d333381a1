"""Real labelled data: arrays X (n, D), `cluster` (n,) and `label` (n,) ±1, ready for `Mixture.from_data`."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.texts import number_list

__all__ = ["Labelled", "digits", "from_data", "labelled"]

Array = npt.NDArray[np.float64]


class Labelled(NamedTuple):
    """n samples `X` (n, D), the `cluster` each belongs to (n,), and its `label` ±1 (n,)."""

    X: Array
    cluster: npt.NDArray[np.int64]
    label: Array


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


def from_data(
    data: str,
    sigma: float | None = None,
    covariance: str = "isotropic",
    shrinkage: str | float | None = None,
    project: bool = False,
) -> Mixture:
    """The mixture of `labelled(data)`, as `Mixture.from_data` estimates it; `sigma` in the place of the noise found.

    `shrinkage`: "ledoit-wolf", or a number, which may be a text.  ValueError: what `Mixture.from_data` refuses.

    >>> from_data("digits").clusters
    10
    """
    named = shrinkage if not isinstance(shrinkage, str) or shrinkage == "ledoit-wolf" else None
    weight = named if shrinkage in (None, named) else number_list("shrinkage", str(shrinkage), 1)[0]
    found = Mixture.from_data(*labelled(data), covariance=covariance, shrinkage=weight, project=project)
    return found if sigma is None else replace(found, sigma=sigma)
