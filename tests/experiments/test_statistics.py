"""Intervals, paired differences and slopes, against SciPy's tests, linear algebra and simulated coverage."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from experiments.statistics import Interval, mean_interval, non_inferior, paired_difference, slope

SEEDS = range(5)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.99])
def test_mean_interval_is_that_of_the_t_test(seed: int, confidence: float) -> None:
    x = np.random.default_rng(seed).normal(3, 2, size=2 + 3 * seed)
    found, expected = mean_interval(x, confidence), stats.ttest_1samp(x, 0).confidence_interval(confidence)
    assert found.mean == pytest.approx(x.mean(), rel=1e-12)
    assert (found.lower, found.upper) == pytest.approx(tuple(expected), rel=1e-10)
    assert found.n == len(x)


def test_mean_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    inside = sum(one.lower < 7 < one.upper for one in (mean_interval(rng.normal(7, 3, 4), 0.9) for _ in range(2000)))
    assert abs(inside / 2000 - 0.9) < 4 * math.sqrt(0.9 * 0.1 / 2000)


@pytest.mark.parametrize(
    ("values", "mean"), [([], math.nan), ([0.25], 0.25), ([0.25, math.nan], math.nan), ([1.0, math.inf], math.inf)]
)
def test_no_interval_without_two_finite_values(values: list[float], mean: float) -> None:
    found = mean_interval(values)
    assert found.mean == pytest.approx(mean, nan_ok=True)
    assert math.isnan(found.lower) and math.isnan(found.upper) and found.n == len(values)


def test_a_generator_and_a_mapping_view_are_values() -> None:
    assert mean_interval(x for x in (1.0, 2.0)) == mean_interval({"a": 1, "b": 2}.values()) == mean_interval([1, 2])


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        (Interval(0.53121, 0.52721, 0.53521, 5), "0.5312 ± 0.0040 (n = 5)"),
        (Interval(123.4, 83.4, 163.4, 3), "123 ± 40 (n = 3)"),
        (Interval(0.0003, 0.00021, 0.00039, 4), "0.000300 ± 0.000090 (n = 4)"),
        (Interval(0.5, 0.5, 0.5, 2), "0.5 ± 0 (n = 2)"),
        (Interval(0.6691295, 0.6691294, 0.6691296, 2), "0.6691 ± 0 (n = 2)"),
        (Interval(0.94, math.nan, math.nan, 1), "0.94 (n = 1)"),
        (Interval(math.nan, math.nan, math.nan, 0), "nan (n = 0)"),
    ],
)
def test_text_of_an_interval(interval: Interval, text: str) -> None:
    assert str(interval) == text


@pytest.mark.parametrize("seed", SEEDS)
def test_paired_difference_is_the_paired_t_test_over_common_keys(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = dict(enumerate(rng.normal(size=9))), dict(enumerate(rng.normal(size=9), start=3))
    common = sorted(a.keys() & b.keys())
    expected = stats.ttest_rel([a[k] for k in common], [b[k] for k in common]).confidence_interval(0.95)
    found = paired_difference(a, b)
    assert (found.lower, found.upper) == pytest.approx(tuple(expected), rel=1e-9)
    assert found.n == 6
    assert paired_difference(b, a).mean == pytest.approx(-found.mean)


def test_paired_difference_of_too_few_common_keys() -> None:
    assert paired_difference({0: 1.0}, {1: 2.0}).n == 0
    one = paired_difference({0: 1.0, 1: 5.0}, {1: 2.0})
    assert (one.mean, one.n) == (3.0, 1) and math.isnan(one.lower)


@pytest.mark.parametrize("seed", range(3))
def test_slope_is_the_regression_of_cell_means(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cell = rng.permutation(np.repeat(np.arange(6), [5, 3, 6, 2, 1, 4]))  # unbalanced
    x = cell + rng.normal(size=21)
    y = 0.7 * x + rng.normal(size=21)
    found = slope(x, y, [f"level {c}" for c in cell])
    means = [np.array([values[cell == c].mean() for c in range(6)]) for values in (x, y)]
    design = np.column_stack([np.ones(6), means[0]])
    (_, value), residual, *_ = np.linalg.lstsq(design, means[1])
    error = math.sqrt(residual[0] / 4 * np.linalg.inv(design.T @ design)[1, 1])
    half = stats.t.ppf(0.975, 4) * error
    assert (found.slope, found.lower, found.upper) == pytest.approx((value, value - half, value + half), rel=1e-9)
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(value) / error, 4), rel=1e-8)
    assert found.n == 6


def test_slope_intervals_cover_where_cells_have_effects_of_their_own() -> None:
    """Seeds are not replicates of a level: if levels have effects of their own, intervals have the stated coverage."""
    rng = np.random.default_rng(7)
    level, covered = np.repeat(np.arange(6), 20), 0
    for _ in range(1000):
        y = 2.0 * level + rng.normal(size=6)[level] + rng.normal(size=120)
        found = slope(level, y, level)
        covered += found.lower <= 2.0 <= found.upper
    # 0.95 within five standard errors of such a fraction
    assert abs(covered / 1000 - 0.95) < 5 * math.sqrt(0.95 * 0.05 / 1000)


def test_an_exact_line_has_an_exact_slope() -> None:
    found = slope([0, 1, 2, 0, 1], [1, 3, 5, 1, 3], [0, 1, 2, 0, 1])
    assert found.slope == pytest.approx(2) and found.half_width == pytest.approx(0, abs=1e-7)
    assert found.p_value < 1e-7


def test_a_level_line_has_a_slope_of_0_and_no_doubt() -> None:
    # means of threes are equal up to rounding
    found = slope(np.repeat([0, 1, 2], 3), [0.1, 0.2, 0.3, 0.3, 0.1, 0.2, 0.2, 0.3, 0.1], np.repeat([0, 1, 2], 3))
    assert (found.slope, found.lower, found.upper, found.n, found.p_value) == (0, 0, 0, 3, 1)
    assert str(found) == "0 ± 0 (n = 3, p = 1)"


@pytest.mark.parametrize(
    ("x", "y", "cell"),
    [
        ([], [], []),
        ([1, 2, 1, 2], [0, 1, 2, 3], [0, 0, 1, 1]),  # x varies within the cells alone
        ([0.1, 0.1, 0.1], [0, 1, 2], [0, 1, 2]),
        ([0, 1, math.nan], [0, 1, 2], [0, 1, 2]),
        ([0, 1, 2], [0, 1, math.nan], [0, 1, 2]),
        ([0, 1, 2], [0, 1, 2], [0, 0, 0]),
    ],
)
def test_no_slope_where_the_points_do_not_give_one(x: list[float], y: list[float], cell: list[int]) -> None:
    found = slope(x, y, cell)
    assert math.isnan(found.slope) and math.isnan(found.lower) and math.isnan(found.p_value)
    assert found.n == len(set(cell))
    assert str(found) == f"nan (n = {found.n})"


def test_no_interval_of_a_slope_without_a_degree_of_freedom() -> None:
    found = slope([0, 1, 0, 1], [0, 2, 5, 7], [0, 1, 0, 1])
    assert found.slope == pytest.approx(2) and math.isnan(found.lower) and math.isnan(found.p_value)


@pytest.mark.parametrize(
    ("lower", "upper", "expected"),
    [(-0.9, 3, True), (-5, -1.1, False), (-2, 0, None), (-1, 1, None), (math.nan, math.nan, None)],
)
def test_non_inferior(lower: float, upper: float, expected: bool | None) -> None:
    assert non_inferior(Interval((lower + upper) / 2, lower, upper, 5), 1.0) is expected


@pytest.mark.parametrize("confidence", [0, 1, 95, True, "0.95", math.nan])
def test_a_confidence_out_of_range(confidence: Any) -> None:
    for call in (lambda: mean_interval([1, 2], confidence), lambda: slope([1, 2], [1, 2], [0, 0], confidence)):
        with pytest.raises(ValueError, match="confidence must be a number between 0 and 1, neither included; got "):
            call()


def test_bad_values() -> None:
    with pytest.raises(ValueError, match="values must be numbers in one dimension"):
        mean_interval([[1.0, 2.0]])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="values must be numbers in one dimension"):
        mean_interval(["a", "b"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="a must be numbers"):
        paired_difference({0: "much"}, {0: 1.0})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="x, y and cell must have one length; got 2, 3 and 2"):
        slope([1, 2], [1, 2, 3], [0, 0])
    with pytest.raises(ValueError, match="margin must be"):
        non_inferior(Interval(0, -1, 1, 3), 0)


@pytest.mark.parametrize(
    ("value", "half", "text"),
    [
        (-1e-9, 0.1, "0.00 ± 0.10 (n = 3)"),
        (9.996, 0.996, "10.0 ± 1.0 (n = 3)"),
        (3e300, 1e299, "3.0e+300 ± 1.0e+299 (n = 3)"),
        (5.0, math.inf, "5 (n = 3)"),
    ],
)
def test_how_a_mean_is_written(value, half, text):
    assert str(Interval(value, value - half, value + half, 3)) == text


def test_a_mean_of_enormous_values_can_be_written():
    assert "n = 2" in str(mean_interval([math.exp(360), math.exp(355)]))
