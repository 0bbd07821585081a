"""`solve` on random pairs (K, d) with random budgets: time, validity and memory of every call.

Every call runs in a process of its own. K is log-uniform from 3 to 10^6, d from 2 to 1024, the budget from 1 to 60 s. A
call keeps its promise if it returns, or refuses in one sentence, within 1.1 budgets and one second.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from benchmarks.memory import resident_peak
from benchmarks.report import ABSENT, aligned, machine, seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

#: The largest number of classes and dimension, and the range of budgets in seconds.
MOST_CLASSES, MOST_DIMENSIONS = 10**6, 1024
BUDGETS = (1.0, 60.0)
#: The promise: seconds = SLOPE * budget + GRACE.
SLOPE, GRACE = 1.1, 1.0
#: Rows whose norms are checked, and rows compared with all others to check the value.
CHECKED, COMPARED = 10_000, 64


@dataclass
class Call:
    """One call and what came of it; ``message`` is the method of the code or the sentence of the refusal."""

    K: int
    d: int
    budget: float
    seconds: float = 0.0
    value: float | None = None
    peak: float = 0.0
    stated: float | None = None
    valid: bool = False
    refused: bool = False
    message: str = ""

    @property
    def kept(self) -> bool:
        """Whether the promise was kept: time, a valid code or one sentence, and memory."""
        in_time = self.seconds <= SLOPE * self.budget + GRACE
        sentence = self.refused and "\n" not in self.message and bool(self.message)
        in_memory = self.stated is None or self.peak <= self.stated
        return in_time and in_memory and (self.valid or sentence)


def draw(count: int, seed: int) -> list[Call]:
    """Random pairs and budgets.

    Examples
    --------
    >>> [(call.K, call.d) for call in draw(2, 0)] == [(call.K, call.d) for call in draw(2, 0)]
    True
    """
    rng = np.random.default_rng(seed)
    calls = []
    for _ in range(count):
        K, d, budget = np.exp(
            rng.uniform(np.log([3, 2, BUDGETS[0]]), np.log([MOST_CLASSES, MOST_DIMENSIONS, BUDGETS[1]]))
        )
        calls.append(Call(int(K), int(d), round(float(budget), 1)))
    return calls


def measured(call: Call, search: bool) -> Call:
    """Make one call in this process.

    Parameters
    ----------
    call : Call
        The pair and the budget.
    search : bool
        Start from random points alone: no catalogue and no exact family.
    """
    from softmaxcode.solver import solve

    options = {"catalog": False, "exact": False} if search else {}
    begin = time.monotonic()
    try:
        code = solve(call.K, call.d, budget=call.budget, progress=False, **options)
    except ValueError as error:
        call.seconds, call.peak = time.monotonic() - begin, resident_peak() / 1e9
        call.refused, call.message = True, str(error)
        return call
    call.seconds, call.peak = time.monotonic() - begin, resident_peak() / 1e9
    W = code.W
    rows = np.unique(np.linspace(0, len(W) - 1, CHECKED).astype(int))
    norms = np.linalg.norm(W[rows], axis=1)
    call.valid = W.shape == (call.K, call.d) and bool(np.isfinite(W[rows]).all() and abs(norms - 1).max() < 1e-9)
    C = W[rows[:: max(1, len(rows) // COMPARED)]] @ W.T
    call.value = 1 - float(np.partition(C, -2, axis=1)[:, -2].max())  # of a sample: an upper value
    call.message = code.provenance.method
    stated = re.search(r"at most ([\d.]+) GB", call.message)
    call.stated = None if stated is None else float(stated[1])
    return call


def in_process(call: Call, search: bool) -> Call:
    """Make one call in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.random_pairs", "--one", json.dumps(asdict(call))]
    ended = subprocess.run([*command, *(["--search"] if search else [])], capture_output=True, text=True, check=False)
    if ended.returncode:
        call.message = (ended.stderr.strip().splitlines() or [f"ended by signal {-ended.returncode}"])[-1]
        return call
    return Call(**json.loads(ended.stdout.splitlines()[-1]))


def table(calls: Sequence[Call]) -> pd.DataFrame:
    """One row per call, the longest overrun first."""
    ordered = sorted(calls, key=lambda call: (call.kept, call.budget * SLOPE + GRACE - call.seconds))
    return pd.DataFrame(
        {
            "K, d": [f"{call.K}, {call.d}" for call in ordered],
            "budget s": [seconds(call.budget) for call in ordered],
            "s": [seconds(call.seconds) for call in ordered],
            "kept": ["yes" if call.kept else "no" for call in ordered],
            "1 - mu": [ABSENT if call.value is None else f"{call.value:.6g}" for call in ordered],
            "peak GB": [f"{call.peak:.2f}" for call in ordered],
            "stated GB": [ABSENT if call.stated is None else f"{call.stated:.2f}" for call in ordered],
            "result": [call.message for call in ordered],
        }
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the calls and print the table; the exit code is 1 if a promise was not kept."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.random_pairs", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--calls", type=int, default=60, help="how many (by default 60)")
    parser.add_argument("--seed", type=int, default=0, help="of the pairs and budgets")
    parser.add_argument("--search", action="store_true", help="no catalogue and no exact family")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.one is not None:
        print(json.dumps(asdict(measured(Call(**json.loads(chosen.one)), chosen.search))))
        return 0
    calls = []
    for call in draw(chosen.calls, chosen.seed):
        calls.append(in_process(call, chosen.search))
        print(json.dumps(asdict(calls[-1])), file=sys.stderr, flush=True)
    kept = sum(call.kept for call in calls)
    print(f"{aligned(table(calls))}\n\n{kept} of {len(calls)} calls kept the promise\n\n{machine()}")
    return int(kept < len(calls))


if __name__ == "__main__":
    sys.exit(main())
