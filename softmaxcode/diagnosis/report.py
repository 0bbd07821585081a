"""The result of a diagnosis: what was read at once, and measurements that are made when they are first asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from softmaxcode.diagnosis.directions import (
    Directions,
    among,
    directions,
    mean_direction,
    representatives,
    shared_cosine,
)
from softmaxcode.diagnosis.references import References, references
from softmaxcode.diagnosis.rows import RawRows, raw_rows
from softmaxcode.margins.nearest import NearestClasses, nearest_from_bounds
from softmaxcode.parallel.deadline import Deadline
from softmaxcode.sphere import angle_degrees, row_norms, unit_rows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from softmaxcode.checkpoints import Classifier
    from softmaxcode.diagnosis.data import DataMeasurements
    from softmaxcode.types import PerClass, Rows

#: Classes in most danger that are looked for first.
MOST = 30
#: Parts of the time: for the smallest margin, those of the classes in most danger and of all classes, and for random
#: rows and rows without their mean.
FIRST, LONG, SHORT = 0.15, 0.3, 0.1


@dataclass(frozen=True)
class Options:
    """How a classifier is measured; see `softmaxcode.diagnose`."""

    temperature: float | None
    shared: float | None
    seconds: float
    search: bool
    seed: int


class Diagnosis:
    """What was found in a classifier; ``print`` shows one page.

    Every measurement is made when it is first asked for, and kept. Classes of which the row is zero have no direction
    and are left out; the others are numbered from 0 to K - 1 in their order.

    Parameters
    ----------
    read : Classifier
        What was read.
    names : sequence of str, optional
        Names of its classes.
    options : Options
        How it is measured.
    data : DataMeasurements, optional
        Measurements on data.

    Attributes
    ----------
    source : str
        Where the classifier is from.
    notes : tuple of str
        How it was read, a sentence each.
    K, d : int
        Number of classes that are measured, and the dimension.
    names : list of str
        Their names, or their row numbers as text.
    row_numbers : ndarray, shape (K,)
        Their row numbers in the classifier.
    zero_classes : list of str
        Names of the rows of zeros.
    norms : ndarray, shape (K,)
        The norms of the rows.
    bias : ndarray, shape (K,), or None
        Their bias.
    W : ndarray, shape (K, d)
        The unit rows.

    Raises
    ------
    ValueError
        If fewer than two rows are not zero.

    Examples
    --------
    >>> import numpy as np, softmaxcode as sc
    >>> report = sc.diagnose(np.array([[1.0, 0], [0.8, 0.6], [0, 1], [-1, 0], [0, -1]]), search=False)
    >>> round(report.margin, 4), report.danger["class"][0], report.danger["competitors"][0]
    (0.2828, '1', ['0', '2'])
    """

    def __init__(
        self,
        read: Classifier,
        names: Sequence[str] | None,
        options: Options,
        data: DataMeasurements | None = None,
    ) -> None:
        called = [str(k) for k in range(read.K)] if names is None else list(names)
        zero = ~read.W.any(axis=1)
        self.row_numbers = np.flatnonzero(~zero)
        if len(self.row_numbers) < 2:
            raise ValueError(
                f"{read.source} must have at least two rows that are not zero; of its {read.K} rows {int(zero.sum())} "
                "are zero"
            )
        self.read, self.options, self.data = read, options, data
        self.source, self.notes = read.source, read.notes
        self._called = called
        self.names = [called[k] for k in self.row_numbers]
        self.zero_classes = [called[k] for k in np.flatnonzero(zero)]
        raw = read.W[self.row_numbers]
        self.norms: PerClass = row_norms(raw)
        self.bias: PerClass | None = None if read.bias is None else read.bias[self.row_numbers]
        self.W: Rows = unit_rows(raw)
        self.K, self.d = self.W.shape

    @cached_property
    def directions(self) -> Directions:
        """The largest cosine of each class, and the groups of classes that share a direction."""
        return directions(self.W, self.shared)

    @cached_property
    def shared(self) -> float:
        """The cosine above which classes share a direction."""
        return shared_cosine(self.K, self.d) if self.options.shared is None else self.options.shared

    @cached_property
    def distinct(self) -> np.ndarray:
        """One class of each group, and all classes outside groups, shape (n,); all where only one would be left."""
        kept = representatives(self.W, self.directions.groups)
        return kept if len(kept) > 1 else np.arange(self.K)

    @cached_property
    def distinct_directions(self) -> Directions:
        """The largest cosines among the `distinct` classes, numbered as those."""
        if len(self.distinct) == self.K:
            return self.directions
        return among(self.W, self.directions, self.distinct)

    @cached_property
    def smallest(self) -> NearestClasses:
        """The class nearest to the hull of all others, duplicates included."""
        return self._nearest(self.W, self.directions, 1, FIRST)

    @cached_property
    def most_danger(self) -> NearestClasses:
        """The classes nearest to the hull of the others among the `distinct` ones, numbered as those."""
        known = self.smallest if len(self.distinct) == self.K else None
        return self._nearest(self.W[self.distinct], self.distinct_directions, MOST, LONG, known)

    @cached_property
    def everyone(self) -> NearestClasses:
        """All classes, the nearest to the hull of the others first, as far as the time allows."""
        known = self.most_danger if len(self.distinct) == self.K else self.smallest
        return self._nearest(self.W, self.directions, None, LONG, known)

    def _nearest(
        self, W: Rows, seen: Directions, count: int | None, part: float, known: NearestClasses | None = None
    ) -> NearestClasses:
        deadline = Deadline(part * self.options.seconds)
        return nearest_from_bounds(W, 1 - seen.largest, count, known=known, deadline=deadline)

    @cached_property
    def rows(self) -> RawRows:
        """Norms, bias and mean of the raw rows."""
        seconds = SHORT * self.options.seconds
        norm = None if self.data is None else self.data.feature_norm
        return raw_rows(self.read, self.row_numbers, self.norms, self.W, self.distinct, self.everyone, seconds, norm)

    @cached_property
    def references(self) -> References:
        """Margins of other classifiers of this size."""
        given = self.options
        return references(
            self.K,
            self.d,
            temperature=given.temperature,
            search=given.search,
            seconds=SHORT * given.seconds,
            seed=given.seed,
        )

    @property
    def margin(self) -> float:
        """The smallest one-vs-rest distance, rho(W), of all classes; see `distinct_margin` for one of each group."""
        return self.smallest.margin

    @property
    def distinct_margin(self) -> float:
        """The smallest one-vs-rest distance among the `distinct` classes."""
        return self.most_danger.margin

    @cached_property
    def danger(self) -> pd.DataFrame:
        """One row per solved class, those in most danger first.

        Its columns are ``class`` (name), ``row`` (number in the classifier), ``margin``, ``competitors`` (a list of
        names, by decreasing weight), ``weights`` (of the same length), ``nearest`` (the class with the largest cosine),
        ``cosine``, ``angle`` (degrees), ``norm``, ``bias`` (if there is one) and ``group`` (0 for none).
        """
        return self._table(self.everyone, self.directions, np.arange(self.K))

    @cached_property
    def distinct_danger(self) -> pd.DataFrame:
        """The first rows of `danger`, where each group of classes with one direction counts as one class."""
        return self._table(self.most_danger, self.distinct_directions, self.distinct).head(MOST)

    def _table(self, found: NearestClasses, seen: Directions, classes: np.ndarray) -> pd.DataFrame:
        """A table of classes that were solved; ``classes`` are the numbers of those that were measured together."""
        group = self.directions.group_of(self.K)
        rows = []
        for rank, i in enumerate(found.classes):
            k = classes[i]
            competitors, weights = found.solved.competitors(rank)
            cosine = float(seen.largest[i])
            row = {
                "class": self.names[k],
                "row": int(self.row_numbers[k]),
                "margin": float(found.solved.margins[rank]),
                "competitors": [self.names[classes[j]] for j in competitors],
                "weights": weights.tolist(),
                "nearest": self.names[classes[seen.nearest[i]]],
                "cosine": cosine,
                "angle": angle_degrees(cosine),
                "norm": float(self.norms[k]),
            }
            if self.bias is not None:
                row["bias"] = float(self.bias[k])
            rows.append(row | {"group": int(group[k])})
        return pd.DataFrame(rows)

    @cached_property
    def groups(self) -> pd.DataFrame:
        """One row per group of classes that share a direction, the largest first.

        Its columns are ``group``, ``size``, ``classes`` (names), ``smallest_cosine`` (to the group's mean direction),
        ``median_norm``, ``median_norm_of_others``, and the same for the bias where there is one.
        """
        inside = self.directions.group_of(self.K) > 0
        rows = []
        for number, members in enumerate(self.directions.groups, 1):
            row = {
                "group": number,
                "size": len(members),
                "classes": [self.names[k] for k in members],
                "smallest_cosine": float((self.W[members] @ mean_direction(self.W[members])).min()),
            }
            for name, values in (("norm", self.norms), ("bias", self.bias)):
                if values is not None:
                    others = values[~inside]
                    row[f"median_{name}"] = float(np.median(values[members]))
                    row[f"median_{name}_of_others"] = float(np.median(others)) if len(others) else float("nan")
            rows.append(row)
        return pd.DataFrame(rows, columns=None if rows else ["group", "size", "classes", "smallest_cosine"])

    @cached_property
    def confused(self) -> pd.DataFrame | None:
        """Pairs of classes that the data confuse, the most frequent first; None without data.

        Its columns are ``class`` and ``predicted`` (names), ``count``, ``fraction`` of the class's samples, and the
        ``cosine`` of both rows.
        """
        if self.data is None:
            return None
        pairs = self.data.confused
        X = np.zeros((len(self._called), self.d))
        X[self.row_numbers] = self.W
        first, second = pairs["row"].to_numpy(), pairs["predicted"].to_numpy()
        return pd.DataFrame(
            {
                "class": [self._called[k] for k in first],
                "predicted": [self._called[k] for k in second],
                "count": pairs["count"],
                "fraction": pairs["fraction"],
                "cosine": np.einsum("nd,nd->n", X[first], X[second]),
            }
        )

    def __str__(self) -> str:
        from softmaxcode.diagnosis.text import parts

        return "\n".join(parts(self))

    def __repr__(self) -> str:
        return f"<Diagnosis of {self.source}: K = {self.K}, d = {self.d}>"

    def to_html(self, path: str | Path, *, replace: bool = True) -> Path:
        """Write the report as one HTML page that needs no other file and no network.

        Parameters
        ----------
        path : path
            An ``.html`` file in a folder that exists.
        replace : bool
            Whether an existing file may be replaced.

        Raises
        ------
        ValueError
            If the path cannot be written.
        """
        from softmaxcode.diagnosis.html import write_html

        return write_html(self, path, replace=replace)
