"""Classifiers out of other people's files: read without trust, and held against a code."""

from __future__ import annotations

import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from experiments.class_similarity import nearest_pairs
from softmaxcode.code import MAX_ALL_MARGINS
from softmaxcode.compare import compare
from softmaxcode.margins import margins
from softmaxcode.sphere import check_rows
from softmaxcode.tensors import MAX_NAMED, check_classifier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pandas as pd

    from softmaxcode.compare import Comparison
    from softmaxcode.margins import Margins

SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".npy")
#: Names that classifiers and embedding matrices go by.
LIKELY = re.compile(r"classifier|head|embed|(?<![a-z])fc(?![a-z0-9])", re.IGNORECASE)


@dataclass(frozen=True)
class Candidate:
    """A tensor of a file that may be the classifier: its name and shape, and how to read it."""

    name: str
    shape: tuple[int, ...]
    read: Callable[[], Tensor]

    @property
    def rank(self) -> tuple[bool, bool]:
        """What sorts the likely ones first: a classifier's name, and more rows than columns."""
        return LIKELY.search(self.name) is None, self.shape[0] <= self.shape[1]

    def __str__(self) -> str:
        return f"{self.name} {self.shape}"


def read_classifier(path: str | Path, key: str | None = None) -> Tensor:
    """Read one matrix, a classifier or an embedding, out of a checkpoint; nothing of it is ever executed.

    Parameters
    ----------
    path : path
        ``.safetensors``; ``.pt``, ``.pth`` or ``.ckpt`` (`torch.load` with ``weights_only=True``: a tensor, or
        dictionaries of tensors within each other, such as Lightning's ``{"state_dict": ...}``); ``.npy``.
    key : str, optional
        Name of the matrix, those of dictionaries joined by dots, or its last part, such as ``fc.weight``, where it is
        the end of one name alone. Not needed where the file has a single matrix of floating-point numbers with two
        rows or more.

    Returns
    -------
    Tensor, shape (K, d), on the CPU
        As stored; float32 where that is a smaller floating-point type.

    Raises
    ------
    ValueError
        If the file is missing, damaged or of another kind; if there is no such key, or none was given and the file
        has several matrices, which the message lists, the likely ones first; or if the matrix is not a finite (K, d)
        floating-point tensor.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "net.pt"
    >>> net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Linear(8, 20))
    >>> torch.save({"epoch": 5, "model": net.state_dict()}, path)
    >>> read_classifier(path, "1.weight").shape
    torch.Size([20, 8])
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"cannot read {path}: the suffix must be one of {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise ValueError(f"cannot read {path}: there is no such file")
    reader = {".safetensors": _from_safetensors, ".npy": _from_numpy}.get(path.suffix.lower(), _from_torch)
    held = list(reader(path))
    chosen = _chosen(held, path, key)
    W = chosen.read()
    if W.is_floating_point() and W.element_size() < 4:
        W = W.float()
    try:
        return check_classifier(W, name=chosen.name or "the matrix")
    except ValueError as error:
        raise ValueError(f"cannot read {path}: {error}") from None


def _chosen(held: list[Candidate], path: Path, key: str | None) -> Candidate:
    if key is None:
        found = sorted((c for c in held if len(c.shape) == 2 and c.shape[0] > 1), key=lambda c: c.rank)
        if not found:
            raise ValueError(f"cannot read {path}: it has no matrix with two rows or more among {len(held)} tensors")
        if len(found) > 1:
            raise ValueError(f"{path} has {len(found)} matrices, so a key is needed: {_listed(found)}")
    else:
        found = [c for c in held if c.name == key] or [c for c in held if c.name.endswith(f".{key}")]
        if not found:
            raise ValueError(f"{path} has no tensor {key!r}; it has {_listed(sorted(held, key=_likely))}")
        if len(found) > 1:
            raise ValueError(f"{path} has several tensors whose names end in {key!r}: {_listed(found)}")
    return found[0]
