"""Deep unconstrained feature models: ``python -m benchmarks.deep [--quick] [--write docs/deep-ufm.md]``.

Rank, margin and cost of what gradient descent finds by depth, width and initial scale, beside what theory predicts.
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

from benchmarks.report import ABSENT, Section, machine, write_document
from softmaxcode.plotting.style import new_figure, save
from ufm.deep import DeepRun, simulate_deep
from ufm.low_rank import code_costs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

#: Classes and depths of the prediction.
PREDICTED_K = (6, 10, 16, 20)
PREDICTED_DEPTHS = (2, 3, 4, 5, 6, 8, 10)
#: The history of this K is drawn, where there is one.
DRAWN_K = 10
#: Steps between two records: close enough together to see the first ones.
RECORD_EVERY = 5
#: How many times as many steps the longer runs take.
LONGER = 5


class Case(NamedTuple):
    """One configuration, trained from several seeds at once."""

    K: int
    depth: int
    width: int
    scale: float = 1.0


@dataclass(frozen=True)
class Plan:
    """What is run: the cases of the main table, of the one by scale and of the one of longer runs; seeds and steps."""

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
class Measured:
    """Figures of one case: a run with, for every seed, what is read off it at the end."""

    case: Case
    run: DeepRun
    final: pd.DataFrame

    @property
    def separated(self) -> pd.DataFrame:
        """Of ``final`` the seeds whose samples are all classified right."""
        return self.final[self.final.margin > 0]


def measure(case: Case, seeds: int, steps: int) -> Measured:
    """Train one case and read a code off every seed.

    ``final`` is the last row of each seed's history with the columns ``margin_ratio``, ``gnc3``, ``norm_spread`` and
    ``appears``, the log loss at the first record from which on the rank is the final one.
    """
    run = simulate_deep(
        case.K, case.depth, case.width, scale=case.scale, seeds=seeds, steps=steps, record_every=RECORD_EVERY
    )
    final = run.history.groupby("seed").tail(1).set_index("seed")
    codes = [run.code(i) for i in range(seeds)]
    for name in ("margin_ratio", "gnc3", "norm_spread"):
        final[name] = [getattr(code, name) for code in codes]
    final["appears"] = [appearance(history) for _, history in run.history.groupby("seed")]
    return Measured(case, run, final)


def appearance(history: pd.DataFrame) -> float:
    """The log loss at the first record from which on the rank is that of the last."""
    differs = np.flatnonzero(history["rank"].to_numpy() != history["rank"].iloc[-1])
    return float(history.log_loss.iloc[differs[-1] + 1 if len(differs) else 0])


def best_rank(K: int, depth: int) -> tuple[int, float]:
    """The rank whose best known code costs least at this depth, and that cost."""
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
        "brackets; the simplex costs $K - 1$ at every depth. The codes are those of `softmaxcode.best_known(K, r)`, so "
        "a cost is an upper value of the least one of its rank."
    )
    return Section("The rank to expect", above, pd.DataFrame(rows))


def _span(values: pd.Series, digits: int) -> str:
    """Median, and the extremes in brackets."""
    if not len(values):
        return ABSENT
    low, middle, high = (f"{round(x, digits) + 0.0:.{digits}f}" for x in (values.min(), values.median(), values.max()))
    return middle if low == high else f"{middle} ({low} to {high})"


def table(measured: Sequence[Measured]) -> pd.DataFrame:
    """One row a case: medians over the separated seeds, extremes in brackets."""
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


def findings(measured: Sequence[Measured]) -> str:
    """What the runs say of the prediction, counted."""
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


# Figure


def draw(measured: Sequence[Measured], drawn_K: int, path: Path) -> None:
    """Effective rank by depth and by step, and the margin ratio by depth."""
    figure = new_figure((13, 4.2), dpi=100, layout="constrained")
    by_depth, by_step, ratio = figure.subplots(1, 3)
    groups: dict[tuple[int, int], list[Measured]] = {}
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


def _line(axes: Axes, group: Sequence[Measured], name: str, shift: float, style: dict[str, str]) -> None:
    """Medians over the separated seeds, with the extremes as bars."""
    shown = [each for each in group if len(each.separated)]
    values = [each.separated[name] for each in shown]
    middle = np.array([v.median() for v in values])
    bars = np.abs(np.array([[v.min() for v in values], [v.max() for v in values]]) - middle)
    axes.errorbar(
        [each.case.depth + shift for each in shown], middle, yerr=bars, capsize=2, lw=1.4, elinewidth=0.8, **style
    )


# The document

THEORY = r"""
Logits $Z = W_L \cdots W_1 \in \mathbb R^{K \times K}$, one sample a class: $W_1 \in \mathbb R^{p \times K}$ holds the
free features as columns, $W_L \in \mathbb R^{K \times p}$ is the classifier (L = 2 is the plain model), column k of Z
holds the logits of sample k. Loss: the mean cross-entropy at temperature 1, without regularisation. `ufm.simulate_deep`
follows gradient flow from a random start into losses of e^−1000 and less. Garrod, Keating and Thrampoulidis (*The
Implicit Bias of Depth: From Neural Collapse to Softmax Codes*, ICML 2026, arXiv:2605.23087) report that such models
drift to low-rank solutions that are Softmax Codes as depth grows; this document measures it.

## Theory

$s_1 \ge s_2 \ge \dots$ are singular values, $P = I - \mathbf 1 \mathbf 1^\top / K$, and the **margin** of Z is
$\min_{k, j \ne k} (z_{kk} - z_{jk})$. The **cost** of logits of margin 1 at depth L is $c_L(Z) = \sum_i s_i^{2/L}$.

**Where the path leads** (Lyu and Li, ICLR 2020; Ji and Telgarsky, NeurIPS 2020; quoted). The logits are homogeneous of
degree L in the weights. Once gradient flow classifies every sample right, the weights grow without bound and their
direction converges to that of a KKT point of: minimise $\sum_l \lVert W_l\rVert_F^2$ over weights whose logits have
margin at least 1.

**Balance.** Gradient flow conserves $W_{l+1}^\top W_{l+1} - W_l W_l^\top$. *Proof.* With $A = W_L \cdots W_{l+2}$,
$B = W_{l-1} \cdots W_1$ and $G = \nabla_Z \mathcal L$: $\dot W_{l+1} = -A^\top G (W_l B)^\top$ and
$\dot W_l = -(A W_{l+1})^\top G B^\top$, so
$W_{l+1}^\top \dot W_{l+1} = -W_{l+1}^\top A^\top G B^\top W_l^\top = \dot W_l W_l^\top$. Add the transposes. ∎ The
weights grow without bound and the difference does not, so in the limit direction it is 0.

**What logits cost.** If $p \ge \operatorname{rank} Z$, the least $\sum_l \lVert W_l\rVert_F^2$ over
$W_L \cdots W_1 = Z$ is $L\,c_L(Z)$. *Proof.* Horn's inequality, $\sum_i s_i(AB)^q \le \sum_i s_i(A)^q s_i(B)^q$ for
$q \gt 0$, and Hölder's give $\lVert Z\rVert_{2/L} \le \prod_l \lVert W_l\rVert_F$ for the Schatten quasi-norm, so
$c_L(Z) = \lVert Z\rVert_{2/L}^{2/L} \le \prod_l (\lVert W_l\rVert_F^2)^{1/L} \le \frac1L \sum_l \lVert W_l\rVert_F^2$.
Equality: $Z = U S V^\top$ and $W_l = Q_l S^{1/L} Q_{l-1}^\top$ with orthonormal columns, $Q_L = U$, $Q_0 = V$. ∎

**The simplex** $Z = P$ has margin 1, rank K − 1 and $c_L = K - 1$ at every depth. At depth 2 nothing costs less.
*Proof.* P is a contraction, so
$\sum_i s_i(Z) \ge \operatorname{tr}(P Z) = \frac1K \sum_{k,\,j} (z_{kk} - z_{jk}) \ge \frac1K K (K - 1)$. ∎

It is a KKT point at every depth. *Proof.* $W_l = Q_l Q_{l-1}^\top$ with $Q_l Q_l^\top$ projections of rank K − 1,
$Q_L Q_0^\top = P$. Stationarity is $W_l = (W_L \cdots W_{l+1})^\top M (W_{l-1} \cdots W_1)^\top$ with
$M = \sum_{k, j \ne k} \lambda_{jk} (e_k - e_j) e_k^\top$, $\lambda \ge 0$, all constraints being tight;
$\lambda_{jk} = 1/K$ gives $M = P$, and the right side is $Q_l Q_L^\top P Q_0 Q_{l-1}^\top = Q_l Q_{l-1}^\top$. ∎ So the
theorem on the limit does not decide which rank is found: the path does.

**A code of rank r** that is a tight frame of unit rows, with $1 - \mu = \rho$, gives $Z = W W^\top / \rho$: margin 1, r
singular values $K / (r \rho)$, and

$$c_L = r \left(\frac{K}{r \rho}\right)^{2/L} \lt K - 1 \iff L \gt \frac{2 \log (K / (r \rho))}{\log ((K - 1) / r)} .$$

So the larger the margin at given rank, the cheaper; and $c_L \to r$ as L grows: deep models prefer low rank, and at
that rank large margins. The lowest rank is 2 for $K \ge 3$ (the regular K-gon has a margin). *Rank 1 has none:* if
$z_{jk} = u_j v_k$, sample k is right only if $u_k$ is the one largest entry of u (for $v_k \gt 0$) or the one smallest
($v_k \lt 0$), which leaves at most two classes. ∎
"""


READING = """## What the tables say

- *Depth lowers the rank*, at every K and width here: from the simplex at depth 2 to 2 to 4 at depth 10.
- *So does a small start*, while a wide model stays at higher rank: a product of wide Gaussian factors starts with more
  equal singular values. Small starts go below the rank of least cost: at K = 10, L = 4 and scale 0.25 most runs end at
  rank 2 and cost more than the simplex. So the path decides, not the cost alone. Runs that start smaller still, or
  deeper, wait long at rank 1, which separates no more than two classes.
- *When the low rank appears*: in deep square models mostly while the loss falls from log K to e^-100, and often before
  every sample is right; in wide or shallow ones the last singular values fade slowly, down to e^-1000 and below. The
  direction within the rank goes on moving.
- *Not yet Softmax Codes.* Margins stay below those of the best known code of the same rank, and costs above those of
  the cheapest known code. At small depth the alignment says that the direction has nearly settled, so those with a low
  margin are near other KKT points. At large depth it has not settled: there margins still rise with more steps (last
  table), and these figures are no limits.
"""


def document(plan: Plan, command: str, link: str, figure: Path | None) -> str:
    """Run the plan, draw, and describe."""
    begin = time.perf_counter()
    done: dict[Case, Measured] = {}
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
        f"{plan.seeds} seeds a row, {plan.steps:,} gradient evaluations each, from normal entries of standard "
        "deviation scale / √columns. *Separated*: runs that classify every sample right; the other columns are of "
        "these, medians with the extremes in brackets. *Effective rank*: exponential of the entropy of the singular "
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
        "The same figures by the size of the start.",
        table([done[case] for case in plan.scales]),
    )
    longer = Section(
        f"{LONGER} times as many steps",
        "The same seeds, followed further. The log loss falls about linearly with the steps.",
        table([measure(case, plan.seeds, LONGER * plan.steps) for case in plan.longer]),
    )
    image = f"![Effective rank by depth and by step, and margins against Softmax Codes]({link})\n"
    head = f"# Deep unconstrained feature models\n{THEORY}"
    tail = (
        f"Made by `{command}` in {time.perf_counter() - begin:.0f} s on\n\n{machine()}\n\n"
        "with one thread of PyTorch. Runs are deterministic on one machine; on another, rounding can lead one to "
        "another code.\n"
    )
    parts = [
        head,
        prediction().markdown(),
        measured.markdown(),
        image,
        by_scale.markdown(),
        longer.markdown(),
        READING if plan is FULL else "",
        "## How it was made\n",
        tail,
    ]
    return "\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the document and write it."""
    write_document("deep", "deep-ufm", __doc__, document, FULL, QUICK, arguments)


if __name__ == "__main__":
    main()
