"""The margin of a sample of classes: its distances to all classes, and its confidence against exact probabilities."""

from __future__ import annotations

import itertools
import math
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import softmaxcode as sc
from softmaxcode.margins import exact as module
from softmaxcode.margins import sampled as sampled_margins
from softmaxcode.margins.exact import margins, smallest_margin
from softmaxcode.sphere import random_rows, unit_rows

SEEDS = st.integers(0, 2**32 - 1)


def chance_of_missing(M: int, K: int, S: int) -> Fraction:
    """The probability that none of M classes is among S drawn of K."""
    return Fraction(math.comb(K - M, S), math.comb(K, S))


# Distances


@given(seed=SEEDS, K=st.integers(2, 40), d=st.integers(2, 6), classes=st.integers(1, 50), near=st.booleans())
def test_the_margin_is_that_of_a_class_and_no_smaller_than_the_exact_one(seed, K, d, classes, near):
    rng = np.random.default_rng(seed)
    W = random_rows(K, d, rng)
    if near:
        W = unit_rows(W + 3 * W[0])
    exact = margins(W, n_jobs=1)
    found = sc.sampled_margin(W, classes, seed=seed, n_jobs=1)
    assert found.margin >= exact.margin - exact.gap - 1e-14
    assert found.margin == pytest.approx(exact.margins[found.attained_by], abs=1e-13)
    assert 0 <= found.gap <= 1e-12
    assert found.K == K and found.sampled == min(classes, K) and found.confidence == 0.95
    if classes >= K:
        assert found.fraction == 0
        assert found.margin == pytest.approx(exact.margin, abs=1e-13)
    below = np.count_nonzero(exact.margins < found.margin - 1e-12)  # none of these was drawn
    assert below <= K - found.sampled


def test_distances_are_to_all_classes_and_not_to_those_drawn():
    W = random_rows(300, 5, np.random.default_rng(0))
    W[::2] = unit_rows(W[1::2] + 1e-3 * W[::2])  # the nearest class of each is its twin
    for seed in range(5):
        found = sc.sampled_margin(W, 3, seed=seed)
        k = found.attained_by
        assert found.margin <= np.linalg.norm(W[k] - W[k ^ 1]) < 3e-3


def test_each_class_is_drawn_equally_often():
    """The class in a far tighter pair than the others attains the margin exactly when it is drawn."""
    K, S, draws = 12, 3, 600
    W = random_rows(K, 8, np.random.default_rng(1))
    W[7] = W[2] = unit_rows(W[2:3] + 0.01)[0]
    drawn = [sc.sampled_margin(W, S, seed=seed, n_jobs=1).attained_by for seed in range(draws)]
    missed = 1 - sum(k in (2, 7) for k in drawn) / draws
    chance = float(chance_of_missing(2, K, S))
    assert abs(missed - chance) < 5 * math.sqrt(chance * (1 - chance) / draws)


def test_the_seed_decides_the_draw():
    W = random_rows(200, 6, np.random.default_rng(2))
    assert sc.sampled_margin(W, 5, seed=3) == sc.sampled_margin(W, 5, seed=3)
    assert len({sc.sampled_margin(W, 5, seed=seed).attained_by for seed in range(20)}) > 1


def test_rows_of_other_kinds_are_taken_as_margin_takes_them():
    W = torch.randn(60, 5, generator=torch.Generator().manual_seed(4))
    found = sc.sampled_margin(W, 60, normalize=True)
    assert found.margin == pytest.approx(sc.margin(W, normalize=True).margin, abs=1e-14)
    unit = torch.nn.functional.normalize(W).requires_grad_()
    assert sc.sampled_margin(unit, 60).margin == pytest.approx(sc.margin(unit).margin, abs=1e-14)


def test_a_duplicated_row_has_distance_zero():
    W = random_rows(30, 4, np.random.default_rng(5))
    W[11] = W[20]
    found = sc.sampled_margin(W, 30)
    assert found.margin == pytest.approx(0, abs=1e-15) and found.attained_by in (11, 20)


@pytest.mark.parametrize("numbers", [1, 40 * 7, 2**24])
def test_fewer_classes_go_together_where_there_are_many(monkeypatch, numbers):
    W = random_rows(40, 6, np.random.default_rng(6))
    exact = margins(W)
    monkeypatch.setattr(module, "TILE_COSINES", numbers)
    again = margins(W, classes=np.array([31, 4, 4, 0]))
    np.testing.assert_allclose(again.margins, exact.margins[[31, 4, 4, 0]], atol=1e-14)
    np.testing.assert_allclose(again.H, exact.H[[31, 4, 4, 0]], atol=1e-12)
    assert margins(W).margin == pytest.approx(smallest_margin(W).margin, abs=1e-14)


def test_memory_does_not_grow_with_the_classes_drawn(monkeypatch):
    W = random_rows(20_000, 4, np.random.default_rng(7))
    monkeypatch.setattr(module, "TILE_COSINES", 10 * len(W))
    sc.sampled_margin(W, 2, n_jobs=1)  # compiles
    tracemalloc.start()
    sc.sampled_margin(W, 100, n_jobs=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 8 * module.TILE_COSINES < 8 * 100 * len(W)


# Confidence


@given(K=st.integers(2, 60), fraction=st.floats(0, 1), confidence=st.floats(0.001, 0.999999))
def test_the_fraction_is_the_largest_that_the_draw_does_not_refute(K, fraction, confidence):
    S = max(1, round(fraction * K))
    M = sampled_margins._nearer_at_most(K, S, confidence)
    alpha, slack = 1 - Fraction(confidence), Fraction(1, 10**12)  # a tie may be rounded either way
    assert chance_of_missing(M, K, S) > alpha * (1 - slack)
    assert chance_of_missing(M + 1, K, S) <= alpha * (1 + slack)


@pytest.mark.parametrize("confidence", [0.3, 0.7, 0.95])
@pytest.mark.parametrize(("K", "S"), [(7, 1), (7, 3), (9, 4), (8, 7), (6, 6)])
def test_coverage_over_all_draws(K, S, confidence):
    """At most 1 - confidence of all draws refute the statement; a stronger statement fails."""
    M = sampled_margins._nearer_at_most(K, S, confidence)
    nearer = [min(draw) for draw in itertools.combinations(range(K), S)]  # classes in the order of their distances
    assert np.mean([n > M for n in nearer]) <= 1 - confidence + 1e-12
    assert M == 0 or np.mean([n > M - 1 for n in nearer]) > 1 - confidence


def test_coverage_of_the_whole_function_on_a_classifier():
    K, S, confidence, draws = 60, 8, 0.8, 400
    W = random_rows(K, 3, np.random.default_rng(8))
    exact = np.sort(margins(W).margins)
    stored = [sc.sampled_margin(W, S, confidence=confidence, seed=seed, n_jobs=1) for seed in range(draws)]
    true = np.mean([np.sum(exact < f.margin - 1e-12) <= f.fraction * K + 1e-9 for f in stored])
    chance = 1 - float(chance_of_missing(round(stored[0].fraction * K) + 1, K, S))
    assert chance >= confidence
    assert abs(true - chance) < 5 * math.sqrt(chance * (1 - chance) / draws)


def test_a_large_population_comes_near_to_sampling_with_replacement():
    K, S = 10**6, 2000
    M = sampled_margins._nearer_at_most(K, S, 0.95)
    assert M / K == pytest.approx(1 - 0.05 ** (1 / S), rel=2e-3)
    log_chance = math.log(math.comb(K - M, S)) - math.log(math.comb(K, S))
    assert log_chance == pytest.approx(math.log(0.05), abs=3e-3)


# Refusals


@pytest.mark.parametrize("confidence", [0, 1, -0.5, 1.5, math.nan, "0.95", None, True, [0.5]])
def test_confidence_is_between_0_and_1(confidence):
    with pytest.raises(ValueError, match="confidence must be a number between 0 and 1, neither included; got"):
        sc.sampled_margin(np.eye(3), confidence=confidence)


@pytest.mark.parametrize("classes", [0, -1, 2.5, None, True])
def test_classes_is_a_positive_integer(classes):
    with pytest.raises(ValueError, match="classes must be an integer of at least 1; got"):
        sc.sampled_margin(np.eye(3), classes)


@pytest.mark.parametrize("seed", [-1, 0.5, "a"])
def test_the_seed_is_a_number(seed):
    with pytest.raises(ValueError, match="seed must be an integer of at least 0; got"):
        sc.sampled_margin(np.eye(3), seed=seed)


def test_rows_are_checked_at_the_door():
    with pytest.raises(ValueError, match="row 1 has norm 2"):
        sc.sampled_margin(np.diag([1.0, 2.0, 1.0]))
    with pytest.raises(ValueError, match="K >= 2 rows"):
        sc.sampled_margin(np.eye(1))
