"""Our packings that beat every published one: ``python -m benchmarks.records [--write docs/records.md]``.

No search is made. Each largest cosine is proved to 50 digits where the contacts determine the packing. With ``--write``
the coordinates go beside the page, in the format of Sloane's tables: pack.d.K.txt, one number per line.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from benchmarks.published import Published, compared, read_published
from benchmarks.report import Page
from softmaxcode.catalog import best_known
from softmaxcode.certificates.proof import NotRegular
from softmaxcode.solver import prove

if TYPE_CHECKING:
    from collections.abc import Sequence

    from softmaxcode.code import SoftmaxCode

PAGE = Page("docs/records.md", ("count", "records"))
DIGITS = 50
#: Digits of the values beside each other.
SHOWN = 13


@dataclass(frozen=True, eq=False)
class Record:
    """A published value, our packing, and its largest cosine as text: proved, or else in float64."""

    published: Published
    code: SoftmaxCode
    value: str
    proved: bool

    @property
    def file(self) -> str:
        """The name of the file of coordinates."""
        return f"pack.{self.code.d}.{self.code.K}.txt"

    def cells(self) -> dict[str, str]:
        """The row of the table."""
        mu, theirs = self.code.max_cosine, self.published.theirs
        return {
            "K": str(self.code.K),
            "d": str(self.code.d),
            "published μ": f"{theirs:.{SHOWN}f}",
            "source": self.published.source,
            "our μ": f"{mu:.{SHOWN}f}",
            "published − ours": f"{theirs - mu:.1e}",
            "digits proved": str(DIGITS) if self.proved else "none: the contacts do not determine the packing",
            "our μ, all digits": self.value,
            "coordinates": f"[{self.file}](records/{self.file})",
        }


def record(row: Published) -> Record:
    """Our packing of a pair, with its largest cosine proved where that can be done."""
    code = best_known(row.K, row.d, objective="tammes")
    try:
        return Record(row, code, prove(code, DIGITS).value, True)
    except NotRegular:
        return Record(row, code, repr(code.max_cosine), False)


def records(rows: Sequence[Published]) -> list[Record]:
    """The pairs where ours is better than the published value by more than its tolerance."""
    return [record(row) for row in sorted(rows, key=lambda row: (row.d, row.K)) if row.outcome == "better"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the page's parts, or write them and the files of coordinates."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.records", description=(__doc__ or "").splitlines()[0])
    PAGE.add_option(parser)
    page: Path | None = parser.parse_args(arguments).write
    found = records([compared(row) for row in read_published()])
    count = f"- {len(found)} of our packings are better than the published ones, {sum(r.proved for r in found)} proved."
    if page is not None:
        folder = page.with_suffix("")
        folder.mkdir(exist_ok=True)
        for one in found:
            one.code.save(folder / one.file)
    PAGE.publish({"count": count, "records": pd.DataFrame([one.cells() for one in found])}, page)


if __name__ == "__main__":
    main()
