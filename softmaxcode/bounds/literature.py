"""Optima proved in the literature, beyond the closed forms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import flint

from softmaxcode.bounds.bound import Bound
from softmaxcode.bounds.rounding import rational

if TYPE_CHECKING:
    from collections.abc import Sequence


def _root_below(coefficients: Sequence[int], low: float, high: float) -> float:
    """The largest float not above the root of an integer polynomial (ascending) that changes sign on [low, high]."""
    p = flint.fmpq_poly(list(coefficients))
    sign = 1 if p(rational(low)) > 0 else -1
    while True:
        middle = (low + high) / 2
        if middle in (low, high):
            return low
        value = sign * p(rational(middle))
        if value == 0:
            return middle
        low, high = (middle, high) if value > 0 else (low, middle)


_SCHUETTE = (
    "K. Schuette, B. L. van der Waerden, Auf welcher Kugel haben 5, 6, 7, 8 oder 9 Punkte mit Mindestabstand Eins "
    "Platz?, Math. Ann. 123 (1951) 96-124"
)

_DANZER = (
    "L. Danzer, Finite point-sets on S^2 with minimum distance as large as possible, Discrete Math. 60 (1986) 3-66 "
    "(Habilitationsschrift 1963)"
)

_FEJES_TOTH = (
    "L. Fejes Toth, Ueber eine Abschaetzung des kuerzesten Abstandes zweier Punkte eines auf einer Kugelflaeche "
    "liegenden Punktsystems, Jber. Deutsch. Math.-Verein. 53 (1943) 66-68"
)

_BACHOC = (
    "C. Bachoc, F. Vallentin, Optimality and uniqueness of the (4,10,1/6) spherical code, J. Combin. Theory Ser. A "
    "116 (2009) 195-204"
)

_COHN = (
    "H. Cohn, D. de Laat, N. Leijenhorst, Optimality of spherical codes via exact semidefinite programming bounds, "
    "arXiv 2403.16874 (2024)"
)

#: mu* as an algebraic number: integer coefficients, constant term first, of a polynomial, and an interval in which
#: mu* is its only root.
_ALGEBRAIC: dict[tuple[int, int], tuple[tuple[int, ...], float, float, str]] = {
    (7, 3): ((-1, 3, 9, -3), 0.2, 0.22, _SCHUETTE),
    (8, 3): ((1, -2, -7), 0.25, 0.27, _SCHUETTE),
    (9, 3): ((1, -3), 0.3, 0.35, _SCHUETTE),
    (10, 3): ((1, -2, -4, 7), 0.4, 0.41, _DANZER),
    (11, 3): ((1, 0, -5), 0.44, 0.45, _DANZER),
    (12, 3): ((1, 0, -5), 0.44, 0.45, _FEJES_TOTH),
    (13, 3): (
        (1, -8, -12, 24, 38, 8, -12, -24, 1),
        0.54,
        0.55,
        "O. R. Musin, A. S. Tarasov, The strong thirteen spheres problem, Discrete Comput. Geom. 48 (2012) 128-141",
    ),
    (14, 3): (
        (-1, 0, 3, -2, 4),
        0.56,
        0.57,
        "O. R. Musin, A. S. Tarasov, The Tammes problem for N = 14, Experimental Math. 24 (2015) 460-468",
    ),
    (24, 3): (
        (-1, -3, 1, 7),
        0.72,
        0.73,
        "R. M. Robinson, Arrangement of 24 points on a sphere, Math. Ann. 144 (1961) 17-48 (the snub cube)",
    ),
    (10, 4): (
        (1, -6),
        0.16,
        0.17,
        _BACHOC,
    ),
    (24, 4): (
        (1, -2),
        0.4,
        0.6,
        "D. de Laat, N. Leijenhorst, W. H. H. de Muinck Keizer, Optimality and uniqueness of the D4 root system, "
        "arXiv 2404.18794 (2024)",
    ),
    (56, 20): ((1, -15), 0.06, 0.07, f"{_COHN} (the Gewirtz graph)"),
    (50, 21): ((1, -21), 0.04, 0.05, f"{_COHN} (the Hoffman-Singleton graph)"),
    (77, 21): ((1, -12), 0.08, 0.09, f"{_COHN} (the M22 graph)"),
    **{  # 2^(2k-1) + 1 mutually unbiased bases of R^(2^2k) with their opposites
        (4 ** (2 * k) + 2 ** (2 * k + 1), 4**k): ((1, -(2**k)), 0.9 / 2**k, 1.1 / 2**k, f"{_COHN} (Kerdock, k = {k})")
        for k in range(2, 6)
    },
}

#: Values of mu*(K, d) proved in the literature, keyed by (K, d), beyond the closed forms of `rankin`. Each is the
#: largest float64 not above the algebraic number.
LITERATURE: dict[tuple[int, int], Bound] = {
    pair: Bound(_root_below(p, low, high), "literature", True, citation, exact=True)
    for pair, (p, low, high, citation) in _ALGEBRAIC.items()
}
