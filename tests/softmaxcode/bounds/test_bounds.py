"""Lower bounds on mu*: reference values, proofs that can fail, and codes that no bound may exceed."""

from __future__ import annotations

import dataclasses
import itertools
import math
from fractions import Fraction

import flint
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import betainc

import softmaxcode as sc
from softmaxcode.bounds import best, delsarte_bound, levenshtein_bound, literature, rounding
from softmaxcode.bounds.best import MarginBounds, margin_bounds, max_cosine_lower_bound
from softmaxcode.bounds.bound import Bound
from softmaxcode.bounds.delsarte_bound import DelsarteCertificate, delsarte, delsarte_certificate
from softmaxcode.bounds.gegenbauer import count_roots
from softmaxcode.bounds.levenshtein_bound import levenshtein, levenshtein_size
from softmaxcode.bounds.literature import LITERATURE
from softmaxcode.bounds.simple import fejes_toth, rankin
from softmaxcode.bounds.volume_bound import volume
from softmaxcode.code import certify
from softmaxcode.sphere import largest_cosines, random_rows, unit_rows

# (K, d), mu*: codes known to meet Levenshtein's bound
SHARP = [
    (12, 3, Fraction(1, 5)),
    (16, 5, Fraction(1, 25)),
    (27, 6, Fraction(1, 16)),
    (56, 7, Fraction(1, 9)),
    (240, 8, Fraction(1, 4)),
    (112, 21, Fraction(1, 81)),
    (162, 21, Fraction(1, 49)),
    (100, 22, Fraction(1, 121)),
    (275, 22, Fraction(1, 36)),
    (891, 22, Fraction(1, 16)),
    (552, 23, Fraction(1, 25)),
    (4600, 23, Fraction(1, 9)),
    (196560, 24, Fraction(1, 4)),
    (325, 52, Fraction(1, 256)),
]

# (K, d), cosine of the best known code, and whether it is proved optimal
BEST_KNOWN = [
    (7, 3, 0.21013831273060309, True),
    (8, 3, 0.26120387496374144, True),
    (9, 3, 0.3333333333333333, True),
    (10, 3, 0.40439432521625076, True),
    (11, 3, 0.4472135954999579, True),
    (12, 3, 0.4472135954999579, True),
    (13, 3, 0.5426364868296, True),
    (14, 3, 0.5639503003605, True),
    (24, 3, 0.7230784683335, True),
    (10, 4, 1 / 6, True),
    (9, 4, 0.1620151996116, False),
    (24, 4, 0.5, True),
    (50, 3, 0.8681732091269, False),
    (120, 4, (1 + math.sqrt(5)) / 4, False),
    (240, 8, 0.5, False),
]


def icosahedron():
    golden = (1 + math.sqrt(5)) / 2
    signs = list(itertools.product((-1, 1), repeat=2))
    rows = [np.roll([0, a, b * golden], shift) for shift in range(3) for a, b in signs]
    return unit_rows(np.array(rows, dtype=float))


def roots_d(d):
    rows = []
    for i, j in itertools.combinations(range(d), 2):
        for a, b in itertools.product((-1.0, 1.0), repeat=2):
            row = np.zeros(d)
            row[i], row[j] = a, b
            rows.append(row)
    return unit_rows(np.array(rows))


def roots_e8():
    halves = [row for row in itertools.product((-0.5, 0.5), repeat=8) if np.prod(row) > 0]
    return unit_rows(np.vstack([roots_d(8) * math.sqrt(2), np.array(halves)]))


def petersen():
    simplex = np.eye(5) - 0.2
    middles = np.array([simplex[i] + simplex[j] for i, j in itertools.combinations(range(5), 2)])
    # the hyperplane of coordinate sum 0 in an orthonormal basis
    return unit_rows(middles @ np.linalg.svd(simplex)[2][:4].T)


def cell_600():
    golden = (1 + math.sqrt(5)) / 2
    rows = [np.array(row) / 2 for row in itertools.product((-1.0, 1.0), repeat=4)]
    rows += [sign * row for row in np.eye(4) for sign in (-1, 1)]
    even = [p for p in itertools.permutations(range(4)) if np.linalg.det(np.eye(4)[list(p)]) > 0]
    for a, b, c in itertools.product((-0.5, 0.5), repeat=3):
        base = np.array([a * golden, b, c / golden, 0])
        rows += [base[list(p)] for p in even]
    return unit_rows(np.array(rows))


CODES = {
    "icosahedron": icosahedron(),
    "24-cell": roots_d(4),
    "D5": roots_d(5),
    "E8": roots_e8(),
    "Petersen": petersen(),
    "600-cell": cell_600(),
}


# --- closed forms ---------------------------------------------------------------------------------------------


def test_rankin_closed_forms():
    assert rankin(2, 1).value == -1 and rankin(3, 1).value == 1
    for d in range(2, 12):
        for K in range(2, 2 * d + 1):
            bound = rankin(K, d)
            expected = -1 / (K - 1) if K <= d + 1 else 0
            assert bound.exact and bound.proved and bound.method == "closed form"
            assert expected - 1e-16 <= bound.value <= expected
    for K in range(5, 40):
        bound = rankin(K, 2)
        assert bound.exact and bound.value == pytest.approx(math.cos(2 * math.pi / K), abs=1e-15)
    assert rankin(7, 3) == Bound(0.0, "Rankin", True, "K >= d + 2 (Rankin 1955)")


@pytest.mark.parametrize("K", [3, 5, 7, 9, 23, 1000])
def test_closed_forms_are_rounded_down(K):
    value = rankin(K, 2).value
    with flint.ctx.workprec(300):
        exact = flint.arb.cos_pi_fmpq(flint.fmpq(2, K))
        assert flint.arb(value) <= exact
        assert not flint.arb(math.nextafter(value, 1)) <= exact
    assert Fraction(rankin(K, K).value) <= Fraction(-1, K - 1)


def test_fejes_toth_is_attained_by_triangulated_polyhedra():
    for K, expected in [(3, -0.5), (4, -1 / 3), (6, 0.0), (12, 1 / math.sqrt(5))]:
        assert fejes_toth(K).value == pytest.approx(expected, abs=1e-15)
    with pytest.raises(ValueError, match="at least 3"):
        fejes_toth(2)


# --- Levenshtein ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("K", "d", "square"), SHARP)
def test_sharp_codes_meet_levenshtein(K, d, square):
    bound = levenshtein(K, d)
    assert bound.proved
    # below the true cosine in exact arithmetic, and by less than two units in the last place
    assert Fraction(bound.value) ** 2 <= square
    assert Fraction(math.nextafter(math.nextafter(bound.value, 1), 1)) ** 2 > square
    assert levenshtein_size(math.sqrt(square), d) == pytest.approx(K, rel=1e-12)


def test_levenshtein_size_exact_values():
    assert levenshtein_size(0.5, 8) == 240
    assert levenshtein_size(0.25, 6) == 27
    assert levenshtein_size(0.25, 22) == 891
    assert levenshtein_size(0.5, 24) == 196560
    assert levenshtein_size(-1, 5) == 2
    assert levenshtein_size(0, 7) == 14
    assert levenshtein_size(0.3, 1) == 2


@pytest.mark.parametrize("d", [2, 3, 4, 7, 30, 500, 4000])
def test_first_orders_against_their_explicit_forms(d):
    """L_1 = 1 - 1/s, L_2 = 2d(1 - s)/(1 - ds), L_3 = d(1 - s)(2 + (d + 1)s)/(1 - d s^2)."""
    for u in (0.1, 0.5, 0.9):
        s = -1 + u * (1 - 1 / d)
        assert levenshtein_size(s, d) == pytest.approx(1 - 1 / s, rel=1e-12)
        s = -(1 - u) / d
        assert levenshtein_size(s, d) == pytest.approx(2 * d * (1 - s) / (1 - d * s), rel=1e-12)
        # t_2^{1,0}, where the third order ends
        s = u * (math.sqrt(d + 3) - 1) / (d + 2)
        assert levenshtein_size(s, d) == pytest.approx(d * (1 - s) * (2 + (d + 1) * s) / (1 - d * s * s), rel=1e-12)


@pytest.mark.parametrize("d", [2, 3, 5, 24, 300])
def test_levenshtein_size_is_continuous_and_increasing(d):
    s = np.linspace(-1, 0.9 if d < 100 else 0.3, 400)
    sizes = [levenshtein_size(float(x), d) for x in s]
    assert all(a < b for a, b in itertools.pairwise(sizes))
    for m in range(2, 8):
        # where order m begins, both formulas give the size of a tight m-design
        K = levenshtein_bound._design_size(d, m)
        value = levenshtein(K, d).value
        for step in (-1e-9, 1e-9):
            assert levenshtein_size(value + step, d) == pytest.approx(K, rel=1e-6 * d)


def test_levenshtein_size_on_the_circle():
    for K in range(2, 60):
        assert levenshtein_size(max(-1.0, math.cos(2 * math.pi / K)), 2) == pytest.approx(K, rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 10**6), st.integers(2, 4000))
def test_levenshtein_inverts_its_size(K, d):
    s = levenshtein(K, d).value
    if s < 1 and levenshtein_size(s, d) < math.inf:
        assert levenshtein_size(s, d) <= K * (1 + 1e-15)
        assert levenshtein_size(min(s + 1e-13, math.nextafter(1, 0)), d) > K * (1 - 1e-9)


def test_levenshtein_of_a_million_points():
    bound = levenshtein(10**6, 3)
    assert levenshtein_size(bound.value, 3) == pytest.approx(10**6, rel=1e-10)
    assert fejes_toth(10**6).value > bound.value > volume(10**6, 3).tammes.value
    assert 0 < levenshtein(10**6, 4000).value < 0.02


def test_the_bound_of_a_billion_points_takes_no_levenshtein_order(monkeypatch):
    """Its order is 63,000 for d = 3, and the bound below Fejes Toth's."""
    monkeypatch.setattr("softmaxcode.bounds.levenshtein_bound._levenshtein_at", None)
    assert max_cosine_lower_bound(10**9, 3).value == fejes_toth(10**9).value


def test_sizes_beyond_float64_are_infinite():
    assert levenshtein_size(0.99, 4000) == math.inf
    assert levenshtein_size(0.9, 1000) == math.inf


# --- volume ---------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 10**6), st.integers(2, 3000))
def test_volume_both_ways(K, d):
    both = volume(K, d)
    x = both.margin_lower / 2
    # K C(t) = 1, from below
    assert K * betainc((d - 1) / 2, (d - 1) / 2, x) == pytest.approx(1, rel=1e-9)
    assert both.tammes.proved
    assert both.tammes.value == pytest.approx(2 * (1 - 2 * x) ** 2 - 1, abs=1e-12)
    # the two directions cannot contradict each other: mu* <= cos t
    assert both.tammes.value <= 1 - both.margin_lower + 1e-12


def test_volume_in_three_dimensions_is_archimedes():
    for K in (2, 3, 10, 1000, 10**9):
        both = volume(K, 3)
        assert Fraction(both.margin_lower) <= Fraction(2, K)
        assert both.margin_lower == pytest.approx(2 / K, rel=1e-14)
        exact = 2 * (1 - Fraction(2, K)) ** 2 - 1
        assert Fraction(both.tammes.value) <= exact
        assert both.tammes.value == pytest.approx(float(exact), abs=1e-14)


def test_volume_on_the_line():
    assert volume(2, 1).margin_lower == 2 and volume(2, 1).tammes.value == -1
    assert volume(3, 1).margin_lower == 0 and volume(3, 1).tammes.value == 1


# --- Delsarte -------------------------------------------------------------------------------------------------


def test_the_programme_is_sharp_at_the_600_cell():
    bound = delsarte(120, 4)
    assert bound.proved
    # 4 s - 1 < sqrt 5
    assert (4 * Fraction(bound.value) - 1) ** 2 < 5
    assert bound.value == pytest.approx((1 + math.sqrt(5)) / 4, abs=1e-14)


@pytest.mark.parametrize(("K", "d", "square"), [case for case in SHARP if case[0] in (12, 16, 56, 240, 275, 196560)])
def test_the_programme_meets_sharp_codes(K, d, square):
    bound = delsarte(K, d)
    assert bound.proved and Fraction(bound.value) ** 2 < square
    assert bound.value == pytest.approx(math.sqrt(square), abs=1e-14)


# Delsarte's bound on kissing numbers (Odlyzko and Sloane 1979), rounded down
@pytest.mark.parametrize(("d", "kissing"), [(3, 13), (4, 25), (5, 46), (7, 140), (10, 595)])
def test_kissing_numbers_of_the_programme(d, kissing):
    below, above = delsarte(kissing, d), delsarte(kissing + 1, d)
    assert below.proved and above.proved
    assert below.value < 0.5 < above.value


@pytest.mark.parametrize(("K", "d"), [(5, 3), (13, 3), (30, 4), (40, 5), (33, 9), (100, 20)])
def test_the_programme_is_never_below_levenshtein(K, d):
    assert delsarte(K, d).value >= levenshtein(K, d).value - 1e-15


def test_the_programme_in_low_degree_has_closed_forms():
    """Degree 1 gives -1/(K - 1), degree 2 (for d < K < 2d) Levenshtein's second order, (K - 2d)/(d (K - 2))."""
    assert delsarte(12, 3, degree=1).value == pytest.approx(-1 / 11, abs=1e-15)
    for K, d in [(7, 5), (9, 5)]:
        assert delsarte(K, d, degree=2).value == pytest.approx((K - 2 * d) / (d * (K - 2)), abs=1e-14)
    assert delsarte(12, 3, degree=3).value <= delsarte(12, 3, degree=5).value <= 1 / math.sqrt(5)


def test_trivial_programmes():
    assert delsarte(2, 5).value == -1
    assert delsarte(2, 1).value == -1
    assert delsarte(9, 2).value == rankin(9, 2).value
    assert delsarte(9, 2, degree=8).value == pytest.approx(rankin(9, 2).value, abs=1e-14)


def values_of(certificate, t):
    """f(t) in floating point, by the recurrence, independent of the exact check."""
    total, before, here = np.zeros_like(t), np.ones_like(t), t
    d = certificate.d
    for k, c in enumerate(certificate.coefficients):
        total += float(c) * before
        before, here = here, ((2 * k + d) * t * here - (k + 1) * before) / (k + d - 1)
    return total


@pytest.mark.parametrize(("K", "d"), [(13, 3), (120, 4), (40, 5)])
def test_certificates_hold_and_spoiled_ones_do_not(K, d):
    good = delsarte_certificate(K, d)
    assert good is not None and good.holds()
    f = list(good.coefficients)
    assert f[0] > 0 and min(f) >= 0 and sum(f) < K * f[0]
    assert values_of(good, np.linspace(-1, good.s, 20001)).max() < 1e-10

    def spoiled(**change):
        return dataclasses.replace(good, **change).holds()

    # s too large by far less than a user would print
    assert not spoiled(s=good.s + 1e-12)
    assert not spoiled(K=K - 1)
    # a negative coefficient, with f(1) and the sign on [-1, s] in order
    assert not spoiled(coefficients=(*f[:-1], Fraction(-1, 10**30)))
    # f lifted by a hair at a touching point: f(1) < K f_0 still holds, f <= 0 fails
    lifted = (f[0] + Fraction(1, 10**9), *f[1:])
    assert sum(lifted) < K * lifted[0]
    assert not spoiled(coefficients=lifted)
    assert not spoiled(coefficients=tuple(-c for c in f))
    assert not spoiled(coefficients=(Fraction(0), *f[1:]))
    assert not spoiled(coefficients=())


def test_a_certificate_written_by_hand():
    """(t + 1 + e)(t - s), which is negative on (-1 - e, s) and has f(1)/f_0 a little above 2d for small s > 0."""
    d = 3

    def quadratic(s):
        # from t^2 = ((d - 1) G_2 + 1)/d
        e = Fraction(1, 1000)
        return (Fraction(1, d) - (1 + e) * s, 1 + e - s, Fraction(d - 1, d))

    assert DelsarteCertificate(quadratic(Fraction(1, 100)), 0.0, 7, d).holds()
    assert not DelsarteCertificate(quadratic(Fraction(1, 100)), 0.02, 7, d).holds()
    assert not DelsarteCertificate(quadratic(Fraction(1, 10)), 0.0, 7, d).holds()
    assert not DelsarteCertificate(quadratic(Fraction(1, 100)), 0.0, 6, d).holds()


def test_root_counting():
    t = flint.fmpq_poly([0, 1])
    p = (t - 1) * (t - flint.fmpq(1, 3)) ** 2 * (t * t + 1)
    count = count_roots
    assert count(p, flint.fmpq(-2), flint.fmpq(2)) == 2
    assert count(p, flint.fmpq(0), flint.fmpq(1, 2)) == 1
    assert count(p, flint.fmpq(1, 2), flint.fmpq(2)) == 1
    assert count(p, flint.fmpq(-5), flint.fmpq(0)) == 0
    # two roots 2e-20 apart, and none when they have moved off the real axis
    near = (t - flint.fmpq(1, 3)) ** 2 - flint.fmpq(1, 10**40)
    far = (t - flint.fmpq(1, 3)) ** 2 + flint.fmpq(1, 10**40)
    assert count(near, flint.fmpq(-1), flint.fmpq(1)) == 2
    assert count(far, flint.fmpq(-1), flint.fmpq(1)) == 0


def test_an_unverified_optimum_is_not_called_proved(monkeypatch):
    assert best._best.__wrapped__(13, 4, True).method == "Delsarte LP"
    monkeypatch.setattr(DelsarteCertificate, "holds", lambda self: False)
    monkeypatch.setattr(delsarte_bound, "_delsarte", delsarte_bound._delsarte.__wrapped__)
    monkeypatch.setattr(best, "default_degree", lambda K, d: 8)
    bound = delsarte(13, 4)
    assert not bound.proved and "not verified" in bound.source
    assert bound.value == pytest.approx(levenshtein(13, 4).value, abs=2e-2)
    assert best._best.__wrapped__(13, 4, True).method != "Delsarte LP"


# --- literature and the best bound ----------------------------------------------------------------------------


@pytest.mark.parametrize(("K", "d", "cosine", "proved"), BEST_KNOWN)
def test_best_known_codes_are_not_contradicted(K, d, cosine, proved):
    bound = max_cosine_lower_bound(K, d)
    assert bound.proved
    assert bound.value <= cosine + 1e-13
    assert bound.exact == proved
    if proved:
        assert bound.value == pytest.approx(cosine, abs=1e-13)


def test_literature_covers_what_is_proved():
    three_point = {(56, 20), (50, 21), (77, 21), (288, 16), (4224, 64), (66048, 256), (1050624, 1024)}
    assert set(LITERATURE) == {(K, 3) for K in (*range(7, 15), 24)} | {(10, 4), (24, 4)} | three_point
    assert all(bound.exact and bound.proved and bound.source for bound in LITERATURE.values())
    assert LITERATURE[8, 3].value == pytest.approx((2 * math.sqrt(2) - 1) / 7, abs=1e-16)
    # the snub cube, from the tribonacci constant
    tribonacci = (1 + (19 + 3 * math.sqrt(33)) ** (1 / 3) + (19 - 3 * math.sqrt(33)) ** (1 / 3)) / 3
    points = [
        np.array(signs) * np.array([1, 1 / tribonacci, tribonacci])[list(p)]
        for p in itertools.permutations(range(3))
        for signs in itertools.product((-1, 1), repeat=3)
        if (np.linalg.det(np.eye(3)[list(p)]) > 0) == (signs.count(-1) % 2 == 1)
    ]
    snub = unit_rows(np.array(points, dtype=float))
    assert len(snub) == 24
    assert largest_cosines(snub).max() == pytest.approx(LITERATURE[24, 3].value, abs=1e-14)


@pytest.mark.parametrize("pair", sorted(LITERATURE))
def test_literature_is_the_float_below_a_simple_root(pair):
    coefficients, low, high, _ = literature._ALGEBRAIC[pair]
    p = flint.fmpq_poly(list(coefficients))
    low, high = rounding.rational(low), rounding.rational(high)
    assert count_roots(p, low, high) == 1
    value = LITERATURE[pair].value
    at, after = rounding.rational(value), rounding.rational(math.nextafter(value, 1))
    assert p(at) == 0 or count_roots(p, at, after) == 1


@pytest.mark.parametrize("pair", [(56, 20), (50, 21), (77, 21), (288, 16), (4224, 64)])
def test_codes_that_three_point_bounds_prove_optimal_are_known_and_meet_them(pair):
    code = sc.best_known(*pair, objective="tammes")
    assert code.max_cosine == pytest.approx(LITERATURE[pair].value, abs=1e-14)
    certificate = certify(code, lp=False)
    assert (certificate.status, certificate.upper_bound_method) == ("optimal", "literature")
    assert certificate.lower_bound <= certificate.upper_bound
    assert certify(sc.best_known(*pair), lp=False).status == "matches Tammes"


def test_the_best_bound_takes_every_source():
    assert max_cosine_lower_bound(5, 8).method == "closed form"
    assert max_cosine_lower_bound(240, 8).value == 0.5
    assert max_cosine_lower_bound(16, 3, lp=False).method in ("Fejes Toth", "literature")
    assert max_cosine_lower_bound(16, 3).method == "Delsarte LP"
    assert max_cosine_lower_bound(1000, 3).method == "Fejes Toth"
    assert max_cosine_lower_bound(10000, 512).method == "Levenshtein"
    assert max_cosine_lower_bound(50, 4, lp=False).value <= max_cosine_lower_bound(50, 4).value
    # ten points in four dimensions bound nine in three, and fifteen points in three are no better than fourteen
    assert max_cosine_lower_bound(15, 3, lp=False).value >= LITERATURE[14, 3].value
    assert max_cosine_lower_bound(11, 4, lp=False).value >= LITERATURE[10, 4].value


@pytest.mark.parametrize("name", CODES)
def test_known_codes_respect_every_bound(name):
    W = CODES[name]
    K, d = W.shape
    mu = largest_cosines(W).max()
    found = [rankin(K, d), levenshtein(K, d), volume(K, d).tammes, delsarte(K, d), max_cosine_lower_bound(K, d)]
    for bound in found:
        assert bound.proved and bound.value <= mu + 1e-14
    bounds = margin_bounds(K, d)
    assert bounds.lower <= bounds.upper
    # the margin of a code whose classes have balanced contacts is 1 - mu
    assert 1 - mu <= bounds.upper + 1e-14


@settings(max_examples=150, deadline=None)
@given(st.integers(2, 200), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_no_code_is_better_than_a_bound(K, d, seed):
    W = random_rows(K, d, np.random.default_rng(seed))
    mu = largest_cosines(W).max()
    for bound in (rankin(K, d), levenshtein(K, d), volume(K, d).tammes, max_cosine_lower_bound(K, d, lp=False)):
        assert bound.proved
        assert -1 <= bound.value <= mu + 1e-14


@settings(max_examples=8, deadline=None)
@given(st.integers(3, 40), st.integers(2, 12))
def test_the_programme_is_monotone_in_points_and_dimension(K, d):
    degree = 12
    here, more, higher = delsarte(K, d, degree), delsarte(K + 1, d, degree), delsarte(K, d + 1, degree)
    assert here.proved and more.proved and higher.proved
    assert here.value <= more.value + 1e-9
    assert higher.value <= here.value + 1e-9


@pytest.mark.parametrize("d", [2, 3, 4, 8, 50])
def test_bounds_grow_with_the_number_of_points(d):
    many = range(2, 400)
    for of in (rankin, levenshtein, lambda K, d: volume(K, d).tammes):
        values = [of(K, d).value for K in many]
        assert all(a <= b for a, b in itertools.pairwise(values))
    best = [max_cosine_lower_bound(K, d, lp=False).value for K in many]
    assert all(a <= b for a, b in itertools.pairwise(best))
    margins = [margin_bounds(K, d, lp=False) for K in many]
    assert all(a.upper >= b.upper for a, b in itertools.pairwise(margins))
    assert all(m.lower <= m.upper for m in margins)


# --- the bounds on the margin --------------------------------------------------------------------------------


def test_margin_brackets_in_closed_form():
    assert margin_bounds(2, 1) == MarginBounds(2.0, 2.0, "closed form", "closed form")
    assert margin_bounds(5, 1) == MarginBounds(0.0, 0.0, "closed form", "closed form")
    assert margin_bounds(1000, 512).lower == margin_bounds(1000, 512).upper == 1
    for d in range(2, 9):
        for K in range(2, d + 2):
            bounds = margin_bounds(K, d)
            assert Fraction(bounds.lower) <= Fraction(K, K - 1) <= Fraction(bounds.upper)
            assert bounds.upper - bounds.lower < 5e-16
    for K in range(5, 30):
        bounds = margin_bounds(K, 2)
        assert bounds.lower <= 1 - math.cos(2 * math.pi / K) + 1e-16
        assert bounds.upper == pytest.approx(1 - math.cos(2 * math.pi / K), abs=1e-15)
        assert bounds.lower <= bounds.upper <= bounds.lower + 5e-16


def test_margin_brackets_elsewhere():
    bounds = margin_bounds(12, 3)
    # a Tammes optimum has margin 1 - mu*
    assert bounds.lower == pytest.approx(0.55278640450004, abs=1e-13)
    assert bounds.upper == 1.0
    bounds = margin_bounds(120, 4)
    assert bounds.upper == pytest.approx(math.sqrt(2 - (1 + math.sqrt(5)) / 2), abs=1e-14)
    assert Fraction(bounds.upper) ** 2 >= 2 - 2 * Fraction(max_cosine_lower_bound(120, 4).value)
    assert bounds.lower == volume(120, 4).margin_lower
    # margins reached by codes found numerically
    for K, d, reached in [(100, 10, 0.669010), (100, 20, 0.848350), (200, 10, 0.546161), (10000, 512, 0.9375)]:
        bounds = margin_bounds(K, d, lp=False)
        assert bounds.lower <= reached <= bounds.upper


# --- validation -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "function", [rankin, levenshtein, volume, delsarte, delsarte_certificate, max_cosine_lower_bound, margin_bounds]
)
@pytest.mark.parametrize("pair", [(1, 3), (0, 3), (5, 0), (-4, 3), (2.5, 3), (5, "3"), (True, 3), (5, None)])
def test_bad_pairs_are_refused(function, pair):
    with pytest.raises(ValueError, match="must be an integer"):
        function(*pair)


def test_other_bad_input_is_refused():
    for s in (1.0, -1.5, math.nan, math.inf, 2):
        with pytest.raises(ValueError, match="a number from -1 to below 1"):
            levenshtein_size(s, 3)
    with pytest.raises(ValueError, match="number"):
        levenshtein_size("close", 3)
    with pytest.raises(ValueError, match="too near 1"):
        levenshtein_size(1 - 1e-12, 3)
    with pytest.raises(ValueError, match="degree"):
        delsarte(12, 3, degree=0)
    with pytest.raises(ValueError, match="degree"):
        delsarte(12, 3, degree=2.5)
    with pytest.raises(ValueError, match="at least 3"):
        delsarte_certificate(2, 3)


def test_numpy_integers_are_taken():
    assert levenshtein(np.int64(240), np.int32(8)).value == 0.5
