"""Lower bounds on mu*(K, d), the smallest possible largest cosine of K points on the unit sphere of R^d.

Four classical bounds (Rankin, Levenshtein, Delsarte's linear programme, cap volume), the optima proved in the
literature, and the bracket they give for the largest margin rho*(K, d). Every value with ``proved=True`` is a
float64 that has been checked, in exact rational or ball arithmetic, to lie at or below mu*: floating point
proposes, exact arithmetic disposes.
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import flint
import numpy as np
from scipy.optimize import linprog
from scipy.special import betaincinv

from softmaxcode.checks.arguments import check_flag, check_integer, check_number, check_pair

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "LITERATURE",
    "LP_DEGREE_LIMIT",
    "LP_DIMENSION_LIMIT",
    "LP_POINTS_LIMIT_3D",
    "Bound",
    "Bracket",
    "DelsarteCertificate",
    "VolumeBounds",
    "delsarte",
    "delsarte_certificate",
    "fejes_toth",
    "levenshtein",
    "levenshtein_size",
    "margin_bounds",
    "max_cosine_lower_bound",
    "rankin",
    "volume",
]

#: ``max_cosine_lower_bound`` leaves the linear programme out where its default degree would exceed this
#: (many points in few dimensions: from 2,660 on for d = 4), in more dimensions than the second constant says,
#: and for d = 3 above the number of points in the third, from where on Fejes Toth's bound is larger at that degree.
LP_DEGREE_LIMIT = 56
#: The largest degree of a linear programme that is asked for; one of this degree takes minutes.
MAX_DEGREE = 500
LP_DIMENSION_LIMIT = 64
LP_POINTS_LIMIT_3D = 200
#: Levenshtein's bound, whose order grows as the root of K for d = 3, is left to Fejes Toth's, which is larger there.
LEVENSHTEIN_POINTS_LIMIT_3D = 10**6

#: Working precision, in bits, of ball arithmetic where nothing else is said.
_BITS = 192


@dataclass(frozen=True)
class Bound:
    """A lower bound on mu*(K, d).

    Attributes
    ----------
    value : float
        The bound. Rounded down, so that the exact number this float stands for is at most mu*.
    method : str
        "closed form", "Rankin", "Levenshtein", "Delsarte LP", "volume", "Fejes Toth" or "literature".
    proved : bool
        Whether the value has been verified (or is a theorem of the literature evaluated rigorously).
    source : str
        Citation, or what the proof consists of, in a line.
    exact : bool
        Whether mu* itself is known: ``value`` is then the largest float64 not above it.
    """

    value: float
    method: str
    proved: bool
    source: str
    exact: bool = False


@dataclass(frozen=True)
class VolumeBounds:
    """What the volume of caps says: ``tammes`` bounds mu* from below, ``margin_lower`` bounds rho* from below."""

    tammes: Bound
    margin_lower: float


@dataclass(frozen=True)
class Bracket:
    """``lower`` <= rho*(K, d) <= ``upper``, both rounded outward, and how each was obtained."""

    lower: float
    upper: float
    lower_method: str
    upper_method: str


# --- rounding -------------------------------------------------------------------------------------------------


def _rational(x: float) -> flint.fmpq:
    """The exact rational value of a float."""
    return flint.fmpq(*float(x).as_integer_ratio())


def _float_below(x: flint.arb | flint.fmpq) -> float:
    """The largest float64 not above x (not above the lower end, where x is a ball)."""
    with flint.ctx.workprec(_BITS):
        # an exact number, so that these loops end after a step or two
        end = flint.arb(x).lower()
        value = float(end)
        while flint.arb(math.nextafter(value, math.inf)) <= end:
            value = math.nextafter(value, math.inf)
        while not flint.arb(value) <= end:
            value = math.nextafter(value, -math.inf)
        return value


def _float_above(x: flint.arb | flint.fmpq) -> float:
    """The smallest float64 that is certainly not below x (up to the radius of the ball)."""
    return -_float_below(-x)


# --- closed forms ---------------------------------------------------------------------------------------------


def rankin(K: int, d: int) -> Bound:
    """Rankin's bound, exact for K <= 2d, together with the closed forms on S^0 and S^1.

    -1/(K - 1) for K <= d + 1 (regular simplex), 0 for K >= d + 2 (attained for K <= 2d by vertices of the
    cross-polytope), cos(2 pi/K) on the circle; on S^0 the two points are used up at K = 2 and mu* = 1 beyond.

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
    R. A. Rankin, The closest packing of spherical caps in n dimensions, Proc. Glasgow Math. Assoc. 2 (1955)
    139-144.

    Examples
    --------
    >>> rankin(3, 8).value
    -0.5
    >>> rankin(10, 8)
    Bound(value=0.0, method='closed form', proved=True, source='cross-polytope (Rankin 1955)', exact=True)
    >>> rankin(6, 2).value
    0.5
    """
    K, d = check_pair(K, d)
    if d == 1:
        value = -1.0 if K == 2 else 1.0
        return Bound(value, "closed form", True, "S^0 has two points", exact=True)
    if K <= d + 1:
        value = _float_below(flint.fmpq(-1, K - 1))
        return Bound(value, "closed form", True, "regular simplex (Rankin 1955)", exact=True)
    if K <= 2 * d:
        return Bound(0.0, "closed form", True, "cross-polytope (Rankin 1955)", exact=True)
    if d == 2:
        with flint.ctx.workprec(_BITS):
            value = _float_below(flint.arb.cos_pi_fmpq(flint.fmpq(2, K)))
        return Bound(value, "closed form", True, "regular polygon", exact=True)
    return Bound(0.0, "Rankin", True, "K >= d + 2 (Rankin 1955)")


def fejes_toth(K: int) -> Bound:
    r"""Fejes Toth's bound for K >= 3 points in three dimensions, attained for K = 3, 4, 6 and 12.

    .. math:: \mu^*(K, 3) \ge \tfrac12 \csc^2\frac{\pi K}{6 (K - 2)} - 1

    Parameters
    ----------
    K : int
        Number of points on the unit sphere of R^3, at least 3.

    Returns
    -------
    Bound

    Raises
    ------
    ValueError
        If K is not an integer of at least 3.

    References
    ----------
    L. Fejes Toth, Ueber eine Abschaetzung des kuerzesten Abstandes zweier Punkte eines auf einer Kugelflaeche
    liegenden Punktsystems, Jber. Deutsch. Math.-Verein. 53 (1943) 66-68.

    Examples
    --------
    >>> print(f"{fejes_toth(12).value:.12f}")  # 1/sqrt(5)
    0.447213595500
    """
    K = check_integer("K (the number of points)", K, 3)
    with flint.ctx.workprec(_BITS):
        sine = flint.arb.sin_pi_fmpq(flint.fmpq(K, 6 * (K - 2)))
        value = _float_below(1 / (2 * sine * sine) - 1)
    return Bound(value, "Fejes Toth", True, "L. Fejes Toth 1943")


# --- Levenshtein ----------------------------------------------------------------------------------------------


class _UndecidedError(ArithmeticError):
    """A comparison of balls that overlap."""


def _greater(a: Any, b: Any) -> bool:
    """Whether a > b, for rationals or balls; raises where balls overlap."""
    if a > b:
        return True
    if a <= b:
        return False
    raise _UndecidedError


def _levenshtein_at(s: Any, d: int, last_order: int, settle: bool = False) -> tuple[int, Any] | None:
    """Order and value of Levenshtein's function at s (a rational or a ball), or None beyond ``last_order``.

    With G_k the normalised Gegenbauer polynomials, the adjacent Jacobi polynomials are
    P_k^{1,0} ~ (G_k - G_{k+1})/(1 - t) and P_k^{1,1} ~ (G_k - G_{k+2})/(1 - t^2), with positive factors. Their
    largest zeros are ordered t_{k-1}^{1,1} < t_k^{1,0} < t_k^{1,1} and their second largest lie below
    t_{k-1}^{1,1}, so going up in k the first sign met decides the interval that s lies in.
    ``settle`` takes an undecided sign for a zero: there the two neighbouring formulas agree.
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
    """Levenshtein's function for d = 2, where G_k(cos t) = cos(k t) and order m covers m + 1 <= 2 pi/t <= m + 2."""
    with flint.ctx.workprec(_BITS):
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
        The bound at the exact value of the float s, rounded to the nearest float64; infinity where it exceeds
        the range of one.

    Raises
    ------
    ValueError
        If s is not in [-1, 1), d is not an integer of at least 1, or s is so near 1 that an order above 24,000
        would be needed (in three dimensions 1 - s < 5e-8).

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
    found = _levenshtein_at(_rational(s), d, 40)
    reached = 40
    for order in (400, 4000, 24000):
        if found is not None:
            break
        if _design_size(d, reached + 1) > 2**1024:
            return math.inf
        # the error of the forward recurrence in balls grows like (1 + sqrt 2)^k, 1.3 bits a step
        with flint.ctx.workprec(_BITS + order):
            found = _levenshtein_at(flint.arb(s), d, order, settle=True)
        reached = order
    if found is None:
        raise ValueError(f"s = {s!r} is too near 1 for dimension {d}: Levenshtein's bound needs an order above 24000")
    with flint.ctx.workprec(_BITS):
        ball = flint.arb(found[1])
        # a float of a ball beyond the range of float64 is not defined the same everywhere
        return math.inf if ball > flint.arb(2) ** 1023 else float(ball)


def _design_size(d: int, m: int) -> int:
    """The size D(d, m) of a tight spherical m-design (Delsarte, Goethals and Seidel), where order m begins."""
    k = m // 2
    if m % 2:
        return 2 * math.comb(k + d - 1, d - 1)
    return math.comb(k + d - 1, d - 1) + math.comb(k + d - 2, d - 1)


def _levenshtein_order(K: int, d: int) -> int:
    """The order m with D(d, m) <= K < D(d, m + 1): the formula whose values include K."""
    m = 1
    while _design_size(d, m + 1) <= K:
        m += 1
    return m


def levenshtein(K: int, d: int) -> Bound:
    """Levenshtein's lower bound on mu*(K, d): the s at which ``levenshtein_size(s, d)`` is K.

    The float returned is the largest found at which the size is verified to be at most K, in exact rational
    arithmetic for orders up to 100 and in ball arithmetic above. Codes that meet the bound are Tammes optima.

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
    return _levenshtein_bound(K, d)


@functools.lru_cache(maxsize=4096)
def _levenshtein_bound(K: int, d: int) -> Bound:
    if d <= 2:
        # on the circle D(2, m) = m + 1: K points sit at the left end of order K - 1, which is cos(2 pi/K)
        closed = rankin(K, d)
        return Bound(closed.value, "Levenshtein", True, "attained: " + closed.source)
    order = _levenshtein_order(K, d)
    exact = order <= 100

    def at_most_K(s: float) -> bool:
        # rationals decide equality, which sharp codes with a dyadic cosine need
        point = _rational(s) if exact else flint.arb(s)
        try:
            found = _levenshtein_at(point, d, order)
        except _UndecidedError:
            return False
        return found is not None and (found[0] < order or (found[0] == order and bool(found[1] <= K)))

    with flint.ctx.workprec(_BITS + order):
        low, high = -1.0, 1.0
        while high - low > 2.0**-60:
            middle = (low + high) / 2
            if middle in (low, high):
                break
            low, high = (middle, high) if at_most_K(middle) else (low, middle)
    return Bound(low, "Levenshtein", True, f"Levenshtein's bound of order {order}, inverted and verified")


# --- volume ---------------------------------------------------------------------------------------------------


def _cap_bracket(K: int, d: int) -> tuple[float, float]:
    """Floats around the x = (1 - cos t)/2 at which a cap of angular radius t is 1/K of the sphere, verified."""
    with flint.ctx.workprec(_BITS):
        half = flint.arb(d - 1) / 2

        def verdict(x: float) -> int:
            # -1: K such caps are less than the sphere, 1: at least the sphere, 0: too near to tell
            measure = K * flint.arb(x).beta_lower(half, half, True)
            return -1 if measure < 1 else int(bool(measure >= 1))

        start = float(betaincinv((d - 1) / 2, (d - 1) / 2, 1 / K))
        if not 0 < start <= 0.5:
            start = 0.5
        step = 2.0**-53
        low, high = start, start
        while verdict(low) > -1:
            low *= 1 - step if step < 0.5 else 0.5
            step *= 2
        step = 2.0**-53
        while verdict(high) < 1 and high < 0.5:
            high = min(0.5, high * (1 + step))
            step *= 2
        # x = 1/2 is a half-sphere, of which K >= 2 are always the sphere or more: an upper end without a check
        while high - low > 2.0**-51 * high:
            middle = (low + high) / 2
            side = verdict(middle)
            if middle in (low, high) or side == 0:
                break
            low, high = (middle, high) if side < 0 else (low, middle)
        return low, high


def volume(K: int, d: int) -> VolumeBounds:
    r"""Cap volume, both ways: a lower bound on mu*(K, d) and one on the largest margin rho*(K, d).

    A cap of angular radius t is the fraction C(t) = I_x((d-1)/2, (d-1)/2) of the sphere, x = (1 - cos t)/2, I the
    regularised incomplete beta function. With t such that K C(t) = 1: caps of radius half the Tammes angle do not
    overlap, so mu* >= cos(2t); caps of the Tammes angle cover, so rho* >= 1 - mu* >= 1 - cos(t).

    Both numbers follow from floats on either side of x at which K I_x < 1 and K I_x >= 1 are verified in ball
    arithmetic.

    Parameters
    ----------
    K : int
        Number of points, at least 2.
    d : int
        Dimension, at least 1.

    Returns
    -------
    VolumeBounds

    Raises
    ------
    ValueError
        If K or d is not an integer in its range.

    Examples
    --------
    >>> bounds = volume(100, 3)  # C(t) = (1 - cos t)/2, so 1 - cos t = 1/50
    >>> print(f"{bounds.margin_lower:.12f} {bounds.tammes.value:.12f}")
    0.020000000000 0.920800000000
    """
    K, d = check_pair(K, d)
    if d == 1:
        closed = rankin(K, d)
        return VolumeBounds(closed, 2.0 if K == 2 else 0.0)
    low, high = _cap_bracket(K, d)
    cosine = 1 - 2 * _rational(high)
    value = _float_below(2 * cosine * cosine - 1)
    return VolumeBounds(Bound(value, "volume", True, "disjoint caps of half the Tammes angle"), 2 * low)


# --- Delsarte's linear programme ------------------------------------------------------------------------------


def _gegenbauer(t: np.ndarray, d: int, degree: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Normalised Gegenbauer polynomials G_0..G_degree at t and their first two derivatives, (degree + 1, len(t))."""
    t = np.atleast_1d(np.asarray(t, dtype=np.float64))
    G, D, S = (np.zeros((degree + 1, len(t))) for _ in range(3))
    G[0], G[1], D[1] = 1, t, 1
    for k in range(1, degree):
        a, b = (2 * k + d - 2) / (k + d - 2), k / (k + d - 2)
        G[k + 1] = a * t * G[k] - b * G[k - 1]
        D[k + 1] = a * (G[k] + t * D[k]) - b * D[k - 1]
        S[k + 1] = a * (2 * D[k] + t * S[k]) - b * S[k - 1]
    return G, D, S


def _gegenbauer_balls(t: flint.arb, d: int, degree: int) -> tuple[list[flint.arb], list[flint.arb]]:
    """G_0..G_degree at t and their derivatives, in the working precision."""
    G, D = [flint.arb(1), t], [flint.arb(0), flint.arb(1)]
    for k in range(1, degree):
        G.append(((2 * k + d - 2) * t * G[k] - k * G[k - 1]) / (k + d - 2))
        D.append(((2 * k + d - 2) * (G[k] + t * D[k]) - k * D[k - 1]) / (k + d - 2))
    return G, D


@functools.lru_cache(maxsize=64)
def _gegenbauer_exact(d: int, degree: int) -> tuple[flint.fmpq_poly, ...]:
    """G_0..G_degree as polynomials over the rationals."""
    t = flint.fmpq_poly([0, 1])
    basis = [flint.fmpq_poly([1]), t]
    for k in range(1, degree):
        basis.append(((2 * k + d - 2) * t * basis[k] - k * basis[k - 1]) / (k + d - 2))
    return tuple(basis[: degree + 1])


def _count_roots(p: flint.fmpq_poly, a: flint.fmpq, b: flint.fmpq) -> int:
    """Number of different real roots of p in (a, b], by Sturm's theorem; p(a) and p(b) are not 0."""

    def primitive(q: flint.fmpq_poly) -> flint.fmpz_poly:
        # a positive multiple: signs are all that counts, and coefficients stay short
        return q.numer() / q.numer().content()

    chain = [primitive(p), primitive(p.derivative())]
    while chain[-1].degree() > 0:
        rest = -(flint.fmpq_poly(chain[-2]) % flint.fmpq_poly(chain[-1]))
        if rest.degree() < 0:
            break
        chain.append(primitive(rest))

    def changes(x: flint.fmpq) -> int:
        values = [q(x) for q in chain]
        signs = [1 if v > 0 else -1 for v in values if v != 0]
        return sum(left != right for left, right in itertools.pairwise(signs))

    return changes(a) - changes(b)


@dataclass(frozen=True)
class DelsarteCertificate:
    """A polynomial f = sum_k f_k G_k that shows mu*(K, d) > s.

    If f_0 > 0, all f_k >= 0 and f <= 0 on [-1, s], then a code of N points with all cosines at most s satisfies
    N^2 f_0 <= sum over all pairs of f <= N f(1). So f(1) < K f_0 rules out K points.

    Attributes
    ----------
    coefficients : tuple of Fraction
        f_0, f_1, ... in the normalised Gegenbauer polynomials (G_k(1) = 1), exact.
    s : float
        The cosine, exact as a float64.
    K, d : int
        Number of points and dimension.
    """

    coefficients: tuple[Fraction, ...]
    s: float
    K: int
    d: int

    def holds(self) -> bool:
        """Check every condition in exact rational arithmetic (f < 0 on [-1, s] by a Sturm sequence)."""
        f = [flint.fmpq(c.numerator, c.denominator) for c in self.coefficients]
        if self.d < 2 or not -1 <= self.s < 1 or len(f) < 2:
            return False
        if f[0] <= 0 or any(c < 0 for c in f) or sum(f, flint.fmpq(0)) >= self.K * f[0]:
            return False
        basis = _gegenbauer_exact(self.d, len(f) - 1)
        polynomial = sum((c * g for c, g in zip(f, basis, strict=True)), flint.fmpq_poly([0]))
        if polynomial.degree() < 1:
            return False
        left, right = flint.fmpq(-1), _rational(self.s)
        if polynomial(left) >= 0 or polynomial(right) >= 0:
            return False
        return left == right or _count_roots(polynomial, left, right) == 0


@dataclass
class _Programme:
    """The solution of Delsarte's programme at one s, in floating point."""

    s: float
    f: np.ndarray  # coefficients, f[0] = 1
    size: float  # f(1)
    slope: float  # d size / d s
    excess: float  # largest value of f on [-1, s]
    points: np.ndarray  # where f touches 0 and the dual has mass; the last is s
    mass: np.ndarray


def _maxima(f: np.ndarray, s: float, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Local maxima of f on [-1, s], both ends included where they are ones, and the values there."""
    degree = len(f) - 1
    angle = np.linspace(math.pi, math.acos(s), 24 * degree + 1)
    t = np.cos(angle)
    t[0], t[-1] = -1.0, s
    value = f @ _gegenbauer(t, d, degree)[0]
    padded = np.concatenate([[-np.inf], value, [-np.inf]])
    top = np.flatnonzero((value >= padded[:-2]) & (value >= padded[2:]))
    low, high = t[np.maximum(top - 1, 0)], t[np.minimum(top + 1, len(t) - 1)]
    t = t[top]
    for _ in range(8):
        _, D, S = _gegenbauer(t, d, degree)
        first, second = f @ D, f @ S
        step = np.divide(-first, second, out=np.zeros_like(t), where=second < 0)
        t = np.clip(t + step, low, high)
    t = np.unique(t)
    return t, f @ _gegenbauer(t, d, degree)[0]


def _programme(s: float, d: int, degree: int, tolerance: float = 1e-9) -> _Programme | None:
    """Minimise f(1) subject to f_0 = 1, f_k >= 0 and f <= 0 on [-1, s]; None where no polynomial does.

    The inequality is imposed on a grid, and the maxima of each solution join the grid until f exceeds 0 nowhere
    by more than the tolerance, or by as little as the solver can do.
    """
    grid = np.cos(np.linspace(math.pi, math.acos(s), 6 * degree + 1))
    grid = np.unique(np.concatenate([grid[grid < s], [-1.0, s]]))
    # as tight as the solver takes; the time limit, far above what is usual, ends a degenerate programme that cycles
    options: Any = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10, "time_limit": 20.0}
    best: _Programme | None = None
    stalled = 0
    for _ in range(25):
        A = _gegenbauer(grid, d, degree)[0][1:].T
        answer = linprog(np.ones(degree), A_ub=A, b_ub=-np.ones(len(grid)), method="highs-ds", options=options)
        if answer.x is None or answer.status != 0:
            return best
        f = np.concatenate([[1.0], np.maximum(answer.x, 0)])
        t, value = _maxima(f, s, d)
        excess = float(value.max())
        weight = -answer.ineqlin.marginals
        # neighbouring grid points share the mass of one touching point
        spots = np.unique(np.concatenate([t, [s]]))
        owner = np.argmin(np.abs(np.arccos(grid)[:, None] - np.arccos(spots)[None, :]), axis=1)
        mass = np.bincount(owner, weights=weight, minlength=len(spots))
        keep = mass > 1e-7 * mass.sum()
        keep[-1] = True
        slope = float(mass[-1] * (f @ _gegenbauer(np.array([s]), d, degree)[1])[0])
        # the excess need not fall at every step
        stalled = 0 if best is None or excess < 0.5 * best.excess else stalled + 1
        if best is None or excess < best.excess:
            best = _Programme(s, f, float(f.sum()), slope, excess, spots[keep], mass[keep])
        if excess <= tolerance or (stalled >= 3 and best.excess < 1e-7):
            break
        grid = np.unique(np.concatenate([grid, t[value > -1e-9]]))
    return best


def _critical_programme(K: int, d: int, degree: int) -> _Programme | None:
    """The programme whose size is K up to rounding: Newton's method in s, safeguarded by bisection."""
    low, high = -1.0, 1.0
    s = _levenshtein_bound(K, d).value if degree >= _levenshtein_order(K, d) else 0.0
    best = None
    for _ in range(60):
        if not low < s < high:
            s = (low + high) / 2
        found = _programme(s, d, degree)
        if found is None:
            high = s
            s = (low + high) / 2
            continue
        gap = found.size - K
        low, high = (s, high) if gap < 0 else (low, s)
        if best is None or abs(gap) < abs(best.size - K):
            best = found
        if abs(gap) <= 1e-9 * K or high - low <= 1e-13:
            break
        # 1/size is nearly straight in s, size itself is far from it near 1
        s = s - gap * found.size / (K * found.slope) if found.slope > 0 else (low + high) / 2
    return best


def _dyadic(x: flint.arb) -> flint.fmpq:
    """The midpoint of a ball as a rational number."""
    mantissa, exponent = (int(part) for part in x.mid().man_exp())
    return flint.fmpq(mantissa << exponent) if exponent >= 0 else flint.fmpq(mantissa, 1 << -exponent)


def _polished(start: _Programme, size: flint.fmpq, d: int) -> tuple[list[flint.fmpq], flint.fmpq] | None:
    """Coefficients f_k and s of the optimal polynomial with f(1) = ``size``, to the working precision.

    Unknowns are the non-zero f_k, the touching points t_i, s and the dual masses; the equations are
    f(t_i) = 0 at every touching point, f'(t_i) = 0 inside, 1 + sum_i mass_i G_k(t_i) = 0 for every non-zero f_k
    (the dual constraints), and f(1) = size: as many as unknowns. Residuals are evaluated in high precision and
    corrected with a double-precision least-squares step, which also copes where the optimum is degenerate.
    """
    degree = len(start.f) - 1
    support = np.flatnonzero(start.f[1:] > 1e-8 * start.f.sum()) + 1
    pinned = bool(start.points[0] < -1 + 1e-6) and len(start.points) > 1  # -1 is a touching point that cannot move
    p, n = len(support), len(start.points)
    moving = np.arange(int(pinned), n)
    f = {int(k): flint.arb(float(start.f[k])) for k in support}
    points = [flint.arb(float(t)) for t in start.points]
    if pinned:
        points[0] = flint.arb(-1)
    mass = [flint.arb(float(m)) for m in start.mass]
    previous = math.inf
    for _ in range(40):
        values = [_gegenbauer_balls(t, d, degree) for t in points]
        residual = [1 + sum((f[k] * G[k] for k in f), flint.arb(0)) for G, _ in values]
        residual += [sum((f[k] * values[i][1][k] for k in f), flint.arb(0)) for i in moving[:-1]]
        residual += [1 + sum((m * G[k] for m, (G, _) in zip(mass, values, strict=True)), flint.arb(0)) for k in f]
        residual += [1 + sum(f.values(), flint.arb(0)) - size]
        error = max(abs(float(r)) for r in residual)
        if error < 1e-34:
            zero = flint.arb(0)
            return [flint.fmpq(1), *(_dyadic(f.get(k, zero)) for k in range(1, degree + 1))], _dyadic(points[-1])
        if not error < 0.5 * previous or any(not -1 <= float(t) < 1 for t in points):
            return None
        previous = error
        G, D, S = _gegenbauer(np.array([float(t) for t in points]), d, degree)
        full = np.zeros(degree + 1)
        full[0] = 1
        full[support] = [float(f[int(k)]) for k in support]
        weights = np.array([float(m) for m in mass])
        q, r = len(moving), len(moving) - 1
        J = np.zeros((n + r + p + 1, p + q + n))
        J[:n, :p] = G[support].T
        J[moving, p + np.arange(q)] = (full @ D)[moving]
        J[n : n + r, :p] = D[np.ix_(support, moving[:-1])].T
        J[n + np.arange(r), p + np.arange(r)] = (full @ S)[moving[:-1]]
        J[n + r : n + r + p, p : p + q] = D[np.ix_(support, moving)] * weights[moving]
        J[n + r : n + r + p, p + q :] = G[support]
        J[-1, :p] = 1
        column = np.linalg.norm(J, axis=0)
        column[column == 0] = 1
        scaled = np.array([float(x / error) for x in residual])
        step = np.linalg.lstsq(J / column, -scaled, rcond=1e-11)[0] / column
        change = [flint.arb(float(x)) * error for x in step]
        for k, x in zip(f, change[:p], strict=True):
            f[k] = (f[k] + x).mid()
        for i, x in zip(moving, change[p : p + q], strict=True):
            points[i] = (points[i] + x).mid()
        mass = [(m + x).mid() for m, x in zip(mass, change[p + q :], strict=True)]
    return None


def _fractions(values: Sequence[flint.fmpq]) -> tuple[Fraction, ...]:
    return tuple(Fraction(int(v.p), int(v.q)) for v in values)


def _certificate_from(f: Sequence[flint.fmpq], lift: flint.fmpq, s: float, K: int, d: int) -> DelsarteCertificate:
    """The certificate of 1 + sum f_k G_k - lift, negative coefficients of rounding size taken for 0."""
    coefficients = [f[0] - lift] + [max(c, flint.fmpq(0)) for c in f[1:]]
    while len(coefficients) > 2 and coefficients[-1] == 0:
        coefficients.pop()
    return DelsarteCertificate(_fractions(coefficients), s, K, d)


def _default_degree(K: int, d: int) -> int:
    """Twenty above Levenshtein's order, whose polynomial has that degree, and at least 32."""
    return max(32, _levenshtein_order(K, d) + 20)


def _checked_degree(K: int, d: int, degree: int | None) -> int:
    """The degree asked for, or the default; a ValueError where a programme of it takes too long."""
    if degree is not None:
        return check_integer("degree", degree, 1, MAX_DEGREE)
    default = _default_degree(K, d)
    if default > MAX_DEGREE:
        raise ValueError(
            f"Delsarte's bound of ({K}, {d}) is a linear programme of degree {default}, above the limit of "
            f"{MAX_DEGREE}: levenshtein(K, d) needs none"
        )
    return default


def delsarte_certificate(K: int, d: int, degree: int | None = None) -> DelsarteCertificate | None:
    """A verified polynomial for Delsarte's bound, or None where none could be verified.

    The linear programme is solved in floating point for the s at which its optimum is K; the optimal polynomial
    is refined to 30 digits, moved off the boundary so that it is strictly negative on [-1, s] with f(1) < K f_0, and
    verified in exact arithmetic.

    Parameters
    ----------
    K : int
        Number of points, at least 3.
    d : int
        Dimension, at least 2.
    degree : int, optional
        Largest degree of the polynomial, at least 1; by default 20 above Levenshtein's order, at least 32.

    Returns
    -------
    DelsarteCertificate or None

    Raises
    ------
    ValueError
        If an argument is not an integer in its range.

    Examples
    --------
    >>> certificate = delsarte_certificate(27, 6)
    >>> certificate.holds(), abs(certificate.s - 0.25) < 1e-14
    (True, True)
    """
    K, d = check_pair(K, d)
    K = check_integer("K (the number of points)", K, 3)
    d = check_integer("d (the dimension)", d, 2)
    return _delsarte(K, d, _checked_degree(K, d, degree))[0]


@functools.lru_cache(maxsize=4096)
def _delsarte(K: int, d: int, degree: int) -> tuple[DelsarteCertificate | None, float]:
    """The best verified certificate (or None) and the floating-point optimum of s."""
    critical = _critical_programme(K, d, degree)
    if critical is None:
        return None, -1.0
    best: DelsarteCertificate | None = None
    for start in (_shortened(critical, d), critical):
        candidate = None if start is None else _refined_certificate(start, K, d)
        if candidate is not None and (best is None or candidate.s > best.s):
            best = candidate
    if best is None:
        best = _plain_certificate(critical, K, d)
    return best, critical.s


def _shortened(critical: _Programme, d: int) -> _Programme | None:
    """The same programme in the smallest degree whose optimum is the same, where that is a smaller one.

    Where a code meets the bound, many polynomials of high degree are optimal, but few of the smallest degree.
    """
    low, high = 0, len(critical.f) - 1
    best = None
    while high - low > 1:
        degree = (low + high) // 2
        found = _programme(critical.s, d, degree)
        if found is not None and found.size <= critical.size * (1 + 1e-8):
            best, high = found, degree
        else:
            low = degree
    return best


def _refined_certificate(start: _Programme, K: int, d: int) -> DelsarteCertificate | None:
    """A certificate within rounding of the optimum: refined to 30 digits, then moved off the boundary.

    At the optimum f(1) = K f_0 and f touches 0. A little of the optimal polynomial h for a smaller cosine is mixed
    in, which makes f(1) < K f_0 and costs a step back from s, where f falls steeply but h does not.
    """
    degree = len(start.f) - 1
    with flint.ctx.workprec(320):
        refined = _polished(start, flint.fmpq(K), d)
        if refined is None:
            return None
        f, right = refined
        inner = _programme(float(right) - 1e-3 * (1 - float(right)), d, degree)
        if inner is None or inner.size >= K:
            return None
        at_s = _gegenbauer(np.array([float(right)]), d, degree)
        fall = _rational(float((start.f @ at_s[1])[0]))
        rise = _rational(max(float((inner.f @ at_s[0])[0]), 1e-300))
        h = [_rational(float(c)) for c in inner.f]
        gap = K - sum(h, flint.fmpq(0))
        for bits in (56, 52, 48, 44, 40, 36):
            back = flint.fmpq(1, 1 << bits)
            s = _float_below(right - back)
            share = min(fall * back / (2 * rise), flint.fmpq(1, 2))
            if share <= 0 or not -1 <= s < 1:
                return None
            mixed = [(1 - share) * a + share * b for a, b in zip(f, h, strict=True)]
            candidate = _certificate_from(mixed, share * gap / (2 * K), s, K, d)
            if candidate.holds():
                return candidate
    return None


def _plain_certificate(critical: _Programme, K: int, d: int) -> DelsarteCertificate | None:
    """A certificate straight from floating point, at the price of a step back in s of 1e-11 or more."""
    degree = len(critical.f) - 1
    for exponent in range(-11, -3):
        found = _programme(critical.s - 10.0**exponent, d, degree, tolerance=1e-12)
        if found is None:
            continue
        # twice the excess seen, so that what was not seen of it is covered too
        lift = _rational(2 * max(found.excess, 0.0) + 1e-15)
        candidate = _certificate_from([_rational(float(c)) for c in found.f], lift, found.s, K, d)
        if candidate.holds():
            return candidate
    return None


def delsarte(K: int, d: int, degree: int | None = None) -> Bound:
    """Delsarte's linear-programming bound on mu*(K, d), verified in exact arithmetic.

    Parameters
    ----------
    K : int
        Number of points, at least 2.
    d : int
        Dimension, at least 1.
    degree : int, optional
        Largest degree of the polynomial, at least 1; by default 20 above Levenshtein's order, at least 32.

    Returns
    -------
    Bound
        ``proved`` is True where a polynomial was verified (see `delsarte_certificate`, which returns it);
        otherwise ``value`` is what floating point gave, and proves nothing.

    Raises
    ------
    ValueError
        If an argument is not an integer in its range.

    References
    ----------
    P. Delsarte, J. M. Goethals, J. J. Seidel, Spherical codes and designs, Geom. Dedicata 6 (1977) 363-388.

    Examples
    --------
    >>> bound = delsarte(120, 4)  # the 600-cell, (1 + sqrt 5)/4
    >>> print(f"{bound.value:.12f} {bound.proved}")
    0.809016994375 True
    """
    K, d = check_pair(K, d)
    if degree is not None:
        degree = check_integer("degree", degree, 1, MAX_DEGREE)
    if d == 1 or K == 2 or (d == 2 and degree is None):
        closed = rankin(K, d)
        return Bound(closed.value, "Delsarte LP", True, "attained: " + closed.source)
    degree = _checked_degree(K, d, degree)
    certificate, estimate = _delsarte(K, d, degree)
    if certificate is None:
        return Bound(estimate, "Delsarte LP", False, f"degree {degree}, floating point only, not verified")
    source = f"polynomial of degree {len(certificate.coefficients) - 1}, verified in exact arithmetic"
    return Bound(certificate.s, "Delsarte LP", True, source)


# --- literature -----------------------------------------------------------------------------------------------


def _root_below(coefficients: Sequence[int], low: float, high: float) -> float:
    """The largest float not above the root of an integer polynomial (ascending) that changes sign on [low, high]."""
    p = flint.fmpq_poly(list(coefficients))
    sign = 1 if p(_rational(low)) > 0 else -1
    while True:
        middle = (low + high) / 2
        if middle in (low, high):
            return low
        value = sign * p(_rational(middle))
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

#: mu* as an algebraic number: integer coefficients, constant term first, of a polynomial with a single root, mu*,
#: in the interval that follows.
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


# --- the best of them -----------------------------------------------------------------------------------------


def max_cosine_lower_bound(K: int, d: int, lp: bool = True) -> Bound:
    """The best proved lower bound on mu*(K, d), the largest cosine that K points in R^d cannot avoid.

    Closed forms and values of the literature where mu* is known; otherwise the largest of Rankin's,
    Levenshtein's (for d = 3 up to 10^6 points), Fejes Toth's (d = 3), the volume bound, the literature's values for
    fewer points in as many or more dimensions (mu* grows with K and falls with d), and Delsarte's linear programme.

    Parameters
    ----------
    K : int
        Number of points, at least 2.
    d : int
        Dimension, at least 1.
    lp : bool
        Whether to solve the linear programme (a fraction of a second to some seconds). It is left out in any
        case where d exceeds ``LP_DIMENSION_LIMIT`` or its default degree ``LP_DEGREE_LIMIT``, and for d = 3 where
        K exceeds ``LP_POINTS_LIMIT_3D``.

    Returns
    -------
    Bound
        With ``proved=True``; ``exact=True`` where mu* is known.

    Raises
    ------
    ValueError
        If K or d is not an integer in its range.

    Examples
    --------
    >>> bound = max_cosine_lower_bound(14, 3)
    >>> print(bound.method, bound.exact, f"{bound.value:.13f}")
    literature True 0.5639503003605
    >>> max_cosine_lower_bound(240, 8).value
    0.5
    """
    K, d = check_pair(K, d)
    return _best(K, d, check_flag("lp", lp))


@functools.lru_cache(maxsize=4096)
def _best(K: int, d: int, lp: bool) -> Bound:
    closed = rankin(K, d)
    if closed.exact:
        return closed
    if (K, d) in LITERATURE:
        return LITERATURE[K, d]
    candidates = [volume(K, d).tammes, closed]
    if d > 3 or K <= LEVENSHTEIN_POINTS_LIMIT_3D:
        candidates.append(_levenshtein_bound(K, d))
    if d == 3:
        candidates.append(fejes_toth(K))
    for (fewer, higher), bound in LITERATURE.items():
        if fewer <= K and higher >= d:
            source = f"mu* of {fewer} points in {higher} dimensions: {bound.source}"
            candidates.append(Bound(bound.value, "literature", True, source))
    small = d <= LP_DIMENSION_LIMIT and (d > 3 or K <= LP_POINTS_LIMIT_3D) and _default_degree(K, d) <= LP_DEGREE_LIMIT
    if lp and small:
        candidates.append(delsarte(K, d))
    return max((bound for bound in candidates if bound.proved), key=lambda bound: bound.value)


def margin_bounds(K: int, d: int, lp: bool = True) -> Bracket:
    """Bracket of rho*(K, d), the largest margin of K unit vectors in R^d.

    Exact (both ends the same number, rounded outward) for d <= 2 and K <= 2d: K/(K - 1) for K <= d + 1, 1 for
    d + 2 <= K <= 2d, 1 - cos(2 pi/K) on the circle. Otherwise from below the volume bound, or 1 - mu* where the
    literature has mu*; from above min(1, sqrt(2 - 2 mu)) with mu the best proved lower bound on mu*, since no
    margin exceeds the smallest distance, and none exceeds 1 once K >= d + 2.

    Parameters
    ----------
    K : int
        Number of classes, at least 2.
    d : int
        Dimension, at least 1.
    lp : bool
        Whether Delsarte's linear programme may be solved for the upper end.

    Returns
    -------
    Bracket

    Raises
    ------
    ValueError
        If K or d is not an integer in its range.

    Examples
    --------
    >>> margin_bounds(3, 8)
    Bracket(lower=1.5, upper=1.5, lower_method='closed form', upper_method='closed form')
    >>> bracket = margin_bounds(24, 3)
    >>> print(f"{bracket.lower:.10f} {bracket.upper:.10f}")
    0.2769215317 0.7442063312
    """
    K, d = check_pair(K, d)
    lp = check_flag("lp", lp)
    if d == 1:
        margin = 2.0 if K == 2 else 0.0
        return Bracket(margin, margin, "closed form", "closed form")
    if d == 2 or K <= 2 * d:
        with flint.ctx.workprec(_BITS):
            if K <= d + 1:
                exact = flint.arb(flint.fmpq(K, K - 1))
            elif K <= 2 * d:
                exact = flint.arb(1)
            else:
                exact = 1 - flint.arb.cos_pi_fmpq(flint.fmpq(2, K))
            return Bracket(_float_below(exact), _float_above(exact), "closed form", "closed form")
    best = max_cosine_lower_bound(K, d, lp)
    lower, lower_method = volume(K, d).margin_lower, "volume"
    if best.exact:
        # mu* is below the float that follows the bound
        lower = max(lower, _float_below(1 - _rational(math.nextafter(best.value, math.inf))))
        lower_method = "1 - mu*"
    with flint.ctx.workprec(_BITS):
        upper = _float_above(flint.arb(2 - 2 * _rational(best.value)).sqrt())
    if upper >= 1:
        return Bracket(lower, 1.0, lower_method, "K >= d + 2")
    return Bracket(lower, upper, lower_method, "smallest distance, " + best.method)
