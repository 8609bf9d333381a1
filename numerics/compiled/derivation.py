"""A derivation, run in a process of its own: numerics never loads sympy.

The process prints a module; on standard error it says how long it will take and where it is ("progress: ..."), which is
passed on to the logger of this module while it runs, and why it refuses.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

__all__ = ["NoSympyError", "derived_text"]

_PROGRESS = "progress: "
_logger = logging.getLogger(__name__)


class NoSympyError(RuntimeError):
    """A derivation is needed, and sympy is not there."""


def derived_text(kind: str, arguments: tuple[str, ...]) -> str:
    """What `python -m quenched.symbolic ARGUMENTS` prints; no file of the working directory can stand in for a module.

    ValueError: the reason for which it refuses; RuntimeError: it failed.
    """
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if Path(path).is_absolute())}
    command = [sys.executable, "-P", "-m", "quenched.symbolic", *arguments]
    printed: list[str] = []
    said: list[str] = []
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, encoding="utf-8", env=environment
    ) as process:
        reader = threading.Thread(target=lambda: printed.extend(process.stdout or ()), daemon=True)
        reader.start()  # both pipes are read at once: the process waits where one is full
        try:
            for line in process.stderr or ():
                if line.startswith(_PROGRESS):
                    _logger.warning("%s", line.removeprefix(_PROGRESS).rstrip())
                else:
                    said.append(line)
            status = process.wait()
        finally:
            process.kill()  # nobody waits for it any more; without effect where it has ended
        reader.join()
    text = "".join(printed)
    message = "".join(said).strip()
    if status == 2:
        raise ValueError(message)
    if status and "ModuleNotFoundError: No module named 'sympy'" in message:
        raise NoSympyError(
            f"the derivation of {kind} {arguments[0]!r} needs sympy: install the extra quenched[derive], "
            "or take an activation with generated averages, such as erf or relu"
        )
    if status:
        raise RuntimeError(
            f"the derivation of {kind} {arguments[0]!r} failed; it needs the extra quenched[derive]. "
            f"It said:\n{message}"
        )
    return text
