"""Changes to the labels of a training set: subsets of classes, few shots, noise, and a control."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from experiments.data.seeding import stream
from softmaxcode.checks.arguments import check_integer


def chosen_classes(classes: Iterable[int], K: int) -> np.ndarray:
    """The requested classes, at least two different ones of 0 .. K - 1, in the given order.

    Raises
    ------
    ValueError
        If they are anything else.
    """
    if not isinstance(classes, Iterable):
        raise ValueError(f"classes must be a sequence of integers; got {classes!r}")
    chosen = [check_integer("each of classes", k, 0) for k in classes]
    if len(chosen) < 2 or len(set(chosen)) < len(chosen):
        raise ValueError(f"classes must be at least two, none twice; got {chosen}")
    if max(chosen) >= K:
        raise ValueError(f"classes must be from 0 to {K - 1} (K = {K} classes); got {max(chosen)}")
    return np.array(chosen)


def of_classes(labels: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose label is among the chosen classes, and their new labels, the positions in ``chosen``.

    Examples
    --------
    >>> of_classes(np.array([0, 2, 1, 2]), np.array([2, 0]))
    (array([0, 1, 3]), array([1, 0, 0]))
    """
    place = np.full(max(labels.max(), chosen.max()) + 1, -1)
    place[chosen] = np.arange(len(chosen))
    rows = np.flatnonzero(place[labels] >= 0)
    return rows, place[labels[rows]]


def few_shot_rows(labels: np.ndarray, few_shot: Mapping[int, int], K: int, seed: int) -> np.ndarray:
    """Rows that remain if some classes keep only a given number of random images; in order.

    Parameters
    ----------
    labels : ndarray of int, shape (N,)
    few_shot : mapping from class to int
        Number of images that the class keeps, at least 1; classes that are not named keep all. A class may be a string
        of digits, as JSON requires.

    Raises
    ------
    ValueError
        For a class that does not exist, or that has too few images.

    Examples
    --------
    >>> few_shot_rows(np.array([0, 0, 1, 1, 1]), {1: 1}, 2, seed=0)
    array([0, 1, 4])
    """
    if not isinstance(few_shot, Mapping):
        raise ValueError(f"few_shot must map classes to numbers of images; got {few_shot!r}")
    kept = np.ones(len(labels), dtype=bool)
    for key, count in few_shot.items():
        k = int(key) if isinstance(key, str) and key.isdecimal() else key
        if check_integer("each class of few_shot", k, 0) >= K:
            raise ValueError(f"few_shot takes classes from 0 to {K - 1} (K = {K} classes); got {k}")
        own = np.flatnonzero(labels == k)
        if check_integer(f"few_shot of class {k}", count, 1) > len(own):
            raise ValueError(f"few_shot asks for {count} images of class {k}, which has {len(own)}")
        kept[own] = False
        kept[stream(seed, f"few shot {k}").choice(own, count, replace=False)] = True
    return np.flatnonzero(kept)


def noisy(labels: np.ndarray, fraction: float, K: int, seed: int) -> np.ndarray:
    """Labels with a fraction, rounded to whole images, replaced by other classes, uniformly at random.

    Examples
    --------
    >>> clean = np.repeat([0, 1, 2], 10)
    >>> int((noisy(clean, 0.2, 3, seed=0) != clean).sum())
    6
    """
    rng = stream(seed, "label noise")
    changed = rng.choice(len(labels), math.floor(fraction * len(labels) + 0.5), replace=False)
    out = labels.copy()
    out[changed] = (labels[changed] + rng.integers(1, K, len(changed))) % K
    return out


def permuted(labels: np.ndarray, seed: int, split: str) -> np.ndarray:
    """The labels reassigned to random images: every class is then a random set of images of its old size.

    Examples
    --------
    >>> sorted(permuted(np.array([0, 0, 1, 2]), 0, "train").tolist())
    [0, 0, 1, 2]
    """
    return stream(seed, f"labels of {split}").permutation(labels)
