"""The cosines of all pairs, sorted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from softmaxcode.plotting.kinds import CONTACT, write_panel
from softmaxcode.plotting.style import INK, add_grid, legend_inside

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

    from softmaxcode.code import SoftmaxCode
    from softmaxcode.plotting.kinds import Derived
    from softmaxcode.types import Rows


#: The spectrum stores at most this many cosines, the largest; all pairs of 2000 classes fit.
MAX_COSINES = 2_000_000
#: Ranks up to this one are all drawn, and of the later ones as many again, evenly spaced on the logarithmic axis.
ALL_RANKS = 5_000


def largest_pair_cosines(W: Rows, keep: int, level: float, tile: int = 512) -> tuple[np.ndarray, int]:
    """The ``keep`` largest cosines of pairs i < j in decreasing order, and the number of pairs that reach ``level``.

    Rows are processed in tiles, so K x K numbers are never stored.
    """
    kept = np.empty(0)
    reached = 0
    for start in range(0, len(W), tile):
        C = W[start : start + tile] @ W[start:].T
        fresh = C[np.arange(C.shape[1])[None, :] > np.arange(len(C))[:, None]]
        reached += int((fresh >= level).sum())
        if len(kept) == keep:
            fresh = fresh[fresh > kept.min()]
        kept = np.concatenate([kept, fresh])
        if len(kept) > keep:
            kept = np.partition(kept, len(kept) - keep)[len(kept) - keep :]
    return np.sort(kept)[::-1], reached


def drawn_ranks(count: int) -> np.ndarray:
    """Ranks from 1 to draw: all up to `ALL_RANKS`, then as many again at even steps of the logarithm."""
    if count <= 2 * ALL_RANKS:
        return np.arange(1, count + 1)
    greedy_subset = np.geomspace(ALL_RANKS + 1, count, ALL_RANKS).astype(np.int64)
    return np.unique(np.concatenate([np.arange(1, ALL_RANKS + 1), greedy_subset, [count]]))


def draw_spectrum(axes: Axes, code: SoftmaxCode, known: Derived) -> None:
    """Cosines of pairs in decreasing order over their rank."""
    add_grid(axes, "y")
    pairs = code.K * (code.K - 1) // 2
    if known.spectrum_reason or known.threshold is None:
        axes.set_title("Cosines of all pairs", size=12.5, color=INK, loc="left")
        write_panel(axes, known.spectrum_reason)
        return
    top = code.max_cosine
    cosines, contacts = largest_pair_cosines(code.W, MAX_COSINES, top - known.threshold)
    ranks = drawn_ranks(len(cosines))
    drawn = cosines[ranks - 1]
    title = f"Cosines of all {pairs:,} pairs, sorted" if pairs > 1 else "Cosine of the only pair"
    if len(cosines) < pairs:
        title = f"Largest {len(cosines):,} of {pairs:,} cosines, sorted"
    drawn_words = f"logarithmic; {len(ranks):,} drawn" if len(ranks) < len(cosines) else "logarithmic"
    axes.set_title(title, size=12.5, color=INK, loc="left")
    touching = ranks <= contacts
    axes.axhline(top, color=INK, lw=1.1, ls="--", zorder=2)
    axes.scatter(ranks[~touching], drawn[~touching], s=9, color="#7f8c99", linewidths=0, zorder=3, rasterized=True)
    axes.scatter(ranks[touching], drawn[touching], s=26, marker="D", color=CONTACT, linewidths=0, zorder=4)
    axes.set_xscale("log")
    axes.set_xlim(0.8, 1.25 * max(len(cosines), 4))
    if len(cosines) <= 100:
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    low = float(drawn.min())
    span = max(top - low, 0.5)  # in a simplex all cosines are equal
    axes.set_ylim(top - 1.08 * span, top + 0.12 * span)
    axes.set_yticks(
        [y for y in axes.get_yticks() if top - 1.08 * span <= y <= top + 0.12 * span and abs(y) <= 1 + 1e-9]
    )
    axes.set_xlabel(f"rank of the pair ({drawn_words})", size=11, color=INK, labelpad=2)
    axes.set_ylabel("cosine", size=11, color=INK)
    handles: list[Artist] = [
        Line2D([], [], ls="none", marker="D", ms=5, color=CONTACT, label=f"contacts: {contacts:,}"),
        Line2D([], [], color=INK, lw=1.1, ls="--", label=f"largest cosine $\\mu$ = {top:.6g}"),
    ]
    if contacts < pairs:
        said = f"other pairs, from {code.certificate.next_gap:.2g} below"
        handles.insert(1, Line2D([], [], ls="none", marker="o", ms=4, color="#7f8c99", label=said))
    if known.ambiguous:
        handles.insert(2, Patch(facecolor="none", label="so close that contacts may be miscounted"))
    legend_inside(axes, handles, "center left", (0.0, 0.42))
