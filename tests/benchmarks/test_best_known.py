"""The benchmark of `best_known`: monotone values, the sample, the tables and the exit status."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import best_known
from benchmarks.best_known import Comparison, not_monotone, sampled_pairs, tables
from softmaxcode.storage.provenance import Evidence

SEARCHED, UNSEARCHED = Evidence.SEARCHED, Evidence.CONSTRUCTION


def test_a_small_grid_is_monotone(capsys):
    assert best_known.main(["--classes", "24", "--dims", "6", "--sample", "0"]) == 0
    assert "not monotone" in capsys.readouterr().out


@given(st.dictionaries(st.tuples(st.integers(2, 6), st.integers(1, 4)), st.integers(0, 5)))
def test_violations_are_found(values):
    bad = not_monotone(values)
    for K, d in values:
        worse = [(k, n) for k, n in values if (n == d and k < K and values[k, n] < values[K, d])]
        worse += [(k, n) for k, n in values if (k == K and n < d and values[k, n] > values[K, d])]
        assert ((K, d) in bad) == bool(worse)


def test_the_sample_is_half_of_each_kind():
    values = {(K, d): (0.5, SEARCHED if d < 6 else UNSEARCHED) for K in range(2, 40) for d in range(1, 9)}
    pairs = sampled_pairs(values, 20, 3)
    assert len(set(pairs)) == 20 and all(K > 2 * d and d > 2 for K, d in pairs)
    assert sum(values[pair][1] == SEARCHED for pair in pairs) == 10
    assert pairs == sampled_pairs(values, 20, 3) != sampled_pairs(values, 20, 4)


def test_a_search_that_beats_a_searched_pair_fails(monkeypatch, capsys):
    rows = [Comparison(30, 3, 0.2, SEARCHED, 0.203), Comparison(60, 9, 0.6, UNSEARCHED, 0.7)]
    assert [row.beaten for row in rows] == [True, True]
    assert not Comparison(30, 3, 0.2, SEARCHED, 0.2019).beaten
    shown = tables({(30, 3): (0.2, SEARCHED), (60, 9): (0.6, UNSEARCHED)}, [], rows)
    assert shown["unsearched"]["K"].tolist() == [60] and shown["searched"]["beaten by more than 1 %"].tolist() == [1]
    assert shown["grid"][["pairs", "searched", "construction only"]].to_numpy().tolist() == [[2, 1, 1]]
    options = ["--classes", "8", "--dims", "3", "--sample", "1"]
    for kind, status in ((SEARCHED, 1), (UNSEARCHED, 0)):
        monkeypatch.setattr(best_known, "compared", lambda *_, kind=kind: [Comparison(8, 3, 0.5, kind, 0.6)])
        assert best_known.main(options) == status
    assert "beaten by a search: (8, 3) by 20.0%" in capsys.readouterr().err


def test_a_grid_that_is_not_monotone_fails(monkeypatch, capsys):
    monkeypatch.setattr(best_known, "grid_values", lambda *_: {(7, 3): (0.4, SEARCHED), (8, 3): (0.5, SEARCHED)})
    assert best_known.main(["--sample", "0"]) == 1
    assert "not monotone: (8, 3)" in capsys.readouterr().err


def test_bad_options_are_refused():
    with pytest.raises((ValueError, SystemExit)):
        best_known.main(["--classes", "1"])
    assert np.isfinite(best_known.ALLOWED)
