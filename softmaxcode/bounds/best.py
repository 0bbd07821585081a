"""The best of all bounds on mu*, and the bounds on the largest margin that follow from it."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import flint

from softmaxcode.bounds.bound import Bound
from softmaxcode.bounds.delsarte_bound import default_degree, delsarte
from softmaxcode.bounds.levenshtein_bound import levenshtein_bound
from softmaxcode.bounds.literature import LITERATURE
from softmaxcode.bounds.rounding import BITS, float_above, float_below, rational
from softmaxcode.bounds.simple import fejes_toth, rankin
from softmaxcode.bounds.volume_bound import volume
from softmaxcode.checks.arguments import check_flag, check_pair

#: ``max_cosine_lower_bound`` omits the linear programme where its default degree would exceed this. It does so for many
#: points in few dimensions: from 2,660 on for d = 4. The second constant limits the dimension. For d = 3 the third
#: limits the number of points: above it Fejes Toth's bound is larger at that degree.
LP_DEGREE_LIMIT = 56
LP_DIMENSION_LIMIT = 64
LP_POINTS_LIMIT_3D = 200
#: Levenshtein's bound is omitted above this for d = 3: its order grows as the root of K, and Fejes Toth's is larger.
LEVENSHTEIN_POINTS_LIMIT_3D = 10**6


@dataclass(frozen=True)
class MarginBounds:
    """``lower`` <= rho*(K, d) <= ``upper``, both rounded outward, and how each was obtained."""

    lower: float
    upper: float
    lower_method: str
    upper_method: str


def max_cosine_lower_bound(K: int, d: int, lp: bool = True) -> Bound:
    """The best proved lower bound on mu*(K, d), the smallest possible largest cosine of K points in R^d.

    Where mu* is known, it is the closed form or the value of the literature. Otherwise it is the largest of these
    bounds: Rankin's, Levenshtein's (for d = 3 up to 10^6 points), Fejes Toth's (d = 3), the volume bound, and
    Delsarte's linear programme. The literature's values for fewer points in as many or more dimensions count too, since
    mu* grows with K and falls with d.

    Parameters
    ----------
    K : int
        Number of points, at least 2.
    d : int
        Dimension, at least 1.
    lp : bool
        Whether to solve the linear programme (a fraction of a second to some seconds). It is always omitted where d
        exceeds ``LP_DIMENSION_LIMIT`` or its default degree ``LP_DEGREE_LIMIT``, and for d = 3 where K exceeds
        ``LP_POINTS_LIMIT_3D``.

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
        candidates.append(levenshtein_bound(K, d))
    if d == 3:
        candidates.append(fejes_toth(K))
    for (fewer, higher), bound in LITERATURE.items():
        if fewer <= K and higher >= d:
            source = f"mu* of {fewer} points in {higher} dimensions: {bound.source}"
            candidates.append(Bound(bound.value, "literature", True, source))
    small = d <= LP_DIMENSION_LIMIT and (d > 3 or K <= LP_POINTS_LIMIT_3D) and default_degree(K, d) <= LP_DEGREE_LIMIT
    if lp and small:
        candidates.append(delsarte(K, d))
    return max((bound for bound in candidates if bound.proved), key=lambda bound: bound.value)


def margin_bounds(K: int, d: int, lp: bool = True) -> MarginBounds:
    """MarginBounds of rho*(K, d), the largest margin of K unit vectors in R^d.

    For d <= 2, and for K <= 2d, both ends are the same number, rounded outward: K/(K - 1) for K <= d + 1, 1 for
    d + 2 <= K <= 2d, 1 - cos(2 pi/K) on the circle. Otherwise the lower end is the volume bound, or 1 - mu* where the
    literature has mu*. The upper end is min(1, sqrt(2 - 2 mu)) with mu the best proved lower bound on mu*. For no
    margin exceeds the smallest distance, and none exceeds 1 once K >= d + 2.

    Parameters
    ----------
    K : int
        Number of classes, at least 2.
    d : int
        Dimension, at least 1.
    lp : bool
        Whether Delsarte's linear programme may be solved for the upper bound.

    Returns
    -------
    MarginBounds
        Both bounds on the margin, with their sources.

    Raises
    ------
    ValueError
        If K or d is not an integer in its range.

    Examples
    --------
    >>> margin_bounds(3, 8)
    MarginBounds(lower=1.5, upper=1.5, lower_method='closed form', upper_method='closed form')
    >>> bounds = margin_bounds(24, 3)
    >>> print(f"{bounds.lower:.10f} {bounds.upper:.10f}")
    0.2769215317 0.7442063312
    """
    K, d = check_pair(K, d)
    lp = check_flag("lp", lp)
    if d == 1:
        margin = 2.0 if K == 2 else 0.0
        return MarginBounds(margin, margin, "closed form", "closed form")
    if d == 2 or K <= 2 * d:
        with flint.ctx.workprec(BITS):
            if K <= d + 1:
                exact = flint.arb(flint.fmpq(K, K - 1))
            elif K <= 2 * d:
                exact = flint.arb(1)
            else:
                exact = 1 - flint.arb.cos_pi_fmpq(flint.fmpq(2, K))
            return MarginBounds(float_below(exact), float_above(exact), "closed form", "closed form")
    best = max_cosine_lower_bound(K, d, lp)
    lower, lower_method = volume(K, d).margin_lower, "volume"
    if best.exact:
        # mu* is below the next float above the bound
        lower = max(lower, float_below(1 - rational(math.nextafter(best.value, math.inf))))
        lower_method = "1 - mu*"
    with flint.ctx.workprec(BITS):
        upper = float_above(flint.arb(2 - 2 * rational(best.value)).sqrt())
    if upper >= 1:
        return MarginBounds(lower, 1.0, lower_method, "K >= d + 2")
    return MarginBounds(lower, upper, lower_method, "smallest distance, " + best.method)
