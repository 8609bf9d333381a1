"""Samples: the clusters of those that are drawn from a mixture, and real labelled data.

The latter are arrays X (n, D), `cluster` (n,) and `label` (n,) ±1, ready for `Mixture.from_data`.
"""

from __future__ import annotations

import gzip
import os
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.texts import number_list

__all__ = ["Labelled", "digits", "draw_clusters", "from_data", "labelled", "mnist", "mnist_folder"]

Array = npt.NDArray[np.float64]

_IMAGES, _LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"  # ends of the names of MNIST's files, which may be gzipped
_UNSIGNED_BYTE = 8  # the type of numbers in an idx file


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

    return _even_or_odd(*load_digits(return_X_y=True))


def mnist(folder: str | Path) -> Labelled:
    """Handwritten digits of MNIST, odd (-1) against even (+1), one cluster a digit, from the files of a folder.

    All pairs NAME-images-idx3-ubyte and NAME-labels-idx1-ubyte of the folder are read, gzipped (.gz) or not; D = 784.
    X is centred and scaled as in `digits`.

    ValueError: there is no such pair, or a file of one is damaged.

    >>> mnist("nowhere")
    Traceback (most recent call last):
    ...
    ValueError: data must be a folder of files NAME-images-idx3-ubyte and NAME-labels-idx1-ubyte, got 'nowhere'
    """
    found = sorted(Path(folder).glob(f"*{_IMAGES}")) + sorted(Path(folder).glob(f"*{_IMAGES}.gz"))
    pairs = [(path, path.with_name(path.name.replace(_IMAGES, _LABELS))) for path in found]
    pairs = [pair for pair in pairs if pair[1].exists()]
    if not pairs:
        raise ValueError(f"data must be a folder of files NAME-{_IMAGES} and NAME-{_LABELS}, got {str(folder)!r}")
    images, cluster = (np.concatenate([_idx(pair[i]) for pair in pairs]) for i in (0, 1))
    return _even_or_odd(images.reshape(len(images), -1).astype(np.float64), cluster.astype(np.int64))


def mnist_folder() -> Path | None:
    """The folder of MNIST's files: QUENCHED_MNIST names it, or it is `mnist_t10k` in that of QUENCHED_REFDATA."""
    if given := os.environ.get("QUENCHED_MNIST"):
        return Path(given)
    published = Path(os.environ.get("QUENCHED_REFDATA", ""), "mnist_t10k")
    return published if published.is_dir() else None


def _idx(path: Path) -> npt.NDArray[np.uint8]:
    """The array of an idx file: two zeros, type, number of dimensions, sizes as big-endian int32, bytes."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise ValueError(f"data must hold idx files, {str(path)!r} cannot be read: {error}") from error
    shape: list[int] = []
    if len(content) > 4 and len(content) > 4 + 4 * content[3]:
        shape = np.frombuffer(content, ">i4", offset=4, count=content[3]).tolist()
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * len(shape)) if shape else np.empty(0, np.uint8)
    if not shape or content[2] != _UNSIGNED_BYTE or values.size != np.prod(shape, dtype=np.int64):
        raise ValueError(f"data must hold idx files of bytes, {str(path)!r} is damaged or none")
    return values.reshape(shape)


def _even_or_odd(images: Array, cluster: npt.NDArray[np.int64]) -> Labelled:
    X = images - images.mean(axis=0)
    return Labelled(X / np.sqrt((X**2).mean()), cluster, np.where(cluster % 2, -1.0, 1.0))


def labelled(source: str) -> Labelled:
    """`digits`, the arrays `X`, `cluster` and `label` of an .npz file, or the `mnist` files of a folder.

    ValueError names what is missing.

    >>> labelled("nowhere.npz")
    Traceback (most recent call last):
    ...
    ValueError: data must be 'digits' or an .npz file with the arrays X, cluster and label, got 'nowhere.npz'
    """
    if source == "digits":
        return digits()
    if not isinstance(source, str):
        raise ValueError(f"data must be 'digits', an .npz file or a folder, got {source!r}")
    path = Path(source)
    if path.is_dir():
        return mnist(path)
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
