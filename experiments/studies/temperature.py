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
from experiments.settings import RunSettings
from experiments.statistics import Interval, mean_interval
from experiments.studies.common import (
    MEASURES,
    NOTE,
    beside_best_known,
    check_not_fixed,
    diverged_sentences,
    every_run,
    final_values,
    least_margin,
    mean_values,
    missing_sentences,
    nothing_found,
    paired_groups,
    side,
    ufm_margin,
)
from experiments.studies.findings import Findings
from softmaxcode.checks.arguments import check_integer
from softmaxcode.plotting.style import COLOURS, INK, MARKERS, draw_level
from ufm.recording import best_known_margin

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

    statements = [
        _claim_sentence(cells, d),
        *_margin_sentences(cells),
        *_bound_sentences(cells, d),
        *_linear_sentences(cells, d),
        *_accuracy_sentences(cells),
        *diverged_sentences(runs, _label),
        *missing_sentences(runs, _label, claimed),
    ]
    order = ["head", "d", "temperature", "seed"]
    return Findings(
        statements,
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


def _at(cells: Cells, head: str, d: int, temperature: float) -> pd.DataFrame | None:
    """The runs of a cell, None where there are none."""
    return next((g for (h, w, tau), g in cells.items() if (h, w) == (head, d) and _in(tau, [temperature])), None)


def _claim_sentence(cells: Cells, d: int) -> str:
    """Whether the margin grows as the temperature falls from 1 to 1/7, by paired differences over the seeds."""
    parts, shown = [], []
    for higher, lower in itertools.pairwise(CLAIM):
        a, b = _at(cells, "learned", d, lower), _at(cells, "learned", d, higher)
        difference = mean_interval([]) if a is None or b is None else paired_groups(a, b, "GNC2")
        verdict = side(difference, "shown", "not shown, the opposite is shown", "not shown")
        shown.append(verdict == "shown")
        parts.append(f"GNC2({_fraction(lower)}) - GNC2({_fraction(higher)}) = {difference}: {verdict}")
    order = " < ".join(f"GNC2({_fraction(tau)})" for tau in CLAIM)
    return (
        f"{order} for the learned head at d = {d} is {'shown' if all(shown) else 'not shown'} by paired differences "
        f"over the seeds with 95 % intervals: {'; '.join(parts)}."
    )


def _fraction(temperature: float) -> str:
    return "1" if temperature == 1 else f"1/{1 / temperature:.0f}"


def _margin_sentences(cells: Cells) -> list[str]:
    """Where the margin is largest, and how near it comes to the best known, by dimension."""
    out = []
    for (head, d), line in _lines(cells).items():
        if head == "learned":
            means = {tau: group["GNC2"].mean() for tau, group in line.items()}
            tau = max(means, key=lambda one: means[one])
            out.append(
                f"d = {d}: of {len(line)} temperatures mean GNC2 is largest at τ = {tau:.3g}, "
                f"{mean_interval(line[tau]['GNC2'])}, {beside_best_known(line[tau])}."
            )
    return out


def _bound_sentences(cells: Cells, d: int) -> list[str]:
    """The networks against what every global minimiser attains, where that is above 0."""
    out = []
    for (head, width, tau), group in cells.items():
        least = least_margin(int(group["K"].iloc[0]), group["best_known"].iloc[0], tau)
        if (head, width) == ("learned", d) and math.isfinite(least):
            mean = group["GNC2"].mean()
            out.append(
                f"d = {d}, τ = {tau:.3g}: a global minimiser of the loss over free features has GNC2 at least "
                f"{least:.4f} (docs/theory.md, T6); the networks' mean is {mean:.4f}, "
                f"{'above' if mean >= least else 'below'} it."
            )
    return out


def _linear_sentences(cells: Cells, d: int) -> list[str]:
    """What switching the spherical constraint off does."""
    out = []
    for (head, width, tau), off in cells.items():
        on = cells.get(("learned", width, tau))
        if head == "linear" and on is not None:
            accuracy = paired_groups(off, on, "test_accuracy")
            out.append(
                f"Without the spherical constraint, d = {width}, τ = {tau:.3g}: GNC1 {off['GNC1'].mean():.2g} in place "
                f"of {on['GNC1'].mean():.2g}, GNC3 {off['GNC3'].mean():.2g} in place of {on['GNC3'].mean():.2g}; GNC2 "
                f"without less with it {paired_groups(off, on, 'GNC2')}, test accuracy in points {accuracy}."
            )
    return out


def _accuracy_sentences(cells: Cells) -> list[str]:
    """The best temperature for test accuracy by dimension, and the nearest class mean's accuracy there."""
    out = []
    for (head, d), line in _lines(cells).items():
        if head == "learned":
            accuracy = {tau: mean_interval(group["test_accuracy"]) for tau, group in line.items()}
            tau = max(accuracy, key=lambda one: accuracy[one].mean)
            nearest = _nearest(line)
            widest = max(nearest, key=lambda one: abs(nearest[one].mean))
            out.append(
                f"d = {d}: mean test accuracy is largest at τ = {tau:.3g}, in %: {accuracy[tau]}; the nearest class "
                f"mean's less the classifier's is {nearest[tau]} there, and furthest from 0 at τ = {widest:.3g}: "
                f"{nearest[widest]}."
            )
    return out


def _nearest(line: dict[float, pd.DataFrame]) -> dict[float, Interval]:
    """Test accuracy of the nearest class mean less the classifier's, in points."""
    return {tau: mean_interval(group["ncm_accuracy"] - group["test_accuracy"]) for tau, group in line.items()}


def _table(cells: Cells) -> pd.DataFrame:
    """A row a cell."""
    rows = []
    for (head, d, tau), group in cells.items():
        K, known = int(group["K"].iloc[0]), group["best_known"].iloc[0]
        least = least_margin(K, known, tau)
        rows.append(
            {"head": HEAD_LABELS[head], "d": d, "τ": f"{tau:.3g}", "runs": len(group)}
            | mean_values(group)
            | {"best known": f"{known:.4f}", "T6 bound": f"{least:.4f}" if math.isfinite(least) else ""}
        )
    return pd.DataFrame(rows)


def _paper_table() -> pd.DataFrame:
    known = best_known_margin(100, 10)
    rows = [
        {
            "τ": _fraction(tau),
            "GNC2": values["GNC2"],
            MEASURES["fraction"]: values["GNC2"] / known,
            "GNC3": values.get("GNC3"),
        }
        for tau, values in paper.TEMPERATURES.items()
    ]
    return pd.DataFrame(rows).round(4)


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
        nearest = {apart * tau: interval for tau, interval in _nearest(line).items()}
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
