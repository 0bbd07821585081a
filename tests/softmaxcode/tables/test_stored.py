"""The table of stored values: the same as those of the codes themselves, and no search."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

import softmaxcode as sc
from softmaxcode.catalog import known
from softmaxcode.tables import COLUMNS, STORED_COLUMNS, rows, table

if TYPE_CHECKING:
    from pathlib import Path

#: Of every origin: closed forms, exact and searched codes of the catalogue, a subset and a union, and no code.
PAIRS = [(4, 3), (5, 2), (12, 3), (24, 3), (30, 4), (70, 6), (60, 17), (601, 3), (3, 1)]
UPPER = ("margin_upper_bound", "one_minus_cosine_upper_bound")


@pytest.fixture(autouse=True)
def _no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    def search(*_: object, **__: object) -> None:
        raise AssertionError("a table of stored values must not search")

    monkeypatch.setattr(rows, "solve_both", search)


@pytest.fixture(scope="module")
def data():
    return table(PAIRS, stored=True)


def test_columns(data):
    assert list(data.columns) == list(STORED_COLUMNS)
    assert set(COLUMNS) - set(STORED_COLUMNS) == {"softmax_rattlers", "tammes_rattlers", "contacts", "seconds"}
    assert list(zip(data["K"], data["d"], strict=True)) == PAIRS


@pytest.mark.parametrize("pair", [pair for pair in PAIRS if pair != (601, 3)])
def test_values_are_those_of_the_stored_codes(data, pair):
    row = data[(data["K"] == pair[0]) & (data["d"] == pair[1])].iloc[0]
    softmax, tammes = (sc.best_known(*pair, objective=name) for name in ("softmax", "tammes"))
    assert row["margin"] == pytest.approx(softmax.margin, abs=1e-14)
    assert row["max_cosine"] == pytest.approx(tammes.max_cosine, abs=1e-15)
    assert row["one_minus_cosine"] == 1 - row["max_cosine"]
    assert row["tammes_distance"] == pytest.approx(tammes.min_distance, abs=1e-14)
    assert row["angle_deg"] == pytest.approx(tammes.min_angle, abs=1e-10)
    assert row["difference"] == row["margin"] - row["one_minus_cosine"]
    assert row["evidence"] == softmax.provenance.evidence
    certificate = sc.certify(softmax, lp=False)
    if row["status"] == "not derived":
        assert certificate.status in ("feasible", "locally optimal") and math.isnan(row["margin_lower_bound"])
    else:
        assert row["status"] == certificate.status
        assert row["margin_lower_bound"] == pytest.approx(certificate.lower_bound, abs=1e-13)
        assert row["margin_lower_bound"] <= softmax.margin + 1e-15
        assert row["made_by"] in softmax.provenance.method


def test_where_codes_come_from(data):
    made_by = dict(zip(PAIRS, data["made_by"], strict=True))
    assert made_by[12, 3] == "icosahedron" and made_by[30, 4] == "search, polished" and made_by[70, 6] == "E6-roots"
    assert made_by[60, 17].startswith("derived from (") and "simplex" in made_by[4, 3]


def test_upper_bounds_are_labelled_by_what_they_bound(data):
    for (K, d), row in zip(PAIRS, data.to_dict("records"), strict=True):
        assert row["margin_upper_bound"] == sc.margin_bounds(K, d, lp=False).upper
        mu = sc.max_cosine_lower_bound(K, d, lp=False).value
        assert 1 - mu <= row["one_minus_cosine_upper_bound"] <= 1 - mu + 1e-15
        if row["evidence"] != "not stored":
            assert row["margin"] <= row["margin_upper_bound"] + 1e-15
            assert row["one_minus_cosine"] <= row["one_minus_cosine_upper_bound"] + 1e-15


def test_a_pair_without_a_code(data):
    row = data.iloc[PAIRS.index((601, 3))]
    assert (row["evidence"], row["status"], row["made_by"]) == ("not stored", "not derived", "")
    values = [name for name in STORED_COLUMNS if name not in ("K", "d", "status", "evidence", "made_by", *UPPER)]
    assert all(math.isnan(row[name]) for name in values)
    assert 0 < row["margin_upper_bound"] < 1
    assert known.stored(601, 3, "softmax") is None


def test_an_exact_code_without_a_catalogue(monkeypatch, tmp_path):
    monkeypatch.setattr(known, "shipped_path", lambda: tmp_path / "none.sqlite")
    found = table([(240, 8), (230, 8), (10**6, 128)], stored=True)
    assert found["margin"].tolist()[:2] == [0.5, 0.5] and found["margin"][2] > 0.7
    assert found["evidence"].tolist() == ["proved", "construction only", "construction only"]
    assert found["status"].tolist() == ["matches Tammes", "not derived", "not derived"]
    assert found["made_by"].tolist()[:2] == ["E8-roots"] * 2


def test_what_a_file_claims_is_called_a_claim(monkeypatch, tmp_path):
    """Statuses of a user's catalogue are not derived; values are."""
    monkeypatch.setattr(known, "shipped_path", lambda: tmp_path / "none.sqlite")
    monkeypatch.setenv("SOFTMAXCODE_CATALOG", str(tmp_path / "mine.sqlite"))
    with sc.Catalog(tmp_path / "mine.sqlite") as mine:
        mine.improve(sc.solve(30, 4, starts=1, budget=0.5, catalog=False, exact=False, progress=False))
        entry = mine.entry(30, 4, "softmax")
    found = table([(30, 4)], stored=True).iloc[0]
    assert (found["margin"], found["margin_lower_bound"]) == (entry.margin, entry.lower_bound)
    assert found["status"] == f"claims {entry.status}" and found["evidence"] == "searched"


@pytest.mark.parametrize("suffix", ["csv", "md", "tex"])
def test_columns_and_a_format(tmp_path: Path, suffix):
    path = tmp_path / f"t.{suffix}"
    data = table([(24, 3)], path=path, stored=True, columns=("margin", "difference"), float_format="%.4f")
    assert list(data.columns) == ["K", "d", "margin", "difference"] and data["margin"][0] == pytest.approx(0.276921531)
    text = path.read_text()
    assert "0.2769" in text and "0.27692" not in text
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_k_and_d_come_first_unless_they_are_named():
    assert list(table([(4, 3)], stored=True, columns=["margin", "d"]).columns) == ["K", "margin", "d"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": ["nonsense"]}, "columns must be among K, d, margin"),
        ({"columns": ["contacts"]}, r"got 'contacts' \(a table of stored values does not have it\)"),
        ({"columns": ["margin", "margin"]}, "columns must not be given twice"),
        ({"columns": "margin"}, "columns must be a list of names"),
        ({"columns": [1]}, "columns must be a list of names"),
        ({"float_format": ".4q"}, "float_format must be a format of numbers such as"),
        ({"float_format": ""}, "float_format must be"),
        ({"float_format": 4}, "float_format must be"),
        ({"float_format": ".999999999f"}, "float_format must be"),
        ({"stored": "yes"}, "stored must be"),
        ({"starts": 4, "seed": 1}, r"makes no search and takes none of its options; got \['starts', 'seed'\]"),
    ],
)
def test_what_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        table([(4, 3)], **{"stored": True, **options})


def test_on_row_is_called_with_each_row():
    seen = []
    table([(4, 3), (12, 3)], stored=True, on_row=seen.append)
    assert [(row["K"], row["d"]) for row in seen] == [(4, 3), (12, 3)]
