"""The benchmark of the step of the unconstrained feature model: both ways step alike, and its tables go into a page."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks import ufm
from ufm.model import random_rows


@pytest.mark.parametrize("way", ufm.WAYS)
def test_both_ways_begin_at_the_loss_of_the_definition_and_lower_it(way):
    run = ufm.settings(40, 6, 30)
    W, H = (X.double().numpy() for X in random_rows(run))
    logits = H @ W.T / ufm.TEMPERATURE
    wanted = np.mean(np.log(np.exp(logits).sum(axis=1)) - np.diag(logits))
    step = ufm.WAYS[way](run, "cpu")
    losses = [step() for _ in range(30)]
    assert losses[0] == pytest.approx(wanted, rel=1e-6)
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize("K", [60, 2100])  # logits stored at once, and in tiles
def test_both_ways_make_the_same_steps(K):
    run = ufm.settings(K, 8, 6)
    steps = {way: make(run, "cpu") for way, make in ufm.WAYS.items()}
    losses = {way: [step() for _ in range(6)] for way, step in steps.items()}
    np.testing.assert_allclose(losses[ufm.OURS], losses[ufm.DENSE], rtol=1e-4)
    assert losses[ufm.OURS][-1] < losses[ufm.OURS][0]


def test_ways_that_end_apart_are_not_compared():
    found = [ufm.StepCost(1.0, 1, 1, loss) for loss in (2.0, 2.00001, 2.1, float("nan"))]
    assert ufm.check_same(found[0], found[1]) == pytest.approx(5e-6, rel=1e-3)
    for other in found[2:]:
        with pytest.raises(RuntimeError, match="different losses"):
            ufm.check_same(found[0], other)


def test_what_is_not_run_says_why():
    assert ufm.unavailable(ufm.DENSE, 100_000, "cpu") == "not run: the logits alone are 40 GB"
    assert ufm.unavailable(ufm.DENSE, 10_000, "cpu") == ufm.unavailable(ufm.OURS, 100_000, "cpu") == ""
    if not torch.cuda.is_available():
        cells, found = ufm.row(ufm.OURS, 1000, 512, "cuda", 2)
        assert found is None and cells["s per step"] == "not run: no CUDA device"


def test_a_fresh_process_measures_what_this_one_does():
    here, there = (run(ufm.OURS, 60, ufm.DIMENSION["cpu"], "cpu", 3) for run in (ufm.measure_here, ufm.measure))
    assert there.loss == pytest.approx(here.loss, rel=1e-5)
    assert there.seconds > 0 and 0 <= there.extra < there.total


def test_the_matrix_rate_counts_every_product(monkeypatch):
    """A timer that advances one second per round: the flops of the completed rounds, divided by its seconds."""
    timer = iter(range(1000))
    monkeypatch.setattr(ufm.time, "perf_counter", lambda: float(next(timer)))
    monkeypatch.setattr(ufm, "RATE_SECONDS", 10)
    products = 2 * 4 * 30 * 20 * 7  # multiply and add, four times
    assert ufm.matrix_rate(30, 20, 7, "cpu") == pytest.approx(9 * products / 11)


def test_a_quick_run_writes_its_tables(tmp_path, monkeypatch, capsys, parts_of):
    monkeypatch.setattr(ufm, "measure", ufm.measure_here)
    monkeypatch.setattr(ufm, "QUICK_SIZES", {60: 3, 120: 3})
    monkeypatch.setattr(ufm, "SQUARE", {"cpu": 64, "cuda": 64})
    monkeypatch.setattr(ufm, "RATE_SECONDS", 0.01)
    path = tmp_path / "b.md"
    ufm.main(["--quick", "--write", str(path)])
    made, printed = parts_of(path), capsys.readouterr()
    assert tuple(made) == ufm.PAGE.parts and all(part in printed.out for part in made.values())
    assert made["ufm_machine"].startswith("- `python -m benchmarks.ufm --quick`; PyTorch threads: ")
    rows = [line for line in made["ufm"].splitlines() if line.startswith(("| ours", "| geoopt"))]
    assert sum("∝ K^p" in row for row in rows) == 2 * (1 + torch.cuda.is_available())
    assert sum("not run: no CUDA device" in row for row in rows) == 4 * (not torch.cuda.is_available())
    squares = made["ufm_squares"].splitlines()
    assert len(squares) == 3 + torch.cuda.is_available() and squares[2].startswith("| cpu      |     64 |")
