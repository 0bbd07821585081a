"""The benchmark of the metrics runs, and both its methods measure the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import softmaxcode as sc
from benchmarks import metrics, per_sample
from benchmarks.exact_margins import random_classifier


def test_all_ways_evaluate_the_same_figures():
    sizes = 7, 4, 300
    wanted = metrics.exact(*metrics.stream(*sizes))
    for batch in (0, 11, 300):
        found = metrics.evaluate(batch, *sizes)
        assert (found.gnc1, found.gnc3) == pytest.approx(wanted, rel=1e-12 if batch else 1e-4)
        assert found.seconds > 0 and found.extra >= 0


def test_a_fresh_process_evaluates_what_this_one_does():
    here, there = (way(11, 7, 4, 300) for way in (metrics.evaluate, metrics.in_fresh_process))
    assert (here.gnc1, here.gnc3) == pytest.approx((there.gnc1, there.gnc3), rel=1e-12)
    assert there.seconds > 0 and there.extra >= 0


def test_subgradient_steps_approach_the_margin_from_below():
    W = random_classifier(20, 5, 0)
    exact = sc.margin(W).margin
    values = [per_sample.gnc2(torch.tensor(W, dtype=torch.float32), steps) for steps in (50, 2000)]
    assert values[0] < exact + 1e-6 and values[1] == pytest.approx(exact, abs=2e-4)


def test_trained_like_rows_are_unit_and_better_than_random_ones():
    W = metrics.trained_like(60, 6)
    assert np.linalg.norm(W, axis=1) == pytest.approx(np.ones(60), abs=1e-15)
    assert sc.margin(W).margin > sc.margin(random_classifier(60, 6, 0)).margin


def test_the_tables_are_written_and_nothing_else(tmp_path, monkeypatch, capsys, parts_of):
    monkeypatch.setattr(metrics, "QUICK_STREAMS", ((5, 3, 60),))
    monkeypatch.setattr(metrics, "MARGINS", ((40, 8),))
    monkeypatch.setattr(per_sample, "STEPS", 100)
    monkeypatch.setattr(metrics, "in_fresh_process", metrics.evaluate)
    path = tmp_path / "docs" / "b.md"
    metrics.main(["--quick", "--tables", "stream", "margin", "--write", str(path)])
    made = parts_of(path)
    assert list(made) == ["machine", "stream", "margin"]
    printed = capsys.readouterr().out
    assert all(part in printed for part in made.values())
    assert made["machine"].startswith("- `python -m benchmarks.metrics --quick`; PyTorch threads: ")
    assert "\n| per sample " in made["stream"] and "\n| random " in made["margin"]
