"""Where the arrays of a simulation live: NumPy on the host, or CuPy on a GPU.  The only module that knows CuPy.

A simulation is written once, against the array-API namespace `xp`; what the standard lacks (random numbers, elementary
functions beyond it) comes from the `Backend`.  The generated activation functions are made of NumPy and SciPy ufuncs,
which dispatch on CuPy arrays by themselves.
"""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

__all__ = [
    "Backend",
    "CardError",
    "HostNormals",
    "Normals",
    "generator_words",
    "generators",
    "get_backend",
    "host_normals",
    "restore_generators",
]

# An array of whichever namespace is in use; the standard has no type for it.
Array = Any
Words = npt.NDArray[np.uint64]

_THREADS = 128  # of a block: kernels of many registers find room for several
_HOST_MEMORY = 2**28  # bytes for samples and weights: what stays in the caches of a server, and fits any laptop


class CardError(RuntimeError):
    """A kernel that the card's compiler refuses, or memory that a card does not have."""


class Launch(Protocol):
    """Kernels of one source."""

    def __call__(self, name: str, count: int, *arguments: Any, lanes: int = 1) -> None:
        """Run one for `count` replicas, a thread each or `lanes` of them; `count` is its first argument."""


class Normals(Protocol):
    """A source of standard normals for some seeds, which can be stopped and gone on with."""

    def __call__(self, shape: tuple[int, ...]) -> Array:
        """The next numbers, (seeds, *shape)."""

    def state(self) -> Words:
        """Where it is, as an array on the host."""

    def restore(self, words: Words) -> None:
        """Go on from there.  ValueError: they are not the words of such a source."""


def _nothing() -> None:
    return None


def _host_memory() -> int:
    return _HOST_MEMORY


def _no_kernels(source: str) -> Launch:
    raise CardError("backend must be 'cupy' for kernels")


def _unchanged(function: Callable[..., Array]) -> Callable[..., Array]:
    return function


@dataclass(frozen=True)
class Backend:
    """An array namespace with what a simulation needs beyond the standard.

    `normals(seeds, stream, dtype)` returns a source of standard normals, source(shape) -> (len(seeds), *shape);
    `to_host` makes a NumPy array; `elementwise` adapts a function made of NumPy ufuncs to the arrays of `xp`.  `device`
    says where arrays live, and `synchronize` waits for it; `memory` says how many bytes a run may use of it, if it is
    not told.  `kernels` compiles C++ for a card.  `beside` is called by a thread whose kernels shall run
    beside those of other threads.
    """

    name: str
    xp: Any
    normals: Callable[[Sequence[int], int, str], Normals]
    to_host: Callable[[Array], np.ndarray]
    elementwise: Callable[[Callable[..., Array]], Callable[..., Array]] = _unchanged
    device: str = "the host"
    synchronize: Callable[[], None] = _nothing
    memory: Callable[[], int] = _host_memory
    kernels: Callable[[str], Launch] = _no_kernels
    beside: Callable[[], None] = _nothing

    @property
    def compiles(self) -> bool:
        """Whether it runs kernels: where it does not, engines use its array operations."""
        return self.kernels is not _no_kernels


def generators(seeds: Sequence[int], stream: int) -> list[np.random.Generator]:
    """One independent generator per seed; `stream` numbers the uses a seed is put to (data, labels, test)."""
    return [np.random.Generator(np.random.SFC64(np.random.SeedSequence(s, spawn_key=(stream,)))) for s in seeds]


def generator_words(sources: Sequence[np.random.Generator]) -> Words:
    """The states of generators made by `generators`, (n, 6)."""
    words = np.empty((len(sources), 6), dtype=np.uint64)
    for source, row in zip(sources, words, strict=True):
        state: Any = source.bit_generator.state
        row[:4], row[4], row[5] = state["state"]["state"], state["has_uint32"], state["uinteger"]
    return words


def restore_generators(sources: Sequence[np.random.Generator], words: Words) -> None:
    """Set the states of generators.  ValueError: `words` are not those of so many of them."""
    if words.shape != (len(sources), 6):
        raise ValueError(f"words must be those of {len(sources)} generators of NumPy, got shape {words.shape}")
    for source, row in zip(sources, words, strict=True):
        source.bit_generator.state = {
            "bit_generator": "SFC64",
            "state": {"state": np.array(row[:4], dtype=np.uint64)},
            "has_uint32": int(row[4]),
            "uinteger": int(row[5]),
        }


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

    def state(self) -> Words:
        """The state of every generator."""
        return generator_words(self.sources)

    def restore(self, words: Words) -> None:
        """Go on from there."""
        restore_generators(self.sources, words)


def host_normals(seeds: Sequence[int], stream: int, dtype: str) -> HostNormals:
    """The normals of each seed for the use number `stream`."""
    return HostNormals(generators(seeds, stream), dtype)


def _numpy() -> Backend:
    import array_api_compat.numpy as xp

    return Backend("numpy", xp, host_normals, np.asarray, device=f"{platform.machine()}, {os.cpu_count()} cores")


@dataclass
class _NumberedCalls:
    """Normals that depend on the number of the call, which is all of the state."""

    draw: Callable[[int, tuple[int, ...]], Array]
    call: int = 0

    def __call__(self, shape: tuple[int, ...]) -> Array:
        self.call += 1
        return self.draw(self.call, shape)

    def state(self) -> Words:
        return np.array([self.call], dtype=np.uint64)

    def restore(self, words: Words) -> None:
        if words.shape != (1,):
            raise ValueError(f"words must be those of a source on a card, got shape {words.shape}")
        self.call = int(words[0])


def _cupy() -> Backend:
    """CuPy; RuntimeError (ImportError where it is not installed) if no GPU answers.

    One generator draws for all seeds together, on the device: replicas are independent of each other, but what a seed
    gets depends on the seeds beside it and on the block size.  Each call of a source has a generator of its own, named
    by its number, so that a source can be gone on with anywhere.
    """
    os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "32")  # queues of work: streams that share one wait for others
    import array_api_compat.cupy as xp
    import cupy

    if (count := _devices(cupy)) == 0:
        raise RuntimeError(f"CuPy {cupy.__version__} is installed, but found {count} GPUs")

    def normals(seeds: Sequence[int], stream: int, dtype: str) -> Normals:
        @cache
        def key() -> list[int]:
            return np.random.SeedSequence(list(seeds), spawn_key=(stream,)).generate_state(4).tolist()

        def draw(call: int, shape: tuple[int, ...]) -> Array:
            bits = cupy.random.Philox4x3210(np.random.SeedSequence(key(), spawn_key=(call,)))
            return cupy.random.Generator(bits).standard_normal((len(seeds), *shape), dtype=dtype)

        return _NumberedCalls(draw)

    def kernels(source: str) -> Launch:
        module = cupy.RawModule(code=source, options=("--std=c++17",))

        def launch(name: str, count: int, *arguments: Any, lanes: int = 1) -> None:
            try:
                kernel = module.get_function(name)
            except cupy.cuda.compiler.CompileException as error:
                raise CardError(
                    f"the card's compiler refuses the kernel {name!r} of this activation or loss ({error}); "
                    "choose backend='numpy'"
                ) from error
            kernel((-(-count * lanes // _THREADS),), (_THREADS,), (np.int64(count), *arguments))

        return launch

    def to_host(array: Array) -> np.ndarray:
        cupy.cuda.get_current_stream().synchronize()  # a copy that waits for its stream keeps others from being served
        return np.asarray(cupy.asnumpy(array))

    own = threading.local()

    def beside() -> None:
        own.stream = cupy.cuda.Stream(non_blocking=True)
        own.stream.use()

    device = cupy.cuda.Device()
    name = cupy.cuda.runtime.getDeviceProperties(device.id)["name"].decode()
    return Backend(
        "cupy",
        xp,
        normals,
        to_host,
        device=name,
        synchronize=device.synchronize,
        memory=lambda: (int(cupy.cuda.runtime.memGetInfo()[0]) + cupy.get_default_memory_pool().free_bytes()) // 2,
        kernels=kernels,
        beside=beside,
    )


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
