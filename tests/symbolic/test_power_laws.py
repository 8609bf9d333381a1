"""Power laws of linear students: transforms of small systems, and terms against quadrature of what they stand for."""

import mpmath
import numpy as np
import pytest

from quenched.theory.scaling import power_laws as theory

GAIN, LR, BATCH, SOURCE = 1.3, 0.4, 3.0, 2.5


@pytest.mark.parametrize("zeta", [0.05, 0.7, 0.2 + 0.9j])
def test_the_transform_is_that_of_the_nodes(zeta: complex) -> None:
    """dS/dn = (-2 lr k + (lr^2/B) k k^T) S + (lr^2/B) k rest: L = k·S + rest, by a linear solve at s = 2 lr zeta."""
    rng = np.random.default_rng(1)
    P, D, noise = 4, 7, 0.3
    root = np.arange(1, D + 1.0) ** -0.8
    y = root * np.arange(1, D + 1.0) ** -0.4
    K = rng.standard_normal((P, D)) / np.sqrt(P) * root  # F Lambda^(1/2)
    A = K.T @ K
    seen = np.linalg.solve(A + zeta * np.eye(D), y)
    degrees = np.trace(np.linalg.solve(A + zeta * np.eye(D), A))
    target = zeta * (y @ seen) + noise**2
    found = theory.risk_transform(target, degrees, np.trace(A), zeta, LR, BATCH)  # type: ignore[arg-type]

    scales, directions = np.linalg.svd(K, full_matrices=False)[1:]
    k, along = scales**2, directions @ y
    rest = y @ y - along @ along + noise**2
    s = 2 * LR * zeta
    matrix = np.diag(-2 * LR * k) + LR**2 / BATCH * np.outer(k, k)
    S = np.linalg.solve(s * np.eye(P) - matrix, along**2 / k + LR**2 / BATCH * k * rest / s)
    assert found == pytest.approx(k @ S + rest / s, rel=1e-11)


def integral(f: object, scale: float) -> float:
    """Of a function of j > 0 which changes at `scale`."""
    with mpmath.workdps(20):
        return float(mpmath.quad(f, [0, scale / 10, scale, 10 * scale, 1e3 * scale, mpmath.inf]))


@pytest.mark.parametrize(("a", "b", "x"), [(1.0, 0.25, 50.0), (0.7, 1.2, 3.0), (0.4, 0.3, 20.0)])
def test_target_and_noise_are_integrals_over_the_inputs(a: float, b: float, x: float) -> None:
    scale = x ** (1 / (2 * a))
    target = integral(lambda j: j ** (-2 * a - 2 * b) * mpmath.exp(-x * j ** (-2 * a)) if j else 0, scale)
    assert theory.target_term(a, b, x, GAIN) == pytest.approx(GAIN * target, rel=1e-6)
    kernel = LR**2 / BATCH * integral(lambda j: j ** (-4 * a) * mpmath.exp(-x * j ** (-2 * a)) if j else 0, scale)
    noise = GAIN**2 * kernel * SOURCE / (2 * LR)
    assert theory.noise_term(a, x, LR, BATCH, SOURCE, GAIN) == pytest.approx(noise, rel=1e-6)


@pytest.mark.parametrize(("a", "b", "edge"), [(1.0, 0.25, 0.02), (1.6, 0.1, 1e-3)])
def test_the_floor_is_an_integral_over_the_inputs(a: float, b: float, edge: float) -> None:
    scale = edge ** (-1 / (2 * a))
    number = integral(lambda j: 1 / (1 + edge * j ** (2 * a)), scale)
    assert theory.edge_equation(a, edge) == pytest.approx(number, rel=1e-6)
    # j^-2b is integrable at 0; j = i^2 takes the divergence away
    floor = integral(lambda i: 2 * i * edge * i ** (-4 * b) / (1 + edge * i ** (4 * a)) if i else 0, scale**0.5)
    assert theory.floor_term(a, b, edge, GAIN) == pytest.approx(GAIN * floor, rel=1e-6)


@pytest.mark.parametrize(("a", "zeta"), [(0.8, 0.3), (1.5, 2.0)])
def test_the_embedding_has_the_transform_of_the_shift_of_kappa(a: float, zeta: float) -> None:
    """sum_j beta_j^2 (kappa - zeta)/zeta, kappa - zeta = zeta degrees/P, is its Laplace transform in x at zeta."""
    P = 100.0
    found = integral(
        lambda x: mpmath.exp(-zeta * x) * theory.embedding_term(a, float(x), P, SOURCE, GAIN) if x else 0, 1
    )
    assert found == pytest.approx(GAIN * SOURCE * theory.edge_equation(a, zeta) / P, rel=1e-4)


def test_exponents_are_slopes_of_the_terms() -> None:
    """By central differences of logarithms, which are exact for powers."""
    a, b, rough = 0.8, 0.9, 0.3

    def slope(f: object, at: float) -> float:
        return float(np.log(f(at * 1.1) / f(at / 1.1)) / np.log(1.21))  # type: ignore[operator]

    target, noise, embedding, of_lr, of_P, _, smooth = theory.term_exponents(a, b)
    assert slope(lambda x: theory.target_term(a, b, x, GAIN), 9.0) == pytest.approx(target, rel=1e-12)
    assert slope(lambda x: theory.noise_term(a, x, LR, BATCH, SOURCE, GAIN), 9.0) == pytest.approx(noise, rel=1e-12)
    assert slope(lambda x: theory.embedding_term(a, x, 50.0, SOURCE, GAIN), 9.0) == pytest.approx(embedding, rel=1e-12)
    assert slope(lambda lr: theory.noise_term(a, 9.0, lr, BATCH, SOURCE, GAIN), 0.3) == pytest.approx(of_lr, rel=1e-12)
    assert slope(lambda P: theory.embedding_term(a, 9.0, P, SOURCE, GAIN), 50.0) == pytest.approx(of_P, rel=1e-12)
    per_edge = slope(lambda edge: theory.edge_equation(a, edge), 0.01)
    assert smooth * per_edge == pytest.approx(1, rel=1e-12)
    floor = slope(lambda edge: theory.floor_term(a, rough, edge, GAIN), 0.01)
    assert theory.term_exponents(a, rough)[5] == pytest.approx(floor / per_edge, rel=1e-12)
