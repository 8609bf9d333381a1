"""Kernel matrices and lazy networks: against theory within standard errors, against each other, in the array API."""

import json
from typing import Any

import array_api_strict
import numpy as np
import pytest
import xarray as xr
from scipy.special import ndtr

from quenched.numerics import Mixture, TwoLayer, kernel_error
from quenched.numerics.lazy.kernels import kernel_functions
from quenched.sim.backend import Backend, get_backend, host_normals
from quenched.sim.engines.base import CLUSTER, DATA, TEST
from quenched.sim.kernel_ridge import _Lazy, _Problem, simulate_kernel, simulate_lazy

XOR = Mixture.xor(1.0, 1.5, 0.25)
PARITY = Mixture.parity(0.7, (1.0, 1.5), (0.5, 0.0))
UNEQUAL = Mixture([[1.2, 0.0], [-0.4, 1.0], [0.0, -1.1]], [1, -1, 1], [0.5, 0.3, 0.2], [0.9, 0.7, 1.1], 0.25)
CELLS = [
    (Mixture.two_clusters(0.8), "rbf", 0.5, 0.0),
    (XOR, "arccos1", 1.0, 0.1),
    (XOR, "exponential", 0.5, 0.0),
    (PARITY, "ntk:relu", 1.0, 0.05),
    (Mixture.three_clusters(1.0, 1.4, 0.25), "laplace", 1.0, 0.01),
    (UNEQUAL, "polynomial:3", 1.0, 0.1),
]


def strict_normals(seeds: Any, stream: int, dtype: str) -> Any:
    source = host_normals(seeds, stream, dtype)
    return lambda shape: array_api_strict.asarray(source(shape))


STRICT = Backend(
    "strict",
    array_api_strict,
    strict_normals,
    np.asarray,
    lambda f: lambda *x: array_api_strict.asarray(f(*(np.asarray(part) for part in x))),
)


def test_matrices_agree_with_the_equivalent() -> None:
    """Mean over 10 training sets at D = 400, for six cells, both errors.

    The bias at finite D is O(1/D), 4/D of the pmse at most as seen at D = 200: 1 %, which is allowed for.  Student's t
    of 9 degrees of freedom exceeds 4.3 with probability 0.002, 12 of them with 0.024 at most; the seeds are fixed.  The
    limit is off by O(D^-1/2) at the crossover, which is more than that.
    """
    D, seeds = 400, 10
    for mixture, kernel, alpha, ridge in CELLS:
        n = round(alpha * D)
        runs = simulate_kernel(mixture, kernel, D, n, range(seeds), ridge, test_samples=1200, backend="numpy")
        theory = kernel_error(mixture, kernel, alpha, ridge, D=D)
        for name in ("pmse", "classification_error"):
            values, exact = runs[name].values, getattr(theory, name)
            allowed = 4.3 * values.std(ddof=1) / np.sqrt(seeds) + 0.01 * exact
            assert abs(values.mean() - exact) < allowed, (kernel, name)
            if name == "pmse" and mixture is XOR:
                assert abs(values.mean() - kernel_error(mixture, kernel, alpha, ridge).pmse) > allowed


def test_matrices_agree_with_quadratic_sampling() -> None:
    """n = D^2/2 on XOR at D = 30, mean over 10 training sets; the bias is O(1/D) with a coefficient of 1 as seen.

    The limit of large D is off by more than that, in the classification error by a third.
    """
    D, seeds, mixture = 30, 10, Mixture.xor(0.5)
    runs = simulate_kernel(mixture, "exponential", D, D**2 // 2, range(seeds), 0.5, backend="numpy")
    theory = kernel_error(mixture, "exponential", 1.0, 0.5, samples="quadratic", D=D)
    limit = kernel_error(mixture, "exponential", 1.0, 0.5, samples="quadratic")
    for name in ("pmse", "classification_error"):
        values, exact = runs[name].values, getattr(theory, name)
        allowed = 4.3 * values.std(ddof=1) / np.sqrt(seeds) + exact / D
        assert abs(values.mean() - exact) < allowed
    assert values.mean() - limit.classification_error > 2 * allowed


def test_few_samples_by_hand() -> None:
    """Three samples in four dimensions: the same numbers from a loop over pairs, up to rounding of the solution."""
    problem = _Problem(UNEQUAL, 4, get_backend("numpy"), "float64")
    cluster = problem.clusters(3, 3)
    X = problem.inputs(problem.backend.normals([3], DATA, "float64"), cluster)
    K = np.array([[kernel_functions("arccos1").value(x @ x / 4, z @ z / 4, x @ z / 4) for z in X] for x in X])
    np.fill_diagonal(K, (X * X).sum(axis=1) / 4)
    c = np.linalg.solve(K + 0.3 * np.eye(3), UNEQUAL.labels[cluster])
    draws = problem.backend.normals([3], TEST, "float64")
    runs = simulate_kernel(UNEQUAL, "arccos1", 4, 3, [3], 0.3, test_samples=6, backend="numpy")
    for a in range(3):
        Z = problem.inputs(draws, np.full(2, a))
        f = [sum(c[i] * kernel_functions("arccos1").value(x @ x / 4, z @ z / 4, x @ z / 4) for i, x in enumerate(X))
             for z in Z]  # fmt: skip
        assert runs["mean"].values[0, a] == pytest.approx(np.mean(f), abs=1e-12)
        assert runs["variance"].values[0, a] == pytest.approx(np.var(f, ddof=1), abs=1e-12)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_programs_are_written_in_the_array_api_standard(dtype: str) -> None:
    """array-api-strict gives NumPy's results up to rounding: eps times the condition 1e2 of the matrices, and for the
    network times some hundred steps.
    """
    network, tolerance = TwoLayer(20, "relu", 50.0), 1e-10 if dtype == "float64" else 1e-2
    options: dict[str, Any] = {"test_samples": 30, "dtype": dtype}
    for simulate in (
        lambda b: simulate_kernel(UNEQUAL, "ntk:relu", 8, 12, [1, 2], 0.3, backend=b, **options),
        lambda b: simulate_kernel(UNEQUAL, "rbf", 8, 12, 2, 0.3, intercept=True, stratified=True, backend=b, **options),
        lambda b: simulate_lazy(UNEQUAL, network, 8, 12, [1, 2], 0.3, tolerance=1e-5, backend=b, **options),
    ):
        strict, plain = simulate(STRICT), simulate("numpy")
        for name in ("pmse", "mean", "variance"):
            np.testing.assert_allclose(strict[name].values, plain[name].values, rtol=tolerance, atol=tolerance)
        assert json.loads(strict.attrs["simulation"])["backend"] == "strict"


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = simulate_kernel(UNEQUAL, "rbf", 10, 20, [1], 0.1, test_samples=60, backend="numpy")
    monkeypatch.setattr("quenched.sim.kernel_ridge._ROWS", 7)
    parts = simulate_kernel(UNEQUAL, "rbf", 10, 20, [1], 0.1, test_samples=60, backend="numpy")
    xr.testing.assert_allclose(whole, parts, rtol=1e-10)  # matrix products of other shapes round differently


# --- lazy networks


def test_the_tangent_kernel_at_the_start_is_the_ntk() -> None:
    """An average over K/2 neurons: within 5 standard errors of E[g g' + u dg dg'], the spread that of the neurons."""
    K, D = 20_000, 20
    problem = _Problem(XOR, D, get_backend("numpy"), "float64")
    X = problem.inputs(problem.backend.normals([0], DATA, "float64"), problem.clusters(0, 5))
    gram = X @ X.T / D
    N = np.diag(gram)
    for activation in ("relu", "erf", "he2"):
        lazy = _Lazy(problem, TwoLayer(K, activation), X, problem.array(np.ones(5)), 0, 0.0)
        exact = kernel_functions(f"ntk:{activation}").value(N[:, None], N, np.minimum(gram, np.sqrt(np.outer(N, N))))
        h = X @ lazy.start[0][: K // 2].T / np.sqrt(D)
        g, dg = lazy.g(h), lazy.dg(h)
        each = g[:, None] * g[None] + gram[:, :, None] * dg[:, None] * dg[None]
        assert (np.abs(lazy.tangent() - exact) < 5 * each.std(axis=2) / np.sqrt(K / 2)).all()
        assert np.abs(lazy.output(lazy.start, X)).max() < 1e-10  # opposite pairs


def test_a_wide_lazy_network_is_kernel_regression() -> None:
    """The difference to the infinite kernel on the same samples is O(1/K): 2 f(2K) - f(K) has none of it.

    Tested at 5 standard errors over 6 seeds (Student's t of 5 degrees of freedom: probability 0.004), where the smaller
    width is off by more than that.
    """
    D, n, ridge, seeds = 60, 60, 0.1, range(6)
    for mixture in (XOR, PARITY):
        exact = simulate_kernel(mixture, "ntk:relu", D, n, seeds, ridge, test_samples=800, backend="numpy").pmse.values
        narrow, wide = (
            simulate_lazy(mixture, TwoLayer(K, "relu", 100.0), D, n, seeds, ridge, test_samples=800, backend="numpy")
            for K in (100, 200)
        )
        for difference, present in (
            (narrow.pmse.values - exact, True),
            (2 * wide.pmse.values - narrow.pmse.values - exact, False),
        ):
            error = difference.std(ddof=1) / np.sqrt(len(seeds))
            assert bool(abs(difference.mean()) > 5 * error) is present
        assert (wide.gradient < 0.02).all()


# --- errors


def test_an_output_of_zero_is_half_an_error() -> None:
    problem = _Problem(XOR, 10, get_backend("numpy"), "float64")
    assert problem.errors(0, lambda X: np.zeros(len(X)), 5)["classification_error"] == 0.5
    found = problem.errors(0, lambda X: X[:, 0] ** 2 - X[:, 1] ** 2, 5000)
    assert found["classification_error"] > 0.5  # the opposite of the rule


def test_the_clusters_are_drawn_with_their_weights() -> None:
    """Counts within 5 standard deviations of n P_a."""
    problem, n = _Problem(UNEQUAL, 5, get_backend("numpy"), "float64"), 10_000
    counts = np.bincount(problem.clusters(0, n), minlength=3)
    P = UNEQUAL.weights
    assert (np.abs(counts - n * P) < 5 * np.sqrt(n * P * (1 - P))).all()
    assert CLUSTER != DATA


def test_a_linear_rule_has_its_error() -> None:
    """f = x_1 on two clusters: Phi(-1/sigma) within 5 standard errors of a proportion."""
    mixture = Mixture.two_clusters(0.8)
    found = _Problem(mixture, 6, get_backend("numpy"), "float64").errors(1, lambda X: X[:, 0], 20_000)
    p = ndtr(-1 / 0.8)
    assert abs(found["classification_error"] - p) < 5 * np.sqrt(p * (1 - p) / 40_000)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"D": 1}, "D must be an integer >= 2, got 1"),
        ({"samples": 0}, "samples must be an integer >= 1, got 0"),
        ({"seeds": []}, "seeds must be one or more"),
        ({"seeds": [1, 1]}, "seeds must be one or more"),
        ({"ridge": -1.0}, "ridge must be finite and >= 0, got -1.0"),
        ({"dtype": "float16"}, "dtype must be"),
        ({"test_samples": 1}, "test_samples must be an integer >= 2, got 1"),
    ],
)
def test_bad_input_is_named(arguments: dict[str, object], message: str) -> None:
    good: dict[str, Any] = {"mixture": XOR, "D": 10, "samples": 5, "seeds": [0], "ridge": 0.1, "backend": "numpy"}
    with pytest.raises(ValueError, match=message):
        simulate_kernel(kernel="rbf", **(good | arguments))
    with pytest.raises(ValueError, match=message):
        simulate_lazy(network=TwoLayer(4, "relu", 10.0), **(good | arguments))


def test_other_failures_say_what_to_do() -> None:
    with pytest.raises(RuntimeError, match="singular at ridge = 0: raise it"):
        simulate_kernel(Mixture.xor(1.0), "polynomial:1", 2, 30, [0], backend="numpy")
    with pytest.raises(ValueError, match="K must be even, for pairs of opposite neurons, got 3"):
        simulate_lazy(XOR, TwoLayer(3, "relu", 10.0), 10, 5, [0], backend="numpy")
    with pytest.raises(ValueError, match="tolerance must lie between 0 and 1"):
        simulate_lazy(XOR, TwoLayer(4, "relu", 10.0), 10, 5, [0], tolerance=1.5, backend="numpy")
    with pytest.raises(RuntimeError, match="not lazy enough"):
        simulate_lazy(XOR, TwoLayer(4, "he3", 1.0), 10, 30, [0], 0.1, backend="numpy")


@pytest.mark.parametrize("stratified", [False, True])
def test_intercepts_agree_with_the_equivalent(stratified: bool) -> None:
    """Weights 0.2/0.8 at D = 100, 24 training sets with and without intercept, ridges of order 1 and of order n.

    Student's t of 23 degrees of freedom exceeds 3.8 with probability 1e-3; the equivalent is off by O(1/D), of which
    4/D of the pmse is allowed for, as above.
    """
    mixture, D, n, seeds = Mixture([[1.0], [-1.0]], [1, -1], [0.2, 0.8]), 100, 300, 24
    for kernel, ridge in (("rbf", 1.0), ("ntk:erf", 1.0), ("rbf", 100.0)):
        for intercept in (False, True):
            how = {"intercept": intercept, "stratified": stratified}
            runs = simulate_kernel(
                mixture, kernel, D, n, range(seeds), ridge, test_samples=1000, backend="numpy", **how
            )
            theory = kernel_error(mixture, kernel, n / D, ridge, D=D, **how)
            spread = runs.pmse.values.std(ddof=1) / np.sqrt(seeds)
            assert abs(runs.pmse.values.mean() - theory.pmse) < 3.8 * spread + 4 / D * theory.pmse, (kernel, how)
            means = runs["mean"].values
            spreads = means.std(axis=0, ddof=1) / np.sqrt(seeds)
            assert (np.abs(means.mean(axis=0) - theory.mean) < 3.8 * spreads + 4 / D).all(), (kernel, how)


def test_an_intercept_solves_the_bordered_equations() -> None:
    """sum c = 0 and a stratified sample: shifting all labels shifts the outputs."""
    mixture = Mixture([[1.0], [-1.0]], [1, -1], [0.25, 0.75])
    runs = simulate_kernel(mixture, "rbf", 20, 40, 3, 1e9, intercept=True, stratified=True, backend="numpy")
    np.testing.assert_allclose(runs["mean"].values, -0.5, atol=1e-6)  # at an infinite ridge the mean label is left
    runs = simulate_kernel(mixture, "rbf", 20, 40, 3, 1e9, stratified=True, backend="numpy")
    np.testing.assert_allclose(runs["mean"].values, 0.0, atol=1e-6)
