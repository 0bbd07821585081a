"""The relabelling and rotation that bring one set of vectors nearest to another."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import block_diag, orthogonal_procrustes, qr
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from softmaxcode.assignment import cosines, default_starts, guesses, sorted_rows, swaps
from softmaxcode.checks.arguments import check_integer, check_number
from softmaxcode.checks.limits import NotComputed
from softmaxcode.code import SoftmaxCode
from softmaxcode.parallel.deadline import Deadline
from softmaxcode.parallel.progress import Progress
from softmaxcode.sphere import check_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike

    from softmaxcode.assignment import Permutation
    from softmaxcode.types import PerClass, Rows, Square


#: More classes are not aligned; at this many one alignment takes about twenty seconds.
MAX_ALIGN_CLASSES = 1000
#: The most quadratic assignments tried without ``starts``.
MOST_STARTS = 64
#: The search ends at an alignment within this distance of every vector.
EXACT = 1e-6
#: Rows of a frame: enough to distinguish the other rows by their cosines with them.
FRAME_ROWS = 32
#: Cosines compared at a row of a frame; beyond that, the worst partial frames are dropped.
BEAM = 2_500_000
#: Quadratic assignments tried per two frames.
STARTS_PER_FRAMES = 16
#: Sets of rows of V that are completed for each frame of W.
FRAMES_KEPT = 8


@dataclass(frozen=True, eq=False)
class Alignment:
    r"""A relabelling and a rotation that bring a code to a classifier.

    Attributes
    ----------
    permutation : ndarray of int, shape (K,), read-only
        Class c of W is matched to vector ``permutation[c]`` of V.
    rotation : ndarray, shape (d, d), read-only
        Orthogonal R with :math:`w_c \approx R v_{p(c)}`, that is W close to ``(V @ R.T)[permutation]``. Its determinant
        may be -1: no distance within a code reveals a reflection.
    residual_angles : ndarray, shape (K,), read-only
        Degrees between :math:`w_c` and :math:`R v_{p(c)}`.
    complete : bool
        Whether every start was tried, or one matched every vector; if not, more time may bring the two nearer.
    """

    permutation: Permutation
    rotation: Square
    residual_angles: PerClass
    complete: bool

    @property
    def mean_angle(self) -> float:
        """Mean of the residual angles, in degrees."""
        return float(self.residual_angles.mean())

    @property
    def rms_angle(self) -> float:
        """Root mean square of the residual angles, in degrees."""
        return float(np.sqrt(np.mean(self.residual_angles**2)))

    @property
    def max_angle(self) -> float:
        """The largest residual angle, in degrees."""
        return float(self.residual_angles.max())


def align(
    W: ArrayLike,
    V: SoftmaxCode | ArrayLike,
    *,
    starts: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
) -> Alignment:
    r"""Find the relabelling and rotation of V that bring it nearest to W.

    Parameters
    ----------
    W : array_like, shape (K, d)
        Rows of any non-zero norm; their directions count. At most ``MAX_ALIGN_CLASSES`` rows.
    V : SoftmaxCode or array_like, shape (K, d)
        Likewise.
    starts : int, optional
        Quadratic assignments tried, with two frames per 16 of them, rounded up. By default 64 up to K = 100, falling to
        2 from K = 300 on.
    seconds : float, optional
        No start begins after so many seconds, except the first; at K = 1000 one takes up to twenty. No end by default.
    seed : int
        Everything random follows from it.

    Returns
    -------
    Alignment
        ``permutation``, ``rotation`` and ``residual_angles``. Where V has symmetries, one of the equally good answers.

    Raises
    ------
    ValueError
        If an array is not one of finite non-zero rows, or the shapes differ.
    NotComputed
        For more classes than ``MAX_ALIGN_CLASSES``.

    Notes
    -----
    The problem is

    .. math:: \min_{p, R^T R = I} \sum_c \|w_c - R v_{p(c)}\|^2 .

    For fixed p the best R solves the orthogonal Procrustes problem; for fixed R the best p is a linear assignment. The
    two alternate to a fixed point, which depends on the start. There are three kinds of start.

    1. The matching of rows whose sorted cosines are the most alike.
    2. Frames: a few rows of W, and sets of rows of V with nearly their mutual cosines, found by a beam search. Every
       other row is matched by its cosines with the frame. This succeeds on symmetric codes, where the first kind cannot
       distinguish rows.
    3. Local maxima of :math:`\|W^T P V\|_F`, the quadratic assignment of the two Gram matrices.

    The best result is kept. It is a local minimum, unless the residuals vanish.

    References
    ----------
    P. H. Schoenemann, A generalized solution of the orthogonal Procrustes problem, Psychometrika 31 (1966) 1-10.

    Examples
    --------
    >>> import numpy as np, softmaxcode as sc
    >>> V = sc.best_known(12, 3).W
    >>> W = V[::-1] @ np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    >>> found = align(W, V)
    >>> found.max_angle < 1e-6, np.allclose((V @ found.rotation.T)[found.permutation], W)
    (True, True)
    """
    W = check_rows(W, normalize=True)
    V = check_rows(V, normalize=True, name="V")
    check_alike(W, V, "V")
    check_alignable(len(W))
    starts = min(MOST_STARTS, default_starts(len(W))) if starts is None else check_integer("starts", starts, 1)
    seconds = None if seconds is None else check_number("seconds", seconds, 0, np.inf, "[)")
    rng = np.random.default_rng(check_integer("seed", seed, 0))
    return aligned_rows(W, V, starts, rng, Deadline(seconds))


def check_alignable(K: int) -> None:
    """Refuse more classes than an alignment can have."""
    if K > MAX_ALIGN_CLASSES:
        raise NotComputed(f"not computed: the alignment of {K} classes (the limit is {MAX_ALIGN_CLASSES})")


def check_alike(W: Rows, V: Rows, name: str) -> None:
    """Refuse two sets of rows of different shapes."""
    if W.shape != V.shape:
        raise ValueError(f"W and {name} must have one shape (K, d); got {W.shape} and {V.shape}")


def aligned_rows(W: Rows, V: Rows, starts: int, rng: np.random.Generator, deadline: Deadline) -> Alignment:
    """`align` for validated rows."""
    K, d = W.shape
    if d > K:  # in coordinates of the two spans; R also maps one orthogonal complement to the other
        (Q_W, A), (Q_V, B) = qr(W.T), qr(V.T)
        p, turn, complete = _nearest(A[:K].T.copy(), B[:K].T.copy(), starts, rng, deadline)
        R = Q_W @ block_diag(turn, np.eye(d - K)) @ Q_V.T
    else:
        p, R, complete = _nearest(W, V, starts, rng, deadline)
    angles = np.degrees(2 * np.arcsin(np.minimum(1.0, np.linalg.norm(W - V[p] @ R.T, axis=1) / 2)))
    for array in (p, R, angles):
        array.flags.writeable = False
    return Alignment(p, R, angles, complete)


def _nearest(
    W: Rows, V: Rows, starts: int, rng: np.random.Generator, deadline: Deadline
) -> tuple[Permutation, Square, bool]:
    """The best fixed point of all starts, improved by swaps of two classes, and whether all were tried."""
    S, G = cosines(W), cosines(V)
    by_gram = guesses(S, G, starts, rng)
    by_frame = _frames(S, G, W.shape[1], starts, rng)
    best, p, R = -np.inf, np.arange(len(W)), np.eye(W.shape[1])
    complete = True
    with Progress("align", starts + 2 * _frame_pairs(starts) * FRAMES_KEPT) as bar:
        for guess in itertools.chain(itertools.islice(by_gram, 1), by_frame, by_gram):
            found, turn, fit = _fixed_point(W, V, guess)
            if fit > best:
                best, p, R = fit, found, turn
            if np.linalg.norm(W - V[found] @ turn.T, axis=1).max() < EXACT:
                return found, turn, True
            bar.step(1)
            if deadline.passed:
                complete = False
                break
    found, turn, fit = _fixed_point(W, V, swaps(S, G, p))
    return (found, turn, complete) if fit > best else (p, R, complete)


def _fixed_point(W: Rows, V: Rows, p: Permutation) -> tuple[Permutation, Square, float]:
    """Alternate Procrustes and linear assignment until the sum of cosines, the fit, no longer grows."""
    R, fit = _rotation(W, V, p)
    while True:
        trial = linear_sum_assignment(W @ (R @ V.T), maximize=True)[1]
        turn, better = _rotation(W, V, trial)
        if better <= fit + 1e-13 * len(W):
            return p, R, fit
        p, R, fit = trial, turn, better


def _rotation(W: Rows, V: Rows, p: Permutation) -> tuple[Square, float]:
    """The orthogonal R nearest to w_c = R v_p(c), and the sum of cosines <w_c, R v_p(c)> it reaches."""
    R, fit = orthogonal_procrustes(V[p], W)
    return R.T, float(fit)


def _frames(S: Square, G: Square, d: int, starts: int, rng: np.random.Generator) -> Iterator[Permutation]:
    """Permutations from frames of rows of W, spread and random in turn; S and G are the cosines of W and V.

    A spread frame is a random row and the rows that a pivoted factorisation adds. Each added row is the furthest from
    the span of the ones before, which makes the frame robust to noise. In very symmetric codes all cosines of a spread
    frame are alike and fit many sets of rows; those of a random frame differ.
    """
    K = len(S)
    size = min(K, d + 2, FRAME_ROWS)
    unlike = cdist(_fingerprints(S), _fingerprints(G), "sqeuclidean") / (K - 1)
    S, G = S + np.eye(K), G + np.eye(K)
    for _ in range(_frame_pairs(starts)):
        weights = np.ones(K)
        weights[rng.integers(K)] = 2.0
        spread = qr(S * weights, mode="r", pivoting=True)[1][:size]
        yield from _by_frame(S, G, unlike, spread, rng)
        yield from _by_frame(S, G, unlike, rng.choice(K, size, replace=False), rng)


def _frame_pairs(starts: int) -> int:
    """Pairs of a spread and a random frame tried beside so many quadratic assignments."""
    return -(-starts // STARTS_PER_FRAMES)


def _fingerprints(S: Square) -> np.ndarray:
    """Invariants of each row under relabelling: its sorted cosines, and those of S^2, which involve its neighbours."""
    return np.hstack([sorted_rows(S), sorted_rows(S @ S) / max(1.0, np.mean(np.sum(S * S, axis=1)))])


def _by_frame(
    S: Square, G: Square, unlike: Square, frame: np.ndarray, rng: np.random.Generator
) -> Iterator[Permutation]:
    """Permutations from the sets of rows of V that are the most like a frame of W.

    Sets grow one row at a time. They are ranked by the squared differences of their mutual cosines from the frame's,
    and of each row's fingerprint from that of the frame's row. Fingerprints distinguish rows that few cosines cannot.
    """
    K, size = len(S), len(frame)
    width = max(1, BEAM // (K * size))
    sets, cost = np.arange(K)[:, None], unlike[frame[0]]
    for r in range(1, size):
        costs = cost[:, None] + unlike[frame[r]]
        for column, cosine in zip(sets.T, S[frame[r], frame[:r]], strict=True):
            costs += (G[column] - cosine) ** 2
        np.put_along_axis(costs, sets, np.inf, axis=1)  # no row twice
        # in symmetric codes many sets are equally good, and some cannot be continued: noise selects among them
        kept = np.argsort(costs + 1e-12 * rng.random(costs.shape), axis=None)[:width]
        kept = kept[np.isfinite(costs.flat[kept])]
        parents, rows = np.unravel_index(kept, costs.shape)
        sets, cost = np.column_stack([sets[parents], rows]), costs.flat[kept]
    for chosen in sets[:FRAMES_KEPT]:
        yield linear_sum_assignment(cdist(S[:, frame], G[:, chosen], "sqeuclidean"))[1]
