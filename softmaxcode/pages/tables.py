"""Tables of numbers, and the text that shows them: the same in print, in Markdown and on the page.

A mean with its interval is three columns of numbers, the bounds named as it with `LOWER` and `UPPER`; they are shown as
one.
"""

from __future__ import annotations

import html
import math
import numbers
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from softmaxcode.checks.arguments import printable
from softmaxcode.pages.interval import Interval

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: Digits of a column's largest number where it is shown; the files have all.
DIGITS = 4
#: From these sizes on numbers are written with an exponent.
SMALLEST, LARGEST = 1e-4, 1e6
MISSING = "–"
#: Characters of a cell from which its text is wrapped.
LONG = 60
LOWER, UPPER = ", lower", ", upper"


def as_text(frame: pd.DataFrame) -> pd.DataFrame:
    """A table as it is shown: text in every cell.

    Examples
    --------
    >>> row = {"head": "cmf", "GNC2": 0.5, "GNC2, lower": 0.4, "GNC2, upper": 0.6}
    >>> as_text(pd.DataFrame([row, {"head": "code", "GNC2": 0.45}])).values.tolist()
    [['cmf', '0.50 ± 0.10'], ['code', '0.45']]
    """
    shown = _composed(flat(frame))
    texts = {}
    for name in shown:
        text = _formatter(shown[name])
        texts[name] = [text(x) for x in shown[name]]
    return pd.DataFrame(texts)


def as_html(frame: pd.DataFrame, id: str, label: str) -> str:
    """A table as HTML, escaped; numbers are aligned to the right, and stand in ``<data value>`` in full.

    Parameters
    ----------
    frame : DataFrame
    id : str
        Of the table on its page; it has only letters, digits and hyphens.
    label : str
        The id of the element that names the table.
    """
    shown = _composed(flat(frame))
    numeric = [name for name in shown if _is_numeric(shown[name])]
    styler = Styler(shown, uuid=id, cell_ids=False).hide(axis="index")
    for name in shown:
        cell = partial(_number_cell if name in numeric else _text_cell, _formatter(shown[name]))
        styler.format(cell, subset=[name])
    styler.format_index(partial(_text_cell, str), axis="columns")
    styler.set_table_styles({name: [{"selector": "", "props": "text-align: right"}] for name in numeric})
    styler.set_td_classes(as_text(frame).map(lambda text: "long" if len(text) > LONG else ""))
    return styler.to_html(table_attributes=f'aria-labelledby="{label}"')


def flat(frame: pd.DataFrame) -> pd.DataFrame:
    """A table with an index that means something as columns, and text as the name of every column, each once."""
    if not isinstance(frame.index, pd.RangeIndex) or frame.index.name is not None:
        frame = frame.reset_index(allow_duplicates=True)
    names = [
        " · ".join(str(part) for part in name if part != "") if isinstance(name, tuple) else str(name)
        for name in frame.columns
    ]
    return frame.set_axis(distinct(names), axis=1)


def storable(frame: pd.DataFrame) -> pd.DataFrame:
    """A table with text for objects of other kinds, such as paths, and for columns that mix kinds."""

    def column(values: pd.Series) -> pd.Series:
        if pd.api.types.infer_dtype(values, skipna=True) not in ("mixed", "mixed-integer"):
            return values
        return values.map(str, na_action="ignore")

    return pd.DataFrame({name: column(frame[name]) for name in frame})


def distinct(names: Iterable[str]) -> list[str]:
    """The names, numbered from the second on where they repeat."""
    out: list[str] = []
    for name in names:
        number, unlike = 1, name
        while unlike in out:
            number += 1
            unlike = f"{name}-{number}"
        out.append(unlike)
    return out


def _composed(frame: pd.DataFrame) -> pd.DataFrame:
    """A flat table with an `Interval` in every cell of a mean, in place of the columns of its bounds."""
    names = list(map(str, frame))
    means = [name for name in names if {name + LOWER, name + UPPER} <= {*names}]
    means = [name for name in means if all(_is_numeric(frame[name + bound]) for bound in ("", LOWER, UPPER))]
    out = frame.drop(columns=[name + bound for name in means for bound in (LOWER, UPPER)])
    for name in means:
        bounds = zip(*(map(_float, frame[column]) for column in (name, name + LOWER, name + UPPER)), strict=True)
        cells: list[Any] = [Interval(mean, lower, upper, n=0) for mean, lower, upper in bounds]
        out[name] = pd.Series(cells, frame.index, dtype=object)
    return out


def _float(x: Any) -> float:
    return math.nan if pd.isna(x) else float(x)


def _value(x: Any) -> float | None:
    """The number that a cell sorts by; None for text, for what is missing, and for what is not finite."""
    x = x.mean if isinstance(x, Interval) else x
    return float(x) if _is_number(x) and math.isfinite(x) else None


def _is_number(x: Any) -> bool:
    return isinstance(x, numbers.Real) and not _is_truth(x)


def _is_truth(x: Any) -> bool:
    return isinstance(x, (bool, np.bool_))


def _is_missing(x: Any) -> bool:
    x = x.mean if isinstance(x, Interval) else x
    return pd.api.types.is_scalar(x) and bool(pd.isna(x) or x == "")


def _is_numeric(values: pd.Series) -> bool:
    """Whether a column has numbers or intervals alone, and at least one."""
    present = [x for x in values if not _is_missing(x)]
    return bool(present) and all(isinstance(x, Interval) or _is_number(x) for x in present)


def _number_cell(text: Callable[[Any], str], x: Any) -> str:
    value = _value(x)
    return _text_cell(text, x) if value is None else f'<data value="{value!r}">{_text_cell(text, x)}</data>'


def _text_cell(text: Callable[[Any], str], x: Any) -> str:
    return html.escape(printable(text(x)))


def _formatter(values: pd.Series) -> Callable[[Any], str]:
    """How the cells of a column are shown."""
    floats = [float(x) for x in values if _is_number(x) and not isinstance(x, numbers.Integral) and math.isfinite(x)]
    return partial(_text, _decimals(floats))


def _text(decimals: int, x: Any) -> str:
    if _is_missing(x):
        return MISSING
    if isinstance(x, Interval):
        return x.text
    if _is_truth(x):
        return "yes" if x else "no"
    if not _is_number(x) or isinstance(x, numbers.Integral) or not math.isfinite(x):
        return str(x)
    if _is_plain(float(x)):
        return f"{x:z.{decimals}f}"
    return f"{x:.{DIGITS - 1}e}"


def _is_plain(x: float) -> bool:
    return x == 0 or SMALLEST <= abs(x) < LARGEST


def _decimals(values: list[float]) -> int:
    """Decimals that show ``DIGITS`` digits of the largest plain number of a column and 2 of the smallest.

    Zeros that all numbers end in are left out.
    """
    plain = [abs(x) for x in values if x and _is_plain(x)]
    if not plain:
        return 0
    last = max(DIGITS - 1 - math.floor(math.log10(max(plain))), 1 - math.floor(math.log10(min(plain))), 0)
    return max(len(f"{x:.{last}f}".rstrip("0").partition(".")[2]) for x in plain)
