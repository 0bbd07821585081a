"""The reference of a measurement: a short search where none is stored, its label, and the note on a weak one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

import softmaxcode as sc
from softmaxcode.compare import UnsearchedCodeWarning, compare, reference, reference_code
from softmaxcode.metrics import GNC2, GeneralizedNeuralCollapse
from softmaxcode.storage.provenance import Evidence, Provenance

if TYPE_CHECKING:
    from pathlib import Path

#: A pair without a stored search; its construction is weak.
K, D = 70, 8


@pytest.fixture(scope="module")
def good() -> sc.SoftmaxCode:
    return sc.solve(K, D, starts=1, catalog=False, exact=False)


@pytest.fixture
def mine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A catalogue of the user's, and no results of earlier searches in memory."""
    path = tmp_path / "mine.sqlite"
    monkeypatch.setenv("SOFTMAXCODE_CATALOG", str(path))
    monkeypatch.setattr(reference, "_FOUND", {})
    return path


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch, good: sc.SoftmaxCode) -> list[tuple[int, int]]:
    """The searches that were asked for; each returns a good code at once."""
    asked = []

    def solve(K: int, d: int, **options: object) -> sc.SoftmaxCode:
        assert options["budget"] == reference.SEARCH_SECONDS
        asked.append((K, d))
        return good

    monkeypatch.setattr(reference, "solve", solve)
    return asked


def test_a_search_is_announced_and_made_once(mine, searches, good):
    with pytest.warns(UnsearchedCodeWarning, match=r"\(70, 8\) was never searched: searching for 5 s"):
        code = reference_code(K, D)
    assert code.provenance.evidence == Evidence.SEARCHED and code.margin == good.margin
    assert sc.best_known(K, D).margin == good.margin  # it is stored
    assert sc.best_known(K, D).provenance.evidence == Evidence.SEARCHED
    reference_code(K, D)
    reference._FOUND.clear()
    reference_code(K, D)
    assert searches == [(K, D)]


def test_a_search_that_finds_nothing_better_is_recorded(mine, monkeypatch):
    known = sc.best_known(K, D)
    plain = sc.SoftmaxCode(known.W, "softmax", Provenance("exact: something"))
    monkeypatch.setattr(reference, "solve", lambda *_, **__: plain)
    with pytest.warns(UnsearchedCodeWarning):
        code = reference_code(K, D)
    np.testing.assert_array_equal(code.W, known.W)
    again = sc.best_known(K, D)
    assert again.provenance.evidence == Evidence.SEARCHED and again.margin == pytest.approx(known.margin, abs=1e-13)
    assert "found nothing better" in again.provenance.method


def test_no_search_where_it_is_off_pointless_or_too_long(mine, searches, recwarn):
    assert reference_code(K, D, search=False).provenance.evidence == Evidence.CONSTRUCTION
    assert reference_code(100, 10).provenance.evidence == Evidence.SEARCHED
    assert reference_code(12, 3).provenance.evidence == Evidence.PROVED
    assert reference_code(2000, 40).provenance.evidence == Evidence.CONSTRUCTION
    assert not searches and not recwarn.list
    with pytest.raises(sc.UnknownCodeError):
        reference_code(10**6, 3)


def test_a_result_that_cannot_be_stored_is_used(monkeypatch, searches, good, tmp_path):
    monkeypatch.setenv("SOFTMAXCODE_CATALOG", str(tmp_path / "nowhere" / "mine.sqlite"))
    monkeypatch.setattr(reference, "_FOUND", {})
    with pytest.warns(UnsearchedCodeWarning, match="the result of the search is not stored: the catalogue"):
        code = reference_code(K, D)
    assert code.margin == good.margin and code.provenance.evidence == Evidence.SEARCHED
    assert reference_code(K, D).margin == good.margin and len(searches) == 1  # remembered in this process


def test_the_metric_calls_a_construction_so(mine, searches, good):
    metric = GNC2(K, D, search=False)
    metric.set_classifier(torch.tensor(good.W))
    weak = sc.best_known(K, D).margin
    assert (metric.evidence, metric.limit) == (Evidence.CONSTRUCTION, pytest.approx(weak, abs=1e-14))
    assert metric.reference_label == "construction only, never searched"
    percent = f"{100 * (good.margin / weak - 1):.2g} %"
    with pytest.warns(UnsearchedCodeWarning, match=f"GNC2_ratio is 1.*exceeds that of the reference by .*{percent}"):
        ratio = metric.compute()["GNC2_ratio"]
    assert float(ratio) == pytest.approx(good.margin / weak)
    limits = GeneralizedNeuralCollapse(K, D, search=False).limits
    assert limits == {"ρ (construction only, never searched)": weak}
    assert not searches
    with pytest.warns(UnsearchedCodeWarning, match="never searched"):
        assert GeneralizedNeuralCollapse(K, D).limits == {"ρ* (best known)": good.margin}
    assert searches == [(K, D)]


def test_the_metric_searches_and_then_is_at_most_one(mine, searches, good, recwarn):
    metric = GNC2(K, D)
    metric.set_classifier(torch.tensor(good.W, dtype=torch.float32))
    assert float(metric.compute()["GNC2_ratio"]) == pytest.approx(1, abs=1e-6)
    assert [str(w.message)[:30] for w in recwarn.list] == ["(K, d) = (70, 8) was never sea"]


def test_the_comparison_calls_a_construction_so(mine, searches, good):
    found = compare(good.W, align=False, search=False)
    assert found.evidence == Evidence.CONSTRUCTION
    assert found.reference == "code (construction only, never searched)"
    assert found.margin_ratio > 1.01
    assert "the margin exceeds that of the reference by" in found.note and "best known" not in str(found)
    given = compare(good.W, sc.SoftmaxCode.from_rows(found.code.W), align=False)
    assert given.evidence is None and given.reference_label == "given code" and "exceeds" in given.note
    with pytest.warns(UnsearchedCodeWarning):
        searched = compare(good.W, align=False)
    assert searched.margin_ratio == pytest.approx(1) and searched.note == "" and searched.reference == "code"
    assert searches == [(K, D)]


def test_the_report_prints_the_evidence():
    from softmaxcode.report import report

    assert "evidence              construction only (never searched: solve may find a much better code)" in report(
        sc.best_known(K, D)
    )
    assert "evidence              proved (an optimal packing)" in report(sc.best_known(12, 3))
    assert "evidence" not in report(sc.solve(7, 3, starts=1, catalog=False))
