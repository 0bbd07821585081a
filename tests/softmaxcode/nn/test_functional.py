"""Tiled cross-entropy, log-odds and HardMax against dense float64, far beyond where the loss underflows, and memory."""

from __future__ import annotations

import math
import shutil

import flint
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch._dynamo.testing import CompileCounter
from torch.nn.functional import cross_entropy, normalize
from torch.profiler import ProfilerActivity, profile

from benchmarks import cross_entropy as benchmark
from softmaxcode.nn import functional as sf
from softmaxcode.nn import tiles

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.cuda),
]


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """A 13 x 7 batch crosses nine tiles, some of one row or one column."""
    monkeypatch.setattr(tiles, "CPU_TILE", 10)
    monkeypatch.setattr(tiles, "ACCELERATOR_TILE", 10)


def problem(N, K, d, seed=0, dtype=torch.float64, device="cpu"):
    generator = torch.Generator().manual_seed(seed)
    h, w = (torch.randn(n, d, generator=generator, dtype=torch.float64) for n in (N, K))
    y = torch.randint(K, (N,), generator=generator)
    return h.to(device, dtype).requires_grad_(), w.to(device, dtype).requires_grad_(), y.to(device)


def separated(dtype, noise=0.05):
    """Every sample near its own class's row, so that the loss underflows at a small temperature."""
    _, w, y = problem(30, 12, 16)
    h = w[y] + noise * torch.randn(30, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return h.detach().to(dtype).requires_grad_(), w.detach().to(dtype).requires_grad_(), y


def dense_log_odds(h, w, y, tau):
    """From the definition, in double precision."""
    cosines = normalize(h.double()) @ normalize(w.double()).T
    own = cosines.gather(1, y[:, None])
    return ((cosines - own) / tau).scatter(1, y[:, None], -math.inf).logsumexp(1)


def gradients(loss: Tensor, h: Tensor, w: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, (h, w)))


def close(found, wanted, rtol):
    """Each tensor within rtol of the largest entry wanted."""
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a.double(), b.double(), rtol=0, atol=rtol * max(1e-300, b.abs().max().item()))


# Values and gradients


@given(
    st.integers(1, 40),
    st.integers(2, 40),
    st.integers(1, 6),
    st.sampled_from([2, 10, 50, 300, 2**20]),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.05, 0.3, 2.0]),
)
def test_equals_dense_cross_entropy_at_every_shape_and_tile(N, K, d, entries, seed, tau):
    h, w, y = problem(N, K, d, seed)
    logits = normalize(h) @ normalize(w).T / tau
    upstream = torch.from_numpy(np.random.default_rng(seed).normal(size=N))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "CPU_TILE", entries)
        losses = sf.spherical_cross_entropy(h, w, y, tau, reduction="none")
        found = gradients(losses @ upstream, h, w)
    wanted = cross_entropy(logits, y, reduction="none")
    torch.testing.assert_close(losses, wanted, rtol=1e-9, atol=1e-11)
    for a, b in zip(found, gradients(wanted @ upstream, h, w), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-11 / tau)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_reductions_and_their_logarithms(reduction, device):
    h, w, y = problem(13, 7, 4, device=device)
    for log in (False, True):
        wanted = cross_entropy(normalize(h) @ normalize(w).T / 0.2, y, reduction=reduction)
        found = sf.spherical_cross_entropy(h, w, y, 0.2, reduction=reduction, log=log)
        expected = wanted.log() if log else wanted
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        close(gradients(found, h, w), gradients(expected, h, w), 1e-12)


def test_log_of_each_sample_is_the_log_of_its_loss():
    h, w, y = problem(13, 7, 4)
    losses = sf.spherical_cross_entropy(h, w, y, 0.2, reduction="none")
    logs = sf.spherical_cross_entropy(h, w, y, 0.2, reduction="none", log=True)
    torch.testing.assert_close(logs, losses.log(), rtol=1e-12, atol=1e-12)


def test_without_normalize_rows_are_taken_as_they_are():
    h, w, y = problem(13, 7, 4)
    wanted = cross_entropy(h @ w.T / 0.7, y)
    found = sf.spherical_cross_entropy(h, w, y, 0.7, normalize=False)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    close(gradients(found, h, w), gradients(wanted, h, w), 1e-12)


@pytest.mark.usefixtures("small_tiles")
def test_gradcheck():
    h, w, y = problem(6, 5, 3)
    for log in (False, True):
        assert torch.autograd.gradcheck(lambda h, w: sf.spherical_cross_entropy(h, w, y, 0.3, log=log), (h, w))  # noqa: B023
    assert torch.autograd.gradcheck(lambda h, w: sf.log_odds_against(h, w, y, 0.3), (h, w))
    assert torch.autograd.gradcheck(lambda h, w: sf.hardmax_loss(h, w, y, reduction="none"), (h, w))


@pytest.mark.usefixtures("small_tiles")
def test_duplicated_rows_and_labels_of_one_class():
    h, w, _ = problem(13, 7, 4)
    w = w.detach()[torch.tensor([0, 0, 0, 3, 3, 5, 6])].requires_grad_()
    y = torch.full((13,), 2)
    s, wanted = sf.log_odds_against(h, w, y, 0.1), dense_log_odds(h, w, y, 0.1)
    torch.testing.assert_close(s, wanted, rtol=1e-12, atol=1e-12)
    assert (s >= math.log(2) - 1e-12).all()  # two wrong classes at odds 1
    close(gradients(s.sum(), h, w), gradients(wanted.sum(), h, w), 1e-12)


@pytest.mark.usefixtures("small_tiles")
def test_two_classes_and_one_sample():
    h, w, y = problem(1, 2, 3)
    wanted = (normalize(w)[1 - y] - normalize(w)[y]) @ normalize(h)[0] / 0.1
    torch.testing.assert_close(sf.log_odds_against(h, w, y, 0.1), wanted)


def test_a_row_of_zeros_has_every_class_at_odds_one():
    h, w, y = problem(3, 5, 4)
    h = torch.zeros_like(h).requires_grad_()
    s = sf.log_odds_against(h, w, y, 0.1)
    torch.testing.assert_close(s, torch.full_like(s, math.log(4)))
    assert all(torch.isfinite(g).all() for g in gradients(s.sum(), h, w))


def test_any_integer_labels_and_any_strides():
    h, w, y = problem(13, 7, 4)
    wanted = sf.log_odds_against(h, w, y, 0.1)
    for dtype in (torch.uint8, torch.int32):
        assert torch.equal(sf.log_odds_against(h, w, y.to(dtype), 0.1), wanted)
    strided = w.detach().T.contiguous().T.requires_grad_()
    torch.testing.assert_close(sf.log_odds_against(h, strided, y, 0.1), wanted)


# Small temperatures


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("tau", [1e-3, 1e-4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_where_the_loss_underflows_its_logarithm_and_gradient_are_right(dtype, tau):
    h, w, y = separated(dtype)
    s = dense_log_odds(h, w, y, tau)
    loss = sf.spherical_cross_entropy(h, w, y, tau)
    assert (loss == 0) == (dtype == torch.float32 or tau == 1e-4)  # float64 reaches down to e^-745
    assert all(torch.isfinite(g).all() for g in gradients(loss, h, w))
    rounding = 8 * torch.finfo(dtype).eps / tau
    found = sf.spherical_cross_entropy(h, w, y, tau, log=True)
    wanted = s.logsumexp(0) - math.log(len(s))  # log(log(1 + e^s)) is s at such s
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=rounding)
    close(gradients(found, h, w), gradients(wanted, h, w), rounding)
    each = sf.spherical_cross_entropy(h, w, y, tau, log=True, reduction="none")
    torch.testing.assert_close(each.double(), s, rtol=0, atol=rounding)


@pytest.mark.parametrize("tau", [1e-3, 1e-4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_wrong_predictions_at_small_temperatures(dtype, tau):
    h, w, y = problem(20, 9, 5, dtype=dtype)
    wanted = cross_entropy(normalize(h.double()) @ normalize(w.double()).T / tau, y)
    found = sf.spherical_cross_entropy(h, w, y, tau)
    rounding = 8 * torch.finfo(dtype).eps / tau
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=rounding)
    close(gradients(found, h, w), gradients(wanted, h, w), rounding)
    log = sf.spherical_cross_entropy(h, w, y, tau, log=True)
    torch.testing.assert_close(log.double(), wanted.log(), rtol=0, atol=rounding / wanted.item())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def testlog_softplus_and_its_derivative_over_the_whole_range(dtype):
    around = [sf.FAR + step for step in (-1.0, -1e-3, 0.0, 1e-3, 1.0)]
    s = torch.tensor([-1e4, -745.5, -104.0, -88.0, *around, -20.0, -1.0, 0.0, 1.0, 20.0, 88.0, 1e4], dtype=dtype)
    s.requires_grad_()
    found = sf.log_softplus(s)
    (slope,) = torch.autograd.grad(found.sum(), s)
    with flint.ctx.workprec(200):
        exact = [flint.arb(x) for x in s.tolist()]
        softplus = [x.exp().log1p() for x in exact]
        values = torch.tensor([float(x.log()) for x in softplus], dtype=torch.float64)
        slopes = torch.tensor([float(1 / (1 + (-x).exp()) / p) for x, p in zip(exact, softplus, strict=True)])
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(found.double(), values, rtol=4 * eps, atol=4 * eps)
    torch.testing.assert_close(slope.double(), slopes.double(), rtol=max(8 * eps, 2e-7), atol=0)


@given(
    st.integers(1, 20),
    st.integers(2, 20),
    st.integers(1, 5),
    st.integers(0, 2**32 - 1),
    st.sampled_from([1e-4, 0.1, 3.0]),
)
def test_cross_entropy_is_a_smoothed_hardmax(N, K, d, seed, tau):
    """docs/theory.md, T6 (a), in logarithms and so at any temperature."""
    h, w, y = problem(N, K, d, seed)
    worst = sf.hardmax_loss(h, w, y).item() / tau
    log_loss = sf.spherical_cross_entropy(h, w, y, tau, log=True).item()

    def log_softplus(s):
        return s if s < -40 else math.log(np.logaddexp(0, s))

    slack = 1e-12 / tau
    assert log_softplus(worst) - math.log(N) - slack <= log_loss <= log_softplus(worst + math.log(K - 1)) + slack


# HardMax


@pytest.mark.parametrize("device", DEVICES)
@given(
    st.integers(1, 30),
    st.integers(2, 30),
    st.integers(1, 5),
    st.sampled_from([2, 10, 2**20]),
    st.integers(0, 2**32 - 1),
)
def test_hardmax_equals_dense(device, N, K, d, entries, seed):
    h, w, y = problem(N, K, d, seed, device=device)
    unit_h, unit_w = normalize(h), normalize(w)
    negative_margins = ((unit_w[None] - unit_w[y][:, None]) * unit_h[:, None]).sum(2)
    wanted = negative_margins.scatter(1, y[:, None], -math.inf).amax(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "CPU_TILE", entries)
        patch.setattr(tiles, "ACCELERATOR_TILE", entries)
        each, largest = sf.hardmax_loss(h, w, y, reduction="none"), sf.hardmax_loss(h, w, y)
    torch.testing.assert_close(each, wanted, rtol=0, atol=1e-14)
    assert largest == each.max()
    if d > 1:  # no ties
        upstream = torch.from_numpy(np.random.default_rng(seed).normal(size=N)).to(device)
        for a, b in zip(gradients(each @ upstream, h, w), gradients(wanted @ upstream, h, w), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


def test_of_equal_wrong_classes_one_gets_the_subgradient():
    h = torch.tensor([[0.6, 0.8]])
    w = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], requires_grad=True)
    loss = sf.hardmax_loss(h, w, torch.tensor([0]), normalize=False)
    assert loss.item() == pytest.approx(0.2)
    (found,) = torch.autograd.grad(loss, w)
    assert torch.equal(found[:1], -h)
    assert torch.equal(found[1:].sum(0, keepdim=True), h)
    assert (found[1:].abs().sum(1) == 0).sum() == 1


def test_hardmax_of_a_square_is_minus_its_margin():
    W = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    assert sf.hardmax_loss(W, W, torch.arange(4)).item() == -1.0


# Memory and work


def profiled(compute):
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        compute()
    events = profiler.events()
    largest = max(event.self_cpu_memory_usage for event in events)
    return largest, sum("mm" in event.name for event in events)


@pytest.mark.parametrize(
    "compute",
    [
        lambda h, w, y: sf.spherical_cross_entropy(h, w, y, 0.1),
        lambda h, w, y: sf.spherical_cross_entropy(h, w, y, 0.1, log=True),
        sf.hardmax_loss,
    ],
    ids=["cross entropy", "log", "hardmax"],
)
def test_nothing_of_the_size_of_the_logits_is_allocated(compute, monkeypatch):
    monkeypatch.setattr(tiles, "CPU_TILE", 2**18)
    h, w, y = problem(4096, 4096, 8, dtype=torch.float32)
    assert profiled(lambda: compute(h, w, y).backward())[0] == 4 * 2**18


def test_the_profiler_sees_the_logits_where_they_are_allocated():
    h, w, y = problem(1024, 1024, 8, dtype=torch.float32)
    assert profiled(lambda: cross_entropy(h @ w.T, y).backward())[0] >= 4 * 1024**2


def test_a_gradient_that_is_not_needed_costs_no_product():
    h, w, y = problem(30, 20, 4)  # one tile

    def products(h, w):
        return profiled(lambda: sf.spherical_cross_entropy(h, w, y, 0.1).backward())[1]

    assert products(h, w) == 4
    assert products(h, w.detach()) == 3
    assert products(h.detach(), w) == 3
    with torch.no_grad():
        assert profiled(lambda: sf.spherical_cross_entropy(h, w, y, 0.1))[1] == 1


def test_tiles_cover_small_and_large_problems():
    cpu = torch.device("cpu")
    assert tiles.sides(10**5, 10**5, cpu) == (math.isqrt(tiles.CPU_TILE), math.isqrt(tiles.CPU_TILE))
    assert tiles.sides(64, 10**5, cpu) == (64, tiles.CPU_TILE // 64)
    assert tiles.sides(10**6, 10, cpu) == (tiles.CPU_TILE // 10, 10)
    assert tiles.sides(3, 5, cpu) == (3, 5)


# Precision


def test_autocast_computes_in_the_dtype_of_the_weight():
    h, w, y = problem(13, 7, 4, dtype=torch.float32)
    wanted = gradients(sf.spherical_cross_entropy(h, w, y, 0.01), h, w)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = sf.spherical_cross_entropy(h, w, y, 0.01)
        assert loss.dtype == torch.float32
        found = gradients(loss, h, w)  # the backward pass too
        assert torch.equal(sf.hardmax_loss(h, w, y), sf.hardmax_loss(h.float(), w, y))
        from_half = sf.spherical_cross_entropy(h.bfloat16(), w, y, 0.01)
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    torch.testing.assert_close(from_half, sf.spherical_cross_entropy(h.bfloat16().float(), w, y, 0.01))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    h, w, y = problem(13, 7, 4, dtype=dtype)
    loss = sf.spherical_cross_entropy(h, w, y, 0.01)
    assert loss.dtype == torch.float32
    h32, w32 = (x.detach().float().requires_grad_() for x in (h, w))
    wanted = sf.spherical_cross_entropy(h32, w32, y, 0.01)
    assert torch.equal(loss, wanted)
    found, expected = gradients(loss, h, w), gradients(wanted, h32, w32)
    assert all(torch.equal(a, b.to(dtype)) for a, b in zip(found, expected, strict=True))


@pytest.mark.cuda
@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("log", [False, True])
def test_cuda_equals_cpu(log):
    on_cpu = problem(50, 40, 6)
    on_cuda = problem(50, 40, 6, device="cuda")
    for tau in (1.0, 1e-3):
        a, b = (sf.spherical_cross_entropy(*args, tau, log=log) for args in (on_cpu, on_cuda))
        torch.testing.assert_close(a, b.cpu(), rtol=1e-10, atol=1e-10)
        close([g.cpu() for g in gradients(b, *on_cuda[:2])], gradients(a, *on_cpu[:2]), 1e-9)


# torch.compile and the operators


def all_losses(h, w, y, tau):
    loss, log = (sf.spherical_cross_entropy(h, w, y, tau, log=log) for log in (False, True))
    return loss + log + sf.hardmax_loss(h, w, y)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize(
    "backend",
    [
        "aot_eager",
        pytest.param(
            "inductor",
            marks=[
                pytest.mark.slow,
                pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile on a CPU needs a C++ compiler"),
            ],
        ),
    ],
)
def test_compiled_without_a_graph_break_equals_eager(backend):
    torch._dynamo.reset()
    compiled = torch.compile(all_losses, fullgraph=True, backend=backend, dynamic=True)
    for N, tau in ((13, 0.1), (9, 0.2)):
        h, w, y = problem(N, 7, 4)
        found, wanted = compiled(h, w, y, tau), all_losses(h, w, y, tau)
        torch.testing.assert_close(found, wanted)
        close(gradients(found, h, w), gradients(wanted, h, w), 1e-12)
        if backend == "aot_eager":  # another graph, which takes Inductor as long as the first
            (fixed,) = torch.autograd.grad(compiled(h, w.detach(), y, tau), h)
            torch.testing.assert_close(fixed, gradients(all_losses(h, w, y, tau), h, w)[0])
    h, w, y = problem(9, 7, 4)
    with pytest.raises(ValueError, match="row 2 has label 7"):
        compiled(h, w, y.index_fill(0, torch.tensor(2), 7), 0.2)
    with pytest.raises(ValueError, match="features must be finite; row 4 "):
        compiled(h.detach().index_fill(0, torch.tensor(4), math.nan).requires_grad_(), w, y, 0.2)


def test_an_annealed_temperature_is_not_compiled_anew_for_every_value():
    h, w, y = problem(9, 7, 4)
    counter = CompileCounter()
    compiled = torch.compile(sf.spherical_cross_entropy, backend=counter, fullgraph=True)
    for temperature in np.geomspace(1, 0.001, 12).tolist():
        torch.testing.assert_close(compiled(h, w, y, temperature), sf.spherical_cross_entropy(h, w, y, temperature))
    assert counter.frame_count <= 2


@pytest.mark.usefixtures("small_tiles")
def test_operators_pass_the_library_checks():
    h, w, y = problem(13, 7, 4)
    torch.library.opcheck(tiles._log_odds, (h, w, y, True))
    torch.library.opcheck(tiles._best_wrong_class, (h.detach(), w.detach(), y, True))
    saved = torch.zeros(13, dtype=torch.float64), torch.ones(13, dtype=torch.float64)
    for needed in ((True, True), (True, False), (False, True)):
        args = (saved[0], h.detach(), w.detach(), y, *saved, *needed)
        torch.library.opcheck(tiles._log_odds_backward, args, test_utils=("test_schema", "test_faketensor"))


def test_without_gradients_the_values_are_the_same():
    h, w, y = problem(13, 7, 4)
    wanted = all_losses(h, w, y, 0.1).detach()
    with torch.inference_mode():
        assert torch.equal(all_losses(h, w, y, 0.1), wanted)


def test_a_second_derivative_is_refused():
    h, w, y = problem(5, 4, 3)
    (g,) = torch.autograd.grad(sf.log_odds_against(h, w, y, 0.1).sum(), h, create_graph=True)
    with pytest.raises(RuntimeError, match="log_odds_against_backward"):
        torch.autograd.grad(g.sum(), h)


# Errors

GOOD = {"features": torch.ones(3, 4), "weight": torch.eye(4)[:2], "labels": torch.tensor([0, 1, 0])}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"labels": torch.tensor([0, 2, 0])}, "from 0 to 1 .*row 1 has label 2"),
        ({"labels": torch.tensor([-1, 1, 0])}, "row 0 has label -1"),
        ({"labels": torch.tensor([0, 1])}, r"labels must have shape \(3,\)"),
        ({"labels": torch.tensor([0.0, 1.0, 0.0])}, "labels must be integers; got torch.float32"),
        ({"features": torch.ones(3, 5)}, r"features must have shape \(N, 4\); got \(3, 5\)"),
        ({"features": torch.full((3, 4), math.nan)}, "features must be finite; row 0"),
        ({"features": torch.ones(3, 4).double()}, "features and weight must have one dtype"),
        ({"features": torch.ones(0, 4), "labels": torch.ones(0, dtype=torch.long)}, "an empty batch"),
        ({"weight": torch.full((2, 4), math.inf)}, "weight must be finite; row 0"),
        ({"weight": torch.ones(1, 4)}, r"weight must have at least two rows.*\(1, 4\)"),
    ],
)
@pytest.mark.parametrize(
    "loss",
    [
        lambda **tensors: sf.spherical_cross_entropy(**tensors, temperature=0.1),
        lambda **tensors: sf.log_odds_against(**tensors, temperature=0.1),
        sf.hardmax_loss,
    ],
    ids=["cross entropy", "log-odds", "hardmax"],
)
def test_errors_say_what_came(loss, wrong, message):
    loss(**GOOD)
    with pytest.raises(ValueError, match=message):
        loss(**GOOD | wrong)


@pytest.mark.parametrize("tensor", ["weight", "labels"])
def test_mixed_devices_are_refused(tensor, monkeypatch):
    # a device without values stands in for another; the checks of values come first and need some
    monkeypatch.setattr("softmaxcode.checks.tensors.check_dense", lambda tensor, *_: tensor)
    monkeypatch.setattr("softmaxcode.checks.tensors.check_finite", lambda *_, **__: None)
    monkeypatch.setattr("softmaxcode.checks.tensors.check_label_range", lambda *_: None)
    with pytest.raises(ValueError, match=f"features and {tensor} must be on one device; got cpu and meta"):
        sf.hardmax_loss(**GOOD | {tensor: GOOD[tensor].to("meta")})


@pytest.mark.parametrize("temperature", [0, -1.0, math.nan, "0.1"])
def test_a_temperature_must_be_above_zero(temperature):
    with pytest.raises(ValueError, match="temperature must be a finite number above 0"):
        sf.spherical_cross_entropy(**GOOD, temperature=temperature)


def test_an_unknown_reduction_is_refused():
    with pytest.raises(ValueError, match="reduction must be one of 'mean', 'sum', 'none'; got 'max'"):
        sf.spherical_cross_entropy(**GOOD, temperature=0.1, reduction="max")
    with pytest.raises(ValueError, match="reduction must be one of 'max', 'none'; got 'mean'"):
        sf.hardmax_loss(**GOOD, reduction="mean")


# The benchmark


def test_benchmark_table_at_a_tiny_size(monkeypatch):
    monkeypatch.setattr(benchmark, "peak", benchmark.peak_here)  # no fresh processes: they are tried below
    table = benchmark.table([40], 8, "cpu", repeats=1).set_index("loss")
    assert list(table.index) == list(benchmark.LOSSES)
    ran = table.loc[["softmaxcode", "dense"]]
    assert (ran["error of the gradients"].astype(float) < 1e-5).all()
    assert (ran["error of the loss"].astype(float) < 1e-5).all()
    assert ran.loc["dense", "times dense"] == "1.00"
    assert (table.loc[list(benchmark.CUDA_ONLY), "s"] == "not run: no CUDA device").all()


def test_benchmark_measures_the_peak_of_a_fresh_process():
    table = benchmark.large_table(40, 8, "cpu")
    assert table["loss"].item() == "softmaxcode"
    assert 0 < float(table["peak, GB"].item())
    assert float(table["beyond inputs, GB"].item()) < float(table["peak, GB"].item())


@pytest.mark.parametrize(("dtype", "temperature"), [(torch.float32, 1e-39), (torch.float64, 1e-310)])
def test_a_temperature_whose_logits_overflow_is_refused(dtype, temperature):
    h, w, y = problem(5, 4, 3, dtype=dtype)
    with pytest.raises(ValueError, match=f"too small for {dtype}"):
        sf.spherical_cross_entropy(h, w, y, temperature)
