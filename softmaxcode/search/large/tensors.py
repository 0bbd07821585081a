"""The kernels of a descent of many points as PyTorch tensors, for a GPU.

The algorithm is that of the compiled kernels. Pairs are listed by tiles of cosines, from both sides. The gradient is a
weighted sum over the entries of each point, so it does not depend on the order of threads. geoopt's `Sphere` projects
gradients and maps steps back to unit rows. Products use full float32, never TF32.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch

from softmaxcode.checks.geoopt import geoopt
from softmaxcode.search.large.descent import most_partners
from softmaxcode.search.large.energy import CUTOFF
from softmaxcode.search.large.pair_list import OutOfTime
from softmaxcode.search.large.sphere_lbfgs import SphereLBFGS

if TYPE_CHECKING:
    import numpy as np

    from softmaxcode.parallel.deadline import Deadline

#: Numbers in a tile of cosines, or of differences of points.
TILE = {"cpu": 2**21, "cuda": 2**27}
#: The fraction of a device's free memory that a descent may use.
MEMORY_FRACTION = 0.7
#: Bytes of an entry of a list of pairs: two indices, a cosine and weights.
PER_ENTRY = 20
_SPHERE = geoopt.Sphere()


class TensorPairs(NamedTuple):
    """Pairs listed from both sides, in the order of their rows.

    Attributes
    ----------
    start : Tensor, shape (K + 1,), int32
        The entries of point i are those from ``start[i]`` to ``start[i + 1]``.
    rows, partners : Tensor of int32
        The two points of each entry.
    threshold : float
        All pairs of larger cosine are listed.
    """

    start: torch.Tensor
    rows: torch.Tensor
    partners: torch.Tensor
    threshold: float


def cosines_of_pairs(X: torch.Tensor, pairs: TensorPairs) -> torch.Tensor:
    """Cosines minus 1 of all entries, from differences of points."""
    size = max(1, TILE[X.device.type] // X.shape[1])
    parts = [
        (X.index_select(0, rows) - X.index_select(0, partners)).square_().sum(1)
        for rows, partners in zip(pairs.rows.split(size), pairs.partners.split(size), strict=True)
    ]
    return torch.cat(parts).mul_(-0.5)


def weights(C: torch.Tensor, beta: float, top: torch.Tensor | float) -> torch.Tensor:
    """exp(beta (c - top)), and 0 below the cutoff."""
    scaled = (C - top).mul_(beta)
    return torch.where(scaled > -CUTOFF, scaled.exp(), 0.0)


def weighted_sums(X: torch.Tensor, pairs: TensorPairs, E: torch.Tensor) -> torch.Tensor:
    """For each point the sum of its partners with weights E, projected to the tangent space."""
    sums = torch.nn.functional.embedding_bag(
        pairs.partners, X, pairs.start, mode="sum", per_sample_weights=E, include_last_offset=True
    )
    return _SPHERE.proju(X, sums)


def weigh_tile(C: torch.Tensor, first: int, beta: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weights of a tile of rows, relative to the largest cosine of each row, with these cosines and the sums."""
    C.diagonal(first).fill_(-2.0)
    tops = C.max(dim=1).values
    E = weights(C, beta, tops[:, None])
    return E, tops, E.sum(dim=1, dtype=torch.float64)


class TensorEnergy:
    """`PairEnergy` of tensors."""

    def __init__(self, pairs: TensorPairs | None) -> None:
        self.pairs = pairs
        self.top = -2.0

    def __call__(self, X: torch.Tensor, beta: float, grad: torch.Tensor) -> float:
        """The energy minus 1; the Riemannian gradient is written to ``grad``."""
        if self.pairs is None:
            return self._in_tiles(X, beta, grad)
        C = cosines_of_pairs(X, self.pairs)
        self.top = float(C.max())
        E = weights(C, beta, self.top)
        total = float(E.sum(dtype=torch.float64))
        torch.mul(weighted_sums(X, self.pairs, E), 2 / total, out=grad)
        return self.top + math.log(total) / beta

    def _in_tiles(self, X: torch.Tensor, beta: float, grad: torch.Tensor) -> float:
        K = len(X)
        tops, sums = X.new_empty(K), X.new_empty(K, dtype=torch.float64)
        for first, last in _tiles(K, X):
            E, tops[first:last], sums[first:last] = weigh_tile(X[first:last] @ X.T, first, beta)
            torch.mm(E, X, out=grad[first:last])
        top = float(tops.max())
        scale = ((tops.double() - top) * beta).exp()
        total = float(sums @ scale)
        grad *= (scale * (2 / total)).float()[:, None]
        grad.copy_(_SPHERE.proju(X, grad))
        self.top = top - 1
        return self.top + math.log(total) / beta


def _tiles(K: int, X: torch.Tensor) -> list[tuple[int, int]]:
    """First and last rows of tiles of K columns."""
    height = max(1, min(K, TILE[X.device.type] // K))
    return [(first, min(first + height, K)) for first in range(0, K, height)]


class TensorLBFGS(SphereLBFGS):
    """`SphereLBFGS` of tensors."""

    X: torch.Tensor
    _direction: torch.Tensor

    def _empty(self, *shape: int) -> torch.Tensor:
        return self.X.new_empty(shape)

    def _dot(self, a: torch.Tensor, b: torch.Tensor) -> float:
        return float(torch.dot(a, b))

    def _add(self, y: torch.Tensor, a: float, x: torch.Tensor) -> None:
        y.add_(x, alpha=a)

    def _move(self, step: float) -> None:
        self._trial = _SPHERE.retr(self.X, self._direction * step)

    def _longest(self) -> float:
        return math.sqrt(float(self._direction.square().sum(dim=1).max()))


class TensorKernels:
    """`softmaxcode.search.large.kernels.Kernels` by PyTorch.

    Parameters
    ----------
    device : str
        "cpu", "cuda" or "cuda:<number>".
    """

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)

    def points(self, X: np.ndarray) -> torch.Tensor:
        """The unit rows where the computation is."""
        return torch.tensor(X, device=self.device)

    def rows(self, X: torch.Tensor) -> np.ndarray:
        """The points as a NumPy array."""
        return X.cpu().numpy()

    def minimizer(self, X: torch.Tensor) -> TensorLBFGS:
        """L-BFGS from X, which changes in place."""
        return TensorLBFGS(X)

    def cosines(self, X: torch.Tensor, rows: np.ndarray) -> np.ndarray:
        """The cosines of some rows with all; those of a row with itself are -2."""
        index = torch.from_numpy(rows).to(self.device)
        C = X[index] @ X.T
        C[torch.arange(len(rows), device=self.device), index] = -2.0
        return C.cpu().numpy()

    def near_pairs(self, X: torch.Tensor, threshold: float, deadline: Deadline) -> TensorPairs:
        """All pairs whose cosine exceeds the threshold."""
        K = len(X)
        rows, partners = [], []
        for first, last in _tiles(K, X):
            if deadline.passed:
                raise OutOfTime
            C = X[first:last] @ X.T
            C.diagonal(first).fill_(-2.0)
            found = (C > threshold).nonzero().to(torch.int32)
            rows.append(found[:, 0] + first)
            partners.append(found[:, 1].contiguous())
        row = torch.cat(rows)
        start = torch.zeros(K + 1, dtype=torch.int32, device=self.device)
        start[1:] = torch.bincount(row, minlength=K).cumsum(0)
        return TensorPairs(start, row, torch.cat(partners), threshold)

    def energy(self, pairs: TensorPairs | None) -> TensorEnergy:
        """The energy of listed pairs; None for all pairs."""
        return TensorEnergy(pairs)

    def longest_move(self, X: torch.Tensor, Y: torch.Tensor) -> float:
        """The largest distance between a row of X and the same row of Y."""
        return math.sqrt(float((X - Y).square_().sum(dim=1).max()))

    def memory(self, K: int, d: int) -> int:
        """Bytes of a descent of K points in d dimensions: points and work arrays, the list of near pairs, tiles."""
        arrays = SphereLBFGS.ARRAYS + 3
        return 4 * arrays * K * d + int(PER_ENTRY * K * most_partners(K, d)) + 32 * TILE[self.device.type]

    def has_room(self, K: int, d: int) -> bool:
        """Whether a descent fits into the free memory of a GPU, and the entries of its lists into int32."""
        if self.device.type != "cuda":
            return True
        free, _ = torch.cuda.mem_get_info(self.device)
        return self.memory(K, d) < MEMORY_FRACTION * free and K * most_partners(K, d) < 2**31
