"""Deep unconstrained feature models: ``python -m benchmarks.deep [--quick] [--write docs/deep-ufm.md]``.

Rank, margin and cost of what gradient descent finds by depth, width and initial scale, beside what theory predicts.
The figure goes beside the page, as ``images/<name of the page>.png``.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from benchmarks.report import ABSENT, Page, run_plan
from softmaxcode.plotting.style import new_figure, save
from ufm.deep import DeepRun, simulate_deep
from ufm.low_rank import code_costs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

PAGE = Page("docs/deep-ufm.md", ("prediction", "depth", "counts", "scale", "longer", "made"))
#: Classes and depths of the prediction.
PREDICTED_K = (6, 10, 16, 20)
PREDICTED_DEPTHS = (2, 3, 4, 5, 6, 8, 10)
#: The K whose history is drawn, if there is one.
DRAWN_K = 10
#: Steps between two records, few enough to show the first ones.
RECORD_EVERY = 5
#: The factor by which the longer runs take more steps.
LONGER = 5


class Case(NamedTuple):
    """One configuration, trained from several seeds at once."""

    K: int
    depth: int
    width: int
    scale: float = 1.0


@dataclass(frozen=True)
class Plan:
    """The cases of the main table, of the one by scale and of the one of longer runs; seeds and steps."""

    cases: tuple[Case, ...]
    scales: tuple[Case, ...]
    longer: tuple[Case, ...]
    seeds: int
    steps: int


DEPTHS = (2, 3, 4, 6, 8, 10)
FULL = Plan(
    cases=tuple(Case(K, L, width * K) for K, width in ((6, 1), (10, 1), (10, 4), (16, 1)) for L in DEPTHS),
    scales=tuple(Case(10, L, 10, scale) for L in (3, 4, 6) for scale in (2.0, 1.0, 0.5, 0.25)),
    longer=(Case(6, 4, 6), Case(6, 10, 6), Case(10, 6, 10), Case(10, 6, 10, 0.25)),
    seeds=8,
    steps=3000,
)
QUICK = Plan(
    cases=tuple(Case(6, L, width) for width in (6, 24) for L in (2, 4, 6)),
    scales=tuple(Case(6, 4, 6, scale) for scale in (1.0, 0.5)),
    longer=(Case(6, 4, 6),),
    seeds=3,
    steps=400,
)


@dataclass(frozen=True, eq=False)
class MeasuredDepth:
    """One case: a run with, for every seed, what is read off it at the end."""

    case: Case
    run: DeepRun
    final: pd.DataFrame

    @property
    def separated(self) -> pd.DataFrame:
        """The rows of ``final`` for seeds whose samples are all classified correctly."""
        return self.final[self.final.margin > 0]


def measure(case: Case, seeds: int, steps: int) -> MeasuredDepth:
    """Train one case and compute the code of every seed.

    ``final`` is the last row of each seed's history, with the columns ``margin_ratio``, ``gnc3``, ``norm_spread`` and
    ``appears``. The last is the log loss at the first record from which on the rank is the final one.
    """
    run = simulate_deep(
        case.K, case.depth, case.width, scale=case.scale, seeds=seeds, steps=steps, record_every=RECORD_EVERY
    )
    final = run.history.groupby("seed").tail(1).set_index("seed")
    codes = [run.code(i) for i in range(seeds)]
    for name in ("margin_ratio", "gnc3", "norm_spread"):
        final[name] = [getattr(code, name) for code in codes]
    final["appears"] = [appearance(history) for _, history in run.history.groupby("seed")]
    return MeasuredDepth(case, run, final)


def appearance(history: pd.DataFrame) -> float:
    """The log loss at the first record from which on the rank is that of the last."""
    differs = np.flatnonzero(history["rank"].to_numpy() != history["rank"].iloc[-1])
    return float(history.log_loss.iloc[differs[-1] + 1 if len(differs) else 0])


def best_rank(K: int, depth: int) -> tuple[int, float]:
    """The rank whose best known code has the smallest cost at this depth, and that cost."""
    costs = code_costs(K, depth)
    rank = min(costs, key=costs.__getitem__)
    return rank, costs[rank]


# Tables


def prediction() -> pd.DataFrame:
    """The best rank by depth, from the known codes."""
    rows = []
    for K in PREDICTED_K:
        found = {f"L = {depth}": "{} ({:.2f})".format(*best_rank(K, depth)) for depth in PREDICTED_DEPTHS}
        rows.append({"K": str(K), "simplex": f"{K - 1}", **found})
    return pd.DataFrame(rows)


def _span(values: pd.Series, digits: int) -> str:
    """Median, and the extremes in parentheses."""
    if not len(values):
        return ABSENT
    low, middle, high = (f"{round(x, digits) + 0.0:.{digits}f}" for x in (values.min(), values.median(), values.max()))
    return middle if low == high else f"{middle} ({low} to {high})"


def table(measured: Sequence[MeasuredDepth]) -> pd.DataFrame:
    """One row per case: medians over the separated seeds, extremes in parentheses."""
    rows = []
    for each in measured:
        case, good = each.case, each.separated
        rank, cost = best_rank(case.K, case.depth)
        counts = good["rank"].value_counts().sort_index()
        rows.append(
            {
                "K": str(case.K),
                "L": str(case.depth),
                "width": str(case.width),
                "scale": f"{case.scale:g}",
                "separated": f"{len(good)} of {len(each.final)}",
                "effective rank": _span(good.effective_rank, 2),
                "ranks (runs)": ", ".join(f"{r} ({n})" for r, n in counts.items()) or ABSENT,
                "predicted": str(rank),
                "appears at log L": _span(good.appears, 0),
                "cost": _span(good.cost, 2),
                "known code": f"{cost:.2f}",
                "margin / best known": _span(good.margin_ratio, 3),
                "GNC3": f"{good.gnc3.median():.0e}" if len(good) else ABSENT,
                "norm spread": f"{good.norm_spread.median():.3f}" if len(good) else ABSENT,
                "1 − alignment": f"{1 - good.alignment.median():.0e}" if len(good) else ABSENT,
                "log L": _span(good.log_loss, 0),
            }
        )
    return pd.DataFrame(rows)


def counts(measured: Sequence[MeasuredDepth]) -> pd.DataFrame:
    """How the separated runs deeper than 2 compare with the prediction, and how many runs are not separated."""
    difference: list[int] = []
    cheaper: list[bool] = []
    ratios: list[float] = []
    for each in measured:
        if each.case.depth > 2:
            rank, cost = best_rank(each.case.K, each.case.depth)
            difference += (each.separated["rank"] - rank).tolist()
            cheaper += (each.separated.cost < cost).tolist()
            ratios += each.separated.margin_ratio.tolist()
    off, known = np.array(difference), np.array(ratios)[np.isfinite(ratios)]
    found = {
        "separated runs with L > 2": f"{len(off)}",
        "of these, with the predicted rank": f"{(off == 0).sum()}",
        "with a higher rank": f"{(off > 0).sum()}",
        "with a lower rank": f"{(off < 0).sum()}",
        "cheaper than the cheapest known code": f"{sum(cheaper)}",
        "margin / best known at least 0.95": f"{(known >= 0.95).sum()}",
        "margin / best known at least 0.8": f"{(known >= 0.8).sum()}",
        "margin / best known, median": f"{np.median(known):.2f}" if len(known) else ABSENT,
        "runs of any L that are not separated": f"{sum(len(e.final) - len(e.separated) for e in measured)}",
    }
    return pd.DataFrame({"runs": found.keys(), "number": found.values()})


def draw(measured: Sequence[MeasuredDepth], drawn_K: int, path: Path) -> None:
    """Effective rank by depth and by step, and the margin ratio by depth."""
    figure = new_figure((13, 4.2), dpi=100, layout="constrained")
    by_depth, by_step, ratio = figure.subplots(1, 3)
    groups: dict[tuple[int, int], list[MeasuredDepth]] = {}
    for each in measured:
        groups.setdefault((each.case.K, each.case.width), []).append(each)
    for i, ((K, width), group) in enumerate(groups.items()):
        style = {"color": f"C{i}", "marker": "osD^v"[i % 5], "label": f"K = {K}, width {width}"}
        shift = 0.1 * (i - (len(groups) - 1) / 2)  # so that the bars do not hide each other
        _line(by_depth, group, "effective_rank", shift, style)
        _line(ratio, group, "margin_ratio", shift, style)
    by_depth.set(ylabel="effective rank of the logits", yscale="log", title="Where it ends, by depth")
    ticks = [2, 3, 4, 5, 7, 9, 12, 15]
    by_depth.set_yticks(ticks, labels=map(str, ticks))
    by_depth.minorticks_off()
    ratio.set(ylabel="margin / best known margin of that rank", title="Is it a Softmax Code of its rank?")
    ratio.axhline(1, color="#5f6b76", lw=0.8)
    for axes in (by_depth, ratio):
        axes.set_xlabel("depth L")
        axes.set_xticks(sorted({each.case.depth for each in measured}))
    by_depth.legend(frameon=False)
    square = groups[drawn_K, drawn_K]
    for i, each in enumerate(square):
        shade = 0.15 + 0.75 * i / max(1, len(square) - 1)
        curves = each.run.history.pivot(index="step", columns="seed", values="effective_rank")
        curves.index += 1
        colour = (0.10, 0.25 + 0.5 * (1 - shade), 0.9 * (1 - shade) + 0.1)
        by_step.plot(curves.index, curves.median(axis=1), color=colour, label=f"L = {each.case.depth}")
        by_step.fill_between(curves.index, curves.min(axis=1), curves.max(axis=1), color=colour, alpha=0.10, lw=0)
    by_step.set(xlabel="step + 1", xscale="log", ylabel="effective rank", title=f"On the way, K = width = {drawn_K}")
    by_step.set_ylim(0.9, 1.3 * by_step.get_ylim()[1])
    by_step.legend(frameon=False, ncols=3, loc="upper left")
    for axes in (by_depth, by_step, ratio):
        axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    save(figure, path)


def _line(axes: Axes, group: Sequence[MeasuredDepth], name: str, shift: float, style: dict[str, str]) -> None:
    """Medians over the separated seeds, with the extremes as bars."""
    shown = [each for each in group if len(each.separated)]
    values = [each.separated[name] for each in shown]
    middle = np.array([v.median() for v in values])
    bars = np.abs(np.array([[v.min() for v in values], [v.max() for v in values]]) - middle)
    axes.errorbar(
        [each.case.depth + shift for each in shown], middle, yerr=bars, capsize=2, lw=1.4, elinewidth=0.8, **style
    )


def tables(plan: Plan, figure: Path | None) -> dict[str, pd.DataFrame]:
    """Run the plan and draw."""
    done: dict[Case, MeasuredDepth] = {}
    for case in dict.fromkeys((*plan.cases, *plan.scales)):
        done[case] = measure(case, plan.seeds, plan.steps)
        print(
            f"{case}: effective ranks {done[case].final.effective_rank.round(2).tolist()}", file=sys.stderr, flush=True
        )
    main = [done[case] for case in plan.cases]
    if figure is not None:
        drawn = DRAWN_K if any(case.K == DRAWN_K for case in plan.cases) else plan.cases[0].K
        draw(main, drawn, figure)
    return {
        "prediction": prediction(),
        "depth": table(main),
        "counts": counts(main),
        "scale": table([done[case] for case in plan.scales]),
        "longer": table([measure(case, plan.seeds, LONGER * plan.steps) for case in plan.longer]),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables and write them."""
    run_plan("deep", PAGE, __doc__, tables, FULL, QUICK, arguments)


if __name__ == "__main__":
    main()
