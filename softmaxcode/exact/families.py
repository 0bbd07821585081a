"""The best code of the exact families for a pair, whole or a subset, and reconstruction of a code from its name."""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from softmaxcode.checks.arguments import check_integer, check_pair
from softmaxcode.code import SoftmaxCode
from softmaxcode.exact.classical import closed_form
from softmaxcode.exact.subcodes import greedy_subset
from softmaxcode.exact.subset_table import Level, levels
from softmaxcode.storage.provenance import Provenance, installed_version

if TYPE_CHECKING:
    from softmaxcode.exact.classical import ClosedForm
    from softmaxcode.exact.construction import Construction
    from softmaxcode.types import Rows

#: The modules of this package with one family each.
FAMILIES = (
    "polytopes",
    "root_systems",
    "leech",
    "isotropic",
    "conference",
    "hadamard",
    "unbiased_bases",
    "kerdock",
    "bch",
    "orbits",
    "constant_weight",
    "leech_layers",
    "planes",
)
#: Coordinates of a construction that are made at once.
MADE_AT_ONCE = 2**22
#: From a code of up to this many vectors those with the most contacts are left out first.
MAX_SUBSET_CODE = 5000
#: No code with more coordinates (8 bytes each) is built.
MAX_BUILT_COORDINATES = 2 * 10**8
#: The most codes from which subsets are drawn, and how many dimensions they may leave over.
MOST_LARGER, LIFTED = 4, 2
#: In more dimensions only closed forms, which have K <= 2 d, stay below that.
MAX_DIMENSION = 7071


@dataclass(frozen=True, eq=False)
class ExactCode:
    """A code of an exact family, or a subset of one.

    Attributes
    ----------
    W : ndarray, shape (K, d), read-only
        Unit rows; zeros are appended where the family has fewer dimensions.
    max_cosine : float
        The largest cosine of two rows; if the family has only a bound on it, that bound.
    name : str
        The construction's name.
    indices : ndarray of int or None
        Indices of the construction's rows in this code, ascending; None for all. Indices from its size on stand for
        unit vectors e, -e along the dimensions that the construction does not use.
    description : str
        The name and the part of the construction used, as text.
    source : str
        The source of the construction.
    margin : float or None
        The margin of a closed form, else None.
    """

    W: Rows
    max_cosine: float
    name: str
    indices: np.ndarray | None
    description: str
    source: str
    margin: float | None = None

    def code(self, objective: str = "softmax") -> SoftmaxCode:
        """The same code as a `SoftmaxCode`."""
        provenance = Provenance(f"exact: {self.description}", version=installed_version())
        return SoftmaxCode(self.W, objective, provenance, _exact=self)


@dataclass(frozen=True, eq=False)
class Part:
    """A construction, or a subset of it that is better than the whole, not built.

    Attributes
    ----------
    construction : Construction
        The construction.
    level : Level
        The rows of it (None for all), their largest cosine and their margin.
    """

    construction: Construction
    level: Level

    @property
    def K(self) -> int:
        """Number of vectors."""
        return self.construction.K if self.level.indices is None else len(self.level.indices)

    def build(self, kept: np.ndarray | None = None, d: int | None = None) -> ExactCode:
        """Its vectors ``kept`` (ascending indices, all by default) in d dimensions (by default its own)."""
        indices = self.level.indices
        if kept is not None and len(kept) < self.K:
            indices = kept if indices is None else indices[kept]
        W = _rows(self.construction, indices, self.construction.d if d is None else d)
        return _made(self.construction, self.level.max_cosine, indices, W)


@functools.lru_cache(maxsize=8192)
def parts(d: int) -> tuple[Part, ...]:
    """Every construction in exactly d dimensions that can be built, and its stored subsets; none of them built.

    Examples
    --------
    >>> [(part.construction.name, part.K) for part in parts(4)]
    [('Petersen(10)', 10), ('24-cell', 24), ('kerdock(4)', 24), ('600-cell', 120), ('600-cell', 22), ('600-cell', 10)]
    """
    return tuple(Part(c, level) for c in constructions(d) if _can_build(c) for level in levels(c))


def constructions(d: int) -> tuple[Construction, ...]:
    """Every construction in exactly d dimensions, of all families, none of them built.

    Parameters
    ----------
    d : int
        Dimension, at least 1.

    Raises
    ------
    ValueError
        If d < 1 or d is not an integer.

    Examples
    --------
    >>> [(c.name, c.K) for c in constructions(6)][0]
    ('Schlaefli(27)', 27)
    """
    return _constructions(check_integer("d", d, 1))


@functools.lru_cache(maxsize=8192)
def _constructions(d: int) -> tuple[Construction, ...]:
    modules = (importlib.import_module(f"softmaxcode.exact.{name}") for name in FAMILIES)
    found = [construction for module in modules for construction in module.constructions(d)]
    assert len({c.name for c in found}) == len(found)
    return tuple(sorted(found, key=lambda c: (c.max_cosine, c.K, c.name)))


def best(K: int, d: int) -> ExactCode | None:
    """The best of the exact codes for a pair: the one with the smallest cosine, subsets included.

    Codes in fewer than d dimensions count too, together with both unit vectors along each unused dimension, as far as
    these are needed. A subset keeps the vertices with the fewest contacts.

    Parameters
    ----------
    K : int
        Number of classes, at least 2.
    d : int
        Dimension, at least 1.

    Returns
    -------
    ExactCode or None
        None where no family has K vectors in d dimensions.

    Raises
    ------
    ValueError
        If K < 2, d < 1, or either is not an integer.

    Examples
    --------
    >>> best(240, 8).max_cosine, best(12, 3).name
    (0.5, 'icosahedron')
    >>> best(10000, 512).max_cosine <= 1 / 16
    True
    >>> best(10**6, 3) is None
    True
    """
    return _best(*check_pair(K, d))


@functools.lru_cache(maxsize=32)
def _best(K: int, d: int) -> ExactCode | None:
    closed = closed_form(K, d)
    if closed is not None:
        return _of_closed_form(closed)
    if K * d > MAX_BUILT_COORDINATES:
        return None
    known = [
        part
        for n in range(2, d + 1)
        for part in parts(n)
        if part.K + 2 * (d - n) >= K  # two vectors along each axis left over
    ]
    if not known:
        return None
    return _chosen(K, d, min(known, key=lambda part: _rank(part, K)))


def larger(K: int, d: int) -> list[Rows]:
    """A few good codes of more than K vectors, at most twice as many, of which subsets may be improved.

    They have d dimensions, of which they use d - 2 at least.

    Examples
    --------
    >>> [W.shape for W in larger(100, 13)][0]
    (104, 13)
    """
    K, d = check_pair(K, d)
    found = [part for n in range(max(3, d - LIFTED), d + 1) for part in parts(n) if K < part.K <= 2 * K]
    found.sort(key=lambda part: _rank(part, K))
    return [part.build(d=d).W for part in found[:MOST_LARGER]]


def _rank(part: Part, K: int) -> tuple[float, bool, bool, int, str]:
    """The order of parts: the smallest cosine, then those large enough by themselves, whole ones, and small ones."""
    subset = part.level.indices is not None
    return (round(max(part.level.max_cosine, 0.0), 12), part.K < K, subset, part.K, part.construction.name)


def _chosen(K: int, d: int, part: Part) -> ExactCode:
    """Build K rows of a part, with vectors along unused axes where it has fewer."""
    construction, (indices, cosine, _) = part.construction, part.level
    if part.K > K and part.K <= MAX_SUBSET_CODE:
        W = _rows(construction, indices, d)
        kept = greedy_subset(W, K)
        return _made(construction, cosine, kept if indices is None else indices[kept], W[kept])
    if part.K > K:
        indices = np.arange(K) if indices is None else indices[:K]
    elif part.K < K:
        own = np.arange(construction.K) if indices is None else indices
        indices = np.concatenate([own, construction.K + np.arange(K - part.K)])
    return _made(construction, cosine, indices, _rows(construction, indices, d))


def _made(construction: Construction, cosine: float, indices: np.ndarray | None, W: Rows) -> ExactCode:
    """The code of the rows ``indices`` of a construction, already built, with its name and description."""
    description = construction.name
    if indices is not None:
        own = int((indices < construction.K).sum())
        description = construction.name if own == construction.K else f"{own} vectors of {construction.name}"
        if own < len(indices):
            description += f" and {len(indices) - own} along axes left over"
    return _frozen(W, cosine, construction.name, indices, description, construction.source)


def _can_build(construction: Construction) -> bool:
    """Whether its rows can be built without more than `MAX_BUILT_COORDINATES` of the whole."""
    return construction.rows is not None or construction.K * construction.d <= MAX_BUILT_COORDINATES


def _rows(construction: Construction, indices: np.ndarray | None, d: int) -> Rows:
    """Rows of a construction in d dimensions; indices from its size on are unit vectors e, -e along unused ones."""
    n = construction.d
    if indices is None and d == n and construction.rows is None:
        return construction.build()
    if indices is None:
        indices = np.arange(construction.K)
    own = indices[indices < construction.K]
    W = np.zeros((len(indices), d))
    make = construction.rows
    if make is None:
        W[: len(own), :n] = construction.build()[own]
    else:
        step = max(1, MADE_AT_ONCE // n)
        for start in range(0, len(own), step):  # the work arrays of all rows would take several times their memory
            W[start : min(start + step, len(own)), :n] = make(own[start : start + step])
    axes = indices[indices >= construction.K] - construction.K
    W[np.arange(len(own), len(W)), n + axes // 2] = 1.0 - 2.0 * (axes % 2)
    return W


def _of_closed_form(closed: ClosedForm) -> ExactCode:
    code = _frozen(closed.W, closed.max_cosine, closed.name, None, closed.name, "docs/theory.md, T3")
    return replace(code, margin=closed.margin)


def _frozen(W: Rows, cosine: float, name: str, indices: np.ndarray | None, description: str, source: str) -> ExactCode:
    W = np.ascontiguousarray(W)
    W.flags.writeable = False
    return ExactCode(W, cosine, name, indices, description, source)


def rebuild(name: str, indices: np.ndarray | None, K: int, d: int) -> ExactCode:
    """The code that `best` named: rows ``indices`` (None for all) of a construction, in d dimensions.

    Raises
    ------
    ValueError
        If no construction in up to d dimensions has that name, or it is too large to build. Also if the indices are not
        K of its rows.

    Examples
    --------
    >>> rebuild("24-cell", np.array([0, 1, 2, 3, 4, 5, 6, 7, 8]), 9, 4).W.shape
    (9, 4)
    """
    K, d = check_pair(K, d)
    if K * d > MAX_BUILT_COORDINATES:
        raise ValueError(f"{K} x {d} exceeds the {MAX_BUILT_COORDINATES} coordinates that are built at once")
    if d > MAX_DIMENSION:
        raise ValueError(f"no exact construction is built in more than {MAX_DIMENSION} dimensions; got {d}")
    found = next((c for n in range(d, 1, -1) for c in constructions(n) if c.name == name), None)
    if found is None:
        raise ValueError(f"no exact construction in up to {d} dimensions is called {name!r}")
    if not _can_build(found):
        raise ValueError(f"{name} has more than the {MAX_BUILT_COORDINATES} coordinates that are built at once")
    if indices is None:
        if found.K != K:
            raise ValueError(f"{name} has {found.K} vectors, not {K}")
    elif len(indices) != K or (np.diff(indices) <= 0).any() or indices[0] < 0:
        raise ValueError(f"the indices are not {K} ascending ones of the vectors of {name}")
    elif indices[-1] >= found.K + 2 * (d - found.d):
        raise ValueError(
            f"{name} has {found.K} vectors, and {2 * (d - found.d)} axes are left: {indices[-1]} is too many"
        )
    return _made(found, found.max_cosine, indices, _rows(found, indices, d))
