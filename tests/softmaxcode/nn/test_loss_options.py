"""Options of the cross-entropy, learned temperatures and the largest logits: against dense float64 PyTorch."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from softmaxcode.nn import CMFClassifier, CodeClassifier, SphericalClassifier, tiles
from softmaxcode.nn.functional import spherical_cross_entropy

IGNORED = -7


def problem(N: int, K: int, d: int, seed: int, ignored: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    h, w = (torch.randn(n, d, generator=generator, dtype=torch.float64).requires_grad_() for n in (N, K))
    y = torch.randint(K, (N,), generator=generator)
    y[torch.rand(N, generator=generator) < ignored] = IGNORED
    return h, w, y


def dense(
    h: Tensor,
    w: Tensor,
    y: Tensor,
    tau: float | Tensor,
    *,
    reduction: str = "mean",
    log: bool = False,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    class_weights: Tensor | None = None,
    cosine_margin: float = 0.0,
    angular_margin: float = 0.0,
) -> Tensor:
    """From the definitions, with the N x K logits and PyTorch's own cross-entropy."""
    cosines = normalize(h) @ normalize(w).T
    rows = y.clamp(min=0)[:, None]
    own = cosines.gather(1, rows)
    angle = own.clamp(-1 + 1e-15, 1 - 1e-15).acos()
    beyond = own - angular_margin * math.sin(angular_margin)
    target = torch.where(angle + angular_margin > math.pi, beyond, (angle + angular_margin).cos()) - cosine_margin
    logits = cosines.scatter(1, rows, target if angular_margin or cosine_margin else own) / tau
    options: dict[str, Any] = {"weight": class_weights, "label_smoothing": label_smoothing, "reduction": reduction}
    loss = cross_entropy(logits, y, ignore_index=IGNORED if ignore_index is None else ignore_index, **options)
    return loss.log() if log else loss


@st.composite
def options(draw: Any, K: int) -> dict[str, Any]:
    """Each option alone, or several."""
    chosen: dict[str, Any] = {"reduction": draw(st.sampled_from(["mean", "sum", "none"])), "log": draw(st.booleans())}
    if draw(st.booleans()):
        chosen["label_smoothing"] = draw(st.sampled_from([0.05, 0.5, 0.9]))
    if draw(st.booleans()):
        generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
        chosen["class_weights"] = torch.rand(K, generator=generator, dtype=torch.float64) + 0.1
    if draw(st.booleans()):
        chosen["cosine_margin"] = draw(st.sampled_from([0.1, 0.35, 1.5]))
    if draw(st.booleans()):
        chosen["angular_margin"] = draw(st.sampled_from([0.1, 0.5, 2.0, 3.0]))
    return chosen


@given(
    st.integers(1, 30),
    st.integers(2, 30),
    st.integers(2, 6),
    st.sampled_from([2, 10, 50, 300, 2**20]),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.1, 0.3, 2.0]),
    st.booleans(),
    st.data(),
)
def test_every_combination_equals_dense(
    N: int, K: int, d: int, entries: int, seed: int, tau: float, ignore: bool, data: Any
) -> None:
    h, w, y = problem(N, K, d, seed, 0.3 if ignore else 0.0)
    chosen = data.draw(options(K))
    if ignore:
        y[0] = seed % K  # one counts
        chosen["ignore_index"] = IGNORED
    if chosen["reduction"] == "none":
        chosen["log"] = False  # the logarithm of an ignored sample is -inf
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "CPU_TILE", entries)
        found = spherical_cross_entropy(h, w, y, tau, **chosen)
        grads = torch.autograd.grad(found.sum(), (h, w))
    wanted = dense(h, w, y, tau, **chosen)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)
    for ours, theirs in zip(grads, torch.autograd.grad(wanted.sum(), (h, w)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10 * max(1.0, theirs.abs().max().item()))


@pytest.mark.parametrize("log", [False, True])
def test_far_from_the_labels_of_others_the_logarithm_stays_exact(log: bool) -> None:
    """At tau = 1e-3 the loss underflows; weights and ignored samples only change the log-sum-exp."""
    w = torch.eye(4, dtype=torch.float64)
    y = torch.tensor([0, 1, IGNORED, 3])
    weights = torch.tensor([1.0, 2.0, 5.0, 0.0], dtype=torch.float64)
    found = spherical_cross_entropy(w, w, y, 1e-3, log=log, ignore_index=IGNORED, class_weights=weights)
    assert found.item() == (pytest.approx(math.log(3) - 1000, abs=1e-9) if log else 0)
    each = spherical_cross_entropy(w, w, y, 1e-3, log=True, reduction="none", ignore_index=IGNORED)
    assert each.tolist() == [each[0].item(), each[0].item(), -math.inf, each[0].item()]
    # a margin of the cosine of 0.4 lowers the label's logit by 400
    moved = spherical_cross_entropy(w, w, y, 1e-3, log=True, ignore_index=IGNORED, cosine_margin=0.4)
    assert moved.item() == pytest.approx(math.log(3) - 600, abs=1e-9)


def test_an_angular_margin_has_a_finite_gradient_at_the_class_vector() -> None:
    w = torch.eye(3, dtype=torch.float64, requires_grad=True)
    h = torch.eye(3, dtype=torch.float64, requires_grad=True)
    loss = spherical_cross_entropy(h, w, torch.arange(3), 0.1, angular_margin=0.5)
    assert loss.item() == pytest.approx(math.log1p(2 * math.exp(-10 * math.cos(0.5))), rel=1e-12)
    assert all(bool(grad.isfinite().all()) for grad in torch.autograd.grad(loss, (h, w)))


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_without_a_sample_that_counts_the_loss_is_zero(reduction: str, smoothing: float, log: bool) -> None:
    h, w, _ = problem(5, 4, 3, 0)
    y = torch.full((5,), IGNORED)
    chosen: dict[str, Any] = {"reduction": reduction, "label_smoothing": smoothing, "log": log}
    with pytest.warns(UserWarning, match="every label is ignore_index: the loss is 0, with zero gradients"):
        loss = spherical_cross_entropy(h, w, y, 0.1, ignore_index=IGNORED, **chosen)
    assert loss.item() == (-math.inf if log else 0)
    grads = torch.autograd.grad(loss, (h, w))
    assert all(not grad.any() for grad in grads)


def test_under_autocast_no_option_rounds_logits() -> None:
    h, w, y = (one.detach() for one in problem(9, 6, 4, 6))
    chosen: dict[str, Any] = {"label_smoothing": 0.3, "cosine_margin": 0.1, "angular_margin": 0.2}
    h, w = h.float(), w.float()
    plain = spherical_cross_entropy(h, w, y, 0.01, **chosen)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = spherical_cross_entropy(h.bfloat16().float(), w, y, 0.01, **chosen)
        found = spherical_cross_entropy(h, w, y, 0.01, **chosen)
    torch.testing.assert_close(found, plain, rtol=1e-6, atol=0)
    assert abs(rounded.item() - plain.item()) > 1e-3  # what rounding would do


def test_samples_in_several_dimensions() -> None:
    h, w, y = problem(12, 5, 3, 2)
    flat = spherical_cross_entropy(h, w, y, 0.2, reduction="none")
    deep = spherical_cross_entropy(h.reshape(3, 4, 3), w, y.reshape(3, 4), 0.2, reduction="none")
    torch.testing.assert_close(deep, flat.reshape(3, 4), rtol=0, atol=0)
    mean = spherical_cross_entropy(h.reshape(3, 2, 2, 3), w, y.reshape(3, 2, 2), 0.2)
    torch.testing.assert_close(mean, flat.mean(), rtol=1e-14, atol=0)
    head = CodeClassifier(normalize(w).detach().numpy(), 0.2)
    single = h.float().detach()
    logits = head(single.reshape(3, 4, 3))
    torch.testing.assert_close(logits, head(single).reshape(3, 4, 5), rtol=0, atol=0)


@pytest.mark.parametrize("fullgraph", [True])
def test_compiled_equals_eager(fullgraph: bool) -> None:
    h, w, y = problem(9, 6, 4, 3, 0.3)
    chosen: dict[str, Any] = {
        "ignore_index": IGNORED,
        "label_smoothing": 0.1,
        "class_weights": torch.rand(6, dtype=torch.float64) + 0.1,
        "cosine_margin": 0.2,
        "angular_margin": 0.3,
    }
    for log in (False, True):
        compiled = torch.compile(
            lambda h, w: spherical_cross_entropy(h, w, y, 0.3, log=log, **chosen),  # noqa: B023
            fullgraph=fullgraph,
            backend="aot_eager",
        )
        found, wanted = compiled(h, w), spherical_cross_entropy(h, w, y, 0.3, log=log, **chosen)
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
        for ours, theirs in zip(torch.autograd.grad(found, (h, w)), torch.autograd.grad(wanted, (h, w)), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"ignore_index": 3}, "ignore_index must not be one of the 5 classes; got 3"),
        ({"ignore_index": 1.5}, "ignore_index must be an integer"),
        ({"label_smoothing": 1.0}, "label_smoothing must be"),
        ({"label_smoothing": -0.1}, "label_smoothing must be"),
        (
            {"class_weights": [1.0, 2.0]},
            r"class_weights must have shape \(5,\), one real number per class; got .*\(2,\)",
        ),
        ({"class_weights": torch.ones(5, dtype=torch.complex64)}, "one real number per class; got torch.complex64"),
        ({"class_weights": ["a"] * 5}, "class_weights must be 5 numbers; got"),
        ({"class_weights": [None] * 5}, "class_weights must be 5 numbers; got"),
        ({"class_weights": [1.0, 2, 3, 4, -1]}, "class_weights must be finite and at least 0"),
        ({"class_weights": [1.0, 2, 3, 4, math.nan]}, "class_weights must be finite and at least 0"),
        ({"cosine_margin": -0.1}, "cosine_margin must be"),
        ({"angular_margin": math.pi}, "angular_margin must be"),
        ({"angular_margin": 0.1, "normalize": False}, "pass normalize=True"),
    ],
)
def test_options_out_of_range_are_refused(chosen: dict[str, Any], message: str) -> None:
    h, w, y = problem(4, 5, 3, 0)
    with pytest.raises(ValueError, match=message):
        spherical_cross_entropy(h, w, y, 0.1, **chosen)


def test_other_bad_input() -> None:
    h, w, y = problem(4, 5, 3, 0)
    y[2] = IGNORED
    with pytest.raises(ValueError, match="row 2 has label -7"):
        spherical_cross_entropy(h, w, y, 0.1)
    with pytest.raises(ValueError, match="features must have the shape of labels and one dimension more"):
        spherical_cross_entropy(h, w, y.reshape(2, 2), 0.1)
    with pytest.raises(ValueError, match="temperature must be a number or a scalar tensor"):
        spherical_cross_entropy(h, w, y, torch.ones(2), ignore_index=IGNORED)
    with pytest.raises(ValueError, match="temperature"):
        spherical_cross_entropy(h, w, y, torch.tensor(-1.0), ignore_index=IGNORED)
    head = SphericalClassifier(5, 3, 0.1)
    with pytest.raises(ValueError, match="label_smoothing is an option of the loss: pass labels too"):
        head(h.float(), label_smoothing=0.1)


# Learned temperatures


def test_a_learned_temperature_has_the_dense_gradient_and_stays_above_its_bound() -> None:
    h, w, y = problem(20, 5, 3, 4)
    head = SphericalClassifier(5, 3, 0.3).double().learn_temperature(least=0.05)
    head.set_weight(w.detach().numpy())
    assert head.temperature == pytest.approx(0.3, rel=1e-14)
    loss = head(h.detach(), y)
    tau = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    wanted = dense(h.detach(), w.detach(), y, tau)
    torch.testing.assert_close(loss, wanted, rtol=1e-12, atol=1e-12)
    loss.backward()
    (slope,) = torch.autograd.grad(wanted, tau)
    assert head.log_temperature is not None and head.log_temperature.grad is not None
    assert head.log_temperature.grad.item() == pytest.approx(slope.item() * 0.25, rel=1e-10)  # d tau/d a = tau - least
    # separable data: the loss has no minimum at any temperature above 0
    separable = torch.eye(5, dtype=torch.float64)
    easy = CodeClassifier(separable, 0.5).double().learn_temperature(least=0.1)
    optimizer = torch.optim.SGD(easy.parameters(), lr=100.0)
    for _ in range(300):
        optimizer.zero_grad()
        easy(easy.weight, torch.arange(5), log=True).backward()
        optimizer.step()
    assert 0.1 <= easy.temperature < 0.11


def test_a_learned_temperature_is_saved_and_set() -> None:
    head = CMFClassifier(5, 3, 0.3).learn_temperature()
    head.temperature = 0.2
    assert head.temperature == pytest.approx(0.2, rel=1e-6)
    other = CMFClassifier(5, 3, 0.3).learn_temperature()
    other.load_state_dict(head.state_dict())
    assert other.log_temperature is not None and head.log_temperature is not None
    assert other.log_temperature.item() == head.log_temperature.item() and other.temperature == head.temperature
    with pytest.raises(ValueError, match=r"a learned temperature must be above its bound, 0\.01; got 0\.005"):
        head.temperature = 0.005
    with pytest.raises(ValueError, match=r"must be above its bound, 0\.5; got 0\.3"):
        CMFClassifier(5, 3, 0.3).learn_temperature(least=0.5)
    with pytest.raises(ValueError, match=r"must be above its bound, 0\.5; got 0\.2"):
        head.learn_temperature(least=0.5)
    assert head.temperature == other.temperature  # what was refused changed nothing


# CMF, and the largest logits


def test_ignored_samples_do_not_move_class_means() -> None:
    h, _, y = problem(20, 5, 3, 5, 0.4)
    one, other = (CMFClassifier(5, 3, 0.3, momentum=0.0, seed=0).double() for _ in range(2))
    one(h.detach().reshape(4, 5, 3), y.reshape(4, 5), ignore_index=IGNORED)
    other(h.detach()[y != IGNORED], y[y != IGNORED])
    for head in (one, other):
        head.step()
    torch.testing.assert_close(one.weight, other.weight, rtol=0, atol=0)


@given(
    st.integers(1, 20), st.integers(2, 40), st.sampled_from([2, 10, 50, 2**20]), st.integers(0, 2**32 - 1), st.data()
)
def test_the_largest_logits_are_those_of_all(N: int, K: int, entries: int, seed: int, data: Any) -> None:
    h, w, _ = problem(N, K, 4, seed)
    head = CodeClassifier(normalize(w).detach().numpy(), 0.2, rotate=False).double()
    k = data.draw(st.integers(1, K))
    logits = head(h)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "CPU_TILE", entries)
        values, classes = head.topk(h, k)
    torch.testing.assert_close(values, logits.topk(k).values, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(logits.gather(1, classes), values, rtol=1e-12, atol=1e-12)
    assert all(len(set(row)) == k for row in classes.tolist())
    with pytest.raises(ValueError, match="k must be an integer"):
        head.topk(h, K + 1)
