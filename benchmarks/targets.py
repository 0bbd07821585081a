"""The rows of the main table: the best known value of each pair (K, d), and the target of our search with its time."""

from __future__ import annotations

import math
from dataclasses import dataclass

from softmaxcode.bounds.literature import LITERATURE

#: K, d, mu and whether mu is proved, from the public table of Tammes codes (Cohn, Sloane and Hardin, and the proofs
#: cited in `softmaxcode.bounds.best`).
TAMMES_TABLE = (
    (7, 3, 0.21013831273060309, True),
    (8, 3, 0.26120387496374144, True),
    (9, 3, 1 / 3, True),
    (10, 3, 0.40439432521625076, True),
    (11, 3, 0.4472135954999579, True),
    (13, 3, 0.5426364868296, True),
    (14, 3, 0.5639503003605, True),
    (24, 3, 0.7230784683335, True),
    (9, 4, 0.1620151996116, False),
    (10, 4, 1 / 6, True),
    (24, 4, 0.5, True),
    (50, 3, 0.8681732091269, False),
)

#: K, d, the target margin and the best known margin, from a prototype's searches of 20 s and 340 s.
LARGE = (
    (100, 10, 0.6680, 0.669010),
    (100, 20, 0.848350, 0.848350),
    (100, 30, 0.914673, 0.914673),
    (200, 10, 0.546161, 0.546161),
    (200, 20, 0.768740, 0.768740),
    (200, 30, 0.851272, 0.851272),
)


@dataclass(frozen=True)
class Target:
    """One row of the main table.

    Attributes
    ----------
    K, d : int
        Number of classes and dimension.
    margin : float
        The best known margin; 1 - mu where mu is known.
    tolerance : float
        How far below ``margin`` the result may be; for known mu, how far mu may be off.
    limit : float
        Seconds allowed.
    mu : float or None
        The largest cosine of the best known code, if a table gives it to full precision.
    proved : bool
        Whether ``mu`` is proved to be optimal.
    budget : bool
        Whether the row has a budget of seconds; the others are the default call, which ends by count.
    """

    K: int
    d: int
    margin: float
    tolerance: float
    limit: float
    mu: float | None = None
    proved: bool = False
    budget: bool = False

    @property
    def pair(self) -> tuple[int, int]:
        """(K, d)."""
        return self.K, self.d

    @property
    def wanted(self) -> str:
        """The target as text."""
        within = f"{self.tolerance:.0e}".replace("e-0", "e-")
        value = f"margin ≥ {self.margin - self.tolerance:.6f}" if self.mu is None else f"μ within {within}"
        return f"{value}, {self.limit:g} s"


def _known(K: int, d: int, mu: float, tolerance: float, limit: float, proved: bool = True) -> Target:
    """A row with a known mu; the literature's value in full precision replaces a printed one."""
    if (K, d) in LITERATURE:
        mu = LITERATURE[K, d].value
    return Target(K, d, 1 - mu, tolerance, limit, mu, proved)


def all_targets() -> list[Target]:
    """Every row, in the order of the table."""
    snub_cube = next(mu for K, d, mu, _ in TAMMES_TABLE if (K, d) == (24, 3))
    rows = [
        _known(12, 3, 1 / math.sqrt(5), 1e-14, 1),
        _known(24, 3, snub_cube, 1e-14, 1),
        _known(16, 5, 1 / 5, 1e-14, 1),
        _known(27, 6, 1 / 4, 1e-14, 1),
        _known(56, 7, 1 / 3, 1e-14, 1),
        _known(120, 4, (1 + math.sqrt(5)) / 4, 1e-13, 10),
        _known(240, 8, 1 / 2, 1e-13, 10),
    ]
    done = {row.pair for row in rows}
    for K, d, mu, proved in TAMMES_TABLE:
        if (K, d) not in done:  # (24, 3) is already a row, with a harder target
            rows.append(_known(K, d, mu, 1e-9 if proved else 1e-7, 10, proved))
    rows += [Target(K, d, best, best - wanted, 60, budget=True) for K, d, wanted, best in LARGE]
    return rows


def select(pairs: list[tuple[int, int]] | None) -> list[Target]:
    """The rows of the given pairs, or all.

    Raises
    ------
    ValueError
        If a pair is not in the table.
    """
    rows = all_targets()
    if pairs is None:
        return rows
    known = {row.pair: row for row in rows}
    missing = [pair for pair in pairs if pair not in known]
    if missing:
        raise ValueError(f"no such row: {missing}; the rows are {sorted(known)}")
    return [known[pair] for pair in pairs]
