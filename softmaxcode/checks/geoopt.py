"""The package geoopt, imported without the warnings that its own imports cause."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():  # geoopt uses torch.jit.script, which torch has deprecated
    warnings.simplefilter("ignore", FutureWarning)
    warnings.simplefilter("ignore", DeprecationWarning)
    import geoopt

__all__ = ["geoopt"]
