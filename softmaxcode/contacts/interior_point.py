r"""The Newton step of both polishing and balancing stresses.

Both maximise a level m subject to E inequalities (linearised: values + J y >= m) with a curvature matrix M:

.. math:: M y - J^\top w = -q, \quad \sum w = 1, \quad v + J y - m - s = 0, \quad s_e w_e = \tau .

Eliminating slacks and weights, then the level, leaves one symmetric system in y.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import linalg

from softmaxcode.parallel.compiled import compiled

if TYPE_CHECKING:
    from scipy import sparse

#: Multiples of the Hessian's scale, added in turn until the Newton matrix is positive definite.
_SHIFTS = (1e-9, 1e-2, 1e-1, 1.0, 10.0, 100.0)


@dataclass(frozen=True, eq=False)
class Direction:
    """A Newton step: unknowns, level, slacks, weights, and the index of the required shift."""

    y: np.ndarray
    level: float
    slack: np.ndarray
    weights: np.ndarray
    shift: int


def solve_shifted(A: np.ndarray, rhs: np.ndarray, scale: float, first: int = 0) -> tuple[np.ndarray, int] | None:
    """Solve A x = rhs for symmetric A with the smallest multiple of the identity added that makes it definite.

    Only the lower triangle of ``A`` is read, and it is overwritten. The first shift tried is number ``first``; None if
    even the largest shift fails.
    """
    index = np.diag_indices_from(A)
    diagonal = A[index].copy()
    for used in range(first, len(_SHIFTS)):
        A[index] = diagonal + _SHIFTS[used] * scale
        try:
            factor = linalg.cho_factor(A, lower=True, check_finite=False)
        except linalg.LinAlgError:
            continue
        return linalg.cho_solve(factor, rhs, check_finite=False), used
    return None


@compiled()
def _add_normal_matrix(A, begin, index, data, D, column, corner):
    """Add J^T D J - column column^T / corner to the lower triangle of A, for J in compressed sparse rows."""
    for e in range(D.size):
        for p in range(begin[e], begin[e + 1]):
            i = index[p]
            a = D[e] * data[p]
            for q in range(begin[e], begin[e + 1]):
                j = index[q]
                if j <= i:
                    A[i, j] += a * data[q]
    for i in range(column.size):
        a = column[i] / corner
        for j in range(i + 1):
            A[i, j] -= a * column[j]


def newton_direction(
    J: sparse.csr_array,
    M: np.ndarray | float,
    q: np.ndarray | float,
    gap: np.ndarray,
    slack: np.ndarray,
    weights: np.ndarray,
    barrier: float,
    scale: float,
    first: int = 0,
) -> Direction | None:
    """One primal-dual step; ``gap`` is v - m - s, ``M`` a dense matrix or a multiple of the identity."""
    D = weights / slack
    target = barrier / slack - D * gap
    column = -(J.T @ D)
    corner = float(D.sum())
    A = np.zeros((J.shape[1], J.shape[1]))
    if np.ndim(M) == 0:
        A[np.diag_indices_from(A)] = M
    else:
        A[:] = M
    _add_normal_matrix(A, J.indptr, J.indices, J.data, D, column, corner)
    rhs_level = 1.0 - float(target.sum())
    solved = solve_shifted(A, J.T @ target - q - column * (rhs_level / corner), scale, first)
    if solved is None:
        return None
    y, used = solved
    level = (rhs_level - float(column @ y)) / corner
    ds = J @ y - level + gap
    return Direction(y, level, ds, target - weights - D * (ds - gap), used)


def longest_step(value: np.ndarray, change: np.ndarray, fraction: float) -> float:
    """The longest step, at most 1, after which every entry of ``value`` keeps at least 1 - ``fraction`` of itself."""
    falling = change < 0
    return min(1.0, fraction * float(np.min(-value[falling] / change[falling]))) if falling.any() else 1.0
