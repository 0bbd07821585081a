"""Runs of the unconstrained feature model: theory at every step, known optima, and the ways in which runs end."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ufm
from softmaxcode.certificates.loss import minimizer_margin
from tests.processes import HANG
from tests.ufm.test_objective import dense
from ufm import batch
from ufm.recording import COLUMNS
from ufm.run import Run

ROOT = Path(__file__).parents[2]
#: Tolerance of margins and cosines in double precision.
ROUNDING = 1e-12


def unit(X: np.ndarray) -> np.ndarray:
    return X / np.linalg.norm(X, axis=-1, keepdims=True)


def logit_margins(run: Run) -> np.ndarray:
    """<w_{y_i} - w_j, h_i>, infinite at j = y_i, of unit rows."""
    W, H, y = unit(run.W.astype(float)), unit(run.H.astype(float).reshape(-1, run.W.shape[1])), run.labels
    G = H @ W.T
    G = G[np.arange(len(y)), y][:, None] - G
    G[np.arange(len(y)), y] = np.inf
    return G


def equal(a: Run, b: Run) -> bool:
    """Bit for bit, except for the time."""
    same = np.array_equal(a.W, b.W) and np.array_equal(a.H, b.H) and (a.status, a.reason) == (b.status, b.reason)
    without = (run.history.drop(columns="seconds") for run in (a, b))
    return same and next(without).equals(next(without))


# Theory at every measured step


@settings(max_examples=25)
@given(
    K=st.integers(2, 9),
    d=st.integers(2, 5),
    counts=st.lists(st.integers(1, 4), min_size=9, max_size=9),
    balanced=st.booleans(),
    exponent=st.floats(-4, 1),
    seed=st.integers(0, 2**64 - 1),
    optimizer=st.sampled_from(["lbfgs", "adam", "sgd"]),
    objective=st.sampled_from(["log-cross-entropy", "cross-entropy", "hardmax"]),
    anneal=st.booleans(),
)
def test_the_loss_certifies_the_margin_at_every_step(
    K, d, counts, balanced, exponent, seed, optimizer, objective, anneal
):
    n, tau = counts[0] if balanced else counts[:K], 10.0**exponent
    options = {"optimizer": "sgd" if objective == "hardmax" else optimizer, "objective": objective}
    run = ufm.simulate(
        K,
        d,
        n,
        tau,
        seed=seed,
        steps=12,
        record_every=1,
        anneal=30 * tau if anneal else None,
        progress=False,
        **options,
    )
    history = run.history
    assert list(history.columns) == list(COLUMNS) and not history.isna().any(axis=None)
    assert history.step.tolist() == list(range(len(history)))
    assert (history.certified_margin <= history.feature_margin + ROUNDING).all()
    assert (history.feature_margin <= history.GNC2 + ROUNDING).all()
    assert (history.GNC2 <= run.best_known + 1e-9).all()
    assert (history.GNC1 >= 0).all() and run.violations == 0
    np.testing.assert_allclose(np.linalg.norm(run.W, axis=1), 1, rtol=1e-14)
    np.testing.assert_allclose(np.linalg.norm(run.H.reshape(-1, d), axis=1), 1, rtol=1e-14)


@pytest.mark.parametrize("n", [2, [1, 3, 2, 2, 1]], ids=str)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_what_is_measured(n, dtype, nearest):
    run = ufm.simulate(5, 3, n, 0.2, seed=4, steps=60, optimizer="adam", dtype=dtype)
    assert run.W.dtype == run.H.dtype == dtype
    assert run.H.shape == ((5, 2, 3) if n == 2 else (9, 3))
    last, G = run.final, logit_margins(run)
    W, H = unit(run.W.astype(float)), unit(run.H.astype(float).reshape(-1, 3))
    loss = np.log1p(np.exp(-G / 0.2).sum(axis=1)).mean()
    assert last["loss"] == pytest.approx(loss, rel=1e-12)
    assert last["log_loss"] == pytest.approx(np.log(loss), rel=1e-12)
    assert last["feature_margin"] == pytest.approx(G.min(), abs=1e-14)
    certified = -0.2 * np.log(np.expm1(len(G) * loss))
    assert last["certified_margin"] == pytest.approx(max(-2, certified), abs=1e-12)
    assert last["gap"] == pytest.approx(1 - last["certified_margin"] / run.best_known, abs=1e-15)
    assert last["GNC2"] == pytest.approx(min(math.sqrt(nearest(W, k)[0]) for k in range(5)), abs=1e-12)
    means = np.array([H[run.labels == k].mean(axis=0) for k in range(5)])
    assert last["GNC3"] == pytest.approx(np.mean(1 - np.sum(unit(means) * W, axis=1)), abs=1e-12)
    within = np.mean([np.outer(x, x) for x in H - means[run.labels]], axis=0)
    between = np.cov(means.T, ddof=0)
    assert last["GNC1"] == pytest.approx(np.trace(within @ np.linalg.pinv(between)) / 5, rel=1e-9)


def test_violations_are_seen():
    run = ufm.simulate(5, 3, 1, 0.2, steps=2)
    for column, below in (("certified_margin", "feature_margin"), ("feature_margin", "GNC2")):
        broken = run.history.copy()
        broken.loc[1, column] = broken.loc[1, below] + 1e-9
        assert Run(run.settings, run.W, run.H, broken, run.status, run.reason).violations == 1


# Known optima


@pytest.mark.parametrize(
    ("K", "d", "margin", "seeds"),
    [
        *((K, d, K / (K - 1), 1) for K, d in [(2, 2), (3, 3), (3, 4), (5, 4), (6, 9)]),
        *((K, 2, 1 - math.cos(2 * math.pi / K), 8) for K in (4, 5, 6)),
        (6, 3, 1.0, 1),
        (8, 4, 1.0, 4),
        (12, 3, 1 - 1 / math.sqrt(5), 6),
    ],
)
@pytest.mark.parametrize("n", [1, 5])
def test_known_optima_are_reached_from_random_starts(K, d, margin, seeds, n):
    tau = 0.01
    runs = ufm.simulate_batch(K, d, n, [tau], range(seeds), steps=1500, record_every=1500)
    best = max(runs, key=lambda run: run.margin)
    # these codes are fixed by symmetry, so that T10's term of first order in tau is 0
    assert best.margin == pytest.approx(margin, abs=1e-6)
    assert best.status == "stationary" and best.violations == 0
    assert best.minimizer_bound == pytest.approx(minimizer_margin(K, margin, tau), abs=1e-9)
    assert best.margin >= best.minimizer_bound and best.row()["meets_bound"] is True
    # on a circle rows cannot pass each other, and a feature may stay among those of another class
    assert all(run.final["GNC1"] < 1e-6 for run in (runs if d > 2 else [best]))


@pytest.mark.parametrize(("optimizer", "steps"), [("adam", 1000), ("sgd", 1000)])
def test_first_order_methods_reach_the_simplex_and_the_octahedron(optimizer, steps):
    runs = [ufm.simulate(K, d, 3, 0.02, optimizer=optimizer, steps=steps) for K, d in [(4, 3), (6, 3)]]
    for run, margin in zip(runs, (4 / 3, 1), strict=True):
        assert run.margin == pytest.approx(margin, abs=1e-6)
        assert run.final["GNC1"] < 1e-6 and run.status == "steps"


def test_hardmax_by_subgradients():
    run = ufm.simulate(4, 3, 1, objective="hardmax", steps=4000)
    assert run.margin == pytest.approx(4 / 3, abs=1e-2)  # a subgradient method drifts
    assert run.final["feature_margin"] == pytest.approx(logit_margins(run).min(), abs=1e-13)
    assert math.isnan(run.minimizer_bound) and run.row()["meets_bound"] is None
    assert "is about cross-entropy on the sphere" in run.compare(align=False).verdict


def test_a_tolerance_ends_a_run_by_its_gap():
    run = ufm.simulate(3, 2, 1, 1e-3, tolerance=0.02, record_every=1)
    assert run.status == "gap" and run.final["gap"] <= 0.02 < run.history.gap.iloc[-2]
    assert run.final["certified_margin"] >= 0.98 * 1.5 and run.margin >= 0.98 * 1.5
    assert f"after {run.history.step.iloc[-1]} steps" in run.reason


# Global minimisers, T6 (c)


@pytest.mark.parametrize("n", [1, [1, 2, 3, 2, 1], [1, 1, 1, 1, 9]], ids=str)
@pytest.mark.parametrize("tau", [0.3, 0.1, 0.02])
def test_the_best_of_many_seeds_meets_the_bound_of_a_global_minimiser(n, tau):
    runs = ufm.simulate_batch(5, 3, n, [tau], range(8), steps=1000, record_every=1000)
    lowest = min(runs, key=lambda run: run.final["log_loss"])  # the global minimiser, in all likelihood
    counts = np.array([n] * 5 if isinstance(n, int) else n)
    bound = minimizer_margin(5, 1.0, tau, imbalance=counts.mean() / counts.min())
    assert lowest.minimizer_bound == pytest.approx(bound, abs=1e-12)
    assert lowest.final["feature_margin"] >= bound - ROUNDING
    # its two steps: the class where m occurs carries at least n_min / N of the loss, and the optimum is no worse
    loss, m = math.exp(lowest.final["log_loss"]), lowest.final["feature_margin"]
    assert loss >= counts.min() / counts.sum() * math.log1p(math.exp(-m / tau)) * (1 - 1e-9)
    assert loss <= math.log1p(4 * math.exp(-1 / tau)) * (1 + 1e-9)


def test_a_run_below_the_bound_is_called_a_local_minimum():
    # on a circle many seeds stop where rows cannot pass each other; 60 steps are too few for some
    runs = [*ufm.simulate_batch(3, 2, 5, [0.01], range(4)), *ufm.simulate_batch(5, 2, 5, [0.01], range(4), steps=60)]
    seen = set()
    for run in runs:
        verdict, bound = run.compare(align=False).verdict, minimizer_margin(run.settings.K, run.best_known, 0.01)
        below = run.margin < bound
        assert run.minimizer_bound == bound and run.row()["meets_bound"] is not below
        assert verdict.endswith("of every global minimiser (T6 (c))")
        found = "a local minimum" if run.status == "stationary" else "no global minimiser, and not stationary"
        seen.add(found if below else "met")
        assert verdict.startswith(
            f"{found}: margin {run.margin:.6f} is below" if below else f"margin {run.margin:.6f}: at"
        )
    assert {"a local minimum", "no global minimiser, and not stationary"} <= seen


# L-BFGS


@pytest.mark.parametrize("n", [1, [1, 2, 3, 2, 1, 1, 4]], ids=str)
@pytest.mark.parametrize("tau", [0.5, 0.05, 0.01])
def test_stationary_is_stationary(n, tau):
    run = ufm.simulate(7, 3, n, tau, seed=2)
    assert run.status == "stationary" and "no step gains anything" in run.reason
    W, H = (torch.tensor(X.reshape(-1, 3)).requires_grad_() for X in (run.W, run.H))
    value = dense("log-cross-entropy", W, H, torch.tensor(run.labels), tau)
    tangent = [
        g - (g * X).sum(1, keepdim=True) * X for g, X in zip(torch.autograd.grad(value, (W, H)), (W, H), strict=True)
    ]
    norm = math.sqrt(sum(float(g.detach().square().sum()) for g in tangent))
    # a step along g gains |g|^2 / (2 curvature), with curvatures of order 1 / tau; rounding hides 1e-15 of the value
    assert norm < math.sqrt(1e-13 / tau)


def test_objectives_fall_at_every_step():
    run = ufm.simulate(9, 3, 2, 0.05, seed=1, steps=200, record_every=1)
    assert (np.diff(run.history.log_loss) <= 1e-12).all() and len(run.history) > 20


# The free model


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam", "sgd"])
def test_the_free_model_against_gradient_descent(optimizer):
    K, d, n, decay, tau = 4, 3, 2, 0.01, 1.0
    rate = {"learning_rate": 0.05 if optimizer == "adam" else 0.5} if optimizer != "lbfgs" else {}
    run = ufm.simulate(K, d, n, tau, weight_decay=decay, optimizer=optimizer, steps=3000, record_every=3000, **rate)
    rng = np.random.default_rng(7)
    W, H = rng.standard_normal((K, d)), rng.standard_normal((K * n, d))
    Y = np.eye(K)[np.repeat(np.arange(K), n)]
    for _ in range(20_000):  # cross-entropy and its gradient, written out
        P = np.exp(H @ W.T / tau)
        P = (P / P.sum(axis=1, keepdims=True) - Y) / (K * n * tau)
        W, H = W - 0.5 * (P.T @ H + decay * W), H - 0.5 * (P @ W + decay * H)

    def norms(W: np.ndarray, H: np.ndarray) -> np.ndarray:
        return np.concatenate([np.linalg.norm(W, axis=1), np.linalg.norm(H.reshape(-1, d), axis=1)])

    # the minimiser of the free model with K <= d + 1 is unique up to rotation: the simplex, of equal norms
    np.testing.assert_allclose(norms(run.W, run.H), norms(W, H), rtol=1e-4)
    np.testing.assert_allclose(run.W @ run.W.T, W @ W.T, atol=1e-3)
    assert run.margin == pytest.approx(4 / 3, abs=1e-4)
    assert run.history.certified_margin.isna().all() and run.violations == 0 and math.isnan(run.minimizer_bound)
    P = np.exp(run.H.reshape(-1, d) @ run.W.T)
    assert run.final["loss"] == pytest.approx(-np.mean(np.log((P / P.sum(axis=1, keepdims=True))[Y == 1])), rel=1e-10)


def test_decay_to_nothing_is_said():
    run = ufm.simulate(4, 3, 1, 1.0, weight_decay=100.0, steps=5000, record_every=1)
    assert run.status in ("stationary", "diverged")
    if run.status == "diverged":
        assert "a row of W or H is zero" in run.reason
    assert np.isfinite(run.W).all() and np.linalg.norm(run.W, axis=1).min() > 0


# Seeds and batches

OPTIONS = [
    {"optimizer": "lbfgs", "steps": 60, "record_every": 7},
    {"optimizer": "lbfgs", "anneal": 0.5, "steps": 60, "record_every": 7},
    {"optimizer": "adam", "steps": 40, "record_every": 7},
    {"optimizer": "sgd", "anneal": 0.5, "steps": 40, "record_every": 7},
    {"objective": "hardmax", "steps": 40, "record_every": 7},
    {"weight_decay": 1e-3, "optimizer": "adam", "steps": 40, "record_every": 7},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_one_seed_is_one_run_to_the_bit(options):
    first, second, other = (ufm.simulate(7, 3, 2, 0.05, seed=seed, **options) for seed in (5, 5, 6))
    assert equal(first, second) and not np.array_equal(first.W, other.W)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_batch_is_its_runs_in_order(options):
    taus, seeds = [0.2, 0.05], [3, 0, 8]
    runs = ufm.simulate_batch(7, 3, 2, taus, seeds, **options)
    assert [(run.settings.temperature, run.settings.seed) for run in runs] == [(t, s) for t in taus for s in seeds]
    for run in runs:
        alone = ufm.simulate(7, 3, 2, run.settings.temperature, seed=run.settings.seed, **options)
        # products of a batch may round differently; a few dozen steps do not amplify that
        np.testing.assert_allclose(run.W, alone.W, rtol=0, atol=1e-8)
        np.testing.assert_allclose(run.H, alone.H, rtol=0, atol=1e-8)
        assert run.history.step.tolist() == alone.history.step.tolist()
        assert run.status == alone.status


# Divergence


@pytest.mark.parametrize("rate", [1e200, 1e308])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_run_that_diverges_stops_and_keeps_what_it_had(optimizer, dtype, rate):
    run = ufm.simulate(5, 2, 2, 0.05, optimizer=optimizer, learning_rate=rate, dtype=dtype, steps=20, record_every=3)
    assert run.status == "diverged"
    assert run.reason.startswith("diverged at step ") and run.reason.endswith("W and H are those of step 0")
    assert run.history.step.tolist() == [0]
    start = ufm.simulate(5, 2, 2, 0.05, optimizer=optimizer, dtype=dtype, steps=1)
    assert run.history.GNC2[0] == start.history.GNC2[0]
    np.testing.assert_allclose(np.linalg.norm(run.W, axis=1), 1, rtol=1e-6)
    assert run.row()["status"] == "diverged" and "diverged at step" in str(run.compare(align=False))


def test_the_others_of_a_batch_go_on(monkeypatch):
    options = {"optimizer": "adam", "steps": 30, "record_every": 5}
    wanted = ufm.simulate_batch(5, 2, 1, [0.05], range(3), **options)

    class Spoilt:
        """Adam, whose second run gets a NaN after step 12."""

        def __init__(self, inner: batch.Stepper) -> None:
            self.inner = inner

        def __getattr__(self, name: str) -> object:
            return getattr(self.inner, name)

        def step(self, number: int) -> torch.Tensor:
            if number == 12:
                with torch.no_grad():
                    self.inner.model.W[1, 2, 0] = math.nan  # type: ignore[attr-defined]
            return self.inner.step(number)

    make = batch.stepper
    monkeypatch.setattr(batch, "stepper", lambda *given: Spoilt(make(*given)))
    found = ufm.simulate_batch(5, 2, 1, [0.05], range(3), **options)
    assert [run.status for run in found] == ["steps", "diverged", "steps"]
    assert equal(found[0], wanted[0]) and equal(found[2], wanted[2])
    assert found[1].reason == "diverged at step 12: the objective is nan; W and H are those of step 10"
    assert found[1].history.step.tolist() == [0, 5, 10]
    assert found[1].history.drop(columns="seconds").equals(wanted[1].history.drop(columns="seconds")[:3])
    assert np.isfinite(found[1].W).all()


# Memory


@pytest.mark.processes
@pytest.mark.slow
def test_ten_thousand_classes_in_two_gigabytes():
    code = (
        "import ufm; from benchmarks.memory import resident_peak\n"
        "run = ufm.simulate(K=10_000, d=16, n=1, steps=1)\n"
        "print(len(run.history), run.settings.optimizer, resident_peak())"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=HANG, check=True
    )
    rows, optimizer, peak = ran.stdout.split()
    assert (rows, optimizer) == ("2", "adam") and int(peak) < 2e9


def test_a_run_that_cannot_move_on_a_slope_is_stalled_and_no_local_minimum():
    """The gradient of L underflows here long before the margin is near its limit, and that of tau log L does not."""
    run = ufm.simulate(12, 3, 1, 1e-4, objective="cross-entropy", optimizer="lbfgs", steps=300, record_every=300)
    assert run.status == "stalled" and "slope" in run.reason
    assert run.margin < run.minimizer_bound
    assert "a local minimum" not in run.compare(align=False).verdict


def test_tiny_temperatures_move():
    run = ufm.simulate(7, 3, 1, 1e-12, steps=300, record_every=300)
    assert run.status == "steps" and run.margin > 0.3


def test_every_run_of_a_batch_is_measured_where_it_comes_to_rest():
    runs = ufm.simulate_batch(7, 3, 1, [0.1], range(4), steps=3000, record_every=3000)
    assert {run.status for run in runs} == {"stationary"}
    steps = [int(run.final["step"]) for run in runs]
    assert len(set(steps)) > 1 and all(f"at step {step}" in run.reason for step, run in zip(steps, runs, strict=True))


def test_bounds_that_say_nothing_are_not_met():
    run = ufm.simulate(20, 3, 1, 1.0, steps=5)
    assert run.minimizer_bound < 0 and run.meets_bound is None
    comparison = run.compare(align=False)
    assert "proves nothing" in comparison.verdict
    assert comparison.limits.set_index("limit").loc["variability within classes (GNC1)", "met"] is None


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: ufm.sweep(5, 2, 0.1, 1, seed=3), "seed is not an option here"),
        (lambda: ufm.simulate_batch(5, 2, 1, [0.1], [0], optimiser="adam"), "optimiser is not an option here"),
        (lambda: ufm.simulate(5, 2, 1, [0.1, 0.2]), "temperature must be one number, for several call"),
    ],
)
def test_misplaced_options_are_refused_in_one_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_a_run_shows_itself_in_one_line():
    run = ufm.simulate(5, 2, 1, 0.1, steps=3)
    assert repr(run).startswith("Run(K=5, d=2, n=1, temperature=0.1, seed=0: steps, margin=")
