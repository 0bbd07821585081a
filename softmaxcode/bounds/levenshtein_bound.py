"""Levenshtein's bound, decided in ball arithmetic."""

from __future__ import annotations

import functools
import math
from typing import Any

import flint

from softmaxcode.bounds.bound import Bound
from softmaxcode.bounds.rounding import BITS, rational
from softmaxcode.bounds.simple import rankin
from softmaxcode.checks.arguments import check_integer, check_number, check_pair


class _UndecidedError(ArithmeticError):
    """Raised when two balls overlap and the comparison is undecided."""


def _greater(a: Any, b: Any) -> bool:
    """Whether a > b, for rationals or balls; raises where balls overlap."""
    if a > b:
        return True
    if a <= b:
        return False
    raise _UndecidedError


def _levenshtein_at(s: Any, d: int, last_order: int, settle: bool = False) -> tuple[int, Any] | None:
    """Order and value of Levenshtein's function at s (a rational or a ball), or None beyond ``last_order``.

    Let G_k be the normalised Gegenbauer polynomials. The adjacent Jacobi polynomials are
    P_k^{1,0} ~ (G_k - G_{k+1})/(1 - t) and P_k^{1,1} ~ (G_k - G_{k+2})/(1 - t^2), with positive factors. Their
    largest zeros are ordered t_{k-1}^{1,1} < t_k^{1,0} < t_k^{1,1}. Their second largest zeros lie below
    t_{k-1}^{1,1}. So as k increases, the first sign found decides the interval that contains s.
    ``settle`` treats an undecided sign as a zero: there the two neighbouring formulas agree.
    """
    # G_k, G_{k+1} and G_{k+2} of the first pass
    here = s
    after = (d * s * s - 1) / (d - 1)
    before = s * 0 + 1
    for k in range(1, last_order // 2 + 2):
        then = ((2 * k + d) * s * after - (k + 1) * here) / (k + d - 1)
        try:
            odd = _greater(after, here)
            even = not odd and _greater(then, here)
        except _UndecidedError:
            if not settle:
                raise
            odd = not (after <= here)
            even = not odd
        if odd:
            value = (2 * k + d - 3) / flint.fmpq(d - 1) - (before - here) / ((1 - s) * here)
            return 2 * k - 1, math.comb(k + d - 3, k - 1) * value
        if even:
            value = (2 * k + d - 1) / flint.fmpq(d - 1) - (1 + s) * (here - after) / ((1 - s) * (here + after))
            return 2 * k, math.comb(k + d - 2, k) * value
        before, here, after = here, after, then
    return None


def _levenshtein_on_circle(s: float) -> float:
    """Levenshtein's function for d = 2: G_k(cos t) = cos(k t), and order m covers m + 1 <= 2 pi/t <= m + 2."""
    with flint.ctx.workprec(BITS):
        t = flint.arb(s).acos()
        order = max(1, int(2 * math.pi / float(t)) - 1)
        k = (order + 1) // 2
        here, after = (k * t).cos(), ((k + 1) * t).cos()
        if order % 2:
            before = ((k - 1) * t).cos()
            return float(2 * k - 1 - (before - here) / ((1 - flint.arb(s)) * here))
        return float(2 * k + 1 - (1 + flint.arb(s)) * (here - after) / ((1 - flint.arb(s)) * (here + after)))


def levenshtein_size(s: float, d: int) -> float:
    r"""Levenshtein's upper bound on the number of points of S^{d-1} with all cosines at most s.

    With normalised Gegenbauer polynomials G_k,

    .. math::
        L_{2k-1}(s) &= \binom{k+d-3}{k-1} \left[\frac{2k+d-3}{d-1} - \frac{G_{k-1}(s)-G_k(s)}{(1-s) G_k(s)}\right],
        \quad t_{k-1}^{1,1} \le s \le t_k^{1,0}, \\
        L_{2k}(s) &= \binom{k+d-2}{k} \left[\frac{2k+d-1}{d-1}
        - \frac{(1+s)(G_k(s)-G_{k+1}(s))}{(1-s)(G_k(s)+G_{k+1}(s))}\right],
        \quad t_k^{1,0} \le s \le t_k^{1,1},

    where t_k^{a,b} is the largest zero of the Jacobi polynomial of degree k with parameters a + (d-3)/2 and
    b + (d-3)/2, and t_0^{1,1} = -1. The function is continuous and increasing in s.

    Parameters
    ----------
    s : float
        Largest cosine, -1 <= s < 1.
    d : int
        Dimension, at least 1.

    Returns
    -------
    float
        The bound at the exact value of the float s, rounded to the nearest float64; infinity where it exceeds the
        float64 range.

    Raises
    ------
    ValueError
        If s is not in [-1, 1), or d is not an integer of at least 1. Also if s is so near 1 that an order above
        24,000 would be needed (in three dimensions 1 - s < 5e-8).

    References
    ----------
    V. I. Levenshtein, Universal bounds for codes and designs, Handbook of Coding Theory (1998), ch. 6.

    Examples
    --------
    >>> levenshtein_size(0.5, 8), levenshtein_size(0.25, 6)
    (240.0, 27.0)
    """
    d = check_integer("d (the dimension)", d, 1)
    s = check_number("s (the largest cosine)", s, -1, 1, "[)")
    if d == 1:
        return 2.0
    if d == 2:
        return _levenshtein_on_circle(s)
    found = _levenshtein_at(rational(s), d, 40)
    reached = 40
    for order in (400, 4000, 24000):
        if found is not None:
            break
        if _design_size(d, reached + 1) > 2**1024:
            return math.inf
        # the error of the forward recurrence in balls grows like (1 + sqrt 2)^k, 1.3 bits per step
        with flint.ctx.workprec(BITS + order):
            found = _levenshtein_at(flint.arb(s), d, order, settle=True)
        reached = order
    if found is None:
        raise ValueError(f"s = {s!r} is too near 1 for dimension {d}: Levenshtein's bound needs an order above 24000")
    with flint.ctx.workprec(BITS):
        ball = flint.arb(found[1])
        # converting a ball beyond the float64 range gives different results on different platforms
        return math.inf if ball > flint.arb(2) ** 1023 else float(ball)


def _design_size(d: int, m: int) -> int:
    """The size D(d, m) of a tight spherical m-design (Delsarte, Goethals and Seidel), the first size of order m."""
    k = m // 2
    if m % 2:
        return 2 * math.comb(k + d - 1, d - 1)
    return math.comb(k + d - 1, d - 1) + math.comb(k + d - 2, d - 1)


def levenshtein_order(K: int, d: int) -> int:
    """The order m with D(d, m) <= K < D(d, m + 1): the formula whose values include K."""
    m = 1
    while _design_size(d, m + 1) <= K:
        m += 1
    return m


def levenshtein(K: int, d: int) -> Bound:
    """Levenshtein's lower bound on mu*(K, d): the s at which ``levenshtein_size(s, d)`` is K.

    The result is the largest float found at which the size is verified to be at most K. The check uses exact rational
    arithmetic for orders up to 100 and ball arithmetic above. Codes that meet the bound are Tammes optima.

    Parameters
    ----------
    K : int
        Number of points, at least 2.
    d : int
        Dimension, at least 1.

    Returns
    -------
    Bound

    Raises
    ------
    ValueError
        If K or d is not an integer in its range.

    References
    ----------
    V. I. Levenshtein, Universal bounds for codes and designs, Handbook of Coding Theory (1998), ch. 6.

    Examples
    --------
    >>> levenshtein(240, 8).value
    0.5
    >>> print(f"{levenshtein(275, 22).value:.15f}")
    0.166666666666667
    """
    K, d = check_pair(K, d)
    return levenshtein_bound(K, d)


@functools.lru_cache(maxsize=4096)
def levenshtein_bound(K: int, d: int) -> Bound:
    """Levenshtein's lower bound on mu*(K, d), rounded down."""
    if d <= 2:
        # on the circle D(2, m) = m + 1: K points sit at the left end of order K - 1, which is cos(2 pi/K)
        closed = rankin(K, d)
        return Bound(closed.value, "Levenshtein", True, "attained: " + closed.source)
    order = levenshtein_order(K, d)
    exact = order <= 100

    def at_most_K(s: float) -> bool:
        # rationals decide equality, which occurs for sharp codes with a dyadic cosine
        point = rational(s) if exact else flint.arb(s)
        try:
            found = _levenshtein_at(point, d, order)
        except _UndecidedError:
            return False
        return found is not None and (found[0] < order or (found[0] == order and bool(found[1] <= K)))

    with flint.ctx.workprec(BITS + order):
        low, high = -1.0, 1.0
        while high - low > 2.0**-60:
            middle = (low + high) / 2
            if middle in (low, high):
                break
            low, high = (middle, high) if at_most_K(middle) else (low, middle)
    return Bound(low, "Levenshtein", True, f"Levenshtein's bound of order {order}, inverted and verified")
