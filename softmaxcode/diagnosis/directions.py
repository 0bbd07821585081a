"""Classes that share one direction: zero rows, groups of nearly parallel rows, and the largest cosine of each class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from softmaxcode.bounds.best import max_cosine_lower_bound
from softmaxcode.parallel.compiled import compiled
from softmaxcode.sphere import fold_cosines

if TYPE_CHECKING:
    from softmaxcode.types import PerClass, Rows

#: Classes whose cosine is above this share a direction: their vectors are less than 18.2 degrees apart. Where many
#: classes have few dimensions, the angle is at most a third of that at which all could be from each other.
SHARED, OF_SPACED = 0.95, 1 / 3
#: Equal rows may differ by this in their cosine.
ROUNDING = 1e-12
#: Rows whose cosines with all others are computed at once.
BLOCK = 1024


def shared_cosine(K: int, d: int) -> float:
    """The cosine above which classes share a direction.

    Examples
    --------
    >>> round(shared_cosine(876, 32), 4), round(shared_cosine(401, 3), 4)
    (0.95, 0.998)
    """
    spaced = np.arccos(np.clip(max_cosine_lower_bound(K, d, lp=False).value, -1, 1))
    return min(max(SHARED, float(np.cos(OF_SPACED * spaced))), 1 - ROUNDING)


@dataclass(frozen=True, eq=False)
class Directions:
    """The directions of the classes.

    Attributes
    ----------
    largest : ndarray, shape (K,)
        The largest cosine of each class with another.
    nearest : ndarray, shape (K,)
        The class that has it.
    groups : list of ndarray
        Classes that share a direction, the largest group first. Each has a cosine above the threshold with another one
        of its group, and is at most twice that angle from the group's mean direction. Where a chain of classes has no
        middle, as a regular polygon, the order of the rows decides how it is divided.
    """

    largest: PerClass
    nearest: np.ndarray
    groups: list[np.ndarray]

    def group_of(self, K: int) -> np.ndarray:
        """The number of each class's group, from 1; 0 for a class with a direction of its own."""
        number = np.zeros(K, dtype=np.int64)
        for i, members in enumerate(self.groups, 1):
            number[members] = i
        return number


@compiled()
def _root(parent, k):
    while parent[k] != k:
        parent[k] = parent[parent[k]]
        k = parent[k]
    return k


@compiled()
def _unite(parent, k, j):
    a = _root(parent, k)
    b = _root(parent, j)
    if a != b:
        parent[max(a, b)] = min(a, b)


@compiled()
def _unite_near(parent, C, first, second, threshold):
    """Unite the classes of a tile of cosines that are above the threshold."""
    for i in range(C.shape[0]):
        for m in range(C.shape[1]):
            if C[i, m] > threshold:
                _unite(parent, first + i, second + m)


class _Seen:
    """What one thread has seen: the largest cosine of each class, the class that has it, and classes united so far."""

    def __init__(self, K: int) -> None:
        self.largest = np.full(K, -np.inf)
        self.nearest = np.full(K, K)
        self.parent = np.arange(K)

    def take(self, classes: np.ndarray, cosines: np.ndarray, nearest: np.ndarray) -> None:
        """Other largest cosines of different classes; the smaller number wins a tie."""
        known = self.largest[classes]
        better = (cosines > known) | ((cosines == known) & (nearest < self.nearest[classes]))
        self.largest[classes[better]], self.nearest[classes[better]] = cosines[better], nearest[better]

    def fold(self, rows: slice, columns: slice, C: np.ndarray, threshold: float) -> None:
        """The cosines of a tile."""
        for across, down, tile in ((rows, columns, C), (columns, rows, C.T)):
            largest = tile.max(axis=1)
            better = np.flatnonzero(largest >= self.largest[across])
            self.take(across.start + better, largest[better], down.start + tile[better].argmax(axis=1))
        if C.max() > threshold:
            _unite_near(self.parent, C, rows.start, columns.start, threshold)

    def merge(self, other: _Seen) -> None:
        """What another thread has seen."""
        self.take(np.arange(len(self.largest)), other.largest, other.nearest)
        for k in np.flatnonzero(other.parent != np.arange(len(other.parent))):
            _unite(self.parent, k, other.parent[k])


def directions(W: Rows, threshold: float) -> Directions:
    """The largest cosines and the groups of unit rows, in one pass over all pairs; never K x K numbers at once.

    Parameters
    ----------
    W : ndarray, shape (K, d)
        Unit rows, already validated.
    threshold : float
        Rows whose cosine is above it share a direction.

    Returns
    -------
    Directions

    Examples
    --------
    >>> W = np.array([[1.0, 0], [0, 1], [0.999, 0.0447], [-1, 0]])
    >>> found = directions(W / np.linalg.norm(W, axis=1, keepdims=True), 0.95)
    >>> [group.tolist() for group in found.groups], found.nearest.tolist()
    ([[0, 2]], [2, 2, 0, 1])
    """
    K = len(W)
    first, *others = fold_cosines(W, lambda: _Seen(K), lambda seen, *tile: seen.fold(*tile, threshold))
    for other in others:
        first.merge(other)
    roots = np.array([_root(first.parent, k) for k in range(K)])
    order = np.argsort(roots, kind="stable")
    chains = np.split(order, np.flatnonzero(np.diff(roots[order])) + 1)
    groups = [group for chain in chains if len(chain) > 1 for group in _around_means(W, chain, threshold)]
    return Directions(first.largest, first.nearest, sorted(groups, key=lambda part: (-len(part), part[0])))


def _around_means(W: Rows, chain: np.ndarray, threshold: float) -> list[np.ndarray]:
    """Groups of classes near to their mean direction, from a chain of classes with large successive cosines.

    A chain may lead far, as in a classifier of pitch. Then groups are taken from it one by one: the classes near to the
    one that is nearest to the mean of those that are left.
    """
    cosines = W[chain] @ mean_direction(W[chain])
    if cosines.min() > 2 * threshold**2 - 1:  # at most twice the angle
        return [chain]
    groups, left = [], chain
    while len(left) > 1:
        middle = int(np.argmax(W[left] @ mean_direction(W[left])))
        near = W[left] @ W[left[middle]] > threshold
        near[middle] = True  # rounding
        if near.sum() > 1:
            groups.append(left[near])
        left = left[~near]
    return groups


def mean_direction(X: Rows) -> np.ndarray:
    """The direction of the mean of unit rows; any where it is 0."""
    mean = X.mean(axis=0)
    size = np.linalg.norm(mean)
    return mean / size if size > 0 else X[0]


def among(W: Rows, found: Directions, classes: np.ndarray) -> Directions:
    """The largest cosines among some of the classes alone, without groups; ``classes`` are in increasing order."""
    place = np.full(len(W), -1)
    place[classes] = np.arange(len(classes))
    largest, nearest = found.largest[classes], place[found.nearest[classes]]
    for part in np.array_split(np.flatnonzero(nearest < 0), -(-len(classes) // BLOCK)):  # their nearest was left out
        C = W[classes[part]] @ W[classes].T
        C[np.arange(len(part)), part] = -np.inf
        nearest[part] = C.argmax(axis=1)
        largest[part] = C.max(axis=1)
    return Directions(largest, nearest, [])


def representatives(W: Rows, groups: list[np.ndarray]) -> np.ndarray:
    """All classes outside groups, and of each group the one nearest to the group's mean direction."""
    kept = np.ones(len(W), dtype=bool)
    for members in groups:
        kept[members] = False
        kept[members[np.argmax(W[members] @ mean_direction(W[members]))]] = True
    return np.flatnonzero(kept)
