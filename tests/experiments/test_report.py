"""The report of a results folder: studies with finished and planned runs."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from experiments.report import report
from experiments.settings import RunSettings
from softmaxcode.pages import Findings
from tests.softmaxcode.pages.test_page import Page

if TYPE_CHECKING:
    from pathlib import Path


def results_folder(root: Path) -> list[RunSettings]:
    """A study of three runs, of which two are finished."""
    asked = [RunSettings.checked("digits", seed=seed) for seed in range(3)]
    (root / "gnc.json").write_text(json.dumps({"runs": [settings.to_dict() for settings in asked]}))
    for settings in asked[:2]:
        folder = root / "runs" / settings.key
        folder.mkdir(parents=True)
        header = {"settings": settings.to_dict(), "status": "finished", "data": "", "seconds": 45.0}
        (folder / "run.json").write_text(json.dumps(header))
    return asked


def test_report_of_a_results_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = results_folder(tmp_path)

    def findings(runs: Any) -> Findings:
        return Findings([f"seeds {[run.settings.seed for run in runs]}"])

    study = SimpleNamespace(TITLE="Collapse", QUESTION="Does it?", findings=findings)
    monkeypatch.setitem(sys.modules, "experiments.studies.gnc", study)
    path = report(tmp_path)
    assert path == tmp_path / "report.html"
    page = Page(path.read_text())
    assert [element["id"] for element in page.all("section")] == ["gnc"]
    assert "seeds [0, 1]" in {element["text"] for element in page.all("li")}
    assert "2 of 3 planned runs, 90 s of training" in {element["text"] for element in page.all("p")}

    (tmp_path / "text.json").write_text(json.dumps({"runs": [settings.to_dict() for settings in asked]}))
    monkeypatch.setitem(sys.modules, "experiments.studies.text", study)
    page = Page(report(tmp_path).read_text())
    assert [element["id"] for element in page.all("section")] == ["gnc", "text"]
    (tmp_path / "text.json").unlink()

    for settings in asked[:2]:
        (tmp_path / "runs" / settings.key / "run.json").unlink()
    page = Page(report(tmp_path, tmp_path / "other.html").read_text())
    assert not page.all("li")
    assert "0 of 3 planned runs" in {element["text"] for element in page.all("p")}

    (tmp_path / "gnc.json").write_text("{")
    with pytest.raises(ValueError, match=r"gnc\.json: it is not the plan of a study, or damaged"):
        report(tmp_path)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no such folder"):
        report(tmp_path / "none")
