"""Run the benchmarks: ``python -m benchmarks.solve [--quick] [--write docs/benchmarks.md]``.

Prints a line as each measurement finishes, then the tables as Markdown.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import baselines, cost, exact_margins, main_table, ours, routes
from benchmarks.report import Section, machine, write, write_around_parts
from benchmarks.targets import select
from softmaxcode.cli.options import parse_pair

if TYPE_CHECKING:
    from collections.abc import Sequence

TABLES = ("solve", "cost", "routes", "margins")
FIGURE = Path("docs/images/cost.png")
#: Steps of the subgradient method and seconds of search in a quick run, and its rows.
QUICK_STEPS = 2000
QUICK_BUDGET = 3.0
QUICK_ROWS = [(12, 3), (24, 3), (16, 5), (14, 3), (100, 10)]


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.solve", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few rows and short baselines: a minute or two")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES), help="which tables to make")
    parser.add_argument("--rows", nargs="+", type=parse_pair, metavar="K,d", help="rows of the main table (all)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="seeds; the baselines run on the first")
    parser.add_argument("--budget", type=float, help="seconds of search where the target is a margin (45)")
    parser.add_argument("--baselines", choices=("some", "all", "none"), default="some", help="rows they run on")
    parser.add_argument("--steps", type=int, help=f"steps of the subgradient method ({baselines.STEPS})")
    parser.add_argument("--no-torch", action="store_true", help="leave out the subgradient method in PyTorch (minutes)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="also write each table as CSV, rows as they finish")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the document, for example docs/benchmarks.md")
    parser.add_argument("--figure", type=Path, help=f"where to draw the cost ({FIGURE} with --write, else nowhere)")
    chosen = parser.parse_args(arguments)
    if chosen.write is not None and chosen.figure is None:
        chosen.figure = chosen.write.parent / "images" / FIGURE.name
    if chosen.quick and chosen.rows is None:
        chosen.rows = QUICK_ROWS
    try:
        chosen.rows = select(chosen.rows)
    except ValueError as error:
        parser.error(str(error))
    return chosen


def _options(chosen: argparse.Namespace) -> main_table.Options:
    """What the command line means for the main table."""
    budget = chosen.budget if chosen.budget is not None else QUICK_BUDGET if chosen.quick else 45.0
    steps = chosen.steps if chosen.steps is not None else QUICK_STEPS if chosen.quick else baselines.STEPS
    return main_table.Options(tuple(chosen.seeds), budget, steps, chosen.baselines, not chosen.no_torch)


def _main_sections(chosen: argparse.Namespace) -> list[Section]:
    options = _options(chosen)

    def finished(rows: list[main_table.Row]) -> None:
        if chosen.out is not None:
            write(chosen.out / "solve.csv", main_table.table(rows).to_csv(index=False))

    rows = main_table.measure(chosen.rows, options, finished)
    sections = [main_table.section(rows, options)]
    comparisons = main_table.compare(rows, options)
    if comparisons:
        sections.append(main_table.comparison_section(comparisons, options))
    return sections


def _sections(chosen: argparse.Namespace, table: str) -> list[Section]:
    """Measure one of `TABLES`."""
    seed = chosen.seeds[0]
    if table == "solve":
        return _main_sections(chosen)
    if table == "cost":
        near = (chosen.write or Path("docs/benchmarks.md")).parent
        link = None if chosen.figure is None else Path(os.path.relpath(chosen.figure, near)).as_posix()
        return [cost.section(chosen.quick, seed, chosen.figure, link)]
    if table == "routes":
        return [routes.section(chosen.quick, seed)]
    return [exact_margins.section(chosen.quick, seed)]


def document(sections: Sequence[Section], described: str, quick: bool) -> str:
    """The whole document."""
    command = "python -m benchmarks.solve" + (" --quick" if quick else "")
    head = f"# Benchmarks\n\nMade by `{command} --write docs/benchmarks.md` on\n\n{described}\n"
    return "\n".join([head, *(section.markdown() for section in sections)])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for, print it and write it."""
    chosen = parse(arguments)
    described = machine()  # before we load it ourselves
    print(described + "\nwarming up", flush=True)
    ours.warm_up()
    baselines.warm_up()
    sections: list[Section] = []
    for table in TABLES:
        if table not in chosen.tables:
            continue
        made = _sections(chosen, table)
        sections += made
        for section in made:
            if chosen.out is not None:
                name = section.heading.lower().replace(",", "").replace(" ", "-")
                write(chosen.out / f"{name}.md", section.markdown())
                write(chosen.out / f"{name}.csv", section.table.to_csv(index=False))
    text = document(sections, described, chosen.quick)
    print("\n" + text)
    if chosen.write is not None:
        write_around_parts(chosen.write, text)


if __name__ == "__main__":
    main()
