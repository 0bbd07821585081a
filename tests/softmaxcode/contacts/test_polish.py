"""Polishing, its derivatives, rattlers, stresses and rigidity."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softmaxcode.contacts.polish import MAX_POLISH_UNKNOWNS, can_polish, centre_rattlers, polish_hardmax, polish_tammes
from softmaxcode.contacts.stress import balance, rigidity
from softmaxcode.contacts.system import (
    ContactSystem,
    hardmax_system,
    lagrangian_hessian,
    move,
    rotations,
    tammes_system,
    tangent_basis,
)
from softmaxcode.exact import closed_form
from softmaxcode.margins.exact import margins
from softmaxcode.search.energy import HARDMAX, TAMMES, descend, minimize
from softmaxcode.search.multistart import pair_maximum
from softmaxcode.sphere import gram, largest_cosines, random_rows, tangential, unit_rows

SEEDS = st.integers(0, 2**32 - 1)
NOISE = 1e-4


def mu(W: np.ndarray) -> float:
    return float(largest_cosines(W).max())


def disturbed(W: np.ndarray, seed: int, size: float = NOISE) -> np.ndarray:
    return unit_rows(W + size * np.random.default_rng(seed).standard_normal(W.shape))


def assert_polished(code, start: np.ndarray) -> None:
    """Check unit rows, the claimed value, contacts that attain it, and a residual to rounding, all computed here."""
    W = code.X
    np.testing.assert_allclose(np.linalg.norm(W, axis=1), 1, atol=4e-16)
    assert code.value == pytest.approx(1 - mu(W), abs=1e-15)
    assert code.value >= 1 - mu(start)
    np.testing.assert_allclose(code.contacts.values(W), code.value, atol=5e-15)
    assert code.residual <= 1e-12
    assert code.stresses.min() >= 0
    L = np.zeros((len(W), len(W)))
    L[code.contacts.a, code.contacts.b] = code.stresses / code.stresses.sum()
    assert np.linalg.norm(tangential(W, (L + L.T) @ W)) <= 1e-12


# --- polishing ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "cosine", "contacts"),
    [
        ("icosahedron", 1 / math.sqrt(5), 30),
        ("octahedron", 0.0, 12),
        ("24-cell", 0.5, 96),
        ("27", 0.25, 216),
        ("56", 1 / 3, 756),
        ("E8", 0.5, 6720),
    ],
)
def test_known_codes_from_noise(known, name, cosine, contacts):
    start = disturbed(known[name], 1)
    assert mu(start) > cosine + NOISE / 2
    code = polish_tammes(start, 1e-3)
    assert_polished(code, start)
    assert mu(code.X) == pytest.approx(cosine, abs=1e-15)
    # degenerate contact graphs too: none is missing and none is spurious
    assert len(tammes_system(code.X, 1e-9)) == contacts


@pytest.mark.parametrize(("K", "d"), [(13, 3), (20, 3), (30, 4), (50, 3)])
@pytest.mark.parametrize("seed", [1, 2])
def test_generic_packings_from_noise(packing, K, d, seed):
    before = packing(K, d)
    assert before.residual <= 1e-12
    start = disturbed(before.X, seed)
    code = polish_tammes(start, 1e-3)
    assert_polished(code, start)
    # strict local optima are found again
    assert code.value == pytest.approx(before.value, abs=1e-14)


@pytest.mark.parametrize(("K", "d"), [(13, 3), (20, 4), (24, 3)])
def test_stresses_sum_to_one(packing, K, d):
    assert packing(K, d).stresses.sum() == pytest.approx(1, abs=1e-12)
    W = disturbed(packing(K, d).X, 4)
    assert polish_hardmax(W, W, 1e-3).stresses.sum() == pytest.approx(1, abs=1e-12)


@settings(max_examples=25)
@given(more=st.integers(1, 30), d=st.integers(3, 6), seed=SEEDS, beta=st.floats(2, 5))
def test_polishing_never_worsens_what_a_search_found(more, d, seed, beta):
    X = random_rows(2 * d + more, d, np.random.default_rng(seed))
    beta = 10.0**beta
    descend(TAMMES, X, min(10.0, beta), beta, 2.0, 300, 1e-4)
    code = polish_tammes(X, 10 / beta)
    assert 1 - mu(code.X) >= 1 - mu(X) - 1e-15
    assert code.value == pytest.approx(1 - mu(code.X), abs=1e-15)
    again = polish_tammes(code.X, 1e-9)
    assert 1 - mu(again.X) >= code.value - 2e-15


def test_polishing_keeps_an_optimum_that_is_not_rigid():
    """Eight of the ten vertices of a cross-polytope, where contacts cannot fix all points."""
    X = random_rows(8, 5, np.random.default_rng(0))
    descend(TAMMES, X, 10.0, 100.0, 2.0, 300, 1e-4)
    code = polish_tammes(X, 0.1)
    assert code.value == pytest.approx(1, abs=1e-14)
    again = polish_tammes(code.X, 1e-9)
    assert 1 - mu(again.X) >= code.value - 2e-15


@pytest.mark.parametrize(("K", "d"), [(7, 3), (12, 3), (13, 3), (20, 4), (27, 6)])
def test_hardmax_from_noise(packing, K, d):
    """From near a packing with H near W, the margin returns to at least 1 - mu of it."""
    W = packing(K, d).X
    start = np.vstack([disturbed(W, 1), disturbed(W, 2)])
    code = polish_hardmax(start[:K], start[K:], 1e-3)
    assert code.residual <= 1e-12
    level = -pair_maximum(HARDMAX, code.X)
    assert code.value == pytest.approx(level, abs=2e-15)
    assert level >= -pair_maximum(HARDMAX, start)
    assert level >= 1 - mu(W) - 1e-13
    assert margins(code.X[:K]).margin >= level - 1e-13
    np.testing.assert_allclose(code.contacts.values(code.X), level, atol=5e-15)


@pytest.mark.parametrize(("K", "d", "seed"), [(40, 6, 0), (40, 6, 2), (60, 8, 1), (100, 10, 4)])
def test_flat_valleys_are_followed_to_their_end(K, d, seed):
    """Searches that end early in a valley where contacts open and close."""
    X = random_rows(K, d, np.random.default_rng(seed))
    descend(TAMMES, X, 3.0, 1e4, 2.0, 300, 1e-4)
    minimize(TAMMES, X, 1e5, 3000, 1e-6)
    code = polish_tammes(X, 1e-4)
    assert code.value >= 1 - mu(X)
    assert code.residual <= 1e-12


def test_sizes_that_are_polished():
    N = MAX_POLISH_UNKNOWNS // 7
    assert can_polish(240, 8) and can_polish(N, 8)
    assert not can_polish(N + 1, 8) and not can_polish(5, 1)


# --- derivatives ----------------------------------------------------------------------------------------------


def systems(K: int, d: int, seed: int):
    """Both objectives' systems at a random point, with weights."""
    rng = np.random.default_rng(seed)
    W, H = random_rows(K, d, rng), random_rows(K, d, rng)
    for system, X in ((tammes_system(W, 0.8), W), (hardmax_system(W, H, 1.0), np.vstack([W, H]))):
        yield system, X, rng.uniform(0, 1, len(system)), rng


@given(K=st.integers(2, 12), d=st.integers(2, 6), seed=SEEDS)
def test_values_are_the_pairs(K, d, seed):
    rng = np.random.default_rng(seed)
    W, H = random_rows(K, d, rng), random_rows(K, d, rng)
    system = tammes_system(W, np.inf)
    assert len(system) == K * (K - 1) // 2
    for a, b, value in zip(system.a, system.b, system.values(W), strict=True):
        assert value == pytest.approx(1 - W[a] @ W[b], abs=1e-15)
    system = hardmax_system(W, H, 10.0)
    assert len(system) == K * (K - 1)
    for a, b, value in zip(system.a, system.b, system.values(np.vstack([W, H])), strict=True):
        assert a - K != b
        assert value == pytest.approx(H[a - K] @ (W[a - K] - W[b]), abs=1e-15)
    near = hardmax_system(W, H, 0.3)
    values = near.values(np.vstack([W, H]))
    assert values.max() <= values.min() + 0.3 + 1e-15


@given(N=st.integers(1, 10), d=st.integers(2, 7), seed=SEEDS)
def test_tangent_bases_are_orthonormal(N, d, seed):
    X = random_rows(N, d, np.random.default_rng(seed))
    X[0] = -np.eye(d)[0]
    frames = np.concatenate([X[:, :, None], tangent_basis(X)], axis=2)
    np.testing.assert_allclose(np.einsum("nds,ndt->nst", frames, frames), np.tile(np.eye(d), (N, 1, 1)), atol=1e-14)


@settings(max_examples=25)
@given(K=st.integers(3, 9), d=st.integers(2, 5), seed=SEEDS)
def test_jacobian_against_finite_differences(K, d, seed):
    for system, X, weights, rng in systems(K, d, seed):
        basis = tangent_basis(X)
        v = rng.standard_normal(X.shape[0] * (d - 1))
        h = 1e-5
        difference = (system.values(move(X, basis, h * v)) - system.values(move(X, basis, -h * v))) / (2 * h)
        J = system.jacobian(X, basis)
        np.testing.assert_allclose(J @ v, difference, atol=1e-8)
        gradient = np.einsum("ndt,nd->nt", basis, system.gradient(X, weights)).ravel()
        np.testing.assert_allclose(gradient, J.T @ weights, atol=1e-13)


@settings(max_examples=25)
@given(K=st.integers(3, 9), d=st.integers(2, 5), seed=SEEDS)
def test_hessian_against_finite_differences(K, d, seed):
    for system, X, weights, rng in systems(K, d, seed):
        basis = tangent_basis(X)
        u, v = rng.standard_normal((2, X.shape[0] * (d - 1)))
        h = 1e-3

        def lagrangian(step, X=X, basis=basis, system=system, weights=weights):
            return -weights @ system.values(move(X, basis, step))

        mixed = [lagrangian(h * (s * u + t * v)) * s * t for s in (1, -1) for t in (1, -1)]
        hessian = lagrangian_hessian(system, X, basis, weights)
        np.testing.assert_allclose(hessian, hessian.T, atol=1e-13)
        assert u @ hessian @ v == pytest.approx(sum(mixed) / (4 * h * h), abs=1e-3 * weights.sum())
        second = (lagrangian(h * v) + lagrangian(-h * v) - 2 * lagrangian(0 * v)) / (h * h)
        assert v @ hessian @ v == pytest.approx(second, abs=1e-3 * weights.sum())


@given(K=st.integers(2, 12), d=st.integers(2, 6), span=st.integers(1, 6), seed=SEEDS)
def test_rotations_change_no_value(K, d, span, seed):
    span = min(span, d, K)
    rng = np.random.default_rng(seed)
    frame = np.linalg.qr(rng.standard_normal((d, span)))[0]
    X = unit_rows(rng.standard_normal((K, span)) @ frame.T)
    basis = tangent_basis(X)
    turning = rotations(X, basis)
    np.testing.assert_allclose(turning.T @ turning, np.eye(turning.shape[1]), atol=1e-12)
    assert turning.shape[1] == math.comb(d, 2) - math.comb(d - span, 2)
    J = tammes_system(X, np.inf).jacobian(X, basis)
    np.testing.assert_allclose(J @ turning, 0, atol=1e-12)


# --- rattlers -------------------------------------------------------------------------------------------------


def with_rattler(known) -> np.ndarray:
    """The half of the icosahedron opposite one vertex, and a point near that vertex, which touches none of it."""
    W = known["icosahedron"]
    far = W[W @ W[0] < 0]
    return np.vstack([far, unit_rows(W[:1] + 0.2 * W[1:2])])


def test_a_rattler_is_centred(known):
    W = with_rattler(known)
    centred = centre_rattlers(W)
    np.testing.assert_array_equal(centred[:-1], W[:-1])
    assert mu(centred) == pytest.approx(mu(W), abs=1e-15)
    # the deepest hole opposite a half icosahedron is opposite its middle
    np.testing.assert_allclose(centred[-1], known["icosahedron"][0], atol=1e-6)


@pytest.mark.parametrize(("K", "d", "seed"), [(13, 3, 0), (20, 3, 0), (40, 4, 2)])
def test_rattlers_move_away_from_contact_and_nothing_else_changes(packing, K, d, seed):
    W = packing(K, d, seed).X
    free = largest_cosines(W) < mu(W) - 1e-6
    assert free.any()
    centred = centre_rattlers(W)
    np.testing.assert_array_equal(centred[~free], W[~free])
    assert mu(centred) == pytest.approx(mu(W), abs=2e-16)
    assert (largest_cosines(centred)[free] <= largest_cosines(W)[free] + 1e-12).all()
    # in the middle no direction is better to first order: near-contacts balance
    for i in np.flatnonzero(free):
        step = 1e-2 * tangential(centred[i], random_rows(200, d, np.random.default_rng(0)))
        others = np.delete(centred, i, axis=0)
        moved = unit_rows(centred[i] + step)
        assert (moved @ others.T).max(axis=1).min() >= (others @ centred[i]).max() - 1e-3


def test_codes_without_rattlers_are_left_alone(known):
    W = known["27"]
    centred = centre_rattlers(W)
    np.testing.assert_array_equal(centred, W)
    assert centred is not W


# --- stresses and rigidity ------------------------------------------------------------------------------------


def test_a_balanced_stress_is_found_among_contacts_that_carry_none():
    """Three points on a circle are rigid; a fourth contact, the only one of its point, cannot carry stress."""
    t = 2 * np.pi * np.arange(3) / 3
    triangle = np.column_stack([np.cos(t), np.sin(t), np.zeros(3)])
    hanging = np.array([[-0.5, 0.0, np.sqrt(0.75)]])
    W = np.vstack([triangle, hanging])
    system = ContactSystem(np.array([0, 0, 1, 0]), np.array([1, 2, 2, 3]), np.array([0, 0, 1, 0]))
    stress = balance(system, W)
    assert stress.residual <= 1e-9
    assert stress.positive.tolist() == [True, True, True, False]
    np.testing.assert_allclose(stress.weights, [1 / 3, 1 / 3, 1 / 3, 0], atol=1e-6)


def test_all_contacts_of_a_degenerate_code_carry_stress(known):
    for name in ("24-cell", "27", "56"):
        W = known[name]
        system = tammes_system(W, 1e-9)
        stress = balance(system, W)
        assert stress.residual <= 1e-13 and stress.positive.all()
        assert stress.weights.sum() == pytest.approx(1, abs=1e-14)
        # the analytic centre has the code's symmetry
        np.testing.assert_allclose(stress.weights, 1 / len(system), atol=1e-12)


def hold(W: np.ndarray) -> str:
    system = tammes_system(W, 1e-9)
    return rigidity(system, W, balance(system, W))


def hold_hardmax(W: np.ndarray) -> str:
    system = hardmax_system(W, W, 1e-9)
    X = np.vstack([W, W])
    return rigidity(system, X, balance(system, X))


@pytest.mark.parametrize("name", ["icosahedron", "octahedron", "27", "56"])
def test_jammed_codes_are_infinitesimally_rigid(known, name):
    assert hold(known[name]) == "infinitesimal"


@pytest.mark.parametrize("name", ["icosahedron", "27"])
def test_jammed_codes_are_rigid_with_features_too(known, name):
    assert hold_hardmax(known[name]) == "infinitesimal"


def test_the_octahedron_with_features_is_not_jammed_by_bars(known):
    """docs/theory.md: 24 contacts of rank 18, where 21 is needed."""
    W = known["octahedron"]
    system = hardmax_system(W, W, 1e-9)
    X = np.vstack([W, W])
    J = system.jacobian(X, tangent_basis(X)).toarray()
    assert len(system) == 24 and np.linalg.matrix_rank(J, 1e-9) == 18
    assert hold_hardmax(W) != "infinitesimal"


@pytest.mark.parametrize("turn", [90.0, 100.0, 120.0])
def test_five_points_on_the_sphere_are_not_rigid(turn):
    """Two poles and three on the equator, of which one can rotate between the others."""
    t = np.radians([0, 120, 120 + turn])
    W = np.vstack([[[0, 0, 1.0], [0, 0, -1.0]], np.column_stack([np.cos(t), np.sin(t), np.zeros(3)])])
    assert mu(W) == pytest.approx(0, abs=1e-15)
    assert hold(W) == "none"


def test_a_square_pyramid_is_not_rigid():
    """Its apex touches all four of the base and can carry no stress: nothing would balance it."""
    W = closed_form(5, 3).W
    system = tammes_system(W, 1e-9)
    assert len(system) == 8
    stress = balance(system, W)
    apex = (system.a == 2) | (system.b == 2)
    np.testing.assert_array_equal(stress.positive, ~apex)
    np.testing.assert_allclose(stress.weights[~apex], 0.25, atol=1e-9)
    assert hold(W) == "none"


def test_polygons_are_rigid_in_the_plane_and_not_in_space():
    W = closed_form(7, 2).W
    assert hold(W) == "infinitesimal"
    assert hold(np.column_stack([W, np.zeros(7)])) == "none"


def test_seven_points_are_held_to_second_order_with_features(packing):
    code = packing(7, 3)
    assert mu(code.X) == pytest.approx(0.21013831273060309, abs=1e-14)
    assert hold(code.X) == "infinitesimal"
    assert hold_hardmax(code.X) == "second order"


def test_an_unstressed_contact_holds_nothing(known):
    """With only twenty of its thirty contacts as bars the icosahedron can move."""
    W = known["icosahedron"]
    system = tammes_system(W, 1e-9)
    few = system.subset(np.arange(len(system)) < 20)
    weights = np.full(20, 1 / 20)
    assert rigidity(few, W, type(balance(system, W))(weights, weights > 0, 0.0)) == "none"
    assert gram(W).max() == pytest.approx(1 / math.sqrt(5), abs=1e-15)
