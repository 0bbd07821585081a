"""Growth of the cost of one start with K and with d."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from benchmarks.report import seconds
from softmaxcode.plotting.style import new_figure, save
from softmaxcode.search.energy import HARDMAX, TAMMES
from softmaxcode.search.multistart import first_beta, optimise, random_start

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

KINDS = {"Tammes": TAMMES, "HardMax": HARDMAX}
#: Fixed d with growing K, and fixed K with growing d.
GROWING_K = [(K, 10) for K in (25, 50, 100, 200, 400)]
GROWING_D = [(100, d) for d in (5, 10, 20, 40)]

#: Seconds per start by kind and pair.
StartCosts = dict[tuple[str, int, int], float]


def seconds_per_start(kind: int, K: int, d: int, seeds: Sequence[int]) -> float:
    """Mean seconds of one start on one thread; the first values of beta are the same draws at every size."""
    starts = [random_start(kind, K, d, np.random.SeedSequence(seed))[0] for seed in seeds]
    betas = [first_beta(np.random.default_rng(seed)) for seed in seeds]
    with threadpool_limits(1, "blas"):
        begin = time.perf_counter()
        for X, beta in zip(starts, betas, strict=True):
            optimise(kind, X, beta)
    return (time.perf_counter() - begin) / len(seeds)


def exponent(sizes: Sequence[int], values: Sequence[float]) -> float:
    """The least-squares slope of log value against log size."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def measure(seeds: Sequence[int], quick: bool) -> StartCosts:
    """Time every pair; ``quick`` omits the largest of each series."""
    pairs = GROWING_K[:-2] + GROWING_D[:-1] if quick else GROWING_K + GROWING_D
    measured: StartCosts = {}
    for K, d in dict.fromkeys(pairs):
        for name, kind in KINDS.items():
            measured[name, K, d] = seconds_per_start(kind, K, d, seeds)
            print(f"cost ({K}, {d}) {name}: {measured[name, K, d]:.4f} s per start", flush=True)
    return measured


def _series(measured: StartCosts, name: str, pairs: list[tuple[int, int]]) -> list[tuple[int, int, float]]:
    return [(K, d, measured[name, K, d]) for K, d in pairs if (name, K, d) in measured]


def _exponents(measured: StartCosts) -> dict[tuple[str, str], float]:
    fitted = {}
    for name in KINDS:
        by_K, by_d = _series(measured, name, GROWING_K), _series(measured, name, GROWING_D)
        fitted[name, "K"] = exponent([K for K, _, _ in by_K], [s for _, _, s in by_K])
        fitted[name, "d"] = exponent([d for _, d, _ in by_d], [s for _, _, s in by_d])
    return fitted


def table(measured: StartCosts) -> pd.DataFrame:
    """Seconds per start by pair, and the fitted exponents in the last two rows."""
    rows = []
    for _, K, d in dict.fromkeys(("", K, d) for _, K, d in measured):
        row = {"K": str(K), "d": str(d)}
        row.update({f"{name}, s per start": seconds(measured[name, K, d]) for name in KINDS})
        rows.append(row)
    fitted = _exponents(measured)
    for symbol, label in (("K", ("∝ K^p, p =", "10")), ("d", ("100", "∝ d^p, p ="))):
        row = dict(zip(("K", "d"), label, strict=True))
        row.update({f"{name}, s per start": f"{fitted[name, symbol]:.2f}" for name in KINDS})
        rows.append(row)
    return pd.DataFrame(rows)


def draw(measured: StartCosts, path: Path) -> None:
    """Draw the two series as a log-log figure, written atomically."""
    from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

    fitted = _exponents(measured)
    figure = new_figure((8.5, 3.6), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    panels = ((axes[0], "K", GROWING_K, "classes K, at d = 10"), (axes[1], "d", GROWING_D, "dimension d, at K = 100"))
    for ax, symbol, pairs, label in panels:
        for (name, marker), colour in zip((("Tammes", "o"), ("HardMax", "s")), ("C0", "C1"), strict=True):
            series = _series(measured, name, pairs)
            x = np.array([K if symbol == "K" else d for K, d, _ in series], dtype=float)
            y = np.array([s for _, _, s in series])
            p = fitted[name, symbol]
            ax.loglog(x, y, marker, color=colour, label=f"{name}: $\\propto {symbol}^{{{p:.2f}}}$")
            ax.loglog(x, np.exp(np.mean(np.log(y)) + p * (np.log(x) - np.mean(np.log(x)))), color=colour, lw=1)
        ax.xaxis.set_major_locator(FixedLocator(list(x)))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter(ScalarFormatter())
        ax.set_xlabel(label)
        ax.grid(alpha=0.3)
        ax.legend(frameon=False)
    axes[0].set_ylabel("seconds per start, one thread")
    path.parent.mkdir(parents=True, exist_ok=True)
    save(figure, path)


def run(quick: bool, seed: int, figure: Path | None) -> pd.DataFrame:
    """Measure from eight seeds on, or with ``quick`` two and the smaller sizes only; draw where a path is given."""
    measured = measure(range(seed, seed + (2 if quick else 8)), quick)
    if figure is not None:
        draw(measured, figure)
    return table(measured)
