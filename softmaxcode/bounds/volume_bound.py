"""Bounds by the volume of caps: on packings and on coverings."""

from __future__ import annotations

from dataclasses import dataclass

import flint
from scipy.special import betaincinv

from softmaxcode.bounds.bound import Bound
from softmaxcode.bounds.rounding import BITS, float_below, rational
from softmaxcode.bounds.simple import rankin
from softmaxcode.checks.arguments import check_pair


@dataclass(frozen=True)
class VolumeBounds:
    """Bounds by the volume of caps: ``tammes`` bounds mu* from below, ``margin_lower`` bounds rho* from below."""

    tammes: Bound
    margin_lower: float


def _cap_bounds(K: int, d: int) -> tuple[float, float]:
    """Verified floats around the x = (1 - cos t)/2 at which a cap of angular radius t is 1/K of the sphere."""
    with flint.ctx.workprec(BITS):
        half = flint.arb(d - 1) / 2

        def verdict(x: float) -> int:
            # -1: K such caps are smaller than the sphere, 1: at least the sphere, 0: undecided
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
        # x = 1/2 is a half-sphere; K >= 2 of them always reach the whole sphere: an upper end without a check
        while high - low > 2.0**-51 * high:
            middle = (low + high) / 2
            side = verdict(middle)
            if middle in (low, high) or side == 0:
                break
            low, high = (middle, high) if side < 0 else (low, middle)
        return low, high


def volume(K: int, d: int) -> VolumeBounds:
    r"""Cap volume, used twice: a lower bound on mu*(K, d) and one on the largest margin rho*(K, d).

    A cap of angular radius t is the fraction C(t) = I_x((d-1)/2, (d-1)/2) of the sphere. Here x = (1 - cos t)/2, and I
    is the regularised incomplete beta function. Choose t such that K C(t) = 1. Caps of radius half the Tammes angle do
    not overlap, so mu* >= cos(2t). Caps of the Tammes angle cover, so rho* >= 1 - mu* >= 1 - cos(t).

    Both numbers follow from floats on either side of x. Ball arithmetic verifies K I_x < 1 at one and K I_x >= 1 at
    the other.

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
    low, high = _cap_bounds(K, d)
    cosine = 1 - 2 * rational(high)
    value = float_below(2 * cosine * cosine - 1)
    return VolumeBounds(Bound(value, "volume", True, "disjoint caps of half the Tammes angle"), 2 * low)
