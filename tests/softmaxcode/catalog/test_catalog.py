"""The catalogue: what enters, what is refused, and that no entry is lost."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import pickle
import re
import shutil
import sqlite3
import struct
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import softmaxcode as sc
from softmaxcode import exact
from softmaxcode.catalog import (
    Catalog,
    CatalogError,
    Entry,
    UnknownCodeError,
    export,
    file,
    import_codes,
    installed,
    schema,
    user_catalog,
    user_path,
    verify,
)
from softmaxcode.cli.command import main
from softmaxcode.code import SoftmaxCode
from softmaxcode.plotting.landscape import panel
from softmaxcode.solver import solve_both
from softmaxcode.sphere import random_rows, unit_rows
from tests.processes import HANG, wait_for


def some_code(K: int = 9, d: int = 3, seed: int = 0, objective: str = "softmax") -> SoftmaxCode:
    return SoftmaxCode.from_rows(random_rows(K, d, np.random.default_rng(seed)), objective=objective)


def ordered_codes(count: int = 6, K: int = 9, d: int = 3) -> list[SoftmaxCode]:
    """Random codes, the worst margin first."""
    return sorted((some_code(K, d, seed) for seed in range(count)), key=lambda code: code.margin)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "catalog.sqlite"


@pytest.fixture
def filled(path: Path) -> Path:
    with Catalog(path) as catalog:
        for K in (8, 9, 10):
            catalog.improve(sc.solve(K, 3, starts=2, catalog=False, exact=False))
    return path


def edit(path: Path, statement: str, *values: object) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(statement, values)
    connection.close()


def read_whole(path: Path) -> None:
    with Catalog(path, readonly=True) as catalog:
        catalog.check_whole()
        for entry in catalog.entries():
            catalog.read(entry)


# what enters


def test_only_better_codes_enter(path: Path) -> None:
    worse, *_, better = ordered_codes()
    with Catalog(path) as catalog:
        assert "softmax" in catalog.improve(worse)
        assert "softmax" in catalog.improve(better)
        assert "softmax" not in catalog.improve(worse)
        stored = catalog.code(9, 3, "softmax")
        assert stored is not None
        np.testing.assert_array_equal(stored.W, better.W)
        entry = catalog.entry(9, 3, "softmax")
        assert entry is not None
        assert entry.lower_bound <= better.margin
        assert entry.lower_bound == better.certificate.lower_bound


def test_the_softmax_entry_is_never_below_the_tammes_entry(path: Path) -> None:
    with Catalog(path) as catalog:
        for seed in range(20):
            catalog.improve(some_code(seed=seed, objective="tammes"))
            softmax, tammes = (catalog.entry(9, 3, name) for name in ("softmax", "tammes"))
            assert softmax is not None
            assert tammes is not None
            assert softmax.lower_bound >= tammes.lower_bound - 1e-14


def test_a_better_status_enters_at_the_same_bound(path: Path) -> None:
    with Catalog(path) as catalog:
        catalog.improve(some_code())
        entry = catalog.entry(9, 3, "softmax")
        assert entry is not None
    assert entry.status == "feasible"
    assert replace(entry, status="locally optimal").beats(entry)
    assert replace(entry, construction="x").beats(entry)
    assert not entry.beats(entry)
    assert not replace(entry, status="optimal", lower_bound=entry.lower_bound - 1e-12).beats(entry)


def test_pairs_with_a_closed_form_are_not_stored(path: Path) -> None:
    with Catalog(path) as catalog:
        assert catalog.improve(sc.solve(6, 3)) == ()
        assert catalog.entries() == []


def test_coordinates_that_nothing_needs_are_dropped(path: Path) -> None:
    with Catalog(path) as catalog:
        for code in ordered_codes(8):
            catalog.improve(code)
    connection = sqlite3.connect(path)
    stored = {row[0] for row in connection.execute("SELECT sha256 FROM coordinates")}
    needed = {row[0] for row in connection.execute("SELECT sha256 FROM codes")}
    connection.close()
    assert stored == needed


def test_exact_codes_are_stored_by_name_and_built_again(path: Path) -> None:
    whole, part = exact.best(120, 4), exact.best(20, 4)
    assert whole is not None
    assert part is not None
    with Catalog(path) as catalog:
        for known in (whole, part):
            catalog.improve(known.code())
            entry = catalog.entry(len(known.W), 4, "tammes")
            assert entry is not None
            assert entry.construction == known.name
            again = catalog.code(len(known.W), 4, "tammes")
            assert again is not None
            np.testing.assert_array_equal(again.W, known.W)
        assert catalog.entry(120, 4, "tammes").status == "optimal"  # type: ignore[union-attr]
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM coordinates").fetchone() == (0,)
    connection.close()


def test_a_base_is_held_too_and_must_be_beaten(tmp_path: Path, path: Path) -> None:
    worse, better = ordered_codes(2)
    with Catalog(path) as below:
        below.improve(better)
    base = Catalog(path, readonly=True)
    with Catalog(tmp_path / "above.sqlite", base=base) as catalog:
        assert "softmax" not in catalog.improve(worse)
        assert [e.margin for e in catalog.entries() if e.objective == "softmax"] == [better.margin]
        stored = catalog.code(9, 3, "softmax")
        assert stored is not None
        np.testing.assert_array_equal(stored.W, better.W)


def test_readonly_is_readonly(filled: Path) -> None:
    with Catalog(filled, readonly=True) as catalog, pytest.raises(CatalogError, match="read-only"):
        catalog.improve(some_code(12))


# two writers, and a kill


def _improve_many(path: Path, seeds: list[int], noted: Path) -> None:
    with Catalog(path) as catalog, noted.open("a") as out:
        for seed in seeds:
            catalog.improve(some_code(8 + seed % 3, 3, seed))
            out.write(f"{seed}\n")
            out.flush()


def best_margins(seeds: list[int]) -> dict[int, float]:
    best: dict[int, float] = {}
    for seed in seeds:
        code = some_code(8 + seed % 3, 3, seed)
        best[code.K] = max(best.get(code.K, -1.0), code.margin)
    return best


def held_margins(path: Path) -> dict[int, float]:
    with Catalog(path) as catalog:
        catalog.check_whole()
        for entry in catalog.entries():
            assert catalog.code(entry.K, entry.d, entry.objective) is not None
        return {entry.K: entry.margin for entry in catalog.entries() if entry.objective == "softmax"}


@pytest.mark.processes
def test_two_processes_lose_nothing(path: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    seeds = list(range(40))
    parts = [seeds[::2], seeds[1::2]]
    processes = [
        context.Process(target=_improve_many, args=(path, part, tmp_path / f"noted{i}")) for i, part in enumerate(parts)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(HANG)
        assert process.exitcode == 0
    assert held_margins(path) == best_margins(seeds)


def _margins_read(path: Path, way: str) -> list[float]:
    """The margin of the softmax entry (9, 3) in a catalogue, by one way of reading."""
    if way == "verify":
        results = verify(path, n_jobs=1, progress=False)
        assert [result.problem for result in results] == [""] * len(results)
        return [result.entry.margin for result in results if result.entry.objective == "softmax"]
    if way == "import":
        mine = path.with_name("mine.sqlite")
        with Catalog(mine) as catalog:
            assert import_codes(path, catalog).refused == ()
        return _margins_read(mine, "entries")
    with Catalog(path, readonly=True) as catalog:
        if way == "code":
            code = catalog.code(9, 3, "softmax")
            return [] if code is None else [code.margin]
        return [entry.margin for entry in catalog.entries() if entry.objective == "softmax"]


@pytest.mark.parametrize("way", ["entries", "code", "verify", "import"])
def test_an_entry_that_is_replaced_while_it_is_read_is_read_again(
    way: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worse, better = ordered_codes(2)
    with Catalog(path) as writer:
        writer.improve(worse)
        claimed = Catalog._entry

        def replace_it(catalog: Catalog, row: tuple[object, ...]) -> Entry:
            """Return the row's claims; then another writer enters a better code, before its coordinates are read."""
            entry = claimed(catalog, row)
            if catalog.path == path and catalog is not writer:
                monkeypatch.setattr(Catalog, "_entry", claimed)
                writer.improve(better)
                file._DERIVED.clear()  # what this process has derived, which another would not have
            return entry

        monkeypatch.setattr(Catalog, "_entry", replace_it)
        assert _margins_read(path, way) == [better.margin]
        assert Catalog._entry is claimed


@pytest.mark.processes
@pytest.mark.parametrize("delay", [0.0, 0.05, 0.2])
def test_a_kill_in_the_middle_loses_nothing(path: Path, tmp_path: Path, delay: float) -> None:
    noted = tmp_path / "noted"
    process = multiprocessing.get_context("spawn").Process(
        target=_improve_many, args=(path, list(range(100_000)), noted)
    )
    process.start()
    wait_for(lambda: noted.exists() and len(noted.read_text().split()) >= 3)
    time.sleep(delay)  # no moment is promised anything but what is noted by then
    process.kill()
    process.join(HANG)
    seeds = [int(word) for word in noted.read_text().split("\n")[:-1]]
    assert len(seeds) >= 3
    stored, promised = held_margins(path), best_margins(seeds)
    assert all(stored[K] >= margin for K, margin in promised.items())


def test_a_writer_that_does_not_end_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "TIMEOUT", 0.1)
    with Catalog(path) as catalog:
        other = sqlite3.connect(path)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(CatalogError, match="being written by another process"):
            catalog.improve(some_code())
        other.rollback()
        other.close()
        assert catalog.improve(some_code())


def test_a_full_disk_changes_nothing(filled: Path) -> None:
    with Catalog(filled) as catalog:
        before = catalog.entries()
        pages = catalog._connection.execute("PRAGMA page_count").fetchone()[0]
        catalog._connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(CatalogError, match="the disk is full; nothing in it was changed"):
            catalog.improve(some_code(400, 3))
        assert catalog.entries() == before
    with Catalog(filled) as catalog:
        catalog.check_whole()
        assert catalog.entries() == before


# damaged and foreign files


def test_a_file_of_something_else(tmp_path: Path) -> None:
    text = tmp_path / "a.sqlite"
    text.write_text("classes and dimensions " * 100)
    with pytest.raises(CatalogError, match="no SQLite file"):
        Catalog(text)
    foreign = tmp_path / "b.sqlite"
    edit(foreign, "CREATE TABLE songs (name TEXT)")
    with pytest.raises(CatalogError, match="SQLite file of something else"):
        Catalog(foreign)
    assert text.read_text().startswith("classes")
    empty = tmp_path / "c.sqlite"
    empty.touch()
    with pytest.raises(CatalogError, match="is empty"):
        Catalog(empty, readonly=True)
    with pytest.raises(CatalogError, match="does not exist"):
        Catalog(tmp_path / "d.sqlite", readonly=True)
    with pytest.raises(CatalogError, match="folder does not exist"):
        Catalog(tmp_path / "none" / "d.sqlite")
    with pytest.raises(CatalogError):
        Catalog(tmp_path)


def test_a_newer_schema_is_refused(filled: Path) -> None:
    edit(filled, f"PRAGMA user_version = {schema.SCHEMA_VERSION + 1}")
    with pytest.raises(CatalogError, match=r"newer than the 1 that softmaxcode .* reads: upgrade"):
        Catalog(filled)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER INSERT ON codes BEGIN DELETE FROM codes; END",
        "CREATE VIEW v AS SELECT * FROM codes",
        "CREATE INDEX i ON codes (margin)",
        "CREATE TABLE more (x INTEGER)",
        "CREATE VIRTUAL TABLE more USING fts5 (x)",
        "PRAGMA user_version = 0",
        "ALTER TABLE codes ADD COLUMN more TEXT",
        "DROP TABLE coordinates",
    ],
)
def test_another_schema_is_refused(filled: Path, statement: str) -> None:
    edit(filled, statement)
    with pytest.raises(CatalogError, match="tables are not those"):
        Catalog(filled)


@pytest.mark.parametrize(
    ("kind", "sql"),
    [
        ("trigger", "CREATE TRIGGER coordinates AFTER INSERT ON codes BEGIN DELETE FROM codes; END"),
        ("index", None),
    ],
)
def test_a_schema_row_that_is_named_like_a_table_is_refused(filled: Path, kind: str, sql: str | None) -> None:
    """A trigger between the tables, so that the last row of that name is the table."""
    connection = sqlite3.connect(filled)
    root = connection.execute("SELECT rootpage FROM sqlite_master WHERE type = 'index' LIMIT 1").fetchone()[0]
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute("UPDATE sqlite_master SET rowid = rowid + 10 WHERE tbl_name = 'coordinates'")
    connection.execute(
        "INSERT INTO sqlite_master (rowid, type, name, tbl_name, rootpage, sql) VALUES (5, ?, ?, ?, ?, ?)",
        (kind, "coordinates", "codes", 0 if kind == "trigger" else root, sql),
    )
    connection.commit()
    connection.close()
    before = filled.read_bytes()
    with pytest.raises(CatalogError, match="damaged"), Catalog(filled) as catalog:
        catalog.improve(some_code(11))
    assert filled.read_bytes() == before


def planted_journal(path: Path, victim: Path) -> None:
    """A killed writer's journal that names a second file, which SQLite deletes after it has rolled back."""
    script = (
        "import os, signal, sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "c.execute('PRAGMA cache_size = 1'); c.execute('BEGIN IMMEDIATE')\n"
        "for i in range(500): c.execute('INSERT INTO coordinates VALUES (?, ?)', (str(i), bytes(2000)))\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=False, timeout=60)
    name = str(victim).encode()
    ending = struct.pack(">II", len(name), sum(name)) + bytes.fromhex("d9d505f920a163d7")
    page = struct.pack(">I", 0x40000000 // 4096 + 1)
    with path.with_name(path.name + "-journal").open("ab") as stream:
        stream.write(page + name + ending)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
@pytest.mark.parametrize("readonly", [True, False])
def test_a_journal_beside_a_file_cannot_delete_another_one(filled: Path, tmp_path: Path, readonly: bool) -> None:
    victim = tmp_path / "precious.txt"
    victim.write_text("mine")
    planted_journal(filled, victim)
    with pytest.raises(CatalogError, match=r"-journal was not left by softmaxcode"):
        Catalog(filled, readonly=readonly)
    assert victim.read_text() == "mine"


@pytest.mark.skipif(os.name != "posix", reason="no pipes")
def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.sqlite")
    for readonly in (True, False):
        with pytest.raises(CatalogError, match=r"pipe\.sqlite"):
            Catalog(tmp_path / "pipe.sqlite", readonly=readonly)


@pytest.mark.parametrize("keep", [0.3, 0.7, 0.95])
def test_a_truncated_file_is_refused(filled: Path, keep: float) -> None:
    raw = filled.read_bytes()
    filled.write_bytes(raw[: int(keep * len(raw))])
    with pytest.raises(CatalogError, match=str(filled)):
        read_whole(filled)


@pytest.mark.parametrize(
    ("statement", "values", "reason"),
    [
        ("UPDATE coordinates SET W = ?", (b"12345678",), "no coordinates of its shape"),
        ("UPDATE coordinates SET W = ?", (np.ones(24).tobytes(),), "other coordinates than"),
        ("DELETE FROM coordinates", (), "no coordinates of its shape"),
        ("UPDATE codes SET construction = 'no such code'", (), "cannot be built: no exact construction"),
        ("UPDATE codes SET construction = '24-cell'", (), "cannot be built"),
        ("UPDATE codes SET margin = 'large'", (), "its entry"),
        ("UPDATE codes SET lower_bound = 9e999", (), "its entry"),
        ("UPDATE codes SET status = 'proved'", (), "its entry"),
        ("UPDATE codes SET provenance = '{}'", (), "its entry"),
        ("UPDATE codes SET provenance = '[[[['", (), "its entry"),
        ("UPDATE codes SET objective = 'other' WHERE objective = 'softmax'", (), "its entry"),
        ("UPDATE codes SET K = -K", (), "its entry"),
        ("UPDATE codes SET K = 900000000, d = 900000000 + K", (), "more than 10000000 coordinates"),
    ],
)
def test_a_damaged_entry_is_refused(filled: Path, statement: str, values: tuple[object, ...], reason: str) -> None:
    edit(filled, "DELETE FROM codes WHERE K != 8 OR objective != 'softmax'")
    edit(filled, statement, *values)
    with pytest.raises(CatalogError, match=reason):
        read_whole(filled)


def test_indices_that_are_no_subset_are_refused(path: Path) -> None:
    known = exact.best(20, 4)
    assert known is not None
    with Catalog(path) as catalog:
        catalog.improve(known.code())
    for wrong in (np.zeros(20), np.arange(19), np.arange(5000, 5020)):
        edit(path, "UPDATE codes SET chosen = ?", wrong.astype("<u4").tobytes())
        with (
            Catalog(path) as catalog,
            pytest.raises(CatalogError, match=r"cannot be built: 24-cell|cannot be built: the indices"),
        ):
            catalog.code(20, 4, "softmax")


# claims in a file that users can write


@pytest.fixture
def inflated(monkeypatch: pytest.MonkeyPatch, path: Path) -> Path:
    """A user's catalogue with a poor code of a pair that ships better, and false claims that nothing beats."""
    with Catalog(path) as catalog:
        catalog.improve(some_code(30))
    edit(path, "UPDATE codes SET lower_bound = 0.9, margin = 0.9, max_cosine = 0.1, status = 'optimal'")
    monkeypatch.setenv("SOFTMAXCODE_CATALOG", str(path))
    return path


@pytest.mark.parametrize("objective", ["softmax", "tammes"])
def test_an_inflated_claim_hides_no_better_code(inflated: Path, objective: str) -> None:
    code = sc.best_known(30, 3, objective=objective)
    assert code.margin == pytest.approx(0.218448124905, abs=1e-12)
    with installed() as catalog:
        assert catalog is not None
        entry = catalog.entry(30, 3, objective)
        assert entry is not None and entry.margin == pytest.approx(code.margin, abs=1e-15) and entry.verified
        listed = {(e.K, e.d, e.objective): e for e in catalog.entries()}
        assert listed[30, 3, objective] == entry
    assert panel(3).stored[30] == pytest.approx(code.margin, abs=1e-12)
    assert solve_both(30, 3, starts=1)[objective].margin > 0.2184


def test_an_inflated_claim_keeps_no_better_code_out(inflated: Path) -> None:
    middling = sc.SoftmaxCode.from_rows(unit_rows(sc.best_known(30, 3).W + 1e-3))
    with Catalog(inflated) as alone:
        assert alone.improve(middling) == ("softmax", "tammes")
        assert [e.margin for e in alone.entries()] == [middling.margin] * 2
        assert alone.improve(some_code(30)) == ()
    with user_catalog() as catalog:
        assert catalog.improve(some_code(30)) == ()
        assert catalog.improve(middling) == ()  # the shipped one is better


def test_an_understated_claim_gives_no_better_code_away(path: Path) -> None:
    worse, better = ordered_codes(2)
    with Catalog(path) as catalog:
        catalog.improve(better)
        edit(path, "UPDATE codes SET lower_bound = -1.0, margin = -1.0")
        assert "softmax" not in catalog.improve(worse)
        entry = catalog.entry(9, 3, "softmax")
        assert entry is not None and entry.margin == better.margin


def test_a_claimed_status_wins_no_tie(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, filled: Path) -> None:
    """Neither against a base with the same code nor against a code that improves the status."""
    mine = tmp_path / "mine.sqlite"
    shutil.copy(filled, mine)
    edit(mine, "UPDATE codes SET status = 'optimal' WHERE K = 8")
    with Catalog(filled, readonly=True) as below:
        below_entry = below.entry(8, 3, "softmax")
    with Catalog(mine, base=Catalog(filled, readonly=True, trusted=True)) as catalog:
        entry = catalog.entry(8, 3, "softmax")
        assert entry is not None and below_entry is not None
        assert entry.verified and entry.status == below_entry.status != "optimal"
    with Catalog(mine) as alone:
        code = alone.code(8, 3, "softmax")
        assert code is not None and alone.improve(code) == ()
    monkeypatch.setenv("SOFTMAXCODE_CATALOG", str(mine))
    assert sc.best_known(8, 3).certificate.status != "optimal"


def test_the_list_calls_a_status_of_a_users_file_a_claim(
    monkeypatch: pytest.MonkeyPatch, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SOFTMAXCODE_CATALOG", str(path))
    with user_catalog() as catalog:
        catalog.improve(some_code(205))
    edit(path, "UPDATE codes SET status = 'optimal', margin = 1.5")
    assert main(["catalog", "list", "--classes", "30,205", "--dims", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert ["claims optimal" in line for line in lines] == [False, False, True, True, False]
    assert not any("margin=1.5" in line for line in lines)


def test_an_export_carries_what_was_derived(inflated: Path, tmp_path: Path) -> None:
    with Catalog(inflated) as catalog:
        catalog.improve(some_code(131))
    edit(inflated, "UPDATE codes SET lower_bound = 0.9, status = 'optimal'")
    out = tmp_path / "out.sqlite"
    assert export(out, [(30, 3), (131, 3)]) == 4
    assert [result.problem for result in verify(out, n_jobs=1, progress=False)] == [""] * 4


# importing and exporting


@pytest.mark.parametrize(
    ("statement", "values", "reason"),
    [
        ("UPDATE codes SET construction = '24-cell', chosen = 'text' {}", (), "the indices of its rows are not 9"),
        ("UPDATE codes SET construction = '24-cell', chosen = ? {}", (b"abc",), "the indices of its rows are not 9"),
        ("UPDATE codes SET construction = '24-cell', chosen = 5 {}", (), "the indices of its rows are not 9"),
        ("UPDATE codes SET K = 15, d = 5000000, construction = 'x' {}", (), "has a closed form"),
        ("UPDATE codes SET d = 1000000, construction = 'x' {}", (), "has a closed form"),
        ("UPDATE codes SET K = 1000000, construction = 'x' {}", (), "too large for a catalogue"),
        ("UPDATE codes SET sha256 = 'none' {}", (), "sha256"),
        ("UPDATE codes SET sha256 = CAST(x'ff' AS TEXT) {}", (), "sha256"),
        ("UPDATE codes SET objective = CAST(x'ff' AS TEXT) {}", (), "objective"),
        ("UPDATE codes SET K = CAST('9' AS BLOB) {}", (), "K: expected int, got bytes"),
        ("UPDATE codes SET K = 9.5 {}", (), "K: expected int, got float"),
        ("UPDATE codes SET margin = 9e999 {}", (), "margin"),
        ("UPDATE codes SET status = ? {}", ("optimal\n",), "status"),
        ("UPDATE codes SET construction = ? {}", ("\x1b[2J",), "construction"),
        ("UPDATE codes SET provenance = CAST(provenance AS BLOB) {}", (), "provenance"),
        ("UPDATE codes SET provenance = ? {}", ("[" * 99_000,), "not JSON"),
        ("UPDATE codes SET provenance = ? {}", ('"' + "x" * 200_000 + '"',), "its provenance is not a text of at most"),
        ("UPDATE codes SET provenance = replace(provenance, '\"starts\": ', '\"starts\": -') {}", (), "starts"),
        ("UPDATE codes SET provenance = replace(provenance, '\"hops\": ', '\"hops\": 1e') {}", (), "provenance.hops"),
        (
            "UPDATE codes SET provenance = replace(provenance, 'seconds\": ', ?) {}",
            ('seconds": 1' + "0" * 400,),
            "second",
        ),
        ("UPDATE codes SET provenance = replace(provenance, '\"seconds\": ', '\"seconds\": -1') {}", (), "seconds"),
    ],
)
def test_one_bad_entry_stops_no_import(
    filled: Path, tmp_path: Path, statement: str, values: tuple[object, ...], reason: str
) -> None:
    edit(filled, statement.format("WHERE K = 9 AND objective = 'softmax'"), *values)
    with Catalog(tmp_path / "mine.sqlite") as mine:
        report = import_codes(filled, mine)
        assert len(report.refused) == 1 and reason in report.refused[0] and report.refused[0].isprintable()
        assert {entry.K for entry in mine.entries()} == {8, 9, 10}
    with Catalog(filled, readonly=True) as catalog, pytest.raises(CatalogError, match=r"is damaged: (its )?entry"):
        catalog.entries()


def test_a_value_that_is_too_large_stops_no_import(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(filled, "UPDATE codes SET status = zeroblob(200000) WHERE K = 9 AND objective = 'softmax'")
    monkeypatch.setattr(schema, "MAX_VALUE", 100_000)
    with Catalog(tmp_path / "mine.sqlite") as mine:
        report = import_codes(filled, mine)
        assert len(report.refused) == 1 and "a value of more than 100,000 bytes" in report.refused[0]


def test_an_imported_provenance_is_marked_as_the_files_own_words(tmp_path: Path, path: Path) -> None:
    with Catalog(path) as catalog:
        some_code(9).save(tmp_path / "a.npz")
        import_codes(tmp_path / "a.npz", catalog)
        import_codes(path, catalog)
        with Catalog(tmp_path / "b.sqlite") as other:
            import_codes(path, other)
            for mine in (catalog, other):
                entry = mine.entry(9, 3, "softmax")
                assert entry is not None and entry.provenance.method == "imported: rows given by the caller"


def test_import_of_text_that_does_not_show_its_dimension(tmp_path: Path, path: Path) -> None:
    some_code(9).save(tmp_path / "s.txt")
    some_code(9).save(tmp_path / "s.csv")
    with Catalog(path) as catalog:
        with pytest.raises(ValueError, match="--dim in the shell"):
            import_codes(tmp_path / "s.txt", catalog)
        assert import_codes(tmp_path / "s.txt", catalog, dim=3).entered
        assert import_codes(tmp_path / "s.csv", catalog).not_better == 1


def test_import_takes_what_is_better(filled: Path, tmp_path: Path) -> None:
    with Catalog(tmp_path / "mine.sqlite") as mine:
        report = import_codes(filled, mine)
        assert len(report.entered) >= 3
        assert not report.refused
        assert import_codes(filled, mine).entered == ()
        with Catalog(filled) as theirs:
            assert [e.lower_bound for e in mine.entries()] == [e.lower_bound for e in theirs.entries()]


def test_import_refuses_claims_that_do_not_hold(filled: Path, tmp_path: Path) -> None:
    edit(filled, "UPDATE codes SET lower_bound = 0.99 WHERE K = 9 AND objective = 'softmax'")
    lines: list[str] = []
    with Catalog(tmp_path / "mine.sqlite") as mine:
        report = import_codes(filled, mine, lines.append)
        assert len(report.refused) == 1
        assert "where 0.99 is claimed" in report.refused[0]
        assert any(line.startswith("refused") for line in lines)
        assert all(entry.lower_bound < 0.9 for entry in mine.entries())


@pytest.mark.parametrize("claim", ["status = 'optimal'", "margin = 5.0", "max_cosine = -0.9"])
def test_no_claim_is_believed(filled: Path, tmp_path: Path, claim: str) -> None:
    edit(filled, f"UPDATE codes SET {claim} WHERE K = 9 AND objective = 'softmax'")
    assert [r.entry.K for r in verify(filled, n_jobs=1, progress=False) if r.problem] == [9]
    with Catalog(tmp_path / "mine.sqlite") as mine:
        report = import_codes(filled, mine)
        assert len(report.refused) == 1
        assert "is claimed" in report.refused[0]


def test_import_derives_the_certificate_itself(filled: Path, tmp_path: Path) -> None:
    edit(filled, "UPDATE codes SET status = 'feasible', lower_bound = lower_bound - 0.01")
    with Catalog(tmp_path / "mine.sqlite") as mine:
        import_codes(filled, mine)
        entry = mine.entry(9, 3, "softmax")
        assert entry is not None
        assert entry.status == "matches Tammes"
        assert entry.lower_bound == pytest.approx(2 / 3, abs=1e-14)
        assert entry.margin == pytest.approx(2 / 3, abs=1e-14)


def test_import_of_code_files(tmp_path: Path, path: Path) -> None:
    code = sc.solve(7, 3, starts=2, catalog=False)
    code.save(tmp_path / "a.npz")
    code.save(tmp_path / "pack.3.7.txt")
    with Catalog(path) as catalog:
        assert import_codes(tmp_path / "a.npz", catalog).entered == ("(7, 3) softmax, tammes",)
        assert import_codes(tmp_path / "pack.3.7.txt", catalog).not_better == 1
        with pytest.raises(ValueError, match="no such file"):
            import_codes(tmp_path / "b.npz", catalog)
        with pytest.raises(CatalogError, match="does not exist"):
            import_codes(tmp_path / "b.sqlite", catalog)


def test_export_writes_a_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    monkeypatch.setenv("SOFTMAXCODE_CATALOG", str(path))
    with user_catalog() as catalog:
        for code in ordered_codes(3, 11, 4):
            catalog.improve(code)
    out = tmp_path / "out.sqlite"
    assert export(out, [(11, 4)]) == 2
    with Catalog(out, readonly=True) as copy:
        copy.check_whole()
        assert {(e.K, e.d) for e in copy.entries()} == {(11, 4)}
    assert all(not result.problem for result in verify(out, n_jobs=1, progress=False))
    before = out.read_bytes()
    for wrong, reason in (
        (out, "exists already"),
        (tmp_path / "out.npz", "suffix"),
        (tmp_path / "no" / "a.sqlite", "folder"),
    ):
        with pytest.raises(ValueError, match=reason):
            export(wrong)
    assert out.read_bytes() == before


def test_verify_finds_what_does_not_hold(filled: Path) -> None:
    assert all(not result.problem for result in verify(filled, n_jobs=1, progress=False))
    edit(filled, "UPDATE codes SET lower_bound = lower_bound + 1e-9 WHERE K = 9 AND objective = 'softmax'")
    edit(filled, "UPDATE codes SET status = 'optimal' WHERE K = 8 AND objective = 'softmax'")
    edit(filled, "UPDATE coordinates SET W = zeroblob(240) WHERE length(W) = 240")
    problems = {r.entry.K: r.problem for r in verify(filled, n_jobs=1, progress=False) if r.problem}
    assert "is claimed" in problems[9]
    assert "'optimal' is claimed" in problems[8]
    assert "other coordinates" in problems[10]


@pytest.mark.processes
def test_what_a_killed_writer_left_is_undone_on_reading(filled: Path) -> None:
    script = (
        "import os, signal, sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "c.execute('PRAGMA cache_size = 1'); c.execute('BEGIN IMMEDIATE')\n"
        "for i in range(2000): c.execute('INSERT INTO coordinates VALUES (?, ?)', (str(i), bytes(2000)))\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    with Catalog(filled) as catalog:
        before = catalog.entries()
    subprocess.run([sys.executable, "-c", script, str(filled)], check=False, timeout=HANG)
    assert filled.with_name(filled.name + "-journal").exists()
    with Catalog(filled, readonly=True) as catalog:
        catalog.check_whole()
        assert catalog.entries() == before
        with pytest.raises(CatalogError, match="read-only"):
            catalog.improve(some_code(12))


# best_known and solve


def test_a_user_catalogue_that_is_just_being_made_holds_nothing(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    path.touch()
    monkeypatch.setenv("SOFTMAXCODE_CATALOG", str(path))
    assert sc.best_known(12, 3).margin == pytest.approx(1 - 1 / np.sqrt(5), abs=1e-14)
    monkeypatch.setenv("SOFTMAXCODE_CATALOG", str(path.parent))
    with pytest.raises(CatalogError, match="is a folder"):
        sc.best_known(12, 3)


def test_not_held_survives_pickling() -> None:
    with pytest.raises(UnknownCodeError) as caught:
        sc.best_known(2_000_003, 3)
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    assert again.bounds == caught.value.bounds


def test_init_is_never_lost() -> None:
    """Neither to a stored code nor to a search that ends too soon."""
    good = sc.solve(25, 4, starts=8, catalog=False, exact=False)
    for options in ({"budget": 1e-3}, {"starts": 1, "catalog": False}):
        again = sc.solve(25, 4, init=good.W, **options)  # type: ignore[arg-type]
        assert again.margin >= good.margin - 1e-15


def test_best_known_names_the_entry(monkeypatch: pytest.MonkeyPatch, filled: Path) -> None:
    monkeypatch.setenv("SOFTMAXCODE_CATALOG", str(filled))
    code = sc.best_known(10, 3, objective="tammes")
    assert code.max_cosine == pytest.approx(0.40439432521625076, abs=1e-14)
    assert "catalogue entry (10, 3) tammes" in code.provenance.method
    assert sc.best_known(5, 3).provenance.method.startswith("exact: ")
    assert sc.best_known(240, 8).provenance.method.startswith(("exact: ", "catalogue entry"))


@pytest.mark.parametrize("objective", ["softmax", "tammes"])
def test_an_unknown_pair_is_answered_by_its_bracket(objective: str) -> None:
    with pytest.raises(UnknownCodeError, match="lies between") as caught:
        sc.best_known(2_000_003, 3, objective=objective)
    assert 0 < caught.value.bounds.lower < caught.value.bounds.upper < 0.01


def test_solve_starts_from_the_catalogue(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    good = sc.solve(40, 5, starts=8, catalog=False, exact=False)
    assert "catalogue" not in good.provenance.method
    monkeypatch.setenv("SOFTMAXCODE_CATALOG", str(path))
    with user_catalog() as catalog:
        catalog.improve(good)
    code = sc.solve(40, 5, starts=1, seed=5)
    assert code.margin >= good.margin
    if code.margin == good.margin:
        assert "catalogue entry (40, 5) softmax" in code.provenance.method


def test_without_the_catalogue_nothing_of_it_is_seen(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    before = sc.solve(30, 4, starts=2, catalog=False)
    monkeypatch.setenv("SOFTMAXCODE_CATALOG", str(path))
    with user_catalog() as catalog:
        catalog.improve(sc.solve(30, 4, starts=16, catalog=False))
    after = sc.solve(30, 4, starts=2, catalog=False)
    np.testing.assert_array_equal(before.W, after.W)


def test_a_damaged_user_catalogue_is_named_and_kept(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    path.write_bytes(b"x" * 5000)
    monkeypatch.setenv("SOFTMAXCODE_CATALOG", str(path))
    with pytest.raises(CatalogError, match=str(path)):
        sc.best_known(7, 3)
    assert sc.solve(7, 3, starts=1, catalog=False).K == 7
    assert path.read_bytes() == b"x" * 5000


# the command


@pytest.mark.parametrize(
    ("chosen", "pairs"),
    [
        (["--pairs", "5,3; 6,4"], {(5, 3), (6, 4)}),
        (["--classes", "5:6", "--dims", "3"], {(5, 3), (6, 3)}),
        (["--dims", "4"], {(5, 4), (6, 4)}),
        (["--classes", "5"], {(5, 3), (5, 4)}),
        (["--classes", "5", "--dims", "3", "--pairs", "6,4"], {(5, 3), (6, 4)}),
        ([], {(5, 3), (6, 3), (5, 4), (6, 4)}),
    ],
)
def test_which_entries_are_listed(
    chosen: list[str],
    pairs: set[tuple[int, int]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Stored:
        def entries(self) -> list[SimpleNamespace]:
            return [
                SimpleNamespace(
                    K=K,
                    d=d,
                    objective="tammes",
                    margin=0.0,
                    max_cosine=0.0,
                    status="feasible",
                    verified=True,
                    construction="x",
                )
                for K, d in itertools.product((5, 6), (3, 4))
            ]

    monkeypatch.setattr("softmaxcode.cli.catalog.installed", lambda: contextlib.nullcontext(Stored()))
    assert main(["catalog", "list", *chosen]) == 0
    found = re.findall(r"^K=(\d+) +d=(\d+)", capsys.readouterr().out, re.M)
    assert {(int(K), int(d)) for K, d in found} == pairs


def test_the_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mine = tmp_path / "mine.sqlite"
    monkeypatch.setenv("SOFTMAXCODE_CATALOG", str(mine))
    some_code(601, 3).save(tmp_path / "some.npz")  # a pair that does not ship
    for counted in ("1 entered, 0 not better, 0 refused", "0 entered, 1 not better, 0 refused"):
        assert main(["catalog", "import", str(tmp_path / "some.npz")]) == 0
        assert counted in capsys.readouterr().out
    assert main(["catalog", "list", "--classes", "601", "--dims", "3"]) == 0
    assert "K=601    d=3    softmax  margin=0.0" in capsys.readouterr().out
    assert main(["catalog", "show", "601", "3", "-o", str(tmp_path / "out.npz")]) == 0
    assert "catalogue entry (601, 3) softmax" in capsys.readouterr().out
    np.testing.assert_array_equal(sc.load(tmp_path / "out.npz").W, sc.load(tmp_path / "some.npz").W)
    assert main(["catalog", "show", "2000003", "3"]) == 1
    assert "lies between" in capsys.readouterr().out
    assert main(["catalog", "export", str(tmp_path / "all.sqlite"), "--pairs", "601,3"]) == 0
    assert main(["catalog", "verify", str(tmp_path / "all.sqlite"), "--jobs", "1"]) == 0
    assert "2 of 2 certificates" in capsys.readouterr().out
    edit(tmp_path / "all.sqlite", "UPDATE codes SET lower_bound = 0.7")
    assert main(["catalog", "export", str(tmp_path / "all.sqlite")]) == 2
    assert main(["catalog", "verify", str(tmp_path / "all.sqlite"), "--jobs", "1"]) == 1
    assert main(["catalog", "import", str(tmp_path / "all.sqlite")]) == 1
    assert "0 entered, 0 not better, 2 refused" in capsys.readouterr().out
    assert main(["catalog"]) == 2
    assert main(["catalog", "import", str(tmp_path / "none.sqlite")]) == 2
    assert main(["catalog", "improve"]) == 2
    assert "name the (K, d)" in capsys.readouterr().err


@pytest.mark.processes
def test_improve_sweeps_and_keeps(tmp_path: Path) -> None:
    mine = tmp_path / "mine.sqlite"
    command = [
        sys.executable,
        "-m",
        "softmaxcode.cli",
        "catalog",
        "improve",
        "--pairs",
        "7,3 8,3",
        "--starts",
        "2",
    ]
    done = subprocess.run(
        [*command, "--jobs", "1", "--catalog", str(mine)], capture_output=True, text=True, timeout=HANG, check=False
    )
    assert done.returncode == 0, done.stderr
    with Catalog(mine) as catalog:
        assert [(e.K, e.objective) for e in catalog.entries()] == [
            (7, "softmax"),
            (7, "tammes"),
            (8, "softmax"),
            (8, "tammes"),
        ]
        assert catalog.entries()[0].provenance.starts > 0


def test_a_home_folder_that_may_not_be_read_holds_no_catalogue(monkeypatch):
    """As for a program that runs as another user than the owner of HOME."""

    exists, mine = Path.exists, user_path()

    def refused(self: Path) -> bool:
        if self == mine:
            raise PermissionError(13, "Permission denied")
        return exists(self)

    monkeypatch.setattr(Path, "exists", refused)
    assert sc.best_known(30, 3).margin > 0.2
