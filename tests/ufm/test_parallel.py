"""Class-parallel log-odds: parts of the classes joined here, then two and three processes, against one process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from softmaxcode.nn import tiles
from tests.processes import environment, run_ranks
from tests.ufm.parallel_worker import train
from ufm.parallel import Shard, join, log_odds

ROOT = Path(__file__).parents[2]
RANKS = (2, 3)


def problem(sizes, K, d, temperature, seed=0, dtype=torch.float64):
    """Unit rows, labels of any class, and the weights of the log-odds; the ranks have ``sizes`` features."""
    rng = np.random.default_rng(seed)
    H, W = (rng.standard_normal((n, d)) for n in (sum(sizes), K))
    H, W = (torch.tensor(X / np.linalg.norm(X, axis=1, keepdims=True), dtype=dtype) for X in (H, W))
    y, g = torch.tensor(rng.integers(K, size=len(H))), torch.tensor(rng.standard_normal(len(H)), dtype=dtype)
    return {"H": H, "W": W, "y": y, "g": g, "temperature": temperature, "sizes": list(sizes)}


def dense(case):
    """Log-odds and gradients of sum_i g_i s_i from the definition, in NumPy's double precision."""
    H, W, g = (case[name].double().numpy() for name in ("H", "W", "g"))
    y, tau, rows = case["y"].numpy(), case["temperature"], np.arange(len(case["y"]))
    logits = H @ W.T / tau
    own = logits[rows, y]
    logits[rows, y] = -np.inf
    top = logits.max(axis=1)
    q = np.exp(logits - top[:, None])
    total = q.sum(axis=1)
    q /= total[:, None]
    q[rows, y] = -1
    q *= g[:, None]
    return top - own + np.log(total), q @ W / tau, q.T @ H / tau


def assert_equal(ours, wanted, case):
    """Up to the rounding of the logits, which is that of a cosine divided by the temperature."""
    epsilon = torch.finfo(case["H"].dtype).eps
    for a, b in zip(ours, wanted, strict=True):
        # 1e-13 in double precision down to tau = 0.01
        tolerance = epsilon * max(450, 4.5 / case["temperature"])
        np.testing.assert_allclose(a.double().numpy(), b, rtol=0, atol=tolerance * np.abs(b).max())


# In one process


@given(
    st.integers(1, 20),
    st.lists(st.integers(1, 6), min_size=2, max_size=5),
    st.integers(1, 5),
    st.floats(1e-3, 10),
    st.integers(0, 2**32 - 1),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_parts_of_the_classes_join_to_the_whole(N, parts, d, temperature, seed, dtype):
    case = problem([N], sum(parts), d, temperature, seed, dtype)
    H, W = case["H"] / temperature, case["W"].split(parts)
    labels = [case["y"] - start for start in np.cumsum([0, *parts[:-1]]).tolist()]
    own, largest, total = (
        torch.stack(part)
        for part in zip(*(tiles.partial_log_odds(H, w, y) for w, y in zip(W, labels, strict=True)), strict=True)
    )
    top = largest.max(0).values
    total = (total * (largest - top).exp()).sum(0)
    grads = [tiles.partial_log_odds_backward(case["g"], H, w, y, top, total) for w, y in zip(W, labels, strict=True)]
    ours = top - own.sum(0) + total.log(), sum(h for h, _ in grads) / temperature, torch.cat([w for _, w in grads])
    assert_equal(ours, dense(case), case)


def test_a_gradient_that_is_not_wanted_is_empty():
    case = problem([4], 3, 2, 1.0)
    ones = torch.ones(4, dtype=torch.float64)
    arguments = (case["g"], case["H"], case["W"], case["y"], ones, ones)
    both = tiles.partial_log_odds_backward(*arguments)
    of_features, nothing = tiles.partial_log_odds_backward(*arguments, of_weight=False)
    assert torch.equal(of_features, both[0]) and nothing.numel() == 0
    nothing, of_weight = tiles.partial_log_odds_backward(*arguments, of_features=False)
    assert torch.equal(of_weight, both[1]) and nothing.numel() == 0


def test_one_rank_is_the_plain_function_to_the_bit():
    case = problem([30], 7, 4, 0.03)
    ours, plain = ([case[name].clone().requires_grad_() for name in ("H", "W")] for _ in range(2))
    s = log_odds(*ours, case["y"], 0.03, Shard.here(7))
    wanted = tiles.log_odds_against(plain[0] / 0.03, plain[1], case["y"], False)
    assert torch.equal(s, wanted)
    for a, b in zip(torch.autograd.grad(s.sum(), ours), torch.autograd.grad(wanted.sum(), plain), strict=True):
        assert torch.equal(a, b)


def test_one_rank_gives_back_what_it_was_given():
    shard = Shard.alone(3)
    X = torch.randn(3, 2)
    same = [shard.rows(X), shard.gather(X, shard.sizes), shard.reduce_scatter(X, [3]), shard.sum(X), shard.max(X)]
    assert all(torch.equal(X, Y) for Y in same)
    assert shard.agree(True) is True and shard.agree(False) is False
    assert torch.equal(shard.logsumexp(X[:, 0]), X[:, 0].logsumexp(0))
    assert shard.rank == 0 and shard.ranks == 1 and shard.classes == slice(0, 3)
    assert join("cpu") == torch.device("cpu")
    assert not torch.distributed.is_initialized()


@given(st.integers(1, 50), st.integers(0, 200))
def test_blocks_cover_the_classes_and_differ_by_at_most_one(ranks, more):
    K = ranks + more
    shards = [Shard(rank, ranks, K, torch.device("cpu")) for rank in range(ranks)]
    assert [k for shard in shards for k in range(K)[shard.classes]] == list(range(K))
    assert all(len(range(K)[shard.classes]) == shard.sizes[shard.rank] for shard in shards)
    assert max(shards[0].sizes) - min(shards[0].sizes) <= 1 <= min(shards[0].sizes)


def test_more_ranks_than_classes():
    with pytest.raises(ValueError, match="more ranks than classes: 3 processes cannot share K = 2 classes"):
        Shard(0, 3, 2, torch.device("cpu"))


def test_rows_and_sizes_that_do_not_fit():
    shard = Shard.alone(3)
    with pytest.raises(ValueError, match=r"one row for each of the K = 3 classes; got shape \(4, 2\)"):
        shard.rows(torch.ones(4, 2))
    for sizes in ([4], [3, 1]):
        with pytest.raises(ValueError, match=r"sizes must be the rows of each of 1 ranks; got .* where rank 0 has 3"):
            shard.gather(torch.ones(3, 2), sizes)


@pytest.fixture
def as_torchrun(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment of one process of two that share a machine."""
    for name, value in environment(0, 2, 29500).items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_processes_that_have_no_device(as_torchrun):
    with pytest.raises(ValueError, match="several processes need the device cpu or cuda; got meta"):
        join("meta")
    as_torchrun.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match="GPU of its own: 2 processes were started here, for 1 GPUs"):
        join("cuda")
    as_torchrun.delenv("MASTER_ADDR")
    with pytest.raises(ValueError, match="several processes, but MASTER_ADDR is not set; start them with torchrun"):
        join("cpu")


# Two and three processes


def cases(ranks: int) -> list[dict[str, Any]]:
    """Classes that the ranks cannot share evenly, features of any class on any rank, one class per rank, small tau."""
    uneven = [7, 12, 5][:ranks]
    return [
        problem(uneven, 7, 4, 0.5),
        problem(uneven, 11, 5, 0.02, seed=1),
        problem(uneven, ranks, 3, 0.1, seed=2),
        problem([9, 0, 4][:ranks], 8, 2, 0.1, seed=3),
        problem(uneven, 10, 4, 1e-3, seed=4),
        problem(uneven, 10, 4, 0.1, seed=5, dtype=torch.float32),
        problem(uneven, 10, 4, 1e-3, seed=6, dtype=torch.float32),
    ]


def training(ranks: int) -> dict[str, Any]:
    """Eleven classes of one to three features, each beside its class."""
    shard = Shard(0, ranks, 11, torch.device("cpu"))
    counts = torch.tensor([1, 3, 2, 1, 1, 2, 3, 1, 2, 2, 1])
    case = problem([int(counts.sum())], 11, 4, 0.1, seed=7)
    case["y"] = torch.arange(11).repeat_interleave(counts)
    case["sizes"] = [int(part.sum()) for part in counts.split(shard.sizes)]
    return case


@pytest.fixture(scope="module", params=RANKS, ids=lambda ranks: f"{ranks} processes")
def answers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The results of each rank."""
    folder, ranks = tmp_path_factory.mktemp("ranks"), request.param
    torch.save({"cases": cases(ranks), "training": training(ranks), "numbers": NUMBERS}, folder / "data.pt")
    assert run_ranks([sys.executable, "-m", "tests.ufm.parallel_worker", str(folder)], ranks, ROOT) == [0] * ranks
    found = [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(ranks)]
    assert all("training" in answer for answer in found), [answer["failed"] for answer in found]
    return found


NUMBERS = torch.tensor([0.5, -2.0, 3.0, 1.0, -1.5, 2.5, 0.25], dtype=torch.float64)


@pytest.mark.processes
@pytest.mark.slow
def test_log_odds_and_gradients_are_those_of_one_process(answers):
    for i, case in enumerate(cases(len(answers))):
        ours = [torch.cat(parts) for parts in zip(*(answer["odds"][i] for answer in answers), strict=True)]
        assert all(part.dtype == case["H"].dtype for part in ours)
        assert_equal(ours, dense(case), case)


@pytest.mark.processes
@pytest.mark.slow
def test_what_the_ranks_tell_each_other(answers):
    x = NUMBERS.numpy()
    ranks = len(answers)
    for rank, answer in enumerate(answers):
        said = answer["together"]
        shard = Shard(rank, ranks, len(x), torch.device("cpu"))
        np.testing.assert_array_equal(said["gather"], x)
        np.testing.assert_array_equal(said["matrix"], np.stack([x, x], axis=1))
        np.testing.assert_array_equal(said["reduce_scatter"], x[shard.classes] * ranks * (ranks + 1) / 2)
        assert said["sum"] == x.sum()
        assert said["max"].tolist() == [x.max(), -x.min()]
        np.testing.assert_allclose(said["logsumexp"], np.log(np.exp(x).sum()), rtol=1e-15)
        assert said["logsumexp of none"] == -np.inf
        others = x[shard.sizes[0] :]  # rank 0 gave none
        np.testing.assert_allclose(said["logsumexp of some"], np.log(np.exp(others).sum()), rtol=1e-15)
        assert said["logsumexp of NaN"].isnan()
        assert said["agree"] == [True, False]
        assert said["logsumexp"] == answers[0]["together"]["logsumexp"]


@pytest.mark.processes
@pytest.mark.slow
def test_a_hundred_steps_are_those_of_one_process(answers):
    case = training(len(answers))
    case["sizes"] = [len(case["y"])]
    alone = train(case, Shard.alone(11), 100)
    ours = [answer["training"] for answer in answers]
    for name in ("H", "W"):
        assert not torch.allclose(alone[name], case[name], atol=0.1)  # the steps go somewhere
        torch.testing.assert_close(torch.cat([o[name] for o in ours]), alone[name], rtol=0, atol=1e-10)
    for o in ours:
        assert torch.equal(o["values"], ours[0]["values"])
        torch.testing.assert_close(o["values"], alone["values"], rtol=0, atol=1e-10)


@pytest.mark.processes
@pytest.mark.slow
def test_bad_input_on_one_rank_is_raised_on_all(answers):
    *others, last = (answer["messages"] for answer in answers)
    ranks = len(answers)
    for said in (*others, last):
        assert said["classes"] == f"more ranks than classes: {ranks} processes cannot share K = {ranks - 1} classes"
        assert "one row for each of the K = 7 classes" in said["rows"]
        assert "sizes must be the rows of each of" in said["sizes"]
        assert "once_differentiable" in said["twice"]
        assert "all ranks must have one d and one dtype" in said["width"]
        assert "(8," in said["all of another dtype"] and "4) bytes per entry" in said["all of another dtype"]
    for name, wanted in {
        "features": "features must have shape (N, 4); got",
        "weight": f"rank {ranks - 1} holds {7 // ranks} classes: weight must be",
        "labels": "labels must be from 0 to 6",
        "count": "one for each row of features",
        "dtype": "features and weight must have one dtype",
    }.items():
        assert wanted in last[name]
        assert all(said[name].startswith(f"rank {ranks - 1} was given input that it refused") for said in others)


@pytest.mark.processes
@pytest.mark.slow
def test_no_rank_holds_its_logits(answers):
    for answer in answers:
        growth = answer["growth"]
        assert growth["logits"] == 4 * 6000 * 6000 // len(answers)
        assert growth["step"] < growth["logits"] / 4
        assert growth["with logits"] > 0.9 * growth["logits"]  # the measure sees them


@pytest.mark.processes
@pytest.mark.slow
def test_a_rank_that_fails_leaves_none_waiting(answers):
    *others, last = answers
    assert last["failed"] == "this rank fails"
    for other in others:
        assert other["failed"] not in ("this rank fails", "nothing was raised")
