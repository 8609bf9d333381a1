"""The wheel: built from a copy of the sources, unpacked elsewhere, every module imported from there."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ["symbolic", "theory", "numerics", "sim"]


def test_every_module_of_the_wheel_imports(tmp_path: Path) -> None:
    # A copy, since setuptools would leave build/ in the sources, from which a deleted module can be shipped again.
    source = tmp_path / "source"
    source.mkdir()
    for layer in LAYERS:
        shutil.copytree(ROOT / layer, source / layer, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("__init__.py", "py.typed", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)

    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    offline = ["--no-deps", "--no-index"]
    wheels, target = tmp_path / "wheels", tmp_path / "target"
    subprocess.run([*pip, "wheel", *offline, "--no-build-isolation", "-w", str(wheels), str(source)], check=True)
    (wheel,) = wheels.glob("quenched-*.whl")
    subprocess.run([*pip, "install", *offline, "--target", str(target), str(wheel)], check=True)

    modules = [
        ".".join(("quenched", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
        for layer in LAYERS
        for path in sorted((ROOT / layer).rglob("*.py"))
    ]
    # -P and a foreign working directory keep the checkout off the path; the editable install, where there is one, comes
    # after `target` in sys.path, and each module's file is checked to be the wheel's.
    assert (target / "quenched" / "py.typed").is_file()
    code = (
        "import importlib, importlib.metadata, sys\n"
        f"sys.path.insert(0, {str(target)!r})\n"
        "sys.meta_path[:] = [finder for finder in sys.meta_path if 'editable' not in repr(finder)]\n"
        f"for name in {modules!r}:\n"
        f"    assert importlib.import_module(name).__file__.startswith({str(target)!r}), name\n"
    )
    code += "import quenched; assert quenched.__version__ == importlib.metadata.version('quenched')\n"
    subprocess.run([sys.executable, "-P", "-W", "error", "-c", code], cwd=tmp_path, check=True)
