"""mypy, as a test.

mypy does not see an editable install, so the package is linked into a temporary `quenched/`, which works
however the package was installed.
"""

from pathlib import Path

import pytest
from mypy import api

ROOT = Path(__file__).resolve().parents[1]


def test_mypy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "quenched"
    package.mkdir()
    for layer in ("symbolic", "theory", "numerics", "sim"):
        (package / layer).symlink_to(ROOT / layer, target_is_directory=True)
    (package / "__init__.py").symlink_to(ROOT / "__init__.py")
    monkeypatch.setenv("MYPYPATH", str(tmp_path))
    cache = ROOT / ".mypy_cache"
    config = ROOT / "pyproject.toml"
    out, err, status = api.run([f"--config-file={config}", f"--cache-dir={cache}", "--no-pretty", "--package=quenched"])
    assert status == 0, out + err
