"""Test accuracy of every run and condition, and class means less learned head."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

import pandas as pd
import torch

from experiments.drawing import HEAD_LABELS
from experiments.rendering import side
from experiments.settings import RunSettings
from experiments.shifted import correct, shifted_accuracy
from experiments.statistics import Interval, mean_interval, non_inferior
from experiments.studies.common import paired_groups

if TYPE_CHECKING:
    from collections.abc import Sequence

    from experiments.runs import TrainedRun


#: Shifts of the test images, each at several severities; of digits eight high little is left after two pixels.
SHIFTS = {"gaussian-noise": (0.1, 0.2, 0.4), "translation": (1, 2), "contrast": (0.25, 0.5, 0.75)}
SHIFTED = ", shifted by "
#: Points of test accuracy whose loss would be accepted.
MARGIN = 1.0


def condition_label(run: TrainedRun) -> str:
    """The condition that a run was trained under."""
    label = f"{run.settings.data}, K = {len(run.W)}"
    if shots := shots_of(run):
        return f"{label}, {shots} images of every second class"
    noise = run.settings.data_options.get("label_noise", 0.0)
    return f"{label}, {100 * noise:g} % wrong labels" if noise else label


def shots_of(run: TrainedRun) -> int:
    """Training images that every second class keeps; 0 for all."""
    return next(iter((run.settings.data_options.get("few_shot") or {}).values()), 0)


def classifier_label(settings: RunSettings) -> str:
    """The head as tables name it, with the momentum of its class means."""
    momentum = "" if settings.cmf_momentum is None else f", momentum {settings.cmf_momentum:g}"
    return HEAD_LABELS[settings.head] + momentum


def accuracy_frame(runs: Sequence[TrainedRun]) -> pd.DataFrame:
    """One row per run and a set of test images: all, those of few-shot and other classes, or all of them shifted."""
    rows = []
    for run in runs:
        own, trained = run.settings, condition_label(run)
        shots, noise = shots_of(run), own.data_options.get("label_noise", 0.0)
        common = {
            "data": own.data,
            "label_noise": noise,
            "shots": shots,
            "classifier": classifier_label(own),
            "head": own.head,
            "momentum": own.cmf_momentum,
            "seed": own.seed,
            "key": own.key,
        }
        if shots:
            parts = {
                f"{trained}: {name}": (name, accuracy)
                for name, accuracy in dict[str, Any](run.evaluation("few-shot", FewShot, few_shot_accuracy)).items()
            }
        else:
            parts = {trained: ("all", float(run.final["test_accuracy"]))}
            if not noise:
                shifts = [f"{kind}:{severity:g}" for kind, severities in SHIFTS.items() for severity in severities]
                shifted = shifted_accuracy(run, shifts)
                parts |= {f"{trained}{SHIFTED}{shift}": (shift, accuracy) for shift, accuracy in shifted.items()}
        rows += [
            {"condition": condition, "group": group, **common, "accuracy": 100 * accuracy}
            for condition, (group, accuracy) in parts.items()
        ]
    return pd.DataFrame(rows)


FewShot = TypedDict("FewShot", {"few-shot classes": float, "other classes": float})


def few_shot_accuracy(run: TrainedRun) -> FewShot:
    """Test accuracy of the classes that kept few training images, and of the others."""
    right, labels = correct(run.model(), run.data().test)
    few = torch.isin(labels, torch.tensor([int(k) for k in run.settings.data_options["few_shot"]]))
    return {
        "few-shot classes": float(right[few].double().mean()),
        "other classes": float(right[~few].double().mean()),
    }


def compare_conditions(accuracies: pd.DataFrame) -> list[dict[str, Any]]:
    """Class means and the learned head, under every condition that has both; ``shift`` is empty where there is none."""
    out = []
    for condition, group in accuracies.groupby("condition", sort=False):
        learned = group[group["head"] == "learned"]
        for name, cmf in group[group["head"] == "cmf"].groupby("classifier", sort=False):
            if len(learned):
                difference = paired_groups(cmf, learned, "accuracy")
                out.append(
                    {
                        "condition": condition,
                        "classifier": name,
                        "shift": str(condition).partition(SHIFTED)[2],
                        "learned": mean_interval(learned["accuracy"]),
                        "cmf": mean_interval(cmf["accuracy"]),
                        "difference": difference,
                        "verdict": verdict_label(difference),
                    }
                )
    return out


def verdict_label(difference: Interval) -> str:
    """What the interval of a difference in points shows."""
    shown = non_inferior(difference, MARGIN)
    if shown is None:
        return f"undecided at a margin of {MARGIN:g} point{side(difference, '', ', though worse', '')}"
    if not shown:
        return f"worse by more than {MARGIN:g} point"
    return f"non-inferior by {MARGIN:g} point{side(difference, ', and better', ', though worse', '')}"
