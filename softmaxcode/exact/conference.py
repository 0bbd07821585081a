"""Codes of conference matrices: equiangular lines of Paley graphs, and conference matrices with the axes."""

from __future__ import annotations

import functools
import math
from fractions import Fraction
from typing import TYPE_CHECKING

import flint
import numpy as np

from softmaxcode.exact.construction import Construction, rounded_quotients
from softmaxcode.exact.finite_fields import finite_field, prime_power

if TYPE_CHECKING:
    from collections.abc import Callable

    from softmaxcode.types import Rows


def nearest(number: Callable[[], flint.arb]) -> float:
    """The float64 nearest to a real number given as a ball, evaluated to more bits until that is decided.

    Examples
    --------
    >>> nearest(lambda: flint.arb(2).sqrt())
    1.4142135623730951
    """
    bits = 128
    while True:
        with flint.ctx.workprec(bits):
            ends = []
            for end in (number().lower(), number().upper()):
                mantissa, exponent = (int(part) for part in end.man_exp())
                # a fraction of integers is rounded once
                ends.append(float(mantissa * Fraction(2) ** exponent))
        if ends[0] == ends[1]:
            return ends[0]
        bits *= 2


def rounded_cosines(scale: int, order: int, q: int) -> np.ndarray:
    """The float64 nearest to scale cos(2 pi k/order) / sqrt(q) for k = 0 .. order - 1, shape (order,).

    Examples
    --------
    >>> rounded_cosines(1, 4, 4).tolist()
    [0.5, 0.0, -0.5, 0.0]
    """

    def number(k: int) -> flint.arb:
        return scale * flint.arb.cos_pi_fmpq(flint.fmpq(2 * k, order)) / flint.arb(q).sqrt()

    # cos_pi_fmpq is exact where the cosine is 0, so that even there the ball has one rounding
    return np.array([nearest(functools.partial(number, k)) for k in range(order)]) + 0.0


def paley_conference(q: int) -> np.ndarray:
    """Paley's conference matrix of order q + 1: zero diagonal, others +-1, C C^T = q I.

    C is symmetric for q = 1 mod 4 and skew for q = 3 mod 4. Entry (x, y) is the quadratic character of x - y, and
    row 0 stands for infinity.

    Parameters
    ----------
    q : int
        A power of an odd prime.

    Examples
    --------
    >>> paley_conference(3)
    array([[ 0,  1,  1,  1],
           [-1,  0, -1,  1],
           [-1,  1,  0, -1],
           [-1, -1,  1,  0]])
    """
    F = finite_field(q)
    x = np.arange(q)
    C = np.zeros((q + 1, q + 1), dtype=np.int64)
    C[0, 1:] = 1
    C[1:, 0] = F.quadratic_character(F.negative(1))
    C[1:, 1:] = F.quadratic_character(F.add(x[:, None], F.negative(x)))
    return C


def _lines(q: int) -> Rows:
    # The eigenspace of C has the characters psi_b, b a square, and one vector fixed by translations. If b and -b are
    # both squares, they give a cosine and a sine.
    F = finite_field(q)
    squares = F.exp[0 : q - 1 : 2]
    half = squares[squares < F.negative(squares)]
    phase = F.trace(F.multiply(np.arange(q)[:, None], half))
    cosines = rounded_cosines(2, 4 * F.p, q)
    waves = np.hstack([cosines[4 * phase], cosines[(4 * phase - F.p) % (4 * F.p)]])
    points = np.column_stack([np.full(q, rounded_quotients(1, q)[()]), waves])
    infinity = np.eye(1, points.shape[1])
    upper = np.vstack([infinity, points])
    return np.vstack([upper, -upper])


def _with_axes(q: int) -> Rows:
    C, eye = paley_conference(q), np.eye(q + 1, dtype=np.int64)
    return np.vstack([eye, -eye, np.vstack([C, -C]) * rounded_quotients(1, q)])


def constructions(d: int) -> list[Construction]:
    """Codes of Paley's symmetric conference matrices in dimension exactly d.

    ``paley-lines`` exists if 2d - 1 is a prime power that is 1 mod 4. It is 2d equiangular lines: 4d vectors with
    cosines -1 and +-1/sqrt(2d - 1). ``conference`` exists if d - 1 is such a prime power. It is the axes and the rows
    of a matrix of order d, with their negatives. These are 4d vectors with cosines 0, -1 and +-1/sqrt(d - 1).

    Examples
    --------
    >>> [(c.name, c.K, c.formula) for d in (3, 5, 10) for c in constructions(d)]
    [('paley-lines(5)', 12, '1/sqrt(5)'), ('paley-lines(9)', 20, '1/3'), ('conference(9)', 40, '1/3')]
    """
    lines = (
        "paley-lines",
        2 * d - 1,
        _lines,
        "J. H. van Lint and J. J. Seidel, Equilateral point sets in elliptic geometry (1966)",
    )
    matrix = ("conference", d - 1, _with_axes, "R. E. A. C. Paley, On orthogonal matrices (1933)")
    return [
        Construction(
            name=f"{name}({q})",
            K=4 * d,
            d=d,
            max_cosine=float(rounded_quotients(1, q)),
            formula=root_formula(q),
            source=source,
            build=functools.partial(build, q),
        )
        for name, q, build, source in (lines, matrix)
        if q % 4 == 1 and prime_power(q)
    ]


def root_formula(q: int) -> str:
    """1/sqrt(q) as text.

    Examples
    --------
    >>> root_formula(9), root_formula(5)
    ('1/3', '1/sqrt(5)')
    """
    root = math.isqrt(q)
    return f"1/{root}" if root * root == q else f"1/sqrt({q})"
