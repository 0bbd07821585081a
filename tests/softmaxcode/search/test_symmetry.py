"""The search under prescribed groups: groups, their actions and representations, the reduced energy, whole searches."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softmaxcode.parallel.threads import Threads
from softmaxcode.search import symmetry
from softmaxcode.search.descent import near_energy
from softmaxcode.search.energy import TAMMES, energy
from softmaxcode.search.groups import (
    FIXED_POINTS,
    MOST_POINTS,
    Group,
    affine,
    close,
    coset_action,
    draw_group,
    projective,
    random_permutations,
)
from softmaxcode.search.orbits import draw_orbits, draw_representation
from softmaxcode.search.pipeline import Timer
from softmaxcode.search.symmetry import symmetric_search
from softmaxcode.sphere import gram, unit_rows

seeds = st.integers(0, 2**32 - 1)


def run(K, d, *, seed=1, tries=48, floor=-1.0, threads=1):
    return symmetric_search(
        K,
        d,
        seed=np.random.SeedSequence(seed),
        tries=tries,
        timer=Timer(None),
        fraction=1.0,
        floor=floor,
        threads=Threads(threads),
    )


def random_orbits(seed, K=24, d=5):
    """Permutations of K points and one of their representations, the first that fit."""
    rng = np.random.default_rng(seed)
    while True:
        permutations = draw_orbits(draw_group(K, rng), K, rng)
        orbits = None if permutations is None else draw_representation(permutations, d, rng)
        if orbits is not None:
            return permutations, orbits, rng


@pytest.mark.parametrize(("p", "k"), [(2, 3), (3, 2), (5, 1)])
def test_all_matrices_and_translations_have_the_order_of_the_affine_group(p, k):
    points = np.stack(np.unravel_index(np.arange(p**k), (p,) * k), axis=1)
    rng = np.random.default_rng(0)
    maps = [points + np.eye(k, dtype=int)[i] for i in range(k)]
    maps += [points @ rng.integers(p, size=(k, k)) for _ in range(60)]
    images = [np.ravel_multi_index(tuple((m % p).T), (p,) * k) for m in maps]
    generators = np.array([image for image in images if len(set(image)) == p**k])
    order = p**k * math.prod(p**k - p**i for i in range(k))
    assert len(close(generators, order)) == order
    assert close(generators, order - 1) is None


@given(seeds, st.integers(2, 300))
def test_the_families_are_permutations(seed, K):
    rng = np.random.default_rng(seed)
    for family in (affine, projective, random_permutations):
        generators, name = family(K, rng)
        assert (np.sort(generators, axis=1) == np.arange(generators.shape[1])).all()
        assert generators.shape[1] <= MOST_POINTS and name


@given(seeds)
def test_affine_groups_have_a_normal_subgroup_of_translations_that_is_regular(seed):
    generators, name = affine(30, np.random.default_rng(seed))
    group = Group.generated(generators, name)
    if group is None:
        return
    n = generators.shape[1]
    assert len(group.elements) % n == 0
    # a point stabiliser has index n: the group is transitive
    assert len(set(group.elements[:, 0].tolist())) == n


def test_projective_groups_have_the_known_orders():
    orders = {"PSL(2,5)": 60, "PGL(2,5)": 120, "PSL(2,7)": 168, "PGL(2,7)": 336, "PSL(2,11)": 660, "PGL(2,11)": 1320}
    seen = {}
    for seed in range(60):
        generators, name = projective(0, np.random.default_rng(seed))
        seen[name] = len(close(generators, 1320))
    assert seen == orders


@given(seeds)
@settings(max_examples=25)
def test_coset_actions_are_homomorphisms_to_transitive_groups(seed):
    rng = np.random.default_rng(seed)
    group = draw_group(60, rng)
    h = group.elements[rng.integers(len(group.elements), size=1)]
    subgroup = close(h, len(group.elements))
    action = coset_action(group, h)
    size = len(group.elements) // len(subgroup)
    assert action.shape == (len(group.left), size)
    assert (np.sort(action, axis=1) == np.arange(size)).all()
    # transitive, and the image has an order that divides the group's
    image = close(action, len(group.elements))
    assert set(image[:, 0].tolist()) == set(range(size)) and len(group.elements) % len(image) == 0


@given(seeds, st.integers(8, 60))
@settings(max_examples=25)
def test_orbits_fill_all_points(seed, K):
    rng = np.random.default_rng(seed)
    group = draw_group(K, rng)
    permutations = draw_orbits(group, K, rng)
    if permutations is not None:
        assert (np.sort(permutations, axis=1) == np.arange(K)).all()
        moved = (permutations != np.arange(K)).any(axis=0)
        assert K - FIXED_POINTS <= moved.sum() <= K


@given(seeds, st.sampled_from([(24, 5), (27, 6), (13, 3), (40, 10)]))
@settings(max_examples=25)
def test_points_are_permuted_by_isometries(seed, pair):
    permutations, orbits, rng = random_orbits(seed, *pair)
    X = orbits.points(unit_rows(rng.standard_normal(orbits.used.shape) * orbits.used))
    assert X.shape == pair
    G = X @ X.T
    for g in permutations:
        np.testing.assert_allclose(G[np.ix_(g, g)], G, atol=1e-9)


@given(seeds)
@settings(max_examples=25)
def test_the_reduced_energy_and_its_gradient_are_those_of_all_points(seed):
    _, orbits, rng = random_orbits(seed)
    z = unit_rows(rng.standard_normal(orbits.used.shape) * orbits.used)
    beta = 10.0
    value, grad, X = near_energy(z, beta, orbits)
    np.testing.assert_allclose(X, orbits.points(z), atol=1e-9)
    full = np.empty((24, 5))
    assert value == pytest.approx(energy(TAMMES, X, beta, full), abs=1e-9)
    whole = np.zeros_like(z)
    for k, r in enumerate(orbits.orbit):
        whole[r] += orbits.lift[k].T @ full[k]
    np.testing.assert_allclose(grad, whole - np.sum(whole * z, axis=1, keepdims=True) * z, atol=1e-8)
    assert (grad[~orbits.used] == 0).all()


def test_representations_without_room_for_the_points_are_refused():
    # a cycle of nine points: the trivial line and four planes, one of which maps three points to one
    cycle = np.roll(np.arange(9), -1)[None]
    drawn = {d: [draw_representation(cycle, d, np.random.default_rng(s)) for s in range(20)] for d in range(1, 11)}
    assert {d for d, found in drawn.items() if any(o is not None for o in found)} == set(range(2, 10))
    assert any(o is None for o in drawn[2])
    for orbits in filter(None, drawn[2]):
        steps = np.arange(1, 9) * 2 * np.pi / 9
        np.testing.assert_allclose(
            np.sort((orbits.points(np.eye(1, 2)) @ orbits.points(np.eye(1, 2)).T)[0, 1:]),
            np.sort(np.cos(steps)),
            atol=1e-9,
        )
    # two fixed points on one line coincide unless they are opposite, which the draw does not determine
    assert draw_representation(np.array([[1, 2, 0, 3, 4, 5]]), 1, np.random.default_rng(0)) is None


@pytest.mark.parametrize(("K", "d", "mu"), [(16, 5, 0.2), (27, 6, 0.25), (40, 10, 1 / 6)])
def test_codes_of_high_symmetry_are_found(K, d, mu):
    best = run(K, d, tries=400, floor=mu + 1e-6)[0]
    assert best.value == pytest.approx(mu, abs=1e-6)
    assert best.value == gram(best.X).max()
    np.testing.assert_allclose(np.linalg.norm(best.X, axis=1), 1, atol=1e-14)
    assert "orbits" in best.group


def test_candidates_are_distinct_and_in_order_and_the_threads_do_not_matter():
    one, two = run(24, 4, tries=24), run(24, 4, tries=24, threads=2)
    assert [c.value for c in one] == [c.value for c in two]
    assert [c.group for c in one] == [c.group for c in two]
    assert all((a.X == b.X).all() for a, b in zip(one, two, strict=True))
    values = [c.value for c in one]
    assert values == sorted(values) and (np.diff(values) > 1e-6).all()


def test_the_seed_matters():
    assert [c.value for c in run(30, 5, tries=4)] != [c.value for c in run(30, 5, tries=4, seed=2)]


def test_a_release_never_makes_a_candidate_worse():
    for candidate in run(24, 3, tries=16):
        again = symmetry._release(candidate, np.random.SeedSequence(0))
        assert again.value <= candidate.value


def test_no_group_fits_a_simplex_or_a_code_too_large():
    assert run(5, 5) == [] and run(symmetry.MOST_ROWS + 1, 5) == []


def test_a_spent_clock_ends_the_search_at_once():
    timer = Timer(0.0)
    found = symmetric_search(
        24, 3, seed=np.random.SeedSequence(0), tries=None, timer=timer, fraction=0.5, floor=-1.0, threads=Threads(1)
    )
    assert found == []
