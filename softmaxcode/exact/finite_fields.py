"""Arithmetic of the finite field GF(p^m), on arrays of integers 0 .. p^m - 1."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@dataclass(frozen=True, eq=False)
class FiniteField:
    """GF(q), q = p^m, with elements as integers.

    An element is c_0 + c_1 x + ... of GF(p)[x] modulo a primitive polynomial. It is stored as the integer
    c_0 + c_1 p + .... So 0 and 1 are themselves, and addition is XOR for p = 2.

    Attributes
    ----------
    p, m, q : int
        Characteristic, degree and size.
    exp : ndarray, shape (2q - 2,), int
        Powers of the primitive element x (two periods, so that a sum of two logarithms is an index).
    log : ndarray, shape (q,), int
        Its inverse; log[0] is undefined.
    """

    p: int
    m: int
    q: int
    exp: np.ndarray
    log: np.ndarray

    def digits(self, a: ArrayLike) -> np.ndarray:
        """Coefficients of every element, shape (..., m)."""
        return np.asarray(a)[..., None] // self.p ** np.arange(self.m) % self.p

    def add(self, a: ArrayLike, b: ArrayLike) -> np.ndarray:
        """a + b, elementwise."""
        if self.p == 2:
            return np.bitwise_xor(a, b)
        return (self.digits(a) + self.digits(b)) % self.p @ self.p ** np.arange(self.m)

    def negative(self, a: ArrayLike) -> np.ndarray:
        """-a, elementwise."""
        return -self.digits(a) % self.p @ self.p ** np.arange(self.m)

    def multiply(self, a: ArrayLike, b: ArrayLike) -> np.ndarray:
        """a b, elementwise."""
        a, b = np.asarray(a), np.asarray(b)
        return np.where((a == 0) | (b == 0), 0, self.exp[self.log[a] + self.log[b]])

    def power(self, a: ArrayLike, n: int) -> np.ndarray:
        """a^n for n >= 1, elementwise."""
        a = np.asarray(a)
        return np.where(a == 0, 0, self.exp[self.log[a] * n % (self.q - 1)])

    def trace(self, a: ArrayLike) -> np.ndarray:
        """a + a^p + ... + a^(p^(m-1)), an integer 0 .. p - 1, elementwise."""
        a = np.asarray(a)
        total = a
        for i in range(1, self.m):
            total = self.add(total, self.power(a, self.p**i))
        return total

    def quadratic_character(self, a: ArrayLike) -> np.ndarray:
        """1 for a square, -1 for a non-square, 0 for zero; q odd; elementwise."""
        a = np.asarray(a)
        return np.where(a == 0, 0, 1 - 2 * (self.log[a] % 2))


def prime_power(q: int) -> tuple[int, int] | None:
    """(p, m) with q = p^m and p prime, or None.

    Examples
    --------
    >>> prime_power(27), prime_power(12)
    ((3, 3), None)
    """
    if q < 2:
        return None
    p = next((f for f in range(2, int(q**0.5) + 2) if q % f == 0), q)
    m = 0
    while q % p == 0:
        q //= p
        m += 1
    return (p, m) if q == 1 else None


def _powers(p: int, m: int, low: list[int]) -> list[int] | None:
    """Powers of x modulo x^m - low(x) over GF(p), as integers, if there are p^m - 1 of them."""
    out = [1]
    digits = [1] + [0] * (m - 1)
    while True:
        digits = [(c + digits[-1] * f) % p for c, f in zip([0, *digits[:-1]], low, strict=True)]
        value = sum(c * p**i for i, c in enumerate(digits))
        if value == 1:
            break
        out.append(value)
    return out if len(out) == p**m - 1 else None


@functools.lru_cache(maxsize=8)
def finite_field(q: int) -> FiniteField:
    """GF(q), by the first primitive polynomial in the order of its coefficients.

    If x has q - 1 powers modulo a polynomial, all non-zero residues are units, so the polynomial is irreducible.

    Raises
    ------
    ValueError
        If q is not a power of a prime.

    Examples
    --------
    >>> F = finite_field(8)
    >>> F.multiply(F.exp[3], F.exp[6]) == F.exp[2]
    np.True_
    >>> F.trace(range(8)).sum()
    np.int64(4)
    """
    parts = prime_power(q)
    if parts is None:
        raise ValueError(f"q must be a power of a prime; got {q!r}")
    p, m = parts
    # with a constant term of zero the powers of x could enter a cycle without 1
    lows = ([code // p**i % p for i in range(m)] for code in range(q) if code % p)
    powers = next(found for low in lows if (found := _powers(p, m, low)) is not None)
    log = np.zeros(q, dtype=np.int64)
    log[powers] = np.arange(q - 1)
    return FiniteField(p, m, q, np.array(powers * 2, dtype=np.int64), log)
