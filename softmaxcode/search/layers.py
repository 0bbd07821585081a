"""Starts made of layers: codes of one dimension less at random heights along an axis, or of two orthogonal spaces."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from softmaxcode.checks.arguments import check_integer
from softmaxcode.search.energy import TAMMES, descend
from softmaxcode.sphere import random_rows

if TYPE_CHECKING:
    from softmaxcode.types import Rows

#: The beta schedule of a layer, sufficient for a start.
_SCHEDULE = (10.0, 100.0, 3.0, 100, 1e-3)


def layer(K: int, d: int, rng: np.random.Generator) -> Rows:
    """K well separated points of the unit sphere of R^d, by a short descent from random ones; shape (K, d)."""
    X = random_rows(K, d, rng)
    if K > 1 and d > 1:
        descend(TAMMES, X, *_SCHEDULE)
    return X


def layer_sizes(K: int, weights: np.ndarray) -> np.ndarray:
    """Integers that sum to K and are nearest to proportional to ``weights``, by largest remainders.

    Examples
    --------
    >>> import numpy as np
    >>> layer_sizes(10, np.array([1.0, 2.0, 1.0])).tolist()
    [3, 5, 2]
    """
    exact = K * weights / weights.sum()
    sizes = np.floor(exact).astype(int)
    late = np.argsort(-(exact - sizes), kind="stable")[: K - int(sizes.sum())]
    sizes[late] += 1
    return sizes


def stacked_layers(K: int, d: int, rng: np.random.Generator) -> Rows:
    """Layers at random heights t along the first axis, of sizes in proportion to their room (1 - t^2)^((d-2)/2).

    A sphere of radius r in R^(d-1) has room for points at a given distance in proportion to r^(d-2). Two poles are
    layers of one point.
    """
    count = int(rng.integers(2, 6))
    heights = np.sort(rng.uniform(-0.95, 0.95, size=count))
    poles = np.array([1.0, -1.0])[: rng.integers(3)]
    poles = poles[: max(0, K - count)]
    sizes = layer_sizes(K - len(poles), (1 - heights**2) ** ((d - 2) / 2) * rng.uniform(0.5, 1.5, size=count))
    rows = [np.eye(1, d) * pole for pole in poles]
    for t, size in zip(heights, sizes, strict=True):
        if size:
            flat = layer(int(size), d - 1, rng)
            rows.append(np.hstack([np.full((size, 1), t), np.sqrt(1 - t * t) * flat]))
    return np.vstack(rows)


def product_layers(K: int, d: int, rng: np.random.Generator) -> Rows:
    """Points (cos(t) a, sin(t) b) of R^p x R^(d-p), a and b from two codes, at t = 0, pi/2 and a random angle.

    The middle layer pairs the points of both codes at random.
    """
    p = int(rng.integers(1, d))
    first, middle, last = layer_sizes(K, rng.uniform(0.1, 1.0, size=3) * np.array([p, d, d - p]))
    t = rng.uniform(0.2, 0.8) * np.pi / 2
    a, b = layer(middle, p, rng), layer(middle, d - p, rng)
    return np.vstack(
        [
            np.hstack([layer(first, p, rng), np.zeros((first, d - p))]),
            np.hstack([np.cos(t) * a, np.sin(t) * rng.permutation(b)]),
            np.hstack([np.zeros((last, p)), layer(last, d - p, rng)]),
        ]
    )


def layered_start(K: int, d: int, rng: np.random.Generator) -> Rows:
    """A start in layers: with probability 2/3 along an axis, else in two orthogonal spaces and between them.

    Parameters
    ----------
    K : int
        Number of points, at least 2.
    d : int
        Dimension, at least 2.
    rng : Generator
        The sizes, heights and codes of the layers depend on it.

    Returns
    -------
    ndarray, shape (K, d)
        Unit rows.

    Raises
    ------
    ValueError
        If K or d is not an integer of at least 2.

    References
    ----------
    Conway and Sloane, *Sphere Packings, Lattices and Groups* (1988), on laminated lattices.

    Examples
    --------
    >>> import numpy as np
    >>> layered_start(30, 4, np.random.default_rng(0)).shape
    (30, 4)
    """
    K, d = check_integer("K", K, 2), check_integer("d", d, 2)
    return (stacked_layers if rng.random() < 2 / 3 else product_layers)(K, d, rng)
