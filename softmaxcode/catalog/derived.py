"""Codes derived from others: points left out, and a point in the deepest hole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linprog, nnls

from softmaxcode.exact.subcodes import LEVEL
from softmaxcode.margins.exact import margins, smallest_margin
from softmaxcode.sphere import gram, random_rows

if TYPE_CHECKING:
    from softmaxcode.types import Rows

#: From a code of more vectors or more cosines' work the first rows are taken.
MAX_CHOSEN = 5000
MAX_WORK = 10**9
#: A vector that another class's direction must separate counts as tight within this.
TIGHT = 1e-9
#: Starts of the search for a hole, and its continuation steps in beta.
HOLE_STARTS = 64
HOLE_BETAS = (8.0, 32.0, 128.0, 512.0, 2048.0)
HOLE_STEPS = 60
LP_STEPS = 12
#: The most coordinates of a code whose holes are searched for.
MAX_HOLE_COORDINATES = 10**6


def kept_rows(W: Rows, K: int, objective: str) -> np.ndarray:
    """K row indices, ascending, of a code whose value is that of the whole.

    Leaving points out never lowers a value. Here it does not raise it either, so that values of neighbouring pairs are
    comparable: the rows that determine the value stay. These are a closest pair, or for the margin a class and the
    vectors whose hull is nearest to it. Of the others, those with the most contacts are left out first.
    """
    n, d = W.shape
    if n == K:
        return np.arange(K)
    if n > MAX_CHOSEN or n * n * d > MAX_WORK:
        return np.arange(K)
    G = gram(W)
    contacts = G > G.max() - LEVEL
    kept = np.ones(n, dtype=bool)
    protected = np.zeros(n, dtype=bool)
    protected[_witnesses(W, G, objective, K)] = True
    degree = contacts.sum(axis=1).astype(float)
    for _ in range(n - K):
        v = int(np.argmax(np.where(kept & ~protected, degree, -np.inf)))
        kept[v] = False
        degree -= contacts[v]
    return np.flatnonzero(kept)


def _witnesses(W: Rows, G: np.ndarray, objective: str, most: int) -> np.ndarray:
    """Rows that determine the value of a code, as indices; a closest pair if the others are too many."""
    pair = np.array(np.unravel_index(int(np.argmax(G)), G.shape))
    if objective == "tammes":
        return pair
    k = smallest_margin(W).attained_by
    found = margins(W, classes=np.array([k]))
    differences = W[k] - W
    tight = np.flatnonzero((differences @ found.H[0] <= found.margins[0] + TIGHT) & (np.arange(len(W)) != k))
    chosen = np.concatenate([[k], tight[_support(differences[tight], found.margins[0] * found.H[0])]])
    return chosen if len(chosen) <= most else pair


def _support(V: Rows, point: np.ndarray) -> np.ndarray:
    """Indices of at most d + 1 rows of V with the given point in their hull: a basic solution for the weights."""
    weights, _ = nnls(np.vstack([V.T, np.ones(len(V))]), np.append(point, 1.0))
    return np.flatnonzero(weights > 1e-12)


def with_hole_filled(W: Rows) -> Rows | None:
    """The code and one more point, as far from all others as was found; None for a code that is too large.

    The point minimises the largest cosine with the code. From fixed random starts, gradient steps minimise a smooth
    maximum while beta increases; linear programmes then move the best to the vertex of its cell.
    """
    if W.size > MAX_HOLE_COORDINATES:
        return None
    X = np.vstack([random_rows(HOLE_STARTS, W.shape[1], np.random.default_rng(0)), -W[: HOLE_STARTS // 2]])
    for beta in HOLE_BETAS:
        for _ in range(HOLE_STEPS):
            C = X @ W.T
            P = np.exp(beta * (C - C.max(axis=1, keepdims=True)))
            P /= P.sum(axis=1, keepdims=True)
            X = X - (2.0 / beta) * (P @ W)
            X /= np.linalg.norm(X, axis=1, keepdims=True)
    x = X[int(np.argmin((X @ W.T).max(axis=1)))]
    return np.vstack([W, _at_vertex(W, x)])


def _at_vertex(W: Rows, x: np.ndarray) -> np.ndarray:
    """Improve the largest cosine of x with the code by steps of a linear programme in a shrinking box."""
    d, radius = len(x), 0.05
    best = float((W @ x).max())
    for _ in range(LP_STEPS):
        near = W[W @ x > best - 4 * radius]
        found = linprog(
            np.append(np.zeros(d), 1.0),
            A_ub=np.column_stack([near, -np.ones(len(near))]),
            b_ub=-near @ x,
            A_eq=np.append(x, 0.0)[None],
            b_eq=[0.0],
            bounds=[*[(-radius, radius)] * d, (None, None)],
        )
        if found.x is None:
            break
        y = x + found.x[:d]
        y /= np.linalg.norm(y)
        value = float((W @ y).max())
        if value < best:
            x, best = y, value
        radius /= 4
    return x
