"""The notebooks are stored executed, and still run."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbconvert.preprocessors import ExecutePreprocessor

from tests.processes import HANG

#: Run before a notebook: its simulations take few steps. How far they get is `make notebooks`' to show.
FEW_STEPS = """
import functools, ufm

def few(function):
    @functools.wraps(function)
    def simulate(*args, steps=60, **options):
        return function(*args, steps=min(steps, 60), **options)
    return simulate

for name in ("simulate", "simulate_batch", "simulate_deep", "sweep"):
    setattr(ufm, name, few(getattr(ufm, name)))
"""
NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


def read(path: Path) -> nbformat.NotebookNode:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(cell: nbformat.NotebookNode) -> list[tuple[str, list[str]]]:
    """What kinds of output a cell gave, such as text or a picture."""
    return [(out.output_type, sorted(out.get("data", {}))) for out in cell.outputs]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_it_is_stored_executed_from_top_to_bottom(path):
    cells = code_cells(read(path))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert any(cell.outputs for cell in cells)
    assert not [
        out for cell in cells for out in cell.outputs if out.output_type == "error" or out.get("name") == "stderr"
    ]


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_it_runs_and_gives_outputs_of_the_stored_kinds(path, tmp_path):
    stored = read(path)
    fresh = read(path)
    fresh.cells.insert(0, nbformat.v4.new_code_cell(FEW_STEPS))
    execution = ExecutePreprocessor(timeout=HANG, startup_timeout=HANG, kernel_name="python3")
    execution.preprocess(fresh, {"metadata": {"path": str(tmp_path)}})
    for old, new in zip(code_cells(stored), code_cells(fresh)[1:], strict=True):
        assert kinds(new) == kinds(old)


def test_there_is_a_notebook():
    assert NOTEBOOKS
