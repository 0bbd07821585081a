"""Statuses of degenerate codes: a provably non-optimal code is never called optimal, in any order and orientation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, sparse

import softmaxcode as sc
from softmaxcode.code import certify
from softmaxcode.contacts import stress as stress_module
from softmaxcode.contacts.stress import balance, rigidity
from softmaxcode.contacts.system import ContactSystem, hardmax_system, tammes_system, tangent_basis
from softmaxcode.sphere import gram, unit_rows

OBJECTIVES = ("tammes", "softmax")


DELETED = [(2, 8, 14, 22), (10, 12, 14, 15, 20), (11, 14, 19), (1, 7, 15, 16)]
NORMALS = {
    "the sum": lambda roots: np.ones(roots.shape[1]),
    "a coordinate": lambda roots: np.eye(roots.shape[1])[0],
    "a root": lambda roots: roots[0],
    "none": lambda roots: 0.7 ** np.arange(roots.shape[1]),
}


def half(roots: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """The roots in the closed half-space of a normal."""
    return roots[roots @ normal > -1e-9]


def status(W: np.ndarray, objective: str) -> tuple[str, str]:
    certificate = certify(sc.SoftmaxCode.from_rows(W, objective=objective), lp=False)
    return certificate.status, certificate.rigidity


def moved(W: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same code in another order and orientation; half of the orientations are reflections."""
    Q = np.linalg.qr(rng.standard_normal((W.shape[1], W.shape[1])))[0]
    return unit_rows((W @ Q)[rng.permutation(len(W))])


def some(W: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """The code without a fraction of its rows, drawn at random."""
    return W[rng.permutation(len(W))[int(fraction * len(W)) :]]


def check_feasible(W: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    for objective in OBJECTIVES:
        for V in [W, *(moved(W, rng) for _ in range(3))]:
            assert status(V, objective) == ("feasible", "none")


@pytest.mark.parametrize("rows", DELETED)
def test_the_24_cell_without_these_rows_is_feasible(known, rows):
    check_feasible(np.delete(known["24-cell"], rows, axis=0))


@pytest.mark.parametrize("normal", NORMALS)
@pytest.mark.parametrize("name", ["D4", "D5", "D6", "E6"])
def test_roots_in_a_half_space_are_feasible(roots, name, normal):
    """A balanced stress lies on the hyperplane only: sum the balance over the normal."""
    check_feasible(half(roots[name], NORMALS[normal](roots[name])))


def test_the_half_of_d4_can_be_improved(roots):
    """A second-order motion: the twelve roots of the hyperplane against u, at three speeds, and the others from u."""
    W, u = half(roots["D4"], np.ones(4)), np.ones(4) / 2
    pairing = {(0, 1): 0, (2, 3): 0, (0, 2): 1, (1, 3): 1, (0, 3): 2, (1, 2): 2}
    speed = np.array([4.0 ** -pairing[tuple(np.flatnonzero(w))] if abs(w @ u) < 1e-9 else 1 / 16 for w in W])
    V = -speed[:, None] * (u - np.outer(W @ u, np.ones(4)) * W)
    for t in (3e-2, 1e-2, 3e-3):
        gain = gram(W).max() - gram(unit_rows(W + t * V)).max()
        assert gain / t**2 == pytest.approx(4.0**-5, rel=10 * t**2)


def usable(system: ContactSystem, X: np.ndarray) -> np.ndarray:
    """The contacts that some balanced stress uses: at most 1 of each weight counts in a linear programme."""
    J = system.jacobian(X, tangent_basis(X))
    E, n = J.shape
    balanced = sparse.hstack([J.T, sparse.csr_array((n, E))]).tocsr()
    below = sparse.hstack([-sparse.eye(E), sparse.eye(E)]).tocsr()
    cost = np.concatenate([np.zeros(E), -np.ones(E)])
    bounds = [(0, None)] * E + [(0, 1)] * E
    counted = optimize.linprog(cost, below, np.zeros(E), balanced, np.zeros(n), bounds, method="highs").x[E:]
    assert np.minimum(counted, 1 - counted).max() < 1e-6  # each is usable in full or not at all
    return counted > 0.5


#: The code, the fraction that is removed, and whether features are unknowns too.
SUBSETS = {
    "name": st.sampled_from(["D4", "D5", "E6", "27"]),
    "fraction": st.floats(0, 0.6),
    "seed": st.integers(0, 2**32 - 1),
    "features": st.booleans(),
}


def contacts_of(code: np.ndarray, fraction: float, seed: int, features: bool) -> tuple[ContactSystem, np.ndarray]:
    """The contacts of the rest of a code, in a random order and orientation, and its vectors."""
    rng = np.random.default_rng(seed)
    W = moved(some(code, fraction, rng), rng)
    return (hardmax_system(W, W, 1e-9), np.vstack([W, W])) if features else (tammes_system(W, 1e-9), W)


@settings(max_examples=40)
@given(**SUBSETS)
def test_stresses_lie_on_the_contacts_that_a_linear_programme_finds(roots, known, name, fraction, seed, features):
    system, X = contacts_of((roots | known)[name], fraction, seed, features)
    stress, expected = balance(system, X), usable(system, X)
    if expected.any():
        np.testing.assert_array_equal(stress.positive, expected)
        assert stress.residual < 1e-14 and stress.weights.sum() == pytest.approx(1, abs=1e-14)
        assert (stress.weights[~stress.positive] == 0).all()
    else:
        assert stress.residual > 1e-8


@settings(max_examples=20)
@given(**SUBSETS)
def test_large_codes_are_balanced_where_any_stress_balances_them(roots, known, name, fraction, seed, features):
    """The method tried first beyond 2,500 unknowns: it may use fewer contacts, but balances whatever can be."""
    system, X = contacts_of((roots | known)[name], fraction, seed, features)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(stress_module, "LARGE", 0)
        stress = balance(system, X)
    expected = usable(system, X)
    assert (stress.residual < 1e-13) == expected.any()
    assert not expected.any() or not (stress.positive & ~expected).any()


@pytest.mark.slow
def test_a_large_half_of_a_root_system_is_balanced_on_the_hyperplane():
    """The half of D13 of which 3,456 unknowns are left: D12 on the hyperplane is balanced, by uniform weights."""
    roots = [
        a * np.eye(13)[i] + b * np.eye(13)[j]
        for i, j in itertools.combinations(range(13), 2)
        for a in (1, -1)
        for b in (1, -1)
    ]
    W = half(unit_rows(np.array(roots)), np.eye(13)[0])
    certificate = certify(sc.SoftmaxCode.from_rows(W, objective="tammes"), lp=False)
    assert (certificate.status, certificate.rigidity, certificate.threshold) == ("feasible", "none", 1e-9)
    assert certificate.residual < 1e-14


@settings(max_examples=12)
@given(
    name=st.sampled_from(["D4", "D5", "E6", "E7", "27", "icosahedron"]),
    fraction=st.floats(0, 0.4),
    seed=st.integers(0, 2**32 - 1),
    noise=st.sampled_from([0.0, 1e-13, 1e-12, 1e-11]),
)
def test_order_and_orientation_change_no_status(roots, known, name, fraction, seed, noise):
    rng = np.random.default_rng(seed)
    W = some((roots | known)[name], fraction, rng)
    W = unit_rows(W + noise * rng.standard_normal(W.shape))
    for objective in OBJECTIVES:
        assert status(moved(W, rng), objective) == status(W, objective)


def touching(W: np.ndarray, row: int, others: list[int]) -> np.ndarray:
    """The code with one row moved to the largest cosine with the given others."""
    W = W.copy()
    level = gram(np.delete(W, row, axis=0)).max()
    x = W[row]
    for _ in range(50):
        A = np.vstack([W[others], x])
        b = np.append(level - W[others] @ x, (1 - x @ x) / 2)
        x = x + np.linalg.lstsq(A, b, rcond=None)[0]
    W[row] = x / np.linalg.norm(x)
    assert gram(W).max() == pytest.approx(level, abs=1e-15)
    return W


@pytest.mark.parametrize("large", [stress_module.LARGE, 0])
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize(("K", "d", "row", "others"), [(23, 5, 8, None), (45, 3, 5, [14, 33])])
def test_a_rattler_that_touches_its_neighbours_loses_no_status(K, d, row, others, objective, large, monkeypatch):
    monkeypatch.setattr(stress_module, "LARGE", large)
    code = sc.best_known(K, d, objective=objective)
    assert row in code.tammes_rattlers
    nearest = [int(np.argmax(gram(code.W)[row]))]
    W = touching(code.W, row, nearest if others is None else others)
    assert row not in sc.SoftmaxCode.from_rows(W, objective=objective).tammes_rattlers
    expected = status(code.W, objective)
    assert expected[0] == "locally optimal"
    rng = np.random.default_rng(1)
    for V in [W, *(moved(W, rng) for _ in range(4))]:
        assert status(V, objective) == expected


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_rows_that_coincide_are_no_optimum(known, objective):
    twice = np.vstack([known["icosahedron"], known["icosahedron"][:1]])
    assert status(twice, objective) == ("feasible", "none")


def test_nothing_is_held_where_no_contact_carries_stress(roots):
    W = half(roots["D4"], 0.7 ** np.arange(4))
    system = tammes_system(W, 1e-9)
    stress = balance(system, W)
    assert stress.residual > 0.01
    idle = type(stress)(stress.weights, np.zeros(len(system), dtype=bool), stress.residual)
    assert rigidity(system, W, idle) == "none"


def test_only_vectors_that_meet_a_stressed_contact_must_be_held(known):
    """docs/theory.md, "What rigidity means here": a rigid part keeps mu where it is, whatever the rest does."""
    loose = unit_rows(np.array([[0.3, 0.2, 0.9]]))
    W = np.vstack([known["icosahedron"], loose])
    system = tammes_system(known["icosahedron"], 1e-9)
    assert rigidity(system, W, balance(system, W)) == "infinitesimal"
    best = gram(known["icosahedron"]).max()
    rng = np.random.default_rng(0)
    for size, _ in itertools.product((1e-1, 1e-2, 1e-3), range(20)):
        assert gram(unit_rows(W + size * rng.standard_normal(W.shape)))[:12, :12].max() > best
