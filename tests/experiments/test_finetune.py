"""The study of fine-tuning, on made-up runs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_rel
from torch import nn

from experiments.settings import RunSettings
from experiments.studies import finetune


class MadeUp:
    """A run with a given accuracy, and half of it on shifted images."""

    status = "finished"

    def __init__(self, settings: RunSettings, accuracy: float) -> None:
        self.settings, self.accuracy = settings, accuracy
        self.final = pd.Series({"test_accuracy": accuracy})

    def model(self) -> Any:
        network = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)).requires_grad_(not self.settings.frozen)
        network[-1].requires_grad_(True)
        head = nn.Linear(2, 50, bias=False) if self.settings.head == "learned" else nn.Identity()
        return SimpleNamespace(network=network, head=head)

    def evaluation(self, name: str, kind: Any, measure: Any) -> dict[str, Any]:
        return {"test_accuracy": self.accuracy / 2}


def made_up(gain: float, spread: float = 0.002, **options: Any) -> list[Any]:
    """All runs of a plan: pre-training is worth 0.1, class means the gain up to the spread."""
    rng = np.random.default_rng(2)
    return [
        MadeUp(
            s,
            0.7
            + 0.01 * s.seed
            + 0.1 * (s.initial is not None)
            + (gain + spread * rng.uniform(-1, 1)) * (s.head == "cmf"),
        )
        for s in finetune.plan(**options)
    ]


def test_plan_pre_trains_one_half_and_fine_tunes_the_other() -> None:
    runs = finetune.plan(seeds=2, train_per_class=4, epochs=3)
    assert len(runs) == len(set(runs)) == 2 * 7
    keys = [s.key for s in runs]
    for seed, base in enumerate((runs[0], runs[7])):
        assert (
            base.data_options["classes"] == list(range(50))
            and base.initial is None
            and "few_shot" not in base.data_options
        )
        tuned = [s for s in runs if s.seed == seed and s is not base]
        assert {(s.head, s.initial, s.frozen) for s in tuned} == {
            (head, *start)
            for head in ("learned", "cmf")
            for start in ((base.key, False), (base.key, True), (None, False))
        }
        for s in tuned:
            assert s.data_options["classes"] == list(range(50, 100)) and s.epochs == 3
            assert s.data_options["few_shot"] == {str(k): 4 for k in range(50)}
            assert s.initial is None or keys.index(s.initial) < keys.index(s.key)
    assert not any("few_shot" in s.data_options for s in finetune.plan(train_per_class=0))
    assert finetune.plan(data="cifar10")[1].data_options["classes"] == [5, 6, 7, 8, 9]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data_options": {"classes": [1, 2]}}, r"classes are chosen by this study, a half each; got \[1, 2\]"),
        ({"initial": "x"}, "this study sets initial run by run: leave it out; got 'x'"),
        ({"frozen": True}, "this study sets frozen run by run"),
        ({"train_per_class": -1}, "train_per_class must be an integer of at least 0; got -1"),
        ({"data": "image-folder"}, "the number of classes of image-folder must be given"),
    ],
)
def test_plan_refuses(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        finetune.plan(**options)


@pytest.mark.parametrize(
    ("gain", "spread", "verdict"),
    [(0.02, 0.002, "better"), (-0.02, 0.002, "worse"), (0.0, 0.1, "neither shown to be better nor worse")],
)
def test_heads_are_compared_in_pairs(gain: float, spread: float, verdict: str) -> None:
    runs = made_up(gain, spread)
    sentences = finetune.findings(runs).statements[:3]
    for mode, sentence in zip(finetune.MODES, sentences, strict=True):
        assert sentence.startswith(f"Trained {mode}, class means (CMF) less the learned head, in points of accuracy: ")
        own = [r for r in runs if finetune._mode(r.settings) == mode]
        values = {head: [100 * r.accuracy for r in own if r.settings.head == head] for head in ("cmf", "learned")}
        low, high = ttest_rel(values["cmf"], values["learned"]).confidence_interval()
        listed = sentence.split("in distribution ")[1].split(" (n = 5), ")[0]
        mean, half = map(float, listed.split(" ± "))
        assert mean == pytest.approx((low + high) / 2, abs=0.06 * half)
        assert half == pytest.approx((high - low) / 2, rel=0.06)
        expected = "better" if low > 0 else "worse" if high < 0 else "neither shown to be better nor worse"
        assert sentence.count(f"(n = 5), {expected}") == 2
        assert expected == verdict


def test_what_pre_training_is_worth_and_what_is_trained() -> None:
    found = finetune.findings(made_up(0.0))
    gains = [s for s in found.statements if s.startswith("Pre-training is worth")]
    assert len(gains) == 4
    assert "Pre-training is worth to learned, all layers trained, 10" in gains[0]
    table, every = found.tables.values()
    counts = {
        (row["trained"], row["head"]): (row["parameters in the head"], row["parameters in all"])
        for _, row in table.iterrows()
    }
    assert counts["all layers", "learned"] == (100, 123)
    assert counts["last layer", "class means (CMF)"] == (0, 8)
    assert len(table) == 6 and len(every) == 30
    assert every["shifted"].to_numpy() == pytest.approx(every["test"].to_numpy() / 2)
    (figure,) = found.figures.values()
    assert figure.axes[2].lines[0].get_ydata() == pytest.approx([72, 36, 36, 36])  # 70 to 74 over five seeds


def test_interrupted_study_says_what_is_missing() -> None:
    runs = made_up(0.0)
    assert finetune.findings([]).statements == ["No run of fine-tuning is finished."]
    assert finetune.findings(runs[:1]).statements == ["No run of fine-tuning is finished."]  # it is pre-trained alone
    for count in (2, 3, 5, 12):
        assert finetune.findings(runs[:count]).figures
    assert "Missing: all layers, class means (CMF), seed 4." in finetune.findings(runs[:-3]).statements
    runs[0].status = runs[1].status = "diverged"
    found = finetune.findings(runs).statements
    assert "Diverged and left out: all layers, learned, seed 0." in found
    assert "Diverged and left out: pre-training, learned, seed 0." in found
    assert not [s for s in found if s.startswith("Missing")]
