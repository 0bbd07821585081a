"""The table: its columns, every format read back, and runs that resume without solving a finished row again."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import math
import re
import signal
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

import softmaxcode as sc
from softmaxcode import code
from softmaxcode.sphere import random_rows
from softmaxcode.storage.journal import _signed
from softmaxcode.tables import COLUMNS, frame, markdown, rows, table, write
from softmaxcode.tables.columns import LATEX
from tests.processes import HANG

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ORDER = [
    *("K", "d", "margin", "tammes_distance", "one_minus_cosine", "difference"),
    *("softmax_rattlers", "tammes_rattlers", "contacts", "margin_lower_bound", "status", "seconds"),
    *("max_cosine", "angle_deg", "margin_upper_bound", "one_minus_cosine_upper_bound"),
]
COUNTS = ["K", "d", "softmax_rattlers", "tammes_rattlers", "contacts"]
FLOATS = [name for name in ORDER if name not in (*COUNTS, "status")]
PAIRS = [(4, 2), (5, 2), (4, 3), (6, 3)]
MADE_UP = [(12, 3), (24, 3), (16, 5), (27, 6), (56, 7)]


@pytest.fixture(scope="module")
def solved() -> pd.DataFrame:
    return table([*PAIRS, (12, 3)], starts=16)


@pytest.fixture
def calls(monkeypatch) -> list[tuple[int, int]]:
    """The pairs that were actually solved."""
    made = []

    def counted(K: int, d: int, **options: Any) -> Any:
        made.append((K, d))
        return solve_both(K, d, **options)

    solve_both = rows.solve_both
    monkeypatch.setattr(rows, "solve_both", counted)
    return made


@pytest.fixture
def made_up(monkeypatch) -> list[tuple[int, int]]:
    """Codes at no cost, which differ between runs only in their seconds; returns the requested pairs."""
    made: list[tuple[int, int]] = []
    ticks = itertools.count(1)

    def solve(K: int, d: int, **_: Any) -> dict[str, sc.SoftmaxCode]:
        made.append((K, d))
        rng = np.random.default_rng([K, d])
        made_by = sc.Provenance("made up")
        return {name: sc.SoftmaxCode(random_rows(K, d, rng), name, made_by) for name in ("softmax", "tammes")}

    def certify(code: sc.SoftmaxCode) -> sc.Certificate:
        value = code.margin - 1e-15
        return sc.Certificate(
            code.objective,
            "feasible",
            value,
            value,
            "made up",
            1.5,
            "made up",
            None,
            "none",
            1e-9,
            1.0,
            ambiguous=False,
        )

    monkeypatch.setattr(rows, "solve_both", solve)
    monkeypatch.setattr(code, "derive_certificate", certify)
    monkeypatch.setattr(code, "MAX_ALL_MARGINS", 1)  # so that softmax rattlers are missing
    monkeypatch.setattr(rows, "time", SimpleNamespace(monotonic=lambda: next(ticks) ** 2 / 8))
    return made


def same(a: pd.DataFrame, b: pd.DataFrame, *, seconds: bool = False) -> None:
    """Equal to the last bit; wall-clock times are compared only on request."""
    left, right = (x if seconds else x.drop(columns="seconds") for x in (a, b))
    pd.testing.assert_frame_equal(left, right, check_exact=True)


def read_csv(path: Path) -> pd.DataFrame:
    """A written .csv with the types of a table, its floats read as Python reads them."""
    data = pd.read_csv(path, dtype=str)
    for name in COUNTS:
        data[name] = data[name].astype("Int64")
    for name in FLOATS:
        data[name] = np.array([float(text) for text in data[name]])
    return data


def interrupt_after(rows: int) -> Callable[[dict[str, Any]], None]:
    left = itertools.count(rows - 1, -1)

    def on_row(_: dict[str, Any]) -> None:
        if next(left) == 0:
            raise KeyboardInterrupt

    return on_row


# Contents of a table


def test_columns_and_their_order(solved):
    assert list(COLUMNS) == ORDER == list(solved.columns)
    assert all(COLUMNS.values())
    for name in COUNTS:
        assert solved[name].dtype == "Int64"
    for name in FLOATS:
        assert solved[name].dtype == np.float64
    assert all(isinstance(status, str) for status in solved["status"])


def test_rows_are_in_the_order_asked_for(solved):
    assert list(zip(solved["K"], solved["d"], strict=True)) == [*PAIRS, (12, 3)]
    assert list(solved.index) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("K", "d", "margin", "cosine", "contacts", "status"),
    [
        (4, 2, 1, 0, 4, "optimal"),
        (5, 2, 1 - math.cos(2 * math.pi / 5), math.cos(2 * math.pi / 5), 5, "optimal"),
        (4, 3, 4 / 3, -1 / 3, 6, "optimal"),
        (6, 3, 1, 0, 12, "optimal"),
        (12, 3, 1 - 5**-0.5, 5**-0.5, 30, "matches Tammes"),
    ],
)
def test_known_values(solved, K, d, margin, cosine, contacts, status):
    row = solved[(solved["K"] == K) & (solved["d"] == d)].iloc[0]
    assert row["margin"] == pytest.approx(margin, abs=2e-15)
    assert row["max_cosine"] == pytest.approx(cosine, abs=2e-15)
    assert row["tammes_distance"] == pytest.approx(math.sqrt(2 - 2 * cosine), abs=2e-15)
    assert row["one_minus_cosine"] == 1 - row["max_cosine"]
    assert row["angle_deg"] == pytest.approx(math.degrees(math.acos(cosine)), abs=1e-12)
    assert row["difference"] == row["margin"] - row["one_minus_cosine"]
    assert row["margin_lower_bound"] <= row["margin"] + 1e-15
    assert row["margin_lower_bound"] == pytest.approx(margin, abs=1e-14)
    assert row["margin_upper_bound"] == sc.margin_bounds(K, d).upper >= row["margin_lower_bound"]
    assert row["one_minus_cosine_upper_bound"] == pytest.approx(1 - sc.max_cosine_lower_bound(K, d).value, abs=1e-15)
    assert (row["softmax_rattlers"], row["tammes_rattlers"], row["contacts"]) == (0, 0, contacts)
    assert row["status"] == status


def test_rattlers_are_counted(monkeypatch):
    angles = np.arange(3) * 2 * np.pi / 3
    cap = np.column_stack([np.sin(0.3) * np.cos(angles), np.sin(0.3) * np.sin(angles), np.full(3, np.cos(0.3))])
    W = np.vstack([cap, [[0, 0, -1.0]]])
    made = {name: sc.SoftmaxCode(W, name, sc.Provenance("by hand")) for name in ("tammes", "softmax")}
    monkeypatch.setattr(rows, "solve_both", lambda *_, **__: made)
    row = table([(4, 3)]).iloc[0]
    assert (row["softmax_rattlers"], row["tammes_rattlers"], row["contacts"]) == (1, 1, 3)


def test_what_is_too_large_to_count_is_missing(monkeypatch):
    def refuse(_: sc.SoftmaxCode) -> None:
        raise sc.NotComputed("too large")

    monkeypatch.setattr(sc.SoftmaxCode, "softmax_rattlers", property(refuse))
    data = table([(6, 3)])
    assert data["softmax_rattlers"].isna().all() and data["softmax_rattlers"].dtype == "Int64"
    assert "not computed" in markdown(data)


def test_a_pair_given_twice_is_solved_once(calls):
    data = table([(4, 2), (4, 3), (4, 2), (np.int64(4), np.int32(3))])
    assert calls == [(4, 2), (4, 3)] and len(data) == 2


def test_pairs_may_be_an_array_or_a_generator(calls):
    table(np.array([[4, 2], [4, 3]]))
    table((K, 2) for K in (3, 4))
    assert calls == [(4, 2), (4, 3), (3, 2), (4, 2)]


def test_every_row_is_shown_as_it_finishes(made_up):
    seen: list[Any] = []
    data = table(MADE_UP, on_row=lambda row: seen.append((len(made_up), row["K"], row["d"])))
    assert seen == [(i + 1, *pair) for i, pair in enumerate(MADE_UP)]
    assert len(data) == 5


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("suffix", ["csv", "parquet", "md", "tex"])
def test_an_empty_table(tmp_path, suffix):
    data = table([], path=tmp_path / f"t.{suffix}")
    assert list(data.columns) == ORDER and len(data) == 0
    assert (tmp_path / f"t.{suffix}").stat().st_size > 0


# Written and read back


def written(data: pd.DataFrame, path: Path) -> Path:
    write(data, path)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    return path


def test_csv_keeps_every_digit(solved, tmp_path):
    again = read_csv(written(solved, tmp_path / "t.csv"))
    pd.testing.assert_frame_equal(again, solved, check_exact=True)


def test_parquet_keeps_every_digit_and_type(solved, tmp_path):
    pytest.importorskip("pyarrow")
    again = pd.read_parquet(written(solved, tmp_path / "t.parquet"))
    pd.testing.assert_frame_equal(again, solved, check_exact=True)


def cells(lines: list[str], split: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split(split)] for line in lines]


def check_cells(rows: list[list[str]], data: pd.DataFrame) -> None:
    assert len(rows) == len(data)
    for row, (_, expected) in zip(rows, data.iterrows(), strict=True):
        assert len(row) == len(ORDER)
        for name, cell in zip(ORDER, row, strict=True):
            if name in COUNTS:
                assert int(cell) == expected[name]
            elif name == "status":
                assert cell == expected[name]
            elif name == "difference":
                assert float(cell) == pytest.approx(expected[name], rel=0.06, abs=0)
            else:
                assert float(cell) == pytest.approx(expected[name], abs=6e-3 if name == "seconds" else 6e-15)


def test_markdown_is_read_back(solved, tmp_path):
    lines = written(solved, tmp_path / "t.md").read_text().splitlines()
    assert len({len(line) for line in lines}) == 1
    assert all(line.startswith("|") and line.endswith("|") for line in lines)
    head, rule, *rows = cells([line[1:-1] for line in lines], "|")
    assert head == ORDER and all(re.fullmatch(r"-+:", cell) for cell in rule)
    check_cells(rows, solved)


def test_tex_is_read_back(solved, tmp_path):
    text = written(solved, tmp_path / "t.tex").read_text()
    lines = text.splitlines()
    alignment = "".join("l" if name == "status" else "r" for name in ORDER)
    assert lines[:2] == [r"% needs \usepackage{booktabs}", r"\begin{tabular}{" + alignment + "}"]
    assert lines[-1] == r"\end{tabular}"
    stored = [line.removesuffix(r" \\") for line in lines if line.endswith(r" \\")]
    head, *rows = cells(stored, "&")
    assert head == [LATEX[name] for name in ORDER]
    power = re.compile(r"\$(.*) \\times 10\^\{(.*)\}\$")
    check_cells([[power.sub(r"\1e\2", cell).strip("$") for cell in row] for row in rows], solved)


@pytest.mark.parametrize("columns", [None, ["margin", "seconds"]])
def test_tex_has_no_seconds_unless_they_are_asked_for(made_up, tmp_path, columns):
    data = table(MADE_UP, path=tmp_path / "t.tex", columns=columns)
    assert "seconds" in data
    head = next(line for line in (tmp_path / "t.tex").read_text().splitlines() if line.startswith("$K$"))
    assert ("s" in [cell.strip(" \\") for cell in head.split("&")]) == (columns is not None)


def test_missing_counts_are_read_back(made_up, tmp_path):
    data = table([(12, 3)], path=tmp_path / "t.csv")
    assert data["softmax_rattlers"].isna().all()
    assert pd.read_csv(tmp_path / "t.csv")["softmax_rattlers"].isna().all()
    assert " not computed |" in markdown(data)
    write(data, tmp_path / "t.tex")
    assert "& -- &" in (tmp_path / "t.tex").read_text()


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.md", "t.tex", "T.CSV"])
def test_a_path_gets_the_table_and_nothing_else_is_left(made_up, tmp_path, name):
    (tmp_path / name).write_text("old")
    data = table(MADE_UP, path=str(tmp_path / name))
    assert [p.name for p in tmp_path.iterdir()] == [name]
    before = (tmp_path / name).read_bytes()
    assert before != b"old"
    write(data.drop(columns="seconds") if name == "t.tex" else data, tmp_path / name)
    assert (tmp_path / name).read_bytes() == before


def test_the_file_is_whole_after_every_row(made_up, tmp_path):
    heights = []
    table(MADE_UP, path=tmp_path / "t.csv", on_row=lambda _: heights.append(len(pd.read_csv(tmp_path / "t.csv"))))
    assert heights == [1, 2, 3, 4, 5]


def test_a_failed_write_leaves_the_old_table_whole(solved, tmp_path, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "t.csv").write_text("old")
    monkeypatch.setattr(pd.DataFrame, "to_csv", fail)
    with pytest.raises(OSError, match="No space left"):
        write(solved, tmp_path / "t.csv")
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


def test_parquet_without_pyarrow_says_what_to_install(solved, tmp_path, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise ImportError("no engine")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", fail)
    with pytest.raises(ValueError, match=re.escape("pip install 'softmaxcode[parquet]'")):
        write(solved, tmp_path / "t.parquet")
    assert not list(tmp_path.iterdir())


# Bad input


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("t.xls", r"the suffix must be one of \.csv, \.parquet, \.md, \.tex"),
        ("t", "the suffix must be one of"),
        ("no/t.csv", "the folder .* does not exist"),
        ("folder.csv", "it is a folder"),
    ],
)
def test_a_bad_path_is_refused_before_anything_is_solved(calls, solved, tmp_path, name, message):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ValueError, match=message):
        table([(4, 2)], path=tmp_path / name)
    with pytest.raises(ValueError, match=message):
        write(solved, tmp_path / name)
    assert calls == []


@pytest.mark.parametrize("pair", [(1, 3), (4, 0), (4.0, 3), ("4", 3), (True, 3), (4, None), (np.nan, 3)])
def test_a_bad_pair_is_refused_before_anything_is_solved(calls, pair):
    with pytest.raises(ValueError, match="must be an integer of at least"):
        table([(4, 2), pair])
    assert calls == []


@pytest.mark.parametrize("pairs", [[(12,)], [(12, 3, 4)], [12], 12])
def test_what_is_no_pair_is_refused(pairs):
    with pytest.raises(ValueError, match="pair"):
        table(pairs)


@pytest.mark.parametrize(
    "options", [{"starts": 0}, {"starts": 1.5}, {"budget": 0}, {"budget": math.nan}, {"seed": -1}, {"device": "tpu"}]
)
def test_bad_options_are_refused(tmp_path, options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be"):
        table([(4, 2)], path=tmp_path / "t.csv", **options)
    assert not list(tmp_path.iterdir())


# Resuming


@pytest.mark.parametrize("done", [1, 2, 3, 4])
def test_an_interrupted_table_solves_no_finished_row_again(calls, solved, tmp_path, done):
    path = tmp_path / "t.csv"
    with pytest.raises(KeyboardInterrupt):
        table(PAIRS, path=path, on_row=interrupt_after(done))
    assert calls == PAIRS[:done]
    kept = read_csv(path)
    assert len(kept) == done
    calls.clear()
    seen: list[tuple[int, int]] = []
    data = table(PAIRS, path=path, on_row=lambda row: seen.append((row["K"], row["d"])))
    assert calls == PAIRS[done:] and seen == PAIRS
    same(data, solved.iloc[: len(PAIRS)])
    np.testing.assert_array_equal(data["seconds"][:done], kept["seconds"])  # the rows of the first run, as they were
    again = read_csv(path)
    pd.testing.assert_frame_equal(again, data, check_exact=True)
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]


def test_an_interrupt_within_a_row_loses_only_that_row(calls, solved, tmp_path, monkeypatch):
    counted = rows.solve_both

    def stop(K: int, d: int, **options: Any) -> Any:
        if (K, d) == (12, 3):
            raise KeyboardInterrupt
        return counted(K, d, **options)

    pairs = [(4, 2), (5, 2), (12, 3)]
    with monkeypatch.context() as patch:
        patch.setattr(rows, "solve_both", stop)
        with pytest.raises(KeyboardInterrupt):
            table(pairs, path=tmp_path / "t.md", starts=16)
    assert calls == [(4, 2), (5, 2)]
    calls.clear()
    data = table(pairs, path=tmp_path / "t.md", starts=16)
    assert calls == [(12, 3)]
    same(data, solved.iloc[[0, 1, 4]].reset_index(drop=True))


KILLED = """
import os, signal, sys
import softmaxcode as sc

def on_row(row):
    if row["K"] == 5:
        os.kill(os.getpid(), signal.SIGKILL)

sc.table([(4, 2), (5, 2), (6, 2)], path=sys.argv[1], on_row=on_row)
"""


@pytest.mark.processes
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_table_resumes(calls, tmp_path):
    ran = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "t.csv"], timeout=HANG, check=False)
    assert ran.returncode == -signal.SIGKILL
    assert len(pd.read_csv(tmp_path / "t.csv")) == 2
    data = table([(4, 2), (5, 2), (6, 2)], path=tmp_path / "t.csv")
    assert calls == [(6, 2)] and len(data) == 3


def test_a_finished_table_starts_anew(made_up, tmp_path):
    table(MADE_UP, path=tmp_path / "t.csv")
    table(MADE_UP, path=tmp_path / "t.csv")
    assert made_up == MADE_UP * 2


def interrupted(path: Path, rows: int = 3, **options: Any) -> Path:
    with pytest.raises(KeyboardInterrupt):
        table(MADE_UP, path=path, on_row=interrupt_after(rows), **options)
    journal = path.with_name(path.name + ".rows")
    assert sorted(path.parent.iterdir()) == [path, journal]
    return journal


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"seed": 1}),
        ({"seed": 0}, {"seed": 1}),
        ({"starts": 16}, {"starts": 17}),
        ({"budget": 1.0}, {"budget": 2.0}),
        ({"starts": 16}, {}),
        ({}, {"device": "cpu"}),
    ],
)
def test_other_options_start_anew(made_up, tmp_path, before, after):
    interrupted(tmp_path / "t.csv", **before)
    table(MADE_UP, path=tmp_path / "t.csv", **after)
    assert made_up == MADE_UP[:3] + MADE_UP
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {}),
        ({"n_jobs": 1}, {"n_jobs": 2}),
        ({"starts": 16, "seed": 1}, {"seed": 1, "starts": 16}),
        ({"starts": np.int64(16), "budget": np.float32(2)}, {"starts": 16, "budget": 2}),
        ({"progress": False}, {}),
    ],
)
def test_the_same_options_resume(made_up, tmp_path, before, after):
    interrupted(tmp_path / "t.csv", **before)
    table(MADE_UP, path=tmp_path / "t.csv", **after)
    assert made_up == MADE_UP


def test_finished_rows_serve_another_choice_of_pairs(made_up, tmp_path):
    interrupted(tmp_path / "t.csv")
    pairs = [MADE_UP[2], (7, 3), MADE_UP[0]]
    data = table(pairs, path=tmp_path / "t.csv")
    assert made_up == [*MADE_UP[:3], (7, 3)]
    assert list(zip(data["K"], data["d"], strict=True)) == pairs


def test_another_path_starts_anew(made_up, tmp_path):
    interrupted(tmp_path / "t.csv")
    table(MADE_UP, path=tmp_path / "t.md")
    assert made_up == MADE_UP[:3] + MADE_UP


def test_an_error_in_a_row_keeps_the_finished_ones(made_up, tmp_path, monkeypatch):
    counted = rows.solve_both

    def fail(K: int, d: int, **options: Any) -> Any:
        if (K, d) == MADE_UP[2]:
            raise MemoryError
        return counted(K, d, **options)

    with monkeypatch.context() as patch:
        patch.setattr(rows, "solve_both", fail)
        with pytest.raises(MemoryError):
            table(MADE_UP, path=tmp_path / "t.csv")
    table(MADE_UP, path=tmp_path / "t.csv")
    assert made_up == MADE_UP


@pytest.mark.parametrize("step", [1, 150])
def test_a_rows_file_cut_anywhere_loses_only_what_was_cut(made_up, tmp_path, step):
    path = tmp_path / "t.csv"
    journal = interrupted(path)
    data = journal.read_bytes()
    whole = table(MADE_UP, path=path)
    ends = [i for i, byte in enumerate(data) if byte == 10]
    assert len(ends) == 4  # options and three rows
    lengths = range(len(data) - 40, len(data)) if step == 1 else [0, *range(ends[0], len(data), step)]
    for length in lengths:
        journal.write_bytes(data[:length])
        made_up.clear()
        again = table(MADE_UP, path=path)
        complete = sum(end <= length for end in ends[1:]) if length >= ends[0] else 0
        assert made_up == MADE_UP[complete:]
        same(again, whole)
        same(again.iloc[:complete], whole.iloc[:complete], seconds=True)


NO_JOURNALS = [
    b"not json\n",
    b"{}\nnot json\n",
    b"[]\n{}\n",
    b'{}\n{"K": 12, "d": 3}\n',
    b"\x00\xff\xfe\n",
    b"\x89PNG\r\n\x1a\n" + bytes(64),
    b'{"seed": 0}\n{}\n',
    b"K,d,margin\n12,3,0.55\n",
    b'{"K": 12, "d": 3}\t0123456789abcdef\n',
    "{}\t44136fa355b3678a\n".encode("utf-16"),
]


@pytest.mark.parametrize("content", NO_JOURNALS)
def test_a_file_that_no_table_wrote_is_never_removed(calls, tmp_path, content):
    (tmp_path / "t.csv.rows").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"cannot write the journal .*t\.csv\.rows: the file is something else; move it"
    ):
        table(PAIRS, path=tmp_path / "t.csv")
    assert (tmp_path / "t.csv.rows").read_bytes() == content and not calls
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv.rows"]


@pytest.mark.parametrize("content", [b"", b"\n", b" \n\n"])
def test_a_rows_file_without_content_starts_again(made_up, tmp_path, content):
    (tmp_path / "t.csv.rows").write_bytes(content)
    table(MADE_UP, path=tmp_path / "t.csv")
    assert made_up == MADE_UP
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]


def resigned(journal: Path, change: Callable[[Any], Any]) -> None:
    """Change the first row of a journal, with a checksum that fits."""
    head, first, *rest = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join([head, _signed(change(json.loads(first.split("\t")[0]))), *rest]))


def nested(depth: int) -> list[Any]:
    out: list[Any] = []
    for _ in range(depth):
        out = [out]
    return out


@pytest.mark.parametrize(
    "change",
    [
        *[
            lambda row, name=name: {k: v for k, v in row.items() if k != name}
            for name in ("K", "d", "seconds", "tammes")
        ],
        *[lambda row, K=K: {**row, "K": K} for K in (None, "12", 1, -12, 12.0, 10**400, 13, [12], True)],
        *[lambda row, d=d: {**row, "d": d} for d in (None, "3", 0, 3.5, 4, 10**18)],
        *[lambda row, x=x: {**row, "seconds": x} for x in (None, "1", [1], -1.0, float("nan"), 10**400)],
        *[lambda row, x=x: {**row, "softmax": x} for x in (None, 5, "", "x", "AAAA", "é" * 8, "A" * 384, [1])],
        lambda _: [1],
        lambda _: {},
        lambda _: 5,
        lambda _: "row",
        lambda _: nested(900),
    ],
)
def test_a_row_of_another_kind_is_solved_again(made_up, tmp_path, change):
    resigned(interrupted(tmp_path / "t.md"), change)
    made_up.clear()
    table(MADE_UP, path=tmp_path / "t.md")
    assert MADE_UP[0] in made_up


def test_a_line_nested_too_deeply_is_unfinished(made_up, tmp_path):
    journal = interrupted(tmp_path / "t.md")
    head, first, *rest = journal.read_text().splitlines(keepends=True)
    deep = "[" * 10**5 + "]" * 10**5
    signed = f"{deep}\t{hashlib.sha256(deep.encode()).hexdigest()[:16]}\n"
    journal.write_text("".join([head, first, signed, *rest]))
    made_up.clear()
    table(MADE_UP, path=tmp_path / "t.md")
    assert made_up == MADE_UP[3:]


def test_what_a_rows_file_claims_is_not_shown(made_up, tmp_path):
    """The checksum is not a signature: values are derived from the coordinates."""
    claims = {"margin": 9.9, "status": "optimal", "lower_bound": 9.9}
    resigned(interrupted(tmp_path / "t.csv"), lambda row: {**row, **claims})
    made_up.clear()
    data = table(MADE_UP, path=tmp_path / "t.csv")
    assert made_up == MADE_UP[3:]
    assert data["status"][0] == "feasible" and data["margin"][0] < 1


def test_a_row_is_that_of_its_coordinates(made_up, tmp_path):
    good = np.vstack([np.eye(3), -np.eye(3)])[[0, 1, 2, 3, 4, 5] * 2]
    coordinates = base64.b64encode(good.tobytes()).decode()
    resigned(interrupted(tmp_path / "t.csv"), lambda row: {**row, "softmax": coordinates, "tammes": coordinates})
    data = table(MADE_UP, path=tmp_path / "t.csv")
    assert data["margin"][0] == 0 and data["max_cosine"][0] == 1


def test_a_changed_digit_in_the_rows_file_is_noticed(made_up, tmp_path):
    journal = interrupted(tmp_path / "t.csv")
    text = journal.read_text()
    seconds = json.loads(text.splitlines()[1].split("\t")[0])["seconds"]
    journal.write_text(text.replace(f'"seconds": {seconds!r}', f'"seconds": {seconds + 1!r}', 1))
    made_up.clear()
    table(MADE_UP, path=tmp_path / "t.csv")
    assert made_up == [MADE_UP[0], *MADE_UP[3:]]


def test_frame_of_rows_is_the_table(solved):
    rows = [{name: r[name] for name in reversed(ORDER)} for r in solved.to_dict("records")]
    same(frame(rows), solved, seconds=True)
