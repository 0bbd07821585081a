"""One process of tests/ufm/test_parallel.py: ``python -m tests.ufm.parallel_worker FOLDER``, under torchrun."""

from __future__ import annotations

import math
import os
import sys

import geoopt
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from benchmarks.memory import resident_peak
from softmaxcode.nn import tiles
from ufm.parallel import Shard, join, log_odds


def fraction(shard: Shard, case: dict) -> tuple[Tensor, Tensor, Tensor]:
    """This rank's features, rows of W and labels; the features are cut by the case's sizes."""
    H, y = (case[name].split(case["sizes"])[shard.rank] for name in ("H", "y"))
    return H.clone().requires_grad_(), shard.rows(case["W"]).clone().requires_grad_(), y


def odds_and_gradients(case: dict) -> list[Tensor]:
    shard = Shard.here(len(case["W"]))
    H, W, y = fraction(shard, case)
    s = log_odds(H, W, y, case["temperature"], shard)
    s.backward(case["g"].split(case["sizes"])[shard.rank])
    return [s.detach(), H.grad, W.grad]


def together(numbers: Tensor) -> dict:
    """The results of a shard's methods for this rank's slice of some numbers."""
    shard = Shard.here(len(numbers))
    mine = shard.rows(numbers)
    spoilt = mine.where(mine != numbers[-1], math.nan)  # the last rank alone has a NaN
    return {
        "gather": shard.gather(mine, shard.sizes),
        "matrix": shard.gather(mine[:, None] * torch.ones(2), shard.sizes),
        "reduce_scatter": shard.reduce_scatter(numbers * (shard.rank + 1), shard.sizes),
        "sum": shard.sum(mine.sum()),
        "max": shard.max(torch.stack([mine.max(), -mine.min()])),
        "logsumexp": shard.logsumexp(mine),
        "logsumexp of none": shard.logsumexp(mine[:0]),
        "logsumexp of some": shard.logsumexp(mine if shard.rank else mine[:0]),
        "logsumexp of NaN": shard.logsumexp(spoilt),
        "agree": [shard.agree(shard.rank == 0), shard.agree(shard.rank > 0)],
    }


def message(act) -> str:
    try:
        act()
    except (ValueError, RuntimeError) as error:
        return str(error)
    return "nothing was raised"


def messages(case: dict) -> dict[str, str]:
    """The error of each rank when only the last received bad input; none may be left waiting."""
    shard = Shard.here(len(case["W"]))
    last = shard.rank == shard.ranks - 1
    H, W, y = fraction(shard, case)
    bad = {
        "features": (H[:, :-1], W, y),
        "weight": (H, W[:-1], y),
        "labels": (H, W, y + len(case["W"])),
        "count": (H, W, y[:-1]),
        "dtype": (H.float(), W, y),
        "all of another dtype": (H.float(), W.float(), y),
        "width": (H[:, :-1], W[:, :-1], y),
    }
    said = {
        name: message(lambda wrong=wrong: log_odds(*(wrong if last else (H, W, y)), 0.1, shard))
        for name, wrong in bad.items()
    }
    s = log_odds(H, W, y, 0.1, shard)
    (gradient,) = torch.autograd.grad(s.square().sum(), H, create_graph=True)
    return {
        "classes": message(lambda: Shard.here(shard.ranks - 1)),
        "rows": message(lambda: shard.rows(case["W"][1:])),
        "sizes": message(lambda: shard.gather(W, [len(W) + 1] * shard.ranks)),
        "twice": message(lambda: gradient.sum().backward()),
        **said,
    }


def train(case: dict, shard: Shard, steps: int) -> dict[str, Tensor]:
    """Steps of Riemannian Adam on tau log L, of this rank's rows of H and W."""
    sphere, tau, N = geoopt.Sphere(), case["temperature"], len(case["y"])
    H, W, y = fraction(shard, case)
    H, W = geoopt.ManifoldParameter(H.detach(), sphere), geoopt.ManifoldParameter(W.detach(), sphere)
    optimizer = geoopt.optim.RiemannianAdam([H, W], lr=0.02)
    values = []
    for _ in range(steps):
        optimizer.zero_grad()
        s = log_odds(H, W, y, tau, shard)
        with torch.no_grad():
            losses = (-logsigmoid(-s)).log()
            total = shard.logsumexp(losses)
            values.append(tau * (total - math.log(N)))
        s.backward(tau * (logsigmoid(s) - total).exp().detach())  # tau d log L / d s_i
        optimizer.step()
    return {"values": torch.stack(values), "H": H.detach(), "W": W.detach()}


def growth(N: int, d: int) -> dict[str, int]:
    """The growth of the peak in a step of N classes of one feature, and then by storing this rank's logits."""
    tiles.CPU_TILE = 2**18
    for K in (50, N):  # a small step first, for what every process loads once
        before, shard = resident_peak(), Shard.here(K)
        X = torch.randn(K, d, generator=torch.Generator().manual_seed(0))
        H, W = (shard.rows(X).clone().requires_grad_() for _ in range(2))
        log_odds(H, W, torch.arange(K)[shard.classes], 0.1, shard).sum().backward()
    step = resident_peak() - before
    logits = X @ W.detach().T
    return {"step": step, "with logits": resident_peak() - before, "logits": logits.nbytes}


def compute(data: dict, answers: dict) -> None:
    """All cases; at the end the last rank fails while the others wait for it."""
    case = data["training"]
    join("cpu")
    shard = Shard.here(len(case["W"]))
    answers |= {
        "growth": growth(6000, 8),
        "odds": [odds_and_gradients(case) for case in data["cases"]],
        "together": together(data["numbers"]),
        "messages": messages(data["cases"][0]),
        "training": train(case, shard, 100),
    }
    if shard.rank == shard.ranks - 1:
        raise ValueError("this rank fails")
    shard.sum(torch.ones(1))


def main(folder: str) -> None:
    torch.set_num_threads(1)
    answers: dict = {}
    answers["failed"] = message(lambda: compute(torch.load(f"{folder}/data.pt", weights_only=True), answers))
    torch.save(answers, f"{folder}/{os.environ['RANK']}.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
