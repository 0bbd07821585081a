"""What a descent of many points computes with arrays: the protocol, and its compiled form for NumPy arrays.

`tensors` is the other form, for PyTorch tensors on a GPU.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from softmaxcode.search.large.energy import PairEnergy
from softmaxcode.search.large.pair_list import NearPairs, near_pairs
from softmaxcode.search.large.sphere_lbfgs import Array, SphereLBFGS

if TYPE_CHECKING:
    from softmaxcode.parallel.deadline import Deadline
    from softmaxcode.parallel.thread_pool import ThreadPool

#: A list of pairs in the form of the kernels, with its ``threshold``.
Pairs = Any
#: Cosines of the sample that gives a threshold.
_SAMPLED = 4_000_000


class Energy(Protocol):
    """An energy of pairs: its value, and its Riemannian gradient in the last argument."""

    top: float

    def __call__(self, X: Array, beta: float, grad: Array) -> float:
        """The energy minus 1."""
        ...


class Kernels(Protocol):
    """The operations of a descent on points X, an array of shape (K, d)."""

    def points(self, X: np.ndarray) -> Array:
        """The unit rows where the computation is."""
        ...

    def rows(self, X: Array) -> np.ndarray:
        """The points as a NumPy array."""
        ...

    def minimizer(self, X: Array) -> SphereLBFGS:
        """L-BFGS from X, which changes in place."""
        ...

    def cosines(self, X: Array, rows: np.ndarray) -> np.ndarray:
        """The cosines of some rows with all, shape (len(rows), K); those of a row with itself are -2."""
        ...

    def near_pairs(self, X: Array, threshold: float, deadline: Deadline) -> Pairs:
        """All pairs whose cosine exceeds the threshold; raises OutOfTime past the deadline."""
        ...

    def energy(self, pairs: Pairs | None) -> Energy:
        """The energy of listed pairs; None for all pairs."""
        ...

    def longest_move(self, X: Array, Y: Array) -> float:
        """The largest distance between a row of X and the same row of Y."""
        ...


class CompiledKernels:
    """`Kernels` on the CPU, by Numba and BLAS.

    Parameters
    ----------
    pool : ThreadPool
        Its threads compute blocks of rows; results do not depend on their number.
    """

    def __init__(self, pool: ThreadPool) -> None:
        self.pool = pool

    def points(self, X: np.ndarray) -> np.ndarray:
        """The unit rows where the computation is."""
        return X

    def rows(self, X: np.ndarray) -> np.ndarray:
        """The points as a NumPy array."""
        return X

    def minimizer(self, X: np.ndarray) -> SphereLBFGS:
        """L-BFGS from X, which changes in place."""
        return SphereLBFGS(X)

    def cosines(self, X: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """The cosines of some rows with all; those of a row with itself are -2."""
        C = X[rows] @ X.T
        C[np.arange(len(rows)), rows] = -2.0
        return C

    def near_pairs(self, X: np.ndarray, threshold: float, deadline: Deadline) -> NearPairs:
        """All pairs whose cosine exceeds the threshold."""
        return near_pairs(X, threshold, self.pool, deadline)

    def energy(self, pairs: NearPairs | None) -> PairEnergy:
        """The energy of listed pairs; None for all pairs."""
        return PairEnergy(self.pool, pairs)

    def longest_move(self, X: np.ndarray, Y: np.ndarray) -> float:
        """The largest distance between a row of X and the same row of Y."""
        moved = X - Y
        return math.sqrt(float(np.einsum("kd,kd->k", moved, moved).max()))


def threshold_of(kernels: Kernels, X: Array, partners: float, rng: np.random.Generator) -> float:
    """The cosine that a point has with ``partners`` others on average, from a sample of rows.

    Parameters
    ----------
    kernels : Kernels
        Compute the cosines.
    X : array, shape (K, d), float32
        Unit rows.
    partners : float
        The mean number of partners wanted.
    rng : Generator
        Draws the sample.
    """
    K = len(X)
    if partners >= K - 1:
        return -2.0
    rows = rng.choice(K, int(np.clip(_SAMPLED // K, min(K, 8), min(K, 128))), replace=False)
    C = kernels.cosines(X, rows).ravel()
    rank = min(len(C) - 1, int(partners * len(rows)))
    return float(np.partition(C, len(C) - 1 - rank)[len(C) - 1 - rank])
