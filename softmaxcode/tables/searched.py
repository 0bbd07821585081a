"""The table of many pairs: rows are solved and noted in a journal, or read from what is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from softmaxcode.catalog import look_up_pairs
from softmaxcode.checks.arguments import check_callable, check_flag, check_progress
from softmaxcode.parallel.progress import Progress
from softmaxcode.solver import SearchOptions
from softmaxcode.storage.disk import check_output, one_writer
from softmaxcode.storage.journal import Journal, check_pairs, noted
from softmaxcode.tables.columns import COLUMNS, STORED_COLUMNS, check_columns, check_float_format, frame
from softmaxcode.tables.files import SUFFIXES, write
from softmaxcode.tables.rows import Finished, derived_row, noted_row, row, solved
from softmaxcode.tables.stored import stored_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    import pandas as pd


class _Output:
    """The file of a table, if there is one, and how rows are written there."""

    def __init__(self, path: Path | None, columns: list[str], omitted: tuple[str, ...], float_format: str | None):
        self.path, self.columns, self.omitted, self.float_format = path, columns, omitted, float_format

    def frame(self, rows: list[dict[str, Any]]) -> pd.DataFrame:
        """The rows as a DataFrame, written to the file without the columns that it omits."""
        data = frame(rows, self.columns)
        if self.path is not None:
            kept = data[[name for name in self.columns if name not in self.omitted]]
            write(kept, self.path, float_format=self.float_format)
        return data


def table(
    pairs: Iterable[tuple[int, int]],
    *,
    path: str | Path | None = None,
    on_row: Callable[[dict[str, Any]], None] | None = None,
    progress: bool | None = None,
    stored: bool = False,
    columns: Sequence[str] | None = None,
    float_format: str | None = None,
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
    stored : bool
        Make no search: list the values of the catalogues, of exact codes and of codes that follow from them, with
        upper bounds that need no linear programme. Hundreds of pairs take about a second. Pairs without a code have
        missing values.
    columns : sequence of str, optional
        The columns to return and write, in this order. K and d come first where they are not named. By default all;
        a ``.tex`` file omits the seconds.
    float_format : str, optional
        A format such as ``.6f`` for the floats of a ``.csv``, ``.md`` or ``.tex`` file, except for differences and
        seconds.
    **options
        Of `softmaxcode.solve`: ``starts``, ``budget``, ``seed``, ``catalog``, ``exact``, ``device``, ``n_jobs``.

    Returns
    -------
    DataFrame
        Columns as in `softmaxcode.tables.COLUMNS`, or `STORED_COLUMNS` with ``stored``. A count that is too large to
        derive is missing.

    Raises
    ------
    ValueError
        For a bad pair, option, column or format, an option of the search with ``stored``, an unknown suffix, or a
        folder that does not exist. Also if another process is writing the table, or ``<path>.rows`` is not a rows
        file; that file is left unchanged.

    Examples
    --------
    >>> import softmaxcode as sc
    >>> sc.table([(4, 2), (6, 3)])[["K", "d", "margin"]].values.tolist()
    [[4, 2, 1.0], [6, 3, 1.0]]
    >>> sc.table([(240, 8)], stored=True, columns=["margin", "status"]).values.tolist()
    [[240, 8, 0.5, 'matches Tammes']]
    """
    wanted = check_pairs(pairs)
    target = None if path is None else check_output(path, SUFFIXES)
    if on_row is not None:
        check_callable("on_row", on_row)
    progress = check_progress(progress)
    stored = check_flag("stored", stored)
    chosen = check_columns(columns, STORED_COLUMNS if stored else COLUMNS)
    omitted = ("seconds",) if columns is None and target is not None and target.suffix.lower() == ".tex" else ()
    output = _Output(target, chosen, omitted, check_float_format(float_format))
    if stored and options:
        raise ValueError(f"a table of stored values makes no search and takes none of its options; got {[*options]}")
    checked = {} if stored else _checked(options)
    with one_writer(target):
        return _looked_up(wanted, output, on_row) if stored else _resumed(wanted, output, on_row, progress, checked)


def _looked_up(
    wanted: list[tuple[int, int]], output: _Output, on_row: Callable[[dict[str, Any]], None] | None
) -> pd.DataFrame:
    """`table` of stored values for validated arguments."""
    rows = []
    for (K, d), found in zip(wanted, look_up_pairs(wanted), strict=True):
        rows.append(stored_row(K, d, found))
        if on_row is not None:
            on_row(rows[-1])
    return output.frame(rows)


def _resumed(
    wanted: list[tuple[int, int]],
    output: _Output,
    on_row: Callable[[dict[str, Any]], None] | None,
    progress: bool | None,
    options: dict[str, Any],
) -> pd.DataFrame:
    """`table` for validated arguments: rows that are in the journal are derived again, the others solved."""
    notes = None if output.path is None else rows_file(output.path)
    journal = Journal(notes, _lasting(options), Finished)
    rows: list[dict[str, Any]] = []
    with Progress("table", len(wanted), progress) as bar:
        for K, d in wanted:
            found = derived_row(journal.entries.get((K, d)))
            if found is not None:
                rows.append(found)
            else:
                codes, seconds = solved(K, d, progress=False, **options)
                found = row(codes, seconds)
                rows.append(found)
                journal.add(noted_row(codes, seconds))
                output.frame(rows)
            if on_row is not None:
                bar.clear()
                on_row(found)
            bar.step(1, K=K, d=d, margin=f"{found['margin']:.9f}")
    result = output.frame(rows)
    if output.path is not None:
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
