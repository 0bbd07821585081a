"""The search for many points: its values, that it can be left, and the memory that it states."""

from __future__ import annotations

import itertools
import math
import tracemalloc

import numpy as np
import pytest

import softmaxcode as sc
from softmaxcode import exact
from softmaxcode.parallel.deadline import Deadline
from softmaxcode.parallel.progress import Progress
from softmaxcode.parallel.thread_pool import ThreadPool
from softmaxcode.search.large import search as large
from softmaxcode.search.large.descent import NearPairSearch, Schedule
from softmaxcode.search.large.kernels import CompiledKernels
from softmaxcode.search.large.pauli_orbits import GroupName
from softmaxcode.search.large.search import is_large, many_random_rows, relaxation_memory, search_many
from softmaxcode.search.large.tensors import TensorKernels
from softmaxcode.sphere import gram, random_rows

SEARCH = {"catalog": False, "exact": False}


def found(K: int, d: int, *, deadline: Deadline | None = None, **options):
    given = {"seed": 0, "n_jobs": 1, "limited": deadline is not None, "progress": Progress("", 1, False), **options}
    return search_many(K, d, deadline=deadline or Deadline(None), **given)


@pytest.fixture
def quick(monkeypatch):
    """Little work without a deadline, and no polishing."""
    monkeypatch.setattr(large, "can_polish", lambda K, d: False)
    monkeypatch.setattr(large, "UNLIMITED", 0.4)


@pytest.mark.parametrize(("K", "d", "least"), [(510, 16, 0.55), (1600, 4, 0.025), (520, 47, 0.80)])
def test_the_value_is_that_of_the_rows(quick, K, d, least):
    result = found(K, d)
    assert result.W.shape == (K, d) and result.W.dtype == np.float64
    np.testing.assert_allclose(np.linalg.norm(result.W, axis=1), 1, atol=1e-15)
    assert result.value == pytest.approx(1 - gram(result.W).max(), abs=1e-6)
    assert result.value > least
    assert result.memory > 16 * K * d


def test_the_result_depends_on_the_seed_and_not_on_the_threads(quick):
    codes = [found(520, 12, seed=3, n_jobs=n).W.tobytes() for n in (1, 2)]
    assert codes[0] == codes[1] != found(520, 12, seed=4).W.tobytes()


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_a_search_on_a_device(quick, device):
    result = found(600, 8, device=device)
    assert result.device == device
    assert result.value == pytest.approx(1 - gram(result.W).max(), abs=1e-6)
    assert result.value > 0.31  # the CPU's relaxation of random points reaches 0.322
    init = result.W + 0.01 * random_rows(600, 8, np.random.default_rng(0))
    again = found(600, 8, device=device, inits=[init / np.linalg.norm(init, axis=1, keepdims=True)])
    assert again.value >= result.value - 1e-6
    none = found(600, 8, device=device, deadline=Deadline(0.0))
    assert none.W.shape == (600, 8) and none.value == -math.inf


def test_a_device_without_room_leaves_the_search_to_the_cpu(quick, monkeypatch):
    monkeypatch.setattr(TensorKernels, "has_room", lambda self, K, d: False)
    assert found(520, 12, device="cpu").device == "numba"


@pytest.mark.parametrize("readings", [0, 20, 300])
@pytest.mark.parametrize(("K", "d"), [(700, 3), (700, 12), (501, 101)])
def test_every_loop_can_be_left(quick, K, d, readings):
    """The clock of the deadline advances at every reading; soon after its end the search returns valid rows."""
    ticks = itertools.count()
    deadline = Deadline(float(readings), lambda: float(next(ticks)))
    result = found(K, d, deadline=deadline)
    assert next(ticks) < readings + 100
    assert result.W.shape == (K, d)
    np.testing.assert_allclose(np.linalg.norm(result.W, axis=1), 1, atol=1e-6)
    if math.isfinite(result.value):
        assert 1 - gram(result.W).max() > result.value - 1e-6


def test_an_init_is_never_made_worse(quick):
    W = found(600, 8).W
    value = 1 - gram(W).max()
    result = found(600, 8, inits=[W], seed=1)
    assert 1 - gram(result.W).max() > value - 1e-7
    left = found(600, 8, inits=[W], seed=1, deadline=Deadline(1e-9))
    np.testing.assert_allclose(left.W, W, atol=1e-7)  # no time to compute its value: the init itself


def test_a_search_that_stays_below_a_stored_code_ends_early(monkeypatch, quick):
    monkeypatch.setattr(large, "UNLIMITED", 2.0)  # enough for the trials
    few = found(1000, 16, known=0.9)
    assert few.W.shape == (0, 16) and few.value < 0.9
    assert found(1000, 16, known=0.1).W.shape == (1000, 16)


def test_solve_takes_the_stored_code_or_the_search(quick):
    assert "kerdock(64)" in sc.solve(1000, 64).provenance.method
    code = sc.solve(1000, 64, **SEARCH)
    assert "orbits of a group" in code.provenance.method and code.provenance.method.endswith("GB")
    assert code.max_cosine == gram(code.W).max() and not code.W.flags.writeable
    # above a family's size the search wins
    assert sc.solve(600, 40, catalog=False).max_cosine < exact.best(600, 40).max_cosine


def test_which_pairs_have_many_points():
    assert is_large(501, 3, 1e9, 1) and not is_large(500, 3, 1e9, 1)
    assert is_large(400, 100, 1.0, 1) and not is_large(12, 3, 1.0, 1)


def test_a_budget_below_the_time_to_write_the_code_is_refused():
    with pytest.raises(ValueError, match=r"^solve\(1000000, 300\) takes some 4 s to write .* at least 9 s$"):
        sc.solve(10**6, 300, budget=2.0)


def test_threads_are_limited_by_memory(monkeypatch, quick):
    taken = []
    monkeypatch.setattr(large, "ThreadPool", lambda n: taken.append(n) or ThreadPool(1))
    for jobs, room in ((8, 3), (2, 5), (4, -1)):
        memory = large.search_memory(520, 12) + room * large.BLOCKS_MEMORY
        monkeypatch.setattr(large, "machine_memory", lambda memory=memory: memory)
        found(520, 12, n_jobs=jobs)
    assert taken == [3, 2, 1]


# --- memory ---------------------------------------------------------------------------------------------------


def peak_of(call) -> int:
    call()  # compiled kernels are loaded
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_the_memory_of_a_relaxation_is_bounded_by_its_estimate():
    """tracemalloc counts NumPy's arrays, not those inside compiled kernels, which have one row at most."""
    K, d = 3000, 12
    X = random_rows(K, d, np.random.default_rng(0)).astype(np.float32)
    schedule = Schedule(first=8.0, factor=10.0, steps=12)

    kernels = CompiledKernels(ThreadPool(1))

    def relax() -> None:
        NearPairSearch(X.copy(), 0.5, schedule, kernels, Deadline(None), np.random.default_rng(0)).run()

    peak = peak_of(relax)
    fixed = 40 * 10**6  # one tile of cosines and the sample of a threshold
    assert peak < relaxation_memory(K, d) + fixed
    assert peak > relaxation_memory(K, d) / 4


def test_orbits_need_their_blocks_and_the_result(quick):
    K, d = 4000, 16
    peak = peak_of(lambda: large.orbit_search(
        GroupName(2, 2).build(d), random_rows(125, d, np.random.default_rng(0)).astype(np.float32), 0.6, ThreadPool(1),
        Deadline(None), steps=3, factor=5.0,
    ))  # fmt: skip
    assert peak < large.BLOCKS_MEMORY
    assert peak_of(lambda: many_random_rows(K, d, np.random.default_rng(0))) < 8 * K * d + 20 * 10**6
