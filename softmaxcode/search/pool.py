"""The best distinct packings of a search, and the decision between near ties.

Competing optima differ by as little as 1e-7, less than the error of the energy at the last beta. So candidates near the
best continue to a high beta, and those that are still as good are polished.
"""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from softmaxcode.contacts.polish import polish_tammes
from softmaxcode.search.descent import Descent
from softmaxcode.search.multistart import Candidate
from softmaxcode.sphere import gram, unit_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from softmaxcode.contacts.polish import Polished
    from softmaxcode.parallel.threads import Threads
    from softmaxcode.search.scale import Scale
    from softmaxcode.types import Rows

#: The most packings in the pool.
POOL = 8
#: Candidates whose energy exceeds the best by less than this (times delta) continue to a high beta.
NEAR = 1.2e-4
#: Those whose largest cosine then exceeds the best by less than this (times delta) are polished.
NEARER = 3e-5
#: The spread of the contacts' cosines from which polishing starts.
SPREAD = 1e-4
#: Exponents of ten of the size of variations, in spacings.
VARIATION = (-3.0, -0.7)
#: Polishing during the search is limited to this many unknowns; above, near ties are decided at the high beta.
MOST_UNKNOWNS = 600


@dataclass(frozen=True, eq=False)
class Packing:
    """A packing at the last beta of the schedule.

    Attributes
    ----------
    X : ndarray, shape (K, d)
        The points.
    energy : float
        The energy at the last beta.
    screen, second : float
        The energies at both screening betas, on the way.
    """

    X: Rows
    energy: float
    screen: float
    second: float

    @functools.cached_property
    def value(self) -> float:
        """The largest cosine."""
        return float(gram(self.X).max())


@dataclass
class Pool:
    """The best distinct packings by energy, and the best one by its largest cosine.

    Parameters
    ----------
    scale : Scale
        The units of the search.
    """

    scale: Scale
    packings: list[Packing] = field(default_factory=list)
    decided: list[Candidate] = field(default_factory=list)
    _seen: list[float] = field(default_factory=list)

    @property
    def best(self) -> Candidate:
        """The packing of the smallest largest cosine."""
        return min([*self.decided[:1], *map(self._candidate, self.packings)], key=lambda c: c.value)

    @property
    def screen(self) -> float:
        """The screening energy that new candidates are compared with; infinite for an empty pool."""
        return self.packings[0].screen if self.packings else np.inf

    def _candidate(self, packing: Packing) -> Candidate:
        return Candidate(packing.value, packing.X, self.scale.last)

    def leading(self, count: int) -> list[Candidate]:
        """The best packings, near ties first, as candidates of distinct values."""
        near = NEAR * self.scale.delta
        others = [
            candidate
            for candidate in map(self._candidate, self.packings)
            if all(abs(candidate.value - c.value) > near for c in self.decided)
        ]
        return sorted([*self.decided, *others], key=lambda c: c.value)[:count]

    def add(self, found: list[Packing], threads: Threads, deadline: float | None = None) -> None:
        """Take packings into the pool, and decide near ties where polishing is cheap."""
        kept: list[Packing] = []
        for packing in sorted([*self.packings, *found], key=lambda p: p.energy):
            if not kept or packing.energy > kept[-1].energy + self.scale.distinct:
                kept.append(packing)
        self.packings = kept[:POOL]
        if self.packings and self._unknowns <= MOST_UNKNOWNS:
            self.decide(threads, deadline)

    @property
    def _unknowns(self) -> int:
        K, d = self.packings[0].X.shape
        return K * (d - 1)

    def decide(self, threads: Threads, deadline: float | None = None) -> None:
        """Continue candidates near the best to a high beta, and polish those that are still as good if it is cheap."""
        limit = self.packings[0].energy + NEAR * self.scale.delta
        near = [
            packing
            for packing in self.packings
            if packing.energy <= limit
            and all(abs(packing.energy - seen) > self.scale.resolution for seen in self._seen)
        ]
        if not near:
            return
        self._seen += [packing.energy for packing in near]
        refined = threads.run("refine", [self._refine(packing, deadline) for packing in near])
        best = min(c.value for c in [*refined, *self.decided])
        tied = [c for c in refined if c.value <= best + NEARER * self.scale.delta]
        if self._unknowns <= MOST_UNKNOWNS:
            tied = threads.run("polish", [self._polish(c, deadline) for c in tied])
        self.consider(tied)

    def vary(self, seeds: Sequence[np.random.SeedSequence], threads: Threads, deadline: float | None = None) -> None:
        """Polish small variations of the best: optima may differ by less than energies resolve, such as 1e-8.

        Without an effect where polishing is not cheap.
        """
        if self._unknowns > MOST_UNKNOWNS:
            return
        self.consider(threads.run("vary", [functools.partial(self._variation, s, deadline) for s in seeds]))

    def _variation(self, seed: np.random.SeedSequence, deadline: float | None) -> Candidate:
        if deadline is not None and time.monotonic() > deadline:
            return self.best
        rng = np.random.default_rng(seed)
        X = self.best.X
        noise = self.scale.spacing / np.sqrt(X.shape[1]) * 10 ** rng.uniform(*VARIATION)
        descent = Descent(unit_rows(X + noise * rng.standard_normal(X.shape)), self.scale.delta)
        first = self.scale.last * 10 ** rng.uniform(-1, 0)
        descent.run(first, self.scale.fine, iterations=1000, tolerance=1e-5, deadline=deadline)
        candidate = Candidate(0.0, descent.X, self.scale.fine)
        return self._polish(candidate, deadline, SPREAD * 10 ** rng.uniform(-1, 1))()

    def consider(self, candidates: list[Candidate]) -> None:
        """Rank candidates among the best by their largest cosine."""
        kept: list[Candidate] = []
        ranked = sorted([*candidates, *self.decided], key=lambda c: c.value)
        for candidate in ranked:
            near = candidate.value <= ranked[0].value + NEARER * self.scale.delta
            if near and all(candidate.value - other.value > 1e-9 * self.scale.delta for other in kept):
                kept.append(candidate)
        self.decided = kept[:POOL]

    def _refine(self, packing: Packing, deadline: float | None) -> Callable[[], Candidate]:
        def run() -> Candidate:
            descent = Descent(packing.X, self.scale.delta)
            descent.run(4 * self.scale.last, self.scale.fine, iterations=1000, tolerance=1e-5, deadline=deadline)
            X = descent.X
            return Candidate(float(gram(X).max()), X, self.scale.fine)

        return run

    def _polish(self, candidate: Candidate, deadline: float | None, spread: float = SPREAD) -> Callable[[], Candidate]:
        def run() -> Candidate:
            polished: Polished = polish_tammes(candidate.X, spread, deadline)
            value = float(gram(polished.X).max())
            return replace(candidate, value=value, X=polished.X, polished=polished)

        return run
