"""The Numba route and the batched geoopt route of the search, compared at equal starts."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

import softmaxcode as sc
from benchmarks.ours import SEARCH
from benchmarks.report import ABSENT, seconds
from softmaxcode.parallel.threads import Threads
from softmaxcode.search.energy import TAMMES
from softmaxcode.search.geoopt_batch import search_batch
from softmaxcode.search.multistart import multistart, pair_maximum, random_start

if TYPE_CHECKING:
    from collections.abc import Iterator

#: K, d and the number of starts.
CASES = ((24, 3, 64), (100, 10, 32))


@dataclass(frozen=True)
class TimedStarts:
    """Seconds for all the starts, the smallest of their largest cosines, and PyTorch's threads (0: not set)."""

    seconds: float
    mu: float
    threads: int = 0


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Make PyTorch use ``count`` threads in the block; 0 changes nothing."""
    import torch

    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def available_devices() -> list[str | None]:
    """None (the Numba kernels), "cpu", and "cuda" if there is one."""
    import torch

    return [None, "cpu", "cuda"] if torch.cuda.is_available() else [None, "cpu"]


def run_starts(K: int, d: int, count: int, seed: int, device: str | None) -> TimedStarts:
    """Time the same random starts on one route, on Tammes."""
    seeds = np.random.SeedSequence(seed).spawn(count)
    if device is None:
        begin = time.perf_counter()
        values = [candidate.value for candidate in multistart(TAMMES, K, d, seeds, Threads(-1))]
        return TimedStarts(time.perf_counter() - begin, min(values))
    drawn = [random_start(TAMMES, K, d, s) for s in seeds]
    X, betas = np.stack([x for x, _ in drawn]), np.array([beta for _, beta in drawn])
    begin = time.perf_counter()
    ends = search_batch(TAMMES, X, betas, device=device)
    return TimedStarts(time.perf_counter() - begin, min(pair_maximum(TAMMES, x) for x in ends))


def fastest_batch(K: int, d: int, count: int, seed: int, device: str | None) -> TimedStarts:
    """`run_starts`; for PyTorch on the CPU, the faster of one thread and its default number.

    On small matrices PyTorch's pool of threads can cost more than it gains, and far more while other work runs.
    """
    if device != "cpu":
        return run_starts(K, d, count, seed, device)
    import torch

    batches = []
    for threads in sorted({1, torch.get_num_threads()}):
        with torch_threads(threads):
            batches.append(replace(run_starts(K, d, count, seed, device), threads=threads))
            print(
                f"routes ({K}, {d}) geoopt, {threads} threads: {count / batches[-1].seconds:.3g} starts/s", flush=True
            )
    return min(batches, key=lambda batch: batch.seconds)


def route_row(K: int, d: int, count: int, seed: int, device: str | None) -> dict[str, str]:
    """One row: the starts alone, then the whole of `solve`, which polishes the results of both routes alike."""
    batch = fastest_batch(K, d, count, seed, device)
    with torch_threads(batch.threads):
        begin = time.perf_counter()
        code = sc.solve(K, d, starts=count, seed=seed, device=device, progress=False, **SEARCH)
        whole = time.perf_counter() - begin
    route = "Numba" if device is None else f"geoopt, {device}"
    return {
        "(K, d)": f"({K}, {d})",
        "route": route + (f", threads: {batch.threads}" if batch.threads else ""),
        "starts": str(count),
        "starts per second": f"{count / batch.seconds:.3g}",
        "best 1 − μ of the starts": f"{1 - batch.mu:.9f}",
        "margin of solve": f"{code.margin:.14f}",
        "solve, s": seconds(whole),
    }


def run(quick: bool, seed: int) -> pd.DataFrame:
    """Measure every case on every route; ``quick`` takes 8 starts of each."""
    devices = available_devices()
    rows = []
    for K, d, count in CASES:
        count = 8 if quick else count
        for device in devices:
            run_starts(K, d, 1, seed, device)  # compiles and warms up
            rows.append(route_row(K, d, count, seed, device))
            print("routes " + ", ".join(rows[-1].values()), flush=True)
        if "cuda" not in devices:
            blank = dict.fromkeys(rows[-1], ABSENT)
            rows.append(blank | {"(K, d)": f"({K}, {d})", "route": "geoopt, cuda", "starts": "not run: no GPU"})
    return pd.DataFrame(rows)
