"""Objectives and gradients of a batch of runs, against dense double precision and autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ufm import objective as module
from ufm.objective import Objective
from ufm.parallel import Shard

SMOOTH = ("log-cross-entropy", "cross-entropy")


def rows(counts, d, B=1, seed=0, dtype=torch.float64, unit=True):
    """W (B, K, d), H (B, N, d) and the labels of the features, those of class 0 first."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((B, len(counts) + sum(counts), d))
    if unit:
        X /= np.linalg.norm(X, axis=2, keepdims=True)
    W, H = torch.tensor(X, dtype=dtype).split([len(counts), sum(counts)], dim=1)
    return W, H, torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))


def dense(kind: str, W: Tensor, H: Tensor, labels: Tensor, tau: float, decay: float = 0.0) -> Tensor:
    """The objective of one run from its definition, all logit margins stored, for autograd."""
    negative_margins = H @ W.T - (H * W[labels]).sum(1, keepdim=True)
    own = torch.zeros_like(negative_margins, dtype=torch.bool).scatter_(1, labels[:, None], True)
    s = (negative_margins / tau).masked_fill(own, -torch.inf).logsumexp(1)
    penalty = decay / 2 * (W.square().sum() + H.square().sum())
    if kind == "hardmax":
        return negative_margins.masked_fill(own, -torch.inf).amax()
    if kind == "cross-entropy":
        return torch.nn.functional.cross_entropy(H @ W.T / tau, labels) + penalty
    # log(log(1 + e^s)) is s, to less than rounding, where e^s is small
    logs = torch.where(s < -40, s, torch.nn.functional.softplus(s.clamp(min=-40), threshold=40).log())
    return tau * (logs.logsumexp(0) - np.log(len(labels))) + penalty


def wanted(kind, W, H, labels, taus, decay=0.0):
    """Values and gradients of every run in double precision."""
    W, H = W.double().requires_grad_(), H.double().requires_grad_()
    values = torch.stack([dense(kind, w, h, labels, tau, decay) for w, h, tau in zip(W, H, taus, strict=True)])
    return values.detach(), *torch.autograd.grad(values.sum(), (W, H))


def assert_equal(found, expected, tolerance):
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=0, atol=tolerance * max(1.0, float(b.abs().max())))


@pytest.fixture(params=["dense", "in chunks", "tiled"])
def route(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the ways in which logits are computed."""
    if request.param == "in chunks":
        monkeypatch.setitem(module.CHUNK, "cpu", 1)
    if request.param == "tiled":
        monkeypatch.setattr(module, "SMALL", 0)
        monkeypatch.setattr(Objective, "_dense", lambda *_: pytest.fail("the logits were stored"))
    else:
        monkeypatch.setattr(Objective, "_tiled", lambda *_: pytest.fail("the logits were not stored"))
    return str(request.param)


@pytest.mark.parametrize("kind", SMOOTH)
@pytest.mark.parametrize("counts", [[1, 1], [3, 3, 3], [1, 4, 2, 7, 1], [2] * 30], ids=str)
@pytest.mark.parametrize("decay", [0.0, 0.03])
def test_values_and_gradients_are_those_of_the_definition(kind, counts, decay, route):
    taus = [1.0, 0.2, 0.05]
    W, H, labels = rows(counts, 4, len(taus), seed=len(counts), unit=not decay)
    objective = Objective(kind, labels, len(labels), decay, Shard.alone(len(counts)))
    before = W.clone(), H.clone()
    found = objective(W, H, torch.tensor(taus, dtype=torch.float64))
    assert_equal(found, wanted(kind, W, H, labels, taus, decay), 1e-12)
    assert torch.equal(W, before[0]) and torch.equal(H, before[1])


@pytest.mark.parametrize("kind", SMOOTH)
def test_single_precision_is_that_of_the_logits(kind, route):
    taus = [1.0, 0.05]
    W, H, labels = rows([2, 1, 3, 1], 5, 2, seed=3, dtype=torch.float32)
    found = Objective(kind, labels, 7, 0.0, Shard.alone(4))(W, H, torch.tensor(taus))
    assert all(part.dtype == torch.float32 for part in found)
    assert_equal(found, wanted(kind, W, H, labels, taus), 1e-4)  # 1.2e-7 / 0.05, twenty times


@given(
    st.lists(st.integers(1, 4), min_size=2, max_size=7),
    st.integers(2, 5),
    st.floats(-4, 3),
    st.integers(0, 2**32 - 1),
)
def test_log_loss_is_right_at_every_temperature(counts, d, exponent, seed):
    tau = 10.0**exponent
    W, H, labels = rows(counts, d, seed=seed)
    found = Objective("log-cross-entropy", labels, len(labels), 0.0, Shard.alone(len(counts)))(
        W, H, torch.tensor([tau], dtype=torch.float64)
    )
    expected = wanted("log-cross-entropy", W, H, labels, [tau])
    # a cosine's rounding is divided by tau in the weights of the gradient
    assert_equal(found[:1], expected[:1], 1e-14 * max(1.0, tau))
    assert_equal(found[1:], expected[1:], 1e-14 / min(tau, 0.1))


@pytest.mark.parametrize("tau", [1e-4, 1e-6, 1e-100, 1e-300])
@pytest.mark.parametrize("n", [1, 3])
def test_small_temperatures_neither_overflow_nor_lose_the_gradient(tau, n, route):
    # at the cross-polytope with features at their classes, each negative logit margin is -1 or -2
    W = torch.cat([torch.eye(3), -torch.eye(3)]).double()[None]
    H, labels = W.repeat_interleave(n, dim=1), torch.arange(6).repeat_interleave(n)
    temperature = torch.tensor([tau], dtype=torch.float64)
    value, grad_W, grad_H = Objective("log-cross-entropy", labels, 6 * n, 0.0, Shard.alone(6))(W, H, temperature)
    # log L = log(4 e^(-1/tau) + ...), each feature's fraction 1 / (6 n), each of four wrong classes a quarter of it
    assert float(value) == pytest.approx(-1 + tau * np.log(4), rel=1e-12)
    expected = -W.repeat_interleave(n, dim=1) / (6 * n)
    # a common offset of all features cancels against log L up to its rounding, which is that of 1 / tau
    scale = 1.0 if tau > 1e-15 else float(-grad_H[0, 0, 0]) * 6 * n
    assert 1 / (6 * n) <= scale <= 6 * n
    tolerance = max(1e-12, 1e-15 / tau) if tau > 1e-15 else 1e-12
    torch.testing.assert_close(grad_H, scale * expected, rtol=0, atol=tolerance)
    torch.testing.assert_close(grad_W, -scale * W / 6, rtol=0, atol=tolerance)
    underflown = Objective("cross-entropy", labels, 6 * n, 0.0, Shard.alone(6))(W, H, temperature)
    assert all(float(part.abs().max()) == 0 for part in underflown)  # why the logarithm is taken


def test_a_feature_far_on_the_wrong_side_takes_the_whole_gradient(route):
    W = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]], dtype=torch.float64)
    H = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]], dtype=torch.float64)  # the second is of class 1
    found = Objective("log-cross-entropy", torch.tensor([0, 1]), 2, 0.0, Shard.alone(2))(
        W, H, torch.tensor([1e-4], dtype=torch.float64)
    )
    # L = (2 / tau + ~0) / 2, so that tau log L has the gradient tau d s / s, s = 2 / tau
    assert float(found.values) == pytest.approx(1e-4 * np.log(1e4), rel=1e-12)
    torch.testing.assert_close(
        found.grad_H[0], torch.tensor([[0.0, 0.0], [1e-4, 0.0]], dtype=torch.float64), rtol=1e-10, atol=0
    )


@given(
    st.lists(st.integers(1, 3), min_size=2, max_size=7),
    st.integers(2, 4),
    st.integers(0, 2**32 - 1),
    st.integers(1, 3),
)
def test_hardmax_and_a_subgradient_of_it(counts, d, seed, B):
    W, H, labels = rows(counts, d, B, seed)
    objective = Objective("hardmax", labels, len(labels), 0.0, Shard.alone(len(counts)))
    found = objective(W, H, torch.ones(B, dtype=torch.float64))
    # random rows have one largest negative logit margin, where hardmax is differentiable
    assert_equal(found, wanted("hardmax", W, H, labels, [1.0] * B), 1e-14)


def test_log_loss_tends_to_hardmax():
    W, H, labels = rows([2, 3, 1, 2], 3, seed=8)
    kinds = {kind: Objective(kind, labels, 8, 0.0, Shard.alone(4)) for kind in ("log-cross-entropy", "hardmax")}
    for tau in (1e-2, 1e-4):
        temperature = torch.tensor([tau], dtype=torch.float64)
        smooth, sharp = (kinds[kind](W, H, temperature).values for kind in ("log-cross-entropy", "hardmax"))
        if float(sharp) < 0:  # every feature on its side: T6 (a)
            assert float(sharp) - tau * np.log(8) - 1e-12 <= float(smooth) <= float(sharp) + tau * np.log(3) + 1e-12
        else:  # the loss is then at least log 2 / N, and no larger than the negative logit margin over tau
            assert -tau * np.log(8 / np.log(2)) <= float(smooth) <= tau * np.log(3 + float(sharp) / tau)
