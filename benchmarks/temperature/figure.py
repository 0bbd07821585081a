"""The figure: deficits over temperatures, bounds, and self-duality."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.temperature.runs import SAME_MARGIN
from softmaxcode.plotting.style import new_figure, save

if TYPE_CHECKING:
    from benchmarks.temperature.runs import MeasuredCase


#: Fractions of the best margin in the summary.
FRACTIONS = (0.99, 0.999)


def draw(measured: Sequence[MeasuredCase], path: Path) -> None:
    """Deficit over temperature, with c; deficit of the last case with the bounds; GNC3 and projections."""
    figure = new_figure((14, 4.6), dpi=100, layout="constrained")
    rate, bounds, duality = figure.subplots(1, 3)
    last = measured[-1]
    for i, each in enumerate(each for each in measured if each is not last and each.constants.margin > SAME_MARGIN):
        color, taus = f"C{i}", np.array(list(each.lowest))
        rate.plot(taus, each.deficits / taus, "o-", ms=3.5, lw=1.2, color=color, label=str(each.case))
        rate.axhline(each.constants.margin, color=color, lw=0.8, ls=":")
        bounds.plot(taus, each.deficits / each.optimum, lw=1, color=color, alpha=0.7)
        gnc3 = [max(abs(run.final.GNC3), 1e-16) for run in each.lowest.values()]
        duality.plot(taus, [max(run.projection_distance, 1e-16) for run in each.lowest.values()], lw=1.2, color=color)
        duality.plot(taus, gnc3, "o", ms=3.5, color=color)
    taus = np.array(list(last.lowest))
    fine = np.geomspace(taus.min(), taus.max(), 200)
    black = {"color": "black", "lw": 1.4}
    bounds.plot(taus, last.deficits / last.optimum, "o-", ms=4, label=f"measured, {last.case}", **black)
    bounds.plot(fine, last.constants.margin * fine / last.optimum, "--", label=f"T10, {last.case}", **black)
    bounds.plot(fine, [last.bound(t) / last.optimum for t in fine], ":", label=f"T6 (c), {last.case}", **black)
    for fraction in FRACTIONS:
        bounds.axhline(1 - fraction, color="#9aa5b1", lw=0.8)
        bounds.text(taus.max(), 1 - fraction, f"{fraction:.1%}", ha="right", va="bottom", color="#5f6b76")
    bounds.set(yscale="log", ylim=(1e-6, 3), ylabel="deficit / ρ*", title="Fraction of the best margin that is lost")
    rate.set(ylabel="(ρ* − ρ(W)) / τ", ylim=(0, 1), title="Deficit in temperatures; dotted: c of T10")
    duality.set(yscale="log", ylabel="1 − cosine, mean over classes", title="Features from projections; dots: GNC3")
    rate.legend(frameon=False, ncols=2, fontsize=8)
    bounds.legend(frameon=False, fontsize=8, loc="lower right")
    for axes in (rate, bounds, duality):
        axes.set(xscale="log", xlabel="temperature τ")
        axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    save(figure, path)
