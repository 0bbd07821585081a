"""Random moves that take a code out of its local optimum: reinserted points, or a cap perturbed, turned or mirrored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from softmaxcode.sphere import random_rows, unit_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from softmaxcode.types import Rows

    Move = Callable[[Rows, float, np.random.Generator], Rows]

#: Exponents of ten between which the number of sampled holes is drawn. Few samples find shallow holes, many deep ones.
_SAMPLES = (1.0, 2.7)


def _nearest(W: Rows, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A random direction and the indices of the points nearest to it."""
    centre = random_rows(1, W.shape[1], rng)[0]
    return centre, np.argsort(-(W @ centre), kind="stable")[:count]


def _into_holes(W: Rows, out: np.ndarray, rng: np.random.Generator) -> Rows:
    """Put the points ``out`` one after the other into the deepest of some sampled holes."""
    K, d = W.shape
    W = W.copy()
    samples = int(10 ** rng.uniform(*_SAMPLES))
    kept = np.ones(K, dtype=bool)
    kept[out] = False
    for i in out:
        holes = random_rows(samples, d, rng)
        W[i] = holes[np.argmin((holes @ W[kept].T).max(axis=1))]
        kept[i] = True
    return W


def reinsert_points(W: Rows, spacing: float, rng: np.random.Generator) -> Rows:
    """Remove up to a twentieth of the points, at least up to two, and put each into a hole."""
    K = len(W)
    return _into_holes(W, rng.choice(K, int(rng.integers(1, max(2, K // 20) + 1)), replace=False), rng)


def reinsert_cluster(W: Rows, spacing: float, rng: np.random.Generator) -> Rows:
    """Remove neighbouring points, as many as `reinsert_points`, and put each into a hole."""
    _, out = _nearest(W, int(rng.integers(1, max(2, len(W) // 20) + 1)), rng)
    return _into_holes(W, out, rng)


def _noise(W: Rows, size: float, rng: np.random.Generator) -> Rows:
    return unit_rows(W + size / np.sqrt(W.shape[1]) * rng.standard_normal(W.shape))


def perturb_cap(W: Rows, spacing: float, rng: np.random.Generator) -> Rows:
    """Perturb three to a quarter of the points, those nearest to a random direction, by 0.1 to 2 spacings."""
    _, cap = _nearest(W, int(rng.integers(3, max(4, len(W) // 4 + 1))), rng)
    W = W.copy()
    W[cap] = _noise(W[cap], spacing * 10 ** rng.uniform(-1, 0.3), rng)
    return W


def perturb_all(W: Rows, spacing: float, rng: np.random.Generator) -> Rows:
    """Perturb every point by 0.03 to 1 spacings."""
    return _noise(W, spacing * 10 ** rng.uniform(-1.5, 0), rng)


def _cap_and_planes(W: Rows, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A cap of three to half of the points, and two random orthonormal vectors orthogonal to its centre."""
    centre, cap = _nearest(W, int(rng.integers(3, max(4, len(W) // 2 + 1))), rng)
    basis = np.linalg.qr(np.column_stack([centre, rng.standard_normal((W.shape[1], 2))]))[0]
    return cap, basis[:, 1:]


def rotate_cap(W: Rows, spacing: float, rng: np.random.Generator) -> Rows:
    """Rotate a cap of up to half of the points by a random angle in a plane orthogonal to its centre."""
    cap, plane = _cap_and_planes(W, rng)
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) - np.eye(2)
    W = W.copy()
    W[cap] += W[cap] @ plane @ turn @ plane.T
    return unit_rows(W)


def reflect_cap(W: Rows, spacing: float, rng: np.random.Generator) -> Rows:
    """Reflect a cap of up to half of the points in a hyperplane through its centre."""
    cap, plane = _cap_and_planes(W, rng)
    W = W.copy()
    W[cap] -= 2 * np.outer(W[cap] @ plane[:, 0], plane[:, 0])
    return unit_rows(W)


#: The moves and their probabilities.
MOVES: tuple[Move, ...] = (reinsert_points, reinsert_cluster, perturb_cap, perturb_all, rotate_cap, reflect_cap)
PROBABILITIES = (0.25, 0.10, 0.15, 0.15, 0.15, 0.20)


def random_move(W: Rows, spacing: float, rng: np.random.Generator) -> Rows:
    """One of `MOVES`, drawn by `PROBABILITIES`.

    Parameters
    ----------
    W : ndarray, shape (K, d)
        Unit rows, d >= 3; they are not changed.
    spacing : float
        The smallest distance of two points of a good code.
    rng : Generator
        Decides the move.

    Returns
    -------
    ndarray, shape (K, d)
        Unit rows.

    Examples
    --------
    >>> import numpy as np
    >>> random_move(np.vstack([np.eye(3), -np.eye(3)]), 1.4, np.random.default_rng(0)).shape
    (6, 3)
    """
    return MOVES[rng.choice(len(MOVES), p=PROBABILITIES)](W, spacing, rng)
