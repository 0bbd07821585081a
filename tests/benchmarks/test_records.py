"""The page of records: values proved where they can be, coordinates that give them again."""

from __future__ import annotations

import pytest

import softmaxcode as sc
from benchmarks import records
from benchmarks.published import Published

#: The largest cosine of the best packing of 24 points, the snub cube's.
MU_24 = 0.72307846833350853703234480939451539825681993370625


def published(K: int, d: int, theirs: float) -> Published:
    return Published(K, d, theirs, 1e-12, "a table")


def test_a_better_packing_is_proved_and_written(tmp_path, monkeypatch, capsys) -> None:
    rows = [published(24, 3, 0.73), published(13, 3, 0.5), published(24, 4, 0.6)]
    monkeypatch.setattr(records, "read_published", lambda: rows)
    page = tmp_path / "records.md"
    records.main(["--write", str(page)])
    assert "2 of our packings are better than the published ones" in capsys.readouterr().out
    text = page.read_text()
    assert f"{MU_24:.13f}" in text and "0.723078468333508537032344809394515398256819933706" in text
    assert sorted(file.name for file in (tmp_path / "records").iterdir()) == ["pack.3.24.txt", "pack.4.24.txt"]
    assert sc.load(tmp_path / "records" / "pack.3.24.txt").max_cosine == pytest.approx(MU_24, abs=1e-14)


def test_a_packing_that_is_not_determined_has_no_digits_proved(monkeypatch) -> None:
    def refuse(code: sc.SoftmaxCode, digits: int) -> None:
        raise sc.NotRegular("the contacts do not determine the code")

    monkeypatch.setattr(records, "prove", refuse)
    one = records.record(published(13, 3, 0.6))
    assert not one.proved and one.cells()["digits proved"].startswith("none")
    assert float(one.value) == one.code.max_cosine
