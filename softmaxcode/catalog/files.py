"""The open catalogues of an installation as one table of values, and the codes in it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from softmaxcode.catalog.closure import (
    Filled,
    FromFamily,
    FromFile,
    FromForm,
    Joined,
    Row,
    Table,
    closed_code,
    family_rows,
)
from softmaxcode.catalog.derived import with_hole_filled
from softmaxcode.catalog.schema import CatalogError
from softmaxcode.code import SoftmaxCode
from softmaxcode.storage.provenance import Provenance

if TYPE_CHECKING:
    from softmaxcode.catalog.entry import Entry
    from softmaxcode.catalog.file import Catalog, Value
    from softmaxcode.types import Rows

#: A file whose claims are too large so often is not used for other pairs than those it has.
MAX_CORRECTIONS = 100
#: The most codes with a hole filled that are kept in memory.
MAX_HOLES = 256
#: A claim is too large beyond this.
TOO_LARGE = 1e-12
#: The shipped file was made by a sweep: constructions in it were searched where one start of the search takes less than
#: ten minutes, which is K K d up to this.
SEARCHED_WORK = 4 * 10**9

#: The values of each file by its state, read once per process.
_VALUES: dict[tuple[object, ...], list[Value]] = {}
#: Values derived in this process where a file claimed more, by state of the file, pair and objective.
_CORRECTED: dict[tuple[object, ...], dict[tuple[int, int, str], float]] = {}
_TABLES: dict[tuple[object, ...], Table] = {}
_HOLES: dict[tuple[object, ...], SoftmaxCode | None] = {}


class Files:
    """The catalogues of an installation, the shipped one first, for as long as they are open.

    Parameters
    ----------
    catalog : Catalog or None
        The user's catalogue above the shipped one, or the one that exists.
    """

    def __init__(self, catalog: Catalog | None) -> None:
        self.catalog = catalog
        self.stack: list[Catalog] = []
        while catalog is not None:
            self.stack.insert(0, catalog)
            catalog = catalog.base
        self.states = tuple(one.state() for one in self.stack)
        for one, state in zip(self.stack, self.states, strict=True):
            if state not in _VALUES:
                _forget(state[0])
                _VALUES[state] = one.values()
                _CORRECTED[state] = {}

    def entry(self, K: int, d: int, objective: str) -> tuple[Entry, int] | None:
        """The best entry of a pair, derived where its file is not trusted, and the place of that file."""
        if self.catalog is None:
            return None
        found = self.catalog._find(K, d, objective)
        return None if found is None else (found[0], self.stack.index(found[1]))

    def searched(self, K: int, d: int) -> bool:
        """Whether a search of a pair is stored."""
        for one, state in zip(self.stack, self.states, strict=True):
            for value in _VALUES[state]:
                if (value.K, value.d) == (K, d) and (
                    value.searched or not value.exact or (one.trusted and K * K * d <= SEARCHED_WORK)
                ):
                    return True
        return False

    def table(self, d: int, objective: str, families: bool) -> Table:
        """Every stored code in at most d dimensions."""
        corrections = tuple(len(_CORRECTED[state]) for state in self.states)
        key = (self.states, corrections, d, objective, families)
        if key not in _TABLES:
            if len(_TABLES) > 128:
                _TABLES.clear()
            rows = list(family_rows(d, objective)) if families else []
            for place, state in enumerate(self.states):
                corrected = _CORRECTED[state]
                if len(corrected) > MAX_CORRECTIONS:
                    continue
                for value in _VALUES[state]:
                    if value.objective == objective and value.d <= d:
                        bound = corrected.get((value.K, value.d, objective), value.lower_bound)
                        rows.append(Row(value.K, value.d, bound, FromFile(place, value.sha256)))
            _TABLES[key] = Table(row for row in rows if math.isfinite(row.value))
        return _TABLES[key]

    def claimed(self, row: Row, objective: str) -> Entry:
        """The entry of a row that comes from a file."""
        assert isinstance(row.source, FromFile)
        entry = self.stack[row.source.file]._claimed(row.K, row.d, objective)
        if entry is None or entry.sha256 != row.source.sha256:
            raise CatalogError(f"the catalogue {self.stack[row.source.file].path} changed while it was read")
        return entry

    def correct(self, recipe: Row | Joined | Filled, objective: str) -> bool:
        """Derive the values of the files that are not trusted; False if one had claimed more than its coordinates."""
        rows = recipe.rows if isinstance(recipe, Joined) else [recipe.row if isinstance(recipe, Filled) else recipe]
        right = True
        for row in rows:
            if not isinstance(row.source, FromFile) or self.stack[row.source.file].trusted:
                continue
            one = self.stack[row.source.file]
            try:
                value = one._derived(self.claimed(row, objective), certified=False).lower_bound
            except CatalogError:
                value = -math.inf
            if value < row.value - TOO_LARGE:
                _CORRECTED[self.states[row.source.file]][row.K, row.d, objective] = value
                right = False
        return right

    def filled(self, row: Row, objective: str) -> tuple[float, Rows] | None:
        """The value and the rows of a stored code with one more point in its deepest hole; None if it is too large."""
        part = row.source.part if isinstance(row.source, FromFamily) else row.source
        key = (row.K, row.d, part)
        if key not in _HOLES:
            if len(_HOLES) > MAX_HOLES:
                _HOLES.clear()
            try:
                W = with_hole_filled(self.code(row, objective).W)
            except CatalogError:
                W = None
            _HOLES[key] = None if W is None else SoftmaxCode(W, objective, Provenance("one more point"))
        code = _HOLES[key]
        if code is None:
            return None
        return (code.margin if objective == "softmax" else 1 - code.max_cosine), code.W

    def code(self, row: Row, objective: str) -> SoftmaxCode:
        """A whole stored code, in its own dimensions."""
        if isinstance(row.source, FromForm):
            return closed_code(row.source).code(objective)
        if isinstance(row.source, FromFamily):
            return row.source.part.build().code(objective)
        one = self.stack[row.source.file]
        entry, code = one.read_latest(self.claimed(row, objective))
        method = f"catalogue entry {entry.name}: {code.provenance.method}"
        return SoftmaxCode(code.W, objective, replace(code.provenance, method=method))


def _forget(path: str) -> None:
    """Drop what earlier states of a file claimed."""
    for state in [state for state in _VALUES if state[0] == path]:
        del _VALUES[state], _CORRECTED[state]
