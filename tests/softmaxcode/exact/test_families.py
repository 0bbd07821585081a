"""The exact families together: the claims of each construction, the best of them, subsets, and reconstruction."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import softmaxcode as sc
from softmaxcode import exact
from softmaxcode.bounds.levenshtein_bound import levenshtein
from softmaxcode.bounds.simple import rankin
from softmaxcode.exact.families import constructions
from softmaxcode.exact.subcodes import greedy_subset, subsets
from softmaxcode.sphere import gram

#: Layers of the table are sampled; `test_orbits` has their exact values.
SMALL = [c for d in range(2, 25) for c in constructions(d) if c.K <= 1200 and not c.name.startswith("Leech-section")]
SMALL += [c for d in range(12, 23) for c in constructions(d) if c.name.startswith("Leech-section")][::40]

#: d, K, mu: universally optimal codes (Cohn and Kumar 2007, Table 1); that they are optimal packings follows from the
#: linear programming bound.
UNIVERSAL = [
    (3, 12, 1 / np.sqrt(5)),
    (4, 120, (1 + np.sqrt(5)) / 4),
    (5, 16, 1 / 5),
    (6, 27, 1 / 4),
    (7, 56, 1 / 3),
    (8, 240, 1 / 2),
    (21, 112, 1 / 9),
    (21, 162, 1 / 7),
    (22, 100, 1 / 11),
    (22, 275, 1 / 6),
    (22, 891, 1 / 4),
    (23, 552, 1 / 5),
    (23, 4600, 1 / 3),
    (52, 325, 1 / 16),
]


@pytest.mark.parametrize("construction", SMALL, ids=lambda c: f"{c.name} {c.K} {c.d}")
def test_a_construction_keeps_what_it_promises(construction):
    W = construction.build()
    assert W.shape == (construction.K, construction.d)
    np.testing.assert_allclose(np.linalg.norm(W, axis=1), 1, rtol=0, atol=4e-16 * np.sqrt(construction.d))
    cosine = gram(W).max()
    assert cosine <= construction.max_cosine + 3e-15
    assert np.linalg.matrix_rank(W) == construction.d
    assert construction.source
    assert construction.formula
    assert (construction.build() == W).all()


def test_names_are_unique():
    names = [c.name for d in range(2, 600) for c in constructions(d)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(("d", "K", "mu"), UNIVERSAL)
def test_universal_codes_are_there_and_proved(d, K, mu):
    known = exact.best(K, d)
    assert known.indices is None
    assert known.W.shape == (K, d)
    assert known.max_cosine == pytest.approx(mu, abs=1e-15)
    assert gram(known.W).max() == pytest.approx(mu, abs=2e-15)
    code = known.code("tammes")
    assert code.certificate.status == "optimal"
    if (K, d) != (120, 4):  # every one but the 600-cell meets Levenshtein's bound
        assert levenshtein(K, d).value == pytest.approx(mu, abs=1e-14)
    assert code.margin == pytest.approx(1 - mu, abs=3e-15)


@settings(max_examples=40)
@given(K=st.integers(2, 700), d=st.integers(1, 40))
def test_the_best_is_a_code_and_rebuilds(K, d):
    known = exact.best(K, d)
    if known is None:
        assert all(c.K + 2 * (d - n) < K for n in range(2, d + 1) for c in constructions(n))
        return
    assert known.W.shape == (K, d)
    assert gram(known.W).max() <= known.max_cosine + 3e-15
    assert known.max_cosine >= min(rankin(K, d).value, levenshtein(K, d).value) - 1e-14
    assert all(c.max_cosine >= known.max_cosine - 1e-12 for n in range(2, d + 1) for c in constructions(n) if c.K >= K)
    if exact.closed_form(K, d) is None:
        again = exact.rebuild(known.name, known.indices, K, d)
        np.testing.assert_array_equal(again.W, known.W)


@settings(max_examples=20)
@given(K=st.integers(9, 400), d=st.integers(4, 24))
def test_the_best_gets_no_better_with_more_classes_or_fewer_dimensions(K, d):
    here, more, fewer = exact.best(K, d), exact.best(K + 1, d), exact.best(K, d - 1)
    for other in (more, fewer):
        if other is not None:
            assert here is not None
            assert here.max_cosine <= other.max_cosine + 1e-12 or here.indices is not None


@pytest.mark.parametrize(("K", "d", "size", "mu"), [(120, 4, 20, 0.5), (144, 8, 32, 8**-0.5), (4320, 16, 288, 0.25)])
def test_subsets_avoid_the_largest_cosine(K, d, size, mu):
    """For example, an independent set of the contact graph of the 600-cell has at most 24 vertices."""
    W = next(c for c in constructions(d) if c.K == K).build()
    first = subsets(W)[0]
    assert len(first.indices) >= size
    assert first.max_cosine == pytest.approx(mu, abs=1e-9)
    assert gram(W[first.indices]).max() == pytest.approx(mu, abs=1e-12)
    assert len(np.unique(first.indices)) == len(first.indices)


def test_thinning_takes_the_row_with_most_contacts_first():
    W = np.array([[1, 0], [0.8, 0.6], [0.8, -0.6], [-1, 0.0]])
    assert greedy_subset(W, 3).tolist() == [1, 2, 3]
    assert greedy_subset(W, 4).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("K", "d", "name", "mu"),
    [
        (164, 22, "McLaughlin(162)", 1 / 7),
        (554, 24, "equiangular(276)", 1 / 5),
        (277, 23, "McLaughlin(275)", 1 / 6),
        (98, 10, "affine-plane(3)", 1 / 3),
        (18, 6, "Clebsch(16)", 1 / 5),
    ],
)
def test_dimensions_left_over_hold_two_vectors_each(K, d, name, mu):
    known = exact.best(K, d)
    assert known.name == name
    assert known.W.shape == (K, d)
    assert gram(known.W).max() == pytest.approx(mu, abs=1e-14)
    np.testing.assert_array_equal(exact.rebuild(known.name, known.indices, K, d).W, known.W)


def test_large_codes_are_built_in_part():
    known = exact.best(10000, 512)
    assert known.max_cosine <= 1 / 16
    rng = np.random.default_rng(7)
    some = rng.choice(10000, 300, replace=False)
    assert gram(known.W[some]).max() <= known.max_cosine + 1e-14
    assert sc.best_known(10000, 512).margin >= 0.9375


@pytest.mark.parametrize(
    ("name", "indices", "K", "d", "reason"),
    [
        ("no such code", None, 9, 4, "no exact construction in up to 4 dimensions"),
        ("24-cell", None, 24, 3, "no exact construction"),
        ("24-cell", None, 23, 4, "has 24 vectors, not 23"),
        ("24-cell", [0, 0, 1], 3, 4, "not 3 ascending ones"),
        ("24-cell", [0, 1, 24], 3, 4, "has 24 vectors, and 0 axes are left"),
        ("24-cell", [0, 1, 28], 3, 6, "has 24 vectors, and 4 axes are left"),
        ("24-cell", [-1, 0, 1], 3, 4, "not 3 ascending ones"),
        ("24-cell", [0, 1, 2], 4, 4, "not 4 ascending ones"),
        ("24-cell", None, 10**6, 10**6, "exceeds the 200000000 coordinates"),
        ("no such code", None, 15, 5_000_000, "in more than 7071 dimensions"),
        ("isotropic(16)", list(range(3000)), 3000, 3856, "more than the 200000000 coordinates"),
    ],
)
def test_rebuilding_what_is_no_code_is_refused(name, indices, K, d, reason):
    with pytest.raises(ValueError, match=reason):
        exact.rebuild(name, None if indices is None else np.array(indices), K, d)


@pytest.mark.parametrize(("K", "d"), [(1, 3), (5, 0), (5.5, 3), ("9", 3)])
def test_bad_pairs(K, d):
    with pytest.raises(ValueError, match="must be"):
        exact.best(K, d)


def test_pairs_that_no_family_covers():
    assert exact.best(10**6, 3) is None
    assert exact.best(10**7, 24) is None


def test_solve_returns_proved_codes_at_once():
    code = sc.solve(275, 22, objective="tammes", catalog=False)
    assert code.provenance.method == "exact: McLaughlin(275)"
    assert code.certificate.status == "optimal"
    assert sc.solve(120, 4, catalog=False, starts=1).max_cosine == pytest.approx((1 + np.sqrt(5)) / 4, abs=1e-15)
