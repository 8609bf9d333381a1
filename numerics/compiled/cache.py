"""Code that is made once and kept on disk: derived modules and machine code, in the user's cache or without one.

A file of the cache is executed, so two things are checked each time one is read.

* Owner: folder and file must belong to the user and be writable by nobody else; another folder is not used.
* Digest: the first line holds the SHA-256 digest of name and content; a file that does not match is replaced.  This
  finds damage.  It does not stop an attacker who can write as the user.

Where the user's cache cannot be used, this process keeps its code in a private temporary folder, and without one in
memory.  Text is executed in memory, from the bytes that were checked.
"""

from __future__ import annotations

import hashlib
import importlib.util
import linecache
import logging
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from multiprocessing.util import Finalize
from pathlib import Path
from threading import Lock, RLock
from types import ModuleType

from quenched.numerics.compiled.derivation import derived_text

__all__ = [
    "KINDS",
    "cache_folder",
    "clear",
    "contents",
    "derived_module",
    "fault",
    "module",
    "place",
    "read",
    "source_of",
    "write",
]

KINDS = {"derived": (".py", ".lock"), "machine": (".code",)}
"""The folders of a cache, and how the names of their files end."""

_log = logging.getLogger(__name__)
_loading = RLock()  # of `module`: a module that is being executed has not all of its names
_locks: dict[str, Lock] = {}
_modules: dict[str, ModuleType] = {}
_kept: dict[str, bytes] = {}  # derived text that could not be written


# --- places
# -------------------------------------------------------------------------------------------------------------------


def cache_folder() -> Path:
    """Where the user wants it: $QUENCHED_CACHE, or the user's cache directory.

    ValueError: QUENCHED_CACHE starts with ~ and there is no home.
    """
    from platformdirs import user_cache_dir

    wanted = os.environ.get("QUENCHED_CACHE") or user_cache_dir("quenched")
    try:
        return Path(wanted).expanduser().absolute()
    except RuntimeError as error:
        raise ValueError(f"QUENCHED_CACHE must be a folder, got {wanted!r}: {error}") from error


def fault(folder: Path) -> str | None:
    """Why a folder is not used as a cache, None if it is; one that is not there is made."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        return f"it cannot be made ({error.strerror})"
    return _distrust(status)


def _distrust(status: os.stat_result) -> str | None:
    """Why what a file or folder holds is not taken for the user's own."""
    if hasattr(os, "getuid") and status.st_uid != os.getuid():
        return f"it belongs to another user (number {status.st_uid})"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"others may write to it (mode {stat.filemode(status.st_mode)}); chmod go-w would mend that"
    return None


def place(kind: str) -> Path | None:
    """The folder for files of a kind (`KINDS`): in the user's cache, else in a temporary one, else None."""
    root = cache_folder()
    reason = fault(root) or _part(root / kind)
    if reason is None:
        return root / kind
    _say(f"the cache {root} is not used: {reason}; what is derived and compiled is lost when the process ends")
    temporary = _temporary()
    return temporary / kind if temporary is not None and _part(temporary / kind) is None else None


def _part(folder: Path) -> str | None:
    """`fault` of a folder inside a cache, which may not be a link to elsewhere."""
    return f"{folder.name} in it is a link" if folder.is_symlink() else fault(folder)


@lru_cache(maxsize=64)
def _say(message: str) -> None:
    """Warn once."""
    _log.warning("%s", message)


@lru_cache(maxsize=1)
def _temporary() -> Path | None:
    """A folder of this process and of those forked from it, removed at its end."""
    try:
        folder = Path(tempfile.mkdtemp(prefix="quenched-"))
    except OSError as error:
        _say(f"no temporary folder can be made ({error}); what is derived and compiled stays in memory")
        return None
    Finalize(None, shutil.rmtree, args=(folder, True), exitpriority=0)
    return folder


# --- files
# -------------------------------------------------------------------------------------------------------------------


def _seal(name: str, content: bytes) -> bytes:
    return b"# sha256 " + hashlib.sha256(name.encode() + b"\0" + content).hexdigest().encode() + b"\n"


def read(path: Path) -> bytes | None:
    """The content of a file of the cache; None where there is none, it is damaged, or is not the user's own."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        return None
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or _distrust(status) is not None:
            return None
        seal, content = file.readline(), file.read()
    return content if seal == _seal(path.name, content) else None


def write(path: Path, content: bytes) -> bool:
    """Put a file into the cache, by renaming a finished one over what is there; False where it cannot be written."""
    draft = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".draft-", delete=False) as file:
            draft = Path(file.name)
            file.write(_seal(path.name, content) + content)
        draft.replace(path)
    except OSError as error:
        _say(f"the cache {path.parent.parent} cannot be written ({error.strerror})")
        if draft is not None:
            draft.unlink(missing_ok=True)
        return False
    return True


@contextmanager
def _alone(folder: Path | None, name: str) -> Iterator[None]:
    """One thread of one process at a time, for each name; one of each process where files cannot be locked."""
    from filelock import FileLock

    with ExitStack() as held:
        held.enter_context(_locks.setdefault(name, Lock()))
        if folder is not None:
            try:
                held.enter_context(FileLock(folder / f"{name}.lock", mode=0o600))
            except (OSError, NotImplementedError) as error:
                _log.info("%s cannot be locked (%s): other processes may derive the same", folder, error)
        yield


def contents() -> list[Path]:
    """The files of the user's cache."""
    root = cache_folder()
    found = []
    for kind, endings in KINDS.items():
        folder = root / kind
        if folder.is_dir() and not folder.is_symlink():
            found += sorted(p for p in folder.iterdir() if p.name.endswith((*endings,)) or p.name[:7] == ".draft-")
    return found


def clear() -> tuple[int, int]:
    """Remove the files of the user's cache, and nothing else in its folder: their number and size in bytes.

    ValueError: the folder is not the user's own, so that its names may lead elsewhere.
    """
    root = cache_folder()
    if not root.exists():
        return 0, 0
    if reason := fault(root):
        raise ValueError(f"the cache {root} is not cleared: {reason}; remove it by hand")
    number = size = 0
    for path in contents():
        size += path.lstat().st_size
        path.unlink(missing_ok=True)
        number += 1
    for kind in KINDS:
        folder = root / kind
        if folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir()):
            folder.rmdir()
    return number, size


# --- modules
# -------------------------------------------------------------------------------------------------------------------


def module(text: str, kind: str) -> ModuleType:
    """The module that a generated text makes, the same for the same text; threads wait until it is complete."""
    name = f"quenched_{kind}_{hashlib.sha256(text.encode()).hexdigest()[:20]}"
    with _loading:
        if name not in _modules:
            file, made = f"<{name}>", ModuleType(name)
            linecache.cache[file] = (len(text), None, text.splitlines(True), file)  # `inspect.getsource` reads it there
            sys.modules[name] = made  # where numba finds the globals of a function that it has loaded
            try:
                exec(compile(text, file, "exec", dont_inherit=True), made.__dict__)
            except BaseException:
                del sys.modules[name]
                raise
            _modules[name] = made
        return _modules[name]


@lru_cache(maxsize=256)
def source_of(name: str) -> bytes:
    """The text that a module was made from: a generated one's, or that of its file; empty if neither is known."""
    found = sys.modules[name]
    file = getattr(found, "__file__", None)
    return Path(file).read_bytes() if file else "".join(linecache.getlines(f"<{name}>")).encode()


def derived_module(kind: str, *arguments: str) -> ModuleType:
    """What `python -m quenched.symbolic ARGUMENTS` prints, run in a process of its own, cached.

    The cache knows the arguments and the text of the derivation, so that a change of either derives anew.  Of threads
    and processes that need the same, one derives and the others wait.
    """
    digest = hashlib.sha256("\0".join(arguments).encode())
    spec = importlib.util.find_spec("quenched.symbolic")
    if spec is None or spec.submodule_search_locations is None:
        raise RuntimeError(f"{arguments[0]!r} has to be derived, and quenched.symbolic is not installed")
    for sources in spec.submodule_search_locations:
        for source in sorted(Path(sources).rglob("*.py")):
            digest.update(source.read_bytes())
    name, folder = f"{kind}_{digest.hexdigest()[:20]}.py", place("derived")

    def known() -> bytes | None:
        return _kept.get(name) or (None if folder is None else read(folder / name))

    content = known()
    if content is None:
        with _alone(folder, name):
            content = known()
            if content is None:
                content = derived_text(kind, arguments).encode()
                if folder is None or not write(folder / name, content):
                    _kept[name] = content
    return module(content.decode(), kind)
