"""Duals of extended BCH codes, with bits as signs."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from softmaxcode.exact.finite_fields import finite_field
from softmaxcode.exact.kerdock import MAX_BITS, CosetUnion

if TYPE_CHECKING:
    from softmaxcode.exact.construction import Construction


def _functions(m: int, t: int, numbers: np.ndarray) -> np.ndarray:
    F = finite_field(2**m)
    x = np.arange(F.q)
    trace = F.trace(x).astype(np.uint8)
    values = np.zeros((len(numbers), F.q), dtype=np.uint8)
    for i in range(1, t):
        b, numbers = numbers % F.q, numbers // F.q
        values ^= trace[F.multiply(b[:, None], F.power(x, 1 + 2**i))]
    return values


def bch_dual(m: int, t: int = 2) -> CosetUnion:
    """The dual of the extended BCH code of length 2^m that corrects t = 2 or 3 errors.

    Its codewords are Tr(b_1 x^3 + b_2 x^5 + c x) + e on GF(2^m), with b_2 only for t = 3. The alternating form of such
    a codeword has as radical the roots of a linearised polynomial of degree at most 4^(t - 1). Its rank is even. So
    the radical has dimension r at most 2t - 3 for odd m and 2t - 2 for even m. A sum of signs is then at most
    2^((m + r)/2). The weight distributions show that this is attained.

    Parameters
    ----------
    m : int
        At least 3 for t = 2, 5 for t = 3.
    t : int
        2 or 3.

    References
    ----------
    MacWilliams and Sloane, "The Theory of Error-Correcting Codes" (1977), chapters 15 and 21.

    Examples
    --------
    >>> code = bch_dual(9).construction()
    >>> code.K, code.d, code.max_cosine
    (525312, 512, 0.0625)
    >>> code.rows([0, 524287]).shape
    (2, 512)
    """
    radical = 2 * t - 3 if m % 2 else 2 * t - 2
    return CosetUnion(
        name=f"bch-dual({m})" if t == 2 else f"bch-dual({m}, {t})",
        source="F. J. MacWilliams and N. J. A. Sloane, The Theory of Error-Correcting Codes (1977), chapters 15 and 21",
        bits=m,
        cosets=2 ** (m * (t - 1)),
        peak=2 ** ((m + radical) // 2),
        functions=functools.partial(_functions, m, t),
    )


def constructions(d: int) -> list[Construction]:
    """The duals of extended BCH codes of dimension exactly d, shortened ones included.

    For d = 2^m and t = 2 there are 2 d^2 codewords and the axes. The largest cosine is sqrt(2/d) for odd m and
    2/sqrt(d) for even m.

    Examples
    --------
    >>> [(c.name, c.K, c.formula) for c in constructions(32)]
    [('bch-dual(5)', 2112, '1/4'), ('bch-dual(5, 3)', 65600, '1/2')]
    >>> [(c.name, c.K, c.formula) for c in constructions(28)]
    [('bch-dual(5) shortened 4', 128, '1/7'), ('bch-dual(5, 3) shortened 4', 4152, '3/7')]
    """
    m = max(1, (d - 1).bit_length())
    if not 3 <= m <= MAX_BITS:
        return []
    # offered up to a sum of signs of half the length: beyond it every quadratic form is allowed
    unions = [bch_dual(m, t) for t in (2, 3)]
    return [code for union in unions if 2 * union.peak <= 2**m for code in union.constructions(d)]
