r"""The log-sum-exp energy of many points in float32, over listed pairs or over all pairs in tiles.

With c_ij = <x_i, x_j> and N(i) the partners of point i, the energy

.. math:: E = \frac1\beta \log \sum_i \sum_{j \in N(i)} e^{\beta c_{ij}}

tends to the largest cosine. Cosines are stored as c - 1 = -|x_i - x_j|^2 / 2, which float32 resolves also where points
are very near. Every row of the gradient is one sum over the partners of its point. So rows are computed on any number
of threads with the same result.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np

from softmaxcode.parallel.compiled import compiled

if TYPE_CHECKING:
    from softmaxcode.parallel.thread_pool import ThreadPool
    from softmaxcode.search.large.pair_list import NearPairs

#: Weights below e^-12 of the largest are neglected.
CUTOFF = 12.0
#: Rows of a tile where all pairs are evaluated, and blocks of rows per thread.
TILE_ROWS = 256
BLOCKS = 4
# As in `softmaxcode.search.energy`: no loop may both sum and store.
_FAST = {"contract", "reassoc", "nsz", "arcp"}


@compiled(fastmath=_FAST)
def _cosines_on_the_sphere(X, start, partners, C, tops, first, last):
    """`_cosines` for d = 3, without a loop over coordinates."""
    for i in range(first, last):
        x, y, z = X[i, 0], X[i, 1], X[i, 2]
        top = np.float32(-4.0)
        for p in range(start[i], start[i + 1]):
            j = partners[p]
            a, b, c = x - X[j, 0], y - X[j, 1], z - X[j, 2]
            s = np.float32(-0.5) * (a * a + b * b + c * c)
            C[p] = s
            top = max(top, s)
        tops[i] = top


@compiled(fastmath=_FAST)
def _cosines(X, start, partners, C, tops, first, last):
    """Cosines minus 1 with all partners, and the largest of each row."""
    d = X.shape[1]
    if d == 3:
        _cosines_on_the_sphere(X, start, partners, C, tops, first, last)
        return
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
def _sum(C):
    total = 0.0
    for p in range(len(C)):
        total += C[p]
    return total


@compiled(fastmath=_FAST)
def _gather(X, partners, E, g):
    """The sum of the partners' rows with weights E."""
    d = X.shape[1]
    if d == 3:
        x = y = z = np.float32(0.0)
        for p in range(len(partners)):
            j = partners[p]
            x += E[p] * X[j, 0]
            y += E[p] * X[j, 1]
            z += E[p] * X[j, 2]
        g[0], g[1], g[2] = x, y, z
        return
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
def _project_rows(X, grad, first, last):
    for i in range(first, last):
        _project(X[i], grad[i])


class PairEnergy:
    """The energy and its Riemannian gradient at unit rows.

    Parameters
    ----------
    pool : ThreadPool
        Its threads compute blocks of rows.
    pairs : NearPairs or None
        The pairs of the energy; None for all pairs, in tiles.

    Attributes
    ----------
    top : float
        The largest cosine minus 1 where the energy was evaluated last.
    """

    def __init__(self, pool: ThreadPool, pairs: NearPairs | None) -> None:
        self.pool = pool
        self.pairs = pairs
        self.top = -2.0
        if pairs is not None:
            self._cosines = np.empty(len(pairs.partners), dtype=np.float32)
            n = BLOCKS * pool.size if pool.size > 1 else 1
            K = len(pairs.start) - 1
            ends = np.searchsorted(pairs.start, np.linspace(0, pairs.start[-1], n + 1)[1:-1])
            edges = [0, *np.minimum(ends, K).tolist(), K]
            self._blocks = [(a, b) for a, b in itertools.pairwise(edges) if a < b]

    def __call__(self, X: np.ndarray, beta: float, grad: np.ndarray) -> float:
        """The value; the gradient is written to ``grad``.

        Parameters
        ----------
        X : ndarray, shape (K, d), float32
            Unit rows.
        beta : float
            The inverse temperature.
        grad : ndarray, shape (K, d), float32
            Output.

        Returns
        -------
        float
            The energy minus 1.
        """
        return self._in_tiles(X, beta, grad) if self.pairs is None else self._listed(self.pairs, X, beta, grad)

    def _listed(self, pairs: NearPairs, X: np.ndarray, beta: float, grad: np.ndarray) -> float:
        start, partners, C = pairs.start, pairs.partners, self._cosines
        tops, sums = np.empty(len(X), dtype=np.float32), np.empty(len(X))

        def cosines(block: tuple[int, int]) -> None:
            _cosines(X, start, partners, C, tops, *block)

        def weights(block: tuple[int, int]) -> None:
            _weigh(X, start, partners, C, beta, np.float32(top), grad, sums, *block)

        self.pool.run(cosines, self._blocks)
        self.top = top = float(tops.max())
        self.pool.run(weights, self._blocks)
        return _scaled(grad, sums, top, beta)

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


def _tiles(K: int) -> list[slice]:
    return [slice(first, min(first + TILE_ROWS, K)) for first in range(0, K, TILE_ROWS)]


def _scaled(grad: np.ndarray, sums: np.ndarray, top: float, beta: float) -> float:
    """Scale the gradient (each pair counts twice) and return the value."""
    total = float(sums.sum())
    grad *= np.float32(2 / total)
    return top + math.log(total) / beta
