"""Classifiers from checkpoints of others: validated on reading, and compared with a code."""

from __future__ import annotations

import functools
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from experiments.class_similarity import nearest_pairs
from softmaxcode.checks.arguments import printable
from softmaxcode.checks.limits import MAX_ALL_MARGINS
from softmaxcode.checks.tensors import MAX_NAMED, check_classifier
from softmaxcode.compare import compare, other_optima
from softmaxcode.margins.exact import margins
from softmaxcode.margins.sampled import sampled_margin
from softmaxcode.sphere import check_rows
from softmaxcode.storage.arrays import stored_arrays
from softmaxcode.storage.disk import check_archive, check_input

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pandas as pd

    from softmaxcode.compare import Comparison
    from softmaxcode.margins.exact import Margins
    from softmaxcode.margins.sampled import SampledMargin
    from softmaxcode.storage.arrays import StoredArray

SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".npy", ".npz")
#: Usual names of classifiers and embedding matrices.
LIKELY = re.compile(r"classifier|head|embed|(?<![a-z])fc(?![a-z0-9])", re.IGNORECASE)


@dataclass(frozen=True)
class StoredMatrix:
    """A tensor in a file that may be the classifier, and a function that reads it.

    Attributes
    ----------
    name : str
        Names of nested dictionaries are joined by dots. Empty in a file of one array without a name.
    shape : tuple of int
        Its shape.
    floating : bool
        Whether its numbers are floating point.
    read : callable
        Returns the tensor.
    """

    name: str
    shape: tuple[int, ...]
    floating: bool
    read: Callable[[], Tensor]

    @property
    def is_matrix(self) -> bool:
        """Whether it can be a classifier: floating point, two dimensions, at least two rows."""
        return self.floating and len(self.shape) == 2 and self.shape[0] > 1

    @property
    def unlikeliness(self) -> tuple[bool, bool]:
        """A sort key, likely matrices first: those with a classifier's name, and among these those with more rows."""
        K, d = self.shape
        return LIKELY.search(self.name) is None, K <= d


def read_classifier(path: str | Path, key: str | None = None) -> Tensor:
    """Read one matrix, a classifier or an embedding, from a checkpoint; nothing in the file is executed.

    Parameters
    ----------
    path : path
        The file, with one of these suffixes. ``.safetensors``. ``.pt``, ``.pth`` or ``.ckpt``: `torch.load` reads it
        with ``weights_only=True``. It may contain a tensor or nested dictionaries of tensors, such as Lightning's
        ``{"state_dict": ...}``. ``.npy``. ``.npz``, including codes that `SoftmaxCode.save` writes.
    key : str, optional
        Name of the matrix, with names of dictionaries joined by dots. The last part of a name is enough if it is
        unique, such as ``fc.weight``. Not needed if the file has a single matrix of floating-point numbers with two
        rows or more.

    Returns
    -------
    Tensor, shape (K, d), on the CPU
        As stored; a floating-point type smaller than float32 becomes float32.

    Raises
    ------
    ValueError
        If the file is missing, damaged or of another kind, or the key does not exist. Also if no key was given and the
        file has several matrices; the message lists them, the likely ones first. Also if the matrix is not a finite
        (K, d) floating-point tensor.

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
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"cannot read {path}: the suffix must be one of {', '.join(SUFFIXES)}")
    check_input(path)
    if suffix == ".safetensors":
        stored = _from_safetensors(path)
    elif suffix in (".npy", ".npz"):
        stored = [_of_array(array) for array in stored_arrays(path) if array.dtype.kind in "fiub"]
    else:
        stored = _from_torch(path)
    chosen = _chosen(stored, path, key)
    W = chosen.read()
    _check_stored(W, path, chosen.name or "the matrix")
    try:
        W = W.resolve_neg()
        if W.is_floating_point() and W.element_size() < 4:
            W = W.float()
    except RuntimeError:
        raise ValueError(f"cannot read {path}: PyTorch cannot compute with its {W.dtype}") from None
    try:
        return check_classifier(W, name=chosen.name or "the matrix")
    except ValueError as error:
        raise ValueError(f"cannot read {path}: {error}") from None


def _check_stored(W: Tensor, path: Path, name: str) -> None:
    """Raise a ValueError unless a file stores every number of a tensor."""
    if W.is_meta:
        what = "without its numbers (on PyTorch's meta device)"
    elif W.layout != torch.strided:
        what = "not stored in full (sparse, say)"
    elif W.is_quantized:
        what = "quantised"
    elif W.untyped_storage().nbytes() < W.numel() * W.element_size():  # strides of 0 may declare any size
        what = f"of shape {tuple(W.shape)}, with fewer numbers than that"
    else:
        return
    raise ValueError(f"cannot read {path}: {name} is {what}")


def _chosen(stored: list[StoredMatrix], path: Path, key: str | None) -> StoredMatrix:
    matrices = sorted((candidate for candidate in stored if candidate.is_matrix), key=lambda c: c.unlikeliness)
    if key is None:
        found, asked = matrices, "a key is needed"
    else:
        found = [c for c in stored if c.name == key] or [c for c in stored if c.name.endswith(f".{key}")]
        asked = f"the key {key!r} is that of {len(found) or 'none'}"
    if len(found) == 1:
        return found[0]
    if not matrices:
        shapes = ", ".join([*(str(c.shape) for c in stored[:MAX_NAMED]), *["..."] * (len(stored) > MAX_NAMED)])
        there = f"; its {len(stored)} tensors have the shapes {shapes}" if stored else ""
        raise ValueError(f"cannot use {path}: it has no floating-point matrix of two rows or more{there}")
    shown = ", ".join(f"{printable(c.name) or 'one without a name'} {c.shape}" for c in matrices[:MAX_NAMED])
    more = f" and {len(matrices) - MAX_NAMED} more" if len(matrices) > MAX_NAMED else ""
    raise ValueError(
        f"cannot choose from {path}: {asked}; its {len(stored)} tensors have {len(matrices)} floating-point matrices "
        f"of two rows or more: {shown}{more}"
    )


def _from_safetensors(path: Path) -> list[StoredMatrix]:
    def damaged(error: Exception) -> ValueError:
        return ValueError(f"cannot read {path}: not a safetensors file, or truncated ({printable(error)})")

    def read(name: str) -> Tensor:
        try:
            with safe_open(path, framework="pt") as file:
                return file.get_tensor(name)
        except Exception as error:  # types that PyTorch lacks raise errors of several kinds
            raise damaged(error) from None

    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  # not a dictionary
            return [
                StoredMatrix(name, tuple(s.get_shape()), "F" in s.get_dtype(), functools.partial(read, name))
                for name, s in slices.items()
            ]
    except Exception as error:  # SafetensorError, OSError and other errors of the reader on a damaged header
        raise damaged(error) from None


def _from_torch(path: Path) -> list[StoredMatrix]:
    size = path.stat().st_size
    try:
        if zipfile.is_zipfile(path):
            check_archive(path, size, stored=True)
        stored = torch.load(path, map_location="cpu", weights_only=True)
        tensors = list(_tensors(stored))
        if any(t.layout == torch.strided and not t.is_meta and t.untyped_storage().nbytes() > size for _, t in tensors):
            raise ValueError("a tensor is larger than the file")
        return [
            StoredMatrix(name, tuple(tensor.shape), tensor.is_floating_point(), lambda tensor=tensor: tensor)  # type: ignore[misc]
            for name, tensor in tensors
        ]
    except Exception:  # a damaged archive or pickle may raise anything
        raise ValueError(
            f"cannot read {path}: damaged, or it holds more than tensors and JSON values, and no code of a file is "
            "ever run (save the state_dict alone)"
        ) from None


def _tensors(stored: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Tensors in nested dictionaries; those of an optimiser's state are behind lists and numbers, and are skipped."""
    if isinstance(stored, Tensor):
        yield name, stored.detach()
    elif isinstance(stored, dict):
        for key, value in stored.items():
            if isinstance(key, str):
                yield from _tensors(value, f"{name}.{key}" if name else key)


def _of_array(array: StoredArray) -> StoredMatrix:
    def read() -> Tensor:
        # torch has no wider numbers, and none of another byte order
        wide = array.dtype.kind == "f" and array.dtype.itemsize > 8
        return torch.from_numpy(array.read().astype(np.float64 if wide else array.dtype.newbyteorder("=")))

    return StoredMatrix(array.name, array.shape, array.dtype.kind == "f", read)


@dataclass(frozen=True, eq=False)
class FileComparison:
    """A classifier from a file compared with a code.

    Attributes
    ----------
    comparison : Comparison or None
        Margin (GNC2), cosines and alignment against the best known code; see `softmaxcode.compare.compare`. None if the
        margin was sampled.
    margins : Margins or None
        One-vs-rest distances of every class, with their gaps. None if K K d is above
        `softmaxcode.code.MAX_ALL_MARGINS`, or the margin was sampled.
    sampled : SampledMargin or None
        The smallest distance among randomly drawn classes, if a sample was requested; see `softmaxcode.sampled_margin`.
    optima : ndarray or None
        Angles to local optima other than the code, in degrees; see `softmaxcode.compare.other_optima`. None if nothing
        was aligned.
    nearest : DataFrame
        The closest pairs of classes; see `experiments.class_similarity.nearest_pairs`.
    """

    comparison: Comparison | None
    margins: Margins | None
    sampled: SampledMargin | None
    optima: np.ndarray | None
    nearest: pd.DataFrame


def compare_file(
    path: str | Path,
    key: str | None = None,
    *,
    names: Sequence[str] | None = None,
    count: int = 10,
    align: bool = True,
    sample: int | None = None,
    search: bool = True,
) -> FileComparison:
    """Compare a classifier from a checkpoint with the best known code of its size.

    Parameters
    ----------
    path, key
        As in `read_classifier`. Rows of any non-zero norm are scaled to norm 1. Biases are ignored.
    names : sequence of str, optional
        Names of the classes.
    count : int
        Number of closest pairs.
    align : bool
        Align the code with the classifier, up to `softmaxcode.compare.alignment.MAX_ALIGN_CLASSES` classes.
    sample : int, optional
        Compute the margin from this many randomly drawn classes, and compare with no code: for very large matrices.
    search : bool
        Whether to search for five seconds where the stored code of this size was never searched.

    Returns
    -------
    FileComparison
        ``comparison`` with the exact margin and the ``margins`` of all classes, or the ``sampled`` margin; and the
        ``nearest`` pairs.

    Raises
    ------
    ValueError
        As `read_classifier`. Also if a row is zero, there are not K names, or ``count`` or ``sample`` is below 1.

    Notes
    -----
    Without ``sample`` the margin is exact at any size. At (K, d) = (30522, 768), an embedding matrix like BERT's, a
    class takes about 20 ms. Most classes have to be solved, both of the classifier and of the code, which takes tens of
    minutes. A sample of 1000 takes half a minute.

    Examples
    --------
    >>> import tempfile
    >>> import softmaxcode as sc
    >>> path = Path(tempfile.mkdtemp()) / "classifier.npy"
    >>> np.save(path, 3 * sc.best_known(12, 3).W)
    >>> found = compare_file(path, count=2, align=False)
    >>> round(found.comparison.margin_ratio, 9), found.nearest["cosine"].round(4).tolist()
    (1.0, [0.4472, 0.4472])
    """
    W = check_rows(read_classifier(path, key), normalize=True)
    K, d = W.shape
    nearest = nearest_pairs(W, names, count)
    if sample is not None:
        return FileComparison(None, None, sampled_margin(W, sample), None, nearest)
    everyone = margins(W) if K * K * d <= MAX_ALL_MARGINS else None
    comparison = compare(W, align=align, search=search)
    optima = other_optima(W, comparison.code) if comparison.code is not None and comparison.alignment else None
    return FileComparison(comparison, everyone, None, optima, nearest)
