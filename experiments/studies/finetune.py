"""Pre-train on one half of the classes, fine-tune on the other: learned head against class means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from experiments.drawing import HEAD_COLOURS, HEAD_LABELS, axes_figure, errorbar_panel, shared_legend
from experiments.rendering import statements
from experiments.settings import Head, RunSettings
from experiments.shifted import shifted_accuracy
from experiments.statistics import mean_interval
from experiments.studies.common import (
    check_not_fixed,
    class_count,
    incomplete,
    mean_columns,
    nothing_found,
    paired_groups,
)
from softmaxcode.checks.arguments import check_integer
from softmaxcode.pages import Findings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from experiments.runs import TrainedRun

TITLE = "Fine-tuning with a learned head or class means"
QUESTION = (
    "Is a network fine-tuned on new classes as accurate with class means as with a learned head, also under shift?"
)

#: How a run starts and what of it is trained.
MODES = ("all layers", "last layer", "from scratch")
#: Shifts of the test images: two pixels, of digits eight high, would leave nothing that distinguishes classes.
SHIFTS = ("gaussian-noise:0.2", "translation:1", "contrast:0.5")
#: What is measured, with its label.
MEASURES = {"test": "in distribution", "shifted": "mean over shifts", **{shift: shift for shift in SHIFTS}}

#: The runs by mode and head.
Groups = dict[tuple[str, str], pd.DataFrame]


def plan(
    *, seeds: int = 5, heads: tuple[Head, ...] = ("learned", "cmf"), train_per_class: int = 10, **settings: Any
) -> list[RunSettings]:
    """A pre-trained network for each seed, then each head on the other classes: from it, on top of it, from scratch.

    Parameters
    ----------
    seeds : int
        Runs of each head and way of training, at least 1.
    heads : tuple of str
        What to compare: learned, cmf (class means), code (the best code known, fixed), linear (the unnormalised
        baseline). Pre-training has the first of them.
    train_per_class : int
        Training images of each class to fine-tune on; 0 for all there are.
    **settings
        Of all runs, as `RunSettings.checked` takes them. ``data_options`` has no ``classes``: the first half of them is
        pre-trained on, the other fine-tuned on.

    Returns
    -------
    list of RunSettings
        Pre-training comes first.

    Raises
    ------
    ValueError
        If ``settings`` fixes what is varied here, the data set does not define its number of classes, or something is
        out of range.

    Examples
    --------
    >>> [(run.head, run.initial is not None, run.frozen) for run in plan(seeds=1)[:4]]
    [('learned', False, False), ('learned', True, False), ('learned', True, True), ('learned', False, False)]
    """
    check_not_fixed(settings, head="heads", seed="seeds")
    for name in ("initial", "frozen"):
        if name in settings:
            raise ValueError(f"this study sets {name} run by run: leave it out; got {settings[name]!r}")
    options = settings.pop("data_options", None) or {}
    if "classes" in options:
        raise ValueError(f"classes are chosen by this study, a half each; got {options['classes']!r}")
    shots = check_integer("train_per_class", train_per_class, 0)
    K = class_count(RunSettings.checked(data_options=options, **settings))
    first, second = list(range(K // 2)), list(range(K // 2, K))
    few = options | {"classes": second} | ({"few_shot": dict.fromkeys(range(len(second)), shots)} if shots else {})
    out = []
    for seed in range(check_integer("seeds", seeds, 1)):
        base = RunSettings.checked(head=heads[0], seed=seed, data_options=options | {"classes": first}, **settings)
        out.append(base)
        for head in heads:
            starts: list[dict[str, Any]] = [{"initial": base.key}, {"initial": base.key, "frozen": True}, {}]
            out += [
                RunSettings.checked(head=head, seed=seed, data_options=few, **start, **settings) for start in starts
            ]
    return out


def findings(runs: Sequence[TrainedRun]) -> Findings:
    """Test accuracy on the fine-tuned classes, as they are and shifted, by head and by what was trained.

    Parameters
    ----------
    runs : sequence of TrainedRun
        Finished runs of the plan, or some of them.

    Returns
    -------
    Findings
    """
    finished = [run for run in runs if run.status == "finished" and _mode(run.settings) in MODES]
    if not finished:
        return nothing_found(runs, _label, "fine-tuning")
    accuracies = pd.DataFrame([_row(run) for run in finished])
    groups = {
        (mode, head): group
        for mode in MODES
        for head in accuracies["head"].unique().tolist()
        if len(group := accuracies[(accuracies["mode"] == mode) & (accuracies["head"] == head)])
    }
    return Findings(
        statements("finetune", compared=compared(groups), gains=gains(groups), **incomplete(runs, _label)),
        {
            "Test accuracy in % on the fine-tuned classes (mean and 95 % interval)": _table(groups),
            "Every run": accuracies,
        },
        {"Test accuracy on the fine-tuned classes (mean and 95 % interval)": _figure(groups)},
    )


def _mode(settings: RunSettings) -> str:
    if 0 in settings.data_options["classes"]:
        return "pre-training"
    if settings.initial is None:
        return "from scratch"
    return "last layer" if settings.frozen else "all layers"


def _label(run: TrainedRun) -> str:
    return f"{_mode(run.settings)}, {HEAD_LABELS[run.settings.head]}"


def _row(run: TrainedRun) -> dict[str, Any]:
    """Test accuracy of one run in %, as it is and shifted, and what it trained."""
    shifted = {shift: 100 * accuracy for shift, accuracy in shifted_accuracy(run, SHIFTS).items()}
    model = run.model()
    head, network = (
        sum(parameter.numel() for parameter in part.parameters() if parameter.requires_grad)
        for part in (model.head, model.network)
    )
    return {
        "mode": _mode(run.settings),
        "head": run.settings.head,
        "seed": run.settings.seed,
        "test": 100 * float(run.final["test_accuracy"]),
        "shifted": sum(shifted.values()) / len(shifted),
        **shifted,
        "trained in the head": head,
        "trained in all": head + network,
        "key": run.settings.key,
    }


def compared(groups: Groups) -> list[dict[str, Any]]:
    """Every other head less the learned one, by mode: accuracy in points, paired by seed."""
    sets = {"in distribution": "test", "under shift": "shifted"}
    return [
        {"mode": mode, "head": HEAD_LABELS[head]}
        | {"differences": {label: paired_groups(group, learned, name) for label, name in sets.items()}}
        for (mode, head), group in groups.items()
        if head != "learned" and (learned := groups.get((mode, "learned"))) is not None
    ]


def gains(groups: Groups) -> list[dict[str, Any]]:
    """What pre-training is worth to each head, in points."""
    return [
        {"mode": mode, "head": HEAD_LABELS[head]}
        | {name: paired_groups(group, scratch, name) for name in ("test", "shifted")}
        for (mode, head), group in groups.items()
        if mode != "from scratch" and (scratch := groups.get(("from scratch", head))) is not None
    ]


def _table(groups: Groups) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "trained": mode,
                "head": HEAD_LABELS[head],
                "runs": len(group),
                **mean_columns(group, MEASURES),
                "parameters in the head": group["trained in the head"].iloc[0],
                "parameters in all": group["trained in all"].iloc[0],
            }
            for (mode, head), group in groups.items()
        ]
    )


def _figure(groups: Groups) -> Figure:
    """One panel per mode; the test sets side by side, one colour per head."""
    figure, axes = axes_figure(list(MODES), columns=3)
    sets = ["test", *SHIFTS]
    heads = list(dict.fromkeys(head for _, head in groups))
    for panel, mode in zip(axes, MODES, strict=True):
        for i, head in enumerate(heads):
            group = groups.get((mode, head))
            if group is not None:
                apart = 0.15 * (i - (len(heads) - 1) / 2)
                points = {at + apart: mean_interval(group[name]) for at, name in enumerate(sets)}
                errorbar_panel(panel, points, HEAD_LABELS[head], color=HEAD_COLOURS[head], ls="none")
        label = [MEASURES[name].replace(":", "\n").replace(" ", "\n").replace("-", "\n") for name in sets]
        panel.set_xticks(range(len(sets)), label)
        panel.set_xlim(-0.5, len(sets) - 0.5)
        panel.set_ylim(0, 100)
        panel.tick_params(axis="x", labelsize=8)
    axes[0].set_ylabel("test accuracy, %", fontsize=9)
    shared_legend(figure)
    return figure
