"""The units of a search: beta in units of 1 / delta, moves in units of the spacing, where delta is about 1 - mu."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

from softmaxcode.bounds.levenshtein_bound import levenshtein
from softmaxcode.bounds.simple import fejes_toth


@dataclass(frozen=True)
class Scale:
    """Settings of the search that scale with the code.

    Attributes
    ----------
    delta : float
        1 - c for a proved lower bound c on mu: Fejes Toth's for d = 3, Levenshtein's in more dimensions.
    d : int
        The dimension.
    """

    delta: float
    d: int

    #: Steps of beta in units of 1 / delta: where starts are compared, where hops are compared again, where both end,
    #: and where near ties are decided.
    SCREEN = 150.0
    SECOND = 600.0
    LAST = 2400.0
    FINE = 1.536e5

    @property
    def spacing(self) -> float:
        """The smallest distance of two points of a code of that delta."""
        return math.sqrt(2 * self.delta)

    @property
    def screen(self) -> float:
        """The beta at which starts are compared."""
        return self.SCREEN / self.delta

    @property
    def second(self) -> float:
        """The beta at which hops are compared once more."""
        return self.SECOND / self.delta

    @property
    def last(self) -> float:
        """The beta at which a start ends."""
        return self.LAST / self.delta

    @property
    def fine(self) -> float:
        """The beta to which near ties continue."""
        return self.FINE / self.delta

    @property
    def resolution(self) -> float:
        """Energies at the last beta that differ by less belong to one optimum; they converge less well for d > 3."""
        return (2e-7 if self.d == 3 else 5e-6) * self.delta

    @property
    def distinct(self) -> float:
        """How far the energies of the pool are apart; for d > 3 many variants of one optimum would fill it."""
        return self.resolution if self.d == 3 else 3e-5 * self.delta


@functools.lru_cache(maxsize=256)
def scale(K: int, d: int) -> Scale:
    """The scale of codes of K points in R^d, d >= 2.

    Examples
    --------
    >>> round(scale(12, 3).delta, 6)  # the icosahedron attains Fejes Toth's bound
    0.552786
    """
    bound = fejes_toth(K).value if d == 3 and K > 4 else levenshtein(K, d).value
    return Scale(max(1 - bound, 1e-12), d)
