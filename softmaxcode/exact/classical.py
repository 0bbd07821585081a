"""Pairs whose optimum is known for every K and d (docs/theory.md, T3).

They are d = 1, d = 2, K <= d + 1 and d + 2 <= K <= 2d.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from softmaxcode.checks.arguments import check_memory, check_pair

if TYPE_CHECKING:
    from softmaxcode.types import Rows


@dataclass(frozen=True, eq=False)
class ClosedForm:
    """An optimal code for both objectives: coordinates, the two optimal values and the family's name."""

    W: Rows
    margin: float
    max_cosine: float
    name: str


def _line(K: int) -> ClosedForm:
    W = np.ones((K, 1))
    W[K // 2 :] = -1.0
    return ClosedForm(W, 2.0 if K == 2 else 0.0, -1.0 if K == 2 else 1.0, "points of the line (d = 1)")


def _polygon(K: int) -> ClosedForm:
    # angles reduced to the first octant, so that symmetric vertices have the same digits
    angle = 2 * np.pi * np.arange(K) / K
    W = np.column_stack([np.cos(angle), np.sin(angle)])
    quarter = (4 * np.arange(K)) % K == 0
    W[quarter] = np.round(W[quarter])
    if K == 3:
        margin = 1.5
    else:
        margin = 1.0 if K == 4 else float(2 * np.sin(np.pi / K) ** 2)
    cosine = {3: -0.5, 4: 0.0, 6: 0.5}.get(K, float(np.cos(2 * np.pi / K)))
    return ClosedForm(W, margin, cosine, f"regular {K}-gon (d = 2)")


def _simplex(K: int, d: int) -> ClosedForm:
    # coordinate i separates vertex i from the later ones; by construction the squares of every row sum to 1
    W = np.zeros((K, d))
    for i in range(K - 1):
        rest = K - 1 - i
        height = np.sqrt(K * rest / ((K - 1) * (rest + 1.0)))
        W[i, i] = height
        W[i + 1 :, i] = -height / rest
    W /= np.linalg.norm(W, axis=1, keepdims=True)
    return ClosedForm(W, K / (K - 1), -1 / (K - 1), f"regular simplex of {K} vertices (K <= d + 1)")


def _cross_polytope(K: int, d: int) -> ClosedForm:
    eye = np.eye(d)
    return ClosedForm(np.vstack([eye, -eye[: K - d]]), 1.0, 0.0, "vertices of the cross-polytope (d + 2 <= K <= 2d)")


def closed_form(K: int, d: int) -> ClosedForm | None:
    """The optimal code of a pair in one of the ranges solved in closed form, else None.

    Parameters
    ----------
    K : int
        Number of classes, at least 2.
    d : int
        Dimension, at least 1.

    Raises
    ------
    ValueError
        If K < 2, d < 1, either is not an integer, or the code does not fit into memory.

    References
    ----------
    docs/theory.md, T3; Rankin, "The closest packing of spherical caps in n dimensions" (1955).

    Examples
    --------
    >>> closed_form(1000, 512).margin
    1.0
    >>> closed_form(12, 3) is None
    True
    """
    K, d = check_pair(K, d)
    if d <= 2 or K <= 2 * d:
        what = f"a code of {K} x {d} coordinates"
        check_memory(what, 16 * K * (d + 8), "margin_bounds(K, d) gives its margin without coordinates")
    if d == 1:
        return _line(K)
    if K <= d + 1:
        return _simplex(K, d)
    if d == 2:
        return _polygon(K)
    if K <= 2 * d:
        return _cross_polytope(K, d)
    return None
