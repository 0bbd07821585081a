"""The table of budgets: its rows, what counts as met, and one measurement in a process of its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import softmaxcode as sc
from benchmarks import budgets, solve
from benchmarks.adam import LOSSES, adam, loss_of
from benchmarks.budgets import Options, Row
from benchmarks.own_process import in_own_process, measured
from softmaxcode.sphere import gram, random_rows

SMALL = {"budget": 0.3, "catalog": False, "exact": False}


def made_up(job, timeout):
    """Measurements at no cost: value, seconds and memory follow from the job."""
    kind, seconds = job["kind"], job["options"].get("budget", job["options"].get("seconds", 0.5))
    value = {"solve": 0.5 + 0.01 * job["seed"], "random": 0.1}.get(kind, 0.4)
    return {"value": value, "seconds": seconds, "bytes": 10**6 * job["K"], "how": "7 steps"}


# Rows


def test_rows_are_those_of_the_budget_table():
    assert len(budgets.ROWS) == len({(row.K, row.d) for row in budgets.ROWS}) == 21
    assert budgets.rows_of(Options()) == list(budgets.ROWS)
    (row,) = budgets.rows_of(Options(((500, 16),)))
    assert (row.seconds, row.wanted) == (2, 0.606)
    assert row.options == {"budget": 2, "catalog": False, "exact": False, "device": None}
    (row,) = budgets.rows_of(Options(((1_000_000, 128),), budget=110, device="cuda"))
    assert row.options == {"budget": 110, "catalog": False, "exact": False, "device": "cuda"}
    assert budgets.ROWS[-1].options == {} and budgets.ROWS[-1].default
    (row,) = budgets.rows_of(Options(((500, 16),), budget=0.1))
    assert (row.seconds, row.wanted) == (0.1, 0.606)
    assert budgets.rows_of(Options(((9, 4),), budget=1.0)) == [Row(9, 4, 1.0)]
    with pytest.raises(ValueError, match=r"no such row: \(9, 4\); name its seconds with --budget"):
        budgets.rows_of(Options(((9, 4),)))


@pytest.mark.parametrize("row", budgets.ROWS, ids=lambda row: f"{row.K},{row.d}")
def test_what_is_wanted_is_possible(row):
    if row.wanted is not None:
        assert row.wanted < 1 - sc.max_cosine_lower_bound(row.K, row.d, lp=False).value


# Measurements


@pytest.mark.parametrize("name", LOSSES)
def test_the_losses_are_their_formulas(name):
    W = random_rows(9, 4, np.random.default_rng(0))
    C = gram(W)
    squared = 2 - 2 * C[~np.eye(9, dtype=bool)].reshape(9, 8)
    expected = {
        "LSE": np.mean(np.log(np.exp(5 * (1 - squared / 2)).sum(axis=1)) / 5),
        "MHE": np.log((1 / squared).sum() / 81),
        "uniformity": np.log(np.exp(-2 * squared).sum() / 81),
    }
    assert loss_of(name, torch.tensor(C), 5.0).item() == pytest.approx(expected[name], rel=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_adam_spreads_points(name):
    W, steps = adam(6, 3, name, 0.4, 0)
    assert steps > 3
    np.testing.assert_allclose(np.linalg.norm(W, axis=1), 1, atol=1e-14)
    assert gram(W).max() < gram(random_rows(6, 3, np.random.default_rng(0))).max()


def test_adam_takes_batches_of_many_rows(monkeypatch):
    monkeypatch.setattr("benchmarks.adam.MAX_COSINES", 200)
    W, steps = adam(50, 4, "LSE", 0.1, 1)
    assert W.shape == (50, 4) and steps > 0


def test_a_measurement_in_this_process():
    job = {"kind": "solve", "K": 8, "d": 3, "seed": 0, "options": SMALL}
    found = measured(job)
    W = sc.solve(8, 3, objective="tammes", seed=0, progress=False, catalog=False, exact=False).W
    assert found["value"] == pytest.approx(1 - gram(W).max(), abs=1e-9)
    assert 0 < found["seconds"] < 60 and found["bytes"] > 10**7 and "search" in found["how"]
    random = measured(job | {"kind": "random"})
    assert random["value"] == pytest.approx(1 - gram(random_rows(8, 3, np.random.default_rng(0))).max(), abs=1e-15)
    assert measured(job | {"kind": "LSE", "options": {"seconds": 0.05}})["how"].endswith(" steps")


@pytest.mark.processes
def test_a_measurement_in_a_process_of_its_own():
    found = in_own_process({"kind": "random", "K": 30, "d": 4, "seed": 1, "options": {}}, 300)
    assert found["value"] == pytest.approx(1 - gram(random_rows(30, 4, np.random.default_rng(1))).max(), abs=1e-14)
    assert (
        "must be an integer" in in_own_process({"kind": "solve", "K": 1, "d": 4, "seed": 1, "options": {}}, 300)["how"]
    )
    assert (
        in_own_process({"kind": "random", "K": 30, "d": 4, "seed": 1, "options": {}}, 0.01)["how"] == "ended after 0 s"
    )


# Tables


def cells_of(row, measure=made_up, seeds=(0, 1, 2)):
    return budgets.solve_cells(row, seeds, measure)


def test_the_median_of_the_seeds_and_the_most_memory():
    cells, middle, took = cells_of(Row(500, 16, 2, 0.5, memory=1.0))
    assert (middle, took) == (0.51, 2.0)
    assert (cells["1 − μ"], cells["lowest"], cells["s"], cells["GB"]) == ("0.51000", "0.50000", "2", "0.50 (of 1)")
    assert (cells["random"], cells["met"]) == ("0.100", "yes")
    assert cells["bound"] == f"{1 - sc.max_cosine_lower_bound(500, 16, lp=False).value:.3f}"


def test_what_is_met():
    def slow(job, timeout):
        return made_up(job, timeout) | {"seconds": 3.3}

    def failing(job, timeout):
        return {"how": "MemoryError"} if job["seed"] == 1 else made_up(job, timeout)

    assert cells_of(Row(500, 16, 2, 0.511))[0]["met"] == "no"
    assert cells_of(Row(500, 16, 2, 0.5, memory=0.4))[0]["met"] == "no"
    assert cells_of(Row(500, 16, 2, 0.5), slow)[0]["met"] == "no"  # more than 1.1 times 2 s plus 1 s
    assert cells_of(Row(500, 16, 2.1, 0.5), slow)[0]["met"] == "yes"
    assert cells_of(Row(500, 16, 2, 0.5), failing)[0]["met"] == "no"
    cells, middle, took = cells_of(Row(500, 16, 2, 0.5), failing, (1,))
    assert middle is None and took == 2 and cells["1 − μ"] == "none (MemoryError)" and cells["met"] == "–"


def test_a_published_value_is_wanted_to_its_digits():
    value = 1 - next(one.theirs for one in budgets.read_published() if (one.K, one.d) == (34, 3))

    def at(offset):
        return lambda job, timeout: made_up(job, timeout) | {"value": value - offset}

    assert cells_of(Row(34, 3, 10), at(0.9e-9))[0]["met"] == "yes"
    assert cells_of(Row(34, 3, 10), at(1.1e-9))[0]["met"] == "no"
    assert cells_of(Row(34, 3, 10))[0]["1 − μ wanted"] == f"{value:.10f} (published)"
    assert cells_of(Row(12, 3, 10))[0]["1 − μ wanted"] == "0.5527864045 (stored)"
    assert cells_of(Row(5000, 3, 10))[0]["1 − μ wanted"] == "–"


def test_a_small_table(capsys):
    options = Options(((34, 3), (1_000_000, 128)), growing=((50, 8), (100, 8)))
    tables = budgets.run(options, made_up)
    assert tables["budgets"][["K", "call"]].to_numpy().tolist() == [["34", "budget=10"], ["1,000,000", "default"]]
    assert tables["budgets"]["random"].tolist() == ["0.100", "–"]
    assert len(tables["adam"]) == 1  # not beside the default call
    assert tables["adam"].loc[0, "s"] == tables["budgets"].loc[0, "s"]  # the time that the search took
    assert tables["adam"].loc[0, [*LOSSES]].tolist() == ["0.40000"] * 3 and tables["adam"].loc[0, "LSE, steps"] == "7"
    assert tables["growth"]["K"].tolist() == ["50", "100", "∝ K^p, p ="] and tables["growth"]["GB"][2] == "1.00"
    assert capsys.readouterr().out.count("budgets: K ") == 2
    assert budgets.run(Options(((34, 3),), baselines=False, growing=()), made_up)["adam"].empty


def test_the_command_writes_the_page_of_the_budgets(tmp_path, monkeypatch, parts_of, capsys):
    monkeypatch.setattr(budgets, "in_own_process", made_up)
    page = tmp_path / "benchmarks.md"
    solve.main(["--quick", "--tables", "budgets", "--pairs", "34,3", "--write", str(page), "--out", str(tmp_path)])
    assert not page.exists()
    made = parts_of(tmp_path / "large-k.md")
    assert tuple(made) == budgets.PAGE.parts
    assert "| 34  |   3 | budget=2 |" in made["budgets"]
    assert "python -m benchmarks.solve --quick" in made["budget_machine"]
    assert sorted(file.name for file in tmp_path.glob("*.csv")) == ["adam.csv", "budgets.csv", "growth.csv"]
    (tmp_path / "large-k.md").write_text("# Title\n")
    for arguments in (["--pairs", "34,3", "--write", str(page)], ["--pairs", "9,4"]):
        with pytest.raises(SystemExit) as ended:
            solve.main(["--tables", "budgets", *arguments])
        assert ended.value.code == 2
    err = capsys.readouterr().err
    assert "must have one line <!-- budgets -->" in err and "no such row: (9, 4)" in err
