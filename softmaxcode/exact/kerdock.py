"""Unions of cosets of the first-order Reed-Muller code, with bits as signs; Kerdock's and Delsarte and Goethals's.

A coset consists of one function F_2^n -> F_2 plus every affine one. With 0 and 1 as +-2^(-n/2), its codewords are an
orthonormal basis of R^(2^n) and its negative. So a union of cosets is a union of orthonormal bases.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from softmaxcode.exact.construction import Construction, rounded_quotients
from softmaxcode.exact.finite_fields import finite_field

if TYPE_CHECKING:
    from collections.abc import Callable

    from softmaxcode.types import Rows

#: The largest dimension offered; beyond it tables of the field would fill the memory.
MAX_BITS = 16
#: Entries built at once.
_TILE = 1 << 22


def _build(rows: Callable[[np.ndarray], Rows], K: int) -> Rows:
    return rows(np.arange(K))


def parity(a: np.ndarray) -> np.ndarray:
    """Parity of the binary digits of integers 0 .. 2^32 - 1, as 0 or 1."""
    a = np.asarray(a, dtype=np.uint32)
    for shift in (16, 8, 4, 2, 1):
        a = a ^ (a >> shift)
    return (a & 1).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class CosetUnion:
    """Functions on F_2^bits whose pairwise differences are not affine.

    Attributes
    ----------
    name, source : str
        As in `Construction`.
    bits : int
        Number of variables; the dimension is 2^bits.
    cosets : int
        Number of functions.
    peak : int
        The largest sum of (-1)^(f + g + affine) over F_2^bits, f and g any two of the functions.
    functions : callable
        Maps indices of functions, shape (n,), to their values, shape (n, 2^bits), 0 or 1, with value 0 at 0.
    """

    name: str
    source: str
    bits: int
    cosets: int
    peak: int
    functions: Callable[[np.ndarray], np.ndarray]

    def construction(self, shortened: int = 0) -> Construction:
        """The code, or a shortened one in fewer dimensions.

        Rows come basis by basis: for each function the 2^bits codewords f + linear, then their negatives. The code
        shortened s times consists of the codewords that are 0 at s given places, with these places removed. It has
        2^(bits + 1 - s) codewords of each coset, since the places are affinely independent. All are in R^(2^bits - s),
        so a sum of peak becomes one of peak - s. The 2d vectors of the axes and their negatives come last, if they do
        not increase the largest cosine.

        Parameters
        ----------
        shortened : int
            Number of places, at most bits + 1.
        """
        d = 2**self.bits - shortened
        top = self.peak - shortened
        codewords = self.cosets * 2 ** (self.bits + 1 - shortened)
        axes = 2 * d if top * top >= d else 0
        rows = functools.partial(self._rows, shortened, codewords, axes)
        return Construction(
            name=f"{self.name} shortened {shortened}" if shortened else self.name,
            K=codewords + axes,
            d=d,
            max_cosine=top / d,
            formula=str(Fraction(top, d)),
            source=self.source,
            build=functools.partial(_build, rows, codewords + axes),
            rows=rows,
        )

    def _rows(self, shortened: int, codewords: int, axes: int, indices: np.ndarray) -> Rows:
        indices = np.asarray(indices, dtype=np.int64)
        d = 2**self.bits - shortened
        if ((indices < 0) | (indices >= codewords + axes)).any():
            raise IndexError(f"rows of {self.name} must have indices 0 .. K - 1")
        out = np.zeros((len(indices), d))
        step = max(1, _TILE // d)
        for start in range(0, len(indices), step):
            part = indices[start : start + step]
            tile = out[start : start + step]
            is_codeword = part < codewords
            tile[is_codeword] = self._codewords(shortened, part[is_codeword])
            axis = part[~is_codeword] - codewords
            tile[np.flatnonzero(~is_codeword), axis % d] = np.where(axis < d, 1.0, -1.0)
        return out

    def _codewords(self, shortened: int, indices: np.ndarray) -> Rows:
        size = 2**self.bits
        which, within = np.divmod(indices, 2 ** (self.bits + 1 - shortened))
        used, which = np.unique(which, return_inverse=True)
        values = self.functions(used).astype(np.uint8)
        if shortened:
            # zero at 0 means no constant; zero at 2^i decides bit i of the linear part
            fixed = 2 ** np.arange(shortened - 1)
            linear = (within << (shortened - 1)) + (values[:, fixed] @ fixed)[which]
            sign = np.zeros_like(within)
        else:
            sign, linear = np.divmod(within, size)
            fixed = np.arange(0)
        kept = np.delete(np.arange(size), [0, *fixed] if shortened else [])
        bits = parity(linear[:, None].astype(np.uint32) & kept.astype(np.uint32))
        bits ^= values[np.ix_(which, kept)] ^ sign[:, None].astype(np.uint8)
        unit = rounded_quotients(1, len(kept))[()]
        return np.array([unit, -unit])[bits]

    def constructions(self, d: int) -> list[Construction]:
        """The code if it has dimension d; otherwise its shortened code of dimension d, if that is good enough."""
        shortened = 2**self.bits - d
        # the union has strength 5 (its dual has distance 6), so any five places may be chosen
        if not 0 <= shortened <= min(5, self.peak - 1, self.bits + 1):
            return []
        code = self.construction(shortened)
        return [code] if code.K > 2 * d else []


def _functions(N: int, r: int, numbers: np.ndarray) -> np.ndarray:
    """Kerdock's functions plus those of Delsarte and Goethals on GF(2^N) + F_2, shape (n, 2^(N + 1))."""
    F = finite_field(2**N)
    x = np.arange(F.q)
    trace = F.trace(x).astype(np.uint8)

    def gold(i: int) -> np.ndarray:
        return F.power(x, 1 + 2**i)

    a, higher = numbers % F.q, numbers // F.q
    kerdock = functools.reduce(np.bitwise_xor, (trace[gold(i)] for i in range(1, (N - 1) // 2 + 1)), 0 * trace)
    product = F.multiply(a[:, None], x)
    at_0 = kerdock[product]
    for i in range(1, r):
        b, higher = higher % F.q, higher // F.q
        at_0 ^= trace[F.multiply(b[:, None], gold(i))]
    return np.hstack([at_0, at_0 ^ trace[product]])


def kerdock(bits: int, r: int = 1) -> CosetUnion:
    """Kerdock's set of quadratic forms (r = 1), or the larger one of Delsarte and Goethals.

    With F = GF(2^N), N = bits - 1 odd, the functions on F + F_2 are

        f(x, e) = sum over i = 1 .. (N - 1)/2 of Tr((a x)^(1 + 2^i)) + e Tr(a x)
                + sum over i = 1 .. r - 1 of Tr(b_i x^(1 + 2^i)),   a and the b_i any elements of F.

    The alternating forms of two of them differ by a form of rank at least bits - 2 (r - 1). So the sums are at most
    2^(bits/2 + r - 1).

    Parameters
    ----------
    bits : int
        Even, at least 2.
    r : int
        1 .. bits/2.

    References
    ----------
    Kerdock, "A class of low-rate nonlinear binary codes" (1972).
    Delsarte and Goethals, "Alternating bilinear forms over GF(q)" (1975).
    MacWilliams and Sloane, "The Theory of Error-Correcting Codes" (1977), chapter 15.
    Calderbank, Cameron, Kantor and Seidel, "Z4-Kerdock codes, orthogonal spreads, and extremal Euclidean line-sets"
    (1997).

    Examples
    --------
    >>> code = kerdock(2).construction()
    >>> code.K, code.d, code.max_cosine
    (24, 4, 0.5)
    """
    N = bits - 1
    name = f"kerdock({2**bits})" if r == 1 else f"delsarte-goethals({2**bits}, {r})"
    source = (
        "A. M. Kerdock, A class of low-rate nonlinear binary codes (1972); A. R. Calderbank, P. J. Cameron, "
        "W. M. Kantor and J. J. Seidel, Z4-Kerdock codes, orthogonal spreads, and extremal Euclidean line-sets (1997)"
        if r == 1
        else "P. Delsarte and J.-M. Goethals, Alternating bilinear forms over GF(q) (1975)"
    )
    functions = functools.partial(_functions, N, r)
    return CosetUnion(name, source, bits, 2 ** (N * r), 2 ** (bits // 2 + r - 1), functions)


def constructions(d: int) -> list[Construction]:
    """The Kerdock and Delsarte-Goethals codes of dimension exactly d, shortened ones included.

    In d = 4^m the Kerdock code consists of d/2 + 1 orthonormal bases and their negatives. These are d^2 + 2d vectors
    with cosines 0, -1 and +-1/sqrt(d).

    Examples
    --------
    >>> [(c.name, c.K, c.formula) for c in constructions(15)[:1]]
    [('kerdock(16) shortened 1', 128, '1/5')]
    >>> constructions(64)[0].K
    4224
    """
    bits = max(1, (d - 1).bit_length())
    if bits % 2 or bits > MAX_BITS:
        return []
    # r = bits/2 gives every quadratic form; numbers of rows have to fit in int64
    orders = [r for r in range(1, bits // 2 + 1) if (bits - 1) * r + bits + 1 < 63]
    return [code for r in orders if 2 ** (bits // 2 + r) <= 2**bits for code in kerdock(bits, r).constructions(d)]
