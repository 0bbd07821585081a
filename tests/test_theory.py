"""Every fact of docs/theory.md that can be tested, as a property: T1 to T5, T7 (more in test_bounds) and T8."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special

from softmaxcode.contacts.polish import polish_hardmax
from softmaxcode.contacts.stress import balance
from softmaxcode.contacts.system import ContactSystem, hardmax_system, tammes_system
from softmaxcode.exact import closed_form
from softmaxcode.margins.exact import Margins
from softmaxcode.margins.exact import margins as all_margins
from softmaxcode.margins.min_norm import refine, wolfe
from softmaxcode.search.energy import HARDMAX, descend, minimize
from softmaxcode.search.multistart import pair_maximum
from softmaxcode.sphere import gram, largest_cosines, random_rows, tangential, unit_rows

SEEDS = st.integers(0, 2**32 - 1)
ROUNDING = 4e-15

# polished packings: (K, d); some are local optima only, some have rattlers
PACKINGS = [(7, 3), (9, 3), (12, 3), (13, 3), (14, 3), (24, 3), (10, 4), (24, 4), (30, 4), (16, 5), (27, 6), (40, 5)]


def margins(W: np.ndarray) -> Margins:
    return all_margins(W, n_jobs=1)


def mu(W: np.ndarray) -> float:
    return float(largest_cosines(W).max())


def chord(W: np.ndarray) -> float:
    distances = np.linalg.norm(W[:, None] - W[None], axis=2)
    return float(distances[~np.eye(len(W), dtype=bool)].min())


def cap(theta: float, d: int) -> float:
    """C(theta), the fraction of the sphere within an angle theta of a point, by quadrature."""
    parts = [integrate.quad(lambda t: math.sin(t) ** (d - 2), 0, end, epsabs=1e-14)[0] for end in (theta, math.pi)]
    return parts[0] / parts[1]


def symmetric(contacts: ContactSystem, weights: np.ndarray, K: int) -> np.ndarray:
    """A stress of T4 as a symmetric matrix whose entries i < j sum to 1."""
    L = np.zeros((K, K))
    L[contacts.a, contacts.b] = weights
    return L + L.T


def ordered(contacts: ContactSystem, weights: np.ndarray, K: int) -> np.ndarray:
    """A stress of T5 as a matrix, row k for h_k."""
    L = np.zeros((K, K))
    np.testing.assert_array_equal(contacts.a, contacts.c + K)
    L[contacts.c, contacts.b] = weights
    return L


def hardmax_residuals(W: np.ndarray, H: np.ndarray, L: np.ndarray) -> tuple[float, float]:
    """The norms of the two conditions of T5."""
    own = L.sum(axis=1)[:, None]
    features = tangential(H, own * W - L @ W)
    classes = tangential(W, own * H - L.T @ H)
    return float(np.linalg.norm(features)), float(np.linalg.norm(classes))


# --- T1 -------------------------------------------------------------------------------------------------------


@given(K=st.integers(2, 40), d=st.integers(1, 8), seed=SEEDS, towards=st.floats(0, 1))
def test_t1_weak_duality(K, d, seed, towards):
    """Every unit h is a lower bound and every convex combination an upper one."""
    rng = np.random.default_rng(seed)
    W = random_rows(K, d, rng)
    result = margins(W)
    for k in range(K):
        V = W[k] - np.delete(W, k, axis=0)
        # random directions, some of them near the best one
        h = unit_rows(towards * result.H[k : k + 1] + (1 - towards) * random_rows(1, d, rng) + 1e-9)[0]
        alpha = rng.dirichlet(np.full(K - 1, 0.2))
        assert (V @ h).min() <= result.margins[k] + ROUNDING
        assert np.linalg.norm(alpha @ V) >= result.margins[k] - result.gaps[k] - ROUNDING


@given(K=st.integers(2, 40), d=st.integers(1, 8), seed=SEEDS)
def test_t1_strong_duality_is_attained_by_the_directions(K, d, seed):
    W = random_rows(K, d, np.random.default_rng(seed))
    result = margins(W)
    for k in range(K):
        V = W[k] - np.delete(W, k, axis=0)
        if result.margins[k] > 0:
            assert (V @ result.H[k]).min() == pytest.approx(result.margins[k], abs=1e-13)


@settings(max_examples=30)
@given(K=st.integers(2, 9), d=st.integers(1, 4), seed=SEEDS)
def test_t1_few_neighbours_matter(nearest, K, d, seed):
    """At most d others carry the nearest point, in exact arithmetic and in the kernel, and they attain the dual."""
    W = random_rows(K, d, np.random.default_rng(seed))
    result = margins(W)
    for k in range(K):
        _, exact = nearest(W, k)
        others = [j for j in range(K) if j != k]
        V = W[k] - W[others]
        support, weights = np.zeros(d + 2, dtype=np.int64), np.zeros(d + 2)
        size = wolfe(V @ V.T, support, 0, weights, d)
        h, a = np.empty(d), np.empty(d + 2)
        value = refine(V[support[:size]], h, a)
        a = a[:size]
        assert value == pytest.approx(result.margins[k], abs=1e-13)
        if result.margins[k] < 1e-9:
            continue
        assert len(exact) <= d and np.count_nonzero(a > 0) <= d
        assert a.min() >= 0 and a.sum() == pytest.approx(1, abs=1e-14)
        # complementary slackness
        carrying = V[support[:size]][a > 1e-9]
        np.testing.assert_allclose(carrying @ result.H[k], result.margins[k], atol=1e-9)


@given(K=st.integers(2, 30), d=st.integers(2, 8), seed=SEEDS, e=st.floats(-12, -1))
def test_margins_are_lipschitz(K, d, seed, e):
    rng = np.random.default_rng(seed)
    W = random_rows(K, d, rng)
    moved = unit_rows(W + 10.0**e * rng.standard_normal(W.shape))
    epsilon = np.linalg.norm(W - moved, axis=1).max()
    assert np.abs(margins(W).margins - margins(moved).margins).max() <= 2 * epsilon + 1e-14


# --- T2 -------------------------------------------------------------------------------------------------------


@given(K=st.integers(2, 60), d=st.integers(1, 10), seed=SEEDS, e=st.floats(-8, 0))
def test_t2_every_class_is_at_least_one_minus_its_cosine(K, d, seed, e):
    rng = np.random.default_rng(seed)
    W = random_rows(K, d, rng)
    W[1] = unit_rows((W[0] + 10.0**e * W[1])[None] + 1e-12)[0]
    result = margins(W)
    assert (result.margins >= 1 - largest_cosines(W) - ROUNDING).all()
    assert result.margin >= chord(W) ** 2 / 2 - ROUNDING


@given(
    d=st.integers(3, 8),
    pairs=st.integers(1, 6),
    cosine=st.floats(-0.5, 0.95),
    lean=st.floats(0, 0.9),
    far=st.integers(0, 5),
    seed=SEEDS,
)
def test_t2_equality_needs_a_balanced_stress(d, pairs, cosine, lean, far, seed):
    """Contacts of w_0 at one cosine whose tangential parts have a hull at distance ``lean`` from the origin."""
    rng = np.random.default_rng(seed)
    around = random_rows(pairs, d - 2, rng)
    tangents = np.hstack([np.full((2 * pairs, 1), lean), math.sqrt(1 - lean**2) * np.vstack([around, -around])])
    contacts = np.hstack([np.full((2 * pairs, 1), cosine), math.sqrt(1 - cosine**2) * tangents])
    others = random_rows(far, d, rng) if far else np.empty((0, d))
    others = others[others[:, 0] < cosine]
    turn = np.linalg.qr(rng.standard_normal((d, d)))[0]
    W = unit_rows(np.vstack([np.eye(d)[:1], contacts]) @ turn)
    expected = math.hypot(1 - cosine, math.sqrt(1 - cosine**2) * lean)
    assert margins(W).margins[0] == pytest.approx(expected, abs=1e-14)
    # pairs that are not contacts can only bring the hull nearer, and not below 1 - mu_0
    W = unit_rows(np.vstack([W, others @ turn]))
    assert 1 - cosine - ROUNDING <= margins(W).margins[0] <= expected + ROUNDING
    if lean == 0:
        assert margins(W).margins[0] == pytest.approx(1 - cosine, abs=1e-14)


@given(K=st.integers(3, 30), d=st.integers(2, 8), seed=SEEDS)
def test_t2_random_classifiers_have_no_balanced_class(K, d, seed):
    """The largest cosine of a class occurs once, so no stress on it is balanced."""
    W = random_rows(K, d, np.random.default_rng(seed))
    tops = np.sort(gram(W), axis=1)[:, -2:]
    result = margins(W)
    # the gain follows from the imbalance of the single contact, and from the next cosine
    clear = (tops[:, 1] - tops[:, 0] > 1e-3) & (tops[:, 1] < 1 - 1e-3)
    assert (result.margins[clear] > 1 - tops[clear, 1] + 1e-9).all()


@pytest.mark.parametrize(("K", "d"), PACKINGS)
def test_t2_a_packing_has_a_balanced_class(packing, K, d):
    """rho = 1 - mu, attained exactly by the classes that carry stress and by no others."""
    code = packing(K, d)
    W = code.X
    result = margins(W)
    assert result.margin == pytest.approx(1 - mu(W), abs=1e-14)
    stress = balance(tammes_system(W, 1e-9), W)
    stressed = symmetric(tammes_system(W, 1e-9), stress.weights, K).sum(axis=1) > 1e-9
    np.testing.assert_allclose(result.margins[stressed], 1 - mu(W), atol=1e-13)
    if not stressed.all():
        assert (result.margins[~stressed] >= 1 - mu(W) - ROUNDING).all()


def test_t2_moving_one_contact_of_a_packing_unbalances_its_classes(known):
    W = np.array(known["icosahedron"])
    i, j = np.argwhere(np.isclose(gram(W), 1 / math.sqrt(5)))[0]
    W[j] = unit_rows((W[j] - 1e-2 * W[i])[None])[0]
    # w_j has moved away from w_i and nearer to others: those have the larger cosine now, and no class is balanced
    assert margins(W).margin > 1 - mu(W) + 1e-6


# --- T3 -------------------------------------------------------------------------------------------------------


def solved_pairs():
    pairs = [(K, d) for d in range(1, 9) for K in range(2, 2 * d + 1)] + [(K, 2) for K in range(2, 30)]
    return sorted({*pairs, (3, 1), (5, 1), (200, 2), (40, 39), (64, 33), (64, 32)})


@pytest.mark.parametrize(("K", "d"), solved_pairs())
def test_t3_closed_forms_have_their_values(K, d):
    code = closed_form(K, d)
    assert code.W.shape == (K, d)
    np.testing.assert_allclose(np.linalg.norm(code.W, axis=1), 1, atol=2e-16)
    if d == 1:
        cosine = -1 if K == 2 else 1
    elif K <= d + 1:
        cosine = -1 / (K - 1)
    else:
        cosine = math.cos(2 * math.pi / K) if d == 2 else 0
    assert code.max_cosine == pytest.approx(cosine, abs=2e-16)
    assert code.margin == pytest.approx(1 - cosine, abs=3e-16)
    assert mu(code.W) == pytest.approx(cosine, abs=1e-15)
    np.testing.assert_allclose(margins(code.W).margin, 1 - cosine, atol=1e-15)


def test_t3_nothing_is_claimed_elsewhere():
    assert all(closed_form(K, d) is None for d in range(3, 9) for K in range(2 * d + 1, 2 * d + 6))


@st.composite
def classifiers(draw, least: int = 0):
    """Random rows, or an optimum of T3 moved a little: K at least d + ``least``, and d."""
    d = draw(st.integers(2, 7))
    K = draw(st.integers(max(2, d + least), 2 * d + 4))
    rng = np.random.default_rng(draw(SEEDS))
    code = closed_form(K, d)
    if code is not None and draw(st.booleans()):
        return unit_rows(code.W + 10.0 ** draw(st.floats(-9, 0)) * rng.standard_normal((K, d)))
    return random_rows(K, d, rng)


@settings(max_examples=150)
@given(W=classifiers(least=-5))
def test_t3_the_simplex_bounds_every_classifier(W):
    K = len(W)
    assert mu(W) >= -1 / (K - 1) - ROUNDING
    assert margins(W).margin <= K / (K - 1) + ROUNDING


@settings(max_examples=150)
@given(W=classifiers(least=2))
def test_t3_radon_bounds_every_classifier_of_more_than_d_plus_one(W):
    K, d = W.shape
    assert K >= d + 2
    assert margins(W).margin <= 1 + ROUNDING
    assert mu(W) >= -ROUNDING
    if K > 2 * d:
        assert mu(W) > 0


@settings(max_examples=150)
@given(K=st.integers(2, 40), e=st.floats(-9, 0), seed=SEEDS)
def test_t3_the_polygon_bounds_every_classifier_of_the_plane(K, e, seed):
    rng = np.random.default_rng(seed)
    t = 2 * np.pi * np.arange(K) / K + 10.0**e * rng.standard_normal(K)
    for angle in (t, rng.uniform(0, 2 * np.pi, K)):
        W = unit_rows(np.column_stack([np.cos(angle), np.sin(angle)]))
        assert margins(W).margin <= 1 - math.cos(2 * math.pi / K) + ROUNDING
        assert mu(W) >= math.cos(2 * math.pi / K) - ROUNDING


@given(K=st.integers(3, 30), seed=SEEDS)
def test_t3_on_the_line_two_rows_coincide(K, seed):
    W = random_rows(K, 1, np.random.default_rng(seed))
    assert margins(W).margin == 0 and mu(W) == 1


# --- T4 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("K", "d"), PACKINGS)
def test_t4_packings_carry_a_balanced_stress(packing, K, d):
    W = packing(K, d).X
    contacts = tammes_system(W, 1e-9)
    stress = balance(contacts, W)
    assert stress.residual <= 1e-12
    assert stress.weights.min() >= 0 and stress.weights.sum() == pytest.approx(1, abs=1e-14)
    L = symmetric(contacts, stress.weights, K)
    # zero off the contacts
    assert (L[gram(W) < mu(W) - 1e-9] == 0).all()
    # the condition, class by class, written out
    unbalanced = np.array(
        [sum((L[i, j] * (W[j] - (W[i] @ W[j]) * W[i]) for j in range(K)), np.zeros(d)) for i in range(K)]
    )
    assert np.linalg.norm(unbalanced) <= 1e-12
    # sum_j lambda_ij w_j = mu s_i w_i
    np.testing.assert_allclose(L @ W, mu(W) * L.sum(axis=1)[:, None] * W, atol=1e-12)


@given(K=st.integers(4, 20), d=st.integers(3, 6), seed=SEEDS)
def test_t4_random_classifiers_carry_none(K, d, seed):
    W = random_rows(K, d, np.random.default_rng(seed))
    assert balance(tammes_system(W, 1e-9), W).residual > 1e-4


@settings(max_examples=30)
@given(case=st.sampled_from(PACKINGS), seed=SEEDS)
def test_t4_no_motion_opens_all_stressed_contacts(packing, case, seed):
    """The other half of Gordan's theorem: along any tangent direction some contact of positive stress does not fall."""
    W = packing(*case).X
    contacts = tammes_system(W, 1e-9)
    stress = balance(contacts, W)
    motion = tangential(W, np.random.default_rng(seed).standard_normal(W.shape))
    change = np.einsum("ed,ed->e", motion[contacts.a], W[contacts.b])
    change += np.einsum("ed,ed->e", W[contacts.a], motion[contacts.b])
    assert change @ stress.weights == pytest.approx(0, abs=1e-11)
    assert change[stress.positive].max() > 0


# --- T5 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("K", "d"), PACKINGS)
@pytest.mark.parametrize("directions", ["rows", "margins"])
def test_t5_stressed_packings_are_stationary_for_hardmax(packing, K, d, directions):
    """With H = W the stress of T4 balances, and with the directions of T1 too: they are equal where there is stress."""
    W = packing(K, d).X
    H = W if directions == "rows" else margins(W).H
    contacts = hardmax_system(W, H, 1e-9)
    level = contacts.values(np.vstack([W, H])).min()
    assert level == pytest.approx(1 - mu(W), abs=1e-14)
    stress = balance(contacts, np.vstack([W, H]))
    assert stress.residual <= 1e-12
    assert stress.weights.min() >= 0 and stress.weights.sum() == pytest.approx(1, abs=1e-14)
    L = ordered(contacts, stress.weights, K)
    assert max(hardmax_residuals(W, H, L)) <= 1e-12
    # half the symmetric stress is another solution
    pairs = tammes_system(W, 1e-9)
    half = symmetric(pairs, balance(pairs, W).weights, K) / 2
    assert half.sum() == pytest.approx(1, abs=1e-14)
    if directions == "rows":
        assert max(hardmax_residuals(W, W, half)) <= 1e-12


@pytest.mark.parametrize(("K", "d"), [(7, 3), (10, 4), (13, 3), (20, 4), (25, 5)])
def test_t5_local_maximisers_of_hardmax(K, d):
    """Polished from a HardMax search: both conditions, and their consequences for stressed classes."""
    W = random_rows(K, d, np.random.default_rng(K))
    X = np.vstack([W, W])
    descend(HARDMAX, X, 10.0, 1e4, 2.0, 300, 1e-4)
    minimize(HARDMAX, X, 1e5, 3000, 1e-6)
    code = polish_hardmax(X[:K], X[K:], 1e-4)
    assert code.residual <= 1e-12
    W, H = code.X[:K], code.X[K:]
    m = -pair_maximum(HARDMAX, code.X)
    assert m == pytest.approx(code.value, abs=1e-14)
    L = ordered(code.contacts, code.stresses, K)
    L /= L.sum()
    assert L.min() >= 0
    assert max(hardmax_residuals(W, H, L)) <= 1e-12
    result = margins(W)
    assert result.margin == pytest.approx(m, abs=1e-13)
    own = L.sum(axis=1)
    for k in np.flatnonzero(own > 1e-6):
        alpha = L[k] / own[k]
        assert np.linalg.norm(W[k] - alpha @ W) == pytest.approx(m, abs=1e-9)
        assert result.margins[k] == pytest.approx(m, abs=1e-12)
        np.testing.assert_allclose(H[k], result.H[k], atol=1e-6)


@given(K=st.integers(4, 20), d=st.integers(3, 6), seed=SEEDS)
def test_t5_random_classifiers_are_not_stationary(K, d, seed):
    W = random_rows(K, d, np.random.default_rng(seed))
    H = margins(W).H
    assert balance(hardmax_system(W, H, 1e-9), np.vstack([W, H])).residual > 1e-4


# --- T7 -------------------------------------------------------------------------------------------------------


@given(K=st.integers(2, 60), d=st.integers(1, 10), seed=SEEDS)
def test_t7_a_margin_is_at_most_the_smallest_chord(K, d, seed):
    W = random_rows(K, d, np.random.default_rng(seed))
    assert margins(W).margin <= chord(W) + ROUNDING
    assert chord(W) == pytest.approx(math.sqrt(max(0.0, 2 - 2 * mu(W))), abs=1e-7)


@given(K=st.integers(1, 60), d=st.integers(3, 10), degree=st.integers(1, 14), seed=SEEDS)
def test_t7_gegenbauer_sums_are_not_negative(K, d, degree, seed):
    """sum_ij G_k(<w_i, w_j>) >= 0, the basis of Delsarte's programme; designs attain it."""
    W = random_rows(K, d, np.random.default_rng(seed))
    C = W @ W.T
    G = special.eval_gegenbauer(degree, d / 2 - 1, C) / special.eval_gegenbauer(degree, d / 2 - 1, 1.0)
    assert G.sum() >= -1e-10
    assert np.abs(G).max() <= 1 + 1e-12


def test_t7_gegenbauer_sums_vanish_on_designs(known):
    # E8's roots are a 7-design, the icosahedron a 5-design; both fail at the next even degree
    for name, strength in [("E8", 7), ("icosahedron", 5)]:
        W = known[name]
        d = W.shape[1]
        sums = [special.eval_gegenbauer(k, d / 2 - 1, W @ W.T).sum() for k in range(1, strength + 2)]
        np.testing.assert_allclose(sums[:-1], 0, atol=1e-9)
        assert sums[-1] > 1


@given(d=st.integers(1, 6), more=st.integers(1, 8), seed=SEEDS)
def test_t7_more_than_2d_vectors_have_a_positive_product(d, more, seed):
    """Also where the search starts from the cross-polytope, whose products are all at most 0."""
    rng = np.random.default_rng(seed)
    cross = np.vstack([np.eye(d), -np.eye(d)])
    assert mu(np.vstack([cross, random_rows(more, d, rng)])) > 0
    assert mu(unit_rows(np.vstack([cross, cross[:1]]) + 1e-3 * rng.standard_normal((2 * d + 1, d)))) > 0


# --- T8 -------------------------------------------------------------------------------------------------------


@given(K=st.integers(2, 60), d=st.integers(2, 9), seed=SEEDS)
def test_t8_caps_of_half_the_angle_are_a_packing(K, d, seed):
    W = random_rows(K, d, np.random.default_rng(seed))
    assert K * cap(math.acos(mu(W)) / 2, d) <= 1 + 1e-12


def test_t8_two_points_fill_the_circle_and_the_caps_are_tight_there():
    for K in (2, 3, 7, 50):
        assert K * cap(math.acos(closed_form(K, 2).max_cosine) / 2, 2) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("K", "d", "cosine"),
    [
        *[(K, d, closed_form(K, d).max_cosine) for d in range(2, 8) for K in range(2, 2 * d + 1)],
        (7, 3, 0.21013831273060309),
        (12, 3, 1 / math.sqrt(5)),
        (24, 3, 0.7230784683335),
        (10, 4, 1 / 6),
        (16, 5, 1 / 5),
        (27, 6, 1 / 4),
        (56, 7, 1 / 3),
        (240, 8, 1 / 2),
    ],
)
def test_t8_proved_optima_lie_between_covering_and_packing(K, d, cosine):
    theta = math.acos(cosine)
    assert K * cap(theta / 2, d) <= 1 + 1e-12
    assert (K - 1) * cap(theta, d) >= 1 - 1e-12


@given(K=st.integers(2, 60), d=st.integers(2, 9), seed=SEEDS, fraction=st.floats(0.5, 0.999))
def test_t8_greedy_codes_reach_the_covering_angle(K, d, seed, fraction):
    """The construction of the proof: while caps do not cover, a point outside them can be added."""
    x = special.betaincinv((d - 1) / 2, (d - 1) / 2, fraction / max(1, K - 1))
    cosine = 1 - 2 * x
    rng = np.random.default_rng(seed)
    W = random_rows(1, d, rng)
    while len(W) < K:
        sample = random_rows(2000, d, rng)
        outside = sample[(sample @ W.T).max(axis=1) < cosine]
        if len(outside):
            W = np.vstack([W, outside[:1]])
    assert mu(W) < cosine
    assert margins(W).margin >= 1 - cosine - ROUNDING
