"""A problem as one record: what is learned, by whom, how, for how long, from where, with which seeds.

The same description is a TOML file (`quenched.sim.specifications`), this record, and the attributes of every dataset
that is computed from it:

    file  --read_problem-->  Specification  --integrate, simulate, ..-->  dataset  --problem_of-->  Specification

so that a result can be computed again from its file alone, and `toml()` writes a description that gives the same
records back to the last bit.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from quenched.numerics.course.pieces import Mixtures, Rules, joint_mixture, timed
from quenched.numerics.problem.checks import (
    LEFT_OUT,
    Record,
    choice,
    increasing_times,
    integer,
    integers,
    noise_levels,
    number,
    record,
    shown,
)
from quenched.numerics.problem.learner import Options
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.provenance import records_of
from quenched.numerics.problem.rules import GradientFlow, LearningRule
from quenched.numerics.problem.state import Densities, OrderParameters
from quenched.numerics.scaling.power_law import PowerLaw, PowerLawProblem, power_law_problem

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Specification", "problem_of"]

Array = npt.NDArray[np.float64]
Lent = TypeVar("Lent", bound=Options)


@dataclass(frozen=True, eq=False, repr=False)
class Specification(Record):
    """One problem; what is None is not part of it, and whoever needs it has a default or says that it is missing.

    `mixture`, `network`, `rule`: the law of the data, the network, the learning rule.  A problem that changes in time
    has pairs (mixture, until) or (rule, until) in their place (`quenched.numerics.course.pieces`).

    `D`: input dimension; `t`: increasing times in units of D steps.  The initial state is `state`, or else that of
    Gaussian random weights of the seed `initial`, v_k ~ N(0, `readout_scale`^2/K).  `seeds`: those of simulations;
    `engine` and `test_samples` as in `quenched.sim.simulate`.  `sigma`: noise levels of an error curve, and `learner`:
    its learners, name -> options.

    `power_law`: a power-law problem, and `draw` the seed of its features: mixture, network, rule and state are then
    those of `power_law_problem`, and are left out.

    ValueError: a part that is none, by its name.

    >>> problem = Specification(Mixture.xor(0.5), TwoLayer(2, "erf"), GradientFlow(), D=100, t=[1.0], initial=3)
    >>> problem.start().K, problem.given
    (2, ('mixture', 'network', 'rule', 'D', 't', 'initial'))
    """

    mixture: Mixtures = LEFT_OUT
    network: TwoLayer | None = None
    rule: Rules | None = None
    D: int | None = None
    t: Array = LEFT_OUT
    initial: int | None = None
    readout_scale: float | None = None
    state: OrderParameters | Densities | None = None
    seeds: tuple[int, ...] | None = None
    engine: str | None = None
    test_samples: int | None = None
    sigma: Array = LEFT_OUT
    learner: Mapping[str, Options] | None = None
    power_law: PowerLaw | None = None
    draw: int | None = None

    def __post_init__(self) -> None:
        if self.power_law is not None or self.draw is not None:
            self._draw()
        else:
            self._set(mixture=_in_time("mixture", self.mixture, Mixture))
        if self.rule is not None:
            self._set(rule=_in_time("rule", self.rule, LearningRule))
        kinds: dict[str, Any] = {"network": TwoLayer, "state": (OrderParameters, Densities)}
        for name, kind in kinds.items():
            if (value := getattr(self, name)) is not None:
                record(name, value, kind)
        checked: dict[str, Any] = {
            "D": lambda value: integer("D", value, at_least=1),
            "t": lambda value: increasing_times("t", value),
            "initial": lambda value: integer("initial", value),
            "readout_scale": lambda value: number("readout_scale", value),
            "seeds": lambda value: integers("seeds", value),
            "engine": lambda value: record("engine", value, str),
            "test_samples": lambda value: integer("test_samples", value, at_least=1),
            "sigma": lambda value: noise_levels("sigma", value),
            "learner": _learners,
        }
        self._set(
            **{name: check(value) for name, check in checked.items() if (value := getattr(self, name)) is not None}
        )
        if self.state is not None and self.network is not None and self.state.K != self.network.K:
            raise ValueError(f"state must have K = {self.network.K} neurons like the network, got {self.state.K}")
        if self.state is not None and self.initial is not None:
            raise ValueError(f"initial must be left out where a state is given, got {self.initial}")
        if self.changes:
            joint_mixture(self.mixture)  # refuses mixtures that no network meets one after the other
            for name in ("sigma", "learner"):
                if getattr(self, name) is not None:
                    raise ValueError(
                        f"{name} must be left out where a problem changes in time: error curves are of one"
                    )

    def _draw(self) -> None:
        """The records of a power law, at the features of the seed `draw`; none of them without it."""
        if self.draw is not None:
            self._set(draw=integer("draw", self.draw))
        law = record("power_law", self.power_law, PowerLaw)
        made: dict[str, Any] = dict.fromkeys(("mixture", "network", "rule", "state"))
        if self.draw is not None:
            made = power_law_problem(law, self.draw)._asdict()
        for name, value in made.items():
            if (given := getattr(self, name)) is not None and given != value:
                raise ValueError(f"{name} must be left out where a power law with a draw makes it, got {shown(given)}")
        self._set(**made)

    @property
    def changes(self) -> bool:
        """Whether mixture or rule change in time: there are pairs in their place."""
        return isinstance(self.mixture, tuple) or isinstance(self.rule, tuple)

    def constant(self, purpose: str) -> Mixture:
        """The one mixture.  ValueError: there is none, or mixture or rule change in time, unknown to the `purpose`.

        >>> Specification([(Mixture.xor(0.5), 1.0), (Mixture.xor(0.4), None)]).constant("fixed points")
        Traceback (most recent call last):
        ...
        ValueError: mixture must not change in time for fixed points, got 2 pieces
        """
        self.need("mixture")
        for name in ("mixture", "rule"):
            if isinstance(value := getattr(self, name), tuple):
                raise ValueError(f"{name} must not change in time for {purpose}, got {len(value)} pieces")
        return record("mixture", self.mixture, Mixture)

    def _key(self) -> tuple[Any, ...]:
        """The learners in any order."""
        kind, *parts = super()._key()
        return kind, *(frozenset(part.items()) if isinstance(part, dict) else part for part in parts)

    @property
    def given(self) -> tuple[str, ...]:
        """The names of its parts that are not None."""
        return tuple(each.name for each in fields(self) if getattr(self, each.name) is not None)

    def need(self, *names: str) -> None:
        """ValueError unless it has these parts.

        >>> Specification(Mixture.xor(0.5)).need("mixture", "rule")
        Traceback (most recent call last):
        ...
        ValueError: rule must be part of the specification, which has only mixture
        """
        for name in names:
            if getattr(self, name) is None:
                if self.power_law is not None:
                    raise ValueError(f"draw, the seed of the features, must be beside power_law: it makes the {name}")
                raise ValueError(f"{name} must be part of the specification, which has only {', '.join(self.given)}")

    def start(self) -> OrderParameters | Densities:
        """The initial state: `state`, or that of random weights of the seed `initial` (None: 0) in dimension D.

        D is 1000 if it is None, or the number of eigenvalues of the inputs.  ValueError: there is no network.
        """
        from quenched.numerics.two_layer.flow import random_state

        if self.state is not None:
            return self.state
        self.need("mixture", "network")
        network = record("network", self.network, TwoLayer)
        scale = 1.0 if self.readout_scale is None else self.readout_scale
        D = self.D or joint_mixture(self.mixture).default_dimension
        return random_state(self.mixture, network, D, self.initial or 0, readout_scale=scale)

    def lend(self, options: Lent) -> Lent:
        """The options of a learner at what is said here: those with a network have this network, rule, last time, D and
        initial state; others stay as they are.
        """
        values = {each.name: getattr(options, each.name) for each in fields(options) if each.init}
        if not isinstance(values.get("network"), TwoLayer):
            return options
        said: dict[str, Any] = {"network": self.network, "rule": self.rule, "D": self.D}
        said |= {"t": None if self.t is None else float(self.t[-1])}
        said |= {"initial": self.initial, "readout_scale": self.readout_scale}
        return replace(options, **{name: one for name, one in said.items() if one is not None and name in values})

    def toml(self) -> str:
        """The specification as a TOML file that `quenched.sim.read_problem` reads back, equal in every bit.

        >>> print(Specification(Mixture.two_clusters(0.5), TwoLayer(2, "erf"), D=100).toml(), end="")
        D = 100
        <BLANKLINE>
        [mixture]
        kind = "means"
        means = [[1.0], [-1.0]]
        labels = [1.0, -1.0]
        sigma = 0.5
        <BLANKLINE>
        [network]
        K = 2
        activation = "erf"
        """
        told = [name for name in self.given if self.power_law is None or name not in PowerLawProblem._fields]
        tables = {name: _tables(value) for name in told if _tabular(value := getattr(self, name))}
        plain = [name for name in told if name not in (*tables, "learner")]
        blocks = ["".join(f"{name} = {_toml(getattr(self, name))}\n" for name in plain)]
        for name, several in tables.items():
            title = f"[{name}]" if len(several) == 1 and "until" not in several[0] else f"[[{name}]]"
            blocks += [_block(title, table) for table in several]
        for name, options in (self.learner or {}).items():
            blocks.append(_block("[[learner]]", {"kind": name} | self._beyond(name, options)))
        return "\n".join(block for block in blocks if block)

    def _beyond(self, name: str, options: Options) -> dict[str, Any]:
        """What the options of a learner have that it would not take from the rest of the specification."""
        from quenched.numerics.learners import learners

        usual, found = self.lend(learners()[name].options), {}
        for each in fields(options):
            one = getattr(options, each.name)
            if one == getattr(usual, each.name):
                continue
            if one is None and each.name == "D":  # TOML has no None: the number that it stands for
                one = joint_mixture(self.mixture).default_dimension
            found[each.name] = _of_rule(one) if isinstance(one, LearningRule) else one
        return found


def _in_time(name: str, value: Any, kind: type[Record]) -> Any:
    """A record as it is, pairs of one and its end as tuples; what has no end has None."""
    pairs = timed(name, value, kind)
    return value if isinstance(value, kind) else tuple((each, None if math.isinf(t) else t) for each, t in pairs)


def _learners(value: Any) -> dict[str, Options]:
    from quenched.numerics.learners import learners

    table = learners()
    if not isinstance(value, Mapping) or not value:
        raise ValueError(f"learner must be a mapping of names of learners to their options, got {shown(value)}")
    for name, options in value.items():
        choice("learner", name, table)
        record(f"learner[{name!r}]", options, type(table[name].options))
    return dict(value)


# --- as text


def _tabular(value: Any) -> bool:
    """Whether a part is written as tables: a record, or pairs of one and its end."""
    return isinstance(value, Record) or (isinstance(value, tuple) and isinstance(value[0], tuple))


def _tables(value: Record | Sequence[tuple[Record, float | None]]) -> list[dict[str, Any]]:
    """The table of a record, or those of pairs, with the times until which they hold.

    The last has none where it has no end, unless it is the only one: a table alone is that of a record.
    """
    if isinstance(value, Record):
        kind = {"kind": "means"} if isinstance(value, Mixture) else {}
        return [kind | (_of_rule(value) if isinstance(value, LearningRule) else _changed(value))]
    found = []
    for each, until in value:
        end = math.inf if until is None and len(value) == 1 else until
        found.append(({} if end is None else {"until": end}) | _tables(each)[0])
    return found


def _block(title: str, table: Mapping[str, Any]) -> str:
    return f"{title}\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in table.items())


def _changed(value: Record) -> dict[str, Any]:
    """The fields of a record that differ from their defaults, or have none, as TOML can say them."""
    found: dict[str, Any] = {}
    for each in fields(value):
        one = getattr(value, each.name)
        if not each.init or one is None:
            continue
        default = each.default
        if not isinstance(one, np.ndarray) and type(one) is type(default) and one == default:
            continue
        found[each.name] = _of_rule(one) if isinstance(one, LearningRule) else one
    if isinstance(value, Mixture):
        if value.teacher is not None or value.classes is not None:
            del found["labels"]
        if (value.weights == 1 / value.clusters).all():
            del found["weights"]
        for name in {"sigma", "scaling"} & set(found):
            if np.ndim(found[name]):  # one for each cluster or coordinate: a list alone would be an axis of a sweep
                found[name] = [found[name]]
    return found


def _of_rule(rule: LearningRule) -> dict[str, Any]:
    kind = {"kind": "gradient-flow"} if isinstance(rule, GradientFlow) else {}
    return kind | {"lr": rule.lr} | _changed(rule)


def _toml(value: Any) -> str:
    """A value of TOML: floats by the shortest text that is read back as the same number."""
    if isinstance(value, Record):
        return _toml(_changed(value))
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(part)}" for key, part in value.items()) + " }"
    if isinstance(value, (np.ndarray, np.generic)):
        return _toml(value.tolist())
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if value == math.inf:
        return "inf"
    return json.dumps(value)  # texts, booleans, integers and finite floats are written alike in JSON and TOML


# --- from datasets


def problem_of(dataset: xr.Dataset | Mapping[str, Any]) -> Specification:
    """The problem that a dataset was computed from, its records equal to those that were given.

    Of `integrate`, `simulate`, `compare` (its table), `fixed_points`, `fluctuations`, `curve`, error curves, message
    passing, features and kernels, risks of power laws; of a cell of a sweep,
    `problem_of(results.isel(mixture=0, network=0, rule=0, D=0))`; or of a mapping of attributes, such as those of a
    solution.  A problem that changed in time has its pairs again.  What else a result depends on, such as tolerances,
    is in `records_of`.

    ValueError: there is no problem in it, or several.

    >>> from dataclasses import replace
    >>> from quenched.numerics import integrate
    >>> given = Specification(Mixture.xor(0.5), TwoLayer(1, "erf"), GradientFlow(), t=[0.0, 1.0])
    >>> found = problem_of(integrate(given.mixture, given.network, given.rule, given.start(), given.t))
    >>> found == replace(given, state=given.start())
    True
    """
    found = records_of(dataset)
    if "sweep" in found:
        found = _cell(dataset, found["sweep"])
    law = found.get("law")
    if "mixture" not in found and isinstance(law, PowerLaw):
        return Specification(power_law=law, draw=found.get("seed"))
    if not isinstance(found.get("mixture"), (Mixture, list)):
        raise ValueError(f"dataset must have the attribute mixture, got only {', '.join(found) or 'none'}")
    parts: dict[str, Any] = {"mixture": found["mixture"]}
    parts |= {"network": found.get("network"), "rule": found.get("sgd", found.get("rule"))}
    state = found.get("initial_state")
    parts["state"] = state if isinstance(state, (OrderParameters, Densities)) else None
    about = {**_mapping(found.get("start")), **_mapping(found.get("simulation"))}
    for name in ("D", "engine", "test_samples"):
        parts[name] = about.get(name, found.get(name))
    parts |= {name: found.get(name) for name in ("initial", "readout_scale", "seeds")}
    parts |= _axes(dataset, found)
    if "learners" in found:
        parts["learner"] = _options(found["learners"])
    return Specification(**parts)


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _axes(dataset: Any, found: Mapping[str, Any]) -> dict[str, Any]:
    """Times, noise levels and seeds, where the dataset runs along them."""
    parts: dict[str, Any] = {}
    coordinates = getattr(dataset, "coords", {})
    if "time" in coordinates:
        parts["t"] = np.atleast_1d(coordinates["time"].values)
    elif (t := found.get("t")) is not None:
        parts["t"] = t
    if "sigma" in getattr(dataset, "dims", ()) and "learner" in dataset.dims:
        parts["sigma"] = coordinates["sigma"].values
    if "seeds" not in found and "initial" in coordinates and "learners" not in found:  # fixed points
        parts["seeds"] = [int(seed) for seed in np.atleast_1d(coordinates["initial"].values)]
        parts["initial"] = None
    return parts


def _options(given: Any) -> dict[str, Options]:
    from quenched.numerics.learners import learners

    table, found = learners(), {}
    for name, values in _mapping(given).items():
        choice("learners", name, table)
        found[name] = type(table[name].options).from_dict(values, f"learners[{name!r}]")
    return found


def _cell(dataset: Any, sweep: Any) -> dict[str, Any]:
    """The records of the one cell of a sweep that is left in a dataset."""
    chosen: dict[str, Any] = {}
    for name in ("mixture", "network", "rule", "D"):
        values = np.atleast_1d(dataset[name].values) if name in getattr(dataset, "coords", {}) else np.array([])
        if len(values) != 1:
            raise ValueError(
                f"dataset must hold one problem, got {len(values)} along {name}: choose one of them first, "
                f"dataset.isel({name}=0)"
            )
        chosen[name] = int(values[0]) if name == "D" else sweep[f"{name}s"][str(values[0])]
    chosen["seeds"] = [int(seed) for seed in np.atleast_1d(dataset["seed"].values)]
    return chosen | {name: sweep[name] for name in ("engine", "test_samples", "initial", "readout_scale")}
