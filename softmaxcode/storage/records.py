"""Stored records: JSON text to dataclasses of the annotated types, with one message for any mismatch."""

from __future__ import annotations

import json
import re
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, TypeVar

import msgspec

from softmaxcode.checks.arguments import MAX_INTEGER

_LARGEST_FLOAT = 1.7976931348623157e308

Finite = Annotated[float, msgspec.Meta(ge=-_LARGEST_FLOAT, le=_LARGEST_FLOAT)]
NonNegative = Annotated[float, msgspec.Meta(ge=0, le=_LARGEST_FLOAT)]
Positive = Annotated[float, msgspec.Meta(gt=0, le=_LARGEST_FLOAT)]
Count = Annotated[int, msgspec.Meta(ge=0)]

#: Metadata of a dataclass field that files do not have: it must be absent or null, and takes its default.
UNSTORED = {"stored": False}

Kind = TypeVar("Kind")


class RecordError(ValueError):
    """Stored data of an unexpected kind; the message names the fault, and the caller adds the file."""


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises
    ------
    RecordError
        If the text is not JSON, is nested too deeply, or has a number of thousands of digits.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"not JSON ({str(error).split('. ')[0][:200]})") from None


def read_record(kind: type[Kind], stored: Any) -> Kind:
    """Stored data as ``kind``: a dataclass, a msgspec Struct, or a type such as ``list[Row]``.

    Dataclasses must have exactly their fields (those marked `UNSTORED` may be missing, and are None otherwise), a
    TypedDict at least its keys (others are dropped). Types are never
    converted, except integers to floats. Integers must fit in 64 bits, and every string must be one printable line.

    Parameters
    ----------
    kind : type
        The expected type, with annotations; `Finite`, `NonNegative`, `Positive` and `Count` state ranges.
    stored : object
        The result of `parse_json`.

    Raises
    ------
    RecordError
        If anything differs; the message names the field.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Run:
    ...     K: int
    ...     seconds: NonNegative
    >>> read_record(Run, {"K": 3, "seconds": 1})
    Run(K=3, seconds=1.0)
    >>> read_record(Run, {"K": "3", "seconds": 1})
    Traceback (most recent call last):
    softmaxcode.storage.records.RecordError: K: expected int, got str
    """
    try:
        _check_values(stored, "")
        record: Kind = msgspec.convert(stored, kind, strict=True)
        _check_names(stored, record, "")
    except RecursionError:
        raise RecordError("nested too deeply") from None
    except msgspec.ValidationError as error:
        raise RecordError(_message_of(str(error))) from None
    return record


def _message_of(message: str) -> str:
    """The message of msgspec, "Expected `int`, got `str` - at `$.K`", as "K: expected int, got str"."""
    what, _, where = message.replace("`", "").partition(" - at ")
    where = where.removeprefix("$").removeprefix(".")
    what = re.sub(r"float [<>]= -?1\.79\d*e\+308", "a finite number", what)
    return f"{where}: {what[0].lower()}{what[1:]}" if where else what[0].lower() + what[1:]


def _check_values(stored: Any, where: str) -> None:
    """Raise for an integer of more than 64 bits, or a string that is not one printable line."""
    if isinstance(stored, dict):
        for name, value in stored.items():
            _check_values(name, where)
            _check_values(value, f"{where}.{name}" if where else str(name))
    elif isinstance(stored, list):
        for i, value in enumerate(stored):
            _check_values(value, f"{where}[{i}]")
    elif isinstance(stored, int) and abs(stored) > MAX_INTEGER:
        raise RecordError(f"{where}: expected an integer of at most 64 bits")
    elif isinstance(stored, str) and not stored.isprintable():
        raise RecordError(f"{where}: expected one printable line, got control characters")


def _check_names(stored: Any, record: Any, where: str) -> None:
    """Raise if a dataclass was stored with other names than its fields."""
    if is_dataclass(record):
        unstored = {field.name for field in fields(record) if not field.metadata.get("stored", True)}
        names = {field.name for field in fields(record)} - unstored
        stored = {name: value for name, value in stored.items() if name not in unstored or value is not None}
        if set(stored) != names:
            odd = ", ".join(sorted(set(stored) ^ names))
            raise RecordError(f"{where + ': ' if where else ''}expected exactly its fields, differs in {odd}")
        for name in names:
            _check_names(stored[name], getattr(record, name), f"{where}.{name}" if where else name)
    elif isinstance(stored, dict) and isinstance(record, dict):
        for name, value in record.items():  # the keys that a TypedDict declares
            _check_names(stored[name], value, f"{where}.{name}" if where else name)
    elif isinstance(stored, list) and isinstance(record, list | tuple):
        for i, value in enumerate(stored):
            _check_names(value, record[i], f"{where}[{i}]")
