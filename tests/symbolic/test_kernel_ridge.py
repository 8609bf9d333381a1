"""Kernels against averages, Taylor entries against derivatives, spikes against matrices."""

from itertools import pairwise

import mpmath
import numpy as np
import pytest
import sympy

from quenched.symbolic.activations import BUILTIN, Activation
from quenched.symbolic.language.notation import derived, specification_symbols
from quenched.symbolic.language.parse import VARIABLE, parse
from quenched.symbolic.learners import kernel_ridge, kernel_taylor
from quenched.symbolic.learners.kernel_ridge import spiked
from quenched.symbolic.learners.kernels import ARGUMENTS, KERNELS, jet, tangent, value

DIGITS = 25
ctx = mpmath.mp.clone()
ctx.dps = DIGITS


def substituted(expression: sympy.Expr, **values: object) -> mpmath.mpf:
    at = {s: sympy.Rational(str(values[s.name])) for s in expression.free_symbols}
    return ctx.mpf(sympy.N(expression.subs(at), DIGITS))


@pytest.mark.parametrize("name", sorted(BUILTIN))
def test_tangent_kernels_are_averages(name: str) -> None:
    """E[g g'] + u E[dg dg'] at N = 1.3, N' = 0.8, u = 0.5, by quadrature in polar coordinates of two unit normals.

    A kink of g at 0 is a ray, where the integral over the angle is cut.  What lies beyond r = 13 is below 1e-33 times a
    polynomial of degree 9; 60 Gauss-Legendre points are exact to rounding for what is left.
    """
    N, M, u = (ctx.mpf(s) for s in ("1.3", "0.8", "0.5"))
    a, b, c = ctx.sqrt(N), u / ctx.sqrt(N), ctx.sqrt(M - u**2 / N)
    g = parse(BUILTIN[name])
    value_, slope = (
        sympy.lambdify(VARIABLE, e, modules=[{"Heaviside": lambda x, h=0.5: h if x == 0 else int(x > 0)}, "mpmath"])
        for e in (g, Activation(name, BUILTIN[name]).derivatives["dg"])
    )

    def integrand(angle: mpmath.mpf, r: mpmath.mpf) -> mpmath.mpf:
        x, y = a * r * ctx.cos(angle), r * (b * ctx.cos(angle) + c * ctx.sin(angle))
        return (value_(x) * value_(y) + u * slope(x) * slope(y)) * r * ctx.exp(-r * r / 2) / (2 * ctx.pi)

    rays = [ctx.pi / 2, 3 * ctx.pi / 2, ctx.atan2(-b, c), ctx.atan2(-b, c) + ctx.pi]
    cuts = sorted({ctx.zero, 2 * ctx.pi, *(ray % (2 * ctx.pi) for ray in rays)})
    with mpmath.workdps(DIGITS):
        nodes = np.polynomial.legendre.leggauss(60)
        radii = [(6.5 * (1 + x), 6.5 * w) for x, w in zip(*nodes, strict=True)]
        total = ctx.zero
        for low, high in pairwise(cuts):
            for x, w in zip(*nodes, strict=True):
                angle = (low + high) / 2 + (high - low) / 2 * ctx.mpf(x)
                total += (high - low) / 2 * w * sum(v * integrand(angle, ctx.mpf(r)) for r, v in radii)
    expression, _ = tangent(name)
    exact = substituted(expression, norm="1.3", other_norm="0.8", inner="0.5")
    assert abs(total / exact - 1) < 1e-12  # double-precision nodes


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_jets_are_derivatives(name: str) -> None:
    """Numerical derivatives of F at 25 digits."""
    expression = value(KERNELS[name]).values[0]
    compiled = sympy.lambdify(ARGUMENTS, expression, modules="mpmath")
    at = ("1.3", "0.8", "0.5", "3")
    found = [
        substituted(e, **dict(zip((s.name for s in ARGUMENTS), at, strict=True))) for e in jet(KERNELS[name]).explicit()
    ]
    with mpmath.workdps(DIGITS + 15):
        point = [mpmath.mpf(x) for x in at]
        orders = [(0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 1, 0), (0, 1, 1), (1, 1, 0)]
        for one, order in zip(found, orders, strict=True):
            exact = (
                mpmath.diff(lambda *x: compiled(*x, point[3]), tuple(point[:3]), order)
                if any(order)
                else compiled(*point)
            )
            assert abs(one - exact) < mpmath.mpf(10) ** -18 * (1 + abs(exact))


def test_taylor_entries_are_derivatives_of_a_kernel() -> None:
    """x/sqrt(D) = A + sigma g/sqrt(D) in two dimensions, in a kernel of all three variables: d/dg_j d/dg'_l F, ..."""
    D, sigma, sigma_ = sympy.Integer(50), sympy.Rational(3, 4), sympy.Rational(1, 2)
    A, B = (
        sympy.Matrix([sympy.Rational(1, 3), sympy.Rational(-1, 5)]),
        sympy.Matrix([sympy.Rational(2, 7), sympy.Rational(1, 2)]),
    )
    g, g_ = sympy.Matrix(sympy.symbols("g1:3")), sympy.Matrix(sympy.symbols("h1:3"))
    xi, xi_ = sympy.symbols("xi xi'")
    N, N_, u = ARGUMENTS[:3]
    F = sympy.exp(-(N + N_ - 2 * u) / 2) * (1 + N * N_ * u)  # depends on all three
    x, x_ = A + sigma * g / sympy.sqrt(D), B + sigma_ * g_ / sympy.sqrt(D)
    path = {
        N: x.dot(x) + sigma**2 * (1 + sympy.sqrt(2 / D) * xi),
        N_: x_.dot(x_) + sigma_**2 * (1 + sympy.sqrt(2 / D) * xi_),
        u: x.dot(x_),
    }
    along = F.subs(path, simultaneous=True)
    origin = dict.fromkeys([*g, *g_, xi, xi_], 0)
    local = {name: F.diff(*order) if order else F for name, order in
             {"F": (), "Fu": (u,), "Fuu": (u, u), "F1": (N,), "F2": (N_,), "Fu1": (u, N), "Fu2": (u, N_),
              "F12": (N, N_)}.items()}  # fmt: skip
    place = {key: expression.subs(origin) for key, expression in path.items()}
    for j in range(2):
        for l in range(2):
            given = {name: sympy.N(e.subs(place), 30) for name, e in local.items()}
            given |= {"own": A[j], "other": B[j], "own_prime": B[l], "other_prime": A[l], "same": int(j == l),
                      "sigma": sigma, "other_sigma": sigma_, "D": D}  # fmt: skip
            symbols = specification_symbols(kernel_taylor.taylor)
            entries = [e.subs({s: given[s.name] for s in symbols}) for e in derived(kernel_taylor.taylor).values]
            entries[0] -= given["Fuu"] * sigma**2 * sigma_**2 / (2 * D)  # the average over the bulk
            orders = [(), (g_[l],), (g[j], g_[l]), (xi_,), (g[j], xi_), (xi, xi_)]
            for entry, order in zip(entries, orders, strict=True):
                exact = (along.diff(*order) if order else along).subs(origin)
                assert abs(sympy.N(entry - exact, 25)) < 1e-20


def test_spiked_is_woodbury() -> None:
    """f = S Z^T (c 1 + Z S Z^T)^-1 y with orthogonal columns Z: the same as beta = (1/weights + S)^-1 Y, in numbers."""
    rng = np.random.default_rng(0)
    Z, _ = np.linalg.qr(rng.standard_normal((7, 3)))
    sizes, r = np.array([2.0, 3.0, 5.0]), 0.7
    Z = Z * np.sqrt(sizes)
    B = rng.standard_normal((3, 3))
    S, labels = B @ B.T, np.array([1.0, -1.0, 1.0])
    c = np.linalg.solve(np.eye(7) / r + Z @ S @ Z.T, Z @ labels)
    found = spiked(sympy.Matrix(S), [sympy.Float(r * n) for n in sizes], sympy.Matrix(labels))
    np.testing.assert_allclose(np.array(found, dtype=float).ravel(), S @ Z.T @ c, rtol=0, atol=1e-12)


def test_divergent_directions_are_a_limit() -> None:
    """S + L v v^T with L = 10^9: up to 1/L."""
    S = sympy.Matrix([[2, 1, 0], [1, 3, 1], [0, 1, 4]])
    weights = [sympy.Rational(1, 2), sympy.Integer(1), sympy.Integer(2)]
    v, Y = sympy.Matrix([1, -1, 2]), sympy.Matrix([1, -1, 0])
    limit = spiked(S, weights, Y, [v])
    large = spiked(S + 10**9 * v * v.T, weights, Y)
    assert max(abs(sympy.N(a - b)) for a, b in zip(limit, large, strict=True)) < 1e-7
    assert spiked(S, weights, Y, [sympy.eye(3).col(i) for i in range(3)]) == Y


def test_the_closed_forms_are_those_of_the_literature() -> None:
    """Targets written another way: theory of the package, appendix A6."""
    m, s, T, V, k = sympy.symbols("m sigma T V kappa", positive=True)

    def at(specification: object, *arguments: sympy.Expr) -> tuple[sympy.Expr, ...]:
        symbols = specification_symbols(specification)
        return tuple(
            v.subs(dict(zip(symbols, arguments, strict=True)), simultaneous=True)
            for v in derived(specification).explicit()
        )

    qq = (T / s**2) * m / (1 + (T / s**2) * (m**2 + s**2))
    mean, variance = at(kernel_ridge.two_clusters, m, s, T, V)
    assert sympy.simplify(mean - m * qq) == 0
    assert sympy.simplify(variance - V * (1 - 2 * qq * m + qq**2 * (m**2 + s**2)) - qq**2 * s**2) == 0

    X = k * m**4 * T / (4 * s**2)
    mean, variance = at(kernel_ridge.xor, m, s, k, T, V)
    assert sympy.simplify(mean - X / (1 + X)) == 0
    assert sympy.simplify(variance - V / (1 + X) ** 2) == 0

    ke, ko, alpha, r = sympy.symbols("k_e k_o alpha r", positive=True)
    x = ko * alpha * r
    theta = x * m / (1 + x * (m**2 + s**2))
    mean, variance = at(kernel_ridge.parity, m, s, ke, ko, alpha, r, V)
    assert sympy.simplify(mean - theta * m) == 0
    E2 = 1 - 2 * theta * m + theta**2 * (m**2 + s**2)
    assert sympy.simplify(variance - E2 * V - theta**2 * s**2) == 0

    zeta = sympy.Symbol("zeta", positive=True)
    _, _, response = at(kernel_ridge.two_channels, ke, ko, alpha, zeta, r)
    spread = zeta + sum(w / (1 + alpha * w * r) ** 2 for w in (ke, ko))
    rho = [w * r / (1 + alpha * w * r) ** 2 / spread for w in (ke, ko)]
    assert sympy.simplify(response - alpha * (ke * rho[0] + ko * rho[1])) == 0

    d, su2, ar = m**2 / 2, s**4 + s**2 * m**2, T / s**4
    theta = ar * d / (1 + ar * (d**2 + su2))
    found, variance = at(kernel_ridge.quadratic_xor, m, s, T, V)
    assert sympy.simplify(found - theta) == 0
    assert sympy.simplify(variance - V * (1 - 2 * theta * d + theta**2 * (d**2 + su2))) == 0


def test_the_resolvent_is_that_of_random_matrices() -> None:
    """Two channels of d = 300 and 200 directions, n = 400: Tr R/n over one draw, which fluctuates by O(1/n)."""
    rng, n, zeta = np.random.default_rng(1), 400, 0.3
    weights, sizes = np.array([1.3, 0.6]), np.array([300, 200])
    K = sum(w / d * (Z @ Z.T) for w, d in zip(weights, sizes, strict=True) for Z in [rng.standard_normal((n, d))])
    r = np.trace(np.linalg.inv(K + zeta * np.eye(n))) / n
    symbols = sympy.symbols("w1 w2", positive=True)
    resolvent = kernel_ridge._resolvent(list(symbols), [sympy.Rational(n, int(d)) for d in sizes], sympy.Float(zeta))
    equation = sympy.lambdify(resolvent.r, resolvent.equation.subs(dict(zip(symbols, weights, strict=True))))
    solution = mpmath.findroot(equation, r)
    assert abs(r / float(solution) - 1) < 10 / n


def test_orders_on_a_sphere_are_legendre_and_chebyshev() -> None:
    """D = 3: Legendre polynomials, 2 l + 1 directions.  D = 2: cos(l theta), two directions each."""
    t = sympy.Symbol("t")
    symbols = specification_symbols(kernel_taylor.harmonics)
    for D, polynomial, directions in ((3, sympy.legendre, (3, 5, 7)), (2, sympy.chebyshevt, (2, 2, 2))):
        found = [v.subs(dict(zip(symbols, (t, D), strict=True))) for v in derived(kernel_taylor.harmonics).values]
        assert all(sympy.expand(P - polynomial(l, t)) == 0 for l, P in enumerate(found[:3], 1))
        assert tuple(found[3:]) == directions


def test_power_counting_names_the_surviving_orders() -> None:
    """n u^j: orders 0 and 1 at n ~ D and fixed means, 0 to 2 at D^(1/4); 0 to 2 at n ~ D^2."""
    lines = [s.latex for s in derived(kernel_taylor.taylor).steps if s.rule == "Power counting"]
    kept = []
    for line in lines:
        exponents = [line.split(f"n u^{j} \\sim D^{{")[1].split("},")[0] for j in range(4)]
        kept.append([not e.startswith("-") for e in exponents])
    assert kept == [
        [True, True, False, False],
        [True, True, True, False],
        [True, True, True, True],
        [True, True, True, False],
        [True, True, True, True],
        [True, True, True, True],
    ]
