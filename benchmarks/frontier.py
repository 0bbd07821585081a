"""The best published values compared with ours: ``python -m benchmarks.frontier [--write docs/frontier.md]``.

No search is made: our values are those of `softmaxcode.best_known`. Exits with 1 where one of ours is worse.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pandas as pd

from benchmarks import published
from benchmarks.report import ABSENT, Page
from softmaxcode.catalog import UnknownCodeError, best_known
from softmaxcode.plotting.landscape import PAPER_LINES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from softmaxcode.code import SoftmaxCode

PAGE = Page("docs/frontier.md", ("counts", "dimensions", "published", "universal", "jiang"))
#: Ours may be lower by this, which is rounding.
TOLERANCE = 1e-12

#: K, d, the largest cosine and the name of the universally optimal codes up to 4600 vectors. They are from Table 1 of
#: H. Cohn and A. Kumar, Universally optimal distribution of points on spheres (2007).
UNIVERSAL_CODES = (
    (12, 3, 1 / math.sqrt(5), "icosahedron"),
    (120, 4, (1 + math.sqrt(5)) / 4, "600-cell"),
    (16, 5, 1 / 5, "Clebsch"),
    (27, 6, 1 / 4, "Schläfli"),
    (56, 7, 1 / 3, "derived from the kissing arrangement of E7"),
    (240, 8, 1 / 2, "roots of E8"),
    (112, 21, 1 / 9, "isotropic subspaces, q = 3"),
    (162, 21, 1 / 7, "McLaughlin, subconstituent"),
    (100, 22, 1 / 11, "Higman-Sims"),
    (275, 22, 1 / 6, "McLaughlin"),
    (891, 22, 1 / 4, "Conway"),
    (552, 23, 1 / 5, "equiangular lines"),
    (4600, 23, 1 / 3, "derived from the Leech lattice"),
    (325, 52, 1 / 16, "isotropic subspaces, q = 4"),
)


@dataclass(frozen=True)
class Row:
    """One published value and ours.

    Attributes
    ----------
    K, d : int
        Number of classes and dimension.
    name : str
        The code or table of the published value.
    objective : {"softmax", "tammes"}
        Whether it is a margin, or 1 - mu.
    theirs : float
        The published value.
    ours : float or None
        The value of the best stored code, or None if no code is stored.
    lower_bound : float or None
        Rigorous lower bound on ``ours``.
    status, method : str
        The certificate's status of the stored code, and how the code was found.
    """

    K: int
    d: int
    name: str
    objective: str
    theirs: float
    ours: float | None = None
    lower_bound: float | None = None
    status: str = ABSENT
    method: str = "no code is stored"

    @property
    def lower(self) -> bool:
        """Whether our value is lower, or missing."""
        return self.ours is None or self.ours < self.theirs - TOLERANCE

    def cells(self) -> dict[str, str]:
        """The row of the table."""
        values = [ABSENT] * 3
        if self.ours is not None and self.lower_bound is not None:
            values = [f"{self.ours:.14f}", f"{self.ours - self.theirs:+.2e}", f"{self.lower_bound:.14f}"]
        return {
            "K": f"{self.K:,}",
            "d": str(self.d),
            "published": self.name,
            "theirs": f"{self.theirs:.14g}",
            **dict(zip(("ours", "ours − theirs", "proved at least"), values, strict=True)),
            "status": self.status,
            "found by": self.method,
        }


def proved_and_paper() -> list[Row]:
    """The universally optimal codes and the lines of the paper, not yet compared."""
    universal = [Row(K, d, name, "tammes", 1 - cosine) for K, d, cosine, name in UNIVERSAL_CODES]
    paper = [Row(K, d, "Jiang et al.", "softmax", margin) for (K, d), margin in PAPER_LINES.items()]
    return universal + paper


def compared(row: Row) -> Row:
    """The row with the value of the best stored code added."""
    try:
        code: SoftmaxCode = best_known(row.K, row.d, objective=row.objective)
    except UnknownCodeError:
        return row
    certificate = code.certificate
    ours = code.margin if row.objective == "softmax" else 1 - code.max_cosine
    method = code.provenance.method
    if method.startswith("catalogue entry "):
        method = method.partition(": ")[2]
    return replace(row, ours=ours, lower_bound=certificate.lower_bound, status=certificate.status, method=method)


def tables(rows: Sequence[Row], packings: Sequence[published.Published]) -> dict[str, pd.DataFrame | str]:
    """The comparison with the published packings, counted, and the rows of each other kind."""
    kinds = {"universal": "tammes", "jiang": "softmax"}
    return {
        "counts": published.sentence(packings),
        "dimensions": published.by_dimension(packings),
        "published": pd.DataFrame([row.cells() for row in published.ordered(packings)]),
        **{name: pd.DataFrame([r.cells() for r in rows if r.objective == kind]) for name, kind in kinds.items()},
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare every row, print the tables and write them; returns 1 where one of ours is worse."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.frontier", description=(__doc__ or "").splitlines()[0])
    PAGE.add_option(parser)
    parser.add_argument("--largest", type=int, metavar="K", help="leave out rows of more classes")
    chosen = parser.parse_args(arguments)
    largest = math.inf if chosen.largest is None else chosen.largest
    rows = [compared(row) for row in proved_and_paper() if row.K <= largest]
    packings = [published.compared(row) for row in published.read_published() if row.K <= largest]
    PAGE.publish(tables(rows, packings), chosen.write)
    behind = [f"({row.K}, {row.d}) {row.name}" for row in rows if row.lower]
    behind += [f"({row.K}, {row.d}) {row.source}" for row in packings if row.outcome in ("worse", "no code")]
    for name in behind:
        print(f"worse than published: {name}", file=sys.stderr)
    return 1 if behind else 0


if __name__ == "__main__":
    sys.exit(main())
