"""GNC1 to GNC3 along a training run, with the theoretical limits as lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from softmaxcode.checks.arguments import shown
from softmaxcode.plotting.style import (
    BLUE,
    COLOURS,
    GREEN,
    INK,
    ORANGE,
    PINK,
    PURPLE,
    RED,
    SUFFIXES,
    legend_below,
    new_figure,
    remove_frame,
    save,
)
from softmaxcode.storage.disk import check_output

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from matplotlib.axes import Axes

_SERIES = {
    "GNC1": BLUE,
    "GNC2": BLUE,
    "certified_margin": ORANGE,
    "GNC3": BLUE,
    "GNC3_centred": PINK,
}
_LABELS = {
    "GNC1": "GNC1",
    "GNC2": "margin ρ(W)",
    "certified_margin": "certified by the loss",
    "GNC3": "about the origin",
    "GNC3_centred": "class means centred",
}
_RANK = GREEN
_LIMITS = [INK, GREEN, RED, PURPLE]
_STYLES = ["--", ":", "-.", (0, (1, 3))]


def plot_collapse(
    history: pd.DataFrame | Mapping[str, pd.DataFrame],
    limits: Mapping[str, float] | None = None,
    path: str | Path | None = None,
) -> Figure:
    """Draw GNC1, the margin (GNC2) and GNC3 against the index of the history, of one run or of several.

    Parameters
    ----------
    history : DataFrame or mapping from str to DataFrame
        One row per measurement, indexed by epoch or step. Columns are as `GeneralizedNeuralCollapse` computes them:
        GNC1, GNC2, GNC3 and optionally GNC3_centred, certified_margin and effective_rank. The effective rank has an
        axis beside GNC1. At an effective rank of 1 a small GNC1 means collapse to a single point, not neural collapse.
        Several runs, by name, are drawn over each other in one colour each; their effective ranks are not drawn.
    limits : mapping, optional
        Name and value of every line to draw in the panel of margins, such as ``{"ρ* (best known)": 0.669}``.
    path : str or Path, optional
        A ``.png``, ``.pdf`` or ``.svg`` file to write, atomically.

    Returns
    -------
    matplotlib.figure.Figure
        It does not use pyplot, so nothing needs to be closed.

    Raises
    ------
    ValueError
        If a history has no rows or lacks a column, there is no run, or the path has another suffix.

    Examples
    --------
    >>> import pandas as pd
    >>> history = pd.DataFrame({"GNC1": [1, 0.1], "GNC2": [0.2, 0.5], "GNC3": [0.5, 0.1]})
    >>> figure = plot_collapse(history.rename_axis("epoch"), {"ρ* (best known)": 0.5528})
    >>> [axes.get_title() for axes in figure.axes]
    ['within-class variability (GNC1)', 'margin (GNC2)', 'self-duality (GNC3)']
    """
    runs = dict(history) if isinstance(history, Mapping) else {"": history}
    if not runs:
        raise ValueError("history must have at least one run; got an empty mapping")
    for name, run in runs.items():
        _check_history(run, f"the history of {shown(name)}" if name else "history")
    target = None if path is None else check_output(path, SUFFIXES)
    figure = new_figure((12, 4.6), layout="constrained")
    first, middle, last = figure.subplots(1, 3)
    _panel(first, runs, ["GNC1"], "within-class variability (GNC1)")
    if len(runs) == 1 and "effective_rank" in (only := next(iter(runs.values()))):
        _draw_rank(first, only["effective_rank"])
    _panel(middle, runs, ["GNC2", "certified_margin"], "margin (GNC2)")
    _panel(last, runs, ["GNC3", "GNC3_centred"], "self-duality (GNC3)")
    _draw_limits(middle, limits or {})
    for axes in (first, last):
        _logarithmic(axes)
    for axes in (middle, last) if len(runs) == 1 else (first, middle, last):
        legend_below(axes, 1, -0.16)
    save(figure, target)
    return figure


def _check_history(history: pd.DataFrame, what: str) -> None:
    """Refuse a table without rows or columns that are drawn."""
    missing = [name for name in ("GNC1", "GNC2", "GNC3") if name not in history]
    if missing or not len(history):
        why = f"it lacks {', '.join(missing)}" if missing else "it has no rows"
        raise ValueError(
            f"{what} must be a table with the columns GNC1, GNC2 and GNC3 and one row per measurement; {why}"
        )


def _panel(axes: Axes, runs: Mapping[str, pd.DataFrame], names: list[str], title: str) -> None:
    """One line for each of the names that is a column of a history; several runs have a colour each."""
    for number, (run, history) in enumerate(runs.items()):
        for name, dashes in zip(names, ("-", "--"), strict=False):
            if name in history:
                label = _LABELS[name] + (": below 0" if (history[name] < 0).all() else "")
                style: dict[str, Any] = {"color": _SERIES[name], "ls": "-"}
                if len(runs) > 1:
                    label = f"{run}, {label}"
                    style = {"color": COLOURS[number % len(COLOURS)], "ls": dashes}
                axes.plot(history.index, history[name], marker="o", ms=3, lw=1.5, label=label, **style)
    history = next(iter(runs.values()))
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(str(history.index.name or "measurement"))
    remove_frame(axes)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_rank(axes: Axes, ranks: pd.Series) -> None:
    """The effective rank of the class means, on its own axis that starts at 0."""
    beside = axes.twinx()
    beside.plot(ranks.index, ranks, "s--", ms=2, lw=1, color=_RANK)
    beside.set_ylim(0, 1.08 * max(1.0, float(ranks.max())))
    beside.set_ylabel("effective rank of the class means", fontsize=9, color=_RANK)
    beside.spines[["top", "left"]].set_visible(False)


def _draw_limits(axes: Axes, limits: Mapping[str, float]) -> None:
    """One line per limit, all inside the panel, whose axis starts at 0: negative limits and certificates mean nothing.

    A limit outside the panel is listed in the legend with its value.
    """
    for i, (name, value) in enumerate(limits.items()):
        style: Any = _STYLES[i % len(_STYLES)]
        axes.axhline(value, ls=style, lw=1.2, color=_LIMITS[i % len(_LIMITS)], label=f"{name}: {value:.4f}")
    highest = max(float(np.nanmax(np.asarray(line.get_ydata(), dtype=float))) for line in axes.lines)
    axes.set_ylim(0, 1.08 * max(highest, 1e-3))


def _logarithmic(axes: Axes) -> None:
    """A logarithmic axis, unless a value is not above 0, as for an exact collapse, or NaN."""
    values = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in axes.lines])
    if (values > 0).all():
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=min(0.0, float(values.min())))
