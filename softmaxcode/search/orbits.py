"""Codes that are unions of orbits of a given group: random orbits and representations, and the descent.

A code of K points in R orbits has R unknown unit vectors, each in the subspace fixed by the stabiliser of a point
(`Orbits`). Its energy and gradient follow from one point per orbit; L-BFGS moves the unknowns while beta increases.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.sparse.csgraph import connected_components

from softmaxcode.parallel.compiled import compiled
from softmaxcode.search.groups import FIXED_POINTS, close, coset_action, graph, random_power
from softmaxcode.sphere import gram, unit_rows

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from softmaxcode.search.groups import Group, Permutations
    from softmaxcode.types import Rows

#: Random subgroups whose cosets are candidate orbits, and the most orbits of a code besides fixed points.
SUBGROUPS = 12
MOST_ORBITS = 16

#: Iterations of a step, and secant pairs stored by L-BFGS.
_ITERATIONS = 200
_MEMORY = 12
_FAST = {"contract", "reassoc", "nsz", "arcp"}


def draw_orbits(group: Group, K: int, rng: np.random.Generator) -> Permutations | None:
    """Generators of the group as permutations of K points, in few orbits; None if the drawn sizes do not fit."""
    order = len(group.elements)
    subgroups = {order: group.elements[:1]}  # one of each index, the last drawn
    for _ in range(SUBGROUPS):
        drawn = rng.integers(order, size=rng.integers(1, 3))
        h = np.array([random_power(group.elements[i], order, rng)[0] for i in drawn])
        subgroup = close(h, order)
        assert subgroup is not None
        subgroups[order // len(subgroup)] = h
    subgroups.pop(1, None)
    sizes = _draw_sizes(K, np.array(list(subgroups)), rng)
    if sizes is None:
        return None
    actions = {size: coset_action(group, subgroups[size]) for size in set(sizes)}
    blocks = [actions[size] for size in sizes]
    blocks += [np.zeros((len(group.left), 1), dtype=np.int64)] * (K - sum(sizes))
    starts = np.cumsum([0] + [block.shape[1] for block in blocks[:-1]])
    return np.hstack([block + start for block, start in zip(blocks, starts, strict=True)])


def _draw_sizes(K: int, sizes: Int[np.ndarray, " sizes"], rng: np.random.Generator) -> list[int] | None:
    """Some of ``sizes``, largest first, that sum to K minus the fixed points; the shorter of two such draws."""
    found: list[list[int]] = []
    for _ in range(20):
        left = K
        drawn: list[int] = []
        weights = rng.random(len(sizes)) * sizes
        while left > FIXED_POINTS and len(drawn) < MOST_ORBITS and (sizes <= left).any():
            fits = np.where(sizes <= left, weights, 0)
            drawn.append(int(rng.choice(sizes, p=fits / fits.sum())))
            left -= drawn[-1]
        if left <= FIXED_POINTS and drawn:
            found.append(sorted(drawn, reverse=True))
            if len(found) == 2:
                break
    return min(found, key=len) if found else None


class Orbits(NamedTuple):
    """K points of R^d in R orbits: point k is ``lift[k] @ z[orbit[k]]`` for R unknown unit vectors z.

    The stabiliser of the first point of orbit r fixes a space of dimension f_r. So z[r] has f_r entries in use; the
    later ones, up to the largest f_r, are zero.

    Attributes
    ----------
    lift : ndarray, shape (K, d, max f_r)
        Isometries on the entries in use, zero on the others.
    orbit : ndarray, shape (K,)
        The orbit of each point.
    first : ndarray, shape (R,)
        The first point of each orbit.
    sizes : ndarray, shape (R,), float64
        Points in each orbit.
    """

    lift: Float[np.ndarray, "K d f"]
    orbit: Int[np.ndarray, " K"]
    first: Int[np.ndarray, " R"]
    sizes: Float[np.ndarray, " R"]

    @property
    def used(self) -> np.ndarray:
        """Which entries of z are in use, shape (R, max f_r)."""
        return np.abs(self.lift[self.first]).sum(axis=1) > 0

    def points(self, z: Rows) -> Rows:
        """The K points, of unit norm."""
        return unit_rows(np.einsum("kdf,kf->kd", self.lift, z[self.orbit]))


def draw_representation(permutations: Permutations, d: int, rng: np.random.Generator) -> Orbits | None:
    """A random d-dimensional part of the permutation representation.

    None if the dimensions of the drawn eigenspaces cannot sum to d, or if points of its orbits always coincide.

    Parameters
    ----------
    permutations : ndarray, shape (generators, K)
        Generators of the group.
    d : int
        Dimension.
    rng : Generator
        The source of the commuting matrix and the eigenspaces.

    Examples
    --------
    Five points that a cyclic group permutes lie in a plane as a regular pentagon or pentagram:

    >>> import numpy as np
    >>> orbits = draw_representation(np.array([[1, 2, 3, 4, 0]]), 2, np.random.default_rng(0))
    >>> X = orbits.points(np.array([[0.6, 0.8]]))
    >>> bool(np.isclose((X @ X.T)[0, 1:].max(), np.cos(2 * np.pi / 5)))
    True
    """
    count, K = permutations.shape
    pairs = (permutations[:, :, None] * K + permutations[:, None, :]).reshape(count, K * K)
    number, flat = connected_components(graph(pairs), directed=False)
    label = flat.reshape(K, K)  # constant on the orbits of the group on pairs
    random = rng.standard_normal(number)[label]
    value, vector = np.linalg.eigh(random + random.T)
    spaces = np.split(np.arange(K), np.flatnonzero(np.diff(value) > 1e-8 * K) + 1)
    chosen = _with_sum([len(space) for space in spaces], d, rng)
    if chosen is None:
        return None
    U = np.ascontiguousarray(vector[:, np.concatenate([spaces[i] for i in chosen])])
    _, component = connected_components(graph(permutations), directed=False)
    _, first, orbit = np.unique(component, return_index=True, return_inverse=True)
    fixed = []
    for r in first:
        # the space that the stabiliser of r fixes is spanned by the sums of U over the orbits of the stabiliser
        sums = np.zeros((number, d))
        np.add.at(sums, label[r], U)
        _, s, basis = np.linalg.svd(sums[np.unique(label[r])], full_matrices=False)
        fixed.append(basis[s > 1e-8].T)
    if min(f.shape[1] for f in fixed) == 0:
        return None
    lift = np.zeros((K, d, max(f.shape[1] for f in fixed)))
    images = [U[g].T @ U for g in permutations]
    for r, f in zip(first, fixed, strict=True):
        lift[r, :, : f.shape[1]] = f
        seen, waiting = {r}, [r]
        while waiting:
            k = waiting.pop()
            for g, image in zip(permutations, images, strict=True):
                if g[k] not in seen:
                    seen.add(g[k])
                    waiting.append(g[k])
                    lift[g[k]] = image @ lift[k]
    orbits = Orbits(lift, orbit, first, np.bincount(orbit).astype(float))
    X = orbits.points(rng.standard_normal(orbits.used.shape) * orbits.used)
    return None if gram(X).max() > 1 - 1e-9 else orbits


def _with_sum(dims: list[int], total: int, rng: np.random.Generator) -> list[int] | None:
    """A random set of indices whose ``dims`` sum to ``total``."""
    order = rng.permutation(len(dims))
    # reach[i] contains the sums that can be made from place i of the order on
    reach = [{0}]
    for i in order[::-1]:
        reach.append(reach[-1] | {s + dims[i] for s in reach[-1] if s + dims[i] <= total})
    reach.reverse()
    if total not in reach[0]:
        return None
    chosen, left = [], total
    for place, i in enumerate(order):
        if left - dims[i] in reach[place + 1]:
            chosen.append(int(i))
            left -= dims[i]
    return chosen


@compiled(fastmath=_FAST)
def _orbit_energy(z, lift, orbit, first, sizes, beta, X, grad):
    """The energy (1 / beta) log sum exp(beta <x_i, x_j>) over ordered pairs i != j, from one point per orbit.

    The K points are written to ``X``, the Riemannian gradient to ``grad``. By symmetry, the gradient at z[r] is the one
    at the first point of orbit r times the size of the orbit.
    """
    K, d, f = lift.shape
    R = z.shape[0]
    for k in range(K):
        r = orbit[k]
        for c in range(d):
            acc = 0.0
            for a in range(f):
                acc += lift[k, c, a] * z[r, a]
            X[k, c] = acc
    C = np.dot(X[first], X.T)
    for r in range(R):
        C[r, first[r]] = -np.inf
    top = C.max()
    total = 0.0
    for r in range(R):
        for k in range(K):
            C[r, k] = np.exp(beta * (C[r, k] - top))
            total += sizes[r] * C[r, k]
    G = np.dot(C, X)
    for r in range(R):
        scale = 2.0 * sizes[r] / total
        for a in range(f):
            acc = 0.0
            for c in range(d):
                acc += G[r, c] * lift[first[r], c, a]
            grad[r, a] = scale * acc
        grad[r] -= np.dot(grad[r], z[r]) * z[r]
    return top + np.log(total) / beta


@compiled(fastmath=_FAST)
def _minimize(z, lift, orbit, first, sizes, beta, iterations, tolerance, X):
    """L-BFGS on the product of spheres, in place, like `energy.minimize`; the K points are written to ``X``."""
    n = z.size
    grad = np.empty_like(z)
    trial = np.empty_like(z)
    trial_grad = np.empty_like(z)
    S = np.empty((_MEMORY, n))
    Y = np.empty((_MEMORY, n))
    a = np.empty(_MEMORY)
    stored = 0
    value = _orbit_energy(z, lift, orbit, first, sizes, beta, X, grad)
    stalled = 0
    for _ in range(iterations):
        g = grad.reshape(n)
        direction = -g
        for back in range(min(stored, _MEMORY)):
            i = (stored - 1 - back) % _MEMORY
            a[i] = np.dot(S[i], direction) / np.dot(S[i], Y[i])
            direction -= a[i] * Y[i]
        if stored:
            i = (stored - 1) % _MEMORY
            direction *= np.dot(S[i], Y[i]) / np.dot(Y[i], Y[i])
        for ahead in range(min(stored, _MEMORY)):
            i = (max(stored - _MEMORY, 0) + ahead) % _MEMORY
            direction += (a[i] - np.dot(Y[i], direction) / np.dot(S[i], Y[i])) * S[i]
        slope = np.dot(g, direction)
        largest = 0.0
        move = direction.reshape(z.shape)
        for r in range(len(z)):
            largest = max(largest, np.dot(move[r], move[r]))
        accepted = False
        if slope < 0.0:
            # no vector moves by more than about half a radian in one step, or by 10 / beta without stored pairs
            step = min(1.0, (0.5 if stored else min(0.3, 10.0 / beta)) / np.sqrt(largest))
            for _ in range(25):
                for r in range(len(z)):
                    moved = z[r] + step * move[r]
                    trial[r] = moved / np.sqrt(np.dot(moved, moved))
                new = _orbit_energy(trial, lift, orbit, first, sizes, beta, X, trial_grad)
                if new <= value + 1e-4 * step * slope:
                    accepted = True
                    break
                step *= min(0.5, max(0.1, -0.5 * slope * step / (new - value - slope * step)))
        if not accepted:
            if stored == 0:
                break
            stored = 0
            continue
        i = stored % _MEMORY
        S[i] = (trial - z).reshape(n)
        Y[i] = (trial_grad - grad).reshape(n)
        if np.dot(S[i], Y[i]) > 1e-12 * np.sqrt(np.dot(S[i], S[i]) * np.dot(Y[i], Y[i])):
            stored += 1
        stalled = stalled + 1 if value - new < tolerance / beta else 0
        value = new
        z[:] = trial
        grad[:] = trial_grad
        if stalled >= 3:
            break
    return _orbit_energy(z, lift, orbit, first, sizes, beta, X, grad)


def descend_orbits(orbits: Orbits, z: Rows, first: float, last: float, factor: float, tolerance: float) -> float:
    """Increase beta like `energy.descend`, over one unit vector per orbit, in place; returns the energy."""
    X = np.empty(orbits.lift.shape[:2])
    beta = first
    while True:
        value = _minimize(z, *orbits, beta, _ITERATIONS, tolerance, X)
        if beta >= last:
            return float(value)
        beta = min(beta * factor, last)
