"""The extended binary Golay code and the Steiner systems of its octads."""

from __future__ import annotations

from functools import lru_cache

import numpy as np


@lru_cache(maxsize=1)
def golay_codewords() -> np.ndarray:
    """The 4096 codewords of the extended binary Golay code, shape (4096, 24), int8 entries 0 and 1.

    It is the extended quadratic residue code of length 24. The set of non-zero squares modulo 23 has 23 cyclic shifts.
    With the point at infinity (the last coordinate) added to each, they span the code. The array is read-only.

    References
    ----------
    Conway and Sloane, "Sphere Packings, Lattices and Groups" (1988), chapter 3.

    Examples
    --------
    >>> np.bincount(golay_codewords().sum(axis=1))[[0, 8, 12, 16, 24]].tolist()
    [1, 759, 2576, 759, 1]
    """
    squares = sorted({x * x % 23 for x in range(1, 23)})
    codewords = np.zeros((1, 24), dtype=np.int8)
    for shift in range(12):
        row = np.zeros(24, dtype=np.int8)
        row[[(s + shift) % 23 for s in squares]] = 1
        row[23] = 1
        codewords = np.vstack([codewords, codewords ^ row])
    codewords.setflags(write=False)
    return codewords


def octads() -> np.ndarray:
    """The 759 octads, blocks of the Steiner system S(5, 8, 24), as 0/1 rows, shape (759, 24).

    Examples
    --------
    >>> octads().sum(axis=0)[:3].tolist()
    [253, 253, 253]
    """
    codewords = golay_codewords()
    return codewords[codewords.sum(axis=1) == 8]


def derived_octads(points: int) -> np.ndarray:
    """The octads through the last ``points`` coordinates, with these deleted, shape (B, 24 - points).

    For 0, 1 and 2 points they are the blocks of S(5, 8, 24), S(4, 7, 23) and S(3, 6, 22). For 3 points they are those
    of the projective plane of order 4, S(2, 5, 21).

    Examples
    --------
    >>> [len(derived_octads(points)) for points in range(4)]
    [759, 253, 77, 21]
    """
    blocks = octads()
    through = blocks[:, 24 - points :].all(axis=1)
    return blocks[through, : 24 - points]
