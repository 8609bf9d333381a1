"""A two-layer network under online SGD: from the update rule to the equations of its order parameters.

The rule (theory of the package, section 2) moves w_k along the sample x and along itself, and v_k along g(lambda_k):

    w_k <- w_k - eta/sqrt(D) dl/dlambda_k x - (eta kappa/D) w_k
    v_k <- v_k - eta_v/D dl/dv_k - (eta_v kappa_v/D) v_k,        l = loss(phi, y + noise), phi = s sum_i v_i g(lambda_i)

`equations` multiplies it out: the increments of w_k.r_b/D, w_k.w_l/D and v_k to order 1/D follow from a table of inner
products; powers of phi open into sums over neurons; the label noise is averaged; Stein's lemma replaces a bare field by
its regression on the preactivations.  What is left are averages of g, g', g'' over up to four neurons, which
`quenched.symbolic.activations` evaluates.  Another loss, output scale or noise is another argument of `equations`, and
no formula is rewritten by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import sympy
from sympy import Function, Idx, IndexedBase, Symbol

from quenched.symbolic.latex import latex
from quenched.symbolic.notation import Step

__all__ = ["AVERAGES", "Equations", "equations", "half_squared_loss", "slots"]

# indices: cluster a, reference vector b, neurons k l (free) and i j ... (summed)
a, b, k, l, *DUMMIES = (Idx(name) for name in ("a", "b", "k", "l", "i", "j", "m", "n", "p", "q"))
D, eta, kappa, eta_v, kappa_v, s, noise = sympy.symbols("D eta kappa eta_v kappa_v s Delta", positive=True)
M, R, T, Q, v, P, y, sigma2 = (IndexedBase(name) for name in ("M", "R", "T", "Q", "v", "P", "y", "sigma2"))
phi, label, zeta, force = sympy.symbols("phi y zeta F", real=True)
g = Function("g")
nu = Function("nu")
lam = Function("lambda")


def half_squared_loss(output: sympy.Expr, target: sympy.Expr) -> sympy.Expr:
    """(phi - y)^2 / 2, the loss of the paper."""
    return (output - target) ** 2 / 2


Vector = dict[str, sympy.Expr]  # coefficients of x, of w_k, w_l and of the reference vector r_b


def _inner(u: Vector, w: Vector) -> sympy.Expr:
    """Inner product of two vectors by the table of D-dimensional inner products (leading order in D)."""
    neuron = {"w_k": k, "w_l": l}
    total = sympy.Integer(0)
    for left, c in u.items():
        for right, d in w.items():
            pair = tuple(sorted((left, right)))
            if pair == ("x", "x"):
                value = D * sigma2[a]
            elif pair == ("r_b", "x"):
                value = sympy.sqrt(D) * nu(b)
            elif pair[0] == "r_b":
                value = D * R[b, neuron[pair[1]]]
            elif pair[1] == "x":
                value = sympy.sqrt(D) * lam(neuron[pair[0]])
            else:
                value = D * Q[neuron[pair[0]], neuron[pair[1]]]
            total += c * d * value
    return total


def _leading(expression: sympy.Expr) -> sympy.Expr:
    """The limit D -> infinity of an expression that is a polynomial in D^(-1/2)."""
    root = Symbol("epsilon", positive=True)
    return sympy.expand(sympy.expand(expression).subs(D, 1 / root**2)).subs(root, 0)


def slots(pattern: str) -> tuple[str, ...]:
    """The factors of an average: "dg,dg,g" is E[g'(lambda_k) g'(lambda_l) g(lambda_i)]."""
    return tuple(pattern.split(","))


@dataclass(frozen=True)
class Equations:
    """Right-hand sides in indexed arrays; repeated indices other than the free ones are summed.

    `flow` holds dR_bk/dt (reference vectors b; the means themselves give dM), dQ_kl/dt and dv_k/dt to first order in
    the learning rates: the gradient flow, with decay.  `diffusion` is the rest of dQ_kl/dt, of second order: the noise
    of single samples.  An average of the activation is an indexed array named after its factors, the cluster first:
    `dg_g[a, k, i]`.  `sampled_flow` and `sampled_diffusion` are the same as averages over samples n of the fields, for
    activations whose averages do not close; `moments` are the force dl/dphi and its square there, averaged over the
    label noise.  `risk` is E[loss].
    """

    flow: tuple[sympy.Expr, sympy.Expr, sympy.Expr]
    diffusion: sympy.Expr
    sampled_flow: tuple[sympy.Expr, sympy.Expr, sympy.Expr]
    sampled_diffusion: sympy.Expr
    moments: tuple[sympy.Expr, sympy.Expr]
    risk: sympy.Expr
    steps: tuple[Step, ...]

    @property
    def patterns(self) -> tuple[str, ...]:
        """The averages that appear, shortest first."""
        found = set()
        for expression in (*self.flow, self.diffusion, self.risk):
            for factor in expression.atoms(sympy.Indexed):
                name = str(factor.base)
                if set(name.split("_")) <= set(_DERIVATIVES):
                    found.add(name.replace("_", ","))
        return tuple(sorted(found, key=lambda p: (len(slots(p)), p)))


_DERIVATIVES = ("g", "dg", "ddg")


def _average(fields: Sequence[tuple[str, Idx]]) -> sympy.Expr:
    """The array of E_a[prod g^(d)(lambda_index)], factors sorted by derivative and index."""
    ordered = sorted(fields, key=lambda item: (-_DERIVATIVES.index(item[0]), _order(item[1])))
    return IndexedBase("_".join(name for name, _ in ordered))[(a, *(index for _, index in ordered))]


def _order(index: Idx) -> int:
    return (k, l, *DUMMIES).index(index)


def _factors(term: sympy.Expr) -> tuple[sympy.Expr, list[tuple[str, Idx]], list[sympy.Expr]]:
    """Split a product into coefficient, activation factors and bare fields (nu_b or lambda_l)."""
    coefficient, activations, bare = sympy.Integer(1), [], []
    for factor in sympy.Mul.make_args(term):
        base, exponent = factor.as_base_exp()
        if isinstance(base, Function) and base.func in (nu, lam):
            bare += [base] * int(exponent)
        elif isinstance(base, Function) and str(base.func) in _DERIVATIVES:
            activations += [(str(base.func), base.args[0])] * int(exponent)
        else:
            coefficient *= factor
    return coefficient, activations, bare


def _regress(activations: list[tuple[str, Idx]], bare: sympy.Expr) -> sympy.Expr:
    """Stein: E[f F] = E[f] E[F] + sum_n Cov(f, lambda_n) E[dF/dlambda_n] for a field f outside the activation."""
    (index,) = bare.args
    mean = T[a, index] if bare.func == nu else M[a, index]
    overlap: Callable[[Idx], sympy.Expr] = (lambda n: R[index, n]) if bare.func == nu else (lambda n: Q[index, n])
    total = mean * _average(activations)
    for position, (name, n) in enumerate(activations):
        raised = list(activations)
        raised[position] = (_DERIVATIVES[_DERIVATIVES.index(name) + 1], n)
        total += sigma2[a] * overlap(n) * _average(raised)
    return total


def _cluster_average(expression: sympy.Expr) -> sympy.Expr:
    """sum_a P_a E_a[...] of a polynomial in phi, the label noise and the fields."""
    total = sympy.Integer(0)
    for term in sympy.Add.make_args(sympy.expand(_label_noise(expression))):
        power = sympy.degree(term, phi) if term.has(phi) else 0
        term = term.subs(phi, 1)
        for dummy in DUMMIES[:power]:
            term *= s * v[dummy] * g(dummy)
        coefficient, activations, bare = _factors(term)
        coefficient *= P[a]
        if len(bare) > 1:
            raise ValueError(f"{term}: more than one bare field")
        if bare:
            total += coefficient * _regress(activations, bare[0])
        else:
            total += coefficient * (_average(activations) if activations else 1)
    return sympy.expand(total).subs(label, y[a])


def _label_noise(expression: sympy.Expr) -> sympy.Expr:
    """The average over zeta ~ N(0, Delta^2), of which the expression is a polynomial."""
    total = sympy.Integer(0)
    for term in sympy.Add.make_args(sympy.expand(expression)):
        moment = sympy.degree(term, zeta) if term.has(zeta) else 0
        if moment % 2 == 0:  # E zeta^2n = (2n-1)!! Delta^2n
            total += term.subs(zeta, 1) * noise**moment * (sympy.factorial2(moment - 1) if moment else 1)
    return total


def _on_samples(expression: sympy.Expr) -> sympy.Expr:
    """sum_n P_n (...) with every field an array over the samples n, which know their label and variance."""
    n = Idx("n")
    arrays = {name: IndexedBase(name) for name in ("force", "square", "lambda_", "nu", "g", "dg")}
    expression = expression.subs({force**2: arrays["square"][n], sigma2[a]: sigma2[n]})
    expression = expression.subs(force, arrays["force"][n])
    expression = expression.replace(nu, lambda i: arrays["nu"][n, i]).replace(lam, lambda i: arrays["lambda_"][n, i])
    for name in ("g", "dg"):
        expression = expression.replace(Function(name), lambda i, name=name: arrays[name][n, i])
    return sympy.expand(P[n] * expression)


@cache
def equations(loss: Callable[[sympy.Expr, sympy.Expr], sympy.Expr] = half_squared_loss) -> Equations:
    """Derive the order-parameter equations of online SGD on the given loss, a polynomial in phi and y.

    >>> equations().patterns
    ('ddg', 'dg', 'g', 'ddg,g', 'dg,dg', 'dg,g', 'g,g', 'dg,dg,g', 'dg,dg,g,g')
    """
    steps = []
    slope = sympy.diff(loss(phi, label + zeta), phi)
    neuron = Symbol("lambda_k", real=True)
    unit = s * v[k] * g(neuron)  # the only term of phi that depends on lambda_k and v_k
    dphi_dlambda = unit.diff(neuron).subs(sympy.Derivative(g(neuron), neuron), Function("dg")(k))
    dphi_dv = unit.diff(v[k]).subs(g(neuron), g(k))
    steps.append(
        Step(
            "Gradient",
            rf"F = \partial_\phi \ell = {latex(slope)},\quad \partial\phi/\partial\lambda_k = "
            rf"{latex(dphi_dlambda)},\quad \partial\phi/\partial v_k = {latex(dphi_dv)}",
        )
    )

    def move(index: Idx, name: str) -> Vector:
        along_x = -eta / sympy.sqrt(D) * force * dphi_dlambda.subs(k, index)
        return {"x": along_x, name: -eta * kappa / D}

    dw_k, dw_l = move(k, "w_k"), move(l, "w_l")
    one = sympy.Integer(1)
    increments = {
        "R": _inner(dw_k, {"r_b": one}),
        "Q": _inner({"w_k": one}, dw_l) + _inner(dw_k, {"w_l": one}) + _inner(dw_k, dw_l),
        "v": -eta_v * force * dphi_dv - eta_v * kappa_v * v[k],
    }
    increments = {name: _leading(value) for name, value in increments.items()}
    for name, value in increments.items():
        subscript = {"R": "bk", "Q": "kl", "v": "k"}[name]
        steps.append(Step("Increment to order 1/D", rf"D\,\delta {name}_{{{subscript}}} = {latex(value)}"))

    increments = {name: sympy.expand(value) for name, value in increments.items()}
    results, sampled = {}, {}
    for name, value in increments.items():
        decay = value.subs(force, 0)  # carries no average over the sample
        results[name] = _cluster_average((value - decay).subs(force, slope)) + decay
        sampled[name] = _on_samples(sympy.expand(value - decay)) + decay
    risk = _cluster_average(loss(phi, label))
    for name, value in (*results.items(), ("risk", risk)):
        left = {"R": "dR_{bk}/dt", "Q": "dQ_{kl}/dt", "v": "dv_k/dt", "risk": r"E[\ell]"}[name]
        steps.append(Step("Sum over neurons, average over label noise, Stein", rf"{left} = {latex(value)}"))

    def second_order(value: sympy.Expr) -> sympy.Expr:
        return sympy.expand(value).coeff(eta, 2) * eta**2

    diffusion, sampled_diffusion = (sympy.expand(second_order(x["Q"])) for x in (results, sampled))
    return Equations(
        (results["R"], sympy.expand(results["Q"] - diffusion), results["v"]),
        diffusion,
        (sampled["R"], sympy.expand(sampled["Q"] - sampled_diffusion), sampled["v"]),
        sampled_diffusion,
        (sympy.factor(_label_noise(slope)), _label_noise(slope**2)),
        risk,
        tuple(steps),
    )


AVERAGES = equations().patterns
