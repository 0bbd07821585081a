"""The closest pairs of classes, and Mantel's test, against definitions written out here."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest, spearmanr

import softmaxcode as sc
from experiments import class_similarity
from experiments.class_similarity import mantel, nearest_pairs

SEEDS = st.integers(0, 2**32 - 1)


# Nearest pairs


@given(SEEDS, st.integers(2, 30), st.integers(1, 6), st.integers(1, 40), st.integers(1, 200))
def test_nearest_pairs(seed: int, K: int, d: int, count: int, tile: int) -> None:
    X = np.random.default_rng(seed).standard_normal((K, d))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(class_similarity, "TILE_COSINES", tile)
        found = nearest_pairs(X, count=count)
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    pairs = {(i, j): unit[i] @ unit[j] for i, j in itertools.combinations(range(K), 2)}
    wanted = sorted(pairs.values(), reverse=True)[:count]
    assert len(found) == len(wanted)
    np.testing.assert_allclose(found["cosine"], wanted, atol=1e-12)
    assert found["cosine"].is_monotonic_decreasing
    rows = list(zip(found["first"], found["second"], strict=True))
    assert len(set(rows)) == len(rows)
    np.testing.assert_allclose(found["cosine"], [pairs[row] for row in rows], atol=1e-12)
    np.testing.assert_allclose(np.cos(np.radians(found["angle"])), np.clip(wanted, -1, 1), atol=1e-12)


def test_nearest_pairs_of_named_classes() -> None:
    found = nearest_pairs(torch.eye(3) + torch.tensor([0.0, 0.2, 0.1]), ("cat", "dog", "ship"))
    assert found[["first", "second"]].to_numpy().tolist() == [["dog", "ship"], ["cat", "dog"], ["cat", "ship"]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "count must be an integer of at least 1; got 0"),
        ({"names": ["a", "b"]}, "names must be 3, one for each class; got 2"),
    ],
)
def test_nearest_pairs_refuses(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nearest_pairs(np.eye(3), **options)
    with pytest.raises(ValueError, match="row 1 is zero"):
        nearest_pairs([[1, 0], [0, 0]])


# Mantel's test


def similarity(rng: np.random.Generator, K: int, levels: int | None = None) -> np.ndarray:
    """A random symmetric matrix; with ``levels`` its entries have few different values (but more than one)."""
    S = rng.standard_normal((K, K)) if levels is None else rng.integers(levels, size=(K, K)).astype(float)
    if levels is not None:
        S[0, 1:3] = 0, 1
    return np.triu(S, 1) + np.triu(S, 1).T


def off_diagonal(S: np.ndarray) -> np.ndarray:
    return np.array([S[i, j] for i, j in itertools.combinations(range(len(S)), 2)])


EXTREME = {"two-sided": abs, "greater": lambda r: r, "less": lambda r: -r}


@pytest.mark.parametrize("alternative", EXTREME)
@pytest.mark.parametrize("levels", [None, 3])
@pytest.mark.parametrize("K", [3, 4, 5, 6])
def test_all_relabellings_of_few_classes(K: int, levels: int | None, alternative: str) -> None:
    rng = np.random.default_rng([K, 17])
    G, S = similarity(rng, K), similarity(rng, K, levels)
    of = EXTREME[alternative]
    observed = spearmanr(off_diagonal(G), off_diagonal(S)).statistic
    tried = [
        spearmanr(off_diagonal(G), off_diagonal(S[np.ix_(p, p)])).statistic for p in itertools.permutations(range(K))
    ]
    found = mantel(G, S, alternative=alternative)
    assert (found.exact, found.permutations, found.alternative) == (True, len(tried), alternative)
    assert found.correlation == pytest.approx(observed, abs=1e-12)
    assert found.p_value == pytest.approx(np.mean([of(r) >= of(observed) - 1e-12 for r in tried]), abs=1e-12)


def test_random_relabellings_agree_with_all() -> None:
    rng = np.random.default_rng(5)
    G, S = similarity(rng, 6), similarity(rng, 6)
    exact, drawn = mantel(G, S, 719), mantel(G, S, 718)
    assert (exact.exact, drawn.exact) == (True, False)
    assert drawn.permutations == 718
    error = (exact.p_value * (1 - exact.p_value) / 718) ** 0.5
    assert drawn.p_value == pytest.approx(exact.p_value, abs=4 * error + 1 / 718)
    assert drawn.correlation == exact.correlation


@given(SEEDS, st.integers(3, 12), st.sampled_from([None, 2, 4]))
def test_what_changes_nothing(seed: int, K: int, levels: int | None) -> None:
    """Relabelling both, the diagonal, and a monotone function of the entries; a falling one changes the sign."""
    rng = np.random.default_rng(seed)
    G, S = similarity(rng, K), similarity(rng, K, levels)
    found = mantel(G, S, 99)
    assert found.correlation == pytest.approx(spearmanr(off_diagonal(G), off_diagonal(S)).statistic, abs=1e-12)
    p = rng.permutation(K)
    assert mantel(G[np.ix_(p, p)], S[np.ix_(p, p)], 1).correlation == pytest.approx(found.correlation, abs=1e-12)
    assert mantel(G + 5 * np.eye(K), S, 99) == found
    assert mantel(np.exp(G), 3 * S - 1, 99) == found
    assert mantel(-G, S, 99).correlation == pytest.approx(-found.correlation, abs=1e-12)
    assert mantel(-G, S, 99).p_value == pytest.approx(found.p_value)
    assert mantel(S, G, 1).correlation == pytest.approx(found.correlation, abs=1e-12)


def test_p_values_are_uniform_where_there_is_nothing() -> None:
    """Cosines of random points, whose pairs are dependent as a classifier's are."""
    rng = np.random.default_rng(2024)
    for alternative in EXTREME:
        p_values = []
        for trial in range(300):
            X, Y = rng.standard_normal((2, 10, 2))
            X, Y = (A / np.linalg.norm(A, axis=1, keepdims=True) for A in (X, Y))
            p_values.append(mantel(X @ X.T, Y @ Y.T, 99, trial, alternative=alternative).p_value)
        # of 99 relabellings the p-value is a multiple of 1/100: spread each uniformly over its step
        smeared = np.array(p_values) - rng.random(300) / 100
        assert kstest(smeared, "uniform").pvalue > 0.001
        assert np.mean(np.array(p_values) <= 0.05) < 0.05 + 4 * (0.05 * 0.95 / 300) ** 0.5


def test_similar_classes_that_are_close_are_found() -> None:
    rng = np.random.default_rng(1)
    X = rng.standard_normal((30, 5))
    close = X + rng.standard_normal(X.shape)
    found = mantel(X @ X.T, close @ close.T, 999, alternative="greater")
    assert found.p_value == 1 / 1000
    assert mantel(X @ X.T, close @ close.T, 999, alternative="less").p_value == 1
    assert mantel(X @ X.T, -close @ close.T, 999).p_value == 1 / 1000
    assert found.correlation > 0.3


def test_equal_cosines_share_a_rank_in_spite_of_rounding() -> None:
    """A polygon's cosines take few values, which a rotation changes in the last digit."""
    code = sc.best_known(7, 2).W
    angle = np.random.default_rng(0).uniform(0, 6)
    turned = code @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    S = similarity(np.random.default_rng(1), 7)
    steps = abs(np.arange(7)[:, None] - np.arange(7))
    exact = -np.minimum(steps, 7 - steps)  # nearer on the circle is more alike
    assert mantel(turned @ turned.T, S, 50) == mantel(code @ code.T, S, 50) == mantel(exact, S, 50)


def test_float32_and_gradients() -> None:
    rng = np.random.default_rng(3)
    X, S = torch.tensor(rng.standard_normal((9, 4)), dtype=torch.float32, requires_grad=True), similarity(rng, 9)
    plain = X.detach().double().numpy()
    assert mantel(X @ X.T, S, 99).correlation == pytest.approx(mantel(plain @ plain.T, S, 99).correlation, abs=0.01)


ORDER = similarity(np.random.default_rng(0), 4)


@pytest.mark.parametrize(
    ("G", "S", "options", "message"),
    [
        (ORDER, ORDER, {"alternative": "both"}, "'two-sided', 'greater', 'less'; got 'both'"),
        (ORDER, ORDER, {"permutations": 0}, "permutations must be an integer of at least 1; got 0"),
        (ORDER, ORDER, {"seed": -1}, "seed must be an integer of at least 0; got -1"),
        (ORDER[:2, :2], ORDER, {}, r"G must have K >= 3 rows; got shape \(2, 2\)"),
        (ORDER, ORDER[:3], {}, r"S must be square, with K >= 2 rows; got shape \(3, 4\)"),
        (ORDER, ORDER[:3, :3], {}, r"one K; got shapes \(4, 4\) and \(3, 3\)"),
        (ORDER, np.full((4, 4), np.nan), {}, "S must be finite"),
        (ORDER, "similar", {}, "S must be a matrix"),
        (ORDER, ORDER + 2 * np.eye(4, k=3), {}, r"S must be symmetric; entries \(0, 3\) and \(3, 0\) are .*S \+ S\.T"),
        (ORDER, np.eye(4), {}, "S has no order of pairs: all its off-diagonal entries are equal"),
    ],
)
def test_mantel_refuses(G: Any, S: Any, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mantel(G, S, **options)
