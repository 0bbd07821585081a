"""The certificate of a code, proved and numerical values, derived from its coordinates alone."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from softmaxcode.bounds.best import margin_bounds, max_cosine_lower_bound
from softmaxcode.bounds.bound import Bound
from softmaxcode.bounds.rounding import one_minus_above
from softmaxcode.certificates.rigorous import RigorousBounds, exact_bounds, rigorous_bounds
from softmaxcode.checks.limits import MAX_ALL_MARGINS, MAX_CONTACT_CLASSES
from softmaxcode.contacts.stress import MAX_STRESS_UNKNOWNS, balance, rigidity
from softmaxcode.contacts.system import hardmax_system, tammes_system
from softmaxcode.parallel.threads import one_blas_thread
from softmaxcode.parallel.tiles import row_tiles

if TYPE_CHECKING:
    from collections.abc import Callable

    from softmaxcode.certificates.rigorous import RigorousBounds
    from softmaxcode.code import SoftmaxCode
    from softmaxcode.contacts.stress import Stress
    from softmaxcode.contacts.system import ContactSystem
    from softmaxcode.types import Rows

#: Contacts count as equal within this, or ten times the residual where that is larger.
CONTACT_THRESHOLD = 1e-9
#: The largest threshold tried: a code whose contacts differ by more is not near a local optimum.
LARGEST_THRESHOLD = 1e-4
#: A code is flagged as ambiguous if its next pair is nearer than this many thresholds.
CLEAR_GAP = 100
#: First-order conditions count as met if the residual is at most this.
RESIDUAL_TOLERANCE = 1e-10
#: A proved value counts as met if the rigorous value of float64 coordinates differs from it by at most this.
MATCH_TOLERANCE = 1e-12
#: The status of rows that are not known to be a local optimum.
FEASIBLE = "feasible"


def match_tolerance(value: float) -> float:
    """The tolerance for a value: relative where it is small, never below the resolution of float64 cosines."""
    return min(MATCH_TOLERANCE, 1e-9 * value + 2.0**-49)


@dataclass(frozen=True)
class Certificate:
    """Values that certify a code; all are derived again from the coordinates.

    Attributes
    ----------
    objective : {"softmax", "tammes"}
        The objective that the status refers to.
    status : {"optimal", "matches Tammes", "locally optimal", "feasible"}
        Tammes: ``optimal`` where 1 - mu meets a proved bound (to 1e-12, or relatively 1e-9 plus 2e-15 where that is
        less). Softmax: ``optimal`` only where a closed form proves it; ``matches Tammes`` where rho = 1 - mu of a code
        proved optimal for Tammes. (Whether the two problems agree is open question 1 of Jiang et al.) Otherwise
        ``locally optimal`` (residual at most 1e-10, and rigid to first or second order) or ``feasible``.
    margin_lower_bound : float
        Rigorous lower bound on the margin of the stored float64 coordinates, with rows scaled exactly to unit norm.
    one_minus_cosine_lower_bound : float
        Rigorous lower bound on 1 - mu of the same rows.
    arithmetic : str
        The method of the lower bounds. It is "ball arithmetic", or "a-priori rounding bound" where too many pairs
        decide. It is "exact construction" for a large code of an exact family, whose pairs are not evaluated. The bound
        then follows from theorems on the family and from its rounding.
    upper_bound : float
        Proved upper bound on the objective of *any* K unit vectors in R^d: on rho*, or on 1 - mu*.
    upper_bound_method : str
        The source of the upper bound.
    residual : float or None
        The violation of the first-order conditions (docs/theory.md, T4 or T5) at the stresses found. It is the larger
        of the norm of the unbalanced forces and the complementarity. Where the conditions are violated, the best
        stresses may have a smaller one. None where not computed.
    rigidity : {"infinitesimal", "second order", "none", "not computed"}
        See `softmaxcode.contacts.stress.rigidity`.
    threshold : float
        Decides contacts and rattlers: max(1e-9, 10 residual), at most 1e-4.
    next_gap : float or None
        Distance from being a contact of the nearest pair that is not one; inf if there is none. None where the code
        has too many classes to list its contacts (`SoftmaxCode.contacts`).
    ambiguous : bool
        True where ``next_gap`` is under 100 thresholds: contacts and rattlers may be miscounted.
    """

    objective: str
    status: str
    margin_lower_bound: float
    one_minus_cosine_lower_bound: float
    arithmetic: str
    upper_bound: float
    upper_bound_method: str
    residual: float | None
    rigidity: str
    threshold: float
    next_gap: float | None
    ambiguous: bool

    @property
    def lower_bound(self) -> float:
        """The rigorous lower bound on the objective: rho for Softmax Codes, 1 - mu for Tammes codes."""
        return self.margin_lower_bound if self.objective == "softmax" else self.one_minus_cosine_lower_bound

    @property
    def rigid(self) -> bool | None:
        """Whether the code is infinitesimally rigid; None where not computed."""
        return None if self.rigidity == "not computed" else self.rigidity == "infinitesimal"


@dataclass(frozen=True, eq=False)
class _Stationarity:
    residual: float | None
    threshold: float
    rigidity: str


def _first_order(system_at: Callable[[float], ContactSystem], X: Rows) -> _Stationarity:
    """The smallest threshold t, from 1e-9 up, whose contacts are balanced to t / 10, and the rigidity they give.

    ``system_at(t)`` returns the contacts within t.
    """
    N, d = X.shape
    if d < 2 or N * (d - 1) > MAX_STRESS_UNKNOWNS:
        return _Stationarity(None, CONTACT_THRESHOLD, "not computed")

    @functools.cache
    def balanced(t: float) -> tuple[ContactSystem, Stress]:
        system = system_at(t)
        return system, balance(system, X)

    threshold = CONTACT_THRESHOLD
    while True:
        system, stress = balanced(threshold)
        if 10 * stress.residual <= threshold or threshold >= LARGEST_THRESHOLD:
            break
        threshold = min(LARGEST_THRESHOLD, max(10 * threshold, 10 * min(stress.residual, 1e-5)))
        # a subset of contacts is balanced no better: the imbalance of all of them rules out smaller thresholds too
        if 10 * balanced(LARGEST_THRESHOLD)[1].unbalanced > LARGEST_THRESHOLD:
            threshold = LARGEST_THRESHOLD
    rigid = rigidity(system, X, stress) if stress.residual <= RESIDUAL_TOLERANCE else "none"
    return _Stationarity(stress.residual, threshold, rigid)


def _tammes_first_order(W: Rows) -> _Stationarity:
    return _first_order(lambda t: tammes_system(W, t), W)


def _softmax_first_order(code: SoftmaxCode, packing: _Stationarity) -> _Stationarity:
    """First-order conditions of HardMax at (W, H).

    Where rho = 1 - mu, a balanced packing is balanced with H = W and the same stresses (docs/theory.md, T5). Otherwise
    H comes from the exact margins.
    """
    W = code.W
    K, d = W.shape
    if d < 2 or 2 * K * (d - 1) > MAX_STRESS_UNKNOWNS:
        return _Stationarity(
            packing.residual if _is_packing_margin(code, packing) else None, packing.threshold, "not computed"
        )
    H = W if _is_packing_margin(code, packing) else code.H
    return _first_order(lambda t: hardmax_system(W, H, t), np.vstack([W, H]))


def _is_packing_margin(code: SoftmaxCode, packing: _Stationarity) -> bool:
    return packing.residual is not None and abs(code.margin - (1 - code.max_cosine)) <= packing.threshold


def _next_gap(code: SoftmaxCode, threshold: float) -> float | None:
    """Distance from the largest cosine minus the threshold to the next smaller cosine, over pairs, in tiles."""
    if code.K > MAX_CONTACT_CLASSES:
        return None
    gap = np.inf
    top = code.max_cosine
    for rows in row_tiles(code.K, code.d, "the next smaller cosine"):
        C = code.W[rows] @ code.W.T
        C[np.arange(len(C)), np.arange(rows.start, rows.stop)] = -np.inf
        below = C[top - threshold > C]
        if below.size and np.isfinite(below.max()):
            gap = min(gap, top - float(below.max()))
    return float(gap)


def lower_bounds(code: SoftmaxCode) -> RigorousBounds:
    """Rigorous lower bounds on the margin and on 1 - mu, without the rest of a certificate."""
    if code.is_long and code.cosine_bound is not None:
        return exact_bounds(code.cosine_bound, code.d, code.closed_margin)
    by_class = code.objective == "softmax" and code.K * code.K * code.d <= MAX_ALL_MARGINS
    use_H = by_class and code.margin > 1 - code.max_cosine + 1e-13
    return rigorous_bounds(code.W, code.H if use_H else None)


def derive_certificate(code: SoftmaxCode, *, lp: bool = True) -> Certificate:
    """Derive a certificate from coordinates and objective; see `softmaxcode.certify`."""
    K, d = code.K, code.d
    softmax = code.objective == "softmax"
    with one_blas_thread():
        packing = _tammes_first_order(code.W)
        first = _softmax_first_order(code, packing) if softmax else packing
    one_minus = 1 - code.max_cosine
    proved = lower_bounds(code)
    known: Bound = max_cosine_lower_bound(K, d, lp=False)
    tolerance = match_tolerance(one_minus)
    met = known.value >= code.max_cosine - tolerance
    if not met and lp:  # no bound improves on one that the code meets
        known = max_cosine_lower_bound(K, d)
    bounds = margin_bounds(K, d, lp=lp and not met)
    packing_upper = one_minus_above(known.value)
    packing_optimal = known.proved and proved.one_minus_cosine >= packing_upper - tolerance
    solved = d <= 2 or K <= 2 * d  # docs/theory.md, T3
    if softmax:
        upper, method = bounds.upper, bounds.upper_method
        if solved and proved.margin >= upper - match_tolerance(upper):
            status = "optimal"
        elif packing_optimal and abs(code.margin - one_minus) <= max(tolerance, 10 * 2.0**-52 * d):
            status = "matches Tammes"
        else:
            status = ""
    else:
        upper, method = packing_upper, known.method
        status = "optimal" if packing_optimal else ""
    if not status:
        stationary = first.residual is not None and first.residual <= RESIDUAL_TOLERANCE
        rigid = first.rigidity in ("infinitesimal", "second order")
        status = "locally optimal" if stationary and rigid else FEASIBLE
    gap = _next_gap(code, first.threshold)
    return Certificate(
        objective=code.objective,
        status=status,
        margin_lower_bound=proved.margin,
        one_minus_cosine_lower_bound=proved.one_minus_cosine,
        arithmetic=proved.arithmetic,
        upper_bound=upper,
        upper_bound_method=method,
        residual=first.residual,
        rigidity=first.rigidity,
        threshold=first.threshold,
        next_gap=gap,
        ambiguous=gap is not None and gap < CLEAR_GAP * first.threshold,
    )
