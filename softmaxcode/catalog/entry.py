"""The record of a code in a catalogue, and the order of such records."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import msgspec

from softmaxcode.certificates.certificate import derive_certificate, lower_bounds
from softmaxcode.checks.arguments import OBJECTIVES
from softmaxcode.code import SoftmaxCode
from softmaxcode.storage.files import coordinates_hash
from softmaxcode.storage.provenance import Provenance
from softmaxcode.storage.records import Finite

#: A bound beats another if it is larger by this, which is below the resolution of float64 coordinates.
IMPROVEMENT = 1e-14
#: The statuses of a certificate, from the weakest.
STATUSES = ("feasible", "locally optimal", "matches Tammes", "optimal")


@dataclass(frozen=True)
class Entry:
    """What a catalogue stores of one (K, d) and objective, without the coordinates.

    Attributes
    ----------
    K, d : int
        Number of classes and dimension.
    objective : {"softmax", "tammes"}
        The objective that the code was chosen for.
    lower_bound : float
        Rigorous lower bound on rho (softmax) or 1 - mu (tammes) of the stored coordinates.
    margin, max_cosine : float
        rho and mu of the stored coordinates.
    status : str
        As in `Certificate`.
    provenance : Provenance
        The origin of the code.
    construction : str or None
        The name of the exact construction whose rows these are; None where coordinates are stored.
    sha256 : str
        Of the coordinates.
    verified : bool
        Whether the status was derived here or ships with the package. Otherwise it is a claim of the file.
    """

    K: Annotated[int, msgspec.Meta(ge=2)]
    d: Annotated[int, msgspec.Meta(ge=1)]
    objective: Annotated[str, msgspec.Meta(pattern=f"^({'|'.join(OBJECTIVES)})$")]
    lower_bound: Finite
    margin: Finite
    max_cosine: Finite
    status: Annotated[str, msgspec.Meta(pattern=f"^({'|'.join(STATUSES)})$")]
    provenance: Provenance
    construction: Annotated[str, msgspec.Meta(max_length=200)] | None
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    verified: bool

    @property
    def name(self) -> str:
        """The name of this entry in provenance."""
        return f"({self.K}, {self.d}) {self.objective} {self.sha256[:12]}"

    def beats(self, other: Entry | None) -> bool:
        """Whether this entry has the larger bound, or the same bound and a better status or an exact construction."""
        if other is None or self.lower_bound > other.lower_bound + IMPROVEMENT:
            return True
        if self.lower_bound < other.lower_bound - IMPROVEMENT:
            return False
        mine, theirs = ((STATUSES.index(e.status), e.construction is not None) for e in (self, other))
        return mine > theirs


def may_improve(code: SoftmaxCode, objective: str, stored: Entry | None) -> bool:
    """Whether a code may beat the stored one, so that certifying is worth the time.

    The floats are within 1e-12 of the rigorous values.
    """
    value = code.margin if objective == "softmax" else 1 - code.max_cosine
    return stored is None or value > stored.lower_bound - 1e-12


def measured(entry: Entry, code: SoftmaxCode) -> Entry:
    """The entry with values derived from its coordinates in place of claimed ones; the status remains a claim."""
    proved = lower_bounds(code)
    bound = proved.margin if entry.objective == "softmax" else proved.one_minus_cosine
    return replace(entry, lower_bound=bound, margin=code.margin, max_cosine=code.max_cosine)


def assess(code: SoftmaxCode, objective: str, construction: str | None) -> Entry:
    """The entry derived from a code's coordinates.

    The linear programme, which takes seconds per pair, is solved for codes of exact families only. No other code is
    known to meet it.
    """
    code = replace(code, objective=objective, proved=None)
    certificate = derive_certificate(code, lp=construction is not None)
    return Entry(
        K=code.K,
        d=code.d,
        objective=objective,
        lower_bound=certificate.lower_bound,
        margin=code.margin,
        max_cosine=code.max_cosine,
        status=certificate.status,
        provenance=code.provenance,
        construction=construction,
        sha256=coordinates_hash(code.W),
        verified=True,
    )
