r"""From the 1e-4 … 1e-7 of a search to machine precision: a primal-dual interior-point method on the contacts.

It maximises m subject to g_e(X) >= m for the near-contacts e of a `ContactSystem`. It uses the exact Hessian of the
Lagrangian on the product of spheres. The interior-point path selects the active contacts. Where the stresses are not
unique, the path stays bounded and tends to their analytic centre. This occurs for degenerate contact graphs with more
contacts than unknowns, such as E8's. The regularisation keeps rattlers in place; they are centred afterwards. A few
multiplier (equality-constrained Newton) steps on the contacts remove the last rounding.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import linalg, optimize

from softmaxcode.contacts.interior_point import longest_step, newton_direction, solve_shifted
from softmaxcode.contacts.stress import NO_STRESS
from softmaxcode.contacts.system import (
    ContactSystem,
    hardmax_system,
    lagrangian_hessian,
    move,
    tammes_system,
    tangent_basis,
)
from softmaxcode.sphere import gram, tangential

if TYPE_CHECKING:
    from collections.abc import Callable

    from softmaxcode.types import Mask, PerContact, Rows

#: The most tangent unknowns for the dense factorisation (memory and time grow as n^2 and n^3).
MAX_POLISH_UNKNOWNS = 4500
#: The usual number of Newton steps of a polish, and the cost of a step in Cholesky factorisations of the same size.
TYPICAL_STEPS = 45
STEP_COST = 3.0
#: The barrier parameter at which the interior-point phase ends.
_LAST_BARRIER = 1e-17
#: Polishing ends at a residual below this, or after this many passes.
CONVERGED = 1e-12
MAX_PASSES = 5


@dataclass(frozen=True, eq=False)
class Polished:
    """A polished configuration: unit vectors, the value m, contacts, their stresses and the first-order residual."""

    X: Rows
    value: float
    contacts: ContactSystem
    stresses: PerContact
    residual: float


def _first_order_residual(system: ContactSystem, X: Rows, weights: PerContact) -> float:
    """Norm of the tangential parts of sum_e weights_e grad g_e."""
    return float(np.linalg.norm(tangential(X, system.gradient(X, weights))))


def _barrier_level(values: PerContact, barrier: float) -> float:
    """The m below all values with sum_e barrier / (g_e - m) = 1."""
    low, high = values.min() - barrier * len(values), values.min() - barrier
    for _ in range(100):
        middle = 0.5 * (low + high)
        if np.sum(barrier / (values - middle)) > 1:
            high = middle
        else:
            low = middle
    return 0.5 * (low + high)


def _interior_point(
    system: ContactSystem, X: Rows, barrier: float, iterations: int, deadline: float
) -> tuple[Rows, float, PerContact, PerContact]:
    """Follow the central path; returns X, the level m, slacks and stresses."""
    values = system.values(X)
    m = _barrier_level(values, barrier)
    slack = values - m
    weights = barrier / slack
    N, d = X.shape
    shift = lowest = 0
    for iteration in range(iterations):
        if time.monotonic() > deadline:
            break
        basis = tangent_basis(X)
        values = system.values(X)
        J = system.jacobian(X, basis)
        M = lagrangian_hessian(system, X, basis, weights)
        newton = newton_direction(J, M, 0.0, values - m - slack, slack, weights, barrier, 1.0 / N, lowest)
        if newton is None:
            break
        # a smaller shift costs one more factorisation if it fails; where it just failed, it is tried every third time
        shift, failed = newton.shift, newton.shift > lowest
        lowest = shift if failed and iteration % 3 else max(shift - 1, 0)
        lengths = np.linalg.norm(newton.y.reshape(N, d - 1), axis=1)
        step = (newton.y.reshape(N, d - 1) * np.minimum(1.0, 0.1 / np.maximum(lengths, 1e-300))[:, None]).ravel()
        fraction = 0.995 if barrier > 1e-10 else 0.9995
        alpha = longest_step(slack, newton.slack, fraction)
        alpha_w = longest_step(weights, newton.weights, fraction)
        X = move(X, basis, alpha * step)
        m += alpha * newton.level
        weights = weights + alpha_w * newton.weights
        slack = slack + alpha * newton.slack
        # the sphere's curvature moved the values: take the true slack where it is safely positive
        true = system.values(X) - m
        slack = np.where(true > 0.1 * slack, true, slack)
        mean = float(slack @ weights) / len(system)
        if barrier <= _LAST_BARRIER and alpha > 0.9:
            break
        progress = min(alpha, alpha_w)
        if progress < 0.1:  # return to the central path
            barrier = max(barrier, mean)
        elif shift > 1:  # not convex here: nearer to the boundary, steps would be short
            continue
        elif progress > 0.9:  # superlinear convergence of Newton's method
            barrier = max(_LAST_BARRIER, min(0.1 * mean, mean**1.3))
        elif progress > 0.3:
            barrier = max(_LAST_BARRIER, min(barrier, 0.3 * mean))
    return X, m, slack, weights


def _newton_on_contacts(system: ContactSystem, X: Rows, weights: PerContact) -> tuple[Rows, float, PerContact]:
    """Equality-constrained Newton by the method of multipliers: all contacts equal to m, stresses balanced."""
    N, _d = X.shape
    delta = 1e-6 / max(1, len(system))
    best = (np.inf, X, float(system.values(X).min()), weights)
    for _ in range(5):
        basis = tangent_basis(X)
        values = system.values(X)
        m = float(values.mean())
        J = system.jacobian(X, basis)
        # regularised KKT: [Hess, -J^T; J, delta] with the level m as one more unknown
        gradient = J.T @ weights
        spread = float(np.abs(values - m).max()) + float(np.abs(gradient).max()) * 1e-2
        if spread < best[0]:
            best = (spread, X, m, weights)
        else:
            break
        if spread < 2e-15:
            break
        A = (J.T @ J).toarray() / delta
        A += lagrangian_hessian(system, X, basis, weights)
        column = -np.asarray(J.sum(axis=0)).ravel() / delta
        corner = len(system) / delta
        A -= np.outer(column, column) / corner
        rhs = gradient - (J.T @ (values - m)) / delta
        rhs_m = 1.0 - weights.sum()  # dL/dm, corrected below through the multipliers
        solved = solve_shifted(A, rhs - column * (rhs_m / corner), 1.0 / N)
        if solved is None:
            break
        step = solved[0]
        dm = (rhs_m - column @ step) / corner
        weights = weights - (values - m + J @ step - dm) / delta
        X = move(X, basis, step)
    return best[1], best[2], best[3]


def _polish(X: Rows, build: Callable[[Rows, float], ContactSystem], spread: float, deadline: float | None) -> Polished:
    """Repeat passes until first-order conditions are met; flat valleys take several."""
    end = math.inf if deadline is None else deadline
    start = float(build(X, 0.0).values(X).min())
    result = _pass(X, build, spread, end)
    for _ in range(MAX_PASSES - 1):
        if result.residual < CONVERGED or time.monotonic() > end:
            break
        again = _pass(result.X, build, min(spread, 1e-4), end)
        if again.value <= result.value:
            break
        result = again
    if result.value < start - 1e-15:  # an optimum that cannot be improved, or no time left
        residual = _first_order_residual(result.contacts, X, result.stresses)
        return replace(result, X=X, value=start, residual=residual)
    return result


def _pass(X: Rows, build: Callable[[Rows, float], ContactSystem], spread: float, end: float) -> Polished:
    """One run of the interior-point method from X, followed by Newton on its contacts."""
    N, d = X.shape
    window = max(30 * spread, 1e-3)
    system = build(X, window)
    while len(system) < 2 * N * d and window < 0.3:  # enough near-contacts for a vertex
        window *= 1.5
        system = build(X, window)
    while True:
        Y, _m, slack, weights = _interior_point(system, X, max(spread, 1e-9) / len(system), 100, end)
        value = float(build(Y, 0.0).values(Y).min())
        if value >= float(system.values(Y).min()) - 1e-13 or window > 2 or time.monotonic() > end:
            break
        window *= 2  # a pair outside the window became a contact
        system = build(X, window)
    weights = weights / weights.sum()
    active = (weights > slack) & (weights > NO_STRESS * weights.max())
    contacts, stresses = system.subset(active), weights[active]
    Z, _, refined = _newton_on_contacts(contacts, Y, stresses)
    better = float(build(Z, 0.0).values(Z).min())
    if better >= value - 1e-15 and np.isfinite(refined).all():
        Y, value, stresses = Z, better, refined / refined.sum()
    return Polished(Y, value, contacts, stresses, _first_order_residual(contacts, Y, stresses))


def polish_tammes(W: Rows, spread: float = 1e-3, deadline: float | None = None) -> Polished:
    """Polish a packing: maximise 1 - mu from unit rows W.

    ``spread`` is the spread of the contacts' cosines at W. A good value is ten times the last temperature 1/beta of the
    search. Past ``deadline`` (in seconds of `time.monotonic`) polishing stops with its present result, which is never
    worse than W.
    """
    return _polish(W, tammes_system, spread, deadline)


def polish_hardmax(W: Rows, H: Rows, spread: float = 1e-3, deadline: float | None = None) -> Polished:
    """Polish a Softmax Code: maximise rho over W and H jointly; the result's X stacks W over H."""
    K = len(W)
    return _polish(np.vstack([W, H]), lambda X, window: hardmax_system(X[:K], X[K:], window), spread, deadline)


def can_polish(N: int, d: int) -> bool:
    """Whether the dense factorisation of N (d - 1) tangent unknowns is within the stated size."""
    return d >= 2 and N * (d - 1) <= MAX_POLISH_UNKNOWNS


def expected_seconds(N: int, d: int) -> float:
    """The expected duration of polishing N vectors in R^d, from one timed factorisation of a smaller matrix."""
    n = N * (d - 1)
    sample = min(n, 600)
    A = np.full((sample, sample), 0.5) + sample * np.eye(sample)
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        linalg.cho_factor(A, lower=True, check_finite=False)
        times.append(time.perf_counter() - begin)
    return TYPICAL_STEPS * STEP_COST * min(times) * (n / sample) ** 3


def centre_rattlers(W: Rows, free: Mask | None = None, clearance: float = 1e-6) -> Rows:
    """Move each rattler of a packing to the middle of its cage, so that pairs are clearly contacts or clearly none.

    Rattlers are the rows marked ``free`` (rows without stress may touch a neighbour). By default they are the rows
    whose largest cosine is below the largest of all by more than ``clearance``. A rattler's own largest cosine is
    minimised with the other rows fixed, by a log-sum-exp of increasing β; the packing's value does not change.
    """
    W = W.copy()
    C = gram(W)
    largest = C.max(axis=1)
    for i in np.flatnonzero(largest < largest.max() - clearance if free is None else free):
        others = np.delete(W, i, axis=0)

        def energy(z: np.ndarray, beta: float, others: Rows = others) -> tuple[float, np.ndarray]:
            norm = float(np.linalg.norm(z))
            x = z / norm
            c = others @ x
            weights = np.exp(beta * (c - c.max()))
            value = c.max() + np.log(weights.sum()) / beta
            g = (weights / weights.sum()) @ others
            return float(value), (g - (g @ x) * x) / norm

        x = W[i]
        for beta in (30.0, 300.0, 3000.0):
            x = optimize.minimize(energy, x, args=(beta,), jac=True, method="BFGS").x
            x = x / np.linalg.norm(x)
        if (others @ x).max() < (others @ W[i]).max():
            W[i] = x
    return W
