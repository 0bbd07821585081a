"""Images in folders: Tiny-ImageNet, BUPT-CBFace-50 and any folder of class folders."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from experiments.data.seeding import stream
from experiments.data.source import Labelled, Source, data_root, located, present
from softmaxcode.checks.arguments import check_integer, check_number
from softmaxcode.storage.disk import check_input, read_text

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Formats that an image file may have, whatever its name.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "PPM")
#: The most pixels of an image that is read.
MAX_PIXELS = 50_000_000
#: Image files and the class of each.
Files = list[tuple[Path, int]]
#: Suffixes of image files.
SUFFIXES = frozenset({".jpeg", ".jpg", ".png", ".bmp", ".webp", ".ppm", ".pgm"})

#: Possible names of the folder with an image folder's test images, beside ``train``; the first that exists is used.
HELD_OUT = ("test", "val", "validation")


def read_image(path: str | Path, size: int) -> Tensor:
    """Read an image file in colour, stretched to size x size pixels: uint8 of shape (3, size, size).

    Raises
    ------
    ValueError
        If the file is not a complete image; the message names it.
    """
    from PIL import Image

    try:
        check_input(path)
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            # by name, not by content: Pillow starts another program for some formats
            with Image.open(path, formats=FORMATS) as file:
                if math.prod(file.size) > MAX_PIXELS:
                    raise ValueError(f"it has {math.prod(file.size):,} pixels, more than the limit of {MAX_PIXELS:,}")
                image = file.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(
            f"{path} is not a whole image ({error}); the data option skip_corrupt leaves such files out"
        ) from None
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Images that are read from their files on access.

    Attributes
    ----------
    paths : tuple of path
    size : int
        Height and width in pixels, to which each image is stretched.
    """

    paths: tuple[Path, ...]
    size: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, 3, size, size)."""
        return len(self.paths), 3, self.size, self.size

    def __getitem__(self, rows: Tensor) -> Tensor:
        return torch.stack([read_image(self.paths[row], self.size) for row in rows.tolist()])


def _readable(files: Files, size: int) -> tuple[Files, list[str]]:
    """The files with a valid image, and the names of the others; every file is read once."""
    good, bad = [], []
    for path, k in files:
        try:
            read_image(path, size)
            good.append((path, k))
        except ValueError:
            bad.append(str(path))
    return good, bad


def _labelled(files: Files, size: int) -> Labelled:
    paths = tuple(path for path, _ in files)
    return Labelled(ImageFiles(paths, size), np.array([k for _, k in files], dtype=np.int64))


def _source(train: Files, test: Files, class_names: Sequence[str], size: int, skip_corrupt: bool) -> Source:
    skipped: list[str] = []
    if skip_corrupt:
        (train, first), (test, second) = _readable(train, size), _readable(test, size)
        skipped = first + second
    return Source(_labelled(train, size), _labelled(test, size), tuple(class_names), skipped=tuple(skipped))


def _class_folders(folder: Path) -> list[Path]:
    """The folders in a folder, by name; those whose name starts with a dot are skipped."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _images(folder: Path) -> list[Path]:
    """The images in a folder, by name.

    Raises
    ------
    ValueError
        If there are none.
    """
    images = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    if not images:
        raise ValueError(f"{folder} has no images (files that end in {', '.join(sorted(SUFFIXES))})")
    return images


def _check_alike(counts: dict[str, int], advice: str) -> None:
    """Raise a ValueError if classes differ in the number of their images."""
    usual = Counter(counts.values()).most_common(1)[0][0]
    for name, count in counts.items():
        if count != usual:
            raise ValueError(f"{name} has {count} images where the others have {usual}: {advice}")


def _split(folders: Sequence[Path], test_fraction: float, seed: int) -> tuple[Files, Files]:
    """Images of every class folder, with a random fraction for the test set; each class has both."""
    train: Files = []
    test: Files = []
    for k, folder in enumerate(folders):
        images = _images(folder)
        if len(images) < 2:
            raise ValueError(f"{folder} has one image; a class that is split into train and test needs two")
        count = min(max(round(test_fraction * len(images)), 1), len(images) - 1)
        drawn = set(stream(seed, f"test images of {folder.name}").permutation(len(images))[:count].tolist())
        for i, path in enumerate(images):
            (test if i in drawn else train).append((path, k))
    return train, test


def _lines(path: Path) -> list[str]:
    """The lines of a text file of the archive.

    Raises
    ------
    ValueError
        If it is missing or not text.
    """
    return read_text(present(path), strict=True).splitlines()


def read_tiny_imagenet(root: str | Path | None, *, skip_corrupt: bool = False) -> Source:
    """Tiny-ImageNet from ``tiny-imagenet-200`` in the root; its annotated validation images are the test set.

    Classes are in the order of their WordNet numbers.

    Parameters
    ----------
    root : path, optional
    skip_corrupt : bool
        Read every image once and skip those that cannot be read.

    Raises
    ------
    ValueError
        If the folder or a part of it is missing, or an annotation names a class that does not exist.

    References
    ----------
    http://cs231n.stanford.edu/tiny-imagenet-200.zip
    """
    folder = located(
        root,
        ("tiny-imagenet-200",),
        "download http://cs231n.stanford.edu/tiny-imagenet-200.zip and extract it there",
    )
    wnids = sorted(_lines(folder / "wnids.txt"))
    if not wnids or len(set(wnids)) < len(wnids):
        raise ValueError(f"{folder / 'wnids.txt'} must name each class once, one per line; got {len(wnids)} lines")
    lines = _lines(folder / "words.txt")
    names_of = {wnid: name for wnid, _, name in (line.partition("\t") for line in lines)}
    train: Files = []
    counts = {}
    for k, wnid in enumerate(wnids):
        images = _images(present(folder / "train" / wnid / "images"))
        train += [(path, k) for path in images]
        counts[wnid] = len(images)
    _check_alike(counts, "the archive was extracted in part")
    number = {wnid: k for k, wnid in enumerate(wnids)}
    test: Files = []
    annotations = present(folder / "val" / "val_annotations.txt")
    for line in _lines(annotations):
        name, wnid, *_ = [*line.split("\t"), ""]
        if name != Path(name).name:
            raise ValueError(f"{annotations} names {name!r}, which is not a file in its folder")
        if wnid not in number:
            raise ValueError(f"{annotations} gives {name} the class {wnid!r}, which wnids.txt does not have")
        test.append((present(folder / "val" / "images" / name), number[wnid]))
    named, there = len(test), len(_images(annotations.parent / "images"))
    if named != there:
        raise ValueError(f"{annotations} names {named} images, and its folder has {there}: one of the two is cut off")
    return _source(train, test, [names_of.get(wnid, wnid) for wnid in wnids], 64, skip_corrupt)


def read_faces(
    root: str | Path | None,
    *,
    image_size: int = 50,
    test_fraction: float = 0.2,
    seed: int = 0,
    skip_corrupt: bool = False,
) -> Source:
    """BUPT-CBFace-50 from a folder of that name in the root: one folder of images for each identity.

    The identities may also be in its folder ``images``. The set has no test images, so a random fraction of the images
    of each identity is used for testing.

    Parameters
    ----------
    root : path, optional
    image_size : int
        Height and width in pixels, to which every face is stretched.
    test_fraction : float
        Fraction of each identity's images used for testing, rounded, but at least one image and not all.
    seed : int
        Seed of the random split.
    skip_corrupt : bool
        Read every image once and skip those that cannot be read.

    Raises
    ------
    ValueError
        If the folder is missing, or identities differ in the number of their images (the set is balanced).
    """
    folder = located(
        root,
        ("BUPT-CBFace-50",),
        "ask for BUPT-CBFace-50 at http://www.whdeng.cn/BUPT-CBFace/index.html and extract it there, one folder per "
        "identity",
    )
    folders = _class_folders(folder / "images" if (folder / "images").is_dir() else folder)
    if len(folders) < 2:
        raise ValueError(f"{folder} must have a folder for each identity; got {len(folders)}")
    _check_alike({str(f): len(_images(f)) for f in folders}, "BUPT-CBFace-50 is balanced (read others as image-folder)")
    size = check_integer("image_size", image_size, 1)
    train, test = _split(folders, check_number("test_fraction", test_fraction, 0, 1), seed)
    return _source(train, test, [f.name for f in folders], size, skip_corrupt)


def read_image_folder(
    root: str | Path | None,
    *,
    image_size: int = 64,
    test_fraction: float = 0.2,
    seed: int = 0,
    skip_corrupt: bool = False,
) -> Source:
    """Any folder of class folders: the root itself, or its ``train`` and ``test`` (``val``) where it has both.

    Parameters
    ----------
    root : path
    image_size : int
        Height and width in pixels, to which every image is stretched.
    test_fraction : float
        Fraction of each class's images used for testing if there is no split, rounded, but at least one and not all.
    seed : int
        Seed of the random split.
    skip_corrupt : bool
        Read every image once and skip those that cannot be read.

    Raises
    ------
    ValueError
        If the folder is missing or has fewer than two classes, or a class folder has no images. Also if the test set
        has a class that the training set lacks.
    """
    if root is None:
        raise ValueError(
            "image-folder needs a data root (--data-root): a folder with a folder of images for each class"
        )
    folder = data_root(root)
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}; image-folder needs one with a folder of images for each class")
    size = check_integer("image_size", image_size, 1)
    fraction = check_number("test_fraction", test_fraction, 0, 1)
    train_folder = folder / "train"
    test_folder = next((folder / name for name in HELD_OUT if (folder / name).is_dir()), None)
    is_split = train_folder.is_dir() and test_folder is not None
    folders = _class_folders(train_folder if is_split else folder)
    if len(folders) < 2:
        raise ValueError(f"{folder} must have a folder of images for each of at least two classes; got {len(folders)}")
    names = [f.name for f in folders]
    if not is_split:
        return _source(*_split(folders, fraction, seed), names, size, skip_corrupt)
    assert test_folder is not None
    number = {name: k for k, name in enumerate(names)}
    train = [(path, number[f.name]) for f in folders for path in _images(f)]
    test = []
    for f in _class_folders(test_folder):
        if f.name not in number:
            raise ValueError(f"{f} is a class that {train_folder} does not have")
        test += [(path, number[f.name]) for path in _images(f)]
    return _source(train, test, names, size, skip_corrupt)
