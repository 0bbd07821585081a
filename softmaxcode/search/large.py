"""The search for many points: unions of orbits, relaxed on near pairs; zones where even that would take too long.

Costs are predicted by counting operations. The prediction chooses groups and schedules, so that without a budget the
result depends on the pair and the seed alone. A deadline makes beta increase faster and ends every loop.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from softmaxcode.bounds.levenshtein_bound import levenshtein
from softmaxcode.parallel.pool import Pool
from softmaxcode.parallel.threads import one_blas_thread
from softmaxcode.search.near_pair_search import NearPairSearch, Schedule
from softmaxcode.search.near_pairs import uses_tree
from softmaxcode.search.pauli_orbits import GroupName, expand, groups, orbit_search
from softmaxcode.search.zones import zones
from softmaxcode.sphere import random_rows, unit_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from softmaxcode.parallel.deadline import Deadline
    from softmaxcode.parallel.progress import Progress
    from softmaxcode.types import Rows

#: Schedules of orbits, slowest first: steps, factor, and about how many energies they evaluate.
SLOW, MEDIUM, QUICK = (200, 1.15, 1500), (60, 1.25, 900), (20, 1.5, 300)
#: Floating-point operations per second of a thread in matrix products, and seconds per cosine beside them.
FLOPS = 4e10
PER_COSINE = 1e-9
#: Seconds to list and to evaluate a near pair, per dimension and beside.
PER_PAIR = (6e-9, 2e-10)
#: Energies and lists of a relaxation.
RELAXATION = (250, 12)
#: Seconds per coordinate of the result.
PER_COORDINATE = 1.5e-8
#: Seconds of one thread that a search without a budget may take by prediction.
UNLIMITED = 40.0
#: Orbits of a trial, which chooses between groups with and without -1.
TRIAL_ORBITS = 96
#: Fractions of the time for trials, and for trials and orbits.
TRIALS, ORBITS = 0.15, 0.65
#: Few orbits of large groups are tried this many times each.
FEW, TRIES = 4, 4


@dataclass(frozen=True, eq=False)
class LargeResult:
    """Rows (K, d) in float64, 1 - mu up to float32 rounding, the method in words, and the number of starts."""

    W: Rows
    value: float
    method: str
    starts: int


def orbit_seconds(name: GroupName, K: int, d: int, evaluations: int, threads: int) -> float:
    """The predicted duration of a search of orbits."""
    order = name.order(d)
    n = -(-K // order)
    cosines = n * n * (order / 2 if name.negatives else order)
    return evaluations * cosines * (4 * d / FLOPS + PER_COSINE) / threads


def relaxation_seconds(K: int, d: int, threads: int) -> float:
    """The predicted duration of a relaxation on near pairs."""
    pairs = K * min(K, max(5.0 * d, 24.0))
    lists = K * 2e-5 if uses_tree(K, d) else K * K * (d / FLOPS + 2e-10)
    energies, refreshes = RELAXATION
    return (energies * pairs * (PER_PAIR[0] + d * PER_PAIR[1]) + refreshes * lists) / threads


class LargeSearch:
    """One search; `run` returns the best result.

    Parameters
    ----------
    K, d : int
        Number of classes and dimension.
    seed : int
        Everything random follows from it.
    n_jobs : int
        Threads; the result does not depend on their number, unless time ends the search.
    deadline : Deadline
        The end of the search. Building the result takes some more time (`PER_COORDINATE`).
    memory : int
        Bytes that the search may take beside the result.
    inits : sequence of ndarray, each of shape (K, d)
        Configurations to relax too.
    progress : Progress
        Shows the best value.
    """

    def __init__(
        self,
        K: int,
        d: int,
        *,
        seed: int,
        n_jobs: int,
        deadline: Deadline,
        memory: int,
        inits: Sequence[Rows],
        progress: Progress,
    ) -> None:
        self.K, self.d, self.deadline, self.memory, self.inits = K, d, deadline, memory, inits
        self.rng = np.random.default_rng(seed)
        self.progress = progress
        self.n_jobs = n_jobs
        self.spacing = max(1e-9, 1 - levenshtein(K, d).value)
        self.starts = 0
        self.best: tuple[float, GroupName | None, np.ndarray | None, str] = (-math.inf, None, None, "")

    @property
    def _seconds(self) -> float:
        """Seconds to plan with, of one thread without a deadline."""
        return self.deadline.left if self.deadline.seconds is not None else UNLIMITED - 0.0

    @property
    def _threads(self) -> int:
        """Threads to plan with."""
        return self.pool.size if self.deadline.seconds is not None else 1

    def run(self) -> LargeResult:
        """Search, and build the rows of the best result."""
        with one_blas_thread(), Pool(self.n_jobs) as self.pool:
            if uses_tree(self.K, self.d):
                return self._few_dimensions()
            self._orbits()
            return self._relaxed()

    # Few dimensions: from zones

    def _few_dimensions(self) -> LargeResult:
        W = zones(self.K, self.d, self.rng)
        method = "zones"
        if relaxation_seconds(self.K, self.d, self._threads) < 8 * self._seconds:
            X = self._noisy(W.astype(np.float32), 0.05 * math.sqrt(2 * self.spacing / self.d))
            found = self._descend(X, Schedule())
            if found.value > 0:
                return self._result(unit_rows(found.best.astype(np.float64)), found.value, "zones, relaxed on near pairs")
        return self._result(W, math.nan, method)

    # Many dimensions: orbits

    def _orbits(self) -> None:
        K, d = self.K, self.d
        total = self._seconds
        every = groups(d, max(2, K if K < 10**5 else 4 * K))
        for name in every:
            if K // FEW <= name.order(d) <= 2 * K:
                for _ in range(TRIES):
                    if orbit_seconds(name, K, d, 2 * QUICK[2], self._threads) > 0.02 * total:
                        break
                    self._try(name, QUICK, TRIALS * total / TRIES)
        kinds = [[n for n in every if n.negatives is negatives] for negatives in (False, True)]
        kind = kinds[1]
        trials = [min(names, key=lambda n: abs(math.log(n.order(d) * TRIAL_ORBITS / K))) for names in kinds]
        costs = [orbit_seconds(n, K, d, QUICK[2], self._threads) for n in trials]
        if sum(costs) < TRIALS * total:
            values = [self._try(name, QUICK, TRIALS * total) for name in trials]
            kind = kinds[int(values[1] >= values[0])]
        left = ORBITS * self._seconds
        for schedule in (SLOW, MEDIUM, QUICK):
            fitting = [n for n in kind if orbit_seconds(n, K, d, schedule[2], self._threads) < left]
            if fitting and (schedule is not SLOW or fitting[0].order(d) <= 8):
                self._try(fitting[0], schedule, left)
                return
        last = min(every, key=lambda n: orbit_seconds(n, K, d, 1, 1))
        if orbit_seconds(last, K, d, 30, self._threads) < self._seconds:
            self._try(last, QUICK, self._seconds)

    def _try(self, name: GroupName, schedule: tuple[int, float, int], seconds: float) -> float:
        """Search orbits of a group from random ones; the best of all tries is kept."""
        order = name.order(self.d)
        n = -(-self.K // order)
        X = random_rows(n, self.d, self.rng).astype(np.float32)
        limit = self.deadline if self.deadline.seconds is None else self.deadline.within(seconds)
        X, value = orbit_search(
            name.build(self.d), X, self.spacing, self.pool, limit, steps=schedule[0], factor=schedule[1]
        )
        self.starts += 1
        if value > self.best[0]:
            self.best = (value, name, X, f"{n} orbits of a group of order {order}")
            self.progress.step(1, best=f"{value:.6f}")
        return value

    def _relaxed(self) -> LargeResult:
        """The best orbits as rows, relaxed without symmetry if there is time and memory."""
        K, d = self.K, self.d
        value, name, X, method = self.best
        if name is None or X is None:
            W = zones(K, d, self.rng) if d <= 12 else random_rows(K, d, self.rng)
            value, method = math.nan, "zones" if d <= 12 else "random points"
        else:
            W = np.empty((K, d))
            expand(name.build(d), unit_rows(X.astype(np.float64)), K, W)
        seconds = relaxation_seconds(K, d, self._threads)
        fits = seconds < self._seconds and relaxation_memory(K, d) < self.memory
        for init in self.inits if fits else ():
            found = self._descend(np.array(init, dtype=np.float32), Schedule(spread=(), first=64.0))
            if not found.value <= value:
                W, value, method = unit_rows(found.best.astype(np.float64)), found.value, "init, relaxed on near pairs"
        if fits and not method.startswith("init"):
            start = self._noisy(W.astype(np.float32), 1e-3)
            found = self._descend(start, Schedule(spread=(), first=8.0))
            if not found.value <= value:
                method = f"{method}, symmetry-relaxed on near pairs"
                W, value = unit_rows(found.best.astype(np.float64)), found.value
        return self._result(W, value, method)

    def _noisy(self, X: np.ndarray, size: float) -> np.ndarray:
        X += np.float32(size) * self.rng.standard_normal(X.shape, dtype=np.float32)
        X /= np.linalg.norm(X, axis=1, keepdims=True)
        return X

    def _descend(self, X: np.ndarray, schedule: Schedule) -> NearPairSearch:
        found = NearPairSearch(
            X, self.spacing, schedule, self.pool, self.deadline, self.rng,
            lambda value: self.progress.step(1, best=f"{value:.6g}"),
        )  # fmt: skip
        found.run()
        self.starts += 1
        return found

    def _result(self, W: Rows, value: float, method: str) -> LargeResult:
        return LargeResult(W, value, method, self.starts)


def relaxation_memory(K: int, d: int) -> int:
    """Bytes of a relaxation on near pairs: points, work arrays and the list while it is built."""
    arrays = 4 * K * d * 22
    pairs = int(K * min(K, max(8.0 * d, 24.0)) / 2)
    return arrays + 24 * pairs
