"""The search for many points: unions of orbits, relaxed on near pairs; zones where even that would take too long.

Costs are predicted by counting operations. The prediction chooses groups and schedules, so that without a budget the
result depends on the pair and the seed alone. A deadline makes beta increase faster and ends every loop.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from joblib import effective_n_jobs

from softmaxcode.bounds.levenshtein_bound import levenshtein
from softmaxcode.checks.arguments import machine_memory, search_memory
from softmaxcode.contacts.polish import can_polish, centre_rattlers, expected_seconds, polish_tammes
from softmaxcode.parallel.thread_pool import ThreadPool
from softmaxcode.parallel.threads import one_blas_thread
from softmaxcode.search.interrupted import SearchInterrupted
from softmaxcode.search.large.descent import LAST_BETA, NearPairSearch, Schedule
from softmaxcode.search.large.kernels import CompiledKernels
from softmaxcode.search.large.pair_list import uses_tree
from softmaxcode.search.large.pauli_orbits import GroupName, expand, groups, orbit_search
from softmaxcode.search.large.zones import zones
from softmaxcode.sphere import random_rows, unit_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from softmaxcode.parallel.deadline import Deadline
    from softmaxcode.parallel.progress import Progress
    from softmaxcode.search.large.kernels import Kernels
    from softmaxcode.search.large.tensors import TensorKernels
    from softmaxcode.types import Rows

#: More points than this are many. For fewer, starts of few points evaluate this many energies at least, each K^2 d
#: times 4 floating-point operations at this rate, before they can be left.
MANY = 500
PIPELINE_FLOPS, PIPELINE_RATE = 4 * 400 * 40, 1e10
#: Schedules of orbits, slowest first: steps, factor, and about how many energies they evaluate.
SLOW, MEDIUM, QUICK = (200, 1.15, 1500), (60, 1.25, 900), (20, 1.5, 300)
#: Floating-point operations per second of a thread in matrix products, and seconds per cosine beside them.
FLOPS = 4e10
PER_COSINE = 1e-9
#: Seconds to list and to evaluate a near pair, per dimension and beside.
PER_PAIR = (6e-9, 2e-10)
#: Energies of a relaxation per value of beta, and its lists.
RELAXATION = (45, 12)
#: The first beta of a relaxation, in units of d / spacing: of orbits, of an init, of zones, where time decides,
#: and of random points.
FROM_ORBITS, FROM_INIT, FROM_ZONES, FROM_RANDOM = 8.0, 64.0, (1.0, 4.0, 16.0), 1.0
#: Seconds per coordinate of the result.
PER_COORDINATE = 4e-8
#: Seconds of one thread that a search without a budget may take by prediction.
UNLIMITED = 40.0
#: Orbits of a trial, which chooses between groups with and without -1.
TRIAL_ORBITS = 96
#: Fractions of the time for trials, and for trials and orbits.
TRIALS, ORBITS = 0.15, 0.65
#: Bytes of a thread's blocks, and the fraction of the machine's memory that a relaxation may use.
BLOCKS_MEMORY = 80 * 10**6
MEMORY_FRACTION = 0.6
#: Coordinates drawn together.
_PART = 2**20
#: No fewer dimensions are used than this fraction.
MOST_LOST = 0.85
#: Without orbits, zones are better than random points up to this dimension.
MOST_ZONES = 12
#: Polishing is planned if it takes at most this fraction of the time left, and gets some more than expected.
POLISH_FRACTION, POLISH_RESERVE = 0.4, 1.3
#: The fraction of polishing that follows when its deadline has passed.
LAST_STEPS = 0.15
#: Few orbits of large groups are tried this many times each.
FEW, TRIES = 4, 4
#: A search ends after its trials if a known 1 - mu is this many times theirs, or if their mu is this many times its mu.
CLEARLY_BETTER, FAR = 1.03, 1.35


@dataclass(frozen=True, eq=False)
class LargeResult:
    """Rows (K, d) in float64 and 1 - mu up to float32 rounding, with how they were found.

    That is the method in words, the number of starts, the most memory in bytes, and the device as in `Provenance`.
    """

    W: Rows
    value: float
    method: str
    starts: int
    memory: int = 0
    device: str = "numba"


def is_large(K: int, d: int, seconds: float, n_jobs: int) -> bool:
    """Whether `search_many` searches a pair: from `MANY` points on, or where many starts would take too long."""
    return K > MANY or PIPELINE_FLOPS * K * K * d > 0.5 * seconds * PIPELINE_RATE * effective_n_jobs(n_jobs)


def orbit_seconds(name: GroupName, K: int, d: int, evaluations: int, threads: int) -> float:
    """The predicted duration of a search of orbits."""
    order = name.order(d)
    n = -(-K // order)
    cosines = n * n * (order / 2 if name.negatives else order)
    return evaluations * cosines * (4 * d / FLOPS + PER_COSINE) / threads


def relaxation_seconds(K: int, d: int, first: float, threads: int) -> float:
    """The predicted duration of a relaxation on near pairs from beta = first * d / spacing on."""
    pairs = K * min(K, max(5.0 * d, 24.0))
    lists = K * 3e-6 * 2.0 ** (d - 3) if uses_tree(K, d) else K * K * (d / FLOPS + 2e-10)
    energies, refreshes = RELAXATION
    energies = int(energies * math.log(LAST_BETA / (first * d)) / math.log(Schedule.factor))
    return (energies * pairs * (PER_PAIR[0] + d * PER_PAIR[1]) + refreshes * lists) / threads


def search_many(
    K: int,
    d: int,
    *,
    seed: int,
    n_jobs: int,
    deadline: Deadline,
    limited: bool,
    device: str | None = None,
    inits: Sequence[Rows] = (),
    known: float = -math.inf,
    progress: Progress,
) -> LargeResult:
    """Search for many points.

    Parameters
    ----------
    K, d : int
        Number of classes and dimension.
    seed : int
        Everything random follows from it.
    n_jobs : int
        Threads; the result does not depend on their number, unless time ends the search.
    deadline : Deadline
        The end.
    limited : bool
        Plan with the time until the deadline. Otherwise the plan depends on the pair alone.
    device : str, optional
        Relax random points on this PyTorch device, by the same algorithm, where its memory is large enough for that.
        Orbits are then not searched. By default everything is on the CPU.
    inits : sequence of ndarray, each of shape (K, d)
        Configurations to relax too.
    known : float
        1 - mu of a known code. The search ends after its trials, without a result, if it would hardly be better.
    progress : Progress
        Shows the best value.

    Raises
    ------
    SearchInterrupted
        After Ctrl-C, with the best rows so far; KeyboardInterrupt before there are any.
    """
    reserve = PER_COORDINATE * K * d
    polishing = expected_seconds(K, d) if can_polish(K, d) else math.inf
    if polishing < POLISH_FRACTION * deadline.left:
        reserve += POLISH_RESERVE * polishing
    end = deadline.within(max(0.0, deadline.left - reserve))
    fitting = max(1, (machine_memory() - search_memory(K, d)) // BLOCKS_MEMORY)
    with one_blas_thread(), ThreadPool(min(effective_n_jobs(n_jobs), fitting)) as pool:
        search = LargeSearch(K, d, np.random.default_rng(seed), pool, end, limited, progress)
        tensors = None if device is None else tensor_kernels(device, K, d)
        try:
            found = search.run(inits, known) if tensors is None else search.run_on_device(tensors, inits)
        except KeyboardInterrupt:
            best = search.so_far()
            if best is None:
                raise
            raise SearchInterrupted(*best) from None
        if len(found.W) and polishing < deadline.left:
            last = None if deadline.end is None else deadline.end - LAST_STEPS * polishing
            polished = polish_tammes(found.W, 10 * search.spacing / LAST_BETA, last)
            if polished.value > found.value:
                W = centre_rattlers(polished.X, ~polished.contacts.members(K))
                found = replace(found, W=W, value=polished.value, method=f"{found.method}, polished")
        return found


class LargeSearch:
    """The state of a search; the parameters are those of `search_many`."""

    def __init__(
        self,
        K: int,
        d: int,
        rng: np.random.Generator,
        pool: ThreadPool,
        deadline: Deadline,
        limited: bool,
        progress: Progress,
    ) -> None:
        self.K, self.d, self.rng, self.pool, self.deadline, self.progress = K, d, rng, pool, deadline, progress
        self.limited = limited
        self.spacing = max(1e-9, 1 - levenshtein(K, d).value)
        self.threads = pool.size if limited else 1
        self.starts = 0
        self.memory = search_memory(K, d) + pool.size * BLOCKS_MEMORY
        self.best: tuple[float, GroupName | None, np.ndarray | None] = (-math.inf, None, None)
        self._relaxed_best: tuple[float, np.ndarray | None] = (-math.inf, None)

    @property
    def _seconds(self) -> float:
        """Seconds to plan with."""
        return self.deadline.left if self.limited else UNLIMITED

    def run(self, inits: Sequence[Rows], known: float) -> LargeResult:
        """Search, and build the rows of the best result; no rows if the trials are far from a known value."""
        if self._orbits(known) or inits:
            return self._relaxed(inits)
        return LargeResult(np.empty((0, self.d)), self.best[0], "", self.starts)

    def run_on_device(self, kernels: TensorKernels, inits: Sequence[Rows]) -> LargeResult:
        """Relax random points and the inits on a device; the best result."""
        self.memory = search_memory(self.K, self.d) + kernels.memory(self.K, self.d)
        starts = [(init, FROM_INIT, "init") for init in inits]
        starts.insert(0, (many_random_rows(self.K, self.d, self.rng), FROM_RANDOM, "random points"))
        W, value, method = starts[0][0], -math.inf, "random points"
        for X, first, name in starts:
            found = self._descend(X.astype(np.float32), first, kernels)
            if found.value > value and not math.isinf(found.value):
                W, value = unit_rows(found.best.astype(np.float64)), found.value
                method = f"{name}, relaxed on near pairs"
        return LargeResult(W, value, method, self.starts, self.memory, str(kernels.device))

    def so_far(self) -> tuple[Rows, float] | None:
        """The best rows and their 1 - mu, where a search is interrupted; None before there are any."""
        value, X = self._relaxed_best
        if X is not None and value >= self.best[0]:
            return unit_rows(X.astype(np.float64)), value
        return None if self.best[1] is None else self._rows()[:2]

    # Unions of orbits

    def _orbits(self, known: float) -> bool:
        """Search orbits; False if the trials show that the result will hardly be better than ``known``."""
        K, d = self.K, self.d
        total = self._seconds
        every = groups(d, max(2, K if K < 10**5 else 4 * K))
        for name in every:
            if K // FEW <= name.order(d) <= 2 * K:
                for _ in range(TRIES):
                    if orbit_seconds(name, K, d, 2 * QUICK[2], self.threads) > 0.02 * total:
                        break
                    if self._try(name, QUICK, TRIALS * total / TRIES) < 1 - FAR * (1 - known):
                        break
        if -math.inf < self.best[0] < 1 - FAR * (1 - known):
            return False
        kinds = [[n for n in every if n.negatives is negatives] for negatives in (False, True)]
        kind = kinds[1]
        trials = [min(names, key=lambda n: abs(math.log(n.order(d) * TRIAL_ORBITS / K))) for names in kinds]
        costs = [orbit_seconds(n, K, d, QUICK[2], self.threads) for n in trials]
        if sum(costs) < TRIALS * total:
            values = [self._try(name, QUICK, TRIALS * total) for name in trials]
            kind = kinds[int(values[1] >= values[0])]
            if self.best[0] < max(known / CLEARLY_BETTER, 1 - FAR * (1 - known)):
                return False
        left = ORBITS * self._seconds
        for schedule in (SLOW, MEDIUM, QUICK):
            fitting = [n for n in kind if orbit_seconds(n, K, d, schedule[2], self.threads) < left]
            if fitting and (schedule is not SLOW or fitting[0].order(d) <= 8):
                self._try(fitting[0], schedule, left)
                return True
        self._last_resort()
        return True

    def _last_resort(self) -> None:
        """The cheapest group, also in somewhat fewer dimensions, whose powers of 2 make larger groups."""
        widths = [self.d] + [self.d - self.d % power for power in (2, 4, 8, 16, 32, 64) if self.d % power]
        choices = [
            (orbit_seconds(name, self.K, width, 1, self.threads), width, name)
            for width in widths
            if width > MOST_LOST * self.d
            for name in groups(width, 4 * self.K)
        ]
        left = self._seconds
        for evaluations in (QUICK[2], QUICK[2] // 10):
            fitting = [choice for choice in choices if evaluations * choice[0] < left]
            if fitting:  # the most dimensions, and of its groups the fastest
                _, width, name = min(fitting, key=lambda choice: (-choice[1], choice[0]))
                self._try(name, QUICK, left, width)
                return

    def _try(
        self, name: GroupName, schedule: tuple[int, float, int], seconds: float, width: int | None = None
    ) -> float:
        """Search orbits of a group from random ones in ``width`` dimensions; the best of all tries is kept."""
        width = self.d if width is None else width
        n = -(-self.K // name.order(width))
        X = random_rows(n, width, self.rng).astype(np.float32)
        limit = self.deadline.within(seconds if self.limited else math.inf)
        X, value = orbit_search(
            name.build(width), X, self.spacing, self.pool, limit, steps=schedule[0], factor=schedule[1]
        )
        self.starts += 1
        if value > self.best[0]:
            self.best = (value, name, X)
            self.progress.step(1, best=f"{value:.6f}")
        return value

    # All rows

    def _rows(self) -> tuple[Rows, float, str]:
        """The best orbits as rows with their value and method; zones or random points where there are none."""
        value, name, X = self.best
        if name is not None and X is not None:
            width = X.shape[1]
            order, W = name.order(width), np.zeros((self.K, self.d))
            expand(name.build(width), unit_rows(X.astype(np.float64)), self.K, W[:, :width])
            return W, value, f"{-(-self.K // order)} orbits of a group of order {order}"
        if self.d <= MOST_ZONES:
            return *zones(self.K, self.d, self.rng), "zones"
        return many_random_rows(self.K, self.d, self.rng), -math.inf, "random points"

    def _relaxed(self, inits: Sequence[Rows]) -> LargeResult:
        """The best rows, or an init, relaxed without symmetry if there is time and memory."""
        W, value, method = self._rows()
        symmetric = self.best[1] is not None
        for init in inits:
            found = self._descend(np.array(init, dtype=np.float32), FROM_INIT)
            if math.isinf(found.value) or found.value >= value:  # also where there was no time to compute its value
                W, value, method = unit_rows(found.best.astype(np.float64)), found.value, "init, relaxed on near pairs"
        betas = (FROM_ORBITS,) if symmetric else FROM_ZONES
        left = self._seconds
        fitting = [b for b in betas if relaxation_seconds(self.K, self.d, b, self.threads) < left]
        if fitting and not method.startswith("init") and self._has_memory():
            found = self._descend(self._noisy(W.astype(np.float32), 0.005 if symmetric else 0.05), fitting[0])
            if found.value > value:
                method = f"{method}, {'symmetry-' if symmetric else ''}relaxed on near pairs"
                W, value = unit_rows(found.best.astype(np.float64)), found.value
        return LargeResult(W, value, method, self.starts, self.memory)

    def _has_memory(self) -> bool:
        """Whether a relaxation fits into the memory of the machine; if so, it is counted."""
        needed = self.memory + relaxation_memory(self.K, self.d)
        if needed > MEMORY_FRACTION * machine_memory():
            return False
        self.memory = needed
        return True

    def _noisy(self, X: np.ndarray, size: float) -> np.ndarray:
        """X moved at random by ``size`` times the distance of neighbours."""
        X += np.float32(size * math.sqrt(2 * self.spacing / self.d)) * self.rng.standard_normal(
            X.shape, dtype=np.float32
        )
        X /= np.linalg.norm(X, axis=1, keepdims=True)
        return X

    def _descend(self, X: np.ndarray, first: float, kernels: Kernels | None = None) -> NearPairSearch:
        found = NearPairSearch(
            X, self.spacing, Schedule(first=first), kernels or CompiledKernels(self.pool), self.deadline, self.rng,
            lambda value: self.progress.step(1, best=f"{value:.6g}"),
        )  # fmt: skip
        try:
            found.run()
        finally:  # also where it is interrupted
            if found.value > self._relaxed_best[0]:
                self._relaxed_best = (found.value, found.best)
        self.starts += 1
        return found


def tensor_kernels(device: str, K: int, d: int) -> TensorKernels | None:
    """The kernels on a device, or None where its memory is too small."""
    from softmaxcode.search.large.tensors import TensorKernels  # imports torch

    kernels = TensorKernels(device)
    return kernels if kernels.has_room(K, d) else None


def many_random_rows(K: int, d: int, rng: np.random.Generator) -> Rows:
    """Independent points, uniform on the unit sphere of R^d, without temporary arrays of the size of the result."""
    W = np.empty((K, d))
    size = max(1, _PART // d)
    for first in range(0, K, size):
        part = W[first : first + size]
        part[:] = rng.standard_normal(part.shape, dtype=np.float32)
        part /= np.sqrt(np.einsum("kd,kd->k", part, part))[:, None]
    return W


def relaxation_memory(K: int, d: int) -> int:
    """Bytes of a relaxation on near pairs: points, work arrays and the list while it is built."""
    arrays = 4 * K * d * 22
    pairs = int(K * min(K, max(8.0 * d, 24.0)) / 2)
    return arrays + 24 * pairs
