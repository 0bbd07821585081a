"""Code files: written whole or not at all, read without trust."""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from softmaxcode.checks import check_integer
from softmaxcode.code import NotComputed, Provenance, SoftmaxCode
from softmaxcode.digits import ProvedValue
from softmaxcode.disk import check_input, check_output, written_whole
from softmaxcode.sphere import check_rows

if TYPE_CHECKING:
    from softmaxcode.types import Rows

FORMAT = "softmaxcode 1"


class DifferentCoordinatesError(ValueError):
    """The coordinates of a file are not those that its header was written for."""


#: Figures of every single class are stored up to this many classes.
MAX_CLASS_FIGURES = 2000
_PLAIN: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (float, int),
    "int | None": (int, type(None)),
}
_SLOANE = re.compile(r"pack\.(\d+)\.(\d+)\.txt$")


def coordinates_hash(W: Rows) -> str:
    """SHA-256 of shape and coordinates, as little-endian float64 in row order."""
    digest = hashlib.sha256(f"{W.shape[0]} {W.shape[1]}\n".encode())
    digest.update(np.ascontiguousarray(W, dtype="<f8").tobytes())
    return digest.hexdigest()


def header_hash(header: dict[str, Any]) -> str:
    """SHA-256 of figures, provenance and proof, as JSON with sorted keys."""
    covered = {name: header[name] for name in ("figures", "objective", "provenance", "proved")}
    return hashlib.sha256(json.dumps(covered, sort_keys=True).encode()).hexdigest()


def figures(code: SoftmaxCode) -> dict[str, Any]:
    """Every figure of a code as plain data; what is too large to derive says "not computed"."""
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
    small = code.K <= MAX_CLASS_FIGURES
    out["margins"] = code.margins.tolist() if small else "not computed"
    out["largest_cosines"] = code.largest_cosines.tolist() if small else "not computed"
    out["certificate"] = asdict(code.certificate)
    return out


def save(code: SoftmaxCode, path: str | Path) -> None:
    """Write a code; see `SoftmaxCode.save`."""
    path = check_output(path, (".npz", ".txt"))
    if path.suffix.lower() == ".txt":
        named = _SLOANE.search(path.name)
        if named and (int(named[1]), int(named[2])) != (code.d, code.K):
            raise ValueError(f"cannot write {path}: the name says d.K = {named[1]}.{named[2]}, not {code.d}.{code.K}")
        with written_whole(path) as temporary:
            temporary.write_text("".join(f"{x!r}\n" for x in code.W.ravel().tolist()))
        return
    header: dict[str, Any] = {
        "format": FORMAT,
        "sha256_coordinates": coordinates_hash(code.W),
        "objective": code.objective,
        "provenance": asdict(code.provenance),
        "proved": asdict(code.proved) if code.proved is not None else None,
        "figures": figures(code),
    }
    header["sha256_header"] = header_hash(header)
    with written_whole(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, W=code.W, header=np.frombuffer(json.dumps(header).encode(), dtype=np.uint8))


def load(path: str | Path, *, dim: int | None = None, normalize: bool = False) -> SoftmaxCode:
    """Read a code from ``.npz``, a classifier from ``.npy``, or numbers from ``.txt``; nothing is ever unpickled.

    Figures are derived again from the coordinates; those in the file are not used (`softmaxcode check` compares them).

    Parameters
    ----------
    path : path
        ``.npz`` as `SoftmaxCode.save` writes it; ``.npy`` with a (K, d) array; ``.txt`` with one number a line (or
        several, in row order), as in Sloane's tables.
    dim : int, optional
        Dimension of a ``.txt`` file; taken from a name ``pack.d.K.txt`` where it is not given.
    normalize : bool
        Scale the rows to unit norm first.

    Returns
    -------
    SoftmaxCode
        With the provenance and proof of an ``.npz`` file, which its SHA-256 covers.

    Raises
    ------
    ValueError
        If the file is missing, truncated, pickled, of another kind, its arrays disagree, or its coordinates are not
        those it was saved with; the message says which.

    Examples
    --------
    >>> import softmaxcode as sc, tempfile, pathlib
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "pack.3.4.txt"
    >>> sc.solve(4, 3).save(file)
    >>> round(sc.load(file).margin, 12)
    1.333333333333
    """
    return read_file(path, dim=dim, normalize=normalize)[0]


def read_file(
    path: str | Path, *, dim: int | None = None, normalize: bool = False
) -> tuple[SoftmaxCode, dict[str, Any] | None]:
    """`load`, with the header of an ``.npz`` file beside the code."""
    path = check_input(path)
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return _read_npz(path, normalize)
    if suffix == ".npy":
        W = _read_npy(path)
    elif suffix == ".txt":
        W = _read_text(path, dim)
    else:
        raise ValueError(f"cannot read {path}: the suffix must be .npz, .npy or .txt")
    rows = _rows(W, path, normalize)
    return SoftmaxCode(rows, "softmax", Provenance(method=f"read from {path.name}")), None


def _rows(W: Any, path: Path, normalize: bool) -> Rows:
    try:
        return check_rows(W, normalize=normalize)
    except ValueError as error:
        raise ValueError(f"cannot read {path}: {error}") from None


def _read_npy(path: Path) -> Any:
    try:
        with path.open("rb") as stream:
            return np.load(stream, allow_pickle=False)
    except Exception as error:  # tokenize.TokenError, MemoryError and the like from a damaged header
        raise ValueError(f"cannot read {path}: not a plain NumPy array, or truncated ({_first_line(error)})") from None


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__


def _read_text(path: Path, dim: int | None) -> Rows:
    named = _SLOANE.search(path.name)
    if dim is None and named is None:
        raise ValueError(f"cannot read {path}: its dimension is unknown; name it pack.d.K.txt or give the dimension")
    d = check_integer("the dimension", int(named[1]) if dim is None and named else dim, 1)
    try:
        numbers = np.array([float(word) for word in path.read_text().split()])
    except (ValueError, UnicodeDecodeError):
        raise ValueError(f"cannot read {path}: it must hold numbers in plain text, one a line") from None
    if not len(numbers) or len(numbers) % d:
        raise ValueError(f"cannot read {path}: {len(numbers)} numbers do not make rows of {d}")
    if named and dim is None and len(numbers) != d * int(named[2]):
        raise ValueError(
            f"cannot read {path}: the name promises {named[2]} rows of {d}, the file has {len(numbers)} numbers"
        )
    return numbers.reshape(-1, d)


def plain_dataclass(kind: type, stored: dict[str, Any]) -> Any:
    """A dataclass of plain fields from stored data: the same names, the annotated types, text in one printable line."""
    if set(stored) != {field.name for field in fields(kind)}:
        raise TypeError
    for field in fields(kind):
        value = stored[field.name]
        allowed = _PLAIN[str(field.type)]
        if not isinstance(value, allowed) or isinstance(value, bool):
            raise TypeError
        if isinstance(value, str) and not value.isprintable():
            raise TypeError
    return kind(**stored)


def _read_npz(path: Path, normalize: bool) -> tuple[SoftmaxCode, dict[str, Any]]:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            names = set(archive.files)
            if names != {"W", "header"}:
                held = ", ".join(map(repr, sorted(names))) or "nothing"
                raise ValueError(f"cannot read {path}: not a softmaxcode file (it holds {held})")
            W, raw = archive["W"], archive["header"]
            if [getattr(array, "dtype", np.dtype("O")).kind for array in (W, raw)] != ["f", "u"]:
                raise ValueError(f"cannot read {path}: its arrays are not coordinates and a header")
    except (zipfile.BadZipFile, OSError, EOFError, KeyError, zipfile.LargeZipFile) as error:
        raise ValueError(f"cannot read {path}: truncated, or not an .npz file ({_first_line(error)})") from None
    except ValueError as error:
        if str(error).startswith("cannot read"):
            raise
        raise ValueError(f"cannot read {path}: not plain arrays ({_first_line(error)})") from None
    except Exception as error:  # zlib.error and the like from damaged members
        raise ValueError(f"cannot read {path}: damaged ({_first_line(error)})") from None
    try:
        header = json.loads(bytes(np.asarray(raw, dtype=np.uint8)).decode())
        if not isinstance(header, dict) or header.get("format") != FORMAT:
            raise KeyError
        stored = header["figures"]
        provenance = plain_dataclass(Provenance, header["provenance"])
        proved = None if header["proved"] is None else plain_dataclass(ProvedValue, header["proved"])
        objective = header["objective"]
        K, d = stored["K"], stored["d"]
        same = header["sha256_coordinates"] == coordinates_hash(W) and header["sha256_header"] == header_hash(header)
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        raise ValueError(f"cannot read {path}: its header is not one of {FORMAT!r}") from None
    if W.shape != (K, d):
        raise ValueError(f"cannot read {path}: its header says {K} rows of {d}, its coordinates have shape {W.shape}")
    if not same:
        raise DifferentCoordinatesError(
            f"{path} is different from what was saved: its coordinates or header do not match their SHA-256"
        )
    rows = _rows(W, path, normalize)
    if not normalize and not np.array_equal(rows, W):
        raise DifferentCoordinatesError(f"{path} is different from what was saved: its rows are not unit to rounding")
    try:
        return SoftmaxCode(rows, objective, provenance, proved), header
    except ValueError as error:
        raise ValueError(
            str(error) if str(error).startswith("cannot read") else f"cannot read {path}: {error}"
        ) from None
