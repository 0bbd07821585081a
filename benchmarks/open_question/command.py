"""Open question 1, whether a margin can exceed 1 - mu* of the best packing: search, or write the document."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from threadpoolctl import threadpool_limits

from benchmarks.open_question.pairs import AGREEMENT, explain, read_pairs
from benchmarks.open_question.search import (
    FAR,
    FAR_EVERY,
    NEAR,
    PAIRS,
    RESOLUTION,
    SEARCHES,
    read_searches,
    run_searches,
)
from benchmarks.report import ABSENT, Section, aligned, replace_part
from softmaxcode.catalog import installed
from softmaxcode.certificates.certificate import RESIDUAL_TOLERANCE
from softmaxcode.cli.options import parse_pair

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.open_question.pairs import Pair
    from benchmarks.open_question.search import TargetedSearch


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
    """The decade of a difference, as a label."""
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
        f"The catalogue stores {len(pairs)} pairs that no closed form settles. In {len(agree)} of them the best margin "
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
        return heading + f"None: all pairs agree to {AGREEMENT:g}.\n"
    rows = []
    for pair in apart:
        reason = explain(pair)
        rows.append(
            {
                "K": str(pair.softmax.K),
                "d": str(pair.softmax.d),
                "margin proved at least": f"{pair.softmax.lower_bound:.14f}",
                "1 − μ stored": f"{1 - pair.tammes.max_cosine:.14f}",
                "difference": f"{pair.difference:.1e}",
                "1 − μ* proved at most": f"{reason.upper:.14f}",
                "by": reason.method,
                "why": reason.why,
            }
        )
    text = (
        "The margin is the rigorous lower bound that the coordinates have. Only a margin above the proved upper bound "
        "on 1 − μ* of *every* packing would be a counterexample. One above the stored packing means that a search is "
        "not finished, or is a candidate."
    )
    return heading + text + "\n\n" + aligned(pd.DataFrame(rows)) + "\n"


def _search_row(search: TargetedSearch, pair: Pair | None) -> dict[str, str]:
    known = max([search.best_packing] if pair is None else [search.best_packing, 1 - pair.tammes.max_cosine])
    return {
        "K": str(search.K),
        "d": str(search.d),
        "Tammes status": ABSENT if pair is None else pair.tammes.status,
        "Tammes rattlers": ABSENT if pair is None else _count(pair.tammes_rattlers),
        "s": f"{search.seconds:.0f}",
        "random starts": str(search.random),
        "from the packing": str(search.perturbed),
        "hops": str(search.hops),
        "polished": str(search.polished),
        "not converged": str(search.unconverged),
        "at 1 − μ": str(search.at_packing),
        "optima": str(len(search.optima)),
        "ρ > 1 − μ(W)": str(search.margin_above),
        "h ≠ w": str(search.h_differs),
        "best margin − (1 − μ)": ABSENT if search.best is None else f"{search.best - known:.1e}",
    }


def _by_dimension(pairs: Sequence[tuple[int, int]]) -> str:
    """Pairs (K, d) as text, one dimension after the other."""
    groups: dict[int, list[int]] = {}
    for K, d in pairs:
        groups.setdefault(d, []).append(K)
    return "; ".join(f"d = {d}: K = {', '.join(map(str, sorted(groups[d])))}" for d in sorted(groups))


def _searches(searches: Sequence[TargetedSearch], pairs: Sequence[Pair]) -> str:
    rattling = [(pair.tammes.K, pair.tammes.d) for pair in pairs if pair.tammes_rattlers]
    text = (
        "## Where packings rattle: a targeted search\n\n"
        "A rattler is free to move without making a packing worse, so one might hope to gain margin from that freedom. "
        f"{len(rattling)} polished packings of the catalogue have rattlers"
        + (f" ({_by_dimension(rattling)})" if rattling else "")
        + ".\n\n"
    )
    if not searches:
        return text + "No targeted search has been run yet: `python -m benchmarks.open_question --search 60`.\n"
    by_pair = {(pair.tammes.K, pair.tammes.d): pair for pair in pairs}
    among = [(search.K, search.d) for search in searches if (search.K, search.d) in rattling]
    text += (
        f"At {len(searches)} small pairs, {len(among)} of which rattle, HardMax was searched directly for "
        "ρ(W) > 1 − μ, on one thread: from random starts, by descents from the packing with its rattlers moved to "
        "random places of "
        "their cages and everything perturbed by 1e-6 to 1, and by basin hopping. Every end above 1 − μ or at most "
        f"{NEAR:g} below it was polished, and one in {FAR_EVERY} of those further below, down to {FAR:g}. Margins are "
        "exact one-vs-rest distances of the polished coordinates; *optima* are their distinct values, to "
        f"{RESOLUTION:g}, where first-order conditions hold. *ρ > 1 − μ(W)* counts optima whose margin exceeds 1 − μ "
        "of the same W, and *h ≠ w* those where a class that carries stress is best separated in another direction "
        "than its own vector: such local Softmax Codes are no balanced packings.\n\n"
    )
    rows = [_search_row(search, by_pair.get((search.K, search.d))) for search in searches]
    return text + aligned(pd.DataFrame(rows)) + "\n\n" + _verdict(searches, by_pair) + "\n"


def _verdict(searches: Sequence[TargetedSearch], pairs: dict[tuple[int, int], Pair]) -> str:
    sentences = []
    for search in searches:
        if search.is_candidate:
            sentences.append(
                f"A candidate at ({search.K}, {search.d}), which a better packing would explain as well: a margin of "
                f"at least {search.best_lower_bound!r}, where the best packing met or known had 1 − μ = "
                f"{search.best_packing!r}."
            )
        pair = pairs.get((search.K, search.d))
        if pair is not None and search.best_packing > 1 - pair.tammes.max_cosine + RESOLUTION:
            sentences.append(
                f"At ({search.K}, {search.d}) the search found a better packing than the stored one: 1 − μ = "
                f"{search.best_packing!r}."
            )
    if not any(search.is_candidate for search in searches):
        sentences.append(
            "No margin above 1 − μ of the best packing was met: at no pair does the best exceed it by "
            f"{RESOLUTION:g}. That proves nothing; other starts may find what these did not."
        )
    return " ".join(sentences)


def parts(pairs: Sequence[Pair], searches: Sequence[TargetedSearch]) -> dict[str, str]:
    """The parts of the document: how well pairs agree, the targeted searches, and every pair."""
    everything = Section(
        "Every pair",
        "*margin*: of the best stored code, *1 − μ*: of the best stored packing, *difference*: the first less the "
        "second. Rattlers are counted in the code of the same side, where it is polished.",
        pd.DataFrame([_row(pair) for pair in pairs]),
    )
    return {
        "agreement": "\n".join([_summary(pairs).markdown(), _disagreements(pairs)]),
        "searches": _searches(searches, pairs),
        "pairs": everything.markdown(),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Search, or make the parts of the document; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.open_question", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the parts of this document")
    parser.add_argument("--search", type=float, metavar="SECONDS", help="search HardMax at each pair for so long")
    parser.add_argument("--seed", type=int, default=0, help="seed of the search (default 0)")
    parser.add_argument("--pairs", nargs="+", type=parse_pair, default=PAIRS, metavar="K,d")
    parser.add_argument("--out", type=Path, default=SEARCHES, help=f"what the search found (default {SEARCHES.name})")
    chosen = parser.parse_args(arguments)
    with threadpool_limits(1, "blas"):  # the matrices are small; a second thread only costs where others work too
        return _run(chosen)


def _run(chosen: argparse.Namespace) -> int:
    if chosen.search is not None:
        run_searches(chosen.pairs, chosen.search, chosen.seed, chosen.out)
        return 0
    with installed() as catalog:
        if catalog is None:
            print("there is no catalogue: none ships with this installation, and none is yours", file=sys.stderr)
            return 2
        pairs = read_pairs(catalog)
    texts = parts(pairs, read_searches(chosen.out))
    print("\n".join(texts.values()))
    if chosen.write is not None:
        for name, text in texts.items():
            replace_part(chosen.write, name, text)
    return 0
