"""The whole search: starts on both objectives, each seeding the other, orbits of groups, then basin hopping.

Counts limit the work, unless a deadline is given: the same seed, starts and hops then give the same candidates.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from softmaxcode.bounds.levenshtein_bound import levenshtein
from softmaxcode.margins.exact import margins
from softmaxcode.parallel.threads import Threads
from softmaxcode.search.basin_hopping import CHAINS, HOPS_PER_ROUND, BasinHopping
from softmaxcode.search.energy import HARDMAX, TAMMES
from softmaxcode.search.multistart import Candidate, best_distinct, multistart, optimise, pair_maximum, random_start
from softmaxcode.search.symmetry import symmetric_search

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from softmaxcode.parallel.progress import Progress
    from softmaxcode.types import Rows

#: Starts between two readings of the timer, and the number of candidates kept.
ROUND = {TAMMES: 8, HARDMAX: 4}
#: Starts per batch of the batched search.
BATCH = 64
KEPT = 6
#: One group is tried per this many random starts.
SYMMETRIC = 2
#: A packing within this of Levenshtein's bound ends the search: no packing is better by more.
MET = 1e-6


@dataclass
class SearchResult:
    """The best distinct candidates of each objective, best first, and the work done."""

    tammes: list[Candidate]
    hardmax: list[Candidate] = field(default_factory=list)
    starts: int = 0
    hops: int = 0


class Timer:
    """Reports whether a fraction of the budget has been spent."""

    def __init__(self, budget: float | None) -> None:
        self.begin = time.monotonic()
        self.budget = budget

    @property
    def elapsed(self) -> float:
        """Seconds since the search began."""
        return time.monotonic() - self.begin

    @property
    def deadline(self) -> float | None:
        """The end of the budget, in seconds of `time.monotonic`."""
        return None if self.budget is None else self.begin + self.budget

    def spent(self, fraction: float) -> bool:
        """Whether ``fraction`` of the budget is spent; always False without a budget."""
        return self.budget is not None and self.elapsed >= fraction * self.budget


@dataclass(frozen=True)
class Effort:
    """The amount of search.

    Attributes
    ----------
    starts : int or None
        Random starts on Tammes, half as many groups, and a quarter as many starts on HardMax. None: each stage uses its
        fraction of the budget.
    hops : int or None
        Basin hops; with None hopping continues until the timer's budget is spent.
    timer : Timer
        Ends each stage when its fraction of the budget is spent.
    """

    starts: int | None
    hops: int | None
    timer: Timer


def search(
    K: int,
    d: int,
    effort: Effort,
    *,
    seed: int,
    n_jobs: int,
    device: str | None,
    inits: Sequence[Rows],
    progress: Progress,
) -> SearchResult:
    """Search both objectives.

    Parameters
    ----------
    K, d : int
        Number of classes and dimension.
    effort : Effort
        Starts, hops and timer.
    seed : int
        Everything random follows from it.
    n_jobs : int
        Threads of the CPU search.
    device : str or None
        None for the CPU kernels; a torch device for the batched geoopt search of the starts.
    inits : sequence of ndarray, each of shape (K, d)
        Configurations to improve beside the random ones.
    """
    starts, hops, timer = effort.starts, effort.hops, effort.timer
    threads = Threads(n_jobs)
    root = np.random.SeedSequence(seed)
    tammes_seeds, hardmax_seeds, hop_seed, symmetric_seed = root.spawn(4)
    result = SearchResult([])
    floor = levenshtein(K, d).value + MET  # no packing is better than the bound
    pool: list[Candidate] = []
    pool += threads.run("inits", [_task(TAMMES, X, beta) for X in inits for beta in (1e4, 100.0)])

    def run_starts(kind: int, count: int | None, seeds: np.random.SeedSequence, fraction: float) -> list[Candidate]:
        found: list[Candidate] = []
        made = 0
        bound = floor if kind == TAMMES else -np.inf
        batch = ROUND[kind] if device is None else BATCH
        while (count is None or made < count) and not (found and (timer.spent(fraction) or found[0].value <= bound)):
            wanted = seeds.spawn(batch if count is None else min(batch, count - made))
            if device is None:
                found += multistart(kind, K, d, wanted, threads)
            else:
                found += _batched(kind, K, d, wanted, device, timer.deadline)
            made += len(wanted)
            result.starts += len(wanted)
            found = best_distinct(found, KEPT)
            if kind == TAMMES:
                progress.step(len(wanted), best=f"{1 - found[0].value:.9f}")
        return found

    pool = best_distinct(pool + run_starts(TAMMES, starts, tammes_seeds, 0.25), KEPT)
    if pool[0].value > floor:
        tries = None if starts is None else starts // SYMMETRIC
        symmetric = symmetric_search(
            K, d, seed=symmetric_seed, tries=tries, timer=timer, fraction=0.45, floor=floor, threads=threads
        )
        pool = best_distinct([*pool, *symmetric], KEPT)
    # Tammes optima seed the HardMax search …
    met = pool[0].value <= floor
    wanted = 2 if met else None if starts is None else max(1, starts // 4)
    hardmax = run_starts(HARDMAX, wanted, hardmax_seeds, 0.55)
    seeded = [_with_directions(c.X) for c in pool[:2]]
    hardmax = best_distinct(hardmax + threads.run("seeded", [_task(HARDMAX, X, 300.0) for X in seeded]), KEPT)
    # … and vice versa
    back = [_task(TAMMES, c.X[:K], beta) for c in hardmax[:3] for beta in (30.0, 300.0)]
    pool = best_distinct(pool + threads.run("back", back), KEPT)

    hopping = BasinHopping(TAMMES, pool, hop_seed)
    per_round = CHAINS * HOPS_PER_ROUND
    while (hops is None or hopping.hops < hops) and not timer.spent(1.0) and hopping.best.value > floor:
        hopping.round(threads)
        progress.step(per_round, best=f"{1 - hopping.best.value:.9f}")
    result.hops = hopping.hops
    result.tammes = best_distinct(pool + hopping.chains, KEPT)
    result.hardmax = hardmax
    return result


def _task(kind: int, X: Rows, beta: float) -> Callable[[], Candidate]:
    return lambda: optimise(kind, X, beta)


def _with_directions(W: Rows) -> Rows:
    """W stacked over the directions that attain its margins."""
    return np.vstack([W, margins(W).H])


def _batched(
    kind: int, K: int, d: int, seeds: list[np.random.SeedSequence], device: str, deadline: float | None
) -> list[Candidate]:
    from softmaxcode.search.geoopt_batch import search_batch

    drawn = [random_start(kind, K, d, seed) for seed in seeds]
    starts, betas = np.stack([x for x, _ in drawn]), np.array([beta for _, beta in drawn])
    X = search_batch(kind, starts, betas, device=device, deadline=deadline)
    return [Candidate(pair_maximum(kind, x), x) for x in X]
