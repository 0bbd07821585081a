"""Exact one-vs-rest distances, each with its primal-dual gap (docs/theory.md, T1 and T2)."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.sparse import csr_array

from softmaxcode.checks.arguments import check_jobs
from softmaxcode.margins.min_norm import refine, wolfe, wolfe_orthogonal
from softmaxcode.parallel.compiled import compiled
from softmaxcode.parallel.progress import Progress
from softmaxcode.parallel.threads import Threads
from softmaxcode.parallel.tiles import long_pass
from softmaxcode.sphere import check_rows, largest_cosines

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from softmaxcode.types import PerClass, Rows

#: Classes solved together: checking all other classes costs one (TILE, d) x (d, K) product per round.
TILE = 256
#: The most cosines of one tile, 128 MB; a thread stores twice that. For K > 65,536 tiles have fewer than TILE classes.
TILE_COSINES = 2**24
#: A class is solved when no other class violates its dual value by more than this.
GAP_TOLERANCE = 2e-14
#: Below this bound a gap of ``GAP_TOLERANCE`` would affect the digits of a margin.
TINY = 1e-10
#: Projections after which contacts count as unbalanced.
MAX_PROJECTIONS = 500
#: Classes for which weights of the contacts are computed.
MAX_BALANCED = 4
#: Rounds of adding violated classes; ten are rarely needed.
MAX_ROUNDS = 200


@dataclass(frozen=True, eq=False)
class Margins:
    """One-vs-rest distances of a classifier.

    Attributes
    ----------
    margins : ndarray, shape (K,)
        dist(w_k, conv{w_j : j != k}), as the norm of w_k minus an explicit convex combination. So it is an upper value.
        It exceeds the true distance by at most ``gaps``, up to rounding (about 1e-15).
    gaps : ndarray, shape (K,)
        ``margins`` minus the dual value min_j <h_k, w_k - w_j>, at least 0.
    H : ndarray, shape (K, d)
        The unit vectors h_k at which the dual value is attained: the direction that class k's features collapse to. If
        a class has distance 0 (a duplicated row), any direction is optimal and h_k is w_k.
    weights : csr_array, shape (K, K)
        Row k has the convex weights of the nearest point of class k, which is row k of ``weights @ W``. The classes
        with a positive weight are the competitors of class k. There are at most d of them where the distance is
        positive. In degenerate codes other weights may give the same point.
    """

    margins: PerClass
    gaps: PerClass
    H: Rows
    weights: csr_array

    @property
    def margin(self) -> float:
        """The smallest one-vs-rest distance."""
        return float(self.margins.min())

    @property
    def gap(self) -> float:
        """The largest primal-dual gap over the classes."""
        return float(self.gaps.max())

    def competitors(self, k: int) -> tuple[np.ndarray, PerClass]:
        """The classes whose convex combination is the point nearest to class k, and their weights.

        Parameters
        ----------
        k : int
            A class.

        Returns
        -------
        classes : ndarray, shape (n,)
            By decreasing weight.
        weights : ndarray, shape (n,)
            Positive; their sum is 1.

        Examples
        --------
        >>> import numpy as np
        >>> W = np.array([[1.0, 0], [0.8, 0.6], [0, 1], [-1, 0]])
        >>> classes, weights = margin(W).competitors(1)
        >>> classes.tolist(), weights.round(3).tolist()
        ([0, 2], [0.6, 0.4])
        """
        row = slice(self.weights.indptr[k], self.weights.indptr[k + 1])
        classes, weights = self.weights.indices[row], self.weights.data[row]
        order = np.argsort(-weights, kind="stable")
        return classes[order], weights[order]


class _Solved(NamedTuple):
    """Distances, gaps, directions, and convex weights of some classes: counts of each class, then all one by one."""

    margins: PerClass
    gaps: PerClass
    H: Rows
    counts: np.ndarray
    competitors: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True)
class SmallestMargin:
    """The margin alone: its value, primal-dual gap, the class that attains it and the number of classes solved.

    No class is solved if a combination of one class's contacts shows that it is only 1 - mu away from the rest.
    """

    margin: float
    gap: float
    attained_by: int
    solved: int


@compiled()
def _refined(V, support, h, a):
    """`refine` on the rows ``support`` of V."""
    A = np.empty((len(support), V.shape[1]))
    for i in range(len(support)):
        A[i] = V[support[i]]
    return refine(A, h, a[: len(support)])


@compiled()
def _solve_pools(W, classes, pools, sizes, supports, support_sizes, weights, H, values, tolerance):
    """Solve each class's polytope over its pool, in place; pools contain indices of other classes."""
    d = W.shape[1]
    for row in range(len(classes)):
        k = classes[row]
        m = sizes[row]
        V = np.empty((m, d))
        for i in range(m):
            V[i] = W[k] - W[pools[row, i]]
        G = np.dot(V, V.T)
        s = wolfe(G, supports[row], support_sizes[row], weights[row], min(d, m))
        h = np.empty(d)
        a = np.empty(supports.shape[1])
        value = _refined(V, supports[row, :s], h, a)
        if value > 0.0 and np.min(np.dot(V, h)) < value - tolerance:
            # nearly equal vertices, which Gram products cannot distinguish
            s = wolfe_orthogonal(V, supports[row], s, weights[row], tolerance / 4)
            value = _refined(V, supports[row, :s], h, a)
        values[row] = value
        support_sizes[row] = s
        weights[row, :s] = a[:s]
        if np.dot(h, h) < 0.5:  # the nearest point is the origin: a duplicated row
            h[:] = W[k]
        H[row] = h


def _solve_classes(W: Rows, classes: np.ndarray) -> _Solved:
    """One tile of classes."""
    K, d = W.shape
    n = len(classes)
    pool = min(K - 1, max(24, min(2 * d, 256)))
    room = min(K - 1, 2 * pool + 64)
    grow = max(8, d // 4)
    pools = np.zeros((n, room), dtype=np.int64)
    sizes = np.full(n, pool)
    supports = np.zeros((n, min(d, K - 1) + 2), dtype=np.int64)
    support_sizes = np.zeros(n, dtype=np.int64)
    weights = np.zeros(supports.shape)
    H = np.empty((n, d))
    values = np.empty(n)
    own = np.arange(n)
    competitors: list[np.ndarray] = [np.empty(0, dtype=np.int64)] * n

    C = W[classes] @ W.T
    np.negative(C, out=C)
    C[own, classes] = np.inf
    pools[:, :pool] = np.argpartition(C, pool - 1, axis=1)[:, :pool]
    todo = own
    lower = np.full(n, -np.inf)
    for _ in range(MAX_ROUNDS):
        part = [a[todo] for a in (pools, sizes, supports, support_sizes, weights)]
        h, value = np.empty((len(todo), d)), np.empty(len(todo))
        p, n_p, active, n_a, a = part
        _solve_pools(W, classes[todo], p, n_p, active, n_a, a, h, value, GAP_TOLERANCE)
        for target, result in zip((supports, support_sizes, weights), part[2:], strict=True):
            target[todo] = result
        # <h, w_k - w_j> for every j at once; the smallest is the dual value
        C = h @ W.T
        inner = np.einsum("kd,kd->k", h, W[classes[todo]])
        C[np.arange(len(todo)), classes[todo]] = -np.inf
        dual = inner - C.max(axis=1)
        H[todo], values[todo], lower[todo] = h, value, dual
        for k in range(len(todo)):  # pools change below
            competitors[todo[k]] = p[k, active[k, : n_a[k]]]
        violated = dual < value - GAP_TOLERANCE
        again = []
        for row in np.flatnonzero(violated):
            i = todo[row]
            s = support_sizes[i]
            excess = np.where(C[row] > inner[row] - value[row] + GAP_TOLERANCE / 2, C[row], -np.inf)
            excess[pools[i, : sizes[i]]] = -np.inf
            fresh = np.argpartition(-excess, min(grow, K - 1) - 1)[:grow]
            fresh = fresh[np.isfinite(excess[fresh])]
            if not len(fresh):
                continue  # nothing new to add: the remainder is rounding, and the gap reports it
            pool_of_class = _grown_pool(pools[i, : sizes[i]], supports[i, :s], fresh, room)
            sizes[i] = len(pool_of_class)
            if sizes[i] > room:
                room = min(K - 1, 2 * room + len(fresh))
                pools = np.pad(pools, ((0, 0), (0, room - pools.shape[1])))
            pools[i, : sizes[i]] = pool_of_class
            supports[i, :s] = np.arange(s)
            again.append(i)
        if not again:
            break
        todo = np.array(again)
    lower = np.minimum(np.maximum(lower, 0.0), values)  # a distance is never negative
    used = [_positive(competitors[k], weights[k, : len(competitors[k])]) for k in range(n)]
    counts = np.array([len(one) for one, _ in used])
    everyone = np.concatenate([classes_used for classes_used, _ in used])
    return _Solved(values, values - lower, H, counts, everyone, np.concatenate([part for _, part in used]))


def _positive(competitors: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The competitors of positive weight, in the order of their numbers."""
    used = np.flatnonzero(weights > 0)
    used = used[np.argsort(competitors[used])]
    return competitors[used], weights[used]


def _grown_pool(pool: np.ndarray, support: np.ndarray, fresh: np.ndarray, room: int) -> np.ndarray:
    """A class's candidates: those of the optimum, then older ones (dropped where room is short), then new ones."""
    used = pool[support]
    if len(pool) + len(fresh) > room:
        return np.concatenate([used, fresh])
    return np.concatenate([used, np.setdiff1d(pool, used, assume_unique=True), fresh])


def _tile_size(K: int) -> int:
    """The number of classes in a tile."""
    return max(1, min(TILE, TILE_COSINES // K))


def _solve_tiles(W: Rows, classes: np.ndarray, n_jobs: int) -> list[_Solved]:
    tiles = np.array_split(classes, max(1, -(-len(classes) // _tile_size(len(W)))))
    label = "margins of all classes (sampled_margin takes a sample)"
    with Progress(label, len(classes), show=long_pass(len(classes) * W.size)) as bar:

        def solved(tile: np.ndarray) -> _Solved:
            found = _solve_classes(W, tile)
            bar.step(len(tile))
            return found

        return Threads(n_jobs).run("tiles", [functools.partial(solved, tile) for tile in tiles])


def margins(W: Rows, n_jobs: int = -1, *, classes: np.ndarray | None = None) -> Margins:
    """`margin` for validated rows; with ``classes``, of those alone in their order."""
    parts = _solve_tiles(W, np.arange(len(W)) if classes is None else classes, n_jobs)
    solved = _Solved(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
    for array in solved:
        array.flags.writeable = False
    rows = np.concatenate([[0], np.cumsum(solved.counts)])
    weights = csr_array((solved.weights, solved.competitors, rows), shape=(len(solved.margins), len(W)))
    return Margins(solved.margins, solved.gaps, solved.H, weights)


def margin(W: ArrayLike, *, normalize: bool = False, n_jobs: int = -1) -> Margins:
    r"""Exact one-vs-rest distances of any classifier on the unit sphere.

    For each class it is the distance from :math:`w_k` to the convex hull of the others. An active-set method over near
    neighbours computes it. All other classes are checked in one matrix product per round, until the primal and the dual
    value meet:

    .. math:: \|w_k - \sum_j \alpha_j w_j\| \ge dist_k \ge \min_{j \ne k} \langle h_k, w_k - w_j\rangle .

    Parameters
    ----------
    W : array_like, shape (K, d)
        Unit vectors, one per row.
    normalize : bool
        Scale the rows to unit norm first.
    n_jobs : int
        Threads, as in joblib; -1 uses every core.

    Returns
    -------
    Margins
        ``margins`` (K,), ``gaps`` (K,), ``H`` (K, d), ``weights`` (K, K) and the smallest distance ``margin``.

    Raises
    ------
    ValueError
        If ``W`` is not an array of finite unit rows; see `softmaxcode.sphere.check_rows`.

    References
    ----------
    docs/theory.md, T1; Wolfe, Mathematical Programming 11 (1976).

    Examples
    --------
    >>> import numpy as np, softmaxcode as sc
    >>> square = np.array([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    >>> sc.margin(square).margins.tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    return margins(check_rows(W, normalize=normalize), check_jobs(n_jobs))


def _contact_distances(W: Rows, classes: np.ndarray, slack: float) -> PerClass:
    """Distance of each class to some convex combination of its contacts: upper bounds on the one-vs-rest distances.

    The combination is their mean. If the mean is not sufficient for any class, better ones are computed for a few
    classes of more than d contacts.
    """
    C = W[classes] @ W.T
    C[np.arange(len(classes)), classes] = -np.inf
    contacts = C >= C.max(axis=1, keepdims=True) - slack
    counts = contacts.sum(axis=1)
    distances = np.linalg.norm(W[classes] - contacts.astype(float) @ W / counts[:, None], axis=1)
    if distances.min() < 1 - C.max() + slack:
        return distances
    different = np.unique(counts, return_index=True)[1]  # classes of one orbit have equally many contacts
    for i in different[::-1][:MAX_BALANCED]:
        if counts[i] > W.shape[1]:
            A = W[contacts[i]]
            weights = _balanced(A, W[classes[i]])
            distances[i] = min(distances[i], np.linalg.norm(W[classes[i]] - weights @ A))
    return distances


def _balanced(A: Rows, w: np.ndarray) -> np.ndarray:
    """Convex weights of the rows of A whose combination is near to their common cosine with w times w.

    It projects alternately on the affine space of all weights that solve this exactly and on the non-negative weights.
    If positive weights solve it, a point of both is reached.
    """
    n = len(A)
    B = np.column_stack([A, np.ones(n)])
    target = np.append((A @ w).mean() * w, 1.0)
    squares, vectors = np.linalg.eigh(B.T @ B)
    kept = squares > 1e-9 * squares[-1]
    inverse = vectors[:, kept] / squares[kept] @ vectors[:, kept].T
    weights = np.full(n, 1 / n)
    for _ in range(MAX_PROJECTIONS):
        step = inverse @ (target - weights @ B)
        weights = weights + B @ step
        if weights.min() >= 0 or np.linalg.norm(target - weights @ B) > 1e-6:  # found, or nothing balances exactly
            break
        weights = np.maximum(weights, 0.0)
    weights = np.maximum(weights, 0.0)
    return weights / weights.sum()


def _from_the_smallest(bounds: PerClass, slack: float) -> np.ndarray:
    """Classes by increasing bound; those whose bounds differ by rounding alone stay in order."""
    return np.argsort(np.round(bounds / slack), kind="stable")


def smallest_from_bounds(
    W: Rows, bounds: PerClass, slack: float, *, best: float = np.inf, attained_by: int = -1, n_jobs: int = -1
) -> SmallestMargin:
    """The smallest one-vs-rest distance, given a lower bound of each.

    Classes are solved in the order of their bounds, the smallest first, until no bound is below the best distance by
    more than ``slack``.

    Parameters
    ----------
    W : ndarray, shape (K, d)
        Unit rows, already validated.
    bounds : ndarray, shape (K,)
        Lower bounds of the one-vs-rest distances.
    slack : float
        How much smaller than the result the distance of an unsolved class may be; the gap reports it.
    best, attained_by : float, int
        A distance computed before, and its class.
    n_jobs : int
        Threads, as in joblib.
    """
    todo = _from_the_smallest(bounds, slack)
    left = np.ones(len(W), dtype=bool)
    gap, size = 0.0, 8
    while len(todo := todo[bounds[todo] < best - slack]):
        batch, todo = todo[:size], todo[size:]
        parts = _solve_tiles(W, batch, n_jobs)
        value = np.concatenate([part.margins for part in parts])
        gaps = np.concatenate([part.gaps for part in parts])
        i = int(np.argmin(value))
        if value[i] < best:
            best, attained_by = float(value[i]), int(batch[i])
        gap = max(gap, float(gaps.max()))
        left[batch] = False
        size = min(2 * size, 2 * TILE)
    if left.any():  # how much smaller the unsolved classes could be
        gap = max(gap, best - float(bounds[left].min()))
    return SmallestMargin(best, gap, attained_by, int(np.count_nonzero(~left)))


def smallest_margin(W: Rows, n_jobs: int = -1, *, max_cosine: float | None = None) -> SmallestMargin:
    """The smallest one-vs-rest distance, solving only the classes that can attain it (docs/theory.md, T2).

    Class k is at least 1 - mu_k away from the rest, with mu_k its largest cosine. Classes are solved in the order of
    these bounds, the smallest first. The solver stops when the next bound is at least the best distance found, up to
    the rounding of cosines. A class that attains 1 - mu stops it at once. Where a class has many contacts, as in
    symmetric codes, a combination of them shows that without solving any class.

    Parameters
    ----------
    W : ndarray, shape (K, d)
        Unit rows, already validated.
    n_jobs : int
        Threads, as in joblib.
    max_cosine : float, optional
        An upper bound on the cosines, if known; it replaces the pass over all pairs.
    """
    bounds = 1 - largest_cosines(W) if max_cosine is None else np.full(len(W), 1 - max_cosine)
    slack = np.sqrt(W.shape[1]) * 2.0**-52  # the rounding of cosines
    if bounds.min() > TINY:
        slack = max(GAP_TOLERANCE, slack)
    order = _from_the_smallest(bounds, slack)
    distances = _contact_distances(W, order[: _tile_size(len(W))], slack)
    i = int(np.argmin(distances))
    if distances[i] < bounds.min() + slack:
        return SmallestMargin(float(distances[i]), max(0.0, float(distances[i] - bounds.min())), int(order[i]), 0)
    return smallest_from_bounds(W, bounds, slack, n_jobs=n_jobs)
