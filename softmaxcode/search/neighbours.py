"""Starts for one pair (K, d) from a good code of a neighbouring pair, with points added or removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linprog

from softmaxcode.checks.arguments import check_integer
from softmaxcode.sphere import gram, random_rows

if TYPE_CHECKING:
    from softmaxcode.types import Rows

#: Random directions tried for a hole, and how often the best of them is moved towards the bottom of its hole.
_SAMPLES = 500
_STEPS = 5
#: Cosines this near to each other count as equal.
_TIE = 1e-6


def deepest_hole(W: Rows, rng: np.random.Generator, samples: int = _SAMPLES) -> np.ndarray:
    """A unit vector far from all rows: the best of a random sample, moved to the bottom of its hole.

    Minus the mean of the rows is tried too. A step minimises the largest of <w_k, h> + <w_k, v> over small tangential v
    in a box, which is a linear programme. It is accepted if max_k <w_k, h> decreases.

    Parameters
    ----------
    W : ndarray, shape (K, d)
        Unit rows.
    rng : Generator
        The source of the sample.
    samples : int
        Number of random directions.

    Returns
    -------
    ndarray, shape (d,)

    Examples
    --------
    >>> import numpy as np
    >>> W = np.vstack([np.eye(3), -np.eye(3)])
    >>> hole = deepest_hole(W, np.random.default_rng(0))
    >>> bool(np.isclose((W @ hole).max(), 1 / np.sqrt(3)))
    True
    """
    d = W.shape[1]
    mean = W.mean(axis=0)
    tried = random_rows(samples, d, rng)
    if np.linalg.norm(mean) > 1e-9:
        tried = np.vstack([tried, -mean / np.linalg.norm(mean)])
    hole = tried[np.argmin((tried @ W.T).max(axis=1))]
    depth = float((W @ hole).max())
    reach = 0.3
    for _ in range(_STEPS):
        near = W[np.argsort(-(W @ hole))[: 4 * d]]
        n = len(near)
        found = linprog(
            np.append(np.zeros(d), 1.0),
            A_ub=np.hstack([near, -np.ones((n, 1))]),
            b_ub=-(near @ hole),
            A_eq=np.append(hole, 0.0)[None],
            b_eq=[0.0],
            bounds=[(-reach, reach)] * d + [(None, None)],
        )
        if found.x is None:  # the solver failed
            break
        moved = hole + found.x[:d]
        moved /= np.linalg.norm(moved)
        if (value := float((W @ moved).max())) < depth - 1e-12:
            hole, depth = moved, value
        else:
            reach /= 4
    return hole


def grow(W: Rows, count: int, rng: np.random.Generator) -> Rows:
    """Add ``count`` points one after the other, each in the deepest hole found.

    Parameters
    ----------
    W : ndarray, shape (K, d)
        Unit rows; they come first in the result, unchanged.
    count : int
        Points to add, at least 0.
    rng : Generator
        The source of the random directions.

    Returns
    -------
    ndarray, shape (K + count, d)

    Raises
    ------
    ValueError
        If ``count`` is not an integer of at least 0.

    Examples
    --------
    >>> import numpy as np
    >>> W = np.array([[1.0, 0.0], [-0.5, np.sqrt(3) / 2]])
    >>> grown = grow(W, 1, np.random.default_rng(0))
    >>> grown.shape, bool(np.allclose(grown @ grown.T - np.eye(3) * 1.5, -0.5))
    ((3, 2), True)
    """
    for _ in range(check_integer("count", count, 0)):
        W = np.vstack([W, deepest_hole(W, rng)])
    return W


def shrink(W: Rows, count: int, rng: np.random.Generator) -> Rows:
    """Remove ``count`` points one after the other, each time one at the smallest distance to another.

    Among the points that attain the largest cosine, those with most others at that cosine are removed first. Ties are
    broken at random.

    Parameters
    ----------
    W : ndarray, shape (K, d)
        Unit rows.
    count : int
        Points to remove, at least 0 and at most K - 2.
    rng : Generator
        Breaks the ties.

    Returns
    -------
    ndarray, shape (K - count, d)

    Raises
    ------
    ValueError
        If ``count`` is not an integer from 0 to K - 2.

    Examples
    --------
    >>> import numpy as np
    >>> W = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-1.0, 0.0]])
    >>> shrink(W, 1, np.random.default_rng(0)).tolist()
    [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]
    """
    if check_integer("count", count, 0) > len(W) - 2:
        raise ValueError(f"count must leave two points of {len(W)}; got {count}")
    for _ in range(count):
        G = gram(W)
        contacts = (G > G.max() - _TIE).sum(axis=1)
        # a point of one contact is as bad as its partner; the second nearest neighbour decides
        worst = np.flatnonzero(contacts == contacts.max())
        second = np.partition(G[worst], -2, axis=1)[:, -2] if len(W) > 2 else np.zeros(len(worst))
        worst = worst[second > second.max() - _TIE]
        W = np.delete(W, rng.choice(worst), axis=0)
    return W
