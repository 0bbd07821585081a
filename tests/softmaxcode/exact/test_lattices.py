"""Codes from polytopes, E8, the Golay code and the Leech lattice, checked over the integers and in ball arithmetic."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction
from functools import lru_cache
from itertools import combinations, pairwise, permutations, product

import flint
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from softmaxcode.bounds.levenshtein_bound import levenshtein_size
from softmaxcode.exact import leech, polytopes, root_systems
from softmaxcode.exact.golay import derived_octads, golay_codewords, octads
from softmaxcode.exact.leech import minimal_vectors
from softmaxcode.exact.root_systems import e8_roots, layer

FAMILIES = (polytopes, root_systems, leech)
CODES = {code.name: code for family in FAMILIES for d in range(1, 40) for code in family.constructions(d)}
LAYERS = {entry.name: (entry, e8_roots) for entry in root_systems._LAYERS} | {
    entry.name: (entry, minimal_vectors) for entry in leech._layers()
}

#: name: (d, K, largest cosine, graph of the smallest cosine as (v, k, lambda, mu) or None, design strength)
KNOWN = {
    "Petersen(10)": (4, 10, (1, 6), (10, 3, 0, 1), 2),
    "Clebsch(16)": (5, 16, (1, 5), (16, 5, 0, 2), 3),
    "Schlaefli(27)": (6, 27, (1, 4), (27, 10, 1, 5), 4),
    "E8-layer(56)": (7, 56, (1, 3), None, 5),
    "E8-roots": (8, 240, (1, 2), None, 7),
    "E7-roots": (7, 126, (1, 2), None, 5),
    "E6-roots": (6, 72, (1, 2), None, 5),
    "D5-roots": (5, 40, (1, 2), None, 3),
    "half-cube(7)": (7, 64, (3, 7), None, 3),
    "half-cube(6)": (6, 32, (1, 3), None, 3),
    "Hoffman-Singleton(50)": (21, 50, (1, 21), (50, 7, 0, 1), 2),
    "Gewirtz(56)": (20, 56, (1, 15), (56, 10, 0, 2), 2),
    "M22(77)": (21, 77, (1, 12), (77, 16, 0, 4), 2),
    "McLaughlin(81)": (20, 81, (1, 10), (81, 20, 1, 6), 2),
    "McLaughlin(105)": (20, 105, (1, 8), (105, 32, 4, 12), 2),
    "McLaughlin(112)": (21, 112, (1, 9), (112, 30, 2, 10), 3),
    "McLaughlin(162)": (21, 162, (1, 7), (162, 56, 10, 24), 3),
    "Higman-Sims(100)": (22, 100, (1, 11), (100, 22, 0, 6), 3),
    "McLaughlin(275)": (22, 275, (1, 6), (275, 112, 30, 56), 4),
    "Leech-layer(891)": (22, 891, (1, 4), None, 5),
    "equiangular(276)": (23, 552, (1, 5), None, 5),
    "Leech-layer(4600)": (23, 4600, (1, 3), None, 7),
}
SHARP = [
    "Clebsch(16)",
    "Schlaefli(27)",
    "E8-layer(56)",
    "E8-roots",
    "McLaughlin(112)",
    "McLaughlin(162)",
    "Higman-Sims(100)",
    "McLaughlin(275)",
    "Leech-layer(891)",
    "equiangular(276)",
    "Leech-layer(4600)",
    "Leech",
]


def integer_rows(name: str) -> np.ndarray:
    """The code before normalisation, in integers."""
    if name == "E8-roots":
        return e8_roots().astype(np.int64)
    entry, vectors = LAYERS[name]
    return layer(vectors(), entry.fixed, entry.products)


@lru_cache(maxsize=4)
def integer_gram(name: str) -> np.ndarray:
    rows = integer_rows(name)
    rows = rows // np.gcd.reduce(rows, axis=None)
    assert 24 * int(np.abs(rows).max()) ** 2 < 2**53
    # products and partial sums are integers below 2^53, so float64 (and its fast product) is exact
    G = rows.astype(float) @ rows.T.astype(float)
    assert (np.diag(G) == G[0, 0]).all()
    return G


def cosine_counts(name: str) -> Counter:
    """Counts of each exact cosine among ordered pairs, a vector with itself included."""
    G = integer_gram(name)
    values, counts = np.unique(G, return_counts=True)
    return Counter({Fraction(int(v), int(G[0, 0])): int(n) for v, n in zip(values, counts, strict=True)})


def design_strength(counts: Counter, d: int) -> int:
    """The largest t for which all Gegenbauer sums of degrees 1, ..., t over pairs vanish, by their recurrence."""
    before = dict.fromkeys(counts, Fraction(1))
    now = {t: t for t in counts}
    for degree in range(1, 20):
        if sum(n * now[t] for t, n in counts.items()) != 0:
            return degree - 1
        following = {
            t: ((2 * degree + d - 2) * t * now[t] - degree * before[t]) / Fraction(degree + d - 2) for t in counts
        }
        before, now = now, following
    raise AssertionError("a finite code is no design of every strength")


def exact_rank(rows: np.ndarray) -> int:
    return flint.fmpz_mat((rows.T @ rows).tolist()).rank()


# --- names and shapes --------------------------------------------------------------------------------------------


def test_every_code_is_listed_once_under_its_dimension():
    listed = [(code.name, d) for family in FAMILIES for d in range(1, 40) for code in family.constructions(d)]
    assert len(listed) == len({name for name, _ in listed}) == len(CODES)
    assert all(CODES[name].d == d for name, d in listed)
    assert all(code.K > 2 * code.d and 0 < code.max_cosine < 1 and code.source for code in CODES.values())
    assert {"icosahedron", "24-cell", "600-cell", "Leech"} | set(KNOWN) <= set(CODES)


@pytest.mark.parametrize("name", [name for name in CODES if CODES[name].K <= 5000])
def test_rows_are_unit_and_their_cosines_the_promised_ones(name):
    code = CODES[name]
    W = code.build()
    assert W.shape == (code.K, code.d) and W.dtype == np.float64
    # every coordinate is off by half an ulp at most, so squared norms by 2^-53 times 2 times the sum of squares
    np.testing.assert_allclose(np.einsum("ij,ij->i", W, W), 1, atol=6e-16)
    G = W @ W.T
    np.fill_diagonal(G, -2)
    assert G.max() == pytest.approx(code.max_cosine, abs=5e-16)


# --- layers of E8 and of the Leech lattice -----------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYERS)
def test_layers_have_the_stated_size_rank_and_exact_largest_cosine(name):
    entry, _ = LAYERS[name]
    rows = integer_rows(name)
    assert rows.shape[0] == entry.K == CODES[name].K
    assert exact_rank(rows) == entry.d == CODES[name].d
    assert not (rows @ np.array(entry.fixed).T).any()
    counts = cosine_counts(name)
    assert counts[Fraction(1)] == entry.K
    mu = max(set(counts) - {Fraction(1)})
    assert mu == entry.max_cosine
    assert (CODES[name].formula, CODES[name].max_cosine) == (str(mu), mu.numerator / mu.denominator)


@pytest.mark.parametrize("name", KNOWN)
def test_known_codes(name):
    d, K, cosine, graph, strength = KNOWN[name]
    assert (CODES[name].d, CODES[name].K) == (d, K)
    counts = cosine_counts(name)
    assert sorted(counts)[-2] == Fraction(*cosine)
    assert design_strength(counts, d) == strength
    if graph:
        G = integer_gram(name)
        A = (G.min() == G).astype(int)
        v, k, common, other = graph
        assert len(A) == v and len(counts) == 3
        np.testing.assert_array_equal(A @ A, k * np.eye(v, dtype=int) + common * A + other * (1 - A - np.eye(v)))


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("E8-roots", {"1": 1, "1/2": 56, "0": 126, "-1/2": 56, "-1": 1}),
        ("E7-roots", {"1": 1, "1/2": 32, "0": 60, "-1/2": 32, "-1": 1}),
        ("E6-roots", {"1": 1, "1/2": 20, "0": 30, "-1/2": 20, "-1": 1}),
        ("E8-layer(56)", {"1": 1, "1/3": 27, "-1/3": 27, "-1": 1}),
        ("equiangular(276)", {"1": 1, "1/5": 275, "-1/5": 275, "-1": 1}),
        ("Leech-layer(891)", {"1": 1, "1/4": 336, "-1/8": 512, "-1/2": 42}),
        ("Leech-layer(4600)", {"1": 1, "1/3": 891, "0": 2816, "-1/3": 891, "-1": 1}),
    ],
)
def test_every_vector_sees_the_same_cosines(name, row):
    G = integer_gram(name)
    for cosine, count in row.items():
        inner = Fraction(cosine) * int(G[0, 0])
        assert inner.denominator == 1
        assert (np.count_nonzero(int(inner) == G, axis=1) == count).all()
    assert sum(row.values()) == len(G)


@pytest.mark.parametrize("name", SHARP)
def test_sharp_codes_meet_the_levenshtein_bound(name):
    code = CODES[name]
    assert levenshtein_size(code.max_cosine, code.d) == pytest.approx(code.K, rel=1e-9)


@pytest.mark.parametrize(
    "name", ["Petersen(10)", "Schlaefli(27)", "E8-layer(56)", "Hoffman-Singleton(50)", "Leech-layer(80)"]
)
def test_coordinates_of_layers_are_within_half_an_ulp(name):
    rows = [[Fraction(int(x)) for x in row] for row in integer_rows(name)]
    W = CODES[name].build()
    basis: list[list[Fraction]] = []
    for row in rows:
        rest = list(row)
        for b in basis:
            fraction = sum(x * y for x, y in zip(rest, b, strict=True)) / sum(y * y for y in b)
            rest = [x - fraction * y for x, y in zip(rest, b, strict=True)]
        if any(rest):
            basis.append(rest)
    assert len(basis) == W.shape[1]
    length = sum(x * x for x in rows[0])
    with flint.ctx.workprec(200):
        norms = [ball(length * sum(y * y for y in b)).sqrt() for b in basis]
        for row, floats in zip(rows, W, strict=True):
            for b, norm, x in zip(basis, norms, floats, strict=True):
                assert_nearest(x, ball(sum(s * t for s, t in zip(row, b, strict=True))) / norm)


def ball(x: Fraction) -> flint.arb:
    return flint.arb(flint.fmpq(x.numerator, x.denominator))


def assert_nearest(x: float, exact: flint.arb) -> None:
    if x == 0:
        assert exact.contains(0)
    else:
        assert abs(flint.arb(float(x)) - exact) <= flint.arb(math.ulp(float(x))) / 2


@given(st.lists(st.integers(0, 239), min_size=1, max_size=3), st.lists(st.integers(-2, 2), min_size=3, max_size=3))
def test_any_layer_lies_in_the_complement_of_the_fixed_vectors_and_has_one_norm(indices, products):
    fixed = e8_roots()[indices].astype(np.int64)
    wanted = 4 * np.array(products[: len(fixed)])
    if exact_rank(fixed.T) < len(fixed):
        with pytest.raises(ZeroDivisionError):
            layer(e8_roots(), fixed, wanted)
        return
    rows = layer(e8_roots(), fixed, wanted)
    assert len(rows) == np.count_nonzero((e8_roots() @ fixed.T == wanted).all(axis=1))
    assert not (rows @ fixed.T).any()
    assert len(np.unique((rows**2).sum(axis=1))) <= 1


# --- roots and minimal vectors -----------------------------------------------------------------------------------


@given(st.integers(0, 239), st.integers(0, 239))
def test_reflections_permute_the_roots_of_e8(i, j):
    roots = e8_roots().astype(int)
    image = roots[i] - (roots[i] @ roots[j]) // 4 * roots[j]
    assert np.count_nonzero((roots == image).all(axis=1)) == 1


def test_the_minimal_vectors_of_the_leech_lattice():
    X = minimal_vectors()
    assert len(set(map(bytes, X))) == len(X) == CODES["Leech"].K == 196560
    assert ((X.astype(int) ** 2).sum(axis=1) == 32).all()
    # the lattice's congruences: all entries of one parity, their sum 0 or 4 modulo 8, and the entries with a given
    # residue modulo 4 on a codeword of the Golay code
    parity = X[:, :1] % 2
    assert (X % 2 == parity).all()
    assert (X.astype(int).sum(axis=1) % 8 == 4 * parity[:, 0]).all()
    assert set(map(bytes, (X - parity) // 2 % 2)) <= set(map(bytes, golay_codewords()))


def test_every_vector_of_the_leech_lattice_touches_4600_others():
    X = minimal_vectors()
    known = set(map(bytes, X))
    codewords = golay_codewords()
    basis = codewords[[2**i for i in range(12)]]
    for codeword in basis:
        assert all(bytes(row) in known for row in X[::29] * (1 - 2 * codeword))
    # changing signs on codewords of the Golay code maps the set to itself; one representative of each orbit is enough
    parity = (X[:, 0] % 2) == 1
    even = X[~parity]
    # a support (276 pairs, 759 octads) is an orbit: codewords cut out every sign pattern that occurs
    supports = {}
    for row in even:
        supports.setdefault(bytes(row != 0), []).append(row)
    assert Counter(len(orbit) for orbit in supports.values()) == {4: 276, 128: 759}
    for support, orbit in list(supports.items())[::97]:
        at = np.frombuffer(support, dtype=bool)
        assert len({bytes(orbit[0] * (1 - 2 * codeword) * at) for codeword in codewords}) == len(orbit)
    odd = 1 - 4 * np.eye(24)
    representatives = np.vstack([np.array([orbit[0] for orbit in supports.values()]), odd]).astype(np.float32)
    assert {bytes(row) for row in odd.astype(np.int8)} <= known and np.count_nonzero(parity) == 24 * len(codewords)
    # sums of 24 products of entries up to 5 are small integers, exact in float32
    columns = X.T.astype(np.float32)
    for start in range(0, len(representatives), 32):
        inner = representatives[start : start + 32] @ columns
        assert (np.count_nonzero(inner == 32, axis=1) == 1).all()
        assert (np.count_nonzero(inner == 16, axis=1) == 4600).all()
        assert (np.count_nonzero(inner > 8, axis=1) == 4601).all()
    row = Counter({1: 1, 0: 93150, -1: 1})
    row.update({Fraction(s, 4): n for s, n in ((2, 4600), (-2, 4600), (1, 47104), (-1, 47104))})
    assert sum(row.values()) == len(X)
    assert design_strength(Counter({Fraction(t): n for t, n in row.items()}), 24) == 11


@given(st.integers(0, 196559), st.integers(0, 196559), st.integers(0, 4095))
def test_the_leech_lattice_is_closed_under_differences_and_sign_changes(i, j, k):
    X = minimal_vectors()
    x, y = X[i].astype(int), X[j].astype(int)
    inner = int(x @ y)
    assert inner % 8 == 0 and (inner <= 16 or i == j)
    if inner == 16:
        assert (X == x - y).all(axis=1).any()
    assert (X == x * (1 - 2 * golay_codewords()[k])).all(axis=1).any()


def test_the_leech_rows_are_correctly_rounded():
    W = CODES["Leech"].build()
    assert W.shape == (196560, 24)
    with flint.ctx.workprec(200):
        for value in np.unique(W):
            numerator = round(float(value) * math.sqrt(32))
            assert numerator in (-4, -3, -2, -1, 0, 1, 2, 3, 4)
            assert_nearest(value, numerator / flint.arb(32).sqrt())
    integers = np.rint(W * np.sqrt(32)).astype(np.int8)
    # the same vectors, the coordinates in another order
    assert Counter(map(bytes, np.sort(integers, axis=1))) == Counter(map(bytes, np.sort(minimal_vectors(), axis=1)))


@pytest.mark.parametrize("d", range(16, 24))
def test_laminated_lattices(d):
    code = CODES[f"laminated({d})"]
    W = code.build()
    assert W.shape == (code.K, d)
    assert np.linalg.matrix_rank(W.T @ W) == d
    np.testing.assert_allclose((W**2).sum(axis=1), 1, atol=6e-16)
    some = W[:: max(1, len(W) // 50)]
    quarters = 4 * (some @ W.T)
    # inner products of minimal vectors are multiples of 1/4, and 1 occurs once in a row
    np.testing.assert_allclose(quarters, np.rint(quarters), atol=1e-14)
    assert (np.count_nonzero(np.rint(quarters) > 2, axis=1) == 1).all() and np.rint(quarters).max() == 4


# --- the Golay code ----------------------------------------------------------------------------------------------


def test_the_golay_code_is_self_dual_and_doubly_even():
    codewords = golay_codewords().astype(int)
    assert len(np.unique(codewords, axis=0)) == 4096
    assert np.bincount(codewords.sum(axis=1))[[0, 8, 12, 16, 24]].sum() == 4096
    basis = codewords[[2**i for i in range(12)]]
    assert len(np.unique(np.array(list(product((0, 1), repeat=12))) @ basis % 2, axis=0)) == 4096
    assert not (codewords @ basis.T % 2).any()


@given(st.integers(0, 4095), st.integers(0, 4095))
def test_sums_of_golay_words_are_golay_words(i, j):
    codewords = golay_codewords()
    assert np.count_nonzero((codewords == codewords[i] ^ codewords[j]).all(axis=1)) == 1


@pytest.mark.parametrize(("points", "strength", "blocks"), [(0, 5, 759), (1, 4, 253), (2, 3, 77), (3, 2, 21)])
def test_steiner_systems(points, strength, blocks):
    system = derived_octads(points)
    assert system.shape == (blocks, 24 - points)
    covered = Counter(subset for block in system for subset in combinations(np.flatnonzero(block).tolist(), strength))
    assert set(covered.values()) == {1} and len(covered) == math.comb(24 - points, strength)


def test_the_shared_arrays_cannot_be_written():
    for array in (golay_codewords(), e8_roots(), minimal_vectors()):
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 1
    assert octads().sum() == 759 * 8


# --- polytopes: coordinates as integer polynomials in an algebraic number -------------------------------------------


def poly(*coefficients: int) -> flint.fmpz_poly:
    return flint.fmpz_poly(list(coefficients))


GOLDEN = poly(-1, -1, 1)
TRIBONACCI = poly(-1, -1, -1, 1)


def root_of(minimal: flint.fmpz_poly) -> flint.arb:
    """The real root above 1, by bisection in exact arithmetic and one Newton step of balls."""
    low, high = Fraction(1), Fraction(2)
    for _ in range(150):
        middle = (low + high) / 2
        value = sum(int(c) * middle**i for i, c in enumerate(minimal.coeffs()))
        low, high = (middle, high) if value < 0 else (low, middle)
    return ball(low).union(ball(high))


def evaluated(p: flint.fmpz_poly, x: flint.arb) -> flint.arb:
    total = flint.arb(0)
    for c in reversed(p.coeffs()):
        total = total * x + int(c)
    return total


def even(order: tuple[int, ...]) -> bool:
    return sum(a > b for i, a in enumerate(order) for b in order[i + 1 :]) % 2 == 0


def icosians() -> list[tuple[flint.fmpz_poly, ...]]:
    """Twice the 120 unit icosians, as the closure of two of them under quaternion multiplication."""
    phi = poly(0, 1)
    one, zero = poly(1), poly(0)
    generators = [(one, one, one, one), (phi, one, phi - 1, zero)]

    def times(a, b):
        parts = (
            a[0] * b[0] - a[1] * b[1] - a[2] * b[2] - a[3] * b[3],
            a[0] * b[1] + a[1] * b[0] + a[2] * b[3] - a[3] * b[2],
            a[0] * b[2] - a[1] * b[3] + a[2] * b[0] + a[3] * b[1],
            a[0] * b[3] + a[1] * b[2] - a[2] * b[1] + a[3] * b[0],
        )
        # both factors are doubled, so the product is four times the true one
        return tuple(poly(*(int(c) // 2 for c in (p % GOLDEN).coeffs())) for p in parts)

    found = {str(g): g for g in generators}
    queue = list(generators)
    while queue:
        x = queue.pop()
        for g in generators:
            y = times(x, g)
            if str(y) not in found:
                found[str(y)] = y
                queue.append(y)
    return list(found.values())


def snub_cube() -> list[tuple[flint.fmpz_poly, ...]]:
    t = poly(0, 1)
    inverse = t * t - t - 1
    values = (poly(1), inverse, t)
    return [
        tuple(signs[i] * values[i] for i in order)
        for order in permutations(range(3))
        for signs in product((1, -1), repeat=3)
        if (math.prod(signs) > 0) == even(order)
    ]


def icosahedron() -> list[tuple[flint.fmpz_poly, ...]]:
    values = [(poly(0), poly(a), b * poly(0, 1)) for a, b in product((1, -1), repeat=2)]
    return [v[i:] + v[:i] for v in values for i in range(3)]


@pytest.mark.parametrize(
    ("name", "vertices", "minimal", "neighbours", "strength"),
    [
        ("icosahedron", icosahedron, GOLDEN, 5, 5),
        ("snub-cube", snub_cube, TRIBONACCI, 5, 3),
        ("600-cell", icosians, GOLDEN, 12, 11),
    ],
)
def test_polytopes_over_a_number_field(name, vertices, minimal, neighbours, strength):
    code = CODES[name]
    exact = vertices()
    assert len(exact) == code.K
    W = code.build()
    with flint.ctx.workprec(256):
        x = root_of(minimal)
        inner = [[sum((a * b for a, b in zip(u, v, strict=True)), poly(0)) % minimal for v in exact] for u in exact]
        squared = inner[0][0]
        assert all(inner[i][i] == squared for i in range(len(exact)))
        norm = evaluated(squared, x)
        distinct = {str(p): p for i, row in enumerate(inner) for j, p in enumerate(row) if i != j}
        # for a meaningful maximum, balls of different numbers must not overlap
        ordered = sorted(distinct.values(), key=lambda p: float(evaluated(p, x)))
        assert all(evaluated(p, x) < evaluated(q, x) for p, q in pairwise(ordered))
        top = ordered[-1]
        assert_nearest(code.max_cosine, evaluated(top, x) / norm)
        assert all(sum(p == top for p in row) == neighbours for row in inner)
        balls = {
            tuple(float(evaluated(c, x) / norm.sqrt()) + 0.0 for c in u): [evaluated(c, x) / norm.sqrt() for c in u]
            for u in exact
        }
        keys = np.array(list(balls))
        targets = list(balls.values())
        nearest = np.argmax(W @ keys.T, axis=1)
        assert len(set(nearest.tolist())) == code.K
        for row, at in zip(W, nearest, strict=True):
            for value, target in zip(row, targets[at], strict=True):
                assert_nearest(value, target)
        # design strength in ball arithmetic: the sums up to it contain 0, the next is away from it
        counts = Counter(str(p) for row in inner for p in row)
        cosines = {key: evaluated(p, x) / norm for key, p in {**distinct, str(squared): squared}.items()}
        before = dict.fromkeys(cosines, flint.arb(1))
        now = dict(cosines)
        for degree in range(1, strength + 2):
            total = sum(counts[key] * now[key] for key in cosines)
            assert total.contains(0) == (degree <= strength)
            factor = 2 * degree + code.d - 2
            following = {
                k: (factor * cosines[k] * now[k] - degree * before[k]) / (degree + code.d - 2) for k in cosines
            }
            before, now = now, following


def test_closed_formulas():
    golden = (1 + math.sqrt(5)) / 4
    assert CODES["600-cell"].max_cosine == pytest.approx(golden, abs=2e-16)
    assert CODES["icosahedron"].max_cosine == pytest.approx(1 / math.sqrt(5), abs=1e-16)
    assert CODES["square-antiprism"].max_cosine == pytest.approx((2 * math.sqrt(2) - 1) / 7, abs=1e-16)
    assert CODES["triaugmented-prism"].max_cosine == 1 / 3
    assert CODES["24-cell"].max_cosine == CODES["Leech"].max_cosine == 0.5


def test_the_24_cell_is_the_root_system_d4():
    W = CODES["24-cell"].build()
    assert set(np.unique(W)) == {0.0, math.sqrt(0.5), -math.sqrt(0.5)}
    signs = np.sign(W).astype(int)
    G = signs @ signs.T
    assert len(np.unique(signs, axis=0)) == 24 and set(np.unique(G)) == {-2, -1, 0, 1, 2}
    assert (np.count_nonzero(G == 1, axis=1) == 8).all() and np.trace(G) == 48
    counts = Counter({Fraction(int(v), 2): int(n) for v, n in zip(*np.unique(G, return_counts=True), strict=True)})
    assert design_strength(counts, 4) == 5


def test_the_small_polytopes_in_balls():
    with flint.ctx.workprec(256):
        root = flint.arb(2).sqrt()
        # latitude from the claimed cosine: neighbours on a square have cosine 1 - r^2
        mu = (2 * root - 1) / 7
        r, h = (1 - mu).sqrt(), mu.sqrt()
        for row in CODES["square-antiprism"].build():
            place = [r, flint.arb(0)] if row[2] > 0 else [r / root, r / root]
            magnitudes = sorted((abs(float(x)) for x in row[:2]), reverse=True)
            for value, exact in zip([*magnitudes, abs(float(row[2]))], [*place, h], strict=True):
                assert_nearest(value, exact)
        prism = CODES["triaugmented-prism"].build()
        lengths = [flint.arb(1), flint.arb(3).sqrt() / 2, flint.arb(1) / 2]
        lengths += [flint.arb(2) / 3, flint.arb(1) / 3, 1 / flint.arb(3).sqrt(), flint.arb(5).sqrt() / 3]
        for value in np.unique(np.abs(prism))[1:]:
            assert_nearest(value, min(lengths, key=lambda length: abs(float(length) - value)))
    G = CODES["square-antiprism"].build()
    contacts = np.isclose(G @ G.T, CODES["square-antiprism"].max_cosine, atol=1e-14)
    assert (contacts.sum(axis=1) == 4).all()
    contacts = np.isclose(prism @ prism.T, 1 / 3, atol=1e-14)
    assert sorted(contacts.sum(axis=1)) == [4] * 9
