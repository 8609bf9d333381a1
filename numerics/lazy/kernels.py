"""Kernels by name, and their expansions around the lengths and overlaps of inputs from a mixture."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from quenched.numerics.problem.checks import number, shown
from quenched.theory import kernels

__all__ = ["KernelFunctions", "LocalKernel", "kernel_functions", "kernel_names", "local_kernel"]

Array = npt.NDArray[np.float64]


class KernelFunctions(NamedTuple):
    """A kernel: F(N, N', u), and `jet`, which returns (F, F_u, F_uu, F_N', F_uN', F_NN'); ufunc expressions."""

    name: str
    value: Callable[[Any, Any, Any], Any]
    jet: Callable[[Any, Any, Any], tuple[Any, ...]]


def kernel_functions(kernel: str) -> KernelFunctions:
    """The kernel called NAME or NAME:PARAMETER, of N = |x|^2/D, N' = |x'|^2/D and u = x.x'/D.

        arccos0, arccos1      arc-cosine kernels of order 0 and 1
        exponential[:s]       exp(s u), s = 1
        polynomial:d          (1 + u)^d, an integer d >= 1
        rbf[:w], laplace[:w]  exp(-|x - x'|^2/(2 w^2 D)), exp(-|x - x'|/(w sqrt D)), w = 1
        ntk:ACTIVATION        neural tangent kernel of a wide two-layer network, both layers learning

    ValueError: an unknown kernel, an activation without closed form, a bad parameter.

    >>> F = kernel_functions("polynomial:3").value
    >>> float(F(1.0, 1.0, 0.5)), round(float(kernel_functions("arccos1").value(1.0, 1.0, 0.0)) * np.pi, 12)
    (3.375, 1.0)
    """
    table = kernels.KERNELS
    if not isinstance(kernel, str):
        raise ValueError(f"kernel must be a name, got {kernel!r}")
    text = kernel.strip()
    head, _, tail = text.partition(":")
    if text in table and table[text].meaning is None:
        entry, parameter = table[text], math.nan
    elif head in table and (meaning := table[head].meaning) is not None:
        entry = table[head]
        if not tail and entry.default is None:
            raise ValueError(f"kernel {head!r} needs its {meaning}, as in '{head}:3', got {kernel!r}")
        parameter = number(f"kernel {kernel!r}: {meaning}", _decimal(tail) if tail else entry.default, positive=True)
        if head == "polynomial" and not parameter.is_integer():
            raise ValueError(f"kernel {kernel!r}: the degree must be an integer, got {tail}")
    else:
        reason = (
            "; of other activations no NTK is generated: the averages over two fields must close"
            if head == "ntk"
            else ""
        )
        raise ValueError(f"kernel must be one of {kernel_names()}, got {shown(kernel)}{reason}")
    return KernelFunctions(
        text, lambda N, N_, u: entry.value(N, N_, u, parameter), lambda N, N_, u: entry.jet(N, N_, u, parameter)
    )


def kernel_names() -> str:
    """The kernels that there are, a letter for each parameter.

    >>> kernel_names().split(", ")[:3]
    ['arccos0', 'arccos1', 'exponential:s']
    """
    return ", ".join(
        name + (f":{entry.meaning.split()[1]}" if entry.meaning else "") for name, entry in kernels.KERNELS.items()
    )


def _decimal(text: str) -> float | str:
    """The number that a text spells, or the text itself."""
    try:
        return float(text)
    except ValueError:
        return text


class LocalKernel(NamedTuple):
    """A kernel and its derivatives between G places (G, G), and on the diagonal (G,)."""

    F: Array
    Fu: Array
    Fuu: Array
    F1: Array
    F2: Array
    Fu1: Array
    Fu2: Array
    F12: Array
    diagonal: Array


def local_kernel(kernel: KernelFunctions, A: Array, sigmas: Array) -> LocalKernel:
    """Around inputs of means sqrt(D) A (G, p) and noise `sigmas` (G,)."""
    u = A @ A.T
    N = np.diag(u) + sigmas**2
    with np.errstate(all="ignore"):  # looked at just below
        found = [np.broadcast_to(d, u.shape).astype(float) for d in kernel.jet(N[:, None], N[None, :], u)]
        diagonal = np.broadcast_to(kernel.value(N, N, N), N.shape).astype(float)
    F, Fu, Fuu, F2, Fu2, F12 = found
    finite = np.isfinite([*found, np.broadcast_to(diagonal, u.shape)]).all(axis=0)
    if not finite.all():
        a, b = np.argwhere(~finite)[0]
        raise ValueError(
            f"kernel {kernel.name!r} has no finite derivatives at |x|^2/D = {N[a]:g}, |x'|^2/D = {N[b]:g}, "
            f"x.x'/D = {u[a, b]:g}, around which the formula expands it (a kink or an overflow); take a larger sigma, "
            "shorter means or a kernel that is smooth there"
        )
    return LocalKernel(F, Fu, Fuu, F2.T, F2, Fu2.T, Fu2, F12, diagonal)
