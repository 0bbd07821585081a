"""The sharp codes of (q + 1)(q^3 + 1) vectors in dimension q (q^3 + 1)/(q + 1), largest cosine 1/q^2.

The vectors are the points of the generalised quadrangle of order (q, q^2). Equally, they are the totally isotropic
lines of the Hermitian surface H(3, q^2). They are projected on the eigenspace of the collinearity graph with the least
eigenvalue.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from softmaxcode.exact.construction import Construction, rounded_quotients
from softmaxcode.exact.finite_fields import finite_field, prime_power

if TYPE_CHECKING:
    from softmaxcode.types import Rows

_SOURCE = (
    "P. J. Cameron, J.-M. Goethals and J. J. Seidel, Strongly regular graphs having strongly regular subconstituents "
    "(1978); H. Cohn and A. Kumar, Universally optimal distribution of points on spheres (2007), Table 1"
)


def ovoid_code(q: int) -> np.ndarray:
    """The q^4 codewords of the code of the elliptic quadric of PG(3, q), each of weight 0, q^2 - q or q^2.

    The quadric has the points (0, 0, 0, 1) and (1, s, t, N(s, t)). Here N(s, t) = s^2 + a s t + b t^2 has no zero other
    than (0, 0). A codeword lists the values of one linear form; a plane meets the quadric in 1 or q + 1 points.

    Parameters
    ----------
    q : int
        A power of a prime.

    Returns
    -------
    ndarray, shape (q^4, q^2 + 1), int
        Elements of GF(q), as in `finite_field`; codeword 0 is zero.

    Examples
    --------
    >>> np.unique(np.count_nonzero(ovoid_code(3), axis=1)).tolist()
    [0, 6, 9]
    """
    F = finite_field(q)
    every = np.arange(q)
    a, b = next(
        (a, b) for a in every for b in every if (F.add(F.add(F.power(every, 2), F.multiply(a, every)), b) != 0).all()
    )
    s, t = np.repeat(every, q), np.tile(every, q)
    norm = F.add(F.add(F.power(s, 2), F.multiply(a, F.multiply(s, t))), F.multiply(b, F.power(t, 2)))
    points = np.vstack([[0, 0, 0, 1], np.column_stack([np.ones(q * q, dtype=np.int64), s, t, norm])])
    codewords = np.zeros((1, q * q + 1), dtype=np.int64)
    for coordinate in points.T:
        multiples = F.multiply(every[:, None], coordinate)
        codewords = F.add(codewords[:, None], multiples).reshape(-1, q * q + 1)
    return codewords


def _simplex_squares(q: int) -> tuple[np.ndarray, np.ndarray]:
    """Signs and squared coordinates (times q - 1, a numerator and a denominator) of q unit vectors of R^(q-1).

    Vertex i has one positive coordinate i and negative ones before it.
    """
    sign = np.zeros((q, q - 1), dtype=np.int64)
    square = np.ones((q, q - 1, 2), dtype=np.int64)
    for i in range(q - 1):
        rest = q - 1 - i
        sign[i, i], square[i, i] = 1, (q * rest, rest + 1)
        sign[i + 1 :, i], square[i + 1 :, i] = -1, (q, rest * (rest + 1))
    return sign, square


def _simplex(q: int, factor: int, root: int) -> Rows:
    """Vertices of the regular simplex in R^(q-1) with norm sqrt(factor (q - 1)) / root, shape (q, q - 1)."""
    sign, square = _simplex_squares(q)
    top = sign * square[..., 0] * factor
    # sqrt(u / w) / root = u / sqrt(u w root^2)
    return rounded_quotients(top, np.abs(np.where(top == 0, 1, top)) * square[..., 1] * root**2)


def _build(q: int) -> Rows:
    # There is one point p. The q (q^2 + 1) points collinear with it are indexed by line i and place c. The q^4 others
    # are the codewords of the ovoid code: codeword x is collinear with (i, c) when x_i = c. The stabiliser of p acts on
    # the q^4 as translations. The eigenspace splits into their characters: the trivial one, and q - 1 for every line i.
    # The latter map a symbol of the field to a vertex of a simplex.
    codewords = ovoid_code(q)
    lines = q * q + 1
    first = np.concatenate([[1.0], np.full(q * lines, -1 / q), np.full(q**4, 1 / q**2)])
    near = np.zeros((lines, q, lines, q - 1))
    near[np.arange(lines), :, np.arange(lines)] = -_simplex(q, q + 1, q)
    far = _simplex(q, q + 1, q * q)[codewords]
    blocks = [np.zeros((1, lines * (q - 1))), near.reshape(q * lines, -1), far.reshape(q**4, -1)]
    return np.column_stack([first, np.vstack(blocks)])


def constructions(d: int) -> list[Construction]:
    """The isotropic-subspace code in dimension exactly d, if there is one.

    Its inner products are -1/q and 1/q^2. It is a spherical 3-design, hence sharp and a Tammes optimum.

    Examples
    --------
    >>> [(c.name, c.K) for d in (6, 21, 22, 52) for c in constructions(d)]
    [('isotropic(2)', 27), ('isotropic(3)', 112), ('isotropic(4)', 325)]
    """
    q = next(q for q in range(2, d + 3) if q * (q * q - q + 1) >= d)
    if q * (q * q - q + 1) != d or prime_power(q) is None:
        return []
    return [
        Construction(
            name=f"isotropic({q})",
            K=(q + 1) * (q**3 + 1),
            d=d,
            max_cosine=1 / q**2,
            formula=f"1/{q**2}",
            source=_SOURCE,
            build=functools.partial(_build, q),
        )
    ]
