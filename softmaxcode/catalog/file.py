"""One catalogue file: SQLite, its contents validated on reading, written in transactions."""

from __future__ import annotations

import contextlib
import functools
import json
import reprlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, Self, TypeVar

import numpy as np

from softmaxcode import exact
from softmaxcode.catalog.entry import IMPROVEMENT, Entry, assess, may_improve, measured
from softmaxcode.catalog.schema import (
    MAX_STORED_COORDINATES,
    CatalogError,
    EntryReplaced,
    check_journal,
    open_file,
    sqlite_errors,
    transaction,
)
from softmaxcode.checks.arguments import (
    OBJECTIVES,
    check_flag,
    check_objective,
    check_pair,
    check_path,
    printable,
    shown,
)
from softmaxcode.code import SoftmaxCode, check_code
from softmaxcode.storage.files import checked_provenance, coordinates_hash
from softmaxcode.storage.records import RecordError, parse_json, read_record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

P = ParamSpec("P")
R = TypeVar("R")

#: The largest K K d of a code in a catalogue; the certificate of such a code takes minutes.
MAX_WORK = 10**12
#: The longest provenance, as text.
MAX_PROVENANCE = 10**5
_COLUMNS = "K, d, objective, lower_bound, margin, max_cosine, status, provenance, construction, sha256"
_WHERE = "WHERE K = ? AND d = ? AND objective = ?"
_STORED = ["lower_bound", "margin", "max_cosine", "status", "provenance", "construction", "chosen", "sha256"]
#: An entry that is replaced keeps its rowid, by which `Catalog.stored` finds it.
_WRITE = (
    f"INSERT INTO codes (K, d, objective, {', '.join(_STORED)}) VALUES ({', '.join('?' * (3 + len(_STORED)))}) "
    f"ON CONFLICT (K, d, objective) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _STORED)}"
)
#: An entry and its data in one statement: between two statements another process may replace the entry.
_DATA = f"SELECT codes.sha256, chosen, W FROM codes LEFT JOIN coordinates USING (sha256) {_WHERE}"
#: How often an entry is read again if another process keeps replacing it.
ATTEMPTS = 100
#: Entries derived in this process from the coordinates of untrusted files.
_DERIVED: dict[tuple[object, ...], Entry] = {}


def _exact_code(code: SoftmaxCode) -> exact.ExactCode | None:
    """The exact code whose rows these are, if it can be stored by name; None otherwise."""
    known = exact.best(code.K, code.d)
    if known is not None and np.array_equal(known.W, code.W):
        return known
    made = code._exact
    return made if isinstance(made, exact.ExactCode) and made.name else None


def _again(method: Callable[P, R]) -> Callable[P, R]:
    """Make a method read an entry again if another process replaced it during the read."""

    @functools.wraps(method)
    def wrapped(*args: P.args, **options: P.kwargs) -> R:
        for _ in range(ATTEMPTS):
            with contextlib.suppress(EntryReplaced):
                return method(*args, **options)
        return method(*args, **options)

    return wrapped


class Value(NamedTuple):
    """What a file claims of a code, without provenance and coordinates; ``searched`` where a search has a seed."""

    K: int
    d: int
    objective: str
    lower_bound: float
    sha256: str
    searched: bool
    exact: bool


class Catalog:
    """A catalogue file.

    Anyone may have written the file, so entries rank by values derived from their coordinates, never by its claims.

    Parameters
    ----------
    path : path
        The SQLite file. It is created if it does not exist, unless ``readonly``.
    readonly : bool
        Open the file for reading only.
    base : Catalog, optional
        A catalogue below this one. Its entries count too, and a code enters only if it beats them as well.
    trusted : bool
        Accept the values and statuses of the file without deriving them, as for the catalogue in the package.

    Raises
    ------
    CatalogError
        For a file that does not exist (``readonly``), is not a catalogue, is damaged, or has a newer schema.

    Examples
    --------
    >>> import softmaxcode as sc, tempfile, pathlib
    >>> with Catalog(pathlib.Path(tempfile.mkdtemp()) / "catalog.sqlite") as catalog:
    ...     entered = catalog.improve(sc.solve(7, 3, starts=4, catalog=False))
    ...     again = catalog.improve(sc.solve(7, 3, starts=4, catalog=False))
    >>> entered, again
    (('softmax', 'tammes'), ())
    """

    def __init__(
        self, path: str | Path, *, readonly: bool = False, base: Catalog | None = None, trusted: bool = False
    ) -> None:
        self.path = check_path(path)
        self.readonly = check_flag("readonly", readonly)
        if not isinstance(base, Catalog | None):
            raise ValueError(f"base must be a Catalog; got {shown(base)}")
        self.base = base
        self.trusted = trusted
        if self.path.exists() and not self.path.is_file():
            what = "a folder" if self.path.is_dir() else "not a regular file"
            raise CatalogError(f"the catalogue {self.path} is {what}")
        if readonly and not self.path.is_file():
            raise CatalogError(f"the catalogue {self.path} does not exist")
        if not self.path.parent.is_dir():
            raise CatalogError(f"the catalogue {self.path} cannot be made: the folder does not exist")
        check_journal(self.path)
        self._connection = open_file(self.path, readonly=readonly)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and the catalogue below it."""
        self._connection.close()
        if self.base is not None:
            self.base.close()

    def transaction(self) -> contextlib.AbstractContextManager[None]:
        """A transaction: all or nothing; another writer waits."""
        return transaction(self._connection)

    # reading

    def entries(self) -> list[Entry]:
        """The best entry of every pair and objective, by dimension, then classes, then objective."""
        best = {(e.d, e.K, e.objective): e for e in (self.base.entries() if self.base is not None else [])}
        for entry in self.stored():
            if isinstance(entry, CatalogError):
                raise entry
            key = (entry.d, entry.K, entry.objective)
            try:
                ranked: Entry | None = self._ranked(entry, best.get(key))
            except EntryReplaced:
                ranked = self.entry(entry.K, entry.d, entry.objective)
            if ranked is not None and ranked.beats(best.get(key)):
                best[key] = ranked
        return [best[key] for key in sorted(best)]

    def stored(self) -> Iterator[Entry | CatalogError]:
        """The claims of this file alone, entry by entry; a bad entry is replaced by its error."""
        with sqlite_errors(self.path):
            rows = [row for (row,) in self._connection.execute("SELECT rowid FROM codes")]
        for row in rows:
            try:
                with sqlite_errors(self.path):
                    found = self._connection.execute(f"SELECT {_COLUMNS} FROM codes WHERE rowid = ?", (row,)).fetchone()
                if found is not None:  # otherwise it was deleted; an entry that is replaced keeps its row
                    yield self._entry(found)
            except CatalogError as error:
                yield error

    def values(self) -> list[Value]:
        """What this file alone claims of every code, in one query; rows that are no entries are left out."""
        with sqlite_errors(self.path):
            rows = self._connection.execute(
                "SELECT K, d, objective, lower_bound, sha256, json_extract(provenance, '$.seed') IS NOT NULL, "
                "construction IS NOT NULL FROM codes WHERE json_valid(provenance)"
            ).fetchall()
        kinds = (int, int, str, float, str, int, int)
        return [
            Value(row[0], row[1], row[2], row[3], row[4], bool(row[5]), bool(row[6]))
            for row in rows
            if all(isinstance(value, kind) for value, kind in zip(row, kinds, strict=True)) and abs(row[3]) <= 2
        ]

    def state(self) -> tuple[str, int, int, bytes]:
        """What changes whenever the file does: its path, size, time, and SQLite's change counter."""
        found = self.path.stat()
        with self.path.open("rb") as stream:
            stream.seek(24)
            return str(self.path.resolve()), found.st_size, found.st_mtime_ns, stream.read(4)

    def entry(self, K: int, d: int, objective: str) -> Entry | None:
        """The best entry of one pair, or None."""
        found = self._find(K, d, objective)
        return None if found is None else found[0]

    @_again
    def _find(self, K: int, d: int, objective: str) -> tuple[Entry, Catalog] | None:
        """The best entry of one pair and the file that contains it."""
        K, d = check_pair(K, d)
        check_objective(objective)
        below = None if self.base is None else self.base._find(K, d, objective)
        best = None if below is None else below[0]
        claimed = self._claimed(K, d, objective)
        if claimed is None:
            return below
        entry = self._ranked(claimed, best)
        return (entry, self) if entry.beats(best) else below

    def _claimed(self, K: int, d: int, objective: str) -> Entry | None:
        """The claims of the row of one pair and objective; None where there is no row."""
        with sqlite_errors(self.path):
            row = self._connection.execute(f"SELECT {_COLUMNS} FROM codes {_WHERE}", (K, d, objective)).fetchone()
        return None if row is None else self._entry(row)

    def _entry(self, row: tuple[Any, ...]) -> Entry:
        """The claims of a row, validated."""
        stored = dict(zip(_COLUMNS.split(", "), row, strict=True))
        try:
            text = stored["provenance"]
            if not isinstance(text, str) or len(text) > MAX_PROVENANCE:
                raise RecordError(f"its provenance is not a text of at most {MAX_PROVENANCE} characters")
            return read_record(Entry, {**stored, "provenance": parse_json(text), "verified": self.trusted})
        except RecordError as error:
            pair = ", ".join(printable(reprlib.repr(value)) for value in row[:2])
            raise CatalogError(
                f"the catalogue {self.path} is damaged: its entry ({pair}) is not one ({error})"
            ) from None

    def _ranked(self, entry: Entry, other: Entry | None) -> Entry:
        """An entry of this file for comparison with another: derived from its coordinates, with its status on a tie."""
        if entry.verified:
            return entry
        if other is not None and replace(entry, verified=other.verified) == other:
            return other
        measured_here = self._derived(entry, certified=False)
        tie = other is not None and abs(measured_here.lower_bound - other.lower_bound) <= IMPROVEMENT
        return self._derived(entry, certified=True) if tie else measured_here

    def _derived(self, entry: Entry, *, certified: bool) -> Entry:
        """An entry of this file derived from its coordinates, once per process; with a certificate on request."""
        key = (entry.K, entry.d, entry.objective, entry.sha256, entry.construction, certified)
        if key not in _DERIVED:
            code = self.read(entry)
            _DERIVED[key] = assess(code, entry.objective, entry.construction) if certified else measured(entry, code)
        found = _DERIVED[key]
        return replace(found, provenance=entry.provenance, status=found.status if certified else entry.status)

    def code(self, K: int, d: int, objective: str) -> SoftmaxCode | None:
        """The best code of one pair, its coordinates checked against their SHA-256; None where there is none."""
        found = self._find(K, d, objective)
        return None if found is None else found[1].read_latest(found[0])[1]

    @_again
    def read_latest(self, entry: Entry) -> tuple[Entry, SoftmaxCode]:
        """An entry of this file and its code, or the entry with which another process replaced it."""
        try:
            return entry, self.read(entry)
        except EntryReplaced:
            claimed = self._claimed(entry.K, entry.d, entry.objective)
            if claimed is None:
                raise
            return claimed, self.read(claimed)

    def _data(self, entry: Entry) -> tuple[Any, Any]:
        """The row indices and the coordinates of an entry; `EntryReplaced` where the file now has another entry."""
        with sqlite_errors(self.path):
            found = self._connection.execute(_DATA, (entry.K, entry.d, entry.objective)).fetchone()
        if found is None or found[0] != entry.sha256:
            raise EntryReplaced(f"the catalogue {self.path} has another entry than {entry.name} now: read it again")
        return found[1], found[2]

    def read(self, entry: Entry) -> SoftmaxCode:
        """The code of an entry of this file, its coordinates checked against their SHA-256."""

        def damaged(why: str) -> CatalogError:
            return CatalogError(f"the catalogue {self.path} is damaged: entry {entry.name} {why}")

        if entry.K * entry.d > MAX_STORED_COORDINATES and entry.construction is None:
            raise damaged(f"has more than {MAX_STORED_COORDINATES} coordinates")
        if entry.K * entry.K * entry.d > MAX_WORK:
            raise damaged(f"is too large for a catalogue: K K d exceeds {MAX_WORK:.0e}")
        if entry.d <= 2 or entry.K <= 2 * entry.d:
            raise damaged("has a closed form, which no catalogue stores")
        chosen, blob = self._data(entry)
        if entry.construction is not None:
            if not isinstance(chosen, bytes | None) or (chosen is not None and len(chosen) != 4 * entry.K):
                raise damaged(f"cannot be built: the indices of its rows are not {entry.K} integers of 4 bytes")
            indices = None if chosen is None else np.frombuffer(chosen, dtype="<u4").astype(np.int64)
            try:
                W = exact.rebuild(entry.construction, indices, entry.K, entry.d).W
            except ValueError as error:
                raise damaged(f"cannot be built: {error}") from None
        else:
            if not isinstance(blob, bytes) or len(blob) != 8 * entry.K * entry.d:
                raise damaged("has no coordinates of its shape")
            W = np.frombuffer(blob, dtype="<f8").reshape(entry.K, entry.d).astype(np.float64)
        if coordinates_hash(W) != entry.sha256:
            raise damaged("has other coordinates than those it was made for")
        try:
            code = SoftmaxCode(W, entry.objective, entry.provenance)
        except ValueError as error:
            raise damaged(f"has coordinates that are no code: {error}") from None
        if not np.array_equal(code.W, W):
            raise damaged("has rows that are not unit to rounding")
        return code

    def check_whole(self) -> None:
        """Make SQLite check the structure of the whole file."""
        with sqlite_errors(self.path):
            said = self._connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if said != "ok":
            raise CatalogError(f"the catalogue {self.path} is damaged ({printable(said)})")

    # writing

    def improve(self, code: SoftmaxCode) -> tuple[str, ...]:
        """Enter a code under every objective for which its certificate beats the stored one.

        The certificate is derived from the coordinates. Each code is tried for both objectives. So the softmax entry of
        a pair is never below its tammes entry (docs/theory.md, T2).

        Returns
        -------
        tuple of str
            The objectives under which the code entered. Empty where it beats nothing or its pair has a closed form.

        Raises
        ------
        CatalogError
            If the file cannot be written, or the code is too large for a catalogue.
        """
        check_code("a catalogue", code)
        if exact.closed_form(code.K, code.d) is not None:
            return ()
        if code.K * code.K * code.d > MAX_WORK:
            raise CatalogError(f"a catalogue stores codes of up to K K d = {MAX_WORK:.0e}; got ({code.K}, {code.d})")
        known = _exact_code(code)
        if known is None and code.W.size > MAX_STORED_COORDINATES:
            raise CatalogError(
                f"a catalogue stores codes of up to {MAX_STORED_COORDINATES} coordinates; got {code.W.size}"
            )
        candidates = [
            assess(code, name, None if known is None else known.name)
            for name in ([code.objective] + [name for name in OBJECTIVES if name != code.objective])
            if may_improve(code, name, self.entry(code.K, code.d, name))
        ]
        if not any(map(self._is_beaten_by, candidates)):
            return ()
        chosen = None if known is None or known.indices is None else known.indices.astype("<u4").tobytes()
        W = np.ascontiguousarray(code.W, dtype="<f8").tobytes() if known is None else None
        entered = []
        with sqlite_errors(self.path), self.transaction():
            for candidate in candidates:
                if self._is_beaten_by(candidate):
                    self._write(candidate, chosen, W)
                    entered.append(candidate.objective)
            self._connection.execute(
                "DELETE FROM coordinates WHERE sha256 NOT IN (SELECT sha256 FROM codes WHERE construction IS NULL)"
            )
        return tuple(sorted(entered))

    @_again
    def _is_beaten_by(self, candidate: Entry) -> bool:
        """Whether an entry derived here is better than the stored entry of its pair."""
        found = self._find(candidate.K, candidate.d, candidate.objective)
        return found is None or candidate.beats(found[1]._ranked(found[0], candidate))

    def _write(self, entry: Entry, chosen: bytes | None, W: bytes | None) -> None:
        if W is not None:
            self._connection.execute("INSERT OR REPLACE INTO coordinates VALUES (?, ?)", (entry.sha256, W))
        values = (
            entry.K,
            entry.d,
            entry.objective,
            entry.lower_bound,
            entry.margin,
            entry.max_cosine,
            entry.status,
            json.dumps(checked_provenance(entry.provenance)),
            entry.construction,
            chosen,
            entry.sha256,
        )
        self._connection.execute(_WRITE, values)

    @_again
    def copy(self, entry: Entry, catalog: Catalog) -> None:
        """Copy an entry from the file of another catalogue, with values derived from its coordinates."""
        key = (entry.K, entry.d, entry.objective)
        found = catalog._find(*key)
        assert found is not None
        entry, holder = found
        if not entry.verified:
            holder.read(entry)
            entry = holder._derived(entry, certified=True)
        chosen, W = holder._data(entry)
        if entry.construction is None and W is None:
            raise CatalogError(f"the catalogue {holder.path} is damaged: {entry.name} has no coordinates")
        self._write(entry, chosen, None if entry.construction is not None else W)
