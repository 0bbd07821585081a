"""Subsets of a code that are better than the whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from softmaxcode.sphere import gram

if TYPE_CHECKING:
    from softmaxcode.types import Rows

#: Cosines nearer to each other than this count as one level.
LEVEL = 1e-9
#: The most changes to an independent set in search of a larger one, and the most changes times vectors.
CHANGES = 1000
EFFORT = 200_000
#: Levels below the largest cosine that are tried: codes of an exact family have few.
MAX_LEVELS = 8


@dataclass(frozen=True, eq=False)
class Subset:
    """Rows of a code whose cosines are all below a level of the whole code.

    Attributes
    ----------
    indices : ndarray of int
        Indices of the rows, ascending.
    max_cosine : float
        The largest cosine among them.
    """

    indices: np.ndarray
    max_cosine: float


def subsets(W: Rows) -> tuple[Subset, ...]:
    """For every level of the cosines but the lowest: many rows whose cosines are all below that level.

    The largest such set is a maximum independent set of a graph, which is hard to find. A local search with a fixed
    seed finds one that cannot be extended.

    Parameters
    ----------
    W : ndarray, shape (K, d)
        Unit rows.
    """
    G = gram(W)
    values = np.unique(np.round(G[np.isfinite(G)] / LEVEL)) * LEVEL
    levels = values[np.concatenate([[True], np.diff(values) > 3 * LEVEL])][::-1][:MAX_LEVELS]
    rng = np.random.default_rng(0)
    found = []
    for level in levels[:-1]:
        near = G > level - 2 * LEVEL
        np.fill_diagonal(near, False)
        best = _independent(near, rng)
        if len(best) <= 2 * W.shape[1]:  # a cross-polytope is at least as good
            break
        inner = G[np.ix_(best, best)]
        found.append(Subset(best, float(inner[np.isfinite(inner)].max())))
    return tuple(found)


def _independent(near: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A large set of vertices no two of which are near.

    It uses iterated local search. A vertex from outside is added and its neighbours are removed. Free vertices with the
    fewest free neighbours then fill the set. The change is kept unless the set became smaller.
    """
    chosen = _filled(near, np.zeros(len(near), dtype=bool), rng)
    for _ in range(min(CHANGES, EFFORT // len(near))):
        changed = chosen.copy()
        v = int(rng.choice(np.flatnonzero(~chosen)))
        changed[near[v]] = False
        changed[v] = True
        changed = _filled(near, changed, rng)
        if changed.sum() >= chosen.sum():
            chosen = changed
    return np.flatnonzero(chosen)


def _filled(near: np.ndarray, chosen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add vertices near to none of the set, those with the fewest free neighbours first, until none is left."""
    chosen = chosen.copy()
    free = ~chosen & ~near[chosen].any(axis=0)
    while free.any():
        members = np.flatnonzero(free)
        degree = near[np.ix_(members, members)].sum(axis=1) + rng.random(len(members))
        v = members[np.argmin(degree)]
        chosen[v] = True
        free &= ~near[v]
        free[v] = False
    return chosen


def greedy_subset(W: Rows, K: int) -> np.ndarray:
    """Indices of K rows, ascending: the row with the most contacts is removed repeatedly until K are left."""
    G = gram(W)
    contacts = G > G.max() - LEVEL
    degree = contacts.sum(axis=1).astype(float)
    kept = np.ones(len(W), dtype=bool)
    for _ in range(len(W) - K):
        v = int(np.argmax(np.where(kept, degree, -np.inf)))
        kept[v] = False
        degree -= contacts[v]
    return np.flatnonzero(kept)
