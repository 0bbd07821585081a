"""A data set once it is read: labelled images or token contexts, and the information that a run needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from experiments.data.augmentation import Augmentation
    from experiments.data.shifts import Shift


class Pixels(Protocol):
    """Images as bytes, read when they are indexed: a tensor, or files."""

    @property
    def shape(self) -> Sequence[int]:
        """(N, channels, height, width)."""

    def __getitem__(self, rows: Tensor) -> Tensor:
        """The images of these rows, uint8, shape (len(rows), channels, height, width)."""


@dataclass(frozen=True)
class Normalisation:
    """Subtract the mean of each channel and divide by its standard deviation, for pixels in [0, 1].

    Examples
    --------
    >>> Normalisation((0.5,), (0.25,))(torch.ones(1, 1, 1, 1)).item()
    2.0
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, pixels: Tensor) -> Tensor:
        """The images (N, channels, height, width), normalised."""
        return (pixels - pixels.new_tensor(self.mean)[:, None, None]) / pixels.new_tensor(self.std)[:, None, None]


@dataclass(frozen=True, eq=False)
class LabelledImages(Dataset[tuple[Tensor, int]]):
    """A PyTorch data set of (image, label): float32 (channels, height, width), normalised, and an int.

    `batch` reads many at once; a ``DataLoader`` calls the same code.

    Attributes
    ----------
    pixels : Tensor or files, (M, channels, height, width)
        Bytes; several data sets may share them.
    rows : Tensor, shape (N,)
        Rows of ``pixels`` in this data set, in order.
    labels : Tensor, shape (N,)
        int64.
    normalisation : Normalisation
        Applied last.
    augmentation, shift : Augmentation, Shift, optional
        Applied to pixels in [0, 1].

    Examples
    --------
    >>> images = LabelledImages(
    ...     torch.full((3, 1, 2, 2), 255, dtype=torch.uint8), torch.arange(3), torch.tensor([0, 1, 1]),
    ...     Normalisation((0.5,), (0.5,)))
    >>> image, label = images[2]
    >>> image.tolist(), label
    ([[[1.0, 1.0], [1.0, 1.0]]], 1)
    """

    pixels: Pixels
    rows: Tensor
    labels: Tensor
    normalisation: Normalisation
    augmentation: Augmentation | None = None
    shift: Shift | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Any) -> tuple[Tensor, Tensor]:
        """Images (n, channels, height, width) and labels (n,) of these indices, a sequence or tensor of integers."""
        rows = torch.as_tensor(indices)
        pixels = self.pixels[self.rows[rows]].to(torch.float32) / 255
        if self.augmentation is not None:
            pixels = self.augmentation(pixels)
        if self.shift is not None:
            pixels = self.shift(pixels, rows)
        return self.normalisation(pixels), self.labels[rows]

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, int]]:
        images, labels = self.batch(indices)
        return list(zip(images, labels.tolist(), strict=True))


@dataclass(frozen=True, eq=False)
class TokenContexts(Dataset[tuple[Tensor, Tensor]]):
    """A PyTorch data set of (tokens, next tokens), each int64 of shape (T,): consecutive contexts, none overlapping.

    `batch` reads many at once.

    Attributes
    ----------
    tokens : Tensor, shape (M,)
        One text after the other; a remainder at the end that does not fill a context is dropped.
    context : int
        T.

    Examples
    --------
    >>> contexts = TokenContexts(torch.arange(8), 3)
    >>> len(contexts), *(part.tolist() for part in contexts[1])
    (2, [3, 4, 5], [4, 5, 6])
    """

    tokens: Tensor
    context: int

    def __len__(self) -> int:
        return (len(self.tokens) - 1) // self.context

    @property
    def labels(self) -> Tensor:
        """Every next token, shape (N T,): the class of each position."""
        return self.tokens[1 : 1 + len(self) * self.context]

    def batch(self, indices: Any) -> tuple[Tensor, Tensor]:
        """Tokens and next tokens (n, T) of these contexts, a sequence or tensor of integers from 0."""
        contexts = torch.as_tensor(indices, dtype=torch.int64)
        for index in contexts[(contexts < 0) | (contexts >= len(self))].tolist():
            raise IndexError(f"contexts are numbered from 0 to {len(self) - 1}; got {index}")
        places = contexts[:, None] * self.context + torch.arange(self.context)
        return self.tokens[places], self.tokens[places + 1]

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        tokens, following = self.batch([index])
        return tokens[0], following[0]


@dataclass(frozen=True, eq=False, kw_only=True)
class Data:
    """A data set that is ready for training.

    Attributes
    ----------
    name : str
        Its name in the registry.
    train, test : LabelledImages or TokenContexts
        The training set, and the set on which accuracy is measured.
    train_unaugmented : LabelledImages or TokenContexts
        ``train`` without augmentation, in the same order: the samples on which neural collapse is measured.
    class_names : tuple of str
        One per class, in the order of the labels.
    """

    name: str
    train: Any
    train_unaugmented: Any
    test: Any
    class_names: tuple[str, ...]

    @property
    def K(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @cached_property
    def counts(self) -> Tensor:
        """Training labels of each class, shape (K,)."""
        return torch.bincount(self.train.labels, minlength=self.K)


@dataclass(frozen=True, eq=False, kw_only=True)
class ImageData(Data):
    """Labelled images.

    Attributes
    ----------
    train, train_unaugmented, test : LabelledImages
    similarity : ndarray, shape (K, K), or None
        Prior similarity of the classes, symmetric with unit diagonal, from 0 (nothing in common) to 1.
    skipped : tuple of str
        Unreadable files that were skipped on request.
    """

    train: LabelledImages
    train_unaugmented: LabelledImages
    test: LabelledImages
    similarity: np.ndarray | None = None
    skipped: tuple[str, ...] = ()

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return self.train.pixels.shape[1]

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width, in pixels."""
        height, width = self.train.pixels.shape[2:]
        return height, width

    @property
    def normalisation(self) -> Normalisation:
        """Mean and standard deviation of each channel."""
        return self.train.normalisation

    @property
    def augmentation(self) -> Augmentation | None:
        """The augmentation that ``train`` applies to its images."""
        return self.train.augmentation


@dataclass(frozen=True, eq=False, kw_only=True)
class TextData(Data):
    """Tokenised text, in which the class is the next token.

    Attributes
    ----------
    train, train_unaugmented, test : TokenContexts
        ``train_unaugmented`` is ``train``.
    class_names : tuple of str
        The tokens; byte-level pairs write a space as Ġ and a line end as Ċ.
    source : str
        A short description of the text.
    decode : callable
        Converts a list of tokens back to text.
    """

    train: TokenContexts
    train_unaugmented: TokenContexts
    test: TokenContexts
    source: str
    decode: Callable[[list[int]], str] = field(repr=False)

    @property
    def context(self) -> int:
        """Number of tokens in a context, T."""
        return self.train.context
