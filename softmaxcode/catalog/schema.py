"""The SQLite side of a catalogue file: its tables, connections for untrusted files, and its errors."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from softmaxcode.checks.arguments import printable
from softmaxcode.storage.provenance import installed_version

if TYPE_CHECKING:
    from collections.abc import Iterator


#: "SMXC" as a 32-bit integer, in the header of the SQLite file; and the version of the schema.
APPLICATION_ID = 0x534D5843
SCHEMA_VERSION = 1
#: The most coordinates of a code that a catalogue stores.
MAX_STORED_COORDINATES = 10**7
#: The largest value of a row, in bytes.
MAX_VALUE = 8 * MAX_STORED_COORDINATES + 2**20
#: Seconds to wait while another process writes.
TIMEOUT = 60.0

_TABLES = {
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

#: Every row of the schema, with the indexes that SQLite creates for the keys.
_SCHEMA = sorted(
    [("table", name, name, sql) for name, sql in _TABLES.items()]
    + [("index", f"sqlite_autoindex_{name}_1", name, "") for name in _TABLES]
)

#: The last bytes of a rollback journal that names a second file, which SQLite would read and delete.
_SUPER_JOURNAL = bytes.fromhex("d9d505f920a163d7")


class CatalogError(ValueError):
    """A catalogue that cannot be read or written; the message names the file and the reason."""


class EntryReplaced(CatalogError):
    """Another process has replaced an entry since it was read."""


@contextlib.contextmanager
def sqlite_errors(path: Path) -> Iterator[None]:
    """Convert an error of SQLite into one sentence that names the file."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:  # a message may quote bytes of the file that are not text
        said = error.object.decode(errors="replace") if isinstance(error, UnicodeDecodeError) else str(error)
        if "not a database" in said or "file is encrypted" in said:
            reason = "is not a softmaxcode catalogue: it is no SQLite file"
        elif "malformed" in said or "no such table" in said or "no such column" in said:
            reason = f"is a damaged catalogue ({printable(said)})"
        elif "full" in said:
            reason = "cannot be written: the disk is full; nothing in it was changed"
        elif "readonly" in said:
            reason = "cannot be written: it is read-only"
        elif "locked" in said or "busy" in said:
            reason = f"is being written by another process, for more than {TIMEOUT:.0f} s"
        elif "too big" in said:
            reason = f"contains a value of more than {MAX_VALUE:,} bytes"
        else:
            reason = f"cannot be used ({printable(said)})"
        raise CatalogError(f"the catalogue {path} {reason}") from None


def check_journal(path: Path) -> None:
    """Refuse a rollback journal that names another file: SQLite would delete that file."""
    resolved = path.resolve()
    journal = resolved.with_name(f"{resolved.name}-journal")
    try:
        with journal.open("rb") as stream:
            stream.seek(-min(8, journal.stat().st_size), os.SEEK_END)
            ending = stream.read(8)
    except OSError:
        return
    if ending == _SUPER_JOURNAL:
        raise CatalogError(f"the catalogue {path} cannot be used: {journal} was not left by softmaxcode")


def open_file(path: Path, *, readonly: bool) -> sqlite3.Connection:
    """A connection to a catalogue with our schema; an empty file receives the schema, unless ``readonly``."""
    with sqlite_errors(path):
        try:
            return _connect(path, "ro" if readonly else "rwc", readonly=readonly)
        except sqlite3.OperationalError as error:
            if not (readonly and "readonly" in str(error)):
                raise
        # if a writer was killed, SQLite first undoes its unfinished transaction
        connection = _connect(path, "rw", readonly=True)
        connection.execute("PRAGMA query_only = ON")
        return connection


def _connect(path: Path, mode: str, *, readonly: bool) -> sqlite3.Connection:
    uri = f"{path.resolve().as_uri()}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, timeout=TIMEOUT, isolation_level=None)
    try:
        connection.text_factory = lambda text: text.decode(errors="replace")
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE)
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        _check_schema(connection, path, readonly=readonly)
    except BaseException:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """A transaction: all or nothing; another writer waits up to `TIMEOUT`."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _stored_schema(connection: sqlite3.Connection) -> tuple[int, int, list[tuple[str, ...]]]:
    """Application id, schema version and every row of the schema."""
    rows = connection.execute("SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_master")
    schema = sorted(tuple(map(str, row)) for row in rows)
    kind = connection.execute("PRAGMA application_id").fetchone()[0]
    return kind, connection.execute("PRAGMA user_version").fetchone()[0], schema


def _check_schema(connection: sqlite3.Connection, path: Path, *, readonly: bool) -> None:
    """Require exactly our schema: an untrusted file may contain triggers or views."""
    kind, version, schema = _stored_schema(connection)
    if not schema and kind == 0 and not readonly:
        with transaction(connection):
            if not _stored_schema(connection)[2]:  # otherwise another process has just created it
                for statement in _TABLES.values():
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        kind, version, schema = _stored_schema(connection)
    if kind != APPLICATION_ID:
        what = "an SQLite file of something else" if path.stat().st_size else "empty"
        raise CatalogError(f"the catalogue {path} is {what}")
    if version > SCHEMA_VERSION:
        raise CatalogError(
            f"the catalogue {path} has schema {version}, newer than the {SCHEMA_VERSION} that softmaxcode "
            f"{installed_version()} reads: upgrade softmaxcode"
        )
    if (version, schema) != (SCHEMA_VERSION, _SCHEMA):
        raise CatalogError(f"the catalogue {path} is damaged: its tables are not those of schema {version}")
