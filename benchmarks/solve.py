"""Run the benchmarks: ``python -m benchmarks.solve [--quick] [--write docs/benchmarks.md]``.

Prints a line as each measurement finishes, then the tables as Markdown. The figure of the cost goes to ``images/``
beside the page. The table of budgets has a page of its own, ``large-k.md`` beside that page.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import baselines, budgets, cost, exact_margins, main_table, ours, routes
from benchmarks.report import Page, made, write
from benchmarks.targets import select
from softmaxcode.cli.options import parse_pair

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

TABLES = ("solve", "cost", "routes", "margins", "budgets")
PAGE = Page("docs/benchmarks.md", ("machine", "search", "counts", "subgradient", "cost", "routes", "margins"))
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
    parser.add_argument("--pairs", nargs="+", type=parse_pair, metavar="K,d", help="rows of the table of budgets (all)")
    parser.add_argument("--seeds", nargs="+", type=int, help="seeds (0; 0 1 2 for budgets); baselines run on the first")
    parser.add_argument(
        "--budget", type=float, help="seconds where the target is a margin (45), and of every row of budgets (its own)"
    )
    parser.add_argument(
        "--baselines", choices=("some", "all", "none"), default="some", help="rows they run on; none omits Adam too"
    )
    parser.add_argument("--device", help="PyTorch device of the searches of the table of budgets, such as cuda")
    parser.add_argument("--steps", type=int, help=f"steps of the subgradient method ({baselines.STEPS})")
    parser.add_argument("--no-torch", action="store_true", help="leave out the subgradient method in PyTorch (minutes)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="also write each table as CSV, rows as they finish")
    PAGE.add_option(parser)
    chosen = parser.parse_args(arguments)
    if chosen.quick and chosen.rows is None:
        chosen.rows = QUICK_ROWS
    chosen.seconds = _budget_options(chosen)
    chosen.seeds = chosen.seeds or [0]
    try:
        chosen.rows = select(chosen.rows)
        budgets.rows_of(chosen.seconds)
        if chosen.write is not None and "budgets" in chosen.tables:
            budgets.PAGE.check(_budget_page(chosen.write))
    except ValueError as error:
        parser.error(str(error))
    return chosen


def _budget_options(chosen: argparse.Namespace) -> budgets.Options:
    """The options of the table of budgets from the command line."""
    pairs = None if chosen.pairs is None else tuple(chosen.pairs)
    seeds = budgets.SEEDS if chosen.seeds is None else tuple(chosen.seeds)
    if not chosen.quick:
        return budgets.Options(pairs, seeds, chosen.baselines != "none", chosen.budget, device=chosen.device)
    quick = budgets.QUICK_SECONDS if chosen.budget is None else chosen.budget
    return budgets.Options(
        pairs or budgets.QUICK_PAIRS,
        seeds[:1],
        chosen.baselines != "none",
        quick,
        budgets.QUICK_GROWING_K,
        chosen.device,
    )


def _budget_page(page: Path) -> Path:
    """The page of the table of budgets, beside the page of the other tables."""
    return page.with_name(Path(budgets.PAGE.path).name)


def _options(chosen: argparse.Namespace) -> main_table.Options:
    """The options of the main table from the command line."""
    budget = chosen.budget if chosen.budget is not None else QUICK_BUDGET if chosen.quick else 45.0
    steps = chosen.steps if chosen.steps is not None else QUICK_STEPS if chosen.quick else baselines.STEPS
    return main_table.Options(tuple(chosen.seeds), budget, steps, chosen.baselines, not chosen.no_torch)


def _search(chosen: argparse.Namespace) -> dict[str, pd.DataFrame]:
    """The main table and the comparison of implementations."""
    options = _options(chosen)

    def finished(rows: list[main_table.Row]) -> None:
        if chosen.out is not None:
            write(chosen.out / "search.csv", main_table.table(rows).to_csv(index=False))

    rows = main_table.measure(chosen.rows, options, finished)
    comparisons = main_table.compare(rows, options)
    tables = {"search": main_table.table(rows), "counts": main_table.counts(rows)}
    return tables | ({"subgradient": main_table.comparison_table(comparisons)} if comparisons else {})


def _tables(chosen: argparse.Namespace, name: str) -> dict[str, pd.DataFrame]:
    """Measure one of `TABLES`."""
    seed = chosen.seeds[0]
    if name == "solve":
        return _search(chosen)
    if name == "cost":
        figure = None if chosen.write is None else chosen.write.parent / "images" / "cost.png"
        return {name: cost.run(chosen.quick, seed, figure)}
    return {name: {"routes": routes, "margins": exact_margins}[name].run(chosen.quick, seed)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the requested tables, print and write them."""
    chosen = parse(arguments)
    described = made("python -m benchmarks.solve" + (" --quick" if chosen.quick else ""))  # before we load it ourselves
    print(described, flush=True)
    if chosen.tables != ["budgets"]:  # its processes load compiled code themselves
        print("warming up", flush=True)
        ours.warm_up()
        baselines.warm_up()
    tables: dict[str, pd.DataFrame] = {}
    for name in TABLES:
        if name in chosen.tables and name != "budgets":
            tables |= _tables(chosen, name)
    within = budgets.run(chosen.seconds) if "budgets" in chosen.tables else {}
    if chosen.out is not None:
        for name, table in {**tables, **within}.items():
            write(chosen.out / f"{name}.csv", table.to_csv(index=False))
    if tables:
        PAGE.publish({"machine": described, **tables}, chosen.write)
    if within:
        page = None if chosen.write is None else _budget_page(chosen.write)
        budgets.PAGE.publish({**within, "budget_machine": described}, page)


if __name__ == "__main__":
    main()
