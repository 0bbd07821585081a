"""The pipeline: closed form, else search, polish and choose; the certificate is derived from the result."""

from __future__ import annotations

import math
import re
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from softmaxcode import exact as exact_codes
from softmaxcode.bounds.best import max_cosine_lower_bound
from softmaxcode.catalog import stored_both
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
    search_memory,
    shown,
)
from softmaxcode.checks.limits import LARGE_CODE
from softmaxcode.code import SoftmaxCode, code_of_unit_rows
from softmaxcode.contacts.system import tammes_system
from softmaxcode.exact import closed_form
from softmaxcode.parallel.deadline import Deadline
from softmaxcode.parallel.progress import Progress
from softmaxcode.search.finish import plan_search, polished_codes
from softmaxcode.search.interrupted import SearchInterrupted
from softmaxcode.search.large.search import is_large, search_many
from softmaxcode.search.pipeline import Effort, search
from softmaxcode.sphere import check_rows
from softmaxcode.storage.provenance import Provenance, installed_version

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from softmaxcode.certificates.proof import ProvedValue
    from softmaxcode.types import Rows

#: A code must beat the stored one by this, which float64 coordinates can resolve.
WORTH_KEEPING = 1e-15
#: Seconds that a call without a budget may take.
LIMIT = 110.0
#: Memory is stated with this much to spare.
MEMORY_MARGIN = 1.05
#: Bytes per coordinate of an exact code that is being built.
BUILDING = 16
#: The fraction of the time that a large exact code gets to be built.
STORED_FRACTION = 0.5
#: Seconds per coordinate to write a code.
WRITING = 1.5e-8
#: A stored code is returned if less than this fraction of the time is left for a search of many points.
SHORT = 0.4


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

    More than some 500 points, and fewer where the budget is short, are searched in another way. Unions of orbits of
    groups of signed permutations are optimised over all pairs. Then all points are relaxed on the near pairs alone.
    The result is the packing under both objectives. The search ends early if a stored code is clearly better.

    The answer is never worse than the stored code. The stored code itself is returned if it is proved to be an optimal
    packing. A call returns within 1.1 times the budget and one second, without a budget within two minutes.

    Parameters
    ----------
    K : int
        Number of classes, at least 2.
    d : int
        Dimension, at least 1.
    objective : {"softmax", "tammes"}
        Maximise the smallest one-vs-rest distance, or the smallest distance of two points.
    starts : int, optional
        Random starts; four basin hops follow each. By default 16 to 48, by size. Not used for many points.
    budget : float, optional
        Seconds to spend. Hopping continues until only the time expected for polishing is left. If polishing would take
        more than 60 % of the budget, it is skipped; values are then within about 1e-6 of a local optimum. A search
        stopped by time is not repeatable bit for bit. One stopped by counts is, on the same machine, with
        ``catalog=False``. A large exact code is left out where its construction takes more than half of the budget.
    seed : int
        Everything random follows from it.
    init : array_like, shape (K, d), optional
        Unit vectors to improve beside the random starts; the answer is never worse.
    catalog : bool
        Start from the catalogue (`best_known`). With ``False`` the result depends on the other arguments alone.
    exact : bool
        Start from the exact families (`softmaxcode.exact.best`) too; the catalogue may contain such codes as well.
    device : str, optional
        ``"cpu"``, ``"cuda"`` or ``"cuda:1"`` searches with PyTorch on geoopt's sphere: the starts as one batch, and
        many points by their near pairs if they fit into the device's memory. By default CPU kernels search.
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
        ``init`` that is not (K, d) unit rows, or ``digits`` where the contact equations are not regular. Also where the
        memory of the machine, or the budget, is too small for the code itself; the message names what is enough.
    SearchInterrupted
        After Ctrl-C: a KeyboardInterrupt whose attribute ``code`` is the best code so far.

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
    try:
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
    except SearchInterrupted as stopped:
        stopped.code = stopped.codes[objective]
        raise
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
    options = SearchOptions.checked(
        starts=starts, budget=budget, seed=seed, catalog=catalog, exact=exact, device=device, n_jobs=n_jobs
    )
    budget = options.budget
    progress = check_progress(progress)
    first: Rows | None = None
    if init is not None:
        first = check_rows(init, name="init")
        if first.shape != (K, d):
            raise ValueError(f"init must have shape (K, d) = {(K, d)}; got {first.shape}")

    known = closed_form(K, d)
    if known is not None:
        provenance = Provenance(f"closed form: {known.name}", version=installed_version())
        return {objective: SoftmaxCode(known.W, objective, provenance, _exact=known) for objective in OBJECTIVES}
    check_memory(
        f"solve({K}, {d})",
        search_memory(K, d),
        "solve fewer classes or in fewer dimensions, or ask margin_bounds(K, d) for the bounds on the margin",
    )
    if budget is not None and WRITING * K * d > budget + 0.5:
        raise ValueError(
            f"solve({K}, {d}) takes some {WRITING * K * d:.0f} s to write {K * d:.2g} coordinates alone; pass a budget "
            f"of at least {math.ceil(2 * WRITING * K * d)} s"
        )
    given = {}
    if first is not None:
        given = {name: SoftmaxCode(first, name, Provenance("init, not improved")) for name in OBJECTIVES}
    deadline = Deadline(LIMIT if budget is None else budget)
    stored = _stored_in_time(K, d, options.catalog, options.exact, deadline)
    if stored and _is_optimal(stored["tammes"]):
        return {name: _better(code, given.get(name)) for name, code in stored.items()}
    inits = [first] if first is not None else []
    try:
        if is_large(K, d, deadline.left, options.n_jobs):
            return _many_points(K, d, options, deadline, stored, inits, progress)
        made = _few_points(K, d, options, deadline, stored, inits, progress)
    except SearchInterrupted as stopped:
        at_hand = [codes for codes in (stored, given) if codes]
        stopped.codes = min(at_hand, key=lambda codes: codes["tammes"].max_cosine) if at_hand else {}
        if not at_hand or stopped.value > 1 - stopped.codes["tammes"].max_cosine:
            provenance = _provenance("search, interrupted", options, deadline)
            stopped.codes = {name: code_of_unit_rows(stopped.X, name, provenance) for name in OBJECTIVES}
        raise
    return {name: _better(_better(code, stored.get(name)), given.get(name)) for name, code in made.items()}


def _provenance(method: str, options: SearchOptions, deadline: Deadline, **work: Any) -> Provenance:
    """The provenance of a search that has just ended; ``work`` is what else is known of it."""
    about = {"device": options.device or "numba", **work}
    return Provenance(method, seed=options.seed, seconds=deadline.elapsed, version=installed_version(), **about)


def _few_points(
    K: int,
    d: int,
    options: SearchOptions,
    deadline: Deadline,
    stored: dict[str, SoftmaxCode],
    inits: list[Rows],
    progress: bool | None,
) -> dict[str, SoftmaxCode]:
    """The polished codes of a search by starts and hops, under both objectives."""
    for code in stored.values():
        if not any(np.array_equal(code.W, X) for X in inits):
            inits.append(code.W)
    starts, budget = options.starts, options.budget
    count = default_starts(K, d) if starts is None else starts
    if budget is None and starts is not None:  # counts alone limit the search
        deadline = deadline.without_end()
    plan = plan_search(K, d, deadline, limited=budget is not None)
    timed = budget is not None and starts is None
    hops = None if timed else 4 * count
    total = count + 4 * count if budget is None else budget
    with Progress(f"({K}, {d})", total, progress, seconds=budget is not None) as bar:
        effort = Effort(None if timed else count, hops, plan.timer)
        found = search(
            K,
            d,
            effort,
            seed=options.seed,
            n_jobs=options.n_jobs,
            device=options.device,
            inits=inits,
            progress=bar,
            larger=exact_codes.larger(K, d) if options.exact else [],
        )
    best = found.tammes[0]
    try:
        made = polished_codes(found, plan)
    except KeyboardInterrupt:
        raise SearchInterrupted(best.X, 1 - best.value) from None
    provenance = _provenance("", options, deadline, starts=found.starts, hops=found.hops)
    return {name: SoftmaxCode(W, name, replace(provenance, method=how)) for name, (W, how) in made.items()}


def _many_points(
    K: int,
    d: int,
    options: SearchOptions,
    deadline: Deadline,
    stored: dict[str, SoftmaxCode],
    inits: list[Rows],
    progress: bool | None,
) -> dict[str, SoftmaxCode]:
    """The better of the stored code and that of a search for many points, under both objectives."""
    known = 1 - stored["tammes"].max_cosine if stored else -np.inf
    if stored and deadline.left < SHORT * (deadline.seconds or 0.0):
        return stored
    with Progress(f"({K}, {d})", deadline.seconds, progress, seconds=True) as bar:
        found = search_many(
            K,
            d,
            seed=options.seed,
            n_jobs=options.n_jobs,
            deadline=deadline,
            limited=options.budget is not None,
            device=options.device,
            inits=inits,
            known=known,
            progress=bar,
        )
    if stored and not found.value > known:
        return stored
    beside = sum({id(code.W): code.W.nbytes for code in stored.values()}.values())
    if not stored and K * d >= LARGE_CODE and (options.catalog or options.exact):
        beside = BUILDING * K * d  # an exact code may still be under construction
    memory = MEMORY_MARGIN * (found.memory + beside)
    method = f"{found.method}; at most {math.ceil(memory / 1e8) / 10:.1f} GB"
    provenance = _provenance(method, options, deadline, starts=found.starts, device=found.device)
    return {name: code_of_unit_rows(found.W, name, provenance) for name in OBJECTIVES}


def _stored(K: int, d: int, catalog: bool, exact: bool) -> dict[str, SoftmaxCode]:
    """The best codes from the catalogue and the exact families: one for each objective, or an empty dict."""
    if catalog:
        return stored_both(K, d, families=exact)
    known = exact_codes.best(K, d) if exact else None
    return {} if known is None else {objective: known.code(objective) for objective in OBJECTIVES}


def _stored_in_time(K: int, d: int, catalog: bool, exact: bool, deadline: Deadline) -> dict[str, SoftmaxCode]:
    """`_stored`, or an empty dict where building an exact code takes too much of the time.

    Nothing can stop the construction of an exact code. So a large one is built on a thread of its own, which ends with
    the process at the latest.
    """
    if K * d < LARGE_CODE:
        return _stored(K, d, catalog, exact)
    found: list[dict[str, SoftmaxCode]] = []
    thread = threading.Thread(target=lambda: found.append(_stored(K, d, catalog, exact)), daemon=True)
    thread.start()
    thread.join(STORED_FRACTION * deadline.left)
    return found[0] if found else {}


def _is_optimal(packing: SoftmaxCode) -> bool:
    """Whether a stored packing is proved optimal."""
    bound = max_cosine_lower_bound(packing.K, packing.d, lp=False).value
    return bound >= packing.max_cosine - match_tolerance(1 - packing.max_cosine)


def _better(code: SoftmaxCode, known: SoftmaxCode | None) -> SoftmaxCode:
    """The code, unless ``known`` is as good."""
    if known is None:
        return code
    gain = code.margin - known.margin if code.objective == "softmax" else known.max_cosine - code.max_cosine
    return code if gain > WORTH_KEEPING else known


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
