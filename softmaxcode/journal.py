"""The pairs of a long run: checked at the door, and noted when finished, so that an interrupted run resumes."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from softmaxcode.checks import check_pair, shown
from softmaxcode.disk import written_whole

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def check_pairs(pairs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The pairs (K, d) in their order, each once.

    Raises
    ------
    ValueError
        That shows what is no pair.

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


def plain(options: dict[str, Any]) -> dict[str, Any]:
    """Options as JSON would give them back: sorted, without those that are None, NumPy's scalars as Python's.

    Examples
    --------
    >>> import numpy as np
    >>> plain({"seed": np.int64(3), "budget": None})
    {'seed': 3}
    """
    given = {name: options[name] for name in sorted(options) if options[name] is not None}
    out: dict[str, Any] = json.loads(json.dumps(given, default=lambda scalar: scalar.item()))
    return out


def _signed(line: Any) -> str:
    """A line of the journal: JSON, a tab and the start of its SHA-256."""
    text = json.dumps(line)
    return f"{text}\t{hashlib.sha256(text.encode()).hexdigest()[:16]}\n"


def _unsigned(text: str) -> Any:
    """What a line of the journal holds; None if it is damaged."""
    content, _, signature = text.partition("\t")
    if not signature or signature != hashlib.sha256(content.encode()).hexdigest()[:16]:
        return None
    return json.loads(content)


def is_journal(path: Path) -> bool:
    """Whether a file has a line that a journal would have written."""
    return any(_unsigned(line) is not None for line in path.read_text(errors="replace").split("\n"))


class Journal:
    """Finished pairs, one signed JSON line each below the options of the run; a damaged line counts as unfinished.

    Parameters
    ----------
    path : path or None
        The file; None keeps the entries in memory only. A file of other options is removed.
    options : dict
        What the entries depend on, as plain data.

    Attributes
    ----------
    entries : dict
        From (K, d) to the entry, in the order of finishing.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "run.journal"
    >>> Journal(path, {"seed": 0}).add({"K": 12, "d": 3})
    >>> list(Journal(path, {"seed": 0}).entries), list(Journal(path, {"seed": 1}).entries)
    ([(12, 3)], [])
    """

    def __init__(self, path: Path | None, options: dict[str, Any]) -> None:
        self.entries: dict[tuple[int, int], dict[str, Any]] = {}
        self._path = path
        self._header = plain(options)
        if path is None or not path.is_file():
            return
        head, *lines = map(_unsigned, path.read_text(errors="replace").split("\n"))
        if head != self._header:
            self.remove()
            return
        self.entries = {(entry["K"], entry["d"]): entry for entry in lines if entry is not None}

    def add(self, entry: dict[str, Any]) -> None:
        """Note a finished pair: a dict of plain data with "K" and "d"; the file is written whole."""
        self.entries[entry["K"], entry["d"]] = entry
        if self._path is None:
            return
        with written_whole(self._path) as temporary:
            temporary.write_text("".join(map(_signed, [self._header, *self.entries.values()])))

    def remove(self) -> None:
        """Remove the file: the run is complete."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
