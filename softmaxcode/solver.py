"""The pipeline: closed form, else search, polish and choose; the certificate is derived from what comes out."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from softmaxcode.code import Provenance, SoftmaxCode, check_objective, installed_version
from softmaxcode.exact import closed_form
from softmaxcode.margins import smallest_margin
from softmaxcode.polish import can_polish, centre_rattlers, polish_hardmax, polish_tammes
from softmaxcode.progress import Progress
from softmaxcode.search.energy import HARDMAX, TAMMES, minimize
from softmaxcode.search.multistart import Candidate, pair_maximum
from softmaxcode.search.pipeline import Clock, search
from softmaxcode.sphere import check_integer, check_pair, check_rows

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from softmaxcode.digits import ProvedValue
    from softmaxcode.search.pipeline import SearchResult
    from softmaxcode.types import Rows

#: The temperature at which candidates are handed to polishing; values are then within about 1e-5 of a local optimum.
FINE_BETA = 1e5
#: A HardMax optimum must beat the best packing by this to be worth a polish of its own.
WORTH_POLISHING = 1e-8


def default_starts(K: int, d: int) -> int:
    """Random starts without ``starts`` or ``budget``: many where they are cheap, at least 16."""
    return int(np.clip(2_000_000 / (K * K * d), 16, 192))


def check_budget(budget: Any) -> float | None:
    """Return the budget in seconds, or raise a ValueError."""
    if budget is None:
        return None
    if isinstance(budget, (bool, str)) or not np.isscalar(budget) or not math.isfinite(float(budget)) or budget <= 0:
        raise ValueError(f"budget must be a positive number of seconds; got {budget!r}")
    return float(budget)


def check_device(device: Any) -> str | None:
    """None for the CPU kernels, else the name of a torch device that is there."""
    if device is None:
        return None
    from softmaxcode.search.geoopt_batch import check_device as check

    return str(check(device))


def solve(
    K: int,
    d: int,
    *,
    objective: str = "softmax",
    starts: int | None = None,
    budget: float | None = None,
    seed: int = 0,
    init: ArrayLike | None = None,
    device: str | None = None,
    digits: int | None = None,
    n_jobs: int = -1,
    progress: bool | None = None,
) -> SoftmaxCode:
    """Solve for the Softmax Code or the Tammes packing of K unit vectors in R^d.

    Closed forms are returned where they are optimal (d = 1, d = 2, K <= 2d). Elsewhere many random starts are
    optimised on both objectives, each seeding the other, the best goes through basin hopping, and the winners are
    polished to machine precision.

    Parameters
    ----------
    K : int
        Number of classes, at least 2.
    d : int
        Dimension, at least 1.
    objective : {"softmax", "tammes"}
        Maximise the smallest one-vs-rest distance, or the smallest distance of two points.
    starts : int, optional
        Random starts; four basin hops follow each. By default 16 to 192, by size.
    budget : float, optional
        Seconds to spend on the search; hopping goes on until they are spent. Polishing and the certificate come on
        top. A search that time ends is not repeatable bit for bit; one that counts end is, on the same machine.
    seed : int
        Everything random follows from it.
    init : array_like, shape (K, d), optional
        Unit vectors to improve beside the random starts.
    device : str, optional
        ``None`` searches with the CPU kernels; ``"cpu"``, ``"cuda"`` or ``"cuda:1"`` runs the starts as one batch on
        geoopt's sphere with PyTorch.
    digits : int, optional
        Continue in ball arithmetic to so many digits: ``code.proved`` is then the value with a proved radius.
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
        For K < 2, d < 1, an unknown objective or device, a budget or count that is not positive, an ``init`` that is
        not (K, d) unit rows, or ``digits`` where the contact equations are not regular.

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
    K, d = check_pair(K, d)
    objective = check_objective(objective)
    count = default_starts(K, d) if starts is None else check_integer("starts", starts, 1)
    budget = check_budget(budget)
    seed = check_integer("seed", seed, 0)
    if digits is not None:
        digits = check_integer("digits", digits, 1)
    first: Rows | None = None
    if init is not None:
        first = check_rows(init, name="init")
        if first.shape != (K, d):
            raise ValueError(f"init must have shape (K, d) = {(K, d)}; got {first.shape}")
    torch_device = check_device(device)

    begin = time.monotonic()
    known = closed_form(K, d)
    if known is not None:
        provenance = Provenance(f"closed form: {known.name}", version=installed_version())
        proved = _proved_closed_form(K, d, objective, digits) if digits is not None else None
        return SoftmaxCode(known.W, objective, provenance, proved)

    clock = Clock(budget)
    hops = None if budget is not None and starts is None else 4 * count
    total = None if budget is not None else count + (hops or 0)
    if budget is not None and starts is None:
        count = 10**9  # the clock ends it
    with Progress(f"({K}, {d})", total, progress) as bar:
        found = search(
            K,
            d,
            seed=seed,
            starts=count,
            hops=hops,
            clock=clock,
            n_jobs=n_jobs,
            device=torch_device,
            init=first,
            progress=bar,
        )
    W, how = _best_code(found, K, d, objective)
    provenance = Provenance(
        method=how,
        seed=seed,
        starts=found.starts,
        hops=found.hops,
        seconds=time.monotonic() - begin,
        device=torch_device or "numba",
        version=installed_version(),
    )
    code = SoftmaxCode(W, objective, provenance)
    return code if digits is None else SoftmaxCode(W, objective, provenance, _proved(code, digits))


def _refine(kind: int, candidate: Candidate) -> Candidate:
    X = np.array(candidate.X)
    minimize(kind, X, FINE_BETA, 3000, 1e-6)
    return Candidate(pair_maximum(kind, X), X)


def _best_code(found: SearchResult, K: int, d: int, objective: str) -> tuple[Rows, str]:
    """Polish the leading candidates and choose by the objective."""
    packings = [_refine(TAMMES, c) for c in found.tammes[:3]]
    packings.sort(key=lambda c: c.value)
    how = "search"
    best = packings[0].X
    if can_polish(K, d):
        polished = []
        for candidate in packings:
            if candidate.value <= packings[0].value + 2e-5:
                polished.append(polish_tammes(candidate.X, 10 / FINE_BETA))
        best = max(polished, key=lambda p: p.value).X
        how = "search, polished"
    best = centre_rattlers(best)
    if objective == "tammes":
        return best, how
    packing_margin = smallest_margin(best).margin
    for candidate in found.hardmax[:2]:
        candidate = _refine(HARDMAX, candidate)
        if _promised_margin(candidate.X, K) < packing_margin + WORTH_POLISHING or not can_polish(2 * K, d):
            continue
        W = polish_hardmax(candidate.X[:K], candidate.X[K:], 10 / FINE_BETA).X[:K]
        margin = smallest_margin(W).margin
        if margin > packing_margin + 1e-12:
            best, packing_margin, how = W, margin, "HardMax search, polished"
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


def _proved_closed_form(K: int, d: int, objective: str, digits: int) -> ProvedValue:
    from softmaxcode.digits import closed_form_decimal

    return closed_form_decimal(K, d, "margin" if objective == "softmax" else "max_cosine", digits)


def _proved(code: SoftmaxCode, digits: int) -> ProvedValue:
    from softmaxcode.contact_system import tammes_system
    from softmaxcode.digits import prove_margin, prove_tammes

    contacts = tammes_system(code.W, code.certificate.threshold)
    if code.objective == "tammes":
        return prove_tammes(code.W, contacts, digits)
    return prove_margin(code.W, code.H, contacts, digits)
