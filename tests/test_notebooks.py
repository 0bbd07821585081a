"""The notebooks are stored executed, and still run."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbconvert.preprocessors import ExecutePreprocessor

from tests.processes import HANG

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


def read(path: Path) -> nbformat.NotebookNode:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(cell: nbformat.NotebookNode) -> list[tuple[str, list[str]]]:
    """The output of a cell, without its figures."""
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
    execution = ExecutePreprocessor(timeout=HANG, startup_timeout=HANG, kernel_name="python3")
    execution.preprocess(fresh, {"metadata": {"path": str(tmp_path)}})
    for old, new in zip(code_cells(stored), code_cells(fresh), strict=True):
        assert [out.output_type for out in new.outputs] == [out.output_type for out in old.outputs]
        assert [sorted(out.get("data", {})) for out in new.outputs] == [
            sorted(out.get("data", {})) for out in old.outputs
        ]


def test_there_is_a_notebook():
    assert NOTEBOOKS
