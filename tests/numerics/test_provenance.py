"""Attributes give back what a result was computed from: every record, exactly; a stranger's file is only data."""

import json

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quenched.numerics import (
    Densities,
    GradientFlow,
    Mixture,
    OnlineSGD,
    OrderParameters,
    Spectrum,
    Teacher,
    TwoLayer,
    fixed_point,
    integrate,
    random_state,
    records_of,
    state_at,
)
from quenched.numerics.problem.provenance import provenance

XOR, NETWORK, FLOW = Mixture.xor(0.5), TwoLayer(2, "relu"), GradientFlow(weight_decay=0.1)

rates = st.none() | st.floats(0, 1e6)
sizes = st.floats(1e-3, 1e3)


def numbers(*shape: int) -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays(np.float64, shape, elements=st.floats(-1e6, 1e6))


@st.composite
def rules(draw: st.DrawFn) -> OnlineSGD:
    options = {"second_lr": draw(rates), "second_weight_decay": draw(rates), "weight_decay": draw(st.floats(0, 10))}
    if draw(st.booleans()):
        return GradientFlow(draw(sizes), **options)
    return OnlineSGD(draw(sizes), **options, label_noise=draw(st.floats(0, 2)))


@st.composite
def spectra(draw: st.DrawFn) -> Spectrum:
    nodes = draw(st.integers(2, 5))
    law = Spectrum(draw(hnp.arrays(np.float64, nodes, elements=st.floats(1e-6, 1e6))))
    return law.oriented(2, seed=draw(st.integers(0, 99))) if draw(st.booleans()) else law


@st.composite
def mixtures(draw: st.DrawFn) -> Mixture:
    C = draw(st.integers(1, 4))
    parts = np.array(draw(st.lists(st.integers(1, 9), min_size=C, max_size=C)))
    teacher = Teacher(draw(numbers(3, 2)), draw(numbers(3)), "erf") if draw(st.booleans()) else None
    return Mixture(
        draw(numbers(C, 2)),
        None if teacher else draw(st.lists(st.sampled_from([-1, 1]), min_size=C, max_size=C)),
        parts / parts.sum(),
        draw(sizes) if draw(st.booleans()) else draw(hnp.arrays(np.float64, C, elements=sizes)),
        draw(st.sampled_from([0.0, 0.25, 0.5])) if draw(st.booleans()) else draw(numbers(2)),
        spectrum=draw(st.none() | spectra()),
        teacher=teacher,
    )


@st.composite
def states(draw: st.DrawFn) -> OrderParameters | Densities:
    K = draw(st.integers(1, 3))
    if draw(st.booleans()):
        L = draw(hnp.arrays(np.float64, (2, K, K), elements=st.floats(-10, 10)))
        return Densities(draw(numbers(2, 1, K)), L @ L.swapaxes(1, 2), draw(numbers(K)))
    L = draw(hnp.arrays(np.float64, (K, K), elements=st.floats(-10, 10)))
    return OrderParameters(draw(numbers(4, K)), L @ L.T, draw(numbers(K)))


networks = st.builds(TwoLayer, st.integers(1, 9), st.sampled_from(["relu", "erf", "x**3"]), sizes)


@settings(max_examples=60, deadline=None)
@given(mixture=mixtures(), network=networks, rule=rules(), state=states())
def test_every_record_comes_back_equal(
    mixture: Mixture, network: TwoLayer, rule: OnlineSGD, state: OrderParameters | Densities
) -> None:
    given = {"mixture": mixture, "network": network, "rule": rule, "initial_state": state}
    found = records_of(provenance(**given, nested={"rules": {"one": rule, "two": [rule, 3]}}, seeds=[1, 2]))
    for name, record in given.items():
        assert type(found[name]) is type(record)
        assert found[name] == record
        assert hash(found[name]) == hash(record)
    assert found["nested"] == {"rules": {"one": rule, "two": [rule, 3]}}
    assert found["seeds"] == [1, 2]


def test_records_differ_where_a_number_or_the_kind_does() -> None:
    assert OnlineSGD(1.0) != GradientFlow()
    assert Mixture.xor(0.5) != Mixture.xor(np.nextafter(0.5, 1))
    assert Mixture.xor(0.5) == Mixture.parity(0.5) or Mixture.parity(0.5) != XOR
    assert len({Mixture.xor(0.5), Mixture.xor(0.5), Mixture.xor(0.6)}) == 2
    assert XOR != "xor"
    assert OrderParameters([[0.0]], [[1.0]], [1.0]) == OrderParameters([[-0.0]], [[1.0]], [1.0])


def test_a_result_gives_back_its_problem_and_its_states_through_a_file(tmp_path) -> None:
    start = random_state(XOR, NETWORK, D=100, seed=0)
    run = integrate(XOR, NETWORK, FLOW, start, [0.0, 1.5, 3.0])
    run.to_netcdf(tmp_path / "run.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "run.nc", engine="h5netcdf") as read:
        found = records_of(read)
        assert (found["mixture"], found["network"], found["initial_state"]) == (XOR, NETWORK, start)
        assert FLOW in found.values()
        assert type(next(value for value in found.values() if value == FLOW)) is GradientFlow
        assert state_at(read, 0.0) == OrderParameters(run.M[0], run.Q[0], run.v[0])
        # starting anew from the state at 1.5 ends where the run does; errors of 1e-8 a step, over tens of steps
        rest = integrate(XOR, NETWORK, FLOW, state_at(read, 1.5), [1.5])
        np.testing.assert_allclose(rest.Q[-1], run.Q[-1], atol=1e-6)


def test_states_with_nodes_and_with_a_teacher() -> None:
    law = Mixture([[1.0], [-1.0]], [1, -1], spectrum=Spectrum.two_level(0.5, 2.0, 0.25))
    start = Densities.spread(law, OrderParameters([[0.5], [-0.5]], [[1.0]], [1.0]))
    network = TwoLayer(1, "erf")
    assert state_at(integrate(law, network, FLOW, start, [0.0, 1.0]), 0.0) == start
    student = Mixture([[0.0]], teacher=Teacher([[1.0]], [1.0], "erf"))
    begin = OrderParameters([[0.0], [0.3]], [[1.0]], [1.0])
    again = state_at(integrate(student, network, FLOW, begin, [0.0]))
    np.testing.assert_allclose(again.M, begin.M, atol=1e-15)
    again.check(student)
    point = fixed_point(XOR, NETWORK, GradientFlow(weight_decay=0.05), seed=1)
    assert records_of(point.attrs)["mixture"] == XOR


def test_large_arrays_are_packed_and_too_large_ones_say_so() -> None:
    rng = np.random.default_rng(0)
    for n in (1500, 5000):
        law = Mixture([[1.0], [-1.0]], [1, -1], spectrum=Spectrum(rng.uniform(0.5, 2.0, n)))
        attributes = provenance(mixture=law)
        assert len(attributes["mixture"]) < 64_000
        assert records_of(attributes)["mixture"] == law
    huge = provenance(mixture=Mixture([[1.0]], [1], spectrum=Spectrum(rng.uniform(0.5, 2.0, 50_000))))
    with pytest.raises(ValueError, match=r"'mixture' keeps only the shape .* and a digest"):
        records_of(huge)


def test_files_from_before_there_were_kinds() -> None:
    old = {name: text for name, text in provenance(mixture=XOR, sgd=FLOW, network=NETWORK).items() if name != "kinds"}
    assert records_of(old)["sgd"] == FLOW
    assert records_of(old | {"sgd": provenance(sgd=OnlineSGD(1.0))["sgd"]})["sgd"] == OnlineSGD(1.0)


STRANGE = [
    ({"mixture": "{}", "kinds": '{"mixture": "Mixture"}'}, "does not hold a Mixture: Mixture needs the field 'means'"),
    ({"mixture": '{"means": [[1]], "evil": 1}', "kinds": '{"mixture": "Mixture"}'}, "got the field 'evil'"),
    ({"mixture": "[1]", "kinds": '{"mixture": "Mixture"}'}, "made of the fields"),
    ({"mixture": "{}", "kinds": '{"mixture": "Popen"}'}, "kinds must name one of .*, got 'Popen'"),
    ({"mixture": "{}", "kinds": '{"mixture": ["Mixture"]}'}, "kinds must name one of"),
    ({"mixture": "{}", "kinds": "[]"}, r"kinds must name the records by attribute, got \[\]"),
    ({"x": '{"shape": [9], "sha256": "0", "zlib": "?"}'}, "data cannot be unpacked"),
    ({"x": '{"shape": [9], "sha256": "0", "zlib": "eJwDAAAAAAE="}'}, "do not have its shape"),
    ({"x": '{"shape": "?", "sha256": "0"}'}, "an array must have a shape"),
    (3, "dataset must be a dataset or a mapping of attributes, got 3"),
]


@pytest.mark.parametrize(("attributes", "message"), STRANGE, ids=[m[:40] for _, m in STRANGE])
def test_a_strangers_attributes_are_data(attributes: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        records_of(attributes)


def test_text_that_is_no_json_stays_text() -> None:
    evil = "__import__('os').system('true')"
    assert records_of({"history": evil, "deep": "[" * 10**5}) == {"history": evil, "deep": "[" * 10**5}
    assert json.loads(provenance(a=1)["a"]) == 1


@pytest.mark.parametrize(
    ("change", "t", "message"),
    [
        (lambda run: run, 0.5, r"t must be one of the 2 recorded times, got 0.5; the nearest is"),
        (lambda run: run, "1", "t must be a real number, got '1'"),
        (lambda run: run, None, "t must be one of the 2 recorded times, got None"),
        (lambda run: run.isel(time=0, drop=True), 1.0, "t must be left out"),
        (lambda run: run.drop_vars("Q"), 1.0, "must hold a state, .* none called Q"),
        (lambda run: xr.concat([run, run], "seed"), 1.0, r"choose one of them first, dataset.isel\(seed=0\)"),
        (lambda run: run.attrs, 1.0, "dataset must hold a state"),
    ],
)
def test_a_state_that_is_not_there(change, t, message: str) -> None:
    run = integrate(XOR, NETWORK, FLOW, random_state(XOR, NETWORK, D=100, seed=0), [0.0, 1.0])
    with pytest.raises(ValueError, match=message):
        state_at(change(run), t)
