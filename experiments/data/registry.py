"""The one list of data sets, and `load`."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from experiments.data.augmentation import Augmentation
from experiments.data.cifar import read_cifar10, read_cifar100
from experiments.data.dataset import Data, ImageData, LabelledImages, Normalisation, TextData
from experiments.data.digits import read_colour_pairs, read_digit_pairs, read_digit_triples, read_digits
from experiments.data.folders import read_faces, read_image_folder, read_tiny_imagenet
from experiments.data.labels import chosen_classes, few_shot_rows, noisy, of_classes, permuted
from experiments.data.shifts import Shift
from experiments.data.text import read_text
from softmaxcode.checks.arguments import check_integer, check_number
from softmaxcode.checks.renamed import renamed_argument

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from experiments.data.source import Labelled, Source


def _check_options(name: str, own: Mapping[str, Any], *known: Callable[..., Any]) -> None:
    """Raise a ValueError that lists the options of an entry, unless it has all given ones."""
    options = [
        p.name
        for f in known
        for p in inspect.signature(f).parameters.values()
        if p.kind == inspect.Parameter.KEYWORD_ONLY
    ]
    for option in own:
        if option not in options:
            raise ValueError(f"{name} has no option {option!r}; it has {', '.join(sorted(set(options)))}")


@dataclass(frozen=True)
class ImageEntry:
    """A data set of images that is not yet read.

    Attributes
    ----------
    name, description : str
    K : int or None
        Number of classes; None if the folder determines it.
    image_size : tuple of int
        Height and width in pixels.
    normalisation : Normalisation
    augmentation : Augmentation or None
        Applied to the training images.
    read : callable
        The reader of its files, with its own options.
    """

    name: str
    description: str
    K: int | None
    image_size: tuple[int, int]
    normalisation: Normalisation
    augmentation: Augmentation | None
    read: Callable[..., Source]

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return len(self.normalisation.mean)

    def load(
        self,
        root: str | Path | None,
        *,
        classes: Iterable[int] | None = None,
        relabel: Literal["images"] | None = None,
        few_shot: Mapping[int, int] | None = None,
        label_noise: float = 0.0,
        shift: str | Shift | None = None,
        augmentation: Augmentation | Literal["standard"] | None = "standard",
        seed: int = 0,
        **own: Any,
    ) -> ImageData:
        """Read the files and change the labels as requested; `load` documents each option."""
        _check_options(self.name, own, self.load, self.read)
        if augmentation == "standard":
            augmentation = self.augmentation
        elif not (augmentation is None or isinstance(augmentation, Augmentation)):
            raise ValueError(f"augmentation must be 'standard', None or an Augmentation; got {augmentation!r}")
        if relabel not in (None, "images"):
            raise ValueError(f"relabel must be 'images' or None; got {relabel!r}")
        noise = check_number("label_noise", label_noise, 0, 1)
        seed = check_integer("seed", seed, 0)
        if isinstance(shift, str):
            shift = Shift.parsed(shift, seed)
        elif not (shift is None or isinstance(shift, Shift)):
            raise ValueError(f"shift must be a Shift, a string such as 'contrast:0.5', or None; got {shift!r}")
        if "seed" in inspect.signature(self.read).parameters:
            own["seed"] = seed
        source = self.read(root, **own)
        names, similarity = source.class_names, source.similarity
        chosen = chosen_classes(range(len(names)) if classes is None else classes, len(names))
        names = tuple(names[k] for k in chosen)
        if similarity is not None:
            similarity = similarity[np.ix_(chosen, chosen)]
        rows, labels = of_classes(source.train.labels, chosen)
        test_rows, test_labels = of_classes(source.test.labels, chosen)
        if not len(test_rows):
            raise ValueError(f"{self.name} has no test images of the chosen classes {chosen.tolist()}")
        if relabel == "images":
            labels, test_labels = permuted(labels, seed, "train"), permuted(test_labels, seed, "test")
            similarity = None
        if few_shot is not None:
            kept = few_shot_rows(labels, few_shot, len(names), seed)
            rows, labels = rows[kept], labels[kept]
        labels = noisy(labels, noise, len(names), seed)

        def images(part: Labelled, rows: np.ndarray, labels: np.ndarray, **changes: Any) -> LabelledImages:
            return LabelledImages(
                part.pixels, torch.from_numpy(rows), torch.from_numpy(labels), self.normalisation, **changes
            )

        return ImageData(
            name=self.name,
            train=images(source.train, rows, labels, augmentation=augmentation),
            train_unaugmented=images(source.train, rows, labels),
            test=images(source.test, test_rows, test_labels, shift=shift),
            class_names=names,
            similarity=similarity,
            skipped=source.skipped,
        )


@dataclass(frozen=True)
class TextEntry:
    """A text that is not yet read."""

    name: str
    description: str
    K: int
    read: Callable[..., TextData]

    def load(self, root: str | Path | None, **own: Any) -> TextData:
        """Read the files; the options are those of `read`."""
        _check_options(self.name, own, self.read)
        return self.read(root, **own)


# Normalisations and augmentations of photographs and faces are those of the code published with the paper.
_IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_PHOTOGRAPHS = Augmentation(padding=4, flip=True, rotation=15)
_DIGITS = Normalisation((0.305,), (0.376,))

#: Every data set by name.
DATASETS: dict[str, ImageEntry | TextEntry] = {
    entry.name: entry
    for entry in (
        ImageEntry(
            "cifar10",
            "colour photographs of 10 kinds of things; 50,000 to train with and 10,000 to test with",
            10,
            (32, 32),
            Normalisation((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)),
            _PHOTOGRAPHS,
            read_cifar10,
        ),
        ImageEntry(
            "cifar100",
            "colour photographs of 100 kinds of things, five to a superclass; 50,000 to train with and 10,000 to test "
            "with",
            100,
            (32, 32),
            Normalisation((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
            _PHOTOGRAPHS,
            read_cifar100,
        ),
        ImageEntry(
            "tiny-imagenet",
            "colour photographs of 200 kinds of things; 100,000 to train with and 10,000 to test with",
            200,
            (64, 64),
            _IMAGENET,
            Augmentation(padding=8, flip=True, rotation=15),
            read_tiny_imagenet,
        ),
        ImageEntry(
            "bupt-cbface-50",
            "faces, 50 of each of 10,000 people, of which a fraction is kept to test with",
            None,
            (50, 50),
            Normalisation((0.5,) * 3, (0.5,) * 3),
            _PHOTOGRAPHS,
            read_faces,
        ),
        ImageEntry(
            "image-folder",
            "images of your own, a folder for each class",
            None,
            (64, 64),
            _IMAGENET,
            _PHOTOGRAPHS,
            read_image_folder,
        ),
        ImageEntry(
            "digits",
            "handwritten digits, 1,287 of ten forms to train with and 510 of four others to test with; offline",
            10,
            (8, 8),
            _DIGITS,
            None,
            read_digits,
        ),
        ImageEntry(
            "digit-pairs",
            "two handwritten digits side by side, train and test of different forms; offline",
            100,
            (8, 16),
            _DIGITS,
            None,
            read_digit_pairs,
        ),
        ImageEntry(
            "digit-triples",
            "three handwritten digits side by side, train and test of different forms; offline",
            1000,
            (8, 24),
            _DIGITS,
            None,
            read_digit_triples,
        ),
        ImageEntry(
            "digit-pairs-32",
            "two handwritten digits side by side in colour, train and test of different forms; offline",
            100,
            (32, 32),
            Normalisation((0.291,) * 3, (0.196,) * 3),
            Augmentation(padding=4),
            read_colour_pairs,
        ),
        TextEntry(
            "text",
            "next-token prediction on local text, by default the source of Python's standard library; offline",
            1024,
            read_text,
        ),
    )
}


def _entry(name: str) -> ImageEntry | TextEntry:
    if name not in DATASETS:
        raise ValueError(f"data set must be one of {', '.join(map(repr, DATASETS))}; got {name!r}")
    return DATASETS[name]


def describe(name: str) -> str:
    """An entry in one line.

    Parameters
    ----------
    name : str
        A name in `DATASETS`.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If there is no such data set.

    Examples
    --------
    >>> describe("image-folder")
    'image-folder: images of your own, a folder for each class (K by its folders, 64 x 64 colour)'
    """
    entry = _entry(name)
    size = f"K = {entry.K}" if entry.K else "K by its folders"
    if isinstance(entry, ImageEntry):
        height, width = entry.image_size
        size += f", {height} x {width} {'grey' if entry.channels == 1 else 'colour'}"
    return f"{name}: {entry.description} ({size})"


@renamed_argument("test_share", "test_fraction")  # codespell:ignore
def load(name: str, root: str | Path | None = None, **options: Any) -> Data:
    """Read a data set; nothing is downloaded or unpickled, and the same options give the same data.

    Parameters
    ----------
    name : str
        A name in `DATASETS`.
    root : path, optional
        The folder that contains the data set's folder or archive. By default the environment variable SOFTMAXCODE_DATA
        names it; without the variable it is ``data`` in the current folder. The offline sets need none.
    **options
        Options of every set of images, applied in this order:

        ``classes`` : iterable of int
            Keep only these classes; label i then stands for the i-th of them.
        ``relabel`` : "images"
            A control without learnable classes: labels are reassigned to random images, in the training and in the
            test set. Every class becomes a random set of images that can only be memorised. No class is similar to
            another, and test accuracy is chance.
        ``few_shot`` : mapping from class to int
            Keep this many random training images of these classes.
        ``label_noise`` : float
            Fraction of the training labels to replace by other random classes. Without it, the same options give the
            true labels in the same order.
        ``shift`` : str or Shift
            Shift of the test images, such as ``"gaussian-noise:0.2"``, ``"translation:2"`` or ``"contrast:0.5"``.
        ``augmentation`` : Augmentation, None or "standard"
            Augmentation of the training images, instead of the entry's own.
        ``seed`` : int
            Seed of all random choices, each with its own stream.

        The reader of the entry, ``DATASETS[name].read``, has options of its own.

    Returns
    -------
    ImageData or TextData

    Raises
    ------
    ValueError
        For a name or option that does not exist, or data that are missing, incomplete or damaged.

    Notes
    -----
    If labels are reassigned at random, test accuracy is chance under any classifier. So ``relabel`` is a control only
    for measurements in training. The control for test accuracy is ``load("digit-triples", groups="random")`` beside
    ``groups="leading"``. Both have the same images in 100 classes of ten numbers each, all about equally similar or
    not. Permuting the digits of the source images would be no control. A pair would share its pseudo-digits with other
    pairs as it shared its digits, and no handwriting in the test set could be read.

    Examples
    --------
    >>> data = load("digit-pairs", train_per_class=5, test_per_class=2, label_noise=0.2)
    >>> data.K, len(data.train), len(data.test), data.image_size
    (100, 500, 200, (8, 16))
    >>> image, label = data.train[0]
    >>> image.shape, image.dtype
    (torch.Size([1, 8, 16]), torch.float32)
    """
    return _entry(name).load(root, **options)
