r"""Balanced stresses of given contacts, and infinitesimal rigidity (docs/theory.md, T4, T5 and rigidity).

At fixed unit vectors the first-order conditions require non-negative weights of sum 1 on the contacts whose weighted
tangential gradients cancel. The weights that come nearest to this solve a convex quadratic programme,

.. math:: \min_\lambda \tfrac12 \|J^\top \lambda\|^2, \qquad \lambda \ge 0, \; \sum\lambda = 1,

solved here by a primal-dual interior-point method. Its path tends to the analytic centre of the solutions. So every
contact that can carry stress does, as the rigidity test requires.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import linalg

from softmaxcode.contacts.interior_point import longest_step, newton_direction
from softmaxcode.contacts.system import lagrangian_hessian, rotations, tangent_basis

if TYPE_CHECKING:
    from scipy import sparse

    from softmaxcode.contacts.system import ContactSystem
    from softmaxcode.types import Mask, PerContact, Rows

#: Stresses and rigidity are computed up to this many tangent unknowns (dense n x n matrices).
MAX_STRESS_UNKNOWNS = 4000
#: A stress this small relative to the largest counts as zero.
NO_STRESS = 1e-8
#: Projections on the balanced stresses; each that drops no contact squares the error, down to rounding.
MAX_PROJECTIONS = 30
#: A norm of unbalanced forces below this is rounding.
BALANCED = 1e-13
#: If the programme ends with unbalanced forces above this, they are not rounding: there is no balanced stress.
NEARLY_BALANCED = 1e-6
#: The quadratic programme factors about thirty such matrices; above this many unknowns a projection is tried first.
LARGE = 2500


@dataclass(frozen=True, eq=False)
class Stress:
    """Stresses of sum 1 on the contacts, which of them are positive, and the violation of first-order conditions.

    ``unbalanced`` is the norm of the unbalanced forces. ``complementarity`` is the stress-weighted mean of each
    contact's distance from being active. ``residual`` is the larger of the two.
    """

    weights: PerContact
    positive: Mask
    unbalanced: float
    complementarity: float = 0.0

    @property
    def residual(self) -> float:
        """The larger of the two violations of the optimality conditions."""
        return max(self.unbalanced, self.complementarity)


def balance(system: ContactSystem, X: Rows) -> Stress:
    """The most balanced stress on the inequalities of ``system`` at unit rows X, with its residual.

    Among the balanced stresses it is one with weight on every contact that can have some. Above ``LARGE`` unknowns it
    may be positive on fewer contacts.
    """
    stress = _balance(system, X)
    values = system.values(X)
    complementarity = float(stress.weights @ (values - values.min()))
    return replace(stress, complementarity=complementarity)


def _balance(system: ContactSystem, X: Rows) -> Stress:
    """`balance` without the complementarity."""
    E = len(system)
    kept = system.stressable(len(X))
    if len(kept) < E:  # stresses on the others are 0
        if not len(kept):
            J = system.jacobian(X, tangent_basis(X))
            weights = np.full(E, 1.0 / E)
            return Stress(weights, np.zeros(E, dtype=bool), float(np.linalg.norm(J.T @ weights)))
        inner = _balance(kept, X)
        index = _positions(kept, system, len(X))
        weights, positive = np.zeros(E), np.zeros(E, dtype=bool)
        weights[index], positive[index] = inner.weights, inner.positive
        return Stress(weights, positive, inner.unbalanced)
    local, Y = system.compressed(X)
    J = local.jacobian(Y, tangent_basis(Y))
    weights = np.full(E, 1.0 / E)
    projected = _rebalance(J, weights)
    residual = float(np.linalg.norm(J.T @ projected))
    if residual < BALANCED and projected.min() > 1e-6 / E:  # all contacts carry stress, as in most codes
        return Stress(projected, projected > NO_STRESS * projected.max(), residual)
    if J.shape[1] > LARGE:
        projected = _rebalance(J, weights, may_vanish=True)
        residual = float(np.linalg.norm(J.T @ projected))
        if residual < BALANCED:
            return Stress(projected, projected > 0, residual)
    # the dual programme: maximise m - |y|^2 / 2 over motions y with J y >= m; at the optimum y = -J^T weights
    y = np.zeros(J.shape[1])
    slack = np.full(E, 1.0)
    m = -1.0
    for _ in range(80):
        barrier = 0.1 * float(slack @ weights) / E
        gap = J @ y - m - slack
        newton = newton_direction(J, 1.0, y, gap, slack, weights, barrier, 1e-4)
        if newton is None:
            break
        alpha = longest_step(slack, newton.slack, 0.99)
        alpha_w = longest_step(weights, newton.weights, 0.99)
        y = y + alpha * newton.y
        m += alpha * newton.level
        slack = slack + alpha * newton.slack
        weights = weights + alpha_w * newton.weights
        mean = float(slack @ weights) / E
        if mean * E < 1e-18 or (alpha < 1e-6 and alpha_w < 1e-6):
            break
    weights = weights / weights.sum()
    if np.linalg.norm(J.T @ weights) < NEARLY_BALANCED:  # otherwise there is no balanced stress to project on
        weights = _rebalance(J, weights, may_vanish=True)
    return Stress(weights, weights > 0, float(np.linalg.norm(J.T @ weights)))


def _positions(part: ContactSystem, whole: ContactSystem, N: int) -> np.ndarray:
    """The index in ``whole`` of each inequality of ``part``."""
    keys, wanted = whole.a * N + whole.b, part.a * N + part.b
    order = np.argsort(keys)
    return order[np.searchsorted(keys, wanted, sorter=order)]


def _rebalance(J: sparse.csr_array, weights: PerContact, *, may_vanish: bool = False) -> PerContact:
    """Project weights on the balanced stresses, keeping relative changes small.

    If the projection takes a weight to zero or below, it ends. If weights ``may_vanish``, that contact instead carries
    no stress, and the others are projected again.

    Some contacts of a code may be needed by no balanced stress. There the central path ends with weights and slacks
    that are equally small, and rounding decides which is larger. The projection separates them: it takes such weights
    to zero to rounding, and leaves the others nearly unchanged.
    """
    best, least = weights, np.inf
    for _ in range(MAX_PROJECTIONS):
        A = (J.T @ J.multiply(weights[:, None]).tocsr()).toarray()
        A[np.diag_indices_from(A)] += 1e-13 * max(float(A.trace()) / len(A), 1e-300)
        try:
            correction = linalg.cho_solve(linalg.cho_factor(A, lower=True), J.T @ weights)
        except linalg.LinAlgError:
            break
        moved = weights - weights * (J @ correction)
        if not np.isfinite(moved).all() or moved.max() <= 0:
            break
        lost = (moved <= NO_STRESS * moved.max()) & (weights > 0)
        if lost.any() and not may_vanish:
            break
        moved[lost] = 0.0
        weights = moved / moved.sum()
        residual = float(np.linalg.norm(J.T @ weights))
        if lost.any() or residual < least:
            best, least = weights, residual
        else:
            break
    return best


def rigidity(system: ContactSystem, X: Rows, stress: Stress) -> str:
    """The rigidity of the vectors that meet a stressed contact.

    It holds whatever the other vectors do: the smallest value on the stressed contacts cannot increase
    (docs/theory.md, "What rigidity means here").

    Numerical evidence, not a proof: eigenvalues count as zero below 1e-10 (of J^T J) and below 1e-6 of its scale
    (of the Hessian).

    Returns
    -------
    str
        ``"infinitesimal"`` if the contacts, as bars, allow only rotations. ``"second order"`` if the Hessian of the
        Lagrangian excludes the motions that they allow (the second-order sufficient condition). ``"none"`` otherwise.
        With either of the first two the code is a local optimum. It is strict up to rotation and the motion of vectors
        that meet no stressed contact (rattlers among them).
    """
    if not stress.positive.any():
        return "none"
    local, Y = system.subset(stress.positive).compressed(X)
    basis = tangent_basis(Y)
    J = local.jacobian(Y, basis)
    turning = rotations(Y, basis)
    M = (J.T @ J).toarray() + turning @ turning.T
    if _is_definite(M, 1e-10):
        return "infinitesimal"
    hessian = lagrangian_hessian(local, Y, basis, stress.weights[stress.positive])
    scale = float(np.abs(np.diagonal(hessian)).max())
    return "second order" if _is_definite(hessian + 1e8 * scale * M, 1e-6 * scale) else "none"


def _is_definite(A: np.ndarray, least: float) -> bool:
    """Whether the symmetric matrix A - least I is positive definite."""
    A = A.copy()
    A[np.diag_indices_from(A)] -= least
    try:
        linalg.cholesky(A, lower=True, overwrite_a=True, check_finite=False)
    except linalg.LinAlgError:
        return False
    return True
