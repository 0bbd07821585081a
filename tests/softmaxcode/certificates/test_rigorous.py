"""The rigorous bounds against other evaluations: exact fractions, and 60 digits of the margin."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import flint
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softmaxcode.bounds.rounding import float_below
from softmaxcode.certificates import rigorous as module
from softmaxcode.certificates.rigorous import rigorous_bounds
from softmaxcode.margins.exact import margins
from softmaxcode.sphere import random_rows, unit_rows

SEEDS = st.integers(0, 2**32 - 1)
BITS = 220


def off_norm(W: np.ndarray, rng: np.random.Generator, size: float = 1e-6) -> np.ndarray:
    """Rows whose norms differ from 1 by up to ``size``."""
    return W * (1 + size * rng.uniform(-1, 1, (len(W), 1)))


def products(W: np.ndarray) -> list[list[Fraction]]:
    """The exact Gram matrix of floats."""
    rows = [[Fraction(float(x)) for x in row] for row in W]
    return [[sum((a * b for a, b in zip(x, y, strict=True)), Fraction(0)) for y in rows] for x in rows]


def is_at_most_one_minus_mu(bound: float, W: np.ndarray) -> bool:
    """bound <= 1 - <x, y> / (|x| |y|) for every pair, decided in fractions by squaring."""
    G = products(W)
    most = 1 - Fraction(bound)
    for i, j in itertools.combinations(range(len(W)), 2):
        g, norms = G[i][j], G[i][i] * G[j][j]
        # g <= most sqrt(norms)
        below = most >= 0 and g * g <= most * most * norms if g > 0 else most >= 0 or g * g >= most * most * norms
        if not below:
            return False
    return True


def normalised(W: np.ndarray) -> list[list[flint.fmpq]]:
    """The rows divided by their exact norms, each entry rounded to 220 binary places."""
    scale = flint.fmpz(2) ** BITS
    rows = []
    for row in W:
        exact = [Fraction(float(x)) for x in row]
        square = sum(x * x for x in exact)
        # x / sqrt(s) = x sqrt(s) / s, with the root of an integer
        root = Fraction(math.isqrt((square.numerator << (4 * BITS)) // square.denominator), 2 ** (2 * BITS))
        rows.append([flint.fmpq(round(x * root / square * 2**BITS), scale) for x in exact])
    return rows


def decimal_margin(nearest, W: np.ndarray) -> Fraction:
    """rho(W/|W|) to about 60 digits."""
    rows = normalised(W)
    square = min(nearest(rows, k)[0] for k in range(len(W)))
    value = Fraction(int(square.p), int(square.q))
    return Fraction(math.isqrt((value.numerator << (2 * BITS)) // value.denominator), 2**BITS)


def one_minus_mu(W: np.ndarray) -> float:
    return float(1 - max(G / math.sqrt(a * b) for G, a, b in pairs(W)))


def pairs(W: np.ndarray) -> list[tuple[Fraction, Fraction, Fraction]]:
    G = products(W)
    return [(G[i][j], G[i][i], G[j][j]) for i, j in itertools.combinations(range(len(W)), 2)]


def test_the_reference_evaluations(nearest):
    W = np.array([[3.0, 4.0], [-4.0, 3.0], [0.0, -2.0]])
    # cosines 0, -4/5 and -3/5; the nearest rows are the first two
    assert is_at_most_one_minus_mu(1.0, W) and not is_at_most_one_minus_mu(math.nextafter(1, 2), W)
    assert is_at_most_one_minus_mu(-5.0, W)
    below = math.nextafter(1.8, 0)
    assert is_at_most_one_minus_mu(below, W[[0, 2]]) and not is_at_most_one_minus_mu(
        math.nextafter(below, 2), W[[0, 2]]
    )
    assert is_at_most_one_minus_mu(0.0, W[[0, 0]]) and not is_at_most_one_minus_mu(1e-300, W[[0, 0]])
    # the distance of (-0.8, 0.6) from the segment of the other two
    assert float(decimal_margin(nearest, W)) == pytest.approx(1.2649110640673518, abs=1e-15)
    unit = normalised(W)
    assert abs(float(sum(x * x for x in unit[0]) - 1)) < 1e-65


@settings(max_examples=150)
@given(K=st.integers(2, 25), d=st.integers(1, 8), seed=SEEDS, e=st.floats(-16, 0))
def test_one_minus_mu_is_never_above_the_exact_value(K, d, seed, e):
    rng = np.random.default_rng(seed)
    W = random_rows(K, d, rng)
    # an arbitrarily near pair, where the subtraction cancels
    W[1] = unit_rows((W[0] + 10.0**e * W[1])[None] + 1e-17)[0]
    W = off_norm(W, rng)
    proved = rigorous_bounds(W)
    assert proved.arithmetic == "ball arithmetic"
    assert proved.margin == proved.one_minus_cosine
    assert is_at_most_one_minus_mu(proved.one_minus_cosine, W)
    # a slightly larger value is not a bound
    assert not is_at_most_one_minus_mu(proved.one_minus_cosine + 2.0**-50, W)
    assert proved.one_minus_cosine == pytest.approx(one_minus_mu(W), abs=1e-13)


@settings(max_examples=100)
@given(K=st.integers(2, 8), d=st.integers(1, 4), seed=SEEDS, e=st.floats(-10, 0))
def test_margin_is_never_above_sixty_digits_of_it(nearest, K, d, seed, e):
    rng = np.random.default_rng(seed)
    W = random_rows(K, d, rng)
    W[1] = unit_rows((W[0] + 10.0**e * W[1])[None] + 1e-17)[0]
    W = off_norm(W, rng)
    proved = rigorous_bounds(W, margins(unit_rows(W), n_jobs=1).H)
    exact = decimal_margin(nearest, W)
    assert Fraction(proved.margin) <= exact + Fraction(1, 10**55)
    assert proved.margin == pytest.approx(float(exact), abs=1e-13)
    assert is_at_most_one_minus_mu(proved.one_minus_cosine, W)


@settings(max_examples=80)
@given(K=st.integers(2, 7), d=st.integers(2, 4), seed=SEEDS, noise=st.floats(-8, 0))
def test_any_directions_give_a_bound(nearest, K, d, seed, noise):
    """Directions may be wrong and of any length; the bound is then weaker, never false."""
    rng = np.random.default_rng(seed)
    W = off_norm(random_rows(K, d, rng), rng)
    H = margins(unit_rows(W), n_jobs=1).H
    H = unit_rows(H + 10.0**noise * rng.standard_normal(H.shape)) * rng.uniform(0.6, 1.9, (K, 1))
    proved = rigorous_bounds(W, H)
    exact = decimal_margin(nearest, W)
    assert Fraction(proved.margin) <= exact + Fraction(1, 10**55)
    assert proved.margin >= proved.one_minus_cosine
    U, V = unit_rows(W), unit_rows(H)
    values = np.einsum("kd,kd->k", V, U)[:, None] - V @ U.T
    cosines = U @ U.T
    np.fill_diagonal(values, np.inf)
    np.fill_diagonal(cosines, -np.inf)
    promised = np.maximum(values.min(axis=1), 1 - cosines.max(axis=1)).min()
    assert proved.margin == pytest.approx(promised, abs=1e-13)


@settings(max_examples=100)
@given(K=st.integers(2, 8), d=st.integers(1, 4), seed=SEEDS)
def test_the_a_priori_bound_is_never_above_either(nearest, K, d, seed):
    rng = np.random.default_rng(seed)
    W = off_norm(random_rows(K, d, rng), rng)
    H = margins(unit_rows(W), n_jobs=1).H
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MAX_BALL_PRODUCTS", 0)
        proved = rigorous_bounds(W, H)
    sharp = rigorous_bounds(W, H)
    assert proved.arithmetic == "a-priori rounding bound" and sharp.arithmetic == "ball arithmetic"
    exact = decimal_margin(nearest, W)
    assert Fraction(proved.margin) <= exact
    assert is_at_most_one_minus_mu(proved.one_minus_cosine, W)
    # weaker than balls by the rounding bound of docs/theory.md and little more
    room = (8 * d + 60) * 2.0**-52
    assert sharp.one_minus_cosine - room <= proved.one_minus_cosine <= sharp.one_minus_cosine
    assert sharp.margin - room <= proved.margin <= sharp.margin


@pytest.mark.parametrize(
    ("name", "square"),
    [("icosahedron", Fraction(1, 5)), ("24-cell", Fraction(1, 4)), ("27", Fraction(1, 16)), ("E8", Fraction(1, 4))],
)
@pytest.mark.parametrize("limit", [10**9, 0])
def test_known_codes_are_bounded_sharply(known, monkeypatch, name, square, limit):
    """Codes of cosine sqrt(square), where hundreds of pairs decide."""
    monkeypatch.setattr(module, "MAX_BALL_PRODUCTS", limit)
    W = known[name]
    proved = rigorous_bounds(W, margins(W).H)
    assert proved.arithmetic == ("ball arithmetic" if limit else "a-priori rounding bound")
    value = 1 - math.sqrt(square)
    assert value - 2e-14 <= proved.one_minus_cosine <= value + 1e-15
    assert proved.one_minus_cosine <= proved.margin <= value + 1e-15


def test_exactly_representable_codes_are_bounded_exactly():
    assert rigorous_bounds(np.array([[1.0], [-1.0]])).margin == 2
    cross = np.vstack([np.eye(4), -np.eye(4)])
    assert rigorous_bounds(cross, cross).margin == 1
    assert rigorous_bounds(np.vstack([cross, cross[:1]]), np.vstack([cross, cross[:1]])).margin == 0
    # rows of norm 5/8, 13/8 and 1; cosines 16/65, -4/5 and -12/13
    W = np.array([[0.375, 0.5], [-0.625, 1.5], [0.0, -1.0]])
    value = Fraction(rigorous_bounds(W).one_minus_cosine)
    exact = 1 - Fraction(33, 65)
    assert exact - Fraction(1, 2**52) <= value <= exact
    # the square's margin is more than 1 - mu once a corner moves
    W = np.array([[1.0, 0.0], [0.75, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    proved = rigorous_bounds(W, margins(unit_rows(W)).H)
    assert proved.one_minus_cosine <= Fraction(2, 5) and proved.one_minus_cosine == pytest.approx(0.4, abs=1e-15)
    assert proved.margin > 0.5


@pytest.mark.parametrize("seed", range(5))
def test_duplicate_rows_have_a_bound_of_nothing(seed):
    """Their difference from 1 is a ball about 0, far narrower than any float near it."""
    W = random_rows(6, 4, np.random.default_rng(seed))
    W[3] = W[1]
    proved = rigorous_bounds(W, W)
    assert -1e-40 <= proved.one_minus_cosine <= 0 and -1e-40 <= proved.margin <= 0
    W[3] *= 1 + 1e-7
    assert -1e-15 <= rigorous_bounds(W).one_minus_cosine <= 1e-30


def test_a_balls_float_is_at_most_the_ball():
    with flint.ctx.workprec(160):
        for ball in (flint.arb(2).sqrt(), -flint.arb(2).sqrt(), flint.arb(1), flint.arb(1, 1e-9), flint.arb(0, 1e-30)):
            value = float_below(ball)
            assert flint.arb(value) <= ball.lower()
            assert flint.arb(math.nextafter(value, math.inf)) + 1e-15 >= ball.lower()
    assert float_below(flint.arb(0.5)) == 0.5


@settings(max_examples=25)
@given(d=st.integers(1, 40), seed=SEEDS, close=st.sampled_from([1.0, 1e-3, 1e-9]))
def test_cosines_of_scaled_rows_are_within_the_proved_constant(d, seed, close):
    """docs/theory.md, "Rows scaled first", against 220 binary places."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(d)
    W = off_norm(unit_rows(np.array([x, x + close * rng.standard_normal(d)])), rng, 0.4)
    U = module._scaled(W)
    a, b = normalised(W)
    exact = sum((p * q for p, q in zip(a, b, strict=True)), flint.fmpq(0))
    error = abs(flint.fmpq(*float(U[0] @ U[1]).as_integer_ratio()) - exact)
    assert error <= flint.fmpq(d + 4, 2**52)
