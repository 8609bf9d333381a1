"""Where the arrays of a simulation live: NumPy on the host, or CuPy on a GPU.  The only module that knows CuPy.

A simulation is written once, against the array-API namespace `xp`; what the standard lacks (random numbers, elementary
functions beyond it) comes from the `Backend`.  The generated activation functions are made of NumPy and SciPy ufuncs,
which dispatch on CuPy arrays by themselves.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Backend", "HostNormals", "Normals", "generators", "get_backend", "host_normals"]

# An array of whichever namespace is in use; the standard has no type for it.
Array = Any
Normals = Callable[[tuple[int, ...]], Array]


def _nothing() -> None:
    return None


def _unchanged(function: Callable[..., Array]) -> Callable[..., Array]:
    return function


@dataclass(frozen=True)
class Backend:
    """An array namespace with what a simulation needs beyond the standard.

    `normals(seeds, stream, dtype)` returns a source of standard normals, source(shape) -> (len(seeds), *shape);
    `to_host` makes a NumPy array; `elementwise` adapts a function made of NumPy ufuncs to the arrays of `xp`; `fuse`
    makes one kernel of a function made of arithmetic.  `device` says where arrays live, and `synchronize` waits for it.
    """

    name: str
    xp: Any
    normals: Callable[[Sequence[int], int, str], Normals]
    to_host: Callable[[Array], np.ndarray]
    elementwise: Callable[[Callable[..., Array]], Callable[..., Array]] = _unchanged
    fuse: Callable[[Callable[..., Any]], Callable[..., Any]] = _unchanged
    device: str = "the host"
    synchronize: Callable[[], None] = _nothing


def generators(seeds: Sequence[int], stream: int) -> list[np.random.Generator]:
    """One independent generator per seed; `stream` numbers the uses a seed is put to (data, labels, test)."""
    return [np.random.Generator(np.random.SFC64(np.random.SeedSequence(s, spawn_key=(stream,)))) for s in seeds]


@dataclass(frozen=True)
class HostNormals:
    """Normals drawn by NumPy, each seed from its own stream: what a seed gets does not depend on the others.

    Nor does it depend on how a stream is cut into calls.  SFC64 is the fastest of NumPy's generators here.
    """

    sources: list[np.random.Generator]
    dtype: str

    def __call__(self, shape: tuple[int, ...]) -> np.ndarray:
        """Standard normals (seeds, *shape)."""
        out = np.empty((len(self.sources), *shape), dtype=self.dtype)
        for source, row in zip(self.sources, out, strict=True):
            source.standard_normal(out=row, dtype=self.dtype)  # type: ignore[call-overload]  # one of two names
        return out


def host_normals(seeds: Sequence[int], stream: int, dtype: str) -> HostNormals:
    """The normals of each seed for the use number `stream`."""
    return HostNormals(generators(seeds, stream), dtype)


def _numpy() -> Backend:
    import array_api_compat.numpy as xp

    return Backend("numpy", xp, host_normals, np.asarray, device=f"{platform.machine()}, {os.cpu_count()} cores")


def _cupy() -> Backend:
    """CuPy; RuntimeError (ImportError where it is not installed) if no GPU answers.

    One generator draws for all seeds together, on the device: replicas are independent of each other, but what a seed
    gets depends on the seeds beside it and on the block size.
    """
    import array_api_compat.cupy as xp
    import cupy

    if (count := _devices(cupy)) == 0:
        raise RuntimeError(f"CuPy {cupy.__version__} is installed, but found {count} GPUs")

    def normals(seeds: Sequence[int], stream: int, dtype: str) -> Normals:
        sequence = np.random.SeedSequence(list(seeds), spawn_key=(stream,))
        source = cupy.random.Generator(cupy.random.Philox4x3210(sequence))
        return lambda shape: source.standard_normal((len(seeds), *shape), dtype=dtype)

    device = cupy.cuda.Device()
    name = cupy.cuda.runtime.getDeviceProperties(device.id)["name"].decode()
    return Backend("cupy", xp, normals, cupy.asnumpy, fuse=cupy.fuse, device=name, synchronize=device.synchronize)


def _devices(cupy: Any) -> int:
    try:
        return int(cupy.cuda.runtime.getDeviceCount())
    except cupy.cuda.runtime.CUDARuntimeError:  # no driver
        return 0


def get_backend(name: str | Backend) -> Backend:
    """The backend called "numpy" or "cupy"; "auto" is CuPy where it is installed and a GPU answers, else NumPy.

    >>> get_backend("numpy").name
    'numpy'
    >>> get_backend("fortran")
    Traceback (most recent call last):
    ...
    ValueError: backend must be 'auto', 'numpy' or 'cupy', got 'fortran'
    """
    if isinstance(name, Backend):
        return name
    if name == "numpy":
        return _numpy()
    if name not in ("auto", "cupy"):
        raise ValueError(f"backend must be 'auto', 'numpy' or 'cupy', got {name!r}")
    try:
        return _cupy()
    except (ImportError, RuntimeError) as error:
        if name == "auto":
            return _numpy()
        raise RuntimeError(
            f"backend='cupy' was asked for, but cannot be used ({error}); install quenched[cuda12] or quenched[cuda13] "
            "on a machine with an NVIDIA GPU and its driver, or choose backend='numpy'"
        ) from error
