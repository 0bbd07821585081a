"""The search for packings: random starts, orbits of groups and hops side by side, over one pool.

Each stage works in rounds of independent tasks. A task depends on its seed and on the pool before its round alone, so
results do not depend on the number of threads. Limited by counts, the stages advance in proportion to their counts;
limited by time, in proportion to their fractions of it.
"""

from __future__ import annotations

import functools
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from softmaxcode.search.basin_hopping import CHAINS, HOPS_PER_ROUND
from softmaxcode.search.multistart import Candidate
from softmaxcode.search.orbit_starts import (
    NOISE,
    RELAX,
    SLACK,
    OrbitStart,
    finish_both_ways,
    leading_compositions,
    orbit_start,
)
from softmaxcode.search.pool import Packing, Pool
from softmaxcode.search.scale import scale
from softmaxcode.search.stages import START_SLACK, descend_to_end, hop_chain, random_packing, screened
from softmaxcode.search.subsets import subset_packing
from softmaxcode.search.symmetry import LAST_BETA, SymmetricSearch
from softmaxcode.sphere import unit_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from softmaxcode.parallel.progress import Progress
    from softmaxcode.parallel.threads import Threads
    from softmaxcode.search.symmetry import SymmetricCandidate
    from softmaxcode.types import Rows

#: Fractions of the time for orbits of matrix groups, random starts, orbits of permutation groups, subsets of larger
#: codes (where some are given), and hops.
TIME_FRACTIONS_3D = {"orbits": 0.4, "starts": 0.2, "permutations": 0.0, "subsets": 0.2, "hops": 0.4}
TIME_FRACTIONS = {"orbits": 0.25, "starts": 0.1, "permutations": 0.2, "subsets": 0.25, "hops": 0.45}
#: Tries of permutation groups per random start.
SYMMETRIC = 0.5
#: The duration of a round on one core, in seconds, and its most tasks.
ROUND_SECONDS = 0.2
MOST_TASKS = 64
#: The mean rank in the pool from which hops start.
MEAN_RANK = 2.0


def start_seconds(K: int, d: int) -> float:
    """About the seconds of a random start on one core, within a factor of 3 for K = 34 to 400 and d = 3 to 16."""
    return 4e-4 + 2e-7 * K * K * d


@dataclass
class Stage:
    """A stage, the work planned and done, and the seconds that it took."""

    time_fraction: float
    planned: int | None
    round: Callable[[int | None, float | None], int]
    done: int = 0
    seconds: float = 0.0

    def over(self, fraction: float = 1.0) -> bool:
        """Whether that fraction of the planned work is done."""
        return self.time_fraction == 0.0 or (self.planned is not None and self.done >= fraction * self.planned)

    @property
    def progress(self) -> float:
        """What is compared between stages: the one that is furthest behind comes next."""
        return self.seconds / self.time_fraction if self.planned is None else self.done / max(1, self.planned)


class PackingSearch:
    """Searches for packings of K points in R^d, d >= 3; call `run` with fractions of the work.

    Parameters
    ----------
    K, d : int
        Number of points and dimension.
    starts, hops : int or None
        Random starts, and hops; None without a limit.
    seed : SeedSequence
        Everything random follows from it.
    threads : Threads
        The threads that run the tasks.
    progress : Progress
        Shows the best value after each round.
    larger : sequence of ndarray, each of shape (more than K, d)
        Codes whose subsets are tried.
    """

    def __init__(
        self,
        K: int,
        d: int,
        starts: int | None,
        hops: int | None,
        *,
        seed: np.random.SeedSequence,
        threads: Threads,
        progress: Progress,
        larger: Sequence[Rows] = (),
    ) -> None:
        self.K, self.d, self.threads, self.progress, self._larger = K, d, threads, progress, larger
        self.scale = scale(K, d)
        self.pool = Pool(self.scale)
        self.starts_made = 0
        seeds = seed.spawn(5)
        self._start_seeds, self._orbit_seeds, permutation_seeds, self._hop_seeds, self._subset_seeds = seeds
        self._permutations = SymmetricSearch(K, d, permutation_seeds, threads)
        self._leading: list[OrbitStart] = []
        fractions = TIME_FRACTIONS_3D if d == 3 else TIME_FRACTIONS
        tries = None if starts is None else int(starts * SYMMETRIC)
        fits = {"permutations": self._permutations.fits, "subsets": bool(larger)}
        rounds = {
            "orbits": (starts, self._orbit_round),
            "starts": (starts, self._start_round),
            "permutations": (tries, self._permutation_round),
            "subsets": (starts, self._subset_round),
            "hops": (hops, self._hop_round),
        }
        self.stages = {
            name: Stage(fractions[name] if fits.get(name, True) else 0.0, planned, work)
            for name, (planned, work) in rounds.items()
        }
        seconds = start_seconds(K, d)
        self._tasks = int(np.clip(ROUND_SECONDS / seconds, 2, MOST_TASKS))
        self._hops = HOPS_PER_ROUND if seconds < ROUND_SECONDS / CHAINS / HOPS_PER_ROUND else 1
        self._chains = CHAINS * int(np.clip(ROUND_SECONDS / seconds / CHAINS / self._hops, 1, 8))

    def improve(self, inits: list[Rows], first: tuple[float, ...], deadline: float | None = None) -> None:
        """Take given codes into the pool, after a schedule from each first beta (times delta)."""
        tasks = [
            functools.partial(descend_to_end, X, b / self.scale.delta, self.scale, deadline)
            for X in inits
            for b in first
        ]
        self.pool.add(self.threads.run("improve", tasks), self.threads, deadline)

    def try_starts(self, starts: list[Rows], first: tuple[float, ...], deadline: float | None = None) -> None:
        """Screen given starts like random ones, from each first beta (times delta)."""
        limit = self.pool.screen + START_SLACK * self.scale.delta
        task = functools.partial(
            screened, scale=self.scale, limit=limit, known=[p.second for p in self.pool.packings], deadline=deadline
        )
        tasks = [functools.partial(task, X, b / self.scale.delta) for X in starts for b in first]
        found = self.threads.run("starts", tasks)
        self.pool.add([packing for packing in found if packing is not None], self.threads, deadline)

    def run(self, fractions: dict[str, float], spent: Callable[[], bool], deadline: float | None, floor: float) -> None:
        """Work until these fractions of the planned stages are done, time is spent, or the best is at the floor.

        Parameters
        ----------
        fractions : dict
            The fraction of the planned work, by stage; 1 for those that are not named.
        spent : callable
            Whether the time is over.
        deadline : float or None
            When tasks under way end, in seconds of `time.monotonic`.
        floor : float
            A largest cosine that is good enough.
        """
        while True:
            open_stages = [s for name, s in self.stages.items() if not s.over(fractions.get(name, 1.0))]
            if not open_stages or (self.pool.packings and (spent() or self.pool.best.value <= floor)):
                return
            stage = self.stages["starts"] if not self.pool.packings else min(open_stages, key=lambda s: s.progress)
            begin = time.monotonic()
            left = None if stage.planned is None else stage.planned - stage.done
            made = stage.round(left, deadline)
            stage.done += made
            stage.seconds += time.monotonic() - begin
            self.progress.step(made, best=f"{1 - self.pool.best.value:.9f}")

    def _spawn(self, seeds: np.random.SeedSequence, left: int | None) -> list[np.random.SeedSequence]:
        return seeds.spawn(self._tasks if left is None else max(1, min(self._tasks, left)))

    def _start_round(self, left: int | None, deadline: float | None) -> int:
        """Random starts, screened against the pool; the first of all is finished in any case."""
        task = functools.partial(random_packing, self.K, self.d)
        made = self._screened_round("starts", task, self._spawn(self._start_seeds, left), deadline)
        self.starts_made += made
        return made

    def _subset_round(self, left: int | None, deadline: float | None) -> int:
        """Subsets of larger codes, screened like random starts."""
        task = functools.partial(subset_packing, self._larger, self.K)
        return self._screened_round("subsets", task, self._spawn(self._subset_seeds, left), deadline)

    def _screened_round(
        self,
        name: str,
        start: Callable[..., Packing | None],
        seeds: list[np.random.SeedSequence],
        deadline: float | None,
    ) -> int:
        """One start for each seed, screened against the pool; those that can compete go there."""
        task = functools.partial(
            start,
            scale=self.scale,
            limit=self.pool.screen + START_SLACK * self.scale.delta,
            known=[p.second for p in self.pool.packings],
            deadline=deadline,
        )
        found = self.threads.run(name, [functools.partial(task, seed) for seed in seeds])
        self.pool.add([packing for packing in found if packing is not None], self.threads, deadline)
        return len(seeds)

    def _orbit_round(self, left: int | None, deadline: float | None) -> int:
        """Orbits of matrix groups; the promising are finished with the symmetry and without it."""
        seeds = self._spawn(self._orbit_seeds, left)
        compositions = [start.composition for start in self._leading]
        task = functools.partial(orbit_start, self.K, self.d, compositions, scale=self.scale, deadline=deadline)
        drawn = self.threads.run("orbit starts", [functools.partial(task, seed) for seed in seeds])
        starts = [start for start in drawn if start is not None]
        self._leading = leading_compositions(self._leading + starts)
        best = min([self.pool.screen, *(start.energy for start in starts)])
        promising = [start for start in starts if start.energy <= best + SLACK * self.scale.delta]
        finish = functools.partial(finish_both_ways, scale=self.scale, deadline=deadline)
        tasks = [
            functools.partial(finish, start, seed.spawn(1)[0]) for start, seed in zip(promising, seeds, strict=False)
        ]
        found = self.threads.run("orbit finish", tasks)
        self.pool.add([packing for both in found for packing in both], self.threads, deadline)
        return len(seeds)

    def _permutation_round(self, left: int | None, deadline: float | None) -> int:
        """Orbits of permutation groups; the candidates are improved without the symmetry, too."""
        count = max(1, min(self._tasks, 16) if left is None else min(self._tasks, 16, left))
        found = self._permutations.round(count, deadline)
        near = [
            c for c in found if not self.pool.packings or c.value <= self.pool.best.value + SLACK * self.scale.delta
        ]
        tasks = [functools.partial(self._relax, c, deadline) for c in near]
        self.pool.add(self.threads.run("relax", tasks), self.threads, deadline)
        if near and min(c.value for c in near) < self.pool.best.value:  # such as an exact code
            self.pool.consider([Candidate(c.value, c.X, LAST_BETA) for c in near])
        return count

    def _relax(self, candidate: SymmetricCandidate, deadline: float | None) -> Packing:
        K, d = candidate.X.shape
        noise = np.random.default_rng(0).standard_normal((K, d))
        X = unit_rows(candidate.X + NOISE * self.scale.spacing / math.sqrt(d) * noise)
        return descend_to_end(X, RELAX / self.scale.delta, self.scale, deadline)

    def _hop_round(self, left: int | None, deadline: float | None) -> int:
        """Chains of hops from packings of the pool, the better ones more often."""
        rng = np.random.default_rng(self._hop_seeds.spawn(1)[0])
        packings = self.pool.packings
        chains = self._chains if left is None else min(self._chains, CHAINS * -(-left // (CHAINS * self._hops)))
        ranks = np.minimum(rng.exponential(MEAN_RANK, size=chains).astype(int), len(packings) - 1)
        tasks = [
            functools.partial(hop_chain, packings[rank], self._hops, seed, self.scale, deadline)
            for rank, seed in zip(ranks, self._hop_seeds.spawn(chains), strict=True)
        ]
        found = self.threads.run("hops", tasks)
        self.pool.add([packing for packing in found if packing is not None], self.threads, deadline)
        return chains * self._hops
