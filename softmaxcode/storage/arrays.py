"""Arrays in NPY and NPZ files: declared sizes are checked before memory is allocated, and nothing is unpickled."""

from __future__ import annotations

import math
import zipfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from softmaxcode.checks.arguments import printable
from softmaxcode.storage.disk import check_archive, check_input

if TYPE_CHECKING:
    from pathlib import Path

#: The most entries of a matrix that is read: 10^6 classes in 2,000 dimensions.
MAX_NUMBERS = 2 * 10**9
#: An archive may declare content up to this size. More content may be at most `MAX_RATIO` times the size of the
#: archive, since coordinates hardly compress.
SMALL_ARCHIVE = 2**26
MAX_RATIO = 8


@dataclass(frozen=True)
class StoredArray:
    """An array in a file, of which only the header was read.

    Attributes
    ----------
    path : Path
        The file.
    member : ZipInfo or None
        The member of an ``.npz`` file with the array.
    shape : tuple of int
    dtype : dtype
        The type of the numbers; never Python objects.
    """

    path: Path
    member: zipfile.ZipInfo | None
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def name(self) -> str:
        """The name of the array in an ``.npz`` file; empty in an ``.npy`` file."""
        return "" if self.member is None else self.member.filename.removesuffix(".npy")

    def read(self, most: int = MAX_NUMBERS) -> np.ndarray:
        """Read the numbers.

        Raises
        ------
        ValueError
            If there are more than ``most``, or the file is damaged.
        """
        count = math.prod(self.shape)
        if count > most:
            raise ValueError(f"cannot read {self.path}: it declares {count:,} numbers, more than the limit of {most:,}")
        try:
            if self.member is None:
                with self.path.open("rb") as stream:
                    return np.lib.format.read_array(stream, allow_pickle=False)
            with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as stream:
                return np.lib.format.read_array(stream, allow_pickle=False)
        except Exception as error:  # zlib.error, MemoryError and others from a damaged file
            raise _damaged(self.path, error) from None


def stored_arrays(path: Path, most: int | None = None) -> list[StoredArray]:
    """The arrays of an ``.npy`` or ``.npz`` file, from their headers.

    Parameters
    ----------
    path : Path
        The file; its suffix determines the kind.
    most : int, optional
        The most bytes that an ``.npz`` file may declare. By default `MAX_RATIO` times its own size, or `SMALL_ARCHIVE`
        if that is more.

    Raises
    ------
    ValueError
        If the file is missing, damaged, of another kind or has Python objects, or declares more than it has or may
        have.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "two.npz"
    >>> np.savez(file, W=np.eye(3), labels=np.arange(3))
    >>> [(array.name, array.shape) for array in stored_arrays(file)]
    [('W', (3, 3)), ('labels', (3,))]
    """
    if path.suffix.lower() == ".npy":
        size = check_input(path).stat().st_size
        try:
            with path.open("rb") as stream:
                return [_declared(path, None, stream, size)]
        except Exception as error:  # tokenize.TokenError, MemoryError and others from a damaged header
            raise _damaged(path, error) from None
    if most is None:
        most = max(SMALL_ARCHIVE, MAX_RATIO * check_input(path).stat().st_size)
    members = check_archive(path, most)
    found = []
    try:
        with zipfile.ZipFile(path) as archive:
            for member in members:
                with archive.open(member) as stream:
                    found.append(_declared(path, member, stream, member.file_size))
    except Exception as error:
        raise _damaged(path, error) from None
    return found


def _declared(path: Path, member: zipfile.ZipInfo | None, stream: IO[bytes], size: int) -> StoredArray:
    """Read the header of a stream of ``size`` bytes, and check the array that it declares."""
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version} of the NPY format holds no plain numbers")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    if any(n < 0 for n in shape):
        raise ValueError(f"it declares the shape {shape}")
    declared, there = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if declared > there:
        raise ValueError(f"it declares {declared:,} bytes of numbers and has {there:,}")
    return StoredArray(path, member, shape, dtype)


def _damaged(path: Path, error: Exception) -> ValueError:
    reason = printable(str(error).strip().split("\n")[0] or type(error).__name__)
    return ValueError(f"cannot read {path}: not a plain NumPy array, or truncated ({reason})")
