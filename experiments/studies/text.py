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
from experiments.rendering import statements
from experiments.settings import Head, RunSettings
from experiments.statistics import mean_interval
from experiments.studies import gnc
from experiments.studies.common import (
    MarginRatio,
    cell_label,
    final_values,
    incomplete,
    mean_columns,
    nothing_found,
    paired_groups,
)
from experiments.token_margins import GROUPS, Unigram, token_margins, unigram
from softmaxcode.certificates.loss import minimizer_margin
from softmaxcode.pages import Findings
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
    sentences = statements(
        "text",
        collapse=collapse_results(groups),
        frequency=frequency_results(groups),
        smallest={
            "where": where,
            "tokens": tokens.head(5).to_dict("records"),
            "median": tokens["margin"].median(),
        },
        similarity=similarity_results(groups),
        accuracy=accuracy_results(groups),
        chances={"perplexity": math.exp(chances["loss"]), "accuracy": chances["accuracy"]},
        theory=theory_results(groups),
        **incomplete(runs),
    )
    every = finals[["head", "temperature", "d", "seed", *MEASURES, "key"]].rename(columns=MEASURES)
    every = every.reset_index(drop=True)
    return Findings(
        sentences,
        {
            "At the end of training: mean and 95 % interval over the seeds": _table(groups, MEASURES),
            "Mean margin by frequency of the token, from the rarest fifth (1) to the most frequent (5)": _table(
                groups, {q: str(q) for q in QUINTILES}
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
            | {"perplexity": float(np.exp(run.final["test_loss"]))}
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


def collapse_results(groups: Groups) -> list[dict[str, Any]]:
    """How GNC1 to GNC3 change as the temperature falls, by head; ``steps`` are the signs of the changes of GNC2."""
    out = []
    for head, series in _of_sphere(groups).items():
        best = max(series, key=lambda tau: series[tau]["GNC2"].mean())
        changes = [paired_groups(series[low], series[high], "GNC2") for high, low in itertools.pairwise(series)]
        GNC1 = {tau: group["GNC1"].mean() for tau, group in series.items()}
        out.append(
            {"head": HEAD_LABELS[head], "temperatures": len(series), "best": best}
            | {name: mean_interval(series[best][name]) for name in ("GNC1", "GNC2", "GNC3")}
            | {"margin": MarginRatio.of(series[best]), "steps": [change.sign for change in changes]}
            | {"largest": max(series), "smallest": min(series)}
            | {"change": paired_groups(series[min(series)], series[max(series)], "GNC2")}
            | {"mean_GNC1": GNC1, "collapsed": min(GNC1, key=lambda tau: GNC1[tau])}
        )
    return out


def frequency_results(groups: Groups) -> list[dict[str, Any]]:
    """Whether frequent tokens have the larger margins, by head and temperature."""
    return [
        {
            "label": cell_label(head, tau),
            "correlation": mean_interval(group["rank_correlation"]),
            "difference": mean_interval(group[QUINTILES[-1]] - group[QUINTILES[0]]),
        }
        for (head, tau), group in groups.items()
    ]


def similarity_results(groups: Groups) -> list[dict[str, Any]]:
    """Whether tokens that stand after the same tokens are close, by head."""
    return [
        {
            "head": HEAD_LABELS[head],
            "signs": [mean_interval(group["similarity"]).sign for group in series.values()],
            "p_value": max(group["p_value"].max() for group in series.values()),
        }
        for head, series in _of_sphere(groups).items()
    ]


def accuracy_results(groups: Groups) -> list[dict[str, Any]]:
    """Where the model of each head predicts best, and the linear head beside it."""
    out = []
    linear = {tau: group for (head, tau), group in groups.items() if head == "linear"}
    for head, series in _of_sphere(groups).items():
        best = min(series, key=lambda tau: series[tau]["perplexity"].mean())
        others = [
            {"label": cell_label("linear", tau), "perplexity": mean_interval(other["perplexity"])}
            | {"difference": paired_groups(other, series[best], "perplexity")}
            for tau, other in linear.items()
        ]
        means = {name: mean_interval(series[best][name]) for name in ("perplexity", "test_accuracy")}
        out.append({"head": HEAD_LABELS[head], "best": best, **means, "linear": others})
    return out


def theory_results(groups: Groups) -> list[dict[str, Any]]:
    """What the loss of each head certifies, and the bound of global minimisers with counts as unequal as they are.

    The bound is above 0 at temperatures below ``bound_from``, and with equal counts below ``bound_from_equal``; both
    are NaN where no code is stored.
    """
    out = []
    for head, series in _of_sphere(groups).items():
        best = min(series, key=lambda tau: series[tau]["loss"].mean())
        first = series[best].iloc[0]
        K, known, imbalance = int(first["tokens"]), float(first["best_known"]), float(first["imbalance"])
        bounds = []
        for tau, group in series.items() if math.isfinite(known) else ():
            least = minimizer_margin(K, known, tau, imbalance=imbalance)
            if least > 0:
                bounds.append({"temperature": tau, "least": least, "mean": group["GNC2"].mean()})
        out.append(
            {"head": HEAD_LABELS[head], "best": best, "imbalance": imbalance, "bounds": bounds}
            | {name: mean_interval(series[best][name]) for name in ("loss", "train_accuracy")}
            | {"certified": max(group["certified_margin"].max() for group in series.values())}
            | {"bound_from": _first_temperature(K, known, imbalance)}
            | {"bound_from_equal": _first_temperature(K, known, 1.0)}
        )
    return out


def _first_temperature(K: int, margin: float, imbalance: float) -> float:
    r"""Below it the bound of `softmaxcode.minimizer_margin` is above 0.

    .. math:: \tau_0 = \rho^\star \Big/ \log \frac{K - 1}{2^{1/(\nu K)} - 1}
    """
    return margin / math.log((K - 1) / math.expm1(math.log(2) / (imbalance * K)))


def _table(groups: Groups, labels: dict[Any, str]) -> pd.DataFrame:
    """One row per head and temperature, with the means of columns by their labels."""
    return pd.DataFrame(
        [
            {"head": HEAD_LABELS[head], "τ": tau, "runs": len(group)} | mean_columns(group, labels)
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
