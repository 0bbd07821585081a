"""Calls of `softmaxcode.solve`, timed after everything is compiled."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

import softmaxcode as sc
from softmaxcode.search.energy import HARDMAX, TAMMES, minimize

if TYPE_CHECKING:
    from softmaxcode.code import SoftmaxCode

#: Calls faster than this many seconds are repeated, and their median is reported.
REPEAT_BELOW = 0.5
REPEATS = 5
#: Small searches; together with a descent on each objective they use every compiled kernel.
WARM_UPS = ((7, 3), (8, 3), (20, 6), (25, 4))


@dataclass(frozen=True)
class TimedCode:
    """A code with the seconds that `solve` took and the call as text."""

    code: SoftmaxCode
    seconds: float
    call: str

    @property
    def searched(self) -> bool:
        """Whether the code was found by search, not in closed form."""
        return "search" in self.code.provenance.method.lower()


#: Options for the search alone: neither the catalogue nor the exact families.
SEARCH: dict[str, Any] = {"catalog": False, "exact": False}


def warm_up() -> None:
    """Compile every kernel that `solve` and `margin` use."""
    for K, d in WARM_UPS:
        sc.margin(sc.solve(K, d, starts=8, progress=False, **SEARCH).W)
    for kind in (TAMMES, HARDMAX):
        minimize(kind, np.eye(6)[:, :4][:4].copy(), 10.0, 2, 1e-4)


def timed_solve(K: int, d: int, seed: int, **options: Any) -> TimedCode:
    """Solve and time it; short calls are repeated, since one reading of a few milliseconds is unreliable.

    Parameters
    ----------
    K, d : int
        Number of classes and dimension.
    seed : int
        Seed of the search.
    **options
        Options of `softmaxcode.solve`.

    Raises
    ------
    RuntimeError
        If the result did not come from a search.
    """
    times: list[float] = []
    while not times or (times[0] < REPEAT_BELOW and len(times) < REPEATS):
        begin = time.perf_counter()
        code = sc.solve(K, d, seed=seed, progress=False, **SEARCH, **options)
        times.append(time.perf_counter() - begin)
    arguments = ", ".join([f"{K}, {d}", *(f"{name}={value}" for name, value in options.items()), f"seed={seed}"])
    run = TimedCode(code, median(times), f"solve({arguments})")
    if not run.searched:
        raise RuntimeError(f"{run.call} is {code.provenance.method}, not a search")
    return run


def smallest_effort(K: int, d: int, seed: int, margin: float) -> TimedCode | None:
    """The call with the fewest starts (1, 2, 4, ... 64) whose margin exceeds ``margin``, or None."""
    for exponent in range(7):
        run = timed_solve(K, d, seed, starts=2**exponent)
        if run.code.margin > margin:
            return run
    return None
