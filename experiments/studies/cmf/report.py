"""What the runs show: sentences, tables and a figure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pandas as pd

from experiments import paper
from experiments.drawing import HEAD_COLOURS, HEAD_LABELS, axes_figure, errorbar_panel, shared_legend
from experiments.rendering import statements
from experiments.statistics import Interval, mean_interval
from experiments.studies.cmf.analysis import (
    SHIFTS,
    accuracy_frame,
    classifier_label,
    compare_conditions,
    condition_label,
)
from experiments.studies.cmf.costs import BATCH, TIMED, cost_frame, timing_frame
from experiments.studies.common import incomplete, nothing_found
from experiments.tables import interval_columns
from softmaxcode.pages import Findings
from softmaxcode.plotting.style import COLOURS, INK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from experiments.runs import TrainedRun


TITLE = "Learned classifier against class-mean features (Table 1)"
QUESTION = "Is a classifier of class means, which has no parameters, as accurate as a learned one, also under stress?"


def findings(runs: Sequence[TrainedRun]) -> Findings:
    """Class means less learned head under every condition, and what either costs.

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
    accuracies = accuracy_frame(finished)
    compared = compare_conditions(accuracies)
    costs, timed = cost_frame(finished), timing_frame(finished)
    sentences = statements(
        "cmf",
        plain=[row for row in compared if not row["shift"]],
        shifted=shift_results(compared),
        step_ratios={int(row["K"]): row["learned / CMF"] for _, row in timed.iterrows()},
        batch=BATCH,
        d=TIMED[0][1],
        **incomplete(runs, _label, condition_label),
    )
    return Findings(
        sentences,
        {
            "Test accuracy in % (mean and 95 % interval), class means less learned head in points": _table(compared),
            "For reference: the paper's networks on CIFAR100 (K = 100, d = 10): test accuracy in %": _paper_table(),
            "Parameters and memory of a classifier, and of the whole model": costs,
            "Milliseconds per step of the classifier alone": timed,
            "Every run: test accuracy in %": accuracies.drop(columns=["group"]),
        },
        {"Test accuracy (mean and 95 % interval) under stress, and time per step": _figure(accuracies, timed)},
    )


def _label(run: TrainedRun) -> str:
    return f"{condition_label(run)}, {classifier_label(run.settings)}"


def shift_results(compared: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """How often each verdict is given under the shifts of a data set, and the least favourable one."""
    shifts: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in compared:
        if row["shift"]:
            shifts.setdefault((row["condition"].removesuffix(f" by {row['shift']}"), row["classifier"]), []).append(row)
    return [
        {"condition": condition, "classifier": classifier, "shifts": len(rows)}
        | {"verdicts": Counter(row["verdict"] for row in rows)}
        | {"worst": min(rows, key=lambda row: row["difference"].lower)}
        for (condition, classifier), rows in shifts.items()
    ]


def _table(compared: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "condition": row["condition"],
                "classifier": row["classifier"],
                **interval_columns("accuracy", row["cmf"]),
                **interval_columns("learned", row["learned"]),
                **interval_columns("difference", row["difference"]),
                "pairs": row["difference"].n,
                "which is": row["verdict"],
            }
            for row in compared
        ]
    )


def _paper_table() -> pd.DataFrame:
    """The paper's Table 1."""
    rows = []
    for network, cmf in paper.CIFAR100_CMF.items():
        learned = paper.CIFAR100[network]["test_accuracy"]
        for momentum, accuracy in cmf.items():
            rows.append(
                {
                    "network": network,
                    "classifier": f"{HEAD_LABELS['cmf']}, momentum {momentum:g}",
                    "accuracy": accuracy,
                    "learned": learned,
                    "difference": accuracy - learned,
                }
            )
    return pd.DataFrame(rows)


def _figure(accuracies: pd.DataFrame, timed: pd.DataFrame) -> Figure:
    """Accuracy against wrong labels, images of few-shot classes and severities of shifts; the time of a step."""
    plain = accuracies[accuracies["group"].isin(["all", "few-shot classes", "other classes"])]
    shifted = accuracies.drop(plain.index)
    titles = ["wrong labels", "few images of every second class", *SHIFTS, "time of a step, learned / CMF"]
    figure, axes = axes_figure(titles)
    noise_panel, shots_panel, *shift_panels, time_panel = axes
    # the conditions under stress are those of one data set; others are in the table
    main = accuracies.groupby("data")["condition"].nunique().idxmax()
    for name, of_classifier in accuracies[accuracies["data"] == main].groupby("classifier", sort=False):
        head, momentum = of_classifier[["head", "momentum"]].iloc[0]
        style = {"color": HEAD_COLOURS[head]}
        if head == "cmf" and momentum < 0.5:
            style = {"color": COLOURS[3], "ls": "--", "marker": "s"}
        own = plain.loc[plain.index.intersection(of_classifier.index)]
        everything = own[own["group"] == "all"]
        errorbar_panel(noise_panel, _intervals(everything, "label_noise"), str(name), **style)
        for group, marker in (("few-shot classes", "o"), ("other classes", "^")):
            points = _intervals(own[own["group"] == group], "shots")
            if points:
                label = f"{name}: {group}"
                errorbar_panel(shots_panel, points, label, **style | {"marker": marker, "mfc": "none"})
        turned = shifted.loc[shifted.index.intersection(of_classifier.index)]
        kinds = turned["group"].str.partition(":")
        for panel, kind in zip(shift_panels, SHIFTS, strict=True):
            rows = turned[kinds[0] == kind].assign(severity=kinds[2].astype(float))
            unshifted = everything[everything["label_noise"] == 0].assign(severity=0.0)
            errorbar_panel(panel, _intervals(pd.concat([unshifted, rows]), "severity"), str(name), **style)
    below = ["fraction of wrong labels", "images per class", *["severity"] * 3, "K"]
    for panel, label in zip(axes, below, strict=True):
        panel.set_xlabel(label, fontsize=9)
    for panel in axes[:-1]:
        panel.set_ylabel("test accuracy, %", fontsize=9)
        panel.set_ylim(0, min(100, panel.get_ylim()[1]))
    if len(timed):
        time_panel.semilogx(timed["K"], timed["learned / CMF"], "s-", color=INK, ms=4, label="learned / CMF")
        time_panel.axhline(1, color=INK, lw=0.8, ls=":")
        time_panel.set_ylim(bottom=0)
    shared_legend(figure, columns=3)
    return figure


def _intervals(rows: pd.DataFrame, by: str) -> dict[float, Interval]:
    """Accuracy by the value of a column."""
    return {at: mean_interval(rows.loc[rows[by] == at, "accuracy"]) for at in rows[by].unique().tolist()}
