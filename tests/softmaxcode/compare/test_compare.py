"""Classifiers against codes: planted relabellings and rotations, all permutations of few classes, and the nulls."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import softmaxcode as sc
from softmaxcode.compare import Alignment, align, alignment, compare, comparison, other_optima
from softmaxcode.search.energy import HARDMAX
from softmaxcode.search.multistart import optimise, random_start
from softmaxcode.sphere import random_rows, unit_rows

SEEDS = st.integers(0, 2**32 - 1)
#: Degrees; far below any code's separation, far above rounding.
EXACT = 1e-6

CODES = {
    "simplex": lambda known: sc.best_known(8, 7).W,
    "simplex in more dimensions": lambda known: sc.best_known(8, 20).W,
    "polygon": lambda known: sc.best_known(9, 2).W,
    "icosahedron": lambda known: known["icosahedron"],
    "cross-polytope": lambda known: known["cross-polytope"],
    "24-cell": lambda known: known["24-cell"],
    "56": lambda known: known["56"],
    "E8": lambda known: known["E8"],
    "(30, 4)": lambda known: sc.best_known(30, 4).W,
    "(100, 10)": lambda known: sc.best_known(100, 10).W,
    "(100, 20), most of a symmetric code": lambda known: sc.best_known(100, 20).W,
    "(275, 22), two distances": lambda known: sc.best_known(275, 22).W,
    "random": lambda known: random_rows(40, 5, np.random.default_rng(9)),
    "d = 1": lambda known: np.array([[1.0], [1.0], [-1.0]]),
    "two classes": lambda known: np.eye(2),
    "a duplicated row": lambda known: np.eye(3)[[0, 0, 1, 2]],
}


def planted(V: np.ndarray, seed: int, noise: float = 0.0) -> np.ndarray:
    """V rotated (or reflected) and relabelled, with Gaussian noise of that many degrees (root mean square) per row."""
    rng = np.random.default_rng(seed)
    K, d = V.shape
    Q = np.linalg.qr(rng.standard_normal((d, d)))[0]
    W = (V @ Q)[rng.permutation(K)]
    return unit_rows(W + math.radians(noise) / math.sqrt(d) * rng.standard_normal((K, d)))


def angles(W: np.ndarray, X: np.ndarray) -> np.ndarray:
    """Degrees between unit rows."""
    return np.degrees(2 * np.arctan2(np.linalg.norm(W - X, axis=1), np.linalg.norm(W + X, axis=1)))


def assert_alignment(found: Alignment, W: np.ndarray, V: np.ndarray) -> None:
    d = W.shape[1]
    assert sorted(found.permutation) == list(range(len(W)))
    np.testing.assert_allclose(found.rotation @ found.rotation.T, np.eye(d), atol=1e-12)
    np.testing.assert_allclose(found.residual_angles, angles(W, (V @ found.rotation.T)[found.permutation]), atol=1e-9)
    assert found.mean_angle <= found.rms_angle + 1e-12 <= found.max_angle + 2e-12


@pytest.mark.parametrize("name", CODES)
def test_a_planted_relabelling_and_rotation_is_recovered(name: str, known: dict[str, np.ndarray]) -> None:
    V = CODES[name](known)
    for seed in (0, 1):
        W = planted(V, seed)
        found = align(W, V)
        assert_alignment(found, W, V)
        assert found.max_angle < EXACT


@pytest.mark.parametrize(
    "name", ["simplex", "polygon", "icosahedron", "cross-polytope", "24-cell", "56", "E8", "(30, 4)", "(100, 10)"]
)
def test_under_noise_the_residual_is_the_noise_at_most(name: str, known: dict[str, np.ndarray]) -> None:
    V = CODES[name](known)
    separation = sc.SoftmaxCode.from_rows(V).min_angle
    W = planted(V, 3, noise=separation / 20)
    found = align(W, V)
    assert_alignment(found, W, V)
    # the planted answer is one candidate, and the best rotation for it is better still
    assert np.sum(1 - np.cos(np.radians(found.residual_angles))) <= np.sum(1 - np.sum(W * planted(V, 3), axis=1))


@given(st.integers(2, 5), st.integers(1, 4), SEEDS)
def test_against_all_permutations(K: int, d: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    W, V = random_rows(K, d, rng), random_rows(K, d, rng)
    found = align(W, V)
    assert_alignment(found, W, V)
    fits = [np.linalg.svd(W.T @ V[list(p)], compute_uv=False).sum() for p in itertools.permutations(range(K))]
    reached = np.cos(np.radians(found.residual_angles)).sum()
    assert reached <= max(fits) + 1e-9
    np.testing.assert_allclose(reached, max(fits), atol=1e-9)  # met in every draw


@given(st.integers(2, 12), st.integers(1, 6), SEEDS)
def test_planted_random_rows_are_recovered(K: int, d: int, seed: int) -> None:
    V = random_rows(K, d, np.random.default_rng(seed))
    W = planted(V, seed)
    assert align(W, V, starts=4).max_angle < EXACT


def test_different_random_rows_do_not_align() -> None:
    rng = np.random.default_rng(4)
    draws = [random_rows(40, 6, rng) for _ in range(4)]
    residuals = [align(one, other).rms_angle for one, other in itertools.combinations(draws, 2)]
    assert min(residuals) > 25
    assert max(residuals) - min(residuals) < 10


def test_norms_do_not_count_and_the_seed_decides() -> None:
    rng = np.random.default_rng(5)
    W, V = random_rows(20, 4, rng), random_rows(20, 4, rng)
    scaled = W * rng.uniform(0.1, 10, (20, 1))
    one, other = align(W, V, seed=2), align(scaled, 3 * V, seed=2)
    np.testing.assert_array_equal(one.permutation, other.permutation)
    np.testing.assert_allclose(one.residual_angles, other.residual_angles, atol=1e-9)


def test_without_time_the_first_start_alone_is_tried_and_that_is_said() -> None:
    rng = np.random.default_rng(12)
    W, code = random_rows(60, 4, rng), sc.best_known(60, 4)
    short, long = align(W, code, seconds=0), align(W, code)
    assert (short.complete, long.complete) == (False, True)
    np.testing.assert_array_equal(np.sort(short.permutation), np.arange(60))
    assert short.rms_angle > long.rms_angle
    assert align(planted(code.W, 12), code, seconds=0).complete  # the first start is exact
    found = compare(W, code, seconds=0)
    assert not any(one.alignment.complete for one in found.measurements.values())
    assert "alignments stopped after 0 s each, before every start was tried" in found.note
    assert "stopped" not in compare(W, code, seconds=0, align=False).note
    with pytest.raises(ValueError, match="seconds must be"):
        align(W, code, seconds=-1)


def test_a_code_compared_with_itself() -> None:
    code = sc.best_known(24, 4)
    found = compare(planted(code.W, 6), code)
    assert found.margin_ratio == pytest.approx(1, abs=1e-12)
    assert found.spectrum_distance == pytest.approx(0, abs=1e-12)
    assert found.alignment.max_angle < EXACT
    assert found.learned.max_cosine == pytest.approx(code.max_cosine, abs=1e-12)
    assert found.reference == "code" and not found.note


def test_figures_by_definition() -> None:
    rng = np.random.default_rng(7)
    W, code = 2 * rng.standard_normal((9, 4)), random_rows(9, 4, rng)
    found = compare(W, code)
    X = W / np.linalg.norm(W, axis=1)[:, None]
    pairs = list(itertools.combinations(range(9), 2))
    spectrum, reference = (np.array(sorted(Y[i] @ Y[j] for i, j in pairs)) for Y in (X, code))
    np.testing.assert_allclose(found.learned.spectrum, spectrum, atol=1e-14)
    assert found.spectrum_distance == pytest.approx(math.sqrt(np.mean((spectrum - reference) ** 2)), abs=1e-14)
    assert found.learned.max_cosine == pytest.approx(spectrum[-1], abs=1e-14)
    assert found.margin == pytest.approx(sc.margin(X).margin, abs=1e-13)
    assert found.reference_margin == pytest.approx(sc.margin(code).margin, abs=1e-13)
    assert found.margin_ratio == pytest.approx(found.margin / found.reference_margin)
    assert found.learned.gap <= 1e-12


def test_alignment_is_that_of_align_and_the_nulls_do_not_depend_on_the_classifier() -> None:
    rng = np.random.default_rng(11)
    V = sc.best_known(20, 4).W
    one, other = (compare(W, V, seed=5) for W in (random_rows(20, 4, rng), planted(V, 0)))
    for found in (one, other):
        assert found.random.alignment.rms_angle == one.random.alignment.rms_angle
        assert found.local_optimum.alignment.rms_angle == one.local_optimum.alignment.rms_angle
    np.testing.assert_array_equal(other.alignment.permutation, align(planted(V, 0), V, seed=5).permutation)


def test_nulls_are_worse_than_a_planted_code() -> None:
    code = sc.best_known(100, 10)
    found = compare(planted(code.W, 8, noise=3), code, seconds=1e6)
    assert found.alignment.rms_angle < 4
    assert found.alignment.rms_angle < found.local_optimum.alignment.rms_angle < found.random.alignment.rms_angle
    assert found.spectrum_distance < found.random.spectrum_distance
    # the search's local optimum is a code too: a margin near the best, and far from random points'
    assert found.random.margin < 0.5 * found.reference_margin
    assert 0.9 * found.reference_margin < found.local_optimum.margin <= found.reference_margin + 1e-9


def test_the_local_optimum_is_the_code_where_there_is_one_only() -> None:
    found = compare(random_rows(6, 5, np.random.default_rng(0)))
    assert found.local_optimum.alignment.max_angle < 0.1
    assert found.alignment.max_angle > 1


def test_other_optima_are_none_of_the_code_and_near_a_classifier_that_is_one_of_them() -> None:
    K, d = 20, 8
    code = sc.best_known(K, d)
    # as many children of the seed as `compare` and three starts use; the second start
    search = np.random.SeedSequence(0).spawn(5)[3]
    optimum = optimise(HARDMAX, *random_start(HARDMAX, K, d, search)).X[:K]
    angles = other_optima(planted(optimum, 4), code, count=3)
    assert angles[0] < 1e-3 and (np.diff(angles) >= 0).all()
    assert angles[0] < align(optimum, code).rms_angle
    angles = other_optima(planted(code.W, 4), code, count=3)
    assert len(angles) <= 3 and angles.min() > 1
    # six points in five dimensions have only one local optimum, the simplex
    assert not len(other_optima(random_rows(6, 5, np.random.default_rng(0)), sc.best_known(6, 5), count=2))


def test_without_alignment() -> None:
    W = random_rows(12, 3, np.random.default_rng(1))
    found = compare(W, align=False)
    assert found.alignment is None and found.random is None and found.local_optimum is None
    assert found.spectrum_distance > 0 and found.code.max_cosine == pytest.approx(1 / math.sqrt(5))
    assert list(found.measurements) == ["learned"] and not found.note


def test_where_no_code_is_held() -> None:
    K, d = 1203, 3  # a pair the catalogue has no reason to hold
    W = random_rows(K, d, np.random.default_rng(2))
    with pytest.raises(sc.UnknownCodeError) as caught:
        sc.best_known(K, d)
    found = compare(W)
    assert found.code is None and found.alignment is None and found.spectrum_distance is None
    assert found.reference_margin == caught.value.bounds.upper
    assert found.reference.startswith("upper bound (")
    assert found.note == "spectrum distance and alignment not computed: no code of (K, d) = (1203, 3) is stored"
    assert found.note in str(found)


def test_limits_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (alignment, comparison):
        monkeypatch.setattr(module, "MAX_ALIGN_CLASSES", 10)
    monkeypatch.setattr(comparison, "MAX_SPECTRUM_CLASSES", 11)
    W = random_rows(12, 3, np.random.default_rng(3))
    with pytest.raises(sc.NotComputed, match=r"not computed: the alignment of 12 classes \(the limit is 10\)"):
        align(W, W)
    found = compare(W)
    assert found.note == "alignment not computed: 12 classes (the limit is 10)"
    assert found.alignment is None and found.learned.spectrum is None and found.margin > 0


def test_table_and_scalars() -> None:
    code = sc.best_known(12, 3)
    found = compare(planted(code.W, 9, noise=2), code)
    row = found.to_dict()
    frame = pd.DataFrame([row, compare(code.W, code, align=False).to_dict()])
    assert list(frame.columns) == list(row)
    assert row["rms_angle"] == found.alignment.rms_angle
    assert row["random_rms_angle"] == found.random.alignment.rms_angle
    assert row["local_optimum_margin"] == found.local_optimum.margin
    assert row["reference_max_cosine"] == code.max_cosine
    assert np.isnan(frame["rms_angle"][1]) and np.isnan(frame["random_margin"][1])
    lines = str(found).splitlines()
    assert lines[0].startswith("K = 12, d = 3, margin ratio 0.9")
    assert [line.split()[0] for line in lines[2:]] == ["learned", "random", "local_optimum", "code"]
    assert float(lines[2].split()[5]) == pytest.approx(found.alignment.rms_angle, rel=1e-5)


def test_a_reference_margin_of_zero_gives_no_ratio() -> None:
    found = compare([[1.0], [1.0], [-1.0]], [[1.0], [-1.0], [-1.0]])
    assert math.isnan(found.margin_ratio)
    assert found.alignment.max_angle == 0


def test_messages() -> None:
    W = random_rows(6, 3, np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"W and V must have one shape \(K, d\); got \(6, 3\) and \(6, 2\)"):
        align(W, W[:, :2])
    with pytest.raises(ValueError, match=r"W and code must have one shape \(K, d\); got \(6, 3\) and \(5, 3\)"):
        compare(W, W[:5])
    with pytest.raises(ValueError, match="V must have no row of zero norm; row 2 is zero"):
        align(W, W * (np.arange(6) != 2)[:, None])
    with pytest.raises(ValueError, match="W must be finite; row 0"):
        compare(np.full((3, 2), np.nan))
    with pytest.raises(ValueError, match="code must be finite; row 0"):
        compare(W, np.full((6, 3), np.nan))
    with pytest.raises(ValueError, match="starts must be an integer of at least 1; got 0"):
        align(W, W, starts=0)
    with pytest.raises(ValueError, match="seed must be an integer of at least 0; got -1"):
        compare(W, W, seed=-1)
