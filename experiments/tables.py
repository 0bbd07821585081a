"""Columns of a mean with its interval, which tables show as one."""

from __future__ import annotations

from experiments.statistics import Interval, Slope
from softmaxcode.pages.tables import LOWER, UPPER


def interval_columns(name: str, interval: Interval | Slope) -> dict[str, float]:
    """A mean or slope and its bounds as three columns of numbers.

    Examples
    --------
    >>> interval_columns("GNC2", Interval(0.5, 0.4, 0.6, 3))
    {'GNC2': 0.5, 'GNC2, lower': 0.4, 'GNC2, upper': 0.6}
    """
    value = interval.slope if isinstance(interval, Slope) else interval.mean
    return {name: value, name + LOWER: interval.lower, name + UPPER: interval.upper}


def counted_columns(name: str, interval: Interval) -> dict[str, float]:
    """`interval_columns`, and n as a fourth, for tables whose intervals are of different n."""
    return {**interval_columns(name, interval), f"{name}, n": interval.n}
