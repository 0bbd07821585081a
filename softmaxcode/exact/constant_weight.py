"""Kissing configurations of construction A: blocks of four points with all signs, and the axes.

Take words of length n and weight 4 of which no two have more than two 1s in common, A(n, 4, 4) at most. The vectors are
(+-1, +-1, +-1, +-1) on each word, and +-2 on each axis. They have squared norm 4 and inner products at most 2, so the
largest cosine is 1/2. There are 2n + 16 A(n, 4, 4) of them: 306, 500, 582, 840, 1066 and 1484 for n = 9, ..., 14. The
first four are the kissing configurations of the packings P9a, P10b, P11a and P12a of Conway and Sloane.
"""

from __future__ import annotations

import functools
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from softmaxcode.exact.construction import Construction, rounded_quotients

if TYPE_CHECKING:
    from softmaxcode.types import Rows

#: Blocks as four hexadecimal digits. The first are the Steiner quadruple systems of 10 and 14 points, by their orbits
#: under the cycles of their points by 10, and by 7 and 7.
_TEN = "0126 0134 0247"
_FOURTEEN = "0124 015d 017c 0189 01ab 027d 029b 02ac 037b 039c 03ad 08cd 789c"
#: 35 blocks on 11 points and 51 on 12.
_ELEVEN = (
    "0124 0135 0168 019a 0239 026a 0278 0367 038a 0456 0479 057a 0589 123a 1258 1267 1347 1369 1459 148a "
    "156a 1789 2346 2357 247a 259a 2689 345a 3489 3568 379a 4578 469a 5679 678a"
)
_TWELVE = (
    "0145 0167 018b 019a 0234 026b 027a 0289 036a 0378 039b 0468 0479 04ab 0569 057b 058a 1235 1269 127b "
    "128a 136b 137a 1389 146a 1478 149b 1568 1579 15ab 2368 2379 23ab 2467 248b 249a 256a 2578 259b 3469 "
    "347b 348a 3567 358b 359a 456b 457a 4589 6789 68ab 79ab"
)
_SOURCE = (
    "J. H. Conway and N. J. A. Sloane, Sphere Packings, Lattices and Groups (1988), chapter 5; "
    "A. E. Brouwer, J. B. Shearer, N. J. A. Sloane and W. D. Smith, A new table of constant weight codes (1990)"
)
_BLOCKS = {9: 18, 10: 30, 11: 35, 12: 51, 13: 65, 14: 91}


def blocks(n: int) -> list[tuple[int, ...]]:
    """Sets of four of n points, 9 <= n <= 14, of which no two have three points in common; sorted.

    For n = 9 and 13 they are the blocks of the Steiner quadruple system on n + 1 points that omit the last.

    Examples
    --------
    >>> [len(blocks(n)) for n in range(9, 15)]
    [18, 30, 35, 51, 65, 91]
    """
    if n in (9, 13):
        return [block for block in blocks(n + 1) if n not in block]
    text, cycle = {10: (_TEN, 10), 11: (_ELEVEN, 1), 12: (_TWELVE, 1), 14: (_FOURTEEN, 7)}[n]
    found = set()
    for word in text.split():
        points = [int(digit, 16) for digit in word]
        for shift in range(cycle):
            found.add(tuple(sorted((p + shift) % cycle + p // cycle * cycle for p in points)))
    return sorted(found)


def integer_rows(n: int) -> np.ndarray:
    """The vectors of squared norm 4, shape (2n + 16 A, n): the axes, then the blocks."""
    axes = 2 * np.eye(n, dtype=np.int64)
    signs = np.array(list(product((1, -1), repeat=4)))
    rows = np.zeros((len(blocks(n)), 16, n), dtype=np.int64)
    for row, block in zip(rows, blocks(n), strict=True):
        row[:, block] = signs
    return np.vstack([axes, -axes, rows.reshape(-1, n)])


def _build(n: int) -> Rows:
    return rounded_quotients(integer_rows(n), 4)


def constructions(d: int) -> list[Construction]:
    """The configuration in dimension exactly d, if there is one.

    References
    ----------
    J. H. Conway and N. J. A. Sloane, "Sphere Packings, Lattices and Groups" (1988), chapter 5.

    Examples
    --------
    >>> [(c.name, c.K, c.formula) for d in (9, 10) for c in constructions(d)]
    [('kissing-A(9)', 306, '1/2'), ('kissing-A(10)', 500, '1/2')]
    """
    if d not in _BLOCKS:
        return []
    build = functools.partial(_build, d)
    return [Construction(f"kissing-A({d})", 2 * d + 16 * _BLOCKS[d], d, 0.5, "1/2", _SOURCE, build)]
