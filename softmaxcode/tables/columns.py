"""The columns of the table: their names, their meaning and how LaTeX writes them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pandas as pd

from softmaxcode.checks.arguments import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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
    "margin_lower_bound": "rigorous lower bound on rho of the Softmax Code's stored coordinates",
    "status": "of the Softmax Code: optimal, matches Tammes, locally optimal or feasible",
    "seconds": "wall-clock time of the row",
    "max_cosine": "mu of the Tammes code",
    "angle_deg": "its smallest angle in degrees",
    "margin_upper_bound": "proved upper bound on rho*, the margin of any K unit vectors in R^d",
    "one_minus_cosine_upper_bound": "proved upper bound on 1 - mu* of any K unit vectors in R^d",
}
#: Columns that need a code's coordinates, or a search; a table of stored values does not have them.
SEARCHED = ("softmax_rattlers", "tammes_rattlers", "contacts", "seconds")
#: The columns of a table of stored values, and their meaning.
STORED_COLUMNS = {name: text for name, text in COLUMNS.items() if name not in SEARCHED} | {
    "status": "of the Softmax Code, as the catalogue stores it, or as proved; else 'not derived'",
    "evidence": "proved, searched, construction only, or 'not stored' where no code is known",
    "made_by": "the construction or the search that the Softmax Code comes from",
}
#: The names of columns in LaTeX.
LATEX = {
    "K": "$K$",
    "d": "$d$",
    "margin": r"$\rho$",
    "tammes_distance": r"$\min_{i\neq j}\|w_i-w_j\|$",
    "one_minus_cosine": r"$1-\mu$",
    "difference": r"$\rho-(1-\mu)$",
    "softmax_rattlers": "Softmax rattlers",
    "tammes_rattlers": "Tammes rattlers",
    "contacts": "contacts",
    "margin_lower_bound": r"$\rho\geq$",
    "status": "status",
    "seconds": "s",
    "max_cosine": r"$\mu$",
    "angle_deg": r"$\theta_{\min}$ ($^\circ$)",
    "margin_upper_bound": r"$\rho^*\leq$",
    "one_minus_cosine_upper_bound": r"$1-\mu^*\leq$",
    "evidence": "evidence",
    "made_by": "made by",
}
COUNTS = ("K", "d", "softmax_rattlers", "tammes_rattlers", "contacts")


def frame(rows: Iterable[dict[str, Any]], columns: Iterable[str] = COLUMNS) -> pd.DataFrame:
    """Rows as a DataFrame with the table's columns and types."""
    names = list(columns)
    table = pd.DataFrame(list(rows), columns=names)
    for name in names:
        if name in COUNTS:
            table[name] = table[name].astype("Int64")
    return table


def check_columns(columns: Sequence[str] | None, known: Iterable[str]) -> list[str]:
    """The columns that the user chose, K and d first where they are not among them; None chooses all.

    Raises
    ------
    ValueError
        For a column that is not known, or one given twice.
    """
    known = list(known)
    if columns is None:
        return known
    if isinstance(columns, str) or not all(isinstance(name, str) for name in columns):
        raise ValueError(f"columns must be a list of names; got {shown(columns)}")
    chosen = [name for name in ("K", "d") if name not in columns] + list(columns)
    for name in chosen:
        if name not in known:
            missing = " (a table of stored values does not have it)" if name in COLUMNS else ""
            raise ValueError(f"columns must be among {', '.join(known)}; got {shown(name)}{missing}")
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"columns must not be given twice; got {shown(list(columns))}")
    return chosen


def check_float_format(float_format: str | None) -> str | None:
    """A format of Python for numbers, such as ``.6f``; a leading % is dropped.

    Raises
    ------
    ValueError
        If it is no format of at most 99 places.
    """
    if float_format is None:
        return None
    if not isinstance(float_format, str) or not re.fullmatch(r"%?[-+ ]?,?(\.\d{1,2})?[eEfFgG]", float_format):
        raise ValueError(f"float_format must be a format of numbers such as .6f or .3e; got {shown(float_format)}")
    return float_format.removeprefix("%")
