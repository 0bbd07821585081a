"""Temperature and dimension varied, and the spherical constraint switched off (the paper's Figures 2 and B.4)."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import pandas as pd

from experiments import paper
from experiments.drawing import (
    HEAD_LABELS,
    axes_figure,
    errorbar_panel,
    shared_legend,
    temperature_axis,
)
from experiments.rendering import statements
from experiments.settings import RunSettings
from experiments.statistics import Interval, mean_interval
from experiments.studies.common import (
    MEASURES,
    NOTE,
    MarginRatio,
    best_known_margin,
    check_not_fixed,
    every_run,
    final_values,
    incomplete,
    least_margin,
    measure_columns,
    nothing_found,
    paired_groups,
    ufm_margin,
)
from softmaxcode.checks.arguments import check_integer
from softmaxcode.pages import Findings
from softmaxcode.plotting.style import COLOURS, INK, MARKERS, draw_level

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from experiments.runs import TrainedRun

TITLE = "Temperature, dimension and the spherical constraint (Figures 2 and B.4)"
QUESTION = (
    "Does the margin grow as the temperature falls, at every dimension, and is the constraint to the sphere needed?"
)

#: The runs of a head, dimension and temperature.
Cells = dict[tuple[str, int, float], pd.DataFrame]
#: The margin is claimed to grow along these.
CLAIM = (1.0, 1 / 5, 1 / 7)
#: A temperature that is given as a decimal is that fraction.
SAME = 1e-3


def plan(
    *,
    seeds: int = 3,
    claim_seeds: int = 5,
    temperatures: tuple[float, ...] = (1.0, 0.5, 1 / 5, 1 / 7, 0.1, 0.05, 0.02),
    d: int = 10,
    dims: tuple[int, ...] = (4, 20),
    few: tuple[float, ...] = (1.0, 1 / 5, 0.1),
    linear: tuple[float, ...] = (1.0, 0.5, 1 / 5, 0.1),
    **settings: Any,
) -> list[RunSettings]:
    r"""The learned head at every temperature, at fewer in other dimensions, and the linear head.

    Parameters
    ----------
    seeds : int
        Runs of each head, dimension and temperature, at least 1; claim_seeds of some.
    claim_seeds : int
        Runs of the learned head in dimension d at temperatures 1, 1/5, 1/7 and 1/10, at least 1.
    temperatures : tuple of float
        Temperatures of the learned head in dimension d.
    d : int
        Width of the features.
    dims : tuple of int
        Other widths of the features, of the learned head alone.
    few : tuple of float
        Temperatures of the learned head at the other widths.
    linear : tuple of float
        Temperatures of the linear head in dimension d, whose rows and features are not on the sphere.
    **settings
        Of all runs, as `RunSettings.checked` takes them.

    Returns
    -------
    list of RunSettings

    Raises
    ------
    ValueError
        If ``settings`` fixes what is varied here, or something is out of range.

    Notes
    -----
    Without the constraint the norms can take the temperature's part: rows and features :math:`\tau^{-1/2}` times as
    long give the same logits at temperature 1, where the same step of gradient descent has :math:`1/\tau` times the
    learning rate. So the linear head can diverge at low temperatures; the study reports where it did.

    Examples
    --------
    >>> len(plan()), len(plan(seeds=1, claim_seeds=1))
    (59, 17)
    """
    check_not_fixed(settings, head="linear", temperature="temperatures", seed="seeds")
    seeds, claim_seeds = check_integer("seeds", seeds, 1), check_integer("claim_seeds", claim_seeds, 1)
    cells = [("learned", d, tau) for tau in temperatures]
    cells += [("learned", other, tau) for other in dims for tau in few]
    cells += [("linear", d, tau) for tau in linear]
    counts = {
        (head, width, tau): claim_seeds if (head, width) == ("learned", d) and _in(tau, (*CLAIM, 1 / 10)) else seeds
        for head, width, tau in cells
    }
    return [
        RunSettings.checked(head=head, d=width, temperature=tau, seed=seed, **settings)
        for seed in range(max(counts.values()))
        for (head, width, tau), count in counts.items()
        if seed < count
    ]


def _in(temperature: float, several: Sequence[float]) -> bool:
    return any(math.isclose(temperature, other, rel_tol=SAME) for other in several)


def findings(runs: Sequence[TrainedRun]) -> Findings:
    """Collapse and accuracy against the temperature, by dimension, on the sphere and off it.

    Parameters
    ----------
    runs : sequence of TrainedRun
        Finished runs of the plan, or some of them.

    Returns
    -------
    Findings
    """
    finals = final_values(runs)
    if finals.empty:
        return nothing_found(runs, _label)
    # the dimension whose temperatures are varied most
    d = max(set(finals["d"]), key=lambda width: finals.loc[finals["d"] == width, "temperature"].nunique())
    grouped: Any = finals.groupby(["head", "d", "temperature"])
    cells: Cells = {(head, width, tau): group for (head, width, tau), group in grouped}

    def claimed(run: TrainedRun) -> bool:
        """Whether its temperature has seeds of its own."""
        own = run.settings
        return (own.head, own.d) == ("learned", d) and _in(own.temperature, (*CLAIM, 1 / 10))

    sentences = statements(
        "temperature",
        claim=claim_result(cells, d),
        margins=margin_results(cells),
        bounds=bound_results(cells, d),
        off_sphere=off_sphere_results(cells),
        accuracies=accuracy_results(cells),
        **incomplete(runs, _label, claimed),
    )
    order = ["head", "d", "temperature", "seed"]
    return Findings(
        sentences,
        {
            f"At the end of training: mean and 95 % interval over the seeds. {NOTE}": _table(cells),
            "For reference: the paper's ResNet18 on CIFAR100 (K = 100, d = 10)": _paper_table(),
            "Every run": every_run(finals, *order).sort_values(order, ignore_index=True),
        },
        {"At the end of training against the temperature: mean and 95 % interval over the seeds": _figure(cells, d)},
    )


def _label(run: TrainedRun) -> str:
    return f"{_line_label(run.settings.head, run.settings.d)}, τ = {run.settings.temperature:.3g}"


def _line_label(head: str, d: int) -> str:
    return f"{HEAD_LABELS[head]}, d = {d}"


def _lines(cells: Cells) -> dict[tuple[str, int], dict[float, pd.DataFrame]]:
    """The runs by temperature of each head and dimension, in order."""
    out: dict[tuple[str, int], dict[float, pd.DataFrame]] = {}
    for head, d, tau in sorted(cells):
        out.setdefault((head, d), {})[tau] = cells[head, d, tau]
    return out


def _learned(cells: Cells) -> dict[int, dict[float, pd.DataFrame]]:
    """The learned head's runs by temperature of each dimension."""
    return {d: line for (head, d), line in _lines(cells).items() if head == "learned"}


def _at(cells: Cells, head: str, d: int, temperature: float) -> pd.DataFrame | None:
    """The runs of a cell, None where there are none."""
    return next((g for (h, w, tau), g in cells.items() if (h, w) == (head, d) and _in(tau, [temperature])), None)


def claim_result(cells: Cells, d: int) -> dict[str, Any]:
    """Whether the margin grows as the temperature falls from 1 to 1/7, by paired differences over the seeds."""
    steps: list[dict[str, Any]] = []
    for high, low in itertools.pairwise(CLAIM):
        a, b = _at(cells, "learned", d, low), _at(cells, "learned", d, high)
        difference = mean_interval([]) if a is None or b is None else paired_groups(a, b, "GNC2")
        steps.append({"high": high, "low": low, "difference": difference})
    shown = all(step["difference"].sign > 0 for step in steps)
    return {"d": d, "temperatures": CLAIM, "shown": shown, "steps": steps}


def margin_results(cells: Cells) -> list[dict[str, Any]]:
    """Where the learned head's margin is largest, and how near it comes to the best known, by dimension."""
    out = []
    for d, line in _learned(cells).items():
        best = max(line, key=lambda tau: line[tau]["GNC2"].mean())
        own = {"GNC2": mean_interval(line[best]["GNC2"]), "margin": MarginRatio.of(line[best])}
        out.append({"d": d, "temperatures": len(line), "best": best, **own})
    return out


def bound_results(cells: Cells, d: int) -> list[dict[str, Any]]:
    """The networks' mean margin beside what every global minimiser attains, where that is above 0."""
    out = []
    for tau, group in _learned(cells).get(d, {}).items():
        least = least_margin(int(group["K"].iloc[0]), group["best_known"].iloc[0], tau)
        if math.isfinite(least):
            out.append({"d": d, "temperature": tau, "least": least, "mean": group["GNC2"].mean()})
    return out


def off_sphere_results(cells: Cells) -> list[dict[str, Any]]:
    """What switching the spherical constraint off does, by paired differences; accuracy is in points."""
    return [
        {"d": d, "temperature": tau, "off": off[["GNC1", "GNC3"]].mean(), "on": on[["GNC1", "GNC3"]].mean()}
        | {name: paired_groups(off, on, name) for name in ("GNC2", "test_accuracy")}
        for (head, d, tau), off in cells.items()
        if head == "linear" and (on := cells.get(("learned", d, tau))) is not None
    ]


def accuracy_results(cells: Cells) -> list[dict[str, Any]]:
    """The best temperature for test accuracy by dimension, and what the nearest class mean gains there, in points."""
    out = []
    for d, line in _learned(cells).items():
        accuracy = {tau: mean_interval(group["test_accuracy"]) for tau, group in line.items()}
        best = max(accuracy, key=lambda tau: accuracy[tau].mean)
        gains = _ncm_gains(line)
        furthest = max(gains, key=lambda tau: abs(gains[tau].mean))
        out.append(
            {"d": d, "best": best, "accuracy": accuracy[best], "ncm_gain": gains[best]}
            | {"furthest": furthest, "furthest_gain": gains[furthest]}
        )
    return out


def _ncm_gains(line: dict[float, pd.DataFrame]) -> dict[float, Interval]:
    """Test accuracy of the nearest class mean less the classifier's, in points."""
    return {tau: mean_interval(group["ncm_accuracy"] - group["test_accuracy"]) for tau, group in line.items()}


def _table(cells: Cells) -> pd.DataFrame:
    """A row a cell."""
    rows = []
    for (head, d, tau), group in cells.items():
        K, known = int(group["K"].iloc[0]), group["best_known"].iloc[0]
        least = least_margin(K, known, tau)
        rows.append(
            {"head": HEAD_LABELS[head], "d": d, "τ": tau, "runs": len(group)}
            | measure_columns(group)
            | {"best known": known, "T6 bound": least}
        )
    return pd.DataFrame(rows)


def _paper_table() -> pd.DataFrame:
    known = best_known_margin(100, 10)
    rows = [
        {
            "τ": tau,
            "GNC2": values["GNC2"],
            MEASURES["fraction"]: values["GNC2"] / known,
            "GNC3": values.get("GNC3"),
        }
        for tau, values in paper.TEMPERATURES.items()
    ]
    return pd.DataFrame(rows)


def _figure(cells: Cells, d: int) -> Figure:
    """The margin at one dimension beside its limits, and everything else by dimension."""
    titles = {
        "limits": f"margin (GNC2), d = {d}",
        "fraction": "GNC2 over the best known margin",
        "GNC1": "variability within classes (GNC1)",
        "GNC3": "self-duality (GNC3)",
        "test_accuracy": "test accuracy in %",
        "nearest": "nearest class mean less classifier, in points",
    }
    figure, axes = axes_figure(list(titles.values()), height=3.2)
    panels = dict(zip(titles, axes, strict=True))
    temperatures = [tau for *_, tau in cells]
    for name, panel in panels.items():
        temperature_axis(panel, temperatures)
        if name in ("GNC1", "GNC3"):
            panel.set_yscale("log")
    for i, ((head, width), line) in enumerate(_lines(cells).items()):
        style = {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}
        if head == "linear":
            style |= {"color": INK, "ls": "--"}
        label = _line_label(head, width)
        apart = 1.03**i  # or the intervals of one temperature would lie on each other
        for name in ("fraction", "GNC1", "GNC3", "test_accuracy"):
            points = {apart * tau: mean_interval(group[name]) for tau, group in line.items()}
            errorbar_panel(panels[name], points, label, **style)
        nearest = {apart * tau: interval for tau, interval in _ncm_gains(line).items()}
        errorbar_panel(panels["nearest"], nearest, label, **style)
        if width == d:
            margins = {tau: mean_interval(group["GNC2"]) for tau, group in line.items()}
            errorbar_panel(panels["limits"], margins, label, **style)
    _draw_limits(panels["limits"], cells, d)
    panels["fraction"].set_ylim(bottom=0)
    panels["nearest"].axhline(0, color=INK, lw=0.8)
    shared_legend(figure, columns=3)
    return figure


def _draw_limits(axes: Axes, cells: Cells, d: int) -> None:
    """The best known margin, the feature model's and the bound of global minimisers."""
    group = next(group for (_, width, _), group in cells.items() if width == d)
    K, known = int(group["K"].iloc[0]), group["best_known"].iloc[0]
    temperatures = sorted({tau for _, width, tau in cells if width == d})
    free = {tau: model for tau in temperatures if (model := ufm_margin(K, d, tau)).n}
    errorbar_panel(axes, free, "feature model (UFM)", color=COLOURS[4], marker="x", lw=1)
    bounds = [least_margin(K, known, tau) for tau in temperatures]
    if not all(math.isnan(value) for value in bounds):
        axes.plot(temperatures, bounds, "^", color=COLOURS[5], label="global minimisers, at least (T6)")
    draw_level(axes, known, "best known margin")
    axes.set_ylim(bottom=0)
