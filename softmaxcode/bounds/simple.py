"""Bounds in closed form: Rankin's, and Fejes Toth's for three dimensions."""

from __future__ import annotations

import flint

from softmaxcode.bounds.bound import Bound
from softmaxcode.bounds.rounding import BITS, float_below
from softmaxcode.checks.arguments import check_integer, check_pair


def rankin(K: int, d: int) -> Bound:
    """Rankin's bound, exact for K <= 2d, together with the closed forms on S^0 and S^1.

    For K <= d + 1 it is mu* >= -1/(K - 1), attained by the regular simplex. For K >= d + 2 it is mu* >= 0, attained for
    K <= 2d by vertices of the cross-polytope. On the circle mu* = cos(2 pi/K). S^0 has two points, so mu* = 1 there for
    K > 2.

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
        value = float_below(flint.fmpq(-1, K - 1))
        return Bound(value, "closed form", True, "regular simplex (Rankin 1955)", exact=True)
    if K <= 2 * d:
        return Bound(0.0, "closed form", True, "cross-polytope (Rankin 1955)", exact=True)
    if d == 2:
        with flint.ctx.workprec(BITS):
            value = float_below(flint.arb.cos_pi_fmpq(flint.fmpq(2, K)))
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
    with flint.ctx.workprec(BITS):
        sine = flint.arb.sin_pi_fmpq(flint.fmpq(K, 6 * (K - 2)))
        value = float_below(1 / (2 * sine * sine) - 1)
    return Bound(value, "Fejes Toth", True, "L. Fejes Toth 1943")
