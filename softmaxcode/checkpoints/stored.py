"""Tensors in a file, of which only names and shapes were read, and the choice of the classifier among them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from softmaxcode.checks.arguments import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

#: The end of the name of the index of a safetensors checkpoint in several files.
INDEX = ".safetensors.index.json"
#: Usual names of layers that make logits, and of embeddings.
LOGITS = re.compile(r"classif|head|logit|(?<![a-z])(fc|output|proj_out|decoder|dense)(?![a-z0-9])", re.IGNORECASE)
EMBEDDING = re.compile(r"embed|(?<![a-z])(wte|emb)(?![a-z0-9])", re.IGNORECASE)
#: Names of scales of quantised numbers, which may be matrices of blocks.
SCALE = re.compile(r"(?<![a-z])(scales?|scale_inv)$")
#: Candidates that a message names.
MAX_NAMED = 10
#: Last parts of names of a weight, with those of its bias.
BIASES = {"weight": ("bias",), "kernel": ("bias",), "W": ("b", "bias"), "w": ("b", "bias")}


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file and a function that reads it.

    Attributes
    ----------
    name : str
        Names of nested dictionaries are joined by dots. Empty in a file of one array without a name.
    shape : tuple of int
        Its shape.
    kind : {"f", "f8", "i", "other"}
        Floating point, floating point of one byte (which often has a scale beside it), integers, or neither.
    read : callable
        Returns its numbers.
    turned : bool or None
        Whether its columns are the classes, where the file shows it.
    bias : str or None
        The name of its bias, where the file shows it.
    logits : bool
        Whether the file shows that it makes the logits.
    note : str
        What the file does with its product that was not applied; empty where there is nothing.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    read: Callable[[], np.ndarray]
    turned: bool | None = None
    bias: str | None = None
    logits: bool = False
    note: str = ""

    @property
    def matrix_shape(self) -> tuple[int, int] | None:
        """Its shape, also of the kernel of a convolution of size 1."""
        if len(self.shape) >= 2 and all(n == 1 for n in self.shape[2:]):
            return self.shape[0], self.shape[1]
        return None


def _partners(name: str, endings: Sequence[str]) -> list[str]:
    """Names that a partner of a tensor may have."""
    head, dot, last = name.rpartition(".")
    stem = name.removesuffix("_quantized")
    return [stem + ending for ending in endings] + [head + dot + last + ending for ending in endings]


def scale_of(tensor: StoredTensor, stored: Sequence[StoredTensor]) -> StoredTensor | None:
    """The scale of quantised integers: one number, or one per row or column."""
    head, dot, _ = tensor.name.rpartition(".")
    names = {
        *_partners(tensor.name, ("_scale", ".scale", "_scales", ".scales", "_scale_inv")),
        f"{head}{dot}SCB",
        f"{head}{dot}scale",
    }
    return next((one for one in stored if one.kind == "f" and one.name in names and one is not tensor), None)


def zero_point_of(tensor: StoredTensor, stored: Sequence[StoredTensor]) -> StoredTensor | None:
    """The number that a quantised 0 is stored as."""
    head, dot, _ = tensor.name.rpartition(".")
    names = {*_partners(tensor.name, ("_zero_point", ".zero_point")), f"{head}{dot}zero_point"}
    return next((one for one in stored if one.name in names), None)


def bias_of(tensor: StoredTensor, stored: Sequence[StoredTensor]) -> StoredTensor | None:
    """The bias of a matrix: the one that the file shows, or that of its name, if it fits either axis."""
    shape = tensor.matrix_shape
    head, dot, last = tensor.name.rpartition(".")
    slashed, slash, final = tensor.name.rpartition("/")
    names = {f"{head}{dot}{one}" for one in BIASES.get(last, ())}
    names |= {f"{slashed}{slash}{one}" for one in BIASES.get(final, ())}
    names = names if tensor.bias is None else {tensor.bias}
    for one in stored:
        length = int(np.prod(one.shape, dtype=np.int64))
        if one.name in names and one.kind == "f" and max(one.shape, default=0) == length and length in (shape or ()):
            return one
    return None


def is_candidate(tensor: StoredTensor, stored: Sequence[StoredTensor]) -> bool:
    """Whether a tensor can be a classifier: a matrix of two rows or more, of floating point or with its scale."""
    shape = tensor.matrix_shape
    if shape is None or shape[1 if tensor.turned else 0] < 2 or SCALE.search(tensor.name):
        return False
    return tensor.kind in ("f", "f8") or (tensor.kind == "i" and scale_of(tensor, stored) is not None)


def _rank(tensor: StoredTensor) -> tuple[bool, bool, bool, bool]:
    """A sort key, likely classifiers first: logit layers before embeddings, and more classes than dimensions first."""
    shape = tensor.matrix_shape
    assert shape is not None
    K, d = shape[::-1] if tensor.turned else shape
    named, embedding = LOGITS.search(tensor.name) is not None, EMBEDDING.search(tensor.name) is not None
    return not tensor.logits, not (named and not embedding), not embedding, K <= d


def chosen_tensor(stored: Sequence[StoredTensor], path: Path, key: str | None) -> StoredTensor:
    """The tensor that the key names, or the only candidate, or the only one that the file shows to make the logits.

    Raises
    ------
    ValueError
        If it cannot be told; the message lists the candidates, the likely ones first.
    """
    candidates = sorted((one for one in stored if is_candidate(one, stored)), key=_rank)
    if key is None:
        making = [one for one in candidates if one.logits]
        found, asked = (making if len(making) == 1 else candidates), "a key is needed"
    else:
        found = [one for one in stored if one.name == key] or [one for one in stored if one.name.endswith(f".{key}")]
        asked = f"the key {key!r} is that of {len(found) or 'none'}"
    if len(found) == 1:
        return found[0]
    if not candidates:
        shapes = ", ".join([*(str(one.shape) for one in stored[:MAX_NAMED]), *["..."] * (len(stored) > MAX_NAMED)])
        there = f"; its {len(stored)} tensors have the shapes {shapes}" if stored else ""
        raise ValueError(f"cannot use {path}: it has no floating-point matrix of two rows or more{there}")
    shown = ", ".join(f"{printable(one.name) or 'one without a name'} {one.shape}" for one in candidates[:MAX_NAMED])
    more = f" and {len(candidates) - MAX_NAMED} more" if len(candidates) > MAX_NAMED else ""
    raise ValueError(
        f"cannot choose from {path}: {asked}; its {len(stored)} tensors have {len(candidates)} floating-point matrices "
        f"of two rows or more: {shown}{more}"
    )
