"""Finite permutation groups: families to draw from at random, their elements and their actions on cosets.

A permutation of n points is a row of their images, so that the product "b, then a" is ``a[b]``; a group is given by
generators, one a row. What is drawn depends on the number of points of the code and the random numbers alone.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

if TYPE_CHECKING:
    from jaxtyping import Int

    Permutations = Int[np.ndarray, "count points"]

#: Elements of the largest group, points it is given on, and the longest cyclic group that is listed.
LARGEST_ORDER = 1000
MOST_POINTS = 128
LARGEST_CYCLE = 2000
#: Points of a code that the whole group may fix.
FIXED_POINTS = 2


class Group(NamedTuple):
    """A permutation group: all its elements (order, points), the place of each by its bytes, and ``left``.

    ``left`` (generators, order) is how the generators permute the elements by multiplication from the left.
    """

    name: str
    elements: np.ndarray
    places: dict[bytes, int]
    left: np.ndarray

    @classmethod
    def generated(cls, generators: Permutations, name: str) -> Group | None:
        """The group that permutations (one a row) generate; None if it is trivial or above ``LARGEST_ORDER``."""
        elements = close(generators, LARGEST_ORDER)
        if elements is None or len(elements) == 1:
            return None
        places = {row.tobytes(): i for i, row in enumerate(elements)}
        return cls(
            name, elements, places, np.array([[places[row.tobytes()] for row in g[elements]] for g in generators])
        )


def close(generators: Permutations, limit: int) -> Permutations | None:
    """All products of permutations, shape (order, points), the identity first; None where they exceed ``limit``.

    The products of a single permutation are its powers, in order.

    Examples
    --------
    >>> import numpy as np
    >>> len(close(np.array([[1, 2, 3, 4, 0], [1, 0, 2, 3, 4]]), 200))
    120
    >>> close(np.array([[1, 2, 0]]), 200).tolist()
    [[0, 1, 2], [1, 2, 0], [2, 0, 1]]
    """
    identity = np.arange(generators.shape[1])
    found = {identity.tobytes(): identity}
    frontier = [identity]
    while frontier:
        following = []
        for element in frontier:
            for product in generators[:, element]:
                if found.setdefault(product.tobytes(), product) is product:
                    following.append(product)
            if len(found) > limit:
                return None
        frontier = following
    return np.array(list(found.values()))


def graph(permutations: Permutations) -> coo_matrix:
    """An edge from every point to each of its images: the connected components are the orbits.

    Examples
    --------
    >>> import numpy as np
    >>> graph(np.array([[1, 0, 2]])).toarray().astype(int).tolist()
    [[0, 1, 0], [1, 0, 0], [0, 0, 1]]
    """
    count, n = permutations.shape
    edges = (np.tile(np.arange(n), count), permutations.ravel())
    return coo_matrix((np.ones(count * n, dtype=bool), edges), shape=(n, n))


def random_power(
    permutation: Int[np.ndarray, " points"], most: float, rng: np.random.Generator
) -> tuple[Int[np.ndarray, " points"], int]:
    """A power whose order is a random divisor of the permutation's, from 2 to ``most`` if there is one; its order.

    Examples
    --------
    >>> import numpy as np
    >>> power, order = random_power(np.array([1, 2, 3, 0]), 3, np.random.default_rng(0))
    >>> power.tolist(), order
    ([2, 3, 0, 1], 2)
    """
    powers = close(permutation[None], LARGEST_CYCLE)
    if powers is None:
        return np.arange(len(permutation)), 1
    order = len(powers)
    wanted = int(rng.choice([q for q in range(2, order + 1) if order % q == 0 and q <= most] or [1]))
    return powers[order // wanted % order], wanted


def _modulus(K: int, rng: np.random.Generator) -> int:
    """A prime that divides K, K - 1 or K - 2, so that few points are left over; or one time in two any number."""
    primes = [p for p in range(2, MOST_POINTS) if any((K - c) % p == 0 for c in range(FIXED_POINTS + 1))]
    primes = [p for p in primes if all(p % q for q in range(2, p))]
    if primes and rng.random() < 0.5:
        return int(rng.choice(primes))
    return int(2 * (MOST_POINTS / 2) ** rng.random())


def _random_matrix(m: int, k: int, rng: np.random.Generator) -> Int[np.ndarray, "k k"]:
    """A random matrix over Z_m, perhaps singular; one time in two with a single entry in every row and column."""
    if rng.random() < 0.5:
        return rng.integers(m, size=(k, k))
    return np.eye(k, dtype=int)[rng.permutation(k)] * rng.integers(1, m, size=(k, 1))


def affine(K: int, rng: np.random.Generator) -> tuple[Permutations, str]:
    """Translations of Z_m^k, extended by up to three random automorphisms; the generators and a name.

    An automorphism is the power of a random matrix whose order is a random divisor. Cyclic (m), dihedral (m:2),
    Frobenius (p:q), elementary abelian (p^k) and Heisenberg (p^2:p) groups are such.
    """
    m = _modulus(K, rng)
    k = int(rng.integers(1, int(math.log(MOST_POINTS, m) + 1e-9) + 1))
    points = np.stack(np.unravel_index(np.arange(m**k), (m,) * k), axis=1)
    generators = [np.ravel_multi_index(tuple(((points + e) % m).T), (m,) * k) for e in np.eye(k, dtype=int)]
    name = str(m) if k == 1 else f"{m}^{k}"
    for _ in range(rng.choice(4, p=[0.2, 0.4, 0.3, 0.1])):
        matrix = _random_matrix(m, k, rng)
        image = np.ravel_multi_index(tuple((points @ matrix % m).T), (m,) * k)
        if len(np.unique(image)) == len(image):
            power, order = random_power(image, LARGEST_ORDER / m**k, rng)
            if order > 1:
                generators.append(power)
                name += f":{order}"
    return np.array(generators), name


def projective(_K: int, rng: np.random.Generator) -> tuple[Permutations, str]:
    """The maps x -> (a x + b) / (c x + e) of the projective line over Z_p, those of square determinant or all.

    They are generated by x + 1, -1 / x and g x or g^2 x, g a primitive root; the point p stands for infinity.
    """
    p = int(rng.choice([5, 7, 11]))
    x = np.arange(p)
    root = next(g for g in range(2, p) if len({pow(g, e, p) for e in range(p)}) == p - 1)
    full = bool(rng.random() < 0.3)
    shift = np.append((x + 1) % p, p)
    scale = np.append(x * (root if full else root**2) % p, p)
    inverse = np.array([p, *(-pow(a, -1, p) % p for a in range(1, p)), 0])
    return np.array([shift, scale, inverse]), f"P{'G' if full else 'S'}L(2,{p})"


def random_permutations(_K: int, rng: np.random.Generator) -> tuple[Permutations, str]:
    """Two random permutations of 3 to 6 points, or of as many pairs of opposite points."""
    n = int(rng.integers(3, 7))
    generators = np.array([rng.permutation(n) for _ in range(2)])
    if rng.random() < 0.5:
        return generators, f"permutations of {n}"
    flips = rng.integers(2, size=(2, n))
    signed = np.concatenate([generators + n * flips, generators + n * (1 - flips)], axis=1)
    return signed, f"signed permutations of {n}"


def draw_group(K: int, rng: np.random.Generator) -> Group:
    """A group of at most ``LARGEST_ORDER`` elements, perhaps a product of two."""
    families = (affine, projective, random_permutations)
    fractions = (0.8, 0.1, 0.1)
    while True:
        generators, name = families[rng.choice(3, p=fractions)](K, rng)
        if rng.random() < 0.2:
            more, other = families[rng.choice(3, p=fractions)](K, rng)
            generators = _product(generators, more)
            name = f"{name} x {other}"
        group = Group.generated(generators, name)
        if group is not None:
            return group


def _product(a: Permutations, b: Permutations) -> Permutations:
    """Generators of the direct product, on the points of both."""
    n, m = a.shape[1], b.shape[1]
    first = np.hstack([a, np.tile(np.arange(n, n + m), (len(a), 1))])
    return np.vstack([first, np.hstack([np.tile(np.arange(n), (len(b), 1)), b + n])])


def coset_action(group: Group, subgroup: Permutations) -> Permutations:
    """How the generators permute the cosets x H of the subgroup generated by ``subgroup``.

    Returns
    -------
    ndarray, shape (generators, order / |H|)
    """
    right = np.array([[group.places[row.tobytes()] for row in group.elements[:, h]] for h in subgroup])
    count, label = connected_components(graph(right), directed=False)
    action = np.empty((len(group.left), count), dtype=np.int64)
    action[:, label] = label[group.left]
    return action
