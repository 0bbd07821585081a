"""The origin of a code, and the version that produced it."""

from __future__ import annotations

import enum
import importlib.metadata
from dataclasses import dataclass, field

from softmaxcode.storage.records import UNSTORED, Count, NonNegative


class Evidence(enum.StrEnum):
    """How hard a (K, d) was searched for the code that `softmaxcode.best_known` returns.

    Attributes
    ----------
    PROVED
        "proved": a closed form, or a packing that meets a proved bound. The certificate's status is then ``optimal`` or
        ``matches Tammes``.
    SEARCHED
        "searched": a search of this very (K, d) is stored, and the code is at least as good as its result.
    CONSTRUCTION
        "construction only": no search of this (K, d) is stored. The code is an exact construction, or it is derived
        from codes of other pairs. A search may beat it by far.

    Examples
    --------
    >>> import softmaxcode as sc
    >>> sc.best_known(12, 3).provenance.evidence is sc.Evidence.PROVED
    True
    """

    PROVED = "proved"
    SEARCHED = "searched"
    CONSTRUCTION = "construction only"


@dataclass(frozen=True)
class Provenance:
    """The origin of a code.

    Attributes
    ----------
    method : str
        The name of the closed form, or a description of the search.
    seed : int or None
        The seed of the search; None for a closed form or coordinates from elsewhere.
    starts, hops : int
        Random starts and basin hops made.
    seconds : float
        Wall-clock time of the call that produced it.
    device : str
        "numba" for the CPU search, else the torch device.
    version : str
        Version of softmaxcode.
    evidence : Evidence or None
        How hard the pair was searched, as far as the catalogues at hand know; `softmaxcode.best_known` sets it. It is
        None for other codes and in files: it is a statement on the catalogues, which no file can make.
    """

    method: str
    seed: Count | None = None
    starts: Count = 0
    hops: Count = 0
    seconds: NonNegative = 0.0
    device: str = "numba"
    version: str = ""
    evidence: Evidence | None = field(default=None, metadata=UNSTORED)


def installed_version() -> str:
    """The version of the installed package, or "unknown" in a bare source tree."""
    try:
        return importlib.metadata.version("softmaxcode")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
