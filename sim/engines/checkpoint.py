"""A long simulation on disk, so that it can go on after it was killed and end with the same bits.

A checkpoint holds all that the rest of a run depends on: the state of the engine (`Engine.state`, arrays on the host
whichever device it runs on), how far it is, and the records so far.
It is one NetCDF file, put in its place by renaming a finished one: the last good checkpoint is there at any moment.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from quenched.sim.files import replace
from quenched.sim.results import difference

__all__ = ["Checkpoint", "CheckpointError", "Moment"]

Arrays = Mapping[str, npt.NDArray[Any]]


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be read, written, or taken for one of this run."""


@dataclass(frozen=True)
class Moment:
    """A moment of a run: the batch of seeds from number `first` on has done `steps` steps and `recorded` records.

    `records` by name, (seed, time, ...); `good` (seed,): the steps that finished seeds did with finite weights;
    `state`: that of the engine for this batch, and of the generators of its test samples.
    """

    first: int
    recorded: int
    steps: int
    records: Arrays
    good: npt.NDArray[np.int64]
    state: Arrays


@dataclass
class Checkpoint:
    """The file at `path` of the run that `identity` (JSON texts by name) describes, written every `seconds`."""

    path: Path
    identity: Mapping[str, str]
    seconds: float
    _written: float = field(default_factory=time.monotonic)

    def due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() - self._written >= self.seconds

    def save(self, moment: Moment) -> None:
        """CheckpointError where it cannot be written; the one before is then untouched."""
        import xarray as xr

        arrays = {f"state_{name}": values for name, values in moment.state.items()} | {"good": moment.good}
        arrays |= {f"records_{name}": values for name, values in moment.records.items()}
        dataset = xr.Dataset(
            {f"text_{name}": text for name, text in self.identity.items()}
            | {name: ([f"{name}_{i}" for i in range(values.ndim)], values) for name, values in arrays.items()}
            | {"position": ("place", np.array([moment.first, moment.recorded, moment.steps], dtype=np.int64))}
        )
        try:
            replace(self.path, dataset.to_netcdf(engine="h5netcdf"))  # HDF5 itself crashes when a disk is full
        except OSError as error:
            raise CheckpointError(
                f"the checkpoint {self.path} cannot be written ({error}); make room or choose another place: a run "
                "with the same checkpoint goes on from the last that was"
            ) from error
        self._written = time.monotonic()

    def load(self) -> Moment | None:
        """The last moment saved, None if there is none yet.

        CheckpointError: it cannot be read, or is of another run or other versions.
        """
        import xarray as xr

        if not self.path.exists():
            return None
        try:
            with xr.open_dataset(self.path, engine="h5netcdf") as file:
                dataset = file.load()
            texts = {str(name)[5:]: json.loads(dataset[name].item()) for name in dataset if str(name)[:5] == "text_"}
            first, recorded, steps = map(int, dataset.position.values)
            good = dataset.good.values
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise CheckpointError(
                f"the checkpoint {self.path} cannot be read ({type(error).__name__}: {error}); remove it to start anew"
            ) from error
        for name, text in self.identity.items():
            if differs := difference(texts.get(name), json.loads(text), name):
                raise CheckpointError(
                    f"the checkpoint {self.path} is of another run: {differs}; choose another file, or remove it"
                )

        def group(prefix: str) -> dict[str, npt.NDArray[Any]]:
            return {str(name)[len(prefix) :]: dataset[name].values for name in dataset if str(name).startswith(prefix)}

        return Moment(first, recorded, steps, group("records_"), good, group("state_"))
