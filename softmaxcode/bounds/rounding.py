"""Float64 numbers rounded to the safe side of exact numbers and of balls."""

from __future__ import annotations

import math

import flint

#: Default working precision of ball arithmetic, in bits.
BITS = 192


def rational(x: float) -> flint.fmpq:
    """The exact rational value of a float."""
    return flint.fmpq(*float(x).as_integer_ratio())


def float_below(x: flint.arb | flint.fmpq) -> float:
    """The largest float64 not above x (not above the lower end, where x is a ball)."""
    with flint.ctx.workprec(BITS):
        # an exact number, so that these loops end after one or two steps
        end = flint.arb(x).lower()
        value = float(end)
        while flint.arb(math.nextafter(value, math.inf)) <= end:
            value = math.nextafter(value, math.inf)
        while not flint.arb(value) <= end:
            value = math.nextafter(value, -math.inf)
        return value


def float_above(x: flint.arb | flint.fmpq) -> float:
    """The smallest float64 that is certainly not below x (up to the radius of the ball)."""
    return -float_below(-x)


def one_minus_above(x: float) -> float:
    """A float64 that is certainly not below 1 - x."""
    return math.nextafter(1 - x, math.inf)
