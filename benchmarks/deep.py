"""Deep unconstrained feature models: ``python -m benchmarks.deep [--quick] [--write docs/deep-ufm.md]``.

Rank, margin and cost of the results of gradient descent by depth, width and initial scale, compared with theory.
The figure goes beside the document, as ``images/<name of the document>.png``.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from benchmarks.report import ABSENT, Section, machine, write_parts
from softmaxcode.plotting.style import new_figure, save
from ufm.deep import DeepRun, simulate_deep
from ufm.low_rank import code_costs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

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
    """Measurements of one case: a run with the final values of every seed."""

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


def prediction() -> Section:
    """The best rank by depth, from the known codes."""
    rows = []
    for K in PREDICTED_K:
        found = {f"L = {depth}": "{} ({:.2f})".format(*best_rank(K, depth)) for depth in PREDICTED_DEPTHS}
        rows.append({"K": str(K), "simplex": f"{K - 1}", **found})
    above = (
        "The rank $r \\le K - 1$ whose best known Softmax Code costs least at depth L, and that cost $c_L$ in "
        "parentheses; the simplex costs $K - 1$ at every depth. The codes are those of `softmaxcode.best_known(K, r)`, "
        "so a cost is an upper value of the least one of its rank."
    )
    return Section("The rank to expect", above, pd.DataFrame(rows))


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


def findings(measured: Sequence[MeasuredDepth]) -> str:
    """The number of runs that agree with the prediction."""
    below = equal = above = cheaper = total = stuck = 0
    ratios: list[float] = []
    for each in measured:
        stuck += len(each.final) - len(each.separated)
        if each.case.depth == 2:
            continue
        rank, cost = best_rank(each.case.K, each.case.depth)
        good = each.separated
        total += len(good)
        below += int((good["rank"] < rank).sum())
        equal += int((good["rank"] == rank).sum())
        above += int((good["rank"] > rank).sum())
        cheaper += int((good.cost < cost).sum())
        ratios += good.margin_ratio.tolist()
    known = np.array(ratios)[np.isfinite(ratios)]
    lines = [
        f"Of the {total} separated runs deeper than 2, {equal} have the predicted rank, {above} a higher and {below} a "
        f"lower one; {cheaper} cost less than the cheapest known code.",
        f"Their classifier's margin is at least 0.95 of the best known one at its rank in {(known >= 0.95).sum()} "
        f"runs, at least 0.8 in {(known >= 0.8).sum()}, and {np.median(known):.2f} in the median."
        if len(known)
        else "",
        f"{stuck} runs of all depths had not yet classified every sample right." if stuck else "",
    ]
    return " ".join(line for line in lines if line)


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


def parts(plan: Plan, command: str, link: str, figure: Path | None) -> dict[str, str]:
    """Run the plan, draw, and describe: the tables, and how they were made."""
    begin = time.perf_counter()
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
    measured = Section(
        "Measured by depth and width",
        f"{plan.seeds} seeds per row, {plan.steps:,} gradient evaluations each, from normal entries of standard "
        "deviation scale / √columns. *Separated*: runs that classify every sample right; the other columns are of "
        "these, medians with the extremes in parentheses. *Effective rank*: exponential of the entropy of the singular "
        "values (Roy and Vetterli 2007). *Ranks*: singular values above 0.01 of the largest. *Predicted*: the rank of "
        "the table above, and under *known code* its cost; *cost* is that of the logits scaled to margin 1. *Appears*: "
        "log L where the rank is the final one for good. The code is $U_r S_r^{1/2}$ and $V_r S_r^{1/2}$ of the logits "
        "cut off at their rank: exact margin of the unit rows of the first over that of the best known Softmax Code of "
        "that rank, GNC3 between the two about the origin, and the spread (standard deviation over mean) of the row "
        "norms of the first. *Alignment*: cosine between weights and negative gradient, 1 at a KKT point.",
        table(main),
        findings(main),
    )
    by_scale = Section(
        "Measured by initial scale",
        "The same measurements by the size of the start.",
        table([done[case] for case in plan.scales]),
    )
    longer = Section(
        f"{LONGER} times as many steps",
        "The same seeds, followed further. The log loss falls about linearly with the steps.",
        table([measure(case, plan.seeds, LONGER * plan.steps) for case in plan.longer]),
    )
    image = f"![Effective rank by depth and by step, and margins against Softmax Codes]({link})\n"
    made = (
        f"## How it was made\n\nMade by `{command}` in {time.perf_counter() - begin:.0f} s on\n\n{machine()}\n\n"
        "with one thread of PyTorch. Runs are deterministic on one machine; on another, rounding can lead one to "
        "another code.\n"
    )
    tables = [prediction().markdown(), measured.markdown(), image, by_scale.markdown(), longer.markdown()]
    return {"tables": "\n".join(tables), "made": made}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the parts of the document and write them."""
    write_parts("deep", "deep-ufm", __doc__, parts, FULL, QUICK, arguments)


if __name__ == "__main__":
    main()
