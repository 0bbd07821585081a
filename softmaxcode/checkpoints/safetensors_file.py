"""Tensors of a safetensors file, or of several with their index."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING

from safetensors import safe_open

from softmaxcode.checkpoints.stored import INDEX, StoredTensor
from softmaxcode.checks.arguments import printable
from softmaxcode.storage.disk import check_input, read_text

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

#: Types that NumPy has; PyTorch reads the others.
NUMPY_TYPES = {"F64", "F32", "F16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL"}
#: Files that an index may name.
MAX_FILES = 10_000


def tensors(path: Path) -> list[StoredTensor]:
    """The tensors of one file, or of all that an index names, from their headers."""
    return _indexed(path) if path.name.endswith(INDEX) else _of_one_file(path)


def _of_one_file(path: Path) -> list[StoredTensor]:
    try:
        with safe_open(path, framework="np") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  # not a dictionary
            return [
                StoredTensor(
                    name,
                    tuple(one.get_shape()),
                    _kind(one.get_dtype()),
                    functools.partial(_read, path, name, one.get_dtype() in NUMPY_TYPES),
                )
                for name, one in slices.items()
            ]
    except Exception as error:  # SafetensorError, OSError and other errors of the reader on a damaged header
        raise _damaged(path, error) from None


def _read(path: Path, name: str, plain: bool) -> np.ndarray:
    try:
        with safe_open(path, framework="np" if plain else "pt") as file:
            found = file.get_tensor(name)
    except Exception as error:  # types that PyTorch lacks raise errors of several kinds
        raise _damaged(path, error) from None
    if plain:
        array: np.ndarray = found
        return array
    from softmaxcode.checkpoints.torch_file import numbers

    return numbers(found, name, path)


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(f"cannot read {path}: not a safetensors file, or truncated ({printable(error)})")


def _kind(dtype: str) -> str:
    if "F" in dtype:
        return "f8" if dtype.startswith("F8") else "f"
    return "i" if dtype[:1] in "IU" and dtype[1:].isdigit() else "other"


def _indexed(path: Path) -> list[StoredTensor]:
    """The tensors of all files that an index names; they must be beside it."""
    try:
        index = json.loads(read_text(path, strict=True))
        files = sorted({str(name) for name in index["weight_map"].values()})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError(f"cannot read {path}: not the index of a safetensors checkpoint") from None
    if len(files) > MAX_FILES or any("/" in name or "\\" in name for name in files):
        raise ValueError(f"cannot read {path}: an index names files of its own folder, at most {MAX_FILES:,}")
    missing = [name for name in files if not (path.parent / name).is_file()]
    if missing:
        raise ValueError(
            f"cannot read {path}: of its {len(files)} files {len(missing)} are missing beside it: "
            + ", ".join(printable(name) for name in missing[:3])
            + (", ..." if len(missing) > 3 else "")
        )
    return [tensor for name in files for tensor in _of_one_file(check_input(path.parent / name))]
