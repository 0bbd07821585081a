"""Common parts of the studies' figures: axes without a frame, colours, and means with their intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import LogLocator, NullLocator

from experiments.statistics import Interval, mean_interval
from softmaxcode.plotting.style import COLOURS, new_figure, remove_frame

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: The colour and the display name of each head, the same in every figure.
HEAD_COLOURS = dict(zip(("learned", "cmf", "code", "linear"), COLOURS, strict=False))
HEAD_LABELS = {
    "learned": "learned",
    "cmf": "class means (CMF)",
    "code": "fixed code",
    "linear": "linear (unnormalised)",
}


def axes_figure(
    titles: Sequence[str], *, columns: int = 2, width: float = 9.0, height: float = 3.6
) -> tuple[Figure, list[Axes]]:
    """An empty figure with one panel per title.

    Parameters
    ----------
    titles : sequence of str
        One per panel, at least one, row by row.
    columns : int
        The most panels side by side.
    width, height : float
        Width of the figure and height of one row of panels, in inches; 9 inches are 900 pixels of a page.

    Returns
    -------
    figure : matplotlib.figure.Figure
        It does not use pyplot, so nothing needs to be closed.
    axes : list of Axes
        One per title, without a frame at the top and the right.

    Raises
    ------
    ValueError
        If there is no title.

    Examples
    --------
    >>> figure, axes = axes_figure(["GNC1", "GNC2", "GNC3"])
    >>> [panel.get_title() for panel in axes], len(figure.axes)
    (['GNC1', 'GNC2', 'GNC3'], 3)
    """
    if not titles:
        raise ValueError("titles must have at least one entry, one per panel; got none")
    columns = min(columns, len(titles))
    rows = -(-len(titles) // columns)
    figure = new_figure((width, rows * height), layout="constrained")
    panels: list[Axes] = list(figure.subplots(rows, columns, squeeze=False).flat)
    for empty in panels[len(titles) :]:
        empty.remove()
    for axes, title in zip(panels, titles, strict=False):
        axes.set_title(title, fontsize=11)
        remove_frame(axes)
        axes.tick_params(labelsize=9)
    return figure, panels[: len(titles)]


def errorbar_panel(axes: Axes, points: Mapping[float, Interval], label: str | None = None, **style: Any) -> None:
    """A line through means, with a bar for every finite interval.

    Parameters
    ----------
    axes : Axes
    points : mapping
        Interval by its place on the horizontal axis; drawn in increasing order.
    label : str, optional
        Text in the legend.
    **style
        Options of `Axes.errorbar`: ``color``, ``marker``, ``ls`` ...

    Examples
    --------
    >>> from experiments.statistics import mean_interval
    >>> figure, (axes,) = axes_figure(["accuracy"])
    >>> errorbar_panel(axes, {0.1: mean_interval([0.93, 0.95]), 1.0: mean_interval([0.9])}, "learned")
    >>> axes.get_legend_handles_labels()[1]
    ['learned']
    """
    at = sorted(points)
    # a single value has no interval, but is drawn
    half = np.nan_to_num([points[x].half_width for x in at])
    means = [points[x].mean for x in at]
    axes.errorbar(at, means, yerr=half, label=label, **_over(style, marker="o", ms=4, lw=1.5, capsize=3))


def band_panel(axes: Axes, table: pd.DataFrame, label: str | None = None, **style: Any) -> None:
    """A line through the means over the columns, in a band that is their 95 % interval.

    Parameters
    ----------
    axes : Axes
    table : DataFrame
        Its index is the horizontal axis, and each column a seed; NaN stands for a missing measurement.
    label : str, optional
        Text in the legend.
    **style
        Options of `Axes.plot`.

    Notes
    -----
    On a logarithmic axis the interval is that of the logarithms, so set the scale first. An interval of small positive
    numbers themselves would reach below 0. The band is not drawn where a value is not above 0.

    Examples
    --------
    >>> import pandas as pd
    >>> figure, (axes,) = axes_figure(["GNC1"])
    >>> band_panel(axes, pd.DataFrame({0: [0.3, 0.1], 1: [0.2, 0.1]}, index=[5, 10]), "learned")
    >>> len(axes.lines), len(axes.collections)
    (1, 1)
    """
    logarithmic = axes.get_yscale() == "log"
    values = table.to_numpy(dtype=float)
    if logarithmic:
        values = np.log(np.where(values > 0, values, np.nan))
    intervals = [mean_interval(row[np.isfinite(row)]) for row in values]
    numbers = np.array([(one.mean, one.lower, one.upper) for one in intervals]).reshape(-1, 3)
    middle, low, high = (np.exp(numbers) if logarithmic else numbers).T
    (line,) = axes.plot(table.index, middle, label=label, **_over(style, marker="o", ms=3, lw=1.5))
    axes.fill_between(table.index.to_numpy(), low, high, color=line.get_color(), alpha=0.2, lw=0)


def temperature_axis(axes: Axes, temperatures: Iterable[float]) -> None:
    """A logarithmic axis over all temperatures, with decimal tick labels.

    Examples
    --------
    >>> figure, (axes,) = axes_figure(["GNC2"])
    >>> temperature_axis(axes, [0.1, 1])
    >>> [label.get_text() for label in axes.get_xticklabels() if 0.1 <= label.get_position()[0] <= 1]
    ['0.1', '0.2', '0.5', '1']
    """
    temperatures = sorted(temperatures)
    axes.set_xscale("log")
    axes.set_xlim(temperatures[0] / 1.3, 1.3 * temperatures[-1])
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("temperature τ", fontsize=9)


def shared_legend(figure: Figure, columns: int = 4) -> None:
    """One legend of all panels below them, each label once, in at most as many columns as the width allows.

    Examples
    --------
    >>> figure, axes = axes_figure(["a", "b"])
    >>> for panel in axes:
    ...     _ = panel.plot([0, 1], label="learned")
    >>> shared_legend(figure)
    >>> [text.get_text() for text in figure.legends[0].get_texts()]
    ['learned']
    """
    handles = {label: h for axes in figure.axes for h, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    longest = max(map(len, handles), default=0)
    # at this size a letter is about 0.075 inches wide, and a handle as wide as ten letters
    fitting = max(1, int(figure.get_figwidth() / (0.075 * (longest + 10))))
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside lower center",
        ncols=min(columns, fitting),
        frameon=False,
        fontsize=9,
    )


def _over(style: dict[str, Any], **defaults: Any) -> dict[str, Any]:
    """The given style, with defaults for the options that it lacks."""
    return defaults | style
