"""The experiments as a page: ``python -m benchmarks.experiments [--results FOLDER] [--write docs/experiments.md]``.

What the studies found in a results folder becomes the part ``findings`` of the page; the rest of it stays as it is.
The figures go beside it, as ``images/<name of the page>-<study>-<number>.png``. ``make experiments-full`` trains
the runs.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.report import Page, aligned, machine
from experiments.report import found_sections
from softmaxcode.pages import ReportSection, effort
from softmaxcode.pages.tables import as_text
from softmaxcode.plotting.style import save

if TYPE_CHECKING:
    from collections.abc import Sequence

PAGE = Page("docs/experiments.md", ("findings",))
#: Longer tables are left to the HTML report.
MAX_ROWS = 45
DPI = 110


def markdown(section: ReportSection, images: Path | None, stem: str) -> str:
    """A section as Markdown; its figures are written to the folder, if there is one."""
    found = section.findings
    parts = [f"## {section.title}", f"{section.question} ({effort(section)}; `python -m experiments {section.name}`)"]
    parts.append("\n".join(f"- {statement}" for statement in found.statements))
    for number, (caption, figure) in enumerate(found.figures.items(), start=1):
        name = f"{stem}-{section.name}-{number}.png"
        if images is not None:
            save(figure, images / name, DPI)
        parts.append(f"![{caption}](images/{name})")
    for caption, table in found.tables.items():
        if len(table) > MAX_ROWS:
            parts.append(f"{caption}: {len(table)} rows, in the HTML report.")
        else:
            parts += [f"**{caption}**", aligned(as_text(table))]
    return "\n\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what was found, or write it into the page."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.experiments", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--results", type=Path, default=Path("out", "experiments"), help="results folder")
    PAGE.add_option(parser)
    chosen = parser.parse_args(arguments)
    page = chosen.write or Path("experiments.md")
    images = page.parent / "images" if chosen.write else None
    sections = [markdown(section, images, page.stem) for section in found_sections(chosen.results)]
    text = "\n\n".join([*sections, "## The machine", machine()])
    PAGE.publish({"findings": text}, chosen.write)


if __name__ == "__main__":
    main()
