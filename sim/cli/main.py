"""The command `quenched`: thin verbs over the packages.  What a verb needs is imported when it runs.

Results go to standard output and to files, progress to standard error and only on a terminal.  A bad value prints one
line and exits 2; a result that is not as it should be (stale code, theory against simulation) exits 1.
"""

from __future__ import annotations

import csv
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.rules import GradientFlow, LearningRule, OnlineSGD
from quenched.numerics.problem.state import Densities, OrderParameters
from quenched.sim.cli import at_length, problems
from quenched.sim.cli.terminal import print_table, progress
from quenched.sim.figures import asymptotic

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["app", "main"]

app = typer.Typer(
    help="Learning curves of neural networks on Gaussian mixtures: derived, solved, simulated, compared.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

MixtureName = Annotated[
    str, typer.Option("--mixture", help=f"{', '.join(problems.MIXTURES)}, or ring:M for 2M clusters.")
]
Data = Annotated[str | None, typer.Option(help="Estimate the mixture from 'digits' or an .npz with X, cluster, label.")]
Sigma = Annotated[float | None, typer.Option(help="Noise per component (default: 0.4, or as estimated from --data).")]
Covariance = Annotated[str, typer.Option(help="Of --data: isotropic, shared, or full (one for each cluster).")]
Shrinkage = Annotated[str | None, typer.Option(help="Of covariances: ledoit-wolf, or the weight of the identity.")]
Project = Annotated[bool, typer.Option("--project", help="Leave out what keeps covariances from commuting.")]
Law = Annotated[
    str | None,
    typer.Option(
        help="Spectrum of the inputs: mp:RATIO, two-level:LOW,HIGH,SHARE, uniform:LOW,HIGH, power:A,LOW,HIGH."
    ),
]
Separation = Annotated[float, typer.Option(help="Length of the mean vectors.")]
Neurons = Annotated[int, typer.Option("--K", help="Number of neurons.")]
Activation = Annotated[str, typer.Option(help="erf, relu, linear, ..., or an expression in x.")]
LR = Annotated[float, typer.Option("--lr", help="Learning rate eta.")]
SecondLR = Annotated[float | None, typer.Option(help="Learning rate of the second layer (default: as of the first).")]
Decay = Annotated[float, typer.Option(help="Weight decay kappa.")]
Time = Annotated[float, typer.Option("--time", "-t", help="End, in units of D steps of SGD.")]
DefaultDimension = Annotated[
    int | None, typer.Option("--D", help="Input dimension (default: 1000, or that of the covariance of --data).")
]
Dimension = Annotated[
    int, typer.Option("--D", help="Input dimension, of the simulation and of the random initial state.")
]
Seeds = Annotated[int, typer.Option(help="Number of simulations.")]
ReadoutScale = Annotated[float, typer.Option(help="Initial v_k ~ N(0, scale^2/K).")]
Processes = Annotated[int, typer.Option(help="Worker processes.")]
Output = Annotated[list[Path] | None, typer.Option("--output", "-o", help="File to write; the suffix says the format.")]


@app.command()
def derive(
    check: Annotated[
        bool, typer.Option("--check", help="Compare theory/ with a fresh derivation; exit 1 if stale.")
    ] = False,
    latex: Annotated[Path | None, typer.Option(help="Write the derivation as a LaTeX document instead.")] = None,
    activation: Annotated[
        str | None, typer.Option(help="Print what is derived for this expression in x instead.")
    ] = None,
    certify: Annotated[
        Path | None,
        typer.Option(
            help="Check every formula against quadrature of its definition, write a Markdown table of the digits."
        ),
    ] = None,
) -> None:
    """Derive every formula with sympy and write theory/ from them.

    Example:  quenched derive --check
    """
    try:
        from quenched.symbolic import generate as derivation
    except ModuleNotFoundError as error:
        raise RuntimeError(f"derive needs the extra quenched[derive]: {error}") from error

    folder = Path(derivation.__file__).parents[1] / "theory"
    if certify is not None:
        from quenched.numerics.calculus import certificate

        records = certificate.certify(None if activation is None else [activation])
        certify.write_text(certificate.document(records, derivation.rules(activation)), encoding="utf-8")
        if failed := [r for r in records if r.digits < r.required]:
            raise RuntimeError(f"{len(failed)} of {len(records)} values have fewer digits than required: see {certify}")
        return
    if activation is not None:
        sys.stdout.write(derivation.user_activation(activation))
        return
    if latex is not None:
        latex.write_text(derivation.latex(), encoding="utf-8")
        return
    if not check:
        for name in derivation.write(folder):
            sys.stdout.write(f"wrote theory/{name}\n")
        return
    messages = derivation.check(folder)
    for message in messages:
        sys.stdout.write(message.rstrip("\n") + "\n")
    if messages:
        sys.stdout.write("theory/ is not what symbolic/ derives: run `quenched derive`\n")
        raise typer.Exit(1)


@app.command()
def dynamics(
    mixture: MixtureName = "xor",
    data: Data = None,
    sigma: Sigma = None,
    separation: Separation = 1.0,
    K: Neurons = 4,
    activation: Activation = "relu",
    lr: LR = 0.5,
    second_lr: SecondLR = None,
    weight_decay: Decay = 0.0,
    second_weight_decay: Annotated[
        float | None, typer.Option(help="Decay of the second layer (default: as of the first).")
    ] = None,
    label_noise: Annotated[float, typer.Option(help="Standard deviation of the noise on training labels.")] = 0.0,
    output_scale: Annotated[float, typer.Option(help="Factor s on the output; lazy for large s.")] = 1.0,
    gradient_flow: Annotated[bool, typer.Option("--gradient-flow", help="The limit lr -> 0, in time lr t.")] = False,
    covariance: Covariance = "isotropic",
    shrinkage: Shrinkage = None,
    project: Project = False,
    spectrum: Law = None,
    teacher: Annotated[str | None, typer.Option(help="Labels by a teacher ACTIVATION:NEURONS, as erf:2.")] = None,
    t: Time = 120.0,
    D: DefaultDimension = None,
    initial: Annotated[int, typer.Option(help="Seed of the initial state.")] = 0,
    readout_scale: ReadoutScale = 1.0,
    simulate: Annotated[bool, typer.Option("--simulate", help="Add simulations from the same initial state.")] = False,
    seeds: Seeds = 5,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="NetCDF file of the theory to write.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Figure to write.")] = None,
) -> None:
    """Integrate the learning curve of a two-layer network, and simulate it.

    Example:  quenched dynamics --mixture xor --sigma 0.4 --K 4 --initial 8 --simulate --plot run.png
    Example:  quenched dynamics --data digits --covariance shared --lr 0.1 --simulate
    Example:  quenched dynamics --mixture two-clusters --spectrum mp:0.5 --teacher erf:2 --activation erf
    """
    from quenched.numerics.two_layer.flow import integrate, random_state

    estimated: dict[str, Any] = {"covariance": covariance, "shrinkage": shrinkage, "project": project}
    problem = problems.mixture(mixture, sigma, separation, data, **estimated)
    D = D or (1000 if problem.spectrum is None else problem.spectrum.nodes)
    problem = problem if spectrum is None else problems.with_spectrum(problem, spectrum, D if simulate else None)
    problem = problem if teacher is None else problems.taught(problem, teacher)
    law = problem.spectrum
    if law is not None and law.alignment is None and law.nodes == D:  # each node is one direction: draw the means'
        problem = replace(problem, spectrum=law.oriented(problem.dimensions, initial))
    network = TwoLayer(K, activation, output_scale)
    if gradient_flow:
        rule: LearningRule = GradientFlow(lr, weight_decay, second_lr, second_weight_decay)
    else:
        rule = OnlineSGD(lr, weight_decay, second_lr, second_weight_decay, label_noise)
    state = random_state(problem, network, D, initial, readout_scale=readout_scale)
    with progress("integrating") as report:
        theory = integrate(problem, network, rule, state, np.linspace(0, t, 101), progress=lambda now: report(now / t))
    runs = _simulate(problem, network, rule, D, np.linspace(0, t, 21), seeds, state) if simulate else None
    oracle = _oracle(problem)

    table = Table("t", "pmse", "classification error", box=None)
    for i in (0, 25, 50, 75, 100):
        at = theory.isel(time=i)
        table.add_row(f"{float(at.time):g}", f"{float(at.pmse):.6f}", f"{float(at.classification_error):.6f}")
    if runs is not None:
        end = runs.isel(time=-1).mean("seed")
        table.add_row(f"{t:g} simulated", f"{float(end.pmse):.6f}", f"{float(end.classification_error):.6f}")
    if oracle is not None:
        table.add_row("oracle", "", f"{oracle:.6f}")
    print_table(table)
    if output is not None:
        _netcdf(theory, output)
        if runs is not None:
            _netcdf(runs, output.with_stem(f"{output.stem}_simulation"))
    if plot is not None:
        from quenched.sim.figures import plot as figures

        title = f"K = {K}, {activation}, σ = {problem.sigma:.3g}, η = {lr:g}"
        figures.save(figures.dynamics({title: theory}, None if runs is None else {title: runs}, oracle), plot)


@app.command()
def curve(
    mixture: MixtureName = "xor",
    data: Data = None,
    sigma: Annotated[str, typer.Option(help="Noise levels: FIRST:LAST:NUMBER, or a comma-separated list.")] = "0.2:1:9",
    separation: Separation = 1.0,
    covariance: Covariance = "isotropic",
    shrinkage: Shrinkage = None,
    project: Project = False,
    spectrum: Law = None,
    learner: Annotated[
        list[str] | None,
        typer.Option(help="oracle, two-layer, random-features, kernel, ntk; repeat for more (default: first two)."),
    ] = None,
    scaling: Annotated[str, typer.Option(help="Means times D^scaling: an exponent, or one per coordinate.")] = "0",
    K: Neurons = 4,
    activation: Activation = "relu",
    lr: LR = 0.1,
    second_lr: SecondLR = None,
    weight_decay: Decay = 0.0,
    t: Time = 800.0,
    D: DefaultDimension = None,
    initial: Annotated[int, typer.Option(help="Number of initial states, of which the best counts.")] = 8,
    readout_scale: ReadoutScale = 4.0,
    digits: Annotated[int | None, typer.Option(help="Print the oracle to this many digits (it alone).")] = None,
    gamma: Annotated[float, typer.Option(help="Random features per dimension.")] = 2.0,
    kernel: Annotated[
        str, typer.Option(help="arccos0, arccos1, exponential, polynomial:DEGREE, rbf, laplace, ntk:ACTIVATION.")
    ] = "arccos1",
    alpha: Annotated[float, typer.Option(help="Samples per dimension of kernel and ntk.")] = 2.0,
    ridge: Annotated[float, typer.Option(help="Ridge of the readout of random features, of kernels.")] = 0.0,
    features_at: Annotated[
        float | None, typer.Option(help="Random features and kernels at this dimension (default: their limit).")
    ] = None,
    processes: Processes = 1,
    output: Output = None,
) -> None:
    """Classification error against the noise sigma, for the chosen learners.

    Example:  quenched curve --sigma 0.2:1:9 --learner oracle --learner two-layer -o curve.csv -o curve.png
    Example:  quenched curve --sigma 0.5,1 --learner oracle --digits 30
    Example:  quenched curve --mixture two-clusters --spectrum power:2,0.1,10 --activation erf --t 100
    Example:  quenched curve --learner random-features --scaling 0.25 --gamma 2 --sigma 0.5:2:7
    Example:  quenched curve --learner kernel --kernel rbf --alpha 2 --learner ntk --scaling 0.25 --sigma 0.5:2:7
    """
    from quenched.sim.error_curve import LEARNERS, error_curve

    for path in output or []:
        if path.suffix not in (".csv", ".nc", ".png", ".pdf", ".svg"):
            raise ValueError(f"output must end in .csv, .nc, .png, .pdf or .svg, got {str(path)!r}")
    estimated: dict[str, Any] = {"covariance": covariance, "shrinkage": shrinkage, "project": project}
    problem = replace(problems.mixture(mixture, None, separation, data, **estimated), scaling=_exponents(scaling))
    D = D or (1000 if problem.spectrum is None else problem.spectrum.nodes)
    problem = problem if spectrum is None else problems.with_spectrum(problem, spectrum)
    with progress("curve") as report:
        result = error_curve(
            problem,
            problems.levels("sigma", sigma),
            learner or (LEARNERS[:2] if _has_oracle(problem) else ["two-layer"]),
            network=TwoLayer(K, activation),
            sgd=OnlineSGD(lr, weight_decay, second_lr),
            t=t,
            D=D,
            initial=range(initial),
            readout_scale=readout_scale,
            digits=digits,
            activation=activation,
            gamma=gamma,
            kernel=kernel,
            alpha=alpha,
            ridge=ridge,
            features_at=features_at,
            processes=processes,
            progress=report,
        )
    rows = [["sigma", *map(str, result.learner.values)]]
    errors = result.classification_error.values if digits is None else result.digits.values
    rows += [[f"{s:.12g}", *(e if isinstance(e, str) else f"{e:.12g}" for e in row)]
             for s, row in zip(result.sigma.values, errors.T, strict=True)]  # fmt: skip
    for path in output or []:
        if path.suffix == ".csv":
            with path.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows(rows)
        elif path.suffix == ".nc":
            _netcdf(result, path)
        else:
            from quenched.sim.figures import plot

            plot.save(plot.curve(result), path)
    table = Table(*rows[0], box=None)
    for row in rows[1:]:
        table.add_row(*row)
    print_table(table)


app.command()(at_length.validate)
app.command()(at_length.sweep)
app.command("fixed-points")(asymptotic.find)


@app.command()
def reproduce(
    figures: Annotated[
        list[str] | None, typer.Argument(help="Which figures, or 'all' (default: the main four).")
    ] = None,
    folder: Annotated[Path, typer.Option(help="Where figures and data go.")] = Path("results"),
    processes: Processes = 2,
) -> None:
    """Compute the figures and their data, each as PNG and NetCDF.

    Example:  quenched reproduce dynamics headline
    """
    from quenched.sim.figures.reproduce import FIGURES, MAIN, make

    for name in FIGURES if figures == ["all"] else figures or MAIN:
        with progress(name) as report:
            sentence = make(name, folder, processes, report)
        Console().print(f"[bold]{name}[/]  {sentence}", soft_wrap=True)


def main() -> None:
    """Entry point of the command `quenched`."""
    try:
        app()
    except ValueError as error:
        sys.stderr.write(f"quenched: {error}\n")
        sys.exit(2)
    except RuntimeError as error:
        sys.stderr.write(f"quenched: {error}\n")
        sys.exit(1)


def _exponents(text: str) -> Any:
    try:
        exponents = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ValueError(f"scaling must be a number or a comma-separated list, got {text!r}") from error
    return exponents if len(exponents) > 1 else exponents[0]


def _simulate(
    mixture: Mixture,
    network: TwoLayer,
    sgd: LearningRule,
    D: int,
    t: np.ndarray,
    seeds: int,
    state: OrderParameters | Densities,
) -> xr.Dataset:
    from quenched.sim.training import simulate

    with progress("simulating") as report:
        return simulate(mixture, network, sgd, D, t, range(seeds), state=state, progress=report)


def _has_oracle(mixture: Mixture) -> bool:
    """Whether `oracle_error` knows it: means on a line or a plane, one covariance, labels of clusters."""
    shared = mixture.spectrum is None or mixture.spectrum.eigenvalues.ndim == 1
    return mixture.dimensions <= 2 and shared and mixture.teacher is None


def _oracle(mixture: Mixture) -> float | None:
    """Error of the Bayes rule, None where it is not known how to compute it."""
    from quenched.numerics.oracle import oracle_error

    return float(oracle_error(mixture)) if _has_oracle(mixture) else None


def _netcdf(dataset: xr.Dataset, path: Path) -> None:
    dataset.to_netcdf(path, engine="h5netcdf")
