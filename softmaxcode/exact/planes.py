"""Sign vectors on the lines of a plane: any two lines meet in one point at most, so inner products are small.

Take sets of w of d points, two of which have at most one point in common, and sign vectors of length w whose inner
products are at most 1. Every sign vector on every set, divided by sqrt(w), gives a code in R^d with largest cosine 1/w.
The sets are the lines of a projective or an affine plane, or the triples of a Steiner system. Where points are removed,
the lines through them are left out.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import numpy as np

from softmaxcode.exact.construction import Construction, rounded_quotients
from softmaxcode.exact.finite_fields import prime_power
from softmaxcode.exact.hadamard import hadamard_matrix, has_hadamard, net_cells, steiner_triples

if TYPE_CHECKING:
    from collections.abc import Callable

    from softmaxcode.types import Rows

_SOURCE = "T. Ericson and V. Zinoviev, Codes on Euclidean Spheres (2001), on concatenation"
#: Base blocks of the cyclic Steiner triple system of 13 points.
_THIRTEEN = ((0, 1, 4), (0, 2, 7))


def sign_count(w: int) -> int:
    """The number of `sign_vectors` of length w, 0 where none are built.

    Examples
    --------
    >>> [sign_count(w) for w in range(3, 10)]
    [8, 8, 16, 0, 16, 16, 16]
    """
    if w == 5:
        return 16
    order = _hadamard_order(w)
    return 2 * order if w > 2 and has_hadamard(order) else 0


def _hadamard_order(w: int) -> int:
    """The order of the Hadamard matrix that sign vectors of length w are made of, 0 where there is none."""
    return {0: w, 1: w - 1, 3: w + 1}.get(w % 4, 0)


def sign_vectors(w: int) -> np.ndarray:
    """Sign vectors of length w with inner products at most 1, shape (`sign_count`, w).

    They are a Hadamard matrix and its negative: with one column less for w = 3 modulo 4, and with a column of ones
    beside both for w = 1 modulo 4. For w = 5 all vectors with an even number of -1 are more.
    """
    if w == 5:
        every = 1 - 2 * (np.arange(32)[:, None] >> np.arange(5) & 1)
        return every[every.prod(axis=1) == 1]
    H = hadamard_matrix(_hadamard_order(w))
    signs = np.vstack([H, -H])
    if w % 4 == 3:
        return signs[:, 1:]
    return signs if w % 4 == 0 else np.hstack([signs, np.ones((len(signs), 1), dtype=np.int64)])


def _projective(q: int, removed: int) -> np.ndarray:
    """Lines of the projective plane that miss ``removed`` points at infinity, in q^2 + q + 1 - removed points."""
    classes = net_cells(q)[: q + 1 - removed]
    ends = np.broadcast_to(q * q + np.arange(len(classes))[:, None, None], (len(classes), q, 1))
    lines = np.concatenate([classes, ends], axis=2).reshape(-1, q + 1)
    return lines if removed else np.vstack([lines, q * q + np.arange(q + 1)])


def _without(blocks: np.ndarray, removed: int) -> np.ndarray:
    """The blocks that miss the first ``removed`` points of the first one, with the other points numbered again."""
    gone = blocks[0, :removed]
    left = blocks[~np.isin(blocks, gone).any(axis=1)]
    return left - (left[..., None] > gone).sum(axis=-1)


def _affine(q: int, removed: int) -> np.ndarray:
    return _without(net_cells(q).reshape(-1, q), removed)


def _thirteen(removed: int) -> np.ndarray:
    shifts = [[(p + shift) % 13 for p in block] for block in _THIRTEEN for shift in range(13)]
    return _without(np.array(shifts), removed)


def _fifteen(removed: int) -> np.ndarray:
    return _without(steiner_triples(15), removed)


def _rows(blocks: Callable[[], np.ndarray], d: int, indices: np.ndarray) -> Rows:
    lines = blocks()
    signs = sign_vectors(lines.shape[1])
    line, sign = np.divmod(indices, len(signs))
    W = np.zeros((len(indices), d))
    W[np.arange(len(indices))[:, None], lines[line]] = signs[sign] * rounded_quotients(1, lines.shape[1])
    return W


def _construction(name: str, removed: int, d: int, count: int, w: int, lines: Callable[[], np.ndarray]) -> Construction:
    K = count * sign_count(w)
    rows = functools.partial(_rows, lines, d)
    name += f" shortened {removed}" if removed else ""
    return Construction(name, K, d, 1 / w, f"1/{w}", _SOURCE, lambda: rows(np.arange(K)), rows)


def constructions(d: int) -> list[Construction]:
    """The codes on planes and triple systems in dimension exactly d, where at least two lines meet.

    References
    ----------
    T. Ericson and V. Zinoviev, "Codes on Euclidean Spheres" (2001).

    Examples
    --------
    >>> [(c.name, c.K, c.formula) for d in (9, 57) for c in constructions(d)]
    [('affine-plane(3)', 96, '1/3'), ('projective-plane(7)', 912, '1/8')]
    """
    found = []
    for q in range(max(2, math.isqrt(max(0, d - 1)) - 1), math.isqrt(d + 1) + 3):
        if not prime_power(q):
            continue
        s = q * q + q + 1 - d
        if 0 <= s <= q - 1 and sign_count(q + 1):
            lines = q * (q + 1 - s) + (s == 0)
            found.append(
                _construction(f"projective-plane({q})", s, d, lines, q + 1, functools.partial(_projective, q, s))
            )
        s = q * q - d
        if 0 <= s <= q - 2 and sign_count(q):
            lines = q * q + q - (s and 1 + s * q)
            found.append(_construction(f"affine-plane({q})", s, d, lines, q, functools.partial(_affine, q, s)))
    for v, count, each, build in ((13, 26, 5, _thirteen), (15, 35, 6, _fifteen)):
        s = v - d
        if 0 <= s <= 2:
            lines = count - (s and 1 + s * each)
            found.append(_construction(f"triple-system({v})", s, d, lines, 3, functools.partial(build, s)))
    return found
