"""A mean with its confidence interval, and numbers with their errors as text."""

from __future__ import annotations

import math
from dataclasses import dataclass

#: From this size on a value with an error is written with an exponent.
LARGEST = 1e6


class Bounded:
    """What an interval and a slope have in common: two bounds.

    Attributes
    ----------
    lower, upper : float
        The bounds; NaN if no interval can be given.
    """

    lower: float
    upper: float

    @property
    def half_width(self) -> float:
        """Half the length of the interval, NaN if there is none."""
        return (self.upper - self.lower) / 2

    @property
    def sign(self) -> int:
        """1 where the whole interval is above 0, -1 where it is below, and 0 where it is neither or there is none."""
        return (self.lower > 0) - (self.upper < 0)


@dataclass(frozen=True)
class Interval(Bounded):
    """A mean and its confidence interval; its text is ``0.5312 ± 0.0040 (n = 5)``.

    Attributes
    ----------
    mean, lower, upper : float
        In the unit of the values. The bounds are NaN if no interval can be given. The mean is NaN for n = 0.
    n : int
        Number of values.
    """

    mean: float
    lower: float
    upper: float
    n: int

    @property
    def text(self) -> str:
        """The mean and half the interval, without n: ``0.5312 ± 0.0040``."""
        return with_error(self.mean, self.half_width)

    def __str__(self) -> str:
        return f"{self.text} (n = {self.n})"


def with_error(value: float, half_width: float) -> str:
    """The value to the second digit of its error, followed by the error; four digits of a value without one.

    An error below a millionth of the value is rounding, and is written as 0.

    Examples
    --------
    >>> with_error(0.5714, 0.0042), with_error(9.996, 0.996), with_error(-1e-9, 0.1), with_error(3e300, 1e299)
    ('0.5714 ± 0.0042', '10.0 ± 1.0', '0.00 ± 0.10', '3.0e+300 ± 1.0e+299')
    """
    if not math.isfinite(half_width):
        return f"{value:z.4g}"
    if half_width <= 1e-6 * abs(value):
        return f"{value:z.4g} ± 0"
    if max(abs(value), half_width) >= LARGEST:
        return f"{value:.1e} ± {half_width:.1e}"
    exponent = int(f"{half_width:.1e}".partition("e")[2])  # of the rounded error: 0.996 is 1.0
    decimals = max(0, 1 - exponent)
    return f"{value:z.{decimals}f} ± {half_width:.{decimals}f}"
