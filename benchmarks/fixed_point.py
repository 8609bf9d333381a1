"""Time of fixed points, of solution curves and of the exact Jacobian, on one core.

python benchmarks/fixed_point.py
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from quenched.numerics import (
    GradientFlow,
    Mixture,
    OnlineSGD,
    OrderParameters,
    TwoLayer,
    curve,
    fixed_point,
    fixed_points,
)
from quenched.numerics.two_layer.stationary import StationaryEquations


def timed(call: Callable[[], object], repeats: int = 1) -> float:
    """Seconds of CPU time, the best of `repeats` after one call that compiles."""
    call()
    best = np.inf
    for _ in range(repeats):
        start = time.process_time()
        call()
        best = min(best, time.process_time() - start)
    return best


def main() -> None:
    """Print one line per task."""
    mixture, network = Mixture.xor(0.4), TwoLayer(4, "relu")
    for rule in (OnlineSGD(lr=0.2, weight_decay=0.01), GradientFlow(weight_decay=0.01)):
        name = type(rule).__name__
        print(f"{name}, XOR, relu, K = 4")
        found = fixed_point(mixture, network, rule, seed=1)
        again = timed(lambda rule=rule, found=found: fixed_point(mixture, network, rule, found.state), 5)
        print(f"  fixed point from a guess, with errors     {again:8.3f} s   (residual {found.residual:.1e})")
        flow = timed(lambda rule=rule: fixed_point(mixture, network, rule, seed=1))
        print(f"  from a random state                       {flow:8.3f} s")
        line = np.linspace(0.4, 1.0, 50)
        last = curve(mixture, network, rule, "sigma", line, found.state)
        took = timed(
            lambda rule=rule, found=found, line=line: curve(mixture, network, rule, "sigma", line, found.state)
        )
        worst = float(last.classification_error_error.max())
        print(f"  50 points in sigma = 0.4 .. 1             {took:8.3f} s   (errors below {worst:.1e})")
        many = timed(lambda rule=rule: fixed_points(mixture, network, rule, range(8)))
        print(f"  from a random state, mean of 8            {many / 8:8.3f} s")
        for K in (4, 8, 12):
            system = StationaryEquations(mixture, TwoLayer(K, "relu"), rule)
            rng = np.random.default_rng(0)
            A = rng.standard_normal((2, K))

            system.start(OrderParameters(mixture.means @ A, A.T @ A + np.eye(K), rng.standard_normal(K)))
            rates, J, differences = (
                timed(lambda f=f, x=system.x0: f(x), 3) for f in (system.rates, system.jacobian, system.differences)
            )
            print(
                f"  K = {K:2d}: {len(system.x0):3d} unknowns, drift {1e3 * rates:7.2f} ms, "
                f"Jacobian {J / rates:5.1f} drifts (differences: {differences / rates:5.1f})"
            )


if __name__ == "__main__":
    main()
