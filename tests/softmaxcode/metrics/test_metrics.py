"""The metrics of neural collapse against their definitions, in one process and several."""

from __future__ import annotations

import copy
import itertools
import json
import pickle
import subprocess
import sys
import textwrap
import warnings
from typing import TYPE_CHECKING, Any

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

import softmaxcode as sc
from softmaxcode.catalog import known as known_codes
from softmaxcode.certificates.loss import certified_margin
from softmaxcode.metrics import (
    GNC1,
    GNC2,
    GNC3,
    CertifiedMargin,
    EffectiveRank,
    GeneralizedNeuralCollapse,
    NearestClassMeanAccuracy,
    collapse,
)
from softmaxcode.metrics.margin import classifier_margin
from softmaxcode.metrics.moments import merge, unpack
from softmaxcode.nn import SphericalClassifier
from tests.processes import HANG

if TYPE_CHECKING:
    from pathlib import Path

unseen_allowed = pytest.mark.filterwarnings("ignore:.*had no features:UserWarning")


def unit(X: np.ndarray) -> np.ndarray:
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def gnc(H: np.ndarray, y: np.ndarray, W: np.ndarray) -> dict[str, float]:
    """GNC1 and both GNC3 from their definitions, over the classes that occur."""
    U, seen = unit(H.astype(float)), np.unique(y)
    means = np.array([U[y == k].mean(axis=0) for k in seen])
    deviations = U - means[np.searchsorted(seen, y)]
    centred = means - means.mean(axis=0)
    inverse = np.linalg.pinv(centred, rcond=1e-12)  # Sigma_B^+ = K P P^T for the pseudo-inverse P of the centred means
    rows = unit(W.astype(float))[seen]
    return {
        "GNC1": float(np.trace(deviations.T @ deviations / len(y) @ inverse @ inverse.T)),
        "GNC3": float(np.mean(1 - np.sum(rows * unit(means), axis=1))),
        "GNC3_centred": float(np.mean(1 - np.sum(rows * unit(centred), axis=1))),
    }


def draw(K: int, d: int, N: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features (N, d) about class centres, labels of two classes at least, and a classifier (K, d), all float64."""
    rng = np.random.default_rng(seed)
    y = rng.integers(K, size=N)
    y[:2] = rng.choice(K, size=2, replace=False)
    centres = rng.standard_normal((K, d))
    H = centres[y] + rng.uniform(0.05, 1.0) * rng.standard_normal((N, d))
    return torch.tensor(H), torch.tensor(y), torch.tensor(rng.standard_normal((K, d)))


@st.composite
def streams(draw_from: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[slice]]:
    """A stream and a way to split it."""
    K, d = draw_from(st.integers(2, 9)), draw_from(st.integers(2, 7))
    N = draw_from(st.integers(2, 60))
    cuts = draw_from(st.sets(st.integers(1, N - 1), max_size=6)) if N > 1 else set()
    ends = [0, *sorted(cuts), N]
    H, y, W = draw(K, d, N, draw_from(st.integers(0, 2**32)))
    return H, y, W, [slice(a, b) for a, b in itertools.pairwise(ends)]


def collection(W: torch.Tensor, **kwargs: Any) -> GeneralizedNeuralCollapse:
    metrics = GeneralizedNeuralCollapse(*W.shape, **kwargs)
    metrics.set_classifier(W)
    return metrics


def values(metrics: Any) -> dict[str, float]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*had no features")
        return {name: value.item() for name, value in metrics.compute().items()}


def close(found: dict[str, float], wanted: dict[str, float], rel: float = 1e-10) -> None:
    assert {name: found[name] for name in wanted} == pytest.approx(wanted, rel=rel, abs=1e-12)


# The definitions


@given(streams(), st.randoms(use_true_random=False))
def test_equal_to_the_definitions_however_the_stream_is_split(stream, random):
    H, y, W, parts = stream
    wanted = gnc(H.numpy(), y.numpy(), W.numpy())
    metrics = collection(W)
    for part in parts:
        metrics.update(H[part], y[part])
    close(values(metrics), wanted)
    random.shuffle(parts)
    first, second = collection(W), collection(W)
    for part in parts:
        random.choice([first, second]).update(H[part], y[part])
    first.merge_state(second)
    close(values(first), wanted)
    assert torch.equal(first.counts, torch.bincount(y, minlength=len(W)).double())


@given(streams())
def test_merged_moments_are_those_of_the_whole(stream):
    H, y, W, parts = stream
    H = torch.nn.functional.normalize(H)
    K, d = W.shape

    def moments_of(part: slice) -> torch.Tensor:
        metric = GNC1(K, d)
        metric.update(H[part], y[part])
        return metric.moments

    moments = torch.stack([moments_of(part) for part in parts])
    whole = moments_of(slice(None))
    torch.testing.assert_close(merge(moments, K, d), whole, rtol=1e-12, atol=1e-12)
    nothing = torch.zeros_like(whole)
    assert torch.equal(merge(torch.stack([nothing, whole, nothing]), K, d), whole)
    counts, means, scatter = unpack(whole, K, d)
    assert counts.shape == (K,)
    assert means.shape == (K, d)
    deviations = H.numpy() - means.numpy()[y]
    np.testing.assert_allclose(scatter, sum(np.outer(v, v) for v in deviations), atol=1e-10)


def test_more_classes_than_dimensions_and_the_reverse():
    for K, d in [(40, 3), (3, 40), (6, 5), (5, 6)]:
        H, y, W = draw(K, d, 400, seed=K)
        metrics = collection(W)
        metrics.update(H, y)
        close(values(metrics), gnc(H.numpy(), y.numpy(), W.numpy()))


def test_features_far_from_the_origin():
    H, y, W = draw(5, 8, 500, seed=1)
    H = (H + 1e3 * torch.randn(8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).float()
    metrics = collection(W)
    for h, labels in zip(H.split(7), y.split(7), strict=True):
        metrics.update(h, labels)
    found = values(metrics)
    assert found["GNC1"] == pytest.approx(gnc(H.numpy(), y.numpy(), W.numpy())["GNC1"], rel=1e-10)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_lower_precision_features_are_computed_with_in_float64(dtype):
    H, y, W = draw(4, 3, 50, seed=2)
    metrics = collection(W.to(dtype), temperature=0.1)
    metrics.update(H.to(dtype).requires_grad_(), y.int())
    wanted = collection(W.to(dtype).double(), temperature=0.1)
    wanted.update(H.to(dtype).double(), y)
    assert values(metrics) == pytest.approx(values(wanted), rel=1e-14)
    assert metrics.class_means.dtype == torch.float64
    assert not metrics.class_means.requires_grad


def test_collapsed_features():
    W = torch.randn(6, 4, generator=torch.Generator().manual_seed(3))
    y = torch.arange(6).repeat(5)
    metrics = collection(W)
    metrics.update(3 * W[y], y)
    found = values(metrics)
    assert found["GNC1"] == pytest.approx(0, abs=1e-25)
    assert found["GNC3"] == pytest.approx(0, abs=1e-14)
    metrics.set_classifier(-W)
    assert values(metrics)["GNC3"] == pytest.approx(2, abs=1e-14)
    means = torch.nn.functional.normalize(W.double())
    metrics.set_classifier(means - means.mean(0))
    assert values(metrics)["GNC3_centred"] == pytest.approx(0, abs=1e-14)


def test_all_features_at_one_point():
    metrics = collection(torch.eye(3))
    metrics.update(torch.tensor([[0.3, 0.7, -0.2]]).expand(30, 3), torch.arange(30) % 3)
    found = values(metrics)
    assert found["GNC1"] == 0
    metrics.reset()
    metrics.update(torch.tensor([[1.0, 0, 0], [-1.0, 0, 0], [0, 1, 0], [0, 0, 1]]), torch.tensor([0, 0, 1, 2]))
    assert values(metrics)["GNC3"] == pytest.approx(1 / 3)  # the mean of class 0 is 0: its cosine counts as 0


def rank(means: np.ndarray) -> float:
    """Effective rank by its definition."""
    values = np.linalg.svd(means, compute_uv=False)
    p = values[values > 1e-12] / values.sum()
    return float(np.exp(-np.sum(p * np.log(p))))


@given(streams())
def test_effective_rank_is_that_of_the_class_means(stream):
    H, y, W, parts = stream
    metric = EffectiveRank(*W.shape)
    for part in parts:
        metric.update(H[part], y[part])
    U = unit(H.numpy())
    means = np.array([U[y.numpy() == k].mean(axis=0) for k in np.unique(y)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert metric.compute().item() == pytest.approx(rank(means), rel=1e-10)


COLLAPSED = {
    "equal": (torch.tensor([[0.3, 0.7, -0.2, 0.4]]).expand(30, 4), 1),
    "zero": (torch.zeros(30, 4), 0),
    "equal to float32 rounding": (
        torch.tensor([[0.3, 0.7, -0.2, 0.4]])
        * (1 + 1e-7 * torch.randn(30, 4, generator=torch.Generator().manual_seed(0))),
        1,
    ),
}


@pytest.mark.parametrize("kind", COLLAPSED)
@pytest.mark.parametrize("K", [2, 3, 10])
def test_collapse_to_one_point_is_reported(kind, K):
    H, wanted = COLLAPSED[kind]
    metrics = collection(torch.nn.functional.normalize(torch.randn(K, 4, generator=torch.Generator().manual_seed(1))))
    metrics.update(H, torch.arange(30) % K)
    message = f"the {K} class means are nearly equal .* a small GNC1 is no neural collapse"
    with pytest.warns(UserWarning, match=message):
        found = {name: value.item() for name, value in metrics.compute().items()}
    assert found["effective_rank"] == pytest.approx(wanted, abs=1e-4)
    if kind != "equal to float32 rounding":
        assert found["GNC1"] == 0
        assert found["GNC3_centred"] == 1  # no mean has a direction about the centre
    for metric in (GNC1(K, 4), EffectiveRank(K, 4)):
        metric.update(H, torch.arange(30) % K)
        with pytest.warns(UserWarning, match=message):
            metric.compute()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            metric(H, torch.arange(30) % K)  # one batch says little


@pytest.mark.parametrize(("K", "d", "wanted"), [(3, 2, 2), (5, 4, 4), (4, 6, 3), (2, 3, 1)])
def test_neural_collapse_has_the_rank_of_its_simplex_and_no_warning(K, d, wanted):
    W = torch.tensor(sc.best_known(K, d).W)
    metric = EffectiveRank(K, d)
    metric.update(W.repeat(4, 1), torch.arange(K).repeat(4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert metric.compute().item() == pytest.approx(wanted, abs=1e-6)


def test_classes_not_seen_do_not_count_in_the_rank():
    metric = EffectiveRank(4, 3)
    metric.update(torch.eye(3), torch.tensor([0, 1, 3]))
    with pytest.warns(UserWarning, match="1 of 4 classes had no features and are left out: 2$"):
        assert metric.compute().item() == pytest.approx(3)


def test_a_row_of_zeros_among_features_stays_one():
    metric = GNC1(2, 2)
    metric.update(torch.tensor([[0.0, 0], [2, 0], [0, 1]]), torch.tensor([0, 0, 1]))
    assert metric.class_means.tolist() == [[0.5, 0], [0, 1]]


def test_classes_not_seen_are_left_out_and_named():
    H, y, W = draw(3, 4, 60, seed=4)
    present = torch.tensor([3, 11, 19])
    metrics = collection(torch.randn(20, 4).double().index_copy(0, present, W), temperature=0.5)
    metrics.update(H, present[y])
    with pytest.warns(
        UserWarning, match=r"17 of 20 classes had no features and are left out: 0, 1, 2, 4, .*, 10, \.\.\.$"
    ):
        found = metrics.compute()
    few = collection(W)
    few.update(H, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wanted = few.compute()
    for name in ("GNC1", "GNC3", "GNC3_centred"):
        assert found[name].item() == pytest.approx(wanted[name].item(), rel=1e-12)


# Using the metrics


def test_forward_is_the_batch_alone_and_accumulates():
    H, y, W = draw(4, 5, 90, seed=5)
    metrics = collection(W, temperature=0.2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a batch without some classes is no surprise
        for part in (slice(0, 40), slice(40, 44), slice(44, 90)):
            alone = collection(W, temperature=0.2)
            alone.update(H[part], y[part])
            found = {name: value.item() for name, value in metrics(H[part], y[part]).items()}
            assert found == pytest.approx(values(alone), rel=1e-12)
    whole = collection(W, temperature=0.2)
    whole.update(H, y)
    assert values(metrics) == pytest.approx(values(whole), rel=1e-10)
    metrics.update(H, y)
    assert metrics.counts.sum() == 180


def test_a_refused_batch_changes_nothing():
    H, y, W = draw(4, 5, 30, seed=6)
    metrics = collection(W, temperature=0.2)
    metrics.update(H, y)
    before, state = values(metrics), metrics.class_means
    bad = H.clone()
    bad[3, 1] = torch.nan
    for step in (metrics.update, metrics.forward, metrics["GNC1"].forward, metrics["certified_margin"].forward):
        with pytest.raises(ValueError, match="row 3 has a NaN"):
            step(bad, y)
        with pytest.raises(ValueError, match="from 0 to 3"):
            step(H, y + 1)
    with pytest.raises(ValueError, match="features of at least 2 classes are needed; all were of class 1"):
        metrics["GNC1"](H, torch.ones_like(y))
    assert values(metrics) == before
    assert torch.equal(metrics.class_means, state)


BAD = {
    "another width": (lambda H, y: (H[:, 1:], y), r"shape \(N, 5\); got \(30, 4\)"),
    "empty": (lambda H, y: (H[:0], y[:0]), "empty batch"),
    "integers": (lambda H, y: (H.long(), y), "floating point"),
    "an array": (lambda H, y: (H.numpy(), y), "must be a tensor"),
    "fewer labels": (lambda H, y: (H, y[1:]), "one for each row"),
    "float labels": (lambda H, y: (H, y.double()), "integers"),
    "negative label": (lambda H, y: (H, y - 4), "from 0 to 3"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_batches(name):
    spoil, message = BAD[name]
    H, y, W = draw(4, 5, 30, seed=7)
    accuracy = NearestClassMeanAccuracy(4, 5)
    accuracy.set_class_means(W)
    certified = CertifiedMargin(4, 5, 0.1)
    certified.set_classifier(W)
    for metric in (GNC1(4, 5), GNC3(4, 5), accuracy, certified):
        with pytest.raises(ValueError, match=message):
            metric.update(*spoil(H, y))
        metric.to("meta")
        with pytest.raises(ValueError, match=f"features and the metric {type(metric).__name__} must be on one device"):
            metric.update(H, y)


def test_errors():
    H, y, W = draw(4, 5, 30, seed=8)
    with pytest.raises(ValueError, match=r"K .* at least 2"):
        GNC1(1, 3)
    with pytest.raises(ValueError, match="temperature must be"):
        CertifiedMargin(4, 5, 0.0)
    for metric in (GNC3(4, 5), GNC2(4, 5), GeneralizedNeuralCollapse(4, 5, temperature=1.0)):
        with pytest.raises(ValueError, match=r"shape \(4, 5\); got \(3, 5\)"):
            metric.set_classifier(W[1:])
        with pytest.raises(ValueError, match="W must be finite"):
            metric.set_classifier(W / 0)
    metric = GNC3(4, 5)
    metric.update(H, y)
    with pytest.raises(ValueError, match="GNC3 has no classifier"):
        metric.compute()
    with pytest.raises(ValueError, match="CertifiedMargin has no classifier"):
        CertifiedMargin(4, 5, 0.1).update(H, y)
    metric.set_classifier(W.clone())
    metric.to("meta")
    with pytest.raises(ValueError, match="W and the metric GNC3 must be on one device; got cpu and meta"):
        metric.compute()
    with pytest.raises(ValueError, match="only metrics of equal K, d can be merged"):
        GNC1(3, 2).merge_state(GNC1(6, 1))
    with pytest.raises(ValueError, match="only metrics of equal K, d, temperature"):
        CertifiedMargin(3, 2, 0.1).merge_state(CertifiedMargin(3, 2, 0.2))
    with pytest.raises(ValueError, match="same metrics"):
        collection(W).merge_state(collection(W, temperature=0.1))  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")
def test_nothing_seen():
    W = torch.eye(3)
    certified = CertifiedMargin(3, 3, 0.1)
    certified.set_classifier(W)
    for metric in (GNC1(3, 3), certified, NearestClassMeanAccuracy(3, 3), collection(W)):
        with pytest.raises(ValueError, match="no features were seen"):
            metric.compute()


def test_a_classifier_in_training_is_followed():
    H, y, W = draw(4, 5, 30, seed=9)
    layer = torch.nn.Linear(5, 4, bias=False)
    metrics = collection(layer.weight)
    metrics.update(H, y)
    assert not list(metrics.parameters())
    before = values(metrics)
    with torch.no_grad():
        layer.weight.copy_(W)
    layer.double()  # gives the parameter other storage
    with torch.no_grad():
        layer.weight.copy_(W)
    close(values(metrics), gnc(H.numpy(), y.numpy(), W.numpy()))
    assert values(metrics)["GNC2"] == classifier_margin(W).margin != before["GNC2"]
    with torch.no_grad():
        layer.weight[2, 1] = torch.nan
    with pytest.raises(ValueError, match="W must be finite; row 2"):
        metrics.compute()
    metrics.set_classifier(2 * layer.weight.nan_to_num())  # not a leaf: its graph is not kept
    assert not metrics["GNC3"].classifier().requires_grad
    copy.deepcopy(metrics)


def copies(metrics: GeneralizedNeuralCollapse) -> list[GeneralizedNeuralCollapse]:
    return [metrics.clone(), copy.deepcopy(metrics), pickle.loads(pickle.dumps(metrics)), metrics.to("cpu")]


def test_shared_state_survives_copies_and_reset():
    H, y, W = draw(4, 5, 60, seed=10)
    metrics = collection(W, temperature=0.3)
    for members in metrics.compute_groups.values():
        assert members in (["GNC1", "GNC3", "GNC3_centred", "effective_rank"], ["GNC2"], ["certified_margin"])
    metrics.update(H[:20], y[:20])
    shared = {id(metrics._modules[name].moments) for name in ("GNC1", "GNC3", "GNC3_centred")}
    assert len(shared) == 1
    half = values(metrics)
    metrics["GNC1"], metrics["GNC3"]  # looking at members makes copies of their states
    for other in copies(metrics):
        assert values(other) == half
        other.update(H[20:], y[20:])
        close(values(other), gnc(H.numpy(), y.numpy(), W.numpy()))
        other.set_classifier(W.flip(0))
        close(values(other), gnc(H.numpy(), y.numpy(), W.flip(0).numpy()))
        other.reset()
        assert not other.counts.any()
        other(H[:20], y[:20])
        other.set_classifier(W)
        assert values(other) == pytest.approx(half, rel=1e-12)
    metrics.reset()
    metrics.update(H, y)
    close(values(metrics), gnc(H.numpy(), y.numpy(), W.numpy()))


def test_members_merge_with_metrics_and_their_states():
    H, y, W = draw(4, 5, 60, seed=11)
    wanted = gnc(H.numpy(), y.numpy(), W.numpy())
    other = GNC3(4, 5)
    other.update(H[20:], y[20:])
    for incoming in (other, other.metric_state):
        metric = GNC3(4, 5)
        metric.set_classifier(W)
        metric.update(H[:20], y[:20])
        metric.merge_state(incoming)
        assert metric.compute().item() == pytest.approx(wanted["GNC3"], rel=1e-10)
    empty = GNC1(4, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        empty.merge_state(other.metric_state)
        assert torch.equal(empty.class_means, other.class_means)
        empty.compute()
    empty.update(H, y)
    assert other.counts.sum() == 40


def test_state_dict(tmp_path: Path):
    H, y, W = draw(4, 5, 60, seed=12)
    metrics = collection(W, temperature=0.3)
    metrics.update(H[:20], y[:20])
    assert not metrics.state_dict()  # as torchmetrics does unless asked
    metrics.persistent(True)
    torch.save(metrics.state_dict(), tmp_path / "metrics.pt")
    saved = torch.load(tmp_path / "metrics.pt", weights_only=True)
    other = collection(W, temperature=0.3)
    other.load_state_dict(saved)
    other.update(H[20:], y[20:])
    close(values(other), gnc(H.numpy(), y.numpy(), W.numpy()))
    assert torch.equal(saved["GNC1.moments"], metrics.state_dict()["GNC1.moments"])
    with pytest.raises(ValueError, match=r"GNC1.moments must have shape \(57,\) for \(K, d\) = \(3, 6\); got \(49,\)"):
        GeneralizedNeuralCollapse(3, 6).load_state_dict(saved)


@pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")
def test_losses_of_another_temperature_are_not_continued():
    W = torch.eye(3)
    metrics = collection(W, temperature=0.01)
    metrics.update(W, torch.arange(3))
    metrics.persistent(True)
    saved = metrics.state_dict()
    other = collection(W, temperature=0.5)
    with pytest.raises(ValueError, match=r"certified_margin\.losses are of the temperature 0\.01, and this .* is 0\.5"):
        other.load_state_dict(saved)
    other.reset()
    other.temperature = 0.01
    other.load_state_dict(saved)
    assert values(other) == values(metrics)
    older = {name: state for name, state in saved.items() if "temperature" not in name and "rank" not in name}
    with_older = collection(W, temperature=0.01)
    with_older.load_state_dict(older)
    assert values(with_older) == values(metrics)
    with pytest.raises(ValueError, match=r"losses must have shape \(5,\) for \(K, d\) = \(4, 3\); got \(4,\)"):
        CertifiedMargin(4, 3, 0.01).load_state_dict({"losses": saved["certified_margin.losses"]})


def test_casts_of_a_model_leave_the_states_alone():
    H, y, W = draw(4, 5, 60, seed=13)
    model = torch.nn.Module()
    model.metrics = collection(W, temperature=0.3)
    model.metrics.update(H, y)
    before = values(model.metrics)
    model.half()
    model.to(torch.bfloat16)
    model.metrics.set_dtype(torch.float32)
    assert values(model.metrics) == before
    assert model.metrics.class_means.dtype == torch.float64
    model.metrics.reset()
    model.metrics.update(H, y)
    assert values(model.metrics) == before


def test_inference_mode():
    H, y, W = draw(4, 5, 60, seed=14)
    metrics = collection(W, temperature=0.3)
    metrics.update(H[:20], y[:20])
    with torch.inference_mode():
        metrics.reset()
        metrics(H[:20], y[:20])
        metrics.update(H[20:30], y[20:30])
    metrics.update(H[30:], y[30:])
    close(values(metrics), gnc(H.numpy(), y.numpy(), W.numpy()))


def test_names_have_prefix_and_postfix():
    H, y, W = draw(4, 3, 30, seed=15)
    metrics = collection(W, temperature=0.3, prefix="val/", postfix="_all")
    metrics.update(H, y)
    names = ["GNC1", "GNC2", "GNC2_gap", "GNC2_ratio", "GNC3", "GNC3_centred", "certified_margin", "effective_rank"]
    assert sorted(metrics.compute()) == [f"val/{name}_all" for name in names]
    assert all(value.shape == () and value.dtype == torch.float64 for value in metrics.compute().values())


class Largest(TorchDispatchMode):
    """Records the most entries of any tensor made outside the given storage."""

    def __init__(self, known: torch.Tensor) -> None:
        super().__init__()
        self.known, self.entries = known.untyped_storage().data_ptr(), 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage().data_ptr() != self.known:
                self.entries = max(self.entries, tensor.numel())
        return out


def test_an_update_touches_its_own_classes_alone():
    metric = GNC1(5000, 4)
    H, y, _ = draw(5000, 4, 32, seed=16)
    with Largest(metric.moments) as largest:
        metric.update(H, y)
    assert 0 < largest.entries < 1000


@pytest.mark.cuda
def test_cuda_equals_cpu():
    H, y, W = draw(30, 5, 400, seed=21)
    wanted, metrics = collection(W, temperature=0.3), collection(W.cuda(), temperature=0.3).to("cuda")
    wanted.update(H, y)
    for h, labels in zip(H.cuda().split(70), y.cuda().split(70), strict=True):
        metrics.update(h, labels)
    assert all(value.is_cuda for value in metrics.compute().values())
    assert values(metrics) == pytest.approx(values(wanted), rel=1e-10)
    with pytest.raises(ValueError, match="features and labels must be on one device"):
        metrics.update(H.cuda(), y)
    metrics.set_classifier(W)
    with pytest.raises(ValueError, match="W and the metric GNC2 must be on one device"):
        metrics["GNC2"].compute()


# The accuracy of the nearest class mean


@given(streams())
def test_nearest_class_mean(stream):
    H, y, W, parts = stream
    metric = NearestClassMeanAccuracy(*W.shape)
    metric.set_class_means(W)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collapse, "TILE", 4 * len(H))
        for part in parts:
            metric.update(H[part], y[part])
    U, V = unit(H.numpy()), W.numpy()
    nearest = np.linalg.norm(U[:, None] - V, axis=2).argmin(axis=1)
    assert metric.compute().item() == pytest.approx(np.mean(nearest == y.numpy()), abs=1e-15)


def test_nearest_class_mean_of_a_pass_before():
    H, y, _ = draw(6, 5, 200, seed=17)
    kept = y != 4
    training = GNC1(6, 5)
    training.update(H[kept], y[kept])
    metric = NearestClassMeanAccuracy(6, 5)
    with pytest.raises(ValueError, match="no class means"):
        metric.update(H, y)
    metric.set_class_means(training.class_means, training.counts > 0)
    metric.update(H, y)
    U, means = unit(H.numpy()), training.class_means.numpy().copy()
    means[4] = np.inf
    nearest = np.linalg.norm(U[:, None] - means, axis=2).argmin(axis=1)
    assert metric.compute().item() == pytest.approx(np.mean(nearest == y.numpy()))
    assert metric(H[:10], y[:10]).item() == pytest.approx(np.mean(nearest[:10] == y[:10].numpy()))
    assert int(metric.total) == 210


def test_of_equally_near_means_the_first_counts(monkeypatch):
    monkeypatch.setattr(collapse, "TILE", 3)
    metric = NearestClassMeanAccuracy(7, 2)
    metric.set_class_means(torch.tensor([[0.0, 1.0]]).expand(7, 2))
    metric.update(torch.tensor([[0.0, 1.0]]).expand(3, 2), torch.tensor([0, 0, 6]))
    assert int(metric.correct) == 2


def test_class_means_are_checked():
    metric = NearestClassMeanAccuracy(3, 2)
    with pytest.raises(ValueError, match=r"means must have shape \(3, 2\)"):
        metric.set_class_means(torch.eye(2))
    means = torch.tensor([[1.0, 0], [0, 1], [-1, 0]])
    for seen in (torch.ones(3), torch.ones(2, dtype=torch.bool), torch.zeros(3, dtype=torch.bool), [True] * 3):
        with pytest.raises(ValueError, match=r"seen must be a tensor of bool of shape \(3,\)"):
            metric.set_class_means(means, seen)  # type: ignore[arg-type]
    metric.set_class_means(means)
    metric.to("meta")
    with pytest.raises(ValueError, match="features and the metric NearestClassMeanAccuracy"):
        metric.update(means, torch.arange(3))


# The margin


def test_margin_of_the_icosahedron(known):
    metric = GNC2(12, 3)
    metric.set_classifier(torch.tensor(known["icosahedron"] * np.arange(1, 13)[:, None]))
    found = metric.compute()
    assert found["GNC2"].item() == pytest.approx(0.5527864045, abs=1e-10)
    assert found["GNC2_ratio"].item() == pytest.approx(1, abs=1e-12)
    assert found["GNC2_gap"].item() < 1e-12
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metric.update(None, labels=3)
        assert metric("anything") == found


def test_margin_of_any_classifier():
    W = torch.randn(30, 4, generator=torch.Generator().manual_seed(18))
    wanted = sc.margin(W.double().numpy(), normalize=True)
    metric = GNC2(30, 4)
    metric.set_classifier(W)
    found = metric.compute()
    assert found["GNC2"].item() == pytest.approx(wanted.margin, abs=1e-13)
    assert found["GNC2_ratio"].item() == pytest.approx(wanted.margin / sc.best_known(30, 4).margin, abs=1e-13)
    W[3] = 2 * W[7]
    assert metric.compute()["GNC2"].item() == pytest.approx(0, abs=1e-14)
    W[3] = 0
    with pytest.raises(ValueError, match="row 3 is zero"):
        metric.compute()


def test_ratio_is_bracketed_where_no_code_is_held(monkeypatch, tmp_path):
    monkeypatch.setattr(known_codes, "shipped_path", lambda: tmp_path / "none.sqlite")
    K, d = 211, 3
    with pytest.raises(sc.UnknownCodeError) as error:
        sc.best_known(K, d)
    bounds = error.value.bounds
    W = torch.randn(K, d, generator=torch.Generator().manual_seed(19))
    metric = GNC2(K, d)
    metric.set_classifier(W)
    found = metric.compute()
    margin = classifier_margin(W).margin
    assert sorted(found) == ["GNC2", "GNC2_gap", "GNC2_ratio_lower", "GNC2_ratio_upper"]
    assert found["GNC2_ratio_lower"].item() == pytest.approx(margin / bounds.upper)
    assert found["GNC2_ratio_upper"].item() == pytest.approx(margin / bounds.lower)


# The certified margin


def logits_against(H: torch.Tensor, W: torch.Tensor, y: torch.Tensor) -> np.ndarray:
    """<w_j - w_{y_i}, h_i> of unit rows, with -inf for j = y_i."""
    G = unit(H.double().numpy()) @ unit(W.double().numpy()).T
    own = np.arange(len(y)), y.numpy()
    G = G - G[own][:, None]
    G[own] = -np.inf
    return G


@unseen_allowed
@given(streams(), st.sampled_from([2.0, 0.3, 0.05, 1e-3]))
def test_certified_margin_of_a_stream(stream, temperature):
    H, y, W, parts = stream
    metric = CertifiedMargin(*W.shape, temperature)
    metric.set_classifier(W)
    for part in parts:
        metric.update(H[part], y[part])
    found = metric.compute().item()
    G = logits_against(H, W, y)
    with mpmath.workdps(50):
        total = sum(mpmath.log1p(sum(mpmath.exp(mpmath.mpf(g) / temperature) for g in row if g > -np.inf)) for row in G)
        bound = float(-temperature * mpmath.log(mpmath.expm1(total)))
    assert found == pytest.approx(min(2, max(-2, bound)), abs=1e-12)
    assert found <= max(-2, -G.max()) + 1e-12


def test_the_certificate_holds_and_is_sharp_at_small_temperatures(known):
    W = torch.tensor(known["icosahedron"])
    y = torch.arange(12).repeat(3)
    margin = classifier_margin(W).margin
    for temperature, slack in [(0.1, 1.0), (1e-2, 0.1), (1e-4, 1e-3)]:
        metric = CertifiedMargin(12, 3, temperature)
        metric.set_classifier(W)
        found = metric(W[y], y).item()
        assert margin - slack < found <= margin + 1e-12
        other = CertifiedMargin(12, 3, temperature)
        other.merge_state(metric)
        assert other.compute().item() == pytest.approx(found, abs=1e-12)


def test_no_certificate_of_classes_not_seen():
    metric = CertifiedMargin(4, 3, 0.1)
    metric.set_classifier(torch.randn(4, 3))
    metric.update(torch.randn(5, 3), torch.tensor([0, 0, 1, 1, 3]))
    with pytest.warns(UserWarning, match="1 of 4 classes had no features and are left out: 2$"):
        metric.compute()


@given(st.floats(-1e6, 1e3), st.integers(1, 10**9), st.floats(1e-6, 10))
def test_certified_margin_in_high_precision(log_loss, samples, temperature):
    with mpmath.workdps(60):
        y = samples * mpmath.exp(log_loss)
        # log(e^y - 1) without forming e^y where that has millions of digits
        value = y + mpmath.log1p(-mpmath.exp(-y)) if y > 1 else mpmath.log(mpmath.expm1(y))
        wanted = float(max(-2, min(2, -temperature * value)))
    # the sum of two logarithms is rounded once
    rounding = 4e-16 * temperature * (abs(log_loss) + np.log(samples) + 1)
    growth = max(1.0, float(min(y, 2 / temperature)))  # d log(e^y - 1) / d log y
    assert certified_margin(log_loss, samples, temperature) == pytest.approx(wanted, rel=1e-15, abs=rounding * growth)


def test_certified_margin_at_its_ends():
    with pytest.raises(ValueError, match="no loss is 0, so this one underflowed"):
        certified_margin(-np.inf, 3, 0.1)
    assert certified_margin(np.inf, 3, 0.1) == -2
    assert certified_margin(800.0, 3, 1e-308) == -2  # e^800 overflows
    assert certified_margin(-740.0, 1, 0.001) == pytest.approx(0.74, rel=1e-15)  # e^-740 has two digits
    assert certified_margin(float(np.log(np.log(2))), 1, 0.1) == pytest.approx(0, abs=1e-16)
    with pytest.raises(ValueError, match="log_loss must be a number"):
        certified_margin(float("nan"), 3, 0.1)
    with pytest.raises(ValueError, match=r"samples .* at least 1"):
        certified_margin(-1.0, 0, 0.1)
    for temperature in (0, -1, np.inf, np.nan):
        with pytest.raises(ValueError, match="temperature must be a finite number above 0"):
            certified_margin(-1.0, 3, temperature)


# Several processes

RANK = """
    import datetime, json, sys, warnings
    import torch
    from softmaxcode.metrics import GeneralizedNeuralCollapse, NearestClassMeanAccuracy

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rank, folder = int(sys.argv[1]), sys.argv[2]
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2, timeout=datetime.timedelta(minutes=10)
    )
    H, y, W = torch.load(f"{folder}/data.pt", weights_only=True)
    metrics = GeneralizedNeuralCollapse(*W.shape, temperature=0.2)
    metrics.set_classifier(W)
    results = []
    try:
        metrics.compute()
    except ValueError as error:
        results.append(str(error))
    for cut in (len(H), 7, 33):
        mine = slice(0, cut) if rank == 0 else slice(cut, len(H))
        accuracy = NearestClassMeanAccuracy(*W.shape)
        for h, labels in zip(H[mine].split(5), y[mine].split(5)):
            if len(h):
                metrics.update(h, labels)
        metrics.compute()
        values = {name: value.item() for name, value in metrics.compute().items()}
        own = int(metrics.counts.sum())
        with metrics["GNC1"].sync_context():
            accuracy.set_class_means(metrics.class_means, metrics.counts > 0)
        for h, labels in zip(H[mine].split(5), y[mine].split(5)):
            if len(h):
                accuracy.update(h, labels)
        results.append([values, own, accuracy.compute().item()])
        metrics.reset()
    with open(f"{folder}/rank{rank}.json", "w") as file:
        json.dump(results, file)
    torch.distributed.destroy_process_group()
"""


@pytest.mark.processes
@pytest.mark.slow
def test_two_processes(tmp_path: Path):
    H, y, W = draw(5, 4, 60, seed=20)
    torch.save((H, y, W), tmp_path / "data.pt")
    (tmp_path / "rank.py").write_text(textwrap.dedent(RANK))
    ranks = [
        subprocess.Popen([sys.executable, str(tmp_path / "rank.py"), str(rank), str(tmp_path)]) for rank in range(2)
    ]
    try:
        assert [rank.wait(HANG) for rank in ranks] == [0, 0]
    finally:
        for rank in ranks:
            rank.kill()
    whole = collection(W, temperature=0.2)
    whole.update(H, y)
    accuracy = NearestClassMeanAccuracy(5, 4)
    accuracy.set_class_means(whole.class_means, whole.counts > 0)
    accuracy.update(H, y)
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2))
    assert "no features were seen" in first[0] and first[0] == second[0]
    for a, b, cut in zip(first[1:], second[1:], (60, 7, 33), strict=True):
        assert a[0] == b[0]
        assert a[0] == pytest.approx(values(whole), rel=1e-10)
        assert (a[1], b[1]) == (cut, 60 - cut)
        assert a[2] == b[2] == accuracy.compute().item()


# What a training loop does


def test_a_head_is_followed_as_it_learns():
    head = SphericalClassifier(6, 3, 0.1, seed=0)
    metrics = GeneralizedNeuralCollapse(6, 3)
    metrics.set_classifier(head)
    H, y, _ = draw(6, 3, 60, seed=6)
    metrics.update(H, y)
    with torch.no_grad():
        head.raw_weight.copy_(torch.eye(3).repeat(2, 1) * torch.tensor([1.0, 1, 1, -1, -1, -1])[:, None])
    assert float(metrics.compute()["GNC2"]) == pytest.approx(1, abs=1e-6)
    head.double()
    assert float(metrics.compute()["GNC2"]) == pytest.approx(1, abs=1e-6)
    with pytest.raises(ValueError, match=r"W must be a tensor of shape \(6, 3\); got NoneType"):
        metrics.set_classifier(torch.nn.ReLU())


def test_a_tensor_computed_from_others_stays_as_it_is():
    head = SphericalClassifier(6, 3, 0.1, seed=0)
    metric = GNC2(6, 3)
    metric.set_classifier(head.weight)
    before = metric.compute()["GNC2"]
    with torch.no_grad():
        head.raw_weight.neg_()[0] += 1
    assert metric.compute()["GNC2"] == before


def test_the_temperature_cannot_change_within_a_stream():
    metrics = GeneralizedNeuralCollapse(3, 2, temperature=0.001)
    W = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    metrics.set_classifier(W)
    metrics.update(W, torch.arange(3))
    metrics.temperature = 0.001
    with pytest.raises(ValueError, match=r"cannot change from 0\.001 to 0\.05 within a stream"):
        metrics.temperature = 0.05
    metrics.reset()
    metrics.temperature = 0.05
    metrics.update(W, torch.arange(3))
    assert metrics.compute()["certified_margin"] <= 1


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.int32, torch.uint8, torch.uint16, torch.uint32])
def test_labels_of_every_integer_type(dtype):
    H, y, W = draw(5, 3, 50, seed=5)
    metrics, other = collection(W), collection(W)
    metrics.update(H, y)
    other.update(H, y.to(dtype))
    assert values(metrics) == values(other)
    with pytest.raises(ValueError, match="row 1 has label 7"):
        other.update(H[:2], torch.tensor([0, 7]).to(dtype))


def test_on_a_line_the_margin_is_0_and_so_is_the_best():
    metric = GNC2(3, 1)
    metric.set_classifier(torch.tensor([[1.0], [-1.0], [1.0]]))
    assert {name: float(value) for name, value in metric.compute().items()} == {
        "GNC2": 0,
        "GNC2_gap": 0,
        "GNC2_ratio": 1,
    }


def test_equal_class_means_of_many_features_are_no_direction():
    h = torch.randn(6, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    H = torch.cat([h.repeat(1000 * k, 1) for k in (1, 2, 3)])
    y = torch.arange(3).repeat_interleave(torch.tensor([6000, 12000, 18000]))
    for step in (36_000, 777):
        metric = GNC1(3, 8)
        for part, labels in zip(H.split(step), y.split(step), strict=True):
            metric.update(part, labels)
        assert metric.compute() == 0


def test_nearest_of_class_means_that_nearly_agree():
    means = torch.nn.functional.normalize(torch.tensor([[1.0, 1e-9], [1.0, -1e-9]], dtype=torch.float64))
    metric = NearestClassMeanAccuracy(2, 2)
    metric.set_class_means(means)
    metric.update(means, torch.tensor([0, 1]))
    assert metric.compute() == 1


def test_the_limit_of_a_code_too_large_to_measure_is_what_its_family_proves(monkeypatch):
    assert GNC2(240, 8).limit == pytest.approx(0.5, abs=1e-12)
    monkeypatch.setattr("softmaxcode.metrics.margin.MAX_LIMIT", 1000)
    monkeypatch.setattr("softmaxcode.metrics.margin.best_known", None)
    assert GNC2(240, 8).limit == pytest.approx(0.5, abs=1e-12)
    assert GNC2(97, 3).limit is None
