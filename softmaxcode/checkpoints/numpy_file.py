"""Arrays of an NPY or NPZ file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from softmaxcode.checkpoints.stored import StoredTensor
from softmaxcode.storage.arrays import stored_arrays

if TYPE_CHECKING:
    from pathlib import Path

    from softmaxcode.storage.arrays import StoredArray


def tensors(path: Path) -> list[StoredTensor]:
    """The arrays of one file, from its headers."""
    return [_of_array(array) for array in stored_arrays(path) if array.dtype.kind in "fiub"]


def _of_array(array: StoredArray) -> StoredTensor:
    def read() -> np.ndarray:
        wide = array.dtype.kind == "f" and array.dtype.itemsize > 8
        return array.read().astype(np.float64 if wide else array.dtype.newbyteorder("="))

    kind = {"f": "f", "i": "i", "u": "i"}.get(array.dtype.kind, "other")
    return StoredTensor(array.name, array.shape, kind, read)
