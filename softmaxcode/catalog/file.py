"""One catalogue file: SQLite, read without trust, written in transactions."""

from __future__ import annotations

import contextlib
import json
import math
import sqlite3
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from softmaxcode import exact
from softmaxcode.catalog.entry import STATUSES, Entry, assess, hopeful
from softmaxcode.checks import check_flag, check_pair, check_path, shown
from softmaxcode.code import OBJECTIVES, Provenance, SoftmaxCode, check_code, check_objective, installed_version
from softmaxcode.files import coordinates_hash, plain_dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

    from softmaxcode.types import Rows

#: "SMXC" as a 32-bit integer, in the header of the SQLite file; and the version of the schema.
APPLICATION_ID = 0x534D5843
SCHEMA_VERSION = 1
#: The largest code whose coordinates a catalogue stores, in numbers.
MAX_COORDINATES = 10**7
#: Seconds to wait for another process that writes.
PATIENCE = 60.0

_SCHEMA = {
    "codes": """CREATE TABLE codes (
    K INTEGER NOT NULL,
    d INTEGER NOT NULL,
    objective TEXT NOT NULL,
    lower_bound REAL NOT NULL,
    margin REAL NOT NULL,
    max_cosine REAL NOT NULL,
    status TEXT NOT NULL,
    provenance TEXT NOT NULL,
    construction TEXT,
    chosen BLOB,
    sha256 TEXT NOT NULL,
    PRIMARY KEY (K, d, objective)
)""",
    "coordinates": """CREATE TABLE coordinates (
    sha256 TEXT PRIMARY KEY,
    W BLOB NOT NULL
)""",
}


_COLUMNS = "K, d, objective, lower_bound, margin, max_cosine, status, provenance, construction, sha256"


class CatalogError(ValueError):
    """A catalogue that cannot be read or written; the message says which file and why."""


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what SQLite says into one sentence that names the file."""
    try:
        yield
    except sqlite3.Error as error:
        said = str(error)
        if "not a database" in said or "file is encrypted" in said:
            reason = "is not a softmaxcode catalogue: it is no SQLite file"
        elif "malformed" in said or "no such table" in said or "no such column" in said:
            reason = f"is a damaged catalogue ({said})"
        elif "full" in said:
            reason = "cannot be written: the disk is full; nothing in it was changed"
        elif "readonly" in said:
            reason = "cannot be written: it is read-only"
        elif "locked" in said or "busy" in said:
            reason = f"is being written by another process, for more than {PATIENCE:.0f} s"
        else:
            reason = f"cannot be used ({said})"
        raise CatalogError(f"the catalogue {path} {reason}") from None


class Catalog:
    """A catalogue file.

    Parameters
    ----------
    path : path
        The SQLite file; made if it does not exist, unless ``readonly``.
    readonly : bool
        Read only.
    base : Catalog, optional
        A catalogue below this one: its entries are held too, and a code enters only if it beats them as well.

    Raises
    ------
    CatalogError
        For a file that does not exist (``readonly``), is no catalogue, is damaged, or has a newer schema.

    Examples
    --------
    >>> import softmaxcode as sc, tempfile, pathlib
    >>> with Catalog(pathlib.Path(tempfile.mkdtemp()) / "catalog.sqlite") as catalog:
    ...     entered = catalog.improve(sc.solve(7, 3, starts=4, catalog=False))
    ...     again = catalog.improve(sc.solve(7, 3, starts=4, catalog=False))
    >>> entered, again
    (('softmax', 'tammes'), ())
    """

    def __init__(self, path: str | Path, *, readonly: bool = False, base: Catalog | None = None) -> None:
        self.path = check_path(path)
        self.readonly = check_flag("readonly", readonly)
        if not isinstance(base, Catalog | None):
            raise ValueError(f"base must be a Catalog; got {shown(base)}")
        self.base = base
        if readonly and not self.path.is_file():
            raise CatalogError(f"the catalogue {self.path} does not exist")
        if not self.path.parent.is_dir():
            raise CatalogError(f"the catalogue {self.path} cannot be made: the folder does not exist")
        with explained(self.path):
            try:
                self._open("ro" if readonly else "rwc")
            except sqlite3.OperationalError as error:
                if not (readonly and "readonly" in str(error)):
                    raise
                self._open("rw")  # a writer was killed: what it left half done is undone before anyone reads
                self._connection.execute("PRAGMA query_only = ON")

    def _open(self, mode: str) -> None:
        uri = f"{self.path.resolve().as_uri()}?mode={mode}"
        self._connection = sqlite3.connect(uri, uri=True, timeout=PATIENCE, isolation_level=None)
        try:
            self._connection.execute("PRAGMA trusted_schema = OFF")
            self._check_schema()
        except BaseException:
            self._connection.close()
            raise

    def _check_schema(self) -> None:
        """The schema is ours to the letter: an untrusted file may bring triggers or views."""

        def stored() -> tuple[int, int, dict[str, str]]:
            tables = self._connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
            kind = self._connection.execute("PRAGMA application_id").fetchone()[0]
            return kind, self._connection.execute("PRAGMA user_version").fetchone()[0], dict(tables)

        kind, version, tables = stored()
        if not tables and kind == 0 and not self.readonly:
            with self.transaction():
                kind, version, tables = stored()
                if not tables:  # else another process has just made it
                    for statement in _SCHEMA.values():
                        self._connection.execute(statement)
                    self._connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                    self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            kind, version, tables = stored()
        if kind != APPLICATION_ID:
            raise CatalogError(f"the catalogue {self.path} is an SQLite file of something else")
        if version > SCHEMA_VERSION:
            raise CatalogError(
                f"the catalogue {self.path} has schema {version}, newer than the {SCHEMA_VERSION} that softmaxcode "
                f"{installed_version()} reads: upgrade softmaxcode"
            )
        if tables != _SCHEMA:
            raise CatalogError(f"the catalogue {self.path} is damaged: its tables are not those of schema {version}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, and the one below."""
        self._connection.close()
        if self.base is not None:
            self.base.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; another writer waits at the door."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    # reading

    def entries(self) -> list[Entry]:
        """The best entry of every pair and objective, by dimension, then classes, then objective."""
        best = {(e.d, e.K, e.objective): e for e in (self.base.entries() if self.base is not None else [])}
        with explained(self.path):
            rows = self._connection.execute(f"SELECT {_COLUMNS} FROM codes").fetchall()
        for entry in map(self._entry, rows):
            key = (entry.d, entry.K, entry.objective)
            if entry.beats(best.get(key)):
                best[key] = entry
        return [best[key] for key in sorted(best)]

    def entry(self, K: int, d: int, objective: str) -> Entry | None:
        """What is held of one pair, or None."""
        found = self._find(K, d, objective)
        return None if found is None else found[0]

    def _find(self, K: int, d: int, objective: str) -> tuple[Entry, Catalog] | None:
        """The best entry of one pair and the file that holds it."""
        K, d = check_pair(K, d)
        check_objective(objective)
        below = None if self.base is None else self.base._find(K, d, objective)
        query = f"SELECT {_COLUMNS} FROM codes WHERE K = ? AND d = ? AND objective = ?"
        with explained(self.path):
            row = self._connection.execute(query, (K, d, objective)).fetchone()
        if row is None:
            return below
        entry = self._entry(row)
        return (entry, self) if below is None or entry.beats(below[0]) else below

    def _entry(self, row: tuple[Any, ...]) -> Entry:
        K, d, objective, lower, margin, cosine, status, provenance, construction, sha256 = row
        try:
            check_pair(K, d)
            check_objective(objective)
            figures = [lower, margin, cosine]
            if not all(isinstance(x, float) and math.isfinite(x) for x in figures) or status not in STATUSES:
                raise ValueError
            if not isinstance(sha256, str) or not isinstance(construction, str | None):
                raise ValueError
            made = plain_dataclass(Provenance, json.loads(provenance))
        except (TypeError, ValueError, RecursionError):
            raise CatalogError(f"the catalogue {self.path} is damaged: its entry ({K!r}, {d!r}) is not one") from None
        return Entry(K, d, objective, lower, margin, cosine, status, made, construction, sha256)

    def code(self, K: int, d: int, objective: str) -> SoftmaxCode | None:
        """The code held of one pair, its coordinates checked against their SHA-256; None where there is none."""
        found = self._find(K, d, objective)
        return None if found is None else found[1].read(found[0])

    def read(self, entry: Entry) -> SoftmaxCode:
        """The code of an entry of this file, its coordinates checked against their SHA-256."""
        key = (entry.K, entry.d, entry.objective)

        def damaged(why: str) -> CatalogError:
            return CatalogError(f"the catalogue {self.path} is damaged: entry {entry.name} {why}")

        if entry.K * entry.d > MAX_COORDINATES and entry.construction is None:
            raise damaged(f"has more than {MAX_COORDINATES} coordinates")
        with explained(self.path):
            found = self._connection.execute(
                "SELECT chosen FROM codes WHERE K = ? AND d = ? AND objective = ?", key
            ).fetchone()
            blob = self._connection.execute("SELECT W FROM coordinates WHERE sha256 = ?", (entry.sha256,)).fetchone()
        if entry.construction is not None:
            indices = None if found[0] is None else np.frombuffer(found[0], dtype="<u4").astype(np.int64)
            try:
                W = exact.rebuild(entry.construction, indices, entry.K, entry.d).W
            except ValueError as error:
                raise damaged(f"cannot be built: {error}") from None
        else:
            if blob is None or not isinstance(blob[0], bytes) or len(blob[0]) != 8 * entry.K * entry.d:
                raise damaged("has no coordinates of its shape")
            W = np.frombuffer(blob[0], dtype="<f8").reshape(entry.K, entry.d).astype(np.float64)
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
        """Have SQLite check the structure of the whole file."""
        with explained(self.path):
            said = self._connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if said != "ok":
            raise CatalogError(f"the catalogue {self.path} is damaged ({said})")

    # writing

    def improve(self, code: SoftmaxCode) -> tuple[str, ...]:
        """Enter a code under every objective for which its certificate beats the stored one.

        The certificate is derived from the coordinates. A code made for one objective is tried for both, so that
        the softmax entry of a pair is never below its tammes entry (docs/theory.md, T2).

        Returns
        -------
        tuple of str
            The objectives under which the code entered; empty where it beats nothing, or its pair has a closed form.

        Raises
        ------
        CatalogError
            If the file cannot be written, or the code is too large for a catalogue.
        """
        check_code("a catalogue", code)
        if exact.closed_form(code.K, code.d) is not None:
            return ()
        held = {name: self.entry(code.K, code.d, name) for name in OBJECTIVES}
        known = exact.best(code.K, code.d)
        if known is not None and not np.array_equal(known.W, code.W):
            known = None
        if known is None and code.W.size > MAX_COORDINATES:
            raise CatalogError(f"a catalogue holds codes of up to {MAX_COORDINATES} coordinates; got {code.W.size}")
        candidates = [
            assess(code, name, None if known is None else known.name)
            for name in ([code.objective] + [name for name in OBJECTIVES if name != code.objective])
            if hopeful(code, name, held[name])
        ]
        if not any(candidate.beats(held[candidate.objective]) for candidate in candidates):
            return ()
        entered = []
        with explained(self.path), self.transaction():
            for candidate in candidates:
                if candidate.beats(self.entry(code.K, code.d, candidate.objective)):
                    self._write(candidate, code.W, known)
                    entered.append(candidate.objective)
            self._connection.execute(
                "DELETE FROM coordinates WHERE sha256 NOT IN (SELECT sha256 FROM codes WHERE construction IS NULL)"
            )
        return tuple(sorted(entered))

    def _write(self, entry: Entry, W: Rows, known: exact.ExactCode | None) -> None:
        chosen = None
        if known is None:
            blob = np.ascontiguousarray(W, dtype="<f8").tobytes()
            self._connection.execute("INSERT OR IGNORE INTO coordinates VALUES (?, ?)", (entry.sha256, blob))
        elif known.indices is not None:
            chosen = known.indices.astype("<u4").tobytes()
        values = (
            entry.K,
            entry.d,
            entry.objective,
            entry.lower_bound,
            entry.margin,
            entry.max_cosine,
            entry.status,
            json.dumps(asdict(entry.provenance)),
            entry.construction,
            chosen,
            entry.sha256,
        )
        self._connection.execute(f"INSERT OR REPLACE INTO codes VALUES ({', '.join('?' * len(values))})", values)

    def copy(self, entry: Entry, catalog: Catalog) -> None:
        """Take an entry over from the file of another catalogue that holds it, as it is."""
        key = (entry.K, entry.d, entry.objective)
        found = catalog._find(*key)
        assert found is not None
        source = found[1]._connection
        row = source.execute("SELECT * FROM codes WHERE K = ? AND d = ? AND objective = ?", key).fetchone()
        self._connection.execute(f"INSERT OR REPLACE INTO codes VALUES ({', '.join('?' * len(row))})", row)
        if entry.construction is None:
            stored = source.execute("SELECT * FROM coordinates WHERE sha256 = ?", (entry.sha256,)).fetchone()
            if stored is None:
                raise CatalogError(f"the catalogue {found[1].path} is damaged: {entry.name} has no coordinates")
            self._connection.execute("INSERT OR IGNORE INTO coordinates VALUES (?, ?)", stored)
