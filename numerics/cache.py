"""Code that is made once and kept on disk: derived modules and compiled text, in the user's cache."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType

__all__ = ["cache_folder", "derived_module", "module"]


def cache_folder() -> Path:
    """Where compiled and derived code is kept: $QUENCHED_CACHE, or the user's cache directory."""
    from platformdirs import user_cache_dir

    return Path(os.environ.get("QUENCHED_CACHE") or user_cache_dir("quenched"))


def derived_module(kind: str, *arguments: str) -> ModuleType:
    """What `python -m quenched.symbolic ARGUMENTS` prints, run in a process of its own, cached.

    The cache knows the arguments and the text of the derivation, so that a change of either derives anew.
    """
    digest = hashlib.sha256("\0".join(arguments).encode())
    spec = importlib.util.find_spec("quenched.symbolic")
    if spec is None or spec.submodule_search_locations is None:
        raise RuntimeError(f"{arguments[0]!r} has to be derived, and quenched.symbolic is not installed")
    for folder in spec.submodule_search_locations:
        for source in sorted(Path(folder).rglob("*.py")):
            digest.update(source.read_bytes())
    path = cache_folder() / "derived" / f"{kind}_{digest.hexdigest()[:20]}.py"
    text = None
    if not path.exists():
        command = [sys.executable, "-m", "quenched.symbolic", *arguments]
        process = subprocess.run(command, capture_output=True, text=True, check=False)
        if process.returncode == 2:
            raise ValueError(process.stderr.strip())
        if process.returncode:
            raise RuntimeError(
                f"the derivation of {kind} {arguments[0]!r} failed; it needs the extra quenched[derive]. "
                f"It said:\n{process.stderr}"
            )
        text = process.stdout
    return _load(text, path)


def module(text: str, kind: str) -> ModuleType:
    """The module that a generated text makes, compiled once: the cache knows the text and what it is compiled with."""
    import numba

    from quenched.numerics.calculus import double_double, orthant

    origin = text + inspect.getsource(orthant) + inspect.getsource(double_double) + numba.__version__ + sys.version
    digest = hashlib.sha256(origin.encode()).hexdigest()[:20]
    return _load(text, cache_folder() / "compiled" / f"{kind}_{digest}.py")


def _load(text: str | None, path: Path) -> ModuleType:
    """Import generated text from a file of the cache, which is written (atomically: others may race) if not there."""
    if text is not None and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".tmp", delete=False, encoding="utf-8") as draft:
            draft.write(text)
        Path(draft.name).replace(path)
    name = f"quenched_cache_{path.stem}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise RuntimeError(f"{path} cannot be imported")
        made = importlib.util.module_from_spec(spec)
        sys.modules[name] = made  # numba finds the functions of a cached file through sys.modules
        spec.loader.exec_module(made)
    return sys.modules[name]
