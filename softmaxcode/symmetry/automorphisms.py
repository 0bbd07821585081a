"""The order and generators of a code's symmetry group, by a chain of stabilisers.

A base b_1, ..., b_m is chosen so that fixing its points separates all points. The order of the group is the product of
the sizes of the orbits of b_i under the stabiliser of b_1, ..., b_(i-1) (Sims 1970). From the last level to the first,
a backtracking search decides for each point whether a symmetry takes b_i to it. Refined colours restrict that search
(McKay 1981). Symmetries that were found join points into orbits, so that one point per orbit is decided.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from softmaxcode.checks.arguments import shown
from softmaxcode.checks.limits import NotComputed
from softmaxcode.sphere import check_rows
from softmaxcode.symmetry.refinement import Refinement, cosine_classes, singled_out

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike

#: Cosines that differ by at most this are equal. Polished coordinates are accurate to 1e-15.
TOLERANCE = 1e-9
#: The most points; three arrays of that many squared are stored.
MAX_POINTS = 1500
#: The most comparisons of pairs, about a second of one core.
MAX_WORK = 5e8


@dataclass(frozen=True, eq=False)
class SymmetryGroup:
    """The permutations of a code's points that preserve every cosine.

    Each is the restriction of an isometry of the points' span, reflections included.

    Attributes
    ----------
    order : int
        The number of these permutations.
    generators : tuple of ndarray of int, shape (K,)
        Permutations that generate the group: point i goes to ``generator[i]``.
    """

    order: int
    generators: tuple[np.ndarray, ...]


class ChainLevel(NamedTuple):
    """A level of the chain: the colours before and after its base point is singled out, and the rounds between."""

    point: int
    before: np.ndarray
    rounds: int
    after: np.ndarray


class PointOrbits:
    """The orbits of the points under permutations that are added one by one."""

    def __init__(self, count: int) -> None:
        self._label = np.arange(count)

    def add(self, permutation: np.ndarray) -> None:
        """Join every point with its image."""
        while True:
            smaller = np.minimum(self._label, self._label[permutation])
            np.minimum.at(smaller, permutation, self._label)
            smaller = smaller[smaller]  # a label is a point of the same orbit
            if np.array_equal(smaller, self._label):
                return
            self._label = smaller

    def of(self, point: int) -> np.ndarray:
        """The points of one orbit, ascending."""
        return np.flatnonzero(self._label == self._label[point])


def symmetry_group(W: ArrayLike, *, tolerance: float = TOLERANCE, max_work: float = MAX_WORK) -> SymmetryGroup:
    """The symmetry group of a code.

    Parameters
    ----------
    W : array_like, shape (K, d)
        Unit rows, at most `MAX_POINTS`.
    tolerance : float
        Sorted cosines whose neighbours differ by at most this are equal.
    max_work : float
        The most comparisons of pairs; 5e8 take about a second.

    Returns
    -------
    SymmetryGroup
        Its order is exact for the classes of equal cosines.

    Raises
    ------
    ValueError
        For rows that are not unit vectors, or a tolerance that is not positive.
    NotComputed
        For too many points, more work than ``max_work``, or cosines without gaps between them.

    References
    ----------
    C. C. Sims, Computational methods in the study of permutation groups (1970). B. D. McKay, Practical graph
    isomorphism (1981).

    Examples
    --------
    >>> import softmaxcode as sc
    >>> symmetry_group(sc.best_known(12, 3).W).order
    120
    """
    W = check_rows(W)
    if not (isinstance(tolerance, int | float) and 0 < tolerance < 1):
        raise ValueError(f"tolerance must be a number between 0 and 1; got {shown(tolerance)}")
    if len(W) > MAX_POINTS:
        raise NotComputed(f"not computed: the symmetry group of {len(W)} points (the limit is {MAX_POINTS})")
    refinement = Refinement(cosine_classes(W, tolerance), max_work)
    chain = _chain(refinement)
    orbits = PointOrbits(len(W))
    generators: list[np.ndarray] = []
    sizes: list[int] = []
    for depth in reversed(range(len(chain))):
        found = _level_generators(refinement, chain, depth, orbits)
        generators += found
        sizes.append(len(orbits.of(chain[depth].point)))
    return SymmetryGroup(math.prod(sizes), tuple(generators))


def _chain(refinement: Refinement) -> list[ChainLevel]:
    """Single out a point of the largest cell of equal colours until all colours differ."""
    colours, _ = refinement.stable(np.zeros(len(refinement.classes), dtype=np.uint64))
    chain: list[ChainLevel] = []
    while True:
        _, first, counts = np.unique(colours, return_index=True, return_counts=True)
        if counts.max() == 1:
            return chain
        point = int(first[counts == counts.max()].min())
        after, rounds = refinement.stable(singled_out(colours, point))
        chain.append(ChainLevel(point, colours, rounds, after))
        colours = after


def _level_generators(
    refinement: Refinement, chain: list[ChainLevel], depth: int, orbits: PointOrbits
) -> list[np.ndarray]:
    """Symmetries that fix the base points above a level and join its base point with every point that is possible."""
    level = chain[depth]
    found: list[np.ndarray] = []
    refused: list[int] = []
    for point in np.flatnonzero(level.before == level.before[level.point]).tolist():
        orbit = orbits.of(point)
        if np.isin([level.point, *refused], orbit).any():
            continue
        permutation = _search(refinement, chain, depth, level.before, point)
        if permutation is None:
            refused.append(point)
        else:
            found.append(permutation)
            orbits.add(permutation)
    return found


def _search(
    refinement: Refinement, chain: list[ChainLevel], depth: int, colours: np.ndarray, image: int
) -> np.ndarray | None:
    """A symmetry that takes the base point of a level to ``image``, or None; ``colours`` are those of the images."""
    # the images left to try at this level and the ones below it, each with the colours before
    left: list[tuple[np.ndarray, Iterator[int]]] = [(colours, iter([image]))]
    while left:
        colours, images = left[-1]
        point = next(images, None)
        if point is None:
            left.pop()
            continue
        at = depth + len(left) - 1
        after = refinement.repeated(singled_out(colours, point), chain[at].rounds)
        if not np.array_equal(np.sort(after), np.sort(chain[at].after)):
            continue
        permutation = _matched(chain[at].after, after)
        refinement.spend()
        if np.array_equal(refinement.classes[np.ix_(permutation, permutation)], refinement.classes):
            return permutation
        if at + 1 < len(chain):
            left.append((after, _images(after, chain[at + 1])))
    return None


def _images(colours: np.ndarray, level: ChainLevel) -> Iterator[int]:
    """The points to which the base point of a level may go, itself first."""
    cell = np.flatnonzero(colours == level.before[level.point]).tolist()
    if level.point in cell:
        yield level.point
    yield from (point for point in cell if point != level.point)


def _matched(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """A permutation that takes each point to one of its colour, and points to themselves where possible."""
    permutation = np.arange(len(source))
    moved = np.flatnonzero(source != target)
    permutation[moved[np.argsort(source[moved], kind="stable")]] = moved[np.argsort(target[moved], kind="stable")]
    return permutation
