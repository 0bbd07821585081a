"""Rigorous lower bounds on rho(W/|W|) and 1 - mu(W/|W|) of float64 coordinates as stored.

A float64 evaluation with a proved a-priori error (docs/theory.md, "A-priori rounding bound") covers every pair. The
few pairs that decide the result are then evaluated in python-flint ball arithmetic, so the bound is sharp to the last
bit. Where too many pairs decide, only the a-priori bound is used, and the result names it.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import flint
import numpy as np

from softmaxcode.bounds.rounding import float_below
from softmaxcode.parallel.tiles import row_tiles

if TYPE_CHECKING:
    from collections.abc import Iterable

    from softmaxcode.types import PerClass, Rows

#: At most this many coordinate products are evaluated in ball arithmetic (about one second per million).
MAX_BALL_PRODUCTS = 4_000_000
_BITS = 160
#: Bound on the distance of a normalised row of float64 coordinates from the row of the exact code (docs/theory.md).
ROW_ERROR = 2.0**-48


@dataclass(frozen=True)
class RigorousBounds:
    """Lower bounds on rho and on 1 - mu of the exactly normalised rows, and the arithmetic that proves them."""

    margin: float
    one_minus_cosine: float
    arithmetic: str


def _scaled(W: Rows) -> Rows:
    return W / np.sqrt(np.einsum("kd,kd->k", W, W))[:, None]


def _ball_cosine(x: np.ndarray, y: np.ndarray) -> flint.arb:
    """<x, y> / (|x| |y|) as a ball."""
    a, b = flint.arb_mat(1, len(x), x.tolist()), flint.arb_mat(1, len(y), y.tolist())
    at, bt = a.transpose(), b.transpose()
    return (a * bt)[0, 0] / ((a * at)[0, 0] * (b * bt)[0, 0]).sqrt()


def _largest(balls: Iterable[flint.arb]) -> flint.arb:
    """A ball that contains the maximum of the numbers in the balls."""
    return functools.reduce(lambda a, b: a.max(b), balls)


def _largest_two_sided(W: Rows, H: Rows) -> tuple[PerClass, PerClass]:
    """<h_k, w_k> and the largest <h_k, w_j> over j != k, in tiles."""
    own, other = np.empty(len(W)), np.empty(len(W))
    for rows in row_tiles(len(W), W.shape[1], "rigorous bounds of all pairs"):
        C = H[rows] @ W.T
        index = np.arange(rows.stop - rows.start)
        own[rows] = C[index, rows.start + index]
        C[index, rows.start + index] = -np.inf
        other[rows] = C.max(axis=1)
    return own, other


def _pair_cosine_bound(W: Rows, error: float) -> tuple[flint.arb, str]:
    """A ball whose upper end bounds mu(W/|W|) from above."""
    U = _scaled(W)
    _, largest = _largest_two_sided(U, U)
    top = float(largest.max())
    near: list[tuple[int, int]] = []
    for i in np.flatnonzero(largest >= top - 2 * error):
        C = U[i] @ U.T
        C[i] = -np.inf
        near.extend(
            (int(i), int(j)) for j in np.flatnonzero(C >= top - 2 * error) if j > i or largest[j] < top - 2 * error
        )
        if len(near) * W.shape[1] > MAX_BALL_PRODUCTS:
            return flint.arb(top) + flint.arb(error), "a-priori rounding bound"
    # pairs outside `near` are below top - error, hence below the largest pair, which is inside
    return _largest(_ball_cosine(W[i], W[j]) for i, j in near), "ball arithmetic"


def rigorous_bounds(W: Rows, H: Rows | None = None) -> RigorousBounds:
    r"""Prove lower bounds on the margin and on one minus the largest cosine of stored coordinates.

    Class by class the margin is at least 1 - mu_k (docs/theory.md, T2). It is also at least
    min_j <h_k, w_k - w_j> / |h_k| for any h_k (T1). The better of the two is taken for each class.

    Parameters
    ----------
    W : ndarray, shape (K, d)
        Rows of norm between 1/2 and 2; they are normalised exactly in the proof.
    H : ndarray, shape (K, d), optional
        Directions to use in the second bound; without them only the first is used.

    Returns
    -------
    RigorousBounds
        Floats rounded down.
    """
    d = W.shape[1]
    # of inner products of rows scaled in float64 (docs/theory.md, "Rows scaled first"), with room for one more addition
    error = (2 * d + 12) * 2.0**-52
    with flint.ctx.workprec(_BITS):
        cosine, arithmetic = _pair_cosine_bound(W, error)
        packing = float_below(1 - cosine)
        if H is None:
            return RigorousBounds(packing, packing, arithmetic)
        U, V = _scaled(W), _scaled(H)
        own, other = _largest_two_sided(U, V)
        dual = own - other
        _, pair = _largest_two_sided(U, U)
        by_class = np.maximum(dual, 1 - pair)  # float estimates of each class's better bound
        target = float(by_class.min())
        if target <= packing + 2 * error:  # no class gains more than rounding may explain
            return RigorousBounds(packing, packing, arithmetic)
        deciding = np.flatnonzero(by_class <= target + 4 * error)
        if len(deciding) * d * 2 * d > MAX_BALL_PRODUCTS:
            return RigorousBounds(max(packing, target - 2 * error), packing, "a-priori rounding bound")
        proved = flint.arb(target + 2 * error)  # the other classes are above this by the a-priori bound
        for k in deciding:
            proved = proved.min(_ball_class_bound(W, H, U, V, int(k), error))
        return RigorousBounds(max(packing, float_below(proved)), packing, arithmetic)


def exact_rounding(d: int) -> float:
    """Bound on the error of a cosine of an exact code's float64 coordinates against the value proved for the family.

    A normalised stored row is off by at most `ROW_ERROR`, so a cosine by twice that. The bound on cosines is itself
    rounded. For a subset of a family it is an inner product of float64 rows (d + 2 roundings).
    """
    return (d + 70) * 2.0**-53


def exact_bounds(max_cosine: float, d: int, margin: float | None = None) -> RigorousBounds:
    """Lower bounds for the float64 coordinates of an exact code, without a pass over its pairs (docs/theory.md).

    Parameters
    ----------
    max_cosine : float
        The proved bound on the largest cosine of the exact code.
    d : int
        Dimension.
    margin : float, optional
        The margin of a closed form: 1 - mu, relatively accurate where that is small.
    """
    with flint.ctx.workprec(_BITS):
        if margin is None:
            least = 1 - flint.arb(max_cosine) - flint.arb((d + 4) * 2.0**-53)
        else:
            least = flint.arb(margin) * flint.arb(1 - 2.0**-49)
        root = least.max(flint.arb(0)).sqrt() - flint.arb(2).sqrt() * flint.arb(ROW_ERROR)
        value = float_below(root * root) if root > 0 else 0.0
    return RigorousBounds(value, value, "exact construction")


def _ball_class_bound(W: Rows, H: Rows, U: Rows, V: Rows, k: int, error: float) -> flint.arb:
    """A ball whose lower end bounds one class's distance from below: the better of the two bounds."""
    best = None
    for h, scaled in ((W[k], U[k]), (H[k], V[k])):
        C = U @ scaled
        C[k] = -np.inf
        near = np.flatnonzero(C >= C.max() - 2 * error)
        worst = _largest(_ball_cosine(h, W[j]) for j in near)
        own = flint.arb(1) if h is W[k] or np.array_equal(h, W[k]) else _ball_cosine(h, W[k])
        bound = own - worst
        if best is None or float(bound.lower()) > float(best.lower()):
            best = bound
    assert best is not None
    return best
