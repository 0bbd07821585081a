"""A row of the table from what is stored: no search, no certificate and no coordinates."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from softmaxcode import exact
from softmaxcode.bounds.best import margin_bounds, max_cosine_lower_bound
from softmaxcode.bounds.rounding import one_minus_above
from softmaxcode.catalog.closure import Filled, FromFamily, FromFile, FromForm, Joined, Row
from softmaxcode.certificates.rigorous import exact_bounds
from softmaxcode.sphere import angle_degrees
from softmaxcode.storage.provenance import Evidence

if TYPE_CHECKING:
    from softmaxcode.catalog import Entry, Found, Known

#: The evidence of a pair without a code, and the status of a code that no catalogue has a status of.
NOT_STORED, NOT_DERIVED = "not stored", "not derived"
#: An entry of the pair is the code that was looked up if its bound is this close to the value.
SAME_CODE = 1e-12


def stored_row(K: int, d: int, found: Found) -> dict[str, Any]:
    """The row of one pair.

    The upper bounds omit Delsarte's linear programme, which takes seconds.

    Parameters
    ----------
    K, d : int
        The pair, validated.
    found : Found
        From `softmaxcode.catalog.look_up_pairs`.

    Returns
    -------
    dict
        With the columns of `STORED_COLUMNS`; floats are nan where nothing is known.
    """
    softmax, tammes = found.known["softmax"], found.known["tammes"]
    packing = _entry_of(tammes, found.entries["tammes"])
    mu = packing.max_cosine if packing is not None else math.nan if tammes is None else 1 - tammes.value
    margin = _margin_side(softmax, _entry_of(softmax, found.entries["softmax"]))
    least_cosine = max_cosine_lower_bound(K, d, lp=False).value
    return {
        "K": K,
        "d": d,
        **margin,
        "max_cosine": mu,
        "one_minus_cosine": 1 - mu,
        "tammes_distance": math.sqrt(2 - 2 * mu) if mu <= 1 else math.nan,
        "angle_deg": angle_degrees(mu) if mu <= 1 else math.nan,
        "difference": margin["margin"] - (1 - mu),
        "margin_upper_bound": margin_bounds(K, d, lp=False).upper,
        "one_minus_cosine_upper_bound": 0.0 if least_cosine >= 1 else one_minus_above(least_cosine),
    }


def _entry_of(found: Known | None, entry: Entry | None) -> Entry | None:
    """The pair's own entry, if it is the code that was looked up."""
    return entry if found is not None and entry is not None and entry.lower_bound >= found.value - SAME_CODE else None


def _margin_side(found: Known | None, entry: Entry | None) -> dict[str, Any]:
    """Margin, lower bound, status, evidence and origin of the best Softmax Code."""
    if found is None:
        nothing = {"margin": math.nan, "margin_lower_bound": math.nan, "status": NOT_DERIVED}
        return nothing | {"evidence": NOT_STORED, "made_by": ""}
    if entry is not None:
        return {
            "margin": entry.margin,
            "margin_lower_bound": entry.lower_bound,
            "status": entry.status if entry.verified else f"claims {entry.status}",
            "evidence": str(found.evidence),
            "made_by": entry.construction or entry.provenance.method,
        }
    closed = _closed(found)
    proved = "optimal" if closed is not None else "matches Tammes"
    return {
        "margin": found.value,
        "margin_lower_bound": math.nan if closed is None else exact_bounds(*closed).margin,
        "status": proved if found.evidence is Evidence.PROVED else NOT_DERIVED,
        "evidence": str(found.evidence),
        "made_by": _origin(found),
    }


def _closed(found: Known) -> tuple[float, int, float] | None:
    """The largest cosine, the dimension and the margin of a closed form; None for other codes."""
    if not isinstance(found.recipe, Row) or not isinstance(found.recipe.source, FromForm):
        return None
    source = found.recipe.source
    form = exact.closed_form(source.K, source.d)
    assert form is not None
    return form.max_cosine, source.d, form.margin


def _origin(found: Known) -> str:
    """How a code is made that is not an entry of its own pair."""
    match found.recipe:
        case Row(source=FromForm(K, d)):
            form = exact.closed_form(K, d)
            return "" if form is None else form.name
        case Row(source=FromFamily(part)):
            return part.construction.name
        case Row(K, d, source=FromFile()):
            return f"derived from ({K}, {d})"
        case Joined(rows=rows):
            return "derived from " + ", ".join(f"({row.K}, {row.d})" for row in rows)
        case Filled(row=row):
            return f"derived from ({row.K}, {row.d})"
    return ""
