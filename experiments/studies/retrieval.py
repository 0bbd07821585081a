"""Features of classes that were never trained on: retrieval and verification, by head and temperature."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

import pandas as pd

from experiments.data import DATASETS
from experiments.data.seeding import stream
from experiments.drawing import (
    HEAD_COLOURS,
    HEAD_LABELS,
    axes_figure,
    errorbar_panel,
    shared_legend,
    temperature_axis,
)
from experiments.model import collect
from experiments.rendering import statements
from experiments.retrieval import retrieval_measurements, tar_name
from experiments.settings import Head, RunSettings
from experiments.statistics import Interval, Slope, mean_interval, slope
from experiments.studies.common import (
    LINEAR_TEMPERATURE,
    cell_label,
    check_not_fixed,
    incomplete,
    mean_columns,
    nothing_found,
    paired_groups,
)
from experiments.tables import interval_columns
from softmaxcode.checks.arguments import check_integer
from softmaxcode.pages import Findings
from softmaxcode.plotting.style import INK

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from matplotlib.figure import Figure

    from experiments.runs import TrainedRun

TITLE = "Retrieval of held-out classes"
QUESTION = "Which head and temperature give features that distinguish classes that were never trained on?"

#: False acceptance rates.
FAR = (1e-3, 1e-2)
#: What is measured, in per cent.
MEASURES = ("Recall@1", "MAP@R", *map(tar_name, FAR))
#: What is kept of a search.
_Measurements = TypedDict("_Measurements", dict.fromkeys(MEASURES, float))  # type: ignore[misc]
MEASUREMENTS: Any = _Measurements
#: Held-out classes at most that are searched: all pairs of their test images are compared.
MAX_CLASSES = 200
#: The head and temperature that all others are compared with.
REFERENCE = ("learned", 0.1)

#: The runs by head and temperature.
Groups = dict[tuple[str, float], pd.DataFrame]


def plan(
    *,
    seeds: int = 3,
    heads: tuple[Head, ...] = ("learned", "cmf", "code", "linear"),
    temperatures: tuple[float, ...] = (1.0, 0.5, 0.2, 0.05),
    train_classes: int = 200,
    classes: int = 0,
    d: int = 30,
    epochs: int = 6,
    **settings: Any,
) -> list[RunSettings]:
    """Each head on some of the classes, drawn once at random, and the learned one at more temperatures.

    Parameters
    ----------
    seeds : int
        Runs of each head and temperature, at least 1.
    heads : tuple of str
        What to compare at temperature 0.1: learned, cmf (class means), code (the best code known, fixed), linear (the
        usual unnormalised baseline, trained at temperature 1).
    temperatures : tuple of float
        More temperatures of the learned head.
    train_classes : int
        Classes to train on, at least 2; the others, at least two, are left out.
    classes : int
        All classes of the data set, at least two more than are trained on; 0 where it defines them itself, which a
        folder does not.
    d : int
        Width of the features; a fixed code must be known for it.
    epochs : int
        Epochs of every run.
    **settings
        Of all runs, as `RunSettings.checked` takes them; the data are ``digit-triples`` unless given.

    Returns
    -------
    list of RunSettings

    Raises
    ------
    ValueError
        If ``settings`` fixes what is varied here, there are not so many classes, or something is out of range.

    Examples
    --------
    >>> [(run.head, run.temperature) for run in plan(seeds=1, temperatures=(1.0,))]
    [('learned', 0.1), ('cmf', 0.1), ('code', 0.1), ('linear', 1.0), ('learned', 1.0)]
    """
    check_not_fixed(settings, head="heads", temperature="temperatures", seed="seeds")
    settings = {"data": "digit-triples"} | settings | {"d": d, "epochs": epochs}
    options = settings.pop("data_options", None) or {}
    K = check_integer("classes", classes, 0) or DATASETS[RunSettings.checked(**settings).data].K
    if K is None:
        raise ValueError(f"classes, how many {settings['data']} has, must be given: only the folder determines it")
    if check_integer("train_classes", train_classes, 2) > K - 2:
        raise ValueError(f"train_classes is at most {K - 2}, two of {K} being left out; got {train_classes}")
    chosen = sorted(stream(0, "training classes").choice(K, train_classes, replace=False).tolist())
    cells = [(head, LINEAR_TEMPERATURE if head == "linear" else 0.1) for head in heads]
    cells += [("learned", temperature) for temperature in temperatures]
    return [
        RunSettings.checked(
            head=head, temperature=temperature, seed=seed, data_options=options | {"classes": chosen}, **settings
        )
        for seed in range(check_integer("seeds", seeds, 1))
        for head, temperature in dict.fromkeys(cells)
    ]


def held_out(settings: RunSettings, K: int) -> list[int]:
    """The classes that a run was not trained on, of K in all: at most 200 of them, drawn at random.

    Examples
    --------
    >>> held_out(RunSettings.checked("digits", data_options={"classes": [0, 2, 4, 6, 8]}), 10)
    [1, 3, 5, 7, 9]
    """
    others = sorted(set(range(K)) - set(settings.data_options["classes"]))
    if len(others) <= MAX_CLASSES:
        return others
    return sorted(stream(0, "held-out classes").choice(others, MAX_CLASSES, replace=False).tolist())


def findings(runs: Sequence[TrainedRun]) -> Findings:
    """Retrieval by head and temperature, beside the pixels themselves.

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
        return nothing_found(runs)
    found = pd.DataFrame([_row(run) for run in finished])
    pixels = _per_cent(finished[0].evaluation("retrieval-pixels", MEASUREMENTS, lambda run: _searched(run, None)))
    groups = {
        (head, temperature): found[(found["head"] == head) & (found["temperature"] == temperature)]
        for head, temperature in dict.fromkeys(zip(found["head"], found["temperature"], strict=True))
    }
    best = max(groups, key=lambda cell: groups[cell]["MAP@R"].mean())
    compared = less_learned(groups)
    sentences = statements(
        "retrieval",
        best={"label": cell_label(*best), "interval": mean_interval(groups[best]["MAP@R"])},
        pixels=pixels["MAP@R"],
        reference=cell_label(*REFERENCE),
        compared={label: differences["MAP@R"] for label, differences in compared.items()},
        slope=margin_slope(groups),
        **incomplete(runs),
    )
    return Findings(
        sentences,
        {
            "Held-out classes, in % (mean and 95 % interval), beside the margin of the trained ones": _table(
                groups, pixels
            ),
            f"Less {cell_label(*REFERENCE)}, paired by seed, in points": _difference_table(compared),
            "Every run": found,
        },
        {"Retrieval of held-out classes (mean and 95 % interval)": _figure(groups, pixels)},
    )


def _searched(run: TrainedRun, model: Any) -> dict[str, Any]:
    """Retrieval among the test images of held-out classes, by a model's features or, without one, by pixels."""
    everything = run.data(classes=None)
    samples: Any = run.data(classes=held_out(run.settings, everything.K)).test
    features: torch.Tensor
    if model is None:
        images, labels = samples.batch(range(len(samples)))
        features = images.flatten(1)
    else:
        features, labels = collect(model, samples)
    return {"queries": len(labels), "classes": len(labels.unique()), **retrieval_measurements(features, labels, FAR)}


def _per_cent(found: dict[str, Any]) -> dict[str, float]:
    return {name: 100 * found[name] for name in MEASURES}


def _row(run: TrainedRun) -> dict[str, Any]:
    return {
        "head": run.settings.head,
        "temperature": run.settings.temperature,
        "seed": run.settings.seed,
        **_per_cent(run.evaluation("retrieval", MEASUREMENTS, lambda run: _searched(run, run.model()))),
        "GNC2": float(run.final["GNC2"]),
        "GNC1": float(run.final["GNC1"]),
        "test accuracy": 100 * float(run.final["test_accuracy"]),
        "key": run.settings.key,
    }


def less_learned(groups: Groups) -> dict[str, dict[str, Interval]]:
    """Every measure less that of the learned head at temperature 0.1, paired by seed, in points, by label."""
    learned = groups.get(REFERENCE)
    return {
        cell_label(*cell): {name: paired_groups(group, learned, name) for name in MEASURES}
        for cell, group in groups.items()
        if learned is not None and cell != REFERENCE
    }


def margin_slope(groups: Groups) -> Slope | None:
    """Points of MAP@R per 0.1 of GNC2, over the temperatures of the learned head; None for fewer than two."""
    tempered = [group for (head, _), group in groups.items() if head == "learned"]
    if len(tempered) < 2:
        return None
    rows = pd.concat(tempered)
    return slope(rows["GNC2"] / 0.1, rows["MAP@R"], rows["temperature"])


def _difference_table(compared: dict[str, dict[str, Interval]]) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for label, differences in compared.items():
        rows.append({"head": label, "pairs": differences["MAP@R"].n})
        for name, difference in differences.items():
            rows[-1] |= interval_columns(name, difference)
    return pd.DataFrame(rows)


def _table(groups: Groups, pixels: dict[str, float]) -> pd.DataFrame:
    shown = [*MEASURES, "GNC2", "GNC1", "test accuracy"]
    labels = {name: name for name in shown}
    rows: list[dict[str, Any]] = [
        {"head": HEAD_LABELS[head], "τ": temperature, "runs": len(group)} | mean_columns(group, labels)
        for (head, temperature), group in groups.items()
    ]
    rows.append({"head": "pixels"} | pixels)
    return pd.DataFrame(rows).astype({"runs": "Int64"})


def _figure(groups: Groups, pixels: dict[str, float]) -> Figure:
    """Each measure against the temperature, one colour per head."""
    figure, axes = axes_figure(MEASURES)
    for panel, name in zip(axes, MEASURES, strict=True):
        temperature_axis(panel, (tau for _, tau in groups))
        panel.axhline(pixels[name], color=INK, ls="--", lw=1.3, label="pixels")
        for i, head in enumerate(dict.fromkeys(head for head, _ in groups)):
            # a little apart, since most heads have one temperature
            points = {tau * 1.03**i: mean_interval(group[name]) for (own, tau), group in groups.items() if own == head}
            errorbar_panel(panel, points, HEAD_LABELS[head], color=HEAD_COLOURS[head])
        panel.set_ylabel("%", fontsize=9)
    shared_legend(figure, columns=3)
    return figure
