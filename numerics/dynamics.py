"""The order-parameter equations of online SGD: time derivatives of M, Q and v.

The right-hand sides are `quenched.theory.two_layer.drift`, derived in symbolic/two_layer.py; this module feeds them
with the averages of the activation and checks what the user passes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from quenched.numerics.averages import tables
from quenched.numerics.records import Mixture, OnlineSGD, OrderParameters, TwoLayer
from quenched.theory import two_layer

__all__ = ["drift", "drift_arrays"]

Array = NDArray[np.float64]


def drift_arrays(
    mixture: Mixture, network: TwoLayer, sgd: OnlineSGD
) -> Callable[[Array, Array, Array], tuple[Array, Array, Array]]:
    """The equations as a function (A, Q, v) -> (dA, dQ, dv)/dt on arrays, without checks: for integrators.

    A (p, K) holds the overlaps of the weights with the orthonormal basis in which the mixture's means are given, so
    that M = means A; Q (K, K); v (K,).  Raises ValueError for a mixture whose means grow with D (scaling other than 0).
    """
    if np.any(mixture.exponents != 0):
        raise ValueError(
            f"scaling: the equations hold for means of order 1, got means growing as D^{mixture.exponents.tolist()}; "
            "use a mixture with scaling=0, or simulate at finite D"
        )
    means, weights, labels = mixture.means, mixture.weights, mixture.labels.astype(np.float64)
    variances = mixture.sigmas**2
    rates = (sgd.eta, sgd.kappa, sgd.eta_v, sgd.kappa_v, network.output_scale, sgd.label_noise)

    def equations(A: Array, Q: Array, v: Array) -> tuple[Array, Array, Array]:
        M = means @ A
        averages = tables(network.activation, M, variances[:, None, None] * Q)
        return two_layer.drift(weights, labels, variances, means, M, A, Q, v, averages, *rates)

    return equations


def drift(mixture: Mixture, network: TwoLayer, sgd: OnlineSGD, state: OrderParameters) -> OrderParameters:
    """Time derivatives of the order parameters under online SGD, D -> infinity, one unit of time being D steps.

        dM_ak/dt = D E[delta w_k].mu_a / D,    dQ_kl/dt = D E[delta (w_k.w_l)] / D,    dv_k/dt = D E[delta v_k]

    to leading order in 1/D.  Source: `quenched.theory.two_layer`, derived in symbolic/two_layer.py from the SGD rule.
    Raises ValueError if state and problem do not fit together.

    >>> mixture, network = Mixture.two_clusters(sigma=1.0), TwoLayer(K=1, activation="linear")
    >>> state = OrderParameters(M=[[0.0], [0.0]], Q=[[1.0]], v=[0.5])
    >>> rate = drift(mixture, network, OnlineSGD(lr=1.0), state)
    >>> rate.Q.tolist(), rate.v.tolist()  # -2 v^2 Q + v^2 (3 v^2 Q + 1) and -v Q
    ([[-0.0625]], [-0.5])
    """
    state.check(mixture)
    if state.v.shape != (network.K,):
        raise ValueError(f"state: has {state.v.shape[0]} neurons, the network K={network.K}")
    equations = drift_arrays(mixture, network, sgd)
    A = np.linalg.lstsq(mixture.means, state.M, rcond=None)[0].astype(np.float64)
    dA, dQ, dv = equations(A, state.Q, state.v)
    return OrderParameters.derivative(np.asarray(mixture.means @ dA), dQ, dv)
