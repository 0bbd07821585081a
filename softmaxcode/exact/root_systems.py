"""The roots of E8 and codes in their layers: E7, E6, D5, the 56, 27, 16 and 10 points, and two half-cubes."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, partial
from itertools import product
from typing import TYPE_CHECKING

import flint
import numpy as np

from softmaxcode.exact.construction import Construction, orthonormal_coordinates

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike

    from softmaxcode.types import Rows


@dataclass(frozen=True)
class Layer:
    """A code in a lattice: its minimal vectors with given inner products with fixed vectors, relative to their centre.

    Attributes
    ----------
    name, K, d, source
        As in `Construction`.
    max_cosine : Fraction
        The exact largest cosine.
    fixed, products
        As in `layer`.
    """

    name: str
    K: int
    d: int
    max_cosine: Fraction
    fixed: Sequence[Sequence[int]]
    products: Sequence[int]
    source: str

    def construction(self, vectors: Callable[[], np.ndarray]) -> Construction:
        """The code as a `Construction`, from a function that returns the minimal vectors, one per row."""
        build = partial(_build, vectors, self.fixed, self.products)
        return Construction(self.name, self.K, self.d, float(self.max_cosine), str(self.max_cosine), self.source, build)


def _build(vectors: Callable[[], np.ndarray], fixed: Sequence[Sequence[int]], products: Sequence[int]) -> Rows:
    return orthonormal_coordinates(layer(vectors(), fixed, products))


def layer(vectors: np.ndarray, fixed: ArrayLike, products: ArrayLike) -> np.ndarray:
    r"""The vectors with given inner products with fixed vectors, projected on the complement of these.

    All of them have the same projection :math:`c = F^T (F F^T)^{-1} p` on the span of the fixed rows F. The result is
    :math:`x - c`, multiplied by a common factor to have integer entries.

    Parameters
    ----------
    vectors : ndarray, shape (N, n)
        Integer rows.
    fixed : array_like, shape (m, n)
        Linearly independent integer rows.
    products : array_like, shape (m,)
        The required inner product with each.

    Returns
    -------
    ndarray, shape (K, n), int64
        In the order of ``vectors``, and of equal norm if the vectors are.

    Raises
    ------
    ZeroDivisionError
        If the fixed rows are linearly dependent.

    Examples
    --------
    >>> layer(np.array([[1, 1], [1, -1], [-1, 1]]), [[1, 0]], [1]).tolist()
    [[0, 1], [0, -1]]
    """
    F = np.asarray(fixed, dtype=np.int64)
    p = np.asarray(products, dtype=np.int64)
    chosen = np.ones(len(vectors), dtype=bool)
    for row, product_wanted in zip(F, p, strict=True):
        support = np.flatnonzero(row)
        chosen &= vectors[:, support].astype(np.int32) @ row[support].astype(np.int32) == product_wanted
    weights = _rational(F @ F.T).solve(_rational(p[:, None]))
    numerators, denominator = (_rational(F.T) * weights).numer_denom()
    centre = np.array([int(entry) for entry in numerators.entries()], dtype=np.int64)
    return vectors[chosen].astype(np.int64) * int(denominator) - centre


def _rational(A: np.ndarray) -> flint.fmpq_mat:
    return flint.fmpq_mat(flint.fmpz_mat(A.tolist()))


@lru_cache(maxsize=1)
def e8_roots() -> np.ndarray:
    """The 240 minimal vectors of the lattice 2 E8, of squared norm 8, shape (240, 8), int8.

    The 112 permutations of (+-2, +-2, 0, ..., 0) and the 128 vectors (+-1, ..., +-1) with an even number of minus
    signs. The array is read-only.

    References
    ----------
    Conway and Sloane, "Sphere Packings, Lattices and Groups" (1988), chapter 4.

    Examples
    --------
    >>> np.unique(e8_roots() @ e8_roots()[0], return_counts=True)[1].tolist()
    [1, 56, 126, 56, 1]
    """
    pairs = []
    for i in range(8):
        for j in range(i + 1, 8):
            for a, b in product((2, -2), repeat=2):
                row = [0] * 8
                row[i], row[j] = a, b
                pairs.append(row)
    signs = [row for row in product((1, -1), repeat=8) if row.count(-1) % 2 == 0]
    roots = np.array(pairs + signs, dtype=np.int8)
    roots.setflags(write=False)
    return roots


def _roots_of_e8() -> Rows:
    return orthonormal_coordinates(e8_roots())


# 2 e_i + 2 e_8 for i = 1, 2, ...: roots with pairwise cosine 1/2
_FAN = tuple(tuple(2 * int(j in (i, 7)) for j in range(8)) for i in range(4))
# 2 e_i - 2 e_(i+1): a chain of roots, the simple roots of A_n
_CHAIN = tuple(tuple(2 * int(j == i) - 2 * int(j == i + 1) for j in range(8)) for i in range(3))
_AXES = tuple(tuple(int(j == i) for j in range(8)) for i in range(2))

_SLOANE = 'Conway and Sloane, "Sphere Packings, Lattices and Groups" (1988), chapters 4 and 14'
_SHARP = 'Cohn and Kumar, "Universally optimal distribution of points on spheres" (2007), table 1'
_PETERSEN = 'Bachoc and Vallentin, "Optimality and uniqueness of the (4, 10, 1/6) spherical code" (2009)'

_LAYERS = (
    Layer("E7-roots", 126, 7, Fraction(1, 2), _CHAIN[:1], (0,), _SLOANE),
    Layer("E6-roots", 72, 6, Fraction(1, 2), _CHAIN[:2], (0, 0), _SLOANE),
    Layer("D5-roots", 40, 5, Fraction(1, 2), _CHAIN[:3], (0, 0, 0), _SLOANE),
    Layer("E8-layer(56)", 56, 7, Fraction(1, 3), _FAN[:1], (4,), _SHARP),
    Layer("Schlaefli(27)", 27, 6, Fraction(1, 4), _FAN[:2], (4, 4), _SHARP),
    Layer("Clebsch(16)", 16, 5, Fraction(1, 5), _FAN[:3], (4, 4, 4), _SHARP),
    Layer("Petersen(10)", 10, 4, Fraction(1, 6), _FAN[:4], (4, 4, 4, 4), _PETERSEN),
    Layer("half-cube(7)", 64, 7, Fraction(3, 7), _AXES[:1], (1,), _SLOANE),
    Layer("half-cube(6)", 32, 6, Fraction(1, 3), _AXES[:2], (1, 1), _SLOANE),
)


def constructions(d: int) -> list[Construction]:
    """The root system E8 (d = 8) and the codes of its layers in dimension d, not built.

    Take n roots of E8 with pairwise inner products 1. For n = 1, ..., 4 the roots with inner product 1 with each of
    them are 56, 27, 16 and 10. Projected on the 8 - n dimensions orthogonal to the n roots, their largest cosine is
    1/(n + 2). The roots orthogonal to A1, A2 and A3 are E7, E6 and D5. Those with one or two coordinates 1/2 are
    half-cubes.

    References
    ----------
    Conway and Sloane, "Sphere Packings, Lattices and Groups" (1988), chapters 4 and 14.
    Cohn and Kumar, "Universally optimal distribution of points on spheres" (2007), table 1.
    Bachoc and Vallentin, "Optimality and uniqueness of the (4, 10, 1/6) spherical code" (2009).

    Examples
    --------
    >>> [(code.name, code.K, code.formula) for code in constructions(6)]
    [('E6-roots', 72, '1/2'), ('Schlaefli(27)', 27, '1/4'), ('half-cube(6)', 32, '1/3')]
    """
    if d == 8:
        return [Construction("E8-roots", 240, 8, 0.5, "1/2", _SHARP, _roots_of_e8)]
    return [code.construction(e8_roots) for code in _LAYERS if code.d == d]
