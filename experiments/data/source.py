"""What a reader hands over, and where it looks for files."""

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
    """What is read of a data set of images, before anything is done to its labels; `ImageData` documents each."""

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
    """The folder given; else what the variable SOFTMAXCODE_DATA names; else ``data`` in the current folder."""
    return Path(root if root is not None else os.environ.get("SOFTMAXCODE_DATA", "data")).expanduser()


def located(root: str | Path | None, names: tuple[str, ...], advice: str) -> Path:
    """The first of these files or folders that is in the root, or the root itself if it has one of the names.

    Raises
    ------
    ValueError
        That names what to put where, if there is none.
    """
    folder = data_root(root)
    for place in [folder / name for name in names] + [folder] * (folder.name in names):
        if place.exists():
            return place
    raise ValueError(f"{' and '.join(names)} not found in {folder}: {advice}")


def present(path: Path) -> Path:
    """The path, which has to be there.

    Raises
    ------
    ValueError
        If it is not.
    """
    if not path.exists():
        raise ValueError(f"{path} is missing: the archive was extracted in part")
    return path
