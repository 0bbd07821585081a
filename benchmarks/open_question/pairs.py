"""The two entries of every pair of a catalogue, and the interpretation of a difference between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.open_question.search import rattlers
from softmaxcode.catalog import objective_bounds

if TYPE_CHECKING:
    from softmaxcode.catalog import Catalog, Entry


#: Margin and 1 - mu agree if they differ by at most this.
AGREEMENT = 1e-10
#: Rattlers are counted up to this many classes.
LARGEST_RATTLING = 1000


@dataclass(frozen=True)
class Pair:
    """The entries of one pair in the catalogue, for both objectives."""

    softmax: Entry
    tammes: Entry
    softmax_rattlers: int | None
    tammes_rattlers: int | None

    @property
    def difference(self) -> float:
        """The best margin minus 1 - mu of the best packing."""
        return self.softmax.margin - (1 - self.tammes.max_cosine)

    @property
    def agrees(self) -> bool:
        """Whether both values are the same to 1e-10."""
        return abs(self.difference) <= AGREEMENT

    @property
    def polished(self) -> bool:
        """Whether first-order conditions are met to 1e-10 on both sides."""
        return "feasible" not in (self.softmax.status, self.tammes.status)


class Disagreement(NamedTuple):
    """Why a pair does not agree, and the proved upper bound on 1 - mu* that a counterexample must exceed."""

    why: str
    upper: float
    method: str


def explain(pair: Pair) -> Disagreement:
    """The interpretation of a pair whose values differ by more than 1e-10.

    In a counterexample the rigorous lower bound on the margin exceeds the *proved* upper bound on 1 - mu*. That some
    given packing is worse proves nothing.
    """
    proved = objective_bounds(pair.tammes.K, pair.tammes.d, "tammes")
    if pair.softmax.lower_bound > proved.upper:
        why = "COUNTEREXAMPLE: the margin is proved to exceed 1 − μ*"
    elif pair.difference < 0:
        why = "search not finished: the margin is below that of the packing"
    elif pair.tammes.status == "feasible":
        why = "search not finished: the packing is not polished to an optimum"
    elif pair.softmax.status == "feasible":
        why = "candidate, not polished: a packing better than ours would explain it as well"
    else:
        why = "candidate, locally optimal: a packing better than ours would explain it as well"
    return Disagreement(why, proved.upper, proved.upper_method)


def read_pairs(catalog: Catalog) -> list[Pair]:
    """Every pair with entries for both objectives; rattlers only of polished codes, where they are meaningful."""
    entries = {(e.d, e.K, e.objective): e for e in catalog.entries()}
    pairs = []
    for d, K in sorted({key[:2] for key in entries}):
        both = [entries.get((d, K, objective)) for objective in ("softmax", "tammes")]
        if both[0] is not None and both[1] is not None:
            counts = [_rattler_counts(catalog, e) for e in both if e is not None]
            pairs.append(Pair(both[0], both[1], counts[0][1], counts[1][0]))
    return pairs


def _rattler_counts(catalog: Catalog, entry: Entry) -> tuple[int | None, int | None]:
    if entry.status == "feasible" or entry.K > LARGEST_RATTLING:
        return None, None
    code = catalog.code(entry.K, entry.d, entry.objective)
    assert code is not None
    tammes, softmax = rattlers(code)
    return len(tammes), len(softmax)
