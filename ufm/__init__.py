"""The unconstrained feature model: features and classifier both free on the sphere, at small temperature.

The public names, listed once; each is imported from its module on first use to keep ``import ufm`` fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ufm.asymptotics import FirstOrder, first_order
    from ufm.deep import DeepRun, simulate_deep
    from ufm.run import Run, RunComparison
    from ufm.settings import Settings
    from ufm.simulation import simulate, simulate_batch
    from ufm.sweeps import sweep

_HOME = {
    "DeepRun": "deep",
    "FirstOrder": "asymptotics",
    "Run": "run",
    "RunComparison": "run",
    "Settings": "settings",
    "first_order": "asymptotics",
    "simulate": "simulation",
    "simulate_batch": "simulation",
    "simulate_deep": "deep",
    "sweep": "sweeps",
}

__all__ = [
    "DeepRun",
    "FirstOrder",
    "Run",
    "RunComparison",
    "Settings",
    "first_order",
    "simulate",
    "simulate_batch",
    "simulate_deep",
    "sweep",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'ufm' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"ufm.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
