"""The journal of a long run: validated pairs, recorded when finished, so that an interrupted run resumes."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Annotated, Any, TextIO, TypedDict

import msgspec

from softmaxcode.checks.arguments import check_pair, shown
from softmaxcode.storage.disk import MAX_TEXT_BYTES, check_writable, read_text, written_whole
from softmaxcode.storage.records import RecordError, parse_json, read_record

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def check_pairs(pairs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The pairs (K, d) in their order, without repetitions.

    Raises
    ------
    ValueError
        If an element is not a pair; the message shows it.

    Examples
    --------
    >>> check_pairs([(12, 3), (7, 3), (12, 3)])
    [(12, 3), (7, 3)]
    """
    out: dict[tuple[int, int], None] = {}
    try:
        listed = list(pairs)
    except TypeError:
        raise ValueError(f"pairs must be a list of (K, d); got {shown(pairs)}") from None
    for pair in listed:
        try:
            K, d = pair
        except (TypeError, ValueError):
            raise ValueError(f"pairs must be a list of (K, d); got {shown(pair)} in it") from None
        out[check_pair(K, d)] = None
    return list(out)


def json_options(options: dict[str, Any]) -> dict[str, Any]:
    """Options as they would be read back from JSON: sorted, without None, with Python's scalars for NumPy's.

    Examples
    --------
    >>> import numpy as np
    >>> json_options({"seed": np.int64(3), "budget": None})
    {'seed': 3}
    """
    given = {name: options[name] for name in sorted(options) if options[name] is not None}
    out: dict[str, Any] = json.loads(json.dumps(given, default=lambda scalar: scalar.item()))
    return out


class Noted(TypedDict):
    """The fields of every journal entry."""

    K: Annotated[int, msgspec.Meta(ge=2)]
    d: Annotated[int, msgspec.Meta(ge=1)]


def _signed(line: Any) -> str:
    """A line of the journal: JSON, a tab and the first digits of its SHA-256."""
    text = json.dumps(line)
    return f"{text}\t{hashlib.sha256(text.encode()).hexdigest()[:16]}\n"


def _write(stream: TextIO, line: Any) -> None:
    """Write a line, unless the file would become too large to read."""
    text = _signed(line)
    if stream.tell() + len(text) <= MAX_TEXT_BYTES:
        stream.write(text)


def _unsigned(text: str) -> Any:
    """The content of a line of the journal; None if it is damaged."""
    content, _, signature = text.partition("\t")
    if not signature or signature != hashlib.sha256(content.encode()).hexdigest()[:16]:
        return None
    try:
        return parse_json(content)
    except RecordError:
        return None


def is_journal(path: Path) -> bool:
    """Whether a file has a line in the format of a journal."""
    return any(_unsigned(line) is not None for line in read_text(path).split("\n"))


def noted(path: Path, options: dict[str, Any], kind: Any = Noted) -> dict[tuple[int, int], dict[str, Any]] | None:
    """The entries of a journal, empty if there is no file; None if the run had other options.

    Raises
    ------
    ValueError
        If the file is not a journal.
    """
    text = read_text(path) if path.exists() else ""
    if not text.strip():
        return {}
    head, *lines = map(_unsigned, text.split("\n"))
    if head is None and all(line is None for line in lines):
        raise ValueError(
            f"cannot write the journal {path}: the file is something else; move it, or name another file to write"
        )
    if head != json_options(options):
        return None
    entries = {}
    for line in lines:
        try:
            read_record(kind, line)
        except RecordError:
            continue
        entries[line["K"], line["d"]] = line
    return entries


class Journal:
    """Finished pairs, one JSON line each below the options of the run, with checksums; a damaged line is unfinished.

    The checksums detect accidents, such as a full disk. They are not signatures: anyone can write a valid line. So
    entries of a journal must be validated before use.

    Parameters
    ----------
    path : path or None
        The file; None keeps the entries in memory only. A journal with other options is removed.
    options : dict
        The options on which entries depend, JSON-serialisable.
    kind : type
        A TypedDict of the fields that each entry must have; other lines count as unfinished.

    Attributes
    ----------
    entries : dict
        From (K, d) to the entry, in the order of finishing.

    Raises
    ------
    ValueError
        If ``path`` is a file that is not a journal (it stays unchanged), or cannot be written.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "run.journal"
    >>> Journal(path, {"seed": 0}).add({"K": 12, "d": 3})
    >>> list(Journal(path, {"seed": 0}).entries), list(Journal(path, {"seed": 1}).entries)
    ([(12, 3)], [])
    """

    def __init__(self, path: Path | None, options: dict[str, Any], kind: Any = Noted) -> None:
        self.entries: dict[tuple[int, int], dict[str, Any]] = {}
        self._path = path
        self._header = json_options(options)
        self._whole = False  # whether this process wrote the file, so that it can append
        if path is None:
            return
        try:
            check_writable(path)
        except ValueError as error:
            raise ValueError(str(error).replace("cannot write", "cannot write the journal", 1)) from None
        found = noted(path, options, kind)
        if found is None:
            self.remove()
        else:
            self.entries = found

    def add(self, entry: dict[str, Any]) -> None:
        """Record a finished pair: a JSON-serialisable dict with "K" and "d".

        An entry that would make the file too large to read is kept in memory only.
        """
        if self._path is not None and not self._whole:
            with written_whole(self._path) as temporary, temporary.open("w") as stream:
                for known in (self._header, *self.entries.values()):
                    _write(stream, known)
        self.entries[entry["K"], entry["d"]] = entry
        if self._path is not None:
            self._whole = False  # until the write succeeds
            with self._path.open("a") as stream:
                _write(stream, entry)
                stream.flush()
                os.fsync(stream.fileno())
            self._whole = True

    def remove(self) -> None:
        """Remove the file once the run is complete."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
