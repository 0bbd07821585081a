"""Softmax Codes and Tammes packings, with certificates.

The public names, listed once; each is imported from its module on first use, so that ``import softmaxcode`` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from softmaxcode.bounds import margin_bounds, max_cosine_lower_bound
    from softmaxcode.catalog import Catalog, CatalogError, NotHeldError, best_known
    from softmaxcode.certificate import Certificate, certify
    from softmaxcode.code import NotComputed, Provenance, SoftmaxCode
    from softmaxcode.digits import NotRegular, ProvedValue
    from softmaxcode.files import load
    from softmaxcode.landscape import plot_landscape
    from softmaxcode.margins import Margins, margin
    from softmaxcode.plots import plot
    from softmaxcode.sampled_margins import SampledMargin, sampled_margin
    from softmaxcode.solver import solve
    from softmaxcode.tables import table

_HOME = {
    "Catalog": "catalog",
    "CatalogError": "catalog",
    "Certificate": "certificate",
    "Margins": "margins",
    "NotComputed": "code",
    "NotHeldError": "catalog",
    "NotRegular": "digits",
    "ProvedValue": "digits",
    "Provenance": "code",
    "SampledMargin": "sampled_margins",
    "SoftmaxCode": "code",
    "best_known": "catalog",
    "certify": "certificate",
    "load": "files",
    "margin": "margins",
    "margin_bounds": "bounds",
    "max_cosine_lower_bound": "bounds",
    "plot": "plots",
    "plot_landscape": "landscape",
    "sampled_margin": "sampled_margins",
    "solve": "solver",
    "table": "tables",
}

__all__ = [
    "Catalog",
    "CatalogError",
    "Certificate",
    "Margins",
    "NotComputed",
    "NotHeldError",
    "NotRegular",
    "ProvedValue",
    "Provenance",
    "SampledMargin",
    "SoftmaxCode",
    "best_known",
    "certify",
    "load",
    "margin",
    "margin_bounds",
    "max_cosine_lower_bound",
    "plot",
    "plot_landscape",
    "sampled_margin",
    "solve",
    "table",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from softmaxcode.code import installed_version

        return installed_version()
    if name not in _HOME:
        raise AttributeError(f"module 'softmaxcode' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"softmaxcode.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
