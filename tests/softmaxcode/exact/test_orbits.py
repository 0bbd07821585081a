"""Orbits of extraspecial groups, construction A, further layers of the Leech lattice: exact in integers."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations

import flint
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softmaxcode.exact import best, constructions, parts, rebuild
from softmaxcode.exact.constant_weight import blocks, integer_rows
from softmaxcode.exact.leech import minimal_vectors
from softmaxcode.exact.leech_layers import stored_layers
from softmaxcode.exact.orbits import BASES, REAL_START, golden_orbits, orbit_code, real_orbit, two_poles
from softmaxcode.exact.root_systems import layer
from softmaxcode.exact.subset_table import levels, measured_levels
from softmaxcode.sphere import gram


def products(X: np.ndarray) -> dict[int, int]:
    """Inner products of different rows, each with the number of ordered pairs."""
    G = X @ X.T
    values, counts = np.unique(G[~np.eye(len(X), dtype=bool)], return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def rank(X: np.ndarray) -> int:
    """The rank of integer rows, modulo a prime: at most the true rank, and equal to it but by chance."""
    A, p, r = X.astype(object) % 1_000_003, 1_000_003, 0
    for column in range(A.shape[1]):
        pivots = [i for i in range(r, len(A)) if A[i, column]]
        if not pivots:
            continue
        A[[r, pivots[0]]] = A[[pivots[0], r]]
        A[r] = A[r] * pow(int(A[r, column]), -1, p) % p
        for i in range(len(A)):
            if i != r and A[i, column]:
                A[i] = (A[i] - A[i, column] * A[r]) % p
        r += 1
    return r


@pytest.mark.parametrize(
    ("kind", "count", "K", "d", "norm", "largest"),
    [
        ("real", 0, 512, 16, 12, 4),
        ("real", 6, 704, 18, 12, 4),
        ("complex", 0, 243, 18, 216, 54),
        ("complex", 2, 297, 19, 216, 54),
        ("complex", 6, 405, 20, 216, 54),
    ],
)
def test_orbits_in_integers(kind, count, K, d, norm, largest):
    X = orbit_code(kind, count)
    assert len(X) == K and len(np.unique(X, axis=0)) == K
    assert set((X**2).sum(axis=1).tolist()) == {norm}
    assert max(products(X)) == largest
    assert rank(X[:: max(1, K // 120)]) <= d == np.linalg.matrix_rank(X)
    code = next(c for c in constructions(d) if c.name == f"extraspecial-orbit({K})")
    assert (code.K, code.max_cosine) == (K, largest / norm)
    assert gram(code.build()).max() == pytest.approx(largest / norm, abs=1e-15)


def test_two_poles_in_integers():
    X = two_poles()
    assert len(X) == 578 == len(np.unique(X, axis=0))
    assert set((X**2).sum(axis=1).tolist()) == {18} and max(products(X)) == 6
    north, south = (X[X[:, -1] == h, :-2] for h in (1, -1))
    for layer_rows in (north, south):  # nine bases and their negatives
        assert len(layer_rows) == 288 and products(layer_rows) == {-16: 288, -4: 73_728 // 2, 0: 8640, 4: 73_728 // 2}
    assert set((north @ south.T).ravel().tolist()) == {-8, -4, 0, 4, 8}
    assert rank(X[::5]) == np.linalg.matrix_rank(X) == 17
    code = next(c for c in constructions(17) if c.K == 578)
    assert gram(code.build()).max() == pytest.approx(1 / 3, abs=1e-15) and code.max_cosine == 1 / 3


def test_three_orbits_over_the_golden_field():
    """Inner products are pairs p + q sqrt 5; the largest is 40 + 8 sqrt 5, of the squared norm 104 + 8 sqrt 5."""
    P, Q = golden_orbits()
    assert len(np.unique(np.hstack([P, Q]), axis=0)) == 1536
    whole, root = P @ P.T + 5 * Q @ Q.T, P @ Q.T + Q @ P.T
    assert (np.diag(whole) == 104).all() and (np.diag(root) == 8).all()
    numbers = (whole * 1000 + root)[~np.eye(1536, dtype=bool)]  # both parts are below 500
    pairs = [((n + 500) // 1000, (n + 500) % 1000 - 500) for n in np.unique(numbers).tolist()]
    with flint.ctx.workprec(100):
        values = {(p, q): p + q * flint.arb(5).sqrt() for p, q in pairs}
        assert all(value < values[40, 8] for pair, value in values.items() if pair != (40, 8))
    # (15 + 2 sqrt 5)/41 times the squared norm: (15 + 2 r)(104 + 8 r) = 41 (40 + 8 r) with r^2 = 5
    assert (15 * 104 + 2 * 8 * 5, 15 * 8 + 2 * 104) == (41 * 40, 41 * 8)
    code = next(c for c in constructions(16) if c.K == 1536)
    assert code.max_cosine == pytest.approx((15 + 2 * np.sqrt(5)) / 41, abs=1e-16)
    assert gram(code.build()).max() == pytest.approx(code.max_cosine, abs=1e-15)


def test_the_orbit_is_that_of_a_group():
    """It is closed under X(a), Z(s) and -1, which generate the group; without -1 the products would leave it."""
    orbit = {tuple(row) for row in real_orbit(np.array(REAL_START))}
    every = np.arange(16)
    for i in range(4):
        signs = 1 - 2 * (every >> i & 1)
        for row in orbit:
            x = np.array(row)
            assert tuple(x[every ^ 2**i]) in orbit and tuple(signs * x) in orbit and tuple(-x) in orbit
    one, other = np.array(REAL_START)[every ^ 1], 1 - 2 * (every & 1)
    assert (other * one == -(other * np.array(REAL_START))[every ^ 1]).all()  # X and Z anticommute


def test_the_bases_are_unbiased():
    bases = [real_orbit(np.array(start)) for start in BASES]
    for basis in bases:
        assert len(basis) == 32 and set(products(basis)) == {-8, 0}
    for a, b in combinations(bases, 2):
        assert set(np.abs(a @ b.T).ravel()) == {2}  # of squared norm 8: cosines +-1/4


@pytest.mark.parametrize(("n", "K"), [(9, 306), (10, 500), (11, 582), (12, 840), (13, 1066), (14, 1484)])
def test_construction_a_in_integers(n, K):
    words = blocks(n)
    assert all(len(set(a) & set(b)) <= 2 for a, b in combinations(words, 2))
    X = integer_rows(n)
    assert len(X) == K == len(np.unique(X, axis=0))
    assert set((X**2).sum(axis=1).tolist()) == {4} and max(products(X)) == 2
    code = constructions(n)
    assert any((c.K, c.max_cosine) == (K, 0.5) and c.name == f"kissing-A({n})" for c in code)


def test_quadruple_systems_cover_every_triple_once():
    for n in (10, 14):
        triples = [triple for block in blocks(n) for triple in combinations(block, 3)]
        assert len(triples) == len(set(triples)) == n * (n - 1) * (n - 2) // 6


def test_laminated_15():
    code = next(c for c in constructions(15) if c.name == "laminated(15)")
    W = code.build()
    assert W.shape == (2340, 15) and gram(W).max() == pytest.approx(0.5, abs=1e-15)


LAYERS = [stored for stored in stored_layers() if stored.K <= 3000]


@pytest.mark.parametrize("stored", LAYERS[:: len(LAYERS) // 12], ids=lambda stored: stored.name)
def test_layers_in_integers(stored):
    X = layer(minimal_vectors(), stored.fixed, stored.products)
    norms = (X**2).sum(axis=1)
    assert len(X) == stored.K and len(set(norms.tolist())) == 1
    G = X @ X.T
    np.fill_diagonal(G, G.min())
    assert Fraction(int(G.max()), int(norms[0])) == stored.max_cosine
    assert np.linalg.matrix_rank(X.astype(float)) == stored.d


def test_every_layer_has_the_cosine_of_its_centre():
    """(16 - c)/(32 - c), c from the fixed vectors alone, bounds the cosine; most layers attain it."""
    attained = 0
    for stored in stored_layers():
        F, p = np.array(stored.fixed, dtype=float), np.array(stored.products, dtype=float)
        c = p @ np.linalg.solve(F @ F.T, p)
        bound = (16 - c) / (32 - c)
        assert float(stored.max_cosine) <= bound + 1e-12
        attained += float(stored.max_cosine) > bound - 1e-12
    assert attained > 0.9 * len(stored_layers())


@pytest.mark.parametrize(
    ("K", "d", "value"),
    [
        (512, 16, 2 / 3),
        (1536, 16, (26 - 2 * 5**0.5) / 41),
        (578, 17, 2 / 3),
        (704, 18, 2 / 3),
        (405, 20, 3 / 4),
        (306, 9, 1 / 2),
        (582, 11, 1 / 2),
    ],
)
def test_the_best_is_one_of_them(K, d, value):
    found = best(K, d)
    assert 1 - found.max_cosine == pytest.approx(value, abs=1e-15)
    np.testing.assert_array_equal(rebuild(found.name, found.indices, K, d).W, found.W)


@pytest.mark.parametrize("d", [4, 8, 13])
def test_stored_subsets_are_what_they_promise(d):
    for part in parts(d):
        W = part.build().W
        assert len(W) == part.K
        if part.K <= 1000:
            assert gram(W).max() <= part.level.max_cosine + 1e-14
        assert part.level.margin >= 1 - part.level.max_cosine - 1e-13


def test_the_table_of_subsets_is_that_of_a_search():
    for name in ("600-cell", "complex-bases(5, 5)", "bch-dual(4) shortened 4"):
        code = next(c for d in (4, 10, 12) for c in constructions(d) if c.name == name)
        found = {len(level.indices): level for level in measured_levels(code) if level.indices is not None}
        stored = {len(level.indices): level for level in levels(code) if level.indices is not None}
        assert found.keys() == stored.keys()
        for size, level in stored.items():
            np.testing.assert_array_equal(level.indices, found[size].indices)
            assert level.margin == pytest.approx(found[size].margin, abs=1e-13)


@settings(max_examples=15)
@given(data=st.data())
def test_rows_of_a_part_are_those_of_the_whole(data):
    part = data.draw(st.sampled_from([p for d in (3, 4, 5, 7, 8) for p in parts(d)]))
    kept = np.flatnonzero(data.draw(st.lists(st.booleans(), min_size=part.K, max_size=part.K)))
    if len(kept):
        W = part.build().W
        np.testing.assert_array_equal(part.build(kept, part.construction.d + 1).W[:, :-1], W[kept])
