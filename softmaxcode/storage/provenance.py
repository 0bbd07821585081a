"""The origin of a code, and the version that produced it."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass

from softmaxcode.storage.records import Count, NonNegative


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
