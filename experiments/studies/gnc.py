"""Generalized neural collapse along training, by head (the paper's Figure 3)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.ticker import MaxNLocator

from experiments import paper
from experiments.drawing import HEAD_COLOURS, HEAD_LABELS, axes_figure, band_panel, shared_legend
from experiments.rendering import statements
from experiments.settings import Head, RunSettings
from experiments.statistics import mean_interval
from experiments.studies.common import (
    LINEAR_TEMPERATURE,
    MEASURES,
    NOTE,
    MarginRatio,
    best_known_margin,
    cell_label,
    check_not_fixed,
    every_run,
    final_values,
    incomplete,
    least_margin,
    measure_columns,
    nothing_found,
    paired_groups,
    reference_label,
    ufm_margin,
)
from experiments.tables import interval_columns
from softmaxcode.checks.arguments import check_integer
from softmaxcode.pages import Findings
from softmaxcode.plotting.style import COLOURS, draw_level

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from experiments.runs import TrainedRun

TITLE = "Generalized neural collapse (Figure 3)"
QUESTION = (
    "Do networks with many classes collapse as the theory predicts, and how near is the margin to the best known?"
)

#: Targets of the learned head on digit-pairs at d = 10 and temperature 1/10: bound, and whether from below.
TARGETS = {"fraction": (0.80, True), "GNC1": (0.02, False), "GNC3": (0.01, False)}
TARGETS_OF = ("digit-pairs", "learned", 10, 0.1)
#: The runs of (K, d, head, temperature).
Groups = dict[Any, pd.DataFrame]
#: Line styles of the temperatures.
STYLES = ("-", "--", "-.", ":")


def plan(
    *,
    seeds: int = 5,
    heads: tuple[Head, ...] = ("learned", "cmf", "code", "linear"),
    temperatures: tuple[float, ...] = (0.1,),
    **settings: Any,
) -> list[RunSettings]:
    """Each head at each temperature, with the first seeds first.

    Parameters
    ----------
    seeds : int
        Runs of each head and temperature, at least 1.
    heads : tuple of str
        What to compare: learned, cmf (class means), code (the best code known, fixed), linear (the usual unnormalised
        baseline, trained at temperature 1 alone).
    temperatures : tuple of float
        Temperatures of all heads but the linear one.
    **settings
        Of all runs, as `RunSettings.checked` takes them.

    Returns
    -------
    list of RunSettings

    Raises
    ------
    ValueError
        If ``settings`` fixes what is varied here, or something is out of range.

    Examples
    --------
    >>> [(run.head, run.temperature) for run in plan(seeds=1)]
    [('learned', 0.1), ('cmf', 0.1), ('code', 0.1), ('linear', 1.0)]
    """
    check_not_fixed(settings, head="heads", temperature="temperatures", seed="seeds")
    return [
        RunSettings.checked(head=head, temperature=temperature, seed=seed, **settings)
        for seed in range(check_integer("seeds", seeds, 1))
        for head in heads
        for temperature in ((LINEAR_TEMPERATURE,) if head == "linear" else temperatures)
    ]


def findings(runs: Sequence[TrainedRun]) -> Findings:
    """GNC1 to GNC3 over epochs and at the end, beside the limits of theory, the feature model and the paper.

    Parameters
    ----------
    runs : sequence of TrainedRun
        Finished runs of the plan, or some of them.

    Returns
    -------
    Findings
    """
    finals = final_values(runs)
    if finals.empty:
        return nothing_found(runs)
    groups = dict(list(finals.groupby(["K", "d", "head", "temperature"], sort=False)))
    sentences = statements(
        "gnc", heads=head_results(groups), free_features=free_features(groups), targets=TARGETS, **incomplete(runs)
    )
    return Findings(
        sentences,
        {
            f"At the end of training: mean and 95 % interval over the seeds. {NOTE}": _table(groups),
            "Every run": every_run(finals, "head", "temperature", "d", "seed"),
        },
        {"Along training: mean over the seeds, in the band of its 95 % interval": _figure(runs, groups)},
    )


def head_results(groups: Groups) -> list[dict[str, Any]]:
    """Every head at every temperature: means over the seeds, accuracies in per cent and their differences in points."""
    learned = {tau: group for (*_, head, tau), group in groups.items() if head == "learned"}
    out = []
    for (_, d, head, temperature), group in groups.items():
        # the linear head has a temperature of its own, and is compared with every one of the learned head's
        less_learned = {
            tau: paired_groups(group, other, "test_accuracy")
            for tau, other in learned.items()
            if head == "linear" or (head != "learned" and tau == temperature)
        }
        out.append(
            {
                "label": cell_label(head, temperature),
                **{name: mean_interval(group[name]) for name in ("GNC1", "GNC2", "GNC3", "test_accuracy")},
                "margin": MarginRatio.of(group),
                "met": _met(group) if (group["data"].iloc[0], head, d, temperature) == TARGETS_OF else {},
                "ncm_gain": mean_interval(group["ncm_accuracy"] - group["test_accuracy"]),
                "less_learned": less_learned,
            }
        )
    return out


def _met(group: pd.DataFrame) -> dict[str, bool]:
    """Which targets the means meet; where a mean is not known there is no verdict."""
    means = {name: group[name].mean() for name in TARGETS}
    return {
        name: bool(means[name] >= bound if below else means[name] <= bound)
        for name, (bound, below) in TARGETS.items()
        if not math.isnan(means[name])
    }


def free_features(groups: Groups) -> list[dict[str, Any]]:
    """Where the learned head was trained: the feature model, and the least GNC2 of its global minimisers if above 0."""
    return [
        {"K": K, "d": d, "temperature": temperature, "GNC2": free, "ratio": group["GNC2"].mean() / free.mean}
        | {"least": least_margin(K, group["best_known"].iloc[0], temperature)}
        for (K, d, head, temperature), group in groups.items()
        if head == "learned" and (free := ufm_margin(K, d, temperature)).n
    ]


def _table(groups: Groups) -> pd.DataFrame:
    """One row per head, and for reference the feature model, the best code known and the paper's networks."""
    rows: list[dict[str, Any]] = []
    for (_, d, head, temperature), group in groups.items():
        rows.append({"classifier": HEAD_LABELS[head], "d": d, "τ": temperature, "runs": len(group)})
        rows[-1] |= measure_columns(group)
    fraction = MEASURES["fraction"]
    for K, d, temperature in dict.fromkeys((K, d, tau) for K, d, head, tau in groups if head != "linear"):
        free = ufm_margin(K, d, temperature)
        if free.n:
            rows.append({"classifier": "for reference: feature model", "d": d, "τ": temperature, "runs": free.n})
            rows[-1] |= interval_columns("GNC2", free) | {fraction: free.mean / best_known_margin(K, d)}
    for K, d in dict.fromkeys((K, d) for K, d, *_ in groups):
        known = best_known_margin(K, d)
        rows.append({"classifier": f"for reference: {_code_label(K, d)}", "d": d, "GNC2": known, fraction: 1.0})
        name, networks = paper.LEARNED.get((K, d), ("", {}))
        for network, values in networks.items():
            rows.append({"classifier": f"for reference: the paper's {network}, {name}", "d": d, "τ": 0.1, "runs": 1})
            rows[-1] |= {label: values[measure] for measure, label in MEASURES.items() if measure in values}
            rows[-1][fraction] = values["GNC2"] / known
    return pd.DataFrame(rows).astype({"runs": "Int64"})


def _code_label(K: int, d: int) -> str:
    return "best code known" if reference_label(K, d).startswith("best") else "construction, never searched"


def _figure(runs: Sequence[TrainedRun], groups: Groups) -> Figure:
    """GNC1, GNC2, GNC3 and test accuracy against the epoch, one colour per head and a line style a temperature."""
    titles = {
        "GNC1": "variability within classes (GNC1)",
        "GNC2": "margin (GNC2)",
        "GNC3": "self-duality (GNC3)",
        "test_accuracy": "test accuracy in %",
    }
    figure, axes = axes_figure(list(titles.values()))
    panels = dict(zip(titles, axes, strict=True))
    histories = {run.settings.key: run.history.set_index("epoch") for run in runs}
    temperatures = list(dict.fromkeys(tau for *_, head, tau in groups if head != "linear"))
    for name, panel in panels.items():
        if name in ("GNC1", "GNC3"):
            panel.set_yscale("log")
        panel.set_xlabel("epoch", fontsize=9)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        for (*_, head, tau), group in groups.items():
            style = "-" if head == "linear" else STYLES[temperatures.index(tau) % len(STYLES)]
            scale = 100 if name == "test_accuracy" else 1
            values = pd.DataFrame({row["seed"]: scale * histories[row["key"]][name] for _, row in group.iterrows()})
            band_panel(panel, values, cell_label(head, tau), color=HEAD_COLOURS[head], ls=style)
    for K, d in dict.fromkeys((K, d) for K, d, *_ in groups):
        known = best_known_margin(K, d)
        draw_level(panels["GNC2"], known, reference_label(K, d).rstrip(","))
        for i, tau in enumerate(temperatures):
            style = STYLES[i % len(STYLES)]
            draw_level(
                panels["GNC2"], ufm_margin(K, d, tau).mean, f"feature model, τ = {tau:.3g}", color=COLOURS[4], ls=style
            )
            draw_level(
                panels["GNC2"],
                least_margin(K, known, tau),
                f"global minimiser, τ = {tau:.3g}",
                color=COLOURS[5],
                ls=style,
            )
    panels["GNC2"].set_ylim(bottom=0)
    shared_legend(figure, columns=3)
    return figure
