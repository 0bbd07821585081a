"""Descent of many points: L-BFGS on an energy of near pairs while beta increases.

The list of near pairs is computed again every few steps, unless no point has moved far enough to need it. At that
moment the largest cosine is exact, and the best points so far are kept.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from softmaxcode.search.large.kernels import threshold_of
from softmaxcode.search.large.pair_list import OutOfTime

if TYPE_CHECKING:
    from collections.abc import Callable

    from softmaxcode.parallel.deadline import Deadline
    from softmaxcode.search.large.kernels import Array, Kernels, Pairs

#: The last beta, in units of 1 / spacing: energies are then within log(pairs) / beta of the largest cosine.
LAST_BETA = 1e4
#: All pairs are evaluated in tiles where a point has more than 1 / DENSE of all others as partners.
DENSE = 1.3
#: Partners per point, in dimensions: at most, and at least (a code has some 2 d contacts per point).
MOST, FEWEST = 8.0, 3.0
#: Partners per point at least.
LEAST_PARTNERS = 24.0
#: A pair this many temperatures below the largest cosine does not matter.
NEAR = 16.0
#: Steps of decrease below this many temperatures, and how many in a row end a value of beta.
SMALL = 1e-4
STALLED = 3
#: The most time that one beta may take, in equal parts of the time left.
LONGEST = 1.5


@dataclass(frozen=True)
class Schedule:
    """How slowly beta increases.

    Attributes
    ----------
    first : float
        The first beta, in units of d / spacing.
    factor : float
        Between two values of beta.
    steps : int
        The most L-BFGS steps for each of them.
    refresh : int
        Steps between two lists of near pairs.
    """

    first: float = 1.0
    factor: float = 1.5
    steps: int = 40
    refresh: int = 10


class NearPairSearch:
    """One descent; `run` ends at the last beta or at the deadline.

    Parameters
    ----------
    X : ndarray, shape (K, d), float32
        Unit rows to start from; they change in place.
    spacing : float
        About the 1 - mu that can be reached; it is the unit of all temperatures.
    schedule : Schedule
        How slowly beta increases. Where time is short, beta increases faster.
    kernels : Kernels
        Compute on the CPU or on a GPU.
    deadline : Deadline
        The end.
    rng : Generator
        Draws the samples that give thresholds.
    report : callable
        Called with each better value of 1 - mu.

    Attributes
    ----------
    best : ndarray, shape (K, d), float32
        The best points so far; those of the start until the first list is computed.
    best_top : float
        Their largest cosine minus 1; infinite before the first list.
    """

    def __init__(
        self,
        X: np.ndarray,
        spacing: float,
        schedule: Schedule,
        kernels: Kernels,
        deadline: Deadline,
        rng: np.random.Generator,
        report: Callable[[float], None] = lambda value: None,
    ) -> None:
        self.kernels, self.deadline, self.rng, self.schedule = kernels, deadline, rng, schedule
        self.unit = X.shape[1] / spacing
        self.last = LAST_BETA / spacing
        self.report = report
        self.descent = kernels.minimizer(kernels.points(X))
        self.best = X.copy()
        self.best_top = math.inf
        self._listed = kernels.points(X.copy())
        self._pairs: Pairs | None = None
        self._energy = kernels.energy(None)
        self._beta = 0.0
        self._top = math.inf
        self._list_seconds = 0.0
        self.evaluations = 0
        self.lists = 0

    @property
    def value(self) -> float:
        """1 - mu of the best points so far."""
        return -self.best_top

    def run(self) -> None:
        """Increase beta; the best points are kept also where time runs out."""
        with contextlib.suppress(OutOfTime):
            self._increase_beta()

    def _increase_beta(self) -> None:
        self._beta = self.schedule.first * self.unit
        factor = self.schedule.factor
        while True:
            begin, left = self.deadline.elapsed, self.deadline.left
            self._refresh()
            following = 1 + math.log(self.last / self._beta) / math.log(factor)
            self._steps(self.schedule.steps, self.schedule.refresh, LONGEST * left / following)
            if self._beta >= self.last:
                break
            took = self.deadline.elapsed - begin
            factor = paced(self.schedule.factor, self._beta, self.last, took, self.deadline.left)
            self._beta = min(self.last, self._beta * factor)
        self._refresh()

    def _steps(self, count: int, every: int, seconds: float) -> None:
        """At most ``count`` steps at this beta."""
        stalled = 0
        begin = self.deadline.elapsed
        for i in range(count):
            if i and i % every == 0:
                self._refresh()
            decrease = self.descent.step(self._evaluate)
            stalled = stalled + 1 if decrease < SMALL / self._beta else 0
            if stalled >= STALLED or self.deadline.elapsed - begin > seconds:
                break

    def _evaluate(self, X: Array, grad: Array) -> float:
        if self.deadline.passed:
            raise OutOfTime
        self.evaluations += 1
        return self._energy(X, self._beta, grad)

    def _refresh(self) -> None:
        """Compute the list of near pairs again where it may lack one; keep the points if they are the best."""
        X = self.descent.X
        K, d = X.shape
        if not self._is_complete():
            most = most_partners(K, d)
            threshold = threshold_of(self.kernels, X, most, self.rng)
            if self.best_top < math.inf:
                least = threshold_of(self.kernels, X, max(FEWEST * d, LEAST_PARTNERS), self.rng)
                threshold = max(threshold, min(least, 1 + self._top - NEAR / self._beta))
                most = min(most, self._partners_above(threshold, most))
            if DENSE * most > K:
                self._pairs = None
                self._energy = self.kernels.energy(None)
            else:
                begin = self.deadline.elapsed
                if self.deadline.left < self._list_seconds:
                    raise OutOfTime
                self._pairs = self.kernels.near_pairs(X, threshold, self.deadline)
                self._list_seconds = self.deadline.elapsed - begin
                self._energy = self.kernels.energy(self._pairs)
                self._listed[:] = X
                self.lists += 1
        self.descent.evaluate(self._evaluate)
        self._top = self._energy.top
        if self._top < self.best_top:
            self.best_top = self._top
            self.best[:] = self.kernels.rows(X)
            self.report(-self._top)

    def _partners_above(self, threshold: float, most: float) -> float:
        X, K = self.descent.X, len(self.descent.X)
        rows = self.rng.choice(K, min(K, 32), replace=False)
        if K > 4 * DENSE * most:
            return most
        return float(np.count_nonzero(self.kernels.cosines(X, rows) > threshold)) / len(rows)

    def _is_complete(self) -> bool:
        """Whether no pair outside the list can matter, since no point has moved far from where it was listed."""
        if self._pairs is None:
            return False
        move = self.kernels.longest_move(self.descent.X, self._listed)
        chord = math.sqrt(max(0.0, 2 - 2 * self._pairs.threshold)) - 2 * move
        return chord > math.sqrt(-2 * min(0.0, self._top - NEAR / self._beta))


def most_partners(K: int, d: int) -> float:
    """The most partners of a point in a list, on average."""
    return min(float(K), max(MOST * d, LEAST_PARTNERS))


def paced(factor: float, beta: float, last: float, took: float, left: float) -> float:
    """The factor to the next beta: larger than ``factor`` where ``left`` seconds are too few for that.

    Parameters
    ----------
    factor : float
        The factor where time is not short.
    beta, last : float
        The present and the last beta.
    took : float
        Seconds that the present beta took.
    left : float
        Seconds that are left; infinite without a deadline.

    Examples
    --------
    >>> paced(1.5, 100.0, 1e4, 1.0, 1000.0)
    1.5
    >>> paced(1.5, 100.0, 1e4, 1.0, 3.0)
    10.0
    """
    if math.isinf(left) or took <= 0:
        return factor
    fit = max(1, int(left / took) - 1)  # one more for the last list
    return max(factor, (last / beta) ** (1 / fit))
