"""The cases: pairs, temperatures, seeds and steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Case(NamedTuple):
    """Classes and dimension; the initial temperatures, the number of seeds for each, and the most steps."""

    K: int
    d: int
    starts: tuple[float, ...] = (0.3, 0.03)
    seeds: int = 4
    steps: int = 1500

    def __str__(self) -> str:
        return f"({self.K}, {self.d})"


class Unequal(NamedTuple):
    """Classes with different numbers of features, and fixed temperatures."""

    K: int
    d: int
    n: tuple[int, ...]
    temperatures: tuple[float, ...]


@dataclass(frozen=True)
class Plan:
    """The cases and their temperatures, those with rattlers, and those with unequal classes."""

    cases: tuple[Case, ...]
    temperatures: tuple[float, ...]
    rattling: tuple[Case, ...]
    unequal: tuple[Unequal, ...]


FULL = Plan(
    cases=(
        *(Case(*pair) for pair in ((7, 3), (10, 3), (12, 3), (13, 3), (14, 3), (24, 3), (9, 4), (13, 4))),
        *(Case(*pair) for pair in ((25, 4), (20, 5))),
        Case(100, 10, starts=(0.1,), seeds=2, steps=4000),
    ),
    temperatures=(0.2, 0.1, 0.05, 0.02, 0.01, 3e-3, 1e-3, 3e-4, 1e-4),
    rattling=(Case(20, 3, seeds=2), Case(22, 6, seeds=2)),
    unequal=(Unequal(7, 3, (1, 2, 3, 4, 5, 6, 7), (1e-2, 3e-3, 1e-3)),),
)

QUICK = Plan(
    cases=(Case(7, 3, seeds=2, steps=400), Case(12, 3, seeds=2, steps=400)),
    temperatures=(0.1, 0.03, 0.01),
    rattling=(Case(20, 3, starts=(0.1,), seeds=1, steps=300),),
    unequal=(Unequal(4, 2, (1, 1, 1, 3), (0.02,)),),
)
