"""A row of the table from what is stored: no search and no certificate; coordinates are read only of exact codes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from softmaxcode import exact
from softmaxcode.bounds.best import margin_bounds, max_cosine_lower_bound
from softmaxcode.bounds.rounding import one_minus_above
from softmaxcode.catalog.entry import IMPROVEMENT
from softmaxcode.certificates.certificate import match_tolerance
from softmaxcode.certificates.rigorous import exact_bounds
from softmaxcode.checks.arguments import OBJECTIVES
from softmaxcode.sphere import angle_degrees

if TYPE_CHECKING:
    from softmaxcode.catalog import Catalog, Entry
    from softmaxcode.exact import ExactCode

#: The margin of an exact code that the catalogue does not store is computed up to this K K d, in milliseconds.
MAX_WORK = 10**7
#: The status of a code that the catalogue does not store, and of a pair without a code.
CONSTRUCTION_ONLY, NOT_STORED = "construction only", "not stored"


def stored_row(K: int, d: int, catalog: Catalog | None) -> dict[str, Any]:
    """The row of one pair, from the catalogue's values or an exact code where that is better.

    The upper bounds omit Delsarte's linear programme, which takes seconds.

    Parameters
    ----------
    K, d : int
        The pair, validated.
    catalog : Catalog or None
        From `softmaxcode.catalog.installed`.

    Returns
    -------
    dict
        With the columns of `STORED_COLUMNS`; floats are nan where nothing is known.
    """
    entries = {name: None if catalog is None else catalog.entry(K, d, name) for name in OBJECTIVES}
    found = _values(K, d, entries)
    least_cosine = max_cosine_lower_bound(K, d, lp=False).value
    mu = found["max_cosine"]
    return {
        "K": K,
        "d": d,
        **found,
        "one_minus_cosine": 1 - mu,
        "tammes_distance": math.sqrt(2 - 2 * mu) if mu <= 1 else math.nan,
        "angle_deg": angle_degrees(mu) if mu <= 1 else math.nan,
        "difference": found["margin"] - (1 - mu),
        "margin_upper_bound": margin_bounds(K, d, lp=False).upper,
        "one_minus_cosine_upper_bound": one_minus_above(least_cosine) if least_cosine < 1 else 0.0,
    }


def _values(K: int, d: int, entries: dict[str, Entry | None]) -> dict[str, Any]:
    """Margin, largest cosine, lower bound, status and origin of the best stored codes."""
    softmax, tammes = entries["softmax"], entries["tammes"]
    # nothing is better than a packing that is proved optimal
    optimal = tammes is not None and softmax is not None and tammes.verified and tammes.status == "optimal"
    known = None if optimal else exact.best(K, d)
    if softmax is None or (known is not None and 1 - known.max_cosine > softmax.lower_bound + IMPROVEMENT):
        margin = _exact_values(known, max_cosine_lower_bound(K, d, lp=False).value)
    else:
        made_by = softmax.construction or softmax.provenance.method
        margin = {
            "margin": softmax.margin,
            "margin_lower_bound": softmax.lower_bound,
            "status": softmax.status if softmax.verified else f"claims {softmax.status}",
            "made_by": made_by,
        }
    cosines = [entry.max_cosine for entry in (tammes,) if entry is not None]
    cosines += [known.max_cosine] if known is not None else []
    return margin | {"max_cosine": min(cosines, default=math.nan)}


def _exact_values(known: ExactCode | None, least_cosine: float) -> dict[str, Any]:
    """The margin side of an exact code: rho >= 1 - mu (docs/theory.md, T2), and its margin where that is quick.

    An optimal packing has rho = 1 - mu, so its status is known without the margin.
    """
    if known is None:
        return {"margin": math.nan, "margin_lower_bound": math.nan, "status": NOT_STORED, "made_by": ""}
    tight = known.max_cosine <= least_cosine + match_tolerance(1 - known.max_cosine)
    small = len(known.W) * known.W.size <= MAX_WORK
    margin = known.margin if known.margin is not None else known.code().margin if small else math.nan
    return {
        "margin": margin,
        "margin_lower_bound": exact_bounds(known.max_cosine, known.W.shape[1], known.margin).margin,
        "status": "optimal" if known.margin is not None else "matches Tammes" if tight else CONSTRUCTION_ONLY,
        "made_by": known.description,
    }
