"""NC1 to NC3 and CDNV against their definitions, written out in NumPy over all features at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from softmaxcode.metrics import GNC1, NearestClassMeanAccuracy, NeuralCollapse
from softmaxcode.metrics import neural_collapse as module
from softmaxcode.sphere import unit_rows

SEEDS = st.integers(0, 2**32 - 1)


def defined(H: np.ndarray, labels: np.ndarray, W: np.ndarray) -> dict[str, float]:
    K = len(W)
    parts = [H[labels == k] for k in range(K)]
    means = np.array([part.mean(axis=0) for part in parts])
    centred = means - means.mean(axis=0)
    within = sum((part - m).T @ (part - m) for part, m in zip(parts, means, strict=True)) / len(H)
    between = centred.T @ centred / K
    variances = [((part - m) ** 2).sum(axis=1).mean() for part, m in zip(parts, means, strict=True)]
    pairs = [(k, j) for k in range(K) for j in range(K) if k != j]

    def norms(X: np.ndarray) -> float:
        sizes = np.linalg.norm(X, axis=1)
        return float(sizes.std() / sizes.mean())

    def angles(X: np.ndarray) -> float:
        U = unit_rows(X)
        return float(np.mean([abs(U[k] @ U[j] + 1 / (K - 1)) for k, j in pairs]))

    rows = W - W.mean(axis=0)
    return {
        "NC1": np.trace(within @ np.linalg.pinv(between, rcond=1e-10)) / K,
        "NC1_quotient": np.trace(within) / np.trace(between),
        "CDNV": np.mean([(variances[k] + variances[j]) / (2 * np.sum((means[k] - means[j]) ** 2)) for k, j in pairs]),
        "NC2_norms": norms(centred),
        "NC2_angles": angles(centred),
        "NC3": np.sum((W / np.linalg.norm(W) - centred / np.linalg.norm(centred)) ** 2),
        "NC2_norms_classifier": norms(rows),
        "NC2_angles_classifier": angles(rows),
    }


def features(seed: int, K: int, d: int, per_class: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(K), per_class))
    means, W = rng.standard_normal((K, d)), rng.standard_normal((K, d))
    return means[labels] + 0.3 * rng.standard_normal((len(labels), d)), labels, W


@given(SEEDS, st.integers(3, 9), st.integers(2, 6), st.booleans(), st.integers(1, 40))
def test_measures_are_those_defined(seed: int, K: int, d: int, unit: bool, batch: int) -> None:
    H, labels, W = features(seed, K, d, 7)
    metric = NeuralCollapse(K, d, unit)
    metric.set_classifier(torch.from_numpy(W))
    for start in range(0, len(H), batch):
        metric.update(torch.from_numpy(H[start : start + batch]), torch.from_numpy(labels[start : start + batch]))
    found = metric.compute()
    expected = defined(unit_rows(H) if unit else H, labels, W)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value, rel=1e-7, abs=1e-10), name


def test_at_collapse_to_a_simplex_all_are_zero() -> None:
    K = 5
    simplex = np.eye(K) - 1 / K
    metric = NeuralCollapse(K, K)
    metric.set_classifier(torch.from_numpy(3 * simplex))
    metric.update(torch.from_numpy(np.repeat(simplex, 4, axis=0)), torch.arange(K).repeat_interleave(4))
    assert all(abs(value.item()) < 1e-12 for value in metric.compute().values())


def test_on_unit_features_nc1_is_gnc1() -> None:
    H, labels, _ = features(0, 6, 9, 10)
    metric, gnc = NeuralCollapse(6, 9, unit=True), GNC1(6, 9)
    for one in (metric, gnc):
        one.update(torch.from_numpy(H), torch.from_numpy(labels))
    found = metric.compute()
    assert found["NC1"].item() == pytest.approx(gnc.compute().item(), rel=1e-9)
    assert "NC3" not in found  # no classifier was set


def test_tiles_and_merging_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    H, labels, W = features(1, 12, 5, 6)
    parts = []
    for part in (slice(0, 30), slice(30, None)):
        metric = NeuralCollapse(12, 5)
        metric.set_classifier(torch.from_numpy(W))
        metric.update(torch.from_numpy(H[part]), torch.from_numpy(labels[part]))
        parts.append(metric)
    parts[0].merge_state(parts[1])
    monkeypatch.setattr(module, "TILE", 25)
    for name, value in defined(H, labels, W).items():
        assert parts[0].compute()[name].item() == pytest.approx(value, rel=1e-9), name
    with pytest.raises(ValueError, match="only metrics of equal K, d, unit can be merged"):
        parts[0].merge_state(NeuralCollapse(12, 5, unit=True))


def test_unseen_classes_are_left_out() -> None:
    H, labels, W = features(2, 6, 4, 5)
    keep = labels != 3
    metric = NeuralCollapse(6, 4)
    metric.set_classifier(torch.from_numpy(W))
    metric.update(torch.from_numpy(H[keep]), torch.from_numpy(labels[keep]))
    others = np.delete(np.arange(6), 3)
    expected = defined(H[keep], np.searchsorted(others, labels[keep]), W[others])
    with pytest.warns(UserWarning, match="1 of 6 classes had no features"):
        found = metric.compute()
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value, rel=1e-9), name


def test_the_nearest_class_mean_and_a_classifier_agree_by_the_accuracy_of_its_predictions() -> None:
    H, labels, W = features(3, 6, 4, 20)
    gnc, accuracy = GNC1(6, 4), NearestClassMeanAccuracy(6, 4)
    gnc.update(torch.from_numpy(H), torch.from_numpy(labels))
    accuracy.set_class_means(gnc.class_means)
    predicted = (H @ W.T).argmax(axis=1)
    accuracy.update(torch.from_numpy(H), torch.from_numpy(predicted))
    U, means = unit_rows(H), gnc.class_means.numpy()
    nearest = ((U[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    assert accuracy.compute().item() == pytest.approx(np.mean(nearest == predicted))


@pytest.mark.parametrize(("offset", "scale"), [(1e5, 1.0), (1e8, 1.0), (0.0, 1e-60), (0.0, 1e60)])
def test_an_offset_and_a_scale_change_nothing(offset: float, scale: float) -> None:
    """No square of a large mean may be subtracted from another."""
    H, labels, _ = features(4, 5, 8, 40)
    expected = defined(H, labels, np.eye(5, 8))
    parts = []
    for part in (slice(0, 90), slice(90, None)):
        metric = NeuralCollapse(5, 8)
        for start in range(part.start, part.stop or len(H), 30):
            rows = torch.from_numpy(scale * H[start : start + 30] + offset)
            metric.update(rows, torch.from_numpy(labels[start : start + 30]))
        parts.append(metric)
    parts[0].merge_state(parts[1])
    for name, value in parts[0].compute().items():
        assert value.item() == pytest.approx(expected[name], rel=1e-6), name


@pytest.mark.parametrize("scale", [1e-170, 1e160])
def test_features_out_of_range_are_refused(scale: float) -> None:
    H, labels, _ = features(5, 3, 4, 5)
    metric = NeuralCollapse(3, 4)
    with pytest.raises(ValueError, match="features must have a largest entry between"):
        metric.update(torch.from_numpy(scale * H), torch.from_numpy(labels))
    assert not metric.counts.any()
    unit = NeuralCollapse(3, 4, unit=True)
    unit.update(torch.from_numpy(scale * H), torch.from_numpy(labels))
    assert all(torch.isfinite(value) for value in unit.compute().values())
