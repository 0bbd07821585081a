"""Files of a results folder: written whole or not at all, and read without unpickling anything."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from softmaxcode.disk import read_text, written_whole
from softmaxcode.records import parse_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """The folder of a run, for one process alone.

    Raises
    ------
    ValueError
        If another has it.
    """
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(f"{folder} is in use by another run; wait for it, or name another results folder") from None
    try:
        yield
    finally:
        lock.release()


def read_json(path: Path) -> dict[str, Any]:
    """Plain data, by name.

    Raises
    ------
    ValueError
        If the file is missing, damaged or holds anything else.
    """
    try:
        stored = parse_json(read_text(path))
        if not isinstance(stored, dict):
            raise TypeError
    except (ValueError, TypeError):
        raise ValueError(f"cannot read {path}: it is missing, damaged or not one of ours") from None
    return stored


def write_json(path: Path, stored: dict[str, Any]) -> None:
    """Write plain data."""
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(stored, indent=1) + "\n")
