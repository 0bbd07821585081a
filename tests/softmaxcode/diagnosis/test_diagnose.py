"""The report on a classifier: against an independent quadratic programme, and on matrices made to have a fault each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import nnls
from scipy.spatial.distance import cdist

import softmaxcode as sc
from softmaxcode.diagnosis.directions import among, directions, representatives
from softmaxcode.diagnosis.references import DRAWS, references
from softmaxcode.sphere import random_rows, unit_rows

if TYPE_CHECKING:
    from pathlib import Path

SEEDS = st.integers(0, 2**32 - 1)


def nearest_by_nnls(W: np.ndarray, k: int) -> tuple[float, np.ndarray]:
    """The distance of row k from the hull of the others and its weights.

    Non-negative least squares finds the support; a large multiple of a row of ones makes the weights sum to 1. The
    weights then follow from the normal equations with that constraint.
    """
    others = np.delete(np.arange(len(W)), k)
    big = 1e4
    A = np.vstack([W[others].T, np.full(len(others), big)])
    support = others[nnls(A, np.append(W[k], big), maxiter=10_000)[0] > 0]
    n = len(support)
    system = np.block([[W[support] @ W[support].T, np.ones((n, 1))], [np.ones((1, n)), np.zeros((1, 1))]])
    out = np.zeros(len(W))
    out[support] = np.linalg.lstsq(system, np.append(W[support] @ W[k], 1.0), rcond=None)[0][:n]
    return float(np.linalg.norm(W[k] - out @ W)), out


def trained(K: int, d: int, seed: int) -> np.ndarray:
    """Rows that look trained: a common mean, different norms, and pairs of similar classes."""
    rng = np.random.default_rng(seed)
    W = rng.standard_normal((K, d)) + 0.4
    W[1::7] = W[::7][: len(W[1::7])] + 0.3 * rng.standard_normal(W[1::7].shape)
    return W * rng.uniform(0.5, 3, (K, 1))


# Danger


def cross_polytopes(K: int, d: int, seed: int) -> np.ndarray:
    """Degenerate: many vectors at equal distances, and pairs whose mean is a third one's direction."""
    eye = np.eye(d)
    W = np.vstack([eye, -eye, unit_rows(eye + np.roll(eye, 1, axis=0)), random_rows(K, d, np.random.default_rng(seed))])
    return W[:K]


MAKERS = [lambda K, d, seed: random_rows(K, d, np.random.default_rng(seed)), trained, cross_polytopes]


@pytest.mark.parametrize("make", MAKERS, ids=["random", "trained", "degenerate"])
@pytest.mark.parametrize(("K", "d"), [(60, 5), (200, 12)])
def test_danger_agrees_with_an_independent_programme(make: Any, K: int, d: int) -> None:
    W = make(K, d, 3)
    report = sc.diagnose(W, search=False)
    danger, X = report.danger, unit_rows(W)
    assert len(danger) == K and danger["margin"].is_monotonic_increasing
    for k, margin, competitors, weights in zip(
        danger["row"], danger["margin"], danger["competitors"], danger["weights"], strict=True
    ):
        distance, expected = nearest_by_nnls(X, k)
        found = np.zeros(K)
        found[[int(name) for name in competitors]] = weights
        assert margin == pytest.approx(distance, abs=1e-9)
        np.testing.assert_allclose(found @ X, expected @ X, atol=1e-9)
        support = np.flatnonzero(found)
        if make is not cross_polytopes and np.linalg.matrix_rank(X[support[1:]] - X[support[0]]) == len(support) - 1:
            np.testing.assert_allclose(found, expected, atol=1e-9)
        assert min(weights) > 0 and sum(weights) == pytest.approx(1, abs=1e-12)
        assert weights == sorted(weights, reverse=True) and len(weights) <= d


@given(SEEDS, st.integers(3, 40), st.integers(2, 8))
def test_weights_satisfy_the_conditions_of_the_nearest_point(seed: int, K: int, d: int) -> None:
    """Karush, Kuhn and Tucker: all competitors lie on the supporting hyperplane, and no class is beyond it."""
    W = random_rows(K, d, np.random.default_rng(seed))
    found = sc.margin(W)
    points = found.weights @ W
    np.testing.assert_allclose(np.asarray(found.weights.sum(axis=1)).ravel(), 1, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(W - points, axis=1), found.margins, atol=1e-12)
    for k in range(K):
        classes, weights = found.competitors(k)
        assert k not in classes and (weights > 0).all()
        if found.margins[k] > 1e-9:
            normal = (W[k] - points[k]) / found.margins[k]
            height = np.delete(W @ normal, k).max()
            np.testing.assert_allclose(W[classes] @ normal, height, atol=1e-9)


def test_danger_follows_a_permutation_and_a_rotation() -> None:
    W, rng = trained(80, 6, 1), np.random.default_rng(5)
    p, Q = rng.permutation(80), np.linalg.qr(rng.standard_normal((6, 6)))[0]
    plain = sc.diagnose(W, search=False).danger
    turned = sc.diagnose(3 * W[p] @ Q, names=[str(k) for k in p], search=False).danger
    assert plain["class"].tolist() == turned["class"].tolist()
    np.testing.assert_allclose(plain["margin"], turned["margin"], atol=1e-12)
    assert plain["competitors"].tolist() == turned["competitors"].tolist()


# Zero rows, groups


def test_zero_rows_are_left_out_with_their_names() -> None:
    W = trained(30, 5, 2)
    W[[4, 17]] = 0
    names = [f"name {k}" for k in range(30)]
    report = sc.diagnose(W, names=names, search=False)
    assert report.zero_classes == ["name 4", "name 17"] and report.K == 28
    assert set(report.danger["class"]) == set(names) - {"name 4", "name 17"}
    rows = dict(zip(report.danger["class"], report.danger["row"], strict=True))
    assert all(names[row] == name for name, row in rows.items())
    assert "2 rows are zero and left out: name 4, name 17" in str(report)


def test_one_direction_of_many_classes_does_not_set_the_verdict() -> None:
    """As in PP-OCRv4's head: dead classes share a direction, with small norms."""
    W = random_rows(120, 10, np.random.default_rng(4))
    dead = np.random.default_rng(6).choice(120, 40, replace=False)
    W[dead] = 0.6 * W[dead[0]] / np.linalg.norm(W[dead[0]])
    W[dead] *= 1 + 1e-7 * np.random.default_rng(7).standard_normal(W[dead].shape)
    report = sc.diagnose(W, search=False)
    (group,) = report.groups.to_dict("records")
    assert group["size"] == 40 and set(group["classes"]) == {str(k) for k in dead}
    assert group["median_norm"] == pytest.approx(0.6, rel=1e-5) and group["median_norm_of_others"] == pytest.approx(1)
    kept = np.setdiff1d(np.arange(120), dead)
    expected = sc.margin(unit_rows(W[[*kept, dead[0]]]))
    assert report.distinct_margin == pytest.approx(expected.margin, abs=1e-6) and report.margin < 1e-6
    text = str(report)
    counted = "40 nearly parallel classes in 1 group count once per group"
    assert f"  distinct classes     81: {counted}" in text
    assert f"margin, distinct       {report.distinct_margin:.4f}" in text


@given(SEEDS, st.integers(2, 60), st.integers(1, 5), st.floats(0.2, 0.99))
def test_directions_are_those_of_all_pairs(seed: int, K: int, d: int, threshold: float) -> None:
    W = random_rows(K, d, np.random.default_rng(seed))
    found = directions(W, threshold)
    G = W @ W.T
    np.fill_diagonal(G, -np.inf)
    np.testing.assert_allclose(found.largest, G.max(axis=1), atol=1e-14)
    np.testing.assert_allclose(G[np.arange(K), found.nearest], found.largest, atol=1e-14)
    number = found.group_of(K)
    for members in found.groups:
        mean = W[members].sum(axis=0)
        loose = (2 * threshold**2 - 1 - 1e-9) * np.linalg.norm(mean)
        assert len(members) > 1 and (W[members] @ mean > loose).all()
        assert (G[np.ix_(members, members)].max(axis=1) > threshold - 1e-12).all()
    assert len(np.concatenate([[0], *found.groups])) - 1 == np.count_nonzero(number)  # no class is in two
    kept = representatives(W, found.groups)
    assert len(kept) == K - sum(len(members) - 1 for members in found.groups)
    if len(kept) > 1:
        few = among(W, found, kept)
        again = directions(W[kept], threshold)
        np.testing.assert_allclose(few.largest, again.largest, atol=1e-14)


def test_a_chain_that_leads_far_is_no_group() -> None:
    """As in a classifier of pitch, where each class is near to the next alone."""
    angles = np.radians(8.0 * np.arange(40))
    W = np.column_stack([np.cos(angles), np.sin(angles)])
    found = directions(W, 0.95)
    assert all(len(members) <= 9 for members in found.groups) and found.groups
    rows = np.random.default_rng(0).permutation(40)
    again = directions(W[rows], 0.95)
    assert sorted(map(len, again.groups)) == sorted(map(len, found.groups))


@given(SEEDS, st.integers(2, 60), st.integers(1, 4), st.integers(1, 20))
def test_tiles_do_not_change_the_directions(seed: int, K: int, d: int, tile: int) -> None:
    rng = np.random.default_rng(seed)
    W = random_rows(K, d, rng)
    W[rng.integers(K, size=K // 3)] = W[rng.integers(K)]  # ties
    whole = directions(W, 0.9)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("softmaxcode.sphere.PAIR_TILE", tile)
        parts = directions(W, 0.9)
    np.testing.assert_allclose(parts.largest, whole.largest, atol=1e-14)
    np.testing.assert_allclose(np.einsum("kd,kd->k", W, W[parts.nearest]), whole.largest, atol=1e-14)
    assert (parts.nearest != np.arange(K)).all()
    assert [group.tolist() for group in parts.groups] == [group.tolist() for group in whole.groups]


# Norms, bias and mean


def test_the_margin_without_the_mean_row() -> None:
    W = trained(50, 6, 9)
    report = sc.diagnose(W, search=False)
    expected = sc.margin(W - W.mean(axis=0), normalize=True).margin
    assert report.rows.centred_margin == pytest.approx(expected, abs=1e-12)
    X = unit_rows(W)
    cosines = (X @ X.T)[np.triu_indices(50, 1)]
    assert report.rows.mean_cosine == pytest.approx(cosines.mean(), abs=1e-12)
    assert f"the margin of all classes is {expected:.4f} instead of {report.margin:.4f}" in str(report)


def test_what_the_raw_head_predicts() -> None:
    W, bias = trained(40, 5, 10), np.linspace(-2, 2, 40)
    layer = torch.nn.Linear(5, 40).double()
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(W))
        layer.bias.copy_(torch.from_numpy(bias))
    rows = sc.diagnose(layer, search=False).rows
    H = sc.margin(W, normalize=True).H
    assert rows.predicted == np.count_nonzero((H @ W.T + bias).argmax(axis=1) == np.arange(40))
    assert rows.predicted_without_bias == np.count_nonzero((H @ W.T).argmax(axis=1) == np.arange(40))
    assert rows.tested == 40 and rows.predicted < rows.predicted_without_bias


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e30, 1e200])
def test_rows_of_any_size(scale: float) -> None:
    W = trained(30, 5, 13)
    plain, scaled = sc.diagnose(W, search=False), sc.diagnose(scale * W, search=False)
    np.testing.assert_allclose(scaled.rows.norms, scale * plain.rows.norms, rtol=1e-12)
    assert scaled.rows.centred_margin == pytest.approx(plain.rows.centred_margin, abs=1e-12)
    np.testing.assert_allclose(scaled.danger["margin"], plain.danger["margin"], atol=1e-12)
    assert "nan" not in str(scaled)


@pytest.mark.parametrize(
    "rows", [[[1.0], [-2], [3]], [[1.0], [2]], [[1.0], [-1]], [[1.0, 0], [-1, 0]], [[1.0, 1], [1, 1]]]
)
def test_the_smallest_sizes(rows: list[list[float]], tmp_path: Path) -> None:
    report = sc.diagnose(rows, search=False)
    text = str(report)
    assert "nan" not in text and f"K = {len(rows)} classes" in text
    assert report.to_html(tmp_path / "page.html").is_file()


def test_the_raw_head_has_its_rows_of_zeros_too() -> None:
    layer = torch.nn.Linear(3, 4)
    with torch.no_grad():
        layer.weight.copy_(torch.vstack([torch.eye(3), torch.zeros(1, 3)]))
        layer.bias.copy_(torch.tensor([0.0, 0, 0, 100]))
    report = sc.diagnose(layer, search=False)
    assert report.K == 3 and report.rows.predicted == 0 and report.rows.predicted_without_bias == 3
    assert "0 to 100, median 0" in str(report) and "0 of 3 classes" in str(report)


@pytest.mark.parametrize("W", [np.ones((10, 3)), np.eye(3)[np.arange(30) % 3]])
def test_ties_are_no_lack_of_time(W: np.ndarray) -> None:
    text = str(sc.diagnose(W, search=False))
    assert "time was short" not in text and "at least -" not in text


def test_equal_rows_share_a_direction_in_one_dimension_too() -> None:
    report = sc.diagnose([[1.0], [1], [-1], [5]], search=False)
    assert report.groups["classes"].tolist() == [["0", "1", "3"]]


# Against what


def test_the_best_code_is_at_its_own_margin() -> None:
    code = sc.best_known(24, 3)
    report = sc.diagnose(code.W)
    assert report.margin == pytest.approx(code.margin, abs=1e-14)
    assert "above every draw of random rows, 100 % of the margin of the best code (best known)" in str(report)
    assert report.references.lower == pytest.approx(code.certificate.lower_bound)
    assert report.references.lower <= report.references.upper


def test_free_features_at_a_temperature() -> None:
    report = sc.diagnose(random_rows(24, 3, np.random.default_rng(0)), temperature=0.01)
    known = report.references
    assert known.free is not None and 0.2 < known.free <= known.lower
    assert f"at least {known.free:.4f} at this temperature" in str(report)
    assert sc.diagnose(report.W, temperature=1.0).references.free is None  # nothing is proved there


def test_a_stored_code_that_was_never_searched_is_called_so() -> None:
    text = str(sc.diagnose(random_rows(230, 9, np.random.default_rng(0)), search=False))
    assert "construction only, never searched" in text and "the best known" not in text


def test_classes_of_a_dense_code_do_not_share_a_direction() -> None:
    """On the sphere 401 classes cannot all be 18 degrees apart."""
    report = sc.diagnose(sc.solve(401, 3, starts=1, budget=1, objective="tammes", progress=False).W, search=False)
    assert report.directions.largest.max() > 0.95 and not report.directions.groups
    assert report.shared > 0.99


def test_where_all_classes_share_a_direction_they_are_measured_all_the_same() -> None:
    W = np.array([1.0, 0, 0, 0]) + 0.01 * np.random.default_rng(0).standard_normal((30, 4))
    report = sc.diagnose(W, search=False)
    assert report.groups["size"].tolist() == [30] and len(report.distinct) == 30
    assert report.distinct_margin == report.margin > 0 and len(report.distinct_danger) == 30


def test_where_no_code_is_stored_the_bound_is_named() -> None:
    text = str(sc.diagnose(random_rows(601, 3, np.random.default_rng(0)), search=False))
    assert "of what no classifier exceeds" in text and "best code" not in text


# Time


def test_what_time_leaves_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    W = random_rows(400, 30, np.random.default_rng(1))
    report = sc.diagnose(W, seconds=0, search=False)
    every = sc.margin(W).margins
    assert len(report.smallest.classes) < 400
    assert report.margin >= every.min() - 1e-14 >= report.margin - report.smallest.gap - 2e-14
    text = str(report)
    assert "time was short" in text and "at most" in text and "at least" in text
    assert report.rows.tested < 400


def test_random_rows_for_which_there_is_no_time_have_a_lower_value_too() -> None:
    known = references(400, 30, seconds=0, search=False)
    first = np.random.default_rng(np.random.SeedSequence(0).spawn(DRAWS)[0])
    (middle,), exact = known.random, sc.margin(random_rows(400, 30, first)).margin
    assert known.random_gap > 0
    assert middle - known.random_gap - 1e-14 <= exact <= middle + 1e-14
    exact_draws = references(400, 30, seconds=1e6, search=False)
    assert exact_draws.random_gap == 0 and len(exact_draws.random) == DRAWS
    assert exact_draws.random[0] == pytest.approx(exact, abs=1e-14)
    # a margin below the lower value is below that of random rows, though its exact value is not known
    W = random_rows(400, 30, np.random.default_rng(1))
    W[1] = unit_rows(W[:1] + 0.5 * W[1:2])[0]
    text = str(sc.diagnose(W, seconds=0, search=False))
    assert f"{middle - known.random_gap:.4f} to {middle:.4f} (1 draw)" in text
    assert "below every draw of random rows" in text


# Files of the report


def test_the_page_of_a_diagnosis(tmp_path: Path) -> None:
    W = trained(60, 6, 11)
    W[5:9] = W[5] * np.array([[1.0], [2], [3], [4]])
    names = [f"<b>{k}" for k in range(60)]
    report = sc.diagnose(W, names=names, search=False)
    page = report.to_html(tmp_path / "report.html")
    content = page.read_text()
    assert "<b>" not in content and content.count("<img") == 4
    worst = report.distinct_danger["class"][0].replace("<b>", "")
    assert f"Class &lt;b&gt;{worst} is in most danger: a weighted mean of" in content
    with pytest.raises(ValueError, match="it exists already"):
        report.to_html(page, replace=False)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (np.zeros((4, 3)), {}, "at least two rows that are not zero; of its 4 rows 4 are zero"),
        (np.ones((1, 3)), {}, "at least two classes; got 1 of dimension 3"),
        (np.full((3, 3), np.nan), {}, "3 of its 3 rows have NaN or infinite entries"),
        (np.eye(3), {"names": ["a"]}, "there must be 3 names, one per class of W; got 1"),
        (np.eye(3), {"key": "fc"}, "key names a matrix in a file, and a ndarray was given"),
        (np.eye(3), {"shared": 2}, "shared must be"),
        (np.eye(3), {"shared": 1}, "shared must be"),
        (np.eye(3), {"names": 5}, "names must be a list of names, one per class; got 5"),
        (np.eye(3), {"names": "abc"}, "names must be a list of names, one per class; got 'abc'"),
        (np.full((3, 3), 1.5e308), {}, r"must have entries of at most 1e\+300; got 1.5e\+308: scale it"),
        (np.eye(3), {"seconds": -1}, "seconds must be"),
        (np.eye(3), {"temperature": 0}, "temperature must be"),
        ([["a"]], {}, "W must be an array of real numbers"),
        ("nowhere.pt", {}, "there is no such file"),
    ],
)
def test_bad_input(model: Any, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sc.diagnose(model, **options)


def test_the_largest_angle_of_the_page_is_to_the_nearest_class() -> None:
    W = trained(30, 4, 12)
    danger = sc.diagnose(W, search=False).danger.set_index("row").sort_index()
    X = unit_rows(W)
    chords = cdist(X, X)
    np.fill_diagonal(chords, np.inf)
    np.testing.assert_allclose(danger["angle"], np.degrees(2 * np.arcsin(chords.min(axis=1) / 2)), atol=1e-6)
    assert (danger["margin"] <= chords.min(axis=1) + 1e-12).all()


# Data


class Net(torch.nn.Module):
    """A body that scales its inputs, and a head."""

    def __init__(self, W: np.ndarray) -> None:
        super().__init__()
        self.body = torch.nn.Identity()
        self.fc = torch.nn.Linear(W.shape[1], len(W), bias=False).double()
        with torch.no_grad():
            self.fc.weight.copy_(torch.from_numpy(W))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(3 * self.body(x))


def test_data_show_collapse_accuracy_and_confusions() -> None:
    from softmaxcode.metrics import GNC1, GNC3

    K, d, rng = 12, 4, np.random.default_rng(0)
    W = random_rows(K, d, rng)
    labels = np.repeat(np.arange(K), 20)
    X = W[labels] + 0.3 * rng.standard_normal((len(labels), d))
    net = Net(W)
    batches = [(torch.from_numpy(X[i : i + 50]), torch.from_numpy(labels[i : i + 50])) for i in range(0, 240, 50)]
    net.train()
    report = sc.diagnose(net, batches, layer="fc", names=[f"c{k}" for k in range(K)], search=False)
    assert net.training and report.data is not None and report.confused is not None
    predicted = (X @ W.T).argmax(axis=1)
    assert report.data.accuracy == pytest.approx(np.mean(predicted == labels))
    U = unit_rows(X)
    means = np.array([U[labels == k].mean(axis=0) for k in range(K)])
    nearest = cdist(U, means).argmin(axis=1)
    assert report.data.mean_accuracy == pytest.approx(np.mean(nearest == labels))
    assert report.data.agreement == pytest.approx(np.mean(nearest == predicted))
    assert report.data.feature_norm == pytest.approx(np.median(np.linalg.norm(3 * X, axis=1)), rel=1e-2)
    one, three = GNC1(K, d), GNC3(K, d)
    three.set_classifier(torch.from_numpy(W))
    for metric in (one, three):
        metric.update(torch.from_numpy(X), torch.from_numpy(labels))
    assert report.data.gnc1 == pytest.approx(one.compute().item())
    assert report.data.gnc3 == pytest.approx(three.compute().item())
    first = report.confused.iloc[0]
    wrong = [(a, b) for a, b in zip(labels, predicted, strict=True) if a != b]
    counts = {pair: wrong.count(pair) for pair in set(wrong)}
    assert first["count"] == max(counts.values())
    assert sum(report.confused["count"]) == len(wrong)
    a, b = int(first["class"][1:]), int(first["predicted"][1:])
    assert counts[a, b] == first["count"] and first["cosine"] == pytest.approx(W[a] @ W[b])
    assert "the head and the nearest class mean agree on" in str(report)
    assert report.rows.norm_is_measured and "(no features were given)" not in str(report)


def test_tokens_of_sequences_are_features() -> None:
    W = random_rows(6, 3, np.random.default_rng(1))
    net = Net(W)
    x = torch.randn(4, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(20).reshape(4, 5) % 6
    report = sc.diagnose(net, [(x, labels)], layer="fc", search=False)
    assert report.data is not None and report.data.samples == 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loader": []}, "pass layer, such as layer='fc'"),
        ({"layer": "head"}, r"the model has no layer 'head'; its layers with a weight matrix, the last first: fc"),
        ({"layer": "fc", "loader": []}, "the loader gave no batch"),
        ({"layer": "fc", "loader": [1]}, "a batch must be a pair of inputs and labels; got 'int'"),
        ({"layer": "fc", "loader": [(torch.ones(2, 3).double(), torch.tensor([0, 9]))]}, "labels must be from 0 to 5"),
        ({"layer": "fc", "loader": [(torch.ones(2, 3).double(), torch.tensor([0]))]}, r"labels must have shape \(2,\)"),
    ],
)
def test_data_that_do_not_fit(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sc.diagnose(Net(random_rows(6, 3, np.random.default_rng(0))), **options)


def test_a_layer_that_is_never_called() -> None:
    net = Net(random_rows(6, 3, np.random.default_rng(0)))
    net.other = torch.nn.Linear(3, 6)
    with pytest.raises(ValueError, match="it was called 0 times"):
        sc.diagnose(net, [(torch.ones(2, 3).double(), torch.tensor([0, 1]))], layer="other")
