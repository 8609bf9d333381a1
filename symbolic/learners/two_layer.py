"""A two-layer network under online SGD: from the update rule to the equations of its order parameters.

The rule (theory of the package, section 2) moves w_k along the sample x and along itself, and v_k along g(lambda_k):

    w_k <- w_k - eta/sqrt(D) dl/dlambda_k x - (eta kappa/D) w_k
    v_k <- v_k - eta_v/D dl/dv_k - (eta_v kappa_v/D) v_k,        l = loss(phi, y + noise), phi = s sum_i v_i g(lambda_i)

`equations` multiplies it out: the increments of w_k.r_b/D, w_k.w_l/D and v_k to order 1/D follow from a table of inner
products; powers of phi open into sums over neurons; the label noise is averaged; Stein's lemma replaces a bare field by
its regression on the preactivations.  What is left are averages of g, g', g'' over up to four neurons, which
`quenched.symbolic.activations` evaluates.  Another loss, output scale or noise is another argument of `equations`, and
no formula is rewritten by hand.

Inputs with a spectrum have the eigenvalue rho_au in cluster a along the directions of node u, a share s_u of all.  The
same increments, of the parts of the inner products that lie in node u, are then densities R_ubk, Q_ukl, and the sample
enters by the averages of one step only, whatever the spectrum (n runs over all neurons):

    push_k = dl/dlambda_k,   force_ak = E_a[push_k],   response_akn = E_a[d push_k/dlambda_n],
    noise_akl = E_a[push_k push_l],   readout_ak = E_a[dl/dv_k]

since Stein's lemma gives E_a[push_k f] = E_a[f] force_ak + sum_n Cov_a(f, lambda_n) response_akn for any field f.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import sympy
from sympy import Function, Idx, IndexedBase, Symbol

from quenched.symbolic.language import arrays
from quenched.symbolic.language.latex import latex
from quenched.symbolic.language.notation import Derived, Formula, Step

__all__ = [
    "AVERAGES",
    "TITLE",
    "Equations",
    "Responses",
    "derivations",
    "equations",
    "generated",
    "half_squared_loss",
    "slots",
]

TITLE = "Two-layer network"

# indices: cluster a, reference vector b, node of the spectrum u, neurons k l (free) and i j ... (summed)
a, b, u, k, l, *DUMMIES = (Idx(name) for name in ("a", "b", "u", "k", "l", "i", "j", "m", "n", "p", "q"))
D, eta, kappa, eta_v, kappa_v, s, noise = sympy.symbols("D eta kappa eta_v kappa_v s Delta", positive=True)
M, R, T, Q, v, P, y, sigma2 = (IndexedBase(name) for name in ("M", "R", "T", "Q", "v", "P", "y", "sigma2"))
rho, share, direction = (IndexedBase(name) for name in ("rho", "share", "e"))
phi, label, zeta, force = sympy.symbols("phi y zeta F", real=True)
g = Function("g")
nu = Function("nu")
lam = Function("lambda")
push = Function("push")
probe = Symbol("f", real=True)


def half_squared_loss(output: sympy.Expr, target: sympy.Expr) -> sympy.Expr:
    """(phi - y)^2 / 2, the loss of the paper."""
    return (output - target) ** 2 / 2


Vector = dict[str, sympy.Expr]  # coefficients of x, of w_k, w_l and of the reference vector r_b


class _Geometry(NamedTuple):
    """Inner products over D, and the first two moments of the fields nu_b = r_b.x/sqrt(D), lambda_k = w_k.x/sqrt(D)."""

    sample: sympy.Expr  # x.x/D
    reference: Callable[[Idx, Idx], sympy.Expr]  # r_b.w_k/D
    weights: Callable[[Idx, Idx], sympy.Expr]  # w_k.w_l/D
    reference_mean: Callable[[Idx], sympy.Expr]  # E_a[nu_b]
    field_mean: Callable[[Idx], sympy.Expr]  # E_a[lambda_k]
    variance: sympy.Expr  # Cov_a(nu_b, lambda_k) over r_b.w_k/D


_ISOTROPIC = _Geometry(
    sigma2[a], lambda b, k: R[b, k], lambda k, l: Q[k, l], lambda b: T[a, b], lambda k: M[a, k], sigma2[a]
)
# the part of everything that lies along the directions of node u
_NODE = _Geometry(
    share[u] * rho[a, u],
    lambda b, k: R[u, b, k],
    lambda k, l: Q[u, k, l],
    lambda b: T[u, a, b],
    lambda k: M[u, a, k],
    rho[a, u],
)


def _inner(one: Vector, other: Vector, geometry: _Geometry) -> sympy.Expr:
    """Inner product of two vectors by the table of D-dimensional inner products (leading order in D)."""
    neuron = {"w_k": k, "w_l": l}
    total = sympy.Integer(0)
    for left, c in one.items():
        for right, d in other.items():
            pair = tuple(sorted((left, right)))
            if pair == ("x", "x"):
                value = D * geometry.sample
            elif pair == ("r_b", "x"):
                value = sympy.sqrt(D) * nu(b)
            elif pair[0] == "r_b":
                value = D * geometry.reference(b, neuron[pair[1]])
            elif pair[1] == "x":
                value = sympy.sqrt(D) * lam(neuron[pair[0]])
            else:
                value = D * geometry.weights(neuron[pair[0]], neuron[pair[1]])
            total += c * d * value
    return total


def _leading(expression: sympy.Expr) -> sympy.Expr:
    """The limit D -> infinity of an expression that is a polynomial in D^(-1/2)."""
    root = Symbol("epsilon", positive=True)
    return sympy.expand(sympy.expand(expression).subs(D, 1 / root**2)).subs(root, 0)


def slots(pattern: str) -> tuple[str, ...]:
    """The factors of an average: "dg,dg,g" is E[g'(lambda_k) g'(lambda_l) g(lambda_i)]."""
    return tuple(pattern.split(","))


class Responses(NamedTuple):
    """The averages of one step, E_a, as indexed arrays; the response is diag(curvature_ak) + coupling_akl."""

    force: sympy.Expr
    curvature: sympy.Expr
    coupling: sympy.Expr
    noise: sympy.Expr
    readout: sympy.Expr


@dataclass(frozen=True)
class Equations:
    """Right-hand sides in indexed arrays; repeated indices other than the free ones are summed.

    `flow` holds dR_bk/dt (reference vectors b; the means themselves give dM), dQ_kl/dt and dv_k/dt to first order in
    the learning rates: the gradient flow, with decay.  `diffusion` is the rest of dQ_kl/dt, of second order: the noise
    of single samples.  An average of the activation is an indexed array named after its factors, the cluster first:
    `dg_g[a, k, i]`.  `sampled_flow` and `sampled_diffusion` are the same as averages over samples n of the fields, for
    activations whose averages do not close; `moments` are the force dl/dphi and its square there, averaged over the
    label noise.  `risk` is E[loss].  `responses`, `node` (dR_ubk/dt, dQ_ukl/dt in node u, dv_k/dt) and
    `node_diffusion` are the equations of inputs with a spectrum.
    """

    flow: tuple[sympy.Expr, sympy.Expr, sympy.Expr]
    diffusion: sympy.Expr
    sampled_flow: tuple[sympy.Expr, sympy.Expr, sympy.Expr]
    sampled_diffusion: sympy.Expr
    moments: tuple[sympy.Expr, sympy.Expr]
    risk: sympy.Expr
    responses: Responses
    node: tuple[sympy.Expr, sympy.Expr, sympy.Expr]
    node_diffusion: sympy.Expr
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
        if base == probe or (isinstance(base, Function) and base.func in (nu, lam)):
            bare += [base] * int(exponent)
        elif isinstance(base, Function) and str(base.func) in _DERIVATIVES:
            activations += [(str(base.func), base.args[0])] * int(exponent)
        else:
            coefficient *= factor
    return coefficient, activations, bare


def _regress(activations: list[tuple[str, Idx]], bare: sympy.Expr) -> sympy.Expr:
    """Stein: E[f F] = E[f] E[F] + sum_n Cov(f, lambda_n) E[dF/dlambda_n] for a field f outside the activation."""
    mean, covariance = _moments(bare)
    total = mean * _average(activations)
    for position, (name, n) in enumerate(activations):
        raised = list(activations)
        raised[position] = (_DERIVATIVES[_DERIVATIVES.index(name) + 1], n)
        total += covariance(n) * _average(raised)
    return total


def _moments(bare: sympy.Expr) -> tuple[sympy.Expr, Callable[[Idx], sympy.Expr]]:
    """E_a[f] and n -> Cov_a(f, lambda_n) of a bare field; of the probe, 1 and a direction e_n."""
    if bare == probe:
        return sympy.Integer(1), lambda n: direction[n]
    (index,) = bare.args
    if bare.func == nu:
        return _ISOTROPIC.reference_mean(index), lambda n: _ISOTROPIC.variance * _ISOTROPIC.reference(index, n)
    return _ISOTROPIC.field_mean(index), lambda n: _ISOTROPIC.variance * _ISOTROPIC.weights(index, n)


def _in_cluster(expression: sympy.Expr) -> sympy.Expr:
    """E_a[...] of a polynomial in phi, the label noise and the fields."""
    total = sympy.Integer(0)
    for term in sympy.Add.make_args(sympy.expand(_label_noise(expression))):
        power = sympy.degree(term, phi) if term.has(phi) else 0
        term = term.subs(phi, 1)
        for dummy in DUMMIES[:power]:
            term *= s * v[dummy] * g(dummy)
        coefficient, activations, bare = _factors(term)
        if len(bare) > 1:
            raise ValueError(f"{term}: more than one bare field")
        if bare:
            total += coefficient * _regress(activations, bare[0])
        else:
            total += coefficient * (_average(activations) if activations else 1)
    return sympy.expand(sympy.expand(total).subs(label, y[a]))


def _cluster_average(expression: sympy.Expr) -> sympy.Expr:
    """sum_a P_a E_a[...]."""
    return sympy.expand(P[a] * _in_cluster(expression))


def _responses(slope: sympy.Expr, dphi_dlambda: sympy.Expr, dphi_dv: sympy.Expr) -> Responses:
    """The averages of one step, the response by regression of a probe field."""
    regressed = _in_cluster(slope * dphi_dlambda * probe)
    force = curvature = coupling = sympy.Integer(0)
    for term in sympy.Add.make_args(regressed):
        (factor,) = [f for f in term.atoms(sympy.Indexed) if f.base == direction] or [None]
        if factor is None:
            force += term
        elif factor.indices == (k,):
            curvature += term / factor
        else:  # the neuron in the sum that responds becomes a free index
            coupling += (term / factor).subs(factor.indices[0], l)
    both = _in_cluster(slope**2 * dphi_dlambda * dphi_dlambda.subs(k, l))
    return Responses(force, curvature, coupling, both, _in_cluster(slope * dphi_dv))


_STEP = Responses(
    IndexedBase("force")[a, k],
    IndexedBase("curvature")[a, k],
    IndexedBase("response")[a, k, DUMMIES[0]],
    IndexedBase("noise")[a, k, l],
    IndexedBase("readout")[a, k],
)


def _in_node(expression: sympy.Expr) -> sympy.Expr:
    """sum_a P_a E_a[...] of push_k, alone, times another, or times a field of node u, by the averages of one step."""
    total, i = sympy.Integer(0), DUMMIES[0]
    for term in sympy.Add.make_args(sympy.expand(expression)):
        powers = [f.as_base_exp() for f in sympy.Mul.make_args(term)]
        pushes = [f.args[0] for f, power in powers if f.func == push for _ in range(power)]
        bare = [f for f, _ in powers if f.func in (nu, lam)]
        coefficient = term / sympy.Mul(*(push(n) for n in pushes), *bare)
        if len(pushes) == 2:
            total += coefficient * P[a] * _STEP.noise
            continue
        (neuron,), (field,) = pushes, bare
        (index,) = field.args
        if field.func == nu:
            mean, overlap = _NODE.reference_mean(index), _NODE.reference(index, i)
        else:
            mean, overlap = _NODE.field_mean(index), _NODE.weights(index, i)
        given = mean * _STEP.force.subs(k, neuron) + _NODE.variance * overlap * _STEP.coupling.subs(k, neuron)
        total += coefficient * P[a] * given
    return sympy.expand(total)


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

    def increments_of(geometry: _Geometry, pushed: Callable[[Idx], sympy.Expr]) -> dict[str, sympy.Expr]:
        def move(index: Idx, name: str) -> Vector:
            return {"x": -eta / sympy.sqrt(D) * pushed(index), name: -eta * kappa / D}

        dw_k, dw_l = move(k, "w_k"), move(l, "w_l")
        one = sympy.Integer(1)
        moved = {
            "R": _inner(dw_k, {"r_b": one}, geometry),
            "Q": _inner({"w_k": one}, dw_l, geometry)
            + _inner(dw_k, {"w_l": one}, geometry)
            + _inner(dw_k, dw_l, geometry),
            "v": -eta_v * force * dphi_dv - eta_v * kappa_v * v[k],
        }
        return {name: _leading(value) for name, value in moved.items()}

    increments = increments_of(_ISOTROPIC, lambda index: force * dphi_dlambda.subs(k, index))
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

    responses = _responses(slope, dphi_dlambda, dphi_dv)
    titles = {"force": "ak", "curvature": "ak", "coupling": "akl", "noise": "akl", "readout": "ak"}
    for name, indices in titles.items():
        left = rf"\mathrm{{{name}}}_{{{indices}}}"
        steps.append(
            Step("Averages of one step: regression of any field", f"{left} = {latex(getattr(responses, name))}")
        )
    moved = increments_of(_NODE, push)
    node = []
    for name in ("R", "Q"):
        decay = moved[name].replace(push, lambda index: sympy.Integer(0))
        node.append(sympy.expand(_in_node(sympy.expand(moved[name] - decay)) + decay))
        left = {"R": "dR_{ubk}/dt", "Q": "dQ_{ukl}/dt"}[name]
        steps.append(Step("Spectrum: the same in each node u", rf"{left} = {latex(node[-1])}"))
    node.append(-eta_v * P[a] * _STEP.readout - eta_v * kappa_v * v[k])

    diffusion, sampled_diffusion = (sympy.expand(second_order(x["Q"])) for x in (results, sampled))
    return Equations(
        (results["R"], sympy.expand(results["Q"] - diffusion), results["v"]),
        diffusion,
        (sampled["R"], sympy.expand(sampled["Q"] - sampled_diffusion), sampled["v"]),
        sampled_diffusion,
        (sympy.factor(_label_noise(slope)), _label_noise(slope**2)),
        risk,
        responses,
        (node[0], sympy.expand(node[1] - second_order(node[1])), node[2]),
        second_order(node[1]),
        tuple(steps),
    )


AVERAGES = equations().patterns


def generated() -> str:
    """The functions of `theory/two_layer.py`."""
    found = equations()
    return "\n\n\n".join((arrays.equations_text(found), arrays.tangents_text(found)))


def derivations() -> list[Formula]:
    """The equations as a formula of the document."""
    found = equations()
    return [Formula("drift", "", (), Derived((*found.flow, found.diffusion, found.risk), steps=found.steps))]
