"""The margin lost to the temperature: measure, and write the parts of a page."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.report import Page, run_plan
from benchmarks.temperature import tables
from benchmarks.temperature.cases import FULL, QUICK
from benchmarks.temperature.figure import draw
from benchmarks.temperature.runs import MeasuredCase, simulate

if TYPE_CHECKING:
    import pandas as pd

    from benchmarks.temperature.cases import Plan

PAGE = Page(
    "docs/temperature.md",
    (
        *("runs", "needed", "deficit", "rate", "found", "constants"),
        *("crossing", "certificate", "duality", "rattlers", "unequal", "made"),
    ),
)


def parts(plan: Plan, figure: Path | None) -> dict[str, pd.DataFrame]:
    """Run the plan and draw."""
    begin = time.perf_counter()
    measured = []
    for case in (*plan.cases, *plan.rattling):
        measured.append(MeasuredCase(case, simulate(case, plan.temperatures)))
        print(f"{case}: {time.perf_counter() - begin:.0f} s", file=sys.stderr, flush=True)
    main, rattling = measured[: len(plan.cases)], measured[len(plan.cases) :]
    if figure is not None:
        draw(main, figure)
    return {
        "runs": tables.plan_table(plan),
        "needed": tables.needed_table(main),
        "deficit": tables.by_temperature(main, "deficit / τ"),
        "rate": tables.by_temperature(main, "slope"),
        "found": tables.by_temperature(main, "found"),
        "constants": tables.constants_table(main),
        "crossing": tables.crossing_table(main),
        "certificate": tables.certificate_table(main),
        "duality": tables.duality_table(measured, plan.temperatures),
        "rattlers": tables.rattling_table(rattling),
        "unequal": tables.unequal_table(plan.unequal, measured[0].case.steps),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the parts of the page and write them."""
    run_plan("temperature", PAGE, __doc__, parts, FULL, QUICK, arguments)
