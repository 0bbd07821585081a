"""Pictures of a diagnosis: sorted margins, competitors, norms, and cosines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import MaxNLocator

from softmaxcode.diagnosis.names import shortened
from softmaxcode.plotting.style import BLUE, FAINT, GREEN, INK, ORANGE, RED, add_grid, new_figure
from softmaxcode.sphere import random_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from softmaxcode.diagnosis.report import Diagnosis
    from softmaxcode.types import Rows

#: Classes that are named beside the sorted margins, and classes of the map of competitors.
NAMED, MAPPED = 10, 30
#: Competitors that are columns of the map.
COLUMNS = 40
#: Classes whose cosines are drawn; of more, so many are drawn at random.
MAX_COSINE_CLASSES = 2000
BINS = 80
#: Characters of a name beside a picture.
LABEL = 18


def sorted_margins(found: Diagnosis) -> Figure:
    """The margins of all solved classes in order, the smallest named, with what they are compared with."""
    figure = new_figure((9, 4.2), layout="constrained")
    axes = figure.subplots()
    margins = found.everyone.solved.margins
    axes.fill_between(np.arange(1, len(margins) + 1), margins, color=BLUE, alpha=0.25, lw=0)
    axes.plot(np.arange(1, len(margins) + 1), margins, color=BLUE, lw=1.6)
    known = found.references
    levels = [(known.random_margin, "random rows (smallest class)", ORANGE), (known.best, "best code", GREEN)]
    for value, name, colour in levels:
        if value is not None:
            axes.axhline(value, color=colour, lw=1.4, ls="--", label=f"{name}: {value:.3f}")
    worst = found.distinct_danger.head(NAMED)
    at = 1 + np.searchsorted(margins, worst["margin"])
    grouped = len(found.distinct) < found.K
    kind = "most danger" + (", each group as one class" if grouped else "")
    axes.scatter(at, worst["margin"], color=RED, s=14, zorder=4, label=kind)
    named = [
        f"{margin:.3f}  {shortened(name, LABEL)}" for name, margin in zip(worst["class"], worst["margin"], strict=True)
    ]
    head = ["most danger,", "one of each group:"] if grouped else ["most danger:"]
    text = "\n".join([*head, *named])
    axes.text(1.02, 1.0, text, transform=axes.transAxes, va="top", ha="left", size=8.5, color=INK)
    axes.set_ylim(bottom=0)
    solved = "" if len(margins) == found.K else f" ({len(margins):,} of {found.K:,} were solved)"
    _labelled(axes, f"classes, smallest margin first{solved}", "margin")
    axes.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    return figure


def competitor_map(found: Diagnosis) -> Figure:
    """The weights of the competitors of the classes in most danger; rows are classes."""
    worst = found.most_danger.classes[:MAPPED]
    weights = found.most_danger.solved.weights[: len(worst)].toarray()
    columns = _main_competitors(weights)
    figure = new_figure((9, 1.6 + 0.21 * len(worst)), layout="constrained")
    axes = figure.subplots()
    drawn = axes.imshow(weights[:, columns], aspect="auto", cmap="Blues", vmin=0)
    names = [shortened(found.names[k], LABEL) for k in found.distinct]
    axes.set_xticks(np.arange(len(columns)), [names[k] for k in columns], rotation=90, size=7.5)
    axes.set_yticks(np.arange(len(worst)), [names[k] for k in worst], size=8)
    axes.set_xlabel(f"competitor (the first ones of each class, {len(columns)} in all)", size=10, color=INK)
    axes.set_ylabel("class in danger", size=10, color=INK)
    figure.colorbar(drawn, label="weight in the nearest point", shrink=0.8)
    return figure


def _main_competitors(weights: np.ndarray) -> np.ndarray:
    """The first competitor of every class, then the second ones, to ``COLUMNS`` in all; the largest in sum first."""
    order = np.argsort(-weights, axis=1, kind="stable")
    chosen: dict[int, None] = {}
    for column in order.T:
        for row, competitor in enumerate(column):
            if weights[row, competitor] > 0 and len(chosen) < COLUMNS:
                chosen[int(competitor)] = None
    columns = np.array(list(chosen), dtype=np.int64)
    return columns[np.argsort(-weights[:, columns].sum(axis=0), kind="stable")]


def norms_and_margins(found: Diagnosis) -> Figure:
    """The norm of each solved class against its margin, with groups of one direction in another colour."""
    figure = new_figure((9, 4), layout="constrained")
    axes = figure.subplots()
    classes, margins = found.everyone.classes, found.everyone.solved.margins
    inside = found.directions.group_of(found.K)[classes] > 0
    for mask, colour, name in ((~inside, BLUE, "in no group"), (inside, RED, "in a group of one direction")):
        if mask.any():
            axes.scatter(margins[mask], found.rows.norms[classes[mask]], s=9, color=colour, alpha=0.6, lw=0, label=name)
    _labelled(axes, "margin", "norm of the row")
    axes.legend(frameon=False, fontsize=9)
    return figure


def cosines(found: Diagnosis, seed: int = 0) -> Figure:
    """The cosines of pairs of classes, beside those of the best code and of random rows."""
    rng = np.random.default_rng(seed)
    figure = new_figure((9, 3.8), layout="constrained")
    axes = figure.subplots()
    drawn = [("this classifier", found.W, BLUE)]
    if found.references.code is not None:
        drawn.append(("best code", found.references.code.W, GREEN))
    drawn.append(("random rows", random_rows(min(found.K, MAX_COSINE_CLASSES), found.d, rng), ORANGE))
    edges = np.linspace(-1, 1, BINS + 1).tolist()
    for name, W, colour in drawn:
        axes.hist(_some_cosines(W, rng), edges, density=True, histtype="step", lw=1.6, color=colour, label=name)
    axes.set_yscale("log")
    _labelled(axes, "cosine of two classes", "density")
    axes.legend(frameon=False, fontsize=9)
    if found.K > MAX_COSINE_CLASSES:
        axes.set_title(f"of {MAX_COSINE_CLASSES:,} classes drawn at random", size=9.5, color=FAINT, loc="left")
    return figure


def _some_cosines(W: Rows, rng: np.random.Generator) -> np.ndarray:
    """Cosines of all pairs of the rows, or of pairs of so many drawn rows."""
    if len(W) > MAX_COSINE_CLASSES:
        W = W[rng.choice(len(W), MAX_COSINE_CLASSES, replace=False)]
    found = (W @ W.T)[np.triu_indices(len(W), 1)]
    return np.clip(found, -1, 1)  # rounding may carry a cosine past 1


def _labelled(axes: Axes, x: str, y: str) -> None:
    add_grid(axes)
    axes.xaxis.set_major_locator(MaxNLocator(7))
    axes.set_xlabel(x, size=10, color=INK)
    axes.set_ylabel(y, size=10, color=INK)
