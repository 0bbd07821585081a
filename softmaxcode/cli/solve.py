"""``softmaxcode solve``, ``table`` and ``bounds``: one code, many pairs (K, d), and what no code can exceed."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

from softmaxcode import solver, tables
from softmaxcode.bounds.best import margin_bounds, max_cosine_lower_bound
from softmaxcode.bounds.rounding import one_minus_above
from softmaxcode.checks.arguments import printable
from softmaxcode.cli.arguments import Resumable, chosen_output, chosen_pairs, needed_pairs, resumable
from softmaxcode.cli.options import Force, Output, takes
from softmaxcode.report import print_and_save
from softmaxcode.search.interrupted import SearchInterrupted
from softmaxcode.storage.files import WRITABLE

if TYPE_CHECKING:
    from pathlib import Path

#: The options that `softmaxcode.solve` and `softmaxcode.table` have in common, without the number of threads.
SEARCH = ("starts", "budget", "seed", "device", "catalog")
#: Columns that the command writes to files and prints only on request.
NOT_PRINTED = ["margin_lower_bound", "margin_upper_bound", "one_minus_cosine_upper_bound", "max_cosine"]


@takes(options=(solver.solve, "K", "d", "objective", *SEARCH, "exact", "digits"))
def solve(K, d, /, options, *, output: Output = None, force: Force = False) -> int:
    """Solve one (K, d) and print its measurements.

    Parameters
    ----------
    output : str
        Write the code: .npz, .csv, or .txt as pack.d.K.txt.
    """
    path = chosen_output(output, force, WRITABLE)
    try:
        code = solver.solve(K, d, **options)
    except SearchInterrupted as stopped:
        found = f"interrupted; 1 - mu of the best code so far is {stopped.value:.9f}"
        if path is None:
            raise Resumable(f"{found}, and --output would keep it") from None
        stopped.code.save(path)
        raise Resumable(f"{found}; written to {printable(path)}") from None
    print_and_save(code, path)
    return 0


@takes(
    which=(chosen_pairs,),
    options=(solver.solve, *SEARCH),
    layout=(tables.table, "stored", "columns", "float_format"),
)
def table(which, options, layout, *, output: Output = None, force: Force = False) -> int:
    """Compare margin and Tammes distance for many (K, d).

    Parameters
    ----------
    output : str
        Write the table: .csv, .parquet, .md or .tex; an unfinished one is continued.
    """
    pairs = needed_pairs(**which)
    stored = layout.get("stored", False)

    def resumes(path: Path) -> bool:
        return not stored and tables.continues(path, pairs, **options)

    path = chosen_output(output, force, tables.SUFFIXES, resumes=resumes)
    kept = resumable(f"finished rows are kept beside {path}") if path is not None else contextlib.nullcontext()
    with kept:
        result = tables.table(pairs, path=path, on_row=None if stored else _print_row, **layout, **options)
    if not stored:
        print()
    shown = result if "columns" in layout else result.drop(columns=NOT_PRINTED, errors="ignore")
    sys.stdout.write(tables.markdown(shown, layout.get("float_format")))
    if path is not None:
        print(f"\nwritten to {printable(path)}")
    return 0


def _print_row(row: dict[str, Any]) -> None:
    print(
        f"K={row['K']:<6} d={row['d']:<4} margin={row['margin']:.12f} 1-mu={row['one_minus_cosine']:.12f} "
        f"{row['status']:<15} {row['seconds']:.2f} s",
        flush=True,
    )


@takes(options=(margin_bounds, "K", "d", "lp"))
def bounds(K, d, /, options) -> int:
    """Print proved bounds on the largest margin and on 1 - mu of K unit vectors in R^d.

    No code can exceed the upper bounds. Some code reaches the lower ones.
    """
    margin, mu = margin_bounds(K, d, **options), max_cosine_lower_bound(K, d, **options)
    # every method of the lower end bounds 1 - mu*, and the margin through it (docs/theory.md, T2)
    lower_method = mu.method if mu.exact else margin.lower_method
    upper = one_minus_above(mu.value) if mu.value < 1 else 0.0
    lines = {
        "margin rho*": (margin.lower, margin.lower_method, margin.upper, margin.upper_method),
        "1 - mu*": (margin.lower, lower_method, upper, mu.method),
    }
    for name, (least, how, most, why) in lines.items():
        print(f"{name:<21} at least {least:.16g} ({how}), at most {most:.16g} ({why})")
    print(f"{'max cosine mu*':<21} at least {mu.value:.16g} ({printable(mu.source)})")
    return 0
