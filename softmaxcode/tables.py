"""Margin against Tammes distance as a pandas DataFrame, one row per (K, d)."""

from __future__ import annotations

import base64
import csv
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from softmaxcode.checks.arguments import OBJECTIVES, check_callable, check_progress
from softmaxcode.checks.limits import NotComputed
from softmaxcode.code import SoftmaxCode
from softmaxcode.parallel.progress import Progress
from softmaxcode.solver import SearchOptions, solve_both
from softmaxcode.storage.disk import MAX_TEXT_BYTES, check_input, check_output, one_writer, written_whole
from softmaxcode.storage.journal import Journal, Noted, check_pairs, noted
from softmaxcode.storage.provenance import Provenance
from softmaxcode.storage.records import NonNegative

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SUFFIXES = (".csv", ".parquet", ".md", ".tex")
#: The most cells that `read_table` accepts.
MAX_CELLS = 2 * 10**7

#: The columns in order, and their meaning.
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


class Finished(Noted):
    """The journal's entry of a finished row: the coordinates of both codes, from which the row is derived again."""

    seconds: NonNegative
    softmax: str
    tammes: str


def solved(K: int, d: int, **options: Any) -> tuple[dict[str, SoftmaxCode], float]:
    """Solve one pair for both objectives: the codes, and the seconds taken, certificates included."""
    begin = time.monotonic()
    codes = solve_both(K, d, **options)
    for code in codes.values():
        _ = code.certificate
    return codes, round(time.monotonic() - begin, 3)


def row(codes: dict[str, SoftmaxCode], seconds: float) -> dict[str, Any]:
    """The row of a pair, derived from its two codes."""
    tammes, softmax = codes["tammes"], codes["softmax"]
    return {
        "K": softmax.K,
        "d": softmax.d,
        "margin": softmax.margin,
        "tammes_distance": tammes.min_distance,
        "one_minus_cosine": 1 - tammes.max_cosine,
        "difference": softmax.margin - (1 - tammes.max_cosine),
        "softmax_rattlers": _count(softmax, "softmax_rattlers"),
        "tammes_rattlers": _count(tammes, "tammes_rattlers"),
        "contacts": _count(tammes, "contacts"),
        "lower_bound": softmax.certificate.lower_bound,
        "status": softmax.certificate.status,
        "seconds": seconds,
        "max_cosine": tammes.max_cosine,
        "angle_deg": tammes.min_angle,
        "upper_bound": tammes.certificate.upper_bound,
    }


def _noted(codes: dict[str, SoftmaxCode], seconds: float) -> dict[str, Any]:
    """The entry of a journal: little-endian float64 coordinates, row by row, in base 64."""
    text = {name: base64.b64encode(codes[name].W.astype("<f8").tobytes()).decode() for name in OBJECTIVES}
    return {"K": codes["softmax"].K, "d": codes["softmax"].d, "seconds": seconds, **text}


def _derived(entry: dict[str, Any] | None) -> dict[str, Any] | None:
    """The row of a journal entry, derived from its coordinates; None where they are not valid codes."""
    if entry is None:
        return None
    try:
        codes = {
            name: SoftmaxCode(
                np.frombuffer(base64.b64decode(entry[name], validate=True), "<f8").reshape(entry["K"], entry["d"]),
                name,
                Provenance("read from a journal"),
            )
            for name in OBJECTIVES
        }
    except ValueError:
        return None
    return row(codes, entry["seconds"])


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
    """Solve many (K, d) for both objectives and compare margin with Tammes distance.

    Parameters
    ----------
    pairs : iterable of (K, d)
        The rows; a pair given twice is solved once.
    path : path, optional
        Write the table here (``.csv``, ``.parquet``, ``.md`` or ``.tex``), again after every row, each time atomically.
        An existing file is replaced.
        Until the table is complete, the codes of finished rows are kept in ``<path>.rows``. An interrupted run with
        the same options resumes from them and solves the other rows. If the options differ, the rows file is
        discarded.
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
        For a bad pair or option, an unknown suffix, or a folder that does not exist. Also if another process is
        writing the table, or ``<path>.rows`` is not a rows file; that file is left unchanged.

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
    with one_writer(target):
        return _resumed(wanted, target, on_row, progress, options)


def _resumed(
    wanted: list[tuple[int, int]],
    target: Path | None,
    on_row: Callable[[dict[str, Any]], None] | None,
    progress: bool | None,
    options: dict[str, Any],
) -> pd.DataFrame:
    """`table` for validated arguments: rows that are in the journal are derived again, the others solved."""
    notes = None if target is None else rows_file(target)
    journal = Journal(notes, _lasting(options), Finished)
    rows: list[dict[str, Any]] = []
    with Progress("table", len(wanted), progress) as bar:
        for K, d in wanted:
            found = _derived(journal.entries.get((K, d)))
            if found is not None:
                rows.append(found)
            else:
                codes, seconds = solved(K, d, progress=False, **options)
                found = row(codes, seconds)
                rows.append(found)
                journal.add(_noted(codes, seconds))
                if target is not None:
                    write(frame(rows), target)
            if on_row is not None:
                bar.clear()
                on_row(found)
            bar.step(1, K=K, d=d, margin=f"{found['margin']:.9f}")
    result = frame(rows)
    if target is not None:
        write(result, target)
        journal.remove()
    return result


def _checked(options: dict[str, Any]) -> dict[str, Any]:
    """The validated options of the search, JSON-serialisable; rows depend on nothing else."""
    for name in options:
        if name not in SearchOptions._fields:
            raise ValueError(
                f"{name} is not an option of a table: these are {', '.join(SearchOptions._fields)}; softmaxcode.solve "
                "takes the options of one (K, d)"
            )
    return SearchOptions.checked(**options)._asdict()


def _lasting(options: dict[str, Any]) -> dict[str, Any]:
    """The options on which rows depend: all but the number of threads."""
    return {name: value for name, value in options.items() if name != "n_jobs"}


def rows_file(path: Path) -> Path:
    """The path at which `table` keeps the finished rows of an unfinished table."""
    return path.with_name(path.name + ".rows")


def continues(path: Path, pairs: Iterable[tuple[int, int]], **options: Any) -> bool:
    """Whether `table` with these arguments resumes an unfinished table at ``path``.

    Raises
    ------
    ValueError
        If `table` would discard an unfinished table there: one with other options, or with rows of other pairs.
    """
    notes = rows_file(path)
    if not notes.exists():
        return False
    entries = noted(notes, _lasting(_checked(options)), Finished)
    if entries is None or not entries.keys() <= set(check_pairs(pairs)):
        others = "pairs" if entries else "options"
        raise ValueError(
            f"cannot write {path}: an unfinished table of other {others} is there; name another file with -o, or "
            "discard its finished rows with --force"
        )
    return True


def write(data: pd.DataFrame, path: str | Path) -> None:
    """Write a table atomically as ``.csv``, ``.parquet``, ``.md`` or ``.tex``; floats keep every digit.

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


def read_table(path: str | Path, numbers: Iterable[str] = ()) -> pd.DataFrame:
    """Read a table that `write` wrote.

    Parameters
    ----------
    path : path
        A ``.csv`` or ``.parquet`` file.
    numbers : iterable of str
        Columns that must be there and contain only numbers or missing values.

    Returns
    -------
    DataFrame
        With at least one row.

    Raises
    ------
    ValueError
        If the file is missing, too large, damaged or of another kind. Also if one of these columns is missing or has
        text in it, or pyarrow is needed and not installed.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "t.csv"
    >>> write(pd.DataFrame({"K": [12], "status": ["optimal"]}), file)
    >>> read_table(file, ["K"])["K"].tolist()
    [12]
    """
    path = check_input(path, MAX_TEXT_BYTES)
    suffix = path.suffix.lower()
    if suffix not in (".parquet", ".csv"):
        raise ValueError(f"cannot read {path}: the suffix must be .parquet or .csv")
    try:
        table = pd.read_csv(path) if suffix == ".csv" else _read_parquet(path)
        kinds = {name: table[name].dtype for name in numbers if name in table}
        table = table.astype({name: "boolean" for name in ("meets_bound",) if name in table.columns})
    except ImportError:
        raise ValueError(f"cannot read {path}: parquet needs pyarrow: pip install 'softmaxcode[parquet]'") from None
    except Exception as error:  # pandas and pyarrow raise errors of many kinds for damaged files
        raise ValueError(f"cannot read {path}: it is not a table of its kind, or damaged") from error
    for name in numbers:
        if name not in kinds:
            raise ValueError(f"cannot read {path}: it has no column {name}")
        if not pd.api.types.is_numeric_dtype(kinds[name]):
            raise ValueError(f"cannot read {path}: its column {name} holds something other than numbers")
    if not len(table):
        raise ValueError(f"cannot read {path}: it has no rows")
    return table


def _read_parquet(path: Path) -> pd.DataFrame:
    from pyarrow.parquet import ParquetFile

    with ParquetFile(path) as file:  # check the declared size before reading the data
        cells = file.metadata.num_rows * file.metadata.num_columns
    if cells > MAX_CELLS:
        raise ValueError(f"it declares {cells:,} cells, more than the limit of {MAX_CELLS:,}")
    return pd.read_parquet(path)


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
