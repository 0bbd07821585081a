"""A targeted search: HardMax at a pair for a margin above 1 - mu of its best packing."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.report import write
from softmaxcode.catalog import best_known
from softmaxcode.certificates.certificate import RESIDUAL_TOLERANCE
from softmaxcode.certificates.rigorous import rigorous_bounds
from softmaxcode.code import certify
from softmaxcode.contacts.polish import polish_hardmax
from softmaxcode.margins.exact import margins, smallest_margin
from softmaxcode.parallel.threads import Threads
from softmaxcode.search.basin_hopping import CHAINS, BasinHopping
from softmaxcode.search.energy import HARDMAX
from softmaxcode.search.multistart import Candidate, best_distinct, multistart, optimise
from softmaxcode.sphere import gram, unit_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from softmaxcode.code import SoftmaxCode
    from softmaxcode.types import Rows


#: The pairs to search.
PAIRS = (
    *((11, 3), (19, 3), (20, 3), (23, 3), (25, 3), (26, 3), (28, 3), (29, 3)),
    *((14, 4), (15, 4), (16, 4), (22, 4), (23, 4), (27, 4), (31, 4), (22, 5), (22, 6)),
)

SEARCHES = Path(__file__).with_name("searches.json")
#: Ends of descents with a margin of at least 1 - mu minus this are polished, and one in ten of those further below.
NEAR = 1e-3
FAR = 0.05
FAR_EVERY = 10
#: Before polishing, the end of a β schedule may be below its local optimum by this much.
SCHEDULE_ERROR = 1e-3
#: Local optima whose margins differ by less count as one; a margin above 1 - mu by more is a candidate.
RESOLUTION = 1e-9
#: A stressed class counts as h ≠ w if h_k is further than this from w_k.
H_DIFFERS = 1e-6
#: Fractions of the time for random starts and for descents from the packing; hopping has the rest.
RANDOM_FRACTION, PERTURBED_FRACTION = 0.4, 0.35
#: Random starts between two readings of the timer.
ROUND = 8


def rattlers(code: SoftmaxCode) -> tuple[np.ndarray, np.ndarray]:
    """Rows without contact, and classes with a larger margin: as the code's own, but without a linear programme."""
    threshold = certify(code, lp=False).threshold
    tammes = np.flatnonzero(code.largest_cosines < code.max_cosine - threshold)
    return tammes, np.flatnonzero(code.margins > code.margin + threshold)


@dataclass
class TargetedSearch:
    """The results of the search at one pair; margins are exact one-vs-rest distances of polished coordinates.

    Attributes
    ----------
    K, d : int
        The pair.
    one_minus_cosine : float
        1 - mu of the best packing known when it ran.
    seconds : float
        Time spent.
    random, perturbed, hops : int
        Random starts, descents from the packing, and basin hops.
    near : int
        Ends whose margin is at least 1 - mu - 1e-3, as estimated before polishing; all of them are polished.
    polished, unconverged : int
        Polished ends, and those among them that do not meet first-order conditions afterwards.
    at_packing : int
        Polished ends with the packing's margin.
    optima : list of float
        Distinct margins of the converged ones, the largest first.
    margin_above : int
        The number of those with rho(W) > 1 - mu(W) of the same W. It means nothing if only unstressed classes are near
        each other.
    h_differs : int
        The number of those with h_k != w_k at a stressed class, so that W is not a balanced packing.
    best_h_differs : float or None
        The largest margin among the latter.
    best_packing : float
        The largest 1 - mu of all polished ends and the known packing.
    best : float or None
        The largest margin of all polished ends, converged or not.
    best_lower_bound : float or None
        Rigorous lower bound on the margin of those coordinates.
    best_rows : list or None
        Those coordinates, where their margin exceeds the one_minus_cosine by more than 1e-9.
    """

    K: int
    d: int
    one_minus_cosine: float
    seconds: float = 0.0
    random: int = 0
    perturbed: int = 0
    hops: int = 0
    near: int = 0
    polished: int = 0
    unconverged: int = 0
    at_packing: int = 0
    optima: list[float] = field(default_factory=list)
    margin_above: int = 0
    h_differs: int = 0
    best_h_differs: float | None = None
    best_packing: float = -math.inf
    best: float | None = None
    best_lower_bound: float | None = None
    best_rows: list[list[float]] | None = None

    @property
    def is_candidate(self) -> bool:
        """Whether a margin exceeds 1 - mu of every packing, known or found."""
        return self.best is not None and self.best > self.best_packing + RESOLUTION


@dataclass
class _Optimum:
    margin: float
    margin_above: bool
    h_differs: bool


def any_h_differs(W: Rows, H: Rows, classes: np.ndarray) -> bool:
    """Whether one of the classes is best separated in another direction than its own vector."""
    return bool(np.linalg.norm(W[classes] - H[classes], axis=1).max() > H_DIFFERS)


@dataclass
class Collector:
    """Polishes ends of descents and stores one of each margin."""

    search: TargetedSearch
    optima: list[_Optimum] = field(default_factory=list)
    best: tuple[float, Rows] | None = None
    far: int = 0

    def take(self, candidate: Candidate) -> None:
        """Polish an end that is near enough, and store it."""
        search, K = self.search, self.search.K
        behind = search.one_minus_cosine + candidate.value - SCHEDULE_ERROR
        if behind <= NEAR:
            search.near += 1
        else:
            self.far += 1
            if behind > FAR or self.far % FAR_EVERY:
                return
        polished = polish_hardmax(candidate.X[:K], candidate.X[K:])
        search.polished += 1
        W, H = polished.X[:K], polished.X[K:]
        margin = smallest_margin(W, 1).margin
        one_minus = 1 - float(gram(W).max())
        search.best_packing = max(search.best_packing, one_minus)
        if self.best is None or margin > self.best[0]:
            self.best = margin, W
        if polished.residual > RESIDUAL_TOLERANCE:
            search.unconverged += 1
            return
        search.at_packing += abs(margin - search.one_minus_cosine) <= RESOLUTION
        stressed = np.unique(polished.contacts.a) - K
        margin_above = margin > one_minus + RESOLUTION
        h_differs = any_h_differs(W, H, stressed)
        for known in self.optima:
            if abs(known.margin - margin) <= RESOLUTION:
                known.margin_above |= margin_above
                known.h_differs |= h_differs
                return
        self.optima.append(_Optimum(margin, margin_above, h_differs))

    def finish(self) -> TargetedSearch:
        """The result of the search, with its optima counted."""
        search = self.search
        search.optima = sorted((o.margin for o in self.optima), reverse=True)
        search.margin_above = sum(o.margin_above for o in self.optima)
        h_differs = [o.margin for o in self.optima if o.h_differs]
        search.h_differs, search.best_h_differs = len(h_differs), max(h_differs, default=None)
        if self.best is not None:
            search.best, W = self.best
            search.best_lower_bound = rigorous_bounds(W, margins(W, 1).H).margin
            if search.best > search.one_minus_cosine + RESOLUTION:
                search.best_rows = W.tolist()
        return search


def moved_in_cage(W: Rows, i: int, mu: float, rng: np.random.Generator, steps: int = 5) -> Rows:
    """Move row i to a random place where its cosine with every other row stays at most mu.

    Each step draws a direction, and then a place on that great circle before the first collision with another row. On
    cos(t) w_i + sin(t) u the cosine with w_j is R_j cos(t - a_j), which reaches mu at t = a_j - arccos(mu / R_j).
    """
    W = W.copy()
    others = np.delete(W, i, axis=0)
    for _ in range(steps):
        w = W[i]
        u = rng.standard_normal(W.shape[1])
        u -= (u @ w) * w
        u /= np.linalg.norm(u)
        along, across = others @ w, others @ u
        R = np.hypot(along, across)
        met = R > mu
        turn = np.arctan2(across[met], along[met]) - np.arccos(np.clip(mu / R[met], -1, 1))
        # a row that has been passed on the way here is met again only after a whole turn
        far = max(0.0, float(np.min(turn % (2 * np.pi), initial=np.pi)))
        t = far * rng.random()
        W[i] = np.cos(t) * w + np.sin(t) * u
    return unit_rows(W)


def perturbed_start(W: Rows, free: np.ndarray, rng: np.random.Generator) -> tuple[Rows, float]:
    """The packing with its rattlers moved, then perturbed by 1e-6 to 1, and the first β of a schedule.

    H starts at W, at the directions of the exact margins, or perturbed on its own.
    """
    mu = float(gram(W).max())
    for i in free:
        W = moved_in_cage(W, int(i), mu, rng)
    W = unit_rows(W + 10 ** rng.uniform(-6, 0) * rng.standard_normal(W.shape))
    kind = rng.integers(3)
    H = W if kind == 0 else margins(W, 1).H
    if kind == 2:
        H = unit_rows(H + 10 ** rng.uniform(-3, 0) * rng.standard_normal(W.shape))
    return np.vstack([W, H]), float(10 ** rng.uniform(0, 4))


def targeted_search(packing: SoftmaxCode, seconds: float, seed: int) -> TargetedSearch:
    """Search HardMax at the pair of a packing for a margin above its 1 - mu.

    Parameters
    ----------
    packing : SoftmaxCode
        The best packing known.
    seconds : float
        Time to spend, on one thread. Each of the three phases runs at least once.
    seed : int
        Everything random follows from it.

    Returns
    -------
    TargetedSearch
    """
    K, d, W = packing.K, packing.d, packing.W
    begin, threads = time.monotonic(), Threads(1)
    search = TargetedSearch(K, d, 1 - packing.max_cosine, best_packing=1 - packing.max_cosine)
    collector = Collector(search)
    random_seeds, perturbed_seeds, hop_seeds = np.random.SeedSequence([seed, K, d]).spawn(3)
    ends: list[Candidate] = []
    while not search.random or time.monotonic() - begin < RANDOM_FRACTION * seconds:
        found = multistart(HARDMAX, K, d, random_seeds.spawn(ROUND), threads)
        search.random += ROUND
        for candidate in found:
            collector.take(candidate)
        ends = best_distinct(ends + found, CHAINS)
    free, _ = rattlers(packing)
    while not search.perturbed or time.monotonic() - begin < (RANDOM_FRACTION + PERTURBED_FRACTION) * seconds:
        start = perturbed_start(W, free, np.random.default_rng(perturbed_seeds.spawn(1)[0]))
        collector.take(optimise(HARDMAX, *start))
        search.perturbed += 1
    hopping = BasinHopping(
        HARDMAX, best_distinct([*ends, optimise(HARDMAX, np.vstack([W, W]), 1e3)], CHAINS), hop_seeds
    )
    while not hopping.hops or time.monotonic() - begin < seconds:
        before = list(hopping.chains)
        hopping.round(threads)
        for chain in hopping.chains:
            if not any(chain is other for other in before):
                collector.take(chain)
    search.hops = hopping.hops
    search.seconds = round(time.monotonic() - begin, 1)
    return collector.finish()


def run_searches(pairs: Sequence[tuple[int, int]], seconds: float, seed: int, out: Path) -> None:
    """Search at every pair, and write the results as each finishes."""
    searches = []
    for K, d in pairs:
        search = targeted_search(best_known(K, d, objective="tammes"), seconds, seed)
        searches.append(search)
        excess = "nothing near" if search.best is None else f"{search.best - search.best_packing:.2e}"
        better = search.best_packing - search.one_minus_cosine
        print(
            f"({K}, {d}): {search.random} random, {search.perturbed} perturbed, {search.hops} hops; "
            f"{search.near} near, {search.polished} polished, "
            f"{search.unconverged} not converged, {search.at_packing} at the packing; {len(search.optima)} optima, "
            f"{search.margin_above} with a larger margin, {search.h_differs} with h ≠ w; best - (1 - mu) = {excess}"
            + (f"; a packing better by {better:.2e}" if better > RESOLUTION else ""),
            flush=True,
        )
        write(
            out,
            json.dumps({"seed": seed, "seconds": seconds, "searches": [asdict(x) for x in searches]}, indent=1) + "\n",
        )


def read_searches(path: Path) -> list[TargetedSearch]:
    """Read the results of `run_searches`; empty if there is no file."""
    if not path.is_file():
        return []
    return [TargetedSearch(**stored) for stored in json.loads(path.read_text(encoding="utf-8"))["searches"]]
