"""Labelled data: the bundled digits, and arrays from a file."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from quenched.numerics import Mixture
from quenched.sim.samples import digits, labelled, mnist


def test_digits_are_centred_and_labelled_by_parity() -> None:
    X, cluster, label = digits()
    # n sums of numbers of order 1, divided by n: rounding of a few epsilon
    assert np.abs(X.mean(axis=0)).max() < 1e-14
    assert (label == (-1.0) ** cluster).all()


def test_a_file_gives_the_same_as_the_arrays(tmp_path: Path) -> None:
    data = digits()
    np.savez(tmp_path / "digits.npz", **data._asdict())
    one, other = Mixture.from_data(*data), Mixture.from_data(*labelled(str(tmp_path / "digits.npz")))
    assert one.to_dict() == other.to_dict()


def test_a_missing_array_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", X=np.ones((3, 2)), label=np.ones(3))
    with pytest.raises(ValueError, match=r"no \['cluster'\]"):
        labelled(str(tmp_path / "bad.npz"))


def test_what_is_no_data_is_named(tmp_path: Path) -> None:
    """Empty, text, and arrays of objects, which only pickle could read."""
    for name, content in (("empty.npz", b""), ("text.npz", b"hello")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"data must be an \.npz file .*{name}"):
            labelled(str(tmp_path / name))
    np.savez(tmp_path / "objects.npz", X=np.array([{}], dtype=object), cluster=np.ones(1), label=np.ones(1))
    with pytest.raises(ValueError, match=r"objects\.npz' cannot be read: Object arrays"):
        labelled(str(tmp_path / "objects.npz"))


def idx(array: np.ndarray) -> bytes:
    """An idx file: two zeros, the type of bytes, the number of dimensions, sizes, values."""
    head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
    return head + array.astype(np.uint8).tobytes()


def test_files_of_mnist(tmp_path: Path) -> None:
    """Two pairs, one gzipped: images in order, centred and scaled, labels by parity."""
    random = np.random.default_rng(0)
    images, digit = random.integers(0, 256, (7, 4, 4)), np.array([3, 0, 1, 2, 9, 8, 4])
    for part, name, pack in ((slice(4), "t10k", gzip.compress), (slice(4, 7), "train", bytes)):
        end = ".gz" if name == "t10k" else ""
        (tmp_path / f"{name}-images-idx3-ubyte{end}").write_bytes(pack(idx(images[part])))
        (tmp_path / f"{name}-labels-idx1-ubyte{end}").write_bytes(pack(idx(digit[part])))
    X, cluster, label = labelled(str(tmp_path))
    order = [4, 5, 6, 0, 1, 2, 3]  # plain files come first
    assert cluster.tolist() == digit[order].tolist()
    assert label.tolist() == [-1.0, 1.0, 1.0, -1.0, 1.0, -1.0, 1.0]
    centred = images.reshape(7, 16)[order] - images.reshape(7, 16).mean(axis=0)
    # numbers of order 100 and their mean of 112 squares, in double precision
    np.testing.assert_allclose(X * np.sqrt((centred**2).mean()), centred, rtol=0, atol=1e-11)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(images[4:])[:-1])
    with pytest.raises(ValueError, match=r"data must hold idx files of bytes, .* is damaged or none"):
        mnist(tmp_path)
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(b"no gzip")
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(images[4:]))
    with pytest.raises(ValueError, match=r"data must hold idx files, .* cannot be read"):
        mnist(tmp_path)


REAL = Path(os.environ["QUENCHED_REFDATA"], "mnist_t10k")


@pytest.mark.skipif(not REAL.is_dir(), reason="the published data of QUENCHED_REFDATA are absent")
def test_mnist_itself() -> None:
    """Its documented size, and numbers of each digit."""
    X, cluster, _ = mnist(REAL)
    assert X.shape == (10_000, 784)
    assert np.bincount(cluster).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
