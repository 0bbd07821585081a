"""Polytopes in three and four dimensions whose vertices are an optimal code."""

from __future__ import annotations

from fractions import Fraction
from itertools import permutations, product
from typing import TYPE_CHECKING

import flint
import numpy as np

from softmaxcode.exact.construction import Construction, rounded_quotients

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from softmaxcode.types import Rows

# Working precision. The balls below have a radius near 2^-240; `_nearest` refuses a ball with two nearest floats.
_BITS = 256


def _nearest(exact: flint.arb) -> float:
    """The float64 nearest to the number in a ball."""
    ends = []
    for end in (exact.lower(), exact.upper()):
        mantissa, exponent = (int(part) for part in end.man_exp())
        ends.append(float(Fraction(mantissa) * Fraction(2) ** exponent))
    if ends[0] != ends[1]:
        raise ArithmeticError(f"the ball {exact} does not decide its nearest float64")
    return ends[0]


def _even(items: Sequence[int]) -> bool:
    """Whether a permutation is even."""
    return sum(a > b for i, a in enumerate(items) for b in items[i + 1 :]) % 2 == 0


def _signed(values: Sequence[float], even_only: bool) -> list[tuple[float, ...]]:
    """All (or all even) permutations of the values with all signs, each vector once."""
    n = len(values)
    found: dict[tuple[float, ...], None] = {}
    for order in permutations(range(n)):
        if even_only and not _even(order):
            continue
        for signs in product((1.0, -1.0), repeat=n):
            # adding 0 turns -0 into 0
            found[tuple(signs[i] * values[i] + 0.0 for i in order)] = None
    return list(found)


def _golden() -> flint.arb:
    return (1 + flint.arb(5).sqrt()) / 2


def _tribonacci() -> flint.arb:
    """The real root of t^3 = t^2 + t + 1, 1.839."""
    root = flint.arb(33).sqrt() * 3
    third = flint.arb(1) / 3
    return (1 + (19 + root) ** third + (19 - root) ** third) / 3


def _icosahedron() -> Rows:
    # cyclic permutations of (0, +-1, +-phi), of norm sqrt(1 + phi^2)
    with flint.ctx.workprec(_BITS):
        phi = _golden()
        norm = (1 + phi**2).sqrt()
        return np.array(_signed([0.0, _nearest(1 / norm), _nearest(phi / norm)], even_only=True))


def _snub_cube() -> Rows:
    # even permutations of (+-1, +-1/t, +-t) with an even number of minus signs, odd ones with an odd number
    with flint.ctx.workprec(_BITS):
        t = _tribonacci()
        norm = (1 + 1 / t**2 + t**2).sqrt()
        values = [_nearest(1 / norm), _nearest(1 / (t * norm)), _nearest(t / norm)]
    rows = []
    for order in permutations(range(3)):
        for signs in product((1, -1), repeat=3):
            if (np.prod(signs) > 0) == _even(order):
                rows.append([signs[i] * values[i] for i in order])
    return np.array(rows)


def _square_antiprism() -> Rows:
    # two squares of circumradius r at heights +-h, turned by 45 degrees, with all edges equal: 4 h^2 = sqrt(2) r^2
    with flint.ctx.workprec(_BITS):
        root = flint.arb(2).sqrt()
        r = 1 / (1 + root / 4).sqrt()
        radius, half, height = _nearest(r), _nearest(r / root), _nearest((1 - r**2).sqrt())
    top = [[radius, 0.0, height], [0.0, radius, height], [-radius, 0.0, height], [0.0, -radius, height]]
    return np.array(top + [[a, b, -height] for a in (half, -half) for b in (half, -half)])


def _triaugmented_prism() -> Rows:
    # a triangle on the equator, and two of circumradius 2/3 over one another, turned by 60 degrees
    # (vertices of the unit triangle are (a, sqrt(3) b) / 2)
    triangle = [(2, 0), (-1, 1), (-1, -1)]
    p = [[a, 3 * b, 0] for a, b in triangle]
    q = [[4, 12, 1]] * 3
    p += [[-a, -b, 5 * sign] for a, b in triangle for sign in (1, -1)]
    q += [[9, 3, 45]] * 6
    return rounded_quotients(p, q)


def _cell_24() -> Rows:
    # the roots of D4: permutations of (+-1, +-1, 0, 0) / sqrt(2)
    side = float(rounded_quotients(1, 2))
    return np.array(_signed([side, side, 0.0, 0.0], even_only=False))


def _cell_600() -> Rows:
    # the icosians: 8 units, 16 halves and the even permutations of (+-phi, +-1, +-1/phi, 0) / 2
    with flint.ctx.workprec(_BITS):
        phi = _golden()
        large, small = _nearest(phi / 2), _nearest(1 / (2 * phi))
    return np.array(
        _signed([1.0, 0.0, 0.0, 0.0], even_only=False)
        + _signed([0.5] * 4, even_only=False)
        + _signed([large, 0.5, small, 0.0], even_only=True)
    )


def _cosine(expression: Callable[[], flint.arb]) -> float:
    with flint.ctx.workprec(_BITS):
        return _nearest(expression())


def _antiprism_cosine() -> flint.arb:
    return (2 * flint.arb(2).sqrt() - 1) / 7


def _snub_cube_cosine() -> flint.arb:
    # neighbours (1, 1/t, t) and (1/t, t, 1), whose inner product is t + 1 + 1/t = t^2
    t = _tribonacci()
    return t**2 / (1 + 1 / t**2 + t**2)


_COXETER = 'Coxeter, "Regular Polytopes" (1948)'
_SCHUETTE = 'Schuette and van der Waerden, "Auf welcher Kugel haben 5, 6, 7, 8 oder 9 Punkte Platz?" (1951)'

_CODES = (
    ("square-antiprism", 8, 3, _antiprism_cosine, "(2 sqrt 2 - 1)/7", _SCHUETTE, _square_antiprism),
    ("triaugmented-prism", 9, 3, lambda: flint.arb(1) / 3, "1/3", _SCHUETTE, _triaugmented_prism),
    ("icosahedron", 12, 3, lambda: 1 / flint.arb(5).sqrt(), "1/sqrt 5", _COXETER, _icosahedron),
    (
        "snub-cube",
        24,
        3,
        _snub_cube_cosine,
        "t^2/(t^2 + 1 + 1/t^2) with t^3 = t^2 + t + 1",
        'Robinson, "Arrangement of 24 points on a sphere" (1961)',
        _snub_cube,
    ),
    ("24-cell", 24, 4, lambda: flint.arb(0.5), "1/2", _COXETER, _cell_24),
    ("600-cell", 120, 4, lambda: _golden() / 2, "(1 + sqrt 5)/4", _COXETER, _cell_600),
)


def constructions(d: int) -> list[Construction]:
    """The polytopes in dimension d, not built.

    The square antiprism, the triaugmented triangular prism, the icosahedron and the snub cube (d = 3), the 24-cell
    and the 600-cell (d = 4). For each of them it is proved that no code of its size has a smaller largest cosine.

    References
    ----------
    Schuette and van der Waerden, "Auf welcher Kugel haben 5, 6, 7, 8 oder 9 Punkte mit Mindestabstand Eins Platz?"
    (1951).
    Robinson, "Arrangement of 24 points on a sphere" (1961).
    Coxeter, "Regular Polytopes" (1948), for the coordinates of the others.
    De Laat, Leijenhorst and de Muinck Keizer, "Optimality and uniqueness of the D4 root system" (2024).
    Boeroeczky, "Packing of spheres in spaces of constant curvature" (1978). These two prove optimality of the last two.

    Examples
    --------
    >>> [(code.name, code.K, code.formula) for code in constructions(4)]
    [('24-cell', 24, '1/2'), ('600-cell', 120, '(1 + sqrt 5)/4')]
    """
    return [
        Construction(name, K, n, _cosine(cosine), formula, source, build)
        for name, K, n, cosine, formula, source, build in _CODES
        if n == d
    ]
