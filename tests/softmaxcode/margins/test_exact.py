"""Exact one-vs-rest distances against other solvers, on random, degenerate and nearly degenerate classifiers."""

from __future__ import annotations

import math
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, sparse, stats

import softmaxcode as sc
from softmaxcode.margins import exact as module
from softmaxcode.margins.exact import margin, margins, smallest_margin
from softmaxcode.sphere import random_rows, unit_rows
from tests.processes import HANG

GAP = 1e-12
SEEDS = st.integers(0, 2**32 - 1)


def dual_values(W: np.ndarray, H: np.ndarray) -> np.ndarray:
    """min_{j != k} <h_k, w_k - w_j> / |h_k| in extended precision."""
    W, H = W.astype(np.longdouble), H.astype(np.longdouble)
    H = H / np.sqrt((H * H).sum(axis=1))[:, None]
    values = np.array([((W[k] - W) * H[k]).sum(axis=1) for k in range(len(W))])
    np.fill_diagonal(values, np.inf)
    return values.min(axis=1)


def slsqp(W: np.ndarray, k: int) -> float:
    """The distance of row k from the rest by SLSQP on the dual: maximise t with <h, w_k - w_j> >= t, |h| <= 1."""
    V = np.delete(W[k] - W, k, axis=0)
    start = V[np.argmin(np.linalg.norm(V, axis=1))]
    if not start.any():  # a duplicate
        return 0.0
    start = start / np.linalg.norm(start)
    found = optimize.minimize(
        lambda x: -x[-1],
        np.append(start, (V @ start).min()),
        jac=lambda x: np.append(np.zeros(len(x) - 1), -1.0),
        constraints=[
            {
                "type": "ineq",
                "fun": lambda x: V @ x[:-1] - x[-1],
                "jac": lambda x: np.column_stack([V, -np.ones(len(V))]),
            },
            {"type": "ineq", "fun": lambda x: 1 - x[:-1] @ x[:-1], "jac": lambda x: np.append(-2 * x[:-1], 0.0)},
        ],
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 300},
    )
    h = found.x[:-1] / np.linalg.norm(found.x[:-1])
    return max(0.0, float((V @ h).min()))


def assert_exact(W: np.ndarray) -> module.Margins:
    """Primal and dual meet, by a dual value computed here; the directions are unit vectors."""
    result = margins(W, n_jobs=1)
    assert result.margins.shape == result.gaps.shape == (len(W),) and result.H.shape == W.shape
    np.testing.assert_allclose(np.linalg.norm(result.H, axis=1), 1, atol=1e-14)
    dual = np.maximum(dual_values(W, result.H), 0).astype(float)
    assert (result.gaps >= 0).all()
    assert result.gap <= GAP
    # the reported gap is the true gap
    np.testing.assert_allclose(result.margins - result.gaps, dual, atol=4e-15)
    assert result.margin == result.margins.min()
    return result


def half_space(K: int, d: int, seed: int) -> np.ndarray:
    W = random_rows(K, d, np.random.default_rng(seed))
    W[:, 0] = np.abs(W[:, 0])
    return W


def flat(K: int, span: int, d: int, seed: int) -> np.ndarray:
    """K points of a subspace of dimension ``span``."""
    rng = np.random.default_rng(seed)
    frame = np.linalg.qr(rng.standard_normal((d, span)))[0]
    return unit_rows(rng.standard_normal((K, span)) @ frame.T)


def with_twins(K: int, d: int, twins: int, eps: float, seed: int) -> np.ndarray:
    """Random rows, ``twins`` of them replaced by other rows moved by ``eps``."""
    rng = np.random.default_rng(seed)
    W = random_rows(K, d, rng)
    for i in range(1, 1 + min(twins, K - 1)):
        W[i] = W[rng.integers(i)] + eps * random_rows(1, d, rng)[0]
    return unit_rows(W)


def degenerate() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    t = 2 * np.pi * np.arange(9) / 9
    antipodal = random_rows(12, 4, rng)
    tight = unit_rows(np.array([1.0, 0, 0, 0]) + 1e-6 * rng.standard_normal((25, 4)))
    cube = np.array(np.meshgrid(*[[-1.0, 1.0]] * 5)).reshape(5, -1).T
    return {
        "random": random_rows(40, 6, rng),
        "many random": random_rows(120, 3, rng),
        "high dimension": random_rows(30, 40, rng),
        "two": random_rows(2, 5, rng),
        "line": np.array([[1.0], [-1.0]]),
        "line with duplicates": np.array([[1.0], [-1.0], [1.0]]),
        "circle": np.column_stack([np.cos(t), np.sin(t)]),
        "duplicates": np.vstack([antipodal[:7], antipodal[:3]]),
        "all equal": np.tile(antipodal[0], (6, 1)),
        "antipodal": np.vstack([antipodal, -antipodal]),
        "half-space": half_space(30, 5, 1),
        "plane in R^6": flat(20, 2, 6, 2),
        "line in R^6": flat(5, 1, 6, 3),
        "within 1e-6": tight,
        "cube": unit_rows(cube),
        **{f"twins at 1e-{e}": with_twins(25, 5, 8, 10.0**-e, e) for e in range(4, 13)},
    }


DEGENERATE = degenerate()


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_classifiers_against_slsqp(name):
    W = DEGENERATE[name]
    result = assert_exact(W)
    for k in range(0, len(W), max(1, len(W) // 12)):
        value = slsqp(W, k)
        # SLSQP gives a lower bound; where points nearly coincide it stops early
        assert value <= result.margins[k] + 1e-14
        assert value == pytest.approx(result.margins[k], abs=1e-6)


@pytest.mark.parametrize(
    ("name", "value"), [("icosahedron", 1 - 1 / math.sqrt(5)), ("cross-polytope", 1.0), ("24-cell", 0.5), ("E8", 0.5)]
)
def test_known_codes_against_their_value_and_slsqp(known, name, value):
    W = known[name]
    result = assert_exact(W)
    np.testing.assert_allclose(result.margins, value, atol=2e-15)
    assert slsqp(W, 1) == pytest.approx(value, abs=1e-7)


def test_a_cap_above_the_rest():
    """One point over a regular polygon at cosine c: distance 1 - c from the polygon, whatever the duplicates."""
    t = 2 * np.pi * np.arange(7) / 7
    for c in (0.9, 0.3, 0.0, -0.4):
        ring = np.column_stack([np.full(7, c), math.sqrt(1 - c * c) * np.cos(t), math.sqrt(1 - c * c) * np.sin(t)])
        W = np.vstack([[1.0, 0, 0], ring, ring[:2]])
        result = assert_exact(W)
        assert result.margins[0] == pytest.approx(1 - c, abs=1e-15)
        np.testing.assert_allclose(result.H[0], [1, 0, 0], atol=1e-14)
        assert (result.margins[[1, 2, 8, 9]] == 0).all()
        assert (result.margins[3:8] > 0.01).all()


def test_no_class_of_many_cross_polytopes_is_wrong():
    """`scipy.optimize.nnls` was wrong on about one class in a hundred of these."""
    for d in (5, 17, 40, 64):
        for seed in range(3):
            W = np.vstack([np.eye(d), -np.eye(d)]) @ stats.ortho_group.rvs(d, random_state=seed)
            np.testing.assert_allclose(assert_exact(unit_rows(W)).margins, 1, atol=1e-14)


@settings(max_examples=40)
@given(K=st.integers(2, 8), d=st.integers(1, 4), twins=st.integers(0, 3), e=st.floats(-12, -1), seed=SEEDS)
def test_against_exact_rational_arithmetic(nearest, K, d, twins, e, seed):
    W = with_twins(K, d, twins, 10.0**e, seed)
    result = assert_exact(W)
    for k in range(K):
        square, _ = nearest(W, k)
        exact = math.sqrt(int(square.p) / int(square.q))
        # an upper value, by more than rounding never below, and above by the gap at most
        assert result.margins[k] == pytest.approx(exact, abs=result.gaps[k] + 2e-15)


@settings(max_examples=150)
@given(
    K=st.integers(2, 60),
    d=st.integers(1, 12),
    twins=st.integers(0, 20),
    e=st.floats(-12, -4) | st.just(-np.inf),
    seed=SEEDS,
)
def test_gap_with_nearly_duplicate_rows(K, d, twins, e, seed):
    W = with_twins(K, d, twins, 10.0**e, seed)
    result = assert_exact(W)
    if twins and d > 1:
        assert result.margin <= 1.01 * 10.0**e + 1e-15


@settings(max_examples=40)
@given(K=st.integers(3, 40), span=st.integers(1, 6), more=st.integers(0, 6), seed=SEEDS)
def test_gap_in_subspaces_and_half_spaces(K, span, more, seed):
    low = flat(K, span, span, seed)
    rng = np.random.default_rng(seed)
    frame = np.linalg.qr(rng.standard_normal((span + more, span)))[0]
    high = unit_rows(low @ frame.T)
    # a subspace changes nothing
    np.testing.assert_allclose(assert_exact(high).margins, assert_exact(low).margins, atol=1e-13)
    assert_exact(half_space(K, span + more, seed))


@settings(max_examples=60)
@given(K=st.integers(2, 50), d=st.integers(2, 10), twins=st.integers(0, 5), e=st.floats(-12, -4), seed=SEEDS)
def test_rotation_and_relabelling(K, d, twins, e, seed):
    W = with_twins(K, d, twins, 10.0**e, seed)
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.standard_normal((d, d)))[0]
    order = rng.permutation(K)
    here = margins(W, n_jobs=1)
    np.testing.assert_allclose(margins(unit_rows(W @ turn), n_jobs=1).margins, here.margins, atol=1e-13)
    np.testing.assert_allclose(margins(W[order], n_jobs=1).margins, here.margins[order], atol=1e-13)


@settings(max_examples=60)
@given(K=st.integers(2, 80), d=st.integers(1, 10), twins=st.integers(0, 5), e=st.floats(-12, -1), seed=SEEDS)
def test_smallest_margin_is_the_smallest_of_all(K, d, twins, e, seed):
    W = with_twins(K, d, twins, 10.0**e, seed)
    every = margins(W, n_jobs=1)
    one = smallest_margin(W, n_jobs=1)
    assert one.margin == pytest.approx(every.margin, abs=1e-13)
    assert every.margins[one.attained_by] == pytest.approx(every.margin, abs=1e-13)
    assert 0 <= one.gap <= GAP and 0 <= one.solved <= K


def test_smallest_margin_solves_few_classes(known):
    one = smallest_margin(known["E8"])
    assert one.margin == pytest.approx(0.5, abs=1e-15) and one.solved <= 8
    # one close pair among many points: two classes decide
    W = random_rows(500, 12, np.random.default_rng(0))
    W[7] = unit_rows(W[6:7] + 1e-3 * W[8:9])[0]
    one = smallest_margin(W)
    assert one.solved < 100 and one.attained_by in (6, 7)
    assert one.margin == pytest.approx(margins(W).margin, abs=1e-14)


def test_tiles_and_threads_change_nothing(monkeypatch):
    W = random_rows(2 * module.TILE + 90, 6, np.random.default_rng(3))
    W[-1] = W[0]
    here = assert_exact(W)
    assert here.margins[0] == here.margins[-1] == 0 and np.count_nonzero(here.margins) == len(W) - 2
    spread = margins(W, n_jobs=2)
    np.testing.assert_array_equal(spread.margins, here.margins)
    np.testing.assert_array_equal(spread.H, here.H)
    monkeypatch.setattr(module, "TILE", 37)
    np.testing.assert_allclose(margins(W).margins, here.margins, atol=1e-14)


def test_memory_is_far_below_all_differences():
    K, d = 1500, 24
    W = random_rows(K, d, np.random.default_rng(4))
    tracemalloc.start()
    margins(W, n_jobs=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < K * K * d * 8 / 10


def test_pools_grow_until_the_gap_closes():
    """The classes that matter are not the nearest ones: many copies of a cluster hide the far side of the hull."""
    rng = np.random.default_rng(8)
    d = 6
    cluster = unit_rows(np.eye(d)[0] + 0.02 * rng.standard_normal((400, d)))
    W = np.vstack([np.eye(d)[:1], cluster, random_rows(60, d, rng)])
    result = assert_exact(W)
    for k in (0, 5, 410):
        assert slsqp(W, k) == pytest.approx(result.margins[k], abs=1e-6)


def test_results_are_read_only_and_bare_lists_are_taken():
    result = sc.margin([[1, 0], [0, 1], [-1, 0], [0, -1]])
    assert result.margins.tolist() == [1, 1, 1, 1]
    for array in (result.margins, result.gaps, result.H):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    far = margin([[3.0, 0], [0, 0.5], [-2, 0]], normalize=True)
    np.testing.assert_allclose(far.margins, [math.sqrt(2), 1, math.sqrt(2)], atol=1e-15)


def test_input_is_not_changed():
    W = random_rows(20, 4, np.random.default_rng(0))
    before = W.copy()
    margin(W)
    margin(W, normalize=True)
    np.testing.assert_array_equal(W, before)
    assert W.flags.writeable


@pytest.mark.parametrize(
    ("W", "message"),
    [
        (np.ones((3, 3)), "row 0 has norm 1.7"),
        (np.eye(3) * (1 + 2e-6), "unit norm within 1e-06"),
        (np.diag([1, 1, 0]), "row 2 is zero"),
        (np.diag([1, np.nan, 1]), "row 1 has a NaN"),
        (np.diag([1, 1, np.inf]), "row 2 has a NaN or an infinite"),
        (np.eye(3)[0], r"shape \(K, d\).*\(3,\)"),
        (np.eye(3)[:1], r"shape \(1, 3\)"),
        (np.ones((4, 0)), r"shape \(4, 0\)"),
        (np.eye(2) * 1j, "real numbers.*complex"),
        ([["a", "b"], ["c", "d"]], "real numbers"),
        ([[1.0], [1.0, 2.0]], "real numbers"),
        (None, "real numbers.*NoneType"),
    ],
)
def test_bad_classifiers_are_refused(W, message):
    with pytest.raises(ValueError, match=message):
        margin(W)


def test_norms_off_by_less_than_a_millionth_are_mended():
    W = np.eye(3) * (1 + 5e-7)
    np.testing.assert_allclose(margin(W).margins, math.sqrt(1.5), atol=1e-15)
    with pytest.raises(ValueError, match="zero norm"):
        margin(np.diag([1.0, 0, 2]), normalize=True)


def test_the_margin_of_nearly_equal_rows_is_the_smallest_of_all_distances():
    """Of margin 1.08887e-15 in rational arithmetic: a slack of 2e-14 would show in every digit."""
    W = [
        [0.4332327852133596, -0.9012820611863276],
        [0.03605229114350059, -0.9993499048397934],
        [0.4332327852133735, -0.9012820611863208],
        [0.03605229114351798, -0.9993499048397927],
        [0.31341074043130634, -0.9496176640007812],
    ]
    code = sc.SoftmaxCode.from_rows(W)
    assert code.margin == code.margins.min() == sc.margin(W).margin == pytest.approx(1.08887e-15, rel=1e-4)


@pytest.mark.processes
@pytest.mark.skipif(sys.platform != "linux", reason="a limit on the memory of a process")
def test_few_rows_of_many_dimensions_take_no_square_of_them():
    """The active set is no larger than the number of rows: a square of 10^6 dimensions would be 8 TB."""
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (6 * 10**9,) * 2)\n"
        "import softmaxcode as sc; print(sc.margin(sc.best_known(3, 10**6).W).margin)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=HANG, check=True)
    assert float(ran.stdout) == pytest.approx(1.5, abs=1e-14)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (np.ma.array(np.eye(3), mask=np.eye(3) == 0), "W must have no masked entries; got 6 of them"),
        (sparse.csr_array(np.eye(3)), "one vector per row; got csr_array"),
        ([[1, 0], [0, 1, 0]], "one vector per row; got rows that differ in length"),
        (np.array([["1", "0"], ["0", "1"]]), "one vector per row; got str"),
    ],
)
def test_what_is_no_array_of_numbers_is_named(given, said):
    for use in (sc.margin, sc.SoftmaxCode.from_rows):
        with pytest.raises(ValueError, match=said):
            use(given)


def test_a_masked_array_without_a_masked_entry_is_an_array():
    assert sc.margin(np.ma.array(np.eye(3))).margin == sc.margin(np.eye(3)).margin
