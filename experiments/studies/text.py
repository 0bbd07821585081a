"""Neural collapse of a language model as the temperature falls, and the margins of frequent and rare tokens."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from experiments.assignments import input_similarity
from experiments.class_similarity import mantel, nearest_pairs
from experiments.drawing import (
    HEAD_COLOURS,
    HEAD_LABELS,
    axes_figure,
    errorbar_panel,
    shared_legend,
    temperature_axis,
)
from experiments.settings import Head, RunSettings
from experiments.statistics import mean_interval
from experiments.studies import gnc
from experiments.studies.common import (
    beside_best_known,
    cell_label,
    diverged_sentences,
    final_values,
    missing_sentences,
    nothing_found,
    paired_groups,
    side,
)
from experiments.studies.findings import Findings
from experiments.token_margins import GROUPS, Unigram, token_margins, unigram
from softmaxcode.certificates.loss import minimizer_margin
from softmaxcode.plotting.style import COLOURS, INK, MARKERS, draw_level
from softmaxcode.sphere import check_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from experiments.runs import TrainedRun
    from softmaxcode.types import Rows

TITLE = "A language model: neural collapse and the margins of frequent and rare tokens"
QUESTION = (
    "Does a network that predicts the next token collapse as the temperature falls, and do rare tokens have the "
    "smaller margins?"
)

#: What is measured at the end of a run, with its label; ``rank_correlation`` is of count and margin over the tokens.
MEASURES = {
    "GNC1": "GNC1",
    "GNC2": "GNC2",
    "fraction": "fraction of best known",
    "GNC3": "GNC3",
    "train_accuracy": "training accuracy, %",
    "test_accuracy": "test accuracy, %",
    "perplexity": "test perplexity",
    "rank_correlation": "rank correlation of count and margin",
    "similarity": "rank correlation of cosine and similarity",
}
#: Quintiles of frequency, the rarest first.
QUINTILES = tuple(range(1, GROUPS + 1))
#: Tokens and pairs in a table.
LISTED = 20
#: Relabellings of a Mantel test: p-values from 0.005 on.
PERMUTATIONS = 199

#: The runs of a head and temperature.
Groups = dict[tuple[str, float], pd.DataFrame]


def plan(
    *,
    seeds: int = 3,
    temperatures: tuple[float, ...] = (1.0, 0.5, 0.2, 0.1, 0.05),
    heads: tuple[Head, ...] = ("learned", "linear"),
    **settings: Any,
) -> list[RunSettings]:
    """Each head at each temperature, with the first seeds first.

    Parameters
    ----------
    seeds : int
        Runs of each head and temperature, at least 1.
    temperatures : tuple of float
        Temperatures of all heads but the linear one.
    heads : tuple of str
        What to compare: learned, cmf (class means), code (the best code known, fixed), linear (the usual unnormalised
        baseline, trained at temperature 1 alone).
    **settings
        Of all runs, as `RunSettings.checked` takes them.

    Returns
    -------
    list of RunSettings

    Raises
    ------
    ValueError
        If the data are no text, ``settings`` fixes what is varied here, or something is out of range.

    Examples
    --------
    >>> len(plan()), plan()[0].data
    (18, 'text')
    """
    data = settings.pop("data", "text")
    if data != "text":
        raise ValueError(f"data must be 'text', whose classes are tokens; got {data!r}")
    return gnc.plan(seeds=seeds, heads=heads, temperatures=temperatures, data=data, **settings)


def findings(runs: Sequence[TrainedRun]) -> Findings:
    """GNC1 to GNC3, accuracy and perplexity against the temperature, and the margins of tokens by frequency.

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
    finals = _finals(finished)
    # of each head the largest temperature first
    finals = finals.sort_values(["head", "temperature", "seed"], ascending=[True, False, True])
    groups: Groups = dict(list(finals.groupby(["head", "temperature"], sort=False)))  # type: ignore[arg-type]
    chances = finished[0].evaluation("unigram", Unigram, lambda run: unigram(run.data()))
    # the tokens are listed of the smallest temperature, of the learned head if it was trained there
    head, tau = min(groups, key=lambda cell: (cell[0] == "linear", cell[1], cell[0] != "learned"))
    coldest = [run for run in finished if (run.settings.head, run.settings.temperature) == (head, tau)]
    where = cell_label(head, tau)
    tokens, pairs = _token_table(coldest), _pair_table(coldest)
    statements = [
        *_collapse_sentences(groups),
        *_frequency_sentences(groups),
        _smallest_sentence(tokens, where),
        *_similarity_sentences(groups),
        *_accuracy_sentences(groups, chances),
        *_theory_sentences(groups),
        *diverged_sentences(runs),
        *missing_sentences(runs),
    ]
    every = finals[["head", "temperature", "d", "seed", *MEASURES, "key"]].rename(columns=MEASURES)
    every = every.reset_index(drop=True)
    return Findings(
        statements,
        {
            "At the end of training: mean and 95 % interval over the seeds": _table(groups),
            "Mean margin by frequency of the token, from the rarest fifth (1) to the most frequent (5)": _margin_table(
                groups
            ),
            f"The tokens of the smallest margins, {where} (Ġ is a space, Ċ the end of a line)": tokens.head(LISTED),
            f"The closest pairs of tokens, {where}": pairs,
            "Every run": every,
        },
        {
            "Against the temperature: mean over the seeds, with its 95 % interval": _figure(groups, chances),
            "Margins of frequent and rare tokens": _margin_figure(groups, tokens, where),
        },
    )


def _finals(runs: Sequence[TrainedRun]) -> pd.DataFrame:
    """The last measurement of every run, with the measurements of its tokens.

    As `final_values`, and `MEASURES`; ``loss``; ``p_value`` of ``similarity``; ``imbalance``, the mean over the
    smallest count of a token; and a column for each of `QUINTILES`, the mean margin of its tokens.
    """
    rows = []
    for run in runs:
        tokens = token_margins(run)
        alike = run.evaluation("token_similarity", _Alike, _alike)
        rows.append(
            {"loss": run.final["loss"], "train_accuracy": 100 * run.final["train_accuracy"]}
            | {"perplexity": math.exp(run.final["test_loss"])}
            | {"rank_correlation": float(spearmanr(tokens["count"], tokens["margin"]).statistic)}
            | {"similarity": alike["correlation"], "p_value": alike["p_value"]}
            | {"imbalance": tokens["count"].mean() / tokens["count"].min(), "tokens": len(tokens)}
            | tokens.groupby("quintile")["margin"].mean().to_dict()
        )
    return pd.concat([final_values(runs), pd.DataFrame(rows)], axis=1)


class _Alike(TypedDict):
    correlation: float
    p_value: float


def _alike(run: TrainedRun) -> _Alike:
    """Whether the classifier holds tokens close that stand after the same tokens."""
    data = run.data()
    seen = data.counts.numpy() > 0
    W = check_rows(run.W[seen], normalize=True)
    found = mantel(W @ W.T, input_similarity(data)[np.ix_(seen, seen)], PERMUTATIONS, alternative="greater")
    return {"correlation": found.correlation, "p_value": found.p_value}


def _of_sphere(groups: Groups) -> dict[str, dict[float, pd.DataFrame]]:
    """Temperature to runs, the largest first, of each head on the sphere."""
    out: dict[str, dict[float, pd.DataFrame]] = {}
    for (head, tau), group in groups.items():
        if head != "linear":
            out.setdefault(head, {})[tau] = group
    return out


def _collapse_sentences(groups: Groups) -> list[str]:
    """How GNC1 to GNC3 change as the temperature falls."""
    out = []
    for head, series in _of_sphere(groups).items():
        best = max(series, key=lambda tau: series[tau]["GNC2"].mean())
        group = series[best]
        out.append(
            f"{HEAD_LABELS[head]}: of {len(series)} temperatures mean GNC2 is largest at τ = {best:.3g}, "
            f"{mean_interval(group['GNC2'])}, {beside_best_known(group)}; there GNC1 is "
            f"{mean_interval(group['GNC1'])} and GNC3 {mean_interval(group['GNC3'])}."
        )
        steps = [paired_groups(series[low], series[high], "GNC2") for high, low in itertools.pairwise(series)]
        if steps:
            shown = [side(step, "grows", "shrinks", "") for step in steps]
            change = paired_groups(series[min(series)], series[max(series)], "GNC2")
            collapsed = {tau: series[tau]["GNC1"].mean() for tau in series}
            least = min(collapsed, key=lambda tau: collapsed[tau])
            out.append(
                f"{HEAD_LABELS[head]}: as τ falls from {max(series):.3g} to {min(series):.3g}, GNC2 changes by "
                f"{change}. Of {len(steps)} steps it is shown to grow at {shown.count('grows')} and to shrink at "
                f"{shown.count('shrinks')}. GNC1 is {collapsed[max(series)]:.3g} at the largest τ, "
                f"{collapsed[min(series)]:.3g} at the smallest, and least at τ = {least:.3g}, {collapsed[least]:.3g}."
            )
    return out


def _frequency_sentences(groups: Groups) -> list[str]:
    """Whether frequent tokens have the larger margins, by temperature."""
    out = []
    for (head, tau), group in groups.items():
        correlation = mean_interval(group["rank_correlation"])
        shown = side(
            correlation,
            "frequent tokens have the larger margins",
            "frequent tokens have the smaller margins",
            "neither frequent nor rare tokens are shown to have the larger margins",
        )
        difference = mean_interval(group[QUINTILES[-1]] - group[QUINTILES[0]])
        out.append(
            f"{cell_label(head, tau)}: {shown} (rank correlation of count and margin {correlation}); the "
            f"mean margin of the most frequent fifth less that of the rarest is {difference}."
        )
    return out


def _smallest_sentence(tokens: pd.DataFrame, where: str) -> str:
    """Which tokens have the smallest margins."""
    first = tokens.head(5)
    named = ", ".join(f"{t!r} ({m:.3f}, next to {n!r})" for t, m, n in first[["token", "margin", "nearest"]].values)
    median = tokens["margin"].median()
    return f"{where}: the smallest mean margins are those of {named}; the median token's is {median:.3f}."


def _similarity_sentences(groups: Groups) -> list[str]:
    """Whether tokens that stand after the same tokens are close."""
    out = []
    for head, series in _of_sphere(groups).items():
        listed = ", ".join(
            f"{mean_interval(group['similarity']).text} at τ = {tau:.3g}" for tau, group in series.items()
        )
        largest = max(group["p_value"].max() for group in series.values())
        out.append(
            f"{HEAD_LABELS[head]}: rank correlation of the cosine of two tokens with how alike the tokens before them "
            f"are: {listed}; the largest p-value of a run (Mantel's test, one-sided) is {largest:.2g}."
        )
    return out


def _accuracy_sentences(groups: Groups, chances: Unigram) -> list[str]:
    """Where the model predicts best, beside the training counts alone, and beside the linear head."""
    out = []
    linear = {tau: group for (head, tau), group in groups.items() if head == "linear"}
    for head, series in _of_sphere(groups).items():
        best = min(series, key=lambda tau: series[tau]["perplexity"].mean())
        group = series[best]
        out.append(
            f"{HEAD_LABELS[head]}: test perplexity is least at τ = {best:.3g}, {mean_interval(group['perplexity'])}, "
            f"with test accuracy {mean_interval(group['test_accuracy'])} %; the training counts alone give "
            f"perplexity {math.exp(chances['loss']):.1f} and accuracy {100 * chances['accuracy']:.1f} %."
        )
        for tau, other in linear.items():
            difference = paired_groups(other, group, "perplexity")
            shown = side(difference, "worse", "better", "neither shown to be better nor worse")
            out.append(
                f"Without the spherical constraint, {cell_label('linear', tau)}, test perplexity is "
                f"{mean_interval(other['perplexity'])}, less that of the {HEAD_LABELS[head]} head at τ = {best:.3g} "
                f"{difference}: {shown}."
            )
    return out


def _theory_sentences(groups: Groups) -> list[str]:
    """What the loss certifies, and the theory of global minimisers with so unequal counts."""
    out = []
    for head, series in _of_sphere(groups).items():
        tau = min(series, key=lambda one: series[one]["loss"].mean())
        certified = max(group["certified_margin"].max() for group in series.values())
        out.append(
            f"{HEAD_LABELS[head]}: the training loss is least at τ = {tau:.3g}, {mean_interval(series[tau]['loss'])} "
            f"nats per token at training accuracy {mean_interval(series[tau]['train_accuracy'])} %; "
            f"the margin that a loss certifies (docs/theory.md, T6) is "
            + (f"{certified:.4f} at most." if certified > 0 else "above 0 at no temperature.")
        )
        out.append(f"{HEAD_LABELS[head]}: {_imbalance_sentence(series)}")
    return out


def _imbalance_sentence(series: dict[float, pd.DataFrame]) -> str:
    """The bound on the margin of global minimisers, with the counts as unequal as they are."""
    first = next(iter(series.values())).iloc[0]
    K, margin, imbalance = int(first["tokens"]), first["best_known"], first["imbalance"]
    unequal = f"the mean count of a token is {imbalance:.4g} times the smallest"
    if not math.isfinite(margin):
        return f"{unequal}; no code is stored, so that no bound on GNC2 of a global minimiser is computed."
    listed = [
        f"{least:.4f} at τ = {tau:.3g}, where the mean is {group['GNC2'].mean():.4f}"
        for tau, group in series.items()
        if (least := minimizer_margin(K, margin, tau, imbalance=imbalance)) > 0
    ]
    return (
        f"{unequal}. With such counts the bound on GNC2 of a global minimiser over free features (docs/theory.md, T6) "
        f"is above 0 for τ below {_first_temperature(K, margin, imbalance):.4f}, with equal counts below "
        f"{_first_temperature(K, margin, 1.0):.4f}: "
        + (f"here {', '.join(listed)}." if listed else "at none of these temperatures is it above 0.")
    )


def _first_temperature(K: int, margin: float, imbalance: float) -> float:
    r"""Below it the bound of `softmaxcode.minimizer_margin` is above 0.

    .. math:: \tau_0 = \rho^\star \Big/ \log \frac{K - 1}{2^{1/(\nu K)} - 1}
    """
    return margin / math.log((K - 1) / math.expm1(math.log(2) / (imbalance * K)))


def _table(groups: Groups) -> pd.DataFrame:
    """One row per head and temperature."""
    return pd.DataFrame(
        [
            {"head": HEAD_LABELS[head], "τ": f"{tau:.3g}", "runs": len(group)}
            | {label: mean_interval(group[name]).text for name, label in MEASURES.items()}
            for (head, tau), group in groups.items()
        ]
    )


def _margin_table(groups: Groups) -> pd.DataFrame:
    """One row per head and temperature, a column a fifth of the tokens."""
    return pd.DataFrame(
        [
            {"head": HEAD_LABELS[head], "τ": f"{tau:.3g}", "runs": len(group)}
            | {str(q): mean_interval(group[q]).text for q in QUINTILES}
            for (head, tau), group in groups.items()
        ]
    )


def _side_byside(runs: Sequence[TrainedRun]) -> tuple[list[str], Rows]:
    """Tokens, and the unit rows of all runs side by side: their cosines are the means of the runs' cosines."""
    data = runs[0].data()
    seen = np.flatnonzero(data.counts.numpy())
    W = np.hstack([check_rows(run.W[seen], normalize=True) for run in runs])
    return [data.class_names[k] for k in seen], W / math.sqrt(len(runs))


def _token_table(runs: Sequence[TrainedRun]) -> pd.DataFrame:
    """Every token with its mean margin over the runs, the smallest first, and the token of the largest mean cosine."""
    every = pd.concat([token_margins(run) for run in runs])
    table = every.groupby("token", sort=False).agg({"count": "first", "quintile": "first", "margin": "mean"})
    names, W = _side_byside(runs)
    cosines = W @ W.T
    np.fill_diagonal(cosines, -np.inf)
    table["nearest"] = pd.Series(np.array(names, dtype=object)[cosines.argmax(axis=1)], index=names)
    table["mean cosine"] = pd.Series(cosines.max(axis=1), index=names)
    return table.sort_values("margin", kind="stable").reset_index()


def _pair_table(runs: Sequence[TrainedRun]) -> pd.DataFrame:
    """The pairs of tokens with the largest mean cosines over the runs."""
    names, W = _side_byside(runs)
    return nearest_pairs(W, names, LISTED)[["first", "second", "cosine"]].rename(columns={"cosine": "mean cosine"})


def _figure(groups: Groups, chances: Unigram) -> Figure:
    """Everything that is measured at the end of a run against its temperature."""
    titles = {
        "GNC2": "margin (GNC2)",
        "GNC1": "variability within classes (GNC1)",
        "GNC3": "self-duality (GNC3)",
        "perplexity": "test perplexity",
    }
    figure, axes = axes_figure(list(titles.values()), height=3.2)
    for name, panel in zip(titles, axes, strict=True):
        temperature_axis(panel, (tau for _, tau in groups))
        for i, head in enumerate(dict.fromkeys(head for head, _ in groups)):
            points = {tau: mean_interval(group[name]) for (h, tau), group in groups.items() if h == head}
            style = {"color": HEAD_COLOURS[head], "marker": MARKERS[i % len(MARKERS)]}
            errorbar_panel(panel, points, HEAD_LABELS[head], **style)
    draw_level(axes[0], next(iter(groups.values()))["best_known"].iloc[0], "best known margin")
    draw_level(axes[-1], math.exp(chances["loss"]), "training counts alone", color=INK, ls=":")
    for panel in axes[:-1]:
        panel.set_ylim(bottom=0)
    shared_legend(figure)
    return figure


def _margin_figure(groups: Groups, tokens: pd.DataFrame, where: str) -> Figure:
    """Margins by frequency: of fifths of the tokens, as a rank correlation, and one by one."""
    figure, (fifths, ranks, scatter) = axes_figure(
        ["mean margin by frequency", "rank correlation of count and margin", where], columns=3, height=3.6
    )
    for i, ((head, tau), group) in enumerate(groups.items()):
        style = {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}
        style |= {"ls": "--"} if head == "linear" else {}
        label = cell_label(head, tau)
        errorbar_panel(fifths, {q: mean_interval(group[q]) for q in QUINTILES}, label, **style)
        errorbar_panel(ranks, {tau: mean_interval(group["rank_correlation"])}, **style)
    fifths.set_xlabel("fifth of the tokens, the rarest first", fontsize=9)
    fifths.set_xticks(QUINTILES)
    fifths.set_ylim(bottom=0)
    ranks.axhline(0, color=INK, lw=0.8)
    temperature_axis(ranks, (tau for _, tau in groups))
    scatter.plot(tokens["count"], tokens["margin"], ".", color=INK, ms=3, alpha=0.6)
    scatter.set_xscale("log")
    scatter.set_xlabel("count in the training text", fontsize=9)
    scatter.set_ylabel("margin", fontsize=9)
    scatter.set_ylim(bottom=0)
    shared_legend(figure, columns=3)
    return figure
