r"""Orbits of extraspecial groups, and layers of bases around them: largest cosines 1/3 and 1/4.

The real case. The group of :math:`\pm X(a) Z(s)` acts on R^16. X(a) moves coordinate i to i + a (bitwise), and Z(s)
multiplies it by the Walsh function s. It has order 512, and -1 is needed: X and Z anticommute. The orbit of one vector
has 512 vectors with cosines 0, +-1/3 and -1.

The complex case. The group of :math:`\omega^c X(a) Z(s)`, :math:`\omega = e^{2\pi i/3}`, acts on C^9 = R^18. The orbit
of :math:`(0, 1, -1) \otimes (0, 1, -1)` has 243 vectors, of cosines 1/4, -1/8 and -1/2.

Layers. A basis B and its multiples by the units of the group (+-1, or the cube roots of 1) are vectors with cosines at
most 0. Let u be vertices of a hexagon in two further dimensions. A layer is :math:`\sqrt{1 - h^2}\, b + h u` for b in a
basis, with :math:`h^2` the largest cosine of the orbit. The bases are chosen such that no cosine exceeds that of the
orbit: those of neighbouring layers are unbiased. Two opposite layers need one further dimension only. So there are
codes of 512, 576 and 704 vectors in 16, 17 and 18 dimensions with largest cosine 1/3. In 18, 19 and 20 dimensions there
are codes of 243, 297 and 405 vectors with largest cosine 1/4.
"""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING

import numpy as np

from softmaxcode.exact.construction import Construction, orthonormal_coordinates

if TYPE_CHECKING:
    from softmaxcode.types import Rows

#: A vector of R^16 whose orbit has 512 vectors; its squared norm is 12.
REAL_START = (-1, -1, 0, 0, 1, 1, 0, -2, 1, -1, 0, 0, 1, 1, 0, 0)
#: Vectors of three mutually unbiased bases that are near to no vector of that orbit; their squared norm is 8.
BASES = (
    (2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    (1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, -1, 0, -1, 0),
    (1, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1),
)
#: Vertices of a hexagon, in order, of squared norm 4 in Z^4.
SQUARE_HEXAGON = ((2, 0, 0, 0), (1, 1, 1, 1), (-1, 1, 1, 1), (-2, 0, 0, 0), (-1, -1, -1, -1), (1, -1, -1, -1))
#: Vertices of a hexagon, in order, of squared norm 54 in Z^3.
HEXAGON = ((6, -3, -3), (3, 3, -6), (-3, 6, -3), (-6, 3, 3), (-3, -3, 6), (3, -6, 3))
#: The cube roots of 1 as vectors of squared norm 6, and their multiples by w - w^2.
_ROOTS = np.array([(2, -1, -1), (-1, 2, -1), (-1, -1, 2)])
_TURNED = np.roll(_ROOTS, -1, axis=0) - np.roll(_ROOTS, -2, axis=0)


def real_orbit(x: np.ndarray) -> np.ndarray:
    """The distinct vectors +-X(a) Z(s) x, as sorted integer rows.

    Examples
    --------
    >>> orbit = real_orbit(np.array(REAL_START))
    >>> np.unique(orbit @ orbit[0], return_counts=True)[1].tolist()
    [1, 135, 240, 135, 1]
    """
    every = np.arange(len(x))
    walsh = 1 - 2 * (np.bitwise_count(every[:, None] & every) % 2).astype(np.int64)
    rows = (walsh * x[every[:, None] ^ every][:, None]).reshape(-1, len(x))
    return np.unique(np.vstack([rows, -rows]), axis=0)


@functools.lru_cache(maxsize=1)
def _real_layers() -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """The orbit of 512 vectors, and the bases of the six layers, of squared norm 8."""
    bases = [real_orbit(np.array(start)) for start in BASES]
    return real_orbit(np.array(REAL_START)), tuple(bases[i % 3] for i in range(6))


@functools.lru_cache(maxsize=1)
def _complex_layers() -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """The orbit of 243 vectors of squared norm 216 in Z^27, and the bases of the six layers, of squared norm 162."""
    start = np.kron([0, 1, -1], [0, 1, -1])
    places = list(itertools.product(range(3), repeat=2))
    orbit = np.zeros((243, 9, 3), dtype=np.int64)
    for row, (a, b, s, t, c) in zip(orbit, itertools.product(range(3), repeat=5), strict=True):
        for (i, j), entry in zip(places, start, strict=True):
            row[3 * ((i + a) % 3) + (j + b) % 3] = 3 * entry * _ROOTS[(s * i + t * j + c) % 3]
    layers = []
    for n in range(6):
        # the phases are the quadratic form x y + c y^2 or its negative, c = n // 2, and all linear forms
        sign, c = (1, n // 2) if n % 2 == 0 else (-1, n // 2)
        rows = [
            np.concatenate([sign * _TURNED[(sign * x * y + c * y * y + p * x + q * y + r) % 3] for x, y in places])
            for p, q, r in itertools.product(range(3), repeat=3)
        ]
        layers.append(np.array(rows))
    return orbit.reshape(243, 27), tuple(layers)


def orbit_code(kind: str, count: int) -> np.ndarray:
    """Integer rows of equal norm: an orbit and 0, 2 (opposite) or 6 layers.

    Parameters
    ----------
    kind : {"real", "complex"}
        The group.
    count : {0, 2, 6}
        The number of layers.

    Returns
    -------
    ndarray of int64
        They span 16 + min(2, count / 2) dimensions ("real"; 18 + ... for "complex").

    Examples
    --------
    >>> rows = orbit_code("real", 6)
    >>> rows.shape, np.unique(rows @ rows.T).tolist()
    ((704, 20), [-12, -4, 0, 4, 12])
    """
    equator, bases = _real_layers() if kind == "real" else _complex_layers()
    vertices = np.array(SQUARE_HEXAGON if kind == "real" else HEXAGON)
    chosen = {0: (), 2: (0, 3), 6: range(6)}[count]
    blocks = [np.pad(equator, ((0, 0), (0, vertices.shape[1])))]
    for i in chosen:
        blocks.append(np.hstack([bases[i], np.repeat(vertices[i][None], len(bases[i]), axis=0)]))
    return np.vstack(blocks)


def _build(kind: str, count: int) -> Rows:
    return orthonormal_coordinates(orbit_code(kind, count))


_CALDERBANK = (
    "A. R. Calderbank, P. J. Cameron, W. M. Kantor and J. J. Seidel, Z4-Kerdock codes, orthogonal spreads, and "
    "extremal Euclidean line-sets (1997), for the groups and unbiased bases; the vectors were found by a search"
)
_ORBITS = {
    16: ("real", 0, 512, 3),
    17: ("real", 2, 576, 3),
    18: ("real", 6, 704, 3),
    19: ("complex", 2, 297, 4),
    20: ("complex", 6, 405, 4),
}


def constructions(d: int) -> list[Construction]:
    """The orbits and their layers in dimension exactly d, not built.

    References
    ----------
    A. R. Calderbank, P. J. Cameron, W. M. Kantor and J. J. Seidel, "Z4-Kerdock codes, orthogonal spreads, and extremal
    Euclidean line-sets" (1997), for the groups and their unbiased bases.

    Examples
    --------
    >>> [(c.name, c.K, c.formula) for d in range(16, 21) for c in constructions(d)][:2]
    [('extraspecial-orbit(512)', 512, '1/3'), ('extraspecial-orbit(576)', 576, '1/3')]
    """
    codes = [(kind, count, K, q) for n, (kind, count, K, q) in _ORBITS.items() if n == d]
    if d == 18:
        codes.append(("complex", 0, 243, 4))
    return [
        Construction(
            name=f"extraspecial-orbit({K})",
            K=K,
            d=d,
            max_cosine=1 / q,
            formula=f"1/{q}",
            source=_CALDERBANK,
            build=functools.partial(_build, kind, count),
        )
        for kind, count, K, q in codes
    ]
