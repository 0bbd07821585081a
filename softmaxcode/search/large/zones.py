"""Points in zones of equal height, and these in zones again down to circles: a start for very many points.

Neighbouring zones are as far apart as neighbours in a zone, as in a cubic lattice. In few dimensions this is much
better than random points, and building it takes about as long as writing it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from softmaxcode.checks.arguments import check_integer

if TYPE_CHECKING:
    from softmaxcode.types import Rows

#: Halvings of the interval of distances.
_HALVINGS = 40


def zones(K: int, d: int, rng: np.random.Generator) -> tuple[Rows, float]:
    """K points of the unit sphere of R^d in zones.

    The distance of neighbours is the largest (by bisection) that leaves room for K points. Of more than K points some
    are dropped at random.

    Parameters
    ----------
    K : int
        Number of points, at least 2.
    d : int
        Dimension, at least 2.
    rng : Generator
        Chooses the points that are dropped.

    Returns
    -------
    W : ndarray, shape (K, d)
        Unit rows.
    value : float
        A lower bound on 1 - mu, up to rounding.

    Raises
    ------
    ValueError
        If K or d is not an integer of at least 2.

    Examples
    --------
    >>> import numpy as np
    >>> W, value = zones(1000, 3, np.random.default_rng(0))
    >>> C = W @ W.T - 2 * np.eye(1000)
    >>> W.shape, round(value, 5), bool(1 - C.max() >= value - 1e-15)
    ((1000, 3), 0.00605, True)
    """
    K, d = check_integer("K", K, 2), check_integer("d", d, 2)
    low = high = 1.0  # half chords
    while _size(low, d) < K:  # in small steps: half the distance leaves room for 2^(d - 1) times as many points
        low, high = 2 ** (-1 / (d - 1)) * low, low
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        if _size(middle, d) >= K:
            low = middle
        else:
            high = middle
    W = _build(low, d)
    kept = np.sort(rng.choice(len(W), K, replace=False))
    return W[kept], 2 * low * low


def _split(half: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The zones of spheres: the index of each one's sphere, its angle to the axis, and the half chord in it.

    Half chords are those of a unit sphere; above 1 there is room for one point.
    """
    angles = 2 * np.arcsin(np.minimum(half, 1.0))
    counts = np.maximum(1, np.floor(np.pi / angles + 1e-12)).astype(np.int64)
    sphere = np.repeat(np.arange(len(half)), counts)
    number = np.arange(len(sphere)) - np.repeat(np.cumsum(counts) - counts, counts)
    theta = np.pi * (number + 0.5) / counts[sphere]
    return sphere, theta, half[sphere] / np.sin(theta)


def _on_circles(half: np.ndarray) -> np.ndarray:
    """How many points fit on each circle."""
    angles = 2 * np.arcsin(np.minimum(half, 1.0))
    return np.where(half > 1, 1, np.maximum(1, np.floor(2 * np.pi / angles + 1e-12))).astype(np.int64)


def _size(half: float, d: int) -> int:
    halves = np.array([half])
    for _ in range(d - 2):
        halves = _split(halves)[2]
    return int(_on_circles(halves).sum())


def _build(half: float, d: int) -> Rows:
    """Rows of all points; coordinates are filled from the first axis on."""
    halves, radius, heights = np.array([half]), np.ones(1), np.empty((1, 0))
    for _ in range(d - 2):
        sphere, theta, halves = _split(halves)
        heights = np.column_stack([heights[sphere], radius[sphere] * np.cos(theta)])
        radius = radius[sphere] * np.sin(theta)
    counts = _on_circles(halves)
    circle = np.repeat(np.arange(len(counts)), counts)
    number = np.arange(len(circle)) - np.repeat(np.cumsum(counts) - counts, counts)
    # the golden ratio turns neighbouring circles against each other
    turn = 2 * math.pi * (number / counts[circle] + circle * 0.6180339887498949)
    W = np.column_stack([heights[circle], radius[circle] * np.cos(turn), radius[circle] * np.sin(turn)])
    return W / np.linalg.norm(W, axis=1, keepdims=True)
