"""The Tammes energy over near pairs, as Numba kernels.

At a high beta few pairs have any weight. The kernel stores those with a chord below the largest that matters, plus a
skin. It rebuilds the list when a point may have crossed the skin, so that no pair of weight above e^-30 is omitted:

* a pair matters at beta if its cosine exceeds top - 30 / beta, that is, if its chord is below ``need``;
* the list has all pairs whose chord was below ``reach`` when it was built;
* it is complete as long as need + 2 (largest move since) <= reach.

Where the list would have a large fraction of all pairs, the cosines of all pairs are computed by BLAS instead.

The unknowns are the points themselves, or one vector per orbit of a group (`softmaxcode.search.orbits`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from softmaxcode.parallel.compiled import compiled
from softmaxcode.search.energy import dot

if TYPE_CHECKING:
    pass

#: Pairs whose weight exp(beta (c - top)) is below e^-30 (1e-13) may be omitted.
CUTOFF = 30.0
#: Secant pairs stored by L-BFGS.
MEMORY = 8
# Sums may be reordered, so no loop may both sum and store (see `softmaxcode.search.energy`).
_FAST = {"contract", "reassoc", "nsz", "arcp"}

#: The fraction of all pairs above which all cosines are computed. Of 0.1, 0.25 and 0.5, measured for d = 3 to 16 and
#: K = 34 to 400, this is the fastest or within a fifth of it.
DENSE_FRACTION = 0.5
#: Evaluations over all pairs before a list is tried again.
DENSE_AGE = 15

# places in ``Workspace.counts`` and ``Workspace.numbers``
STORED, STALLED, ITERATION, DONE, DENSE, FRESH, EVALUATIONS, BUILDS, AGE = range(9)
BETA, VALUE, REACH, SKIN, WORK = range(5)


class Workspace(NamedTuple):
    """Arrays that one schedule uses from its start to its end."""

    lift: np.ndarray
    orbit: np.ndarray
    leader: np.ndarray
    sizes: np.ndarray
    z: np.ndarray
    gradient: np.ndarray
    trial: np.ndarray
    trial_gradient: np.ndarray
    direction: np.ndarray
    S: np.ndarray
    Y: np.ndarray
    rho: np.ndarray
    points: np.ndarray
    reference: np.ndarray
    full: np.ndarray
    C: np.ndarray
    begin: np.ndarray
    partner: np.ndarray
    weight: np.ndarray
    counts: np.ndarray
    numbers: np.ndarray
    row: np.ndarray


@compiled(fastmath=_FAST)
def _exponential(x):
    """exp(x) for x <= 0, to 2e-14; e^-40 below -40. Without a branch, so that loops over it are vectorised."""
    r = (x if x > -40.0 else -40.0) * 0.015625
    p = 1.0 + r * (1 / 10)
    p = 1.0 + r * (1 / 9) * p
    p = 1.0 + r * (1 / 8) * p
    p = 1.0 + r * (1 / 7) * p
    p = 1.0 + r * (1 / 6) * p
    p = 1.0 + r * (1 / 5) * p
    p = 1.0 + r * (1 / 4) * p
    p = 1.0 + r * (1 / 3) * p
    p = 1.0 + r * (1 / 2) * p
    p = 1.0 + r * p
    p *= p
    p *= p
    p *= p
    p *= p
    p *= p
    return p * p


@compiled(fastmath=_FAST)
def _largest_move(X, reference, leader):
    """The largest distance of a point from its place in ``reference``; points of one orbit move equally far."""
    largest = 0.0
    for r in range(leader.size):
        i = leader[r]
        moved = 0.0
        for c in range(X.shape[1]):
            moved += (X[i, c] - reference[i, c]) ** 2
        largest = max(largest, moved)
    return np.sqrt(largest)


@compiled(fastmath=_FAST)
def _all_cosines(w, X):
    """Cosines of the leaders with all points, -2 with themselves; returns the largest."""
    K = X.shape[0]
    R = w.leader.size
    if w.lift.shape[0] == 1:
        np.dot(X, X.T, w.C)
    else:
        np.dot(X[w.leader], X.T, w.C)
    top = -2.0
    for r in range(R):
        w.C[r, w.leader[r]] = -2.0
        row = w.C[r]
        best = -2.0
        for k in range(K):
            best = row[k] if row[k] > best else best
        top = max(top, best)
    return top


@compiled(fastmath=_FAST)
def _build(w, X, beta):
    """List the near pairs at X, or decide for all pairs in this step of beta; returns the largest cosine."""
    K, d = X.shape
    R = w.leader.size
    free = w.lift.shape[0] == 1
    counts, numbers = w.counts, w.numbers
    top = _all_cosines(w, X)
    # a list that was used up at once needs a wider skin, one that lasted long a narrower one
    if not counts[FRESH]:
        if counts[AGE] < 6:
            numbers[SKIN] *= 1.5
        elif counts[AGE] > 20:
            numbers[SKIN] *= 0.7
    elif counts[AGE] > 40:
        numbers[SKIN] *= 0.7
    reach = np.sqrt(max(0.0, 2.0 - 2.0 * top + 2.0 * CUTOFF / beta)) + numbers[SKIN]
    lowest = 1.0 - 0.5 * reach * reach
    if reach >= 2.0:
        lowest = -1.5
        reach = np.inf
    count = 0
    most = DENSE_FRACTION * R * K * (0.5 if free else 1.0)
    for r in range(R):
        w.begin[r] = count
        row = w.C[r]
        for k in range(r if free else K):
            if row[k] > lowest:
                w.partner[count] = k
                w.weight[count] = row[k]
                count += 1
        if count > most:
            break
    counts[BUILDS] += 1
    counts[AGE] = 0
    counts[FRESH] = 0
    numbers[WORK] += 2.0 * R * K * d
    if count > most:
        counts[DENSE] = 1
        return top
    w.begin[R] = count
    w.reference[:] = X
    numbers[REACH] = reach
    return top


@compiled(fastmath=_FAST)
def _listed_cosines(w, X):
    """Cosines of the listed pairs, into ``w.weight``; returns the largest."""
    d = X.shape[1]
    R = w.leader.size
    top = -2.0
    for r in range(R):
        i = w.leader[r]
        if d == 3:
            x, y, z = X[i, 0], X[i, 1], X[i, 2]
            for p in range(w.begin[r], w.begin[r + 1]):
                j = w.partner[p]
                c = x * X[j, 0] + y * X[j, 1] + z * X[j, 2]
                w.weight[p] = c
                top = c if c > top else top
        else:
            for p in range(w.begin[r], w.begin[r + 1]):
                c = dot(X[i], X[w.partner[p]])
                w.weight[p] = c
                top = c if c > top else top
    return top


@compiled(fastmath=_FAST)
def _near_energy(w, X, beta, top, full):
    """Energy over the listed pairs, whose cosines are in ``w.weight``; the Euclidean gradient is written to ``full``.

    ``full`` has a row per point without a group, else one per leader.
    """
    d = X.shape[1]
    R = w.leader.size
    free = w.lift.shape[0] == 1
    count = w.begin[R]
    for p in range(count):
        w.weight[p] = _exponential(beta * (w.weight[p] - top))
    total = 0.0
    if free:
        for p in range(count):
            total += w.weight[p]
    else:
        for r in range(R):
            part = 0.0
            for p in range(w.begin[r], w.begin[r + 1]):
                part += w.weight[p]
            total += 0.5 * w.sizes[r] * part
    full[:] = 0.0
    for r in range(R):
        i = w.leader[r]
        if d == 3:
            x, y, z = X[i, 0], X[i, 1], X[i, 2]
            a, b, c = full[r, 0], full[r, 1], full[r, 2]
            for p in range(w.begin[r], w.begin[r + 1]):
                j = w.partner[p]
                e = w.weight[p]
                a += e * X[j, 0]
                b += e * X[j, 1]
                c += e * X[j, 2]
                if free:
                    full[j, 0] += e * x
                    full[j, 1] += e * y
                    full[j, 2] += e * z
            full[r, 0], full[r, 1], full[r, 2] = a, b, c
        else:
            mine = w.row
            for q in range(d):
                mine[q] = 0.0
            for p in range(w.begin[r], w.begin[r + 1]):
                j = w.partner[p]
                e = w.weight[p]
                for q in range(d):
                    mine[q] += e * X[j, q]
                if free:
                    for q in range(d):
                        full[j, q] += e * X[i, q]
            for q in range(d):
                full[r, q] += mine[q]
    for r in range(R):
        for q in range(d):
            full[r, q] /= total
    return top + np.log(total) / beta


@compiled(fastmath=_FAST)
def _dense_energy(w, X, beta, top, full):
    """Energy over all pairs, whose cosines are in ``w.C``; like `_near_energy`."""
    K, d = X.shape
    R = w.leader.size
    total = 0.0
    for r in range(R):
        row = w.C[r]
        for k in range(K):
            row[k] = _exponential(beta * (row[k] - top))
        row[w.leader[r]] = 0.0
        part = 0.0
        for k in range(K):
            part += row[k]
        total += 0.5 * w.sizes[r] * part
    np.dot(w.C, X, full)
    for r in range(R):
        for q in range(d):
            full[r, q] /= total
    return top + np.log(total) / beta


@compiled(fastmath=_FAST)
def energy_at(w, z, beta, gradient):
    """Energy at unit rows z; its Riemannian gradient is written to ``gradient``."""
    R, f = z.shape
    K, d = w.points.shape
    free = w.lift.shape[0] == 1
    X = w.points
    if free:
        X = z
    else:
        for k in range(K):
            r = w.orbit[k]
            for q in range(d):
                acc = 0.0
                for a in range(f):
                    acc += w.lift[k, q, a] * z[r, a]
                X[k, q] = acc
    counts, numbers = w.counts, w.numbers
    full = gradient if free else w.full
    counts[EVALUATIONS] += 1
    counts[AGE] += 1
    if counts[DENSE] and counts[AGE] > DENSE_AGE:  # as the points settle, fewer pairs matter
        counts[DENSE] = 0
        counts[FRESH] = 1
    if counts[DENSE]:
        top = _all_cosines(w, X)
    elif counts[FRESH]:
        top = _build(w, X, beta)
    else:
        top = _listed_cosines(w, X)
        need = np.sqrt(max(0.0, 2.0 - 2.0 * top + 2.0 * CUTOFF / beta))
        if need + 2.0 * _largest_move(X, w.reference, w.leader) > numbers[REACH]:
            top = _build(w, X, beta)
    if counts[DENSE]:
        value = _dense_energy(w, X, beta, top, full)
        numbers[WORK] += R * K * (4.0 * d + 20.0)
    else:
        value = _near_energy(w, X, beta, top, full)
        numbers[WORK] += w.begin[R] * (6.0 * d + 20.0)
    numbers[WORK] += R * f * (4.0 * MEMORY + 20.0)
    if not free:
        for r in range(R):
            for a in range(f):
                acc = 0.0
                for q in range(d):
                    acc += full[r, q] * w.lift[w.leader[r], q, a]
                gradient[r, a] = w.sizes[r] * acc
    for r in range(R):
        radial = 0.0
        for a in range(f):
            radial += gradient[r, a] * z[r, a]
        for a in range(f):
            gradient[r, a] -= radial * z[r, a]
    return value
