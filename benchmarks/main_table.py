"""The main table: a search from random starts for every row, compared with the two baselines."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import pandas as pd

from benchmarks import baselines
from benchmarks.baselines import SUBGRADIENT, Timed, pymanopt_packing, timed
from benchmarks.ours import TimedCode, smallest_effort, timed_solve
from benchmarks.report import ABSENT, seconds, times

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.targets import Target

#: Rows that the baselines run on by default.
SELECTION = ((12, 3), (24, 3), (14, 3), (56, 7), (120, 4), (100, 10), (200, 30))
#: Rows of the comparison of implementations.
COMPARED = ((12, 3), (24, 3), (100, 10))


@dataclass
class Options:
    """The options of the benchmark.

    Attributes
    ----------
    seeds : sequence of int
        One row of the table for each pair and seed.
    budget : float
        Seconds of search on the rows that have a budget.
    steps : int
        Steps of the subgradient method.
    baselines : {"some", "all", "none"}
        The rows that the baselines run on: `SELECTION`, all, or none.
    slow : bool
        Whether the comparison runs the PyTorch implementation, which takes minutes.
    """

    seeds: Sequence[int] = (0,)
    budget: float = 45.0
    steps: int = baselines.STEPS
    baselines: str = "some"
    slow: bool = True


@dataclass
class Row:
    """One pair and seed: our run, and the baselines where they ran."""

    target: Target
    seed: int
    run: TimedCode
    subgradient: Timed | None = None
    pymanopt: Timed | None = None

    @property
    def off(self) -> float:
        """mu minus the known mu if there is one, else the best known margin minus ours; positive is worse."""
        code, target = self.run.code, self.target
        return target.margin - code.margin if target.mu is None else code.max_cosine - target.mu

    @property
    def met(self) -> str:
        """Whether the target is met, and if not, by how much it is missed."""
        size = self.off if self.target.mu is None or not self.target.proved else abs(self.off)
        missed = []
        if size > self.target.tolerance:
            missed.append("value")
        if self.run.seconds > self.target.limit:
            missed.append("time")
        return "yes" if not missed else "no: " + " and ".join(missed)

    def beaten(self) -> bool | None:
        """Whether our margin is strictly above those of the baselines that ran; None where none did."""
        others = [other.margin for other in (self.subgradient, self.pymanopt) if other is not None]
        return all(self.run.code.margin > other for other in others) if others else None

    def cells(self) -> dict[str, str]:
        """The row as text."""
        code, provenance = self.run.code, self.run.code.provenance
        beaten = self.beaten()
        return {
            "K": str(self.target.K),
            "d": str(self.target.d),
            "seed": str(self.seed),
            "starts": str(provenance.starts),
            "hops": str(provenance.hops),
            "s": seconds(self.run.seconds),
            "margin": f"{code.margin:.14f}",
            "off best known": f"{self.off:.1e}",
            "target": self.target.wanted,
            "met": self.met,
            **_baseline_cells("subgradient", self.subgradient, self.run),
            **_baseline_cells("Pymanopt", self.pymanopt, self.run),
            "strictly better": ABSENT if beaten is None else "yes" if beaten else "no",
        }


@dataclass
class Comparison:
    """Our least effort that is strictly closer than the subgradient method, compared with its implementations."""

    pair: tuple[int, int]
    run: TimedCode | None
    best: float
    others: dict[str, Timed] = field(default_factory=dict)

    def cells(self) -> list[dict[str, str]]:
        """One row of text for each implementation."""
        K, d = self.pair
        rows = []
        for name, other in self.others.items():
            row = {"(K, d)": f"({K}, {d})", "subgradient in": name, "s": seconds(other.seconds)}
            row["below best known"] = f"{self.best - other.margin:.1e}"
            if self.run is None:
                row |= dict.fromkeys(("our call", "ours, s", "ours below best known", "ratio of times"), ABSENT)
            else:
                row |= {
                    "our call": f"`{self.run.call}`",
                    "ours, s": seconds(self.run.seconds),
                    "ours below best known": f"{self.best - self.run.code.margin:.1e}",
                    "ratio of times": times(other.seconds / self.run.seconds),
                }
            rows.append(row)
        return rows


def _baseline_cells(name: str, other: Timed | None, run: TimedCode) -> dict[str, str]:
    if other is None:
        return {f"{name}, s": ABSENT, f"{name}, margin": ABSENT, f"{name}, s / ours": ABSENT}
    return {
        f"{name}, s": seconds(other.seconds),
        f"{name}, margin": f"{other.margin:.8f}",
        f"{name}, s / ours": times(other.seconds / run.seconds),
    }


def measure_row(target: Target, seed: int, options: Options) -> Row:
    """Solve one row, then run the baselines where they are requested."""
    extra = {"budget": options.budget} if target.budget else {}
    row = Row(target, seed, timed_solve(target.K, target.d, seed, **extra))
    wanted = options.baselines == "all" or (options.baselines == "some" and target.pair in SELECTION)
    if wanted and seed == options.seeds[0]:
        row.subgradient = timed(lambda: SUBGRADIENT["numpy"](*target.pair, seed, options.steps))
        row.pymanopt = timed(lambda: pymanopt_packing(*target.pair, seed))
    return row


def measure(targets: list[Target], options: Options, finished: Callable[[list[Row]], None]) -> list[Row]:
    """Measure every row; ``finished`` is called with the rows so far after each."""
    rows: list[Row] = []
    for target in targets:
        for seed in options.seeds:
            rows.append(measure_row(target, seed, options))
            print("solve " + ", ".join(f"{k} {v}" for k, v in rows[-1].cells().items() if v != ABSENT), flush=True)
            finished(rows)
    return rows


def compare(rows: list[Row], options: Options) -> list[Comparison]:
    """Compare the implementations on the rows of `COMPARED` that the subgradient method ran on."""
    found = []
    for row in rows:
        if row.target.pair not in COMPARED or row.subgradient is None:
            continue
        comparison = Comparison(row.target.pair, None, row.target.margin, {"numpy": row.subgradient})
        for name in ("compiled", *(("torch",) if options.slow else ())):
            method = partial(SUBGRADIENT[name], *row.target.pair, row.seed, options.steps)
            comparison.others[name] = timed(method)
        closest = max(other.margin for other in comparison.others.values())
        comparison.run = smallest_effort(*row.target.pair, row.seed, closest)
        found.append(comparison)
        for cells in comparison.cells():
            print("compare " + ", ".join(f"{k} {v}" for k, v in cells.items()), flush=True)
    return found


def table(rows: list[Row]) -> pd.DataFrame:
    """The rows as a table of text."""
    return pd.DataFrame([row.cells() for row in rows])


def counts(rows: list[Row]) -> pd.DataFrame:
    """How many targets are met, and on how many rows both baselines are beaten."""
    beaten = [row.beaten() for row in rows if row.beaten() is not None]
    met = sum(row.met == "yes" for row in rows)
    return pd.DataFrame(
        [
            {
                "rows": len(rows),
                "targets met": met,
                "rows with baselines": len(beaten),
                "strictly better than both": sum(map(bool, beaten)),
            }
        ]
    )


def comparison_table(comparisons: list[Comparison]) -> pd.DataFrame:
    """The comparison of implementations as a table of text."""
    return pd.DataFrame([row for comparison in comparisons for row in comparison.cells()])
