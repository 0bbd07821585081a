"""The contact equations of a code as a square system, in balls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from flint import arb, arb_mat
from scipy import linalg

from softmaxcode.certificates.proof.value import NotRegular, plural
from softmaxcode.contacts.system import ContactSystem, rotations, tangent_basis

if TYPE_CHECKING:
    from softmaxcode.types import Rows


#: Singular directions of the contact equations: pivots below this multiple of the largest count as zero.
RANK_TOLERANCE = 1e-7
ROUNDING_BITS = 24


def _gauge(X: Rows, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Coordinate planes (p, q) whose ``count`` rotations move X independently."""
    p, q = np.triu_indices(X.shape[1], 1)
    if count < len(p):
        _, _, order = linalg.qr(_gauge_rows(X, p, q).T, mode="economic", pivoting=True)
        p, q = p[order[:count]], q[order[:count]]
    return p, q


def _gauge_rows(X: Rows, p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """The motions of X by rotations in the planes (p, q), one per row, shape (len(p), N d)."""
    N, d = X.shape
    motion = np.zeros((len(p), N, d))
    r = np.arange(len(p))
    motion[r, :, p] = X[:, q].T
    motion[r, :, q] = -X[:, p].T
    return motion.reshape(len(p), N * d)


def square_part(system: ContactSystem, X: Rows) -> tuple[ContactSystem, tuple[np.ndarray, np.ndarray]]:
    """As many independent contacts as there are unknowns, by pivoted QR, and the matching gauge.

    Raises
    ------
    NotRegular
        If the rank is too small.
    """
    N, d = X.shape
    basis = tangent_basis(X)
    turning = rotations(X, basis).shape[1]
    wanted = N * (d - 1) + 1 - turning
    J = np.hstack([system.jacobian(X, basis).toarray(), -np.ones((len(system), 1))])
    R, order = linalg.qr(J.T, mode="r", pivoting=True, check_finite=False)
    pivots = np.abs(np.diagonal(R))
    rank = int(np.count_nonzero(pivots > RANK_TOLERANCE * pivots[0]))
    if rank < wanted:
        raise NotRegular(
            f"the contact equations leave {plural(wanted - rank, 'direction')} free: "
            f"{plural(len(system), 'contact')} of rank {rank} on {wanted} unknowns up to rotation"
        )
    return system.subset(np.sort(order[:wanted])), _gauge(X, turning)


class Equations:
    """The square system F = 0 in N d coordinates and the level: unit norms, gauge rows, contacts, in this order."""

    def __init__(self, system: ContactSystem, start: Rows, planes: tuple[np.ndarray, np.ndarray]) -> None:
        self.system = system
        self.N, self.d = start.shape
        self.start = arb_mat(start.tolist())
        self.planes = planes
        self.gauge = _gauge_rows(start, *planes)
        self.two = system.a != system.c
        #: Lipschitz constant of the Jacobian in the maximum norm: absolute sum of a row's Hessian.
        self.lipschitz = (4 if self.two.any() else 2) * self.d

    def jacobian(self, X: Rows) -> tuple[np.ndarray, np.ndarray]:
        """DF at float rows, and row sums of the absolute values of the coordinates in each entry."""
        N, d, system = self.N, self.d, self.system
        gauges = len(self.gauge)
        size = N * d + 1
        DF = np.zeros((size, size))
        coordinates = np.arange(d)
        row = np.arange(N)[:, None]
        DF[row, row * d + coordinates] = 2 * X
        DF[N : N + gauges, : N * d] = self.gauge
        row = N + gauges + np.arange(len(system))[:, None]
        own = np.where(self.two[:, None], X[system.c], 0.0)
        DF[row, system.a[:, None] * d + coordinates] = own - X[system.b]
        DF[row, system.b[:, None] * d + coordinates] = -X[system.a]
        two = self.two
        DF[row[two], system.c[two, None] * d + coordinates] = X[system.a[two]]
        DF[N + gauges :, -1] = -1.0
        norms = np.abs(X).sum(axis=1)
        contacts = norms[system.b] + norms[system.a] + 1 + two * (norms[system.c] + norms[system.a])
        return DF, np.concatenate([2 * norms, np.abs(self.gauge).sum(axis=1), contacts])

    def residual(self, X: arb_mat, level: arb) -> list[arb]:
        """F in ball arithmetic."""
        rows = ball_rows(X)
        columns = [row.transpose() for row in rows]
        out = [(rows[i] * columns[i])[0, 0] - 1 for i in range(self.N)]
        turn = X.transpose() * self.start
        out += [turn[p, q] - turn[q, p] for p, q in zip(*(a.tolist() for a in self.planes), strict=True)]
        return out + [g - level for g in ball_values(self.system, rows, columns)]


def ball_rows(X: arb_mat) -> list[arb_mat]:
    """The rows of a matrix as 1 x d matrices."""
    d = X.ncols()
    entries = X.entries()
    return [arb_mat(1, d, entries[i : i + d]) for i in range(0, len(entries), d)]


def ball_values(system: ContactSystem, rows: list[arb_mat], columns: list[arb_mat]) -> list[arb]:
    """g_e for every inequality, in ball arithmetic: 1 - <x_a, x_b> for pairs, <x_a, x_c - x_b> else."""
    one = arb(1)
    return [
        (one if a == c else (rows[a] * columns[c])[0, 0]) - (rows[a] * columns[b])[0, 0]
        for a, b, c in zip(system.a.tolist(), system.b.tolist(), system.c.tolist(), strict=True)
    ]


def common_exponent(values: list[arb]) -> int | None:
    """The least e with all |values| < 2^e, None where they are all exactly zero."""
    best: int | None = None
    for value in values:
        man, exp = value.abs_upper().man_exp()
        if man != 0:
            e = int(man).bit_length() + int(exp)
            best = e if best is None else max(best, e)
    return best


def scaled(values: list[arb], exponent: int) -> tuple[np.ndarray, np.ndarray]:
    """The values times 2^-exponent as floats, and bounds on the rounding errors."""
    factor = arb(2) ** -exponent
    near = np.empty(len(values))
    lost = np.empty(len(values))
    for i, value in enumerate(values):
        scaled = value * factor
        near[i] = float(scaled.mid())
        lost[i] = float((scaled - arb(near[i])).abs_upper())
    return near, np.nextafter(lost * (1 + 1e-9), np.inf)
