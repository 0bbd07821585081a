"""The package geoopt, imported without the warnings of its own imports."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():  # geoopt uses torch.jit.script, which torch has deprecated
    warnings.simplefilter("ignore", FutureWarning)
    warnings.simplefilter("ignore", DeprecationWarning)
    import geoopt

__all__ = ["geoopt"]
