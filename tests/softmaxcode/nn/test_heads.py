"""The heads against their formulas in float64 NumPy, and in training loops, compiled, saved and over two processes."""

from __future__ import annotations

import copy
import functools
import inspect
import math
import os
import re
import warnings
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import geoopt
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.distributed import checkpoint
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import softmaxcode as sc
from softmaxcode.metrics import GNC2
from softmaxcode.nn import CMFClassifier, CodeClassifier, SphericalClassifier
from softmaxcode.nn.functional import spherical_cross_entropy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

K, D = 7, 4
TAU = 0.2


def code_rows(seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((K, D))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


HEADS: dict[str, Callable[..., nn.Module]] = {
    "spherical": lambda tau=TAU, seed=0: SphericalClassifier(K, D, tau, seed=seed),
    "riemannian": lambda tau=TAU, seed=0: SphericalClassifier(K, D, tau, riemannian=True, seed=seed),
    "code": lambda tau=TAU, seed=0: CodeClassifier(code_rows(), tau, seed=seed),
    "cmf": lambda tau=TAU, seed=0: CMFClassifier(K, D, tau, seed=seed),
}
every_head = pytest.mark.parametrize("make", HEADS.values(), ids=HEADS)


def batch(n: int = 9, seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    features = torch.tensor(3 * rng.standard_normal((n, D)), dtype=dtype)
    return features, torch.tensor(rng.integers(K, size=n))


def logits_of(features: torch.Tensor, weight: torch.Tensor, tau: float) -> np.ndarray:
    h, w = (x.detach().double().numpy() for x in (features, weight))
    h = h / np.linalg.norm(h, axis=1, keepdims=True)
    return h @ w.T / tau


def loss_of(logits: np.ndarray, labels: torch.Tensor) -> float:
    own = logits[np.arange(len(labels)), labels.numpy()]
    return float(np.mean(np.log(np.exp(logits - own[:, None]).sum(axis=1))))


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def norms(weight: torch.Tensor) -> np.ndarray:
    return np.linalg.norm(weight.detach().double().numpy(), axis=1)


# What every head does


@every_head
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-13)])
def test_logits_and_loss(make, dtype, tolerance):
    with default_dtype(dtype):
        head = make()
    features, labels = batch(dtype=dtype)
    assert head.weight.shape == (K, D) and head.weight.dtype == dtype
    np.testing.assert_allclose(norms(head.weight), 1, atol=2 * torch.finfo(dtype).eps)
    expected = logits_of(features, head.weight, TAU)
    logits, loss = head(features), head(features, labels)
    assert logits.dtype == loss.dtype == dtype and loss.shape == ()
    np.testing.assert_allclose(logits.detach().numpy(), expected, atol=tolerance / TAU)
    np.testing.assert_allclose(loss.item(), loss_of(expected, labels), rtol=tolerance)


@every_head
def test_moved_to_double_precision(make):
    head, features = make(), batch()[0]
    before = head(features)
    after = head.to(torch.float64)(features.double())
    assert after.dtype == head.weight.dtype == torch.float64
    torch.testing.assert_close(after, before.double(), rtol=0, atol=1e-5)


@every_head
def test_temperature_may_be_set_and_is_checked(make):
    head = make()
    features, labels = batch()
    head.temperature = 0.5
    assert head.temperature == 0.5
    expected = logits_of(features, head.weight, 0.5)
    np.testing.assert_allclose(head(features).detach().numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(head(features, labels).item(), loss_of(expected, labels), rtol=1e-5)
    for bad in (0, -0.1, float("nan"), float("inf"), "warm", None):
        with pytest.raises(ValueError, match="temperature must be a finite number above 0"):
            head.temperature = bad
        with pytest.raises(ValueError, match="temperature must be a finite number above 0"):
            make(tau=bad)
    assert head.temperature == 0.5


@every_head
def test_repr(make):
    assert f"K={K}, d={D}, temperature=0.2" in repr(make())


@every_head
def test_seed(make):
    assert torch.equal(make(seed=3).weight, make(seed=3).weight)
    assert not torch.equal(make(seed=3).weight, make(seed=4).weight)
    torch.manual_seed(5)
    first = make(seed=None).weight
    second = make(seed=None).weight
    torch.manual_seed(5)
    assert torch.equal(first, make(seed=None).weight) and not torch.equal(first, second)
    before = torch.get_rng_state()
    make(seed=1)
    assert torch.equal(before, torch.get_rng_state())
    with pytest.raises(ValueError, match="seed must be an integer of at least 0"):
        make(seed=-1)


@every_head
def test_bad_batches(make):
    head = make()
    features, labels = batch()
    nan = features.clone()
    nan[2, 1] = float("nan")
    for bad, message in [
        (features[:, :3], r"must have shape \(N, 4\)"),
        (features[:0], "at least one row"),
        (nan, "row 2 has a NaN"),
        (features.double(), "one dtype"),
        (features.long(), "floating point"),
        (features.tolist(), "must be a tensor"),
    ]:
        for arguments in ((), (labels[: len(bad)],)):
            with pytest.raises(ValueError, match=message):
                head(bad, *arguments)
    for bad, message in [
        (torch.full_like(labels, K), "from 0 to 6"),
        (labels - K, "from 0 to 6"),
        (labels[:-1], "one for each row of features"),
        (labels.float(), "integers"),
        (labels.tolist(), "labels must be a tensor"),
    ]:
        with pytest.raises(ValueError, match=message):
            head(features, bad)
    if isinstance(head, CMFClassifier):
        assert len(head._pending.classes) == 0


@every_head
def test_mixed_devices(make):
    head = make().to("meta")
    features, labels = batch()
    with pytest.raises(ValueError, match="features and weight must be on one device; got cpu and meta"):
        head(features)
    if isinstance(head, CMFClassifier):
        with pytest.raises(ValueError, match="features and weight must be on one device; got cpu and meta"):
            head.set_class_means([(features, labels)])


@every_head
@pytest.mark.cuda
def test_cuda(make):
    head = make()
    features, labels = batch()
    logits, loss = head(features), head(features, labels)
    if isinstance(head, CMFClassifier):
        twin = copy.deepcopy(head)  # what is pending moves with the head
        head.step()
        twin.to("cuda").step()
        torch.testing.assert_close(twin.weight.cpu(), head.weight)
        twin(features.cuda(), labels.cuda())
        with pytest.raises(ValueError, match="features and labels must be on one device"):
            twin.set_class_means([(features.cuda(), labels)])
    moved_head = make().to("cuda")
    torch.testing.assert_close(moved_head(features.cuda()).cpu(), logits)
    torch.testing.assert_close(moved_head(features.cuda(), labels.cuda()).cpu(), loss)
    for bad in ((features, labels), (features.cuda(), labels), (features,)):
        with pytest.raises(ValueError, match="must be on one device"):
            moved_head(*bad)


@every_head
def test_state_dict(make, tmp_path: Path):
    head, other = make(seed=0), make(seed=1)
    torch.save(head.state_dict(), tmp_path / "head.pt")
    assert not torch.equal(head.weight, other.weight)
    other.load_state_dict(torch.load(tmp_path / "head.pt", weights_only=True))
    assert torch.equal(head.weight, other.weight)
    rows, extra = head.state_dict().items()
    for cut in (slice(0, K - 1), (slice(None), slice(0, D - 1))):
        with pytest.raises(RuntimeError, match="size mismatch"):
            other.load_state_dict({rows[0]: rows[1][cut], extra[0]: extra[1]})
    assert torch.equal(head.weight, other.weight)


def through_a_file(state: dict[str, torch.Tensor], folder: Path) -> dict[str, torch.Tensor]:
    torch.save(state, folder / "state.pt")
    return torch.load(folder / "state.pt", weights_only=True)


def through_a_checkpoint(state: dict[str, torch.Tensor], folder: Path) -> dict[str, torch.Tensor]:
    checkpoint.save(state, checkpoint_id=folder, no_dist=True)
    found = {name: torch.zeros_like(value) for name, value in state.items()}
    checkpoint.load(found, checkpoint_id=folder, no_dist=True)
    return found


@every_head
@pytest.mark.parametrize("through", [through_a_file, through_a_checkpoint])
def test_the_temperature_is_resumed_and_a_difference_reported(make, through, tmp_path: Path):
    head, other = nn.Sequential(make()), nn.Sequential(make(seed=1))
    head[0].temperature = 0.02
    if isinstance(head[0], CMFClassifier):
        head[0].momentum = 0.5
    saved = through(head.half().state_dict(), tmp_path)  # casts do not reach it
    with pytest.warns(UserWarning, match=r"the state dict's temperature 0\.02 replaces 0\.2; to use another, set it"):
        assert other.load_state_dict(saved) == ([], [])
    assert other[0].temperature == 0.02
    assert getattr(other[0], "momentum", 0.5) == 0.5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other.load_state_dict(saved)
    assert other[0].temperature == 0.02


@every_head
def test_state_dicts_of_older_versions_load(make):
    head = nn.ModuleDict({"head": make(tau=0.5)})
    saved = {name: value for name, value in make().state_dict().items() if name != "_extra_state"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert head.load_state_dict({f"head.{name}": value for name, value in saved.items()}) == ([], [])
    assert head["head"].temperature == 0.5
    with pytest.raises(RuntimeError, match="Missing key"):
        head.load_state_dict({"head._extra_state": make(tau=0.5).get_extra_state()})


@every_head
def test_extra_state_is_checked(make):
    head = make()
    for state, message in [
        (torch.tensor([math.nan]), "temperature must be a finite number above 0; got nan"),
        (torch.tensor(0.1), "the extra state of a .* must be a vector of its temperature"),
        ({"temperature": 0.1}, "the extra state of a .* must be a vector of its temperature"),
        (torch.tensor([1]), "the extra state of a .* must be a vector of its temperature"),
    ]:
        with pytest.raises(ValueError, match=message):
            head.load_state_dict(head.state_dict() | {"_extra_state": state})
    assert head.temperature == TAU


def test_means_that_moved_become_a_fixed_code():
    moving = CMFClassifier(K, D, TAU, seed=0)
    fixed = CodeClassifier(code_rows(), TAU)
    assert fixed.load_state_dict(moving.state_dict()) == ([], [])
    assert torch.equal(fixed.weight, moving.weight)
    assert moving.load_state_dict(fixed.state_dict()) == ([], []) and moving.momentum == 0.9


@every_head
def test_deep_copy(make):
    head = make()
    features, labels = batch()
    twin = copy.deepcopy(head)
    assert torch.equal(twin(features), head(features)) and torch.equal(twin(features, labels), head(features, labels))
    assert [type(p) for p in twin.parameters()] == [type(p) for p in head.parameters()]
    for value in [*twin.parameters(), *twin.buffers()]:
        value.data.zero_()
    assert norms(head.weight).min() > 0.9


@every_head
def test_autocast(make):
    head = make()
    features, labels = batch()
    half = features.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits, loss = head(half), head(half, labels)
    assert logits.dtype == loss.dtype == torch.float32
    expected = logits_of(half, head.weight, TAU)
    np.testing.assert_allclose(logits.detach().numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(loss.item(), loss_of(expected, labels), rtol=1e-5)


@every_head
def test_features_get_the_gradient_of_the_formula(make):
    head = make().double()
    features, labels = batch(dtype=torch.float64)
    features.requires_grad_()
    head(features, labels).backward()
    plain = features.detach().clone().requires_grad_()
    unit = plain / plain.norm(dim=1, keepdim=True)
    weight = head.weight.detach() / head.weight.detach().norm(dim=1, keepdim=True)
    nn.functional.cross_entropy(unit @ weight.T / TAU, labels).backward()
    torch.testing.assert_close(features.grad, plain.grad, rtol=1e-10, atol=1e-14)


@every_head
def test_compiled(make):
    """Without a graph break; that the losses inside run in compiled code is tested beside them."""
    torch.compiler.reset()
    head = make().eval()
    compiled = torch.compile(head, fullgraph=True, backend="aot_eager")
    for seed in range(2):
        features, labels = batch(seed=seed)
        torch.testing.assert_close(compiled(features), head(features))
        gradients = []
        for forward in (compiled, head):
            inputs = features.clone().requires_grad_()
            loss = forward(inputs, labels)
            wanted = [inputs, *head.parameters()]
            gradients.append([loss.detach(), *(g.as_subclass(torch.Tensor) for g in torch.autograd.grad(loss, wanted))])
        torch.testing.assert_close(*gradients)
    head.temperature = 0.5
    torch.testing.assert_close(compiled(features, labels), head(features, labels))


# SphericalClassifier


@pytest.mark.parametrize("riemannian", [False, True])
def test_learned_weight_gets_the_gradient_of_the_formula(riemannian: bool):
    head = SphericalClassifier(K, D, TAU, riemannian=riemannian, seed=0).double()
    if not riemannian:
        with torch.no_grad():  # rows of any norm
            head.raw_weight.mul_(torch.linspace(0.2, 5, K, dtype=torch.float64)[:, None])
    features, labels = batch(dtype=torch.float64)
    head(features, labels).backward()
    raw = head.raw_weight.detach().clone().requires_grad_()
    h, w = (x / x.norm(dim=1, keepdim=True) for x in (features, raw.as_subclass(torch.Tensor)))
    nn.functional.cross_entropy(h @ w.T / TAU, labels).backward()
    torch.testing.assert_close(head.raw_weight.grad.as_subclass(torch.Tensor), raw.grad, rtol=1e-10, atol=1e-13)
    tangential = (head.raw_weight.grad * head.raw_weight).sum(1)
    np.testing.assert_allclose(tangential.detach().numpy(), 0, atol=1e-13)


@pytest.mark.parametrize("optimizer", [geoopt.optim.RiemannianSGD, geoopt.optim.RiemannianAdam])
def test_riemannian_rows_stay_on_the_sphere(optimizer):
    head = SphericalClassifier(K, D, TAU, riemannian=True, seed=0)
    features, labels = batch(30)
    first = head(features, labels).item()
    steps = optimizer(head.parameters(), lr=0.05)
    for _ in range(100):
        steps.zero_grad()
        head(features, labels).backward()
        steps.step()
    np.testing.assert_allclose(norms(head.raw_weight), 1, atol=1e-6)
    assert head(features, labels).item() < first


def test_norms_and_weight_decay_leave_the_logits_alone():
    head = SphericalClassifier(K, D, TAU, seed=0).double()
    features, _ = batch(dtype=torch.float64)
    before = head(features)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.5, weight_decay=0.5)
    head.raw_weight.grad = torch.zeros_like(head.raw_weight)
    optimizer.step()
    assert norms(head.raw_weight).max() < 0.9
    torch.testing.assert_close(head(features), before, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("k", "d"), [(1, 3), (3, 0), (2.5, 3), (True, 3)])
def test_bad_sizes(k, d):
    for head in (SphericalClassifier, CMFClassifier):
        with pytest.raises(ValueError, match="must be an integer of at least"):
            head(k, d, TAU)


# CodeClassifier


def test_code_keeps_its_cosines_and_its_margin():
    code = sc.best_known(10, 3)
    rotated = CodeClassifier(code, TAU)
    plain = CodeClassifier(code.W, TAU, rotate=False)
    assert torch.equal(plain.weight, torch.tensor(code.W, dtype=torch.float32))
    assert not torch.allclose(rotated.weight, plain.weight, atol=0.01)
    W = rotated.weight.double().numpy()
    np.testing.assert_allclose(W @ W.T, code.W @ code.W.T, atol=5e-7)
    assert abs(sc.margin(rotated.weight).margin - code.margin) < 1e-6
    assert not list(rotated.parameters()) and list(rotated.state_dict()) == ["weight", "_extra_state"]


def test_code_in_double_precision():
    code = sc.best_known(10, 3)
    with default_dtype(torch.float64):
        head = CodeClassifier(torch.tensor(code.W), TAU, seed=0)
    assert head.weight.dtype == torch.float64
    assert abs(sc.margin(head.weight).margin - code.margin) < 1e-13


def test_rotation_is_orthogonal_and_uniform():
    from softmaxcode.nn.code import random_orthogonal

    torch.manual_seed(0)
    Q = torch.stack([random_orthogonal(3, None) for _ in range(2000)])
    torch.testing.assert_close(Q @ Q.mT, torch.eye(3, dtype=torch.float64).expand(2000, 3, 3), rtol=0, atol=1e-13)
    # Haar: entries have mean 0 and mean square 1/3 (standard error 0.007), traces mean square 1, half are reflections
    assert Q.mean(0).abs().max() < 0.07
    assert (Q.square().mean(0) - 1 / 3).abs().max() < 0.04
    assert abs(float(Q.diagonal(dim1=1, dim2=2).sum(1).square().mean()) - 1) < 0.2
    assert abs(float((torch.linalg.det(Q) > 0).double().mean()) - 0.5) < 0.06


@pytest.mark.parametrize("wrap", [np.array, list, torch.tensor, lambda p: SimpleNamespace(permutation=np.array(p))])
def test_assignment(wrap):
    permutation = [3, 0, 6, 1, 5, 2, 4]
    W = torch.tensor(code_rows(), dtype=torch.float32)
    head = CodeClassifier(code_rows(), TAU, wrap(permutation), rotate=False)
    for c in range(K):
        assert torch.equal(head.weight[c], W[permutation[c]])
    rotated = CodeClassifier(code_rows(), TAU, wrap(permutation), seed=2).weight
    assert torch.equal(rotated, CodeClassifier(code_rows(), TAU, seed=2).weight[permutation])


@pytest.mark.parametrize(
    "assignment",
    [[0] * K, list(range(K - 1)), list(range(1, K + 1)), [float(k) for k in range(K)], [list(range(K))], "abc", 3],
)
def test_bad_assignments(assignment):
    with pytest.raises(ValueError, match=r"assignment must be a permutation of 0 \.\. 6"):
        CodeClassifier(code_rows(), TAU, assignment)


def test_bad_codes():
    for code, message in [(2 * code_rows(), "code must have rows of unit norm"), ("code", "code must be an array")]:
        with pytest.raises(ValueError, match=message):
            CodeClassifier(code, TAU)


# CMFClassifier


def moved(weight: np.ndarray, features: np.ndarray, labels: np.ndarray, momentum: float) -> np.ndarray:
    """One step of the moving means by definition, in float64."""
    result = weight.copy()
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    for k in range(len(weight)):
        if (labels == k).any():
            mean = np.mean([unit[i] for i in range(len(labels)) if labels[i] == k], axis=0)
            row = momentum * weight[k] + (1 - momentum) * mean
            result[k] = row / np.linalg.norm(row)
    return result


@given(
    sizes=st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=4), min_size=1, max_size=3),
    momentum=st.floats(0, 0.99),
    seed=st.integers(0, 1000),
)
def test_micro_batches_change_nothing(sizes: list[list[int]], momentum: float, seed: int):
    head = CMFClassifier(K, D, TAU, momentum, seed=seed).double()
    single = CMFClassifier(K, D, TAU, momentum, seed=seed)
    expected = head.weight.numpy().copy()
    for number, step in enumerate(sizes):
        features, labels = batch(sum(step), seed + number, torch.float64)
        before = head.weight.clone()
        for part, part_labels in zip(features.split(step), labels.split(step), strict=True):
            head(part, part_labels)
            single(part.float(), part_labels)
        assert torch.equal(head.weight, before)  # nothing moves before the step
        head.step()
        single.step()
        expected = moved(expected, features.numpy(), labels.numpy(), momentum)
        absent = np.setdiff1d(np.arange(K), labels.numpy())
        assert torch.equal(head.weight[absent], before[absent])
        np.testing.assert_allclose(head.weight.numpy(), expected, atol=1e-12)
        np.testing.assert_allclose(single.weight.numpy(), expected, atol=1e-5)
    after = head.weight.clone()
    head.step()
    assert torch.equal(head.weight, after)


def test_a_mean_of_zero_keeps_the_row():
    head = CMFClassifier(3, 2, TAU, momentum=0.0, seed=0)
    before = head.weight.clone()
    head(torch.tensor([[1.0, 0], [-2, 0], [0, 0], [3, 4]]), torch.tensor([0, 0, 1, 2]))
    head.step()
    assert torch.equal(head.weight[:2], before[:2])
    assert head.weight[2].tolist() == pytest.approx([0.6, 0.8])


def test_evaluation_mode_and_logits_add_nothing():
    head = CMFClassifier(K, D, TAU, seed=0)
    before = head.weight.clone()
    features, labels = batch()
    head(features)
    head.eval()
    head(features, labels)
    head.step()
    assert torch.equal(head.weight, before)


def test_one_array_is_held():
    head = CMFClassifier(1000, D, TAU)
    features, labels = batch(50)
    head(features.requires_grad_(), labels)
    assert not list(head.parameters()) and list(head.state_dict()) == ["weight", "_extra_state"]
    assert head._pending.sums.shape == (len(labels.unique()), D + 1) and not head._pending.sums.requires_grad


def test_loading_drops_what_is_pending_and_a_copy_has_it():
    head = CMFClassifier(K, D, TAU, seed=0)
    before = head.weight.clone()
    head(*batch())
    twin = copy.deepcopy(head)
    head.load_state_dict(head.state_dict())
    head.step()
    twin.step()
    assert torch.equal(head.weight, before) and not torch.equal(twin.weight, before)


@pytest.mark.parametrize("momentum", [1, -0.1, float("nan"), "high", True])
def test_bad_momentum(momentum):
    with pytest.raises(ValueError, match="momentum must be a number from 0 to below 1"):
        CMFClassifier(K, D, TAU, momentum)
    head = CMFClassifier(K, D, TAU)
    with pytest.raises(ValueError, match="momentum must be a number from 0 to below 1"):
        head.momentum = momentum


def body_and_head(seed: int = 0) -> tuple[nn.Linear, CMFClassifier]:
    torch.manual_seed(seed)
    return nn.Linear(5, D).double(), CMFClassifier(K, D, TAU, 0.5, seed=seed).double()


@pytest.mark.parametrize(
    "make_optimizer",
    [
        functools.partial(torch.optim.SGD, lr=0.1),
        functools.partial(torch.optim.Adam, lr=0.1),
        functools.partial(geoopt.optim.RiemannianSGD, lr=0.1),
        functools.partial(geoopt.optim.RiemannianAdam, lr=0.1),
    ],
)
def test_attached_optimizers_move_the_means(make_optimizer):
    body, head = body_and_head()
    optimizer = make_optimizer(body.parameters())
    handle = head.attach(optimizer)
    inputs = torch.randn(12, 5, dtype=torch.float64)
    labels = torch.randint(K, (12,))
    expected = head.weight.numpy().copy()
    for _ in range(2):
        optimizer.zero_grad()
        features = []
        for part, part_labels in zip(inputs.split(5), labels.split(5), strict=True):  # gradients are accumulated
            features.append(body(part))
            head(features[-1], part_labels).backward()
        expected = moved(expected, torch.cat(features).detach().numpy(), labels.numpy(), 0.5)
        optimizer.step()
        np.testing.assert_allclose(head.weight.numpy(), expected, atol=1e-12)
    handle.remove()
    head(body(inputs), labels)
    optimizer.step()
    np.testing.assert_allclose(head.weight.numpy(), expected, atol=1e-12)


def test_attach_wants_an_optimizer():
    with pytest.raises(ValueError, match=r"optimizer must be a torch\.optim\.Optimizer; got Linear"):
        CMFClassifier(K, D, TAU).attach(nn.Linear(2, 2))


def test_a_step_that_the_grad_scaler_skips_carries_over():
    body, head = body_and_head()
    optimizer = torch.optim.SGD(body.parameters(), lr=0.1)
    head.attach(optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    inputs = torch.randn(2, 6, 5, dtype=torch.float64)
    labels = torch.randint(K, (2, 6))
    before = head.weight.clone()
    seen = []
    for step in range(2):
        optimizer.zero_grad()
        seen.append(body(inputs[step]))
        scaler.scale(head(seen[-1], labels[step])).backward()
        if step == 0:
            body.weight.grad[0, 0] = float("inf")
        scaler.step(optimizer)
        scaler.update()
        if step == 0:
            assert torch.equal(head.weight, before)
    expected = moved(before.numpy(), torch.cat(seen).detach().numpy(), labels.flatten().numpy(), 0.5)
    np.testing.assert_allclose(head.weight.numpy(), expected, atol=1e-12)


def test_a_fused_optimizer_takes_the_step_that_the_scaler_skips():
    body, head = body_and_head()
    optimizer = torch.optim.SGD(body.parameters(), lr=0.1, fused=True)
    head.attach(optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    inputs, labels = torch.randn(6, 5, dtype=torch.float64), torch.randint(K, (6,))
    before, parameters = head.weight.clone(), body.weight.detach().clone()
    features = body(inputs)
    scaler.scale(head(features, labels)).backward()
    body.weight.grad[0, 0] = float("inf")
    scaler.step(optimizer)
    assert torch.equal(body.weight, parameters)
    expected = moved(before.numpy(), features.detach().numpy(), labels.numpy(), 0.5)
    np.testing.assert_allclose(head.weight.numpy(), expected, atol=1e-12)


def test_a_collapse_of_the_class_means_is_reported_once():
    head = CMFClassifier(K, D, TAU, momentum=0.0, seed=0)
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(K)
    one_point = torch.ones(K, D) + 1e-3 * torch.randn(K, D, generator=generator)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        head(one_point[:3], labels[:3])
        head.step()  # some classes at one point are none of all
        assert not caught
        for _ in range(3):
            head(one_point, labels)
            head.step()
    assert len(caught) == 1
    assert re.search(r"all 7 class means are nearly equal .* a lower learning rate often helps", str(caught[0].message))
    with pytest.warns(UserWarning, match="all 7 class means are nearly equal"):
        CMFClassifier(K, D, TAU).set_class_means([(one_point, labels)])


def test_training_that_collapses_the_class_means_is_reported():
    inputs, labels = digits()
    for rate, collapses in ((0.1, True), (0.001, False)):
        torch.manual_seed(0)
        body = nn.Sequential(
            nn.Linear(64, 128),
            nn.ReLU(),
            nn.Linear(128, 128),
            nn.ReLU(),
            nn.Linear(128, 128),
            nn.ReLU(),
            nn.Linear(128, 10),
        )
        head = CMFClassifier(10, 10, 0.1, seed=0)
        optimizer = torch.optim.SGD(body.parameters(), lr=rate, momentum=0.9)
        head.attach(optimizer)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(6):
                for rows in torch.randperm(len(labels)).split(128):
                    optimizer.zero_grad()
                    head(body(inputs[rows]), labels[rows]).backward()
                    optimizer.step()
        assert [bool(re.search("all 10 class means are nearly equal", str(w.message))) for w in caught] == [
            True
        ] * collapses


def test_compiled_in_training_moves_the_means():
    torch.compiler.reset()
    head = CMFClassifier(K, D, TAU, seed=0)
    plain = copy.deepcopy(head)
    compiled = torch.compile(head, backend="aot_eager")
    for seed in range(3):
        features, labels = batch(seed=seed)
        torch.testing.assert_close(compiled(features, labels), plain(features, labels))
        head.step()
        plain.step()
        torch.testing.assert_close(head.weight, plain.weight)


@given(sizes=st.lists(st.integers(1, 20), min_size=1, max_size=5), seed=st.integers(0, 1000))
def test_exact_class_means(sizes: list[int], seed: int):
    head = CMFClassifier(K, D, TAU, seed=seed).double()
    before = head.weight.clone()
    features, labels = batch(sum(sizes), seed, torch.float64)
    head(features, labels)  # pending, and to be dropped
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        head.set_class_means(zip(features.split(sizes), labels.split(sizes), strict=True))
    expected = moved(before.numpy(), features.numpy(), labels.numpy(), 0.0)
    np.testing.assert_allclose(head.weight.numpy(), expected, atol=1e-12)
    absent = np.setdiff1d(np.arange(K), labels.numpy())
    assert torch.equal(head.weight[absent], before[absent])
    assert [str(w.message) for w in caught] == (
        [f"{len(absent)} of {K} classes have no features and keep their row: {', '.join(map(str, absent))}"]
        if len(absent)
        else []
    )
    after = head.weight.clone()
    head.step()
    assert torch.equal(head.weight, after)


def test_the_warning_names_ten_classes():
    head = CMFClassifier(30, D, TAU)
    with pytest.warns(UserWarning, match=r"29 of 30 classes have no .* row: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, \.\.\.$"):
        head.set_class_means([(torch.ones(1, D), torch.tensor([0]))])


def test_bad_batches_leave_the_class_means_alone():
    head = CMFClassifier(K, D, TAU)
    before = head.weight.clone()
    features, labels = batch()
    for bad, message in [
        ((features[:, :2], labels), r"shape \(N, 4\)"),
        ((features[:0], labels[:0]), "at least one row"),
        ((features / 0, labels), "NaN or infinite"),
        ((features, labels + K), "from 0 to 6"),
    ]:
        with pytest.raises(ValueError, match=message):
            head.set_class_means([(features, labels), bad])
        assert torch.equal(head.weight, before)


# Two processes


def fractions(step: int) -> Sequence[slice]:
    """How a step's 12 features are spread: evenly, unequally, all on one rank."""
    return [(slice(0, 6), slice(6, 12)), (slice(0, 3), slice(3, 12)), (slice(0, 12), slice(12, 12))][step]


def one_rank(rank: int, folder: str) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    try:
        head = CMFClassifier(K, D, TAU, 0.5, seed=0).double()
        weights = []
        head.step()  # no rank has seen anything
        for step in range(3):
            features, labels = batch(12, step, torch.float64)
            fraction = fractions(step)[rank]
            if len(labels[fraction]):
                head(features[fraction], labels[fraction])
            head.step()
            weights.append(head.weight.clone())
        features, labels = batch(12, 3, torch.float64)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            head.set_class_means([(features, labels)] if rank == 1 else [])
        weights.append(head.weight.clone())
        found = {"weights": torch.stack(weights), "replicated": replicated(rank), "sharded": sharded(rank)}
        torch.save(found, f"{folder}/{rank}.pt")
    finally:
        torch.distributed.destroy_process_group()


class Model(nn.Module):
    def __init__(self, seed: int):
        super().__init__()
        self.body, self.head = body_and_head(seed)

    def forward(self, inputs: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.body(inputs)
        return features, self.head(features, labels)


#: What docs/pytorch.md recommends: the option has another name since PyTorch 2.13.
WITHOUT_BROADCAST = {
    "forward_sync_buffers"
    if "forward_sync_buffers" in inspect.signature(nn.parallel.DistributedDataParallel).parameters
    else "broadcast_buffers": False
}


@pytest.mark.usefixtures("one_process")
@pytest.mark.skipif("broadcast_buffers" in WITHOUT_BROADCAST, reason="PyTorch before 2.13")
def test_the_documented_parallel_module_gives_no_warning():
    documented = (Path(__file__).parents[3] / "docs" / "pytorch.md").read_text()
    (snippet,) = re.findall(r"```python\n([^`]*DistributedDataParallel[^`]*)```", documented)
    names = {"model": Model(seed=0)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exec(snippet, names)
    names["parallel"](torch.randn(3, 5, dtype=torch.float64), torch.arange(3))[1].backward()
    assert names["model"].body.weight.grad is not None
    assert not names["parallel"].will_sync_module_buffers()


def replicated(rank: int) -> list[dict[str, torch.Tensor]]:
    """What each step of an attached optimiser did under DistributedDataParallel."""
    record = []
    for options in ({}, WITHOUT_BROADCAST):
        model = Model(seed=0 if "broadcast_buffers" in options else rank)  # that one does not send them at the start
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            parallel = nn.parallel.DistributedDataParallel(model, **options)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        model.head.attach(optimizer)
        generator = torch.Generator().manual_seed(rank)
        for _ in range(2):
            n = 4 + 3 * rank
            inputs = torch.randn(n, 5, dtype=torch.float64, generator=generator)
            labels = torch.randint(K, (n,), generator=generator)
            before = model.head.weight.clone()
            optimizer.zero_grad()
            features, loss = parallel(inputs, labels)
            loss.backward()
            optimizer.step()
            after = model.head.weight.clone()
            record.append({"before": before, "after": after, "features": features.detach(), "labels": labels})
    return record


def sharded(rank: int) -> list[float]:
    """Margins and the loss of a classifier whose rows are spread over the ranks, as every rank finds them."""
    head = SphericalClassifier(K, D, TAU, seed=0).double()
    fully_shard(head, mesh=init_device_mesh("cpu", (2,)))
    features, labels = batch(12, 0, torch.float64)
    metric = GNC2(K, D)
    metric.set_classifier(head)
    found = [sc.margin(head.weight).margin, float(metric.compute()["GNC2"])]
    with torch.no_grad():
        found.append(spherical_cross_entropy(features, head.raw_weight, labels, TAU).item())
    loss = head(features, labels)
    loss.backward()  # after it every rank has its rows alone again
    found.append(loss.item())
    head.set_weight(code_rows(rank))  # those of the first rank count
    return [*found, sc.margin(head.weight).margin]


@pytest.mark.processes
def test_two_processes_equal_one(tmp_path: Path):
    torch.multiprocessing.spawn(one_rank, args=(str(tmp_path),), nprocs=2)
    saved = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    first, second = (s["weights"] for s in saved)
    assert torch.equal(first, second)
    expected = CMFClassifier(K, D, TAU, 0.5, seed=0).double().weight.numpy()
    for step in range(4):
        features, labels = batch(12, step, torch.float64)
        expected = moved(expected, features.numpy(), labels.numpy(), 0.5 if step < 3 else 0.0)
        np.testing.assert_allclose(first[step].numpy(), expected, atol=1e-12)
    head = SphericalClassifier(K, D, TAU, seed=0).double()
    margin, loss = sc.margin(head.weight).margin, head(*batch(12, 0, torch.float64)).item()
    wanted = [margin, margin, loss, loss, sc.margin(code_rows(0)).margin]
    assert saved[0]["sharded"] == saved[1]["sharded"] == pytest.approx(wanted, abs=1e-13)
    for ours, theirs in zip(*(s["replicated"] for s in saved), strict=True):
        assert torch.equal(ours["before"], theirs["before"]) and torch.equal(ours["after"], theirs["after"])
        features, labels = (torch.cat([ours[name], theirs[name]]).numpy() for name in ("features", "labels"))
        expected = moved(ours["before"].numpy(), features, labels, 0.5)
        np.testing.assert_allclose(ours["after"].numpy(), expected, atol=1e-12)


# Training


@functools.cache
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    from sklearn.datasets import load_digits

    data = load_digits()
    return torch.tensor(data.data / 16, dtype=torch.float32), torch.tensor(data.target)


@pytest.mark.parametrize("kind", ["spherical", "riemannian", "code", "cmf"])
def test_digits(kind: str):
    torch.manual_seed(0)
    inputs, labels = digits()
    body = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 3))
    head = {
        "spherical": lambda: SphericalClassifier(10, 3, 0.1),
        "riemannian": lambda: SphericalClassifier(10, 3, 0.1, riemannian=True),
        "code": lambda: CodeClassifier(sc.best_known(10, 3), 0.1),
        "cmf": lambda: CMFClassifier(10, 3, 0.1),
    }[kind]()
    model = nn.ModuleList([body, head])
    adam = geoopt.optim.RiemannianAdam if kind == "riemannian" else torch.optim.Adam
    optimizer = adam(model.parameters(), lr=0.01)
    if isinstance(head, CMFClassifier):
        head.attach(optimizer)
    for _ in range(30):
        for rows in torch.randperm(len(labels)).split(128):
            optimizer.zero_grad()
            head(body(inputs[rows]), labels[rows]).backward()
            optimizer.step()
    model.eval()
    with torch.no_grad():
        accuracy = (head(body(inputs)).argmax(1) == labels).double().mean()
    assert accuracy > 0.95
    assert sc.margin(head.weight).margin > 0


def test_a_metric_learning_classifier_has_a_margin():
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    torch.manual_seed(0)
    inputs, labels = digits()
    body = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 3))
    arcface = losses.ArcFaceLoss(num_classes=10, embedding_size=3)
    optimizer = torch.optim.Adam([*body.parameters(), *arcface.parameters()], lr=0.01)
    for _ in range(5):
        optimizer.zero_grad()
        arcface(body(inputs), labels).backward()
        optimizer.step()
    found = sc.margin(arcface.W.T, normalize=True)
    W = arcface.W.detach().double().numpy().T
    W /= np.linalg.norm(W, axis=1, keepdims=True)
    np.testing.assert_allclose(found.margins, sc.margin(W).margins, atol=1e-12)
    assert found.margins.shape == (10,)


# What is easily forgotten


def test_a_learned_classifier_can_start_from_a_code():
    code = sc.best_known(12, 3)
    for riemannian in (False, True):
        head = SphericalClassifier(12, 3, 0.1, riemannian=riemannian, seed=0)
        head.set_weight(code)
        torch.testing.assert_close(head.weight.detach(), torch.tensor(code.W, dtype=torch.float32))
        assert head.raw_weight.requires_grad
        head.set_weight(3 * torch.tensor(code.W))
        assert sc.margin(head.weight.detach().double(), normalize=True).margin == pytest.approx(code.margin, abs=1e-6)
    with pytest.raises(ValueError, match=r"W must have shape \(12, 3\); got \(13, 3\)"):
        head.set_weight(sc.best_known(13, 3))


def test_a_riemannian_classifier_needs_a_sphere():
    with pytest.raises(ValueError, match="riemannian=True needs d >= 2 dimensions; got d = 1"):
        SphericalClassifier(3, 1, 0.1, riemannian=True)


@pytest.mark.parametrize("temperature", [torch.tensor(0.1), torch.nn.Parameter(torch.tensor(-0.1))])
def test_a_temperature_is_not_learned(temperature):
    with pytest.raises(ValueError, match="temperature must be a number, not a tensor"):
        SphericalClassifier(3, 2, temperature)


def test_class_means_that_never_move_are_warned_of_once(monkeypatch):
    monkeypatch.setattr("softmaxcode.nn.cmf.MANY_BATCHES", 3)
    head = CMFClassifier(4, 3, 0.1, seed=0)
    H, y = torch.randn(8, 3), torch.arange(8) % 4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            head(H, y)
        head.step()
        for _ in range(3):
            head(H, y)
    with pytest.warns(UserWarning, match=r"4 batches are pending .* call step\(\)"):
        head(H, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        head(H, y)


def test_a_step_with_nothing_collected_is_warned_of():
    head = CMFClassifier(4, 3, 0.1, seed=0)
    body = torch.nn.Linear(5, 3)
    optimizer = torch.optim.SGD(body.parameters(), lr=0.1)
    head.attach(optimizer)
    torch.nn.functional.cross_entropy(head(body(torch.randn(8, 5))), torch.arange(8) % 4).backward()
    with pytest.warns(UserWarning, match=r"no features are pending: .* head\(features, labels\) collects them"):
        optimizer.step()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_is_no_direction_for_a_class_mean(dtype):
    head = CMFClassifier(50, 4, 0.1, momentum=0.5, seed=0).to(dtype)
    head.weight.copy_(torch.nn.functional.normalize(head.weight))
    before = head.weight.clone()
    head(-before, torch.arange(50))
    head.step()
    assert torch.equal(head.weight, before)
    head.set_class_means([(torch.cat([before, -before]), torch.arange(100) % 50)])
    assert torch.equal(head.weight, before)
