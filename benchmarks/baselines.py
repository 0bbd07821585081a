"""Two other methods for the same codes, written from their descriptions.

1. *Projected subgradient on HardMax*, the method behind the "optimal margin" lines of Jiang et al. (arXiv 2310.05351).
   Unit rows W and H start at random. A step moves along the negative subgradient of
   max over k, j != k of <w_j - w_k, h_k>. It then scales rows back to norm 1. Its length falls linearly from 0.1 to 0.
   The subgradient is that of one pair that attains the maximum. Three implementations of this method are timed. They
   differ only in the speed of a step:

   * ``torch``: a PyTorch program with autograd, as most people write it;
   * ``numpy``: one matrix product, one argmax and three updated rows per step;
   * ``compiled``: Numba, recomputing only the inner products that a step changes.

2. *Pymanopt's packing example*: log-sum-exp of the cosines at the fixed eps = 0.005, from one random start on its
   `Oblique` manifold. The optimiser is Riemannian conjugate gradient with Pymanopt's defaults. The gradient is given in
   closed form, which is faster than automatic differentiation.

Both run on one thread: on arrays this small a second thread makes the steps slower.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numba import njit
from threadpoolctl import threadpool_limits

import softmaxcode as sc
from softmaxcode.sphere import random_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from softmaxcode.types import Rows

#: Steps of the subgradient method and its first step length.
STEPS = 100_000
FIRST_STEP = 0.1
#: The temperature of Pymanopt's packing example.
EPSILON = 0.005


@dataclass(frozen=True)
class Timed:
    """Seconds that a method took, and the exact margin of its result."""

    seconds: float
    margin: float


def random_pair(K: int, d: int, seed: int) -> tuple[Rows, Rows]:
    """Independent uniform unit rows W and H."""
    rng = np.random.default_rng(seed)
    return random_rows(K, d, rng), random_rows(K, d, rng)


def subgradient_numpy(K: int, d: int, seed: int, steps: int = STEPS) -> Rows:
    """Projected subgradient in NumPy; returns the last W."""
    W, H = random_pair(K, d, seed)
    for t in range(steps):
        C = H @ W.T
        C -= C.diagonal()[:, None].copy()
        np.fill_diagonal(C, -np.inf)
        k, j = divmod(int(C.argmax()), K)
        length = FIRST_STEP * (1 - t / steps)
        h = H[k].copy()
        H[k] -= length * (W[j] - W[k])
        W[j] -= length * h
        W[k] += length * h
        for row in (H[k], W[j], W[k]):
            row /= np.sqrt(row @ row)
    return W


@njit(cache=True)
def _normalize(row):
    norm = 0.0
    for c in range(len(row)):
        norm += row[c] * row[c]
    row /= np.sqrt(norm)


@njit(cache=True)
def _refresh(C, k, best, where):
    """The largest <w_j - w_k, h_k> of class k and the j that attains it."""
    best[k] = -np.inf
    for j in range(len(C)):
        if j != k and C[k, j] - C[k, k] > best[k]:
            best[k] = C[k, j] - C[k, k]
            where[k] = j


@njit(cache=True)
def _subgradient(W, H, steps, first):
    """The steps of `subgradient_numpy`, in place: two columns and one row of inner products change in each."""
    K = len(W)
    C = np.dot(H, W.T)
    best = np.empty(K)
    where = np.zeros(K, dtype=np.int64)
    for i in range(K):
        _refresh(C, i, best, where)
    for t in range(steps):
        k = int(np.argmax(best))
        j = where[k]
        length = first * (1 - t / steps)
        for c in range(W.shape[1]):
            h = H[k, c]
            H[k, c] -= length * (W[j, c] - W[k, c])
            W[j, c] -= length * h
            W[k, c] += length * h
        _normalize(H[k])
        _normalize(W[j])
        _normalize(W[k])
        for i in range(K):
            C[i, k] = np.dot(H[i], W[k])
            C[i, j] = np.dot(H[i], W[j])
            C[k, i] = np.dot(H[k], W[i])
        for i in range(K):
            if i in (k, j) or where[i] in (k, j):
                _refresh(C, i, best, where)
            else:
                for column in (k, j):
                    if C[i, column] - C[i, i] > best[i]:
                        best[i] = C[i, column] - C[i, i]
                        where[i] = column


def subgradient_compiled(K: int, d: int, seed: int, steps: int = STEPS) -> Rows:
    """`subgradient_numpy` in Numba, with only the changed inner products recomputed."""
    W, H = random_pair(K, d, seed)
    _subgradient(W, H, steps, FIRST_STEP)
    return W


def subgradient_torch(K: int, d: int, seed: int, steps: int = STEPS) -> Rows:
    """`subgradient_numpy` as a PyTorch program with autograd, in double precision on the CPU."""
    import torch

    W, H = (torch.tensor(X, requires_grad=True) for X in random_pair(K, d, seed))
    own = torch.eye(K, dtype=torch.bool)
    optimizer = torch.optim.SGD([W, H], lr=FIRST_STEP)
    for t in range(steps):
        optimizer.param_groups[0]["lr"] = FIRST_STEP * (1 - t / steps)
        optimizer.zero_grad()
        C = H @ W.T
        C = (C - C.diagonal()[:, None]).masked_fill(own, -torch.inf)
        C.flatten()[C.argmax()].backward()
        optimizer.step()
        with torch.no_grad():
            for X in (W, H):
                X.div_(X.norm(dim=1, keepdim=True))
    return W.detach().numpy()


#: The implementations of the subgradient method, slowest first.
SUBGRADIENT: dict[str, Callable[[int, int, int, int], Rows]] = {
    "torch": subgradient_torch,
    "numpy": subgradient_numpy,
    "compiled": subgradient_compiled,
}


def pymanopt_packing(K: int, d: int, seed: int) -> Rows:
    """Pymanopt's packing example; returns W."""
    import pymanopt

    manifold = pymanopt.manifolds.Oblique(d, K)  # columns of unit norm
    diagonal = np.arange(K)

    def weights(X: np.ndarray) -> tuple[float, float, np.ndarray]:
        """The largest cosine, the sum of exp((cosine - largest) / eps) over pairs, and its terms, pairs twice."""
        C = X.T @ X
        C[diagonal, diagonal] = -np.inf
        largest = C.max()
        E = np.exp((C - largest) / EPSILON)
        return largest, E.sum() / 2, E

    @pymanopt.function.numpy(manifold)
    def cost(X: np.ndarray) -> float:
        largest, total, _ = weights(X)
        return largest + EPSILON * np.log(total)

    @pymanopt.function.numpy(manifold)
    def gradient(X: np.ndarray) -> np.ndarray:
        _, total, E = weights(X)
        return X @ (E / total)

    problem = pymanopt.Problem(manifold, cost, euclidean_gradient=gradient)
    optimizer = pymanopt.optimizers.ConjugateGradient(verbosity=0)
    start = random_rows(K, d, np.random.default_rng(seed))
    result = optimizer.run(problem, initial_point=np.ascontiguousarray(start.T))
    return np.ascontiguousarray(result.point.T)


def timed(method: Callable[[], Rows]) -> Timed:
    """Run a method once on one thread; its margin is computed outside the timed part."""
    from softmaxcode.parallel.torch_threads import one_thread

    with one_thread(), threadpool_limits(1):
        begin = time.perf_counter()
        W = method()
        seconds = time.perf_counter() - begin
    return Timed(seconds, sc.margin(W, normalize=True).margin)


def warm_up() -> None:
    """Compile kernels, and import modules that are imported late."""
    for method in SUBGRADIENT.values():
        method(5, 3, 0, 2)
    pymanopt_packing(5, 3, 0)
