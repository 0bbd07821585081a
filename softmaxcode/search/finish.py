"""From the candidates of a search to codes: polish and choose, within the time that is left."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from softmaxcode.contacts.polish import can_polish, centre_rattlers, expected_seconds, polish_hardmax, polish_tammes
from softmaxcode.margins.exact import smallest_margin
from softmaxcode.search.descent import Descent
from softmaxcode.search.energy import HARDMAX, TAMMES, minimize
from softmaxcode.search.multistart import Candidate, pair_maximum
from softmaxcode.search.pipeline import Timer
from softmaxcode.search.scale import scale
from softmaxcode.sphere import largest_cosines

if TYPE_CHECKING:
    from softmaxcode.contacts.polish import Polished
    from softmaxcode.parallel.deadline import Deadline
    from softmaxcode.search.pipeline import SearchResult
    from softmaxcode.types import Rows

#: The temperature at which polishing takes over; values are then within about 1e-5 of a local optimum.
FINE_BETA = 1e5
#: The last beta of a search without polishing.
FINEST_BETA = 1e7
#: The largest fraction of the time that polishing may take.
POLISH_FRACTION = 0.6
#: Polishing gets this many times the time that it is expected to take, if the budget allows.
POLISH_RESERVE = 2.0
#: How much polishing may still improve a candidate of the search.
SEARCH_ERROR = 2e-3
#: Iterations at `FINE_BETA` after which a HardMax optimum is given up if it promises less than the best by this.
FEW_ITERATIONS = 300
FEW_GAIN = 1e-5
#: A HardMax optimum must beat the best packing by this before it is polished.
WORTH_POLISHING = 1e-8
#: Descents to `FINE_BETA` before polishing: energies in all, and floating-point operations per second.
FINE_ENERGIES, FLOPS = 2000, 1e10
#: L-BFGS steps between two looks at the deadline, and seconds per point to centre rattlers.
PART, CENTRING = 250, 0.02


@dataclass(frozen=True)
class Plan:
    """Whether to polish, the timer of the search, the end of search and polishing, and whether a budget sets it."""

    polish: bool
    timer: Timer
    deadline: Deadline
    limited: bool

    @property
    def end(self) -> float | None:
        """The end in seconds of `time.monotonic`; None without a budget."""
        return self.deadline.end if self.limited else None

    def in_time(self) -> bool:
        """Whether time is left."""
        return not self.deadline.passed


def plan_search(K: int, d: int, deadline: Deadline, *, limited: bool) -> Plan:
    """Reserve the time that polishing is expected to need; plan none where that is too much of the time left.

    Parameters
    ----------
    K, d : int
        Number of classes and dimension.
    deadline : Deadline
        The end.
    limited : bool
        Whether the user gave a budget. Without one, polishing is planned for all codes that can be polished.
    """
    left = deadline.left
    expected = expected_seconds(K, d) if can_polish(K, d) else math.inf
    polish = expected <= POLISH_FRACTION * left if limited else can_polish(K, d)
    fine = FINE_ENERGIES * 4 * K * K * d / FLOPS
    reserve = min(POLISH_RESERVE * expected if polish else 0.0, POLISH_FRACTION * left) + min(fine, 0.2 * left)
    return Plan(polish, Timer(max(left - reserve, 0.2 * left)), deadline, limited)


def polished_codes(found: SearchResult, plan: Plan) -> dict[str, tuple[Rows, str]]:
    """The codes of a search under both objectives with their methods, polished where the plan allows it."""
    packing, how = _best_packing(found, plan)
    softmax, made = _best_softmax(found, packing, how, plan)
    if largest_cosines(softmax).max() < largest_cosines(packing).max():  # the HardMax search found a better packing
        packing, how = _centred(polish_tammes(softmax, 1e-9, plan.deadline.end)), "HardMax search, polished"
        if smallest_margin(packing).margin >= smallest_margin(softmax).margin - 1e-12:
            softmax, made = packing, how
    return {"tammes": (packing, how), "softmax": (softmax, made)}


def _refine(candidate: Candidate, plan: Plan) -> Candidate:
    """A packing at `FINE_BETA`."""
    if candidate.beta >= FINE_BETA:
        return candidate
    return _descend(candidate.X, FINE_BETA, FINE_BETA, 3000, 1e-6, plan)


def _descend(X: Rows, first: float, last: float, iterations: int, tolerance: float, plan: Plan) -> Candidate:
    """A packing at increasing beta, until the time is over."""
    descent = Descent(X, scale(*X.shape).delta)
    descent.run(first, last, iterations=iterations, tolerance=tolerance, deadline=plan.end)
    return Candidate(pair_maximum(TAMMES, descent.X), descent.X, last)


def _refined_hardmax(X: Rows, iterations: int, plan: Plan) -> Rows:
    """`minimize` on HardMax at `FINE_BETA`, in parts between which the deadline is checked if there is a budget."""
    X = np.array(X)
    part = PART if plan.limited else iterations
    before = math.inf
    for _ in range(0, iterations, part):
        value = minimize(HARDMAX, X, FINE_BETA, part, 1e-6)
        if not plan.in_time() or before - value < 1e-6 / FINE_BETA:
            break
        before = value
    return X


def _best_packing(found: SearchResult, plan: Plan) -> tuple[Rows, str]:
    """The best Tammes candidate, polished where the plan allows it, and its method."""
    decided = found.tammes[0].polished
    if plan.polish and decided is not None:  # near ties are polished before they are ranked
        return _centred(decided), "search, polished"
    packings = [_refine(found.tammes[0], plan)]
    packings += [_refine(c, plan) for c in found.tammes[1:3] if plan.polish and plan.in_time()]
    packings.sort(key=lambda c: c.value)
    if plan.polish:
        polished = [polish_tammes(packings[0].X, 10 / FINE_BETA, plan.deadline.end)]
        for candidate in packings[1:]:
            if candidate.value <= packings[0].value + 2e-5 and plan.in_time():
                polished.append(polish_tammes(candidate.X, 10 / FINE_BETA, plan.deadline.end))
        first = max(polished, key=lambda p: p.value)
        if plan.in_time() or first.value >= 1 - packings[0].value:
            return _centred(first), "search, polished"
    best = _descend(packings[0].X, 4 * FINE_BETA, FINEST_BETA, 1500, 1e-4, plan).X
    if plan.deadline.left > CENTRING * len(best):
        best = centre_rattlers(best)
    return best, "search, not polished"


def _centred(polished: Polished) -> Rows:
    """The polished packing with the rows that carry no stress moved to the middle of their cages."""
    return centre_rattlers(polished.X, ~polished.contacts.members(len(polished.X)))


def _best_softmax(found: SearchResult, packing: Rows, how: str, plan: Plan) -> tuple[Rows, str]:
    """The packing, or a HardMax candidate whose margin is larger at the end."""
    K, d = packing.shape
    if not (plan.polish and can_polish(2 * K, d) and plan.in_time()):
        return packing, how
    best, best_margin = packing, smallest_margin(packing).margin
    for candidate in found.hardmax[:2]:
        hopeless = smallest_margin(candidate.X[:K]).margin < best_margin - SEARCH_ERROR
        if hopeless or not plan.in_time():
            continue
        X = _refined_hardmax(candidate.X, FEW_ITERATIONS, plan)
        if _promised_margin(X, K) <= best_margin - FEW_GAIN:
            continue
        X = _refined_hardmax(X, 3000, plan)
        if _promised_margin(X, K) <= best_margin + WORTH_POLISHING:
            continue
        W = polish_hardmax(X[:K], X[K:], 10 / FINE_BETA, plan.deadline.end).X[:K]
        margin = smallest_margin(W).margin
        if margin > best_margin + 1e-12:
            best, best_margin, how = W, margin, "HardMax search, polished"
    return best, how


def _promised_margin(X: Rows, K: int) -> float:
    """The margin that polishing a minimiser of the HardMax energy leads to, to first order in 1/beta.

    The minimiser weighs the pairs like stresses, so the weighted mean of the pair values is the optimum of the dual.
    """
    C = X[K:] @ X[:K].T
    values = np.diagonal(C)[:, None] - C
    np.fill_diagonal(values, np.inf)
    weights = np.exp(-FINE_BETA * (values - values.min()))
    np.fill_diagonal(values, 0.0)
    return float((weights * values).sum() / weights.sum())
