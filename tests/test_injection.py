"""What a user, a file or a stranger writes for an activation is read or refused, and never run: through every door."""

import ast
import json
import os
import re
import string
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quenched.numerics import (
    GradientFlow,
    Mixture,
    OnlineSGD,
    OrderParameters,
    Teacher,
    TwoLayer,
    average,
    closed_form,
    drift,
    errors,
    fixed_point,
    integrate,
    kernel_error,
    random_features_error,
)
from quenched.numerics.averages.activations import (
    activation_functions,
    averages,
    compiled_activation,
    patterns,
    piecewise_linear,
    tables,
)
from quenched.numerics.averages.certificate import certify
from quenched.numerics.averages.table_tangents import table_tangents
from quenched.numerics.averages.teacher_averages import tables_across
from quenched.numerics.compiled.cache import derived_module
from quenched.numerics.lazy.hermite import hermite_orders
from quenched.numerics.two_layer.symmetry import homogeneity, parity
from quenched.sim import simulate, simulate_features
from quenched.sim.cli.main import main
from quenched.sim.engines.checkpoint import Checkpoint, CheckpointError
from quenched.sim.specifications import read_spec
from quenched.symbolic.activations import Activation
from quenched.symbolic.expectation import user_average
from quenched.symbolic.language.grammar import BUILTIN, FUNCTIONS, NAMED, canonical, expression
from quenched.symbolic.language.parse import parse
from quenched.symbolic.user import rules, user_activation, user_gradients, user_teacher

RUN = 'open("pwned","w")'

# Each would leave a file `pwned`, hang, or mean something else than an expression in x, if a door were open.
REFUSED = [
    # comments and quotes, which end a docstring or a string of generated code
    'x**2 #"""; import os; os.system("touch pwned") #', f'x**2 #""" + {RUN} + """', f"x # {RUN}", "x #", "#",
    f'x"""; {RUN}; """', f"x'''; {RUN}; '''", f'"x"; {RUN}', f'x", {RUN}, "', '"x"', "'x'", 'f"{' + RUN + '}"',
    "f'x'", "b'x'", "r'x'", "`x`",
    # new lines and what Python or an editor takes for one
    f"x\n{RUN}", f"x\r{RUN}", f"x\r\n{RUN}", f"x\x0c{RUN}", f"x\x0b{RUN}", f"x\u2028{RUN}", f"x\x85{RUN}",
    f"x\\\n+{RUN}", "x\n", "\nx", "(x\n+1)", "x\tx", "x +\t1", f"x; {RUN}", f"x\0{RUN}", "x\0", "\0", "x\x1b[2J",
    "x\ufeff", "\u202ex",
    # backslashes and braces of format strings
    "x\\", "\\x41", "x\\u0022", "\\N{QUOTATION MARK}", "{x}", "{parallel}", "{{x}}", "x{0.__class__}", "%(x)s", "$x$",
    "${x}", "$(touch pwned)", "`touch pwned`", "x; touch pwned", "x && touch pwned", "x | touch pwned",
    # letters that look like x, like digits, like brackets, or that NFKC turns into names
    "ｘ", "х", "𝐱", "e\u0301xp(x)", "ｅｘｐ(x)", "eｘp(x)", "ﬁ(x)", "__ｉmport__('os')", "x**２", "x*٣", "x−1", "x×2",
    "x²", "√x", "（x）", "“x”", "x\u00a0+ 1", "x\u200b", "\ud800",
    # names, attributes, calls
    "__import__('os').system('touch pwned')", "__import__", "__builtins__", "__name__", "x.__class__",
    "x.__class__.__base__.__subclasses__()", "().__class__", "exp.__globals__", "x.real", "1 .real", "1.0.real",
    "1..real", f"exec({RUN!r})", f"eval({RUN!r})", RUN, "open(x)", "print(x)", "getattr(x, x)", "globals()", "exit()",
    "breakpoint()", "help()", "input()", "f(x)", "x(x)", "1(x)", "pi(x)", "exp(x)(x)", "exp", "sin(cos)", "y", "I*x",
 "oo*x", "zoo", "nan*x", "inf*x", "None", "True", "Symbol(x)", "Lambda(x, x)", "os", "self", "os.system",
    "relu(x)", "x + relu", "rleu", "np.tanh(x)", "tanh (x) if x else x",
    # forms of Python that are no expression in x
    "lambda: x", "lambda x: x", "(lambda: x)()", "x if x else 1", "x and x", "not x", "x is x", "x in x", "x < 1",
    "x == x", "x := 1", "(x := 1)", "(y := x)", "x = 1", "x += 1", "[x]", "[x for x in x]", "{x: x}",
    "(x for x in x)", "x[0]", "x[0:1]", "()", "(x,)", "x, x", "x,", "*x", "**x", "Max(*x)", "Max(**x)", "sin(x=1)",
    "sin(x, evaluate=False)", "sin(x, 2)", "sin()", "Max()", "Max(x for x in x)", "await x", "yield x", "yield",
    "import os", "from os import *", "del x", "assert x", "return x", "pass", "global x", "raise x", "class x: pass",
    "@x", "x @ x", "x // 2", "x % 2", "~x", "x ^ 2", "x << 2", "x | x", "x & x", "x!", "x?", "...", "x...", "!x",
    "%x", "x x", "2x", "x2", "_", "1_", "0x10*x", "0b1*x", "0o7*x", "007*x", "1j*x", "1e*x", "1if x else 2", "1e5x",
    ".", "x.", ".x", "+", "x+", "x**", "*", ")", "(", "(x", "x)", "Max(x,,0)", "", " ", "   ",
    # sizes
    "x**1000000000", "x**x", "x**1e9", "x**-13", "9**9**9**9*x", "9**9**9", "x**9**9**9",
    "((((((x**12)**12)**12)**12)**12)**12)", "(((((9**12)**12)**12)**12)**12)*x", "*".join(["x**12"] * 40),
    "9" * 400 + "*x", "1e999999999*x", "1e-999999999*x", "x*1e99999999999999999999", "exp(exp(exp(exp(x))))",
    "sinh(cosh(exp(x)))", "(" * 90 + "x" + ")" * 400, "(" * 249 + "x" + ")" * 249, "-" * 498 + "x",
    "+".join(["x"] * 200), "sin(" * 100 + "x" + ")" * 100, "x" * 100_000, "(" * 100_000, "x+" * 100_000 + "x", "1/0",
    "x/0", "0**-1", "x/(1-1)",
    # options of a command line, paths, addresses
    "--gradients", "--teacher", "-m os", "-c", "../relu", "/etc/passwd", "relu/../../pwned", "C:\\relu", "file:relu",
    "relu.py", "relu\\", "relu#", "relu;", "RELU", "relu relu",
]  # fmt: skip

# Odd, and harmless: what they mean is kept, how they were written is not.
READ = {
    " relu ": "relu",
    "  x  **  2 ": "x**2",
    "x ** 2-  1": "x**2 - 1",
    "max( x,0, )": "max(x, 0)",
    "((((x))))": "x",
    "1_000*x": "1000*x",
    "x*0.10000000000000000001": "x*0.10000000000000000001",
    "-x": "-x",
    "- - + -x": "--+-x",
    "x-(-1)": "x - -1",
    "(-x)**2": "(-x)**2",
    "-x**2": "-x**2",
    "x/2/3": "x/2/3",
    "x/(2/3)": "x/(2/3)",
    "2.*x": "2.*x",
    ".5e-3*x": ".5e-3*x",
}

NETWORK, RULE = TwoLayer(2, "erf"), OnlineSGD(0.5)
STATE = OrderParameters(M=np.zeros((2, 2)), Q=np.eye(2), v=[1.0, -1.0])
MIXTURE = Mixture.two_clusters(1.0)
POINT = (np.zeros((1, 2)), np.eye(2)[None])


def taught(text: str) -> Mixture:
    return Mixture(np.zeros((1, 1)), teacher=Teacher([[1.0]], [1.0], text))


def specification(text: str) -> None:
    """`read_spec` of a TOML file with this activation."""
    quoted = json.dumps(text, ensure_ascii=True) if "\ud800" not in text else '"\\ud800"'
    Path("grid.toml").write_text(
        "D = [100]\nseeds = [0]\nt = [0.0, 1.0]\n[[mixture]]\nkind = 'xor'\nsigma = 0.5\n"
        f"[[network]]\nK = 2\nactivation = {quoted}\n[[rule]]\nlr = 0.5\n"
    )
    try:
        read_spec("grid.toml")
    finally:
        Path("grid.toml").unlink()


def attributes(text: str) -> None:
    """Records from the attributes of a file that somebody else wrote."""
    network = {"K": 2, "activation": text, "output_scale": 1.0}
    teacher = {"weights": [[1.0]], "v": [1.0], "activation": text}
    attrs = {"network": json.dumps(network), "mixture": json.dumps({"means": [[0.0]], "teacher": teacher})}
    xr.Dataset(attrs=attrs).to_netcdf("stranger.nc", engine="h5netcdf")
    try:
        with xr.open_dataset("stranger.nc", engine="h5netcdf") as file:
            found = dict(file.attrs)
    finally:
        Path("stranger.nc").unlink()
    with pytest.raises(ValueError, match="activation"):
        Mixture(**json.loads(found["mixture"]))
    TwoLayer(**json.loads(found["network"]))


DOORS: dict[str, Callable[[str], Any]] = {
    "network": lambda text: drift(MIXTURE, TwoLayer(2, text), RULE, STATE),
    "errors": lambda text: errors(MIXTURE, TwoLayer(2, text), STATE),
    "integrate": lambda text: integrate(MIXTURE, TwoLayer(2, text), RULE, STATE, [0.0, 0.1]),
    "teacher": lambda text: drift(taught(text), NETWORK, RULE, STATE),
    "teacher's dictionary": lambda text: Mixture([[0.0]], teacher={"weights": [[1.0]], "v": [1.0], "activation": text}),  # type: ignore[arg-type]
    "chain": lambda text: simulate(MIXTURE, TwoLayer(2, text), RULE, 100, [0.0, 0.1], [0], engine="overlaps"),
    "vectors": lambda text: simulate(MIXTURE, TwoLayer(2, text), RULE, 100, [0.0, 0.1], [0], engine="vectors"),
    "fixed point": lambda text: fixed_point(MIXTURE, TwoLayer(2, text), GradientFlow()),
    "random features": lambda text: random_features_error(MIXTURE, text, 2.0),
    "features of samples": lambda text: simulate_features(MIXTURE, text, 20, 40, [0]),
    "hermite": lambda text: hermite_orders(text, 0.0, 1.0),
    "ntk": lambda text: kernel_error(MIXTURE, f"ntk:{text}", 2.0),
    "kernel": lambda text: kernel_error(MIXTURE, text, 2.0),
    "averages": averages,
    "tables": lambda text: tables(text, *POINT),
    "tables across, first": lambda text: tables_across(text, "erf", 1, *POINT),
    "tables across, last": lambda text: tables_across("erf", text, 1, *POINT),
    "tangents": lambda text: table_tangents(text, *POINT, np.zeros((1, 2, 1)), np.zeros((1, 2, 2, 1))),
    "functions": activation_functions,
    "compiled functions": compiled_activation,
    "patterns": lambda text: patterns(text, 2),
    "pieces": piecewise_linear,
    "parity": parity,
    "homogeneity": homogeneity,
    "certificate": lambda text: certify([text]),
    "specification": specification,
    "attributes": attributes,
    "grammar": canonical,
    "expression": expression,
    "parse": parse,
    "derivation": user_activation,
    "gradients": user_gradients,
    "student": lambda text: user_teacher(text, "erf"),
    "teacher's derivation": lambda text: user_teacher("erf", text),
    "rules": rules,
    "average": lambda text: average(text, [0], [1]),
    "closed form": lambda text: closed_form(text, [0]),
    "integrand": lambda text: user_average(text) if text not in ("y", "x2") else average(text, [0], [1]),
    "activation": lambda text: Activation("custom", text).expression,
}


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A folder that must still be empty at the end."""
    monkeypatch.chdir(tmp_path)
    yield
    assert os.listdir(tmp_path) == []  # noqa: PTH208


def test_the_corpus_is_large() -> None:
    assert len(set(REFUSED)) == len(REFUSED) > 200


@pytest.mark.parametrize("door", DOORS)
def test_every_door_refuses_the_corpus(door: str) -> None:
    failures = []
    for text in REFUSED:
        try:
            DOORS[door](text)
        except ValueError as error:
            if len(str(error)) > 3000:
                failures.append(("a long answer", text[:50]))
        else:
            failures.append(("accepted", text[:50]))
    assert failures == []


@pytest.mark.parametrize("kind", ["activation", "gradients", "across", "average", "closed form"])
def test_the_process_that_derives_refuses_by_itself(kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Behind the records: a text handed straight to the derivation, and one that looks like an option."""
    options = {
        "activation": (),
        "gradients": ("--gradients",),
        "across": ("--teacher", "erf"),
        "average": ("--average",),
        "closed form": ("--closed-form", "0", "1"),
    }
    for text in (REFUSED[0], "--gradients"):
        with pytest.raises(ValueError, match=r"activation|integrand"):
            derived_module(kind, text, *options[kind])


VERBS = {
    "dynamics": ("dynamics", "--time=1", "--K=1", "--D=100", "--activation={}"),
    "teacher": ("dynamics", "--time=1", "--K=1", "--D=100", "--teacher={}:2"),
    "curve": ("curve", "--learner=random-features", "--activation={}"),
    "kernel": ("curve", "--learner=kernel", "--kernel=ntk:{}"),
    "fixed-points": ("fixed-points", "--activation={}"),
    "average": ("average", "--mean=0", "--covariance=1", "--", "{}"),
    "formula": ("average", "--mean=0", "--closed-form", "--", "{}"),
    "derive": ("derive", "--activation={}"),
    "certify": ("derive", "--certify=c.md", "--activation={}"),
}


@pytest.mark.parametrize("verb", VERBS)
def test_the_command_line_refuses_the_corpus(verb: str, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    accepted = []
    for text in REFUSED:
        monkeypatch.setattr(sys, "argv", ["quenched", *(part.replace("{}", text) for part in VERBS[verb])])
        with pytest.raises(SystemExit) as end:
            main()
        if end.value.code != 2:
            accepted.append(text)
    assert accepted == []


def test_a_sweep_of_a_specification_refuses(monkeypatch: pytest.MonkeyPatch, capfd: Any, tmp_path: Path) -> None:
    spec = tmp_path / "grid.toml"
    spec.write_text(
        "D = [100]\nseeds = [0]\nt = [0.0, 1.0]\nmixture = [{ kind = 'xor', sigma = 0.5 }]\nrule = [{ lr = 0.5 }]\n"
        f"network = [{{ K = 2, activation = ['relu', {json.dumps(REFUSED[0])}] }}]\n"
    )
    monkeypatch.setattr(sys, "argv", ["quenched", "sweep", str(spec)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert "'#' at character 6 is not understood" in capfd.readouterr().err
    spec.unlink()


def test_a_strangers_checkpoint_is_compared_not_run(tmp_path: Path) -> None:
    """The identity of a checkpoint is JSON text, and is never made a record of."""
    file = tmp_path / "run.nc"
    texts = {"text_network": json.dumps({"K": 2, "activation": REFUSED[0]}), "text_generators": "[]"}
    arrays = {"position": ("place", np.zeros(3, dtype=np.int64)), "good": ("seed", np.zeros(1, dtype=np.int64))}
    xr.Dataset({**texts, **arrays}).to_netcdf(file, engine="h5netcdf")
    with pytest.raises(CheckpointError, match="is of another run"):
        Checkpoint(file, {"network": json.dumps(NETWORK.to_dict())}, 60.0).load()
    file.unlink()


@pytest.mark.parametrize("text", READ)
def test_odd_texts_are_kept_in_their_canonical_form(text: str) -> None:
    assert canonical(text) == READ[text]
    assert TwoLayer(1, text).activation == Teacher([[1.0]], [1.0], text).activation == READ[text]
    assert TwoLayer(1, text) == TwoLayer(1, READ[text])
    assert parse(text) == parse(READ[text])


def test_generated_code_is_printed_from_the_expression() -> None:
    written = "x  **2+ (0.50)*x"
    for module in (user_activation(written), user_gradients(written), user_teacher(written, "max( x,0.0 )")):
        assert "0.50" not in module
        assert "0.0" not in module.partition('"""')[2].partition('"""')[0]
        assert "x**2 + x/2" in module


# --- fuzz
# -------------------------------------------------------------------------------------------------------------------

_PRINTED = re.compile(r"[A-Za-z0-9_+\-*/(),. ]+", re.ASCII)
_WORDS = [
    *FUNCTIONS,
    *BUILTIN,
    *NAMED,
    "x",
    "pi",
    "lambda",
    "__import__",
    "if",
    "else",
    ":=",
    "**",
    "1e9",
    "0.1",
    "''''",
    '"""',
]
_texts = st.one_of(
    st.text(max_size=40),
    st.text(alphabet=string.printable, max_size=40),
    st.lists(st.one_of(st.sampled_from(_WORDS), st.sampled_from("x()+-*/,. 01\n#\\{}[]\"'")), max_size=25).map("".join),
)


def _meaning(text: str) -> str:
    """The tree of a text, with its numbers as they are written."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(text.strip(" "), mode="eval")
    return ast.dump(tree)


def _read(text: str) -> tuple[str, str]:
    """The canonical print, or the reason why there is none."""
    try:
        return canonical(text), ""
    except ValueError as error:
        return "", str(error)


@settings(max_examples=2000, deadline=None)
@given(_texts)
@example("x  +1_0")
def test_any_text_is_refused_or_printed_from_its_tree(text: str) -> None:
    printed, _ = _read(text)
    if not printed:
        return
    assert _PRINTED.fullmatch(printed)
    assert "__" not in printed
    assert canonical(printed) == printed
    assert _meaning(printed) == _meaning(text)
    assert {node.id for node in ast.walk(ast.parse(printed)) if isinstance(node, ast.Name)} <= {
        *FUNCTIONS,
        *BUILTIN,
        *NAMED,
        "x",
        "pi",
        "E",
    }


_expressions = st.recursive(
    st.sampled_from(["x", "pi", "2", "0.5", "1e-3"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from([" + ", "-", "*", " /"]), inner).map("".join),
        inner.map("-({})".format),
        inner.map("({})**2".format),
        st.tuples(st.sampled_from(["sin", "erf", "Abs", "tanh"]), inner).map("{0[0]}({0[1]})".format),
        st.tuples(inner, inner).map("max({0[0]},{0[1]} )".format),
    ),
    max_leaves=12,
)


@settings(max_examples=500, deadline=None)
@given(_expressions)
def test_expressions_of_the_grammar_are_read(text: str) -> None:
    """All of them, but for the limits, which say so."""
    printed, reason = _read(text)
    assert printed or re.search("degree|not of size", reason)
    assert not printed or _meaning(printed) == _meaning(text)
