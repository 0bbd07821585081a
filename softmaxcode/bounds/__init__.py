"""Proved bounds on 1 - mu and on the margin of any K unit vectors in R^d."""

from softmaxcode.bounds.best import MarginBounds, margin_bounds, max_cosine_lower_bound
from softmaxcode.bounds.bound import Bound
from softmaxcode.bounds.delsarte_bound import DelsarteCertificate, delsarte, delsarte_certificate
from softmaxcode.bounds.levenshtein_bound import levenshtein, levenshtein_size
from softmaxcode.bounds.simple import fejes_toth, rankin
from softmaxcode.bounds.volume_bound import VolumeBounds, volume
from softmaxcode.checks.renamed import renamed_names

__all__ = [
    "Bound",
    "DelsarteCertificate",
    "MarginBounds",
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

__getattr__ = renamed_names(__name__, {"Bracket": "MarginBounds"})
