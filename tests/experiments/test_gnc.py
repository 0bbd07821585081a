"""The study of neural collapse by head: its plan, and its findings from runs with made-up values."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import softmaxcode as sc
from experiments import paper
from experiments.settings import RunSettings
from experiments.statistics import mean_interval
from experiments.studies import common, gnc
from softmaxcode.pages import Findings

#: K and d of every made-up run; their best margin is 1, so that a fraction equals GNC2.
K, D = 12, 10
EPOCHS = [5, 10]


@dataclass
class MadeUp:
    """The values that a study reads from a run, drawn from its settings' seed unless given."""

    settings: RunSettings
    values: dict[str, float] = field(default_factory=dict)
    status: str = "finished"

    @property
    def W(self) -> np.ndarray:
        return np.zeros((K, self.settings.d))

    @property
    def history(self) -> pd.DataFrame:
        if self.status != "finished":
            return pd.DataFrame({"epoch": [1], "train_loss": [math.nan]})
        rng = np.random.default_rng([self.settings.seed, *self.settings.head.encode()])
        names = ["GNC1", "GNC2", "GNC3", "test_accuracy", "ncm_accuracy", "certified_margin"]
        rows = {name: rng.uniform(0.1, 0.9, len(EPOCHS)) for name in names}
        for name, value in self.values.items():
            rows[name][-1] = value
        return pd.DataFrame({"epoch": EPOCHS, **rows})

    @property
    def final(self) -> pd.Series:
        return self.history.iloc[-1]


def found(runs: list[Any]) -> Findings:
    return gnc.findings(runs)


def table_of(findings: Findings) -> Any:
    return next(iter(findings.tables.values())).set_index("classifier")


def matching(findings: Findings, *parts: str) -> str:
    """The only statement that has all the parts."""
    (one,) = [s for s in findings.statements if all(part in s for part in parts)]
    return one


@pytest.fixture(autouse=True)
def _no_simulation(monkeypatch: pytest.MonkeyPatch) -> None:
    """The feature model takes seconds at each temperature."""
    monkeypatch.setattr(gnc, "ufm_margin", lambda K, d, tau: mean_interval([0.90, 0.92]))


def test_plan() -> None:
    runs = gnc.plan(seeds=2, heads=("learned", "linear"), temperatures=(0.1, 0.2), epochs=3)
    assert [(r.seed, r.head, r.temperature, r.epochs) for r in runs] == [
        (seed, *cell, 3) for seed in (0, 1) for cell in [("learned", 0.1), ("learned", 0.2), ("linear", 1.0)]
    ]
    assert gnc.plan(seeds=1)[0] == RunSettings.checked()  # shared with every other study
    assert {r.network for r in gnc.plan(data="cifar100")} == {"resnet18"}


@pytest.mark.parametrize(("name", "option"), [("head", "heads"), ("temperature", "temperatures"), ("seed", "seeds")])
def test_plan_says_which_option_varies_a_field(name: str, option: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is varied by this study: pass {option} instead; got 1"):
        gnc.plan(**{name: 1})  # type: ignore[arg-type]


def test_plan_of_no_seeds() -> None:
    with pytest.raises(ValueError, match="seeds must be"):
        gnc.plan(seeds=0)


@pytest.mark.parametrize(
    ("GNC2", "GNC1", "GNC3", "verdicts"),
    [
        (0.81, 0.01, 0.005, [True, True, True]),
        (0.79, 0.03, 0.02, [False, False, False]),
        (0.8, 0.02, 0.03, [True, True, False]),
    ],
)
def test_verdicts_follow_the_means(GNC2: float, GNC1: float, GNC3: float, verdicts: list[bool]) -> None:
    spread = (-0.004, 0.0, 0.004)
    runs = [
        MadeUp(s, {"GNC2": GNC2 + e, "GNC1": GNC1, "GNC3": GNC3})
        for s, e in zip(gnc.plan(seeds=3, heads=("learned",)), spread, strict=True)
    ]
    sentence = matching(found(runs), "mean GNC2")
    assert [found == "met" for found in re.findall(r"; (met|not met)\)", sentence)] == verdicts
    half = stats.t.ppf(0.975, 2) * 0.004 / math.sqrt(3)
    assert f"mean GNC2 is {GNC2:.4f} ± {half:.4f} (n = 3), {GNC2:.3f} of the best known margin 1.0000" in sentence
    for name, (bound, below) in gnc.TARGETS.items():
        wanted = f"(target: at {'least' if below else 'most'} {bound:.2f}; "
        assert wanted in sentence.partition("GNC2 is" if name == "fraction" else f"{name} is")[2].partition(". ")[0]


def test_nothing_is_asked_elsewhere() -> None:
    for options in ({"d": 11}, {"heads": ("cmf",)}, {"temperatures": (0.2,)}, {"epochs": 2, "data": "digits", "d": 10}):
        every: dict[str, Any] = {"seeds": 2, "heads": ("learned",)} | options
        assert "target" not in matching(found([MadeUp(s) for s in gnc.plan(**every)]), "mean GNC2")
    assert gnc.TARGETS == {"fraction": (0.80, True), "GNC1": (0.02, False), "GNC3": (0.01, False)}


def test_table_is_the_mean_and_interval_over_seeds_in_any_order() -> None:
    runs = [MadeUp(s) for s in gnc.plan(seeds=4)]
    shuffled = [runs[i] for i in np.random.default_rng(0).permutation(len(runs))]
    table = table_of(found(shuffled))
    for head, tau, label in [("learned", 0.1, "learned"), ("linear", 1.0, "linear (unnormalised)")]:
        row = table.loc[label]
        assert (row["runs"], row["d"], row["τ"]) == (4, D, tau)
        for name, column in {"GNC1": "GNC1", "GNC2": "GNC2", "ncm_accuracy": "NCM accuracy, %"}.items():
            scale = 100 if "%" in column else 1
            x = np.array([scale * run.final[name] for run in runs if run.settings.head == head])
            expected = stats.ttest_1samp(x, 0).confidence_interval()
            assert row[column] == pytest.approx(x.mean())
            assert (row[f"{column}, lower"], row[f"{column}, upper"]) == pytest.approx((expected.low, expected.high))
    every = found(shuffled).tables["Every run"]
    assert len(every) == 16
    for run in runs:
        (own,) = every[every["key"] == run.settings.key].to_dict("records")
        assert own["GNC2"] == own["fraction of best known"] == run.final["GNC2"]


@pytest.mark.parametrize("gain", [0.02, -0.02])
def test_accuracy_is_paired_with_the_learned_head(gain: float) -> None:
    runs = []
    for s in gnc.plan(seeds=3, heads=("learned", "cmf", "linear")):
        accuracy = 0.9 + 0.03 * s.seed + {"learned": 0, "cmf": gain + 0.001 * s.seed, "linear": 0.01}[s.head]
        runs.append(MadeUp(s, {"test_accuracy": accuracy, "ncm_accuracy": accuracy - 0.005}))
    del runs[0]  # learned, seed 0
    findings = found(runs)
    half = stats.t.ppf(0.975, 1) * 0.05  # of 100 (gain + 0.001) and 100 (gain + 0.002)
    sentence = matching(findings, "class means (CMF), τ = 0.1: test accuracy in %")
    assert f"this head less the learned one at τ = 0.1 is {100 * gain + 0.15:.2f} ± {half:.2f} (n = 2)." in sentence
    assert "In points, the nearest class mean less the classifier is -0.5" in sentence
    assert "this head less the learned one at τ = 0.1 is 1" in matching(
        findings, "linear (unnormalised), τ = 1: test accuracy in %"
    )
    assert "less the learned one" not in matching(findings, "learned, τ = 0.1: test accuracy in %")
    assert matching(findings, "Missing") == "Missing: learned, τ = 0.1, seed 0."


def test_a_run_that_diverged_is_named_and_left_out() -> None:
    good, bad = (MadeUp(s) for s in gnc.plan(seeds=2, heads=("learned",)))
    bad.status = "diverged"
    findings = found([good, bad])
    assert "Diverged and left out: learned, τ = 0.1, seed 1." in findings.statements
    assert len(findings.tables["Every run"]) == 1
    assert found([bad]).statements[0] == "No run is finished but those that diverged."


def test_nothing_finished() -> None:
    assert found([]).statements == ["No run is finished."]


@pytest.mark.parametrize("kept", [1, 2, 3, 5])
def test_a_part_of_the_runs_has_findings(kept: int) -> None:
    runs = [MadeUp(s) for s in gnc.plan(seeds=2, temperatures=(0.1, 0.05))][:kept]
    findings = found(runs)
    assert len(findings.tables["Every run"]) == kept
    (figure,) = findings.figures.values()
    assert len(figure.axes) == 4


def test_references_stand_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [MadeUp(s) for s in gnc.plan(seeds=2, heads=("learned",))]
    # the values of the paper's networks at equal K and d
    assert not any("ResNet18" in name for name in table_of(found(runs)).index)
    monkeypatch.setitem(paper.LEARNED, (K, 10), paper.LEARNED[100, 10])
    table = table_of(found(runs))
    row = table.loc["for reference: the paper's ResNet18, CIFAR100"]
    assert (row["runs"], row["d"], row["τ"]) == (1, 10, 0.1)
    known = sc.best_known(K, 10).margin
    assert row["GNC2"] == 0.5709 and row["fraction of best known"] == pytest.approx(0.5709 / known)
    assert row["test accuracy, %"] == 70.8 and pd.isna(row["certified margin"])
    assert table.loc["for reference: best code known", "GNC2"] == pytest.approx(1)
    free = table.loc["for reference: feature model"]
    assert (free["runs"], free["τ"]) == (2, 0.1)
    assert (free["GNC2"], free["GNC2, upper"] - free["GNC2"]) == pytest.approx((0.91, 0.127), abs=1e-3)
    assert set(paper.TINY_IMAGENET) == set(paper.CIFAR100)


def test_the_bound_is_drawn_where_it_is_above_zero() -> None:
    labels = []
    for temperature in (0.5, 0.05):
        runs = [MadeUp(s) for s in gnc.plan(seeds=1, heads=("learned",), temperatures=(temperature,))]
        (figure,) = found(runs).figures.values()
        labels.append(" ".join(text.get_text() for text in figure.legends[0].get_texts()))
    # T6 (c): rho - tau log((e - 1) K (K - 1)) is below what is drawn, where K (K - 1) exp(-rho / tau) <= 1
    assert "global minimiser" not in labels[0]
    drawn = float(labels[1].split("global minimiser, τ = 0.05: ")[1].split()[0])
    assert 1 - 0.05 * math.log((math.e - 1) * K * (K - 1)) <= drawn <= 1
    assert all("best known margin: 1.0000" in label for label in labels)


def test_feature_model_is_left_out_where_it_is_not_simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    free = common.ufm_margin(common.MAX_UFM_CLASSES + 1, 2, 0.1)
    assert free.n == 0
    monkeypatch.setattr(gnc, "ufm_margin", lambda K, d, tau: free)
    findings = found([MadeUp(s) for s in gnc.plan(seeds=2)])
    assert not any("feature model" in s for s in findings.statements)
    assert not any("feature model" in name for name in table_of(findings).index)


def test_feature_model_does_not_beat_a_proved_optimum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    free = common.ufm_margin(6, 3, 0.02)  # the octahedron's margin is 1
    assert free.n == common.UFM_SEEDS and 0.9 < free.mean <= 1 + 1e-9


def test_feature_models_that_are_not_at_rest_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    common.ufm_margin.cache_clear()
    monkeypatch.setattr(common, "UFM_STEPS", 3)
    assert common.ufm_margin(20, 4, 0.5).n == 0
    common.ufm_margin.cache_clear()
