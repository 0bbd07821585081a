"""The symmetry group: orders that are known, and permutations tried one by one."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy.combinatorics import Permutation, PermutationGroup

import softmaxcode as sc
from softmaxcode.exact import best
from softmaxcode.report import report, symmetries
from softmaxcode.sphere import random_rows, unit_rows
from softmaxcode.symmetry import automorphisms, symmetry_group
from softmaxcode.symmetry.automorphisms import PointOrbits

#: Orders from the literature: Weyl groups and their automorphisms, H_3, H_4, W(D_5), and the automorphism groups of the
#: strongly regular graphs of Higman and Sims (HS.2) and of McLaughlin (McL.2).
KNOWN_ORDERS = {"icosahedron": 120, "24-cell": 1152, "27": 51840, "56": 2903040, "E8": 696729600}
EXACT_ORDERS = {(120, 4): 14400, (16, 5): 1920, (100, 22): 88704000, (275, 22): 1796256000}


def simplex(K: int) -> np.ndarray:
    return unit_rows(np.eye(K) - 1 / K)


def cross_polytope(d: int) -> np.ndarray:
    return np.vstack([np.eye(d), -np.eye(d)])


def brute_force(W: np.ndarray) -> int:
    """The permutations, all of them tried, that preserve every cosine."""
    G = W @ W.T
    return sum(np.abs(G[np.ix_(p, p)] - G).max() < 1e-9 for p in itertools.permutations(range(len(W))))


def check_generators(W: np.ndarray) -> int:
    """Every generator preserves the cosines, and SymPy finds the same order from the generators alone."""
    group = symmetry_group(W)
    G = W @ W.T
    for one in group.generators:
        assert np.abs(G[np.ix_(one, one)] - G).max() < 1e-9
    listed = [Permutation(one.tolist()) for one in group.generators] or [Permutation(len(W) - 1)]
    assert PermutationGroup(listed).order() == group.order
    return group.order


@pytest.mark.parametrize("name", KNOWN_ORDERS)
def test_known_codes(known, name):
    assert symmetry_group(known[name]).order == KNOWN_ORDERS[name]


@pytest.mark.parametrize("pair", EXACT_ORDERS)
def test_exact_codes(pair):
    assert symmetry_group(best(*pair).W).order == EXACT_ORDERS[pair]


@pytest.mark.parametrize("K", [2, 3, 4, 9, 40])
def test_a_simplex_has_every_permutation(K):
    assert check_generators(simplex(K)) == math.factorial(K)


@pytest.mark.parametrize("d", [1, 2, 3, 8, 20])
def test_a_cross_polytope_has_signed_permutations(d):
    assert check_generators(cross_polytope(d)) == 2**d * math.factorial(d)


@pytest.mark.parametrize("name", ["icosahedron", "24-cell", "27"])
def test_generators_generate_the_group(known, name):
    assert check_generators(known[name]) == KNOWN_ORDERS[name]


@pytest.mark.parametrize("K", [3, 5, 8, 30])
def test_a_polygon_is_dihedral(K):
    assert symmetry_group(sc.best_known(K, 2).W).order == 2 * K


@pytest.mark.parametrize(("K", "order"), [(7, 6), (24, 24)])
def test_packings_of_the_sphere(K, order):
    """(7, 3) has the symmetry C3v; the snub cube has rotations only."""
    assert symmetry_group(sc.best_known(K, 3).W).order == order


def test_a_random_code_has_no_symmetry():
    assert symmetry_group(random_rows(60, 4, np.random.default_rng(0))).order == 1


def test_two_copies_of_a_point_can_be_exchanged():
    assert symmetry_group(np.vstack([np.eye(3), np.eye(3)])).order == 2**3 * 6


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(3, 6), st.integers(1, 3))
def test_every_permutation_tried(seed, K, d):
    """Few different coordinates, so that many codes have symmetries."""
    rng = np.random.default_rng(seed)
    W = rng.integers(-1, 2, size=(K, d)).astype(float)
    W[(W == 0).all(axis=1)] = 1
    W = unit_rows(W)
    assert symmetry_group(W).order == brute_force(W)
    assert check_generators(W) == brute_force(W)


@given(st.integers(0, 10**6))
def test_neither_the_numbering_nor_a_rotation_matters(seed):
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    W = unit_rows(best(16, 5).W[rng.permutation(16)] @ Q)
    assert symmetry_group(W).order == 1920


def test_a_search_that_has_to_go_back():
    """Shrikhande's graph and the 4 x 4 rook's graph have the same parameters, and no symmetry exchanges them."""

    def cosines(differences: list[tuple[int, int]]) -> np.ndarray:
        points = list(itertools.product(range(4), range(4)))
        return np.array([[((a - c) % 4, (b - e) % 4) in differences for c, e in points] for a, b in points], float)

    shrikhande = cosines([(0, 1), (0, 3), (1, 0), (3, 0), (1, 1), (3, 3)])
    rook = cosines([(0, 1), (0, 2), (0, 3), (1, 0), (2, 0), (3, 0)])
    both = np.block([[shrikhande, np.zeros((16, 16))], [np.zeros((16, 16)), rook]])
    W = np.linalg.cholesky(np.eye(32) + 0.1 * both)
    assert check_generators(unit_rows(W)) == 192 * 1152


def test_what_is_equal_within_the_tolerance():
    W = sc.best_known(12, 3).W
    moved = unit_rows(W + 1e-6 * random_rows(12, 3, np.random.default_rng(0)))
    assert symmetry_group(moved).order == 1
    assert symmetry_group(moved, tolerance=1e-5).order == 120


@pytest.mark.parametrize("tolerance", [0, -1e-9, 1, math.nan, "1e-9", None])
def test_a_bad_tolerance_is_refused(tolerance):
    with pytest.raises(ValueError, match="tolerance must be a number between 0 and 1"):
        symmetry_group(np.eye(3), tolerance=tolerance)


def test_what_is_too_large_is_not_computed(monkeypatch):
    with pytest.raises(sc.NotComputed, match=r"more than 1e\+03 comparisons of pairs"):
        symmetry_group(cross_polytope(20), max_work=1e3)
    with pytest.raises(sc.NotComputed, match=r"cosines that differ by .* cannot be told apart"):
        symmetry_group(random_rows(200, 2, np.random.default_rng(0)), tolerance=1e-3)
    monkeypatch.setattr(automorphisms, "MAX_POINTS", 5)
    with pytest.raises(sc.NotComputed, match=r"the symmetry group of 6 points \(the limit is 5\)"):
        symmetry_group(cross_polytope(3))
    code = sc.SoftmaxCode.from_rows(cross_polytope(3))
    assert symmetries(code).startswith("not computed: ")


def test_orbits_of_permutations():
    orbits = PointOrbits(7)
    orbits.add(np.array([1, 2, 0, 3, 4, 6, 5]))
    assert [orbits.of(i).tolist() for i in (2, 3, 6)] == [[0, 1, 2], [3], [5, 6]]
    orbits.add(np.array([0, 1, 5, 3, 4, 2, 6]))
    assert orbits.of(6).tolist() == [0, 1, 2, 5, 6]


def test_the_report_has_the_order():
    assert "symmetry group        order 120\n" in report(sc.best_known(12, 3))
    assert symmetries(sc.SoftmaxCode.from_rows(simplex(30))) == "order 2.65e+32"
