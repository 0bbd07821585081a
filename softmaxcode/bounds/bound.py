"""A bound on mu* and how it was obtained."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Bound:
    """A lower bound on mu*(K, d).

    Attributes
    ----------
    value : float
        The bound, rounded down: the exact value of this float is at most mu*.
    method : str
        "closed form", "Rankin", "Levenshtein", "Delsarte LP", "volume", "Fejes Toth" or "literature".
    proved : bool
        Whether the value has been verified (or is a theorem of the literature, evaluated rigorously).
    source : str
        Citation, or a summary of the proof, in one line.
    exact : bool
        Whether mu* itself is known: ``value`` is then the largest float64 not above it.
    """

    value: float
    method: str
    proved: bool
    source: str
    exact: bool = False
