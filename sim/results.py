"""Results of a sweep on disk: one Zarr store that holds a dataset over the whole grid, NaN where nothing is known yet.

Each cell of the grid is a chunk of its own in every variable, and Zarr puts a chunk in its place by renaming a finished
file.  A cell's chunk in `status` comes last: so a cell is either in the store as a whole or not at all, whenever the
program dies.  A store has one writer at a time; chunks carry a checksum.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["DONE", "OVERFLOW", "UNFINISHED", "Index", "Store", "StoreError", "difference"]

UNFINISHED, DONE, OVERFLOW = range(3)  # values of `status`; OVERFLOW: the weights diverged, there is nothing to record
_MARKS = ("status", "diverged_after")  # what says how a cell ended; all else is what it recorded
_UNREADABLE = (OSError, RuntimeError, ValueError)  # what zarr and its codecs raise
Index = tuple[slice, ...]


class StoreError(RuntimeError):
    """A store that cannot be read, written, or taken for the one that was meant."""


class Store:
    """The store at `path`, opened for writing: made from `blank` (with `chunks`, by dimension) where there is none.

    `blank` has the coordinates and attributes of the results, variables full of NaN, and `status` full of UNFINISHED.
    `present`: of a variable that not every cell has, where it is; an array that broadcasts to `status`.
    A store that exists is taken only if `resume`, and if its attributes are those of `blank`.

    StoreError: it exists and is not to be resumed, is of another sweep or of other versions, or cannot be read or
    written.
    """

    def __init__(
        self,
        path: Path,
        blank: xr.Dataset,
        chunks: Mapping[str, int],
        resume: bool,
        present: Mapping[str, npt.NDArray[np.bool_]] | None = None,
    ) -> None:
        self.path = path
        self._variables = [str(name) for name in blank.data_vars]
        shape, known = blank["status"].shape, present or {}
        self._present = {
            name: np.broadcast_to(known.get(name, True), shape) for name in self._variables if name not in _MARKS
        }
        if path.exists():
            if not resume:
                raise StoreError(f"the store {path} exists: resume it (--resume), or choose another place (--store)")
            self._check(blank)
        else:
            self._create(blank, chunks)
        import zarr

        self._lock = self._alone()
        self._group = zarr.open_group(path, mode="r+", use_consolidated=False)
        for draft in path.rglob("*.partial"):  # what was being written when a run was killed
            draft.unlink(missing_ok=True)

    def close(self) -> None:
        """Let others write."""
        if self._lock is not None:
            os.close(self._lock)

    def _alone(self) -> int | None:
        """A lock on the folder that ends with this process, however that dies; StoreError if another has it."""
        if sys.platform == "win32":  # no such locks
            return None
        import fcntl

        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise StoreError(f"another program is at work on the store {self.path}: wait for it, or end it") from error
        except OSError:  # a file system without locks
            return descriptor
        return descriptor

    def _create(self, blank: xr.Dataset, chunks: Mapping[str, int]) -> None:
        """Written beside its place and then moved there, so that half a store is never found."""
        from zarr.codecs import ZstdCodec

        encoding = {
            name: {
                "chunks": tuple(chunks.get(str(dim), blank.sizes[dim]) for dim in variable.dims),
                "compressors": [ZstdCodec(checksum=True)],
            }
            for name, variable in blank.data_vars.items()
        }
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(prefix=f".{self.path.name}-", dir=self.path.parent))
            try:
                blank.to_zarr(draft / "store", zarr_format=3, consolidated=False, encoding=encoding)
                (draft / "store").rename(self.path)
            finally:
                shutil.rmtree(draft)
        except OSError as error:
            raise StoreError(
                f"the store {self.path} cannot be made: {error}; choose another place (--store)"
            ) from error

    def _check(self, blank: xr.Dataset) -> None:
        """StoreError unless this is a store of the same sweep, made by the same versions."""
        try:
            metadata = json.loads((self.path / "zarr.json").read_text(encoding="utf-8"))["attributes"]
            found = {name: json.loads(metadata[name]) for name in blank.attrs if name in metadata}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{self.path} cannot be read as the store of a sweep ({type(error).__name__}: {error}); "
                "nothing was changed: choose another place (--store), or repair or remove it"
            ) from error
        if missing := [str(name) for name in blank.attrs if name not in found]:
            raise StoreError(
                f"the store {self.path} was made by another version of quenched: it does not say {', '.join(missing)}; "
                "nothing was changed: choose another place (--store), or go back to what it was made with"
            )
        for name in ("versions", *blank.attrs):
            if differs := difference(found[name], json.loads(blank.attrs[name]), name):
                raise StoreError(
                    f"the store {self.path} was made for something else: {differs}; nothing was changed: choose "
                    "another place (--store), or go back to what it was made with"
                )

    def write(self, index: Index, values: Mapping[str, npt.NDArray[Any]]) -> None:
        """Put the values of one cell, arrays (seed, ...), at `index`: a slice for each dimension up to seed.

        `status` goes last.  Where a cell has fewer neurons or clusters than others the rest is NaN.
        """
        import zarr

        try:
            for name in sorted(values, key=lambda name: name == "status"):
                variable = self._group[name]
                if not isinstance(variable, zarr.Array):
                    raise StoreError(f"the store {self.path} is damaged: {name} is no array")
                whole = np.full(variable.chunks, np.nan if variable.dtype.kind == "f" else 0, variable.dtype)
                known: tuple[Any, ...] = (*[0] * (len(index) - 1), *map(slice, values[name].shape))
                whole[known] = values[name]
                variable[index] = whole
        except OSError as error:
            raise StoreError(
                f"the store {self.path} cannot be written ({error}); what was finished before is safe in it: make room "
                "or repair it, and resume (--resume)"
            ) from error

    def status(self, cells: Iterable[Index]) -> npt.NDArray[np.int8]:
        """How far each point is, after a look at all that is finished.  StoreError names the first damaged cell."""
        try:
            return np.asarray(self.read().status)
        except _UNREADABLE as error:
            self._inspect(cells, error)
            return np.asarray(self._group["status"])

    def read(self) -> xr.Dataset:
        """All of it, in memory."""
        import xarray as xr

        with xr.open_zarr(self.path, chunks=None, consolidated=False) as dataset:
            results: xr.Dataset = dataset.load()[self._variables]
        status = results.status.values
        if any(_lost(status, results[name].values, present) for name, present in self._present.items()):
            raise StoreError(f"the store {self.path} lacks some of what was finished")
        labels = {dim: label.values.tolist() for dim, label in results.coords.items() if label.dtype.kind == "T"}
        return results.assign_coords(labels)

    def _inspect(self, cells: Iterable[Index], error: Exception) -> None:
        """StoreError with what is wrong, and which file to remove; not if that concerns unfinished cells alone."""
        try:
            for label, array in self._group.arrays():
                if label not in self._variables:
                    np.asarray(array)
        except _UNREADABLE:
            raise StoreError(
                f"the store {self.path} is damaged ({error}); sweep anew into another (--store)"
            ) from error
        for index in cells:
            place = [each.start // (each.stop - each.start) for each in index]
            mark = self.path.joinpath("status", "c", *map(str, place))
            try:
                status = np.asarray(self._group["status"][index])  # type: ignore[index]
                if not (status == DONE).any():
                    continue
                for name in self._variables:
                    values = np.asarray(self._group[name][index])  # type: ignore[index]
                    if name not in _MARKS and _lost(status, values, self._present[name][index]):
                        raise StoreError(f"values of {name} are missing")
            except _UNREADABLE as found:
                raise StoreError(
                    f"the store {self.path} is damaged: cell {place} cannot be read ({found}); remove {mark} and "
                    "resume (--resume): this cell is then computed anew, and the others are kept"
                ) from found


def _lost(status: npt.NDArray[Any], values: npt.NDArray[Any], present: npt.NDArray[np.bool_]) -> bool:
    """Whether a finished seed lacks the first of its `values`, which are of the shape of `status` and more."""
    first = values.reshape(*status.shape, -1)[..., 0]
    return bool(((status == DONE) & present & np.isnan(first)).any())


def difference(old: Any, new: Any, name: str) -> str | None:
    """The first difference between two JSON values, in words; None if there is none.

    >>> difference({"D": [10, 20], "t": 1}, {"D": [10, 30], "t": 1}, "spec")
    'spec.D[1] is 20 there and 30 here'
    """
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            if key not in old or key not in new:
                return f"{name}.{key} is {'there only' if key in old else 'here only'}"
            if found := difference(old[key], new[key], f"{name}.{key}"):
                return found
        return None
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = enumerate(zip(old, new, strict=True))
        return next((found for i, pair in pairs if (found := difference(*pair, f"{name}[{i}]"))), None)
    return None if old == new else f"{name} is {json.dumps(old)} there and {json.dumps(new)} here"
