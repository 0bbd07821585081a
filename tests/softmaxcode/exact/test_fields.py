"""Codes of finite fields and binary codes: coordinates and cosines proved by integers, fractions and balls."""

from __future__ import annotations

import functools
import itertools
import math
from fractions import Fraction

import flint
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softmaxcode.exact import bch, conference, hadamard, isotropic, kerdock, unbiased_bases
from softmaxcode.exact.construction import Construction
from softmaxcode.exact.finite_fields import finite_field, prime_power

FAMILIES = (isotropic, kerdock, bch, conference, hadamard, unbiased_bases)
FIELDS = [2, 3, 4, 5, 7, 8, 9, 16, 25, 27, 49, 64, 81]


def find(name: str, d: int) -> Construction:
    return next(c for family in FAMILIES for c in family.constructions(d) if c.name == name)


def half_ulp(w: float) -> Fraction:
    return Fraction(math.ulp(w)) / 2


def exact_gram(W: np.ndarray, denominator: int) -> tuple[np.ndarray, int]:
    """Numerators and the denominator of W W^T, with entries of W as roots of multiples of 1/denominator.

    Each float64 is first proved to be nearest to its root, by comparing squares of fractions. Entries of one column
    have rational ratios, so that all inner products are rational.
    """
    known: dict[float, int] = {}
    for w in np.unique(np.abs(W)).tolist():
        square = round(Fraction(w) ** 2 * denominator)
        low, high = max(Fraction(0), Fraction(w) - half_ulp(w)), Fraction(w) + half_ulp(w)
        assert low**2 <= Fraction(square, denominator) <= high**2
        known[w] = square
    squares = np.vectorize(known.get, otypes=[object])(np.abs(W))
    reference = np.array([next(s for s in column if s) for column in squares.T], dtype=object)
    products = squares * reference
    roots = np.vectorize(math.isqrt, otypes=[object])(products)
    assert (roots * roots == products).all()
    roots = np.where(W < 0, -roots, roots)
    common = math.lcm(*reference)
    return (roots * (common // reference)) @ roots.T, common * denominator


def ball_gram(W: np.ndarray, values: list[flint.arb]) -> flint.arb_mat:
    """W W^T as balls, with each entry of W replaced by the value to which it is proved nearest."""
    known = {}
    for w in np.unique(W).tolist():
        ball = min(values, key=lambda v: abs(float(v) - w))
        assert abs(ball - flint.arb(w)) <= flint.arb(math.ulp(w)) / 2
        known[w] = ball
    B = flint.arb_mat([[known[w] for w in row] for row in W.tolist()])
    return B * B.transpose()


def walsh(values: np.ndarray) -> np.ndarray:
    """Sums of (-1)^(f + linear) over F_2^n, for rows of values of f and every linear function."""
    sums = 1 - 2 * values.astype(np.int32)
    for i in range(sums.shape[1].bit_length() - 1):
        pairs = sums.reshape(len(sums), -1, 2, 2**i)
        sums = np.stack([pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]], axis=2)
        sums = sums.reshape(len(values), -1)
    return sums


def value_of(formula: str) -> float:
    return float(eval(formula, {"sqrt": math.sqrt, "cos": math.cos, "pi": math.pi}))


# fields


@given(st.sampled_from(FIELDS), st.data())
def test_fields_obey_the_axioms(q, data):
    F = finite_field(q)
    a, b, c = (data.draw(st.integers(0, q - 1)) for _ in range(3))
    assert F.add(a, b) == F.add(b, a) and F.multiply(a, b) == F.multiply(b, a)
    assert F.add(F.add(a, b), c) == F.add(a, F.add(b, c))
    assert F.multiply(F.multiply(a, b), c) == F.multiply(a, F.multiply(b, c))
    assert F.multiply(a, F.add(b, c)) == F.add(F.multiply(a, b), F.multiply(a, c))
    assert F.add(a, 0) == a and F.multiply(a, 1) == a and F.add(a, F.negative(a)) == 0
    if a:
        assert (F.multiply(a, np.arange(q)) == 1).sum() == 1
    assert F.power(a, 3) == F.multiply(a, F.multiply(a, a))
    assert F.trace(F.add(a, b)) == (F.trace(a) + F.trace(b)) % F.p
    assert F.trace(F.power(a, F.p)) == F.trace(a)
    if q % 2:
        assert F.quadratic_character(F.multiply(a, b)) == F.quadratic_character(a) * F.quadratic_character(b)


@pytest.mark.parametrize("q", FIELDS)
def test_fields_have_a_primitive_element_and_a_balanced_trace(q):
    F = finite_field(q)
    assert sorted(F.exp[: q - 1]) == list(range(1, q))
    assert np.bincount(F.trace(np.arange(q)), minlength=F.p).tolist() == [q // F.p] * F.p
    if q % 2:
        squares = set(F.power(np.arange(1, q), 2).tolist())
        assert squares == set(np.flatnonzero(F.quadratic_character(np.arange(q)) == 1).tolist())


def test_prime_powers_below_200_by_trial():
    primes = [n for n in range(2, 200) if all(n % f for f in range(2, n))]
    powers = {p**m: (p, m) for p in primes for m in range(1, 8)}
    assert all(prime_power(q) == powers.get(q) for q in range(-3, 200))
    for q in (0, 1, 6, 12, 100):
        with pytest.raises(ValueError, match="power of a prime"):
            finite_field(q)


# isotropic subspaces


@pytest.mark.parametrize(("q", "K", "d"), [(2, 27, 6), (3, 112, 21), (4, 325, 52)])
def test_isotropic_codes_are_sharp(q, K, d):
    (code,) = isotropic.constructions(d)
    assert (code.K, code.d, code.max_cosine, code.formula) == (K, d, 1 / q**2, f"1/{q * q}")
    G, unit = exact_gram(code.build(), q**4 * math.lcm(*(r * (r + 1) for r in range(1, q))))
    assert G.shape == (K, K)
    assert (np.diag(G) == unit).all()
    # inner products -1/q, by q (q^2 + 1) a row, and 1/q^2
    assert np.count_nonzero(G * q == -unit) == K * q * (q * q + 1)
    assert np.count_nonzero(G * q * q == unit) == K * q**4
    # a 3-design: sums of the first three Gegenbauer polynomials vanish; the second says that its rank is d
    assert G.sum() == 0 and (G**3).sum() == 0
    assert (G**2).sum() * d == K * K * unit**2


@pytest.mark.parametrize("q", [2, 3, 4, 5, 7])
def test_planes_meet_the_ovoid_in_one_point_or_q_plus_1(q):
    codewords = isotropic.ovoid_code(q)
    weights = np.bincount(np.count_nonzero(codewords, axis=1), minlength=q * q + 2)
    tangent, secant = (q * q + 1) * (q - 1), (q**3 + q) * (q - 1)
    assert (weights[0], weights[q * q], weights[q * q - q]) == (1, tangent, secant)
    assert weights.sum() == q**4 == 1 + tangent + secant


def test_isotropic_codes_exist_for_prime_powers_alone():
    found = [d for d in range(1, 1000) if isotropic.constructions(d)]
    assert found == [q * (q * q - q + 1) for q in (2, 3, 4, 5, 7, 8, 9)]


# Kerdock, Delsarte-Goethals and BCH


@pytest.mark.parametrize(("d", "K"), [(4, 24), (16, 288), (64, 4224)])
def test_kerdock_bases_are_unbiased(d, K):
    code = find(f"kerdock({d})", d)
    root = math.isqrt(d)
    W = code.build()
    assert (code.K, W.shape, code.max_cosine) == (K, (K, d), 1 / root)
    X = (W * root).astype(np.int64)
    np.testing.assert_array_equal(X / root, W)
    G = X @ X.T
    counts = {int(v): int(n) for v, n in zip(*np.unique(G, return_counts=True), strict=True)}
    assert counts == {d: K, -d: K, 0: K * (2 * d - 2), root: K * d * d // 2, -root: K * d * d // 2}
    # bases one after another
    for start in range(0, K, 2 * d):
        np.testing.assert_array_equal(G[start : start + d, start : start + d], d * np.eye(d))
        np.testing.assert_array_equal(X[start + d : start + 2 * d], -X[start : start + d])


@pytest.mark.parametrize(("bits", "r"), [(2, 1), (4, 1), (4, 2), (6, 1), (6, 2), (6, 3), (8, 1), (8, 2)])
def test_sums_of_delsarte_and_goethals_are_within_the_peak_and_reach_it(bits, r):
    union = kerdock.kerdock(bits, r)
    first = 2 ** (bits - 1)
    below = union.functions(np.arange(first))
    # the largest cases in part: all a, or all b_1 against a few a
    every = union.functions(np.arange(min(union.cosets, 4096 if bits < 8 else 2**14)))
    assert not every[:, 0].any()
    largest = 0
    for a in range(first if bits < 8 else 4):
        # the b_i add, so it is enough to let them differ from zero on one side
        others = every[np.arange(len(every)) != a]
        largest = max(largest, int(np.abs(walsh(others ^ below[a])).max()))
    assert largest == union.peak == 2 ** (bits // 2 + r - 1)


@given(st.sampled_from([4, 6, 8]), st.data())
def test_the_higher_terms_of_delsarte_and_goethals_add(bits, data):
    N = bits - 1
    union = kerdock.kerdock(bits, 2)
    a, b, a2, b2 = (data.draw(st.integers(0, 2**N - 1)) for _ in range(4))
    f, g, f2, g2 = union.functions(np.array([a, a2, a, a2]) + 2**N * np.array([b, b2, 0, b ^ b2]))
    np.testing.assert_array_equal(f ^ g, f2 ^ g2)


@pytest.mark.parametrize(
    ("m", "t"), [(3, 2), (4, 2), (5, 2), (6, 2), (7, 2), (8, 2), (9, 2), (11, 2), (5, 3), (6, 3), (7, 3)]
)
def test_sums_of_bch_duals_are_within_the_peak_and_reach_it(m, t):
    union = bch.bch_dual(m, t)
    values = union.functions(np.arange(union.cosets))
    assert not values[0].any() and not values[:, 0].any()
    # the code is linear, so codewords stand for differences
    np.testing.assert_array_equal(values[1] ^ values[2], values[3])
    assert max(np.abs(walsh(part)).max() for part in np.array_split(values[1:], min(8, len(values) - 1))) == union.peak
    if m % 2 and t == 2:
        # three values, as in the double-error-correcting code of odd degree
        assert set(np.unique(walsh(values[1:64]))) == {-union.peak, 0, union.peak}
        assert union.peak == 2 ** ((m + 1) // 2)


def test_bch_duals_add():
    for m, t in [(5, 2), (6, 3)]:
        union = bch.bch_dual(m, t)
        rng = np.random.default_rng(m)
        a, b = rng.integers(0, union.cosets, (2, 200))
        np.testing.assert_array_equal(union.functions(a) ^ union.functions(b), union.functions(a ^ b))


SIGN_CODES = [
    (kerdock, 4), (kerdock, 16), (kerdock, 15), (kerdock, 14), (kerdock, 13), (kerdock, 63), (kerdock, 60),
    (bch, 8), (bch, 16), (bch, 32), (bch, 31), (bch, 30), (bch, 29), (bch, 28), (bch, 27), (bch, 7), (bch, 6),
]  # fmt: skip


@pytest.mark.parametrize(("family", "d"), SIGN_CODES)
def test_sign_codes_reach_their_largest_cosine_and_no_more(family, d):
    code = family.constructions(d)[0]
    W = code.build()
    assert W.shape == (code.K, d)
    has_axes = (W == 0).any()
    codewords = code.K - 2 * d * int(has_axes)
    if has_axes:
        np.testing.assert_array_equal(W[codewords:], np.vstack([np.eye(d), -np.eye(d)]))
    X = np.sign(W[:codewords]).astype(np.int64)
    unit = W[0, 0]
    np.testing.assert_array_equal(W[:codewords], X * unit)
    assert (Fraction(unit) - half_ulp(unit)) ** 2 <= Fraction(1, d) <= (Fraction(unit) + half_ulp(unit)) ** 2
    G = X @ X.T
    assert np.count_nonzero(G == d) == codewords
    assert Fraction(int(G[G != d].max()), d) == Fraction(code.formula)
    if codewords < code.K:
        assert Fraction(code.formula) ** 2 >= Fraction(1, d)
    assert code.max_cosine == float(Fraction(code.formula))


def test_shortened_nordstrom_robinson_codes():
    codes = {c.d: c for d in (13, 14, 15) for c in kerdock.constructions(d)[:1]}
    assert {d: (c.K, c.formula) for d, c in codes.items()} == {15: (128, "1/5"), 14: (64, "1/7"), 13: (32, "1/13")}
    assert codes[15].name == "kerdock(16) shortened 1"


@settings(deadline=None)
@given(st.sampled_from(SIGN_CODES), st.data())
def test_rows_are_those_of_the_whole(which, data):
    code = which[0].constructions(which[1])[0]
    indices = np.array(data.draw(st.lists(st.integers(0, code.K - 1), min_size=1, max_size=20)))
    np.testing.assert_array_equal(code.rows(indices), whole(*which)[indices])


@functools.lru_cache
def whole(family, d: int) -> np.ndarray:
    return family.constructions(d)[0].build()


@pytest.mark.parametrize(("family", "d"), [(kerdock, 16), (kerdock, 15), (bch, 28)])
def test_rows_out_of_range_are_refused(family, d):
    code = family.constructions(d)[0]
    for index in (-1, code.K):
        with pytest.raises(IndexError, match="indices 0"):
            code.rows(np.array([index]))


@pytest.mark.parametrize(("d", "top"), [(512, Fraction(1, 16)), (2048, Fraction(1, 32))])
def test_ten_thousand_rows_of_a_huge_code(d, top):
    code = bch.constructions(d)[0]
    assert code.K == 2 * d * d + 2 * d and code.max_cosine == float(top)
    W = code.rows(np.arange(10_000))
    X = np.sign(W).astype(np.float32)
    assert np.abs(X).min() == 1 and W.shape == (10_000, d)
    sample = np.random.default_rng(0).permutation(10_000)[:400]
    # sums of signs are exact in float32
    G = X[sample] @ X.T
    assert np.count_nonzero(G == d) == len(sample)
    assert Fraction(int(G[G != d].max()), d) == top


def test_dimensions_out_of_reach_have_no_sign_codes():
    assert [d for d in range(1, 70) if kerdock.constructions(d)] == [3, 4, *range(11, 17), *range(59, 65)]
    assert kerdock.constructions(4**9) == [] and bch.constructions(2**17) == []
    # rows are counted in 64 bits
    assert all(c.K < 2**63 for d in (4**7, 4**8, 2**15) for f in (kerdock, bch) for c in f.constructions(d))


# conference matrices


@pytest.mark.parametrize("q", [3, 5, 7, 9, 13, 25, 27, 49, 81, 101])
def test_conference_matrices(q):
    C = conference.paley_conference(q)
    np.testing.assert_array_equal(C @ C.T, q * np.eye(q + 1))
    np.testing.assert_array_equal(C.T, C if q % 4 == 1 else -C)
    assert (np.abs(C) == 1 - np.eye(q + 1)).all()


@pytest.mark.parametrize("q", [5, 9, 13, 17, 25, 29, 37, 49, 81])
def test_paley_lines_are_equiangular(q):
    code = find(f"paley-lines({q})", (q + 1) // 2)
    W = code.build()
    assert W.shape == (code.K, code.d) == (2 * (q + 1), (q + 1) // 2)
    p = finite_field(q).p
    with flint.ctx.workprec(250):
        root = flint.arb(q).sqrt()
        waves = [2 * flint.arb.cos_pi_fmpq(flint.fmpq(k, 2 * p)) / root for k in range(4 * p)]
        values = [flint.arb(0), flint.arb(1), flint.arb(-1), 1 / root, -1 / root, *waves]
        G = ball_gram(W, values)
        for i, j in itertools.product(range(code.K), repeat=2):
            cosine = abs(G[i, j])
            assert cosine.rad() < 1e-60
            assert cosine.overlaps(flint.arb(1) if (i - j) % (q + 1) == 0 else 1 / root)
        assert (G[0, q + 1] + 1).overlaps(flint.arb(0))


def test_the_icosahedron_is_the_first_of_the_paley_lines():
    (code,) = [c for c in conference.constructions(3) if c.K == 12]
    G = np.sort(code.build() @ code.build().T, axis=1)
    np.testing.assert_allclose(G, np.tile([-1, *[-(5**-0.5)] * 5, *[5**-0.5] * 5, 1], (12, 1)), atol=2e-16)


@pytest.mark.parametrize("q", [5, 9, 13, 25, 49])
def test_conference_matrices_with_axes(q):
    code = find(f"conference({q})", q + 1)
    G, unit = exact_gram_of_signs(code.build(), q)
    n = q + 1
    assert code.K == 4 * n == len(G)
    # blocks: axes with axes, rows with rows, in units of 1 and of 1/q; between them 0 and +-1/sqrt(q)
    across = G[: 2 * n, 2 * n :]
    assert set(np.unique(across)) == {-1, 0, 1}
    for block, whole_unit in ((G[: 2 * n, : 2 * n], 1), (G[2 * n :, 2 * n :], unit)):
        expected = np.kron([[1, -1], [-1, 1]], np.eye(n, dtype=np.int64)) * whole_unit
        np.testing.assert_array_equal(block, expected)
    assert code.max_cosine == pytest.approx(1 / math.sqrt(q), rel=2e-16)


def exact_gram_of_signs(W: np.ndarray, square: int) -> tuple[np.ndarray, int]:
    """Inner products of the integer rows behind W, whose entries are 0, +-1 and +-1/sqrt(square)."""
    small = np.unique(np.abs(W[(W != 0) & (np.abs(W) < 1)])).tolist()
    assert len(small) == 1
    assert (Fraction(small[0]) - half_ulp(small[0])) ** 2 <= Fraction(1, square)
    assert Fraction(1, square) <= (Fraction(small[0]) + half_ulp(small[0])) ** 2
    X = np.sign(W).astype(np.int64)
    return X @ X.T, square


def test_nearest_decides_hard_roundings():
    # slightly above the midpoint of 1 and the next float64
    midpoint, hair = Fraction(1) + Fraction(1, 2**53), Fraction(1, 2**300)
    for sign, expected in ((1, math.nextafter(1, 2)), (-1, 1.0)):
        value = midpoint + sign * hair
        assert conference.nearest(lambda v=value: flint.arb(v.numerator) / v.denominator) == expected
    assert conference.nearest(lambda: flint.arb(0)) == 0


@given(st.integers(1, 9), st.integers(1, 60), st.integers(1, 500))
def test_cosines_are_rounded_to_nearest(scale, order, q):
    table = conference.rounded_cosines(scale, order, q)
    with flint.ctx.workprec(300):
        for k, w in enumerate(table.tolist()):
            exact = scale * (2 * flint.arb.pi() * k / order).cos() / flint.arb(q).sqrt()
            assert not abs(exact - flint.arb(w)) > flint.arb(math.ulp(w)) / 2


# Hadamard matrices


@pytest.mark.parametrize("n", [n for n in range(1, 201) if hadamard.has_hadamard(n)])
def test_hadamard_matrices(n):
    H = hadamard.hadamard_matrix(n)
    assert (np.abs(H) == 1).all()
    np.testing.assert_array_equal(H @ H.T, n * np.eye(n))


def test_orders_without_a_matrix_are_refused():
    missing = [n for n in range(4, 201, 4) if not hadamard.has_hadamard(n)]
    assert missing == [92, 116, 156, 172, 184, 188]
    for n in (0, -4, 3, 6, 92):
        with pytest.raises(ValueError, match=f"order {n} "):
            hadamard.hadamard_matrix(n)


HADAMARD_CODES = [
    ("hadamard-punctured(4)", 3, 8, Fraction(1, 3), 3),
    ("hadamard-punctured(12)", 11, 24, Fraction(1, 11), 11),
    ("steiner(4, 2)", 6, 32, Fraction(1, 3), 3),
    ("steiner(7, 3)", 7, 56, Fraction(1, 3), 3),
    ("steiner(8, 2)", 28, 128, Fraction(1, 7), 7),
    ("steiner(12, 2)", 66, 288, Fraction(1, 11), 11),
    ("steiner(15, 3)", 35, 240, Fraction(1, 7), 7),
    ("steiner(31, 3)", 155, 992, Fraction(1, 15), 15),
    ("steiner(39, 3)", 247, 1560, Fraction(1, 19), 19),
    ("net(12)", 144, 1152, Fraction(1, 12), 12),
    ("net(20)", 400, 4000, Fraction(1, 20), 20),
]


@pytest.mark.parametrize(("name", "d", "K", "cosine", "square"), HADAMARD_CODES)
def test_codes_of_hadamard_matrices(name, d, K, cosine, square):
    code = find(name, d)
    assert (code.K, code.d, code.max_cosine, Fraction(code.formula)) == (K, d, float(cosine), cosine)
    W = code.build()
    assert W.shape == (K, d)
    rows = W if K < 2000 else W[:: K // 997]
    G, unit = exact_gram_of_signs(rows, square)
    assert (np.diag(G) == unit).all()
    others = set(np.unique(G[~np.eye(len(G), dtype=bool)]).tolist())
    inner = cosine * unit
    allowed = {-unit, -inner, inner} if not name.startswith("net") else {-unit, -inner, 0, inner}
    assert others <= allowed and inner in others


@pytest.mark.parametrize("d", [8, 12, 20, 36])
def test_hadamard_matrices_with_axes(d):
    code = find(f"hadamard({d})", d)
    G, unit = exact_gram_of_signs(code.build(), d)
    pairs = np.kron([[1, -1], [-1, 1]], np.eye(d, dtype=np.int64))
    np.testing.assert_array_equal(G[: 2 * d, : 2 * d], pairs)
    np.testing.assert_array_equal(G[2 * d :, 2 * d :], unit * pairs)
    assert set(np.unique(G[: 2 * d, 2 * d :])) == {-1, 1}
    # Kerdock's bases have these among them
    assert all(c.name != f"hadamard({4**m})" for m in (1, 2, 3) for c in hadamard.constructions(4**m))


# unbiased bases


@pytest.mark.parametrize(("n", "units"), [(3, 6), (5, 5), (7, 3), (7, 5), (9, 5)])
def test_complex_bases(n, units):
    code = find(f"complex-bases({n}, {units})", 2 * n)
    W = code.build()
    assert W.shape == (code.K, code.d) == (units * n * (n + 1), 2 * n)
    p = finite_field(n).p
    order = math.lcm(4, p, units)
    with flint.ctx.workprec(200):
        root = flint.arb(n).sqrt()
        waves = [flint.arb.cos_pi_fmpq(flint.fmpq(2 * k, order)) for k in range(order)]
        G = ball_gram(W, waves + [w / root for w in waves])
        top = flint.arb(-1)
        for i, row in enumerate(G.tolist()):
            assert (row[i] - 1).overlaps(flint.arb(0))
            for other in row[:i]:
                top = top.max(other)
        assert top.rad() < 1e-40
        assert abs(top - flint.arb(code.max_cosine)) <= flint.arb(math.ulp(code.max_cosine)) / 2 + 1e-40


def test_complex_bases_are_those_that_no_larger_code_matches():
    names = [c.name for n in (3, 5, 9, 11, 13, 27, 81) for c in unbiased_bases.constructions(2 * n)]
    pairs = [(3, 6), (5, 5), (9, 5), (11, 4), (11, 3), (13, 4), (27, 4), (27, 3), (81, 4)]
    assert names == [f"complex-bases({n}, {r})" for n, r in pairs]
    assert find("complex-bases(27, 3)", 54).max_cosine == float(Fraction(1, 6))
    assert not any(unbiased_bases.constructions(d) for d in (1, 2, 7, 8, 12, 30))


# all families


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.__name__.rsplit(".", 1)[1])
def test_every_small_code_is_what_it_says(family):
    names = set()
    for d in range(1, 61):
        for code in family.constructions(d):
            assert code.d == d and code.name not in names
            names.add(code.name)
            assert value_of(code.formula) == pytest.approx(code.max_cosine, rel=4e-16)
            assert code.source
            if code.K > 1600:
                continue
            W = code.build()
            assert W.shape == (code.K, d) and W.dtype == np.float64 and W.flags.c_contiguous
            G = W @ W.T
            np.testing.assert_allclose(np.diag(G), 1, atol=4e-15)
            assert G[~np.eye(code.K, dtype=bool)].max() == pytest.approx(code.max_cosine, abs=4e-15)
    assert names
