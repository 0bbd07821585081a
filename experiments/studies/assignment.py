"""Whether it matters which class gets which vector of a fixed code (the paper's Figure 4 and open question 3)."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import pandas as pd

from experiments.assignments import graded, input_similarity
from experiments.class_similarity import mantel
from experiments.codes import code
from experiments.drawing import HEAD_COLOURS, HEAD_WORDS, axes_figure, errorbar_panel, shared_legend
from experiments.settings import Settings
from experiments.statistics import Interval, Slope, mean_interval, paired_difference, slope
from experiments.studies.common import (
    check_not_fixed,
    diverged_sentences,
    missing_sentences,
    nothing_found,
    paired_groups,
    side,
)
from experiments.studies.findings import Findings
from softmaxcode.assignment import cosines
from softmaxcode.checks.arguments import check_integer
from softmaxcode.plotting.style import COLOURS, INK
from softmaxcode.sphere import check_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from matplotlib.figure import Figure

    from experiments.runs import Run

TITLE = "Class assignment (Figure 4, open question 3)"
QUESTION = (
    "Is a network more accurate where similar classes have near vectors of a fixed code, and is that generalisation?"
)

PARTS = ("square", "pairs", "text", "control")
#: The two digits whose mean images are the most alike, then the two of the others.
SQUARE_CLASSES = (3, 9, 4, 6)
#: Rows of the square for its four classes: the first class is opposite the second, the third and the fourth.
ARRANGEMENTS = ((0, 2, 1, 3), (0, 1, 2, 3), (0, 1, 3, 2))
#: So few images leave errors to be made, and such a rate trains every arrangement to the end.
SQUARE = {"d": 2, "epochs": 40, "batch_size": 20, "learning_rate": 0.02, "measure_every": 40}
SQUARE_SHOTS = 20
#: 100 classes of ten numbers each, alike by their first two digits or dealt at random.
GROUPS = {"d": 10, "epochs": 10, "weight_decay": 2e-3, "measure_every": 10}
GROUPS_DATA = {"train_per_class": 10, "test_per_class": 5}
RELABELLED_EPOCHS = 15
#: Training accuracy from which runs count as having fitted their training data.
FITTED = 0.99
#: Relabellings of Mantel's test.
RELABELLINGS = 999


def plan(
    *,
    seeds: int = 5,
    levels: tuple[float, ...] = (1.0, 0.6, 0.3, 0.0, -0.5, -1.0),
    square_seeds: int = 20,
    square_classes: tuple[int, ...] = SQUARE_CLASSES,
    parts: tuple[str, ...] = PARTS,
    **settings: Any,
) -> list[Settings]:
    """A fixed code under graded assignments, with the learned head beside it.

    Parameters
    ----------
    seeds : int
        Runs of each assignment and of the learned head, at least 1.
    levels : tuple of float
        Levels of the assignments: 1 gives similar classes near vectors, 0 is worth a random assignment, -1 gives them
        vectors far apart.
    square_seeds : int
        Runs of each arrangement of the four classes, at least 1; every seed has training images of its own.
    square_classes : tuple of int
        The four classes on the circle; the first is opposite each of the others in turn.
    parts : tuple of str
        What to train: square (the three arrangements of four classes on the circle), pairs (the levels at K = 100,
        d = 10), text (the levels on next-token prediction), control (100 groups of numbers that are alike or random,
        and pairs whose images are relabelled at random).
    **settings
        Of all runs, as `Settings.checked` takes them. With ``data``, the parts "square" and "pairs" are of that data
        set, and no other part can be asked for.

    Returns
    -------
    list of Settings

    Raises
    ------
    ValueError
        If ``settings`` fixes what is varied here, parts do not go with the data, or something is out of range.

    Examples
    --------
    >>> runs = plan(seeds=1, parts=("pairs",))
    >>> [run.assignment for run in runs if run.head == "code"]
    [1.0, 0.6, 0.3, 0.0, -0.5, -1.0]
    """
    check_not_fixed(settings, head="parts", assignment="levels", seed="seeds")
    seeds = check_integer("seeds", seeds, 1)
    square_seeds = check_integer("square_seeds", square_seeds, 1)
    unknown = [part for part in parts if part not in PARTS]
    if unknown or not parts:
        raise ValueError(f"parts must be some of {', '.join(map(repr, PARTS))}; got {parts!r}")
    if "data" in settings and not set(parts) <= {"square", "pairs"}:
        raise ValueError(f"data {settings['data']!r} goes with the parts 'square' and 'pairs' alone; got {parts!r}")
    if len(set(square_classes)) != 4:
        raise ValueError(f"square_classes must be four different classes; got {square_classes!r}")
    runs: list[Settings] = []
    if "square" in parts:
        runs += _square(square_classes, square_seeds, settings)
    if "pairs" in parts:
        runs += _levels({}, levels, seeds, settings)
    if "control" in parts:
        for groups in ("leading", "random"):
            own = GROUPS | {"data": "digit-triples", "data_options": GROUPS_DATA | {"groups": groups}}
            runs += _levels(own, levels, seeds, settings)
        own = {"data": "digit-pairs", "data_options": {"relabel": "images"}, "epochs": RELABELLED_EPOCHS}
        runs += _levels(own, levels, seeds, settings)
    if "text" in parts:
        runs += _levels({"data": "text"}, levels, seeds, settings)
    return runs


def _merged(own: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """A part's own settings, which give way to those of all runs; options of the data are joined."""
    options = own.get("data_options", {}) | (settings.get("data_options") or {})
    return own | settings | {"data_options": options}


def _levels(own: dict[str, Any], levels: tuple[float, ...], seeds: int, settings: dict[str, Any]) -> list[Settings]:
    heads = [{"head": "learned"}, *({"head": "code", "assignment": float(one)} for one in levels)]
    return [
        Settings.checked(**_merged(own, settings), **head, seed=seed)  # type: ignore[arg-type]
        for seed in range(seeds)
        for head in heads
    ]


def _square(classes: tuple[int, ...], seeds: int, settings: dict[str, Any]) -> list[Settings]:
    few_shot = {str(k): SQUARE_SHOTS for k in range(4)}
    own: dict[str, Any] = {"data_options": {"classes": list(classes)}}
    if settings.get("data", "digits") == "digits":
        own = SQUARE | {"data": "digits", "data_options": own["data_options"] | {"few_shot": few_shot}}
    heads = [{"head": "learned"}, *({"head": "code", "assignment": rows} for rows in ARRANGEMENTS)]
    runs = []
    for seed in range(seeds):
        merged = _merged(own, settings)
        merged["data_options"] = merged["data_options"] | {"seed": seed}
        # the four vectors are a square in the plane alone
        runs += [Settings.checked(**(merged | {"d": 2}), **head, seed=seed) for head in heads]  # type: ignore[arg-type]
    return runs


class Measured(TypedDict):
    """What `measure` finds."""

    K: int
    objective: float
    best: float
    mean: float
    worst: float
    correlation: float | None
    p_value: float | None
    opposite: str | None


def measure(run: Run) -> Measured:
    r"""The objective of a run's class vectors beside the best, the mean and the worst of the fixed code.

    Parameters
    ----------
    run : Run

    Returns
    -------
    dict
        ``K``; ``objective``, :math:`\sum_{i \ne j} S_{ij} \langle w_i, w_j \rangle` with S from the inputs;
        ``best``, ``mean``, ``worst``, as `experiments.assignments.GradedAssignment` has them; ``correlation`` and
        ``p_value`` of Mantel's test of the cosines of learned vectors against S, None for others; ``opposite``, of
        four vectors in the plane: which classes are opposite.
    """
    data = run.data()
    S = input_similarity(data)
    G = cosines(check_rows(run.W, normalize=True, name="W"))
    K, d = run.W.shape
    extremes = graded(S, code(K, d), 1.0)
    found: Measured = {
        "K": K,
        "objective": float((S * G).sum()),
        "best": extremes.best,
        "mean": extremes.mean,
        "worst": extremes.worst,
        "correlation": None,
        "p_value": None,
        "opposite": None,
    }
    if run.settings.head == "code":
        if (K, d) == (4, 2):
            other = int(G[0].argmin())
            first, second = sorted({0, 1, 2, 3} - {0, other})
            names = data.class_names
            found["opposite"] = f"{names[0]} and {names[other]}, {names[first]} and {names[second]}"
    else:
        test = mantel(G, S, RELABELLINGS, alternative="greater")
        found["correlation"], found["p_value"] = test.correlation, test.p_value
    return found


def _frame(runs: Iterable[Run]) -> pd.DataFrame:
    """One row a run; ``share`` is 0 for the mean over all assignments and 1 for the best."""
    rows = []
    for run in runs:
        settings = run.settings
        found = run.evaluation("assignment", Measured, measure)
        spread = found["best"] - found["mean"]
        rows.append(
            dict[str, Any](found)
            | {
                "group": _group(settings),
                "data": _data_words(settings, found["K"]),
                "head": settings.head,
                "level": settings.assignment if isinstance(settings.assignment, float) else math.nan,
                "seed": settings.seed,
                "share": (found["objective"] - found["mean"]) / spread if spread > 0 else math.nan,
                "what": "training" if settings.data_options.get("relabel") else "test",
                "control": _is_control(settings),
            }
            | {name: float(run.final.get(name, math.nan)) for name in ("test_accuracy", "train_accuracy")}
        )
        rows[-1]["accuracy"] = 100 * rows[-1]["train_accuracy" if rows[-1]["what"] == "training" else "test_accuracy"]
    return pd.DataFrame(rows)


def _group(settings: Settings) -> str:
    """What runs that are compared have in common: everything but head, assignment and seeds."""
    plain = settings.plain()
    for name in ("head", "assignment", "cmf_momentum", "seed"):
        del plain[name]
    plain["data_options"].pop("seed", None)
    return json.dumps(plain, sort_keys=True)


def _data_words(settings: Settings, K: int) -> str:
    """The data of a run in words."""
    options = settings.data_options
    words = settings.data
    if "classes" in options:
        words += f" {', '.join(map(str, options['classes']))}"
    if "groups" in options:
        words += f" in {options['groups']} groups"
    if options.get("relabel"):
        words += ", relabelled"
    return f"{words} (K = {K}, d = {settings.d})"


def _words(run: Run) -> str:
    """The data and the assignment of a run in words."""
    settings = run.settings
    assignment = "" if settings.assignment is None else f", assignment {settings.assignment}"
    return f"{_data_words(settings, len(run.W))}, {HEAD_WORDS[settings.head]}{assignment}"


def _is_control(settings: Settings) -> bool:
    """Whether the classes were made unlike each other on purpose."""
    return bool(settings.data_options.get("relabel")) or settings.data_options.get("groups") == "random"


def findings(runs: Sequence[Run]) -> Findings:
    """Accuracy against the objective tr(S P G P^T), by data set.

    Parameters
    ----------
    runs : sequence of Run
        Finished runs of the plan, or some of them.

    Returns
    -------
    Findings
    """
    finished = [run for run in runs if run.status == "finished"]
    if not finished:
        return nothing_found(runs, _words)
    frame = _frame(finished)
    graded_groups, arranged, learned = [], [], []
    for _, group in frame.groupby("group", sort=False):
        fixed = group[group["head"] == "code"]
        if (fixed["level"].notna()).any():
            graded_groups.append(Graded(group))
        elif len(fixed):
            arranged.append(Arranged(group))
        if (group["head"] == "learned").any():
            learned.append(group[group["head"] == "learned"])
    statements = [
        *_verdict(graded_groups),
        *(one.sentence() for one in graded_groups),
        *_control_sentences(graded_groups),
        *(one.sentence() for one in arranged),
        *(_learned_sentence(group) for group in learned),
        *diverged_sentences(runs, _words),
        *missing_sentences(runs, _words, lambda run: _group(run.settings)),
    ]
    tables = {}
    if graded_groups:
        tables["Accuracy by assignment, in percent; share 0 is a random assignment, 1 the best"] = pd.concat(
            [one.table() for one in graded_groups], ignore_index=True
        )
        tables["Slope of accuracy, in points from share 0 to share 1, and from the worst to the best"] = pd.DataFrame(
            [one.row() for one in graded_groups]
        )
    if arranged:
        tables["Four classes on the circle: accuracy in percent by arrangement"] = pd.concat(
            [one.table() for one in arranged], ignore_index=True
        )
    if learned:
        tables["Learned class vectors and the similarity of inputs"] = pd.DataFrame(
            [_learned_row(group) for group in learned]
        )
    figures = {"Accuracy against the objective of the assignment": _drawn(graded_groups)} if graded_groups else {}
    return Findings(statements, tables, figures)


class Graded:
    """Runs on one data set under assignments of several levels, with those of the learned head.

    Parameters
    ----------
    group : DataFrame
        Rows of `_frame`.
    """

    def __init__(self, group: pd.DataFrame) -> None:
        self.fixed = group[(group["head"] == "code") & group["level"].notna()]
        self.learned = group[group["head"] == "learned"]
        first = group.iloc[0]
        self.data, self.what, self.control = str(first["data"]), str(first["what"]), bool(first["control"])

    @property
    def slope(self) -> Slope:
        """Points of accuracy from a random assignment to the best, through the means of the levels."""
        return slope(self.fixed["share"], self.fixed["accuracy"], self.fixed["level"])

    @property
    def gap_slope(self) -> Slope:
        """The same of test less training accuracy: what generalises, where training accuracy changes as well."""
        gap = self.fixed["test_accuracy"] - self.fixed["train_accuracy"]
        return slope(self.fixed["share"], 100 * gap, self.fixed["level"])

    @property
    def difference(self) -> Interval:
        """Points of accuracy, best assignment less worst, paired by seed."""
        return paired_groups(self._at(1.0), self._at(-1.0), "accuracy")

    @property
    def against_learned(self) -> Interval:
        """Points of accuracy, best assignment less learned head, paired by seed."""
        return paired_groups(self._at(1.0), self.learned, "accuracy")

    @property
    def fitted(self) -> bool:
        """Whether every level fits its training data, so that a change of test accuracy is one of generalisation."""
        return bool((self.fixed.groupby("level")["train_accuracy"].mean() >= FITTED).all())

    def _at(self, level: float) -> pd.DataFrame:
        return self.fixed[self.fixed["level"] == level]

    def sentence(self) -> str:
        """What the assignment does here."""
        if math.isnan(self.slope.slope):
            return (
                f"{self.data}: no two assignments of one seed are finished (n = {self.slope.n}), so there is no slope."
            )
        text = (
            f"{self.data}: from a random assignment to the best, {self.what} accuracy changes by "
            f"{self.slope} points: similar classes near each other "
            f"{side(self.slope, 'help', 'hurt', 'are not shown to matter')}."
        )
        if self.what == "test" and not self.fitted:
            text += f" Test less training accuracy changes by {self.gap_slope} points."
        if self.difference.n:
            best, worst = (100 * self._at(level)["train_accuracy"].mean() for level in (1.0, -1.0))
            text += f" The best assignment less the worst is {self.difference} points"
            text += f" (training accuracy {best:.2f} % and {worst:.2f} %)."
        if self.against_learned.n:
            text += f" The best assignment less the learned head is {self.against_learned} points."
        return text

    def table(self) -> pd.DataFrame:
        """One row a level."""
        rows = []
        for wanted, part in self.fixed.groupby("level", sort=False):
            rows.append(
                {
                    "data": self.data,
                    "level": wanted,
                    "objective": part["objective"].mean(),
                    "share": part["share"].mean(),
                    "accuracy of": self.what,
                    **_columns("accuracy", mean_interval(part["accuracy"])),
                    "training accuracy": 100 * part["train_accuracy"].mean(),
                }
            )
        return pd.DataFrame(rows).sort_values("share", ascending=False)

    def row(self) -> dict[str, Any]:
        """The slope and the differences."""
        one = self.slope
        return {
            "data": self.data,
            "accuracy of": self.what,
            "slope": one.slope,
            "slope, lower": one.lower,
            "slope, upper": one.upper,
            "slope, n": one.n,
            "slope, p": one.p_value,
            "slope of test less training": self.gap_slope.slope,
            "slope of test less training, lower": self.gap_slope.lower,
            "slope of test less training, upper": self.gap_slope.upper,
            **_columns("best less worst", self.difference),
            **_columns("best less learned", self.against_learned),
        }


class Arranged:
    """Runs on four classes under the arrangements of a square.

    Parameters
    ----------
    group : DataFrame
        Rows of `_frame`.
    """

    def __init__(self, group: pd.DataFrame) -> None:
        self.data = str(group.iloc[0]["data"])
        fixed = group[group["head"] == "code"]
        # from the smallest objective: first the arrangement that has similar classes opposite
        self.parts = sorted((part for _, part in fixed.groupby("opposite")), key=lambda part: part["objective"].mean())

    @property
    def difference(self) -> Interval:
        """Points of accuracy: similar classes opposite, less the mean of the other arrangements, paired by seed."""
        first, *others = (part.groupby("seed")["accuracy"].mean() for part in self.parts)
        if not others:
            return mean_interval([])
        rest = pd.concat(others, axis=1).dropna().mean(axis=1)
        return paired_difference(first.to_dict(), rest.to_dict())

    def sentence(self) -> str:
        """What the arrangement does."""
        each = "; ".join(
            f"{mean_interval(part['accuracy'])} % with {part['opposite'].iloc[0]} opposite" for part in self.parts
        )
        text = f"{self.data}: test accuracy is {each}."
        if not self.difference.n:
            return text
        return (
            f"{text} Similar classes opposite, less the mean of the other arrangements: {self.difference} points, "
            f"so putting them far apart {side(self.difference, 'helps', 'hurts', 'is not shown to matter')}. "
            "(The paper, four classes of CIFAR10: 89.95 % with Cat and Dog far apart, else 91.90 % and 92.13 %.)"
        )

    def table(self) -> pd.DataFrame:
        """One row an arrangement, and its difference from the one with similar classes opposite."""
        first = self.parts[0].groupby("seed")["accuracy"].mean().to_dict()
        return pd.DataFrame(
            [
                {
                    "data": self.data,
                    "opposite": part["opposite"].iloc[0],
                    "objective": part["objective"].mean(),
                    **_columns("accuracy", mean_interval(part["accuracy"])),
                    **_columns(
                        "less the first", paired_difference(part.groupby("seed")["accuracy"].mean().to_dict(), first)
                    ),
                    "training accuracy": 100 * part["train_accuracy"].mean(),
                }
                for part in self.parts
            ]
        )


def _columns(name: str, interval: Interval) -> dict[str, float]:
    return {
        name: interval.mean,
        f"{name}, lower": interval.lower,
        f"{name}, upper": interval.upper,
        f"{name}, n": interval.n,
    }


def _verdict(groups: list[Graded]) -> list[str]:
    """Whether similar classes next to each other raise test accuracy and generalise, but for the controls."""
    real = [one for one in groups if not one.control]
    if not real:
        return []
    return [
        f"That similar classes at near vectors give the higher test accuracy is "
        f"{_found([(one.data, one.slope) for one in real])} (by the slope's interval).",
        f"That they narrow the gap from training to test accuracy, and so generalise better, is "
        f"{_found([(one.data, one.gap_slope) for one in real])}.",
    ]


def _found(slopes: list[tuple[str, Slope]]) -> str:
    """On which data a rising slope is shown, on which a falling one, and on which neither."""
    verdicts = ("supported on", "contradicted on", "left open on")
    return "; ".join(
        f"{verdict} {' and '.join(names)}"
        for verdict in verdicts
        if (names := [data for data, one in slopes if side(one, *verdicts) == verdict])
    )


def _control_sentences(groups: list[Graded]) -> list[str]:
    """Whether the slope is gone where the similarity of classes was destroyed."""
    texts = []
    for one in groups:
        if one.control and not math.isnan(one.slope.lower):
            text = (
                f"Control, {one.data}: its slope is {side(one.slope, 'not ', 'not ', '')}compatible with 0 "
                f"({one.slope} points of {one.what} accuracy)"
            )
            if side(one.slope, "shown", "shown", ""):
                text += (
                    ": the similarity that chance leaves is enough for a slope here, so those of other data cannot be "
                    "put down to their similarity alone"
                )
                if not one.fitted:
                    text += "; its runs do not fit their training data, so it is a slope of how well they are fitted"
            texts.append(f"{text}.")
    return texts


def _learned_row(group: pd.DataFrame) -> dict[str, Any]:
    return {
        "data": group["data"].iloc[0],
        **_columns("accuracy", mean_interval(group["accuracy"])),
        "share": group["share"].mean(),
        **_columns("rank correlation", mean_interval(group["correlation"].astype(float))),
        "largest p": group["p_value"].astype(float).max(),
    }


def _learned_sentence(group: pd.DataFrame) -> str:
    """Whether a learned classifier places similar classes near."""
    correlation = mean_interval(group["correlation"].astype(float))
    return (
        f"Learned class vectors, {group['data'].iloc[0]}: their cosines and the similarity of inputs have the rank "
        f"correlation {correlation} (largest p of Mantel's test "
        f"{group['p_value'].astype(float).max():.3g}), and the objective is {group['share'].mean():.2f} of the way "
        "from a random assignment of the fixed code to its best."
    )


def _drawn(groups: list[Graded]) -> Figure:
    """One panel a data set: runs, means with intervals, the line of the slope, and the learned head."""
    figure, panels = axes_figure([one.data for one in groups])
    for axes, one in zip(panels, groups, strict=True):
        fixed = one.fixed
        axes.plot(fixed["share"] + 0.02, fixed["accuracy"], ".", color=INK, alpha=0.35, ms=4, label="a run")
        points = {float(part["share"].mean()): mean_interval(part["accuracy"]) for _, part in fixed.groupby("level")}
        errorbar_panel(axes, points, "mean and its 95 % interval", color=HEAD_COLOURS["code"], ls="none")
        if math.isfinite(one.slope.slope):
            ends = np.array([fixed["share"].min(), fixed["share"].max()])
            means = fixed.groupby("level")[["share", "accuracy"]].mean().mean()
            line = means["accuracy"] + one.slope.slope * (ends - means["share"])
            axes.plot(ends, line, color=COLOURS[3], lw=1.2, label="least squares")
        if len(one.learned):
            axes.axhline(
                one.learned["accuracy"].mean(), color=HEAD_COLOURS["learned"], ls="--", lw=1.2, label="learned"
            )
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, 0), min(high, 100))
        axes.set_xlabel("objective: 0 random, 1 best", fontsize=9)
        axes.set_ylabel(f"{one.what} accuracy, %", fontsize=9)
    shared_legend(figure)
    return figure
