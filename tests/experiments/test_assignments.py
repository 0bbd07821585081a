"""Similarity of inputs, graded assignments and the fixed code."""

import itertools

import numpy as np
import pytest
import torch

import softmaxcode as sc
from experiments import codes
from experiments.assignments import check_assignment, graded, input_similarity, permutation_for
from experiments.data import TextData, load
from experiments.data.dataset import TokenContexts
from experiments.data.labels import few_shot_rows
from experiments.settings import RunSettings


def cosine(a, b):
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def similarity(K, seed):
    S = np.random.default_rng(seed).normal(size=(K, K))
    S = S + S.T
    np.fill_diagonal(S, 0)
    return S


def objective(S, W, p):
    K = len(S)
    return sum(S[i, j] * float(W[p[i]] @ W[p[j]]) for i in range(K) for j in range(K) if i != j)


def text(tokens, K, context=3):
    contexts = TokenContexts(torch.tensor(tokens), context)
    return TextData(
        name="text",
        train=contexts,
        train_unaugmented=contexts,
        test=contexts,
        class_names=tuple(map(str, range(K))),
        source="",
        decode=str,
    )


def test_similarity_of_images_is_that_of_their_means():
    data = load("digits", few_shot={0: 3}, label_noise=0.1)
    images = {k: [] for k in range(10)}
    for image, label in data.train_unaugmented:
        images[label].append(image.numpy().ravel().astype(float))
    means = [np.mean(images[k], axis=0) for k in range(10)]
    middle = np.mean(means, axis=0)
    S = input_similarity(data)
    for i, j in itertools.product(range(10), repeat=2):
        wanted = 0.0 if i == j else cosine(means[i] - middle, means[j] - middle)
        assert S[i, j] == pytest.approx(wanted, abs=1e-9)


def test_similarity_of_tokens_is_that_of_what_comes_before_them():
    tokens = np.random.default_rng(5).choice(5, 40, p=[0.4, 0.3, 0.1, 0.1, 0.1]).tolist()
    data = text(tokens, 6)  # token 5 never comes
    used = tokens[: 1 + 39 // 3 * 3]
    fractions = []
    for k in range(5):
        before = [used[i - 1] for i in range(1, len(used)) if used[i] == k]
        fractions.append(np.sqrt([before.count(token) / len(before) for token in range(6)]))
    middle = np.mean(fractions, axis=0)
    S = input_similarity(data)
    for i, j in itertools.combinations(range(5), 2):
        assert S[i, j] == S[j, i] == pytest.approx(cosine(fractions[i] - middle, fractions[j] - middle), abs=1e-9)
    assert not S[5].any() and not S[:, 5].any() and not np.diagonal(S).any()


def test_similarity_needs_two_classes():
    with pytest.raises(ValueError, match="at least two; text has 1"):
        input_similarity(text([0] * 10, 3))


def test_extremes_and_mean_are_those_of_all_permutations():
    W = sc.best_known(6, 3).W
    W = sc.SoftmaxCode.from_rows(np.vstack([W[:5], [[0.6, 0.8, 0.0]]]))
    S = similarity(6, 1)
    values = [objective(S, W.W, p) for p in itertools.permutations(range(6))]
    found = graded(S, W, 1.0)
    assert found.objective == found.best == pytest.approx(max(values))
    assert found.mean == pytest.approx(np.mean(values))
    assert graded(S, W, -1.0).objective == found.worst == pytest.approx(min(values))


@pytest.mark.parametrize("level", [1.0, 0.6, 0.3, 0.0, -0.5, -1.0])
def test_level_is_reached(level):
    code, S = sc.best_known(40, 4), similarity(40, 2)
    found = graded(S, code, level, seed=3)
    end = found.best if level > 0 else found.worst
    assert sorted(found.permutation) == list(range(40))
    assert found.objective == pytest.approx(objective(S, code.W, found.permutation))
    assert (found.objective - found.mean) / abs(end - found.mean) == pytest.approx(level, abs=0.01)
    assert not found.permutation.flags.writeable


def test_seed_draws_what_is_between():
    code, S = sc.best_known(40, 4), similarity(40, 2)
    first, again, other = (graded(S, code, 0.3, seed=seed).permutation for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    ends = [graded(S, code, 1.0, seed=seed).permutation for seed in (0, 1)]
    assert np.array_equal(*ends)


@pytest.mark.parametrize("level", [1.5, "best", (0, 1), float("nan")])
def test_bad_level(level):
    with pytest.raises(ValueError, match="level"):
        graded(similarity(4, 0), sc.best_known(4, 2), level)


def test_similarity_and_code_of_different_sizes():
    with pytest.raises(ValueError, match="one K"):
        graded(similarity(5, 0), sc.best_known(4, 2), 0.5)


def test_permutation_for_what_settings_say():
    data, code = load("digits"), sc.best_known(10, 4)

    def wanted(**options):
        return permutation_for(RunSettings.checked("digits", **options), data, code)

    assert wanted() is None
    assert wanted(head="code") is None
    rows = (1, 0, *range(2, 10))
    assert wanted(head="code", assignment=rows).tolist() == list(rows)
    level = wanted(head="code", assignment=0.5, seed=4)
    assert np.array_equal(level, graded(input_similarity(data), code, 0.5, seed=4).permutation)
    with pytest.raises(ValueError, match="each of 10 classes; got 4"):
        wanted(head="code", assignment=(0, 1, 2, 3))


@pytest.mark.parametrize("assignment", [1.1, -2, (0, 0, 1), (1, 2), (0,), True, None])
def test_bad_assignment(assignment):
    with pytest.raises(ValueError, match="assignment must be a level"):
        check_assignment(assignment)


def test_few_shot_takes_classes_as_json_writes_them():
    labels = np.repeat([0, 1, 2], 8)
    kept = few_shot_rows(labels, {"1": 2, "2": 3}, 3, seed=0)
    assert np.bincount(labels[kept]).tolist() == [8, 2, 3]
    assert np.array_equal(kept, few_shot_rows(labels, {1: 2, 2: 3}, 3, seed=0))
    with pytest.raises(ValueError, match="class"):
        few_shot_rows(labels, {"one": 2}, 3, seed=0)


@pytest.mark.parametrize(("K", "d"), [(100, 10), (4, 2), (1000, 32), (3, 8)])
def test_code_is_the_best_known(K, d):
    assert np.array_equal(codes.code(K, d).W, sc.best_known(K, d).W)


def test_code_is_searched_for_where_none_is_held(monkeypatch):
    monkeypatch.setattr(codes, "BUDGET", 1.0)
    with pytest.raises(sc.UnknownCodeError) as missing:
        sc.best_known(500, 3)
    found = codes.code.__wrapped__(500, 3)
    assert found.W.shape == (500, 3)
    assert found.margin >= missing.value.bounds.lower
    assert found.provenance.seed == codes.SEED
