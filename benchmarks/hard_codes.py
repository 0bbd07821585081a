"""The search under prescribed groups, on codes that random starts seldom or never find.

No exact family and no catalogue is used: every row depends only on its pair and seed. It ends when the smallest known
cosine is met or the time is over.

    python -m benchmarks.hard_codes [--pairs 100,22 162,21 ...] [--seed 1 2 ...] [--limit SECONDS] [--jobs N] [--random]
"""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING

import numpy as np

from softmaxcode.bounds.levenshtein_bound import levenshtein
from softmaxcode.cli.options import parse_pair
from softmaxcode.parallel.threads import Threads
from softmaxcode.search.energy import TAMMES
from softmaxcode.search.multistart import multistart
from softmaxcode.search.pipeline import MET, Timer
from softmaxcode.search.symmetry import symmetric_search

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Random starts between two readings of the timer.
ROUND = 8
#: K, d and the smallest known cosine. It only decides when to stop, and is otherwise passed to no search.
KNOWN = {
    (100, 22): 1 / 11,
    (112, 21): 1 / 9,
    (162, 21): 1 / 7,
    (275, 22): 1 / 6,
    (24, 3): 0.7230784683,
    (27, 6): 1 / 4,
    (40, 10): 1 / 6,
    (56, 7): 1 / 3,
    (64, 14): 1 / 7,
    (120, 4): (1 + math.sqrt(5)) / 4,
}


def floor_of(K: int, d: int) -> float:
    """The largest cosine at which a search may stop: the known one, else Levenshtein's bound."""
    return KNOWN.get((K, d), levenshtein(K, d).value) + MET


def random_starts(K: int, d: int, seed: int, limit: float, threads: Threads) -> tuple[float, float, str]:
    """Seconds, the smallest largest cosine and the number of random starts, for comparison."""
    timer, root, best, made = Timer(limit), np.random.SeedSequence(seed), math.inf, 0
    while not timer.spent(1.0) and best > floor_of(K, d) + 1e-4:  # a start ends at beta = 1e4, about 1e-4 too high
        best = min([best, *(c.value for c in multistart(TAMMES, K, d, root.spawn(ROUND), threads))])
        made += ROUND
    return timer.elapsed, best, f"{made} random starts"


def symmetric(K: int, d: int, seed: int, limit: float, threads: Threads) -> tuple[float, float, str]:
    """Seconds, the smallest largest cosine and the group that found it."""
    timer = Timer(limit)
    found = symmetric_search(
        K,
        d,
        seed=np.random.SeedSequence(seed),
        tries=None,
        timer=timer,
        fraction=1.0,
        floor=floor_of(K, d),
        threads=threads,
    )
    return timer.elapsed, found[0].value if found else math.inf, found[0].group if found else "no group fits"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one line for every pair and seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=parse_pair, nargs="+", default=list(KNOWN), metavar="K,d")
    parser.add_argument("--seed", type=int, nargs="+", default=[1])
    parser.add_argument("--limit", type=float, default=1800.0, help="seconds per pair and seed may take")
    parser.add_argument("--jobs", type=int, default=-1, help="threads; -1 uses every core")
    parser.add_argument("--random", action="store_true", help="random starts instead, for comparison")
    options = parser.parse_args(arguments)
    threads = Threads(options.jobs)
    search = random_starts if options.random else symmetric
    print(f"{'K':>4} {'d':>3} {'seed':>5} {'seconds':>8} {'mu':>12} {'known':>12}  found by")
    for K, d in options.pairs:
        for seed in options.seed:
            seconds, mu, how = search(K, d, seed, options.limit, threads)
            known = f"{KNOWN[K, d]:12.9f}" if (K, d) in KNOWN else f"{'-':>12}"
            print(f"{K:4d} {d:3d} {seed:5d} {seconds:8.1f} {mu:12.9f} {known}  {how}", flush=True)


if __name__ == "__main__":
    main()
