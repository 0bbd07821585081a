"""Open question 1, whether a margin can exceed 1 - mu* of the best packing: search, or make the tables."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from threadpoolctl import threadpool_limits

from benchmarks.open_question.pairs import explain, read_pairs
from benchmarks.open_question.search import (
    PAIRS,
    RESOLUTION,
    SEARCHES,
    read_searches,
    run_searches,
)
from benchmarks.report import ABSENT, Page
from softmaxcode.catalog import installed
from softmaxcode.cli.options import parse_pair

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.open_question.pairs import Pair
    from benchmarks.open_question.search import TargetedSearch


PAGE = Page(
    "docs/open-question-1.md",
    ("counts", "differences", "disagreements", "rattling", "searches", "exceptions", "pairs"),
)


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
    """The number of pairs in each decade of the difference, polished ones separately."""
    ordered = sorted(pairs, key=lambda pair: abs(pair.difference))
    rows = []
    for name in dict.fromkeys(decade(pair.difference) for pair in ordered):
        members = [pair for pair in ordered if decade(pair.difference) == name]
        polished = sum(pair.polished for pair in members)
        rows.append({"size of the difference": name, "polished pairs": polished, "others": len(members) - polished})
    return pd.DataFrame(rows)


def counts(pairs: Sequence[Pair]) -> pd.DataFrame:
    """How many pairs agree, are polished, and have a packing that is proved optimal."""
    agree = [pair for pair in pairs if pair.agrees]
    polished = [pair for pair in pairs if pair.polished]
    worst = max((abs(pair.difference) for pair in agree), default=0.0)
    return pd.DataFrame(
        [
            {
                "pairs": len(pairs),
                "agree": len(agree),
                "largest difference of these": f"{worst:.1e}",
                "polished": len(polished),
                "polished and agree": sum(pair.agrees for pair in polished),
                "packing proved optimal": sum(pair.tammes.status == "optimal" for pair in pairs),
            }
        ]
    )


def disagreements(pairs: Sequence[Pair]) -> pd.DataFrame:
    """The pairs that do not agree, with the bound that a counterexample must exceed."""
    rows = []
    for pair in pairs:
        if pair.agrees:
            continue
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
    return pd.DataFrame(rows)


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


def rattling(pairs: Sequence[Pair]) -> pd.DataFrame:
    """The polished packings with rattlers, by dimension."""
    groups: dict[int, list[int]] = {}
    for pair in pairs:
        if pair.tammes_rattlers:
            groups.setdefault(pair.tammes.d, []).append(pair.tammes.K)
    rows = [
        {"d": str(d), "packings": len(groups[d]), "K": ", ".join(map(str, sorted(groups[d])))} for d in sorted(groups)
    ]
    return pd.DataFrame(rows)


def exceptions(searches: Sequence[TargetedSearch], pairs: dict[tuple[int, int], Pair]) -> pd.DataFrame:
    """Where a search met a margin above every packing known or met, or a better packing than the stored one."""
    rows = []
    for search in searches:
        pair = pairs.get((search.K, search.d))
        better = pair is not None and search.best_packing > 1 - pair.tammes.max_cosine + RESOLUTION
        if search.is_candidate or better:
            rows.append(
                {
                    "K": str(search.K),
                    "d": str(search.d),
                    "what": "candidate" if search.is_candidate else "better packing",
                    "margin proved at least": repr(search.best_lower_bound),
                    "1 − μ of the best packing": repr(search.best_packing),
                }
            )
    return pd.DataFrame(rows)


def parts(pairs: Sequence[Pair], searches: Sequence[TargetedSearch]) -> dict[str, pd.DataFrame]:
    """The tables: how well pairs agree, the targeted searches, and every pair."""
    by_pair = {(pair.tammes.K, pair.tammes.d): pair for pair in pairs}
    return {
        "counts": counts(pairs),
        "differences": histogram(pairs),
        "disagreements": disagreements(pairs),
        "rattling": rattling(pairs),
        "searches": pd.DataFrame([_search_row(search, by_pair.get((search.K, search.d))) for search in searches]),
        "exceptions": exceptions(searches, by_pair),
        "pairs": pd.DataFrame([_row(pair) for pair in pairs]),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Search, or make the tables; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.open_question", description=(__doc__ or "").splitlines()[0]
    )
    PAGE.add_option(parser)
    parser.add_argument("--search", type=float, metavar="SECONDS", help="search HardMax at each pair for so long")
    parser.add_argument("--seed", type=int, default=0, help="seed of the search (default 0)")
    parser.add_argument("--pairs", nargs="+", type=parse_pair, default=PAIRS, metavar="K,d")
    parser.add_argument("--out", type=Path, default=SEARCHES, help=f"what the search found (default {SEARCHES.name})")
    chosen = parser.parse_args(arguments)
    with threadpool_limits(1, "blas"):  # the matrices are small; a second thread only costs time under load
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
    PAGE.publish(parts(pairs, read_searches(chosen.out)), chosen.write)
    return 0
