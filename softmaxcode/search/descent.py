"""A schedule of L-BFGS that increases beta over the near-pair energy; it can be stopped and continued at any time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from softmaxcode.parallel.compiled import compiled
from softmaxcode.search.energy import dot
from softmaxcode.search.near_pairs import (
    AGE,
    BETA,
    DENSE,
    DONE,
    FRESH,
    ITERATION,
    MEMORY,
    STALLED,
    STORED,
    VALUE,
    WORK,
    Workspace,
    energy_at,
)

if TYPE_CHECKING:
    from softmaxcode.search.orbits import Orbits
    from softmaxcode.types import Rows

# Sums may be reordered, so no loop may both sum and store (see `softmaxcode.search.energy`).
_FAST = {"contract", "reassoc", "nsz", "arcp"}

#: Floating-point operations between two checks of the deadline: about 20 to 50 ms.
_SLICE = 3e8
#: The largest move of a point in one step, in spacings of the code.
_REACH = 0.375
#: The first skin of the list, in spacings of the code divided by d - 1; the kernel adapts it.
_FIRST_SKIN = 0.5

#: The factor between steps of beta, the most iterations of a step, and the decrease (times 1 / beta) at which it ends.
FACTOR = 4.0
ITERATIONS = 300
TOLERANCE = 1e-3


@compiled(fastmath=_FAST)
def _direction(w):
    """The L-BFGS direction, into ``w.direction``; returns its slope.

    `softmaxcode.search.energy.minimize` has its own recursion: with a shared one its last bits would change.
    """
    n = w.z.size
    g = w.gradient.reshape(n)
    v = w.direction
    stored = w.counts[STORED]
    alpha = w.rho[1]
    rho = w.rho[0]
    for i in range(n):
        v[i] = -g[i]
    for back in range(min(stored, MEMORY)):
        i = (stored - 1 - back) % MEMORY
        s, y = w.S[i], w.Y[i]
        alpha[i] = rho[i] * dot(s, v)
        a = alpha[i]
        for c in range(n):
            v[c] -= a * y[c]
    if stored:
        i = (stored - 1) % MEMORY
        scale = 1.0 / (rho[i] * dot(w.Y[i], w.Y[i]))
        for c in range(n):
            v[c] *= scale
    for ahead in range(min(stored, MEMORY)):
        i = (max(stored - MEMORY, 0) + ahead) % MEMORY
        s, y = w.S[i], w.Y[i]
        b = alpha[i] - rho[i] * dot(y, v)
        for c in range(n):
            v[c] += b * s[c]
    return dot(g, v)


@compiled(fastmath=_FAST)
def _longest_row(v, R, f):
    longest = 0.0
    for r in range(R):
        length = 0.0
        for a in range(f):
            length += v[r * f + a] ** 2
        longest = max(longest, length)
    return np.sqrt(longest)


@compiled(fastmath=_FAST)
def _iterate(w, beta, reach):
    """One L-BFGS iteration; returns the decrease, or -1 where no descent is possible."""
    R, f = w.z.shape
    n = R * f
    counts, numbers = w.counts, w.numbers
    value = numbers[VALUE]
    slope = _direction(w)
    if slope >= 0.0:
        if counts[STORED] == 0:
            return -1.0
        counts[STORED] = 0
        return np.inf
    v = w.direction
    if counts[STORED] == 0:
        steepest = np.sqrt(-slope)
        step = min(1.0, reach / steepest, 10.0 / (beta * steepest))
    else:
        step = min(1.0, reach / _longest_row(v, R, f))
    accepted = False
    new = value
    for _ in range(25):
        for r in range(R):
            norm = 0.0
            for a in range(f):
                t = w.z[r, a] + step * v[r * f + a]
                norm += t * t
            norm = 1.0 / np.sqrt(norm)
            for a in range(f):
                w.trial[r, a] = (w.z[r, a] + step * v[r * f + a]) * norm
        new = energy_at(w, w.trial, beta, w.trial_gradient)
        if new <= value + 1e-4 * step * slope:
            accepted = True
            break
        # minimiser of the parabola through the two values and the slope, safeguarded
        shrink = -0.5 * slope * step / (new - value - slope * step)
        step *= min(0.5, max(0.1, shrink))
    if not accepted:
        if counts[STORED] == 0:
            return -1.0
        counts[STORED] = 0
        return np.inf
    i = counts[STORED] % MEMORY
    s, y = w.S[i], w.Y[i]
    z, trial = w.z.reshape(n), w.trial.reshape(n)
    g, h = w.gradient.reshape(n), w.trial_gradient.reshape(n)
    for c in range(n):
        s[c] = trial[c] - z[c]
    for c in range(n):
        y[c] = h[c] - g[c]
    for c in range(n):
        z[c] = trial[c]
    for c in range(n):
        g[c] = h[c]
    sy = dot(s, y)
    if sy > 1e-12 * np.sqrt(dot(s, s) * dot(y, y)):
        w.rho[0, i] = 1.0 / sy
        counts[STORED] += 1
    numbers[VALUE] = new
    return value - new


@compiled(fastmath=_FAST)
def advance(w, last, factor, iterations, tolerance, reach, work):
    """Run the schedule until it is done, or for about ``work`` floating-point operations; then call it again."""
    counts, numbers = w.counts, w.numbers
    end = numbers[WORK] + work
    while True:
        beta = numbers[BETA]
        if counts[ITERATION] == 0:
            counts[STORED] = 0
            counts[STALLED] = 0
            counts[DENSE] = 0
            counts[FRESH] = 1
            numbers[VALUE] = energy_at(w, w.z, beta, w.gradient)
        while counts[ITERATION] < iterations and counts[STALLED] < 3:
            if numbers[WORK] > end:
                return
            counts[ITERATION] += 1
            decrease = _iterate(w, beta, reach)
            if decrease < 0.0:
                break
            counts[STALLED] = counts[STALLED] + 1 if decrease < tolerance / beta else 0
        counts[ITERATION] = 0
        if beta >= last:
            counts[DONE] = 1
            return
        numbers[BETA] = min(beta * factor, last)


class Descent:
    """A code that `run` improves at increasing beta; every array is allocated once.

    Parameters
    ----------
    X : ndarray, shape (K, d)
        Unit rows; with ``orbits`` the unknown unit vectors of the orbits. They are copied.
    delta : float
        About 1 - mu of a good code. The list's skin and the longest step scale with the spacing sqrt(2 delta).
    orbits : Orbits, optional
        The code is a union of these orbits; by default all points are free.

    Examples
    --------
    >>> import numpy as np
    >>> from softmaxcode.sphere import gram, random_rows
    >>> descent = Descent(random_rows(12, 3, np.random.default_rng(0)), delta=0.55)
    >>> energy = descent.run(10.0, 1e7)
    >>> bool(abs(gram(descent.X).max() - 5**-0.5) < 1e-6)
    True
    """

    def __init__(self, X: Rows, delta: float, orbits: Orbits | None = None) -> None:
        self.spacing = float(np.sqrt(2 * delta))
        self.stopped = False
        self._orbits = orbits
        self._work = _workspace(np.array(X), self.spacing, orbits)

    @property
    def X(self) -> Rows:
        """The points, shape (K, d)."""
        return self._work.z.copy() if self._orbits is None else self._orbits.points(self._work.z)

    @property
    def z(self) -> Rows:
        """The unknowns: the points, or the vectors of the orbits."""
        return self._work.z.copy()

    @property
    def energy(self) -> float:
        """The energy at the last beta."""
        return float(self._work.numbers[VALUE])

    @property
    def work(self) -> float:
        """Floating-point operations so far, by count: a measure of cost that is the same in every run."""
        return float(self._work.numbers[WORK])

    def run(
        self,
        first: float,
        last: float,
        *,
        factor: float = FACTOR,
        iterations: int = ITERATIONS,
        tolerance: float = TOLERANCE,
        deadline: float | None = None,
    ) -> float:
        """Increase beta from ``first`` to ``last``, minimising at every step; returns the energy at the last.

        Past ``deadline`` (in seconds of `time.monotonic`) it returns with ``stopped`` set, within some 50 ms.
        """
        w = self._work
        w.numbers[BETA] = first
        w.counts[ITERATION] = w.counts[DONE] = 0
        while True:
            advance(w, last, factor, iterations, tolerance, _REACH * self.spacing, _SLICE)
            if w.counts[DONE]:
                return self.energy
            if deadline is not None and time.monotonic() > deadline:
                self.stopped = True
                return self.energy


def near_energy(z: Rows, beta: float, orbits: Orbits | None = None) -> tuple[float, Rows, Rows]:
    """The energy at one configuration, its Riemannian gradient with respect to the unknowns z, and the points.

    Examples
    --------
    >>> import numpy as np
    >>> value, gradient, X = near_energy(np.vstack([np.eye(3), -np.eye(3)]), 50.0)
    >>> bool(np.isclose(value, np.log(12) / 50)), bool(np.allclose(gradient, 0))
    (True, True)
    """
    w = _workspace(np.array(z), 1.0, orbits)
    w.counts[FRESH] = 1
    value = energy_at(w, w.z, beta, w.gradient)
    return float(value), w.gradient, w.z if orbits is None else w.points


def _workspace(z: Rows, spacing: float, orbits: Orbits | None) -> Workspace:
    R, f = z.shape
    if orbits is None:
        K, d = R, f
        index = np.arange(K)
        lift, orbit, leader, sizes = np.zeros((1, 1, 1)), index, index, np.ones(K)
    else:
        lift, orbit, leader, sizes = orbits
        K, d = lift.shape[:2]
    pairs = K * (K - 1) // 2 if orbits is None else K * R
    return Workspace(
        lift=np.ascontiguousarray(lift),
        orbit=orbit.astype(np.int64),
        leader=leader.astype(np.int64),
        sizes=sizes.astype(float),
        z=z,
        gradient=np.empty((R, f)),
        trial=np.empty((R, f)),
        trial_gradient=np.empty((R, f)),
        direction=np.empty(R * f),
        S=np.empty((MEMORY, R * f)),
        Y=np.empty((MEMORY, R * f)),
        rho=np.empty((2, MEMORY)),
        points=np.empty((K, d)),
        reference=np.empty((K, d)),
        full=np.empty((R, d)),
        C=np.empty((R, K)),
        begin=np.zeros(R + 1, dtype=np.int32),
        partner=np.empty(pairs, dtype=np.int32),
        weight=np.empty(pairs),
        counts=np.zeros(AGE + 1, dtype=np.int64),
        numbers=np.array([0.0, 0.0, 0.0, _FIRST_SKIN * spacing / max(1, d - 1), 0.0]),
        row=np.empty(d),
    )
