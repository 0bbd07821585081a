r"""Packings that are unions of orbits of a group of signed permutations, with few unknown rows for very many points.

The real Pauli group of R^d, d = q 2^k, is one of them. Coordinates are pairs (u, b) of u < q and a k-bit number b. The
bit flips X(a) move coordinate b to b xor a. The signs Z(s) are the Walsh functions (-1)^{s . b}. Its subgroups with
a < 2^x and s < 2^z, together with -1, have order 2^{x+z+1}. Cyclic shifts of u commute with them. Other groups are
those of Walsh signs alone, also without -1, and independent signs of blocks of coordinates.

Of n orbits only the cosines of representatives with all points are needed: K^2 d / |G| products, not K^2 d.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from softmaxcode.parallel.compiled import compiled
from softmaxcode.search.large.descent import SMALL, STALLED, paced
from softmaxcode.search.large.energy import exp_below
from softmaxcode.search.large.pair_list import OutOfTime
from softmaxcode.search.large.sphere_lbfgs import SphereLBFGS

if TYPE_CHECKING:
    from softmaxcode.parallel.deadline import Deadline
    from softmaxcode.parallel.thread_pool import ThreadPool

#: The first and the last beta, in units of 1 / spacing.
FIRST_BETA, LAST_BETA = 15.0, 5e3
#: Signs of single coordinates are used up to this dimension.
MOST_BLOCKS = 24
#: Entries of a group's permutations at most, 8 bytes each.
_ENTRIES = 2**24
#: Cosines of a block: 16 MB, or less where that leaves few blocks.
_BLOCK = 2**22
_SMALL_BLOCK = 2**16


@dataclass(frozen=True, eq=False)
class SignedPermutations:
    """One signed permutation for each element up to sign: row g of the image of x is ``signs[g] * x[permutations[g]]``.

    Attributes
    ----------
    permutations : ndarray, shape (n, d), int32
    signs : ndarray, shape (n, d), float32
        The first element is the identity.
    """

    permutations: np.ndarray
    signs: np.ndarray
    negatives: bool = True

    @property
    def order(self) -> int:
        """The order of the group."""
        return (1 + self.negatives) * len(self.permutations)

    def images(self, X: np.ndarray, elements: slice) -> np.ndarray:
        """Images of rows X under some of the elements, shape (len(X), elements, d)."""
        P, S = self.permutations[elements], self.signs[elements]
        Y = np.take(X, P.ravel(), axis=1).reshape(len(X), *P.shape)
        Y *= S
        return Y


@dataclass(frozen=True)
class GroupName:
    """What generates a group of signed permutations.

    Attributes
    ----------
    signs : int
        Generators among the signs: Walsh functions, or with ``blocks`` the signs of blocks of coordinates.
    flips : int
        Generators among the bit flips; with -1 only, since flips and signs commute up to -1.
    shifts : bool
        Whether cyclic shifts of the odd factor of d belong to it.
    negatives : bool
        Whether -1 does.
    blocks : bool
        Independent signs of as many blocks of coordinates; their product is -1.
    """

    signs: int = 0
    flips: int = 0
    shifts: bool = False
    negatives: bool = True
    blocks: bool = False

    def order(self, d: int) -> int:
        """The order of the group in d dimensions.

        Examples
        --------
        >>> GroupName(signs=2, flips=1).order(32), GroupName(signs=3, blocks=True).order(10)
        (16, 8)
        """
        odd = d // (d & -d) if self.shifts else 1
        return odd << (self.signs + self.flips + (self.negatives and not self.blocks))

    def build(self, d: int) -> SignedPermutations:
        """Its elements up to sign.

        Examples
        --------
        >>> GroupName(signs=1, flips=1, shifts=True).build(6).order
        24
        """
        low = d & -d if self.flips or self.shifts else 1 << max(self.signs, (d - 1).bit_length())
        coordinate = np.arange(d)
        bit, block = coordinate % low, coordinate // low
        odd = d // low if self.shifts else 1
        permutations = []
        for shift in range(odd):
            moved = (block + shift) % odd * low if self.shifts else block * low
            permutations += [moved + (bit ^ a) for a in range(1 << self.flips)]
        if self.blocks:
            labels = coordinate * self.signs // d
            codes = np.arange(1 << (self.signs - 1))[:, None]  # up to -1: the last block keeps its sign
            parity = (codes >> labels[None, :]) & 1
        else:
            codes = np.arange(1 << self.signs)[:, None] & bit[None, :]
            parity = np.zeros_like(codes)
            for i in range(self.signs):
                parity ^= (codes >> i) & 1
        signs = 1.0 - 2.0 * parity
        P = np.repeat(np.array(permutations, dtype=np.int32), len(signs), axis=0)
        return SignedPermutations(P, np.tile(signs, (len(permutations), 1)).astype(np.float32), self.negatives)


def groups(d: int, largest: int) -> list[GroupName]:
    """The groups in d dimensions of order up to ``largest``, the smallest first.

    Examples
    --------
    >>> [name.order(4) for name in groups(4, 8)]
    [1, 2, 2, 4, 4, 8]
    """
    bits, odd = (d & -d).bit_length() - 1, d // (d & -d)
    every = [GroupName(signs, negatives=False) for signs in range((d).bit_length())]
    for total in range(2 * bits + 1):
        signs = (total + 1) // 2
        every += [GroupName(signs, total - signs, shifts=shifts) for shifts in ((False, True) if odd > 1 else (False,))]
    every += [GroupName(signs) for signs in range(bits + 1, d.bit_length())]
    if d <= MOST_BLOCKS:
        every += [GroupName(signs, blocks=True) for signs in range(2 * bits + 2, d + 1)]
    most = min(largest, 2 * _ENTRIES // d)
    return sorted((name for name in every if name.order(d) <= most), key=lambda name: name.order(d))


@compiled(fastmath={"contract", "reassoc", "nsz", "arcp"})
def _weigh(C, beta, top, negatives):
    """Replace cosines c by exp(beta (c - top)), and with ``negatives`` by sign(c) exp(beta (abs(c) - top))."""
    scale = np.float32(beta)
    for a in range(C.shape[0]):
        row = C[a]
        if negatives:
            for b in range(len(row)):
                e = exp_below(scale * (abs(row[b]) - top))
                row[b] = e if row[b] > 0 else -e
        else:
            for b in range(len(row)):
                row[b] = exp_below(scale * (row[b] - top))


@compiled(fastmath={"contract", "reassoc", "nsz", "arcp"})
def _absolute_sum(C):
    total = np.float64(0.0)
    for a in range(len(C)):
        part = np.float32(0.0)
        for b in range(C.shape[1]):
            part += abs(C[a, b])
        total += part
    return total


class OrbitEnergy:
    """The log-sum-exp energy of the cosines of n orbits and its gradient in the representatives.

    Parameters
    ----------
    group : SignedPermutations
        The group.
    n : int
        Orbits.
    pool : ThreadPool
        Its threads compute blocks of cosines; the blocks do not depend on their number.
    """

    def __init__(self, group: SignedPermutations, n: int, pool: ThreadPool) -> None:
        self.group = group
        self.pool = pool
        self.top = 2.0
        count = len(group.permutations)
        cosines = min(_BLOCK, max(_SMALL_BLOCK, n * n * count // 8))
        height = min(n, max(64, cosines // n))
        width = max(1, cosines // (n * height))
        self._blocks = [
            (slice(i, min(i + height, n)), slice(g, min(g + width, count)))
            for i in range(0, n, height)
            for g in range(0, count, width)
        ]

    def __call__(self, X: np.ndarray, beta: float, grad: np.ndarray) -> float:
        """The value at representatives X (n, d); the Riemannian gradient is written to ``grad``."""
        negatives = self.group.negatives

        def block(part: tuple[slice, slice]) -> tuple[float, float, np.ndarray]:
            rows, elements = part
            Y = self.group.images(X, elements).reshape(-1, X.shape[1])
            C = X[rows] @ Y.T
            if elements.start == 0:  # the identity, and -1
                own = np.arange(rows.start, rows.stop)
                C[own - rows.start, own * (elements.stop - elements.start)] = 0.0 if negatives else -2.0
            top = float(max(C.max(), -C.min() if negatives else -2.0))
            _weigh(C, beta, np.float32(top), negatives)
            return top, float(_absolute_sum(C)), C @ Y

        parts = list(self.pool.map(block, self._blocks))
        self.top = top = max(part[0] for part in parts)
        total = 0.0
        grad[:] = 0.0
        for (rows, _), (own, weight, gradient) in zip(self._blocks, parts, strict=True):
            scale = math.exp(beta * (own - top))
            total += scale * weight
            grad[rows] += np.float32(scale) * gradient
        grad *= np.float32(2 / total)
        grad -= np.sum(grad * X, axis=1, keepdims=True) * X
        return top + math.log(total) / beta


def orbit_search(
    group: SignedPermutations,
    X: np.ndarray,
    spacing: float,
    pool: ThreadPool,
    deadline: Deadline,
    *,
    steps: int = 20,
    factor: float = 1.5,
) -> tuple[np.ndarray, float]:
    """Representatives of orbits, and 1 - mu of their union, by L-BFGS on all its pairs while beta increases.

    Parameters
    ----------
    group : SignedPermutations
        The group.
    X : ndarray, shape (n, d), float32
        Unit rows to start from; they change in place.
    spacing : float
        About the 1 - mu that can be reached; beta increases from 15 to 5000 divided by it.
    pool : ThreadPool
        Threads; the result does not depend on their number.
    deadline : Deadline
        The end. Beta increases faster where time is short.
    steps : int
        The most L-BFGS steps for each beta.
    factor : float
        Between two values of beta.
    """
    energy = OrbitEnergy(group, len(X), pool)
    descent = SphereLBFGS(X)
    best, top = X.copy(), math.inf
    beta, last = FIRST_BETA / spacing, LAST_BETA / spacing

    def evaluate(Y: np.ndarray, grad: np.ndarray) -> float:
        if deadline.passed:
            raise OutOfTime
        return energy(Y, beta, grad)

    try:
        while True:
            begin = deadline.elapsed
            descent.forget()
            descent.evaluate(evaluate)
            stalled = 0
            for _ in range(steps):
                decrease = descent.step(evaluate)
                if decrease > 0 and energy.top < top:  # the energy was evaluated last where the step ended
                    best[:], top = descent.X, energy.top
                stalled = stalled + 1 if decrease < SMALL / beta else 0
                if stalled >= STALLED:
                    break
            if beta >= last:
                break
            took = deadline.elapsed - begin
            beta = min(last, beta * paced(factor, beta, last, took, deadline.left))
    except OutOfTime:
        pass
    return best, 1 - top


def expand(group: SignedPermutations, X: np.ndarray, K: int, out: np.ndarray) -> None:
    """Write K rows of the union of the orbits into ``out``, in orbit after orbit, each row followed by its negative."""
    row = 0
    for x in X:
        Y = group.images(x[None], slice(None))[0]
        for sign in (1.0, -1.0) if group.negatives else (1.0,):
            count = min(len(Y), K - row)
            out[row : row + count] = sign * Y[:count]
            row += count
