r"""Orbits of extraspecial groups, and layers of bases around them: largest cosines 1/3 and 1/4.

The real case. The group of :math:`\pm X(a) Z(s)` acts on R^16. X(a) moves coordinate i to i + a (bitwise), and Z(s)
multiplies it by the Walsh function s. It has order 512, and -1 is needed: X and Z anticommute. The orbit of one vector
has 512 vectors with cosines 0, +-1/3 and -1. The orbits of three vectors with coordinates in Q(sqrt 5), up to a common
factor, have 1536 vectors with largest cosine (15 + 2 sqrt 5)/41.

The complex case. The group of :math:`\omega^c X(a) Z(s)`, :math:`\omega = e^{2\pi i/3}`, acts on C^9 = R^18. The orbit
of :math:`(0, 1, -1) \otimes (0, 1, -1)` has 243 vectors, of cosines 1/4, -1/8 and -1/2.

Layers. A basis B and its multiples by the units of the group (+-1, or the cube roots of 1) are vectors with cosines at
most 0. Let u be vertices of a hexagon in two further dimensions. A layer is :math:`\sqrt{1 - h^2}\, b + h u` for b in a
basis, with :math:`h^2` the largest cosine of the orbit. The bases are chosen such that no cosine exceeds that of the
orbit: those of neighbouring layers are unbiased. Two opposite layers need one further dimension only. So there are
codes of 512 and 704 vectors in 16 and 18 dimensions with largest cosine 1/3. In 18, 19 and 20 dimensions there are
codes of 243, 297 and 405 vectors with largest cosine 1/4.

Two poles. In 17 dimensions the poles +-u and a layer of nine unbiased bases at each height +-1/3 are 578 vectors with
largest cosine 1/3: within a layer it is 1/9 + 8/9 x 1/4. Between layers it is -1/9 + 8/9 x 1/2, if the two sets of nine
bases are minimal vectors of one lattice of Barnes and Wall and have no basis in common.
"""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING

import flint
import numpy as np

from softmaxcode.exact import kerdock
from softmaxcode.exact.conference import nearest
from softmaxcode.exact.construction import Construction, orthonormal_coordinates
from softmaxcode.exact.hadamard import hadamard_matrix

if TYPE_CHECKING:
    from softmaxcode.types import Rows

#: A vector of R^16 whose orbit has 512 vectors; its squared norm is 12.
REAL_START = (-1, -1, 0, 0, 1, 1, 0, -2, 1, -1, 0, 0, 1, 1, 0, 0)
#: Three vectors p + q sqrt 5 of R^16, each as p and q; their squared norm is 104 + 8 sqrt 5.
GOLDEN_STARTS = (
    ((2, 2, 2, -1, 2, -2, -5, 2, -2, -2, 2, -3, 2, -2, -1, -2), (0, 0, 0, -1, 0, 0, -1, 0, 0, 0, 0, 1, 0, 0, -1, 0)),
    ((4, 0, 0, 1, 0, 0, -3, 0, 4, 4, 0, 3, 4, 0, 1, 0), (0, 0, 0, -1, 0, 0, -1, 0, 0, 0, 0, 1, 0, 0, -1, 0)),
    ((2, -1, 2, 2, -1, -6, 2, 2, 2, 1, -2, 2, -1, -2, -2, 2), (0, -1, 0, 0, -1, 0, 0, 0, 0, 1, 0, 0, -1, 0, 0, 0)),
)
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
    """The distinct vectors +-X(a) Z(s) x, as sorted integer rows; of several x one after another in each row.

    Examples
    --------
    >>> orbit = real_orbit(np.array(REAL_START))
    >>> np.unique(orbit @ orbit[0], return_counts=True)[1].tolist()
    [1, 135, 240, 135, 1]
    """
    x = np.atleast_2d(x)
    every = np.arange(x.shape[1])
    walsh = 1 - 2 * (np.bitwise_count(every[:, None] & every) % 2).astype(np.int64)
    shifted = x[:, every[:, None] ^ every]  # vector, a, coordinate
    rows = (walsh[:, None] * shifted.transpose(1, 0, 2)[:, None]).reshape(-1, x.size)
    return np.unique(np.vstack([rows, -rows]), axis=0)


def golden_orbits() -> tuple[np.ndarray, np.ndarray]:
    """The orbits of `GOLDEN_STARTS` as integer rows P and Q: the vectors are P + Q sqrt 5, shape (1536, 16).

    Examples
    --------
    >>> P, Q = golden_orbits()
    >>> P.shape, int(P[0] @ P[0] + 5 * Q[0] @ Q[0]), int(2 * P[0] @ Q[0])
    ((1536, 16), 104, 8)
    """
    rows = np.vstack([real_orbit(np.array(start)) for start in GOLDEN_STARTS])
    return rows[:, :16], rows[:, 16:]


def _golden_cosine() -> flint.arb:
    return (15 + 2 * flint.arb(5).sqrt()) / 41


def _golden_build() -> Rows:
    P, Q = golden_orbits()

    def coordinate(p: int, q: int) -> flint.arb:
        root = flint.arb(5).sqrt()
        return (p + q * root) / (104 + 8 * root).sqrt()

    pairs, at = np.unique(np.stack([P.ravel(), Q.ravel()], axis=1), axis=0, return_inverse=True)
    values = [nearest(functools.partial(coordinate, p, q)) if p or q else 0.0 for p, q in pairs.tolist()]
    return np.array(values)[at.ravel()].reshape(P.shape)


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


def two_poles() -> np.ndarray:
    """Two poles with nine unbiased bases around each, as integer rows of squared norm 18 that span 17 dimensions.

    Examples
    --------
    >>> rows = two_poles()
    >>> rows.shape, np.unique(rows @ rows.T).tolist()
    ((578, 18), [-18, -14, -10, -6, -2, 2, 6, 18])
    """
    (code,) = (one for one in kerdock.constructions(16) if one.K == 288)
    north = np.rint(4 * code.build()).astype(np.int64)
    # a Clifford operation keeps the lattice: signs by x y, then the Walsh transform, both of the two highest bits
    high = np.arange(16) >> 2
    walsh = np.kron(hadamard_matrix(2), hadamard_matrix(2))
    south = north * np.where(high == 3, -1, 1) @ np.kron(walsh, np.eye(4, dtype=np.int64)) // 2
    layers = [np.pad(rows, ((0, 0), (0, 2)), constant_values=h) for rows, h in ((north, 1), (south, -1))]
    pole = np.array([[0] * 16 + [3, 3]])
    return np.vstack([pole, -pole, *layers])


def _build(kind: str, count: int) -> Rows:
    return orthonormal_coordinates(orbit_code(kind, count))


_SOURCE = (
    "A. R. Calderbank, P. J. Cameron, W. M. Kantor and J. J. Seidel, Z4-Kerdock codes, orthogonal spreads, and "
    "extremal Euclidean line-sets (1997), for the groups and unbiased bases; the vectors were found by a search"
)
_ORBITS = {
    16: ("real", 0, 512, 3),
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
    [('extraspecial-orbits(1536)', 1536, '(15 + 2 sqrt 5)/41'), ('extraspecial-orbit(512)', 512, '1/3')]
    """
    codes = [(kind, count, K, q) for n, (kind, count, K, q) in _ORBITS.items() if n == d]
    if d == 18:
        codes.append(("complex", 0, 243, 4))
    cosine, formula = nearest(_golden_cosine), "(15 + 2 sqrt 5)/41"
    golden = Construction("extraspecial-orbits(1536)", 1536, 16, cosine, formula, _SOURCE, _golden_build)
    poles = Construction("two-poles(578)", 578, 17, 1 / 3, "1/3", _SOURCE, lambda: orthonormal_coordinates(two_poles()))
    return (
        [golden] * (d == 16)
        + [poles] * (d == 17)
        + [
            Construction(
                name=f"extraspecial-orbit({K})",
                K=K,
                d=d,
                max_cosine=1 / q,
                formula=f"1/{q}",
                source=_SOURCE,
                build=functools.partial(_build, kind, count),
            )
            for kind, count, K, q in codes
        ]
    )
