"""Softmax Codes and Tammes packings, with certificates.

The public names, listed once; each is imported from its module on first use to keep ``import softmaxcode`` fast.
"""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING, Any

from softmaxcode.moved import redirect

if TYPE_CHECKING:
    from softmaxcode.bounds.best import margin_bounds, max_cosine_lower_bound
    from softmaxcode.catalog import Catalog, CatalogError, UnknownCodeError, best_known
    from softmaxcode.certificates.certificate import Certificate
    from softmaxcode.certificates.proof import NotRegular, ProvedValue
    from softmaxcode.checks.limits import NotComputed
    from softmaxcode.code import SoftmaxCode, certify, load
    from softmaxcode.diagnosis import Diagnosis, diagnose
    from softmaxcode.margins.exact import Margins, margin
    from softmaxcode.margins.sampled import SampledMargin, sampled_margin
    from softmaxcode.plotting.landscape import plot_landscape
    from softmaxcode.plotting.picture import plot
    from softmaxcode.search.interrupted import SearchInterrupted
    from softmaxcode.solver import solve
    from softmaxcode.storage.provenance import Evidence, Provenance
    from softmaxcode.tables import table

_HOME = {
    "Catalog": "catalog",
    "CatalogError": "catalog",
    "Diagnosis": "diagnosis",
    "Certificate": "certificates.certificate",
    "Evidence": "storage.provenance",
    "Margins": "margins.exact",
    "NotComputed": "checks.limits",
    "UnknownCodeError": "catalog",
    "NotRegular": "certificates.proof",
    "ProvedValue": "certificates.proof",
    "Provenance": "storage.provenance",
    "SampledMargin": "margins.sampled",
    "SearchInterrupted": "search.interrupted",
    "SoftmaxCode": "code",
    "best_known": "catalog",
    "certify": "code",
    "diagnose": "diagnosis",
    "load": "code",
    "margin": "margins.exact",
    "margin_bounds": "bounds.best",
    "max_cosine_lower_bound": "bounds.best",
    "plot": "plotting.picture",
    "plot_landscape": "plotting.landscape",
    "sampled_margin": "margins.sampled",
    "solve": "solver",
    "table": "tables",
}

__all__ = [
    "Catalog",
    "CatalogError",
    "Certificate",
    "Diagnosis",
    "Evidence",
    "Margins",
    "NotComputed",
    "NotRegular",
    "ProvedValue",
    "Provenance",
    "SampledMargin",
    "SearchInterrupted",
    "SoftmaxCode",
    "UnknownCodeError",
    "best_known",
    "certify",
    "diagnose",
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
        from softmaxcode.storage.provenance import installed_version

        return installed_version()
    if name == "NotHeldError":
        warnings.warn("softmaxcode.NotHeldError is now softmaxcode.UnknownCodeError", DeprecationWarning, stacklevel=2)
        name = "UnknownCodeError"
    if name not in _HOME:
        raise AttributeError(f"module 'softmaxcode' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"softmaxcode.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])


redirect()
