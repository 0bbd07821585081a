"""Code files: written atomically, validated when read."""

from __future__ import annotations

import hashlib
import json
import re
from array import array
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from softmaxcode.certificates.proof.value import ProvedValue
from softmaxcode.checks.arguments import check_integer, check_objective, printable, shown
from softmaxcode.checks.limits import NotComputed
from softmaxcode.checks.renamed import renamed_names
from softmaxcode.sphere import check_rows
from softmaxcode.storage.arrays import stored_arrays
from softmaxcode.storage.disk import check_input, check_output, read_text, written_whole
from softmaxcode.storage.provenance import Provenance
from softmaxcode.storage.records import Count, RecordError, parse_json, read_record

if TYPE_CHECKING:
    from softmaxcode.code import SoftmaxCode
    from softmaxcode.types import Rows

FORMAT = "softmaxcode 1"
#: The kinds of file that `load` reads, and that `SoftmaxCode.save` writes.
READABLE = (".npz", ".npy", ".txt", ".csv")
WRITABLE = (".npz", ".txt", ".csv")
#: The most coordinates and the largest header that are read from a file; both are checked before memory is allocated.
MAX_FILE_COORDINATES = 10**8
MAX_HEADER_BYTES = 2**24
#: The longest line of a text file.
MAX_LINE = 2**24


class DifferentCoordinatesError(ValueError):
    """The coordinates of a file do not match the hash in its header."""


#: Measurements of each class are stored up to this many classes.
MAX_CLASS_MEASUREMENTS = 2000
_SLOANE = re.compile(r"pack\.(\d+)\.(\d+)\.txt$")


@dataclass(frozen=True)
class Header:
    """The contents of an ``.npz`` file beside its coordinates; all are only claims until derived again."""

    format: str
    sha256_coordinates: Any
    objective: Any
    provenance: Provenance
    proved: ProvedValue | None
    figures: dict[str, Any]
    sha256_header: Any


class _Shape(TypedDict):
    K: Count
    d: Count


def coordinates_hash(W: Rows) -> str:
    """SHA-256 of shape and coordinates, as little-endian float64 in row order."""
    digest = hashlib.sha256(f"{W.shape[0]} {W.shape[1]}\n".encode())
    digest.update(np.ascontiguousarray(W, dtype="<f8").data)
    return digest.hexdigest()


def header_hash(header: dict[str, Any]) -> str:
    """SHA-256 of measurements, provenance and proof, as JSON with sorted keys."""
    covered = {name: header[name] for name in ("figures", "objective", "provenance", "proved")}
    return hashlib.sha256(json.dumps(covered, sort_keys=True).encode()).hexdigest()


def measurements(code: SoftmaxCode) -> dict[str, Any]:
    """Every measurement of a code, JSON-serialisable; values that are too costly to derive are "not computed"."""
    out: dict[str, Any] = {
        "K": code.K,
        "d": code.d,
        "objective": code.objective,
        "margin": code.margin,
        "max_cosine": code.max_cosine,
        "min_distance": code.min_distance,
        "min_angle": code.min_angle,
    }
    for name in ("contacts", "tammes_rattlers", "softmax_rattlers"):
        try:
            value = getattr(code, name)
        except NotComputed:
            out[name] = "not computed"
        else:
            out[name] = len(value) if name == "contacts" else value.tolist()
    small = code.K <= MAX_CLASS_MEASUREMENTS
    out["margins"] = code.margins.tolist() if small else "not computed"
    out["largest_cosines"] = code.largest_cosines.tolist() if small else "not computed"
    out["certificate"] = asdict(code.certificate)
    return out


def checked_provenance(provenance: Provenance) -> dict[str, Any]:
    """The fields of a provenance that files have, checked so that `read_record` can read them again.

    Raises
    ------
    ValueError
        For a field of another type or out of range, or text that is not one printable line.
    """
    try:
        fields = asdict(read_record(Provenance, asdict(replace(provenance, evidence=None))))
        del fields["evidence"]
        return fields
    except RecordError as error:
        raise ValueError(f"this provenance cannot be stored: {error}") from None


def write_code(code: SoftmaxCode, path: str | Path) -> None:
    """Write a code; see `SoftmaxCode.save`."""
    path = check_output(path, WRITABLE)
    suffix = path.suffix.lower()
    if suffix == ".csv":
        lines = [",".join(map(repr, row)) for row in code.W.tolist()]
    elif suffix == ".txt":
        named = _SLOANE.search(path.name)
        if named and (int(named[1]), int(named[2])) != (code.d, code.K):
            raise ValueError(f"cannot write {path}: the name has d.K = {named[1]}.{named[2]}, not {code.d}.{code.K}")
        lines = [repr(number) for number in code.W.ravel().tolist()]
    else:
        _save_npz(code, path)
        return
    with written_whole(path) as temporary, temporary.open("w", encoding="ascii", newline="\n") as stream:
        stream.writelines(f"{line}\n" for line in lines)


def _save_npz(code: SoftmaxCode, path: Path) -> None:
    header: dict[str, Any] = {
        "format": FORMAT,
        "sha256_coordinates": coordinates_hash(code.W),
        "objective": code.objective,
        "provenance": checked_provenance(code.provenance),
        "proved": asdict(code.proved) if code.proved is not None else None,
        "figures": measurements(code),
    }
    header["sha256_header"] = header_hash(header)
    with written_whole(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, W=code.W, header=np.frombuffer(json.dumps(header).encode(), dtype=np.uint8))


@dataclass(frozen=True, eq=False)
class StoredCode:
    """The contents of a code file: validated unit rows, and the claims of the file about them.

    Attributes
    ----------
    W : ndarray, shape (K, d)
        Unit rows.
    objective : {"softmax", "tammes"}
        As an ``.npz`` file claims; "softmax" for other files.
    provenance : Provenance
        As an ``.npz`` file claims.
    header : dict or None
        The whole header of an ``.npz`` file.
    """

    W: Rows
    objective: str
    provenance: Provenance
    header: dict[str, Any] | None = None


def read_code(path: str | Path, *, dim: int | None = None, normalize: bool = False) -> StoredCode:
    """Read a code file; arguments and errors as in `softmaxcode.load`."""
    path = check_input(path)
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return _read_npz(path, normalize)
    if suffix == ".npy":
        W = _read_npy(path)
    elif suffix in (".txt", ".csv"):
        W = _read_text(path, dim)
    else:
        raise ValueError(f"cannot read {path}: the suffix must be one of {', '.join(READABLE)}")
    rows = _rows(W, path, normalize)
    return StoredCode(rows, "softmax", Provenance(method=f"read from {printable(path.name)}"))


def _rows(W: Any, path: Path, normalize: bool) -> Rows:
    try:
        return check_rows(W, normalize=normalize)
    except ValueError as error:
        raise ValueError(f"cannot read {path}: {error}") from None


def _read_npy(path: Path) -> np.ndarray:
    return stored_arrays(path)[0].read(MAX_FILE_COORDINATES)


def _read_text(path: Path, dim: int | None) -> Rows:
    named = _SLOANE.search(path.name)
    d = None if dim is None else check_integer("the dimension", dim, 1)
    if d is None and named:
        d = check_integer("the dimension", int(named[1]), 1)
    numbers, width = _numbers(path)
    if d is None:
        d = _dimension(path, width)
    if width % d and d % width:
        raise ValueError(f"cannot read {path}: its lines have {width} numbers each, and the dimension given is {d}")
    if len(numbers) % d:
        raise ValueError(f"cannot read {path}: {len(numbers)} numbers do not make rows of {d}")
    if named and dim is None and len(numbers) != d * int(named[2]):
        raise ValueError(
            f"cannot read {path}: the name promises {named[2]} rows of {d}, the file has {len(numbers)} numbers"
        )
    return np.frombuffer(numbers, dtype=np.float64).reshape(-1, d)


def _numbers(path: Path) -> tuple[array[float], int]:
    """The numbers of a text file, and their count per line; blank lines, comments and a heading are skipped."""
    numbers = array("d")
    first, width = 0, 0  # the first line of numbers, and their count
    heading = False
    for number, line in enumerate(read_text(path).removeprefix("\ufeff").splitlines(), 1):
        try:
            fields = _fields(line)
            if not width and not heading and _is_heading(fields):
                heading = True
                continue
            if any(
                "_" in field or not field.isascii() for field in fields
            ):  # float() accepts 1_000, and digits of all scripts
                raise ValueError
            numbers.extend(map(float, fields))
        except ValueError:
            raise ValueError(
                f"cannot read {path}: it must hold numbers in plain text, one per line or one point per line, between "
                f"spaces or commas; line {number} is something else: {shown(printable(line.strip()))}"
            ) from None
        if fields and not width:
            first, width = number, len(fields)
        if fields and len(fields) != width:
            raise ValueError(
                f"cannot read {path}: its lines differ in length: line {first} has {width} numbers, and line {number} "
                f"has {len(fields)}"
            )
    if not width:
        raise ValueError(f"cannot read {path}: it holds no numbers")
    return numbers, width


def _fields(line: str) -> list[str]:
    """The fields between spaces or commas; an empty field, which is a missing number, remains."""
    if len(line) > MAX_LINE:
        raise ValueError
    line = line.partition("#")[0].strip()
    return re.split(r"\s*,\s*|\s+", line) if line else []


def _is_heading(fields: list[str]) -> bool:
    """Whether a first line names columns, by text or by counting 0, 1, 2, ... as pandas does."""
    if not fields:
        return False
    if len(fields) > 2 and fields == [str(i) for i in range(len(fields))]:
        return True
    return all(re.match(r"[\"']?[^\W\d]", field) and field.isprintable() and not _is_number(field) for field in fields)


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _dimension(path: Path, width: int) -> int:
    """The dimension from the lines: they have one point each if they have more than one number."""
    if width > 1 or path.suffix.lower() == ".csv":
        return width
    raise ValueError(
        f"cannot read {path}: it has one number per line, and its dimension is unknown; name it pack.d.K.txt or give "
        "the dimension (dim=, or --dim in the shell)"
    )


def _read_npz(path: Path, normalize: bool) -> StoredCode:
    arrays = sorted(stored_arrays(path, 8 * MAX_FILE_COORDINATES + MAX_HEADER_BYTES), key=lambda array: array.name)
    if [array.name for array in arrays] != ["W", "header"]:
        listed = ", ".join(repr(printable(array.name))[:80] for array in arrays[:8]) or "nothing"
        raise ValueError(
            f"cannot read {path}: not a softmaxcode file (it holds {listed}, and not 'W' and 'header'); bare "
            "coordinates are read from .npy, .txt and .csv"
        )
    coordinates, header_bytes = arrays
    if coordinates.dtype.newbyteorder("=") != np.float64 or header_bytes.dtype != np.uint8:
        raise ValueError(f"cannot read {path}: its arrays are not coordinates and a header")
    raw = header_bytes.read(MAX_HEADER_BYTES)
    try:
        stored = parse_json(raw.tobytes())
        if not isinstance(stored, dict) or stored.get("format") != FORMAT:
            raise RecordError("its format is another one")
        header = read_record(Header, stored)
        shape = read_record(_Shape, header.figures)
    except RecordError as error:
        raise ValueError(f"cannot read {path}: its header is not one of {FORMAT!r} ({error})") from None
    K, d = shape["K"], shape["d"]
    if coordinates.shape != (K, d):
        raise ValueError(
            f"cannot read {path}: its header has {K} rows of {d}, its coordinates have shape {coordinates.shape}"
        )
    W = coordinates.read(MAX_FILE_COORDINATES)
    if header.sha256_coordinates != coordinates_hash(W) or header.sha256_header != header_hash(stored):
        raise DifferentCoordinatesError(
            f"{path} is different from what was saved: its coordinates or header do not match their SHA-256"
        )
    rows = _rows(W, path, normalize)
    if not normalize and not np.array_equal(rows, W):
        raise DifferentCoordinatesError(f"{path} is different from what was saved: its rows are not unit to rounding")
    try:
        return StoredCode(rows, check_objective(header.objective), header.provenance, stored)
    except ValueError as error:
        raise ValueError(f"cannot read {path}: {error}") from None


__getattr__ = renamed_names(__name__, {"figures": "measurements"})
