"""The study of class means against a learned head, on made-up runs and on a small real classifier."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import ttest_rel
from torch import nn

from experiments.data import load
from experiments.model import Classifier, LinearHead
from experiments.settings import RunSettings
from experiments.shifted import correct, shifted_accuracy
from experiments.studies import cmf
from experiments.studies.cmf import costs
from experiments.studies.cmf.analysis import few_shot_accuracy
from experiments.studies.common import class_count

STEPS = {"steps": [{"K": K, "d": 64, "learned": 0.002 * K, "cmf": 0.001 * K} for K in (100, 1000)]}


@dataclass
class MadeUp:
    """A run with given accuracies."""

    settings: RunSettings
    accuracy: float
    status: str = "finished"
    kept: dict[str, dict[str, Any]] = field(default_factory=lambda: {"step-seconds": STEPS})

    @property
    def final(self) -> pd.Series:
        return pd.Series({"test_accuracy": self.accuracy})

    @property
    def W(self) -> np.ndarray:
        return np.zeros((1000 if self.settings.data == "digit-triples" else 100, self.settings.d))

    def model(self) -> Any:
        return SimpleNamespace(network=nn.Linear(4, self.settings.d), head=None)

    def evaluation(self, name: str, kind: Any, measure: Any) -> dict[str, Any]:
        if name.startswith("shifted-"):
            return {"test_accuracy": self.accuracy - 0.4}
        if name == "few-shot":
            return {"few-shot classes": self.accuracy - 0.4, "other classes": self.accuracy}
        return self.kept[name]


def made_up(gain: float, spread: float = 0.002, **options: Any) -> list[Any]:
    """All runs of a plan; class means are better by the gain, up to the spread."""
    rng = np.random.default_rng(1)
    runs = cmf.plan(**({"seeds": 5, "stress_seeds": 3} | options))
    return [MadeUp(s, 0.8 + 0.01 * s.seed + (gain + spread * rng.uniform(-1, 1)) * (s.head == "cmf")) for s in runs]


def row(table: pd.DataFrame, condition: str, classifier: str = "class means (CMF), momentum 0.9") -> pd.Series:
    (found,) = [one for _, one in table.iterrows() if (one["condition"], one["classifier"]) == (condition, classifier)]
    return found


def test_plan_pairs_the_heads_under_every_condition() -> None:
    runs = cmf.plan(seeds=4, stress_seeds=2, few_shot=(0, 3), label_noise=(0.0, 0.3), weight_decay=1e-3)
    conditions: dict[str, dict[str, set[int]]] = {}
    for s in runs:
        assert s.weight_decay == 1e-3
        own = conditions.setdefault(f"{s.data} {s.data_options}", {})
        own.setdefault(f"{s.head} {s.cmf_momentum}", set()).add(s.seed)
    plain, few, noisy, many = conditions.values()
    assert plain == {"learned None": {0, 1, 2, 3}, "cmf 0.9": {0, 1, 2, 3}, "cmf 0.1": {0, 1, 2, 3}}
    assert few == noisy == many == {"learned None": {0, 1}, "cmf 0.9": {0, 1}}
    assert len(set(runs)) == len(runs) == 24
    for s in runs:
        assert s.data_options.get("few_shot", {}) in ({}, {str(k): 3 for k in range(0, 100, 2)})
    assert RunSettings.checked(seed=3) == next(s for s in cmf.plan(seeds=4) if s.seed == 3)  # shared by the studies
    assert {s.epochs for s in cmf.plan(epochs=7)} == {7}
    assert {s.data for s in cmf.plan(many_classes="none")} == {"digit-pairs"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": "cmf"}, "compares the heads 'learned' and 'cmf': leave head out; got 'cmf'"),
        ({"cmf_momentum": 0.5}, "cmf_momentum is varied by this study: pass momenta instead; got 0.5"),
        ({"data": "image-folder"}, "number of classes of image-folder must be given: data_options with classes"),
        ({"seeds": 0}, "seeds must be an integer of at least 1; got 0"),
    ],
)
def test_plan_refuses(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cmf.plan(**options)


def test_classes_that_are_chosen_are_counted() -> None:
    assert class_count(RunSettings.checked("image-folder", data_options={"classes": [0, 3, 4]})) == 3


def test_difference_is_that_of_pairs() -> None:
    runs = made_up(0.004)
    one = row(next(iter(cmf.findings(runs).tables.values())), A)
    values = {head: [100 * r.accuracy for r in runs[:15] if r.settings.head == head] for head in ("learned", "cmf")}
    test = ttest_rel(values["cmf"][::2], values["learned"])  # momenta 0.9 and 0.1 take turns
    low, high = test.confidence_interval()
    found = (one["difference"], one["difference, lower"], one["difference, upper"])
    assert found == pytest.approx(((low + high) / 2, low, high))
    assert one["pairs"] == 5


A = "digit-pairs, K = 100"


@pytest.mark.parametrize(
    ("gain", "spread", "verdict"),
    [
        (0.004, 0.0005, "non-inferior by 1 point, and better"),
        (-0.004, 0.0005, "non-inferior by 1 point, though worse"),
        (0.0, 0.0005, "non-inferior by 1 point"),
        (-0.03, 0.0005, "worse by more than 1 point"),
        (0.0, 0.3, "undecided at a margin of 1 point"),
    ],
)
def test_every_verdict_can_be_given(gain: float, spread: float, verdict: str) -> None:
    found = cmf.findings(made_up(gain, spread))
    table = next(iter(found.tables.values()))
    conditions = [
        A,
        f"{A}, 60 % wrong labels",
        f"{A}, 2 images of every second class: few-shot classes",
        "digit-triples, K = 1000",
        f"{A}, shifted by contrast:0.25",
    ]
    assert {row(table, condition)["which is"] for condition in conditions} == {verdict}
    assert sum(f": {verdict}." in sentence for sentence in found.statements) >= 5
    assert sum(f"class means (CMF), momentum 0.9 is {verdict} under 8 of 8 shifts" in s for s in found.statements) == 2


def test_interrupted_study_says_what_is_missing() -> None:
    runs = made_up(0.0)
    assert cmf.findings([]).statements == ["No run is finished."]
    for count in (1, 2, 3, 17):
        assert cmf.findings(runs[:count]).figures
    assert not [s for s in cmf.findings(runs).statements if s.startswith("Missing")]
    without = [r for r in runs if not (r.settings.head == "cmf" and r.settings.seed == 2)]
    missing = [s for s in cmf.findings(without).statements if s.startswith("Missing")]
    assert f"Missing: {A}, 60 % wrong labels, class means (CMF), momentum 0.9, seed 2." in missing
    assert len(missing) == 9  # a sentence for what was trained, not for each shift
    runs[3].status = "diverged"
    found = cmf.findings(runs).statements
    assert f"Diverged and left out: {A}, learned, seed 1." in found
    assert not [s for s in found if s.startswith("Missing")]
    only = cmf.findings([r for r in runs if r.settings.head == "learned"])
    assert not any("difference" in sentence for sentence in only.statements)


def test_figure_has_the_means() -> None:
    runs = made_up(0.0)
    (figure,) = cmf.findings(runs).figures.values()
    noise, shots, gaussian, *_, timing = (panel.lines[0].get_xydata() for panel in figure.axes)
    assert noise == pytest.approx(np.array([[0, 82], [0.2, 81], [0.4, 81], [0.6, 81]]))  # five seeds, and three
    assert shots == pytest.approx(np.array([[2, 41], [5, 41], [10, 41]]))
    assert gaussian == pytest.approx(np.array([[0, 82], [0.1, 42], [0.2, 42], [0.4, 42]]))
    assert timing == pytest.approx(np.array([[100, 2], [1000, 2]]))


def test_the_papers_table_stands_beside() -> None:
    (table,) = [one for caption, one in cmf.findings(made_up(0.0)).tables.items() if "the paper's" in caption]
    assert len(table) == 6
    row = table[(table["network"] == "ResNet18") & table["classifier"].str.endswith("momentum 0.9")].iloc[0]
    assert (row["accuracy"], row["learned"], row["difference"]) == (72.2, 70.8, pytest.approx(1.4))


def test_costs_are_counted() -> None:
    found = cmf.findings(made_up(0.0))
    costs = found.tables["Parameters and memory of a classifier, and of the whole model"]
    (learned,) = costs[(costs["classifier"] == "learned") & (costs["K"] == 100)].to_dict("records")
    (means,) = costs[(costs["classifier"] == "class means (CMF)") & (costs["K"] == 100)].to_dict("records")
    assert (learned["parameters"], means["parameters"]) == (1000, 0)
    assert (learned["parameters with network"], means["parameters with network"]) == (1050, 50)
    assert learned["bytes of gradient"] == learned["bytes of optimizer state"] == 4000
    assert means["bytes of gradient"] == means["bytes of optimizer state"] == 0
    assert any("2.00 at K = 100, 2.00 at K = 1,000." in sentence for sentence in found.statements)


def test_timing_takes_steps_of_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "TIMED", ((20, 3),))
    runs = made_up(0.0)
    for run in runs:
        run.evaluation = lambda name, kind, measure: measure(None) if name == "step-seconds" else {"test_accuracy": 1.0}
    timed = cmf.findings(runs[:3]).tables["Milliseconds per step of the classifier alone"]
    assert timed["K"].tolist() == [20]
    assert (timed[["learned", "class means (CMF)"]] > 0).all(axis=None)


def test_a_timed_step_moves_the_classifier() -> None:
    for head in ("learned", "cmf"):
        module, _, step = costs.training_step(head, 20, 3)
        before = torch.as_tensor(module.weight).detach().clone()
        step()
        step()
        assert not torch.equal(before, torch.as_tensor(module.weight).detach())


class Real(MadeUp):
    """A classifier of pixels, with the data of its settings."""

    def data(self, **changes: Any) -> Any:
        return load(self.settings.data, **(self.settings.data_options | changes))

    def model(self) -> Classifier:
        torch.manual_seed(5)
        return Classifier(nn.Sequential(nn.Flatten(), nn.Linear(128, 7)), LinearHead(100, 7, 1.0)).eval()

    def evaluation(self, name: str, kind: Any, measure: Any) -> dict[str, Any]:
        if name not in self.kept:
            self.kept[name] = measure(self)
        return self.kept[name]


def by_definition(run: Any, **changes: Any) -> np.ndarray:
    """Whether each test image is classified correctly: its class and a bool."""
    samples = run.data(**changes).test
    network, head = run.model().network, run.model().head
    rows = [(label, int((network(image[None]) @ head.weight.T).argmax()) == label) for image, label in samples]
    return np.array(rows)


def real() -> Any:
    options = {"train_per_class": 5, "test_per_class": 10, "few_shot": dict.fromkeys(range(0, 100, 2), 2)}
    return Real(RunSettings.checked(data_options=options), 0.0)


def test_few_shot_classes_apart_from_the_others() -> None:
    run = real()
    labels, right = by_definition(run).T
    found = few_shot_accuracy(run)
    assert found == pytest.approx(
        {"few-shot classes": right[labels % 2 == 0].mean(), "other classes": right[labels % 2 == 1].mean()}
    )
    assert found["few-shot classes"] != found["other classes"]
    ours, own = correct(run.model(), run.data().test)
    assert (ours.tolist(), own.tolist()) == (right.astype(bool).tolist(), labels.tolist())


def test_shifted_accuracy_is_that_of_shifted_images_and_is_kept() -> None:
    run = real()
    shifts = ("contrast:0.9", "gaussian-noise:0.4")
    found = shifted_accuracy(run, shifts)
    assert found == pytest.approx({shift: by_definition(run, shift=shift)[:, 1].mean() for shift in shifts})
    run.kept["shifted-contrast-0.9"] = {"test_accuracy": 0.25}
    assert shifted_accuracy(run, ("contrast:0.9", "contrast:0.8"))["contrast:0.9"] == 0.25  # and others are not it
    with pytest.raises(ValueError, match="shift must be one of"):
        shifted_accuracy(run, ("fog:1",))
