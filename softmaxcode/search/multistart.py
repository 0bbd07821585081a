"""Many independent random starts on the CPU, spread over cores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from softmaxcode.search.energy import HARDMAX, TAMMES, descend
from softmaxcode.search.layers import layered_start
from softmaxcode.sphere import gram, random_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from softmaxcode.parallel.threads import Threads
    from softmaxcode.types import Rows

#: The last beta of the schedule: energies are then within log(pairs) / 1e4 of the largest pair value.
LAST_BETA = 1e4
#: The factor between steps, the most iterations of a step and the decrease (times 1/beta) at which it ends.
SCHEDULE = (2.0, 300, 1e-4)
#: The fraction of Tammes starts that are made of layers.
LAYERED = 1 / 8


@dataclass(frozen=True, eq=False)
class Candidate:
    """A configuration and the value to minimise: mu for Tammes, -rho of (W, H) for HardMax."""

    value: float
    X: Rows


def pair_maximum(kind: int, X: Rows) -> float:
    """The largest pair value: the cosine <w_i, w_j>, or <w_j - w_k, h_k> for X stacking W over H."""
    if kind == TAMMES:
        return float(gram(X).max())
    K = len(X) // 2
    C = X[K:] @ X[:K].T
    C -= np.diagonal(C)[:, None].copy()
    np.fill_diagonal(C, -np.inf)
    return float(C.max())


def first_beta(rng: np.random.Generator) -> float:
    """The first beta, from 1 to 1000 with small values preferred.

    The first beta decides which optima a schedule can reach: (14, 3) needs a high one, codes of high symmetry a low
    one.
    """
    return float(10 ** (3 * rng.random() * rng.random()))


def random_start(kind: int, K: int, d: int, seed: np.random.SeedSequence) -> tuple[Rows, float]:
    """The unknowns and the first beta of one start; one Tammes start in eight is made of layers."""
    rng = np.random.default_rng(seed)
    layered = kind == TAMMES and d > 2 and rng.random() < LAYERED
    W = layered_start(K, d, rng) if layered else random_rows(K, d, rng)
    X = W if kind == TAMMES else np.vstack([W, W])
    return X, first_beta(rng)


def optimise(kind: int, X: Rows, beta: float) -> Candidate:
    """Run the schedule from ``beta`` on a copy of X."""
    X = np.array(X)
    descend(kind, X, beta, LAST_BETA, *SCHEDULE)
    return Candidate(pair_maximum(kind, X), X)


def best_distinct(candidates: Iterable[Candidate], count: int, resolution: float = 1e-6) -> list[Candidate]:
    """The ``count`` best candidates whose values differ by more than ``resolution``, best first."""
    chosen: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda c: c.value):
        if all(abs(candidate.value - other.value) > resolution for other in chosen):
            chosen.append(candidate)
            if len(chosen) == count:
                break
    return chosen


def multistart(kind: int, K: int, d: int, seeds: list[np.random.SeedSequence], threads: Threads) -> list[Candidate]:
    """Optimise one random start per seed.

    Parameters
    ----------
    kind : {TAMMES, HARDMAX}
        The objective.
    K, d : int
        Number of classes and dimension.
    seeds : list of SeedSequence
        One per start; the result depends on nothing else.
    threads : Threads
        The threads that run the starts.
    """
    assert kind in (TAMMES, HARDMAX)

    def task(seed: np.random.SeedSequence) -> Callable[[], Candidate]:
        return lambda: optimise(kind, *random_start(kind, K, d, seed))

    return threads.run(f"starts {kind}", [task(seed) for seed in seeds])
