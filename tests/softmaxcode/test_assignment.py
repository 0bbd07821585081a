"""Assignments of classes to vectors, against all permutations of few classes and planted answers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import softmaxcode as sc
from softmaxcode.assignment import Assignment, assign, similarity_from_confusion, similarity_from_means
from softmaxcode.sphere import random_rows

SEEDS = st.integers(0, 2**32 - 1)


def objective(S: np.ndarray, V: np.ndarray, p: np.ndarray) -> float:
    """The sum over pairs i != j, written out."""
    S = (S + S.T) / 2
    return sum(S[i, j] * float(V[p[i]] @ V[p[j]]) for i, j in itertools.permutations(range(len(S)), 2))


def problem(K: int, d: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((K, K)), random_rows(K, d, rng)


def assert_consistent(found: Assignment, S: np.ndarray, V: np.ndarray) -> None:
    assert sorted(found.permutation) == list(range(len(S)))
    assert not found.permutation.flags.writeable
    np.testing.assert_allclose(found.objective, objective(S, V, found.permutation), atol=1e-10)


@given(st.integers(2, 6), st.integers(1, 4), SEEDS)
def test_against_all_permutations(K: int, d: int, seed: int) -> None:
    S, V = problem(K, d, seed)
    values = [objective(S, V, np.array(p)) for p in itertools.permutations(range(K))]
    best, worst = assign(S, V, starts=32), assign(S, V, starts=32, maximize=False)
    for found in (best, worst):
        assert_consistent(found, S, V)
        np.testing.assert_allclose(found.mean_objective, np.mean(values), atol=1e-10)
    # with so many starts for so few classes the local search misses the optimum in none of the draws
    np.testing.assert_allclose([best.objective, worst.objective], [max(values), min(values)], atol=1e-10)
    assert worst.bound - 1e-10 <= min(values) and max(values) <= best.bound + 1e-10


@given(st.integers(3, 25), st.integers(1, 6), SEEDS)
def test_no_swap_of_two_classes_improves_the_answer(K: int, d: int, seed: int) -> None:
    S, V = problem(K, d, seed)
    S = (S + S.T) / 2
    np.fill_diagonal(S, 0)
    for sign in (1, -1):
        found = assign(S, V, starts=2, maximize=sign == 1)
        assert_consistent(found, S, V)
        assert sign * found.objective <= sign * found.bound + 1e-9
        for i, j in itertools.combinations(range(K), 2):
            p = found.permutation.copy()
            p[[i, j]] = p[[j, i]]
            cosines = V[p] @ V[p].T
            assert sign * np.sum(S * cosines) <= sign * found.objective + 1e-9


@pytest.mark.parametrize(("K", "d"), [(12, 3), (30, 4), (100, 10)])
def test_a_relabelled_code_is_recovered(K: int, d: int) -> None:
    V = sc.best_known(K, d).W
    G = V @ V.T
    q = np.random.default_rng(K).permutation(K)
    found = assign(G[np.ix_(q, q)], V)
    off = np.sum(G * G) - K
    np.testing.assert_allclose([found.objective, found.bound], off, rtol=1e-12)
    np.testing.assert_allclose(G[np.ix_(found.permutation, found.permutation)], G[np.ix_(q, q)], atol=1e-7)


def test_relabelling_classes_and_vectors_changes_nothing_but_the_labels() -> None:
    S, V = problem(6, 3, 5)
    rng = np.random.default_rng(6)
    q, r = rng.permutation(6), rng.permutation(6)
    one, other = assign(S, V), assign(S[np.ix_(q, q)], V[r])
    np.testing.assert_allclose(other.objective, one.objective, rtol=1e-12)
    np.testing.assert_allclose([other.bound, other.mean_objective], [one.bound, one.mean_objective], rtol=1e-10)
    np.testing.assert_array_equal(r[other.permutation], one.permutation[q])


def test_diagonal_and_antisymmetric_part_do_not_count() -> None:
    S, V = problem(8, 3, 7)
    A = np.triu(np.ones((8, 8)))
    one, other = assign(S, V, starts=8), assign(S + A - A.T + 100 * np.eye(8), V, starts=8)
    np.testing.assert_array_equal(one.permutation, other.permutation)
    np.testing.assert_allclose(one.objective, other.objective, rtol=1e-12)


def test_the_seed_decides_and_more_starts_are_never_worse() -> None:
    S, V = problem(40, 5, 8)
    np.testing.assert_array_equal(
        assign(S, V, starts=6, seed=3).permutation, assign(S, V, starts=6, seed=3).permutation
    )
    objectives = [assign(S, V, starts=n).objective for n in (1, 2, 8, 32)]
    assert objectives == sorted(objectives)


def test_no_similarity_at_all() -> None:
    found = assign(np.zeros((5, 5)), random_rows(5, 3, np.random.default_rng(0)), starts=4)
    assert found.objective == found.mean_objective == 0
    assert abs(found.bound) < 1e-12


def test_similar_classes_get_near_vectors_of_a_code() -> None:
    """Three groups of four on the 12-gon: each group on four vectors in a row."""
    groups = np.arange(12) % 3
    code = sc.best_known(12, 2)
    found = assign(groups[:, None] == groups, code)
    angles = np.arctan2(code.W[:, 1], code.W[:, 0])
    place = np.argsort(np.argsort(angles))[found.permutation]
    for g in range(3):
        steps = np.diff(np.sort(place[groups == g]), append=np.sort(place[groups == g])[0] + 12)
        assert sorted(steps) == [1, 1, 1, 9]


def test_similarity_from_means() -> None:
    means = np.random.default_rng(1).standard_normal((6, 9)) + 2
    for centred in (True, False):
        X = means - means.mean(axis=0) if centred else means
        wanted = [
            [0.0 if i == j else X[i] @ X[j] / np.linalg.norm(X[i]) / np.linalg.norm(X[j]) for j in range(6)]
            for i in range(6)
        ]
        np.testing.assert_allclose(similarity_from_means(means, centred=centred), wanted, atol=1e-14)
    shifted = similarity_from_means(means + np.arange(9))
    np.testing.assert_allclose(shifted, similarity_from_means(means), atol=1e-13)
    between = np.vstack([means, means.mean(axis=0)])  # equal to the mean of all but for rounding
    with pytest.raises(ValueError, match="means must differ from their mean; row 6 does not, but for rounding"):
        similarity_from_means(between)


def test_similarity_from_confusion() -> None:
    counts = np.random.default_rng(2).integers(0, 50, (7, 7))
    S = similarity_from_confusion(counts)
    for i, j in itertools.product(range(7), repeat=2):
        rates = counts[i, j] / counts[i].sum() + counts[j, i] / counts[j].sum()
        assert S[i, j] == pytest.approx(0 if i == j else rates / 2, abs=1e-15)
    rates = counts / counts.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(similarity_from_confusion(rates), S, atol=1e-15)


def test_torch_tensors_are_taken() -> None:
    torch = pytest.importorskip("torch")
    counts = torch.tensor([[8, 2], [1, 3]])
    np.testing.assert_allclose(similarity_from_confusion(counts), [[0, 0.225], [0.225, 0]])
    means = torch.eye(3, requires_grad=True)
    np.testing.assert_allclose(similarity_from_means(means, centred=False), np.zeros((3, 3)))


def test_messages() -> None:
    V = random_rows(4, 3, np.random.default_rng(0))
    bad = np.eye(4)
    bad[1, 2] = np.nan
    with pytest.raises(ValueError, match=r"similarity must be finite; entry \(1, 2\) is nan"):
        assign(bad, V)
    with pytest.raises(ValueError, match=r"similarity must be square, with K >= 2 rows; got shape \(4, 3\)"):
        assign(np.ones((4, 3)), V)
    with pytest.raises(ValueError, match=r"similarity must be a matrix; got shape \(4,\)"):
        assign(np.ones(4), V)
    with pytest.raises(ValueError, match="similarity must be a matrix of real numbers; got list"):
        assign([["a", "b"], ["c", "d"]], V)
    with pytest.raises(ValueError, match=r"similarity and code must have one K; got shapes \(5, 5\) and \(4, 3\)"):
        assign(np.eye(5), V)
    with pytest.raises(ValueError, match="code must have rows of unit norm"):
        assign(np.eye(4), 2 * V)
    with pytest.raises(ValueError, match="starts must be an integer of at least 1; got 0"):
        assign(np.eye(4), V, starts=0)
    with pytest.raises(ValueError, match="seed must be an integer of at least 0; got -1"):
        assign(np.eye(4), V, seed=-1)
    with pytest.raises(ValueError, match=r"confusion must have no negative entry; entry \(0, 1\) is -1"):
        similarity_from_confusion([[1, -1], [0, 1]])
    with pytest.raises(ValueError, match="confusion must have a sample of every class; row 1 is zero"):
        similarity_from_confusion([[1, 1], [0, 0]])
    with pytest.raises(ValueError, match="means must differ from their mean; row 1 does not"):
        similarity_from_means([[1.0, 1], [0, 1], [-1, 1]])
    with pytest.raises(ValueError, match="means must have no row of zero norm; row 0 is zero"):
        similarity_from_means([[0.0, 0], [0, 1]], centred=False)


def test_a_class_without_a_mean_has_no_similarity():
    with pytest.raises(ValueError, match="row 1 is one, as of a class that was never seen"):
        similarity_from_means([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])


@pytest.mark.parametrize("scale", [1e-170, 1e-161, 1e-300, 1e160, 1e300])
def test_the_scale_of_the_similarity_does_not_matter(scale):
    rng = np.random.default_rng(3)
    V = sc.best_known(8, 2)
    assert assign(np.full((8, 8), scale), V, starts=2).objective == pytest.approx(-8 * scale)
    S = rng.random((8, 8))
    found, other = assign(S, V, starts=3), assign(scale * S, V, starts=3)
    assert other.objective == pytest.approx(scale * found.objective, rel=1e-9)
    assert other.bound == pytest.approx(scale * found.bound, rel=1e-9)


@given(st.integers(2, 6), st.integers(1, 4), SEEDS, st.data())
def test_fixed_pairs_against_all_permutations_that_keep_them(K: int, d: int, seed: int, data: st.DataObject) -> None:
    S, V = problem(K, d, seed)
    classes = data.draw(st.lists(st.integers(0, K - 1), unique=True, max_size=K))
    vectors = data.draw(st.permutations(range(K)))[: len(classes)]
    fixed = dict(zip(classes, vectors, strict=True))
    values = [
        objective(S, V, np.array(p))
        for p in itertools.permutations(range(K))
        if all(p[k] == v for k, v in fixed.items())
    ]
    for maximize, best in ((True, max(values)), (False, min(values))):
        found = assign(S, V, starts=32, maximize=maximize, fixed=fixed)
        assert_consistent(found, S, V)
        assert all(found.permutation[k] == v for k, v in fixed.items())
        np.testing.assert_allclose(found.objective, best, atol=1e-9)
        np.testing.assert_allclose(found.mean_objective, np.mean(values), atol=1e-10)


@pytest.mark.parametrize(
    ("fixed", "message"),
    [
        ({0: 4}, "a vector in fixed must be an integer of at most 3; got 4"),
        ({-1: 0}, "a class in fixed must be an integer of at least 0; got -1"),
        ({0: 2, 1: 2}, "fixed must give each class a vector of its own; got one vector twice"),
    ],
)
def test_fixed_pairs_that_cannot_be(fixed: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        assign(np.eye(4), random_rows(4, 2, np.random.default_rng(0)), fixed=fixed)
