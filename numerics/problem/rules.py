"""Learning rules: online SGD and its limit of small learning rates, gradient flow."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from quenched.numerics.problem.checks import Record, expression_text, integer, number
from quenched.symbolic.language.grammar import CLASS_LOSSES, RULE_LOSS

__all__ = ["GradientFlow", "LearningRule", "OnlineSGD"]

Array = npt.NDArray[np.float64]

_BIASES = ("bias_lr", "bias_decay", "intercept_lr", "intercept_decay")


@dataclass(frozen=True, eq=False, repr=False)
class LearningRule(Record, ABC):
    """A step on fresh samples (x, y) with the loss l(phi, y), F = dl/dphi at the label y + `label_noise`·N(0, 1):

        w_k <- w_k - eta/sqrt(D) · s v_k F g'(lambda_k) x - (eta kappa/D) w_k
        v_k <- v_k - eta_v/D · s F g(lambda_k)            - (eta_v kappa_v/D) v_k

    eta = `lr`, kappa = `weight_decay`, eta_v = `second_lr` and kappa_v = `second_weight_decay` (None: as in the first
    layer).  A rate of 0 freezes a layer.  Both updates use the weights before the step.  `loss` names l ("square",
    (phi - y)^2/2; "logistic", log(1 + exp(-y phi)); "hinge", "exponential", "huber", "correlation", "perceptron",
    "adatron": `quenched.symbolic.language.grammar.LOSSES`) or an expression in phi and y.  Where the mixture has
    classes it is "cross-entropy", of several outputs phi_c with readouts v_ck: v_k F above is then sum_c v_ck F_c, and
    v_ck moves by F_c g(lambda_k).  With `batch` = B > 1 a step
    averages the gradients over B samples; one unit of time is D steps for any B.

    With `bias_lr` = eta_b or `intercept_lr` = eta_c other than 0 the network has a threshold b_k on each preactivation
    and an intercept c on its output, from 0 or from the state's, which learn with these rates and the decays
    kappa_b = `bias_decay`, kappa_c = `intercept_decay`:

        b_k <- b_k - eta_b/D · s v_k F g'(lambda_k) - (eta_b kappa_b/D) b_k,     lambda_k = w_k·x/sqrt(D) + b_k
        c   <- c   - eta_c/D · F                    - (eta_c kappa_c/D) c,       phi = s sum_k v_k g(lambda_k) + c

    This is the base of the rules; one is made as a child of it.

    >>> rule = OnlineSGD(lr=0.5, weight_decay=0.01, second_lr=0.1)
    >>> isinstance(rule, LearningRule), rule.eta, rule.eta_v, rule.kappa_v
    (True, 0.5, 0.1, 0.01)
    """

    lr: float
    weight_decay: float = 0.0
    second_lr: float | None = None
    second_weight_decay: float | None = None
    label_noise: float = 0.0
    loss: str = "square"
    batch: int = 1
    bias_lr: float = 0.0
    bias_decay: float = 0.0
    intercept_lr: float = 0.0
    intercept_decay: float = 0.0

    def __post_init__(self) -> None:
        self._set(loss=expression_text(self.loss, RULE_LOSS), batch=integer("batch", self.batch, at_least=1))
        for name in ("lr", "weight_decay", "label_noise", *_BIASES):
            self._set(**{name: number(name, getattr(self, name))})
        for name in ("label_noise", *_BIASES) if self.loss in CLASS_LOSSES else ():
            if value := getattr(self, name):
                raise ValueError(f"{name} must be 0 for loss={self.loss!r}, got {value}: several outputs have none")
        for name in ("second_lr", "second_weight_decay"):
            if (value := getattr(self, name)) is not None:
                self._set(**{name: number(name, value)})

    def _repr_latex_(self) -> str:
        """The step, and its numbers, for notebooks; `quenched.numerics.equations` shows what follows from it."""

        def step(weight: str, rate: float, size: str, gradient: str, decay: float) -> str:
            kept = rf" - \frac{{{rate * decay:.4g}}}{{D}}\, {weight}" if decay and rate else ""
            return rf"\delta {weight} = " + (rf"-\frac{{{rate:.4g}}}{{{size}}}\, {gradient}{kept}" if rate else "0")

        push, readout = (rf"\frac{{\partial l}}{{\partial {field}}}" for field in (r"\lambda_k", "v_k"))
        slope = r"\frac{\partial l}{\partial \phi}"
        first = step("w_k", self.eta, r"\sqrt{D}", rf"{push}\, x", self.kappa)
        second = step("v_k", self.eta_v, "D", readout, self.kappa_v)
        further = ((r"b_k", self.bias_lr, push, self.bias_decay), ("c", self.intercept_lr, slope, self.intercept_decay))
        steps = [step(name, rate, "D", gradient, decay) for name, rate, gradient, decay in further if rate]
        more = [rf"l = \mathtt{{{self.loss}}}"]
        more += [rf"y \to y + {self.label_noise:.4g}\,\mathcal{{N}}(0, 1)"] if self.label_noise else []
        more += [f"B = {self.batch}"] if self.batch > 1 else []
        more += [] if self.diffusion else [r"\eta \to 0"]
        return "$" + r",\quad ".join([first, second, *steps, *more]) + "$"

    @property
    @abstractmethod
    def diffusion(self) -> bool:
        """Whether the noise of single samples, of second order in eta, drives Q."""

    @property
    def biased(self) -> bool:
        """Whether thresholds or an intercept learn."""
        return self.bias_lr > 0 or self.intercept_lr > 0

    @property
    def biases(self) -> tuple[float, float, float, float]:
        """eta_b, kappa_b, eta_c, kappa_c."""
        return self.bias_lr, self.bias_decay, self.intercept_lr, self.intercept_decay

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
class OnlineSGD(LearningRule):
    """Online stochastic gradient descent: the steps of `LearningRule`, one unit of time being D of them.

    >>> OnlineSGD(lr=0.1, weight_decay=0.01).eta_v
    0.1
    >>> OnlineSGD(lr=0.1, loss="logistic", batch=4).diffusion
    True
    >>> OnlineSGD(lr=-1)
    Traceback (most recent call last):
    ...
    ValueError: lr must be finite and >= 0, got -1
    """

    @property
    def diffusion(self) -> bool:
        """True: the noise of the samples of a step heats Q at second order in the rates."""
        return True


@dataclass(frozen=True, eq=False, repr=False)
class GradientFlow(LearningRule):
    """The limit eta -> 0 of `OnlineSGD` at fixed eta t: gradient descent on the population risk, without its noise.

        dQ/dt, dM/dt, dv/dt to first order in the rates, as they come; times are in units of D/`lr` steps of SGD

    One unit of time is one unit of eta t if lr = 1, the default; `second_lr` is then the ratio eta_v/eta.  The size of
    a batch has no effect at first order, nor has label noise on the square loss; there are no such arguments.

    >>> OnlineSGD(lr=0.1).diffusion, GradientFlow().diffusion, GradientFlow(second_lr=0.0).eta_v
    (True, False, 0.0)
    """

    lr: float = 1.0
    label_noise: float = field(default=0.0, init=False)
    batch: int = field(default=1, init=False)

    @property
    def diffusion(self) -> bool:
        """False: the averages over one and two fields are all that is needed, for any number of neurons."""
        return False
