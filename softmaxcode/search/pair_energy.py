r"""Energies of many points in float32, over listed pairs or over all pairs in tiles.

With c_ij = <x_i, x_j> and N(i) the partners of point i, the two energies are

.. math:: E = \frac1\beta \log \sum_i \sum_{j \in N(i)} e^{\beta c_{ij}}, \qquad
          E_{each} = \frac1{\beta} \sum_i \log \sum_{j \in N(i)} e^{\beta c_{ij}} .

The first one tends to the largest cosine. The second one moves every point away from its own neighbours. It spreads a
random start, where the first one acts on the few worst pairs alone.

Cosines are stored as c - 1 = -|x_i - x_j|^2 / 2, which float32 resolves also where points are very near. Every row of
the gradient is one sum over the partners of its point. So rows are computed on any number of threads with
the same result.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np

from softmaxcode.parallel.compiled import compiled

if TYPE_CHECKING:
    from softmaxcode.parallel.pool import Pool
    from softmaxcode.search.near_pairs import NearPairs

#: Weights below e^-12 of the largest are neglected.
CUTOFF = 12.0
#: Rows of a tile where all pairs are evaluated, and blocks of rows per thread.
TILE_ROWS = 256
BLOCKS = 4
# As in `softmaxcode.search.energy`: no loop may both sum and store.
_FAST = {"contract", "reassoc", "nsz", "arcp"}


@compiled(fastmath=_FAST)
def _cosines(X, start, partners, C, tops, first, last):
    """Cosines minus 1 with all partners, and the largest of each row."""
    d = X.shape[1]
    for i in range(first, last):
        x = X[i]
        top = np.float32(-4.0)
        for p in range(start[i], start[i + 1]):
            y = X[partners[p]]
            s = np.float32(0.0)
            for c in range(d):
                s += (x[c] - y[c]) * (x[c] - y[c])
            s *= np.float32(-0.5)
            C[p] = s
            top = max(top, s)
        tops[i] = top


@compiled(fastmath=_FAST)
def _project(x, g):
    radial = np.float32(0.0)
    for c in range(len(x)):
        radial += x[c] * g[c]
    for c in range(len(x)):
        g[c] -= radial * x[c]


@compiled(fastmath=_FAST)
def exp_below(x):
    """e^x for x <= 0, and 0 below the cutoff, as (e^(x / 64))^64: compilers vectorise it."""
    z = x * np.float32(1 / 64)
    y = z * np.float32(1 / 120) + np.float32(1 / 24)
    y = z * y + np.float32(1 / 6)
    y = z * y + np.float32(0.5)
    y = z * y + np.float32(1.0)
    y = z * y + np.float32(1.0)
    y *= y
    y *= y
    y *= y
    y *= y
    y *= y
    y *= y
    return y if x > np.float32(-CUTOFF) else np.float32(0.0)


@compiled(fastmath=_FAST)
def _exponentials(C, beta, top):
    """Replace cosines by exp(beta (c - top))."""
    scale = np.float32(beta)
    for p in range(len(C)):
        C[p] = exp_below(scale * (C[p] - top))


@compiled(fastmath=_FAST)
def _sum_exponentials(C, beta, top):
    scale = np.float32(beta)
    total = np.float32(0.0)
    for p in range(len(C)):
        total += exp_below(scale * (C[p] - top))
    return total


@compiled(fastmath=_FAST)
def _sum(C):
    total = 0.0
    for p in range(len(C)):
        total += C[p]
    return total


@compiled(fastmath=_FAST)
def _gather(X, partners, E, g):
    """The sum of the partners' rows with weights E."""
    d = X.shape[1]
    for c in range(d):
        g[c] = np.float32(0.0)
    for p in range(len(partners)):
        e = E[p]
        if e > np.float32(0.0):
            y = X[partners[p]]
            for c in range(d):
                g[c] += e * y[c]


@compiled(fastmath=_FAST)
def _weigh(X, start, partners, C, beta, top, grad, sums, first, last):
    """Sums of exp(beta (c - top)) for each row, and the tangential gradient of the sum over all pairs, times 1/beta."""
    for i in range(first, last):
        E = C[start[i] : start[i + 1]]
        _exponentials(E, beta, top)
        sums[i] = _sum(E)
        _gather(X, partners[start[i] : start[i + 1]], E, grad[i])
        _project(X[i], grad[i])


@compiled(fastmath=_FAST)
def _levels(start, C, tops, beta, levels, first, last):
    """(1/beta) log sum exp(beta c) of each row; a point without partners has none to move away from."""
    for i in range(first, last):
        total = _sum_exponentials(C[start[i] : start[i + 1]], beta, tops[i])
        levels[i] = tops[i] + np.log(max(total, np.float32(1.0))) / beta


@compiled(fastmath=_FAST)
def _weights_each(C, beta, own, their):
    """Replace the cosines of a point with others by weights, given its level and theirs."""
    scale = np.float32(beta)
    for p in range(len(C)):
        C[p] = exp_below(scale * (C[p] - own)) + exp_below(scale * (C[p] - their[p]))


@compiled(fastmath=_FAST)
def _weigh_each(X, start, partners, C, beta, levels, grad, first, last):
    """The tangential gradient of the sum of the levels."""
    for i in range(first, last):
        E = C[start[i] : start[i + 1]]
        others = partners[start[i] : start[i + 1]]
        their = np.empty(len(E), dtype=np.float32)
        for p in range(len(E)):
            their[p] = levels[others[p]]
        _weights_each(E, beta, levels[i], their)
        _gather(X, others, E, grad[i])
        _project(X[i], grad[i])


@compiled(fastmath=_FAST)
def _weigh_tile(C, first, beta, tops, sums):
    """Replace the cosines of a tile of rows by exp(beta (c - top of the row)), with the tops and sums of the rows."""
    for a in range(len(C)):
        C[a, first + a] = np.float32(-2.0)
        top = np.float32(-2.0)
        for b in range(C.shape[1]):
            top = max(top, C[a, b])
        _exponentials(C[a], beta, top)
        tops[first + a] = top
        sums[first + a] = _sum(C[a])


@compiled(fastmath=_FAST)
def _level_tile(C, first, beta, levels):
    """(1/beta) log sum exp(beta c) of each row of a tile."""
    for a in range(len(C)):
        C[a, first + a] = np.float32(-2.0)
        top = np.float32(-2.0)
        for b in range(C.shape[1]):
            top = max(top, C[a, b])
        levels[first + a] = top + np.log(_sum_exponentials(C[a], beta, top)) / beta


@compiled(fastmath=_FAST)
def _weigh_tile_each(C, first, beta, levels):
    """Replace the cosines of a tile of rows by their weights in the second energy, given the levels of all rows."""
    for a in range(len(C)):
        _weights_each(C[a], beta, levels[first + a], levels)
        C[a, first + a] = np.float32(0.0)


@compiled(fastmath=_FAST)
def _project_rows(X, grad, first, last):
    for i in range(first, last):
        _project(X[i], grad[i])


class PairEnergy:
    """The two energies and their Riemannian gradients at unit rows.

    Parameters
    ----------
    pool : Pool
        Its threads compute blocks of rows.
    pairs : NearPairs or None
        The pairs of the energies; None for all pairs, in tiles.
    """

    def __init__(self, pool: Pool, pairs: NearPairs | None) -> None:
        self.pool = pool
        self.pairs = pairs
        self.top = self.low = -2.0  # the largest cosine minus 1, and the least level minus 1
        if pairs is not None:
            self._cosines = np.empty(len(pairs.partners), dtype=np.float32)
            n = BLOCKS * pool.size if pool.size > 1 else 1
            K = len(pairs.start) - 1
            ends = np.searchsorted(pairs.start, np.linspace(0, pairs.start[-1], n + 1)[1:-1])
            edges = [0, *np.minimum(ends, K).tolist(), K]
            self._blocks = [(a, b) for a, b in itertools.pairwise(edges) if a < b]

    def __call__(self, X: np.ndarray, beta: float, grad: np.ndarray, *, each: bool = False) -> float:
        """The value; the gradient is written to ``grad``.

        Parameters
        ----------
        X : ndarray, shape (K, d), float32
            Unit rows.
        beta : float
            The inverse temperature.
        grad : ndarray, shape (K, d), float32
            Output.
        each : bool
            The second energy instead of the first.
        """
        if self.pairs is not None:
            return self._listed(X, beta, grad, each)
        return self._in_tiles_each(X, beta, grad) if each else self._in_tiles(X, beta, grad)

    def _listed(self, X: np.ndarray, beta: float, grad: np.ndarray, each: bool) -> float:
        pairs, C = self.pairs, self._cosines
        assert pairs is not None
        start, partners = pairs.start, pairs.partners
        tops, levels = np.empty(len(X), dtype=np.float32), np.empty(len(X), dtype=np.float32)
        sums = np.empty(len(X))

        def cosines(block: tuple[int, int]) -> None:
            _cosines(X, start, partners, C, tops, *block)
            if each:
                _levels(start, C, tops, beta, levels, *block)

        def weights(block: tuple[int, int]) -> None:
            if each:
                _weigh_each(X, start, partners, C, beta, levels, grad, *block)
            else:
                _weigh(X, start, partners, C, beta, np.float32(top), grad, sums, *block)

        self.pool.run(cosines, self._blocks)
        self.top = top = float(tops.max())
        self.low = float(levels.min()) if each else top
        self.pool.run(weights, self._blocks)
        return float(levels.sum(dtype=np.float64)) if each else _scaled(grad, sums, top, beta)

    def _in_tiles(self, X: np.ndarray, beta: float, grad: np.ndarray) -> float:
        tops, sums = np.empty(len(X), dtype=np.float32), np.empty(len(X))

        def tile(rows: slice) -> None:
            C = X[rows] @ X.T
            _weigh_tile(C, rows.start, beta, tops, sums)
            np.dot(C, X, out=grad[rows])
            _project_rows(X, grad, rows.start, rows.stop)

        self.pool.run(tile, _tiles(len(X)))
        top = float(tops.max())
        self.top = top - 1
        scale = np.exp(beta * (tops.astype(np.float64) - top))
        grad *= scale.astype(np.float32)[:, None]
        return _scaled(grad, sums * scale, top - 1, beta)

    def _in_tiles_each(self, X: np.ndarray, beta: float, grad: np.ndarray) -> float:
        levels = np.empty(len(X), dtype=np.float32)

        def level(rows: slice) -> None:
            _level_tile(X[rows] @ X.T, rows.start, beta, levels)

        def tile(rows: slice) -> None:
            C = X[rows] @ X.T
            _weigh_tile_each(C, rows.start, beta, levels)
            np.dot(C, X, out=grad[rows])
            _project_rows(X, grad, rows.start, rows.stop)

        self.pool.run(level, _tiles(len(X)))
        self.pool.run(tile, _tiles(len(X)))
        self.top = float(levels.max()) - 1  # above the largest cosine by at most log(K) / beta
        return float((levels.astype(np.float64) - 1).sum())


def _tiles(K: int) -> list[slice]:
    return [slice(first, min(first + TILE_ROWS, K)) for first in range(0, K, TILE_ROWS)]


def _scaled(grad: np.ndarray, sums: np.ndarray, top: float, beta: float) -> float:
    """Scale the gradient of the first energy (each pair counts twice) and return the value."""
    total = float(sums.sum())
    grad *= np.float32(2 / total)
    return top + math.log(total) / beta
