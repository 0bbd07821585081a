"""Groups of orthogonal matrices, their orbit types, and codes that are unions of their orbits."""

from __future__ import annotations

import itertools
import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softmaxcode.search.energy import TAMMES, energy
from softmaxcode.search.matrix_groups import MOST_ELEMENTS, MatrixGroup, draw_matrix_group, orbit_types, point_groups
from softmaxcode.search.orbit_starts import (
    Composition,
    draw_composition,
    finish_both_ways,
    leading_compositions,
    most_orbits,
    orbit_start,
)
from softmaxcode.search.scale import scale
from softmaxcode.sphere import gram, unit_rows

seeds = st.integers(0, 2**32 - 1)
GROUPS = {group.name: group for group in point_groups()}

#: Orders of the point groups as functions of n.
ORDERS = {"C{}": 1, "C{}v": 2, "C{}h": 2, "D{}": 2, "D{}h": 4, "D{}d": 4}


def test_point_groups_have_the_orders_of_the_textbook():
    expected = {"Cs": 2, "Ci": 2, "T": 12, "Td": 24, "Th": 24, "O": 24, "Oh": 48, "I": 60, "Ih": 120}
    for n in range(2, 13):
        expected |= {name.format(n): factor * n for name, factor in ORDERS.items()} | {f"S{2 * n}": 2 * n}
    assert {name: len(group.elements) for name, group in GROUPS.items()} == expected


def test_elements_are_orthogonal_distinct_and_closed():
    for name in ("C5v", "D4d", "S6", "Td", "Ih"):
        elements = GROUPS[name].elements
        np.testing.assert_allclose(
            elements @ elements.transpose(0, 2, 1), np.tile(np.eye(3), (len(elements), 1, 1)), atol=1e-9
        )
        products = (elements[:, None] @ elements[None]).reshape(-1, 9)
        distances = np.abs(products[:, None] - elements.reshape(1, -1, 9)).max(axis=2)
        assert (distances.min(axis=1) < 1e-9).all()
        assert len(np.unique(np.round(elements, 6) + 0.0, axis=0)) == len(elements)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("Ih", {120: 1, 60: 1, 30: 1, 20: 1, 12: 1}),
        ("Oh", {48: 1, 24: 2, 12: 1, 8: 1, 6: 1}),
        ("T", {12: 1, 6: 1, 4: 2}),  # a cube's corners are two tetrahedra
        ("C3v", {6: 1, 3: 1, 1: 2}),  # the mirrors are conjugate, each in one piece
        ("C4v", {8: 1, 4: 2, 1: 2}),
        ("D3", {6: 1, 3: 2, 2: 1}),
        ("Ci", {2: 1}),
    ],
)
def test_orbit_types_are_those_of_the_textbook(name, sizes):
    assert Counter(t.size for t in GROUPS[name].types) == sizes


@given(st.integers(2, 8), seeds)
@settings(max_examples=30, deadline=None)
def test_orbits_of_drawn_groups_are_invariant_and_have_their_size(d, seed):
    rng = np.random.default_rng(seed)
    group = draw_matrix_group(d, rng)
    assert 2 <= len(group.elements) <= MOST_ELEMENTS
    assert group.types[0].size == len(group.elements) and group.types[0].images.shape[1:] == (d, d)
    for t in group.types:
        f = t.images.shape[2]
        points = t.images @ unit_rows(rng.standard_normal((1, f)))[0] if f > 1 else t.images[:, :, 0]
        np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1, atol=1e-9)
        assert t.size == 1 or gram(points).max() < 1 - 1e-9
        moved = group.elements @ points.T
        nearest = np.linalg.norm(moved.transpose(0, 2, 1)[:, :, None] - points[None, None], axis=3).min(axis=2)
        assert nearest.max() < 1e-6
        # the orbit has as many points as the group has elements for each that fixes one
        fixing = sum(np.allclose(g @ points[0], points[0], atol=1e-6) for g in group.elements)
        assert fixing * t.size == len(group.elements)


def test_a_group_that_is_trivial_or_too_large_is_refused():
    assert MatrixGroup.generated("trivial", [np.eye(3)]) is None
    turn = np.array([[np.cos(1), -np.sin(1)], [np.sin(1), np.cos(1)]])
    assert MatrixGroup.generated("infinite", [turn]) is None
    assert [t.size for t in orbit_types(np.array([np.eye(2), -np.eye(2)]))] == [2]


def all_compositions(group: MatrixGroup, K: int) -> set[tuple[int, ...]]:
    ranges = [range(n + 1) for n in most_orbits(group, K)]
    sizes = [t.size for t in group.types]
    return {c for c in itertools.product(*ranges) if sum(n * s for n, s in zip(c, sizes, strict=True)) == K}


@pytest.mark.parametrize(("name", "K"), [("D3", 17), ("C4v", 14), ("Oh", 38), ("Ih", 72)])
def test_compositions_are_drawn_uniformly_from_all(name, K):
    rng = np.random.default_rng(0)
    possible = all_compositions(GROUPS[name], K)
    drawn = Counter(draw_composition(GROUPS[name], K, rng).counts for _ in range(60 * len(possible)))
    assert set(drawn) == possible
    assert max(drawn.values()) < 120 and min(drawn.values()) > 20


def test_a_group_without_a_composition_is_refused():
    rng = np.random.default_rng(0)
    assert draw_composition(GROUPS["Ih"], 13, rng) is None
    stays = MatrixGroup.generated("mirror", [np.diag([1.0, 1.0, -1.0])])
    drawn = [draw_composition(stays, 2, rng) for _ in range(40)]
    assert {c.counts for c in drawn if c} == {(1, 0)}  # never all points in the mirror


@given(st.sampled_from(["C3", "D2", "C5v", "Td", "S4"]), seeds)
@settings(max_examples=20, deadline=None)
def test_unions_of_orbits_have_the_symmetry_and_the_energy_of_their_points(name, seed):
    rng = np.random.default_rng(seed)
    composition = draw_composition(GROUPS[name], 40, rng)
    orbits = composition.orbits()
    z = unit_rows(rng.standard_normal(orbits.used.shape) * orbits.used)
    X = orbits.points(z)
    assert X.shape == (40, 3) and composition.name.startswith(name)
    for g in GROUPS[name].elements:
        assert np.linalg.norm((X @ g.T)[:, None] - X[None], axis=2).min(axis=1).max() < 1e-9
    found = orbit_start(40, 3, [composition], np.random.SeedSequence(seed), scale(40, 3), None)
    points = found.composition.orbits().points(found.z)
    assert energy(TAMMES, points, scale(40, 3).screen, np.empty((40, 3))) == pytest.approx(found.energy, abs=1e-9)


def test_a_start_is_finished_with_the_symmetry_and_without_it():
    rng = np.random.default_rng(0)
    units = scale(24, 3)
    starts = [orbit_start(24, 3, [], seed, units, None) for seed in np.random.SeedSequence(1).spawn(40)]
    best = min(starts, key=lambda s: s.energy)
    symmetric, relaxed = finish_both_ways(best, np.random.SeedSequence(2), units, None)
    elements = best.composition.group.elements
    g = elements[rng.integers(1, len(elements))]
    assert np.linalg.norm((symmetric.X @ g.T)[:, None] - symmetric.X[None], axis=2).min(axis=1).max() < 1e-6
    assert relaxed.energy <= symmetric.energy + 1e-6
    assert gram(relaxed.X).max() == pytest.approx(0.7230784683, abs=2e-4)  # the snub cube
    names = [s.composition.name for s in leading_compositions(starts)]
    assert len(set(names)) == len(names) and names[0] == best.composition.name


def test_without_time_there_is_no_start():
    """A start of 300 points takes longer than the kernel runs between two readings of the clock."""
    composition = Composition(GROUPS["C2"], (150, 0, 0))
    assert composition.name == "C2: 150 x 2"
    late = time.monotonic() - 1
    drawn = [orbit_start(300, 3, [composition], s, scale(300, 3), late) for s in np.random.SeedSequence(0).spawn(3)]
    assert all(start is None or np.isfinite(start.energy) for start in drawn)
