"""A zero of the contact equations near a code, proved to exist (docs/theory.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from flint import arb, arb_mat

from softmaxcode.certificates.proof.equations import (
    ROUNDING_BITS,
    Equations,
    ball_rows,
    ball_values,
    common_exponent,
    scaled,
    square_part,
)
from softmaxcode.certificates.proof.value import NotRegular
from softmaxcode.contacts.system import ContactSystem

if TYPE_CHECKING:
    from softmaxcode.types import Rows


#: Above this many unknowns the dense Jacobian and its inverse are not formed.
MAX_PROOF_UNKNOWNS = 4000
#: Sets how far the proved code may be from the stored one, with `SCREEN`; see `_furthest`.
NEIGHBOURHOOD = 1e-6
#: A step longer than this is followed by a new Jacobian.
_LONG_STEP = 1e-9
#: Pairs whose float64 value is within this of the level are evaluated in ball arithmetic; rounding is far smaller.
SCREEN = 1e-6
#: Unit roundoff of float64.
_U = 2.0**-53


def _furthest(d: int) -> float:
    """The most that a coordinate of the proved code may differ from the stored one.

    A cosine then moves by at most moved (|x|_1 + |y|_1) + d moved^2: half the screen, so no pair outside it matters.
    """
    return min(NEIGHBOURHOOD, SCREEN) / (4 * d**0.5 + 2)


def _elsewhere(d: int) -> NotRegular:
    return NotRegular(f"no solution of the contact equations is proved within {_furthest(d):.1g} of the stored code")


@dataclass(frozen=True, eq=False)
class ProvedCode:
    """Balls for a true code: a 1 x d row for each vector, the level m, and the equations imposed on it."""

    rows: list[arb_mat]
    level: arb
    moved: arb
    imposed: int
    without_contacts: int


# --- Newton's method and the proof ----------------------------------------------------------------------------


def _inverse(equations: Equations, X: Rows) -> np.ndarray:
    DF, _ = equations.jacobian(X)
    try:
        Y = np.linalg.inv(DF)
    except np.linalg.LinAlgError:
        raise NotRegular("the contact equations are singular at the stored code") from None
    if not np.isfinite(Y).all():
        raise NotRegular("the contact equations are singular at the stored code")
    return Y


def _rounded(X: arb_mat) -> Rows:
    """Midpoints as float64."""
    return np.array([float(x) for x in X.entries()]).reshape(X.nrows(), X.ncols())


def _newton(equations: Equations, X: Rows, bits: int) -> tuple[arb_mat, arb, np.ndarray]:
    """Refine the float rows X to about ``bits`` bits; returns midpoints, the level and the last inverse Jacobian.

    Raises
    ------
    NotRegular
        If the steps leave the neighbourhood of X or stop shrinking before they reach the precision.
    """
    x = arb_mat(X.tolist())
    level = arb(float(equations.system.values(X).mean()))
    Y = _inverse(equations, X)
    before: int | None = None
    target = ROUNDING_BITS - bits
    while True:
        F = equations.residual(x, level)
        exponent = common_exponent(F)
        if exponent is None:
            return x, level, Y
        near, _ = scaled(F, exponent)
        step = Y @ near
        length = float(np.abs(step).max())
        if exponent > -900 and length * 2.0**exponent > NEIGHBOURHOOD:
            raise _elsewhere(equations.d)
        if before is not None and exponent >= before - 1:
            if exponent <= target:
                return x, level, Y
            raise NotRegular("the contact equations are too close to singular: Newton's method stopped gaining digits")
        before = exponent
        factor = arb(2) ** exponent
        x = (x - arb_mat(equations.N, equations.d, step[:-1].tolist()) * factor).mid()
        level = (level - arb(float(step[-1])) * factor).mid()
        if exponent > -900 and length * 2.0**exponent > _LONG_STEP:
            Y = _inverse(equations, _rounded(x))


def _kantorovich_radius(equations: Equations, x: arb_mat, level: arb, Y: np.ndarray, bits: int) -> arb:
    """An r so that F has exactly one zero within r of (x, level), in the maximum norm, and is regular there.

    Raises
    ------
    NotRegular
        If the conditions of the theorem cannot be verified.
    """
    n = len(Y)
    gamma = 2 * (n + 4) * _U  # above gamma_{n+2} + 2u, of docs/theory.md
    absolute = np.abs(Y)
    inflate = 1 + 8 * (n + 8) * _U  # all sums of non-negative floats below are exact up to this factor
    tiny = 1e-290  # above all underflow

    F = equations.residual(x, level)
    exponent = common_exponent(F)
    if exponent is None:
        eta = arb(0)
    else:
        near, lost = scaled(F, exponent)
        bound = np.abs(Y @ near) + gamma * (absolute @ np.abs(near)) + absolute @ lost
        eta = arb(float(bound.max()) * inflate + tiny) * arb(2) ** exponent

    DF, sizes = equations.jacobian(_rounded(x))
    defect = np.abs(np.eye(n) - Y @ DF).sum(axis=1)
    # the product's rounding, and up to 4u in the entries of DF from rounding x and from differences
    Z0 = float((defect + (gamma + 8 * _U) * (absolute @ sizes)).max()) * inflate + tiny
    norm = float(absolute.sum(axis=1).max()) * inflate
    if not Z0 < 0.5:
        raise NotRegular(f"the contact equations are too close to singular: |I - Y DF| is bounded by {Z0:.2g} only")
    z0 = arb(Z0)
    z2 = arb(norm) * equations.lipschitz
    D = (1 - z0) ** 2 - 2 * eta * z2
    if not D > 0:
        raise NotRegular("the contact equations are too close to singular for the residual reached")
    r = ((2 * eta / (1 - z0 + D.sqrt())) * (1 + arb(2) ** -10) + arb(2) ** (-2 * bits)).upper()
    if not (z2 * r * r / 2 + (z0 - 1) * r + eta <= 0 and z0 + z2 * r < 1):
        raise NotRegular("the Newton–Kantorovich conditions do not hold at the refined code")
    return r


def prove_code(X: Rows, contacts: ContactSystem, digits: int, bits: int) -> ProvedCode:
    """Balls for the true code with these contacts near X, at the current precision of ``bits`` bits."""
    N, d = X.shape
    if d < 2:
        raise NotRegular("on the line there is nothing to solve: the optimum has a closed form")
    if not len(contacts):
        raise NotRegular("there are no contacts")
    member = contacts.members(N)
    unknowns = int(member.sum()) * d + 1
    if unknowns > MAX_PROOF_UNKNOWNS:
        raise NotRegular(f"{unknowns} unknowns are more than the {MAX_PROOF_UNKNOWNS} that a dense proof is tried for")
    local = np.cumsum(member) - 1
    system = ContactSystem(local[contacts.a], local[contacts.b], local[contacts.c])
    start = np.ascontiguousarray(X[member])
    chosen, planes = square_part(system, start)
    equations = Equations(chosen, start, planes)
    x, level, Y = _newton(equations, start, bits)
    r = _kantorovich_radius(equations, x, level, Y, bits)
    level = arb(level, r)

    solved = iter(ball_rows(x))
    rows: list[arb_mat] = []
    moved = arb(0)
    for i in range(N):
        stored = arb_mat(1, d, X[i].tolist())
        if member[i]:
            row = arb_mat(1, d, [arb(c, r) for c in next(solved).entries()])
        else:
            row = stored * (1 / (stored * stored.transpose())[0, 0].sqrt())
        rows.append(row)
        for difference in (row - stored).entries():
            moved = moved.max(difference.abs_upper())
    if not moved <= _furthest(d):
        raise _elsewhere(d)
    proved = ProvedCode(rows, level, moved.upper(), len(chosen), int((~member).sum()))
    _check_contacts(proved, contacts, digits)
    return proved


def _check_contacts(proved: ProvedCode, contacts: ContactSystem, digits: int) -> None:
    """Refuse contacts that the proved code violates: those left out of the square part were not imposed."""
    if len(contacts) == proved.imposed:
        return
    tolerance = arb(10) ** -(digits + 1)
    columns = [row.transpose() for row in proved.rows]
    gaps = [g - proved.level for g in ball_values(contacts, proved.rows, columns)]
    failing = sum(not abs(gap) < tolerance for gap in gaps)
    if failing:
        worst = max(float(gap.abs_upper()) for gap in gaps)
        raise NotRegular(
            f"the contacts do not hold together: where a full-rank part of them holds, {failing} of "
            f"{len(contacts)} are off, by up to {worst:.2g}"
        )


def midpoints(rows: list[arb_mat]) -> Rows:
    """Float64 rows nearest to the centres of the balls."""
    return np.array([[float(x) for x in row.entries()] for row in rows])
