"""Learning rules: online SGD and its limit of small learning rates, gradient flow."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from quenched.numerics.problem.checks import Record, expression_text, flag, integer, number, shown
from quenched.numerics.problem.schedules import (
    Rate,
    break_times,
    check_until,
    is_constant,
    rate,
    rate_at,
    rate_text,
)
from quenched.symbolic.language.grammar import CLASS_LOSSES, RULE_LOSS

__all__ = ["GradientFlow", "LearningRule", "OnlineSGD", "Rates"]

Array = npt.NDArray[np.float64]

_SCHEDULED = ("lr", "weight_decay", "second_lr", "second_weight_decay", "temperature", "friction")
_ABSENT = ("second_lr", "second_weight_decay", "friction")  # may be None
_BIASES = ("bias_lr", "bias_decay", "intercept_lr", "intercept_decay")
_LAYERS = (("eta", "w"), ("eta_v", "v"))
_SYMBOLS = {
    "lr": "η",
    "weight_decay": "κ",
    "second_lr": "η_v",
    "second_weight_decay": "κ_v",
    "temperature": "T",
    "friction": "ζ",
    "bias_lr": "η_b",
    "bias_decay": "κ_b",
    "intercept_lr": "η_c",
    "intercept_decay": "κ_c",
}
_PART = re.compile(r"[wv]?\d*", re.ASCII)


class Rates(NamedTuple):
    """The rates of a step at a time, or at each of an array of times."""

    eta: Array
    kappa: Array
    eta_v: Array
    kappa_v: Array
    temperature: Array
    friction: Array


@dataclass(frozen=True, eq=False, repr=False)
class LearningRule(Record, ABC):
    """A step on fresh samples (x, y) with the loss l(phi, y), F = dl/dphi at the label y + `label_noise`·N(0, 1):

        w_k <- w_k - eta/sqrt(D) · s v_k F g'(lambda_k) x - (eta kappa/D) w_k + sqrt(2 eta T/D) xi_k
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

    Rates and decays of both layers may change in time: "0.5/(1 + t/10)", or ((0, 0.5), (100, 0.05)), as in
    `quenched.numerics.problem.schedules`; step n has those of t = n/D.  Those of thresholds and intercept are numbers.

    `frozen` names what stays as it is: "w" the first layer, "v" the readout, "w3" the weights of neuron 3, "v3" its
    readout, "3" all of it, with its threshold; there is no decay and no bath either.  `sphere`: after each step w_k is
    scaled back to the length that it had, so that Q_kk stays what it is at the start.

    T = `temperature` is that of a bath, xi_k ~ N(0, 1_D): as eta -> 0 the law of the first layer at fixed readout goes
    to exp(-H/T), H = D E[l] + kappa sum_k |w_k|^2/2.  The readout has no bath: what would go with this law is of order
    1/sqrt(D), and nor have thresholds and intercept.

    zeta = `friction` (None: there are no velocities): momentum beta = 1 - zeta/D.  Each weight, readout, threshold
    and intercept x has a velocity p, at rest unless the state has one, that the step above moves in the place of x:

        p_k <- (1 - zeta/D) p_k + (the step above of w_k),     w_k <- w_k + p_k/D

    which is the heavy ball u <- beta u + step, w <- w + u at the rates lr/D.  To leading order w'' + zeta w' =
    -eta grad E[l]; as zeta grows, it is SGD at the rate lr/zeta.  xi_k has the factor sqrt(2 zeta eta T/D), for
    which the law is as above.  Velocities of what is frozen are 0; weights on a sphere have none.

    This is the base of the rules; one is made as a child of it.

    >>> rule = OnlineSGD(lr=0.5, weight_decay=0.01, second_lr=0.1)
    >>> isinstance(rule, LearningRule), rule.eta, rule.eta_v, rule.kappa_v
    (True, 0.5, 0.1, 0.01)
    """

    lr: Rate
    weight_decay: Rate = 0.0
    second_lr: Rate | None = None
    second_weight_decay: Rate | None = None
    label_noise: float = 0.0
    loss: str = "square"
    batch: int = 1
    bias_lr: float = 0.0
    bias_decay: float = 0.0
    intercept_lr: float = 0.0
    intercept_decay: float = 0.0
    frozen: tuple[str, ...] = ()
    sphere: bool = False
    temperature: Rate = 0.0
    friction: Rate | None = None

    def __post_init__(self) -> None:
        self._set(loss=expression_text(self.loss, RULE_LOSS), batch=integer("batch", self.batch, at_least=1))
        self._set(label_noise=number("label_noise", self.label_noise), sphere=flag("sphere", self.sphere))
        for name in _SCHEDULED:
            if (value := getattr(self, name)) is not None or name not in _ABSENT:
                self._set(**{name: rate(name, value)})
        for name in _BIASES:
            self._set(**{name: number(name, getattr(self, name))})
        for name in ("label_noise", *_BIASES) if self.loss in CLASS_LOSSES else ():
            if value := getattr(self, name):
                raise ValueError(f"{name} must be 0 for loss={self.loss!r}, got {value}: several outputs have none")
        self._set(frozen=_parts(self.frozen))
        if self.sphere and self.momentum:
            text = rate_text(self._friction)
            raise ValueError(f"friction must be None where sphere=True keeps the lengths of weights, got {text}")

    def _repr_latex_(self) -> str:
        """The step, and its numbers, for notebooks; `quenched.numerics.equations` shows what follows from it."""

        def step(weight: str, letters: str, size: str, gradient: str) -> str:
            eta, kappa = (self._written(name) for name in letters.split())
            if not eta:
                return rf"\delta {weight} = 0"
            kept = rf" - \frac{{{_product(eta, kappa)}}}{{D}}\, {weight}" if kappa else ""
            return rf"\delta {weight} = -\frac{{{eta}}}{{{size}}}\, {gradient}{kept}"

        push, readout = (rf"\frac{{\partial l}}{{\partial {field}}}" for field in (r"\lambda_k", "v_k"))
        slope = r"\frac{\partial l}{\partial \phi}"
        first = step("w_k", "eta kappa", r"\sqrt{D}", rf"{push}\, x")
        if T := self._written("temperature"):
            heat = _product("2", _product(self._written("eta"), T))
            heat = _product(self._written("friction") or "0", heat) if self.momentum else heat
            first += rf" + \sqrt{{{heat}/D}}\, \xi_k"
        second = step("v_k", "eta_v kappa_v", "D", readout)
        further = (("b_k", "eta_b kappa_b", push), ("c", "eta_c kappa_c", slope))
        steps = [
            step(name, letters, "D", gradient)
            for name, letters, gradient in further
            if self._written(letters.split()[0])
        ]
        more = [rf"l = \mathtt{{{self.loss}}}"]
        more += [rf"y \to y + {self.label_noise:.4g}\,\mathcal{{N}}(0, 1)"] if self.label_noise else []
        more += [f"B = {self.batch}"] if self.batch > 1 else []
        more += [r"|w_k|\ \text{kept}"] if self.sphere else []
        if self.momentum:
            zeta = self._written("friction")
            kept = rf"(1 - \frac{{{zeta}}}{{D}})\, p" if zeta else "p"
            more += [rf"p \to {kept} + \delta", r"x \to x + \frac{1}{D}\, p"]
        more += [rf"\text{{frozen: {', '.join(self.frozen)}}}"] if self.frozen else []
        more += [] if self.diffusion else [r"\eta \to 0"]
        return "$" + r",\quad ".join([first, second, *steps, *more]) + "$"

    def _written(self, name: str) -> str:
        """A rate as LaTeX, empty where it is 0."""
        value = (self.scheduled | dict(zip(("eta_b", "kappa_b", "eta_c", "kappa_c"), self.biases, strict=True)))[name]
        if isinstance(value, float):
            return f"{value:.4g}" if value else ""
        return rf"\mathtt{{{rate_text(value)}}}".replace("**", r"^\wedge ")

    @property
    def words(self) -> dict[str, str]:
        """What is said of the rule, a few words for each field that has not its default: for captions and tables.

        >>> ", ".join(OnlineSGD("1/(1 + t)", temperature=0.1, frozen=("w0", "v1"), sphere=True).words.values())
        'η = 1/(1 + t), frozen w0 v1, sphere, T = 0.1'
        """
        return {name: _worded(name, value) for name, value in self._shown().items()}

    @property
    @abstractmethod
    def diffusion(self) -> bool:
        """Whether the noise of single samples, of second order in eta, drives Q."""

    # --- rates

    @property
    def scheduled(self) -> dict[str, Rate]:
        """The rates by their letters, those of the second layer filled in, and a friction of 0 where there is none."""
        second = self.lr if self.second_lr is None else self.second_lr
        decay = self.weight_decay if self.second_weight_decay is None else self.second_weight_decay
        letters = "eta", "kappa", "eta_v", "kappa_v", "temperature", "friction"
        values = self.lr, self.weight_decay, second, decay, self.temperature, self._friction
        return dict(zip(letters, values, strict=True))

    @property
    def momentum(self) -> bool:
        """Whether there are velocities.

        >>> OnlineSGD(0.1).momentum, OnlineSGD(0.1, friction=2.0).momentum, OnlineSGD(0.1, friction=0.0).momentum
        (False, True, True)
        """
        return self.friction is not None

    @property
    def _friction(self) -> Rate:
        """The friction, 0 where there are no velocities for it to act on."""
        return 0.0 if self.friction is None else self.friction

    @property
    def steady(self) -> bool:
        """Whether all rates are constant."""
        return all(map(is_constant, self.scheduled.values()))

    def rates(self, t: npt.ArrayLike) -> Rates:
        """The rates at times t, each an array of their shape.

        ValueError: one is negative or not finite there, with the time and the value.

        >>> OnlineSGD("1/(1 + t)", weight_decay=0.5).rates([0.0, 3.0]).eta
        array([1.  , 0.25])
        """
        return Rates(*(rate_at(name, value, t) for name, value in self._named()))

    def check_until(self, end: float) -> None:
        """ValueError where a rate is negative or not finite before the time `end`."""
        for name, value in self._named():
            check_until(name, value, end)

    @property
    def breaks(self) -> tuple[float, ...]:
        """The times at which a rate bends or jumps, those of its tables."""
        return tuple(sorted({t for value in self.scheduled.values() for t in break_times(value)}))

    def _named(self) -> list[tuple[str, Rate]]:
        """The rates by the names of the fields that hold them."""
        names = list(_SCHEDULED)
        for i in (2, 3):
            names[i] = names[i - 2] if getattr(self, names[i]) is None else names[i]
        return list(zip(names, self.scheduled.values(), strict=True))

    def _constant(self, letter: str) -> float:
        value = self.scheduled[letter]
        if not isinstance(value, float):
            raise ValueError(f"rule must have constant rates here, got {rate_text(value)!r}: use rates(t)")
        return value

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
        """Learning rate of the first layer.  ValueError, as for the other rates: it changes in time."""
        return self._constant("eta")

    @property
    def kappa(self) -> float:
        """Weight decay of the first layer."""
        return self._constant("kappa")

    @property
    def eta_v(self) -> float:
        """Learning rate of the second layer."""
        return self._constant("eta_v")

    @property
    def kappa_v(self) -> float:
        """Weight decay of the second layer."""
        return self._constant("kappa_v")

    # --- what moves

    def learning(self, K: int) -> tuple[Array, Array, Array]:
        """Factors on the rates of w_k, of v_k and of b_k, (K,) each: 0 for what is frozen, 1 for the rest.

        ValueError: a neuron is named that the network does not have.

        >>> OnlineSGD(0.1, frozen=("w", "v1", "2")).learning(3)
        (array([0., 0., 0.]), array([1., 0., 0.]), array([1., 1., 0.]))
        """
        factors = {"w": np.ones(K), "v": np.ones(K), "b": np.ones(K)}
        for part in self.frozen:
            digits = part.lstrip("wv")
            if digits and int(digits) >= K:
                raise ValueError(f"frozen must name neurons below K = {K}, got {part!r}")
            for layer in part[: len(part) - len(digits)] or "wvb":
                factors[layer][int(digits) if digits else slice(None)] = 0.0
        return factors["w"], factors["v"], factors["b"]

    @property
    def idle(self) -> bool:
        """Whether nothing moves: the rate of each layer is 0, or the layer is frozen.

        >>> OnlineSGD(0.0).idle, OnlineSGD(0.1, frozen=("w", "v")).idle, OnlineSGD(0.1, frozen="w").idle
        (True, True, False)
        """
        first, second = (self.scheduled[rate] == 0 or layer in self.frozen for rate, layer in _LAYERS)
        return first and second and not self.biased

    def require_plain(self, purpose: str) -> None:
        """ValueError for a rule with schedules, frozen parts, a sphere, a bath or momentum: `purpose` knows none."""
        found = [f"frozen={self.frozen}"] if self.frozen else []
        found += ["sphere=True"] if self.sphere else []
        found += [f"temperature={rate_text(self.temperature)}"] if self.temperature != 0 else []
        found += [f"friction={rate_text(self._friction)}"] if self.momentum else []
        found += [f"the schedule {rate_text(value)!r}" for value in self.scheduled.values() if not is_constant(value)]
        if found:
            raise ValueError(f"rule must have constant rates and free weights for {purpose}, got {found[0]}")


def _worded(name: str, value: Any) -> str:
    """A field and its value, a rate by its symbol, a flag by its name alone."""
    if name in _SYMBOLS:
        return f"{_SYMBOLS[name]} = {rate_text(value)}"
    label = name.replace("_", " ")
    if isinstance(value, bool):
        return label
    if isinstance(value, tuple):
        return f"{label} {' '.join(value)}"
    return f"{label} {value:g}" if isinstance(value, float) else f"{label} {value}"


def _product(one: str, two: str) -> str:
    """Of two numbers their product, else both side by side."""
    try:
        return f"{float(one) * float(two):.4g}"
    except ValueError:
        return rf"{one}\cdot {two}"


def _parts(value: Any) -> tuple[str, ...]:
    """The names of what is frozen, as texts; a number is a neuron."""
    given = (value,) if isinstance(value, (str, int, np.integer)) else value
    if not isinstance(given, (tuple, list)):
        raise ValueError(f"frozen must be names such as 'w', 'v', 'w3', 'v3', '3', got {shown(value)}")
    found = []
    for part in given:
        text = str(part) if isinstance(part, (str, int, np.integer)) and not isinstance(part, bool) else ""
        if not text or not _PART.fullmatch(text):
            raise ValueError(f"frozen must be names such as 'w', 'v', 'w3', 'v3', '3', got {shown(part)}")
        found.append(text)
    return tuple(dict.fromkeys(found))


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

    A bath of `temperature` T adds 2 lr T to dQ_kk/dt, which is of first order: Langevin dynamics on the population
    risk.

    One unit of time is one unit of eta t if lr = 1, the default; `second_lr` is then the ratio eta_v/eta.  The size of
    a batch has no effect at first order, nor has label noise on the square loss; there are no such arguments.

    >>> OnlineSGD(lr=0.1).diffusion, GradientFlow().diffusion, GradientFlow(second_lr=0.0).eta_v
    (True, False, 0.0)
    """

    lr: Rate = 1.0
    label_noise: float = field(default=0.0, init=False)
    batch: int = field(default=1, init=False)

    @property
    def diffusion(self) -> bool:
        """False: the averages over one and two fields are all that is needed, for any number of neurons."""
        return False
