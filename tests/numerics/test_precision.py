"""One text, any precision: every generated oracle formula in mpmath against float64 and against sympy."""

import mpmath
import numpy as np
import pytest
import sympy

from quenched.numerics.compiled.precision import bind, context, mp_array, mp_namespace
from quenched.symbolic.language.notation import derived, specification_symbols
from quenched.symbolic.learners.oracle import FORMULAS
from quenched.theory import oracle


@pytest.mark.parametrize("specification", FORMULAS, ids=lambda f: f.__name__)
def test_bound_formulas_have_the_digits_of_the_derivation(specification) -> None:
    symbols = specification_symbols(specification)
    arguments = [0.4 + 0.1 * i for i in range(len(symbols))]
    function = getattr(oracle, specification.__name__)
    ctx = context(40)
    precise = np.atleast_1d(np.array(bind(function, mp_namespace(ctx))(*map(ctx.mpf, arguments)), dtype=object))
    exact = [
        v.subs(dict(zip(symbols, map(sympy.Rational, arguments), strict=True)))
        for v in derived(specification).explicit()
    ]
    for value, expected in zip(precise, exact, strict=True):
        assert abs(value / ctx.mpf(expected.evalf(45)) - 1) < 1e-37
    np.testing.assert_allclose(np.atleast_1d(function(*arguments)), precise.astype(float), rtol=1e-14)


def test_bind_leaves_the_function_as_it_was() -> None:
    bound = bind(oracle.xor, {"Phi": lambda x: 2.0})
    assert bound(1.0, 1.0) == 8.0
    assert oracle.xor(1.0, 1.0) < 0.5
    assert bound.__name__ == "xor"


def test_contexts_are_independent() -> None:
    before = mpmath.mp.dps
    narrow, wide = context(20), context(50)
    assert (narrow.dps, wide.dps, mpmath.mp.dps) == (20, 50, before)
    assert abs(wide.mpf(1) / 3 - narrow.mpf(1) / 3) < 1e-20
    assert wide.mpf(1) / 3 != narrow.mpf(1) / 3


def test_namespace_works_on_scalars_and_arrays() -> None:
    ctx = context(30)
    names = mp_namespace(ctx)
    x = mp_array(ctx, [[-0.5, 0.25], [1.0, 2.0]])
    assert x[0, 0] == ctx.mpf(-0.5)
    for name, function in {"exp": np.exp, "Phi": lambda t: [[float(ctx.ncdf(u)) for u in row] for row in t]}.items():
        np.testing.assert_allclose(names[name](x).astype(float), function(x.astype(float)), rtol=1e-15)
    assert names["maximum"](0, ctx.mpf(-1)) == 0
    assert [names["heaviside"](ctx.mpf(s), 1 / 2) for s in (-1, 0, 1)] == [0, 0.5, 1]
    assert names["exp"](ctx.mpf(1)) == ctx.e
