"""The rank of logits and its cost: effective rank, Schatten cost, and the code of a truncation."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from softmaxcode.catalog import best_known
from softmaxcode.checks.arguments import check_integer, check_number
from softmaxcode.margins.exact import margins, smallest_margin
from softmaxcode.sphere import unit_rows

if TYPE_CHECKING:
    from softmaxcode.types import Rows


#: A singular value below this fraction of the largest counts as 0.
RANK_THRESHOLD = 0.01


@dataclass(frozen=True, eq=False)
class LowRankCode:
    """The code computed from logits truncated at rank r.

    Attributes
    ----------
    W : ndarray, shape (K, r)
        Classifier, one class per row, not normalised: the norms may differ.
    H : ndarray, shape (K, r)
        Features, the sample of one class per row.
    margin : float
        Exact margin rho of the unit rows of W.
    best_margin : float
        Margin of the best known Softmax Code of K classes in r dimensions.
    gnc3 : float
        1 minus the mean cosine of the rows of W with those of H.
    norm_spread : float
        Standard deviation of the row norms of W over their mean; 0 if all are equal.
    """

    W: Rows
    H: Rows
    margin: float
    best_margin: float
    gnc3: float
    norm_spread: float

    @property
    def margin_ratio(self) -> float:
        """Margin divided by that of the best known code; NaN for a rank at which no code has a margin."""
        return self.margin / self.best_margin if self.best_margin > 0 else math.nan


def ranks(singular_values: Tensor, threshold: float = RANK_THRESHOLD) -> dict[str, Tensor]:
    r"""Three measures of rank.

    .. math:: \text{effective} = \exp\Bigl(-\sum_i p_i \log p_i\Bigr), \; p_i = \frac{s_i}{\sum_j s_j}, \qquad
              \text{stable} = \frac{\sum_i s_i^2}{s_1^2}, \qquad \text{numerical} = \#\{i : s_i > t\, s_1\}

    Parameters
    ----------
    singular_values : Tensor, shape (B, K)
        In decreasing order, the first positive.
    threshold : float
        The fraction t of the largest, from 0 up to 1.

    Returns
    -------
    dict of Tensor, shape (B,)
        ``effective_rank``, ``stable_rank`` and ``rank``.

    Raises
    ------
    ValueError
        If the threshold is not such a number.

    References
    ----------
    O. Roy, M. Vetterli, The effective rank: a measure of effective dimensionality, EUSIPCO 2007.

    Examples
    --------
    >>> {name: value.item() for name, value in ranks(torch.tensor([[2.0, 2.0, 0.0]])).items()}
    {'effective_rank': 2.0, 'stable_rank': 2.0, 'rank': 2}
    """
    threshold = check_number("threshold", threshold, 0, 1, "[)")
    s = singular_values / singular_values[:, :1]
    p = s / s.sum(dim=1, keepdim=True)
    entropy = -torch.special.xlogy(p, p).sum(dim=1)
    return {
        "effective_rank": entropy.exp(),
        "stable_rank": s.square().sum(dim=1),
        "rank": (s > threshold).sum(dim=1),
    }


def schatten_cost(singular_values: Tensor, margin: Tensor, depth: int) -> Tensor:
    r"""The least mean squared norm of the L factors of these logits, scaled to margin 1; balanced weights attain it.

    .. math:: c_L(Z) = \sum_i (s_i / m)^{2/L}
              = \frac1L \min \Bigl\{\sum_l \lVert W_l\rVert_F^2 : W_L \cdots W_1 = Z / m\Bigr\}

    Parameters
    ----------
    singular_values : Tensor, shape (B, K)
        Singular values s of the logits Z.
    margin : Tensor, shape (B,)
        Their smallest margin m.
    depth : int
        Number of factors L.

    Returns
    -------
    Tensor, shape (B,)
        The cost; NaN where the margin is not positive.

    Notes
    -----
    The second equation, for factors at least as wide as the rank of Z, is proved in ``docs/deep-ufm.md``.

    Examples
    --------
    >>> simplex = torch.tensor([[1.0, 1.0, 0.0]])
    >>> schatten_cost(simplex, torch.tensor([1.0]), 4).tolist()
    [2.0]
    """
    m = torch.where(margin > 0, margin, math.nan)
    return (singular_values / m[:, None]).pow(2 / depth).sum(dim=1)


def code_costs(K: int, depth: int) -> dict[int, float]:
    r"""The `schatten_cost` of the best known Softmax Code of K classes at every rank r at which one exists.

    Let :math:`w_k` be its unit rows, :math:`\rho_k` its margins and :math:`h_k` the unit vectors that attain them. The
    logits :math:`z_{jk} = \langle w_j, h_k\rangle / \rho_k` have margin 1 at every sample. A tight frame with
    :math:`h_k = w_k` and equal margins :math:`\rho` has :math:`c_L = r\,(K / (r \rho))^{2/L}`.

    Parameters
    ----------
    K : int
        Number of classes, at least 2.
    depth : int
        Number of factors L, at least 2.

    Returns
    -------
    dict of int to float
        Costs by rank, from 2 (1 for K = 2) to K - 1. The last is the simplex, which costs K - 1 at every depth. Each is
        an upper value: other logits of that rank can cost less.

    Raises
    ------
    ValueError
        If an argument is not as above. If no code is known at some rank, it is `softmaxcode.UnknownCodeError`.

    Examples
    --------
    >>> {r: round(cost, 3) for r, cost in code_costs(6, 4).items()}
    {2: 4.899, 3: 4.243, 4: 4.828, 5: 5.0}
    """
    K = check_integer("K", K, 2)
    depth = check_integer("depth", depth, 2)
    found = {}
    for r in range(min(2, K - 1), K):
        Z = torch.from_numpy(_logits_of_margin_one(K, r))
        s = torch.linalg.svdvals(Z)[None, :r]  # later values are rounding, which small powers would make count
        found[r] = schatten_cost(s, torch.ones(1, dtype=torch.float64), depth).item()
    return found


@functools.cache
def _logits_of_margin_one(K: int, r: int) -> np.ndarray:
    code = best_known(K, r)
    each = margins(code.W)
    return code.W @ (each.H / each.margins[:, None]).T


def low_rank_code(Z: np.ndarray, r: int) -> LowRankCode:
    r"""The code of the rank-r part of logits, shared equally between classifier and features.

    .. math:: Z \approx U_r S_r V_r^\top, \qquad W = U_r S_r^{1/2}, \quad H = V_r S_r^{1/2}

    Parameters
    ----------
    Z : ndarray, shape (K, K)
        Logits; column k is the sample of class k.
    r : int
        Rank, from 1 to K.

    Returns
    -------
    LowRankCode
        Classifier, features and their measurements.

    Raises
    ------
    ValueError
        If r is not an integer from 1 to K.

    Examples
    --------
    >>> import numpy as np, softmaxcode as sc
    >>> octahedron = sc.best_known(6, 3).W
    >>> code = low_rank_code(octahedron @ octahedron.T, 3)
    >>> round(code.margin_ratio, 12), abs(round(code.gnc3, 12)), round(code.norm_spread, 12)
    (1.0, 0.0, 0.0)
    """
    K = len(Z)
    r = check_integer("r", r, 1)
    if r > K:
        raise ValueError(f"r must be at most K = {K}; got {r}")
    U, s, Vt = np.linalg.svd(Z)
    W, H = U[:, :r] * np.sqrt(s[:r]), Vt[:r].T * np.sqrt(s[:r])
    unit_W, unit_H = unit_rows(W), unit_rows(H)
    norms = np.linalg.norm(W, axis=1)
    return LowRankCode(
        W,
        H,
        margin=smallest_margin(unit_W).margin,
        best_margin=best_known(K, r).margin,
        gnc3=float(1 - (unit_W * unit_H).sum(axis=1).mean()),
        norm_spread=float(norms.std() / norms.mean()),
    )
