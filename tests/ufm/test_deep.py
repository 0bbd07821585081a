"""The deep unconstrained feature model: its gradient, its path, its ranks and costs, and its codes."""

from __future__ import annotations

import itertools
import math

import mpmath
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

import softmaxcode as sc
from benchmarks import deep as benchmark
from ufm.deep import RECORDS, simulate_deep
from ufm.low_rank import code_costs, low_rank_code, ranks, schatten_cost


def starting_weights(K, depth, width, scale, seed):
    """The documented start: normal entries over the root of the number of columns, W_1 first."""
    generator = torch.Generator().manual_seed(seed)
    dims = [K, *[width] * (depth - 1), K]
    shapes = [(dims[i + 1], dims[i]) for i in range(depth)]
    return [
        torch.randn(*shape, generator=generator, dtype=torch.float64) * scale / math.sqrt(shape[1]) for shape in shapes
    ]


def product(weights):
    Z = weights[0]
    for W in weights[1:]:
        Z = W @ Z
    return Z


def log_loss(Z):
    """Log of the mean cross-entropy of logits with sample k in column k, with as many digits as necessary."""
    with mpmath.workdps(60):
        K = len(Z)
        losses = [
            mpmath.log1p(mpmath.fsum(mpmath.exp(mpmath.mpf(Z[j, k]) - mpmath.mpf(Z[k, k])) for j in range(K) if j != k))
            for k in range(K)
        ]
        return float(mpmath.log(mpmath.fsum(losses) / K))


def margin(Z):
    K = len(Z)
    return min(Z[k, k] - Z[j, k] for k in range(K) for j in range(K) if j != k)


def last_rows(run):
    return run.history.groupby("seed").tail(1)


def imbalance(weights):
    """Norm of all W_{l+1}' W_{l+1} - W_l W_l' together, for one run."""
    return [W @ W.T - V.T @ V for W, V in itertools.pairwise(weights)]


# Records


@pytest.mark.parametrize(("K", "depth", "width", "steps"), [(5, 2, 5, 40), (4, 3, 7, 20), (6, 5, 3, 300)])
def test_history_is_that_of_the_weights(K, depth, width, steps):
    run = simulate_deep(K, depth, width, seeds=2, steps=steps, scale=0.8)
    assert [tuple(W.shape) for W in run.weights] == [(2, width, K), *[(2, width, width)] * (depth - 2), (2, K, width)]
    for i, row in enumerate(last_rows(run).itertuples()):
        Z = product([W[i] for W in run.weights]).numpy()
        s = np.linalg.svd(Z, compute_uv=False)
        p = s[s > 0] / s.sum()
        assert np.allclose(run.logits[i].numpy(), Z, rtol=1e-12, atol=1e-12 * abs(Z).max())
        assert np.allclose(run.singular_values[i].numpy(), s, rtol=1e-10, atol=1e-12 * s[0])
        assert row.log_loss == pytest.approx(log_loss(Z), rel=1e-11)
        assert row.margin == pytest.approx(margin(Z), rel=1e-11)
        assert row.effective_rank == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-9)
        assert row.stable_rank == pytest.approx((np.linalg.norm(Z, "fro") / np.linalg.norm(Z, 2)) ** 2, rel=1e-9)
        assert row.rank == run.rank()[i] == (s > 0.01 * s[0]).sum()
        W = [W[i].clone().requires_grad_() for W in run.weights]
        G = np.exp(Z - Z.max(axis=0)) / np.exp(Z - Z.max(axis=0)).sum(axis=0)  # softmax
        G[np.arange(K), np.arange(K)] = 0
        G -= np.diag(G.sum(axis=0))  # softmax minus one, without cancellation
        (product(W) * torch.from_numpy(G)).sum().backward()
        theta = torch.cat([w.detach().flatten() for w in W])
        slope = -torch.cat([w.grad.flatten() for w in W])
        assert row.alignment == pytest.approx((theta @ slope / theta.norm() / slope.norm()).item(), rel=1e-9)
        if margin(Z) > 0:
            assert row.cost == pytest.approx(((s / margin(Z)) ** (2 / depth)).sum(), rel=1e-6)
        else:
            assert math.isnan(row.cost)


def test_history_has_the_start_the_end_and_every_step_asked_for():
    run = simulate_deep(3, 2, seed=4, seeds=2, steps=25, record_every=10)
    assert run.seeds == (4, 5)
    assert run.history.seed.tolist() == [4] * 4 + [5] * 4
    assert run.history.step.tolist() == [0, 10, 20, 25] * 2
    long = simulate_deep(3, 2, steps=1003).history.step
    assert len(long) <= 1.3 * RECORDS and long.iloc[[0, -1]].tolist() == [0, 1003]


def test_it_starts_as_documented_and_each_seed_by_itself():
    run = simulate_deep(4, 3, 6, seed=7, seeds=3, steps=20, scale=0.7, record_every=1)
    for i in range(3):
        W = starting_weights(4, 3, 6, 0.7, 7 + i)
        first = run.history[(run.history.seed == 7 + i) & (run.history.step == 0)]
        assert first.log_loss.item() == pytest.approx(log_loss(product(W).numpy()), rel=1e-13)
        alone = simulate_deep(4, 3, 6, seed=7 + i, steps=20, scale=0.7)
        assert torch.allclose(alone.logits[0], run.logits[i], rtol=1e-9)
    again = simulate_deep(4, 3, 6, seed=7, seeds=3, steps=20, scale=0.7)
    assert torch.equal(again.logits, run.logits)


# The path


@pytest.mark.parametrize(("depth", "width", "scale"), [(2, 4, 1.0), (3, 4, 0.5), (4, 6, 3.0)])
def test_the_first_move_is_along_the_gradient_of_the_log_loss(depth, width, scale):
    K = 4
    W = [w.requires_grad_() for w in starting_weights(K, depth, width, scale, 1)]
    torch.nn.functional.cross_entropy(product(W).T, torch.arange(K)).log().backward()
    gradient = torch.cat([start.grad.flatten() for start in W])
    for steps in range(1, 30):  # until one is not turned down
        run = simulate_deep(K, depth, width, steps=steps, scale=scale, seed=1)
        moved = torch.cat([(w[0] - start.detach()).flatten() for w, start in zip(run.weights, W, strict=True)])
        if moved.norm() > 1e-9:
            break
    assert (moved / moved.norm() + gradient / gradient.norm()).norm() < 1e-6


@pytest.mark.parametrize(("K", "depth"), [(3, 2), (3, 4)])
def test_the_path_is_that_of_gradient_flow_of_the_loss(K, depth):
    """Flow of the loss itself, integrated until the loss is that of the run, ends at the same weights."""
    start = starting_weights(K, depth, K, 1.0, 0)
    shapes = [tuple(W.shape) for W in start]

    def split(theta):
        sizes = np.cumsum([math.prod(shape) for shape in shapes])[:-1]
        return [part.reshape(shape) for part, shape in zip(np.split(theta, sizes), shapes, strict=True)]

    def loss_and_slope(theta):
        W = [torch.tensor(part, requires_grad=True) for part in split(theta)]
        loss = torch.nn.functional.cross_entropy(product(W).T, torch.arange(K))
        loss.backward()
        return loss.item(), -np.concatenate([part.grad.numpy().ravel() for part in W])

    distances = []
    for tolerance in (0.08, 0.02):
        history = simulate_deep(K, depth, steps=round(20 / tolerance), tolerance=tolerance, record_every=1).history
        run = simulate_deep(K, depth, steps=int(history.step[history.log_loss < -4].iloc[0]), tolerance=tolerance)
        end = last_rows(run).log_loss.item()

        def reached(t, theta, end=end):
            return math.log(loss_and_slope(theta)[0]) - end

        reached.terminal = True
        theta = np.concatenate([W.numpy().ravel() for W in start])
        flow = solve_ivp(
            lambda t, x: loss_and_slope(x)[1], (0, 1e9), theta, "LSODA", rtol=1e-6, atol=1e-8, events=reached
        )
        assert flow.status == 1
        ours = np.concatenate([W[0].numpy().ravel() for W in run.weights])
        distances.append(np.linalg.norm(ours - flow.y[:, -1]) / np.linalg.norm(ours))
    assert distances[1] < 0.01 and distances[1] < 0.5 * distances[0]


def test_what_flow_conserves_is_conserved_the_better_the_shorter_the_steps():
    drifts = []
    for tolerance in (0.2, 0.02):
        run = simulate_deep(4, 4, steps=round(40 / tolerance), tolerance=tolerance)
        before = imbalance(starting_weights(4, 4, 4, 1.0, 0))
        after = imbalance([W[0] for W in run.weights])
        drifts.append(max(float((a - b).norm()) for a, b in zip(after, before, strict=True)))
        assert drifts[-1] < 0.2 * float(run.weights[0].norm()) ** 2
    assert drifts[1] < 0.5 * drifts[0]


def test_the_log_loss_falls_at_every_step_and_far_below_what_a_float_can_hold():
    history = simulate_deep(5, 3, seeds=3, steps=1500, record_every=1).history
    for _, each in history.groupby("seed"):
        assert (np.diff(each.log_loss) <= 1e-12).all()
        assert each.log_loss.iloc[-1] < -800


# Ranks and costs


@given(st.integers(2, 7), st.integers(0, 2**31))
def test_no_logits_of_margin_one_have_a_smaller_nuclear_norm_than_the_simplex(K, seed):
    Z = np.random.default_rng(seed).standard_normal((K, K))
    Z[np.arange(K), np.arange(K)] = Z.max(axis=0) + np.random.default_rng(seed + 1).random(K) + 0.01
    s = torch.linalg.svdvals(torch.tensor(Z))[None]
    assert schatten_cost(s, torch.tensor([margin(Z)]), 2).item() >= (K - 1) * (1 - 1e-12)


@given(st.integers(2, 5), st.integers(2, 5), st.integers(0, 2**31))
def test_no_weights_of_given_logits_are_smaller_than_the_cost_says(K, depth, seed):
    rng = np.random.default_rng(seed)
    weights = [rng.standard_normal((K, K)) for _ in range(depth)]
    s = np.linalg.svd(product(weights), compute_uv=False)
    cost = schatten_cost(torch.tensor(s)[None], torch.ones(1), depth).item()
    assert sum((W**2).sum() for W in weights) >= depth * cost * (1 - 1e-12)
    balanced = [np.diag(s ** (1 / depth)) for _ in range(depth)]
    assert sum((W**2).sum() for W in balanced) == pytest.approx(depth * cost, rel=1e-12)


def test_logits_without_a_margin_have_no_cost():
    cost = schatten_cost(torch.ones(3, 2), torch.tensor([0.0, -1.0, 1.0]), 3)
    assert torch.isnan(cost).tolist() == [True, True, False]


@given(st.integers(1, 6), st.integers(1, 6))
def test_equal_singular_values_have_every_rank_the_same(r, more):
    s = torch.cat([torch.full((r,), 3.0), torch.zeros(more)])[None].double()
    found = ranks(s)
    assert found["rank"].item() == r
    assert found["effective_rank"].item() == pytest.approx(r) and found["stable_rank"].item() == pytest.approx(r)


def test_rank_counts_by_the_threshold_asked_for():
    s = torch.tensor([[10.0, 5.0, 1.0, 0.05]])
    assert [ranks(s, t)["rank"].item() for t in (0, 0.01, 0.09, 0.11, 0.6)] == [4, 3, 3, 2, 1]


@pytest.mark.parametrize("depth", [2, 3, 7])
def test_costs_of_tight_frames_are_those_of_the_formula(depth):
    def formula(K, r, rho):
        return r * (K / (r * rho)) ** (2 / depth)

    costs = code_costs(6, depth)
    assert list(costs) == [2, 3, 4, 5]
    assert costs[2] == pytest.approx(formula(6, 2, 1 - math.cos(2 * math.pi / 6)), rel=1e-9)
    assert costs[3] == pytest.approx(formula(6, 3, 1.0), rel=1e-9)  # octahedron
    assert costs[5] == pytest.approx(5, rel=1e-9)  # simplex
    assert code_costs(2, depth) == pytest.approx({1: 1.0})
    assert code_costs(12, depth)[3] == pytest.approx(formula(12, 3, 1 - 1 / math.sqrt(5)), rel=1e-9)  # icosahedron


# Effects of depth


def test_depth_two_drifts_to_the_simplex():
    run = simulate_deep(5, 2, seeds=3, steps=2000)
    end = last_rows(run)
    assert (end.cost >= 4).all() and (end.cost < 4.1).all() and (end.alignment > 0.99).all()
    assert run.rank().tolist() == [4, 4, 4]
    for i in range(3):
        code = run.code(i)
        assert code.margin_ratio == pytest.approx(1, abs=0.05) and code.gnc3 < 1e-2 and code.norm_spread < 0.05


def test_deeper_models_end_at_lower_rank():
    means = [last_rows(simulate_deep(8, depth, seeds=4, steps=800)).effective_rank.mean() for depth in (2, 4, 8)]
    assert means[0] > means[1] > means[2]


def test_a_bottleneck_bounds_the_rank():
    run = simulate_deep(6, 3, 2, steps=300)
    assert run.rank(1e-9).tolist() == [2]
    stuck = simulate_deep(4, 2, 1, steps=300)  # rank 1 separates no more than two classes
    assert stuck.rank(1e-9).tolist() == [1] and last_rows(stuck).margin.item() <= 0
    assert math.isnan(stuck.code().margin_ratio)


# Codes


@pytest.mark.parametrize(("K", "r"), [(5, 2), (6, 3), (12, 3), (24, 4)])
def test_a_code_is_read_off_its_logits(K, r):
    W = sc.best_known(K, r).W
    turned = np.linalg.qr(np.random.default_rng(0).standard_normal((K, K)))[0]
    noise = 1e-3 * turned[:, :1] @ turned[:, 1:2].T
    code = low_rank_code(7 * W @ W.T, r)
    assert code.W.shape == code.H.shape == (K, r)
    assert np.allclose(code.W @ code.H.T, 7 * W @ W.T, atol=1e-12)
    assert code.margin == pytest.approx(sc.margin(W).margin, rel=1e-9) and code.margin_ratio == pytest.approx(1)
    assert abs(code.gnc3) < 1e-12 and code.norm_spread < 1e-9
    near = low_rank_code(7 * W @ W.T + noise, r)
    assert near.margin_ratio == pytest.approx(1, abs=1e-2) and 0 < near.norm_spread < 1e-2


def test_figures_of_a_code_follow_their_definitions():
    rng = np.random.default_rng(3)
    Z = rng.standard_normal((5, 5))
    code = low_rank_code(Z, 3)
    unit = code.W / np.linalg.norm(code.W, axis=1, keepdims=True)
    cosines = [w @ h / np.linalg.norm(w) / np.linalg.norm(h) for w, h in zip(code.W, code.H, strict=True)]
    assert code.margin == pytest.approx(sc.margin(unit).margin, abs=1e-12)
    assert code.best_margin == sc.best_known(5, 3).margin
    assert code.gnc3 == pytest.approx(1 - np.mean(cosines))
    norms = np.sqrt((code.W**2).sum(axis=1))
    assert code.norm_spread == pytest.approx(norms.std() / norms.mean())
    U, s, Vt = np.linalg.svd(Z)
    assert np.allclose(code.W @ code.H.T, U[:, :3] * s[:3] @ Vt[:3])


# Bad input


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"K": 1}, "K must be an integer of at least 2; got 1"),
        ({"depth": 1}, "depth must be an integer of at least 2; got 1"),
        ({"depth": 2.5}, "depth must be an integer of at least 2; got 2.5"),
        ({"width": 0}, "width must be an integer of at least 1; got 0"),
        ({"seed": -1}, "seed must be an integer of at least 0; got -1"),
        ({"seeds": 0}, "seeds must be an integer of at least 1; got 0"),
        ({"steps": 0}, "steps must be an integer of at least 1; got 0"),
        ({"record_every": 0}, "record_every must be an integer of at least 1; got 0"),
        ({"scale": 0}, "scale must be a finite number above 0; got 0"),
        ({"scale": math.nan}, "scale must be a finite number above 0; got nan"),
        ({"scale": math.inf}, "scale must be a finite number above 0; got inf"),
        ({"scale": "1"}, "scale must be a finite number above 0; got '1'"),
        ({"tolerance": 1}, "tolerance must be a number between 0 and 1, neither included; got 1"),
        ({"tolerance": True}, "tolerance must be a number between 0 and 1, neither included; got True"),
        ({"scale": 1e150}, "scale 1e.150 is too large at depth 3"),
        ({"scale": 1e-200}, "scale 1e-200 is too small at depth 3"),
    ],
)
def test_bad_input_is_one_sentence(wrong, message):
    with pytest.raises(ValueError, match=message):
        simulate_deep(**{"K": 4, "depth": 3} | wrong)


def test_bad_input_to_what_reads_a_run():
    run = simulate_deep(4, 2, steps=5)
    with pytest.raises(ValueError, match="threshold must be a number from 0 to below 1; got 1"):
        run.rank(1)
    with pytest.raises(ValueError, match="r must be an integer of at least 1; got 0"):
        run.code(0, 0)
    with pytest.raises(ValueError, match="r must be at most K = 4; got 5"):
        run.code(0, 5)
    with pytest.raises(ValueError, match="K must be an integer of at least 2; got 1"):
        code_costs(1, 3)
    with pytest.raises(ValueError, match="depth must be an integer of at least 2; got 1"):
        code_costs(5, 1)


@pytest.mark.parametrize(("scale", "depth"), [(1e20, 3), (1e-20, 2), (30.0, 6)])
def test_runs_from_very_large_or_small_starts_stay_finite(scale, depth):
    run = simulate_deep(4, depth, steps=200, scale=scale)
    assert all(torch.isfinite(W).all() for W in run.weights)
    assert np.isfinite(run.history.log_loss).all()


# The document


def test_the_parts_of_the_page_are_written_with_its_figure(tmp_path, monkeypatch, capsys, parts_of):
    cases = tuple(benchmark.Case(4, depth, 4) for depth in (2, 3))
    monkeypatch.setattr(benchmark, "QUICK", benchmark.Plan(cases, cases[1:], cases[:1], seeds=2, steps=120))
    monkeypatch.setattr(benchmark, "PREDICTED_K", (4,))
    path = tmp_path / "docs" / "deep.md"
    benchmark.main(["--quick", "--write", str(path)])
    made = parts_of(path)
    printed = capsys.readouterr().out
    assert tuple(made) == benchmark.PAGE.parts and all(part in printed for part in made.values())
    assert made["made"].startswith("- `python -m benchmarks.deep --quick`, ")
    assert [line[:13] for line in made["depth"].splitlines()[2:]] == ["| 4   |   2 |", "| 4   |   3 |"]
    assert (tmp_path / "docs" / "images" / "deep.png").read_bytes().startswith(b"\x89PNG")


def test_the_rank_appears_where_it_stays():
    history = pd.DataFrame({"rank": [3, 2, 3, 2, 2], "log_loss": [0.0, -1.0, -2.0, -3.0, -4.0]})
    assert benchmark.appearance(history) == -3.0
    assert benchmark.appearance(history.iloc[3:]) == -3.0


def test_runs_are_counted_by_how_they_compare_with_the_prediction():
    """At (6, 4) the rank 3 at cost 3 sqrt(2) is the cheapest; runs of depth 2 and those not separated do not count."""

    def measured(depth, *rows):
        final = pd.DataFrame(rows, columns=["rank", "cost", "margin_ratio", "margin"])
        return benchmark.MeasuredDepth(benchmark.Case(6, depth, 6), None, final)

    deep = measured(4, (3, 4.0, 0.96, 1.0), (4, 5.0, 0.9, 1.0), (2, 5.0, 0.5, 1.0), (2, 5.0, 0.5, -1.0))
    found = benchmark.counts([measured(2, (5, 5.0, 1.0, 1.0)), deep])
    assert found.number.tolist() == ["3", "1", "1", "1", "1", "1", "2", "0.90", "1"]


def test_the_rank_to_expect_is_the_cheapest():
    assert benchmark.best_rank(6, 2)[0] == 5
    assert benchmark.best_rank(6, 4) == (3, pytest.approx(3 * 2**0.5))
    assert benchmark.best_rank(6, 10)[0] == 2
