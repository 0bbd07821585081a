"""The best known margins against the number of classes, one panel per dimension, with the bounds."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from softmaxcode.bounds.levenshtein_bound import levenshtein
from softmaxcode.bounds.volume_bound import volume
from softmaxcode.catalog import installed
from softmaxcode.checks.arguments import check_integer, check_list
from softmaxcode.exact import best, constructions
from softmaxcode.plotting.style import (
    BLUE,
    FAINT,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    RED,
    SUFFIXES,
    add_grid,
    new_figure,
    save,
)
from softmaxcode.storage.disk import check_output

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: (K, d): the "optimal margin" lines that Jiang et al. (arXiv 2310.05351) compare trained networks with. They are from
#: 100,000 steps of projected subgradient descent on HardMax (10 steps on Tammes for K = 10,000).
PAPER_LINES = {
    (100, 10): 0.61416,
    (100, 20): 0.8124,
    (100, 30): 0.8886,
    (200, 10): 0.5052,
    (200, 20): 0.7211,
    (200, 30): 0.8053,
    (1000, 512): 0.9150,
    (10000, 512): 0.8627,
    (10000, 2048): 0.93829,
}
#: Exact codes with more vectors than this do not extend the range of a panel.
WIDEST = 1000
#: Number of values of K at which the curve of a bound is evaluated.
SAMPLES = 60
#: Exact codes are named if a panel has at most this many and no name would cover another. Sections of the Leech lattice
#: are not: they are many, and their names repeat K and d.
MAX_NAMED = 16
UNNAMED = "Leech-section"
#: The largest dimension (its exact families are listed in seconds), and the most panels.
MAX_DIMENSION = 100_000
MAX_PANELS = 60
#: The most panels in one row.
COLUMNS = 3
#: Margins closer than this count as equal.
SAME = 1e-9
_STORED = BLUE
_EXACT = ORANGE
_PAPER = PURPLE
_UPPER = RED
_LOWER = GREEN


class ExactPoint(NamedTuple):
    """An exact code of K vectors, and a lower bound on its margin."""

    K: int
    margin: float
    name: str


@dataclass(frozen=True, eq=False)
class Panel:
    """The data of one panel.

    Attributes
    ----------
    d : int
        The dimension.
    stored : dict
        The best margin in the catalogue by K.
    exact : list of ExactPoint
        Exact codes in d dimensions or fewer, by K. None is surpassed by a known code with as many classes or more.
    paper : dict
        The paper's line and the best known margin, by K.
    classes : (int, int)
        The smallest and largest K shown.
    """

    d: int
    stored: dict[int, float]
    exact: list[ExactPoint]
    paper: dict[int, tuple[float, float | None]]
    classes: tuple[int, int]


def panel(d: int, max_classes: int | None = None) -> Panel:
    """Collect the data in d dimensions: the installed catalogue, the exact families, the paper's lines.

    Parameters
    ----------
    d : int
        Dimension, at least 3.
    max_classes : int, optional
        The largest K shown. By default it is that of the catalogue and the paper, or of an exact code of at most 1000
        vectors if that is larger.

    Returns
    -------
    Panel

    Raises
    ------
    ValueError
        If d < 3, or max_classes does not exceed d + 1.

    Examples
    --------
    >>> [point.name for point in panel(3).exact if point.K >= 12]
    ['icosahedron', 'snub-cube']
    """
    d = check_integer("a dimension of the landscape", d, 3, MAX_DIMENSION)
    if max_classes is not None:
        max_classes = check_integer("max_classes", max_classes, d + 2)
    with installed() as catalog:
        entries = [] if catalog is None else catalog.entries()
    stored = {e.K: e.margin for e in entries if e.d == d and e.objective == "softmax"}
    paper = {K: value for (K, dimension), value in PAPER_LINES.items() if dimension == d}
    # a code in fewer dimensions is also one in d
    known = itertools.chain.from_iterable(constructions(n) for n in range(2, d + 1))
    found = [ExactPoint(c.K, 1 - c.max_cosine, c.name) for c in known if c.K > 2 * d]
    if max_classes is None:
        sizes = [*stored, *paper, *(point.K for point in found if point.K <= WIDEST)]
        max_classes = max([2 * d, *sizes])
    simple = [(d + 1, (d + 1) / d, "simplex"), (2 * d, 1.0, "cross-polytope")]
    exact = unsurpassed([ExactPoint(*point) for point in simple] + found, stored)
    return Panel(
        d,
        {K: stored[K] for K in sorted(stored) if K <= max_classes},
        [point for point in exact if point.K <= max_classes],
        {K: (paper[K], _best_margin(K, d, stored)) for K in sorted(paper) if K <= max_classes},
        (d + 1, max_classes),
    )


def unsurpassed(points: list[ExactPoint], stored: dict[int, float]) -> list[ExactPoint]:
    """The exact codes that are the best at their K; a subset of a code never has a smaller margin."""
    kept: list[ExactPoint] = []
    ceiling = -np.inf
    for point in sorted(points, key=lambda p: (-p.K, -p.margin, p.name)):
        above = max((margin for K, margin in stored.items() if K >= point.K), default=-np.inf)
        if point.margin > ceiling + SAME and point.margin >= above - SAME:
            kept.append(point)
        ceiling = max(ceiling, point.margin)
    return kept[::-1]


def _best_margin(K: int, d: int, stored: dict[int, float]) -> float | None:
    """The best margin of the catalogue and the exact families, closed forms included; None if there is none."""
    known = best(K, d)
    candidates = [] if known is None else [1 - known.max_cosine]
    if K in stored:
        candidates.append(stored[K])
    return max(candidates, default=None)


def plot_landscape(dims: Sequence[int], path: str | Path | None = None, *, max_classes: int | None = None) -> Figure:
    """Draw the best known margins against the number of classes, one panel per dimension, without any search.

    Parameters
    ----------
    dims : sequence of int
        Dimensions, each at least 3.
    path : path, optional
        Write the figure there as well: ``.png``, ``.pdf`` or ``.svg``. An existing file is replaced atomically.
    max_classes : int, optional
        The largest K shown. By default it is that of the catalogue and the paper, or of an exact code of at most 1000
        vectors if that is larger.

    Returns
    -------
    matplotlib.figure.Figure
        One axes object per dimension, labelled ``"d=3"`` and so on. Both axes are logarithmic. Each panel shows

        * the margins of the installed catalogue;
        * the exact codes that no known code surpasses, by name where they are few;
        * the volume bound, a lower bound on the best margin;
        * Levenshtein's bound on 1 - mu, which no packing can exceed. Whether margins can is open (docs/theory.md, T7);
        * the lines that Jiang et al. (2023) compared trained networks with, beside ours.

    Raises
    ------
    ValueError
        If there is no dimension or one below 3, the suffix is another one, or the folder does not exist.

    Examples
    --------
    >>> import softmaxcode as sc
    >>> figure = sc.plot_landscape([3, 4])
    >>> [axes.get_label() for axes in figure.axes]
    ['d=3', 'd=4']
    """
    target = None if path is None else check_output(path, SUFFIXES)
    wanted = dict.fromkeys(
        check_integer("a dimension of the landscape", d, 3, MAX_DIMENSION) for d in check_list("dims", dims)
    )
    if len(wanted) > MAX_PANELS:
        raise ValueError(f"a landscape has at most {MAX_PANELS} panels, one per dimension; got {len(wanted)}")
    panels = [panel(d, max_classes) for d in wanted]
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure((max(6.0, 4.6 * columns), 0.75 + 4.1 * rows), dpi=100, layout="constrained")
    grid = figure.add_gridspec(rows, columns)
    for i, shown in enumerate(panels):
        _draw(figure.add_subplot(grid[i // columns, i % columns], label=f"d={shown.d}"), shown)
    _write_legend(figure, panels)
    figure.draw_without_rendering()  # the final layout decides which names fit
    for axes, shown in zip(figure.axes, panels, strict=True):
        named = [point for point in shown.exact if not point.name.startswith(UNNAMED)]
        if len(named) <= MAX_NAMED:
            _name_exact(figure, axes, named)
    save(figure, target)
    return figure


def _draw(axes: Axes, shown: Panel) -> None:
    low, high = shown.classes
    sampled = np.unique(np.geomspace(low, high, SAMPLES).round().astype(int))
    above = [1 - levenshtein(int(K), shown.d).value for K in sampled]
    below = [volume(int(K), shown.d).margin_lower for K in sampled]
    axes.fill_between(sampled, below, above, color="#f4f6f8", zorder=0, linewidth=0)
    axes.plot(sampled, above, color=_UPPER, lw=1.5, ls=(0, (5, 2)), zorder=2)
    axes.plot(sampled, below, color=_LOWER, lw=1.5, ls=(0, (1.5, 1.5)), zorder=2)
    axes.plot(list(shown.stored), list(shown.stored.values()), ls="none", marker="o", ms=3.6, color=_STORED, zorder=4)
    axes.plot(
        [point.K for point in shown.exact],
        [point.margin for point in shown.exact],
        ls="none",
        marker="D",
        ms=7,
        color=_EXACT,
        markeredgecolor=INK,
        markeredgewidth=0.7,
        zorder=5,
    )
    for K, (value, ours) in shown.paper.items():
        axes.plot([K], [value], ls="none", marker="v", ms=7, color=_PAPER, zorder=6)
        if ours is not None:
            axes.plot([K, K], [value, ours], color=_PAPER, lw=1.4, zorder=3)
            axes.plot([K], [ours], ls="none", marker="o", ms=5, color=_STORED, zorder=6)
    _style(axes, shown, min(below), max(above))
    _write_paper(axes, shown)


def _style(axes: Axes, shown: Panel, low: float, high: float) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    first, last = shown.classes
    axes.set_xlim(first / 1.08, last * (last / first) ** 0.26)
    beneath = 0.05 + 0.09 * (len(shown.paper) + 1 if shown.paper else 0)  # room for the paper's values
    axes.set_ylim(low / (high / low) ** beneath, high * (high / low) ** 0.25)
    for axis, ticks in ((axes.xaxis, round_ticks(first, last)), (axes.yaxis, round_ticks(*axes.get_ylim()))):
        axis.set_major_locator(FixedLocator(ticks))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.10g}"))
    add_grid(axes)
    axes.set_title(f"d = {shown.d}", size=12.5, color=INK, loc="right")
    axes.set_xlabel("classes K", size=11, color=INK, labelpad=2)
    axes.set_ylabel("margin", size=11, color=INK)


def round_ticks(low: float, high: float) -> list[float]:
    """Round numbers in a range: powers of ten, or the coarsest finer ones of which there are four."""
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    ticks: list[float] = []
    for digits in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)):
        ticks = [float(f"{digit}e{n}") for n in decades for digit in digits]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) >= 4:
            break
    return ticks


def _write_paper(axes: Axes, shown: Panel) -> None:
    """Write the paper's values beside ours, below the curves, where the panel is empty."""
    lines = []
    for K, (value, ours) in shown.paper.items():
        lines.append(f"K = {K:,}: {value:.4f}, " + ("none stored" if ours is None else f"ours {ours:.4f}"))
    if lines:
        text = "Jiang et al. (2023)\n" + "\n".join(lines)
        axes.text(0.04, 0.05, text, transform=axes.transAxes, size=10, color=_PAPER, va="bottom", linespacing=1.35)


def _name_exact(figure: Figure, axes: Axes, exact: list[ExactPoint]) -> None:
    """Write slanted names from the markers upward, above all curves; omit a name that would cover another."""
    written: list[np.ndarray] = []
    points = 72 / figure.dpi
    edge = axes.get_window_extent().x1 * points
    for point in exact:
        place = axes.transData.transform((point.K, point.margin)) * points
        if any(abs(place[0] - other[0]) < 14 and abs(place[1] - other[1]) < 60 for other in written):
            continue
        # letters are about 5 points wide, and names are slanted by 45 degrees, towards the side with more room
        width = 3.5 * len(point.name)
        fits = place[0] + width < edge
        if not fits and any(place[0] - other[0] < 2 * width for other in written):
            continue  # slanted to the left it would cross their names
        written.append(place)
        axes.annotate(
            point.name,
            (point.K, point.margin),
            xytext=(3 if fits else -3, 7),
            textcoords="offset points",
            rotation=45 if fits else -45,
            rotation_mode="anchor",
            ha="left" if fits else "right",
            va="bottom",
            size=9,
            color=FAINT,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
            zorder=7,
        ).set_in_layout(False)  # otherwise names would increase the distance between panels


def _write_legend(figure: Figure, panels: list[Panel]) -> None:
    """One legend for all panels, of the kinds of data that occur."""
    handles = [
        Line2D([], [], color=_UPPER, lw=1.8, ls=(0, (5, 2)), label="Levenshtein: no packing has a larger $1-\\mu$"),
        Line2D([], [], color=_LOWER, lw=1.8, ls=(0, (1.5, 1.5)), label="volume: the best margin is no smaller"),
    ]
    if any(shown.stored or shown.paper for shown in panels):
        handles.append(Line2D([], [], ls="none", marker="o", ms=5, color=_STORED, label="best margin stored"))
    handles.append(Line2D([], [], ls="none", marker="D", ms=7, color=_EXACT, markeredgecolor=INK, label="exact code"))
    if any(shown.paper for shown in panels):
        label = "Jiang et al. (2023), and from it to ours"
        handles.append(Line2D([], [], color=_PAPER, lw=1.4, marker="v", ms=7, label=label))
    for columns in (3, 2, 1):
        legend = figure.legend(
            handles=handles,
            loc="outside lower center",
            ncols=min(len(handles), columns),
            frameon=False,
            fontsize=11,
            labelcolor=INK,
        )
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            return
        legend.remove()
