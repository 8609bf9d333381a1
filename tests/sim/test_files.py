"""Files of results: checked before, written at once or not at all, in full precision with their parameters."""

import csv
import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from quenched.numerics import Mixture, OnlineSGD, TwoLayer, integrate, random_state
from quenched.sim import simulate
from quenched.sim.files import OutputError, csv_text, prepare, replace, save, table, write


@pytest.fixture(scope="module")
def theory() -> xr.Dataset:
    mixture, network = Mixture.xor(0.5), TwoLayer(2, "erf")
    return integrate(mixture, network, OnlineSGD(0.3), random_state(mixture, network, 50, 0), [0.0, 0.1, 0.3])


def test_outputs_are_checked_before_anything_is_computed(tmp_path: Path) -> None:
    new, old = tmp_path / "a" / "b" / "new.nc", tmp_path / "old.nc"
    old.write_text("kept")
    prepare("output", [new], [".nc"])
    assert new.parent.is_dir()
    assert not any(new.parent.iterdir())
    for paths, message in (
        ([tmp_path / "x.xls"], r"output must end in \.nc or \.csv, got .*x\.xls"),
        ([new, new], "output must be different files"),
        ([old], "output must be a new file, got .*old.nc.*, which exists: add --force"),
        ([tmp_path], "output must end in|got the folder"),
        ([old / "inside.nc"], "output must be a file that can be written, got .*inside.nc"),
    ):
        with pytest.raises(ValueError, match=message):
            prepare("output", paths, [".nc", ".csv"])
    prepare("output", [old], [".nc"], force=True)
    assert old.read_text() == "kept"


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, theory: xr.Dataset) -> None:
    """Whatever format: the write fails, the file that was there is whole, and nothing is left beside it."""

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    from quenched.sim.drawing import plot

    results: dict[str, Any] = {"a.nc": theory, "a.csv": theory, "a.png": plot.dynamics({"a": theory})}
    for name, result in results.items():
        save(result, tmp_path / name)
    before = {name: (tmp_path / name).read_bytes() for name in results}
    monkeypatch.setattr(os, "fsync", full)
    for name, result in results.items():
        with pytest.raises(OutputError, match=r"cannot be written .*No space left.* is untouched"):
            save(result, tmp_path / name)
    with pytest.raises(OutputError, match="No space left"):
        write(tmp_path / "b.md", "text")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    place = tmp_path / "x"
    replace(place, b"one")
    replace(place, memoryview(b"two"))
    assert place.read_bytes() == b"two"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    write(tmp_path / "deep" / "y", "drei ½")
    assert (tmp_path / "deep" / "y").read_text(encoding="utf-8") == "drei ½"


def test_csv_has_every_digit_and_all_parameters(tmp_path: Path, theory: xr.Dataset) -> None:
    save(theory, tmp_path / "run.csv")
    lines = (tmp_path / "run.csv").read_text(encoding="utf-8").splitlines()
    comments = [line for line in lines if line.startswith("# ")]
    assert {line[2:].partition(":")[0] for line in comments} == set(theory.attrs)
    assert f"# mixture: {theory.attrs['mixture']}" in comments
    rows = list(csv.DictReader(lines[len(comments) :]))
    assert [float(row["time"]) for row in rows] == theory.time.values.tolist()
    for name, index in (("pmse", ()), ("M", (3, 1)), ("Q", (0, 1)), ("v", (1,))):
        column = name + (f"[{','.join(map(str, index))}]" if index else "")
        assert [float(row[column]) for row in rows] == theory[name].values[(slice(None), *index)].tolist()


def test_rows_are_what_a_result_is_along() -> None:
    mixture, network = Mixture.two_clusters(1.0), TwoLayer(1, "linear")
    runs = simulate(mixture, network, OnlineSGD(0.1), 20, [0.1, 0.2], [3, 5], backend="numpy", test_samples=10)
    header, rows = table(runs)
    assert header[:3] == ["seed", "time", "step"]
    assert [row[:3] for row in rows] == [[3, 0.1, 2], [3, 0.2, 4], [5, 0.1, 2], [5, 0.2, 4]]
    text = csv_text(["a", "b"], [[float("nan"), 'x,"y"']], {"two": "lines\nof it"})
    assert text == '# two: lines of it\na,b\nnan,"x,""y"""\n'
    np.testing.assert_equal(next(csv.reader(text.splitlines()[2:])), ["nan", 'x,"y"'])
    with pytest.raises(ValueError, match="dataset must have one of the dimensions time"):
        table(xr.Dataset({"a": 1.0}))


def test_unknown_formats_are_named(tmp_path: Path, theory: xr.Dataset) -> None:
    with pytest.raises(ValueError, match=r"output must end in one of \.nc, \.csv, got .*run\.txt"):
        save(theory, tmp_path / "run.txt")
