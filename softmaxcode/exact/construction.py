"""The record of a construction in closed form, and correct rounding of its coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import flint
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

    from softmaxcode.types import Rows


@dataclass(frozen=True, eq=False)
class Construction:
    """A code in closed form, described but not built.

    Attributes
    ----------
    name : str
        Its key, unique and permanent, since catalogues store it.
    K, d : int
        Number of vectors and dimension.
    max_cosine : float
        The largest cosine of two vectors, rounded to nearest; if only a bound is known, that bound.
    formula : str
        The exact value as text.
    source : str
        The source of the construction.
    build : callable
        Returns the (K, d) unit rows, every coordinate the float64 nearest to the exact number.
    rows : callable, optional
        Returns the rows of given indices, equal to build()[indices], without building the rest.
    """

    name: str
    K: int
    d: int
    max_cosine: float
    formula: str
    source: str
    build: Callable[[], Rows]
    rows: Callable[[np.ndarray], Rows] | None = None


def rounded_quotients(p: ArrayLike, q: ArrayLike) -> np.ndarray:
    """The float64 nearest to p / sqrt(q), elementwise for integers p and q > 0 (broadcast).

    It is the integer square root of p^2 / q scaled to 64 bits with a sticky bit, rounded once.

    Examples
    --------
    >>> rounded_quotients([1, -3], [2, 9]).tolist()
    [0.7071067811865476, -1.0]
    """
    p, q = np.broadcast_arrays(np.asarray(p, dtype=object), np.asarray(q, dtype=object))
    known: dict[tuple[int, int], float] = {}
    out = np.empty(p.shape)
    for at, pair in enumerate(zip(p.ravel().tolist(), q.ravel().tolist(), strict=True)):
        if pair not in known:
            known[pair] = _rounded_quotient(*pair)
        out.flat[at] = known[pair]
    return out


def _rounded_quotient(p: int, q: int) -> float:
    if p == 0:
        return 0.0
    # the root of p^2 4^shift / q has at least 66 bits, so a sticky last bit decides every rounding
    shift = max(0, 68 + (q.bit_length() + 1) // 2 - abs(p).bit_length())
    scaled, remainder = divmod(p * p << (2 * shift), q)
    root = int(flint.fmpz(scaled).isqrt())
    sticky = int(remainder != 0 or root * root != scaled)
    # int / int is correctly rounded in Python
    return float(np.copysign((2 * root + sticky) / (1 << (shift + 1)), p))


def orthonormal_coordinates(X: ArrayLike) -> Rows:
    """Unit rows in an orthonormal basis of the span of integer rows of equal norm.

    The basis is the Gram-Schmidt basis of the first independent rows, orthogonal over the integers. A coordinate is
    <x, b> / (|x| |b|), rounded once.

    Parameters
    ----------
    X : array_like, shape (K, n)
        Integer rows, none zero; the coordinates have as many columns as X has rank.

    Examples
    --------
    >>> orthonormal_coordinates([[1, -1, 0], [0, 1, -1], [-1, 0, 1]]).round(3).tolist()
    [[1.0, 0.0], [-0.5, 0.866], [-0.5, -0.866]]
    """
    X = np.asarray(X, dtype=np.int64)
    basis: list[np.ndarray] = []
    left = X.astype(object)
    while True:
        rows = np.flatnonzero((left != 0).any(axis=1))
        if not len(rows):
            break
        b = left[rows[0]]
        b = b // int(np.gcd.reduce(b))
        basis.append(b)
        # the remainder of every row, scaled to stay an integer
        left = left * int(b @ b) - np.outer(left @ b, b)
        left = left // np.maximum(1, np.gcd.reduce(left, axis=1))[:, None]
    B = np.array(basis, dtype=object)
    norms = (X.astype(object) ** 2).sum(axis=1)[:, None] * (B**2).sum(axis=1)[None, :]
    return rounded_quotients(X.astype(object) @ B.T, norms)
