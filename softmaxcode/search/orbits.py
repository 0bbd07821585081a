"""Codes that are unions of orbits of a given group: random orbits and representations.

A code of K points in R orbits has R unknown unit vectors, each in the subspace fixed by the stabiliser of a point
(`Orbits`). Its energy and gradient follow from one point per orbit; `softmaxcode.search.descent.Descent` moves the
unknowns while beta increases.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.sparse.csgraph import connected_components

from softmaxcode.search.groups import FIXED_POINTS, close, coset_action, graph, random_power
from softmaxcode.sphere import gram, unit_rows

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from softmaxcode.search.groups import Group, Permutations
    from softmaxcode.types import Rows

#: Random subgroups whose cosets are candidate orbits, and the most orbits of a code besides fixed points.
SUBGROUPS = 12
MOST_ORBITS = 16


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
