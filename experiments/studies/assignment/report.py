"""What the runs show: sentences, tables and a figure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from experiments import paper
from experiments.drawing import HEAD_COLOURS, HEAD_LABELS, axes_figure, errorbar_panel, shared_legend
from experiments.rendering import statements
from experiments.statistics import mean_interval
from experiments.studies.assignment.analysis import (
    Arranged,
    Graded,
    data_label,
    group_key,
    measurement_frame,
)
from experiments.studies.common import incomplete, nothing_found
from experiments.tables import counted_columns
from softmaxcode.pages import Findings
from softmaxcode.plotting.style import COLOURS, INK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from experiments.runs import TrainedRun


TITLE = "Class assignment (Figure 4, open question 3)"

QUESTION = (
    "Is a network more accurate where similar classes have near vectors of a fixed code, and is that generalisation?"
)


def _label(run: TrainedRun) -> str:
    """The data and the assignment of a run as text."""
    settings = run.settings
    assignment = "" if settings.assignment is None else f", assignment {settings.assignment}"
    return f"{data_label(settings, len(run.W))}, {HEAD_LABELS[settings.head]}{assignment}"


def findings(runs: Sequence[TrainedRun]) -> Findings:
    """Accuracy against the objective tr(S P G P^T), by data set.

    Parameters
    ----------
    runs : sequence of TrainedRun
        Finished runs of the plan, or some of them.

    Returns
    -------
    Findings
    """
    finished = [run for run in runs if run.status == "finished"]
    if not finished:
        return nothing_found(runs, _label)
    frame = measurement_frame(finished)
    graded_groups, arranged, learned = [], [], []
    for _, group in frame.groupby("group", sort=False):
        fixed = group[group["head"] == "code"]
        if (fixed["level"].notna()).any():
            graded_groups.append(Graded(group))
        elif len(fixed):
            arranged.append(Arranged(group))
        if (group["head"] == "learned").any():
            learned.append(group[group["head"] == "learned"])
    sentences = statements(
        "assignment",
        verdicts=verdicts(graded_groups),
        graded=graded_groups,
        arranged=arranged,
        learned=[learned_result(group) for group in learned],
        paper=paper.CIFAR10_ARRANGEMENTS,
        **incomplete(runs, _label, lambda run: group_key(run.settings)),
    )
    tables = {}
    if graded_groups:
        tables["Accuracy by assignment, in percent; fraction 0 is a random assignment, 1 the best"] = pd.concat(
            [one.table() for one in graded_groups], ignore_index=True
        )
        caption = "Slope of accuracy, in points from fraction 0 to fraction 1, and from the worst to the best"
        tables[caption] = pd.DataFrame([one.row() for one in graded_groups])
    if arranged:
        tables["Four classes on the circle: accuracy in percent by arrangement"] = pd.concat(
            [one.table() for one in arranged], ignore_index=True
        )
    if learned:
        tables["Learned class vectors and the similarity of inputs"] = pd.DataFrame(
            [_learned_row(group) for group in learned]
        )
    figures = {"Accuracy against the objective of the assignment": _drawn(graded_groups)} if graded_groups else {}
    return Findings(sentences, tables, figures)


def verdicts(groups: list[Graded]) -> dict[str, dict[int, list[str]]] | None:
    """By the sign of the slopes of test accuracy and of its gap to training: the data, but for the controls."""
    real = [one for one in groups if not one.control]
    if not real:
        return None
    return {
        name: {sign: [one.data for one in real if getattr(one, slope).sign == sign] for sign in (1, -1, 0)}
        for name, slope in (("accuracy", "slope"), ("gap", "gap_slope"))
    }


def learned_result(group: pd.DataFrame) -> dict[str, Any]:
    """Whether a learned classifier places similar classes near."""
    return {
        "data": group["data"].iloc[0],
        "accuracy": mean_interval(group["accuracy"]),
        "fraction": group["fraction"].mean(),
        "correlation": mean_interval(group["correlation"].astype(float)),
        "p_value": group["p_value"].astype(float).max(),
    }


def _learned_row(group: pd.DataFrame) -> dict[str, Any]:
    found = learned_result(group)
    return {
        "data": found["data"],
        **counted_columns("accuracy", found["accuracy"]),
        "fraction": found["fraction"],
        **counted_columns("rank correlation", found["correlation"]),
        "largest p": found["p_value"],
    }


def _drawn(groups: list[Graded]) -> Figure:
    """One panel a data set: runs, means with intervals, the line of the slope, and the learned head."""
    figure, panels = axes_figure([one.data for one in groups])
    for axes, one in zip(panels, groups, strict=True):
        fixed = one.fixed
        axes.plot(fixed["fraction"] + 0.02, fixed["accuracy"], ".", color=INK, alpha=0.35, ms=4, label="a run")
        points = {float(part["fraction"].mean()): mean_interval(part["accuracy"]) for _, part in fixed.groupby("level")}
        errorbar_panel(axes, points, "mean and its 95 % interval", color=HEAD_COLOURS["code"], ls="none")
        if math.isfinite(one.slope.slope):
            ends = np.array([fixed["fraction"].min(), fixed["fraction"].max()])
            means = fixed.groupby("level")[["fraction", "accuracy"]].mean().mean()
            line = means["accuracy"] + one.slope.slope * (ends - means["fraction"])
            axes.plot(ends, line, color=COLOURS[3], lw=1.2, label="least squares")
        if len(one.learned):
            axes.axhline(
                one.learned["accuracy"].mean(), color=HEAD_COLOURS["learned"], ls="--", lw=1.2, label="learned"
            )
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, 0), min(high, 100))
        axes.set_xlabel("objective: 0 random, 1 best", fontsize=9)
        axes.set_ylabel(f"{one.what} accuracy, %", fontsize=9)
    shared_legend(figure)
    return figure
