"""Tables on disk and as text: CSV, parquet, Markdown and LaTeX."""

from __future__ import annotations

import csv
import math
import re
from typing import TYPE_CHECKING, Any

import pandas as pd

from softmaxcode.storage.disk import MAX_TEXT_BYTES, check_input, check_output, written_whole
from softmaxcode.tables.columns import LATEX, check_float_format

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

SUFFIXES = (".csv", ".parquet", ".md", ".tex")
#: The most cells that `read_table` accepts.
MAX_CELLS = 2 * 10**7
#: Columns that are written in their own format: small numbers, and times.
OWN_FORMAT = {"difference": ".1e", "seconds": ".2f"}
#: What LaTeX must not read as commands.
ESCAPED = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{one: f"\\{one}" for one in "&%$#_{}"},
}


def write(data: pd.DataFrame, path: str | Path, *, float_format: str | None = None) -> None:
    """Write a table atomically as ``.csv``, ``.parquet``, ``.md`` or ``.tex``.

    Parameters
    ----------
    data : DataFrame
        The table.
    path : path
        An existing file is replaced.
    float_format : str, optional
        A format of Python such as ``.6f`` for floats, except for differences and seconds. By default a ``.csv`` keeps
        every digit, and text has 14 places. A ``.parquet`` file always keeps every digit.

    Raises
    ------
    ValueError
        For another suffix, a folder that does not exist, parquet without pyarrow installed, or a bad format.
    """
    path = check_output(path, SUFFIXES)
    spec = check_float_format(float_format)
    suffix = path.suffix.lower()
    with written_whole(path) as temporary:
        if suffix == ".parquet":
            try:
                data.to_parquet(temporary, index=False)
            except ImportError:
                raise ValueError("writing parquet needs pyarrow: pip install 'softmaxcode[parquet]'") from None
        elif suffix == ".csv":
            rounded = data if spec is None else _text(data, spec, missing="")
            rounded.to_csv(temporary, index=False, quoting=csv.QUOTE_MINIMAL)
        else:
            temporary.write_text((markdown if suffix == ".md" else latex)(data, spec))


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
    >>> from pathlib import Path
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


def _text(data: pd.DataFrame, spec: str | None, missing: str) -> pd.DataFrame:
    """The table as text: floats in a format, by default with 14 places; differences and seconds in their own."""

    def cell(name: str, value: Any) -> str:
        if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
            return missing
        if name in OWN_FORMAT:
            return format(value, OWN_FORMAT[name])
        return format(value, spec or ".14f") if isinstance(value, float) else str(value)

    return pd.DataFrame({name: [cell(str(name), value) for value in data[name]] for name in data.columns}, dtype=object)


def markdown(data: pd.DataFrame, float_format: str | None = None) -> str:
    """The table as aligned GitHub markdown, floats to 14 places unless a format such as ``.6f`` is given."""
    cells = _text(data, check_float_format(float_format), "not computed")
    return f"{cells.to_markdown(index=False, disable_numparse=True, stralign='right')}\n"


def latex(data: pd.DataFrame, float_format: str | None = None) -> str:
    r"""The table as a LaTeX ``tabular`` with the rules of booktabs, its columns named in mathematics.

    Examples
    --------
    >>> print(latex(pd.DataFrame({"K": [12], "margin": [0.5527864045]}), ".4f"))
    % needs \usepackage{booktabs}
    \begin{tabular}{rr}
    \toprule
    $K$ & $\rho$ \\
    \midrule
    12 & 0.5528 \\
    \bottomrule
    \end{tabular}
    <BLANKLINE>
    """
    numbers = [pd.api.types.is_numeric_dtype(data[name]) for name in data.columns]
    cells = _text(data, check_float_format(float_format), "--").map(_latex_cell)
    cells.columns = pd.Index([LATEX.get(str(name), _escaped(str(name))) for name in data.columns])
    alignment = "".join("r" if number else "l" for number in numbers)
    text = cells.to_latex(index=False, escape=False, column_format=alignment)
    return f"% needs \\usepackage{{booktabs}}\n{text}"


def _latex_cell(text: str) -> str:
    """A cell for LaTeX: powers of ten and minus signs in mathematics, text escaped."""
    if re.fullmatch(r"-?0\.0+e\+00", text):
        return "0"
    power = re.fullmatch(r"(-?[\d.]+)e([+-]\d+)", text)
    if power is not None:
        return rf"${power[1]} \times 10^{{{int(power[2])}}}$"
    return f"${text}$" if re.fullmatch(r"-[\d.]+", text) else _escaped(text)


def _escaped(text: str) -> str:
    return "".join(ESCAPED.get(one, one) for one in text)
