"""Tensors of a file that `torch.save` wrote, read with ``weights_only=True``."""

from __future__ import annotations

import functools
import pickle
import zipfile
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from softmaxcode.checkpoints.stored import StoredTensor
from softmaxcode.storage.disk import check_archive

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np


def tensors(path: Path) -> list[StoredTensor]:
    """The tensors in nested dictionaries of one file."""
    size = path.stat().st_size
    try:
        if zipfile.is_zipfile(path):
            check_archive(path, size, stored=True)
        stored = torch.load(path, map_location="cpu", weights_only=True)
        found = list(_tensors(stored))
        if any(t.layout == torch.strided and not t.is_meta and t.untyped_storage().nbytes() > size for _, t in found):
            raise ValueError("a tensor is larger than the file")
    except pickle.UnpicklingError as error:
        # the message of PyTorch names the class that it would have to import
        if "Unsupported global" in str(error) or "Unsupported class" in str(error):
            raise ValueError(
                f"cannot read {path}: it holds more than tensors and JSON values, and no code of a file is ever run; "
                "where you trust it, export its weights alone: model = torch.load(FILE, weights_only=False); "
                'torch.save(model.state_dict(), "weights.pt")'
            ) from None
        raise _damaged(path) from None
    except Exception:  # a damaged archive or pickle may raise anything
        raise _damaged(path) from None
    return [
        StoredTensor(name, tuple(tensor.shape), _kind(tensor), functools.partial(numbers, tensor, name, path))
        for name, tensor in found
    ]


def numbers(tensor: Tensor, name: str, path: Path) -> np.ndarray:
    """A tensor of a file as an array, floating point in float32 or float64.

    Raises
    ------
    ValueError
        If the file does not store every number of it, or PyTorch cannot compute with it.
    """
    if tensor.is_meta:
        what = "without its numbers (on PyTorch's meta device)"
    elif tensor.layout != torch.strided:
        what = "not stored in full (sparse, say)"
    elif tensor.is_quantized:
        what = "quantised"
    elif (
        tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size()
    ):  # strides of 0 may declare any size
        what = f"of shape {tuple(tensor.shape)}, with fewer numbers than that"
    else:
        try:
            tensor = tensor.resolve_neg()
            if tensor.is_floating_point() and tensor.element_size() < 4:
                tensor = tensor.float()
            array: np.ndarray = tensor.numpy()
        except (RuntimeError, TypeError):
            raise ValueError(f"cannot read {path}: PyTorch cannot compute with its {tensor.dtype}") from None
        return array
    raise ValueError(f"cannot read {path}: {name or 'the matrix'} is {what}")


def _damaged(path: Path) -> ValueError:
    return ValueError(
        f"cannot read {path}: damaged, or it holds more than tensors and JSON values, and no code of a file is ever "
        "run (save the state_dict alone)"
    )


def _kind(tensor: Tensor) -> str:
    if tensor.is_floating_point():
        return "f8" if tensor.element_size() == 1 else "f"
    return "other" if tensor.is_complex() or tensor.dtype == torch.bool else "i"


def _tensors(stored: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Tensors in nested dictionaries; those of an optimiser's state are behind lists and numbers, and are skipped."""
    if isinstance(stored, Tensor):
        yield name, stored.detach()
    elif isinstance(stored, dict):
        for key, value in stored.items():
            if isinstance(key, str):
                yield from _tensors(value, f"{name}.{key}" if name else key)
