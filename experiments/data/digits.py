"""Real handwritten digits from scikit-learn, alone and side by side: 10, 100 or 1,000 classes, offline.

The 1,797 images (8 x 8) come from 14 filled-in forms of about 130 digits, one after the other. The forms begin at image
0, 130, 256, 386, 516, 646, 776, 905, 1029, 1157, 1287, 1415, 1543 and 1667. Training images are made of the digits of
the first ten forms and test images of the last four. The source names 13 writers, so one of them may have filled in
two.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import interpolate

from experiments.data.seeding import stream
from experiments.data.source import Labelled, Source
from softmaxcode.checks.arguments import check_integer

if TYPE_CHECKING:
    from pathlib import Path

#: The first image of the last four forms.
FIRST_TEST_IMAGE = 1287
GROUPS = ("leading", "random")


def _sources() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Images (n, 8, 8) as bytes and digits (n,) of the training forms and of the test forms."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = np.rint(data.images * (255 / 16)).astype(np.uint8)  # the values 0 to 16 stay distinct
    digits = data.target.astype(np.int64)
    train, test = slice(FIRST_TEST_IMAGE), slice(FIRST_TEST_IMAGE, None)
    return (images[train], digits[train]), (images[test], digits[test])


def read_digits(root: str | Path | None) -> Source:
    """The digits alone: 1,287 training images of ten forms and 510 test images of four others."""
    train, test = (Labelled(torch.from_numpy(images)[:, None], digits) for images, digits in _sources())
    return Source(train, test, tuple("0123456789"))


def digit_similarity(places: int) -> np.ndarray:
    """The fraction of places in which two numbers have the same digit, shape (10^places, 10^places).

    Examples
    --------
    >>> S = digit_similarity(2)
    >>> S[12, 12].item(), S[12, 17].item(), S[12, 21].item()
    (1.0, 0.5, 0.0)
    """
    digits = np.array(np.unravel_index(np.arange(10**places), (10,) * places))
    return (digits[:, :, None] == digits[:, None, :]).mean(axis=0)


def _side_by_side(
    images: np.ndarray, digits: np.ndarray, places: int, per_class: int, rng: np.random.Generator, split: str
) -> Labelled:
    """Random different combinations of source images without replacement, equally many per number."""
    pools = [np.flatnonzero(digits == digit) for digit in range(10)]
    drawn = []
    for number in np.ndindex((10,) * places):
        sizes = tuple(len(pools[digit]) for digit in number)
        available = math.prod(sizes)
        if per_class > available:
            raise ValueError(
                f"{split}_per_class is at most {available}, the combinations of images of {number}; got {per_class}"
            )
        picks = np.unravel_index(rng.choice(available, per_class, replace=False), sizes)
        drawn.append(np.stack([pools[digit][pick] for digit, pick in zip(number, picks, strict=True)], axis=1))
    rows = np.concatenate(drawn)
    pixels = images[rows].transpose(0, 2, 1, 3).reshape(len(rows), 1, 8, 8 * places)
    return Labelled(torch.from_numpy(pixels), np.repeat(np.arange(10**places), per_class))


def _grouped(source: Source, places: int, groups: str, seed: int) -> Source:
    """Ten numbers per class: those that differ only in the last digit, or ten random ones."""
    if groups not in GROUPS:
        raise ValueError(f"groups must be one of {', '.join(map(repr, GROUPS))}; got {groups!r}")
    K = 10**places // 10
    label = np.arange(10**places) // 10
    names = tuple(f"{k:0{places - 1}d}-" for k in range(K))
    if groups == "random":
        label = stream(seed, "groups").permutation(label)
        names = tuple(" ".join(np.array(source.class_names)[label == k]) for k in range(K))
    # the similarity of two groups is the mean over their members; that of a group with itself is 1
    member = np.eye(K)[label] / 10
    similarity = member.T @ digit_similarity(places) @ member
    np.fill_diagonal(similarity, 1.0)
    train, test = (Labelled(part.pixels, label[part.labels]) for part in (source.train, source.test))
    return Source(train, test, names, similarity)


def _read_combined(places: int, train_per_class: int, test_per_class: int, groups: str | None, seed: int) -> Source:
    splits = []
    for (images, digits), split, count in zip(
        _sources(), ("train", "test"), (train_per_class, test_per_class), strict=True
    ):
        count = check_integer(f"{split}_per_class", count, 1)
        splits.append(_side_by_side(images, digits, places, count, stream(seed, f"{split} digits"), split))
    names = tuple(f"{number:0{places}d}" for number in range(10**places))
    train, test = splits
    source = Source(train, test, names, digit_similarity(places))
    return source if groups is None else _grouped(source, places, groups, seed)


def read_digit_pairs(
    root: str | Path | None,
    *,
    train_per_class: int = 200,
    test_per_class: int = 50,
    groups: str | None = None,
    seed: int = 0,
) -> Source:
    """Numbers from 00 to 99, two digits side by side (8 x 16); the similarity of classes is that of their digits.

    Parameters
    ----------
    root : path, optional
        Ignored: the images come with scikit-learn.
    train_per_class, test_per_class : int
        Images per number, for the 100 numbers: different random combinations of two source images.
    groups : {"leading", "random"}, optional
        Use ten classes of ten numbers each instead: those with the same leading digit, or ten random ones.
    seed : int
        Seed of the random choices.

    Raises
    ------
    ValueError
        If there are not that many combinations.
    """
    return _read_combined(2, train_per_class, test_per_class, groups, seed)


def read_digit_triples(
    root: str | Path | None,
    *,
    train_per_class: int = 50,
    test_per_class: int = 10,
    groups: str | None = None,
    seed: int = 0,
) -> Source:
    """Numbers from 000 to 999, three digits side by side (8 x 24).

    Parameters
    ----------
    root : path, optional
        Ignored: the images come with scikit-learn.
    train_per_class, test_per_class : int
        Images per number, for the 1,000 numbers.
    groups : {"leading", "random"}, optional
        Use 100 classes of ten numbers each instead. ``leading`` joins the numbers that differ only in the last digit,
        so classes are as similar as their first two digits. ``random`` joins ten random numbers, so all classes are
        about equally similar. Test accuracy is still meaningful, which makes it the control for effects of similarity.
    seed : int
        Seed of the random choices.

    Raises
    ------
    ValueError
        If there are not that many combinations.
    """
    return _read_combined(3, train_per_class, test_per_class, groups, seed)


def _coloured(part: Labelled, rng: np.random.Generator) -> Labelled:
    """Twice as large, on a square of 32 x 32 at a random height, light ink on dark paper of random colours."""
    N = len(part.labels)
    large = interpolate(part.pixels[torch.arange(N)].float() / 255, scale_factor=2, mode="bilinear")
    square = torch.zeros(N, 1, 32, 32)
    top = torch.from_numpy(rng.integers(0, 17, N))
    square[torch.arange(N)[:, None], 0, top[:, None] + torch.arange(16)] = large[:, 0]
    paper, ink = (torch.from_numpy(rng.uniform(low, low + 0.4, (N, 3, 1, 1)).astype(np.float32)) for low in (0.0, 0.6))
    return Labelled(((paper + (ink - paper) * square) * 255).round().to(torch.uint8), part.labels)


def read_colour_pairs(
    root: str | Path | None,
    *,
    train_per_class: int = 500,
    test_per_class: int = 100,
    groups: str | None = None,
    seed: int = 0,
) -> Source:
    """The pairs of `read_digit_pairs` as colour images of 32 x 32, by default as many as in CIFAR100.

    Each is twice as large, at a random height, in light ink on dark paper of random colours.
    """
    grey = _read_combined(2, train_per_class, test_per_class, groups, seed)
    train = _coloured(grey.train, stream(seed, "train colours"))
    test = _coloured(grey.test, stream(seed, "test colours"))
    return Source(train, test, grey.class_names, grey.similarity)
