"""First-order constants against minimisers of the cross-entropy computed here, and the stress by a second method."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg, optimize, special

import softmaxcode as sc
from softmaxcode.checks.limits import NotComputed
from softmaxcode.contacts.stress import Stress, balance
from ufm import asymptotics
from ufm.asymptotics import FirstOrder, first_order, margin_constant_bound

#: Codes whose stress differs between contacts.
UNEVEN = [(7, 3), (9, 3), (10, 3), (11, 3), (13, 3), (14, 3), (20, 3), (24, 3), (9, 4), (13, 4)]
EVEN = [(4, 3), (3, 5), (5, 2), (8, 2), (6, 3), (12, 3), (10, 4), (24, 4), (16, 5), (27, 6)]


@functools.cache
def code(K: int, d: int) -> sc.SoftmaxCode:
    return sc.solve(K, d, progress=False)


@functools.cache
def constants(K: int, d: int) -> FirstOrder:
    return first_order(code(K, d))


def tangents(X: np.ndarray) -> np.ndarray:
    """Orthonormal tangent bases, (N, d, d - 1)."""
    return np.array([linalg.null_space(x[None]) for x in X])


def derivatives(W: np.ndarray, H: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Gradient of <h_k, w_k - w_j> for every pair (k, j), one row each, along tangent coordinates of W, then of H."""
    K, d = W.shape
    B_W, B_H = tangents(W), tangents(H)
    J = np.zeros((len(pairs), 2 * K, d - 1))
    e, (k, j) = np.arange(len(pairs)), pairs.T
    J[e, k] = np.einsum("ed,edt->et", H[k], B_W[k])
    J[e, j] = -np.einsum("ed,edt->et", H[k], B_W[j])
    J[e, K + k] = np.einsum("ed,edt->et", W[k] - W[j], B_H[k])
    return J.reshape(len(pairs), -1)


def differences(W: np.ndarray, H: np.ndarray) -> np.ndarray:
    """<h_k, w_k - w_j> at (k, j), infinite on the diagonal."""
    C = H @ W.T
    G = np.diagonal(C)[:, None] - C
    np.fill_diagonal(G, np.inf)
    return G


def minimiser(W: np.ndarray, H: np.ndarray, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """The minimiser of temperature * log sum exp(-<h_k, w_k - w_j> / temperature) near (W, H), by Newton's method.

    The sum is K L up to a factor of 1 + O(exp(-rho / temperature)), which is 1 in float64 at the temperatures used
    here.
    """
    K, d = W.shape
    pairs = np.argwhere(~np.eye(K, dtype=bool))

    def value(W: np.ndarray, H: np.ndarray) -> float:
        return temperature * float(special.logsumexp(-differences(W, H) / temperature))

    for _ in range(40):
        P = special.softmax(-differences(W, H) / temperature)
        M = np.diag(P.sum(axis=1)) - P  # sum_e p_e g_e = sum_ki M_ki <h_k, w_i>
        X, slopes = np.vstack([W, H]), np.vstack([M.T @ H, M @ W])
        B, J, p = tangents(X), derivatives(W, H, pairs), P[tuple(pairs.T)]
        gradient = -np.einsum("ndt,nd->nt", B, slopes).ravel()
        if np.linalg.norm(gradient) < 1e-11:
            return W, H
        S = np.block([[np.zeros((K, K)), M.T], [M, np.zeros((K, K))]])
        curvature = np.einsum("ab,adt,bdu->atbu", S, B, B)
        for n in range(2 * K):
            curvature[n, :, n] -= (X[n] @ slopes[n]) * np.eye(d - 1)
        mean = p @ J
        hessian = ((J.T * p) @ J - np.outer(mean, mean)) / temperature - curvature.reshape(2 * (2 * K * (d - 1),))
        sizes, V = np.linalg.eigh(hessian)
        kept = np.abs(sizes) > 1e-11 * sizes[-1]  # rotations change nothing
        step = V[:, kept] @ ((V[:, kept].T @ -gradient) / np.abs(sizes[kept]))
        size = 1.0
        while True:
            Y = X + size * np.einsum("ndt,nt->nd", B, step.reshape(2 * K, d - 1))
            Y /= np.linalg.norm(Y, axis=1, keepdims=True)
            if value(Y[:K], Y[K:]) <= value(W, H) + 1e-15 or size < 1e-6:
                break
            size /= 2
        W, H = Y[:K], Y[K:]
    raise AssertionError(f"no minimiser found at temperature {temperature}")


def measured(c: sc.SoftmaxCode, temperatures: list[float]) -> np.ndarray:
    """log(K L) + rho / tau, (rho - m) / tau and (rho - rho(W)) / tau at the minimisers, one row per temperature."""
    W, H, rows = c.W, c.H, []
    for tau in temperatures:
        W, H = minimiser(W, H, tau)
        G = differences(W, H)
        log_loss = special.logsumexp((c.margin - G) / tau)
        rows.append((log_loss, (c.margin - G.min()) / tau, (c.margin - sc.margin(W).margin) / tau))
    return np.array(rows)


@pytest.mark.parametrize(("K", "d"), UNEVEN)
def test_minimisers_approach_the_constants_in_proportion_to_the_temperature(K, d):
    first = constants(K, d)
    assert first.rigidity != "none"
    wanted = np.array([first.loss, first.feature_margin, first.margin])
    tau = min(1e-3, first.next_gap / 20)
    found = measured(code(K, d), [8 * tau, 4 * tau, 2 * tau, tau])
    errors = np.abs(found - wanted)
    assert (errors[-1] <= 0.2 * errors[0] + 1e-8).all()  # in proportion they fall eightfold
    np.testing.assert_allclose(2 * found[-1] - found[-2], wanted, atol=5e-4)
    assert first.feature_margin > 0.1
    assert first.margin > 0.04


def test_the_margin_of_every_class_and_pair_has_its_own_constant():
    # 20 points in three dimensions: two classes carry no stress
    c, first, tau = code(20, 3), constants(20, 3), 1e-4
    W, H = minimiser(c.W, c.H, tau)
    k, j = first.pairs.T
    pairs = (c.margin - differences(W, H)[k, j]) / tau
    np.testing.assert_allclose(pairs, first.loss + np.log(first.stress), atol=5e-3)
    classes = (c.margin - sc.margin(W).margins) / tau
    stressed = first.class_stress > 0
    assert first.unstressed.tolist() == np.flatnonzero(~stressed).tolist() != []
    np.testing.assert_allclose(classes[stressed], first.class_margins[stressed], atol=5e-3)
    assert np.isnan(first.class_margins[~stressed]).all()
    assert (classes[~stressed] < first.class_margins[stressed].min() - 3).all()


@pytest.mark.parametrize(("K", "d"), EVEN)
def test_where_stabilisers_fix_their_vector_alone_nothing_is_lost_to_first_order(K, d):
    first = constants(K, d)
    assert first.loss == pytest.approx(math.log(first.contacts), abs=1e-12)
    assert first.feature_margin == pytest.approx(0, abs=1e-12)
    assert 0 <= first.margin < 1e-12
    assert first.rigidity != "none"


def test_a_transitive_code_may_still_lose_margin():
    # the rotations of the snub cube permute its vertices simply transitively
    first = constants(24, 3)
    np.testing.assert_allclose(first.class_stress, 1 / 24, rtol=1e-10)
    np.testing.assert_allclose(first.class_margins, first.margin, atol=1e-10)
    alpha = 24 * first.stress
    own = first.pairs[:, 0] == 0
    assert first.loss + alpha[own] @ np.log(first.stress[own]) == pytest.approx(0, abs=1e-10)
    assert first.margin == pytest.approx(0.04227, abs=1e-5)


@pytest.mark.parametrize(("K", "d"), UNEVEN + EVEN)
def test_the_stress_meets_the_conditions_of_largest_entropy(K, d):
    c, first = code(K, d), constants(K, d)
    assert first.stress.min() > 0
    assert first.stress.sum() == pytest.approx(1, abs=1e-14)
    assert first.residual <= 1e-10
    G = differences(c.W, c.H)
    np.testing.assert_allclose(G[tuple(first.pairs.T)], c.margin, atol=1e-12)
    assert first.contacts == np.count_nonzero(c.margin + 1e-9 > G)
    assert first.next_gap == (G[c.margin + 1e-9 < G] - c.margin).min()
    J = derivatives(c.W, c.H, first.pairs)
    assert np.abs(first.stress @ J).max() < 1e-10
    # log stress is constant plus a combination of derivatives: no balanced change of sum 0 has a slope
    changes = linalg.null_space(np.column_stack([J, np.ones(len(J))]).T, rcond=1e-9)
    np.testing.assert_allclose(changes.T @ np.log(first.stress), 0, atol=1e-9)
    assert first.loss == pytest.approx(float(special.entr(first.stress).sum()), abs=1e-13)
    assert first.feature_margin == pytest.approx(first.loss + math.log(first.stress.max()), abs=1e-13)


@pytest.mark.parametrize(("K", "d"), [(10, 3), (11, 3), (14, 3), (8, 2)])
def test_the_stress_maximises_the_entropy_among_all_stresses(K, d):
    c, first = code(K, d), constants(K, d)
    J = derivatives(c.W, c.H, first.pairs)
    E = len(J)
    balanced = np.column_stack([J, np.ones(E)]).T
    # the stress whose smallest weight is largest, then all others by changes that keep the balance
    start = optimize.linprog(
        np.append(np.zeros(E), -1.0),
        A_eq=np.column_stack([balanced, np.zeros(len(balanced))]),
        b_eq=np.append(np.zeros(J.shape[1]), 1.0),
        A_ub=np.column_stack([-np.eye(E), np.ones(E)]),
        b_ub=np.zeros(E),
    ).x[:E]
    changes = linalg.null_space(balanced, rcond=1e-9)
    assert changes.shape[1] > 0  # the stress is not the only one
    found = optimize.minimize(
        lambda t: -special.entr(start + changes @ t).sum(),
        np.zeros(changes.shape[1]),
        jac=lambda t: changes.T @ (np.log(np.maximum(start + changes @ t, 1e-300)) + 1),
        method="SLSQP",
        constraints=[{"type": "ineq", "fun": lambda t: start + changes @ t - 1e-9, "jac": lambda t: changes}],
        options={"ftol": 1e-15, "maxiter": 500},
    )
    np.testing.assert_allclose(start + changes @ found.x, first.stress, atol=1e-6)
    assert -found.fun == pytest.approx(first.loss, abs=1e-9)


@pytest.mark.parametrize(("K", "d"), UNEVEN)
def test_class_margins_are_at_least_what_the_stress_itself_gives(K, d):
    c, first = code(K, d), constants(K, d)
    for k in np.flatnonzero(first.class_stress):
        own = first.pairs[:, 0] == k
        stress = first.stress[own]
        chain = first.loss + math.log(first.class_stress[k]) - float(special.entr(stress / stress.sum()).sum())
        assert first.class_margins[k] >= chain - 1e-9
        # any feature moved from h_k bounds it from above: max_alpha <= max_j (log stress_j - <xi, w_k - w_j>)
        pull = (c.W[k] - c.W[first.pairs[own, 1]]) @ linalg.null_space(c.H[k][None])
        dual = optimize.linprog(
            np.append(np.zeros(d - 1), 1.0),
            A_ub=np.column_stack([-pull, -np.ones(len(pull))]),
            b_ub=-np.log(stress),
            bounds=(None, None),
        )
        assert first.class_margins[k] == pytest.approx(first.loss + dual.fun, abs=1e-8)
    assert first.margin == np.nanmax(first.class_margins)
    assert np.nansum(first.class_stress * first.class_margins) >= -1e-9
    assert first.margin <= first.feature_margin + 1e-9
    assert first.feature_margin <= margin_constant_bound(len(first.pairs))


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1))
def test_rotating_and_relabelling_a_code_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    c, first = code(10, 3), constants(10, 3)
    order = rng.permutation(10)
    W = c.W[order] @ linalg.qr(rng.normal(size=(3, 3)))[0]
    turned = first_order(W / np.linalg.norm(W, axis=1, keepdims=True))
    assert turned.loss == pytest.approx(first.loss, abs=1e-8)
    assert turned.feature_margin == pytest.approx(first.feature_margin, abs=1e-8)
    np.testing.assert_allclose(turned.class_margins, first.class_margins[order], atol=1e-8)
    np.testing.assert_allclose(turned.class_stress, first.class_stress[order], atol=1e-8)


def test_contacts_that_cannot_carry_stress_drop_out():
    # five of the vertices of the octahedron: of 16 contacts the 8 of the square carry stress, and nothing is rigid
    first = constants(5, 3)
    assert (first.contacts, len(first.pairs), len(first.unstressed)) == (16, 8, 1)
    assert first.loss == pytest.approx(math.log(8), abs=1e-12)
    assert first.rigidity == "none"
    # a triangle on the equator and both poles have the same margin 1, but more contacts with stress
    angles = 2 * np.pi * np.arange(3) / 3
    equator = np.column_stack([np.cos(angles), np.sin(angles), np.zeros(3)])
    bipyramid = first_order(np.vstack([equator, [[0, 0, 1], [0, 0, -1]]]))
    assert bipyramid.optimum == pytest.approx(1, abs=1e-12)
    assert bipyramid.loss == pytest.approx(math.log(12), abs=1e-12)


def test_a_code_that_its_contacts_do_not_hold_approaches_the_constants_more_slowly():
    # the numbers of docs/theory.md, T10: no theorem covers them
    found = measured(code(5, 3), [1e-2, 2e-3, 5e-4])
    np.testing.assert_allclose(found[:, 0] - math.log(8), [0.133, 0.049, 0.019], atol=1e-3)
    np.testing.assert_allclose(found[:, 2], [0.039, 0.017, 0.007], atol=1e-3)


@given(weights=st.lists(st.floats(1e-6, 1), min_size=1, max_size=40))
def test_no_probabilities_exceed_the_bound(weights):
    p = np.array(weights) / sum(weights)
    assert special.entr(p).sum() + math.log(p.max()) <= margin_constant_bound(len(p)) + 1e-12


@pytest.mark.parametrize("E", [2, 3, 24, 9900])
def test_one_large_probability_and_equal_others_attain_the_bound(E):
    x = np.linspace(0, 1, 10**5)[1:-1]  # what the others share
    values = x * np.log((1 - x) * (E - 1) / x)
    assert margin_constant_bound(E) == pytest.approx(values.max(), abs=1e-8)
    assert margin_constant_bound(E) < math.log(E)


def idle_contact(system, X) -> Stress:
    found = balance(system, X)
    positive = found.positive.copy()
    positive[0] = False
    return Stress(found.weights, positive, found.residual)


def test_contacts_wrongly_found_idle_are_noticed(monkeypatch):
    monkeypatch.setattr(asymptotics, "balance", idle_contact)
    with pytest.raises(NotComputed, match=r"1 of 60 contacts carry no stress as found, but could carry \d"):
        first_order(code(12, 3))


def test_what_is_refused():
    rng = np.random.default_rng(5)
    W = rng.normal(size=(7, 3))
    W /= np.linalg.norm(W, axis=1, keepdims=True)
    with pytest.raises(NotComputed, match=r"contacts leave a force of .* no polished local maximiser"):
        first_order(W)
    angles = 2 * np.pi * np.arange(2001) / 2001
    with pytest.raises(NotComputed, match="4002 unknowns"):
        first_order(np.column_stack([np.cos(angles), np.sin(angles)]))
    with pytest.raises(ValueError, match=r"margin must be above 0; got .* \(two rows coincide\)"):
        first_order(np.eye(3)[[0, 0, 1, 2]])
    with pytest.raises(ValueError, match=r"at least three rows of two entries or more are wanted; got shape \(2, 2\)"):
        first_order(np.array([[1.0, 0.0], [-1.0, 0.0]]))
    with pytest.raises(ValueError, match=r"of two entries or more are wanted; got shape \(3, 1\)"):
        first_order(np.array([[1.0], [-1.0], [1.0]]))
    with pytest.raises(ValueError, match="W must"):
        first_order(np.ones(3))
    with pytest.raises(ValueError, match="contacts must be an integer of at least 1; got 0"):
        margin_constant_bound(0)
