"""Sweeps: one row per run, in order; interrupted and resumed; nothing of other options is reused."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import ufm
from softmaxcode.storage import disk, journal
from tests.ufm.test_checkpoint import interrupt
from ufm import running, sweeps

GRID = {"K": [6, 4], "d": [2, 3], "temperature": [0.2, 0.05], "seeds": 2, "n": 1, "steps": 30, "progress": False}


def same(a: pd.DataFrame, b: pd.DataFrame) -> bool:
    return bool(a.drop(columns="seconds").equals(b.drop(columns="seconds")))


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return ufm.sweep(**GRID)


def test_rows_in_the_order_of_classes_dimension_temperature_and_seed(table):
    wanted = [(K, d, tau, seed) for K in (6, 4) for d in (2, 3) for tau in (0.2, 0.05) for seed in (0, 1)]
    assert list(table[["K", "d", "temperature", "seed"]].itertuples(index=False, name=None)) == wanted
    assert table.index.tolist() == list(range(16))
    assert table.step.dtype == int and (table.step <= table.steps).all() and (table.violations == 0).all()


def test_rows_are_those_of_single_runs(table):
    for i in (0, 7, 13):
        row = table.iloc[i]
        run = ufm.simulate(row.K, row.d, 1, row.temperature, seed=row.seed, steps=30, record_every=30, progress=False)
        assert row.GNC2 == pytest.approx(run.margin, abs=1e-9) and row.status == run.status
        assert row.ratio == pytest.approx(run.margin / run.best_known, abs=1e-9)
        assert row.minimizer_bound == run.minimizer_bound
        assert (None if pd.isna(row.meets_bound) else bool(row.meets_bound)) is run.meets_bound
        assert row.certified_margin == pytest.approx(run.final["certified_margin"], abs=1e-9)


def test_arrays_and_single_numbers_are_lists():
    given = {"K": 4, "d": 2, "n": 1, "steps": 5, "progress": False}
    wanted = ufm.sweep(temperature=[0.1, 0.2], seeds=[0, 1, 2], **given)
    for taus, seeds in [((0.1, 0.2), 3), (np.array([0.1, 0.2]), np.int64(3)), ([0.1, 0.2], range(3))]:
        assert same(ufm.sweep(temperature=taus, seeds=seeds, **given), wanted)
    one = ufm.sweep(temperature=np.float64(0.1), seeds=[2], **{**given, "K": np.array([4, 4])})
    assert same(one, wanted[2:3].reset_index(drop=True))


def test_a_batch_too_large_is_cut(monkeypatch, table):
    monkeypatch.setattr(sweeps, "BATCH", 1)
    cut = ufm.sweep(**GRID)
    pd.testing.assert_frame_equal(cut.drop(columns="seconds"), table.drop(columns="seconds"), rtol=1e-6, atol=1e-9)


def test_imbalanced_and_free_runs():
    table = ufm.sweep(3, 2, 0.1, 1, n=[1, 2, 3], steps=5)
    assert table.n.tolist() == [2.0] and table.meets_bound.notna().all()
    free = ufm.sweep(3, 2, 1.0, 1, n=1, steps=5, weight_decay=0.1)
    assert free.minimizer_bound.isna().all() and free.meets_bound.isna().all() and free.violations.tolist() == [0]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("at", [3, 20])
def test_an_interrupted_sweep_goes_on(suffix, at, table, tmp_path, monkeypatch):
    path = tmp_path / f"table{suffix}"
    with monkeypatch.context() as patched:
        count, inner = [], running.run_batch

        def third(*arguments, **options):
            count.append(1)
            if len(count) == 3:
                interrupt(patched, at)
            return inner(*arguments, **options)

        patched.setattr(running, "run_batch", third)
        with pytest.raises(KeyboardInterrupt):
            ufm.sweep(**GRID, path=path)
    left = {file.name for file in tmp_path.iterdir()}
    assert left == {path.name, f"{path.name}.rows", f"{path.name}.4-2-0.2-0.pt"}
    read = pd.read_csv if suffix == ".csv" else pd.read_parquet
    assert len(read(path)) == 8  # what was finished
    run_batch, runs = running.run_batch, []
    monkeypatch.setattr(running, "run_batch", lambda given, **more: runs.append(given[0]) or run_batch(given, **more))
    found = ufm.sweep(**GRID, path=path)
    assert [(run.K, run.d) for run in runs] == [(4, 2), (4, 3)]
    assert same(found, table) and [file.name for file in tmp_path.iterdir()] == [path.name]
    np.testing.assert_array_equal(read(path)["GNC2"], table["GNC2"])
    assert found.columns.tolist() == table.columns.tolist() and (found.dtypes == table.dtypes).all()


def test_what_was_left_by_other_options_is_not_used(table, tmp_path, monkeypatch):
    path = tmp_path / "table.csv"
    for at in (5, 25):  # before and after the first group, whose K = 6 and d = 2 end at step 30
        with monkeypatch.context() as patched:
            interrupt(patched, at)
            with pytest.raises(KeyboardInterrupt):
                ufm.sweep(**GRID | {"steps": 40, "n": 2}, path=path)
    assert (tmp_path / "table.csv.6-2-0.2-0.pt").is_file()
    assert same(ufm.sweep(**GRID, path=path), table)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_checkpoints_that_nobody_goes_on_from_are_removed(table, tmp_path):
    """Checkpoints of groups that no longer exist, and unfinished files of a killed process; nothing else."""
    path = tmp_path / "table.csv"
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    host = disk._host()
    ours = ["table.csv.9-3-0.2-0.pt", f".table.csv.9-3-1e-05-7.{host}.{ended.pid}.abcdefgh.pt"]
    others = ["table.csv.pt", "other.csv.9-3-0.2-0.pt", "table.csv.notes-3.pt", f".t.{host}.{ended.pid}.abcdefgh.pt"]
    others.append(f".table.csv.9-3-0.1-0.{host}.{os.getpid()}.abcdefgh.pt")  # its process is alive
    for name in ours + others:
        (tmp_path / name).write_text("x")
    assert same(ufm.sweep(**GRID, path=path), table)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([path.name, *others])


@pytest.mark.parametrize(
    "forge",
    [
        lambda rows: rows[:-1],
        lambda rows: [],
        lambda rows: ["row"] * 4,
        lambda rows: [rows[0] | {"GNC2": "high"}, *rows[1:]],
        lambda rows: [rows[0] | {"seed": 5}, *rows[1:]],
        lambda rows: [rows[0] | {"best_known": 0.1}, *rows[1:]],
    ],
)
def test_noted_rows_that_cannot_be_of_these_runs_are_made_again(table, tmp_path, monkeypatch, forge):
    path = tmp_path / "table.csv"
    with monkeypatch.context() as patched:
        inner, count = running.run_batch, []

        def second(*arguments, **options):
            count.append(1)
            if len(count) == 2:
                raise KeyboardInterrupt
            return inner(*arguments, **options)

        patched.setattr(running, "run_batch", second)
        with pytest.raises(KeyboardInterrupt):
            ufm.sweep(**GRID, path=path)
    kept = sweeps.rows_file(path)
    header, entry = (json.loads(line.partition("\t")[0]) for line in kept.read_text().splitlines())
    kept.write_text(journal._signed(header) + journal._signed(entry | {"rows": forge(entry["rows"])}))
    assert same(ufm.sweep(**GRID, path=path), table)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"K": [6, 1]}, r"K \(the number of classes\) must be an integer of at least 2; got 1"),
        ({"d": []}, "K, d, temperature and seeds must each be a number or a list of at least one; one is empty"),
        ({"temperature": [0.1, 0]}, "temperature must be a finite number above 0; got 0"),
        ({"temperature": "cold"}, "temperature must be a finite number above 0; got 'cold'"),
        ({"seeds": 0}, "seeds must be an integer of at least 1; got 0"),
        ({"seeds": [0, -1]}, "seed must be an integer of at least 0; got -1"),
        ({"seeds": 1.5}, "seeds must be an integer of at least 1; got 1.5"),
        ({"steps": 0}, "steps must be an integer of at least 1; got 0"),
        ({"n": [1, 2]}, "n must be one number or one for each of the K = 6 classes; got 2 numbers"),
        ({"device": "mps"}, "device must be"),
        ({"path": "table.xlsx"}, "cannot write .*table.xlsx: the suffix must be one of"),
        ({"path": "no/table.csv"}, "the folder .*no does not exist"),
    ],
)
def test_bad_input_writes_nothing(options, message, tmp_path):
    path = tmp_path / options.get("path", "table.csv")
    with pytest.raises(ValueError, match=message):
        ufm.sweep(**GRID | options | {"path": path})
    assert not list(tmp_path.iterdir())
