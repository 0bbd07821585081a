"""The search for packings: moves, screening, the pool, near ties, and stages that do not depend on threads or time."""

from __future__ import annotations

import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softmaxcode import exact
from softmaxcode.parallel.progress import Progress
from softmaxcode.parallel.threads import Threads
from softmaxcode.search import moves
from softmaxcode.search.moves import MOVES, random_move
from softmaxcode.search.packing import PackingSearch
from softmaxcode.search.pipeline import Effort, Timer, search
from softmaxcode.search.pool import Packing, Pool
from softmaxcode.search.scale import scale
from softmaxcode.search.stages import descend_to_end, hop_chain, random_packing
from softmaxcode.search.subsets import random_subset
from softmaxcode.sphere import gram, random_rows

seeds = st.integers(0, 2**32 - 1)
#: The largest cosine of the best known packing of 34 points, Sloane's tables.
MU_34 = 0.8109843372035


def packing_search(K=20, d=3, starts=8, hops=32, seed=0, threads=1, larger=()):
    quiet = Progress("", None, False)
    root = np.random.SeedSequence(seed)
    return PackingSearch(K, d, starts, hops, seed=root, threads=Threads(threads), progress=quiet, larger=larger)


def run(found: PackingSearch, floor=-1.0) -> PackingSearch:
    found.run({}, lambda: False, None, floor)
    return found


@given(st.sampled_from(MOVES), st.integers(5, 60), st.integers(3, 8), seeds)
@settings(max_examples=60)
def test_moves_keep_unit_rows_and_change_some(move, K, d, seed):
    rng = np.random.default_rng(seed)
    W = random_rows(K, d, rng)
    before = W.copy()
    moved = move(W, 0.5, rng)
    assert (W == before).all() and moved.shape == W.shape
    np.testing.assert_allclose(np.linalg.norm(moved, axis=1), 1, atol=1e-12)
    changed = (np.abs(moved - W).max(axis=1) > 1e-12).sum()
    limit = {"reinsert": max(2, K // 20), "perturb_cap": max(3, K // 4), "perturb_all": K}
    assert 0 < changed <= next((n for name, n in limit.items() if move.__name__.startswith(name)), max(3, K // 2))


@given(st.sampled_from([moves.rotate_cap, moves.reflect_cap]), seeds)
@settings(max_examples=20)
def test_turned_caps_are_congruent(move, seed):
    rng = np.random.default_rng(seed)
    W = random_rows(20, 4, rng)
    moved = move(W, 0.5, rng)
    cap = np.abs(moved - W).max(axis=1) > 1e-12
    np.testing.assert_allclose(gram(moved[cap]), gram(W[cap]), atol=1e-9)


def test_every_move_is_drawn(monkeypatch):
    drawn = Counter()
    recording = [lambda W, _spacing, _rng, i=i: drawn.update([i]) or W for i in range(len(MOVES))]
    monkeypatch.setattr(moves, "MOVES", recording)
    rng = np.random.default_rng(0)
    for _ in range(2000):
        random_move(np.eye(3), 1.0, rng)
    fractions = [drawn[i] / 2000 for i in range(len(MOVES))]
    np.testing.assert_allclose(fractions, moves.PROBABILITIES, atol=0.05)


def test_a_start_that_cannot_compete_is_not_continued():
    units, seed = scale(30, 3), np.random.SeedSequence(4)
    found = random_packing(30, 3, seed, units)
    assert found is not None
    assert random_packing(30, 3, seed, units, found.screen - 1e-6) is None
    again = random_packing(30, 3, seed, units, found.screen)
    assert (again.X == found.X).all() and again.energy == found.energy
    assert random_packing(30, 3, seed, units, known=[found.second]) is None
    assert gram(found.X).max() < found.energy < found.second < found.screen


def test_hops_only_improve():
    units = scale(34, 3)
    start = random_packing(34, 3, np.random.SeedSequence(1), units)
    better = [hop_chain(start, 8, seed, units, None) for seed in np.random.SeedSequence(2).spawn(12)]
    energies = [p.energy for p in better if p is not None]
    assert energies and max(energies) < start.energy - units.resolution
    assert hop_chain(start, 8, np.random.SeedSequence(3), units, time.monotonic() - 1) is None


def test_the_pool_keeps_distinct_packings_and_polishes_near_ties():
    units = scale(13, 3)
    threads = Threads(1)
    pool = Pool(units)
    packings = [random_packing(13, 3, s, units) for s in np.random.SeedSequence(0).spawn(80)]
    pool.add(packings, threads)
    pool.add(packings, threads)
    energies = [p.energy for p in pool.packings]
    assert energies == sorted(energies) and min(np.diff(energies), default=1) > units.resolution
    assert energies[0] == min(p.energy for p in packings)
    assert pool.best.polished.residual < 1e-9
    assert pool.best.value == pytest.approx(0.5426364868296, abs=1e-12)
    values = [c.value for c in pool.leading(6)]
    assert values == sorted(values) and len(values) > 1


def test_a_tie_is_decided_by_the_largest_cosine_not_by_the_energy():
    """A worse packing enters with an energy that was made too low: both are near the best, and polishing decides."""
    units = scale(13, 3)
    good = min(
        (random_packing(13, 3, s, units) for s in np.random.SeedSequence(0).spawn(24)),
        key=lambda p: p.energy,
    )
    other = descend_to_end(random_rows(13, 3, np.random.default_rng(4)), 10.0, units)
    assert other.energy > good.energy + 1e-3
    pool = Pool(units)
    pool.add([Packing(other.X, good.energy - 1e-5, other.screen, other.second), good], Threads(1))
    assert pool.packings[0].X is other.X
    assert pool.best.value == pytest.approx(gram(good.X).max(), abs=1e-4)


def test_given_codes_are_kept_and_improved():
    best = run(packing_search()).pool.best
    again = packing_search()
    again.improve([best.X], (2400.0, 150.0))
    assert again.pool.best.value <= best.value + 1e-12
    assert again.starts_made == 0


@given(st.integers(2, 30), st.integers(2, 5), seeds)
def test_a_subset_has_the_wanted_size_and_no_row_twice(K, d, seed):
    rng = np.random.default_rng(seed)
    W = random_rows(K + int(rng.integers(1, 9)), d, rng)
    kept = random_subset(W, K, rng)
    assert kept.shape == (K,) and (np.diff(kept) > 0).all() and 0 <= kept[0] and kept[-1] < len(W)


def test_subsets_of_a_larger_code_reach_what_random_starts_do_not():
    """104 points of R^13 have largest cosine 1/4; random starts for 100 points end above 0.26."""
    larger = exact.best(104, 13).W
    with_subsets = run(packing_search(100, 13, 2, 0, larger=[larger])).pool.best
    without = run(packing_search(100, 13, 2, 0)).pool.best
    assert with_subsets.value < 0.25 + 1e-3
    assert without.value > 0.26


def test_the_number_of_threads_plays_no_part():
    one, two = run(packing_search(24, 4, 6, 16)), run(packing_search(24, 4, 6, 16, threads=2))
    assert [p.energy for p in one.pool.packings] == [p.energy for p in two.pool.packings]
    assert (one.pool.best.X == two.pool.best.X).all()
    assert {n: s.done for n, s in one.stages.items()} == {n: s.done for n, s in two.stages.items()}
    other = run(packing_search(24, 4, 6, 16, seed=1))
    assert [p.energy for p in other.pool.packings] != [p.energy for p in one.pool.packings]


def test_counts_are_the_work_done_and_a_floor_ends_it():
    done = {name: stage.done for name, stage in run(packing_search()).stages.items()}
    assert done == {"orbits": 8, "starts": 8, "permutations": 0, "subsets": 0, "hops": 32}
    early = run(packing_search(12, 3, 10_000, 10_000), floor=5**-0.5 + 1e-6)
    assert early.pool.best.value == pytest.approx(5**-0.5, abs=1e-9)
    assert early.starts_made < 1000


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_thirty_four_points(seed):
    effort = Effort(48, 192, Timer(None))
    found = search(34, 3, effort, seed=seed, n_jobs=1, device=None, inits=[], progress=Progress("", None, False))
    assert found.tammes[0].value == pytest.approx(MU_34, abs=1e-11)
    assert found.tammes[0].polished is not None and found.hardmax


@pytest.mark.parametrize(("K", "d"), [(60, 3), (200, 12)])
def test_a_spent_budget_ends_every_stage(K, d):
    begin = time.monotonic()
    effort = Effort(None, None, Timer(1e-9))
    found = search(K, d, effort, seed=0, n_jobs=1, device=None, inits=[], progress=Progress("", None, False))
    assert found.hops == 0 and len(found.tammes) >= 1 and len(found.hardmax) >= 1
    np.testing.assert_allclose(np.linalg.norm(found.tammes[0].X, axis=1), 1, atol=1e-12)
    assert time.monotonic() > begin
