"""Many independent random starts on the CPU, spread over cores."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from softmaxcode.search.energy import HARDMAX, TAMMES, descend, minimize
from softmaxcode.search.layers import layered_start
from softmaxcode.sphere import gram, random_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from softmaxcode.contacts.polish import Polished
    from softmaxcode.parallel.threads import Threads
    from softmaxcode.types import Rows

#: The last beta of the schedule: energies are then within log(pairs) / 1e4 of the largest pair value.
LAST_BETA = 1e4
#: The factor between steps, the most iterations of a step and the decrease (times 1/beta) at which it ends.
SCHEDULE = (2.0, 300, 1e-4)
#: Floating-point operations of one call of a kernel, if there is a deadline.
_CALL_FLOPS = 5e9
#: The fraction of Tammes starts that are made of layers.
LAYERED = 1 / 8


@dataclass(frozen=True, eq=False)
class Candidate:
    """A configuration and the value to minimise: mu for Tammes, -rho of (W, H) for HardMax.

    Attributes
    ----------
    value : float
        The value to minimise.
    X : ndarray
        The unknowns: W (K, d) for Tammes, W stacked over H (2K, d) for HardMax.
    beta : float
        The beta at which it was optimised last; 0 where that is not recorded.
    polished : Polished, optional
        The result of `polish_tammes`, where it was polished.
    """

    value: float
    X: Rows
    beta: float = 0.0
    polished: Polished | None = None


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


def optimise(kind: int, X: Rows, beta: float, deadline: float | None = None) -> Candidate:
    """Run the schedule from ``beta`` on a copy of X.

    Past ``deadline`` (in seconds of `time.monotonic`) it ends within about a second.
    """
    X = np.array(X)
    if deadline is None:
        descend(kind, X, beta, LAST_BETA, *SCHEDULE)
    else:
        _descend_in_time(kind, X, beta, deadline)
    return Candidate(pair_maximum(kind, X), X)


def _descend_in_time(kind: int, X: Rows, beta: float, deadline: float) -> None:
    """`descend` in calls of less than about a second; a step of many iterations starts again from its last point."""
    factor, iterations, tolerance = SCHEDULE
    evaluation = 12.0 * len(X) ** 2 * (X.shape[1] + 10) / (1 if kind == TAMMES else 4)
    most = int(np.clip(_CALL_FLOPS / evaluation, 5, iterations))
    while True:
        for _ in range(0, iterations, most):
            before = minimize(kind, X, beta, 0, tolerance)
            value = minimize(kind, X, beta, most, tolerance)
            if time.monotonic() > deadline:
                return
            if before - value < tolerance * most / beta:
                break
        if beta >= LAST_BETA:
            return
        beta = min(beta * factor, LAST_BETA)


def best_distinct(candidates: Iterable[Candidate], count: int, resolution: float = 1e-6) -> list[Candidate]:
    """The ``count`` best candidates whose values differ by more than ``resolution``, best first."""
    chosen: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda c: c.value):
        if all(abs(candidate.value - other.value) > resolution for other in chosen):
            chosen.append(candidate)
            if len(chosen) == count:
                break
    return chosen


def multistart(
    kind: int,
    K: int,
    d: int,
    seeds: list[np.random.SeedSequence],
    threads: Threads,
    deadline: float | None = None,
) -> list[Candidate]:
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
    deadline : float, optional
        In seconds of `time.monotonic`; past it starts end within about a second.
    """
    assert kind in (TAMMES, HARDMAX)

    def task(seed: np.random.SeedSequence) -> Callable[[], Candidate]:
        return lambda: optimise(kind, *random_start(kind, K, d, seed), deadline)

    return threads.run(f"starts {kind}", [task(seed) for seed in seeds])
