"""Validation of tensors where they enter: features, labels and classifiers are checked here once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from softmaxcode.checks.arguments import check_memory, shown

if TYPE_CHECKING:
    import numpy as np

#: The most classes that a message lists; the others are only counted.
MAX_NAMED = 10
#: Floating-point types that support computation; narrower formats only store numbers.
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
#: Class means whose mean squared distance from their mean is below this have collapsed to a point. It is near 1 for
#: the vectors of a code. At this value they are 0.02 apart, and training seldom recovers from it.
COLLAPSED = 5e-4


def listed(classes: Tensor) -> str:
    """The first classes of a one-dimensional tensor, as text for a message."""
    names = ", ".join(map(str, classes[:MAX_NAMED].tolist()))
    return names + (", ..." if len(classes) > MAX_NAMED else "")


def check_dense(tensor: Any, name: str, shape: str | None = None) -> Tensor:
    """Check that an object is a tensor whose numbers are all stored in this process, and return it.

    Parameters
    ----------
    tensor : Tensor
        The object to check: labels, features or a classifier.
    name : str
        The name of the tensor in an error message.
    shape : str, optional
        The required shape, for the message.

    Raises
    ------
    ValueError
        For anything but a tensor. Also for a tensor that is distributed, sparse, nested, quantised, masked, a
        placeholder without numbers, or inside a transform of `torch.func`.
    """
    of_shape = "" if shape is None else f" of shape {shape}"
    if not isinstance(tensor, Tensor):
        raise ValueError(f"{name} must be a tensor{of_shape}; got {type(tensor).__name__}")
    if torch.compiler.is_compiling():  # a traced tensor is a placeholder by design
        return tensor
    if is_distributed(tensor):
        what = f"a DTensor: pass the rows of this process, {name}.to_local()"
    elif torch.nn.parameter.is_lazy(tensor):
        what = "a parameter without a shape: run its module once first"
    elif tensor.is_nested or tensor.layout != torch.strided:
        what = f"a {'nested' if tensor.is_nested else tensor.layout} one: pass an ordinary matrix, as of to_dense()"
    elif tensor.is_quantized:
        what = f"a quantised one ({tensor.dtype}): pass {name}.dequantize()"
    elif tensor.device.type == "meta":
        what = "one on the meta device, which has no numbers: call module.to_empty(device=...) and load them first"
    elif torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        what = "one inside torch.func, where values cannot be checked: use torch.autograd.grad, and loops for vmap"
    elif _is_foreign(tensor):
        what = f"a {type(tensor).__name__}: convert it first"
    else:
        return tensor
    raise ValueError(f"{name} must be a plain tensor{of_shape}; got {what}")


def _is_foreign(tensor: Tensor) -> bool:
    """Whether the tensor is of a subclass with its own arithmetic, such as a masked or fake tensor, not a parameter.

    The result of an unfinished collective is one too, but every operation waits for it.
    """
    own = type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__
    return own and not hasattr(tensor, "trigger_wait")


def is_distributed(tensor: Any) -> bool:
    """Whether it is a DTensor, of which each process stores a part; a parameter of `fully_shard` is one."""
    return isinstance(tensor, Tensor) and hasattr(tensor, "full_tensor")


def gathered(tensor: Any, name: str) -> Any:
    """The whole of a DTensor, on every process; any other object unchanged.

    This is a collective: every process with a part has to call it, in the same order.

    Raises
    ------
    ValueError
        If a gradient is required: the samples that it would belong to are unknown here.
    """
    if not is_distributed(tensor):
        return tensor
    if tensor.requires_grad and torch.is_grad_enabled():
        raise ValueError(
            f"{name} is a DTensor, whose gradient is not known to be of the same samples on every process: call the "
            f"module that fully_shard wraps, which gathers it, or work under torch.no_grad(), or pass "
            f"{name}.full_tensor(grad_placements=...)"
        )
    return tensor.full_tensor()


def copy_rows(target: Tensor, rows: Tensor) -> None:
    """Write rows into a tensor; for a DTensor this is a collective, and each process gets its part of rank 0's rows."""
    if is_distributed(target):
        from torch.distributed.tensor import distribute_tensor

        rows = distribute_tensor(rows.to(target.device, target.dtype), target.device_mesh, target.placements)  # type: ignore[attr-defined]
    target.copy_(rows)


@torch.no_grad()
def to_numpy(tensor: Any, name: str) -> np.ndarray:
    """A tensor of any device, precision and gradient as an array; floating point becomes float64.

    A DTensor is gathered, so every process has to call this.

    Raises
    ------
    ValueError
        If `check_dense` refuses it, or its dtype only stores bits.
    """
    tensor = check_dense(gathered(tensor, name), name).detach()
    # a view with strides of 0 may declare any size
    check_memory(f"{name} of shape {tuple(tensor.shape)}", 24 * tensor.numel(), "pass fewer rows")
    tensor = getattr(tensor, "trigger_wait", lambda: tensor)().cpu().resolve_conj().resolve_neg()
    try:
        array: np.ndarray = (tensor.double() if tensor.is_floating_point() else tensor).numpy()
    except (RuntimeError, TypeError):
        raise ValueError(f"{name} must be a tensor of real numbers; got {tensor.dtype}") from None
    return array


def check_features(features: Any, d: int | None = None, *, name: str = "features") -> Tensor:
    """Check a batch of features, shape (N, d), and return it.

    Parameters
    ----------
    features : Tensor, shape (N, d)
        Floating point, N >= 1, finite.
    d : int, optional
        The required number of columns.
    name : str
        The name of the tensor in an error message.

    Raises
    ------
    ValueError
        If it is not such a tensor. While `torch.compile` traces, only properties that do not depend on values are
        checked.
    """
    check_dense(features, name, f"(N, {'d' if d is None else d})")
    if features.ndim != 2 or (d is not None and features.shape[1] != d):
        raise ValueError(f"{name} must have shape (N, {'d' if d is None else d}); got {tuple(features.shape)}")
    if features.shape[0] == 0:
        raise ValueError(f"{name} must have at least one row; got an empty batch of shape {tuple(features.shape)}")
    if features.dtype not in FLOATS:
        width = " of 16 bits or more" if features.is_floating_point() else ""
        raise ValueError(f"{name} must be floating point{width}; got {features.dtype}")
    if not torch.compiler.is_compiling():
        check_finite(features, name=name)
    return features


def check_finite(features: Tensor, *, name: str = "features") -> None:
    """Raise a ValueError that names the first row with a NaN or infinite entry."""
    # one number to wait for: a sum is finite unless an entry is not, or it overflows
    if not math.isfinite(float(features.detach().sum())):
        bad = ~torch.isfinite(features.detach()).all(dim=1)
        if bad.any():
            row = int(torch.nonzero(bad)[0])
            raise ValueError(f"{name} must be finite; row {row} has a NaN or infinite entry ({int(bad.sum())} rows do)")


def check_labels(labels: Any, K: int, N: int | None = None) -> Tensor:
    """Check class labels, shape (N,), integers from 0 to K - 1, and return them.

    Raises
    ------
    ValueError
        If they are not valid. While `torch.compile` traces, only properties that do not depend on values are checked.
    """
    check_dense(labels, "labels", "(N,)")
    if labels.ndim != 1 or (N is not None and len(labels) != N):
        wanted = "(N,)" if N is None else f"({N},), one for each row of features"
        raise ValueError(f"labels must have shape {wanted}; got {tuple(labels.shape)}")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"labels must be integers; got {labels.dtype}")
    if not torch.compiler.is_compiling():
        check_label_range(labels, K)
    return labels


def check_label_range(labels: Tensor, K: int) -> None:
    """Raise a ValueError that names the first label outside 0 .. K - 1."""
    if not len(labels):
        return
    low, high = torch.stack(torch.aminmax(labels.long())).tolist()
    if low < 0 or high >= K:
        row = int(torch.nonzero((labels.long() < 0) | (labels.long() >= K))[0])
        raise ValueError(f"labels must be from 0 to {K - 1} (K = {K} classes); row {row} has label {int(labels[row])}")


def check_classifier(W: Any, K: int | None = None, d: int | None = None, *, name: str = "W") -> Tensor:
    """Check a classifier, shape (K, d) with K >= 2, and return it; a DTensor is gathered.

    Raises
    ------
    ValueError
        If it is not a finite floating-point tensor of that shape, or a DTensor that needs a gradient (see `gathered`).
    """
    wanted = f"({'K' if K is None else K}, {'d' if d is None else d})"
    W = check_dense(gathered(W, name), name, wanted)
    if W.ndim != 2 or (K is not None and W.shape[0] != K) or (d is not None and W.shape[1] != d):
        raise ValueError(f"{name} must have shape {wanted}; got {tuple(W.shape)}")
    if W.shape[0] < 2:
        raise ValueError(f"{name} must have at least two rows, one per class; got shape {tuple(W.shape)}")
    return check_features(W, name=name)


def check_alike(first: Tensor, second: Tensor, names: tuple[str, str], *, dtype: bool = True) -> None:
    """Raise a ValueError unless both tensors are on one device and (with ``dtype``) of one dtype."""
    if first.device != second.device:
        raise ValueError(f"{names[0]} and {names[1]} must be on one device; got {first.device} and {second.device}")
    if dtype and first.dtype != second.dtype:
        raise ValueError(
            f"{names[0]} and {names[1]} must have one dtype; got {first.dtype} and {second.dtype} "
            f"(pass {names[0]}.to({second.dtype}), or use torch.autocast, which casts them)"
        )


def under_autocast(features: Tensor, weight: Tensor) -> Tensor:
    """The features in the classifier's dtype if `torch.autocast` is on; otherwise unchanged.

    Logits are divided by a small temperature, so they need the classifier's full precision.
    """
    if torch.is_autocast_enabled(features.device.type):
        return features.to(weight.dtype)
    return features


def _rows_and_norms(X: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of unit norm and their original norms, 1 for a row of zeros."""
    largest = X.detach().abs().amax(dim=-1, keepdim=True)  # so that no square overflows or underflows
    largest = torch.where(largest > 0, largest, 1.0)
    scaled = X / largest
    norms = torch.linalg.vector_norm(scaled, dim=-1, keepdim=True)
    norms = torch.where(norms > 0, norms, 1.0)
    return scaled / norms, norms * largest


class _UnitRows(torch.autograd.Function):
    """Rows over their norms; the backward pass stores only the input, where composed operations store copies."""

    @staticmethod
    def forward(ctx: Any, X: Tensor) -> Tensor:
        ctx.save_for_backward(X)
        return _rows_and_norms(X)[0]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        Y, norms = _rows_and_norms(*ctx.saved_tensors)
        return (grad - (grad * Y).sum(dim=-1, keepdim=True) * Y) / norms


def unit_rows(X: Tensor) -> Tensor:
    """Scale every row to unit norm, differentiably; a row of zeros stays zero (its cosine with everything is 0)."""
    Y: Tensor = _UnitRows.apply(X)
    return Y


def spread(rows: Tensor) -> Tensor:
    """Mean squared distance of rows from their mean; for unit rows it is 0 if all are equal, and at most 1."""
    return (rows - rows.mean(0)).square().sum(1).mean()


def check_device(device: str | torch.device) -> torch.device:
    """Return ``device`` ("cpu", "cuda" or "cuda:1") as a `torch.device` that this machine has.

    Raises
    ------
    ValueError
        If the name is invalid, or there is no such CUDA device.
    """
    try:
        checked = torch.device(device)
    except (RuntimeError, TypeError, ValueError, OverflowError):
        checked = None
    if (
        checked is None
        or checked.type not in ("cpu", "cuda")
        or (checked.type == "cpu" and checked.index not in (None, 0))
    ):
        raise ValueError(f'device must be "cpu", "cuda" or "cuda:<number>"; got {shown(device)}')
    if checked.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count == 0:
            raise ValueError(f"device {str(device)!r} is not there: PyTorch finds no CUDA device on this machine")
        if checked.index is not None and checked.index >= count:
            raise ValueError(f"device {str(device)!r} is not there: PyTorch finds CUDA devices 0 to {count - 1}")
    return checked
