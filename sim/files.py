"""Files that results go to: checked before anything is computed, and written beside their place and moved into it.

HDF5 itself crashes when a disk is full, and leaves half a file: a dataset becomes bytes in memory first.
"""

from __future__ import annotations

import csv
import io
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

__all__ = ["DATA", "PICTURES", "OutputError", "csv_text", "prepare", "replace", "save", "table", "write"]

DATA = (".nc", ".csv")
"""Suffixes of files that a dataset is written to."""

PICTURES = (".png", ".pdf", ".svg", ".eps", ".ps", ".jpg", ".jpeg", ".tif", ".tiff", ".webp")
"""Suffixes of files that a figure is written to."""

_ROWS = (("seed", "time"), ("time",), ("sigma",), ("point",), ("solution",), ("cell",), ("D",))
_CAPTION = {".png": ("Title", "Description"), ".pdf": ("Title", "Subject"), ".svg": ("Title", "Description")}
"""Where the metadata of a picture hold what it is called and what is said below it."""

_TIMELESS = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}


class OutputError(RuntimeError):
    """A file cannot be written; what was in its place is untouched."""


def prepare(name: str, paths: Iterable[Path], suffixes: Sequence[str] = (), *, force: bool = False) -> None:
    """Before a computation: make the folders of its output files, and see that the files can be written.

    `name` is that of the argument.  ValueError: a suffix not among `suffixes` (if there are any), a path given twice, a
    folder that cannot be made or written, or a file that exists, unless `force`.
    """
    seen: set[Path] = set()
    for path in map(Path, paths):
        if suffixes and path.suffix.lower() not in suffixes:
            ending = f"{', '.join(suffixes[:-1])} or {suffixes[-1]}" if len(suffixes) > 1 else suffixes[0]
            raise ValueError(f"{name} must end in {ending}, got {str(path)!r}")
        if (place := path.absolute()) in seen:
            raise ValueError(f"{name} must be different files, got {str(path)!r} twice")
        seen.add(place)
        if path.is_dir():
            raise ValueError(f"{name} must be a file, got the folder {str(path)!r}")
        if path.exists() and not force:
            raise ValueError(f"{name} must be a new file, got {str(path)!r}, which exists: add --force to overwrite it")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path.parent):
                pass
        except OSError as error:
            raise ValueError(f"{name} must be a file that can be written, got {str(path)!r}: {error}") from error


def replace(path: Path, content: bytes | memoryview) -> None:
    """Make `content` that of the file at once: whatever happens, it is the old or the new one.  OSError if it fails."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as folder:
        draft = Path(folder) / "draft"
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)


def write(path: str | Path, content: bytes | memoryview | str) -> None:
    """As `replace`, with the folder made; text is UTF-8.  OutputError where it cannot be written."""
    place = Path(path)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        replace(place, content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise OutputError(f"{place} cannot be written ({error}); what was there before is untouched") from error


def save(result: xr.Dataset | Figure, path: str | Path, caption: str = "") -> None:
    """Write a dataset as NetCDF or CSV, or a figure as a picture; the suffix says the format.

    `caption` is kept in the file: in the attributes of a dataset, in the metadata of a PNG, PDF or SVG picture.  The
    same figure makes the same bytes: no date is written.

    ValueError: no such format for it.  OutputError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    suffix = Path(path).suffix.lower()
    if isinstance(result, Figure):
        if suffix not in PICTURES:
            raise ValueError(f"plot must end in one of {', '.join(PICTURES)}, got {str(path)!r}")
        write(path, _picture(result, suffix, Path(path).stem, caption))
        return
    if caption:
        result = result.assign_attrs(caption=caption)
    if suffix == ".nc":
        write(path, result.to_netcdf(engine="h5netcdf"))
    elif suffix == ".csv":
        write(path, csv_text(*table(result), result.attrs))
    else:
        raise ValueError(f"output must end in one of {', '.join(DATA)}, got {str(path)!r}")


def _picture(figure: Figure, suffix: str, title: str, caption: str) -> memoryview:
    """The bytes of a picture, in the house style, with its caption in the metadata."""
    from quenched.sim.drawing.style import house

    known = dict(zip(_CAPTION.get(suffix, ()), (f"quenched: {title}", caption), strict=False)) if caption else {}
    about: Any = known | _TIMELESS.get(suffix, {})
    buffer = io.BytesIO()
    with house():
        figure.savefig(buffer, format=suffix[1:], metadata=about or None)
    return buffer.getbuffer()


def table(dataset: xr.Dataset) -> tuple[list[str], list[list[Any]]]:
    """Header and rows of a dataset: a row for each time (and seed), sigma, point or solution.

    Components are columns, "M[0,1]"; a dimension with labels is indexed by them.  Variables that do not vary along the
    rows are left out.  ValueError: the dataset has no dimension of which there could be rows.

    >>> import xarray as xr
    >>> table(xr.Dataset({"v": (("time", "neuron"), [[1.0, 2.0]])}, coords={"time": [0.5]}))
    (['time', 'v[0]', 'v[1]'], [[0.5, 1.0, 2.0]])
    """
    along = next((rows for rows in _ROWS if set(rows) <= set(dataset.dims)), None)
    if along is None:
        raise ValueError(f"dataset must have one of the dimensions time, sigma, point, .., got {list(dataset.dims)}")
    shape = [dataset.sizes[dim] for dim in along]
    columns: dict[str, Any] = {}
    for dim, values in zip(along, np.meshgrid(*(dataset[dim].values for dim in along), indexing="ij"), strict=True):
        if dim in dataset.coords:
            columns[dim] = values.ravel()
    coordinates = [name for name in dataset.coords if name not in dataset.dims]
    for name in [*coordinates, *dataset.data_vars]:
        variable = dataset[name]
        if not set(along) & set(variable.dims):
            continue
        inner = [str(dim) for dim in variable.dims if dim not in along]
        absent = {dim: dataset.sizes[dim] for dim in along if dim not in variable.dims}
        values = variable.expand_dims(absent).transpose(*along, *inner).values
        for index in np.ndindex(values.shape[len(along) :]):
            labels = [_label(dataset, dim, i) for dim, i in zip(inner, index, strict=True)]
            title = f"{name}[{','.join(labels)}]" if labels else str(name)
            columns[title] = values[(..., *index)].reshape(-1)
    rows = [[column[i] for column in columns.values()] for i in range(int(np.prod(shape)))]
    return list(columns), [[each.item() if isinstance(each, np.generic) else each for each in row] for row in rows]


def _label(dataset: xr.Dataset, dim: str, i: int) -> str:
    labelled = dim in dataset.coords and dataset[dim].dtype.kind in "OUT"
    return str(dataset[dim].values[i]) if labelled else str(i)


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Any]], parameters: Mapping[Any, Any] | None = None) -> str:
    """Comma-separated values: the parameters as comments, "# name: value", a header, and rows in full precision.

    >>> print(csv_text(["x"], [[0.1]], {"sigma": 0.4}), end="")
    # sigma: 0.4
    x
    0.1
    """
    text = io.StringIO(newline="")
    for name, value in (parameters or {}).items():
        text.write(f"# {name}: {' '.join(str(value).splitlines())}\n")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([repr(each) if isinstance(each, float) else each for each in row] for row in rows)
    return text.getvalue()
