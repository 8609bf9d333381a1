"""Learning rules: online SGD and its limit of small learning rates, gradient flow."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np
import numpy.typing as npt

from quenched.numerics.problem.checks import Record, number

__all__ = ["GradientFlow", "OnlineSGD"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class OnlineSGD(Record):
    """One fresh sample (x, y) per step, half squared loss, Delta = phi(x) - y - `label_noise`·N(0, 1):

        w_k <- w_k - eta/sqrt(D) · s v_k Delta g'(lambda_k) x - (eta kappa/D) w_k
        v_k <- v_k - eta_v/D · s Delta g(lambda_k)            - (eta_v kappa_v/D) v_k

    eta = `lr`, kappa = `weight_decay`, eta_v = `second_lr` and kappa_v = `second_weight_decay` (None: as in the first
    layer).  A rate of 0 freezes a layer.  Both updates use the weights before the step.

    >>> OnlineSGD(lr=0.1, weight_decay=0.01).eta_v
    0.1
    >>> OnlineSGD(lr=-1)
    Traceback (most recent call last):
    ...
    ValueError: lr must be finite and >= 0, got -1
    """

    lr: float
    weight_decay: float = 0.0
    second_lr: float | None = None
    second_weight_decay: float | None = None
    label_noise: float = 0.0

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if value is not None or entry.default is not None:
                self._set(**{entry.name: number(entry.name, value)})

    @property
    def diffusion(self) -> bool:
        """Whether the noise of single samples, of second order in eta, drives Q."""
        return True

    @property
    def eta(self) -> float:
        """Learning rate of the first layer."""
        return self.lr

    @property
    def kappa(self) -> float:
        """Weight decay of the first layer."""
        return self.weight_decay

    @property
    def eta_v(self) -> float:
        """Learning rate of the second layer."""
        return self.lr if self.second_lr is None else self.second_lr

    @property
    def kappa_v(self) -> float:
        """Weight decay of the second layer."""
        return self.weight_decay if self.second_weight_decay is None else self.second_weight_decay


@dataclass(frozen=True, eq=False, repr=False)
class GradientFlow(OnlineSGD):
    """The limit eta -> 0 of `OnlineSGD` at fixed eta t: gradient descent on the population risk, without its noise.

        dQ/dt, dM/dt, dv/dt to first order in the rates, as they come; times are in units of D/`lr` steps of SGD

    One unit of time is one unit of eta t if lr = 1, the default; `second_lr` is then the ratio eta_v/eta.  Label noise
    has no effect at first order, and there is no such argument.

    >>> OnlineSGD(lr=0.1).diffusion, GradientFlow().diffusion, GradientFlow(second_lr=0.0).eta_v
    (True, False, 0.0)
    """

    lr: float = 1.0
    label_noise: float = field(default=0.0, init=False)

    @property
    def diffusion(self) -> bool:
        """False: the averages over one and two fields are all that is needed, for any number of neurons."""
        return False
