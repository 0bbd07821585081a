"""Lists of the pairs of points whose cosine exceeds a threshold, for energies that neglect all other pairs.

In many dimensions the cosines of all pairs are computed in float32, one tile of the upper triangle after the other. In
few dimensions a k-d tree finds the pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import cKDTree

from softmaxcode.parallel.compiled import compiled

if TYPE_CHECKING:
    from softmaxcode.parallel.deadline import Deadline
    from softmaxcode.parallel.thread_pool import ThreadPool

#: Rows and columns of a tile of cosines: 4 MB in float32.
TILE = (512, 2048)
#: Cosines skipped together where none exceeds the threshold.
_GROUP = 16
#: A k-d tree is faster than tiles up to this dimension, from this many points at d = 3 and twice as many for each more.
TREE_DIMENSION = 6
TREE_POINTS = 3000


class OutOfTime(Exception):
    """Raised inside a search where its deadline passes; the search returns the best so far."""


@dataclass(frozen=True, eq=False)
class NearPairs:
    """For each point its partners, each pair listed from both sides.

    Attributes
    ----------
    start : ndarray, shape (K + 1,), int64
        The partners of point i are ``partners[start[i]:start[i + 1]]``.
    partners : ndarray of int32
        Indices of points.
    threshold : float
        All pairs of larger cosine are listed.
    """

    start: np.ndarray
    partners: np.ndarray
    threshold: float

    def per_point(self) -> float:
        """The mean number of partners."""
        return len(self.partners) / (len(self.start) - 1)


@compiled()
def _scan(C, threshold, row, column, rows, columns, found):
    """Append the pairs i < j of a tile above the threshold to ``rows`` and ``columns``, from position ``found``.

    Returns the number found, also beyond the length of the arrays.
    """
    n, m = C.shape
    room = len(rows)
    for a in range(n):
        begin = max(0, row + a + 1 - column)
        b = begin
        while b < m:
            end = min(b + _GROUP, m)
            largest = np.float32(-2.0)
            for c in range(b, end):
                largest = max(largest, C[a, c])
            if largest > threshold:
                for c in range(b, end):
                    if C[a, c] > threshold:
                        if found < room:
                            rows[found] = row + a
                            columns[found] = column + c
                        found += 1
            b = end
    return found


@compiled()
def _count(rows, columns, counts):
    for p in range(len(rows)):
        counts[rows[p]] += 1
        counts[columns[p]] += 1


@compiled()
def _fill(rows, columns, position, partners):
    """List every pair from both sides; ``position`` is where the next partner of a point goes."""
    for p in range(len(rows)):
        i = rows[p]
        j = columns[p]
        partners[position[i]] = j
        position[i] += 1
        partners[position[j]] = i
        position[j] += 1


def near_pairs(X: np.ndarray, threshold: float, pool: ThreadPool, deadline: Deadline | None = None) -> NearPairs:
    """All pairs whose cosine exceeds the threshold.

    Parameters
    ----------
    X : ndarray, shape (K, d), float32
        Unit rows; d may be padded by zeros.
    threshold : float
        Cosines above it are listed.
    pool : ThreadPool
        The threads that compute tiles; the result does not depend on their number.
    deadline : Deadline, optional
        Past it the pass over the tiles is left.

    Raises
    ------
    OutOfTime
        If the deadline passes.

    Examples
    --------
    >>> import numpy as np
    >>> from softmaxcode.parallel.thread_pool import ThreadPool
    >>> X = np.array([[1, 0], [0.8, 0.6], [0, 1], [-1, 0]], dtype=np.float32)
    >>> pairs = near_pairs(X, 0.5, ThreadPool(1))
    >>> pairs.start.tolist(), pairs.partners.tolist()
    ([0, 1, 3, 4, 4], [1, 0, 2, 1])
    """
    K = len(X)
    parts = [tree_pairs(X, threshold)] if uses_tree(*X.shape) else tiled_pairs(X, threshold, pool, deadline)
    counts = np.zeros(K + 1, dtype=np.int64)
    for rows, columns in parts:
        _count(rows, columns, counts[1:])
    start = np.cumsum(counts)
    partners = np.empty(int(start[-1]), dtype=np.int32)
    position = start[:-1].copy()
    while parts:  # each part is freed once it is copied
        _fill(*parts.pop(0), position, partners)
    return NearPairs(start, partners, threshold)


def uses_tree(K: int, d: int) -> bool:
    """Whether a k-d tree finds the pairs."""
    return d <= TREE_DIMENSION and K >= TREE_POINTS * 2 ** (d - 3)


def tree_pairs(X: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns i < j of the pairs above a threshold, by a k-d tree."""
    tree = cKDTree(X, compact_nodes=False, balanced_tree=False)
    found = tree.query_pairs(np.sqrt(max(0.0, 2 - 2 * threshold)), output_type="ndarray")
    return found[:, 0].astype(np.int32), found[:, 1].astype(np.int32)


def tiled_pairs(
    X: np.ndarray, threshold: float, pool: ThreadPool, deadline: Deadline | None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows and columns i < j of the pairs above a threshold, by tiles of cosines; one entry per block of rows."""
    K = len(X)
    height, width = TILE
    limit = np.float32(threshold)

    def block(row: int) -> tuple[np.ndarray, np.ndarray]:
        if deadline is not None and deadline.passed:
            raise OutOfTime
        part = X[row : row + height]
        room = 4096
        rows, columns = np.empty(room, dtype=np.int32), np.empty(room, dtype=np.int32)
        found = 0
        buffer = np.empty(height * width, dtype=np.float32)
        for column in range(row, K, width):
            other = X[column : column + width]
            C = buffer[: len(part) * len(other)].reshape(len(part), len(other))
            np.dot(part, other.T, out=C)
            total = _scan(C, limit, row, column, rows, columns, found)
            if total > room:
                room = max(total, int(1.1 * total * (K - row) / (column + len(other) - row)))
                rows, columns = (np.resize(a[:found], room) for a in (rows, columns))
                total = _scan(C, limit, row, column, rows, columns, found)
            found = total
        return rows[:found].copy(), columns[:found].copy()

    return list(pool.map(block, range(0, K, height)))
