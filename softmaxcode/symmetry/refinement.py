"""Cosines in classes, and colours of points that every symmetry preserves.

A colour is a 64-bit hash. It depends on the cosines alone and not on the numbering of the points, so colours of two
numberings can be compared. If two hashes agree by accident, points are separated less; nothing else depends on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from softmaxcode.checks.limits import NotComputed
from softmaxcode.sphere import gram

if TYPE_CHECKING:
    from softmaxcode.types import Rows

#: A class of cosines may be this many tolerances wide; a wider one is a chain of cosines that are not equal.
WIDEST = 100


def cosine_classes(W: Rows, tolerance: float) -> np.ndarray:
    """The number of the class of every cosine, shape (K, K); -1 on the diagonal.

    Sorted cosines are divided where two neighbours differ by more than the tolerance.

    Raises
    ------
    NotComputed
        If a class is wider than `WIDEST` tolerances.
    """
    G = gram(W)
    values = np.sort(G[np.triu_indices(len(W), 1)])
    ends = np.flatnonzero(np.diff(values) > tolerance)
    first, last = values[np.append(0, ends + 1)], values[np.append(ends, len(values) - 1)]
    if (last - first).max() > WIDEST * tolerance:
        raise NotComputed(
            f"not computed: cosines that differ by {(last - first).max():.1e} cannot be told apart by gaps of more "
            f"than {tolerance:.0e}"
        )
    classes = np.searchsorted((last[:-1] + first[1:]) / 2, G).astype(np.int32)
    classes = np.minimum(classes, classes.T)  # the rounding of G need not be symmetric
    np.fill_diagonal(classes, -1)
    return classes


def mixed(values: np.ndarray) -> np.ndarray:
    """Hashes of 64-bit integers: a bijection by multiplications and shifts (the last step of SplitMix64)."""
    z = values.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


class Refinement:
    """Refines colours of the points until no round separates more of them, and counts its work.

    Parameters
    ----------
    classes : ndarray of int, shape (K, K)
        From `cosine_classes`.
    limit : float
        The most numbers of pairs to process; `NotComputed` is raised beyond it.
    """

    def __init__(self, classes: np.ndarray, limit: float) -> None:
        self.classes = classes
        self.limit = limit
        self.work = 0
        self._hashes = mixed(classes)

    def spend(self) -> None:
        """Count one pass over all pairs."""
        self.work += self.classes.size
        if self.work > self.limit:
            raise NotComputed(f"not computed: the symmetry group needs more than {self.limit:.0e} comparisons of pairs")

    def _round(self, colours: np.ndarray) -> np.ndarray:
        """Colours by the old colour and the numbers of points of each colour at each class of cosines."""
        self.spend()
        return mixed(colours * np.uint64(3) + self._hashes @ mixed(colours))

    def stable(self, colours: np.ndarray) -> tuple[np.ndarray, int]:
        """The refined colours and the rounds that were made."""
        count, rounds = len(np.unique(colours)), 0
        while count < len(colours):
            following = self._round(colours)
            found = len(np.unique(following))
            colours, rounds = following, rounds + 1
            if found <= count:
                break
            count = found
        return colours, rounds

    def repeated(self, colours: np.ndarray, rounds: int) -> np.ndarray:
        """The colours after that many rounds, for comparison with those of `stable`."""
        for _ in range(rounds):
            colours = self._round(colours)
        return colours


def singled_out(colours: np.ndarray, point: int) -> np.ndarray:
    """The colours with a new one for one point."""
    out = colours.copy()
    out[point] = mixed(out[point : point + 1] ^ np.uint64(0xD1B54A32D192ED03))[0]
    return out
