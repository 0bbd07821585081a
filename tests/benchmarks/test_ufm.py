"""The benchmark of the step of the unconstrained feature model: both methods step alike, and a file gets its table."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks import report, solve, ufm
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


def test_a_quick_run_writes_its_table_and_nothing_else(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ufm, "measure", ufm.measure_here)
    monkeypatch.setattr(ufm, "QUICK_SIZES", {60: 3, 120: 3})
    monkeypatch.setattr(ufm, "SQUARE", {"cpu": 64, "cuda": 64})
    monkeypatch.setattr(ufm, "RATE_SECONDS", 0.01)
    path = tmp_path / "b.md"
    path.write_text("# Benchmarks\n\nabove\n\n<!-- ufm -->\nto be replaced\n<!-- /ufm -->\n\nbelow\n")
    ufm.main(["--quick", "--write", str(path)])
    text, printed = path.read_text(), capsys.readouterr()
    assert text.startswith("# Benchmarks\n\nabove\n\n<!-- ufm -->\n## The step of the unconstrained feature model\n")
    assert text.endswith("<!-- /ufm -->\n\nbelow\n") and "to be replaced" not in text
    part = text.split("<!-- ufm -->\n")[1].split("<!-- /ufm -->")[0]
    assert part in printed.out
    rows = [line for line in part.splitlines() if line.startswith(("| ours", "| geoopt"))]
    assert sum("∝ K^p" in row for row in rows) == 2 * (1 + torch.cuda.is_available())
    assert sum("not run: no CUDA device" in row for row in rows) == 4 * (not torch.cuda.is_available())


# Parts of a file


def test_a_part_is_appended_then_replaced(tmp_path):
    path = tmp_path / "docs" / "b.md"
    report.replace_part(path, "ufm", "one\n")
    assert path.read_text() == "<!-- ufm -->\none\n<!-- /ufm -->\n"
    path.write_text("# Title\n\ntext\n")
    report.replace_part(path, "ufm", "one\n")
    report.replace_part(path, "other", "O\n")
    report.replace_part(path, "ufm", r"two \1 \g<0>" + "\n")
    wanted = "# Title\n\ntext\n\n<!-- ufm -->\ntwo \\1 \\g<0>\n<!-- /ufm -->\n\n<!-- other -->\nO\n<!-- /other -->\n"
    assert path.read_text() == wanted


@pytest.mark.parametrize(
    "text",
    [
        "<!-- ufm -->\nno end\n",
        "<!-- /ufm -->\n",
        "<!-- /ufm -->\n<!-- ufm -->\n",
        "<!-- ufm -->\n<!-- /ufm -->\n" * 2,
    ],
)
def test_markers_that_are_no_pair_are_refused_and_the_file_stays(tmp_path, text):
    path = tmp_path / "b.md"
    path.write_text(text)
    with pytest.raises(ValueError, match="must have one line <!-- ufm --> and below it one line <!-- /ufm -->"):
        report.replace_part(path, "ufm", "new\n")
    assert path.read_text() == text


def test_parts_stay_when_the_document_is_written_anew(tmp_path):
    path = tmp_path / "b.md"
    report.write_around_parts(path, "# First\n")
    assert path.read_text() == "# First\n"
    report.replace_part(path, "ufm", "U\n")
    report.replace_part(path, "other", "O\n")
    once = path.read_text()
    report.write_around_parts(path, "# First\n")
    assert path.read_text() == once
    report.write_around_parts(path, "# Second\n")
    assert path.read_text() == once.replace("First", "Second")


def test_the_main_benchmark_keeps_the_part(tmp_path, monkeypatch):
    monkeypatch.setattr(solve, "_sections", lambda chosen, table: [])
    path = tmp_path / "b.md"
    path.write_text("# Old\n\n<!-- ufm -->\nkept\n<!-- /ufm -->\n")
    solve.main(["--quick", "--tables", "routes", "--write", str(path)])
    text = path.read_text()
    assert text.startswith("# Benchmarks\n") and text.endswith("\n<!-- ufm -->\nkept\n<!-- /ufm -->\n")
    assert "Old" not in text
