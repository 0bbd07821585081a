"""Generalized neural collapse along training, by head (the paper's Figure 3)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.ticker import MaxNLocator

from experiments import paper
from experiments.drawing import HEAD_COLOURS, axes_figure, band_panel, shared_legend
from experiments.settings import Head, RunSettings
from experiments.statistics import mean_interval
from experiments.studies.common import (
    LINEAR_TEMPERATURE,
    MEASURES,
    NOTE,
    beside_best_known,
    cell_label,
    check_not_fixed,
    diverged_sentences,
    every_run,
    final_values,
    least_margin,
    mean_values,
    missing_sentences,
    nothing_found,
    paired_groups,
    ufm_margin,
)
from experiments.studies.findings import Findings
from softmaxcode.checks.arguments import check_integer
from softmaxcode.plotting.style import COLOURS, draw_level
from ufm.recording import best_known_margin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from experiments.runs import TrainedRun

TITLE = "Generalized neural collapse (Figure 3)"
QUESTION = (
    "Do networks with many classes collapse as the theory predicts, and how near is the margin to the best known?"
)

#: What is asked of the learned head on digit-pairs at d = 10 and temperature 1/10: bound, and whether from below.
ASKED = {"fraction": (0.80, True), "GNC1": (0.02, False), "GNC3": (0.01, False)}
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
    statements = [
        *(_collapse_sentence(group) for group in groups.values()),
        *_ufm_sentences(groups),
        *_accuracy_sentences(groups),
        *diverged_sentences(runs),
        *missing_sentences(runs),
    ]
    return Findings(
        statements,
        {
            f"At the end of training: mean and 95 % interval over the seeds. {NOTE}": _table(groups),
            "Every run": every_run(finals, "head", "temperature", "d", "seed"),
        },
        {"Along training: mean over the seeds, in the band of its 95 % interval": _figure(runs, groups)},
    )


def _collapse_sentence(group: pd.DataFrame) -> str:
    """GNC1 to GNC3 of one head, and whether they are what is asked, where something is asked."""
    first = group.iloc[0]
    asked = (first["data"], first["head"], first["d"], first["temperature"]) == ("digit-pairs", "learned", 10, 0.1)

    def verdict(name: str) -> str:
        mean = group[name].mean()
        if not asked or math.isnan(mean):
            return ""
        bound, below = ASKED[name]
        met = mean >= bound if below else mean <= bound
        return f" (target: at {'least' if below else 'most'} {bound:.2f}; {'met' if met else 'not met'})"

    return (
        f"{cell_label(first['head'], first['temperature'])}: mean GNC2 {mean_interval(group['GNC2'])}, "
        f"{beside_best_known(group)}{verdict('fraction')}; "
        f"GNC1 {mean_interval(group['GNC1'])}{verdict('GNC1')}; GNC3 {mean_interval(group['GNC3'])}{verdict('GNC3')}."
    )


def _ufm_sentences(groups: dict[Any, pd.DataFrame]) -> list[str]:
    """The learned head's margin beside the feature model's and the bound of its global minimisers."""
    out = []
    for (K, d, head, temperature), group in groups.items():
        if head != "learned":
            continue
        free = ufm_margin(K, d, temperature)
        if free.n:
            least = least_margin(K, group["best_known"].iloc[0], temperature)
            bound = f"is at least {least:.4f}" if math.isfinite(least) else "has no bound above 0 at this temperature"
            out.append(
                f"With free features in place of a network (unconstrained feature model, K = {K}, d = {d}, "
                f"τ = {temperature:.3g}) GNC2 is {free}; the learned head's mean is "
                f"{group['GNC2'].mean() / free.mean:.3f} of it. "
                f"GNC2 of a global minimiser {bound} (docs/theory.md, T6)."
            )
    return out


def _accuracy_sentences(groups: dict[Any, pd.DataFrame]) -> list[str]:
    """Test accuracy against the learned head's, and the nearest class mean's against the classifier's, in points."""
    out = []
    learned = {tau: group for (*_, head, tau), group in groups.items() if head == "learned"}
    for (*_, head, temperature), group in groups.items():
        sentence = (
            f"{cell_label(head, temperature)}: test accuracy in %: {mean_interval(group['test_accuracy'])}; nearest "
            f"class mean less classifier: {mean_interval(group['ncm_accuracy'] - group['test_accuracy'])}"
        )
        for tau, other in learned.items():
            # the linear head has a temperature of its own, and is compared with every one of the learned head's
            if head == "linear" or (head != "learned" and tau == temperature):
                difference = paired_groups(group, other, "test_accuracy")
                sentence += f"; less the learned head's at τ = {tau:.3g}: {difference}"
        out.append(sentence + ".")
    return out


def _table(groups: dict[Any, pd.DataFrame]) -> pd.DataFrame:
    """One row per head, and for reference the feature model, the best code known and the paper's networks."""
    rows: dict[str, dict[str, str]] = {}
    for (*_, head, temperature), group in groups.items():
        rows[cell_label(head, temperature)] = {"runs": str(len(group))} | mean_values(group)
    for K, d, temperature in dict.fromkeys((K, d, tau) for K, d, head, tau in groups if head != "linear"):
        free, known = ufm_margin(K, d, temperature), best_known_margin(K, d)
        if free.n:
            rows[f"for reference: feature model, τ = {temperature:.3g}"] = {
                "runs": str(free.n),
                "GNC2": free.text,
                MEASURES["fraction"]: f"{free.mean / known:.4g}",
            }
        rows["for reference: best code known"] = {"GNC2": f"{known:.4f}", MEASURES["fraction"]: "1"}
    for size in dict.fromkeys((K, d) for K, d, *_ in groups):
        name, networks = paper.LEARNED.get(size, ("", {}))
        known = best_known_margin(*size)
        for network, values in networks.items():
            rows[f"for reference: the paper's {network}, {name}, d = 10, τ = 0.1"] = {"runs": "1"} | {
                label: f"{(values | {'fraction': values['GNC2'] / known})[measure]:.4g}"
                for measure, label in MEASURES.items()
                if measure in values or measure == "fraction"
            }
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["runs", *MEASURES.values()]).fillna("")
    return table.rename_axis("classifier").reset_index()


def _figure(runs: Sequence[TrainedRun], groups: dict[Any, pd.DataFrame]) -> Figure:
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
        draw_level(panels["GNC2"], known, "best known margin")
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
