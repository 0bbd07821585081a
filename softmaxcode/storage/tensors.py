"""Files of tensors: written atomically with a hash of their content, read without unpickling."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from softmaxcode.storage.disk import check_archive, check_input, written_whole


class DifferentStateError(ValueError):
    """A file of tensors that differs from what was written."""


def write_tensors(path: Path, stored: dict[str, Any], *, hashed: bool = True) -> None:
    """Write tensors and JSON-serialisable data with `torch.save`, atomically; a full disk raises an OSError.

    With ``hashed`` a SHA-256 of the content is written too. It detects damage and accidental edits. It does not detect
    deliberate ones, since anyone can compute it again.
    """
    with written_whole(path) as temporary:
        try:
            with temporary.open("wb") as file:  # given a path, torch.save loses the reason of a failed write
                torch.save(stored | ({HASH: content_hash(stored)} if hashed else {}), file)
        except RuntimeError as error:
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, OSError):
                cause = cause.__context__
            raise (cause or error) from None


def read_tensors(path: Path, *, hashed: bool = True) -> dict[str, Any]:
    """Read a file of `write_tensors`: dense tensors on the CPU and JSON-serialisable data; ``hashed`` as when written.

    Raises
    ------
    ValueError
        If the file is missing, damaged or of another kind; `DifferentStateError` if it differs from what was
        written.
    """
    try:
        members = check_archive(path, check_input(path).stat().st_size, stored=True)
        with zipfile.ZipFile(path) as archive:  # PyTorch writes checksums but does not read them
            if archive.testzip() is not None or not members:
                raise ValueError
        stored = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(stored, dict):
            raise TypeError
        expected = stored.pop(HASH) if hashed else None
        found = content_hash(stored)
    except Exception as error:  # a damaged or foreign file may cause any error in the reader
        raise ValueError(f"cannot read {path}: it is missing, damaged or not one of ours") from error
    if hashed and expected != found:
        raise DifferentStateError(
            f"cannot read {path}: it is different from what was written; remove it to start again"
        )
    return stored


#: The key of the hash in a file of tensors.
HASH = "sha256"


def content_hash(stored: Any) -> str:
    """SHA-256 of nested dictionaries, lists, tensors and JSON values, in their order."""
    digest = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, Tensor):
            value = value.detach()
            if (
                value.layout != torch.strided
                or value.is_meta
                or value.is_quantized
                or value.is_neg()
                or value.is_conj()
            ):
                raise ValueError("not a dense tensor")
            if value.untyped_storage().nbytes() < value.numel() * value.element_size():  # strides of 0 claim any size
                raise ValueError("a tensor that is larger than its storage")
            digest.update(f"tensor {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        elif isinstance(value, dict):
            digest.update(f"dict {len(value)}\n".encode())
            for name, inner in value.items():
                digest.update(f"{name!r}\n".encode())
                add(inner)
        elif isinstance(value, (list, tuple)):
            digest.update(f"list {len(value)}\n".encode())
            for inner in value:
                add(inner)
        else:
            digest.update(f"{type(value).__name__} {value!r}\n".encode())

    add(stored)
    return digest.hexdigest()
