"""The margin of each class, sorted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.collections import PolyCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from softmaxcode.plotting.kinds import BOTH, SOFTMAX, point_handle, write_panel
from softmaxcode.plotting.style import FAINT, GREEN, INK, add_grid, legend_inside

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

    from softmaxcode.code import SoftmaxCode
    from softmaxcode.plotting.kinds import Derived, Kind
    from softmaxcode.types import PerClass


#: The margin axis starts above zero if all margins are within this fraction of the largest.
ZOOM_BELOW = 0.3


def draw_margins(axes: Axes, code: SoftmaxCode, known: Derived, groups: list[tuple[Kind, np.ndarray]]) -> None:
    """One bar per class in increasing order, with lines at the smallest margin and at 1 - mu."""
    add_grid(axes, "y")
    axes.set_title("Margin of each class, sorted", size=12.5, color=INK, loc="left")
    if known.margins is None:
        write_panel(axes, known.margins_reason)
        return
    margins = known.margins
    order = np.argsort(margins, kind="stable")
    # equal margins: the rattlers last, so that each kind stands together
    if known.softmax is not None and known.tammes is not None:
        order = np.lexsort((margins, known.tammes & ~known.softmax, known.softmax))
    at = np.empty(code.K, dtype=np.int64)
    at[order] = np.arange(code.K)
    packing = 1 - code.max_cosine
    low, high = min(packing, float(margins.min())), float(margins.max())
    zoomed = 1e-4 * high < high - low < ZOOM_BELOW * high
    bottom = low - 0.35 * (high - low) if zoomed else 0.0
    ceiling = high + 1.15 * (high - low) if zoomed else 1.75 * high
    handles = _draw_bars(axes, margins, order, at, bottom, groups)
    axes.axhline(code.margin, color=INK, lw=1.6, zorder=4)
    axes.axhline(packing, color=GREEN, lw=1.6, zorder=5, ls=(0, (3, 3)))
    handles.append(Line2D([], [], color=INK, lw=1.6, label=f"smallest margin = {code.margin:.6g}"))
    handles.append(Line2D([], [], color=GREEN, lw=1.8, ls=(0, (3, 3)), label=f"$1 - \\mu$ = {packing:.6g}"))
    axes.set_xlim(-0.5 - 0.02 * code.K, code.K - 0.5 + 0.02 * code.K)
    axes.set_ylim(bottom, ceiling if high > 0 else 1.0)
    if high <= 0:
        axes.text(0.5, 0.25, "every margin is 0", transform=axes.transAxes, ha="center", size=11, color=FAINT)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("classes, smallest margin first", size=11, color=INK, labelpad=2)
    axes.set_ylabel("margin (axis starts above 0)" if zoomed else "margin", size=11, color=INK)
    free = [] if known.softmax is None else [int(k) for k in order if known.softmax[k]]
    if 0 < len(free) <= 4:  # more labels would overlap the legend; the header names the classes
        axes.annotate(
            ", ".join(map(str, free)),
            (code.K - 0.5 + 0.02 * code.K, high),
            xytext=(-2, 8),
            textcoords="offset points",
            ha="right",
            va="bottom",
            size=11.5,
            weight="bold",
            color=BOTH.ink if any(kind is BOTH for kind, _ in groups) else SOFTMAX.ink,
        )
    legend_inside(axes, handles, "upper left", (0.0, 1.02))


def _draw_bars(
    axes: Axes,
    margins: PerClass,
    order: np.ndarray,
    at: np.ndarray,
    bottom: float,
    groups: list[tuple[Kind, np.ndarray]],
) -> list[Artist]:
    """Draw one bar per class at its place ``at``, from ``bottom``, with rattlers marked; returns legend entries."""
    K = len(margins)
    handles: list[Artist] = []
    for kind, members in groups:
        half = 0.42 if K <= 150 else 0.5
        corners = np.array([[-half, 0.0], [-half, 1.0], [half, 1.0], [half, 0.0]])
        bars = np.empty((len(members), 4, 2))
        bars[:, :, 0] = at[members, None] + corners[None, :, 0]
        bars[:, :, 1] = bottom + corners[None, :, 1] * (margins[members, None] - bottom)
        shape = PolyCollection(
            list(bars),
            facecolors=kind.bar_colour,
            edgecolors="white" if kind.rattles else kind.bar_colour,  # the colour of the hatch
            linewidths=0.0,
            hatch=kind.hatch if K <= 150 and kind.rattles else None,
            zorder=2,
        )
        shape.set_rasterized(K > 2000)
        axes.add_collection(shape, autolim=False)
        if kind.rattles:
            x = np.sort(at[members])[:: -(-len(members) // 40)]  # at most 40 markers, evenly along the bars
            axes.scatter(
                x,
                margins[order[x]],
                s=48,
                marker=kind.marker,
                color=kind.colour,
                edgecolors=INK,
                linewidths=0.8,
                zorder=6,
            )
            handles.append(point_handle(kind, len(members)))
        else:
            handles.append(Patch(facecolor=kind.bar_colour, label=f"{kind.name}: {len(members):,}"))
    return handles
