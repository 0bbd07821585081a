"""Retrieval measurements against their definitions, and the study of held-out classes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from experiments.data import load
from experiments.retrieval import retrieval_measurements, tar_name
from experiments.settings import RunSettings
from experiments.studies import retrieval


def by_definition(H: np.ndarray, y: np.ndarray, far: tuple[float, ...]) -> dict[str, float]:
    """The measurements, query by query and pair by pair."""
    H = H / np.linalg.norm(H, axis=1, keepdims=True)
    recall, precision = [], []
    genuine: list[float] = []
    impostor: list[float] = []
    for q in range(len(H)):
        others = [i for i in range(len(H)) if i != q]
        similarity = {i: float(H[q] @ H[i]) for i in others}
        R = sum(y[i] == y[q] for i in others)
        for i in others:
            if i > q:
                (genuine if y[i] == y[q] else impostor).append(similarity[i])
        if not R:
            continue
        ranked = sorted(others, key=lambda i: -similarity[i])
        hits = [y[i] == y[q] for i in ranked[:R]]
        recall.append(float(y[ranked[0]] == y[q]))
        precision.append(sum(sum(hits[: i + 1]) / (i + 1) for i in range(R) if hits[i]) / R)
    out = {"Recall@1": np.mean(recall), "MAP@R": np.mean(precision)}
    same, other = np.array(genuine), np.array(impostor)
    for rate in far:
        # every threshold that separates some pairs, and the lowest of those within the rate
        out[f"TAR@FAR={rate:g}"] = np.mean(same > min(t for t in impostor if np.mean(other > t) <= rate))
    return {name: float(value) for name, value in out.items()}


@pytest.mark.parametrize("seed", range(3))
def test_figures_are_those_of_the_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 12, 150)
    y[0] = 99  # a class of one sample is no query, but is found by others
    H = rng.standard_normal((100, 6))[y] + 0.8 * rng.standard_normal((150, 6))
    far = (5e-4, 0.05, 0.3)
    found = retrieval_measurements(torch.tensor(H), torch.tensor(y), far)
    want = by_definition(H, y, far)
    assert math.isnan(found.pop("TAR@FAR=0.0005"))  # there are 11,175 pairs, so it is five of them at most
    del want["TAR@FAR=0.0005"]
    assert found == pytest.approx(want, abs=1e-6)
    assert 0.1 < found["MAP@R"] < found["Recall@1"] < 1


def test_norms_do_not_count_and_collapsed_classes_are_found() -> None:
    y = torch.arange(40) % 8
    H = torch.eye(8)[y] * torch.arange(1, 41)[:, None]
    assert retrieval_measurements(H, y, (0.1,)) == {"Recall@1": 1.0, "MAP@R": 1.0, tar_name(0.1): 1.0}


def test_features_that_say_nothing_accept_nobody() -> None:
    """Equal cosines cannot be distinguished: the threshold that refuses the impostors refuses everyone."""
    found = retrieval_measurements(torch.ones(40, 3), torch.arange(40) % 8, (0.1,))
    assert found[tar_name(0.1)] == 0


def test_tiles_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    H, y = torch.randn(101, 5, generator=generator), torch.arange(101) % 7
    whole = retrieval_measurements(H, y, (0.01, 0.1))
    monkeypatch.setattr("experiments.retrieval._ROWS", 10)
    assert retrieval_measurements(H, y, (0.01, 0.1)) == pytest.approx(whole, abs=1e-3)


@pytest.mark.parametrize(
    ("N", "labels", "far", "message"),
    [
        (4, torch.zeros(3, dtype=torch.int64), (), r"labels must be a tensor of 4 integers.*got \(3,\)"),
        (4, torch.zeros(4), (), r"labels must be a tensor of 4 integers"),
        (4, [0, 0, 1, 1], (), "labels must be a tensor of 4 integers.*got list"),
        (4, torch.zeros(4, dtype=torch.int64), (), "at least two classes, one of them with two samples; got 1 of at"),
        (4, torch.arange(4), (), "at least two classes, one of them with two samples; got 4 of at most 1"),
        (
            4,
            torch.tensor([0, 0, 1, 1]),
            (1.5,),
            "a rate of far must be a number between 0 and 1, neither .*; got 1.5",
        ),
        (10_001, torch.arange(10_001) % 2, (), "at most 10000 samples; got 10001"),
    ],
)
def test_what_cannot_be_measured_is_refused(N: int, labels: object, far: tuple[float, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        retrieval_measurements(torch.ones(N, 2), labels, far)  # type: ignore[arg-type]


TRAINED = sorted({*range(1000)} - {*range(5, 1000, 100)})
OPTIONS = {"classes": TRAINED, "train_per_class": 1, "test_per_class": 4}


class MadeUp:
    """A run whose features are scaled pixels, with given measurements."""

    status = "finished"

    def __init__(self, settings: RunSettings, recall: float | None = None) -> None:
        self.settings, self.recall, self.asked = settings, recall, [dict[str, Any]()]
        self.final = pd.Series({"GNC2": 1 - settings.temperature, "GNC1": 0.01, "test_accuracy": 0.9})

    def data(self, **changes: Any) -> Any:
        self.asked.append(changes)
        return load(self.settings.data, **(self.settings.data_options | changes))

    def model(self) -> Any:
        model: Any = torch.nn.Linear(1, 1)
        model.features = lambda images: 3 * images.flatten(1)
        return model

    def evaluation(self, name: str, kind: Any, measure: Any) -> dict[str, Any]:
        if self.recall is None:
            return measure(self)
        return dict.fromkeys(retrieval.MEASURES, 0.1 if name == "retrieval-pixels" else self.recall)


def made_up(gains: dict[str, float], **options: Any) -> list[Any]:
    return [MadeUp(s, 0.5 + 0.01 * s.seed + gains.get(s.head, 0.0)) for s in retrieval.plan(**options)]


def test_plan_trains_on_some_classes_and_holds_out_others() -> None:
    runs = retrieval.plan()
    assert len(runs) == len(set(runs)) == 3 * 8
    (classes,) = {tuple(s.data_options["classes"]) for s in runs}
    assert len(set(classes)) == 200
    others = retrieval.held_out(runs[0], 1000)
    assert len(set(others)) == 200 and not {*others} & {*classes} and max(others) < 1000
    assert [s.temperature for s in runs if s.head == "linear"] == [1.0] * 3
    assert retrieval.plan(data="image-folder", classes=20, train_classes=5)[0].data == "image-folder"
    assert retrieval.plan(data_options={"test_per_class": 3})[0].data_options["test_per_class"] == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.3}, "temperature is varied by this study: pass temperatures instead"),
        ({"data": "image-folder"}, "classes, how many image-folder has, must be given"),
        ({"train_classes": 999}, "train_classes is at most 998, two of 1000 being left out; got 999"),
        ({"train_classes": 1}, "train_classes must be an integer of at least 2; got 1"),
    ],
)
def test_plan_refuses(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        retrieval.plan(**options)


def test_search_is_among_held_out_classes_alone() -> None:
    run: Any = MadeUp(RunSettings.checked("digit-triples", data_options=OPTIONS))
    found = retrieval._searched(run, None)
    assert {"classes": list(range(5, 1000, 100))} in run.asked
    everything = load("digit-triples", train_per_class=1, test_per_class=4)
    images, labels = everything.test.batch(range(len(everything.test)))
    own = labels % 100 == 5
    want = by_definition(images[own].flatten(1).double().numpy(), labels[own].numpy(), (1e-2,))
    assert (found["queries"], found["classes"]) == (40, 10)
    assert found["Recall@1"] == pytest.approx(want["Recall@1"])
    assert found["MAP@R"] == pytest.approx(want["MAP@R"])
    # features that are three times the pixels have the same cosines
    assert retrieval._searched(run, run.model())["MAP@R"] == pytest.approx(found["MAP@R"])


@pytest.mark.parametrize(("gain", "best", "text"), [(0.05, "fixed code", "5"), (-0.05, "learned", "-5")])
def test_findings_compare_the_heads(gain: float, best: str, text: str) -> None:
    found = retrieval.findings(made_up({"code": gain, "cmf": -0.1, "linear": -0.1}, seeds=3, temperatures=(0.5,)))
    assert found.statements[0].startswith(f"{best}, τ = 0.1 has the highest mean MAP@R on held-out classes, ")
    assert found.statements[0].endswith("The pixels themselves have 10.0 %.")
    (difference,) = [s for s in found.statements if s.startswith("fixed code, τ = 0.1 less learned, τ = 0.1:")]
    verdict = "better" if gain > 0 else "worse"
    assert f"MAP@R differs by {text} ± 0 (n = 3) points, {verdict}." in difference
    table, differences, every = found.tables.values()
    assert differences.set_index("head").loc["fixed code, τ = 0.1", "Recall@1"] == pytest.approx(100 * gain)
    assert differences["pairs"].tolist() == [3, 3, 3, 3]
    assert table["head"].tolist()[:3] == ["learned", "class means (CMF)", "fixed code"]
    assert table["MAP@R"].tolist()[-1] == pytest.approx(10)
    assert every["MAP@R"].tolist()[:3] == pytest.approx([50, 40, 50 + 100 * gain])
    (figure,) = found.figures.values()
    pixels, learned = (line.get_xydata() for line in figure.axes[1].lines[:2])
    assert pixels == pytest.approx(np.array([[0, 10], [1, 10]]))  # across the panel
    assert learned == pytest.approx(np.array([[0.1, 51], [0.5, 51]]))


def test_interrupted_study_says_what_is_missing() -> None:
    runs = made_up({})
    assert retrieval.findings([]).statements == ["No run is finished."]
    for count in (1, 2, 9):
        assert retrieval.findings(runs[:count]).figures
    assert "Missing: fixed code, τ = 0.1, seed 1." in retrieval.findings(runs[:10]).statements
    runs[0].status = "diverged"
    found = retrieval.findings(runs).statements
    assert "Diverged and left out: learned, τ = 0.1, seed 0." in found
    assert not [s for s in found if s.startswith("Missing")]
