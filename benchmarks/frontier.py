"""The best published values compared with ours: ``python -m benchmarks.frontier [--write docs/frontier.md]``.

No search is made: our values are those of `softmaxcode.best_known`. Exits with 1 where one of ours is lower.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from benchmarks.report import ABSENT, Section, write
from softmaxcode.catalog import UnknownCodeError, best_known
from softmaxcode.plotting.landscape import PAPER_LINES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from softmaxcode.code import SoftmaxCode

#: Our values may be lower by this, which is rounding.
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
        figures = [ABSENT] * 3
        if self.ours is not None and self.lower_bound is not None:
            figures = [f"{self.ours:.14f}", f"{self.ours - self.theirs:+.2e}", f"{self.lower_bound:.14f}"]
        return {
            "K": f"{self.K:,}",
            "d": str(self.d),
            "published": self.name,
            "theirs": f"{self.theirs:.14g}",
            **dict(zip(("ours", "ours − theirs", "proved at least"), figures, strict=True)),
            "status": self.status,
            "found by": self.method,
        }


def published() -> list[Row]:
    """Every published value, not yet compared."""
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


def section(rows: Sequence[Row], heading: str, above: str) -> Section:
    """A table with its description."""
    return Section(heading, above, pd.DataFrame([row.cells() for row in rows]))


def document(rows: Sequence[Row]) -> str:
    """The whole document."""
    packings = [row for row in rows if row.objective == "tammes"]
    margins = [row for row in rows if row.objective == "softmax"]
    behind = sum(row.lower for row in rows)
    head = (
        "# The frontier\n\nMade by `python -m benchmarks.frontier --write docs/frontier.md`. Ours are what "
        "`softmaxcode.best_known` returns, without any search; *proved at least* is the rigorous lower bound that the "
        f"coordinates have, and *status* is the certificate's. {len(rows) - behind} of {len(rows)} rows are no lower "
        f"than what is published{'' if behind == 0 else f'; {behind} are lower or missing'}.\n"
    )
    universal = section(
        packings,
        "Universally optimal codes",
        "1 − μ of the codes in Table 1 of H. Cohn and A. Kumar, *Universally optimal distribution of points on "
        f"spheres* (J. Amer. Math. Soc. 20, 2007), up to {max(K for K, _, _, _ in UNIVERSAL_CODES)} vectors. They are "
        "proved optimal, so nothing can be larger but by rounding.",
    )
    paper = section(
        margins,
        "The lines that trained networks were compared with",
        "The optimal margins in the figures of J. Jiang, J. Zhou, P. Wang, Q. Qu, D. Mixon, C. You and Z. Zhu, "
        "*Generalized Neural Collapse for a Large Number of Classes* (2023): ends of 100,000 steps of projected "
        "subgradient descent on HardMax (for K = 10,000 of 10 steps on the Tammes problem), as its public code makes "
        "them.",
    )
    return "\n".join([head, universal.markdown(), paper.markdown()])


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare every row, print the document and write it; returns 1 where one of ours is lower."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.frontier", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the document, for example docs/frontier.md")
    parser.add_argument("--largest", type=int, metavar="K", help="leave out rows of more classes")
    chosen = parser.parse_args(arguments)
    rows = [compared(row) for row in published() if chosen.largest is None or row.K <= chosen.largest]
    text = document(rows)
    print(text)
    if chosen.write is not None:
        write(chosen.write, text)
    behind = [row for row in rows if row.lower]
    for row in behind:
        print(f"lower than published: ({row.K}, {row.d}) {row.name}", file=sys.stderr)
    return 1 if behind else 0


if __name__ == "__main__":
    sys.exit(main())
