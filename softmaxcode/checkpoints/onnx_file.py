"""Matrices of an ONNX graph: its initialisers, which axis has the classes, and which of them make the logits."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from softmaxcode.checkpoints.stored import StoredTensor
from softmaxcode.checks.arguments import printable

if TYPE_CHECKING:
    from pathlib import Path

#: The largest file; protocol buffers cannot be larger.
MAX_BYTES = 2 * 10**9
#: Nodes that keep the order of logits, or only reshape them.
HARMLESS = {
    *("Softmax", "LogSoftmax", "Sigmoid", "Exp", "Log", "ArgMax", "TopK", "Clip"),
    *("Add", "Sub", "Mul", "Div", "Max", "Min", "ReduceMax", "ReduceSum"),  # a softmax that was written out
    *("Identity", "Cast", "Squeeze", "Unsqueeze", "Reshape", "Flatten", "Expand", "Transpose"),
    *("DequantizeLinear", "QuantizeLinear"),
}
#: Nodes between an initialiser and the product that uses it, and more between a bias and its sum.
BEFORE_PRODUCT = {"DequantizeLinear", "Identity", "Cast", "Transpose"}
BEFORE_SUM = BEFORE_PRODUCT | {"Reshape", "Squeeze", "Unsqueeze"}
#: The number of nodes that a search for the logits passes.
MAX_NODES = 10_000


def tensors(path: Path) -> list[StoredTensor]:
    """The initialisers and constants of one graph.

    Raises
    ------
    ValueError
        If the package onnx is missing, or the file is damaged, too large, or without initialisers.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError:
        raise ValueError(f"cannot read {path}: reading .onnx needs the package onnx (pip install onnx)") from None
    size = path.stat().st_size
    if size >= MAX_BYTES:
        raise ValueError(
            f"cannot read {path}: it has {size:,} bytes, more than a .onnx file may have ({MAX_BYTES:,}); save its "
            "weights in a file of their own (external data)"
        )
    try:
        graph = onnx.load(path, load_external_data=False).graph
        weights = {one.name: one for one in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant":
                for attribute in node.attribute:
                    if attribute.name == "value":
                        weights[node.output[0]] = attribute.t
    except Exception as error:  # google.protobuf's errors have no common class
        raise ValueError(f"cannot read {path}: not an ONNX graph, or truncated ({printable(error)})") from None
    if not weights:
        raise ValueError(f"cannot read {path}: its graph has no initialisers, so it holds no weights")

    def read(name: str) -> np.ndarray:
        try:
            return np.array(numpy_helper.to_array(weights[name], base_dir=str(path.parent)))
        except Exception as error:  # data outside the file that is missing, or bytes that do not fit the shape
            raise ValueError(f"cannot read {path}: the numbers of {printable(name)} are missing ({error})") from None

    uses = _uses(graph, weights)
    types = onnx.TensorProto
    kinds = dict.fromkeys((types.FLOAT, types.FLOAT16, types.BFLOAT16, types.DOUBLE), "f")
    kinds |= dict.fromkeys((types.INT8, types.UINT8), "i")
    found = []
    for name, tensor in weights.items():
        kind = kinds.get(tensor.data_type, "other")
        turned, bias, logits = uses.get(name, (None, None, False))
        found.append(
            StoredTensor(name, tuple(tensor.dims), kind, functools.partial(_as_plain, read, name), turned, bias, logits)
        )
    return found


def _as_plain(read: Any, name: str) -> np.ndarray:
    """The numbers in a type of NumPy's own; bfloat16 is not one."""
    array = read(name)
    return array if array.dtype.kind in "fiub" and array.dtype.isnative else array.astype(np.float32)


def _uses(graph: Any, weights: dict[str, Any]) -> dict[str, tuple[bool, str | None, bool]]:
    """For each weight of a product: whether its columns are the outputs, its bias, and whether it makes the logits."""
    makers = {output: node for node in graph.node for output in node.output}
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    near = _near_the_outputs(graph, makers)
    found: dict[str, tuple[bool, str | None, bool]] = {}
    for node in graph.node:
        if node.op_type not in ("MatMul", "Gemm", "MatMulInteger") or len(node.input) < 2:
            continue
        weight = _weight_behind(node.input[1], makers, weights, BEFORE_PRODUCT)
        if weight is None:
            continue
        turned = node.op_type != "Gemm" or not any(one.name == "transB" and one.i for one in node.attribute)
        bias = node.input[2] if node.op_type == "Gemm" and len(node.input) > 2 and node.input[2] in weights else None
        for after in readers.get(node.output[0], ()):
            if bias is None and after.op_type == "Add":
                behind = (_weight_behind(name, makers, weights, BEFORE_SUM) for name in after.input)
                bias = next((name for name in behind if name is not None), None)
        found[weight] = (turned != _turned_between(node.input[1], makers), bias, node.output[0] in near)
    return found


def _weight_behind(name: str, makers: dict[str, Any], weights: dict[str, Any], between: set[str]) -> str | None:
    """The initialiser that an input is, perhaps after a change of type, scale or axes."""
    for _ in range(8):
        if name in weights:
            return name
        node = makers.get(name)
        if node is None or node.op_type not in between:
            return None
        name = node.input[0]
    return None


def _turned_between(name: str, makers: dict[str, Any]) -> bool:
    """Whether the axes are exchanged an odd number of times between the initialiser and the product."""
    turned = False
    for _ in range(8):
        node = makers.get(name)
        if node is None or not node.input:
            break
        turned ^= node.op_type == "Transpose"
        name = node.input[0]
    return turned


def _near_the_outputs(graph: Any, makers: dict[str, Any]) -> set[str]:
    """The values from which an output follows without another product of matrices."""
    near: set[str] = set()
    todo = [output.name for output in graph.output]
    while todo and len(near) < MAX_NODES:
        name = todo.pop()
        if name in near:
            continue
        near.add(name)
        node = makers.get(name)
        if node is not None and node.op_type in HARMLESS:
            todo.extend(node.input)
    return near
