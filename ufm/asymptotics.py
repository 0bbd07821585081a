r"""Convergence of the margin of a minimiser to the optimum as the temperature falls (docs/theory.md, T10).

Near a Softmax Code of margin rho* the minimisers of the cross-entropy lose margin in proportion to the temperature,

.. math:: \rho^\star - \rho(W_\tau) = c\,\tau + o(\tau),

and the constant depends on the code alone: it follows from the HardMax stress of largest entropy on its contacts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import optimize, special

from softmaxcode.certificates.certificate import CONTACT_THRESHOLD, RESIDUAL_TOLERANCE
from softmaxcode.checks.arguments import check_integer
from softmaxcode.checks.limits import NotComputed
from softmaxcode.code import SoftmaxCode
from softmaxcode.contacts.stress import MAX_STRESS_UNKNOWNS, Stress, balance, rigidity
from softmaxcode.contacts.system import hardmax_system, tangent_basis

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from softmaxcode.contacts.system import ContactSystem
    from softmaxcode.types import Mask, Pairs, PerClass, PerContact, Rows

#: Singular values of the contacts' gradients, which are of order 1, count as 0 below this.
NO_SLOPE = 1e-9
#: Stress at most this on unstressed contacts is solver error: the linear programme meets constraints to 1e-7.
PROGRAMME_TOLERANCE = 1e-6
#: The most Newton steps; ten are rarely needed.
MAX_STEPS = 100


@dataclass(frozen=True, eq=False)
class FirstOrder:
    r"""First-order constants of the minimisers of the cross-entropy near a code, all in units of the temperature.

    With :math:`\lambda` the stress of largest entropy, as :math:`\tau \to 0`,

    .. math:: \log(K L_\tau) + \rho/\tau \to \texttt{loss}, \qquad
              (\rho - m_\tau)/\tau \to \texttt{feature\_margin}, \qquad
              (\rho - \rho(W_\tau))/\tau \to \texttt{margin} .

    Attributes
    ----------
    optimum : float
        The margin rho of the code itself.
    loss : float
        Ent(lambda), the entropy in nats.
    feature_margin : float
        Ent(lambda) + log max lambda: the loss of margin of the pair (W, H). At least ``margin``.
    margin : float
        The constant c >= 0 of the classifier's margin: the largest of ``class_margins``.
    pairs : ndarray, shape (E, 2)
        The contacts (k, j) that carry stress.
    stress : ndarray, shape (E,)
        The stress of largest entropy on them: positive, of sum 1.
    class_stress : ndarray, shape (K,)
        lambda_k, the sum of the stresses of pairs (k, j).
    class_margins : ndarray, shape (K,)
        c_k with rho_k(W_tau) = rho - c_k tau + o(tau). It is nan for a class without stress, whose distance exceeds
        rho by more than any multiple of tau.
    contacts : int
        Number of all contacts, with stress or without.
    next_gap : float
        Distance above rho of the nearest pair that is not a contact; inf if there is none. The limits are approached
        only where tau is well below it.
    residual : float
        Norm of the forces that the stress leaves unbalanced.
    rigidity : {"infinitesimal", "second order", "none"}
        The rigidity of the vectors in stressed contacts. The limits are theorems for the first two. For ``"none"`` it
        is only proved that ``loss`` is an upper value of the first.
    """

    optimum: float
    loss: float
    feature_margin: float
    margin: float
    pairs: Pairs
    stress: PerContact
    class_stress: PerClass
    class_margins: PerClass
    contacts: int
    next_gap: float
    residual: float
    rigidity: str

    @property
    def unstressed(self) -> np.ndarray:
        """Classes whose own contacts carry no stress, integer array."""
        return np.flatnonzero(self.class_stress == 0)


def first_order(code: SoftmaxCode | ArrayLike) -> FirstOrder:
    r"""First-order constants of the minimisers of the cross-entropy near a locally optimal code.

    Let :math:`a_e` be the gradient of :math:`\langle h_k, w_k - w_j\rangle` on the spheres. The stresses on the
    contacts are the :math:`\lambda \ge 0` with :math:`\sum \lambda_e = 1` and :math:`\sum \lambda_e a_e = 0`. Newton's
    method finds the one of largest entropy from the convex dual,

    .. math:: \mathrm{Ent}(\lambda) = \min_u \log \sum_e e^{-a_e \cdot u}, \qquad
              \lambda_e = e^{-a_e \cdot u - \mathrm{Ent}(\lambda)},

    and a linear programme over all optimal weights of a class's contacts gives the margin of class k,

    .. math:: c_k = \mathrm{Ent}(\lambda) + \max_\alpha \sum_j \alpha_j \log \lambda_{kj}, \qquad
              \alpha \ge 0, \; \sum_j \alpha_j = 1, \; P_{h_k} \sum_j \alpha_j (w_k - w_j) = 0 .

    Parameters
    ----------
    code : SoftmaxCode or array_like, shape (K, d)
        A polished code of positive margin, K >= 3 and d >= 2. The limits hold if it is a local maximiser of the margin.

    Returns
    -------
    FirstOrder
        The constants and the stress.

    Raises
    ------
    ValueError
        If the rows are not finite unit vectors, K = 2, d = 1, or the margin is 0.
    NotComputed
        If 2 K (d - 1) exceeds the limit of dense matrices, or the contacts do not balance to 1e-10.

    Notes
    -----
    Contacts that no stress can use are dropped: a linear programme shows that they cannot carry any. At the minimisers
    they are above rho by more than any multiple of tau. Rows in no stressed contact (rattlers) may be anywhere.

    References
    ----------
    docs/theory.md, T10.

    Examples
    --------
    The icosahedron has constant 0; without one vertex the constant is positive.

    >>> import softmaxcode as sc
    >>> icosahedron = first_order(sc.solve(12, 3))
    >>> len(icosahedron.pairs), round(icosahedron.margin, 9)
    (60, 0.0)
    >>> round(first_order(sc.solve(11, 3)).margin, 6)
    0.310573
    """
    if not isinstance(code, SoftmaxCode):
        code = SoftmaxCode.from_rows(code)
    K, d = code.K, code.d
    if K < 3 or d < 2:
        raise ValueError(
            f"at least three rows of two entries or more are wanted; got shape {code.W.shape} "
            "(two classes have opposite vectors at every temperature)"
        )
    if 2 * K * (d - 1) > MAX_STRESS_UNKNOWNS:
        raise NotComputed(f"not computed: {2 * K * (d - 1)} unknowns 2 K (d - 1) (the limit is {MAX_STRESS_UNKNOWNS})")
    if code.margin <= CONTACT_THRESHOLD:
        raise ValueError(f"the margin must be above 0; got {code.margin:.3g} (two rows coincide)")
    X = np.vstack([code.W, code.H])
    system = hardmax_system(code.W, code.H, CONTACT_THRESHOLD)
    balanced = balance(system, X)
    _check_residual(balanced.residual)
    _check_idle(system, X, balanced.positive)
    stressed = system.subset(balanced.positive)
    J = stressed.jacobian(X, tangent_basis(X)).toarray()
    weights = _largest_entropy(J)
    residual = float(np.linalg.norm(J.T @ weights))
    _check_residual(residual)
    loss = float(special.entr(weights).sum())
    class_margins = loss + _best_mean_logs(stressed, X, weights)
    stress = Stress(weights, np.ones(len(stressed), dtype=bool), residual)
    return FirstOrder(
        optimum=code.margin,
        loss=loss,
        feature_margin=loss + float(np.log(weights.max())),
        margin=max(0.0, float(np.nanmax(class_margins))),  # at least 0 up to rounding
        pairs=np.column_stack([stressed.c, stressed.b]),
        stress=weights,
        class_stress=np.bincount(stressed.c, weights, K),
        class_margins=class_margins,
        contacts=len(system),
        next_gap=_gap_above_contacts(code),
        residual=residual,
        rigidity=rigidity(stressed, X, stress),
    )


def margin_constant_bound(contacts: int) -> float:
    r"""The largest value that `FirstOrder.feature_margin`, and so `FirstOrder.margin`, can have on E stressed contacts.

    .. math:: \max_p \bigl[\mathrm{Ent}(p) + \log \max_e p_e\bigr] = W_0\bigl((E - 1)/e\bigr) \le \log E

    over all probability vectors of E entries, with :math:`W_0` Lambert's function.

    Parameters
    ----------
    contacts : int
        Number E of contacts with stress, at least 1; K (K - 1) bounds it for every code.

    Returns
    -------
    float
        The bound, in units of the temperature.

    Raises
    ------
    ValueError
        If ``contacts`` is not an integer of at least 1.

    References
    ----------
    docs/theory.md, T10 (e).

    Examples
    --------
    For comparison, the constant of T6 (c) is log((e - 1) K (K - 1)) = 9.74 for K = 100:

    >>> round(margin_constant_bound(100 * 99), 2)
    6.35
    """
    return float(special.lambertw((check_integer("contacts", contacts, 1) - 1) / math.e).real)


def _gap_above_contacts(code: SoftmaxCode) -> float:
    """Distance from the margin up to the smallest <h_k, w_k - w_j> of pairs that are not contacts."""
    C = code.H @ code.W.T
    above = np.diagonal(C)[:, None] - C - code.margin
    np.fill_diagonal(above, np.inf)
    return float(np.where(above > CONTACT_THRESHOLD, above, np.inf).min())


def _check_residual(residual: float) -> None:
    """Raise `NotComputed` where the contacts are not balanced."""
    if not residual <= RESIDUAL_TOLERANCE:
        raise NotComputed(
            f"not computed: the contacts leave a force of {residual:.1e}, and at most {RESIDUAL_TOLERANCE:g} is "
            "wanted: this is no polished local maximiser of the margin (softmaxcode.solve returns polished ones)"
        )


def _check_idle(system: ContactSystem, X: Rows, positive: Mask) -> None:
    """Raise `NotComputed` if a stress could use contacts to which the computed one gives none."""
    idle = ~positive
    if not idle.any():
        return
    J = system.jacobian(X, tangent_basis(X))
    carried = float(_best_weights(J.toarray(), idle.astype(float))[idle].sum())
    if carried > PROGRAMME_TOLERANCE:
        raise NotComputed(
            f"not computed: {np.count_nonzero(idle)} of {len(system)} contacts carry no stress as found, but could "
            f"carry {carried:.1e} of it; the contacts are not resolved"
        )


def _best_weights(A: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The weights p >= 0 of sum 1 with A^T p = 0 and the largest mean of the values, by linear programming."""
    programme = optimize.linprog(
        -values, A_eq=np.vstack([A.T, np.ones(len(A))]), b_eq=np.append(np.zeros(A.shape[1]), 1.0)
    )
    return np.asarray(programme.x)


def _largest_entropy(J: np.ndarray) -> PerContact:
    """The weights p > 0 of sum 1 and largest entropy with J^T p = 0, for J (E, n) that some positive weights balance.

    With J = U S V^T and z = S V^T u the dual is min_z log sum exp(-U z). Its Hessian U^T (diag p - p p^T) U is
    definite, since U z is not constant for z != 0 (positive weights balance it).
    """
    U, sizes, _ = np.linalg.svd(J, full_matrices=False)
    U = U[:, sizes > NO_SLOPE]
    z = np.zeros(U.shape[1])
    for _ in range(MAX_STEPS):
        p = special.softmax(-U @ z)
        gradient = -U.T @ p
        step = -np.linalg.solve((U.T * p) @ U - np.outer(gradient, gradient), gradient)
        slope = float(gradient @ step)
        if slope > -1e-28:
            break
        value, size = special.logsumexp(-U @ z), 1.0
        # near the optimum rounding hides the decrease, and full steps are correct
        while slope < -1e-12 and special.logsumexp(-U @ (z + size * step)) > value + 0.25 * size * slope:
            size /= 2
        z = z + size * step
    return special.softmax(-U @ z)


def _best_mean_logs(stressed: ContactSystem, X: Rows, weights: PerContact) -> PerClass:
    """max_alpha sum_j alpha_j log weight_kj over the optimal weights of class k, shape (K,); nan without contacts."""
    K = len(X) // 2
    basis = tangent_basis(X)
    best = np.full(K, np.nan)
    for k in np.unique(stressed.c):
        own = stressed.c == k
        logs = np.log(weights[own])
        best[k] = _best_weights((X[k] - X[stressed.b[own]]) @ basis[K + k], logs) @ logs
    return best
