"""``softmaxcode solve`` and ``softmaxcode table``: one code, or margin against Tammes distance for many."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

from softmaxcode import solver, tables
from softmaxcode.checks.arguments import printable
from softmaxcode.cli.arguments import chosen_output, chosen_pairs, needed_pairs, resumable
from softmaxcode.cli.options import Force, Output, takes
from softmaxcode.report import print_and_save
from softmaxcode.storage.files import WRITABLE

#: The options that `softmaxcode.solve` and `softmaxcode.table` have in common, without the number of threads.
SEARCH = ("starts", "budget", "seed", "device", "catalog")


@takes(options=(solver.solve, "K", "d", "objective", *SEARCH, "exact", "digits"))
def solve(K, d, /, options, *, output: Output = None, force: Force = False) -> int:
    """Solve one (K, d) and print its measurements.

    Parameters
    ----------
    output : str
        Write the code: .npz, .csv, or .txt as pack.d.K.txt.
    """
    path = chosen_output(output, force, WRITABLE)
    print_and_save(solver.solve(K, d, **options), path)
    return 0


@takes(which=(chosen_pairs,), options=(solver.solve, *SEARCH))
def table(which, options, *, output: Output = None, force: Force = False) -> int:
    """Compare margin and Tammes distance for many (K, d).

    Parameters
    ----------
    output : str
        Write the table: .csv, .parquet, .md or .tex; an unfinished one is continued.
    """
    pairs = needed_pairs(**which)
    path = chosen_output(output, force, tables.SUFFIXES, resumes=lambda path: tables.continues(path, pairs, **options))

    def show(row: dict[str, Any]) -> None:
        print(
            f"K={row['K']:<6} d={row['d']:<4} margin={row['margin']:.12f} 1-mu={row['one_minus_cosine']:.12f} "
            f"{row['status']:<15} {row['seconds']:.2f} s",
            flush=True,
        )

    kept = resumable(f"finished rows are kept beside {path}") if path is not None else contextlib.nullcontext()
    with kept:
        result = tables.table(pairs, path=path, on_row=show, **options)
    print()
    sys.stdout.write(tables.markdown(result.drop(columns=["lower_bound", "upper_bound", "max_cosine"])))
    if path is not None:
        print(f"\nwritten to {printable(path)}")
    return 0
