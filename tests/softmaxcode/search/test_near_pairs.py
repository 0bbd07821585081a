"""The near-pair energy against the dense kernel and NumPy, along whole descents; schedules that stop and continue."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

from softmaxcode.search.descent import Descent, near_energy
from softmaxcode.search.energy import TAMMES, energy
from softmaxcode.search.near_pairs import BUILDS, DENSE, EVALUATIONS, FRESH, VALUE, energy_at
from softmaxcode.search.scale import scale
from softmaxcode.sphere import gram, random_rows, unit_rows

seeds = st.integers(0, 2**32 - 1)


def descended(X: np.ndarray, delta: float, first: float, last: float) -> np.ndarray:
    """The points after a whole schedule."""
    descent = Descent(X, delta)
    descent.run(first, last)
    return descent.X


def numpy_energy(X: np.ndarray, beta: float) -> tuple[float, np.ndarray]:
    """The energy and its Riemannian gradient from their definitions."""
    K = len(X)
    i, j = np.triu_indices(K, 1)
    cosines = np.sum(X[i] * X[j], axis=1)
    value = logsumexp(beta * cosines) / beta
    P = np.zeros((K, K))
    P[i, j] = np.exp(beta * (cosines - value))
    full = (P + P.T) @ X
    return float(value), full - np.sum(full * X, axis=1, keepdims=True) * X


def assert_energies_agree(X: np.ndarray, beta: float, value: float, gradient: np.ndarray) -> None:
    dense = np.empty_like(X)
    assert energy(TAMMES, X, beta, dense) == pytest.approx(value, abs=1e-10)
    np.testing.assert_allclose(gradient, dense, atol=1e-10)
    exact, riemannian = numpy_energy(X, beta)
    assert value == pytest.approx(exact, abs=1e-10)
    np.testing.assert_allclose(gradient, riemannian, atol=1e-10)


@given(st.integers(2, 60), st.integers(2, 12), st.floats(0.0, 6.0), seeds)
@settings(max_examples=60)
def test_value_and_gradient_of_random_points(K, d, exponent, seed):
    X, beta = random_rows(K, d, np.random.default_rng(seed)), 10**exponent
    value, gradient, points = near_energy(X, beta)
    assert (points == X).all()
    assert_energies_agree(X, beta, value, gradient)


@given(st.sampled_from([(12, 3), (40, 3), (20, 4), (30, 9)]), seeds)
@settings(max_examples=8)
def test_value_and_gradient_along_a_whole_descent(pair, seed):
    """At every evaluation of the list's own state: the points moved since it was built."""
    K, d = pair
    delta = scale(K, d).delta
    descent = Descent(random_rows(K, d, np.random.default_rng(seed)), delta)
    dense = 0
    for b in (3.0, 12.0, 50.0, 200.0, 3000.0, 1e5):
        for _ in range(4):
            descent.run(b / delta, b / delta, iterations=10)
            w = descent._work
            assert_energies_agree(descent.X, b / delta, w.numbers[VALUE], w.gradient)
            dense += w.counts[DENSE]
    assert dense > 0 and (d > 3 or dense < 24)  # both ways were used
    assert w.counts[BUILDS] < w.counts[EVALUATIONS]


@given(st.sampled_from([(50, 3), (30, 6)]), st.floats(1e-4, 0.3), seeds)
@settings(max_examples=30)
def test_a_list_is_rebuilt_before_a_pair_that_matters_can_be_missing(pair, size, seed):
    K, d = pair
    rng = np.random.default_rng(seed)
    delta = scale(K, d).delta
    beta = 300 / delta
    w = Descent(random_rows(K, d, rng), delta)._work
    w.counts[FRESH] = 1
    X = w.z.copy()
    for _ in range(10):
        value = energy_at(w, X, beta, w.gradient)
        assert_energies_agree(X, beta, value, w.gradient)
        X = unit_rows(X + size * delta**0.5 / d**0.5 * rng.standard_normal(X.shape))
    assert w.counts[BUILDS] >= 1


def test_a_list_of_moves_that_are_small_is_kept():
    rng = np.random.default_rng(0)
    X = descended(random_rows(60, 3, rng), scale(60, 3).delta, 50.0, 1e4)
    w = Descent(X, scale(60, 3).delta)._work
    w.counts[FRESH] = 1
    for _ in range(10):
        energy_at(w, unit_rows(X + 1e-6 * rng.standard_normal(X.shape)), 1e4, w.gradient)
    assert (w.counts[BUILDS], w.counts[EVALUATIONS], w.counts[DENSE]) == (1, 10, 0)
    assert 0 < w.begin[60] < 60 * 59 / 4


def test_duplicates_and_two_points_do_no_harm():
    value, gradient, _ = near_energy(np.tile(np.eye(3)[:1], (5, 1)), 100.0)
    assert value == pytest.approx(1 + np.log(10) / 100) and (gradient == 0).all()
    X = descended(np.array([[1.0, 0, 0], [0.9, np.sqrt(0.19), 0]]), 2.0, 1.0, 1e4)
    assert X[0] @ X[1] == pytest.approx(-1, abs=1e-6)


@pytest.mark.parametrize(
    ("K", "d", "mu"), [(12, 3, 5**-0.5), (6, 3, 0.0), (16, 5, 0.2), (27, 6, 0.25), (8, 2, 0.5**0.5)]
)
def test_a_schedule_reaches_known_optima(K, d, mu):
    delta = max(scale(K, d).delta, 0.1)
    rng = np.random.default_rng(3)
    found = min(gram(descended(random_rows(K, d, rng), delta, 5 / delta, 1e7)).max() for _ in range(20))
    assert found == pytest.approx(mu, abs=1e-5)


def test_a_stopped_schedule_keeps_its_points_and_another_continues():
    X = random_rows(40, 4, np.random.default_rng(1))
    descent = Descent(X, 0.5)
    late = time.monotonic() - 1
    descent.run(10.0, 1e6, factor=1.0001, deadline=late)
    assert descent.stopped
    np.testing.assert_allclose(np.linalg.norm(descent.X, axis=1), 1, atol=1e-12)
    assert descent.energy < numpy_energy(X, 10.0)[0]
    whole, slices = Descent(X, 0.5), Descent(X, 0.5)
    whole.run(10.0, 1e4)
    slices.run(10.0, 1e4, deadline=time.monotonic() + 1000)
    assert (whole.X == slices.X).all() and whole.work == slices.work
    assert whole.energy == pytest.approx(numpy_energy(whole.X, 1e4)[0], abs=1e-10)


def test_the_callers_rows_do_not_change():
    X = random_rows(20, 3, np.random.default_rng(2))
    before = X.copy()
    descended(X, 0.3, 10.0, 1000.0)
    assert (X == before).all()
