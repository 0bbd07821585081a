"""Proved digits: values known in closed form, agreement of precisions, and contacts that must be refused."""

from __future__ import annotations

import functools
from dataclasses import replace
from fractions import Fraction

import flint
import numpy as np
import pytest
from flint import arb, arb_mat, fmpq
from hypothesis import given, settings
from hypothesis import strategies as st

from softmaxcode.certificates.proof import (
    NotRegular,
    ProvedValue,
    closed_form_decimal,
    decimals,
    equations,
    newton_kantorovich,
    prove_margin,
    prove_tammes,
    statements,
)
from softmaxcode.contacts.polish import Polished, polish_tammes
from softmaxcode.contacts.system import ContactSystem, hardmax_system, tammes_system
from softmaxcode.margins.exact import margin
from softmaxcode.search.energy import TAMMES, descend, minimize
from softmaxcode.sphere import largest_cosines, random_rows, unit_rows

# starts of the search: seed and first beta, by default 0 and 3.0. "13" is the best known 13, where every point has
# contacts. The search from (0, 3.0) ends in a local optimum of 56.4832 degrees with a rattler.
START = {(14, 3): (32, 3.0), (10, 3): (1, 3.0), (13, 3, "best"): (9, 30.0)}

# best known angles in degrees (Sloane's tables of spherical codes), where no simple closed form is used below
ANGLES = {(10, 3): 66.1468220, (13, 3, "best"): 57.1367031, (14, 3): 55.6705700}


@functools.cache
def polished(K: int, d: int, *which: str) -> Polished:
    """A packing polished in float64."""
    seed, beta = START.get((K, d, *which), (0, 3.0))
    X = random_rows(K, d, np.random.default_rng(seed))
    descend(TAMMES, X, beta, 1e4, 2.0, 300, 1e-4)
    minimize(TAMMES, X, 1e5, 3000, 1e-6)
    return polish_tammes(X, 1e-4)


def icosahedron() -> np.ndarray:
    g = (1 + np.sqrt(5)) / 2
    half = np.array([[0, s, t * g] for s in (1, -1) for t in (1, -1)])
    return unit_rows(np.vstack([np.roll(half, shift, axis=1) for shift in range(3)]))


def encloses(proved: ProvedValue, true: arb) -> bool:
    """Whether a much more precise ball lies within the radius of the decimal."""
    value, radius = Fraction(proved.value), Fraction(proved.radius)
    off = abs(arb(fmpq(value.numerator, value.denominator)) - true)
    return bool(off <= arb(fmpq(radius.numerator, radius.denominator)) + arb(2) ** -350)


def significant(value: str) -> int:
    return len(value.replace("-", "").replace(".", "").lstrip("0"))


def snub_cube() -> arb:
    """(t - 1)/(3 - t) with t the tribonacci constant, from R^2 = (3 - t)/(4 (2 - t)) for unit edges."""
    root = 3 * arb(33).sqrt()
    t = (1 + (19 + root).root(3) + (19 - root).root(3)) / 3
    return (t - 1) / (3 - t)


KNOWN = {
    (12, 3): lambda: 1 / arb(5).sqrt(),
    (24, 3): snub_cube,
    (16, 5): lambda: arb(1) / 5,
    (27, 6): lambda: arb(1) / 4,
    (56, 7): lambda: arb(1) / 3,
    (5, 4): lambda: arb(-1) / 4,
}


@pytest.mark.parametrize(("K", "d"), KNOWN)
def test_fifty_digits_of_closed_forms(K: int, d: int) -> None:
    code = polished(K, d)
    proved = prove_tammes(code.X, code.contacts, 50)
    with flint.ctx.workprec(400):
        assert encloses(proved, KNOWN[K, d]())
    assert proved.quantity == "max_cosine"
    assert significant(proved.value) == 50
    assert Fraction(proved.radius) <= Fraction(1, 10**50)


@pytest.mark.parametrize("case", ANGLES)
def test_best_known_codes_without_a_simple_form(case: tuple) -> None:
    code = polished(*case)
    short, long = prove_tammes(code.X, code.contacts, 20), prove_tammes(code.X, code.contacts, 80)
    assert np.degrees(np.arccos(float(long.value))) == pytest.approx(ANGLES[case], abs=1e-6)
    # two precisions are two proofs of the same number
    assert abs(Fraction(short.value) - Fraction(long.value)) <= Fraction(short.radius) + Fraction(long.radius)
    assert significant(long.value) == 80
    assert Fraction(long.radius) <= Fraction(1, 10**80)


@pytest.mark.parametrize("case", [*KNOWN, *ANGLES, (13, 3)])
def test_float_value_is_near_the_decimal(case: tuple) -> None:
    code = polished(*case)
    proved = prove_tammes(code.X, code.contacts, 30)
    assert abs(float(proved.value) - float(largest_cosines(code.X).max())) < 1e-14
    assert float(proved.value) == pytest.approx(1 - code.value, abs=1e-14)


def test_statement_names_rattlers_and_what_was_left_out() -> None:
    rattling = polished(13, 3)
    text = prove_tammes(rattling.X, rattling.contacts, 30).statement
    assert "1 vector without contacts fixed" in text
    assert "no other code is better is not part" in text
    over = polished(12, 3)
    assert "22 contact equations exactly and 8 more" in prove_tammes(over.X, over.contacts, 30).statement


def test_many_digits() -> None:
    code = polished(12, 3)
    proved = prove_tammes(code.X, code.contacts, 600)
    with flint.ctx.workprec(2400):
        true = 1 / arb(5).sqrt()
        value = Fraction(proved.value)
        off = abs(arb(fmpq(value.numerator, value.denominator)) - true)
        assert off <= arb(10) ** -600
    assert significant(proved.value) == 600


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), noise=st.sampled_from([0.0, 1e-15, 1e-12, 1e-8]), digits=st.integers(1, 70))
def test_any_rotation_and_slightly_unpolished_rows(seed: int, noise: float, digits: int) -> None:
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    W = unit_rows(icosahedron() @ turn + noise * rng.standard_normal((12, 3)))
    proved = prove_tammes(W, tammes_system(W, 1e-6), digits)
    with flint.ctx.workprec(400):
        assert encloses(proved, 1 / arb(5).sqrt())
    assert Fraction(proved.radius) <= Fraction(1, 10**digits)


# --- what must be refused -------------------------------------------------------------------------------------


def with_pair(contacts: ContactSystem, i: int, j: int) -> ContactSystem:
    return ContactSystem(np.append(contacts.a, i), np.append(contacts.b, j), np.append(contacts.c, i))


def wrong_pair(code: Polished) -> tuple[int, int]:
    """Two vectors of the backbone that do not touch."""
    stored = set(zip(code.contacts.a.tolist(), code.contacts.b.tolist(), strict=True))
    member = np.flatnonzero(code.contacts.members(len(code.X))).tolist()
    return next((i, j) for i in member for j in member if i < j and (i, j) not in stored)


def test_flexible_code_is_refused_with_its_freedom() -> None:
    t = np.radians([0.0, 100.0, 200.0])
    W = np.vstack([np.column_stack([np.cos(t), np.sin(t), 0 * t]), [[0, 0, 1], [0, 0, -1]]])
    with pytest.raises(NotRegular, match="leave 2 directions free"):
        prove_tammes(W, tammes_system(W, 1e-9), 50)
    with pytest.raises(NotRegular, match=r"as a packing, .* free.*; with features, .* free"):
        prove_margin(W, W, None, 50)


def test_missing_contact_is_refused() -> None:
    code = polished(13, 3)  # as many contacts as unknowns
    for gone in (0, 7, 21):
        with pytest.raises(NotRegular, match="leave 1 direction free"):
            prove_tammes(code.X, code.contacts.subset(np.arange(len(code.contacts)) != gone), 50)


@pytest.mark.parametrize(("K", "d"), [(12, 3), (13, 3), (27, 6)])
def test_planted_contact_is_refused(K: int, d: int) -> None:
    code = polished(K, d)
    wrong = wrong_pair(code)
    with pytest.raises(NotRegular, match=r"do not hold together|no solution of the contact equations is proved within"):
        prove_tammes(code.X, with_pair(code.contacts, *wrong), 50)


@pytest.mark.parametrize("replaced", [0, 9, 20])
def test_contact_replaced_by_a_wrong_one_is_refused(replaced: int) -> None:
    code = polished(13, 3)
    wrong = wrong_pair(code)
    contacts = with_pair(code.contacts.subset(np.arange(len(code.contacts)) != replaced), *wrong)
    with pytest.raises(NotRegular):
        prove_tammes(code.X, contacts, 50)


def test_near_contact_is_refused() -> None:
    """A pair 1e-11 short of contact: float64 windows include it, the proof does not."""
    code = polished(13, 3)
    W = code.X.copy()
    rattler = int(np.flatnonzero(~code.contacts.members(13))[0])
    other = int(np.argmax(np.delete(W @ W[rattler], rattler)))
    other += other >= rattler
    # rotate the rattler towards its nearest neighbour until the cosine is that of the contacts, less 1e-11
    tangent = unit_rows((W[rattler] - (W[rattler] @ W[other]) * W[other])[None])[0]
    cosine = 1 - code.value - 1e-11
    W[rattler] = cosine * W[other] + np.sqrt(1 - cosine**2) * tangent
    assert prove_tammes(W, code.contacts, 50).value == prove_tammes(code.X, code.contacts, 50).value
    with pytest.raises(NotRegular, match="free"):
        prove_tammes(W, tammes_system(W, 1e-9), 50)


def test_closer_pair_than_the_contacts_is_refused() -> None:
    code = polished(13, 3)
    W = code.X.copy()
    rattler = int(np.flatnonzero(~code.contacts.members(13))[0])
    W[rattler] = W[(rattler + 1) % 13]
    with pytest.raises(NotRegular, match="may decide it"):
        prove_tammes(W, code.contacts, 50)


def test_code_far_from_its_contacts_is_refused() -> None:
    W = icosahedron()
    contacts = tammes_system(W, 1e-9)
    moved = unit_rows(W + 1e-4 * np.random.default_rng(0).standard_normal(W.shape))
    with pytest.raises(NotRegular, match="no solution of the contact equations is proved within 1e-07"):
        prove_tammes(moved, contacts, 50)


def test_input_is_checked() -> None:
    W = icosahedron()
    contacts = tammes_system(W, 1e-9)
    with pytest.raises(ValueError, match="digits must be an integer"):
        prove_tammes(W, contacts, 0)
    with pytest.raises(ValueError, match="unit norm"):
        prove_tammes(2 * W, contacts, 5)
    with pytest.raises(ValueError, match="same shape"):
        prove_margin(W, W[:5], contacts, 5)
    with pytest.raises(NotRegular, match="no contacts"):
        prove_tammes(W, contacts.subset(np.zeros(0, dtype=int)), 5)
    with pytest.raises(NotRegular, match="on the line"):
        prove_tammes(np.array([[1.0], [-1.0]]), ContactSystem(*(np.array([i]) for i in (0, 1, 0))), 5)


def test_size_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newton_kantorovich, "MAX_PROOF_UNKNOWNS", 10)
    W = icosahedron()
    with pytest.raises(NotRegular, match="37 unknowns"):
        prove_tammes(W, tammes_system(W, 1e-9), 5)


# --- margin ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("K", "d"), [(11, 3), (24, 3), (13, 3), (16, 5), (14, 3)])
def test_margin_of_a_packing_is_one_minus_its_cosine(K: int, d: int) -> None:
    code = polished(K, d)
    found = margin(code.X, n_jobs=1)
    proved = prove_margin(code.X, found.H, code.contacts, 50)
    cosine = prove_tammes(code.X, code.contacts, 50)
    gap = abs(Fraction(proved.value) + Fraction(cosine.value) - 1)
    assert gap <= Fraction(proved.radius) + Fraction(cosine.radius)
    assert proved.quantity == "margin"
    assert Fraction(proved.radius) <= Fraction(1, 10**50)
    assert abs(float(proved.value) - found.margin) < 1e-14
    # contacts found by the default window
    assert prove_margin(code.X, found.H, None, 30).value == prove_margin(code.X, found.H, code.contacts, 30).value


@pytest.mark.parametrize(("K", "d"), [(12, 3), (24, 3)])
def test_margin_from_features(K: int, d: int) -> None:
    """HardMax's equations determine W and H where the pairs' equations do not."""
    code = polished(K, d)
    contacts = hardmax_system(code.X, code.X, 1e-9)
    useless = code.contacts.subset(np.arange(3))
    proved = prove_margin(code.X, code.X, useless, 50, contacts_hardmax=contacts)
    assert "features included" in proved.statement
    with flint.ctx.workprec(400):
        assert encloses(proved, 1 - KNOWN[K, d]())
    assert prove_margin(code.X, code.X, useless, 50).value == proved.value


def test_margin_refuses_features_that_do_not_attain_it() -> None:
    code = polished(12, 3)
    useless = code.contacts.subset(np.arange(3))
    contacts = hardmax_system(code.X, code.X, 1e-9)
    turned = code.X.copy()
    turned[0] = turned[1]
    with pytest.raises(NotRegular, match="with features"):
        prove_margin(code.X, turned, useless, 50, contacts_hardmax=contacts)


def test_margin_counts_features_without_contacts() -> None:
    code = polished(20, 3)
    contacts = hardmax_system(code.X, code.X, 1e-9)
    useless = code.contacts.subset(np.arange(3))
    proved = prove_margin(code.X, code.X, useless, 50, contacts_hardmax=contacts)
    assert "4 vectors without contacts fixed" in proved.statement
    free = np.flatnonzero(~contacts.members(40)[20:])
    assert len(free) == 2
    H = code.X.copy()
    H[free[0]] *= -1
    with pytest.raises(NotRegular, match="with features, the value is enclosed"):
        prove_margin(code.X, H, useless, 50, contacts_hardmax=contacts)


# --- closed forms ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("K", "d", "cosine", "radius_zero"),
    [
        (2, 1, "-1", True),
        (5, 1, "1", True),
        (4, 2, "0", True),
        (5, 4, "-0.25", True),
        (3, 9, "-0.5", True),
        (7, 4, "0", True),
    ],
)
def test_closed_forms_that_are_decimals(K: int, d: int, cosine: str, radius_zero: bool) -> None:
    proved = closed_form_decimal(K, d, "max_cosine", 20)
    assert Fraction(proved.value) == Fraction(cosine)
    assert (proved.radius == "0") == radius_zero
    assert Fraction(closed_form_decimal(K, d, "margin", 20).value) == 1 - Fraction(cosine)


def test_closed_forms_that_are_not() -> None:
    pentagon = closed_form_decimal(5, 2, "max_cosine", 50)
    with flint.ctx.workprec(400):
        assert encloses(pentagon, (arb(5).sqrt() - 1) / 4)
        assert encloses(closed_form_decimal(7, 2, "margin", 50), 1 - (2 * arb.pi() / 7).cos())
        assert encloses(closed_form_decimal(8, 9, "max_cosine", 50), arb(-1) / 7)
    assert significant(pentagon.value) == 50
    t = 2 * np.pi * np.arange(5) / 5
    W = np.column_stack([np.cos(t), np.sin(t)])
    assert prove_tammes(W, tammes_system(W, 1e-9), 50).value == pentagon.value


def test_closed_form_refusals() -> None:
    with pytest.raises(ValueError, match="no closed form"):
        closed_form_decimal(7, 3, "margin", 10)
    with pytest.raises(ValueError, match="quantity"):
        closed_form_decimal(4, 3, "angle", 10)


# --- the pieces of the proof ----------------------------------------------------------------------------------


def equations_of(kind: str) -> tuple[equations.Equations, np.ndarray]:
    W = icosahedron()
    if kind == "pairs":
        X, system = W, tammes_system(W, 1e-9)
    else:
        X, system = np.vstack([W, W]), hardmax_system(W, W, 1e-9)
    chosen, planes = equations.square_part(system, X)
    return equations.Equations(chosen, X, planes), X


@pytest.mark.parametrize("kind", ["pairs", "features"])
def test_jacobian_is_that_of_the_residual(kind: str) -> None:
    """F is quadratic, so (F(x + h) - F(x - h))/2 = DF(x) h without remainder."""
    equations, X = equations_of(kind)
    rng = np.random.default_rng(1)
    x = rng.integers(-8, 8, X.shape) / 8.0
    h = rng.integers(-8, 8, X.shape) / 8.0
    up, down = (equations.residual(arb_mat((x + s * h).tolist()), arb(s * 0.5)) for s in (1, -1))
    DF, sizes = equations.jacobian(x)
    expected = DF @ np.append(h.ravel(), 0.5)
    assert [float(a - b) / 2 for a, b in zip(up, down, strict=True)] == pytest.approx(expected.tolist(), abs=1e-12)
    assert DF.shape == (X.size + 1, X.size + 1)
    assert (np.abs(DF).sum(axis=1) <= sizes * (1 + 1e-14)).all()


@pytest.mark.parametrize("kind", ["pairs", "features"])
def test_lipschitz_constant(kind: str) -> None:
    equations, X = equations_of(kind)
    rng = np.random.default_rng(2)
    base, _ = equations.jacobian(X)
    reached = 0.0
    for _ in range(20):
        step = rng.choice([-1.0, 1.0], X.shape)
        there, _ = equations.jacobian(X + step)
        reached = max(reached, float(np.abs(there - base).sum(axis=1).max()))
    assert 0.5 * equations.lipschitz <= reached <= equations.lipschitz * (1 + 1e-12)


@pytest.mark.parametrize(("K", "d"), [(13, 3), (16, 5)])
def test_balls_of_two_precisions_meet(K: int, d: int) -> None:
    code = polished(K, d)
    with flint.ctx.workprec(600):
        coarse = newton_kantorovich.prove_code(code.X, code.contacts, 15, 120)
        fine = newton_kantorovich.prove_code(code.X, code.contacts, 80, 500)
        assert coarse.level.contains(fine.level)
        for a, b in zip(coarse.rows, fine.rows, strict=True):
            assert a.contains(b)
        assert fine.level.rad() < coarse.level.rad()


def test_balls_hold_unit_vectors() -> None:
    """Both the solved rows and the rattlers, whose stored rows need not be exactly of unit norm."""
    code = polished(13, 3)
    W = code.X * np.where(code.contacts.members(13), 1.0, 1 + 5e-8)[:, None]
    with flint.ctx.workprec(200):
        proved = newton_kantorovich.prove_code(W, code.contacts, 30, 150)
        assert all((row * row.transpose())[0, 0].contains(1) for row in proved.rows)
        assert proved.without_contacts == 1
        assert 5e-8 < float(proved.moved) + 1e-8 < 1e-7


def test_radius_counts_what_the_residual_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    equations, X = equations_of("pairs")
    with flint.ctx.workprec(200):
        x, level, Y = newton_kantorovich._newton(equations, X, 200)
        blurred = [arb(0, 1e-20)] * (X.size + 1)
        monkeypatch.setattr(equations, "residual", lambda *_: blurred)
        r = newton_kantorovich._kantorovich_radius(equations, x, level, Y, 200)
    norm = float(np.abs(Y).sum(axis=1).max())
    assert 1e-20 * norm <= float(r) <= 1.01e-20 * norm


def test_hull_distance_is_never_below_the_distance() -> None:
    """Also where the nearest point of the affine hull is outside the hull."""
    rng = np.random.default_rng(4)
    outside = 0
    with flint.ctx.workprec(150):
        for _ in range(60):
            W = random_rows(4, 4, rng)
            W[0] = unit_rows((2 * W[1] + rng.standard_normal(4))[None])[0]
            true = margin(W, n_jobs=1).margins[0]
            rows = [arb_mat(1, 4, w.tolist()) for w in W]
            found = statements._hull_distance(rows, 0, [1, 2, 3])
            assert found is not None
            assert float(found) >= true - 1e-13
            outside += float(found) > true + 1e-6
            assert statements._hull_distance(rows, 0, [1, 1]) is None
    assert 5 < outside < 60


def test_radius_grows_with_the_residual() -> None:
    """The proof at an unrefined point: r bounds the true distance to the solution."""
    equations, X = equations_of("pairs")
    with flint.ctx.workprec(300):
        x, level, Y = newton_kantorovich._newton(equations, X, 300)
        rng = np.random.default_rng(3)
        for size in (1e-12, 1e-9, 1e-6):
            away = arb_mat((size * rng.standard_normal(X.shape)).tolist())
            r = newton_kantorovich._kantorovich_radius(equations, (x + away).mid(), level, Y, 300)
            true = max(float(e.abs_upper()) for e in away.entries())
            assert true <= float(r) <= 1.1 * true
        with pytest.raises(NotRegular):
            newton_kantorovich._kantorovich_radius(equations, (x + arb_mat((0.3 * X).tolist())).mid(), level, Y, 300)


def test_singular_preconditioner_is_refused() -> None:
    equations, X = equations_of("pairs")
    with flint.ctx.workprec(200):
        x, level, Y = newton_kantorovich._newton(equations, X, 200)
        with pytest.raises(NotRegular, match="too close to singular"):
            newton_kantorovich._kantorovich_radius(equations, x, level, np.zeros_like(Y), 200)


@given(
    numerator=st.integers(-(10**30), 10**30),
    denominator=st.integers(1, 10**12),
    digits=st.integers(1, 40),
    width=st.sampled_from([Fraction(0), Fraction(1, 10**60)]),
)
def test_decimal_strings(numerator: int, denominator: int, digits: int, width: Fraction) -> None:
    low = Fraction(numerator, denominator)
    high = low + width
    try:
        value, radius = decimals.as_decimal(low, high, digits)
    except NotRegular:
        assert width > 0
        return
    assert max(abs(Fraction(value) - low), abs(Fraction(value) - high)) <= Fraction(radius)
    if low > 0 or high < 0:
        assert significant(value) >= digits
        assert Fraction(radius) <= abs(low) * Fraction(6, 10) / 10 ** (digits - 1) + width


def test_wide_interval_has_no_decimal() -> None:
    with pytest.raises(NotRegular, match="not to 10 digits"):
        decimals.as_decimal(Fraction(1, 3), Fraction(1, 3) + Fraction(1, 10**9), 10)


def test_proved_value_is_frozen() -> None:
    proved = closed_form_decimal(4, 3, "margin", 5)
    with pytest.raises(AttributeError):
        proved.value = "2"  # type: ignore[misc]
    assert replace(proved, radius="1").radius == "1"
