"""The referee agrees where theory holds, denies where it does not, and notices when it cannot tell."""

import re
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from quenched.numerics import OnlineSGD, records_of
from quenched.sim import backend as backends
from quenched.sim.backend import Backend
from quenched.sim.drawing import captions
from quenched.sim.referee import judge as judging
from quenched.sim.referee.grid import Grid, Variant
from quenched.sim.referee.judge import Verdict, holm, judge, power_law
from quenched.sim.referee.report import draw, summary, write
from quenched.sim.training import simulate

ROOT = Path(__file__).parents[2]
SMALL = Grid(
    mixtures=("two-clusters", "xor"), activations=("erf",), K=(2,), D=(3000, 4000), seeds=12, times=(1.0, 2.0),
    variants=(), power_law=False, bias_D=(50, 100, 200), bias_runs=1e5,
)  # fmt: skip


def test_holm_is_its_definition() -> None:
    """The i-th smallest is denied if all up to it are below alpha/(m - i + 1); the least such alpha is adjusted p."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        p = rng.random(7) ** 3
        adjusted = holm(p)
        for alpha in adjusted * (1 - 1e-12):
            below = np.sort(p) <= alpha / np.arange(7, 0, -1)
            denied = int(np.argmin([*below, False]))
            assert set(np.flatnonzero(adjusted <= alpha)) == set(np.argsort(p)[:denied])


def test_the_exponent_of_a_bias_is_off_as_often_as_its_error_says() -> None:
    """300 fits to data with noise: z has a mean of 0 ± 0.06 and a variance of 1 ± 0.08; five standard errors."""
    rng, D = np.random.default_rng(1), np.array([100.0, 200, 400, 1000, 10_000])
    error = np.full(5, 3e-5)
    z = []
    for _ in range(300):
        _, s, _, s_error = power_law(D, -0.1 / D + error * rng.standard_normal(5), error)
        z.append((s + 1) / s_error)
    assert abs(np.mean(z)) < 5 / np.sqrt(300)
    assert abs(np.var(z) - 1) < 5 * np.sqrt(2 / 300)


@pytest.fixture(scope="module")
def verdict() -> Verdict:
    done: list[float] = []
    found = judge(SMALL, processes=1, progress=done.append)
    assert done == sorted(done)
    assert done[-1] == 1
    return found


def test_it_agrees_with_what_is_right(verdict: Verdict, tmp_path: Path) -> None:
    assert verdict.agrees, summary(verdict)
    assert [(c.mixture, c.D) for c in verdict.cells] == [(m, D) for m in SMALL.mixtures for D in SMALL.D]
    assert len(verdict.controls) == 2
    assert all(cell.p < 1e-3 for cell in verdict.controls)
    assert (verdict.adjusted >= [cell.p for cell in verdict.cells]).all()
    assert all(0 < cell.resolution < 0.5 for cell in verdict.cells)

    path = write(verdict, tmp_path / "report", ["a remark"])
    text = path.read_text()
    assert "**Verdict: they agree.**  0 of 4 cells denied at a family-wise significance of 0.01" in text
    assert "- a remark\n" in text
    assert text.count("\n| two-clusters | erf, K = 2 |") == 3
    about = captions.read(path.parent / "report.png")
    assert about is not None
    assert about in text
    assert f"the {len(verdict.z)} of {sum(cell.numbers for cell in verdict.cells)} compared numbers" in about
    # the figure's legends hold the numbers of the report: those that vary, the fitted exponent and its error
    labels = [text.get_text() for axes in draw(verdict).axes for text in axes.get_legend().get_texts()]
    assert f"{len(verdict.z)} numbers that vary" in labels
    s, error = verdict.bias.attrs["exponent"], verdict.bias.attrs["exponent_error"]
    assert rf"fit, $D^{{{s:.4f} \pm {error:.4f}}}$" in labels
    assert f"s = {s:.4f} ± {error:.4f}" in text
    cells = xr.load_dataset(path.parent / "cells.nc")
    np.testing.assert_array_equal(cells.adjusted_p, verdict.adjusted)
    assert xr.load_dataset(path.parent / "bias.nc").attrs["exponent"] == verdict.bias.attrs["exponent"]


def test_each_cell_has_runs_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def counted(*arguments: Any, **options: Any) -> xr.Dataset:
        seen.extend(arguments[5])
        return simulate(*arguments, **options)

    monkeypatch.setattr(judging, "simulate", counted)
    judge(replace(SMALL, D=(20, 30)), engine="vectors", processes=1)
    assert len(seen) == len(set(seen)) == 4 * SMALL.seeds


def test_on_a_card_simulations_run_side_by_side(host_card: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each in a thread of this process that has begun to run beside others, with the results that it has alone."""
    began: set[int] = set()
    shared = replace(host_card, beside=lambda: began.add(threading.get_ident()))
    found: list[xr.Dataset] = []

    def kept(*arguments: Any, **options: Any) -> xr.Dataset:
        assert threading.get_ident() in began
        found.append(simulate(*arguments, **options))
        return found[-1]

    monkeypatch.setattr(judging, "simulate", kept)
    monkeypatch.setattr(backends, "_cupy", lambda: shared)
    grid = replace(SMALL, activations=("relu",), times=(0.1,), D=(100, 300), bias_runs=2e4)
    judge(grid, engine="overlaps", backend="cupy", processes=1)
    cells = [runs for runs in found if runs.sizes["seed"] == grid.seeds]
    assert len(cells) == 4
    assert len(began) > 1
    for runs in cells:
        known = records_of(runs)
        problem = known["mixture"], known["network"], known["sgd"], known["simulation"]["D"], runs.time.values
        alone = simulate(*problem, known["seeds"], "overlaps", shared, state=known["initial_state"])
        np.testing.assert_array_equal(runs.Q, alone.Q)


def test_it_denies_what_is_wrong(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Simulations at another learning rate than the equations, on one mixture only: that cell is named."""

    def wrong(mixture: Any, network: Any, rule: OnlineSGD, *rest: Any, **options: Any) -> xr.Dataset:
        other = OnlineSGD(1.3 * rule.lr) if mixture.clusters == 2 else rule
        right = simulate(mixture, network, rule, *rest, **options)
        return simulate(mixture, network, other, *rest, **options).assign_attrs(right.attrs)

    monkeypatch.setattr(judging, "simulate", wrong)
    found = judge(replace(SMALL, D=(300,)), engine="vectors", backend="numpy", processes=1)
    assert not found.agrees
    assert [cell.mixture for cell in found.denied] == ["two-clusters"]
    assert "THEY DISAGREE" in write(found, tmp_path).read_text()


OTHER_RULES = replace(
    SMALL, mixtures=(), varied=("two-clusters",), D=(3000,),
    variants=(Variant("erf", 1, "logistic"), Variant("erf", 1, "sqrt(1 + (phi - y)**2)"), Variant("erf", 1, batch=4)),
)  # fmt: skip


def test_losses_and_batches_are_judged(tmp_path: Path) -> None:
    """Each cell agrees, and its control is denied: another rate, and for a batch the noise of single samples."""
    found = judge(OTHER_RULES, processes=1)
    assert found.agrees, summary(found)
    assert [(cell.loss, cell.batch) for cell in found.cells] == [(v.loss, v.batch) for v in OTHER_RULES.variants]
    assert len(found.controls) == len(found.cells)
    text = write(found, tmp_path).read_text()
    assert "3 cells are of other rules: erf, K = 1, loss logistic; " in text
    assert text.count("\n| two-clusters | erf, K = 1, batch 4 |") == 2


@pytest.mark.parametrize("variant", OTHER_RULES.variants, ids=lambda v: f"{v.loss}-{v.batch}")
def test_the_wrong_loss_or_batch_is_denied(variant: Variant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulations by the square loss on single samples, where the equations are those of the variant."""

    def plain(mixture: Any, network: Any, rule: OnlineSGD, *rest: Any, **options: Any) -> xr.Dataset:
        stated = simulate(mixture, network, rule, *rest, **options).attrs
        return simulate(mixture, network, OnlineSGD(rule.lr), *rest, **options).assign_attrs(stated)

    monkeypatch.setattr(judging, "simulate", plain)
    found = judge(replace(OTHER_RULES, variants=(variant,)), processes=1)
    assert len(found.denied) == 1
    assert not found.agrees


def test_a_grid_of_one_loss_and_batch() -> None:
    cases = Grid().of_rule("logistic", 8).cases()
    assert {(case.rule.loss, case.rule.batch) for case in cases} == {("logistic", 8)}
    assert {case.network.K for case in cases} == {1, 2}
    assert len(cases) == 4 * 2 * 2
    assert [case for case in cases if case.control] == [case for case in cases if case.network.K == 2]


def test_both_grids_have_each_kind_of_rule() -> None:
    """Of as many cells as the page says."""
    page = (ROOT / "docs" / "how_to" / "validate.md").read_text()
    for grid, cells in zip((Grid(), Grid.full()), re.findall(r"# (\d+) cells", page), strict=True):
        cases = grid.cases()
        assert len(cases) * len(grid.D) == int(cells)
        special = {(c.rule.loss, c.rule.batch, c.network.K) for c in cases}
        assert {("logistic", 1, 1), ("logistic", 1, 2), ("square", 4, 2)} < special


def test_a_referee_that_never_objects_does_not_agree(monkeypatch: pytest.MonkeyPatch, verdict: Verdict) -> None:
    monkeypatch.setattr(judging, "WRONG", 1.0)
    found = judge(replace(SMALL, D=(300,)), engine="vectors", backend="numpy", processes=1)
    assert len(found.missed) == 2
    assert not found.denied
    assert not found.agrees
    flat = verdict.bias.assign_attrs(exponent=-0.5, exponent_error=0.1)
    assert not replace(verdict, bias=flat).agrees


def test_the_verb_writes_a_report_and_exits_by_the_verdict(
    monkeypatch: pytest.MonkeyPatch,
    run: Callable[..., int],
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    verdict: Verdict,
) -> None:
    given: list[tuple[Grid, dict[str, Any]]] = []

    def recorded(grid: Grid, **options: Any) -> Verdict:
        given.append((grid, options))
        return verdict

    monkeypatch.setattr(judging, "judge", recorded)
    assert run("validate", "--report", tmp_path, "--force") == 0
    sizes = ["--D", 500, "--D", 700, "--seeds", 9]
    assert run("validate", "--full", *sizes, "--report", tmp_path, "--force") == 0
    assert [grid for grid, _ in given] == [Grid(), replace(Grid.full(), D=(500, 700), seeds=9)]
    assert "agree: 0 of 4 cells denied" in capfd.readouterr().out
    assert run("validate", "--backend", "numpy", "--report", tmp_path, "--force") == 0
    assert (given[2][1]["engine"], given[2][1]["backend"]) == ("vectors", "numpy")
    assert "steps x replicas x D per second" in capfd.readouterr().out
    assert "steps x replicas x D per second" in (tmp_path / "report.md").read_text()

    assert run("validate", "--loss", "logistic", "--batch", 8, "--report", tmp_path, "--force") == 0
    assert given[3][0] == Grid().of_rule("logistic", 8)

    denied = replace(verdict, adjusted=np.full(4, 1e-5))
    monkeypatch.setattr(judging, "judge", lambda grid, **options: denied)
    assert run("validate", "--report", tmp_path, "--force") == 1
    assert "DISAGREE: 4 of 4 cells denied" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--significance", 2], r"significance must lie between 0 and 1, got 2\.0"),
        (["--processes", 0], "processes must be an integer >= 1, got 0"),
        (["--engine", "matrix"], "engine must be 'vectors' or 'overlaps', got 'matrix'"),
        (["--backend", "torch"], "backend must be 'auto', 'numpy' or 'cupy', got 'torch'"),
        (["--D", 3, "--engine", "vectors"], "D must be an integer >= 4, got 3"),
        (["--seeds", 1], "seeds must be an integer >= 2, got 1"),
    ],
)
def test_bad_input_costs_a_line(
    arguments: list[object], message: str, run: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("validate", *arguments) == 2
    assert re.search(message, capfd.readouterr().err)


def test_unknown_mixtures_are_named() -> None:
    with pytest.raises(ValueError, match=r"mixture must be one of xor, .*, got 'moons'"):
        judge(replace(SMALL, mixtures=("moons",)))
