"""Every notebook runs from top to bottom in a fresh kernel, defines nothing, and is stored without output."""

import ast
import warnings
from pathlib import Path

import nbformat
import pytest

with warnings.catch_warnings():  # Jupyter announces a change of its own paths
    warnings.simplefilter("ignore", DeprecationWarning)
    from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))


def code(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_imports_and_plots_only(path: Path) -> None:
    for cell in code(nbformat.read(path, as_version=4)):
        source = "\n".join(line for line in cell.source.splitlines() if not line.startswith("%"))
        defined = (ast.FunctionDef, ast.ClassDef, ast.Lambda, ast.For, ast.While)
        assert not [node for node in ast.walk(ast.parse(source)) if isinstance(node, defined)], cell.source
        assert cell.outputs == [], "clear the outputs before committing"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    figures = [out for cell in code(notebook) for out in cell.outputs if "image/png" in out.get("data", {})]
    assert figures, "a notebook shows at least one figure"
