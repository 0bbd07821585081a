"""Figures of a run along its steps and of a sweep along its temperatures, with the theoretical limits as lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from softmaxcode.plotting.style import (
    BLUE,
    COLOURS,
    GREEN,
    INK,
    MARKERS,
    ORANGE,
    PINK,
    RED,
    SUFFIXES,
    draw_level,
    legend_below,
    new_figure,
    remove_frame,
    save,
)
from softmaxcode.storage.disk import check_output
from ufm.run import Run

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Smaller distances, 0 among them, are drawn as this on logarithmic axes: it is 0 up to the rounding of unit vectors.
FLOOR = 1e-16
#: Columns that a table must have to be drawn as a sweep.
SWEEP_COLUMNS = ("K", "d", "temperature", "GNC1", "GNC2", "GNC3", "best_known", "minimizer_bound")
#: Columns that distinguish the lines of a sweep: always K and d, the others where a table has several values.
FAMILY = ("K", "d", "n", "objective", "optimizer", "steps")
_FAMILY_LABELS = {"K": "K = {}", "d": "d = {}", "n": "n = {:g}", "steps": "{} steps"}


def plot_run(run: Run, path: str | Path | None = None) -> Figure:
    """Draw the history of a run against the steps: its loss, GNC1, the margin with its bounds, and GNC3.

    Parameters
    ----------
    run : Run
        From `ufm.simulate`.
    path : path, optional
        A ``.png``, ``.pdf`` or ``.svg`` file to write. An existing file is replaced atomically.

    Returns
    -------
    matplotlib.figure.Figure
        It does not use pyplot, so nothing needs to be closed. Axes are labelled ``"loss"`` (and ``"temperature"`` on
        its right where that changes), ``"GNC1"``, ``"GNC2"`` and ``"GNC3"``. Lines in the panel of margins show the
        best known margin and the bound of global minimisers (docs/theory.md, T6 (c)) at the last temperature. The panel
        starts at 0, and a line below it is only in the legend.

    Raises
    ------
    ValueError
        If ``run`` is not a Run or has no history, the suffix is another one, or the folder does not exist.

    Examples
    --------
    >>> import ufm
    >>> figure = plot_run(ufm.simulate(K=6, d=3, n=2, temperature=0.1, steps=100))
    >>> [axes.get_label() for axes in figure.axes]
    ['loss', 'GNC1', 'GNC2', 'GNC3']
    """
    if not isinstance(run, Run):
        raise ValueError(f"run must be a ufm.Run; got {type(run).__name__}")
    if not len(run.history):
        raise ValueError("the history of the run must have at least one row; it has none")
    target = None if path is None else check_output(path, SUFFIXES)
    history, settings = _from_floor(run.history), run.settings
    figure, panels = _figure((12, 8.4), [["loss", "GNC1"], ["GNC2", "GNC3"]])

    _lines(panels["loss"], history, {"log_loss": ("log L", BLUE)})
    panels["loss"].set_title("cross-entropy, log L")
    if history["temperature"].nunique() > 1:
        _temperature(panels["loss"], history)

    _lines(panels["GNC1"], history, {"GNC1": ("GNC1", BLUE)})
    panels["GNC1"].set_title("variability within classes (GNC1)")

    margins = {
        "GNC2": ("margin ρ(W)", BLUE),
        "feature_margin": ("margin of the features", GREEN),
        "certified_margin": ("certified by the loss", ORANGE),
    }
    _lines(panels["GNC2"], history, margins)
    panels["GNC2"].set_title("margin (GNC2)")
    draw_level(panels["GNC2"], run.best_known, run.best_known_label, color=INK, ls="--")
    draw_level(panels["GNC2"], run.minimizer_bound, "bound of global minimisers (T6 (c))", color=RED, ls=":")
    _from_zero(panels["GNC2"])

    distances = {"GNC3": ("about the origin", BLUE), "GNC3_centred": ("class means centred", PINK)}
    _lines(panels["GNC3"], history, distances)
    panels["GNC3"].lines[-1].set_linestyle("--")  # the two often agree
    panels["GNC3"].set_title("self-duality (GNC3)")

    for name in ("GNC1", "GNC3"):
        _logarithmic(panels[name])
    for axes in panels.values():
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for name in ("GNC2", "GNC3"):
        legend_below(panels[name], 2, -0.13)
    features = settings.n if isinstance(settings.n, int) else f"{min(settings.counts)} to {max(settings.counts)}"
    figure.suptitle(
        f"K = {settings.K}, d = {settings.d}, n = {features}, τ = {settings.temperature:g}, seed {settings.seed}: "
        f"{settings.objective}, {settings.optimizer}" + ("" if settings.spherical else ", free model"),
        fontsize=12,
    )
    save(figure, target)
    return figure


def plot_sweep(table: pd.DataFrame, path: str | Path | None = None) -> Figure:
    """Draw a sweep: the margin (GNC2), GNC1 and GNC3 at the end of its runs, against the temperature.

    The figure is the paper's Figure B.4 with the bounds added: the margin grows towards the best known one as the
    temperature falls.

    Parameters
    ----------
    table : DataFrame
        From `ufm.sweep`, or several such tables concatenated.
    path : path, optional
        A ``.png``, ``.pdf`` or ``.svg`` file to write. An existing file is replaced atomically.

    Returns
    -------
    matplotlib.figure.Figure
        It does not use pyplot. Axes are labelled ``"GNC2"``, ``"GNC1"`` and ``"GNC3"``. Each (K, d) has a colour. A
        line connects the medians over the seeds, in a band from the smallest to the largest value. The panel of
        margins, which starts at 0, also shows two references where they exist. One is the best known margin (dashed),
        the other the bound of global minimisers at these temperatures (docs/theory.md, T6 (c), dotted). Where the table
        has several n, objectives, optimisers or numbers of steps, each has its own lines.

    Raises
    ------
    ValueError
        If the table has no rows or lacks a column, the suffix is another one, or the folder does not exist.

    References
    ----------
    Jiang et al., ICML 2024 (arXiv:2310.05351), Figure B.4.

    Examples
    --------
    >>> import ufm
    >>> table = ufm.sweep(K=6, d=[2, 3], temperature=[0.1, 0.02], seeds=2, n=1, steps=100)
    >>> [text.get_text() for text in plot_sweep(table).axes[0].get_legend().get_texts()][:2]
    ['K = 6, d = 2', 'K = 6, d = 3']
    """
    _check_sweep(table)
    target = None if path is None else check_output(path, SUFFIXES)
    figure, panels = _figure((12, 6.4), [["GNC2", "GNC1"], ["GNC2", "GNC3"]], width_ratios=[1.5, 1])
    kept = [name for name in FAMILY if name in ("K", "d") or (name in table and table[name].nunique() > 1)]
    for i, (values, family) in enumerate(_from_floor(table).groupby(kept, sort=False)):
        colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
        label = ", ".join(_FAMILY_LABELS.get(name, "{}").format(v) for name, v in zip(kept, values, strict=True))
        _temperature_series(panels["GNC2"], family, "GNC2", colour, marker, label)
        for name in ("GNC1", "GNC3"):
            _temperature_series(panels[name], family, name, colour, marker)
        draw_level(panels["GNC2"], float(family["best_known"].iloc[0]), "", color=colour, ls="--")
        bound = family.dropna(subset="minimizer_bound").groupby("temperature")["minimizer_bound"].min()
        panels["GNC2"].plot(bound.index, bound, ":", lw=1.4, color=colour)
    for ls, meaning in (("--", "best known margin"), (":", "bound of global minimisers (T6 (c))")):
        panels["GNC2"].plot([], [], ls=ls, lw=1.4, color=INK, label=meaning)
    for name, title in {
        "GNC2": "margin ρ(W) (GNC2)",
        "GNC1": "variability within classes (GNC1)",
        "GNC3": "self-duality (GNC3)",
    }.items():
        panels[name].set_title(title)
        panels[name].set_xscale("log")
        panels[name].set_xlabel("temperature τ")
    _from_zero(panels["GNC2"])
    for name in ("GNC1", "GNC3"):
        _logarithmic(panels[name])
    legend_below(panels["GNC2"], 3, -0.09)
    save(figure, target)
    return figure


def _check_sweep(table: Any) -> None:
    if not isinstance(table, pd.DataFrame):
        raise ValueError(f"table must be a DataFrame that ufm.sweep returned; got {type(table).__name__}")
    missing = [name for name in SWEEP_COLUMNS if name not in table]
    if missing or not len(table):
        what = f"it lacks {', '.join(missing)}" if missing else "it has no rows"
        raise ValueError(f"table must be one that ufm.sweep returned, with one row per run; {what}")


def _figure(size: tuple[float, float], mosaic: list[Any], **options: Any) -> tuple[Figure, dict[str, Axes]]:
    """An empty figure and its axes by their labels."""
    figure = new_figure(size, layout="constrained")
    panels: dict[str, Axes] = figure.subplot_mosaic(mosaic, **options)
    for axes in panels.values():
        remove_frame(axes)
        axes.title.set_fontsize(11)
    return figure, panels


def _lines(axes: Axes, history: pd.DataFrame, series: dict[str, tuple[str, str]]) -> None:
    """One line per column with numbers; off the sphere there is no certified margin."""
    for name, (label, colour) in series.items():
        if history[name].notna().any():
            unseen = ": below 0" if (history[name].dropna() < 0).all() else ""
            axes.plot(history["step"], history[name], "o-", ms=3, lw=1.5, color=colour, label=label + unseen)


def _temperature(axes: Axes, history: pd.DataFrame) -> None:
    """The annealed temperature, on its own axis at the right."""
    right = axes.twinx()
    right.set_label("temperature")
    right.plot(history["step"], history["temperature"], "--", lw=1.5, color=ORANGE)
    right.set_yscale("log")
    right.set_ylabel("temperature τ", color="#9a6700")
    right.spines["top"].set_visible(False)
    axes.set_ylabel("log L", color=BLUE)


def _temperature_series(
    axes: Axes, family: pd.DataFrame, name: str, colour: str, marker: str, label: str | None = None
) -> None:
    """Medians over the seeds, in a band from the smallest to the largest value."""
    seeds = family.groupby("temperature")[name]
    low, middle, high = seeds.min(), seeds.median(), seeds.max()
    axes.fill_between(middle.index.to_numpy(), low.to_numpy(), high.to_numpy(), color=colour, alpha=0.2, lw=0)
    axes.plot(middle.index, middle, marker=marker, ms=4, lw=1.5, color=colour, label=label)


def _from_zero(axes: Axes) -> None:
    """An axis from 0 to just above the highest line; below 0 neither bound nor certificate proves anything."""
    values = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in axes.lines])
    axes.set_ylim(0, 1.08 * max(1e-3, float(np.nanmax(values))))


def _from_floor(table: pd.DataFrame) -> pd.DataFrame:
    """The table with distances that a logarithmic axis can show."""
    return table.assign(**{name: table[name].clip(FLOOR) for name in ("GNC1", "GNC3", "GNC3_centred") if name in table})


def _logarithmic(axes: Axes) -> None:
    """A logarithmic axis, with a label if some values are drawn as `FLOOR`."""
    axes.set_yscale("log")
    if min(np.asarray(line.get_ydata(), dtype=float).min() for line in axes.lines) <= FLOOR:
        axes.set_ylabel(f"{FLOOR:.0e} or less is drawn as that", fontsize=9)
        axes.set_ylim(FLOOR / 3, max(axes.get_ylim()[1], 100 * FLOOR))
