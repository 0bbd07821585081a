"""Common style of all figures: colours that colour-blind readers can distinguish, axes, legends and written files."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from softmaxcode.storage.disk import written_whole

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

#: Suffixes of the files that `save` writes.
SUFFIXES = (".png", ".pdf", ".svg")
#: Pixels per inch of a written ``.png``.
DPI = 150
# Okabe and Ito's palette, with a darker yellow that is visible on white
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PINK, SKY, BROWN, INK = "#CC79A7", "#56B4E9", "#8a6200", "#222222"
#: Colours for series of any kind, used in this order.
COLOURS = (BLUE, ORANGE, GREEN, RED, PINK, SKY, BROWN, INK)
#: One fewer than the colours, so that pairs of colour and marker repeat late.
MARKERS = "osD^vP*"
PURPLE = "#AA3377"
#: The colour of secondary text.
FAINT = "#5f6b76"
GRID = "#e6eaee"


def new_figure(size: tuple[float, float], **options: Any) -> Figure:
    """An empty figure that needs neither pyplot nor closing; ``size`` in inches, other options as of `Figure`."""
    figure = Figure(figsize=size, facecolor="white", **options)
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path | None, dpi: float = DPI) -> None:
    """Write a figure atomically in the format of its suffix; do nothing without a path."""
    if path is not None:
        with written_whole(path) as temporary:
            figure.savefig(temporary, format=path.suffix[1:].lower(), dpi=dpi, facecolor="white")


def remove_frame(axes: Axes) -> None:
    """Keep only the axes on the left and below."""
    axes.spines[["top", "right"]].set_visible(False)


def add_grid(axes: Axes, direction: Literal["both", "x", "y"] = "both") -> None:
    """Remove the frame and draw pale lines behind the data."""
    remove_frame(axes)
    axes.tick_params(labelsize=10.5, colors=INK)
    axes.grid(axis=direction, color=GRID, lw=0.8)
    axes.set_axisbelow(True)


def draw_level(axes: Axes, value: float, label: str | None = None, **style: Any) -> None:
    """Draw a horizontal line, its value in the legend if it has a label; nothing for a value that is not finite."""
    if math.isfinite(value):
        digits = 4 if abs(value) < 10 else 1
        defaults: dict[str, Any] = {"color": INK, "ls": "--", "lw": 1.4}
        axes.axhline(value, label=f"{label}: {value:.{digits}f}" if label else None, **(defaults | style))


def legend_inside(
    axes: Axes, handles: Iterable[Artist], loc: Literal["upper left", "center left"], anchor: tuple[float, float]
) -> None:
    """A legend inside the panel, on a translucent white background."""
    drawn = axes.legend(handles=list(handles), loc=loc, bbox_to_anchor=anchor, fontsize=10.5, labelcolor=INK)
    drawn.get_frame().set(edgecolor="none", facecolor="white", alpha=0.8)


def legend_below(axes: Axes, columns: int, at: float) -> None:
    """A legend below a panel, at that fraction of its height (negative)."""
    axes.legend(frameon=False, fontsize=9, loc="upper center", bbox_to_anchor=(0.5, at), ncols=columns)
