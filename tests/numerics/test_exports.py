"""What the packages promise can be imported, whatever was imported before."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("package", ["numerics", "sim"])
def test_every_exported_name_is_callable(package: str) -> None:
    """`errors` and `compare` are functions in modules of their own name: the module must not replace it."""
    code = (
        "import importlib, pkgutil, quenched.{0} as package\n"
        "names = [module.name for module in pkgutil.iter_modules(package.__path__) if module.name in package.__all__]\n"
        "for name in names: importlib.import_module('quenched.{0}.' + name)\n"
        "for name in package.__all__: assert callable(getattr(package, name)), name\n"
    )
    subprocess.run([sys.executable, "-c", code.format(package)], check=True)
