"""Benchmarks of the PyTorch side: ``python -m benchmarks.metrics [--quick] [--write docs/benchmarks-pytorch.md]``.

GNC1 to GNC3 against the per-sample evaluation of research scripts; cross-entropy of many classes against dense logits.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torchmetrics import MetricCollection

from benchmarks import cross_entropy, per_sample
from benchmarks.exact_margins import random_classifier
from benchmarks.memory import resident_peak
from benchmarks.report import ABSENT, Page, made, seconds, times
from softmaxcode.margins.exact import smallest_margin
from softmaxcode.metrics import GNC1, GNC3
from softmaxcode.nn.functional import spherical_cross_entropy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

PAGE = Page("docs/benchmarks-pytorch.md", ("machine", "stream", "margin", *cross_entropy.PARTS))
TABLES = ("stream", "margin", "cross-entropy")
#: (K, d, N) of the streams, and their batch size.
STREAMS = ((100, 10, 50_000), (100, 512, 50_000), (1000, 512, 50_000))
QUICK_STREAMS = ((100, 10, 5_000), (100, 128, 2_000))
#: Batch sizes of ours: that of the paper's training, and one for evaluation. No other setting depends on it.
BATCHES = (250, 2500)
#: (K, d) of the classifiers whose margin both methods evaluate, and of those that only the exact one does.
MARGINS = ((100, 10), (300, 64), (1000, 128))
LARGE_MARGINS = ((2000, 128), (10_000, 512))


def stream(K: int, d: int, N: int) -> tuple[Tensor, Tensor, Tensor]:
    """Float32 features half collapsed to class directions, their labels, and a classifier near the directions."""
    generator = torch.Generator().manual_seed(0)
    W = torch.randn(K, d, generator=generator)
    labels = torch.arange(N) % K
    features = W[labels] + torch.randn(N, d, generator=generator)
    return features, labels, W + 0.1 * torch.randn(K, d, generator=generator)


def exact(features: Tensor, labels: Tensor, W: Tensor) -> tuple[float, float]:
    """GNC1 and centred GNC3 in float64 NumPy, from all the data at once."""
    H = features.double().numpy()
    H /= np.linalg.norm(H, axis=1, keepdims=True)
    y = labels.numpy()
    K = len(W)
    means = np.stack([H[y == k].mean(axis=0) for k in range(K)])
    within = H - means[y]
    centred = means - means.mean(axis=0)
    gnc1 = np.trace(within.T @ within / len(H) @ np.linalg.pinv(centred.T @ centred / K)) / K
    W64 = W.double().numpy()
    cosines = (W64 * centred).sum(axis=1) / np.linalg.norm(W64, axis=1) / np.linalg.norm(centred, axis=1)
    return float(gnc1), float(1 - cosines.mean())


@dataclass(frozen=True)
class Evaluated:
    """GNC1 and centred GNC3 of a stream, the seconds taken and the additional bytes of memory."""

    gnc1: float
    gnc3: float
    seconds: float
    extra: int


def evaluate(batch: int, K: int, d: int, N: int) -> Evaluated:
    """Both values by this process, which should have done nothing else: in batches, or with 0 sample by sample."""
    features, labels, W = stream(K, d, N)
    warm = stream(2, 2, 8)
    _both(batch, 2, 2, *warm)
    before = resident_peak()
    begin = time.perf_counter()
    gnc1, gnc3 = _both(batch, K, d, features, labels, W)
    return Evaluated(gnc1, gnc3, time.perf_counter() - begin, resident_peak() - before)


def _both(batch: int, K: int, d: int, features: Tensor, labels: Tensor, W: Tensor) -> tuple[float, float]:
    if not batch:
        means, within = per_sample.moments(features, labels, K)
        return per_sample.gnc1(means, within), per_sample.gnc3(means, W)
    third = GNC3(K, d, centred=True)
    third.set_classifier(W)
    both = MetricCollection({"GNC1": GNC1(K, d), "GNC3": third}, compute_groups=[["GNC1", "GNC3"]])
    for h, y in zip(features.split(batch), labels.split(batch), strict=True):
        both.update(h, y)
    values = both.compute()
    return float(values["GNC1"]), float(values["GNC3"])


def in_fresh_process(batch: int, K: int, d: int, N: int) -> Evaluated:
    """`evaluate` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.metrics", "--evaluate", *map(str, (batch, K, d, N))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Evaluated(**json.loads(done.stdout.splitlines()[-1]))


def stream_table(sizes: Sequence[tuple[int, int, int]]) -> pd.DataFrame:
    """GNC1 and GNC3 of a stream of features."""
    rows = []
    for K, d, N in sizes:
        gnc1, gnc3 = exact(*stream(K, d, N))
        found = {batch: in_fresh_process(batch, K, d, N) for batch in (*BATCHES, 0)}
        for batch, result in found.items():
            rows.append(
                {
                    "way": f"softmaxcode, batches of {batch:,}" if batch else "per sample",
                    "K": str(K),
                    "d": str(d),
                    "N": f"{N:,}",
                    "s": seconds(result.seconds),
                    "s / ours": times(result.seconds / found[BATCHES[-1]].seconds),
                    "memory beyond the features, MB": f"{result.extra / 1e6:.0f}",
                    "error of GNC1": f"{abs(result.gnc1 / gnc1 - 1):.0e}",
                    "error of GNC3": f"{abs(result.gnc3 / gnc3 - 1):.0e}",
                }
            )
            print("stream " + ", ".join(rows[-1].values()), file=sys.stderr, flush=True)
    return pd.DataFrame(rows)


def trained_like(K: int, d: int, steps: int = 20) -> np.ndarray:
    """Unit rows after some Riemannian descent of a cross-entropy with h_k = w_k: their margins are nearly equal."""
    W = torch.tensor(random_classifier(K, d, 0), dtype=torch.float32)
    labels = torch.arange(K)
    for step in range(steps):
        W.requires_grad_(True)
        (gradient,) = torch.autograd.grad(spherical_cross_entropy(W, W, labels, 0.02), W)
        length = 0.2 * (1 - step / steps) / float(torch.linalg.vector_norm(gradient, dim=1).max())
        W = torch.nn.functional.normalize(W.detach() - length * gradient)
    rows = W.double().numpy()
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def margin_table(sizes: Sequence[tuple[int, int]], large: Sequence[tuple[int, int]], steps: int) -> pd.DataFrame:
    """GNC2 of random and trained-like classifiers."""
    rows = []
    smallest_margin(random_classifier(20, 5, 0))
    for K, d in (*sizes, *large):
        for kind in ("random",) if (K, d) in sizes else ("random", "trained-like"):
            W = random_classifier(K, d, 0) if kind == "random" else trained_like(K, d)
            begin = time.perf_counter()
            ours = smallest_margin(W)
            took = time.perf_counter() - begin
            row = {"classifier": kind, "K": f"{K:,}", "d": str(d), "s": seconds(took), "GNC2": f"{ours.margin:.12f}"}
            row["gap"] = f"{ours.gap:.0e}"
            if (K, d) in sizes:
                begin = time.perf_counter()
                theirs = per_sample.gnc2(torch.tensor(W, dtype=torch.float32), steps)
                took_theirs = time.perf_counter() - begin
                row["subgradient, s"] = seconds(took_theirs)
                row["subgradient, s / ours"] = times(took_theirs / took)
                row["subgradient, error"] = f"{ours.margin - theirs:.0e}"
            rows.append(row)
            print("margin " + ", ".join(row.values()), file=sys.stderr, flush=True)
    return pd.DataFrame(rows).fillna(ABSENT)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the requested tables, print and write them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.metrics", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes: a minute or two")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES), help="which tables to make")
    PAGE.add_option(parser)
    parser.add_argument("--evaluate", nargs=4, metavar=("BATCH", "K", "D", "N"), help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.evaluate:
        print(json.dumps(asdict(evaluate(*map(int, chosen.evaluate)))))
        return
    command = "python -m benchmarks.metrics" + (" --quick" if chosen.quick else "")
    parts: dict[str, pd.DataFrame | str] = {"machine": made(command)}  # before we load it ourselves
    if "stream" in chosen.tables:
        parts["stream"] = stream_table(QUICK_STREAMS if chosen.quick else STREAMS)
    if "margin" in chosen.tables:
        sizes, large = (MARGINS[:1], ()) if chosen.quick else (MARGINS, LARGE_MARGINS)
        parts["margin"] = margin_table(sizes, large, per_sample.STEPS // (10 if chosen.quick else 1))
    if "cross-entropy" in chosen.tables:
        parts |= cross_entropy.tables(chosen.quick)
    PAGE.publish(parts, chosen.write)


if __name__ == "__main__":
    main()
