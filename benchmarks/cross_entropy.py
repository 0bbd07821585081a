"""Cross-entropy over many classes: time, peak memory and error, against dense logits and other libraries' losses."""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from benchmarks.memory import resident_peak
from benchmarks.report import ABSENT, aligned, machine, seconds
from softmaxcode.nn.functional import spherical_cross_entropy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Parts of the page of `benchmarks.metrics`.
PARTS = ("cross_entropy", "cross_entropy_large")
TEMPERATURE = 0.1
#: N = K for dense logits that fit into memory, and for dense logits that do not (40 GB in float32).
FITTING = (2000, 4000, 8000)
LARGE = 100_000
DIMENSION = 512


def tiled(h: Tensor, w: Tensor, y: Tensor) -> Tensor:
    """The loss of `softmaxcode`."""
    return spherical_cross_entropy(h, w, y, TEMPERATURE)


def dense(h: Tensor, w: Tensor, y: Tensor) -> Tensor:
    """PyTorch's cross-entropy of all logits at once; the temperature divides the features, which are fewer."""
    return cross_entropy((normalize(h) / TEMPERATURE) @ normalize(w).T, y)


def chunked(h: Tensor, w: Tensor, y: Tensor) -> Tensor:
    """PyTorch's own chunked loss, from 2.13 on."""
    options = torch.nn.LinearCrossEntropyOptions()
    return torch.nn.functional.linear_cross_entropy(normalize(h) / TEMPERATURE, normalize(w), y, options=options)


def liger(h: Tensor, w: Tensor, y: Tensor) -> Tensor:
    """Liger-Kernel's fused loss (Triton)."""
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

    loss: Tensor = LigerFusedLinearCrossEntropyLoss()(normalize(w), normalize(h) / TEMPERATURE, y)
    return loss


def cut(h: Tensor, w: Tensor, y: Tensor) -> Tensor:
    """Apple's Cut Cross-Entropy (Triton)."""
    from cut_cross_entropy import linear_cross_entropy

    loss: Tensor = linear_cross_entropy(normalize(h) / TEMPERATURE, normalize(w), y)
    return loss


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "softmaxcode": tiled,
    "dense": dense,
    "PyTorch, chunked": chunked,
    "Liger-Kernel": liger,
    "Cut Cross-Entropy": cut,
}
CUDA_ONLY = {"Liger-Kernel": "liger_kernel", "Cut Cross-Entropy": "cut_cross_entropy"}


def unavailable(name: str, device: str) -> str:
    """The reason why a loss cannot run here; empty if it can."""
    if name in CUDA_ONLY:
        if device != "cuda":
            return "not run: no CUDA device"
        if importlib.util.find_spec(CUDA_ONLY[name]) is None:
            return f"not run: {CUDA_ONLY[name]} is not installed"
    if name == "PyTorch, chunked" and not hasattr(torch.nn, "LinearCrossEntropyOptions"):
        return f"not run: PyTorch {torch.__version__} has none"
    return ""


def problem(size: int, d: int, device: str, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Features near their class's row, as many as classes; some are misclassified, so gradients are not tiny."""
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(size, d, generator=generator)
    y = torch.randint(size, (size,), generator=generator)
    h = torch.randn(size, d, generator=generator).mul_(4).add_(w[y])
    h, w = (x.to(device, dtype).requires_grad_() for x in (h, w))
    return h, w, y.to(device)


def step(name: str, h: Tensor, w: Tensor, y: Tensor) -> tuple[float, float]:
    """One forward and backward pass, gradients stored in ``h.grad`` and ``w.grad``: its seconds and its loss."""
    h.grad = w.grad = None
    begin = time.perf_counter()
    loss = LOSSES[name](h, w, y)
    loss.backward()  # type: ignore[no-untyped-call]
    value = float(loss.detach())  # waits for the loss
    if h.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - begin, value


@dataclass(frozen=True)
class Peak:
    """The first pass in a fresh process: its seconds, and its peak bytes in all and beyond inputs and imports."""

    seconds: float
    total: int
    extra: int


def peak_here(name: str, size: int, d: int, device: str) -> Peak:
    """One pass in this process, which must have done nothing else before."""
    inputs = problem(size, d, device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        took, _ = step(name, *inputs)
        total = torch.cuda.max_memory_allocated()
    else:
        before = resident_peak()
        took, _ = step(name, *inputs)
        total = resident_peak()
    return Peak(took, total, total - before)


def peak(name: str, size: int, d: int, device: str) -> Peak:
    """`peak_here` in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.cross_entropy", "--peak", name, str(size), str(d), device]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=root)
    return Peak(**json.loads(done.stdout.splitlines()[-1]))


def medians(names: Sequence[str], size: int, d: int, device: str, repeats: int) -> dict[str, float]:
    """Median seconds of a pass of each loss, the losses in turn; the first round warms up."""
    inputs = problem(size, d, device)
    rounds = [{name: step(name, *inputs)[0] for name in names} for _ in range(repeats + 1)]
    return {name: statistics.median(one[name] for one in rounds[1:]) for name in names}


def errors(names: Sequence[str], size: int, d: int, device: str) -> dict[str, tuple[float, float]]:
    """Relative errors against dense float64: of the loss, and of the worse gradient in Frobenius norm."""

    def gradients(inputs: tuple[Tensor, ...]) -> list[Tensor]:
        return [x.grad for x in inputs if x.grad is not None]

    inputs = problem(size, d, device, torch.float64)
    _, exact = step("dense", *inputs)
    wanted = gradients(inputs)
    inputs, found = problem(size, d, device), {}
    for name in names:
        _, value = step(name, *inputs)
        off = [float((a - b).norm() / b.norm()) for a, b in zip(gradients(inputs), wanted, strict=True)]
        found[name] = abs(value / exact - 1), max(off)
    return found


def table(sizes: Sequence[int], d: int, device: str, repeats: int) -> pd.DataFrame:
    """All losses at sizes where dense logits fit."""
    rows = []
    names = [name for name in LOSSES if not unavailable(name, device)]
    for size in sizes:
        took, off = medians(names, size, d, device, repeats), errors(names, size, d, device)
        for name in LOSSES:
            row = {"loss": name, "N = K": f"{size:,}", "s": unavailable(name, device)}
            if name in took:
                memory = peak(name, size, d, device)
                row |= {
                    "s": seconds(took[name]),
                    "times dense": f"{took[name] / took['dense']:.2f}",
                    "peak, GB": f"{memory.total / 1e9:.2f}",
                    "beyond inputs, GB": f"{memory.extra / 1e9:.2f}",
                    "error of the loss": f"{off[name][0]:.0e}",
                    "error of the gradients": f"{off[name][1]:.0e}",
                }
            rows.append(row)
            print(f"cross-entropy: {row}", file=sys.stderr, flush=True)
    return pd.DataFrame(rows).fillna(ABSENT)


def large_table(size: int, d: int, device: str) -> pd.DataFrame:
    """The loss of `softmaxcode` alone, one pass where dense logits do not fit."""
    memory = peak("softmaxcode", size, d, device)
    row = {
        "loss": "softmaxcode",
        "N = K": f"{size:,}",
        "s": seconds(memory.seconds),
        "peak, GB": f"{memory.total / 1e9:.2f}",
        "beyond inputs, GB": f"{memory.extra / 1e9:.2f}",
        "the logits alone, GB": f"{4 * size * size / 1e9:.1f}",
    }
    return pd.DataFrame([row])


def tables(quick: bool) -> dict[str, pd.DataFrame]:
    """Both tables; ``quick``: smaller sizes, three rounds, and without the large problem, minutes on a CPU."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    fitting, large = PARTS
    made = {fitting: table(FITTING[:-1] if quick else FITTING, DIMENSION, device, 3 if quick else 7)}
    return made if quick else made | {large: large_table(LARGE, DIMENSION, device)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables, or one peak as JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cross_entropy", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--quick", action="store_true", help="smaller sizes: a minute")
    parser.add_argument("--peak", nargs=4, metavar=("LOSS", "SIZE", "D", "DEVICE"), help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.peak:
        name, size, d, device = chosen.peak
        print(json.dumps(vars(peak_here(name, int(size), int(d), device))))
        return
    print(machine())
    for made in tables(chosen.quick).values():
        print(f"\n{aligned(made)}", flush=True)


if __name__ == "__main__":
    main()
