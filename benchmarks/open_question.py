"""Open question 1 of Jiang et al. (2023): does any code have a margin larger than 1 - mu* of the best packing?

    python -m benchmarks.open_question [--write docs/open-question-1.md]
    python -m benchmarks.open_question --look SECONDS [--seed 0] [--pairs 11,3 19,3 ...] [--out FILE]

The first compares the two entries of every pair of the installed catalogue and prints or writes a document. The second
searches HardMax directly at a few pairs for a margin above 1 - mu, and keeps what it found as JSON, which the first
reads. A round of starts is never cut short, so how many are made in the given seconds depends on the machine; what a
start does follows from the seed and its number alone.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from benchmarks.report import ABSENT, Section, aligned, write
from softmaxcode.catalog import best_known, bracket, installed
from softmaxcode.certificates.certificate import RESIDUAL_TOLERANCE
from softmaxcode.certificates.rigorous import rigorous_bounds
from softmaxcode.cli.arguments import parse_pair
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

    from softmaxcode.catalog import Catalog, Entry
    from softmaxcode.code import SoftmaxCode
    from softmaxcode.types import Rows

#: Margin and 1 - mu agree within this.
AGREEMENT = 1e-10
#: Rattlers are counted up to this many classes.
LARGEST_RATTLING = 1000
#: The pairs of the hard look.
LOOK_PAIRS = (
    *((11, 3), (19, 3), (20, 3), (23, 3), (25, 3), (26, 3), (28, 3), (29, 3)),
    *((14, 4), (15, 4), (16, 4), (22, 4), (23, 4), (27, 4), (31, 4), (22, 5), (22, 6)),
)
LOOK_FILE = Path(__file__).with_name("open_question_look.json")
#: Every end of a descent whose margin is at least 1 - mu less this is polished; of those further below one in ten.
NEAR = 1e-3
FAR = 0.05
FAR_EVERY = 10
#: The end of a ladder, before polishing, may be below its local optimum by this much.
LADDER_ERROR = 1e-3
#: Local optima whose margins differ by less are one; a larger margin than 1 - mu by more would be a lead.
RESOLUTION = 1e-9
#: A stressed class whose h_k is further than this from w_k is tilted.
TILT = 1e-6
#: Shares of the time for random starts and for descents from the packing; hopping has the rest.
RANDOM_SHARE, PERTURBED_SHARE = 0.4, 0.35
#: Random starts made between two looks at the clock.
ROUND = 8


def rattlers(code: SoftmaxCode) -> tuple[np.ndarray, np.ndarray]:
    """Rows without contact, and classes with a larger margin: as the code's own, but without a linear programme."""
    threshold = certify(code, lp=False).threshold
    tammes = np.flatnonzero(code.largest_cosines < code.max_cosine - threshold)
    return tammes, np.flatnonzero(code.margins > code.margin + threshold)


# The hard look


@dataclass
class Look:
    """What the search at one pair found; margins are exact one-vs-rest distances of polished coordinates.

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
        Ends with a margin at least 1 - mu - 1e-3, as far as can be told before polishing; every one is polished.
    polished, unconverged : int
        Ends that were polished, and those of them whose first-order conditions were not met after it.
    at_packing : int
        Polished ends with the packing's margin.
    optima : list of float
        Distinct margins of the converged ones, the largest first.
    loose : int
        How many of those were met with rho(W) > 1 - mu(W) of the same W; where only unstressed classes are near each
        other that says nothing.
    tilted : int
        How many of those were met with h_k != w_k at a stressed class, so that W is no balanced packing.
    best_tilted : float or None
        The largest margin of a tilted one.
    best_packing : float
        The largest 1 - mu of all polished ends, and of the packing known.
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
    loose: int = 0
    tilted: int = 0
    best_tilted: float | None = None
    best_packing: float = -math.inf
    best: float | None = None
    best_lower_bound: float | None = None
    best_rows: list[list[float]] | None = None

    @property
    def is_lead(self) -> bool:
        """Whether a margin was met above 1 - mu of every packing known or met."""
        return self.best is not None and self.best > self.best_packing + RESOLUTION


@dataclass
class _Optimum:
    margin: float
    loose: bool
    tilted: bool


def any_tilted(W: Rows, H: Rows, classes: np.ndarray) -> bool:
    """Whether one of the classes is best separated in another direction than its own vector."""
    return bool(np.linalg.norm(W[classes] - H[classes], axis=1).max() > TILT)


@dataclass
class Collector:
    """Polishes ends of descents and keeps one of each margin."""

    look: Look
    optima: list[_Optimum] = field(default_factory=list)
    best: tuple[float, Rows] | None = None
    far: int = 0

    def take(self, candidate: Candidate) -> None:
        """Polish an end that is near enough, and enter it."""
        look, K = self.look, self.look.K
        behind = look.one_minus_cosine + candidate.value - LADDER_ERROR
        if behind <= NEAR:
            look.near += 1
        else:
            self.far += 1
            if behind > FAR or self.far % FAR_EVERY:
                return
        polished = polish_hardmax(candidate.X[:K], candidate.X[K:])
        look.polished += 1
        W, H = polished.X[:K], polished.X[K:]
        margin = smallest_margin(W, 1).margin
        one_minus = 1 - float(gram(W).max())
        look.best_packing = max(look.best_packing, one_minus)
        if self.best is None or margin > self.best[0]:
            self.best = margin, W
        if polished.residual > RESIDUAL_TOLERANCE:
            look.unconverged += 1
            return
        look.at_packing += abs(margin - look.one_minus_cosine) <= RESOLUTION
        stressed = np.unique(polished.contacts.a) - K
        loose = margin > one_minus + RESOLUTION
        tilted = any_tilted(W, H, stressed)
        for known in self.optima:
            if abs(known.margin - margin) <= RESOLUTION:
                known.loose |= loose
                known.tilted |= tilted
                return
        self.optima.append(_Optimum(margin, loose, tilted))

    def finish(self) -> Look:
        """The look with its optima summed up."""
        look = self.look
        look.optima = sorted((o.margin for o in self.optima), reverse=True)
        look.loose = sum(o.loose for o in self.optima)
        tilted = [o.margin for o in self.optima if o.tilted]
        look.tilted, look.best_tilted = len(tilted), max(tilted, default=None)
        if self.best is not None:
            look.best, W = self.best
            look.best_lower_bound = rigorous_bounds(W, margins(W, 1).H).margin
            if look.best > look.one_minus_cosine + RESOLUTION:
                look.best_rows = W.tolist()
        return look


def caged(W: Rows, i: int, mu: float, rng: np.random.Generator, steps: int = 5) -> Rows:
    """Move row i to a random place where its cosine with every other row stays at most mu.

    Each step draws a direction and then a place on that great circle up to where the first other row is met: on
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
    """The packing with its rattlers moved about, then shaken by 1e-6 to 1, and the first rung of a ladder.

    H starts at W, at the directions of the exact margins, or shaken on its own.
    """
    mu = float(gram(W).max())
    for i in free:
        W = caged(W, int(i), mu, rng)
    W = unit_rows(W + 10 ** rng.uniform(-6, 0) * rng.standard_normal(W.shape))
    kind = rng.integers(3)
    H = W if kind == 0 else margins(W, 1).H
    if kind == 2:
        H = unit_rows(H + 10 ** rng.uniform(-3, 0) * rng.standard_normal(W.shape))
    return np.vstack([W, H]), float(10 ** rng.uniform(0, 4))


def look_at(packing: SoftmaxCode, seconds: float, seed: int) -> Look:
    """Search HardMax at the pair of a packing for a margin above its 1 - mu.

    Parameters
    ----------
    packing : SoftmaxCode
        The best packing known.
    seconds : float
        Time to spend, on one thread.
    seed : int
        Everything random follows from it.

    Returns
    -------
    Look
    """
    K, d, W = packing.K, packing.d, packing.W
    begin, threads = time.monotonic(), Threads(1)
    look = Look(K, d, 1 - packing.max_cosine, best_packing=1 - packing.max_cosine)
    collector = Collector(look)
    random_seeds, perturbed_seeds, hop_seeds = np.random.SeedSequence([seed, K, d]).spawn(3)
    ends: list[Candidate] = []
    while time.monotonic() - begin < RANDOM_SHARE * seconds:
        found = multistart(HARDMAX, K, d, random_seeds.spawn(ROUND), threads)
        look.random += ROUND
        for candidate in found:
            collector.take(candidate)
        ends = best_distinct(ends + found, CHAINS)
    free, _ = rattlers(packing)
    while time.monotonic() - begin < (RANDOM_SHARE + PERTURBED_SHARE) * seconds:
        start = perturbed_start(W, free, np.random.default_rng(perturbed_seeds.spawn(1)[0]))
        collector.take(optimise(HARDMAX, *start))
        look.perturbed += 1
    hopping = BasinHopping(
        HARDMAX, best_distinct([*ends, optimise(HARDMAX, np.vstack([W, W]), 1e3)], CHAINS), hop_seeds
    )
    while time.monotonic() - begin < seconds:
        before = list(hopping.chains)
        hopping.round(threads)
        for chain in hopping.chains:
            if not any(chain is other for other in before):
                collector.take(chain)
    look.hops = hopping.hops
    look.seconds = round(time.monotonic() - begin, 1)
    return collector.finish()


def run_looks(pairs: Sequence[tuple[int, int]], seconds: float, seed: int, out: Path) -> None:
    """Look at every pair and write what was found, as each finishes."""
    looks = []
    for K, d in pairs:
        look = look_at(best_known(K, d, objective="tammes"), seconds, seed)
        looks.append(look)
        excess = "nothing near" if look.best is None else f"{look.best - look.best_packing:.2e}"
        better = look.best_packing - look.one_minus_cosine
        print(
            f"({K}, {d}): {look.random} random, {look.perturbed} perturbed, {look.hops} hops; {look.near} near, "
            f"{look.polished} polished, "
            f"{look.unconverged} not converged, {look.at_packing} at the packing; {len(look.optima)} optima, "
            f"{look.loose} loose, {look.tilted} tilted; best - (1 - mu) = {excess}"
            + (f"; a packing better by {better:.2e}" if better > RESOLUTION else ""),
            flush=True,
        )
        write(out, json.dumps({"seed": seed, "seconds": seconds, "looks": [asdict(x) for x in looks]}, indent=1) + "\n")


def read_looks(path: Path) -> list[Look]:
    """What `run_looks` wrote; nothing where there is no file."""
    if not path.is_file():
        return []
    return [Look(**stored) for stored in json.loads(path.read_text(encoding="utf-8"))["looks"]]


# The document


@dataclass(frozen=True)
class Pair:
    """What the catalogue holds of one pair, for both objectives."""

    softmax: Entry
    tammes: Entry
    softmax_rattlers: int | None
    tammes_rattlers: int | None

    @property
    def difference(self) -> float:
        """The best margin less 1 - mu of the best packing."""
        return self.softmax.margin - (1 - self.tammes.max_cosine)

    @property
    def agrees(self) -> bool:
        """Whether both values are the same to 1e-10."""
        return abs(self.difference) <= AGREEMENT

    @property
    def polished(self) -> bool:
        """Whether first-order conditions are met to 1e-10 on both sides."""
        return "feasible" not in (self.softmax.status, self.tammes.status)


class Disagreement(NamedTuple):
    """Why a pair does not agree, and the proved upper bound on 1 - mu* that a counterexample must exceed."""

    why: str
    upper: float
    method: str


def explain(pair: Pair) -> Disagreement:
    """What to think of a pair whose values differ by more than 1e-10.

    A counterexample needs the rigorous lower bound on the margin above the *proved* upper bound on 1 - mu*; that some
    packing in hand is worse proves nothing.
    """
    proved = bracket(pair.tammes.K, pair.tammes.d, "tammes")
    if pair.softmax.lower_bound > proved.upper:
        why = "COUNTEREXAMPLE: the margin is proved to exceed 1 − μ*"
    elif pair.difference < 0:
        why = "search not finished: the margin is below that of the packing"
    elif pair.tammes.status == "feasible":
        why = "search not finished: the packing is not polished to an optimum"
    elif pair.softmax.status == "feasible":
        why = "candidate, not polished: a packing better than ours would explain it as well"
    else:
        why = "candidate, locally optimal: a packing better than ours would explain it as well"
    return Disagreement(why, proved.upper, proved.upper_method)


def read_pairs(catalog: Catalog) -> list[Pair]:
    """Every pair with entries for both objectives; rattlers only of polished codes, of others they mean nothing."""
    entries = {(e.d, e.K, e.objective): e for e in catalog.entries()}
    pairs = []
    for d, K in sorted({key[:2] for key in entries}):
        both = [entries.get((d, K, objective)) for objective in ("softmax", "tammes")]
        if both[0] is not None and both[1] is not None:
            counts = [_rattler_counts(catalog, e) for e in both if e is not None]
            pairs.append(Pair(both[0], both[1], counts[0][1], counts[1][0]))
    return pairs


def _rattler_counts(catalog: Catalog, entry: Entry) -> tuple[int | None, int | None]:
    if entry.status == "feasible" or entry.K > LARGEST_RATTLING:
        return None, None
    code = catalog.code(entry.K, entry.d, entry.objective)
    assert code is not None
    tammes, softmax = rattlers(code)
    return len(tammes), len(softmax)


def _count(value: int | None) -> str:
    return ABSENT if value is None else str(value)


def _row(pair: Pair) -> dict[str, str]:
    return {
        "K": str(pair.softmax.K),
        "d": str(pair.softmax.d),
        "margin": f"{pair.softmax.margin:.14f}",
        "1 − μ": f"{1 - pair.tammes.max_cosine:.14f}",
        "difference": f"{pair.difference:.1e}",
        "Softmax rattlers": _count(pair.softmax_rattlers),
        "Tammes rattlers": _count(pair.tammes_rattlers),
        "Softmax status": pair.softmax.status,
        "Tammes status": pair.tammes.status,
    }


def decade(difference: float) -> str:
    """The decade of a difference in words."""
    size = abs(difference)
    if size == 0:
        return "0"
    if size < 1e-16:
        return "below 1e-16"
    exponent = math.floor(math.log10(size))
    return f"1e{exponent} to 1e{exponent + 1}"


def histogram(pairs: Sequence[Pair]) -> pd.DataFrame:
    """How many pairs fall in each decade of the difference, polished ones apart."""
    ordered = sorted(pairs, key=lambda pair: abs(pair.difference))
    rows = []
    for name in dict.fromkeys(decade(pair.difference) for pair in ordered):
        members = [pair for pair in ordered if decade(pair.difference) == name]
        polished = sum(pair.polished for pair in members)
        rows.append({"size of the difference": name, "polished pairs": polished, "others": len(members) - polished})
    return pd.DataFrame(rows)


def _summary(pairs: Sequence[Pair]) -> Section:
    agree = [pair for pair in pairs if pair.agrees]
    polished = [pair for pair in pairs if pair.polished]
    worst = max((abs(pair.difference) for pair in agree), default=0.0)
    proved = sum(pair.tammes.status == "optimal" for pair in pairs)
    above = (
        f"The catalogue holds {len(pairs)} pairs that no closed form settles. In {len(agree)} of them the best margin "
        f"and 1 − μ of the best packing agree to {AGREEMENT:g} (the largest difference among them is {worst:.1e}). "
        f"{len(polished)} pairs are polished on both sides: first-order conditions hold to {RESIDUAL_TOLERANCE:g}, and "
        f"{sum(pair.agrees for pair in polished)} of those agree. In {proved} pairs the packing is proved optimal, so "
        "that 1 − μ* is known and a margin proved to be larger would settle the question; in the others 1 − μ* has "
        "only bounds.\n\n"
        "That so many agree is evidence only as far as the searches went: a packing is tried as a Softmax Code too, "
        "and stands as both entries where no descent on HardMax has improved on it."
    )
    return Section("How well they agree", above, histogram(pairs))


def _disagreements(pairs: Sequence[Pair]) -> str:
    heading = "## Pairs that do not agree\n\n"
    apart = [pair for pair in pairs if not pair.agrees]
    if not apart:
        return heading + f"None: every pair agrees to {AGREEMENT:g}.\n"
    rows = []
    for pair in apart:
        reason = explain(pair)
        rows.append(
            {
                "K": str(pair.softmax.K),
                "d": str(pair.softmax.d),
                "margin proved at least": f"{pair.softmax.lower_bound:.14f}",
                "1 − μ held": f"{1 - pair.tammes.max_cosine:.14f}",
                "difference": f"{pair.difference:.1e}",
                "1 − μ* proved at most": f"{reason.upper:.14f}",
                "by": reason.method,
                "why": reason.why,
            }
        )
    text = (
        "The margin is the rigorous lower bound that the coordinates have. Only a margin above the proved upper bound "
        "on 1 − μ* of *every* packing would be a counterexample. One above the packing held says that a search is not "
        "finished, or is a lead."
    )
    return heading + text + "\n\n" + aligned(pd.DataFrame(rows)) + "\n"


def _look_row(look: Look, pair: Pair | None) -> dict[str, str]:
    known = max([look.best_packing] if pair is None else [look.best_packing, 1 - pair.tammes.max_cosine])
    return {
        "K": str(look.K),
        "d": str(look.d),
        "Tammes status": ABSENT if pair is None else pair.tammes.status,
        "Tammes rattlers": ABSENT if pair is None else _count(pair.tammes_rattlers),
        "s": f"{look.seconds:.0f}",
        "random starts": str(look.random),
        "from the packing": str(look.perturbed),
        "hops": str(look.hops),
        "polished": str(look.polished),
        "not converged": str(look.unconverged),
        "at 1 − μ": str(look.at_packing),
        "optima": str(len(look.optima)),
        "ρ > 1 − μ(W)": str(look.loose),
        "h ≠ w": str(look.tilted),
        "best margin − (1 − μ)": ABSENT if look.best is None else f"{look.best - known:.1e}",
    }


def _by_dimension(pairs: Sequence[tuple[int, int]]) -> str:
    """Pairs (K, d) in words, one dimension after the other."""
    groups: dict[int, list[int]] = {}
    for K, d in pairs:
        groups.setdefault(d, []).append(K)
    return "; ".join(f"d = {d}: K = {', '.join(map(str, sorted(groups[d])))}" for d in sorted(groups))


def _looks(looks: Sequence[Look], pairs: Sequence[Pair]) -> str:
    rattling = [(pair.tammes.K, pair.tammes.d) for pair in pairs if pair.tammes_rattlers]
    text = (
        "## Where packings rattle: a hard look\n\n"
        "A rattler is free to move without making a packing worse, so one might hope to gain margin from that freedom. "
        f"{len(rattling)} polished packings of the catalogue have rattlers"
        + (f" ({_by_dimension(rattling)})" if rattling else "")
        + ".\n\n"
    )
    if not looks:
        return text + "No hard look has been taken yet: `python -m benchmarks.open_question --look 60`.\n"
    by_pair = {(pair.tammes.K, pair.tammes.d): pair for pair in pairs}
    among = [(look.K, look.d) for look in looks if (look.K, look.d) in rattling]
    text += (
        f"At {len(looks)} small pairs, {len(among)} of which rattle, HardMax was searched directly for ρ(W) > 1 − μ, "
        "on one thread: from random starts, by descents from the packing with its rattlers moved to random places of "
        "their cages and everything shaken by 1e-6 to 1, and by basin hopping. Every end above 1 − μ or at most "
        f"{NEAR:g} below it was polished, and one in {FAR_EVERY} of those further below, down to {FAR:g}. Margins are "
        "exact one-vs-rest distances of the polished coordinates; *optima* are their distinct values, to "
        f"{RESOLUTION:g}, where first-order conditions hold. *ρ > 1 − μ(W)* counts optima whose margin exceeds 1 − μ "
        "of the same W, and *h ≠ w* those where a class that carries stress is best separated in another direction "
        "than its own vector: such local Softmax Codes are no balanced packings.\n\n"
    )
    rows = [_look_row(look, by_pair.get((look.K, look.d))) for look in looks]
    return text + aligned(pd.DataFrame(rows)) + "\n\n" + _verdict(looks, by_pair) + "\n"


def _verdict(looks: Sequence[Look], pairs: dict[tuple[int, int], Pair]) -> str:
    said = []
    for look in looks:
        if look.is_lead:
            said.append(
                f"A lead at ({look.K}, {look.d}), which a better packing would explain as well: a margin of at least "
                f"{look.best_lower_bound!r}, where the best packing met or known had 1 − μ = {look.best_packing!r}."
            )
        pair = pairs.get((look.K, look.d))
        if pair is not None and look.best_packing > 1 - pair.tammes.max_cosine + RESOLUTION:
            said.append(
                f"At ({look.K}, {look.d}) the look met a better packing than the one held: 1 − μ = "
                f"{look.best_packing!r}."
            )
    if not any(look.is_lead for look in looks):
        said.append(
            "No margin above 1 − μ of the best packing was met: at no pair does the best exceed it by "
            f"{RESOLUTION:g}. That proves nothing; other starts may find what these did not."
        )
    return " ".join(said)


def document(pairs: Sequence[Pair], looks: Sequence[Look]) -> str:
    """The whole document."""
    head = (
        "# Open question 1: margins against packings\n\n"
        "Made by `python -m benchmarks.open_question --write docs/open-question-1.md` from the installed catalogue and "
        "from `benchmarks/open_question_look.json`, which `--look 60` makes.\n\n"
        "Jiang et al. (*Generalized Neural Collapse for a Large Number of Classes*, 2023) ask whether the codes of "
        "largest margin ρ and the packings of largest smallest distance are the same. Every optimal packing has "
        "ρ(W) = 1 − μ* ([theory.md](theory.md), T2), so what is left is whether *some* W has a larger margin: is "
        "ρ* > 1 − μ*? It is not for d ≤ 2 and for K ≤ 2d (T3). Elsewhere, this is what we see. Numerical agreement "
        "proves nothing. Nor does a margin above the best packing known: a counterexample needs a rigorous lower bound "
        "on ρ of a code above a *proved* upper bound on 1 − μ* of all packings.\n"
    )
    everything = Section(
        "Every pair",
        "*margin*: of the best code held, *1 − μ*: of the best packing held, *difference*: the first less the second. "
        "Rattlers are counted in the code of the same side, where it is polished. Statuses as in the "
        "[README](../README.md).",
        pd.DataFrame([_row(pair) for pair in pairs]),
    )
    parts = [head, _summary(pairs).markdown(), _disagreements(pairs), _looks(looks, pairs), everything.markdown()]
    return "\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Look, or make the document; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.open_question", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the document there")
    parser.add_argument("--look", type=float, metavar="SECONDS", help="search HardMax at each pair for so long")
    parser.add_argument("--seed", type=int, default=0, help="seed of the look (default 0)")
    parser.add_argument("--pairs", nargs="+", type=parse_pair, default=LOOK_PAIRS, metavar="K,d")
    parser.add_argument("--out", type=Path, default=LOOK_FILE, help=f"what the look found (default {LOOK_FILE.name})")
    chosen = parser.parse_args(arguments)
    with threadpool_limits(1, "blas"):  # the matrices are small; a second thread only costs where others work too
        return _run(chosen)


def _run(chosen: argparse.Namespace) -> int:
    if chosen.look is not None:
        run_looks(chosen.pairs, chosen.look, chosen.seed, chosen.out)
        return 0
    with installed() as catalog:
        if catalog is None:
            print("there is no catalogue: none ships with this installation, and none is yours", file=sys.stderr)
            return 2
        pairs = read_pairs(catalog)
    text = document(pairs, read_looks(chosen.out))
    print(text)
    if chosen.write is not None:
        write(chosen.write, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
