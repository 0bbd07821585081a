"""Proved bounds on 1 - mu and on the margin of any K unit vectors in R^d."""

from softmaxcode.bounds.best import (
    Bound,
    Bracket,
    DelsarteCertificate,
    VolumeBounds,
    delsarte,
    delsarte_certificate,
    fejes_toth,
    levenshtein,
    levenshtein_size,
    margin_bounds,
    max_cosine_lower_bound,
    rankin,
    volume,
)

__all__ = [
    "Bound",
    "Bracket",
    "DelsarteCertificate",
    "VolumeBounds",
    "delsarte",
    "delsarte_certificate",
    "fejes_toth",
    "levenshtein",
    "levenshtein_size",
    "margin_bounds",
    "max_cosine_lower_bound",
    "rankin",
    "volume",
]
