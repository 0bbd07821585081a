"""Starts from neighbouring codes and in layers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from softmaxcode.exact import closed_form
from softmaxcode.search.energy import TAMMES
from softmaxcode.search.layers import layer_sizes, layered_start, product_layers, stacked_layers
from softmaxcode.search.multistart import optimise
from softmaxcode.search.neighbours import deepest_hole, grow, shrink
from softmaxcode.sphere import gram, random_rows

seeds = st.integers(0, 2**32 - 1)


def rows_in(W: np.ndarray, V: np.ndarray) -> np.ndarray:
    """Whether each row of W is, bit for bit, a row of V."""
    return (W[:, None] == V[None]).all(axis=2).any(axis=1)


def test_the_deepest_holes_of_the_cube_are_its_faces():
    cube = np.array(np.meshgrid(*[[1.0, -1.0]] * 3)).reshape(3, -1).T / np.sqrt(3)
    hole = deepest_hole(cube, np.random.default_rng(0))
    np.testing.assert_allclose(np.sort(np.abs(hole)), [0, 0, 1], atol=1e-9)


def test_twelve_points_taken_out_of_the_icosahedron_come_back(known):
    W = known["icosahedron"]
    rng = np.random.default_rng(1)
    again = grow(shrink(W, 1, rng), 1, rng)
    np.testing.assert_allclose(np.sort(gram(again).max(axis=1)), 1 / np.sqrt(5), atol=1e-9)


def test_one_point_grows_into_a_cross_polytope_and_five_corners_of_a_simplex_into_six():
    octahedron = grow(np.eye(1, 3), 5, np.random.default_rng(2))
    np.testing.assert_allclose(np.sort(octahedron @ octahedron.T), [[-1, 0, 0, 0, 0, 1]] * 6, atol=1e-9)
    corners = closed_form(6, 5).W
    np.testing.assert_allclose(grow(corners[:5], 1, np.random.default_rng(2))[5], corners[5], atol=1e-9)


@given(st.integers(2, 12), st.integers(2, 5), st.integers(0, 3), seeds)
def test_grown_codes_keep_their_rows_and_the_new_ones_beat_most_random_points(K, d, count, seed):
    rng = np.random.default_rng(seed)
    W = random_rows(K, d, rng)
    grown = grow(W, count, rng)
    assert grown.shape == (K + count, d)
    assert (grown[:K] == W).all()
    np.testing.assert_allclose(np.linalg.norm(grown, axis=1), 1, atol=1e-12)
    if count:
        sample = (random_rows(100, d, rng) @ W.T).max(axis=1)
        assert (grown[K] @ W.T).max() <= np.median(sample)


@given(st.integers(3, 14), st.integers(2, 5), seeds)
def test_shrunk_codes_are_rows_of_the_old_and_lose_the_nearest_pair_first(K, d, seed):
    rng = np.random.default_rng(seed)
    W = random_rows(K, d, rng)
    pair = set(np.unravel_index(np.argmax(gram(W)), (K, K)))
    small = shrink(W, 1, rng)
    gone = np.flatnonzero(~rows_in(W, small))
    assert len(small) == K - 1 and rows_in(small, W).all()
    assert len(gone) == 1 and int(gone[0]) in pair
    assert gram(small).max() < gram(W).max()


def test_ties_are_broken_at_random_and_the_point_of_most_contacts_goes_first():
    square = np.array([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    left = {shrink(square, 1, np.random.default_rng(s)).tobytes() for s in range(40)}
    assert len(left) == 4
    # three points on an arc: the middle one has two contacts
    a = 0.3
    arc = np.array([[np.cos(t), np.sin(t)] for t in (-a, 0.0, a, np.pi)])
    np.testing.assert_array_equal(shrink(arc, 1, np.random.default_rng(0)), arc[[0, 2, 3]])


@pytest.mark.parametrize("count", [-1, 1.5, True, None])
def test_bad_counts_are_refused(count):
    with pytest.raises(ValueError, match="count must be an integer of at least 0"):
        grow(np.eye(3), count, np.random.default_rng(0))
    with pytest.raises(ValueError, match="count must be an integer of at least 0"):
        shrink(np.eye(3), count, np.random.default_rng(0))


def test_two_points_are_left():
    assert shrink(np.eye(5), 3, np.random.default_rng(0)).shape == (2, 5)
    with pytest.raises(ValueError, match="must leave two points of 5; got 4"):
        shrink(np.eye(5), 4, np.random.default_rng(0))


@given(st.integers(0, 500), st.lists(st.floats(0.01, 10), min_size=1, max_size=8))
def test_layer_sizes_sum_to_K_and_are_within_one_of_proportional(K, weights):
    w = np.array(weights)
    sizes = layer_sizes(K, w)
    assert sizes.sum() == K and (sizes >= 0).all()
    assert (np.abs(sizes - K * w / w.sum()) < 1 + 1e-9).all()


@given(st.integers(2, 60), st.integers(2, 9), seeds)
def test_layered_starts_are_unit_rows_and_follow_from_the_generator(K, d, seed):
    W = layered_start(K, d, np.random.default_rng(seed))
    assert W.shape == (K, d)
    np.testing.assert_allclose(np.linalg.norm(W, axis=1), 1, atol=1e-12)
    np.testing.assert_array_equal(W, layered_start(K, d, np.random.default_rng(seed)))


@given(st.integers(20, 60), st.integers(3, 6), seeds)
def test_stacked_layers_have_few_heights(K, d, seed):
    heights = np.unique(stacked_layers(K, d, np.random.default_rng(seed))[:, 0])
    assert 2 <= len(heights) <= 7


@given(st.integers(20, 60), st.integers(3, 6), seeds)
def test_product_layers_have_three_angles_at_most(K, d, seed):
    W = product_layers(K, d, np.random.default_rng(seed))
    # the two parts of a row have norms cos t and sin t, t one of 0, one angle, pi / 2
    split = [np.unique(np.round(np.linalg.norm(W[:, :p], axis=1), 9)) for p in range(1, d)]
    assert min(len(norms) for norms in split) <= 3


def test_layers_reach_the_best_twenty_four_points():
    best = min(optimise(TAMMES, layered_start(24, 3, np.random.default_rng(s)), 30.0).value for s in range(20))
    assert best == pytest.approx(0.7230784683, abs=1e-4)


@pytest.mark.parametrize(("K", "d"), [(1, 3), (5, 1), (2.5, 3), (True, 3)])
def test_bad_pairs_are_refused(K, d):
    with pytest.raises(ValueError, match="must be an integer of at least 2"):
        layered_start(K, d, np.random.default_rng(0))
