"""Two-layer networks as a learner: the best of several initial states after a time of learning.

What a network reaches depends on where it starts: with few neurons, many initial states lead to a poor fixed point.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quenched.numerics.problem.checks import integer, number
from quenched.numerics.problem.learner import Learner, Options, Solution, option
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.provenance import provenance
from quenched.numerics.problem.rules import LearningRule, OnlineSGD
from quenched.numerics.two_layer.flow import integrate, random_state

__all__ = ["LEARNERS", "TwoLayerOptions", "two_layer_error"]


@dataclass(frozen=True)
class TwoLayerOptions(Options):
    """`network` trained by `rule` up to time `t`, from `random_state(.., D, seed)` of `starts` seeds from `initial` on.

    D: None stands for 1000, or for the number of eigenvalues of the inputs.
    """

    network: TwoLayer = option(TwoLayer(4, "relu"), "The network.")
    rule: LearningRule = option(OnlineSGD(0.1), "The learning rule.")
    t: float = option(800.0, "End of learning, in units of D steps of SGD.")
    D: int | None = option(None, "Dimension of the initial states (default: 1000, or that of the spectrum).")
    initial: int = option(0, "Seed of the first initial state.")
    starts: int = option(8, "Number of initial states, of which the best counts.")
    readout_scale: float = option(4.0, "Initial v_k ~ N(0, scale^2/K).")
    rtol: float = option(1e-8, "Relative tolerance of the integration.")

    def __post_init__(self) -> None:
        self._set(
            t=number("t", self.t),
            D=None if self.D is None else integer("D", self.D, at_least=1),
            initial=integer("initial", self.initial),
            starts=integer("starts", self.starts, at_least=1),
            readout_scale=number("readout_scale", self.readout_scale),
            rtol=number("rtol", self.rtol, positive=True),
        )

    @property
    def caption(self) -> str:
        """Width, activation and number of starts."""
        return f"K = {self.network.K} {self.network.activation}, best of {self.starts} starts"


def two_layer_error(mixture: Mixture, options: TwoLayerOptions) -> Solution:
    """The least classification error at time t over the initial states, D -> infinity.

    Parts: final_error and final_pmse (initial), those of each initial state.
    """
    import xarray as xr

    network, rule = options.network, options.rule
    D = options.D or mixture.default_dimension
    seeds = [options.initial + i for i in range(options.starts)]
    ends = []
    for seed in seeds:
        start = random_state(mixture, network, D, seed, readout_scale=options.readout_scale)
        end = integrate(mixture, network, rule, start, [options.t], rtol=options.rtol).isel(time=-1)
        ends.append([float(end[name]) for name in ("classification_error", "classification_error_error", "pmse")])
    final = np.array(ends)
    best = int(final[:, 0].argmin())
    return Solution(
        value=float(final[best, 0]),
        error=float(final[best, 1]),
        method=f"order-parameter equations to t = {options.t:g}, from seed {seeds[best]}",
        provenance=provenance(mixture=mixture, options=options),
        parts={
            name: xr.DataArray(final[:, i], coords={"initial": seeds}, dims="initial")
            for name, i in (("final_error", 0), ("final_pmse", 2))
        },
    )


LEARNERS = (
    Learner(
        "two-layer",
        two_layer_error,
        TwoLayerOptions(),
        "A two-layer network trained by online SGD, the best of several initial states.",
    ),
)
