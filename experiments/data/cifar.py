"""CIFAR10 and CIFAR100 from their official binary archives, packed or extracted."""

from __future__ import annotations

import gzip
import tarfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, cast

import numpy as np
import torch

from experiments.data.source import Labelled, Source, located, present
from softmaxcode.storage.disk import check_input

if TYPE_CHECKING:
    from pathlib import Path

#: Bytes of an image: 1,024 of red, then green, then blue, each row by row.
IMAGE_BYTES = 3 * 32 * 32
#: The most bytes of a file or archive, packed or not; the official ones have 0.2 GB.
MAX_BYTES = 2**29


@dataclass(frozen=True)
class _Format:
    """The layout of one of the two sets: a record consists of labels, one byte each, and the image."""

    folder: str
    archive: str
    train: tuple[str, ...]
    test: str
    names: str
    labels: int
    K: int


_CIFAR10 = _Format(
    "cifar-10-batches-bin",
    "cifar-10-binary.tar.gz",
    tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
    "test_batch.bin",
    "batches.meta.txt",
    1,
    10,
)
_CIFAR100 = _Format(
    "cifar-100-binary", "cifar-100-binary.tar.gz", ("train.bin",), "test.bin", "fine_label_names.txt", 2, 100
)


class _Limited:
    """A stream that raises an error after so many bytes: a small archive may inflate to any size."""

    def __init__(self, stream: gzip.GzipFile, most: int) -> None:
        self.stream, self.left = stream, most

    def read(self, size: int = -1) -> bytes:
        content = self.stream.read(min(size, self.left + 1) if size >= 0 else self.left + 1)
        self.left -= len(content)
        if self.left < 0:
            raise ValueError(f"it inflates to more than {MAX_BYTES:,} bytes")
        return content


def _contents(place: Path, folder: str, names: tuple[str, ...]) -> dict[str, bytes]:
    """The bytes of these files from a folder or from a .tar.gz that contains it, read once from front to back."""
    if place.is_dir():
        return {name: check_input(present(place / name), MAX_BYTES).read_bytes() for name in names}
    check_input(place, MAX_BYTES)
    wanted = {f"{folder}/{name}": name for name in names}
    found = {}
    try:
        with (
            gzip.open(place) as inflated,
            tarfile.open(fileobj=cast("IO[bytes]", _Limited(inflated, MAX_BYTES)), mode="r|") as archive,
        ):
            for member in archive:
                file = archive.extractfile(member) if member.name in wanted else None
                if file is not None:
                    found[wanted[member.name]] = file.read()
    except Exception as error:  # TarError, EOFError, zlib.error, OSError, and other errors from damaged headers
        raise ValueError(f"{place} is not a whole .tar.gz archive: {error}") from None
    for path, name in wanted.items():
        if name not in found:
            raise ValueError(f"{place} has no file {path}: it is not the official binary archive")
    return found


def _records(content: bytes, name: str, layout: _Format) -> np.ndarray:
    """The records of a file, one per row, with labels checked."""
    size = layout.labels + IMAGE_BYTES
    if not content or len(content) % size:
        raise ValueError(
            f"{name} has {len(content)} bytes, which is no whole number of records of {size}: it is cut off"
        )
    records = np.frombuffer(content, dtype=np.uint8).reshape(-1, size)
    labels = records[:, layout.labels - 1]
    if labels.max() >= layout.K:
        row = int(np.argmax(labels >= layout.K))
        raise ValueError(f"{name}: record {row} has label {labels[row]}, which must be below K = {layout.K}")
    return records


def _labelled(records: np.ndarray, layout: _Format) -> Labelled:
    pixels = torch.from_numpy(records[:, layout.labels :].reshape(-1, 3, 32, 32).copy())
    return Labelled(pixels, records[:, layout.labels - 1].astype(np.int64))


def _superclass_similarity(records: np.ndarray, K: int) -> np.ndarray:
    """1 where two classes are in the same superclass, which each record of CIFAR100 states for its class."""
    coarse = np.full(K, -1)
    coarse[records[:, 1]] = records[:, 0]
    if (coarse[records[:, 1]] != records[:, 0]).any():
        row = int(np.argmax(coarse[records[:, 1]] != records[:, 0]))
        raise ValueError(f"train.bin: class {records[row, 1]} has more than one superclass")
    return (coarse[:, None] == coarse).astype(float)


def _read(root: str | Path | None, layout: _Format) -> Source:
    place = located(
        root,
        (layout.folder, layout.archive),
        f"download {layout.archive} (the binary version) from https://www.cs.toronto.edu/~kriz/cifar.html and put it "
        "there, packed or extracted",
    )
    contents = _contents(place, layout.folder, (*layout.train, layout.test, layout.names))
    batches = {name: _records(contents[name], name, layout) for name in (*layout.train, layout.test)}
    # both sets have five training images per test image, so a file cut off between records is detected as well
    wanted = len(batches[layout.test]) * 5 // len(layout.train)
    for name in layout.train:
        if len(batches[name]) != wanted:
            raise ValueError(
                f"{name} has {len(batches[name])} images where {layout.test} with its {len(batches[layout.test])} "
                f"goes with {wanted}: one of the two is cut off"
            )
    names = tuple(contents[layout.names].decode(errors="replace").split())
    if len(names) != layout.K:
        raise ValueError(f"{layout.names} must name {layout.K} classes; got {len(names)}")
    train = np.concatenate([batches[name] for name in layout.train])
    similarity = _superclass_similarity(train, layout.K) if layout.labels == 2 else None
    return Source(_labelled(train, layout), _labelled(batches[layout.test], layout), names, similarity)


def read_cifar10(root: str | Path | None) -> Source:
    """CIFAR10 from ``cifar-10-batches-bin`` or ``cifar-10-binary.tar.gz`` in the root.

    Raises
    ------
    ValueError
        If neither exists, a file is missing or cut off, or a label is not below 10.

    References
    ----------
    https://www.cs.toronto.edu/~kriz/cifar.html
    """
    return _read(root, _CIFAR10)


def read_cifar100(root: str | Path | None) -> Source:
    """CIFAR100 from ``cifar-100-binary`` or ``cifar-100-binary.tar.gz`` in the root, with fine labels.

    The similarity of two classes is 1 if they are in the same superclass, and 0 otherwise.

    Raises
    ------
    ValueError
        As `read_cifar10`; also if a class has two superclasses.

    References
    ----------
    https://www.cs.toronto.edu/~kriz/cifar.html
    """
    return _read(root, _CIFAR100)
