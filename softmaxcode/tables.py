"""Margin against Tammes distance, one row a (K, d), as a pandas DataFrame."""

from __future__ import annotations

import csv
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from softmaxcode.checks import check_callable, check_progress
from softmaxcode.code import NotComputed
from softmaxcode.disk import check_output, written_whole
from softmaxcode.journal import Journal, check_pairs
from softmaxcode.progress import Progress
from softmaxcode.solver import SearchOptions, solve_both

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from softmaxcode.code import SoftmaxCode

SUFFIXES = (".csv", ".parquet", ".md", ".tex")

#: The columns, in order, with what each holds.
COLUMNS = {
    "K": "classes",
    "d": "dimension",
    "margin": "rho of the best Softmax Code found",
    "tammes_distance": "smallest chord of the best Tammes code found",
    "one_minus_cosine": "1 - mu of the best Tammes code found",
    "difference": "margin minus one_minus_cosine (0 where the two problems agree)",
    "softmax_rattlers": "classes with a larger one-vs-rest distance than the margin",
    "tammes_rattlers": "points of the Tammes code without contact",
    "contacts": "pairs of the Tammes code at its smallest distance",
    "lower_bound": "rigorous lower bound on rho of the Softmax Code's stored coordinates",
    "status": "of the Softmax Code: optimal, matches Tammes, locally optimal or feasible",
    "seconds": "wall-clock time of the row",
    "max_cosine": "mu of the Tammes code",
    "angle_deg": "its smallest angle in degrees",
    "upper_bound": "proved upper bound on 1 - mu* of any K unit vectors in R^d",
}


def _count(code: SoftmaxCode, name: str) -> int | None:
    try:
        return len(getattr(code, name))
    except NotComputed:
        return None


def row(K: int, d: int, **options: Any) -> dict[str, Any]:
    """Solve one pair for both objectives and return its row."""
    begin = time.monotonic()
    codes = solve_both(K, d, **options)
    tammes, softmax = codes["tammes"], codes["softmax"]
    return {
        "K": K,
        "d": d,
        "margin": softmax.margin,
        "tammes_distance": tammes.min_distance,
        "one_minus_cosine": 1 - tammes.max_cosine,
        "difference": softmax.margin - (1 - tammes.max_cosine),
        "softmax_rattlers": _count(softmax, "softmax_rattlers"),
        "tammes_rattlers": _count(tammes, "tammes_rattlers"),
        "contacts": _count(tammes, "contacts"),
        "lower_bound": softmax.certificate.lower_bound,
        "status": softmax.certificate.status,
        "seconds": round(time.monotonic() - begin, 3),
        "max_cosine": tammes.max_cosine,
        "angle_deg": tammes.min_angle,
        "upper_bound": tammes.certificate.upper_bound,
    }


def frame(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Rows as a DataFrame with the table's columns and types."""
    table = pd.DataFrame(list(rows), columns=list(COLUMNS))
    for name in ("K", "d", "softmax_rattlers", "tammes_rattlers", "contacts"):
        table[name] = table[name].astype("Int64")
    return table


def table(
    pairs: Iterable[tuple[int, int]],
    *,
    path: str | Path | None = None,
    on_row: Callable[[dict[str, Any]], None] | None = None,
    progress: bool | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Solve many (K, d) for both objectives and set margin beside Tammes distance.

    Parameters
    ----------
    pairs : iterable of (K, d)
        The rows; a pair given twice is solved once.
    path : path, optional
        Write the table here (``.csv``, ``.parquet``, ``.md`` or ``.tex``), again after every row, each time whole.
        Finished rows are also kept beside it in ``<path>.rows``: a run that was interrupted resumes from there, if
        its options are the same, and loses no finished row. The rows file is removed when the table is complete.
    on_row : callable, optional
        Called with each row as it finishes.
    progress : bool, optional
        Show a bar; by default on a terminal only.
    **options
        Of `softmaxcode.solve`: ``starts``, ``budget``, ``seed``, ``catalog``, ``exact``, ``device``, ``n_jobs``.

    Returns
    -------
    DataFrame
        Columns as in `softmaxcode.tables.COLUMNS`; a count that is too large to derive is missing.

    Raises
    ------
    ValueError
        For a bad pair or option, an unknown suffix or a folder that does not exist.

    Examples
    --------
    >>> import softmaxcode as sc
    >>> sc.table([(4, 2), (6, 3)])[["K", "d", "margin"]].values.tolist()
    [[4, 2, 1.0], [6, 3, 1.0]]
    """
    wanted = check_pairs(pairs)
    target = None if path is None else check_output(path, SUFFIXES)
    if on_row is not None:
        check_callable("on_row", on_row)
    progress = check_progress(progress)
    options = _checked(options)
    notes = None if target is None else rows_file(target)
    journal = Journal(notes, {name: value for name, value in options.items() if name != "n_jobs"})
    with Progress("table", len(wanted), progress) as bar:
        for K, d in wanted:
            if (K, d) not in journal.entries:
                journal.add(row(K, d, progress=False, **options))
                if target is not None:
                    write(frame(journal.entries[p] for p in wanted if p in journal.entries), target)
            if on_row is not None:
                bar.clear()
                on_row(journal.entries[K, d])
            bar.step(1, K=K, d=d, margin=f"{journal.entries[K, d]['margin']:.9f}")
    result = frame(journal.entries[pair] for pair in wanted)
    if target is not None:
        write(result, target)
        journal.remove()
    return result


def _checked(options: dict[str, Any]) -> dict[str, Any]:
    """The options of the search as plain data, on which alone rows depend."""
    for name in options:
        if name not in SearchOptions._fields:
            raise ValueError(
                f"{name} is not an option of a table: these are {', '.join(SearchOptions._fields)}; softmaxcode.solve "
                "takes the options of one (K, d)"
            )
    return SearchOptions.checked(**options)._asdict()


def rows_file(path: Path) -> Path:
    """Where the finished rows of an unfinished table are kept."""
    return path.with_name(path.name + ".rows")


def write(data: pd.DataFrame, path: str | Path) -> None:
    """Write a table as ``.csv``, ``.parquet``, ``.md`` or ``.tex``, whole or not at all; floats keep every digit.

    Raises
    ------
    ValueError
        For another suffix, a folder that does not exist, or parquet without pyarrow installed.
    """
    path = check_output(path, SUFFIXES)
    suffix = path.suffix.lower()
    with written_whole(path) as temporary:
        if suffix == ".parquet":
            try:
                data.to_parquet(temporary, index=False)
            except ImportError:
                raise ValueError("writing parquet needs pyarrow: pip install 'softmaxcode[parquet]'") from None
        elif suffix == ".csv":
            data.to_csv(temporary, index=False, quoting=csv.QUOTE_MINIMAL)
        elif suffix == ".md":
            temporary.write_text(markdown(data))
        else:
            _cells(data).to_latex(temporary, index=False, escape=True, column_format="r" * len(data.columns))


def _cells(data: pd.DataFrame) -> pd.DataFrame:
    """The table as text: floats to 14 places, small differences and seconds shorter."""

    def cell(name: str, value: Any) -> str:
        if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
            return "not computed"
        if name == "difference":
            return f"{value:.1e}"
        if name == "seconds":
            return f"{value:.2f}"
        return f"{value:.14f}" if isinstance(value, float) else str(value)

    return pd.DataFrame({name: [cell(str(name), value) for value in data[name]] for name in data.columns}, dtype=object)


def markdown(data: pd.DataFrame) -> str:
    """The table as aligned GitHub markdown, floats to 14 places."""
    return f"{_cells(data).to_markdown(index=False, disable_numparse=True, stralign='right')}\n"
