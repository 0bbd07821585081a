"""Margin against Tammes distance as a pandas DataFrame, one row per (K, d)."""

from softmaxcode.tables.columns import COLUMNS, STORED_COLUMNS, frame
from softmaxcode.tables.files import MAX_CELLS, SUFFIXES, latex, markdown, read_table, write
from softmaxcode.tables.rows import Finished, row, solved
from softmaxcode.tables.searched import continues, rows_file, table
from softmaxcode.tables.stored import stored_row

__all__ = [
    "COLUMNS",
    "MAX_CELLS",
    "STORED_COLUMNS",
    "SUFFIXES",
    "Finished",
    "continues",
    "frame",
    "latex",
    "markdown",
    "read_table",
    "row",
    "rows_file",
    "solved",
    "stored_row",
    "table",
    "write",
]
