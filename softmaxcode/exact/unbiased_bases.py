"""Mutually unbiased bases of C^n, n an odd prime power, times roots of unity, as vectors of R^(2n)."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import flint
import numpy as np

from softmaxcode.exact.conference import nearest, root_formula, rounded_cosines
from softmaxcode.exact.construction import Construction
from softmaxcode.exact.finite_fields import finite_field, prime_power

if TYPE_CHECKING:
    from softmaxcode.types import Rows

_SOURCE = (
    "W. K. Wootters and B. D. Fields, Optimal state-determination by mutually unbiased measurements (1989), times "
    "roots of unity"
)


@functools.lru_cache(maxsize=8)
def _cosines(turn: int, n: int) -> np.ndarray:
    """cos(2 pi j/turn)/sqrt(n) for every j, rounded to nearest."""
    return rounded_cosines(1, turn, n)


def _rows(n: int, units: int, indices: np.ndarray) -> Rows:
    """Rows of the code: the axes, then the other bases; of each vector its multiples by the roots of unity."""
    F = finite_field(n)
    every = np.arange(n)
    turn = math.lcm(4, F.p, units)
    unit = np.arange(units) * (turn // units)
    W = np.zeros((len(indices), 2 * n))
    # for n = 3 mod 4 the axes are rotated by a right angle: see `_turn`
    start = turn // 4 if n % 4 == 3 else 0
    whole = _cosines(turn, 1)
    own = np.flatnonzero(indices < n * units)
    axis, u = np.divmod(indices[own], units)
    W[own, axis] = whole[(unit[u] + start) % turn]
    W[own, axis + n] = whole[(unit[u] + start - turn // 4) % turn]
    others = np.flatnonzero(indices >= n * units)
    vector, u = np.divmod(indices[others] - n * units, units)
    a, b = np.divmod(vector, n)
    trace = F.trace(every) * (turn // F.p)  # additive: the trace of a x^2 + b x is that of both terms
    squares, lines = trace[F.multiply(every[:, None], F.power(every, 2))], trace[F.multiply(every[:, None], every)]
    phase = (squares[a] + lines[b] + unit[u][:, None]) % turn
    cosines = _cosines(turn, n)
    W[others, :n] = cosines[phase]
    W[others, n:] = cosines[(phase - turn // 4) % turn]
    return W


def _turn(n: int, p: int, units: int) -> int:
    """m such that the largest cosine across bases is cos(pi/m)/sqrt(n); 0 if it is 1/sqrt(n).

    The inner product of two vectors of different bases is a Gauss sum over n. It is a p-th root of unity times a unit
    times a factor. The factor is +-1/sqrt(n) for n = 1 mod 4 and +-i/sqrt(n) for n = 3 mod 4 (both signs occur). So for
    n = 1 mod 4 the phases include 1. For n = 3 mod 4 they are i times the roots of unity of order L = lcm(2, p, units).
    These include 1 only if 4 | L, and otherwise differ from 1 by at least pi/L. With the axes the phases are the p-th
    roots times units. After a rotation of the axes by a right angle they are among those above.
    """
    order = math.lcm(2, p, units)
    return 0 if n % 4 == 1 or order % 4 == 0 else order


def _code(n: int, p: int, units: int) -> Construction:
    m = _turn(n, p, units)

    def across() -> flint.arb:
        cosine = flint.arb.cos_pi_fmpq(flint.fmpq(1, m)) if m else flint.arb(1)
        return cosine / flint.arb(n).sqrt()

    K = units * n * (n + 1)
    rows = functools.partial(_rows, n, units)
    return Construction(
        name=f"complex-bases({n}, {units})",
        K=K,
        d=2 * n,
        max_cosine=nearest(across),
        formula=root_formula(n) if m == 0 else f"cos(pi/{m})/sqrt({n})",
        source=_SOURCE,
        build=lambda: rows(np.arange(K)),
        rows=rows,
    )


def constructions(d: int) -> list[Construction]:
    """The codes of n + 1 unbiased bases of C^n, d = 2n, times the roots of 1 of order 3, 4, 5 or 6.

    Among themselves the roots of order r have the cosine cos(2 pi/r). Only orders r for which it is no larger than the
    cosine across bases are considered, and only if no larger order does as well. The code has r n (n + 1) vectors. Its
    largest cosine is at most 1/sqrt(n); it is sqrt(3/n)/2 for n = 3, 27, ... and r = 3 or 6.

    Examples
    --------
    >>> [(c.name, c.K, c.formula) for d in (6, 10) for c in constructions(d)]
    [('complex-bases(3, 6)', 72, 'cos(pi/6)/sqrt(3)'), ('complex-bases(5, 5)', 150, '1/sqrt(5)')]
    """
    n, odd = divmod(d, 2)
    parts = prime_power(n)
    if odd or n % 2 == 0 or parts is None:
        return []
    codes: list[Construction] = []
    for units in (6, 5, 4, 3):
        # equal only for units = 6, n = 3: both are 1/2, and cos(2 pi/5) is no square root
        own = {6: 0.5, 5: math.cos(0.4 * math.pi), 4: 0.0, 3: -0.5}[units]
        code = _code(n, parts[0], units)
        if own <= code.max_cosine and all(code.max_cosine < other.max_cosine for other in codes):
            codes.append(code)
    return codes
