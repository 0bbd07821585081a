"""The study of class assignments, on made-up runs."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from experiments.assignments import graded, input_similarity
from experiments.class_similarity import mantel
from experiments.codes import code
from experiments.data import load
from experiments.settings import RunSettings
from experiments.studies.assignment import findings, plan
from experiments.studies.assignment.analysis import measure
from experiments.studies.assignment.plan import ARRANGEMENTS, SQUARE_CLASSES

SLOPES = "Slope of accuracy, in points from fraction 0 to fraction 1, and from the worst to the best"
LEVELS = (1.0, 0.6, 0.3, 0.0, -0.5, -1.0)


def fake(settings, accuracy, found, train=1.0):
    final = pd.Series({"test_accuracy": accuracy, "train_accuracy": train})
    W = np.zeros((found["K"], settings.d))
    return SimpleNamespace(
        settings=settings, status="finished", final=final, W=W, evaluation=lambda name, kind, measure: found
    )


def found(fraction, K=100, opposite=None, correlation=None):
    p = None if correlation is None else 0.001
    return {
        "K": K, "objective": 10 + 90 * fraction, "best": 100.0, "mean": 10.0, "worst": -10.0,
        "correlation": correlation, "p_value": p, "opposite": opposite,
    }  # fmt: skip


def runs(gain, noise=0.0, seeds=3, levels=LEVELS, learned=True, **options):
    """Accuracy 0.9 + gain times the fraction, and noise."""
    rng = np.random.default_rng(0)
    out = []
    for seed, level in itertools.product(range(seeds), levels):
        fraction = level if level > 0 else level / 5
        accuracy = 0.9 + 0.001 * seed + gain * fraction + noise * rng.normal()
        settings = RunSettings.checked(**options, head="code", assignment=level, seed=seed)
        out.append(fake(settings, accuracy, found(fraction)))
    if learned:
        for seed in range(seeds):
            settings = RunSettings.checked(**options, seed=seed)
            out.append(fake(settings, 0.92, found(1.1, correlation=0.4 + 0.1 * seed)))
    return out


def arranged(accuracies, seeds=4):
    out = []
    for seed, (rows, accuracy, objective) in itertools.product(
        range(seeds), zip(ARRANGEMENTS, accuracies, (-1.0, 1.0, 2.0), strict=True)
    ):
        options = {"classes": list(SQUARE_CLASSES), "seed": seed}
        settings = RunSettings.checked("digits", data_options=options, head="code", assignment=rows, seed=seed)
        opposite = ("3 and 9, 4 and 6", "3 and 4, 9 and 6", "3 and 6, 9 and 4")[ARRANGEMENTS.index(rows)]
        out.append(fake(settings, accuracy + 0.001 * (-1) ** seed, found(objective, K=4, opposite=opposite)))
    return out


def test_square_classes_are_the_two_most_similar_pairs():
    S = input_similarity(load("digits"))
    pairs = sorted(itertools.combinations(range(10), 2), key=lambda pair: -S[pair])
    first = pairs[0]
    second = next(pair for pair in pairs if not set(pair) & set(first))
    assert first + second == SQUARE_CLASSES


def test_arrangements_are_the_three_ways_to_be_opposite():
    W = code(4, 2).W
    opposite = []
    for rows in ARRANGEMENTS:
        V = W[list(rows)]
        opposite.append({frozenset((i, j)) for i, j in itertools.combinations(range(4), 2) if V[i] @ V[j] < -0.99})
    assert opposite == [{frozenset((0, j)), frozenset({1, 2, 3} - {j})} for j in (1, 2, 3)]


def test_plan_has_every_assignment_and_the_learned_head():
    wanted = plan(seeds=2, square_seeds=4)
    assert len({run.key for run in wanted}) == len(wanted)
    square = [run for run in wanted if run.data == "digits"]
    assert len(square) == 4 * 4 and {run.data_options["seed"] for run in square} == set(range(4))
    pairs = [run for run in wanted if run.data == "digit-pairs" and "relabel" not in run.data_options]
    assert {run.assignment for run in pairs} == {None, *LEVELS} and len(pairs) == 2 * 7
    assert [run for run in pairs if run.head == "learned"] == [
        RunSettings.checked("digit-pairs", seed=seed) for seed in range(2)
    ]
    text = [run for run in wanted if run.data == "text"]
    assert {run.assignment for run in text if run.head == "code"} == set(LEVELS)
    triples = [run for run in wanted if run.data == "digit-triples"]
    assert {run.data_options["groups"] for run in triples} == {"leading", "random"}
    assert all(run.d == 10 for run in triples)
    load(square[0].data, **square[0].data_options)


def test_plan_gives_way_to_settings():
    wanted = plan(seeds=1, square_seeds=1, epochs=2, data="digit-pairs", d=12, parts=("pairs", "square"))
    assert {run.epochs for run in wanted} == {2}
    assert {run.d for run in wanted if "classes" not in run.data_options} == {12}
    assert {run.d for run in wanted if "classes" in run.data_options} == {2}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"parts": ("circle",)}, "parts must be some of"),
        ({"parts": ()}, "parts must be some of"),
        ({"data": "digits"}, "goes with the parts 'square' and 'pairs' alone"),
        ({"square_classes": (1, 2, 2, 3)}, "four different classes"),
        ({"seeds": 0}, "seeds"),
        ({"assignment": 1.0}, "assignment is varied by this study: pass levels"),
        ({"levels": (2.0,)}, "level from -1 to 1"),
    ],
)
def test_bad_plan(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        plan(**options)


@pytest.mark.parametrize(
    ("gain", "verdict", "part"),
    [(0.03, "supported on", "help"), (-0.03, "contradicted on", "hurt"), (0.0, "left open on", "not shown")],
)
def test_either_outcome_is_said(gain, verdict, part):
    said = findings(runs(gain, noise=0.001)).statements
    assert f"{verdict} digit-pairs (K = 100, d = 10)" in said[0] and said[0].startswith("That similar classes")
    # every level fits its training data, so changes of test accuracy are generalisation
    assert f"{verdict} digit-pairs (K = 100, d = 10)" in said[1] and "generalise better" in said[1]
    assert f"Similar classes near each other {part}" in said[2].replace("are not shown", "not shown")
    assert "best assignment less the worst" in said[2]
    assert "less training" not in said[2]


def test_a_better_fit_is_not_called_generalisation():
    made = runs(0.03, noise=0.001)
    for run in made:  # training accuracy rises twice as much
        fraction = (run.evaluation("", None, None)["objective"] - 10) / 90
        run.final["train_accuracy"] = 0.5 + 0.06 * fraction
    said = findings(made).statements
    assert "higher test accuracy is supported on digit-pairs" in said[0]
    assert "so generalise better, is contradicted on digit-pairs" in said[1]
    assert "Test less training accuracy changes by -2.98" in said[2]
    table = findings(made).tables[
        "Slope of accuracy, in points from fraction 0 to fraction 1, and from the worst to the best"
    ]
    assert table["slope of test less training"].tolist() == pytest.approx([-3], abs=0.2)


def test_slope_and_differences_are_in_points():
    out = findings(runs(0.03))
    table = out.tables[SLOPES]
    row = table.iloc[0]
    assert row["slope"] == pytest.approx(3.0)
    assert row["best less worst"] == pytest.approx(3.0 * 1.2)
    assert row["best less learned"] == pytest.approx(100 * (0.9 + 0.001 + 0.03 - 0.92))
    assert row["slope, n"] == 6 and row["best less worst, n"] == 3
    levels = out.tables["Accuracy by assignment, in percent; fraction 0 is a random assignment, 1 the best"]
    assert levels["fraction"].tolist() == pytest.approx([1, 0.6, 0.3, 0, -0.1, -0.2])
    assert levels["accuracy"].tolist() == pytest.approx([90.1 + 3 * fraction for fraction in levels["fraction"]])
    assert len(out.figures) == 1


def test_controls_are_apart_and_relabelled_images_are_judged_by_training():
    relabelled = runs(0.5, levels=(1.0, -1.0), learned=False, data_options={"relabel": "images"})
    groups = runs(0.03, noise=0.001, data="digit-triples", d=10, data_options={"groups": "random"}, learned=False)
    said = findings([*runs(0.03, noise=0.001), *relabelled, *groups]).statements
    assert all(part not in text for part in ("relabelled", "groups") for text in said[:2])
    (control,) = [one for one in said if one.startswith("Control, digit-triples in random groups")]
    assert "not compatible with 0" in control and "do not fit" not in control
    (flat,) = [one for one in said if one.startswith("digit-pairs, relabelled")]
    assert "training accuracy changes by" in flat and "changes by 0 (n = 2" in flat


@pytest.mark.parametrize(
    ("accuracies", "part"),
    [((0.85, 0.9, 0.91), "hurts"), ((0.95, 0.9, 0.91), "helps"), ((0.9, 0.89, 0.91), "not shown")],
)
def test_arrangements_are_compared_by_what_is_opposite(accuracies, part):
    made = arranged(accuracies)
    for i, run in enumerate(made):  # so that no difference is the same for all seeds
        run.final["test_accuracy"] += 0.002 * math.cos(i)
    out = findings(made)
    (said,) = out.statements
    assert part in said and said.index("3 and 9, 4 and 6 opposite") < said.index("3 and 4, 9 and 6 opposite")
    (table,) = out.tables.values()
    by = {}
    for run in made:
        by.setdefault(run.settings.assignment, []).append(100 * run.final["test_accuracy"])
    means = [np.mean(by[rows]) for rows in ARRANGEMENTS]
    assert table["accuracy"].tolist() == pytest.approx(means)
    assert table["less the first"].tolist() == pytest.approx([one - means[0] for one in means])


def test_learned_vectors_are_correlated_with_the_inputs():
    out = findings(runs(0.0))
    row = out.tables["Learned class vectors and the similarity of inputs"].iloc[0]
    assert row["rank correlation"] == pytest.approx(0.5) and row["rank correlation, n"] == 3
    assert row["fraction"] == pytest.approx(1.1)


def test_part_of_a_study_is_enough():
    assert findings([]).statements == ["No run is finished."]
    whole = runs(0.03, noise=0.001)
    out = findings(whole[2:])
    of = "Missing: digit-pairs (K = 100, d = 10), fixed code, assignment"
    assert [one for one in out.statements if "Missing" in one] == [f"{of} 0.6, seed 0.", f"{of} 1.0, seed 0."]
    one = findings(whole[:1])
    assert "no two assignments of one seed are finished (n = 1)" in one.statements[2]
    assert "(n = 2) points" in findings(whole[:2]).statements[2]
    assert "digit-pairs" in findings(whole[-1:]).statements[0]
    assert findings(arranged((0.9, 0.91, 0.92))[:1]).statements


def test_runs_that_diverged_are_left_out():
    made = runs(0.03)
    made[0].status = "diverged"
    out = findings(made)
    left_out = "Diverged and left out: digit-pairs (K = 100, d = 10), fixed code, assignment 1.0, seed 0."
    assert left_out in out.statements and not any("Missing" in one for one in out.statements)
    assert out.tables["Accuracy by assignment, in percent; fraction 0 is a random assignment, 1 the best"][
        "accuracy, n"
    ].tolist() == [2, 3, 3, 3, 3, 3]
    assert findings(made[:1]).statements == ["No run is finished but those that diverged.", left_out]


def test_measure_follows_the_definitions():
    data = load("digits", classes=SQUARE_CLASSES)
    best = code(4, 2)
    W = 3 * best.W[list(ARRANGEMENTS[0])]
    settings = RunSettings.checked("digits", head="code", assignment=ARRANGEMENTS[0])
    run = SimpleNamespace(settings=settings, W=W, data=lambda: data)
    S = input_similarity(data)
    out = measure(run)
    cosines = W @ W.T / 9
    assert out["objective"] == pytest.approx(sum(S[i, j] * cosines[i, j] for i in range(4) for j in range(4) if i != j))
    values = [
        sum(S[i, j] * float(best.W[p[i]] @ best.W[p[j]]) for i in range(4) for j in range(4) if i != j)
        for p in itertools.permutations(range(4))
    ]
    assert (out["best"], out["worst"]) == pytest.approx((max(values), min(values)))
    assert out["mean"] == pytest.approx(np.mean(values))
    assert out["opposite"] == "3 and 9, 4 and 6" and out["correlation"] is None


def test_measure_tests_learned_vectors():
    data = load("digits")
    W = np.random.default_rng(0).normal(size=(10, 4))
    run = SimpleNamespace(settings=RunSettings.checked("digits", d=4), W=W, data=lambda: data)
    unit = W / np.linalg.norm(W, axis=1, keepdims=True)
    wanted = mantel(unit @ unit.T, input_similarity(data), 999, alternative="greater")
    out = measure(run)
    assert out["correlation"] == pytest.approx(wanted.correlation) and out["p_value"] == wanted.p_value
    assert out["best"] == pytest.approx(graded(input_similarity(data), code(10, 4), 1.0).objective)
