"""The step of the unconstrained feature model compared with geoopt and dense logits.

``python -m benchmarks.ufm [--quick] [--write docs/benchmarks.md]`` measures seconds, memory and their growth, and the
machine's own float32 matrix rate in the same run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch.nn.functional import cross_entropy

from benchmarks.cost import exponent
from benchmarks.memory import resident_peak
from benchmarks.report import ABSENT, Page, made, seconds, times
from softmaxcode.checks.geoopt import geoopt
from softmaxcode.nn.tiles import sides
from ufm import schedule
from ufm.batch import Batch
from ufm.model import random_rows
from ufm.optimizers import DECAYS, EPS
from ufm.parallel import Shard
from ufm.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Step = Callable[[], float]

PAGE = Page("docs/benchmarks.md", ("ufm_machine", "ufm", "ufm_squares"))
TEMPERATURE = 0.1
DIMENSION = {"cpu": 64, "cuda": 512}
#: K = N, and the number of steps, of which the first warms up.
SIZES = {1000: 21, 10_000: 6, 100_000: 2}
QUICK_SIZES = {500: 11, 1000: 11, 2000: 6}
#: The most bytes of dense logits that are tried: their log-softmax and gradient take as much again each.
MOST_LOGITS = 16e9
#: The largest relative difference of the two losses: float32 rounding, after some steps of Adam.
SAME_LOSS = 1e-4
#: Side of the square products on which the matrix rate is also measured.
SQUARE = {"cpu": 2048, "cuda": 8192}
#: The least seconds over which a matrix rate is measured.
RATE_SECONDS = 0.5


def settings(K: int, d: int, steps: int) -> Settings:
    """The settings of the run whose steps both ways make."""
    return Settings(K, d, 1, TEMPERATURE, objective="cross-entropy", optimizer="adam", steps=steps, dtype="float32")


def ours_step(run: Settings, device: str) -> Step:
    """A step of `ufm.simulate`: logits in tiles where they are many, computed again for the gradients."""
    return Batch([run], Shard.alone(run.K, device), torch.device(device)).advance


def dense_step(run: Settings, device: str) -> Step:
    """The same step by autograd: all logits at once; the temperature divides the features, which are fewer."""
    W, H = (geoopt.ManifoldParameter(rows.to(device), manifold=geoopt.Sphere()) for rows in random_rows(run))
    labels = torch.arange(run.K, device=device)
    optimizer = geoopt.optim.RiemannianAdam([W, H], betas=DECAYS, eps=EPS[torch.float32])
    made = itertools.count()

    def step() -> float:
        optimizer.zero_grad()
        loss = cross_entropy((H / TEMPERATURE) @ W.T, labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.param_groups[0]["lr"] = schedule.learning_rate(run, next(made))
        optimizer.step()
        return float(loss.detach())

    return step


OURS, DENSE = "ours", "geoopt, dense logits"
WAYS = {OURS: ours_step, DENSE: dense_step}


def unavailable(way: str, K: int, device: str) -> str:
    """The reason why a way is not run at this size; empty if it is."""
    if device == "cuda" and not torch.cuda.is_available():
        return "not run: no CUDA device"
    if way == DENSE and 4 * K * K > MOST_LOGITS:
        return f"not run: the logits alone are {4 * K * K / 1e9:.0f} GB"
    return ""


@dataclass(frozen=True)
class StepCost:
    """Some steps of one way: seconds of one, peak bytes in all and beyond the inputs, and the last loss."""

    seconds: float
    total: int
    extra: int
    loss: float


def full_precision() -> None:
    """Products of float32 in float32, without TF32."""
    torch.set_float32_matmul_precision("highest")
    torch.backends.cuda.matmul.allow_tf32 = False


def measure_here(way: str, K: int, d: int, device: str, steps: int) -> StepCost:
    """Make the steps in this process, which must have done nothing else: the median of all seconds but the first."""
    full_precision()
    for _ in range(2):
        WAYS[way](settings(8, d, steps), device)()  # one-time loading is not part of the step
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    peak = torch.cuda.max_memory_allocated if device == "cuda" else resident_peak
    step, took, loss = WAYS[way](settings(K, d, steps), device), [], float("nan")
    before = peak()
    for _ in range(steps):
        begin = time.perf_counter()
        loss = step()
        _wait(device)
        took.append(time.perf_counter() - begin)
    return StepCost(statistics.median(took[1:]), peak(), peak() - before, loss)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def measure(way: str, K: int, d: int, device: str, steps: int) -> StepCost:
    """`measure_here` in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.ufm", "--measure", way, *map(str, (K, d, device, steps))]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=root)
    return StepCost(**json.loads(done.stdout.splitlines()[-1]))


def matrix_rate(rows: int, columns: int, d: int, device: str) -> float:
    """Flops per second of a step's four products on one tile: its logits twice, and both gradients."""
    full_precision()
    h, w = torch.randn(rows, d, device=device), torch.randn(columns, d, device=device)
    tile = torch.empty(rows, columns, device=device)
    grad_h, grad_w = torch.zeros_like(h), torch.zeros_like(w)

    def products() -> None:
        tile.addmm_(h, w.T, beta=0)
        tile.addmm_(h, w.T, beta=0)
        grad_h.addmm_(tile, w)
        grad_w.addmm_(tile.T, h)

    for _ in range(2):
        products()
    _wait(device)
    begin, rounds = time.perf_counter(), 0
    while time.perf_counter() < begin + RATE_SECONDS:
        products()
        _wait(device)
        rounds += 1
    return rounds * flops(rows, columns, d) / (time.perf_counter() - begin)


def flops(N: int, K: int, d: int) -> int:
    """Flops of a step's four products."""
    return 4 * 2 * N * K * d


def row(way: str, K: int, d: int, device: str, steps: int) -> tuple[dict[str, str], StepCost | None]:
    """One row of the table, and its measurements."""
    cells = {"way": way, "device": device, "K = N": f"{K:,}", "d": str(d), "s per step": unavailable(way, K, device)}
    if cells["s per step"]:
        return cells, None
    found = measure(way, K, d, device, steps)
    cells |= {
        "s per step": seconds(found.seconds),
        "peak, GB": f"{found.total / 1e9:.2f}",
        "beyond inputs, GB": f"{found.extra / 1e9:.3f}",
        "steps": str(steps),
        "last loss": f"{found.loss:.6f}",
    }
    if way == OURS:
        rate = matrix_rate(*sides(K, K, torch.device(device)), d, device)
        cells["matrix rate, TFLOP/s"] = f"{rate / 1e12:.3g}"
        cells["fraction of it"] = f"{flops(K, K, d) / found.seconds / rate:.0%}"
    return cells, found


def check_same(ours: StepCost, dense: StepCost) -> float:
    """The relative difference of the two losses.

    Raises
    ------
    RuntimeError
        If it is more than float32 rounding: the two then do not make the same step.
    """
    difference = abs(ours.loss / dense.loss - 1)
    if not difference <= SAME_LOSS:
        raise RuntimeError(f"the two ways end at different losses, {ours.loss} and {dense.loss}: not the same step")
    return difference


def device_rows(device: str, sizes: dict[int, int]) -> list[dict[str, str]]:
    """Both ways at every size on one device, then the growth of seconds and memory of each."""
    rows, stored = [], {}
    for K, steps in sizes.items():
        pair = {}
        for way in WAYS:
            cells, found = row(way, K, DIMENSION[device], device, steps)
            if found is not None:
                stored[way, K] = pair[way] = found
            if len(pair) == len(WAYS):
                cells["s / ours"] = times(pair[DENSE].seconds / pair[OURS].seconds)
                cells["loss / ours - 1"] = f"{check_same(pair[OURS], pair[DENSE]):.0e}"
            rows.append(cells)
            print("ufm: " + ", ".join(f"{name} {value}" for name, value in cells.items()), file=sys.stderr, flush=True)
    for way in WAYS:
        run = {K: found for (name, K), found in stored.items() if name == way}
        if len(run) > 1:
            grown = {
                "s per step": exponent(list(run), [found.seconds for found in run.values()]),
                "beyond inputs, GB": exponent(list(run), [max(found.extra, 1) for found in run.values()]),
            }
            cells = {"way": way, "device": device, "K = N": "∝ K^p, p =", "d": str(DIMENSION[device])}
            rows.append(cells | {name: f"{p:.2f}" for name, p in grown.items()})
    return rows


def tables(sizes: dict[int, int]) -> dict[str, pd.DataFrame]:
    """The steps at each K = N with its number of steps, and the matrix rate of square products."""
    rows = [cells for device in DIMENSION for cells in device_rows(device, sizes)]
    columns = ["way", "device", "K = N", "d", "s per step", "s / ours", "peak, GB", "beyond inputs, GB"]
    columns += ["matrix rate, TFLOP/s", "fraction of it", "steps", "last loss", "loss / ours - 1"]
    squares = [
        {"device": device, "side": f"{side:,}", "TFLOP/s": f"{matrix_rate(side, side, side, device) / 1e12:.3g}"}
        for device, side in SQUARE.items()
        if device == "cpu" or torch.cuda.is_available()
    ]
    return {"ufm": pd.DataFrame(rows).reindex(columns=columns).fillna(ABSENT), "ufm_squares": pd.DataFrame(squares)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table and write it, or print one measurement as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ufm", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes: half a minute")
    PAGE.add_option(parser)
    parser.add_argument("--measure", nargs=5, metavar=("WAY", "K", "D", "DEVICE", "STEPS"), help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.measure:
        way, K, d, device, steps = chosen.measure
        print(json.dumps(asdict(measure_here(way, int(K), int(d), device, int(steps)))))
        return
    described = made("python -m benchmarks.ufm" + (" --quick" if chosen.quick else ""))  # before we load it ourselves
    PAGE.publish({"ufm_machine": described, **tables(QUICK_SIZES if chosen.quick else SIZES)}, chosen.write)


if __name__ == "__main__":
    main()
