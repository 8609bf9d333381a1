"""Labelled data: the bundled digits, and arrays from a file."""

from pathlib import Path

import numpy as np
import pytest

from quenched.numerics import Mixture
from quenched.sim.samples import digits, labelled


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
