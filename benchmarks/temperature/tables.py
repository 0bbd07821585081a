"""Tables of the deficit, of bounds, constants, certificates and self-duality."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from benchmarks.report import ABSENT
from benchmarks.temperature.figure import FRACTIONS
from benchmarks.temperature.runs import ROUNDING, SAME_MARGIN, beyond_rounding, seeds_at
from softmaxcode.certificates.loss import minimizer_margin
from softmaxcode.margins.exact import margins
from ufm.run import Run

if TYPE_CHECKING:
    from benchmarks.temperature.cases import Plan, Unequal
    from benchmarks.temperature.runs import MeasuredCase


#: A class is a rattler if its one-vs-rest distance exceeds the smallest by more temperatures than this.
RATTLING = 5


def needed(deficits: pd.Series, allowed: float) -> float:
    """The largest temperature below which every deficit is at most ``allowed``, interpolated in logarithms.

    Parameters
    ----------
    deficits : Series
        Deficits by temperature, in any order.
    allowed : float
        The largest deficit allowed, above 0.

    Returns
    -------
    float
        0 if even the smallest temperature is too large, inf if every one is small enough.

    Examples
    --------
    >>> needed(pd.Series({0.1: 0.04, 0.01: 0.004}), 0.02).round(6)
    np.float64(0.05)
    """
    ordered = deficits.sort_index()
    above = np.flatnonzero(ordered.to_numpy() > allowed)
    if not len(above):
        return math.inf
    i = int(above[0])
    if i == 0:
        return 0.0
    x = np.log(ordered.index.to_numpy(dtype=float)[i - 1 : i + 1])
    y = np.log(np.maximum(ordered.to_numpy()[i - 1 : i + 1], ROUNDING))
    return np.exp(np.interp(math.log(allowed), y, x))


def needed_by_bound(K: int, margin: float, fraction: float) -> float:
    """The largest temperature at which T6 (c) guarantees this fraction of the margin."""
    low, high = math.log(1e-9), math.log(10.0)
    return math.exp(brentq(lambda x: minimizer_margin(K, margin, math.exp(x)) - fraction * margin, low, high))


# Tables


def _number(value: float, digits: int = 3) -> str:
    """A number to some digits."""
    return ABSENT if math.isnan(value) else f"{value:.{digits}g}"


def _temperature(value: float, measured: MeasuredCase) -> str:
    """A temperature, or its bound."""
    if value == 0:
        return f"< {min(measured.lowest):g}"
    return f"> {max(measured.lowest):g}" if value == math.inf else f"{value:.2g}"


def plan_table(plan: Plan) -> pd.DataFrame:
    """One row for each way in which random starts are made: where the temperature begins, seeds and steps."""
    groups: dict[tuple[tuple[float, ...], int, int], list[str]] = {}
    for case in (*plan.cases, *plan.rattling):
        groups.setdefault((case.starts, case.seeds, case.steps), []).append(str(case))
    return pd.DataFrame(
        {
            "(K, d)": ", ".join(pairs),
            "first τ": ", ".join(f"{start:g}" for start in starts),
            "seeds for each": str(seeds),
            "steps at most": f"{steps:,}",
        }
        for (starts, seeds, steps), pairs in groups.items()
    )


def needed_table(measured: Sequence[MeasuredCase]) -> pd.DataFrame:
    """Temperatures that suffice for a fraction of the best margin: measured, by T10 and by T6 (c)."""
    rows = []
    for each in measured:
        row = {"(K, d)": str(each.case), "ρ*": f"{each.optimum:.6f}"}
        for fraction in FRACTIONS:
            allowed, c = (1 - fraction) * each.optimum, each.constants.margin
            row[f"{fraction:.1%}: measured"] = _temperature(needed(each.deficits, allowed), each)
            row[f"{fraction:.1%}: T10"] = f"{allowed / c:.2g}" if c > SAME_MARGIN else "any"
            row[f"{fraction:.1%}: T6 (c)"] = f"{needed_by_bound(each.case.K, each.optimum, fraction):.2g}"
        rows.append(row)
    return pd.DataFrame(rows)


def by_temperature(measured: Sequence[MeasuredCase], shown: str) -> pd.DataFrame:
    """One row per case, one column per temperature: "deficit / τ", "slope" of log deficit, or "found" with counts."""
    rows = []
    for each in measured:
        deficits, taus = each.deficits, list(each.lowest)
        row = {"(K, d)": str(each.case)}
        if shown == "slope":
            lost = deficits.to_numpy()
            slopes = np.diff(np.log(np.where(lost > 0, lost, math.nan))) / np.diff(np.log(taus))
            row |= {f"{b:g} – {a:g}": _number(s) for a, b, s in zip(taus, taus[1:], slopes, strict=False)}
        else:
            row |= {f"{tau:g}": each.hits(tau) if shown == "found" else _number(deficits[tau] / tau) for tau in taus}
        if shown == "deficit / τ":
            row |= {"c (T10)": f"{each.constants.margin:.4f}"}
        rows.append(row)
    return pd.DataFrame(rows).fillna(ABSENT)


def constants_table(measured: Sequence[MeasuredCase]) -> pd.DataFrame:
    """At the smallest temperature: measured deficit, T10 and T6 (c), for the best known code and for the run's own."""
    rows = []
    for each in measured:
        tau, run = min(each.lowest.items())
        own = each.limit_constants
        deficit = beyond_rounding(each.limit.margin - run.margin)
        c, bound = own.margin, each.bound(tau)
        slope = ABSENT
        if deficit and each.finds_best and len(each.deficits) > 2:
            last = each.deficits.sort_index().iloc[:3]
            slope = f"{np.polyfit(np.log(last.index.to_numpy(dtype=float)), np.log(last.to_numpy()), 1)[0]:.4f}"
        rows.append(
            {
                "(K, d)": str(each.case),
                "limit / ρ*": f"{each.limit.margin / each.optimum:.9f}",
                "c": f"{c:.4f}",
                "deficit / τ": _number(deficit / tau, 4),
                "deficit − cτ": f"{deficit - c * tau:.1e}",
                "rate": slope,
                "T6 (c) / τ": f"{bound / tau:.2f}",
                "T6 (c) / measured": _number(bound / deficit) if deficit else ABSENT,
                "T10 / measured": f"{c * tau / deficit:.4f}" if deficit else ABSENT,
                "next gap": f"{own.next_gap:.1e}",
                "rigidity": own.rigidity,
            }
        )
    return pd.DataFrame(rows)


def crossing_table(measured: Sequence[MeasuredCase]) -> pd.DataFrame:
    """Local codes of less entropy than the best known: the temperature above which they have the lower loss."""
    rows = []
    for each in measured:
        best = each.constants
        for code, own in each.limits:
            if not (code.margin < best.optimum - SAME_MARGIN and own.loss < best.loss):
                continue
            crossing = (best.optimum - code.margin) / (best.loss - own.loss)
            rows.append(
                {
                    "(K, d)": str(each.case),
                    "margin / ρ*": f"{code.margin / best.optimum:.6f}",
                    "c": f"{own.margin:.4f}",
                    "Ent(λ)": f"{own.loss:.4f}",
                    "of the best": f"{best.loss:.4f}",
                    "lower loss above τ": f"{crossing:.2g}",
                }
            )
    return pd.DataFrame(rows)


def certificate_table(measured: Sequence[MeasuredCase]) -> pd.DataFrame:
    """The gap from the certificate of T6 (b) to the margin, in temperatures."""
    rows = []
    for each in measured:
        tau, run = min(each.lowest.items())
        certified = float(run.final.certified_margin)
        entropy, K = each.limit_constants.loss, each.case.K
        rows.append(
            {
                "(K, d)": str(each.case),
                "(limit − certified) / τ": f"{(each.limit.margin - certified) / tau:.4f}",
                "Ent(λ)": f"{entropy:.4f}",
                "log(K (K − 1))": f"{math.log(K * (K - 1)):.2f}",
                "(limit − ρ(W)) / τ": _number(beyond_rounding(each.limit.margin - run.margin) / tau),
                **{f"τ that certifies {q:.1%}": f"{(1 - q) * each.optimum / entropy:.2g}" for q in FRACTIONS},
            }
        )
    return pd.DataFrame(rows)


def duality_table(measured: Sequence[MeasuredCase], temperatures: Sequence[float]) -> pd.DataFrame:
    """GNC3 and the distance of features from the projections, of the runs of lowest loss."""
    rows = []
    for each in measured:
        row = {"(K, d)": str(each.case)}
        for tau in temperatures:
            run = each.lowest[tau]
            row[f"{tau:g}"] = f"{abs(run.final.GNC3):.0e} / {abs(run.projection_distance):.0e}"
        rows.append(row)
    return pd.DataFrame(rows)


class Apart(NamedTuple):
    """Largest 1 − cosine over some classes: of feature and classifier, and of feature and projection direction."""

    classes: int
    duality: float
    projection: float


def stressed_and_rattling(run: Run) -> tuple[Apart, Apart]:
    """How far apart they are for the classes of smallest margin, and for the others; n = 1."""
    found = margins(run.W)
    H = run.H.reshape(-1, run.settings.d)
    rattling = found.margins > found.margins.min() + RATTLING * run.settings.temperature
    duality, projection = (np.abs(1 - (other * H).sum(axis=1)) for other in (run.W, found.H))
    stressed, rest = (
        Apart(int(mask.sum()), duality[mask].max(initial=0), projection[mask].max(initial=0))
        for mask in (~rattling, rattling)
    )
    return stressed, rest


def rattling_table(measured: Sequence[MeasuredCase]) -> pd.DataFrame:
    """The features of stressed and rattling classes as the temperature falls."""
    rows = []
    for each in measured:
        for tau, run in each.lowest.items():
            stressed, rattling = stressed_and_rattling(run)
            row = {"(K, d)": str(each.case), "τ": f"{tau:g}", "rattling classes": str(rattling.classes)}
            for name, apart in (("stressed", stressed), ("rattling", rattling)):
                known = apart.classes > 0
                row[f"{name}: from w"] = f"{apart.duality:.0e}" if known else ABSENT
                row[f"{name}: from projection"] = f"{apart.projection:.0e}" if known else ABSENT
            rows.append(row)
    return pd.DataFrame(rows)


def unequal_table(cases: Sequence[Unequal], steps: int) -> pd.DataFrame:
    """Duality where classes have different numbers of features."""
    rows = []
    for case in cases:
        for run in seeds_at(case.K, case.d, case.n, case.temperatures, 2, steps, None):
            tau = run.settings.temperature
            rows.append(
                {
                    "(K, d)": f"({case.K}, {case.d})",
                    "n": ", ".join(map(str, case.n)),
                    "τ": f"{tau:g}",
                    "seed": str(run.settings.seed),
                    "GNC1": f"{abs(run.final.GNC1):.0e}",
                    "GNC3": f"{abs(run.final.GNC3):.1e}",
                    "GNC3 / τ²": f"{abs(run.final.GNC3) / tau**2:.2f}",
                    "from projections": f"{abs(run.projection_distance):.1e}",
                    "the same / τ²": f"{abs(run.projection_distance) / tau**2:.3f}",
                }
            )
    return pd.DataFrame(rows)
