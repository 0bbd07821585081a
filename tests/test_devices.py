"""Devices of tensors: steps with tensors on "cuda", which need no GPU under PyTorch's fake tensors.

A fake tensor has a device and a shape but no values. So value checks are off, as while compiling. Autograd's engine
needs a real device, so the tests call the formulas of backward passes directly. An operation on tensors of two devices
raises a FakeTensorDeviceMismatchError.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from softmaxcode.nn import SphericalClassifier, tiles
from softmaxcode.nn.functional import hardmax_loss, log_odds_against, spherical_cross_entropy
from softmaxcode.search.large import tensors
from ufm.objective import Objective
from ufm.parallel import Shard

if TYPE_CHECKING:
    from collections.abc import Iterator

N, K, D = 8, 12, 3
CUDA = torch.device("cuda", 0)


@pytest.fixture
def on_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Features, class vectors and labels on a GPU that need not exist; factories create their tensors there too."""
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    with FakeTensorMode(), torch.device(CUDA):
        yield torch.randn(N, D), torch.randn(K, D), torch.zeros(N, dtype=torch.int64)


def assert_on_cuda(found: object) -> None:
    parts = found if isinstance(found, tuple | list) else [found]
    assert parts and all(isinstance(part, torch.Tensor) and part.device == CUDA for part in parts)


def test_a_tensor_left_on_the_cpu_is_found(on_cuda) -> None:
    H, W, y = on_cuda
    with pytest.raises(RuntimeError, match="two devices"):
        tiles._log_odds._init_fn(H, W.cpu(), y, False)


def test_the_tiles_of_the_loss(on_cuda) -> None:
    H, W, y = on_cuda
    odds, _, largest, total = found = tiles._log_odds._init_fn(H, W, y, False)
    assert_on_cuda(found)
    assert_on_cuda(tiles._log_odds_backward._init_fn(odds, H, W, y, largest, total, True, True))
    assert_on_cuda(tiles._best_wrong_class._init_fn(H, W, y, False))


def test_losses_and_heads(on_cuda) -> None:
    H, W, y = on_cuda
    head = SphericalClassifier(K, D, 0.1)
    for found in (
        spherical_cross_entropy(H, W, y, 0.1),
        spherical_cross_entropy(H, W, y, 0.1, log=True),
        hardmax_loss(H, W, y),
        log_odds_against(H, W, y, 0.1),
        head(H),
        head(H, y),
    ):
        assert_on_cuda(found)


@pytest.mark.parametrize("kind", ["log-cross-entropy", "cross-entropy"])
def test_the_step_of_the_feature_model(on_cuda, kind: str) -> None:
    H, W, y = on_cuda
    objective = Objective(kind, y, N, 1e-3, Shard.alone(K, CUDA))
    value, grad_W, grad_H = found = objective(W[None], H[None], torch.full((1,), 0.1))
    assert_on_cuda(found)
    assert (value.shape, grad_W.shape, grad_H.shape) == ((1,), (1, K, D), (1, N, D))


def test_the_kernels_of_many_points(on_cuda) -> None:
    _, X, _ = on_cuda
    rows = torch.arange(K, dtype=torch.int32).repeat_interleave(2)
    pairs = tensors.TensorPairs(torch.arange(0, 2 * K + 1, 2, dtype=torch.int32), rows, rows.flip(0), 0.5)
    C = tensors.cosines_of_pairs(X, pairs)
    E = tensors.weights(C, 20.0, C.max())
    assert_on_cuda((C, E, tensors.weighted_sums(X, pairs, E)))
    assert_on_cuda(tensors.weigh_tile(X[4:8] @ X.T, 4, 20.0))
    descent = tensors.TensorLBFGS(X)
    descent._move(0.1)
    descent._add(descent._S[0], 0.5, descent.grad.reshape(-1))
    assert_on_cuda((descent._trial, descent._S, descent._Y))
    assert descent._trial.shape == (K, D)
