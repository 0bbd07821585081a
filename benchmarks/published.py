"""The published largest cosines of `published.csv`, and ours beside them; no search is made."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from benchmarks.report import ABSENT
from softmaxcode.catalog import best_known, look_up

if TYPE_CHECKING:
    from collections.abc import Sequence

#: The data, with the source of every row; its first lines say what the sources are.
PUBLISHED = Path(__file__).with_name("published.csv")
#: How ours compares, in the order of the table: worse ones first.
OUTCOMES = ("worse", "no code", "better", "equal")
#: The characters of a description in the table.
LONGEST_METHOD = 80


@dataclass(frozen=True)
class Published:
    """A published largest cosine and ours.

    Attributes
    ----------
    K, d : int
        Number of points and dimension.
    theirs, tolerance : float
        The published value, and how far it may be off by the digits printed.
    source : str
        Where it was published.
    ours : float or None
        The largest cosine of the best stored code, or None if no code is stored.
    evidence, method : str
        Of our code: how hard its pair was searched, and how the code was found.
    """

    K: int
    d: int
    theirs: float
    tolerance: float
    source: str
    ours: float | None = None
    evidence: str = ABSENT
    method: str = "no code is stored"

    @property
    def outcome(self) -> str:
        """One of `OUTCOMES`: whether our largest cosine is smaller (better) or larger (worse) beyond the tolerance."""
        if self.ours is None:
            return "no code"
        if abs(self.ours - self.theirs) <= self.tolerance:
            return "equal"
        return "better" if self.ours < self.theirs else "worse"

    def cells(self) -> dict[str, str]:
        """The row of the table."""
        ours = [ABSENT] * 2 if self.ours is None else [f"{self.ours:.13f}", f"{self.ours - self.theirs:+.1e}"]
        return {
            "K": f"{self.K:,}",
            "d": str(self.d),
            "published μ": f"{self.theirs:.13f}",
            "our μ": ours[0],
            "ours − published": ours[1],
            "ours is": self.outcome,
            "evidence": self.evidence,
            "found by": self.method,
            "source": self.source,
        }


def read_published(path: Path = PUBLISHED) -> list[Published]:
    """The published values, not yet compared."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return [
        Published(int(row["K"]), int(row["d"]), float(row["max_cosine"]), float(row["tolerance"]), row["source"])
        for row in csv.DictReader(lines)
    ]


def compared(row: Published) -> Published:
    """The row with the largest cosine of the best stored code added."""
    if look_up(row.K, row.d, "tammes") is None:  # `best_known` would compute bounds for its error, which takes seconds
        return row
    code = best_known(row.K, row.d, objective="tammes")
    method = code.provenance.method
    if method.startswith("catalogue entry "):
        method = method.partition(": ")[2]
    if len(method) > LONGEST_METHOD:
        method = f"{method[:LONGEST_METHOD]}…"
    return replace(row, ours=code.max_cosine, evidence=str(code.provenance.evidence), method=method)


def sentence(rows: Sequence[Published]) -> str:
    """How many of our values equal, improve or miss the published ones."""
    found = Counter(row.outcome for row in rows)
    missing = f"; for {found['no code']} no code is stored" if found["no code"] else ""
    return (
        f"- Of {len(rows)} published pairs ours equals {found['equal']}, is better on {found['better']} and worse on "
        f"{found['worse']}{missing}."
    )


def by_dimension(rows: Sequence[Published]) -> pd.DataFrame:
    """The counts of `sentence` for each dimension."""
    table = []
    for d in sorted({row.d for row in rows}):
        found = Counter(row.outcome for row in rows if row.d == d)
        names = ("equal", "better", "worse", "no code")
        table.append({"d": str(d), "pairs": sum(found.values()), **{name: found[name] for name in names}})
    return pd.DataFrame(table)


def ordered(rows: Sequence[Published]) -> list[Published]:
    """Worse ones first, the worst of them first; then by dimension and number of points."""

    def place(row: Published) -> tuple[int, float, int, int]:
        worse = row.ours - row.theirs if row.outcome == "worse" and row.ours is not None else 0.0
        return OUTCOMES.index(row.outcome), -worse, row.d, row.K

    return sorted(rows, key=place)
