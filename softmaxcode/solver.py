"""The pipeline: closed form, else search, polish and choose; the certificate is derived from the result."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from joblib import effective_n_jobs

from softmaxcode import exact as exact_codes
from softmaxcode.bounds.best import max_cosine_lower_bound
from softmaxcode.catalog import stored as best_stored
from softmaxcode.certificates.certificate import match_tolerance
from softmaxcode.certificates.proof import check_digits, closed_form_decimal, prove_margin, prove_tammes
from softmaxcode.checks.arguments import (
    OBJECTIVES,
    Objective,
    check_flag,
    check_integer,
    check_jobs,
    check_memory,
    check_objective,
    check_pair,
    check_progress,
    check_seconds,
    machine_memory,
    search_memory,
    shown,
)
from softmaxcode.code import SoftmaxCode
from softmaxcode.contacts.polish import can_polish, centre_rattlers, expected_seconds, polish_hardmax, polish_tammes
from softmaxcode.contacts.system import tammes_system
from softmaxcode.exact import closed_form
from softmaxcode.margins.exact import smallest_margin
from softmaxcode.parallel.progress import Progress
from softmaxcode.search.energy import HARDMAX, TAMMES, descend, minimize
from softmaxcode.search.multistart import Candidate, pair_maximum
from softmaxcode.search.pipeline import Effort, Timer, search
from softmaxcode.sphere import check_rows, largest_cosines
from softmaxcode.storage.provenance import Provenance, installed_version

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from softmaxcode.certificates.proof import ProvedValue
    from softmaxcode.contacts.polish import Polished
    from softmaxcode.search.pipeline import SearchResult
    from softmaxcode.types import Rows

#: The temperature at which polishing takes over; values are then within about 1e-5 of a local optimum.
FINE_BETA = 1e5
#: The last beta of a search without polishing.
FINEST_BETA = 1e7
#: The largest fraction of a budget that polishing may take.
POLISH_FRACTION = 0.4
#: How much polishing may still improve a candidate of the search.
SEARCH_ERROR = 2e-3
#: A code must beat the stored one by this, which float64 coordinates can resolve.
WORTH_KEEPING = 1e-15
#: A start of the search evaluates some hundred energies of 4 K^2 d floating-point operations, at about 1e10 per second.
START_FLOPS = 400 * 4
FLOPS_PER_SECOND = 1e10
#: Iterations at `FINE_BETA` after which a HardMax optimum is given up if it promises less than the best by this.
FEW_ITERATIONS = 300
FEW_GAIN = 1e-5
#: Seconds that one start may take if there is no budget.
SEARCH_TIMEOUT = 600.0
#: A HardMax optimum must beat the best packing by this before it is polished.
WORTH_POLISHING = 1e-8


def default_starts(K: int, d: int) -> int:
    """The default number of random starts, 16 to 48: many where they are cheap."""
    return int(np.clip(2_000_000 / (K * K * d), 16, 48))


def check_device(device: Any) -> str | None:
    """None for the CPU kernels, else the name of an available torch device."""
    if device is None:
        return None
    if not re.fullmatch(r"cpu|cuda(:\d+)?", str(device)):
        raise ValueError(f"device must be None (the CPU kernels), 'cpu', 'cuda' or 'cuda:N'; got {shown(device)}")
    from softmaxcode.checks.tensors import check_device as check

    return str(check(device))


class SearchOptions(NamedTuple):
    """What `solve`, `softmaxcode.table` and `softmaxcode.sweep.sweep` take besides the pair, JSON-serialisable."""

    starts: int | None
    budget: float | None
    seed: int
    catalog: bool
    exact: bool
    device: str | None
    n_jobs: int

    @classmethod
    def checked(
        cls,
        *,
        starts: Any = None,
        budget: Any = None,
        seed: Any = 0,
        catalog: Any = True,
        exact: Any = True,
        device: Any = None,
        n_jobs: Any = -1,
    ) -> SearchOptions:
        """Check every option; `solve` describes them.

        Raises
        ------
        ValueError
            If an option is invalid; the message shows what was received and what is expected.
        """
        return cls(
            starts=None if starts is None else check_integer("starts", starts, 1),
            budget=None if budget is None else check_seconds("budget", budget),
            seed=check_integer("seed", seed, 0),
            catalog=check_flag("catalog", catalog),
            exact=check_flag("exact", exact),
            device=check_device(device),
            n_jobs=check_jobs(n_jobs),
        )


def solve(
    K: int,
    d: int,
    *,
    objective: Objective = "softmax",
    starts: int | None = None,
    budget: float | None = None,
    seed: int = 0,
    init: ArrayLike | None = None,
    catalog: bool = True,
    exact: bool = True,
    device: str | None = None,
    digits: int | None = None,
    n_jobs: int = -1,
    progress: bool | None = None,
) -> SoftmaxCode:
    """Solve for the Softmax Code or the Tammes packing of K unit vectors in R^d.

    A closed form is returned where there is one (d = 1, d = 2, K <= 2d). Otherwise `solve` searches.

    1. It starts from the best stored code, from random points and from orbits of random groups.
    2. L-BFGS minimises log-sum-exp energies of both objectives while beta increases. Optima of each initialise the
       other.
    3. Basin hopping continues from the best.
    4. The best codes are polished to machine precision.

    The answer is never worse than the stored code. The stored code itself is returned if it is proved to be an optimal
    packing. It is also returned if one start of the search would exceed the budget (ten minutes without one).

    Parameters
    ----------
    K : int
        Number of classes, at least 2.
    d : int
        Dimension, at least 1.
    objective : {"softmax", "tammes"}
        Maximise the smallest one-vs-rest distance, or the smallest distance of two points.
    starts : int, optional
        Random starts; four basin hops follow each. By default 16 to 48, by size.
    budget : float, optional
        Seconds to spend. Hopping continues until only the time expected for polishing is left. If polishing would take
        more than 40 % of the budget, it is skipped; values are then within about 1e-6 of a local optimum. A search
        stopped by time is not repeatable bit for bit. One stopped by counts is, on the same machine, with
        ``catalog=False``.
    seed : int
        Everything random follows from it.
    init : array_like, shape (K, d), optional
        Unit vectors to improve beside the random starts; the answer is never worse.
    catalog : bool
        Start from the catalogue (`best_known`). With ``False`` the result depends on the other arguments alone.
    exact : bool
        Start from the exact families (`softmaxcode.exact.best`) too; the catalogue may contain such codes as well.
    device : str, optional
        ``"cpu"``, ``"cuda"`` or ``"cuda:1"`` runs the starts as one batch on geoopt's sphere with PyTorch; by default
        CPU kernels search.
    digits : int, optional
        Refine in ball arithmetic to this many digits, at most 1000; ``code.proved`` is the value with a proved radius.
    n_jobs : int
        Threads of the CPU search, as in joblib; -1 uses every core. The result does not depend on it.
    progress : bool, optional
        Show a progress bar; by default on a terminal only.

    Returns
    -------
    SoftmaxCode
        Coordinates, margins, contacts, certificate and provenance.

    Raises
    ------
    ValueError
        For K < 2, d < 1, an unknown objective or device, or a budget or count that is not positive. Also for an
        ``init`` that is not (K, d) unit rows, or ``digits`` where the contact equations are not regular.

    References
    ----------
    Jiang et al., "Generalized Neural Collapse for a Large Number of Classes", ICML 2024, arXiv 2310.05351.

    Examples
    --------
    >>> import softmaxcode as sc
    >>> code = sc.solve(12, 3)
    >>> print(f"{code.margin:.12f} {code.min_angle:.6f} {code.certificate.status}")
    0.552786404500 63.434949 matches Tammes
    """
    objective = check_objective(objective)
    if digits is not None:
        digits = check_digits(digits)
    code = solve_both(
        K,
        d,
        starts=starts,
        budget=budget,
        seed=seed,
        init=init,
        catalog=catalog,
        exact=exact,
        device=device,
        n_jobs=n_jobs,
        progress=progress,
    )[objective]
    return code if digits is None else replace(code, proved=prove(code, digits))


def solve_both(
    K: int,
    d: int,
    *,
    starts: int | None = None,
    budget: float | None = None,
    seed: int = 0,
    init: ArrayLike | None = None,
    catalog: bool = True,
    exact: bool = True,
    device: str | None = None,
    n_jobs: int = -1,
    progress: bool | None = None,
) -> dict[str, SoftmaxCode]:
    """The codes of one search for both objectives, under ``"softmax"`` and ``"tammes"``; parameters as in `solve`."""
    K, d = check_pair(K, d)
    starts, budget, seed, catalog, exact, device, n_jobs = SearchOptions.checked(
        starts=starts, budget=budget, seed=seed, catalog=catalog, exact=exact, device=device, n_jobs=n_jobs
    )
    progress = check_progress(progress)
    count = default_starts(K, d) if starts is None else starts
    first: Rows | None = None
    if init is not None:
        first = check_rows(init, name="init")
        if first.shape != (K, d):
            raise ValueError(f"init must have shape (K, d) = {(K, d)}; got {first.shape}")

    known = closed_form(K, d)
    if known is not None:
        provenance = Provenance(f"closed form: {known.name}", version=installed_version())
        return {objective: SoftmaxCode(known.W, objective, provenance, _exact=known) for objective in OBJECTIVES}
    given = {}
    if first is not None:
        given = {name: SoftmaxCode(first, name, Provenance("init, not improved")) for name in OBJECTIVES}
    stored = _stored(K, d, catalog, exact)
    too_large = search_memory(K) > machine_memory()
    if stored and (too_large or _search_is_pointless(stored["tammes"], starts, budget)):
        return {name: _better(code, given.get(name)) for name, code in stored.items()}
    check_memory(
        f"the search of solve({K}, {d})",
        search_memory(K),
        "no code of this pair is stored: solve fewer classes, or ask margin_bounds(K, d) for the bounds on its margin",
    )
    fitting = machine_memory() // search_memory(K)  # each thread has cosines of its own
    if fitting < effective_n_jobs(n_jobs):
        n_jobs = fitting
    inits = [first] if first is not None else []
    for code in stored.values():
        if not any(np.array_equal(code.W, X) for X in inits):
            inits.append(code.W)
    plan = _plan(K, d, budget)
    timed = budget is not None and starts is None
    hops = None if timed else 4 * count
    total = count + 4 * count if budget is None else budget
    with Progress(f"({K}, {d})", total, progress, seconds=budget is not None) as bar:
        effort = Effort(None if timed else count, hops, plan.timer)
        found = search(K, d, effort, seed=seed, n_jobs=n_jobs, device=device, inits=inits, progress=bar)
    made_here = _polished_codes(found, plan, seed, device)
    return {name: _better(_better(code, stored.get(name)), given.get(name)) for name, code in made_here.items()}


def _polished_codes(found: SearchResult, plan: _Plan, seed: int, device: str | None) -> dict[str, SoftmaxCode]:
    """The codes of a search, polished where the plan allows it."""
    packing, how = _best_packing(found, plan)
    softmax, made = _best_softmax(found, packing, how, plan)
    if largest_cosines(softmax).max() < largest_cosines(packing).max():  # the HardMax search found a better packing
        packing, how = _centred(polish_tammes(softmax, 1e-9, plan.deadline)), "HardMax search, polished"
        if smallest_margin(packing).margin >= smallest_margin(softmax).margin - 1e-12:
            softmax, made = packing, how
    provenance = Provenance(
        method=how,
        seed=seed,
        starts=found.starts,
        hops=found.hops,
        seconds=plan.timer.elapsed,
        device=device or "numba",
        version=installed_version(),
    )
    codes = {"tammes": (packing, how), "softmax": (softmax, made)}
    return {name: SoftmaxCode(W, name, replace(provenance, method=m)) for name, (W, m) in codes.items()}


def _stored(K: int, d: int, catalog: bool, exact: bool) -> dict[str, SoftmaxCode]:
    """The best codes from the catalogue and the exact families: one for each objective, or an empty dict."""
    if catalog:
        codes = {objective: best_stored(K, d, objective, families=exact) for objective in OBJECTIVES}
        return {name: code for name, code in codes.items() if code is not None}
    known = exact_codes.best(K, d) if exact else None
    return {} if known is None else {objective: known.code(objective) for objective in OBJECTIVES}


def _search_is_pointless(packing: SoftmaxCode, starts: int | None, budget: float | None) -> bool:
    """Whether a stored packing is proved optimal, or too large to search within the budget."""
    K, d = packing.K, packing.d
    seconds = SEARCH_TIMEOUT if budget is None else budget
    too_large = starts is None and START_FLOPS * K * K * d > seconds * FLOPS_PER_SECOND
    bound = max_cosine_lower_bound(K, d, lp=False).value
    return too_large or bound >= packing.max_cosine - match_tolerance(1 - packing.max_cosine)


def _better(code: SoftmaxCode, known: SoftmaxCode | None) -> SoftmaxCode:
    """The code, unless ``known`` is as good."""
    if known is None:
        return code
    gain = code.margin - known.margin if code.objective == "softmax" else known.max_cosine - code.max_cosine
    return code if gain > WORTH_KEEPING else known


@dataclass(frozen=True)
class _Plan:
    """Whether to polish, the timer of the search, and the seconds of search and polishing together."""

    polish: bool
    timer: Timer
    budget: float | None

    @property
    def deadline(self) -> float | None:
        """The end of the whole budget, in seconds of `time.monotonic`."""
        return None if self.budget is None else self.timer.begin + self.budget

    def in_time(self) -> bool:
        """Whether budget is left."""
        return self.budget is None or self.timer.elapsed < self.budget


def _plan(K: int, d: int, budget: float | None) -> _Plan:
    """Reserve the time that polishing is expected to need; plan none where that is too much of the budget."""
    if budget is None:
        return _Plan(can_polish(K, d), Timer(None), None)
    fraction = expected_seconds(K, d) / budget if can_polish(K, d) else math.inf
    polish = fraction <= POLISH_FRACTION
    return _Plan(polish, Timer((1 - fraction if polish else 0.85) * budget), budget)


def _refine(kind: int, candidate: Candidate) -> Candidate:
    if candidate.beta >= FINE_BETA:
        return candidate
    X = np.array(candidate.X)
    minimize(kind, X, FINE_BETA, 3000, 1e-6)
    return Candidate(pair_maximum(kind, X), X)


def _best_packing(found: SearchResult, plan: _Plan) -> tuple[Rows, str]:
    """The best Tammes candidate, polished where the plan allows it, and its method."""
    decided = found.tammes[0].polished
    if plan.polish and decided is not None:  # near ties are polished before they are ranked
        return _centred(decided), "search, polished"
    packings = [_refine(TAMMES, c) for c in found.tammes[: 3 if plan.polish else 1]]
    packings.sort(key=lambda c: c.value)
    if plan.polish:
        polished = [polish_tammes(packings[0].X, 10 / FINE_BETA, plan.deadline)]
        for candidate in packings[1:]:
            if candidate.value <= packings[0].value + 2e-5 and plan.in_time():
                polished.append(polish_tammes(candidate.X, 10 / FINE_BETA, plan.deadline))
        first = max(polished, key=lambda p: p.value)
        if plan.in_time() or first.value >= 1 - packings[0].value:
            return _centred(first), "search, polished"
    best = np.array(packings[0].X)
    descend(TAMMES, best, FINE_BETA, FINEST_BETA, 4.0, 1500, 1e-4)
    return centre_rattlers(best), "search, not polished"


def _centred(polished: Polished) -> Rows:
    """The polished packing with the rows that carry no stress moved to the middle of their cages."""
    return centre_rattlers(polished.X, ~polished.contacts.members(len(polished.X)))


def _best_softmax(found: SearchResult, packing: Rows, how: str, plan: _Plan) -> tuple[Rows, str]:
    """The packing, or a HardMax candidate whose margin is larger at the end."""
    K, d = packing.shape
    best, best_margin = packing, smallest_margin(packing).margin
    for candidate in found.hardmax[:2]:
        hopeless = smallest_margin(candidate.X[:K]).margin < best_margin - SEARCH_ERROR
        if hopeless or not (plan.polish and can_polish(2 * K, d) and plan.in_time()):
            continue
        X = np.array(candidate.X)
        minimize(HARDMAX, X, FINE_BETA, FEW_ITERATIONS, 1e-6)
        if _promised_margin(X, K) <= best_margin - FEW_GAIN:
            continue
        X = _refine(HARDMAX, replace(candidate, X=X)).X
        if _promised_margin(X, K) <= best_margin + WORTH_POLISHING:
            continue
        W = polish_hardmax(X[:K], X[K:], 10 / FINE_BETA, plan.deadline).X[:K]
        margin = smallest_margin(W).margin
        if margin > best_margin + 1e-12:
            best, best_margin, how = W, margin, "HardMax search, polished"
    return best, how


def _promised_margin(X: Rows, K: int) -> float:
    """The margin that polishing a minimiser of the HardMax energy leads to, to first order in 1/beta.

    The minimiser weighs the pairs like stresses, so the weighted mean of the pair values is the optimum of the dual.
    """
    C = X[K:] @ X[:K].T
    values = np.diagonal(C)[:, None] - C
    np.fill_diagonal(values, np.inf)
    weights = np.exp(-FINE_BETA * (values - values.min()))
    np.fill_diagonal(values, 0.0)
    return float((weights * values).sum() / weights.sum())


def prove(code: SoftmaxCode, digits: int) -> ProvedValue:
    """The value of a code to ``digits`` digits with a proved radius.

    Raises
    ------
    NotRegular
        If the contacts do not determine the code.
    """
    if closed_form(code.K, code.d) is not None and code.certificate.status == "optimal":
        quantity = "margin" if code.objective == "softmax" else "max_cosine"
        return closed_form_decimal(code.K, code.d, quantity, digits)
    contacts = tammes_system(code.W, code.certificate.threshold)
    if code.objective == "tammes":
        return prove_tammes(code.W, contacts, digits)
    return prove_margin(code.W, code.H, contacts, digits)
