"""What follows from stored codes: monotone values, what they are made of, and how hard a pair was searched."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import softmaxcode as sc
from softmaxcode.catalog import Catalog, UnknownCodeError, look_up, stored_both
from softmaxcode.catalog.closure import FromFile, Row, Table
from softmaxcode.catalog.derived import kept_rows, with_hole_filled
from softmaxcode.margins.exact import smallest_margin
from softmaxcode.sphere import gram, random_rows

if TYPE_CHECKING:
    from pathlib import Path

ROUNDING = 1e-12


def value(code: sc.SoftmaxCode) -> float:
    return code.margin if code.objective == "softmax" else 1 - code.max_cosine


# the fixed examples of the issue


@pytest.mark.parametrize(("K", "d", "least"), [(99, 10, 0.6691), (100, 11, 0.6691), (50, 12, 0.75), (512, 16, 2 / 3)])
@pytest.mark.parametrize("objective", ["softmax", "tammes"])
def test_pairs_that_were_far_from_their_neighbours(K, d, least, objective):
    code = sc.best_known(K, d, objective=objective)
    assert code.W.shape == (K, d)
    assert value(code) >= least - 1e-12
    assert value(code) == pytest.approx(look_up(K, d, objective).value, abs=1e-12)


@pytest.mark.parametrize(("K", "d"), [(40, 10), (99, 10), (100, 11), (50, 12), (100, 5), (100, 9), (86, 6)])
def test_pairs_that_were_never_searched_are_said_to_be(K, d):
    assert sc.best_known(K, d).provenance.evidence in ("construction only", "searched")
    with Catalog(sc.catalog.shipped_path(), readonly=True, trusted=True) as shipped:
        is_there = shipped.entry(K, d, "softmax") is not None
    assert (sc.best_known(K, d).provenance.evidence == sc.Evidence.CONSTRUCTION) == (not is_there)


def test_a_long_union_has_the_cosine_of_its_parts(monkeypatch):
    """(20000, 47) is a small searched code beside two of an exact family; a pass over all pairs is not needed."""
    code = sc.best_known(20_000, 47, objective="tammes")
    assert "catalogue entry" in code.provenance.method and "exact:" in code.provenance.method and code.is_long
    with monkeypatch.context() as patch:
        patch.setattr("softmaxcode.code.largest_cosines", None)
        found = code.max_cosine
    assert found == pytest.approx(1 - look_up(20_000, 47, "tammes").value, abs=1e-13)
    sample = code.W[::97] @ code.W.T
    assert np.sort(sample, axis=1)[:, -2].max() <= found + 1e-13


def test_large_rows_are_built_once_for_both_objectives():
    large, small = stored_both(20_000, 256), stored_both(40, 10)
    assert large["tammes"].W is large["softmax"].W and large["softmax"].objective == "softmax"
    assert large["softmax"].max_cosine == large["tammes"].max_cosine
    for objective, code in small.items():
        assert value(code) == pytest.approx(look_up(40, 10, objective).value, abs=1e-12)


@pytest.mark.parametrize(("K", "d"), [(5, 3), (12, 3), (100, 200), (9, 2), (275, 22), (11, 3)])
def test_what_is_proved_is_said_to_be(K, d):
    code = sc.best_known(K, d)
    assert code.provenance.evidence == sc.Evidence.PROVED
    assert code.certificate.status in ("optimal", "matches Tammes")


def test_the_shipped_searches_are_searched():
    assert sc.best_known(100, 10).provenance.evidence == sc.Evidence.SEARCHED
    assert sc.solve(100, 10, starts=1, budget=0.1).provenance.evidence is None


# monotone over a grid; `python -m benchmarks.best_known` checks all of K <= 300, d <= 40


@pytest.mark.parametrize("objective", ["softmax", "tammes"])
def test_values_are_monotone(objective):
    classes = [*range(13, 40, 3), *range(40, 300, 13)]
    dims = [3, 4, 5, 8, 9, 13, 17, 24]
    above = dict.fromkeys(classes, -np.inf)
    for d in dims:
        least = np.inf
        for K in classes:
            found = look_up(K, d, objective)
            here = -np.inf if found is None else found.value
            assert here <= least + ROUNDING, (K, d)
            assert here >= above[K] - ROUNDING, (K, d)
            least, above[K] = here, here


@settings(max_examples=25)
@given(K=st.integers(10, 150), d=st.integers(3, 20), objective=st.sampled_from(["softmax", "tammes"]))
def test_the_code_has_the_value_that_was_looked_up(K, d, objective):
    found = look_up(K, d, objective)
    if found is None:
        with pytest.raises(UnknownCodeError):
            sc.best_known(K, d, objective=objective)
        return
    code = sc.best_known(K, d, objective=objective)
    assert code.W.shape == (K, d)
    np.testing.assert_allclose(np.linalg.norm(code.W, axis=1), 1, atol=1e-14)
    measured = smallest_margin(code.W).margin if objective == "softmax" else 1 - gram(code.W).max()
    assert measured == pytest.approx(found.value, abs=1e-11)
    assert code.provenance.evidence == found.evidence


# the table


def row(K: int, d: int, value: float) -> Row:
    return Row(K, d, value, FromFile(0, f"{K} {d}"))


@st.composite
def tables(draw: st.DrawFn) -> Table:
    rows = draw(st.lists(st.tuples(st.integers(3, 6), st.integers(1, 25), st.integers(1, 99)), max_size=6))
    return Table(row(2 * d + extra, d, hundredths / 100) for d, extra, hundredths in rows)


def by_hand(table: Table, K: int, d: int) -> float:
    """The best value of a union, from all multisets of codes, axes and polygons with d dimensions in all."""
    pieces = [(r.d, r.K, r.value) for r in table.rows] + [(1, 2, 1.0)]
    pieces += [(2, n, 1 - np.cos(2 * np.pi / n)) for n in range(5, 65)]
    best = {(0, 0): 1.0}  # by dimensions and points
    for n in range(1, d + 1):
        for size, points, value in pieces:
            for (dims, total), v in list(best.items()):
                if dims + size == n:
                    key = (n, min(total + points, K))
                    best[key] = max(best.get(key, 0.0), min(v, value))
    return best.get((d, K), 0.0)


@settings(max_examples=40)
@given(table=tables(), extra=st.integers(1, 40), d=st.integers(3, 9))
def test_unions_are_the_best_there_are(table, extra, d):
    K = 2 * d + extra
    joined = table.joined(K, d)
    assert (0.0 if joined is None else joined.value) == pytest.approx(by_hand(table, K, d), abs=1e-12)
    if joined is not None:
        assert sum(r.d for r in joined.rows) == d
        assert sum(r.K for r in joined.rows) >= K
        assert min(r.value for r in joined.rows) >= joined.value - 1e-13


@settings(max_examples=40)
@given(table=tables(), K=st.integers(7, 60), d=st.integers(3, 9))
def test_tables_are_monotone(table, K, d):
    def best(K: int, d: int) -> float:
        direct, joined = table.direct(K, d), table.joined(K, d)
        return max(0.0 if direct is None else direct.value, 0.0 if joined is None else joined.value)

    assert best(K + 1, d) <= best(K, d) + ROUNDING
    assert best(K, d + 1) >= best(K, d) - ROUNDING


# points left out, and a point added


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), n=st.integers(12, 40), d=st.integers(3, 6), objective=st.sampled_from(["s", "t"]))
def test_leaving_points_out_keeps_the_value(seed, n, d, objective):
    W = random_rows(n, d, np.random.default_rng(seed))
    K = d + 3 + seed % (n - d - 3)
    name = "softmax" if objective == "s" else "tammes"
    kept = kept_rows(W, K, name)
    assert len(kept) == K and (np.diff(kept) > 0).all()
    if name == "softmax":
        assert smallest_margin(W[kept]).margin == pytest.approx(smallest_margin(W).margin, abs=1e-9)
    else:
        assert gram(W[kept]).max() == pytest.approx(gram(W).max(), abs=1e-15)


def test_the_deepest_hole_of_known_codes():
    """Of the cross-polytope (a vertex of the cube), and of E8 (cosine 1/sqrt 2)."""
    for d in (3, 4, 5):
        W = with_hole_filled(np.vstack([np.eye(d), -np.eye(d)]))
        assert W is not None and (W[:-1] @ W[-1]).max() == pytest.approx(d**-0.5, abs=1e-9)
    roots = sc.best_known(240, 8).W
    W = with_hole_filled(roots)
    assert W is not None and (roots @ W[-1]).max() == pytest.approx(0.5**0.5, abs=1e-9)


def test_one_more_point_than_is_stored():
    most = next(K for K in itertools.count(200) if look_up(K, 3, "tammes") is None) - 1
    found = look_up(most, 3, "tammes")
    code = sc.best_known(most, 3, objective="tammes")
    assert "hole" in code.provenance.method
    assert 0 < found.value <= look_up(most - 1, 3, "tammes").value
    assert 1 - gram(code.W).max() == pytest.approx(found.value, abs=1e-13)
    with pytest.raises(UnknownCodeError):
        sc.best_known(10**6, 3)


# the user's file


def test_a_result_of_the_users_counts_for_other_pairs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    monkeypatch.setenv("SOFTMAXCODE_CATALOG", str(path))
    before = look_up(139, 5, "softmax").value
    with Catalog(path) as catalog:
        catalog.improve(sc.solve(140, 4, starts=1, catalog=False, exact=False))
    after = sc.best_known(139, 5)
    assert after.margin > before + 0.01
    assert after.provenance.evidence == sc.Evidence.CONSTRUCTION
    assert "(140, 4) catalogue entry (140, 4) softmax" in after.provenance.method
    assert sc.best_known(140, 4).provenance.evidence == sc.Evidence.SEARCHED


def test_a_file_that_claims_too_much_is_corrected(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    monkeypatch.setenv("SOFTMAXCODE_CATALOG", str(path))
    with Catalog(path) as catalog:
        catalog.improve(sc.solve(110, 9, starts=1, catalog=False, exact=False))
        true = catalog.entry(110, 9, "softmax").lower_bound
        catalog._connection.execute("UPDATE codes SET lower_bound = 0.999, status = 'optimal'")
    assert sc.best_known(109, 9).margin == pytest.approx(true, abs=1e-12)
    assert look_up(109, 9, "softmax").evidence == sc.Evidence.CONSTRUCTION
    with Catalog(path) as catalog:
        catalog._connection.execute("UPDATE codes SET sha256 = replace(sha256, substr(sha256, 1, 8), '00000000')")
    assert sc.best_known(109, 9).margin < true


def test_a_code_as_it_was_derived_can_be_stored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Evidence is a statement on the catalogues at hand, so no file has it."""
    code = sc.best_known(50, 12)
    code.save(tmp_path / "code.npz")
    assert sc.load(tmp_path / "code.npz").provenance.evidence is None
    assert sc.load(tmp_path / "code.npz").provenance.method == code.provenance.method
    path = tmp_path / "catalog.sqlite"
    monkeypatch.setenv("SOFTMAXCODE_CATALOG", str(path))
    with Catalog(path) as catalog:
        assert catalog.improve(code) == ("softmax", "tammes")
        entry = catalog.entry(50, 12, "softmax")
    assert entry.provenance.evidence is None
