"""Matrices of an ONNX graph: its initialisers, which axis has the classes, and which of them make the logits."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from softmaxcode.checkpoints.stored import StoredTensor
from softmaxcode.checks.arguments import printable

if TYPE_CHECKING:
    from collections.abc import Callable
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
#: Nodes after a product that may change the order of logits, and nodes that never do.
CHANGING = {"Add", "Sub", "Mul", "Div"}
UNCHANGING = {"Identity", "Cast", "Squeeze", "Unsqueeze", "Reshape", "Flatten"}
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

    def positive(name: str) -> bool:
        return math.prod(weights[name].dims) == 1 and float(_as_plain(read, name).reshape(-1)[0]) > 0

    uses = _uses(graph, weights, positive)
    types = onnx.TensorProto
    kinds = dict.fromkeys((types.FLOAT, types.FLOAT16, types.BFLOAT16, types.DOUBLE), "f")
    kinds |= dict.fromkeys((types.INT8, types.UINT8), "i")
    found = []
    for name, tensor in weights.items():
        kind = kinds.get(tensor.data_type, "other")
        use = uses.get(name, Use(None, None, False, ""))
        numbers = functools.partial(_as_plain, read, name)
        found.append(StoredTensor(name, tuple(tensor.dims), kind, numbers, use.turned, use.bias, use.logits, use.note))
    return found


def _as_plain(read: Any, name: str) -> np.ndarray:
    """The numbers in a type of NumPy's own; bfloat16 is not one."""
    array = read(name)
    return array if array.dtype.kind in "fiub" and array.dtype.isnative else array.astype(np.float32)


class Use(NamedTuple):
    """How a graph uses a weight: see `StoredTensor`."""

    turned: bool | None
    bias: str | None
    logits: bool
    note: str


def _uses(graph: Any, weights: dict[str, Any], positive: Callable[[str], bool]) -> dict[str, Use]:
    """For each weight of a product: whether its columns are the outputs, its bias, and whether it makes the logits.

    ``positive`` is true of an initialiser of one positive number, which does not change the order of logits.
    """
    makers = {output: node for node in graph.node for output in node.output}
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    near = _near_the_outputs(graph, makers)
    found = {}
    for node in graph.node:
        if node.op_type not in ("MatMul", "Gemm", "MatMulInteger") or len(node.input) < 2:
            continue
        weight = _weight_behind(node.input[1], makers, weights, BEFORE_PRODUCT)
        if weight is None:
            continue
        settings = {one.name: one.f or one.i for one in node.attribute}
        turned = node.op_type != "Gemm" or not settings.get("transB")
        bias = node.input[2] if node.op_type == "Gemm" and len(node.input) > 2 and node.input[2] in weights else None
        ignored = [f"{name} {settings[name]:g}" for name in ("alpha", "beta") if settings.get(name, 1) != 1]
        value = node.output[0]
        while len(after := readers.get(value, [])) == 1 and after[0].op_type in CHANGING | UNCHANGING:
            step = after[0]
            behind = (_weight_behind(name, makers, weights, BEFORE_SUM) for name in step.input)
            constant = next((name for name in behind if name is not None), None)
            if step.op_type in CHANGING and constant is None:
                break  # two values meet
            if step.op_type == "Add" and bias is None:
                bias = constant
            elif step.op_type in CHANGING and not _keeps_order(step, value, constant, positive):
                ignored.append(f"{step.op_type} with {printable(constant)}")
            value = step.output[0]
        note = ""
        if ignored:
            note = f"after its product the graph has {', '.join(ignored)}, which was not applied to the rows"
        exchanged = _turned_between(node.input[1], makers)
        found[weight] = Use(turned != exchanged, bias, node.output[0] in near, note)
    return found


def _keeps_order(node: Any, value: str, constant: str | None, positive: Callable[[str], bool]) -> bool:
    """Whether an operation with a constant keeps the order of logits: a product with one positive number does."""
    if constant is None or node.op_type not in ("Mul", "Div") or not positive(constant):
        return False
    return node.op_type == "Mul" or node.input[0] == value


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
