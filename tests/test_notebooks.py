"""Every notebook runs from top to bottom in a fresh kernel, defines nothing, and is stored with the outputs it has.

The site shows the stored outputs; `pytest tests/test_notebooks.py --update` renews them.
"""

import ast
import base64
import io
import re
import warnings
from pathlib import Path

import nbformat
import pytest
from PIL import Image

with warnings.catch_warnings():  # Jupyter announces a change of its own paths
    warnings.simplefilter("ignore", DeprecationWarning)
    from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))
LARGEST = 200_000  # bytes of a notebook
FORMS = ("text/plain", "text/latex", "image/png")  # of an output, that are kept
NUMBER = re.compile(r"[-+]?\d+\.?\d*(?:e[-+]?\d+)?")


def code(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def small(picture: str) -> str:
    """A picture in 32 colours, which is a third of it."""
    packed = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB").quantize(32).save(packed, "png", optimize=True)
    return base64.b64encode(packed.getvalue()).decode()


def store(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Write the outputs into the file: the forms that a page shows, small, without counters and times."""
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number}", {}
    for cell in code(notebook):
        cell.execution_count = None
        for output in cell.outputs:
            output.pop("execution_count", None)
            output.metadata = {}
            output.data = {form: output.data[form] for form in FORMS if form in output.data}
            if "image/png" in output.data:
                output.data["image/png"] = small(output.data["image/png"])
            if output.output_type == "execute_result":
                output.execution_count = None
    notebook.metadata.pop("widgets", None)
    notebook.metadata.language_info = {"name": "python"}
    nbformat.write(notebook, path)


def texts(notebook: nbformat.NotebookNode) -> list[str]:
    """What cells print as text; of figures and datasets, whose text has sizes and versions, nothing."""
    found = [output.get("data", {}).get("text/plain", "") for cell in code(notebook) for output in cell.outputs]
    return ["" if text.startswith("<") else text for text in found]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_imports_and_plots_only(path: Path) -> None:
    for cell in code(nbformat.read(path, as_version=4)):
        source = "\n".join(line for line in cell.source.splitlines() if not line.startswith("%"))
        defined = (ast.FunctionDef, ast.ClassDef, ast.Lambda, ast.For, ast.While)
        assert not [node for node in ast.walk(ast.parse(source)) if isinstance(node, defined)], cell.source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_gives_what_is_stored(path: Path, tmp_path: Path, update: bool) -> None:
    """Words to the letter, numbers to a percent: a simulation of another machine differs by rounding that may grow."""
    stored, notebook = (nbformat.read(path, as_version=4) for _ in range(2))
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    figures = [out for cell in code(notebook) for out in cell.outputs if "image/png" in out.get("data", {})]
    assert figures, "a notebook shows at least one figure"
    if update:
        store(notebook, path)
        return
    assert path.stat().st_size < LARGEST, "stored outputs are small"
    old, new = texts(stored), texts(notebook)
    assert len(old) == len(new), "run pytest tests/test_notebooks.py --update"
    for before, after in zip(old, new, strict=True):
        assert NUMBER.sub("#", before).split() == NUMBER.sub("#", after).split()
        numbers = [list(map(float, NUMBER.findall(text))) for text in (before, after)]
        assert numbers[1] == pytest.approx(numbers[0], rel=0.01, abs=1e-6)
