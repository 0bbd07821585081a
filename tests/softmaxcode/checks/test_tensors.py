"""Validation of tensors: unit rows of any size, and messages that show the input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

import softmaxcode as sc
from softmaxcode.assignment import similarity_from_means
from softmaxcode.checks import arguments as checks
from softmaxcode.checks import tensors
from softmaxcode.checks.tensors import unit_rows
from softmaxcode.compare import compare
from softmaxcode.metrics import GNC1, GNC2, GeneralizedNeuralCollapse, NearestClassMeanAccuracy
from softmaxcode.nn import CMFClassifier, CodeClassifier, SphericalClassifier
from softmaxcode.nn.functional import hardmax_loss, spherical_cross_entropy


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_of_every_size_become_unit(dtype):
    rows = torch.randn(6, 5, generator=torch.Generator().manual_seed(0), dtype=dtype)
    limits = torch.finfo(dtype)
    sizes = torch.tensor([1, limits.tiny, limits.max / 10, 1e-20, 1e20, 3], dtype=dtype)
    found = unit_rows(rows * sizes[:, None])
    expected = torch.nn.functional.normalize(rows.double())
    assert torch.linalg.vector_norm(found.double(), dim=1).numpy() == pytest.approx(np.ones(6), abs=4 * limits.eps)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-6 if dtype is torch.float32 else 1e-14)


def test_gradients_are_those_of_the_quotient():
    X = torch.randn(4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(unit_rows, X)
    assert torch.autograd.gradgradcheck(unit_rows, X)


def test_a_row_of_zeros_stays_one_and_its_gradient_is_finite():
    X = torch.tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    Y = unit_rows(X)
    assert torch.equal(Y.detach(), torch.tensor([[0.0, 0.0], [0.6, 0.8]]))
    Y.sum().backward()
    assert torch.isfinite(X.grad).all()


def test_the_rows_given_are_left_as_they_are():
    X = torch.tensor([[3.0, 4.0]])
    unit_rows(X)
    assert torch.equal(X, torch.tensor([[3.0, 4.0]]))


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda: checks.check_temperature(True), "temperature must be a finite number above 0; got True"),
        (lambda: checks.check_temperature(float("nan")), "got nan"),
        (lambda: tensors.check_features(np.zeros((2, 3))), "features must be a tensor .* got ndarray"),
        (lambda: tensors.check_features(torch.zeros(2, 3), 4), r"shape \(N, 4\); got \(2, 3\)"),
        (lambda: tensors.check_features(torch.zeros(0, 3)), "empty batch"),
        (lambda: tensors.check_features(torch.zeros(2, 3, dtype=torch.int64)), "floating point; got torch.int64"),
        (lambda: tensors.check_features(torch.tensor([[1.0], [torch.nan]])), "row 1 has a NaN"),
        (lambda: tensors.check_labels([0, 1], 2), "labels must be a tensor .* got list"),
        (lambda: tensors.check_labels(torch.zeros(2), 2), "labels must be integers; got torch.float32"),
        (lambda: tensors.check_labels(torch.zeros(2, 2, dtype=torch.int64), 2), r"got \(2, 2\)"),
        (lambda: tensors.check_labels(torch.tensor([0, 1, 5]), 5), "row 2 has label 5"),
        (lambda: tensors.check_labels(torch.tensor([0, -1]), 5), "row 1 has label -1"),
        (lambda: tensors.check_classifier(torch.zeros(1, 3)), "at least two rows"),
        (lambda: tensors.check_alike(torch.zeros(1), torch.zeros(1).double(), ("a", "b")), "one dtype"),
        (lambda: tensors.check_alike(torch.zeros(1), torch.zeros(1, device="meta"), ("a", "b")), "cpu and meta"),
    ],
)
def test_what_is_refused(check, message):
    with pytest.raises(ValueError, match=message):
        check()


W = torch.nn.functional.normalize(torch.randn(4, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64))

NOT_PLAIN = {
    "meta": (lambda: W.to("meta"), "on the meta device, which has no numbers"),
    "sparse": (W.to_sparse, "torch.sparse_coo one: pass an ordinary matrix"),
    "compressed": (W.to_sparse_csr, "torch.sparse_csr one: pass an ordinary matrix"),
    "nested": (lambda: torch.nested.nested_tensor([W[0], W[1]]), "a nested one"),
    "jagged": (lambda: torch.nested.nested_tensor([W[0], W[1]], layout=torch.jagged), "a nested one"),
    "quantised": (lambda: torch.quantize_per_tensor(W.float(), 0.01, 0, torch.qint8), "quantised one .*dequantize()"),
    "masked": (lambda: torch.masked.masked_tensor(W, W > 0), "a MaskedTensor: convert it first"),
    "fake": (lambda: FakeTensorMode().from_tensor(W), "a FakeTensor: convert it first"),
    "uninitialised": (torch.nn.UninitializedParameter, "a parameter without a shape"),
}


@pytest.mark.filterwarnings("ignore")  # PyTorch calls several of these prototypes
@pytest.mark.parametrize("kind", NOT_PLAIN)
def test_tensors_without_plain_numbers_are_refused_in_one_sentence_everywhere(kind):
    make, message = NOT_PLAIN[kind]
    X, labels = make(), torch.arange(4)
    for enter in (
        lambda: sc.margin(X, normalize=True),
        lambda: sc.SoftmaxCode.from_rows(X),
        lambda: compare(X),
        lambda: similarity_from_means(X),
        lambda: CodeClassifier(W, 0.1, X),
        lambda: SphericalClassifier(4, 3, 0.1).set_weight(X),
        lambda: SphericalClassifier(4, 3, 0.1)(X),
        lambda: spherical_cross_entropy(W, X, labels, 0.1),
        lambda: hardmax_loss(X, W, labels),
        lambda: spherical_cross_entropy(W, W, X, 0.1),
        lambda: GNC1(4, 3).update(X, labels),
        lambda: GNC2(4, 3).set_classifier(X),
        lambda: NearestClassMeanAccuracy(4, 3).set_class_means(X),
    ):
        with pytest.raises(ValueError, match=f"must be a plain tensor.*; got .*{message}"):
            enter()


def test_transforms_of_functions_are_refused():
    for transformed in (torch.func.grad, torch.vmap):
        with pytest.raises(ValueError, match=r"got one inside torch\.func"):
            transformed(lambda w: spherical_cross_entropy(W, w, torch.arange(4), 0.1))(torch.stack([W, W]))
    with pytest.raises(ValueError, match=r"got one inside torch\.func"):
        torch.vmap(lambda w: sc.margin(w).margin)(torch.stack([W, W]))


def test_every_tensor_with_numbers_has_its_margin():
    wanted = sc.margin(W.numpy()).margin
    pairs = torch.view_as_complex(torch.stack([W, -W], dim=-1))
    exact = (W.clone().requires_grad_(), 1 * W.clone().requires_grad_(), torch.nn.Parameter(W), pairs.conj().imag)
    for same in (*exact, W.as_subclass(type("Mine", (torch.Tensor,), {})), W.T.contiguous().T):
        assert sc.margin(same).margin == wanted
        similarity_from_means(same)
    for dtype in (torch.float16, torch.bfloat16, torch.float8_e4m3fn):
        rounded = W.to(dtype)
        assert sc.margin(rounded, normalize=True).margin == sc.margin(rounded.double(), normalize=True).margin
        similarity_from_means(rounded)
    assert sc.margin(torch.eye(3, dtype=torch.int8)).margin == sc.margin(np.eye(3)).margin


def test_narrow_and_complex_numbers_are_refused():
    with pytest.raises(ValueError, match=r"W must be an array of real numbers.*got complex128"):
        sc.margin(torch.complex(W, W), normalize=True)
    with pytest.raises(ValueError, match="means must be a matrix of real numbers"):
        similarity_from_means(torch.complex(W, W))
    with pytest.raises(ValueError, match="features must be floating point of 16 bits or more"):
        tensors.check_features(W.to(torch.float8_e5m2))
    with pytest.raises(ValueError, match=r"assignment must be a permutation of 0 \.\. 3"):
        CodeClassifier(W, 0.1, torch.ones(4, requires_grad=True))
    with pytest.raises(ValueError, match=r"W must be a tensor of real numbers; got torch\.float4_e2m1fn_x2"):
        sc.margin(torch.zeros(4, 3, dtype=torch.uint8).view(torch.float4_e2m1fn_x2))


@pytest.mark.usefixtures("one_process")
def test_distributed_tensors_are_gathered_or_refused():
    mesh = init_device_mesh("cpu", (1,))
    labels = torch.arange(4)
    for placement in (Shard(0), Shard(1), Replicate()):
        X = distribute_tensor(W, mesh, [placement])
        learned = torch.nn.Parameter(X)
        metric = GNC2(4, 3)
        for each in (X, learned):
            assert sc.margin(each).margin == sc.margin(W).margin
            metric.set_classifier(each)
            assert float(metric.compute()["GNC2"]) == pytest.approx(sc.margin(W).margin, abs=1e-14)
        assert torch.equal(spherical_cross_entropy(W, X, labels, 0.1), spherical_cross_entropy(W, W, labels, 0.1))
        with torch.no_grad():
            assert torch.equal(hardmax_loss(W, learned, labels), hardmax_loss(W, W, labels))
        with pytest.raises(ValueError, match="weight is a DTensor, whose gradient"):
            spherical_cross_entropy(W, learned, labels, 0.1)
        for enter in (lambda X: GNC1(4, 3).update(X, labels), SphericalClassifier(4, 3, 0.1).double()):
            with pytest.raises(ValueError, match=r"features must be a plain tensor.*got a DTensor.*features\.to_local"):
                enter(X)
        with pytest.raises(ValueError, match=r"got a DTensor.*labels\.to_local"):
            GNC1(4, 3).update(W, distribute_tensor(labels, mesh, [Replicate()]))


@pytest.mark.usefixtures("one_process")
def test_sharded_heads():
    mesh = init_device_mesh("cpu", (1,))
    head, plain = SphericalClassifier(4, 3, 0.1, seed=0), SphericalClassifier(4, 3, 0.1, seed=0)
    fully_shard(head, mesh=mesh)
    head.set_weight(W)
    plain.set_weight(W)
    metrics = GeneralizedNeuralCollapse(4, 3, temperature=0.1)
    metrics.set_classifier(head)
    metrics.update(W, torch.arange(4))
    assert float(metrics.compute()["GNC2"]) == sc.margin(plain.weight).margin
    features, labels = W.float(), torch.arange(4)
    head(features, labels).backward()
    plain(features, labels).backward()
    assert torch.equal(head.raw_weight.grad.full_tensor(), plain.raw_weight.grad)
    moving = CMFClassifier(4, 3, 0.1)
    moving.weight = distribute_tensor(moving.weight, mesh, [Replicate()])
    for use in (moving.step, lambda: moving(features, labels), lambda: moving.set_class_means([(features, labels)])):
        with pytest.raises(ValueError, match="weight must be a plain tensor, the same on every process; got a DTensor"):
            use()


def test_a_finite_batch_whose_sum_overflows_is_accepted():
    tensors.check_features(torch.full((4, 4), 3e38))


def test_messages_name_ten_classes_at_most():
    assert tensors.listed(torch.arange(3)) == "0, 1, 2"
    assert tensors.listed(torch.arange(12)) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ..."
