"""A two-layer network under a learning rule: from the update rule to the equations of its order parameters.

A step averages over a batch of B fresh samples; it moves w_k along the samples, along itself and along a vector xi_k
of a bath of temperature T, and v_k:

    w_k <- w_k - eta_k/sqrt(D) <push_k x> - (eta_k kappa/D) w_k + sqrt(2 eta_k T/D) xi_k,    push_k = dl/dlambda_k
    v_k <- v_k - eta_(v,k)/D <dl/dv_k> - (eta_(v,k) kappa_v/D) v_k

with the loss l(phi, y), the output phi = s sum_i v_i g(lambda_i) and the preactivations lambda_k = w_k.x/sqrt(D).
Given the cluster a, x ~ N(mean_a, Omega_a) with mean_a of order 1 and Omega_a = sum_u rho_au Pi_u: the variance is
rho_au along the directions of node u, a share share_u of all (isotropic: one node).  D grows at a fixed number K of
neurons, and time is t = steps/D.  Multiplied out to order 1/D (`quenched.symbolic.calculus.increments`), what a sample
contributes to w_k.Pi_u r_b/D and w_k.Pi_u w_l/D is push_k push_l and push_k times a bare field, which Stein's lemma
replaces by its regression on the preactivations,

    E_a[push_k f] = E_a[f] force_ak + sum_n Cov_a(f, lambda_n) response_akn        for any field f:

    force_ak = E_a[push_k],          response_akn = E_a[d push_k/dlambda_n],
    noise_akl = E_a[push_k push_l],  readout_ak = E_a[dl/dv_k]

are all that a loss, an activation or a teacher enters by: the averages of one step.  For a loss of degree 2 in phi,
dl/dphi = F0 + F1 phi and (dl/dphi)^2 = S0 + S1 phi + S2 phi^2, with coefficients for each cluster; powers of phi open
into sums over neurons, and what is left are averages of g, g', g'' over up to four neurons, which
`quenched.symbolic.activations` evaluates.  Another loss is another argument of `equations`; no formula is rewritten by
hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

import sympy
from sympy import Function, Idx, IndexedBase, Symbol

from quenched.symbolic.calculus.increments import (
    C,
    I,
    Q,
    R,
    growth,
    in_limit,
    increments,
    inner_product,
    lam,
    multiplied_out,
    nu,
    on_sphere,
    pi,
    push,
    rho,
    zeta,
)
from quenched.symbolic.language.arrays import array_function, tangent
from quenched.symbolic.language.latex import latex
from quenched.symbolic.language.notation import Derived, Formula, Step
from quenched.symbolic.losses import LABEL, OUTPUT, label_noise_average

__all__ = [
    "AVERAGES",
    "MEANINGS",
    "ORDER",
    "PART",
    "STATUS",
    "SUMS",
    "TITLE",
    "Equations",
    "StepAverages",
    "derivation",
    "derivations",
    "equations",
    "generated",
    "half_squared_loss",
    "in_cluster",
    "in_node",
    "increments",
    "quadratic",
    "slots",
    "tangents",
]

TITLE = "Two-layer network"
PART, ORDER = "learning", 2
STATUS = (
    "Exact as D grows at fixed t; Goldt, Advani and others 2019 prove it for isotropic inputs and smooth activations."
)

# indices: cluster a, reference vector b, node of the spectrum u, readout o (k, or class and neuron), neurons k l (free)
# and i j ... (summed)
a, b, u, o, k, l, *DUMMIES = (Idx(name) for name in ("a", "b", "u", "o", "k", "l", "i", "j", "m", "n", "p", "q"))
kappa_v, s = sympy.symbols("kappa_v s", positive=True)
M, V, v, P, y, eta_v = (IndexedBase(name) for name in ("M", "V", "v", "P", "y", "eta_v"))
mean, direction = IndexedBase("mean"), IndexedBase("e")
pull = IndexedBase("pull")
force, response, noise, readout = (IndexedBase(name) for name in ("force", "response", "noise", "readout"))
phi, label = OUTPUT, LABEL
g, dg, probe = Function("g"), Function("dg"), Symbol("f", real=True)

STEIN = "Stein: regression of any field"
SUMS = "Averages of one step: sum over neurons, average over label noise"


def half_squared_loss(output: sympy.Expr, target: sympy.Expr) -> sympy.Expr:
    """(phi - y)^2 / 2, the loss of the paper."""
    return (output - target) ** 2 / 2


def slots(pattern: str) -> tuple[str, ...]:
    """The factors of an average: "dg,dg,g" is E[g'(lambda_k) g'(lambda_l) g(lambda_i)]."""
    return tuple(pattern.split(","))


# --- averages over the sample


def in_node(expression: sympy.Expr) -> sympy.Expr:
    """sum_a P_a E_a[...] of push_k times a field of node u, by Stein, or times another push; V_uak: the mean of pi."""
    total, i = sympy.Integer(0), DUMMIES[0]
    for term in sympy.Add.make_args(sympy.expand(expression)):
        powers = [f.as_base_exp() for f in sympy.Mul.make_args(term)]
        pushes = [f.args[0] for f, power in powers if f.func == push for _ in range(power)]
        bare = [f for f, _ in powers if f.func in (nu, lam, pi)]
        coefficient = term / sympy.Mul(*(push(n) for n in pushes), *bare)
        if term.has(zeta):  # the bath knows neither samples nor weights
            continue
        if not pushes:  # decay, and what the bath adds to |w_k|^2
            total += term
        elif len(pushes) == 2:
            total += coefficient * P[a] * noise[a, k, l]
        else:
            (neuron,), (field,) = pushes, bare
            (index,) = field.args
            average, overlap = {
                nu: (mean[u, a, index], R[u, index, i]),
                lam: (M[u, a, index], Q[u, index, i]),
                pi: (V[u, a, index], C[u, i, index]),
            }[field.func]
            # Cov_a(f, lambda_i) = rho_au times the overlap, and pull_uki = sum_a P_a rho_au response_aki
            total += coefficient * (P[a] * average * force[a, neuron] + pull[u, neuron, i] * overlap)
    return sympy.expand(total)


# --- the averages of one step

_DERIVATIVES = ("g", "dg", "ddg")


def _average(factors: Sequence[tuple[str, Idx]]) -> sympy.Expr:
    """The array of E_a[prod g^(d)(lambda_index)], factors sorted by derivative and index."""
    ordered = sorted(factors, key=lambda item: (-_DERIVATIVES.index(item[0]), (k, l, *DUMMIES).index(item[1])))
    return IndexedBase("_".join(name for name, _ in ordered))[(a, *(index for _, index in ordered))]


def in_cluster(expression: sympy.Expr) -> sympy.Expr:
    """E_a[...] of a polynomial in phi, products of g and g', and the probe f, of mean 1 and covariances e_n."""
    total = sympy.Integer(0)
    for term in sympy.Add.make_args(sympy.expand(expression)):
        power = sympy.degree(term, phi) if term.has(phi) else 0
        term = term.subs(phi, 1)
        for dummy in DUMMIES[:power]:
            term *= s * v[dummy] * g(dummy)
        coefficient, factors, probed = sympy.Integer(1), [], False
        for factor in sympy.Mul.make_args(term):
            base, exponent = factor.as_base_exp()
            if base == probe:
                probed = True
            elif isinstance(base, Function) and str(base.func) in _DERIVATIVES:
                factors += [(str(base.func), base.args[0])] * int(exponent)
            else:
                coefficient *= factor
        total += coefficient * (_average(factors) if factors else 1)
        for position, (name, n) in enumerate(factors if probed else ()):
            raised = list(factors)
            raised[position] = (_DERIVATIVES[_DERIVATIVES.index(name) + 1], n)
            total += coefficient * direction[n] * _average(raised)
    return sympy.expand(sympy.expand(total).subs(label, y[a]))


def _regressed(expression: sympy.Expr) -> tuple[sympy.Expr, sympy.Expr]:
    """E_a of push_k and of d push_k/dlambda_l, from Stein's lemma for a probe: what has no direction, and what has."""
    total = slope = sympy.Integer(0)
    for term in sympy.Add.make_args(in_cluster(expression * probe)):
        (along,) = [f for f in term.atoms(sympy.Indexed) if f.base == direction] or [None]
        if along is None:
            total += term
        elif along.indices == (k,):
            slope += term / along * I[k, l]
        else:  # the neuron of the sum that responds becomes the free index
            slope += (term / along).subs(along.indices[0], l)
    return total, slope


@dataclass(frozen=True)
class StepAverages:
    """The averages of one step and E_a[loss], in indexed arrays named after the factors: `dg_g[a, k, i]`; I: unity."""

    force: sympy.Expr
    response: sympy.Expr
    noise: sympy.Expr
    readout: sympy.Expr
    risk: sympy.Expr

    @property
    def patterns(self) -> tuple[str, ...]:
        """The averages that appear, shortest first."""
        found = set()
        for expression in (self.force, self.response, self.noise, self.readout, self.risk):
            for factor in expression.atoms(sympy.Indexed):
                name = str(factor.base)
                if set(name.split("_")) <= set(_DERIVATIVES):
                    found.add(name.replace("_", ","))
        return tuple(sorted(found, key=lambda p: (len(slots(p)), p)))


def _step_averages(value: sympy.Expr, slope: sympy.Expr, square: sympy.Expr) -> StepAverages:
    """Of a loss, its slope dl/dphi and the square of that, polynomials in phi averaged over the label noise."""
    neuron = Symbol("lambda_k", real=True)
    unit = s * v[k] * g(neuron)  # the only term of phi that depends on lambda_k and v_k
    dphi_dlambda = unit.diff(neuron).subs(sympy.Derivative(g(neuron), neuron), dg(k))
    dphi_dv = unit.diff(v[k]).subs(g(neuron), g(k))
    pushed, responded = _regressed(slope * dphi_dlambda)
    both = in_cluster(square * dphi_dlambda * dphi_dlambda.subs(k, l))
    return StepAverages(pushed, responded, both, in_cluster(slope * dphi_dv), in_cluster(P[a] * value))


# --- the equations


@dataclass(frozen=True)
class Equations:
    """Right-hand sides in indexed arrays; repeated indices other than the free ones are summed.

    `dR`, `dQ` and `dv` are dR_ubk/dt (reference vectors b), dQ_ukl/dt in node u and dv_k/dt, by the averages of one
    step, `step`, and `pull`.
    """

    dR: sympy.Expr
    dQ: sympy.Expr
    dv: sympy.Expr
    pull: sympy.Expr
    step: StepAverages
    steps: tuple[Step, ...]


def _equations(step: StepAverages, first: Step) -> Equations:
    dR, dQ = (in_node(increment) for increment in increments())
    dv = -eta_v[o] * P[a] * readout[a, o] - eta_v[o] * kappa_v * v[o]
    drag = P[a] * rho[a, u] * response[a, k, DUMMIES[0]]
    rates = (("dR_{ubk}/dt", dR), ("dQ_{ukl}/dt", dQ), ("dv_o/dt", dv))
    lines = ((STEIN, (r"\operatorname{pull}_{uki}", drag)), *(("Average over the sample", line) for line in rates))
    steps = [first, *(Step(rule, f"{left} = {latex(value)}") for rule, (left, value) in lines)]
    for name in ("force_{ak}", "response_{akl}", "noise_{akl}", "readout_{ak}", "risk"):
        title, _, index = name.partition("_")
        left = rf"\operatorname{{{title}}}" + (f"_{index}" if index else "")
        steps.append(Step(SUMS, f"{left} = {latex(getattr(step, title))}"))
    return Equations(dR, dQ, dv, drag, step, tuple(steps))


@cache
def equations(loss: Callable[[sympy.Expr, sympy.Expr], sympy.Expr] = half_squared_loss) -> Equations:
    """Derive the order-parameter equations of a learning rule on the given loss, a polynomial in phi and y.

    >>> equations().step.patterns
    ('ddg', 'dg', 'g', 'ddg,g', 'dg,dg', 'dg,g', 'g,g', 'dg,dg,g', 'dg,dg,g,g')
    """
    value = loss(phi, label)
    slope = sympy.diff(value, phi)
    first = Step("Gradient", rf"\operatorname{{push}}_k = ({latex(slope)})\, s\,v_k\,g'(\lambda_k)")
    return _equations(_step_averages(value, label_noise_average(slope), label_noise_average(slope**2)), first)


@cache
def quadratic() -> Equations:
    """The same for any loss of degree 2: L0 + L1 phi + L2 phi^2, of the slope F0 + F1 phi and its square S0 + ..."""
    powers = {name: [IndexedBase(f"{name}{n}")[a] * phi**n for n in range(3)] for name in "LFS"}
    value, slope, square = sum(powers["L"]), sum(powers["F"][:2]), sum(powers["S"])
    first = Step("Gradient", rf"\operatorname{{push}}_k = ({latex(slope)})\, s\,v_k\,g'(\lambda_k)")
    return _equations(_step_averages(value, slope, square), first)


# --- what theory/ and the document take

MEANINGS = {
    "P": "(C,) weights of the clusters",
    "rho": "(C, U) variance of the inputs of a cluster along the directions of node u",
    "share": "(U,) fraction of all directions in node u",
    "coordinates": "(C, b) of the means on the reference vectors r_b",
    "mean": "(U, C, b) overlaps of the means with r_b",
    "M": "(U, C, K) overlaps of the means with the weights",
    "R": "(U, b, K) overlaps w_k.r_b/D, parts in node u",
    "Q": "(U, K, K) overlaps w_k.w_l/D, parts in node u",
    "v": "(K,) readout",
    "F0": "(C,) of dl/dphi = F0 + F1 phi",
    "F1": "(C,)",
    "S0": "(C,) of (dl/dphi)^2 = S0 + S1 phi + S2 phi^2",
    "S1": "(C,)",
    "S2": "(C,)",
    "L0": "(C,) of l = L0 + L1 phi + L2 phi^2",
    "L1": "(C,)",
    "L2": "(C,)",
    "averages": """averages["dg,g"][a, k, i] = E_a[g'(lambda_k) g(lambda_i)], and so on""",
    "averages_z": "their tangents",
    "force": "(C, K) E_a[dl/dlambda_k]",
    "response": "(C, K, K) E_a[d^2 l/(dlambda_k dlambda_l)]",
    "readout": "(C, K) E_a[dl/dv_k]",
    "noise": "(C, K, K) E_a[dl/dlambda_k dl/dlambda_l]",
    "pull": "(U, K, K) how w_k is pulled along w_i",
    "dR": "(U, b, K) D times the increment of R by a step before it is scaled back",
    "dQ": "(U, K, K) of Q",
    "eta": "(K,) learning rates of the first layer, 0 for a frozen neuron",
    "eta_v": "(K,) and of the second",
    "kappa": "weight decay of the first layer",
    "kappa_v": "and of the second",
    "s": "output scale",
    "B": "samples in a step",
    "T": "temperature of the bath",
}
"""The parameters of the generated functions: shapes in clusters C, nodes U, reference vectors b, neurons K."""

# name -> parameters and docstring of the generated function
_FUNCTIONS = {
    "local_fields": (
        "coordinates rho R Q",
        """The law of the local fields lambda_k = w_k.x/sqrt(D) in cluster a: N(average_a, covariance_a).

M_uak is the part of average_ak from node u.
""",
    ),
    "step_averages": (
        "F0 F1 v averages ; s",
        """Averages of one step in each cluster a, where dl/dphi = F0_a + F1_a phi.

force_ak = E_a[dl/dlambda_k], response_akl = E_a[d^2 l/(dlambda_k dlambda_l)], readout_ak = E_a[dl/dv_k].
""",
    ),
    "step_noise": (
        "S0 S1 S2 v averages ; s",
        """noise_akl = E_a[dl/dlambda_k dl/dlambda_l] where (dl/dphi)^2 = S0_a + S1_a phi + S2_a phi^2.""",
    ),
    "pull": (
        "P rho response",
        """How w_k is pulled along w_i in node u: dw_k/dt = -eta (sum_a P_a force_ak mean_a + pull_uki w_i).""",
    ),
    "rates": (
        "P rho share mean M R Q v force pull noise readout eta eta_v ; kappa kappa_v B T",
        """Time derivatives of R_ubk = w_k.r_b/D and Q_ukl = w_k.w_l/D, parts in node u, and of v_k.""",
    ),
    "on_sphere": (
        "R Q dR dQ",
        """Rates of R_ubk and Q_ukl if each weight is scaled back to its length after a step.

growth_k is D times the fraction by which |w_k|^2 = D squared_k grows in a step before it is scaled back.
""",
    ),
    "risk": (
        "P L0 L1 L2 v averages ; s",
        """Average loss E[l] where l = L0_a + L1_a phi + L2_a phi^2.""",
    ),
}
# the same of their tangents: arrays that end in _z have a last index of directions z
_TANGENTS = {
    "step_averages": "F0 F1 v v_z averages averages_z ; s",
    "step_noise": "S0 S1 S2 v v_z averages averages_z ; s",
    "pull": "P rho response_z",
    "rates": "P rho share mean M M_z R R_z Q Q_z v_z force force_z pull pull_z noise_z readout_z eta eta_v ; "
    "kappa kappa_v B",
}
_FIXED = frozenset({"P", "eta", "eta_v", "rho", "share", "mean", "I", "F0", "F1", "S0", "S1", "S2"})


def _outputs() -> dict[str, dict[str, tuple[sympy.Expr, str]]]:
    """What each function returns: expressions and their free indices."""
    found, coordinates = quadratic(), IndexedBase("coordinates")
    step, part = found.step, coordinates[a, b] * R[u, b, k]
    return {
        "local_fields": {
            "M": (part, "uak"),
            "average": (part, "ak"),
            "covariance": (rho[a, u] * Q[u, k, l], "akl"),
        },
        "step_averages": {
            "force": (step.force, "ak"),
            "response": (step.response, "akl"),
            "readout": (step.readout, "ak"),
        },
        "step_noise": {"noise": (step.noise, "akl")},
        "pull": {"pull": (found.pull, "uki")},
        "rates": {"dR": (found.dR, "ubk"), "dQ": (found.dQ, "ukl"), "dv": (found.dv, "o")},
        "on_sphere": dict(zip(("dR_held", "dQ_held"), zip(on_sphere(), ("ubk", "ukl"), strict=True), strict=True)),
        "risk": {"value": (step.risk, "")},
    }


def generated() -> str:
    """The functions of theory/two_layer.py: a step, and its tangents."""
    outputs, patterns = _outputs(), quadratic().step.patterns
    write = partial(array_function, patterns=patterns, meanings=MEANINGS)
    squared, grown = growth()
    inner = {"on_sphere": {"squared": (squared, "k"), "growth": (grown, "k")}}
    texts = [
        write(name, given, outputs[name], text, inner=inner.get(name)) for name, (given, text) in _FUNCTIONS.items()
    ]
    moving = tangents()
    for name, given in _TANGENTS.items():
        moved = {f"{key}_z": (value, f"{indices}z") for key, (value, indices) in moving[name].items()}
        docstring = f"Tangent of `{name}` along directions z, the last index of all that ends in _z."
        texts.append(write(f"{name}_tangent", given, moved, docstring))
    return "\n\n\n".join(texts)


def _multiplied() -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """The table of inner products, and the increments before and after powers of D are counted."""
    pairs = [("x", "x"), ("w_k", "x"), ("r_b", "x"), ("w_k", "r_b"), ("w_k", "w_l")]
    pairs += [("xi_k", "xi_l"), ("xi_k", "w_l"), ("xi_k", "r_b"), ("xi_k", "x")]
    one = sympy.S.One
    written = {"xi_k": r"\xi_k", "xi_l": r"\xi_l"}
    products: dict[sympy.Expr, list[str]] = {}
    for x, y in pairs:
        value = sympy.expand(inner_product({x: one}, {y: one}))
        products.setdefault(value, []).append(rf"{written.get(x, x)}\cdot\Pi_u {written.get(y, y)}")
    table = [Step("Table", f"{' = '.join(lefts)} = {latex(value)}") for value, lefts in products.items()]
    moved = dict(zip((r"D\,\delta R_{ubk}", r"D\,\delta Q_{ukl}"), multiplied_out(), strict=True))
    lines = [Step("Multiply out", f"{left} = {latex(value)}") for left, value in moved.items()]
    lines += [
        Step("Power counting", rf"\lim_{{D \to \infty}} {left} = {latex(in_limit(value))}")
        for left, value in moved.items()
    ]
    return tuple(table), tuple(lines)


_TOLD = {
    "update": "The gradient of the loss by a preactivation, of which the weights move along the sample x.",
    "inner_products": """Inner products in node u, of which the increments of the order parameters consist.

x is the average over the batch.  A fraction 1/B of its products is of a sample with itself, |Pi_u x|^2 = D share_u
rho_au to leading order.  Independent vectors have products of order sqrt(D) and mean 0: chi is of order 1 for two
samples, zeta for a vector xi_k of the bath (another number in each line).
""",
    "increments": """The move dw_k of w_k in one step, multiplied out in R_ubk = w_k.Pi_u r_b/D and Q_ukl = w_k.Pi_u
w_l/D.

One unit of time is D steps: increments of order 1/D add up to rates.  The fluctuations of D increments have zero mean
and add up to D^-1/2; they vanish as D grows, and so do terms of order D^-3/2.  This counting is not a proof.
""",
    "on_sphere": """The rates of R and Q if weights keep their length: a step is scaled back by |w_k|/|w_k + dw_k|.

D times the fraction by which |w_k|^2 = D squared_k grows in the step is growth_k; it has the terms of second order in
eta_k, and those of a bath.
""",
    "rates": """The learning equations: `increments` averaged over the sample and the bath, each field replaced by its
regression, and dv_o/dt, in which o is the neuron k of one output, or output and neuron (c, k).

Indices that the left-hand side does not have are summed; mean_uab is the part of E_a[nu_b] = mean_a.r_b/sqrt(D) in
node u, M_uak that of E_a[lambda_k] = mean_a.w_k/sqrt(D).
""",
    "step_averages": """What the rates ask for: sums over neurons of averages of g and its derivatives in one cluster.

<g'_k g_i>_a is E_a[g'(lambda_k) g(lambda_i)], I_kl the unit matrix, Delta^2 the variance of the label noise.
""",
}


def derivation(found: Equations) -> list[Formula]:
    """The equations of a loss step by step: update rule, inner products, increments, rates, averages of a step."""
    table, moved = _multiplied()
    first, *rest = found.steps
    held = r"\operatorname{squared}_k", r"\operatorname{growth}_k", r"dR_{ubk}^{\rm held}", r"dQ_{ukl}^{\rm held}"
    chosen = {
        "update": (first,),
        "inner_products": table,
        "increments": moved,
        "rates": tuple(step for step in rest if step.rule != SUMS),
        "on_sphere": tuple(
            Step("Scale back", f"{left} = {latex(value)}")
            for left, value in zip(held, (*growth(), *on_sphere()), strict=True)
        ),
        "step_averages": tuple(step for step in rest if step.rule == SUMS),
    }
    return [Formula(name, _TOLD[name], (), Derived(sympy.Integer(0), steps=steps)) for name, steps in chosen.items()]


def derivations() -> list[Formula]:
    """The equations of the half squared loss, for the document."""
    update, *rest = derivation(equations())
    told = update.docstring + "  Here and in the averages of a step, l = (phi - y)^2/2."
    return [replace(update, docstring=told), *rest]


def tangents() -> dict[str, dict[str, tuple[sympy.Expr, str]]]:
    """The tangents of the functions above along directions z: expressions in X_z[.., z], and their free indices."""
    outputs = _outputs()
    return {
        name: {key: (tangent(value, _FIXED), indices) for key, (value, indices) in outputs[name].items()}
        for name in _TANGENTS
    }


AVERAGES = equations().step.patterns
