"""Sign vectors on the lines of planes: exact in integers, for every plane and every number of points removed."""

from __future__ import annotations

import numpy as np
import pytest

from softmaxcode.exact import best, constructions, planes
from softmaxcode.exact.hadamard import net_cells
from softmaxcode.sphere import gram

#: Dimensions with planes of order up to 9 and the triple systems, and one of order 11.
DIMENSIONS = (*range(7, 26), *range(44, 82), 133)


@pytest.mark.parametrize("w", [w for w in range(3, 60) if planes.sign_count(w)])
def test_sign_vectors_have_inner_products_up_to_one(w):
    signs = planes.sign_vectors(w)
    assert signs.shape == (planes.sign_count(w), w) and set(np.unique(signs)) == {-1, 1}
    G = signs @ signs.T
    assert G[~np.eye(len(G), dtype=bool)].max() <= 1


def test_the_sizes_of_the_sign_vectors_are_known():
    # A(3, 1), A(4, 2), A(5, 2) and A(7, 3) are attained; there is no Hadamard matrix of order 6 or 10
    assert [planes.sign_count(w) for w in range(3, 13)] == [8, 8, 16, 0, 16, 16, 16, 0, 24, 24]


@pytest.mark.parametrize("q", [2, 3, 4, 5, 7, 8, 9])
def test_any_two_points_are_on_one_line(q):
    lines = net_cells(q).reshape(-1, q)
    on = np.zeros((len(lines), q * q), dtype=np.int64)
    np.put_along_axis(on, lines, 1, axis=1)
    assert (on.sum(axis=1) == q).all()
    assert (on.T @ on == q * np.eye(q * q) + 1).all()  # q + 1 lines through a point, one through two


@pytest.mark.parametrize("d", DIMENSIONS)
def test_every_code_is_what_it_says(d):
    for code in planes.constructions(d):
        W = code.build()
        w = round(1 / code.max_cosine)
        assert W.shape == (code.K, code.d) == (code.K, d)
        np.testing.assert_array_equal(W, code.rows(np.arange(code.K)))
        scaled = W * np.sqrt(w)
        X = np.rint(scaled).astype(np.int64)
        np.testing.assert_allclose(scaled, X, atol=1e-14)
        assert len(np.unique(X, axis=0)) == code.K
        G = X @ X.T
        np.fill_diagonal(G, -w)
        assert G.max() == 1
        assert (X != 0).any(axis=0).all(), "every dimension is used"


@pytest.mark.parametrize(
    ("K", "d", "mu"), [(64, 8, 1 / 3), (96, 9, 1 / 3), (104, 13, 1 / 4), (208, 13, 1 / 3), (912, 57, 1 / 8)]
)
def test_pairs_that_no_other_family_holds(K, d, mu):
    known = best(K, d)
    assert known.max_cosine == mu and gram(known.W).max() == pytest.approx(mu, abs=1e-14)
    others = [c for n in range(2, d + 1) for c in constructions(n) if c.source != planes._SOURCE]
    assert min(c.max_cosine for c in others if c.K + 2 * (d - c.d) >= K) > mu + 0.01


def test_the_smallest_is_the_optimal_code_of_56_vectors():
    (code,) = planes.constructions(7)
    W = code.build()
    assert code.K == 56 and np.unique((3 * W @ W.T).round(9)).tolist() == [-3, -1, 1, 3]
