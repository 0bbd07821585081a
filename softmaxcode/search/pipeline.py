"""The whole search: packings by starts, orbits and hops; HardMax codes; each seeds the other.

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
from softmaxcode.search.energy import HARDMAX, TAMMES
from softmaxcode.search.interrupted import SearchInterrupted
from softmaxcode.search.multistart import Candidate, best_distinct, multistart, optimise, pair_maximum, random_start
from softmaxcode.search.packing import PackingSearch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from softmaxcode.parallel.progress import Progress
    from softmaxcode.types import Rows

#: Starts on HardMax per round, starts per batch of the batched search, and the number of candidates kept.
ROUND = 4
BATCH = 64
KEPT = 6
#: The fractions of a budget at which the batched starts end, HardMax begins and ends, and the hops end.
BATCHED_TO = 0.25
HARDMAX_FROM = 0.5
HARDMAX_TO = 0.6
HOPS_TO = 0.95
#: Variations of the best packing that are polished at the end.
VARIATIONS = 12
#: First betas, times delta, for given codes and for those that HardMax found.
INIT_BETA = 2400.0
BACK_BETAS = (20.0, 150.0)
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

    def at(self, fraction: float) -> float | None:
        """When a fraction of the budget is spent, in seconds of `time.monotonic`; None without a budget."""
        return None if self.budget is None else self.begin + fraction * self.budget

    def spent(self, fraction: float) -> bool:
        """Whether ``fraction`` of the budget is spent; always False without a budget."""
        return self.budget is not None and self.elapsed >= fraction * self.budget


@dataclass(frozen=True)
class Effort:
    """The amount of search.

    Attributes
    ----------
    starts : int or None
        Random starts on Tammes, as many matrix groups, half as many permutation groups (d > 3), and a quarter as many
        starts on HardMax. None: each stage uses its fraction of the budget.
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
    larger: Sequence[Rows] = (),
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
    larger : sequence of ndarray, each of shape (more than K, d)
        Codes whose subsets are tried.

    Raises
    ------
    SearchInterrupted
        After Ctrl-C, with the best packing so far; KeyboardInterrupt before there is one.
    """
    threads = Threads(n_jobs)
    seeds = np.random.SeedSequence(seed).spawn(3)
    packing = PackingSearch(
        K, d, effort.starts, effort.hops, seed=seeds[0], threads=threads, progress=progress, larger=larger
    )
    try:
        return _search(packing, effort, seeds, device, inits)
    except KeyboardInterrupt:
        if packing.pool.packings:
            best = packing.pool.best
            raise SearchInterrupted(best.X, 1 - best.value) from None
        raise


def _search(
    packing: PackingSearch,
    effort: Effort,
    seeds: list[np.random.SeedSequence],
    device: str | None,
    inits: Sequence[Rows],
) -> SearchResult:
    """The stages of `search`."""
    timer, threads = effort.timer, packing.threads
    K, d = packing.K, packing.d
    floor = levenshtein(K, d).value + MET  # no packing is better than the bound
    packing.improve(list(inits), (INIT_BETA, packing.scale.SCREEN), timer.at(HARDMAX_FROM))
    if device is not None:
        _batched_starts(packing, seeds[2], device, effort)
    packing.run({"hops": 0.5}, lambda: timer.spent(HARDMAX_FROM), timer.at(HARDMAX_FROM), floor)
    # Tammes optima seed the HardMax search …
    met = packing.pool.best.value <= floor
    wanted = 2 if met else None if effort.starts is None else max(1, effort.starts // 4)
    hardmax, made = _hardmax_starts(K, d, wanted, seeds[1], timer, threads)
    deadline = timer.at(HARDMAX_TO)
    seeded = [_task(HARDMAX, _with_directions(c.X), 300.0, deadline) for c in packing.pool.leading(2)]
    hardmax = best_distinct(hardmax + threads.run("seeded", seeded), KEPT)
    # … and vice versa
    packing.try_starts([c.X[:K] for c in hardmax[:3]], BACK_BETAS, timer.at(1.0))
    packing.run({}, lambda: timer.spent(HOPS_TO), timer.at(HOPS_TO), floor)
    packing.pool.decide(threads, timer.at(1.0))
    if not met:
        packing.pool.vary(seeds[2].spawn(VARIATIONS), threads, timer.at(1.0))
    return SearchResult(packing.pool.leading(KEPT), hardmax, packing.starts_made + made, packing.stages["hops"].done)


def _hardmax_starts(
    K: int, d: int, count: int | None, seeds: np.random.SeedSequence, timer: Timer, threads: Threads
) -> tuple[list[Candidate], int]:
    """Random starts on HardMax, until the count or the time is reached; the best, and how many were made."""
    found: list[Candidate] = []
    made = 0
    while (count is None or made < count) and not (found and timer.spent(HARDMAX_TO)):
        wanted = seeds.spawn(ROUND if count is None else min(ROUND, count - made))
        found = best_distinct(found + multistart(HARDMAX, K, d, wanted, threads, timer.at(HARDMAX_TO)), KEPT)
        made += len(wanted)
    return found, made


def _batched_starts(packing: PackingSearch, seeds: np.random.SeedSequence, device: str, effort: Effort) -> None:
    """Random starts by the batched search on a torch device, in place of those of the CPU."""
    stage = packing.stages["starts"]
    while not stage.over() and not (packing.pool.packings and effort.timer.spent(BATCHED_TO)):
        left = BATCH if stage.planned is None else min(BATCH, stage.planned - stage.done)
        found = _batched(TAMMES, packing.K, packing.d, seeds.spawn(left), device, effort.timer.deadline)
        best = best_distinct(found, KEPT)
        packing.improve([c.X for c in best], (INIT_BETA,), effort.timer.at(HARDMAX_FROM))
        packing.starts_made += left
        stage.done += left
    stage.time_fraction = 0.0


def _task(kind: int, X: Rows, beta: float, deadline: float | None) -> Callable[[], Candidate]:
    return lambda: optimise(kind, X, beta, deadline)


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
