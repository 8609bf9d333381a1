"""The cache of derived and compiled code: nothing in it is executed unless it is whole and the user's own."""

import logging
import os
import pickle
import shutil
import subprocess
import sys
import textwrap
import time
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from quenched.numerics.compiled import cache
from quenched.numerics.compiled import machine_code as compile_module


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """A cache of this test, and none of what earlier ones remember."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("QUENCHED_CACHE", str(folder))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cache, "_kept", {})
    for remembered in (cache._say, cache._temporary):
        remembered.cache_clear()
    return folder


@pytest.fixture
def derivations(monkeypatch):
    """A derivation that takes 0.2 s, and the list of those that ran."""
    ran = []

    def derive(kind, arguments):
        ran.append((kind, *arguments))
        time.sleep(0.2)
        return f"import time\ntime.sleep(0.2)\nVALUE = {arguments[0]!r}\n"

    monkeypatch.setattr(cache, "derived_text", derive)
    return ran


def python(code, **environment):
    """Run a program in a process of its own; its output."""
    env = {name: value for name, value in {**os.environ, **environment}.items() if value is not None}
    command = [sys.executable, "-P", "-W", "error", "-c", textwrap.dedent(code)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- damage
# -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.replace(b"'x**2'", b"'x**3'"),
        lambda data: data + b"open('pwned', 'w')\n",
        lambda data: b"open('pwned', 'w')\n" + data,
        lambda data: data.partition(b"\n")[2],
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1],
        lambda data: b"",
        lambda data: b"\0" * len(data),
    ],
    ids=["edited", "planted behind", "planted before", "without a seal", "half", "one byte less", "empty", "zeros"],
)
def test_a_damaged_file_is_not_run_but_made_anew(own_cache, derivations, damage):
    assert cache.derived_module("test", "x**2").VALUE == "x**2"
    (path,) = own_cache.glob("derived/*.py")
    whole = path.read_bytes()
    assert damage(whole) != whole
    path.write_bytes(damage(whole))
    assert cache.derived_module("test", "x**2").VALUE == "x**2"
    assert len(derivations) == 2
    assert path.read_bytes() == whole
    assert not Path("pwned").exists()
    assert cache.derived_module("test", "x**2").VALUE == "x**2"
    assert len(derivations) == 2


def test_a_file_under_another_name_is_not_taken_for_it(own_cache, derivations):
    for text in ("x**2", "x**3"):
        cache.derived_module("test", text)
    one, other = own_cache.glob("derived/*.py")
    shutil.copy(one, other)
    assert [cache.derived_module("test", text).VALUE for text in ("x**2", "x**3")] == ["x**2", "x**3"]
    assert len(derivations) == 3


# --- owners
# -------------------------------------------------------------------------------------------------------------------


def test_what_another_user_owns_is_refused(own_cache, monkeypatch, caplog):
    path = cache.place("derived") / "one.py"
    assert cache.write(path, b"1")
    assert cache.read(path) == b"1"
    monkeypatch.setattr(os, "getuid", lambda: path.stat().st_uid + 1)
    assert cache.read(path) is None
    assert "another user" in cache.fault(own_cache)
    assert cache.place("derived") is None  # nor is the temporary folder that user's own
    assert "is not used: it belongs to another user" in caplog.text
    with pytest.raises(ValueError, match="another user"):
        cache.clear()


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_what_others_may_write_to_is_refused(own_cache, derivations, caplog, mode):
    cache.derived_module("test", "x**2")
    (path,) = own_cache.glob("derived/*.py")
    path.chmod(mode)
    cache.derived_module("test", "x**2")
    assert len(derivations) == 2
    assert path.stat().st_mode & 0o777 == 0o600
    for folder in (path.parent, own_cache):
        folder.chmod(mode)
        assert cache.place("derived") not in (path.parent, None)
        assert "others may write to it" in caplog.text
        folder.chmod(0o700)
    assert cache.place("derived") == path.parent


def test_links_are_not_followed(own_cache, tmp_path):
    folder, elsewhere = cache.place("derived"), tmp_path / "one.py"
    assert cache.write(elsewhere, b"1")
    (folder / "one.py").symlink_to(elsewhere)
    assert cache.read(elsewhere) == b"1"
    assert cache.read(folder / "one.py") is None
    shutil.rmtree(folder)
    folder.symlink_to(tmp_path, target_is_directory=True)
    assert cache.place("derived") != folder
    cache.clear()
    assert elsewhere.exists()


def test_new_folders_and_files_are_the_users_alone(own_cache):
    path = cache.place("machine") / "one.code"
    cache.write(path, b"1")
    assert [p.stat().st_mode & 0o777 for p in (own_cache, path.parent, path)] == [0o700, 0o700, 0o600]


# --- no cache
# -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", ["/proc/nohome/quenched", "file/quenched"])
def test_without_a_cache_a_temporary_folder_serves(derivations, monkeypatch, caplog, wanted):
    Path("file").write_text("no folder")
    monkeypatch.setenv("QUENCHED_CACHE", wanted)
    assert [cache.derived_module("test", "x**2").VALUE for _ in range(3)] == ["x**2"] * 3
    assert len(derivations) == 1
    assert [r.levelno for r in caplog.records] == [logging.WARNING]
    assert "is not used: it cannot be made" in caplog.text


def test_without_any_folder_memory_serves(derivations, monkeypatch):
    monkeypatch.setenv("QUENCHED_CACHE", "/proc/nohome/quenched")
    monkeypatch.setattr(cache, "_temporary", lambda: None)
    assert [cache.derived_module("test", "x**2").VALUE for _ in range(3)] == ["x**2"] * 3
    assert len(derivations) == 1


def test_a_full_disk_is_said_and_memory_serves(own_cache, derivations, monkeypatch, caplog):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.tempfile, "NamedTemporaryFile", full)
    assert [cache.derived_module("test", "x**2").VALUE for _ in range(3)] == ["x**2"] * 3
    assert len(derivations) == 1
    assert "cannot be written (No space left on device)" in caplog.text
    assert list(own_cache.glob("derived/*.py")) == []


def test_a_home_that_is_not_there(tmp_path):
    """The temporary folder goes when the process ends; compiled code works without a place to keep it."""
    code = """
        from quenched.numerics import Mixture, TwoLayer, OnlineSGD, drift
        from quenched.numerics.compiled import cache
        from quenched.numerics.two_layer.flow import random_state
        mixture, network = Mixture.two_clusters(1.0), TwoLayer(1, "linear")
        drift(mixture, network, OnlineSGD(0.5), random_state(mixture, network, 100, 0))
        print(cache.place("machine"), len(list(cache.place("machine").iterdir())))
    """
    place, number = python(code, QUENCHED_CACHE=None, HOME="/proc/nohome", XDG_CACHE_HOME=None).split()
    assert "quenched-" in place
    assert int(number) > 0
    assert not Path(place).exists()


def test_a_tilde_is_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("QUENCHED_CACHE", "~/q")
    assert cache.place("derived") == tmp_path / "q" / "derived"
    monkeypatch.setenv("QUENCHED_CACHE", "~no-such-user/q")
    with pytest.raises(ValueError, match="QUENCHED_CACHE must be a folder, got '~no-such-user/q'"):
        cache.place("derived")


# --- machine code
# -------------------------------------------------------------------------------------------------------------------

TEXT = """
from numba import njit
from quenched.numerics.compiled.machine_code import callback, njit as kept

@njit
def half(x):
    return x / 2.0

@kept(nogil=True)
def outer(x):
    return half(x) + 1.0

@callback("float64(float64)")
def called(x):
    return x + 1.0
"""
COMPILED = f"""
    from quenched.numerics.compiled import cache
    made = cache.module({TEXT!r}, "test")
    print(made.outer(3.0), made.called.ctypes(1.0), sum(made.outer._cache_hits.values()))
"""


class Payload:
    """A pickle that runs code when it is loaded."""

    def __reduce__(self):
        return (open, ("pwned", "w"))


def test_poisoned_machine_code_is_not_loaded_but_made_anew(own_cache):
    assert python(COMPILED).split() == ["2.5", "2.0", "0"]
    assert python(COMPILED).split() == ["2.5", "2.0", "1"]
    files = sorted(own_cache.glob("machine/*.code"))
    assert [path.name.rpartition("_")[0] for path in files] == ["called", "outer"]
    for kind, poison in {"empty": b"", "zeros": b"\0" * 100, "pickle": pickle.dumps(Payload()), "half": None}.items():
        for path in files:
            path.write_bytes(path.read_bytes()[:1000] if poison is None else poison)
        assert python(COMPILED).split() == ["2.5", "2.0", "0"], kind
        assert python(COMPILED).split() == ["2.5", "2.0", "1"], kind
        assert sorted(own_cache.glob("machine/*")) == files, kind
    assert not Path("pwned").exists()


def test_machine_code_knows_the_functions_and_constants_it_uses():
    """The same function with another `half`, or another constant, has code of its own."""
    made = cache.module("ONE = 1.0\n" + TEXT.replace("1.0", "ONE"), "test")
    other = cache.module(TEXT.replace("2.0", "3.0"), "test")
    function = made.outer.py_func
    same, *different = (
        compile_module._origin(types.FunctionType(function.__code__, {**function.__globals__, **changed}))
        for changed in ({}, {"half": other.half}, {"ONE": 2.0})
    )
    assert same == compile_module._origin(function)
    assert len({same, *different}) == 3


def test_nothing_is_kept_beside_the_sources(own_cache, root):
    code = (
        "from quenched.numerics.probability.normal import normal_probability\n"
        "print(round(float(normal_probability([0.0] * 4, [0.5] * 6)), 12))"
    )
    before = {path: path.stat().st_mtime_ns for path in root.rglob("__pycache__/*.nb[ic]")}
    assert python(code).split() == ["0.2"]
    assert {path: path.stat().st_mtime_ns for path in root.rglob("__pycache__/*.nb[ic]")} == before
    assert len(list(own_cache.glob("machine/*.code"))) > 5


def test_without_the_compiler():
    code = """
        import numpy as np
        from quenched.numerics import Mixture, TwoLayer
        from quenched.numerics.averages.activations import compiled_activation, tables
        g, dg = compiled_activation("relu")
        print(g(-2.0), dg(0.0), tables("relu", np.zeros((1, 2)), np.eye(2)[None], 2)["g,g"][0, 0, 0])
    """
    assert [float(value) for value in python(code, NUMBA_DISABLE_JIT="1").split()] == [0.0, 0.5, 0.5]


# --- threads and processes
# -------------------------------------------------------------------------------------------------------------------


def test_four_threads_derive_once_and_wait_for_the_whole_module(derivations):
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: cache.derived_module("threads", "x**2").VALUE, range(4)))
    assert found == ["x**2"] * 4
    assert len(derivations) == 1


def test_four_threads_compile_an_activation_at_first_use(own_cache):
    code = """
        from concurrent.futures import ThreadPoolExecutor
        from quenched.numerics.averages.activations import compiled_activation
        with ThreadPoolExecutor(4) as pool:
            print(*{g.ctypes(2.0) for g, _ in pool.map(compiled_activation, ["relu"] * 4)})
    """
    assert python(code).split() == ["2.0"]


def test_four_processes_derive_once(tmp_path):
    code = """
        import time
        from pathlib import Path
        from quenched.numerics.compiled import cache
        def derive(kind, arguments):
            with Path("derivations").open("a") as file:
                file.write("once ")
            time.sleep(1)
            return "VALUE = 2"
        cache.derived_text = derive
        print(cache.derived_module("processes", "x**2").VALUE)
    """
    command = [sys.executable, "-P", "-W", "error", "-c", textwrap.dedent(code)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.communicate()[0].strip() for process in processes] == ["2"] * 4
    assert Path("derivations").read_text() == "once "


def test_a_derivation_runs_no_file_of_the_working_directory(own_cache, monkeypatch):
    for name in ("random", "sympy", "mpmath", "sitecustomize", "quenched"):
        Path(f"{name}.py").write_text("open('pwned', 'w')\n")
    for path in ("", os.pathsep, f".{os.pathsep}"):
        monkeypatch.setenv("PYTHONPATH", path)
        assert "def custom_2(" in cache.derived_text("activation", ("x**2 + x",))
    assert not Path("pwned").exists()


# --- the verb
# -------------------------------------------------------------------------------------------------------------------


def test_clear_removes_what_is_the_caches_and_nothing_else(own_cache, monkeypatch, capfd):

    from quenched.sim.cli.main import main

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["quenched", "cache", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code, "".join(capfd.readouterr())

    cache.write(cache.place("derived") / "one.py", b"1" * 10**6)
    cache.write(cache.place("machine") / "one.code", b"1" * 10**6)
    (own_cache / "thesis.tex").write_text("mine")
    (own_cache / "derived" / "notes.txt").write_text("mine")
    assert run() == (0, f"{own_cache}: 2 files, 2.0 MB\n")
    assert run("--clear") == (0, f"{own_cache}: 2 files removed, 2.0 MB\n")
    kept = sorted(str(p.relative_to(own_cache)) for p in own_cache.rglob("*") if p.is_file())
    assert kept == ["derived/notes.txt", "thesis.tex"]
    assert run("--clear")[1] == f"{own_cache}: 0 files removed, 0.0 MB\n"
    own_cache.chmod(0o770)
    assert run() == (0, f"{own_cache}: others may write to it (mode drwxrwx---); chmod go-w would mend that\n")
    assert run("--clear")[0] == 2
