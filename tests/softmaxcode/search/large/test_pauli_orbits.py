"""Groups of signed permutations, the energy of orbits, the search of orbits, and zones."""

from __future__ import annotations

import math

import numpy as np
import pytest

from softmaxcode.parallel.deadline import Deadline
from softmaxcode.parallel.thread_pool import ThreadPool
from softmaxcode.search.large.pauli_orbits import GroupName, OrbitEnergy, expand, groups, orbit_search
from softmaxcode.search.large.zones import zones
from softmaxcode.sphere import gram, random_rows


def matrices(name: GroupName, d: int) -> np.ndarray:
    """The elements as integer matrices, with their negatives where -1 belongs to the group."""
    group = name.build(d)
    M = np.zeros((len(group.signs), d, d), dtype=np.int64)
    for k, (permutation, signs) in enumerate(zip(group.permutations, group.signs, strict=True)):
        M[k, np.arange(d), permutation] = signs
    return np.concatenate([M, -M]) if group.negatives else M


@pytest.mark.parametrize("d", [1, 2, 3, 4, 5, 6, 7, 8, 12])
def test_every_group_is_one(d):
    for name in groups(d, 64):
        M = matrices(name, d)
        elements = {m.tobytes() for m in M}
        assert len(elements) == len(M) == name.order(d)
        assert np.array_equal(M[0], np.eye(d))
        products = np.einsum("aij,bjk->abik", M, M).reshape(-1, d, d)
        assert {m.tobytes() for m in products} == elements


def test_groups_are_ordered_and_bounded():
    orders = [name.order(128) for name in groups(128, 10**6)]
    assert orders == sorted(orders) and orders[0] == 1 and max(orders) == 2 * 128**2
    assert max(name.order(1024) for name in groups(1024, 10**9)) <= 2**15  # of the memory of the permutations


@pytest.mark.parametrize(
    "name",
    [
        GroupName(2, negatives=False),
        GroupName(1, 1),
        GroupName(1, 1, shifts=True),
        GroupName(3, blocks=True),
        GroupName(0, negatives=False),
    ],
)
@pytest.mark.parametrize("beta", [20.0, 500.0])
def test_the_energy_of_orbits_is_that_of_all_their_points(name, beta):
    d, n = 6, 70
    X = random_rows(n, d, np.random.default_rng(0)).astype(np.float32)
    group = name.build(d)
    W = np.empty((n * group.order, d))
    expand(group, X.astype(np.float64), len(W), W)
    C = gram(W)
    if group.negatives:  # a point and its negative count as one
        C[C < -1 + 1e-6] = -np.inf
        C = np.abs(np.where(np.isfinite(C), C, 0))
        C = np.where(C > 1 - 1e-6, -np.inf, C)
    rows = C[:: group.order]
    top = rows.max()
    total = np.exp(beta * (rows - top)).sum() / (2 if group.negatives else 1)
    results = []
    for threads in (1, 2):
        with ThreadPool(threads) as pool:
            energy, grad = OrbitEnergy(group, n, pool), np.empty_like(X)
            value = energy(X, beta, grad)
            results.append((value, grad.tobytes()))
    assert results[0] == results[1]
    assert energy.top == pytest.approx(top, abs=1e-6)
    assert value == pytest.approx(top + math.log(total) / beta, abs=1e-5 + 2e-3 / beta)


def test_the_gradient_is_that_of_the_energy():
    d, n = 6, 20
    X = random_rows(n, d, np.random.default_rng(1)).astype(np.float32)
    energy = OrbitEnergy(GroupName(1, 1).build(d), n, ThreadPool(1))
    grad, other = np.empty_like(X), np.empty_like(X)
    energy(X, 15.0, grad)
    direction = np.random.default_rng(0).standard_normal(X.shape).astype(np.float32)
    direction -= (direction * X).sum(axis=1, keepdims=True) * X

    def moved(step: float) -> float:
        Y = X + np.float32(step) * direction
        return energy(Y / np.linalg.norm(Y, axis=1, keepdims=True), 15.0, other)

    slope = (moved(0.001) - moved(-0.001)) / 0.002
    assert slope == pytest.approx(float((grad * direction).sum()), rel=1e-2)


def test_the_search_reports_the_value_of_the_expanded_rows():
    group = GroupName(2, 2).build(16)
    X = random_rows(20, 16, np.random.default_rng(0)).astype(np.float32)
    Y, value = orbit_search(group, X, 0.7, ThreadPool(1), Deadline(None))
    W = np.empty((640, 16))
    expand(group, Y.astype(np.float64), 640, W)
    assert value == pytest.approx(1 - gram(W).max(), abs=1e-6)
    assert value > 0.55  # random points: 0.15


def test_512_vectors_with_cosine_one_third():
    """One orbit of the full Pauli group in R^16: the search finds 1 - mu = 2/3, and the rows confirm it."""
    group = GroupName(4, 4).build(16)
    values = []
    for seed in range(4):
        X = random_rows(1, 16, np.random.default_rng(seed)).astype(np.float32)
        Y, value = orbit_search(group, X, 0.7, ThreadPool(1), Deadline(None))
        W = np.empty((512, 16))
        expand(group, Y.astype(np.float64), 512, W)
        assert value == pytest.approx(1 - gram(W).max(), abs=1e-6)
        values.append(value)
    assert max(values) == pytest.approx(2 / 3, abs=1e-5)


def test_the_search_ends_at_its_deadline():
    now = iter(range(10**6))
    X = random_rows(20, 8, np.random.default_rng(0)).astype(np.float32)
    Y, value = orbit_search(GroupName(1, 1).build(8), X, 0.5, ThreadPool(1), Deadline(60.0, lambda: next(now)))
    W = np.empty((160, 8))
    expand(GroupName(1, 1).build(8), Y.astype(np.float64), 160, W)
    assert next(now) < 100
    assert value == pytest.approx(1 - gram(W).max(), abs=1e-6)


@pytest.mark.parametrize(("K", "d"), [(2, 2), (7, 2), (2, 3), (500, 3), (500, 5), (3000, 4), (40, 12)])
def test_zones_are_as_far_apart_as_they_say(K, d):
    W, value = zones(K, d, np.random.default_rng(0))
    assert W.shape == (K, d)
    np.testing.assert_allclose(np.linalg.norm(W, axis=1), 1, atol=1e-14)
    assert 1 - gram(W).max() >= value * (1 - 1e-9)
    random = 1 - gram(random_rows(K, d, np.random.default_rng(0))).max()
    assert value > random or K < 10 or d > 10


def test_zones_come_near_to_the_best_density_on_the_sphere():
    """A square lattice is 0.866 times as dense as a hexagonal one, and 1 - mu is about 8 pi / (2 sqrt 3 K)."""
    _, value = zones(10_000, 3, np.random.default_rng(0))
    assert 0.80 < value / (4 * math.pi / math.sqrt(3) / 10_000) < 0.88
