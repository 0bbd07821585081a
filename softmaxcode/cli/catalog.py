"""``softmaxcode catalog``: list, show, improve, export, import, verify."""

from __future__ import annotations

import csv
import json
import sys
from contextlib import closing
from typing import Any, Literal

from softmaxcode import sweep
from softmaxcode.catalog import (
    Catalog,
    Entry,
    UnknownCodeError,
    best_known,
    import_codes,
    installed,
    shipped_path,
    transfer,
    user_catalog,
    verification,
)
from softmaxcode.checks.arguments import Objective, printable
from softmaxcode.cli.arguments import chosen_output, chosen_pairs, needed_pairs, resumable
from softmaxcode.cli.options import Force, Output, takes
from softmaxcode.code import load
from softmaxcode.report import print_and_save
from softmaxcode.solver import solve
from softmaxcode.storage.disk import check_input
from softmaxcode.storage.files import WRITABLE

Format = Literal["text", "csv", "json"]
#: What `catalog list` writes of each entry as CSV or JSON.
FIELDS = (
    *("K", "d", "objective", "margin", "max_cosine", "lower_bound", "status", "construction", "method"),
    *("seed", "starts", "hops", "search_seconds", "version", "sha256"),
)


@takes(which=(chosen_pairs,))
def list_entries(which, *, objective: Objective | None = None, format: Format = "text") -> int:
    """Print what is stored, one line per entry.

    Classes or dimensions may be given alone.

    Parameters
    ----------
    objective : {"softmax", "tammes"}
        Only the entries of this one.
    format : {"text", "csv", "json"}
        Lines to read, or every value of the entries as CSV or as one JSON array.
    """
    with installed() as stored:
        entries = [] if stored is None else stored.entries()
    pairs, grid = which.pop("pairs", ()), which

    def wanted(K: int, d: int) -> bool:
        inside = K in grid.get("classes", (K,)) and d in grid.get("dims", (d,))
        return (K, d) in pairs or (inside and bool(grid or not pairs))

    chosen = [e for e in entries if wanted(e.K, e.d) and objective in (None, e.objective)]
    if format == "text":
        for e in chosen:
            print(
                f"K={e.K:<6} d={e.d:<4} {e.objective:<8} margin={e.margin:.15f} mu={e.max_cosine:.15f} "
                f"{_status(e):<15} {printable(e.construction or e.provenance.method)}"
            )
        print(f"{len(chosen)} of {len(entries)} entries")
        return 0
    records = [_record(e) for e in chosen]
    if format == "json":
        print(json.dumps(records, indent=1))
        return 0
    writer = csv.DictWriter(sys.stdout, FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return 0


def _status(entry: Entry) -> str:
    """The status of an entry; `catalog verify` derives one that its file only claims."""
    return entry.status if entry.verified else f"claims {entry.status}"


def _record(entry: Entry) -> dict[str, Any]:
    """The fields of an entry, JSON-serialisable; floats keep every digit."""
    made = entry.provenance
    values = {
        **{name: getattr(entry, name) for name in FIELDS if hasattr(entry, name)},
        "status": _status(entry),
        **{name: getattr(made, name) for name in ("method", "seed", "starts", "hops", "version")},
        "search_seconds": made.seconds,
    }
    return {name: printable(values[name]) if isinstance(values[name], str) else values[name] for name in FIELDS}


@takes(options=(best_known, "K", "d", "objective"))
def show(K, d, /, options, *, output: Output = None, force: Force = False) -> int:
    """Print every value of one code, without any search.

    Parameters
    ----------
    output : str
        Write the code: .npz, .csv, or .txt as pack.d.K.txt.
    """
    path = chosen_output(output, force, WRITABLE)
    try:
        code = best_known(K, d, **options)
    except UnknownCodeError as error:
        print(error)
        return 1
    print_and_save(code, path)
    return 0


@takes(which=(chosen_pairs,), search=(solve, "starts", "budget", "seed"), workers=(sweep.sweep, "n_jobs", "scheduler"))
def improve(which, search, workers, *, catalog: str | None = None) -> int:
    """Search many (K, d), and keep what is better than what is stored.

    Parameters
    ----------
    catalog : str
        The file to improve (default: yours, in the user's data folder).
    """
    pairs = needed_pairs(**which)
    with closing(Catalog(catalog) if catalog else user_catalog()) as target, resumable("finished pairs are kept"):
        report = sweep.sweep(pairs, catalog=target, **search, **workers)
        for line in str(report).splitlines():
            print(printable(line))
        print(f"{'catalogue':<21} {printable(target.path)}")
    return 1 if report.failed else 0


@takes(which=(chosen_pairs,))
def export(file: str, /, which, *, force: Force = False) -> int:
    """Write what is stored into a new catalogue file.

    Parameters
    ----------
    file : str
        The file to write.
    """
    count = transfer.export(file, chosen_pairs(**which) or None, replace=force)
    print(f"{count} entries written to {printable(file)}")
    return 0


@takes(options=(load, "dim"))
def import_file(file: str, /, options, *, catalog: str | None = None) -> int:
    """Improve by another catalogue or code file, verifying every code.

    Parameters
    ----------
    file : str
        .sqlite, or a code as .npz, .npy, .txt or .csv.
    catalog : str
        The file to improve (default: yours, in the user's data folder).
    """
    check_input(file)  # before a catalogue is made
    with closing(Catalog(catalog) if catalog else user_catalog()) as target:
        report = import_codes(file, target, lambda line: print(printable(line)), **options)
    print(f"{len(report.entered)} entered, {report.not_better} not better, {len(report.refused)} refused")
    return 1 if report.refused else 0


@takes(options=(verification.verify, "n_jobs"))
def verify(file: str | None = None, /, *, options) -> int:
    """Derive the certificate of every entry again.

    Parameters
    ----------
    file : str
        The catalogue (default: the one that ships with the package).
    """
    path = file or shipped_path()
    results = verification.verify(path, **options)
    wrong = [result for result in results if result.problem]
    for result in wrong:
        print(printable(f"WRONG: {result.entry.name}: {result.problem}"))
    print(
        f"{len(results) - len(wrong)} of {len(results)} certificates of {printable(path)} were derived again and hold"
    )
    return 1 if wrong else 0
