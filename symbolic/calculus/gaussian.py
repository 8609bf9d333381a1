"""Averages over jointly Gaussian fields, by rule: the only place of the package where averages are taken.

The integrand is a sum of products of

    polynomials, Heaviside, sign, |.|, Max, Min, erf, erfc, Phi, exp of linear and (negative) quadratic forms,
    sin, cos, DiracDelta

of affine forms in the fields x_0, x_1, ..., which have means m_i and covariances c_ij.  Five rules reduce it:

* *Stein*:        E[(x_i - m_i) F] = sum_j c_ij E[d_j F] removes polynomial factors, one degree at a time;
* *Conditioning*: E[delta(l) F] = p_l(0) E[F | l = 0], with the regression of the other fields on l;
* *Tilting*:      exp(-a l^2/2) is sqrt(2 pi/a) times the density of a noisy observation l + xi/sqrt(a) = 0: it
                  conditions on that; exp(l) shifts the means by their covariance with l;
* *Smoothing*:    erf(l/sqrt 2) = 2 Phi(l) - 1 and Phi(l) = E_xi[Heaviside(l + xi)]: a step smoothed by a unit normal;
* *Orthant*:      what is left is a normal orthant probability Phi_n, n <= 4 (or E[cos l] = cos(E l) exp(-Var l / 2)).

A derivative of a delta, which averages differentiated once more bring, is Stein's rule read backwards:
x delta^(n)(x) = -n delta^(n-1)(x) turns E[(x_0 - m_0) delta^(n-1)(x_0) G] = c_00 E[delta^(n)(x_0) G] + ... into
averages of deltas of lower order.

Singular covariances need no special case: none of the rules inverts a matrix.

>>> x, y = fields(2)
>>> law = GaussianAlgebra((x, y), means=(0, 0), covariance=((1, sympy.Rational(1, 2)), (sympy.Rational(1, 2), 1)))
>>> sympy.simplify(law.average(sympy.Abs(x)).doit())
sqrt(2)/sqrt(pi)
>>> law.average(x * y).doit()
1/2
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import sympy

from quenched.symbolic.calculus.forms import HALF, ONE, ZERO, Form, Term, add, expand, fields
from quenched.symbolic.calculus.normal import Phi, Remainder, Residual, density, normal_probability
from quenched.symbolic.calculus.steps import NoClosedForm
from quenched.symbolic.language.latex import latex
from quenched.symbolic.language.notation import Derived, Step

__all__ = ["GaussianAlgebra", "fields"]


def _letters(number: int) -> str:
    """0 -> '', 1 -> 'a', .., 26 -> 'z', 27 -> 'aa': the columns of a spreadsheet.

    >>> [_letters(n) for n in (0, 1, 26, 27, 52, 703)]
    ['', 'a', 'z', 'aa', 'az', 'aaa']
    """
    return "" if number == 0 else _letters((number - 1) // 26) + chr(ord("a") + (number - 1) % 26)


@dataclass(frozen=True)
class Observation:
    """Conditioning on form + noise = 0: a delta has no noise, a factor exp(-form^2/2) has unit noise."""

    form: Form
    noise: sympy.Expr = ZERO

    @property
    def key(self) -> tuple[Any, ...]:
        """Canonical order of observations."""
        return self.noise.sort_key(), self.form.key


# what is averaged under a law: powers of fields, steps, smoothed steps, a wave
Core = tuple[tuple[tuple[sympy.Symbol, int], ...], tuple[Form, ...], tuple[Form, ...], tuple[str, Form] | None]


@dataclass
class GaussianAlgebra:
    """Averages over fields of given means and covariance, sharing every intermediate quantity.

    `average` returns an expression in symbols that `definitions` introduces in order (each once, however many averages
    need it); `steps` records the rule behind each of them.  `Derived.explicit` substitutes them back.
    """

    variables: tuple[sympy.Symbol, ...]
    means: Sequence[Any]
    covariance: Sequence[Sequence[Any]]
    definitions: list[tuple[sympy.Symbol, sympy.Expr]] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    printed: Callable[[sympy.Expr], str] = latex  # of the steps
    _known: dict[Any, sympy.Expr] = field(default_factory=dict)
    _names: dict[str, int] = field(default_factory=dict)
    _shifts: dict[Form, GaussianAlgebra] = field(default_factory=dict)  # the same fields under shifted means

    def derived(self, *integrands: sympy.Expr) -> Derived:
        """The averages of several integrands as one `Derived` with shared definitions."""
        values = tuple(self.reduce(integrand) for integrand in integrands)
        return Derived(values if len(values) > 1 else values[0], tuple(self.definitions), tuple(self.steps))

    def average(self, integrand: sympy.Expr) -> sympy.Expr:
        """E[integrand] in the means and covariances alone."""
        return self.derived(sympy.sympify(integrand)).explicit()[-1]

    # -- naming
    # ---------------------------------------------------------------------------------------------------------

    def _let(self, key: Any, name: str, expression: sympy.Expr, rule: str, meaning: str = "") -> sympy.Expr:
        """Bind an expression to a fresh symbol, unless it is one already; remember it under `key`."""
        if expression.is_Symbol or expression.is_number:
            self._known[key] = expression
            return expression
        positive = isinstance(expression, Remainder)  # a variance
        assumptions = {"positive": True} if positive else {"real": True}
        symbol = sympy.Symbol(self._fresh(name), **assumptions)
        self.definitions.append((symbol, expression))
        left = self.printed(symbol) + (f" = {meaning}" if meaning else "")
        self.steps.append(Step(rule, f"{left} = {self.printed(expression)}"))
        self._known[key] = symbol
        return symbol

    def _fresh(self, name: str) -> str:
        """The name itself, then name + a .. z, aa ..; none twice."""
        count = self._names.get(name, -1) + 1
        while (found := name + _letters(count)) in self._names:
            count += 1
        self._names[name] = count
        self._names.setdefault(found, 0)
        return found

    @staticmethod
    def _label(law: tuple[Observation, ...]) -> str:
        return "".join(("_" if not o.noise else "_t") + o.form.name for o in law)

    # -- moments of the fields under a law
    # ----------------------------------------------------------------------------------

    def _mean(self, x: sympy.Symbol, law: tuple[Observation, ...]) -> sympy.Expr:
        i = self.variables.index(x)
        if not law:
            return sympy.sympify(self.means[i])
        key = ("mean", x, law)
        if key not in self._known:
            *before, last = law
            parent = tuple(before)
            if not last.noise and last.form.linear == ((x, ONE),):
                return -last.form.constant
            covariance = self._covariance_form(x, last.form, parent)
            if covariance == 0:
                return self._mean(x, parent)
            mean, variance = self._mean_form(last.form, parent), self._variance(last.form, parent) + last.noise
            value = Residual(self._mean(x, parent), covariance, mean, variance) if mean != 0 else self._mean(x, parent)
            self._let(key, f"m{i}{self._label(law)}", value, "Tilting" if last.noise else "Conditioning")
        return self._known[key]

    def _covariance(self, x: sympy.Symbol, y: sympy.Symbol, law: tuple[Observation, ...]) -> sympy.Expr:
        i, j = sorted((self.variables.index(x), self.variables.index(y)))
        if not law:
            return sympy.sympify(self.covariance[i][j])
        key = ("covariance", i, j, law)
        if key not in self._known:
            *before, last = law
            parent = tuple(before)
            if not last.noise and len(last.form.linear) == 1 and last.form.linear[0][0] in (x, y):
                return ZERO
            a, b = (self._covariance_form(self.variables[k], last.form, parent) for k in (i, j))
            old = self._covariance(x, y, parent)
            if a == 0 or b == 0:
                return old
            variance = self._variance(last.form, parent) + last.noise
            value = Remainder(old, a, variance) if i == j else Residual(old, a, b, variance)
            self._let(key, f"c{i}{j}{self._label(law)}", value, "Tilting" if last.noise else "Conditioning")
        return self._known[key]

    def _mean_form(self, f: Form, law: tuple[Observation, ...]) -> sympy.Expr:
        return sympy.Add(f.constant, *(c * self._mean(x, law) for x, c in f.linear))

    def _covariance_form(self, x: sympy.Symbol, f: Form, law: tuple[Observation, ...]) -> sympy.Expr:
        return sympy.Add(*(c * self._covariance(x, y, law) for y, c in f.linear))

    def _variance(self, f: Form, law: tuple[Observation, ...], other: Form | None = None) -> sympy.Expr:
        """Variance of a form, or its covariance with another."""
        return sympy.Add(*(c * self._covariance_form(x, other or f, law) for x, c in f.linear))

    def _density(self, observation: Observation, law: tuple[Observation, ...]) -> sympy.Expr:
        """Density at 0 of form + noise under the law."""
        key = ("density", observation, law)
        if key not in self._known:
            mean = self._mean_form(observation.form, law)
            variance = self._variance(observation.form, law) + observation.noise
            name = f"d{observation.form.name}{'t' if observation.noise else ''}{self._label(law)}"
            self._let(key, name, density(mean, variance), "Tilting" if observation.noise else "Conditioning")
        return self._known[key]

    # -- the reduction
    # ----------------------------------------------------------------------------------------------------

    def reduce(self, integrand: sympy.Expr) -> sympy.Expr:
        """E[integrand], in defined symbols."""
        return sympy.Add(*(term.coefficient * self._term(term) for term in expand(integrand, self.variables)))

    def _term(self, term: Term) -> sympy.Expr:
        """E of one product: observations first, then what remains under the conditioned law."""
        weight: sympy.Expr = ONE
        law: tuple[Observation, ...] = ()
        if term.shift is not None:
            return self._shifted(term, term.shift)
        core = (term.powers, term.steps, term.softs, term.wave)
        for tilt in sorted(set(term.tilts), key=lambda f: f.key):
            noise = sympy.Rational(1, term.tilts.count(tilt))
            scale = tilt.linear[0][1]  # exp(-n (s x + c)^2/2): observe x + c/s with noise variance 1/(n s^2)
            observation = Observation(tilt.scaled(1 / scale), noise / scale**2)
            weight *= sympy.sqrt(2 * sympy.pi * observation.noise)
            factor, law, core = self._observe(observation, law, core)
            weight *= factor
        for delta in term.deltas:
            factor, law, core = self._observe(Observation(delta), law, core)
            weight *= factor
        return weight * self._by_parts(term.slopes, core, law) if weight != 0 else ZERO

    def _shifted(self, term: Term, shift: Form) -> sympy.Expr:
        """E[exp(l) F] = exp(E l + Var l / 2) E'[F], the means shifted by their covariance with l = `shift`."""
        key = ("shift", shift)
        if key not in self._known:
            exponent = self._mean_form(shift, ()) + self._variance(shift, ()) / 2
            self._let(key, f"z{shift.name}", sympy.exp(exponent), "Tilting")
            means = [
                self._let(
                    ("shifted mean", i, shift),
                    f"m{i}_e{shift.name}",
                    sympy.sympify(self.means[i]) + self._covariance_form(x, shift, ()),
                    "Tilting",
                )
                for i, x in enumerate(self.variables)
            ]
            self._shifts[shift] = GaussianAlgebra(
                self.variables, means, self.covariance, self.definitions, self.steps, self.printed, _names=self._names
            )
        return self._known[key] * self._shifts[shift]._term(replace(term, shift=None))

    def _observe(
        self, observation: Observation, law: tuple[Observation, ...], core: Core
    ) -> tuple[sympy.Expr, tuple[Observation, ...], Core]:
        """Condition on one more observation: its density, the new law, and the factors that it fixes evaluated."""
        powers, steps, softs, wave = core
        factor = self._density(observation, law)
        if not observation.noise:
            kept_steps, kept_softs = [], []
            for f in steps:
                fixed = self._fixed(f, observation.form)
                if fixed is None:
                    kept_steps.append(f)
                else:
                    factor *= sympy.Heaviside(fixed, HALF)
            for f in softs:
                fixed = self._fixed(f, observation.form)
                if fixed is None:
                    kept_softs.append(f)
                else:
                    factor *= Phi(fixed)
            steps, softs = tuple(kept_steps), tuple(kept_softs)
        new_law = tuple(sorted((*law, observation), key=lambda o: (o.noise == 0, o.key)))
        return factor, new_law, (powers, steps, softs, wave)

    @staticmethod
    def _fixed(f: Form, zero: Form) -> sympy.Expr | None:
        """The value of f where `zero` vanishes, if that fixes it."""
        if [x for x, _ in f.linear] != [x for x, _ in zero.linear]:
            return None
        ratio = f.linear[0][1] / zero.linear[0][1]
        difference = add(f, zero.scaled(-ratio))
        return difference.constant if not difference.linear else None

    def _remaining(
        self,
        powers: tuple[tuple[sympy.Symbol, int], ...],
        steps: tuple[Form, ...],
        softs: tuple[Form, ...],
        wave: tuple[str, Form] | None,
        law: tuple[Observation, ...],
    ) -> sympy.Expr:
        """E[prod x^n prod Heaviside prod Phi wave | law]."""
        key = ("average", powers, steps, softs, wave, law)
        if key in self._known:
            return self._known[key]
        indices = "".join(x.name.removeprefix("x") * n for x, n in powers)
        marks = "".join(f.name for f in (*steps, *softs)) + (wave[0][0] + wave[1].name if wave else "")
        name = (
            f"e{indices}{'_p' if indices and marks else ''}{marks}{self._label(law)}"
            if indices
            else f"p{marks}{self._label(law)}"
        )
        if not powers:
            return self._let(key, name, self._base(steps, softs, wave, law), "Orthant")
        (x, degree), *others = powers
        rest = ((x, degree - 1), *others) if degree > 1 else tuple(others)
        core = (rest, steps, softs, wave)
        total = self._mean(x, law) * self._remaining(*core, law)
        for weight, new_core, new_law in self._regressed(x, core, law):
            total += weight * self._remaining(*new_core, new_law)
        return self._let(key, name, sympy.expand(total, deep=False), "Stein")

    def _regressed(
        self, x: sympy.Symbol, core: Core, law: tuple[Observation, ...]
    ) -> Iterator[tuple[sympy.Expr, Core, tuple[Observation, ...]]]:
        """The terms of sum_j Cov(x, j) d_j of a product: their weights, what is left of the product, and the law."""
        powers, steps, softs, wave = core
        for i, (y, n) in enumerate(powers):
            lowered = (*powers[:i], *(((y, n - 1),) if n > 1 else ()), *powers[i + 1 :])
            yield n * self._covariance(x, y, law), (lowered, steps, softs, wave), law
        for kind, forms in (("step", steps), ("soft", softs)):
            for i, f in enumerate(forms):
                slope = self._covariance_form(x, f, law)
                if slope == 0:
                    continue
                others_ = forms[:i] + forms[i + 1 :]
                left = (powers, others_, softs, wave) if kind == "step" else (powers, steps, others_, wave)
                scale = sympy.Abs(f.linear[0][1])
                noise = ZERO if kind == "step" else 1 / scale**2
                unit = f.scaled(1 / f.linear[0][1])  # delta(f) = delta(unit)/scale, phi(f) likewise
                factor, new_law, left = self._observe(Observation(unit, noise), law, left)
                if factor != 0:
                    yield slope * factor / scale, left, new_law
        if wave:
            slope = self._covariance_form(x, wave[1], law)
            turned = ("sin", -ONE) if wave[0] == "cos" else ("cos", ONE)
            yield turned[1] * slope, (powers, steps, softs, (turned[0], wave[1])), law

    def _by_parts(self, slopes: tuple[tuple[Form, int], ...], core: Core, law: tuple[Observation, ...]) -> sympy.Expr:
        """E[prod delta^(n)(f) G | law], G the product that `core` stands for."""
        if not slopes:
            return self._remaining(*core, law)
        key = ("by parts", slopes, core, law)
        if key in self._known:
            return self._known[key]
        (f, n), *others = slopes
        ((x, _),) = f.linear

        def lower(order: int, core: Core, law: tuple[Observation, ...], others: Any = others) -> sympy.Expr:
            if order:
                return self._by_parts(((f, order), *others), core, law)
            factor, law, core = self._observe(Observation(f), law, core)
            return factor * self._by_parts(tuple(others), core, law) if factor != 0 else ZERO

        total = -self._mean_form(f, law) * lower(n - 1, core, law)
        if n > 1:
            total -= (n - 1) * lower(n - 2, core, law)
        for weight, new_core, new_law in self._regressed(x, core, law):
            total -= weight * lower(n - 1, new_core, new_law)
        for i, (h, m) in enumerate(others):
            raised = (*others[:i], (h, m + 1), *others[i + 1 :])
            total -= self._covariance_form(x, h, law) * lower(n - 1, core, law, raised)
        powers, steps, softs, wave = core
        marks = "".join(g.name for g in (*steps, *softs)) + (wave[0][0] + wave[1].name if wave else "")
        name = "s" + "".join(g.name * order for g, order in slopes)
        if indices := "".join(y.name.removeprefix("x") * order for y, order in powers):
            name += f"_e{indices}"
        value = sympy.expand(total, deep=False) / self._variance(f, law)
        return self._let(key, f"{name}{'_p' if marks else ''}{marks}{self._label(law)}", value, "By parts")

    def _base(
        self,
        steps: tuple[Form, ...],
        softs: tuple[Form, ...],
        wave: tuple[str, Form] | None,
        law: tuple[Observation, ...],
    ) -> sympy.Expr:
        """An orthant probability, or a Gaussian characteristic function."""
        if wave:
            if steps or softs:
                raise NoClosedForm(f"{wave[0]}({wave[1].expression()}) times a step: no closed form")
            function = sympy.cos if wave[0] == "cos" else sympy.sin
            mean, variance = self._mean_form(wave[1], law), self._variance(wave[1], law)
            return function(mean) * sympy.exp(-variance / 2)
        forms = [*steps, *softs]
        if len(forms) > 4:
            raise NoClosedForm(f"an orthant probability of {len(forms)} fields")
        label = self._label(law)
        limits, variances = [], []
        for f in forms:
            soft = f in softs
            key = ("limit", f, soft, law)
            variance = self._variance(f, law) + (ONE if soft else ZERO)
            if key not in self._known:
                self._let(key, f"h{f.name}{label}", self._mean_form(f, law) / sympy.sqrt(variance), "Orthant")
            limits.append(self._known[key])
            variances.append(variance)
        correlations = []
        for (i, f), (j, g) in combinations(enumerate(forms), 2):
            pair = ("correlation", f, g, i >= len(steps), j >= len(steps), law)
            if pair not in self._known:
                value = self._variance(f, law, g) / sympy.sqrt(variances[i] * variances[j])
                self._let(pair, f"r{f.name}{g.name}{label}", value, "Orthant")
            correlations.append(self._known[pair])
        return normal_probability(limits, correlations)
