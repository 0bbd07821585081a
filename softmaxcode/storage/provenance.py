"""Where a code came from, and the version that made it."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass

from softmaxcode.storage.records import Count, NonNegative


@dataclass(frozen=True)
class Provenance:
    """Where a code came from.

    Attributes
    ----------
    method : str
        The closed form's name, or what the search did.
    seed : int or None
        The seed of the search; None for a closed form or coordinates from elsewhere.
    starts, hops : int
        Random starts and basin hops made.
    seconds : float
        Wall-clock time of the call that made it.
    device : str
        "numba" for the CPU search, else the torch device of the batched search.
    version : str
        Version of softmaxcode.
    """

    method: str
    seed: Count | None = None
    starts: Count = 0
    hops: Count = 0
    seconds: NonNegative = 0.0
    device: str = "numba"
    version: str = ""


def installed_version() -> str:
    """The version of the installed package, or "unknown" in a bare source tree."""
    try:
        return importlib.metadata.version("softmaxcode")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
