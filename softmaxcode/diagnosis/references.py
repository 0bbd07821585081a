"""What a margin is compared with: random rows, the best code known, and bounds that no classifier exceeds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from softmaxcode.bounds.best import margin_bounds
from softmaxcode.catalog import UnknownCodeError, look_up
from softmaxcode.certificates.loss import minimizer_margin
from softmaxcode.compare.reference import label, reference_code, weakness
from softmaxcode.margins.nearest import nearest_from_bounds
from softmaxcode.parallel.deadline import Deadline
from softmaxcode.sphere import largest_cosines, random_rows

if TYPE_CHECKING:
    from softmaxcode.code import SoftmaxCode
    from softmaxcode.storage.provenance import Evidence

#: Random classifiers drawn, as far as the time allows.
DRAWS = 9
#: Codes of up to so many multiplications K K d are measured again.
MAX_MEASURED = 10**9


@dataclass(frozen=True, eq=False)
class References:
    """Margins of other classifiers of the same size.

    Attributes
    ----------
    random : ndarray, shape (draws,)
        Margins of independent uniform rows, at least one draw.
    random_gap : float
        How much smaller the margin of a draw may be: 0 unless the time was too short for one draw, the only one then.
    code : SoftmaxCode or None
        The best code known, or None where none is stored.
    best : float or None
        Its margin.
    lower, upper : float
        Proved bounds on the largest margin of this size. The lower one includes the code's own proved margin.
    lower_method, upper_method : str
        How each is proved.
    free : float or None
        A margin that every global minimiser of the cross-entropy with free features reaches at the temperature that was
        given; None without one, or where it proves nothing.
    """

    random: np.ndarray
    random_gap: float
    code: SoftmaxCode | None
    best: float | None
    lower: float
    upper: float
    lower_method: str
    upper_method: str
    free: float | None

    @property
    def evidence(self) -> Evidence | None:
        """How hard the best code was searched."""
        return None if self.code is None else self.code.provenance.evidence

    @property
    def random_margin(self) -> float:
        """The median margin of random rows."""
        return float(np.median(self.random))

    def note(self, margin: float) -> str:
        """Whether the reference is weak, as a sentence; empty where nothing is to be noted."""
        if self.code is None or self.best is None:
            return ""
        return weakness(margin, self.best, self.evidence, self.code.K, self.code.d)

    def described(self) -> str:
        """What the best code is, and how it was made."""
        if self.code is None:
            return "no code of this size is stored"
        made, (K, d) = self.code.provenance.method, self.code.W.shape
        status = f"{self.code.certificate.status}; " if K * K * d <= MAX_MEASURED else ""
        return f"{label(self.evidence)}; {status}{made}"


def references(
    K: int, d: int, *, temperature: float | None = None, search: bool = True, seconds: float = 2.0, seed: int = 0
) -> References:
    """The references of one size.

    Parameters
    ----------
    K, d : int
        Number of classes and dimension.
    temperature : float, optional
        The temperature of the training.
    search : bool
        Whether to search for five seconds where the stored code was never searched.
    seconds : float
        Time for the random rows; at least one draw is made.
    seed : int
        Of the random rows.
    """
    random, gap = _random_margins(K, d, seconds, seed)
    bounds = margin_bounds(K, d, lp=K <= 1000)
    code = best = None
    lower, lower_method = bounds.lower, bounds.lower_method
    try:
        code = reference_code(K, d, search=search)
    except UnknownCodeError:
        pass
    else:
        best, proved = _value(code)
        if proved > lower:
            lower, lower_method = proved, "the best code known"
    free = None
    if temperature is not None:
        reached = minimizer_margin(K, min(2.0, lower), temperature)
        free = reached if reached > 0 else None
    return References(random, gap, code, best, lower, bounds.upper, lower_method, bounds.upper_method, free)


def _value(code: SoftmaxCode) -> tuple[float, float]:
    """The margin of a code and its proved lower bound; of a large code both are what it was stored with."""
    if code.K * code.K * code.d <= MAX_MEASURED:
        return code.margin, code.certificate.lower_bound
    known = look_up(code.K, code.d, "softmax")
    assert known is not None  # it made the code
    return known.value, known.value


def _random_margins(K: int, d: int, seconds: float, seed: int) -> tuple[np.ndarray, float]:
    """Margins of random rows in bounded time, and by how much the first is too large where the time ended it."""
    deadline = Deadline(seconds)
    margins: list[float] = []
    for one in np.random.SeedSequence(seed).spawn(DRAWS):
        X = random_rows(K, d, np.random.default_rng(one))
        found = nearest_from_bounds(X, 1 - largest_cosines(X), 1, deadline=deadline)
        if not found.certain:
            return (np.array(margins), 0.0) if margins else (np.array([found.margin]), found.gap)
        margins.append(found.margin)
        if deadline.passed:
            break
    return np.array(margins), 0.0
