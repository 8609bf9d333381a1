"""Derive what a user wrote: `python -m quenched.symbolic ACTIVATION` prints the module of an activation's averages.

With `--gradients` after it, the module of their derivatives; with `--teacher ACTIVATION`, that of the averages across
the two, or of their derivatives if `--gradients` follows; with `--loss`, the text is a loss in phi and y instead; with
`--average`, an integrand in up to four fields, whose closed form at a law `--closed-form MEANS COVARIANCE` tells.
What takes long says so on standard error, in lines that start with "progress: ".  It ends when the process that started
it does.

`quenched.numerics` calls this when a user writes an activation that is not built in: numerics itself never loads sympy.
"""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable

from quenched.symbolic.expectation import user_average, user_closed_form
from quenched.symbolic.user import user_activation, user_gradients, user_loss, user_teacher, user_teacher_gradients

__all__ = ["main", "module"]

_INTERVAL = 0.2  # seconds between two looks for the parent


def main() -> int:
    """Print the module; a refusal goes to standard error with exit status 2."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="progress: %(message)s")
    try:
        sys.stdout.write(module(*sys.argv[1:]))
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def module(text: str, option: str = "", *more: str) -> str:
    """What is printed for these arguments.

    ValueError: they are refused.
    """
    builds: dict[str, Callable[..., str]] = {
        "": user_activation,
        "--average": user_average,
        "--closed-form": user_closed_form,
        "--gradients": user_gradients,
        "--loss": user_loss,
        "--teacher": user_teacher_gradients if more[1:] == ("--gradients",) else user_teacher,
    }
    return builds[option](text, *(more[:1] if option == "--teacher" else more))


def _end_with(parent: int) -> None:
    """End this process when it has another parent: the one that asked is gone."""
    while os.getppid() == parent:
        time.sleep(_INTERVAL)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
