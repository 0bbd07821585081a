"""Whether `softmaxcode.best_known` is honest: ``python -m benchmarks.best_known [--write docs/catalog.md]``.

Over a grid of pairs it checks that values do not grow with K and do not fall with d. For a sample of pairs it compares
`best_known` with a short search from random starts. It lists the pairs labelled "construction only" that the search
beats by more than 1 %. Exits with 1 if a value is not monotone, or the search so beats one with another label.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from benchmarks.report import Page
from softmaxcode.catalog import look_up
from softmaxcode.checks.arguments import check_integer, check_seconds
from softmaxcode.solver import solve
from softmaxcode.storage.provenance import Evidence

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PAGE = Page("docs/catalog.md", ("grid", "searched", "unsearched"))
#: The grid.
CLASSES, DIMENSIONS = 300, 40
#: Values of neighbouring pairs differ by this where they are equal.
ROUNDING = 1e-11
#: A search may beat a value by this fraction.
ALLOWED = 0.01


@dataclass(frozen=True)
class Comparison:
    """A pair of the sample: the value of `best_known`, how hard it was searched, and the value of a short search."""

    K: int
    d: int
    value: float
    evidence: Evidence
    search: float

    @property
    def beaten(self) -> bool:
        """Whether the search is better by more than is allowed."""
        return self.search > self.value * (1 + ALLOWED)

    def cells(self) -> dict[str, object]:
        """The row of the table."""
        return {
            "K": self.K,
            "d": self.d,
            "best_known": f"{self.value:.6f}",
            "evidence": str(self.evidence),
            "search": f"{self.search:.6f}",
            "search / best_known": f"{self.search / self.value:.4f}",
        }


def grid_values(classes: int, dimensions: int, objective: str) -> dict[tuple[int, int], tuple[float, Evidence]]:
    """The value of `best_known` and its evidence for every pair of the grid that has one."""
    found = {}
    for d in range(1, dimensions + 1):
        for K in range(2, classes + 1):
            known = look_up(K, d, objective)
            if known is not None:
                found[K, d] = known.value, known.evidence
    return found


def not_monotone(values: dict[tuple[int, int], float]) -> list[tuple[int, int]]:
    """Pairs whose value exceeds that of some fewer classes, or is below that of some fewer dimensions.

    Examples
    --------
    >>> not_monotone({(5, 3): 1.0, (6, 3): 1.1, (7, 3): 0.9, (7, 4): 0.8})
    [(6, 3), (7, 4)]
    """
    bad = []
    least: dict[int, float] = {}  # by d: the smallest value of fewer classes
    largest: dict[int, float] = {}  # by K: the largest value of fewer dimensions
    for K, d in sorted(values):
        value = values[K, d]
        if value > least.get(d, np.inf) + ROUNDING or value < largest.get(K, -np.inf) - ROUNDING:
            bad.append((K, d))
        least[d] = min(value, least.get(d, np.inf))
        largest[K] = max(value, largest.get(K, -np.inf))
    return bad


def sampled_pairs(pairs: Sequence[tuple[int, int]], count: int, seed: int) -> list[tuple[int, int]]:
    """Pairs without a closed form, drawn at random."""
    open_pairs = [(K, d) for K, d in pairs if d > 2 and K > 2 * d]
    chosen = np.random.default_rng(seed).permutation(len(open_pairs))[:count]
    return sorted((open_pairs[i] for i in chosen), key=lambda pair: (pair[1], pair[0]))


def compared(
    pairs: Iterable[tuple[int, int]], values: dict[tuple[int, int], tuple[float, Evidence]], seconds: float
) -> list[Comparison]:
    """A search from random starts for every pair, beside what `best_known` has."""
    rows = []
    for K, d in pairs:
        code = solve(K, d, budget=seconds, catalog=False, exact=False, progress=False)
        rows.append(Comparison(K, d, *values[K, d], code.margin))
        print(rows[-1].cells(), file=sys.stderr)
    return rows


def tables(
    values: dict[tuple[int, int], tuple[float, Evidence]], bad: Sequence[tuple[int, int]], rows: Sequence[Comparison]
) -> dict[str, pd.DataFrame]:
    """The counts of the grid, the searched pairs that were beaten, and the unsearched ones."""
    kinds = [evidence for _, evidence in values.values()]
    grid = {"pairs": len(values)} | {str(kind): kinds.count(kind) for kind in Evidence} | {"not monotone": len(bad)}
    labelled = [row for row in rows if row.evidence == Evidence.CONSTRUCTION]
    others = [row for row in rows if row.evidence != Evidence.CONSTRUCTION]
    counts = {
        "pairs": len(others),
        "beaten by more than 1 %": sum(row.beaten for row in others),
        "largest search / best_known": f"{max((row.search / row.value for row in others), default=float('nan')):.4f}",
    }
    return {
        "grid": pd.DataFrame([grid]),
        "searched": pd.DataFrame([counts]),
        "unsearched": pd.DataFrame([row.cells() for row in labelled if row.beaten]),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the grid and the sample, print the tables and write them; returns 1 where `best_known` is not honest."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.best_known", description=(__doc__ or "").splitlines()[0]
    )
    PAGE.add_option(parser)
    parser.add_argument("--classes", type=int, default=CLASSES, metavar="K", help="the largest K of the grid")
    parser.add_argument("--dims", type=int, default=DIMENSIONS, metavar="d", help="the largest d of the grid")
    parser.add_argument("--sample", type=int, default=40, help="number of pairs that are searched")
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds of each search")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    chosen = parser.parse_args(arguments)
    classes, dimensions = check_integer("--classes", chosen.classes, 2), check_integer("--dims", chosen.dims, 1)
    seconds, sample = check_seconds("--seconds", chosen.seconds), check_integer("--sample", chosen.sample, 0)
    values = grid_values(classes, dimensions, "softmax")
    bad = not_monotone({pair: value for pair, (value, _) in values.items()})
    rows = compared(sampled_pairs(list(values), sample, check_integer("--seed", chosen.seed, 0)), values, seconds)
    PAGE.publish(tables(values, bad, rows), chosen.write)
    dishonest = [row for row in rows if row.beaten and row.evidence != Evidence.CONSTRUCTION]
    for K, d in bad:
        print(f"not monotone: ({K}, {d})", file=sys.stderr)
    for row in dishonest:
        print(f"beaten by a search: ({row.K}, {row.d}) by {row.search / row.value - 1:.1%}", file=sys.stderr)
    return 1 if bad or dishonest else 0


if __name__ == "__main__":
    sys.exit(main())
