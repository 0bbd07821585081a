"""Means, paired differences and slopes over seeds, each with its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import linregress
from scipy.stats import t as student

from softmaxcode.checks.arguments import check_number, check_positive
from softmaxcode.pages.interval import Bounded, Interval, with_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Slope(Bounded):
    """A least-squares slope and its confidence interval; its text is ``0.120 ± 0.031 (n = 18, p = 0.0004)``.

    Attributes
    ----------
    slope, lower, upper : float
        Units of y per unit of x. The bounds are NaN if no interval can be given. The slope is NaN if x does not vary
        between the cells.
    n : int
        Number of points on the line.
    p_value : float
        Two-sided, for the hypothesis that the slope is 0.
    """

    slope: float
    lower: float
    upper: float
    n: int
    p_value: float

    def __str__(self) -> str:
        p = "" if math.isnan(self.p_value) else f", p = {self.p_value:.2g}"
        return f"{with_error(self.slope, self.half_width)} (n = {self.n}{p})"


def mean_interval(values: Iterable[float], confidence: float = 0.95) -> Interval:
    r"""The mean of independent values and Student's interval for their expectation.

    .. math:: \bar x \pm t_{n-1,\,(1+c)/2}\; \frac{s}{\sqrt n}, \qquad s^2 = \frac{1}{n-1} \sum_i (x_i - \bar x)^2

    Parameters
    ----------
    values : iterable of float
        n values, one per seed, in any unit.
    confidence : float
        c, between 0 and 1.

    Returns
    -------
    Interval
        The bounds are NaN for n < 2 and if a value is not finite.

    Raises
    ------
    ValueError
        If the values are not a sequence of numbers, or the confidence is out of range.

    Examples
    --------
    >>> str(mean_interval([0.52, 0.53, 0.54]))
    '0.530 ± 0.025 (n = 3)'
    >>> str(mean_interval([0.52]))
    '0.52 (n = 1)'
    """
    confidence = check_number("confidence", confidence, 0, 1, "()")
    x = _vector("values", values)
    n = len(x)
    mean = float(x.mean()) if n else math.nan
    if n < 2 or not np.isfinite(x).all():
        return Interval(mean, math.nan, math.nan, n)
    half = float(student.ppf((1 + confidence) / 2, n - 1) * x.std(ddof=1) / math.sqrt(n))
    return Interval(mean, mean - half, mean + half, n)


def paired_difference(a: Mapping[Any, float], b: Mapping[Any, float], confidence: float = 0.95) -> Interval:
    """The mean of a - b over the keys that both have, with Student's interval of the differences.

    Runs of one seed share their data and order of batches, so their difference varies less than either.

    Parameters
    ----------
    a, b : mapping
        Value by key, such as test accuracy by seed.
    confidence : float
        Between 0 and 1.

    Returns
    -------
    Interval
        ``n`` counts the common keys. The bounds are NaN for fewer than two.

    Raises
    ------
    ValueError
        If the values are not numbers, or the confidence is out of range.

    Examples
    --------
    >>> str(paired_difference({0: 0.93, 1: 0.95, 2: 0.94}, {0: 0.92, 1: 0.93, 3: 0.90}))
    '0.015 ± 0.064 (n = 2)'
    """
    common = [key for key in a if key in b]
    return mean_interval(_vector("a", (a[k] for k in common)) - _vector("b", (b[k] for k in common)), confidence)


def slope(x: ArrayLike, y: ArrayLike, cell: ArrayLike, confidence: float = 0.95) -> Slope:
    r"""Least-squares slope of y on x through the means of cells.

    .. math:: \bar y_c = a + s\, \bar x_c + e_c, \qquad c = 1, \dots, C

    Points of one cell, such as the seeds of one setting, share all effects of that setting beside the line. So they are
    not replicates. The interval has C - 2 degrees of freedom, however many seeds there are.

    Parameters
    ----------
    x, y : array_like, shape (n,)
        In any units.
    cell : array_like, shape (n,)
        The cell of each point; C cells.
    confidence : float
        Between 0 and 1.

    Returns
    -------
    Slope
        Its ``n`` is C. The bounds and the p-value are NaN if C < 3. All but n are NaN if the cells' x do not vary or a
        value is not finite. If their y do not vary, all are 0 and the p-value is 1.

    Raises
    ------
    ValueError
        If the three differ in length, x or y are not numbers, or the confidence is out of range.

    Examples
    --------
    >>> str(slope([0, 1, 2, 0, 1, 2], [1, 3.1, 5, 1.2, 2.9, 5], [0, 1, 2, 0, 1, 2]))
    '1.95 ± 0.37 (n = 3, p = 0.0094)'
    """
    confidence = check_number("confidence", confidence, 0, 1, "()")
    x, y = _vector("x", x), _vector("y", y)
    cells, member = np.unique(np.asarray(cell), return_inverse=True)
    if not len(x) == len(y) == np.size(cell):
        raise ValueError(f"x, y and cell must have one length; got {len(x)}, {len(y)} and {np.size(cell)}")
    n = len(cells)
    size = np.bincount(member)
    x, y = np.bincount(member, x) / size, np.bincount(member, y) / size
    # cells whose x are all equal still differ by rounding
    if n < 2 or not (np.isfinite(x).all() and np.isfinite(y).all()) or np.ptp(x) <= 1e-12 * np.abs(x).max():
        return Slope(math.nan, math.nan, math.nan, n, math.nan)
    if n > 2 and np.ptp(y) <= 1e-12 * np.abs(y).max():
        return Slope(0.0, 0.0, 0.0, n, 1.0)
    line = linregress(x, y)
    if n < 3:
        return Slope(float(line.slope), math.nan, math.nan, n, math.nan)
    half = float(student.ppf((1 + confidence) / 2, n - 2) * line.stderr)
    return Slope(float(line.slope), float(line.slope) - half, float(line.slope) + half, n, float(line.pvalue))


def non_inferior(difference: Interval, margin: float) -> bool | None:
    """Whether a difference is shown to be no worse than a margin, or shown to be worse.

    Parameters
    ----------
    difference : Interval
        New minus old, where more is better.
    margin : float
        The acceptable loss, above 0, in the unit of the difference.

    Returns
    -------
    bool or None
        True if the whole interval is above -margin, False if it is all below. None if neither is so, or there is no
        interval.

    Raises
    ------
    ValueError
        If the margin is not a finite number above 0.

    Examples
    --------
    >>> difference = mean_interval([0.004, -0.001, 0.002])
    >>> non_inferior(difference, 0.01), non_inferior(difference, 0.001)
    (True, None)
    """
    margin = check_positive("margin", margin)
    if difference.lower > -margin:
        return True
    return False if difference.upper < -margin else None


def _vector(name: str, values: Any) -> np.ndarray:
    """Numbers in one dimension, as float64."""
    try:
        out = np.asarray(values if isinstance(values, np.ndarray) else list(values), dtype=np.float64)
    except (TypeError, ValueError):
        out = np.empty((0, 0))
    if out.ndim != 1:
        raise ValueError(f"{name} must be numbers in one dimension; got {values!r}")
    return out
