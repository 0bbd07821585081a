"""Our values against published ones, and margins against packings: the documents describe the codes correctly."""

from __future__ import annotations

import dataclasses
import json
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import softmaxcode as sc
from benchmarks import frontier, published
from benchmarks.open_question import command, search
from benchmarks.open_question.pairs import Pair, explain
from benchmarks.open_question.search import Collector, TargetedSearch
from softmaxcode.bounds.levenshtein_bound import levenshtein
from softmaxcode.bounds.literature import LITERATURE
from softmaxcode.catalog import Entry
from softmaxcode.margins.exact import margins
from softmaxcode.search.energy import HARDMAX
from softmaxcode.search.multistart import Candidate, optimise
from softmaxcode.sphere import gram, random_rows

STORED = ((7, 3), (8, 3), (9, 4))


pytestmark = pytest.mark.usefixtures("only_small_catalogue")


# Published values


@pytest.mark.parametrize(("K", "d", "cosine", "name"), frontier.UNIVERSAL_CODES)
def test_the_universally_optimal_codes_are_sharp(K, d, cosine, name):
    """All but the 600-cell meet Levenshtein's bound, so a wrong digit, K or d would show."""
    bound = levenshtein(K, d).value
    if name == "600-cell":
        assert bound < cosine
        assert cosine == pytest.approx(math.cos(math.pi / 5), abs=1e-15)
    else:
        assert cosine == pytest.approx(bound, abs=1e-14)


def test_exact_codes_need_no_catalogue(monkeypatch, tmp_path):
    monkeypatch.setenv("SOFTMAXCODE_CATALOG", str(tmp_path / "nowhere.sqlite"))
    row = frontier.compared(frontier.Row(240, 8, "E8", "tammes", 0.5))
    assert row.status == "optimal" and not row.lower
    assert row.ours == pytest.approx(0.5, abs=1e-15) and 0.5 - 1e-14 < row.lower_bound <= 0.5
    assert row.method == "exact: E8-roots"


def test_a_row_is_lower_beyond_rounding_only():
    row = frontier.Row(12, 3, "", "tammes", 0.5)
    assert row.lower  # nothing is stored
    assert not dataclasses.replace(row, ours=0.5 - 0.9e-12, lower_bound=0.4).lower
    assert dataclasses.replace(row, ours=0.5 - 1.1e-12, lower_bound=0.4).lower
    assert row.cells()["ours"] == "–"


def test_where_a_code_of_the_catalogue_came_from_is_said():
    row = frontier.compared(frontier.Row(9, 4, "", "softmax", 0.8))
    assert row.method == "search, polished"
    assert row.lower_bound <= row.ours + 1e-15


def test_the_published_values_are_possible():
    """Every pair once, with a source that the file describes; no value is below a proved bound."""
    rows = published.read_published()
    head = [line for line in published.PUBLISHED.read_text(encoding="utf-8").splitlines() if line.startswith("# ")]
    sources = {line[2:].partition(": ")[0] for line in head if ": " in line}
    assert len(rows) == len({(row.K, row.d) for row in rows}) == 242
    assert {row.source for row in rows} == sources
    for row in rows:
        assert row.theirs >= sc.max_cosine_lower_bound(row.K, row.d, lp=False).value - row.tolerance
        assert 0 < row.tolerance <= 1e-5


def test_published_values_of_known_packings():
    """Some rows have closed forms."""
    known = {(4, 3): -1 / 3, (6, 3): 0.0, (12, 3): 1 / math.sqrt(5), (9, 3): 1 / 3, (24, 3): LITERATURE[24, 3].value}
    rows = {(row.K, row.d): row for row in published.read_published()}
    compared = [pair for pair in known if pair in rows]
    assert len(compared) >= 2
    for pair in compared:
        assert rows[pair].theirs == pytest.approx(known[pair], abs=rows[pair].tolerance)


def test_a_published_value_is_equal_within_its_digits():
    row = published.Published(12, 3, 0.5, 1e-9, "")
    assert row.outcome == "no code" and row.cells()["our μ"] == "–"
    for ours, outcome in ((0.5 + 0.9e-9, "equal"), (0.5 - 0.9e-9, "equal"), (0.6, "worse"), (0.4, "better")):
        assert dataclasses.replace(row, ours=ours).outcome == outcome
    rows = [
        dataclasses.replace(row, K=K, d=d, ours=ours)
        for K, d, ours in ((9, 3, 0.5), (8, 3, 0.6), (7, 4, 0.7), (6, 3, 0.4), (5, 4, None))
    ]
    assert [one.K for one in published.ordered(rows)] == [7, 8, 5, 6, 9]
    assert published.sentence(rows) == (
        "- Of 5 published pairs ours equals 1, is better on 1 and worse on 2; for 1 no code is stored."
    )
    assert published.sentence(rows[:4]).endswith("worse on 2.")
    counts = published.by_dimension(rows)
    assert counts.to_numpy().tolist() == [["3", 3, 1, 1, 1, 0], ["4", 2, 0, 0, 1, 1]]


def test_ours_is_what_is_stored():
    stored = published.compared(published.Published(9, 4, 0.1620151996116, 1e-12, ""))
    assert (stored.outcome, stored.method) == ("equal", "search, polished")
    assert stored.evidence == "searched"
    exact = published.compared(published.Published(240, 8, 0.5, 1e-12, ""))
    assert (exact.outcome, exact.evidence, exact.method) == ("equal", "proved", "exact: E8-roots")
    assert published.compared(published.Published(300, 5, 0.8, 1e-12, "")).outcome == "no code"


def test_exit_codes(monkeypatch, capsys, tmp_path, parts_of):
    path = tmp_path / "frontier.md"
    listed = [published.Published(8, 3, 0.26120387496374, 1e-12, "Cohn")]
    monkeypatch.setattr(published, "read_published", lambda: listed)
    assert frontier.main(["--largest", "30", "--write", str(path)]) == 0
    printed = capsys.readouterr()
    made = parts_of(path)
    assert tuple(made) == frontier.PAGE.parts and all(part in printed.out for part in made.values())
    assert printed.err == ""
    assert made["counts"] == "- Of 1 published pairs ours equals 1, is better on 0 and worse on 0."
    assert made["universal"].count(" optimal |") == 3 and made["jiang"] == "No rows."
    # no code reaches this line
    monkeypatch.setattr(frontier, "PAPER_LINES", {(20, 4): 0.9})
    monkeypatch.setattr(frontier, "UNIVERSAL_CODES", frontier.UNIVERSAL_CODES[:1])
    listed.append(published.Published(10, 3, 0.40439432521625, 1e-12, "Cohn"))
    assert frontier.main(["--largest", "100"]) == 1
    printed = capsys.readouterr()
    assert printed.err == "worse than published: (20, 4) Jiang et al.\nworse than published: (10, 3) Cohn\n"
    assert "ours equals 1, is better on 0 and worse on 1." in printed.out


# Margins against packings


def entry(objective, margin, status, lower=None, K=7, d=3, max_cosine=None):
    cosine = 1 - margin if max_cosine is None else max_cosine
    lower = margin if lower is None else lower
    return Entry(K, d, objective, lower, margin, cosine, status, sc.Provenance("search"), None, "", True)


def paired(difference, softmax_status, tammes_status, K=9, d=4, packing=0.8):
    softmax = entry("softmax", packing + difference, softmax_status, K=K, d=d)
    return Pair(softmax, entry("tammes", packing, tammes_status, K=K, d=d), None, None)


def test_what_is_thought_of_a_pair():
    local = "locally optimal"
    assert paired(1e-11, local, local).agrees and not paired(2e-10, local, local).agrees
    assert paired(0, local, local).polished and not paired(0, local, "feasible").polished
    assert "not polished" in explain(paired(1e-6, local, "feasible")).why
    assert explain(paired(1e-6, local, local)).why.startswith("candidate, locally optimal")
    assert explain(paired(1e-6, "feasible", local)).why.startswith("candidate, not polished")
    assert "below" in explain(paired(-1e-6, local, local)).why


def test_a_counterexample_needs_the_proved_upper_bound():
    """mu*(7, 3) is proved: a margin above 1 - mu* would count, one above a poor packing does not."""
    value = 1 - LITERATURE[7, 3].value
    found = explain(paired(1e-6, "feasible", "optimal", 7, 3, packing=value))
    assert found.why.startswith("COUNTEREXAMPLE") and found.method == "literature"
    assert value <= found.upper < value + 1e-15
    poor = explain(paired(1e-6, "feasible", "feasible", 7, 3, packing=value - 1e-3))
    assert not poor.why.startswith("COUNTEREXAMPLE")


@given(st.floats(1e-16, 1, exclude_max=True))
def test_decades(size):
    low, _, high = command.decade(size).partition(" to ")
    assert command.decade(-size) == command.decade(size)
    assert float(low) <= size * (1 + 1e-15) and size <= float(high) * (1 + 1e-15)
    assert float(high) == pytest.approx(10 * float(low))


def test_the_histogram_counts_every_pair_once():
    statuses = ("feasible", "locally optimal")
    pairs = [paired(x, s, s) for x in (0, 3e-16, 4e-16, 2e-9, -2e-9) for s in statuses]
    table = command.histogram(pairs)
    assert table["polished pairs"].sum() == table["others"].sum() == 5
    assert len(table) == len({command.decade(pair.difference) for pair in pairs})


def test_packings_with_rattlers_are_listed_by_dimension():
    pairs = [
        dataclasses.replace(paired(0, "feasible", "optimal", K, d), tammes_rattlers=n)
        for K, d, n in ((9, 4, 2), (20, 3, 1), (19, 3, 3), (7, 3, 0), (8, 3, None))
    ]
    rows = [{"d": "3", "packings": 2, "K": "19, 20"}, {"d": "4", "packings": 1, "K": "9"}]
    assert command.rattling(pairs).to_dict("records") == rows


def test_candidates_and_better_packings_are_exceptions():
    def searched(K, best, packing):
        return TargetedSearch(K, 4, 0.8, best=best, best_lower_bound=best - 1e-3, best_packing=packing)

    pairs = {(K, 4): paired(0, "feasible", "feasible", K, 4) for K in (9, 10, 11)}
    found = command.exceptions([searched(9, 0.9, 0.8), searched(10, 0.8, 0.85), searched(11, 0.8, 0.8)], pairs)
    assert found[["K", "what", "1 − μ of the best packing"]].to_numpy().tolist() == [
        ["9", "candidate", "0.8"],
        ["10", "better packing", "0.85"],
    ]


# The targeted search


@given(st.integers(0, 10**6), st.integers(5, 20), st.integers(3, 5))
def test_a_rattler_stays_in_its_cage(seed, K, d):
    rng = np.random.default_rng(seed)
    W = random_rows(K, d, rng)
    mu = gram(W).max()
    free = np.flatnonzero(gram(W).max(axis=1) < mu)
    i = int(rng.choice(free))
    moved = search.moved_in_cage(W, i, mu, rng)
    assert np.linalg.norm(moved[i] - W[i]) > 0
    assert gram(moved)[i].max() <= mu + 1e-14
    np.testing.assert_allclose(np.delete(moved, i, axis=0), np.delete(W, i, axis=0), atol=1e-15)
    np.testing.assert_allclose(np.linalg.norm(moved, axis=1), 1, atol=1e-15)


def test_a_cage_is_explored():
    """One point and three walls: random places reach every wall, and their mean is near the middle."""
    walls = np.array([[np.sqrt(3) / 2, 0, 0.5], [-np.sqrt(3) / 4, 0.75, 0.5], [-np.sqrt(3) / 4, -0.75, 0.5]])
    W = np.vstack([walls, [0.0, 0.0, 1.0]])
    mu = 0.8
    rng = np.random.default_rng(0)
    places = np.array([search.moved_in_cage(W, 3, mu, rng)[3] for _ in range(400)])
    cosines = places @ walls.T
    assert cosines.max() <= mu + 1e-14
    assert (cosines.max(axis=0) > mu - 0.02).all()


@given(st.integers(0, 10**6))
def test_h_differs_from_w_where_a_margin_exceeds_its_packing_value(seed):
    """docs/theory.md, T1 and T2: h_k = w_k exactly where rho_k = 1 - mu_k."""
    W = random_rows(9, 3, np.random.default_rng(seed))
    found = margins(W)
    excess = found.margins - (1 - gram(W).max(axis=1))
    for k in range(9):
        if abs(excess[k]) > 1e-9 and found.margins[k] > 1e-3:
            assert search.any_h_differs(W, found.H, np.array([k]))


def test_h_is_w_in_a_packing(packing):
    W = packing(12, 3).X
    assert not search.any_h_differs(W, margins(W).H, np.arange(12))


def test_a_collector_counts_and_keeps_one_of_each_margin(packing):
    W = packing(7, 3).X
    value = 1 - LITERATURE[7, 3].value
    collector = Collector(TargetedSearch(7, 3, value, best_packing=value))
    for beta in (10.0, 100.0):
        collector.take(optimise(HARDMAX, np.vstack([W, W]), beta))
    collector.take(Candidate(0.0, np.vstack([W, W])))  # far below: not polished
    one = collector.finish()
    assert (one.near, one.polished, one.unconverged, one.at_packing) == (2, 2, 0, 2)
    assert one.optima == [pytest.approx(value, abs=1e-14)]
    assert (one.margin_above, one.h_differs, one.best_h_differs, one.best_rows) == (0, 0, None, None)
    assert value - 1e-14 < one.best_lower_bound <= value + 1e-15
    assert not one.is_candidate


def test_a_better_packing_is_no_candidate(packing):
    W = packing(7, 3).X
    value = 1 - LITERATURE[7, 3].value
    collector = Collector(TargetedSearch(7, 3, value - 0.01, best_packing=value - 0.01))
    collector.take(optimise(HARDMAX, np.vstack([W, W]), 100.0))
    one = collector.finish()
    assert one.best == pytest.approx(value, abs=1e-14) and not one.is_candidate
    again = sc.SoftmaxCode.from_rows(one.best_rows)
    assert (again.margin, 1 - again.max_cosine) == pytest.approx((one.best, one.best), abs=1e-14)
    assert dataclasses.replace(one, best_packing=value - 1e-6).is_candidate


def test_a_search_and_the_tables(tmp_path, capsys, parts_of):
    out, path = tmp_path / "searches.json", tmp_path / "docs" / "open-question-1.md"
    assert command.main(["--search", "0.01", "--pairs", "7,3", "9,4", "--out", str(out)]) == 0
    assert capsys.readouterr().out.count("best - (1 - mu) = ") == 2
    found = search.read_searches(out)
    assert [(one.K, one.d) for one in found] == [(7, 3), (9, 4)]
    for one in found:
        assert one.random > 0 and one.polished > 0 and one.perturbed > 0 and one.hops > 0
        assert one.best == pytest.approx(one.one_minus_cosine, abs=1e-9)
        assert one.best_lower_bound <= one.best + 1e-15
    assert json.loads(out.read_text())["seed"] == 0

    assert command.main(["--write", str(path), "--out", str(out)]) == 0
    made, printed = parts_of(path), capsys.readouterr().out
    assert tuple(made) == command.PAGE.parts and all(part in printed for part in made.values())
    assert re.search(r"\| 3 +\| +3 \| .* \| +2 \|$", made["counts"])
    assert made["disagreements"] == made["exceptions"] == "No rows."
    assert [line[:13] for line in made["searches"].splitlines()[2:]] == ["| 7   |   3 |", "| 9   |   4 |"]
    for K, d in STORED:
        assert f"{sc.best_known(K, d).margin:.14f}" in made["pairs"]
    assert command.main(["--write", str(path), "--out", str(tmp_path / "missing.json")]) == 0
    assert parts_of(path) == made | {"searches": "No rows."}


def test_without_a_catalogue_there_is_no_document(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("SOFTMAXCODE_CATALOG", str(tmp_path / "nowhere.sqlite"))
    assert command.main([]) == 2
    assert "no catalogue" in capsys.readouterr().err


def test_the_stored_searches_can_be_read():
    found = search.read_searches(search.SEARCHES)
    assert [(one.K, one.d) for one in found] == list(search.PAIRS)
    for one in found:
        assert one.best_lower_bound <= one.best + 1e-15
        assert one.optima == sorted(one.optima, reverse=True)
        if one.best_rows is not None:
            assert sc.margin(np.array(one.best_rows)).margin == pytest.approx(one.best, abs=1e-14)
