"""What an interrupted computation has finished: kept to the bit, used when asked for, never mistaken for another."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quenched.numerics import GradientFlow, Mixture, OnlineSGD
from quenched.numerics.problem.learner import Solution
from quenched.sim.journal import Journal, decode, encode
from quenched.sim.processes import Work

CALLS: list[int] = []


def square(x: int) -> dict[str, Any]:
    """A job that counts how often it is done."""
    CALLS.append(x)
    return {"square": x * x, "half": np.array([x / 2])}


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | hnp.arrays(
    st.sampled_from([np.float64, np.int64, np.bool_, np.float32]), hnp.array_shapes(max_dims=2, max_side=3)
)  # fmt: skip
VALUES = st.recursive(LEAVES, lambda v: st.lists(v) | st.tuples(v, v) | st.dictionaries(st.text(), v), max_leaves=6)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    if isinstance(one, (list, tuple)):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    return type(one) is type(other) and repr(one) == repr(other)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no failure
@given(VALUES)
def test_values_come_back_with_the_same_bits(value: Any) -> None:
    assert same(decode(json.loads(json.dumps(encode(value)))), value)


def test_datasets_and_records_come_back() -> None:
    data = xr.Dataset(
        {"a": (("x", "label"), [[0.1, np.nan]], {"units": "1"}), "b": 3.0},
        coords={"x": [2], "label": ["u", "v"], "extra": ("x", [1.5])},
        attrs={"mixture": "{}"},
    )
    assert decode(json.loads(json.dumps(encode(data)))).identical(data)
    part = Solution(0.1, 1e-9, "m", {"versions": "{}"}, {"final": data.a})
    found = decode(json.loads(json.dumps(encode(part))))
    assert (found.value, found.error, found.method, found.provenance) == (0.1, 1e-9, "m", {"versions": "{}"})
    assert found.parts["final"].identical(data.a)
    rule = OnlineSGD(0.1, second_lr=0.2)
    assert decode(encode(rule)) == rule


@pytest.mark.parametrize("name", ["os:system", "quenched.sim.files:replace", "builtins:eval"])
def test_nothing_else_is_called_by_reading(name: str) -> None:
    with pytest.raises(ValueError, match="record must be"):
        decode({"__kind__": "record", "class": name, "fields": {}})


def test_finished_jobs_are_not_done_again(tmp_path: Path) -> None:
    CALLS.clear()
    jobs = [(i,) for i in range(4)]
    done: list[float] = []
    first = Work(1, journal=Journal(tmp_path / "kept")).map(square, jobs[:2])
    journal = Journal(tmp_path / "kept", resume=True)
    found = Work(1, done.append, journal).map(square, jobs)
    assert CALLS == [0, 1, 2, 3]
    assert done == [0.5, 0.75, 1.0]
    assert same(found[:2], first)
    assert [value["square"] for value in found] == [0, 1, 4, 9]
    assert journal.sentence().startswith("what is finished (4 parts) is in ")
    Work(1, journal=Journal(tmp_path / "kept")).map(square, jobs)  # without resume: anew
    assert CALLS == [0, 1, 2, 3, 0, 1, 2, 3]
    journal.close()
    assert not (tmp_path / "kept").exists()


def test_processes_use_and_fill_the_journal(tmp_path: Path) -> None:
    expected = Work().map(square, [(i,) for i in range(3)])
    Work(2, journal=Journal(tmp_path)).map(square, [(0,), (2,)])
    found = Work(2, journal=Journal(tmp_path, resume=True)).map(square, [(i,) for i in range(3)])
    assert same(found, expected)
    assert len(list(tmp_path.iterdir())) == 3


def test_another_problem_is_another_key(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    arguments: list[Any] = [
        (Mixture.xor(0.4),), (Mixture.xor(0.4000000001),), (OnlineSGD(1.0),), (GradientFlow(1.0),), (1,), (1.0,),
        ((1,),), ([1],), (range(1, 2), 0),
    ]  # fmt: skip
    assert len({journal.key(square, each) for each in arguments}) == len(arguments)
    assert journal.key(square, (1,)) != journal.key(same, (1,))


def test_what_cannot_be_read_is_computed_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Work(1, journal=Journal(tmp_path)).map(square, [(1,), (2,)])
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:-3])
    assert Work(1, journal=Journal(tmp_path, resume=True)).map(square, [(1,)])[0]["square"] == 1
    assert "computed anew" in caplog.text


def test_a_disk_without_room_does_not_end_the_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("no folder")
    journal = Journal(tmp_path / "file" / "kept")
    assert [each["square"] for each in Work(1, journal=journal).map(square, [(2,), (3,)])] == [4, 9]
    assert caplog.text.count("nothing more can be kept") == 1
    assert journal.sentence() is None
    other = Journal(tmp_path / "file" / "kept")
    assert other.file("checkpoint.nc") is None
    other.close()


def test_nothing_is_left_when_all_is_done(tmp_path: Path) -> None:
    """A finished run removes the parts of an earlier one with other options; in a shared folder only its own.

    An early end leaves what is kept, and no empty folder.
    """
    place = tmp_path / "run.nc.unfinished"
    for whole in (True, False):
        Work(1, journal=Journal(place)).map(square, [(1,), (2,)])
        (place / "notes.txt").write_text("of the user")
        journal = Journal(place)
        Work(1, journal=journal).map(square, [(2,), (3,)])
        journal.close(whole=whole)
        assert len(list(place.glob("*.json"))) == (0 if whole else 1)
        assert (place / "notes.txt").exists()
    early = Journal(tmp_path / "early.unfinished")
    early.file("checkpoint.nc")
    early.leave()
    assert not early.place.exists()
