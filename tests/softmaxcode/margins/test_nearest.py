"""The classes nearest to the rest, in the order of their bounds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import softmaxcode as sc
from softmaxcode.margins.nearest import nearest_classes, nearest_from_bounds
from softmaxcode.parallel.deadline import Deadline
from softmaxcode.sphere import largest_cosines, random_rows


@pytest.mark.parametrize(("K", "d", "count"), [(40, 3, 5), (300, 6, 10), (600, 2, 600), (30, 40, None)])
def test_the_nearest_are_those_of_all_margins(K, d, count):
    W = random_rows(K, d, np.random.default_rng(K))
    found, every = nearest_classes(W, count), sc.margin(W)
    wanted = K if count is None else count
    np.testing.assert_allclose(found.solved.margins[:wanted], np.sort(every.margins)[:wanted], atol=1e-14)
    assert found.certain >= wanted and len(found.classes) <= K and found.gap <= 1e-13
    np.testing.assert_allclose(every.margins[found.classes], found.solved.margins, atol=1e-14)
    assert (found.bounds <= every.margins + 1e-14).all()
    points = found.solved.weights @ W
    np.testing.assert_allclose(np.linalg.norm(W[found.classes] - points, axis=1), found.solved.margins, atol=1e-14)


def test_few_classes_are_solved_where_few_are_wanted():
    W = random_rows(2000, 4, np.random.default_rng(1))
    found = nearest_classes(W, 3)
    assert len(found.classes) < 500 and found.floor < np.inf


def test_a_deadline_leaves_bounds_for_the_others():
    W = random_rows(500, 8, np.random.default_rng(2))
    ticks = itertools.count()
    deadline = Deadline(2.5, clock=lambda: float(next(ticks)))
    found = nearest_from_bounds(W, 1 - largest_cosines(W), None, deadline=deadline)
    assert 8 <= len(found.classes) < 500 and found.floor < np.inf
    every = sc.margin(W).margins
    left = np.setdiff1d(np.arange(500), found.classes)
    assert every[left].min() >= found.floor - 1e-14
    assert np.sort(every)[: found.certain] == pytest.approx(found.solved.margins[: found.certain], abs=1e-14)
    assert found.margin - found.gap <= every.min() + 1e-14


def test_equal_rows_are_at_distance_zero_and_hold_each_other():
    W = random_rows(50, 5, np.random.default_rng(3))
    W[[7, 31]] = W[20]
    found = nearest_classes(W, 3)
    assert sorted(found.classes[:3].tolist()) == [7, 20, 31] and found.margin == 0
    for rank in range(3):
        competitors, weights = found.solved.competitors(rank)
        assert set(competitors.tolist()) <= {7, 20, 31} - {int(found.classes[rank])} and weights.sum() == 1


@pytest.mark.parametrize(("options", "message"), [({"count": 0}, "count must be"), ({"seconds": -1}, "seconds must")])
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        nearest_classes(np.eye(3), **options)


def test_an_earlier_result_is_continued():
    W = random_rows(400, 6, np.random.default_rng(4))
    bounds = 1 - largest_cosines(W)
    few = nearest_from_bounds(W, bounds, 5)
    more = nearest_from_bounds(W, bounds, None, known=few)
    assert set(few.classes) <= set(more.classes) and len(more.classes) == 400 and more.floor == np.inf
    np.testing.assert_allclose(more.solved.margins, np.sort(sc.margin(W).margins), atol=1e-14)


@pytest.mark.parametrize("count", [1, 3, 10])
@pytest.mark.parametrize("seed", range(4))
def test_equal_distances_are_certain_all_the_same(count, seed):
    """Cosines of equal rows are rounded to either side of 1, and those of a polygon differ in the last digit."""
    row = random_rows(2, 5, np.random.default_rng(seed))[:1]
    angles = 2 * np.pi * np.arange(400) / 400 + seed
    for W in (np.repeat(row, 10, axis=0), np.column_stack([np.cos(angles), np.sin(angles)])):
        found = nearest_classes(W, count)
        assert found.certain >= count and found.floor >= 0 and found.bounds.min() >= 0
        assert 0 <= found.margin - found.gap <= found.margin
