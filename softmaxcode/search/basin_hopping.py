"""Basin hopping: perturb a good configuration, optimise again, keep the better one.

There are three random moves: remove points and put them into the deepest holes found; perturb a neighbourhood; perturb
all points a little. Several chains run side by side, so the result does not depend on the number of cores. A chain that
falls behind continues from the best.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from softmaxcode.search.energy import HARDMAX, TAMMES, descend, minimize
from softmaxcode.search.multistart import SCHEDULE, Candidate, optimise
from softmaxcode.sphere import random_rows, unit_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from softmaxcode.parallel.threads import Threads
    from softmaxcode.types import Rows

#: Chains side by side, and hops per chain between two comparisons.
CHAINS = 4
HOPS_PER_ROUND = 8
#: Rounds without improvement after which a chain behind the best continues from the best.
MAX_STALLED = 6
#: A hop stops at this beta if its energy exceeds the chain's by more than the slack.
SCREEN_BETA = 300.0
SCREEN_SLACK = 0.3 / SCREEN_BETA


def reinsert(W: Rows, rng: np.random.Generator) -> Rows:
    """Remove a few points and put each back into the deepest hole that a random sample finds."""
    K, d = W.shape
    W = W.copy()
    out = rng.choice(K, 1 + rng.integers(max(1, K // 20) + 1), replace=False)
    kept = np.setdiff1d(np.arange(K), out)
    for i in out:
        holes = random_rows(200, d, rng)
        W[i] = holes[np.argmin((holes @ W[kept].T).max(axis=1))]
        kept = np.append(kept, i)
    return W


def perturb(W: Rows, rng: np.random.Generator) -> Rows:
    """Perturb the points nearest to a random direction, or (one time in six) all points slightly."""
    K, d = W.shape
    W = W.copy()
    if rng.random() < 1 / 6:
        return unit_rows(W + 10 ** rng.uniform(-2.5, -0.5) * rng.standard_normal(W.shape) / np.sqrt(d))
    centre = random_rows(1, d, rng)[0]
    near = np.argsort(-W @ centre)[: rng.integers(min(3, K), max(4, K // 4 + 1))]
    W[near] = unit_rows(W[near] + 10 ** rng.uniform(-1, 0.3) * rng.standard_normal((len(near), d)) / np.sqrt(d))
    return W


def screening_energy(kind: int, X: Rows) -> float:
    """The energy at the screening beta of the local optimum near X."""
    return float(minimize(kind, np.array(X), SCREEN_BETA, *SCHEDULE[1:]))


def hop(kind: int, X: Rows, rng: np.random.Generator, promising: float) -> Candidate | None:
    """One perturbation of W followed by a schedule from a random middle beta; H restarts at W.

    Local optima rank almost alike by the energy at ``SCREEN_BETA`` and at the last beta, and the former costs half.
    So `hop` returns None if that energy is not below ``promising``.
    """
    W = X if kind == TAMMES else X[: len(X) // 2]
    W = reinsert(W, rng) if rng.random() < 0.5 else perturb(W, rng)
    Y = W if kind == TAMMES else np.vstack([W, W])
    if descend(kind, Y, float(10 ** rng.uniform(0.8, 2.3)), SCREEN_BETA, *SCHEDULE) > promising:
        return None
    return optimise(kind, Y, SCREEN_BETA)


@dataclass
class BasinHopping:
    """The state of the chains; call `round` as long as time remains.

    Parameters
    ----------
    kind : {TAMMES, HARDMAX}
        The objective.
    chains : list of Candidate
        The initial configurations of the chains, best first.
    seed : SeedSequence
        The hops depend on it and on the chains alone.
    """

    kind: int
    chains: list[Candidate]
    seed: np.random.SeedSequence
    hops: int = 0
    idle: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        assert self.kind in (TAMMES, HARDMAX)
        self.chains = [self.chains[i % len(self.chains)] for i in range(CHAINS)]
        self.idle = [0] * CHAINS

    @property
    def best(self) -> Candidate:
        """The best configuration of all chains."""
        return min(self.chains, key=lambda c: c.value)

    def round(self, threads: Threads) -> None:
        """Each chain makes a few hops and keeps improvements; then those that fell behind continue from the best."""

        def task(chain: Candidate, seed: np.random.SeedSequence) -> Callable[[], Candidate]:
            def run() -> Candidate:
                rng = np.random.default_rng(seed)
                current = chain
                promising = screening_energy(self.kind, current.X) + SCREEN_SLACK
                for _ in range(HOPS_PER_ROUND):
                    trial = hop(self.kind, current.X, rng, promising)
                    if trial is not None and trial.value < current.value - 1e-9:
                        current = trial
                        promising = screening_energy(self.kind, current.X) + SCREEN_SLACK
                return current

            return run

        seeds = self.seed.spawn(CHAINS)
        after = threads.run("hops", [task(c, s) for c, s in zip(self.chains, seeds, strict=True)])
        for i, (old, new) in enumerate(zip(self.chains, after, strict=True)):
            self.idle[i] = 0 if new.value < old.value else self.idle[i] + 1
        self.chains = after
        self.hops += CHAINS * HOPS_PER_ROUND
        best = self.best
        for i, chain in enumerate(self.chains):
            if self.idle[i] >= MAX_STALLED and chain.value > best.value + 1e-7:
                self.chains[i] = best
                self.idle[i] = 0
