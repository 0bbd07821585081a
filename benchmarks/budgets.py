"""How good in how many seconds: `solve` from random starts within a budget, beside Adam on other losses."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Any

import pandas as pd

from benchmarks.adam import LOSSES
from benchmarks.cost import exponent
from benchmarks.own_process import in_own_process
from benchmarks.published import read_published
from benchmarks.report import ABSENT, Page, seconds
from softmaxcode.bounds.best import max_cosine_lower_bound
from softmaxcode.catalog import look_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Measure = Callable[[dict[str, Any], float], dict[str, Any]]

PAGE = Page("docs/large-k.md", ("budgets", "adam", "growth", "budget_machine"))
SEEDS = (0, 1, 2)
#: A published value is reached if ours is within this of it.
TOLERANCE = 1e-9
#: `solve` promises to end within this many budgets, plus seconds.
PROMISE = (1.1, 1.0)
#: The pairs of the growth table, each solved with one start.
GROWING_K = tuple((K, 32) for K in (1000, 2000, 4000, 8000, 16_000))
QUICK_GROWING_K = ((50, 8), (100, 8))
#: Random rows are measured up to this K K d, a minute of two cores.
MAX_RANDOM_WORK = 10**12
QUICK_PAIRS = ((34, 3), (43, 5))
QUICK_SECONDS = 2.0


@dataclass(frozen=True)
class Row:
    """A pair with what is wanted within how many seconds.

    Attributes
    ----------
    K, d : int
        Number of classes and dimension.
    seconds : float
        Wall-clock seconds allowed, which is also the budget.
    wanted : float or None
        1 - mu; None for the published value, or the stored one if none is published.
    memory : float or None
        Gigabytes allowed for the process.
    default : bool
        Whether the row is the default call, with the catalogue and the exact families and without a budget.
    device : str or None
        The PyTorch device of the search; None for the kernels of the CPU.
    """

    K: int
    d: int
    seconds: float
    wanted: float | None = None
    memory: float | None = None
    default: bool = False
    device: str | None = None

    @property
    def options(self) -> dict[str, Any]:
        """The options of `softmaxcode.solve`."""
        if self.default:
            return {}
        return {"budget": self.seconds, "catalog": False, "exact": False, "device": self.device}


ROWS = (
    *(Row(K, 3, 10) for K in (34, 43, 51, 70, 100)),
    *(Row(K, 3, 60) for K in (111, 121, 128)),
    *(Row(K, d, 30) for K, d in ((43, 5), (51, 8))),
    Row(100, 10, 60, 0.66913),
    Row(500, 16, 2, 0.606),
    Row(1000, 16, 5, 0.546),
    Row(2000, 32, 8, 0.687),
    Row(1000, 64, 6, 0.850),
    Row(3000, 32, 10, 0.660),
    Row(10_000, 32, 20, 0.588),
    Row(10_000, 100, 40, 0.799, memory=0.6),
    Row(20_000, 128, 70, 0.800, memory=0.8),
    Row(100_000, 64, 240, 0.650, memory=3.0),
    Row(1_000_000, 128, 60, default=True),
)


@dataclass(frozen=True)
class Options:
    """What to measure.

    That is the rows' pairs, the seeds, whether Adam runs too, seconds for every row if not its own, the pairs of the
    table of growth, and the device of the searches if it is not the CPU.
    """

    pairs: tuple[tuple[int, int], ...] | None = None
    seeds: tuple[int, ...] = SEEDS
    baselines: bool = True
    budget: float | None = None
    growing: tuple[tuple[int, int], ...] = GROWING_K
    device: str | None = None


def rows_of(options: Options) -> list[Row]:
    """The rows of the requested pairs, or all; a pair outside the table needs a budget.

    Raises
    ------
    ValueError
        If a pair is neither in the table nor has a budget.
    """
    known = {(row.K, row.d): row for row in ROWS}
    rows = []
    for K, d in known if options.pairs is None else options.pairs:
        row = known.get((K, d))
        if row is None and options.budget is None:
            raise ValueError(f"no such row: ({K}, {d}); name its seconds with --budget, or one of {sorted(known)}")
        row = Row(K, d, 0.0) if row is None else row
        if options.budget is not None:
            row = replace(row, seconds=options.budget)
        if options.device is not None:  # the exact code of a default call needs no device
            row = replace(row, device=options.device, default=False)
        rows.append(row)
    return rows


def _wanted(row: Row) -> tuple[float | None, float, str]:
    """The value to reach, how far below it counts as reached, and the cell of the table."""
    if row.wanted is not None:
        return row.wanted, 0.0, f"{row.wanted:g}"
    for one in read_published():
        if (one.K, one.d) == (row.K, row.d):
            return 1 - one.theirs, TOLERANCE, f"{1 - one.theirs:.10f} (published)"
    known = look_up(row.K, row.d, "tammes")
    return (None, 0.0, ABSENT) if known is None else (known.value, TOLERANCE, f"{known.value:.10f} (stored)")


def _timeout(row: Row) -> float:
    """Seconds after which a process is ended: its promise is broken long before."""
    return 20 * row.seconds + 600


def _job(kind: str, row: Row, seed: int, **options: Any) -> dict[str, Any]:
    return {"kind": kind, "K": row.K, "d": row.d, "seed": seed, "options": options}


def _failed(found: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The cells of a row without any measurement: why there is none."""
    absent = dict.fromkeys(("lowest", "s", "s allowed", "GB", "random", "bound", "met"), ABSENT)
    return {"1 − μ": f"none ({found[0]['how']})", **absent}


def _on_gpu(found: Sequence[dict[str, Any]]) -> str:
    """The most memory on a GPU, for the cell of the memory."""
    peak = max(one.get("gpu_bytes", 0) for one in found) / 1e9
    return f" + {peak:.2f} on the GPU" if peak else ""


def _digits(row: Row, value: float) -> str:
    """1 - mu with the digits that matter: those of a table of packings, or five."""
    return f"{value:.10f}" if row.K <= 200 else f"{value:.5f}"


def solve_cells(row: Row, seeds: Sequence[int], measure: Measure) -> tuple[dict[str, str], float | None, float]:
    """The row of the table of budgets, the median of 1 - mu, and the median of the seconds."""
    found = [measure(_job("solve", row, seed, **row.options), _timeout(row)) for seed in seeds]
    done = [one for one in found if "value" in one]
    value, tolerance, wanted = _wanted(row)
    call = "default" if row.default else f"budget={row.seconds:g}" + (f", {row.device}" if row.device else "")
    cells = {"K": f"{row.K:,}", "d": str(row.d), "call": call, "1 − μ wanted": wanted}
    if not done:
        return cells | _failed(found), None, row.seconds
    middle, took = median(one["value"] for one in done), median(one["seconds"] for one in done)
    memory = max(one["bytes"] for one in done) / 1e9
    in_time = took <= row.seconds * PROMISE[0] + PROMISE[1]
    good = len(done) == len(found) and (value is None or middle >= value - tolerance)
    met = in_time and good and (row.memory is None or memory <= row.memory)
    random = ABSENT
    if row.K * row.K * row.d <= MAX_RANDOM_WORK:
        random = f"{measure(_job('random', row, seeds[0]), _timeout(row)).get('value', math.nan):.3f}"
    return (
        cells
        | {
            "1 − μ": _digits(row, middle),
            "lowest": _digits(row, min(one["value"] for one in done)),
            "s": seconds(took),
            "s allowed": f"{row.seconds:g}",
            "GB": f"{memory:.2f}{_on_gpu(done)}" + ("" if row.memory is None else f" (of {row.memory:g})"),
            "random": random,
            "bound": f"{1 - max_cosine_lower_bound(row.K, row.d, lp=False).value:.3f}",
            "met": "yes" if met else "no",
        },
        middle,
        took,
    )


def adam_cells(row: Row, ours: float | None, took: float, seed: int, measure: Measure) -> dict[str, str]:
    """The row of the table of Adam: 1 - mu for each loss after the seconds that ours took, and the most memory."""
    found = {name: measure(_job(name, row, seed, seconds=took), _timeout(row)) for name in LOSSES}
    value = ABSENT if ours is None else f"{ours:.5f}"
    cells = {"K": f"{row.K:,}", "d": str(row.d), "s": seconds(took), "ours": value}
    for name, one in found.items():
        cells[name] = f"{one['value']:.5f}" if "value" in one else ABSENT
        cells[f"{name}, steps"] = one["how"].partition(" ")[0] if "value" in one else ABSENT
    peaks = [one["bytes"] for one in found.values() if "value" in one]
    return cells | {"Adam, GB": f"{max(peaks) / 1e9:.2f}" if peaks else ABSENT}


def growth_table(
    pairs: Iterable[tuple[int, int]], seed: int, measure: Measure, device: str | None = None
) -> pd.DataFrame:
    """Seconds and memory of one start by K, and the exponents of both in the last row."""
    rows, points = [], []
    for K, d in pairs:
        row = Row(K, d, 60.0)
        one = measure(_job("solve", row, seed, starts=1, catalog=False, exact=False, device=device), _timeout(row))
        cells = [ABSENT] * 3
        if "value" in one:
            points.append((K, one["seconds"], one["bytes"]))
            cells = [seconds(one["seconds"]), f"{one['bytes'] / 1e9:.2f}", f"{one['value']:.5f}"]
        rows.append({"K": f"{K:,}", "d": str(d), **dict(zip(("s", "GB", "1 − μ"), cells, strict=True))})
    if len(points) >= 2:
        sizes = [K for K, _, _ in points]
        slopes = [f"{exponent(sizes, [one[i] for one in points]):.2f}" for i in (1, 2)]
        rows.append({"K": "∝ K^p, p =", "d": "", "s": slopes[0], "GB": slopes[1], "1 − μ": ""})
    return pd.DataFrame(rows)


def run(options: Options, measure: Measure | None = None) -> dict[str, pd.DataFrame]:
    """Measure the rows, Adam's beside them, and the growth of the cost; a line is printed as each row finishes."""
    measure = measure or in_own_process
    budgets, adam = [], []
    for row in rows_of(options):
        cells, ours, took = solve_cells(row, options.seeds, measure)
        budgets.append(cells)
        print("budgets: " + ", ".join(f"{name} {text}" for name, text in cells.items()), flush=True)
        if options.baselines and not row.default:
            adam.append(adam_cells(row, ours, took, options.seeds[0], measure))
            print("adam: " + ", ".join(f"{name} {text}" for name, text in adam[-1].items()), flush=True)
    growth = growth_table(options.growing, options.seeds[0], measure, options.device)
    return {"budgets": pd.DataFrame(budgets), "adam": pd.DataFrame(adam), "growth": growth}
