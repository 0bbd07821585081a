"""The end of a time budget, which every long loop checks."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Deadline:
    """A point in time, and the seconds left until then.

    Parameters
    ----------
    seconds : float or None
        Seconds from now; None for no end.
    clock : callable
        Returns seconds; `time.monotonic` unless a test replaces it.

    Examples
    --------
    >>> now = iter([0.0, 4.0, 11.0, 11.0])
    >>> deadline = Deadline(10.0, clock=lambda: next(now))
    >>> deadline.left, deadline.passed
    (6.0, True)
    """

    def __init__(self, seconds: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.begin = clock()
        self.seconds = seconds

    @property
    def elapsed(self) -> float:
        """Seconds since the deadline was set."""
        return self.clock() - self.begin

    @property
    def left(self) -> float:
        """Seconds left, negative past the end; infinite without an end."""
        return math.inf if self.seconds is None else self.seconds - self.elapsed

    @property
    def passed(self) -> bool:
        """Whether no time is left."""
        return self.left <= 0

    @property
    def end(self) -> float | None:
        """The end in seconds of the clock."""
        return None if self.seconds is None else self.begin + self.seconds

    def within(self, seconds: float) -> Deadline:
        """A deadline at most this many seconds from now, and not after this one."""
        return Deadline(min(seconds, self.left), self.clock)

    def without_end(self) -> Deadline:
        """The same beginning, and no end."""
        endless = Deadline(None, self.clock)
        endless.begin = self.begin
        return endless
