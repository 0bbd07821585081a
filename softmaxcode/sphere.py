"""Points on the unit sphere: validation of rows, tangent projection, cosines and angles."""

from __future__ import annotations

import threading
from collections.abc import Sized
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from softmaxcode.checks.arguments import check_flag, check_memory
from softmaxcode.parallel.progress import Progress
from softmaxcode.parallel.thread_pool import ThreadPool
from softmaxcode.parallel.threads import one_blas_thread
from softmaxcode.parallel.tiles import TILE_ROWS, long_pass

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

    from softmaxcode.types import PerClass, Rows, Square

#: Rows of a classifier may differ from unit norm by this much; beyond it `check_rows` requires ``normalize=True``.
UNIT_NORM_TOLERANCE = 1e-6
#: Rows nearer to unit norm than this count as unit, and `check_rows` leaves their bits unchanged.
ROUNDING = 4e-15
#: Rows and columns of a tile of cosines, which fits in the cache of a core.
PAIR_TILE = 512

State = TypeVar("State")


def as_array(X: Any, name: str) -> np.ndarray:
    """An array_like or a PyTorch tensor as an array.

    Raises
    ------
    ValueError
        If it is a tensor without plain numbers (see `softmaxcode.checks.tensors.to_numpy`).
    """
    if hasattr(X, "detach"):
        from softmaxcode.checks.tensors import to_numpy

        return to_numpy(X, name)
    return np.asarray(X)


def check_rows(W: ArrayLike, *, normalize: bool = False, name: str = "W") -> Rows:
    """Validate one array of unit vectors and return it as float64 rows of unit norm.

    Parameters
    ----------
    W : array_like or Tensor, shape (K, d)
        One vector per row, K >= 2 and d >= 1. A DTensor is gathered, so every process has to call this.
    normalize : bool
        Accept rows of any non-zero norm and scale them to norm 1. Without it, a row whose norm differs from 1 by more
        than 1e-6 is refused. Rows nearer than that, such as float32 classifiers, are scaled unless they are unit up to
        rounding.
    name : str
        The name of the array in an error message.

    Returns
    -------
    ndarray, shape (K, d), float64
        A C-contiguous array; the input itself where nothing had to change.

    Raises
    ------
    ValueError
        If the array is not (K, d), is not real, or has NaN, infinite or masked entries. Also if a row has zero norm,
        or (without ``normalize``) a norm further than 1e-6 from 1.
    """
    normalize = check_flag("normalize", normalize)
    if hasattr(W, "detach"):
        W = as_array(W, name)
    check_unmasked(W, name)
    try:
        raw = np.asarray(W)
        if raw.dtype.kind not in "fiub":
            raise TypeError
    except (TypeError, ValueError, OverflowError):
        kind = W.dtype.name if isinstance(W, np.ndarray) else type(W).__name__
        if isinstance(W, list | tuple) and len({len(row) for row in W if isinstance(row, Sized)}) > 1:
            kind = "rows that differ in length"
        raise ValueError(f"{name} must be an array of real numbers, one vector per row; got {kind}") from None
    if raw.ndim != 2 or raw.shape[0] < 2 or raw.shape[1] < 1:
        raise ValueError(f"{name} must have shape (K, d) with K >= 2 rows and d >= 1 columns; got shape {raw.shape}")
    check_memory(f"{name} of shape {raw.shape}", 24 * raw.size, "pass fewer rows")  # a view may declare any size
    array = np.ascontiguousarray(raw, dtype=np.float64)
    if not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
        raise ValueError(f"{name} must be finite; row {row} has a NaN or an infinite entry")
    largest = np.abs(array).max(axis=1)
    if (largest == 0).any():
        raise ValueError(f"{name} must have no row of zero norm; row {int(np.argmin(largest))} is zero")
    if normalize:
        return unit_rows(array)
    with np.errstate(over="ignore"):  # an infinite norm is reported like any other
        norms = np.linalg.norm(array, axis=1)
    off = np.abs(norms - 1)
    if off.max() > UNIT_NORM_TOLERANCE:
        row = int(np.argmax(off))
        hint = " (normalize=True, or --normalize in the shell, scales them)" if name == "W" else ""
        raise ValueError(
            f"{name} must have rows of unit norm within {UNIT_NORM_TOLERANCE:g}; row {row} has norm "
            f"{norms[row]:.9g}{hint}"
        )
    if off.max() > ROUNDING:
        array = np.where(off[:, None] > ROUNDING, unit_rows(array), array)
    return array


def check_unmasked(array: Any, name: str) -> None:
    """Raise a ValueError for a masked array with masked entries: they are to be ignored, yet NumPy stores values."""
    if np.ma.is_masked(array):
        raise ValueError(f"{name} must have no masked entries; got {int(np.ma.count_masked(array)):,} of them")


def unit_rows(W: Rows) -> Rows:
    """Scale every row to unit norm, safely for rows of very large or small norm."""
    scaled = W / np.abs(W).max(axis=-1, keepdims=True)
    return scaled / np.linalg.norm(scaled, axis=-1, keepdims=True)


def row_norms(X: Rows) -> PerClass:
    """The norms of rows of any size, shape (K,): no square overflows or underflows."""
    largest = np.abs(X).max(axis=1)
    scale = np.where(largest > 0, largest, 1.0)
    norms: PerClass = scale * np.linalg.norm(X / scale[:, None], axis=1)
    return norms


def random_rows(K: int, d: int, rng: np.random.Generator) -> Rows:
    """K independent points, uniform on the unit sphere of R^d, shape (K, d)."""
    return unit_rows(rng.standard_normal((K, d)))


def tangential(X: Rows, V: Rows) -> Rows:
    """Project each row of V on the tangent space of the sphere at the same (unit) row of X."""
    return V - np.sum(V * X, axis=-1, keepdims=True) * X


def gram(W: Rows) -> Square:
    """Cosines of all pairs, shape (K, K), with the diagonal set to -inf so that maxima range over other points."""
    G = W @ W.T
    np.fill_diagonal(G, -np.inf)
    return G


def largest_cosines(W: Rows) -> np.ndarray:
    """For each point its largest cosine with another point, shape (K,); never K x K numbers at once."""
    K, d = W.shape
    if K <= TILE_ROWS:
        return gram(W).max(axis=1)
    if d == 2:
        return _largest_on_a_circle(W)

    def fold(best: np.ndarray, rows: slice, columns: slice, C: np.ndarray) -> None:
        np.maximum(best[rows], C.max(axis=1), out=best[rows])
        np.maximum(best[columns], C.max(axis=0), out=best[columns])

    parts = fold_cosines(W, lambda: np.full(K, -np.inf), fold, "cosines of all pairs (sampled_margin takes a sample)")
    return np.max(parts, axis=0)


def fold_cosines(
    W: Rows,
    begin: Callable[[], State],
    fold: Callable[[State, slice, slice, np.ndarray], None],
    label: str = "cosines of all pairs",
) -> list[State]:
    """Fold the cosines of all pairs, tile by tile on every core.

    Parameters
    ----------
    W : ndarray, shape (K, d)
        Unit rows, already validated.
    begin : callable
        Makes the state of a thread.
    fold : callable
        Changes a state by a tile: its rows, its columns, and their cosines, -inf on the diagonal. Tiles are on or
        above the diagonal.
    label : str
        The label of the bar of a long pass.

    Returns
    -------
    list
        One state per thread.
    """
    K, d = W.shape
    stop = threading.Event()
    with Progress(label, K, show=long_pass(K * K * d)) as bar, one_blas_thread(), ThreadPool(-1) as pool:

        def work(part: int) -> State:
            state = begin()
            for first in range(part * PAIR_TILE, K, pool.size * PAIR_TILE):
                rows = slice(first, min(first + PAIR_TILE, K))
                for second in range(first, K, PAIR_TILE):
                    if stop.is_set():
                        return state
                    columns = slice(second, min(second + PAIR_TILE, K))
                    C = W[rows] @ W[columns].T
                    if first == second:
                        np.fill_diagonal(C, -np.inf)
                    fold(state, rows, columns, C)
                bar.step(rows.stop - rows.start)
            return state

        try:
            return list(pool.map(work, range(pool.size)))
        finally:
            stop.set()  # after Ctrl-C


def _largest_on_a_circle(W: Rows) -> np.ndarray:
    """`largest_cosines` in the plane: the nearest point of each is its neighbour in the order of angles."""
    order = np.argsort(np.arctan2(W[:, 1], W[:, 0]), kind="stable")
    ordered = W[order]
    after = np.einsum("kd,kd->k", ordered, np.roll(ordered, -1, axis=0))
    best = np.empty(len(W))
    best[order] = np.maximum(after, np.roll(after, 1))
    return best


def angle_degrees(cosine: float) -> float:
    """Angle in degrees of a cosine, clipped to [-1, 1]."""
    return float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))
