"""Classifiers out of files: which matrix is taken, which way it is turned, and what is refused."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file

import softmaxcode as sc
from softmaxcode.checkpoints import Classifier, classifier_of, read_classifier
from softmaxcode.storage import arrays

W = torch.randn(20, 8, generator=torch.Generator().manual_seed(3))


def same(found: Classifier, matrix: Any) -> bool:
    """Whether exactly this matrix was read."""
    return bool(np.array_equal(found.W, np.asarray(torch.as_tensor(matrix).double())))


def written(folder: Path, suffix: str, tensors: dict[str, torch.Tensor]) -> Path:
    path = folder / f"file{suffix}"
    if suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path)
    return path


# Reading


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth", ".ckpt", ".PT"])
def test_the_only_matrix_is_taken(tmp_path: Path, suffix: str) -> None:
    others = {
        "conv.weight": torch.randn(4, 3, 3, 3),
        "fc.bias": torch.randn(20),
        "counts": torch.ones(5, 5, dtype=torch.int64),
        "row": torch.randn(1, 8),
    }
    path = written(tmp_path, suffix, others | {"fc.weight": W})
    assert same(read_classifier(path), W)
    assert same(read_classifier(path, "fc.weight"), W)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_every_precision_is_read(tmp_path: Path, suffix: str, dtype: torch.dtype) -> None:
    found = read_classifier(written(tmp_path, suffix, {"embeddings": W.to(dtype)}))
    assert found.W.dtype == np.float64 and same(found, W.to(dtype))


def test_tensors_without_their_numbers_are_refused(tmp_path: Path) -> None:
    for tensor, message in (
        (torch.empty(30, 6, device="meta"), "without its numbers"),
        (W.to_sparse(), "not stored in full"),
        (W.to_sparse_csr(), "not stored in full"),
    ):
        with pytest.raises(ValueError, match=rf"cannot read .*file\.pt: fc\.weight is {message}"):
            read_classifier(written(tmp_path, ".pt", {"fc.weight": tensor}))


def test_dictionaries_within_each_other(tmp_path: Path) -> None:
    """As Lightning and training scripts save them: the optimiser's moments also have the classifier's shape."""
    net = torch.nn.Sequential(OrderedDict(features=torch.nn.Conv2d(1, 8, 3), fc=torch.nn.Linear(8, 20)))
    optimizer = torch.optim.AdamW(net.parameters())
    net.fc(torch.randn(2, 8)).sum().backward()
    optimizer.step()
    lightning = {"epoch": 3, "state_dict": net.state_dict(), "optimizer_states": [optimizer.state_dict()], "none": None}
    plain = {"model": {"net": net.state_dict()}, "optimizer": optimizer.state_dict()}
    for stored, name in ((lightning, "state_dict.fc.weight"), (plain, "model.net.fc.weight")):
        path = tmp_path / "net.ckpt"
        torch.save(stored, path)
        for key in (None, name, "fc.weight"):
            found = read_classifier(path, key)
            assert same(found, net.fc.weight.detach())
            assert found.bias is not None and np.array_equal(found.bias, net.fc.bias.detach().double().numpy())


def test_a_bare_tensor_or_parameter(tmp_path: Path) -> None:
    for stored in (W, torch.nn.Parameter(W)):
        torch.save(stored, tmp_path / "W.pt")
        assert same(read_classifier(tmp_path / "W.pt"), W)


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4", ">f8", np.longdouble])
@pytest.mark.parametrize("order", ["C", "F"])
def test_numpy_arrays(tmp_path: Path, dtype: Any, order: Any) -> None:
    array = np.asarray(W.numpy().astype(dtype), order=order)
    np.save(tmp_path / "W.npy", array)
    np.testing.assert_array_equal(read_classifier(tmp_path / "W.npy").W, array.astype(np.float64))


BERT = {
    "encoder.layer.0.attention.self.query.weight": (8, 8),
    "encoder.layer.0.mlp.fc1.weight": (32, 8),
    "embeddings.position_embeddings.weight": (4, 8),
    "embeddings.word_embeddings.weight": (20, 8),
    "cls.bias": (20,),
}


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_candidates_are_listed_the_likely_ones_first(tmp_path: Path, suffix: str) -> None:
    path = written(tmp_path, suffix, {name: torch.randn(shape) for name, shape in BERT.items()})
    with pytest.raises(ValueError, match="a key is needed; its 5 tensors have 4 floating-point matrices") as error:
        read_classifier(path)
    order = [
        "embeddings.word_embeddings.weight (20, 8)",
        "embeddings.position_embeddings.weight (4, 8)",
        "encoder.layer.0.mlp.fc1.weight (32, 8)",
        "encoder.layer.0.attention.self.query.weight (8, 8)",
    ]
    assert str(error.value).endswith(": " + ", ".join(order))
    assert read_classifier(path, "word_embeddings.weight").W.shape == (20, 8)


def test_long_lists_of_candidates_are_cut(tmp_path: Path) -> None:
    path = written(tmp_path, ".pt", {f"layer.{i}.weight": W for i in range(30)} | {"net.head.weight": W})
    with pytest.raises(ValueError, match=r"net\.head\.weight \(20, 8\), .* and 21 more$"):
        read_classifier(path)


def test_keys_that_name_nothing_or_several(tmp_path: Path) -> None:
    path = written(tmp_path, ".pt", {"student.fc.weight": W, "teacher.fc.weight": W, "bias": torch.randn(20)})
    with pytest.raises(ValueError, match=r"the key 'fc\.bias' is that of none; .*student\.fc\.weight \(20, 8\)"):
        read_classifier(path, "fc.bias")
    with pytest.raises(ValueError, match=r"'c\.weight' is that of none"):  # parts of a name are between dots
        read_classifier(path, "c.weight")
    with pytest.raises(ValueError, match=r"the key 'fc\.weight' is that of 2"):
        read_classifier(path, "fc.weight")
    with pytest.raises(ValueError, match=r"bias must be a matrix, one row per class; got shape \(20,\)"):
        read_classifier(path, "bias")
    np.save(tmp_path / "W.npy", W.numpy())
    with pytest.raises(ValueError, match=r"'fc' is that of none; .*: one without a name \(20, 8\)"):
        read_classifier(tmp_path / "W.npy", "fc")


def test_arrays_of_an_archive(tmp_path: Path) -> None:
    """As for a code that the package saves."""
    code = sc.best_known(12, 3)
    code.save(tmp_path / "code.npz")
    np.testing.assert_array_equal(read_classifier(tmp_path / "code.npz").W, code.W)
    np.savez(tmp_path / "two.npz", first=W.numpy(), second=2 * W.numpy(), names=np.array(["a", "b"]))
    assert same(read_classifier(tmp_path / "two.npz", "second"), 2 * W)
    with pytest.raises(ValueError, match=r"its 2 tensors have 2 .*: first \(20, 8\), second \(20, 8\)"):
        read_classifier(tmp_path / "two.npz")
    np.savez(tmp_path / "object.npz", W=np.array([{}, {}]))
    with pytest.raises(ValueError, match="it holds Python objects"):
        read_classifier(tmp_path / "object.npz")


class _Opaque:
    """An object that only unpickling could restore, which may run any code."""


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    def refused(name: str, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            read_classifier(tmp_path / name)

    refused("W.txt", "the suffix must be one of .safetensors, .pt, .pth, .ckpt, .bin, .npy")
    refused("missing.pt", "there is no such file")
    messages = {".safetensors": "not a safetensors file", ".pt": "damaged", ".npy": "not a plain NumPy array"}
    for suffix, message in messages.items():
        (tmp_path / f"garbage{suffix}").write_bytes(b"garbage" * 100)
        refused(f"garbage{suffix}", message)
        (tmp_path / f"empty{suffix}").write_bytes(b"")
        refused(f"empty{suffix}", message)
    for suffix in (".safetensors", ".pt"):
        path = written(tmp_path, suffix, {"fc.weight": W})
        path.write_bytes(path.read_bytes()[:-200])
        refused(path.name, "not a safetensors file|damaged")
    np.save(tmp_path / "W.npy", W.numpy())
    (tmp_path / "W.npy").write_bytes((tmp_path / "W.npy").read_bytes()[:-8])
    refused("W.npy", "or truncated")

    torch.save({"fc.weight": W, "config": _Opaque()}, tmp_path / "opaque.pt")
    refused("opaque.pt", "no code of a file is ever run")
    np.save(tmp_path / "object.npy", np.array([{}, {}]))
    refused("object.npy", "it holds Python objects")
    np.save(tmp_path / "text.npy", np.array([["1", "2"], ["3", "4"]]))
    refused("text.npy", "no floating-point matrix")
    np.save(tmp_path / "integers.npy", np.eye(3, dtype=int))
    refused("integers.npy", r"no floating-point matrix of two rows or more; its 1 tensors have the shapes \(.*\)$")
    torch.save({"epoch": 5}, tmp_path / "nothing.pt")
    refused("nothing.pt", "no floating-point matrix of two rows or more$")
    broken = W.clone()
    broken[7, 1] = torch.nan
    refused(
        written(tmp_path, ".pt", {"fc.weight": broken}).name,
        r"fc.weight must be finite; 1 of its 20 rows have NaN or infinite entries: 7$",
    )


def test_tensors_that_a_file_does_not_hold_in_full(tmp_path: Path) -> None:
    def refused(tensor: torch.Tensor, message: str) -> None:
        torch.save({"fc.weight": tensor}, tmp_path / "W.pt")
        with pytest.raises(ValueError, match=message):
            read_classifier(tmp_path / "W.pt")

    refused(torch.ones(1, 3).expand(10**9, 3), r"fc.weight is of shape \(1000000000, 3\), with fewer numbers than that")
    refused(torch.ones(5, 3, device="meta"), "without its numbers")
    refused(torch.eye(3).to_sparse(), "not stored in full")
    torch.save({"fc.weight": torch._neg_view(W)}, tmp_path / "W.pt")
    assert same(read_classifier(tmp_path / "W.pt"), -W)


@pytest.mark.parametrize("dtype", ["F4", "F8_E8M0", "U128", "F65"])
def test_safetensors_of_types_that_pytorch_lacks(tmp_path: Path, dtype: str) -> None:
    header = json.dumps({"fc.weight": {"dtype": dtype, "shape": [6, 4], "data_offsets": [0, 12]}}).encode()
    (tmp_path / "W.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(12))
    with pytest.raises(ValueError, match=r"cannot (read|use) .*W.safetensors"):
        read_classifier(tmp_path / "W.safetensors")


def test_only_the_matrix_that_is_asked_for_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The declared sizes of an archive are known from its headers."""
    np.savez(tmp_path / "two.npz", W=W.numpy(), other=np.ones(5))
    read, seen = np.lib.format.read_array, []
    monkeypatch.setattr(np.lib.format, "read_array", lambda s, **o: seen.append(s.name) or read(s, **o))
    assert same(read_classifier(tmp_path / "two.npz"), W)
    assert seen == ["W.npy"]


def test_an_archive_that_inflates_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "W.npz", W=np.zeros((10**4, 10)))
    monkeypatch.setattr(arrays, "SMALL_ARCHIVE", 10**4)
    with pytest.raises(ValueError, match=r"cannot read .*W.npz: it declares 800,\d+ bytes, more than the limit of"):
        read_classifier(tmp_path / "W.npz")


# Which axis has the classes


def test_a_bias_shows_which_axis_has_the_classes(tmp_path: Path) -> None:
    turned = {"dense.kernel": W.T.contiguous(), "dense.bias": torch.arange(20.0)}
    found = read_classifier(written(tmp_path, ".safetensors", turned))
    assert same(found, W) and found.bias is not None and found.bias.tolist() == list(range(20))
    assert found.notes == (
        "the matrix is stored 8 x 20; its columns were read as the classes, since the bias has 20 entries",
    )
    straight = read_classifier(written(tmp_path, ".safetensors", {"fc.weight": W, "fc.bias": torch.zeros(20)}))
    assert same(straight, W) and straight.notes == ()


def test_names_show_which_axis_has_the_classes() -> None:
    assert same(classifier_of(W.T, names=[f"class {k}" for k in range(20)]), W)
    with pytest.raises(ValueError, match=r"there must be 20 names, one per class of W; got 3$"):
        classifier_of(W, names=["a", "b", "c"])
    with pytest.raises(ValueError, match=r"got 8; the other axis has 8: pass transpose=True"):
        classifier_of(W, names=list("abcdefgh"), transpose=False)


def test_where_nothing_shows_the_axis_it_is_said() -> None:
    wide = classifier_of(W.T)
    assert wide.K == 8 and "nothing shows which axis has the classes: the 8 rows were read as classes" in wide.notes[0]
    assert same(classifier_of(W.T, transpose=True), W)
    assert classifier_of(W).notes == ()  # more rows than columns, as classifiers here have


@pytest.mark.parametrize(
    ("layer", "bias"),
    [
        (torch.nn.Linear(8, 20), True),
        (torch.nn.Linear(8, 20, bias=False), False),
        (torch.nn.Linear(40, 20), True),
        (torch.nn.Embedding(20, 8), False),
        (torch.nn.Conv2d(8, 20, 1), True),
        (torch.nn.Conv1d(8, 20, 1, bias=False), False),
        (torch.nn.Linear(20, 20), True),
    ],
)
def test_layers(layer: Any, bias: bool) -> None:
    found = classifier_of(layer)
    assert same(found, layer.weight.detach().reshape(20, -1)) and (found.bias is not None) == bias
    assert found.notes == () and found.source == f"{type(layer).__name__} layer"


def test_a_transposed_convolution_has_a_column_per_class() -> None:
    for layer in (torch.nn.ConvTranspose2d(20, 8, 1), torch.nn.ConvTranspose2d(8, 8, 1, bias=False)):
        found = classifier_of(layer)
        assert same(found, layer.weight.detach()[:, :, 0, 0].T) and found.K == 8
    with pytest.raises(ValueError, match="Conv2d has 4 groups of channels, so no class has all features"):
        classifier_of(torch.nn.Conv2d(8, 20, 1, groups=4))


def test_a_bias_that_does_not_fit_is_named() -> None:
    layer = torch.nn.Linear(8, 20)
    found = classifier_of(layer, transpose=True)
    assert found.bias is None and found.notes[-1] == "its bias has 20 entries, not one per class, and was left out"


def test_a_tied_weight_is_listed_under_both_names() -> None:
    net = torch.nn.Sequential(OrderedDict(emb=torch.nn.Embedding(20, 8), head=torch.nn.Linear(8, 20)))
    net.head.weight = net.emb.weight
    with pytest.raises(ValueError, match="the last first: head, emb"):
        classifier_of(net)


def test_a_layer_that_stores_one_column_per_output() -> None:
    """As the Conv1D of transformers does."""

    class Conv1D(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.nf = 20
            self.weight = torch.nn.Parameter(W.T.contiguous())
            self.bias = torch.nn.Parameter(torch.zeros(20))

    found = classifier_of(Conv1D())
    assert same(found, W) and found.notes[0].endswith("as its module shows")


def test_a_network_without_a_matrix_of_its_own_names_its_layers() -> None:
    net = torch.nn.Sequential(OrderedDict(body=torch.nn.Linear(3, 8), head=torch.nn.Linear(8, 20)))
    with pytest.raises(
        ValueError, match=r"Sequential has no weight matrix of its own: pass its last layer; .*: head, body"
    ):
        classifier_of(net)


# Quantised, sharded and pickled files


def quantised(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    scale = matrix.abs().amax(dim=1) / 127
    return (matrix / scale[:, None]).round().to(torch.int8), scale


@pytest.mark.parametrize(("name", "factor"), [("fc.weight_scale", 1), ("fc.weight.scale", 1), ("fc.SCB", 127)])
def test_integers_with_their_scale(tmp_path: Path, name: str, factor: int) -> None:
    integers, scale = quantised(W)
    path = written(tmp_path, ".safetensors", {"fc.weight": integers, name: factor * scale})
    np.testing.assert_allclose(read_classifier(path).W, (integers * scale[:, None]).double(), rtol=1e-6)


def test_one_byte_floats_have_their_scale(tmp_path: Path) -> None:
    scale = torch.linspace(0.1, 10, 8)
    numbers = (W / scale).to(torch.float8_e4m3fn)
    for suffix in (".safetensors", ".pt"):
        path = written(tmp_path, suffix, {"fc.weight": numbers, "fc.weight_scale": scale})
        np.testing.assert_allclose(read_classifier(path).W, (numbers.float() * scale).double(), rtol=1e-6)
    path = written(tmp_path, ".safetensors", {"fc.weight": numbers, "fc.weight_scale_inv": torch.ones(2, 1)})
    with pytest.raises(ValueError, match="has 2 numbers, neither one nor one per row or column"):
        read_classifier(path)  # blocks of 128 x 128, say


def test_integers_without_a_scale_are_no_candidates(tmp_path: Path) -> None:
    integers, _ = quantised(W)
    path = written(tmp_path, ".safetensors", {"fc.weight": integers, "other": W})
    assert same(read_classifier(path), W)
    with pytest.raises(ValueError, match="has integers, and no scale of theirs is beside them"):
        read_classifier(path, "fc.weight")


def test_a_scale_that_does_not_fit(tmp_path: Path) -> None:
    path = written(tmp_path, ".safetensors", {"fc.weight": quantised(W)[0], "fc.weight_scale": torch.ones(5)})
    with pytest.raises(ValueError, match="has 5 numbers, neither one nor one per row or column"):
        read_classifier(path)


def sharded(folder: Path) -> Path:
    save_file({"body.weight": torch.randn(8, 8)}, folder / "model-00001-of-00002.safetensors")
    save_file({"lm_head.weight": W}, folder / "model-00002-of-00002.safetensors")
    files = {"body.weight": "model-00001-of-00002.safetensors", "lm_head.weight": "model-00002-of-00002.safetensors"}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": files}))
    return index


def test_a_checkpoint_in_several_files(tmp_path: Path) -> None:
    assert same(read_classifier(sharded(tmp_path), "lm_head.weight"), W)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not the index of a safetensors checkpoint"),
        ("[]", "not the index of a safetensors checkpoint"),
        ('{"weight_map": {"a": "../secret.safetensors"}}', "an index names files of its own folder"),
    ],
)
def test_an_index_that_cannot_be_used(tmp_path: Path, content: str, message: str) -> None:
    sharded(tmp_path).write_text(content)
    with pytest.raises(ValueError, match=message):
        read_classifier(tmp_path / "model.safetensors.index.json")


def test_a_missing_file_of_several_is_named(tmp_path: Path) -> None:
    index = sharded(tmp_path)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ValueError, match=r"of its 2 files 1 are missing beside it: model-00002-of-00002\.safetensors"):
        read_classifier(index, "lm_head.weight")


def test_a_pickled_module_is_refused_with_what_to_do(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(8, 20), tmp_path / "net.pt")
    with pytest.raises(ValueError, match=r'torch\.save\(model\.state_dict\(\), "weights\.pt"\)'):
        read_classifier(tmp_path / "net.pt")


def test_rows_that_are_not_finite_are_counted(tmp_path: Path) -> None:
    broken = W.clone()
    broken[[3, 7, 9]] = torch.inf
    with pytest.raises(ValueError, match=r"3 of its 20 rows have NaN or infinite entries: 3, 7, 9$"):
        read_classifier(written(tmp_path, ".pt", {"fc.weight": broken}))


# ONNX graphs


def graph(folder: Path, nodes: list[Any], weights: dict[str, np.ndarray], output: str = "out", **options: Any) -> Path:
    made = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 8])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [None, None])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    path = folder / "net.onnx"
    onnx.save(helper.make_model(made), path, **options)
    return path


ROWS = W.numpy()
BIAS = np.arange(20, dtype=np.float32)
BODY = np.eye(8, dtype=np.float32)


@pytest.mark.parametrize("trans", [0, 1])
def test_a_gemm_shows_which_axis_has_the_classes(tmp_path: Path, trans: int) -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "body"], ["h"]),
        helper.make_node("Relu", ["h"], ["a"]),
        helper.make_node("Gemm", ["a", "W", "b"], ["z"], transB=trans),
        helper.make_node("Softmax", ["z"], ["out"]),
    ]
    found = read_classifier(graph(tmp_path, nodes, {"body": BODY, "W": ROWS if trans else ROWS.T, "b": BIAS}))
    assert same(found, W) and found.bias is not None and np.array_equal(found.bias, BIAS)
    assert found.source == "net.onnx, W" and bool(found.notes) == (trans == 0)


def test_a_softmax_that_was_written_out_and_a_bias_that_is_reshaped(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "body"], ["h"]),
        helper.make_node("Relu", ["h"], ["a"]),
        helper.make_node("MatMul", ["a", "W"], ["m"]),
        helper.make_node("Reshape", ["b", "shape"], ["row"]),
        helper.make_node("Add", ["m", "row"], ["z"]),
        helper.make_node("ReduceMax", ["z"], ["top"]),
        helper.make_node("Sub", ["z", "top"], ["s"]),
        helper.make_node("Exp", ["s"], ["e"]),
        helper.make_node("ReduceSum", ["e"], ["total"]),
        helper.make_node("Div", ["e", "total"], ["out"]),
    ]
    weights = {"body": BODY, "W": ROWS.T, "b": BIAS, "shape": np.array([1, 20])}
    found = read_classifier(graph(tmp_path, nodes, weights))
    assert same(found, W) and found.bias is not None and np.array_equal(found.bias, BIAS)


SIGNS = np.where(np.arange(20) % 2, -1, 1).astype(np.float32)
ONE = np.array(2.0, dtype=np.float32)


@pytest.mark.parametrize(
    ("nodes", "weights", "note"),
    [
        ([helper.make_node("Mul", ["m", "s"], ["out"])], {"s": SIGNS}, "Mul with s"),
        ([helper.make_node("Mul", ["m", "s"], ["out"])], {"s": ONE}, ""),
        ([helper.make_node("Mul", ["m", "s"], ["out"])], {"s": -ONE}, "Mul with s"),
        ([helper.make_node("Div", ["m", "s"], ["out"])], {"s": ONE}, ""),
        ([helper.make_node("Div", ["s", "m"], ["out"])], {"s": ONE}, "Div with s"),
        ([helper.make_node("Sub", ["m", "b"], ["out"])], {"b": BIAS}, "Sub with b"),
        (
            [helper.make_node("Add", ["m", "b"], ["z"]), helper.make_node("Add", ["z", "c"], ["out"])],
            {"b": BIAS, "c": BIAS},
            "Add with c",
        ),
    ],
)
def test_what_the_graph_does_after_the_product_is_said(tmp_path: Path, nodes: Any, weights: Any, note: str) -> None:
    product = helper.make_node("MatMul", ["x", "W"], ["m"])
    found = read_classifier(graph(tmp_path, [product, *nodes], {"W": ROWS.T.copy(), **weights}))
    assert same(found, W)
    wanted = f"after its product the graph has {note}, which was not applied to the rows"
    assert (wanted in found.notes) == bool(note) and len(found.notes) == 1 + bool(note)


def test_the_factors_of_a_gemm_are_said(tmp_path: Path) -> None:
    node = helper.make_node("Gemm", ["x", "W", "b"], ["out"], transB=1, alpha=-1.0, beta=2.0)
    found = read_classifier(graph(tmp_path, [node], {"W": ROWS, "b": BIAS}))
    assert found.notes == ("after its product the graph has alpha -1, beta 2, which was not applied to the rows",)


def test_a_square_matrix_of_a_graph_is_turned_all_the_same(tmp_path: Path) -> None:
    square = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
    path = graph(tmp_path, [helper.make_node("MatMul", ["x", "W"], ["out"])], {"W": square})
    assert same(read_classifier(path), square.T)
    nodes = [helper.make_node("Transpose", ["W"], ["t"]), helper.make_node("MatMul", ["x", "t"], ["out"])]
    assert same(read_classifier(graph(tmp_path, nodes, {"W": square})), square)


def test_a_constant_node_and_quantised_weights(tmp_path: Path) -> None:
    constant = helper.make_node("Constant", [], ["W"], value=numpy_helper.from_array(ROWS.T.copy(), "W"))
    product = helper.make_node("MatMul", ["x", "W"], ["out"])
    assert same(read_classifier(graph(tmp_path, [constant, product], {})), W)
    integers, scale = quantised(W)
    nodes = [
        helper.make_node("DequantizeLinear", ["W_quantized", "W_scale", "W_zero_point"], ["W"], axis=1),
        helper.make_node("MatMul", ["x", "W"], ["out"]),
    ]
    shifted = (integers.numpy().T.astype(np.int16) + 128).astype(np.uint8)
    weights = {"W_quantized": shifted, "W_scale": scale.numpy(), "W_zero_point": np.full(20, 128, dtype=np.uint8)}
    found = read_classifier(graph(tmp_path, nodes, weights))
    np.testing.assert_allclose(found.W, (integers * scale[:, None]).double(), rtol=1e-6, atol=1e-9)


def test_external_data_is_read_and_missed(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "W"], ["out"])]
    options = {"save_as_external_data": True, "location": "net.data", "size_threshold": 0}
    path = graph(tmp_path, nodes, {"W": ROWS.T.copy()}, **options)
    assert same(read_classifier(path), W)
    (tmp_path / "net.data").unlink()
    with pytest.raises(ValueError, match="the numbers of W are missing"):
        read_classifier(path)


def test_graphs_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = graph(tmp_path, [helper.make_node("Relu", ["x"], ["out"])], {})
    with pytest.raises(ValueError, match="its graph has no initialisers"):
        read_classifier(path)
    path.write_bytes(b"garbage" * 50)
    with pytest.raises(ValueError, match="not an ONNX graph, or truncated"):
        read_classifier(path)
    monkeypatch.setattr("softmaxcode.checkpoints.onnx_file.MAX_BYTES", 100)
    with pytest.raises(ValueError, match=r"has 350 bytes, more than a \.onnx file may have"):
        read_classifier(path)


def test_two_heads_of_a_graph_need_a_key(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "V"], ["v"]),
        helper.make_node("MatMul", ["x", "W"], ["w"]),
        helper.make_node("Add", ["v", "w"], ["out"]),
    ]
    path = graph(tmp_path, nodes, {"V": ROWS.T.copy(), "W": ROWS.T.copy()})
    with pytest.raises(ValueError, match=r"a key is needed; .*V \(8, 20\), W \(8, 20\)"):
        read_classifier(path)
    assert same(read_classifier(path, "W"), W)
