"""One classifier out of a checkpoint, whatever its format; nothing in a file is executed."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from softmaxcode.checkpoints.classifier import Classifier, checked_classifier
from softmaxcode.checkpoints.stored import INDEX, bias_of, chosen_tensor, scale_of, zero_point_of
from softmaxcode.storage.disk import check_input

if TYPE_CHECKING:
    from collections.abc import Sequence

    from softmaxcode.checkpoints.stored import StoredTensor
    from softmaxcode.types import Rows

#: The module that lists the tensors of a file, by suffix; imported when it is needed, since PyTorch takes seconds.
READERS = {
    ".safetensors": "safetensors_file",
    ".pt": "torch_file",
    ".pth": "torch_file",
    ".ckpt": "torch_file",
    ".bin": "torch_file",
    ".npy": "numpy_file",
    ".npz": "numpy_file",
    ".onnx": "onnx_file",
}
SUFFIXES = tuple(READERS)


def read_classifier(
    path: str | Path,
    key: str | None = None,
    *,
    transpose: bool | None = None,
    names: Sequence[str] | None = None,
) -> Classifier:
    """Read one classifier, or an embedding, from a checkpoint; nothing in the file is executed.

    Parameters
    ----------
    path : path
        The file. ``.safetensors``, or the ``.safetensors.index.json`` of one in several files. ``.pt``, ``.pth``,
        ``.ckpt`` or ``.bin``: `torch.load` reads it with ``weights_only=True``; it may contain a tensor or nested
        dictionaries of tensors, such as Lightning's ``{"state_dict": ...}``. ``.npy``. ``.npz``, including codes that
        `SoftmaxCode.save` writes. ``.onnx``, which needs the package onnx.
    key : str, optional
        Name of the matrix, with names of dictionaries joined by dots. The last part of a name is enough if it is
        unique, such as ``fc.weight``. Not needed if the file has a single matrix of two rows or more, or an ONNX graph
        whose outputs are the logits of one matrix.
    transpose : bool, optional
        Whether the columns are the classes. By default what the ONNX graph, the bias or the names show, else the rows.
    names : sequence of str, optional
        Names of the classes.

    Returns
    -------
    Classifier
        The matrix with one row per class in float64, its bias where the file has it, and how it was read.

    Raises
    ------
    ValueError
        If the file is missing, damaged or of another kind, or the key does not exist. Also if no key was given and the
        file has several matrices; the message lists them, the likely ones first. Also if the matrix is not finite, or
        there are not K names.

    Examples
    --------
    >>> import tempfile
    >>> import torch
    >>> path = Path(tempfile.mkdtemp()) / "net.pt"
    >>> net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Linear(8, 20))
    >>> torch.save({"epoch": 5, "model": net.state_dict()}, path)
    >>> found = read_classifier(path, "1.weight")
    >>> found.W.shape, found.bias.shape, found.source
    ((20, 8), (20,), 'net.pt, model.1.weight')
    """
    path = Path(path)
    suffix = ".safetensors" if path.name.endswith(INDEX) else path.suffix.lower()
    if suffix not in READERS:
        raise ValueError(f"cannot read {path}: the suffix must be one of {', '.join(SUFFIXES)}")
    check_input(path)
    stored = importlib.import_module(f"softmaxcode.checkpoints.{READERS[suffix]}").tensors(path)
    chosen = chosen_tensor(stored, path, key)
    bias = bias_of(chosen, stored)
    try:
        found = checked_classifier(
            _numbers(chosen, stored, path),
            None if bias is None else bias.read(),
            chosen.name or "the matrix",
            turned=chosen.turned,
            transpose=transpose,
            names=names,
            kind="the ONNX graph",
        )
    except ValueError as error:
        if str(error).startswith("cannot "):
            raise
        raise ValueError(f"cannot use {path}: {error}") from None
    notes = found.notes + ((chosen.note,) if chosen.note else ())
    return replace(found, source=path.name + (f", {chosen.name}" if chosen.name else ""), notes=notes)


def _numbers(chosen: StoredTensor, stored: Sequence[StoredTensor], path: Path) -> Rows:
    """The numbers of a matrix; those of one byte times their scale."""
    W = chosen.read()
    if chosen.kind not in ("i", "f8"):
        return W
    scale, zero = scale_of(chosen, stored), zero_point_of(chosen, stored)
    if scale is None and chosen.kind == "f8":
        return W
    if scale is None:
        raise ValueError(f"cannot use {path}: {chosen.name} has integers, and no scale of theirs is beside them")
    factor = scale.read().astype(np.float64).ravel()
    if scale.name.endswith("SCB"):  # the largest entry of each row, stored as 127
        factor = factor / 127
    offset = np.zeros(1) if zero is None else zero.read().astype(np.float64).ravel()
    return (W.astype(np.float64) - _along(offset, W, zero or chosen, path)) * _along(factor, W, scale, path)


def _along(values: np.ndarray, W: Rows, source: StoredTensor, path: Path) -> np.ndarray:
    """One number, or one per row or column, as it multiplies a matrix."""
    if len(values) in (1, W.shape[-1]) and len(values) != W.shape[0]:
        return values
    if len(values) == W.shape[0]:
        return values[:, None]
    raise ValueError(
        f"cannot use {path}: {source.name} has {len(values)} numbers, neither one nor one per row or column of "
        f"{W.shape}"
    )
