"""Which class gets which vector of a code: similar classes to near vectors, by quadratic assignment.

For K > d + 1 the distances within a code differ, so the choice matters (docs/theory.md, T9).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy.linalg import helmert
from scipy.optimize import linear_sum_assignment, quadratic_assignment
from scipy.spatial.distance import cdist

from softmaxcode.checks.arguments import check_flag, check_integer, check_memory
from softmaxcode.sphere import as_array, check_rows, check_unmasked

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jaxtyping import Int
    from numpy.typing import ArrayLike

    from softmaxcode.code import SoftmaxCode
    from softmaxcode.types import Rows, Square

    Permutation = Int[np.ndarray, " K"]

#: A class mean counts as equal to the mean of all if they differ by at most this fraction of the largest norm.
ROUNDING = 1e-13
#: A swap of two classes must gain this fraction of the largest possible objective, which rounding cannot produce.
GAIN = 1e-12


@dataclass(frozen=True, eq=False)
class Assignment:
    r"""Classes matched to the vectors of a code.

    Attributes
    ----------
    permutation : ndarray of int, shape (K,), read-only
        Class c gets the code's vector ``permutation[c]``: its classifier row is ``code.W[permutation[c]]``.
    objective : float
        :math:`\sum_{i \ne j} S_{ij} \langle v_{p(i)}, v_{p(j)} \rangle`, the similarity-weighted sum of cosines.
    bound : float
        No permutation has a larger objective (with ``maximize=False``, a smaller one), up to rounding.
    mean_objective : float
        The mean objective over all permutations: the expected objective of a random assignment.
    """

    permutation: Permutation
    objective: float
    bound: float
    mean_objective: float


def similarity_from_means(means: ArrayLike, *, centred: bool = True) -> Square:
    """Similarity of classes as the cosines of their mean features.

    Parameters
    ----------
    means : array_like, shape (K, d')
        One class mean per row, of any norm. The number of columns may differ from the code's dimension.
    centred : bool
        First subtract the mean of the class means, so that a direction common to all classes does not count.

    Returns
    -------
    ndarray, shape (K, K)
        Symmetric, with a diagonal of zeros.

    Raises
    ------
    ValueError
        If ``means`` is not a finite array of at least two rows, or a row is zero (after centring, where requested).

    Examples
    --------
    >>> similarity_from_means([[2, 0], [1, 0], [0, 3]], centred=False).tolist()
    [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    X = _check_matrix(means, "means")
    _check_memory(len(X))
    centred = check_flag("centred", centred)
    zero = np.flatnonzero(~X.any(axis=1))
    if centred and len(zero):
        raise ValueError(f"means must have no row of zeros; row {zero[0]} is one, as of a class that was never seen")
    if not centred:
        return cosines(check_rows(X, normalize=True, name="means"))
    deviations = X - X.mean(axis=0)
    sizes = np.linalg.norm(deviations, axis=1)
    if sizes.min() <= ROUNDING * np.linalg.norm(X, axis=1).max():
        raise ValueError(f"means must differ from their mean; row {int(np.argmin(sizes))} does not, but for rounding")
    return cosines(check_rows(deviations, normalize=True, name="means less their mean"))


def similarity_from_confusion(confusion: ArrayLike) -> Square:
    r"""Similarity of classes as the rate at which they are confused.

    With :math:`R_{ij}` the fraction of class i's samples predicted as class j,
    :math:`S_{ij} = (R_{ij} + R_{ji}) / 2` for :math:`i \ne j`.

    Parameters
    ----------
    confusion : array_like, shape (K, K)
        Counts or rates, true classes in rows and predictions in columns, as in `sklearn.metrics.confusion_matrix`.

    Returns
    -------
    ndarray, shape (K, K)
        Symmetric, with a diagonal of zeros.

    Raises
    ------
    ValueError
        If it is not a finite square matrix, has a negative entry, or has a row of zeros. The confusions of a class
        without samples are unknown: leave it out, or give the matrix of a larger sample.

    Examples
    --------
    >>> similarity_from_confusion([[8, 2, 0], [1, 3, 0], [0, 0, 5]]).tolist()
    [[0.0, 0.225, 0.0], [0.225, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    counts = check_square(confusion, "confusion")
    if (counts < 0).any():
        i, j = np.argwhere(counts < 0)[0]
        raise ValueError(f"confusion must have no negative entry; entry ({i}, {j}) is {counts[i, j]:g}")
    totals = counts.sum(axis=1)
    if (totals == 0).any():
        raise ValueError(f"confusion must have a sample of every class; row {int(np.argmin(totals))} is zero")
    return _off_diagonal(counts / totals[:, None])


def assign(
    similarity: ArrayLike,
    code: SoftmaxCode | ArrayLike,
    *,
    maximize: bool = True,
    starts: int | None = None,
    seed: int = 0,
    fixed: Mapping[int, int] | None = None,
) -> Assignment:
    r"""Assign classes to the vectors of a code so that similar classes get near vectors.

    Parameters
    ----------
    similarity : array_like, shape (K, K)
        Any finite matrix, larger where classes are more alike. Only the off-diagonal of its symmetric part
        :math:`(S + S^T)/2` counts. `similarity_from_means` and `similarity_from_confusion` make one.
    code : SoftmaxCode or array_like, shape (K, d)
        Unit rows.
    maximize : bool
        If False, similar classes get vectors far apart: the worst assignment, as a control.
    starts : int, optional
        Number of searches. By default it is 500 for few classes, 64 at K = 100 and 2 from K = 320 on. The first matches
        the classes and vectors whose sorted rows of S and G are the most alike. The second starts from the barycentre
        of all permutations, the others from random doubly stochastic matrices.
    seed : int
        Everything random follows from it.
    fixed : mapping from int to int, optional
        Vectors that some classes keep: a class to the number of its vector. The others are assigned around them.

    Returns
    -------
    Assignment
        ``permutation``, its ``objective``, a ``bound`` on it and the ``mean_objective`` of all permutations with the
        fixed pairs.

    Raises
    ------
    ValueError
        If ``similarity`` is not a finite square matrix, ``code`` not an array of unit rows, or their K differ. Also if
        a fixed pair is not one of a class and a vector, or two classes have one vector.

    Notes
    -----
    The problem is the quadratic assignment problem

    .. math:: \max_P \operatorname{tr}(S P G P^T), \qquad G_{ij} = \langle v_i, v_j \rangle, \quad S_{ii} = G_{ii} = 0,

    It is NP-hard, so the answer is a local maximum. From every start but the first, the Frank-Wolfe method of
    Vogelstein et al. finds a permutation. Pairs of classes are then swapped while that gains, and the best permutation
    is kept. ``bound`` is the projection bound of Hadley, Rendl and Wolkowicz. It is attained where S is a relabelled G,
    and rarely elsewhere. The optimum lies between the two.

    References
    ----------
    J. T. Vogelstein et al., Fast approximate quadratic programming for graph matching, PLOS ONE 10(4), e0121002
    (2015). S. W. Hadley, F. Rendl, H. Wolkowicz, A new lower bound via projection for the quadratic assignment
    problem, Mathematics of Operations Research 17 (1992) 727-739.

    Examples
    --------
    Classes 0 and 2 are alike, and so are 1 and 3: each pair gets neighbours on the square.

    >>> import softmaxcode as sc
    >>> similarity = [[0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, 0]]
    >>> found = assign(similarity, sc.best_known(4, 2))
    >>> [abs(int(found.permutation[a] - found.permutation[b])) % 2 for a, b in [(0, 2), (1, 3)]]
    [1, 1]
    """
    S = _off_diagonal(check_square(similarity, "similarity"))
    maximize = check_flag("maximize", maximize)
    _check_memory(len(S))
    V = check_rows(code, name="code")
    if len(S) != len(V):
        raise ValueError(f"similarity and code must have one K; got shapes {S.shape} and {V.shape}")
    starts = default_starts(len(S)) if starts is None else check_integer("starts", starts, 1)
    seed = check_integer("seed", seed, 0)
    G = cosines(V)
    scale = float(np.abs(S).max()) or 1.0
    S = S / scale  # no square of an entry may overflow or underflow
    sign = 1.0 if maximize else -1.0
    pairs = _fixed_pairs(fixed, len(S))
    rng = np.random.default_rng(seed)
    found = (swaps(sign * S, G, p, pairs) for p in guesses(sign * S, G, starts, rng, pairs))
    p = max(found, key=lambda p: sign * trace(S, G, p))
    p.flags.writeable = False
    values = trace(S, G, p), sign * _projection_bound(sign * S, G), _mean_trace(S, G, pairs)
    return Assignment(p, *(scale * value for value in values))


def _fixed_pairs(fixed: Mapping[int, int] | None, K: int) -> np.ndarray:
    """Classes and their vectors, shape (m, 2)."""
    pairs = [
        (check_integer("a class in fixed", k, 0, K - 1), check_integer("a vector in fixed", v, 0, K - 1))
        for k, v in (fixed or {}).items()
    ]
    if len({v for _, v in pairs}) < len(pairs):
        raise ValueError("fixed must give each class a vector of its own; got one vector twice")
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def _others(pairs: np.ndarray, K: int) -> tuple[np.ndarray, np.ndarray]:
    """The classes and the vectors that are not in fixed pairs."""
    every = np.arange(K)
    return np.setdiff1d(every, pairs[:, 0]), np.setdiff1d(every, pairs[:, 1])


def _mean_trace(S: Square, G: Square, pairs: np.ndarray) -> float:
    """The mean of tr(S P G P^T) over all permutations with the fixed pairs."""
    (i, j), (k, v) = _others(pairs, len(S)), pairs.T
    total = float(np.sum(S[np.ix_(k, k)] * G[np.ix_(v, v)]))
    if len(i):
        total += 2 * float(S[np.ix_(k, i)].sum(axis=1) @ G[np.ix_(v, j)].sum(axis=1)) / len(i)
    if len(i) > 1:
        total += float(S[np.ix_(i, i)].sum() * G[np.ix_(j, j)].sum()) / (len(i) * (len(i) - 1))
    return total


def default_starts(K: int) -> int:
    """The default number of starts, from 2 to 500: as many as take a few seconds."""
    return int(np.clip(6.4e7 / K**3, 2, 500))


def trace(S: Square, G: Square, p: Permutation) -> float:
    """tr(S P G P^T) = sum of S_ij G_p(i)p(j)."""
    return float(np.sum(S * G[np.ix_(p, p)]))


#: No pair of a class and a vector is fixed.
FREE = np.empty((0, 2), dtype=np.int64)


def guesses(
    S: Square, G: Square, starts: int, rng: np.random.Generator, pairs: np.ndarray = FREE
) -> Iterator[Permutation]:
    """One permutation with a large tr(S P G P^T) and the fixed pairs per start; S and G symmetric, diagonals zero."""
    yield _by_rows(S, G, pairs)
    if len(pairs) >= len(S) - 1:  # there is no other
        return
    for start in range(1, starts):
        begin: Literal["barycenter", "randomized"] = "barycenter" if start == 1 else "randomized"
        yield quadratic_assignment(
            S, G, options={"maximize": True, "P0": begin, "rng": rng, "partial_match": pairs}
        ).col_ind


def _by_rows(S: Square, G: Square, pairs: np.ndarray = FREE) -> Permutation:
    """The permutation under which the sorted rows of S and G, each brought to mean 0 and variance 1, differ least.

    Where S is a relabelled G whose rows all differ, it is the relabelling.
    """
    rows_S, rows_G = ((rows - rows.mean()) / (rows.std() or 1.0) for rows in (sorted_rows(S), sorted_rows(G)))
    classes, vectors = _others(pairs, len(S))
    p = np.empty(len(S), dtype=np.int64)
    p[pairs[:, 0]] = pairs[:, 1]
    p[classes] = vectors[linear_sum_assignment(cdist(rows_S[classes], rows_G[vectors], "sqeuclidean"))[1]]
    return p


def sorted_rows(S: Square) -> np.ndarray:
    """The off-diagonal entries of each row in increasing order, shape (K, K - 1)."""
    K = len(S)
    return np.sort(S[~np.eye(K, dtype=bool)].reshape(K, K - 1), axis=1)


def swaps(S: Square, G: Square, p: Permutation, pairs: np.ndarray = FREE) -> Permutation:
    """Exchange the images of the two classes that gain the most, until no exchange gains; fixed pairs stay.

    Let F = P G P^T and M = S F. Exchanging i and j gains 2 (M_ij + M_ji - M_ii - M_jj + 2 S_ij F_ij). The exchange
    changes M by a rank-one term and a swap of columns, so each costs O(K^2). SciPy's "2opt" evaluates all K^2
    entries for every pair.
    """
    p = p.copy()
    F = G[np.ix_(p, p)]
    M = S @ F
    least = GAIN * np.linalg.norm(S) * np.linalg.norm(G)
    while True:
        own = np.diagonal(M)
        gain = M + M.T - own - own[:, None] + 2 * S * F
        np.fill_diagonal(gain, 0.0)
        gain[pairs[:, 0]], gain[:, pairs[:, 0]] = 0.0, 0.0
        i, j = np.unravel_index(np.argmax(gain), gain.shape)
        if gain[i, j] <= least:
            return p
        M += np.outer(S[:, j] - S[:, i], F[i] - F[j])
        swap, back = [i, j], [j, i]
        M[:, swap] = M[:, back]
        F[swap] = F[back]
        F[:, swap] = F[:, back]
        p[swap] = p[back]


def _projection_bound(S: Square, G: Square) -> float:
    """An upper bound on tr(S P G P^T) over permutations.

    P = 11^T/K + Z Y Z^T with Z (K, K - 1) orthonormal and orthogonal to 1, and Y orthogonal. Let S' = Z^T S Z,
    G' = Z^T G Z, and let r = S 1 and t = G 1 be the row sums. Then the trace is
    tr(S' Y G' Y^T) + (2/K) r^T P t - (1^T r)(1^T t)/K^2. Sorted eigenvalues bound the first term, sorted row sums the
    second.
    """
    K = len(S)
    Z = helmert(K)
    r, t = S.sum(axis=1), G.sum(axis=1)
    spectral = np.linalg.eigvalsh(Z @ S @ Z.T) @ np.linalg.eigvalsh(Z @ G @ Z.T)
    return float(spectral + 2 / K * (np.sort(r) @ np.sort(t)) - r.sum() * t.sum() / K**2)


def _check_matrix(matrix: Any, name: str) -> Rows:
    """A finite two-dimensional array as float64."""
    if hasattr(matrix, "detach"):
        matrix = as_array(matrix, name)
    check_unmasked(matrix, name)
    try:
        if np.iscomplexobj(matrix):
            raise TypeError
        array = np.asarray(matrix, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} must be a matrix of real numbers; got {type(matrix).__name__}") from None
    if array.ndim != 2:
        raise ValueError(f"{name} must be a matrix; got shape {array.shape}")
    if not np.isfinite(array).all():
        i, j = np.argwhere(~np.isfinite(array))[0]
        raise ValueError(f"{name} must be finite; entry ({i}, {j}) is {array[i, j]}")
    return array


def check_square(matrix: Any, name: str) -> Square:
    """Validate one square matrix and return it as float64.

    Parameters
    ----------
    matrix : array_like, shape (K, K)
        Real and finite, K >= 2.
    name : str
        The name of the matrix in an error message.

    Returns
    -------
    ndarray, shape (K, K), float64
        The same numbers.

    Raises
    ------
    ValueError
        If the matrix is not real, finite and square with K >= 2; the message shows what was received.

    Examples
    --------
    >>> from softmaxcode.assignment import check_square
    >>> check_square([[1, 0], [0, 1]], "similarity").dtype
    dtype('float64')
    """
    array = _check_matrix(matrix, name)
    if array.shape[0] != array.shape[1] or len(array) < 2:
        raise ValueError(f"{name} must be square, with K >= 2 rows; got shape {array.shape}")
    return array


def _check_memory(K: int) -> None:
    """Raise a ValueError where a few K x K matrices do not fit into memory."""
    check_memory(f"an assignment of {K} classes", 32 * K * K, "assign fewer classes, such as means of groups of them")


def _off_diagonal(matrix: Square) -> Square:
    """The symmetric part with a diagonal of zeros."""
    S = (matrix + matrix.T) / 2
    np.fill_diagonal(S, 0.0)
    return S


def cosines(X: Rows) -> Square:
    """Cosines of all pairs of unit rows, with a diagonal of zeros."""
    return _off_diagonal(X @ X.T)
