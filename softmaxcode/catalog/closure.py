"""What follows from stored codes for every pair: points left out, zeros appended, and sums of codes.

For a pair (K, d) these count (docs/catalog.md):

1. a stored code of at least K points in at most d dimensions, points left out and zero coordinates appended;
2. a union of stored codes in orthogonal subspaces. Its cosines are those of its parts and 0.

Let f(K, d) be the best value. By 1 it does not grow with K and does not fall with d. A union has the value v >= 0 where
each part has at least v, for v <= 1 (docs/theory.md, T2). So for each v the largest number of points N(d, v) of a union
is an unbounded knapsack over the dimensions, and f(K, d) is the largest v with N(d, v) >= K.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from softmaxcode.exact import Part, best, parts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from softmaxcode.exact import ExactCode
    from softmaxcode.types import Rows

#: Regular polygons of up to this many points are parts of unions.
MAX_POLYGON = 64
#: Values of unions are searched for down to this difference.
SAME_VALUE = 1e-13


@dataclass(frozen=True)
class FromForm:
    """A closed form, in its own dimension."""

    K: int
    d: int


@dataclass(frozen=True, eq=False)
class FromFamily:
    """A construction of the exact families, or a subset of it."""

    part: Part


@dataclass(frozen=True)
class FromFile:
    """An entry of a catalogue: the file's place in the stack (0 is the one shipped) and its SHA-256."""

    file: int
    sha256: str


class Row(NamedTuple):
    """A stored code: its size, and its value under one objective, rho or 1 - mu."""

    K: int
    d: int
    value: float
    source: FromForm | FromFamily | FromFile


class Joined(NamedTuple):
    """Codes in orthogonal subspaces, the axes that are left over last, and the value of the union."""

    value: float
    rows: tuple[Row, ...]


class Filled(NamedTuple):
    """A stored code with one more point, in its deepest hole."""

    row: Row
    W: Rows


class Table:
    """Stored codes of one objective, to be asked for the best code that follows from them.

    Parameters
    ----------
    rows : iterable of Row
        The codes. Those with a closed form (K <= 2d or d <= 2) are ignored.

    Examples
    --------
    >>> table = Table([Row(12, 3, 0.55, FromFile(0, "")), Row(24, 4, 0.5, FromFile(0, ""))])
    >>> table.direct(11, 3).K, table.direct(13, 9).K, table.direct(13, 3)
    (12, 24, None)
    >>> joined = table.joined(30, 7)
    >>> joined.value, [(row.K, row.d) for row in joined.rows]
    (0.5, [(12, 3), (24, 4)])
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        self.rows = [row for row in rows if row.d > 2 and row.K > 2 * row.d]
        self.K = np.array([row.K for row in self.rows], dtype=np.int64)
        self.d = np.array([row.d for row in self.rows], dtype=np.int64)
        self.value = np.array([row.value for row in self.rows])

    def direct(self, K: int, d: int) -> Row | None:
        """The best code of at least K points in at most d dimensions; of equal ones that with the fewest points."""
        fits = np.flatnonzero((self.K >= K) & (self.d <= d))
        if not len(fits):
            return None
        best = fits[self.value[fits] >= self.value[fits].max() - SAME_VALUE]
        return self.rows[min(best, key=lambda i: (self.K[i], -self.d[i], isinstance(self.rows[i].source, FromFile)))]

    def joined(self, K: int, d: int, above: float = 0.0) -> Joined | None:
        """The best union of codes in orthogonal subspaces with at least K points, if its value exceeds ``above``."""
        inside = self.d <= d
        polygons = [2 * math.sin(math.pi / n) ** 2 for n in range(5, min(K, MAX_POLYGON) + 1)] if d >= 2 else []
        candidates = np.unique(np.concatenate([self.value[inside], polygons]))
        candidates = candidates[(candidates > above + SAME_VALUE) & (candidates <= 1)]
        low, high = -1, len(candidates)  # candidates[low] can be had, candidates[high] cannot
        while high - low > 1:
            middle = (low + high) // 2
            if self._most(d, float(candidates[middle]))[0] >= K:
                low = middle
            else:
                high = middle
        if low < 0:
            return None
        value = float(candidates[low])
        return Joined(value, tuple(self._chosen(d, value)))

    def _items(self, d: int, value: float) -> list[tuple[int, int, Row]]:
        """Codes of at least a value: dimension, points beyond the 2 for each dimension, and the code."""
        best: dict[int, tuple[int, Row]] = {}
        for i in np.flatnonzero((self.value >= value) & (self.d <= d)):
            row = self.rows[i]
            gain = row.K - 2 * row.d
            if row.d not in best or (gain, row.value) > (best[row.d][0], best[row.d][1].value):
                best[row.d] = gain, row
        sides = max((n for n in range(5, MAX_POLYGON + 1) if 2 * math.sin(math.pi / n) ** 2 >= value), default=0)
        if sides and d >= 2:
            best[2] = sides - 4, Row(sides, 2, 2 * math.sin(math.pi / sides) ** 2, FromForm(sides, 2))
        items: list[tuple[int, int, Row]] = []
        for n in sorted(best):
            if not items or best[n][0] > items[-1][1]:
                items.append((n, *best[n]))
        return items

    def _most(self, d: int, value: float) -> tuple[int, np.ndarray, list[tuple[int, int, Row]]]:
        """The most points of a union of codes of at least a value, the last code of each dimension, and the codes."""
        items = self._items(d, value)
        sizes = np.array([n for n, _, _ in items], dtype=np.int64)
        gains = np.array([gain for _, gain, _ in items], dtype=np.int64)
        most, last = np.zeros(d + 1, dtype=np.int64), np.full(d + 1, -1)
        for n in range(1, d + 1):
            most[n] = most[n - 1]
            fits = int(np.searchsorted(sizes, n, side="right"))
            if fits:
                totals = most[n - sizes[:fits]] + gains[:fits]
                i = int(np.argmax(totals))
                if totals[i] > most[n]:
                    most[n], last[n] = totals[i], i
        return 2 * d + int(most[d]), last, items

    def _chosen(self, d: int, value: float) -> list[Row]:
        _, last, items = self._most(d, value)
        chosen, axes = [], 0
        while d:
            if last[d] < 0:
                d, axes = d - 1, axes + 1
            else:
                chosen.append(items[last[d]][2])
                d -= items[last[d]][0]
        chosen.sort(key=lambda row: (row.d, row.K))
        return [*chosen, *([Row(2 * axes, axes, 1.0, FromForm(2 * axes, axes))] if axes else [])]


@functools.lru_cache(maxsize=64)
def family_rows(d: int, objective: str) -> tuple[Row, ...]:
    """The rows of all exact families in at most d dimensions."""
    return tuple(
        Row(part.K, n, part.level.margin if objective == "softmax" else 1 - part.level.max_cosine, FromFamily(part))
        for n in range(3, d + 1)
        for part in parts(n)
    )


def closed_code(source: FromForm) -> ExactCode:
    """A closed form as an exact code."""
    found = best(source.K, source.d)
    assert found is not None
    return found
