"""Records hold what they were given, in validated form, and refuse the rest by name and value."""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.provenance import provenance
from quenched.numerics.problem.rules import GradientFlow, OnlineSGD
from quenched.numerics.problem.spectrum import Spectrum
from quenched.numerics.problem.state import OrderParameters

MIXTURES = {
    "xor": Mixture.xor(0.5, separation=1.5),
    "two_clusters": Mixture.two_clusters(1.0),
    "three_clusters": Mixture.three_clusters(0.7, scaling=0.25),
    "ring": Mixture.ring(5, 0.3, separation=2.0),
    "parity": Mixture.parity(0.4, lengths=(1.0, 0.5), scaling=(0.5, 0.0)),
    "sigmas": Mixture([[1.0], [-1.0]], [1, -1], [0.25, 0.75], sigma=[0.5, 1.0]),
}
RECORDS = MIXTURES | {
    "network": TwoLayer(4, "relu", 0.5),
    "sgd": OnlineSGD(0.1, second_lr=0.0, label_noise=0.1),
    "flow": GradientFlow(second_lr=0.5, weight_decay=0.1),
    "state": OrderParameters([[0.5], [-0.5]], [[1.0]], [2.0]),
}


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS.keys())
def test_a_record_survives_json_and_is_read_only(record: Mixture) -> None:
    fields = json.loads(json.dumps(record.to_dict()))
    assert type(record)(**fields).to_dict() == record.to_dict() == json.loads(provenance(it=record)["it"])
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(record, next(iter(fields)), 0)
    for value in vars(record).values():
        assert not isinstance(value, np.ndarray) or not value.flags.writeable


@pytest.mark.parametrize("mixture", MIXTURES.values(), ids=MIXTURES.keys())
def test_the_named_mixtures_are_balanced(mixture: Mixture) -> None:
    """Equal label weights and a centre at 0, except where the test mixture says otherwise by its weights."""
    if mixture is not MIXTURES["sigmas"]:
        assert mixture.weights @ mixture.labels == pytest.approx(0, abs=1e-15)
        np.testing.assert_allclose(mixture.weights @ mixture.means, 0, atol=1e-15)
    assert mixture.T.shape == (mixture.clusters, mixture.clusters)
    np.testing.assert_array_equal(mixture.at(1), mixture.means)


def test_the_named_mixtures_against_their_definitions() -> None:
    xor = Mixture.xor(0.5, separation=2.0)
    for mean, label in zip(xor.means, xor.labels, strict=True):
        assert np.abs(mean).tolist() == ([2, 0] if label == -1 else [0, 2])
    ring = Mixture.ring(2, 0.5, separation=2.0)  # the same clusters, in the order of their angles
    assert sorted(zip(ring.means.tolist(), ring.labels, strict=True)) == sorted(
        zip(xor.means.tolist(), xor.labels, strict=True)
    )
    np.testing.assert_array_equal(Mixture.ring(3, 1.0).labels, [-1, 1, -1, 1, -1, 1])
    parity = Mixture.parity(0.5, lengths=(3.0, 2.0), scaling=(0.5, 0.0))
    np.testing.assert_array_equal(parity.labels, np.sign(parity.means).prod(axis=1))
    np.testing.assert_array_equal(np.abs(parity.at(100)), np.tile([30.0, 2.0], (4, 1)))
    np.testing.assert_array_equal(MIXTURES["sigmas"].sigmas, [0.5, 1.0])
    assert xor.isotropic_sigma == 0.5
    with pytest.raises(ValueError, match=r"sigma must be the same for all clusters here, got \[0.5, 1.0\]"):
        _ = MIXTURES["sigmas"].isotropic_sigma


def test_from_data_recovers_the_mixture_it_was_drawn_from() -> None:
    """Means come out with errors sigma/sqrt(n_a) per component; T, a sum over D components, with the bias
    sigma^2 D/n_a (1 - P_a on the diagonal after centring) = 0.02 and fluctuations sigma/sqrt(n_a) of the same size."""
    rng = np.random.default_rng(0)
    truth, D, n = Mixture.xor(0.5, separation=1.0), 20, 4000
    basis = np.linalg.qr(rng.standard_normal((D, 2)))[0]
    a = rng.integers(4, size=n)
    X = truth.means[a] @ basis.T + 0.5 * rng.standard_normal((n, D)) + 7.0
    mixture = Mixture.from_data(X, a, truth.labels[a])
    assert mixture.means.shape == (4, 3)  # centred means of 4 clusters span 3 dimensions, one of them only noise
    np.testing.assert_array_equal(mixture.labels, truth.labels)
    np.testing.assert_allclose(mixture.weights, np.bincount(a) / n)
    np.testing.assert_allclose(mixture.T, truth.T, atol=5 * 0.02)
    # the pooled variance averages nD squares: relative error sqrt(2/(nD)), halved for sigma; 5 of them
    assert mixture.isotropic_sigma == pytest.approx(0.5, rel=5 * 0.5 * np.sqrt(2 / (n * D)))
    # the coordinates keep every inner product of the class means
    means = np.stack([X[a == b].mean(axis=0) for b in range(4)])
    np.testing.assert_allclose(Mixture.from_data(X, a, truth.labels[a], centre=False).T, means @ means.T, rtol=1e-12)


def test_a_single_centred_cluster_has_its_mean_at_the_origin() -> None:
    mixture = Mixture.from_data([[1.0, 2.0], [3.0, 2.0]], ["a", "a"], [1, 1])
    assert mixture.means.tolist() == [[0.0]]


def test_rates_of_the_second_layer_follow_the_first_unless_set() -> None:
    sgd = OnlineSGD(0.1, 0.01)
    assert (sgd.eta, sgd.kappa, sgd.eta_v, sgd.kappa_v) == (0.1, 0.01, 0.1, 0.01)
    sgd = OnlineSGD(0.1, 0.01, second_lr=0.0, second_weight_decay=0.5)
    assert (sgd.eta_v, sgd.kappa_v) == (0.0, 0.5)


def test_projections_give_back_M_and_allow_singular_states() -> None:
    mixture, rng = Mixture.xor(1.0), np.random.default_rng(1)
    A = rng.standard_normal((2, 3))
    state = OrderParameters(mixture.means @ A, A.T @ A, np.ones(3))  # all weights in the span of the means
    np.testing.assert_allclose(state.projections(mixture), A, atol=1e-14)
    state.check(mixture)
    scaled = Mixture.xor(1.0, scaling=0.5)
    np.testing.assert_allclose(OrderParameters(scaled.at(9) @ A, A.T @ A, np.ones(3)).projections(scaled, D=9), A)
    with pytest.raises(ValueError, match=r"D must be given .*, scaling=0\.5"):
        state.check(scaled)


XOR = Mixture.xor(1.0)
BAD: list[tuple[Callable[[], object], str]] = [
    (lambda: Mixture([1.0, 2.0], [1, -1]), r"means must have shape \(any, any\), got \(2,\)"),
    (lambda: Mixture(np.zeros((0, 1)), []), r"means must have shape \(any, any\), got \(0, 1\)"),
    (lambda: Mixture([["a"]], [1]), "means must be an array of real numbers, got"),
    (lambda: Mixture([[np.nan]], [1]), r"means must be finite, got nan at index \(0, 0\)"),
    (lambda: Mixture([[1.0], [2.0]], [1]), r"labels must have shape \(2,\), got \(1,\)"),
    (lambda: Mixture([[1.0], [2.0]], [1, 0]), r"labels must be \+1 or -1, got 0.0"),
    (lambda: Mixture([[1.0], [2.0]], [1, 1], [0.5, 0.6]), "weights must sum to 1, got a sum of 1.1"),
    (lambda: Mixture([[1.0], [2.0]], [1, 1], [1.5, -0.5]), "weights must be > 0, got -0.5"),
    (lambda: Mixture([[1.0]], [1], sigma=0.0), "sigma must be finite and > 0, got 0.0"),
    (lambda: Mixture([[1.0]], [1], sigma=[-1.0]), "sigma must be > 0, got -1.0"),
    (lambda: Mixture([[1.0]], [1], sigma=np.inf), "sigma must be finite and > 0, got inf"),
    (lambda: Mixture([[1.0]], [1], scaling=np.nan), r"scaling must be finite, got nan at index \(\)"),
    (lambda: Mixture([[1.0]], [1], scaling=[0.0, 1.0]), r"scaling must have shape \(1,\), got \(2,\)"),
    (lambda: Mixture.xor(-1.0), "sigma must be finite and > 0, got -1.0"),
    (lambda: Mixture.xor(1.0, separation=0.0), "separation must be finite and > 0, got 0.0"),
    (lambda: Mixture.ring(0, 1.0), "m must be an integer >= 1, got 0"),
    (lambda: Mixture.parity(1.0, lengths=(1.0, -2.0)), "lengths must be finite and > 0, got -2.0"),
    (lambda: XOR.at(0), "D must be finite and > 0, got 0"),
    (lambda: Mixture.from_data([[1.0], [2.0], [3.0]], [0, 0, 1], [1, -1, 1]), "both in cluster 0"),
    (
        lambda: Mixture.from_data([[1.0], [2.0], [3.0]], [0, 1], [1, 1, 1]),
        r"cluster must have shape \(3,\), got \(2,\)",
    ),
    (lambda: Mixture.from_data([[1.0], [2.0]], [0, 1], [1, 1]), "X must hold more samples than the 2 clusters, got 2"),
    (lambda: Mixture.from_data([[1.0], [1.0]], [0, 0], [1, 1]), "X must vary within clusters"),
    (lambda: TwoLayer(0, "relu"), "K must be an integer >= 1, got 0"),
    (lambda: TwoLayer(2.0, "relu"), "K must be an integer >= 1, got 2.0"),  # type: ignore[arg-type]
    (lambda: TwoLayer(True, "relu"), "K must be an integer >= 1, got True"),
    (lambda: TwoLayer(2, " "), "activation must be a name or an expression in x, got ' '"),
    (lambda: TwoLayer(2, None), "activation must be a name or an expression in x, got None"),  # type: ignore[arg-type]
    (lambda: TwoLayer(2, "relu", output_scale=0), "output_scale must be finite and > 0, got 0"),
    (lambda: OnlineSGD(np.nan), "lr must be finite and >= 0, got nan"),
    (lambda: OnlineSGD("fast"), "lr must be a number, an expression in t, or a table .*'fast' is not understood"),
    (lambda: OnlineSGD(0.1, -1), "weight_decay must be finite and >= 0, got -1"),
    (lambda: OnlineSGD(0.1, second_lr=-1), "second_lr must be finite and >= 0, got -1"),
    (lambda: OnlineSGD(0.1, second_weight_decay=-1), "second_weight_decay must be finite and >= 0, got -1"),
    (lambda: OnlineSGD(0.1, label_noise=-1), "label_noise must be finite and >= 0, got -1"),
    (lambda: OrderParameters([[1.0, 2.0]], [[1.0]], [1.0]), r"Q must have shape \(2, 2\), got \(1, 1\)"),
    (lambda: OrderParameters([[1.0]], [[1.0]], [1.0, 1.0]), r"v must have shape \(1,\), got \(2,\)"),
    (lambda: OrderParameters([[1.0]], [[np.inf]], [1.0]), r"Q must be finite, got inf at index \(0, 0\)"),
    (lambda: OrderParameters([[1, 1]], [[1, 2], [0, 1]], [1, 1]), r"Q must be symmetric, got \|Q - Q\^T\| up to 2"),
    (
        lambda: OrderParameters([[1, 1]], [[1, 2], [2, 1]], [1, 1]),
        "Q must be positive semi-definite, got the eig.* -1$",
    ),
    (lambda: OrderParameters([[1]] * 4, [[9]], [1]).check(XOR), "M is not consistent with the .* means: off by 1"),
    (lambda: OrderParameters([[2], [-2], [0], [0]], [[1]], [1]).check(XOR), "Q is too small for M: .* eigenvalue -3,"),
    (lambda: OrderParameters([[2]], [[1]], [1]).check(XOR), r"M must have one row per cluster, 4, got shape \(1, 1\)"),
]


@pytest.mark.parametrize(("make", "message"), BAD, ids=[message[:60] for _, message in BAD])
def test_bad_input_is_refused_by_name_and_value(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_derivatives_are_not_states() -> None:
    derivative = OrderParameters.derivative([[1.0, 1.0]], [[-1.0, 0.5], [0.5, -2.0]], [0.0, 0.0])
    assert derivative.Q[1, 1] == -2.0
    with pytest.raises(ValueError, match="Q must be finite"):
        OrderParameters.derivative([[1.0]], [[np.nan]], [0.0])


def test_importing_the_records_is_light() -> None:
    """No sympy, xarray, numba or matplotlib: what makes `import quenched.numerics` slow is imported on first use."""
    code = (
        "import sys, quenched.numerics as q; q.Mixture; q.OrderParameters;"
        "print({'sympy', 'xarray', 'numba', 'matplotlib', 'mpmath'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_provenance_keeps_large_arrays_as_digests_that_tell_them_apart() -> None:
    small, large = (Mixture([[1.0], [-1.0]], [1, -1], spectrum=Spectrum(np.linspace(1, 2, n))) for n in (5, 2000))
    assert json.loads(provenance(mixture=small)["mixture"])["spectrum"]["eigenvalues"] == [1.0, 1.25, 1.5, 1.75, 2.0]
    text = provenance(mixture=large)["mixture"]
    assert json.loads(text)["spectrum"]["eigenvalues"]["shape"] == [2000]
    assert len(text) < 64_000
    moved = dataclasses.replace(large, spectrum=Spectrum(np.linspace(1, 2.1, 2000)))
    assert provenance(mixture=moved)["mixture"] != text


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Mixture([[1e200], [-1e200]], [1, -1]), r"means must be at most 1e\+60 in size, got 1e\+200 at index"),
        (lambda: Mixture.ring(10**8, 0.3), r"m must be an integer <= 5000, got 100000000"),
        (
            lambda: OrderParameters([[1.0, 2.0]], 1j * np.eye(2), [1.0, 2.0]),
            r"Q must be an array of real .*1\.j\]\]\)$",
        ),
    ],
)
def test_what_no_computation_survives_is_refused_at_once(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        make()
    assert "\n" not in str(refused.value)
