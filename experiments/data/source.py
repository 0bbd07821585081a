"""The result of a reader, and the places where readers look for files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from experiments.data.dataset import Pixels


@dataclass(frozen=True, eq=False)
class Labelled:
    """Images and their labels, int64 of shape (N,)."""

    pixels: Pixels
    labels: np.ndarray


@dataclass(frozen=True, eq=False)
class Source:
    """The contents of a data set of images before any change of labels; `ImageData` documents each field."""

    train: Labelled
    test: Labelled
    class_names: tuple[str, ...]
    similarity: np.ndarray | None = None
    skipped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.test.labels):
            raise ValueError("the test set needs at least one image; got none")
        absent = np.setdiff1d(np.arange(len(self.class_names)), self.train.labels)
        if len(absent):
            raise ValueError(
                f"every class needs training images; class {absent[0]} ({self.class_names[absent[0]]}) has none"
                + (f", and so have {len(absent) - 1} more" if len(absent) > 1 else "")
            )


def data_root(root: str | Path | None) -> Path:
    """The given folder; else the one named by the variable SOFTMAXCODE_DATA; else ``data`` in the current folder."""
    return Path(root if root is not None else os.environ.get("SOFTMAXCODE_DATA", "data")).expanduser()


def located(root: str | Path | None, names: tuple[str, ...], advice: str) -> Path:
    """The first of these files or folders that exists in the root, or the root itself if it has one of the names.

    Raises
    ------
    ValueError
        If there is none; the message states what to put where.
    """
    folder = data_root(root)
    for place in [folder / name for name in names] + [folder] * (folder.name in names):
        if place.exists():
            return place
    raise ValueError(f"{' and '.join(names)} not found in {folder}: {advice}")


def present(path: Path) -> Path:
    """The path, which must exist.

    Raises
    ------
    ValueError
        If it does not.
    """
    if not path.exists():
        raise ValueError(f"{path} is missing: the archive was extracted in part")
    return path
