"""The two catalogues of an installation, and the best code in them and in the exact families."""

from __future__ import annotations

import contextlib
import importlib.resources
import math
import os
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import platformdirs

from softmaxcode import exact
from softmaxcode.bounds.best import margin_bounds, max_cosine_lower_bound
from softmaxcode.bounds.rounding import one_minus_above
from softmaxcode.catalog.closure import SAME_VALUE, Filled, FromFamily, FromFile, FromForm, Joined, Row
from softmaxcode.catalog.derived import MAX_CHOSEN, kept_rows
from softmaxcode.catalog.entry import IMPROVEMENT
from softmaxcode.catalog.file import Catalog
from softmaxcode.catalog.files import Files
from softmaxcode.catalog.schema import CatalogError
from softmaxcode.certificates.certificate import match_tolerance
from softmaxcode.checks.arguments import (
    OBJECTIVES,
    Objective,
    check_objective,
    check_pair,
    machine_memory,
    search_memory,
)
from softmaxcode.checks.limits import LARGE_CODE, MAX_ALL_MARGINS
from softmaxcode.code import SoftmaxCode
from softmaxcode.storage.provenance import Evidence, Provenance, installed_version

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from softmaxcode.bounds.best import MarginBounds
    from softmaxcode.catalog.entry import Entry
    from softmaxcode.types import Rows

#: The environment variable that replaces the file in the user's data folder by another.
ENVIRONMENT = "SOFTMAXCODE_CATALOG"
#: The statuses of a code that is proved to be an optimal packing.
PROVED = ("optimal", "matches Tammes")
#: The longest description of a derived code's origin.
MAX_METHOD = 1000
#: Computed cosines of unit rows are right to this.
ROUNDING = 1e-14


class UnknownCodeError(LookupError):
    """Raised where no code of a pair is stored.

    Attributes
    ----------
    K, d, objective
        The pair and objective of the request.
    bounds : MarginBounds
        Bounds on the optimal value: rho*, or 1 - mu*.
    """

    def __init__(self, K: int, d: int, objective: str, bounds: MarginBounds) -> None:
        self.K, self.d, self.objective, self.bounds = K, d, objective, bounds
        value = "the largest margin" if objective == "softmax" else "1 - mu*"
        fits = search_memory(K, d) <= machine_memory()
        hint = f"solve({K}, {d}) searches" if fits else "the memory here is too small to search for one"
        super().__init__(
            f"no code of (K, d) = ({K}, {d}) is stored for {objective}; {value} lies between {bounds.lower:.10g} "
            f"({bounds.lower_method}) and {bounds.upper:.10g} ({bounds.upper_method}); {hint}"
        )

    def __reduce__(self) -> tuple[type, tuple[int, int, str, MarginBounds]]:
        return type(self), (self.K, self.d, self.objective, self.bounds)

    @property
    def bracket(self) -> MarginBounds:
        """The old name of ``bounds``."""
        warnings.warn("UnknownCodeError.bracket is now UnknownCodeError.bounds", DeprecationWarning, stacklevel=2)
        return self.bounds


def shipped_path() -> Path:
    """The read-only catalogue in the package."""
    return Path(str(importlib.resources.files("softmaxcode"))) / "data" / "catalog.sqlite"


def user_path() -> Path:
    """The file for improvements: ``$SOFTMAXCODE_CATALOG``, else one in the user's data folder."""
    named = os.environ.get(ENVIRONMENT)
    return Path(named) if named else Path(platformdirs.user_data_dir("softmaxcode")) / "catalog.sqlite"


def user_catalog() -> Catalog:
    """The user's catalogue above the shipped one; created if it does not exist."""
    path = user_path()
    if ENVIRONMENT not in os.environ:
        path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        base = _shipped()
        if base is not None:
            stack.callback(base.close)
        catalog = Catalog(path, base=base)
        stack.pop_all()  # from here on the catalogue closes the one below it
        return catalog


def _shipped() -> Catalog | None:
    path = shipped_path()
    return Catalog(path, readonly=True, trusted=True) if path.is_file() else None


def _is_readable(path: Path) -> bool:
    """Whether this process may access a path; a catalogue in another user's home folder is ignored."""
    try:
        path.exists()
    except PermissionError:
        return False
    return True


@contextlib.contextmanager
def installed() -> Iterator[Catalog | None]:
    """The catalogue to read: the user's above the shipped one, or the one that exists."""
    with contextlib.ExitStack() as stack:
        catalog = _shipped()
        if catalog is not None:
            stack.callback(catalog.close)
        path = user_path()
        if not _is_readable(path):
            path = Path(os.devnull)
        if path.is_dir():
            raise CatalogError(f"the catalogue {path} is a folder")
        if path.is_file() and path.stat().st_size:  # an empty file is still being created
            catalog = stack.enter_context(Catalog(path, readonly=True, base=catalog))
        yield catalog


@contextlib.contextmanager
def _files() -> Iterator[Files]:
    with installed() as catalog:
        yield Files(catalog)


class Known(NamedTuple):
    """The best code that follows from stored ones, not built.

    Attributes
    ----------
    value : float
        rho ("softmax") or 1 - mu ("tammes") of the code.
    evidence : Evidence
        How hard its pair was searched.
    recipe : Row, Joined or Filled
        How it is made.
    """

    value: float
    evidence: Evidence
    recipe: Row | Joined | Filled


class Found(NamedTuple):
    """What is known of a pair, by objective: the best code that follows from stored ones, and the pair's own entry."""

    known: dict[str, Known | None]
    entries: dict[str, Entry | None]


def look_up(
    K: int, d: int, objective: str, *, families: bool = True, catalog: bool = True, holes: bool = True
) -> Known | None:
    """The best code that follows from stored ones: its value and its origin, in milliseconds; None where none does.

    Pairs with a closed form are answered by it. ``families`` and ``catalog`` state which codes count. ``holes=False``
    does not look for the deepest hole of the code with one point less, which takes most of the time.
    """
    if not catalog:
        return _known(K, d, objective, Files(None), families, holes)
    with _files() as files:
        return _known(K, d, objective, files, families, holes)


def look_up_pairs(pairs: Iterable[tuple[int, int]], *, holes: bool = False) -> Iterator[Found]:
    """`look_up` for many pairs and both objectives, with the pairs' own entries; the catalogues are opened once."""
    with _files() as files:
        for K, d in pairs:
            found = {name: _known(K, d, name, files, families=True, holes=holes) for name in OBJECTIVES}
            own = {name: files.entry(K, d, name) for name in OBJECTIVES}
            yield Found(found, {name: None if entry is None else entry[0] for name, entry in own.items()})


def _known(K: int, d: int, objective: str, files: Files, families: bool, holes: bool = True) -> Known | None:
    closed = exact.closed_form(K, d) if families else None
    if closed is not None:
        value = closed.margin if objective == "softmax" else 1 - closed.max_cosine
        return Known(value, Evidence.PROVED, Row(K, d, value, FromForm(K, d)))
    if K * d > exact.MAX_BUILT_COORDINATES:
        return None
    own = files.entry(K, d, objective)
    while True:
        table = files.table(d, objective, families)
        direct = table.direct(K, d)
        simple = table.joined(K, d, above=0.0 if direct is None else direct.value) or direct
        recipe: Row | Joined | Filled | None = simple
        value = 0.0 if simple is None else simple.value
        lead = -math.inf if own is None else own[0].lower_bound - value
        if own is not None and lead > (IMPROVEMENT if _is_whole(recipe, K, d) else -IMPROVEMENT):
            entry, place = own
            value = entry.lower_bound
            recipe = Row(K, d, value, FromFile(place, entry.sha256))
        below = table.direct(K - 1, d) if holes else None
        if below is not None and (below.K, below.d) == (K - 1, d) and below.value > value:
            filled = files.filled(below, objective)
            if filled is not None and filled[0] > value + SAME_VALUE:
                value, recipe = filled[0], Filled(below, filled[1])
        if recipe is None:
            return None
        if files.correct(recipe, objective):  # no file claimed too much
            break
    return Known(value, _evidence(K, d, objective, value, recipe, files), recipe)


def _is_whole(recipe: Row | Joined | Filled | None, K: int, d: int) -> bool:
    """Whether a recipe is a whole construction of an exact family, which is preferred to its copy in a catalogue."""
    return isinstance(recipe, Row) and isinstance(recipe.source, FromFamily) and (recipe.K, recipe.d) == (K, d)


def _evidence(K: int, d: int, objective: str, value: float, recipe: Row | Joined | Filled, files: Files) -> Evidence:
    """How hard a pair was searched."""
    own = files.entry(K, d, objective)
    if own is not None and own[0].verified and own[0].status in PROVED and own[0].lower_bound >= value - 1e-12:
        return Evidence.PROVED
    if isinstance(recipe, Row):
        distance = value  # for the margin, 1 - mu may be less: a bound that rho meets is not one that 1 - mu meets
        if isinstance(recipe.source, FromFamily):
            distance = 1 - recipe.source.part.level.max_cosine
        elif isinstance(recipe.source, FromFile):
            distance = 1 - files.claimed(recipe, objective).max_cosine
        if max_cosine_lower_bound(K, d, lp=False).value >= 1 - distance - match_tolerance(distance):
            return Evidence.PROVED
    return Evidence.SEARCHED if files.searched(K, d) else Evidence.CONSTRUCTION


def stored(K: int, d: int, objective: str, *, families: bool = True) -> SoftmaxCode | None:
    """The code of `look_up`, built, with provenance that names its origin; None where there is none."""
    with _files() as files:
        found = _known(K, d, objective, files, families)
        return None if found is None else _built(found, K, d, objective, files)


def stored_both(K: int, d: int, *, families: bool = True) -> dict[str, SoftmaxCode]:
    """`stored` for both objectives; one code for both, if both are made in the same way and the rows are large."""
    with _files() as files:
        found = {name: _known(K, d, name, files, families) for name in OBJECTIVES}
        made: dict[str, SoftmaxCode] = {}
        for name, known in found.items():
            if known is None:
                continue
            twins = [code for other, code in made.items() if _same_rows(known, found[other])]
            if twins and K * d >= LARGE_CODE:
                made[name] = replace(twins[0], objective=name)
            else:
                made[name] = _built(known, K, d, name, files)
        return made


def _same_rows(first: Known, second: Known | None) -> bool:
    """Whether two codes are known to have the same rows, whatever their objectives."""
    return second is not None and _origin(first) == _origin(second) != []


def _origin(known: Known) -> list[tuple[object, ...]]:
    """What rows are made of; empty where that is not a list of stored codes."""
    recipe = known.recipe
    rows = recipe.rows if isinstance(recipe, Joined) else (recipe,) if isinstance(recipe, Row) else ()
    made: list[tuple[object, ...]] = []
    for row in rows:
        source: tuple[object, ...] = ()  # of a closed form the size tells all
        if isinstance(row.source, FromFamily):
            source = (row.source.part.construction.name, row.source.part.K)
        elif isinstance(row.source, FromFile):
            source = (row.source.file, row.source.sha256)
        made.append((row.K, row.d, *source))
    return made


def _built(found: Known, K: int, d: int, objective: str, files: Files) -> SoftmaxCode:
    """The coordinates of a code, in the given size."""
    recipe = found.recipe
    if isinstance(recipe, Row) and isinstance(recipe.source, FromForm):
        closed = exact.best(K, d)
        assert closed is not None
        return closed.code(objective)
    if isinstance(recipe, Row) and isinstance(recipe.source, FromFamily):
        part = recipe.source.part
        kept = np.arange(K)
        if K < part.K <= MAX_CHOSEN:
            kept = kept_rows(part.build().W, K, objective)
        return part.build(kept, d).code(objective)
    if isinstance(recipe, Row):
        code = files.code(recipe, objective)
        return code if (code.K, code.d) == (K, d) else _derived(code.W, K, d, objective, _named(recipe, code))
    if isinstance(recipe, Filled):
        method = f"{_named(recipe.row, files.code(recipe.row, objective))}; and one more point, in its deepest hole"
        return _derived(recipe.W, K, d, objective, method)
    return _union(recipe, K, d, objective, files)


def _union(recipe: Joined, K: int, d: int, objective: str, files: Files) -> SoftmaxCode:
    """Codes in orthogonal subspaces; the union of exact codes keeps the proved bound on its cosines."""
    codes = [files.code(row, objective) for row in recipe.rows]
    named = "; ".join(_named(row, code) for row, code in zip(recipe.rows, codes, strict=True))
    proved, long = all(code.cosine_bound is not None for code in codes), K * K * d > MAX_ALL_MARGINS
    if long:  # a pair of the largest cosine comes first
        codes.sort(key=_bound_of_part, reverse=True)
    n = sum(code.K for code in codes)
    most = K if n > MAX_CHOSEN else n  # of many points the first are kept, and no others are written
    blocks = np.zeros((most, d))
    row = column = 0
    for code in codes:
        part = code.W[: most - row]
        blocks[row : row + len(part), column : column + code.d] = part
        row, column = row + len(part), column + code.d
    if not proved and not long:
        return _derived(blocks, K, d, objective, f"codes in orthogonal subspaces: {named}", n)
    W = blocks if most == K else np.ascontiguousarray(blocks[kept_rows(blocks, K, objective)])
    W.flags.writeable = False
    what = f"codes in orthogonal subspaces: {named}"[:MAX_METHOD] + f", {K} of {n} points" * (K < n)
    union = exact.ExactCode(W, max(0.0, *map(_bound_of_part, codes)), "", None, what, "docs/theory.md, T2")
    if proved:
        return union.code(objective)
    return SoftmaxCode(W, objective, Provenance(f"derived: {what}", version=installed_version()), _exact=union)


def _bound_of_part(code: SoftmaxCode) -> float:
    """An upper bound on the largest cosine of a part: proved, or computed where it is a small code of a catalogue."""
    return code.max_cosine + ROUNDING if code.cosine_bound is None else code.cosine_bound


def _named(row: Row, code: SoftmaxCode) -> str:
    return f"({row.K}, {row.d}) {code.provenance.method}"


def _derived(W: Rows, K: int, d: int, objective: str, origin: str, n: int | None = None) -> SoftmaxCode:
    """K rows of a code of n points, with zero coordinates appended."""
    columns = W.shape[1]
    n = len(W) if n is None else n
    X = np.pad(W[kept_rows(W, K, objective)], ((0, 0), (0, d - columns)))
    notes = [f"{K} of its {n} points"] * (K < n) + [f"{d - columns} zero coordinates appended"] * (columns < d)
    method = ", ".join([f"derived: {origin}"[:MAX_METHOD], *notes])
    return SoftmaxCode(X, objective, Provenance(method, version=installed_version()))


def best_known(K: int, d: int, *, objective: Objective = "softmax") -> SoftmaxCode:
    """The best code of K unit vectors in R^d that is stored or follows from stored ones, without any search.

    `best_known` compares closed forms, exact families, the catalogue in the package and the user's own. From them it
    derives codes of other pairs: points left out, zero coordinates appended, unions in orthogonal subspaces, and one
    more point in the deepest hole. So the value never grows with K and never falls with d.

    Parameters
    ----------
    K : int
        Number of classes, at least 2.
    d : int
        Dimension, at least 1.
    objective : {"softmax", "tammes"}
        The largest margin, or the largest smallest distance.

    Returns
    -------
    SoftmaxCode
        Its provenance names the origin. ``provenance.evidence`` is "proved", "searched" or "construction only"
        (`softmaxcode.Evidence`). A search may beat the last by far.

    Raises
    ------
    ValueError
        For a bad pair or objective; `CatalogError` (a ValueError) for a catalogue that cannot be read.
    UnknownCodeError
        If nothing stored gives a code; its ``bounds`` are those of the optimal value.

    Examples
    --------
    >>> import softmaxcode as sc
    >>> code = sc.best_known(240, 8)
    >>> code.margin, code.certificate.status, str(code.provenance.evidence)
    (0.5, 'matches Tammes', 'proved')
    >>> str(sc.best_known(230, 9).provenance.evidence)
    'construction only'
    >>> try:
    ...     sc.best_known(10**6, 3)
    ... except sc.UnknownCodeError as error:
    ...     print(f"{error.bounds.lower:.1e} {error.bounds.upper:.1e}")
    2.0e-06 3.8e-03
    """
    K, d = check_pair(K, d)
    objective = check_objective(objective)
    with _files() as files:
        found = _known(K, d, objective, files, families=True)
        if found is None:
            raise UnknownCodeError(K, d, objective, objective_bounds(K, d, objective))
        code = _built(found, K, d, objective, files)
    return replace(code, provenance=replace(code.provenance, evidence=found.evidence))


def objective_bounds(K: int, d: int, objective: str) -> MarginBounds:
    """The bounds on rho* ("softmax") or 1 - mu* ("tammes")."""
    both = margin_bounds(K, d)
    if objective == "softmax":
        return both
    bound = max_cosine_lower_bound(K, d)
    upper = one_minus_above(bound.value)
    # the volume bound and 1 - mu* bound rho* from below through 1 - mu*
    return replace(both, upper=upper, upper_method=bound.method)
