"""The benchmark of temperatures measures what it documents, and its page shows what was measured."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import softmaxcode as sc
from benchmarks.temperature import command, runs, tables
from benchmarks.temperature.cases import QUICK, Case
from benchmarks.temperature.runs import MeasuredCase
from benchmarks.temperature.tables import needed, needed_by_bound
from softmaxcode.certificates.loss import minimizer_margin


@pytest.fixture(scope="module")
def measured():
    case = Case(7, 3, starts=(0.1,), seeds=3, steps=500)
    return MeasuredCase(case, runs.simulate(case, (0.1, 0.02, 0.005)))


def test_runs_are_annealed_where_the_temperature_is_below_the_start(measured):
    begun = {run.settings.temperature: run.settings.anneal for run in measured.runs}
    assert begun == {0.1: None, 0.02: 0.1, 0.005: 0.1}
    assert len(measured.runs) == 9
    assert {(run.settings.dtype, run.settings.optimizer) for run in measured.runs} == {("float64", "lbfgs")}


def test_the_run_of_lowest_loss_counts(measured):
    for tau, run in measured.lowest.items():
        losses = [float(other.final.log_loss) for other in measured.runs if other.settings.temperature == tau]
        assert float(run.final.log_loss) == min(losses)
        assert measured.deficits[tau] == pytest.approx(sc.best_known(7, 3).margin - run.margin, abs=1e-12)
        same = sum(tau * (loss - min(losses)) <= 1e-9 for loss in losses)
        assert measured.hits(tau) == f"{same} of 3"


def test_deficits_are_between_zero_and_the_bound_and_follow_the_first_order(measured):
    assert measured.finds_best
    for tau, deficit in measured.deficits.items():
        assert 0 < deficit <= measured.bound(tau)
    smallest = min(measured.lowest)
    # the second-order term is tau^2 times a constant of order 1
    assert measured.deficits[smallest] == pytest.approx(measured.constants.margin * smallest, abs=3 * smallest**2)


def test_polishing_a_run_finds_the_code_it_is_near(measured):
    limit = measured.limit
    assert limit.margin > measured.lowest[0.005].margin
    assert measured.limit_constants.loss == pytest.approx(measured.constants.loss, abs=1e-6)


def test_the_temperature_needed_is_read_between_the_measured_ones():
    taus = np.array([0.1, 0.01, 0.001])
    assert needed(pd.Series(0.3 * taus, taus), 0.006) == pytest.approx(0.02)
    assert needed(pd.Series(0.3 * taus**2, taus), 1e-5) == pytest.approx(math.sqrt(1e-5 / 0.3))
    assert needed(pd.Series(0.0 * taus, taus), 0.006) == math.inf
    assert needed(pd.Series(0.3 + taus, taus), 0.006) == 0.0
    # a deficit that rises again counts from below
    assert needed(pd.Series([0.001, 0.1, 0.0001], taus), 0.01) < 0.01


def test_the_bound_is_inverted():
    tau = needed_by_bound(100, 0.669, 0.99)
    assert minimizer_margin(100, 0.669, tau) == pytest.approx(0.99 * 0.669, abs=1e-12)


def test_the_slope_of_a_power_law_is_its_exponent(measured):
    made = MeasuredCase(measured.case, measured.runs)
    made.__dict__["deficits"] = pd.Series({tau: tau**1.5 for tau in measured.lowest})
    (row,) = tables.by_temperature([made], "slope").to_dict("records")
    assert row == {"(K, d)": "(7, 3)", "0.02 – 0.1": "1.5", "0.005 – 0.02": "1.5"}


def test_the_log_loss_is_that_of_the_definition():
    rng = np.random.default_rng(0)
    W, H = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in rng.normal(size=(2, 5, 3)))
    losses = [-math.log(math.exp(H[k] @ W[k] / 0.3) / sum(math.exp(H[k] @ w / 0.3) for w in W)) for k in range(5)]
    assert runs.log_loss(W, H, 0.3) == pytest.approx(math.log(np.mean(losses)), abs=1e-12)


def test_runs_that_lose_to_the_best_known_code_are_marked(measured):
    assert not any(measured.beaten(tau) for tau in measured.lowest)
    run = measured.lowest[0.005]
    worse = replace(run, history=run.history.assign(log_loss=run.history.log_loss + 10))
    made = MeasuredCase(measured.case, [worse])
    assert made.beaten(0.005) and made.hits(0.005) == "1 of 1 †"


def test_distances_of_all_classes_are_those_of_the_run(measured):
    run = measured.lowest[0.005]
    stressed, rattling = tables.stressed_and_rattling(run)
    H = run.H[:, 0]
    assert stressed.classes + rattling.classes == 7
    assert max(stressed.duality, rattling.duality) == pytest.approx(max(1 - (run.W * H).sum(axis=1)), abs=1e-12)
    away = 1 - (sc.margin(run.W).H * H).sum(axis=1)
    assert max(stressed.projection, rattling.projection) == pytest.approx(max(away), abs=1e-12)


def test_a_class_far_from_the_rest_is_rattling(measured):
    rows = np.vstack([np.eye(3)[:2], [[0.8, 0.6, 0.0], [0.0, 0.0, -1.0]]])
    run = replace(
        measured.lowest[0.005], settings=replace(measured.lowest[0.005].settings, K=4, n=1), W=rows, H=rows[:, None]
    )
    stressed, rattling = tables.stressed_and_rattling(run)
    assert stressed.classes == 1 and rattling.classes == 3 and stressed.duality == rattling.duality == 0


def test_a_local_code_of_less_entropy_has_the_lower_loss_above_a_temperature():
    case = Case(14, 3, starts=(0.3,), seeds=1, steps=900)
    made = MeasuredCase(case, runs.simulate(case, (0.1, 1e-3)))
    (row,) = tables.crossing_table([made]).to_dict("records")
    code, own = made.limits[0]
    crossing = float(row["lower loss above τ"])
    losses = [
        -margin + crossing * entropy
        for margin, entropy in ((code.margin, own.loss), (made.optimum, made.constants.loss))
    ]
    assert losses[0] == pytest.approx(losses[1], abs=0.002) and code.margin < made.optimum - 0.01
    assert not made.beaten(0.1) and made.beaten(1e-3)


def test_the_parts_of_a_document_are_replaced_and_its_text_stays(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "QUICK", replace(QUICK, cases=QUICK.cases[:1], temperatures=(0.1, 0.02)))
    path = tmp_path / "docs" / "t.md"
    path.parent.mkdir()
    answer, *tables = (f"<!-- {name} -->\n<!-- /{name} -->\n" for name in command.PAGE.parts)
    written = f"# How small?\n\n{answer}\nWhat we conclude.\n\n" + "\n".join(tables)
    path.write_text(written)
    command.main(["--quick", "--write", str(path)])
    text, printed = path.read_text(), capsys.readouterr().out
    parts = re.compile(r"(<!-- (\w+) -->\n)(.*?)(<!-- /\2 -->)", re.S)
    assert parts.sub(r"\1\4", text) == written
    made = {name: part.strip() for _, name, part, _ in parts.findall(text)}
    assert tuple(made) == command.PAGE.parts and all(part in printed for part in made.values())
    assert made["made"].startswith("- `python -m benchmarks.temperature --quick`, ")
    assert all(part.startswith("| (K, d)") for name, part in made.items() if name not in ("made", "crossing"))
    assert made["crossing"].startswith(("| (K, d)", "No rows."))
    assert (tmp_path / "docs" / "images" / "t.png").read_bytes().startswith(b"\x89PNG")
    assert "nan" not in text and "\n\n\n" not in text


def test_the_plan_is_a_table_of_its_starts():
    plan = replace(QUICK, cases=(Case(7, 3), Case(9, 4)), rattling=(Case(20, 3, seeds=2),))
    assert tables.plan_table(plan).to_numpy().tolist() == [
        ["(7, 3), (9, 4)", "0.3, 0.03", "4", "1,500"],
        ["(20, 3)", "0.3, 0.03", "2", "1,500"],
    ]
