"""Accuracy against the objective of an assignment: one row per run, and slopes and differences by group."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, TypedDict

import pandas as pd

from experiments.assignments import graded, input_similarity
from experiments.class_similarity import mantel
from experiments.codes import code
from experiments.settings import RunSettings
from experiments.statistics import Interval, Slope, mean_interval, paired_difference, slope
from experiments.studies.common import paired_groups
from experiments.tables import counted_columns, interval_columns
from softmaxcode.assignment import cosines
from softmaxcode.sphere import check_rows

if TYPE_CHECKING:
    from collections.abc import Iterable

    from experiments.runs import TrainedRun


#: Training accuracy from which runs count as having fitted their training data.
FITTED = 0.99
#: Relabellings of Mantel's test.
RELABELLINGS = 999


class ObjectiveMeasurement(TypedDict):
    """What `measure` finds."""

    K: int
    objective: float
    best: float
    mean: float
    worst: float
    correlation: float | None
    p_value: float | None
    opposite: str | None


def measure(run: TrainedRun) -> ObjectiveMeasurement:
    r"""The objective of a run's class vectors beside the best, the mean and the worst of the fixed code.

    Parameters
    ----------
    run : TrainedRun

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
    found: ObjectiveMeasurement = {
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


def measurement_frame(runs: Iterable[TrainedRun]) -> pd.DataFrame:
    """One row per run; ``fraction`` is 0 for the mean over all assignments and 1 for the best."""
    rows = []
    for run in runs:
        settings = run.settings
        found = run.evaluation("assignment", ObjectiveMeasurement, measure)
        spread = found["best"] - found["mean"]
        rows.append(
            dict[str, Any](found)
            | {
                "group": group_key(settings),
                "data": data_label(settings, found["K"]),
                "head": settings.head,
                "level": settings.assignment if isinstance(settings.assignment, float) else math.nan,
                "seed": settings.seed,
                "fraction": (found["objective"] - found["mean"]) / spread if spread > 0 else math.nan,
                "what": "training" if settings.data_options.get("relabel") else "test",
                "control": is_control(settings),
            }
            | {name: float(run.final.get(name, math.nan)) for name in ("test_accuracy", "train_accuracy")}
        )
        rows[-1]["accuracy"] = 100 * rows[-1]["train_accuracy" if rows[-1]["what"] == "training" else "test_accuracy"]
    return pd.DataFrame(rows)


def group_key(settings: RunSettings) -> str:
    """What runs that are compared have in common: everything but head, assignment and seeds."""
    plain = settings.to_dict()
    for name in ("head", "assignment", "cmf_momentum", "seed"):
        del plain[name]
    plain["data_options"].pop("seed", None)
    return json.dumps(plain, sort_keys=True)


def data_label(settings: RunSettings, K: int) -> str:
    """The data of a run as text."""
    options = settings.data_options
    label = settings.data
    if "classes" in options:
        label += f" {', '.join(map(str, options['classes']))}"
    if "groups" in options:
        label += f" in {options['groups']} groups"
    if options.get("relabel"):
        label += ", relabelled"
    return f"{label} (K = {K}, d = {settings.d})"


def is_control(settings: RunSettings) -> bool:
    """Whether the classes were made unlike each other on purpose."""
    return bool(settings.data_options.get("relabel")) or settings.data_options.get("groups") == "random"


class Graded:
    """Runs on one data set under assignments of several levels, with those of the learned head.

    Parameters
    ----------
    group : DataFrame
        Rows of `measurement_frame`.
    """

    def __init__(self, group: pd.DataFrame) -> None:
        self.fixed = group[(group["head"] == "code") & group["level"].notna()]
        self.learned = group[group["head"] == "learned"]
        first = group.iloc[0]
        self.data, self.what, self.control = str(first["data"]), str(first["what"]), bool(first["control"])

    @property
    def slope(self) -> Slope:
        """Points of accuracy from a random assignment to the best, through the means of the levels."""
        return slope(self.fixed["fraction"], self.fixed["accuracy"], self.fixed["level"])

    @property
    def gap_slope(self) -> Slope:
        """The same of test less training accuracy: what generalises, where training accuracy changes as well."""
        gap = self.fixed["test_accuracy"] - self.fixed["train_accuracy"]
        return slope(self.fixed["fraction"], 100 * gap, self.fixed["level"])

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

    def training_accuracy(self, level: float) -> float:
        """Mean training accuracy of a level, in per cent."""
        return float(100 * self._at(level)["train_accuracy"].mean())

    def _at(self, level: float) -> pd.DataFrame:
        return self.fixed[self.fixed["level"] == level]

    def table(self) -> pd.DataFrame:
        """One row a level."""
        rows = []
        for wanted, part in self.fixed.groupby("level", sort=False):
            rows.append(
                {
                    "data": self.data,
                    "level": wanted,
                    "objective": part["objective"].mean(),
                    "fraction": part["fraction"].mean(),
                    "accuracy of": self.what,
                    **counted_columns("accuracy", mean_interval(part["accuracy"])),
                    "training accuracy": 100 * part["train_accuracy"].mean(),
                }
            )
        return pd.DataFrame(rows).sort_values("fraction", ascending=False)

    def row(self) -> dict[str, Any]:
        """The slope and the differences."""
        one = self.slope
        return {
            "data": self.data,
            "accuracy of": self.what,
            **interval_columns("slope", one),
            "slope, n": one.n,
            "slope, p": one.p_value,
            **interval_columns("slope of test less training", self.gap_slope),
            **counted_columns("best less worst", self.difference),
            **counted_columns("best less learned", self.against_learned),
        }


class Arranged:
    """Runs on four classes under the arrangements of a square.

    Parameters
    ----------
    group : DataFrame
        Rows of `measurement_frame`.
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

    @property
    def accuracies(self) -> list[tuple[Interval, str]]:
        """Accuracy of each arrangement in per cent, and which classes are opposite."""
        return [(mean_interval(part["accuracy"]), str(part["opposite"].iloc[0])) for part in self.parts]

    def table(self) -> pd.DataFrame:
        """One row an arrangement, and its difference from the one with similar classes opposite."""
        first = self.parts[0].groupby("seed")["accuracy"].mean().to_dict()
        return pd.DataFrame(
            [
                {
                    "data": self.data,
                    "opposite": part["opposite"].iloc[0],
                    "objective": part["objective"].mean(),
                    **counted_columns("accuracy", mean_interval(part["accuracy"])),
                    **counted_columns(
                        "less the first", paired_difference(part.groupby("seed")["accuracy"].mean().to_dict(), first)
                    ),
                    "training accuracy": 100 * part["train_accuracy"].mean(),
                }
                for part in self.parts
            ]
        )
