"""Codes from Hadamard matrices: with the axes, with a coordinate removed, on nets and on Steiner systems."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import numpy as np

from softmaxcode.exact.conference import paley_conference, root_formula
from softmaxcode.exact.construction import Construction, rounded_quotients
from softmaxcode.exact.finite_fields import finite_field, prime_power

if TYPE_CHECKING:
    from collections.abc import Iterator

    from softmaxcode.types import Rows


@functools.lru_cache
def has_hadamard(n: int) -> bool:
    """Whether `hadamard_matrix` can build order n.

    Examples
    --------
    >>> [n for n in range(1, 101) if n % 4 == 0 and not has_hadamard(n)]
    [92]
    """
    return _recipe(n) is not None


def _recipe(n: int) -> tuple[str, int] | None:
    if n in (1, 2):
        return "order", n
    if n < 1 or n % 4:
        return None
    if has_hadamard(n // 2):
        return "product", 2
    if prime_power(n - 1):
        return "paley", n - 1
    if prime_power(n // 2 - 1) and n % 8 == 4:
        return "paley-doubled", n // 2 - 1
    factors = (a for a in range(4, math.isqrt(n) + 1, 4) if n % a == 0)
    return next((("product", a) for a in factors if has_hadamard(a) and has_hadamard(n // a)), None)


def hadamard_matrix(n: int) -> np.ndarray:
    """A Hadamard matrix of order n, by the constructions of Sylvester and Paley and their Kronecker products.

    Parameters
    ----------
    n : int
        1, 2 or a multiple of 4.

    Returns
    -------
    ndarray, shape (n, n), int
        Entries +-1, H H^T = n I.

    Raises
    ------
    ValueError
        If these constructions do not give order n.

    References
    ----------
    Paley, "On orthogonal matrices" (1933).

    Examples
    --------
    >>> hadamard_matrix(4)
    array([[ 1,  1,  1,  1],
           [ 1, -1,  1, -1],
           [ 1,  1, -1, -1],
           [ 1, -1, -1,  1]])
    """
    recipe = _recipe(n)
    if recipe is None:
        raise ValueError(f"no Hadamard matrix of order {n} is built by Sylvester's and Paley's constructions")
    kind, q = recipe
    if kind == "order":
        return np.array([[1, 1], [1, -1]])[:n, :n]
    if kind == "product":
        return np.kron(hadamard_matrix(q), hadamard_matrix(n // q))
    C, eye = paley_conference(q), np.eye(q + 1, dtype=np.int64)
    if kind == "paley":
        return C + eye
    return np.kron(C, [[1, 1], [1, -1]]) + np.kron(eye, [[1, -1], [-1, -1]])


def _both_signs(rows: np.ndarray, square: int) -> Rows:
    """Integer rows with ``square`` entries +-1 and zeros elsewhere, and their negatives, scaled to norm 1."""
    return np.vstack([rows, -rows]) * rounded_quotients(1, square)


def _with_axes(n: int) -> Rows:
    eye = np.eye(n, dtype=np.int64)
    return np.vstack([eye, -eye, _both_signs(hadamard_matrix(n), n)])


def _punctured(n: int) -> Rows:
    H = hadamard_matrix(n)
    return _both_signs(H[:, 1:], n - 1)


def _latin_squares(s: int) -> int:
    """The number of orthogonal Latin squares from MacNeish's product of fields."""
    return min(_prime_powers(s)) - 1


def _prime_powers(s: int) -> Iterator[int]:
    p = 2
    while s > 1:
        f = 1
        while s % p == 0:
            s, f = s // p, f * p
        if f > 1:
            yield f
        p += 1


def _net(s: int) -> np.ndarray:
    """Rows, columns and MacNeish's orthogonal Latin squares of side s: shape (classes, s, s), the symbol of each cell.

    Two cells with the same symbol in one class have different symbols in every other class.
    """
    x, y = np.repeat(np.arange(s), s).reshape(s, s), np.tile(np.arange(s), (s, 1))
    squares = np.zeros((_latin_squares(s), s, s), dtype=np.int64)
    size = 1
    for f in _prime_powers(s):
        F = finite_field(f)
        a, b = x // size % f, y // size % f
        for i, square in enumerate(squares, start=1):
            square += size * F.add(F.multiply(i, a), b)
        size *= f
    return np.concatenate([[x, y], squares])


def net_cells(s: int) -> np.ndarray:
    """The cells of each symbol of a net, shape (classes, s, s): cell (x, y) has the index s x + y.

    For a power of a prime these are the parallel classes of the affine plane of order s, and the cells are its points.
    """
    net = _net(s).reshape(-1, s * s)
    return np.argsort(net, axis=1, kind="stable").reshape(len(net), s, s)


def _net_bases(s: int) -> Rows:
    H = hadamard_matrix(s)
    cells = net_cells(s)
    rows = np.zeros((len(cells), s, s, s * s), dtype=np.int64)
    for c, k in np.ndindex(len(cells), s):
        rows[c, k][:, cells[c, k]] = H
    return _both_signs(rows.reshape(-1, s * s), s)


def _pairs(v: int) -> np.ndarray:
    return np.column_stack(np.triu_indices(v, 1))


def steiner_triples(v: int) -> np.ndarray:
    """A Steiner triple system on v points: lines of a projective space for v = 2^k - 1, else Bose's (v = 6t + 3)."""
    if (v + 1) & v == 0:
        points = _pairs(v) + 1
        lines = np.column_stack([points, points[:, 0] ^ points[:, 1]])
        return lines[lines[:, 1] < lines[:, 2]] - 1
    side = v // 3
    x, y = np.triu_indices(side, 1)
    middle = (x + y) * ((side + 1) // 2) % side
    mixed = [np.column_stack([3 * x + i, 3 * y + i, 3 * middle + (i + 1) % 3]) for i in range(3)]
    return np.vstack([np.arange(v).reshape(side, 3), *mixed])


def _steiner(v: int, size: int) -> Rows:
    blocks = _pairs(v) if size == 2 else steiner_triples(v)
    r = (v - 1) // (size - 1)
    H = hadamard_matrix(r + 1)[:, 1:]
    rows = np.zeros((v, r + 1, len(blocks)), dtype=np.int64)
    for point in range(v):
        rows[point][:, (blocks == point).any(axis=1)] = H
    return _both_signs(rows.reshape(-1, len(blocks)), r)


def _steiner_systems(d: int) -> list[tuple[int, int]]:
    """(v, block size) of the offered systems of d blocks, whose points are in r blocks with r + 1 a Hadamard order."""
    found = []
    for size in (2, 3):
        v = (1 + math.isqrt(1 + 4 * size * (size - 1) * d)) // 2
        r = (v - 1) // (size - 1)
        known = size == 2 or v % 6 == 3 or (v + 1) & v == 0
        if v > 3 and v * (v - 1) == size * (size - 1) * d and known and has_hadamard(r + 1):
            found.append((v, size))
    return found


def constructions(d: int) -> list[Construction]:
    """The codes from Hadamard matrices in dimension exactly d.

    All are closed under negation.

    - ``hadamard(d)``: the axes and the rows of a matrix. 4d vectors, largest cosine 1/sqrt(d). Powers of 4 are
      omitted, since Kerdock's bases contain the code.
    - ``hadamard-punctured(d + 1)``: the rows of a matrix without one coordinate. 2d + 2 vectors, largest cosine 1/d.
    - ``net(s)``, d = s^2: a net consists of rows, columns and w orthogonal Latin squares. The rows of a matrix of order
      s are placed on the cells of each symbol. These are w + 2 unbiased bases: 2d (w + 2) vectors, largest cosine 1/s.
    - ``steiner(v, k)``: a Steiner system has d blocks of k = 2 or 3 of v points. Each point is in r = (v - 1)/(k - 1)
      blocks. A matrix of order r + 1, without one coordinate, is placed on the blocks of each point. Its rows give
      v (r + 1) equiangular lines, largest cosine 1/r.

    Examples
    --------
    >>> [(c.name, c.K, c.formula) for d in (7, 12, 144) for c in constructions(d)][1:4]
    [('steiner(7, 3)', 56, '1/3'), ('hadamard(12)', 48, '1/sqrt(12)'), ('hadamard(144)', 576, '1/12')]
    """
    codes = []

    def add(name: str, K: int, square: int, source: str, build: functools.partial[Rows]) -> None:
        # the largest cosine is 1/sqrt(square)
        cosine = float(rounded_quotients(1, square))
        codes.append(Construction(name, K, d, cosine, root_formula(square), source, build))

    paley = "R. E. A. C. Paley, On orthogonal matrices (1933)"
    power_of_4 = d & (d - 1) == 0 and d.bit_length() % 2 == 1
    if d >= 8 and has_hadamard(d) and not power_of_4:
        add(f"hadamard({d})", 4 * d, d, paley, functools.partial(_with_axes, d))
    if d >= 3 and has_hadamard(d + 1):
        add(f"hadamard-punctured({d + 1})", 2 * d + 2, d * d, paley, functools.partial(_punctured, d + 1))
    s = math.isqrt(d)
    if s * s == d and has_hadamard(s) and s & (s - 1):
        source = "P. Wocjan and T. Beth, New construction of mutually unbiased bases in square dimensions (2005)"
        add(f"net({s})", 2 * d * (_latin_squares(s) + 2), d, source, functools.partial(_net_bases, s))
    for v, size in _steiner_systems(d):
        r = (v - 1) // (size - 1)
        source = "M. Fickus, D. G. Mixon and J. C. Tremain, Steiner equiangular tight frames (2012)"
        add(f"steiner({v}, {size})", 2 * v * (r + 1), r * r, source, functools.partial(_steiner, v, size))
    return codes
