"""The margin computed on the classifier's device: its bounds are valid after any steps, and reach the exact one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from softmaxcode.margins import on_device as device_margins
from softmaxcode.margins.exact import margins, smallest_from_bounds, smallest_margin
from softmaxcode.margins.on_device import smallest_margin_on_device
from softmaxcode.search.energy import TAMMES, minimize
from softmaxcode.sphere import random_rows, unit_rows

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


def check(W, found, tolerance=1e-6):
    exact = margins(W)
    assert found.gap <= tolerance
    assert exact.margin - exact.gap - 1e-14 <= found.margin <= exact.margin + found.gap + 1e-14
    assert exact.margins[found.attained_by] <= found.margin + 1e-14


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("K", "d", "seed"), [(2, 3, 0), (5, 2, 1), (12, 3, 2), (40, 30, 3), (300, 16, 4), (600, 48, 5)]
)
def test_random_classifiers(K, d, seed, device):
    W = random_rows(K, d, np.random.default_rng(seed))
    check(W, smallest_margin_on_device(torch.tensor(W, device=device)))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["icosahedron", "cross-polytope", "24-cell", "E8"])
def test_codes_where_every_class_ties(known, name, device):
    found = smallest_margin_on_device(torch.tensor(known[name], device=device))
    check(known[name], found, 1e-13)


def test_nearly_optimal_classifiers_whose_margins_are_close():
    W = random_rows(400, 32, np.random.default_rng(6))
    minimize(TAMMES, W, 100.0, 60, 1e-4)
    check(W, smallest_margin_on_device(torch.tensor(W)))


def test_duplicated_rows_have_margin_zero():
    W = random_rows(30, 6, np.random.default_rng(7))
    W[17] = W[3]
    found = smallest_margin_on_device(torch.tensor(W))
    assert found.margin == pytest.approx(0, abs=1e-12) and found.attained_by in (3, 17)


@given(seed=st.integers(0, 2**32 - 1), K=st.integers(2, 40), d=st.integers(1, 12), steps=st.integers(0, 5))
def test_bounds_hold_however_few_steps_are_made(seed, K, d, steps):
    rng = np.random.default_rng(seed)
    W = unit_rows(rng.standard_normal((K, d)) + rng.exponential() * rng.standard_normal(d))
    tensor = torch.tensor(W)
    classes = torch.arange(K)
    h, primal = device_margins._nearest_points(tensor, classes, tensor, steps)
    dual = device_margins._dual(tensor, classes, h)
    exact = margins(W)
    assert (dual.numpy() <= exact.margins + 1e-12).all()
    assert (primal.numpy() >= exact.margins - exact.gaps - 1e-12).all()
    assert torch.linalg.vector_norm(h, dim=1).numpy() == pytest.approx(np.ones(K), abs=1e-9)
    check(W, smallest_margin_on_device(tensor, rounds=(steps,)))


def test_what_the_steps_leave_open_is_solved_on_the_cpu():
    W = random_rows(200, 20, np.random.default_rng(8))
    found = smallest_margin_on_device(torch.tensor(W), rounds=(0,))
    assert found.solved > 0
    assert found.margin == pytest.approx(smallest_margin(W).margin, abs=1e-14)


def test_many_small_tiles_give_the_same():
    W = torch.tensor(random_rows(150, 10, np.random.default_rng(9)))
    whole, tiled = smallest_margin_on_device(W), smallest_margin_on_device(W, tile=4000)
    assert abs(whole.margin - tiled.margin) <= max(whole.gap, tiled.gap) + 1e-15
    assert whole.attained_by == tiled.attained_by


def test_no_class_is_dropped_between_the_classes_solved():
    """Bounds within the slack of each other come in any order; an unsolved class counts in the gap."""
    rng = np.random.default_rng(0)
    for _ in range(100):
        W = unit_rows(np.vstack([np.eye(3), -np.eye(3)])[:5] + 1e-6 * rng.standard_normal((5, 3)))
        check(W, smallest_margin_on_device(torch.tensor(W), rounds=(3,)))


@given(seed=st.integers(0, 2**32 - 1), K=st.integers(2, 30), slack=st.sampled_from([1e-14, 1e-6, 1e-2, 1.0]))
def test_any_lower_bounds_lead_to_a_valid_gap(seed, K, slack):
    rng = np.random.default_rng(seed)
    W = random_rows(K, 4, rng)
    exact = margins(W)
    bounds = np.maximum(0, exact.margins - exact.gaps - 3 * slack * rng.random(K))
    found = smallest_from_bounds(W, bounds, slack)
    assert exact.margin - 1e-14 <= found.margin <= exact.margin + found.gap + 1e-14
    assert found.gap <= slack + 1e-13
