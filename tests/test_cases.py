"""Small inputs that once failed, as a user writes them, with their right values; each stands for a kind.

Bayes errors of singular covariances and laws near 0: tests/numerics/test_oracle.py.  Close and multiple zeros:
tests/numerics/test_errors.py.  Covariances and mixed averages of written activations:
tests/symbolic/test_written_activations.py.  The cache: tests/numerics/test_cache.py.  Outputs: tests/sim/test_files.py.
"""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from scipy.special import erf, expit

from quenched.numerics import Mixture, OrderParameters, TwoLayer, errors
from quenched.sim import read_spec, sweep

ONE = Mixture(means=[[10.0]], labels=[1], sigma=1.0)
STATE = OrderParameters(M=[[0.4]], Q=[[1.3]], v=[1.0])
COMMAND = [sys.executable, "-c", "from quenched.sim.cli.main import main; main()"]
SMALL = ["--time", "1", "--K", "1", "--D", "100"]
SPECIFICATION = """
D = 50
t = [0.0, 1.0]
seeds = 2
[[mixture]]
kind = "xor"
sigma = [0.5, 0.6]
[[network]]
K = 2
activation = "0.3*x+Max(x-0.2,0)"
[[rule]]
lr = 0.2
"""


def relu(x):
    return np.maximum(x, 0)


WRITTEN = {
    "0.1*x": lambda x: 0.1 * x,
    "x/3": lambda x: x / 3,
    "x/sqrt(3)": lambda x: x / np.sqrt(3),
    "Max(x,0.1)": lambda x: np.maximum(x, 0.1),
    "erf(x+0.7)": lambda x: erf(x + 0.7),
    "sigmoid(x+0.3)": lambda x: expit(x + 0.3),
    "softplus(x-0.1)": lambda x: np.logaddexp(0, x - 0.1),
    "exp(0.1)*x": lambda x: np.exp(0.1) * x,
    "Abs(x)**1.2": lambda x: np.abs(x) ** 1.2,
    "erf(0.7071067811865476*x)": lambda x: erf(x / np.sqrt(2)),
    "1.0507009873554805*Max(x,0)": lambda x: 1.0507009873554805 * relu(x),
    "100000*Max(x,0)": lambda x: 1e5 * relu(x),
    "x*exp(1-x)": lambda x: x * np.exp(1 - x),
    "exp(1)*x+x**2": lambda x: np.e * x + x**2,
    "sin(x)+sin(2*x)": lambda x: np.sin(x) + np.sin(2 * x),
    "exp(x)+exp(-x)": lambda x: 2 * np.cosh(x),
    "erf(x)+erf(2*x)+erf(3*x)": lambda x: erf(x) + erf(2 * x) + erf(3 * x),
    "Max(Min(x,1),-1)": lambda x: np.clip(x, -1, 1),
    "(Abs(x+1)-Abs(x-1))/2": lambda x: np.clip(x, -1, 1),
    "Min(Max(x,0),6)": lambda x: np.clip(x, 0, 6),
    "Abs(Abs(x)-1)": lambda x: np.abs(np.abs(x) - 1),
    "Max(x,0)+Min(0,exp(Min(x,0))-1)": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "Abs(sin(x))": lambda x: np.abs(np.sin(x)),
}
KINKS = {0.0, 0.1, 1.0, -1.0, 6.0, *(np.pi * np.arange(-6, 7))}


def expectations(g):
    """E g and E g^2 at mean 0.4 and variance 1.3: Gauss-Legendre between kinks, refined towards 0 for powers."""
    m, c = 0.4, 1.3
    near = [sign * 2.0**-k for k in range(1, 60) for sign in (1, -1)]
    edges = np.unique([*np.linspace(m - 16, m + 16, 65), *KINKS, *near])
    nodes, weights = np.polynomial.legendre.leggauss(24)
    half = np.diff(edges)[:, None] / 2
    x = edges[:-1, None] + half * (1 + nodes)
    w = half * weights * np.exp(-((x - m) ** 2) / (2 * c)) / np.sqrt(2 * np.pi * c)
    return np.sum(w * g(x)), np.sum(w * g(x) ** 2)


@pytest.mark.usefixtures("derived_here")
@pytest.mark.parametrize("text", WRITTEN)
def test_an_activation_as_a_person_writes_it(text: str) -> None:
    """pmse = (E g^2 - 2 E g + 1)/2, to its stated error and the rounding of the three terms."""
    first, second = expectations(WRITTEN[text])
    found = errors(ONE, TwoLayer(1, text), STATE)
    # a bound, in closed form or by quadrature, and the rounding of the three terms
    assert abs(found.pmse - (second - 2 * first + 1) / 2) <= found.pmse_error + 1e-12 * (second + 2 * abs(first) + 1)
    assert found.pmse_error <= 1e-9 * (second + 1)


def test_the_values_of_the_report() -> None:
    """The numbers people computed by hand."""
    selu = 1.0507009873554805 * 0.6825722274839956
    assert expectations(WRITTEN["1.0507009873554805*Max(x,0)"])[0] == pytest.approx(selu, rel=1e-14)
    assert expectations(WRITTEN["x*exp(1-x)"])[0] == pytest.approx(np.exp(1.25) * (0.4 - 1.3), rel=1e-12)
    wave = np.sin(0.4) * np.exp(-0.65) + np.sin(0.8) * np.exp(-2.6)
    assert expectations(WRITTEN["sin(x)+sin(2*x)"])[0] == pytest.approx(wave, rel=1e-12)


def test_threads_sweep_an_activation_at_its_first_use(tmp_path: Path) -> None:
    (tmp_path / "grid.toml").write_text(SPECIFICATION, encoding="utf-8")
    with ThreadPoolExecutor(2) as executor:
        found = sweep(read_spec(tmp_path / "grid.toml"), tmp_path / "grid.zarr", executor=executor)
    assert np.isfinite(found["pmse"].values).all()


def quenched(*arguments: str, cwd: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    variables = {**os.environ, **environment}
    return subprocess.run(  # a process of its own: what it imports depends on the folder and the environment
        [*COMMAND, *arguments], cwd=cwd, env=variables, capture_output=True, text=True, check=False
    )


def test_a_working_directory_full_of_the_names_of_modules(tmp_path: Path, underived: Path) -> None:
    for name in ("random", "sympy", "numpy", "json"):
        (tmp_path / f"{name}.py").write_text("print('mine')\nraise SystemExit(3)\n", encoding="utf-8")
    command = [str(Path(sys.executable).with_name("quenched")), "dynamics", *SMALL, "--activation", "x+Max(x,0)/2"]
    cache = {**os.environ, "QUENCHED_CACHE": str(underived)}
    done = subprocess.run(command, cwd=tmp_path, env=cache, capture_output=True, text=True, check=False)
    assert (done.returncode, "mine" in done.stdout + done.stderr) == (0, False), done.stderr


@pytest.mark.parametrize(
    "variables",
    [{"HOME": "/proc/nohome", "QUENCHED_CACHE": ""}, {"QUENCHED_CACHE": "/proc/nohome/q"}, {"NUMBA_DISABLE_JIT": "1"}],
)
def test_without_a_cache_and_without_a_compiler(variables: dict[str, str], tmp_path: Path) -> None:
    """The run says so in a line at most, and goes on; slow: all is compiled anew, or not at all."""
    done = quenched("dynamics", *SMALL, cwd=tmp_path, **variables)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "pmse" in done.stdout


# A derivation runs in a process of its own: a sympy that cannot be imported there is put first on its path.
WITHOUT_SYMPY = """
from quenched.numerics import Mixture, OrderParameters, TwoLayer, errors
state = OrderParameters(M=[[0.4], [-0.4]], Q=[[1.3]], v=[1.0])
for name in ("gelu", "tanh"):
    found = errors(Mixture.two_clusters(0.5), TwoLayer(1, name), state)
    print(name, found.pmse_error < 1e-9, found.classification_error_error < 1e-9)
for name in ("gleu", "x+Max(sin(x),0)/3"):
    try:
        errors(Mixture.two_clusters(0.5), TwoLayer(1, name), state)
    except (RuntimeError, ValueError) as error:
        print(type(error).__name__, error)
"""


def test_without_sympy(tmp_path: Path, underived: Path) -> None:
    """Named activations do, a misspelt name says what was meant, a derivation says what it needs in one sentence."""
    (tmp_path / "sympy.py").write_text("raise ModuleNotFoundError(\"No module named 'sympy'\", name='sympy')\n")
    blocked = os.environ | {"PYTHONPATH": str(tmp_path), "QUENCHED_CACHE": str(underived)}

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, env=blocked, capture_output=True, text=True, check=False, timeout=300)

    said = run(sys.executable, "-c", WITHOUT_SYMPY).stdout.splitlines()
    assert said[:2] == ["gelu True True", "tanh True True"]
    assert said[2].startswith("ValueError")
    assert "did you mean 'gelu'" in said[2]
    sentence = "needs sympy: install the extra quenched[derive]"
    assert said[3].startswith("NoSympyError")
    assert sentence in said[3]
    assert len(said) == 4
    refused = run(*COMMAND, "dynamics", *SMALL, "--activation", "x+Max(sin(x),0)/3")
    assert refused.returncode == 1
    assert sentence in " ".join(refused.stderr.split())
    assert "Traceback" not in refused.stderr
