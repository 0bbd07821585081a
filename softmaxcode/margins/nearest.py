"""The classes nearest to the rest: one-vs-rest distances in the order of their lower bounds, in bounded time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import vstack

from softmaxcode.checks.arguments import check_integer, check_jobs, check_number
from softmaxcode.margins.exact import GAP_TOLERANCE, TILE, Margins, margins
from softmaxcode.parallel.deadline import Deadline
from softmaxcode.parallel.progress import Progress
from softmaxcode.parallel.tiles import long_pass
from softmaxcode.sphere import check_rows, largest_cosines

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from softmaxcode.types import PerClass, Rows

#: Classes of the first batch; each batch has twice as many as the one before, up to 2 `TILE`.
FIRST_BATCH = 8


@dataclass(frozen=True, eq=False)
class NearestClasses:
    """One-vs-rest distances of the classes that are nearest to the rest, and what is known of the others.

    Attributes
    ----------
    classes : ndarray, shape (n,)
        The solved classes, by increasing distance.
    solved : Margins
        Their distances, gaps, directions and weights, in this order.
    bounds : ndarray, shape (K,)
        A lower bound of every class's distance: 1 minus its largest cosine, or the dual value where it was solved.
    floor : float
        No class that was not solved is nearer to the rest than this; infinite if all were solved.
    """

    classes: np.ndarray
    solved: Margins
    bounds: PerClass
    floor: float

    @property
    def certain(self) -> int:
        """How many of ``classes``, from the first on, are the nearest: no other is nearer by more than rounding."""
        return int(np.searchsorted(self.solved.margins, self.floor + GAP_TOLERANCE, side="right"))

    @property
    def margin(self) -> float:
        """The smallest distance found. It is the smallest of all classes if ``certain`` is at least 1."""
        return float(self.solved.margins[0])

    @property
    def gap(self) -> float:
        """How much smaller than ``margin`` the smallest distance of all classes may be."""
        return max(0.0, self.margin - float(self.bounds.min()))


def nearest_classes(
    W: ArrayLike,
    count: int | None = 10,
    *,
    seconds: float | None = None,
    normalize: bool = False,
    n_jobs: int = -1,
) -> NearestClasses:
    r"""The classes nearest to the hull of the others, each with its exact distance.

    Class k is at least :math:`1 - \mu_k` away from the rest, with :math:`\mu_k` its largest cosine. Classes are solved
    in the order of these bounds, until ``count`` distances are at most the next bound. Then no other class is nearer.

    Parameters
    ----------
    W : array_like, shape (K, d)
        Unit vectors, one per row.
    count : int, optional
        How many classes are wanted, at least 1; None for all.
    seconds : float, optional
        Time after which no further class is started. By default there is no limit.
    normalize : bool
        Scale the rows to unit norm first.
    n_jobs : int
        Threads, as in joblib; -1 uses every core.

    Returns
    -------
    NearestClasses
        ``certain`` is how many of its classes are known to be the nearest: at least ``count`` unless time was short.

    Raises
    ------
    ValueError
        If ``W`` is not an array of finite unit rows, or another argument is out of range.

    References
    ----------
    docs/theory.md, T1 and T2.

    Examples
    --------
    >>> import numpy as np
    >>> angles = np.array([0, 1, 1.3, 2.5, 4.0])
    >>> found = nearest_classes(np.column_stack([np.cos(angles), np.sin(angles)]), 2)
    >>> found.classes[:2].tolist(), found.certain >= 2
    ([1, 2], True)
    """
    rows = check_rows(W, normalize=normalize)
    wanted = None if count is None else check_integer("count", count, 1)
    limit = None if seconds is None else check_number("seconds", seconds, 0, np.inf, "[)")
    deadline = Deadline(limit)
    return nearest_from_bounds(rows, 1 - largest_cosines(rows), wanted, deadline=deadline, n_jobs=check_jobs(n_jobs))


def nearest_from_bounds(
    W: Rows,
    bounds: PerClass,
    count: int | None,
    *,
    known: NearestClasses | None = None,
    deadline: Deadline | None = None,
    n_jobs: int = -1,
) -> NearestClasses:
    """`nearest_classes` for validated rows whose lower bounds are known; at least one batch is solved.

    Parameters
    ----------
    W : ndarray, shape (K, d)
        Unit rows.
    bounds : ndarray, shape (K,)
        Lower bounds of the distances.
    count : int or None
        How many classes are wanted; None for all.
    known : NearestClasses, optional
        An earlier result for the same rows and bounds, from which the work continues.
    deadline : Deadline, optional
        Batches become smaller when it is near, and none begins after it.
    n_jobs : int
        Threads, as in joblib.
    """
    K = len(W)
    count = K if count is None else min(count, K)
    bounds = np.maximum(bounds, 0.0)  # a cosine may be rounded to above 1
    deadline = Deadline(None) if deadline is None else deadline
    order = np.argsort(bounds, kind="stable")
    batches = [] if known is None else [known.solved]
    # those of an earlier result are the first of this order
    classes = [] if known is None else [known.classes]
    distances = np.empty(0) if known is None else known.solved.margins
    done, fresh, size = len(distances), 0, FIRST_BATCH
    begin = deadline.elapsed
    label = "margins of all classes" if count == K else f"the {count} smallest margins"
    with Progress(label, K, show=long_pass(K * W.size)) as bar:
        while done < K:
            if len(distances) >= count and count < K:
                worst = np.partition(distances, count - 1)[count - 1]
                if worst <= bounds[order[done]] + GAP_TOLERANCE:
                    break
            if batches and deadline.passed:
                break
            if fresh and deadline.end is not None:  # what the classes before took
                size = min(size, max(FIRST_BATCH, int(fresh * deadline.left / max(deadline.elapsed - begin, 1e-9))))
            batch = order[done : done + size]
            batches.append(margins(W, n_jobs, classes=batch))
            classes.append(batch)
            distances = np.concatenate([distances, batches[-1].margins])
            done, fresh = done + len(batch), fresh + len(batch)
            size = min(2 * size, 2 * TILE)
            bar.step(len(batch))
    solved, every = _together(batches), np.concatenate(classes)
    ranks = np.argsort(solved.margins, kind="stable")
    lower = bounds.copy()
    lower[every] = np.maximum(bounds[every], solved.margins - solved.gaps)
    floor = float(bounds[order[done]]) if done < K else np.inf
    return NearestClasses(every[ranks], _rows(solved, ranks), lower, floor)


def _together(batches: list[Margins]) -> Margins:
    """The classes of all batches, in order."""
    values, gaps, H = (np.concatenate([getattr(one, name) for one in batches]) for name in ("margins", "gaps", "H"))
    return Margins(values, gaps, H, vstack([one.weights for one in batches], format="csr"))


def _rows(solved: Margins, chosen: np.ndarray) -> Margins:
    """Some of the classes, in another order."""
    return Margins(solved.margins[chosen], solved.gaps[chosen], solved.H[chosen], solved.weights[chosen])
