"""Lists of near pairs, their energy and the descent on it, compared with dense NumPy computations."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from softmaxcode.parallel.deadline import Deadline
from softmaxcode.parallel.thread_pool import ThreadPool
from softmaxcode.search.large import pair_list as module
from softmaxcode.search.large import tensors
from softmaxcode.search.large.descent import NearPairSearch, Schedule, paced
from softmaxcode.search.large.energy import PairEnergy
from softmaxcode.search.large.kernels import CompiledKernels, threshold_of
from softmaxcode.search.large.pair_list import OutOfTime, near_pairs, tree_pairs, uses_tree
from softmaxcode.search.large.tensors import TensorKernels
from softmaxcode.sphere import gram, random_rows

if TYPE_CHECKING:
    from softmaxcode.search.large.kernels import Kernels

SIZES = [(700, 3), (700, 12), (90, 40)]
COMPILED, TENSORS = CompiledKernels(ThreadPool(1)), TensorKernels("cpu")


def points(K: int, d: int, seed: int = 0) -> np.ndarray:
    return random_rows(K, d, np.random.default_rng(seed)).astype(np.float32)


def listed(pairs: module.NearPairs) -> set[tuple[int, int]]:
    return {
        (i, int(j)) for i in range(len(pairs.start) - 1) for j in pairs.partners[pairs.start[i] : pairs.start[i + 1]]
    }


class Clock:
    """A clock that advances by one second per reading."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


# --- lists ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("K", "d"), SIZES)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("tile", [(512, 2048), (64, 96)])
def test_the_list_has_every_pair_above_the_threshold_from_both_sides(K, d, threads, tile, monkeypatch):
    monkeypatch.setattr(module, "TILE", tile)
    X = points(K, d)
    threshold = threshold_of(COMPILED, X, 20, np.random.default_rng(1))
    with ThreadPool(threads) as pool:
        pairs = near_pairs(X, threshold, pool)
    C = gram(X.astype(np.float64))
    near = {(int(i), int(j)) for i, j in np.argwhere(np.abs(C - threshold) < 1e-6)}  # decided by rounding
    wanted = {(int(i), int(j)) for i, j in np.argwhere(threshold < C)}
    assert listed(pairs) | near == wanted | near
    assert len(listed(pairs)) == len(pairs.partners)
    assert 10 < pairs.per_point() < 40


def test_a_tree_finds_the_same_pairs_as_tiles():
    X = points(3000, 3)
    assert uses_tree(3000, 3) and not uses_tree(2999, 3) and not uses_tree(10**6, 9)
    threshold = threshold_of(COMPILED, X, 24, np.random.default_rng(0))
    a = {(min(p), max(p)) for p in zip(*map(np.ndarray.tolist, tree_pairs(X, threshold)), strict=True)}
    parts = module.tiled_pairs(X, threshold, ThreadPool(1), None)
    b = {(i, j) for rows, columns in parts for i, j in zip(rows.tolist(), columns.tolist(), strict=True)}
    C = np.abs(gram(X.astype(np.float64)) - threshold)
    assert all(C[i, j] < 1e-6 for i, j in a ^ b)


def test_all_pairs_where_as_many_partners_are_wanted():
    X = points(50, 5)
    assert threshold_of(COMPILED, X, 60, np.random.default_rng(0)) == -2
    assert near_pairs(X, -2.0, ThreadPool(1)).per_point() == 49


def test_the_pass_over_the_tiles_can_be_left():
    with pytest.raises(OutOfTime):
        near_pairs(points(2000, 10), 0.5, ThreadPool(1), Deadline(2.0, Clock()))


# --- energy ---------------------------------------------------------------------------------------------------


def dense_energy(X: np.ndarray, beta: float, threshold: float) -> tuple[float, np.ndarray]:
    """The energy minus 1 and its Riemannian gradient in float64, over all pairs above the threshold."""
    X = X.astype(np.float64)
    D = ((X[:, None] - X[None]) ** 2).sum(axis=2) / 2
    chosen = threshold < 1 - D
    np.fill_diagonal(chosen, False)
    top = -D[chosen].min()
    weights = np.where(chosen, np.exp(np.minimum(0.0, beta * (-D - top))), 0.0)
    gradient = 2 * (weights / weights.sum()) @ X
    gradient -= (gradient * X).sum(axis=1, keepdims=True) * X
    return top + math.log(weights.sum()) / beta, gradient


@pytest.mark.parametrize(("K", "d"), [(200, 3), (200, 12), (90, 40)])
@pytest.mark.parametrize("beta", [50.0, 3000.0])
@pytest.mark.parametrize("all_pairs", [False, True])
def test_value_and_gradient_against_a_dense_computation(K, d, beta, all_pairs):
    X = points(K, d, 3)
    threshold = -2.0 if all_pairs else threshold_of(COMPILED, X, 30, np.random.default_rng(0))
    value, gradient = dense_energy(X, beta, threshold)
    for threads in (1, 2):
        with ThreadPool(threads) as pool:
            energy = PairEnergy(pool, None if all_pairs else near_pairs(X, threshold, pool))
            grad = np.empty_like(X)
            # weights below e^-12 are neglected: K^2 of them at most
            assert energy(X, beta, grad) == pytest.approx(value, abs=K * K * math.exp(-12) / beta + 1e-6)
            np.testing.assert_allclose(grad, gradient, atol=2e-3 * np.abs(gradient).max())


def test_the_gradient_is_that_of_the_value():
    X = points(60, 6, 5)
    pairs = near_pairs(X, -2.0, ThreadPool(1))
    energy, grad, other = PairEnergy(ThreadPool(1), pairs), np.empty_like(X), np.empty_like(X)
    energy(X, 20.0, grad)
    direction = np.random.default_rng(0).standard_normal(X.shape).astype(np.float32)
    direction -= (direction * X).sum(axis=1, keepdims=True) * X

    def moved(step: float) -> float:
        Y = X + np.float32(step) * direction
        return energy(Y / np.linalg.norm(Y, axis=1, keepdims=True), 20.0, other)

    slope = (moved(0.001) - moved(-0.001)) / 0.002
    assert slope == pytest.approx(float((grad * direction).sum()), rel=5e-3)


def test_rows_do_not_depend_on_the_number_of_threads():
    X = points(900, 10)
    results = []
    for threads in (1, 2, 3):
        with ThreadPool(threads) as pool:
            energy, grad = PairEnergy(pool, near_pairs(X, 0.5, pool)), np.empty_like(X)
            results.append((energy(X, 100.0, grad), grad.tobytes()))
    assert results[0] == results[1] == results[2]


# --- tensors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tile", [2**21, 900])
@pytest.mark.parametrize(("K", "d"), [(200, 3), (200, 12), (90, 40)])
def test_tensors_list_the_same_pairs(K, d, tile, monkeypatch):
    monkeypatch.setitem(tensors.TILE, "cpu", tile)
    X = points(K, d, 3)
    threshold = threshold_of(COMPILED, X, 12, np.random.default_rng(0))
    assert threshold == pytest.approx(threshold_of(TENSORS, TENSORS.points(X), 12, np.random.default_rng(0)), abs=1e-6)
    ours = near_pairs(X, threshold, ThreadPool(1))
    pairs = TENSORS.near_pairs(TENSORS.points(X), threshold, Deadline(None))
    # a cosine at the threshold itself may be rounded either way
    assert len(listed(ours) ^ set(zip(pairs.rows.tolist(), pairs.partners.tolist(), strict=True))) <= 2
    assert pairs.start.tolist() == np.searchsorted(pairs.rows.numpy(), np.arange(K + 1)).tolist()


@pytest.mark.parametrize("tile", [2**21, 900])
@pytest.mark.parametrize("beta", [50.0, 3000.0])
@pytest.mark.parametrize("all_pairs", [False, True])
def test_the_energy_of_tensors_against_a_dense_computation(beta, all_pairs, tile, monkeypatch):
    monkeypatch.setitem(tensors.TILE, "cpu", tile)
    K, X = 200, points(200, 12, 3)
    threshold = -2.0 if all_pairs else threshold_of(COMPILED, X, 30, np.random.default_rng(0))
    value, gradient = dense_energy(X, beta, threshold)
    T = TENSORS.points(X)
    energy = TENSORS.energy(None if all_pairs else TENSORS.near_pairs(T, threshold, Deadline(None)))
    grad = torch.empty_like(T)
    assert energy(T, beta, grad) == pytest.approx(value, abs=K * K * math.exp(-12) / beta + 1e-6)
    np.testing.assert_allclose(grad.numpy(), gradient, atol=2e-3 * np.abs(gradient).max())


def test_tensors_and_compiled_kernels_take_the_same_first_steps():
    paths = []
    for kernels in (COMPILED, TENSORS):
        X = kernels.points(points(200, 6))
        energy, descent = kernels.energy(kernels.near_pairs(X, -2.0, Deadline(None))), kernels.minimizer(X)
        descent.evaluate(lambda X, grad, energy=energy: energy(X, 20.0, grad))
        for _ in range(3):
            descent.step(lambda X, grad, energy=energy: energy(X, 20.0, grad))
        paths.append(kernels.rows(descent.X))
    np.testing.assert_allclose(paths[0], paths[1], atol=1e-4)


# --- descent --------------------------------------------------------------------------------------------------


def descent(
    K: int = 300, d: int = 8, deadline: Deadline | None = None, kernels: Kernels = COMPILED, **schedule
) -> NearPairSearch:
    X = points(K, d)
    rng = np.random.default_rng(0)
    found = NearPairSearch(X, 0.5, Schedule(**schedule), kernels, deadline or Deadline(None), rng)
    found.run()
    return found


@pytest.mark.parametrize("kernels", [COMPILED, TENSORS])
def test_the_descent_reaches_a_good_packing_and_reports_its_value(kernels):
    found = descent(kernels=kernels)
    W = found.best.astype(np.float64)
    assert found.value == pytest.approx(1 - gram(W).max(), abs=1e-6)
    assert found.value > 0.38  # the best of many starts is near 0.41
    assert found.value > 10 * (1 - gram(points(300, 8).astype(np.float64)).max())


@pytest.mark.parametrize("kernels", [COMPILED, TENSORS])
def test_the_descent_is_repeatable(kernels):
    assert descent(150, 5, kernels=kernels).best.tobytes() == descent(150, 5, kernels=kernels).best.tobytes()


@pytest.mark.parametrize("kernels", [COMPILED, TENSORS])
def test_the_descent_ends_at_its_deadline_with_the_best_so_far(kernels):
    full = descent(150, 5, kernels=kernels)
    found = descent(150, 5, Deadline(150.0, Clock()), kernels)
    assert found.evaluations < full.evaluations / 2
    assert found.value == pytest.approx(1 - gram(found.best.astype(np.float64)).max(), abs=1e-6)
    none = descent(150, 5, Deadline(0.5, Clock()), kernels)
    assert none.value == -math.inf and none.best.tobytes() == points(150, 5).tobytes()


def test_beta_increases_faster_where_time_is_short():
    assert paced(1.5, 10.0, 1e4, 1.0, math.inf) == 1.5
    assert paced(1.5, 10.0, 1e4, 1.0, 4.0) == pytest.approx(1000 ** (1 / 3))
    assert paced(1.5, 10.0, 1e4, 100.0, 4.0) == pytest.approx(1000)
