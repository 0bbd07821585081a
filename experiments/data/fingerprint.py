"""A hash that identifies the data that a run was trained on."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch

from experiments.data.dataset import TokenContexts
from experiments.data.folders import ImageFiles

if TYPE_CHECKING:
    from experiments.data.dataset import Data, LabelledImages


def fingerprint(data: Data) -> str:
    """A hash of a data set: its classes, and inputs and labels of its training and test set.

    For image files it covers their names and sizes, not their contents.

    Examples
    --------
    >>> from experiments.data import load
    >>> fingerprint(load("digits")) == fingerprint(load("digits", label_noise=0.1))
    False
    """
    digest = hashlib.sha256("\n".join(data.class_names).encode(errors="surrogateescape"))
    for part in (data.train_unaugmented, data.test):
        digest.update(part.labels.contiguous().numpy().tobytes())
        digest.update(part.tokens.numpy().tobytes() if isinstance(part, TokenContexts) else _inputs(part))
    return digest.hexdigest()[:16]


def _inputs(images: LabelledImages) -> bytes:
    rows = images.rows.numpy().tobytes()
    if isinstance(images.pixels, torch.Tensor):
        return rows + hashlib.sha256(images.pixels.contiguous().numpy().tobytes()).digest()
    assert isinstance(images.pixels, ImageFiles)
    return rows + "\n".join(f"{path.name} {path.stat().st_size}" for path in images.pixels.paths).encode()
