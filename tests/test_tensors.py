"""The door of the PyTorch side: unit rows of any size, and checks that say what came."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from softmaxcode import sphere, tensors
from softmaxcode.tensors import unit_rows


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
        (lambda: sphere.check_temperature(True), "temperature must be a finite number above 0; got True"),
        (lambda: sphere.check_temperature(float("nan")), "got nan"),
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


def test_a_finite_batch_whose_sum_overflows_is_accepted():
    tensors.check_features(torch.full((4, 4), 3e38))


def test_messages_name_ten_classes_at_most():
    assert tensors.listed(torch.arange(3)) == "0, 1, 2"
    assert tensors.listed(torch.arange(12)) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ..."
