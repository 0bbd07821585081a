"""The minimal vectors of the Leech lattice, codes in their layers, and laminated lattices in 15 to 23 dimensions."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache, partial
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from softmaxcode.exact.construction import Construction, rounded_quotients
from softmaxcode.exact.golay import golay_codewords, octads
from softmaxcode.exact.root_systems import Layer

if TYPE_CHECKING:
    from softmaxcode.types import Rows

#: Squared norm of the minimal vectors in the integer coordinates used here, sqrt(8) times the usual ones.
SQUARED_NORM = 32


@lru_cache(maxsize=1)
def minimal_vectors() -> np.ndarray:
    """The 196560 minimal vectors of the Leech lattice times sqrt(8), of squared norm 32, shape (196560, 24), int8.

    They are of three kinds.

    1. The 1104 vectors (+-4, +-4, 0, ..., 0).
    2. For each octad the 128 vectors with entries +-2 on it, an even number of them negative.
    3. For each codeword of the Golay code, 24 vectors that arise from (-3, 1, ..., 1), the -3 in any place. Their signs
       are changed on the codeword.

    Inner products of minimal vectors are multiples of 8. The array is read-only.

    References
    ----------
    Conway and Sloane, "Sphere Packings, Lattices and Groups" (1988), chapter 4, section 11.

    Examples
    --------
    >>> X = minimal_vectors()
    >>> np.unique(X.astype(int) @ X[0], return_counts=True)[1].tolist()
    [1, 4600, 47104, 93150, 47104, 4600, 1]
    """
    pairs = np.zeros((24 * 23 // 2, 4, 24), dtype=np.int8)
    for row, places in zip(pairs, np.argwhere(np.triu(np.ones((24, 24)), 1)), strict=True):
        row[:, places] = list(product((4, -4), repeat=2))
    even = [signs for signs in product((2, -2), repeat=8) if signs.count(-2) % 2 == 0]
    blocks = octads()
    eights = np.zeros((len(blocks), len(even), 24), dtype=np.int8)
    for row, block in zip(eights, blocks, strict=True):
        row[:, block == 1] = even
    threes = (1 - 2 * golay_codewords())[:, None, :] * (1 - 4 * np.eye(24, dtype=np.int8))
    vectors = np.vstack([part.reshape(-1, 24) for part in (pairs, eights, threes)])
    vectors.setflags(write=False)
    return vectors


def _fan(i: int) -> list[int]:
    """The minimal vector (1, ..., -3, ..., 1), -3 in place i; two of these have inner product 16, cosine 1/2."""
    return [1 - 4 * int(j == i) for j in range(24)]


def _sparse(**entries: int) -> list[int]:
    """The vector with the given entries, such as ``_sparse(e0=4, e1=4)``, and 0 elsewhere."""
    return [entries.get(f"e{j}", 0) for j in range(24)]


def _octad(within: tuple[int, int], without: int) -> list[int]:
    """The minimal vector with entries 2 on the first octad through two points that misses a third."""
    blocks = octads()
    chosen = blocks[blocks[:, within].all(axis=1) & (blocks[:, without] == 0)]
    return (2 * chosen[0].astype(int)).tolist()


_SPLAG = 'Conway and Sloane, "Sphere Packings, Lattices and Groups" (1988), chapters 4, 6 and 14'
_SHARP = 'Cohn and Kumar, "Universally optimal distribution of points on spheres" (2007), table 1'
_GRAPHS = 'Brouwer and Van Maldeghem, "Strongly Regular Graphs" (2022)'
_CONWAY = 'Conway, "A characterisation of Leech\'s lattice" (1969), for the lattice; a layer of its minimal vectors'


#: Name, K, d, largest cosine as a fraction, fixed vectors, their inner products with the layer over 8, and the source.
_Row = tuple[str, int, int, tuple[int, int], list[list[int]], tuple[int, ...], str]


@lru_cache(maxsize=1)
def _layers() -> tuple[Layer, ...]:
    # inner products of lattice vectors are multiples of 8 in these coordinates
    return tuple(
        Layer(name, K, d, Fraction(*cosine), fixed, [8 * p for p in products], source)
        for name, K, d, cosine, fixed, products, source in (*_neighbour_rows(), *_triangle_rows(), *_sign_rows())
    )


def _neighbour_rows() -> list[_Row]:
    """Type 2: the 4600 neighbours of a minimal vector, their neighbours, and so on."""
    v = [_fan(i) for i in range(5)]
    return [
        ("Leech-layer(4600)", 4600, 23, (1, 3), v[:1], (2,), _SHARP),
        ("Leech-layer(891)", 891, 22, (1, 4), v[:2], (2, 2), _SHARP),
        ("Leech-layer(336)", 336, 21, (1, 5), v[:3], (2, 2, 2), _CONWAY),
        ("Leech-layer(170)", 170, 20, (1, 6), v[:4], (2, 2, 2, 2), _CONWAY),
        ("Leech-layer(100)", 100, 19, (1, 7), v[:5], (2, 2, 2, 2, 2), _CONWAY),
        ("Leech-layer(2816)", 2816, 22, (1, 3), v[:2], (2, 1), _CONWAY),
        ("Leech-layer(2025)", 2025, 22, (7, 22), [v[1], _sparse(e0=4, e3=4)], (2, 1), _CONWAY),
        ("Leech-layer(120)", 120, 20, (1, 7), [v[0], _sparse(e1=4, e2=-4), _sparse(e0=4, e3=4)], (1, 2, 1), _CONWAY),
        (
            "Leech-layer(80)",
            80,
            19,
            (11, 91),
            [v[0], v[2], *(_sparse(**{f"e{i}": 4, f"e{j}": 4}) for i, j in ((0, 1), (2, 3), (0, 2)))],
            (2, 2, 1, 0, 0),
            _CONWAY,
        ),
    ]


def _triangle_rows() -> list[_Row]:
    """Type 3: the 276 equiangular lines, the McLaughlin and Higman-Sims graphs and their subgraphs."""
    v = [_fan(i) for i in range(5)]
    # of type 3 (squared norm 48), and a minimal vector with inner product 16 with it
    w = [5] + [1] * 23
    u = _sparse(e0=4, e1=-4)
    return [
        ("equiangular(276)", 552, 23, (1, 5), [w], (3,), _SHARP),
        ("McLaughlin(275)", 275, 22, (1, 6), [w, v[1]], (3, 2), _SHARP),
        ("McLaughlin(162)", 162, 21, (1, 7), [w, v[1], v[2]], (3, 2, 2), _SHARP),
        ("McLaughlin(112)", 112, 21, (1, 9), [w, v[1], v[2]], (3, 2, 1), _SHARP),
        ("McLaughlin(105)", 105, 20, (1, 8), [w, v[1], v[2], v[3]], (3, 2, 2, 2), _GRAPHS),
        ("McLaughlin(81)", 81, 20, (1, 10), [w, v[1], v[2], _octad((0, 2), 1)], (3, 2, 1, 2), _GRAPHS),
        ("Gewirtz(56)", 56, 20, (1, 15), [w, v[1], v[2], v[3]], (3, 2, 2, 1), _GRAPHS),
        ("Higman-Sims(100)", 100, 22, (1, 11), [w, u], (3, 0), _SHARP),
        ("M22(77)", 77, 21, (1, 12), [w, u, _sparse(e0=4, e1=4)], (3, 0, 2), _GRAPHS),
        ("Hoffman-Singleton(50)", 50, 21, (1, 21), [w, v[1], _octad((1, 2), 0)], (3, 1, 0), _GRAPHS),
        ("Leech-layer(352)", 352, 22, (1, 5), [w, u], (3, 1), _CONWAY),
        ("Leech-layer(1100)", 1100, 22, (2, 7), [w, u], (2, 2), _CONWAY),
        ("Leech-layer(567)", 567, 21, (1, 4), [w, v[1], _sparse(e1=-4, e2=4)], (2, 2, 0), _CONWAY),
        (
            "Leech-layer(60,20)",
            60,
            20,
            (1, 13),
            [w, _sparse(e0=4, e1=4), _sparse(e1=4, e2=-4), _sparse(e0=4, e3=-4)],
            (3, 2, 0, 2),
            _CONWAY,
        ),
        ("Leech-layer(60,19)", 60, 19, (1, 11), [w, _sparse(e1=4, e2=-4), _octad((1, 2), 0)], (2, 2, 0), _CONWAY),
    ]


def _sign_rows() -> list[_Row]:
    """A fixed 3 and s fixed 1s: the codewords of the Golay code that vanish on s + 1 places, as signs."""
    return [
        (
            f"Golay-signs({23 - s})",
            2048 >> s,
            23 - s,
            (7 - s, 23 - s),
            [_sparse(**{f"e{i}": 8}) for i in range(s + 1)],
            (3,) + (1,) * s,
            _SPLAG,
        )
        for s in range(6)
    ]


#: Kissing numbers of the laminated lattices.
_LAMINATED = {15: 2340, 16: 4320, 17: 5346, 18: 7398, 19: 10668, 20: 17400, 21: 27720, 22: 49896, 23: 93150}


def _frame(d: int) -> np.ndarray:
    """Orthogonal integer rows that span the complement of E_n in the 24 dimensions, n = 24 - d and 0 <= n <= 9.

    The vectors on an octad form the lattice E8 (scaled). There E_n stands for A1, A2, A3, D4, D5, E6, E7, E8, and
    E9 for E8 with one of the other axes. The complement of E_n contains the minimal vectors of the laminated lattice of
    dimension d.
    """
    places = np.flatnonzero(octads()[0])
    unit = np.eye(24, dtype=np.int64)
    outside = np.delete(unit, places, axis=0)
    e = unit[places]
    within = {
        24: e,
        23: [e[0] + e[1], *e[2:]],
        22: [e[0] + e[1] + e[2], *e[3:]],
        21: e[3:],
        20: e[4:],
        19: e[5:],
        18: [e[0] - e[1], e[0] + e[1] - 2 * e[2]],
        17: [e[0] - e[1]],
        16: e[:0],
        15: e[:0],
    }[d]
    return np.vstack([np.array(within, dtype=np.int64).reshape(-1, 24), outside[max(0, 16 - d) :]])


def _laminated(d: int) -> Rows:
    frame = _frame(d)
    lengths = (frame**2).sum(axis=1)
    X = minimal_vectors()
    inner = X @ frame.T.astype(np.int8)
    # 6 is a multiple of every squared length, so this sum is an integer; it is 6 * 32 for vectors in the span
    spanned = (inner.astype(np.int32) ** 2 @ (6 // lengths)) == 6 * SQUARED_NORM
    columns = []
    for column, length in zip(inner[spanned].T, lengths, strict=True):
        values, at = np.unique(column, return_inverse=True)
        columns.append(rounded_quotients(values, SQUARED_NORM * int(length))[at])
    return np.column_stack(columns)


def constructions(d: int) -> list[Construction]:
    """The minimal vectors of the Leech lattice (d = 24) and the codes that they give in dimension d, not built.

    *Layers* are the minimal vectors with given inner products with some fixed lattice vectors, projected on the
    complement of these. Among them are the sharp codes of Cohn and Kumar in 21, 22 and 23 dimensions. *Laminated
    lattices* give the minimal vectors orthogonal to A1, A2, A3, D4, D5, E6, E7, E8 or E8 and an axis. These are the
    kissing configurations of the laminated lattices in 23, ..., 15 dimensions; that in 16 is the Barnes-Wall lattice.

    References
    ----------
    Conway and Sloane, "Sphere Packings, Lattices and Groups" (1988), chapters 4, 6 and 14.
    Cohn and Kumar, "Universally optimal distribution of points on spheres" (2007), table 1.
    Brouwer and Van Maldeghem, "Strongly Regular Graphs" (2022), for subgraphs of the McLaughlin and Higman-Sims graphs.

    Examples
    --------
    >>> [(code.name, code.K, code.formula) for code in constructions(23)[:2]]
    [('Leech-layer(4600)', 4600, '1/3'), ('equiangular(276)', 552, '1/5')]
    """
    if d == 24:
        return [Construction("Leech", 196560, 24, 0.5, "1/2", _SHARP, partial(_laminated, 24))]
    found = [code.construction(minimal_vectors) for code in _layers() if code.d == d]
    if d in _LAMINATED:
        build = partial(_laminated, d)
        found.append(Construction(f"laminated({d})", _LAMINATED[d], d, 0.5, "1/2", _SPLAG, build))
    return found
