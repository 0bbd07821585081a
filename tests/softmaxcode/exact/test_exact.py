"""Codes in closed form: coordinates, measurements, and the results of `solve` for them."""

from __future__ import annotations

import math

import numpy as np
import pytest

import softmaxcode as sc
from softmaxcode.exact import ClosedForm, closed_form
from softmaxcode.sphere import gram


def off_diagonal(W: np.ndarray) -> np.ndarray:
    return (W @ W.T)[~np.eye(len(W), dtype=bool)]


@pytest.mark.parametrize(("K", "d"), [(2, 2), (3, 2), (4, 3), (3, 8), (9, 8), (100, 99), (100, 120)])
def test_simplices_have_equal_cosines_and_sum_to_nothing(K, d):
    code = closed_form(K, d)
    np.testing.assert_allclose(off_diagonal(code.W), -1 / (K - 1), atol=1e-15)
    np.testing.assert_allclose(code.W.sum(axis=0), 0, atol=1e-14)
    assert code.margin == K / (K - 1) and code.max_cosine == -1 / (K - 1)
    assert f"simplex of {K}" in code.name


@pytest.mark.parametrize(("K", "d"), [(5, 3), (6, 3), (7, 4), (8, 4), (26, 20), (40, 20)])
def test_cross_polytopes_have_right_and_straight_angles(K, d):
    code = closed_form(K, d)
    assert set(np.unique(off_diagonal(code.W))) == {0.0, -1.0}
    # each row is met by one opposite row at most
    assert np.count_nonzero(gram(code.W) == -1) == 2 * (K - d)
    assert (code.margin, code.max_cosine) == (1, 0)
    assert "cross-polytope" in code.name


@pytest.mark.parametrize("K", [4, 5, 6, 8, 12, 17, 360, 10_000])
def test_polygons_have_equal_gaps(K):
    code = closed_form(K, 2)
    t = np.unwrap(np.arctan2(code.W[:, 1], code.W[:, 0]))
    np.testing.assert_allclose(np.diff(t), 2 * np.pi / K, atol=1e-14)
    assert code.max_cosine == pytest.approx(math.cos(2 * math.pi / K), abs=2e-16)
    # no cancellation for large K
    assert code.margin == pytest.approx(2 * math.sin(math.pi / K) ** 2, rel=1e-15)
    assert f"{K}-gon" in code.name


def test_symmetric_polygons_have_round_coordinates():
    assert closed_form(4, 2).W.tolist() == [[1, 0], [0, 1], [-1, 0], [0, -1]]
    assert closed_form(4, 2).margin == 1 and closed_form(4, 2).max_cosine == 0
    assert closed_form(6, 2).max_cosine == 0.5
    assert closed_form(3, 2).margin == 1.5 and closed_form(3, 2).max_cosine == -0.5


def test_points_of_the_line():
    assert closed_form(2, 1).W.tolist() == [[1], [-1]]
    assert (closed_form(2, 1).margin, closed_form(2, 1).max_cosine) == (2, -1)
    for K in (3, 4, 11):
        code = closed_form(K, 1)
        assert np.abs(code.W).tolist() == [[1.0]] * K
        assert (code.margin, code.max_cosine) == (0, 1)


def test_no_form_is_claimed_where_none_is_known():
    assert closed_form(7, 3) is None and closed_form(12, 3) is None and closed_form(1025, 512) is None
    assert isinstance(closed_form(1024, 512), ClosedForm)


@pytest.mark.parametrize("pair", [(1, 3), (3, 0), (2.5, 3), (True, 3), ("3", 3), (3, None)])
def test_bad_pairs_are_refused(pair):
    with pytest.raises(ValueError, match=r"must be an integer of at least [12]; got"):
        closed_form(*pair)


@pytest.mark.parametrize(
    ("K", "d"), [(2, 1), (2, 2), (2, 7), (3, 2), (5, 2), (6, 2), (4, 3), (5, 3), (6, 3), (9, 8), (13, 7)]
)
@pytest.mark.parametrize("objective", ["softmax", "tammes"])
def test_solve_returns_them_and_calls_them_optimal(K, d, objective):
    code = sc.solve(K, d, objective=objective)
    exact = closed_form(K, d)
    np.testing.assert_array_equal(code.W, exact.W)
    assert code.margin == pytest.approx(exact.margin, abs=1e-15)
    assert code.max_cosine == pytest.approx(exact.max_cosine, abs=1e-15)
    assert code.provenance.method == f"closed form: {exact.name}"
    assert (code.provenance.seed, code.provenance.starts, code.provenance.hops) == (None, 0, 0)
    assert code.certificate.status == "optimal"
    assert code.certificate.lower_bound <= code.certificate.upper_bound <= code.certificate.lower_bound + 1e-14


@pytest.mark.parametrize("K", [3, 6])
def test_more_points_than_two_on_the_line(K):
    code = sc.solve(K, 1)
    assert code.margin == 0 and code.max_cosine == 1 and code.min_distance == 0 and code.min_angle == 0
    assert code.certificate.status == "optimal"


def test_a_thousand_classes_in_512_dimensions():
    code = sc.solve(1000, 512)
    assert code.margin == 1.0
    assert code.max_cosine == 0.0
    assert code.certificate.status == "optimal"
