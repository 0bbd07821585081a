"""The margin from a random sample of classes, for classifiers too large for all distances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from softmaxcode.checks.arguments import check_integer, check_jobs, check_number
from softmaxcode.margins.exact import margins
from softmaxcode.sphere import check_rows

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@dataclass(frozen=True)
class SampledMargin:
    """The smallest one-vs-rest distance among randomly drawn classes, and how many classes may be below it.

    Attributes
    ----------
    margin : float
        The smallest distance of a drawn class: an upper value of rho(W), the minimum over all classes.
    gap : float
        The largest primal-dual gap of a drawn class. The smallest distance among them is at least ``margin - gap``.
    attained_by : int
        The class with that distance.
    sampled, K : int
        Number of drawn classes, and of all classes.
    confidence : float
        A lower bound on the probability that a draw makes the statement of ``fraction`` true.
    fraction : float
        With that confidence at most ``fraction * K`` classes have a distance below ``margin - gap``. It is 0 where all
        classes were drawn; the margin is then exact.
    """

    margin: float
    gap: float
    attained_by: int
    sampled: int
    K: int
    confidence: float
    fraction: float


def sampled_margin(
    W: ArrayLike,
    classes: int = 2000,
    *,
    confidence: float = 0.95,
    seed: int = 0,
    normalize: bool = False,
    n_jobs: int = -1,
) -> SampledMargin:
    r"""The smallest one-vs-rest distance of some randomly drawn classes, each exact against all other classes.

    All K distances cost of the order of :math:`K^2 d`, those of S classes :math:`S K d`. So it replaces
    `softmaxcode.margin` for hundreds of thousands of classes and more.

    Parameters
    ----------
    W : array_like, shape (K, d)
        Unit vectors, one per row.
    classes : int
        Number S of classes drawn, without replacement, at least 1; all K if S is larger.
    confidence : float
        Between 0 and 1, neither included.
    seed : int
        Seed of the draw.
    normalize : bool
        Scale the rows to unit norm first.
    n_jobs : int
        Threads, as in joblib; -1 uses every core. Each needs about 300 MB where K is large.

    Returns
    -------
    SampledMargin
        ``margin`` and ``gap``, and the ``fraction`` of the classes that may be nearer to the rest.

    Raises
    ------
    ValueError
        If the rows are not finite unit vectors (K, d) with K >= 2, or ``classes`` is not a positive integer. Also if
        ``confidence`` is not between 0 and 1, or ``seed`` is not an integer of at least 0.

    Notes
    -----
    Order the classes by distance, ties in any way. Suppose that M or more classes are nearer to the rest than every
    drawn class. Then none of the first M was drawn, which has the probability (hypergeometric, all
    :math:`\binom{K}{S}` draws alike)

    .. math:: p(M) = \binom{K - M}{S} \Big/ \binom{K}{S} = \prod_{i < M} \frac{K - S - i}{K - i} ,

    It is exactly that probability where no two distances are equal. So with confidence c fewer than M classes are
    nearer as soon as :math:`p(M) \le 1 - c`. ``fraction`` is M/K for the largest M with :math:`p(M) > 1 - c`, the
    one-sided confidence bound on a count of a finite population. For S much smaller than K it is close to
    :math:`1 - (1 - c)^{1/S}`: 0.15 % for c = 0.95 and S = 2000.

    The statement is about the draw, for a classifier that is fixed before it. Do not choose the seed by its result.

    References
    ----------
    Buonaccorsi, A note on confidence intervals for proportions in finite populations, The American Statistician 41
    (1987), for the bound. docs/theory.md, T1, for the distances.

    Examples
    --------
    >>> import numpy as np
    >>> import softmaxcode as sc
    >>> angles = 2 * np.pi * np.arange(500) / 500
    >>> found = sc.sampled_margin(np.column_stack([np.cos(angles), np.sin(angles)]), 100)
    >>> found.sampled, found.fraction  # with 95 % confidence at most 13 of the 500 are nearer to the rest
    (100, 0.026)
    >>> round(float(found.margin / (1 - np.cos(angles[1]))), 9)  # in this code none is
    1.0
    """
    rows = check_rows(W, normalize=normalize)
    confidence = check_number("confidence", confidence, 0, 1, "()")
    K, rng = len(rows), np.random.default_rng(check_integer("seed", seed, 0))
    count = min(K, check_integer("classes", classes, 1))
    drawn = np.sort(rng.choice(K, count, replace=False))
    found = margins(rows, check_jobs(n_jobs), classes=drawn)
    nearer = _nearer_at_most(K, count, confidence)
    nearest = int(drawn[np.argmin(found.margins)])
    return SampledMargin(found.margin, found.gap, nearest, count, K, confidence, nearer / K)


def _nearer_at_most(K: int, S: int, confidence: float) -> int:
    """The largest M with p(M) > 1 - confidence, p(M) the probability that S of K classes miss all of M given ones."""
    i = np.arange(K - S)
    missed = np.cumprod((K - S - i) / (K - i))  # p(1), ..., p(K - S); more cannot all be missed
    return int(np.count_nonzero(missed > 1 - confidence))
