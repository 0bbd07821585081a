"""The closest classes of a classifier, and whether they are the similar ones."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from softmaxcode.assignment import check_square
from softmaxcode.checks.arguments import check_integer
from softmaxcode.sphere import angle_degrees, check_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import ArrayLike

    from softmaxcode.types import Square

ALTERNATIVES = ("two-sided", "greater", "less")
#: Entries that differ by at most this fraction of the largest are equal up to rounding, and get the same rank.
ROUNDING = 1e-12
#: Entries (i, j) and (j, i) may differ by this fraction of the largest, as in float32 products.
SYMMETRIC = 1e-6
#: Cosines in memory at once in `nearest_pairs`, 64 MB.
TILE_COSINES = 2**23


@dataclass(frozen=True)
class MantelResult:
    """The result of Mantel's test of two matrices of class similarities.

    Attributes
    ----------
    correlation : float
        Spearman's rank correlation of the off-diagonal entries, from -1 to 1.
    p_value : float
        The fraction of relabellings with a correlation at least as extreme.
    permutations : int
        Relabellings tried; with ``exact``, all K! of them.
    exact : bool
        Whether all were tried.
    alternative : {"two-sided", "greater", "less"}
        The direction that counts as extreme.
    """

    correlation: float
    p_value: float
    permutations: int
    exact: bool
    alternative: str


def mantel(
    G: ArrayLike, S: ArrayLike, permutations: int = 9999, seed: int = 0, *, alternative: str = "two-sided"
) -> MantelResult:
    r"""Rank correlation of two matrices of class similarities, with Mantel's permutation test.

    Each of the K classes is part of K - 1 pairs, so the pairs are dependent. The usual p-value of a correlation
    coefficient is therefore invalid. The test relabels the classes of one matrix, rows and columns together.

    Parameters
    ----------
    G, S : array_like, shape (K, K)
        Symmetric, K >= 3, such as a classifier's cosines and the similarity of its classes
        (`softmaxcode.assignment.similarity_from_means`, `similarity_from_confusion`). Diagonals are ignored.
    permutations : int
        Relabellings tried, at least 1. All K! are tried instead if this number and the identity are at least as many.
    seed : int
        Seed of the relabellings.
    alternative : {"two-sided", "greater", "less"}
        Whether a correlation that is large in absolute value, large, or small is evidence against chance.

    Returns
    -------
    MantelResult
        ``correlation``, ``p_value`` and the number of ``permutations``.

    Raises
    ------
    ValueError
        If a matrix is not finite, square and symmetric, or the two differ in K. Also if K < 3, all off-diagonal entries
        of one are equal, or an option is out of range.

    Notes
    -----
    Let :math:`a_{ij}` and :math:`b_{ij}` be the ranks of the entries over the pairs i < j (their mean where entries are
    equal), minus the mean rank. For a permutation p of the classes let

    .. math:: r_p = \frac{\sum_{i<j} a_{ij} b_{p(i)p(j)}}{\sqrt{\sum_{i<j} a_{ij}^2 \sum_{i<j} b_{ij}^2}} ,

    The correlation is that of the identity, :math:`r`. Over all permutations :math:`r_p` has mean 0, so the two-sided
    test counts :math:`|r_p| \ge |r|`. If x of m random permutations are as extreme, the p-value is :math:`(1 + x)/(1 +
    m)`. It is valid for any m and never below 1/(1 + m). Each permutation costs of the order of K^2.

    References
    ----------
    N. Mantel, The detection of disease clustering and a generalized regression approach, Cancer Research 27 (1967)
    209-220.
    B. Phipson, G. K. Smyth, Permutation p-values should never be zero, Statistical Applications in Genetics and
    Molecular Biology 9 (2010) 39.

    Examples
    --------
    >>> import softmaxcode as sc
    >>> W = sc.best_known(8, 2).W
    >>> found = mantel(W @ W.T, -abs(W[:, :1] - W[:, 0]), alternative="greater")
    >>> round(found.correlation, 2), found.p_value < 0.05
    (0.49, True)
    """
    if alternative not in ALTERNATIVES:
        raise ValueError(f"alternative must be one of {', '.join(map(repr, ALTERNATIVES))}; got {alternative!r}")
    permutations = check_integer("permutations", permutations, 1)
    seed = check_integer("seed", seed, 0)
    A, B = _centred_ranks(G, "G"), _centred_ranks(S, "S")
    K = len(A)
    if len(B) != K:
        raise ValueError(f"G and S must have one K; got shapes {A.shape} and {B.shape}")
    A /= np.linalg.norm(A)
    B /= np.linalg.norm(B)

    exact = math.factorial(K) <= permutations + 1
    relabellings: Iterable[Any]
    if exact:
        relabellings = map(list, itertools.permutations(range(K)))
    else:
        rng = np.random.default_rng(seed)
        relabellings = (rng.permutation(K) for _ in range(permutations))
    observed = float(np.vdot(A, B))
    tried = np.array([np.vdot(A, B[p][:, p]) for p in relabellings])
    extremity = {"two-sided": np.abs, "greater": np.positive, "less": np.negative}[alternative]
    count = int(np.sum(extremity(tried) >= extremity(observed) - ROUNDING))
    p_value = count / len(tried) if exact else (1 + count) / (1 + len(tried))  # all relabellings include the identity
    return MantelResult(observed, p_value, len(tried), exact, alternative)


def _centred_ranks(matrix: ArrayLike, name: str) -> Square:
    """Ranks of the entries above the diagonal minus their mean, mirrored below it; zeros on the diagonal."""
    X = check_square(matrix, name)
    if len(X) < 3:
        raise ValueError(f"{name} must have K >= 3 rows; got shape {X.shape}")
    upper = np.triu_indices(len(X), 1)
    entries, mirrored = X[upper], X.T[upper]
    scale = np.abs(entries).max()
    if np.abs(entries - mirrored).max() > SYMMETRIC * scale:
        i, j = (index[np.argmax(np.abs(entries - mirrored))] for index in upper)
        raise ValueError(
            f"{name} must be symmetric; entries ({i}, {j}) and ({j}, {i}) are {X[i, j]:g} and {X[j, i]:g} "
            f"(say ({name} + {name}.T) / 2)"
        )
    ranks = _ranks(entries, ROUNDING * scale)
    if ranks.min() == ranks.max():
        raise ValueError(f"{name} has no order of pairs: all its off-diagonal entries are equal")
    out = np.zeros_like(X)
    out[upper] = ranks - ranks.mean()
    return out + out.T


def _ranks(values: np.ndarray, tolerance: float) -> np.ndarray:
    """Ranks from 1; neighbours in order that differ by at most the tolerance get their mean rank."""
    order = np.argsort(values)
    levels = np.empty(len(values), dtype=np.int64)
    levels[order] = np.cumsum(np.diff(values[order], prepend=values[order[0]]) > tolerance)
    return rankdata(levels)


def nearest_pairs(W: ArrayLike, names: Sequence[str] | None = None, count: int = 10) -> pd.DataFrame:
    """The pairs of classes whose vectors in a classifier are the closest.

    Parameters
    ----------
    W : array_like, shape (K, d)
        Rows of any non-zero norm; their directions count. Cosines are computed in tiles, never all K x K at once.
    names : sequence of str, optional
        Names of the K classes; their numbers by default.
    count : int
        Number of pairs, at least 1; all if there are fewer.

    Returns
    -------
    DataFrame
        One row per pair, the closest first: ``first`` and ``second`` (names), ``cosine`` and ``angle`` (degrees).

    Raises
    ------
    ValueError
        If W is not an array of finite non-zero rows, there are not K names, or ``count`` is below 1.

    Examples
    --------
    >>> nearest_pairs([[2, 0], [1, 1], [-1, 0]], ["cat", "dog", "ship"], count=2).round(4)
      first second  cosine  angle
    0   cat    dog  0.7071   45.0
    1   dog   ship -0.7071  135.0
    """
    X = check_rows(W, normalize=True)
    K = len(X)
    count = min(check_integer("count", count, 1), K * (K - 1) // 2)
    if names is not None and len(names) != K:
        raise ValueError(f"names must be {K}, one for each class; got {len(names)}")
    called = np.arange(K) if names is None else np.asarray(names, dtype=object)

    i, j, cosine = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0)
    step = max(1, TILE_COSINES // K)
    for start in range(0, K - 1, step):
        stop = min(K, start + step)
        tile = X[start:stop] @ X[start:].T
        tile[np.tri(*tile.shape) > 0] = -np.inf  # the diagonal, and pairs that another row has
        best = np.argpartition(-tile, min(count, tile.size) - 1, axis=None)[:count]
        rows, columns = np.unravel_index(best, tile.shape)
        # a short last tile may have fewer pairs than requested
        real = np.isfinite(tile.flat[best])
        i = np.concatenate([i, rows[real] + start])
        j = np.concatenate([j, columns[real] + start])
        cosine = np.concatenate([cosine, tile.flat[best[real]]])
        kept = np.lexsort((j, i, -cosine))[:count]
        i, j, cosine = i[kept], j[kept], cosine[kept]
    return pd.DataFrame(
        {"first": called[i], "second": called[j], "cosine": cosine, "angle": [angle_degrees(c) for c in cosine]}
    )
