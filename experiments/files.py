"""Files of a results folder: written atomically, and read without unpickling."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar

from softmaxcode.storage.disk import read_text, written_whole
from softmaxcode.storage.records import NonNegative, RecordError, parse_json, read_record

if TYPE_CHECKING:
    from pathlib import Path

Kind = TypeVar("Kind")


class Header(TypedDict):
    """The fields that are read from the ``run.json`` of a run."""

    settings: dict[str, Any]
    status: Literal["finished", "diverged"]
    seconds: NonNegative
    data: str


class Plan(TypedDict):
    """The runs that a study consists of."""

    runs: list[dict[str, Any]]


def read_json(path: Path, kind: type[Kind]) -> Kind:
    """Stored data as ``kind``; see `softmaxcode.storage.records.read_record`.

    Raises
    ------
    ValueError
        If the file is missing, damaged or has any other content.
    """
    text = read_text(path)
    try:
        return read_record(kind, parse_json(text))
    except RecordError as error:
        raise ValueError(f"cannot read {path}: it is damaged or not one of ours ({error})") from None


def write_json(path: Path, stored: Any) -> None:
    """Write JSON-serialisable data."""
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(stored, indent=1) + "\n")
